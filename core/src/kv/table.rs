//! The one ordered table that is all the replicated state of a group.
//!
//! A record is a key and a [`Slot`]. Its **head** is what apply needs to decide, and stays in memory;
//! its **body** is whatever else there is to it, and stays in memory only until the table log has
//! written it. From then on the slot knows where it is, and a reader fetches it.
//!
//! The table keeps two sums as it goes, so that nobody ever walks it for them:
//! - a digest of its content, independent of order and of where bodies are: replicas at one applied
//!   index have one digest;
//! - for every segment of the table log, what in it is still current: what the cleaner goes by.

pub use super::body::{Body, Head, RecordLocation, ResidentBody, Stored};
use super::cow::{Map, Rubble};
use super::frame::Sum;
use super::rebuild::Builder;
use crate::types::{Timestamp, Version};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

/// Bytes that a record takes in the table log beside its key, head and body, near enough for the
/// cleaner.
const RECORD_OVERHEAD: u64 = 48;

/// A record without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Log index of the command that wrote it.
    pub version: Version,
    /// Commit timestamp of that command.
    pub committed: Timestamp,
    /// What apply decides from. Small.
    pub head: Head,
    /// The rest.
    pub body: Body,
}

/// What of a segment of the table log is current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Records whose latest version is there.
    pub records: u64,
    /// Their bytes, near enough.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Slot>() == 48, "there is one for every record");

/// The table. Cloning it costs little whatever its size.
#[derive(Clone, Debug, Default)]
pub struct Table {
    map: Map<Slot>,
    digest: u128,
    live: BTreeMap<u64, Live>,
}

impl Table {
    /// How many records there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The record at `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Slot> {
        self.map.get(key)
    }

    /// Records whose keys begin with `prefix`, in key order, beginning at `from` (a whole key; one
    /// before the prefix means its start). Lazy: take as many as a step may.
    pub fn scan<'a>(
        &'a self,
        prefix: &'a [u8],
        from: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], &'a Slot)> + use<'a> {
        let before = match from {
            Bound::Unbounded => true,
            Bound::Included(key) | Bound::Excluded(key) => key < prefix,
        };
        let from = if before { Bound::Included(prefix) } else { from };
        self.map.range(from).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Digest of the content. Equal tables have equal digests, whatever happened to them before and
    /// wherever their bodies are.
    #[must_use]
    pub const fn digest(&self) -> u128 {
        self.digest
    }

    /// What all of it comes to.
    #[must_use]
    pub const fn sum(&self) -> Sum {
        Sum { digest: self.digest, records: self.map.len() as u64 }
    }

    /// What is current in a segment of the table log.
    #[must_use]
    pub fn live(&self, segment: u64) -> Live {
        self.live.get(&segment).copied().unwrap_or_default()
    }

    /// Bytes of all current records in the table log, near enough. Looks at each segment, not at records.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.live.values().map(|live| live.bytes).sum()
    }

    /// The oldest segment of the table log that a record is in.
    #[must_use]
    pub fn oldest_segment(&self) -> Option<u64> {
        self.live.keys().next().copied()
    }

    /// Writes or removes a record; returns what was there.
    pub fn set(&mut self, key: &[u8], slot: Option<Slot>) -> Option<Slot> {
        if let Some(new) = &slot {
            self.digest = self.digest.wrapping_add(digest_of(key, new));
            self.account(key, new, true);
        }
        let old = match slot {
            Some(new) => self.map.insert(key, new),
            None => self.map.remove(key),
        };
        if let Some(old) = &old {
            self.digest = self.digest.wrapping_sub(digest_of(key, old));
            self.account(key, old, false);
        }
        old
    }

    /// As many [`Self::set`]s: decides for each of these keys, which rise strictly, what is there. Work in proportion to
    /// the table: for a boot.
    pub(super) fn merge<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]>,
        mut decide: impl FnMut(&'k [u8], Option<&Slot>) -> Option<Slot>,
    ) {
        let mut map = core::mem::take(&mut self.map);
        map.merge(keys, |key, old| {
            let new = decide(key, old.as_ref());
            // A record that was only moved is the same to the digest.
            let moved = matches!((&old, &new), (Some(old), Some(new)) if is_same(old, new));
            if let Some(new) = &new {
                self.account(key, new, true);
                if !moved {
                    self.digest = self.digest.wrapping_add(digest_of(key, new));
                }
            }
            if let Some(old) = &old {
                self.account(key, old, false);
                if !moved {
                    self.digest = self.digest.wrapping_sub(digest_of(key, old));
                }
            }
            new
        });
        self.map = map;
    }

    /// Notes that the table log has written this version of the record, and where its body is. Nothing
    /// happens if the record has changed since or is where it was. Returns whether it did.
    pub fn relocate(&mut self, key: &[u8], version: Version, location: RecordLocation) -> bool {
        let Some(slot) = self.map.get(key) else { return false };
        if slot.version != version || slot.body.location() == Some(location) {
            return false;
        }
        assert_eq!(
            (slot.body.len(), slot.body.crc()),
            (location.bytes, location.crc),
            "the body of {key:?} {version:?} changed on its way to the table log"
        );
        let old = slot.clone();
        let new = Slot { body: Body::stored(location), ..old.clone() };
        self.account(key, &old, false);
        self.account(key, &new, true);
        let place = self.map.get_mut(key);
        *place.unwrap_or_else(|| unreachable!("looked up above")) = new;
        true
    }

    /// Whether digest and sums are those of the records. Work in proportion to the table: for checkers.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let mut counted = Self::default();
        for (key, slot) in self.map.range(Bound::Unbounded) {
            counted.digest = counted.digest.wrapping_add(digest_of(key, slot));
            counted.account(key, slot, true);
        }
        (counted.digest, counted.live) == (self.digest, self.live.clone())
    }

    /// The segments of the table log in which records are.
    pub fn segments(&self) -> impl Iterator<Item = u64> {
        self.live.keys().copied()
    }

    /// Takes the table apart in slices; see [`Rubble`].
    #[must_use]
    pub fn into_rubble(self) -> Rubble<Slot> {
        self.map.into_rubble()
    }

    fn account(&mut self, key: &[u8], slot: &Slot, add: bool) {
        let Some(location) = slot.body.location() else { return };
        let bytes = (key.len() + slot.head.len()) as u64 + u64::from(location.bytes);
        let bytes = bytes + RECORD_OVERHEAD;
        let live = self.live.entry(location.segment).or_default();
        if add {
            live.records += 1;
            live.bytes += bytes;
        } else {
            live.records -= 1;
            live.bytes -= bytes;
            if live.records == 0 {
                assert_eq!(live.bytes, 0, "bytes without records in segment {}", location.segment);
                self.live.remove(&location.segment);
            }
        }
    }
}

/// A table that is built from its first record on, without a look at what the records hold: for a boot.
#[derive(Clone, Debug, Default)]
pub(super) struct TableBuilder {
    built: Builder<Slot>,
    /// All of the table but its records.
    sums: Table,
    last: Vec<u8>,
    len: u64,
}

impl TableBuilder {
    /// The next record. `false` if its key is not behind the last one's.
    pub(super) fn push(&mut self, key: &[u8], slot: Slot) -> bool {
        if self.len > 0 && *key <= *self.last {
            return false;
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.len += 1;
        self.sums.account(key, &slot, true);
        self.built.push(key, slot);
        true
    }

    /// How many there are.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// The table, of which the caller knows the digest.
    pub(super) fn finish(self, digest: u128) -> Table {
        Table { map: self.built.finish(), digest, live: self.sums.live }
    }
}

/// Whether two contents of a record have the same share of the digest.
fn is_same(one: &Slot, other: &Slot) -> bool {
    (one.version, one.committed, &one.head) == (other.version, other.committed, &other.head)
        && (one.body.len(), one.body.crc()) == (other.body.len(), other.body.crc())
}

/// Bytes of a record that are digested in place.
const DIGESTED_SHORT: usize = 256;

/// One record's share of the digest. Where the body is does not count.
pub(super) fn digest_of(key: &[u8], slot: &Slot) -> u128 {
    let pieces: [&[u8]; 7] = [
        &(key.len() as u64).to_le_bytes(),
        key,
        &slot.version.0.to_le_bytes(),
        &slot.committed.0.to_le_bytes(),
        &slot.body.len().to_le_bytes(),
        &slot.body.crc().to_le_bytes(),
        &slot.head,
    ];
    // A hasher is two kilobytes, and a record a few dozen bytes: they are put one behind the other, on the stack if they fit.
    let mut short = [0; DIGESTED_SHORT];
    let mut rest = short.as_mut_slice();
    let mut fits = true;
    for piece in pieces {
        match core::mem::take(&mut rest).split_at_mut_checked(piece.len()) {
            Some((place, behind)) => {
                place.copy_from_slice(piece);
                rest = behind;
            }
            None => fits = false,
        }
    }
    let unused = rest.len();
    let hash = match short.get(..DIGESTED_SHORT - unused) {
        Some(short) if fits => blake3::hash(short),
        _ => blake3::hash(&pieces.concat()),
    };
    let mut half = [0; 16];
    half.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    u128::from_le_bytes(half)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests may panic")]
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_digest_is_the_same_function_of_short_and_of_long_records() {
        for key in [0, 1, 40, 200, 215, 216, 217, 218, 300, 1_000] {
            for head in [0, 1, 30, 37, 38, 39, 40, 400] {
                let (key, head) = (alloc::vec![7; key], alloc::vec![9; head]);
                let slot = Slot {
                    version: Version(3),
                    committed: Timestamp(4),
                    head: head.clone().into(),
                    body: Body::new(Bytes::from_static(b"body")),
                };
                let mut whole = (key.len() as u64).to_le_bytes().to_vec();
                whole.extend_from_slice(&key);
                whole.extend_from_slice(&3_u64.to_le_bytes());
                whole.extend_from_slice(&4_u64.to_le_bytes());
                whole.extend_from_slice(&slot.body.len().to_le_bytes());
                whole.extend_from_slice(&slot.body.crc().to_le_bytes());
                whole.extend_from_slice(&head);
                let half: [u8; 16] = core::array::from_fn(|at| blake3::hash(&whole).as_bytes()[at]);
                let (key_bytes, head_bytes) = (key.len(), head.len());
                let digest = digest_of(&key, &slot);
                assert_eq!(digest, u128::from_le_bytes(half), "{key_bytes} and {head_bytes}");
            }
        }
    }
}
