//! The machine: one replica of one group.

use super::api::{Config, Configuration, HardState, Input, Output, Restored, Status};
use super::message::Entry;
use crate::machine::Instant;
use crate::rng::Rng;
use crate::types::{Index, Position};
use alloc::vec::Vec;

/// One replica of one group.
#[derive(Clone, Debug)]
pub struct Group {}

impl Group {
    /// A replica as it was found on disk. It is awake: call [`Self::deadline`].
    pub fn new(_config: Config, _restored: Restored, _now: Instant, _rng: Rng) -> Self {
        Self {}
    }
    /// Feeds one input; appends what must happen to `out`.
    pub fn step(&mut self, _now: Instant, _input: Input, _out: &mut Vec<Output>) {}
    /// Feeds several inputs as one step: one persist, one append per follower.
    pub fn step_all(
        &mut self,
        _now: Instant,
        _inputs: impl IntoIterator<Item = Input>,
        _out: &mut Vec<Output>,
    ) {
    }
    /// When it wants [`Input::Timer`]; `None` while it is quiet.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }
    /// At most `count` entries from `from` on, for apply.
    pub fn entries(&self, _from: Index, _count: usize) -> impl Iterator<Item = &Entry> {
        core::iter::empty()
    }
    /// Whether a state at `position` would help this replica.
    pub fn wants_snapshot(&self, _position: Position) -> bool {
        false
    }
    /// What is or will be on disk after the last persist.
    pub fn hard_state(&self) -> HardState {
        HardState::default()
    }
    /// The configuration as of `index`, which is at or after compaction.
    pub fn configuration_at(&self, _index: Index) -> Configuration {
        Configuration::default()
    }
    /// A replica at a glance.
    pub fn status(&self) -> Status {
        unreachable!()
    }
    /// The term of the entry at `index`.
    pub fn position_at(&self, _index: Index) -> Option<Position> {
        None
    }
    /// Bytes of the log in memory.
    pub fn log_bytes(&self) -> u64 {
        0
    }
}
