//! Collection leaves nothing: what no object and no upload in progress needs is gone once its leases have run
//! out, from every table and from every disk.
//!
//! Reachability is worked out from the objects and the uploads of a shard's table, and not from what a blob's
//! record says of its own life: a blob whose record was forgotten in the wrong state is what this looks for.

use super::Violation;
use ironseed_core::chunk::{PIN_MS, STAGE_LEASE_MS};
use ironseed_core::codec::decode;
use ironseed_core::kv::space;
use ironseed_core::kv::table::Table;
use ironseed_core::object::record::{ContentHead, ObjectHead, PartHead};
use ironseed_core::types::{BlobId, Index, NodeId, ShardId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// How long after the last request everything must be gone: nanoseconds. A lease runs out, then its blob is
/// kept for readers, and both wait for a round of the collector; parts die with their upload.
pub const PATIENCE: u64 = (STAGE_LEASE_MS + 2 * PIN_MS + 30_000) * 1_000_000;

/// What is left of blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Blobs with a record and nothing that needs them.
    records: BTreeSet<BlobId>,
    /// Nodes with chunks of a blob that nothing needs.
    chunks: BTreeSet<(NodeId, BlobId)>,
    /// Blobs that something needs.
    live: BTreeSet<BlobId>,
}

impl Leftovers {
    /// Takes the table of a shard in.
    pub fn add_table(&mut self, home: ShardId, table: &Table) {
        let live = reachable(home, table);
        let blobs = table.scan(&[space::BLOBS], Bound::Unbounded);
        let blobs = blobs.filter_map(|(key, _)| space::blob_of(home, key));
        self.records.extend(blobs.filter(|blob| !live.contains(blob)));
        self.live.extend(live);
    }

    /// Takes the blobs in of which a node has chunks, once all tables are known.
    pub fn add_node(&mut self, node: NodeId, held: impl IntoIterator<Item = BlobId>) {
        let stray = held.into_iter().filter(|blob| !self.live.contains(blob));
        self.chunks.extend(stray.map(|blob| (node, blob)));
    }

    /// How many blobs something needs.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.chunks.is_empty()
    }

    /// What is said if something is left when [`PATIENCE`] is over.
    #[must_use]
    pub fn violation(&self, at: u64) -> Violation {
        let records: Vec<&BlobId> = self.records.iter().take(SHOWN).collect();
        let chunks: Vec<&(NodeId, BlobId)> = self.chunks.iter().take(SHOWN).collect();
        let what = format!(
            "{} records of blobs that nothing needs: {records:?}; chunks of {} such blobs: {chunks:?}",
            self.records.len(),
            self.chunks.len()
        );
        Violation::new("collection", at, what)
    }
}

/// The blobs and uploads that objects and uploads in progress need.
fn reachable(home: ShardId, table: &Table) -> BTreeSet<BlobId> {
    let blob = |opened: Index| BlobId { home, opened };
    let mut live = BTreeSet::new();
    let mut uploads = BTreeMap::new();
    for (_, slot) in table.scan(&[space::OBJECTS], Bound::Unbounded) {
        match decode::<ObjectHead>(&slot.head).expect(OURS).content {
            ContentHead::Inline => {}
            ContentHead::Blob(opened) => drop(live.insert(blob(opened))),
            ContentHead::Parts(opened) => drop(uploads.insert(blob(opened), ())),
        }
    }
    for (key, _) in table.scan(&[space::UPLOADS], Bound::Unbounded) {
        uploads.extend(space::parse_upload(home, key).map(|(_, upload)| (upload, ())));
    }
    for upload in uploads.into_keys() {
        for (_, slot) in table.scan(&space::parts(upload), Bound::Unbounded) {
            if let ContentHead::Blob(opened) = decode::<PartHead>(&slot.head).expect(OURS).content {
                live.insert(blob(opened));
            }
        }
        live.insert(upload);
    }
    live
}

/// Apply wrote it.
const OURS: &str = "a record of the table";
/// Blobs that a report shows.
const SHOWN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use ironseed_core::codec::encode;
    use ironseed_core::kv::cow::Key;
    use ironseed_core::kv::table::{Body, Slot};
    use ironseed_core::object::api::ETag;
    use ironseed_core::object::record::UploadHead;
    use ironseed_core::types::{BucketId, Timestamp, Version};

    const HOME: ShardId = ShardId(3);
    const NODE: NodeId = NodeId(1);

    fn blob(opened: u64) -> BlobId {
        BlobId { home: HOME, opened: Index(opened) }
    }

    fn set(table: &mut Table, key: &Key, head: Vec<u8>) {
        let slot = Slot {
            version: Version(1),
            committed: Timestamp(1),
            head: head.into(),
            body: Body::new(bytes::Bytes::new()),
        };
        table.set(key, Some(slot));
    }

    fn object(content: ContentHead) -> Vec<u8> {
        let etag = ETag { md5: [0; 16], parts: 0 };
        encode(&ObjectHead { etag, bytes: 1, modified: 0, content, tags: Vec::new() })
    }

    fn part(opened: u64) -> Vec<u8> {
        let content = ContentHead::Blob(Index(opened));
        encode(&PartHead { bytes: 1, md5: [0; 16], modified: 0, checksum: None, content })
    }

    #[test]
    fn what_objects_and_uploads_need_stays_and_the_rest_is_left_over() {
        let mut table = Table::default();
        let bucket = BucketId(9);
        for opened in 1..=7 {
            set(&mut table, &space::blob(blob(opened)), Vec::new());
        }
        set(&mut table, &space::object(bucket, b"a"), object(ContentHead::Blob(Index(1))));
        set(&mut table, &space::object(bucket, b"b"), object(ContentHead::Parts(Index(2))));
        set(&mut table, &space::part(blob(2), 1), part(3));
        let upload = encode(&UploadHead { initiated: 0, attributes: Default::default() });
        set(&mut table, &space::upload(bucket, b"c", blob(4)), upload);
        set(&mut table, &space::part(blob(4), 1), part(5));
        // A part whose upload nothing names.
        set(&mut table, &space::part(blob(6), 1), part(7));
        let mut left = Leftovers::default();
        left.add_table(HOME, &table);
        assert_eq!(left.records, BTreeSet::from([blob(6), blob(7)]));
        assert_eq!(left.live(), 5);
        left.records.clear();
        left.add_node(NODE, [blob(1), blob(3), blob(5)]);
        assert!(left.is_empty());
        left.add_node(NODE, [blob(8), BlobId { home: ShardId(4), opened: Index(1) }]);
        assert_eq!(left.chunks.len(), 2);
        assert!(left.violation(7).what.contains("blob3.8"));
    }
}
