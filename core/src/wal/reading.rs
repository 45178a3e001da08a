//! Reading a segment for its own sake: every batch with its place, and every byte of it that is not as it was
//! written. For tools; a node reads its log by [`super::Recovery`], which knows what a damage means.
//!
//! Recovery needs one good copy of a batch's identities and looks no further. A reader compares all of it: heads,
//! tails, both directories, payloads and the padding between them.
//!
//! # Caveats
//!
//! - What lies between two batches, or behind the last one, is told by its extent alone: zeros, what a torn write
//!   left, or a batch that is damaged as a whole. Which of them it is follows from the numbers of the batches.

use super::record::{self, BatchHeader, Entry, Place, Seal, SegmentHeader};
use super::recovery::{BLOCK_BYTES_MAX, Walk};
use super::scan::{Found, FoundBatch};
use super::{Config, NOTE_BYTES_MAX, Record};
use crate::machine::FoundFile;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// A walk over one segment. [`Self::go_on`] says what it needs or has; what it needs is given by [`Self::feed`].
#[derive(Clone, Debug)]
pub struct SegmentReader {
    config: Config,
    seal: Seal,
    file: FoundFile,
    walk: Option<Walk>,
    batch: Option<FoundBatch>,
    refused: Option<String>,
    started: bool,
}

/// What a reader comes upon next.
#[derive(Clone, Debug)]
pub enum Reading {
    /// These bytes of the file must be fed first.
    Read(Range<u64>),
    /// The first block: the header, if it is one of this segment, and whether all of the block is as it was written.
    Start {
        /// The header; `None` if it is damaged or was never written.
        header: Option<SegmentHeader>,
        /// Whether the block holds that header and zeros, and nothing else.
        intact: bool,
    },
    /// The next batch.
    Batch(ReadBatch),
    /// No batch follows. The last thing that a reader comes upon.
    End {
        /// Where the last batch ended.
        from: u64,
        /// What isn't zero behind it.
        dirt: Option<Range<u64>>,
        /// Whether some of it can't be read.
        unreadable: bool,
    },
    /// The segment is of another store or of an unknown version: why, with file and offset.
    Refused(String),
}

/// A batch as it stands in its segment.
#[derive(Clone, Debug)]
pub struct ReadBatch {
    /// Its header: the good one of head and tail.
    pub header: BatchHeader,
    /// Its directory; `None` if both copies are damaged.
    pub entries: Option<Vec<Entry>>,
    /// Where the batch before it ended: bytes between are no batch.
    pub from: u64,
    /// All its bytes, if payloads are read ([`Config::verify_payloads_at_boot`]).
    pub bytes: Option<Bytes>,
}

/// What of a batch is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Head, tail, a directory or the padding, first at this offset of the file. The other copy is good.
    Frame(u64),
    /// Both directories: the identities.
    Directory,
    /// The payload of this record, counted from 0.
    Payload(usize),
}

impl SegmentReader {
    /// A reader of this file of the log.
    #[must_use]
    pub fn new(config: Config, file: FoundFile) -> Self {
        let seal = Seal::new(&config.store, config.kind);
        Self { config, seal, file, walk: None, batch: None, refused: None, started: false }
    }

    /// The bytes that [`Reading::Read`] asked for, which may be short at the end of the file; the device can't read what
    /// is in `bad`, which is zeros here.
    pub fn feed(&mut self, range: &Range<u64>, bytes: &Bytes, bad: Range<u64>) {
        match &mut self.walk {
            Some(walk) => walk.scanner.feed(range, bytes, bad),
            None => match Walk::open(self.file, range, bytes, bad, &self.config) {
                Ok(walk) => self.walk = Some(walk),
                Err(why) => self.refused = Some(why),
            },
        }
    }

    /// Goes on: [`Reading::Start`], the batches, [`Reading::End`].
    pub fn go_on(&mut self) -> Reading {
        if let Some(why) = &self.refused {
            return Reading::Refused(why.clone());
        }
        let first = 0..self.file.bytes.min(BLOCK_BYTES_MAX);
        let Some(walk) = &mut self.walk else { return Reading::Read(first) };
        if !self.started {
            let block = walk.block(&self.config);
            let bytes = match walk.scanner.require(0..block.min(self.file.bytes)) {
                Ok(bytes) => bytes,
                Err(range) => return Reading::Read(range),
            };
            self.started = true;
            let header = walk.header;
            let intact = header.is_some_and(|header| header.block() == bytes);
            return Reading::Start { header, intact };
        }
        let found = match self.batch.take() {
            Some(batch) => batch,
            None => match walk.scanner.next(&self.seal) {
                Found::Read(range) => return Reading::Read(range),
                Found::End { from, dirt, unreadable } => {
                    return Reading::End { from, dirt, unreadable };
                }
                Found::Batch(batch) => batch,
            },
        };
        let mut bytes = None;
        if self.config.verify_payloads_at_boot {
            match walk.scanner.require(found.header.offset..found.header.end()) {
                Ok(whole) => bytes = Some(whole),
                Err(range) => {
                    self.batch = Some(found);
                    return Reading::Read(range);
                }
            }
        }
        let FoundBatch { header, entries, from, .. } = found;
        Reading::Batch(ReadBatch { header, entries, from, bytes })
    }

    /// What is wrong with a batch of this segment. Nothing is known of one whose bytes weren't read.
    #[must_use]
    pub fn flaws(&self, batch: &ReadBatch) -> Vec<Flaw> {
        let Some(bytes) = &batch.bytes else { return Vec::new() };
        let Some(entries) = &batch.entries else { return Vec::from([Flaw::Directory]) };
        let base = batch.header.offset;
        let mut flaws = Vec::new();
        let mut records = Vec::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            let payload = record::payload_of(&entry.location, base, bytes).unwrap_or_default();
            if !entry.location.verify(payload) {
                flaws.push(Flaw::Payload(at));
            }
            records.push(Record {
                identity: entry.identity,
                note: entry.note.clone(),
                payload: Vec::from([bytes.slice_ref(payload)]),
                payload_crc: Some(entry.location.crc),
            });
        }
        if entries.iter().any(|entry| entry.note.len() > NOTE_BYTES_MAX) {
            flaws.push(Flaw::Frame(base)); // not one that this program writes
            return flaws;
        }
        let BatchHeader { segment, offset, seq, synced_seq, batch_bytes, .. } = batch.header;
        // The batch keeps its length, whatever the block size was.
        let place = Place { segment, offset, seq, synced_seq, block_bytes: batch_bytes };
        let written = record::encode_batch(records, place, &self.seal).data;
        let mut at = 0;
        for piece in &written {
            let there = bytes.get(at..).unwrap_or_default();
            let differs = piece.iter().zip(there).position(|(a, b)| a != b);
            if let Some(differs) = differs {
                flaws.push(Flaw::Frame(base + (at + differs) as u64));
                break;
            }
            at += piece.len();
        }
        flaws
    }
}

/// The payload of a record of a batch whose bytes were read.
#[must_use]
pub fn payload<'a>(batch: &'a ReadBatch, entry: &Entry) -> Option<&'a [u8]> {
    let payload = record::payload_of(&entry.location, batch.header.offset, batch.bytes.as_ref()?)?;
    entry.location.verify(payload).then_some(payload)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        reason = "tests may panic, and count to a few thousand"
    )]
    use super::*;
    use crate::machine::{FileId, FileKind};
    use crate::types::{GroupId, Index, Term};
    use crate::wal::Identity;

    const BLOCK: u32 = 512;

    fn config() -> Config {
        Config { block_bytes: BLOCK, ..Config::new(FileKind::Wal, [7; 16]) }
    }

    fn header() -> SegmentHeader {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(b"IRONSEG\n");
        // Version, kind, blocks of twice 256 bytes, segment, first batch.
        (bytes[8], bytes[10], bytes[13], bytes[16], bytes[40]) = (1, 1, 2, 3, 1);
        bytes[24..40].copy_from_slice(&[7; 16]);
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        SegmentHeader::decode(&bytes).unwrap()
    }

    /// A segment with a batch of two records and one of none.
    fn segment() -> Vec<u8> {
        let seal = Seal::new(&[7; 16], FileKind::Wal);
        let record = |index: u64, bytes: usize| {
            let (group, index, term) = (GroupId(4), Index(index), Term(2));
            let payload = Bytes::from(alloc::vec![index.0 as u8; bytes]);
            let record = Record::new(Identity { kind: 2, group, index, term }, payload);
            Record { payload_crc: Some(record::crc_of(&record.payload)), ..record }
        };
        let mut bytes = header().block().to_vec();
        for (seq, records) in [(1, Vec::from([record(1, 100), record(2, 300)])), (2, Vec::new())] {
            let offset = bytes.len() as u64;
            let place = Place { segment: 3, offset, seq, synced_seq: seq - 1, block_bytes: BLOCK };
            let batch = record::encode_batch(records, place, &seal);
            batch.data.iter().for_each(|piece| bytes.extend_from_slice(piece));
        }
        bytes.resize(8 * BLOCK as usize, 0);
        bytes
    }

    /// Everything that a reader finds, and where the log ends.
    fn read(bytes: &[u8]) -> (bool, Vec<Flaw>, Vec<u64>, u64) {
        let file = FoundFile { file: FileId::new(FileKind::Wal, 3), bytes: bytes.len() as u64 };
        let mut reader = SegmentReader::new(config(), file);
        let (mut whole, mut flaws, mut seqs) = (false, Vec::new(), Vec::new());
        loop {
            match reader.go_on() {
                Reading::Read(Range { start, end }) => {
                    let piece = Bytes::copy_from_slice(&bytes[start as usize..end as usize]);
                    reader.feed(&(start..end), &piece, 0..0);
                }
                Reading::Start { header, intact } => whole = header.is_some() && intact,
                Reading::Batch(batch) => {
                    flaws.extend(reader.flaws(&batch));
                    seqs.push(batch.header.seq);
                    let entries = batch.entries.iter().flatten();
                    let good = entries.filter(|entry| payload(&batch, entry).is_some()).count();
                    let lost = flaws.iter().filter(|flaw| matches!(flaw, Flaw::Payload(_)));
                    assert!(good + lost.count() == 2 || batch.header.records == 0);
                }
                Reading::End { from, dirt, unreadable } => {
                    assert!(!unreadable && dirt.is_none());
                    return (whole, flaws, seqs, from);
                }
                Reading::Refused(why) => panic!("{why}"),
            }
        }
    }

    #[test]
    fn every_byte_of_header_and_batches_counts() {
        let bytes = segment();
        let (whole, flaws, seqs, end) = read(&bytes);
        assert_eq!((whole, flaws, seqs), (true, Vec::new(), Vec::from([1, 2])));
        for at in 0..end as usize {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let (whole, flaws, seqs, _) = read(&damaged);
            assert_eq!(seqs, [1, 2], "byte {at}: one good copy is enough");
            assert_eq!(whole, at >= BLOCK as usize, "byte {at}");
            match &flaws[..] {
                [] => assert!(!whole, "byte {at}"),
                // The first byte that differs is the one, but where the bad copy is told from the good.
                [Flaw::Frame(place)] => assert_eq!(*place, at as u64),
                [Flaw::Payload(_)] => {}
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }
}
