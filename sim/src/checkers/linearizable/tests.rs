//! Hand-made histories whose verdict a person can see, and a comparison with brute force.

use super::*;

/// A register that starts at 0.
struct Register;

#[derive(Clone, Copy, Debug)]
enum Op {
    Write(u32),
    Read(u32),
    /// Compare-and-swap with its answer; `None` if unknown.
    Cas(u32, u32, Option<bool>),
}

impl Model for Register {
    type State = u32;
    type Op = Op;

    fn initial(&self) -> u32 {
        0
    }

    fn apply(&self, &state: &u32, op: &Op) -> Vec<u32> {
        match *op {
            Op::Write(value) => vec![value],
            Op::Read(value) if value == state => vec![state],
            Op::Cas(old, new, Some(true)) if old == state => vec![new],
            Op::Cas(old, _, Some(false)) if old != state => vec![state],
            Op::Cas(old, new, None) => vec![if old == state { new } else { state }],
            Op::Read(_) | Op::Cas(..) => vec![],
        }
    }
}

fn done(called: u64, returned: u64, op: Op) -> Interval<Op> {
    Interval { called, returned: Some(returned), op }
}

fn open(called: u64, op: Op) -> Interval<Op> {
    Interval { called, returned: None, op }
}

#[track_caller]
fn good(history: &[Interval<Op>]) {
    assert_eq!(check(&Register, history), Verdict::Linearizable);
}

#[track_caller]
fn bad(history: &[Interval<Op>]) {
    let verdict = check(&Register, history);
    assert!(matches!(verdict, Verdict::Violation { .. }), "{verdict:?}");
}

#[test]
fn nothing_is_linearizable() {
    good(&[]);
}

#[test]
fn a_read_sees_the_write_that_returned_before_it() {
    good(&[done(0, 1, Op::Write(5)), done(2, 3, Op::Read(5))]);
    bad(&[done(0, 1, Op::Write(5)), done(2, 3, Op::Read(0))]);
}

#[test]
fn a_read_beside_a_write_sees_either() {
    good(&[done(0, 10, Op::Write(5)), done(1, 2, Op::Read(0)), done(3, 4, Op::Read(5))]);
    bad(&[done(0, 10, Op::Write(5)), done(1, 2, Op::Read(5)), done(3, 4, Op::Read(0))]);
}

#[test]
fn equal_times_overlap() {
    good(&[done(0, 5, Op::Write(5)), done(5, 6, Op::Read(0))]);
}

#[test]
fn an_unknown_write_happens_late_or_never_but_not_before_its_call() {
    good(&[open(0, Op::Write(5)), done(1, 2, Op::Read(0)), done(8, 9, Op::Read(5))]);
    good(&[open(0, Op::Write(5)), done(1, 2, Op::Read(0))]);
    bad(&[done(0, 1, Op::Read(5)), open(2, Op::Write(5))]);
    bad(&[open(0, Op::Write(5)), done(1, 2, Op::Read(5)), done(3, 4, Op::Read(0))]);
}

#[test]
fn two_swaps_of_one_value_are_a_lost_update() {
    let swap = |called, returned, new| done(called, returned, Op::Cas(0, new, Some(true)));
    bad(&[swap(0, 9, 1), swap(0, 9, 2)]);
    good(&[swap(0, 9, 1), done(0, 9, Op::Cas(0, 2, Some(false)))]);
    good(&[open(0, Op::Cas(0, 1, None)), done(2, 3, Op::Cas(1, 2, Some(true)))]);
}

#[test]
fn an_acknowledged_write_that_is_lost_is_seen_however_late() {
    let mut history = vec![done(0, 1, Op::Write(7))];
    history.extend((0..500).map(|n| done(10 + 2 * n, 11 + 2 * n, Op::Read(7))));
    good(&history);
    history.push(done(5000, 5001, Op::Read(0)));
    let Verdict::Violation { longest, stuck } = check(&Register, &history) else {
        panic!("the last read is wrong")
    };
    assert_eq!((longest.len(), stuck), (501, vec![501]));
}

#[test]
fn many_open_writes_do_not_blow_the_search_up() {
    let mut history: Vec<_> = (0..30).map(|n| open(n, Op::Write(100 + n as u32))).collect();
    for n in 0..200 {
        let at = 100 + n * 10;
        history.push(done(at, at + 1, Op::Write(n as u32)));
        history.push(done(at + 2, at + 3, Op::Read(n as u32)));
    }
    good(&history);
}

/// Every order, without any cleverness.
fn brute_force(history: &[Interval<Op>], state: u32, picked: &mut Vec<usize>) -> bool {
    let left: Vec<usize> = (0..history.len()).filter(|at| !picked.contains(at)).collect();
    if left.iter().all(|&at| history[at].returned.is_none()) {
        return true;
    }
    left.iter().any(|&at| {
        let preceded = left.iter().any(|&other| {
            history[other].returned.is_some_and(|returned| returned < history[at].called)
        });
        let Some(&next) = Register.apply(&state, &history[at].op).first() else { return false };
        picked.push(at);
        let found = !preceded && brute_force(history, next, picked);
        picked.pop();
        found
    })
}

#[test]
fn the_search_agrees_with_brute_force() {
    let mut verdicts = [0_u32; 2];
    for seed in 0..3000 {
        let mut draw = Draw::new(seed, Domain::Fingerprint, &[77]);
        let history: Vec<_> = (0..draw.between(2, 6))
            .map(|_| {
                let called = draw.below(12);
                let value = draw.below(3) as u32;
                let unknown = draw.chance(1, 4);
                let op = match draw.below(3) {
                    0 => Op::Write(value),
                    1 if !unknown => Op::Read(value),
                    _ if unknown => Op::Cas(value, draw.below(3) as u32, None),
                    _ => Op::Cas(value, draw.below(3) as u32, Some(draw.chance(1, 2))),
                };
                let returned = (!unknown).then(|| called + draw.below(6));
                Interval { called, returned, op }
            })
            .collect();
        let expected = brute_force(&history, 0, &mut Vec::new());
        let verdict = check(&Register, &history);
        assert_eq!(verdict == Verdict::Linearizable, expected, "seed {seed}: {history:?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|&count| count > 500), "one-sided: {verdicts:?}");
}
