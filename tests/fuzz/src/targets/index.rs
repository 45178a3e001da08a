//! Snapshots of the index, as a boot loads them.

use crate::alone::{Alone, octets, read_file};
use crate::{Target, Verdict, le_u32, put_u32};
use ironseed_core::kv::api::{Expect, KvRequest};
use ironseed_core::kv::batch::{Roster, Seat};
use ironseed_core::kv::index::IndexHead;
use ironseed_core::kv::replay::Replay;
use ironseed_core::kv::table::Table;
use ironseed_core::machine::{FileId, FileKind, FoundFile, Io, IoDone, IoResult};
use ironseed_core::node::offline::{Doubt, Indexed, load_index};
use ironseed_core::node::superblock::{Superblock, newest};
use ironseed_core::object::api::Request;
use ironseed_core::planted::Planted;
use ironseed_core::types::NodeId;
use ironseed_core::wal::record::SEGMENT_HEADER_BYTES;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

/// Before a block's payload, and the footer: docs/formats.md, written down once more.
const PREAMBLE_BYTES: usize = 9;
const FOOTER_BYTES: usize = 24;
/// No key of a record is longer: an object's at its limit, every byte of it escaped, between a bucket and an upload.
const KEY_BYTES_MAX: usize = 2 * 1024 + 19;

pub(super) const INDEX: Target = Target {
    name: "index",
    runs: 8_000,
    about: "a snapshot of the index, with true checksums and without",
    seeds: || {
        let store = Store::filled();
        let mut seeds = store.snapshots.clone();
        // Those that were replaced bear other numbers.
        seeds.iter_mut().for_each(|seed| store.reseal(seed));
        seeds
    },
    dictionary: &[b"IRONIDX\n"],
    bytes_max: 12 << 10,
    // A list is as long as it says, up to 16 MiB of it, until its items are looked for.
    memory_max: 40 << 20,
    run: |input| {
        let store = Store::filled();
        let raw = store.judge(input);
        let mut sealed = input.to_vec();
        store.reseal_footer(&mut sealed);
        let footed = store.judge(&sealed);
        store.reseal(&mut sealed);
        if [raw, footed, store.judge(&sealed)].contains(&Verdict::Accepted) {
            Verdict::Accepted
        } else {
            Verdict::Refused
        }
    },
};

/// A store with a few segments of its table log, and the snapshots that were written on the way.
struct Store {
    superblock: Superblock,
    /// All of it but its snapshots.
    files: Vec<FoundFile>,
    /// The first bytes of segments.
    headers: BTreeMap<FileId, Vec<u8>>,
    snapshots: Vec<Vec<u8>>,
    /// What the last of them is called.
    file: FileId,
}

impl Store {
    fn filled() -> &'static Self {
        static FILLED: OnceLock<Store> = OnceLock::new();
        FILLED.get_or_init(Self::fill)
    }

    fn fill() -> Self {
        let mut alone = Alone::indexing();
        let bucket = Request::CreateBucket { bucket: "bucket".into() };
        assert!(alone.ask(bucket).is_ok());
        let mut snapshots = BTreeMap::new();
        for number in 0..40_u8 {
            let (key, value) = (format!("a key/{number:02}"), vec![number; 16_000]);
            let (key, value) = (octets(key.as_bytes()), octets(&value));
            let put = KvRequest::Put { key, value, expect: Expect::Any };
            assert!(alone.ask(Request::Kv(put)).is_ok());
            if number % 5 == 0 {
                let key = format!("{number}/object");
                alone.put("bucket", &key, b"its body").expect("nothing is wrong");
            }
            alone.rest(600);
            let found = alone.disk.found().into_iter();
            for it in found.filter(|it| it.file.kind == FileKind::Index) {
                snapshots.insert(it.file, read_file(&mut alone.disk, it.file, it.bytes));
            }
        }
        let (index, files): (Vec<_>, Vec<_>) =
            alone.disk.found().into_iter().partition(|it| it.file.kind == FileKind::Index);
        let file = index.last().expect("it has written some").file;
        let mut headers = BTreeMap::new();
        for it in files.iter().filter(|it| it.file.kind == FileKind::Table) {
            let header = read_file(&mut alone.disk, it.file, SEGMENT_HEADER_BYTES as u64);
            headers.insert(it.file, header);
        }
        let of = |it: &&FoundFile| it.file.kind == FileKind::Superblock;
        let superblock = *files.iter().find(of).expect("it was founded");
        let superblock = read_file(&mut alone.disk, superblock.file, superblock.bytes);
        let (_, superblock) = newest(&superblock).expect("nothing is damaged");
        let snapshots = snapshots.into_values().collect();
        Self { superblock, files, headers, snapshots, file }
    }

    /// Versions, checksums and the footer as they should be, and lengths that fit: the last block is the one that ends
    /// where the footer begins.
    fn reseal(&self, file: &mut [u8]) {
        let Some(end) = file.len().checked_sub(FOOTER_BYTES) else { return };
        let (mut at, mut last) = (0, None);
        for number in 0_u32.. {
            let Some(room) = end.checked_sub(at + PREAMBLE_BYTES) else { break };
            let length = (le_u32(file, at + 1) as usize).min(room);
            let length = if room - length < PREAMBLE_BYTES { room } else { length };
            file[at] = 1;
            put_u32(file, at + 1, length as u32);
            let payload = at + PREAMBLE_BYTES..at + PREAMBLE_BYTES + length;
            let crc = self.crc(&[&number.to_le_bytes(), &file[at..at + 5], &file[payload.clone()]]);
            put_u32(file, at + 5, crc);
            last = Some((at, number));
            at = payload.end;
        }
        let Some((tail_at, tail_block)) = last else { return };
        file[end + 8..end + 16].copy_from_slice(&(tail_at as u64).to_le_bytes());
        put_u32(file, end + 16, tail_block);
        self.reseal_footer(file);
    }

    /// Magic and checksum of the footer alone.
    fn reseal_footer(&self, file: &mut [u8]) {
        let Some(at) = file.len().checked_sub(FOOTER_BYTES) else { return };
        let footer = &mut file[at..];
        footer[..8].copy_from_slice(b"IRONIDX\n");
        let crc = self.crc(&[b"footer", &footer[..20]]);
        put_u32(footer, 20, crc);
    }

    fn crc(&self, pieces: &[&[u8]]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.superblock.store.0);
        hasher.update(b"index");
        hasher.update(&self.file.number.to_le_bytes());
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finalize()
    }

    /// Loads a snapshot. Nothing outside of it is read, and nothing of it twice.
    fn load(&self, bytes: &[u8]) -> Result<Indexed, Doubt> {
        let snapshot = FoundFile { file: self.file, bytes: bytes.len() as u64 };
        let mut sum = 0;
        let read = |io: &Io| -> IoResult {
            let Io::Read { file, offset, len } = io else { panic!("{io:?} to load a snapshot") };
            let from = if *file == self.file {
                sum += u64::from(*len);
                bytes
            } else {
                &self.headers[file]
            };
            let data = from.get(*offset as usize..).and_then(|rest| rest.get(..*len as usize));
            let data = data.unwrap_or_else(|| panic!("{io:?} of {} bytes", from.len()));
            Ok(IoDone::Data(data.to_vec().into()))
        };
        let loaded = load_index(&self.superblock, &self.files, snapshot, read);
        assert!(sum <= bytes.len() as u64, "{sum} bytes read of {}", bytes.len());
        loaded.expect("the store is a member's")
    }

    fn judge(&self, bytes: &[u8]) -> Verdict {
        let indexed = match self.load(bytes) {
            Ok(indexed) => indexed,
            Err(doubt) => {
                assert!(!doubt.to_string().is_empty());
                return Verdict::Refused;
            }
        };
        self.check(&indexed, bytes.len());
        let at = crc32fast::hash(bytes) as usize % (bytes.len() * 8);
        let mut flipped = bytes.to_vec();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(self.load(&flipped).is_err(), "bit {at} flipped");
        Verdict::Accepted
    }

    /// What is loaded fits together, and is no more than the bytes can hold.
    fn check(&self, indexed: &Indexed, bytes: usize) {
        let mut records = 0;
        for (group, head, table) in indexed.groups() {
            records += check_table(head, table);
            let roster = Arc::new(Roster::founding(&[NodeId(1)]));
            let seat = Seat { group, roster, planted: Planted::NONE };
            // A boot goes on from here with frames, of which there need not be any.
            if let Ok(state) = Replay::loaded(seat, head, table.clone()).finish() {
                assert_eq!(state.export().head().records, head.records, "{group}");
            }
        }
        assert_eq!(records, indexed.records());
        assert!(records as usize <= bytes, "{records} records in {bytes} bytes");
        let segments = indexed.segments();
        assert!(
            !segments.is_empty() && segments.is_sorted_by(|one, other| one.number < other.number)
        );
        for stat in segments {
            let file = FileId::new(FileKind::Table, stat.number);
            let found = FoundFile { file, bytes: stat.capacity };
            assert!(self.files.contains(&found), "{stat:?} in {:?}", self.files);
        }
        let mut frames = 0;
        for (group, location) in indexed.frames() {
            assert!(
                segments.iter().any(|it| it.number == location.segment),
                "{group} {location:?}"
            );
            frames += 1;
        }
        assert!(frames <= bytes, "{frames} frames in {bytes} bytes");
    }
}

/// Keys rise and are as long as keys may be, every body has a place, and the sums over segments are those of the
/// records. (The digest is taken as it is: no boot has the time to hash every record.)
fn check_table(head: &IndexHead, table: &Table) -> u64 {
    let (mut before, mut live): (Option<&[u8]>, BTreeMap<u64, u64>) = (None, BTreeMap::new());
    for (key, slot) in table.scan(&[], Bound::Unbounded) {
        assert!(before < Some(key), "{key:?} behind {before:?}");
        assert!(key.len() <= KEY_BYTES_MAX, "a key of {} bytes", key.len());
        let location = slot.body.location().expect("nothing else is in a snapshot");
        *live.entry(location.segment).or_default() += 1;
        assert_eq!(table.get(key), Some(slot));
        before = Some(key);
    }
    for (segment, records) in &live {
        assert_eq!(table.live(*segment).records, *records, "in segment {segment}");
    }
    let records: u64 = live.values().sum();
    assert!(table.segments().eq(live.into_keys()));
    assert_eq!((table.len() as u64, head.records, table.digest()), (records, records, head.digest));
    records
}
