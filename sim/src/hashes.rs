//! What is known of bulk bytes: the same piece of memory is hashed once.
//!
//! A chunk is hashed by whoever has it stored, by every replica, and by each round of every scrub, and it is the same piece of memory
//! for as long as nothing on the way has changed it ([`crate::disk::file::File`] hands out what was written). The piece is held here, so
//! that no other can come to lie in its place.

use bytes::Bytes;
use ironseed_core::machine::Hashed;
use ironseed_core::types::ChunkHash;
use std::collections::BTreeMap;

/// Shorter pieces are hashed again: it costs little.
const BULK: usize = 4 << 10;
/// So many bytes are held at the most.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Pieces of memory and what they hash to.
#[derive(Debug, Default)]
pub struct Hashes {
    /// By address and length. Nothing but a look-up ever depends on where a piece lies.
    known: BTreeMap<(usize, usize), Known>,
    held: usize,
}

#[derive(Debug)]
struct Known {
    /// Keeps the memory.
    _piece: Bytes,
    crc: u32,
    hash: Option<ChunkHash>,
}

impl Hashes {
    /// Name and checksum of bytes.
    pub fn of(&mut self, bytes: &Bytes) -> Hashed {
        if bytes.len() < BULK {
            return Hashed::of(bytes);
        }
        let known = self.known(bytes);
        let hash = *known.hash.get_or_insert_with(|| ChunkHash::of(bytes));
        Hashed { hash, crc: known.crc }
    }

    /// Their checksum alone.
    pub fn crc(&mut self, bytes: &Bytes) -> u32 {
        match bytes.len() < BULK {
            true => crc32fast::hash(bytes),
            false => self.known(bytes).crc,
        }
    }

    fn known(&mut self, bytes: &Bytes) -> &mut Known {
        if self.held > HELD_BYTES_MAX {
            self.known.clear();
            self.held = 0;
        }
        let held = &mut self.held;
        self.known.entry((bytes.as_ptr() as usize, bytes.len())).or_insert_with(|| {
            *held += bytes.len();
            Known { _piece: bytes.clone(), crc: crc32fast::hash(bytes), hash: None }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_piece_is_never_said_of_another_in_its_place() {
        let mut hashes = Hashes::default();
        for round in 0..200_u8 {
            let bytes = Bytes::from(vec![round; BULK + usize::from(round % 3)]);
            for bytes in [&bytes, &bytes.slice(1..), &bytes.slice(..BULK), &bytes] {
                assert_eq!(hashes.of(bytes), Hashed::of(bytes));
                assert_eq!(hashes.crc(bytes), crc32fast::hash(bytes));
            }
        }
    }

    #[test]
    fn no_more_is_held_than_is_allowed() {
        let mut hashes = Hashes::default();
        for round in 0..70_u8 {
            hashes.crc(&Bytes::from(vec![round; 1 << 20]));
        }
        assert!(hashes.held <= HELD_BYTES_MAX + (1 << 20));
        assert_eq!(hashes.held, hashes.known.keys().map(|(_, len)| len).sum::<usize>());
    }
}
