//! Reads at followers, and what a replica tells the table of its records, with three replicas of a group and everything between
//! them moved by hand.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that is wrong may panic")]

use super::*;
use crate::kv::api::KvRequest;
use crate::kv::batch::Roster;
use crate::kv::command::SessionId;
use crate::machine::{FileId, FileKind};
use crate::node::message::ReadIndex;
use crate::node::support::Given;
use crate::object::api::Request;
use crate::planted::Planted;
use crate::rng::Rng;
use crate::types::Incarnation;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::{vec, vec::Vec};

const GROUP: GroupId = GroupId(1);
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const ALL: [NodeId; 3] = [A, B, C];
const BOOT: Incarnation = Incarnation(1);
const PATIENCE: Duration = Duration::from_millis(200);

struct Trio {
    now: Instant,
    replicas: BTreeMap<NodeId, Replica>,
    given: BTreeMap<NodeId, Given>,
    /// Under way: from, to, what.
    flight: Vec<(NodeId, NodeId, raft::Message)>,
    /// What each node was answered by its own replica.
    answers: BTreeMap<NodeId, Vec<Reply>>,
    /// Read indexes: whom they are for, which question, what.
    indexes: Vec<(NodeId, u64, Option<ReadIndex>)>,
    /// What was given to the table: frames, and words on bodies that are looked through.
    to_table: Vec<StoreInput>,
    calls: u64,
}

fn replica(me: NodeId, planted: Planted) -> Replica {
    let config = raft::Config {
        me,
        group: GROUP,
        incarnation: BOOT,
        voters: ALL.to_vec(),
        heartbeat: Duration::from_millis(100),
        election: Duration::from_millis(400),
        quiesce_after: Duration::from_secs(2),
        append_bytes_max: 1 << 20,
        append_inflight_max: 8,
        max_clock_drift_ppm: None,
        planted,
    };
    let rng = Rng::new(u64::from(me.0));
    let group = Group::new(config, raft::Restored::default(), Instant(0), rng);
    let roster = Arc::new(Roster::founding(&ALL));
    let seat = Seat { group: GROUP, roster, planted };
    Replica::new(GROUP, group, State::new(seat))
}

impl Trio {
    /// Three, of whom the first leads and has committed its first entry.
    fn new() -> Self {
        Self::planted(Planted::NONE)
    }

    fn planted(planted: Planted) -> Self {
        let mut trio = Self {
            now: Instant(0),
            replicas: ALL.iter().map(|node| (*node, replica(*node, planted))).collect(),
            given: ALL.iter().map(|node| (*node, Given::default())).collect(),
            flight: Vec::new(),
            answers: BTreeMap::new(),
            indexes: Vec::new(),
            to_table: Vec::new(),
            calls: 0,
        };
        trio.campaign(A);
        trio.settle(&[]);
        trio.pass(100);
        trio.settle(&[]);
        assert!(trio.replicas[&A].leads());
        trio
    }

    fn step(&mut self, node: NodeId, step: impl FnOnce(&mut Replica, &mut Cx<'_>)) {
        let mut posts = Vec::new();
        let mut step = Some(step);
        let mut queue = VecDeque::from([None]);
        while let Some(input) = queue.pop_front() {
            let now = Now { mono: self.now, wall_earliest: self.now.0, wall_latest: self.now.0 };
            let mut cx = Cx {
                now,
                me: node,
                near_patience: PATIENCE,
                slice_items: 512,
                slice_bytes: 1 << 20,
                posts: &mut posts,
                outputs: &mut Vec::new(),
            };
            let replica = self.replicas.get_mut(&node).unwrap();
            match (input, step.take()) {
                (Some(input), _) => replica.handle(input, &mut cx),
                (None, Some(step)) => step(replica, &mut cx),
                (None, None) => {}
            }
            for post in posts.drain(..) {
                queue.extend(self.carry_out(node, post).map(Some));
            }
        }
    }

    /// What comes of a post, if it is for the same replica. What the log is asked is done at once.
    fn carry_out(&mut self, node: NodeId, post: Post) -> Option<ReplicaInput> {
        match post {
            Post::Replica(_, input) => return Some(input),
            Post::Store(StoreInput::Persist { id, .. }) => {
                return Some(ReplicaInput::Persisted(id));
            }
            Post::Store(input @ (StoreInput::Frame { .. } | StoreInput::Swept { .. })) => {
                self.to_table.push(input);
            }
            Post::ReadAsked(_) => return Some(ReplicaInput::Confirm),
            Post::Left(peer) => self.given.get_mut(&node).unwrap().withdraw(peer),
            Post::Raft { to, mut message, .. } => {
                if let Body::HeartbeatReply { support, .. } = &mut message.body {
                    *support = self.given[&node].epoch(to);
                }
                self.flight.push((node, to, message));
            }
            Post::Peer(to, message) => match message.head {
                Head::Return { answer, .. } => self.answers.entry(to).or_default().push(answer),
                head => panic!("{head:?}"),
            },
            Post::Index { to, question, index, .. } => {
                self.indexes.push((to, question.number, index));
            }
            _ => {}
        }
        None
    }

    fn input(&mut self, node: NodeId, input: ReplicaInput) {
        self.step(node, |replica, cx| replica.handle(input, cx));
    }

    fn campaign(&mut self, node: NodeId) {
        self.step(node, |replica, cx| replica.feed(raft::Input::Campaign, cx));
    }

    /// The others take the leader for dead, and `heir` stands for election.
    fn depose(&mut self, leader: NodeId, heir: NodeId) {
        for node in ALL.into_iter().filter(|node| *node != leader) {
            self.input(node, ReplicaInput::PeerLost(leader));
        }
        self.campaign(heir);
    }

    /// Delivers everything but what goes to or comes from these.
    fn settle(&mut self, cut: &[NodeId]) {
        while !self.flight.is_empty() {
            let (from, to, message) = self.flight.remove(0);
            if !cut.contains(&from) && !cut.contains(&to) {
                self.input(to, ReplicaInput::Raft(from, message));
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        for node in ALL {
            self.input(node, ReplicaInput::Timer);
        }
    }

    fn call(&mut self, node: NodeId, ask: Ask) {
        self.calls += 1;
        let call = CallId { incarnation: BOOT, number: self.calls };
        self.input(node, ReplicaInput::Call { from: node, call, ask });
    }

    /// An entry that changes the state.
    fn write(&mut self, node: NodeId) {
        let session = SessionId { node, incarnation: Incarnation(self.calls + 1) };
        self.call(node, Ask::OpenSession(session));
    }

    fn read(&mut self, node: NodeId) {
        let request = Box::new(Request::Kv(KvRequest::Get { key: Octets::from(vec![1]) }));
        self.call(node, Ask::ReadNear(Query::Client { bucket: None, request }));
    }

    /// The word that goes with a question of this moment.
    fn support(&self, node: NodeId, leader: NodeId) -> Support {
        Support { incarnation: BOOT, epoch: self.given[&node].epoch(leader) }
    }

    /// A question is asked, and arrives.
    fn ask(&mut self, node: NodeId, question: u64, leader: NodeId) {
        assert!(self.replicas[&node].wants_index_of(leader));
        self.input(node, ReplicaInput::IndexAsked { question });
        let support = self.support(node, leader);
        self.arrives(node, question, leader, support);
    }

    fn arrives(&mut self, from: NodeId, number: u64, leader: NodeId, support: Support) {
        let question = CallId { incarnation: BOOT, number };
        self.input(leader, ReplicaInput::IndexQuery { from, question, support });
    }

    /// The answer to this question arrives.
    fn tell(&mut self, node: NodeId, question: u64) {
        let told = self.told(node, question).unwrap();
        self.input(node, ReplicaInput::IndexIs { question, index: told });
    }

    fn told(&self, node: NodeId, question: u64) -> Option<Option<ReadIndex>> {
        let is = |(to, number, _): &&(NodeId, u64, _)| (*to, *number) == (node, question);
        self.indexes.iter().find(is).map(|(_, _, index)| *index)
    }

    fn answered(&mut self, node: NodeId) -> Vec<Reply> {
        self.answers.remove(&node).unwrap_or_default()
    }

    fn has_value(&mut self, node: NodeId) -> bool {
        let answers = self.answered(node);
        assert!(answers.iter().all(|answer| matches!(answer, Reply::Outcome(_))), "{answers:?}");
        !answers.is_empty()
    }
}

#[test]
fn asker_and_leader_are_a_quorum_of_three() {
    let mut trio = Trio::new();
    trio.read(B);
    assert!(!trio.has_value(B), "not before the leader was asked");
    trio.ask(B, 1, A);
    assert!(trio.flight.is_empty(), "the leader asks nobody");
    trio.tell(B, 1);
    assert!(trio.has_value(B));
}

#[test]
fn what_the_leader_has_committed_is_waited_for_and_no_heartbeat_is() {
    let mut trio = Trio::new();
    trio.write(A);
    let late = trio.flight.extract_if(.., |(_, to, _)| *to == B).collect::<Vec<_>>();
    trio.settle(&[B]);
    assert!(trio.has_value(A), "the write is acknowledged without this follower");
    trio.read(B);
    trio.ask(B, 1, A);
    trio.tell(B, 1);
    assert!(!trio.has_value(B), "its state does not contain the write yet");
    trio.flight = late;
    trio.settle(&[A, C]);
    assert!(!trio.has_value(B));
    assert!(trio.flight.is_empty());
    trio.write(A);
    trio.flight.retain(|(_, to, _)| *to == B);
    trio.settle(&[C]);
    assert!(trio.has_value(B), "it comes with an append that was sent before its commit was known");
}

#[test]
fn a_deposed_leader_confirms_nothing_that_is_asked_later() {
    let mut trio = Trio::new();
    let before = trio.support(C, A);
    trio.read(C);
    trio.depose(A, B);
    trio.settle(&[A]);
    assert!(trio.replicas[&B].leads() && trio.replicas[&A].leads());
    assert!(matches!(trio.answered(C)[..], [Reply::NotLeader(_)]), "its leader is another now");
    trio.arrives(C, 1, A, before);
    assert!(trio.told(C, 1).flatten().is_some(), "asked while nobody else could have been elected");
    let support = trio.support(C, A);
    assert_ne!(support, before);
    trio.arrives(C, 2, A, support);
    assert_eq!(trio.told(C, 2), None, "it has to ask its followers");
    trio.settle(&[]);
    trio.pass(500);
    trio.settle(&[]);
    assert!(!trio.replicas[&A].leads());
    assert_eq!(trio.told(C, 2), Some(None), "and can't");
}

#[test]
fn a_new_leader_waits_for_an_entry_of_its_own_term() {
    let mut trio = Trio::new();
    trio.write(A);
    trio.settle(&[C]);
    assert!(trio.has_value(A));
    // B hears of that commit at the next heartbeat only, and leads before.
    trio.depose(A, B);
    let mut late = Vec::new();
    while let Some((from, to, message)) = (!trio.flight.is_empty()).then(|| trio.flight.remove(0)) {
        match message.body {
            Body::AppendReply { .. } if to == B => late.push((from, to, message)),
            _ if [from, to].contains(&A) => {}
            _ => trio.input(to, ReplicaInput::Raft(from, message)),
        }
    }
    assert!(trio.replicas[&B].leads() && !late.is_empty());
    trio.read(C);
    trio.ask(C, 1, B);
    assert_eq!(trio.told(C, 1), None, "what its predecessor committed is not known here");
    trio.flight = late;
    trio.settle(&[A]);
    let index = trio.told(C, 1).flatten().unwrap().index;
    assert!(index >= Index(3), "{index:?}: both leaders' first entries and the write");
    trio.tell(C, 1);
    assert!(trio.has_value(C));
}

#[test]
fn an_answer_to_an_old_question_is_none_to_a_new_one() {
    let mut trio = Trio::new();
    trio.read(B);
    trio.ask(B, 1, A);
    trio.write(A);
    trio.settle(&[B]);
    assert!(trio.has_value(A));
    trio.read(B);
    trio.input(B, ReplicaInput::IndexAsked { question: 2 });
    trio.tell(B, 1);
    assert_eq!(trio.answered(B).len(), 1, "the first read");
    trio.tell(B, 1);
    assert!(!trio.has_value(B), "nor when it comes again");
    let support = trio.support(B, A);
    trio.arrives(B, 2, A, support);
    let index = |question| trio.told(B, question).flatten().unwrap().index;
    assert!(index(2) > index(1), "it has to see the write");
}

#[test]
fn who_waits_too_long_is_sent_to_the_leader_once() {
    let mut trio = Trio::new();
    trio.read(B);
    assert_eq!(trio.replicas[&B].near_deadline(), None);
    trio.input(B, ReplicaInput::IndexAsked { question: 1 });
    trio.now = trio.replicas[&B].near_deadline().unwrap();
    trio.input(B, ReplicaInput::Timer);
    assert_eq!(trio.answered(B), [Reply::NotLeader(Some(A))]);
    trio.input(B, ReplicaInput::IndexIs { question: 1, index: None });
    assert_eq!(trio.answered(B), []);
    // Who is not heard of is not waited for.
    trio.read(B);
    trio.input(B, ReplicaInput::PeerLost(A));
    assert_eq!(trio.answered(B).len(), 1);
}

#[test]
fn a_replica_without_a_sound_state_answers_nothing() {
    let mut trio = Trio::new();
    trio.read(B);
    let damage =
        Damage { file: FileId::new(FileKind::Table, 1), offset: 0, what: String::from("a frame") };
    trio.step(B, |replica, cx| replica.on_damage(damage, cx));
    assert_eq!(trio.answered(B), [Reply::NotLeader(Some(A))]);
    trio.read(B);
    assert_eq!(trio.answered(B), [Reply::NotLeader(Some(A))]);
}

/// Whether what stands in a record's place is given to the table before the old body is called dead.
fn replaces_before_it_sweeps(planted: Planted) -> bool {
    let mut trio = Trio::planted(planted);
    trio.write(A);
    trio.settle(&[]);
    assert!(trio.has_value(A));
    trio.to_table.clear();
    trio.input(A, ReplicaInput::Sweep { segment: 1, rows: Vec::new() });
    assert!(matches!(trio.to_table.last(), Some(StoreInput::Swept { .. })));
    matches!(trio.to_table.first(), Some(StoreInput::Frame { .. }))
}

#[test]
fn a_body_is_called_dead_after_what_replaces_it_was_given_to_the_table() {
    assert!(replaces_before_it_sweeps(Planted::NONE));
}

#[test]
#[cfg(feature = "planted-bugs")]
fn row_46_is_seen() {
    assert!(!replaces_before_it_sweeps(Planted::with(Bug::EngineSweepsEarly)));
}
