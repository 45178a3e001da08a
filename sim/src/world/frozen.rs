//! A core that must go on alone: when everything heals, some nodes stay as a disaster left them, and the others
//! owe all answers without them. What only works because the last node comes back some day is no
//! progress: a leader that nobody can reach and who does not step down looks well until then.

use super::*;
use crate::setup::Frozen;

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

    /// Whether the others have leaders that have no reason to change. They have one where leaders are made to go, where
    /// a replica is damaged or does not count, where a heartbeat may take as long as followers wait, and where one of the
    /// rest has gone on to a later term. Who is down may have.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        let forced = self.setup.points.keys().any(|point| point.moves_leaders());
        let is_well = |node: &Slot<M>| {
            let status = node.machine.as_ref().and_then(M::status);
            let groups = status.into_iter().flat_map(|status| status.groups);
            groups
                .into_iter()
                .all(|it| !it.abstaining && it.damaged.is_none() && it.entries_lost == 0)
        };
        let delay = self.setup.weather.delay * SLOWEST;
        let in_time = (delay + self.setup.tuning.heartbeat.0) * 2 < self.setup.tuning.election.0;
        let terms = |frozen: bool| {
            let slots =
                self.slots.iter().enumerate().filter(move |(at, _)| self.is_frozen(*at) == frozen);
            let statuses = slots.filter_map(|(_, slot)| slot.machine.as_ref()?.status());
            let mut terms = BTreeMap::new();
            for group in statuses.flat_map(|status| status.groups) {
                let term: &mut Term = terms.entry(group.group).or_default();
                *term = group.term.max(*term);
            }
            terms
        };
        let (ours, theirs) = (terms(false), terms(true));
        let behind = theirs.iter().all(|(group, term)| ours.get(group) >= Some(term));
        let down = self.frozen.iter().any(|node| !self.slots[*node].is_up());
        let core = self.slots.iter().enumerate().filter(|(at, _)| !self.is_frozen(*at));
        !forced
            && in_time
            && behind
            && !down
            && !self.frozen.is_empty()
            && core.map(|(_, slot)| slot).all(is_well)
    }

    /// From now on elections are counted.
    pub fn count_elections(&mut self) {
        self.elections.clear();
    }

    /// Groups that got a new leader since then.
    #[must_use]
    pub fn elected_anew(&self) -> Vec<GroupId> {
        self.elections.keys().copied().collect()
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
