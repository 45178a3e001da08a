//! What each request needs: which group, which command, which bucket. The one place where requests are
//! told apart.

use crate::codec::Octets;
use crate::kv::api::KvRequest;
use crate::kv::command::{KvWrite, Op};
use crate::object::api::{
    Answer, CHUNK_BYTES, EXTENT_CHUNKS_MAX, ListObjects, Outcome, Refusal, Request,
};
use crate::object::command::ObjectOp;
use crate::object::names;
use crate::object::registry::{BucketEpoch, RegistryOp};
use crate::shard;
use crate::types::{BlobId, BucketId, ChunkId, GroupId};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use bytes::Bytes;

/// A request's first step.
pub(super) enum Plan<'a> {
    /// One linearizable read.
    Read(GroupId),
    /// One command.
    Write(GroupId, Box<Op>),
    /// The bucket comes first.
    InBucket(&'a str),
    /// A chunk to store.
    WriteChunk { blob: BlobId, bytes: Bytes },
    /// A chunk to read.
    ReadChunk(ChunkId),
}

/// Refuses what no replica need be asked about.
pub(super) fn check(request: &Request) -> Result<(), Refusal> {
    if let Request::CreateBucket { bucket } = request {
        names::check_bucket(bucket).map_err(|error| Refusal::Invalid(error.to_string()))?;
    }
    match request {
        Request::WriteChunk { bytes, .. } if bytes.is_empty() || bytes.len() > CHUNK_BYTES => {
            Err(Refusal::Invalid(format!("a chunk of {} bytes", bytes.len())))
        }
        Request::AppendExtent { chunks, .. } if chunks.len() > EXTENT_CHUNKS_MAX => {
            Err(Refusal::Invalid(format!("an extent of {} chunks", chunks.len())))
        }
        _ => Ok(()),
    }
}

/// The first step of a request.
pub(super) fn of(request: &Request, shards: u16) -> Plan<'_> {
    match request {
        Request::CreateBucket { bucket } => {
            let op = RegistryOp::CreateBucket { bucket: bucket.clone() };
            Plan::Write(GroupId::META, Box::new(Op::Registry(op)))
        }
        Request::DeleteBucket { bucket } => {
            let op = RegistryOp::DeleteBucket { bucket: bucket.clone() };
            Plan::Write(GroupId::META, Box::new(Op::Registry(op)))
        }
        Request::ReplaceStore(replacement) => {
            let op = RegistryOp::ReplaceStore(*replacement);
            Plan::Write(GroupId::META, Box::new(Op::Registry(op)))
        }
        Request::MoveShard(asked) => {
            let op = RegistryOp::MoveShard(asked.clone());
            Plan::Write(GroupId::META, Box::new(Op::Registry(op)))
        }
        Request::HeadBucket { .. } | Request::ListBuckets { .. } => Plan::Read(GroupId::META),
        Request::ReadExtents { blob, .. } | Request::ReadParts { upload: blob, .. } => {
            Plan::Read(blob.home.group())
        }
        Request::WriteChunk { blob, bytes } => {
            Plan::WriteChunk { blob: *blob, bytes: bytes.0.clone() }
        }
        Request::ReadChunk { chunk } => Plan::ReadChunk(*chunk),
        Request::Kv(request) => of_kv(request, shards),
        Request::AppendExtent { blob, seq, chunks } => {
            let op = ObjectOp::AppendExtent { blob: *blob, seq: *seq, chunks: chunks.clone() };
            Plan::Write(blob.home.group(), Box::new(Op::Object(op)))
        }
        Request::DropBlob { blob } => {
            Plan::Write(blob.home.group(), Box::new(Op::Object(ObjectOp::DropBlob { blob: *blob })))
        }
        Request::PutObject { bucket, .. }
        | Request::GetObject { bucket, .. }
        | Request::DeleteObject { bucket, .. }
        | Request::PutTags { bucket, .. }
        | Request::CreateUpload { bucket, .. }
        | Request::PutPart { bucket, .. }
        | Request::ListParts { bucket, .. }
        | Request::CompleteUpload { bucket, .. }
        | Request::AbortUpload { bucket, .. }
        | Request::ListUploads { bucket, .. }
        | Request::OpenBlob { bucket, .. }
        | Request::ListObjects(ListObjects { bucket, .. }) => Plan::InBucket(bucket),
    }
}

fn of_kv(request: &KvRequest, shards: u16) -> Plan<'_> {
    let group = |key: &Octets| shard::shard_of_key(key, shards).group();
    match request {
        KvRequest::Get { key } => Plan::Read(group(key)),
        KvRequest::Scan { shard, .. } => Plan::Read(shard.group()),
        KvRequest::Put { key, value, expect } => {
            let (key, value, expect) = (key.clone(), value.clone(), *expect);
            Plan::Write(group(&key), Box::new(Op::Kv(KvWrite::Put { key, value, expect })))
        }
        KvRequest::Delete { key, expect } => {
            let (key, expect) = (key.clone(), *expect);
            Plan::Write(group(&key), Box::new(Op::Kv(KvWrite::Delete { key, expect })))
        }
    }
}

/// The bucket of a request that goes by what is remembered of it.
pub(super) fn bucket_of(request: &Request) -> Option<&str> {
    // This one asks the registry itself.
    request.bucket().filter(|_| !matches!(request, Request::HeadBucket { .. }))
}

/// The group of a request on one key of a bucket.
pub(super) fn group_in(request: &Request, bucket: BucketId, shards: u16) -> Option<GroupId> {
    let key = request.key()?.as_bytes();
    Some(shard::shard_of_object(bucket, key, shards).group())
}

/// Whether the request lists nothing, so that no shard will be asked.
pub(super) fn is_empty_page(request: &Request) -> bool {
    match request {
        Request::ListObjects(list) => list.limit == 0,
        Request::ListUploads { limit, .. } => *limit == 0,
        _ => false,
    }
}

/// Whether a shard refuses because the sender's idea of the bucket may be old. Nothing was done.
pub(super) const fn is_stale(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::NoSuchBucket | Refusal::BucketBusy)
}

/// The change of a bucket that a request began, if its answer has to wait until that is carried out.
pub(super) fn begun(request: &Request, outcome: &Outcome) -> Option<BucketEpoch> {
    match (request, outcome) {
        (
            Request::CreateBucket { bucket } | Request::DeleteBucket { bucket },
            Ok(Answer::BucketBegun { id, epoch }),
        ) => Some(BucketEpoch { bucket: bucket.clone(), id: *id, epoch: *epoch }),
        _ => None,
    }
}
