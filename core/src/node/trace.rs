//! What happened, as an output: metrics, logs, histories and checkers are views of these events.

use super::message::CallId;
use crate::raft::{Event, Role, Standing};
use crate::types::{
    BlobId, ChunkId, ClusterId, Damage, GroupId, Incarnation, NodeId, Position, RequestId, StoreId,
    Term,
};
use crate::wal::LogTrace;
use alloc::string::String;
use bincode::Encode;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub enum Trace {
    /// A node has read its superblock.
    Booted {
        /// Its store.
        store: StoreId,
        /// Which boot this is.
        incarnation: Incarnation,
        /// What its groups are worth at the most.
        standing: Standing,
    },
    /// A node has recovered and takes part.
    Running {
        /// Its cluster.
        cluster: ClusterId,
    },
    /// A command was applied at the leader that proposed it, and its router is about to be answered. If
    /// the command's outcome is a success, it must survive.
    Decided {
        /// The group that committed it.
        group: GroupId,
        /// Where in its log.
        position: Position,
        /// The router's node.
        from: NodeId,
        /// The router's call.
        call: CallId,
    },
    /// The answer to a request leaves the node.
    Answered {
        /// The request.
        request: RequestId,
    },
    /// A replica's role, term or leader has changed.
    Role {
        /// The group.
        group: GroupId,
        /// The role.
        role: Role,
        /// The term.
        term: Term,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Another node should lead a group that is led here, and is asked to.
    HandOver {
        /// The group.
        group: GroupId,
        /// The other node.
        to: NodeId,
    },
    /// A Raft event.
    Raft {
        /// The group.
        group: GroupId,
        /// What happened.
        event: Event,
    },
    /// A replica that does not lead answers reads from its own state.
    ReadsNear {
        /// The group.
        group: GroupId,
        /// They had to wait until that contained what the leader had committed.
        waited: bool,
    },
    /// A replica that does not lead passes reads on to whoever does, after it began to look into them.
    ReadsFellBack {
        /// The group.
        group: GroupId,
    },
    /// A log's event.
    Log(LogTrace),
    /// A replica that abstained counts again.
    Readmitted {
        /// The group.
        group: GroupId,
    },
    /// A group's state was offered, and is not fetched yet: as many others are as may be at a time.
    SnapshotDeferred {
        /// The group.
        group: GroupId,
    },
    /// A replica has installed a leader's state.
    SnapshotInstalled {
        /// The group.
        group: GroupId,
        /// What it contains.
        position: Position,
    },
    /// Something on disk is damaged; what can be healed is being healed.
    Damaged {
        /// Where, and what was expected there.
        damage: Damage,
    },
    /// A replica's state is damaged: it serves nothing until a peer has given it another.
    StateDamaged {
        /// The group.
        group: GroupId,
        /// Where, and what was expected there.
        damage: Damage,
    },
    /// A chunk that was missing or damaged here was fetched from a peer.
    ChunkRepaired {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A dead blob was collected.
    BlobCollected {
        /// The blob.
        blob: BlobId,
    },
    /// The disk is full, or no longer.
    DiskFull(bool),
    /// A peer's node is not heard of.
    PeerLost(NodeId),
    /// A peer's node is heard of again.
    PeerFound(NodeId),
    /// A store that is not the one recorded for its node wants to take part: it is refused.
    Stranger {
        /// The node it says it is.
        node: NodeId,
        /// Its store.
        store: StoreId,
    },
    /// Another version of the charter is in force here.
    Chartered {
        /// Which.
        version: u64,
    },
    /// Another version of the layout is in force here.
    LaidOut {
        /// Which.
        version: u64,
    },
    /// A replica is started for a shard that is moved here.
    Joined {
        /// The group.
        group: GroupId,
    },
    /// The replica of a shard that was moved away is given up.
    Left {
        /// The group.
        group: GroupId,
    },
    /// A round of the scrub has ended.
    Scrubbed {
        /// Bytes of chunks that it verified.
        bytes: u64,
        /// Chunks that it found damaged.
        damaged: u64,
    },
    /// The states of groups were read from an engine.
    EngineLoaded {
        /// Of so many groups.
        groups: u64,
        /// So many records in all.
        records: u64,
    },
    /// Bodies of an engine were looked through.
    BodiesSwept {
        /// Which segment of them.
        segment: u64,
        /// Bytes that were of no use, and went.
        gone: u64,
        /// Bytes that stay.
        kept: u64,
    },
    /// A snapshot of the index is durable.
    IndexWritten {
        /// Its number.
        number: u64,
        /// Records of all groups.
        records: u64,
        /// Bytes of its file.
        bytes: u64,
    },
    /// A boot reads the table log only behind a snapshot of the index.
    IndexLoaded {
        /// Its number.
        number: u64,
        /// Records of all groups.
        records: u64,
        /// Segments of the table log that are not read.
        segments: u64,
    },
    /// A snapshot of the index is doubtful: the boot removes it, and reads the table log whole if there is no other.
    IndexRefused {
        /// Its number.
        number: u64,
        /// Why.
        why: String,
    },
    /// Commands of this meaning are beyond this program: the replica applies nothing more.
    Stranded {
        /// The group.
        group: GroupId,
        /// The meaning.
        meaning: u16,
    },
}
