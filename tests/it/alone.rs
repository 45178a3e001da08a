//! One node without others, on a simulated disk: what a bit that flips at rest does to it.

use bytes::Bytes;
use ironseed_core::codec::Octets;
use ironseed_core::kv::api::{Expect, KvAnswer, KvRequest};
use ironseed_core::machine::{FileId, FileKind, Hashed, Instant, IoDone, Now};
use ironseed_core::node::Node;
use ironseed_core::node::api::{Config, Effect, Founding, FsyncPolicy, Input, Tuning};
use ironseed_core::node::status::Phase;
use ironseed_core::node::trace::Trace;
use ironseed_core::object::api::{Answer, Outcome, Refusal, Request};
use ironseed_core::planted::Planted;
use ironseed_core::types::{ClusterId, NodeId, RequestId};
use ironseed_sim::disk::{Disk, Speed};
use std::collections::VecDeque;

const KEYS: u8 = 16;
const VICTIM: u8 = 5;
const WAL: FileId = FileId::new(FileKind::Wal, 1);
const MILLISECOND: u64 = 1_000_000;

/// A node, its disk and its clock. Every operation is carried out at once.
struct Alone {
    node: Node,
    disk: Disk,
    now: u64,
    requests: u64,
    traces: Vec<Trace>,
}

fn config() -> Config {
    Config {
        me: NodeId(1),
        nodes: vec![NodeId(1)],
        shards: 8,
        replication: 1,
        lanes: 1,
        fsync: FsyncPolicy::Always,
        tuning: Tuning {
            wal_segment_bytes: 1 << 20,
            table_segment_bytes: 1 << 20,
            chunk_segment_bytes: 4 << 20,
            ..Tuning::default()
        },
        seed: 1,
        planted: Planted::default(),
    }
}

fn value(key: u8) -> Vec<u8> {
    (0..1_000_u32).map(|at| (at as u8).wrapping_mul(7) ^ key.wrapping_mul(31)).collect()
}

impl Alone {
    /// A node that has founded its cluster and holds a value under each key.
    fn filled() -> Self {
        let speed = Speed { write: 1, sync: 1, read: 1 };
        let disk = Disk::new(1, 1, speed);
        let (node, traces) = (Node::new(config()), Vec::new());
        let mut alone = Self { node, disk, now: 0, requests: 0, traces };
        let found = Founding {
            cluster: ClusterId([1; 16]),
            access_key: "access".into(),
            secret_key: "secret".into(),
        };
        alone.boot(Some(found));
        for key in 0..KEYS {
            let written = alone.put(key);
            assert!(matches!(written, Ok(Answer::Kv(KvAnswer::Written { .. }))), "{written:?}");
        }
        alone
    }

    fn boot(&mut self, found: Option<Founding>) {
        self.node = Node::new(config());
        let files = self.disk.found();
        let boot = Input::Boot { files, found };
        assert_eq!(self.step(boot), None);
        assert_eq!(self.node.phase(), Phase::Serving);
    }

    /// The node is killed, a bit flips at every `flips` within the victim's value, counted from its start as
    /// the log has it, and the node boots. Returns where the value is.
    fn flip_and_reboot(&mut self, flips: impl Iterator<Item = i64>) -> usize {
        self.disk.kill(self.now);
        let log = self.disk.read_durable(WAL, 0, 1 << 20).expect("the log has a name");
        let value = value(VICTIM);
        let at = log.windows(value.len()).position(|window| window == value);
        let at = at.expect("the log has the value");
        for flip in flips {
            assert!(self.disk.flip(WAL, at.strict_add_signed(flip as isize) as u64, 3));
        }
        self.traces.clear();
        self.boot(None);
        at
    }

    /// Feeds one input and all that follows from it without waiting; returns an answer, if one came.
    fn step(&mut self, input: Input) -> Option<Outcome> {
        let (mut inputs, mut answer) = (VecDeque::from([input]), None);
        while let Some(input) = inputs.pop_front() {
            let mono = Instant(self.now);
            let now = Now { mono, wall_earliest: self.now, wall_latest: self.now };
            let mut effects = Vec::new();
            self.node.step(now, input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Io(io) => {
                        self.disk.issue(self.now, io.op, io.io);
                        let done = self.disk.complete(self.now, io.op).expect("nothing crashed");
                        inputs.push_back(Input::Done { op: io.op, result: done.result });
                    }
                    Effect::Hash { op, bytes } => {
                        let result = Ok(IoDone::Hashed(Hashed::of(&bytes)));
                        inputs.push_back(Input::Done { op, result });
                    }
                    Effect::Reply { outcome, .. } => answer = Some(outcome),
                    Effect::Trace(trace) => self.traces.push(trace),
                    Effect::Send { .. } | Effect::Stopped => {}
                    Effect::Halt(halt) => panic!("halted: {}", halt.reason),
                }
            }
        }
        answer
    }

    /// Lets time pass up to the node's next deadline, or to `until` if that comes first.
    fn wait(&mut self, until: u64) -> Option<Outcome> {
        let due = self.node.deadline().map_or(until, |Instant(at)| at.min(until));
        self.now = due.max(self.now);
        self.step(Input::Timer)
    }

    fn rest(&mut self, milliseconds: u64) {
        let until = self.now + milliseconds * MILLISECOND;
        while self.now < until {
            assert_eq!(self.wait(until), None, "nobody asked");
        }
    }

    /// Asks, and waits for the answer for a second at the most.
    fn ask(&mut self, request: KvRequest) -> Outcome {
        self.requests += 1;
        let (id, request) = (RequestId(self.requests), Request::Kv(request));
        let until = self.now + 1_000 * MILLISECOND;
        let mut answer = self.step(Input::Request { id, request });
        while answer.is_none() && self.now < until {
            answer = self.wait(until);
        }
        answer.expect("an answer within a second")
    }

    fn put(&mut self, key: u8) -> Outcome {
        let (key, value) = (octets(&[key]), octets(&value(key)));
        self.ask(KvRequest::Put { key, value, expect: Expect::Any })
    }

    /// The value under a key, or why there is none.
    fn get(&mut self, key: u8) -> Result<Vec<u8>, Refusal> {
        match self.ask(KvRequest::Get { key: octets(&[key]) })? {
            Answer::Kv(KvAnswer::Value(Some(entry))) => Ok(entry.value.0.to_vec()),
            other => panic!("key {key} answered {other:?}"),
        }
    }

    fn is_damage_told(&self, at: usize) -> bool {
        self.traces.iter().any(|trace| match trace {
            Trace::Damaged { damage } => damage.file == WAL && damage.offset <= at as u64,
            _ => false,
        })
    }
}

fn octets(bytes: &[u8]) -> Octets {
    Octets(Bytes::copy_from_slice(bytes))
}

#[test]
fn a_damaged_entry_that_only_the_log_has_costs_its_group_alone_and_the_answer_says_why() {
    let mut alone = Alone::filled();
    // For the sync mark; the first checkpoint comes later.
    alone.rest(20);
    let at = alone.flip_and_reboot([500].into_iter());
    assert!(alone.is_damage_told(at), "{:?}", alone.traces);
    let mut refused = Vec::new();
    for key in 0..KEYS {
        match alone.get(key) {
            Ok(found) => {
                assert_eq!(found, value(key));
                assert!(alone.put(key).is_ok());
            }
            Err(Refusal::Unavailable(why)) => {
                let place = format!("{WAL} at byte ");
                assert!(why.contains(&place) && why.contains("no other replica"), "{why}");
                assert_eq!(alone.put(key), Err(Refusal::Unavailable(why)));
                refused.push(key);
            }
            Err(other) => panic!("key {key}: {other:?}"),
        }
    }
    assert!(refused.contains(&VICTIM) && refused.len() < usize::from(KEYS) / 2, "{refused:?}");
    let damaged = alone.node.status().groups.into_iter().filter(|group| group.damaged.is_some());
    assert_eq!(damaged.count(), 1);
}

#[test]
fn a_damaged_entry_that_the_state_has_too_costs_nothing() {
    let mut alone = Alone::filled();
    let checkpoints = config().tuning.checkpoint_every.0 * 2 / MILLISECOND;
    alone.rest(checkpoints);
    let at = alone.flip_and_reboot([500].into_iter());
    assert!(alone.is_damage_told(at), "{:?}", alone.traces);
    for key in 0..KEYS {
        assert_eq!(alone.get(key), Ok(value(key)));
    }
    assert!(alone.node.status().groups.iter().all(|group| group.entries_lost == 0));
}

/// A whole block goes, and with it the names of what it held: nobody can tell which groups had more than the log
/// still shows.
#[test]
fn a_lost_batch_is_never_passed_over_in_silence() {
    let mut alone = Alone::filled();
    alone.rest(20);
    let at = alone.flip_and_reboot((-1_000..3_000).step_by(8));
    assert!(alone.is_damage_told(at), "{:?}", alone.traces);
    let mut refused = Vec::new();
    for key in 0..KEYS {
        match alone.get(key) {
            Ok(found) => assert_eq!(found, value(key)),
            Err(Refusal::Unavailable(why)) => {
                assert!(why.contains("no other replica"), "{why}");
                refused.push(key);
            }
            Err(other) => panic!("key {key}: {other:?}"),
        }
    }
    assert!(refused.contains(&VICTIM), "{refused:?}");
}
