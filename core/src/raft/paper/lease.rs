//! Thesis 6.4.1: leases. What a follower promises, what its leader may make of it, and what ends it. Bugs of the bench are
//! planted where that is one line.

use super::*;

/// By how much clocks run wrong here at the most: a twentieth.
const DRIFT_PPM: u32 = 50_000;
/// The election timeout of these replicas, and what is left of it for a leader: both clocks may be wrong.
const ELECTION: Duration = Duration::from_millis(400);
const LEASE: Duration = Duration(361 * 1_000_000);
const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Replica {
    /// A follower in term 2 of a group of three, whose clocks are promised to be so good; it booted just now.
    fn leased() -> Self {
        Self::leased_with(Planted::NONE)
    }

    fn leased_with(planted: Planted) -> Self {
        let mut replica = Self::follower(2, &[1]);
        replica.reboot(planted);
        replica
    }

    fn reboot(&mut self, planted: Planted) {
        let mut config = self.group.config.clone();
        (config.max_clock_drift_ppm, config.planted) = (Some(DRIFT_PPM), planted);
        let Store { hard_state, entries, .. } = self.store.clone();
        let restored = Restored { hard_state, entries, ..Restored::default() };
        self.group = Group::new(config, restored, self.now, Rng::new(7));
    }

    /// A leader of three in term 3 whose own entry is committed; it was heard by nobody since.
    fn leased_leader(planted: Planted) -> Self {
        let mut leader = Self::leased_with(planted);
        leader.pass(ELECTION);
        leader.elect(3, 3);
        leader.sync();
        leader.matched(ONE, 3, 2);
        assert_eq!(leader.commit_index(), 2);
        leader
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// Begins a round; its number.
    fn round(&mut self) -> u64 {
        self.pass(ms(100));
        self.input(Input::Timer);
        let round = |(_, body, _): (NodeId, Body, Option<PersistId>)| match body {
            Body::Heartbeat { round, .. } => Some(round),
            _ => None,
        };
        let sent = self.sent();
        sent.into_iter().find_map(round).unwrap_or_else(|| panic!("no heartbeat: {:?}", self.out))
    }

    fn answers(&mut self, from: NodeId, term: u64, round: u64, promise: Duration) {
        let (match_index, counts, quiet) = (Index(1), true, false);
        let body = Body::HeartbeatReply { round, match_index, counts, quiet, support: 0, promise };
        self.hear(from, term, body);
    }

    /// Whether a read is answered in its own step.
    fn reads_at_once(&mut self) -> bool {
        assert_eq!(
            self.group.clone().holds_lease(self.now),
            self.clone().reads(),
            "{:?}",
            self.now
        );
        self.reads()
    }

    fn reads(&mut self) -> bool {
        self.input(Input::Read { id: 2 });
        self.out.iter().any(|output| matches!(output, Output::ReadReady { id: 2, .. }))
    }

    fn promised(&self) -> Option<Duration> {
        self.sent().into_iter().find_map(|(_, body, _)| match body {
            Body::HeartbeatReply { promise, .. } => Some(promise),
            _ => None,
        })
    }

    /// Whether it would vote for `OTHER` in the next term, and whether it does.
    fn votes(&self) -> (bool, bool) {
        let mut asked = self.clone();
        let campaign = asked.group.term().0 + 1;
        asked.hear(OTHER, campaign - 1, vote_request(true, campaign, at(9, 9)));
        let would = asked.ballot() == Some(Ballot::Granted);
        // Its term rises by another message first.
        asked.hear(OTHER, campaign, Body::Outdated);
        asked.hear(OTHER, campaign, vote_request(false, campaign, at(9, 9)));
        (would, asked.ballot() == Some(Ballot::Granted))
    }
}

/// Bug 12: counted from the receipt of the answer, and by clocks that are right.
#[test]
fn thesis_6_4_1_a_lease_is_counted_from_the_begin_of_the_round_and_shortened_twice() {
    let mut leader = Replica::leased_leader(Planted::NONE);
    let round = leader.round();
    let begun = leader.now;
    assert!(!leader.reads_at_once(), "nobody has answered");
    leader.pass(ms(150));
    let promise = ms(380); // 400 by the follower's clock
    leader.answers(ONE, 3, round, promise);
    assert!(leader.reads_at_once());
    leader.now = begun + Duration(LEASE.0 - 1);
    assert!(leader.reads_at_once());
    leader.now = begun + LEASE;
    assert!(!leader.reads_at_once());
}

#[cfg(feature = "planted-bugs")]
#[test]
fn thesis_6_4_1_a_lease_from_the_receipt_would_last_longer() {
    let mut leader = Replica::leased_leader(Planted::with(crate::planted::Bug::LeaseFromReceipt));
    let (round, begun) = (leader.round(), leader.now);
    leader.pass(ms(150));
    leader.answers(ONE, 3, round, ms(380));
    leader.now = begun + ms(549);
    assert!(leader.reads_at_once());
}

#[test]
fn thesis_6_4_1_a_lease_takes_a_quorum_of_promises_that_were_given() {
    let mut leader = Replica::leased_leader(Planted::NONE);
    let round = leader.round();
    leader.answers(ONE, 3, round, Duration::ZERO);
    assert!(!leader.reads_at_once(), "a follower without leases promises nothing");
    let last = leader.group.status().last.index;
    leader.input(Input::ChangeVoters {
        id: 9,
        wish: 1,
        voters: [2, 3, 4, 5, 6].map(NodeId).to_vec(),
    });
    assert!(leader.group.status().last.index > last);
    leader.answers(OTHER, 3, round, ms(380));
    assert!(leader.reads_at_once(), "learners are not asked");
    // A peer that boots again forgets, whatever it does then.
    leader.input(Input::PeerRestarted { node: OTHER, incarnation: Incarnation(2) });
    assert!(!leader.reads_at_once());
}

#[test]
fn thesis_6_4_1_a_leader_has_no_lease_before_an_entry_of_its_own_term_is_committed() {
    let mut leader = Replica::leased();
    leader.pass(ELECTION);
    leader.elect(3, 3);
    leader.sync();
    let round = leader.round();
    leader.answers(ONE, 3, round, ms(380));
    assert!(!leader.reads_at_once());
    leader.matched(ONE, 3, 2);
    assert!(leader.reads_at_once());
}

/// Thesis 6.4.1 and 3.10. Nobody knows when the message arrives. Bug 36: it goes on.
#[test]
fn thesis_6_4_1_a_leader_that_invites_another_has_no_lease_to_the_end_of_its_term() {
    let mut leader = Replica::leased_leader(Planted::NONE);
    let round = leader.round();
    leader.answers(ONE, 3, round, ms(380));
    leader.input(Input::TransferAway { prefer: None });
    assert!(leader.sent().iter().any(|(to, body, _)| (*to, body) == (ONE, &Body::TimeoutNow)));
    assert!(!leader.reads_at_once());
    for _ in 0..5 {
        let round = leader.round();
        leader.answers(ONE, 3, round, ms(380));
    }
    leader.input(Input::Propose { id: 7, command: Bytes::new() });
    let given_up = leader.out.iter().any(|output| matches!(output, Output::Appended { .. }));
    assert!(given_up, "the transfer was given up, and the invitation may still arrive");
    assert!(!leader.reads_at_once());
}

/// A follower behind the leader is not invited yet: whoever writes meanwhile may read meanwhile.
#[test]
fn a_lease_lasts_while_a_transfer_waits_for_its_heir() {
    let mut leader = Replica::leased_leader(Planted::NONE);
    let round = leader.round();
    leader.answers(ONE, 3, round, ms(380));
    leader.input(Input::Propose { id: 7, command: Bytes::new() });
    leader.input(Input::TransferAway { prefer: None });
    assert!(leader.reads_at_once());
    leader.matched(ONE, 3, 3);
    assert!(!leader.reads_at_once());
}

#[test]
fn thesis_6_4_1_a_follower_keeps_what_it_promised() {
    let mut replica = Replica::leased();
    replica.pass(ms(1000));
    replica.hear(ONE, 2, heartbeat(1, 0, at(0, 0)));
    let heard = replica.now;
    assert_eq!(replica.promised(), Some(ms(380)), "of 400 by its own clock");
    // Its node may say what it likes.
    replica.input(Input::PeerSuspected { node: ONE });
    replica.input(Input::PeerRestarted { node: ONE, incarnation: Incarnation(2) });
    replica.input(Input::Campaign);
    assert_eq!(replica.sent(), [], "it does not stand for election");
    assert!(replica.group.deadline() >= Some(heard + ELECTION), "{:?}", replica.group.deadline());
    replica.now = heard + Duration(ELECTION.0 - 1);
    assert_eq!(replica.votes(), (false, false));
    replica.now = heard + ELECTION;
    assert_eq!(replica.votes(), (true, true));
    replica.input(Input::Campaign);
    assert_eq!(replica.group.role(), Role::PreCandidate);
}

/// Who asks for votes leads no more, and who was asked by its leader to follow it is waited for by nobody.
#[test]
fn a_promise_is_void_for_whom_it_was_given_and_in_a_transfer() {
    let mut replica = Replica::leased();
    replica.pass(ms(1000));
    replica.hear(ONE, 2, heartbeat(1, 0, at(0, 0)));
    let mut former = replica.clone();
    former.hear(ONE, 3, vote_request(false, 3, at(9, 9)));
    assert_eq!(former.ballot(), Some(Ballot::Granted));
    let mut transferred = vote_request(false, 3, at(9, 9));
    if let Body::VoteRequest { transfer, .. } = &mut transferred {
        *transfer = true;
    }
    let mut voter = replica.clone();
    voter.hear(OTHER, 3, transferred);
    assert_eq!(voter.ballot(), Some(Ballot::Granted));
    replica.hear(ONE, 2, Body::TimeoutNow);
    assert_eq!((replica.group.role(), replica.group.term()), (Role::Candidate, Term(3)));
}

/// Bug 37: what was promised before the boot is forgotten.
#[test]
fn a_replica_that_boots_keeps_the_longest_promise_that_it_may_have_given() {
    let mut replica = Replica::leased();
    replica.pass(Duration(ELECTION.0 - 1));
    assert_eq!(replica.votes(), (false, false));
    replica.input(Input::Campaign);
    assert_eq!(replica.sent(), []);
    replica.pass(Duration(1));
    assert_eq!(replica.votes(), (true, true));
    // Nobody else could have been promised anything.
    let mut alone = Replica::restored(1, HardState::default(), log(&[]));
    alone.reboot(Planted::NONE);
    alone.input(Input::Timer);
    alone.sync();
    assert_eq!(alone.group.role(), Role::Leader);
    assert!(alone.reads_at_once());
}

#[test]
fn without_a_bound_nothing_is_promised() {
    let mut replica = Replica::follower(2, &[]);
    replica.hear(ONE, 2, heartbeat(1, 0, at(0, 0)));
    assert_eq!(replica.promised(), Some(Duration::ZERO));
    replica.input(Input::PeerRestarted { node: ONE, incarnation: Incarnation(2) });
    assert_eq!(replica.votes(), (true, true));
    let mut leader = Replica::leader(3, 2, &[]);
    leader.matched(ONE, 2, 1);
    let round = leader.round();
    leader.answers(ONE, 2, round, ms(380));
    assert!(!leader.reads_at_once(), "whatever others promise");
}
