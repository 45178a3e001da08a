//! The charter of a running node: how it learns of another version, and who is told.
//!
//! The meta group decides. Its replicas take what they have applied, every other node is told: a beat names the sender's
//! version, and whoever has a later one sends it. A node that finds another store in its place stops for good. A store
//! that no charter names yet is remembered, so that the operator can be shown whom to let in.

use super::*;
use crate::object::charter::Charter;

impl Running {
    pub(super) fn charter(&self) -> &Charter {
        match &self.superblock.membership {
            Membership::Member(charter) => charter,
            membership => unreachable!("{membership:?} runs"),
        }
    }

    /// Another version of the charter, from this node's meta group or from a peer.
    pub(super) fn on_charter(&mut self, charter: Charter, effects: &mut Vec<Effect>) {
        let known = self.charter();
        // The clusters of two operators may have the same secret.
        let same = charter.founding.cluster == known.founding.cluster;
        if !same || charter.version <= known.version {
            return;
        }
        let Superblock { node, store, .. } = self.superblock;
        if !charter.names(node, store) {
            let has = charter.node(node).map(|it| it.store);
            self.halted = Some(Halt {
                reason: alloc::format!(
                    "node {node} has another store now ({has:?}, this is {store:?}): the data directory is of no more \
                     use to the cluster"
                ),
            });
            return;
        }
        self.peers.adopt(&charter);
        self.strangers.retain(|node, store| !charter.names(*node, *store));
        effects.push(Effect::Trace(Trace::Chartered { version: charter.version }));
        self.superblock.membership = Membership::Member(charter);
        self.write_superblock(effects);
    }

    /// A store without a cluster looks for one, again and again.
    pub(super) fn on_hello(&mut self, from: NodeId, store: StoreId) -> Option<Post> {
        let charter = self.charter();
        if charter.names(from, store) {
            return Some(Post::Peer(from, Head::Welcome(charter.clone()).into()));
        }
        let known = self.strangers.insert(from, store);
        let news = known != Some(store);
        news.then_some(Post::Trace(Trace::Stranger { node: from, store }))
    }

    /// The meta group's first leader writes the charter down.
    pub(super) fn propose_charter(&mut self, config: &Config, now: Now) {
        let charter = self.charter().clone();
        let Some(replica) = self.replicas.get_mut(&GroupId::META) else { return };
        if !replica.leads() || registry::charter_version(replica.state.table()).is_some() {
            return;
        }
        let mut posts = Vec::new();
        let mut cx = cx(config, now, &mut posts, &mut self.scratch.outputs);
        replica.propose_own(Op::Registry(RegistryOp::Found(charter)), &mut cx);
        for post in posts {
            self.push(post);
        }
    }
}
