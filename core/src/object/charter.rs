//! The charter: what a cluster is, and which store each of its nodes has. The meta group holds it; every store keeps
//! a copy in its superblock, so that a node knows before it can ask anybody.

use crate::types::{ClusterId, Incarnation, NodeId, StoreId};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// What founding a cluster fixes for ever.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Founding {
    /// Drawn at random by the operator's tool.
    pub cluster: ClusterId,
    /// Access key of the root user.
    pub access_key: String,
    /// Secret key of the root user.
    pub secret_key: String,
}

/// A cluster, the same on every node that knows this version.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Charter {
    /// Cluster id and root credentials.
    pub founding: Founding,
    /// 0 as founded, one more with every change. A later one takes the place of an earlier one, wherever it is.
    pub version: u64,
    /// The nodes, sorted.
    pub nodes: Vec<Chartered>,
    /// How many shards.
    pub shards: u16,
    /// Replicas of each shard.
    pub replication: u8,
}

/// A node of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Chartered {
    /// Which.
    pub node: NodeId,
    /// The store that it has.
    pub store: StoreId,
    /// How many stores it had before.
    pub generation: u32,
}

impl Chartered {
    /// The boot of a node that calls itself `own`. Boots of a later store are later than all of an earlier one, though
    /// every store counts its own from 1.
    #[must_use]
    pub fn incarnation(&self, own: Incarnation) -> Incarnation {
        Incarnation((u64::from(self.generation) << 32) + own.0)
    }
}

/// Why a store can't take another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Irreplaceable {
    /// The node is not of this cluster.
    NoSuchNode,
    /// It has this store, not the one that was named.
    Has(StoreId),
    /// Another node has the new store.
    Taken,
    /// There is one replica of each shard, and this store has some of them.
    OnlyReplica,
}

impl Charter {
    /// The ids of the nodes.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().map(|it| it.node)
    }

    /// A node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&Chartered> {
        self.nodes.iter().find(|it| it.node == node)
    }

    /// Whether this is the store of that node.
    #[must_use]
    pub fn names(&self, node: NodeId, store: StoreId) -> bool {
        self.node(node).is_some_and(|it| it.store == store)
    }

    /// The next version, in which `node` has the store `new` in place of `old`.
    ///
    /// # Errors
    /// See [`Irreplaceable`].
    pub fn replacing(
        &self,
        node: NodeId,
        old: StoreId,
        new: StoreId,
    ) -> Result<Self, Irreplaceable> {
        let has = self.node(node).ok_or(Irreplaceable::NoSuchNode)?.store;
        if has != old {
            return Err(Irreplaceable::Has(has));
        }
        if self.nodes.iter().any(|it| it.store == new) {
            return Err(Irreplaceable::Taken);
        }
        if self.replication == 1 {
            return Err(Irreplaceable::OnlyReplica);
        }
        let mut next = Self { version: self.version + 1, ..self.clone() };
        for it in next.nodes.iter_mut().filter(|it| it.node == node) {
            *it = Chartered { store: new, generation: it.generation + 1, ..*it };
        }
        Ok(next)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const fn store(id: u8) -> StoreId {
        StoreId([id; 16])
    }

    fn charter(replication: u8) -> Charter {
        let founding = Founding {
            cluster: ClusterId([1; 16]),
            access_key: "root".into(),
            secret_key: "secret".into(),
        };
        let node = |id: u8| Chartered { node: NodeId(id.into()), store: store(id), generation: 0 };
        Charter { founding, version: 0, nodes: (1..=3).map(node).collect(), shards: 4, replication }
    }

    #[test]
    fn a_store_takes_the_place_of_the_one_that_was_named() {
        let was = charter(3);
        let is = was.replacing(NodeId(2), store(2), store(7)).unwrap();
        assert_eq!(is.version, 1);
        assert!(is.names(NodeId(2), store(7)) && !is.names(NodeId(2), store(2)));
        assert!(is.names(NodeId(1), store(1)));
        let replaced = |charter: &Charter, node, old, new| {
            charter.replacing(NodeId(node), store(old), store(new)).map(|_| ())
        };
        // Two operators, or one that asks twice.
        assert_eq!(replaced(&is, 2, 2, 8), Err(Irreplaceable::Has(store(7))));
        assert_eq!(replaced(&is, 4, 4, 8), Err(Irreplaceable::NoSuchNode));
        assert_eq!(replaced(&is, 3, 3, 7), Err(Irreplaceable::Taken));
        assert_eq!(replaced(&charter(1), 2, 2, 7), Err(Irreplaceable::OnlyReplica));
    }

    #[test]
    fn boots_of_a_later_store_are_later() {
        let was = charter(3);
        let old = was.node(NodeId(2)).unwrap().incarnation(Incarnation(1_000));
        assert_eq!(old, Incarnation(1_000));
        let is = was.replacing(NodeId(2), store(2), store(7)).unwrap();
        let new = is.node(NodeId(2)).unwrap().incarnation(Incarnation(1));
        assert!(new > old && new.next() > new);
    }
}
