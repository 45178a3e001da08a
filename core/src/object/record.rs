//! What a shard's table holds of objects: heads, from which apply decides and which stay in memory, and
//! bodies, which only readers need.
//!
//! | Space | Head | Body |
//! | --- | --- | --- |
//! | objects | [`ObjectHead`] | [`ObjectBody`] |
//! | blobs | [`BlobHead`] | none |
//! | extents | none | `Vec<ChunkRef>` |
//! | uploads in progress | [`UploadHead`] | none |
//! | parts | [`PartHead`] | the inline bytes |
//! | bucket state | [`BucketHead`]; the floor is a [`BucketId`], a mark has none | none |
//! | chores | none | none |
//!
//! Tags are in the head because replacing them must not need the body. An upload's attributes are in its
//! head because completing it writes them into the object's record; uploads in progress are few.

use super::api::{Attributes, Checksum, ETag};
use crate::codec::{self, Octets};
use crate::kv::table::{Slot, Table};
use crate::types::{BucketId, Epoch, Index, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ObjectHead {
    /// Its entity tag.
    pub etag: ETag,
    /// Bytes of the content.
    pub bytes: u64,
    /// Wall time of its write, nanoseconds since the Unix epoch. Replacing tags does not change it.
    pub modified: u64,
    /// Where the bytes are.
    pub content: ContentHead,
    /// Object tags in the order given.
    pub tags: Vec<(String, String)>,
}

/// Where bytes are, without them. Blobs are of the record's own shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ContentHead {
    /// In the body.
    Inline,
    /// In the blob opened by this command.
    Blob(Index),
    /// In the parts of the completed upload created by this command.
    Parts(Index),
}

/// The rest of an object.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ObjectBody {
    /// Without tags, which are in the head.
    pub attributes: Attributes,
    /// The bytes, if they are inline.
    pub inline: Octets,
}

/// A blob: bulk bytes, or an upload that parts belong to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BlobHead {
    /// What it is.
    pub kind: BlobKind,
    /// Who keeps it.
    pub life: Life,
}

/// What a blob is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BlobKind {
    /// Chunks, named by extents.
    Chunks {
        /// How many extents there are.
        extents: u32,
        /// Bytes of all of them.
        bytes: u64,
        /// Whether the last one is not full: none may follow.
        sealed: bool,
    },
    /// A multipart upload.
    Upload {
        /// Its bucket.
        bucket: BucketId,
        /// Its key.
        key: String,
        /// What completing it answered: a repeated complete answers the same.
        completed: Option<Completed>,
    },
}

/// What completing an upload answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Completed {
    /// The object's tag.
    pub etag: ETag,
    /// Its commit timestamp.
    pub committed: Timestamp,
}

/// Who keeps a blob. It goes down this list only; [`Life::Dead`] is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Life {
    /// Nobody but its lease.
    Staged {
        /// Commit timestamp at which the lease was last renewed. The lease's name: expiring one that was
        /// renewed meanwhile does nothing.
        leased: Timestamp,
    },
    /// It is an upload in progress: kept until completed or aborted.
    Open,
    /// It is the content of a part of this upload.
    Part {
        /// The upload.
        upload: Index,
    },
    /// Objects.
    Referenced {
        /// How many, at least one.
        count: u32,
    },
    /// Nobody: to be collected.
    Dead {
        /// Commit timestamp of its end.
        since: Timestamp,
    },
}

/// An upload in progress.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UploadHead {
    /// Wall time of its creation, nanoseconds since the Unix epoch.
    pub initiated: u64,
    /// What the completed object will carry.
    pub attributes: Attributes,
}

/// A part.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PartHead {
    /// Its size.
    pub bytes: u64,
    /// Its MD5.
    pub md5: [u8; 16],
    /// Wall time of its write, nanoseconds since the Unix epoch.
    pub modified: u64,
    /// Its additional checksum.
    pub checksum: Option<Checksum>,
    /// Inline or a blob.
    pub content: ContentHead,
}

/// What a shard knows of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BucketHead {
    /// How often the bucket's state has changed.
    pub epoch: Epoch,
    /// Whether it may be written.
    pub state: BucketState,
}

/// Whether a bucket may be written at a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BucketState {
    /// Yes.
    Active,
    /// No: it is being deleted. It may still be read.
    Fenced,
}

/// Decodes a record's head, which this program wrote and the table log checked.
pub(crate) fn head<T: Decode<()>>(slot: &Slot) -> T {
    match codec::decode(&slot.head) {
        Ok(head) => head,
        Err(error) => panic!("head of a record of {:?} is no head: {error}", slot.version),
    }
}

/// The head of the record at `key`, if there is one.
pub(crate) fn find<T: Decode<()>>(table: &Table, key: &[u8]) -> Option<T> {
    table.get(key).map(head)
}
