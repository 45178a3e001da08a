//! What commands do, and what becomes of those that can't be carried out.

use super::world::{at, seat};
use crate::codec::Octets;
use crate::kv::api::{Expect, KV_KEY_BYTES_MAX, KV_VALUE_BYTES_MAX, KvAnswer};
use crate::kv::command::{
    COMMAND_BYTES_MAX, Command, KvWrite, MEANING_FIRST, MEANING_LATEST, Op, SessionId, SessionTag,
    TooLong, Unreadable,
};
use crate::kv::frame::Place;
use crate::kv::state::{Event, State};
use crate::kv::write::HEAD_VALUE_BYTES_MAX;
use crate::kv::{query, space};
use crate::object::api::{Answer, Outcome, Refusal};
use crate::rng::Rng;
use crate::types::{Incarnation, NodeId, Timestamp, Version};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

fn command(op: Op) -> Command {
    Command { meaning: MEANING_FIRST, wall: 1_000, session: None, op }
}

fn put(key: &[u8], value: &[u8], expect: Expect) -> Op {
    Op::Kv(KvWrite::Put { key: key.to_vec().into(), value: value.to_vec().into(), expect })
}

fn delete(key: &[u8], expect: Expect) -> Op {
    Op::Kv(KvWrite::Delete { key: key.to_vec().into(), expect })
}

/// Applies a command as the next entry.
fn apply(state: &mut State, command: Command) -> Outcome {
    let next = state.mark().position.index.next();
    state.apply(at(next.0), &command.encode().unwrap()).outcome
}

fn apply_op(state: &mut State, op: Op) -> KvAnswer {
    match apply(state, command(op)) {
        Ok(Answer::Kv(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

fn value(state: &State, key: &[u8]) -> Option<(Vec<u8>, Version)> {
    let entry = query::get(state.table(), key)?.finish(None).unwrap();
    Some((entry.value.to_vec(), entry.version))
}

#[test]
fn writes_compare_versions_and_swap() {
    let mut rng = Rng::new(4);
    let mut state = State::new(seat());
    let mut model = BTreeMap::<Vec<u8>, (Vec<u8>, Version)>::new();
    let mut conflicts = 0;
    for index in 1..2_000 {
        let key = format!("k{}", rng.below(9)).into_bytes();
        let there = model.get(&key).map_or(Version(0), |(_, version)| *version);
        let expect = match rng.below(4) {
            0 => Expect::Absent,
            1 => Expect::Version(there),
            2 => Expect::Version(Version(rng.below(index))),
            _ => Expect::Any,
        };
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => !model.contains_key(&key),
            Expect::Version(version) => there == version,
        };
        let bytes = vec![7; rng.below(2 * HEAD_VALUE_BYTES_MAX as u64) as usize];
        let deletes = rng.chance(1, 3);
        let op = if deletes { delete(&key, expect) } else { put(&key, &bytes, expect) };
        let answer = apply_op(&mut state, op);
        if !holds {
            assert_eq!(answer, KvAnswer::Conflict { version: there });
            conflicts += 1;
            continue;
        }
        let committed = state.mark().committed;
        assert_eq!(answer, KvAnswer::Written { version: Version(index), committed });
        if deletes {
            model.remove(&key);
        } else {
            model.insert(key.clone(), (bytes, Version(index)));
        }
        assert_eq!(value(&state, &key).as_ref(), model.get(&key));
    }
    assert!(conflicts > 300, "{conflicts}");
    for (key, expected) in &model {
        assert_eq!(value(&state, key).as_ref(), Some(expected));
    }
}

#[test]
fn limits_are_checked_at_apply() {
    let mut state = State::new(seat());
    let (long_key, long_value) = (vec![1; KV_KEY_BYTES_MAX + 1], vec![1; KV_VALUE_BYTES_MAX + 1]);
    for op in [
        put(b"", b"x", Expect::Any),
        put(&long_key, b"x", Expect::Any),
        put(b"k", &long_value, Expect::Any),
        delete(b"", Expect::Any),
        delete(&long_key, Expect::Any),
    ] {
        assert!(matches!(apply_op(&mut state, op), KvAnswer::Invalid(_)));
    }
    assert!(state.table().is_empty());
    let largest = put(&long_key[1..], &long_value[1..], Expect::Any);
    assert!(matches!(apply_op(&mut state, largest), KvAnswer::Written { .. }));
}

#[test]
fn timestamps_follow_the_wall_but_always_rise() {
    let mut state = State::new(seat());
    for (wall, expected) in [(50, 50), (60, 60), (60, 61), (10, 62), (1_000, 1_000), (0, 1_001)] {
        assert_eq!(state.next_commit(wall), Timestamp(expected));
        let outcome = apply(&mut state, Command { wall, ..command(put(b"k", b"v", Expect::Any)) });
        let Ok(Answer::Kv(KvAnswer::Written { committed, .. })) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(committed, Timestamp(expected));
    }
}

#[test]
fn scans_page_through_keys_in_order() {
    let mut state = State::new(seat());
    let mut rng = Rng::new(8);
    let mut model = BTreeMap::new();
    for _ in 0..300 {
        let key = vec![rng.below(4) as u8; rng.between(1, 90) as usize];
        let bytes = vec![1; rng.below(100) as usize];
        apply_op(&mut state, put(&key, &bytes, Expect::Any));
        model.insert(key, bytes);
    }
    for limit in [1, 7, 64, 1_000, u32::MAX] {
        let mut found = Vec::new();
        let mut from = Vec::new();
        loop {
            let page = query::scan(state.table(), &from, limit);
            assert!(page.entries.len() <= limit as usize);
            let last = page.entries.last().unwrap().key.to_vec();
            found.extend(page.entries.into_iter().map(|entry| {
                let entry = entry.finish(None).unwrap();
                (entry.key.to_vec(), entry.value.to_vec())
            }));
            if !page.truncated {
                break;
            }
            from = [&last[..], &[0]].concat();
        }
        assert!(found.into_iter().eq(model.clone()), "pages of {limit}");
    }
    let none = query::scan(state.table(), &[], 0);
    assert!(none.entries.is_empty() && !none.truncated);
    assert!(query::scan(state.table(), &[9], 10).entries.is_empty());
}

#[test]
fn a_page_of_long_values_is_short() {
    let mut state = State::new(seat());
    for key in 0..20_u8 {
        apply_op(&mut state, put(&[key], &vec![key; KV_VALUE_BYTES_MAX], Expect::Any));
    }
    let page = query::scan(state.table(), &[], 1_000);
    assert_eq!((page.entries.len(), page.truncated), (3, true));
}

#[test]
fn a_command_survives_its_encoding_and_nothing_else_passes() {
    let session = SessionId { node: NodeId(2), incarnation: Incarnation(5) };
    let tag = SessionTag { session, seq: 9, first_incomplete: 4 };
    let whole = Command { session: Some(tag), ..command(put(b"key", b"value", Expect::Absent)) };
    let bytes = whole.clone().encode().unwrap();
    assert_eq!(Command::decode(&bytes, MEANING_FIRST), Ok(whole));
    for cut in 0..bytes.len() {
        assert_eq!(Command::decode(&bytes[..cut], MEANING_FIRST), Err(Unreadable::Malformed));
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Command::decode(&longer, MEANING_FIRST), Err(Unreadable::Malformed));
    let huge = Command { ..command(put(b"key", &vec![0; COMMAND_BYTES_MAX], Expect::Any)) };
    assert!(matches!(huge.encode(), Err(TooLong { bytes }) if bytes > COMMAND_BYTES_MAX));
    // Hostile lengths are refused before anything is allocated.
    let mut hostile = bytes.to_vec();
    hostile.truncate(3);
    hostile.extend([0xfd; 40]);
    assert_eq!(Command::decode(&hostile, MEANING_FIRST), Err(Unreadable::Malformed));
}

#[test]
fn what_cannot_be_read_is_refused_and_still_applied() {
    let mut state = State::new(seat());
    let malformed = state.apply(at(1), &[1, 0, 0xff]);
    assert!(matches!(malformed.outcome, Err(Refusal::Invalid(_))));
    let later = Command { meaning: 2, ..command(put(b"k", b"v", Expect::Any)) };
    assert!(matches!(apply(&mut state, later), Err(Refusal::Unavailable(_))));
    assert!(matches!(state.apply(at(3), &[]).outcome, Err(Refusal::Invalid(_))));
    state.advance(at(4));
    assert_eq!(state.mark().position, at(4));
    assert!(state.table().is_empty() && state.take_frame().is_none());
    assert_eq!(state.take_checkpoint().map(|frame| frame.mark), Some(state.mark()));
    assert!(state.take_checkpoint().is_none());
}

#[test]
fn a_meaning_is_activated_by_the_log() {
    let mut state = State::new(seat());
    let activate = |meaning| command(Op::Activate { meaning });
    assert_eq!(apply(&mut state, activate(MEANING_FIRST)), Ok(Answer::Done));
    assert!(state.table().is_empty(), "it is active already");
    let beyond = MEANING_LATEST + 1;
    let applied = state.apply(at(2), &activate(beyond).encode().unwrap());
    assert_eq!(applied.events, [Event::Stranded { meaning: beyond }]);
    assert_eq!((state.meaning(), state.stranded()), (beyond, Some(beyond)));
}

#[test]
#[should_panic(expected = "applies 3@1 after 1@1")]
fn entries_are_applied_without_gaps() {
    let mut state = State::new(seat());
    state.advance(at(1));
    state.advance(at(3));
}

#[test]
fn a_repeated_command_changes_nothing_and_gets_its_answer() {
    let mut state = State::new(seat());
    let session = SessionId { node: NodeId(2), incarnation: Incarnation(5) };
    let tag = SessionTag { session, seq: 1, first_incomplete: 1 };
    let insert = Command { session: Some(tag), ..command(put(b"k", b"v", Expect::Absent)) };
    let unknown = Err(Refusal::OutcomeUnknown);
    assert_eq!(apply(&mut state, insert.clone()), unknown, "the session is not open");
    assert_eq!(apply(&mut state, command(Op::OpenSession { session })), Ok(Answer::Done));
    let first = apply(&mut state, insert.clone());
    assert!(matches!(first, Ok(Answer::Kv(KvAnswer::Written { version: Version(3), .. }))));
    apply_op(&mut state, delete(b"k", Expect::Any));
    let digest = state.table().digest();
    assert_eq!(apply(&mut state, insert.clone()), first, "not carried out again");
    assert_eq!(state.table().digest(), digest);
    let sessions = vec![session];
    assert_eq!(apply(&mut state, command(Op::ExpireSessions { sessions })), Ok(Answer::Done));
    assert_eq!(apply(&mut state, insert), unknown);
    let too_many = command(Op::ExpireSessions { sessions: vec![session; 9] });
    assert!(matches!(apply(&mut state, too_many), Err(Refusal::Invalid(_))));
    assert_eq!(value(&state, b"k"), None);
}

#[test]
fn octets_take_their_bytes_along() {
    let value = Octets::from(vec![1; 100]);
    let mut state = State::new(seat());
    apply_op(&mut state, Op::Kv(KvWrite::Put { key: value.clone(), value, expect: Expect::Any }));
    let frame = state.take_frame().unwrap();
    assert_eq!(frame.payload.len(), 2, "the head, and the body as a handle");
    assert_eq!(frame.payload[1].len(), 100);
}

#[test]
fn a_new_head_leaves_its_body_where_it_is_and_an_empty_body_holds_nothing() {
    let mut state = State::new(seat());
    let (with, without) = (space::kv(b"with"), space::kv(b"without"));
    state.apply_edit(at(1), |batch| {
        batch.put(&with, vec![1], vec![7; 30].into());
        batch.put(&without, vec![1], Bytes::new());
        batch.put_head(&space::kv(b"none"), vec![1]);
    });
    let frame = state.take_frame().unwrap();
    state.settle(&frame.placed, Place { segment: 1, offset: 0 });
    assert_eq!((state.table().len(), state.table().live(1).records), (2, 2));
    state.apply_edit(at(2), |batch| {
        batch.put_head(&with, vec![2]);
        batch.put_head(&without, vec![2]);
    });
    let frame = state.take_frame().unwrap();
    assert_eq!(frame.payload.len(), 1, "no body is written again");
    state.settle(&frame.placed, Place { segment: 2, offset: 0 });
    let live = [1, 2].map(|segment| state.table().live(segment).records);
    assert_eq!(live, [1, 1]);
    let slot = state.table().get(&with).unwrap();
    assert_eq!((slot.version, &*slot.head), (Version(2), &[2][..]));
    assert_eq!(slot.body.bytes().unwrap_err().segment, 1);
}
