//! Deleting an object.

use super::api::{Answer, Condition, Outcome};
use super::command::Target;
use super::record::{self, ObjectHead};
use super::{blob, bucket};
use crate::kv::batch::Batch;
use crate::kv::space;

/// Deletes an object and releases its content. Done, too, when there is none and nothing is demanded.
pub(super) fn delete(batch: &mut Batch<'_>, target: &Target, condition: Condition) -> Outcome {
    bucket::check_write(batch, target)?;
    let key = space::object(target.bucket, target.key.as_bytes());
    let old = record::find::<ObjectHead>(batch.table(), &key);
    condition.check(old.as_ref().map(|old| &old.etag))?;
    if let Some(old) = old {
        batch.remove(&key);
        blob::release(batch, old.content);
    }
    Ok(Answer::Done)
}
