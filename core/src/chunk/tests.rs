//! What the store promises, on a disk that keeps to the contract and no more.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that panics has said what it has to say"
)]

use super::{
    ChunkOutput, ChunkRecovery, ChunkRecoveryOutput, ChunkStore, ChunkTrace, Config, Put, ReadId,
    Wanted,
};
use crate::machine::{
    Duration, FileId, FileKind, Hashed, Instant, IoDone, IoError, IoResult, OpIds,
};
use crate::rng::Rng;
use crate::types::{BlobId, ChunkId, Damage, Index, OpId, ShardId};
use crate::wal::tests::disk::Disk;
use crate::wal::{self, Lsn};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

fn config() -> Config {
    let log = wal::Config {
        segment_bytes: 16 << 10,
        block_bytes: 512,
        batch_bytes_max: 4 << 10,
        ..wal::Config::new(FileKind::Chunk, [3; 16])
    };
    Config { slice_items: 4, ..Config::new(log) }
}

fn blob(n: u64) -> BlobId {
    BlobId { home: ShardId((n % 3) as u16), opened: Index(n) }
}

/// Chunk `n` of a blob: the name and the bytes.
fn chunk(of: u64, n: u64, bytes: usize) -> (ChunkId, Bytes) {
    let mut content = vec![0; bytes];
    Rng::new(of * 1_000_003 + n).fill(&mut content);
    let content = Bytes::from(content);
    (ChunkId { blob: blob(of), hash: Hashed::of(&content).hash }, content)
}

struct Rig {
    disk: Disk,
    store: ChunkStore,
    ops: OpIds,
    rng: Rng,
    now: Instant,
    hashes: Vec<(OpId, Bytes)>,
    out: Vec<ChunkOutput>,
}

fn recover(disk: &mut Disk, config: &Config, rng: &mut Rng) -> ChunkStore {
    let mut ops = OpIds::new(1, 1);
    let mut recovery = ChunkRecovery::new(config.clone(), &disk.found());
    let mut out = Vec::new();
    recovery.start(&mut ops, &mut out);
    loop {
        for output in core::mem::take(&mut out) {
            match output {
                ChunkRecoveryOutput::Io(op) => disk.submit(op),
                ChunkRecoveryOutput::Finished(store) => return *store,
                ChunkRecoveryOutput::Damage(damage) => panic!("no rot here: {damage:?}"),
                ChunkRecoveryOutput::Failed(halt) => panic!("{halt:?}"),
            }
        }
        let (op, result) = disk.complete(rng).expect("recovery stalls");
        assert!(recovery.on_done(op, &result, &mut ops, &mut out));
    }
}

impl Rig {
    fn new(seed: u64) -> Self {
        let (mut disk, mut rng) = (Disk::default(), Rng::new(seed));
        let store = recover(&mut disk, &config(), &mut rng);
        let (hashes, out) = (Vec::new(), Vec::new());
        Self { disk, store, ops: OpIds::new(1, 1), rng, now: Instant(0), hashes, out }
    }

    fn take(&mut self, out: Vec<ChunkOutput>) {
        for output in out {
            match output {
                ChunkOutput::Io(op) => self.disk.submit(op),
                ChunkOutput::Hash { op, bytes } => self.hashes.push((op, bytes)),
                other => self.out.push(other),
            }
        }
    }

    fn pump(&mut self) {
        let mut out = Vec::new();
        self.store.pump(self.now, &mut self.ops, &mut out);
        self.take(out);
    }

    /// Completes any one operation.
    fn complete(&mut self) -> bool {
        let hash_first = self.disk.is_idle() || self.rng.chance(1, 2);
        let (op, result): (OpId, IoResult) = if hash_first && !self.hashes.is_empty() {
            let which = self.rng.below(self.hashes.len() as u64) as usize;
            let (op, bytes) = self.hashes.swap_remove(which);
            (op, Ok(IoDone::Hashed(Hashed::of(&bytes))))
        } else if let Some(done) = self.disk.complete(&mut self.rng) {
            done
        } else {
            return false;
        };
        let mut out = Vec::new();
        assert!(self.store.on_done(self.now, op, &result, &mut self.ops, &mut out));
        self.take(out);
        true
    }

    /// Runs until nothing is under way and no work is left but what waits for time.
    fn run(&mut self) {
        self.pump();
        for _ in 0..100_000 {
            let due = self.store.deadline().is_some_and(|at| at <= self.now);
            if due {
                self.pump();
            }
            if !self.complete() && !due {
                return;
            }
        }
        panic!("never quiet: {:?}", self.store.stats());
    }

    fn put(&mut self, (id, bytes): &(ChunkId, Bytes)) -> Put {
        self.store.put(*id, bytes.clone(), Hashed::of(bytes))
    }

    fn get(&mut self, id: ChunkId) -> Option<ReadId> {
        let mut out = Vec::new();
        let read = self.store.get(id, &mut self.ops, &mut out);
        self.take(out);
        read
    }

    fn read(&mut self, id: ChunkId) -> Option<Result<Bytes, Damage>> {
        let read = self.get(id)?;
        self.run();
        self.out.iter().rev().find_map(|output| match output {
            ChunkOutput::Read { id, result, .. } if *id == read => Some(result.clone()),
            _ => None,
        })
    }

    fn restart(&mut self, power_loss: bool) {
        if power_loss {
            self.disk.power_loss(&mut self.rng)
        } else {
            self.disk.kill(&mut self.rng)
        }
        self.hashes.clear();
        self.store = recover(&mut self.disk, &config(), &mut self.rng);
        self.ops = OpIds::new(1, 1);
    }

    fn traced(&self, wanted: impl Fn(&ChunkTrace) -> bool) -> usize {
        let is_wanted =
            |it: &&ChunkOutput| matches!(it, ChunkOutput::Trace(trace) if wanted(trace));
        self.out.iter().filter(is_wanted).count()
    }

    /// Counts again what the store accounts for.
    fn audit(&self) {
        let mut counted = BTreeMap::<u64, (u64, u64)>::new();
        for location in self.store.index.values() {
            let (chunks, bytes) = counted.entry(location.segment).or_default();
            *chunks += 1;
            *bytes += u64::from(location.bytes);
        }
        for segment in self.store.log.segments() {
            let of = counted.remove(&segment.number).unwrap_or_default();
            assert_eq!(self.store.live.of(segment.number), of, "segment {}", segment.number);
        }
        assert!(counted.is_empty(), "chunks in segments that are gone: {counted:?}");
        let bytes: u64 = self.store.index.values().map(|it| u64::from(it.bytes)).sum();
        assert_eq!(self.store.stats().live_bytes, bytes);
    }
}

#[test]
fn a_stored_chunk_reads_back_and_survives_a_power_loss() {
    let mut rig = Rig::new(1);
    let chunks: Vec<_> = (0..20).map(|n| chunk(n % 4, n, 50 + n as usize * 70)).collect();
    for it in &chunks {
        assert!(!rig.store.has(it.0));
        assert!(matches!(rig.put(it), Put::Queued(_)));
    }
    // A read doesn't wait for the disk, and a second put is the first.
    assert_eq!(rig.put(&chunks[3]), Put::Queued(Lsn(4)));
    assert_eq!(rig.read(chunks[3].0), Some(Ok(chunks[3].1.clone())));
    rig.run();
    let stored = rig.out.iter().filter(|it| matches!(it, ChunkOutput::Stored { .. })).count();
    assert_eq!(stored, 20);
    for power_loss in [false, true] {
        for it in &chunks {
            assert!(rig.store.has(it.0));
            assert_eq!(rig.put(it), Put::Durable);
            assert_eq!(rig.read(it.0), Some(Ok(it.1.clone())));
        }
        rig.restart(power_loss);
    }
    assert_eq!(rig.read(chunk(1, 99, 10).0), None);
    assert_eq!(rig.store.blobs(None, 10), [blob(0), blob(3), blob(1), blob(2)]);
    assert_eq!(rig.store.blobs(Some(blob(3)), 1), [blob(1)]);
    assert_eq!(rig.store.stats().chunks, 20);
    rig.audit();
}

#[test]
fn nothing_is_stored_before_its_sync() {
    let mut rig = Rig::new(2);
    let it = chunk(1, 1, 300);
    rig.put(&it);
    rig.pump();
    while rig.disk.syncs < 2 {
        // One sync is the segment's own, before its first write.
        assert!(!rig.store.has(it.0));
        assert!(rig.complete());
    }
    assert!(rig.store.has(it.0));
}

#[test]
fn dropped_blobs_give_their_segments_back() {
    let mut rig = Rig::new(3);
    for n in 0..60 {
        let it = chunk(n / 20, n, 1_000);
        rig.put(&it);
        rig.run();
    }
    let before = rig.store.stats().disk_bytes;
    for of in 0..2 {
        rig.store.drop_blob(blob(of));
        // Gone at once, whatever the slices take.
        assert!(rig.store.blobs(None, 9).contains(&blob(of)));
        assert!(!rig.store.has(chunk(of, of * 20, 1_000).0));
        assert_eq!(rig.get(chunk(of, of * 20, 1_000).0), None);
    }
    assert_eq!(rig.store.deadline(), Some(rig.now), "work is left");
    let chunks = rig.store.stats().chunks;
    rig.pump();
    assert_eq!(chunks - rig.store.stats().chunks, 4, "one slice a step");
    rig.run();
    assert_eq!(rig.store.stats().chunks, 20);
    assert!(rig.store.stats().disk_bytes * 2 < before + (16 << 10), "{:?}", rig.store.stats());
    rig.audit();
    rig.restart(true);
    assert_eq!(rig.store.blobs(None, 9), [blob(2)]);
}

#[test]
fn a_sparse_segment_is_compacted_and_its_chunks_stay_readable() {
    let mut rig = Rig::new(4);
    // Every fourth chunk lives on.
    let chunks: Vec<_> = (0..64).map(|n| chunk(n % 4, n, 900)).collect();
    for it in &chunks {
        rig.put(it);
        rig.run();
    }
    for of in 1..4 {
        rig.store.drop_blob(blob(of));
    }
    rig.run();
    assert!(rig.traced(|trace| matches!(trace, ChunkTrace::Moved(_))) > 0);
    let stats = rig.store.stats();
    assert_eq!(stats.chunks, 16);
    assert!(stats.disk_bytes <= 3 * (16 << 10), "{stats:?}");
    rig.audit();
    rig.restart(true);
    for it in chunks.iter().step_by(4) {
        assert_eq!(rig.read(it.0), Some(Ok(it.1.clone())));
    }
    rig.audit();
}

#[test]
fn a_read_under_way_keeps_its_segment() {
    let mut rig = Rig::new(5);
    let first = chunk(1, 0, 900);
    rig.put(&first);
    rig.run();
    for n in 1..30 {
        let it = chunk(2, n, 900);
        rig.put(&it);
        rig.run();
    }
    let segment = rig.store.index[&first.0].segment;
    rig.store.drop_blob(blob(2));
    let read = rig.get(first.0).unwrap();
    rig.store.drop_blob(blob(1));
    // Everything but the read itself is done.
    for _ in 0..50 {
        rig.pump();
    }
    assert!(rig.store.log.segment(segment).is_some(), "the read's file is still there");
    rig.run();
    let answer = ChunkOutput::Read { id: read, chunk: first.0, result: Ok(first.1) };
    assert!(rig.out.contains(&answer));
    assert!(rig.store.log.segment(segment).is_none());
}

#[test]
fn rot_is_reported_missed_and_healed() {
    let mut rig = Rig::new(6);
    let it = chunk(1, 1, 700);
    rig.put(&it);
    rig.run();
    let location = rig.store.index[&it.0];
    let file = FileId::new(FileKind::Chunk, location.segment);
    rig.disk.flip(file, location.offset as usize + 99, 0x10);
    let damage = rig.read(it.0).unwrap().unwrap_err();
    assert_eq!((damage.file, damage.offset), (file, location.offset));
    assert!(rig.out.contains(&ChunkOutput::Lost { chunk: it.0, damage }));
    assert!(!rig.store.has(it.0));
    let missing: Vec<_> = rig.store.missing(None, 9).collect();
    assert_eq!(missing, [(it.0, Wanted { bytes: 700, holders: 0 })]);
    // A peer's copy comes.
    assert!(matches!(rig.put(&it), Put::Queued(_)));
    rig.run();
    assert_eq!(rig.read(it.0), Some(Ok(it.1.clone())));
    assert_eq!(rig.store.stats().missing, 0);
    assert_eq!(rig.traced(|trace| matches!(trace, ChunkTrace::Healed(_))), 1);
    rig.audit();
    // After a restart the later copy counts.
    rig.restart(true);
    assert_eq!(rig.read(it.0), Some(Ok(it.1)));
}

#[test]
fn rot_that_nobody_reads_is_found_by_verifying() {
    let mut rig = Rig::new(16);
    let mut chunks: Vec<_> = (1..=3).map(|n| chunk(n, n, 700)).collect();
    chunks.sort_by_key(|it| it.0);
    for it in &chunks {
        rig.put(it);
    }
    rig.run();
    rig.now = rig.now + Duration::from_secs(60);
    rig.run();
    let rotten = rig.store.index[&chunks[1].0];
    let file = FileId::new(FileKind::Chunk, rotten.segment);
    rig.disk.flip(file, rotten.offset as usize, 1);
    let mut verified = Vec::new();
    let mut after = None;
    while let Some((next, bytes)) = rig.store.next_chunk(after) {
        assert_eq!(bytes, 700);
        let mut out = Vec::new();
        assert!(rig.store.verify(next, &mut rig.ops, &mut out));
        assert!(rig.store.is_settled(), "nobody waits for it");
        rig.take(out);
        rig.run();
        let ended = |it: &ChunkOutput| match it {
            ChunkOutput::Verified { chunk, is_good } if *chunk == next => Some(*is_good),
            _ => None,
        };
        verified.extend(rig.out.iter().find_map(ended));
        after = Some(next);
    }
    assert_eq!(verified, [true, false, true]);
    assert!(!rig.store.has(chunks[1].0) && rig.store.stats().missing == 1);
    rig.store.drop_blob(chunks[0].0.blob);
    assert!(!rig.store.verify(chunks[0].0, &mut rig.ops, &mut Vec::new()), "it is on its way out");
}

#[test]
fn a_read_that_fails_once_loses_nothing() {
    let mut rig = Rig::new(7);
    let it = chunk(1, 1, 700);
    rig.put(&it);
    rig.run();
    let location = rig.store.index[&it.0];
    let file = FileId::new(FileKind::Chunk, location.segment);
    rig.disk.flip(file, location.offset as usize, 1);
    assert!(rig.read(it.0).unwrap().is_err());
    rig.disk.flip(file, location.offset as usize, 1);
    assert_eq!(rig.read(it.0), Some(Ok(it.1)));
    assert!(rig.store.has(it.0));
}

#[test]
fn what_is_expected_is_missing_until_it_comes_or_is_dropped() {
    let mut rig = Rig::new(8);
    let (here, away, dead) = (chunk(1, 1, 10), chunk(1, 2, 20), chunk(2, 3, 30));
    rig.put(&here);
    rig.run();
    for it in [&here, &away, &dead] {
        rig.store.expect(it.0, Wanted { bytes: it.1.len() as u32, holders: 5 });
    }
    let missing = |rig: &Rig| -> Vec<_> { rig.store.missing(None, 9).map(|(it, _)| it).collect() };
    let mut both = vec![away.0, dead.0];
    both.sort_unstable();
    assert_eq!(missing(&rig), both);
    assert_eq!(rig.store.missing(Some(both[0]), 9).count(), 1);
    rig.store.drop_blob(blob(2));
    rig.put(&away);
    rig.run();
    assert_eq!(missing(&rig), []);
    rig.store.expect(dead.0, Wanted::default());
    assert_eq!(missing(&rig), [dead.0], "the drop is over");
}

#[test]
fn a_full_disk_refuses_puts_and_keeps_reading() {
    let mut rig = Rig::new(9);
    let (first, second) = (chunk(1, 1, 600), chunk(1, 2, 600));
    rig.put(&first);
    rig.run();
    rig.disk.full = true;
    let Put::Queued(lsn) = rig.put(&second) else { panic!("it isn't there") };
    rig.run();
    assert!(rig.out.contains(&ChunkOutput::NoSpace { lsn, chunk: second.0 }));
    assert_eq!(rig.store.stats().pending_bytes, 0);
    assert!(!rig.store.has(second.0));
    assert_eq!(rig.read(first.0), Some(Ok(first.1)));
    rig.disk.full = false;
    rig.put(&second);
    rig.run();
    assert!(rig.store.has(second.0));
}

#[test]
fn compaction_rests_while_the_disk_is_full() {
    let mut rig = Rig::new(10);
    for n in 0..32 {
        let it = chunk(n % 4, n, 900);
        rig.put(&it);
        rig.run();
    }
    rig.disk.full = true;
    for of in 1..4 {
        rig.store.drop_blob(blob(of));
    }
    rig.run();
    assert_eq!(rig.traced(|trace| matches!(trace, ChunkTrace::Moved(_))), 0);
    let rests = rig.store.deadline().unwrap();
    assert!(rests > rig.now, "it doesn't spin");
    rig.disk.full = false;
    rig.now = rests;
    rig.run();
    assert!(rig.traced(|trace| matches!(trace, ChunkTrace::Moved(_))) > 0);
    assert_eq!(rig.store.stats().chunks, 8);
    rig.audit();
}

#[test]
fn a_device_error_is_damage_and_not_the_end() {
    let mut rig = Rig::new(11);
    let it = chunk(1, 1, 600);
    rig.put(&it);
    rig.run();
    rig.get(it.0).unwrap();
    let (op, _) = rig.disk.complete(&mut rig.rng).unwrap();
    let mut out = Vec::new();
    assert!(rig.store.on_done(rig.now, op, &Err(IoError::Device), &mut rig.ops, &mut out));
    assert!(matches!(out[0], ChunkOutput::Lost { .. }), "{out:?}");
    assert!(matches!(out[1], ChunkOutput::Read { result: Err(_), .. }), "{out:?}");
    assert_eq!(rig.read(it.0), Some(Ok(it.1)));
}

/// Random puts, reads, drops and crashes against a map.
#[test]
fn the_store_is_a_map_that_survives_crashes() {
    for seed in 0..120 {
        let mut rig = Rig::new(seed);
        let mut durable = BTreeMap::<ChunkId, Bytes>::new();
        let mut asked = BTreeMap::<ReadId, Bytes>::new();
        let mut dropped = BTreeSet::new();
        let mut all = Vec::<(ChunkId, Bytes)>::new();
        let mut opened = 0;
        for n in 0..500 {
            match rig.rng.below(100) {
                0..30 => {
                    opened += u64::from(rig.rng.chance(1, 6));
                    let bytes = rig.rng.below(3_000) as usize;
                    let it = chunk(opened, n, bytes);
                    rig.put(&it);
                    all.push(it);
                }
                30..45 => {
                    if let Some((id, bytes)) = rig.rng.pick(&all).cloned() {
                        let read = rig.get(id);
                        assert!(read.is_some() || !durable.contains_key(&id), "{id:?} is gone");
                        asked.extend(read.map(|read| (read, bytes)));
                    }
                }
                45..50 => {
                    let of = blob(rig.rng.below(opened + 1));
                    // A blob is dropped once, and nothing is put into it afterwards.
                    if of != blob(opened) && dropped.insert(of) {
                        rig.store.drop_blob(of);
                        durable.retain(|id, _| id.blob != of);
                        all.retain(|(id, _)| id.blob != of);
                    }
                }
                50..60 => rig.pump(),
                60..95 => {
                    rig.complete();
                }
                95 => rig.disk.full = rig.rng.chance(1, 4),
                96..98 => rig.now = rig.now + Duration::from_millis(3),
                _ => {
                    let power_loss = rig.rng.chance(1, 2);
                    rig.disk.full = false;
                    rig.restart(power_loss);
                    asked.clear();
                    // The node drops what its state doesn't know.
                    for of in dropped.iter().copied() {
                        rig.store.drop_blob(of);
                    }
                    all.retain(|(id, _)| rig.store.has(*id));
                }
            }
            for output in core::mem::take(&mut rig.out) {
                match output {
                    ChunkOutput::Stored { chunk, .. } if !dropped.contains(&chunk.blob) => {
                        let bytes = all.iter().find(|(id, _)| *id == chunk).unwrap().1.clone();
                        durable.insert(chunk, bytes);
                    }
                    ChunkOutput::Read { id, result, .. } => {
                        assert_eq!(result.as_ref().ok(), asked.remove(&id).as_ref());
                    }
                    ChunkOutput::Lost { .. } | ChunkOutput::Failed(_) => panic!("{output:?}"),
                    _ => {}
                }
            }
            assert!(durable.keys().all(|id| rig.store.has(*id)), "seed {seed} step {n}");
        }
        rig.disk.full = false;
        rig.run();
        rig.now = rig.now + Duration::from_secs(60);
        rig.run();
        rig.now = rig.now + Duration::from_secs(1);
        rig.run();
        assert!(rig.store.is_settled());
        rig.audit();
        let left = rig.store.blobs(None, usize::MAX);
        assert!(left.iter().all(|of| !dropped.contains(of)), "seed {seed}: {left:?}");
        for (id, bytes) in durable {
            assert_eq!(rig.read(id), Some(Ok(bytes)), "seed {seed}");
        }
    }
}
