//! What the lanes of a node say to each other. Lanes share nothing: each takes one input and appends to
//! one list of posts, and the node delivers them in any order that keeps each pair's.

use super::engine::sweeper::Swept;
use super::message::{Ask, CallId, Offer, PeerMessage, ReadIndex, Reply};
use super::router::Report;
use super::scrub::Scrubbed;
use super::support::Support;
use super::trace::Trace;
use crate::codec::Octets;
use crate::kv::frame::{Frame, Place, Placed};
use crate::kv::index::IndexCopy;
use crate::kv::snapshot::SnapshotRecord;
use crate::kv::table::RecordLocation;
use crate::machine::Hashed;
use crate::object::api::{ChunkRef, Outcome, Request};
use crate::object::charter::Charter;
use crate::object::layout::Layout;
use crate::object::registry::BucketRecord;
use crate::raft::{self, PersistId, Standing, Write};
use crate::types::{
    BlobId, ChunkId, Damage, GroupId, Incarnation, NodeId, Position, RequestId, ShardId,
};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// A post from one lane to another, or out of the node.
#[derive(Clone, Debug)]
pub(crate) enum Post {
    /// To the replica of a group on this node.
    Replica(GroupId, ReplicaInput),
    /// To the store lane.
    Store(StoreInput),
    /// To the router lane.
    Router(RouterInput),
    /// To another node, or to this one.
    Peer(NodeId, PeerMessage),
    /// A group's message, held back until its persist is durable.
    Raft { to: NodeId, group: GroupId, message: raft::Message, after: Option<PersistId> },
    /// A persist is durable: opens gates, and the replica is told.
    Persisted(GroupId, PersistId),
    /// The log says now of every group that abstained at boot that it does.
    StandingNoted,
    /// The charter as the meta group has it.
    Charter(Box<Charter>),
    /// The layout as the meta group has it.
    Layout(Box<Layout>),
    /// The meta group says that this node's replica of a shard may go.
    MayLeave(ShardId),
    /// A replica has gone on to a later term than that in which it followed one of this node.
    Left(NodeId),
    /// A group has reads to confirm: it is told when.
    ReadAsked(GroupId),
    /// A group's reads are confirmed, or refused.
    ReadsConfirmed(GroupId),
    /// A group has reads that its replica here answers once its leader has said how far the group is.
    IndexWanted { group: GroupId, leader: NodeId },
    /// The answer to another node's question for a read index of a group that is led here; none if it is not.
    Index { to: NodeId, question: CallId, group: GroupId, index: Option<ReadIndex> },
    /// The disk is full, or no longer: all replicas are told.
    DiskFull(bool),
    /// How far the scrub is, to be kept over a restart.
    Scrubbed(Scrubbed),
    /// Hash bulk bytes; the router is told under this token.
    Hash { token: u64, bytes: Bytes },
    /// The answer to a client.
    Reply(RequestId, Box<Outcome>),
    /// What happened.
    Trace(Trace),
}

/// What a replica can be told.
#[derive(Clone, Debug)]
pub(crate) enum ReplicaInput {
    /// Its deadline has passed.
    Timer,
    /// A message from another replica.
    Raft(NodeId, raft::Message),
    /// A call from a router.
    Call { from: NodeId, call: CallId, ask: Ask },
    /// Confirm the reads that were asked.
    Confirm,
    /// The nodes of the followers are asked for their support: the reads that were asked wait for that.
    AwaitSupport { round: u64 },
    /// A quorum still supports this leader: reads of this round and earlier ones are confirmed.
    Supported { round: u64 },
    /// Their support does not prove it: confirm the reads of this round and earlier ones otherwise.
    Unsupported { round: u64 },
    /// The leader is asked for a read index, with this question.
    IndexAsked { question: u64 },
    /// The answer to it.
    IndexIs { question: u64, index: Option<ReadIndex> },
    /// Another node asks for one, and says how it stands by this one.
    IndexQuery { from: NodeId, question: CallId, support: Support },
    /// The log is durable through here.
    Persisted(PersistId),
    /// The table log has written a frame.
    FrameWritten { placed: Placed, start: Place },
    /// A frame of the table log is durable.
    FrameDurable { generation: u64, position: Position },
    /// A body was read, or can't be.
    Body { token: u64, result: Result<Bytes, Damage> },
    /// There is more to apply, stream, audit or clear: go on.
    Continue,
    /// Write what changed to the table log; with `compact`, free the log behind it once that is durable.
    Checkpoint { compact: bool },
    /// Rewrite what is current of a frame in the oldest segment of the table log.
    Clean { place: Place, payload: Bytes },
    /// All frames of that segment were given: is it still needed?
    Cleaned { segment: u64 },
    /// Which of these bodies in an engine does nobody need?
    Sweep { segment: u64, rows: Vec<Swept> },
    /// A copy of the state is wanted for this snapshot of the index.
    Index { number: u64 },
    /// A frame of it in the oldest segment of the table log is not what was written.
    FrameLost(Damage),
    /// A peer's node is not heard of.
    PeerLost(NodeId),
    /// A peer's node is heard of again.
    PeerFound(NodeId),
    /// A peer's node has booted again.
    PeerRestarted(NodeId, Incarnation),
    /// A leader offers its state.
    Offer { from: NodeId, offer: Offer },
    /// A follower asks for a slice.
    Pull { from: NodeId, position: Position, after: Option<Octets> },
    /// A slice arrives.
    Slice { from: NodeId, position: Position, after: Option<Octets>, records: Vec<SnapshotRecord> },
    /// A follower has the state, or does not want it.
    SnapshotEnd { from: NodeId, position: Position },
    /// Write everything that the log needs anew, and say so with [`StoreInput::Restated`].
    Restate,
    /// A blob of this shard has chunks here: drop them if nobody knows it.
    IsKnown(BlobId),
    /// The disk is full, or no longer.
    DiskFull(bool),
    /// The node stops: give leadership away, best to this node.
    Stop { prefer: Option<NodeId> },
    /// This node should lead the group, if it can.
    HandOver(NodeId),
}

/// What the store lane can be told.
#[derive(Clone, Debug)]
pub(crate) enum StoreInput {
    /// Write to the log.
    Persist { group: GroupId, id: PersistId, writes: Vec<Write> },
    /// All that a group's log still needs, in answer to [`ReplicaInput::Restate`].
    Restated { group: GroupId, writes: Vec<Write>, standing: Standing, retired: bool },
    /// A replica of the group begins, with nothing: whatever the log has of it is from an earlier life.
    Joined(GroupId),
    /// The replica of the group is given up: at the next boot there is nothing to start.
    Retired(GroupId),
    /// The group counts again: its earlier damage is history.
    Readmitted(GroupId),
    /// A frame for the table log.
    Frame { group: GroupId, frame: Frame },
    /// Make the table log durable now.
    Checkpoint,
    /// In answer to [`ReplicaInput::Cleaned`].
    Needed { group: GroupId, segment: u64, needed: bool },
    /// In answer to [`ReplicaInput::Sweep`]: the offsets of those that are of no use.
    Swept { group: GroupId, segment: u64, dead: Vec<u64> },
    /// In answer to [`ReplicaInput::Index`]; without a copy if there is no state.
    IndexCopy { group: GroupId, number: u64, copy: Option<Box<IndexCopy>> },
    /// How many bytes of a group's records are current.
    Live { group: GroupId, bytes: u64 },
    /// Read a body for a replica.
    ReadBody { group: GroupId, token: u64, location: RecordLocation },
    /// These chunks of a blob are named: they must be here.
    Expect { blob: BlobId, chunks: Vec<ChunkRef> },
    /// The blob was collected.
    DropBlob(BlobId),
    /// Store a chunk whose name was verified; the answer goes to this call of this node.
    StoreChunk { from: NodeId, call: CallId, chunk: ChunkId, bytes: Bytes, hashed: Hashed },
    /// Find a chunk; the answer goes to this call of this node.
    FetchChunk { from: NodeId, call: CallId, chunk: ChunkId },
}

/// What the router can be told.
#[derive(Clone, Debug)]
pub(crate) enum RouterInput {
    /// A client's request.
    Request(RequestId, Box<Request>),
    /// The client is gone.
    Cancel(RequestId),
    /// A replica's answer to a call.
    Returned { from: NodeId, call: CallId, reply: Reply },
    /// A replica here knows the leader of its group; `here` if it leads itself.
    Leader { group: GroupId, leader: Option<NodeId>, here: bool },
    /// Where shards are now.
    Layout(Box<Layout>),
    /// To be said to the meta group.
    Report(Report),
    /// What the registry here, which leads, has begun and not finished.
    Registry(Vec<(String, BucketRecord)>),
    /// A hash is done.
    Hashed { token: u64, hashed: Hashed },
    /// A replica has stored a chunk, in this boot, or can't.
    ChunkStored { from: NodeId, call: CallId, stored: Option<Incarnation> },
    /// A replica has sent a chunk, or has it not.
    ChunkFetched { from: NodeId, call: CallId, bytes: Option<Bytes> },
    /// Chunks that are named but missing here.
    Missing(Vec<ChunkId>),
    /// A peer is not heard of.
    PeerLost(NodeId),
    /// A peer is heard of again.
    PeerFound(NodeId),
    /// The deadline has passed.
    Timer,
}
