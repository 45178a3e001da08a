//! Who is there: one beat per peer, whatever the number of groups. A peer that falls silent is lost
//! until it is heard again; one that comes back with another incarnation has lost its volatile state, which
//! wakes the groups that were quiet with it.

use super::api::Config;
use super::message::Head;
use super::superblock::{Charter, Superblock};
use crate::machine::{Duration, Instant};
use crate::types::{Incarnation, NodeId, StoreId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

#[derive(Clone, Debug)]
struct Peer {
    store: StoreId,
    heard: Instant,
    incarnation: Incarnation,
    lost: bool,
    /// It said that it has another store: said once.
    strange: bool,
}

/// All peers of a node.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    beat: Head,
    every: Duration,
    patience: Duration,
    beat_at: Instant,
    peers: BTreeMap<NodeId, Peer>,
}

/// What has become of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Lost(NodeId),
    Found(NodeId),
    Restarted(NodeId, Incarnation),
    Stranger(NodeId, StoreId),
}

impl Peers {
    pub(super) fn new(
        config: &Config,
        charter: &Charter,
        superblock: &Superblock,
        now: Instant,
    ) -> Self {
        let peers = charter.members.iter().filter(|(node, _)| *node != config.me);
        let peer = |store| Peer {
            store,
            heard: now,
            incarnation: Incarnation(0),
            lost: false,
            strange: false,
        };
        Self {
            beat: Head::Beat { incarnation: superblock.incarnation, store: superblock.store },
            every: config.tuning.heartbeat,
            patience: config.tuning.election,
            beat_at: now,
            peers: peers.map(|(node, store)| (*node, peer(*store))).collect(),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.beat_at
    }

    /// Peers that are not heard of.
    pub(super) fn lost(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.lost).map(|(node, _)| *node)
    }

    /// Any message shows that a peer is there.
    pub(super) fn heard(&mut self, node: NodeId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard = now;
        }
    }

    pub(super) fn on_beat(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        store: StoreId,
    ) -> Vec<News> {
        let Some(peer) = self.peers.get_mut(&node) else { return Vec::new() };
        if store != peer.store {
            let first = !core::mem::replace(&mut peer.strange, true);
            return first.then_some(News::Stranger(node, store)).into_iter().collect();
        }
        let mut news = Vec::new();
        if incarnation > peer.incarnation {
            peer.incarnation = incarnation;
            news.push(News::Restarted(node, incarnation));
        }
        news
    }

    /// Who has been silent for too long, and who is back.
    pub(super) fn on_time(&mut self, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        for (node, peer) in &mut self.peers {
            let lost = now - peer.heard > self.patience;
            if lost != peer.lost {
                peer.lost = lost;
                news.push(if lost { News::Lost(*node) } else { News::Found(*node) });
            }
        }
        news
    }

    /// The beats that are due.
    pub(super) fn beats(&mut self, now: Instant) -> Vec<(NodeId, Head)> {
        if self.beat_at > now {
            return Vec::new();
        }
        self.beat_at = now + self.every;
        self.peers.keys().map(|node| (*node, self.beat.clone())).collect()
    }
}
