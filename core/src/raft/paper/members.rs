//! Section 6: changes of the voters. Bugs of the bench are planted where each rule is broken, as the bench can't yet.

use super::*;
use crate::raft::{Configuration, Seat};

fn voters(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

impl Replica {
    fn change(&mut self, ids: &[u32]) {
        let wish = self.configuration().wish + 1;
        self.input(Input::ChangeVoters { id: 1, wish, voters: voters(ids) });
    }

    fn is_appended(&self) -> bool {
        self.out.iter().any(|output| matches!(output, Output::Appended { .. }))
    }

    fn configuration(&self) -> Configuration {
        self.group.configuration().clone()
    }

    /// These have everything, and this replica too.
    fn all_matched(&mut self, term: u64, peers: &[NodeId]) {
        self.sync();
        let last = self.group.status().last.index.0;
        for peer in peers {
            self.matched(*peer, term, last);
            self.sync();
        }
    }

    /// A leader of three in term 2 with a joint configuration in which the nodes 4 and 5 take the place of 2 and 3.
    fn joint() -> Self {
        let mut leader = Self::leader(3, 2, &[]);
        leader.all_matched(2, &[ONE]);
        leader.change(&[1, 4, 5]);
        leader.all_matched(2, &[ONE]); // then they learn
        leader.all_matched(2, &[ONE]);
        leader.all_matched(2, &[NodeId(4), NodeId(5)]); // and have learned
        assert!(leader.configuration().is_joint(), "{:?}", leader.configuration());
        leader.sync();
        leader
    }
}

/// Thesis 4.1, and the bug in its first edition: a leader that has committed nothing of its own term may not know of a
/// change that is on its way to be committed. Joint configurations that begin with the same voters need a majority of
/// them both, so here the rule only spares entries.
#[test]
fn s6_nothing_changes_before_the_leader_has_committed_an_entry_of_its_term() {
    let mut leader = Replica::leader(3, 2, &[1]);
    leader.change(&[1, 2]);
    assert!(!leader.is_appended());
    leader.all_matched(2, &[ONE]);
    leader.change(&[1, 2]);
    assert!(leader.is_appended());
}

#[test]
fn s6_one_change_at_a_time() {
    let mut leader = Replica::leader(3, 2, &[]);
    leader.all_matched(2, &[ONE]);
    leader.change(&[1, 2, 3, 4]);
    assert!(leader.is_appended());
    leader.sync();
    leader.change(&[1, 2]);
    assert_eq!(leader.out, [Output::Rejected { id: 1, leader: Some(ME) }]);
    leader.all_matched(2, &[ONE]);
    assert_eq!(leader.configuration().seat(NodeId(4)), Some(Seat::Learner));
}

/// Whoever wishes may not know of the last wish: a node that was booted hears an old layout first.
#[test]
fn an_older_wish_counts_for_nothing() {
    let wish = |wish, ids: &[u32]| Input::ChangeVoters { id: 1, wish, voters: voters(ids) };
    let mut leader = Replica::leader(3, 2, &[]);
    leader.all_matched(2, &[ONE]);
    leader.input(wish(5, &[1, 2, 4]));
    assert!(leader.is_appended());
    leader.all_matched(2, &[ONE]);
    leader.all_matched(2, &[ONE]); // who is to vote learns
    for older in [4, 5] {
        leader.input(wish(older, &[1, 2]));
        assert_eq!(leader.out, [Output::Rejected { id: 1, leader: Some(ME) }], "{older}");
    }
    leader.input(wish(6, &[1, 2]));
    assert!(leader.is_appended(), "{:?}", leader.out);
}

#[test]
fn s6_a_joint_configuration_commits_by_a_majority_of_the_old_and_one_of_the_new() {
    let committed = |planted: Planted, holders: &[u32]| {
        let mut leader = Replica::joint();
        leader.group.config.planted = planted;
        let at = leader.group.configuration().version;
        let joint = leader.group.status().last.index.0;
        for holder in holders {
            leader.matched(NodeId(*holder), 2, joint);
        }
        assert_eq!(leader.configuration().version > at, leader.commit_index() >= joint);
        leader.commit_index() >= joint
    };
    assert!(!committed(Planted::NONE, &[]));
    assert!(!committed(Planted::NONE, &[2, 3]), "all of the old, but of the new only the leader");
    assert!(!committed(Planted::NONE, &[4, 5]), "all of the new, but of the old only the leader");
    assert!(committed(Planted::NONE, &[2, 4]));
    #[cfg(feature = "planted-bugs")]
    assert!(committed(Planted::with(crate::planted::Bug::JointNewOnly), &[4, 5]));
}

#[test]
fn s6_a_joint_election_takes_both_majorities() {
    for (granted, wins) in
        [(&[2, 3][..], false), (&[4, 5][..], false), (&[2, 4][..], true), (&[3, 5][..], true)]
    {
        let mut replica = Replica::joint();
        replica.hear(ONE, 3, Body::Outdated);
        replica.input(Input::Campaign);
        replica.sync();
        for peer in [2, 3, 4, 5] {
            let ballot = Ballot::Granted;
            replica.hear(NodeId(peer), 3, Body::VoteReply { pre: true, campaign: Term(4), ballot });
            replica.sync();
        }
        for peer in granted {
            let vote = Body::VoteReply { pre: false, campaign: Term(4), ballot: Ballot::Granted };
            replica.hear(NodeId(*peer), 4, vote);
        }
        assert_eq!(replica.group.role() == Role::Leader, wins, "{granted:?}");
    }
}

#[test]
fn s6_a_leader_that_is_to_go_counts_for_nothing_and_goes_when_that_is_committed() {
    let mut leader = Replica::leader(3, 2, &[]);
    leader.all_matched(2, &[ONE]);
    leader.change(&[2, 3]);
    leader.all_matched(2, &[ONE]);
    assert!(leader.configuration().is_joint());
    leader.all_matched(2, &[ONE]);
    assert!(leader.configuration().is_joint(), "of the new voters only one has it");
    leader.all_matched(2, &[OTHER]);
    assert_eq!(leader.configuration().voters(), voters(&[2, 3]));
    assert_eq!(leader.group.role(), Role::Leader, "until the others have it");
    leader.all_matched(2, &[ONE]);
    assert_eq!(leader.group.role(), Role::Leader);
    let last = leader.group.status().last.index.0;
    leader.matched(OTHER, 2, last);
    assert_eq!(leader.group.role(), Role::Follower);
    assert!(leader.sent().iter().any(|(_, body, _)| *body == Body::TimeoutNow));
    leader.now = leader.group.deadline().unwrap();
    leader.input(Input::Timer);
    assert!(leader.sent().is_empty() && leader.group.is_quiet(), "{:?}", leader.out);
}

/// What no leader was told to be committed may be needed: the only log that can win may be that of who is to go.
#[test]
fn thesis_4_2_2_who_is_to_go_stands_for_election_until_that_is_committed() {
    let mut leader = Replica::leader(3, 2, &[]);
    leader.all_matched(2, &[ONE]);
    leader.change(&[2, 3]);
    leader.all_matched(2, &[ONE]);
    leader.all_matched(2, &[ONE, OTHER]);
    leader.hear(ONE, 3, Body::Outdated);
    leader.now = leader.group.deadline().unwrap();
    leader.input(Input::Timer);
    assert_eq!(leader.group.role(), Role::PreCandidate);
}

#[test]
fn s6_a_state_brings_its_members_along() {
    let knows = |planted: Planted| {
        let mut replica = Replica::follower(4, &[1]);
        replica.group.config.planted = planted;
        let configuration =
            Configuration::founding(&voters(&[2, 3, 4])).aiming_at(voters(&[2, 3]), 1);
        let installed =
            Input::SnapshotInstalled { term: Term(4), position: at(9, 3), configuration };
        replica.input(installed);
        replica.group.configuration().voters()
    };
    assert_eq!(knows(Planted::NONE), voters(&[2, 3, 4]));
    #[cfg(feature = "planted-bugs")]
    assert_eq!(
        knows(Planted::with(crate::planted::Bug::SnapshotWithoutMembers)),
        voters(&[1, 2, 3]),
    );
}

/// A removed server that is told of no leader must not disturb those who have one (Raft 6), and is told why.
#[test]
fn s6_a_stranger_is_expelled_by_who_follows_a_leader_and_heard_by_who_does_not() {
    let stranger = NodeId(9);
    let mut replica = Replica::follower(2, &[1]);
    replica.hear(stranger, 2, vote_request(true, 3, at(4, 2)));
    assert_eq!(replica.ballot(), Some(Ballot::Granted), "it may be a member by a later log");
    replica.hear(ONE, 2, heartbeat(1, 0, at(1, 1)));
    replica.hear(stranger, 7, vote_request(false, 7, at(4, 2)));
    let expelled = Body::Expelled { version: 0 };
    assert!(matches!(&replica.sent()[..], [(to, body, _)] if *to == stranger && *body == expelled));
    assert_eq!(replica.group.term(), Term(2));
    // At the stranger: it believes only a later configuration than its own.
    for (version, rests) in [(0, false), (5, true)] {
        let mut stranger = Replica::follower(2, &[1]);
        stranger.now = stranger.group.deadline().unwrap();
        stranger.input(Input::Timer);
        stranger.hear(ONE, 2, Body::Expelled { version });
        assert_eq!(stranger.group.is_quiet(), rests);
    }
}
