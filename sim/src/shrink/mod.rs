//! Shrinking: a run that fails, made as small as it can be and still fail in the same way.
//!
//! **The problem.** A seed that fails names a run of five nodes, dozens of faults and hundreds of operations. Three of
//! them matter, and nobody can see which.
//!
//! **What it does.** The run is repeated with everything that it drew given as lists ([`crate::choices`]). Then
//! one pass after another leaves things out or makes them simpler (faults, operations, clients, what is left to
//! chance, nodes and shards, times, deliveries) and keeps what still fails ([`ddmin`]). It
//! goes round until nothing changes or the time is up. The result is a file for `seeds/`.
//!
//! **Guarantees.**
//! - Every step is a run that fails in the [same] way as the first: none is taken on trust.
//! - Nothing is taken by its position in a random stream. What is left out has a name, and what stays keeps
//!   its own draws.
//! - The [fault atlas](crate::faults) holds: no fault stays that a run of the smaller kind need not survive.
//! - The same run shrinks to the same file, however many threads there are, if the time is not up before.
//!
//! **Caveats.** The result is a local minimum: no single part of it can be left out, though two together might.
//! A smaller run is another run, and a bug that needs luck may want it again: cheap candidates are tried under several
//! draws of deliveries (`luck`). Machines react to what is left out, which no naming of draws can change.

pub mod ddmin;
mod file;
pub mod judge;
mod passes;
pub mod same;
mod simpler;

pub use file::{Figures, write};

use crate::checkers::Violation;
use crate::run::{Order, Pulse, run};
use judge::{Case, Judge, Runner};
use passes::Passes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to shrink.
#[derive(Clone, Debug)]
pub struct Shrink {
    /// The run that fails.
    pub order: Order,
    /// Begins no run after this long.
    pub seconds: Option<u64>,
    /// What runs it.
    pub run: Runner,
}

impl Shrink {
    /// This run of the store.
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self { order, seconds: None, run: |order| run(order, None) }
    }
}

/// What shrinking came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The run as it was.
    pub before: Figures,
    /// The run as it is.
    pub after: Figures,
    /// The smallest run that fails in the same way.
    pub case: Case,
    /// Runs it took.
    pub tried: u64,
    /// Whether nothing smaller was found, and not only no time left to look for it.
    pub finished: bool,
    /// How long it took.
    pub wall: Duration,
}

/// How far it has come.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The smallest run so far.
    pub case: &'a Case,
    /// Its size.
    pub figures: Figures,
    /// Runs so far.
    pub tried: u64,
    /// Time so far.
    pub wall: Duration,
}

/// Shrinks a run. `None` if it does not fail. `better` is told every smaller run, so that it can be kept in case
/// of an interruption. Runs beat in `pulses`, one a thread.
#[must_use]
pub fn shrink(
    shrink: &Shrink,
    pulses: &[Arc<Pulse>],
    better: impl Fn(&Progress<'_>),
) -> Option<Outcome> {
    let began = Instant::now();
    let deadline = shrink.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let order = &shrink.order;
    let overrides = order.overrides.clone();
    if let Some(pulse) = pulses.first() {
        pulse.attach();
    }
    let report = (shrink.run)(order);
    let violation: Violation = report.violation.clone()?;
    let judge = Judge::new(shrink.run, order, &violation, deadline, pulses);
    let case = Case { overrides, violation, report };
    let before = Figures::of(&case);
    let told = |case: &Case, judge: &Judge| {
        let (figures, tried, wall) = (Figures::of(case), judge.tried(), began.elapsed());
        better(&Progress { case, figures, tried, wall });
    };
    let mut passes = Passes::new(order.seed, judge, case, &told);
    let finished = go_round(&mut passes);
    passes.tidy();
    passes.tell();
    let tried = passes.judge().tried() + 1;
    let case = passes.best;
    let after = Figures::of(&case);
    Some(Outcome { before, after, case, tried, finished, wall: began.elapsed() })
}

/// Round after round, until one changes nothing. `false` if the time was up first.
fn go_round(passes: &mut Passes<'_>) -> bool {
    passes.spell_out();
    // Big steps first: every run after them is cheaper.
    for part in [8, 32] {
        let finest = |passes: &Passes<'_>| {
            let case = Figures::of(&passes.best);
            (case.faults / part, case.operations / part)
        };
        let (faults, operations) = finest(passes);
        passes.faults(faults as usize);
        passes.operations(operations as usize);
    }
    for _ in 0..ROUNDS_MAX {
        let mut changed = passes.calm();
        changed |= passes.faults(1);
        changed |= passes.points();
        changed |= passes.engines();
        changed |= passes.clients();
        changed |= passes.topology();
        changed |= passes.operations(1);
        changed |= passes.simplify();
        changed |= passes.hurry();
        changed |= passes.tuning();
        changed |= passes.deliveries();
        if passes.judge().is_over() {
            return false;
        }
        if !changed {
            return true;
        }
    }
    true
}

/// Each round but the last changes something, and there is not so much.
const ROUNDS_MAX: u32 = 12;

#[cfg(all(test, feature = "planted-bugs"))]
mod tests;
