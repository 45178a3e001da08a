//! Snapshots: how the state of a group travels to a replica that is too far behind for the log.
//!
//! [`Export`] is a clone of the table, so it stands still while the group goes on. It keeps no cursor:
//! each slice is asked for by the last key that the receiver has, so a repeated or late request does
//! no harm. Bodies that are only in the table log are read for each slice; whoever holds an export keeps
//! the table log's segments from [`Export::oldest_segment`] on.
//!
//! [`Import`] takes the slices in order, writes each to its own table log as it comes, and at the end
//! compares the digest before the new state takes the old one's place. Until then, also over a
//! restart, the old state is the one that counts.

use super::batch::{Change, Seat};
use super::cow::Key;
use super::frame::{Content, Frame, FrameError, Place, Placed, RecordHead, Records};
use super::state::State;
use super::table::{Body, RecordLocation, Slot, Table};
use crate::codec::Octets;
use crate::types::{Position, Timestamp, Version};
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;
use core::ops::Bound;

/// How far a state has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Mark {
    /// The last entry applied.
    pub position: Position,
    /// The latest commit timestamp given out.
    pub committed: Timestamp,
}

/// What a receiver must know before the first slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SnapshotHead {
    /// The state that the snapshot is of.
    pub mark: Mark,
    /// The table's digest.
    pub digest: u128,
    /// How many records.
    pub records: u64,
}

/// A record on its way.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SnapshotRecord {
    /// Its key.
    pub key: Octets,
    /// Log index of the command that wrote it.
    pub version: Version,
    /// Commit timestamp of that command.
    pub committed: Timestamp,
    /// Its head.
    pub head: Octets,
    /// Its body.
    pub body: Octets,
}

/// The state of a group at one moment, being streamed to others.
#[derive(Clone, Debug)]
pub struct Export {
    table: Table,
    mark: Mark,
}

/// A record of a slice whose body may still have to be read.
#[derive(Clone, Debug)]
pub struct Exported {
    key: Key,
    slot: Slot,
}

impl Export {
    pub(super) const fn new(table: Table, mark: Mark) -> Self {
        Self { table, mark }
    }

    /// What the receiver must know first.
    #[must_use]
    pub const fn head(&self) -> SnapshotHead {
        let records = self.table.len() as u64;
        SnapshotHead { mark: self.mark, digest: self.table.digest(), records }
    }

    /// The oldest segment of the table log that a slice may need.
    #[must_use]
    pub fn oldest_segment(&self) -> Option<u64> {
        self.table.oldest_segment()
    }

    /// Records after the key `after`: at most `records_max`, and no more once they have `bytes_max`
    /// bytes. None when there are none left.
    #[must_use]
    pub fn slice(&self, after: Option<&[u8]>, records_max: usize, bytes_max: u64) -> Vec<Exported> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut slice = Vec::new();
        let mut bytes = 0;
        for (key, slot) in self.table.scan(&[], from).take(records_max) {
            if bytes >= bytes_max {
                break;
            }
            bytes += (key.len() + slot.head.len()) as u64 + u64::from(slot.body.len());
            slice.push(Exported { key: Key::from(key), slot: slot.clone() });
        }
        slice
    }

    /// Takes the export apart in slices; see [`super::cow::Rubble`].
    #[must_use]
    pub fn into_rubble(self) -> super::cow::Rubble<Slot> {
        self.table.into_rubble()
    }
}

impl Exported {
    /// What has to be read before [`Self::finish`].
    #[must_use]
    pub fn location(&self) -> Option<RecordLocation> {
        self.slot.body.bytes().err()
    }

    /// The record, with the bytes that were read for it if it needed them; `None` if they are missing
    /// or not what was written.
    #[must_use]
    pub fn finish(self, read: Option<Bytes>) -> Option<SnapshotRecord> {
        let body = match self.slot.body.bytes() {
            Ok(body) => body,
            Err(location) => read.filter(|bytes| location.verify(bytes))?,
        };
        let Slot { version, committed, head, .. } = self.slot;
        let (key, head) = (self.key.to_vec().into(), head.to_vec().into());
        Some(SnapshotRecord { key, version, committed, head, body: body.into() })
    }
}

/// A state being received.
#[derive(Clone, Debug)]
pub struct Import {
    seat: Seat,
    head: SnapshotHead,
    generation: u64,
    frames: u64,
    table: Table,
    last: Option<Key>,
    /// The segment of the first frame, once that is written.
    begun: Option<u64>,
}

impl Import {
    /// Begins to receive the state of `head` for the place of the state that has [`State::seat`] and
    /// [`State::next_generation`]. The frame goes to the table log first.
    #[must_use]
    pub fn begin(seat: Seat, generation: u64, head: SnapshotHead) -> (Self, Frame) {
        let table = Table::default();
        let mut import = Self { seat, head, generation, frames: 0, table, last: None, begun: None };
        let frame = import.frame(Records::default(), |_| Content::Begin);
        (import, frame)
    }

    /// What is being received.
    #[must_use]
    pub const fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// The generation that the state will have.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The last key received: what the next slice is asked for by.
    #[must_use]
    pub fn last(&self) -> Option<&[u8]> {
        self.last.as_deref()
    }

    /// Takes the slice that follows the key `after`; the frame goes to the table log. `None` for a slice
    /// that does not follow, which is ignored.
    pub fn add(&mut self, after: Option<&[u8]>, records: Vec<SnapshotRecord>) -> Option<Frame> {
        let mut last = self.last.as_deref();
        if after != last {
            return None;
        }
        for record in &records {
            if last.is_some_and(|last| last >= &*record.key) {
                return None;
            }
            last = Some(&record.key);
        }
        let mut frame = Records::default();
        for SnapshotRecord { key, version, committed, head, body } in records {
            let key = Key::from(&*key);
            let slot = Slot { version, committed, head: (&*head).into(), body: Body::new(body.0) };
            frame.push(&Change { key: key.clone(), slot: Some(slot.clone()) });
            self.table.set(&key, Some(slot));
            self.last = Some(key);
        }
        Some(self.frame(frame, |records| Content::Part { records }))
    }

    /// Notes that a frame of this import has been written at `start`.
    pub fn settle(&mut self, placed: &Placed, start: Place) {
        if placed.generation == self.generation {
            self.begun.get_or_insert(start.segment);
            settle(&mut self.table, placed, start);
        }
    }

    /// Whether the oldest segment of the table log must stay for this import: its frames are only
    /// rewritten as a state.
    #[must_use]
    pub fn needs(&self, segment: u64) -> bool {
        self.begun.is_none_or(|begun| begun <= segment)
    }

    /// Completes the import once a slice came empty. The state counts when the frame is durable.
    ///
    /// # Errors
    /// When what was received is not what was announced: the import is to be begun anew.
    pub fn finish(mut self) -> Result<(State, Frame), FrameError> {
        let digest = self.head.digest;
        if self.table.digest() != digest || self.table.len() as u64 != self.head.records {
            return Err(FrameError::Digest);
        }
        let frame = self.frame(Records::default(), |_| Content::End { digest });
        let Self { seat, head, generation, frames, table, .. } = self;
        let state = State::restored(seat, table, head.mark, generation, frames)?;
        Ok((state.with_end_unwritten(), frame))
    }

    fn frame(
        &mut self,
        records: Records,
        content: impl FnOnce(Vec<RecordHead<'static>>) -> Content<'static>,
    ) -> Frame {
        let sum = self.table.sum();
        let frame = records.frame(self.generation, self.frames, self.head.mark, sum, content);
        self.frames += 1;
        frame
    }
}

/// Notes in the table where a written frame's records are.
pub(super) fn settle(table: &mut Table, placed: &Placed, start: Place) {
    for record in &placed.records {
        table.relocate(&record.key, record.version, record.at(start));
    }
}
