//! A replica that comes or goes: its group's members change, its node is told by the layout (`running::layout`).

use super::*;
use crate::raft::Configuration;

/// Whether a replica belongs where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    Here,
    /// It has no state yet, or gave up the one it had: a leader's takes its place.
    Joining,
    /// Its shard was moved away. It keeps its promises and nothing else.
    Retired,
}

impl Replica {
    /// A replica that was not here before; the table log has seen `generations` of an earlier one.
    pub(in super::super) fn joining(mut self, generations: u64) -> Self {
        self.stay = Stay::Joining;
        self.damage = Some(String::from("the replica is new: its state is on its way"));
        self.next_generation = Some(generations.max(1) + 1);
        self
    }

    pub(in super::super) fn is_retired(&self) -> bool {
        self.stay == Stay::Retired
    }

    /// The shard is moved back here before the node was booted again: what was promised still stands.
    pub(in super::super) fn return_back(&mut self) {
        assert!(self.is_retired(), "{:?} comes back and has not gone", self.group);
        self.stay = Stay::Joining;
    }

    /// A state was installed.
    pub(in super::super) fn settle_in(&mut self) {
        self.stay = Stay::Here;
    }

    /// Gives up the state: the shard was moved away.
    pub(in super::super) fn retire(&mut self, cx: &mut Cx<'_>) {
        if self.damage.is_none() {
            self.feed(raft::Input::StateDamaged, cx);
        }
        self.stay = Stay::Retired;
        self.damage = Some(String::from("the shard was moved to other nodes"));
        self.rubble.push(self.state.vacate().into_rubble());
        self.next_generation = None;
        self.unlogged_bytes = 0;
        self.audit.restart();
        self.outgoing.clear();
        self.incoming = None;
        let asked = core::mem::take(&mut self.asked);
        let confirming = core::mem::take(&mut self.confirming).into_values();
        let confirmed = core::mem::take(&mut self.confirmed).into_values();
        let awaiting = core::mem::take(&mut self.awaiting).into_values();
        let reads = confirming.chain(confirmed).chain(awaiting).flatten().chain(asked);
        // Who asked for a read index in vain asks again.
        let reads = reads.filter(|read| matches!(read.wants, Wants::Answer(_)));
        let reads = reads.map(|read| read.caller);
        let proposed = core::mem::take(&mut self.proposed).into_values();
        let fetching = core::mem::take(&mut self.fetching).into_values();
        let callers: Vec<Caller> = reads
            .chain(fetching.map(|(caller, _)| caller))
            .chain(proposed.map(|(_, caller)| caller))
            .collect();
        for caller in callers {
            cx.answer(self.group, caller, Reply::Again);
        }
        self.drain_near(cx);
        self.maybe_end_round(cx);
        self.go_on(cx);
    }

    /// Whether no other replica has a part in what this one decides.
    pub(super) fn is_alone(&self) -> bool {
        self.raft.configuration().members.len() == 1
    }

    /// Whether the group's log knows of this change of the layout, or of a later one.
    pub(in super::super) fn follows(&self, change: u64) -> bool {
        let planted = self.seat.planted.is(Bug::OlderWish);
        let wish = self.raft.configuration().wish;
        if planted { wish == change } else { wish >= change }
    }

    /// By this change of the layout these shall be the voters of the group, which this replica leads.
    pub(in super::super) fn follow(&mut self, change: u64, voters: Vec<NodeId>, cx: &mut Cx<'_>) {
        let id = self.fresh_id();
        self.feed(raft::Input::ChangeVoters { id, wish: change, voters }, cx);
    }

    /// Whether it has applied the end of this change of the layout, and has looked for every chunk that was named before.
    pub(in super::super) fn holds_all(&self, change: u64) -> bool {
        if self.damage.is_some() || self.is_installing() || !self.audit.is_done() {
            return false;
        }
        let founding: Vec<NodeId> = self.seat.roster.voters.iter().map(|it| it.node).collect();
        let members = members::of(&self.state, &founding);
        let there = |it: Configuration| it.is_steady() && it.wish == change;
        members.is_some_and(there) && self.raft.status().standing == raft::Standing::Full
    }
}
