//! The chunk part of the store lane: puts and reads of chunks on behalf of routers, the list of what is
//! missing here, and the sweep that finds chunks of blobs that nobody knows.

use super::post::{Post, ReplicaInput, RouterInput};
use super::scrub::{Progress, Scrub, Scrubbed};
use super::store::Out;
use super::trace::Trace;
use crate::chunk::{ChunkOutput, ChunkStore, ChunkTrace, Put, ReadId, Stats, Wanted};
use crate::machine::{Duration, Hashed, Instant, IoResult, Now, OpIds, first_of};
use crate::node::message::{CallId, Head, PeerMessage};
use crate::object::api::ChunkRef;
use crate::types::{BlobId, Boot, ChunkHash, ChunkId, Index, NodeId, OpId, ShardId};
use crate::wal::{Location, Lsn};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

/// What is missing is asked for again this often: repairs that found nobody are retried.
const MISSING_EVERY: Duration = Duration::from_millis(500);
/// Missing chunks that one round names.
const MISSING_SLICE: usize = 64;
/// Pause between slices of the sweep.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Blobs that one slice of the sweep looks at.
const SWEEP_SLICE: usize = 256;

/// The chunk store of a node with who waits for what.
#[derive(Clone, Debug)]
pub(super) struct Chunks {
    me: Boot,
    store: Box<ChunkStore>,
    scrub: Scrub,
    ops: OpIds,
    stores: BTreeMap<Lsn, Vec<(NodeId, CallId)>>,
    reads: BTreeMap<ReadId, (NodeId, CallId)>,
    missing_at: Instant,
    sweep_at: Instant,
    swept: Option<BlobId>,
    /// Whether a chunk was refused for lack of space since this was asked last.
    lacked_space: bool,
}

impl Chunks {
    pub(super) const fn new(
        me: Boot,
        store: Box<ChunkStore>,
        scrub: Scrub,
        ops: OpIds,
        now: Instant,
    ) -> Self {
        Self {
            me,
            store,
            scrub,
            ops,
            stores: BTreeMap::new(),
            reads: BTreeMap::new(),
            missing_at: now,
            sweep_at: now,
            swept: None,
            lacked_space: false,
        }
    }

    /// Whether a chunk was refused for lack of space since the last question.
    pub(super) const fn take_lacked_space(&mut self) -> bool {
        core::mem::replace(&mut self.lacked_space, false)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let rounds = self.missing_at.min(self.sweep_at);
        first_of([Some(rounds), self.store.deadline(), self.scrub.deadline()])
    }

    pub(super) fn stats(&self) -> Stats {
        self.store.stats()
    }

    pub(super) const fn scrubbed(&self) -> Scrubbed {
        self.scrub.status()
    }

    /// Every chunk that is durable here, whole or not, and where.
    pub(super) fn held(&self) -> impl Iterator<Item = (ChunkId, Location)> {
        self.store.held()
    }

    pub(super) fn held_blobs(&self) -> Vec<BlobId> {
        self.store.blobs(None, usize::MAX)
    }

    /// Whether a chunk of a blob of this shard is named and not here.
    pub(super) fn lacks(&self, shard: ShardId) -> bool {
        let home = |of| BlobId { home: of, opened: Index(0) };
        let after = ChunkId { blob: home(shard), hash: ChunkHash([0; 32]) };
        self.store.missing(Some(after), 1).any(|(chunk, _)| chunk.blob.home == shard)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.store.is_settled()
    }

    pub(super) fn put(
        &mut self,
        (from, call): (NodeId, CallId),
        chunk: ChunkId,
        bytes: Bytes,
        hashed: Hashed,
        out: &mut Out<'_>,
    ) {
        match self.store.put(chunk, bytes, hashed) {
            Put::Durable => self.answer_stored((from, call), true, out),
            Put::Queued(lsn) => self.stores.entry(lsn).or_default().push((from, call)),
        }
    }

    pub(super) fn fetch(
        &mut self,
        (from, call): (NodeId, CallId),
        chunk: ChunkId,
        out: &mut Out<'_>,
    ) {
        let mut outputs = Vec::new();
        match self.store.get(chunk, &mut self.ops, &mut outputs) {
            Some(id) => {
                self.reads.insert(id, (from, call));
            }
            None => self.answer_fetched((from, call), None, out),
        }
        self.carry_out(outputs, out);
    }

    pub(super) fn expect(&mut self, blob: BlobId, chunks: &[ChunkRef]) {
        for chunk in chunks {
            let id = ChunkId { blob, hash: chunk.hash };
            self.store.expect(id, Wanted { bytes: chunk.bytes, holders: 0 });
        }
    }

    pub(super) fn drop_blob(&mut self, blob: BlobId) {
        self.store.drop_blob(blob);
    }

    pub(super) fn pump(&mut self, at: Now, out: &mut Out<'_>) {
        let now = at.mono;
        let mut outputs = Vec::new();
        let Self { store, ops, .. } = self;
        let progress = self.scrub.pump(at, store, ops, &mut outputs);
        store.pump(now, ops, &mut outputs);
        self.carry_out(outputs, out);
        if let Some(Progress::Round(Scrubbed { bytes, damaged, .. })) = progress {
            out.posts.push(Post::Trace(Trace::Scrubbed { bytes, damaged }));
        }
        if let Some(Progress::Note(scrubbed) | Progress::Round(scrubbed)) = progress {
            out.posts.push(Post::Scrubbed(scrubbed));
        }
        if self.missing_at <= now {
            self.missing_at = now + MISSING_EVERY;
            let missing: Vec<ChunkId> =
                self.store.missing(None, MISSING_SLICE).map(|(chunk, _)| chunk).collect();
            if !missing.is_empty() {
                out.posts.push(Post::Router(RouterInput::Missing(missing)));
            }
        }
        if self.sweep_at <= now {
            self.sweep_at = now + SWEEP_EVERY;
            let blobs = self.store.blobs(self.swept, SWEEP_SLICE);
            self.swept = blobs.last().copied();
            for blob in blobs {
                out.posts.push(Post::Replica(blob.home.group(), ReplicaInput::IsKnown(blob)));
            }
        }
    }

    /// Returns whether the operation was the chunk store's.
    pub(super) fn on_done(
        &mut self,
        now: Instant,
        op: OpId,
        result: &IoResult,
        out: &mut Out<'_>,
    ) -> bool {
        let mut outputs = Vec::new();
        let mine = self.store.on_done(now, op, result, &mut self.ops, &mut outputs);
        self.carry_out(outputs, out);
        mine
    }

    fn carry_out(&mut self, outputs: Vec<ChunkOutput>, out: &mut Out<'_>) {
        for output in outputs {
            match output {
                ChunkOutput::Io(io) => out.ios.push(io),
                ChunkOutput::Hash { op, bytes } => out.hashes.push((op, bytes)),
                ChunkOutput::Stored { lsn, .. } => self.on_stored(lsn, true, out),
                ChunkOutput::NoSpace { lsn, .. } => {
                    self.lacked_space = true;
                    self.on_stored(lsn, false, out);
                }
                ChunkOutput::Read { id, result, .. } => {
                    if let Some(to) = self.reads.remove(&id) {
                        self.answer_fetched(to, result.ok(), out);
                    }
                }
                ChunkOutput::Verified { chunk, is_good } => self.scrub.on_verified(chunk, is_good),
                ChunkOutput::Lost { damage, .. } => {
                    out.posts.push(Post::Trace(Trace::Damaged { damage }));
                }
                ChunkOutput::Failed(halt) => *out.halt = Some(halt),
                ChunkOutput::Trace(ChunkTrace::Healed(chunk)) => {
                    out.posts.push(Post::Trace(Trace::ChunkRepaired { chunk }));
                }
                ChunkOutput::Trace(ChunkTrace::Log(event)) => {
                    out.posts.push(Post::Trace(Trace::Log(event)));
                }
                ChunkOutput::Trace(ChunkTrace::Moved(_) | ChunkTrace::SegmentRemoved(_)) => {}
            }
        }
    }

    fn on_stored(&mut self, lsn: Lsn, stored: bool, out: &mut Out<'_>) {
        for to in self.stores.remove(&lsn).unwrap_or_default() {
            self.answer_stored(to, stored, out);
        }
    }

    fn answer_stored(&self, (to, call): (NodeId, CallId), stored: bool, out: &mut Out<'_>) {
        let stored = stored.then_some(self.me.incarnation);
        out.posts.push(if to == self.me.node {
            Post::Router(RouterInput::ChunkStored { from: to, call, stored })
        } else {
            Post::Peer(to, Head::ChunkStored { call, stored }.into())
        });
    }

    fn answer_fetched(
        &self,
        (to, call): (NodeId, CallId),
        bytes: Option<Bytes>,
        out: &mut Out<'_>,
    ) {
        out.posts.push(if to == self.me.node {
            Post::Router(RouterInput::ChunkFetched { from: to, call, bytes })
        } else {
            Post::Peer(
                to,
                match bytes {
                    Some(body) => PeerMessage { head: Head::ChunkFound { call }, body },
                    None => Head::ChunkAbsent { call }.into(),
                },
            )
        });
    }
}
