//! The chunks: whether each is what it is called, and which are named and not here.

use super::bodies::Window;
use super::findings::{self, Finding, Groups, Kind, Verified};
use super::store::Store;
use ironseed_core::chunk::{ChunkStore, RECORD_KIND};
use ironseed_core::kv::{space, table::Body};
use ironseed_core::machine::FileKind;
use ironseed_core::node::offline::Found;
use ironseed_core::object::blob;
use ironseed_core::types::{BlobId, ChunkHash, ChunkId};
use ironseed_core::wal::record::Entry;
use std::ops::Bound;

/// Judges each record of the chunk log: its bytes must hash to its name. A copy that is not the one in use costs nothing.
pub(super) fn checker(
    store: &ChunkStore,
) -> impl FnMut(&Entry, Option<&[u8]>) -> Option<(Kind, Groups, String)> {
    move |entry, payload| {
        let chunk = chunk_of(entry)?;
        if payload.is_some_and(|bytes| ChunkHash::of(bytes) == chunk.hash) {
            return None;
        }
        let in_use = store.location(chunk) == Some(entry.location);
        let kind = if in_use { Kind::Chunk } else { Kind::Dead };
        let groups = Groups::one(entry.identity.group.0);
        Some((kind, groups, format!("chunk {:?} of {:?}", chunk.hash, chunk.blob)))
    }
}

fn chunk_of(entry: &Entry) -> Option<ChunkId> {
    let home = entry.identity.group.shard()?;
    let hash = ChunkHash(entry.note.as_ref().try_into().ok()?);
    let blob = BlobId { home, opened: entry.identity.index };
    (entry.identity.kind == RECORD_KIND).then_some(ChunkId { blob, hash })
}

/// Compares what the records of the states name with what is here.
pub(super) fn check_named(store: &Store, found: &Found, verified: &mut Verified) {
    let mut window = Window::default();
    for (group, it) in &found.groups {
        let (Some(state), Some(home)) = (&it.state, group.shard()) else { continue };
        let (mut missing, mut bytes) = (0_u64, 0_u64);
        for (key, slot) in state.table().scan(&[space::EXTENTS], Bound::Unbounded) {
            let Some(blob) = space::blob_of(home, key) else { continue };
            let extent = match &slot.body {
                // One that is damaged was reported with the bodies.
                Body::Stored(stored) => {
                    window.get(store, &stored.location()).map(blob::decode_extent)
                }
                Body::Resident(Some(body)) => Some(blob::decode_extent(&body.bytes)),
                Body::Resident(None) => None,
            };
            for named in extent.and_then(Result::ok).into_iter().flatten() {
                verified.count("chunks named", 1);
                if found.chunks.location(ChunkId { blob, hash: named.hash }).is_none() {
                    (missing, bytes) = (missing + 1, bytes + u64::from(named.bytes));
                }
            }
        }
        if missing > 0 {
            // One replica: what is not here is nowhere.
            let kind = if it.replicas.len() == 1 { Kind::Chunk } else { Kind::Missing };
            let what = format!(
                "{missing} chunks that records of group {group} name; a write is acknowledged when a majority of its \
                 replicas has its chunks, the others fetch them"
            );
            let groups = Groups::one(group.0);
            let found = findings::of_log(FileKind::Chunk, kind, groups, what);
            verified.add(Finding { bytes: Some(bytes), ..found });
        }
    }
}
