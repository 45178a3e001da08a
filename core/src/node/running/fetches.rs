//! How many states are fetched from peers at a time.
//!
//! A node that comes back after its peers have forgotten what it missed is offered the state of every group at once. Each is
//! fetched slice after slice, one under way at a time; of hundreds of groups together these would be as many megabytes in the
//! queues of each link and in memory. So a node takes up so many offers as their slices may be bytes together, and each of the others
//! when a fetch has ended: a few states come whole after each other, instead of all in small pieces. An offer that has waited for too long is
//! forgotten: its leader repeats it ([`super::super::snapshot`]).

use crate::machine::{Duration, Instant};
use crate::node::message::Offer;
use crate::types::{GroupId, NodeId};
use alloc::collections::{BTreeMap, VecDeque};

/// A fetch of which no slice came for this long has ended, or its peer is gone. Slices that are late are taken all the same.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// An offer that was not taken up for this long is of no use: its leader repeats those that it stands by twice as often.
const OFFER_MAX: Duration = Duration::from_secs(1);

/// A state that is offered.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    pub(super) group: GroupId,
    pub(super) from: NodeId,
    pub(super) offer: Offer,
}

/// The states that are being fetched.
#[derive(Clone, Debug)]
pub(super) struct Fetches {
    most: usize,
    /// When something came of each last.
    heard: BTreeMap<GroupId, Instant>,
    /// Offers that wait for their turn, one of a group, and when each came.
    waiting: VecDeque<(Instant, Offered)>,
}

impl Fetches {
    /// Slices of `slice` bytes may be `most` bytes together; one may always be fetched.
    pub(super) fn new(most: u64, slice: u64) -> Self {
        let most = usize::try_from(most / slice.max(1)).unwrap_or(usize::MAX).max(1);
        Self { most, heard: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// A group's state is offered. Returned if it may be fetched now; else it waits.
    pub(super) fn on_offer(&mut self, offered: Offered, now: Instant) -> Option<Offered> {
        self.waiting
            .retain(|(came, waiting)| waiting.group != offered.group && now - *came < OFFER_MAX);
        if self.admits(offered.group, now) {
            return Some(offered);
        }
        self.waiting.push_back((now, offered));
        None
    }

    fn admits(&mut self, group: GroupId, now: Instant) -> bool {
        self.heard.retain(|_, heard| now - *heard < IDLE_MAX);
        let admits = self.heard.contains_key(&group) || self.heard.len() < self.most;
        if admits {
            self.heard.insert(group, now);
        }
        admits
    }

    /// A slice has come; the `last` one is the end. Returns the offer whose turn that makes it.
    pub(super) fn on_slice(&mut self, group: GroupId, last: bool, now: Instant) -> Option<Offered> {
        if !last {
            self.heard.entry(group).and_modify(|heard| *heard = now);
            return None;
        }
        self.heard.remove(&group);
        self.waiting.retain(|(came, _)| now - *came < OFFER_MAX);
        let next = self.waiting.front()?.1.group;
        if !self.admits(next, now) {
            return None;
        }
        self.waiting.pop_front().map(|(_, offered)| offered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::snapshot::{Mark, SnapshotHead};
    use crate::raft::Configuration;
    use crate::types::Term;

    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);
    const C: GroupId = GroupId(3);
    const D: GroupId = GroupId(4);

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    fn offered(group: GroupId) -> Offered {
        let head = SnapshotHead { mark: Mark::default(), digest: 0, records: 0 };
        let (term, configuration) = (Term(1), Configuration::default());
        Offered { group, from: NodeId(1), offer: Offer { term, head, configuration } }
    }

    impl Fetches {
        fn takes(&mut self, group: GroupId, now: Instant) -> bool {
            self.on_offer(offered(group), now).is_some()
        }

        fn ends(&mut self, group: GroupId, now: Instant) -> Option<GroupId> {
            self.on_slice(group, true, now).map(|next| next.group)
        }
    }

    #[test]
    fn so_many_are_fetched_as_fit_and_one_always() {
        let mut fetches = Fetches::new(1000, 400);
        assert!(fetches.takes(A, at(0)) && fetches.takes(B, at(0)));
        assert!(!fetches.takes(C, at(1)), "three slices are more than 1000 bytes");
        assert!(fetches.takes(A, at(2)), "offered again, because an answer was lost");
        assert!(fetches.on_slice(A, false, at(3)).is_none());
        assert!(!fetches.takes(C, at(4)));
        assert_eq!(fetches.ends(A, at(5)), Some(C));
        assert!(!fetches.takes(A, at(6)));
        assert!(Fetches::new(1, 400).takes(A, at(0)));
    }

    #[test]
    fn whose_peer_is_gone_makes_room() {
        let mut fetches = Fetches::new(800, 400);
        assert!(fetches.takes(A, at(0)) && fetches.takes(B, at(0)));
        assert!(fetches.on_slice(B, false, at(900)).is_none());
        assert!(!fetches.takes(C, at(999)));
        assert!(fetches.takes(C, at(1000)), "nothing came of A for a second");
        assert!(fetches.on_slice(A, false, at(1001)).is_none());
        assert!(!fetches.takes(A, at(1002)), "its slices are taken, and it is none of the two");
    }

    /// Hundreds of groups would heal a few at a time, each time that their leaders repeat their offers.
    #[test]
    fn each_end_is_the_turn_of_the_offer_that_has_waited_longest() {
        let mut fetches = Fetches::new(400, 400);
        assert!(fetches.takes(A, at(0)));
        for group in [B, C, D, B] {
            assert!(!fetches.takes(group, at(1)));
        }
        assert_eq!(fetches.ends(A, at(2)), Some(C), "B was offered again since");
        assert_eq!(fetches.ends(B, at(3)), None, "a straggler, while C is fetched");
        assert_eq!(fetches.ends(C, at(4)), Some(D));
        assert!(!fetches.takes(A, at(800)));
        assert_eq!(fetches.ends(D, at(1001)), Some(A), "B's offer is too old");
        assert_eq!(fetches.ends(A, at(1002)), None);
    }
}
