//! A log with patience: records that the disk has no room for are kept, in order, and appended again. What
//! Raft was told to be on its way stays on its way, so a full disk is a pause and not a hole.

use super::post::Post;
use super::store::Out;
use super::trace::Trace;
use crate::machine::{Duration, Instant, IoResult, OpIds, first_of};
use crate::types::OpId;
use crate::wal::{Location, LogOutput, Lsn, Record, SegmentLog};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A disk that was full is tried again this often.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// In place of the position of a record that the log has not taken.
const REFUSED: Lsn = Lsn(u64::MAX);

/// A log whose refused records are kept and appended again.
#[derive(Clone, Debug)]
pub(super) struct Patient<T> {
    pub(super) log: SegmentLog,
    ops: OpIds,
    /// Not yet written, with what to say when they are; those that the log has not taken come last.
    queued: VecDeque<(Lsn, Record, T)>,
    pub(super) full: bool,
    retry_at: Option<Instant>,
}

/// What a [`Patient`] log reports.
pub(super) enum Report<T> {
    Written(Lsn, Location, T),
    Durable(Lsn),
    Removed(u64),
    Full(bool),
}

impl<T: Clone> Patient<T> {
    pub(super) fn new(log: SegmentLog, ops: OpIds) -> Self {
        Self { log, ops, queued: VecDeque::new(), full: false, retry_at: None }
    }

    pub(super) fn append(&mut self, record: Record, tag: T) -> Lsn {
        // Until what was refused is tried again, what comes waits behind it.
        let waits = self.retry_at.is_some();
        let lsn = if waits { REFUSED } else { self.log.append(record.clone()) };
        self.queued.push_back((lsn, record, tag));
        lsn
    }

    /// Whether everything that was appended is in the file.
    pub(super) fn is_written(&self) -> bool {
        self.queued.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        first_of([self.log.deadline(), self.retry_at])
    }

    pub(super) fn pump(&mut self, now: Instant, out: &mut Out<'_>) -> Vec<Report<T>> {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            let refused = self.queued.iter_mut().filter(|(lsn, ..)| *lsn == REFUSED);
            for (lsn, record, _) in refused {
                *lsn = self.log.append(record.clone());
            }
            // What had asked for a sync was refused with the rest.
            self.log.request_sync();
        }
        let mut outputs = Vec::new();
        self.log.pump(now, &mut self.ops, &mut outputs);
        self.carry_out(now, outputs, out)
    }

    pub(super) fn on_done(
        &mut self,
        now: Instant,
        op: OpId,
        result: &IoResult,
        out: &mut Out<'_>,
    ) -> Option<Vec<Report<T>>> {
        let mut outputs = Vec::new();
        if !self.log.on_done(now, op, result, &mut self.ops, &mut outputs) {
            return None;
        }
        Some(self.carry_out(now, outputs, out))
    }

    fn carry_out(
        &mut self,
        now: Instant,
        outputs: Vec<LogOutput>,
        out: &mut Out<'_>,
    ) -> Vec<Report<T>> {
        let mut reports = Vec::new();
        for output in outputs {
            match output {
                LogOutput::Io(io) => out.ios.push(io),
                LogOutput::Written { locations, .. } => {
                    for (lsn, location) in locations {
                        while let Some((queued, _, tag)) =
                            self.queued.pop_front_if(|(queued, _, _)| *queued <= lsn)
                        {
                            assert_eq!(queued, lsn, "records are written in order");
                            reports.push(Report::Written(lsn, location, tag));
                        }
                    }
                    if self.full {
                        self.full = false;
                        reports.push(Report::Full(false));
                    }
                }
                LogOutput::Durable { upto } => reports.push(Report::Durable(upto)),
                LogOutput::NoSpace { first, .. } => {
                    if !self.full {
                        reports.push(Report::Full(true));
                    }
                    self.full = true;
                    self.retry_at = Some(now + FULL_RETRY);
                    for (lsn, _, _) in self.queued.iter_mut().filter(|(lsn, ..)| *lsn >= first) {
                        *lsn = REFUSED;
                    }
                }
                LogOutput::Removed { segment } => reports.push(Report::Removed(segment)),
                LogOutput::Failed(halt) => *out.halt = Some(halt),
                LogOutput::Trace(event) => out.posts.push(Post::Trace(Trace::Log(event))),
            }
        }
        reports
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may panic")]
    use super::*;
    use crate::machine::{FileKind, Io, IoDone, IoError, IoOp};
    use crate::types::{GroupId, Index, Term};
    use crate::wal::{Config, Identity, Recovery, RecoveryOutput};
    use bytes::Bytes;

    /// A log on a disk that is full as long as `full` says.
    struct Bench {
        log: Patient<u64>,
        now: Instant,
        full: bool,
        underway: VecDeque<IoOp>,
        written: Vec<u64>,
    }

    impl Bench {
        fn new() -> Self {
            let config = Config::new(FileKind::Wal, [7; 16]);
            let (mut ops, mut found) = (OpIds::new(1, 1), Vec::new());
            Recovery::new(config, &[]).start(&mut ops, &mut found);
            let Some(RecoveryOutput::Finished(log)) = found.pop() else { panic!("{found:?}") };
            let log = Patient::new(*log, ops);
            let underway = VecDeque::new();
            Self { log, now: Instant(0), full: false, underway, written: Vec::new() }
        }

        fn append(&mut self, number: u64) {
            let identity =
                Identity { kind: 1, group: GroupId(0), index: Index(number), term: Term(1) };
            self.log.append(Record::new(identity, Bytes::from_static(b"x")), number);
        }

        fn step(
            &mut self,
            step: impl FnOnce(&mut Patient<u64>, Instant, &mut Out<'_>) -> Vec<Report<u64>>,
        ) {
            let (mut posts, mut ios, mut hashes, mut halt) =
                (Vec::new(), Vec::new(), Vec::new(), None);
            let mut out =
                Out { posts: &mut posts, ios: &mut ios, hashes: &mut hashes, halt: &mut halt };
            let reports = step(&mut self.log, self.now, &mut out);
            assert_eq!(halt, None);
            self.underway.extend(ios);
            self.written.extend(reports.into_iter().filter_map(|report| match report {
                Report::Written(_, _, number) => Some(number),
                _ => None,
            }));
        }

        /// Completes one operation; whether there was one.
        fn complete(&mut self) -> bool {
            let Some(IoOp { op, io }) = self.underway.pop_front() else { return false };
            let grows = matches!(io, Io::Create { .. } | Io::Write { .. });
            let result = if self.full && grows { Err(IoError::NoSpace) } else { Ok(IoDone::Ok) };
            self.step(|log, now, out| log.on_done(now, op, &result, out).unwrap());
            self.pump();
            true
        }

        fn pump(&mut self) {
            self.step(Patient::pump);
        }

        fn settle(&mut self) {
            self.pump();
            while self.complete() {}
        }
    }

    #[test]
    fn what_comes_while_the_disk_is_tried_again_is_written_too() {
        // At every moment of the second try, a record comes.
        for moment in 0..8 {
            let mut bench = Bench::new();
            bench.full = true;
            bench.append(1);
            bench.settle();
            assert!(bench.log.full);
            bench.append(2);
            bench.full = false;
            bench.now = bench.log.deadline().unwrap();
            bench.pump();
            for _ in 0..moment {
                bench.complete();
            }
            bench.append(3);
            bench.settle();
            assert_eq!(bench.written, [1, 2, 3], "the last came at moment {moment}");
            assert!(bench.log.is_written() && !bench.log.full);
        }
    }

    #[test]
    fn a_full_disk_keeps_the_order_however_long_it_lasts() {
        let mut bench = Bench::new();
        bench.append(1);
        bench.settle();
        bench.full = true;
        for number in 2..6 {
            bench.append(number);
            bench.settle();
            if let Some(at) = bench.log.deadline() {
                bench.now = bench.now.max(at);
            }
        }
        assert_eq!(bench.written, [1]);
        bench.full = false;
        bench.now = bench.log.deadline().unwrap();
        bench.settle();
        assert_eq!(bench.written, [1, 2, 3, 4, 5]);
    }
}
