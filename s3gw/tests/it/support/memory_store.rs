//! A store in memory with the meaning of every request, checked harder than the real one needs to be.

use super::{ACCESS_KEY, SECRET_KEY};
use bytes::Bytes;
use ironseed_core::object::api::{
    Answer, Attributes, BucketInfo, CHUNK_BYTES, ChunkRef, Content, ETag, EXTENT_CHUNKS_MAX,
    INLINE_BYTES_MAX, ListFrom, ListObjects, ListedObject, ListedUpload, Listing, NamedPart,
    Object, Outcome, PART_BYTES_MIN, Part, Refusal, Request, StagedChunk,
};
use ironseed_core::types::{BlobId, BucketId, ChunkHash, ChunkId, Index, ShardId, Timestamp};
use ironseed_s3gw::Store;
use md5::{Digest, Md5};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

#[derive(Default)]
struct Bucket {
    info: Option<BucketInfo>,
    objects: BTreeMap<String, Object>,
}

struct Upload {
    bucket: String,
    key: String,
    attributes: Attributes,
    initiated: u64,
    parts: BTreeMap<u16, Part>,
    completed: Option<ETag>,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<String, Bucket>,
    uploads: BTreeMap<BlobId, Upload>,
    blobs: BTreeMap<BlobId, Vec<Vec<ChunkRef>>>,
    named: BTreeSet<BlobId>,
    chunks: BTreeMap<ChunkId, Bytes>,
    ticks: u64,
}

pub(crate) struct MemoryStore {
    region: &'static str,
    state: Mutex<State>,
    pub(crate) ready: AtomicBool,
    /// How long a chunk takes to be written or read, in milliseconds.
    pub(crate) chunk_ms: AtomicUsize,
    chunks_under_way: AtomicUsize,
    pub(crate) chunks_under_way_max: AtomicUsize,
    /// What every request but chunk traffic is refused with.
    pub(crate) refusal: Mutex<Option<Refusal>>,
}

impl Store for MemoryStore {
    async fn call(&self, request: Request) -> Outcome {
        if matches!(request, Request::WriteChunk { .. } | Request::ReadChunk { .. }) {
            let now = self.chunks_under_way.fetch_add(1, Ordering::Relaxed) + 1;
            self.chunks_under_way_max.fetch_max(now, Ordering::Relaxed);
            let millis = self.chunk_ms.load(Ordering::Relaxed) as u64;
            tokio::time::sleep(Duration::from_millis(millis)).await;
            self.chunks_under_way.fetch_sub(1, Ordering::Relaxed);
        } else if let Some(refusal) = self.refusal.lock().expect("not poisoned").clone() {
            return Err(refusal);
        }
        self.state().answer(request)
    }

    fn credentials(&self, access_key: &str) -> Option<String> {
        (access_key == ACCESS_KEY).then(|| SECRET_KEY.to_owned())
    }

    fn region(&self) -> &str {
        self.region
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

impl MemoryStore {
    pub(crate) fn new(region: &'static str) -> Self {
        Self {
            region,
            state: Mutex::default(),
            ready: AtomicBool::new(true),
            chunk_ms: AtomicUsize::new(0),
            chunks_under_way: AtomicUsize::new(0),
            chunks_under_way_max: AtomicUsize::new(0),
            refusal: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no request panics")
    }

    /// The keys of every object, as `bucket/key`.
    pub(crate) fn keys(&self) -> Vec<String> {
        let state = self.state();
        let buckets = state.buckets.iter();
        buckets
            .flat_map(|(name, bucket)| {
                bucket.objects.keys().map(move |key| format!("{name}/{key}"))
            })
            .collect()
    }

    pub(crate) fn bucket_names(&self) -> Vec<String> {
        self.state().buckets.keys().cloned().collect()
    }

    /// Blobs that no record names.
    pub(crate) fn staged(&self) -> usize {
        let state = self.state();
        state.blobs.keys().filter(|blob| !state.named.contains(blob)).count()
    }

    /// Parts of uploads that are not completed.
    pub(crate) fn parts(&self) -> usize {
        let state = self.state();
        state
            .uploads
            .values()
            .filter(|upload| upload.completed.is_none())
            .map(|upload| upload.parts.len())
            .sum()
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        // A fixed day, so that snapshots don't change: 2026-01-02 03:04:05 and on by a second.
        (1_767_323_045 + self.ticks) * 1_000_000_000
    }

    fn blob(&mut self) -> BlobId {
        self.ticks += 1;
        BlobId { home: ShardId(7), opened: Index(self.ticks) }
    }

    fn bucket(&mut self, name: &str) -> Result<&mut Bucket, Refusal> {
        self.buckets.get_mut(name).ok_or(Refusal::NoSuchBucket)
    }

    fn upload(&mut self, bucket: &str, key: &str, upload: BlobId) -> Result<&mut Upload, Refusal> {
        self.bucket(bucket)?;
        let found = self.uploads.get_mut(&upload);
        found
            .filter(|upload| upload.bucket == bucket && upload.key == key)
            .ok_or(Refusal::NoSuchUpload)
    }

    /// Takes over content that a record is about to name, and checks that it is all there.
    fn take(&mut self, content: &Content, bytes: u64) -> Result<(), Refusal> {
        match content {
            Content::Inline(octets) => {
                assert!(
                    octets.len() <= INLINE_BYTES_MAX && octets.len() as u64 == bytes,
                    "{bytes} inline"
                );
            }
            Content::Blob(blob) => {
                let extents = self.blobs.get(blob).ok_or(Refusal::NoSuchBlob)?;
                let chunks: Vec<&ChunkRef> = extents.iter().flatten().collect();
                assert_eq!(chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum::<u64>(), bytes);
                let (_, full) = chunks.split_last().expect("a blob has chunks");
                assert!(full.iter().all(|chunk| chunk.bytes as usize == CHUNK_BYTES));
                self.named.insert(*blob);
            }
            Content::Parts { .. } => panic!("only a completion makes these"),
        }
        Ok(())
    }

    fn answer(&mut self, request: Request) -> Outcome {
        match request {
            Request::CreateBucket { bucket } => {
                if self.buckets.contains_key(&bucket) {
                    return Err(Refusal::BucketAlreadyOwnedByYou);
                }
                let created = self.tick();
                let info = BucketInfo { name: bucket.clone(), id: BucketId(self.ticks), created };
                self.buckets
                    .insert(bucket, Bucket { info: Some(info.clone()), ..Bucket::default() });
                Ok(Answer::Bucket(info))
            }
            Request::DeleteBucket { bucket } => {
                if !self.bucket(&bucket)?.objects.is_empty() {
                    return Err(Refusal::BucketNotEmpty);
                }
                self.buckets.remove(&bucket);
                Ok(Answer::Done)
            }
            Request::HeadBucket { bucket } => {
                Ok(Answer::Bucket(self.bucket(&bucket)?.info.clone().expect("made with it")))
            }
            Request::ListBuckets { prefix, after, limit } => {
                let all = self.buckets.iter().filter(|(name, _)| {
                    name.starts_with(&prefix) && after.as_ref().is_none_or(|after| *name > after)
                });
                let all: Vec<BucketInfo> =
                    all.filter_map(|(_, bucket)| bucket.info.clone()).collect();
                let truncated = all.len() > limit as usize;
                let buckets = all.into_iter().take(limit as usize).collect();
                Ok(Answer::Buckets { buckets, truncated })
            }
            Request::PutObject { bucket, key, object, condition } => {
                let current = self.bucket(&bucket)?.objects.get(&key).map(|object| object.etag);
                condition.check(current.as_ref())?;
                self.take(&object.content, object.bytes)?;
                let modified = self.tick();
                let committed = Timestamp(modified);
                let etag = object.etag;
                let object = Object {
                    attributes: object.attributes,
                    bytes: object.bytes,
                    etag,
                    content: object.content,
                    committed,
                    modified,
                };
                self.bucket(&bucket)?.objects.insert(key, object);
                Ok(Answer::Written { etag, committed })
            }
            Request::GetObject { bucket, key } => Ok(Answer::Object(
                self.bucket(&bucket)?.objects.get(&key).cloned().ok_or(Refusal::NoSuchKey)?,
            )),
            Request::DeleteObject { bucket, key, condition } => {
                let objects = &mut self.bucket(&bucket)?.objects;
                condition.check(objects.get(&key).map(|object| &object.etag))?;
                objects.remove(&key);
                Ok(Answer::Done)
            }
            Request::PutTags { bucket, key, tags } => {
                let object =
                    self.bucket(&bucket)?.objects.get_mut(&key).ok_or(Refusal::NoSuchKey)?;
                object.attributes.tags = tags;
                Ok(Answer::Done)
            }
            Request::ListObjects(list) => self.list(&list),
            Request::Kv(_) => panic!("the gateway has no business there"),
            multipart => self.answer_multipart(multipart),
        }
    }

    fn answer_multipart(&mut self, request: Request) -> Outcome {
        match request {
            Request::CreateUpload { bucket, key, attributes } => {
                self.bucket(&bucket)?;
                let (id, initiated) = (self.blob(), self.tick());
                let upload = Upload {
                    bucket,
                    key,
                    attributes,
                    initiated,
                    parts: BTreeMap::new(),
                    completed: None,
                };
                self.uploads.insert(id, upload);
                Ok(Answer::Upload { upload: id })
            }
            Request::PutPart { bucket, key, upload, number, part } => {
                if self.upload(&bucket, &key, upload)?.completed.is_some() {
                    return Err(Refusal::NoSuchUpload);
                }
                self.take(&part.content, part.bytes)?;
                let modified = self.tick();
                let part = Part {
                    number,
                    bytes: part.bytes,
                    md5: part.md5,
                    checksum: part.checksum,
                    modified,
                    content: part.content,
                };
                self.upload(&bucket, &key, upload)?.parts.insert(number, part);
                Ok(Answer::Done)
            }
            Request::ReadParts { upload, after, limit } => {
                let found = self.uploads.get(&upload).filter(|found| found.completed.is_some());
                let found = found.ok_or(Refusal::NoSuchUpload)?;
                let all: Vec<Part> =
                    found.parts.values().filter(|part| part.number > after).cloned().collect();
                let truncated = all.len() > limit as usize;
                let parts = all.into_iter().take(limit as usize).collect();
                Ok(Answer::Parts { parts, truncated, attributes: Attributes::default() })
            }
            Request::ListParts { bucket, key, upload, after, limit } => {
                let found = self.upload(&bucket, &key, upload)?;
                let all: Vec<Part> =
                    found.parts.values().filter(|part| part.number > after).cloned().collect();
                let truncated = all.len() > limit as usize;
                let parts = all.into_iter().take(limit as usize).collect();
                Ok(Answer::Parts {
                    parts,
                    truncated,
                    attributes: match found.completed {
                        Some(_) => Attributes::default(),
                        None => found.attributes.clone(),
                    },
                })
            }
            Request::CompleteUpload { bucket, key, upload, parts, checksum, condition } => {
                let current = self.bucket(&bucket)?.objects.get(&key).map(|object| object.etag);
                let found = self.upload(&bucket, &key, upload)?;
                if let Some(etag) = found.completed {
                    return Ok(Answer::Written { etag, committed: Timestamp(1) });
                }
                condition.check(current.as_ref())?;
                let (etag, bytes) = complete(found, &parts)?;
                found.completed = Some(etag);
                let attributes =
                    Attributes { checksum, upload_checksum: None, ..found.attributes.clone() };
                let modified = self.tick();
                let committed = Timestamp(modified);
                let content = Content::Parts { upload };
                let object = Object { attributes, bytes, etag, content, committed, modified };
                self.bucket(&bucket)?.objects.insert(key, object);
                Ok(Answer::Written { etag, committed })
            }
            Request::AbortUpload { bucket, key, upload } => {
                if self.upload(&bucket, &key, upload)?.completed.is_some() {
                    return Err(Refusal::NoSuchUpload);
                }
                self.uploads.remove(&upload);
                Ok(Answer::Done)
            }
            Request::ListUploads { bucket, prefix, delimiter, after, limit } => {
                self.bucket(&bucket)?;
                Ok(self.list_uploads(&bucket, &prefix, delimiter.as_deref(), after.as_ref(), limit))
            }
            chunks => self.answer_chunks(chunks),
        }
    }

    fn answer_chunks(&mut self, request: Request) -> Outcome {
        match request {
            Request::OpenBlob { bucket, .. } => {
                self.bucket(&bucket)?;
                let blob = self.blob();
                self.blobs.insert(blob, Vec::new());
                Ok(Answer::Blob { blob })
            }
            Request::WriteChunk { blob, bytes } => {
                assert!(!bytes.is_empty() && bytes.len() <= CHUNK_BYTES);
                let hash = ChunkHash::of(&bytes);
                let staged = StagedChunk { hash, bytes: bytes.len() as u32, holders: Vec::new() };
                self.chunks.insert(ChunkId { blob, hash }, bytes.0);
                Ok(Answer::Staged(staged))
            }
            Request::AppendExtent { blob, seq, chunks } => {
                let extents = self.blobs.get_mut(&blob).ok_or(Refusal::NoSuchBlob)?;
                if !chunks.is_empty() {
                    assert_eq!(seq as usize, extents.len(), "extents in order");
                    assert!(chunks.len() <= EXTENT_CHUNKS_MAX);
                    let chunks = chunks
                        .iter()
                        .map(|chunk| ChunkRef { hash: chunk.hash, bytes: chunk.bytes });
                    extents.push(chunks.collect());
                }
                Ok(Answer::Done)
            }
            Request::DropBlob { blob } => {
                if !self.named.contains(&blob) {
                    self.blobs.remove(&blob);
                    self.chunks.retain(|chunk, _| chunk.blob != blob);
                }
                Ok(Answer::Done)
            }
            Request::ReadExtents { blob, from, limit } => {
                let extents = self.blobs.get(&blob).ok_or(Refusal::NoSuchBlob)?;
                let page: Vec<_> =
                    extents.iter().skip(from as usize).take(limit as usize).cloned().collect();
                let truncated = from as usize + page.len() < extents.len();
                Ok(Answer::Extents { extents: page, truncated })
            }
            Request::ReadChunk { chunk } => {
                let bytes = self.chunks.get(&chunk).cloned().ok_or(Refusal::ChunkUnavailable)?;
                Ok(Answer::Chunk(bytes.into()))
            }
            other => panic!("not handled before: {other:?}"),
        }
    }

    fn list(&mut self, list: &ListObjects) -> Outcome {
        let mut listing = Listing::default();
        let objects = &self.bucket(&list.bucket)?.objects;
        for (key, object) in objects.iter().filter(|(key, _)| key.starts_with(&list.prefix)) {
            let common = common_prefix(key, &list.prefix, list.delimiter.as_deref());
            let before = match &list.from {
                ListFrom::Start => false,
                ListFrom::After(after) => key <= after,
                ListFrom::AfterPrefix(prefix) => key < prefix || key.starts_with(prefix),
            };
            if before
                || (common.is_some() && common == listing.common_prefixes.last().cloned())
                || list.limit == 0
            {
                continue;
            }
            if listing.objects.len() + listing.common_prefixes.len() == list.limit as usize {
                let last_key = listing.objects.last().map(|object| object.key.clone());
                let last_prefix = listing.common_prefixes.last().cloned();
                listing.next = Some(if last_prefix > last_key {
                    ListFrom::AfterPrefix(last_prefix.unwrap_or_default())
                } else {
                    ListFrom::After(last_key.unwrap_or_default())
                });
                break;
            }
            match common {
                Some(prefix) => listing.common_prefixes.push(prefix),
                None => listing.objects.push(ListedObject {
                    key: key.clone(),
                    bytes: object.bytes,
                    etag: object.etag,
                    modified: object.modified,
                }),
            }
        }
        Ok(Answer::Listing(listing))
    }

    fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&(String, Option<BlobId>)>,
        limit: u32,
    ) -> Answer {
        let mut all: Vec<(&String, BlobId, &Upload)> = self
            .uploads
            .iter()
            .filter(|(_, upload)| upload.bucket == bucket && upload.completed.is_none())
            .map(|(id, upload)| (&upload.key, *id, upload))
            .filter(|(key, id, _)| {
                key.starts_with(prefix)
                    && after.is_none_or(|(after, upload)| match upload {
                        Some(upload) => (*key, *id) > (after, *upload),
                        None => *key > after,
                    })
            })
            .collect();
        all.sort_by_key(|(key, id, _)| (*key, *id));
        let (mut uploads, mut common_prefixes, mut truncated) =
            (Vec::new(), Vec::<String>::new(), false);
        for (key, upload, found) in all {
            let common = common_prefix(key, prefix, delimiter);
            if common.is_some() && common == common_prefixes.last().cloned() {
                continue;
            }
            if uploads.len() + common_prefixes.len() == limit as usize {
                truncated = true;
                break;
            }
            match common {
                Some(common) => common_prefixes.push(common),
                None => uploads.push(ListedUpload {
                    key: key.clone(),
                    upload,
                    initiated: found.initiated,
                }),
            }
        }
        Answer::Uploads { uploads, common_prefixes, truncated }
    }
}

fn common_prefix(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    let delimiter = delimiter?;
    let at = key[prefix.len()..].find(delimiter)?;
    Some(key[..prefix.len() + at + delimiter.len()].to_owned())
}

fn complete(upload: &mut Upload, parts: &[NamedPart]) -> Result<(ETag, u64), Refusal> {
    let (mut md5, mut bytes) = (Md5::new(), 0);
    for (at, named) in parts.iter().enumerate() {
        let part = upload.parts.get(&named.number).filter(|part| part.md5 == named.md5);
        let part = part.ok_or(Refusal::InvalidPart)?;
        if part.bytes < PART_BYTES_MIN && at + 1 < parts.len() {
            return Err(Refusal::PartTooSmall);
        }
        md5.update(part.md5);
        bytes += part.bytes;
    }
    upload.parts.retain(|number, _| parts.iter().any(|named| named.number == *number));
    Ok((ETag { md5: md5.finalize().into(), parts: parts.len() as u16 }, bytes))
}
