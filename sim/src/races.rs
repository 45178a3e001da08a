//! What happened at the same time: read off a history when a run is over.
//!
//! A deletion of a bucket proves little if nobody was writing to it, and the race that matters most is
//! the one in which the deletion could not reach every shard at once. Both are counted, so that a swarm in which
//! they never happen is seen.

use crate::history::{Entry, History};
use crate::stats::Stats;
use ironseed_core::object::api::{Answer, Content, NewObject, Refusal, Request};
use ironseed_core::types::{BlobId, NodeId};
use std::collections::BTreeMap;

/// When each node could not reach some other node.
#[derive(Clone, Debug, Default)]
pub struct Parted {
    since: BTreeMap<NodeId, u64>,
    /// Node, from, to: world time.
    over: Vec<(NodeId, u64, u64)>,
}

impl Parted {
    /// Whether a node is parted from some other from now on.
    pub fn note(&mut self, now: u64, node: NodeId, parted: bool) {
        if parted {
            self.since.entry(node).or_insert(now);
        } else if let Some(since) = self.since.remove(&node) {
            self.over.push((node, since, now));
        }
    }

    /// Whether any node was parted from another at some time between these.
    #[must_use]
    pub fn overlaps(&self, from: u64, to: u64) -> bool {
        self.since.values().any(|since| *since <= to)
            || self.over.iter().any(|(_, start, end)| *start <= to && from <= *end)
    }
}

/// Counts the races of a run.
pub fn count(history: &History, parted: &Parted, rare: &mut BTreeMap<String, u64>) {
    let mut writes: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    let mut bodies: BTreeMap<&str, BTreeMap<BlobId, Span>> = BTreeMap::new();
    for entry in history.entries() {
        let Some(bucket) = written(&entry.request) else { continue };
        writes.entry(bucket).or_default().push(entry);
        if let Some(blob) = blob_of(entry) {
            let span = bodies.entry(bucket).or_default().entry(blob).or_insert_with(|| span(entry));
            span.1 = span.1.max(end(entry));
        }
    }
    for deletion in history.entries() {
        let Request::DeleteBucket { bucket } = &deletion.request else { continue };
        if matches!(deletion.outcome, Some(Err(Refusal::NoSuchBucket))) {
            continue;
        }
        let writes = writes.get(bucket.as_str()).map_or(&[][..], Vec::as_slice);
        let mut racing =
            writes.iter().filter(|write| overlap(span(deletion), span(write))).peekable();
        let mut bodies = bodies.get(bucket.as_str()).into_iter().flat_map(BTreeMap::values);
        let loaded = racing.peek().is_some() || bodies.any(|body| overlap(span(deletion), *body));
        if loaded && matches!(deletion.outcome, Some(Ok(_))) {
            Stats::count(rare, "bucket-deleted-under-load", 1);
        }
        // While both are under way: what comes of it is the checkers' business.
        let raced = racing.any(|write| {
            let is_put = matches!(write.request, Request::PutObject { .. });
            let from = deletion.called.max(write.called);
            let to = end(deletion).min(end(write));
            is_put && parted.overlaps(from, to)
        });
        if raced {
            Stats::count(rare, "put-raced-bucket-deletion-under-partition", 1);
        }
    }
}

/// The bucket that a put, or a step of a multipart upload, writes to.
fn written(request: &Request) -> Option<&str> {
    match request {
        Request::PutObject { bucket, .. }
        | Request::OpenBlob { bucket, .. }
        | Request::CreateUpload { bucket, .. }
        | Request::PutPart { bucket, .. }
        | Request::CompleteUpload { bucket, .. } => Some(bucket),
        _ => None,
    }
}

/// The upload, or the body that goes up in pieces, that a write is a step of.
fn blob_of(entry: &Entry) -> Option<BlobId> {
    match (&entry.request, &entry.outcome) {
        (Request::OpenBlob { .. }, Some(Ok(Answer::Blob { blob }))) => Some(*blob),
        (Request::CreateUpload { .. }, Some(Ok(Answer::Upload { upload }))) => Some(*upload),
        (Request::PutObject { object: NewObject { content: Content::Blob(blob), .. }, .. }, _) => {
            Some(*blob)
        }
        (Request::PutPart { upload, .. } | Request::CompleteUpload { upload, .. }, _) => {
            Some(*upload)
        }
        _ => None,
    }
}

/// From and to: world time.
type Span = (u64, u64);

fn span(entry: &Entry) -> Span {
    (entry.called, end(entry))
}

const fn overlap(one: Span, other: Span) -> bool {
    one.0 <= other.1 && other.0 <= one.1
}

/// When a call was answered. One that never was is taken to have ended soon: for a count, less is safer.
fn end(entry: &Entry) -> u64 {
    entry.returned.unwrap_or(entry.called + OPEN_CALL)
}

/// Nanoseconds.
const OPEN_CALL: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use ironseed_core::object::api::{Attributes, Condition, ETag, Outcome};
    use ironseed_core::types::{Index, ShardId};

    fn put() -> Request {
        let object = NewObject {
            attributes: Attributes::default(),
            bytes: 0,
            etag: ETag { md5: [0; 16], parts: 0 },
            content: Content::Inline(Vec::new().into()),
        };
        let (bucket, key) = ("b".into(), "k".into());
        Request::PutObject { bucket, key, object, condition: Condition::None }
    }

    fn counts(calls: &[(Request, u64, u64, Outcome)], parted: (u64, u64)) -> [u64; 2] {
        let mut history = History::default();
        for (request, called, returned, outcome) in calls {
            let call = history.call(*called, 0, NodeId(1), request).expect("it is looked at");
            history.returned(call, *returned, outcome);
        }
        let mut parts = Parted::default();
        parts.note(parted.0, NodeId(1), true);
        parts.note(parted.1, NodeId(1), false);
        let mut rare = BTreeMap::new();
        count(&history, &parts, &mut rare);
        ["bucket-deleted-under-load", "put-raced-bucket-deletion-under-partition"]
            .map(|name| rare.get(name).copied().unwrap_or(0))
    }

    #[test]
    fn a_deletion_is_under_load_only_while_a_write_to_its_bucket_is_under_way() {
        let delete = |bucket: &str| Request::DeleteBucket { bucket: bucket.into() };
        let done = || Ok(Answer::Done);
        let raced = [(put(), 10, 20, done()), (delete("b"), 15, 30, done())];
        assert_eq!(counts(&raced, (0, 9)), [1, 0], "whole again when they raced");
        assert_eq!(counts(&raced, (0, 16)), [1, 1]);
        assert_eq!(counts(&raced, (21, 40)), [1, 0], "parted after the put was answered");
        let after = [(put(), 10, 14, done()), (delete("b"), 15, 30, done())];
        assert_eq!(counts(&after, (0, 40)), [0, 0]);
        let other = [(put(), 10, 20, done()), (delete("c"), 15, 30, done())];
        assert_eq!(counts(&other, (0, 40)), [0, 0]);
        let refused =
            [(put(), 10, 20, done()), (delete("b"), 15, 30, Err(Refusal::BucketNotEmpty))];
        assert_eq!(counts(&refused, (0, 40)), [0, 1]);
        let upload = BlobId { home: ShardId(0), opened: Index(7) };
        let (bucket, key) = (String::from("b"), String::from("k"));
        let begin = Request::CreateUpload {
            bucket: bucket.clone(),
            key: key.clone(),
            attributes: Attributes::default(),
        };
        let complete = Request::CompleteUpload {
            bucket,
            key,
            upload,
            parts: Vec::new(),
            checksum: None,
            condition: Condition::None,
        };
        let begun = (begin, 10, 12, Ok(Answer::Upload { upload }));
        let deleted = (delete("b"), 15, 30, done());
        assert_eq!(counts(&[begun.clone(), deleted.clone()], (0, 40)), [0, 0], "given up before");
        let completed = (complete, 40, 45, Err(Refusal::NoSuchBucket));
        assert_eq!(counts(&[begun, deleted, completed], (0, 40)), [1, 0], "in the middle of it");
        let missing = [(put(), 10, 20, done()), (delete("b"), 15, 30, Err(Refusal::NoSuchBucket))];
        assert_eq!(counts(&missing, (0, 40)), [0, 0]);
    }
}
