//! The running node's side: when the table log has grown by enough, a snapshot is written, slice by slice.

use super::format::{Block, Footer, Seal, Tail};
use super::loader::Files;
use crate::kv::cow::{Key, Rubble};
use crate::kv::index::{IndexCopy, IndexHead};
use crate::kv::table::Slot;
use crate::machine::{
    Duration, FileId, FileKind, Halt, Instant, Io, IoError, IoOp, IoResult, OpIds,
};
use crate::node::post::{Post, ReplicaInput};
use crate::node::store::{Logs, Out};
use crate::node::trace::Trace;
use crate::planted::{Bug, Planted};
use crate::types::{GroupId, OpId};
use crate::wal::{Lsn, SegmentStat};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes of records in a block, near enough.
const BLOCK_BYTES: usize = 64 << 10;
/// Frames in a block.
const BLOCK_FRAMES: usize = 4096;
/// What is written is synced in pieces of this size: a sync of all of it at the end would hold up the logs' syncs.
const SYNC_BYTES: u64 = 4 << 20;
/// After one was given up, the next is not begun before.
const AGAIN: Duration = Duration::from_secs(5);

/// How snapshots are written.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) struct Settings {
    pub(in crate::node) store: [u8; 16],
    /// The table log has grown by so many bytes at the least; 0 for never.
    pub(in crate::node) bytes_min: u64,
    pub(in crate::node) bytes_per_second: u64,
    pub(in crate::node) slice_items: usize,
    pub(in crate::node) planted: Planted,
}

/// Writes snapshots of the index.
#[derive(Clone, Debug)]
pub(in crate::node) struct Writer {
    settings: Settings,
    /// The number of the next.
    number: u64,
    /// The one that a boot would load, and its bytes.
    kept: Option<(u64, u64)>,
    /// By so much the table log has grown since.
    grown: u64,
    work: Option<Work>,
    /// No write is begun before: what was written is paid for in time.
    next_at: Instant,
    /// None is begun before.
    again_at: Instant,
    /// Copies that are written, being taken apart.
    rubble: Vec<Rubble<Slot>>,
}

/// What is to be in a snapshot.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) enum Subject {
    /// The state of a replica.
    Replica(GroupId),
    /// Nothing but how many generations there were of it.
    Retired(GroupId, u64),
}

#[derive(Clone, Debug)]
struct Work {
    number: u64,
    seal: Seal,
    /// Where the next block goes, and its number.
    at: u64,
    block: u32,
    unsynced: u64,
    records: u64,
    /// The segments when it was begun: a boot reads the last of them and what comes after.
    segments: Vec<SegmentStat>,
    /// The next one last.
    subjects: Vec<Subject>,
    stage: Stage,
    doing: Option<(OpId, Doing)>,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The file is made.
    Making,
    /// The next group's turn.
    Groups,
    /// A replica was asked for its copy.
    Asked(GroupId),
    Copying {
        group: GroupId,
        copy: Box<IndexCopy>,
        /// The last key written; `None` too before its head is.
        after: Option<Key>,
        begun: bool,
    },
    /// Frames of the segments that a boot passes over: the segment's place in `segments`, and how many of its frames are written.
    Frames(usize, usize),
    /// The table log is to be durable through here.
    Durable(Lsn),
    /// The end is written.
    Ended,
    /// All of it is durable.
    Synced,
    /// And its name.
    Named,
    /// It is given up.
    GivingUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Create,
    Write,
    Sync,
    Names,
    Remove,
}

impl Writer {
    pub(in crate::node) const fn new(settings: Settings, files: Files, grown: u64) -> Self {
        Self {
            settings,
            number: files.highest + 1,
            kept: files.kept,
            grown,
            work: None,
            next_at: Instant(0),
            again_at: Instant(0),
            rubble: Vec::new(),
        }
    }

    /// The table log has grown.
    pub(in crate::node) const fn grow(&mut self, bytes: u32) {
        self.grown += bytes as u64;
    }

    /// When it wants to go on.
    pub(in crate::node) fn deadline(&self) -> Option<Instant> {
        let idle = self.work.as_ref().is_some_and(|work| work.doing.is_none() && work.writes());
        idle.then_some(self.next_at)
    }

    fn issue(&mut self, doing: Doing, io: Io, ops: &mut OpIds, out: &mut Out<'_>) {
        let Some(work) = &mut self.work else { return };
        let op = ops.take();
        work.doing = Some((op, doing));
        out.ios.push(IoOp { op, io });
    }

    /// Writes the next block.
    fn write(&mut self, now: Instant, block: &Block<'_>, ops: &mut OpIds, out: &mut Out<'_>) {
        let Some(work) = &mut self.work else { return };
        let bytes = work.seal.encode(work.block, block);
        work.block += 1;
        self.write_bytes(now, bytes, ops, out);
    }

    fn write_bytes(&mut self, now: Instant, bytes: Vec<u8>, ops: &mut OpIds, out: &mut Out<'_>) {
        let Some(work) = &mut self.work else { return };
        let (offset, len) = (work.at, bytes.len() as u64);
        work.at += len;
        work.unsynced += len;
        let takes = len.saturating_mul(1_000_000_000) / self.settings.bytes_per_second.max(1);
        self.next_at = now + Duration(takes);
        let (file, data) = (work.file(), Vec::from([Bytes::from(bytes)]));
        self.issue(Doing::Write, Io::Write { file, offset, data }, ops, out);
    }

    fn give_up(&mut self, now: Instant) {
        let Some(work) = &mut self.work else { return };
        self.again_at = now + AGAIN;
        if let Stage::Copying { copy, .. } = core::mem::replace(&mut work.stage, Stage::GivingUp) {
            self.rubble.push(copy.into_rubble());
        }
    }

    /// It counts from here on.
    fn count(&mut self, out: &mut Out<'_>) -> Option<u64> {
        let Work { number, at, records, .. } = *self.work.as_ref()?;
        let old = self.kept.replace((number, at));
        out.posts.push(Post::Trace(Trace::IndexWritten { number, records, bytes: at }));
        old.map(|(number, _)| number)
    }
}

impl Work {
    const fn file(&self) -> FileId {
        FileId::new(FileKind::Index, self.number)
    }

    /// Whether its next step is to write.
    const fn writes(&self) -> bool {
        matches!(self.stage, Stage::Groups | Stage::Copying { .. } | Stage::Frames(..))
    }
}

impl Logs {
    /// Whether a snapshot of the index is due.
    pub(in crate::node) fn wants_index(&self, now: Instant) -> bool {
        let Writer { settings, kept, grown, work, again_at, .. } = &self.index;
        let enough = settings.bytes_min.max(kept.map_or(0, |(_, bytes)| bytes));
        settings.bytes_min > 0
            && work.is_none()
            && *grown >= enough
            && *again_at <= now
            && !self.is_full()
    }

    /// Begins a snapshot of these.
    pub(in crate::node) fn begin_index(&mut self, mut subjects: Vec<Subject>, out: &mut Out<'_>) {
        // Frames that come from here on stand in this segment or behind it. A segment that has no batch yet has no header either.
        let written = self.table.log().into_iter().flat_map(|log| log.segments());
        let written = written.filter(|stat| stat.last_seq >= stat.first_seq);
        let segments: Vec<SegmentStat> = written.copied().collect();
        if segments.is_empty() {
            return;
        }
        subjects.reverse();
        let number = self.index.number;
        self.index.number += 1;
        self.index.grown = 0;
        self.index.work = Some(Work {
            number,
            seal: Seal::new(&self.index.settings.store, number),
            at: 0,
            block: 0,
            unsynced: 0,
            records: 0,
            segments,
            subjects,
            stage: Stage::Making,
            doing: None,
        });
        let file = FileId::new(FileKind::Index, number);
        self.index.issue(Doing::Create, Io::Create { file, bytes: 0 }, &mut self.read_ops, out);
    }

    /// A replica's copy for snapshot `number`; `None` if it has no state to copy.
    pub(in crate::node) fn on_index_copy(
        &mut self,
        now: Instant,
        group: GroupId,
        number: u64,
        copy: Option<Box<IndexCopy>>,
    ) {
        let work = self.index.work.as_mut().filter(|work| work.number == number);
        match (work, copy) {
            (Some(work), Some(copy)) if matches!(work.stage, Stage::Asked(of) if of == group) => {
                work.stage = Stage::Copying { group, copy, after: None, begun: false };
            }
            (Some(_), None) => self.index.give_up(now),
            (_, Some(copy)) => self.index.rubble.push(copy.into_rubble()),
            (None, None) => {}
        }
    }

    /// Goes on with a snapshot as far as it can be gone on with now.
    pub(in crate::node) fn index(&mut self, now: Instant, out: &mut Out<'_>) {
        if let Some(rubble) = self.index.rubble.last_mut()
            && rubble.clear(self.index.settings.slice_items)
        {
            self.index.rubble.pop();
        }
        if self.is_full() {
            self.index.give_up(now);
        }
        while let Some(work) = &self.index.work {
            let waits = work.writes() && now < self.index.next_at;
            if work.doing.is_some() || waits || !self.index_step(now, out) {
                return;
            }
        }
    }

    /// One step; `false` if there is none to do now.
    fn index_step(&mut self, now: Instant, out: &mut Out<'_>) -> bool {
        let Some(work) = &mut self.index.work else { return false };
        let file = work.file();
        if work.writes() && work.unsynced >= SYNC_BYTES {
            self.index.issue(Doing::Sync, Io::Sync { file }, &mut self.read_ops, out);
            return true;
        }
        match &work.stage {
            Stage::Making | Stage::Asked(_) => return false,
            Stage::Groups => self.index_next(now, out),
            Stage::Copying { .. } => self.index_records(now, out),
            Stage::Frames(at, from) => {
                let (at, from) = (*at, *from);
                self.index_frames(now, at, from, out);
            }
            Stage::Durable(upto) => {
                if self.table.log().is_none_or(|log| log.durable() < *upto) {
                    return false;
                }
                self.index_end(now, out);
            }
            Stage::Ended => {
                work.stage = Stage::Synced;
                self.index.issue(Doing::Sync, Io::Sync { file }, &mut self.read_ops, out);
            }
            Stage::Synced => {
                work.stage = Stage::Named;
                self.index.issue(Doing::Names, Io::SyncDir, &mut self.read_ops, out);
            }
            Stage::Named => {
                let old = self.index.count(out);
                self.index.work = None;
                if let Some(old) = old {
                    // Whoever finds it again after a power loss finds the newer one as well.
                    let file = FileId::new(FileKind::Index, old);
                    let op = self.read_ops.take();
                    out.ios.push(IoOp { op, io: Io::Remove { file } });
                }
            }
            Stage::GivingUp => {
                self.index.issue(Doing::Remove, Io::Remove { file }, &mut self.read_ops, out);
            }
        }
        true
    }

    /// The next group, or what comes after the last.
    fn index_next(&mut self, now: Instant, out: &mut Out<'_>) {
        let Some(work) = &mut self.index.work else { return };
        match work.subjects.pop() {
            Some(Subject::Replica(group)) => {
                work.stage = Stage::Asked(group);
                let number = work.number;
                out.posts.push(Post::Replica(group, ReplicaInput::Index { number }));
            }
            Some(Subject::Retired(group, generations)) => {
                let head = IndexHead::retired(generations);
                let block = Block::Group { group, head };
                self.index.write(now, &block, &mut self.read_ops, out);
            }
            None => work.stage = Stage::Frames(0, 0),
        }
    }

    /// The next records of the group whose turn it is.
    fn index_records(&mut self, now: Instant, out: &mut Out<'_>) {
        let items = self.index.settings.slice_items;
        let Some(work) = &mut self.index.work else { return };
        let Stage::Copying { group, copy, after, begun } =
            core::mem::replace(&mut work.stage, Stage::Groups)
        else {
            return;
        };
        if !begun {
            let block = Block::Group { group, head: copy.head() };
            work.stage = Stage::Copying { group, copy, after, begun: true };
            return self.index.write(now, &block, &mut self.read_ops, out);
        }
        let Some((records, last)) = copy.slice(after.as_deref(), items, BLOCK_BYTES) else {
            self.index.rubble.push(copy.into_rubble());
            return;
        };
        work.records += records.len() as u64;
        self.index.write(now, &Block::Records(records), &mut self.read_ops, out);
        if let Some(work) = &mut self.index.work {
            work.stage = Stage::Copying { group, copy, after: Some(last), begun };
        }
    }

    /// Where the next frames are that no boot will see. Those of a segment that has gone meanwhile are of no use.
    fn index_frames(&mut self, now: Instant, at: usize, from: usize, out: &mut Out<'_>) {
        let Some(work) = &mut self.index.work else { return };
        // Those of the last one are read by the boot.
        let passed = work.segments.split_last().map(|(_, passed)| passed).unwrap_or_default();
        let Some(segment) = passed.get(at).map(|stat| stat.number) else {
            let planted = self.index.settings.planted.is(Bug::IndexBeforeSync);
            let written = self.table.log().map_or(Lsn(0), |log| log.written());
            let upto = if planted { Lsn(0) } else { written };
            work.stage = Stage::Durable(upto);
            if !planted {
                self.table.request_sync();
            }
            return;
        };
        let frames = self.frames.get(&segment).and_then(|frames| frames.get(from..));
        let frames: Vec<_> =
            frames.unwrap_or_default().iter().take(BLOCK_FRAMES).copied().collect();
        if frames.is_empty() {
            work.stage = Stage::Frames(at + 1, 0);
            return;
        }
        work.stage = Stage::Frames(at, from + frames.len());
        let block = Block::Frames { segment, frames };
        self.index.write(now, &block, &mut self.read_ops, out);
    }

    /// Everything that is included is durable: the end says so.
    fn index_end(&mut self, now: Instant, out: &mut Out<'_>) {
        let Some(work) = &mut self.index.work else { return };
        let footer = Footer { tail_at: work.at, tail_block: work.block };
        let segments = core::mem::take(&mut work.segments);
        let durable = self.table.log().map_or(0, |log| log.synced_seq());
        let tail = Tail { segments, durable, records: work.records };
        let mut bytes = work.seal.encode(work.block, &Block::End(tail));
        bytes.extend_from_slice(&work.seal.footer(footer));
        work.stage = Stage::Ended;
        self.index.write_bytes(now, bytes, &mut self.read_ops, out);
    }

    /// Returns whether the operation was of a snapshot.
    pub(in crate::node) fn on_index_done(
        &mut self,
        now: Instant,
        op: OpId,
        result: &IoResult,
        out: &mut Out<'_>,
    ) -> bool {
        let Some(work) = &mut self.index.work else { return false };
        let Some((_, doing)) = work.doing.take_if(|(doing, _)| *doing == op) else { return false };
        match (doing, result) {
            (Doing::Create, Ok(_)) if matches!(work.stage, Stage::Making) => {
                work.stage = Stage::Groups;
            }
            (Doing::Sync, Ok(_)) => work.unsynced = 0,
            (Doing::Remove, Ok(_) | Err(IoError::NotFound)) => self.index.work = None,
            (_, Ok(_)) => {}
            // Nothing rests on it; but what it says of the device concerns the logs as well.
            (Doing::Sync | Doing::Names | Doing::Remove, Err(error)) => {
                let reason = format!("snapshot of the index: {doing:?}: {error:?}");
                *out.halt = Some(Halt { reason });
            }
            (Doing::Create | Doing::Write, Err(_)) => self.index.give_up(now),
        }
        self.index(now, out);
        true
    }
}
