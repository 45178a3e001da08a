//! A whole segment, as tools read it.

use super::disk::{SEGMENT, STORE, reseal_batch, reseal_header, seal};
use crate::{Target, Verdict};
use bytes::Bytes;
use ironseed_core::machine::{FileId, FileKind, FoundFile};
use ironseed_core::types::{GroupId, Index, Term};
use ironseed_core::wal::reading::{Reading, SegmentReader, payload};
use ironseed_core::wal::record::{Place, SegmentHeader, encode_batch, kind_code};
use ironseed_core::wal::{Config, Identity, Record};

const BLOCK: usize = 512;
const BYTES_MAX: usize = 24 * BLOCK;

pub(super) const SEGMENT_FILE: Target = Target {
    name: "segment",
    runs: 10_000,
    about: "a whole segment as `wal dump` and `data verify` read it, with true checksums and without",
    seeds: || vec![segment(&[3, 0, 1]), segment(&[1, 7]), segment(&[])],
    dictionary: &[b"ISbh", b"ISbt", b"IRONSEG\n"],
    bytes_max: BYTES_MAX,
    memory_max: 64 << 20,
    run: read_all,
};

/// A segment of batches with so many records each.
fn segment(batches: &[u64]) -> Vec<u8> {
    let header = SegmentHeader {
        version: 1,
        kind: kind_code(FileKind::Wal),
        block_bytes: BLOCK as u32,
        segment: SEGMENT,
        store: STORE,
        first_seq: 1,
        previous: 3,
    };
    let mut bytes = header.encode().to_vec();
    bytes.resize(BLOCK, 0);
    for (seq, records) in (1..).zip(batches) {
        let record = |index| {
            let identity =
                Identity { kind: 2, group: GroupId(4), index: Index(index), term: Term(2) };
            Record::new(identity, Bytes::from(vec![index as u8; 90 * index as usize]))
        };
        let offset = bytes.len() as u64;
        let block_bytes = BLOCK as u32;
        let place = Place { segment: SEGMENT, offset, seq, synced_seq: seq - 1, block_bytes };
        let batch = encode_batch((0..*records).map(record).collect(), place, &seal());
        bytes.extend(batch.data.concat());
    }
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

fn read_all(input: &[u8]) -> Verdict {
    let raw = judge(input);
    let mut sealed = input.to_vec();
    reseal_header(&mut sealed);
    for block in (BLOCK..sealed.len()).step_by(BLOCK) {
        if sealed[block..].starts_with(b"ISbh") {
            reseal_batch(&mut sealed[block..]);
        }
    }
    if [raw, judge(&sealed)].contains(&Verdict::Accepted) {
        Verdict::Accepted
    } else {
        Verdict::Refused
    }
}

/// A reader comes to an end, asks for nothing outside of the file, and says of every byte where it belongs: batches
/// stand one behind the other, and what it finds wrong lies inside them. A block may be unreadable.
fn judge(file: &[u8]) -> Verdict {
    let bytes = file.len() as u64;
    let found = FoundFile { file: FileId::new(FileKind::Wal, SEGMENT), bytes };
    let config = Config { block_bytes: BLOCK as u32, ..Config::new(FileKind::Wal, STORE) };
    let mut reader = SegmentReader::new(config, found);
    let salt = crc32fast::hash(file) as usize;
    let blocks = file.len() / BLOCK;
    let bad = (salt.is_multiple_of(3) && blocks > 1).then(|| 1 + salt % (blocks - 1));
    let (mut end, mut batches, mut started) = (0, 0, false);
    // A read for each piece of a batch, and the batch itself.
    for _ in 0..16 + 8 * blocks {
        match reader.go_on() {
            Reading::Read(range) => {
                let empty = bytes == 0 && range.start == 0;
                assert!(empty || range.start < range.end.min(bytes), "{range:?} of {bytes} bytes");
                let (piece, bad) = read(file, &range, bad);
                reader.feed(&range, &piece, bad);
            }
            Reading::Start { header, intact } => {
                assert!(!started && (header.is_some() || !intact));
                started = true;
            }
            Reading::Batch(batch) => {
                let (offset, upto) = (batch.header.offset, batch.header.end());
                assert!(started && batch.from >= end && batch.from <= offset, "{:?}", batch.header);
                assert!(offset < upto && upto <= bytes, "{:?} in {bytes} bytes", batch.header);
                (end, batches) = (upto, batches + 1);
                let flaws = reader.flaws(&batch);
                let entries: Vec<_> = batch.entries.iter().flatten().collect();
                let lost = entries.iter().filter(|entry| payload(&batch, entry).is_none()).count();
                assert!(flaws.len() >= lost.min(1), "{lost} payloads lost, and nothing wrong");
            }
            Reading::End { from, dirt, .. } => {
                // Nothing but a header, which says how long the first block is: the file may end in it.
                let within = from <= bytes || batches == 0;
                assert!(from >= end && within, "{from} behind {end} of {bytes} bytes");
                assert!(dirt.is_none_or(|dirt| dirt.start >= from && dirt.end <= bytes));
                return if batches > 0 { Verdict::Accepted } else { Verdict::Refused };
            }
            Reading::Refused(why) => {
                assert!(!why.is_empty());
                return Verdict::Refused;
            }
        }
    }
    panic!("no end after {batches} batches in {blocks} blocks");
}

/// What a device gives for this range when it can't read one block, and what of it that is.
fn read(
    file: &[u8],
    range: &std::ops::Range<u64>,
    bad: Option<usize>,
) -> (Bytes, std::ops::Range<u64>) {
    let start = (range.start as usize).min(file.len());
    let end = (range.end as usize).min(file.len());
    let mut piece = file[start..end].to_vec();
    let Some(bad) = bad else { return (piece.into(), 0..0) };
    let (from, to) = ((bad * BLOCK).clamp(start, end), ((bad + 1) * BLOCK).clamp(start, end));
    piece[from - start..to - start].fill(0);
    let bad = if from < to { from as u64..to as u64 } else { 0..0 };
    (piece.into(), bad)
}
