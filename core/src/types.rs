//! Newtypes for every number with a meaning. A bare integer never crosses a module.

use alloc::string::String;
use bincode::{Decode, Encode};
use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
            /// The number before this one; zero stays zero.
            #[must_use]
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// A member of the cluster, from 1. The operator assigns it; it is never reused.
    NodeId(u32), "n"
);
number!(
    /// A Raft group. 0 is the meta group; shard `s` is group `s + 1`.
    GroupId(u32), "g"
);
number!(
    /// A virtual shard, from 0 to the cluster's shard count (a power of two) exclusive.
    ShardId(u16), "s"
);
number!(
    /// An election epoch of one group (Raft 5.1). Never decreases.
    Term(u64), "t"
);
number!(
    /// A position in one group's log (Raft 5.3), from 1. 0 means before the first entry.
    Index(u64), "i"
);
number!(
    /// How often a store has been booted, from 1, counted in its superblock. A change means that the
    /// peer's volatile state is gone.
    Incarnation(u64), "b"
);
number!(
    /// An operation that a node has asked its driver for. Unique within one boot.
    OpId(u64), "op"
);
number!(
    /// A client request as the driver of one node numbers it. Unique within one boot.
    RequestId(u64), "r"
);
number!(
    /// A commit timestamp: nanoseconds since the Unix epoch, raised where needed so that it rises
    /// strictly with a shard's log (docs/adr/0002).
    Timestamp(u64), "@"
);
number!(
    /// The version of a record: the log index of the command that wrote it. 0 means absent.
    Version(u64), "v"
);
number!(
    /// A bucket. Never reused, so a key of a deleted bucket can't come back in a new one.
    BucketId(u64), "bk"
);
number!(
    /// How often a bucket's replicated state has changed, from 1. Object commands carry it and apply
    /// checks it.
    Epoch(u64), "e"
);

impl ShardId {
    /// The Raft group that replicates this shard.
    #[must_use]
    pub const fn group(self) -> GroupId {
        GroupId(self.0 as u32 + 1)
    }
}

impl GroupId {
    /// The group that holds cluster identity, node list, root credentials and the bucket registry.
    pub const META: Self = Self(0);

    /// The shard that this group replicates, or `None` for the meta group.
    #[must_use]
    pub fn shard(self) -> Option<ShardId> {
        self.0.checked_sub(1).and_then(|shard| u16::try_from(shard).ok()).map(ShardId)
    }
}

/// A log position with the term of its entry: what Raft compares (Raft 5.4.1). Ordered by term, then
/// index, which is the order of "at least as up to date".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Position {
    /// Term of the entry at `index`; 0 before the first entry.
    pub term: Term,
    /// Position in the log.
    pub index: Index,
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// One boot of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Boot {
    /// The node.
    pub node: NodeId,
    /// Which of its boots.
    pub incarnation: Incarnation,
}

/// Bulk bytes that one shard stages and references as a unit: one upload or one part of one. `home`
/// is the shard of the object that wrote it; its log orders lease, references and collection.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct BlobId {
    /// The shard whose log orders everything that happens to this blob.
    pub home: ShardId,
    /// Log index of the command that opened it, so never reused.
    pub opened: Index,
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blob{}.{}", self.home, self.opened)
    }
}

/// The BLAKE3 hash of a chunk's stored bytes: its name.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ChunkHash(pub [u8; 32]);

impl ChunkHash {
    /// Hashes `bytes`. Bulk bytes go through [`crate::node::api::Effect::Hash`] instead.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "#{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

/// A chunk inside its blob. The hash names the bytes; the blob says whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ChunkId {
    /// The blob that the chunk belongs to.
    pub blob: BlobId,
    /// BLAKE3 of the stored bytes.
    pub hash: ChunkHash,
}

/// Who a cluster is: drawn at random when it is founded, in every superblock and handshake.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which physical store this is: drawn at random when a data directory is made. A replaced disk has
/// another one, and so can't pass for the store that made the promises.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where a payload stands on disk. Its record may name parts of it by locations of their own: any range
/// with the CRC32 of its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Location {
    /// Number of the segment.
    pub segment: u64,
    /// Byte offset in the segment's file.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u32,
    /// CRC32 of the bytes.
    pub crc: u32,
}

impl Location {
    /// Whether these are the bytes that were written there. Hashes them: for small payloads; bulk bytes
    /// go through [`crate::machine::Hashed`] and are compared with [`Self::crc`].
    #[must_use]
    pub fn verify(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == u64::from(self.bytes) && crc32fast::hash(bytes) == self.crc
    }
}

/// What is wrong with a file, and where: every refusal and every repair names it.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Damage {
    /// The damaged file.
    pub file: crate::machine::FileId,
    /// Byte offset of the damaged record.
    pub offset: u64,
    /// What was expected there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.what)
    }
}
