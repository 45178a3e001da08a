//! What a world drives.

use super::*;
use ironseed_core::types::{ChunkId, Location};

/// What the world drives: a [`Node`], or a toy in the world's own tests.
pub trait Machine {
    /// A machine that has not been booted yet.
    fn new(config: Config) -> Self;
    /// Feeds one input; appends what must happen.
    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>);
    /// When it wants a timer.
    fn deadline(&self) -> Option<Instant>;
    /// The applied position of a group here and the digest of its state, if it has a sound one.
    fn state_of(&self, _group: GroupId) -> Option<(Position, u128)> {
        None
    }
    /// A group's table here, if there is a sound one.
    fn table_of(&self, _group: GroupId) -> Option<&Table> {
        None
    }
    /// The blobs of which there are chunks here.
    fn held_blobs(&self) -> Vec<BlobId> {
        Vec::new()
    }
    /// Every chunk here, damaged ones too, and where.
    fn held_chunks(&self) -> Vec<(ChunkId, Location)> {
        Vec::new()
    }
    /// Whether a group's log here has this very entry or begins after it, if there is one.
    fn holds_entry(&self, _group: GroupId, _position: Position) -> Option<bool> {
        None
    }
    /// What it tells operators, if it tells them anything.
    fn status(&self) -> Option<Status> {
        None
    }
}

impl Machine for Node {
    fn new(config: Config) -> Self {
        Self::new(config)
    }

    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        Self::step(self, now, input, effects);
    }

    fn deadline(&self) -> Option<Instant> {
        Self::deadline(self)
    }

    fn state_of(&self, group: GroupId) -> Option<(Position, u128)> {
        Self::state_of(self, group)
    }

    fn table_of(&self, group: GroupId) -> Option<&Table> {
        Self::table_of(self, group)
    }

    fn held_blobs(&self) -> Vec<BlobId> {
        Self::held_blobs(self)
    }

    fn held_chunks(&self) -> Vec<(ChunkId, Location)> {
        Self::held_chunks(self)
    }

    fn holds_entry(&self, group: GroupId, position: Position) -> Option<bool> {
        Self::holds_entry(self, group, position)
    }

    fn status(&self) -> Option<Status> {
        Some(Self::status(self))
    }
}
