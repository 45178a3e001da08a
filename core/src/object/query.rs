//! Reads of a shard: what a replica answers from its table after it has made sure that it may.
//!
//! A read finds records by their heads, which are in memory. A record's body may be only in the
//! table log: then [`Reading::wants`] says where, the caller reads and verifies it, and
//! [`Reading::finish`] makes the answer. Listings need no bodies at all.
//!
//! **Work.** Every record that a listing looks at is in its answer, or opens a common prefix that is: the keys
//! below that prefix are passed over by seeking. So a page costs what it holds, whatever the bucket holds.
//!
//! **Caveats.** Nothing here asks whether the replica may answer: that is the node's business (`ReadIndex`).
//! A bucket that is fenced can be read.

use super::api::{
    Answer, Attributes, Content, ListFrom, ListObjects, ListedObject, ListedUpload, Listing,
    Object, PAGE_MAX, Part, Refusal, Request,
};
use super::merge::{ListUploads, UploadsPage};
use super::record::{
    self, BlobKind, ContentHead, Life, ObjectBody, ObjectHead, PartHead, UploadHead,
};
use super::{blob, bucket, multipart};
use crate::codec::{self, DecodeError, Octets};
use crate::kv::table::{Body, RecordLocation, Slot, Table};
use crate::kv::{cow::Key, space};
use crate::types::{BlobId, BucketId, Index, ShardId, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;
use core::ops::Bound;

/// Extents that one answer holds at the most: 16 GiB of chunks' names.
pub const EXTENTS_MAX: u32 = 256;

/// A read of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Query {
    /// [`Request::GetObject`].
    Object {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: String,
    },
    /// [`Request::ListObjects`], of the keys of this shard.
    Objects {
        /// The bucket.
        bucket: BucketId,
        /// What to list; the bucket's name does not matter.
        list: ListObjects,
    },
    /// [`Request::ListUploads`], of the uploads of this shard.
    Uploads(ListUploads),
    /// [`Request::ListParts`].
    Parts {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: String,
        /// The upload.
        upload: BlobId,
        /// Only parts with a higher number.
        after: u16,
        /// How many at the most.
        limit: u32,
    },
    /// [`Request::ReadParts`].
    PartsRead {
        /// The upload.
        upload: BlobId,
        /// Only parts with a higher number.
        after: u16,
        /// How many at the most.
        limit: u32,
    },
    /// [`Request::ReadExtents`].
    Extents {
        /// The blob.
        blob: BlobId,
        /// The first extent wanted.
        from: u32,
        /// How many at the most.
        limit: u32,
    },
}

impl Query {
    /// The read of one shard that a request comes to, if it comes to one. Listings are not among them:
    /// [`super::merge`] asks many shards for them. `bucket` is the id of the bucket that the request names.
    #[must_use]
    pub fn of(request: &Request, bucket: Option<BucketId>) -> Option<Self> {
        match request {
            Request::GetObject { key, .. } => {
                Some(Self::Object { bucket: bucket?, key: key.clone() })
            }
            Request::ListParts { key, upload, after, limit, .. } => {
                let (bucket, key, upload) = (bucket?, key.clone(), *upload);
                Some(Self::Parts { bucket, key, upload, after: *after, limit: *limit })
            }
            Request::ReadParts { upload, after, limit } => {
                Some(Self::PartsRead { upload: *upload, after: *after, limit: *limit })
            }
            Request::ReadExtents { blob, from, limit } => {
                Some(Self::Extents { blob: *blob, from: *from, limit: *limit })
            }
            _ => None,
        }
    }
}

/// A read whose bodies may still have to be fetched.
#[derive(Clone, Debug)]
pub struct Reading {
    plan: Plan,
    bodies: Vec<Body>,
    pins: Option<BlobId>,
}

#[derive(Clone, Debug)]
enum Plan {
    Object {
        home: ShardId,
        head: ObjectHead,
        committed: Timestamp,
    },
    /// `inline` is the place of the part whose body is wanted.
    Parts {
        home: ShardId,
        parts: Vec<(u16, PartHead)>,
        inline: Option<usize>,
        truncated: bool,
        attributes: Attributes,
    },
    Extents {
        truncated: bool,
    },
    Ready(Answer),
}

impl Reading {
    const fn ready(answer: Answer) -> Self {
        Self { plan: Plan::Ready(answer), bodies: Vec::new(), pins: None }
    }

    /// The blob or upload that the reader will read from now on: the leader pins it.
    #[must_use]
    pub const fn pins(&self) -> Option<BlobId> {
        self.pins
    }

    /// What must be read from the table log, and verified, before [`Self::finish`].
    pub fn wants(&self) -> impl Iterator<Item = RecordLocation> {
        self.bodies.iter().filter_map(|body| body.bytes().err())
    }

    /// The answer, given what [`Self::wants`] named, in that order.
    ///
    /// # Errors
    /// Bodies that are none, or fewer than wanted.
    pub fn finish(self, fetched: impl IntoIterator<Item = Bytes>) -> Result<Answer, DecodeError> {
        let mut fetched = fetched.into_iter();
        let bodies = self.bodies.iter();
        let bodies = bodies
            .map(|body| body.bytes().or_else(|_| fetched.next().ok_or(DecodeError::Malformed)));
        let bodies: Vec<Bytes> = bodies.collect::<Result<_, _>>()?;
        match self.plan {
            Plan::Ready(answer) => Ok(answer),
            Plan::Object { home, head, committed } => {
                let [body] = bodies.as_slice() else { return Err(DecodeError::Malformed) };
                let ObjectBody { mut attributes, inline } = codec::decode(body)?;
                attributes.tags = head.tags;
                let content = content(home, head.content, inline);
                let (bytes, etag, modified) = (head.bytes, head.etag, head.modified);
                Ok(Answer::Object(Object { attributes, bytes, etag, content, committed, modified }))
            }
            Plan::Parts { home, parts, inline, truncated, attributes } => {
                let part = |(at, (number, head)): (usize, (u16, PartHead))| {
                    let wanted = bodies.first().filter(|_| inline == Some(at));
                    let octets = Octets(wanted.cloned().unwrap_or_default());
                    let content = content(home, head.content, octets);
                    let PartHead { bytes, md5, checksum, modified, .. } = head;
                    Part { number, bytes, md5, checksum, modified, content }
                };
                let parts = parts.into_iter().enumerate().map(part).collect();
                Ok(Answer::Parts { parts, truncated, attributes })
            }
            Plan::Extents { truncated } => {
                let extents = bodies.iter().map(|body| blob::decode_extent(body));
                Ok(Answer::Extents { extents: extents.collect::<Result<_, _>>()?, truncated })
            }
        }
    }
}

/// Looks up what a read of this shard comes to.
///
/// # Errors
/// Refusals for the client; [`Refusal::NoSuchBucket`] also when the sender's idea of the bucket is old.
pub fn read(table: &Table, home: ShardId, query: &Query) -> Result<Reading, Refusal> {
    match query {
        Query::Object { bucket, key } => {
            bucket::check_read(table, *bucket)?;
            object(table, home, *bucket, key)
        }
        Query::Objects { bucket, list } => {
            bucket::check_read(table, *bucket)?;
            Ok(Reading::ready(Answer::Listing(list_objects(table, *bucket, list))))
        }
        Query::Uploads(list) => {
            bucket::check_read(table, list.bucket)?;
            let UploadsPage { uploads, common_prefixes, truncated } =
                list_uploads(table, home, list);
            Ok(Reading::ready(Answer::Uploads { uploads, common_prefixes, truncated }))
        }
        Query::Parts { bucket, key, upload, after, limit } => {
            bucket::check_read(table, *bucket)?;
            let (progress, completed) = upload_of(table, home, (*bucket, key), *upload)?;
            Ok(parts(table, *upload, progress, completed, (*after, *limit)))
        }
        Query::PartsRead { upload, after, limit } => {
            let here = upload.home == home && multipart::completed(table, *upload).is_some();
            if !here {
                return Err(Refusal::NoSuchUpload);
            }
            Ok(parts(table, *upload, None, true, (*after, *limit)))
        }
        Query::Extents { blob, from, limit } => extents(table, home, *blob, *from, *limit),
    }
}

fn object(table: &Table, home: ShardId, bucket: BucketId, key: &str) -> Result<Reading, Refusal> {
    let slot = table.get(&space::object(bucket, key.as_bytes())).ok_or(Refusal::NoSuchKey)?;
    let head = record::head::<ObjectHead>(slot);
    let pins = match head.content {
        ContentHead::Inline => None,
        ContentHead::Blob(opened) | ContentHead::Parts(opened) => Some(BlobId { home, opened }),
    };
    let plan = Plan::Object { home, head, committed: slot.committed };
    Ok(Reading { plan, bodies: alloc::vec![slot.body.clone()], pins })
}

fn extents(
    table: &Table,
    home: ShardId,
    blob: BlobId,
    from: u32,
    limit: u32,
) -> Result<Reading, Refusal> {
    let head = if blob.home == home { blob::find(table, blob) } else { None };
    let head = head.ok_or(Refusal::NoSuchBlob)?;
    let count = match head.kind {
        BlobKind::Chunks { extents, .. } => extents,
        BlobKind::Upload { .. } => 0,
    };
    let upto = from.saturating_add(limit.min(EXTENTS_MAX)).min(count);
    let mut bodies = Vec::new();
    for seq in from..upto {
        let Some(slot) = table.get(&space::extent(blob, seq)) else {
            // Extents go first when a blob is collected.
            return Err(Refusal::NoSuchBlob);
        };
        bodies.push(slot.body.clone());
    }
    let root = match head.life {
        Life::Part { upload } => BlobId { home, opened: upload },
        _ => blob,
    };
    Ok(Reading { plan: Plan::Extents { truncated: upto < count }, bodies, pins: Some(root) })
}

/// An upload to a key: its record while it is in progress, or that it is completed.
fn upload_of(
    table: &Table,
    home: ShardId,
    (bucket, key): (BucketId, &str),
    upload: BlobId,
) -> Result<(Option<UploadHead>, bool), Refusal> {
    let record = (upload.home == home).then(|| space::upload(bucket, key.as_bytes(), upload));
    let record = record.ok_or(Refusal::NoSuchUpload)?;
    let progress = record::find::<UploadHead>(table, &record);
    let completed = multipart::completed(table, upload)
        .is_some_and(|(of, name, _)| of == bucket && name == key.as_bytes());
    if progress.is_none() && !completed {
        return Err(Refusal::NoSuchUpload);
    }
    Ok((progress, completed))
}

/// A page of an upload's parts.
fn parts(
    table: &Table,
    upload: BlobId,
    progress: Option<UploadHead>,
    completed: bool,
    (after, limit): (u16, u32),
) -> Reading {
    let all = space::parts(upload);
    let from = space::part(upload, after);
    let (mut parts, mut bodies, mut inline) = (Vec::new(), Vec::new(), None);
    let mut truncated = false;
    for (key, slot) in table.scan(&all, Bound::Excluded(&from)) {
        if parts.len() as u64 == u64::from(limit.min(PAGE_MAX)) {
            truncated = limit > 0;
            break;
        }
        let Some(number) = space::part_number(key) else { continue };
        let head = record::head::<PartHead>(slot);
        // Of a completed upload only the last part can be short enough to be inline.
        if completed && head.content == ContentHead::Inline {
            inline = Some(parts.len());
            bodies = alloc::vec![slot.body.clone()];
        }
        parts.push((number, head));
    }
    let attributes = progress.map(|head| head.attributes).unwrap_or_default();
    let plan = Plan::Parts { home: upload.home, parts, inline, truncated, attributes };
    Reading { plan, bodies, pins: completed.then_some(upload) }
}

/// A page of the bucket's objects in this shard.
#[must_use]
pub fn list_objects(table: &Table, bucket: BucketId, list: &ListObjects) -> Listing {
    let mut walk = Walk::new(space::objects(bucket), &list.prefix, list.delimiter.as_deref());
    match &list.from {
        ListFrom::Start => {}
        ListFrom::After(key) if !walk.is_common_prefix(key) => {
            walk.skip_to(Bound::Excluded(space::object(bucket, key.as_bytes())));
        }
        ListFrom::After(prefix) | ListFrom::AfterPrefix(prefix) => {
            walk.skip_past(&space::object(bucket, prefix.as_bytes()));
        }
    }
    let start = space::object(bucket, list.prefix.as_bytes());
    let mut listing = Listing::default();
    let mut last = None;
    let limit = list.limit.min(PAGE_MAX) as usize;
    while let Some((key, slot)) = walk.seek(table, &start) {
        let Some(name) = space::object_key(key).map(text) else { break };
        if listing.objects.len() + listing.common_prefixes.len() == limit {
            listing.next = last;
            break;
        }
        if let Some(prefix) = walk.common_prefix(&name) {
            walk.skip_past(&space::object(bucket, prefix.as_bytes()));
            last = Some(ListFrom::AfterPrefix(prefix.clone()));
            listing.common_prefixes.push(prefix);
        } else {
            walk.skip_to(Bound::Excluded(Key::from(key)));
            last = Some(ListFrom::After(name.clone()));
            listing.objects.push(listed(name, slot));
        }
    }
    listing
}

/// A page of the bucket's uploads in progress in this shard.
#[must_use]
pub fn list_uploads(table: &Table, home: ShardId, list: &ListUploads) -> UploadsPage {
    let bucket = list.bucket;
    let mut walk = Walk::new(space::uploads(bucket), &list.prefix, list.delimiter.as_deref());
    match &list.after {
        None => {}
        Some((key, None)) if walk.is_common_prefix(key) => {
            walk.skip_past(&space::uploads_with_prefix(bucket, key.as_bytes()));
        }
        Some((key, None)) => walk.skip_past(&space::uploads_of(bucket, key.as_bytes())),
        Some((key, Some(upload))) => {
            walk.skip_to(Bound::Excluded(space::upload(bucket, key.as_bytes(), *upload)));
        }
    }
    let start = space::uploads_with_prefix(bucket, list.prefix.as_bytes());
    let mut page = UploadsPage::default();
    let limit = list.limit.min(PAGE_MAX) as usize;
    while let Some((record, slot)) = walk.seek(table, &start) {
        let Some((name, upload)) = space::parse_upload(home, record) else { break };
        if page.uploads.len() + page.common_prefixes.len() == limit {
            page.truncated = limit > 0;
            break;
        }
        let key = text(&name);
        if let Some(prefix) = walk.common_prefix(&key) {
            walk.skip_past(&space::uploads_with_prefix(bucket, prefix.as_bytes()));
            page.common_prefixes.push(prefix);
        } else {
            walk.skip_to(Bound::Excluded(Key::from(record)));
            let initiated = record::head::<UploadHead>(slot).initiated;
            page.uploads.push(ListedUpload { key, upload, initiated });
        }
    }
    page
}

/// A walk over one bucket's keys that can jump.
struct Walk<'a> {
    prefix: &'a str,
    delimiter: Option<&'a str>,
    from: Bound<Key>,
}

impl<'a> Walk<'a> {
    fn new(bucket: Key, prefix: &'a str, delimiter: Option<&'a str>) -> Self {
        let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty());
        Self { prefix, delimiter, from: Bound::Included(bucket) }
    }

    /// The next record at or after where the walk is, among those that begin with `start`.
    fn seek<'t>(&self, table: &'t Table, start: &'t [u8]) -> Option<(&'t [u8], &'t Slot)> {
        let from = match &self.from {
            Bound::Included(key) => Bound::Included(&**key),
            Bound::Excluded(key) => Bound::Excluded(&**key),
            Bound::Unbounded => return None,
        };
        table.scan(start, from).next()
    }

    fn skip_to(&mut self, from: Bound<Key>) {
        self.from = from;
    }

    /// Jumps past every key that begins with this.
    fn skip_past(&mut self, prefix: &[u8]) {
        let after = space::after_prefix(prefix).map(Key::from);
        self.from = after.map_or(Bound::Unbounded, Bound::Included);
    }

    /// The common prefix that a key falls under, if it does.
    fn common_prefix(&self, key: &str) -> Option<String> {
        let (rest, delimiter) = (key.strip_prefix(self.prefix)?, self.delimiter?);
        let end = self.prefix.len() + rest.find(delimiter)? + delimiter.len();
        key.get(..end).map(String::from)
    }

    /// Whether a marker is a common prefix of this listing, and so stands for all keys below it: clients
    /// of the first listing version give the last common prefix back as their marker.
    fn is_common_prefix(&self, marker: &str) -> bool {
        self.common_prefix(marker).is_some_and(|prefix| prefix == marker)
    }
}

fn listed(key: String, slot: &Slot) -> ListedObject {
    let ObjectHead { bytes, etag, modified, .. } = record::head(slot);
    ListedObject { key, bytes, etag, modified }
}

/// A key as text, which it was when it was put.
fn text(key: &[u8]) -> String {
    match core::str::from_utf8(key) {
        Ok(key) => key.into(),
        Err(error) => panic!("an object's key is not text: {error}"),
    }
}

fn content(home: ShardId, head: ContentHead, inline: Octets) -> Content {
    let blob = |opened: Index| BlobId { home, opened };
    match head {
        ContentHead::Inline => Content::Inline(inline),
        ContentHead::Blob(opened) => Content::Blob(blob(opened)),
        ContentHead::Parts(opened) => Content::Parts { upload: blob(opened) },
    }
}
