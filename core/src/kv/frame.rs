//! Frames: what a group's state writes to the table log.
//!
//! ```text
//! offset  size  field
//! 0       1     format version, 1
//! 1       4     length of the head, u32 LE
//! 5       4     CRC32 of the head, u32 LE
//! 9       n     head, bincode: generation, number, mark, content
//! 9 + n         the bodies of the head's records, one after another, in their order
//! ```
//!
//! A frame is broken when its version is unknown, when the checksum of its head does not match, when the
//! head is no value, or when the bodies are not as many bytes as the head says. Each body has a CRC32
//! of its own in the head: it is checked when the body is read.
//!
//! The generation counts how often the group's state was replaced by a snapshot, and the number counts
//! the frames of a generation without gaps: a lost frame shows, also where the log around it is whole.

use super::batch::Change;
use super::cow::Key;
use super::snapshot::Mark;
use super::table::{Body, RecordLocation, Slot, Stored};
use crate::codec;
use crate::types::{Timestamp, Version};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use bincode::{BorrowDecode, Decode, Encode};
use bytes::Bytes;
use core::fmt;

/// The format version of frames.
const FRAME_VERSION: u8 = 1;
/// Bytes before the head.
const PREAMBLE_BYTES: u32 = 9;

/// A frame to be appended to the table log, as handles.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The payload: the head, then the bodies. Identity beside it: the group and the mark's position.
    pub payload: Vec<Bytes>,
    /// How far the state has got with this frame. Once it is durable, the group's log is not needed up
    /// to here.
    pub mark: Mark,
    /// Where its records will be: to be given back when the frame has been written.
    pub placed: Placed,
    /// All records once this frame is among what is written.
    pub sum: Sum,
}

/// What a table comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Its digest.
    pub digest: u128,
    /// How many records.
    pub records: u64,
}

impl Frame {
    /// Bytes of the payload.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.payload.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// Records of a frame by their place in its payload.
#[derive(Clone, Debug)]
pub struct Placed {
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) records: Vec<PlacedRecord>,
}

impl Placed {
    /// Which life of the state the frame belongs to.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

/// A record of a frame: `offset` counts from the start of the payload.
#[derive(Clone, Debug)]
pub(super) struct PlacedRecord {
    pub(super) key: Key,
    pub(super) version: Version,
    offset: u32,
    bytes: u32,
    crc: u32,
}

impl PlacedRecord {
    /// The record's location when the payload begins at `start`.
    pub(super) fn at(&self, start: Place) -> RecordLocation {
        RecordLocation {
            segment: start.segment,
            offset: start.offset + u64::from(self.offset),
            bytes: self.bytes,
            crc: self.crc,
        }
    }
}

/// Where a frame's payload begins in the table log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub segment: u64,
    /// Byte offset in its file.
    pub offset: u64,
}

/// What a frame means for the state.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum Content<'a> {
    /// Changes of applied commands; none, to note only how far the state has got.
    Applied { records: Vec<RecordHead<'a>> },
    /// Records that were rewritten because their segment is cleaned. They change nothing.
    Moved { records: Vec<RecordHead<'a>> },
    /// A snapshot is being installed in place of the state.
    Begin,
    /// Records of the snapshot.
    Part { records: Vec<RecordHead<'a>> },
    /// The snapshot is complete, with this digest, and is the state from here on.
    End { digest: u128 },
}

/// The head of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct FrameHead<'a> {
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) mark: Mark,
    pub(super) content: Content<'a>,
}

/// A record of a frame: its key, and what is there unless it was removed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct RecordHead<'a> {
    key: Cow<'a, [u8]>,
    written: Option<WrittenHead<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
struct WrittenHead<'a> {
    version: Version,
    committed: Timestamp,
    head: Cow<'a, [u8]>,
    body: BodyPlace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
enum BodyPlace {
    /// The next bytes of this frame.
    Here { bytes: u32, crc: u32 },
    /// In an earlier frame, from which the record's head was changed without reading the body.
    Earlier(RecordLocation),
}

/// Why a payload is no frame, or not the one that belongs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A format version that this program does not know.
    Version(u8),
    /// The head ends early, fails its checksum or is no value.
    Head,
    /// A body is where no segment of the table log has one.
    Place,
    /// The bodies are not as many bytes as the head says.
    Bodies {
        /// What the head says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// Frames are missing before this one.
    Missing {
        /// The number expected.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// The state goes on after a snapshot that was never completed.
    Unfinished,
    /// The position of the frame is not after the one before, or it rewrites what is not current.
    OutOfOrder,
    /// A completed snapshot has not the digest that it should.
    Digest,
    /// The record that says by which rules the group's commands are read is none.
    Header,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "unknown frame version {version}"),
            Self::Head => f.write_str("malformed frame head"),
            Self::Bodies { expected, found } => {
                write!(f, "{found} bytes of bodies in a frame instead of {expected}")
            }
            Self::Place => f.write_str("record in a place that no table segment has"),
            Self::Missing { expected, found } => {
                write!(f, "frame {found} follows where {expected} is expected")
            }
            Self::Unfinished => f.write_str("frames follow a snapshot that is incomplete"),
            Self::OutOfOrder => f.write_str("frame goes back in the log"),
            Self::Digest => f.write_str("installed snapshot has another digest"),
            Self::Header => f.write_str("malformed header record of the group"),
        }
    }
}

impl core::error::Error for FrameError {}

/// Collects the records of a frame.
#[derive(Debug, Default)]
pub(super) struct Records {
    heads: Vec<RecordHead<'static>>,
    bodies: Vec<Bytes>,
    placed: Vec<PlacedRecord>,
    bytes: u32,
}

impl Records {
    /// Adds a change.
    pub(super) fn push(&mut self, change: &Change) {
        let written = change.slot.as_ref().map(|slot| {
            let body = match &slot.body {
                Body::Stored(stored) => BodyPlace::Earlier(stored.location()),
                Body::Resident(None) => self.place(&change.key, slot.version, Bytes::new(), 0),
                Body::Resident(Some(body)) => {
                    self.place(&change.key, slot.version, body.bytes.clone(), body.crc)
                }
            };
            written_head(slot, body)
        });
        self.heads.push(RecordHead { key: Cow::Owned(change.key.to_vec()), written });
    }

    /// Adds a stored record again, with its body as it was read.
    pub(super) fn push_again(&mut self, key: &[u8], slot: &Slot, body: Bytes) {
        let body = self.place(key, slot.version, body, slot.body.crc());
        let written = Some(written_head(slot, body));
        self.heads.push(RecordHead { key: Cow::Owned(key.to_vec()), written });
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Makes the frame, after which all records come to `sum`; `content` says what its own mean.
    pub(super) fn frame(
        self,
        generation: u64,
        number: u64,
        mark: Mark,
        sum: Sum,
        content: impl FnOnce(Vec<RecordHead<'static>>) -> Content<'static>,
    ) -> Frame {
        let Self { heads, bodies, mut placed, .. } = self;
        let head = FrameHead { generation, number, mark, content: content(heads) };
        let head = codec::encode(&head);
        let length = u32_of(head.len());
        let mut bytes = Vec::with_capacity(head.len() + 9);
        bytes.push(FRAME_VERSION);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        bytes.extend_from_slice(&head);
        for record in &mut placed {
            record.offset += PREAMBLE_BYTES + length;
        }
        let payload = core::iter::once(bytes.into()).chain(bodies).collect();
        Frame { payload, mark, placed: Placed { generation, number, records: placed }, sum }
    }

    fn place(&mut self, key: &[u8], version: Version, body: Bytes, crc: u32) -> BodyPlace {
        let bytes = u32_of(body.len());
        let (key, offset) = (Key::from(key), self.bytes);
        self.placed.push(PlacedRecord { key, version, offset, bytes, crc });
        self.bytes += bytes;
        if bytes > 0 {
            self.bodies.push(body);
        }
        BodyPlace::Here { bytes, crc }
    }
}

/// What a frame is, for tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Which life of the state it belongs to.
    pub generation: u64,
    /// Its number in that life.
    pub number: u64,
    /// How far the state has got with it.
    pub mark: Mark,
    /// What it is to the state: `applied`, `moved`, `begin`, `part` or `end`.
    pub what: &'static str,
    /// How many records it writes or removes.
    pub records: usize,
}

/// What the frame in a payload is. Its bodies are counted and not looked at.
///
/// # Errors
/// As the state refuses it.
pub fn summary(payload: &[u8]) -> Result<Summary, FrameError> {
    let Decoded { generation, number, mark, kind, changes } =
        decode(payload, Place { segment: 1, offset: 0 })?;
    let what = match kind {
        Kind::Applied => "applied",
        Kind::Moved => "moved",
        Kind::Begin => "begin",
        Kind::Part => "part",
        Kind::End { .. } => "end",
    };
    Ok(Summary { generation, number, mark, what, records: changes.len() })
}

/// A decoded frame.
#[derive(Debug)]
pub(super) struct Decoded<'a> {
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) mark: Mark,
    pub(super) kind: Kind,
    /// Where every body is. A record without one is where its body would be.
    pub(super) changes: Vec<Decided<'a>>,
}

/// What became of one record, as a frame says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decided<'a> {
    pub(super) key: Cow<'a, [u8]>,
    /// What is there now.
    pub(super) slot: Option<Slot>,
}

/// [`Content`] without the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Applied,
    Moved,
    Begin,
    Part,
    End { digest: u128 },
}

/// Decodes the frame whose payload is at `place`.
pub(super) fn decode(payload: &[u8], place: Place) -> Result<Decoded<'_>, FrameError> {
    let (version, rest) = payload.split_first().ok_or(FrameError::Head)?;
    if *version != FRAME_VERSION {
        return Err(FrameError::Version(*version));
    }
    let (length, rest) = rest.split_first_chunk().ok_or(FrameError::Head)?;
    let (crc, rest) = rest.split_first_chunk().ok_or(FrameError::Head)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| FrameError::Head)?;
    let (head, bodies) = rest.split_at_checked(length).ok_or(FrameError::Head)?;
    if crc32fast::hash(head) != u32::from_le_bytes(*crc) {
        return Err(FrameError::Head);
    }
    let FrameHead { generation, number, mark, content } =
        codec::decode_borrowed(head).map_err(|_| FrameError::Head)?;
    let (kind, records) = match content {
        Content::Applied { records } => (Kind::Applied, records),
        Content::Moved { records } => (Kind::Moved, records),
        Content::Begin => (Kind::Begin, Vec::new()),
        Content::Part { records } => (Kind::Part, records),
        Content::End { digest } => (Kind::End { digest }, Vec::new()),
    };
    let start = (payload.len() - bodies.len()) as u64;
    let mut next = Place { offset: place.offset + start, ..place };
    let changes = records.into_iter().map(|record| change_of(record, &mut next));
    let changes = changes.collect::<Option<_>>().ok_or(FrameError::Place)?;
    let expected = next.offset - place.offset - start;
    if expected != bodies.len() as u64 {
        return Err(FrameError::Bodies { expected, found: bodies.len() as u64 });
    }
    Ok(Decoded { generation, number, mark, kind, changes })
}

/// `None` if a body is where no segment of the table log has one.
fn change_of<'a>(record: RecordHead<'a>, next: &mut Place) -> Option<Decided<'a>> {
    let slot = record.written.map(|written| {
        let location = match written.body {
            BodyPlace::Earlier(location) => location,
            BodyPlace::Here { bytes, crc } => {
                let Place { segment, offset } = *next;
                next.offset += u64::from(bytes);
                RecordLocation { segment, offset, bytes, crc }
            }
        };
        let WrittenHead { version, committed, head, .. } = written;
        let body = Body::Stored(Stored::new(location)?);
        Some(Slot { version, committed, head: (&*head).into(), body })
    });
    let slot = match slot {
        Some(written) => Some(written?),
        None => None,
    };
    Some(Decided { key: record.key, slot })
}

fn written_head(slot: &Slot, body: BodyPlace) -> WrittenHead<'static> {
    let (version, committed) = (slot.version, slot.committed);
    WrittenHead { version, committed, head: Cow::Owned(slot.head.to_vec()), body }
}

/// A frame holds what a few commands wrote, or a slice of a snapshot: far below 4 GiB.
fn u32_of(len: usize) -> u32 {
    u32::try_from(len).unwrap_or_else(|_| unreachable!("a frame of {len} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_names_a_place_that_there_is_not_is_broken() {
        let decoded = |location| {
            let mut records = Records::default();
            let (version, committed) = (Version(1), Timestamp(1));
            let body = BodyPlace::Earlier(location);
            let written = WrittenHead { version, committed, head: Cow::Borrowed(&[]), body };
            records.heads.push(RecordHead { key: Cow::Borrowed(b"k"), written: Some(written) });
            let (mark, sum) = (Mark::default(), Sum::default());
            let frame = records.frame(1, 0, mark, sum, |records| Content::Applied { records });
            decode(&frame.payload.concat(), Place { segment: 1, offset: 0 })
                .map(|it| it.changes.len())
        };
        let location = RecordLocation { segment: 1, offset: 4096, bytes: 3, crc: 5 };
        assert_eq!(decoded(location), Ok(1));
        for location in [
            RecordLocation { segment: 0, ..location },
            RecordLocation { segment: Stored::SEGMENT_MAX + 1, ..location },
            RecordLocation { offset: Stored::SEGMENT_BYTES_MAX, ..location },
        ] {
            assert_eq!(decoded(location), Err(FrameError::Place), "{location:?}");
        }
    }
}
