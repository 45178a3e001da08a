//! A log with patience: records that the disk has no room for are kept, in order, and appended again. What
//! Raft was told to be on its way stays on its way, so a full disk is a pause and not a hole.

use super::post::Post;
use super::store::Out;
use super::trace::Trace;
use crate::machine::{Duration, Instant, IoResult, OpIds};
use crate::types::OpId;
use crate::wal::{Location, LogOutput, Lsn, Record, SegmentLog};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A disk that was full is tried again this often.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// A log whose refused records are kept and appended again.
#[derive(Clone, Debug)]
pub(super) struct Patient<T> {
    pub(super) log: SegmentLog,
    ops: OpIds,
    /// Appended and not yet written, with what to say when they are.
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
        // While the disk is full, what comes waits behind what was refused.
        let lsn = if self.full { Lsn(u64::MAX) } else { self.log.append(record.clone()) };
        self.queued.push_back((lsn, record, tag));
        lsn
    }

    /// Whether everything that was appended is in the file.
    pub(super) fn is_written(&self) -> bool {
        self.queued.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.log.deadline(), self.retry_at].into_iter().flatten().min()
    }

    pub(super) fn pump(&mut self, now: Instant, out: &mut Out<'_>) -> Vec<Report<T>> {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for (lsn, record, _) in &mut self.queued {
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
                        *lsn = Lsn(u64::MAX);
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
