//! A group in a box for tests: real replicas, a disk each that loses what wasn't synced, a net that a
//! test moves by hand, and the checks that hold after every step whatever happens.

use super::{
    Body, Config, Configuration, Entry, Group, HardState, Input, Message, Output, Payload,
    PersistId, Restored, Standing, Write,
};
use crate::machine::{Duration, Instant};
use crate::planted::Planted;
use crate::rng::Rng;
use crate::types::{GroupId, Incarnation, Index, NodeId, Position, Term};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

/// What a disk holds: the replay of every durable write.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) hard_state: HardState,
    pub(super) compacted: Position,
    pub(super) configuration: Option<Configuration>,
    pub(super) entries: Vec<Entry>,
}

impl Store {
    fn last(&self) -> Position {
        self.entries.last().map_or(self.compacted, |entry| entry.position)
    }

    pub(super) fn replay(&mut self, write: &Write) {
        match write {
            Write::HardState(hard_state) => {
                assert!(hard_state.term >= self.hard_state.term, "the term fell on disk");
                let revoted = hard_state.term == self.hard_state.term
                    && self.hard_state.vote.is_some()
                    && hard_state.vote != self.hard_state.vote;
                assert!(!revoted, "a second vote in {:?}", hard_state.term);
                self.hard_state = *hard_state;
            }
            Write::Append(entry) => {
                assert_eq!(entry.position.index, self.last().index.next(), "a gap on disk");
                assert!(!entry.payload.is_lost(), "damage is never written");
                self.entries.push(entry.clone());
            }
            Write::Repair(entry) => {
                let old = self.entries.iter_mut().find(|old| old.position == entry.position);
                old.unwrap().payload = entry.payload.clone();
            }
            Write::Truncate { from } => {
                assert!(*from > self.compacted.index && *from <= self.last().index, "empty cut");
                self.entries.retain(|entry| entry.position.index < *from);
            }
            Write::Compacted { position, configuration } => {
                let known = [self.compacted, self.last()].contains(position)
                    || self.entries.iter().any(|entry| entry.position == *position);
                assert!(
                    known,
                    "{position:?} is not in the log on disk, which ends at {:?}",
                    self.last()
                );
                self.entries.retain(|entry| entry.position.index > position.index);
                (self.compacted, self.configuration) = (*position, Some(configuration.clone()));
            }
            Write::Reset { position, configuration } => {
                self.entries.clear();
                (self.compacted, self.configuration) = (*position, Some(configuration.clone()));
            }
        }
    }
}

/// The state above a replica: how far it is, and a hash of everything applied in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) applied: Position,
    pub(super) hash: u32,
    /// The last one applied, or the founding one. Nothing before the first state of a node that came later.
    configuration: Option<Configuration>,
}

impl Machine {
    fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.position.index, self.applied.index.next(), "applied out of order");
        assert!(!entry.payload.is_lost(), "applied a damaged entry");
        let mut hasher = crc32fast::Hasher::new_with_initial(self.hash);
        hasher.update(&crate::codec::encode(entry));
        self.applied = entry.position;
        self.hash = hasher.finalize();
        if let Payload::Configure(configuration) = &entry.payload {
            self.configuration = Some((**configuration).clone());
        }
    }
}

/// What travels between nodes.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Raft(Message),
    Snapshot { term: Term, machine: Machine, configuration: Configuration },
}

#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) packet: Packet,
}

/// One node: `group` is `None` while it is down.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) group: Option<Group>,
    pub(super) store: Store,
    pub(super) unsynced: VecDeque<(PersistId, Vec<Write>)>,
    gated: Vec<(PersistId, Flight)>,
    durable: PersistId,
    pub(super) machine: Machine,
    /// What a crash leaves of `machine`.
    pub(super) saved: Machine,
    pub(super) incarnation: Incarnation,
}

/// Several nodes and what is between them.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) now: Instant,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) net: Vec<Flight>,
    /// Outputs that a client or an operator sees, and role changes, since they were last taken.
    pub(super) seen: Vec<(NodeId, Output)>,
    /// Of every node but for who it is.
    pub(super) config: Config,
    rng: Rng,
    /// Who led each term: election safety.
    leaders: BTreeMap<Term, NodeId>,
    /// What was applied at each index: state machine safety.
    pub(super) applied: BTreeMap<Index, Machine>,
    /// Entries that were applied anywhere, and in which term that was first: leader completeness.
    committed: BTreeMap<Index, (Position, Term)>,
}

impl Cluster {
    pub(super) fn new(count: u32, seed: u64, planted: Planted) -> Self {
        Self::leased(count, seed, planted, None)
    }

    /// With leases, if it is said how far clocks drift. Here they show one time.
    pub(super) fn leased(count: u32, seed: u64, planted: Planted, drift: Option<u32>) -> Self {
        let voters: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let config = Config {
            me: NodeId(1),
            group: GroupId(1),
            incarnation: Incarnation(1),
            voters: voters.clone(),
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(400),
            quiesce_after: Duration::from_secs(2),
            append_bytes_max: 300,
            append_inflight_max: 4,
            max_clock_drift_ppm: drift,
            planted,
        };
        let mut cluster = Self {
            now: Instant(0),
            nodes: BTreeMap::new(),
            net: Vec::new(),
            seen: Vec::new(),
            config,
            rng: Rng::new(seed),
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            committed: BTreeMap::new(),
        };
        for node in voters {
            cluster.add(node, Standing::Full);
        }
        cluster
    }

    /// A node with an empty disk. One that the group was not founded with is [`Standing::Blank`] and knows of nobody.
    pub(super) fn add(&mut self, node: NodeId, standing: Standing) {
        let machine = self.empty_machine(node);
        let empty = Node {
            group: None,
            store: Store::default(),
            unsynced: VecDeque::new(),
            gated: Vec::new(),
            durable: PersistId(0),
            machine: machine.clone(),
            saved: machine,
            incarnation: Incarnation(0),
        };
        assert!(self.nodes.insert(node, empty).is_none(), "{node:?} is there");
        self.restart(node, standing);
    }

    /// The state of a node with an empty disk.
    pub(super) fn empty_machine(&self, node: NodeId) -> Machine {
        let founding = &self.config.voters;
        let founds = founding.contains(&node);
        let configuration = founds.then(|| Configuration::founding(founding));
        Machine { configuration, ..Machine::default() }
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub(super) fn group(&self, id: NodeId) -> &Group {
        self.nodes[&id].group.as_ref().unwrap()
    }

    pub(super) fn is_up(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.group.is_some())
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        let leads = |id: &NodeId| self.is_up(*id) && self.group(*id).role() == super::Role::Leader;
        self.ids().into_iter().filter(leads).max_by_key(|id| self.group(*id).term())
    }

    /// Boots a node from what its disk holds.
    pub(super) fn restart(&mut self, id: NodeId, standing: Standing) {
        let mut config = self.config.clone();
        let rng = self.rng.fork();
        let now = self.now;
        let node = self.node(id);
        assert!(node.group.is_none(), "{id:?} is up");
        node.incarnation = node.incarnation.next();
        (config.me, config.incarnation) = (id, node.incarnation);
        if !config.voters.contains(&id) {
            config.voters.clear();
        }
        let restored = Restored {
            hard_state: node.store.hard_state,
            compacted: node.store.compacted,
            configuration: node.store.configuration.clone(),
            entries: node.store.entries.clone(),
            applied: node.saved.applied,
            applied_configuration: node.saved.configuration.clone(),
            standing,
        };
        node.machine = node.saved.clone();
        node.durable = PersistId(0);
        node.group = Some(Group::new(config, restored, now, rng));
    }

    /// Takes a node down. Of its unsynced persists the first `kept` survive.
    pub(super) fn crash(&mut self, id: NodeId, kept: usize) {
        let node = self.node(id);
        node.group = None;
        for (_, writes) in node.unsynced.drain(..).take(kept) {
            writes.iter().for_each(|write| node.store.replay(write));
        }
        node.gated.clear();
    }

    /// Feeds one input to a node that is up, and does what it asks for.
    pub(super) fn input(&mut self, id: NodeId, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            let now = self.now;
            let Some(group) = &mut self.node(id).group else { return };
            group.step(now, input, &mut out);
            for output in out {
                self.output(id, output, &mut inputs);
            }
        }
        self.check_leader(id);
    }

    fn output(&mut self, id: NodeId, output: Output, inputs: &mut VecDeque<Input>) {
        self.seen.push((id, output.clone()));
        match output {
            Output::Persist { id: persist, writes } => {
                self.node(id).unsynced.push_back((persist, writes));
            }
            Output::Send { to, message, after } => {
                let flight = Flight { from: id, to, packet: Packet::Raft(message) };
                let node = self.node(id);
                match after.filter(|gate| *gate > node.durable) {
                    Some(gate) => node.gated.push((gate, flight)),
                    None => self.net.push(flight),
                }
            }
            Output::Committed { upto } => {
                let node = self.node(id);
                let group = node.group.as_ref().unwrap();
                let from = node.machine.applied.index.next();
                let entries: Vec<Entry> = group.entries(from, 10_000).cloned().collect();
                for entry in entries.iter().take_while(|entry| entry.position.index <= upto) {
                    self.node(id).machine.apply(entry);
                    self.check_applied(id);
                }
                assert_eq!(
                    self.nodes[&id].machine.applied.index, upto,
                    "not all entries were there"
                );
                inputs.push_back(Input::Applied { index: upto });
            }
            Output::WantSnapshot { to } => {
                let node = &self.nodes[&id];
                let group = node.group.as_ref().unwrap();
                let configuration = group.configuration_at(node.machine.applied.index);
                assert_eq!(node.machine.configuration.as_ref(), Some(&configuration));
                let machine = node.machine.clone();
                let packet = Packet::Snapshot { term: group.term(), machine, configuration };
                self.net.push(Flight { from: id, to, packet });
            }
            _ => {}
        }
    }

    /// Everything that a node has asked to be made durable through `persist` is.
    pub(super) fn sync(&mut self, id: NodeId, persist: PersistId) {
        let node = self.node(id);
        let mut done = None;
        while let Some((id, writes)) = node.unsynced.pop_front_if(|(id, _)| *id <= persist) {
            writes.iter().for_each(|write| node.store.replay(write));
            done = Some(id);
        }
        let Some(upto) = done else { return };
        node.durable = upto;
        let (open, closed) = node.gated.drain(..).partition(|(gate, _)| *gate <= upto);
        node.gated = closed;
        let open: Vec<(PersistId, Flight)> = open;
        self.net.extend(open.into_iter().map(|(_, flight)| flight));
        self.input(id, Input::Persisted { upto });
    }

    pub(super) fn sync_all(&mut self, id: NodeId) {
        self.sync(id, PersistId(u64::MAX));
    }

    /// Brings what is under way to its receiver.
    pub(super) fn deliver(&mut self, flight: Flight) {
        let Flight { from, to, packet } = flight;
        if !self.is_up(to) {
            return;
        }
        match packet {
            Packet::Raft(message) => {
                let bytes = crate::codec::encode(&message);
                assert_eq!(crate::codec::decode::<Message>(&bytes), Ok(message.clone()));
                self.input(to, Input::Message { from, message });
            }
            Packet::Snapshot { term, machine, configuration } => {
                let position = machine.applied;
                if self.group(to).wants_snapshot(position) {
                    let node = self.node(to);
                    (node.machine, node.saved) = (machine.clone(), machine);
                    self.input(to, Input::SnapshotInstalled { term, position, configuration });
                    self.check_applied(to);
                }
                self.input(from, Input::SnapshotSent { to, position });
            }
        }
    }

    /// Loses what is under way; a node notices when it was a snapshot.
    pub(super) fn lose(&mut self, flight: &Flight) {
        if matches!(flight.packet, Packet::Snapshot { .. }) {
            self.input(flight.from, Input::SnapshotFailed { to: flight.to });
        }
    }

    /// Makes the state of a node durable and lets it drop its log through `upto`.
    pub(super) fn compact(&mut self, id: NodeId, upto: Index) {
        let node = self.node(id);
        node.saved = node.machine.clone();
        self.input(id, Input::Compact { upto });
    }

    /// State machine safety (Raft figure 3): whatever any node applies at an index is the same.
    fn check_applied(&mut self, id: NodeId) {
        let machine = self.nodes[&id].machine.clone();
        let first = self.applied.entry(machine.applied.index).or_insert_with(|| machine.clone());
        assert_eq!(
            *first, machine,
            "state machine safety: {id:?} differs at {:?}",
            machine.applied
        );
        let term = self.group(id).term();
        self.committed.entry(machine.applied.index).or_insert((machine.applied, term));
    }

    /// Election safety and leader completeness (Raft figure 3).
    fn check_leader(&mut self, id: NodeId) {
        let Some(group) = &self.nodes[&id].group else { return };
        if group.role() != super::Role::Leader {
            return;
        }
        let known = *self.leaders.entry(group.term()).or_insert(id);
        assert_eq!(known, id, "election safety: two leaders in {:?}", group.term());
        let status = group.status();
        let earlier = self.committed.range(status.compacted.index.next()..);
        for (index, (wants, _)) in earlier.filter(|(_, (_, term))| *term < status.term) {
            let has = group.position_at(*index);
            assert_eq!(has, Some(*wants), "leader completeness: {id:?} in {:?}", status.term);
        }
    }

    /// Log matching (Raft figure 3): equal at one position means equal before it.
    pub(super) fn check_logs(&self) {
        let logs: Vec<(NodeId, BTreeMap<Index, &Entry>)> = self
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((*id, node.group.as_ref()?)))
            .map(|(id, group)| {
                let entries = group.entries(group.compacted().index.next(), usize::MAX);
                (id, entries.map(|entry| (entry.position.index, entry)).collect())
            })
            .collect();
        for (at, (one, left)) in logs.iter().enumerate() {
            for (other, right) in logs.iter().skip(at + 1) {
                let mut equal = false;
                for (index, entry) in left.iter().rev() {
                    let Some(twin) = right.get(index) else { continue };
                    let same = entry.position == twin.position;
                    assert!(same || !equal, "log matching: {one:?} and {other:?} at {index:?}");
                    equal |= same;
                    let whole = !entry.payload.is_lost() && !twin.payload.is_lost();
                    assert!(
                        !same || !whole || entry.payload == twin.payload,
                        "log matching: {index:?}"
                    );
                }
            }
        }
    }
}

/// Writes a message for people.
pub(super) fn describe(body: &Body) -> String {
    match body {
        Body::VoteRequest { pre, campaign, last, transfer } => {
            let kind = if *pre { "PreVote" } else { "Vote" };
            let transfer = if *transfer { " transfer" } else { "" };
            format!("{kind}? term={campaign} last={last:?}{transfer}")
        }
        Body::VoteReply { pre, campaign, ballot } => {
            format!("{} {ballot:?} term={campaign}", if *pre { "PreVote" } else { "Vote" })
        }
        Body::Append { prev, entries, commit_index } => {
            let entries: Vec<String> = entries.iter().map(describe_entry).collect();
            format!("Append prev={prev:?} [{}] commit={commit_index}", entries.join(" "))
        }
        Body::AppendReply { outcome, counts } => {
            let counts = if *counts { "" } else { " abstains" };
            match outcome {
                super::AppendOutcome::Matched { match_index } => {
                    format!("Matched {match_index}{counts}")
                }
                super::AppendOutcome::Mismatch { prev_index, hint } => {
                    format!("Mismatch at {prev_index} hint={hint:?}{counts}")
                }
            }
        }
        Body::Heartbeat { commit_index, last, round, quiesce, unanimous } => {
            let mut text = format!("Heartbeat round={round} last={last:?} commit={commit_index}");
            for (set, name) in [(quiesce, " quiesce"), (unanimous, " unanimous")] {
                text.push_str(if *set { name } else { "" });
            }
            text
        }
        Body::HeartbeatReply { round, match_index, counts, quiet, promise, .. } => {
            let mut text = format!("HeartbeatReply round={round} match={match_index}");
            for (set, name) in [(!counts, " abstains"), (*quiet, " quiet")] {
                text.push_str(if set { name } else { "" });
            }
            if *promise > Duration::ZERO {
                text.push_str(&format!(" promises={promise:?}"));
            }
            text
        }
        Body::PayloadRequest { position } => format!("Payload? {position:?}"),
        Body::PayloadReply { position, answer } => format!("Payload {position:?} {answer:?}"),
        other => format!("{other:?}"),
    }
}

/// Writes an entry for people.
pub(super) fn describe_entry(entry: &Entry) -> String {
    let payload = match &entry.payload {
        Payload::Noop => String::from("noop"),
        Payload::Command(command) => String::from_utf8_lossy(command).into_owned(),
        Payload::Configure(configuration) => describe_configuration(configuration),
        Payload::Lost { .. } => String::from("lost"),
    };
    format!("{:?}:{payload}", entry.position)
}

/// Writes a configuration for people: voters, then who else belongs to it and how, then what is wanted.
pub(super) fn describe_configuration(configuration: &Configuration) -> String {
    let mut text = format!("v{}(", configuration.version);
    for (at, member) in configuration.members.iter().enumerate() {
        let seat = match member.seat {
            super::Seat::Voter => "",
            super::Seat::Learner => "?",
            super::Seat::Incoming => "+",
            super::Seat::Outgoing => "-",
        };
        text.push_str(if at == 0 { "" } else { " " });
        text.push_str(&format!("{}{seat}", member.node.0));
        if member.readmitted > Incarnation(0) {
            text.push_str(&format!(":{:?}", member.readmitted));
        }
    }
    text.push(')');
    if let Some(target) = &configuration.target {
        let nodes: Vec<String> = target.iter().map(|node| format!("{}", node.0)).collect();
        text.push_str(&format!("=>{}", nodes.join(",")));
    }
    text
}

/// Writes a disk write for people.
pub(super) fn describe_write(write: &Write) -> String {
    match write {
        Write::HardState(HardState { term, vote, commit_index }) => {
            let vote = vote.map_or_else(|| String::from("-"), |node| format!("{node:?}"));
            format!("term={term},vote={vote},commit={commit_index}")
        }
        Write::Append(entry) => describe_entry(entry),
        Write::Repair(entry) => format!("repair {}", describe_entry(entry)),
        Write::Truncate { from } => format!("truncate {from}.."),
        Write::Compacted { position, .. } => format!("compacted {position:?}"),
        Write::Reset { position, .. } => format!("reset {position:?}"),
    }
}

/// The bytes of a message are refused, not misread, when they are cut or longer.
#[test]
fn messages_decode_exactly_or_not_at_all() {
    let position = Position { term: Term(3), index: Index(7) };
    let entries = vec![
        Entry { position, payload: Payload::Command(b"x".to_vec().into()) },
        Entry {
            position,
            payload: Payload::Configure(Configuration::founding(&[NodeId(2)]).into()),
        },
    ];
    let body = Body::Append { prev: position, entries, commit_index: Index(300) };
    let message = Message { term: Term(70_000), incarnation: Incarnation(4), body };
    let bytes = crate::codec::encode(&message);
    assert_eq!(crate::codec::decode::<Message>(&bytes), Ok(message));
    for cut in 0..bytes.len() {
        assert!(crate::codec::decode::<Message>(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(crate::codec::decode::<Message>(&longer).is_err());
}
