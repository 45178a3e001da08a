//! Bytes in: from a stream of pieces to inline content or a blob of named chunks.

use super::{Call, Failure, HELD_CHUNKS, Ticket, Tickets};
use crate::chunk::STAGE_LEASE_MS;
use crate::codec::Octets;
use crate::machine::{Duration, Instant};
use crate::object::api::{
    Answer, CHUNK_BYTES, Content, EXTENT_CHUNKS_MAX, INLINE_BYTES_MAX, Outcome, Refusal, Request,
    StagedChunk,
};
use crate::types::{BlobId, ChunkId};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

/// An upload of one body: an object put whole, or one part.
///
/// - Chunks are numbered from 0 in the order of their bytes; each is in exactly one of `ready`, `calls`, `staged`,
///   `restage` or named.
/// - `staged` holds only chunks at or above `named`.
/// - One `AppendExtent` is under way at the most, so extents are named in order.
#[derive(Clone, Debug)]
pub struct Uploader {
    bucket: String,
    key: String,
    bytes_max: u64,
    /// Bytes that the client has announced; more than any body has if it has announced none.
    promised: u64,
    /// Bytes taken so far.
    bytes: u64,
    /// The chunk that is filling.
    tail: BytesMut,
    /// Chunks cut so far.
    cut: u64,
    /// Chunks that wait for a call.
    ready: VecDeque<(u64, Bytes)>,
    /// Bytes of chunks in `ready` and under way, in either direction.
    held: usize,
    /// Chunks that are durable and not named yet.
    staged: BTreeMap<u64, StagedChunk>,
    /// Chunks that an extent was refused for: to be read back and staged again, one at a time.
    restage: VecDeque<(u64, StagedChunk)>,
    restages: u32,
    /// Chunks named so far: an extent is whatever begins here.
    named: u64,
    /// The number of the next extent.
    extent: u32,
    blob: Option<BlobId>,
    ended: bool,
    failure: Option<Failure>,
    dropped: bool,
    /// When the lease was last known to begin.
    leased: Instant,
    calls: BTreeMap<Ticket, Underway>,
    tickets: Tickets,
}

/// What a call was for.
#[derive(Clone, Debug)]
enum Underway {
    Open { issued: Instant },
    Write { chunk: u64, bytes: usize },
    ReadBack { chunk: u64, bytes: u32 },
    Extent { chunks: u64, issued: Instant },
    Drop,
}

/// Where an upload's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Inline or a staged blob, for [`super::super::api::NewObject`] or a part.
    pub content: Content,
    /// How many bytes.
    pub bytes: u64,
}

impl Uploaded {
    /// What to ask when the put that was to name these bytes has been refused. Harmless if the put
    /// happened after all: a referenced blob is not dropped.
    #[must_use]
    pub const fn release(&self) -> Option<Request> {
        match &self.content {
            Content::Blob(blob) => Some(Request::DropBlob { blob: *blob }),
            Content::Inline(_) | Content::Parts { .. } => None,
        }
    }
}

impl Uploader {
    /// An upload to this key of at most `bytes_max` bytes. For a part, the key of its upload: all bytes
    /// of an object live in its own shard.
    #[must_use]
    pub fn new(bucket: String, key: String, bytes_max: u64) -> Self {
        Self {
            bucket,
            key,
            bytes_max,
            promised: u64::MAX,
            bytes: 0,
            tail: BytesMut::new(),
            cut: 0,
            ready: VecDeque::new(),
            held: 0,
            staged: BTreeMap::new(),
            restage: VecDeque::new(),
            restages: 0,
            named: 0,
            extent: 0,
            blob: None,
            ended: false,
            failure: None,
            dropped: false,
            leased: Instant::default(),
            calls: BTreeMap::new(),
            tickets: Tickets::default(),
        }
    }

    /// The same upload of a body that is announced to have so many bytes: no more room is taken for it. It may have others.
    #[must_use]
    pub const fn promised(mut self, bytes: u64) -> Self {
        self.promised = bytes;
        self
    }

    /// Whether there is room for another piece. A caller that pushes only then holds no more than
    /// [`HELD_CHUNKS`] chunks and one piece.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        !self.ended
            && self.failure.is_none()
            && self.held + self.tail.len() < HELD_CHUNKS * CHUNK_BYTES
    }

    /// Bytes held in memory now.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held + self.tail.len()
    }

    /// Bytes taken so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next bytes of the body. Ignored after a failure. Must not be called after `finish`.
    pub fn push(&mut self, mut piece: &[u8]) {
        assert!(!self.ended, "bytes after the end of the body");
        if self.failure.is_some() {
            return;
        }
        let mut to_come = self.promised.saturating_sub(self.bytes);
        self.bytes += piece.len() as u64;
        if self.bytes > self.bytes_max {
            return self.fail(Failure::TooLarge);
        }
        while !piece.is_empty() {
            let room = CHUNK_BYTES - self.tail.len();
            let (now, later) = piece.split_at(room.min(piece.len()));
            // Once it is clear that the body goes to chunks, room for one is taken at once: growing
            // by doubling would copy every chunk once more.
            if self.bytes > INLINE_BYTES_MAX as u64 {
                let whole = usize::try_from(to_come).map_or(room, |bytes| bytes.min(room));
                self.tail.reserve(whole.max(now.len()));
            }
            to_come = to_come.saturating_sub(now.len() as u64);
            self.tail.extend_from_slice(now);
            piece = later;
            if self.tail.len() == CHUNK_BYTES {
                self.cut_chunk();
            }
        }
    }

    /// Says that the body is complete.
    pub fn finish(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        if self.failure.is_none() && !self.fits_inline() && !self.tail.is_empty() {
            self.cut_chunk();
        }
    }

    /// Gives the upload up: what was staged is dropped by the next calls of [`Self::poll`].
    pub fn abort(&mut self) {
        self.fail(Failure::Aborted);
    }

    /// The next request to make, if there is one now. `now` is the driver's monotonic clock.
    pub fn poll(&mut self, now: Instant) -> Option<Call> {
        if self.failure.is_some() {
            return self.poll_drop();
        }
        let Some(blob) = self.blob else {
            let wanted = !self.fits_inline() && self.calls.is_empty();
            return wanted.then(|| {
                let (bucket, key) = (self.bucket.clone(), self.key.clone());
                self.call(Underway::Open { issued: now }, Request::OpenBlob { bucket, key })
            });
        };
        if let Some(call) = self.poll_extent(blob, now) {
            return Some(call);
        }
        if let Some((chunk, bytes)) = self.ready.pop_front() {
            let underway = Underway::Write { chunk, bytes: bytes.len() };
            return Some(self.call(underway, Request::WriteChunk { blob, bytes: Octets(bytes) }));
        }
        self.poll_read_back(blob)
    }

    /// Reports what a call came to.
    pub fn on_outcome(&mut self, ticket: Ticket, outcome: Outcome) {
        let Some(underway) = self.calls.remove(&ticket) else { return };
        match (underway, outcome) {
            (Underway::Open { issued }, Ok(Answer::Blob { blob })) => {
                self.blob = Some(blob);
                self.leased = issued;
            }
            (Underway::Write { chunk, bytes }, Ok(Answer::Staged(staged))) => {
                self.held -= bytes;
                self.staged.insert(chunk, staged);
            }
            (Underway::ReadBack { chunk, bytes }, Ok(Answer::Chunk(read)))
                if read.len() as u64 == u64::from(bytes) =>
            {
                self.ready.push_back((chunk, read.0));
            }
            (Underway::Extent { chunks, issued }, Ok(Answer::Done)) => {
                self.leased = issued;
                if chunks > 0 {
                    self.named += chunks;
                    self.extent += 1;
                    self.staged = self.staged.split_off(&self.named);
                }
            }
            (Underway::Extent { chunks, .. }, Err(Refusal::Restage))
                if chunks > 0 && self.restages < RESTAGES_MAX =>
            {
                self.restages += 1;
                let later = self.staged.split_off(&(self.named + chunks));
                self.restage.extend(core::mem::replace(&mut self.staged, later));
            }
            (Underway::Drop, _) => {}
            (Underway::Open { .. }, outcome) => self.fail(Failure::of(outcome, "a blob")),
            (Underway::Write { bytes, .. }, outcome) => {
                self.held -= bytes;
                self.fail(Failure::of(outcome, "a staged chunk"));
            }
            (Underway::ReadBack { bytes, .. }, outcome) => {
                self.held -= bytes as usize;
                self.fail(Failure::of(outcome, "a chunk"));
            }
            (Underway::Extent { .. }, outcome) => self.fail(Failure::of(outcome, "an extent")),
        }
    }

    /// When to poll again although nothing has happened: a lease is to be renewed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (self.blob.is_some() && self.failure.is_none() && !self.extent_underway())
            .then(|| self.leased + RENEW_AFTER)
    }

    /// Where the bytes are once all is done, or why it failed as soon as it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Uploaded, Failure>> {
        if let Some(failure) = &self.failure {
            return Some(Err(failure.clone()));
        }
        if !self.ended || !self.calls.is_empty() {
            return None;
        }
        let content = match self.blob {
            Some(blob) if self.named == self.cut => Content::Blob(blob),
            None if self.fits_inline() => Content::Inline(Octets(self.tail.clone().freeze())),
            _ => return None,
        };
        Some(Ok(Uploaded { content, bytes: self.bytes }))
    }

    /// Whether nothing is under way and nothing will be asked any more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let clean = self.failure.is_none() || self.blob.is_none() || self.dropped;
        self.outcome().is_some() && self.calls.is_empty() && clean
    }

    const fn fits_inline(&self) -> bool {
        self.bytes <= INLINE_BYTES_MAX as u64
    }

    fn cut_chunk(&mut self) {
        let chunk = self.tail.split().freeze();
        self.held += chunk.len();
        self.ready.push_back((self.cut, chunk));
        self.cut += 1;
    }

    /// The first failure counts. The memory goes at once; what is staged goes with the blob.
    fn fail(&mut self, failure: Failure) {
        if self.failure.is_some() {
            return;
        }
        self.failure = Some(failure);
        self.held -= self.ready.drain(..).map(|(_, bytes)| bytes.len()).sum::<usize>();
        self.tail = BytesMut::new();
        self.staged.clear();
        self.restage.clear();
    }

    /// After a failure: drops the blob, once. One that is still being opened is waited for.
    fn poll_drop(&mut self) -> Option<Call> {
        let blob = self.blob.filter(|_| !self.dropped)?;
        self.dropped = true;
        Some(self.call(Underway::Drop, Request::DropBlob { blob }))
    }

    /// A full extent, the last one, or an empty one where the lease is due.
    fn poll_extent(&mut self, blob: BlobId, now: Instant) -> Option<Call> {
        if self.extent_underway() {
            return None;
        }
        let left = self.cut - self.named;
        let full = (left >= EXTENT_CHUNKS_MAX as u64).then_some(EXTENT_CHUNKS_MAX as u64);
        let count = full.or_else(|| (self.ended && left > 0).then_some(left));
        let upto = self.named + count.unwrap_or(0);
        let whole = self.staged.range(..upto).count() as u64 == count.unwrap_or(0);
        let chunks: Vec<StagedChunk> = if whole {
            self.staged.range(..upto).map(|(_, chunk)| chunk.clone()).collect()
        } else {
            Vec::new()
        };
        if chunks.is_empty() && now < self.leased + RENEW_AFTER {
            return None;
        }
        let underway = Underway::Extent { chunks: chunks.len() as u64, issued: now };
        Some(self.call(underway, Request::AppendExtent { blob, seq: self.extent, chunks }))
    }

    /// A refused extent's chunks are let go already: they are read back from who holds them.
    fn poll_read_back(&mut self, blob: BlobId) -> Option<Call> {
        // One at a time, and only where there is room: the memory bound holds here too.
        let reading = self.calls.values().any(|call| matches!(call, Underway::ReadBack { .. }));
        if reading || self.held + self.tail.len() > (HELD_CHUNKS - 1) * CHUNK_BYTES {
            return None;
        }
        let (chunk, old) = self.restage.pop_front()?;
        self.held += old.bytes as usize;
        let request = Request::ReadChunk { chunk: ChunkId { blob, hash: old.hash } };
        Some(self.call(Underway::ReadBack { chunk, bytes: old.bytes }, request))
    }

    fn extent_underway(&self) -> bool {
        self.calls.values().any(|call| matches!(call, Underway::Extent { .. }))
    }

    fn call(&mut self, underway: Underway, request: Request) -> Call {
        let ticket = self.tickets.take();
        self.calls.insert(ticket, underway);
        Call { ticket, request }
    }
}

/// A lease is renewed when a third of it is gone, which leaves time for an election and a retry.
const RENEW_AFTER: Duration = Duration::from_millis(STAGE_LEASE_MS / 3);
/// How often an upload stages chunks again before it gives up: a replica set changes rarely.
const RESTAGES_MAX: u32 = 3;
