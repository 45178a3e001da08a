//! Walks the bytes of one segment: batch after batch while they are good, block after block while they are
//! not. Finds what is there and judges nothing; [`super::recovery`] knows what it means.

use super::record::{BatchHeader, Entry, Seal};
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::ops::Range;

/// Bytes of the first read, and of the first of a place where payloads are skipped; a batch's directory is usually in it.
const SLICE_BYTES_MIN: u64 = 64 << 10;
/// Bytes of a read while there is much to go through.
const SLICE_BYTES_MAX: u64 = 1 << 20;

/// A walk over one segment.
///
/// The unclassified rest begins at `pos`; up to `at`, no batch begins and none ends.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    segment: u64,
    block: u64,
    end: u64,
    pos: u64,
    at: u64,
    /// Batches up to this number were seen already: what still looks like one is stale.
    floor_seq: u64,
    candidate: Option<Candidate>,
    window: Window,
    /// Whether reads are short because payloads are skipped.
    skips: bool,
    slice: u64,
    /// Whether the file may have held another segment before, so that what is no batch of this one is as good as zeros.
    recycled: bool,
    /// Where the unclassified rest isn't zero; in a recycled file, where something of this segment stands in it.
    dirt: Option<Range<u64>>,
    /// Whether a part of the unclassified rest could not be read at all.
    unreadable: bool,
}

#[derive(Clone, Debug, Default)]
struct Window {
    base: u64,
    bytes: Bytes,
    /// What of it the device could not read; at least that.
    bad: Range<u64>,
}

#[derive(Clone, Debug)]
struct Candidate {
    header: BatchHeader,
    by_tail: bool,
    tries_copy: bool,
}

/// What a walk comes upon next.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The scanner must be fed this range first.
    Read(Range<u64>),
    /// A batch whose head or tail is good.
    Batch(FoundBatch),
    /// No batch from `from` to the end of the segment.
    End {
        /// Where the last batch ended.
        from: u64,
        /// What isn't zero behind it; in a recycled file, what of it bears the mark of this segment.
        dirt: Option<Range<u64>>,
        /// Whether some of it could not be read.
        unreadable: bool,
    },
}

/// A batch as far as head, tail and directories tell.
#[derive(Clone, Debug)]
pub(super) struct FoundBatch {
    /// The header.
    pub(super) header: BatchHeader,
    /// The directory; `None` if both copies are damaged.
    pub(super) entries: Option<Vec<Entry>>,
    /// Whether one copy of header or directory was damaged.
    pub(super) copy_lost: bool,
    /// Where the batch before it ended: bytes between are no batch.
    pub(super) from: u64,
    /// Whether some of the bytes between, or of the batch as far as it was read, could not be read.
    pub(super) unreadable: bool,
}

impl Scanner {
    /// A walk over segment `number` of `bytes` bytes, behind its header block.
    pub(super) fn new(number: u64, block: u64, bytes: u64, skips: bool, recycled: bool) -> Self {
        Self {
            segment: number,
            block,
            end: bytes - bytes % block,
            pos: block,
            at: block,
            floor_seq: 0,
            candidate: None,
            window: Window::default(),
            skips,
            slice: SLICE_BYTES_MIN,
            recycled,
            dirt: None,
            unreadable: false,
        }
    }

    /// What was asked for with [`Found::Read`]; what is short of it counts as zeros. The device could not read
    /// what is in `bad`, which is zeros too.
    pub(super) fn feed(&mut self, range: &Range<u64>, bytes: &Bytes, bad: Range<u64>) {
        let wanted = to_usize(range.end - range.start);
        let bytes = if bytes.len() >= wanted {
            bytes.slice(..wanted)
        } else {
            let mut padded = BytesMut::zeroed(wanted);
            if let Some(front) = padded.get_mut(..bytes.len()) {
                front.copy_from_slice(bytes);
            }
            padded.freeze()
        };
        self.window = Window { base: range.start, bytes, bad };
    }

    /// From here on reads are short, because payloads are not looked at.
    pub(super) const fn skip_payloads(&mut self) {
        self.skips = true;
    }

    /// Whether everything up to here, and nothing more, is classified.
    pub(super) const fn is_at(&self, offset: u64) -> bool {
        self.pos == offset && self.at == offset && self.candidate.is_none()
    }

    /// The bytes of a range, or what to read first.
    pub(super) fn require(&mut self, range: Range<u64>) -> Result<Bytes, Range<u64>> {
        match self.in_window(&range) {
            Some(bytes) => Ok(bytes),
            None => {
                let end = range.end.max((range.start + self.slice).min(self.end));
                // The longer it goes on, the longer the reads.
                self.slice = (self.slice * 2).min(SLICE_BYTES_MAX);
                Err(range.start..end)
            }
        }
    }

    /// Whether the device could not read some of this range, which was fed last.
    pub(super) const fn is_unreadable(&self, range: &Range<u64>) -> bool {
        let bad = &self.window.bad;
        bad.start < bad.end && range.start < bad.end && bad.start < range.end
    }

    fn in_window(&self, range: &Range<u64>) -> Option<Bytes> {
        let start = to_usize(range.start.checked_sub(self.window.base)?);
        let end = to_usize(range.end.checked_sub(self.window.base)?);
        (end <= self.window.bytes.len()).then(|| self.window.bytes.slice(start..end))
    }

    /// Goes on to the next batch or to the end.
    pub(super) fn next(&mut self, seal: &Seal) -> Found {
        loop {
            if let Some(candidate) = self.candidate.take() {
                return self.identify(candidate);
            }
            self.pass_zeros();
            if self.at + self.block > self.end {
                let (dirt, unreadable) = (self.dirt.take(), self.unreadable);
                return Found::End { from: self.pos, dirt, unreadable };
            }
            let block = match self.require(self.at..self.at + self.block) {
                Ok(block) => block,
                Err(range) => return Found::Read(range),
            };
            self.candidate = self.judge_block(&block, seal);
            if self.candidate.is_none() {
                self.pass_block(&block, seal);
            }
        }
    }

    /// Whether a batch begins with this block or ends with it.
    fn judge_block(&self, block: &[u8], seal: &Seal) -> Option<Candidate> {
        let is_ours = |header: &BatchHeader| {
            header.seq > self.floor_seq
                && header.batch_bytes > 0
                && header.offset.is_multiple_of(self.block)
                && u64::from(header.batch_bytes).is_multiple_of(self.block)
                && header.end() <= self.end
        };
        let head = BatchHeader::decode_head(block, seal, self.segment)
            .filter(|header| is_ours(header) && header.offset == self.at);
        if let Some(header) = head {
            return Some(Candidate { header, by_tail: false, tries_copy: false });
        }
        let tail = BatchHeader::decode_tail(block, seal, self.segment).filter(|header| {
            is_ours(header) && header.offset >= self.pos && header.end() == self.at + self.block
        });
        tail.map(|header| Candidate { header, by_tail: true, tries_copy: false })
    }

    /// Goes over blocks of zeros that were read, which are most: none is a batch's head or tail, or dirt. Many at a time first.
    fn pass_zeros(&mut self) {
        let page = ZEROS.len() as u64 / self.block * self.block;
        for step in [page, self.block].into_iter().filter(|step| *step > 0) {
            let behind = self.at.checked_sub(self.window.base).map(to_usize);
            let rest = behind.and_then(|behind| self.window.bytes.get(behind..));
            for piece in rest.unwrap_or_default().chunks_exact(to_usize(step)) {
                let range = self.at..self.at + step;
                if range.end > self.end || self.is_unreadable(&range) || !is_zero(piece) {
                    break;
                }
                self.at = range.end;
            }
        }
    }

    fn pass_block(&mut self, block: &[u8], seal: &Seal) {
        let next = self.at + self.block;
        let is_unreadable = self.is_unreadable(&(self.at..next));
        let is_dirt = match self.recycled {
            true => is_marked(block, seal, self.segment),
            false => !is_zero(block),
        };
        if is_unreadable || is_dirt {
            let start = self.dirt.as_ref().map_or(self.at, |dirt| dirt.start);
            self.dirt = Some(start..next);
        }
        self.unreadable |= is_unreadable;
        self.at = next;
    }

    /// Reads the candidate's directory: the first one, or else the copy.
    fn identify(&mut self, mut candidate: Candidate) -> Found {
        let header = candidate.header;
        loop {
            let inside =
                if candidate.tries_copy { header.directory_copy() } else { header.directory() };
            let range = header.offset + inside.start as u64..header.offset + inside.end as u64;
            let directory = match self.require(range) {
                Ok(directory) => directory,
                Err(range) => {
                    self.candidate = Some(candidate);
                    return Found::Read(range);
                }
            };
            let entries = header.entries(&directory);
            if entries.is_none() && !candidate.tries_copy {
                candidate.tries_copy = true;
                continue;
            }
            let copy_lost = candidate.by_tail || candidate.tries_copy;
            let extent = header.offset..header.end();
            let unreadable = self.unreadable || self.is_unreadable(&extent);
            let batch = FoundBatch { header, entries, copy_lost, from: self.pos, unreadable };
            self.pos = header.end();
            self.at = self.pos;
            self.floor_seq = header.seq;
            if self.skips {
                self.slice = SLICE_BYTES_MIN;
            }
            self.dirt = None;
            self.unreadable = false;
            return Found::Batch(batch);
        }
    }
}

/// Whether this block says of itself that it begins or ends a batch of this segment.
pub(super) fn is_marked(block: &[u8], seal: &Seal, segment: u64) -> bool {
    BatchHeader::decode_head(block, seal, segment).is_some()
        || BatchHeader::decode_tail(block, seal, segment).is_some()
}

/// Whether all of these bytes are zero. Compared with zeros, which is what the machine does fastest.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|piece| ZEROS.get(..piece.len()) == Some(piece))
}

/// Many zeros at once.
static ZEROS: [u8; 8 << 10] = [0; 8 << 10];

/// A length inside a segment: below the address space's size.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
