//! Bytes of a segment: its header, its batches, and their checksums. Pure encoding and decoding.
//!
//! All integers are little-endian. `B` is the block size of the segment (512 to 65,536).
//!
//! ```text
//! segment   | header, padded to B | batch | batch | ...  zeros, or what the file held before |
//!
//! header    0 magic "IRONSEG\n" 8 | 8 version u16 | 10 kind u8 | 11 zero u8 | 12 block_bytes u32
//!           16 segment u64 | 24 store 16 | 40 first_seq u64 | 48 previous u64 | 56 zero u32
//!           60 crc u32 over bytes 0..60                                                      = 64
//!
//! batch     | head 64 | directory | payloads | zeros | directory again | tail 64 |   multiple of B
//!
//! head      0 magic u32 "ISbh", tail: "ISbt" | 4 crc u32 | 8 segment u64 | 16 offset u64
//!           24 seq u64 | 32 synced_seq u64 | 40 batch_bytes u32 | 44 directory_bytes u32
//!           48 payload_bytes u32 | 52 records u32 | 56 directory_crc u32 | 60 zero u32       = 64
//!           crc covers store 16, kind 1, then bytes 8..64: equal in head and tail
//!
//! directory one entry a record:
//!           0 kind u8 | 1 note_bytes u8 | 2 zero u16 | 4 group u32 | 8 index u64 | 16 term u64
//!           24 payload_bytes u32 | 28 payload_crc u32 | 32 note ...
//! ```
//!
//! Payloads stand one after another in the order of the directory, so their offsets follow from
//! it. A batch counts as whole if head or tail is good, the directory of either is good, and
//! every payload has its checksum. A segment header says that all batches before `first_seq` were synced when it
//! was written: it is a sync mark too.

use super::{Config, Identity, Location, NOTE_BYTES_MAX, Record, SegmentStat};
use crate::machine::FileKind;
use crate::planted::{Bug, Planted};
use crate::types::{GroupId, Index, Term};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// The format version that this code writes, and the only one that it reads.
pub const VERSION: u16 = 1;
/// Bytes of a segment header, without its padding.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes of a batch's head and of its tail.
pub const BATCH_HEADER_BYTES: usize = 64;
/// Bytes of a directory entry without its note.
pub const ENTRY_BYTES: usize = 32;

const SEGMENT_MAGIC: [u8; 8] = *b"IRONSEG\n";
const HEAD_MAGIC: [u8; 4] = *b"ISbh";
const TAIL_MAGIC: [u8; 4] = *b"ISbt";

/// The first bytes of every segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The format version.
    pub version: u16,
    /// Which log.
    pub kind: u8,
    /// What its batches are aligned to.
    pub block_bytes: u32,
    /// The segment's number, as in its file name.
    pub segment: u64,
    /// The store that wrote it.
    pub store: [u8; 16],
    /// Number of its first batch; all before were synced when this was written.
    pub first_seq: u64,
    /// The segment before it; 0 if there was none, or whoever wrote this did not know.
    pub previous: u64,
}

impl SegmentHeader {
    /// The header of a segment of this log.
    pub(super) const fn new(config: &Config, of: &SegmentStat) -> Self {
        Self {
            version: VERSION,
            kind: kind_code(config.kind),
            block_bytes: config.block_bytes,
            segment: of.number,
            store: config.store,
            first_seq: of.first_seq,
            previous: of.previous,
        }
    }

    /// The first block of the segment.
    pub(super) fn block(&self) -> Bytes {
        let mut block = self.encode().to_vec();
        block.resize(self.block_bytes as usize, 0);
        Bytes::from(block)
    }

    /// The header's bytes, without padding.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = Fields::<SEGMENT_HEADER_BYTES>::new();
        out.put(&SEGMENT_MAGIC);
        out.put(&self.version.to_le_bytes());
        out.put(&[self.kind, 0]);
        out.put(&self.block_bytes.to_le_bytes());
        out.put(&self.segment.to_le_bytes());
        out.put(&self.store);
        out.put(&self.first_seq.to_le_bytes());
        out.put(&self.previous.to_le_bytes());
        out.put(&[0; 4]);
        let crc = crc32fast::hash(out.so_far());
        out.put(&crc.to_le_bytes());
        out.bytes
    }

    /// The header at the start of `bytes`, or `None` if it is damaged or was never written. Whether it is
    /// the right store, kind and version is the caller's question.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = bytes.get(..SEGMENT_HEADER_BYTES)?.split_at_checked(60)?;
        let mut fields = Cursor(covered);
        let magic = fields.array::<8>()?;
        if magic != SEGMENT_MAGIC || crc32fast::hash(covered).to_le_bytes() != *crc {
            return None;
        }
        let version = u16::from_le_bytes(fields.array()?);
        let [kind, _] = fields.array()?;
        Some(Self {
            version,
            kind,
            block_bytes: fields.u32()?,
            segment: fields.u64()?,
            store: fields.array()?,
            first_seq: fields.u64()?,
            previous: fields.u64()?,
        })
    }
}

/// What the checksum of every batch of one log starts with, so that no batch of another log passes.
#[derive(Clone, Debug)]
pub struct Seal {
    hasher: crc32fast::Hasher,
    planted: Planted,
}

impl Seal {
    /// The seal of this store's log of this kind.
    #[must_use]
    pub fn new(store: &[u8; 16], kind: FileKind) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(store);
        hasher.update(&[kind_code(kind)]);
        Self { hasher, planted: Planted::NONE }
    }

    /// The seal of a log of this node.
    pub(super) fn of(config: &Config) -> Self {
        Self { planted: config.planted, ..Self::new(&config.store, config.kind) }
    }

    fn crc(&self, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher.clone();
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// How a file kind is written in a segment header.
#[must_use]
pub const fn kind_code(kind: FileKind) -> u8 {
    match kind {
        FileKind::Superblock => 0,
        FileKind::Wal => 1,
        FileKind::Table => 2,
        FileKind::Chunk => 3,
        // Has no header of its own.
        FileKind::Spare => 4,
        // Nor have these.
        FileKind::Index => 5,
        FileKind::Engine => 6,
    }
}

/// Head and tail of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The segment that it was written to.
    pub segment: u64,
    /// The offset that it was written to.
    pub offset: u64,
    /// Its number in the log, from 1, contiguous over segments.
    pub seq: u64,
    /// Every batch up to this one was known to be synced when this one was written: the sync mark.
    pub synced_seq: u64,
    /// Bytes of the whole batch.
    pub batch_bytes: u32,
    /// Bytes of one copy of the directory.
    pub directory_bytes: u32,
    /// Bytes of all payloads.
    pub payload_bytes: u32,
    /// How many records.
    pub records: u32,
    /// CRC32 of the directory.
    pub directory_crc: u32,
}

impl BatchHeader {
    fn encode(&self, magic: [u8; 4], seal: &Seal) -> [u8; BATCH_HEADER_BYTES] {
        let mut body = Fields::<56>::new();
        for number in [self.segment, self.offset, self.seq, self.synced_seq] {
            body.put(&number.to_le_bytes());
        }
        for number in [self.batch_bytes, self.directory_bytes, self.payload_bytes] {
            body.put(&number.to_le_bytes());
        }
        for number in [self.records, self.directory_crc, 0] {
            body.put(&number.to_le_bytes());
        }
        let mut out = Fields::<BATCH_HEADER_BYTES>::new();
        out.put(&magic);
        out.put(&seal.crc(&body.bytes).to_le_bytes());
        out.put(&body.bytes);
        out.bytes
    }

    fn decode(bytes: &[u8], magic: [u8; 4], seal: &Seal, segment: u64) -> Option<Self> {
        let mut fields = Cursor(bytes.get(..BATCH_HEADER_BYTES)?);
        if fields.array::<4>()? != magic {
            return None; // Most blocks end here: scans are cheap.
        }
        let crc = fields.u32()?;
        if seal.crc(fields.0) != crc {
            return None;
        }
        // What the checksum vouches for is a batch of the segment that it names, and a file may have been others before.
        let is_of = fields.u64()?;
        if is_of != segment && !seal.planted.is(Bug::BatchOfAnySegment) {
            return None;
        }
        let header = Self {
            segment,
            offset: fields.u64()?,
            seq: fields.u64()?,
            synced_seq: fields.u64()?,
            batch_bytes: fields.u32()?,
            directory_bytes: fields.u32()?,
            payload_bytes: fields.u32()?,
            records: fields.u32()?,
            directory_crc: fields.u32()?,
        };
        // The checksum holds, so these were written by us; lengths are checked all the same because
        // everything after this computes with them.
        let fits = header.unpadded_bytes() <= u64::from(header.batch_bytes)
            && header.offset.checked_add(u64::from(header.batch_bytes)).is_some();
        fits.then_some(header)
    }

    /// The head at the start of `bytes`, if it is good and of this segment.
    #[must_use]
    pub fn decode_head(bytes: &[u8], seal: &Seal, segment: u64) -> Option<Self> {
        Self::decode(bytes, HEAD_MAGIC, seal, segment)
    }

    /// The tail at the end of `bytes`, if it is good and of this segment.
    #[must_use]
    pub fn decode_tail(bytes: &[u8], seal: &Seal, segment: u64) -> Option<Self> {
        let start = bytes.len().checked_sub(BATCH_HEADER_BYTES)?;
        Self::decode(bytes.get(start..)?, TAIL_MAGIC, seal, segment)
    }

    /// Bytes of the batch if it needed no padding.
    fn unpadded_bytes(&self) -> u64 {
        2 * (BATCH_HEADER_BYTES as u64 + u64::from(self.directory_bytes))
            + u64::from(self.payload_bytes)
    }

    /// Where the batch ends in its segment.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.batch_bytes))
    }

    /// Where the first directory stands, relative to the batch.
    #[must_use]
    pub fn directory(&self) -> Range<usize> {
        let start = BATCH_HEADER_BYTES;
        start..start + self.directory_bytes as usize
    }

    /// Where the second directory stands, relative to the batch.
    #[must_use]
    pub fn directory_copy(&self) -> Range<usize> {
        let end = (self.batch_bytes as usize).saturating_sub(BATCH_HEADER_BYTES);
        end.saturating_sub(self.directory_bytes as usize)..end
    }

    /// The entries of a directory, or `None` if its bytes are damaged.
    #[must_use]
    pub fn entries(&self, directory: &[u8]) -> Option<Vec<Entry>> {
        if directory.len() != self.directory_bytes as usize
            || crc32fast::hash(directory) != self.directory_crc
        {
            return None;
        }
        let mut fields = Cursor(directory);
        let mut offset = self.offset + self.directory().end as u64;
        let mut entries = Vec::with_capacity((self.records as usize).min(directory.len()));
        for _ in 0..self.records {
            let entry = Entry::decode(&mut fields, self.segment, &mut offset)?;
            entries.push(entry);
        }
        let end = self.offset + self.directory().end as u64 + u64::from(self.payload_bytes);
        (fields.0.is_empty() && offset == end).then_some(entries)
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which record.
    pub identity: Identity,
    /// Its note.
    pub note: Bytes,
    /// Where its payload stands.
    pub location: Location,
}

impl Entry {
    fn decode(fields: &mut Cursor<'_>, segment: u64, offset: &mut u64) -> Option<Self> {
        let [kind, note_bytes, 0, 0] = fields.array()? else { return None };
        let identity = Identity {
            kind,
            group: GroupId(fields.u32()?),
            index: Index(fields.u64()?),
            term: Term(fields.u64()?),
        };
        let location =
            Location { segment, offset: *offset, bytes: fields.u32()?, crc: fields.u32()? };
        *offset = offset.checked_add(u64::from(location.bytes))?;
        let note = Bytes::copy_from_slice(fields.slice(usize::from(note_bytes))?);
        Some(Self { identity, note, location })
    }
}

/// Everything of a batch but its payloads, ready to be written.
#[derive(Clone, Debug)]
pub struct EncodedBatch {
    /// Head, directory, payload pieces, padding with directory and tail: what to write, in order.
    pub data: Vec<Bytes>,
    /// The header.
    pub header: BatchHeader,
    /// Where each record's payload will stand.
    pub locations: Vec<Location>,
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its segment.
    pub segment: u64,
    /// Its offset there, a multiple of the block size.
    pub offset: u64,
    /// Its number in the log.
    pub seq: u64,
    /// The sync mark that it carries.
    pub synced_seq: u64,
    /// What its length is a multiple of.
    pub block_bytes: u32,
}

/// Bytes that a record adds to a batch.
#[must_use]
pub fn record_bytes(record: &Record) -> u64 {
    2 * (ENTRY_BYTES + record.note.len()) as u64 + record.payload_bytes()
}

/// Bytes on disk of a batch whose records add up to `records_bytes`.
#[must_use]
pub fn batch_bytes(records_bytes: u64, block_bytes: u32) -> u64 {
    (2 * BATCH_HEADER_BYTES as u64 + records_bytes).next_multiple_of(u64::from(block_bytes))
}

/// Encodes a batch. Payload pieces are passed on as handles. Every record knows its checksum by now.
///
/// # Panics
/// If the batch exceeds 4 GiB or a note [`NOTE_BYTES_MAX`]: the log's limits are far below.
#[must_use]
pub fn encode_batch(records: Vec<Record>, place: Place, seal: &Seal) -> EncodedBatch {
    let directory = encode_directory(&records);
    let payload_bytes: u64 = records.iter().map(Record::payload_bytes).sum();
    let total = batch_bytes(2 * directory.len() as u64 + payload_bytes, place.block_bytes);
    let header = BatchHeader {
        segment: place.segment,
        offset: place.offset,
        seq: place.seq,
        synced_seq: place.synced_seq,
        batch_bytes: narrow(total),
        directory_bytes: narrow(directory.len() as u64),
        payload_bytes: narrow(payload_bytes),
        records: narrow(records.len() as u64),
        directory_crc: crc32fast::hash(&directory),
    };
    let locations = locations_of(&records, &header);
    let mut front = Vec::with_capacity(BATCH_HEADER_BYTES + directory.len());
    front.extend_from_slice(&header.encode(HEAD_MAGIC, seal));
    front.extend_from_slice(&directory);
    let padding = u64::from(header.batch_bytes) - header.unpadded_bytes();
    let mut back = vec![0; narrow(padding) as usize];
    back.extend_from_slice(&directory);
    back.extend_from_slice(&header.encode(TAIL_MAGIC, seal));

    let mut data = Vec::with_capacity(records.len() + 2);
    data.push(Bytes::from(front));
    data.extend(records.into_iter().flat_map(|record| record.payload));
    data.push(Bytes::from(back));
    EncodedBatch { data, header, locations }
}

/// Where the payloads of a batch stand: one after another behind the directory.
fn locations_of(records: &[Record], header: &BatchHeader) -> Vec<Location> {
    let segment = header.segment;
    let mut offset = header.offset + header.directory().end as u64;
    let locate = |record: &Record| {
        let bytes = record.payload_bytes();
        let at = Location { segment, offset, bytes: narrow(bytes), crc: crc_of_record(record) };
        offset += bytes;
        at
    };
    records.iter().map(locate).collect()
}

fn crc_of_record(record: &Record) -> u32 {
    record.payload_crc.unwrap_or_else(|| crc_of(&record.payload))
}

fn encode_directory(records: &[Record]) -> Vec<u8> {
    let notes: usize = records.iter().map(|record| record.note.len()).sum();
    let mut out = Vec::with_capacity(records.len() * ENTRY_BYTES + notes);
    for record in records {
        assert!(record.note.len() <= NOTE_BYTES_MAX, "note of {} bytes", record.note.len());
        let Identity { kind, group, index, term } = record.identity;
        let note_bytes = u8::try_from(record.note.len()).unwrap_or(u8::MAX);
        let crc = crc_of_record(record);
        out.extend_from_slice(&[kind, note_bytes, 0, 0]);
        out.extend_from_slice(&group.0.to_le_bytes());
        out.extend_from_slice(&index.0.to_le_bytes());
        out.extend_from_slice(&term.0.to_le_bytes());
        out.extend_from_slice(&narrow(record.payload_bytes()).to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&record.note);
    }
    out
}

/// CRC32 of pieces as if they were one.
#[must_use]
pub fn crc_of(pieces: &[Bytes]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    pieces.iter().for_each(|piece| hasher.update(piece));
    hasher.finalize()
}

/// A whole batch in memory, as checkers that look at a disk's bytes decode it: its header and its entries
/// with whether their payloads are good. `bytes` start at the batch and may go on behind it. `None` if
/// the head is not good or of another segment, or neither directory is good.
#[must_use]
pub fn decode_batch(
    bytes: &[u8],
    seal: &Seal,
    segment: u64,
) -> Option<(BatchHeader, Vec<(Entry, bool)>)> {
    let header = BatchHeader::decode_head(bytes, seal, segment)?;
    let batch = bytes.get(..header.batch_bytes as usize)?;
    let entries = header
        .entries(batch.get(header.directory())?)
        .or_else(|| header.entries(batch.get(header.directory_copy())?))?;
    let judged = entries.into_iter().map(|entry| {
        let good = payload_of(&entry.location, header.offset, batch)
            .is_some_and(|payload| entry.location.verify(payload));
        (entry, good)
    });
    Some((header, judged.collect()))
}

/// The bytes of a location in a slice of its segment that starts at offset `base`.
pub(super) fn payload_of<'a>(location: &Location, base: u64, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let start = usize::try_from(location.offset.checked_sub(base)?).ok()?;
    bytes.get(start..start.checked_add(location.bytes as usize)?)
}

/// A length that the log's limits keep below 4 GiB.
fn narrow(bytes: u64) -> u32 {
    match u32::try_from(bytes) {
        Ok(narrow) => narrow,
        Err(_) => panic!("{bytes} bytes exceed what a batch can hold"),
    }
}

/// Fields put one after another into an array of known length.
struct Fields<const N: usize> {
    bytes: [u8; N],
    used: usize,
}

impl<const N: usize> Fields<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], used: 0 }
    }

    fn put(&mut self, field: &[u8]) {
        let end = self.used + field.len();
        match self.bytes.get_mut(self.used..end) {
            Some(room) => room.copy_from_slice(field),
            None => unreachable!("fields of {end} bytes in a layout of {N}"),
        }
        self.used = end;
    }

    fn so_far(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or(&[])
    }
}

/// Fields taken one after another; `None` when they end early.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn slice(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }
}
