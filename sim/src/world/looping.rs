//! Crash loops: a node that dies soon after each boot, again and again.
//!
//! A recovery that begins where another was cut off has its own disk before it, and not the one of a node
//! that ran. Crashes that are drawn without looking at boots hit one in the middle of its recovery by luck
//! only. Each crash becomes a fault of the plan like those that were drawn before the run.

use super::{Event, Machine, World};
use crate::draw::{Domain, Draw};
use crate::faults::{Crash, Fault, Moment, Planned};
use crate::stats::Stats;
use ironseed_core::node::status::Phase;

/// A loop under way.
#[derive(Debug)]
pub(super) struct Looping {
    /// The fault's number in the plan.
    number: usize,
    node: usize,
    how: Crash,
    /// Boots that are still to end.
    left: u32,
}

impl<M: Machine> World<M> {
    /// A loop begins, with a crash now if the node is up.
    pub(super) fn begin_loop(&mut self, number: usize, node: usize, how: Crash, times: u32) {
        self.loops.push(Looping { number, node, how, left: times });
        if self.slots[node].is_up() {
            self.crash_again(node, 1);
        }
    }

    /// A node has booted: whoever loops it crashes it at some depth of its recovery, or soon after.
    pub(super) fn booted_in_loop(&mut self, node: usize) {
        self.crash_again(node, DEPTH_MAX);
    }

    fn crash_again(&mut self, node: usize, within: u64) {
        let mut planned = Vec::new();
        for looping in self.loops.iter_mut().filter(|looping| looping.node == node) {
            let name = [96, self.plan[looping.number].at, u64::from(looping.left)];
            let mut draw = Draw::new(self.setup.seed, Domain::Faults, &name);
            let at = self.now + draw.magnitude(1, within);
            let fault = Fault::Crash {
                nodes: vec![self.slots[node].id.0],
                how: looping.how,
                moment: Moment::Now,
                lasts: draw.magnitude(1_000_000, 100_000_000),
            };
            planned.push((looping.number, Planned { at, fault }));
            looping.left = looping.left.saturating_sub(1);
        }
        self.loops.retain(|looping| looping.left > 0);
        for (cause, planned) in planned {
            self.derived.push((cause, planned.clone()));
            let (delay, number) = (planned.at - self.now, self.plan.len());
            self.plan.push(planned);
            self.schedule(delay, Event::Fault { number, sprung: false });
        }
    }

    /// A node is about to crash: counts how far it had come.
    pub(super) fn note_depth(&mut self, node: usize) {
        let status = self.slots[node].machine.as_ref().and_then(Machine::status);
        if status.is_some_and(|status| status.phase == Phase::Booting) {
            Stats::count(&mut self.stats.rare, "crashed-in-recovery", 1);
        }
    }
}

/// A crash comes at most so long after a boot: nanoseconds.
const DEPTH_MAX: u64 = 500_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Order, run};
    use crate::setup::Overrides;

    #[test]
    fn a_node_in_a_loop_dies_in_the_middle_of_recoveries_and_comes_back() {
        let (mut crashes, mut depths) = (0, 0);
        for seed in 0..6 {
            let fault = Fault::CrashLoop { node: 2, how: Crash::Kill, times: 8 };
            let overrides = Overrides {
                nodes: Some(3),
                shards: Some(2),
                millis: Some(4_000),
                faults: Some(Vec::new()),
                plan: Some(vec![Planned { at: 1_000_000_000, fault }]),
                ..Overrides::default()
            };
            let report = run(&Order { overrides, ..Order::new(seed) }, None);
            assert_eq!(report.violation, None, "seed {seed}");
            assert_eq!(report.stats.faults["crash-loop"], 1);
            crashes += report.stats.faults["kill"];
            depths += report.stats.rare.get("crashed-in-recovery").copied().unwrap_or(0);
            let causes = report.choices.derived.iter().filter(|(cause, _)| *cause == 0).count();
            assert!(causes as u64 >= report.stats.faults["kill"], "each can take its place");
        }
        assert!(crashes > 24, "{crashes} crashes in six loops of eight");
        assert!(depths > 6, "{depths} of {crashes} in a recovery");
    }
}
