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
        let Trace::Acknowledged { group, position, .. } = trace;
        if self.syncs_always
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

/// What an event tells the Raft oracle. An acknowledged entry is committed.
#[must_use]
pub const fn observation(trace: &Trace) -> Option<(GroupId, Observation)> {
    match trace {
        Trace::Acknowledged { group, position, .. } => {
            // Acknowledgements of one group need not come in the order of its log, so they say nothing
            // of a replica's commit index; the entry's identity is what counts.
            Some((*group, Observation::Entry { position: *position }))
        }
    }
}

/// Under which name a swarm counts an event, if it does.
#[must_use]
pub const fn rare(trace: &Trace) -> Option<&'static str> {
    match trace {
        Trace::Acknowledged { .. } => None,
    }
}

/// What a WAL record that is a log entry calls its kind.
pub const WAL_ENTRY_KIND: u8 = 1;
