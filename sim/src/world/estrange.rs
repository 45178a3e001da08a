//! Estrangements: whoever stands for election against a leader is cut off from it.
//!
//! A leader learns that its time is over from whoever follows it, or from the others, or by itself. The first is the
//! quickest by far, and what it would have done a moment later is never seen. Without that one word it goes on to
//! lead while another does, with everybody else as near as ever: the moment in which each promise has to hold that
//! rests on who still follows whom. Each cut becomes a fault of the plan like those that were drawn before the run.

use super::{Event, Machine, World};
use crate::draw::{Domain, Draw};
use crate::faults::{Fault, Planned};
use crate::stats::Stats;
use ironseed_core::types::GroupId;

impl<M: Machine> World<M> {
    /// A node stands for election in this group.
    pub(super) fn estrange(&mut self, candidate: usize, group: GroupId) {
        let Some(leader) = self.led.get(&group).copied() else { return };
        if leader == candidate || !self.slots[leader].is_up() {
            return;
        }
        let (typical, election) = (self.setup.weather.delay, self.setup.tuning.election.0);
        let mut planned = Vec::new();
        for (&number, (of, met)) in &mut self.estrangements {
            if *of != group {
                continue;
            }
            *met += 1;
            let coordinates = [96, self.plan[number].at, *met];
            let mut draw = Draw::new(self.setup.seed, Domain::Faults, &coordinates);
            let (from, to) = (self.slots[candidate].id.0, self.slots[leader].id.0);
            let both_ways = draw.chance(1, 2);
            let lasts = draw.magnitude(typical * 8, election.max(typical * 8) * 2);
            let fault = Fault::Cut { from: vec![from], to: vec![to], both_ways, lasts };
            planned.push((number, Planned { at: self.now, fault }));
        }
        for (cause, planned) in planned {
            Stats::count(&mut self.stats.rare, "leader-estranged", 1);
            self.derived.push((cause, planned.clone()));
            let number = self.plan.len();
            self.plan.push(planned);
            // Before anything that is said now can arrive.
            self.schedule(1, Event::Fault { number, sprung: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::run::{Order, Report, run};
    use crate::setup::Overrides;
    use ironseed_core::planted::Planted;

    fn succession(seed: u64, planted: Planted) -> Report {
        let overrides = Overrides { region: Some("succession".into()), ..Overrides::default() };
        run(&Order { overrides, planted, ..Order::new(seed) }, None)
    }

    #[test]
    fn leaders_that_do_not_hear_of_their_successors_answer_nothing_old() {
        let (mut estranged, mut caught) = (0, 0);
        for seed in 0..12 {
            let report = succession(seed, Planted::NONE);
            assert_eq!(report.violation, None, "seed {seed}");
            let rare = |name| report.stats.rare.get(name).copied().unwrap_or(0);
            estranged += rare("leader-estranged");
            caught += rare("leader-caught");
        }
        assert!(estranged > 12 && caught > 12, "{estranged} estranged and {caught} caught");
    }

    /// Three bugs of which none shows unless a leader's time is over and it has not heard of it, or hears again what is over.
    #[cfg(feature = "planted-bugs")]
    #[test]
    fn what_outlives_a_term_is_seen() {
        use ironseed_core::planted::Bug;
        for bug in [Bug::SupportOutlivesTerm, Bug::AcceptOldReplies, Bug::AcknowledgeLastIndex] {
            let seen = |seed| succession(seed, Planted::with(bug)).violation.is_some();
            assert!((0..200).any(seen), "{bug:?}");
        }
    }
}
