//! The oracles that watch a run, and the one place that reads what machines say ([`Trace`]).
//!
//! A new kind of trace event needs a line here and nowhere else: in [`observation`] if a checker should
//! see it, in [`rare`] if a swarm should count it.

use super::Violation;
use super::durable::DurableLog;
use super::raft::{Observation, Raft};
use crate::disk::{Completion, Disk};
use crate::setup::Setup;
use ironseed_core::machine::FileKind;
use ironseed_core::node::trace::Trace;
use ironseed_core::raft::{Event, Role, Standing};
use ironseed_core::types::{GroupId, Index, NodeId, Position, Term};
use ironseed_core::wal::LogTrace;
use std::collections::{BTreeMap, BTreeSet};

/// The oracles of one run.
#[derive(Clone, Debug)]
pub struct Oracles {
    /// What the disks hold.
    pub durable: DurableLog,
    raft: Raft,
    /// Whether an acknowledgement promises durability at all.
    syncs_always: bool,
}

impl Oracles {
    /// The oracles of this kind of run.
    #[must_use]
    pub const fn new(setup: &Setup, syncs_always: bool) -> Self {
        let quorum = setup.replication as usize / 2 + 1;
        let durable = DurableLog::new(quorum, WAL_ENTRY_KINDS);
        Self { durable, raft: Raft::new(), syncs_always }
    }

    /// A machine says what happened.
    pub fn on_trace(&mut self, at: u64, node: NodeId, trace: &Trace) -> Option<Violation> {
        if self.syncs_always
            && let Trace::Decided { group, position, .. } = trace
            && let Some(violation) = self.durable.acknowledged(at, *group, *position)
        {
            return Some(violation);
        }
        let (group, observation) = observation(trace)?;
        self.raft.observe(at, node, group, observation)
    }

    /// A replica's state was looked at.
    pub fn on_state(
        &mut self,
        at: u64,
        node: NodeId,
        group: GroupId,
        applied: Position,
        hash: u128,
    ) -> Option<Violation> {
        // What is applied is committed: the entry's identity is compared beside the state.
        let entry = Observation::Entry { position: applied };
        let state = Observation::State { applied: applied.index, hash };
        if applied.index > Index(0) {
            let committed = self.raft.observe(at, node, group, entry);
            let durable = || self.durable.applied(at, group, applied);
            let wrong = committed.or_else(|| self.syncs_always.then(durable).flatten());
            if wrong.is_some() {
                return wrong;
            }
        }
        self.raft.observe(at, node, group, state)
    }

    /// A node has begun to lead a group. `lacks` says whether it has a log and this entry is not in it.
    pub fn on_leader(
        &self,
        at: u64,
        node: NodeId,
        group: GroupId,
        term: Term,
        lacks: impl Fn(Position) -> bool,
    ) -> Option<Violation> {
        self.raft.complete(at, node, group, term, lacks)
    }

    /// Who leads a group in this term, as far as that one knows.
    #[must_use]
    pub fn leads_still(&self, group: GroupId, term: Term) -> Option<NodeId> {
        self.raft.leads_still(group, term)
    }

    /// The last entry of a group that is known to be committed.
    #[must_use]
    pub fn newest(&self, group: GroupId) -> Option<Position> {
        self.raft.newest(group)
    }

    /// A disk operation has completed.
    pub fn on_completion(&mut self, node: NodeId, completion: &Completion, disk: &Disk) {
        if let Some(file) = completion.synced {
            self.durable.synced(node, file, disk);
        }
        if completion.names_synced {
            self.durable.names_synced(node, disk);
        }
    }

    /// A node has begun a new boot.
    pub fn on_boot(&mut self, node: NodeId) {
        self.raft.booted(node);
        self.durable.booted(node);
    }
}

/// What an event tells the Raft oracle.
#[must_use]
pub const fn observation(trace: &Trace) -> Option<(GroupId, Observation)> {
    match trace {
        // Decisions of one group come in the order of its log, but not to one node, so they say nothing of
        // a replica's commit index; the entry's identity is what counts.
        Trace::Decided { group, position, .. } => {
            Some((*group, Observation::Entry { position: *position }))
        }
        Trace::Role { group, role: Role::Leader, term, .. } => {
            Some((*group, Observation::Leads { term: *term }))
        }
        Trace::StateDamaged { group, .. } => Some((*group, Observation::StateLost)),
        Trace::Role { group, term, .. } => Some((*group, Observation::Term { term: *term })),
        _ => None,
    }
}

/// Under which name a swarm counts an event, if it does.
#[must_use]
pub const fn rare(trace: &Trace) -> Option<&'static str> {
    match trace {
        Trace::Booted { standing: Standing::Abstaining, .. } => Some("boot-in-doubt"),
        Trace::Booted { standing: Standing::Blank, .. } => Some("boot-with-nothing"),
        Trace::Chartered { .. } => Some("charter-changed"),
        Trace::LaidOut { .. } => Some("layout-changed"),
        Trace::Joined { .. } => Some("replica-joined"),
        Trace::Left { .. } => Some("replica-left"),
        Trace::Role { role: Role::Leader, .. } => Some("leader-elected"),
        Trace::HandOver { .. } => Some("leader-handed-over"),
        Trace::Raft { event, .. } => match event {
            Event::Truncated { .. } => Some("log-truncated"),
            Event::Repaired { .. } => Some("entry-repaired"),
            Event::GaveUp { .. } => Some("damaged-entry-given-up"),
            Event::SnapshotInstalled { .. } => None,
            Event::Quiesced => Some("group-quiet"),
            Event::Woken => Some("group-woken"),
            Event::ReadByLease => Some("read-by-lease"),
            Event::Unanimous { .. } => Some("elected-by-all"),
            Event::Expelled => Some("expelled"),
        },
        Trace::ReadsNear { waited: false, .. } => Some("read-near"),
        Trace::ReadsNear { waited: true, .. } => Some("read-near-waited"),
        Trace::ReadsFellBack { .. } => Some("read-near-fell-back"),
        Trace::Log(LogTrace::SegmentStarted { .. }) => Some("segment-started"),
        Trace::Log(LogTrace::SegmentReused { .. }) => Some("segment-reused"),
        Trace::Readmitted { .. } => Some("replica-readmitted"),
        Trace::SnapshotInstalled { .. } => Some("snapshot-installed"),
        Trace::SnapshotDeferred { .. } => Some("snapshot-deferred"),
        Trace::Damaged { .. } => Some("corruption-found"),
        Trace::StateDamaged { .. } => Some("state-damaged"),
        Trace::ChunkRepaired { .. } => Some("chunk-repaired"),
        Trace::Scrubbed { .. } => Some("scrub-round"),
        Trace::BlobCollected { .. } => Some("blob-collected"),
        Trace::EngineLoaded { records: 1.., .. } => Some("engine-loaded"),
        Trace::BodiesSwept { gone: 1.., .. } => Some("engine-bodies-swept"),
        Trace::IndexWritten { .. } => Some("index-snapshot-written"),
        Trace::IndexLoaded { segments: 0, .. } => Some("index-snapshot-loaded"),
        Trace::IndexLoaded { .. } => Some("index-snapshot-spared-segments"),
        Trace::IndexRefused { .. } => Some("index-snapshot-refused"),
        Trace::DiskFull(true) => Some("disk-full-seen"),
        Trace::PeerLost(_) => Some("peer-lost"),
        Trace::Stranger { .. } => Some("stranger-refused"),
        _ => None,
    }
}

/// What is damaged and not yet healed, so that corruption that was healed can be told from what was only
/// brought to a node that had been away.
#[derive(Clone, Debug, Default)]
pub struct Healing {
    states: BTreeSet<(NodeId, GroupId)>,
    chunks: BTreeMap<NodeId, u64>,
}

impl Healing {
    /// Whether this event says that something damaged is whole again: a log entry that a peer gave back, a
    /// chunk of a node that has found damaged ones, the state of a group that was damaged.
    pub fn healed(&mut self, node: NodeId, trace: &Trace) -> bool {
        match trace {
            Trace::StateDamaged { group, .. } => {
                self.states.insert((node, *group));
                false
            }
            Trace::Damaged { damage } if damage.file.kind == FileKind::Chunk => {
                *self.chunks.entry(node).or_default() += 1;
                false
            }
            Trace::Raft { event: Event::Repaired { .. }, .. } => true,
            Trace::SnapshotInstalled { group, .. } => self.states.remove(&(node, *group)),
            Trace::ChunkRepaired { .. } => match self.chunks.get_mut(&node) {
                Some(damaged) if *damaged > 0 => {
                    *damaged -= 1;
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }
}

/// The group that a node has begun to lead, and in which term.
#[must_use]
pub const fn leads(trace: &Trace) -> Option<(GroupId, Term)> {
    match trace {
        Trace::Role { group, role: Role::Leader, term, .. } => Some((*group, *term)),
        _ => None,
    }
}

/// The group in which a node stands for election, the term that it wants to lead, and whether it only asks so far.
#[must_use]
pub const fn stands(trace: &Trace) -> Option<(GroupId, Term, bool)> {
    match trace {
        Trace::Role { group, role: Role::PreCandidate, term, .. } => {
            Some((*group, term.next(), true))
        }
        Trace::Role { group, role: Role::Candidate, term, .. } => Some((*group, *term, false)),
        _ => None,
    }
}

/// The group of which an event says that its state has moved: a good moment to compare replicas.
#[must_use]
pub const fn moved(trace: &Trace) -> Option<GroupId> {
    match trace {
        Trace::Decided { group, .. } | Trace::SnapshotInstalled { group, .. } => Some(*group),
        _ => None,
    }
}

/// Kinds of WAL records that hold a log entry: appended, or given back by a peer (docs/formats.md).
pub const WAL_ENTRY_KINDS: &[u8] = &[2, 6, 9];

#[cfg(test)]
mod tests {
    use super::*;
    use ironseed_core::machine::FileId;
    use ironseed_core::types::{BlobId, ChunkHash, ChunkId, Damage, Index, ShardId};

    #[test]
    fn only_what_was_damaged_is_healed() {
        let (node, group) = (NodeId(1), GroupId(2));
        let damage = |kind| Damage { file: FileId::new(kind, 1), offset: 0, what: "bytes".into() };
        let blob = BlobId { home: ShardId(1), opened: Index(3) };
        let repaired = Trace::ChunkRepaired { chunk: ChunkId { blob, hash: ChunkHash([0; 32]) } };
        let installed = Trace::SnapshotInstalled { group, position: Position::default() };
        let mut healing = Healing::default();
        assert!(!healing.healed(node, &repaired), "it was only missing");
        assert!(!healing.healed(node, &installed), "it only lagged");
        assert!(!healing.healed(node, &Trace::Damaged { damage: damage(FileKind::Chunk) }));
        assert!(!healing.healed(NodeId(2), &repaired));
        assert!(healing.healed(node, &repaired));
        assert!(!healing.healed(node, &repaired), "once each");
        let damaged = Trace::StateDamaged { group, damage: damage(FileKind::Table) };
        assert!(!healing.healed(node, &damaged));
        assert!(healing.healed(node, &installed));
        let entry = Event::Repaired { position: Position::default() };
        assert!(healing.healed(node, &Trace::Raft { group, event: entry }));
    }
}
