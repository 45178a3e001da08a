//! A group under random misfortune: loss, delay, reordering, duplication, partitions, crashes that lose
//! unsynced writes, damaged payloads, lost promises, compaction at any moment. After every step what
//! figure 3 of the Raft paper promises is checked, and after healing the group must work again.

extern crate std;

use super::testing::{Cluster, Flight};
use super::{Input, Output, Payload, PersistId, Role, Standing, Status};
use crate::machine::Duration;
use crate::planted::Planted;
use crate::rng::Rng;
use crate::types::{Index, NodeId};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// One run: everything in it follows from its seed.
struct Run {
    cluster: Cluster,
    rng: Rng,
    /// Which nodes can't hear each other.
    cut: Vec<(NodeId, NodeId)>,
    /// Disks whose syncs don't always last: their nodes abstain after each crash.
    lax: bool,
    /// Voters come and go.
    restless: bool,
    /// The first node's disk may rot or forget: the others are enough at any time.
    victim: bool,
    /// Leaders are cut off with entries that nobody else has, again and again.
    stormy: bool,
    /// A leader was elected or committed something in the last step: a bad moment to lose it.
    fragile: bool,
    proposals: u64,
    /// Reads under way: what was applied anywhere when each began.
    reads: BTreeMap<u64, Index>,
    acknowledged: Index,
    /// What happened at all, so that a run that tests nothing is seen.
    counts: BTreeMap<&'static str, u64>,
}

impl Run {
    fn new(seed: u64, planted: Planted) -> Self {
        let mut rng = Rng::new(seed);
        let count = [1, 3, 3, 3, 5][usize::try_from(rng.below(5)).unwrap()];
        let lax = rng.chance(1, 4);
        let stormy = rng.chance(1, 3);
        let restless = rng.chance(1, 2);
        let mut cluster = Cluster::new(count, rng.next(), planted);
        let leased = rng.chance(1, 2);
        cluster.config.max_clock_drift_ppm = leased.then_some(50_000);
        // One entry an append, a few, or many.
        cluster.config.append_bytes_max = [1, 300, 4_096][usize::try_from(rng.below(3)).unwrap()];
        cluster.config.append_inflight_max = u32::try_from(rng.between(1, 8)).unwrap();
        for id in cluster.ids() {
            cluster.crash(id, 0);
            cluster.restart(id, Standing::Full); // with these settings
        }
        for id in count + 1..=if restless { 5 } else { count } {
            cluster.add(NodeId(id), Standing::Blank);
        }
        Self {
            cluster,
            stormy,
            restless,
            victim: count >= 3,
            fragile: false,
            rng,
            cut: Vec::new(),
            lax,
            proposals: 0,
            reads: BTreeMap::new(),
            acknowledged: Index(0),
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn any_node(&mut self) -> NodeId {
        let ids = self.cluster.ids();
        *self.rng.pick(&ids).unwrap()
    }

    fn any_live_node(&mut self) -> Option<NodeId> {
        let ids: Vec<NodeId> =
            self.cluster.ids().into_iter().filter(|id| self.cluster.is_up(*id)).collect();
        self.rng.pick(&ids).copied()
    }

    fn step(&mut self) {
        let chance = if core::mem::take(&mut self.fragile) { 20 } else { 1 };
        if self.stormy && self.rng.chance(chance, 60) {
            self.storm();
        }
        match self.rng.below(1000) {
            0..450 => self.deliver(),
            450..700 => self.sync(),
            700..850 => self.pass_time(),
            850..930 => self.propose(),
            930..955 => self.read(),
            955..962 => self.lose(),
            962..970 => self.compact(),
            970..976 => self.crash(),
            976..990 => self.restart(),
            990..993 => self.partition(),
            993..996 => self.cut.clear(),
            996 => self.transfer(),
            997 => self.change_voters(),
            _ => self.wake(),
        }
        self.observe();
        self.cluster.check_logs();
    }

    fn deliver(&mut self) {
        if self.cluster.net.is_empty() {
            return;
        }
        // Mostly in order, sometimes anything.
        let at =
            if self.rng.chance(3, 4) { 0 } else { self.rng.below(self.cluster.net.len() as u64) };
        let at = usize::try_from(at).unwrap();
        let flight = self.cluster.net[at].clone();
        if !self.rng.chance(1, 25) {
            self.cluster.net.remove(at); // else it will arrive again
        }
        self.arrive(flight);
    }

    fn arrive(&mut self, flight: Flight) {
        let Flight { from, to, .. } = flight;
        if self.cut.contains(&(from, to)) || self.rng.chance(1, 50) {
            self.cluster.lose(&flight);
        } else {
            self.cluster.deliver(flight);
        }
    }

    fn lose(&mut self) {
        if self.cluster.net.len() > 40 {
            let flights = core::mem::take(&mut self.cluster.net);
            flights.iter().for_each(|flight| self.cluster.lose(flight));
        }
    }

    fn sync(&mut self) {
        let id = self.any_node();
        let open: Vec<PersistId> =
            self.cluster.node(id).unsynced.iter().map(|(id, _)| *id).collect();
        if let (true, Some(upto)) = (self.cluster.is_up(id), self.rng.pick(&open).copied()) {
            self.cluster.sync(id, upto);
        }
    }

    fn pass_time(&mut self) {
        self.cluster.now = self.cluster.now + Duration::from_millis(self.rng.below(30));
        for id in self.cluster.ids() {
            if self.cluster.is_up(id)
                && self.cluster.group(id).deadline().is_some_and(|at| at <= self.cluster.now)
            {
                self.cluster.input(id, Input::Timer);
            }
        }
    }

    fn propose(&mut self) {
        let Some(id) = self.any_live_node() else { return };
        let id = self.cluster.leader().filter(|_| self.rng.chance(3, 4)).unwrap_or(id);
        self.proposals += 1;
        let command = format!("c{}", self.proposals).into_bytes().into();
        self.cluster.input(id, Input::Propose { id: self.proposals, command });
    }

    fn read(&mut self) {
        let Some(id) = self.any_live_node() else { return };
        let id = self.cluster.leader().filter(|_| self.rng.chance(3, 4)).unwrap_or(id);
        self.proposals += 1;
        self.reads.insert(self.proposals, self.acknowledged);
        self.cluster.input(id, Input::Read { id: self.proposals });
    }

    fn compact(&mut self) {
        let Some(id) = self.any_live_node() else { return };
        let status = self.cluster.group(id).status();
        if !status.damaged {
            let open = status.applied_index.0.saturating_sub(status.compacted.index.0);
            let upto = Index(status.compacted.index.0 + self.rng.below(open + 1));
            self.cluster.compact(id, upto);
        }
    }

    fn crash(&mut self) {
        let Some(id) = self.any_live_node() else { return };
        let open = self.cluster.node(id).unsynced.len() as u64;
        let kept = usize::try_from(self.rng.below(open + 1)).unwrap();
        self.cluster.crash(id, kept);
        self.count("crash");
    }

    /// Boots a node that is down; one victim's disk may have rotted meanwhile, or, where syncs don't
    /// last, forgotten its tail.
    fn restart(&mut self) {
        let id = self.any_node();
        if self.cluster.is_up(id) {
            return;
        }
        let victim = self.victim && id == NodeId(1);
        let mut standing = Standing::Full;
        if victim && self.lax {
            standing = self.forget(id);
        } else if victim && self.rng.chance(1, 2) {
            self.rot(id);
        }
        self.cluster.restart(id, standing);
        let incarnation = self.cluster.node(id).incarnation;
        for peer in self.cluster.ids() {
            self.cluster.input(peer, Input::PeerRestarted { node: id, incarnation });
        }
    }

    /// Loses a tail of the log and the vote, or everything.
    fn forget(&mut self, id: NodeId) -> Standing {
        self.count("forgot");
        let cut = self.rng.below(6);
        let empty = self.cluster.empty_machine(id);
        let node = self.cluster.node(id);
        if cut == 5 {
            node.store = super::testing::Store::default();
            (node.machine, node.saved) = (empty.clone(), empty);
            return Standing::Blank;
        }
        for _ in 0..cut {
            node.store.entries.pop();
        }
        let last = node.store.entries.last().map_or(node.store.compacted, |entry| entry.position);
        node.store.hard_state.term = last.term;
        node.store.hard_state.vote = None;
        Standing::Abstaining
    }

    fn rot(&mut self, id: NodeId) {
        let count = self.cluster.node(id).store.entries.len() as u64;
        if count > 0 {
            let at = usize::try_from(self.rng.below(count)).unwrap();
            let payload = &mut self.cluster.node(id).store.entries[at].payload;
            *payload = Payload::Lost { configures: payload.changes_members() };
            self.count("rot");
        }
    }

    fn partition(&mut self) {
        let (one, other) = (self.any_node(), self.any_node());
        match self.rng.below(3) {
            0 => self.cut.push((one, other)),
            1 => self.cut.extend([(one, other), (other, one)]),
            _ => {
                let peers = self.cluster.ids();
                self.cut.extend(peers.iter().flat_map(|peer| [(one, *peer), (*peer, one)]));
            }
        }
    }

    /// The leader takes an entry and is cut off; whoever was cut off before may be back.
    fn storm(&mut self) {
        let Some(leader) = self.cluster.leader() else { return };
        if self.rng.chance(1, 2) {
            self.propose();
        }
        self.cut.clear();
        (0..4).for_each(|_| self.restart());
        for peer in self.cluster.ids().into_iter().filter(|peer| *peer != leader) {
            self.cut.extend([(leader, peer), (peer, leader)]);
            self.cluster.input(peer, Input::PeerSuspected { node: leader });
        }
        if self.rng.chance(1, 2) {
            self.cluster.crash(leader, usize::MAX);
        }
        self.count("storm");
    }

    fn transfer(&mut self) {
        if let Some(id) = self.cluster.leader() {
            self.cluster.input(id, Input::TransferAway { prefer: None });
        }
    }

    /// Any voters, as long as the first node can be done without if its disk may forget.
    fn change_voters(&mut self) {
        if !self.restless {
            return;
        }
        let ids = self.cluster.ids();
        let voters: Vec<NodeId> = ids.into_iter().filter(|_| self.rng.chance(1, 2)).collect();
        let safe = !self.victim || !voters.contains(&NodeId(1)) || voters.len() >= 3;
        if let (Some(leader), false, true) = (self.cluster.leader(), voters.is_empty(), safe) {
            self.proposals += 1;
            let id = self.proposals;
            self.cluster.input(leader, Input::ChangeVoters { id, wish: id, voters });
        }
    }

    fn wake(&mut self) {
        let Some(id) = self.any_live_node() else { return };
        let node = self.any_node();
        match self.rng.below(8) {
            0..3 => self.cluster.input(id, Input::Wake),
            3 if node != id => self.cluster.input(id, Input::PeerFound { node }),
            4..7 if node != id => self.cluster.input(id, Input::PeerSuspected { node }),
            _ if id == NodeId(1) && self.victim => {
                self.count("damaged");
                self.cluster.input(id, Input::StateDamaged);
            }
            _ => {}
        }
    }

    /// Linearizability of reads, and what happened.
    fn observe(&mut self) {
        for (node, output) in core::mem::take(&mut self.cluster.seen) {
            match output {
                Output::Committed { upto } => {
                    self.acknowledged = self.acknowledged.max(upto);
                    self.fragile |= self.cluster.leader() == Some(node);
                }
                Output::ReadReady { id, index } => {
                    let floor = self.reads.remove(&id).unwrap();
                    assert!(
                        index >= floor,
                        "stale read at {index:?}, {floor:?} was visible before"
                    );
                    self.count("read");
                }
                Output::ReadRejected { id, .. } => {
                    self.reads.remove(&id).unwrap();
                }
                Output::Role { role: Role::Leader, .. } => {
                    self.fragile = true;
                    self.count("leader");
                }
                Output::WantSnapshot { .. } => self.count("snapshot"),
                Output::Readmitted => self.count("readmitted"),
                Output::Trace(super::Event::Repaired { .. }) => self.count("repaired"),
                Output::Trace(super::Event::GaveUp { .. }) => self.count("gave up"),
                Output::Trace(super::Event::Quiesced) => self.count("quiesced"),
                Output::Trace(super::Event::Truncated { .. }) => self.count("truncated"),
                Output::Trace(super::Event::Unanimous { .. }) => self.count("unanimous"),
                Output::Trace(super::Event::Expelled) => self.count("expelled"),
                Output::Trace(super::Event::ReadByLease) => self.count("leased"),
                _ => {}
            }
        }
    }

    /// No more faults: then everyone must agree on something new, and go quiet.
    fn heal(&mut self) {
        self.cut.clear();
        for id in self.cluster.ids() {
            if !self.cluster.is_up(id) {
                let victim = self.lax && self.victim && id == NodeId(1);
                let standing = if victim { self.forget(id) } else { Standing::Full };
                self.cluster.restart(id, standing);
                let incarnation = self.cluster.node(id).incarnation;
                for peer in self.cluster.ids() {
                    self.cluster.input(peer, Input::PeerRestarted { node: id, incarnation });
                }
            }
            self.cluster.input(id, Input::Wake);
        }
        let mut marker = None;
        for round in 0..600 {
            self.settle();
            if let (Some(leader), None) = (self.cluster.leader(), marker) {
                self.cluster.input(leader, Input::Propose { id: 0, command: "m".into() });
                marker = Some(self.cluster.group(leader).status().last.index);
            }
            self.observe();
            let Some(leader) = self.cluster.leader() else { continue };
            let configuration = self.cluster.group(leader).configuration().clone();
            let members = configuration.members.iter().map(|member| member.node);
            let statuses = members.map(|id| self.cluster.group(id).status());
            let same = |status: &Status| status.configuration == configuration;
            let quiet = configuration.is_steady()
                && statuses.clone().all(|it| it.quiet && it.lost == 0 && same(&it));
            if quiet && statuses.clone().all(|status| Some(status.applied_index) >= marker) {
                if !configuration.founding {
                    self.count("changed");
                }
                return;
            }
            if quiet || round == 200 {
                marker = None; // it was refused, or went to a leader that was deposed: once more
            }
        }
        let all = self.cluster.ids();
        let states: Vec<_> = all.iter().map(|id| self.cluster.group(*id).status()).collect();
        panic!("the group doesn't recover: {states:#?}");
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            self.cluster.ids().into_iter().for_each(|id| self.cluster.sync_all(id));
            let flights = core::mem::take(&mut self.cluster.net);
            if flights.is_empty() {
                break;
            }
            flights.into_iter().for_each(|flight| self.cluster.deliver(flight));
        }
        self.pass_time();
    }
}

fn run(seed: u64, steps: u32, planted: Planted) -> BTreeMap<&'static str, u64> {
    let mut run = Run::new(seed, planted);
    for _ in 0..steps {
        run.step();
    }
    run.heal();
    run.counts
}

/// How many seeds to run: more than the default when looking for trouble.
#[expect(clippy::disallowed_methods, reason = "how long to search is no setting of the machine")]
fn seeds(default: u64) -> u64 {
    std::env::var("RAFT_SEEDS").map_or(default, |count| count.parse().unwrap())
}

#[test]
fn figure_3_holds_and_the_group_recovers_whatever_happens() {
    let mut total: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..seeds(200) {
        std::eprintln!("seed {seed}"); // shown if the run fails
        for (what, count) in run(seed, 2_500, Planted::NONE) {
            *total.entry(what).or_default() += count;
        }
    }
    std::eprintln!("{total:?}");
    // A run in which nothing happens proves nothing.
    let rare = ["crash", "forgot", "leader", "quiesced", "read", "readmitted", "repaired", "rot"];
    for what in rare.into_iter().chain([
        "snapshot",
        "truncated",
        "damaged",
        "expelled",
        "changed",
        "leased",
    ]) {
        assert!(total.get(what).is_some_and(|count| *count >= 3), "too few: {what} in {total:?}");
    }
}

/// How we know that these checks see anything: with each bug planted some seed must fail.
#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_seen() {
    use crate::planted::Bug;
    let quiet = std::panic::take_hook();
    std::panic::set_hook(std::boxed::Box::new(|_| {}));
    let bugs = [
        Bug::CommitEarlierTerm,
        Bug::AcknowledgeBeforeSync,
        Bug::ReadWithoutQuorum,
        Bug::JointNewOnly,
        Bug::SnapshotWithoutMembers,
    ];
    let found = bugs.map(|bug| {
        let fails = |seed: &u64| {
            std::panic::catch_unwind(|| run(*seed, 2_500, Planted::with(bug))).is_err()
        };
        (bug, (0..seeds(20_000)).find(fails))
    });
    std::panic::set_hook(quiet);
    std::eprintln!("{found:?}");
    assert!(found.iter().all(|(_, seed)| seed.is_some()), "not seen: {found:?}");
}
