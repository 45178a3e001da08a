//! How nodes are looked at from outside, while they run and at the end.

use super::*;

impl<M: Machine> World<M> {
    /// Looks at a group's state on every node.
    pub(super) fn compare(&mut self, group: GroupId) {
        (0..self.slots.len()).for_each(|node| self.look(node, group));
    }

    /// Looks at a group's state on one node, if it has moved since the last look.
    pub(super) fn look(&mut self, node: usize, group: GroupId) {
        let slot = &mut self.slots[node];
        let state = slot.machine.as_ref().and_then(|machine| machine.state_of(group));
        let Some((position, hash)) = state else { return };
        if slot.looked.insert(group, (position, hash)) == Some((position, hash)) {
            return;
        }
        let (now, id) = (self.now, slot.id);
        let violation = self.oracles.on_state(now, id, group, position, hash);
        if let Some(violation) = violation {
            self.violate(violation);
        }
        self.watch_prey(node, group, position.index);
    }

    /// What is left of blobs now. Of each shard the replica that is furthest says what is needed.
    #[must_use]
    pub fn leftovers(&self) -> Leftovers {
        let mut left = Leftovers::default();
        let machines = || self.slots.iter().filter_map(|slot| slot.machine.as_ref());
        for home in (0..self.setup.shards).map(ShardId) {
            let group = home.group();
            let furthest =
                machines().max_by_key(|machine| machine.state_of(group).map(|(at, _)| at));
            if let Some(table) = furthest.and_then(|machine| machine.table_of(group)) {
                left.add_table(home, table);
            }
        }
        for slot in &self.slots {
            left.add_node(slot.id, slot.machine.iter().flat_map(Machine::held_blobs));
        }
        left
    }

    /// What every node tells of itself; one that doesn't run has not come far, and one with another disk than it
    /// was founded with is none of them any more.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        let absent = |slot: &Slot<M>| Status { node: slot.id, ..Status::default() };
        let of = |slot: &Slot<M>| match &slot.machine {
            Some(machine) => machine.status(),
            None => Some(absent(slot)),
        };
        let members = self.slots.iter().enumerate().filter(|(node, _)| !self.replaced.has(*node));
        members.filter_map(|(_, slot)| of(slot)).collect()
    }
}
