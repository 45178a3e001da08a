//! How the one table of a group is divided: the first byte of a key names its space, and the rest
//! orders the records inside it. Integers are big-endian, so that byte order is number order.
//!
//! | Byte | Space | Rest of the key |
//! | --- | --- | --- |
//! | 0x01 | the group's header | nothing |
//! | 0x02 | request sessions | node u32, then nothing (the session) or incarnation u64, seq u64 (a reply) |
//! | 0x03 | bucket state | bucket u64, or nothing (the floor), or u64 max, bucket u64 (removed above it) |
//! | 0x04 | blobs | opened u64 |
//! | 0x05 | extents | opened u64, seq u32 |
//! | 0x06 | uploads in progress | bucket u64, key (escaped, closed), opened u64 |
//! | 0x07 | parts | opened u64 of the upload, number u16 |
//! | 0x08 | bucket registry (meta group) | name |
//! | 0x09 | cluster record (meta group) | nothing, or what the record is of (`creating`, bucket u64; `unsettled`, bucket name; `removed`) |
//! | 0x0a | blobs that the collector looks at | opened u64 |
//! | 0x0b | the group's members, once they have changed | nothing |
//! | 0x10 | objects | bucket u64, key |
//! | 0x20 | key-value space | key |
//!
//! Blobs leave their home shard out: a shard's table holds only its own.

use super::cow::Key;
use crate::object::api;
use crate::types::{BlobId, BucketId, Incarnation, Index, NodeId, ShardId};
use alloc::vec::Vec;

/// The group's header: the activated meaning of commands.
pub const HEADER: u8 = 0x01;
/// Request sessions and the replies they remember.
pub const SESSIONS: u8 = 0x02;
/// State of buckets as installed at this shard.
pub const BUCKETS: u8 = 0x03;
/// Blobs.
pub const BLOBS: u8 = 0x04;
/// Extents of blobs.
pub const EXTENTS: u8 = 0x05;
/// Multipart uploads in progress.
pub const UPLOADS: u8 = 0x06;
/// Parts of uploads.
pub const PARTS: u8 = 0x07;
/// The bucket registry of the meta group.
pub const REGISTRY: u8 = 0x08;
/// Identity, nodes and credentials of the cluster, in the meta group.
pub const CLUSTER: u8 = 0x09;
/// Blobs that the collector looks at: staged or dead, so few.
pub const CHORES: u8 = 0x0a;
/// The group's members, once they have changed.
pub const MEMBERS: u8 = 0x0b;
/// Objects.
pub const OBJECTS: u8 = 0x10;
/// The key-value space.
pub const KV: u8 = 0x20;

/// The longest key of a record: that of an upload to the longest key that an object may have, with every byte of it escaped.
/// Keys of the key-value space are no longer than those.
pub const KEY_BYTES_MAX: usize = 1 + 8 + 2 * api::KEY_BYTES_MAX + CLOSE.len() + 8;

/// The group's header record.
#[must_use]
pub fn header() -> Key {
    Key::from([HEADER])
}

/// The record of the group's members.
#[must_use]
pub fn members() -> Key {
    Key::from([MEMBERS])
}

/// The session of a node.
#[must_use]
pub fn session(node: NodeId) -> Key {
    join(SESSIONS, &[&node.0.to_be_bytes()])
}

/// What all replies of a session begin with.
#[must_use]
pub fn replies(node: NodeId, incarnation: Incarnation) -> Key {
    join(SESSIONS, &[&node.0.to_be_bytes(), &incarnation.0.to_be_bytes()])
}

/// The remembered reply of one request.
#[must_use]
pub fn reply(node: NodeId, incarnation: Incarnation, seq: u64) -> Key {
    let (node, incarnation) = (node.0.to_be_bytes(), incarnation.0.to_be_bytes());
    join(SESSIONS, &[&node, &incarnation, &seq.to_be_bytes()])
}

/// The sequence number at the end of a reply's key.
#[must_use]
pub fn reply_seq(key: &[u8]) -> Option<u64> {
    let (SESSIONS, rest) = key.split_first().map(|(space, rest)| (*space, rest))? else {
        return None;
    };
    let (_, seq) = rest.split_at_checked(12)?;
    Some(u64::from_be_bytes(seq.try_into().ok()?))
}

/// A bucket's state at this shard.
#[must_use]
pub fn bucket(id: BucketId) -> Key {
    join(BUCKETS, &[&id.0.to_be_bytes()])
}

/// The bucket below which every bucket has been installed at this shard.
#[must_use]
pub fn bucket_floor() -> Key {
    Key::from([BUCKETS])
}

/// What all marks of removed buckets begin with. No bucket has this id.
#[must_use]
pub fn removed_buckets() -> Key {
    bucket(BucketId(u64::MAX))
}

/// The mark of a removed bucket at or above the floor.
#[must_use]
pub fn removed_bucket(id: BucketId) -> Key {
    join(BUCKETS, &[&u64::MAX.to_be_bytes(), &id.0.to_be_bytes()])
}

/// The bucket of a key that ends in its id: a mark of a removed bucket, or of one that is being made.
#[must_use]
pub fn marked_bucket(key: &[u8]) -> Option<BucketId> {
    Some(BucketId(u64::from_be_bytes(*key.last_chunk()?)))
}

/// A blob of this shard.
#[must_use]
pub fn blob(blob: BlobId) -> Key {
    join(BLOBS, &[&blob.opened.0.to_be_bytes()])
}

/// The blob that a key of [`BLOBS`], [`EXTENTS`], [`PARTS`] or [`CHORES`] belongs to.
#[must_use]
pub fn blob_of(home: ShardId, key: &[u8]) -> Option<BlobId> {
    let opened = key.get(1..9)?.try_into().ok()?;
    Some(BlobId { home, opened: Index(u64::from_be_bytes(opened)) })
}

/// What all extents of a blob begin with.
#[must_use]
pub fn extents(blob: BlobId) -> Key {
    join(EXTENTS, &[&blob.opened.0.to_be_bytes()])
}

/// An extent of a blob.
#[must_use]
pub fn extent(blob: BlobId, seq: u32) -> Key {
    join(EXTENTS, &[&blob.opened.0.to_be_bytes(), &seq.to_be_bytes()])
}

/// The sequence number of an extent's key.
#[must_use]
pub fn extent_seq(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(9..)?.try_into().ok()?))
}

/// What all parts of an upload begin with.
#[must_use]
pub fn parts(upload: BlobId) -> Key {
    join(PARTS, &[&upload.opened.0.to_be_bytes()])
}

/// A part of an upload.
#[must_use]
pub fn part(upload: BlobId, number: u16) -> Key {
    join(PARTS, &[&upload.opened.0.to_be_bytes(), &number.to_be_bytes()])
}

/// The number of a part's key.
#[must_use]
pub fn part_number(key: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(key.get(9..)?.try_into().ok()?))
}

/// What all uploads of a bucket begin with.
#[must_use]
pub fn uploads(bucket: BucketId) -> Key {
    join(UPLOADS, &[&bucket.0.to_be_bytes()])
}

/// What all uploads of a bucket to keys with this prefix begin with.
#[must_use]
pub fn uploads_with_prefix(bucket: BucketId, prefix: &[u8]) -> Key {
    let mut key = uploads(bucket).to_vec();
    escape(prefix, &mut key);
    key.into()
}

/// An upload in progress, ordered by its object's key and then by its own id.
#[must_use]
pub fn upload(bucket: BucketId, key: &[u8], upload: BlobId) -> Key {
    let mut bytes = uploads_of(bucket, key).to_vec();
    bytes.extend_from_slice(&upload.opened.0.to_be_bytes());
    bytes.into()
}

/// What all uploads to exactly this key begin with.
#[must_use]
pub fn uploads_of(bucket: BucketId, key: &[u8]) -> Key {
    let mut bytes = uploads_with_prefix(bucket, key).to_vec();
    bytes.extend_from_slice(&CLOSE);
    bytes.into()
}

/// The object key and the upload that an upload's key names.
#[must_use]
pub fn parse_upload(home: ShardId, key: &[u8]) -> Option<(Vec<u8>, BlobId)> {
    let rest = key.get(9..)?;
    let (name, opened) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
    let opened = Index(u64::from_be_bytes(opened.try_into().ok()?));
    Some((unescape(name.strip_suffix(&CLOSE)?)?, BlobId { home, opened }))
}

/// A bucket's entry in the registry.
#[must_use]
pub fn registry(name: &str) -> Key {
    join(REGISTRY, &[name.as_bytes()])
}

/// What all marks of buckets that are being made begin with.
#[must_use]
pub fn creating_buckets() -> Key {
    cluster(b"creating")
}

/// The mark of a bucket that is being made.
#[must_use]
pub fn creating_bucket(id: BucketId) -> Key {
    join(CLUSTER, &[b"creating", &id.0.to_be_bytes()])
}

/// What all marks of buckets with a procedure to be run begin with.
#[must_use]
pub fn unsettled_buckets() -> Key {
    cluster(b"unsettled")
}

/// The mark of a bucket with a procedure to be run.
#[must_use]
pub fn unsettled_bucket(name: &str) -> Key {
    join(CLUSTER, &[b"unsettled", name.as_bytes()])
}

/// A record of the cluster.
#[must_use]
pub fn cluster(what: &[u8]) -> Key {
    join(CLUSTER, &[what])
}

/// What all objects of a bucket begin with.
#[must_use]
pub fn objects(bucket: BucketId) -> Key {
    join(OBJECTS, &[&bucket.0.to_be_bytes()])
}

/// The mark of a blob that the collector looks at.
#[must_use]
pub fn chore(blob: BlobId) -> Key {
    join(CHORES, &[&blob.opened.0.to_be_bytes()])
}

/// An object, or what all objects with a prefix begin with.
#[must_use]
pub fn object(bucket: BucketId, key: &[u8]) -> Key {
    join(OBJECTS, &[&bucket.0.to_be_bytes(), key])
}

/// The bucket of an object's table key.
#[must_use]
pub fn bucket_of(key: &[u8]) -> Option<BucketId> {
    Some(BucketId(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?)))
}

/// The object key inside an object's table key.
#[must_use]
pub fn object_key(key: &[u8]) -> Option<&[u8]> {
    key.get(9..)
}

/// A key of the key-value space.
#[must_use]
pub fn kv(key: &[u8]) -> Key {
    join(KV, &[key])
}

/// The user's key inside a table key of the key-value space.
#[must_use]
pub fn kv_key(key: &[u8]) -> Option<&[u8]> {
    key.get(1..)
}

/// The smallest key above every key that begins with `prefix`; `None` when there is none above.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut key = prefix.get(..=last)?.to_vec();
    *key.last_mut()? += 1;
    Some(key)
}

/// Closes an escaped string. Below any continuation of the string, because an escaped zero is followed
/// by 0xff: a key sorts before its own extensions.
const CLOSE: [u8; 2] = [0, 1];

/// Appends `bytes` so that order is kept and [`CLOSE`] can't occur: a zero becomes 0x00 0xff.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
}

fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        if *byte == 0 && rest.next() != Some(&0xff) {
            return None;
        }
        out.push(*byte);
    }
    Some(out)
}

/// Bytes of a key that is put together in place.
const SHORT: usize = 96;

fn join(space: u8, pieces: &[&[u8]]) -> Key {
    let len = 1 + pieces.iter().map(|piece| piece.len()).sum::<usize>();
    // Nearly all keys are short: those are put together where nothing has to be allocated for it.
    let mut short = [0; SHORT];
    let mut long = Vec::new();
    let key = match short.get_mut(..len) {
        Some(short) => short,
        None => {
            long.resize(len, 0);
            long.as_mut_slice()
        }
    };
    let mut rest = &mut *key;
    for piece in core::iter::once(&[space].as_slice()).chain(pieces) {
        let Some((place, behind)) = rest.split_at_mut_checked(piece.len()) else { break };
        place.copy_from_slice(piece);
        rest = behind;
    }
    Key::from(&*key)
}
