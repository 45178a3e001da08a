//! Histories of objects and buckets whose verdict a person can see.

use super::super::linearizable::{Verdict, check};
use super::*;
use crate::workload::content::Body;
use ironseed_core::object::api::{
    Attributes, BucketInfo, Content, ListedObject, NewObject, Object, Outcome,
};
use ironseed_core::types::{NodeId, Timestamp};

#[derive(Default)]
struct Script {
    entries: Vec<Entry>,
    contents: Contents,
}

impl Script {
    fn add(&mut self, called: u64, request: Request, outcome: Option<Outcome>) -> &mut Self {
        let returned = outcome.is_some().then_some(called + 5);
        self.entries.push(Entry { client: 1, node: NodeId(1), called, returned, request, outcome });
        self
    }

    fn object(&mut self, seed: u64) -> NewObject {
        let body = Body { seed, len: 10 };
        let etag = self.contents.put(body);
        let content = Content::Inline(body.bytes().into());
        NewObject { attributes: Attributes::default(), bytes: 10, etag, content }
    }

    fn put(&mut self, called: u64, seed: u64, condition: Condition, outcome: Option<Outcome>) {
        let object = self.object(seed);
        let (bucket, key) = ("b".into(), "k".into());
        self.add(called, Request::PutObject { bucket, key, object, condition }, outcome);
    }

    fn written(&mut self, seed: u64) -> Option<Outcome> {
        let etag = self.object(seed).etag;
        Some(Ok(Answer::Written { etag, committed: Timestamp(1) }))
    }

    fn get(&mut self, called: u64, seed: Option<u64>) {
        let outcome = match seed.map(|seed| self.object(seed)) {
            None => Err(Refusal::NoSuchKey),
            Some(new) => Ok(Answer::Object(Object {
                attributes: new.attributes,
                bytes: new.bytes,
                etag: new.etag,
                content: new.content,
                committed: Timestamp(1),
                modified: 0,
            })),
        };
        let request = Request::GetObject { bucket: "b".into(), key: "k".into() };
        self.add(called, request, Some(outcome));
    }

    fn list(&mut self, called: u64, seed: Option<u64>) {
        let list = ListObjects {
            bucket: "b".into(),
            prefix: String::new(),
            delimiter: None,
            from: ListFrom::Start,
            limit: 10,
        };
        let objects = seed.map(|seed| self.object(seed)).map(|new| ListedObject {
            key: "k".into(),
            bytes: new.bytes,
            etag: new.etag,
            modified: 0,
        });
        let page = Listing { objects: objects.into_iter().collect(), ..Listing::default() };
        self.add(called, Request::ListObjects(list), Some(Ok(Answer::Listing(page))));
    }

    fn delete_bucket(&mut self, called: u64, outcome: Option<Outcome>) {
        self.add(called, Request::DeleteBucket { bucket: "b".into() }, outcome);
    }

    fn create_bucket(&mut self, called: u64, id: u64) {
        let made = BucketInfo { name: "b".into(), id: BucketId(id), created: 0 };
        let request = Request::CreateBucket { bucket: "b".into() };
        self.add(called, request, Some(Ok(Answer::Bucket(made))));
    }

    /// Whether the key's and the bucket's histories are linearizable.
    fn holds(&self) -> (bool, bool) {
        let split = split(&self.entries, &self.contents);
        let key = split.objects.values().all(|key| check(&ObjectKey, key) == Verdict::Linearizable);
        let buckets = split.buckets.values();
        let bucket =
            buckets.into_iter().all(|name| check(&BucketName, name) == Verdict::Linearizable);
        (key, bucket)
    }

    /// A bucket with one object in it.
    fn with_object() -> Self {
        let mut script = Self::default();
        script.create_bucket(0, 1);
        let written = script.written(1);
        script.put(10, 1, Condition::None, written);
        script
    }
}

#[test]
fn a_listing_after_a_write_shows_it_and_nothing_older() {
    let mut script = Script::with_object();
    script.list(20, Some(1));
    assert_eq!(script.holds(), (true, true));
    script.list(30, None);
    assert_eq!(script.holds(), (false, true));
    let mut script = Script::with_object();
    let written = script.written(2);
    script.put(20, 2, Condition::None, written);
    script.list(30, Some(1));
    assert_eq!(script.holds(), (false, true));
}

#[test]
fn conditions_are_compare_and_swap() {
    let mut script = Script::with_object();
    script.put(20, 2, Condition::Absent, Some(Err(Refusal::PreconditionFailed)));
    script.get(30, Some(1));
    assert_eq!(script.holds(), (true, true));
    let written = script.written(3);
    script.put(40, 3, Condition::Absent, written);
    assert_eq!(script.holds(), (false, true));
}

#[test]
fn tags_are_the_last_ones_put_and_go_with_their_object() {
    let tags = |number: u64| vec![(TAG.to_string(), number.to_string())];
    let put_tags = |script: &mut Script, called, tags| {
        let (bucket, key) = ("b".into(), "k".into());
        script.add(called, Request::PutTags { bucket, key, tags }, Some(Ok(Answer::Done)));
    };
    let look = |script: &mut Script, called, tags: Vec<(String, String)>| {
        script.get(called, Some(1));
        let Some(Some(Ok(Answer::Object(object)))) =
            script.entries.last_mut().map(|entry| &mut entry.outcome)
        else {
            panic!("a read")
        };
        object.attributes.tags = tags;
    };
    let mut script = Script::with_object();
    put_tags(&mut script, 20, tags(7));
    look(&mut script, 30, tags(7));
    assert_eq!(script.holds(), (true, true));
    look(&mut script, 40, Vec::new());
    assert_eq!(script.holds(), (false, true), "they are lost");
    let mut script = Script::with_object();
    put_tags(&mut script, 20, tags(7));
    let written = script.written(1);
    script.put(30, 1, Condition::None, written);
    look(&mut script, 40, tags(7));
    assert_eq!(script.holds(), (false, true), "they have outlived their object");
    let mut script = Script::with_object();
    look(&mut script, 20, vec![("alien".into(), "7".into())]);
    assert_eq!(script.holds(), (false, true));
}

#[test]
fn a_completion_that_is_repeated_happens_once() {
    let upload = BlobId { home: ironseed_core::types::ShardId(0), opened: Default::default() };
    let complete = |script: &mut Script, called| {
        let (etag, committed) = (script.contents.completed_etag(&[]), Timestamp(1));
        let request = Request::CompleteUpload {
            bucket: "b".into(),
            key: "k".into(),
            upload,
            parts: Vec::new(),
            checksum: None,
            condition: Condition::None,
        };
        script.add(called, request, Some(Ok(Answer::Written { etag, committed })));
    };
    let mut script = Script::with_object();
    complete(&mut script, 20);
    let written = script.written(2);
    script.put(30, 2, Condition::None, written);
    complete(&mut script, 40);
    let mut once = Script { entries: script.entries.clone(), ..Script::default() };
    once.get(50, Some(2));
    assert_eq!(once.holds(), (true, true));
    script.get(50, None);
    assert_eq!(script.holds(), (false, true));
    // The second one has put the first one's bytes back.
    let Some(last) = script.entries.last_mut() else { panic!("a read") };
    last.outcome = once.entries.last().and_then(|entry| entry.outcome.clone());
    let Some(Ok(Answer::Object(object))) = &mut last.outcome else { panic!("an object") };
    object.etag = script.contents.completed_etag(&[]);
    assert_eq!(script.holds(), (false, true));
}

#[test]
fn deleting_a_bucket_never_loses_an_acknowledged_object() {
    let mut script = Script::with_object();
    script.delete_bucket(20, Some(Ok(Answer::Done)));
    assert_eq!(script.holds(), (false, true));
    let mut script = Script::with_object();
    script.delete_bucket(20, Some(Err(Refusal::BucketNotEmpty)));
    script.get(30, Some(1));
    assert_eq!(script.holds(), (true, true));
}

#[test]
fn an_unknown_deletion_of_a_bucket_may_have_happened_once() {
    let mut script = Script::default();
    script.create_bucket(0, 1);
    script.delete_bucket(10, None);
    script.create_bucket(20, 2);
    assert_eq!(script.holds(), (true, true));
    script.create_bucket(30, 3);
    assert_eq!(script.holds(), (true, false));
}

#[test]
fn bucket_ids_are_never_reused() {
    let mut script = Script::default();
    script.create_bucket(0, 4);
    script.delete_bucket(10, Some(Ok(Answer::Done)));
    script.create_bucket(20, 4);
    assert_eq!(script.holds(), (true, false));
}

#[test]
fn denying_a_bucket_denies_its_objects() {
    let mut script = Script::with_object();
    let request = Request::HeadBucket { bucket: "b".into() };
    script.add(20, request, Some(Err(Refusal::NoSuchBucket)));
    assert_eq!(script.holds(), (false, false));
}

#[test]
fn pages_cover_what_they_should() {
    let list = |prefix: &str, delimiter: Option<&str>, from| ListObjects {
        bucket: "b".into(),
        prefix: prefix.into(),
        delimiter: delimiter.map(String::from),
        from,
        limit: 10,
    };
    let all = list("", None, ListFrom::Start);
    let page = Listing::default();
    assert!(covers(&all, &page, "a/b"));
    let cut = Listing { next: Some(ListFrom::After("a".into())), ..Listing::default() };
    assert!(covers(&all, &cut, "a") && !covers(&all, &cut, "a/b"));
    let folders = list("", Some("/"), ListFrom::Start);
    assert!(covers(&folders, &page, "a/b"), "a missing common prefix denies its keys");
    let shown = Listing { common_prefixes: vec!["a/".into()], ..Listing::default() };
    assert!(!covers(&folders, &shown, "a/b") && covers(&folders, &shown, "b"));
    let after = list("", Some("/"), ListFrom::AfterPrefix("a/".into()));
    assert!(!covers(&after, &page, "a/b") && covers(&after, &page, "b"));
    assert!(!covers(&list("x", None, ListFrom::Start), &page, "a"));
}

#[test]
fn malformed_pages_and_alien_tags_are_seen() {
    let mut script = Script::with_object();
    script.get(20, Some(1));
    let mut violations = Vec::new();
    check_forms(&script.entries, &script.contents, &mut violations);
    assert!(violations.is_empty(), "{violations:?}");
    check_forms(&script.entries, &Contents::default(), &mut violations);
    assert_eq!(violations.len(), 1, "nobody wrote it");
}
