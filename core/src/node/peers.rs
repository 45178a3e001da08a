//! Who is there: one beat per peer, whatever the number of groups. A peer that falls silent is lost
//! until it is heard again, and so is at once one whose host says that nobody listens there any more: a process that was
//! killed is replaced as leader without waiting for its silence. One that comes back with another incarnation has lost its volatile state, which
//! wakes the groups that were quiet with it.

use super::api::Config;
use super::message::{Beat, Head};
use super::superblock::{Charter, Superblock};
use crate::machine::{Duration, Instant, Now};
use crate::types::{Incarnation, NodeId, StoreId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// How far ahead of most clocks a node's own may be: nanoseconds.
const WALL_AHEAD_MAX: u64 = 10_000_000_000;

#[derive(Clone, Debug)]
struct Peer {
    store: StoreId,
    heard: Instant,
    /// Since when it is there without a break, in one boot.
    since: Instant,
    incarnation: Incarnation,
    lost: bool,
    /// Its host has refused a connection since it was heard last.
    refused: bool,
    /// It said that it has another store: said once.
    strange: bool,
    /// Its wall clock as it last said, and when that was here.
    wall: Option<(u64, Instant)>,
}

/// All peers of a node.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    incarnation: Incarnation,
    store: StoreId,
    /// The version of the charter.
    charter: u64,
    /// The version of the layout.
    layout: u64,
    every: Duration,
    patience: Duration,
    beat_at: Instant,
    peers: BTreeMap<NodeId, Peer>,
}

/// How often a node says that it is there, given how long a peer may be silent: two beats fit in, so one
/// that is late or lost changes nothing. No more often, for a cluster at rest says nothing else.
fn beat_every(patience: Duration) -> Duration {
    Duration(patience.0 * 3 / 8)
}

/// What has become of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Lost(NodeId),
    Found(NodeId),
    Restarted(NodeId, Incarnation),
    Stranger(NodeId, StoreId),
    /// It goes by an earlier charter.
    Behind(NodeId),
    /// It goes by an earlier layout.
    LayoutBehind(NodeId),
}

impl Peers {
    pub(super) fn new(
        config: &Config,
        charter: &Charter,
        superblock: &Superblock,
        now: Instant,
    ) -> Self {
        let peers = charter.nodes.iter().filter(|it| it.node != config.me);
        let peer = |store| Peer {
            store,
            heard: now,
            since: now,
            incarnation: Incarnation(0),
            lost: false,
            refused: false,
            strange: false,
            wall: None,
        };
        Self {
            incarnation: superblock.incarnation,
            store: superblock.store,
            charter: charter.version,
            layout: 0,
            every: beat_every(config.tuning.election),
            patience: config.tuning.election,
            beat_at: now,
            peers: peers.map(|it| (it.node, peer(it.store))).collect(),
        }
    }

    /// Goes by another version of the layout.
    pub(super) const fn lay_out(&mut self, version: u64) {
        self.layout = version;
    }

    /// Goes by another version of the charter: who was a stranger may be none, and the other way round.
    pub(super) fn adopt(&mut self, charter: &Charter) {
        self.charter = charter.version;
        for (node, peer) in &mut self.peers {
            if let Some(chartered) = charter.node(*node).filter(|it| it.store != peer.store) {
                (peer.store, peer.strange) = (chartered.store, false);
            }
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.beat_at
    }

    /// Peers that are not heard of.
    pub(super) fn lost(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.lost).map(|(node, _)| *node)
    }

    /// Peers that are not heard of, or have not been there for so long.
    pub(super) fn unsettled(
        &self,
        now: Instant,
        settled: Duration,
    ) -> impl Iterator<Item = NodeId> {
        let unsettled = move |peer: &Peer| peer.lost || now - peer.since < settled;
        self.peers.iter().filter(move |(_, peer)| unsettled(peer)).map(|(node, _)| *node)
    }

    /// Any message of a member shows that it is there.
    pub(super) fn heard(&mut self, node: NodeId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&node) {
            (peer.heard, peer.refused) = (now, false);
        }
    }

    /// Its host answers, and nobody listens there.
    pub(super) fn refused(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.refused = true;
        }
    }

    pub(super) fn on_beat(&mut self, node: NodeId, beat: Beat, now: Instant) -> Vec<News> {
        let Some(peer) = self.peers.get_mut(&node) else { return Vec::new() };
        let mut news = Vec::new();
        if beat.charter < self.charter {
            news.push(News::Behind(node));
        }
        if beat.store != peer.store {
            if !core::mem::replace(&mut peer.strange, true) {
                news.push(News::Stranger(node, beat.store));
            }
            return news;
        }
        if beat.layout < self.layout {
            news.push(News::LayoutBehind(node));
        }
        (peer.heard, peer.refused) = (now, false);
        peer.wall = Some((beat.wall, now));
        if beat.incarnation > peer.incarnation {
            (peer.incarnation, peer.since) = (beat.incarnation, now);
            news.push(News::Restarted(node, beat.incarnation));
        }
        news
    }

    /// Who has been silent for too long, and who is back.
    pub(super) fn on_time(&mut self, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        for (node, peer) in &mut self.peers {
            let lost = peer.refused || now - peer.heard > self.patience;
            if lost != peer.lost {
                (peer.lost, peer.since) = (lost, now);
                news.push(if lost { News::Lost(*node) } else { News::Found(*node) });
            }
        }
        news
    }

    /// The beats that are due.
    pub(super) fn beats(&mut self, now: Now) -> Vec<(NodeId, Head)> {
        if self.beat_at > now.mono {
            return Vec::new();
        }
        self.beat_at = now.mono + self.every;
        let Self { incarnation, store, charter, layout, .. } = *self;
        let beat = Head::Beat(Beat { incarnation, wall: now.wall(), store, charter, layout });
        self.peers.keys().map(|node| (*node, beat.clone())).collect()
    }

    /// The time to stamp into commands: this node's, unless its clock is far ahead of most nodes'. A
    /// timestamp can't be taken back, so one wrong clock must not push a shard's into the future.
    pub(super) fn moderate(&self, now: Now) -> Now {
        let heard = self.peers.values().filter(|peer| !peer.lost);
        let walls = heard
            .filter_map(|peer| peer.wall)
            .map(|(wall, at)| wall.saturating_add((now.mono - at).0))
            .chain([now.wall()]);
        // Almost always: every step asks.
        let earliest = now.wall().saturating_sub(WALL_AHEAD_MAX);
        let (count, behind) = walls.clone().fold((0, 0), |(count, behind), wall| {
            (count + 1, behind + usize::from(wall < earliest))
        });
        if behind <= (count - 1) / 2 {
            return now;
        }
        let mut walls: Vec<u64> = walls.collect();
        walls.sort_unstable();
        // The middle one, or of two the earlier.
        let most = walls.get((walls.len() - 1) / 2).copied().unwrap_or(now.wall());
        let latest = most.saturating_add(WALL_AHEAD_MAX);
        Now { mono: now.mono, wall_earliest: most.min(now.wall_earliest), wall_latest: latest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_one_peer(node: NodeId, store: StoreId) -> Peers {
        let patience = Duration::from_millis(100);
        let peer = Peer {
            store,
            heard: Instant(0),
            since: Instant(0),
            incarnation: Incarnation(1),
            lost: false,
            refused: false,
            strange: false,
            wall: None,
        };
        Peers {
            incarnation: Incarnation(1),
            store: StoreId([1; 16]),
            charter: 3,
            layout: 0,
            every: beat_every(patience),
            patience,
            beat_at: Instant(0),
            peers: BTreeMap::from([(node, peer)]),
        }
    }

    /// Its disk was replaced: it beats, and does not take part.
    #[test]
    fn a_peer_with_another_store_is_lost_however_much_it_says() {
        let (other, store) = (NodeId(2), StoreId([2; 16]));
        let mut peers = with_one_peer(other, store);
        let beat = |peers: &mut Peers, store, now| {
            let beat = Beat { incarnation: Incarnation(1), wall: 0, store, charter: 3, layout: 0 };
            let mut news = peers.on_beat(other, beat, now);
            news.extend(peers.on_time(now));
            news
        };
        let at = |millis: u64| Instant(millis * 1_000_000);
        assert_eq!(beat(&mut peers, store, at(90)), []);
        let strange = StoreId([3; 16]);
        assert_eq!(beat(&mut peers, strange, at(180)), [News::Stranger(other, strange)]);
        assert_eq!(beat(&mut peers, strange, at(200)), [News::Lost(other)]);
        assert_eq!(beat(&mut peers, store, at(210)), [News::Found(other)]);
    }

    /// Whoever was killed says nothing; its host says it at once.
    #[test]
    fn a_peer_whose_host_refuses_is_lost_until_it_is_heard() {
        let (other, store) = (NodeId(2), StoreId([2; 16]));
        let mut peers = with_one_peer(other, store);
        let at = |millis: u64| Instant(millis * 1_000_000);
        peers.heard(other, at(90));
        assert_eq!(peers.on_time(at(91)), []);
        peers.refused(other);
        assert_eq!(peers.on_time(at(92)), [News::Lost(other)]);
        peers.refused(other);
        assert_eq!(peers.on_time(at(93)), [], "said once");
        peers.heard(other, at(94));
        assert_eq!(
            peers.on_time(at(95)),
            [News::Found(other)],
            "the refusal was wrong, or is over"
        );
        peers.refused(NodeId(9));
        assert_eq!(peers.on_time(at(96)), [], "nobody's peer");
    }

    #[test]
    fn a_clock_is_moderated_when_it_is_far_ahead_of_most_and_only_then() {
        let at = Instant(5);
        let own = 1_000 * WALL_AHEAD_MAX;
        let now = Now { mono: at, wall_earliest: own, wall_latest: own };
        let moderated = |walls: &[u64]| {
            let peer = |wall: &u64| Peer {
                store: StoreId([2; 16]),
                heard: at,
                since: at,
                incarnation: Incarnation(1),
                lost: false,
                refused: false,
                strange: false,
                wall: Some((*wall, at)),
            };
            let peers = Peers {
                incarnation: Incarnation(1),
                store: StoreId([1; 16]),
                charter: 0,
                layout: 0,
                every: Duration(1),
                patience: Duration(1),
                beat_at: at,
                peers: (2..).map(NodeId).zip(walls.iter().map(peer)).collect(),
            };
            peers.moderate(now).wall_latest
        };
        let (near, far) = (own - WALL_AHEAD_MAX, own - WALL_AHEAD_MAX - 1);
        assert_eq!(moderated(&[]), own);
        assert_eq!(moderated(&[near]), own);
        assert_eq!(moderated(&[far]), far + WALL_AHEAD_MAX, "of two the earlier");
        assert_eq!(moderated(&[far, near]), own);
        assert_eq!(moderated(&[far, far - 9]), far + WALL_AHEAD_MAX, "the middle one");
        assert_eq!(moderated(&[far, far, near, near]), own);
        assert_eq!(moderated(&[far, far, far, near]), far + WALL_AHEAD_MAX);
        assert_eq!(moderated(&[own + 9, own + 9]), own, "it is behind the others");
    }
}
