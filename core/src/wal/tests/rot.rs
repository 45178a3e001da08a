//! Damage: before the mark it is reported and costs as little as possible, beyond it the log is cut.

use super::super::record::{Place, Seal, SegmentHeader, encode_batch};
use super::super::{Config, DamageKind, LogDamage, RecoveredPayload, SegmentStat};
use super::disk::Disk;
use super::{Opened, Record, Rig, assert_records, config, record, recover};
use crate::machine::{FileId, FileKind};
use crate::rng::Rng;
use alloc::vec;
use alloc::vec::Vec;

/// Three segments of batches with one to three records, all marked.
fn marked() -> (Rig, Vec<Record>) {
    let mut rig = Rig::new(&Config { segment_bytes: 4 << 10, ..config() });
    let mut records = Vec::new();
    let mut n = 0;
    for round in 0..9 {
        for _ in 0..=round % 3 {
            n += 1;
            records.push(record(n, (n * 61 % 400) as usize));
            rig.log.append(records.last().unwrap().clone());
        }
        rig.run();
    }
    rig.settle();
    assert!(rig.log.segments().count() >= 3, "{:?}", rig.log);
    (rig, records)
}

fn reopen(disk: &mut Disk) -> Opened {
    recover(disk, &Config { segment_bytes: 4 << 10, ..config() }, &mut Rng::new(3)).unwrap()
}

#[test]
fn a_flip_of_any_byte_loses_no_identity_and_brings_no_wrong_payload() {
    let (rig, records) = marked();
    let mut lost = 0;
    for (id, file) in &rig.disk.files {
        for at in 0..file.bytes.len() {
            let mut disk = rig.disk.clone();
            disk.flip(*id, at, 1 << (at % 8));
            let opened = reopen(&mut disk);
            // assert_records compares the payloads that are there.
            assert_records(&opened.records, &records, &(id, at));
            for found in &opened.records {
                let reported = opened.damages.iter().any(|damage| {
                    damage.kind == DamageKind::PayloadLost(found.identity)
                        && damage.damage.file == *id
                });
                let is_lost = found.payload == RecoveredPayload::Lost;
                assert_eq!(is_lost, reported, "{id} {at}");
                lost += u32::from(is_lost);
            }
            assert!(opened.damages.iter().all(|it| it.kind != DamageKind::IdentityLost));
        }
    }
    let payloads: usize = records.iter().map(|record| record.payload_bytes() as usize).sum();
    assert_eq!(lost as usize, payloads, "each flip in a payload loses just that payload");
}

#[test]
fn a_lost_block_before_the_mark_is_reported_and_the_rest_survives() {
    let (rig, records) = marked();
    for (id, file) in &rig.disk.files {
        let used = rig.log.segments().find(|it| it.number == id.number).map_or(0, |it| it.used);
        for at in (0..file.bytes.len()).step_by(512) {
            let mut disk = rig.disk.clone();
            disk.zero(*id, at..at + 512);
            let opened = reopen(&mut disk);
            let all_there = opened.records.len() == records.len();
            let identity_lost =
                opened.damages.iter().any(|damage| damage.kind == DamageKind::IdentityLost);
            assert!(all_there || identity_lost, "{id} {at}: silent loss");
            assert!(opened.records.len() + 3 >= records.len(), "{id} {at}: more than a batch");
            // What is there is in order and right.
            let mut rest = records.iter();
            for found in &opened.records {
                let expected = rest.find(|record| record.identity == found.identity);
                assert_records(core::slice::from_ref(found), &[expected.unwrap().clone()], &at);
            }
            if at as u64 >= used {
                assert_eq!(opened.damages, [], "{id} {at}");
            }
        }
    }
}

/// The boot that finds a loss may fail before anything that it makes of it is durable.
#[test]
fn what_is_lost_is_missed_at_every_boot_whatever_the_one_before_mended() {
    let (mut rig, _) = marked();
    let mut seen = 0;
    // Also once the older segments are gone: then nothing says with which batch the rest begins.
    while let Some((oldest, file)) = rig.disk.files.first_key_value() {
        let (oldest, bytes) = (*oldest, file.bytes.len());
        for at in (512..bytes).step_by(512) {
            let mut disk = rig.disk.clone();
            disk.zero(oldest, 0..512);
            disk.zero(oldest, at..bytes.min(at + 2048)); // the longest batch
            let lost = |opened: &Opened| {
                let lost = |it: &&LogDamage| it.kind == DamageKind::IdentityLost;
                opened.damages.iter().filter(lost).count()
            };
            let first = reopen(&mut disk);
            let (again, third) = (reopen(&mut disk), reopen(&mut disk));
            seen += lost(&first);
            assert_eq!((lost(&again), lost(&third)), (lost(&first), lost(&first)), "{oldest} {at}");
            assert_eq!(again.records, first.records, "{oldest} {at}");
        }
        rig.disk.files.remove(&oldest);
    }
    assert!(seen > 0, "nothing was missed at all");
}

/// Four synced batches of a record and a kilobyte each; the last, which alone says that those before it are synced, is
/// torn. And where they begin.
fn torn_after_three() -> (Rig, FileId, impl Fn(usize) -> usize) {
    let mut rig = Rig::new(&config());
    rig.append_each((1..=4).map(|n| record(n, 400)));
    let id = FileId::new(FileKind::Wal, 1);
    let at = |batch: usize| 512 + (batch - 1) * 1024;
    assert_eq!(rig.log.segments().next().unwrap().used as usize, at(5));
    rig.disk.flip(id, at(4) + 300, 1);
    (rig, id, at)
}

#[test]
fn a_loss_that_only_a_torn_batch_tells_of_is_not_forgotten_with_it() {
    let (mut rig, id, at) = torn_after_three();
    rig.disk.zero(id, at(3)..at(4));
    let reopen = |rig: &mut Rig| recover(&mut rig.disk, &config(), &mut rig.rng).unwrap();
    let is_lost = |damage: &LogDamage| damage.kind == DamageKind::IdentityLost;
    let left = [record(1, 400), record(2, 400)];
    for boot in 0..3 {
        let opened = reopen(&mut rig);
        assert_records(&opened.records, &left, &boot);
        assert!(opened.damages.iter().any(is_lost), "boot {boot}");
        rig.log = opened.log;
    }
    rig.append_each([record(9, 400)]);
    rig.settle();
    let opened = reopen(&mut rig);
    assert_records(&opened.records, &[left[0].clone(), left[1].clone(), record(9, 400)], &"after");
    assert!(opened.damages.iter().any(is_lost));
}

#[test]
fn a_payload_lost_before_a_torn_batch_does_not_become_torn_itself() {
    let (mut rig, id, at) = torn_after_three();
    rig.disk.flip(id, at(3) + 300, 1);
    for boot in 0..3 {
        let opened = recover(&mut rig.disk, &config(), &mut rig.rng).unwrap();
        assert_eq!(opened.records.len(), 3, "boot {boot}");
        assert_eq!(opened.records[2].payload, RecoveredPayload::Lost, "boot {boot}");
    }
}

#[test]
fn what_a_torn_batch_said_is_said_again_by_an_idle_log() {
    let (mut rig, id, at) = torn_after_three();
    let opened = recover(&mut rig.disk, &config(), &mut rig.rng).unwrap();
    assert_eq!((opened.records.len(), opened.damages.len()), (3, 0));
    rig.log = opened.log;
    rig.settle();
    rig.disk.zero(id, at(3)..at(4));
    let opened = recover(&mut rig.disk, &config(), &mut rig.rng).unwrap();
    assert_eq!(opened.damages.len(), 1, "{:?}", opened.damages);
}

#[test]
fn the_mark_in_place_of_a_torn_batch_follows_unsynced_ones_that_are_whole() {
    // The last one was written when the third was synced, the one before it when the first was.
    let (config, id) = (config(), FileId::new(FileKind::Wal, 1));
    let first =
        SegmentStat { number: 1, previous: 0, capacity: 0, used: 0, first_seq: 1, last_seq: 0 };
    let mut bytes = SegmentHeader::new(&config, &first).block().to_vec();
    for (seq, synced_seq) in [(1, 0), (2, 1), (3, 1), (4, 1), (5, 3)] {
        let mut record = record(seq, 400);
        record.payload_crc = Some(crc32fast::hash(&record.payload.concat()));
        let offset = bytes.len() as u64;
        let place = Place { segment: 1, offset, seq, synced_seq, block_bytes: 512 };
        let batch = encode_batch(vec![record], place, &Seal::new(&config.store, config.kind));
        bytes.extend(batch.data.concat());
    }
    let (block, batch) = (512, (bytes.len() - 512) / 5);
    bytes[block + 4 * batch + 300] ^= 1;
    bytes[block + batch..block + 2 * batch].fill(0);
    let mut disk = Disk::default();
    disk.place(id, bytes);
    let left = [record(1, 400), record(3, 400), record(4, 400)];
    for boot in 0..3 {
        let opened = recover(&mut disk, &config, &mut Rng::new(3)).unwrap();
        assert_records(&opened.records, &left, &boot);
        let kinds: Vec<DamageKind> = opened.damages.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [DamageKind::IdentityLost], "boot {boot}");
    }
}

#[test]
fn a_log_without_marks_cut_at_any_byte_is_a_prefix_and_goes_on() {
    let lazy = Config { eager_sync: false, ..config() };
    let mut rig = Rig::new(&lazy);
    let records: Vec<_> = (1..=7).map(|n| record(n, (n * 97 % 500) as usize)).collect();
    rig.append_each(records.clone());
    let id = FileId::new(FileKind::Wal, 1);
    let bytes = rig.disk.files[&id].bytes.clone();
    let used = rig.log.segments().next().unwrap().used as usize;
    let mut lengths = [Vec::new(), Vec::new()];
    for cut in 0..=used {
        // Once the file ends there, once zeros follow.
        for whole in [false, true] {
            let mut cut_bytes = bytes[..cut].to_vec();
            if whole {
                cut_bytes.resize(bytes.len(), 0);
            }
            let mut disk = Disk::default();
            disk.place(id, cut_bytes);
            let opened = recover(&mut disk, &lazy, &mut Rng::new(cut as u64)).unwrap();
            assert_eq!(opened.damages, [], "cut at {cut}");
            let found = opened.records.len();
            assert_records(&opened.records, &records[..found], &cut);
            lengths[usize::from(whole)].push(found);
            if cut % 64 == 0 {
                goes_on(disk, opened, &records[..found], &lazy);
            }
        }
    }
    for lengths in lengths {
        assert!(lengths.is_sorted(), "a longer cut never holds less");
        assert_eq!(lengths.last(), Some(&7));
    }
}

/// Appends behind what was recovered, and recovers both.
fn goes_on(disk: Disk, opened: Opened, before: &[Record], config: &Config) {
    let mut rig = Rig { disk, log: opened.log, ..Rig::new(config) };
    let more = [record(50, 10), record(51, 700)];
    rig.append_each(more.clone());
    rig.settle();
    rig.disk.power_loss(&mut rig.rng);
    let opened = recover(&mut rig.disk, config, &mut rig.rng).unwrap();
    assert_eq!(opened.damages, []);
    let expected: Vec<_> = before.iter().chain(&more).cloned().collect();
    assert_records(&opened.records, &expected, &"after going on");
}

#[test]
fn a_torn_batch_never_comes_back() {
    // The batch in the middle is torn; a whole unsynced one follows and must go with it.
    let lazy = Config { eager_sync: false, ..config() };
    let mut rig = Rig::new(&lazy);
    rig.append_each((1..=3).map(|n| record(n, 400)));
    let id = FileId::new(FileKind::Wal, 1);
    let second = rig.log.segments().next().unwrap().used as usize - 2 * 1024;
    rig.disk.zero(id, second..second + 1024);
    let opened = recover(&mut rig.disk, &lazy, &mut rig.rng).unwrap();
    assert_records(&opened.records, &[record(1, 400)], &"torn");
    rig.log = opened.log;
    // Shorter than what was torn, so debris of the third would be right behind it.
    rig.append_each([record(9, 400)]);
    rig.settle();
    let opened = recover(&mut rig.disk, &lazy, &mut rig.rng).unwrap();
    assert_records(&opened.records, &[record(1, 400), record(9, 400)], &"after");
    assert_eq!(opened.damages, []);
}

#[test]
fn what_a_killed_process_left_in_the_page_cache_is_durable_after_recovery() {
    let lazy = Config { eager_sync: false, ..config() };
    let mut rig = Rig::new(&lazy);
    rig.append_each((1..=5).map(|n| record(n, 300)));
    assert_eq!(rig.log.durable().0, 0);
    rig.disk.kill(&mut rig.rng);
    let first = recover(&mut rig.disk, &lazy, &mut rig.rng).unwrap();
    rig.disk.power_loss(&mut rig.rng);
    let second = recover(&mut rig.disk, &lazy, &mut rig.rng).unwrap();
    assert_eq!(first.records, second.records);
    assert_eq!(first.records.len(), 5);
}

#[test]
fn a_device_that_cannot_read_is_asked_again_then_believed() {
    // One segment, one read; each batch is three blocks.
    let config = Config { segment_bytes: 64 << 10, ..config() };
    let mut rig = Rig::new(&config);
    let records: Vec<_> = (1..=30).map(|n| record(n, 1_200)).collect();
    rig.append_each(records.clone());
    rig.settle();
    let id = FileId::new(FileKind::Wal, 1);
    let at = 512 + 10 * 1_536 + 700; // In the eleventh.
    rig.disk.bad = Some((id, at, 2));
    let opened = recover(&mut rig.disk, &config, &mut rig.rng).unwrap();
    assert_eq!(opened.damages, [], "the third try found everything");
    assert_eq!(opened.records.len(), 30);
    rig.disk.bad = Some((id, at, u32::MAX));
    let opened = recover(&mut rig.disk, &config, &mut rig.rng).unwrap();
    assert!(!opened.damages.is_empty());
    assert!(opened.damages.iter().all(|it| it.damage.file == id));
    let whole: Vec<u64> = opened
        .records
        .iter()
        .filter(|it| it.payload != RecoveredPayload::Lost)
        .map(|it| it.identity.index.0)
        .collect();
    assert!(!whole.contains(&11), "{whole:?}");
    // The piece of 4 KiB around the bad byte touches four batches at the most.
    assert!(whole.len() >= 26 && whole.contains(&30), "{whole:?}");
}

#[test]
fn an_end_of_the_log_that_cannot_be_read_is_not_cut() {
    let lazy = Config { eager_sync: false, ..config() };
    let mut rig = Rig::new(&lazy);
    rig.append_each((1..=3).map(|n| record(n, 400)));
    let id = FileId::new(FileKind::Wal, 1);
    rig.disk.bad = Some((id, 1_600, u32::MAX));
    let halt = recover(&mut rig.disk, &lazy, &mut rig.rng).unwrap_err();
    assert!(halt.reason.contains("can't read the end"), "{}", halt.reason);
    rig.disk.bad = None;
    let opened = recover(&mut rig.disk, &lazy, &mut rig.rng).unwrap();
    assert_eq!(opened.records.len(), 3, "nothing was given up meanwhile");
}

#[cfg(feature = "planted-bugs")]
#[test]
fn the_planted_bug_cuts_at_corruption() {
    use crate::planted::{Bug, Planted};
    let (mut rig, records) = marked();
    let first = FileId::new(FileKind::Wal, 1);
    let at = rig.disk.files[&first].bytes.len() / 2;
    rig.disk.zero(first, at..at + 512);
    let planted = Planted::with(Bug::CorruptionAsTornTail);
    let config = Config { segment_bytes: 4 << 10, planted, ..config() };
    let opened = recover(&mut rig.disk, &config, &mut rig.rng).unwrap();
    assert!(opened.records.len() < records.len() / 2);
    assert_eq!(opened.damages, []);
}
