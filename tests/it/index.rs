//! Snapshots of the index on a lone node: a boot goes by one, finds what the logs have, and does without it where anything about
//! it is not as it was.

use crate::by_hand::Alone;
use crate::stopped::{Directory, config, filled_with, get, put_small, small};
use ironseed::data::{Progress, compact, verify};
use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::node::api::{Config, Tuning};
use ironseed_core::node::trace::Trace;
use ironseed_core::types::GroupId;

const OBJECTS: u16 = 400;

fn indexing(bytes_min: u64) -> Config {
    let config = config();
    let tuning = Tuning { index_bytes_min: bytes_min, slice_items: 16, ..config.tuning.clone() };
    Config { tuning, ..config }
}

/// Several segments of records, a snapshot, and more records behind it.
fn filled() -> Alone {
    let mut alone = filled_with(indexing(32 << 10), OBJECTS, 0);
    assert!(told(&alone, |trace| matches!(trace, Trace::IndexWritten { .. })));
    for number in 0..8 {
        put_small(&mut alone, &format!("small-{number}"), 1);
    }
    alone.rest(20_000);
    alone
}

fn told(alone: &Alone, is: impl Fn(&Trace) -> bool) -> bool {
    alone.traces.iter().any(is)
}

fn is_refused(trace: &Trace) -> bool {
    matches!(trace, Trace::IndexRefused { .. })
}

fn snapshots(alone: &Alone) -> Vec<FileId> {
    let found = alone.disk.found().into_iter().map(|it| it.file);
    found.filter(|file| file.kind == FileKind::Index).collect()
}

/// What every group holds. A boot moves positions, because its leader begins a term.
fn states(alone: &Alone) -> Vec<Option<(usize, u128)>> {
    let table = |group| alone.node.table_of(GroupId(group));
    let told = |group| table(group).map(|table| (table.len(), table.digest()));
    (0..=4).map(told).collect()
}

#[test]
fn a_boot_by_a_snapshot_passes_over_segments_and_finds_the_same() {
    let mut alone = filled();
    let before = states(&alone);
    assert!(before.iter().all(Option::is_some));
    alone.reboot(|_| {});
    let spared = |trace: &Trace| matches!(trace, Trace::IndexLoaded { segments: 1.., .. });
    assert!(told(&alone, spared), "{:?}", alone.traces);
    assert_eq!(states(&alone), before);
    for number in 0..OBJECTS {
        let key = format!("small-{number}");
        assert_eq!(get(&mut alone, &key), Some(small(&key, u8::from(number < 8))), "{key}");
    }
    // What is overwritten now has the cleaner go through the segments that were passed over.
    let oldest = |alone: &Alone| {
        let found = alone.disk.found().into_iter().map(|it| it.file);
        found.filter(|it| it.kind == FileKind::Table).map(|it| it.number).min()
    };
    let was = oldest(&alone);
    for round in 2..10 {
        for number in 20..OBJECTS {
            put_small(&mut alone, &format!("small-{number}"), round);
        }
    }
    // A segment goes with a sync of the log, and a log with nothing to write has none.
    for _ in 0..12 {
        put_small(&mut alone, "small-20", 9);
        alone.rest(6_000);
    }
    assert!(oldest(&alone) > was, "nothing was cleaned");
    let before = states(&alone);
    alone.reboot(|_| {});
    assert!(told(&alone, spared), "{:?}", alone.traces);
    assert_eq!(states(&alone), before);
    for number in 0..OBJECTS {
        let key = format!("small-{number}");
        let version = if number < 20 { u8::from(number < 8) } else { 9 };
        assert_eq!(get(&mut alone, &key), Some(small(&key, version)), "{key}");
    }
}

#[test]
fn a_snapshot_with_any_other_byte_is_refused_and_the_logs_are_read() {
    let whole = filled();
    let before = states(&whole);
    let [file] = snapshots(&whole)[..] else { panic!("{:?}", snapshots(&whole)) };
    let bytes = whole.disk.found().iter().find(|it| it.file == file).map_or(0, |it| it.bytes);
    for at in (0..bytes).step_by(997).chain(bytes - 24..bytes) {
        let mut alone = whole.clone();
        alone.reboot(|disk| assert!(disk.flip(file, at, (at % 8) as u32)));
        assert!(told(&alone, is_refused), "byte {at} of {bytes}");
        assert_eq!(states(&alone), before, "byte {at} of {bytes}");
        assert!(!snapshots(&alone).contains(&file), "byte {at} of {bytes}");
    }
    let mut alone = whole;
    alone.reboot(|disk| disk.lose(|it| it == file));
    assert!(!told(&alone, is_refused));
    assert_eq!(states(&alone), before, "without any");
}

#[test]
fn a_full_disk_ends_a_snapshot_and_the_older_one_stays() {
    let mut alone = filled();
    let kept = snapshots(&alone);
    alone.traces.clear();
    alone.disk.fill(Some(100));
    for number in 0..40 {
        put_small(&mut alone, &format!("small-{number}"), 7);
    }
    alone.rest(20_000);
    assert_eq!(snapshots(&alone), kept);
    assert!(!told(&alone, |trace| matches!(trace, Trace::IndexWritten { .. })));
    alone.disk.fill(None);
    for number in 0..80 {
        put_small(&mut alone, &format!("small-{number}"), 8);
    }
    alone.rest(20_000);
    assert!(told(&alone, |trace| matches!(trace, Trace::IndexWritten { .. })));
    assert!(snapshots(&alone) != kept && snapshots(&alone).len() == 1);
}

#[test]
fn tools_look_at_a_snapshot_and_do_without_it() {
    let alone = filled();
    let [file] = snapshots(&alone)[..] else { panic!("{:?}", snapshots(&alone)) };
    let directory = Directory::of(&alone);
    let findings = || {
        let verified = verify(directory.path(), &Progress::hidden()).expect("a store");
        assert_eq!(verified.checked.get("snapshots of the index"), Some(&1));
        verified.findings
    };
    assert_eq!(findings(), []);
    directory.change(&file.to_string(), |bytes| bytes[100] ^= 4);
    let found = findings();
    assert!(found.len() == 1 && found[0].file == file.to_string(), "{found:?}");
    compact(directory.path(), &Progress::hidden()).expect("a store");
    assert!(!directory.file(&file.to_string()).exists());
}
