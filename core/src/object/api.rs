//! What a client can ask of the store, and what it is answered. The S3 gateway translates HTTP into
//! these, the simulator's clients make them up, and the node's router executes them.
//!
//! These types cross nodes (a request is forwarded to the leader of its shard), so they are format
//! types: docs/formats.md.

use super::layout::Move;
use super::registry::Replacement;
use crate::codec::Octets;
use crate::kv::api::{KvAnswer, KvRequest};
use crate::types::{BlobId, Boot, BucketId, ChunkHash, ChunkId, Epoch, ShardId, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use core::fmt::{self, Write as _};

/// Bodies up to this many bytes live in the record itself; longer ones are cut into chunks.
pub const INLINE_BYTES_MAX: usize = 16 << 10;
/// Bytes of every chunk of a blob but its last.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that one extent record names at the most, so that no log entry grows with its object.
pub const EXTENT_CHUNKS_MAX: usize = 64;
/// Parts of a multipart upload are numbered from 1 to this.
pub const PART_NUMBER_MAX: u16 = 10_000;
/// Every part but the last has at least this many bytes.
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// The largest object that one put may write, and the largest part: 5 GiB.
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// The most bytes of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// The most entries of one page of a listing.
pub const PAGE_MAX: u32 = 1000;

/// An object's entity tag: MD5 of its bytes, or MD5 over its parts' MD5s with their count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ETag {
    /// The MD5.
    pub md5: [u8; 16],
    /// How many parts; 0 for an object that was put whole.
    pub parts: u16,
}

impl fmt::Display for ETag {
    /// Without the quotes that S3 puts around it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every answer shows one: digit by digit, it would cost more than the read itself.
        for pair in self.md5 {
            for nibble in [pair >> 4, pair & 15] {
                f.write_char(char::from(if nibble < 10 { b'0' } else { b'a' - 10 } + nibble))?;
            }
        }
        if self.parts > 0 { write!(f, "-{}", self.parts) } else { Ok(()) }
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which additional checksum an object carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ChecksumAlgorithm {
    /// CRC32 (IEEE).
    Crc32,
    /// CRC32C (Castagnoli).
    Crc32c,
    /// CRC64-NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// An additional checksum, as the client sent it and the gateway verified it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Checksum {
    /// Which one.
    pub algorithm: ChecksumAlgorithm,
    /// The raw bytes, big-endian for the CRCs.
    pub value: Vec<u8>,
    /// Whether it is a checksum over the parts' checksums (COMPOSITE) and not over the bytes
    /// (`FULL_OBJECT`).
    pub composite: bool,
}

/// What is stored beside an object's bytes and returned with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Attributes {
    /// Standard headers by lower-case name: `content-type`, `cache-control`, ...
    pub headers: Vec<(String, String)>,
    /// `x-amz-meta-*` without the prefix, lower-case names.
    pub metadata: Vec<(String, String)>,
    /// Object tags in the order given.
    pub tags: Vec<(String, String)>,
    /// The additional checksum, if there is one.
    pub checksum: Option<Checksum>,
    /// For an upload in progress: the checksum algorithm (and whether COMPOSITE) asked for at creation.
    pub upload_checksum: Option<(ChecksumAlgorithm, bool)>,
}

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Content {
    /// In the record: at most [`INLINE_BYTES_MAX`].
    Inline(Octets),
    /// In the chunks of one blob of the object's own shard.
    Blob(BlobId),
    /// In the parts of a completed multipart upload of the object's own shard.
    Parts {
        /// The upload.
        upload: BlobId,
    },
}

/// What a write demands of the key's current state. Checked at apply: compare-and-swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// `If-None-Match: *`: no object there.
    Absent,
    /// `If-Match: *`: an object there.
    Present,
    /// `If-Match: "etag"`: exactly this object there.
    Is(ETag),
}

/// A chunk that a quorum of its shard's replicas holds durably, and who they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct StagedChunk {
    /// BLAKE3 of the bytes.
    pub hash: ChunkHash,
    /// How many bytes.
    pub bytes: u32,
    /// The nodes that hold it, and the boot of each that said so.
    pub holders: Vec<Boot>,
}

impl StagedChunk {
    /// The chunk, whoever holds it.
    #[must_use]
    pub const fn named(&self) -> ChunkRef {
        ChunkRef { hash: self.hash, bytes: self.bytes }
    }
}

/// A chunk as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ChunkRef {
    /// BLAKE3 of the bytes.
    pub hash: ChunkHash,
    /// How many bytes.
    pub bytes: u32,
}

/// An object to be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NewObject {
    /// What to store beside the bytes.
    pub attributes: Attributes,
    /// Bytes of the content.
    pub bytes: u64,
    /// Its entity tag.
    pub etag: ETag,
    /// Its bytes; never [`Content::Parts`], which only completing an upload makes.
    pub content: Content,
}

/// An object as it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Object {
    /// What is stored beside the bytes.
    pub attributes: Attributes,
    /// Bytes of the content.
    pub bytes: u64,
    /// Its entity tag.
    pub etag: ETag,
    /// Where the bytes are.
    pub content: Content,
    /// When it was committed.
    pub committed: Timestamp,
    /// Wall time of the write, nanoseconds since the Unix epoch: `Last-Modified`.
    pub modified: u64,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Its entity tag.
    pub etag: ETag,
    /// Wall time of its write, nanoseconds since the Unix epoch.
    pub modified: u64,
}

/// Where a page of a listing begins. Everything before is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ListFrom {
    /// At the first key.
    #[default]
    Start,
    /// After this key (V2 `start-after`, V1 `marker`).
    After(String),
    /// After every key that begins with this common prefix.
    AfterPrefix(String),
}

/// What to list of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ListObjects {
    /// The bucket.
    pub bucket: String,
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys that share what precedes the first delimiter after the prefix are one common prefix. Not
    /// empty.
    pub delimiter: Option<String>,
    /// Where to begin.
    pub from: ListFrom,
    /// Objects and common prefixes at the most, up to [`PAGE_MAX`]. 0 gives an empty, untruncated page.
    pub limit: u32,
}

/// A page of a listing: keys and common prefixes, each in UTF-8 byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Listing {
    /// The objects.
    pub objects: Vec<ListedObject>,
    /// The common prefixes.
    pub common_prefixes: Vec<String>,
    /// Where the next page begins, if this one was cut off.
    pub next: Option<ListFrom>,
}

/// A part to be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NewPart {
    /// Bytes of the part.
    pub bytes: u64,
    /// MD5 of the part.
    pub md5: [u8; 16],
    /// Its additional checksum.
    pub checksum: Option<Checksum>,
    /// Inline or a blob.
    pub content: Content,
}

/// A part as it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Part {
    /// Its number, from 1 to [`PART_NUMBER_MAX`].
    pub number: u16,
    /// Its size.
    pub bytes: u64,
    /// Its MD5.
    pub md5: [u8; 16],
    /// Its additional checksum.
    pub checksum: Option<Checksum>,
    /// Wall time of its write, nanoseconds since the Unix epoch.
    pub modified: u64,
    /// Where its bytes are. Inline bytes are left out (empty) while the upload is in progress.
    pub content: Content,
}

/// An upload in progress, in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ListedUpload {
    /// The key that it will write.
    pub key: String,
    /// The upload.
    pub upload: BlobId,
    /// Wall time of its creation, nanoseconds since the Unix epoch.
    pub initiated: u64,
}

/// A part that a client names when it completes an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NamedPart {
    /// Its number.
    pub number: u16,
    /// The MD5 that the client believes it has.
    pub md5: [u8; 16],
}

/// A bucket as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct BucketInfo {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: BucketId,
    /// Wall time of its creation, nanoseconds since the Unix epoch.
    pub created: u64,
}

/// What a client can ask. Strings are as the client sent them; the limits above are checked again
/// where they matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Request {
    /// Makes a bucket. Answer: [`Answer::Bucket`] or [`Refusal::BucketAlreadyOwnedByYou`].
    CreateBucket {
        /// Its name.
        bucket: String,
    },
    /// Deletes an empty bucket. Answer: [`Answer::Done`].
    DeleteBucket {
        /// Its name.
        bucket: String,
    },
    /// Looks a bucket up. Answer: [`Answer::Bucket`].
    HeadBucket {
        /// Its name.
        bucket: String,
    },
    /// Lists buckets in the order of their names. Answer: [`Answer::Buckets`].
    ListBuckets {
        /// Only names that begin with this.
        prefix: String,
        /// Only names after this one.
        after: Option<String>,
        /// How many at the most.
        limit: u32,
    },
    /// Writes an object. Answer: [`Answer::Written`].
    PutObject {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// What to write.
        object: NewObject,
        /// What must hold.
        condition: Condition,
    },
    /// Reads an object's record; inline bytes come with it. Answer: [`Answer::Object`]. Pins its blobs
    /// for [`crate::chunk::PIN_MS`].
    GetObject {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// Deletes an object. Answer: [`Answer::Done`], also when there is none.
    DeleteObject {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// What must hold.
        condition: Condition,
    },
    /// Replaces an object's tags. Answer: [`Answer::Done`].
    PutTags {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The new tags; none to remove them.
        tags: Vec<(String, String)>,
    },
    /// Lists objects. Answer: [`Answer::Listing`].
    ListObjects(ListObjects),
    /// Begins a multipart upload. Answer: [`Answer::Upload`].
    CreateUpload {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// What the completed object will carry.
        attributes: Attributes,
    },
    /// Writes a part, in place of one with its number. Answer: [`Answer::Done`].
    PutPart {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The upload.
        upload: BlobId,
        /// Its number.
        number: u16,
        /// What to write.
        part: NewPart,
    },
    /// Lists the parts of an upload in progress, or of the completed upload behind an object. Answer:
    /// [`Answer::Parts`].
    ListParts {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The upload.
        upload: BlobId,
        /// Only parts with a higher number.
        after: u16,
        /// How many at the most.
        limit: u32,
    },
    /// Makes the object out of parts, at once. Repeating it is harmless. Answer: [`Answer::Written`].
    CompleteUpload {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The upload.
        upload: BlobId,
        /// The parts, by rising number.
        parts: Vec<NamedPart>,
        /// The object's checksum, if the gateway computed or verified one.
        checksum: Option<Checksum>,
        /// What must hold of the key.
        condition: Condition,
    },
    /// Gives an upload up. Answer: [`Answer::Done`].
    AbortUpload {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The upload.
        upload: BlobId,
    },
    /// Lists uploads in progress by key, then upload. Answer: [`Answer::Uploads`].
    ListUploads {
        /// The bucket.
        bucket: String,
        /// Only keys that begin with this.
        prefix: String,
        /// As in [`ListObjects`].
        delimiter: Option<String>,
        /// Only uploads after this key, or after this upload of the key.
        after: Option<(String, Option<BlobId>)>,
        /// How many at the most.
        limit: u32,
    },
    /// Opens a blob in the shard of this key, leased for [`crate::chunk::STAGE_LEASE_MS`]; every extent
    /// renews the lease. Answer: [`Answer::Blob`].
    OpenBlob {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// Stores a chunk durably on a quorum of the home shard's replicas. Answer: [`Answer::Staged`].
    WriteChunk {
        /// The blob.
        blob: BlobId,
        /// The bytes, at most [`CHUNK_BYTES`].
        bytes: Octets,
    },
    /// Names the next chunks of a blob; without chunks it only renews the lease. Answer: [`Answer::Done`],
    /// or [`Refusal::Restage`] if the replica set has changed.
    AppendExtent {
        /// The blob.
        blob: BlobId,
        /// 0 for the first extent, then 1, ...; repeating the last one is harmless.
        seq: u32,
        /// At most [`EXTENT_CHUNKS_MAX`]; only the last extent of a blob has fewer, and only its last
        /// chunk is shorter than [`CHUNK_BYTES`].
        chunks: Vec<StagedChunk>,
    },
    /// Gives a staged blob up. Answer: [`Answer::Done`], also when it is gone.
    DropBlob {
        /// The blob.
        blob: BlobId,
    },
    /// Reads which chunks a blob has, by extent. Pins the blob, or the whole upload that it belongs to, for
    /// another [`crate::chunk::PIN_MS`]; with a limit of 0 it does only that, for an upload too.
    /// Answer: [`Answer::Extents`].
    ReadExtents {
        /// The blob.
        blob: BlobId,
        /// The first extent wanted.
        from: u32,
        /// How many at the most.
        limit: u32,
    },
    /// Reads a chunk, verified against its name. Answer: [`Answer::Chunk`].
    ReadChunk {
        /// The chunk.
        chunk: ChunkId,
    },
    /// An operation on the key-value space. Answer: [`Answer::Kv`].
    Kv(KvRequest),
    /// The operator says that a node's disk is lost and lets another store take its place. Answer: [`Answer::Done`], also if
    /// it has it already; [`Refusal::Invalid`] says why it can't.
    ReplaceStore(Replacement),
    /// The operator moves a shard to other voters. Answer: [`Answer::Done`] once the move has begun, also if it is there
    /// already; [`Refusal::Invalid`] says why it can't. The cluster brings it about.
    MoveShard(Move),
    /// Reads which parts the completed upload behind an object has: what a reader needs who has looked the object up, whatever
    /// has become of it and of its bucket since. Pins the upload for another [`crate::chunk::PIN_MS`]. Answer:
    /// [`Answer::Parts`].
    ReadParts {
        /// The upload.
        upload: BlobId,
        /// Only parts with a higher number.
        after: u16,
        /// How many at the most.
        limit: u32,
    },
}

impl Request {
    /// The bucket that it names.
    #[must_use]
    pub fn bucket(&self) -> Option<&str> {
        match self {
            Self::CreateBucket { bucket }
            | Self::DeleteBucket { bucket }
            | Self::HeadBucket { bucket }
            | Self::PutObject { bucket, .. }
            | Self::GetObject { bucket, .. }
            | Self::DeleteObject { bucket, .. }
            | Self::PutTags { bucket, .. }
            | Self::CreateUpload { bucket, .. }
            | Self::PutPart { bucket, .. }
            | Self::ListParts { bucket, .. }
            | Self::CompleteUpload { bucket, .. }
            | Self::AbortUpload { bucket, .. }
            | Self::ListUploads { bucket, .. }
            | Self::OpenBlob { bucket, .. } => Some(bucket),
            Self::ListObjects(list) => Some(&list.bucket),
            Self::ListBuckets { .. }
            | Self::AppendExtent { .. }
            | Self::DropBlob { .. }
            | Self::ReadExtents { .. }
            | Self::WriteChunk { .. }
            | Self::ReadChunk { .. }
            | Self::Kv(_)
            | Self::ReplaceStore(_)
            | Self::MoveShard(_)
            | Self::ReadParts { .. } => None,
        }
    }

    /// The one key of that bucket that it is about.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::PutObject { key, .. }
            | Self::GetObject { key, .. }
            | Self::DeleteObject { key, .. }
            | Self::PutTags { key, .. }
            | Self::CreateUpload { key, .. }
            | Self::PutPart { key, .. }
            | Self::ListParts { key, .. }
            | Self::CompleteUpload { key, .. }
            | Self::AbortUpload { key, .. }
            | Self::OpenBlob { key, .. } => Some(key),
            _ => None,
        }
    }
}

/// The answer to a [`Request`] that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Answer {
    /// Done; there is nothing to say.
    Done,
    /// A bucket.
    Bucket(BucketInfo),
    /// A change of a bucket has begun and will be carried out. The node asks on; clients never see this.
    BucketBegun {
        /// The bucket's id.
        id: BucketId,
        /// The epoch that the change began.
        epoch: Epoch,
    },
    /// Buckets, and whether there are more.
    Buckets {
        /// In the order of their names.
        buckets: Vec<BucketInfo>,
        /// Whether the page was cut off.
        truncated: bool,
    },
    /// An object was written.
    Written {
        /// Its entity tag.
        etag: ETag,
        /// Its commit timestamp.
        committed: Timestamp,
    },
    /// An object.
    Object(Object),
    /// A page of a listing.
    Listing(Listing),
    /// An upload was begun.
    Upload {
        /// Its id.
        upload: BlobId,
    },
    /// Parts of an upload.
    Parts {
        /// By number.
        parts: Vec<Part>,
        /// Whether the page was cut off.
        truncated: bool,
        /// What the upload was created with; nothing once it is completed: the object has it then.
        attributes: Attributes,
    },
    /// Uploads in progress.
    Uploads {
        /// By key, then upload.
        uploads: Vec<ListedUpload>,
        /// The common prefixes.
        common_prefixes: Vec<String>,
        /// Whether the page was cut off.
        truncated: bool,
    },
    /// A blob was opened.
    Blob {
        /// Its id.
        blob: BlobId,
    },
    /// A chunk is durable.
    Staged(StagedChunk),
    /// Chunks of a blob.
    Extents {
        /// The chunks of each extent from the one asked for.
        extents: Vec<Vec<ChunkRef>>,
        /// Whether the blob has more.
        truncated: bool,
    },
    /// The bytes of a chunk.
    Chunk(Octets),
    /// Answer of the key-value space.
    Kv(KvAnswer),
}

/// Why a [`Request`] was not carried out. Unless it says otherwise, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Refusal {
    /// There is no such bucket.
    NoSuchBucket,
    /// The bucket exists already, and it is yours.
    BucketAlreadyOwnedByYou,
    /// The bucket holds objects.
    BucketNotEmpty,
    /// The bucket is being made or deleted; try again.
    BucketBusy,
    /// There is no such key.
    NoSuchKey,
    /// There is no such upload in progress.
    NoSuchUpload,
    /// A named part is missing or is not the one named.
    InvalidPart,
    /// The named parts don't rise.
    InvalidPartOrder,
    /// A part but the last is below [`PART_BYTES_MIN`].
    PartTooSmall,
    /// The condition does not hold.
    PreconditionFailed,
    /// The blob is gone or its content is not what the record says.
    NoSuchBlob,
    /// The replica set has changed since the chunks were staged: stage them again.
    Restage,
    /// A chunk can't be read on any replica now.
    ChunkUnavailable,
    /// The request breaks a limit or makes no sense.
    Invalid(String),
    /// The disk of a node that the write needs is full. Reads go on.
    NoSpace,
    /// Not now: no leader, no quorum, or the data is damaged here. Says why.
    Unavailable(String),
    /// Too much is under way; try again later.
    Busy,
    /// It may or may not have been carried out.
    OutcomeUnknown,
}

/// What a request comes to.
pub type Outcome = Result<Answer, Refusal>;

/// Which shard a request belongs to when its body alone says so.
#[must_use]
pub const fn home_shard(request: &Request) -> Option<ShardId> {
    match request {
        Request::WriteChunk { blob, .. }
        | Request::AppendExtent { blob, .. }
        | Request::DropBlob { blob }
        | Request::ReadExtents { blob, .. }
        | Request::ReadParts { upload: blob, .. } => Some(blob.home),
        Request::ReadChunk { chunk } => Some(chunk.blob.home),
        _ => None,
    }
}
