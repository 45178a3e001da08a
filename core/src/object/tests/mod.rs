//! One shard (or meta group) under test: commands go in at rising indexes, and after each one the table
//! must be consistent.

mod buckets;
mod collection;
mod listing;
mod model;
mod rules;

use super::api::*;
use super::command::{self, ObjectEvent, ObjectOp, Target};
use super::naive::TAG;
use super::query::{self, Query};
use super::record::{self, BlobHead, BlobKind, ContentHead, Life, ObjectHead, PartHead};
use super::registry::{self, RegistryOp};
use crate::codec::Octets;
use crate::kv::batch::{Batch, Roster, Seat};
use crate::kv::{space, table::Table};
use crate::planted::Planted;
use crate::types::{
    BlobId, Boot, BucketId, ChunkHash, Epoch, GroupId, Incarnation, Index, NodeId, Position,
    ShardId, Term, Timestamp,
};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Bound;

pub(super) const HOME: ShardId = ShardId(5);
pub(super) const BUCKET: BucketId = BucketId(7);
pub(super) const EPOCH: Epoch = Epoch(3);
pub(super) const MS: u64 = 1_000_000;

/// A group's table and what has happened to it.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) table: Table,
    pub(super) seat: Seat,
    pub(super) index: u64,
    pub(super) wall: u64,
    pub(super) events: Vec<ObjectEvent>,
}

impl Group {
    /// A shard of three replicas in which [`BUCKET`] is installed.
    pub(super) fn shard() -> Self {
        let mut shard = Self::at(HOME.group());
        let install = ObjectOp::InstallBucket { bucket: BUCKET, epoch: EPOCH };
        assert_eq!(shard.run(install), Ok(Answer::Done));
        shard
    }

    pub(super) fn at(group: GroupId) -> Self {
        let roster = Arc::new(Roster::founding(&[NodeId(1), NodeId(2), NodeId(3)]));
        let seat = Seat { group, roster, planted: Planted::NONE };
        Self { table: Table::default(), seat, index: 0, wall: 1_000 * MS, events: Vec::new() }
    }

    fn batch(&mut self) -> Batch<'_> {
        self.index += 1;
        let position = Position { term: Term(1), index: Index(self.index) };
        // Commands come a nanosecond apart, so a commit timestamp is the wall time.
        self.wall += 1;
        Batch::new(&mut self.table, &self.seat, position, self.wall, Timestamp(self.wall))
    }

    pub(super) fn run(&mut self, op: ObjectOp) -> Outcome {
        let mut events = Vec::new();
        let mut batch = self.batch();
        let outcome = command::apply(&mut batch, &mut events, op);
        let _ = batch.finish();
        self.events.extend(events);
        assert_consistent(&self.table);
        outcome
    }

    pub(super) fn registry(&mut self, op: RegistryOp) -> Outcome {
        let mut batch = self.batch();
        let outcome = registry::apply(&mut batch, op);
        let _ = batch.finish();
        outcome
    }

    pub(super) fn read(&self, query: &Query) -> Outcome {
        let reading = query::read(&self.table, HOME, query)?;
        assert_eq!(reading.wants().count(), 0, "nothing has been logged here");
        Ok(reading.finish([]).unwrap())
    }

    pub(super) fn get(&self, key: &str) -> Result<Object, Refusal> {
        let query = Query::Object { bucket: BUCKET, key: key.into() };
        self.read(&query).map(|answer| match answer {
            Answer::Object(object) => object,
            other => panic!("{other:?}"),
        })
    }

    pub(super) fn open(&mut self, key: &str) -> BlobId {
        match self.run(ObjectOp::OpenBlob { target: target(key) }) {
            Ok(Answer::Blob { blob }) => blob,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn append(&mut self, blob: BlobId, seq: u32, chunks: Vec<StagedChunk>) -> Outcome {
        self.run(ObjectOp::AppendExtent { blob, seq, chunks })
    }

    /// A staged blob of `bytes` bytes.
    pub(super) fn stage(&mut self, key: &str, bytes: u64) -> BlobId {
        let blob = self.open(key);
        for (seq, chunks) in (0..).zip(chunks(bytes).chunks(EXTENT_CHUNKS_MAX)) {
            assert_eq!(self.append(blob, seq, chunks.to_vec()), Ok(Answer::Done));
        }
        blob
    }

    pub(super) fn create(&mut self, key: &str) -> BlobId {
        let attributes = attributes(key);
        match self.run(ObjectOp::CreateUpload { target: target(key), attributes }) {
            Ok(Answer::Upload { upload }) => upload,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn count(&self, space: u8) -> usize {
        self.table.scan(&[space], Bound::Unbounded).count()
    }
}

pub(super) fn target(key: &str) -> Target {
    Target { bucket: BUCKET, epoch: EPOCH, key: key.into() }
}

pub(super) fn attributes(content_type: &str) -> Attributes {
    let headers = vec![("content-type".into(), content_type.into())];
    Attributes { headers, ..Attributes::default() }
}

pub(super) fn etag(seed: u64) -> ETag {
    ETag { md5: (u128::from(seed) << 7).to_be_bytes(), parts: 0 }
}

pub(super) fn inline(bytes: &[u8]) -> Content {
    Content::Inline(Octets::from(bytes.to_vec()))
}

pub(super) fn object(bytes: u64, content: Content) -> NewObject {
    NewObject { attributes: attributes("a/b"), bytes, etag: TAG, content }
}

pub(super) fn part(bytes: u64, md5: [u8; 16], content: Content) -> NewPart {
    NewPart { bytes, md5, checksum: None, content }
}

pub(super) fn put(key: &str, object: NewObject, condition: Condition) -> ObjectOp {
    ObjectOp::Put { target: target(key), object, condition }
}

/// These boots of these nodes.
pub(super) fn boots(of: &[(u32, u64)]) -> Vec<Boot> {
    let boot = |(node, incarnation): &(u32, u64)| Boot {
        node: NodeId(*node),
        incarnation: Incarnation(*incarnation),
    };
    of.iter().map(boot).collect()
}

/// Chunks of a blob of `bytes` bytes, each held by nodes 1 and 3.
pub(super) fn chunks(mut bytes: u64) -> Vec<StagedChunk> {
    let mut chunks = Vec::new();
    while bytes > 0 {
        let chunk = bytes.min(CHUNK_BYTES as u64);
        bytes -= chunk;
        let hash = ChunkHash::of(&bytes.to_le_bytes());
        let holders = boots(&[(1, 1), (3, 2)]);
        chunks.push(StagedChunk { hash, bytes: chunk as u32, holders });
    }
    chunks
}

/// What must hold between the records of a shard, after every command.
fn assert_consistent(table: &Table) {
    let heads = |space: &'static [u8]| table.scan(space, Bound::Unbounded).collect::<Vec<_>>();
    let mut named: BTreeMap<Index, u32> = BTreeMap::new();
    for (_, slot) in table.scan(&[space::OBJECTS], Bound::Unbounded) {
        let head = record::head::<ObjectHead>(slot);
        if let ContentHead::Blob(opened) | ContentHead::Parts(opened) = head.content {
            *named.entry(opened).or_default() += 1;
        }
    }
    let mut parts: BTreeMap<Index, Index> = BTreeMap::new();
    let mut blobs: BTreeMap<Index, BlobHead> = BTreeMap::new();
    for (key, slot) in heads(&[space::BLOBS]) {
        blobs.insert(space::blob_of(HOME, key).unwrap().opened, record::head(slot));
    }
    for (key, slot) in heads(&[space::PARTS]) {
        let upload = space::blob_of(HOME, key).unwrap().opened;
        let BlobKind::Upload { .. } = blobs[&upload].kind else { panic!("a part of no upload") };
        if let ContentHead::Blob(opened) = record::head::<PartHead>(slot).content {
            assert_eq!(parts.insert(opened, upload), None, "{opened:?} is two parts");
        }
    }
    let mut extents: BTreeMap<Index, Vec<u32>> = BTreeMap::new();
    for (key, _) in heads(&[space::EXTENTS]) {
        let blob = space::blob_of(HOME, key).unwrap().opened;
        assert!(blobs.contains_key(&blob), "extents of no blob");
        extents.entry(blob).or_default().push(space::extent_seq(key).unwrap());
    }
    let mut open = BTreeSet::new();
    for (key, _) in heads(&[space::UPLOADS]) {
        let (_, upload) = space::parse_upload(HOME, key).unwrap();
        assert!(open.insert(upload.opened));
    }
    for (opened, head) in &blobs {
        let chore = table.get(&space::chore(BlobId { home: HOME, opened: *opened })).is_some();
        let loose = matches!(head.life, Life::Staged { .. } | Life::Dead { .. });
        assert_eq!(chore, loose, "{opened:?} {:?}", head.life);
        let references = named.get(opened).copied().unwrap_or(0);
        match head.life {
            Life::Referenced { count } => assert_eq!(count, references, "{opened:?}"),
            _ => assert_eq!(references, 0, "{opened:?} {:?} is named", head.life),
        }
        let upload = parts.get(opened).copied();
        match head.life {
            Life::Part { upload: of } => assert_eq!(upload, Some(of), "{opened:?}"),
            _ => assert_eq!(upload, None, "{opened:?} {:?} is a part", head.life),
        }
        assert_eq!(open.contains(opened), head.life == Life::Open, "{opened:?}");
        if let (BlobKind::Chunks { extents: count, .. }, false) =
            (&head.kind, matches!(head.life, Life::Dead { .. }))
        {
            let seqs = extents.get(opened).cloned().unwrap_or_default();
            assert_eq!(seqs, (0..*count).collect::<Vec<_>>(), "extents of {opened:?}");
        }
    }
    assert!(named.keys().chain(&open).chain(parts.keys()).all(|opened| blobs.contains_key(opened)));
    let chores = heads(&[space::CHORES]).len();
    let loose = |head: &&BlobHead| matches!(head.life, Life::Staged { .. } | Life::Dead { .. });
    assert_eq!(chores, blobs.values().filter(loose).count(), "a chore of no blob");
}
