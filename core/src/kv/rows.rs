//! What the records of a node are as rows of an engine ([`crate::rows`]), where there is no table log.
//!
//! | Space | Key | Value |
//! | --- | --- | --- |
//! | records | 0x01, group u32 | what is said of a group's state: [`GroupRow`] |
//! | records | 0x02, group u32 | the highest generation that was begun there, u64 |
//! | records | 0x03, segment u64 | how many bytes of bodies were written under this segment's numbers, u64 |
//! | records | 0x04, group u32, generation u64, key | a record: version, commit timestamp, head, place of the body |
//! | bodies | segment u64, offset u64 | group u32, length of the key u32, the key, the body |
//!
//! Integers of keys are big-endian, those of values little-endian; what has no length given is bincode.
//!
//! A state writes frames ([`super::frame`]) as ever. Each has a place, in segments that are nothing but numbers, and each
//! becomes one write: what it says of records, the bodies that it brings, each under its place, and the head of its group. So state and
//! applied index are never durable one without the other; a reader finds a body by the place that its record
//! notes, as in a log; and a state that is being received is there beside the one that counts until its last frame
//! makes it that.
//!
//! The head of a group holds the digest of its table: what a boot reads is what was written, or the group has no state until a peer gives it
//! one. A body has its checksum in its record.

use super::cow::Key;
use super::frame::{self, Decided, Frame, FrameError, Kind, Place};
use super::index::IndexHead;
use super::snapshot::Mark;
use super::space::after_prefix;
use super::table::{Body, RecordLocation, Slot, Stored, Table, TableBuilder, digest_of};
use crate::codec;
use crate::rows::{RowChange, Space};
use crate::types::{GroupId, Timestamp, Version};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bincode::{BorrowDecode, Decode, Encode};
use bytes::{Buf, BufMut, Bytes, BytesMut};

const GROUP: u8 = 1;
const BEGUN: u8 = 2;
const SEGMENT: u8 = 3;
const RECORD: u8 = 4;

/// The format of rows.
const ROWS_VERSION: u8 = 1;

/// What is said of a group's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct GroupRow {
    version: u8,
    generation: u64,
    next: u64,
    mark: Mark,
    digest: u128,
    records: u64,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
struct RecordRow<'a> {
    version: Version,
    committed: Timestamp,
    head: Cow<'a, [u8]>,
    body: RecordLocation,
}

/// What a frame becomes that begins at `start`, in the order in which it is to be carried out.
///
/// # Panics
/// If the frame is not one of this program's.
#[must_use]
pub fn changes_of(group: GroupId, frame: &Frame, start: Place) -> Vec<RowChange> {
    let payload: Bytes = match frame.payload.as_slice() {
        [only] => only.clone(),
        pieces => pieces.concat().into(),
    };
    let decoded = frame::decode(&payload, start)
        .unwrap_or_else(|error| panic!("a frame of {group:?} that was just made: {error}"));
    let generation = decoded.generation;
    let mut changes = Vec::with_capacity(2 * decoded.changes.len() + 2);
    match decoded.kind {
        Kind::Begin => {
            // What an attempt left that a crash ended.
            let last = records_before(group, u64::MAX);
            changes.push(remove_range(record_key(group, generation, &[]), last));
            changes.push(put(numbered(BEGUN, group), generation.to_le_bytes()));
        }
        Kind::End { .. } => {
            let first = record_key(group, 0, &[]);
            changes.push(remove_range(first, record_key(group, generation, &[])));
        }
        Kind::Applied | Kind::Moved | Kind::Part => {}
    }
    for Decided { key, slot } in decoded.changes {
        let row = record_key(group, generation, &key);
        let Some(slot) = slot else {
            changes.push(RowChange::Remove { space: Space::Records, key: row });
            continue;
        };
        let Some(body) = slot.body.location() else {
            unreachable!("a decoded record has its place")
        };
        let Slot { version, committed, head, .. } = slot;
        let record = RecordRow { version, committed, head: Cow::Borrowed(&head), body };
        changes.push(put(row, codec::encode(&record)));
        if let Some(bytes) = slice_of(&payload, start, body).filter(|bytes| !bytes.is_empty()) {
            let value = body_row(group, &key, &bytes);
            changes.push(RowChange::Put { space: Space::Bodies, key: body_key(body), value });
        }
    }
    if matches!(decoded.kind, Kind::Applied | Kind::Moved | Kind::End { .. }) {
        let (mark, next) = (decoded.mark, decoded.number + 1);
        let frame::Sum { digest, records } = frame.sum;
        let version = ROWS_VERSION;
        let row = GroupRow { version, generation, next, mark, digest, records };
        changes.push(put(numbered(GROUP, group), codec::encode(&row)));
    }
    changes
}

/// A group that has nothing here: what is left of an earlier life goes.
#[must_use]
pub fn forget(group: GroupId) -> Vec<RowChange> {
    let key = numbered(GROUP, group);
    let first = record_key(group, 0, &[]);
    Vec::from([
        RowChange::Remove { space: Space::Records, key },
        remove_range(first, records_before(group, u64::MAX)),
    ])
}

/// Whatever is of a later life than this one: a state that was being received when a crash ended that.
#[must_use]
pub fn forget_after(group: GroupId, generation: u64) -> RowChange {
    remove_range(records_before(group, generation), records_before(group, u64::MAX))
}

/// Where the body is of which a record's row tells; `None` for a row that is none.
#[must_use]
pub fn place_of(row: &[u8]) -> Option<RecordLocation> {
    let row: RecordRow<'_> = codec::decode_borrowed(row).ok()?;
    Some(row.body)
}

/// Notes that this many bytes of bodies are under a segment's numbers; `None` that none are.
#[must_use]
pub fn note_segment(segment: u64, bytes: Option<u64>) -> RowChange {
    let key = segment_key(segment);
    match bytes {
        Some(bytes) => put(key, bytes.to_le_bytes()),
        None => RowChange::Remove { space: Space::Records, key },
    }
}

/// The row of the body at this place.
#[must_use]
pub fn body_key(location: RecordLocation) -> Bytes {
    body_from(location.segment, location.offset)
}

/// Where in the space of bodies those of a segment begin that are at this offset or behind it.
#[must_use]
pub fn body_from(segment: u64, offset: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(16);
    key.put_u64(segment);
    key.put_u64(offset);
    key.freeze()
}

/// A row of the space of bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyRow {
    /// Whose record it is of.
    pub group: GroupId,
    /// The record.
    pub key: Key,
    /// The body.
    pub body: Bytes,
}

impl BodyRow {
    /// What a row's value holds. `None` if it is none.
    #[must_use]
    pub fn of(mut value: Bytes) -> Option<Self> {
        if value.len() < 8 {
            return None;
        }
        let group = GroupId(value.get_u32_le());
        let len = usize::try_from(value.get_u32_le()).ok()?;
        if value.len() < len {
            return None;
        }
        let key = Key::from(&*value.split_to(len));
        Some(Self { group, key, body: value })
    }
}

/// The offset of a body's row in its segment. `None` if the key is none of the space.
#[must_use]
pub fn body_offset(mut key: &[u8]) -> Option<u64> {
    (key.len() == 16).then(|| {
        key.advance(8);
        key.get_u64()
    })
}

/// What an engine says of all groups, before their records.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    groups: BTreeMap<GroupId, GroupRow>,
    begun: BTreeMap<GroupId, u64>,
    /// How many bytes of bodies are under each segment's numbers, at the most.
    pub segments: BTreeMap<u64, u64>,
    /// Groups whose heads are not ones.
    pub damaged: Vec<GroupId>,
}

impl Catalogue {
    /// The range of the space of records that it is made of.
    #[must_use]
    pub fn range() -> (Bytes, Bytes) {
        (Bytes::from_static(&[GROUP]), Bytes::from_static(&[RECORD]))
    }

    /// Takes a row of that range. `false` if it is none that this module writes.
    #[must_use]
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.take(key, value).is_some()
    }

    fn take(&mut self, mut key: &[u8], mut value: &[u8]) -> Option<()> {
        let kind = key.try_get_u8().ok()?;
        match (kind, key.len()) {
            (GROUP, 4) => {
                let group = GroupId(key.get_u32());
                match codec::decode::<GroupRow>(value) {
                    Ok(row) if row.version == ROWS_VERSION => {
                        self.groups.insert(group, row);
                    }
                    _ => self.damaged.push(group),
                }
            }
            (BEGUN, 4) if value.len() == 8 => {
                self.begun.insert(GroupId(key.get_u32()), value.get_u64_le());
            }
            (SEGMENT, 8) if value.len() == 8 => {
                self.segments.insert(key.get_u64(), value.get_u64_le());
            }
            _ => return None,
        }
        Some(())
    }

    /// What is said of each group, and where its records are in the space of records.
    pub fn heads(&self) -> impl Iterator<Item = (GroupId, IndexHead, (Bytes, Bytes))> {
        self.groups.iter().map(|(group, row)| {
            let GroupRow { generation, next, mark, digest, records, .. } = *row;
            let generation_seen = self.generation_seen(*group);
            let head = IndexHead {
                generation,
                generation_seen,
                next,
                mark,
                anchor: None,
                digest,
                records,
            };
            let first = record_key(*group, generation, &[]);
            (*group, head, (first, records_before(*group, generation)))
        })
    }

    /// The groups that something is said of, and the life of each that counts.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, u64)> {
        self.groups.iter().map(|(group, row)| (*group, row.generation))
    }

    /// The highest generation that there was anything of.
    #[must_use]
    pub fn generation_seen(&self, group: GroupId) -> u64 {
        let current = self.groups.get(&group).map_or(0, |row| row.generation);
        self.begun.get(&group).copied().unwrap_or(0).max(current)
    }
}

/// A group's table out of its rows.
#[derive(Clone, Debug)]
pub struct Loading {
    head: IndexHead,
    table: TableBuilder,
    digest: u128,
}

impl Loading {
    /// Begins with what is said of the group.
    #[must_use]
    pub fn new(head: IndexHead) -> Self {
        Self { head, table: TableBuilder::default(), digest: 0 }
    }

    /// Takes the next row of its records.
    ///
    /// # Errors
    /// When it is none, or not behind the last one.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), FrameError> {
        let key = key.get(RECORD_PREFIX..).ok_or(FrameError::Head)?;
        let row: RecordRow<'_> = codec::decode_borrowed(value).map_err(|_| FrameError::Head)?;
        let stored = Stored::new(row.body).ok_or(FrameError::Place)?;
        let (version, committed) = (row.version, row.committed);
        let body = Body::Stored(stored);
        let slot = Slot { version, committed, head: (&*row.head).into(), body };
        self.digest = self.digest.wrapping_add(digest_of(key, &slot));
        if self.table.push(key, slot) { Ok(()) } else { Err(FrameError::OutOfOrder) }
    }

    /// The table, once all rows were added.
    ///
    /// # Errors
    /// When they are not those that were written.
    pub fn finish(self) -> Result<(IndexHead, Table), FrameError> {
        let Self { head, table, digest } = self;
        if (digest, table.len()) != (head.digest, head.records) {
            return Err(FrameError::Digest);
        }
        Ok((head, table.finish(digest)))
    }
}

/// Bytes of a record's row before the record's key.
const RECORD_PREFIX: usize = 1 + 4 + 8;

fn numbered(kind: u8, group: GroupId) -> Bytes {
    let mut key = BytesMut::with_capacity(5);
    key.put_u8(kind);
    key.put_u32(group.0);
    key.freeze()
}

fn segment_key(segment: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(9);
    key.put_u8(SEGMENT);
    key.put_u64(segment);
    key.freeze()
}

fn record_key(group: GroupId, generation: u64, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(RECORD_PREFIX + key.len());
    row.put_u8(RECORD);
    row.put_u32(group.0);
    row.put_u64(generation);
    row.put_slice(key);
    row.freeze()
}

/// The first key behind the records of a generation.
fn records_before(group: GroupId, generation: u64) -> Bytes {
    let key = after_prefix(&record_key(group, generation, &[]));
    key.unwrap_or_else(|| unreachable!("it does not begin with 0xff")).into()
}

fn body_row(group: GroupId, key: &[u8], body: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(8 + key.len() + body.len());
    row.put_u32_le(group.0);
    // A key's limit is far below.
    row.put_u32_le(u32::try_from(key.len()).unwrap_or(u32::MAX));
    row.put_slice(key);
    row.put_slice(body);
    row.freeze()
}

fn put(key: Bytes, value: impl AsRef<[u8]>) -> RowChange {
    let value = Bytes::copy_from_slice(value.as_ref());
    RowChange::Put { space: Space::Records, key, value }
}

const fn remove_range(from: Bytes, before: Bytes) -> RowChange {
    RowChange::RemoveRange { space: Space::Records, from, before }
}

/// A body that the payload at `start` brings; `None` for one that is in an earlier frame.
fn slice_of(payload: &Bytes, start: Place, body: RecordLocation) -> Option<Bytes> {
    let inside = body.segment == start.segment && body.offset >= start.offset;
    let at = usize::try_from(body.offset.checked_sub(start.offset)?).ok()?;
    let end = at.checked_add(usize::try_from(body.bytes).ok()?)?;
    (inside && end <= payload.len()).then(|| payload.slice(at..end))
}
