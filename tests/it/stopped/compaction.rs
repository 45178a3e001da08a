//! Compaction gives space back, keeps everything that is known, and may end at any moment.

use super::{Borrowed, Directory, execute, filled, get, put_small, small};
use crate::by_hand::Alone;
use ironseed::data::{Progress, compact, compact_on, inspect, verify};
use ironseed_core::machine::{FileKind, Io, IoError};
use ironseed_core::node::status::Phase;
use ironseed_core::node::superblock::{self, Superblock};
use ironseed_core::object::api::{Condition, Request};
use ironseed_core::types::OpId;
use std::cell::RefCell;

const SMALL: u16 = 40;
/// So many of the small ones are written once and stay where they are.
const STAYS: u16 = 4;
const LARGE: u16 = 30;

/// Fewer than make a node compact its chunk log.
const fn is_gone(number: &u16) -> bool {
    number.is_multiple_of(3)
}

/// A node most of whose table log is dead, and a third of whose chunks.
pub(super) fn worn() -> Alone {
    let mut alone = filled(SMALL, LARGE);
    for version in 1..12 {
        for number in STAYS..SMALL {
            put_small(&mut alone, &format!("small-{number}"), version);
        }
        // Until the table log has them: what is overwritten before never gets there.
        alone.rest(6_000);
    }
    for number in (0..LARGE).filter(is_gone) {
        let (bucket, key) = (super::BUCKET.into(), format!("large-{number}"));
        let condition = Condition::None;
        alone.ask(Request::DeleteObject { bucket, key, condition }).expect("a deletion");
    }
    // Until nobody can be reading any more, and the leader has collected.
    alone.rest(120_000);
    alone
}

fn assert_all_there(alone: &mut Alone, when: &str) {
    assert_eq!(alone.phase(), Phase::Serving, "{when}: {:?}", alone.halted());
    for number in 0..SMALL {
        let key = format!("small-{number}");
        let version = if number < STAYS { 0 } else { 11 };
        assert_eq!(get(alone, &key), Some(small(&key, version)), "{when}: {key}");
    }
    for number in (0..LARGE).filter(|number| !is_gone(number)) {
        let bytes = get(alone, &format!("large-{number}")).expect("it has bytes");
        assert_eq!(bytes.len(), 20_000, "{when}: large-{number}");
    }
}

fn superblock_of(alone: &Alone) -> Superblock {
    let file = ironseed_core::machine::FileId::new(FileKind::Superblock, 0);
    let bytes = alone.disk.read_durable(file, 0, 8192).expect("a superblock");
    superblock::newest(&bytes).expect("a good copy").1
}

/// Compacts on the node's disk; from operation `end` on nothing is carried out any more, and that one is under way.
/// How many operations there were.
fn compact_until(alone: &mut Alone, end: u64) -> u64 {
    let (superblock, files) = (superblock_of(alone), alone.disk.found());
    let (now, ops) = (alone.now, RefCell::new(0));
    let disk = &mut alone.disk;
    let run = |io: Io| {
        let mut done = ops.borrow_mut();
        *done += 1;
        let op = (1 << 60) + *done;
        if *done < end {
            return execute(disk, now, op, io);
        }
        if *done == end {
            disk.issue(now, OpId(op), io);
        }
        Err(IoError::Device)
    };
    let result = compact_on(&superblock, files, &Borrowed(RefCell::new(run)), |_| {});
    let ops = *ops.borrow();
    if ops < end {
        let compacted = result.expect("a compaction");
        assert!(compacted.segments_removed >= 2 && compacted.frames_moved > 0, "{compacted:?}");
        assert!(compacted.chunks_moved > 0 && compacted.kept.is_none(), "{compacted:?}");
    }
    ops
}

#[test]
fn a_compaction_may_end_at_any_moment() {
    let worn = worn();
    let mut whole = worn.clone();
    let ops = compact_until(&mut whole, u64::MAX);
    whole.reboot(|_| {});
    assert_all_there(&mut whole, "after all of it");
    for end in 1..=ops {
        let mut alone = worn.clone();
        compact_until(&mut alone, end);
        let now = alone.now;
        // In turn: the process is killed, the power goes.
        alone.reboot(|disk| if end % 2 == 0 { disk.lose_power(now) } else { disk.kill(now) });
        assert_all_there(&mut alone, &format!("after {end} of {ops} operations"));
    }
}

#[test]
fn a_directory_is_smaller_and_says_the_same() {
    let directory = Directory::of(&worn());
    let told = || {
        let inspection = inspect(directory.path(), &Progress::hidden()).expect("an inspection");
        let objects: Vec<_> =
            inspection.groups.iter().map(|it| format!("{:?}", it.objects)).collect();
        (objects, inspection.groups.iter().map(|it| it.records).collect::<Vec<_>>())
    };
    let before = told();
    let wal_before: Vec<_> =
        directory.hashes().into_iter().filter(|(name, _)| name.starts_with("wal-")).collect();
    let compacted = compact(directory.path(), &Progress::hidden()).expect("a compaction");
    assert!(compacted.segments_removed >= 2, "{compacted:?}");
    assert_eq!(told(), before);
    let wal: Vec<_> =
        directory.hashes().into_iter().filter(|(name, _)| name.starts_with("wal-")).collect();
    assert_eq!(wal, wal_before, "the write-ahead log is left as it is");
    let verified = verify(directory.path(), &Progress::hidden()).expect("a verification");
    assert_eq!(verified.findings, [], "{verified:?}");
    let again = compact(directory.path(), &Progress::hidden()).expect("a compaction");
    assert_eq!((again.segments_removed, again.chunks_moved), (0, 0), "{again:?}");
}

#[test]
fn a_full_disk_ends_a_compaction_and_costs_nothing() {
    let mut alone = worn();
    let (superblock, files) = (superblock_of(&alone), alone.disk.found());
    let now = alone.now;
    let disk = &mut alone.disk;
    let mut op = 1 << 60;
    let run = |io: Io| {
        op += 1;
        match io {
            Io::Create { .. } => Err(IoError::NoSpace),
            io => execute(disk, now, op, io),
        }
    };
    let error = compact_on(&superblock, files, &Borrowed(RefCell::new(run)), |_| {}).unwrap_err();
    assert!(error.to_string().contains("no space left"), "{error}");
    alone.reboot(|_| {});
    assert_all_there(&mut alone, "after a full disk");
}
