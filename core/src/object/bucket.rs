//! What a shard knows of buckets: installed, fenced and removed by the procedures of
//! [`super::procedure`], checked by every command on objects.
//!
//! A bucket's epoch rises with every change of its state, and only in the meta group. A shard takes a
//! change of a higher epoch, answers a repeated one as it did and refuses an older one with
//! [`Refusal::BucketBusy`]: so a procedure's delayed commands can't undo what came after it.
//!
//! **A removed bucket stays removed.** Its record is gone, and with it the epoch that a delayed first
//! installation would be refused by. Ids rise, so a number is enough to remember almost all of them:
//! the **floor**, below which the meta group knows that every bucket has been installed everywhere once. A bucket
//! below it that has no record here has been removed. One that is removed while an older one is still
//! being made leaves a mark, until the floor has passed it.

use super::api::{Answer, Outcome, Refusal};
use super::command::Target;
use super::record::{self, BucketHead, BucketState};
use super::{blob, names};
use crate::codec;
use crate::kv::batch::Batch;
use crate::kv::cow::Key;
use crate::kv::{space, table::Table};
use crate::planted::Bug;
use crate::types::{BucketId, Epoch};
use alloc::string::ToString;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;

/// Uploads that one removal gives up at the most.
pub const REMOVE_UPLOADS_MAX: usize = 64;

/// Marks of removed buckets that one removal drops at the most: more than it makes.
pub const REMOVE_MARKS_MAX: usize = 64;

/// What this shard knows of a bucket.
#[must_use]
pub fn state(table: &Table, bucket: BucketId) -> Option<BucketHead> {
    record::find(table, &space::bucket(bucket))
}

/// Whether a bucket may be read here: it is installed, fenced or not.
///
/// # Errors
/// [`Refusal::NoSuchBucket`]. The sender's idea of the bucket may be old: it asks the meta group.
pub fn check_read(table: &Table, bucket: BucketId) -> Result<(), Refusal> {
    state(table, bucket).map(|_| ()).ok_or(Refusal::NoSuchBucket)
}

/// Whether a write may go on.
pub(super) fn check_write(batch: &Batch<'_>, target: &Target) -> Result<(), Refusal> {
    if batch.seat().planted.is(Bug::BucketEpochAtPropose) {
        return Ok(());
    }
    let head = state(batch.table(), target.bucket).ok_or(Refusal::NoSuchBucket)?;
    if head.state != BucketState::Active || head.epoch != target.epoch {
        return Err(Refusal::BucketBusy);
    }
    names::check_key(&target.key).map_err(|error| Refusal::Invalid(error.to_string()))
}

/// Makes a bucket writable from `epoch` on.
pub(super) fn install(batch: &mut Batch<'_>, bucket: BucketId, epoch: Epoch) -> Outcome {
    let wanted = BucketHead { epoch, state: BucketState::Active };
    match state(batch.table(), bucket) {
        Some(head) if head == wanted => Ok(Answer::Done),
        Some(head) if head.epoch >= epoch => Err(Refusal::BucketBusy),
        None if was_removed(batch, bucket) => Err(Refusal::BucketBusy),
        Some(_) | None => {
            batch.put(&space::bucket(bucket), codec::encode(&wanted), Bytes::new());
            Ok(Answer::Done)
        }
    }
}

/// Stops writes, then looks for objects: nothing can come after the look.
pub(super) fn fence(batch: &mut Batch<'_>, bucket: BucketId, epoch: Epoch) -> Outcome {
    let wanted = BucketHead { epoch, state: BucketState::Fenced };
    match state(batch.table(), bucket) {
        // Removed here already, by a procedure that found it empty everywhere.
        None => return Ok(Answer::Done),
        Some(head) if head == wanted => {}
        Some(head) if head.epoch >= epoch => return Err(Refusal::BucketBusy),
        Some(_) => batch.put(&space::bucket(bucket), codec::encode(&wanted), Bytes::new()),
    }
    let holds = batch.scan(&space::objects(bucket), Bound::Unbounded).next().is_some();
    if holds { Err(Refusal::BucketNotEmpty) } else { Ok(Answer::Done) }
}

/// Gives up a slice of the bucket's uploads, and forgets the bucket once there are none.
pub(super) fn remove(
    batch: &mut Batch<'_>,
    bucket: BucketId,
    epoch: Epoch,
    new_floor: BucketId,
) -> Outcome {
    let Some(head) = state(batch.table(), bucket) else { return Ok(Answer::Done) };
    if head != (BucketHead { epoch, state: BucketState::Fenced }) {
        return Err(Refusal::BucketBusy);
    }
    let Some(home) = batch.seat().shard() else { return Err(Refusal::BucketBusy) };
    if batch.scan(&space::objects(bucket), Bound::Unbounded).next().is_some() {
        return Err(Refusal::BucketNotEmpty);
    }
    let uploads: Vec<Key> = batch
        .scan(&space::uploads(bucket), Bound::Unbounded)
        .take(REMOVE_UPLOADS_MAX)
        .map(|(key, _)| Key::from(key))
        .collect();
    for key in &uploads {
        batch.remove(key);
        if let Some((_, upload)) = space::parse_upload(home, key) {
            blob::kill(batch, upload.opened, batch.committed());
        }
    }
    if uploads.len() == REMOVE_UPLOADS_MAX {
        return Err(Refusal::Busy);
    }
    batch.remove(&space::bucket(bucket));
    raise_floor(batch, new_floor);
    if bucket >= floor(batch) {
        batch.put(&space::removed_bucket(bucket), Vec::new(), Bytes::new());
    }
    Ok(Answer::Done)
}

/// Every bucket below this has been installed here.
fn floor(batch: &Batch<'_>) -> BucketId {
    record::find(batch.table(), &space::bucket_floor()).unwrap_or_default()
}

/// Whether a bucket without a record was installed here once.
fn was_removed(batch: &Batch<'_>, bucket: BucketId) -> bool {
    bucket < floor(batch) || batch.get(&space::removed_bucket(bucket)).is_some()
}

/// Raises the floor and drops a slice of the marks that it makes needless.
fn raise_floor(batch: &mut Batch<'_>, new: BucketId) {
    if new <= floor(batch) {
        return;
    }
    batch.put(&space::bucket_floor(), codec::encode(&new), Bytes::new());
    let marks: Vec<Key> = batch
        .scan(&space::removed_buckets(), Bound::Unbounded)
        .take(REMOVE_MARKS_MAX)
        .map(|(key, _)| Key::from(key))
        .filter(|key| space::marked_bucket(key).is_some_and(|bucket| bucket < new))
        .collect();
    marks.iter().for_each(|key| batch.remove(key));
}
