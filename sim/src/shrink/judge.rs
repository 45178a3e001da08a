//! Who says which candidate is good: runs on a few threads, and the first good one in the order of the
//! candidates, so that threads change what shrinking takes and not what it comes to.

use super::same;
use crate::checkers::Violation;
use crate::run::{Order, Pulse, Report};
use crate::setup::Overrides;
use crate::stats::Stats;
use ironseed_core::planted::Planted;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Does a run.
pub type Runner = fn(&Order) -> Report;

/// A run that fails in the wanted way, and what is fixed of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is fixed.
    pub overrides: Overrides,
    /// What is wrong with it.
    pub violation: Violation,
    /// What it did.
    pub report: Report,
}

/// Runs candidates.
#[derive(Debug)]
pub struct Judge {
    run: Runner,
    seed: u64,
    planted: Planted,
    wanted: String,
    deadline: Option<Instant>,
    pulses: Vec<Arc<Pulse>>,
    /// Candidates that are no good, by the hash of what they fix.
    refused: Mutex<HashSet<[u8; 16]>>,
    /// Runs so far.
    tried: AtomicU64,
    /// Nobody has to wait longer than this for a violation: world nanoseconds.
    limit: u64,
}

impl Judge {
    /// A judge of runs of the order's seed that fail like `violation`. There are as many threads as pulses.
    #[must_use]
    pub fn new(
        run: Runner,
        order: &Order,
        violation: &Violation,
        deadline: Option<Instant>,
        pulses: &[Arc<Pulse>],
    ) -> Self {
        Self {
            run,
            seed: order.seed,
            planted: order.planted,
            wanted: same::kind(violation),
            deadline,
            pulses: pulses.to_vec(),
            refused: Mutex::default(),
            tried: AtomicU64::new(0),
            limit: u64::MAX,
        }
    }

    /// A run that takes much longer to fail than the best one so far is no simpler.
    pub const fn bound(&mut self, stats: &Stats) {
        self.limit = stats.sim_nanos.saturating_add(stats.sim_nanos / 2).saturating_add(SLACK);
    }

    /// Whether the time is up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Runs so far.
    #[must_use]
    pub fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    /// The same run with all that it can tell of itself.
    #[must_use]
    pub fn told(&self, overrides: &Overrides) -> Report {
        self.tried.fetch_add(1, Ordering::Relaxed);
        let order = Order {
            overrides: overrides.clone(),
            planted: self.planted,
            telling: true,
            ..Order::new(self.seed)
        };
        (self.run)(&order)
    }

    /// The first candidate of so many that is good. `None` if none is, or if the time is up.
    pub fn first(
        &self,
        count: usize,
        build: &(dyn Fn(usize) -> Option<Overrides> + Sync),
    ) -> Option<(usize, Case)> {
        let (next, best) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let found: Mutex<Option<(usize, Case)>> = Mutex::new(None);
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                // Those before the best one so far must still be known to be no good.
                if number >= count || number >= best.load(Ordering::Relaxed) || self.is_over() {
                    return;
                }
                let Some(case) = build(number).and_then(|overrides| self.judge(overrides)) else {
                    continue;
                };
                let mut found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if best.fetch_min(number, Ordering::Relaxed) > number {
                    *found = Some((number, case));
                }
            }
        };
        if self.pulses.len() < 2 || count < 2 {
            work();
        } else {
            std::thread::scope(|scope| {
                for pulse in &self.pulses {
                    scope.spawn(|| {
                        pulse.attach();
                        work();
                    });
                }
            });
        }
        found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// One candidate: `None` if it is no good.
    fn judge(&self, overrides: Overrides) -> Option<Case> {
        overrides.check().ok()?;
        let name = name(&overrides);
        let known = |refused: &Mutex<HashSet<_>>| {
            refused.lock().is_ok_and(|refused| refused.contains(&name))
        };
        if known(&self.refused) {
            return None;
        }
        self.tried.fetch_add(1, Ordering::Relaxed);
        let order = Order {
            overrides: overrides.clone(),
            planted: self.planted,
            until: Some(self.limit),
            ..Order::new(self.seed)
        };
        let report = (self.run)(&order);
        match &report.violation {
            Some(violation) if same::kind(violation) == self.wanted => {
                Some(Case { overrides, violation: violation.clone(), report })
            }
            _ => {
                if let Ok(mut refused) = self.refused.lock() {
                    refused.insert(name);
                }
                None
            }
        }
    }
}

fn name(overrides: &Overrides) -> [u8; 16] {
    let text = serde_json::to_vec(overrides).unwrap_or_default();
    let hash = blake3::hash(&text);
    let mut name = [0; 16];
    name.copy_from_slice(&hash.as_bytes()[..16]);
    name
}

/// World nanoseconds that a candidate may take longer than half as long again.
const SLACK: u64 = 500_000_000;
