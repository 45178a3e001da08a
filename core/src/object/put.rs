//! Writing an object, and its tags.

use super::api::{
    Answer, Attributes, Condition, Content, INLINE_BYTES_MAX, NewObject, Outcome, Refusal,
};
use super::command::Target;
use super::record::{self, ContentHead, Life, ObjectBody, ObjectHead};
use super::{blob, bucket, names};
use crate::codec::{self, Octets};
use crate::kv::batch::Batch;
use crate::kv::space;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;

/// Writes an object. The reference to its blob is taken before the record names it, and the one to the old
/// content is released after, all in one batch.
pub(super) fn put(
    batch: &mut Batch<'_>,
    target: &Target,
    object: NewObject,
    condition: Condition,
) -> Outcome {
    bucket::check_write(batch, target)?;
    names::check_attributes(&object.attributes).map_err(|e| Refusal::Invalid(e.to_string()))?;
    if object.etag.parts != 0 {
        return Err(Refusal::Invalid("only a completed upload has parts".into()));
    }
    let key = space::object(target.bucket, target.key.as_bytes());
    let old = record::find::<ObjectHead>(batch.table(), &key);
    condition.check(old.as_ref().map(|old| &old.etag))?;
    let life = Life::Referenced { count: 1 };
    let (content, inline) = take_content(batch, object.content, object.bytes, life)?;
    let new = ObjectHead {
        etag: object.etag,
        bytes: object.bytes,
        modified: batch.wall(),
        content,
        tags: Vec::new(),
    };
    write(batch, target, new, object.attributes, inline);
    Ok(Answer::Written { etag: object.etag, committed: batch.committed() })
}

/// Replaces an object's tags and nothing else.
pub(super) fn put_tags(
    batch: &mut Batch<'_>,
    target: &Target,
    tags: Vec<(String, String)>,
) -> Outcome {
    bucket::check_write(batch, target)?;
    names::check_tags(&tags).map_err(|error| Refusal::Invalid(error.to_string()))?;
    let key = space::object(target.bucket, target.key.as_bytes());
    let head = record::find::<ObjectHead>(batch.table(), &key).ok_or(Refusal::NoSuchKey)?;
    batch.put_head(&key, codec::encode(&ObjectHead { tags, ..head }));
    Ok(Answer::Done)
}

/// Checks that content is there and as long as it is said to be, and takes a staged blob over into
/// `life`. Writes nothing when it refuses.
pub(super) fn take_content(
    batch: &mut Batch<'_>,
    content: Content,
    bytes: u64,
    life: Life,
) -> Result<(ContentHead, Octets), Refusal> {
    match content {
        Content::Inline(inline) => {
            if inline.len() > INLINE_BYTES_MAX || inline.len() as u64 != bytes {
                return Err(Refusal::Invalid("inline bytes of another length".into()));
            }
            Ok((ContentHead::Inline, inline))
        }
        Content::Blob(blob) => {
            blob::adopt(batch, blob, bytes, life)?;
            Ok((ContentHead::Blob(blob.opened), Octets::default()))
        }
        Content::Parts { .. } => {
            Err(Refusal::Invalid("only completing an upload makes an object of parts".into()))
        }
    }
}

/// Writes the object's record in place of the one there, whose content is released. Tags move from the
/// attributes to the head.
pub(super) fn write(
    batch: &mut Batch<'_>,
    target: &Target,
    mut head: ObjectHead,
    mut attributes: Attributes,
    inline: Octets,
) {
    let key = space::object(target.bucket, target.key.as_bytes());
    if let Some(old) = record::find::<ObjectHead>(batch.table(), &key) {
        blob::release(batch, old.content);
    }
    head.tags = core::mem::take(&mut attributes.tags);
    attributes.upload_checksum = None;
    let body = codec::encode(&ObjectBody { attributes, inline });
    batch.put(&key, codec::encode(&head), Bytes::from(body));
}
