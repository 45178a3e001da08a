//! Who belongs to a group, who of them votes, and what a quorum of them is (Raft 6, thesis 4.3).
//!
//! A change of the voters goes through a **joint** configuration, in which every decision takes a majority of the old
//! voters and one of the new. A replica uses the last configuration in its log, committed or not.

use super::message::Ballot;
use super::quorum::{self, Election};
use crate::types::{Incarnation, NodeId};
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// The most voters of a group. Votes and match indexes are compared in full at each step.
pub const VOTERS_MAX: usize = 7;

/// Who belongs to a group, and from which boot on each member's promises count. Part of compaction and of
/// snapshots, because the entries that changed it are gone by then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Configuration {
    /// Rises with every change.
    pub version: u64,
    /// Whether these are still the voters that the group was founded with: whoever loses this has lost little.
    pub founding: bool,
    /// The members, sorted by node.
    pub members: Vec<Member>,
    /// The voters that there shall be, sorted; `None` if those that there are shall stay. Whoever leads brings it about.
    pub target: Option<Vec<NodeId>>,
    /// Which wish the target is, or was once it is reached: they rise, and an earlier one counts for nothing any more. Who
    /// wishes may not know of the last one.
    pub wish: u64,
}

/// A member of a [`Configuration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    /// Who.
    pub node: NodeId,
    /// Its promises of earlier boots don't count: it was readmitted with this one. 0 if never.
    pub readmitted: Incarnation,
    /// Where it votes.
    pub seat: Seat,
}

/// Where a member votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Seat {
    /// Among the voters; in a joint configuration among the old and the new ones.
    Voter,
    /// Nowhere: it is given the log, and a state, so that it can vote later without holding anybody up.
    Learner,
    /// Joint: among the new voters only.
    Incoming,
    /// Joint: among the old voters only.
    Outgoing,
}

/// One of the two sets of voters of a joint configuration; they are the same in any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Electorate {
    Old,
    New,
}

impl Seat {
    const fn votes_in(self, electorate: Electorate) -> bool {
        match self {
            Self::Voter => true,
            Self::Learner => false,
            Self::Incoming => matches!(electorate, Electorate::New),
            Self::Outgoing => matches!(electorate, Electorate::Old),
        }
    }
}

impl Configuration {
    /// A group as it is founded.
    #[must_use]
    pub fn founding(voters: &[NodeId]) -> Self {
        let member =
            |node: &NodeId| Member { node: *node, readmitted: Incarnation(0), seat: Seat::Voter };
        let members = voters.iter().map(member).collect();
        Self { version: 0, founding: true, members, target: None, wish: 0 }
    }

    /// Where `node` votes; `None` if it is no member.
    #[must_use]
    pub fn seat(&self, node: NodeId) -> Option<Seat> {
        self.member(node).map(|member| member.seat)
    }

    /// A member.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// Whether `node` has a vote, be it among the old or the new voters.
    #[must_use]
    pub fn votes(&self, node: NodeId) -> bool {
        self.seat(node).is_some_and(|seat| seat != Seat::Learner)
    }

    /// Whether `node` is to have a vote once a joint configuration is left.
    #[must_use]
    pub fn stays(&self, node: NodeId) -> bool {
        self.seat(node).is_some_and(|seat| seat.votes_in(Electorate::New))
    }

    /// Whether old and new voters differ.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.members.iter().any(|member| matches!(member.seat, Seat::Incoming | Seat::Outgoing))
    }

    /// Whether nothing is left to be done: every member is a voter, and shall be.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        self.target.is_none() && !self.is_joint()
    }

    /// Whether `node` decides alone.
    #[must_use]
    pub fn is_alone(&self, node: NodeId) -> bool {
        self.votes(node)
            && self.members.iter().all(|other| other.node == node || !self.votes(other.node))
    }

    /// The voters that stay, sorted.
    #[must_use]
    pub fn voters(&self) -> Vec<NodeId> {
        self.electorate(Electorate::New).collect()
    }

    fn electorate(&self, which: Electorate) -> impl Iterator<Item = NodeId> {
        let votes = move |member: &&Member| member.seat.votes_in(which);
        self.members.iter().filter(votes).map(|member| member.node)
    }

    /// The highest value that a quorum has reached, given that of each voter.
    pub(super) fn reached<T: Ord + Copy + Default>(&self, value: impl Fn(NodeId) -> T) -> T {
        let new = self.reached_by_new(&value);
        if self.is_joint() {
            new.min(quorum::reached(self.electorate(Electorate::Old).map(&value)))
        } else {
            new
        }
    }

    /// As [`Self::reached`], but in a joint configuration by the new voters alone.
    pub(super) fn reached_by_new<T: Ord + Copy + Default>(&self, value: impl Fn(NodeId) -> T) -> T {
        quorum::reached(self.electorate(Electorate::New).map(value))
    }

    /// Whether those of whom it `is` true are a quorum.
    pub fn has_quorum(&self, is: impl Fn(NodeId) -> bool) -> bool {
        self.reached(is)
    }

    /// Whether no quorum of those who could have committed an entry before this configuration, or under it, is left
    /// without those of whom it `is` true.
    pub(super) fn blocked_by(&self, is: impl Fn(NodeId) -> bool) -> bool {
        // A joint configuration may not have been in force when the entry was committed: the old voters were.
        let (mut voters, mut blocking) = (0, 0);
        for node in self.electorate(Electorate::Old) {
            voters += 1;
            blocking += usize::from(is(node));
        }
        voters > 0 && blocking >= quorum::blocking(voters)
    }

    /// How an election stands whose ballots are these. See [`quorum::tally`] for `full`.
    pub(super) fn tally(&self, ballot: impl Fn(NodeId) -> Option<Ballot>, full: bool) -> Election {
        let new = quorum::tally(self.electorate(Electorate::New).map(&ballot), full);
        if !self.is_joint() {
            return new;
        }
        let old = quorum::tally(self.electorate(Electorate::Old).map(&ballot), full);
        let yes = |member: &Member| {
            let ballot = ballot(member.node);
            member.seat == Seat::Learner || ballot.is_some_and(|ballot| ballot != Ballot::Refused)
        };
        match (old, new) {
            (Election::Lost, _) | (_, Election::Lost) => Election::Lost,
            (Election::Won { unanimous: false }, Election::Won { unanimous: false }) => {
                Election::Won { unanimous: false }
            }
            // Conditional votes count only if nobody is left out, on either side.
            (Election::Won { .. }, Election::Won { .. }) if self.members.iter().all(yes) => {
                Election::Won { unanimous: true }
            }
            _ => Election::Open,
        }
    }

    /// The next version, in which the promises of `node` count from this boot on. `None` if they do already, or it is no
    /// member.
    pub(super) fn readmitting(&self, node: NodeId, incarnation: Incarnation) -> Option<Self> {
        let mut next = Self { version: self.version + 1, ..self.clone() };
        let member = next.members.iter_mut().find(|member| member.node == node)?;
        let news = member.readmitted < incarnation;
        member.readmitted = incarnation;
        news.then_some(next)
    }

    /// The next version, in which these are to be the voters.
    pub(super) fn aiming_at(&self, target: Vec<NodeId>, wish: u64) -> Self {
        Self { version: self.version + 1, target: Some(target), wish, ..self.clone() }
    }

    /// The next version towards the target, if nothing has to be waited for. `ready` says of a learner that it has
    /// nearly the whole log and counts.
    pub(super) fn next(&self, ready: impl Fn(NodeId) -> bool) -> Option<Self> {
        let (version, founding, wish) = (self.version + 1, false, self.wish);
        if self.is_joint() {
            return Some(Self { version, ..self.left() });
        }
        let target = self.target.as_ref()?;
        let wanted = |node: NodeId| target.contains(&node);
        if self.voters() == *target {
            let members = self.members.iter().filter(|member| member.seat == Seat::Voter);
            let members: Vec<Member> = members.copied().collect();
            let founding = self.founding && members == self.members;
            return Some(Self { version, founding, members, target: None, wish });
        }
        // Who is to vote learns first; who learns in vain stops.
        let stays = |member: &&Member| member.seat == Seat::Voter || wanted(member.node);
        let mut members: Vec<Member> = self.members.iter().filter(stays).copied().collect();
        let absent = target.iter().filter(|node| self.seat(**node).is_none());
        members.extend(absent.map(|node| Member {
            node: *node,
            readmitted: Incarnation(0),
            seat: Seat::Learner,
        }));
        members.sort_unstable_by_key(|member| member.node);
        if members != self.members {
            return Some(Self { version, founding, members, target: self.target.clone(), wish });
        }
        let learns = |member: &&Member| member.seat == Seat::Learner;
        if !members.iter().filter(learns).all(|member| ready(member.node)) {
            return None;
        }
        for member in &mut members {
            member.seat = match member.seat {
                Seat::Learner => Seat::Incoming,
                _ if wanted(member.node) => Seat::Voter,
                _ => Seat::Outgoing,
            };
        }
        Some(Self { version, founding, members, target: self.target.clone(), wish })
    }

    /// What comes after a joint configuration.
    fn left(&self) -> Self {
        let stays = self.members.iter().filter(|member| member.seat != Seat::Outgoing);
        let seat = |member: &Member| match member.seat {
            Seat::Incoming => Member { seat: Seat::Voter, ..*member },
            _ => *member,
        };
        let mut left = Self { members: stays.map(seat).collect(), ..self.clone() };
        if left.target.as_ref().is_some_and(|target| *target == left.voters()) {
            left.target = None;
        }
        left
    }
}

/// Whether `voters` can be the voters of a group: not none, not too many, sorted and each once.
#[must_use]
pub fn is_electorate(voters: &[NodeId]) -> bool {
    (1..=VOTERS_MAX).contains(&voters.len()) && voters.is_sorted_by(|a, b| a < b)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn nodes(ids: &[u32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// Every configuration on the way from some voters to others.
    fn way(from: &[u32], to: &[u32]) -> Vec<Configuration> {
        let mut way = alloc::vec![Configuration::founding(&nodes(from)).aiming_at(nodes(to), 1)];
        while let Some(next) = way.last().unwrap().next(|_| true) {
            way.push(next);
        }
        way
    }

    fn subsets() -> impl Iterator<Item = Vec<u32>> {
        (1_u32..32).map(|set| (1..=5).filter(|node| set & (1 << (node - 1)) != 0).collect())
    }

    #[test]
    fn every_change_ends_with_the_voters_that_were_wanted() {
        for (from, to) in subsets().flat_map(|from| subsets().map(move |to| (from.clone(), to))) {
            let way = way(&from, &to);
            let last = way.last().unwrap();
            assert!(last.is_steady() && last.members.len() == to.len(), "{way:?}");
            assert_eq!(last.voters(), nodes(&to), "{way:?}");
            assert!(way.len() <= 5, "target, learners, joint, left: {way:?}");
            let versions: Vec<u64> = way.iter().map(|step| step.version).collect();
            assert!(versions.is_sorted_by(|a, b| a + 1 == *b), "{versions:?}");
        }
    }

    /// Raft 6: at no point of a change two disjoint sets of replicas can decide, one under a configuration and the
    /// other under the one before or after it.
    #[test]
    fn quorums_of_neighbours_meet() {
        for (from, to) in subsets().flat_map(|from| subsets().map(move |to| (from.clone(), to))) {
            for pair in way(&from, &to).windows(2) {
                let [one, other] = pair else { unreachable!() };
                for set in 0_u32..32 {
                    let is = |node: NodeId| set & (1 << (node.0 - 1)) != 0;
                    let both = one.has_quorum(is) && other.has_quorum(|node| !is(node));
                    assert!(!both, "{set:b} decides under {one:?}, the rest under {other:?}");
                }
            }
        }
    }

    #[test]
    fn a_learner_that_is_not_ready_is_waited_for_and_counts_for_nothing() {
        let aim = Configuration::founding(&nodes(&[1, 2])).aiming_at(nodes(&[1, 2, 3]), 1);
        let learning = aim.next(|_| false).unwrap();
        assert_eq!(learning.seat(NodeId(3)), Some(Seat::Learner));
        assert!(!learning.has_quorum(|node| node != NodeId(1)), "2 and 3 are no quorum");
        assert_eq!(learning.next(|_| false), None);
        assert!(learning.next(|_| true).unwrap().is_joint());
        // Another target: it learns in vain.
        let back = learning.aiming_at(nodes(&[1, 2]), 2).next(|_| false).unwrap();
        assert_eq!((back.seat(NodeId(3)), back.target), (None, None));
    }

    #[test]
    fn conditional_votes_of_one_side_take_everyone_of_both() {
        let way = way(&[1, 2, 3], &[3, 4, 5]);
        let joint = way.iter().find(|step| step.is_joint()).unwrap();
        let all = |refuses: Option<u32>| {
            joint.tally(
                |node| match node.0 {
                    id if Some(id) == refuses => Some(Ballot::Refused),
                    1 | 2 => Some(Ballot::Conditional),
                    _ => Some(Ballot::Granted),
                },
                true,
            )
        };
        assert_eq!(all(None), Election::Won { unanimous: true });
        assert_eq!(
            all(Some(5)),
            Election::Open,
            "3 and 4 are a majority, but 1 and 2 may have forgotten"
        );
        assert_eq!(all(Some(1)), Election::Lost);
    }
}
