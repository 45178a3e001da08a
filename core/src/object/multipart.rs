//! Multipart uploads. An upload is a blob whose bytes are its parts'; completing it copies nothing.
//!
//! The record of an upload in progress says that parts may be written; completing or aborting removes it.
//! Parts stay where they were written: the object names the upload, and the upload's parts name blobs of their own.
//! Completing looks at every named part, at most [`PART_NUMBER_MAX`], because it is the one moment that must
//! see them all at once; it writes only what was not named.
//!
//! The tag of a completed upload is computed here, from the parts' MD5s in the table: were it a
//! parameter, a gateway's mistake would be replicated.

use super::api::{
    Answer, Attributes, Checksum, Condition, ETag, NamedPart, NewPart, Outcome, PART_BYTES_MIN,
    PART_NUMBER_MAX, PUT_BYTES_MAX, Refusal,
};
use super::command::Target;
use super::record::{
    self, BlobHead, BlobKind, Completed, ContentHead, Life, ObjectHead, PartHead, UploadHead,
};
use super::{blob, bucket, names, put};
use crate::codec::{self, Octets};
use crate::kv::batch::Batch;
use crate::kv::cow::Key;
use crate::kv::{space, table::Table};
use crate::types::{BlobId, BucketId};
use alloc::string::ToString;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;
use md5::{Digest as _, Md5};

/// The tag of an object made of parts with these MD5s: MD5 over them, and how many there are.
#[must_use]
pub fn etag_of_parts(md5s: impl IntoIterator<Item = [u8; 16]>) -> ETag {
    let (mut hasher, mut parts) = (Md5::new(), 0_u16);
    for md5 in md5s {
        hasher.update(md5);
        parts = parts.saturating_add(1);
    }
    ETag { md5: hasher.finalize().into(), parts }
}

/// Begins an upload.
pub(super) fn create(batch: &mut Batch<'_>, target: &Target, attributes: Attributes) -> Outcome {
    bucket::check_write(batch, target)?;
    names::check_attributes(&attributes).map_err(|error| Refusal::Invalid(error.to_string()))?;
    let upload = blob::own(batch, batch.index())?;
    let (bucket, key) = (target.bucket, target.key.clone());
    let kind = BlobKind::Upload { bucket, key, completed: None };
    blob::write(batch, upload, &BlobHead { kind, life: Life::Open });
    let head = UploadHead { initiated: batch.wall(), attributes };
    batch.put(&record_key(target, upload), codec::encode(&head), Bytes::new());
    Ok(Answer::Upload { upload })
}

/// Writes a part in place of the one with its number, whose blob dies.
pub(super) fn put_part(
    batch: &mut Batch<'_>,
    target: &Target,
    upload: BlobId,
    number: u16,
    part: NewPart,
) -> Outcome {
    bucket::check_write(batch, target)?;
    if !(1..=PART_NUMBER_MAX).contains(&number) || part.bytes > PUT_BYTES_MAX {
        return Err(Refusal::Invalid("a part's number or size is out of range".into()));
    }
    in_progress(batch, target, upload)?;
    let life = Life::Part { upload: upload.opened };
    let (content, inline) = put::take_content(batch, part.content, part.bytes, life)?;
    let (bytes, md5, modified) = (part.bytes, part.md5, batch.wall());
    remove_part(batch, &space::part(upload, number));
    let head = PartHead { bytes, md5, modified, checksum: part.checksum, content };
    batch.put(&space::part(upload, number), codec::encode(&head), inline.0);
    Ok(Answer::Done)
}

/// Makes the object.
pub(super) fn complete(
    batch: &mut Batch<'_>,
    target: &Target,
    upload: BlobId,
    named: &[NamedPart],
    checksum: Option<Checksum>,
    condition: Condition,
) -> Outcome {
    bucket::check_write(batch, target)?;
    if !named.is_sorted_by(|one, next| one.number < next.number) {
        return Err(Refusal::InvalidPartOrder);
    }
    let head = match in_progress(batch, target, upload) {
        Ok(head) => head,
        Err(refusal) => return repeated(batch, target, upload, named).ok_or(refusal),
    };
    let bytes = check_parts(batch.table(), upload, named)?;
    let key = space::object(target.bucket, target.key.as_bytes());
    let old = record::find::<ObjectHead>(batch.table(), &key);
    condition.check(old.as_ref().map(|old| &old.etag))?;

    for key in unnamed(batch.table(), upload, named) {
        remove_part(batch, &key);
    }
    batch.remove(&record_key(target, upload));
    let etag = etag_of_parts(named.iter().map(|part| part.md5));
    let completed = Some(Completed { etag, committed: batch.committed() });
    let kind = BlobKind::Upload { bucket: target.bucket, key: target.key.clone(), completed };
    blob::write(batch, upload, &BlobHead { kind, life: Life::Referenced { count: 1 } });
    let (modified, content) = (batch.wall(), ContentHead::Parts(upload.opened));
    let object = ObjectHead { etag, bytes, modified, content, tags: Vec::new() };
    let attributes = Attributes { checksum, ..head.attributes };
    put::write(batch, target, object, attributes, Octets::default());
    Ok(Answer::Written { etag, committed: batch.committed() })
}

/// Gives an upload up; its parts die with it.
pub(super) fn abort(batch: &mut Batch<'_>, target: &Target, upload: BlobId) -> Outcome {
    bucket::check_write(batch, target)?;
    in_progress(batch, target, upload)?;
    batch.remove(&record_key(target, upload));
    blob::kill(batch, upload.opened, batch.committed());
    Ok(Answer::Done)
}

/// The bucket and key of an upload that was completed, if this is one and it is still there.
pub(super) fn completed(table: &Table, upload: BlobId) -> Option<(BucketId, Vec<u8>, Completed)> {
    match blob::find(table, upload)?.kind {
        BlobKind::Upload { bucket, key, completed } => {
            completed.map(|completed| (bucket, key.into_bytes(), completed))
        }
        BlobKind::Chunks { .. } => None,
    }
}

/// An upload in progress to this key.
fn in_progress(batch: &Batch<'_>, target: &Target, upload: BlobId) -> Result<UploadHead, Refusal> {
    if batch.seat().shard() != Some(upload.home) {
        return Err(Refusal::NoSuchUpload);
    }
    record::find(batch.table(), &record_key(target, upload)).ok_or(Refusal::NoSuchUpload)
}

/// What the first complete answered, if this is the same one: a client whose answer was lost asks again,
/// and meanwhile the object may have been overwritten.
fn repeated(
    batch: &Batch<'_>,
    target: &Target,
    upload: BlobId,
    named: &[NamedPart],
) -> Option<Answer> {
    if batch.seat().shard() != Some(upload.home) {
        return None;
    }
    let (bucket, key, Completed { etag, committed }) = completed(batch.table(), upload)?;
    let same = bucket == target.bucket
        && key == target.key.as_bytes()
        && etag == etag_of_parts(named.iter().map(|part| part.md5));
    same.then_some(Answer::Written { etag, committed })
}

/// Bytes of the named parts, if all are there, are the ones meant and are long enough.
fn check_parts(table: &Table, upload: BlobId, named: &[NamedPart]) -> Result<u64, Refusal> {
    if named.is_empty() {
        return Err(Refusal::Invalid("an object has at least one part".into()));
    }
    let (mut bytes, mut small) = (0, false);
    for (at, NamedPart { number, md5 }) in named.iter().enumerate() {
        let part = record::find::<PartHead>(table, &space::part(upload, *number));
        let part = part.filter(|part| part.md5 == *md5).ok_or(Refusal::InvalidPart)?;
        small |= at + 1 < named.len() && part.bytes < PART_BYTES_MIN;
        bytes += part.bytes;
    }
    if small { Err(Refusal::PartTooSmall) } else { Ok(bytes) }
}

/// Keys of the parts that are not named.
fn unnamed(table: &Table, upload: BlobId, named: &[NamedPart]) -> Vec<Key> {
    let all = space::parts(upload);
    let is_named = |key: &[u8]| {
        let number = space::part_number(key);
        number.is_some_and(|number| named.binary_search_by_key(&number, |part| part.number).is_ok())
    };
    let parts = table.scan(&all, Bound::Unbounded).map(|(key, _)| key);
    parts.filter(|key| !is_named(key)).map(Key::from).collect()
}

/// Removes a part's record, if it is there; its blob dies.
fn remove_part(batch: &mut Batch<'_>, key: &Key) {
    let Some(part) = record::find::<PartHead>(batch.table(), key) else { return };
    batch.remove(key);
    if let ContentHead::Blob(opened) = part.content {
        blob::kill(batch, opened, batch.committed());
    }
}

/// The record of an upload in progress.
fn record_key(target: &Target, upload: BlobId) -> Key {
    space::upload(target.bucket, target.key.as_bytes(), upload)
}
