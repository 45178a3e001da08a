//! Hunts: every new leader of one group is cut off at a bad moment, again and again.
//!
//! A leader is worst lost in two moments: when it has appended entries that nobody else has heard of, and
//! when it has just counted something as committed that nobody else knows to be. Losing leaders in these two
//! moments, one after another, and giving each back when the next is caught is how the logs of a group come
//! to differ in more than their tails (figure 8 of the Raft paper). A plan that draws its crashes
//! independently needs too much luck for it.

use super::{Event, Machine, World};
use crate::draw::{Domain, Draw};
use crate::faults::{Fault, Planned};
use crate::stats::Stats;
use crate::trace::Kind;
use ironseed_core::types::{GroupId, Index};

/// A hunt under way.
#[derive(Debug)]
pub(super) struct Hunt {
    /// The fault's number in the plan.
    number: usize,
    /// The group whose leaders it is after.
    group: GroupId,
    /// Leaders it has been after so far.
    round: u64,
    /// A leader that is caught when its applied state goes beyond this index.
    prey: Option<(usize, Index)>,
    /// The node that is cut off, and since when.
    caught: Option<(usize, u64)>,
}

impl<M: Machine> World<M> {
    /// A hunt begins: with the leader of now, if there is one.
    pub(super) fn begin_hunt(&mut self, number: usize, group: GroupId) {
        self.hunts.push(Hunt { number, group, round: 0, prey: None, caught: None });
        if let Some(node) = self.led.get(&group) {
            self.snare(number, 0, *node);
        }
    }

    /// A node has begun to lead this group.
    pub(super) fn scent(&mut self, node: usize, group: GroupId) {
        let applied = self.applied(node, group);
        let typical = self.setup.weather.delay;
        let mut snares = Vec::new();
        for hunt in self.hunts.iter_mut().filter(|hunt| hunt.group == group) {
            hunt.round += 1;
            let coordinates = [98, self.plan[hunt.number].at, hunt.round];
            let mut draw = Draw::new(self.setup.seed, Domain::Faults, &coordinates);
            let at_once = draw.chance(1, 2);
            hunt.prey = (!at_once).then_some((node, applied));
            // Before anybody can have heard of its first entry; or when it has committed it, or in time.
            let delay = if at_once { draw.below(typical / 2) } else { draw.below(PATIENCE) };
            snares.push((delay, Event::Snare { number: hunt.number, round: hunt.round, node }));
        }
        for (delay, snare) in snares {
            self.schedule(delay, snare);
        }
    }

    /// Looks whether a step has brought a leader that is hunted to the moment that is waited for.
    pub(super) fn look_at_prey(&mut self, node: usize) {
        for at in 0..self.hunts.len() {
            let hunt = &self.hunts[at];
            if hunt.prey.is_some_and(|(prey, _)| prey == node) {
                self.look(node, hunt.group);
            }
        }
    }

    /// A replica's state has moved.
    pub(super) fn watch_prey(&mut self, node: usize, group: GroupId, applied: Index) {
        let bites = |hunt: &Hunt| {
            hunt.group == group
                && hunt.prey.is_some_and(|(prey, from)| prey == node && applied > from)
        };
        let hunts = self.hunts.iter().filter(|hunt| bites(hunt));
        let caught: Vec<(usize, u64)> = hunts.map(|hunt| (hunt.number, hunt.round)).collect();
        for (number, round) in caught {
            self.snare(number, round, node);
        }
    }

    /// Cuts a leader off and gives the one before back, unless another has come since.
    pub(super) fn snare(&mut self, number: usize, round: u64, node: usize) {
        let due = |hunt: &&mut Hunt| hunt.number == number && hunt.round == round;
        let Some(hunt) = self.hunts.iter_mut().find(due) else { return };
        hunt.prey = None;
        if hunt.caught.is_some_and(|(caught, _)| caught == node) {
            return;
        }
        let before = hunt.caught.replace((node, self.now));
        let id = self.slots[node].id;
        let line = || format!("hunt {number} catches {id:?}");
        self.tracer.event(self.now, Kind::Fault, &[number as u64, round, node as u64], line);
        Stats::count(&mut self.stats.rare, "leader-caught", 1);
        before.into_iter().for_each(|caught| self.set_free(number, caught));
        self.set_apart(node, true);
    }

    /// A hunt is over: its catch goes free.
    pub(super) fn end_hunt(&mut self, number: usize) {
        let Some(at) = self.hunts.iter().position(|hunt| hunt.number == number) else { return };
        if let Some(caught) = self.hunts.swap_remove(at).caught {
            self.set_free(number, caught);
        }
    }

    /// Gives a catch back, and remembers the cut that it was.
    fn set_free(&mut self, number: usize, (node, since): (usize, u64)) {
        self.set_apart(node, false);
        self.note_catch(number, (node, since));
    }

    /// The cut that a catch was, up to now.
    fn note_catch(&mut self, number: usize, (node, since): (usize, u64)) {
        let id = self.slots[node].id.0;
        let to = self.slots.iter().map(|slot| slot.id.0).filter(|peer| *peer != id).collect();
        let lasts = self.now - since;
        let fault = Fault::Cut { from: vec![id], to, both_ways: true, lasts };
        self.derived.push((number, Planned { at: since, fault }));
    }

    /// The run is over, and so are its hunts.
    pub(super) fn note_catches(&mut self) {
        for at in 0..self.hunts.len() {
            if let Some(caught) = self.hunts[at].caught {
                self.note_catch(self.hunts[at].number, caught);
            }
        }
    }

    /// Cuts every link of a node, or mends what that cut.
    fn set_apart(&mut self, node: usize, apart: bool) {
        let id = self.slots[node].id;
        for peer in self.slots.iter().map(|slot| slot.id).filter(|peer| *peer != id) {
            if apart {
                self.network.cut(id, peer);
                self.network.cut(peer, id);
            } else {
                self.network.mend(id, peer);
                self.network.mend(peer, id);
            }
        }
    }

    fn applied(&self, node: usize, group: GroupId) -> Index {
        let machine = self.slots[node].machine.as_ref();
        let state = machine.and_then(|machine| machine.state_of(group));
        state.map_or(Index(0), |(position, _)| position.index)
    }
}

/// A leader that commits nothing is caught after this long at the latest: nanoseconds.
const PATIENCE: u64 = 600_000_000;

#[cfg(test)]
mod tests {
    use crate::faults::Class;
    use crate::run::{Order, Report, run};
    use crate::setup::Overrides;
    use ironseed_core::planted::Planted;

    fn hunted(seed: u64, planted: Planted) -> Report {
        let overrides = Overrides {
            nodes: Some(3),
            shards: Some(1),
            millis: Some(3_000),
            faults: Some(vec![Class::Hunt]),
            ..Overrides::default()
        };
        run(&Order { overrides, planted, ..Order::new(seed) }, None)
    }

    #[test]
    fn one_leader_after_another_is_caught_and_nothing_is_lost() {
        let mut caught = 0;
        for seed in 0..6 {
            let report = hunted(seed, Planted::NONE);
            assert_eq!(report.violation, None, "seed {seed}");
            caught += report.stats.rare.get("leader-caught").copied().unwrap_or(0);
        }
        assert!(caught > 12, "{caught} leaders in six runs");
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn an_entry_of_an_earlier_term_that_was_committed_by_its_copies_is_missed_in_a_leader() {
        let planted = Planted::with(ironseed_core::planted::Bug::CommitEarlierTerm);
        let seen = |seed| hunted(seed, planted).violation.map(|violation| violation.checker);
        let seen: Vec<_> = (0..12).filter_map(seen).collect();
        assert!(seen.contains(&"raft"), "{seen:?}");
    }
}
