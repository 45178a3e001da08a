//! Verifying chunks that nobody asks for: what is damaged is found while others still have it.

use super::ChunkOutput;
use super::store::{ChunkStore, Purpose};
use crate::machine::OpIds;
use crate::types::ChunkId;
use alloc::vec::Vec;

impl ChunkStore {
    /// The first chunk behind `after`, in the order of their names, and how many bytes it has.
    #[must_use]
    pub fn next_chunk(&self, after: Option<ChunkId>) -> Option<(ChunkId, u32)> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let (chunk, location) = self.index.range((from, Unbounded)).next()?;
        Some((*chunk, location.bytes))
    }

    /// Reads a chunk and compares it with its name; [`ChunkOutput::Verified`] says how that ended. A chunk known to be damaged
    /// is tried again. `false`: it isn't here, or is being dropped, and nothing follows.
    pub fn verify(&mut self, chunk: ChunkId, ops: &mut OpIds, out: &mut Vec<ChunkOutput>) -> bool {
        if self.dropping.contains(&chunk.blob) {
            return false;
        }
        let Some(location) = self.index.get(&chunk).copied() else { return false };
        self.start_read(chunk, location, Purpose::Verify, ops, out);
        true
    }
}
