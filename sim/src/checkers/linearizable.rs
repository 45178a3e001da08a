//! Linearizability of one object's history: the search of Wing and Gong with Lowe's pruning.
//!
//! A history is linearizable if every completed operation can be given one instant between its call
//! and its return at which it took effect, so that a sequential model gives the same answers. An
//! operation with an unknown outcome may have happened at any instant after its call, or never: it
//! stays open for ever.
//!
//! The search picks, one after another, an operation that no unpicked one precedes in time, and applies
//! it to the model; it goes back when no pick fits. Three things keep it short:
//! - The caller splits histories by key: linearizability is local (Herlihy and Wing, theorem 1).
//! - A configuration (which operations are picked, and the states they can have led to) that failed once
//!   is never searched again (Lowe, "Testing for linearizability", 2017).
//! - Completed operations are tried by the order of their returns, and open ones last: what answered
//!   first most likely happened first, and most open operations never happened.
//!
//! A model may answer with several next states where an answer leaves one open (the version that a
//! write with unknown outcome was given). The search carries the set of all.

use crate::draw::{Domain, Draw};
use std::collections::BTreeSet;

/// A sequential object.
pub trait Model {
    /// What it can be in. Ordered, so that sets of states have one form.
    type State: Clone + Ord;
    /// An operation together with its answer, or with the lack of one.
    type Op;

    /// Before everything.
    fn initial(&self) -> Self::State;

    /// Every state that the operation can lead to if this is the instant at which it takes effect; none
    /// if its answer is impossible here.
    fn apply(&self, state: &Self::State, op: &Self::Op) -> Vec<Self::State>;
}

/// An operation in time. World time in nanoseconds; equal times overlap.
#[derive(Clone, Debug)]
pub struct Interval<Op> {
    /// When it was called.
    pub called: u64,
    /// When it returned; `None` while its outcome is unknown.
    pub returned: Option<u64>,
    /// What it was.
    pub op: Op,
}

/// What a search finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none. The longest order found, as positions in the history, and the completed operations
    /// that could have come next and fit nowhere.
    Violation {
        /// Positions in the history, in the order picked.
        longest: Vec<usize>,
        /// Positions that could not follow.
        stuck: Vec<usize>,
    },
    /// The search was given up after so many configurations.
    GaveUp(u64),
}

/// Configurations that a search looks at before it gives up: about a second.
pub const CONFIGURATIONS_MAX: u64 = 400_000;

/// Searches for an order of the operations that the model can explain.
#[must_use]
pub fn check<M: Model>(model: &M, history: &[Interval<M::Op>]) -> Verdict {
    let mut search = Search::new(model, history);
    loop {
        if search.unreturned == 0 {
            return Verdict::Linearizable;
        }
        if search.configurations > CONFIGURATIONS_MAX {
            return Verdict::GaveUp(search.configurations);
        }
        if !search.advance() && !search.retreat() {
            let Longest { order, stuck } = search.longest;
            return Verdict::Violation { longest: order, stuck };
        }
    }
}

struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Interval<M::Op>],
    /// Positions by the time of the call.
    by_call: Vec<usize>,
    fingerprints: Vec<u128>,
    picked: Vec<bool>,
    /// All of `by_call` before this is picked.
    first: usize,
    /// Completed operations that are not picked.
    unreturned: usize,
    /// Exclusive or of the fingerprints of what is picked.
    set: u128,
    states: Vec<M::State>,
    path: Vec<Step<M::State>>,
    /// What may be tried next at the tip of the path.
    candidates: Vec<usize>,
    failed: BTreeSet<(u128, Vec<M::State>)>,
    configurations: u64,
    longest: Longest,
}

struct Step<State> {
    picked: usize,
    first: usize,
    states: Vec<State>,
    /// What else could have been picked instead, most likely last.
    candidates: Vec<usize>,
}

#[derive(Default)]
struct Longest {
    order: Vec<usize>,
    stuck: Vec<usize>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &'a [Interval<M::Op>]) -> Self {
        let mut by_call: Vec<usize> = (0..history.len()).collect();
        by_call.sort_by_key(|&position| history[position].called);
        let fingerprint = |position| {
            let mut draw = Draw::new(0, Domain::Fingerprint, &[position]);
            u128::from(draw.next()) << 64 | u128::from(draw.next())
        };
        let mut search = Self {
            model,
            history,
            by_call,
            fingerprints: (0..history.len() as u64).map(fingerprint).collect(),
            picked: vec![false; history.len()],
            first: 0,
            unreturned: history.iter().filter(|interval| interval.returned.is_some()).count(),
            set: 0,
            states: vec![model.initial()],
            path: Vec::new(),
            candidates: Vec::new(),
            failed: BTreeSet::new(),
            configurations: 0,
            longest: Longest::default(),
        };
        search.candidates = search.minimal();
        search.longest.stuck.clone_from(&search.candidates);
        search
    }

    /// Unpicked operations that no unpicked one precedes, the most likely last.
    fn minimal(&self) -> Vec<usize> {
        let mut earliest_return = u64::MAX;
        let mut open = Vec::new();
        let mut completed = Vec::new();
        for &position in &self.by_call[self.first..] {
            let interval = &self.history[position];
            if interval.called > earliest_return {
                break;
            }
            if self.picked[position] {
                continue;
            }
            match interval.returned {
                Some(returned) => {
                    earliest_return = earliest_return.min(returned);
                    completed.push((returned, position));
                }
                None => open.push(position),
            }
        }
        // What was collected before an early return was seen may lie behind it.
        let precedes = |position: &usize| self.history[*position].called <= earliest_return;
        completed.sort_unstable_by(|a, b| b.cmp(a));
        let completed = completed.into_iter().map(|(_, position)| position);
        open.into_iter().rev().chain(completed).filter(precedes).collect()
    }

    /// Picks the next candidate that the model accepts and that leads somewhere new.
    fn advance(&mut self) -> bool {
        while let Some(position) = self.candidates.pop() {
            let op = &self.history[position].op;
            let next: BTreeSet<M::State> =
                self.states.iter().flat_map(|state| self.model.apply(state, op)).collect();
            if next.is_empty() {
                continue;
            }
            let next: Vec<M::State> = next.into_iter().collect();
            let set = self.set ^ self.fingerprints[position];
            self.configurations += 1;
            // A configuration that is on the path can't come again, so what was seen has failed.
            if !self.failed.insert((set, next.clone())) {
                continue;
            }
            self.pick(position, set, next);
            return true;
        }
        false
    }

    fn pick(&mut self, position: usize, set: u128, next: Vec<M::State>) {
        let first = self.first;
        self.picked[position] = true;
        self.set = set;
        self.unreturned -= usize::from(self.history[position].returned.is_some());
        while self.by_call.get(self.first).is_some_and(|&position| self.picked[position]) {
            self.first += 1;
        }
        let states = core::mem::replace(&mut self.states, next);
        let following = self.minimal();
        let candidates = core::mem::replace(&mut self.candidates, following);
        self.path.push(Step { picked: position, first, states, candidates });
    }

    /// Remembers the path if none was longer, now that it leads nowhere: a path that leads to the end is never asked for.
    fn remember(&mut self) {
        if self.path.len() > self.longest.order.len() {
            self.longest.order = self.path.iter().map(|step| step.picked).collect();
            let completed = |position: &usize| self.history[*position].returned.is_some();
            self.longest.stuck = self.minimal().into_iter().filter(completed).collect();
        }
    }

    /// Takes the last pick back; `false` if there is none.
    fn retreat(&mut self) -> bool {
        self.remember();
        let Some(step) = self.path.pop() else { return false };
        self.picked[step.picked] = false;
        self.set ^= self.fingerprints[step.picked];
        self.unreturned += usize::from(self.history[step.picked].returned.is_some());
        self.first = step.first;
        self.states = step.states;
        self.candidates = step.candidates;
        true
    }
}

#[cfg(test)]
mod tests;
