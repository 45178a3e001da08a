//! What the log promises, on a disk that keeps to the contract and no more.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that panics has said what it has to say"
)]

mod behaviour;
pub(crate) mod disk;
mod format;
mod model;
mod recycled;
mod rot;

use super::{
    Config, Identity, LogDamage, LogOutput, Lsn, Record, Recovered, RecoveredPayload, Recovery,
    RecoveryOutput, SegmentLog,
};
use crate::machine::{Duration, FileKind, Halt, Instant, OpIds};
use crate::rng::Rng;
use crate::types::{GroupId, Index, Term};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use disk::Disk;

fn config() -> Config {
    Config {
        segment_bytes: 8 << 10,
        block_bytes: 512,
        batch_bytes_max: 2 << 10,
        ..Config::new(FileKind::Wal, [7; 16])
    }
}

/// Record `n`, told apart by everything in it.
fn record(n: u64, bytes: usize) -> Record {
    let identity = Identity {
        kind: (n % 200) as u8,
        group: GroupId((n % 5) as u32),
        index: Index(n),
        term: Term(n / 3),
    };
    let mut payload = vec![0; bytes];
    Rng::new(n).fill(&mut payload);
    let half = bytes / 2;
    Record {
        identity,
        note: Bytes::from(vec![n as u8; (n % 9) as usize]),
        payload: vec![
            Bytes::copy_from_slice(&payload[..half]),
            Bytes::copy_from_slice(&payload[half..]),
        ],
        payload_crc: None,
    }
}

#[derive(Debug)]
struct Opened {
    records: Vec<Recovered>,
    damages: Vec<LogDamage>,
    log: SegmentLog,
}

fn recover(disk: &mut Disk, config: &Config, rng: &mut Rng) -> Result<Opened, Halt> {
    let mut ops = OpIds::new(1, 1);
    let mut recovery = Recovery::new(config.clone(), &disk.found());
    let (mut out, mut records, mut damages) = (Vec::new(), Vec::new(), Vec::new());
    recovery.start(&mut ops, &mut out);
    loop {
        for output in core::mem::take(&mut out) {
            match output {
                RecoveryOutput::Io(op) => disk.submit(op),
                RecoveryOutput::Record(record) => records.push(record),
                RecoveryOutput::Damage(damage) => damages.push(damage),
                RecoveryOutput::Finished(log) => {
                    assert!(disk.is_idle(), "recovery finished before its operations");
                    return Ok(Opened { records, damages, log: *log });
                }
                RecoveryOutput::Failed(halt) => return Err(halt),
            }
        }
        let (op, result) = disk.complete(rng).expect("recovery stalls");
        assert!(recovery.on_done(op, &result, &mut ops, &mut out));
    }
}

/// A log on its disk, driven until nothing is left to do.
#[derive(Debug)]
struct Rig {
    disk: Disk,
    log: SegmentLog,
    ops: OpIds,
    rng: Rng,
    now: Instant,
    out: Vec<LogOutput>,
}

impl Rig {
    fn new(config: &Config) -> Self {
        let (mut disk, mut rng) = (Disk::default(), Rng::new(1));
        let log = recover(&mut disk, config, &mut rng).unwrap().log;
        Self { disk, log, ops: OpIds::new(1, 1), rng, now: Instant(0), out: Vec::new() }
    }

    fn pump(&mut self) {
        let mut out = Vec::new();
        self.log.pump(self.now, &mut self.ops, &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Vec<LogOutput>) {
        for output in out {
            match output {
                LogOutput::Io(op) => self.disk.submit(op),
                other => self.out.push(other),
            }
        }
    }

    fn complete(&mut self) -> bool {
        let Some((op, result)) = self.disk.complete(&mut self.rng) else { return false };
        let mut out = Vec::new();
        assert!(self.log.on_done(self.now, op, &result, &mut self.ops, &mut out));
        self.take(out);
        true
    }

    fn run(&mut self) {
        self.pump();
        while self.complete() {}
    }

    /// Runs until the mark is written too.
    fn settle(&mut self) {
        self.log.request_sync();
        self.run();
        self.now = self.now + Duration::from_millis(10);
        self.run();
        assert!(self.log.is_settled(), "{:?}", self.log);
    }

    /// Appends each record as a batch of its own.
    fn append_each(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<Lsn> {
        let append = |record| {
            let lsn = self.log.append(record);
            self.run();
            lsn
        };
        records.into_iter().map(append).collect()
    }
}

/// Asserts that these are records `numbers` in order, each with its bytes or known to have lost them.
fn assert_records(found: &[Recovered], expected: &[Record], context: &dyn core::fmt::Debug) {
    assert_eq!(found.len(), expected.len(), "{context:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.identity, expected.identity, "{context:?}");
        assert_eq!(found.note, expected.note, "{context:?}");
        match &found.payload {
            RecoveredPayload::Kept(bytes) => {
                assert_eq!(*bytes, expected.payload.concat(), "{context:?}");
            }
            RecoveredPayload::Lost => {}
            RecoveredPayload::Stored => panic!("a payload was not read: {context:?}"),
        }
    }
}
