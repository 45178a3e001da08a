use crate::by_hand::{Alone, MILLISECOND};
use bytes::Bytes;
use ironseed_core::codec::Octets;
use ironseed_core::kv::api::{Expect, KvAnswer, KvRequest};
use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::node::api::{Config, Engine, FsyncPolicy, Tuning};
use ironseed_core::node::status::Phase;
use ironseed_core::node::trace::Trace;
use ironseed_core::object::api::{Answer, Outcome, Refusal, Request};
use ironseed_core::planted::Planted;
use ironseed_core::types::NodeId;

const KEYS: u8 = 16;
const VICTIM: u8 = 5;
const WAL: FileId = FileId::new(FileKind::Wal, 1);

fn config() -> Config {
    Config {
        me: NodeId(1),
        nodes: vec![NodeId(1)],
        shards: 8,
        replication: 1,
        lanes: 1,
        fsync: FsyncPolicy::Always,
        engine: Engine::Native,
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
        let mut alone = Self::found(config(), "access", "secret");
        for key in 0..KEYS {
            let written = alone.put(key);
            assert!(matches!(written, Ok(Answer::Kv(KvAnswer::Written { .. }))), "{written:?}");
        }
        alone
    }

    /// The node is killed, a bit flips at every `flips` within the victim's value, counted from its start as
    /// the log has it, and the node boots. Returns where the value is.
    fn flip_and_reboot(&mut self, flips: impl Iterator<Item = i64>) -> usize {
        let mut at = 0;
        self.reboot(|disk| {
            let log = disk.read_durable(WAL, 0, 1 << 20).expect("the log has a name");
            let value = value(VICTIM);
            let place = log.windows(value.len()).position(|window| window == value);
            at = place.expect("the log has the value");
            for flip in flips {
                assert!(disk.flip(WAL, at.strict_add_signed(flip as isize) as u64, 3));
            }
        });
        assert_eq!(self.phase(), Phase::Serving, "{:?}", self.halted());
        at
    }

    /// Asks. No answer takes longer than a second.
    fn kv(&mut self, request: KvRequest) -> Outcome {
        let began = self.now;
        let outcome = self.ask(Request::Kv(request));
        assert_eq!(self.halted(), None);
        assert!(self.now - began <= 1_000 * MILLISECOND, "answered after {}", self.now - began);
        outcome
    }

    fn put(&mut self, key: u8) -> Outcome {
        let (key, value) = (octets(&[key]), octets(&value(key)));
        self.kv(KvRequest::Put { key, value, expect: Expect::Any })
    }

    /// The value under a key, or why there is none.
    fn get(&mut self, key: u8) -> Result<Vec<u8>, Refusal> {
        match self.kv(KvRequest::Get { key: octets(&[key]) })? {
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

/// The log is new, and the superblock does not know of it yet: were both lost now, the next boot would take the node for one that
/// never promised anything.
#[test]
fn nothing_counts_before_the_superblock_says_that_there_is_a_log() {
    let mut alone = Alone::found_on(true, config(), "access", "secret");
    let kept = |mut alone: Alone| {
        let (key, value) = (octets(&[VICTIM]), octets(&value(VICTIM)));
        let put = KvRequest::Put { key: key.clone(), value, expect: Expect::Any };
        let put = alone.ask(Request::Kv(put));
        alone.reboot(|disk| disk.lose(|file| file.kind == FileKind::Wal));
        alone.parks = false;
        (put, alone.ask(Request::Kv(KvRequest::Get { key })))
    };
    let (put, got) = kept(alone.clone());
    assert!(matches!(put, Err(Refusal::Unavailable(_) | Refusal::OutcomeUnknown)), "{put:?}");
    assert_eq!(got, Ok(Answer::Kv(KvAnswer::Value(None))), "as new");
    alone.parks = false;
    let (put, got) = kept(alone);
    assert!(matches!(put, Ok(Answer::Kv(KvAnswer::Written { .. }))), "{put:?}");
    assert!(matches!(got, Err(Refusal::Unavailable(_))), "{got:?}");
}
