//! One promise a test: group commit, space, failure, rotation, removal, marks.

use super::super::{Config, Lsn, RecoveredPayload};
use super::{LogOutput, Rig, assert_records, config, record, recover};
use crate::machine::{Duration, FileId, FileKind, Instant};
use alloc::vec::Vec;

#[test]
fn everything_appended_during_a_sync_is_one_batch() {
    let mut rig = Rig::new(&config());
    rig.log.append(record(1, 10));
    rig.run();
    let (writes, syncs) = (rig.disk.writes, rig.disk.syncs);
    rig.log.append(record(2, 10));
    rig.pump(); // The write of 2 is in flight.
    for n in 3..=10 {
        rig.log.append(record(n, 10));
        rig.pump();
    }
    while rig.complete() {}
    assert_eq!(rig.log.durable(), Lsn(10));
    assert_eq!((rig.disk.writes - writes, rig.disk.syncs - syncs), (2, 2));
}

#[test]
fn durable_is_said_after_the_sync_and_with_locations_that_read_back() {
    let mut rig = Rig::new(&config());
    let records: Vec<_> = (1..=30).map(|n| record(n, 300)).collect();
    for record in records.clone() {
        rig.log.append(record);
    }
    rig.run();
    let mut locations = Vec::new();
    let mut durable = Lsn(0);
    for output in &rig.out {
        match output {
            LogOutput::Written { upto, locations: more } => {
                locations.extend(more.iter().copied());
                assert_eq!(locations.last().unwrap().0, *upto);
            }
            LogOutput::Durable { upto } => {
                assert!(*upto > durable && *upto <= locations.last().unwrap().0);
                durable = *upto;
            }
            _ => {}
        }
    }
    assert_eq!(durable, Lsn(30));
    assert!(rig.log.segments().count() > 1, "30 records fill more than one segment");
    for ((lsn, location), record) in locations.iter().zip(&records) {
        let file = &rig.disk.files[&FileId::new(FileKind::Wal, location.segment)];
        let start = location.offset as usize;
        let bytes = &file.bytes[start..start + location.bytes as usize];
        assert!(location.verify(bytes), "{lsn:?}");
        assert_eq!(bytes, record.payload.concat());
    }
}

#[test]
fn a_lazy_log_syncs_when_asked_and_when_a_segment_is_full() {
    let lazy = Config { eager_sync: false, ..config() };
    let mut rig = Rig::new(&lazy);
    rig.append_each((1..=3).map(|n| record(n, 100)));
    assert_eq!((rig.log.written(), rig.log.durable()), (Lsn(3), Lsn(0)));
    rig.log.request_sync();
    rig.run();
    assert_eq!(rig.log.durable(), Lsn(3));
    rig.append_each((4..=20).map(|n| record(n, 400)));
    assert_eq!(rig.log.segments().count(), 3);
    let opened = recover(&mut rig.disk, &lazy, &mut rig.rng).unwrap();
    assert_eq!(opened.records.len(), 20);
    assert!(rig.log.durable() >= Lsn(10), "full segments are synced: {:?}", rig.log.durable());
}

#[test]
fn an_idle_log_marks_its_last_batch_once() {
    let mut rig = Rig::new(&config());
    rig.append_each([record(1, 10)]);
    assert_eq!(rig.log.deadline(), Some(Instant(0) + Duration::from_millis(5)));
    assert!(!rig.log.is_settled());
    rig.settle();
    let writes = rig.disk.writes;
    assert_eq!(rig.log.deadline(), None);
    rig.now = rig.now + Duration::from_secs(100);
    rig.run();
    assert_eq!(rig.disk.writes, writes);
    // A mark needs no record of its own after a restart either.
    let opened = recover(&mut rig.disk, &config(), &mut rig.rng).unwrap();
    assert_records(&opened.records, &[record(1, 10)], &"settled");
    assert!(opened.log.is_settled());
}

#[test]
fn a_mark_fits_the_segment_that_it_marks() {
    // Whatever the sizes, an idle log never starts a segment.
    for bytes in (0..2_000).step_by(37) {
        let mut rig = Rig::new(&config());
        rig.append_each((1..=3).map(|n| record(n, bytes)));
        let current = rig.log.current_segment();
        rig.settle();
        assert_eq!(rig.log.current_segment(), current, "{bytes} bytes");
    }
}

#[test]
fn the_longest_payload_fits_and_one_more_does_not() {
    let mut rig = Rig::new(&config());
    let most = rig.log.payload_bytes_max() as usize;
    rig.append_each([record(1, most), record(8, most)]);
    rig.settle();
    let opened = recover(&mut rig.disk, &config(), &mut rig.rng).unwrap();
    assert_records(&opened.records, &[record(1, most), record(8, most)], &most);
}

#[test]
fn a_full_disk_refuses_in_order_and_the_log_goes_on_when_there_is_space() {
    for eager_sync in [true, false] {
        let config = Config { eager_sync, ..config() };
        let mut rig = Rig::new(&config);
        rig.append_each([record(1, 100)]);
        rig.disk.full = true;
        rig.log.append(record(2, 100));
        rig.pump();
        rig.log.append(record(3, 100)); // Behind a batch that will be refused.
        while rig.complete() {}
        rig.log.append(record(4, 100)); // The debris is still there.
        rig.run();
        let refused: Vec<_> = rig.out.iter().filter_map(no_space).collect();
        assert_eq!(refused, [(Lsn(2), Lsn(3)), (Lsn(4), Lsn(4))]);
        assert!(!rig.log.has_failed());
        rig.disk.full = false;
        rig.append_each([record(5, 100)]);
        rig.settle();
        assert_eq!(rig.log.durable(), Lsn(5));
        let opened = recover(&mut rig.disk, &config, &mut rig.rng).unwrap();
        assert_records(&opened.records, &[record(1, 100), record(5, 100)], &eager_sync);
        assert_eq!(opened.damages, []);
    }
}

fn no_space(output: &LogOutput) -> Option<(Lsn, Lsn)> {
    match output {
        LogOutput::NoSpace { first, last } => Some((*first, *last)),
        _ => None,
    }
}

#[test]
fn no_space_for_a_segment_refuses_only_what_needs_it() {
    let mut rig = Rig::new(&config());
    rig.disk.full = true;
    rig.append_each([record(1, 100), record(2, 100)]);
    assert_eq!(rig.out.iter().filter_map(no_space).count(), 2);
    rig.disk.full = false;
    rig.append_each([record(3, 100)]);
    assert_eq!(rig.log.durable(), Lsn(3));
    // Ahead of need: half a segment is used, the disk refuses to make the next, appends go on.
    rig.out.clear();
    let half = Config { segment_bytes: 64 << 10, ..config() };
    let mut rig = Rig::new(&half);
    let mut n = 1;
    while rig.log.segments().next().is_none_or(|segment| segment.used <= 32 << 10) {
        if rig.log.segments().next().is_some_and(|segment| segment.used > 30 << 10) {
            rig.pump();
        }
        rig.append_each([record(n, 900)]);
        n += 1;
    }
    assert_eq!(rig.out.iter().filter_map(no_space).count(), 0);
}

#[test]
fn a_failed_sync_is_the_end() {
    let mut rig = Rig::new(&config());
    rig.append_each([record(1, 100)]);
    rig.disk.fail_syncs = true;
    rig.append_each([record(2, 100)]);
    assert!(rig.log.has_failed());
    assert!(matches!(rig.out.last(), Some(LogOutput::Failed(_))));
    rig.disk.fail_syncs = false;
    let writes = rig.disk.writes;
    rig.append_each([record(3, 100)]);
    assert_eq!((rig.log.durable(), rig.disk.writes), (Lsn(1), writes));
    assert_eq!(rig.log.deadline(), None);
}

#[test]
fn removed_segments_stay_removed_and_the_rest_recovers() {
    let mut rig = Rig::new(&config());
    rig.append_each((1..=40).map(|n| record(n, 400)));
    let numbers: Vec<u64> = rig.log.segments().map(|segment| segment.number).collect();
    assert!(numbers.len() >= 4, "{numbers:?}");
    // The first, and one in the middle as compaction does.
    for number in [numbers[0], numbers[2]] {
        rig.log.remove_segment(number);
    }
    rig.out.clear();
    rig.settle();
    for segment in [numbers[0], numbers[2]] {
        assert!(rig.out.contains(&LogOutput::Removed { segment }), "{:?}", rig.out);
    }
    rig.disk.power_loss(&mut rig.rng);
    let opened = recover(&mut rig.disk, &config(), &mut rig.rng).unwrap();
    assert_eq!(opened.damages, []);
    let removed = |segment| segment == numbers[0] || segment == numbers[2];
    assert!(opened.records.iter().all(|found| !removed(found.location.segment)));
    assert!(opened.records.len() >= 20);
    assert_eq!(opened.log.segments().count(), numbers.len() - 2);
}

#[test]
fn a_log_that_keeps_no_payloads_reads_little() {
    let config = Config {
        segment_bytes: 8 << 20,
        batch_bytes_max: 2 << 20,
        verify_payloads_at_boot: false,
        keep_payloads_at_boot: false,
        ..config()
    };
    let mut rig = Rig::new(&config);
    rig.append_each((1..=6).map(|n| record(n, 1 << 20)));
    rig.settle();
    let opened = recover(&mut rig.disk, &config, &mut rig.rng).unwrap();
    assert_eq!(opened.records.len(), 6);
    for (found, n) in opened.records.iter().zip(1..) {
        assert_eq!(found.identity, record(n, 0).identity);
        assert_eq!(found.payload, RecoveredPayload::Stored);
        assert_eq!(found.location.bytes, 1 << 20);
    }
}

#[test]
fn another_store_or_a_later_format_is_refused() {
    let mut rig = Rig::new(&config());
    rig.append_each([record(1, 100)]);
    let other = Config { store: [8; 16], ..config() };
    let halt = recover(&mut rig.disk, &other, &mut rig.rng).unwrap_err();
    assert!(halt.reason.contains("another store"), "{}", halt.reason);

    let file = FileId::new(FileKind::Wal, 1);
    let mut bytes = rig.disk.files[&file].bytes.clone();
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&crc);
    rig.disk.place(file, bytes);
    let halt = recover(&mut rig.disk, &config(), &mut rig.rng).unwrap_err();
    assert!(halt.reason.contains("format version 2"), "{}", halt.reason);
}
