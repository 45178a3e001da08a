#![allow(clippy::indexing_slicing, reason = "a test that is wrong may panic")]

use super::*;
use crate::object::api::{Answer, Request};
use alloc::boxed::Box;
use alloc::vec;

const ME: NodeId = NodeId(1);
const GROUP: GroupId = GroupId(7);
const DEADLINE: Instant = Instant(60_000_000_000);

fn calls() -> Calls {
    let replicas = BTreeMap::from([(GROUP, vec![NodeId(1), NodeId(2), NodeId(3)])]);
    Calls::new(ME, Incarnation(1), replicas, false, Rng::new(5))
}

fn read(calls: &mut Calls, now: Instant, owner: u64, sends: &mut Sends) -> u64 {
    let request = Request::HeadBucket { bucket: "bucket".into() };
    let query = Query::Client { bucket: None, request: Box::new(request) };
    calls.read(now, TaskId(owner), GROUP, query, DEADLINE, sends)
}

/// Who was asked, and by which call.
fn asked(sends: &mut Sends) -> Vec<(NodeId, u64)> {
    let asked = |(to, message): (NodeId, PeerMessage)| match message.head {
        Head::Call { call, .. } => (to, call.number),
        head => panic!("{head:?} is no call"),
    };
    sends.drain(..).map(asked).collect()
}

/// Lets time pass up to `until`; whoever is asked does not lead and knows of nobody. Returns how often that was.
fn nobody_leads(calls: &mut Calls, until: Instant, sends: &mut Sends) -> usize {
    let mut count = 0;
    while let Some(now) = calls.deadline().filter(|at| *at <= until) {
        calls.on_timer(now, sends);
        for (to, number) in asked(sends) {
            count += 1;
            let id = calls.id(number);
            calls.on_return(now, to, id, Reply::NotLeader(None), sends);
        }
    }
    count
}

#[test]
fn while_nobody_leads_one_call_asks_around_and_the_others_wait_for_it() {
    let (mut calls, mut sends) = (calls(), Sends::new());
    let numbers: Vec<u64> =
        (0..200).map(|owner| read(&mut calls, Instant(0), owner, &mut sends)).collect();
    for (to, number) in asked(&mut sends) {
        let id = calls.id(number);
        calls.on_return(Instant(0), to, id, Reply::NotLeader(None), &mut sends);
    }
    let two_seconds = Instant(2_000_000_000);
    let count = nobody_leads(&mut calls, two_seconds, &mut sends);
    assert!((20..400).contains(&count), "200 calls asked {count} times in two seconds");

    calls.on_leader(two_seconds, GROUP, Some(NodeId(3)));
    calls.on_timer(two_seconds, &mut sends);
    let sent = asked(&mut sends);
    assert!(sent.iter().all(|(to, _)| *to == NodeId(3)), "{sent:?}");
    let mut sent: Vec<u64> = sent.into_iter().map(|(_, number)| number).collect();
    sent.sort_unstable();
    assert_eq!(sent, numbers, "everyone goes on at once");
}

#[test]
fn another_call_asks_around_when_the_first_has_ended() {
    let (mut calls, mut sends) = (calls(), Sends::new());
    read(&mut calls, Instant(0), 1, &mut sends);
    read(&mut calls, Instant(0), 2, &mut sends);
    nobody_leads(&mut calls, Instant(1_000_000_000), &mut sends);
    let scout = calls.scouts[&GROUP];
    let owner = calls.calls[&scout].owner.expect("owned");
    calls.disown(owner);
    let count = nobody_leads(&mut calls, Instant(3_000_000_000), &mut sends);
    assert!(count > 10, "asked {count} times in two seconds");
    assert_ne!(calls.scouts[&GROUP], scout);
}

#[test]
fn a_read_that_nobody_waits_for_is_over() {
    let (mut calls, mut sends) = (calls(), Sends::new());
    let number = read(&mut calls, Instant(0), 1, &mut sends);
    calls.disown(TaskId(1));
    assert_eq!(calls.deadline(), None);
    let (id, done) = (calls.id(number), Reply::Outcome(Box::new(Ok(Answer::Done))));
    assert!(calls.on_return(Instant(1), ME, id, done, &mut sends).is_empty());
}

/// How often is asked until `until` while each of the nodes 2 and 3 names the other as the leader, and `copies` of every
/// answer arrive.
fn naming_each_other(calls: &mut Calls, copies: usize, until: Instant, sends: &mut Sends) -> usize {
    let (mut count, mut now) = (0, Instant(0));
    loop {
        while !sends.is_empty() {
            for (to, number) in asked(sends) {
                count += 1;
                assert!(count < 10_000, "asked without end at {now:?}");
                let hint = Some(NodeId(5 - to.0));
                let id = calls.id(number);
                for _ in 0..copies {
                    calls.on_return(now, to, id, Reply::NotLeader(hint), sends);
                }
            }
        }
        now = match calls.deadline() {
            Some(at) if at <= until => at,
            _ => return count,
        };
        calls.on_timer(now, sends);
    }
}

#[test]
fn between_nodes_that_name_each_other_as_the_leader_a_call_pauses() {
    for copies in [1, 2] {
        let (mut calls, mut sends) = (calls(), Sends::new());
        calls.replicas.insert(GROUP, Replicas::of(vec![NodeId(2), NodeId(3)]));
        let number = read(&mut calls, Instant(0), 1, &mut sends);
        let count = naming_each_other(&mut calls, copies, Instant(1_000_000_000), &mut sends);
        // Two a pause; pauses are of 64 to 96 ms after the first few.
        assert!((16..40).contains(&count), "asked {count} times in a second");

        calls.on_leader(Instant(1_000_000_000), GROUP, Some(NodeId(3)));
        let next = calls.deadline().expect("it goes on");
        assert!(next <= Instant(1_100_000_000), "{next:?}");
        calls.on_timer(next, &mut sends);
        assert_eq!(asked(&mut sends), [(NodeId(3), number)]);
    }
}

#[test]
fn a_denial_that_names_somebody_else_is_followed_at_once() {
    let (mut calls, mut sends) = (calls(), Sends::new());
    let number = read(&mut calls, Instant(0), 1, &mut sends);
    let id = calls.id(number);
    assert_eq!(asked(&mut sends), [(ME, number)]);
    for (from, hint) in [(ME, NodeId(2)), (NodeId(2), NodeId(3))] {
        calls.on_return(Instant(0), from, id, Reply::NotLeader(Some(hint)), &mut sends);
        assert_eq!(asked(&mut sends), [(hint, number)]);
        // The same answer once more.
        calls.on_return(Instant(0), from, id, Reply::NotLeader(Some(hint)), &mut sends);
        assert_eq!(asked(&mut sends), []);
    }
}
