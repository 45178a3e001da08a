//! Random operations against a list: after any crash the log holds a prefix, and all that was durable.

use super::super::{Config, LogTrace, Lsn, Recovered};
use super::disk::Disk;
use super::{LogOutput, Record, assert_records, record, recover};
use crate::machine::{Duration, FileKind, Instant, OpIds};
use crate::rng::Rng;
use alloc::vec::Vec;

/// A record as the model knows it.
#[derive(Clone, Debug)]
struct Known {
    lsn: Lsn,
    record: Record,
    segment: Option<u64>,
    durable: bool,
    refused: bool,
}

struct Run {
    rng: Rng,
    config: Config,
    disk: Disk,
    log: super::SegmentLog,
    ops: OpIds,
    now: Instant,
    known: Vec<Known>,
    /// Segments whose removal is under way: their records may be there or not.
    removing: Vec<u64>,
    next: u64,
    failed: bool,
    /// How many segments had the file of another one.
    reused: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let block_bytes = 512 << rng.below(3);
        let config = Config {
            segment_bytes: u64::from(block_bytes) * rng.between(8, 24),
            block_bytes,
            batch_bytes_max: rng.between(600, 5_000),
            eager_sync: rng.chance(1, 2),
            ..Config::new(FileKind::Wal, [9; 16])
        };
        let mut disk = Disk::default();
        let log = recover(&mut disk, &config, &mut rng).unwrap().log;
        let ops = OpIds::new(5, 3);
        let (known, removing) = (Vec::new(), Vec::new());
        let now = Instant(0);
        Self {
            rng,
            config,
            disk,
            log,
            ops,
            now,
            known,
            removing,
            next: 1,
            failed: false,
            reused: 0,
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..30 => self.append(),
            30..45 => self.pump(),
            45..85 => self.complete(),
            85..89 => {
                self.now = self.now + Duration::from_millis(self.rng.below(8));
                self.pump();
            }
            89..93 => {
                self.log.request_sync();
                self.pump();
            }
            93..95 => self.remove_oldest(),
            95 if self.rng.chance(1, 4) => self.log.keep_spares(self.rng.chance(2, 3)),
            95..96 => self.disk.full = !self.disk.full && self.rng.chance(1, 2),
            96..97 => self.disk.fail_syncs = self.rng.chance(1, 8),
            97..98 => self.crash(),
            _ => {
                while !self.disk.is_idle() {
                    self.complete();
                }
            }
        }
        if self.failed {
            self.crash();
        }
    }

    fn append(&mut self) {
        let most = self.log.payload_bytes_max().min(1_500);
        let bytes = if self.rng.chance(1, 3) { self.rng.below(most) } else { self.rng.below(80) };
        let record = record(self.next, bytes as usize);
        self.next += 1;
        let lsn = self.log.append(record.clone());
        self.known.push(Known { lsn, record, segment: None, durable: false, refused: false });
    }

    fn pump(&mut self) {
        let mut out = Vec::new();
        self.log.pump(self.now, &mut self.ops, &mut out);
        self.take(out);
    }

    fn complete(&mut self) {
        if let Some((op, result)) = self.disk.complete(&mut self.rng) {
            let mut out = Vec::new();
            assert!(self.log.on_done(self.now, op, &result, &mut self.ops, &mut out));
            self.take(out);
        }
    }

    fn take(&mut self, out: Vec<LogOutput>) {
        for output in out {
            match output {
                LogOutput::Io(op) => self.disk.submit(op),
                LogOutput::Written { locations, .. } => {
                    for (lsn, location) in locations {
                        let known = self.known.iter_mut().rfind(|known| known.lsn == lsn);
                        known.unwrap().segment = Some(location.segment);
                    }
                }
                LogOutput::Durable { upto } => {
                    for known in self.known.iter_mut().filter(|known| known.lsn <= upto) {
                        assert!(known.refused || known.segment.is_some(), "{known:?}");
                        known.durable |= !known.refused;
                    }
                }
                LogOutput::NoSpace { first, last } => {
                    for known in &mut self.known {
                        if known.lsn >= first && known.lsn <= last {
                            assert!(!known.durable && !known.refused, "{known:?}");
                            known.refused = true;
                        }
                    }
                }
                LogOutput::Removed { segment } => {
                    self.removing.retain(|removing| *removing != segment);
                    self.known.retain(|known| known.segment != Some(segment));
                }
                LogOutput::Failed(_) => self.failed = true,
                LogOutput::Trace(LogTrace::SegmentReused { segment, was }) => {
                    assert!(was < segment, "{segment} was {was}");
                    self.reused += 1;
                }
                LogOutput::Trace(_) => {}
            }
        }
    }

    fn remove_oldest(&mut self) {
        let oldest = self.log.segments().next().map(|segment| segment.number);
        if let Some(number) = oldest.filter(|number| self.log.current_segment() != Some(*number)) {
            self.log.remove_segment(number);
            self.removing.push(number);
        }
    }

    fn crash(&mut self) {
        self.disk.full = false;
        self.disk.fail_syncs = false;
        if self.failed || self.rng.chance(2, 3) {
            self.disk.power_loss(&mut self.rng);
        } else {
            self.disk.kill(&mut self.rng);
        }
        self.failed = false;
        // Sometimes recovery itself is cut short.
        if self.rng.chance(1, 3) {
            self.interrupted_recovery();
        }
        let opened = recover(&mut self.disk, &self.config, &mut self.rng).unwrap();
        assert_eq!(opened.damages, [], "no rot here");
        self.check(&opened.records);
        self.log = opened.log;
        self.ops = OpIds::new(5, 3);
        self.removing.clear();
    }

    fn interrupted_recovery(&mut self) {
        let mut ops = OpIds::new(1, 1);
        let mut recovery = super::Recovery::new(self.config.clone(), &self.disk.found());
        let mut out = Vec::new();
        recovery.start(&mut ops, &mut out);
        for _ in 0..self.rng.below(30) {
            for output in core::mem::take(&mut out) {
                if let super::RecoveryOutput::Io(op) = output {
                    self.disk.submit(op);
                }
            }
            let Some((op, result)) = self.disk.complete(&mut self.rng) else { break };
            recovery.on_done(op, &result, &mut ops, &mut out);
        }
        for output in out {
            if let super::RecoveryOutput::Io(op) = output {
                self.disk.submit(op);
            }
        }
        self.disk.power_loss(&mut self.rng);
    }

    /// What was found is what was appended, in order, with nothing durable missing; and it is the new truth.
    fn check(&mut self, found: &[Recovered]) {
        let mut rest = found.iter().peekable();
        let mut truth = Vec::new();
        let mut ended = false;
        let mut revived = false;
        for mut known in core::mem::take(&mut self.known) {
            let is_next = rest.peek().is_some_and(|it| it.identity == known.record.identity);
            let may_be_gone =
                known.refused || known.segment.is_some_and(|it| self.removing.contains(&it));
            if is_next {
                let it = rest.next().unwrap();
                assert_records(core::slice::from_ref(it), &[known.record.clone()], &known);
                assert!(!ended, "a hole before {known:?}");
                assert!(!revived || known.refused, "{known:?} behind refused records");
                revived |= known.refused;
                known.lsn = Lsn(0);
                (known.durable, known.refused) = (true, false);
                known.segment = Some(it.location.segment);
                truth.push(known);
            } else if !may_be_gone {
                assert!(!known.durable, "{known:?} was durable and is gone");
                ended = true;
            }
        }
        assert_eq!(rest.next(), None, "nobody appended this");
        self.known = truth;
    }
}

#[test]
fn a_crashed_log_is_a_prefix_of_what_was_appended() {
    let mut reused = 0;
    for seed in 0..500 {
        let mut run = Run::new(seed);
        for _ in 0..600 {
            run.step();
        }
        run.crash();
        run.disk.full = false;
        // Never wedged: whatever happened, an append becomes durable.
        run.append();
        run.log.request_sync();
        run.pump();
        while !run.disk.is_idle() {
            run.complete();
        }
        assert!(run.known.last().unwrap().durable, "seed {seed}: {:?}", run.log);
        reused += run.reused;
    }
    assert!(reused > 500, "{reused} segments in files of others");
}
