//! Compaction of a store without its node: what a node does in the background, run to its end.
//!
//! The table log is cleaned oldest segment first, as `super::super::cleaner` does: what is current of it is written
//! again at the end of the log, and the segment goes when that is durable. The chunk store compacts itself, once it
//! is told which blobs its groups' states do not know.
//!
//! Every state of the directory in between is one that a node leaves too, so the process may end at any moment.

use super::survey::{Found, Parts};
use crate::chunk::{ChunkOutput, ChunkStore, ChunkTrace};
use crate::kv::frame::{Frame, Place, Placed};
use crate::kv::space;
use crate::kv::state::State;
use crate::machine::{Halt, Instant, IoDone, IoResult, OpIds, first_of};
use crate::node::api::Effect;
use crate::node::cleaner::FrameAt;
use crate::node::recovery::Ops;
use crate::node::store::FRAME;
use crate::types::{BlobId, GroupId, OpId, Position};
use crate::wal::{Identity, Location, LogOutput, Lsn, Record, SegmentLog};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// A full chunk segment is compacted when fewer than this many percent of its bytes are alive: more than at a node,
/// which has clients to serve beside.
const LIVE_PERCENT_MIN: u8 = 80;
/// Bytes that wait to be written before the next frame is read.
const QUEUED_BYTES_MAX: u64 = 8 << 20;
/// Blobs that are looked up at a time.
const SWEEP_SLICE: usize = 1024;

/// A compaction. Its operations are executed one by one, in their order.
pub struct Compaction {
    table: TableLog,
    chunks: Box<ChunkStore>,
    chunk_ops: OpIds,
    now: Instant,
    moved: Moved,
}

/// What a compaction has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Frames written again.
    pub frames: u64,
    /// Chunks written again.
    pub chunks: u64,
    /// Segments removed, of both logs.
    pub segments: u64,
    /// Blobs whose chunks were dropped because no record knows them any more.
    pub blobs: u64,
}

/// Why the table log was not compacted, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The state of this group is damaged: it may need what is there.
    Damaged(GroupId, String),
    /// A frame of this segment is damaged.
    Frame {
        /// The segment.
        segment: u64,
        /// Where in its file.
        offset: u64,
    },
    /// Something in this segment is still needed.
    Needed(u64),
}

struct TableLog {
    log: SegmentLog,
    ops: OpIds,
    reads: OpIds,
    states: BTreeMap<GroupId, State>,
    frames: BTreeMap<u64, Vec<FrameAt>>,
    /// Segments from this one on are of this compaction.
    until: u64,
    work: Option<Work>,
    placed: VecDeque<(Lsn, GroupId, Placed)>,
    kept: Option<Kept>,
    over: bool,
}

/// The segment that is being emptied.
struct Work {
    segment: u64,
    /// Frames to be read, the next one last.
    frames: Vec<FrameAt>,
    reading: Option<(OpId, GroupId, Location)>,
    /// Once all frames were read: everything through here is to be durable before the segment goes.
    upto: Option<Lsn>,
}

impl Compaction {
    /// A compaction of what was found, by a survey whose writes to the table log and the chunk log were carried out.
    #[must_use]
    pub fn new(found: Found) -> Self {
        let Found { groups, mut chunks, parts, .. } = found;
        let Parts { table, frames, states, ops } = parts;
        let Ops { table: table_ops, chunk: chunk_ops, reads, .. } = ops;
        let damaged = groups.iter().find_map(|(group, it)| Some((*group, it.damage.clone()?)));
        let kept = damaged.map(|(group, why)| Kept::Damaged(group, why));
        let blobs = drop_unknown(&mut chunks, &states);
        chunks.compact_below(LIVE_PERCENT_MIN);
        let until = match table.current_segment() {
            Some(current) => current,
            None => table.segments().last().map_or(0, |last| last.number + 1),
        };
        Self {
            table: TableLog {
                over: kept.is_some(),
                log: table,
                ops: table_ops,
                reads,
                states,
                frames,
                until,
                work: None,
                placed: VecDeque::new(),
                kept,
            },
            chunks,
            chunk_ops,
            now: Instant(0),
            moved: Moved { blobs, ..Moved::default() },
        }
    }

    /// Takes the completion of an operation and goes on.
    ///
    /// # Errors
    /// The disk is full, or fails. The store is as good as before.
    pub fn on_done(
        &mut self,
        op: OpId,
        result: &IoResult,
        out: &mut Vec<Effect>,
    ) -> Result<(), Halt> {
        let mut outputs = Vec::new();
        if self.chunks.on_done(self.now, op, result, &mut self.chunk_ops, &mut outputs) {
            return self.on_chunks(outputs, out);
        }
        self.table.on_done(self.now, op, result, &mut self.moved, out)
    }

    /// Goes on when no operation is under way: time passes to the next moment at which something is due. `false` when
    /// nothing is left to do.
    ///
    /// # Errors
    /// As [`Self::on_done`].
    pub fn go_on(&mut self, out: &mut Vec<Effect>) -> Result<bool, Halt> {
        let due = first_of([self.chunks.deadline(), self.table.log.deadline()]);
        if self.table.over && due.is_none() && self.chunks.is_settled() {
            return Ok(false);
        }
        self.now = self.now.max(due.unwrap_or(self.now));
        let mut outputs = Vec::new();
        self.chunks.pump(self.now, &mut self.chunk_ops, &mut outputs);
        self.on_chunks(outputs, out)?;
        self.table.pump(self.now, &mut self.moved, out)?;
        Ok(true)
    }

    /// What was done so far.
    #[must_use]
    pub const fn moved(&self) -> Moved {
        self.moved
    }

    /// Why something was kept in the table log.
    #[must_use]
    pub const fn kept(&self) -> Option<&Kept> {
        self.table.kept.as_ref()
    }

    fn on_chunks(&mut self, outputs: Vec<ChunkOutput>, out: &mut Vec<Effect>) -> Result<(), Halt> {
        for output in outputs {
            match output {
                ChunkOutput::Io(io) => out.push(Effect::Io(io)),
                ChunkOutput::Hash { op, bytes } => out.push(Effect::Hash { op, bytes }),
                ChunkOutput::Failed(halt) => return Err(halt),
                ChunkOutput::Trace(ChunkTrace::Moved(_)) => self.moved.chunks += 1,
                ChunkOutput::Trace(ChunkTrace::SegmentRemoved(_)) => self.moved.segments += 1,
                // A chunk that turns out to be damaged stays where it is, for a peer to heal.
                ChunkOutput::Trace(_)
                | ChunkOutput::Lost { .. }
                | ChunkOutput::Stored { .. }
                | ChunkOutput::NoSpace { .. }
                | ChunkOutput::Read { .. }
                | ChunkOutput::Verified { .. } => {}
            }
        }
        Ok(())
    }
}

/// Drops the chunks of blobs that their shard's state is past and does not know, as a node's sweep does. How many.
fn drop_unknown(chunks: &mut ChunkStore, states: &BTreeMap<GroupId, State>) -> u64 {
    let is_unknown = |blob: &BlobId| {
        states.get(&blob.home.group()).is_some_and(|state| {
            let past = blob.opened <= state.mark().position.index;
            past && state.table().get(&space::blob(*blob)).is_none()
        })
    };
    let (mut after, mut dropped) = (None, 0);
    loop {
        let blobs = chunks.blobs(after, SWEEP_SLICE);
        let Some(last) = blobs.last() else { return dropped };
        after = Some(*last);
        for blob in blobs.into_iter().filter(is_unknown) {
            chunks.drop_blob(blob);
            dropped += 1;
        }
    }
}

impl TableLog {
    fn on_done(
        &mut self,
        now: Instant,
        op: OpId,
        result: &IoResult,
        moved: &mut Moved,
        out: &mut Vec<Effect>,
    ) -> Result<(), Halt> {
        let read = self.work.as_mut().and_then(|work| {
            work.reading.take_if(|(reading, ..)| *reading == op).map(|(_, g, l)| (g, l))
        });
        if let Some((group, location)) = read {
            self.on_frame(group, location, result, moved);
        } else {
            let mut outputs = Vec::new();
            self.log.on_done(now, op, result, &mut self.ops, &mut outputs);
            self.take(outputs, moved, out)?;
        }
        self.pump(now, moved, out)
    }

    fn pump(&mut self, now: Instant, moved: &mut Moved, out: &mut Vec<Effect>) -> Result<(), Halt> {
        self.clean(out);
        let mut outputs = Vec::new();
        self.log.pump(now, &mut self.ops, &mut outputs);
        self.take(outputs, moved, out)
    }

    fn take(
        &mut self,
        outputs: Vec<LogOutput>,
        moved: &mut Moved,
        out: &mut Vec<Effect>,
    ) -> Result<(), Halt> {
        for output in outputs {
            match output {
                LogOutput::Io(io) => out.push(Effect::Io(io)),
                LogOutput::Written { locations, .. } => {
                    for (lsn, location) in locations {
                        self.on_written(lsn, location);
                    }
                }
                LogOutput::Removed { .. } => moved.segments += 1,
                LogOutput::NoSpace { .. } => {
                    return Err(Halt { reason: String::from("no space left on the disk") });
                }
                LogOutput::Failed(halt) => return Err(halt),
                LogOutput::Durable { .. } | LogOutput::Trace(_) => {}
            }
        }
        Ok(())
    }

    fn on_written(&mut self, lsn: Lsn, location: Location) {
        let Some((placed_lsn, group, placed)) = self.placed.pop_front() else {
            unreachable!("{lsn:?} was written and not appended")
        };
        assert_eq!(placed_lsn, lsn, "frames are written in order");
        if let Some(state) = self.states.get_mut(&group) {
            state.settle(&placed, Place { segment: location.segment, offset: location.offset });
        }
    }

    /// Goes on with the segment that is being emptied, or chooses the next.
    fn clean(&mut self, out: &mut Vec<Effect>) {
        while !self.over {
            let Some(work) = &mut self.work else {
                match self.choose() {
                    Some(work) => self.work = Some(work),
                    None => {
                        self.log.request_sync();
                        self.over = true;
                    }
                }
                continue;
            };
            if work.reading.is_some() || self.log.queued_bytes() > QUEUED_BYTES_MAX {
                return;
            }
            if let Some(frame) = work.frames.pop() {
                let (group, location) = frame.of(work.segment);
                if self.states.contains_key(&group) {
                    let io = self.log.read(location, &mut self.reads);
                    work.reading = Some((io.op, group, location));
                    out.push(Effect::Io(io));
                    return;
                }
                continue; // No group of this node has it any more.
            }
            let (segment, upto) = (work.segment, work.upto);
            match upto {
                None => {
                    self.rewrite_marks(segment);
                    self.log.request_sync();
                    let upto = Some(self.log.appended());
                    self.work = self.work.take().map(|work| Work { upto, ..work });
                }
                Some(upto) if self.log.durable() < upto => return,
                Some(_) if self.states.values().any(|state| state.needs(segment)) => {
                    self.keep(Kept::Needed(segment));
                }
                Some(_) => {
                    self.work = None;
                    self.frames.remove(&segment);
                    self.log.remove_segment(segment);
                }
            }
        }
    }

    /// The oldest segment that was there before, if it is mostly dead or enough is dead behind it.
    fn choose(&self) -> Option<Work> {
        let oldest = self.log.segments().next()?;
        if oldest.number >= self.until {
            return None;
        }
        let live_there: u64 =
            self.states.values().map(|state| state.table().live(oldest.number).bytes).sum();
        let live: u64 = self.states.values().map(|state| state.table().live_bytes()).sum();
        let used: u64 = self.log.segments().map(|segment| segment.used).sum();
        let worth = live_there < oldest.used / 2 || used > live + oldest.capacity;
        let mut frames = self.frames.get(&oldest.number).cloned().unwrap_or_default();
        frames.reverse();
        let segment = oldest.number;
        worth.then_some(Work { segment, frames, reading: None, upto: None })
    }

    fn on_frame(
        &mut self,
        group: GroupId,
        location: Location,
        result: &IoResult,
        moved: &mut Moved,
    ) {
        let Location { segment, offset, .. } = location;
        let payload = match result {
            Ok(IoDone::Data(bytes)) if location.verify(bytes) => Some(bytes),
            _ => None,
        };
        let state = self.states.get_mut(&group);
        let rewritten = payload
            .zip(state)
            .map(|(bytes, state)| state.rewrite(Place { segment, offset }, bytes));
        match rewritten {
            Some(Ok(Some(frame))) => {
                self.append(group, frame);
                moved.frames += 1;
            }
            Some(Ok(None)) => {}
            Some(Err(_)) | None => self.keep(Kept::Frame { segment, offset }),
        }
    }

    fn rewrite_marks(&mut self, segment: u64) {
        let marks: Vec<(GroupId, Frame)> = self
            .states
            .iter_mut()
            .filter_map(|(group, state)| Some((*group, state.rewrite_mark(segment)?)))
            .collect();
        for (group, frame) in marks {
            self.append(group, frame);
        }
    }

    fn append(&mut self, group: GroupId, frame: Frame) {
        let Frame { payload, mark, placed, .. } = frame;
        let Position { term, index } = mark.position;
        let identity = Identity { kind: FRAME, group, index, term };
        let record = Record { identity, note: Bytes::new(), payload, payload_crc: None };
        let lsn = self.log.append(record);
        self.placed.push_back((lsn, group, placed));
    }

    fn keep(&mut self, why: Kept) {
        self.kept = Some(why);
        self.work = None;
        self.over = true;
        self.log.request_sync();
    }
}

impl core::fmt::Display for Kept {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = match self {
            Self::Damaged(group, why) => format!(
                "the table log stays as it is, because group {group} is damaged and may need it: {why}"
            ),
            Self::Frame { segment, offset } => format!(
                "table segment {segment} stays, because a frame in it is damaged at byte {offset}"
            ),
            Self::Needed(segment) => {
                format!("table segment {segment} stays, because something in it is still needed")
            }
        };
        f.write_str(&text)
    }
}
