//! Boots and standings: what an earlier boot said, and replicas that count again (`readmit`). Beyond the paper.

use super::*;

#[test]
fn an_acknowledgement_of_an_older_boot_never_counts() {
    let mut leader = Replica::leader(3, 1, &[]);
    leader.matched(ONE, 1, 0);
    leader.input(Input::PeerRestarted { node: ONE, incarnation: Incarnation(2) });
    leader.matched(ONE, 1, 1);
    assert_eq!(leader.commit_index(), 0, "it may have forgotten what it acknowledged");
    let outcome = AppendOutcome::Matched { match_index: Index(1) };
    let body = Body::AppendReply { outcome, counts: true };
    let message = Message { term: Term(1), incarnation: Incarnation(2), body };
    leader.input(Input::Message { from: ONE, message });
    assert_eq!(leader.commit_index(), 1);
}

/// A replica that counts again says so with what it has proven to this leader, which may be nothing. That is
/// no answer to the probe: taken for one, the leader would begin below its own log, with a state that
/// the follower doesn't need.
#[test]
fn a_match_below_the_probe_does_not_answer_it() {
    let mut leader = Replica::leader(3, 2, &[1, 1, 1]);
    leader.matched(ONE, 2, 0);
    assert_eq!(leader.sent(), []);
    leader.matched(ONE, 2, 3);
    leader.input(Input::Propose { id: 7, command: Bytes::from_static(b"x") });
    let prev = leader.sent().into_iter().find_map(|(to, body, _)| match body {
        Body::Append { prev, .. } if to == ONE => Some(prev),
        _ => None,
    });
    assert_eq!(prev, Some(at(4, 2)), "sent on, not again");
}

#[test]
fn a_replica_that_abstains_answers_conditionally_and_is_not_counted() {
    let restored =
        Restored { entries: log(&[1]), standing: Standing::Abstaining, ..Restored::default() };
    let mut replica = Replica::follower(1, &[1]);
    replica.group = Group::new(replica.group.config.clone(), restored, Instant(0), Rng::new(1));
    replica.hear(ONE, 2, vote_request(false, 2, at(1, 1)));
    assert_eq!(replica.ballot(), Some(Ballot::Conditional));
    replica.append(2, at(1, 1), vec![entry(2, 2)], 0);
    let counts = replica.sent().into_iter().any(|(_, body, _)| match body {
        Body::AppendReply { counts, .. } | Body::HeartbeatReply { counts, .. } => counts,
        _ => false,
    });
    assert!(!counts);

    let mut leader = Replica::leader(3, 2, &[1]);
    let outcome = AppendOutcome::Matched { match_index: Index(2) };
    leader.hear(ONE, 2, Body::AppendReply { outcome, counts: false });
    assert_eq!(leader.commit_index(), 0);
}
