//! Crashes, cleaning and snapshots change nothing; damage is seen.

use super::world::{Counts, Entry, Replica, TableLog, at, entry, seat};
use crate::kv::frame::{self, FrameError, Place};
use crate::kv::index::IndexLoading;
use crate::kv::replay::Replay;
use crate::kv::space;
use crate::kv::state::State;
use crate::rng::Rng;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

/// Two replicas apply one log, each at its own pace and with its own mishaps. Whenever one of them has
/// applied up to an index, it has the state hash that every other has had there.
fn run(seed: u64, entries: usize) -> Counts {
    let mut rng = Rng::new(seed);
    let log: Vec<Entry> = (0..entries).map(|_| entry(&mut rng)).collect();
    let mut hashes = [State::new(seat()).state_hash()].to_vec();
    let mut replicas = [Replica::new(), Replica::new()];
    let mut counts = Counts::default();
    let applied = |replica: &Replica| replica.state.mark().position.index.0 as usize;
    while replicas.iter().any(|replica| applied(replica) < entries) {
        let me = rng.below(2) as usize;
        let (first, second) = replicas.split_at_mut(1);
        let (mine, other) =
            if me == 0 { (&mut first[0], &second[0]) } else { (&mut second[0], &first[0]) };
        match rng.below(60) {
            0 => {
                mine.crash(&mut rng, &mut counts).unwrap();
                assert_eq!(mine.state.state_hash(), hashes[applied(mine)], "seed {seed}: replay");
            }
            1..4 => mine.sync(),
            4..8 => mine.clean(&mut counts),
            8 => {
                let frame = mine.state.take_checkpoint();
                mine.append(frame);
            }
            9 => {
                (0..rng.below(5)).for_each(|_| mine.log.append_of_others(rng.below(5_000) as usize))
            }
            10..13 => mine.complete(rng.below(4) as usize),
            13 => mine.begin_index(),
            14..16 => mine.end_index(&mut rng, &mut counts),
            _ if mine.is_importing()
                || (applied(other) > applied(mine) + 30 && rng.chance(1, 4)) =>
            {
                mine.import(other, &mut rng, &mut counts);
            }
            _ => {
                let index = applied(mine) + 1;
                let Some(entry) = log.get(index - 1) else { continue };
                entry.apply(&mut mine.state, at(index as u64));
                let frame = mine.state.take_frame();
                mine.append(frame);
            }
        }
        let hash = mine.state.state_hash();
        match hashes.get(applied(mine)) {
            Some(known) => {
                assert_eq!(*known, hash, "seed {seed}: replicas differ at {}", applied(mine))
            }
            None => hashes.push(hash),
        }
    }
    assert_eq!(replicas[0].content(), replicas[1].content(), "seed {seed}");
    counts
}

#[test]
fn crashes_cleaning_and_snapshots_change_nothing() {
    let mut all = Counts::default();
    for seed in 0..200 {
        let counts = run(seed, 500);
        all.crashes += counts.crashes;
        all.cleaned += counts.cleaned;
        all.marks += counts.marks;
        all.cleaned_importing += counts.cleaned_importing;
        all.installed += counts.installed;
        all.abandoned += counts.abandoned;
        all.indexed += counts.indexed;
        all.loaded += counts.loaded;
    }
    assert!(all.crashes > 1_000 && all.cleaned > 1_000, "{all:?}");
    assert!(all.indexed > 500 && all.loaded > 300, "{all:?}");
    assert!(
        all.installed > 100 && all.abandoned > 20 && all.cleaned_importing > 40 && all.marks > 10,
        "{all:?}"
    );
}

/// A replica with some history, everything synced.
fn settled(seed: u64) -> Replica {
    let mut rng = Rng::new(seed);
    let mut replica = Replica::new();
    for index in 1..=60 {
        entry(&mut rng).apply(&mut replica.state, at(index));
        let frame = replica.state.take_frame();
        replica.append(frame);
    }
    replica.sync();
    replica
}

#[test]
fn replay_gives_the_state_back_at_every_cut() {
    let whole = settled(3);
    for keep in 0..=whole.log.frames.len() {
        let mut log = whole.log.clone();
        log.frames.truncate(keep);
        let (replay, errors) = log.replay();
        assert_eq!(errors, []);
        let state = replay.finish().unwrap();
        assert_eq!(state.logged(), state.mark());
        let rest = whole.state.mark().position.index.0 - state.mark().position.index.0;
        assert!(keep < whole.log.frames.len() || rest <= 3, "{rest} entries have no frame");
    }
}

#[test]
fn a_lost_frame_is_seen_and_a_snapshot_heals_it() {
    let whole = settled(5);
    let count = whole.log.frames.len();
    for lost in 0..count - 1 {
        let mut log = whole.log.clone();
        log.frames.remove(lost);
        let (replay, errors) = log.replay();
        // Where the log begins can't be told from where it was cleaned: a first frame that is lost must
        // be reported by the log.
        let expected = if lost == 0 { None } else { Some(lost as u64) };
        let missing =
            expected.map(|expected| FrameError::Missing { expected, found: expected + 1 });
        assert_eq!(errors.first().copied(), missing, "without frame {lost} of {count}");
        if lost == 0 {
            continue;
        }
        let broken = replay.finish().map(|_| ()).unwrap_err();
        assert_eq!(broken.next_generation, 2);
        heal(log, &whole, broken.next_generation);
    }
}

/// Installs `whole`'s state over a log that can't be replayed.
fn heal(log: TableLog, whole: &Replica, generation: u64) {
    let mut replica = Replica::new();
    replica.log = log;
    let (mut rng, mut counts) = (Rng::new(1), Counts::default());
    replica.begin(whole.state.export(), whole.log.clone(), generation);
    while replica.is_importing() {
        replica.import(whole, &mut rng, &mut counts);
    }
    replica.sync();
    replica.crash(&mut rng, &mut counts).unwrap();
    assert_eq!(replica.state.state_hash(), whole.state.state_hash());
    assert_eq!(replica.content(), whole.content());
}

#[test]
fn a_frame_that_the_log_could_not_read_breaks_the_state_until_a_snapshot() {
    let whole = settled(7);
    let mut replay = whole.log.replay().0;
    replay.lost();
    let broken = replay.finish().map(|_| ()).unwrap_err();
    assert_eq!(broken.error, FrameError::Head);
    let mut replay = Replay::new(seat());
    replay.lost();
    for at in 1..whole.log.frames.len() {
        let _ = replay.push(whole.log.frames[at].0, &whole.log.payload(at));
    }
    assert!(replay.finish().is_err());
}

#[test]
fn damage_among_frames_that_were_loaded_costs_nothing_and_behind_them_it_does() {
    let whole = settled(9);
    let count = whole.log.frames.len();
    let hash = whole.log.replay().0.finish().unwrap().state_hash();
    for included in 1..count {
        let mut log = whole.log.clone();
        log.frames.truncate(included);
        let (replay, _) = log.replay();
        let copy = replay.finish().unwrap().index_copy();
        let mut loading = IndexLoading::new(copy.head());
        if let Some((records, _)) = copy.slice(None, usize::MAX, usize::MAX) {
            assert!(loading.add(&records));
        }
        let (head, table) = loading.finish().unwrap();
        for lost in 0..count {
            let mut replay = Replay::loaded(seat(), &head, table.clone());
            for at in 0..count {
                match at == lost {
                    true => replay.lost(),
                    false => drop(replay.push(whole.log.frames[at].0, &whole.log.payload(at))),
                }
            }
            let state = replay.finish();
            // The last one that was loaded may have been followed by others, for all that is known.
            let whole_again = state.is_ok_and(|it| it.state_hash() == hash);
            assert_eq!(whole_again, lost + 1 < included, "{included} of {count}, without {lost}");
        }
    }
}

#[test]
fn no_damage_to_a_frame_passes_for_content() {
    let whole = settled(9);
    let mut bodies = 0;
    for at in 0..12 {
        let (place, payload) = (whole.log.frames[at].0, whole.log.payload(at));
        let decoded = frame::decode(&payload, place).unwrap();
        for byte in 0..payload.len() {
            let mut damaged = payload.to_vec();
            damaged[byte] ^= 1 << (byte % 8);
            let Ok(found) = frame::decode(&damaged, place) else { continue };
            // Only in a body: the head stays as it was, and the body is seen when it is read.
            assert_eq!(found.changes, decoded.changes, "byte {byte} of frame {at}");
            let hit = found.changes.iter().filter_map(|change| change.slot.as_ref()).find(|slot| {
                let Err(location) = slot.body.bytes() else { return false };
                let start = (location.offset - place.offset) as usize;
                let range = start..start + location.bytes as usize;
                range.contains(&byte) && !location.verify(&damaged[range])
            });
            assert!(hit.is_some(), "byte {byte} of frame {at} is covered by no checksum");
            bodies += 1;
        }
        for cut in 0..payload.len() {
            assert!(frame::decode(&payload[..cut], place).is_err(), "cut at {cut}");
        }
        let longer = [&payload[..], &[0]].concat();
        assert!(matches!(frame::decode(&longer, place), Err(FrameError::Bodies { .. })));
    }
    assert!(bodies > 100, "{bodies}");
}

#[test]
fn a_segment_is_needed_for_its_mark_alone() {
    let mut state = State::new(seat());
    state.apply_edit(at(1), |batch| batch.put(&space::kv(b"k"), vec![1], Bytes::new()));
    let put = state.take_frame().unwrap();
    state.apply_edit(at(2), |batch| batch.remove(&space::kv(b"k")));
    let remove = state.take_frame().unwrap();
    let old = Place { segment: 1, offset: 0 };
    [put, remove].iter().for_each(|frame| state.settle(&frame.placed, old));
    assert_eq!(state.table().live(1).records, 0);
    assert!(state.needs(1), "the mark is only there");
    let mark = state.rewrite_mark(1).unwrap();
    let new = Place { segment: 2, offset: 0 };
    state.settle(&mark.placed, new);
    assert!(!state.needs(1) && state.rewrite_mark(1).is_none());
    let mut replay = Replay::new(seat());
    assert!(replay.push(new, &mark.payload.concat()).unwrap().is_none());
    assert_eq!(replay.finish().unwrap().state_hash(), state.state_hash());
}

#[test]
fn the_errors_say_what_is_wrong() {
    let error = FrameError::Missing { expected: 4, found: 6 };
    assert_eq!(format!("{error}"), "frame 6 follows where 4 is expected");
}
