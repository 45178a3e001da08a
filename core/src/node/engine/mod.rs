//! The table behind the shards, where it is an engine of somebody else's (`crate::rows`, ADR 22).
//!
//! The replicas write frames as ever, and this machine makes rows of them (`kv::rows`). Frames are queued and written in
//! their order, all that came meanwhile in one write, one write and one sync under way. Each frame has a place in
//! **segments** that are nothing but numbers: a body's row is under its place, and the reader finds it by that.
//!
//! Records that go take their rows with them at once. Bodies that nobody needs any more are found by looking through a segment's, as the table log's
//! cleaner does ([`sweeper`]); what a segment holds is noted when it is begun (as much as fits it) and when it ends.
//!
//! An engine that is lost, or that a boot finds to be not what was written, costs its replicas their states, as a lost
//! table log does: they vote with the log that they have, and are given another state by their peers.

pub(super) mod loader;
pub(super) mod sweeper;

use super::patient::Report;
use super::store::{FrameTag, Out};
use crate::kv::frame::{Frame, Place};
use crate::kv::rows::{self, BodyRow};
use crate::kv::table::RecordLocation;
use crate::machine::{Duration, Halt, Instant, Io, IoError, IoOp, IoResult, OpIds};
use crate::planted::{Bug, Planted, Point};
use crate::rows::{RowChange, RowIo, Space};
use crate::types::{GroupId, OpId, Position};
use crate::wal::{Location, Lsn};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;

/// A disk that was full is tried again this often.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// A segment is so many times smaller than one of a table log would be: it costs nothing, and is looked through whole.
const SMALLER: u64 = 8;
/// No more is put in one write once it has this many bytes.
const WRITE_BYTES_MAX: usize = 4 << 20;

/// What an engine held at boot.
#[derive(Clone, Debug, Default)]
pub(in crate::node) struct Found {
    /// How many bytes of bodies are under each segment's numbers, at the most.
    pub(in crate::node) segments: BTreeMap<u64, u64>,
    /// Groups that have no replica here, and rows.
    pub(in crate::node) left: Vec<GroupId>,
    /// The others, and the life of each that counts.
    pub(in crate::node) current: Vec<(GroupId, u64)>,
}

/// What is to be written for one record of the queue.
#[derive(Clone, Debug)]
struct Queued {
    lsn: Lsn,
    changes: Vec<RowChange>,
    /// The frame that it is, if it is one.
    frame: Option<(Location, FrameTag)>,
}

#[derive(Clone, Debug)]
struct Writing {
    /// `None` while it waits for room.
    op: Option<OpId>,
    upto: Lsn,
    changes: Vec<RowChange>,
    frames: Vec<(Lsn, Location, FrameTag)>,
}

/// An engine, from the node's side.
#[derive(Clone, Debug)]
pub(in crate::node) struct Engine {
    ops: OpIds,
    segment_bytes: u64,
    /// Where the next frame goes.
    next: Place,
    /// Whether the segment that this is in was begun in this boot.
    begun: bool,
    /// Bytes of bodies in the current segment.
    filled: u64,
    segments: BTreeMap<u64, u64>,
    queue: VecDeque<Queued>,
    writing: Option<Writing>,
    syncing: Option<(OpId, Lsn)>,
    appended: Lsn,
    written: Lsn,
    durable: Lsn,
    /// Through here it is to become durable.
    wanted: Lsn,
    pub(in crate::node) full: bool,
    retry_at: Option<Instant>,
    failed: bool,
    planted: Planted,
}

impl Engine {
    pub(in crate::node) fn new(
        found: Found,
        table_segment_bytes: u64,
        planted: Planted,
        ops: OpIds,
    ) -> Self {
        let segment_bytes = table_segment_bytes / SMALLER;
        // What was written last may be under any number of the segment that was current: none is used twice.
        let last = found.segments.keys().next_back().copied().unwrap_or(0);
        let mut engine = Self {
            ops,
            segment_bytes,
            // The first frame begins the one after it.
            next: Place { segment: last, offset: segment_bytes },
            begun: false,
            filled: 0,
            segments: found.segments,
            queue: VecDeque::new(),
            writing: None,
            syncing: None,
            appended: Lsn(0),
            written: Lsn(0),
            durable: Lsn(0),
            wanted: Lsn(0),
            full: false,
            retry_at: None,
            failed: false,
            planted,
        };
        let later = found.current.into_iter();
        let later = later.map(|(group, generation)| rows::forget_after(group, generation));
        let left = found.left.into_iter().flat_map(rows::forget);
        let gone: Vec<RowChange> = left.chain(later).collect();
        if !gone.is_empty() {
            engine.enqueue(gone, None);
        }
        engine
    }

    /// Takes the next frame of a group.
    pub(in crate::node) fn append(&mut self, group: GroupId, frame: Frame, position: Position) {
        let bytes = frame.bytes();
        let mut changes = Vec::new();
        let early = [Point::SegmentEarly, Point::SweepEarly];
        let early = early.iter().any(|point| self.planted.forces(*point, self.appended.0));
        if early || self.next.offset.saturating_add(bytes) > self.segment_bytes {
            self.begin_segment(bytes, &mut changes);
        }
        let Place { segment, offset } = self.next;
        let of_frame = rows::changes_of(group, &frame, self.next);
        if self.planted.is(Bug::EngineSplitsFrames) {
            // What is said of the group comes last, where the frame changes that.
            let said: Vec<RowChange> = of_frame.last().cloned().into_iter().collect();
            self.enqueue(said, None);
        }
        changes.extend(of_frame);
        self.next.offset += bytes;
        let of_bodies = changes.iter().filter_map(|change| match change {
            RowChange::Put { space: Space::Bodies, value, .. } => Some(value.len() as u64),
            _ => None,
        });
        self.filled += of_bodies.sum::<u64>();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let location = Location { segment, offset, bytes, crc: 0 };
        let tag = FrameTag { group, position, placed: frame.placed };
        self.enqueue(changes, Some((location, tag)));
    }

    /// A replica of the group begins, with nothing.
    pub(in crate::node) fn forget(&mut self, group: GroupId) {
        self.enqueue(rows::forget(group), None);
    }

    fn begin_segment(&mut self, bytes: u64, changes: &mut Vec<RowChange>) {
        let old = self.next.segment;
        if core::mem::replace(&mut self.begun, true) {
            let filled = core::mem::take(&mut self.filled);
            changes.push(self.note(old, filled));
        }
        self.next = Place { segment: old + 1, offset: 0 };
        // A crash leaves it at this, which is about the most that can be there.
        let bound = self.segment_bytes.max(bytes);
        self.segments.insert(old + 1, bound);
        changes.push(rows::note_segment(old + 1, Some(bound)));
    }

    /// Notes what is under a segment's numbers.
    fn note(&mut self, segment: u64, bytes: u64) -> RowChange {
        let bytes = (bytes > 0).then_some(bytes);
        match bytes {
            Some(bytes) => self.segments.insert(segment, bytes),
            None => self.segments.remove(&segment),
        };
        rows::note_segment(segment, bytes)
    }

    fn enqueue(&mut self, changes: Vec<RowChange>, frame: Option<(Location, FrameTag)>) {
        self.appended.0 += 1;
        self.queue.push_back(Queued { lsn: self.appended, changes, frame });
    }

    /// Reads the row of the body at this place.
    pub(in crate::node) fn read(location: RecordLocation, ops: &mut OpIds) -> IoOp {
        let key = rows::body_key(location);
        IoOp { op: ops.take(), io: Io::Rows(RowIo::Get { space: Space::Bodies, key }) }
    }

    /// The body in a row that was read.
    pub(in crate::node) fn body(row: &Bytes) -> Option<Bytes> {
        BodyRow::of(row.clone()).map(|row| row.body)
    }

    /// Everything that was appended is to become durable.
    pub(in crate::node) fn request_sync(&mut self) {
        self.wanted = self.appended;
    }

    pub(in crate::node) const fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Whether everything that was appended is written.
    pub(in crate::node) const fn is_written(&self) -> bool {
        self.written.0 == self.appended.0
    }

    /// Whether everything that is to be durable is.
    pub(in crate::node) const fn is_settled(&self) -> bool {
        self.durable.0 >= self.wanted.0
    }

    /// Begins what can begin.
    pub(in crate::node) fn pump(&mut self, now: Instant, out: &mut Out<'_>) {
        if self.failed {
            return;
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.write(out);
        }
        if self.writing.is_none() && !self.queue.is_empty() {
            self.gather();
            self.write(out);
        }
        let due = self.durable < self.wanted && self.wanted <= self.written;
        if due && self.syncing.is_none() {
            let op = self.ops.take();
            self.syncing = Some((op, self.written));
            out.ios.push(IoOp { op, io: Io::Rows(RowIo::Sync) });
        }
    }

    /// Makes the next write of what is queued.
    fn gather(&mut self) {
        let (mut upto, mut bytes) = (self.written, 0);
        let (mut changes, mut frames) = (Vec::new(), Vec::new());
        let split = self.planted.is(Bug::EngineSplitsFrames);
        while let Some(queued) =
            self.queue.pop_front_if(|_| bytes < WRITE_BYTES_MAX && !(split && bytes > 0))
        {
            bytes += queued.changes.iter().map(RowChange::bytes).sum::<usize>();
            changes.extend(queued.changes);
            upto = queued.lsn;
            frames.extend(queued.frame.map(|(location, tag)| (upto, location, tag)));
        }
        self.writing = Some(Writing { op: None, upto, changes, frames });
    }

    fn write(&mut self, out: &mut Out<'_>) {
        let Some(writing) = &mut self.writing else { return };
        let op = self.ops.take();
        writing.op = Some(op);
        let changes = writing.changes.clone();
        out.ios.push(IoOp { op, io: Io::Rows(RowIo::Write { changes }) });
    }

    /// What came of an operation; `None` if it was none of the engine's.
    pub(in crate::node) fn on_done(
        &mut self,
        now: Instant,
        op: OpId,
        result: &IoResult,
        out: &mut Out<'_>,
    ) -> Option<Vec<Report<FrameTag>>> {
        let mut reports = Vec::new();
        if let Some((_, upto)) = self.syncing.take_if(|(syncing, _)| *syncing == op) {
            match result {
                Ok(_) => {
                    self.durable = upto;
                    reports.push(Report::Durable(upto));
                }
                Err(_) => self.fail("a sync failed", out),
            }
        } else if self.writing.as_ref().is_some_and(|writing| writing.op == Some(op)) {
            self.on_written(now, result, &mut reports, out);
        } else {
            return None;
        }
        self.pump(now, out);
        Some(reports)
    }

    fn on_written(
        &mut self,
        now: Instant,
        result: &IoResult,
        reports: &mut Vec<Report<FrameTag>>,
        out: &mut Out<'_>,
    ) {
        match result {
            Ok(_) => {
                let Some(Writing { upto, frames, .. }) = self.writing.take() else { return };
                self.written = upto;
                let frames = frames.into_iter();
                reports.extend(frames.map(|(lsn, at, tag)| Report::Written(lsn, at, tag)));
                if core::mem::take(&mut self.full) {
                    reports.push(Report::Full(false));
                }
            }
            Err(IoError::NoSpace) => {
                if let Some(writing) = &mut self.writing {
                    writing.op = None;
                }
                self.retry_at = Some(now + FULL_RETRY);
                if !core::mem::replace(&mut self.full, true) {
                    reports.push(Report::Full(true));
                }
            }
            Err(IoError::Device | IoError::NotFound) => self.fail("a write failed", out),
        }
    }

    /// As after a failed sync of a log: what is durable is known again after a restart.
    fn fail(&mut self, what: &str, out: &mut Out<'_>) {
        self.failed = true;
        let reason = alloc::format!("the engine of the records: {what}");
        *out.halt = Some(Halt { reason });
    }
}
