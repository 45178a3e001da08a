//! The superblock: who this store is. Two copies of 4 KiB, written one after the other with a sync
//! between, so that neither a torn write nor one damaged spot loses the newest.
//!
//! ```text
//! copy (4096 bytes, at offset 0 and 4096)
//!   0  magic  "IRONSEED"      8
//!   8  format version         2   little-endian
//!  10  payload length         4
//!  14  CRC32 of payload       4
//!  18  sequence               8   the higher one is newer
//!  26  CRC32 of bytes 0..26   4
//!  30  payload                    bincode of `Superblock`
//! ```

use super::api::{Engine, FsyncPolicy};
use super::scrub::Scrubbed;
use crate::codec;
use crate::machine::{FileId, FileKind};
pub use crate::object::charter::{Charter, Founding};
use crate::raft::Standing;
use crate::types::{Incarnation, NodeId, StoreId};
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;
use core::fmt;

/// Version of everything in a data directory. A node refuses what it does not know.
pub const FORMAT_VERSION: u16 = 3;
/// Bytes of one copy.
pub const COPY_BYTES: usize = 4096;
/// Where the payload begins in a copy.
const HEADER_BYTES: usize = 30;
const MAGIC: &[u8; 8] = b"IRONSEED";

/// How far a store has come towards being a member.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Membership {
    /// An empty store that waits to be told of a cluster. Never votes.
    Blank,
    /// The operator founds a cluster here; the other members' stores are not all known yet.
    Founder(Founding),
    /// A member.
    Member(Charter),
}

/// Everything that a store knows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Superblock {
    /// The node that this store belongs to. Starting another node on it is refused.
    pub node: NodeId,
    /// This physical store.
    pub store: StoreId,
    /// How often it was booted, this boot included.
    pub incarnation: Incarnation,
    /// Whether the last boot ended with everything durable.
    pub clean: bool,
    /// The policy of this boot: after an unclean stop under a lax one, promises may be forgotten.
    pub fsync: FsyncPolicy,
    /// Where its records are. Starting it with another one is refused.
    pub engine: Engine,
    /// What its groups are worth at the most, beyond what its log says of each: it may have forgotten promises, or have
    /// lost everything, in a way that the log does not say yet. Full again once the log does.
    pub standing: Standing,
    /// Its log was made: should there be none, it is lost.
    pub logs: bool,
    /// How far the verification of its chunks is.
    pub scrubbed: Scrubbed,
    /// How far it has come.
    pub membership: Membership,
}

/// Encodes one copy, [`COPY_BYTES`] long.
#[must_use]
pub fn encode_copy(superblock: &Superblock, sequence: u64) -> Bytes {
    let payload = codec::encode(superblock);
    assert!(payload.len() <= COPY_BYTES - HEADER_BYTES, "a superblock of {} bytes", payload.len());
    let mut copy = Vec::with_capacity(COPY_BYTES);
    copy.extend_from_slice(MAGIC);
    copy.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    copy.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    copy.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    copy.extend_from_slice(&sequence.to_le_bytes());
    let header_crc = crc32fast::hash(&copy);
    copy.extend_from_slice(&header_crc.to_le_bytes());
    copy.extend_from_slice(&payload);
    copy.resize(COPY_BYTES, 0);
    copy.into()
}

/// Why a copy can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyError {
    /// Torn, damaged or never written.
    Damaged,
    /// Written by a version that this one does not understand.
    Version(u16),
}

/// Decodes one copy into its sequence and content.
///
/// # Errors
/// See [`CopyError`].
pub fn decode_copy(copy: &[u8]) -> Result<(u64, Superblock), CopyError> {
    let header = copy.get(..HEADER_BYTES).ok_or(CopyError::Damaged)?;
    if header.get(..8) != Some(MAGIC.as_slice()) {
        return Err(CopyError::Damaged);
    }
    if u32_at(header, 26) != Some(crc32fast::hash(header.get(..26).unwrap_or_default())) {
        return Err(CopyError::Damaged);
    }
    let version = header.get(8..10).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes);
    if version != FORMAT_VERSION {
        return Err(CopyError::Version(version));
    }
    let bytes =
        u32_at(header, 10).and_then(|n| usize::try_from(n).ok()).ok_or(CopyError::Damaged)?;
    let end = HEADER_BYTES.checked_add(bytes).ok_or(CopyError::Damaged)?;
    let payload = copy.get(HEADER_BYTES..end).ok_or(CopyError::Damaged)?;
    if u32_at(header, 14) != Some(crc32fast::hash(payload)) {
        return Err(CopyError::Damaged);
    }
    let sequence = header.get(18..26).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    codec::decode(payload).map(|superblock| (sequence, superblock)).map_err(|_| CopyError::Damaged)
}

/// Why a superblock can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Both copies are damaged, or the second is missing.
    Damaged(FileId),
    /// Written by a version that this one does not understand.
    Version(u16),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(file) => write!(
                f,
                "{file} at byte 0: both copies are damaged; give this node an empty directory"
            ),
            Self::Version(version) => write!(
                f,
                "superblock at byte 8: format version {version}, this program understands \
                 {FORMAT_VERSION}"
            ),
        }
    }
}

/// Picks the newest good copy of a superblock file.
///
/// # Errors
/// For the operator: why neither copy can be used.
pub fn newest(file: &[u8]) -> Result<(u64, Superblock), Unusable> {
    let copies = [0, COPY_BYTES]
        .map(|at| decode_copy(file.get(at..at.saturating_add(COPY_BYTES)).unwrap_or_default()));
    for copy in &copies {
        if let Err(CopyError::Version(version)) = copy {
            return Err(Unusable::Version(*version));
        }
    }
    let good = copies.into_iter().filter_map(Result::ok);
    let newest = good.max_by_key(|(sequence, _)| *sequence);
    newest.ok_or(Unusable::Damaged(FileId::new(FileKind::Superblock, 0)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    fn example() -> Superblock {
        Superblock {
            node: NodeId(2),
            store: StoreId([7; 16]),
            incarnation: Incarnation(3),
            clean: true,
            fsync: FsyncPolicy::Always,
            engine: Engine::Native,
            standing: Standing::Full,
            logs: true,
            scrubbed: Scrubbed { rounds: 3, bytes: 5, ..Scrubbed::default() },
            membership: Membership::Blank,
        }
    }

    #[test]
    fn every_flipped_bit_of_a_copy_is_seen_or_harmless() {
        let copy = encode_copy(&example(), 9);
        let payload_end = HEADER_BYTES + codec::encode(&example()).len();
        assert_eq!(decode_copy(&copy), Ok((9, example())));
        for at in 0..payload_end {
            let mut damaged = copy.to_vec();
            damaged[at] ^= 1 << (at % 8);
            assert_eq!(decode_copy(&damaged), Err(CopyError::Damaged), "byte {at}");
        }
    }

    #[test]
    fn the_newest_good_copy_wins_and_an_unknown_version_is_named() {
        let mut file = encode_copy(&example(), 4).to_vec();
        let newer = Superblock { clean: false, ..example() };
        file.extend_from_slice(&encode_copy(&newer, 5));
        assert_eq!(newest(&file).unwrap(), (5, newer));
        file[COPY_BYTES + 40] ^= 1;
        assert_eq!(newest(&file).unwrap(), (4, example()));
        file[40] ^= 1;
        assert!(matches!(newest(&file), Err(Unusable::Damaged(_))));
        assert!(newest(&[]).is_err());
    }
}
