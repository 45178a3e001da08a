//! Files that are used again: what stood in them never counts, what is damaged in them is still told from that, and
//! they are given back.

use super::super::record::SegmentHeader;
use super::super::{Config, DamageKind, LogTrace, Lsn, RecoveredPayload};
use super::disk::Disk;
use super::{LogOutput, Opened, Record, Rig, assert_records, config, record, recover};
use crate::machine::{FileId, FileKind};
use crate::rng::Rng;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

const BLOCK: usize = 512;

fn small() -> Config {
    Config { segment_bytes: 4 << 10, ..config() }
}

/// A log in whose files others stood before, several times.
struct Lived {
    rig: Rig,
    /// What is in it.
    records: Vec<Record>,
    /// What each file held before it became what it is.
    before: BTreeMap<FileId, Vec<u8>>,
}

/// Three segments and two spares.
fn lived() -> Lived {
    let config = small();
    let mut rig = Rig::new(&config);
    let (mut records, mut before, mut current) = (Vec::new(), BTreeMap::new(), None);
    for n in 1..=90 {
        records.push(record(n, (n * 61 % 400) as usize));
        rig.append_each(records.last().cloned());
        if rig.log.current_segment() != current {
            current = rig.log.current_segment();
            while rig.log.segments().count() > 3 {
                let oldest = rig.log.segments().next().unwrap().number;
                rig.log.remove_segment(oldest);
                rig.run();
            }
        }
        // The next segment was made when this one was half full.
        for (id, file) in rig.disk.files.iter().filter(|(id, _)| id.kind == FileKind::Wal) {
            if rig.log.segment(id.number).is_none() {
                before.insert(*id, file.bytes.clone());
            }
        }
    }
    rig.settle();
    let reused = rig.out.iter().filter(|it| reused(it).is_some()).count();
    assert!(reused >= 8, "{reused} segments have a file that was another's");
    let opened = reopen(&mut rig.disk.clone());
    assert_eq!(opened.damages, []);
    let gone = records.len() - opened.records.len();
    records.drain(..gone);
    assert_records(&opened.records, &records, &"all");
    before.retain(|id, _| rig.log.segment(id.number).is_some());
    assert!(before.values().all(|bytes| SegmentHeader::decode(bytes).is_some()), "an older life");
    Lived { rig, records, before }
}

fn reused(output: &LogOutput) -> Option<(u64, u64)> {
    match output {
        LogOutput::Trace(LogTrace::SegmentReused { segment, was }) => Some((*segment, *was)),
        _ => None,
    }
}

fn reopen(disk: &mut Disk) -> Opened {
    recover(disk, &small(), &mut Rng::new(3)).unwrap()
}

fn lost(opened: &Opened) -> usize {
    opened.damages.iter().filter(|it| it.kind == DamageKind::IdentityLost).count()
}

/// What is there is in order and right; returns how many are not.
fn missing(opened: &Opened, records: &[Record], context: &dyn core::fmt::Debug) -> usize {
    let mut rest = records.iter();
    for found in &opened.records {
        let expected = rest.find(|record| record.identity == found.identity);
        let Some(expected) = expected else { panic!("{context:?}: {found:?} is of another life") };
        assert_records(core::slice::from_ref(found), core::slice::from_ref(expected), context);
    }
    records.len() - opened.records.len()
}

#[test]
fn a_segment_goes_on_with_the_file_of_one_that_was_removed() {
    let Lived { rig, .. } = lived();
    let kinds: Vec<FileKind> = rig.disk.files.keys().map(|id| id.kind).collect();
    let of = |kind| kinds.iter().filter(|it| **it == kind).count();
    // Three segments, a standby if the last is half full, and what is kept.
    assert!((3..=4).contains(&of(FileKind::Wal)) && of(FileKind::Spare) <= 2, "{kinds:?}");
    let creations = rig.disk.files.values().map(|file| file.bytes.len());
    assert!(creations.clone().all(|bytes| bytes == 4 << 10), "{creations:?}");
    // The file that a segment was is never one with a higher number.
    for (segment, was) in rig.out.iter().filter_map(reused) {
        assert!(was < segment, "{segment} was {was}");
    }
}

#[test]
fn a_flip_of_any_byte_loses_no_identity_and_brings_nothing_of_an_older_life() {
    let Lived { rig, records, .. } = lived();
    for (id, file) in &rig.disk.files {
        for at in (0..file.bytes.len()).step_by(3) {
            let mut disk = rig.disk.clone();
            disk.flip(*id, at, 1 << (at % 8));
            let opened = reopen(&mut disk);
            assert_records(&opened.records, &records, &(id, at));
            for found in &opened.records {
                let reported = opened.damages.iter().any(|damage| {
                    damage.kind == DamageKind::PayloadLost(found.identity)
                        && damage.damage.file == *id
                });
                assert_eq!(found.payload == RecoveredPayload::Lost, reported, "{id} {at}");
            }
            assert_eq!(lost(&opened), 0, "{id} {at}");
            if rig.log.segment(id.number).is_none_or(|it| at as u64 >= it.used) {
                assert_eq!(opened.damages, [], "{id} {at}: what nobody needs");
            }
        }
    }
}

/// Any blocks of a segment are what they were in the life before, or zeros: writes that were acknowledged and never
/// reached their place. Whatever is missing then is missed, at every boot.
#[test]
fn a_write_that_left_older_bytes_standing_is_missed() {
    let Lived { rig, records, before } = lived();
    let mut seen = 0;
    for (id, older) in &before {
        let used = rig.log.segment(id.number).unwrap().used as usize;
        let last_batch = id.number == rig.log.current_segment().unwrap();
        for from in (0..used).step_by(BLOCK) {
            for blocks in 1..=4 {
                let range = from..(from + blocks * BLOCK).min(used);
                // The mark of an idle log is in the last batch, and is not marked itself.
                if last_batch && range.end + BLOCK > used {
                    continue;
                }
                for zeros in [false, true] {
                    let mut disk = rig.disk.clone();
                    put_back(&mut disk, *id, range.clone(), (!zeros).then_some(older));
                    let opened = reopen(&mut disk);
                    let context = (id, &range, zeros);
                    let gone = missing(&opened, &records, &context);
                    assert!(gone == 0 || lost(&opened) > 0, "{context:?}: {gone} silently lost");
                    assert!(gone <= blocks, "{context:?}: {gone} are lost");
                    seen += gone;
                    let again = reopen(&mut disk);
                    assert_eq!(again.records, opened.records, "{context:?}");
                    assert_eq!(lost(&again), lost(&opened), "{context:?}");
                }
            }
        }
    }
    assert!(seen > 0, "nothing was missed at all");
}

fn put_back(disk: &mut Disk, id: FileId, range: Range<usize>, older: Option<&Vec<u8>>) {
    let mut bytes = disk.files[&id].bytes.clone();
    match older {
        Some(older) => bytes[range.clone()].copy_from_slice(&older[range]),
        None => bytes[range].fill(0),
    }
    disk.place(id, bytes);
}

/// A log without marks that ends at any block, with older bytes behind that: it is a prefix, and goes on.
#[test]
fn an_older_life_behind_the_end_is_no_part_of_the_log() {
    let Lived { rig, records, before } = lived();
    let (id, older) = before.last_key_value().unwrap();
    let used = rig.log.segment(id.number).unwrap().used as usize;
    assert_eq!(rig.log.current_segment(), Some(id.number));
    let mut ends = Vec::new();
    for from in (0..=used).step_by(BLOCK) {
        let mut disk = rig.disk.clone();
        put_back(&mut disk, *id, from..older.len(), Some(older));
        let opened = reopen(&mut disk);
        assert_eq!(opened.damages, [], "{from}");
        let found = opened.records.len();
        assert_records(&opened.records, &records[..found], &from);
        ends.push(found);
        // What comes next ends somewhere else than what stood there.
        let mut rig = Rig { disk, log: opened.log, ..Rig::new(&small()) };
        let more = [record(500, 10), record(501, 700), record(502, 30)];
        rig.append_each(more.clone());
        rig.disk.power_loss(&mut rig.rng);
        let opened = reopen(&mut rig.disk);
        assert_eq!(opened.damages, [], "{from}");
        let expected: Vec<_> = records[..found].iter().chain(&more).cloned().collect();
        assert_records(&opened.records, &expected, &from);
    }
    assert!(ends.is_sorted() && ends.first() < ends.last(), "{ends:?}");
}

#[test]
fn a_batch_behind_a_torn_one_does_not_come_back_although_older_bytes_stay() {
    let lazy = Config { eager_sync: false, ..small() };
    let Lived { mut rig, .. } = lived();
    rig.log = recover(&mut rig.disk, &lazy, &mut rig.rng).unwrap().log;
    let start = loop {
        let current = rig.log.current_segment().unwrap();
        let at = rig.log.segment(current).unwrap();
        // Room for three, and older bytes behind them.
        if at.used + 5 * BLOCK as u64 <= at.capacity {
            break (current, at.used as usize);
        }
        rig.append_each([record(600, 200)]);
    };
    let id = FileId::new(FileKind::Wal, start.0);
    let mut bytes = rig.disk.files[&id].bytes.clone();
    bytes[start.1..].fill(0x5a);
    rig.disk.place(id, bytes);
    rig.append_each([record(601, 200), record(602, 200), record(603, 200)]);
    let batch = (rig.log.segment(start.0).unwrap().used as usize - start.1) / 3;
    rig.disk.zero(id, start.1 + batch..start.1 + 2 * batch);
    let opened = recover(&mut rig.disk, &lazy, &mut rig.rng).unwrap();
    assert_eq!(opened.records.last().unwrap().identity, record(601, 200).identity);
    let bytes = &rig.disk.files[&id].bytes;
    assert!(bytes[start.1 + 3 * batch..].iter().any(|byte| *byte != 0), "older bytes stay");
    rig.log = opened.log;
    rig.append_each([record(604, 200)]);
    rig.settle();
    let opened = recover(&mut rig.disk, &lazy, &mut rig.rng).unwrap();
    assert_eq!(opened.records.last().unwrap().identity, record(604, 200).identity);
    assert!(opened.records.iter().all(|it| it.identity != record(603, 200).identity));
    assert_eq!(opened.damages, []);
}

#[test]
fn the_end_of_a_segment_is_missed_although_the_next_has_no_number_after_it() {
    // A disk without space, and every boot, may leave out a number: the header says which segment was before.
    let Lived { mut rig, .. } = lived();
    for _ in 0..3 {
        rig.log = reopen(&mut rig.disk).log;
    }
    let before = rig.log.current_segment().unwrap();
    while rig.log.current_segment() == Some(before) {
        rig.append_each([record(700, 300)]);
    }
    rig.settle();
    let (next, used) = (rig.log.current_segment().unwrap(), rig.log.segment(before).unwrap().used);
    assert!(next > before + 1, "{next} follows {before}");
    let all = reopen(&mut rig.disk.clone()).records.len();
    let id = FileId::new(FileKind::Wal, before);
    let used = used as usize;
    rig.disk.zero(id, used - 2 * BLOCK..used);
    let opened = reopen(&mut rig.disk);
    assert_eq!((opened.records.len(), lost(&opened)), (all - 1, 1), "{:?}", opened.damages);
}

#[test]
fn a_full_disk_is_given_the_spares_and_a_log_that_has_one_needs_no_space() {
    let Lived { mut rig, .. } = lived();
    let remove_oldest = |rig: &mut Rig| {
        let oldest = rig.log.segments().next().unwrap().number;
        rig.log.remove_segment(oldest);
        rig.run();
    };
    let spares = |rig: &Rig| rig.disk.files.keys().filter(|it| it.kind == FileKind::Spare).count();
    while rig.log.spares() < 2 {
        remove_oldest(&mut rig);
    }
    assert_eq!((spares(&rig), rig.log.segments().count()), (2, rig.log.segments().count()));
    // Renaming takes no space. Writing into what is there does not either.
    let before = rig.log.current_segment().unwrap();
    rig.out.clear();
    rig.disk.full_for_new = true;
    let mut n = 800;
    while rig.log.current_segment() == Some(before) || rig.log.spares() == 2 {
        rig.append_each([record(n, 300)]);
        n += 1;
    }
    assert!(rig.out.iter().all(|it| !matches!(it, LogOutput::NoSpace { .. })));
    // Given back, and no more are kept until there is space again.
    rig.log.keep_spares(false);
    rig.run();
    assert_eq!((spares(&rig), rig.log.spares()), (0, 0));
    while rig.log.segments().count() > 1 {
        remove_oldest(&mut rig);
    }
    assert_eq!(spares(&rig), 0);
    rig.disk.full_for_new = false;
    rig.log.keep_spares(true);
    let upto = rig.append_each((900..930).map(|n| record(n, 300)));
    assert_eq!(Some(rig.log.durable()), upto.last().copied());
    remove_oldest(&mut rig);
    assert_eq!(spares(&rig), 1);
}

#[test]
fn a_spare_of_another_size_or_too_many_are_removed_and_one_that_is_gone_is_made_anew() {
    let Lived { mut rig, records, .. } = lived();
    let spare = |number| FileId::new(FileKind::Spare, number);
    rig.disk.files.retain(|id, _| id.kind == FileKind::Wal);
    for number in 1..=4 {
        rig.disk.place(spare(number), [7; 4 << 10].to_vec());
    }
    rig.disk.place(spare(90), [7; 3 << 10].to_vec());
    let opened = reopen(&mut rig.disk);
    assert_records(&opened.records, &records, &"spares hold nothing");
    assert_eq!((opened.log.spares(), opened.damages), (2, [].into()));
    let left: Vec<u64> =
        rig.disk.files.keys().filter(|it| it.kind == FileKind::Spare).map(|it| it.number).collect();
    assert_eq!(left.len(), 2);
    rig.log = opened.log;
    rig.disk.files.retain(|id, _| id.kind == FileKind::Wal);
    let upto = rig.append_each((900..930).map(|n| record(n, 300)));
    assert_eq!(upto.last(), Some(&Lsn(30)));
    assert_eq!(rig.log.durable(), Lsn(30));
    // Numbers go on above those of all files, also of spares: nothing in them is of a segment to come.
    assert!(rig.log.current_segment().unwrap() > 90, "{:?}", rig.log.current_segment());
}

#[cfg(feature = "planted-bugs")]
#[test]
fn the_planted_bug_takes_what_an_older_segment_left_for_the_end_of_the_log() {
    use crate::planted::{Bug, Planted};
    let Lived { mut rig, records, before } = lived();
    // Made ahead of need, and not begun.
    let (id, older) = before.last_key_value().unwrap();
    put_back(&mut rig.disk, *id, 0..older.len(), Some(older));
    let sound = reopen(&mut rig.disk.clone());
    assert_eq!((missing(&sound, &records, id) > 0, lost(&sound)), (true, 0));
    let planted = Planted::with(Bug::BatchOfAnySegment);
    let config = Config { planted, ..small() };
    let opened = recover(&mut rig.disk, &config, &mut rig.rng).unwrap();
    let stale =
        |found: &&super::Recovered| records.iter().all(|record| record.identity != found.identity);
    assert!(opened.records.iter().any(|found| stale(&found)), "{opened:?}");
}
