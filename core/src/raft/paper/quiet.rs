//! Quiet groups: what wakes whom. Beyond the paper, which has no such thing.

use super::*;

/// Half a group that is awake beside a leader that sleeps would elect another one.
#[test]
fn a_quiet_follower_that_a_late_message_wakes_asks_its_leader() {
    let mut replica = Replica::follower(2, &[1]);
    let unanimous = false;
    let rest = |round, quiesce| {
        let (commit_index, last) = (Index(1), at(1, 1));
        Body::Heartbeat { commit_index, last, round, quiesce, unanimous }
    };
    replica.append(2, at(1, 1), vec![], 1);
    replica.sync();
    let nudged = |replica: &Replica| replica.sent().contains(&(ONE, Body::Nudge, None));
    let late = [(OTHER, 1, Body::Nudge, true), (OTHER, 2, Body::Outdated, true)];
    let led = [(ONE, 1, rest(1, false), true), (ONE, 2, rest(2, false), false)];
    for (from, term, body, asks) in late.into_iter().chain(led) {
        replica.hear(ONE, 2, rest(1, true));
        assert!(replica.group.is_quiet());
        replica.hear(from, term, body.clone());
        assert!(!replica.group.is_quiet(), "{from:?} {term} {body:?}");
        assert_eq!(nudged(&replica), asks, "{from:?} {term} {body:?}");
    }
}

/// A heartbeat that was under way for long wakes a follower. Its leader sleeps: the answer must wake it, or the follower stands
/// for election some day, and wins where somebody has lost touch with the leader.
#[test]
fn a_quiet_leader_wakes_when_somebody_who_is_awake_answers() {
    let mut leader = Replica::leader(3, 2, &[]);
    let rests = |leader: &mut Replica| {
        for _ in 0..100 {
            leader.now = leader.group.deadline().unwrap();
            leader.input(Input::Timer);
            let quiet = |body: &Body| match body {
                Body::Heartbeat { round, quiesce, .. } => Some((*round, *quiesce)),
                _ => None,
            };
            let told = leader.sent().iter().find_map(|(_, body, _)| quiet(body));
            let Some((round, quiesce)) = told else { continue };
            for from in [ONE, OTHER] {
                leader.hear(from, 2, alive(round, 1, quiesce));
            }
            if leader.group.is_quiet() {
                return;
            }
        }
        panic!("it never goes quiet");
    };
    for from in [ONE, OTHER] {
        leader.matched(from, 2, 1);
    }
    rests(&mut leader);
    leader.hear(ONE, 2, alive(9, 1, true));
    leader.hear(ONE, 1, alive(9, 1, false));
    assert!(leader.group.is_quiet(), "who sleeps, or spoke in an older term, wakes nobody");
    leader.hear(ONE, 2, alive(1, 1, false));
    assert!(!leader.group.is_quiet());
    let heartbeats =
        leader.sent().iter().filter(|(_, body, _)| matches!(body, Body::Heartbeat { .. })).count();
    assert_eq!(heartbeats, 2, "and everybody hears of it");
    rests(&mut leader);
}

/// Another may have come to lead while nothing of it arrived here; whoever led before would know.
#[test]
fn a_quiet_follower_asks_its_leader_when_a_peer_is_heard_of_again() {
    let (commit_index, last) = (Index(1), at(1, 1));
    let (round, quiesce, unanimous) = (1, true, false);
    for (found, asks) in [(OTHER, true), (ONE, false), (NodeId(9), false)] {
        let mut replica = Replica::follower(2, &[1]);
        replica.append(2, at(1, 1), vec![], 1);
        replica.sync();
        let rest = Body::Heartbeat { commit_index, last, round, quiesce, unanimous };
        replica.hear(ONE, 2, rest);
        assert!(replica.group.is_quiet());
        replica.sent();
        replica.input(Input::PeerFound { node: found });
        assert_eq!(replica.group.is_quiet(), !asks, "{found:?}");
        assert_eq!(replica.sent().contains(&(ONE, Body::Nudge, None)), asks, "{found:?}");
    }
}

/// Extension: a heartbeat that arrives long after its term may put a follower to sleep. Whoever hears that must say
/// that the term is over, for nothing else wakes it.
#[test]
fn whoever_went_quiet_in_an_older_term_is_told_of_this_one() {
    let mut replica = Replica::leader(3, 5, &[]);
    for (quiet, told) in [(false, vec![]), (true, vec![(ONE, Body::Outdated, None)])] {
        replica.hear(ONE, 4, alive(9, 1, quiet));
        assert_eq!(replica.sent(), told);
    }
}
