//! The superblock, and the batches and headers of segments.

use crate::{Target, Verdict, le_u32, put_u32};
use bytes::Bytes;
use ironseed_core::machine::FileKind;
use ironseed_core::node::api::{Engine, Founding, FsyncPolicy};
use ironseed_core::node::superblock::{
    COPY_BYTES, Charter, CopyError, Membership, Superblock, decode_copy, encode_copy, newest,
};
use ironseed_core::object::charter::Chartered;
use ironseed_core::raft::Standing;
use ironseed_core::types::{ClusterId, GroupId, Incarnation, Index, NodeId, StoreId, Term};
use ironseed_core::wal::record::{
    BATCH_HEADER_BYTES, BatchHeader, Place, SEGMENT_HEADER_BYTES, Seal, SegmentHeader,
    decode_batch, encode_batch, kind_code,
};
use ironseed_core::wal::{Identity, Record};

pub(super) const STORE: [u8; 16] = [7; 16];

pub(super) const SUPERBLOCK: Target = Target {
    name: "superblock",
    runs: 20_000,
    about: "both copies of a superblock, with true checksums and without",
    seeds: || {
        let founding = || Founding {
            cluster: ClusterId([9; 16]),
            access_key: "access".into(),
            secret_key: "secret".into(),
        };
        let chartered = |node| {
            let store = StoreId([node as u8; 16]);
            Chartered { node: NodeId(node), store, generation: node }
        };
        let charter = Charter {
            founding: founding(),
            version: 4,
            nodes: (1..=3).map(chartered).collect(),
            shards: 256,
            replication: 3,
        };
        let memberships =
            [Membership::Blank, Membership::Founder(founding()), Membership::Member(charter)];
        let blocks = memberships.map(|membership| Superblock {
            node: NodeId(2),
            store: StoreId(STORE),
            incarnation: Incarnation(3),
            clean: true,
            fsync: FsyncPolicy::Interval(ironseed_core::machine::Duration::from_millis(100)),
            engine: Engine::Native,
            standing: Standing::Abstaining,
            logs: true,
            scrubbed: ironseed_core::node::scrub::Scrubbed::default(),
            membership,
        });
        let copies = blocks.iter().zip(8..).map(|(block, sequence)| encode_copy(block, sequence));
        let copies: Vec<Bytes> = copies.collect();
        copies.windows(2).map(<[Bytes]>::concat).chain([copies[2].to_vec()]).collect()
    },
    dictionary: &[b"IRONSEED"],
    bytes_max: 2 * COPY_BYTES,
    memory_max: 64 << 20,
    run: superblock,
};

fn superblock(input: &[u8]) -> Verdict {
    let raw = judge_superblock(input);
    let mut sealed = input.to_vec();
    sealed.chunks_mut(COPY_BYTES).for_each(reseal_copy);
    match judge_superblock(&sealed) {
        Verdict::Refused => raw,
        Verdict::Accepted => Verdict::Accepted,
    }
}

/// Magic, version and both checksums as they should be, and a length that fits.
fn reseal_copy(copy: &mut [u8]) {
    const HEADER_BYTES: usize = 30;
    let Some(room) = copy.len().checked_sub(HEADER_BYTES) else { return };
    copy[..8].copy_from_slice(b"IRONSEED");
    copy[8..10].copy_from_slice(&ironseed_core::node::superblock::FORMAT_VERSION.to_le_bytes());
    let payload = (le_u32(copy, 10) as usize).min(room);
    put_u32(copy, 10, payload as u32);
    let crc = crc32fast::hash(&copy[HEADER_BYTES..HEADER_BYTES + payload]);
    put_u32(copy, 14, crc);
    let crc = crc32fast::hash(&copy[..26]);
    put_u32(copy, 26, crc);
}

/// The newest good copy is taken, comes back as it is written, and passes with no bit flipped.
fn judge_superblock(file: &[u8]) -> Verdict {
    for copy in file.chunks_exact(COPY_BYTES) {
        let Ok((sequence, block)) = decode_copy(copy) else { continue };
        let again = encode_copy(&block, sequence);
        assert_eq!(decode_copy(&again), Ok((sequence, block)));
        let covered = 30 + le_u32(copy, 10) as usize;
        let at = crc32fast::hash(copy) as usize % (covered * 8);
        let mut flipped = copy.to_vec();
        flipped[at / 8] ^= 1 << (at % 8);
        assert_eq!(decode_copy(&flipped), Err(CopyError::Damaged), "bit {at} flipped");
    }
    match newest(file) {
        Ok((sequence, _)) => {
            let copies = file.chunks_exact(COPY_BYTES).filter_map(|copy| decode_copy(copy).ok());
            let highest = copies.map(|(sequence, _)| sequence).max();
            assert_eq!(highest, Some(sequence));
            Verdict::Accepted
        }
        Err(why) => {
            assert!(!why.to_string().is_empty());
            Verdict::Refused
        }
    }
}

pub(super) const WAL_BATCH: Target = Target {
    name: "wal-batch",
    runs: 20_000,
    about: "a batch or a header of a segment, with true checksums and without",
    seeds: || {
        let record = |kind, index, note: &'static [u8], payload: &'static [u8]| {
            let identity = Identity { kind, group: GroupId(3), index: Index(index), term: Term(2) };
            let note = Bytes::from_static(note);
            Record { note, ..Record::new(identity, Bytes::from_static(payload)) }
        };
        let place =
            Place { segment: SEGMENT, offset: 8192, seq: 17, synced_seq: 15, block_bytes: 512 };
        let batches = [
            vec![],
            vec![record(1, 9, b"", b"one payload")],
            vec![
                record(1, 9, b"", b""),
                record(2, 10, &[5; 32], &[1; 700]),
                record(3, 0, b"n", b"x"),
            ],
        ];
        let mut seeds: Vec<Vec<u8>> =
            batches.map(|batch| encode_batch(batch, place, &seal()).data.concat()).into();
        let header = SegmentHeader {
            version: 1,
            kind: kind_code(FileKind::Wal),
            block_bytes: 512,
            segment: SEGMENT,
            store: STORE,
            first_seq: 12,
            previous: 3,
        };
        seeds.push(header.encode().to_vec());
        seeds
    },
    dictionary: &[b"ISbh", b"ISbt", b"IRONSEG\n"],
    bytes_max: 16 << 10,
    memory_max: 64 << 20,
    run: wal_batch,
};

/// The segment that every batch is to be of.
pub(super) const SEGMENT: u64 = 4;

pub(super) fn seal() -> Seal {
    Seal::new(&STORE, FileKind::Wal)
}

fn wal_batch(input: &[u8]) -> Verdict {
    let raw = judge_batch(input);
    let mut sealed = input.to_vec();
    reseal_batch(&mut sealed);
    let batch = judge_batch(&sealed);
    reseal_header(&mut sealed);
    let accepted = [raw, batch, judge_header(input), judge_header(&sealed)];
    if accepted.contains(&Verdict::Accepted) { Verdict::Accepted } else { Verdict::Refused }
}

/// Magic and checksums of head, directory and tail as they should be.
pub(super) fn reseal_batch(batch: &mut [u8]) {
    if batch.len() < 2 * BATCH_HEADER_BYTES {
        return;
    }
    // Two lengths decide where the rest is; mutated freely they would hide all that lies behind.
    let length = (le_u32(batch, 40) as usize).clamp(2 * BATCH_HEADER_BYTES, batch.len());
    let room = (length - 2 * BATCH_HEADER_BYTES) / 2;
    let directory = BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + (le_u32(batch, 44) as usize).min(room);
    let crc = crc32fast::hash(&batch[directory.clone()]);
    batch[8..16].copy_from_slice(&SEGMENT.to_le_bytes());
    put_u32(batch, 40, length as u32);
    put_u32(batch, 44, directory.len() as u32);
    put_u32(batch, 56, crc);
    batch[..4].copy_from_slice(b"ISbh");
    let mut covered = STORE.to_vec();
    covered.push(kind_code(FileKind::Wal));
    covered.extend_from_slice(&batch[8..BATCH_HEADER_BYTES]);
    put_u32(batch, 4, crc32fast::hash(&covered));
    let tail = length - BATCH_HEADER_BYTES;
    let entries = batch[directory.clone()].to_vec();
    batch.copy_within(..BATCH_HEADER_BYTES, tail);
    batch[tail..tail + 4].copy_from_slice(b"ISbt");
    batch[tail - entries.len()..tail].copy_from_slice(&entries);
}

pub(super) fn reseal_header(header: &mut [u8]) {
    if header.len() >= SEGMENT_HEADER_BYTES {
        header[..8].copy_from_slice(b"IRONSEG\n");
        let crc = crc32fast::hash(&header[..60]);
        put_u32(header, 60, crc);
    }
}

/// A batch that is taken has all of its records inside, the same ones in both directories, and its payloads
/// are written again as they were.
fn judge_batch(bytes: &[u8]) -> Verdict {
    let _ = BatchHeader::decode_tail(bytes, &seal(), SEGMENT);
    let Some((header, judged)) = decode_batch(bytes, &seal(), SEGMENT) else {
        return Verdict::Refused;
    };
    assert_eq!(judged.len(), header.records as usize);
    let batch = &bytes[..header.batch_bytes as usize];
    let mut next = header.offset + header.directory().end as u64;
    for (entry, _) in &judged {
        assert_eq!((entry.location.segment, entry.location.offset), (header.segment, next));
        next += u64::from(entry.location.bytes);
    }
    assert!(next <= header.end(), "payloads up to {next} in {header:?}");
    let good = |(_, good): &(_, bool)| *good;
    if judged.iter().all(good) && header.offset.is_multiple_of(512) {
        let records = judged.into_iter().map(|(entry, _)| {
            let at = (entry.location.offset - header.offset) as usize;
            let payload = &batch[at..at + entry.location.bytes as usize];
            let payload = Bytes::copy_from_slice(payload);
            Record { note: entry.note, ..Record::new(entry.identity, payload) }
        });
        let BatchHeader { segment, offset, seq, synced_seq, .. } = header;
        let place = Place { segment, offset, seq, synced_seq, block_bytes: 512 };
        let again = encode_batch(records.collect(), place, &seal());
        assert_eq!(again.header.directory_crc, header.directory_crc);
    }
    flip(batch, &header);
    Verdict::Accepted
}

/// A flipped bit in the head hides the batch from whoever reads from its front.
fn flip(batch: &[u8], header: &BatchHeader) {
    let at = crc32fast::hash(batch) as usize % (BATCH_HEADER_BYTES * 8);
    let mut flipped = batch.to_vec();
    flipped[at / 8] ^= 1 << (at % 8);
    let found = BatchHeader::decode_head(&flipped, &seal(), SEGMENT);
    assert_eq!(found, None, "bit {at} of the head of {header:?}");
}

fn judge_header(bytes: &[u8]) -> Verdict {
    let Some(header) = SegmentHeader::decode(bytes) else { return Verdict::Refused };
    assert_eq!(SegmentHeader::decode(&header.encode()), Some(header));
    let at = crc32fast::hash(bytes) as usize % (SEGMENT_HEADER_BYTES * 8);
    let mut flipped = bytes[..SEGMENT_HEADER_BYTES].to_vec();
    flipped[at / 8] ^= 1 << (at % 8);
    assert_eq!(SegmentHeader::decode(&flipped), None, "bit {at} of {header:?}");
    Verdict::Accepted
}
