//! The store lane: everything of a node that touches its disk. It owns the write-ahead log, the table log
//! and the chunk store, gives their operations to the driver and tells the other lanes what has become
//! durable. It decides nothing about what is written.
//!
//! **A full disk.** Records that the disk has no room for are kept and appended again (`patient`). Meanwhile
//! the replicas refuse new writes ([`ReplicaInput::DiskFull`]), and reads go on.
//!
//! **Trimming.** When the log has more segments than it should, the groups that still need its oldest segment
//! write what they need anew ([`ReplicaInput::Restate`]), so that no slow group holds the disk. Where they need more
//! than so many segments hold, that would never end: no more is written anew than was written for the first time
//! ([`Balance`]), and the log is longer. The table log is cleaned in the same way, oldest segment first (`cleaner`).

use super::api::FsyncPolicy;
use super::balance::Balance;
use super::cleaner::{Cleaner, FrameAt};
use super::engine::sweeper::Sweeper;
use super::index;
use super::patient::{Patient, Report};
use super::post::{Post, ReplicaInput};
use super::restore;
use super::table::{self, Table};
use super::trace::Trace;
use crate::kv::frame::{Frame, Place, Placed};
use crate::kv::table::RecordLocation;
use crate::machine::{Duration, Halt, Instant, IoOp, IoResult, Now, OpIds, first_of};
use crate::planted::{Planted, Point};
use crate::raft::{HardState, PersistId, Standing, Write};
use crate::types::{GroupId, NodeId, OpId, Position, Term};
use crate::wal::{Lsn, Record, SegmentLog};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;

/// Kind of the one record of the table log: a frame.
pub(super) const FRAME: u8 = 1;
/// How many groups write anew at once for trimming.
const RESTATE_AT_ONCE: usize = 16;

/// Where an effect of the store lane goes.
pub(super) struct Out<'a> {
    pub(super) posts: &'a mut Vec<Post>,
    pub(super) ios: &'a mut Vec<IoOp>,
    pub(super) hashes: &'a mut Vec<(OpId, Bytes)>,
    pub(super) halt: &'a mut Option<Halt>,
}

/// What a record of the write-ahead log is written for.
#[derive(Clone, Debug)]
pub(super) enum LogTag {
    /// Part of a persist that goes on.
    Part(GroupId),
    /// The last record of a persist.
    Persist { group: GroupId, id: PersistId, synced: bool },
    /// The first record of a group's restatement; the last one too if `last`.
    Restated { group: GroupId, first: bool, last: bool },
    /// What a group is worth; the last record of those that say so at boot if `last`.
    Standing { group: GroupId, last: bool },
}

/// What a frame of the table log is.
#[derive(Clone, Debug)]
pub(super) struct FrameTag {
    pub(super) group: GroupId,
    pub(super) position: Position,
    pub(super) placed: Placed,
}

/// What is to be said once a record is durable.
#[derive(Clone, Debug)]
enum Durably {
    Persisted(GroupId, PersistId),
    Restated(GroupId),
    StandingNoted,
}

/// What the store lane begins with: what recovery found.
pub(super) struct Recovered {
    pub(super) wal: SegmentLog,
    pub(super) table: table::Found,
    /// Which groups have records in which segment of the write-ahead log.
    pub(super) wal_groups: BTreeMap<u64, BTreeSet<GroupId>>,
    /// Segments of the write-ahead log through this one are damaged and are to be written anew.
    pub(super) wal_damaged: Option<u64>,
    /// Where the frames of each segment of the table log are.
    pub(super) frames: BTreeMap<u64, Vec<FrameAt>>,
    /// The snapshots of the index.
    pub(super) index: index::Files,
    /// By so many bytes the table log has grown since the one that was loaded.
    pub(super) grown: u64,
}

/// Settings of the store lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) fsync: FsyncPolicy,
    pub(super) checkpoint_every: Duration,
    pub(super) wal_segments_max: usize,
    pub(super) wal_segment_bytes: u64,
    pub(super) table_segment_bytes: u64,
    pub(super) planted: Planted,
    pub(super) index: index::Settings,
}

/// The logs of a node.
#[derive(Clone, Debug)]
pub(super) struct Logs {
    settings: Settings,
    pub(super) wal: Patient<LogTag>,
    pub(super) table: Table,
    durably: VecDeque<(Lsn, Durably)>,
    /// Frames that are written and not yet durable: of which group, which life of its state, and how far that had got.
    frames_written: VecDeque<(Lsn, GroupId, u64, Position)>,
    reads: BTreeMap<OpId, (GroupId, u64, RecordLocation)>,
    pub(super) read_ops: OpIds,
    promises: BTreeMap<GroupId, (Term, Option<NodeId>)>,
    wal_groups: BTreeMap<u64, BTreeSet<GroupId>>,
    wal_damaged: Option<u64>,
    restating: BTreeMap<GroupId, Option<u64>>,
    balance: Balance,
    pub(super) frames: BTreeMap<u64, Vec<FrameAt>>,
    pub(super) cleaner: Cleaner,
    pub(super) sweeper: Sweeper,
    pub(super) index: index::Writer,
    /// Segments that go once the table log is durable through here.
    pub(super) cleaned: Vec<(Lsn, u64)>,
    sync_at: Option<Instant>,
    checkpoint_at: Instant,
    full: bool,
}

impl Logs {
    pub(super) fn new(settings: Settings, found: Recovered, ops: [OpIds; 3], now: Instant) -> Self {
        let [wal_ops, table_ops, read_ops] = ops;
        Self {
            settings,
            wal: Patient::new(found.wal, wal_ops),
            table: Table::new(
                found.table,
                settings.table_segment_bytes,
                settings.planted,
                table_ops,
            ),
            durably: VecDeque::new(),
            frames_written: VecDeque::new(),
            reads: BTreeMap::new(),
            read_ops,
            promises: BTreeMap::new(),
            wal_groups: found.wal_groups,
            wal_damaged: found.wal_damaged,
            restating: BTreeMap::new(),
            balance: Balance::new(settings.wal_segment_bytes),
            frames: found.frames,
            cleaner: Cleaner::default(),
            sweeper: Sweeper::default(),
            index: index::Writer::new(settings.index, found.index, found.grown),
            cleaned: Vec::new(),
            sync_at: None,
            checkpoint_at: now + settings.checkpoint_every,
            full: false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let logs = [self.wal.deadline(), self.table.deadline()];
        let index = self.index.deadline();
        first_of([first_of(logs), self.sync_at, index, Some(self.checkpoint_at)])
    }

    pub(super) fn persist(&mut self, group: GroupId, id: PersistId, writes: &[Write]) {
        let mut synced = matches!(self.settings.fsync, FsyncPolicy::Always);
        for write in writes {
            // Term and vote are promises under every policy.
            if let Write::HardState(HardState { term, vote, .. }) = write {
                synced |= self.promises.insert(group, (*term, *vote)) != Some((*term, *vote));
            }
        }
        let last = writes.len().saturating_sub(1);
        for (at, write) in writes.iter().enumerate() {
            let tag = if at == last {
                LogTag::Persist { group, id, synced }
            } else {
                LogTag::Part(group)
            };
            self.wal.append(restore::record_of(group, write), tag);
        }
        if synced {
            self.wal.log.request_sync();
        }
    }

    /// Notes in the log what these groups are worth from here on. [`Post::StandingNoted`] follows if this is what a boot
    /// has found.
    pub(super) fn note_standing(&mut self, groups: &[(GroupId, Standing)], boot: bool) {
        for (at, (group, standing)) in groups.iter().enumerate() {
            let last = boot && at + 1 == groups.len();
            let tag = LogTag::Standing { group: *group, last };
            self.wal.append(restore::standing_record(*group, *standing), tag);
        }
        self.wal.log.request_sync();
    }

    /// Notes that a group's replica comes or goes.
    pub(super) fn note(&mut self, group: GroupId, note: Record) {
        self.wal.append(note, LogTag::Standing { group, last: false });
        self.wal.log.request_sync();
    }

    pub(super) fn restated(
        &mut self,
        group: GroupId,
        writes: &[Write],
        standing: Standing,
        retired: bool,
    ) {
        let mut records: Vec<Record> =
            writes.iter().map(|write| restore::record_of(group, write)).collect();
        if standing != Standing::Full {
            records.push(restore::standing_record(group, standing));
        }
        if retired {
            records.push(restore::retired_record(group));
        }
        let last = records.len().saturating_sub(1);
        for (at, record) in records.into_iter().enumerate() {
            let tag = LogTag::Restated { group, first: at == 0, last: at == last };
            self.wal.append(record, tag);
        }
        self.wal.log.request_sync();
    }

    pub(super) fn frame(&mut self, group: GroupId, frame: Frame) {
        self.table.append(group, frame);
    }

    pub(super) fn read_body(
        &mut self,
        group: GroupId,
        token: u64,
        location: RecordLocation,
        out: &mut Out<'_>,
    ) {
        let op = self.table.read(location, &mut self.read_ops);
        self.reads.insert(op.op, (group, token, location));
        out.ios.push(op);
    }

    pub(super) fn checkpoint(&mut self) {
        self.table.request_sync();
    }

    /// Writes what is queued, and looks at what is due.
    pub(super) fn pump(&mut self, now: Now, out: &mut Out<'_>) {
        let mono = now.mono;
        if self.sync_at.is_some_and(|at| at <= mono) {
            self.sync_at = None;
            self.wal.log.request_sync();
        }
        if self.checkpoint_at <= mono {
            self.checkpoint_at = mono + self.settings.checkpoint_every;
            self.checkpoint();
        }
        let reports = self.wal.pump(mono, out);
        self.on_wal(mono, reports, out);
        let reports = self.table.pump(mono, out);
        self.on_table(reports, out);
        self.trim(out);
        self.clean(out);
        self.index(mono, out);
    }

    /// Returns whether the operation was one of the logs'.
    pub(super) fn on_done(
        &mut self,
        now: Now,
        op: OpId,
        result: &IoResult,
        out: &mut Out<'_>,
    ) -> bool {
        if let Some((group, token, location)) = self.reads.remove(&op) {
            let result = self.table.body(location, result);
            out.posts.push(Post::Replica(group, ReplicaInput::Body { token, result }));
            return true;
        }
        if self.on_clean_read(op, result, out)
            || self.on_sweep_read(op, result, out)
            || self.on_index_done(now.mono, op, result, out)
        {
            return true;
        }
        if let Some(reports) = self.wal.on_done(now.mono, op, result, out) {
            self.on_wal(now.mono, reports, out);
            return true;
        }
        if let Some(reports) = self.table.on_done(now.mono, op, result, out) {
            self.on_table(reports, out);
            return true;
        }
        false
    }

    fn on_wal(&mut self, now: Instant, reports: Vec<Report<LogTag>>, out: &mut Out<'_>) {
        for report in reports {
            match report {
                Report::Written(lsn, location, tag) => {
                    let group = match &tag {
                        LogTag::Part(group)
                        | LogTag::Standing { group, .. }
                        | LogTag::Persist { group, .. }
                        | LogTag::Restated { group, .. } => *group,
                    };
                    self.wal_groups.entry(location.segment).or_default().insert(group);
                    let anew = matches!(tag, LogTag::Restated { .. });
                    self.balance.on_written(location.bytes, anew);
                    match tag {
                        LogTag::Part(_) | LogTag::Standing { last: false, .. } => {}
                        LogTag::Standing { last: true, .. } => {
                            self.durably.push_back((lsn, Durably::StandingNoted));
                        }
                        // A persist is never reported before an earlier one that waits for its sync.
                        LogTag::Persist { group, id, synced }
                            if synced || self.waits_for_sync(group) =>
                        {
                            self.durably.push_back((lsn, Durably::Persisted(group, id)));
                            self.wal.log.request_sync();
                        }
                        LogTag::Persist { group, id, .. } => {
                            persisted(group, id, out);
                            self.sync_later(now);
                        }
                        LogTag::Restated { group, first, last } => {
                            if first {
                                self.restating.insert(group, Some(location.segment));
                            }
                            if last {
                                self.durably.push_back((lsn, Durably::Restated(group)));
                            }
                        }
                    }
                }
                Report::Durable(upto) => {
                    while let Some((_, what)) = self.durably.pop_front_if(|(lsn, _)| *lsn <= upto) {
                        match what {
                            Durably::Persisted(group, id) => persisted(group, id, out),
                            Durably::Restated(group) => self.on_restated(group),
                            Durably::StandingNoted => out.posts.push(Post::StandingNoted),
                        }
                    }
                }
                Report::Removed(segment) => {
                    self.wal_groups.remove(&segment);
                }
                Report::Full(full) => self.set_full(full, out),
            }
        }
    }

    fn waits_for_sync(&self, group: GroupId) -> bool {
        self.durably
            .iter()
            .any(|(_, what)| matches!(what, Durably::Persisted(of, _) if *of == group))
    }

    fn sync_later(&mut self, now: Instant) {
        if let FsyncPolicy::Interval(every) = self.settings.fsync {
            self.sync_at.get_or_insert(now + every);
        }
    }

    /// Everything that the group needs is in segments from the restatement's first on.
    fn on_restated(&mut self, group: GroupId) {
        let Some(Some(first)) = self.restating.remove(&group) else { return };
        for groups in self.wal_groups.range_mut(..first).map(|(_, groups)| groups) {
            groups.remove(&group);
        }
    }

    fn on_table(&mut self, reports: Vec<Report<FrameTag>>, out: &mut Out<'_>) {
        for report in reports {
            self.remove_cleaned(&report);
            match report {
                Report::Written(lsn, location, tag) => {
                    if self.table.log().is_some() {
                        let frames = self.frames.entry(location.segment).or_default();
                        frames.push(FrameAt::new(tag.group, location));
                        self.index.grow(location.bytes);
                    }
                    let start = Place { segment: location.segment, offset: location.offset };
                    let FrameTag { group, position, placed } = tag;
                    self.frames_written.push_back((lsn, group, placed.generation(), position));
                    let input = ReplicaInput::FrameWritten { placed, start };
                    out.posts.push(Post::Replica(group, input));
                }
                Report::Durable(upto) => {
                    while let Some((_, group, generation, position)) =
                        self.frames_written.pop_front_if(|(lsn, ..)| *lsn <= upto)
                    {
                        let input = ReplicaInput::FrameDurable { generation, position };
                        out.posts.push(Post::Replica(group, input));
                    }
                }
                Report::Removed(segment) => {
                    self.frames.remove(&segment);
                }
                Report::Full(full) => self.set_full(full, out),
            }
        }
    }

    fn set_full(&mut self, full: bool, out: &mut Out<'_>) {
        let full = full || self.wal.full || self.table.is_full();
        if self.full != full {
            self.full = full;
            // What is kept for later is the first to be given back.
            self.wal.log.keep_spares(!full);
            out.posts.push(Post::DiskFull(full));
            out.posts.push(Post::Trace(Trace::DiskFull(full)));
        }
    }

    /// Somebody else lacks space: what the write-ahead log keeps for later goes.
    pub(super) fn give_spares_back(&mut self) {
        self.wal.log.keep_spares(false);
        self.wal.log.keep_spares(!self.full);
    }

    /// Whether the disk was full when last written to.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// Frees the oldest segments of the write-ahead log, as far as they are too many or damaged.
    fn trim(&mut self, out: &mut Out<'_>) {
        let Some(current) = self.wal.log.current_segment() else { return };
        let numbers: Vec<u64> = self
            .wal
            .log
            .segments()
            .map(|segment| segment.number)
            .filter(|n| *n < current)
            .collect();
        let early = self.settings.planted.forces(Point::TrimEarly, current);
        let segments_max = if early { 1 } else { self.settings.wal_segments_max };
        let excess = (numbers.len() + 1).saturating_sub(segments_max);
        let damaged = self.wal_damaged.unwrap_or(0);
        for (at, number) in numbers.into_iter().enumerate() {
            if at >= excess && number > damaged {
                return;
            }
            let groups = self.wal_groups.get(&number).into_iter().flatten();
            let wanted: Vec<GroupId> = groups.copied().collect();
            if !wanted.is_empty() {
                // A damaged segment goes at any price; and a full disk has written nothing that could pay.
                if number > damaged && !self.full && !self.balance.allows() {
                    return;
                }
                let room = RESTATE_AT_ONCE.saturating_sub(self.restating.len());
                let new: Vec<GroupId> = wanted
                    .into_iter()
                    .filter(|group| !self.restating.contains_key(group))
                    .take(room)
                    .collect();
                for group in new {
                    self.restating.insert(group, None);
                    out.posts.push(Post::Replica(group, ReplicaInput::Restate));
                }
                return;
            }
            self.wal.log.remove_segment(number);
        }
    }

    /// Everything that was appended is to become durable, whatever the policy.
    pub(super) fn settle(&mut self) {
        self.wal.log.request_sync();
        self.table.request_sync();
    }

    /// Whether everything that was appended is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.wal.is_written() && self.wal.log.is_settled() && self.table.is_settled()
    }
}

fn persisted(group: GroupId, id: PersistId, out: &mut Out<'_>) {
    out.posts.push(Post::Persisted(group, id));
}
