//! What the meta group knows: the registry of buckets, and the cluster's own record.
//!
//! A bucket here is what clients are shown; what shards have installed ([`super::bucket`]) is what
//! commands are checked against. The two are brought together by [`super::procedure`], and the
//! registry's state says which one is under way, so that a new leader of the meta group goes on with it:
//!
//! ```text
//!              create                       settle
//!   (nothing) --------> Creating  epoch 1 ---------> Active
//!                                                     |  ^
//!                                       delete, epoch+1  |  settle
//!                        all empty                    v  |
//!   (nothing) <------------------------- Deleting ----> Restoring epoch+2
//!              remove                           restore: one was not empty
//! ```
//!
//! A bucket that is being made is not shown yet; one that is being deleted still is. Whoever began a change
//! asks by id and epoch what became of it ([`settled`]); for that the last buckets removed are remembered.
//! A router that is refused by a shard with [`Refusal::NoSuchBucket`] or [`Refusal::BucketBusy`] went by an
//! old idea of the bucket, or a procedure is under way: it asks here, linearizably, and tries again.

use super::api::{Answer, BucketInfo, Outcome, Refusal};
use super::charter::{Charter, Irreplaceable};
use super::layout::{Layout, Move};
use super::names;
use super::record;
use crate::codec;
use crate::kv::batch::Batch;
use crate::kv::cow::Key;
use crate::kv::{space, table::Table};
use crate::planted::{Bug, Planted};
use crate::types::{BucketId, Epoch, NodeId, ShardId, StoreId, Version};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;
use core::ops::Bound;

/// A write of the meta group.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RegistryOp {
    /// Writes the cluster's record, once. Harmless to repeat.
    Found(Charter),
    /// A node has lost its store, and has another one now.
    ReplaceStore(Replacement),
    /// A shard is to have other voters.
    MoveShard(Move),
    /// A node says that it holds all of a shard that is being moved to it.
    ShardWhole {
        /// Which.
        shard: ShardId,
        /// The move, as [`Placed::change`](super::layout::Placed::change).
        change: u64,
        /// Who says so.
        node: NodeId,
    },
    /// A node asks whether it may give up what it has of a shard that was moved away. Changes nothing.
    LeaveShard {
        /// Which.
        shard: ShardId,
        /// Who asks.
        node: NodeId,
    },
    /// Begins to make a bucket. Its id is this command's index.
    CreateBucket {
        /// Its name.
        bucket: String,
    },
    /// Begins to delete a bucket.
    DeleteBucket {
        /// Its name.
        bucket: String,
    },
    /// The bucket is installed at every shard.
    SettleBucket(BucketEpoch),
    /// The bucket was not empty: it is to be installed again.
    RestoreBucket(BucketEpoch),
    /// The bucket is gone from every shard.
    RemoveBucket(BucketEpoch),
}

/// A bucket in one state. What a procedure says of it counts only while it is in that state.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BucketEpoch {
    /// Its name.
    pub bucket: String,
    /// Its id.
    pub id: BucketId,
    /// The epoch.
    pub epoch: Epoch,
}

/// A bucket's record in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BucketRecord {
    /// Its id, never reused.
    pub id: BucketId,
    /// How often its state has changed. Settling does not change it: shards have it already.
    pub epoch: Epoch,
    /// Its state.
    pub state: BucketState,
    /// Wall time of its creation, nanoseconds since the Unix epoch.
    pub created: u64,
    /// As its deletion began: every bucket with a lower id had been installed at every shard.
    pub floor: BucketId,
}

/// The state of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BucketState {
    /// Being installed for the first time.
    Creating,
    /// Installed at every shard.
    Active,
    /// Being fenced and looked through.
    Deleting,
    /// Being installed again, because it was not empty.
    Restoring,
}

/// A bucket that is gone, and the epoch of the deletion that succeeded.
#[derive(Clone, Copy, Debug, Encode, Decode)]
struct Removed {
    id: BucketId,
    epoch: Epoch,
    created: u64,
}

/// The key of the layout.
const LAYOUT: &[u8] = b"layout";
/// The key of the buckets that were removed last.
const REMOVED: &[u8] = b"removed";
/// So many are remembered: whoever waits for a deletion looks every few milliseconds.
const REMOVED_REMEMBERED: usize = 64;

/// A store that takes the place of another. Harmless to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Replacement {
    /// A node of the cluster.
    pub node: NodeId,
    /// The store that it has according to the charter.
    pub old: StoreId,
    /// The store that it shall have.
    pub new: StoreId,
}

impl BucketRecord {
    /// The bucket as clients see it; `None` while it is being made.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<BucketInfo> {
        let (id, created) = (self.id, self.created);
        let shown = self.state != BucketState::Creating;
        shown.then(|| BucketInfo { name: name.into(), id, created })
    }
}

/// Applies an operation: deterministic, and it can't fail but by an answer that all replicas give.
pub fn apply(batch: &mut Batch<'_>, op: RegistryOp) -> Outcome {
    if batch.seat().shard().is_some() {
        return Err(Refusal::Invalid("this group holds no registry".into()));
    }
    match op {
        RegistryOp::Found(charter) => found(batch, &charter),
        RegistryOp::ReplaceStore(replacement) => replace_store(batch, replacement),
        RegistryOp::MoveShard(asked) => move_shard(batch, &asked),
        RegistryOp::ShardWhole { shard, change, node } => {
            if let Some(next) = layout(batch.table()).whole(shard, change, node) {
                put_layout(batch, &next);
            }
            Ok(Answer::Done)
        }
        RegistryOp::LeaveShard { shard, node } => {
            if layout(batch.table()).may_leave(shard, node) {
                return Ok(Answer::Done);
            }
            Err(Refusal::Invalid(format!("node {node} is to keep shard {shard}")))
        }
        RegistryOp::CreateBucket { bucket } => create(batch, &bucket),
        RegistryOp::DeleteBucket { bucket } => delete(batch, &bucket),
        RegistryOp::SettleBucket(at) => settle(batch, &at),
        RegistryOp::RestoreBucket(at) => restore(batch, &at),
        RegistryOp::RemoveBucket(at) => remove(batch, &at),
    }
}

/// What became of the change that began with [`Answer::BucketBegun`] and this id and epoch. Changes of one
/// bucket follow one another, so a later look may find a later one: a deletion that was undone, and somebody
/// else's after it that was not.
///
/// # Errors
/// [`Refusal::BucketBusy`] while it is under way, [`Refusal::BucketNotEmpty`] for a deletion that was undone,
/// [`Refusal::OutcomeUnknown`] long after the bucket is gone.
pub fn settled(table: &Table, at: &BucketEpoch, planted: Planted) -> Outcome {
    let (name, made) = (&at.bucket, at.epoch == Epoch(1));
    if let Some(record) = find(table, name).filter(|record| record.id == at.id) {
        return match record.state {
            BucketState::Creating | BucketState::Deleting if record.epoch == at.epoch => {
                Err(Refusal::BucketBusy)
            }
            _ if made => Ok(Answer::Bucket(BucketInfo {
                name: name.clone(),
                id: record.id,
                created: record.created,
            })),
            BucketState::Restoring if record.epoch == at.epoch.next() => Err(Refusal::BucketBusy),
            _ => Err(Refusal::BucketNotEmpty),
        };
    }
    let removed = removed_buckets(table).into_iter().find(|removed| removed.id == at.id);
    let removed = removed.ok_or(Refusal::OutcomeUnknown)?;
    if made {
        let Removed { id, created, .. } = removed;
        return Ok(Answer::Bucket(BucketInfo { name: name.clone(), id, created }));
    }
    let mine = removed.epoch == at.epoch || planted.is(Bug::DeletionByName);
    if mine { Ok(Answer::Done) } else { Err(Refusal::BucketNotEmpty) }
}

/// Buckets that are gone, the last first.
fn removed_buckets(table: &Table) -> Vec<Removed> {
    record::find(table, &space::cluster(REMOVED)).unwrap_or_default()
}

/// A bucket's record, in whatever state it is.
#[must_use]
pub fn find(table: &Table, bucket: &str) -> Option<BucketRecord> {
    record::find(table, &space::registry(bucket))
}

/// Answers [`super::api::Request::HeadBucket`].
///
/// # Errors
/// [`Refusal::NoSuchBucket`].
pub fn head(table: &Table, bucket: &str) -> Outcome {
    let info = find(table, bucket).and_then(|record| record.info(bucket));
    info.map(Answer::Bucket).ok_or(Refusal::NoSuchBucket)
}

/// Answers [`super::api::Request::ListBuckets`].
#[must_use]
pub fn list(table: &Table, prefix: &str, after: Option<&str>, limit: u32) -> Answer {
    let (mut buckets, mut truncated) = (Vec::new(), false);
    for (name, record) in records(table, prefix, after) {
        // The few that are being made are passed over.
        let Some(info) = record.info(&name) else { continue };
        if buckets.len() as u64 >= u64::from(limit) {
            truncated = limit > 0;
            break;
        }
        buckets.push(info);
    }
    Answer::Buckets { buckets, truncated }
}

/// The first `limit` buckets that a procedure is to be run for. They are marked, so this is no walk over all.
#[must_use]
pub fn unsettled(table: &Table, limit: usize) -> Vec<(String, BucketRecord)> {
    let marks = space::unsettled_buckets();
    let named = |key: &[u8]| {
        let name = String::from_utf8_lossy(key.get(marks.len()..)?).into_owned();
        let record = find(table, &name)?;
        Some((name, record))
    };
    let marked = table.scan(&marks, Bound::Unbounded).take(limit);
    marked.filter_map(|(key, _)| named(key)).collect()
}

/// The cluster's charter, once it is founded.
#[must_use]
pub fn charter(table: &Table) -> Option<Charter> {
    record::find(table, &space::cluster(&[]))
}

/// Which write made the charter what it is: cheaper than reading it, to see whether it has changed.
#[must_use]
pub fn charter_version(table: &Table) -> Option<Version> {
    table.get(&space::cluster(&[])).map(|slot| slot.version)
}

/// Where shards are that were moved.
#[must_use]
pub fn layout(table: &Table) -> Layout {
    record::find(table, &space::cluster(LAYOUT)).unwrap_or_default()
}

/// Which write made the layout what it is, as [`charter_version`].
#[must_use]
pub fn layout_version(table: &Table) -> Option<Version> {
    table.get(&space::cluster(LAYOUT)).map(|slot| slot.version)
}

fn records(
    table: &Table,
    prefix: &str,
    after: Option<&str>,
) -> impl Iterator<Item = (String, BucketRecord)> {
    let (from, whole) = (after.map(space::registry), space::registry(prefix));
    // A slice needs no more than a page and the few that are being made, so the scan is lazy.
    let mut last = from;
    core::iter::from_fn(move || {
        let bound = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (key, slot) = table.scan(&whole, bound).next()?;
        last = Some(Key::from(key));
        let name = key.get(1..).map(|name| String::from_utf8_lossy(name).into_owned())?;
        Some((name, record::head(slot)))
    })
}

fn found(batch: &mut Batch<'_>, new: &Charter) -> Outcome {
    match charter(batch.table()) {
        Some(old) if old.founding.cluster == new.founding.cluster => Ok(Answer::Done),
        Some(_) => Err(Refusal::Invalid("another cluster is founded here".into())),
        None => {
            batch.put(&space::cluster(&[]), codec::encode(new), Bytes::new());
            Ok(Answer::Done)
        }
    }
}

fn replace_store(batch: &mut Batch<'_>, Replacement { node, old, new }: Replacement) -> Outcome {
    let charter = charter(batch.table())
        .ok_or_else(|| Refusal::Unavailable("the cluster is not founded".into()))?;
    if charter.names(node, new) {
        return Ok(Answer::Done);
    }
    let next = charter.replacing(node, old, new).map_err(|why| {
        Refusal::Invalid(match why {
            Irreplaceable::NoSuchNode => format!("there is no node {node}"),
            Irreplaceable::Has(store) => format!("node {node} has store {store}, not {old}"),
            Irreplaceable::Taken => format!("store {new} is another node's"),
            Irreplaceable::OnlyReplica => {
                format!("node {node} had the only replica of its shards: there is nothing to heal it from")
            }
        })
    })?;
    batch.put(&space::cluster(&[]), codec::encode(&next), Bytes::new());
    Ok(Answer::Done)
}

fn move_shard(batch: &mut Batch<'_>, asked: &Move) -> Outcome {
    let charter = charter(batch.table())
        .ok_or_else(|| Refusal::Unavailable("the cluster is not founded".into()))?;
    let now = layout(batch.table());
    let next = now.moving(&charter, asked).map_err(|why| Refusal::Invalid(why.to_string()))?;
    if next != now {
        put_layout(batch, &next);
    }
    Ok(Answer::Done)
}

fn put_layout(batch: &mut Batch<'_>, layout: &Layout) {
    batch.put(&space::cluster(LAYOUT), codec::encode(layout), Bytes::new());
}

fn create(batch: &mut Batch<'_>, bucket: &str) -> Outcome {
    names::check_bucket(bucket).map_err(|error| Refusal::Invalid(error.to_string()))?;
    match find(batch.table(), bucket).map(|record| record.state) {
        Some(BucketState::Active) => return Err(Refusal::BucketAlreadyOwnedByYou),
        // Whatever is under way decides what a second create comes to: ask again.
        Some(_) => return Err(Refusal::BucketBusy),
        None => {}
    }
    let (id, created) = (BucketId(batch.index().0), batch.wall());
    let (state, floor) = (BucketState::Creating, BucketId::default());
    put(batch, bucket, BucketRecord { id, epoch: Epoch(1), state, created, floor });
    batch.put(&space::creating_bucket(id), Vec::new(), Bytes::new());
    Ok(Answer::BucketBegun { id, epoch: Epoch(1) })
}

fn delete(batch: &mut Batch<'_>, bucket: &str) -> Outcome {
    let record = find(batch.table(), bucket).ok_or(Refusal::NoSuchBucket)?;
    match record.state {
        BucketState::Active => {}
        // Not acknowledged yet, so for this client it isn't there.
        BucketState::Creating => return Err(Refusal::NoSuchBucket),
        BucketState::Deleting | BucketState::Restoring => return Err(Refusal::BucketBusy),
    }
    let (epoch, state) = (record.epoch.next(), BucketState::Deleting);
    let floor = floor(batch);
    put(batch, bucket, BucketRecord { epoch, state, floor, ..record });
    Ok(Answer::BucketBegun { id: record.id, epoch })
}

fn settle(batch: &mut Batch<'_>, at: &BucketEpoch) -> Outcome {
    let record = at_epoch(batch, at, at.epoch)?;
    match record.state {
        BucketState::Creating | BucketState::Restoring => {
            put(batch, &at.bucket, BucketRecord { state: BucketState::Active, ..record });
            batch.remove(&space::creating_bucket(at.id));
            Ok(Answer::Done)
        }
        BucketState::Active => Ok(Answer::Done),
        BucketState::Deleting => Err(Refusal::BucketBusy),
    }
}

fn restore(batch: &mut Batch<'_>, at: &BucketEpoch) -> Outcome {
    let next = at.epoch.next();
    if let Ok(record) = at_epoch(batch, at, next)
        && record.state != BucketState::Deleting
    {
        return Ok(Answer::Done);
    }
    let record = at_epoch(batch, at, at.epoch)?;
    if record.state != BucketState::Deleting {
        return Err(Refusal::BucketBusy);
    }
    let state = BucketState::Restoring;
    put(batch, &at.bucket, BucketRecord { epoch: next, state, ..record });
    Ok(Answer::Done)
}

fn remove(batch: &mut Batch<'_>, at: &BucketEpoch) -> Outcome {
    // Gone already, and perhaps made anew under the same name.
    if find(batch.table(), &at.bucket).is_none_or(|record| record.id != at.id) {
        return Ok(Answer::Done);
    }
    let record = at_epoch(batch, at, at.epoch)?;
    if record.state != BucketState::Deleting {
        return Err(Refusal::BucketBusy);
    }
    batch.remove(&space::registry(&at.bucket));
    batch.remove(&space::unsettled_bucket(&at.bucket));
    let mut removed = removed_buckets(batch.table());
    removed.insert(0, Removed { id: record.id, epoch: record.epoch, created: record.created });
    removed.truncate(REMOVED_REMEMBERED);
    batch.put(&space::cluster(REMOVED), codec::encode(&removed), Bytes::new());
    Ok(Answer::Done)
}

/// Every bucket with a lower id has been installed at every shard: ids rise with this log, and those not yet
/// installed are marked.
fn floor(batch: &Batch<'_>) -> BucketId {
    let marks = space::creating_buckets();
    let oldest = batch.scan(&marks, Bound::Unbounded).next();
    let oldest = oldest.and_then(|(key, _)| space::marked_bucket(key));
    oldest.unwrap_or(BucketId(batch.index().0))
}

/// The bucket's record, if it is the one meant and at this epoch.
fn at_epoch(batch: &Batch<'_>, at: &BucketEpoch, epoch: Epoch) -> Result<BucketRecord, Refusal> {
    let record = find(batch.table(), &at.bucket);
    let record = record.filter(|record| record.id == at.id && record.epoch == epoch);
    record.ok_or(Refusal::BucketBusy)
}

fn put(batch: &mut Batch<'_>, bucket: &str, record: BucketRecord) {
    match record.state {
        BucketState::Active => batch.remove(&space::unsettled_bucket(bucket)),
        _ => batch.put(&space::unsettled_bucket(bucket), Vec::new(), Bytes::new()),
    }
    batch.put(&space::registry(bucket), codec::encode(&record), Bytes::new());
}
