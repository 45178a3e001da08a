//! Composes one node's machines behind one `step`.

pub mod api;
pub mod message;
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

    /// The node's settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
}
