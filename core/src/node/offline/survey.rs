//! Recovery of a store for somebody who only wants to know what is in it.

use super::node_config;
use crate::chunk::ChunkStore;
use crate::kv::state::State;
use crate::machine::{FileKind, FoundFile, Halt, Instant, IoOp, IoResult};
use crate::node::api::Engine;
use crate::node::boot::{Admitted, next_boot};
use crate::node::cleaner::FrameAt;
use crate::node::members;
use crate::node::recovery::{Ops, Ready, Recovering};
use crate::node::superblock::{Charter, Membership, Superblock};
use crate::node::table;
use crate::raft::{self, HardState, Payload};
use crate::rng::Rng;
use crate::types::{GroupId, Index, NodeId, OpId, Position};
use crate::wal::{Cut, LogDamage, SegmentStat};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A recovery under way: three logs side by side.
#[derive(Clone, Debug)]
pub struct Survey {
    recovering: Box<Recovering>,
    config: crate::node::api::Config,
}

/// What a store holds.
pub struct Found {
    /// What is damaged in the logs, and what that costs, as a boot judges it. A chunk's bytes are not looked at.
    pub damages: Vec<LogDamage>,
    /// Where each log ends, if it has begun.
    pub cuts: Vec<Cut>,
    /// The groups that have a replica here.
    pub groups: BTreeMap<GroupId, FoundGroup>,
    /// What the chunk log holds.
    pub chunks: Box<ChunkStore>,
    /// The segments of the write-ahead log and of the table log, oldest first.
    pub segments: BTreeMap<FileKind, Vec<SegmentStat>>,
    pub(super) parts: Parts,
}

/// What a compaction needs of a survey.
pub(super) struct Parts {
    pub(super) table: crate::wal::SegmentLog,
    pub(super) frames: BTreeMap<u64, Vec<FrameAt>>,
    /// The states as they stand in the table log.
    pub(super) states: BTreeMap<GroupId, State>,
    pub(super) ops: Ops,
}

/// A replica as a boot would begin with it.
pub struct FoundGroup {
    /// Which nodes hold the group.
    pub replicas: Vec<NodeId>,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The log: its end, where it begins, how many of its entries are lost, who belongs to the group, whether the
    /// replica abstains.
    pub raft: raft::Status,
    /// What the table log has of the state.
    pub checkpoint: Position,
    /// The state with everything applied that is known to be committed, if it can be had.
    pub state: Option<State>,
    /// Why the state, or what is to be applied to it, can't be had.
    pub damage: Option<String>,
}

impl Survey {
    /// A survey of the store that this superblock is of, from its logs alone. Its operations may be executed in any order; those that write
    /// may be left out (see [`super`]).
    ///
    /// # Errors
    /// The store has not joined a cluster yet: there is nothing in it. Or its records are in an engine of somebody else's.
    pub fn new(
        superblock: &Superblock,
        files: Vec<FoundFile>,
        ios: &mut Vec<IoOp>,
    ) -> Result<Self, Halt> {
        let charter = charter_of(superblock)?;
        Self::of(
            superblock,
            charter,
            files.into_iter().filter(|it| it.file.kind != FileKind::Index),
            ios,
        )
    }

    /// The same as a boot finds it: by way of a snapshot of the index, if there is one that is good. What lies in the
    /// segments that it passes over is not looked at.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn by_index(
        superblock: &Superblock,
        files: Vec<FoundFile>,
        ios: &mut Vec<IoOp>,
    ) -> Result<Self, Halt> {
        Self::of(superblock, charter_of(superblock)?, files.into_iter(), ios)
    }

    fn of(
        superblock: &Superblock,
        charter: &Charter,
        files: impl Iterator<Item = FoundFile>,
        ios: &mut Vec<IoOp>,
    ) -> Result<Self, Halt> {
        let files: Vec<FoundFile> = files.collect();
        let config = node_config(superblock, charter, &files);
        let admitted = Admitted {
            superblock: next_boot(superblock.clone(), &files, superblock.fsync),
            sequence: 0,
            charter: charter.clone(),
            files,
        };
        let mut recovering = Recovering::new(&config, admitted, Ops::new(), ios, &mut Vec::new())?;
        recovering.damages = Some(Vec::new());
        Ok(Self { recovering: Box::new(recovering), config })
    }

    /// Takes the completion of an operation and goes on.
    ///
    /// # Errors
    /// A log can't be opened: why, with file and offset.
    pub fn on_done(
        &mut self,
        op: OpId,
        result: &IoResult,
        ios: &mut Vec<IoOp>,
    ) -> Result<(), Halt> {
        self.recovering.on_done(op, result, ios, &mut Vec::new())
    }

    /// What was found, once no operation is under way any more.
    ///
    /// # Panics
    /// If one is.
    #[must_use]
    pub fn finish(mut self) -> Found {
        assert!(self.recovering.is_complete(), "the logs are not read yet");
        let damages = self.recovering.damages.take().unwrap_or_default();
        let cuts = self.recovering.cuts().cloned().collect();
        let mut rng = Rng::new(self.config.seed);
        let ready = self.recovering.finish(&self.config, Instant(0), &mut rng, &mut Vec::new());
        let Some(ready) = ready else { unreachable!("all logs are there") };
        let Ready { groups, replicas, logs, chunks, ops, .. } = ready;
        let mut found = BTreeMap::new();
        let mut states = BTreeMap::new();
        for (group, replica) in replicas {
            let checkpoint = replica.state.mark().position;
            let (state, damage) = match replica.damage {
                Some(damage) => (None, Some(damage)),
                None => {
                    states.insert(group, replica.state.clone());
                    applied(replica.state, &replica.raft)
                }
            };
            let replicas = groups.get(&group).cloned().unwrap_or_default();
            let (hard_state, raft) = (replica.raft.hard_state(), replica.raft.status());
            let of = FoundGroup { replicas, hard_state, raft, checkpoint, state, damage };
            found.insert(group, of);
        }
        let table::Found::Log(table) = logs.table else {
            unreachable!("a store with an engine is refused")
        };
        let segments = BTreeMap::from([
            (FileKind::Wal, logs.wal.segments().copied().collect()),
            (FileKind::Table, table.segments().copied().collect()),
            (FileKind::Chunk, chunks.segments().copied().collect()),
        ]);
        let parts = Parts { table: *table, frames: logs.frames, states, ops };
        Found { damages, cuts, groups: found, chunks, segments, parts }
    }
}

fn charter_of(superblock: &Superblock) -> Result<&Charter, Halt> {
    if superblock.engine != Engine::Native {
        let reason = alloc::format!(
            "this store keeps its records in the engine {}: only what is in a log of the node's own can be looked at",
            superblock.engine
        );
        return Err(Halt { reason });
    }
    match &superblock.membership {
        Membership::Member(charter) => Ok(charter),
        Membership::Blank | Membership::Founder(_) => {
            let reason = String::from("this store has not joined a cluster yet: it holds nothing");
            Err(Halt { reason })
        }
    }
}

/// Applies what the log has and is known to be committed, as a replica does. An entry that is lost here ends it.
fn applied(mut state: State, raft: &raft::Group) -> (Option<State>, Option<String>) {
    let commit = raft.hard_state().commit_index;
    loop {
        let next: Index = state.mark().position.index.next();
        if next > commit || state.stranded().is_some() {
            return (Some(state), None);
        }
        let Some(entry) = raft.entries(next, 1).next() else { return (Some(state), None) };
        match &entry.payload {
            Payload::Command(command) => {
                state.apply(entry.position, command);
            }
            other if members::pass_over(&mut state, entry.position, other) => {}
            _ => return (Some(state), None),
        }
    }
}
