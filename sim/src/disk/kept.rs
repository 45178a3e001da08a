//! Bulk bytes that a file shares with whoever wrote or read them last.
//!
//! A scrub reads the same chunks round after round, and a boot the same segments. Copying them out of pages each time, and hashing
//! every copy anew ([`crate::hashes`]), was most of the work of a long run: now a range that has not changed since is the same
//! piece of memory, and what is known of that stays true.
//!
//! - Every range here reads exactly so, for as long as it is here: whatever changes a byte of the file forgets it first.

use bytes::Bytes;
use std::collections::BTreeMap;

/// Shorter ranges are copied: it costs less than to look here.
const BULK: usize = 4 << 10;

/// Ranges of one file by where they begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    ranges: BTreeMap<usize, Bytes>,
    /// None of them is longer.
    longest: usize,
    /// Bytes of all of them.
    bytes: usize,
}

impl Kept {
    /// The bytes from here to there, if they are known.
    pub(super) fn get(&self, start: usize, end: usize) -> Option<Bytes> {
        let bytes = self.ranges.get(&start).filter(|it| it.len() >= end - start)?;
        Some(bytes.slice(..end - start))
    }

    /// A file of so many bytes reads like this from here on.
    pub(super) fn keep(&mut self, start: usize, bytes: &Bytes, len: usize) {
        let known = self.ranges.get(&start).map_or(0, Bytes::len);
        if bytes.len() < BULK || bytes.len() <= known {
            return;
        }
        // Ranges may overlap: so many that they come to more than a few copies of the file are not worth their memory.
        if self.bytes > 4 * len {
            *self = Self::default();
        }
        if let Some(before) = self.ranges.insert(start, bytes.clone()) {
            self.bytes -= before.len();
        }
        self.longest = self.longest.max(bytes.len());
        self.bytes += bytes.len();
    }

    /// What stands from here to there is about to change.
    pub(super) fn forget(&mut self, start: usize, end: usize) {
        if self.ranges.is_empty() || start >= end {
            return;
        }
        let near = start.saturating_sub(self.longest)..end;
        let changed = |at: &usize, bytes: &mut Bytes| at + bytes.len() > start;
        self.bytes -= self.ranges.extract_if(near, changed).map(|(_, it)| it.len()).sum::<usize>();
    }
}
