//! Reads of the key-value space. A value may be only on disk: then the read says where, the caller
//! fetches it and [`Found::finish`] makes the entry of it.

use super::api::KvEntry;
use super::space;
use super::table::{RecordLocation, Slot, Table};
use crate::types::{Timestamp, Version};
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;

/// The most entries of one page of a scan.
pub const SCAN_ENTRIES_MAX: usize = 1000;
/// A page of a scan ends once it holds this many bytes of keys and values, so that an answer stays
/// far below a message's limit whatever the values are.
pub const SCAN_BYTES_MAX: u64 = 512 << 10;

/// An entry whose value may still have to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: Bytes,
    /// Log index of the write.
    pub version: Version,
    /// Commit timestamp of the write.
    pub committed: Timestamp,
    /// The value, or where it is in the table log.
    pub value: Result<Bytes, RecordLocation>,
}

/// A page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Entries in key order.
    pub entries: Vec<Found>,
    /// Whether there are more.
    pub truncated: bool,
}

impl Found {
    fn new(key: &[u8], slot: &Slot) -> Self {
        let value = if slot.head.is_empty() {
            slot.body.bytes()
        } else {
            Ok(Bytes::copy_from_slice(&slot.head))
        };
        let (version, committed) = (slot.version, slot.committed);
        Self { key: Bytes::copy_from_slice(key), version, committed, value }
    }

    /// The entry, with the bytes that were read for it if it needed them; `None` if they are missing or
    /// not what was written.
    #[must_use]
    pub fn finish(self, read: Option<Bytes>) -> Option<KvEntry> {
        let value = match self.value {
            Ok(value) => value,
            Err(location) => read.filter(|bytes| location.verify(bytes))?,
        };
        let (version, committed) = (self.version, self.committed);
        Some(KvEntry { key: self.key.into(), value: value.into(), version, committed })
    }
}

/// Looks a key up.
#[must_use]
pub fn get(table: &Table, key: &[u8]) -> Option<Found> {
    table.get(&space::kv(key)).map(|slot| Found::new(key, slot))
}

/// Reads a page of keys at or after `from`: up to `limit` of them, [`SCAN_ENTRIES_MAX`] and
/// [`SCAN_BYTES_MAX`], but one at least if there is one and `limit` is not 0.
#[must_use]
pub fn scan(table: &Table, from: &[u8], limit: u32) -> Page {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(SCAN_ENTRIES_MAX);
    let mut page = Page::default();
    let mut bytes = 0;
    let start = space::kv(from);
    for (key, slot) in table.scan(&[space::KV], Bound::Included(&start)) {
        let size = (key.len() + slot.head.len()) as u64 + u64::from(slot.body.len());
        let full = !page.entries.is_empty() && bytes + size > SCAN_BYTES_MAX;
        if page.entries.len() == limit || full {
            page.truncated = limit > 0;
            break;
        }
        bytes += size;
        let Some(key) = space::kv_key(key) else { unreachable!("the scan stays in its space") };
        page.entries.push(Found::new(key, slot));
    }
    page
}
