//! Giving space back: blobs are dropped, sparse segments compacted and empty ones removed, slice by slice.

use super::ChunkOutput;
use super::store::{ChunkStore, Purpose, chunks_of};
use crate::machine::{Instant, OpIds, first_of};
use crate::types::{BlobId, ChunkId};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Segments that one pass over the index empties. A pass costs a walk over the index, so it is shared; but
/// the longer it is, the later space comes back.
const VICTIMS_MAX: usize = 8;

/// One walk over the index that moves every chunk out of a few segments.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    victims: BTreeSet<u64>,
    /// The last chunk looked at.
    cursor: Option<ChunkId>,
    is_through: bool,
}

impl ChunkStore {
    /// Forgets all chunks of a blob, in slices. They are gone at once for [`Self::has`] and [`Self::get`].
    pub fn drop_blob(&mut self, blob: BlobId) {
        self.dropping.insert(blob);
        let pending: Vec<ChunkId> =
            self.pending_of.range(chunks_of(blob)).map(|(chunk, _)| *chunk).collect();
        for chunk in pending {
            let lsn = self.pending_of.remove(&chunk);
            if let Some(pending) = lsn.and_then(|lsn| self.pending.get_mut(&lsn)) {
                pending.is_dropped = true;
            }
        }
    }

    /// When [`Self::pump`] is to be called if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.log.has_failed() {
            return None;
        }
        let background = if !self.dropping.is_empty() || self.wants_move() {
            Some(self.now)
        } else if self.pass.is_none() && self.live.has_sparse() {
            Some(self.rest_until.max(self.now))
        } else {
            None
        };
        first_of([background, self.log.deadline()])
    }

    fn wants_move(&self) -> bool {
        self.moves < self.config.moves_max
            && self.pass.as_ref().is_some_and(|pass| !pass.is_through)
    }

    /// A slice of everything that gives space back.
    pub(super) fn collect(&mut self, ops: &mut OpIds, out: &mut Vec<ChunkOutput>) {
        if self.log.has_failed() {
            return;
        }
        self.drop_slice();
        self.compact_slice(ops, out);
        for segment in self.live.take_removable(self.log.current_segment()) {
            self.log.remove_segment(segment);
        }
    }

    fn drop_slice(&mut self) {
        let Some(blob) = self.dropping.first().copied() else { return };
        let limit = self.config.slice_items;
        let chunks: Vec<ChunkId> =
            self.index.range(chunks_of(blob)).take(limit).map(|(chunk, _)| *chunk).collect();
        let missing: Vec<ChunkId> =
            self.missing.range(chunks_of(blob)).take(limit).map(|(chunk, _)| *chunk).collect();
        if chunks.len() < limit && missing.len() < limit {
            self.dropping.remove(&blob);
        }
        for chunk in missing {
            self.missing.remove(&chunk);
        }
        for chunk in chunks {
            if let Some(location) = self.index.remove(&chunk) {
                self.release(location);
            }
        }
    }

    fn compact_slice(&mut self, ops: &mut OpIds, out: &mut Vec<ChunkOutput>) {
        if self.pass.is_none() {
            // The moves of the last pass have emptied its segments before the next one begins.
            if self.moves > 0 || !self.live.has_sparse() || self.now < self.rest_until {
                return;
            }
            let victims = self.live.take_sparse(VICTIMS_MAX);
            self.pass = Some(Pass { victims, cursor: None, is_through: false });
        }
        if self.wants_move() {
            self.find_move(ops, out);
        }
        if self.pass.as_ref().is_some_and(|pass| pass.is_through) && self.moves == 0 {
            self.pass = None;
        }
    }

    /// Looks at one slice of the index for a chunk to move.
    fn find_move(&mut self, ops: &mut OpIds, out: &mut Vec<ChunkOutput>) {
        use core::ops::Bound::{Excluded, Unbounded};
        let Some(pass) = &mut self.pass else { return };
        let from = pass.cursor.map_or(Unbounded, Excluded);
        let slice = self.index.range((from, Unbounded)).take(self.config.slice_items);
        let mut looked_at = 0;
        let mut found = None;
        for (chunk, location) in slice {
            looked_at += 1;
            pass.cursor = Some(*chunk);
            // A damaged chunk is replaced by its peers, which moves it too.
            if pass.victims.contains(&location.segment) && !self.missing.contains_key(chunk) {
                found = Some((*chunk, *location));
                break;
            }
        }
        pass.is_through = found.is_none() && looked_at < self.config.slice_items;
        if let Some((chunk, location)) = found {
            self.moves += 1;
            self.start_read(chunk, location, Purpose::Move, ops, out);
        }
    }

    /// The disk is full: moving needs space before it gives any.
    pub(super) fn rest(&mut self) {
        self.rest_until = self.now + self.config.rest_after_no_space;
        if let Some(pass) = self.pass.take() {
            for segment in pass.victims {
                self.judge(segment);
            }
        }
    }
}
