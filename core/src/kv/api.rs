//! Requests on the key-value space, and their answers.

use crate::codec::Octets;
use crate::types::{ShardId, Timestamp, Version};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// The most bytes of a key.
pub const KV_KEY_BYTES_MAX: usize = 1024;
/// The most bytes of a value.
pub const KV_VALUE_BYTES_MAX: usize = 128 << 10;

/// What a write demands of the key's current version. Checked at apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Expect {
    /// Nothing.
    #[default]
    Any,
    /// No value there.
    Absent,
    /// Exactly this version there.
    Version(Version),
}

/// An operation on the key-value space.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum KvRequest {
    /// Reads a key, linearizably.
    Get {
        /// The key.
        key: Octets,
    },
    /// Writes a key.
    Put {
        /// The key.
        key: Octets,
        /// The value.
        value: Octets,
        /// What must hold.
        expect: Expect,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        key: Octets,
        /// What must hold.
        expect: Expect,
    },
    /// Reads keys of one shard in byte order.
    Scan {
        /// The shard.
        shard: ShardId,
        /// Keys at or after this.
        from: Octets,
        /// How many at the most.
        limit: u32,
    },
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct KvEntry {
    /// The key.
    pub key: Octets,
    /// The value.
    pub value: Octets,
    /// Log index of the write.
    pub version: Version,
    /// Commit timestamp of the write.
    pub committed: Timestamp,
}

/// Answer to a [`KvRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum KvAnswer {
    /// The key's value, or nothing there.
    Value(Option<KvEntry>),
    /// The write was applied.
    Written {
        /// Its version.
        version: Version,
        /// Its timestamp.
        committed: Timestamp,
    },
    /// The expectation does not hold; the version that is there, 0 for none.
    Conflict {
        /// What is there.
        version: Version,
    },
    /// Keys of a scan.
    Entries {
        /// In byte order.
        entries: Vec<KvEntry>,
        /// Whether there are more.
        truncated: bool,
    },
    /// The request breaks a limit.
    Invalid(String),
}
