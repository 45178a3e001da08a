//! What operators see of nodes and cluster: the report of one node as JSON, and the summary that
//! `ironseed status` makes of all of them.
//!
//! A report is a node's own view ([`NodeReport`], served at `/status` on the admin port). The summary
//! ([`summary`]) puts the views together, because no node alone knows how much the cluster can lose: a
//! leader knows which voters keep up, and only the nodes themselves know what is damaged or missing.

mod ask;
pub mod summary;
mod table;

pub use ask::{AskError, Target, ask_all, configured, run};

use crate::driver::{AllWritten, Report, Written};
use crate::net::Traffic;
use ironseed_core::node::scrub::Scrubbed;
use ironseed_core::node::status::{GroupStatus, Moving, Phase, Role};
use ironseed_core::types::{NodeId, StoreId};
use serde::{Deserialize, Serialize};

/// One node, as it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its id.
    pub node: u32,
    /// `booting`, `waiting`, `serving`, `stopping` or `halted`.
    pub phase: String,
    /// Its cluster's id in hexadecimal, once it knows.
    pub cluster: Option<String>,
    /// Its store's id in hexadecimal.
    pub store: Option<String>,
    /// Its boot: how many stores the node had before times 2^32, plus how often this one was booted.
    pub incarnation: u64,
    /// All nodes of the cluster.
    pub nodes: Vec<u32>,
    /// How often the list of nodes and their stores has changed.
    pub charter: u64,
    /// The store that each node has according to that list.
    pub stores: Vec<StoreReport>,
    /// How often the layout has changed: where shards are that were moved.
    pub layout: u64,
    /// Shards on their way.
    pub moving: Vec<MovingReport>,
    /// Stores that want the place of a node's: its disk was replaced.
    pub strangers: Vec<StoreReport>,
    /// Peers that it has not heard of for too long.
    pub suspected: Vec<u32>,
    /// Chunks still to be fetched from peers.
    pub chunks_missing: u64,
    /// Chunks held.
    pub chunks: u64,
    /// Bytes of the chunks held.
    pub chunk_bytes: u64,
    /// How far their verification is.
    pub scrub: ScrubReport,
    /// Client requests under way.
    pub requests: u64,
    /// Whether the last write was refused for lack of space.
    pub disk_full: bool,
    /// What it and its peers have said to each other since it was started.
    pub peers: Vec<PeerReport>,
    /// What it has had written since it was started.
    pub disk: DiskReport,
    /// Its replicas.
    pub groups: Vec<GroupReport>,
}

/// A store, and the node that it is of or wants to be of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// The node.
    pub node: u32,
    /// The store's id in hexadecimal.
    pub store: String,
}

impl StoreReport {
    fn of((node, store): &(NodeId, StoreId)) -> Self {
        Self { node: node.0, store: store.to_string() }
    }
}

/// A shard on its way to other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovingReport {
    /// The shard.
    pub shard: u16,
    /// The nodes that shall have it.
    pub to: Vec<u32>,
    /// Those that had it.
    pub from: Vec<u32>,
}

impl From<&Moving> for MovingReport {
    fn from(Moving { shard, to, from }: &Moving) -> Self {
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
        Self { shard: shard.0, to: ids(to), from: ids(from) }
    }
}

/// One peer, as a node counts what passes between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// The peer.
    pub node: u32,
    /// Messages sent to it. A message may carry the words of many groups.
    pub sent: u64,
    /// Messages received from it.
    pub received: u64,
    /// Messages dropped, because it could not be reached or is too slow.
    pub dropped: u64,
}

/// How far the verification of a node's chunks is. Times are seconds since the Unix epoch by its own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// Rounds over all chunks that have ended.
    pub rounds: u64,
    /// When the last of these began: whatever was held by then was verified since. 0 before the first.
    pub whole: u64,
    /// When the round under way began; 0 between rounds.
    pub began: u64,
    /// Bytes that it has verified.
    pub bytes: u64,
    /// Chunks that it, or between rounds the last one, found damaged.
    pub damaged: u64,
}

/// What a node has had written since its process began, by what for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// The write-ahead log.
    pub wal: WrittenReport,
    /// The log of records.
    pub table: WrittenReport,
    /// The log of chunks.
    pub chunk: WrittenReport,
    /// The superblock, and syncs of the directory.
    pub other: WrittenReport,
}

/// Of one kind of file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenReport {
    /// Writes.
    pub writes: u64,
    /// Their bytes; files that are made are left out.
    pub bytes: u64,
    /// Syncs.
    pub syncs: u64,
}

impl From<&AllWritten> for DiskReport {
    fn from(AllWritten { wal, table, chunk, other }: &AllWritten) -> Self {
        let of = |Written { writes, bytes, syncs }: &Written| WrittenReport {
            writes: *writes,
            bytes: *bytes,
            syncs: *syncs,
        };
        Self { wal: of(wal), table: of(table), chunk: of(chunk), other: of(other) }
    }
}

/// One replica, as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReport {
    /// The group; 0 is the meta group, shard s is group s + 1.
    pub group: u32,
    /// `leader`, `follower` or `candidate`.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// The leader that it knows.
    pub leader: Option<u32>,
    /// The commit index.
    pub commit: u64,
    /// The last index of its log.
    pub last: u64,
    /// The applied index.
    pub applied: u64,
    /// The voters.
    pub voters: Vec<u32>,
    /// Of a leader: voters that keep answering, with their match index.
    pub matched: Vec<(u32, u64)>,
    /// Damaged entries of its log that are still to be fetched from peers.
    pub entries_lost: u64,
    /// Whether it waits to be readmitted.
    pub abstaining: bool,
    /// Why it can't serve, if it can't.
    pub damaged: Option<String>,
}

impl From<&Report> for NodeReport {
    fn from(Report { status, traffic, written }: &Report) -> Self {
        let phase = match status.phase {
            Phase::Booting => "booting",
            Phase::Waiting => "waiting",
            Phase::Serving => "serving",
            Phase::Stopping => "stopping",
            Phase::Halted => "halted",
        };
        Self {
            node: status.node.0,
            phase: phase.into(),
            cluster: status.cluster.map(|cluster| format!("{cluster:?}")),
            store: status.store.map(|store| format!("{store:?}")),
            incarnation: status.incarnation.0,
            nodes: status.nodes.iter().map(|node| node.0).collect(),
            charter: status.charter,
            layout: status.layout,
            moving: status.moving.iter().map(MovingReport::from).collect(),
            stores: status.stores.iter().map(StoreReport::of).collect(),
            strangers: status.strangers.iter().map(StoreReport::of).collect(),
            suspected: status.suspected.iter().map(|node| node.0).collect(),
            chunks_missing: status.chunks_missing,
            chunks: status.chunks,
            chunk_bytes: status.chunk_bytes,
            scrub: ScrubReport::from(&status.scrubbed),
            requests: status.requests,
            disk_full: status.disk_full,
            peers: traffic.iter().map(PeerReport::from).collect(),
            disk: DiskReport::from(written),
            groups: status.groups.iter().map(GroupReport::from).collect(),
        }
    }
}

impl From<&Scrubbed> for ScrubReport {
    fn from(at: &Scrubbed) -> Self {
        const NANOS: u64 = 1_000_000_000;
        Self {
            rounds: at.rounds,
            whole: at.whole / NANOS,
            began: at.began / NANOS,
            bytes: at.bytes,
            damaged: at.damaged,
        }
    }
}

impl From<&Traffic> for PeerReport {
    fn from(traffic: &Traffic) -> Self {
        Self {
            node: traffic.peer.0,
            sent: traffic.sent,
            received: traffic.received,
            dropped: traffic.dropped.messages,
        }
    }
}

impl From<&GroupStatus> for GroupReport {
    fn from(status: &GroupStatus) -> Self {
        let role = match status.role {
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        };
        Self {
            group: status.group.0,
            role: role.into(),
            term: status.term.0,
            leader: status.leader.map(|node| node.0),
            commit: status.commit.0,
            last: status.last.0,
            applied: status.applied.0,
            voters: status.voters.iter().map(|node| node.0).collect(),
            matched: status.matched.iter().map(|(node, index)| (node.0, index.0)).collect(),
            entries_lost: status.entries_lost,
            abstaining: status.abstaining,
            damaged: status.damaged.clone(),
        }
    }
}

impl GroupReport {
    /// Whether this replica leads, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.role == "leader"
    }

    /// Whether nothing of it is damaged and it counts in its group.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.abstaining && self.entries_lost == 0 && self.damaged.is_none()
    }
}

#[cfg(test)]
mod tests;
