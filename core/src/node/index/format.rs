//! A snapshot of the index as a file: blocks one behind the other, and a footer that says where the last of them is.
//!
//! ```text
//! block   0  version           1
//!         1  payload length    4   little-endian
//!         5  CRC32             4   of store id, "index", the snapshot's number (8), the block's number (4), bytes 0..5, payload
//!         9  payload               bincode of `Block`
//! footer  0  magic "IRONIDX\n" 8
//!         8  offset of the last block, which is `Block::End`   8
//!        16  its number        4
//!        20  CRC32             4   of store id, "index", the snapshot's number, "footer", bytes 0..20
//! ```
//!
//! The footer is the end of the file: one that was not written to its end has none.

use crate::codec;
use crate::kv::index::{IndexHead, IndexRecord};
use crate::node::cleaner::FrameAt;
use crate::types::GroupId;
use crate::wal::SegmentStat;
use alloc::vec::Vec;
use bincode::{BorrowDecode, Decode, Encode};

/// The version of blocks.
const VERSION: u8 = 1;
/// Bytes before a payload.
const PREAMBLE_BYTES: usize = 9;
/// Bytes of the longest block.
pub(super) const BLOCK_BYTES_MAX: u64 = (PREAMBLE_BYTES + codec::VALUE_BYTES_MAX) as u64;
/// Bytes of the footer.
pub(super) const FOOTER_BYTES: u64 = 24;
const MAGIC: &[u8; 8] = b"IRONIDX\n";

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum Block<'a> {
    /// A group begins.
    Group { group: GroupId, head: IndexHead },
    /// Its next records.
    Records(Vec<IndexRecord<'a>>),
    /// Frames of a segment that a boot need not read, for the cleaner.
    Frames { segment: u64, frames: Vec<FrameAt> },
    /// Everything is there.
    End(Tail),
}

/// What a boot must know first.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Tail {
    /// Segments of the table log when the snapshot was begun. A boot reads the last of them and those behind it.
    pub(super) segments: Vec<SegmentStat>,
    /// The last batch of the table log that was durable when this was written: every frame that is included was.
    pub(super) durable: u64,
    /// Records of all groups.
    pub(super) records: u64,
}

/// What a footer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) tail_at: u64,
    pub(super) tail_block: u32,
}

/// What every checksum of a snapshot begins with: nothing of another store or of another snapshot passes.
#[derive(Clone, Debug)]
pub(super) struct Seal(crc32fast::Hasher);

impl Seal {
    pub(super) fn new(store: &[u8; 16], number: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(store);
        hasher.update(b"index");
        hasher.update(&number.to_le_bytes());
        Self(hasher)
    }

    fn crc(&self, pieces: [&[u8]; 3]) -> u32 {
        let mut hasher = self.0.clone();
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finalize()
    }

    /// The bytes of the block of this number.
    pub(super) fn encode(&self, number: u32, block: &Block<'_>) -> Vec<u8> {
        let payload = codec::encode(block);
        let Ok(length) = u32::try_from(payload.len()) else {
            unreachable!("a block of {} bytes", payload.len())
        };
        let mut bytes = Vec::with_capacity(PREAMBLE_BYTES + payload.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&length.to_le_bytes());
        let crc = self.crc([&number.to_le_bytes(), &bytes, &payload]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&payload);
        bytes
    }

    /// The bytes of the footer of a snapshot.
    pub(super) fn footer(&self, footer: Footer) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&footer.tail_at.to_le_bytes());
        bytes.extend_from_slice(&footer.tail_block.to_le_bytes());
        let crc = self.crc([b"footer", &bytes, &[]]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The footer in the last bytes of a file.
    pub(super) fn footer_in(&self, bytes: &[u8]) -> Option<Footer> {
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        let (magic, fields) = covered.split_first_chunk::<8>()?;
        let (tail_at, tail_block) = fields.split_first_chunk::<8>()?;
        if magic != MAGIC || self.crc([b"footer", covered, &[]]) != u32::from_le_bytes(*crc) {
            return None;
        }
        let tail_block = u32::from_le_bytes(tail_block.try_into().ok()?);
        Some(Footer { tail_at: u64::from_le_bytes(*tail_at), tail_block })
    }

    /// The block of this number at the start of these bytes.
    pub(super) fn decode<'a>(&self, number: u32, bytes: &'a [u8]) -> Decoded<'a> {
        let Some((covered, rest)) = bytes.split_at_checked(PREAMBLE_BYTES - 4) else {
            return Decoded::Short;
        };
        let [version, length @ ..] = covered else { return Decoded::Short };
        let Ok(length) = <[u8; 4]>::try_from(length) else { return Decoded::Short };
        let length = u32::from_le_bytes(length) as usize;
        if *version != VERSION {
            return Decoded::Bad("unknown version of a block");
        }
        if length > codec::VALUE_BYTES_MAX {
            return Decoded::Bad("a block longer than any");
        }
        let Some((crc, rest)) = rest.split_first_chunk::<4>() else { return Decoded::Short };
        let Some(payload) = rest.get(..length) else { return Decoded::Short };
        if self.crc([&number.to_le_bytes(), covered, payload]) != u32::from_le_bytes(*crc) {
            return Decoded::Bad("a block does not match its checksum");
        }
        match codec::decode_borrowed(payload) {
            Ok(block) => Decoded::Block { block, bytes: PREAMBLE_BYTES + length },
            Err(_) => Decoded::Bad("malformed block"),
        }
    }
}

/// What stands where a block is expected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded<'a> {
    /// More bytes are needed to tell.
    Short,
    /// A block of so many bytes.
    Block { block: Block<'a>, bytes: usize },
    /// Not the block.
    Bad(&'static str),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn every_byte_of_a_block_and_of_the_footer_counts_and_so_does_its_number() {
        let seal = Seal::new(&[7; 16], 3);
        let tail = Tail { segments: Vec::new(), durable: 300, records: 5 };
        let block = Block::End(tail);
        let bytes = seal.encode(4, &block);
        assert_eq!(seal.decode(4, &bytes), Decoded::Block { block, bytes: bytes.len() });
        for at in 0..bytes.len() {
            assert_eq!(seal.decode(4, &bytes[..at]), Decoded::Short, "cut at {at}");
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(!matches!(seal.decode(4, &damaged), Decoded::Block { .. }), "byte {at}");
        }
        assert!(matches!(seal.decode(5, &bytes), Decoded::Bad(_)));
        for other in [Seal::new(&[8; 16], 3), Seal::new(&[7; 16], 2)] {
            assert!(matches!(other.decode(4, &bytes), Decoded::Bad(_)));
        }
        let footer = Footer { tail_at: 0x1234, tail_block: 9 };
        let bytes = seal.footer(footer);
        assert_eq!(bytes.len() as u64, FOOTER_BYTES);
        assert_eq!(seal.footer_in(&bytes), Some(footer));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert_eq!(seal.footer_in(&damaged), None, "byte {at}");
        }
        assert_eq!(Seal::new(&[7; 16], 2).footer_in(&bytes), None);
        assert_eq!(seal.footer_in(&[]), None);
    }
}
