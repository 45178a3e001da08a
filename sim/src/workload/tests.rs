//! Clients against a store that keeps everything in one map: whatever they do must be linearizable, and
//! whatever it gets wrong must be seen.

use super::mix::Mix;
use super::*;
use crate::checkers::check_history;
use crate::history::History;
use ironseed_core::kv::api::{Expect, KvAnswer, KvEntry, KvRequest};
use ironseed_core::object::api::{
    BucketInfo, ChunkRef, Condition, Content, ListedObject, ListedUpload, Listing, Object, Part,
    StagedChunk,
};
use ironseed_core::types::{BlobId, BucketId, ChunkHash, Index, ShardId, Timestamp, Version};

/// How a store may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Every fortieth acknowledged write is dropped.
    LosesWrites,
    /// Conditions are not checked.
    IgnoresConditions,
    /// A chunk's bytes have a flipped bit now and then.
    Rots,
    /// A bucket is deleted with what is in it.
    DeletesFullBuckets,
    /// Listings leave out the last key.
    ListsShort,
    /// Every fifth change of tags is dropped.
    LosesTags,
    /// Uploads stay in their listing when they are completed.
    ListsDeadUploads,
    /// A completion that is asked for again writes the object again.
    CompletesAgain,
}

/// S3 and key-value semantics in one map: obviously right, and with one shard.
struct Naive {
    fault: Fault,
    index: u64,
    kv: BTreeMap<bytes::Bytes, KvEntry>,
    buckets: BTreeMap<String, (BucketId, BTreeMap<String, Object>)>,
    blobs: BTreeMap<BlobId, Vec<bytes::Bytes>>,
    uploads: BTreeMap<BlobId, NaiveUpload>,
}

struct NaiveUpload {
    bucket: BucketId,
    key: String,
    parts: BTreeMap<u16, Part>,
    completed: Option<Answer>,
}

impl Naive {
    fn new(fault: Fault) -> Self {
        let (kv, buckets) = (BTreeMap::new(), BTreeMap::new());
        let (blobs, uploads) = (BTreeMap::new(), BTreeMap::new());
        Self { fault, index: 0, kv, buckets, blobs, uploads }
    }

    fn hits(&self, fault: Fault, every: u64) -> bool {
        self.fault == fault && self.index.is_multiple_of(every)
    }

    fn handle(&mut self, request: &Request) -> Outcome {
        self.index += 1;
        let id = BlobId { home: ShardId(0), opened: Index(self.index) };
        match request {
            Request::Kv(request) => Ok(Answer::Kv(self.kv(request))),
            Request::CreateBucket { bucket } => {
                if self.buckets.contains_key(bucket) {
                    return Err(Refusal::BucketAlreadyOwnedByYou);
                }
                let made = BucketId(self.index);
                self.buckets.insert(bucket.clone(), (made, BTreeMap::new()));
                Ok(Answer::Bucket(BucketInfo { name: bucket.clone(), id: made, created: 0 }))
            }
            Request::DeleteBucket { bucket } => {
                let (_, objects) = self.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
                if !objects.is_empty() && self.fault != Fault::DeletesFullBuckets {
                    return Err(Refusal::BucketNotEmpty);
                }
                if let Some((id, _)) = self.buckets.remove(bucket) {
                    self.uploads.retain(|_, upload| upload.bucket != id);
                }
                Ok(Answer::Done)
            }
            Request::HeadBucket { bucket } => {
                let (id, _) = self.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
                Ok(Answer::Bucket(BucketInfo { name: bucket.clone(), id: *id, created: 0 }))
            }
            Request::ListBuckets { limit, .. } => {
                let info = |(name, (id, _)): (&String, &(BucketId, _))| BucketInfo {
                    name: name.clone(),
                    id: *id,
                    created: 0,
                };
                let buckets = self.buckets.iter().take(*limit as usize).map(info).collect();
                Ok(Answer::Buckets { buckets, truncated: self.buckets.len() > *limit as usize })
            }
            Request::PutObject { bucket, key, object, condition } => {
                let object = Object {
                    attributes: object.attributes.clone(),
                    bytes: object.bytes,
                    etag: object.etag,
                    content: object.content.clone(),
                    committed: Timestamp(self.index),
                    modified: 0,
                };
                self.write(bucket, key, Some(object), *condition)
            }
            Request::DeleteObject { bucket, key, condition } => {
                self.write(bucket, key, None, *condition).map(|_| Answer::Done)
            }
            Request::GetObject { bucket, key } => {
                let (_, objects) = self.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
                objects.get(key).cloned().map(Answer::Object).ok_or(Refusal::NoSuchKey)
            }
            Request::ListObjects(list) => self.list(list),
            Request::OpenBlob { bucket, .. } => {
                self.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
                self.blobs.insert(id, Vec::new());
                Ok(Answer::Blob { blob: id })
            }
            Request::CreateUpload { bucket, key, .. } => {
                let (bucket, _) = self.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
                let (key, parts) = (key.clone(), BTreeMap::new());
                let upload = NaiveUpload { bucket: *bucket, key, parts, completed: None };
                self.uploads.insert(id, upload);
                Ok(Answer::Upload { upload: id })
            }
            Request::WriteChunk { blob, bytes } => {
                let chunks = self.blobs.get_mut(blob).ok_or(Refusal::NoSuchBlob)?;
                chunks.push(bytes.0.clone());
                Ok(Answer::Staged(StagedChunk {
                    hash: ChunkHash::of(bytes),
                    bytes: bytes.len() as u32,
                    holders: Vec::new(),
                }))
            }
            Request::AppendExtent { .. }
            | Request::DropBlob { .. }
            | Request::MoveShard(_)
            | Request::ReplaceStore(_) => Ok(Answer::Done),
            Request::ReadExtents { blob, .. } => {
                let chunks = self.blobs.get(blob).ok_or(Refusal::NoSuchBlob)?;
                let chunk = |bytes: &bytes::Bytes| ChunkRef {
                    hash: ChunkHash::of(bytes),
                    bytes: bytes.len() as u32,
                };
                let extents = vec![chunks.iter().map(chunk).collect()];
                Ok(Answer::Extents { extents, truncated: false })
            }
            Request::ReadChunk { chunk } => {
                let chunks = self.blobs.get(&chunk.blob).ok_or(Refusal::NoSuchBlob)?;
                let found = chunks.iter().find(|bytes| ChunkHash::of(bytes) == chunk.hash);
                let mut bytes = found.ok_or(Refusal::NoSuchBlob)?.to_vec();
                if self.hits(Fault::Rots, 3) {
                    bytes[0] ^= 1;
                }
                Ok(Answer::Chunk(bytes.into()))
            }
            Request::PutPart { bucket, upload, number, part, .. } => {
                self.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
                let upload = self.uploads.get_mut(upload).ok_or(Refusal::NoSuchUpload)?;
                let part = Part {
                    number: *number,
                    bytes: part.bytes,
                    md5: part.md5,
                    checksum: None,
                    modified: 0,
                    content: part.content.clone(),
                };
                upload.parts.insert(*number, part);
                Ok(Answer::Done)
            }
            Request::CompleteUpload { bucket, key, upload, parts, condition, .. } => {
                self.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
                let stored = self.uploads.get(upload).ok_or(Refusal::NoSuchUpload)?;
                let before = stored.completed.clone();
                if let Some(before) = before.clone().filter(|_| self.fault != Fault::CompletesAgain)
                {
                    return Ok(before);
                }
                let object = Object {
                    attributes: Default::default(),
                    bytes: stored.parts.values().map(|part| part.bytes).sum(),
                    etag: Contents::default().completed_etag(parts),
                    content: Content::Parts { upload: *upload },
                    committed: Timestamp(self.index),
                    modified: 0,
                };
                let answer = self.write(bucket, key, Some(object), *condition)?;
                let answer = before.unwrap_or(answer);
                if let Some(upload) = self.uploads.get_mut(upload) {
                    upload.completed = Some(answer.clone());
                }
                Ok(answer)
            }
            Request::ListParts { upload, .. } | Request::ReadParts { upload, .. } => {
                let upload = self.uploads.get(upload).ok_or(Refusal::NoSuchUpload)?;
                let parts = upload.parts.values().cloned().collect();
                Ok(Answer::Parts { parts, truncated: false, attributes: Default::default() })
            }
            Request::AbortUpload { upload, .. } => {
                self.uploads.remove(upload).map(|_| Answer::Done).ok_or(Refusal::NoSuchUpload)
            }
            Request::PutTags { bucket, key, tags } => {
                let lost = self.hits(Fault::LosesTags, 5);
                let (_, objects) = self.buckets.get_mut(bucket).ok_or(Refusal::NoSuchBucket)?;
                let object = objects.get_mut(key).ok_or(Refusal::NoSuchKey)?;
                if !lost {
                    object.attributes.tags.clone_from(tags);
                }
                Ok(Answer::Done)
            }
            Request::ListUploads { bucket, after, limit, .. } => {
                let (id, _) = self.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
                let dead = self.fault == Fault::ListsDeadUploads;
                let after = after.as_ref().map(|(key, _)| key);
                let mut uploads: Vec<ListedUpload> = self
                    .uploads
                    .iter()
                    .filter(|(_, it)| it.bucket == *id && (dead || it.completed.is_none()))
                    .filter(|(_, it)| after.is_none_or(|after| it.key > *after))
                    .map(|(upload, it)| (it.key.clone(), *upload))
                    .map(|(key, upload)| ListedUpload { key, upload, initiated: 0 })
                    .collect();
                uploads.sort_by_key(|listed| (listed.key.clone(), listed.upload));
                let truncated = uploads.len() > *limit as usize;
                uploads.truncate(*limit as usize);
                Ok(Answer::Uploads { uploads, common_prefixes: Vec::new(), truncated })
            }
        }
    }

    fn write(
        &mut self,
        bucket: &str,
        key: &str,
        object: Option<Object>,
        condition: Condition,
    ) -> Outcome {
        let lost = self.hits(Fault::LosesWrites, 40);
        let checked = self.fault != Fault::IgnoresConditions;
        let (_, objects) = self.buckets.get_mut(bucket).ok_or(Refusal::NoSuchBucket)?;
        let there = objects.get(key).map(|object| object.etag);
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Present => there.is_some(),
            Condition::Is(etag) => there == Some(etag),
        };
        if !holds && checked {
            return Err(Refusal::PreconditionFailed);
        }
        let etag = object.as_ref().map(|object| object.etag);
        match object {
            Some(_) if lost => {}
            Some(object) => drop(objects.insert(key.into(), object)),
            None => drop(objects.remove(key)),
        }
        let committed = Timestamp(self.index);
        Ok(etag.map_or(Answer::Done, |etag| Answer::Written { etag, committed }))
    }

    fn list(&self, list: &ironseed_core::object::api::ListObjects) -> Outcome {
        use ironseed_core::object::api::ListFrom;
        let (_, objects) = self.buckets.get(&list.bucket).ok_or(Refusal::NoSuchBucket)?;
        let mut page = Listing::default();
        let mut last = None;
        let skip = usize::from(self.fault == Fault::ListsShort);
        for (key, object) in objects.iter().take(objects.len().saturating_sub(skip)) {
            let after = match &list.from {
                ListFrom::Start => true,
                ListFrom::After(after) => key > after,
                ListFrom::AfterPrefix(prefix) => key > prefix && !key.starts_with(prefix),
            };
            let Some(rest) = key.strip_prefix(&list.prefix).filter(|_| after) else { continue };
            let common = list.delimiter.as_ref().and_then(|delimiter| {
                rest.find(delimiter).map(|at| key[..list.prefix.len() + at + 1].to_string())
            });
            if common.is_some() && common.as_ref() == page.common_prefixes.last() {
                continue;
            }
            if page.objects.len() + page.common_prefixes.len() == list.limit as usize {
                page.next = last.filter(|_| list.limit > 0);
                break;
            }
            match common {
                Some(prefix) => {
                    last = Some(ListFrom::AfterPrefix(prefix.clone()));
                    page.common_prefixes.push(prefix);
                }
                None => {
                    last = Some(ListFrom::After(key.clone()));
                    page.objects.push(ListedObject {
                        key: key.clone(),
                        bytes: object.bytes,
                        etag: object.etag,
                        modified: 0,
                    });
                }
            }
        }
        Ok(Answer::Listing(page))
    }

    fn kv(&mut self, request: &KvRequest) -> KvAnswer {
        let version = Version(self.index);
        let committed = Timestamp(self.index);
        let lost = self.hits(Fault::LosesWrites, 40);
        let (key, value, expect) = match request {
            KvRequest::Get { key } => return KvAnswer::Value(self.kv.get(&key.0).cloned()),
            KvRequest::Scan { from, limit, .. } => {
                let found: Vec<_> =
                    self.kv.range(from.0.clone()..).map(|(_, e)| e.clone()).collect();
                let truncated = found.len() > *limit as usize;
                let entries = found.into_iter().take(*limit as usize).collect();
                return KvAnswer::Entries { entries, truncated };
            }
            KvRequest::Put { key, value, expect } => (key, Some(value), expect),
            KvRequest::Delete { key, expect } => (key, None, expect),
        };
        let there = self.kv.get(&key.0).map_or(Version(0), |entry| entry.version);
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => there == Version(0),
            Expect::Version(wanted) => there == *wanted,
        };
        if !holds && self.fault != Fault::IgnoresConditions {
            return KvAnswer::Conflict { version: there };
        }
        match value {
            Some(_) if lost => {}
            Some(value) => {
                let (key, value) = (key.clone(), value.clone());
                self.kv.insert(key.0.clone(), KvEntry { key, value, version, committed });
            }
            None => drop(self.kv.remove(&key.0)),
        }
        KvAnswer::Written { version, committed }
    }
}

/// Runs clients against a store for a while, some answers lost, and tells what was wrong.
fn run(seed: u64, fault: Fault) -> Option<String> {
    let mut draw = Draw::new(seed, Domain::Setup, &[99]);
    let mut mix = Mix::draw(&mut draw, 1, None);
    mix.operations_max = 300;
    let mut clients = Clients::new(seed, mix, None);
    let mut store = Naive::new(fault);
    let mut history = History::default();
    let up = [NodeId(1), NodeId(2)];
    let mut now = 0;
    let mut proof = false;
    loop {
        for client in 0..clients.count() {
            for issue in clients.wake(now, client, &up) {
                now += 10;
                let call = history.call(now, client, issue.node, &issue.request);
                let outcome = store.handle(&issue.request);
                now += 10;
                if !proof && draw.chance(1, 50) {
                    clients.on_outcome(now, issue.call, Err(Refusal::OutcomeUnknown));
                    continue;
                }
                if let Some(call) = call {
                    history.returned(call, now, &outcome);
                }
                assert!(clients.on_outcome(now, issue.call, outcome));
            }
            if let Some(wrong) = clients.take_wrong() {
                return Some(wrong);
            }
        }
        if clients.is_spent() && clients.is_idle() {
            if proof {
                break;
            }
            proof = true;
            clients.settle();
            clients.prove();
        }
    }
    let findings = check_history(&history, &clients.contents);
    assert_eq!(findings.given_up, 0, "seed {seed} is too hard");
    findings.violations.first().map(ToString::to_string)
}

#[test]
fn nothing_is_wrong_with_a_store_that_is_right() {
    for seed in 0..60 {
        assert_eq!(run(seed, Fault::None), None, "seed {seed}");
    }
}

#[test]
fn every_way_to_be_wrong_is_seen() {
    for fault in [
        Fault::LosesWrites,
        Fault::IgnoresConditions,
        Fault::Rots,
        Fault::DeletesFullBuckets,
        Fault::ListsShort,
        Fault::LosesTags,
        Fault::ListsDeadUploads,
        Fault::CompletesAgain,
    ] {
        let seen = (0..60).filter(|&seed| run(seed, fault).is_some()).count();
        assert!(seen > 3, "{fault:?} was seen in {seen} runs of 60");
    }
}

#[test]
fn runs_use_every_operation() {
    let mut counts = BTreeMap::new();
    for seed in 0..60 {
        let mut draw = Draw::new(seed, Domain::Setup, &[99]);
        let mix = Mix::draw(&mut draw, 4, None);
        let seen = Seen::default();
        let mut expected = draw.clone();
        for _ in 0..100 {
            *counts.entry(mix.next(&mut draw, &mut expected, &seen).name()).or_insert(0) += 1;
        }
    }
    assert_eq!(counts.len(), 20, "{counts:?}");
}
