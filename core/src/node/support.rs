//! Support: how one message between two nodes confirms the leaders of all groups that they share.
//!
//! A read needs proof that its leader still led after the read had come: a quorum that has not gone on to a later term
//! (ReadIndex, thesis 6.4). Asked group by group that is a heartbeat and an answer for each group and follower, and a
//! listing asks all groups. But terms rise seldom. So a node counts, for every peer, how often a replica here that
//! followed a replica there went on to a later term: its **support epoch** for that peer.
//!
//! - An answer to a heartbeat says the epoch of the moment in which it was given. The leader keeps it, with the term and
//!   the boot of the follower's node.
//! - A node with reads asks its peers for their epochs, one question for all groups. A follower whose epoch is still the
//!   one that it answered with has not left the leader in between, in this group or any other: it counts as if it had
//!   answered a heartbeat now.
//! - Where the numbers differ nothing is proven, and the group is asked by heartbeats, whose answers bring new numbers.
//!
//! No clock is involved, and a quiet group stays quiet. The idea is that of store liveness in CockroachDB, with a
//! question in place of a lease.

use crate::types::{Incarnation, NodeId, Term};
use alloc::collections::BTreeMap;
use bincode::{Decode, Encode};

/// How a node stands by a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Support {
    /// The boot of the node that says so: an earlier boot's word is void.
    pub incarnation: Incarnation,
    /// How often in this boot a replica of it has left a leader on the peer for a later term.
    pub epoch: u64,
}

/// What a node gives: its epochs for all peers.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    epochs: BTreeMap<NodeId, u64>,
}

impl Given {
    pub(super) fn epoch(&self, peer: NodeId) -> u64 {
        self.epochs.get(&peer).copied().unwrap_or(0)
    }

    /// A replica here has left its leader there.
    pub(super) fn withdraw(&mut self, peer: NodeId) {
        *self.epochs.entry(peer).or_default() += 1;
    }
}

/// What a follower's replica has promised: the leader that it answered last, and in which term.
#[derive(Clone, Debug, Default)]
pub(super) struct Follows(Option<(NodeId, Term)>);

impl Follows {
    /// A heartbeat of this term's leader is being answered. Who else was followed, in an earlier term.
    pub(super) fn answers(&mut self, leader: NodeId, term: Term) -> Option<NodeId> {
        let left = self.leaves(term);
        self.0 = Some((leader, term));
        left
    }

    /// The replica is in `term` now. Whom it has left for that, if anybody.
    pub(super) fn leaves(&mut self, term: Term) -> Option<NodeId> {
        self.0.take_if(|(_, followed)| *followed < term).map(|(leader, _)| leader)
    }
}

/// What a leader's replica has got: the word of each follower, of the term in which it was given.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    term: Term,
    from: BTreeMap<NodeId, Support>,
}

impl Received {
    /// A follower has answered a heartbeat of `term`, in which this replica leads.
    pub(super) fn hear(&mut self, from: NodeId, term: Term, support: Support) {
        if term > self.term {
            *self = Self { term, from: BTreeMap::new() };
        }
        let newest = self.from.entry(from).or_insert(support);
        *newest = support.max(*newest); // a late answer is true as well, and of less use
    }

    /// Whether a follower may be found to support this term's leader.
    pub(super) fn knows(&self, term: Term, node: NodeId) -> bool {
        term == self.term && self.from.contains_key(&node)
    }

    /// Whether it has never left it, by what its node says now.
    pub(super) fn confirms(
        &self,
        term: Term,
        said: &BTreeMap<NodeId, Support>,
        node: NodeId,
    ) -> bool {
        self.knows(term, node) && self.from.get(&node) == said.get(&node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    const fn support(incarnation: u64, epoch: u64) -> Support {
        Support { incarnation: Incarnation(incarnation), epoch }
    }

    #[test]
    fn a_replica_leaves_its_leader_once_for_each_term_that_it_goes_on_to() {
        let mut follows = Follows::default();
        assert_eq!(follows.answers(A, Term(3)), None);
        assert_eq!(follows.answers(A, Term(3)), None);
        assert_eq!(follows.leaves(Term(3)), None, "it is in that term already");
        assert_eq!(follows.leaves(Term(4)), Some(A));
        assert_eq!(follows.leaves(Term(5)), None, "it followed nobody in term 4");
        assert_eq!(follows.answers(A, Term(6)), None);
        assert_eq!(
            follows.answers(B, Term(7)),
            Some(A),
            "a new leader's first heartbeat is enough"
        );
        assert_eq!(follows.answers(B, Term(8)), Some(B), "and the same node in a new term");
    }

    #[test]
    fn only_the_same_word_of_the_same_boot_in_the_same_term_confirms() {
        let mut received = Received::default();
        received.hear(A, Term(3), support(1, 5));
        let said = |support| BTreeMap::from([(A, support)]);
        assert!(received.confirms(Term(3), &said(support(1, 5)), A));
        assert!(!received.confirms(Term(3), &said(support(1, 6)), A));
        assert!(!received.confirms(Term(3), &said(support(2, 5)), A));
        let other = BTreeMap::from([(B, support(1, 5))]);
        assert!(!received.confirms(Term(3), &other, A) && !received.confirms(Term(3), &other, B));
        assert!(received.knows(Term(3), A) && !received.knows(Term(4), A));
        assert!(!received.confirms(Term(4), &said(support(1, 5)), A));
        received.hear(A, Term(3), support(1, 4));
        assert!(received.confirms(Term(3), &said(support(1, 5)), A), "a late answer");
        received.hear(B, Term(4), support(1, 0));
        assert!(received.knows(Term(4), B) && !received.knows(Term(3), B));
    }

    #[test]
    fn an_epoch_is_about_one_peer() {
        let mut given = Given::default();
        given.withdraw(A);
        given.withdraw(A);
        assert_eq!((given.epoch(A), given.epoch(B)), (2, 0));
    }
}
