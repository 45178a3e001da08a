//! A core that must go on alone: when everything heals, some nodes stay as a disaster left them, and the others
//! owe all answers without them. What only works because the last node comes back some day is no
//! progress: a leader that nobody can reach and who does not step down looks well until then.

use super::*;
use crate::setup::Frozen;

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
