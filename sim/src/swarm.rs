//! Many runs on a few threads: seeds one after another, until a time or a number is reached or one fails
//! (unless it keeps going).
//!
//! A run lives in one thread from its first event to its last, so threads change what a swarm does per second
//! and nothing else. Every fiftieth seed runs twice: the hashes must agree, for determinism is a
//! property like any other.

use crate::checkers::Violation;
use crate::run::{Order, Pulse, run};
use crate::setup::Overrides;
use crate::stats::Stats;
use ironseed_core::planted::Planted;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a swarm does.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// The first seed; the others follow it.
    pub first_seed: u64,
    /// Runs at the most.
    pub runs: Option<u64>,
    /// Begins no run after this long.
    pub seconds: Option<u64>,
    /// Whether it goes on after a seed that failed.
    pub keep_going: bool,
    /// The bug that machines carry.
    pub planted: Planted,
    /// What is fixed of every run.
    pub overrides: Overrides,
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which one.
    pub seed: u64,
    /// How.
    pub violation: Violation,
}

/// What a swarm came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything counted.
    pub stats: Stats,
    /// Seeds that failed, by number. The first failure ends a swarm unless it keeps going, so there are then
    /// at most as many as threads.
    pub failures: Vec<Failure>,
    /// How long it took.
    pub wall: Duration,
}

/// Runs a swarm. `progress` is told the sum so far about once a second. The threads' runs beat in `pulses`,
/// one each: there are as many threads as pulses.
pub fn swarm(
    swarm: &Swarm,
    pulses: &[Arc<Pulse>],
    progress: impl Fn(&Stats, Duration) + Sync,
) -> Outcome {
    let began = Instant::now();
    Stats::default().take_points();
    let next = AtomicU64::new(0);
    let sum = Mutex::new((Stats::default(), Vec::new(), 0));
    let worker = |pulse: &Arc<Pulse>| {
        pulse.attach();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let late = swarm.seconds.is_some_and(|most| began.elapsed().as_secs() >= most);
            if late || swarm.runs.is_some_and(|most| number >= most) {
                return;
            }
            let order = Order {
                planted: swarm.planted,
                overrides: swarm.overrides.clone(),
                ..Order::new(swarm.first_seed.wrapping_add(number))
            };
            let (stats, violation) = run_checked(&order, number.is_multiple_of(TWICE_EVERY));
            let Ok(mut sum) = sum.lock() else { return };
            sum.0.add(&stats);
            if let Some(violation) = violation {
                sum.1.push(Failure { seed: order.seed, violation });
                if !swarm.keep_going {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    return;
                }
            }
            let seconds = began.elapsed().as_secs();
            if seconds > sum.2 {
                sum.2 = seconds;
                progress(&sum.0, began.elapsed());
            }
            if !swarm.keep_going && !sum.1.is_empty() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for pulse in pulses {
            scope.spawn(|| worker(pulse));
        }
    });
    let (mut stats, mut failures, _) =
        sum.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    stats.take_points();
    failures.sort_by_key(|failure| failure.seed);
    Outcome { stats, failures, wall: began.elapsed() }
}

/// One run, or two that must be equal.
#[must_use]
pub fn run_checked(order: &Order, twice: bool) -> (Stats, Option<Violation>) {
    let first = run(order, None);
    if twice && first.violation.is_none() {
        let second = run(order, None);
        if first.history_hash != second.history_hash {
            let what = format!("{} and then {}", first.history_hash, second.history_hash);
            let mut stats = first.stats;
            stats.violations = 1;
            return (stats, Some(Violation::new("determinism", 0, what)));
        }
    }
    (first.stats, first.violation)
}

const TWICE_EVERY: u64 = 50;
