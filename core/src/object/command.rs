//! Commands on objects, and their way to the function that applies each.

use super::api::{
    Attributes, Checksum, ChunkRef, Condition, NamedPart, NewObject, NewPart, Outcome, Refusal,
    Request, StagedChunk,
};
use super::{blob, bucket, collect, delete, multipart, put};
use crate::kv::batch::Batch;
use crate::types::{BlobId, BucketId, Epoch, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// The key that a command is on, and the state of the bucket that its sender went by.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Target {
    /// The bucket.
    pub bucket: BucketId,
    /// Its epoch. A command of another epoch is refused.
    pub epoch: Epoch,
    /// The key.
    pub key: String,
}

/// A write of objects, their blobs and what a shard knows of buckets.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ObjectOp {
    /// Writes an object.
    Put {
        /// Where.
        target: Target,
        /// What.
        object: NewObject,
        /// What must hold.
        condition: Condition,
    },
    /// Deletes an object.
    Delete {
        /// Where.
        target: Target,
        /// What must hold.
        condition: Condition,
    },
    /// Replaces an object's tags.
    PutTags {
        /// Where.
        target: Target,
        /// The new tags.
        tags: Vec<(String, String)>,
    },
    /// Begins a multipart upload, named by this command's index.
    CreateUpload {
        /// Where.
        target: Target,
        /// What the completed object will carry.
        attributes: Attributes,
    },
    /// Writes a part.
    PutPart {
        /// Where.
        target: Target,
        /// The upload.
        upload: BlobId,
        /// The part's number.
        number: u16,
        /// What.
        part: NewPart,
    },
    /// Makes the object out of parts.
    Complete {
        /// Where.
        target: Target,
        /// The upload.
        upload: BlobId,
        /// The parts, by rising number.
        parts: Vec<NamedPart>,
        /// The object's checksum.
        checksum: Option<Checksum>,
        /// What must hold of the key.
        condition: Condition,
    },
    /// Gives an upload up.
    Abort {
        /// Where.
        target: Target,
        /// The upload.
        upload: BlobId,
    },
    /// Opens a blob, named by this command's index.
    OpenBlob {
        /// For an object with this key, or a part of its upload.
        target: Target,
    },
    /// Names chunks of a staged blob, or only renews its lease.
    AppendExtent {
        /// The blob.
        blob: BlobId,
        /// Which extent this is.
        seq: u32,
        /// The chunks; none to renew the lease.
        chunks: Vec<StagedChunk>,
    },
    /// Gives a staged blob up; nothing happens to any other.
    DropBlob {
        /// The blob.
        blob: BlobId,
    },
    /// Ends a lease that was not renewed. Proposed by the leader.
    Expire {
        /// The blob.
        blob: BlobId,
        /// The lease that ran out.
        leased: Timestamp,
    },
    /// Removes a slice of a dead blob. Proposed by the leader until it is gone.
    Collect {
        /// The blob.
        blob: BlobId,
        /// Records at the most, up to [`collect::SLICE_MAX`].
        items: u32,
    },
    /// Makes a bucket writable at this shard, from this epoch on.
    InstallBucket {
        /// The bucket.
        bucket: BucketId,
        /// The epoch.
        epoch: Epoch,
    },
    /// Stops writes to a bucket at this shard. [`Refusal::BucketNotEmpty`] when it holds objects; the fence
    /// stands then too.
    FenceBucket {
        /// The bucket.
        bucket: BucketId,
        /// The epoch.
        epoch: Epoch,
    },
    /// Forgets a fenced, empty bucket and a slice of its uploads. [`Refusal::Busy`] until none is left.
    RemoveBucket {
        /// The bucket.
        bucket: BucketId,
        /// The epoch of the fence.
        epoch: Epoch,
        /// Every bucket with a lower id has been installed at every shard ([`super::bucket`]).
        floor: BucketId,
    },
}

impl ObjectOp {
    /// The write of one shard that a request comes to, given the id and epoch of the bucket that it
    /// names, if it names one. None for a read, and for what is of the meta group or of another space.
    #[must_use]
    pub fn of(request: &Request, bucket: Option<(BucketId, Epoch)>) -> Option<Self> {
        let target = |key: String| {
            let (bucket, epoch) = bucket.unwrap_or_default();
            Target { bucket, epoch, key }
        };
        Some(match request.clone() {
            Request::PutObject { key, object, condition, .. } => {
                Self::Put { target: target(key), object, condition }
            }
            Request::DeleteObject { key, condition, .. } => {
                Self::Delete { target: target(key), condition }
            }
            Request::PutTags { key, tags, .. } => Self::PutTags { target: target(key), tags },
            Request::CreateUpload { key, attributes, .. } => {
                Self::CreateUpload { target: target(key), attributes }
            }
            Request::PutPart { key, upload, number, part, .. } => {
                Self::PutPart { target: target(key), upload, number, part }
            }
            Request::CompleteUpload { key, upload, parts, checksum, condition, .. } => {
                Self::Complete { target: target(key), upload, parts, checksum, condition }
            }
            Request::AbortUpload { key, upload, .. } => Self::Abort { target: target(key), upload },
            Request::OpenBlob { key, .. } => Self::OpenBlob { target: target(key) },
            Request::AppendExtent { blob, seq, chunks } => Self::AppendExtent { blob, seq, chunks },
            Request::DropBlob { blob } => Self::DropBlob { blob },
            _ => return None,
        })
    }
}

/// What an applied operation means for the chunks on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectEvent {
    /// These chunks are named now: every replica must hold them.
    ExtentNamed {
        /// The blob.
        blob: BlobId,
        /// The chunks.
        chunks: Vec<ChunkRef>,
    },
    /// The blob is gone: its chunks may go.
    BlobCollected {
        /// The blob.
        blob: BlobId,
    },
}

/// Applies an operation: deterministic, and it can't fail but by an answer that all replicas give.
pub fn apply(batch: &mut Batch<'_>, events: &mut Vec<ObjectEvent>, op: ObjectOp) -> Outcome {
    if batch.seat().shard().is_none() {
        return Err(Refusal::Invalid("this group holds no objects".into()));
    }
    match op {
        ObjectOp::Put { target, object, condition } => put::put(batch, &target, object, condition),
        ObjectOp::Delete { target, condition } => delete::delete(batch, &target, condition),
        ObjectOp::PutTags { target, tags } => put::put_tags(batch, &target, tags),
        ObjectOp::CreateUpload { target, attributes } => {
            multipart::create(batch, &target, attributes)
        }
        ObjectOp::PutPart { target, upload, number, part } => {
            multipart::put_part(batch, &target, upload, number, part)
        }
        ObjectOp::Complete { target, upload, parts, checksum, condition } => {
            multipart::complete(batch, &target, upload, &parts, checksum, condition)
        }
        ObjectOp::Abort { target, upload } => multipart::abort(batch, &target, upload),
        ObjectOp::OpenBlob { target } => blob::open(batch, &target),
        ObjectOp::AppendExtent { blob, seq, chunks } => {
            blob::append(batch, events, blob, seq, chunks)
        }
        ObjectOp::DropBlob { blob } => blob::drop_staged(batch, blob),
        ObjectOp::Expire { blob, leased } => blob::expire(batch, blob, leased),
        ObjectOp::Collect { blob, items } => collect::collect(batch, events, blob, items),
        ObjectOp::InstallBucket { bucket, epoch } => bucket::install(batch, bucket, epoch),
        ObjectOp::FenceBucket { bucket, epoch } => bucket::fence(batch, bucket, epoch),
        ObjectOp::RemoveBucket { bucket, epoch, floor } => {
            bucket::remove(batch, bucket, epoch, floor)
        }
    }
}
