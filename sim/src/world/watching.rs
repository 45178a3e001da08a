//! How nodes are looked at from outside, while they run and at the end.

use super::*;
use ironseed_core::node::message::Head;
use ironseed_core::raft::{AppendOutcome, Body};

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
        let at = group.0 as usize;
        if slot.looked.len() <= at {
            slot.looked.resize(at + 1, None);
        }
        if slot.looked[at].replace((position, hash)) == Some((position, hash)) {
            return;
        }
        let (now, id) = (self.now, slot.id);
        let violation = self.oracles.on_state(now, id, group, position, hash);
        if let Some(violation) = violation {
            self.violate(violation);
        }
        self.watch_prey(node, group, position.index);
    }

    /// What a follower acknowledges as equal is equal to what the leader has: of whoever leads that term the log is
    /// asked. Without it a wrong acknowledgement shows only when something is committed by it and lost.
    pub(super) fn check_match(&mut self, follower: usize, message: &PeerMessage) {
        let Head::Raft(messages) = &message.head else { return };
        if !self.setup.syncs_always() || self.setup.shards > CLOSELY_WATCHED_SHARDS_MAX {
            return;
        }
        for (group, message) in messages {
            let Body::AppendReply { outcome: AppendOutcome::Matched { match_index }, counts: true } =
                &message.body
            else {
                continue;
            };
            let slot = &self.slots[follower];
            let state = slot.machine.as_ref().and_then(|machine| machine.state_of(*group));
            // What the state has in it is committed, and what the log had there may be of before.
            if state.is_none_or(|(applied, _)| applied.index >= *match_index) {
                continue;
            }
            let at = self.oracles.durable.entry(slot.id, *group, *match_index);
            let leader = self.oracles.leads_still(*group, message.term);
            let leader = leader.and_then(|id| self.slots.iter().find(|slot| slot.id == id));
            let machine = leader.and_then(|leader| leader.machine.as_ref());
            let (Some(at), Some(machine)) = (at, machine) else { continue };
            // What a later leader has put there since is not what was acknowledged.
            if at.term > message.term {
                continue;
            }
            if machine.holds_entry(*group, at) == Some(false) {
                let what = format!(
                    "{:?} acknowledges {at:?} of {group:?}, which the leader of {:?} has not",
                    slot.id, message.term
                );
                return self.violate(Violation::new("raft", self.now, what));
            }
        }
    }

    /// The last committed entries of the groups that a message has entries for, as far as this node has them.
    pub(super) fn committed_held(
        &self,
        node: usize,
        message: &PeerMessage,
    ) -> Vec<(GroupId, Position)> {
        let Head::Raft(messages) = &message.head else { return Vec::new() };
        if !self.setup.syncs_always() || self.slots[node].paused.is_some() {
            return Vec::new();
        }
        let Some(machine) = &self.slots[node].machine else { return Vec::new() };
        let appends =
            |body: &Body| matches!(body, Body::Append { entries, .. } if !entries.is_empty());
        let mut held = Vec::new();
        for (group, _) in messages.iter().filter(|(_, message)| appends(&message.body)) {
            let newest = self.oracles.newest(*group);
            let holds = |entry: &Position| machine.holds_entry(*group, *entry) == Some(true);
            held.extend(newest.filter(holds).map(|entry| (*group, entry)));
        }
        held
    }

    /// What is committed is cut off no log that had it.
    pub(super) fn check_held(&mut self, node: usize, held: Vec<(GroupId, Position)>) {
        for (group, entry) in held {
            let machine = self.slots[node].machine.as_ref();
            if machine.and_then(|machine| machine.holds_entry(group, entry)) == Some(false) {
                let id = self.slots[node].id;
                let what = format!("{id:?} cuts {entry:?} of {group:?} off, which is committed");
                self.violate(Violation::new("raft", self.now, what));
            }
        }
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

    /// What every node tells of itself; one that doesn't run has not come far, and one with another disk that is never let
    /// in is none of them any more.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        let absent = |slot: &Slot<M>| Status { node: slot.id, ..Status::default() };
        let of = |slot: &Slot<M>| match &slot.machine {
            Some(machine) => machine.status(),
            None => Some(absent(slot)),
        };
        let members =
            self.slots.iter().enumerate().filter(|(node, _)| !self.replaced.is_out(*node));
        members.filter_map(|(_, slot)| of(slot)).collect()
    }
}
