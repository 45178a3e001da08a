//! Recovery of a member: the logs are read side by side, and what they hold becomes replicas.
//!
//! - The table log gives each group's state (`kv::replay`): a group whose frames are damaged has none
//!   until a peer gives it one.
//! - The write-ahead log gives each group's entries and promises ([`restore`]): a group whose
//!   promises may be lost abstains, one that only lost a payload asks its peers for it.
//! - The chunk log gives the chunks.

use super::api::{Config, Engine};
use super::boot::Admitted;
use super::cleaner::FrameAt;
use super::engine;
use super::index;
use super::members;
use super::replica::Replica;
use super::restore;
use super::store::{self, FRAME};
use super::superblock::Charter;
use super::table;
use super::trace::Trace;
use crate::chunk;
use crate::kv::batch::{Roster, Seat};
use crate::kv::frame::{FrameError, Place};
use crate::kv::replay::{Broken, Replay};
use crate::kv::state::State;
use crate::kv::table::Stored;
use crate::machine::{FileId, FileKind, FoundFile, Halt, Instant, IoOp, IoResult, OpIds};
use crate::object::layout;
use crate::planted::Planted;
use crate::raft::{self, Group, Standing};
use crate::rng::Rng;
use crate::types::{Damage, GroupId, Incarnation, NodeId, OpId, Position, ShardId};
use crate::wal::{
    self, DamageKind, LogDamage, Recovered, RecoveredPayload, RecoveryOutput, SegmentLog,
};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A recovery under way.
#[derive(Clone, Debug)]
pub(super) struct Recovering {
    pub(super) admitted: Admitted,
    groups: BTreeMap<GroupId, Vec<NodeId>>,
    planted: Planted,
    wal: wal::Recovery,
    /// Comes before the table log.
    index: index::Loader,
    table: wal::Recovery,
    /// In place of both, where the records are not in the table log.
    engine: Option<engine::loader::Loader>,
    /// The segment that the table log is read from.
    table_from: u64,
    chunks: chunk::ChunkRecovery,
    wal_log: Option<Box<SegmentLog>>,
    table_log: Option<Box<SegmentLog>>,
    chunk_store: Option<Box<chunk::ChunkStore>>,
    restore: restore::Replay,
    states: BTreeMap<GroupId, Replay>,
    state_damage: BTreeMap<GroupId, Damage>,
    /// Frames of any group may be lost.
    table_damage: Option<Damage>,
    /// Groups whose states have still something to do when the table log is read; one in a step, as far as there are steps.
    unsettled: Vec<GroupId>,
    wal_groups: BTreeMap<u64, BTreeSet<GroupId>>,
    /// What was noted last in it: records of a group come in rows.
    wal_last: Option<(u64, GroupId)>,
    wal_damaged: Option<u64>,
    /// Where the write-ahead log first forgot what it held.
    wal_forgot: Option<Damage>,
    /// Where the payloads were that the write-ahead log has lost.
    wal_lost: BTreeMap<wal::Identity, Damage>,
    frames: BTreeMap<u64, Vec<FrameAt>>,
    pub(super) ops: Ops,
    /// What is damaged, if somebody wants to know what it costs.
    pub(super) damages: Option<Vec<LogDamage>>,
}

/// The operation ids of a node's machines, a residue class each.
#[derive(Clone, Debug)]
pub(super) struct Ops {
    pub(super) superblock: OpIds,
    pub(super) wal: OpIds,
    pub(super) table: OpIds,
    pub(super) chunk: OpIds,
    pub(super) reads: OpIds,
    pub(super) hashes: OpIds,
}

impl Ops {
    pub(super) const fn new() -> Self {
        const CLASSES: u64 = 6;
        Self {
            superblock: OpIds::new(1, CLASSES),
            wal: OpIds::new(2, CLASSES),
            table: OpIds::new(3, CLASSES),
            chunk: OpIds::new(4, CLASSES),
            reads: OpIds::new(5, CLASSES),
            hashes: OpIds::new(6, CLASSES),
        }
    }
}

/// Everything that a running node begins with.
pub(super) struct Ready {
    pub(super) admitted: Admitted,
    pub(super) groups: BTreeMap<GroupId, Vec<NodeId>>,
    pub(super) replicas: BTreeMap<GroupId, Replica>,
    /// Groups whose replicas were given up, with the generations that the table log has of each.
    pub(super) retired: BTreeMap<GroupId, u64>,
    /// Groups that abstain: their log is to say so before anything else.
    pub(super) abstaining: Vec<(GroupId, Standing)>,
    pub(super) logs: store::Recovered,
    pub(super) chunks: Box<chunk::ChunkStore>,
    pub(super) ops: Ops,
}

/// Which nodes hold which group.
pub(super) fn groups_of(charter: &Charter) -> BTreeMap<GroupId, Vec<NodeId>> {
    let shards = (0..charter.shards).map(|shard| ShardId(shard).group());
    let groups = core::iter::once(GroupId::META).chain(shards);
    groups.map(|group| (group, layout::home(charter, group))).collect()
}

/// Whether no place in this segment of the table log can be noted.
fn is_beyond(found: &FoundFile) -> bool {
    let is_long = found.bytes > Stored::SEGMENT_BYTES_MAX;
    found.file.kind == FileKind::Table && (is_long || found.file.number > Stored::SEGMENT_MAX)
}

fn beyond(found: &FoundFile) -> Halt {
    let FoundFile { file, bytes } = found;
    let reason = alloc::format!(
        "{file} with {bytes} bytes: segments of the table log are numbered up to {:#x} and no longer than {} bytes",
        Stored::SEGMENT_MAX,
        Stored::SEGMENT_BYTES_MAX
    );
    Halt { reason }
}

pub(super) fn log_config(config: &Config, kind: FileKind, store: [u8; 16]) -> wal::Config {
    let tuning = &config.tuning;
    let defaults = wal::Config::new(kind, store);
    let base = wal::Config { block_bytes: tuning.block_bytes, planted: config.planted, ..defaults };
    match kind {
        FileKind::Wal => wal::Config {
            segment_bytes: tuning.wal_segment_bytes,
            eager_sync: config.fsync == super::api::FsyncPolicy::Always,
            ..base
        },
        FileKind::Chunk => wal::Config { segment_bytes: tuning.chunk_segment_bytes, ..base },
        FileKind::Table
        | FileKind::Superblock
        | FileKind::Spare
        | FileKind::Index
        | FileKind::Engine => {
            wal::Config { segment_bytes: tuning.table_segment_bytes, eager_sync: false, ..base }
        }
    }
}

impl Recovering {
    pub(super) fn new(
        config: &Config,
        admitted: Admitted,
        ops: Ops,
        ios: &mut Vec<IoOp>,
        traces: &mut Vec<Trace>,
    ) -> Result<Self, Halt> {
        let store = admitted.superblock.store.0;
        let files: Vec<FoundFile> = admitted.files.clone();
        if let Some(file) = files.iter().find(|it| is_beyond(it)) {
            return Err(beyond(file));
        }
        let groups = groups_of(&admitted.charter);
        let chunk_log = log_config(config, FileKind::Chunk, store);
        let chunk_config = chunk::Config {
            slice_items: config.tuning.slice_items as usize,
            ..chunk::Config::new(chunk_log)
        };
        let mut recovering = Self {
            index: index::Loader::new(store, &files, groups.keys().copied()),
            engine: (config.engine != Engine::Native).then(engine::loader::Loader::default),
            table_from: 0,
            groups,
            planted: config.planted,
            wal: wal::Recovery::new(log_config(config, FileKind::Wal, store), &files),
            table: wal::Recovery::new(log_config(config, FileKind::Table, store), &files),
            chunks: chunk::ChunkRecovery::new(chunk_config, &files),
            wal_log: None,
            table_log: None,
            chunk_store: None,
            restore: restore::Replay::default(),
            states: BTreeMap::new(),
            state_damage: BTreeMap::new(),
            table_damage: None,
            unsettled: Vec::new(),
            wal_groups: BTreeMap::new(),
            wal_last: None,
            wal_damaged: None,
            wal_lost: BTreeMap::new(),
            wal_forgot: None,
            frames: BTreeMap::new(),
            admitted,
            ops,
            damages: None,
        };
        let mut outputs = Vec::new();
        recovering.wal.start(&mut recovering.ops.wal, &mut outputs);
        recovering.on_wal(outputs, ios, traces)?;
        match &mut recovering.engine {
            Some(engine) => engine.start(&mut recovering.ops.table, ios),
            None => {
                recovering.index.start(&mut recovering.ops.table, ios);
                if recovering.index.is_done() {
                    recovering.start_table(ios, traces)?;
                }
            }
        }
        let mut outputs = Vec::new();
        recovering.chunks.start(&mut recovering.ops.chunk, &mut outputs);
        recovering.on_chunks(outputs, ios, traces)?;
        Ok(recovering)
    }

    /// Reads the table log: all of it, or what is behind the snapshot that was loaded.
    fn start_table(&mut self, ios: &mut Vec<IoOp>, traces: &mut Vec<Trace>) -> Result<(), Halt> {
        if let Some(loaded) = self.index.take() {
            self.table.begin_at(&loaded.segments, loaded.durable);
            self.table_from = loaded.segments.last().map_or(0, |first| first.number);
            self.frames = loaded.frames;
            for (group, (head, table)) in loaded.groups {
                if let Some(founding) = self.groups.get(&group) {
                    let seat = seat(group, founding, self.planted);
                    self.states.insert(group, Replay::loaded(seat, &head, table));
                }
            }
        }
        let mut outputs = Vec::new();
        self.table.start(&mut self.ops.table, &mut outputs);
        self.on_table(outputs, ios, traces)
    }

    /// Whether everything is read.
    pub(super) fn is_complete(&self) -> bool {
        let table = match &self.engine {
            Some(engine) => engine.is_done(),
            None => self.table_log.is_some(),
        };
        self.wal_log.is_some() && table && self.chunk_store.is_some()
    }

    pub(super) fn on_done(
        &mut self,
        op: OpId,
        result: &IoResult,
        ios: &mut Vec<IoOp>,
        traces: &mut Vec<Trace>,
    ) -> Result<(), Halt> {
        let next = self.unsettled.pop();
        if let Some(replay) = next.and_then(|group| self.states.get_mut(&group)) {
            replay.settle();
        }
        let mut outputs = Vec::new();
        if self.wal.on_done(op, result, &mut self.ops.wal, &mut outputs) {
            return self.on_wal(outputs, ios, traces);
        }
        if let Some(engine) = &mut self.engine
            && engine.on_done(op, result, &mut self.ops.table, ios)
        {
            if engine.is_done() {
                self.on_engine(traces);
            }
            return Ok(());
        }
        if self.index.on_done(op, result, &mut self.ops.table, ios, traces)? {
            return if self.index.is_done() { self.start_table(ios, traces) } else { Ok(()) };
        }
        if self.table.on_done(op, result, &mut self.ops.table, &mut outputs) {
            return self.on_table(outputs, ios, traces);
        }
        let mut outputs = Vec::new();
        if self.chunks.on_done(op, result, &mut self.ops.chunk, &mut outputs) {
            return self.on_chunks(outputs, ios, traces);
        }
        Ok(())
    }

    fn on_wal(
        &mut self,
        outputs: Vec<RecoveryOutput>,
        ios: &mut Vec<IoOp>,
        traces: &mut Vec<Trace>,
    ) -> Result<(), Halt> {
        for output in outputs {
            match output {
                RecoveryOutput::Io(io) => ios.push(io),
                RecoveryOutput::Record(record) => {
                    let at = (record.location.segment, record.identity.group);
                    if self.wal_last.replace(at) != Some(at) {
                        self.wal_groups.entry(at.0).or_default().insert(at.1);
                    }
                    self.restore.push(&record);
                }
                RecoveryOutput::Damage(LogDamage { damage, kind }) => {
                    self.note_damage(&damage, kind);
                    self.wal_damaged = self.wal_damaged.max(Some(damage.file.number));
                    match kind {
                        DamageKind::IdentityLost => {
                            self.restore.identity_lost();
                            self.wal_forgot.get_or_insert_with(|| damage.clone());
                        }
                        DamageKind::PayloadLost(identity) => {
                            self.wal_lost.insert(identity, damage.clone());
                        }
                        DamageKind::CopyLost => {}
                    }
                    traces.push(Trace::Damaged { damage });
                }
                RecoveryOutput::Finished(log) => self.wal_log = Some(log),
                RecoveryOutput::Failed(halt) => return Err(halt),
            }
        }
        Ok(())
    }

    fn on_table(
        &mut self,
        outputs: Vec<RecoveryOutput>,
        ios: &mut Vec<IoOp>,
        traces: &mut Vec<Trace>,
    ) -> Result<(), Halt> {
        for output in outputs {
            match output {
                RecoveryOutput::Io(io) => ios.push(io),
                RecoveryOutput::Record(record) => self.on_frame(record),
                RecoveryOutput::Damage(LogDamage { damage, kind }) => {
                    self.note_damage(&damage, kind);
                    match kind {
                        DamageKind::IdentityLost => {
                            for (group, replay) in &mut self.states {
                                replay.lost();
                                self.state_damage.insert(*group, damage.clone());
                            }
                            self.table_damage = Some(damage.clone());
                        }
                        DamageKind::PayloadLost(identity) => {
                            if let Some(replay) = self.state_of(identity.group) {
                                replay.lost();
                                self.state_damage.insert(identity.group, damage.clone());
                            }
                        }
                        DamageKind::CopyLost => {}
                    }
                    traces.push(Trace::Damaged { damage });
                }
                RecoveryOutput::Finished(log) => {
                    self.table_log = Some(log);
                    self.unsettled = self.states.keys().copied().collect();
                }
                RecoveryOutput::Failed(halt) => return Err(halt),
            }
        }
        Ok(())
    }

    fn on_frame(&mut self, record: Recovered) {
        let Recovered { identity, location, payload, .. } = record;
        if identity.kind != FRAME {
            return;
        }
        let frames = self.frames.entry(location.segment).or_default();
        frames.push(FrameAt::new(identity.group, location));
        let Some(replay) = self.state_of(identity.group) else { return };
        // A lost payload was reported as damage before.
        let RecoveredPayload::Kept(payload) = payload else { return };
        let place = Place { segment: location.segment, offset: location.offset };
        if let Err(error) = replay.push(place, &payload) {
            let damage = Damage {
                file: FileId::new(FileKind::Table, location.segment),
                offset: location.offset,
                what: alloc::format!("{error}"),
            };
            self.state_damage.insert(identity.group, damage);
        }
    }

    /// The engine is read.
    fn on_engine(&mut self, traces: &mut Vec<Trace>) {
        let Some(engine) = &mut self.engine else { return };
        let read = core::mem::take(&mut engine.groups);
        if let Some(damage) = engine.lost.clone() {
            traces.push(Trace::Damaged { damage: damage.clone() });
            self.table_damage = Some(damage);
        }
        let states = read.values().filter_map(|read| match read {
            engine::loader::Read::State(head, _) => Some(head.records),
            engine::loader::Read::Damaged(..) => None,
        });
        let (groups, records) = states.fold((0, 0), |(groups, all), more| (groups + 1, all + more));
        traces.push(Trace::EngineLoaded { groups, records });
        for (group, read) in read {
            let Some(founding) = self.groups.get(&group) else { continue };
            let seat = seat(group, founding, self.planted);
            let replay = match read {
                engine::loader::Read::State(head, table) => Replay::loaded(seat, &head, table),
                engine::loader::Read::Damaged(damage, generations) => {
                    traces.push(Trace::Damaged { damage: damage.clone() });
                    self.state_damage.insert(group, damage);
                    Replay::lost_after(seat, generations)
                }
            };
            self.states.insert(group, replay);
        }
    }

    /// What is read of a group's state. `None` if there is no such group.
    fn state_of(&mut self, group: GroupId) -> Option<&mut Replay> {
        let Self { groups, states, state_damage, table_damage, planted, .. } = self;
        let founding = groups.get(&group)?;
        Some(states.entry(group).or_insert_with(|| {
            let mut replay = Replay::new(seat(group, founding, *planted));
            if let Some(damage) = table_damage {
                replay.lost();
                state_damage.insert(group, damage.clone());
            }
            replay
        }))
    }

    /// The groups that have a replica here: those that the log knows, and those that were founded here and never had
    /// anything to say. And those that had one, with the generations of their states.
    fn seated(&mut self, me: NodeId) -> (Vec<GroupId>, BTreeMap<GroupId, u64>) {
        let known: BTreeMap<GroupId, bool> = self.restore.groups().collect();
        let mut seated = Vec::new();
        let mut retired = BTreeMap::new();
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        for group in groups {
            let founded = self.groups.get(&group).is_some_and(|voters| voters.contains(&me));
            match known.get(&group) {
                Some(true) => {
                    let generations = self.states.remove(&group);
                    let generations = generations.map_or(0, |replay| replay.generation_seen());
                    retired.insert(group, generations);
                }
                Some(false) => seated.push(group),
                None if founded => seated.push(group),
                None => {}
            }
        }
        for group in &seated {
            self.state_of(*group);
        }
        (seated, retired)
    }

    fn on_chunks(
        &mut self,
        outputs: Vec<chunk::ChunkRecoveryOutput>,
        ios: &mut Vec<IoOp>,
        traces: &mut Vec<Trace>,
    ) -> Result<(), Halt> {
        for output in outputs {
            match output {
                chunk::ChunkRecoveryOutput::Io(io) => ios.push(io),
                chunk::ChunkRecoveryOutput::Damage(LogDamage { damage, kind }) => {
                    self.note_damage(&damage, kind);
                    traces.push(Trace::Damaged { damage });
                }
                chunk::ChunkRecoveryOutput::Finished(store) => self.chunk_store = Some(store),
                chunk::ChunkRecoveryOutput::Failed(halt) => return Err(halt),
            }
        }
        Ok(())
    }

    fn note_damage(&mut self, damage: &Damage, kind: DamageKind) {
        if let Some(damages) = &mut self.damages {
            damages.push(LogDamage { damage: damage.clone(), kind });
        }
    }

    /// Where the logs end, as far as they were read.
    pub(super) fn cuts(&self) -> impl Iterator<Item = &wal::Cut> {
        [self.wal.cut_at(), self.table.cut_at(), self.chunks.cut_at()].into_iter().flatten()
    }

    /// Makes the replicas of what was read.
    pub(super) fn finish(
        mut self,
        config: &Config,
        now: Instant,
        rng: &mut Rng,
        traces: &mut Vec<Trace>,
    ) -> Option<Ready> {
        let (seated, retired) = self.seated(config.me);
        let Self { admitted, groups, mut restore, mut states, .. } = self;
        let Self { state_damage, wal_lost, wal_forgot, .. } = self;
        let standing = admitted.superblock.standing;
        let mut replicas = BTreeMap::new();
        let mut abstaining = Vec::new();
        let mut wal_damaged = self.wal_damaged;
        let engine = self.engine;
        let kind = if engine.is_some() { FileKind::Engine } else { FileKind::Table };
        let table = self.table_log;
        // What was loaded may know a record in a segment that is gone: it was rewritten then, or is lost.
        let from = self.table_from;
        let lacks_segment = |state: &State| {
            let is_there = |number| table.as_ref().is_some_and(|log| log.segment(number).is_some());
            from > 0 && state.table().segments().any(|number| !is_there(number))
        };
        for group in &seated {
            let (Some(voters), Some(replay)) = (groups.get(group), states.remove(group)) else {
                continue;
            };
            let (state, broken) = match replay.finish() {
                Ok(state) if lacks_segment(&state) => {
                    let error = FrameError::Place;
                    let next_generation = state.generation_seen() + 1;
                    let vacant = State::new(seat(*group, voters, config.planted));
                    (vacant, Some(Broken { error, next_generation }))
                }
                Ok(state) => (state, None),
                Err(broken) => (State::new(seat(*group, voters, config.planted)), Some(broken)),
            };
            let applied =
                if broken.is_some() { Position::default() } else { state.mark().position };
            let (mut restored, lost) =
                restore.restored(*group, applied, standing, voters.len() == 1);
            // A state that begins after what the log says was compacted is damaged as well: frames
            // are missing that no boot noticed.
            let short = broken.is_none() && applied.index < restored.compacted.index;
            restored.applied = applied;
            if broken.is_none() {
                restored.applied_configuration = members::of(&state, voters);
            }
            if restored.standing != Standing::Full {
                abstaining.push((*group, restored.standing));
            }
            let raft_config = raft_config(config, admitted.superblock.incarnation, *group, voters);
            // Nobody else can tell what the log of a group without other replicas has forgotten.
            let forgotten = || lost.then(|| wal_forgot.clone().unwrap_or_else(|| unknown(*group)));
            let hopeless = match voters.len() {
                1 => lost_for_good(*group, &restored, &wal_lost).or_else(forgotten),
                _ => None,
            };
            let raft = Group::new(raft_config, restored, now, rng.fork());
            let mut replica = Replica::new(*group, raft, state);
            if broken.is_some() || short {
                let damage = state_damage.get(group).cloned().unwrap_or_else(|| Damage {
                    file: FileId::new(kind, 0),
                    offset: 0,
                    what: alloc::format!("the state of group {group} is incomplete"),
                });
                let next = broken.map(|broken| broken.next_generation);
                replica = replica.damaged(&damage, next);
                traces.push(Trace::StateDamaged { group: *group, damage });
            } else if let Some(damage) = hopeless {
                // The damaged bytes stay where they are: whoever can mend them has nothing else.
                wal_damaged = None;
                replica = replica.damaged(&damage, None);
                traces.push(Trace::StateDamaged { group: *group, damage });
            }
            replicas.insert(*group, replica);
        }
        let read = table.iter().flat_map(|log| log.segments());
        let grown = read.filter(|it| it.number >= from).map(|it| it.used).sum();
        let table = match engine {
            Some(engine) => {
                table::Found::Engine(engine.found(|group| replicas.contains_key(&group)))
            }
            None => table::Found::Log(table?),
        };
        let logs = store::Recovered {
            wal: *self.wal_log?,
            index: self.index.files(),
            grown,
            table,
            wal_groups: self.wal_groups,
            wal_damaged,
            frames: self.frames,
        };
        let chunks = self.chunk_store?;
        let ops = self.ops;
        Some(Ready { admitted, groups, replicas, retired, abstaining, logs, chunks, ops })
    }
}

/// Of a group without other replicas: the first entry that its log has lost and its state doesn't contain.
/// Nothing after it can ever be applied.
fn lost_for_good(
    group: GroupId,
    restored: &raft::Restored,
    wal_lost: &BTreeMap<wal::Identity, Damage>,
) -> Option<Damage> {
    let lost = restored
        .entries
        .iter()
        .find(|entry| entry.payload.is_lost() && entry.position.index > restored.applied.index)?;
    let Position { term, index } = lost.position;
    let mut records = restore::ENTRY_KINDS
        .into_iter()
        .filter_map(|kind| wal_lost.get(&wal::Identity { kind, group, index, term }));
    Some(records.next().cloned().unwrap_or_else(|| unknown(group)))
}

/// Damage that an earlier boot saw, and that is gone from the files since.
fn unknown(group: GroupId) -> Damage {
    let what = alloc::format!("entries of group {group} were lost before");
    Damage { file: FileId::new(FileKind::Wal, 0), offset: 0, what }
}

/// The place of a group that was founded with these voters.
pub(super) fn seat(group: GroupId, founding: &[NodeId], planted: Planted) -> Seat {
    Seat { group, roster: Arc::new(Roster::founding(founding)), planted }
}

/// What the replica of a group is made with that was founded with these voters.
pub(super) fn raft_config(
    config: &Config,
    incarnation: Incarnation,
    group: GroupId,
    founding: &[NodeId],
) -> raft::Config {
    raft::Config {
        me: config.me,
        group,
        incarnation,
        voters: founding.to_vec(),
        heartbeat: config.tuning.heartbeat,
        election: config.tuning.election,
        quiesce_after: config.tuning.quiesce_after,
        append_bytes_max: config.tuning.append_bytes_max,
        append_inflight_max: config.tuning.append_inflight_max,
        max_clock_drift_ppm: config.tuning.max_clock_drift_ppm,
        planted: config.planted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_in_which_no_place_can_be_noted_are_told_from_the_others() {
        let found = |kind, number, bytes| FoundFile { file: FileId::new(kind, number), bytes };
        let (number, bytes) = (Stored::SEGMENT_MAX, Stored::SEGMENT_BYTES_MAX);
        assert!(!is_beyond(&found(FileKind::Table, number, bytes)));
        assert!(is_beyond(&found(FileKind::Table, number + 1, bytes)));
        assert!(is_beyond(&found(FileKind::Table, 1, bytes + 1)));
        assert!(!is_beyond(&found(FileKind::Chunk, number + 1, bytes + 1)));
    }
}
