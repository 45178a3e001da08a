//! The world around a toy store: one node, one file, every write synced before it is answered. What the
//! world does to it must not be seen by its clients, and what the toy does wrong must be.

use super::*;
use crate::choices::Step;
use crate::faults::Class;
use crate::run::{Order, Report, run_machine};
use crate::setup::Overrides;
use crate::shrink::{self, Outcome, Shrink};
use ironseed_core::codec::{Octets, decode, encode};
use ironseed_core::kv::api::{Expect, KvAnswer, KvEntry, KvRequest};
use ironseed_core::machine::{FileId, FileKind, Halt};
use ironseed_core::object::api::{Answer, Request};
use ironseed_core::types::{Timestamp, Version};
use std::collections::VecDeque;
use std::sync::Arc;

const LOG: FileId = FileId::new(FileKind::Superblock, 0);
const SLOT_BYTES: u64 = 64 << 10;

/// What the toy does wrong.
const NOTHING: u8 = 0;
const ANSWERS_BEFORE_SYNC: u8 = 1;
const FORGETS_DIRECTORY_SYNC: u8 = 2;
const PANICS: u8 = 3;
const NEVER_ANSWERS: u8 = 4;
const TOO_MUCH: u8 = 5;

/// A key-value store on one node: records of a fixed size, one write at a time.
struct Toy<const WRONG: u8> {
    ops: u64,
    slots: u64,
    keys: BTreeMap<Bytes, KvEntry>,
    waiting: VecDeque<(RequestId, KvRequest)>,
    stage: Stage,
    current: Option<(RequestId, Bytes, Option<KvEntry>, KvAnswer)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Creating,
    SyncingName,
    Reading,
    Idle,
    Writing,
    Syncing,
}

/// One record of the file: number, key, value or nothing, version.
type Record = (u64, Octets, Option<Octets>);

impl<const WRONG: u8> Toy<WRONG> {
    fn io(&mut self, io: Io, effects: &mut Vec<Effect>) {
        self.ops += 1;
        effects.push(Effect::Io(IoOp { op: OpId(self.ops), io }));
    }

    fn advance(&mut self, effects: &mut Vec<Effect>) {
        while self.stage == Stage::Idle {
            let Some((id, request)) = self.waiting.pop_front() else { return };
            let version = Version(self.slots + 1);
            let (key, value, expect) = match request {
                KvRequest::Get { key } => {
                    let found = self.keys.get(&key.0).cloned();
                    self.answer(id, KvAnswer::Value(found), effects);
                    continue;
                }
                KvRequest::Scan { from, limit, .. } => {
                    let found = self.keys.range(from.0..).map(|(_, entry)| entry.clone());
                    let mut entries: Vec<KvEntry> = found.collect();
                    let truncated = entries.len() > limit as usize;
                    entries.truncate(limit as usize);
                    self.answer(id, KvAnswer::Entries { entries, truncated }, effects);
                    continue;
                }
                KvRequest::Put { key, value, expect } => (key, Some(value), expect),
                KvRequest::Delete { key, expect } => (key, None, expect),
            };
            let there = self.keys.get(&key.0).map_or(Version(0), |entry| entry.version);
            let holds = match expect {
                Expect::Any => true,
                Expect::Absent => there == Version(0),
                Expect::Version(wanted) => wanted == there,
            };
            if !holds {
                self.answer(id, KvAnswer::Conflict { version: there }, effects);
                continue;
            }
            let committed = Timestamp(version.0);
            let record: Record = (version.0, key.clone(), value.clone());
            let bytes = encode(&record);
            let mut data = (bytes.len() as u32).to_le_bytes().to_vec();
            data.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
            data.extend_from_slice(&bytes);
            let entry = value.map(|value| KvEntry { key: key.clone(), value, version, committed });
            let answer = KvAnswer::Written { version, committed };
            self.current = Some((id, key.0, entry, answer));
            self.stage = Stage::Writing;
            let offset = self.slots * SLOT_BYTES;
            self.io(Io::Write { file: LOG, offset, data: vec![data.into()] }, effects);
        }
    }

    fn answer(&self, id: RequestId, answer: KvAnswer, effects: &mut Vec<Effect>) {
        if WRONG != NEVER_ANSWERS {
            effects.push(Effect::Reply { id, outcome: Ok(Answer::Kv(answer)) });
        }
    }

    fn finish(&mut self, effects: &mut Vec<Effect>) {
        let Some((id, key, entry, answer)) = self.current.take() else { return };
        match entry {
            Some(entry) => drop(self.keys.insert(key, entry)),
            None => drop(self.keys.remove(&key)),
        }
        self.slots += 1;
        self.answer(id, answer, effects);
    }

    fn recover(&mut self, bytes: &[u8]) {
        for slot in bytes.chunks(SLOT_BYTES as usize) {
            let number = |at: usize| {
                slot.get(at..at + 4).map(|four| u32::from_le_bytes(four.try_into().expect("four")))
            };
            let (Some(len), Some(crc)) = (number(0), number(4)) else { return };
            let Some(bytes) = slot.get(8..8 + len as usize) else { return };
            if len == 0 || crc32fast::hash(bytes) != crc {
                return;
            }
            let Ok((version, key, value)) = decode::<Record>(bytes) else { return };
            if version != self.slots + 1 {
                return;
            }
            self.slots = version;
            let (version, committed) = (Version(version), Timestamp(version));
            match value {
                Some(value) => {
                    let entry = KvEntry { key: key.clone(), value, version, committed };
                    self.keys.insert(key.0, entry);
                }
                None => drop(self.keys.remove(&key.0)),
            }
        }
    }
}

impl<const WRONG: u8> Machine for Toy<WRONG> {
    fn new(_config: Config) -> Self {
        Self {
            ops: 0,
            slots: 0,
            keys: BTreeMap::new(),
            waiting: VecDeque::new(),
            stage: Stage::Creating,
            current: None,
        }
    }

    fn step(&mut self, _now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Boot { files, .. } => match files.iter().find(|found| found.file == LOG) {
                Some(found) => {
                    self.stage = Stage::Reading;
                    let len = found.bytes as u32;
                    self.io(Io::Read { file: LOG, offset: 0, len }, effects);
                }
                None => self.io(Io::Create { file: LOG, bytes: 0 }, effects),
            },
            Input::Request { id, request: Request::Kv(request) } => {
                assert!(WRONG != PANICS || self.slots < 20, "twenty slots are enough");
                if WRONG == TOO_MUCH {
                    for _ in 0..5000 {
                        self.io(Io::SyncDir, effects);
                    }
                }
                self.waiting.push_back((id, request));
                self.advance(effects);
            }
            Input::Request { id, .. } => {
                let none = Answer::Buckets { buckets: Vec::new(), truncated: false };
                effects.push(Effect::Reply { id, outcome: Ok(none) });
            }
            Input::Done { result: Err(error), .. } => {
                let reason = format!("{error:?}");
                effects.push(Effect::Halt(Halt { reason }));
            }
            Input::Done { result: Ok(done), op } if op.0 == self.ops => {
                match (self.stage, done) {
                    (Stage::Creating, _) if WRONG == FORGETS_DIRECTORY_SYNC => {
                        self.stage = Stage::Idle;
                    }
                    (Stage::Creating, _) => {
                        self.stage = Stage::SyncingName;
                        self.io(Io::SyncDir, effects);
                    }
                    (Stage::Reading, IoDone::Data(bytes)) => {
                        self.recover(&bytes);
                        // What was read may be in the page cache only, as may the name.
                        self.stage = Stage::Syncing;
                        self.io(Io::Sync { file: LOG }, effects);
                    }
                    (Stage::Writing, _) => {
                        if WRONG == ANSWERS_BEFORE_SYNC {
                            self.finish(effects);
                        }
                        self.stage = Stage::Syncing;
                        self.io(Io::Sync { file: LOG }, effects);
                    }
                    (Stage::Syncing, _) if self.current.is_none() && self.ops == 2 => {
                        self.stage = Stage::SyncingName;
                        self.io(Io::SyncDir, effects);
                    }
                    (Stage::SyncingName, _) => self.stage = Stage::Idle,
                    (Stage::Syncing, _) => {
                        self.finish(effects);
                        self.stage = Stage::Idle;
                    }
                    (stage, done) => panic!("{done:?} while {stage:?}"),
                }
                self.advance(effects);
            }
            Input::Stop => effects.push(Effect::Stopped),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

fn order(seed: u64, faults: &[Class]) -> Order {
    let overrides = Overrides {
        nodes: Some(1),
        shards: Some(1),
        workload: Some("kv".into()),
        operations: Some(100),
        millis: Some(3_000),
        faults: Some(faults.to_vec()),
        ..Overrides::default()
    };
    Order { overrides, ..Order::new(seed) }
}

const DISASTERS: &[Class] = &[
    Class::PowerLoss,
    Class::Kill,
    Class::Stop,
    Class::Pause,
    Class::SyncError,
    Class::WriteError,
    Class::DiskSlow,
    Class::ClockStep,
];

/// Reports of some seeds; runs under a lax fsync policy are no test of a machine that knows none.
fn reports<const WRONG: u8>(faults: &[Class]) -> Vec<Report> {
    (0..40).map(|seed| run_machine::<Toy<WRONG>>(&order(seed, faults), None)).collect()
}

fn caught<const WRONG: u8>(faults: &[Class]) -> Vec<&'static str> {
    let reports = reports::<WRONG>(faults);
    reports.into_iter().filter_map(|report| report.violation).map(|seen| seen.checker).collect()
}

#[test]
fn a_store_that_is_right_survives_every_disaster() {
    let mut stats = Stats::default();
    for (seed, report) in reports::<NOTHING>(DISASTERS).into_iter().enumerate() {
        assert_eq!(report.violation, None, "seed {seed}");
        stats.add(&report.stats);
    }
    assert_eq!(stats.searches_given_up, 0);
    for fault in ["power-loss", "kill", "stop", "pause", "sync-error", "write-error"] {
        assert!(stats.faults.get(fault) > Some(&10), "{fault}: {:?}", stats.faults);
    }
    assert!(stats.rare.get("restart") > Some(&100), "{:?}", stats.rare);
    assert!(stats.workload.get("kv-put") > Some(&300), "{:?}", stats.workload);
}

#[test]
fn an_answer_before_its_sync_is_caught_by_a_power_loss_and_only_by_one() {
    let seen = caught::<ANSWERS_BEFORE_SYNC>(&[Class::PowerLoss]);
    assert!(seen.len() > 2 && seen.iter().all(|seen| *seen == "linearizable"), "{seen:?}");
    assert_eq!(caught::<ANSWERS_BEFORE_SYNC>(&[Class::Kill]), [""; 0], "the page cache survives");
}

#[test]
fn a_forgotten_directory_sync_is_caught() {
    assert!(caught::<FORGETS_DIRECTORY_SYNC>(&[Class::PowerLoss]).len() > 3);
}

#[test]
fn a_panic_is_a_violation_with_its_place() {
    let report = run_machine::<Toy<PANICS>>(&order(3, &[]), None);
    let violation = report.violation.expect("it panics");
    assert_eq!(violation.checker, "assertion");
    assert!(violation.what.contains("twenty slots are enough"), "{violation}");
    assert!(violation.what.contains("tests.rs"), "{violation}");
}

#[test]
fn silence_is_a_violation_of_liveness_and_too_much_work_is_one_too() {
    let report = run_machine::<Toy<NEVER_ANSWERS>>(&order(3, &[]), None);
    assert_eq!(report.violation.expect("nothing is ever answered").checker, "liveness");
    let report = run_machine::<Toy<TOO_MUCH>>(&order(3, &[]), None);
    assert_eq!(report.violation.expect("five thousand effects").checker, "work");
}

#[test]
fn a_seed_is_a_run_and_a_replay_tells_it() {
    let hash = |seed| run_machine::<Toy<NOTHING>>(&order(seed, DISASTERS), None).history_hash;
    assert_eq!(hash(5), hash(5));
    assert_ne!(hash(5), hash(6));
    let lines = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let sink = {
        let lines = lines.clone();
        Box::new(move |line: &str| lines.borrow_mut().push(line.to_string()))
    };
    let told = run_machine::<Toy<NOTHING>>(&order(5, DISASTERS), Some(sink));
    assert_eq!(told.history_hash, hash(5), "looking changes nothing");
    assert_eq!(lines.borrow().len() as u64, told.stats.events);
    assert!(lines.borrow().iter().any(|line| line.contains("loses power")));
}

#[test]
fn a_run_stops_where_it_is_told() {
    let order = Order { until: Some(350_000_000), ..order(5, &[]) };
    let report = run_machine::<Toy<NOTHING>>(&order, None);
    assert_eq!((report.violation, report.stats.sim_nanos), (None, 350_000_000));
}

/// Shrinks the first run of these that fails.
fn shrunk<const WRONG: u8>(faults: &[Class], jobs: usize) -> Outcome {
    let fails = |order: &Order| run_machine::<Toy<WRONG>>(order, None).violation.is_some();
    let order = (0..40).map(|seed| order(seed, faults)).find(fails).expect("some run fails");
    let shrink =
        Shrink { run: |order| run_machine::<Toy<WRONG>>(order, None), ..Shrink::new(order) };
    let pulses: Vec<_> = (0..jobs).map(|_| Arc::default()).collect();
    shrink::shrink(&shrink, &pulses, |_| {}).expect("it fails")
}

#[test]
fn a_store_that_answers_too_early_shrinks_to_a_write_and_a_power_loss() {
    let Outcome { before, after, case, finished, .. } =
        shrunk::<ANSWERS_BEFORE_SYNC>(&[Class::PowerLoss, Class::Pause, Class::ClockStep], 1);
    assert!(finished && before.operations > 20 && before.faults > 3, "{before:?}");
    assert!(after.operations <= 2 && after.faults == 1, "{after:?}: {:?}", case.overrides);
    assert_eq!(case.violation.checker, "linearizable");
    let plan = case.overrides.plan.expect("a plan");
    assert_eq!(plan[0].fault.name(), "power-loss");
    assert!(case.overrides.calm.len() > 5, "{:?}", case.overrides.calm);
}

#[test]
fn shrinking_keeps_what_matters_and_threads_change_nothing() {
    let one = shrunk::<PANICS>(DISASTERS, 1);
    assert!(one.case.violation.what.contains("twenty slots are enough"));
    // Twenty writes and the request that panics, some of them the proof's, and nothing else is needed.
    assert!(one.after.operations <= 21, "{:?}", one.case.overrides);
    assert_eq!((one.after.faults, one.after.nodes), (0, 1));
    assert!(one.before.operations > 30, "{:?}", one.before);
    let two = shrunk::<PANICS>(DISASTERS, 2);
    assert_eq!(one.case.overrides, two.case.overrides);
    assert_eq!(one.case.report.history_hash, two.case.report.history_hash);
}

#[test]
fn a_run_that_does_not_fail_does_not_shrink() {
    let run = |order: &Order| run_machine::<Toy<NOTHING>>(order, None);
    let shrink = Shrink { run, ..Shrink::new(order(5, DISASTERS)) };
    assert!(
        shrink::shrink(&shrink, &[Arc::default()], |_| unreachable!("no smaller run")).is_none()
    );
}

/// The same run with all that it drew given as lists.
fn spelled(of: &Order, report: &Report) -> Order {
    let mut spelled = Order { telling: true, ..of.clone() };
    spelled.overrides.plan = Some(report.choices.plan.clone());
    spelled.overrides.script = Some(report.choices.script.clone());
    spelled.overrides.heals = report.choices.healed;
    spelled
}

#[test]
fn the_choices_of_a_run_make_the_same_run() {
    let mut compared = 0;
    for seed in 0..20 {
        let drawn = order(seed, DISASTERS);
        let report = run_machine::<Toy<NOTHING>>(&drawn, None);
        let begun: BTreeSet<u32> = report.choices.script.iter().map(|step| step.client).collect();
        // A client that began nothing is not in the list, and does not take part in the proof.
        if begun.len() as u32 == Setup::draw(seed, &drawn.overrides).mix.clients {
            let again = run_machine::<Toy<NOTHING>>(&spelled(&drawn, &report), None);
            assert_eq!(report.history_hash, again.history_hash, "seed {seed}");
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared} runs to compare");
}

#[test]
fn an_operation_that_is_left_out_leaves_the_others_as_they_were() {
    let drawn = Order { telling: true, ..order(5, &[]) };
    let report = run_machine::<Toy<NOTHING>>(&drawn, None);
    let all = report.choices.script.clone();
    let mut fewer = spelled(&drawn, &report);
    let left_out = all.len() / 3;
    fewer.overrides.script.as_mut().expect("a list").remove(left_out);
    let kept = run_machine::<Toy<NOTHING>>(&fewer, None).choices.script;
    let mut expected = all;
    expected.remove(left_out);
    // What a swap expects to find may change with what was written; nothing else does.
    let name = |step: &Step| {
        let what = step.what.split(", ").take(2).collect::<Vec<_>>().join(", ");
        (step.client, step.number, what)
    };
    let sorted = |script: &[Step]| {
        let mut names: Vec<_> = script.iter().map(name).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&kept), sorted(&expected));
    let on_time = kept.iter().filter(|step| {
        expected.iter().any(|other| {
            (other.client, other.number, other.at) == (step.client, step.number, step.at)
        })
    });
    assert!(on_time.count() * 10 > expected.len() * 9, "few begin when they did");
}
