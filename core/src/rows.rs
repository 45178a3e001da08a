//! Rows: what a node keeps in an engine of somebody else's, and what it asks of one.
//!
//! Where a node's records are not in its own table log, they are rows of an ordered key-value engine: bytes under bytes,
//! in two spaces. The engine does its own input and output, in whatever files it likes; a machine asks for it
//! through [`Io::Rows`](crate::machine::Io::Rows) as for any other operation, and what rows mean is `kv::rows`' business.
//!
//! No key is empty, and none longer than 65,535 bytes.
//!
//! What an engine owes:
//! - A [`RowIo::Write`] is carried out whole, in the order of its changes, or not at all, whatever ends the process.
//! - After a crash what is left is what some prefix of the completed writes made of it, and perhaps of those under way; everything that completed before a [`RowIo::Sync`]
//!   was issued is in it once that has completed.
//! - What it gives back is what was put: bytes that are not are an error ([`IoError::Device`](crate::machine::IoError)), and cost the
//!   replica whose they are its state until a peer gives it another.
//! - Operations may overtake each other: whoever needs an order waits for the completion.

use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

/// A part of an engine with rows of one kind: small ones that a boot reads, and bodies that are read one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Heads of groups and of their records.
    Records,
    /// Bodies.
    Bodies,
}

impl Space {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Records, Self::Bodies];

    /// What an engine calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Bodies => "bodies",
        }
    }
}

/// One change of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// The row is there, with this value, whatever was there before.
    Put {
        /// Where.
        space: Space,
        /// Its key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// The row is not there, whether or not it was.
    Remove {
        /// Where.
        space: Space,
        /// Its key.
        key: Bytes,
    },
    /// No row from the first key on, and before the second, is there.
    RemoveRange {
        /// Where.
        space: Space,
        /// The first key that goes.
        from: Bytes,
        /// The first key behind `from` that stays.
        before: Bytes,
    },
}

impl RowChange {
    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Remove { key, .. } => key.len(),
            Self::RemoveRange { from, before, .. } => from.len() + before.len(),
        }
    }
}

/// An operation of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowIo {
    /// Carries all of these out, in their order, or none.
    Write {
        /// What to change.
        changes: Vec<RowChange>,
    },
    /// Makes every write durable that completed before this was issued.
    Sync,
    /// The value of a row; [`IoError::NotFound`](crate::machine::IoError) if there is none.
    Get {
        /// Where.
        space: Space,
        /// Its key.
        key: Bytes,
    },
    /// A page of rows in key order: at least one if there are any, and no more once they have so many bytes.
    Scan {
        /// Where.
        space: Space,
        /// The first key that may be in it.
        from: Bytes,
        /// The first key behind `from` that is not.
        before: Bytes,
        /// Enough bytes of keys and values.
        bytes_max: u32,
    },
}

/// A page of rows in the making: for drivers.
#[derive(Debug, Default)]
pub struct PageBuilder {
    bytes: BytesMut,
    content: usize,
}

impl PageBuilder {
    /// Adds the next row. Returns whether it has room for another when it may take so many bytes.
    ///
    /// # Panics
    /// If key or value have 4 GiB.
    pub fn push(&mut self, key: &[u8], value: &[u8], bytes_max: u32) -> bool {
        for part in [key, value] {
            let len = u32::try_from(part.len());
            let len = len.unwrap_or_else(|_| panic!("a row with {} bytes", part.len()));
            self.bytes.extend_from_slice(&len.to_le_bytes());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.content += key.len() + value.len();
        u32::try_from(self.content).is_ok_and(|content| content < bytes_max)
    }

    /// What the scan completes with.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Keys and values of a page, as handles. `None` if these bytes are none.
#[must_use]
pub fn page(bytes: &Bytes) -> Option<Vec<(Bytes, Bytes)>> {
    let mut rows = Vec::new();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let header = if rest.len() < 8 { return None } else { rest.split_to(8) };
        let (key, value) = header.split_at_checked(4)?;
        let len = |field: &[u8]| {
            let field = field.try_into().ok().map(u32::from_le_bytes)?;
            usize::try_from(field).ok()
        };
        let (key, value) = (len(key)?, len(value)?);
        if rest.len() < key.checked_add(value)? {
            return None;
        }
        let key = rest.split_to(key);
        rows.push((key, rest.split_to(value)));
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_back_and_a_cut_one_is_none() {
        let mut builder = PageBuilder::default();
        assert!(builder.push(b"a", b"", 3));
        assert!(builder.push(b"", b"b", 3));
        assert!(!builder.push(b"c", b"dd", 3));
        let bytes = builder.finish();
        let row = |key: &'static [u8], value: &'static [u8]| (key.into(), value.into());
        assert_eq!(
            page(&bytes),
            Some(Vec::from([row(b"a", b""), row(b"", b"b"), row(b"c", b"dd")]))
        );
        let whole = [0, 9, 18, 29];
        for end in 0..bytes.len() {
            let rows = page(&bytes.slice(..end)).map(|rows| rows.len());
            assert_eq!(rows, whole.iter().position(|at| *at == end), "cut at {end}");
        }
    }
}
