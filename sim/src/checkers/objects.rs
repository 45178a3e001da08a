//! S3's promises: every key of every bucket a register of entity tags, and every bucket name a register
//! of bucket ids.
//!
//! - Read-after-write, conditional writes as compare-and-swap, complete as one atomic write: the register.
//! - List-after-write: a page is a read of every key in its range, at one instant each within the
//!   page's interval; pages and shards are no snapshot of each other.
//! - Deleting a bucket never loses an acknowledged object: a deletion that succeeds, and any answer
//!   `NoSuchBucket`, is a read of **nothing** of every key in the bucket.
//! - A request that succeeded, or that found no key, says that the bucket was there at that instant.
//!
//! Linearizability is checked key by key, which is a necessary condition for the whole.

use super::linearizable::{Interval, Model};
use super::{Violation, explain};
use crate::history::Entry;
use crate::workload::content::Contents;
use ironseed_core::object::api::{
    Answer, Condition, ETag, ListFrom, ListObjects, Listing, Refusal, Request,
};
use ironseed_core::types::{BlobId, BucketId};
use std::collections::{BTreeMap, BTreeSet};

/// One key of one bucket name.
#[derive(Clone, Copy, Debug)]
pub struct ObjectKey;

/// What tags an object has: the number that a client made them of, or none.
pub type Tags = Option<u64>;

/// An operation on a key.
#[derive(Clone, Debug)]
pub enum ObjectOp {
    /// A read: the entity tag there, or nothing.
    Read(Option<ETag>),
    /// A read that shows the object's tags too.
    Look(ETag, Tags),
    /// A put, a completed upload, or a deletion (`None`).
    Write {
        /// What is there after it.
        etag: Option<ETag>,
        /// What it demanded.
        condition: Condition,
        /// Whether it was applied; `None` if nobody knows.
        applied: Option<bool>,
        /// The upload that it completes, if that was asked for more than once: it happens once.
        once: Option<BlobId>,
    },
    /// New tags for the object that is there, or may be.
    Tag(Tags),
}

/// What a key can be in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyState {
    there: Option<(ETag, Tags)>,
    /// Uploads that were completed, of those for which that was asked more than once.
    completed: BTreeSet<BlobId>,
}

impl KeyState {
    fn now(&self, there: Option<(ETag, Tags)>) -> Self {
        Self { there, completed: self.completed.clone() }
    }
}

impl Model for ObjectKey {
    type State = KeyState;
    type Op = ObjectOp;

    fn initial(&self) -> KeyState {
        KeyState::default()
    }

    fn apply(&self, state: &KeyState, op: &ObjectOp) -> Vec<KeyState> {
        let there = state.there.map(|(etag, _)| etag);
        let next = match op {
            ObjectOp::Read(found) => (*found == there).then(|| state.clone()),
            ObjectOp::Look(etag, tags) => {
                (state.there == Some((*etag, *tags))).then(|| state.clone())
            }
            ObjectOp::Tag(tags) => there.map(|etag| state.now(Some((etag, *tags)))),
            ObjectOp::Write { applied, once: Some(upload), .. }
                if state.completed.contains(upload) =>
            {
                (*applied != Some(false)).then(|| state.clone())
            }
            ObjectOp::Write { etag, condition, applied, once } => {
                let holds = match condition {
                    Condition::None => true,
                    Condition::Absent => there.is_none(),
                    Condition::Present => there.is_some(),
                    Condition::Is(wanted) => there == Some(*wanted),
                };
                match applied {
                    Some(false) => (!holds).then(|| state.clone()),
                    Some(true) | None => holds.then(|| {
                        let mut next = state.now(etag.map(|etag| (etag, None)));
                        next.completed.extend(once);
                        next
                    }),
                }
            }
        };
        next.into_iter().collect()
    }
}

/// One bucket name.
#[derive(Clone, Copy, Debug)]
pub struct BucketName;

/// What a name can be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketState {
    there: bool,
    /// Its id; `None` while nobody has seen it.
    id: Option<BucketId>,
    /// The highest id known to have been given to this name. Later buckets have higher ones.
    floor: BucketId,
}

/// An operation on a bucket name.
#[derive(Clone, Copy, Debug)]
pub enum BucketOp {
    /// A creation that made this bucket; `None` if nobody knows.
    Create(Option<BucketId>),
    /// A deletion that succeeded, or may have.
    Delete,
    /// An answer that needs the bucket, with its id where it says so.
    There(Option<BucketId>),
    /// An answer that denies it.
    Missing,
}

impl Model for BucketName {
    type State = BucketState;
    type Op = BucketOp;

    fn initial(&self) -> BucketState {
        BucketState::default()
    }

    fn apply(&self, state: &BucketState, op: &BucketOp) -> Vec<BucketState> {
        let next = match *op {
            BucketOp::Create(Some(id)) => (!state.there && id > state.floor)
                .then_some(BucketState { there: true, id: Some(id), floor: id }),
            BucketOp::Create(None) => {
                (!state.there).then_some(BucketState { there: true, id: None, ..*state })
            }
            BucketOp::Delete => {
                state.there.then_some(BucketState { there: false, id: None, ..*state })
            }
            BucketOp::There(None) => state.there.then_some(*state),
            BucketOp::There(Some(id)) => match state.id {
                Some(known) => (state.there && known == id).then_some(*state),
                None => (state.there && id > state.floor).then_some(BucketState {
                    there: true,
                    id: Some(id),
                    floor: id,
                }),
            },
            BucketOp::Missing => (!state.there).then_some(*state),
        };
        next.into_iter().collect()
    }
}

/// Histories by what they are about.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// By bucket name and key.
    pub objects: BTreeMap<(String, String), Vec<Interval<ObjectOp>>>,
    /// By name.
    pub buckets: BTreeMap<String, Vec<Interval<BucketOp>>>,
}

/// Splits a history by bucket and key.
#[must_use]
pub fn split(entries: &[Entry], contents: &Contents) -> Split {
    let mut split = Split::default();
    let repeated = repeated_completions(entries);
    for entry in entries {
        if let Some((bucket, key)) = object_of(&entry.request) {
            let history = split.objects.entry((bucket.clone(), key.clone())).or_default();
            if let Some(op) = object_op(entry, contents, &repeated) {
                history.push(interval(entry, op));
            }
        }
        if let Some((bucket, op)) = bucket_op(entry) {
            split.buckets.entry(bucket.into()).or_default().push(interval(entry, op));
        }
    }
    for entry in entries {
        add_listing(entry, &mut split.objects);
        add_bucket_listing(entry, &mut split.buckets);
        add_bucket_absence(entry, &mut split.objects);
    }
    split
}

fn interval<Op>(entry: &Entry, op: Op) -> Interval<Op> {
    Interval { called: entry.called, returned: entry.returned, op }
}

/// The key that a request is about.
fn object_of(request: &Request) -> Option<(&String, &String)> {
    match request {
        Request::PutObject { bucket, key, .. }
        | Request::GetObject { bucket, key }
        | Request::DeleteObject { bucket, key, .. }
        | Request::PutTags { bucket, key, .. }
        | Request::CompleteUpload { bucket, key, .. } => Some((bucket, key)),
        _ => None,
    }
}

/// Uploads whose completion was asked for more than once.
fn repeated_completions(entries: &[Entry]) -> BTreeSet<BlobId> {
    let mut seen = BTreeSet::new();
    let mut repeated = BTreeSet::new();
    for entry in entries {
        if let Request::CompleteUpload { upload, .. } = &entry.request
            && !seen.insert(*upload)
        {
            repeated.insert(*upload);
        }
    }
    repeated
}

fn object_op(entry: &Entry, contents: &Contents, repeated: &BTreeSet<BlobId>) -> Option<ObjectOp> {
    let once = match &entry.request {
        Request::CompleteUpload { upload, .. } => repeated.get(upload).copied(),
        _ => None,
    };
    let write = |etag, condition| match &entry.outcome {
        None => Some(ObjectOp::Write { etag, condition, applied: None, once }),
        Some(Ok(_)) => Some(ObjectOp::Write { etag, condition, applied: Some(true), once }),
        Some(Err(Refusal::PreconditionFailed)) => {
            Some(ObjectOp::Write { etag, condition, applied: Some(false), once })
        }
        Some(Err(Refusal::NoSuchKey)) => Some(ObjectOp::Read(None)),
        Some(Err(_)) => None,
    };
    match &entry.request {
        Request::PutObject { object, condition, .. } => write(Some(object.etag), *condition),
        Request::DeleteObject { condition, .. } => write(None, *condition),
        Request::CompleteUpload { parts, condition, .. } => {
            write(Some(contents.completed_etag(parts)), *condition)
        }
        Request::GetObject { .. } => match &entry.outcome {
            Some(Ok(Answer::Object(object))) => {
                Some(ObjectOp::Look(object.etag, tags_of(&object.attributes.tags)))
            }
            Some(Err(Refusal::NoSuchKey)) => Some(ObjectOp::Read(None)),
            _ => None,
        },
        Request::PutTags { tags, .. } => match &entry.outcome {
            None | Some(Ok(_)) => Some(ObjectOp::Tag(tags_of(tags))),
            Some(Err(Refusal::NoSuchKey)) => Some(ObjectOp::Read(None)),
            Some(Err(_)) => None,
        },
        _ => None,
    }
}

/// The number that these tags were made of; for any that no client makes, one that none has.
fn tags_of(tags: &[(String, String)]) -> Tags {
    let (first, rest) = tags.split_first()?;
    let number = first.1.parse().ok().filter(|_| rest.is_empty() && first.0 == TAG);
    Some(number.unwrap_or(u64::MAX))
}

/// The one tag that clients put on objects; its value is a number.
pub const TAG: &str = "number";

fn bucket_op(entry: &Entry) -> Option<(&str, BucketOp)> {
    let bucket = entry.request.bucket()?;
    let op = match (&entry.request, &entry.outcome) {
        (Request::CreateBucket { .. }, None) => BucketOp::Create(None),
        (Request::CreateBucket { .. }, Some(Ok(Answer::Bucket(made)))) => {
            BucketOp::Create(Some(made.id))
        }
        (Request::CreateBucket { .. }, Some(Err(Refusal::BucketAlreadyOwnedByYou))) => {
            BucketOp::There(None)
        }
        (Request::DeleteBucket { .. }, None | Some(Ok(_))) => BucketOp::Delete,
        (Request::HeadBucket { .. }, Some(Ok(Answer::Bucket(found)))) => {
            BucketOp::There(Some(found.id))
        }
        (_, Some(Err(Refusal::NoSuchBucket))) => BucketOp::Missing,
        // Of parts, a repeated completion and an abortion, an answer may be remembered from an upload
        // that outlived its bucket's last look-up: they say nothing of the bucket now.
        (
            Request::PutObject { .. }
            | Request::GetObject { .. }
            | Request::DeleteObject { .. }
            | Request::ListObjects(_)
            | Request::ListUploads { .. }
            | Request::PutTags { .. }
            | Request::CreateUpload { .. }
            | Request::DeleteBucket { .. },
            Some(
                Ok(_)
                | Err(Refusal::NoSuchKey | Refusal::PreconditionFailed | Refusal::BucketNotEmpty),
            ),
        ) => BucketOp::There(None),
        _ => return None,
    };
    Some((bucket, op))
}

/// A page reads every key of its range.
fn add_listing(entry: &Entry, objects: &mut BTreeMap<(String, String), Vec<Interval<ObjectOp>>>) {
    let (Request::ListObjects(list), Some(Ok(Answer::Listing(page)))) =
        (&entry.request, &entry.outcome)
    else {
        return;
    };
    for found in &page.objects {
        objects.entry((list.bucket.clone(), found.key.clone())).or_default();
    }
    let shown: BTreeMap<&str, ETag> =
        page.objects.iter().map(|found| (found.key.as_str(), found.etag)).collect();
    for ((bucket, key), history) in objects {
        if *bucket != list.bucket || !covers(list, page, key) {
            continue;
        }
        let found = shown.get(key.as_str()).copied();
        history.push(interval(entry, ObjectOp::Read(found)));
    }
}

/// Whether the page says by itself if this key was there.
fn covers(list: &ListObjects, page: &Listing, key: &str) -> bool {
    if list.limit == 0 || !key.starts_with(&list.prefix) || !follows(&list.from, key) {
        return false;
    }
    // What the next page begins with is not this page's business.
    if page.next.as_ref().is_some_and(|next| follows(next, key)) {
        return false;
    }
    let prefix = common_prefix(list, key);
    prefix.is_none_or(|prefix| !page.common_prefixes.iter().any(|shown| shown == prefix))
}

fn follows(from: &ListFrom, key: &str) -> bool {
    match from {
        ListFrom::Start => true,
        ListFrom::After(after) => key > after.as_str(),
        ListFrom::AfterPrefix(prefix) => key > prefix.as_str() && !key.starts_with(prefix),
    }
}

fn common_prefix<'a>(list: &ListObjects, key: &'a str) -> Option<&'a str> {
    let delimiter = list.delimiter.as_deref()?;
    let rest = key.strip_prefix(list.prefix.as_str())?;
    let at = rest.find(delimiter)?;
    key.get(..list.prefix.len() + at + delimiter.len())
}

/// A page of bucket names reads every name of its range.
fn add_bucket_listing(entry: &Entry, buckets: &mut BTreeMap<String, Vec<Interval<BucketOp>>>) {
    let (
        Request::ListBuckets { prefix, after, limit },
        Some(Ok(Answer::Buckets { buckets: shown, truncated })),
    ) = (&entry.request, &entry.outcome)
    else {
        return;
    };
    if *limit == 0 {
        return;
    }
    for found in shown {
        buckets.entry(found.name.clone()).or_default();
    }
    let last = shown.last().filter(|_| *truncated).map(|last| last.name.as_str());
    for (name, history) in buckets {
        let inside = name.starts_with(prefix.as_str())
            && after.as_ref().is_none_or(|after| name > after)
            && last.is_none_or(|last| name.as_str() <= last);
        if inside {
            let found = shown.iter().find(|found| found.name == *name);
            let op = found.map_or(BucketOp::Missing, |found| BucketOp::There(Some(found.id)));
            history.push(interval(entry, op));
        }
    }
}

/// Where there is no bucket there is no object.
fn add_bucket_absence(
    entry: &Entry,
    objects: &mut BTreeMap<(String, String), Vec<Interval<ObjectOp>>>,
) {
    let deleted = matches!(entry.request, Request::DeleteBucket { .. })
        && matches!(entry.outcome, Some(Ok(_)));
    let denied = matches!(entry.outcome, Some(Err(Refusal::NoSuchBucket)));
    let Some(bucket) = entry.request.bucket().filter(|_| deleted || denied) else { return };
    for ((name, _), history) in objects {
        if name == bucket {
            history.push(interval(entry, ObjectOp::Read(None)));
        }
    }
}

/// What registers do not cover: the form of pages, tags that no client made, sizes, and that a
/// completed upload has the tag of its parts.
pub fn check_forms(entries: &[Entry], contents: &Contents, violations: &mut Vec<Violation>) {
    for entry in entries {
        let wrong = match (&entry.request, &entry.outcome) {
            (Request::ListObjects(list), Some(Ok(Answer::Listing(page)))) => malformed(list, page)
                .or_else(|| {
                    page.objects.iter().find_map(|found| unknown(found.etag, found.bytes, contents))
                }),
            (Request::GetObject { .. }, Some(Ok(Answer::Object(object)))) => {
                unknown(object.etag, object.bytes, contents)
            }
            (Request::CompleteUpload { parts, .. }, Some(Ok(Answer::Written { etag, .. })))
                if *etag != contents.completed_etag(parts) =>
            {
                Some(format!("parts make {}, not {etag}", contents.completed_etag(parts)))
            }
            (Request::PutObject { object, .. }, Some(Ok(Answer::Written { etag, .. })))
                if *etag != object.etag =>
            {
                Some(format!("put {}, told {etag}", object.etag))
            }
            _ => None,
        };
        violations.extend(wrong.map(|what| {
            Violation::new("objects", entry.called, format!("{what}\n{}", explain(entry)))
        }));
    }
}

fn unknown(etag: ETag, bytes: u64, contents: &Contents) -> Option<String> {
    match contents.len(etag) {
        None => Some(format!("nobody wrote {etag}")),
        Some(len) if len != bytes => Some(format!("{etag} has {len} bytes, shown as {bytes}")),
        Some(_) => None,
    }
}

fn malformed(list: &ListObjects, page: &Listing) -> Option<String> {
    let rising = page.objects.windows(2).all(|pair| pair[0].key < pair[1].key)
        && page.common_prefixes.is_sorted_by(|a, b| a < b);
    let count = page.objects.len() + page.common_prefixes.len();
    let alien = page.objects.iter().find(|found| {
        !found.key.starts_with(&list.prefix)
            || !follows(&list.from, &found.key)
            || common_prefix(list, &found.key).is_some()
    });
    let prefix = page.common_prefixes.iter().find(|prefix| {
        common_prefix(list, prefix) != Some(prefix.as_str())
            || matches!(&list.from, ListFrom::AfterPrefix(after) if *prefix <= after)
    });
    if !rising {
        Some("the page does not rise".into())
    } else if count > list.limit as usize {
        Some(format!("{count} entries where {} were asked for", list.limit))
    } else if let Some(alien) = alien {
        Some(format!("{:?} does not belong on the page", alien.key))
    } else {
        prefix.map(|prefix| format!("{prefix:?} is no common prefix of the page"))
    }
}

#[cfg(test)]
mod tests;
