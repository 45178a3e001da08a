//! Shards: which one a key belongs to, and which nodes hold it.
//!
//! A cluster has a fixed power of two of shards, each a Raft group of its own, and the meta group beside
//! them. A key's shard follows from its hash alone, and a shard's replicas from the list of nodes alone
//! ([`placement`]), so every node computes both and nobody is asked.
//!
//! **Objects** are spread by bucket and whole key: keys that share a prefix share no shard, so no bucket
//! is slower than the cluster. **User keys** are spread the same way, except that a tag in braces
//! decides alone: `{order-7}/head` and `{order-7}/line/1` are in one shard and can change together.
//!
//! **Caveats.** Placement is computed from the founding's list of nodes; it proposes, and a group's own
//! configuration is the authority (DESIGN.md, wall 7) as soon as configurations change.

pub mod placement;

use crate::types::{BucketId, ShardId};

/// The most shards that a cluster may have.
pub const SHARDS_MAX: u16 = 256;

/// The shard of a key of the key-value space. If the key has a `{`, and a `}` after it with something in
/// between, only what is between the first such pair counts.
#[must_use]
pub fn shard_of_key(key: &[u8], shards: u16) -> ShardId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"kv");
    hasher.update(affinity(key).unwrap_or(key));
    shard_of(&hasher, shards)
}

/// The shard of an object, and so the home of its blobs and uploads.
#[must_use]
pub fn shard_of_object(bucket: BucketId, key: &[u8], shards: u16) -> ShardId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"object");
    hasher.update(&bucket.0.to_be_bytes());
    hasher.update(key);
    shard_of(&hasher, shards)
}

/// The affinity tag of a key.
fn affinity(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = key.get(open + 1..)?;
    let close = rest.iter().position(|byte| *byte == b'}')?;
    rest.get(..close).filter(|tag| !tag.is_empty())
}

fn shard_of(hasher: &blake3::Hasher, shards: u16) -> ShardId {
    assert!(shards.is_power_of_two(), "{shards} shards are no power of two");
    let [low, high, ..] = *hasher.finalize().as_bytes();
    ShardId(u16::from_le_bytes([low, high]) & (shards - 1))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test that is wrong may panic")]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    #[test]
    fn an_affinity_tag_decides_alone_for_user_keys_only() {
        assert_eq!(affinity(b"{order-7}/head"), Some(&b"order-7"[..]));
        assert_eq!(affinity(b"a{b}c{d}"), Some(&b"b"[..]));
        for key in [&b"{}a{b}"[..], b"{", b"a}b", b"}{", b"", b"{a"] {
            assert_eq!(affinity(key), None, "{key:?}");
        }
        for tag in 0..50 {
            let whole = shard_of_key(format!("{tag}").as_bytes(), 256);
            for rest in ["", "x", "/line/1", "{y}"] {
                assert_eq!(shard_of_key(format!("{{{tag}}}{rest}").as_bytes(), 256), whole);
                assert_eq!(shard_of_key(format!("a{{{tag}}}{rest}").as_bytes(), 256), whole);
            }
        }
        let keys =
            (0..50).map(|n| shard_of_object(BucketId(1), format!("{{a}}{n}").as_bytes(), 256));
        assert!(keys.collect::<alloc::collections::BTreeSet<_>>().len() > 30);
    }

    #[test]
    fn keys_spread_evenly_and_growing_by_two_splits_each_shard() {
        let mut counts = vec![0_u32; 256];
        for n in 0..256 * 200 {
            let key = format!("user/{n}");
            let shard = shard_of_key(key.as_bytes(), 256);
            assert_eq!(shard.0 % 128, shard_of_key(key.as_bytes(), 128).0);
            assert_eq!(shard_of_key(key.as_bytes(), 1), ShardId(0));
            counts[usize::from(shard.0)] += 1;
        }
        // 200 expected; the standard deviation is 14.
        assert!(counts.iter().all(|count| (130..270).contains(count)), "{counts:?}");
    }

    #[test]
    fn shards_of_well_known_keys_never_change() {
        let keys = ["a", "b", "{a}b", "hello", "users/42"];
        let kv = keys.map(|key| shard_of_key(key.as_bytes(), 256).0);
        let objects = keys.map(|key| shard_of_object(BucketId(3), key.as_bytes(), 256).0);
        insta::assert_snapshot!(format!("kv {kv:?}\nobjects {objects:?}"));
    }
}
