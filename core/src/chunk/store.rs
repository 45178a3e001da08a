//! The machine: puts, reads and their completions.

use super::collect::Pass;
use super::live::Live;
use super::{ChunkOutput, ChunkTrace, Config, Put, RECORD_KIND, ReadId, Stats, Wanted};
use crate::machine::{FileId, Hashed, Instant, IoDone, IoOp, IoResult, OpIds};
use crate::planted::Bug;
use crate::types::{BlobId, ChunkHash, ChunkId, Damage, OpId, Term};
use crate::wal::{Identity, Location, LogOutput, LogTrace, Lsn, Record, SegmentLog, SegmentStat};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::RangeInclusive;

/// The chunks of this node. [`super::ChunkRecovery`] makes it.
///
/// Calls: any number of [`Self::put`], [`Self::get`], [`Self::drop_blob`] and [`Self::expect`], then one
/// [`Self::pump`] at the end of the step. Completions go to [`Self::on_done`], which pumps by itself.
///
/// - The index holds durable chunks only (`on_durable` is its only writer, besides boot).
/// - Every pending put is in `pending_of` unless its blob was dropped (`assert` on removal).
#[derive(Clone, Debug)]
pub struct ChunkStore {
    pub(super) config: Config,
    pub(super) log: SegmentLog,
    pub(super) index: BTreeMap<ChunkId, Location>,
    pub(super) live: Live,
    pub(super) pending: BTreeMap<Lsn, Pending>,
    pub(super) pending_of: BTreeMap<ChunkId, Lsn>,
    pending_bytes: u64,
    pub(super) missing: BTreeMap<ChunkId, Wanted>,
    pub(super) reading: BTreeMap<OpId, Reading>,
    next_read: ReadId,
    /// Blobs being dropped in slices.
    pub(super) dropping: BTreeSet<BlobId>,
    pub(super) pass: Option<Pass>,
    /// Moves being read or not durable yet.
    pub(super) moves: u32,
    /// Compaction rests until then.
    pub(super) rest_until: Instant,
    /// The time of the last step: background work wants another one at once.
    pub(super) now: Instant,
    /// The segment being written when it was last looked at.
    current: Option<u64>,
}

/// An append that isn't durable.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    chunk: ChunkId,
    bytes: Bytes,
    location: Option<Location>,
    origin: Origin,
    /// Its blob was dropped meanwhile: it is dead when it arrives.
    pub(super) is_dropped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Put,
    Move { from: Location },
}

/// A chunk being read, then hashed.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    chunk: ChunkId,
    location: Location,
    purpose: Purpose,
    bytes: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Answer(ReadId),
    Move,
    Verify,
}

impl ChunkStore {
    /// A store over a recovered log and the index of what is in it.
    pub(super) fn open(
        config: Config,
        log: SegmentLog,
        index: BTreeMap<ChunkId, Location>,
        live: Live,
        missing: BTreeMap<ChunkId, Wanted>,
    ) -> Self {
        let mut store = Self {
            current: log.current_segment(),
            config,
            log,
            index,
            live,
            pending: BTreeMap::new(),
            pending_of: BTreeMap::new(),
            pending_bytes: 0,
            missing,
            reading: BTreeMap::new(),
            next_read: ReadId(1),
            dropping: BTreeSet::new(),
            pass: None,
            moves: 0,
            rest_until: Instant(0),
            now: Instant(0),
        };
        // Once a boot, and segments are few beside chunks: no slices.
        let numbers: Vec<u64> = store.log.segments().map(|segment| segment.number).collect();
        for number in numbers {
            store.live.open(number);
            store.judge(number);
        }
        store
    }

    /// Stores a chunk. `hashed` is what [`crate::machine::Hashed`] says of `bytes`.
    ///
    /// # Panics
    /// If the bytes hash to another name, or don't fit a segment.
    pub fn put(&mut self, chunk: ChunkId, bytes: Bytes, hashed: Hashed) -> Put {
        assert_eq!(chunk.hash, hashed.hash, "bytes of another chunk");
        if self.has(chunk) {
            return Put::Durable;
        }
        if let Some(lsn) = self.pending_of.get(&chunk) {
            return Put::Queued(*lsn);
        }
        let lsn = self.append(chunk, bytes, hashed.crc, Origin::Put);
        self.pending_of.insert(chunk, lsn);
        Put::Queued(lsn)
    }

    fn append(&mut self, chunk: ChunkId, bytes: Bytes, crc: u32, origin: Origin) -> Lsn {
        let lsn = self.log.append(Record {
            identity: identity_of(chunk.blob),
            note: Bytes::copy_from_slice(&chunk.hash.0),
            payload: Vec::from([bytes.clone()]),
            payload_crc: Some(crc),
        });
        self.log.request_sync();
        self.pending_bytes += bytes.len() as u64;
        let pending = Pending { chunk, bytes, location: None, origin, is_dropped: false };
        self.pending.insert(lsn, pending);
        lsn
    }

    /// Whether the chunk is durable here and not known to be damaged.
    #[must_use]
    pub fn has(&self, chunk: ChunkId) -> bool {
        self.index.contains_key(&chunk)
            && !self.missing.contains_key(&chunk)
            && !self.dropping.contains(&chunk.blob)
    }

    /// Reads a chunk; [`ChunkOutput::Read`] brings it. `None`: it isn't here. A chunk known to be damaged is
    /// tried again.
    pub fn get(
        &mut self,
        chunk: ChunkId,
        ops: &mut OpIds,
        out: &mut Vec<ChunkOutput>,
    ) -> Option<ReadId> {
        if self.dropping.contains(&chunk.blob) {
            return None;
        }
        let id = self.next_read;
        let pending = self.pending_of.get(&chunk).and_then(|lsn| self.pending.get(lsn));
        if let Some(pending) = pending {
            // They were hashed when they were put.
            out.push(ChunkOutput::Read { id, chunk, result: Ok(pending.bytes.clone()) });
        } else {
            let location = *self.index.get(&chunk)?;
            self.start_read(chunk, location, Purpose::Answer(id), ops, out);
        }
        self.next_read.0 += 1;
        Some(id)
    }

    /// Says that a chunk of so many bytes belongs here. If it isn't here it is among the missing until it is
    /// put or its blob dropped.
    pub fn expect(&mut self, chunk: ChunkId, wanted: Wanted) {
        let is_dropped = self.dropping.contains(&chunk.blob);
        if !is_dropped && !self.has(chunk) && !self.pending_of.contains_key(&chunk) {
            self.missing.insert(chunk, wanted);
        }
    }

    /// Up to `limit` missing chunks behind `after`, in order.
    pub fn missing(
        &self,
        after: Option<ChunkId>,
        limit: usize,
    ) -> impl Iterator<Item = (ChunkId, Wanted)> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.missing.range((from, Unbounded)).take(limit).map(|(chunk, wanted)| (*chunk, *wanted))
    }

    /// Up to `limit` blobs behind `after` of which any chunk is here, in order.
    #[must_use]
    pub fn blobs(&self, after: Option<BlobId>, limit: usize) -> Vec<BlobId> {
        use core::ops::Bound::{Excluded, Unbounded};
        let mut blobs = Vec::new();
        let mut from = after;
        while blobs.len() < limit {
            let bound = from.map_or(Unbounded, |blob| Excluded(*chunks_of(blob).end()));
            let Some((next, _)) = self.index.range((bound, Unbounded)).next() else { break };
            blobs.push(next.blob);
            from = Some(next.blob);
        }
        blobs
    }

    /// Every durable chunk, damaged ones too, and where it is.
    pub fn held(&self) -> impl Iterator<Item = (ChunkId, Location)> {
        self.index.iter().map(|(chunk, location)| (*chunk, *location))
    }

    /// Where a chunk is; `None` if it isn't here.
    #[must_use]
    pub fn location(&self, chunk: ChunkId) -> Option<Location> {
        self.index.get(&chunk).copied()
    }

    /// The chunk log's segments, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentStat> {
        self.log.segments()
    }

    /// From now on a full segment is compacted when fewer than this many percent of its bytes are alive. Looks at every
    /// segment.
    pub fn compact_below(&mut self, live_percent_min: u8) {
        self.config.live_percent_min = live_percent_min;
        let numbers: Vec<u64> = self.log.segments().map(|segment| segment.number).collect();
        numbers.into_iter().for_each(|number| self.judge(number));
    }

    /// What the store holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            chunks: self.index.len() as u64,
            live_bytes: self.live.total(),
            disk_bytes: self.log.segments().map(|segment| segment.capacity).sum(),
            pending_bytes: self.pending_bytes,
            missing: self.missing.len() as u64,
        }
    }

    /// Whether all puts are durable and marked, and nobody waits for an operation. A node that stops gracefully
    /// waits for it; background work may be left.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_waited_for = |reading: &Reading| reading.purpose != Purpose::Verify;
        let reads = self.reading.values().any(is_waited_for);
        self.log.is_settled() && self.pending.is_empty() && !reads
    }

    /// Does a slice of background work and starts what can be started.
    pub fn pump(&mut self, now: Instant, ops: &mut OpIds, out: &mut Vec<ChunkOutput>) {
        self.now = now;
        self.collect(ops, out);
        let mut log_out = Vec::new();
        self.log.pump(now, ops, &mut log_out);
        self.take_log(log_out, out);
    }

    /// Takes the completion of an operation and goes on. `false`: the operation isn't this store's, and
    /// nothing was done.
    pub fn on_done(
        &mut self,
        now: Instant,
        op: OpId,
        result: &IoResult,
        ops: &mut OpIds,
        out: &mut Vec<ChunkOutput>,
    ) -> bool {
        self.now = now;
        if let Some(reading) = self.reading.remove(&op) {
            self.on_reading(reading, result, ops, out);
        } else {
            let mut log_out = Vec::new();
            if !self.log.on_done(now, op, result, ops, &mut log_out) {
                return false;
            }
            self.take_log(log_out, out);
        }
        self.pump(now, ops, out);
        true
    }

    fn take_log(&mut self, log_out: Vec<LogOutput>, out: &mut Vec<ChunkOutput>) {
        for output in log_out {
            match output {
                LogOutput::Io(op) => out.push(ChunkOutput::Io(op)),
                LogOutput::Written { locations, .. } => {
                    for (lsn, location) in locations {
                        self.live.pin(location.segment);
                        if let Some(pending) = self.pending.get_mut(&lsn) {
                            pending.location = Some(location);
                        }
                    }
                }
                LogOutput::Durable { upto } => {
                    while let Some(first) = self.pending.first_entry() {
                        if *first.key() > upto {
                            break;
                        }
                        let (lsn, pending) = first.remove_entry();
                        self.on_durable(lsn, pending, out);
                    }
                }
                LogOutput::NoSpace { first, last } => self.on_no_space(first, last, out),
                LogOutput::Removed { segment } => {
                    out.push(ChunkOutput::Trace(ChunkTrace::SegmentRemoved(segment)));
                }
                LogOutput::Failed(halt) => out.push(ChunkOutput::Failed(halt)),
                LogOutput::Trace(trace) => {
                    if let LogTrace::SegmentStarted { segment } = trace {
                        self.on_segment_started(segment);
                    }
                    out.push(ChunkOutput::Trace(ChunkTrace::Log(trace)));
                }
            }
        }
    }

    fn on_segment_started(&mut self, segment: u64) {
        self.live.open(segment);
        // The one before is full: from now on it can be compacted.
        if let Some(before) = self.current.replace(segment).filter(|before| *before != segment) {
            self.judge(before);
        }
    }

    fn on_durable(&mut self, lsn: Lsn, pending: Pending, out: &mut Vec<ChunkOutput>) {
        let Pending { chunk, bytes, location, origin, is_dropped } = pending;
        let Some(location) = location else { panic!("{lsn:?} is durable before it was written") };
        self.pending_bytes -= bytes.len() as u64;
        self.live.unpin(location.segment);
        match origin {
            Origin::Put => {
                if !is_dropped {
                    assert_eq!(self.pending_of.remove(&chunk), Some(lsn), "{chunk:?}");
                    self.point(chunk, location);
                    if self.missing.remove(&chunk).is_some() {
                        out.push(ChunkOutput::Trace(ChunkTrace::Healed(chunk)));
                    }
                }
                out.push(ChunkOutput::Stored { lsn, chunk });
            }
            Origin::Move { from } => {
                self.moves -= 1;
                // Dropped or replaced meanwhile: the copy is dead.
                if self.index.get(&chunk) == Some(&from) {
                    self.point(chunk, location);
                    out.push(ChunkOutput::Trace(ChunkTrace::Moved(chunk)));
                }
            }
        }
        if self.current != Some(location.segment) {
            self.judge(location.segment);
        }
    }

    fn on_no_space(&mut self, first: Lsn, last: Lsn, out: &mut Vec<ChunkOutput>) {
        let refused: Vec<Lsn> = self.pending.range(first..=last).map(|(lsn, _)| *lsn).collect();
        for lsn in refused {
            let Some(pending) = self.pending.remove(&lsn) else { continue };
            self.pending_bytes -= pending.bytes.len() as u64;
            match pending.origin {
                Origin::Put => {
                    let chunk = pending.chunk;
                    if !pending.is_dropped {
                        self.pending_of.remove(&chunk);
                    }
                    out.push(ChunkOutput::NoSpace { lsn, chunk });
                }
                Origin::Move { .. } => {
                    self.moves -= 1;
                    self.rest();
                }
            }
        }
    }

    /// Makes the index point to a location, and lets go of the one before.
    fn point(&mut self, chunk: ChunkId, location: Location) {
        self.live.add(location.segment, location.bytes);
        if let Some(before) = self.index.insert(chunk, location) {
            self.release(before);
        }
    }

    /// A location isn't indexed any more.
    pub(super) fn release(&mut self, location: Location) {
        self.live.subtract(location.segment, location.bytes);
        if self.current != Some(location.segment) {
            self.judge(location.segment);
        }
    }

    pub(super) fn judge(&mut self, segment: u64) {
        if self.current != Some(segment)
            && let Some(stat) = self.log.segment(segment)
        {
            self.live.judge(stat, self.config.live_percent_min);
        }
    }

    pub(super) fn start_read(
        &mut self,
        chunk: ChunkId,
        location: Location,
        purpose: Purpose,
        ops: &mut OpIds,
        out: &mut Vec<ChunkOutput>,
    ) {
        self.live.pin(location.segment);
        let IoOp { op, io } = self.log.read(location, ops);
        self.reading.insert(op, Reading { chunk, location, purpose, bytes: None });
        out.push(ChunkOutput::Io(IoOp { op, io }));
    }

    fn on_reading(
        &mut self,
        mut reading: Reading,
        result: &IoResult,
        ops: &mut OpIds,
        out: &mut Vec<ChunkOutput>,
    ) {
        let Reading { chunk, location, .. } = reading;
        let verdict = match (reading.bytes.take(), result) {
            (None, Ok(IoDone::Data(bytes))) if bytes.len() as u64 == u64::from(location.bytes) => {
                let op = ops.take();
                out.push(ChunkOutput::Hash { op, bytes: bytes.clone() });
                reading.bytes = Some(bytes.clone());
                self.reading.insert(op, reading);
                return;
            }
            (Some(bytes), Ok(IoDone::Hashed(hashed))) => {
                let is_good = hashed.hash == chunk.hash && hashed.crc == location.crc;
                if is_good { Ok(bytes) } else { Err(String::from("its bytes have another hash")) }
            }
            (_, Err(error)) => Err(format!("the device can't read it: {error:?}")),
            (_, Ok(_)) => Err(String::from("the file ends before it")),
        };
        self.live.unpin(location.segment);
        match verdict {
            Ok(bytes) => self.on_good(&reading, bytes, out),
            Err(why) => self.on_bad(&reading, &why, ops, out),
        }
    }

    fn on_good(&mut self, reading: &Reading, bytes: Bytes, out: &mut Vec<ChunkOutput>) {
        let Reading { chunk, location, purpose, .. } = *reading;
        let is_current = self.index.get(&chunk) == Some(&location);
        if is_current && self.missing.remove(&chunk).is_some() {
            out.push(ChunkOutput::Trace(ChunkTrace::Healed(chunk)));
        }
        match purpose {
            Purpose::Answer(id) => out.push(ChunkOutput::Read { id, chunk, result: Ok(bytes) }),
            Purpose::Move if is_current => {
                self.append(chunk, bytes, location.crc, Origin::Move { from: location });
            }
            Purpose::Move => self.moves -= 1,
            Purpose::Verify => out.push(ChunkOutput::Verified { chunk, is_good: true }),
        }
    }

    fn on_bad(
        &mut self,
        reading: &Reading,
        why: &str,
        ops: &mut OpIds,
        out: &mut Vec<ChunkOutput>,
    ) {
        let Reading { chunk, location, purpose, .. } = *reading;
        let file = FileId::new(self.config.log.kind, location.segment);
        let damage = Damage { file, offset: location.offset, what: format!("{chunk:?}: {why}") };
        let now_at = self.index.get(&chunk).copied();
        let overlooked =
            purpose == Purpose::Verify && self.config.log.planted.is(Bug::ScrubPassesOver);
        if now_at == Some(location) && !self.missing.contains_key(&chunk) && !overlooked {
            let wanted = Wanted { bytes: location.bytes, holders: 0 };
            self.missing.insert(chunk, wanted);
            out.push(ChunkOutput::Lost { chunk, damage: damage.clone() });
        }
        match (purpose, now_at) {
            // It was replaced while this read was under way.
            (Purpose::Answer(_), Some(now_at)) if now_at != location => {
                self.start_read(chunk, now_at, purpose, ops, out);
            }
            (Purpose::Answer(id), _) => {
                out.push(ChunkOutput::Read { id, chunk, result: Err(damage) });
            }
            // It stays where it is until it is replaced, and its segment with it.
            (Purpose::Move, _) => self.moves -= 1,
            // Where it was replaced meanwhile, what stood there before is nobody's loss.
            (Purpose::Verify, _) => {
                let is_good = now_at != Some(location);
                out.push(ChunkOutput::Verified { chunk, is_good });
            }
        }
    }
}

/// What stands in a chunk's record beside its hash.
pub(super) fn identity_of(blob: BlobId) -> Identity {
    Identity { kind: RECORD_KIND, group: blob.home.group(), index: blob.opened, term: Term(0) }
}

/// All chunks that a blob can have.
pub(super) const fn chunks_of(blob: BlobId) -> RangeInclusive<ChunkId> {
    let first = ChunkId { blob, hash: ChunkHash([0; 32]) };
    let last = ChunkId { blob, hash: ChunkHash([0xff; 32]) };
    first..=last
}
