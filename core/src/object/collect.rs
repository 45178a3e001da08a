//! Collection: what nobody keeps is removed, in slices, by commands that the leader proposes.
//!
//! **What is due.** A staged blob whose lease has run out dies; a dead blob is removed, extents or parts first,
//! its record last. A removed part's own blob is dead since its upload is, and comes next.
//!
//! **Why readers are safe.** A reader looks the object up at the leader, which notes a pin in memory: for
//! [`PIN_MS`] the blob is not collected. The look-up happens before the blob's death, so waiting
//! [`PIN_MS`] from death covers pins of this leader that were never renewed; renewed ones are asked
//! for; and pins that an earlier leader noted are covered by waiting as long from this one's election. Were a
//! clock wrong here, a read would break off in the middle; it would never read wrong bytes.
//!
//! **Why writers are safe.** Apply decides, not the leader: a lease renewed or a blob taken over between proposal
//! and apply is left alone, and [`Life::Dead`] is final.

use super::api::{Answer, Outcome};
use super::blob;
use super::command::{ObjectEvent, ObjectOp};
use super::record::{self, BlobKind, ContentHead, Life, PartHead};
use crate::chunk::{PIN_MS, STAGE_LEASE_MS};
use crate::kv::batch::Batch;
use crate::kv::cow::Key;
use crate::kv::{space, table::Table};
use crate::machine::Duration;
use crate::types::{BlobId, ShardId};
use alloc::vec::Vec;
use core::ops::Bound;

/// Records that one [`ObjectOp::Collect`] removes at the most: 64 extents are 4 GiB.
pub const SLICE_MAX: u32 = 64;

/// What a leader finds to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Commands to propose. Each is harmless to repeat and needs no session.
    pub ops: Vec<ObjectOp>,
    /// Where to go on; `None` at the end of a round.
    pub next: Option<BlobId>,
}

/// A leader's circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The shard.
    pub home: ShardId,
    /// The earliest that wall time may be, nanoseconds since the Unix epoch.
    pub wall: u64,
    /// How long this node has led the group in this term, by its monotonic clock.
    pub leading: Duration,
}

/// Whether there is anything that may become due: an idle shard has nothing, and needs no rounds.
#[must_use]
pub fn has_chores(table: &Table) -> bool {
    table.scan(&[space::CHORES], Bound::Unbounded).next().is_some()
}

/// Looks at up to `limit` chores after the blob `after` (`None` to begin a round) for what is due.
/// `pinned` says of a blob or upload whether a reader has it pinned at this leader.
pub fn due(
    table: &Table,
    watch: Watch,
    after: Option<BlobId>,
    limit: usize,
    pinned: impl Fn(BlobId) -> bool,
) -> Due {
    let from = after.map(space::chore);
    let from = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut due = Due::default();
    for (seen, (key, _)) in table.scan(&[space::CHORES], from).enumerate() {
        if seen == limit {
            return due;
        }
        let Some(blob) = space::blob_of(watch.home, key) else { continue };
        due.next = Some(blob);
        let Some(head) = blob::find(table, blob) else {
            panic!("a chore without its {blob:?}");
        };
        let passed = |since: u64, ms: u64| watch.wall >= since.saturating_add(ms * 1_000_000);
        match head.life {
            Life::Staged { leased } if passed(leased.0, STAGE_LEASE_MS) => {
                due.ops.push(ObjectOp::Expire { blob, leased });
            }
            Life::Dead { since }
                if passed(since.0, PIN_MS)
                    && watch.leading >= Duration::from_millis(PIN_MS)
                    && !pinned(blob) =>
            {
                due.ops.push(ObjectOp::Collect { blob, items: SLICE_MAX });
            }
            Life::Staged { .. } | Life::Dead { .. } => {}
            life => panic!("{blob:?} is {life:?} and has a chore"),
        }
    }
    due.next = None;
    due
}

/// Removes a slice of a dead blob.
pub(super) fn collect(
    batch: &mut Batch<'_>,
    events: &mut Vec<ObjectEvent>,
    blob: BlobId,
    items: u32,
) -> Outcome {
    let Some(head) = blob::find_own(batch, blob) else { return Ok(Answer::Done) };
    let Life::Dead { since } = head.life else { return Ok(Answer::Done) };
    let inside = match head.kind {
        BlobKind::Chunks { .. } => space::extents(blob),
        BlobKind::Upload { .. } => space::parts(blob),
    };
    let limit = items.clamp(1, SLICE_MAX) as usize;
    let slice = batch.scan(&inside, Bound::Unbounded).take(limit).map(|(key, _)| Key::from(key));
    let slice: Vec<Key> = slice.collect();
    for key in &slice {
        if matches!(head.kind, BlobKind::Upload { .. })
            && let Some(part) = record::find::<PartHead>(batch.table(), key)
            && let ContentHead::Blob(opened) = part.content
        {
            blob::kill(batch, opened, since);
        }
        batch.remove(key);
    }
    if slice.len() < limit {
        batch.remove(&space::blob(blob));
        batch.remove(&space::chore(blob));
        // Chunks go last: until then a replica that lost one can still be given it.
        if matches!(head.kind, BlobKind::Chunks { .. }) {
            events.push(ObjectEvent::BlobCollected { blob });
        }
    }
    Ok(Answer::Done)
}
