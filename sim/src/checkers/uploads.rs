//! Multipart uploads: each is there from its creation until it is completed, aborted or deleted with its
//! bucket, and every page of uploads in progress shows exactly those that are.
//!
//! An upload is its own little object with its own history, checked like any other: pages, parts and
//! completions that say the upload is there, and those that deny it. A completion that is asked for again is
//! answered as the first one was, to the timestamp.

use super::linearizable::{Interval, Model};
use super::{Violation, explain};
use crate::history::Entry;
use ironseed_core::object::api::{Answer, ETag, ListedUpload, Refusal, Request};
use ironseed_core::types::{BlobId, Timestamp};
use std::collections::BTreeMap;

/// One upload.
#[derive(Clone, Copy, Debug)]
pub struct Upload;

/// What an upload can be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum UploadState {
    /// Not created yet.
    #[default]
    Unborn,
    /// In progress.
    Open,
    /// An object.
    Completed,
    /// Given up.
    Gone,
}

/// An operation on an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadOp {
    /// It was created, or may have been.
    Create,
    /// An answer that needs it in progress.
    There,
    /// An answer that denies it.
    Missing,
    /// It was completed, perhaps once more, or may have been.
    Complete,
    /// It was aborted, or may have been.
    Abort,
    /// Its bucket was deleted, or may have been.
    BucketDeleted,
}

impl Model for Upload {
    type State = UploadState;
    type Op = UploadOp;

    fn initial(&self) -> UploadState {
        UploadState::Unborn
    }

    fn apply(&self, state: &UploadState, op: &UploadOp) -> Vec<UploadState> {
        use UploadState::{Completed, Gone, Open, Unborn};
        let next = match (op, *state) {
            (UploadOp::Create, Unborn) | (UploadOp::There, Open) => Some(Open),
            (UploadOp::Missing | UploadOp::BucketDeleted, state @ (Unborn | Completed | Gone)) => {
                Some(state)
            }
            (UploadOp::Complete, Open | Completed) => Some(Completed),
            (UploadOp::Abort | UploadOp::BucketDeleted, Open) => Some(Gone),
            _ => None,
        };
        next.into_iter().collect()
    }
}

/// Histories by bucket, key and upload.
pub type Split = BTreeMap<(String, String, BlobId), Vec<Interval<UploadOp>>>;

/// Splits a history by upload.
#[must_use]
pub fn split(entries: &[Entry]) -> Split {
    let mut split = Split::new();
    for entry in entries {
        if let (Request::CreateUpload { bucket, key, .. }, Some(Ok(Answer::Upload { upload }))) =
            (&entry.request, &entry.outcome)
        {
            push(&mut split, (bucket, key, *upload), entry, UploadOp::Create);
        }
    }
    for entry in entries {
        for shown in page(entry).map_or(&[][..], |(_, shown)| shown) {
            add_unanswered(entry, shown, entries, &mut split);
        }
    }
    for entry in entries {
        if let Some((name, op)) = own_op(entry)
            && let Some(history) = split.get_mut(&name)
        {
            history.push(interval(entry, op));
        }
        add_page(entry, &mut split);
        add_bucket(entry, &mut split);
    }
    split
}

fn interval(entry: &Entry, op: UploadOp) -> Interval<UploadOp> {
    Interval { called: entry.called, returned: entry.returned, op }
}

fn push(
    split: &mut Split,
    (bucket, key, upload): (&str, &str, BlobId),
    entry: &Entry,
    op: UploadOp,
) {
    let name = (bucket.into(), key.into(), upload);
    split.entry(name).or_default().push(interval(entry, op));
}

/// A page may show an upload whose creation was never answered: then there was such a call.
fn add_unanswered(page: &Entry, shown: &ListedUpload, entries: &[Entry], split: &mut Split) {
    let Request::ListUploads { bucket: listed, .. } = &page.request else { return };
    let name = (listed.clone(), shown.key.clone(), shown.upload);
    if split.contains_key(&name) {
        return;
    }
    let made_it = entries.iter().find(|entry| {
        let Request::CreateUpload { bucket, key, .. } = &entry.request else { return false };
        entry.outcome.is_none() && bucket == listed && *key == shown.key
    });
    let history = split.entry(name).or_default();
    history.extend(made_it.map(|entry| interval(entry, UploadOp::Create)));
}

/// What a request on one upload says of it.
fn own_op(entry: &Entry) -> Option<((String, String, BlobId), UploadOp)> {
    let (Request::PutPart { bucket, key, upload, .. }
    | Request::CompleteUpload { bucket, key, upload, .. }
    | Request::AbortUpload { bucket, key, upload }) = &entry.request
    else {
        return None;
    };
    let op = match (&entry.request, &entry.outcome) {
        (_, Some(Err(Refusal::NoSuchUpload))) => UploadOp::Missing,
        (Request::PutPart { .. }, Some(Ok(_))) => UploadOp::There,
        (Request::CompleteUpload { .. }, None | Some(Ok(_))) => UploadOp::Complete,
        (
            Request::CompleteUpload { .. },
            Some(Err(Refusal::PreconditionFailed | Refusal::NoSuchKey | Refusal::InvalidPart)),
        ) => UploadOp::There,
        (Request::AbortUpload { .. }, None | Some(Ok(_))) => UploadOp::Abort,
        _ => return None,
    };
    Some(((bucket.clone(), key.clone(), *upload), op))
}

fn page(entry: &Entry) -> Option<(bool, &[ListedUpload])> {
    match (&entry.request, &entry.outcome) {
        (Request::ListUploads { .. }, Some(Ok(Answer::Uploads { uploads, truncated, .. }))) => {
            Some((*truncated, uploads))
        }
        _ => None,
    }
}

/// A page reads every upload of its range.
fn add_page(entry: &Entry, split: &mut Split) {
    let Some((truncated, shown)) = page(entry) else { return };
    let Request::ListUploads { bucket: listed, prefix, after, limit, .. } = &entry.request else {
        return;
    };
    let last = shown.last().filter(|_| truncated).map(|last| (last.key.as_str(), last.upload));
    for ((bucket, key, upload), history) in split {
        let begins = after.as_ref().is_none_or(|(after, inside)| match inside {
            None => key > after,
            Some(inside) => (key, upload) > (after, inside),
        });
        let ends = last.is_none_or(|last| (key.as_str(), *upload) <= last);
        if bucket != listed || *limit == 0 || !key.starts_with(prefix.as_str()) || !begins || !ends
        {
            continue;
        }
        let is_shown = shown.iter().any(|found| found.upload == *upload && found.key == *key);
        history.push(interval(entry, if is_shown { UploadOp::There } else { UploadOp::Missing }));
    }
}

/// Where there is no bucket there is no upload, and none outlives it.
fn add_bucket(entry: &Entry, split: &mut Split) {
    let (bucket, op) = match (&entry.request, &entry.outcome) {
        (Request::DeleteBucket { bucket }, None | Some(Ok(_))) => (bucket, UploadOp::BucketDeleted),
        (
            Request::DeleteBucket { bucket }
            | Request::HeadBucket { bucket }
            | Request::ListUploads { bucket, .. }
            | Request::CreateUpload { bucket, .. },
            Some(Err(Refusal::NoSuchBucket)),
        ) => (bucket, UploadOp::Missing),
        _ => return,
    };
    for ((name, ..), history) in split {
        if name == bucket {
            history.push(interval(entry, op));
        }
    }
}

/// What the histories of single uploads do not cover: the form of pages, and completions that are repeated.
pub fn check_forms(entries: &[Entry], violations: &mut Vec<Violation>) {
    let mut completed: BTreeMap<BlobId, (ETag, Timestamp)> = BTreeMap::new();
    for entry in entries {
        let wrong = match (&entry.request, &entry.outcome) {
            (
                Request::ListUploads { prefix, limit, .. },
                Some(Ok(Answer::Uploads { uploads, .. })),
            ) => malformed(prefix, *limit, uploads),
            (
                Request::CompleteUpload { upload, .. },
                Some(Ok(Answer::Written { etag, committed })),
            ) => {
                let first = *completed.entry(*upload).or_insert((*etag, *committed));
                (first != (*etag, *committed))
                    .then(|| format!("{upload:?} was completed as {first:?} before"))
            }
            _ => None,
        };
        violations.extend(wrong.map(|what| {
            Violation::new("objects", entry.called, format!("{what}\n{}", explain(entry)))
        }));
    }
}

fn malformed(prefix: &str, limit: u32, uploads: &[ListedUpload]) -> Option<String> {
    let place = |listed: &ListedUpload| (listed.key.clone(), listed.upload);
    let rising = uploads.windows(2).all(|pair| place(&pair[0]) < place(&pair[1]));
    let alien = uploads.iter().find(|listed| !listed.key.starts_with(prefix));
    if !rising {
        Some("the page does not rise".into())
    } else if uploads.len() > limit as usize {
        Some(format!("{} uploads where {limit} were asked for", uploads.len()))
    } else {
        alien.map(|alien| format!("{:?} does not belong on the page", alien.key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::linearizable::{Verdict, check};
    use super::*;
    use ironseed_core::object::api::{Attributes, Condition, Outcome};
    use ironseed_core::types::{Index, NodeId, ShardId};

    const UPLOAD: BlobId = BlobId { home: ShardId(1), opened: Index(5) };

    fn entry(called: u64, request: Request, outcome: Option<Outcome>) -> Entry {
        let returned = outcome.is_some().then_some(called + 5);
        Entry { client: 1, node: NodeId(1), called, returned, request, outcome }
    }

    fn create(called: u64, answered: bool) -> Entry {
        let (bucket, key, attributes) = ("b".into(), "k".into(), Attributes::default());
        let outcome = answered.then_some(Ok(Answer::Upload { upload: UPLOAD }));
        entry(called, Request::CreateUpload { bucket, key, attributes }, outcome)
    }

    fn list(called: u64, shown: bool) -> Entry {
        let (bucket, prefix, delimiter, after) = ("b".into(), String::new(), None, None);
        let request = Request::ListUploads { bucket, prefix, delimiter, after, limit: 9 };
        let upload = ListedUpload { key: "k".into(), upload: UPLOAD, initiated: 0 };
        let uploads = shown.then_some(upload).into_iter().collect();
        let page = Answer::Uploads { uploads, common_prefixes: Vec::new(), truncated: false };
        entry(called, request, Some(Ok(page)))
    }

    fn complete(called: u64, outcome: Outcome) -> Entry {
        let (bucket, key, upload, parts) = ("b".into(), "k".into(), UPLOAD, Vec::new());
        let (checksum, condition) = (None, Condition::None);
        let request = Request::CompleteUpload { bucket, key, upload, parts, checksum, condition };
        entry(called, request, Some(outcome))
    }

    fn written(committed: u64) -> Outcome {
        let etag = ETag { md5: [1; 16], parts: 1 };
        Ok(Answer::Written { etag, committed: Timestamp(committed) })
    }

    fn deleted(called: u64) -> Entry {
        entry(called, Request::DeleteBucket { bucket: "b".into() }, Some(Ok(Answer::Done)))
    }

    fn holds(entries: &[Entry]) -> bool {
        split(entries).values().all(|history| check(&Upload, history) == Verdict::Linearizable)
    }

    #[test]
    fn pages_show_exactly_what_is_in_progress() {
        assert!(holds(&[
            create(0, true),
            list(10, true),
            complete(20, written(1)),
            list(30, false)
        ]));
        assert!(!holds(&[create(0, true), list(10, false)]));
        assert!(!holds(&[create(0, true), complete(20, written(1)), list(30, true)]));
        assert!(holds(&[create(0, true), list(3, false), list(4, true)]), "overlapping");
        assert!(holds(&[create(0, true), deleted(10), list(30, false)]));
        assert!(!holds(&[create(0, true), deleted(10), list(30, true)]));
        assert!(!holds(&[create(0, true), complete(10, Err(Refusal::NoSuchUpload))]));
    }

    #[test]
    fn an_upload_on_a_page_was_created_by_somebody() {
        assert!(holds(&[create(0, false), list(10, true), list(20, true)]));
        assert!(!holds(&[list(10, true)]));
        assert!(!holds(&[list(10, true), create(20, false)]));
    }

    #[test]
    fn a_completion_may_be_repeated_and_says_the_same() {
        let repeated =
            |second| [create(0, true), complete(10, written(1)), complete(20, written(second))];
        assert!(holds(&repeated(1)));
        let wrongs = |entries: &[Entry]| {
            let mut wrongs = Vec::new();
            check_forms(entries, &mut wrongs);
            wrongs.len()
        };
        assert_eq!(wrongs(&repeated(1)), 0);
        assert_eq!(wrongs(&repeated(2)), 1);
    }
}
