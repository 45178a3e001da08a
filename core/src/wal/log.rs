//! The machine that appends: queue, batch, write, sync, mark.

use super::record::{self, Place, Seal, SegmentHeader};
use super::segment::{SegmentEvent, Segments};
use super::{Config, Location, LogOutput, LogTrace, Lsn, Record, SegmentStat};
use crate::machine::{FileId, Halt, Instant, Io, IoError, IoOp, IoResult, OpIds};
use crate::planted::{Bug, Point};
use crate::types::OpId;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// The log, open for appending. [`super::Recovery`] makes it.
///
/// Calls: any number of [`Self::append`] and [`Self::request_sync`], then one [`Self::pump`] at the end of the
/// step. Completions go to [`Self::on_done`], which pumps by itself.
///
/// - `durable <= written <= appended` (`assert_invariants`).
/// - `marked_seq <= synced_seq <= written_seq < next_seq` (`assert_invariants`).
/// - An eager log writes nothing while anything is unsynced (`assert_invariants`).
#[derive(Clone, Debug)]
pub struct SegmentLog {
    config: Config,
    seal: Seal,
    segments: Segments,
    queue: VecDeque<(Lsn, Record)>,
    queued_bytes: u64,
    appended: Lsn,
    written: Lsn,
    durable: Lsn,
    next_seq: u64,
    written_seq: u64,
    synced_seq: u64,
    /// The highest mark in a batch that was written.
    marked_seq: u64,
    /// The last batch with records in it: a batch that is only a mark needs none of its own.
    record_seq: u64,
    /// Everything up to here is to be synced.
    sync_target: Lsn,
    /// Whatever is written is to be synced: it is a mark, or the segment is full.
    sync_all: bool,
    writing: Option<Writing>,
    syncing: Option<Syncing>,
    /// What a write that found no space may have left behind: to be overwritten before the next batch.
    debris: Option<Debris>,
    /// When the mark is due if nothing else is written before.
    mark_at: Option<Instant>,
    failed: bool,
}

#[derive(Clone, Debug)]
struct Writing {
    op: OpId,
    what: WhatIsWritten,
}

#[derive(Clone, Debug)]
enum WhatIsWritten {
    Batch {
        place: Place,
        start: u64,
        end: u64,
        locations: Vec<(Lsn, Location)>,
    },
    /// Zeros over debris; then the records from `first` on are refused.
    Zeros {
        first: Option<Lsn>,
    },
}

#[derive(Clone, Debug)]
struct Syncing {
    op: OpId,
    seq: u64,
    upto: Lsn,
}

#[derive(Clone, Copy, Debug)]
struct Debris {
    file: FileId,
    offset: u64,
    bytes: u64,
}

impl SegmentLog {
    /// A log whose recovered part is all synced and ends with batch `last_seq`; the last with records in it
    /// is `record_seq`, and marks reach up to `marked_seq`.
    pub(super) fn open(
        config: Config,
        segments: Segments,
        (last_seq, record_seq, marked_seq): (u64, u64, u64),
    ) -> Self {
        assert!(marked_seq <= last_seq && record_seq <= last_seq, "{marked_seq} of {last_seq}");
        let block = config.block_bytes;
        assert!(block.is_power_of_two() && (512..=65_536).contains(&block), "blocks of {block}");
        assert!(config.batch_bytes_max < 1 << 31, "batches of {} bytes", config.batch_bytes_max);
        assert!(
            config.segment_bytes >= 4 * u64::from(config.block_bytes),
            "segments of {} bytes",
            config.segment_bytes
        );
        Self {
            seal: Seal::of(&config),
            config,
            segments,
            queue: VecDeque::new(),
            queued_bytes: 0,
            appended: Lsn(0),
            written: Lsn(0),
            durable: Lsn(0),
            next_seq: last_seq + 1,
            written_seq: last_seq,
            synced_seq: last_seq,
            marked_seq,
            record_seq,
            sync_target: Lsn(0),
            sync_all: false,
            writing: None,
            syncing: None,
            debris: None,
            mark_at: (marked_seq < record_seq).then_some(Instant(0)),
            failed: false,
        }
    }

    /// Queues a record. Nothing is written before [`Self::pump`]. Hashes the payload unless
    /// [`Record::payload_crc`] is given.
    ///
    /// # Panics
    /// If the payload exceeds [`Self::payload_bytes_max`] or the note [`super::NOTE_BYTES_MAX`].
    pub fn append(&mut self, mut record: Record) -> Lsn {
        let bytes = record.payload_bytes();
        assert!(bytes <= self.payload_bytes_max(), "payload of {bytes} bytes");
        record.payload_crc.get_or_insert_with(|| record::crc_of(&record.payload));
        self.appended.0 += 1;
        if !self.failed {
            self.queued_bytes += bytes;
            self.queue.push_back((self.appended, record));
        }
        self.appended
    }

    /// The longest payload that fits a segment. The owner's own limits are to be far below.
    #[must_use]
    pub fn payload_bytes_max(&self) -> u64 {
        let block = u64::from(self.config.block_bytes);
        let overhead = 2 * (record::BATCH_HEADER_BYTES + record::ENTRY_BYTES) as u64
            + 2 * super::NOTE_BYTES_MAX as u64;
        // Segment header and the block kept free for a mark.
        self.config.segment_bytes.min(1 << 31) - 2 * block - overhead.next_multiple_of(block)
    }

    /// Asks that everything appended so far becomes durable as soon as possible. An eager log does so anyway.
    pub const fn request_sync(&mut self) {
        self.sync_target = self.appended;
    }

    /// Starts what can be started: at most one write, one sync, one step of making a segment and one of
    /// removing one.
    pub fn pump(&mut self, now: Instant, ops: &mut OpIds, out: &mut Vec<LogOutput>) {
        if self.failed {
            return;
        }
        let mut io = Vec::new();
        self.segments.start_removal(&self.config, ops, &mut io);
        self.segments.make_ahead(&self.config, ops, &mut io);
        out.extend(io.into_iter().map(LogOutput::Io));
        self.maybe_write(now, ops, out);
        self.maybe_sync(ops, out);
        self.assert_invariants();
    }

    /// Takes the completion of an operation and goes on. `false`: the operation isn't this log's, and
    /// nothing was done.
    pub fn on_done(
        &mut self,
        now: Instant,
        op: OpId,
        result: &IoResult,
        ops: &mut OpIds,
        out: &mut Vec<LogOutput>,
    ) -> bool {
        if self.writing.as_ref().is_some_and(|writing| writing.op == op) {
            if let Some(writing) = self.writing.take() {
                self.on_write_done(writing.what, result, ops, out);
            }
        } else if self.syncing.as_ref().is_some_and(|syncing| syncing.op == op) {
            if let Some(syncing) = self.syncing.take() {
                self.on_sync_done(now, &syncing, result, out);
            }
        } else {
            let mut io = Vec::new();
            let event = self.segments.on_done(op, result, &self.config, ops, &mut io);
            out.extend(io.into_iter().map(LogOutput::Io));
            match event {
                SegmentEvent::NotMine => return false,
                SegmentEvent::Progress => {}
                SegmentEvent::NoSpace => self.on_no_segment(out),
                SegmentEvent::Removed(numbers) => {
                    out.extend(numbers.into_iter().map(|segment| LogOutput::Removed { segment }));
                }
                SegmentEvent::Failed(reason) => self.fail(reason, out),
            }
        }
        self.pump(now, ops, out);
        true
    }

    /// When [`Self::pump`] is to be called if nothing else happens: the mark of an idle log.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let idle = self.queue.is_empty() && self.writing.is_none() && self.syncing.is_none();
        if self.failed || !idle { None } else { self.mark_at }
    }

    /// The read of a payload, or of a part of one. Its completion is the caller's, who verifies
    /// the bytes against the location.
    #[must_use]
    pub fn read(&self, location: Location, ops: &mut OpIds) -> IoOp {
        let file = FileId::new(self.config.kind, location.segment);
        let (offset, len) = (location.offset, location.bytes);
        IoOp { op: ops.take(), io: Io::Read { file, offset, len } }
    }

    /// All segments that hold batches, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentStat> {
        self.segments.iter()
    }

    /// One of [`Self::segments`].
    #[must_use]
    pub fn segment(&self, number: u64) -> Option<&SegmentStat> {
        self.segments.get(number)
    }

    /// The segment that is being written, if any batch was written since the log began.
    #[must_use]
    pub fn current_segment(&self) -> Option<u64> {
        self.segments.current().map(|current| current.number)
    }

    /// Removes a segment for good; the next [`Self::pump`] starts it and [`LogOutput::Removed`] says when it
    /// survives a power loss.
    ///
    /// # Panics
    /// If it is the current segment or none of [`Self::segments`].
    pub fn remove_segment(&mut self, number: u64) {
        self.segments.remove(number);
    }

    /// Whether files of removed segments are kept to be used again, as far as [`Config::spares_max`] allows; those that
    /// there are go otherwise, with the next [`Self::pump`]. A log begins with `true`; `false` is for a disk that is full.
    pub fn keep_spares(&mut self, keep: bool) {
        self.segments.keep_spares(keep);
    }

    /// How many files wait to be used again.
    #[must_use]
    pub fn spares(&self) -> usize {
        self.segments.spares()
    }

    /// The last record appended.
    #[must_use]
    pub const fn appended(&self) -> Lsn {
        self.appended
    }

    /// Every record up to this one is in the file or was refused.
    #[must_use]
    pub const fn written(&self) -> Lsn {
        self.written
    }

    /// Every record up to this one is durable or was refused.
    #[must_use]
    pub const fn durable(&self) -> Lsn {
        self.durable
    }

    /// The last batch that is durable.
    #[must_use]
    pub const fn synced_seq(&self) -> u64 {
        self.synced_seq
    }

    /// Payload bytes that wait to be written.
    #[must_use]
    pub const fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Whether all appends are durable and marked, and no write or sync is in flight. A node
    /// that stops gracefully requests a sync and waits for this.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty()
            && self.writing.is_none()
            && self.syncing.is_none()
            && self.written_seq == self.synced_seq
            && !self.is_mark_missing()
    }

    /// Whether the log has failed: nothing becomes durable any more.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.failed
    }

    fn is_mark_missing(&self) -> bool {
        self.synced_seq.min(self.record_seq) > self.marked_seq
    }

    fn maybe_write(&mut self, now: Instant, ops: &mut OpIds, out: &mut Vec<LogOutput>) {
        let mark_due = self.is_mark_missing() && self.mark_at.is_some_and(|at| at <= now);
        if self.writing.is_some() || (self.queue.is_empty() && !mark_due) {
            return;
        }
        let unsynced = self.written_seq > self.synced_seq;
        if self.config.eager_sync && unsynced {
            return; // Everything appended meanwhile is the next batch.
        }
        if let Some(debris) = self.debris {
            return self.write_zeros(debris, None, ops, out);
        }
        let need = self.queue.front().map_or(0, |(_, record)| record::record_bytes(record));
        if self.room(need).is_none() || self.is_cut_early() {
            // The old segment is never written again, so it must be synced now.
            if unsynced {
                self.sync_all = true;
                return;
            }
            let Some(reused) = self.segments.adopt_standby(self.next_seq) else {
                let mut io = Vec::new();
                self.segments.make_standby(&self.config, ops, &mut io);
                out.extend(io.into_iter().map(LogOutput::Io));
                return;
            };
            if let (Some(was), Some(segment)) = (reused, self.current_segment()) {
                out.push(LogOutput::Trace(LogTrace::SegmentReused { segment, was }));
            }
        }
        self.write_batch(ops, out);
    }

    /// The fault point: this batch begins a segment although the last one has room.
    fn is_cut_early(&self) -> bool {
        let has_batch = self.segments.current().is_some_and(|current| current.used > 0);
        let forces = |seq| self.config.planted.forces(Point::SegmentEarly, seq);
        has_batch && !self.queue.is_empty() && forces(self.next_seq)
    }

    /// Bytes that records may take in the next batch, if `need` of them fit the current segment. The last
    /// block of a segment is left to a mark, so that no idle log needs a new segment to say that it is idle.
    fn room(&self, need: u64) -> Option<u64> {
        let block = u64::from(self.config.block_bytes);
        let current = self.segments.current()?;
        let reserved = if need == 0 { 0 } else { block };
        let free = current.capacity.saturating_sub(current.used.max(block) + reserved);
        let overhead = 2 * record::BATCH_HEADER_BYTES as u64;
        let free = free - free % block;
        (record::batch_bytes(need, self.config.block_bytes) <= free).then(|| free - overhead)
    }

    fn write_batch(&mut self, ops: &mut OpIds, out: &mut Vec<LogOutput>) {
        let need = self.queue.front().map_or(0, |(_, record)| record::record_bytes(record));
        let (Some(room), Some(current)) = (self.room(need), self.segments.current().copied())
        else {
            panic!("{need} bytes don't fit a fresh segment of {}", self.config.segment_bytes)
        };
        let block_bytes = self.config.block_bytes;
        let is_first = current.used == 0;
        let place = Place {
            segment: current.number,
            offset: current.used.max(u64::from(block_bytes)),
            seq: self.next_seq,
            synced_seq: self.synced_seq,
            block_bytes,
        };
        let (lsns, records) = self.take_records(room.min(self.config.batch_bytes_max));
        let batch = record::encode_batch(records, place, &self.seal);
        let trace = LogTrace::Batch {
            segment: place.segment,
            seq: place.seq,
            records: batch.header.records,
            bytes: batch.header.batch_bytes,
        };
        let mut data = Vec::with_capacity(batch.data.len() + 1);
        if is_first {
            out.push(LogOutput::Trace(LogTrace::SegmentStarted { segment: place.segment }));
            data.push(SegmentHeader::new(&self.config, &current).block());
        }
        data.extend(batch.data);
        out.push(LogOutput::Trace(trace));
        let start = if is_first { 0 } else { place.offset };
        let file = FileId::new(self.config.kind, place.segment);
        let op = ops.take();
        out.push(LogOutput::Io(IoOp { op, io: Io::Write { file, offset: start, data } }));
        let locations = lsns.into_iter().zip(batch.locations).collect();
        let end = batch.header.end();
        self.writing =
            Some(Writing { op, what: WhatIsWritten::Batch { place, start, end, locations } });
        self.mark_at = None;
    }

    /// Takes records off the queue while they fit `room`; the first always does.
    fn take_records(&mut self, room: u64) -> (Vec<Lsn>, Vec<Record>) {
        let (mut lsns, mut records, mut bytes) = (Vec::new(), Vec::new(), 0);
        let one = self.config.planted.forces(Point::BatchOne, self.next_seq);
        while let Some((lsn, record)) = self.queue.pop_front() {
            let more = bytes + record::record_bytes(&record);
            if (more > room || one) && !records.is_empty() {
                self.queue.push_front((lsn, record));
                break;
            }
            bytes = more;
            self.queued_bytes -= record.payload_bytes();
            lsns.push(lsn);
            records.push(record);
        }
        (lsns, records)
    }

    fn write_zeros(
        &mut self,
        debris: Debris,
        first: Option<Lsn>,
        ops: &mut OpIds,
        out: &mut Vec<LogOutput>,
    ) {
        let Debris { file, offset, bytes } = debris;
        let op = ops.take();
        out.push(LogOutput::Io(IoOp { op, io: Io::Write { file, offset, data: zeros(bytes) } }));
        self.writing = Some(Writing { op, what: WhatIsWritten::Zeros { first } });
    }

    fn on_write_done(
        &mut self,
        what: WhatIsWritten,
        result: &IoResult,
        ops: &mut OpIds,
        out: &mut Vec<LogOutput>,
    ) {
        match (what, result) {
            (WhatIsWritten::Batch { place, end, locations, .. }, Ok(_)) => {
                self.segments.on_written(end, place.seq);
                self.next_seq = place.seq + 1;
                self.written_seq = place.seq;
                self.marked_seq = self.marked_seq.max(place.synced_seq);
                match locations.last() {
                    Some((upto, _)) => {
                        self.record_seq = place.seq;
                        self.written = *upto;
                        self.sync_all |= self.config.planted.forces(Point::SyncNow, place.seq);
                        out.push(LogOutput::Written { upto: *upto, locations });
                    }
                    None => self.sync_all = true, // A mark counts once it is durable.
                }
            }
            (WhatIsWritten::Batch { place, start, end, locations }, Err(IoError::NoSpace)) => {
                let file = FileId::new(self.config.kind, place.segment);
                let debris = Debris { file, offset: start, bytes: end - start };
                self.debris = Some(debris);
                // A batch that was refused must not come back from the disk.
                self.write_zeros(debris, locations.first().map(|(lsn, _)| *lsn), ops, out);
            }
            (WhatIsWritten::Zeros { first }, Ok(_)) => {
                self.debris = None;
                if first.is_some() {
                    self.refuse(first, out);
                }
            }
            (WhatIsWritten::Zeros { first }, Err(IoError::NoSpace)) => self.refuse(first, out),
            (_, Err(error)) => self.fail(format!("write to the log failed: {error:?}"), out),
        }
    }

    /// No segment could be made. Only matters to appends that wait for one.
    fn on_no_segment(&mut self, out: &mut Vec<LogOutput>) {
        let need = self.queue.front().map_or(0, |(_, record)| record::record_bytes(record));
        let has_no_room = self.room(need).is_none() || self.is_cut_early();
        let is_waiting = self.writing.is_none() && has_no_room;
        if is_waiting {
            self.refuse(None, out);
        }
    }

    /// Refuses `first` and everything appended behind it; without it, the whole queue.
    fn refuse(&mut self, first: Option<Lsn>, out: &mut Vec<LogOutput>) {
        let first = first.or_else(|| self.queue.front().map(|(lsn, _)| *lsn));
        self.queue.clear();
        self.queued_bytes = 0;
        self.sync_target = self.sync_target.min(self.written);
        self.mark_at = None; // Tried again after the next sync.
        if let Some(first) = first {
            out.push(LogOutput::NoSpace { first, last: self.appended });
        }
    }

    fn maybe_sync(&mut self, ops: &mut OpIds, out: &mut Vec<LogOutput>) {
        if self.syncing.is_some() || self.written_seq == self.synced_seq {
            return;
        }
        let is_wanted = self.config.eager_sync || self.sync_all || self.sync_target > self.durable;
        let Some(current) = self.segments.current() else { return };
        if is_wanted {
            let file = FileId::new(self.config.kind, current.number);
            let op = ops.take();
            out.push(LogOutput::Io(IoOp { op, io: Io::Sync { file } }));
            self.syncing = Some(Syncing { op, seq: self.written_seq, upto: self.written });
        }
    }

    fn on_sync_done(
        &mut self,
        now: Instant,
        syncing: &Syncing,
        result: &IoResult,
        out: &mut Vec<LogOutput>,
    ) {
        if result.is_err() && self.config.planted.is(Bug::FailedSyncBelieved) {
            self.sync_all = true;
            return;
        }
        if let Err(error) = result {
            // The dirty data may be gone and the next sync would say Ok: only recovery can tell.
            return self.fail(format!("sync of the log failed: {error:?}"), out);
        }
        self.synced_seq = syncing.seq;
        self.sync_all &= self.written_seq > self.synced_seq;
        out.push(LogOutput::Trace(LogTrace::Synced { seq: syncing.seq }));
        if syncing.upto > self.durable {
            self.durable = syncing.upto;
            let planted = self.config.planted.is(Bug::SyncCoversLater);
            out.push(LogOutput::Durable {
                upto: if planted { self.appended } else { syncing.upto },
            });
        }
        let at_once = self.config.planted.forces(Point::MarkNow, syncing.seq);
        let mark_at = if at_once { now } else { now + self.config.mark_after };
        self.mark_at = self.is_mark_missing().then_some(mark_at);
    }

    fn fail(&mut self, reason: String, out: &mut Vec<LogOutput>) {
        self.failed = true;
        self.queue.clear();
        self.queued_bytes = 0;
        out.push(LogOutput::Failed(Halt { reason }));
    }

    fn assert_invariants(&self) {
        assert!(self.durable <= self.written && self.written <= self.appended, "{self:?}");
        assert!(self.marked_seq <= self.synced_seq, "{self:?}");
        assert!(
            self.synced_seq <= self.written_seq && self.written_seq < self.next_seq,
            "{self:?}"
        );
        let unsynced = self.written_seq > self.synced_seq;
        assert!(!(self.config.eager_sync && unsynced && self.writing.is_some()), "{self:?}");
    }
}

/// Zero bytes to write: handles of one static block, nothing allocated per byte.
pub(super) fn zeros(bytes: u64) -> Vec<Bytes> {
    static BLOCK: [u8; 1 << 16] = [0; 1 << 16];
    let mut data = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).map_or(BLOCK.len(), |left| left.min(BLOCK.len()));
        data.push(Bytes::from_static(BLOCK.get(..piece).unwrap_or(&BLOCK)));
        left -= piece as u64;
    }
    data
}
