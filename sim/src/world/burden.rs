//! Burdens: whoever leads a group has a disk that lags far behind those of the others, and a part of the others
//! does not hear from it.
//!
//! A leader may send what its own disk has not got yet, and is only one of those that count. Where it is mistaken
//! about itself, followers with better disks commit on its word, and that is seen only while so few of them
//! have the entry that each copy counts. Slow disks and cuts that are drawn independently rarely meet there.

use super::{Machine, World};
use crate::draw::{Domain, Draw};
use crate::faults::{Fault, Planned};
use crate::stats::Stats;
use crate::trace::Kind;
use ironseed_core::types::{GroupId, NodeId};

/// A burden under way.
#[derive(Debug)]
pub(super) struct Burden {
    /// The fault's number in the plan.
    number: usize,
    group: GroupId,
    /// How many times as long the leader's disk takes.
    times: u64,
    /// Leaders so far.
    round: u64,
    on: Option<Load>,
}

/// What a leader has to bear.
#[derive(Debug)]
struct Load {
    leader: usize,
    /// Who does not hear from it.
    deaf: Vec<NodeId>,
    since: u64,
}

impl<M: Machine> World<M> {
    /// A burden begins: with the leader of now, if there is one.
    pub(super) fn begin_burden(&mut self, number: usize, group: GroupId, times: u64) {
        self.burdens.push(Burden { number, group, times, round: 0, on: None });
        if let Some(leader) = self.led.get(&group).copied() {
            self.burden(leader, group);
        }
    }

    /// A node has begun to lead this group: it is the one that bears from now on.
    pub(super) fn burden(&mut self, leader: usize, group: GroupId) {
        for at in 0..self.burdens.len() {
            if self.burdens[at].group == group {
                self.unburden(at);
                self.load(at, leader);
            }
        }
    }

    fn load(&mut self, at: usize, leader: usize) {
        let id = self.slots[leader].id;
        let burden = &mut self.burdens[at];
        burden.round += 1;
        let name = [97, self.plan[burden.number].at, burden.round];
        let mut deaf: Vec<NodeId> =
            self.setup.nodes.iter().copied().filter(|node| *node != id).collect();
        Draw::new(self.setup.seed, Domain::Faults, &name).shuffle(&mut deaf);
        // As many as a quorum can do without.
        deaf.truncate(deaf.len() / 2);
        let (number, round, times) = (burden.number, burden.round, burden.times);
        let line = || format!("burden {number} is on {id:?}, and {deaf:?} do not hear it");
        self.tracer.event(self.now, Kind::Fault, &[number as u64, round, leader as u64], line);
        Stats::count(&mut self.stats.rare, "leader-burdened", 1);
        self.slots[leader].disk.slow(times);
        for node in &deaf {
            self.network.cut(id, *node);
        }
        self.burdens[at].on = Some(Load { leader, deaf, since: self.now });
    }

    /// Takes the load from whoever bears it, and remembers it as the faults that it was.
    fn unburden(&mut self, at: usize) {
        let Some(load) = self.burdens[at].on.take() else { return };
        let id = self.slots[load.leader].id;
        self.slots[load.leader].disk.slow(1);
        for node in &load.deaf {
            self.network.mend(id, *node);
        }
        self.note_load(at, &load);
    }

    fn note_load(&mut self, at: usize, load: &Load) {
        let Burden { number, times, .. } = self.burdens[at];
        let node = self.slots[load.leader].id.0;
        let lasts = self.now - load.since;
        let to = load.deaf.iter().map(|node| node.0).collect();
        let cut = Fault::Cut { from: vec![node], to, both_ways: false, lasts };
        for fault in [Fault::DiskSlow { node, times, lasts }, cut] {
            self.derived.push((number, Planned { at: load.since, fault }));
        }
    }

    /// A burden is over.
    pub(super) fn end_burden(&mut self, number: usize) {
        if let Some(at) = self.burdens.iter().position(|burden| burden.number == number) {
            self.unburden(at);
            self.burdens.swap_remove(at);
        }
    }

    /// Everything heals, and all burdens are over.
    pub(super) fn end_burdens(&mut self) {
        while let Some(number) = self.burdens.first().map(|burden| burden.number) {
            self.end_burden(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::faults::Class;
    use crate::run::{Order, Report, run};
    use crate::setup::Overrides;
    use ironseed_core::planted::Planted;

    fn burdened(seed: u64, planted: Planted) -> Report {
        let overrides = Overrides {
            nodes: Some(3),
            shards: Some(1),
            millis: Some(3_000),
            faults: Some(vec![Class::Burden]),
            ..Overrides::default()
        };
        run(&Order { overrides, planted, ..Order::new(seed) }, None)
    }

    #[test]
    fn leaders_with_slow_disks_lose_nothing() {
        let mut burdened_leaders = 0;
        for seed in 0..6 {
            let report = burdened(seed, Planted::NONE);
            assert_eq!(report.violation, None, "seed {seed}");
            let count = report.stats.rare.get("leader-burdened");
            burdened_leaders += count.copied().unwrap_or(0);
        }
        assert!(burdened_leaders > 6, "{burdened_leaders} leaders in six runs");
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn a_leader_that_counts_itself_before_its_sync_is_seen_at_a_follower() {
        let planted = Planted::with(ironseed_core::planted::Bug::LeaderCountsUnsynced);
        let seen = |seed| burdened(seed, planted).violation.map(|violation| violation.checker);
        let seen: Vec<_> = (0..12).filter_map(seen).collect();
        assert!(seen.contains(&"durable"), "{seen:?}");
    }
}
