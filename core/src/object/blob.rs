//! The life of a blob: opened under a lease, filled extent by extent, taken over by an object or a part,
//! released, dead.
//!
//! - A blob has a chore, which puts it before the collector, exactly while it is staged or dead.
//! - A blob's extents are numbered from 0 without a gap. All are full but the last, and all chunks but
//!   its last one are [`CHUNK_BYTES`] long, so that a reader finds a byte by division.
//! - Only a staged blob grows, and only a staged blob is taken over: what is referenced never changes.

use super::api::{
    Answer, CHUNK_BYTES, ChunkRef, EXTENT_CHUNKS_MAX, Outcome, PUT_BYTES_MAX, Refusal, StagedChunk,
};
use super::bucket;
use super::command::{ObjectEvent, Target};
use super::record::{self, BlobHead, BlobKind, ContentHead, Life};
use crate::codec::{self, DecodeError};
use crate::kv::batch::{Batch, Seat};
use crate::kv::{space, table::Body, table::Table};
use crate::types::{BlobId, Index, ShardId, Timestamp};
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;

/// A blob of this shard.
#[must_use]
pub fn find(table: &Table, blob: BlobId) -> Option<BlobHead> {
    record::find(table, &space::blob(blob))
}

/// Whether chunks may be staged for this blob now: a leader asks before it stores a stranger's bytes.
#[must_use]
pub fn is_staged(table: &Table, blob: BlobId) -> bool {
    find(table, blob).is_some_and(|head| matches!(head.life, Life::Staged { .. }))
}

/// The chunks in the body of an extent's record.
///
/// # Errors
/// Bytes that are no body of an extent.
pub fn decode_extent(body: &[u8]) -> Result<Vec<ChunkRef>, DecodeError> {
    codec::decode(body)
}

/// Up to `limit` extents of this shard after the one given (`None` for the first), with their bodies,
/// which may have to be fetched: which chunks a replica must hold.
#[must_use]
pub fn extents_after(
    table: &Table,
    home: ShardId,
    after: Option<(BlobId, u32)>,
    limit: usize,
) -> Vec<(BlobId, u32, Body)> {
    let from = after.map(|(blob, seq)| space::extent(blob, seq));
    let from = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let extents = table.scan(&[space::EXTENTS], from).take(limit);
    let place = |key: &[u8]| Some((space::blob_of(home, key)?, space::extent_seq(key)?));
    extents
        .filter_map(|(key, slot)| place(key).map(|(b, seq)| (b, seq, slot.body.clone())))
        .collect()
}

/// Opens a blob under a lease.
pub(super) fn open(batch: &mut Batch<'_>, target: &Target) -> Outcome {
    bucket::check_write(batch, target)?;
    let blob = own(batch, batch.index())?;
    let kind = BlobKind::Chunks { extents: 0, bytes: 0, sealed: false };
    write(batch, blob, &BlobHead { kind, life: Life::Staged { leased: batch.committed() } });
    Ok(Answer::Blob { blob })
}

/// Names the next chunks, or the last ones once more, and renews the lease.
pub(super) fn append(
    batch: &mut Batch<'_>,
    events: &mut Vec<ObjectEvent>,
    blob: BlobId,
    seq: u32,
    chunks: Vec<StagedChunk>,
) -> Outcome {
    let head = find_own(batch, blob).ok_or(Refusal::NoSuchBlob)?;
    let (BlobKind::Chunks { extents, bytes, sealed }, Life::Staged { .. }) = (head.kind, head.life)
    else {
        return Err(Refusal::NoSuchBlob);
    };
    let life = Life::Staged { leased: batch.committed() };
    let repeated = seq.checked_add(1) == Some(extents);
    if seq != extents && !repeated {
        return Err(Refusal::Invalid(alloc::format!("extent {seq} after {extents} extents")));
    }
    if chunks.is_empty() {
        let kind = BlobKind::Chunks { extents, bytes, sealed };
        write(batch, blob, &BlobHead { kind, life });
        return Ok(Answer::Done);
    }
    let named: Vec<ChunkRef> = chunks.iter().map(StagedChunk::named).collect();
    let body = codec::encode(&named);
    if repeated {
        let named = batch.get(&space::extent(blob, seq)).map(|slot| slot.body.clone());
        let again = Body::new(Bytes::from(body));
        if named.is_none_or(|named| (named.len(), named.crc()) != (again.len(), again.crc())) {
            return Err(Refusal::Invalid(alloc::format!("extent {seq} was named otherwise")));
        }
        let kind = BlobKind::Chunks { extents, bytes, sealed };
        write(batch, blob, &BlobHead { kind, life });
        return Ok(Answer::Done);
    }
    let added = check_extent(&chunks)?;
    if sealed || bytes + added > PUT_BYTES_MAX {
        return Err(Refusal::Invalid("the blob takes no more chunks".into()));
    }
    check_holders(batch.seat(), &chunks)?;
    let sealed = added < (EXTENT_CHUNKS_MAX * CHUNK_BYTES) as u64;
    batch.put(&space::extent(blob, seq), Vec::new(), Bytes::from(body));
    let kind = BlobKind::Chunks { extents: extents + 1, bytes: bytes + added, sealed };
    write(batch, blob, &BlobHead { kind, life });
    events.push(ObjectEvent::ExtentNamed { blob, chunks: named });
    Ok(Answer::Done)
}

/// Gives a staged blob up. One that has been taken over, or is gone, is left as it is: the caller may
/// not know that its put went through.
pub(super) fn drop_staged(batch: &mut Batch<'_>, blob: BlobId) -> Outcome {
    let head = find_own(batch, blob);
    if head.is_some_and(|head| matches!(head.life, Life::Staged { .. })) {
        kill(batch, blob.opened, batch.committed());
    }
    Ok(Answer::Done)
}

/// Ends a lease, unless it was renewed since the leader looked.
pub(super) fn expire(batch: &mut Batch<'_>, blob: BlobId, leased: Timestamp) -> Outcome {
    if find_own(batch, blob).is_some_and(|head| head.life == Life::Staged { leased }) {
        kill(batch, blob.opened, batch.committed());
    }
    Ok(Answer::Done)
}

/// Takes a staged blob of exactly `bytes` bytes over.
pub(super) fn adopt(
    batch: &mut Batch<'_>,
    blob: BlobId,
    bytes: u64,
    life: Life,
) -> Result<(), Refusal> {
    let head = find_own(batch, blob).ok_or(Refusal::NoSuchBlob)?;
    let staged = matches!(head.life, Life::Staged { .. });
    let whole = matches!(head.kind, BlobKind::Chunks { bytes: held, .. } if held == bytes);
    if !staged || !whole {
        return Err(Refusal::NoSuchBlob);
    }
    write(batch, blob, &BlobHead { life, ..head });
    Ok(())
}

/// Takes one reference off an object's content.
pub(super) fn release(batch: &mut Batch<'_>, content: ContentHead) {
    let (ContentHead::Blob(opened) | ContentHead::Parts(opened)) = content else { return };
    let Ok(blob) = own(batch, opened) else { return };
    let Some(head) = find(batch.table(), blob) else {
        panic!("{blob:?} is gone while an object names it");
    };
    let Life::Referenced { count } = head.life else {
        panic!("{blob:?} is {:?} while an object names it", head.life);
    };
    match count.checked_sub(1) {
        Some(0) | None => kill(batch, opened, batch.committed()),
        Some(count) => write(batch, blob, &BlobHead { life: Life::Referenced { count }, ..head }),
    }
}

/// Marks a blob dead since `since` and puts it before the collector.
pub(super) fn kill(batch: &mut Batch<'_>, opened: Index, since: Timestamp) {
    let Ok(blob) = own(batch, opened) else { return };
    let Some(head) = find(batch.table(), blob) else {
        panic!("{blob:?} is gone before it died");
    };
    assert!(!matches!(head.life, Life::Dead { .. }), "{blob:?} dies twice");
    write(batch, blob, &BlobHead { life: Life::Dead { since }, ..head });
}

/// Writes a blob's record, and its chore if it has one now.
pub(super) fn write(batch: &mut Batch<'_>, blob: BlobId, head: &BlobHead) {
    let chore = space::chore(blob);
    let has = batch.get(&chore).is_some();
    match head.life {
        Life::Staged { .. } | Life::Dead { .. } if !has => {
            batch.put(&chore, Vec::new(), Bytes::new());
        }
        Life::Staged { .. } | Life::Dead { .. } => {}
        Life::Open | Life::Part { .. } | Life::Referenced { .. } => batch.remove(&chore),
    }
    batch.put(&space::blob(blob), codec::encode(head), Bytes::new());
}

/// The blob of this shard opened by the command at `opened`.
pub(super) fn own(batch: &Batch<'_>, opened: Index) -> Result<BlobId, Refusal> {
    let home = batch.seat().shard().ok_or(Refusal::NoSuchBlob)?;
    Ok(BlobId { home, opened })
}

/// A blob that a client named, if it is of this shard.
pub(super) fn find_own(batch: &Batch<'_>, blob: BlobId) -> Option<BlobHead> {
    (batch.seat().shard() == Some(blob.home)).then(|| find(batch.table(), blob))?
}

/// Bytes of an extent whose chunks have the lengths that they must have.
fn check_extent(chunks: &[StagedChunk]) -> Result<u64, Refusal> {
    let whole = |chunk: &StagedChunk| chunk.bytes as usize == CHUNK_BYTES;
    let (last, before) = chunks.split_last().ok_or(Refusal::NoSuchBlob)?;
    let lengths = before.iter().all(whole) && (1..=CHUNK_BYTES).contains(&(last.bytes as usize));
    if chunks.len() > EXTENT_CHUNKS_MAX || !lengths {
        return Err(Refusal::Invalid("an extent's chunks are whole but the last".into()));
    }
    Ok(chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum())
}

/// Whether a quorum of the replicas that there are now holds each chunk.
fn check_holders(seat: &Seat, chunks: &[StagedChunk]) -> Result<(), Refusal> {
    let held = |chunk: &StagedChunk| seat.roster.is_quorum(&chunk.holders);
    if chunks.iter().all(held) { Ok(()) } else { Err(Refusal::Restage) }
}
