//! The key-value space as one register a key, with versions.
//!
//! Versions are log indexes, so on one key they rise with every write. A write with unknown outcome has
//! an unknown version until somebody reads it.

use super::linearizable::{Interval, Model};
use super::{Violation, explain};
use crate::history::Entry;
use bytes::Bytes;
use ironseed_core::kv::api::{Expect, KvAnswer, KvEntry, KvRequest};
use ironseed_core::object::api::{Answer, Request};
use ironseed_core::types::{Timestamp, Version};
use std::collections::{BTreeMap, BTreeSet};

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key;

/// What a key can be in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    value: Option<Bytes>,
    /// Version of the value; `None` while nobody has seen it.
    version: Option<Version>,
    /// The highest version known to have been given. Later writes have higher ones.
    floor: Version,
}

/// An operation on a key.
#[derive(Clone, Debug)]
pub enum Op {
    /// A read, alone or in a scan.
    Read(Option<(Bytes, Version)>),
    /// A write of a value, or of nothing.
    Write {
        /// What is there after it.
        value: Option<Bytes>,
        /// What it demanded.
        expect: Expect,
        /// What was answered.
        answer: Written,
    },
}

/// What a write was answered.
#[derive(Clone, Copy, Debug)]
pub enum Written {
    /// It was applied.
    At(Version),
    /// It was not: this version was there, 0 for none.
    Conflict(Version),
    /// Nobody knows.
    Unknown,
}

impl State {
    /// The states in which the value has this version: this one, having learned it, or none.
    fn learn(&self, version: Version) -> Option<Self> {
        match self.version {
            Some(known) if known == version => Some(self.clone()),
            None if self.value.is_some() && version > self.floor => {
                Some(Self { version: Some(version), floor: version, ..self.clone() })
            }
            _ => None,
        }
    }

    /// This state, knowing that the expectation holds in it; `None` if it can't.
    fn where_holds(&self, expect: Expect) -> Option<Self> {
        match expect {
            Expect::Any => Some(self.clone()),
            Expect::Absent => self.value.is_none().then(|| self.clone()),
            Expect::Version(version) => self.value.is_some().then(|| self.learn(version))?,
        }
    }
}

impl Model for Key {
    type State = State;
    type Op = Op;

    fn initial(&self) -> State {
        State::default()
    }

    fn apply(&self, state: &State, op: &Op) -> Vec<State> {
        let next = match op {
            Op::Read(None) => state.value.is_none().then(|| state.clone()),
            Op::Read(Some((value, version))) => {
                (state.value.as_ref() == Some(value)).then(|| state.learn(*version)).flatten()
            }
            Op::Write { value, expect, answer: Written::At(version) } => {
                state.where_holds(*expect).filter(|before| *version > before.floor).map(|_| State {
                    value: value.clone(),
                    version: value.is_some().then_some(*version),
                    floor: *version,
                })
            }
            Op::Write { expect, answer: Written::Conflict(found), .. } => {
                let there = if *found == Version(0) {
                    state.value.is_none().then(|| state.clone())
                } else {
                    state.learn(*found)
                };
                there.filter(|there| match expect {
                    Expect::Any => false,
                    Expect::Absent => there.value.is_some(),
                    Expect::Version(wanted) => wanted != found,
                })
            }
            Op::Write { value, expect, answer: Written::Unknown } => state
                .where_holds(*expect)
                .map(|before| State { value: value.clone(), version: None, floor: before.floor }),
        };
        next.into_iter().collect()
    }
}

/// Splits a history by key.
#[must_use]
pub fn split(entries: &[Entry]) -> BTreeMap<Bytes, Vec<Interval<Op>>> {
    let mut keys: BTreeMap<Bytes, Vec<Interval<Op>>> = BTreeMap::new();
    for entry in entries {
        let Request::Kv(request) = &entry.request else { continue };
        let key = match request {
            KvRequest::Get { key } | KvRequest::Put { key, .. } | KvRequest::Delete { key, .. } => {
                key.0.clone()
            }
            KvRequest::Scan { .. } => continue,
        };
        let history = keys.entry(key).or_default();
        if let Some(op) = operation(request, entry) {
            history.push(Interval { called: entry.called, returned: entry.returned, op });
        }
    }
    for entry in entries {
        add_scan(entry, &mut keys);
    }
    keys
}

fn operation(request: &KvRequest, entry: &Entry) -> Option<Op> {
    let answer = match &entry.outcome {
        None => None,
        Some(Ok(Answer::Kv(answer))) => Some(answer),
        // A refusal: nothing was changed and nothing was said.
        Some(_) => return None,
    };
    let (value, expect) = match request {
        KvRequest::Get { .. } => {
            return match answer {
                Some(KvAnswer::Value(found)) => Some(Op::Read(found.as_ref().map(seen))),
                _ => None,
            };
        }
        KvRequest::Put { value, expect, .. } => (Some(value.0.clone()), *expect),
        KvRequest::Delete { expect, .. } => (None, *expect),
        KvRequest::Scan { .. } => return None,
    };
    let answer = match answer {
        None => Written::Unknown,
        Some(KvAnswer::Written { version, .. }) => Written::At(*version),
        Some(KvAnswer::Conflict { version }) => Written::Conflict(*version),
        Some(_) => return None,
    };
    Some(Op::Write { value, expect, answer })
}

fn seen(entry: &KvEntry) -> (Bytes, Version) {
    (entry.value.0.clone(), entry.version)
}

/// A scan reads, at one instant, every key that it returned. It says nothing of keys of other shards, so
/// a key that it left out is a read of nothing only if another scan of the same shard ever showed it.
fn add_scan(entry: &Entry, keys: &mut BTreeMap<Bytes, Vec<Interval<Op>>>) {
    let Some(Ok(Answer::Kv(KvAnswer::Entries { entries, .. }))) = &entry.outcome else { return };
    for found in entries {
        let op = Op::Read(Some(seen(found)));
        let interval = Interval { called: entry.called, returned: entry.returned, op };
        keys.entry(found.key.0.clone()).or_default().push(interval);
    }
}

/// Adds the keys that scans left out. Which shard a key lives in is learned from the scans themselves: no
/// checker computes placement, or it would share the placement's bugs.
pub fn add_absences(entries: &[Entry], keys: &mut BTreeMap<Bytes, Vec<Interval<Op>>>) {
    let mut homes: BTreeMap<Bytes, BTreeSet<u16>> = BTreeMap::new();
    let scans = || {
        entries.iter().filter_map(|entry| match (&entry.request, &entry.outcome) {
            (
                Request::Kv(KvRequest::Scan { shard, from, limit }),
                Some(Ok(Answer::Kv(KvAnswer::Entries { entries, truncated }))),
            ) => Some((entry, *shard, from, *limit, entries, *truncated)),
            _ => None,
        })
    };
    for (_, shard, _, _, found, _) in scans() {
        for found in found {
            homes.entry(found.key.0.clone()).or_default().insert(shard.0);
        }
    }
    for (entry, shard, from, _, found, truncated) in scans() {
        let end = if truncated { found.last().map(|last| &last.key.0) } else { None };
        let shown: BTreeSet<&Bytes> = found.iter().map(|found| &found.key.0).collect();
        let behind = homes.range(from.0.clone()..);
        for (key, home) in behind.take_while(|(key, _)| end.is_none_or(|end| *key <= end)) {
            let is_shown = shown.contains(key);
            if home.contains(&shard.0) && !is_shown && !(truncated && end.is_none()) {
                let op = Op::Read(None);
                let interval = Interval { called: entry.called, returned: entry.returned, op };
                keys.entry(key.clone()).or_default().push(interval);
            }
        }
    }
}

/// What linearizability of each key does not cover: the form of scans, keys in two shards, and commit
/// timestamps that rise with versions.
pub fn check_forms(entries: &[Entry], violations: &mut Vec<Violation>) {
    let mut stamps: BTreeMap<(Bytes, Version), Timestamp> = BTreeMap::new();
    let mut homes: BTreeMap<Bytes, u16> = BTreeMap::new();
    for entry in entries {
        let Request::Kv(request) = &entry.request else { continue };
        let Some(Ok(Answer::Kv(answer))) = &entry.outcome else { continue };
        let mut stamp = |key: &Bytes, version: Version, at: Timestamp| {
            let known = *stamps.entry((key.clone(), version)).or_insert(at);
            (known != at)
                .then(|| format!("{version:?} of {key:?} committed at {known:?} and {at:?}"))
        };
        let wrong = match (request, answer) {
            (
                KvRequest::Put { key, .. } | KvRequest::Delete { key, .. },
                KvAnswer::Written { version, committed },
            ) => stamp(&key.0, *version, *committed),
            (KvRequest::Get { key }, KvAnswer::Value(Some(found))) if found.key != *key => {
                Some(format!("asked for {key:?}, given {:?}", found.key))
            }
            (_, KvAnswer::Value(Some(found))) => {
                stamp(&found.key.0, found.version, found.committed)
            }
            (KvRequest::Scan { shard, from, limit }, KvAnswer::Entries { entries, truncated }) => {
                let rising = entries.windows(2).all(|pair| pair[0].key < pair[1].key);
                let inside = entries.first().is_none_or(|first| first.key >= *from);
                let fits = entries.len() <= *limit as usize;
                let moved = entries
                    .iter()
                    .find(|found| *homes.entry(found.key.0.clone()).or_insert(shard.0) != shard.0);
                let stamped = entries
                    .iter()
                    .find_map(|found| stamp(&found.key.0, found.version, found.committed));
                if !rising || !inside || !fits {
                    Some(format!("malformed page (truncated: {truncated})"))
                } else if let Some(moved) = moved {
                    Some(format!("{:?} is in two shards", moved.key))
                } else {
                    stamped
                }
            }
            _ => None,
        };
        violations.extend(
            wrong.map(|what| {
                Violation::new("kv", entry.called, format!("{what}\n{}", explain(entry)))
            }),
        );
    }
    let stamps: Vec<_> = stamps.iter().collect();
    for pair in stamps.windows(2) {
        let [((key, version), at), ((later_key, later), later_at)] = pair else { continue };
        if key == later_key && at >= later_at {
            let what = format!(
                "{key:?}: {version:?} committed at {at:?}, {later:?} at {later_at:?}: not rising"
            );
            violations.push(Violation::new("kv", 0, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::linearizable::{Verdict, check};
    use super::*;

    fn value(byte: u8) -> Bytes {
        Bytes::from(vec![byte])
    }

    fn put(called: u64, byte: u8, expect: Expect, answer: Written) -> Interval<Op> {
        let returned = (!matches!(answer, Written::Unknown)).then_some(called + 1);
        let op = Op::Write { value: Some(value(byte)), expect, answer };
        Interval { called, returned, op }
    }

    fn read(called: u64, found: Option<(u8, u64)>) -> Interval<Op> {
        let found = found.map(|(byte, version)| (value(byte), Version(version)));
        Interval { called, returned: Some(called + 1), op: Op::Read(found) }
    }

    fn holds(history: &[Interval<Op>]) -> bool {
        check(&Key, history) == Verdict::Linearizable
    }

    #[test]
    fn versions_are_learned_and_then_hold() {
        let unknown = put(0, 1, Expect::Any, Written::Unknown);
        assert!(holds(&[unknown.clone(), read(5, Some((1, 9))), read(8, Some((1, 9)))]));
        assert!(!holds(&[unknown.clone(), read(5, Some((1, 9))), read(8, Some((1, 10)))]));
        let swap =
            |version| put(10, 2, Expect::Version(Version(version)), Written::At(Version(20)));
        assert!(holds(&[unknown.clone(), read(5, Some((1, 9))), swap(9)]));
        assert!(!holds(&[unknown, read(5, Some((1, 9))), swap(8)]));
    }

    #[test]
    fn versions_rise() {
        let first = put(0, 1, Expect::Any, Written::At(Version(7)));
        assert!(!holds(&[first.clone(), put(5, 2, Expect::Any, Written::At(Version(6)))]));
        assert!(holds(&[first, put(5, 2, Expect::Any, Written::At(Version(8)))]));
    }

    #[test]
    fn a_conflict_tells_the_truth() {
        let first = put(0, 1, Expect::Any, Written::At(Version(7)));
        let conflict =
            |found| put(5, 2, Expect::Version(Version(3)), Written::Conflict(Version(found)));
        assert!(holds(&[first.clone(), conflict(7), read(9, Some((1, 7)))]));
        assert!(!holds(&[first.clone(), conflict(8)]));
        assert!(!holds(&[first.clone(), conflict(0)]));
        assert!(!holds(&[first, put(5, 2, Expect::Any, Written::Conflict(Version(7)))]));
        assert!(!holds(&[put(5, 2, Expect::Absent, Written::Conflict(Version(0)))]));
    }

    #[test]
    fn a_delete_leaves_nothing_and_the_next_version_is_still_higher() {
        let delete = Interval {
            called: 4,
            returned: Some(5),
            op: Op::Write { value: None, expect: Expect::Any, answer: Written::At(Version(8)) },
        };
        let first = put(0, 1, Expect::Any, Written::At(Version(7)));
        let again = |version| put(8, 3, Expect::Absent, Written::At(Version(version)));
        assert!(holds(&[first.clone(), delete.clone(), read(6, None), again(9)]));
        assert!(!holds(&[first.clone(), delete.clone(), again(8)]));
        assert!(!holds(&[first, delete, read(6, Some((1, 7)))]));
    }
}
