//! What nodes say to each other. A message is a head that both sides decode, and, for bulk bytes, a body
//! that is passed on unread and travels on a connection of its own.

use super::superblock::Charter;
use super::support::Support;
use crate::codec::{self, DecodeError, Octets};
use crate::kv::command::{Op, SessionId, SessionTag};
use crate::kv::snapshot::{SnapshotHead, SnapshotRecord};
use crate::object::api::{Outcome, Refusal, Request};
use crate::object::layout::Layout;
use crate::object::registry::{BucketEpoch, BucketRecord};
use crate::raft;
use crate::types::{
    BucketId, ChunkId, ClusterId, Epoch, GroupId, Incarnation, Index, NodeId, Position, StoreId,
    Term,
};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;

/// A message between two nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// What it says.
    pub head: Head,
    /// The bytes that the head speaks of; empty for most.
    pub body: Bytes,
}

impl From<Head> for PeerMessage {
    fn from(head: Head) -> Self {
        Self { head, body: Bytes::new() }
    }
}

impl PeerMessage {
    /// Whether it carries bulk bytes and so travels beside the others.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        matches!(
            self.head,
            Head::StoreChunk { .. } | Head::ChunkFound { .. } | Head::SnapshotSlice { .. }
        )
    }

    /// Head and bulk body of the message as they go on the wire.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Bytes) {
        (codec::encode(&self.head), self.body.clone())
    }

    /// The message with this head and body.
    ///
    /// # Errors
    /// Bytes that are no message.
    pub fn decode(head: &[u8], body: Bytes) -> Result<Self, DecodeError> {
        Ok(Self { head: codec::decode(head)?, body })
    }
}

/// A call from one node's router to a replica, unique for a boot of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct CallId {
    /// The boot of the caller: an answer to an earlier boot is nobody's.
    pub incarnation: Incarnation,
    /// Counts up from 1.
    pub number: u64,
}

/// The decoded part of a message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Head {
    /// "I am here", again and again, from every member to every other.
    Beat(Beat),
    /// A store without a cluster looks for one.
    Hello {
        /// The store.
        store: StoreId,
    },
    /// The cluster's charter: for a store that it names and that has none yet, or for a node that has an earlier one.
    Welcome(Charter),
    /// Everything that the sender's groups say to the receiver's in one step.
    Raft(Vec<(GroupId, raft::Message)>),
    /// A command or a query for the leader of a group.
    Call {
        /// Names the answer.
        call: CallId,
        /// The group.
        group: GroupId,
        /// What is asked.
        ask: Ask,
    },
    /// The answer to a call.
    Return {
        /// The call.
        call: CallId,
        /// The group.
        group: GroupId,
        /// The answer.
        answer: Reply,
    },
    /// "Store this chunk durably." The body is the chunk.
    StoreChunk {
        /// Names the answer.
        call: CallId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// The chunk is durable here.
    ChunkStored {
        /// The call.
        call: CallId,
        /// The boot in which it became durable; `None` when the disk is full.
        stored: Option<Incarnation>,
    },
    /// "Send me this chunk."
    FetchChunk {
        /// Names the answer.
        call: CallId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// The chunk asked for, in the body.
    ChunkFound {
        /// The call.
        call: CallId,
    },
    /// The chunk asked for is not here, or not whole.
    ChunkAbsent {
        /// The call.
        call: CallId,
    },
    /// A leader offers a snapshot to a follower that its log can't help.
    SnapshotOffer {
        /// The group.
        group: GroupId,
        /// What is offered.
        offer: Offer,
    },
    /// The follower asks for the next slice.
    SnapshotPull {
        /// The group.
        group: GroupId,
        /// Which snapshot.
        position: Position,
        /// The last key that it has; `None` at the beginning.
        after: Option<Octets>,
    },
    /// A slice of a snapshot; without records, its end.
    SnapshotSlice {
        /// The group.
        group: GroupId,
        /// Which snapshot.
        position: Position,
        /// The key that it follows.
        after: Option<Octets>,
        /// Records in key order.
        records: Vec<SnapshotRecord>,
    },
    /// The follower has the snapshot durably, or has applied as much already.
    SnapshotEnd {
        /// The group.
        group: GroupId,
        /// Which snapshot.
        position: Position,
    },
    /// "How do you stand by me?", from a node that leads groups and has reads to confirm.
    SupportQuery {
        /// Names the answer.
        round: CallId,
    },
    /// The answer.
    SupportReply {
        /// The question.
        round: CallId,
        /// The sender's word.
        support: Support,
    },
    /// Where shards are, for whom a beat shows to know less.
    Layout {
        /// The cluster.
        cluster: ClusterId,
        /// Its layout.
        layout: Layout,
    },
    /// "How far is what you lead committed?", from a node that answers reads without leading.
    IndexQuery {
        /// Names the answers.
        question: CallId,
        /// How the sender stands by the receiver, now: where that and the receiver are a quorum, nobody else need be asked.
        support: Support,
        /// The groups that have reads.
        groups: Vec<GroupId>,
    },
    /// The answer for some of these groups; the others follow.
    IndexReply {
        /// The question.
        question: CallId,
        /// Their read indexes; none where the sender does not lead, or can't find out.
        indexes: Vec<(GroupId, Option<ReadIndex>)>,
    },
}

/// What a node says of itself to every other, whatever the number of its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Beat {
    /// The sender's boot. A change wakes quiescent groups.
    pub incarnation: Incarnation,
    /// The sender's wall clock, nanoseconds since the Unix epoch: a clock far ahead of most is not stamped into commands.
    pub wall: u64,
    /// The sender's store. Another store than the charter's takes no part.
    pub store: StoreId,
    /// The version of the sender's charter. Who has a later one sends it.
    pub charter: u64,
    /// The version of the sender's layout. Who has a later one sends it.
    pub layout: u64,
}

/// What was committed in a group when a question about it was confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReadIndex {
    /// The term of the leader that says so.
    pub term: Term,
    /// Everything acknowledged before the question was asked is among the entries through this one.
    pub index: Index,
}

/// A snapshot on offer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// The leader's term.
    pub term: Term,
    /// What the snapshot is of.
    pub head: SnapshotHead,
    /// The group's configuration there.
    pub configuration: raft::Configuration,
}

/// What a router asks of a group's leader, or of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// Opens the caller's session in the group.
    OpenSession(SessionId),
    /// Commits a command, once for its tag however often it is asked.
    Write {
        /// Session and sequence number.
        tag: SessionTag,
        /// The command.
        op: Box<Op>,
    },
    /// Reads, linearizably, at the leader.
    Read(Query),
    /// Reads, linearizably, from the state of whoever is asked, leader or not.
    ReadNear(Query),
}

/// A linearizable read on one group.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Query {
    /// A read request on this shard; of a bucket's content, with the bucket as the caller knows it.
    Client {
        /// The bucket's id and epoch, for requests that name a bucket.
        bucket: Option<(BucketId, Epoch)>,
        /// [`Request::GetObject`], a listing, parts, extents, a key or a scan.
        request: Box<Request>,
    },
    /// Looks a bucket up in the registry.
    Resolve {
        /// Its name.
        bucket: String,
    },
    /// What became of the change that began a bucket's epoch.
    Settled(BucketEpoch),
}

impl Query {
    /// Whether a replica that does not lead can answer it. Only a leader remembers who reads a blob (ADR 9).
    pub(super) fn is_near(&self) -> bool {
        let Self::Client { request, .. } = self else { return true };
        !matches!(**request, Request::ReadExtents { .. } | Request::ReadParts { .. })
    }
}

/// What a replica answers to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// It was decided.
    Outcome(Box<Outcome>),
    /// What the registry holds under the name.
    Resolved(Option<BucketRecord>),
    /// This replica does not lead; who does, if it knows.
    NotLeader(Option<NodeId>),
    /// This ask was refused and did nothing. An earlier send of the same call may have.
    Refused(Refusal),
    /// Nothing was decided: try again.
    Again,
}
