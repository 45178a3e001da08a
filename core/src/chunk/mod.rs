//! The chunks of one node: where bulk bytes are on its disk.
//!
//! # The problem
//!
//! Names go through consensus, bytes do not: an object above the inline limit is cut into chunks, each
//! named by the hash of its bytes, made durable on a quorum and only then named by a committed record. So a
//! node holds chunks that no record names yet, lacks chunks that a record names already, and keeps chunks
//! that nothing names any more. This module holds them, knows what it lacks, and gives space back.
//! It decides nothing about who references what: that is replicated state (`crate::object`), and the node
//! tells the store about it.
//!
//! # The guarantees
//!
//! - A chunk reported by [`ChunkOutput::Stored`] survives a power loss, and [`ChunkStore::has`] says so.
//! - [`ChunkOutput::Read`] brings only bytes that hash to the chunk's name; anything else is reported as
//!   damage and put among the [`ChunkStore::missing`], to be fetched from a peer and put again. Damaged bytes
//!   stay indexed until they are replaced: a device that could not read once may read later.
//! - Putting twice is putting once.
//! - Space of dropped blobs comes back: a segment without live bytes is removed, and one that is less than
//!   half alive is compacted. Until a moved chunk is durable at its new place, the old one stays.
//! - No step hashes bulk bytes ([`ChunkOutput::Hash`]) and none does work proportional to what is
//!   stored: dropping and compacting go in slices ([`Config::slice_items`]).
//!
//! # The path of a chunk
//!
//! [`ChunkStore::put`] appends it to a [`crate::wal::SegmentLog`] of its own, blob and hash in the record's
//! directory, bytes as they came. After the sync it is indexed by (blob, hash). [`ChunkStore::get`] reads and
//! verifies it beside the step; reads under way keep their segment from being removed. The collector's
//! [`ChunkStore::drop_blob`] forgets all chunks of a blob. [`ChunkRecovery`] rebuilds the index at boot from
//! the directories alone, without reading any chunk.
//!
//! # Caveats
//!
//! - Drops aren't recorded: after a restart the chunks of dropped blobs in segments that still exist are
//!   indexed again. The node goes through [`ChunkStore::blobs`] in slices and drops what its state doesn't know.
//! - What is missing isn't recorded either: the node calls [`ChunkStore::expect`] for what its state
//!   names, at boot and as records are applied.
//! - Chunks that nobody reads are verified one after the other ([`ChunkStore::verify`]); when is the node's business (`node::scrub`).
//! - Equal bytes in two blobs are stored twice. Sharing would tie the life of one blob to another's home shard.

mod boot;
mod collect;
mod live;
mod scrub;
mod store;
#[cfg(test)]
mod tests;

pub use boot::{ChunkRecovery, ChunkRecoveryOutput};
pub use store::ChunkStore;

use crate::machine::{Duration, Halt, IoOp};
use crate::types::{ChunkId, Damage, OpId};
use crate::wal::{LogTrace, Lsn};
use bytes::Bytes;

/// How long a staged blob lives without a new extent: milliseconds.
pub const STAGE_LEASE_MS: u64 = 60_000;
/// How long a read pins the blobs of the object it looked up: milliseconds. A longer read looks up again.
pub const PIN_MS: u64 = 30_000;

/// The kind of a chunk's record in the chunk log. Group is the home shard's, index the one that opened the
/// blob, the note the hash, the payload the chunk's bytes.
pub const RECORD_KIND: u8 = 1;

/// How chunks are stored.
#[derive(Clone, Debug)]
pub struct Config {
    /// The log of chunks. Whether it is eager and what it reads at boot is the store's choice.
    pub log: crate::wal::Config,
    /// A full segment is compacted when fewer than this many percent of its bytes are alive.
    pub live_percent_min: u8,
    /// Chunks that compaction moves at the same time: what it may take of the disk.
    pub moves_max: u32,
    /// Index entries that one step of dropping or compacting touches.
    pub slice_items: usize,
    /// How long compaction rests after the disk was full.
    pub rest_after_no_space: Duration,
}

impl Config {
    /// Sensible settings over this log.
    #[must_use]
    pub const fn new(log: crate::wal::Config) -> Self {
        Self {
            log,
            live_percent_min: 50,
            moves_max: 2,
            slice_items: 512,
            rest_after_no_space: Duration::from_secs(10),
        }
    }
}

/// A read under way, unique within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The chunk was durable already.
    Durable,
    /// [`ChunkOutput::Stored`] or [`ChunkOutput::NoSpace`] will say. Puts of one chunk share its number.
    Queued(Lsn),
}

/// A chunk that is expected here and not here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How many bytes it has.
    pub bytes: u32,
    /// Who was said to hold it, as a bit per position in the replica set; 0 when unknown.
    pub holders: u64,
}

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Durable chunks.
    pub chunks: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Bytes that the segments take on disk.
    pub disk_bytes: u64,
    /// Bytes put and not durable yet: resident.
    pub pending_bytes: u64,
    /// Chunks that are expected here and not here.
    pub missing: u64,
}

/// What the store asks for and reports, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkOutput {
    /// A disk operation. Its completion goes to [`ChunkStore::on_done`].
    Io(IoOp),
    /// Name and checksum of these bytes are needed. The completion goes to [`ChunkStore::on_done`].
    Hash {
        /// The operation.
        op: OpId,
        /// The bytes.
        bytes: Bytes,
    },
    /// A put chunk is durable.
    Stored {
        /// What [`Put::Queued`] said.
        lsn: Lsn,
        /// The chunk.
        chunk: ChunkId,
    },
    /// The disk is full: a put chunk isn't stored. Putting it again later may work.
    NoSpace {
        /// What [`Put::Queued`] said.
        lsn: Lsn,
        /// The chunk.
        chunk: ChunkId,
    },
    /// A read has ended.
    Read {
        /// Which one.
        id: ReadId,
        /// Of which chunk.
        chunk: ChunkId,
        /// Its verified bytes, or what is wrong with them.
        result: Result<Bytes, Damage>,
    },
    /// A verification has ended; a damaged chunk was reported before.
    Verified {
        /// The chunk.
        chunk: ChunkId,
        /// Whether it is what its name says.
        is_good: bool,
    },
    /// A chunk is damaged and now among the missing.
    Lost {
        /// The chunk.
        chunk: ChunkId,
        /// Where, and what was expected.
        damage: Damage,
    },
    /// The store can't go on until it is recovered at the next boot. Nothing follows.
    Failed(Halt),
    /// What happened. No decision hangs on it.
    Trace(ChunkTrace),
}

/// Events of a store, for traces and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkTrace {
    /// An event of the chunk log.
    Log(LogTrace),
    /// A damaged chunk was replaced or came back.
    Healed(ChunkId),
    /// A chunk was moved out of a segment that is mostly dead.
    Moved(ChunkId),
    /// A segment's space was given back.
    SegmentRemoved(u64),
}
