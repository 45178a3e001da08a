//! Bytes out: from an object's record and a range to pieces in order.

use super::{Call, Failure, READ_AHEAD, Ticket, Tickets};
use crate::chunk::PIN_MS;
use crate::machine::{Duration, Instant};
use crate::object::api::{
    Answer, CHUNK_BYTES, ChunkRef, Content, EXTENT_CHUNKS_MAX, Outcome, Part, Request,
};
use crate::types::{BlobId, ChunkId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// A download of one range of one object.
///
/// - `planned` is the object's byte after the last one in `pieces`; `delivered` the one after the last taken.
/// - Everything in `pieces` is in the order of the bytes; what has been asked for is at the front.
/// - One `ReadExtents` or `ReadParts` is under way at the most.
#[derive(Clone, Debug)]
pub struct Downloader {
    /// What the pin is on: the object's blob or upload.
    root: Option<BlobId>,
    delivered: u64,
    planned: u64,
    end: u64,
    pieces: VecDeque<Piece>,
    spans: VecDeque<Span>,
    parts: Option<Parts>,
    listing: Option<(Ticket, Listing)>,
    renewing: Option<Ticket>,
    /// When the pin was last known to begin; unset until the first poll.
    pinned: Option<Instant>,
    failure: Option<Failure>,
    tickets: Tickets,
}

/// A piece of the range, in order.
#[derive(Clone, Debug)]
enum Piece {
    Planned(Plan),
    Asked(Ticket, Plan),
    Here(Bytes),
}

/// A chunk and what of it is wanted.
#[derive(Clone, Debug)]
struct Plan {
    chunk: ChunkId,
    bytes: u32,
    wanted: Range<usize>,
}

/// A run of the object's bytes with one source.
#[derive(Clone, Debug)]
struct Span {
    /// Where in the object it begins.
    start: u64,
    bytes: u64,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Blob(BlobId),
    Inline(Bytes),
}

/// The parts of a completed upload that are still to be listed.
#[derive(Clone, Debug)]
struct Parts {
    upload: BlobId,
    after: u16,
    /// Where in the object the next part begins.
    start: u64,
}

#[derive(Clone, Debug)]
enum Listing {
    Extents { from: u32 },
    Parts,
}

impl Downloader {
    /// A download of the bytes `range` of an object of `bytes` bytes with this content, just looked up.
    /// For one part alone: the part's content and size.
    #[must_use]
    pub fn new(content: &Content, bytes: u64, range: Range<u64>) -> Self {
        assert!(range.start <= range.end && range.end <= bytes, "{range:?} of {bytes} bytes");
        let mut download = Self {
            root: None,
            delivered: range.start,
            planned: range.start,
            end: range.end,
            pieces: VecDeque::new(),
            spans: VecDeque::new(),
            parts: None,
            listing: None,
            renewing: None,
            pinned: None,
            failure: None,
            tickets: Tickets::default(),
        };
        match content {
            Content::Inline(octets) => {
                let source = Source::Inline(octets.0.clone());
                download.spans.push_back(Span { start: 0, bytes, source });
            }
            Content::Blob(blob) => {
                download.root = Some(*blob);
                download.spans.push_back(Span { start: 0, bytes, source: Source::Blob(*blob) });
            }
            Content::Parts { upload } => {
                download.root = Some(*upload);
                download.parts = Some(Parts { upload: *upload, after: 0, start: 0 });
            }
        }
        download.plan_inline();
        download
    }

    /// The next request to make, if there is one now. `now` is the driver's monotonic clock.
    pub fn poll(&mut self, now: Instant) -> Option<Call> {
        let pinned = *self.pinned.get_or_insert(now);
        if self.failure.is_some() || self.planned_all() && self.nothing_to_ask() {
            return None;
        }
        if now >= pinned + RENEW_AFTER && self.renewing.is_none() {
            self.pinned = Some(now);
            if let Some(blob) = self.root {
                let ticket = self.tickets.take();
                self.renewing = Some(ticket);
                return Some(Call {
                    ticket,
                    request: Request::ReadExtents { blob, from: 0, limit: 0 },
                });
            }
        }
        self.poll_chunk().or_else(|| self.poll_listing())
    }

    /// Reports what a call came to.
    pub fn on_outcome(&mut self, ticket: Ticket, outcome: Outcome) {
        if self.renewing == Some(ticket) {
            // What can no longer be pinned may still be read to the end: a chunk that is gone says so.
            self.renewing = None;
        } else if self.listing.as_ref().is_some_and(|(asked, _)| *asked == ticket) {
            let Some((_, listing)) = self.listing.take() else { return };
            match (listing, outcome) {
                (Listing::Extents { from }, Ok(Answer::Extents { extents, .. })) => {
                    self.on_extents(from, &extents);
                }
                (Listing::Parts, Ok(Answer::Parts { parts, truncated, .. })) => {
                    self.on_parts(&parts, truncated);
                }
                (_, outcome) => self.fail(Failure::of(outcome, "extents or parts")),
            }
        } else {
            self.on_chunk(ticket, outcome);
        }
    }

    /// The next piece of the range, if it is here. Never empty.
    pub fn take(&mut self) -> Option<Bytes> {
        if self.failure.is_some() {
            return None;
        }
        match self.pieces.front()? {
            Piece::Planned(_) | Piece::Asked(..) => None,
            Piece::Here(_) => {
                let Some(Piece::Here(bytes)) = self.pieces.pop_front() else { return None };
                self.delivered += bytes.len() as u64;
                assert!(self.delivered <= self.end, "delivered {} of {}", self.delivered, self.end);
                Some(bytes)
            }
        }
    }

    /// Whether every byte of the range has been taken.
    #[must_use]
    pub const fn done(&self) -> bool {
        self.delivered == self.end && self.failure.is_none()
    }

    /// Why the download can't go on, if it can't. The connection must be broken: a body that ends early would
    /// pass for a shorter object.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// When to poll again although nothing has happened: a pin is to be renewed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let asking = !(self.planned_all() && self.nothing_to_ask());
        let pinned = self.pinned.filter(|_| self.root.is_some() && self.failure.is_none())?;
        (asking && self.renewing.is_none()).then(|| pinned + RENEW_AFTER)
    }

    const fn planned_all(&self) -> bool {
        self.planned == self.end
    }

    /// Whether no chunk is left that has not been received: the pin is needed no more.
    fn nothing_to_ask(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Here(_)))
    }

    fn poll_chunk(&mut self) -> Option<Call> {
        let ahead = self.pieces.iter_mut().take(READ_AHEAD);
        let next = ahead.into_iter().find(|piece| matches!(piece, Piece::Planned(_)))?;
        let Piece::Planned(plan) = next else { return None };
        let ticket = self.tickets.take();
        let request = Request::ReadChunk { chunk: plan.chunk };
        *next = Piece::Asked(ticket, plan.clone());
        Some(Call { ticket, request })
    }

    /// Asks for more of the plan before the last chunk of it is asked for.
    fn poll_listing(&mut self) -> Option<Call> {
        if self.planned_all() || self.listing.is_some() || self.pieces.len() > READ_AHEAD {
            return None;
        }
        let (listing, request) = if let Some(span) = self.spans.front() {
            let Source::Blob(blob) = span.source else { return None };
            let from = (self.planned - span.start) / EXTENT_BYTES;
            let from = u32::try_from(from).unwrap_or(u32::MAX);
            let request = Request::ReadExtents { blob, from, limit: EXTENTS_A_CALL };
            (Listing::Extents { from }, request)
        } else if let Some(parts) = &self.parts {
            let (upload, after, limit) = (parts.upload, parts.after, PARTS_A_CALL);
            (Listing::Parts, Request::ReadParts { upload, after, limit })
        } else {
            self.fail(Failure::Inconsistent("the parts end before the object".into()));
            return None;
        };
        let ticket = self.tickets.take();
        self.listing = Some((ticket, listing));
        Some(Call { ticket, request })
    }

    fn on_chunk(&mut self, ticket: Ticket, outcome: Outcome) {
        let mut pieces = self.pieces.iter_mut();
        let asked =
            pieces.find(|piece| matches!(piece, Piece::Asked(asked, _) if *asked == ticket));
        let Some(piece) = asked else { return };
        let Piece::Asked(_, plan) = piece else { return };
        match outcome {
            Ok(Answer::Chunk(bytes)) if bytes.len() as u64 == u64::from(plan.bytes) => {
                *piece = Piece::Here(bytes.0.slice(plan.wanted.clone()));
            }
            outcome => self.fail(Failure::of(outcome, "a chunk of the recorded length")),
        }
    }

    /// Plans the chunks of the front span that these extents name.
    fn on_extents(&mut self, from: u32, extents: &[Vec<ChunkRef>]) {
        let Some(span) = self.spans.front().cloned() else { return };
        let Source::Blob(blob) = span.source else { return };
        let upto = self.end.min(span.start + span.bytes);
        let before = self.planned;
        for (seq, extent) in (u64::from(from)..).zip(extents) {
            for (number, chunk) in (0_u64..).zip(extent) {
                let start = span.start + seq * EXTENT_BYTES + number * CHUNK_BYTES as u64;
                let bytes = (span.start + span.bytes).saturating_sub(start).min(CHUNK_BYTES as u64);
                if u64::from(chunk.bytes) != bytes || bytes == 0 {
                    let how =
                        alloc::format!("chunk of {} bytes at {start}, not {bytes}", chunk.bytes);
                    return self.fail(Failure::Inconsistent(how));
                }
                // The extent's chunks before the range are passed over.
                if start + bytes <= self.planned || self.planned >= upto {
                    continue;
                }
                let take =
                    Range { start: self.planned - start, end: upto.min(start + bytes) - start };
                let chunk = ChunkId { blob, hash: chunk.hash };
                self.planned = start + take.end;
                let wanted = Range { start: index(take.start), end: index(take.end) };
                self.pieces.push_back(Piece::Planned(Plan { chunk, bytes: to_u32(bytes), wanted }));
            }
        }
        if self.planned == upto {
            self.spans.pop_front();
            self.plan_inline();
        } else if self.planned == before {
            self.fail(Failure::Inconsistent("a blob's extents end before its bytes".into()));
        }
    }

    /// Turns parts into spans, without those before and behind the range.
    fn on_parts(&mut self, parts: &[Part], truncated: bool) {
        let Some(mut listed) = self.parts.take() else { return };
        for part in parts {
            let (start, end) = (listed.start, listed.start + part.bytes);
            (listed.start, listed.after) = (end, part.number);
            if end <= self.planned || start >= self.end {
                continue;
            }
            let source = match &part.content {
                Content::Inline(octets) => Source::Inline(octets.0.clone()),
                Content::Blob(blob) => Source::Blob(*blob),
                Content::Parts { .. } => {
                    return self.fail(Failure::Inconsistent("a part made of parts".into()));
                }
            };
            self.spans.push_back(Span { start, bytes: part.bytes, source });
        }
        if truncated && !parts.is_empty() {
            self.parts = Some(listed);
        }
        self.plan_inline();
    }

    /// Plans the spans at the front whose bytes are here already.
    fn plan_inline(&mut self) {
        while let Some(Span { start, bytes, source: Source::Inline(here) }) = self.spans.front() {
            if here.len() as u64 != *bytes {
                let how = alloc::format!("{} inline bytes, not {bytes}", here.len());
                return self.fail(Failure::Inconsistent(how));
            }
            let upto = self.end.min(start + bytes);
            let piece = here.slice(index(self.planned - start)..index(upto - start));
            if !piece.is_empty() {
                self.pieces.push_back(Piece::Here(piece));
            }
            self.planned = upto;
            self.spans.pop_front();
        }
    }

    /// The first failure counts; what was not taken is let go.
    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.pieces.clear();
    }
}

/// An offset inside a chunk or an inline body, which fits any index.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// A chunk's length, which fits.
fn to_u32(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Bytes of every extent but a blob's last.
const EXTENT_BYTES: u64 = EXTENT_CHUNKS_MAX as u64 * CHUNK_BYTES as u64;
/// One extent is enough for 64 chunks; a second hides the round trip to the next.
const EXTENTS_A_CALL: u32 = 2;
/// Parts a call: small records, but an upload may have ten thousand.
const PARTS_A_CALL: u32 = 256;
/// A pin is renewed when a third of it is gone, which leaves time for an election and a retry.
const RENEW_AFTER: Duration = Duration::from_millis(PIN_MS / 3);
