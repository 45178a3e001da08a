//! What of a group's state a snapshot of the index holds, and a table out of it.
//!
//! [`IndexCopy`] is a clone of the table at the end of a frame, so it stands still while the group goes on. Frames that are
//! not written yet when it is made are settled in it as they are in the state: then every record of it has a place in
//! the table log. [`IndexLoading`] puts the table together from records in key order, without hashing any: the digest
//! was kept as the table grew, and is in the head.
//!
//! What the whole snapshot promises, and when it counts, is told in `node::index`.

use super::cow::{Key, Rubble};
use super::frame::{Place, Placed};
use super::snapshot::{self, Mark};
use super::space;
use super::table::{Body, RecordLocation, Slot, Stored, Table, TableBuilder};
use crate::types::{Timestamp, Version};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use bincode::{BorrowDecode, Decode, Encode};
use core::ops::Bound;

/// What a snapshot of the index says of a group before its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct IndexHead {
    /// Which life of the state it is.
    pub generation: u64,
    /// The highest generation that the table log has a frame of.
    pub generation_seen: u64,
    /// The number of the first frame that is not in it.
    pub next: u64,
    /// The mark of the last frame that is.
    pub mark: Mark,
    /// The segment of that frame, if there is one.
    pub anchor: Option<u64>,
    /// Digest of the table.
    pub digest: u128,
    /// How many records.
    pub records: u64,
}

impl IndexHead {
    /// A group that has nothing here any more; the table log has seen `generations` of what it had.
    #[must_use]
    pub fn retired(generations: u64) -> Self {
        Self {
            generation: generations.saturating_add(1),
            generation_seen: generations,
            next: 0,
            mark: Mark::default(),
            anchor: None,
            digest: 0,
            records: 0,
        }
    }
}

/// A record: its key without what it shares with the one before it in its block.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct IndexRecord<'a> {
    shared: u32,
    rest: Cow<'a, [u8]>,
    version: Version,
    committed: Timestamp,
    head: Cow<'a, [u8]>,
    body: RecordLocation,
}

/// The state of a group at the end of a frame.
#[derive(Clone, Debug)]
pub struct IndexCopy {
    table: Table,
    head: IndexHead,
    /// So many frames are written.
    settled: u64,
}

impl IndexCopy {
    pub(super) const fn new(table: Table, head: IndexHead, settled: u64) -> Self {
        Self { table, head, settled }
    }

    /// What is said of it before its records; complete once it is settled.
    #[must_use]
    pub const fn head(&self) -> IndexHead {
        self.head
    }

    /// Whether every record has its place.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.settled == self.head.next
    }

    /// A frame of the group has been written. Those that are not in the copy are ignored.
    pub fn settle(&mut self, placed: &Placed, start: Place) {
        if placed.generation == self.head.generation && placed.number < self.head.next {
            self.head.anchor = Some(start.segment);
            self.settled = placed.number + 1;
            snapshot::settle(&mut self.table, placed, start);
        }
    }

    /// Records after the key `after`, at most `records_max`, and no more once they have `bytes_max` bytes; and the last one's
    /// key. None when there are none left. To be called once the copy is settled.
    #[must_use]
    pub fn slice(
        &self,
        after: Option<&[u8]>,
        records_max: usize,
        bytes_max: usize,
    ) -> Option<(Vec<IndexRecord<'_>>, Key)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut before: &[u8] = &[];
        for (key, slot) in self.table.scan(&[], from).take(records_max.max(1)) {
            if bytes >= bytes_max {
                break;
            }
            let Some(body) = slot.body.location() else {
                unreachable!("{key:?} of a settled copy is in no segment")
            };
            let shared = key.iter().zip(before).take_while(|(a, b)| a == b).count();
            let rest = key.get(shared..).unwrap_or_default();
            bytes += rest.len() + slot.head.len() + RECORD_OVERHEAD;
            let (version, committed) = (slot.version, slot.committed);
            // No key is as long as that.
            let shared = u32::try_from(shared).unwrap_or(0);
            let (rest, head) = (Cow::Borrowed(rest), Cow::Borrowed(&*slot.head));
            records.push(IndexRecord { shared, rest, version, committed, head, body });
            before = key;
        }
        (!records.is_empty()).then(|| (records, Key::from(before)))
    }

    /// Takes it apart in slices; see [`Rubble`].
    #[must_use]
    pub fn into_rubble(self) -> Rubble<Slot> {
        self.table.into_rubble()
    }
}

/// A table that is loaded.
#[derive(Clone, Debug)]
pub struct IndexLoading {
    head: IndexHead,
    table: TableBuilder,
    key: Vec<u8>,
}

impl IndexLoading {
    /// Begins with what is said of a group.
    #[must_use]
    pub fn new(head: IndexHead) -> Self {
        Self { head, table: TableBuilder::default(), key: Vec::new() }
    }

    /// Takes a block of records. `false` if they are not ones that this module writes.
    #[must_use]
    pub fn add(&mut self, records: &[IndexRecord<'_>]) -> bool {
        self.key.clear();
        records.iter().all(|record| self.push(record).is_some())
    }

    fn push(&mut self, record: &IndexRecord<'_>) -> Option<()> {
        let shared = usize::try_from(record.shared).ok()?;
        // A record of a few bytes may share a long key with the one before it: without a limit, work and memory would have none.
        if shared > self.key.len() || shared + record.rest.len() > space::KEY_BYTES_MAX {
            return None;
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(&record.rest);
        let body = Body::Stored(Stored::new(record.body)?);
        let (version, committed) = (record.version, record.committed);
        let slot = Slot { version, committed, head: (&*record.head).into(), body };
        self.table.push(&self.key, slot).then_some(())
    }

    /// The table, once all records of the group were added. `None` if they are not as many as was said.
    #[must_use]
    pub fn finish(self) -> Option<(IndexHead, Table)> {
        let Self { head, table, .. } = self;
        (table.len() == head.records).then(|| (head, table.finish(head.digest)))
    }
}

/// Bytes of a record beside its key and head, near enough.
const RECORD_OVERHEAD: usize = 32;

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests may panic")]
    use super::*;
    use crate::object::api;
    use crate::types::{BlobId, BucketId, Index, ShardId};

    #[test]
    fn the_longest_key_there_can_be_is_loaded_and_a_longer_one_refused_however_it_is_written() {
        let blob = BlobId { home: ShardId(0), opened: Index(u64::MAX) };
        let longest = space::upload(BucketId(u64::MAX), &[0; api::KEY_BYTES_MAX], blob);
        assert_eq!(longest.len(), space::KEY_BYTES_MAX);
        let record = |shared: usize, rest: &'static [u8]| IndexRecord {
            shared: u32::try_from(shared).unwrap_or(0),
            rest: Cow::Borrowed(rest),
            version: Version(1),
            committed: Timestamp(1),
            head: Cow::Borrowed(&[]),
            body: RecordLocation { segment: 1, offset: 0, bytes: 0, crc: 0 },
        };
        static ZEROS: [u8; space::KEY_BYTES_MAX + 1] = [0; space::KEY_BYTES_MAX + 1];
        let taken =
            |records: &[IndexRecord<'_>]| IndexLoading::new(IndexHead::retired(0)).add(records);
        let (all, some) = (&ZEROS[..space::KEY_BYTES_MAX], &ZEROS[..space::KEY_BYTES_MAX - 1]);
        assert!(taken(&[record(0, all)]));
        assert!(taken(&[record(0, some), record(some.len(), &[0])]));
        assert!(!taken(&[record(0, &ZEROS)]));
        assert!(!taken(&[record(0, all), record(all.len(), &[0])]));
    }
}
