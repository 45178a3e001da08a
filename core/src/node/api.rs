//! The surface of a node: what drivers feed it and what they must do for it.

use super::message::PeerMessage;
use super::trace::Trace;
use crate::machine::{Duration, FoundFile, Halt, IoOp, IoResult};
use crate::object::api::{Outcome, Request};
pub use crate::object::charter::Founding;
use crate::planted::Planted;
use crate::types::{NodeId, OpId, RequestId};
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;
use core::fmt;

/// Everything that can move a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The first input of a boot: what the data directory holds.
    Boot {
        /// Every file that [`crate::machine::FileId::parse`] knows.
        files: Vec<FoundFile>,
        /// Set when the operator founds a cluster on this empty directory; refused on any other.
        found: Option<Founding>,
    },
    /// A message from a peer that proved that it belongs to the cluster.
    Message {
        /// The peer.
        from: NodeId,
        /// What it says.
        message: PeerMessage,
    },
    /// A client request. Answered once with [`Effect::Reply`], unless it is cancelled.
    Request {
        /// The driver's name for it, never reused in a boot.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// The client has gone: the answer is not needed. What was begun may still happen.
    Cancel {
        /// The request.
        id: RequestId,
    },
    /// A connection to the peer was refused, or closed before the peer had said a word: its host is there, and no process that
    /// answers. Said once until there is a connection again. A hint: a firewall may say the same while the peer lives on.
    Refused {
        /// The peer.
        peer: NodeId,
    },
    /// An operation has completed.
    Done {
        /// Which one.
        op: OpId,
        /// With what.
        result: IoResult,
    },
    /// The deadline has passed, or may have.
    Timer,
    /// The operator stops the node: leaders step down, state is made durable, then [`Effect::Stopped`].
    Stop,
}

/// Everything a node can ask of its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A disk operation, to be answered with [`Input::Done`].
    Io(IoOp),
    /// Name and checksum of bulk bytes, to be answered with [`crate::machine::IoDone::Hashed`].
    Hash {
        /// The operation.
        op: OpId,
        /// The bytes.
        bytes: Bytes,
    },
    /// A message to a peer. May be sent at once: the node has held it back until what it promises is
    /// durable.
    Send {
        /// The peer.
        to: NodeId,
        /// What to say. Bulk messages travel on a connection of their own.
        message: PeerMessage,
    },
    /// The answer to a request.
    Reply {
        /// The request.
        id: RequestId,
        /// The answer.
        outcome: Outcome,
    },
    /// What happened, for traces, metrics, logs and checkers. No driver acts on it.
    Trace(Trace),
    /// The node has stopped gracefully.
    Stopped,
    /// The node's store can't go on: stop feeding it; restart the process to recover.
    Halt(Halt),
}

/// When log entries are synced. Terms and votes always are before anything is said on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum FsyncPolicy {
    /// Before anything is acknowledged.
    #[default]
    Always,
    /// This often; an unclean stop may lose what came since.
    Interval(Duration),
    /// When the operating system likes.
    Never,
}

/// Where the records of a node's shards are. A data directory keeps what it was made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Engine {
    /// In its own table log.
    #[default]
    Native,
    /// In memory, and nowhere else: a node that stops forgets them, and is given them by its peers.
    Memory,
    /// In RocksDB.
    RocksDb,
    /// In Fjall.
    Fjall,
}

impl Engine {
    /// What a configuration calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Memory => "memory",
            Self::RocksDb => "rocksdb",
            Self::Fjall => "fjall",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A node's settings. Everything that the cluster must agree on is fixed when it is founded.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// All nodes of the cluster, this one among them, sorted.
    pub nodes: Vec<NodeId>,
    /// How many shards, a power of two from 1 to 256. Read when the cluster is founded.
    pub shards: u16,
    /// Replicas of each shard: 1, 3 or 5; no more than there are nodes.
    pub replication: u8,
    /// How many lanes the shards are dealt to. Never changes a result.
    pub lanes: u16,
    /// When log entries are synced.
    pub fsync: FsyncPolicy,
    /// Where the records of its shards are. Fixed when its data directory is made.
    pub engine: Engine,
    /// Sizes and times.
    pub tuning: Tuning,
    /// Seeds every random choice of this boot. From the operating system in production.
    pub seed: u64,
    /// The planted bug, in the simulator.
    pub planted: Planted,
}

/// Sizes and times. The simulator draws them from the seed; production takes the default.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Tuning {
    /// A leader's heartbeat.
    pub heartbeat: Duration,
    /// A follower waits this long at least before it stands for election, up to twice as long at the most.
    /// A peer that is silent for this long is not counted on; nodes beat more often than twice in it.
    pub election: Duration,
    /// A group without work for this long goes quiet.
    pub quiesce_after: Duration,
    /// What log records are aligned to: no smaller than what the device may tear as one. 4096 on real
    /// disks.
    pub block_bytes: u32,
    /// Whether lanes are run in an order drawn from the seed: for the simulator.
    pub shuffle_lanes: bool,
    /// Bytes of a WAL segment.
    pub wal_segment_bytes: u64,
    /// Bytes of a table segment.
    pub table_segment_bytes: u64,
    /// Bytes of a chunk segment.
    pub chunk_segment_bytes: u64,
    /// The log of all groups is compacted above this many bytes in memory.
    pub log_bytes_max: u64,
    /// The WAL is trimmed above this many segments.
    pub wal_segments_max: u64,
    /// Table records are synced, and the log behind them freed, at least this often.
    pub checkpoint_every: Duration,
    /// The most bytes of entries in one append message.
    pub append_bytes_max: u64,
    /// The most append messages under way to one follower of one group.
    pub append_inflight_max: u32,
    /// Bytes of records in one slice of a snapshot.
    pub snapshot_slice_bytes: u64,
    /// States are fetched from peers so many at a time as have slices of so many bytes together, and one at the least.
    pub snapshot_bytes_max: u64,
    /// Items that one step of a scan, collection or recovery touches at the most.
    pub slice_items: u32,
    /// Client requests under way at the most.
    pub requests_max: u32,
    /// A request without an answer is given up after this long.
    pub request_timeout: Duration,
    /// What operators promise of monotonic clocks: none runs wrong by more than so many parts in a million, over an election
    /// timeout. With it leaders answer reads by leases (ADR 15); `None` for no leases, and no answer that rests on a clock.
    pub max_clock_drift_ppm: Option<u32>,
    /// Whether reads are answered by this node's own replica, where it has one (ADR 21), or else by leaders only.
    pub reads_nearest: bool,
    /// Chunks that nobody reads are verified at so many bytes a second; 0 for never.
    pub scrub_bytes_per_second: u64,
    /// A round over all of them begins this long after the last one did, or when that has ended.
    pub scrub_every: Duration,
    /// A snapshot of the index is written when the table log has grown by so many bytes, and by as many as the last one has; 0 for
    /// never.
    pub index_bytes_min: u64,
    /// No faster than so many bytes a second.
    pub index_bytes_per_second: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(400),
            quiesce_after: Duration::from_millis(2_000),
            block_bytes: 4096,
            shuffle_lanes: false,
            wal_segment_bytes: 64 << 20,
            table_segment_bytes: 64 << 20,
            chunk_segment_bytes: 256 << 20,
            log_bytes_max: 32 << 20,
            wal_segments_max: 4,
            checkpoint_every: Duration::from_secs(5),
            append_bytes_max: 512 << 10,
            append_inflight_max: 64,
            snapshot_slice_bytes: 256 << 10,
            snapshot_bytes_max: 4 << 20,
            slice_items: 512,
            requests_max: 16_384,
            request_timeout: Duration::from_secs(15),
            max_clock_drift_ppm: None,
            reads_nearest: false,
            scrub_bytes_per_second: 4 << 20,
            scrub_every: Duration::from_secs(24 * 60 * 60),
            index_bytes_min: 64 << 20,
            index_bytes_per_second: 32 << 20,
        }
    }
}
