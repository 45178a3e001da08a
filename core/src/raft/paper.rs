//! The rules of the Raft paper, one test each, named and cited by section: figure 2 and sections 5 to 7
//! of the extended version, and of the thesis where this implementation goes beyond it. One replica is
//! driven by hand.

mod boots;
mod lease;
mod members;
mod quiet;
mod states;
mod told;

use super::testing::Store;
use super::{
    AppendOutcome, Ballot, Body, Config, Entry, Group, HardState, Input, Message, Output, Payload,
    PersistId, Restored, Role, Standing, Write,
};
use crate::machine::{Duration, Instant};
use crate::planted::Planted;
use crate::rng::Rng;
use crate::types::{GroupId, Incarnation, Index, NodeId, Position, Term};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

const ME: NodeId = NodeId(1);
const ONE: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);

fn at(index: u64, term: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { position: at(index, term), payload: Payload::Noop }
}

/// A log with an entry of each of these terms.
fn log(terms: &[u64]) -> Vec<Entry> {
    terms.iter().zip(1..).map(|(term, index)| entry(index, *term)).collect()
}

/// One replica, what it last put out, and what it has on disk.
#[derive(Clone)]
struct Replica {
    group: Group,
    out: Vec<Output>,
    now: Instant,
    store: Store,
}

impl Replica {
    fn restored(voters: u32, hard_state: HardState, entries: Vec<Entry>) -> Self {
        let config = Config {
            me: ME,
            group: GroupId(1),
            incarnation: Incarnation(1),
            voters: (1..=voters).map(NodeId).collect(),
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(400),
            quiesce_after: Duration::from_secs(2),
            append_bytes_max: 1 << 20,
            append_inflight_max: 8,
            max_clock_drift_ppm: None,
            planted: Planted::NONE,
        };
        let store = Store { hard_state, entries: entries.clone(), ..Store::default() };
        let restored = Restored { hard_state, entries, ..Restored::default() };
        let group = Group::new(config, restored, Instant(0), Rng::new(7));
        Self { group, out: Vec::new(), now: Instant(0), store }
    }

    /// A follower in `term` with a log of these terms.
    fn follower(term: u64, terms: &[u64]) -> Self {
        Self::restored(3, HardState { term: Term(term), ..HardState::default() }, log(terms))
    }

    /// A leader in `term` with these entries of earlier terms and its own noop after them, which is
    /// durable here and nowhere else.
    fn leader(voters: u32, term: u64, terms: &[u64]) -> Self {
        let hard_state = HardState { term: Term(term - 1), ..HardState::default() };
        let mut replica = Self::restored(voters, hard_state, log(terms));
        replica.elect(voters, term);
        replica
    }

    /// Has it elected in the term after its own.
    fn elect(&mut self, voters: u32, term: u64) {
        self.input(Input::Campaign);
        self.sync();
        for pre in [true, false] {
            for peer in 2..=voters {
                let body = Body::VoteReply { pre, campaign: Term(term), ballot: Ballot::Granted };
                self.hear(NodeId(peer), term - u64::from(pre), body);
                self.sync();
            }
        }
        assert_eq!((self.group.role(), self.group.term()), (Role::Leader, Term(term)));
    }

    fn input(&mut self, input: Input) {
        self.out.clear();
        self.group.step(self.now, input, &mut self.out);
    }

    fn hear(&mut self, from: NodeId, term: u64, body: Body) {
        let message = Message { term: Term(term), incarnation: Incarnation(1), body };
        self.input(Input::Message { from, message });
    }

    /// An append from `ONE`.
    fn append(&mut self, term: u64, prev: Position, entries: Vec<Entry>, commit_index: u64) {
        self.hear(ONE, term, Body::Append { prev, entries, commit_index: Index(commit_index) });
    }

    fn matched(&mut self, from: NodeId, term: u64, index: u64) {
        let outcome = AppendOutcome::Matched { match_index: Index(index) };
        self.hear(from, term, Body::AppendReply { outcome, counts: true });
    }

    /// What was just sent, with its gate.
    fn sent(&self) -> Vec<(NodeId, Body, Option<PersistId>)> {
        let sent = |output: &Output| match output {
            Output::Send { to, message, after } => Some((*to, message.body.clone(), *after)),
            _ => None,
        };
        self.out.iter().filter_map(sent).collect()
    }

    fn written(&self) -> Vec<(PersistId, Vec<Write>)> {
        let written = |output: &Output| match output {
            Output::Persist { id, writes } => Some((*id, writes.clone())),
            _ => None,
        };
        self.out.iter().filter_map(written).collect()
    }

    /// Makes what was just written durable.
    fn sync(&mut self) {
        while let [(upto, writes)] = self.written().as_slice() {
            writes.iter().for_each(|write| self.store.replay(write));
            self.input(Input::Persisted { upto: *upto });
        }
    }

    fn ballot(&self) -> Option<Ballot> {
        self.sent().into_iter().find_map(|(_, body, _)| match body {
            Body::VoteReply { ballot, .. } => Some(ballot),
            _ => None,
        })
    }

    fn outcome(&self) -> Option<AppendOutcome> {
        self.sent().into_iter().find_map(|(_, body, _)| match body {
            Body::AppendReply { outcome, .. } => Some(outcome),
            _ => None,
        })
    }

    fn terms(&self) -> Vec<u64> {
        self.group.entries(Index(1), usize::MAX).map(|entry| entry.position.term.0).collect()
    }

    fn commit_index(&self) -> u64 {
        self.group.status().commit_index.0
    }
}

fn vote_request(pre: bool, campaign: u64, last: Position) -> Body {
    Body::VoteRequest { pre, campaign: Term(campaign), last, transfer: false }
}

fn heartbeat(round: u64, commit_index: u64, last: Position) -> Body {
    let commit_index = Index(commit_index);
    Body::Heartbeat { commit_index, last, round, quiesce: false, unanimous: false }
}

/// The answer to a heartbeat of one who votes and promises nothing.
fn alive(round: u64, match_index: u64, quiet: bool) -> Body {
    let (match_index, promise) = (Index(match_index), Duration::ZERO);
    Body::HeartbeatReply { round, match_index, counts: true, quiet, support: 0, promise }
}

#[test]
fn s5_1_a_higher_term_makes_any_role_a_follower_of_that_term() {
    for mut replica in [Replica::follower(2, &[1]), Replica::leader(3, 2, &[1])] {
        replica.hear(OTHER, 9, Body::Outdated);
        assert_eq!((replica.group.role(), replica.group.term()), (Role::Follower, Term(9)));
        replica.sync();
        assert_eq!(replica.store.hard_state.term, Term(9), "the term is durable");
    }
}

#[test]
fn s5_1_requests_of_an_older_term_are_refused_and_told_ours() {
    let requests = [
        Body::Append { prev: at(0, 0), entries: log(&[1]), commit_index: Index(1) },
        heartbeat(1, 1, at(1, 1)),
        vote_request(false, 4, at(9, 4)),
    ];
    for request in requests {
        let mut replica = Replica::follower(5, &[]);
        replica.hear(ONE, 4, request);
        assert_eq!(replica.sent(), [(ONE, Body::Outdated, None)]);
        assert_eq!((replica.terms(), replica.group.term()), (vec![], Term(5)));
    }
}

#[test]
fn s5_1_replies_of_an_older_term_prove_nothing() {
    let mut leader = Replica::leader(3, 5, &[1]);
    leader.matched(ONE, 4, 2);
    leader.matched(OTHER, 4, 2);
    assert_eq!(leader.commit_index(), 0);
}

/// Whoever stands for election in a later term was given this vote for an earlier one: the voter may have another
/// candidate by now. The bug that counts it must make a leader of it, or nobody could see it.
#[test]
fn s5_2_a_vote_of_an_earlier_term_elects_nobody() {
    let role = |planted: Planted| {
        let mut replica = Replica::follower(3, &[1, 3]);
        replica.group.config.planted = planted;
        let vote = |pre, campaign| Body::VoteReply {
            pre,
            campaign: Term(campaign),
            ballot: Ballot::Granted,
        };
        for _ in 0..2 {
            replica.now = replica.group.deadline().unwrap();
            replica.input(Input::Timer);
            let campaign = replica.group.term().next().0;
            replica.hear(OTHER, campaign - 1, vote(true, campaign));
            replica.sync();
        }
        assert_eq!((replica.group.role(), replica.group.term()), (Role::Candidate, Term(5)));
        replica.hear(OTHER, 4, vote(false, 4));
        replica.group.role()
    };
    assert_eq!(role(Planted::NONE), Role::Candidate);
    #[cfg(feature = "planted-bugs")]
    assert_eq!(role(Planted::with(crate::planted::Bug::AcceptOldReplies)), Role::Leader);
}

#[test]
fn s5_2_a_follower_that_hears_nothing_asks_first_and_campaigns_when_a_majority_would_elect_it() {
    let mut replica = Replica::follower(3, &[1, 3]);
    replica.now = replica.group.deadline().unwrap();
    replica.input(Input::Timer);
    assert_eq!((replica.group.role(), replica.group.term()), (Role::PreCandidate, Term(3)));
    let ask = vote_request(true, 4, at(2, 3));
    assert_eq!(replica.sent(), [(ONE, ask.clone(), None), (OTHER, ask, None)]);

    let body = Body::VoteReply { pre: true, campaign: Term(4), ballot: Ballot::Granted };
    replica.hear(OTHER, 3, body);
    assert_eq!((replica.group.role(), replica.group.term()), (Role::Candidate, Term(4)));
    // Its own vote is durable before it asks for others'.
    let (gate, run) = (Some(PersistId(1)), vote_request(false, 4, at(2, 3)));
    assert_eq!(replica.sent(), [(ONE, run.clone(), gate), (OTHER, run, gate)]);
    replica.sync();
    assert_eq!(replica.store.hard_state.vote, Some(ME));
}

#[test]
fn s5_2_election_timeouts_are_drawn_between_one_and_two() {
    let mut replica = Replica::follower(1, &[]);
    let mut drawn = Vec::new();
    for _ in 0..100 {
        replica.hear(ONE, 1, heartbeat(1, 0, at(0, 0)));
        drawn.push((replica.group.deadline().unwrap() - replica.now).as_millis());
    }
    assert!(drawn.iter().all(|ms| (400..800).contains(ms)), "{drawn:?}");
    assert!(drawn.iter().any(|ms| *ms < 480) && drawn.iter().any(|ms| *ms > 720), "{drawn:?}");
}

#[test]
fn s5_2_a_majority_of_votes_elects_and_less_does_not() {
    for voters in 2..=7 {
        for granted in 0..voters {
            let hard_state = HardState::default();
            let mut replica = Replica::restored(voters, hard_state, Vec::new());
            replica.input(Input::Campaign);
            for peer in 2..=voters {
                let body =
                    Body::VoteReply { pre: true, campaign: Term(1), ballot: Ballot::Granted };
                replica.hear(NodeId(peer), 0, body);
                replica.sync();
            }
            for peer in (2..=voters).take(granted as usize) {
                let body =
                    Body::VoteReply { pre: false, campaign: Term(1), ballot: Ballot::Granted };
                replica.hear(NodeId(peer), 1, body);
            }
            let elected = replica.group.role() == Role::Leader;
            assert_eq!(elected, (granted + 1) * 2 > voters, "{granted} and itself of {voters}");
        }
    }
}

#[test]
fn s5_2_one_vote_a_term_durable_before_it_is_said() {
    let mut replica = Replica::follower(1, &[]);
    replica.hear(ONE, 2, vote_request(false, 2, at(0, 0)));
    assert_eq!(replica.ballot(), Some(Ballot::Granted));
    let (gate, _) = replica.written()[0].clone();
    assert_eq!(replica.sent()[0].2, Some(gate), "the answer waits for the disk");
    replica.sync();

    replica.hear(OTHER, 2, vote_request(false, 2, at(5, 1)));
    assert_eq!(replica.ballot(), Some(Ballot::Refused), "first come, first served");
    replica.hear(ONE, 2, vote_request(false, 2, at(0, 0)));
    assert_eq!(replica.ballot(), Some(Ballot::Granted), "the same candidate may ask again");

    // Also after a restart.
    let mut replica = Replica::restored(3, replica.store.hard_state, Vec::new());
    replica.hear(OTHER, 2, vote_request(false, 2, at(5, 1)));
    assert_eq!(replica.ballot(), Some(Ballot::Refused));
}

#[test]
fn s5_2_a_candidate_follows_a_leader_of_its_term() {
    let mut replica = Replica::follower(1, &[]);
    replica.input(Input::Campaign);
    replica.hear(ONE, 1, Body::VoteReply { pre: true, campaign: Term(2), ballot: Ballot::Granted });
    assert_eq!(replica.group.role(), Role::Candidate);
    replica.append(2, at(0, 0), log(&[2]), 0);
    assert_eq!((replica.group.role(), replica.group.leader()), (Role::Follower, Some(ONE)));
}

#[test]
#[should_panic(expected = "election safety")]
fn s5_2_two_leaders_in_a_term_stop_the_replica() {
    let mut replica = Replica::follower(2, &[]);
    replica.hear(ONE, 2, heartbeat(1, 0, at(0, 0)));
    replica.hear(OTHER, 2, heartbeat(1, 0, at(0, 0)));
}

#[test]
fn s5_3_a_leader_sends_before_its_own_sync_and_counts_itself_after_it() {
    let mut leader = Replica::leader(3, 1, &[]);
    leader.matched(ONE, 1, 1);
    leader.input(Input::Propose { id: 7, command: "x".into() });
    assert!(leader.out.contains(&Output::Appended { id: 7, position: at(2, 1) }));
    assert!(leader.sent().iter().any(|(to, _, gate)| (*to, *gate) == (ONE, None)));
    let writes = leader.written();
    leader.matched(ONE, 1, 2);
    assert_eq!(leader.commit_index(), 1, "on one of three disks");
    leader.input(Input::Persisted { upto: writes[0].0 });
    assert_eq!(leader.commit_index(), 2);
    assert!(leader.out.contains(&Output::Committed { upto: Index(2) }));
}

#[test]
fn s5_3_an_entry_is_committed_when_a_majority_holds_it() {
    for voters in 1..=7 {
        for holders in 1..=voters {
            let mut leader = Replica::leader(voters, 1, &[]);
            for peer in (2..=voters).take(holders as usize - 1) {
                leader.matched(NodeId(peer), 1, 1);
            }
            let committed = leader.commit_index() == 1;
            assert_eq!(committed, holders * 2 > voters, "{holders} of {voters}");
        }
    }
}

#[test]
fn s5_3_a_follower_refuses_an_append_whose_prev_it_lacks_and_hints_where_to_look() {
    // Our log, the refused prev, the hint: the last entry no later than it in index and term.
    let cases: [(&[u64], Position, Position); 4] = [
        (&[1, 1], at(5, 1), at(2, 1)),
        (&[1, 2, 2, 2], at(4, 3), at(4, 2)),
        (&[1, 1, 3, 3, 3], at(5, 2), at(2, 1)),
        (&[4, 4], at(2, 3), at(0, 0)),
    ];
    for (terms, prev, hint) in cases {
        let mut replica = Replica::follower(5, terms);
        replica.append(5, prev, vec![], 0);
        let refusal = AppendOutcome::Mismatch { prev_index: prev.index, hint };
        assert_eq!(replica.outcome(), Some(refusal), "{terms:?} {prev:?}");
        assert_eq!(replica.terms(), terms, "nothing was touched");
    }
}

#[test]
fn s5_3_a_conflicting_entry_goes_with_all_after_it_and_nothing_else_does() {
    // Figure 7, and appends that arrive late. Our log, prev and entries, what is left.
    type Terms = &'static [u64];
    let cases: [(Terms, u64, Terms, Terms); 6] = [
        (&[1, 1, 2, 2], 2, &[3], &[1, 1, 3]),
        (&[1, 1, 2, 2], 2, &[2, 3], &[1, 1, 2, 3]),
        (&[1, 1, 2, 2], 4, &[4], &[1, 1, 2, 2, 4]),
        (&[1, 1, 2, 2], 0, &[1, 1], &[1, 1, 2, 2]), // older and shorter: cuts nothing
        (&[1, 1, 2, 2], 3, &[], &[1, 1, 2, 2]),
        (&[1, 1], 0, &[5, 5, 5], &[5, 5, 5]),
    ];
    for (ours, prev, sent, left) in cases {
        let mut replica = Replica::follower(6, ours);
        let entries =
            sent.iter().zip(prev + 1..).map(|(term, index)| entry(index, *term)).collect();
        let prev_term =
            prev.checked_sub(1).map_or(0, |place| ours[usize::try_from(place).unwrap()]);
        replica.append(6, at(prev, prev_term), entries, 0);
        assert_eq!(replica.terms(), left, "{ours:?} after {prev}: {sent:?}");
        // It acknowledges what was compared, never its own last index.
        let match_index = Index(prev + sent.len() as u64);
        assert_eq!(replica.outcome(), Some(AppendOutcome::Matched { match_index }));
        replica.sync();
        let on_disk: Vec<u64> = replica.store.entries.iter().map(|e| e.position.term.0).collect();
        assert_eq!(on_disk, left, "the disk follows");
    }
}

#[test]
fn s5_3_an_acknowledgement_waits_for_the_newest_write() {
    let mut replica = Replica::follower(1, &[]);
    replica.append(1, at(0, 0), log(&[1]), 0);
    let first = replica.written()[0].0;
    assert_eq!(replica.sent()[0].2, Some(first));
    // The same again, not synced yet: it must wait too.
    replica.append(1, at(0, 0), log(&[1]), 0);
    assert_eq!(replica.sent()[0].2, Some(first));
    replica.input(Input::Persisted { upto: first });
    replica.append(1, at(0, 0), log(&[1]), 0);
    assert_eq!(replica.sent()[0].2, None);
}

#[test]
fn s5_3_a_follower_commits_no_further_than_was_proven_equal() {
    let mut replica = Replica::follower(2, &[1, 1, 1]);
    replica.append(2, at(1, 1), vec![], 3);
    assert_eq!(replica.commit_index(), 1, "entries 2 and 3 may differ from the leader's");
    replica.hear(ONE, 2, heartbeat(1, 3, at(3, 2)));
    assert_eq!(replica.commit_index(), 1);
    replica.append(2, at(1, 1), vec![entry(2, 2)], 3);
    assert_eq!(replica.commit_index(), 2);
}

#[test]
#[should_panic(expected = "committed")]
fn s5_3_a_committed_entry_is_never_replaced() {
    let mut replica = Replica::follower(2, &[1, 1]);
    replica.append(2, at(2, 1), vec![], 2);
    replica.append(2, at(1, 1), vec![entry(2, 2)], 2);
}

#[test]
fn s5_4_1_votes_go_only_to_logs_at_least_as_up_to_date() {
    let ours: &[u64] = &[1, 2, 2];
    let cases = [
        (at(3, 2), true),
        (at(4, 2), true),
        (at(2, 2), false),
        (at(1, 3), true),
        (at(9, 1), false),
        (at(0, 0), false),
    ];
    for (last, grants) in cases {
        for pre in [true, false] {
            let mut replica = Replica::follower(3, ours);
            replica.hear(ONE, if pre { 3 } else { 4 }, vote_request(pre, 4, last));
            let expected = if grants { Ballot::Granted } else { Ballot::Refused };
            assert_eq!(replica.ballot(), Some(expected), "{last:?} against {ours:?}");
        }
    }
}

#[test]
fn s5_4_2_entries_of_an_earlier_term_are_committed_only_with_one_of_this_term() {
    let mut leader = Replica::leader(3, 4, &[1, 2]);
    leader.matched(ONE, 4, 2);
    assert_eq!(leader.commit_index(), 0, "on a majority, but of an earlier term (figure 8)");
    leader.matched(ONE, 4, 3);
    assert_eq!(leader.commit_index(), 3);
}

/// A leader of term 1 and three voters, whose log of four entries begins after the third. ONE has all of them.
fn compacted_leader() -> Replica {
    let mut leader = Replica::leader(3, 1, &[]);
    leader.matched(ONE, 1, 1);
    for id in 0..3 {
        leader.input(Input::Propose { id, command: "x".into() });
        leader.sync();
    }
    leader.matched(ONE, 1, 4);
    leader.input(Input::Applied { index: Index(4) });
    leader.input(Input::Compact { upto: Index(3) });
    assert_eq!(leader.group.compacted(), at(3, 1));
    leader
}

#[test]
fn s7_a_follower_behind_the_leaders_log_is_sent_the_state() {
    let mut leader = compacted_leader();
    let mismatch = AppendOutcome::Mismatch { prev_index: Index(0), hint: at(0, 0) };
    leader.hear(OTHER, 1, Body::AppendReply { outcome: mismatch, counts: true });
    assert_eq!(leader.out, [Output::WantSnapshot { to: OTHER }]);
    leader.input(Input::Propose { id: 4, command: "y".into() });
    assert!(leader.sent().iter().all(|(to, ..)| *to == ONE), "nothing else goes to it");
    // It has installed the state: the log goes on from there.
    leader.matched(OTHER, 1, 4);
    assert!(leader.sent().iter().any(|(to, body, _)| {
        *to == OTHER && matches!(body, Body::Append { prev, .. } if *prev == at(4, 1))
    }));
}

/// A follower may say less of its log than there is. Whoever has no state to send must not wait for it to arrive.
#[test]
fn s7_a_leader_with_a_damaged_state_asks_again_for_what_it_can_t_send() {
    let mut leader = compacted_leader();
    leader.sync();
    for is_damaged in [false, true] {
        let mut leader = leader.clone();
        if is_damaged {
            leader.input(Input::StateDamaged);
            assert_eq!(leader.group.role(), Role::Follower);
        } else {
            leader.hear(ONE, 1, vote_request(true, 2, at(4, 1)));
            leader.hear(ONE, 2, Body::Outdated);
            leader.sync();
        }
        let term = leader.group.term().0 + 1;
        leader.elect(3, term);
        let hint = at(0, 0);
        let mismatch = AppendOutcome::Mismatch { prev_index: Index(4), hint };
        leader.hear(ONE, term, Body::AppendReply { outcome: mismatch, counts: true });
        let wants = Output::WantSnapshot { to: ONE };
        assert_eq!(leader.out.contains(&wants), !is_damaged, "{:?}", leader.out);
        leader.now = leader.now + Duration::from_millis(100);
        leader.input(Input::Timer);
        leader.hear(ONE, term, alive(2, 0, false));
        let asks = |(to, body, _): &(NodeId, Body, _)| {
            *to == ONE && matches!(body, Body::Append { prev, .. } if *prev == at(3, 1))
        };
        assert_eq!(leader.sent().iter().any(asks), is_damaged, "{:?}", leader.out);
    }
}

#[test]
fn s7_a_state_replaces_a_log_that_parts_from_it_and_keeps_one_that_goes_on() {
    for (ours, left) in [(&[1, 1, 1][..], &[1][..]), (&[1, 3][..], &[][..])] {
        let mut replica = Replica::follower(4, ours);
        let position = at(2, 1);
        assert!(replica.group.wants_snapshot(position));
        let configuration = replica.group.configuration_at(Index(0));
        let installed = Input::SnapshotInstalled { term: Term(4), position, configuration };
        replica.input(installed);
        let kept: Vec<u64> =
            replica.group.entries(Index(3), 9).map(|entry| entry.position.term.0).collect();
        assert_eq!(kept, left);
        let status = replica.group.status();
        assert_eq!(
            (status.compacted, status.commit_index.0, status.applied_index.0),
            (position, 2, 2)
        );
        replica.sync();
        assert_eq!((replica.store.compacted, replica.store.entries.len()), (position, left.len()));
        assert!(!replica.group.wants_snapshot(position), "once is enough");
    }
}

/// A follower installs a state and is elected meanwhile. It has all that is in there, and did not know yet that it is
/// committed.
#[test]
fn s7_who_came_to_lead_takes_a_state_that_it_was_given_before() {
    let mut leader = Replica::leader(3, 2, &[1, 1, 1]);
    assert_eq!(leader.commit_index(), 0);
    assert!(leader.group.wants_snapshot(at(3, 1)) && !leader.group.wants_snapshot(at(9, 1)));
    let configuration = leader.group.configuration_at(Index(0));
    leader.input(Input::SnapshotInstalled { term: Term(1), position: at(3, 1), configuration });
    assert_eq!((leader.group.role(), leader.commit_index()), (Role::Leader, 3));
    assert_eq!(leader.group.read_index(), None, "there may be more that it doesn't know of");
    leader.sync();
    leader.matched(ONE, 2, 4);
    assert_eq!(leader.group.read_index(), Some(Index(4)));
    assert!(!leader.group.wants_snapshot(at(3, 1)));
}

#[test]
fn thesis_4_2_3_a_replica_that_hears_its_leader_ignores_candidates() {
    let mut replica = Replica::follower(2, &[]);
    replica.hear(ONE, 2, heartbeat(1, 0, at(0, 0)));
    replica.hear(OTHER, 2, vote_request(true, 3, at(9, 9)));
    assert_eq!(replica.ballot(), Some(Ballot::Refused));
    replica.hear(OTHER, 3, vote_request(false, 3, at(9, 9)));
    assert_eq!((replica.ballot(), replica.group.term()), (None, Term(2)));
    // Unless the leader itself asked for it, or is the candidate.
    let mut transferred = vote_request(false, 3, at(9, 9));
    if let Body::VoteRequest { transfer, .. } = &mut transferred {
        *transfer = true;
    }
    replica.hear(OTHER, 3, transferred);
    assert_eq!(replica.ballot(), Some(Ballot::Granted));
}

#[test]
fn thesis_9_6_asking_changes_nothing_at_the_voter() {
    let mut replica = Replica::follower(2, &[1]);
    let before = replica.group.hard_state();
    replica.hear(ONE, 2, vote_request(true, 9, at(4, 2)));
    assert_eq!(replica.ballot(), Some(Ballot::Granted));
    assert_eq!(replica.group.hard_state(), before);
    replica.hear(OTHER, 2, vote_request(true, 9, at(4, 2)));
    assert_eq!(replica.ballot(), Some(Ballot::Granted), "it may tell everyone the same");
}

/// Section 5.2. A disk that is slow gets one election after another to write otherwise, and ends none.
#[test]
fn a_candidate_begins_no_other_term_before_its_own_vote_is_durable() {
    let mut replica = Replica::follower(1, &[1]);
    replica.input(Input::Campaign);
    let granted = |pre| Body::VoteReply { pre, campaign: Term(2), ballot: Ballot::Granted };
    replica.hear(ONE, 1, granted(true));
    let written = replica.written();
    let [(vote, _)] = written.as_slice() else { panic!("{written:?}") };
    for _ in 0..20 {
        replica.now = replica.now + Duration::from_millis(800);
        replica.input(Input::Timer);
    }
    assert_eq!((replica.group.role(), replica.group.term()), (Role::Candidate, Term(2)));
    replica.hear(ONE, 2, granted(false));
    assert_eq!(replica.group.role(), Role::Candidate, "by its peer's vote alone");
    replica.input(Input::Persisted { upto: *vote });
    assert_eq!((replica.group.role(), replica.group.term()), (Role::Leader, Term(2)));
}

/// A disk that lies: nothing that the leader could send would help, and asking at once would never end.
#[test]
fn a_follower_that_lacks_what_it_acknowledged_is_asked_once_a_heartbeat() {
    let mut leader = Replica::leader(3, 2, &[1, 1]);
    leader.matched(ONE, 2, 3);
    for id in [1, 2] {
        leader.input(Input::Propose { id, command: Bytes::new() });
    }
    let appends = |leader: &Replica| {
        let to_it =
            |(to, body, _): &(NodeId, Body, _)| *to == ONE && matches!(body, Body::Append { .. });
        leader.sent().iter().filter(|sent| to_it(sent)).count()
    };
    let lacks = |leader: &mut Replica, prev: u64| {
        let outcome = AppendOutcome::Mismatch { prev_index: Index(prev), hint: at(1, 1) };
        leader.hear(ONE, 2, Body::AppendReply { outcome, counts: true });
        appends(leader)
    };
    // It refuses what follows 4, and so shows that it has no 3 either.
    let mut asked = lacks(&mut leader, 4);
    for round in 2..12 {
        leader.now = leader.now + Duration::from_millis(100);
        leader.input(Input::Timer);
        leader.hear(ONE, 2, alive(round, 1, false));
        asked += appends(&leader);
        for _ in 0..5 {
            asked += lacks(&mut leader, 3);
        }
    }
    assert!((5..=11).contains(&asked), "asked {asked} times in 10 heartbeats");
}

/// The same entry is written, overwritten and written again; the completion of the first write says
/// nothing of the third (etcd's `async_storage_writes_append_aba_race`).
#[test]
fn a_completion_never_vouches_for_what_came_after_it() {
    let mut replica = Replica::follower(1, &[1]);
    replica.append(2, at(1, 1), vec![entry(2, 2)], 0);
    let first = replica.written()[0].0;
    replica.append(3, at(1, 1), vec![entry(2, 3)], 0);
    replica.append(4, at(1, 1), vec![entry(2, 2)], 0);
    let third = replica.written()[0].0;
    replica.input(Input::Persisted { upto: first });
    assert_eq!(replica.group.status().durable, Index(1));
    replica.input(Input::Persisted { upto: third });
    assert_eq!(replica.group.status().durable, Index(2));
}

/// A state that a later leader committed may be ahead of what the leader of our term ever had: we must
/// not call ourselves equal to that one.
#[test]
fn s7_a_state_brings_the_term_of_its_leader() {
    let mut replica = Replica::follower(5, &[1]);
    replica.hear(ONE, 5, heartbeat(1, 0, at(1, 1)));
    let configuration = replica.group.configuration_at(Index(0));
    replica.input(Input::SnapshotInstalled { term: Term(6), position: at(90, 4), configuration });
    assert_eq!(replica.sent(), [], "nothing to the leader of a term that is over");
    assert_eq!((replica.group.term(), replica.group.leader()), (Term(6), None));
    replica.hear(ONE, 5, heartbeat(2, 0, at(1, 1)));
    assert_eq!(replica.sent(), [(ONE, Body::Outdated, Some(PersistId(1)))]);
}
