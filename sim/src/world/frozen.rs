//! A core that must go on alone: when everything heals, some nodes stay as a disaster left them, and the others
//! owe all answers without them. What only works because the last node comes back some day is no
//! progress: a leader that nobody can reach and who does not step down looks well until then.

use super::*;
use crate::setup::Frozen;
use ironseed_core::node::status::GroupStatus;

/// The slowest messages take so many times the typical delay.
const SLOWEST: u64 = 100;

impl<M: Machine> World<M> {
    /// Freezes this run's rest, if it has one. To be called when everything has healed.
    ///
    /// Nodes that are no cluster yet need every founding member for becoming one: only once somebody among the
    /// others is a member can they go on without the rest.
    pub fn freeze(&mut self) {
        let Some(rest) = self.setup.rest.clone() else { return };
        let is_member = |machine: &M| machine.status().is_none_or(|of| of.cluster.is_some());
        let core = self.slots.iter().filter(|slot| !rest.nodes.contains(&slot.id));
        if !core.filter_map(|slot| slot.machine.as_ref()).any(is_member) {
            return;
        }
        let node = |id: &NodeId| self.slots.iter().position(|slot| slot.id == *id);
        self.frozen = rest.nodes.iter().filter_map(node).collect();
        let line = || format!("{:?} stay {:?}, the others go on alone", rest.nodes, rest.how);
        self.tracer.event(self.now, Kind::Phase, &[5, rest.how as u64], line);
        for node in self.frozen.clone() {
            if rest.how == Frozen::Down && self.slots[node].is_up() {
                self.slots[node].disk.kill(self.now);
                // Its boot is held back until the thaw.
                self.fall(node, self.now + 1, "is killed");
            }
            let hears = !matches!(rest.how, Frozen::Deaf | Frozen::Isolated);
            let speaks = !matches!(rest.how, Frozen::Mute | Frozen::Isolated);
            let me = self.slots[node].id;
            for other in self.setup.nodes.iter().filter(|other| **other != me) {
                if !hears {
                    self.network.cut(*other, me);
                }
                if !speaks {
                    self.network.cut(me, *other);
                }
            }
        }
    }

    /// Whether a node is left out.
    pub(super) fn is_frozen(&self, node: usize) -> bool {
        self.frozen.contains(&node)
    }

    /// Whether the others have leaders that have no reason to change. They have one where leaders are made to go still (that is over when everything
    /// was to heal at the latest, and it may have healed before), where
    /// a replica is damaged or does not count, where a shard is on its way, where somebody knows of no leader (a slow link has just cost one), where a heartbeat may take as long as followers wait, and where one of the
    /// rest has gone on to a later term. Who is down may have.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        let forced = self.setup.points.keys().any(|point| point.moves_leaders())
            && self.now < self.setup.duration;
        let delay = self.setup.weather.delay * SLOWEST;
        let in_time = (delay + self.setup.tuning.heartbeat.0) * 2 < self.setup.tuning.election.0;
        let down = self.frozen.iter().any(|node| !self.slots[*node].is_up());
        if self.frozen.is_empty() || forced || !in_time || down {
            return false;
        }
        let moving = |slot: &Slot<M>| {
            let status = slot.machine.as_ref().and_then(Machine::status);
            status.is_some_and(|status| !status.moving.is_empty())
        };
        // Who leads a shard that leaves hands it over.
        if self.slots.iter().any(moving) {
            return false;
        }
        let is_well = |of: &GroupStatus| {
            let counts = !of.abstaining && of.damaged.is_none() && of.entries_lost == 0;
            counts && of.leader.is_some()
        };
        let terms = self.groups_of(false).fold(BTreeMap::new(), |mut terms, of| {
            let term: &mut Term = terms.entry(of.group).or_default();
            *term = of.term.max(*term);
            terms
        });
        self.groups_of(false).all(|of| is_well(&of))
            && self.groups_of(true).all(|of| terms.get(&of.group) >= Some(&of.term))
    }

    /// All groups on the nodes that are frozen, or on the others.
    fn groups_of(&self, frozen: bool) -> impl Iterator<Item = GroupStatus> {
        let slots = self.slots.iter().enumerate();
        slots
            .filter(move |(node, _)| self.is_frozen(*node) == frozen)
            .filter_map(|(_, slot)| slot.machine.as_ref()?.status())
            .flat_map(|status| status.groups)
    }

    /// From now on it is noted which groups elect.
    pub fn watch_elections(&mut self) {
        self.elected.clear();
    }

    /// Groups that got a new leader since then.
    #[must_use]
    pub fn elected_anew(&self) -> Vec<GroupId> {
        self.elected.iter().copied().collect()
    }

    /// The others have gone on without them: the rest comes back. Returns whether there was any.
    pub fn thaw(&mut self) -> bool {
        if self.frozen.is_empty() {
            return false;
        }
        Stats::count(&mut self.stats.rare, "core-went-on-alone", 1);
        self.tracer.event(self.now, Kind::Phase, &[6], || "the rest comes back".into());
        self.network.heal();
        for node in core::mem::take(&mut self.frozen) {
            self.slots[node].up_at = self.now;
            if !self.slots[node].is_up() {
                let boot = self.slots[node].boot;
                self.schedule(1, Event::Boot { node, boot });
            }
        }
        true
    }
}

#[cfg(all(test, feature = "planted-bugs"))]
mod tests {
    use crate::run::{Order, run};
    use ironseed_core::planted::{Bug, Planted};

    /// Row 17 costs a healthy cluster its leaders, and no progress: only who watches the leaders sees it.
    #[test]
    fn who_comes_back_and_unseats_a_leader_is_seen() {
        let planted = Planted::with(Bug::PreVoteDisrupts);
        let seen = (1..).find_map(|seed| {
            let order = Order { planted, ..Order::new(seed) };
            run(&order, None).violation.filter(|violation| violation.what.contains("unseated"))
        });
        assert_eq!(seen.map(|violation| violation.checker), Some("liveness"));
    }
}
