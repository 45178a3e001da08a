//! What an operator changes over the admin port, and how a node knows that it is the operator: the request carries a
//! keyed hash of itself, and the key comes from the cluster's secret, which stands in the nodes' configurations.
//!
//! A request that is sent again does no harm, because it says what it found and not only what it wants. So there is no
//! nonce; but the port is meant for loopback or an operator's network all the same, for the hash hides nothing.

use crate::config::Secret;
use ironseed_core::object::api::Request;
use ironseed_core::object::layout::Move;
use ironseed_core::object::registry::Replacement;
use ironseed_core::types::{NodeId, ShardId, StoreId};
use serde::{Deserialize, Serialize};

/// Where [`ReplaceStore`] is posted.
pub const REPLACE_STORE: &str = "/cluster/replace-store";
/// Where [`MoveShard`] is posted.
pub const MOVE_SHARD: &str = "/cluster/move-shard";
/// The header with the keyed hash in hexadecimal.
pub const PROOF: &str = "x-ironseed-proof";
/// The most bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 4 << 10;

/// Separates this use of the secret from any other.
const KEY_CONTEXT: &str = "ironseed 2026-11 admin port v1";

/// Proves that a request comes from somebody who knows the cluster's secret.
#[derive(Clone)]
pub struct Key(Option<[u8; 32]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// The key of a cluster. One without a secret has none, and nothing can be proven to it.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let bytes = Some(secret.bytes()).filter(|bytes| !bytes.is_empty());
        Self(bytes.map(|bytes| blake3::derive_key(KEY_CONTEXT, bytes)))
    }

    /// The proof for posting `body` to `path`.
    #[must_use]
    pub fn prove(&self, path: &str, body: &[u8]) -> Option<String> {
        self.hash(path, body).map(|hash| hash.to_hex().to_string())
    }

    /// Whether this is the proof. Takes as long whatever is wrong with it.
    #[must_use]
    pub fn holds(&self, path: &str, body: &[u8], proof: &str) -> bool {
        let given = blake3::Hash::from_hex(proof);
        matches!((self.hash(path, body), given), (Some(hash), Ok(given)) if hash == given)
    }

    fn hash(&self, path: &str, body: &[u8]) -> Option<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(self.0.as_ref()?);
        hasher.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes()).update(body);
        Some(hasher.finalize())
    }
}

/// "The disk of this node is lost: let another store take its place."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceStore {
    /// The node.
    pub node: u32,
    /// The store that it has according to the charter, in hexadecimal.
    pub old: String,
    /// The store that it shall have.
    pub new: String,
}

impl ReplaceStore {
    /// As the cluster understands it; `None` if a store is not one.
    #[must_use]
    pub fn replacement(&self) -> Option<Replacement> {
        let (old, new) = (store(&self.old)?, store(&self.new)?);
        Some(Replacement { node: NodeId(self.node), old, new })
    }
}

/// "These nodes shall have the replicas of this shard."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveShard {
    /// The shard.
    pub shard: u16,
    /// The nodes.
    pub to: Vec<u32>,
    /// The version of the layout that the operator has seen: whoever has seen an older one is refused.
    pub layout: u64,
}

impl From<MoveShard> for Move {
    fn from(asked: MoveShard) -> Self {
        let MoveShard { shard, to, layout } = asked;
        let to = to.into_iter().map(NodeId).collect();
        Self { shard: ShardId(shard), to, version: layout }
    }
}

/// What a posted body asks of the cluster; `None` if it is not what belongs to the path.
#[must_use]
pub fn parse(path: &str, body: &[u8]) -> Option<Request> {
    match path {
        REPLACE_STORE => {
            let asked: ReplaceStore = serde_json::from_slice(body).ok()?;
            asked.replacement().map(Request::ReplaceStore)
        }
        MOVE_SHARD => {
            let asked: MoveShard = serde_json::from_slice(body).ok()?;
            Some(Request::MoveShard(asked.into()))
        }
        _ => None,
    }
}

/// A store's id out of 32 hexadecimal digits.
fn store(text: &str) -> Option<StoreId> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
    Some(StoreId(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_the_secret_proves_what_he_asks() {
        let key = Key::new(&Secret::new(b"a secret".to_vec()));
        let proof = key.prove(REPLACE_STORE, b"{}").unwrap();
        assert!(key.holds(REPLACE_STORE, b"{}", &proof));
        assert!(!key.holds(REPLACE_STORE, b"{ }", &proof));
        assert!(!key.holds("/cluster/other", b"{}", &proof));
        assert!(!key.holds(REPLACE_STORE, b"{}", "no proof"));
        let other = Key::new(&Secret::new(b"another".to_vec()));
        assert!(!other.holds(REPLACE_STORE, b"{}", &proof));
        let none = Key::new(&Secret::default());
        assert_eq!(none.prove(REPLACE_STORE, b"{}"), None);
        assert!(!none.holds(REPLACE_STORE, b"{}", &proof));
    }

    #[test]
    fn what_is_posted_is_understood_where_it_belongs() {
        let asked = MoveShard { shard: 3, to: vec![1, 4, 5], layout: 7 };
        let body = serde_json::to_vec(&asked).unwrap();
        let to = [1, 4, 5].map(NodeId).to_vec();
        let wanted = Request::MoveShard(Move { shard: ShardId(3), to, version: 7 });
        assert_eq!(parse(MOVE_SHARD, &body), Some(wanted));
        assert_eq!(parse(REPLACE_STORE, &body), None);
        assert_eq!(parse(MOVE_SHARD, b"{}"), None);
    }

    #[test]
    fn a_store_is_32_digits() {
        let id = StoreId([0x0a; 16]);
        assert_eq!(store(&id.to_string()), Some(id));
        for text in ["", "0a", &"0a".repeat(17), &"+a".repeat(16), &"xy".repeat(16)] {
            assert_eq!(store(text), None, "{text}");
        }
    }
}
