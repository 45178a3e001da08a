//! What a node knows of itself and its groups, for operators: `ironseed status`, readiness, tests. A
//! view of the machines' state, computed when asked for; no decision reads it.

use super::scrub::Scrubbed;
use crate::types::{ClusterId, GroupId, Incarnation, Index, NodeId, ShardId, StoreId, Term};
use alloc::string::String;
use alloc::vec::Vec;

/// How far a node has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Recovering its files.
    #[default]
    Booting,
    /// A store without a cluster: waits for a founder, or for the other founding members.
    Waiting,
    /// A member of a cluster that takes requests.
    Serving,
    /// Asked to stop.
    Stopping,
    /// Its store can't go on.
    Halted,
}

/// What a replica is in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows, or waits for a leader.
    #[default]
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// One replica as its node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// What this replica is in it.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader that it knows.
    pub leader: Option<NodeId>,
    /// The commit index.
    pub commit: Index,
    /// The last index of the log.
    pub last: Index,
    /// The applied index.
    pub applied: Index,
    /// The voters.
    pub voters: Vec<NodeId>,
    /// Of a leader: the match index of each other voter that has answered in this term and is not
    /// suspected.
    pub matched: Vec<(NodeId, Index)>,
    /// Entries of its log that were found damaged and are still to be fetched from peers.
    pub entries_lost: u64,
    /// Whether it abstains from votes and acknowledgements until it is readmitted.
    pub abstaining: bool,
    /// Why it can't serve, if it can't.
    pub damaged: Option<String>,
}

/// A shard on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moving {
    /// The shard.
    pub shard: ShardId,
    /// The voters that it shall have.
    pub to: Vec<NodeId>,
    /// Those that it had.
    pub from: Vec<NodeId>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The node.
    pub node: NodeId,
    /// How far it has come.
    pub phase: Phase,
    /// Its cluster, once it knows.
    pub cluster: Option<ClusterId>,
    /// Its store, once it is read or made.
    pub store: Option<StoreId>,
    /// Its boot count.
    pub incarnation: Incarnation,
    /// All nodes of the cluster.
    pub nodes: Vec<NodeId>,
    /// The version of the charter.
    pub charter: u64,
    /// The store that each node has, by the charter.
    pub stores: Vec<(NodeId, StoreId)>,
    /// The version of the layout.
    pub layout: u64,
    /// Shards that are being moved: to which voters, and from which.
    pub moving: Vec<Moving>,
    /// Stores that look for a cluster in the place of a node's: its disk was replaced.
    pub strangers: Vec<(NodeId, StoreId)>,
    /// Peers that have not been heard of for too long.
    pub suspected: Vec<NodeId>,
    /// Its replicas, by group.
    pub groups: Vec<GroupStatus>,
    /// Chunks that its replicas name and that are still to be fetched from peers.
    pub chunks_missing: u64,
    /// Chunks that it holds.
    pub chunks: u64,
    /// Bytes of the chunks that it holds.
    pub chunk_bytes: u64,
    /// How far the verification of these chunks is.
    pub scrubbed: Scrubbed,
    /// Client requests under way.
    pub requests: u64,
    /// Whether the last write was refused for lack of disk space.
    pub disk_full: bool,
}
