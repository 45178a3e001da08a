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

    /// How far the node has come. Cheap: drivers ask after every step.
    #[must_use]
    pub const fn phase(&self) -> status::Phase {
        status::Phase::Booting
    }

    /// Id and root credentials of the node's cluster, once its store durably belongs to one. Cheap.
    #[must_use]
    pub const fn founding(&self) -> Option<&api::Founding> {
        None
    }

    /// The node's settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
}
