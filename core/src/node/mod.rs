//! Composes one node's machines behind one `step`.

pub mod api;
pub mod message;
pub mod status;
pub mod trace;

use crate::machine::{Instant, Now};
use alloc::vec::Vec;
use api::{Config, Effect, Input};

/// One node: everything it decides.
#[derive(Clone, Debug)]
pub struct Node {
    config: Config,
}

impl Node {
    /// A node that has not been booted yet: [`Input::Boot`] comes first.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Feeds one input; appends what must happen to `effects`.
    pub fn step(&mut self, _now: Now, _input: Input, _effects: &mut Vec<Effect>) {}

    /// When the node wants [`Input::Timer`], if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// What the node knows of itself, for operators. Work proportional to its groups.
    #[must_use]
    pub fn status(&self) -> status::Status {
        status::Status {
            node: self.config.me,
            nodes: self.config.nodes.clone(),
            ..status::Status::default()
        }
    }

    /// The secret key of this access key, once the node knows its cluster's credentials.
    #[must_use]
    pub fn secret_of(&self, _access_key: &str) -> Option<&str> {
        None
    }

    /// The node's settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
}
