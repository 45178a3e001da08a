//! The oracles that watch a run, and the one place that reads what machines say ([`Trace`]).
//!
//! A new kind of trace event needs a line here and nowhere else: in [`observation`] if a checker should
//! see it, in [`rare`] if a swarm should count it.

use super::durable::DurableLog;
use super::raft::{Observation, Raft};
use super::Violation;
use crate::disk::{Completion, Disk};
use crate::setup::Setup;
use ironseed_core::node::trace::Trace;
use ironseed_core::raft::{Event, Role};
use ironseed_core::types::{GroupId, NodeId};

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
        let durable = DurableLog::new(quorum, WAL_ENTRY_KIND);
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
    }
}

/// What an event tells the Raft oracle. A decided entry is committed.
#[must_use]
pub const fn observation(trace: &Trace) -> Option<(GroupId, Observation)> {
    match trace {
        // Decisions of one group say nothing of the replica's commit index; the entry's identity is
        // what counts.
        Trace::Decided { group, position, .. } => {
            Some((*group, Observation::Entry { position: *position }))
        }
        Trace::Role { group, role: Role::Leader, term, .. } => {
            Some((*group, Observation::Leads { term: *term }))
        }
        Trace::Role { group, term, .. } => Some((*group, Observation::Term { term: *term })),
        _ => None,
    }
}

/// Under which name a swarm counts an event, if it does.
#[must_use]
pub const fn rare(trace: &Trace) -> Option<&'static str> {
    match trace {
        Trace::Role { role: Role::Leader, .. } => Some("leader_elected"),
        Trace::Raft { event, .. } => match event {
            Event::Truncated { .. } => Some("log_truncated"),
            Event::Repaired { .. } => Some("payload_repaired"),
            Event::GaveUp { .. } => Some("payload_given_up"),
            Event::Quiesced => Some("group_quiesced"),
            Event::Woken => Some("group_woken"),
            Event::Unanimous { .. } => Some("unanimous_election"),
            _ => None,
        },
        Trace::Readmitted { .. } => Some("readmitted"),
        Trace::SnapshotInstalled { .. } => Some("snapshot_installed"),
        Trace::Damaged { .. } => Some("corruption_found"),
        Trace::StateDamaged { .. } => Some("state_damaged"),
        Trace::ChunkRepaired { .. } => Some("chunk_repaired"),
        Trace::BlobCollected { .. } => Some("blob_collected"),
        Trace::DiskFull(true) => Some("disk_full"),
        Trace::PeerLost(_) => Some("peer_lost"),
        _ => None,
    }
}

/// What a WAL record that is a log entry calls its kind (`node::restore`).
pub const WAL_ENTRY_KIND: u8 = 2;
