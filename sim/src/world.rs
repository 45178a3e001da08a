//! The world: one queue of events in virtual time, the nodes, and everything around them.
//!
//! A machine's step takes no time; everything it asks for does. An effect becomes an event in the
//! future, drawn from the seed ([`crate::draw`]), and the world pops one event after another. Nothing
//! else moves: no thread, no clock, no map with random order. So a seed is a run.
//!
//! The world is a driver of the same rank as the runtime: it executes effects and feeds completions, and
//! decides nothing. It is generic over the machine, so that its own promises can be tested without a
//! store ([`Machine`]).

mod agenda;
mod ambush;
mod asking;
mod booting;
mod burden;
mod disaster;
mod echoes;
mod estrange;
mod frozen;
mod handing;
mod hunt;
mod looping;
mod losses;
mod machine;
mod operator;
mod refusals;
mod scars;
mod scrubbing;
mod slot;
mod telling;
mod watching;

pub use self::machine::Machine;

use crate::ablation::Removal;
use crate::checkers::collection::Leftovers;
use crate::checkers::oracles::{self, Healing, Oracles};
use crate::checkers::{Violation, liveness};
use crate::choices::{Calm, Choices};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::draw::{Domain, Draw};
use crate::faults::{self, Moment, Planned};
use crate::hashes::Hashes;
use crate::history::History;
use crate::net::Network;
use crate::races::{self, Parted};
use crate::run::beat;
use crate::setup::Setup;
use crate::stats::Stats;
use crate::trace::{Kind, Note, Tracer};
use crate::workload::{Call, Clients, Issue, short, short_outcome};
use agenda::Agenda;
use burden::Burden;
use bytes::Bytes;
use echoes::Echoes;
use hunt::Hunt;
use ironseed_core::codec;
use ironseed_core::kv::table::Table;
use ironseed_core::machine::{Instant, Io, IoDone, IoOp, Now};
use ironseed_core::node::Node;
use ironseed_core::node::api::{Config, Effect, Founding, Input};
use ironseed_core::node::message::PeerMessage;
use ironseed_core::node::status::Status;
use ironseed_core::node::trace::Trace;
use ironseed_core::object::api::{Outcome, Refusal, Request};
use ironseed_core::planted::Planted;
use ironseed_core::rows::RowIo;
use ironseed_core::types::{
    BlobId, ClusterId, GroupId, NodeId, OpId, Position, RequestId, ShardId, Term,
};
use looping::Looping;
use losses::Replaced;
use scars::Scars;
use slot::Slot;
use std::collections::{BTreeMap, BTreeSet};

/// Everything there is in a run.
#[derive(Debug)]
pub struct World<M> {
    /// What kind of run it is.
    pub setup: Setup,
    /// What clients asked and were answered.
    pub history: History,
    /// The clients.
    pub clients: Clients,
    /// The record of the run.
    pub tracer: Tracer,
    /// Counts of the run.
    pub stats: Stats,
    planted: Planted,
    now: u64,
    agenda: Agenda<Event>,
    slots: Vec<Slot<M>>,
    network: Network,
    plan: Vec<Planned>,
    /// How many faults of `plan` were there before the run.
    planned: usize,
    /// Crashes whose instant has come and that wait for their moment.
    armed: Vec<usize>,
    /// Faults that have struck: each does once.
    struck: BTreeSet<usize>,
    /// Hunts for leaders under way.
    hunts: Vec<Hunt>,
    /// Burdens on leaders under way.
    burdens: Vec<Burden>,
    /// Faults that cut deletions of buckets off, each with how many it has met.
    ambushes: BTreeMap<usize, u64>,
    /// Faults that cut whoever stands for election off from the leader: of which group, and how many they have met.
    estrangements: BTreeMap<usize, (GroupId, u64)>,
    /// Nodes that crash again and again.
    loops: Vec<Looping>,
    replaced: Replaced,
    scars: Scars,
    parted: Parted,
    healing: Healing,
    /// Who was last elected to lead each group.
    led: BTreeMap<GroupId, usize>,
    oracles: Oracles,
    /// Groups that got a leader since they were last watched.
    elected: BTreeSet<GroupId>,
    /// When leadership of a group was last given away.
    handed: BTreeMap<GroupId, u64>,
    echoes: Echoes,
    violation: Option<Violation>,
    /// What the run goes without.
    pub without: Option<Removal>,
    /// Where each unanswered request is.
    asked: BTreeMap<Call, (usize, RequestId)>,
    /// The furthest ahead that any wall clock has ever been.
    furthest_clock: i64,
    /// When each client is to be woken; any other waking is stale.
    wakes: Vec<u64>,
    effects: Vec<Effect>,
    /// Groups whose state has moved in this step.
    moved: BTreeSet<GroupId>,
    /// When everything healed: from then on nothing strikes, and faults that end later have nothing to mend.
    healed: Option<u64>,
    /// Faults that came of others: which, and what of.
    derived: Vec<(usize, Planned)>,
    /// A while, by its number, and the events in it so far.
    spell: (u64, u64),
    /// Nodes that stay broken for now although everything has healed.
    frozen: BTreeSet<usize>,
    /// Nodes that have taken a step in this event, if anybody wants to know.
    touched: BTreeSet<usize>,
    hashes: Hashes,
}

/// Something that happens at an instant. `node` is a position in `slots`; `boot` says in which life.
#[derive(Debug)]
enum Event {
    Boot { node: usize, boot: u64 },
    Deliver { from: usize, to: usize, send: u64, message: Box<PeerMessage> },
    Disk { node: usize, boot: u64, op: OpId },
    Hashed { node: usize, boot: u64, op: OpId, bytes: Bytes },
    Timer { node: usize, boot: u64 },
    Client { client: u32 },
    GiveUp { call: Call, cancels: bool },
    Fault { number: usize, sprung: bool },
    Mend { number: usize },
    Snare { number: usize, round: u64, node: usize },
    Echo { from: usize, to: usize, message: Box<PeerMessage> },
    Admit { node: usize },
    Refused { node: usize, boot: u64, peer: NodeId },
}

impl<M: Machine> World<M> {
    /// The world of this run, before anything has happened.
    #[must_use]
    pub fn new(setup: Setup, planted: Planted, tracer: Tracer) -> Self {
        let slots = setup
            .nodes
            .iter()
            .zip(setup.disks.iter().zip(&setup.drift_ppm))
            .map(|(&id, (&speed, &drift))| {
                let disk = Disk::new(setup.luck, u64::from(id.0), speed);
                let mut clock = Clock::new(drift, setup.clock_bound);
                let bound = setup.clock_bound as i64;
                if !setup.is_calm(Calm::Clocks) {
                    let mut draw = Draw::new(setup.luck, Domain::Clock, &[u64::from(id.0)]);
                    clock.step_wall(draw.below(setup.clock_bound * 2 + 1) as i64 - bound);
                }
                Slot::new(id, disk.even(setup.is_calm(Calm::Disks)), clock)
            })
            .collect();
        let plan = faults::plan(&setup);
        let mut world = Self {
            history: History::default(),
            clients: Clients::new(setup.seed, setup.mix.clone(), setup.script.as_deref()),
            tracer,
            stats: Stats { runs: 1, ..Stats::default() },
            planted,
            now: 0,
            agenda: Agenda::new(),
            slots,
            network: Network::new(setup.luck, setup.weather)
                .even(setup.is_calm(Calm::Network))
                .with(&setup.deliveries),
            oracles: Oracles::new(&setup, setup.syncs_always()),
            elected: BTreeSet::new(),
            handed: BTreeMap::new(),
            echoes: Echoes::new(&setup),
            violation: None,
            without: None,
            asked: BTreeMap::new(),
            furthest_clock: setup.clock_bound as i64,
            wakes: Vec::new(),
            effects: Vec::new(),
            moved: BTreeSet::new(),
            healed: None,
            derived: Vec::new(),
            spell: (0, 0),
            frozen: BTreeSet::new(),
            touched: BTreeSet::new(),
            hashes: Hashes::default(),
            armed: Vec::new(),
            struck: BTreeSet::new(),
            hunts: Vec::new(),
            burdens: Vec::new(),
            ambushes: BTreeMap::new(),
            estrangements: BTreeMap::new(),
            loops: Vec::new(),
            replaced: Replaced::default(),
            scars: Scars::default(),
            parted: Parted::default(),
            healing: Healing::default(),
            led: BTreeMap::new(),
            planned: plan.len(),
            plan,
            setup,
        };
        world.begin();
        world
    }

    /// Schedules what begins by itself.
    fn begin(&mut self) {
        for node in 0..self.slots.len() {
            let name = [u64::from(self.slots[node].id.0), 1];
            let delay = match self.setup.is_calm(Calm::Boots) {
                true => (node as u64 + 1) << 20,
                false => Draw::new(self.setup.luck, Domain::Clock, &name).magnitude(1, 200_000_000),
            };
            self.schedule(delay, Event::Boot { node, boot: 0 });
        }
        for client in 0..self.clients.count() {
            let delay = self.clients.first_wake(client);
            self.wakes.push(delay);
            self.schedule(delay, Event::Client { client });
        }
        for number in 0..self.plan.len() {
            let at = self.plan[number].at;
            self.schedule(at, Event::Fault { number, sprung: false });
        }
    }

    /// World time.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Runs until `until`, or until `enough` says so (before any event or after one), or until something is wrong.
    pub fn run(&mut self, until: u64, enough: impl Fn(&Self) -> bool) -> Option<Violation> {
        if enough(self) {
            return None;
        }
        while let Some((at, event)) = self.agenda.next(until) {
            self.now = at;
            beat();
            self.count_event();
            self.happen(event);
            if self.tracer.is_recorded() {
                self.note_all();
            }
            if let Some(wrong) = self.clients.take_wrong() {
                self.violate(Violation::new("objects", at, wrong));
            }
            if self.violation.is_some() {
                return self.violation.take();
            }
            if enough(self) {
                return None;
            }
        }
        self.now = self.now.max(until);
        None
    }

    /// Bounds the work of all nodes together, as the bound of a step does that of one.
    fn count_event(&mut self) {
        let spell = self.now / liveness::SPELL;
        let (of, events) = &mut self.spell;
        if *of != spell {
            (*of, *events) = (spell, 0);
        }
        *events += 1;
        if *events > liveness::EVENTS_PER_SPELL_MAX {
            let events = *events;
            self.violate(liveness::storm(self.now, events));
        }
    }

    /// Whether the run goes without the oracle that saw this.
    #[must_use]
    pub fn counts(&self, violation: &Violation) -> bool {
        !self.without.is_some_and(|removal| removal.silences(violation.checker))
    }

    /// The first violation counts: what follows may follow from it.
    fn violate(&mut self, violation: Violation) {
        if !self.counts(&violation) {
            return;
        }
        if self.violation.is_none() {
            self.tracer.note(|| Note::Violated);
        }
        self.violation.get_or_insert(violation);
    }

    fn schedule(&mut self, delay: u64, event: Event) {
        self.agenda.schedule(self.now + delay.max(1), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Boot { node, boot }
                if self.slots[node].boot == boot && !self.is_frozen(node) =>
            {
                self.boot(node);
            }
            Event::Deliver { from, to, send, message } => self.deliver(from, to, send, *message),
            Event::Disk { node, boot, op } if self.lives(node, boot) => self.complete(node, op),
            Event::Hashed { node, boot, op, bytes } if self.lives(node, boot) => {
                let parts = [node as u64, op.0];
                self.tracer
                    .event(self.now, Kind::Hashed, &parts, || format!("n{} {op:?}", node + 1));
                let result = Ok(IoDone::Hashed(self.hashes.of(&bytes)));
                self.feed(node, Input::Done { op, result });
            }
            Event::Timer { node, boot } if self.lives(node, boot) => {
                if self.slots[node].timer == Some(self.now) {
                    self.slots[node].timer = None;
                    let id = self.slots[node].id;
                    let line = || format!("{id:?} timer");
                    self.tracer.event(self.now, Kind::Timer, &[node as u64], line);
                    self.feed(node, Input::Timer);
                }
            }
            Event::Client { client } => self.wake_client(client),
            Event::GiveUp { call, cancels } => self.give_up(call, cancels),
            Event::Fault { number, sprung } => {
                self.strike(number, sprung);
                self.note_parted();
            }
            Event::Mend { number } => {
                self.mend(number);
                self.note_parted();
            }
            Event::Snare { number, round, node } => {
                self.snare(number, round, node);
                self.note_parted();
            }
            Event::Echo { from, to, message } => self.hear_echo(from, to, *message),
            Event::Admit { node } => self.admit(node),
            Event::Refused { node, boot, peer } if self.lives(node, boot) => {
                self.hear_refusal(node, peer);
            }
            // Of an earlier life of the node.
            Event::Boot { .. }
            | Event::Disk { .. }
            | Event::Hashed { .. }
            | Event::Refused { .. }
            | Event::Timer { .. } => {}
        }
    }

    /// Remembers which nodes are cut off from some other now.
    fn note_parted(&mut self) {
        for slot in &self.slots {
            self.parted.note(self.now, slot.id, self.network.is_parted(slot.id));
        }
    }

    fn lives(&self, node: usize, boot: u64) -> bool {
        self.slots[node].boot == boot && self.slots[node].is_up()
    }

    /// Gives an input to a machine, at once or when it goes on.
    fn feed(&mut self, node: usize, input: Input) {
        let slot = &mut self.slots[node];
        let Some(machine) = &mut slot.machine else { return };
        if let Some(waiting) = &mut slot.paused {
            return waiting.push_back(input);
        }
        if self.tracer.is_recorded() {
            self.touched.insert(node);
        }
        let now = slot.clock.now(self.now);
        let mut effects = core::mem::take(&mut self.effects);
        machine.step(now, input, &mut effects);
        if effects.len() > liveness::EFFECTS_PER_STEP_MAX {
            let asked = effects.iter().filter(|effect| !matches!(effect, Effect::Trace(_))).count();
            if asked > liveness::EFFECTS_PER_STEP_MAX {
                let last = format!("{:?}", slot.id);
                self.violate(liveness::overworked(self.now, asked, &last));
            }
        }
        for effect in effects.drain(..) {
            self.execute(node, effect);
        }
        self.effects = effects;
        for group in core::mem::take(&mut self.moved) {
            self.compare(group);
        }
        if self.setup.shards <= CLOSELY_WATCHED_SHARDS_MAX {
            (0..=u32::from(self.setup.shards)).for_each(|group| self.look(node, GroupId(group)));
        } else {
            self.look_at_prey(node);
        }
        self.set_timer(node);
    }

    fn set_timer(&mut self, node: usize) {
        let slot = &mut self.slots[node];
        let deadline = slot.machine.as_ref().and_then(Machine::deadline);
        let Some(at) = deadline.map(|deadline| slot.clock.world_at(deadline)) else {
            slot.timer = None;
            return;
        };
        let at = at.max(self.now + 1);
        if slot.timer != Some(at) {
            slot.timer = Some(at);
            let boot = slot.boot;
            self.schedule(at - self.now, Event::Timer { node, boot });
        }
    }

    fn execute(&mut self, node: usize, effect: Effect) {
        // What a step asked for after its machine had halted or stopped is asked by nobody.
        if !self.slots[node].is_up() {
            return;
        }
        match effect {
            Effect::Io(IoOp { op, io }) => self.issue(node, op, io),
            Effect::Hash { op, bytes } => {
                let slot = &mut self.slots[node];
                let boot = slot.boot;
                let [tick, number] = slot.hashes.name(self.now);
                let name = [u64::from(slot.id.0), tick, number];
                let typical = 5_000 + bytes.len() as u64;
                let drawn = Draw::new(self.setup.luck, Domain::Hash, &name).latency(typical);
                let delay = if self.setup.is_calm(Calm::Disks) { typical } else { drawn };
                self.schedule(delay, Event::Hashed { node, boot, op, bytes });
            }
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Reply { id, outcome } => self.reply(node, id, outcome),
            Effect::Trace(trace) => {
                let id = self.slots[node].id;
                let line = || format!("{id:?} {trace:?}");
                self.tracer.event(self.now, Kind::Trace, &[node as u64], line);
                self.tracer.note(|| Note::Said { node, trace: &trace });
                if let Some(name) = oracles::rare(&trace) {
                    Stats::count(&mut self.stats.rare, name, 1);
                }
                if let Trace::HandOver { group, .. } = &trace {
                    self.note_hand_over(*group);
                }
                if let Trace::Stranger { node, store } = &trace {
                    self.refused(*node, *store);
                }
                match &trace {
                    Trace::Left { group } => drop(self.slots[node].given_up.insert(*group)),
                    Trace::SnapshotInstalled { group, .. } => {
                        self.slots[node].given_up.remove(group);
                    }
                    _ => {}
                }
                self.scars.hear(node, &trace);
                let healed = self.healing.healed(id, &trace);
                Stats::count(&mut self.stats.rare, "corruption-healed", u64::from(healed));
                self.moved.extend(oracles::moved(&trace));
                if let Some(violation) = self.oracles.on_trace(self.now, id, &trace) {
                    self.violate(violation);
                }
                if let Some((group, term)) = oracles::leads(&trace) {
                    self.elected(node, group, term);
                } else if let Some((group, campaign, pre)) = oracles::stands(&trace) {
                    self.stands(node, group, campaign, pre);
                }
            }
            Effect::Stopped => self.stopped(node),
            Effect::Halt(halt) => self.halted(node, &halt.reason),
        }
    }

    /// A node has begun to lead a group.
    fn elected(&mut self, node: usize, group: GroupId, term: Term) {
        let machine = self.slots[node].machine.as_ref();
        let lacks =
            |entry| machine.and_then(|machine| machine.holds_entry(group, entry)) == Some(false);
        let (now, id) = (self.now, self.slots[node].id);
        if let Some(violation) = self.oracles.on_leader(now, id, group, term, lacks) {
            self.violate(violation);
        }
        if !self.armed.is_empty() {
            self.spring(node, Moment::Elected);
        }
        self.led.insert(group, node);
        if !self.was_handed_over(group) {
            self.elected.insert(group);
        }
        self.echo(node, group, term);
        if !self.hunts.is_empty() {
            self.scent(node, group);
        }
        if !self.burdens.is_empty() {
            self.burden(node, group);
        }
    }

    /// A node stands for election in a group, or asks whether it should (`pre`).
    fn stands(&mut self, node: usize, group: GroupId, campaign: Term, pre: bool) {
        if !pre && !self.estrangements.is_empty() {
            self.estrange(node, group);
        }
        self.echo_ballots(node, group, campaign, pre);
    }

    fn issue(&mut self, node: usize, op: OpId, io: Io) {
        let slot = &mut self.slots[node];
        let id = slot.id;
        let parts = [node as u64, op.0];
        self.tracer
            .event(self.now, Kind::Io, &parts, || format!("{id:?} {op:?} {}", describe(&io)));
        self.tracer.note(|| Note::Issued { node, op: op.0, io: &io });
        if let Io::Write { data, offset, .. } = &io {
            self.tracer.content(&offset.to_le_bytes());
            data.iter().for_each(|piece| self.tracer.checksum(self.hashes.crc(piece)));
        }
        let delay = slot.disk.issue(self.now, op, io);
        let boot = slot.boot;
        self.schedule(delay, Event::Disk { node, boot, op });
    }

    fn complete(&mut self, node: usize, op: OpId) {
        let slot = &mut self.slots[node];
        let Some(completion) = slot.disk.complete(self.now, op) else { return };
        let id = slot.id;
        let failed = completion.result.is_err();
        let parts = [node as u64, op.0, u64::from(failed)];
        self.tracer.event(self.now, Kind::Done, &parts, || match &completion.result {
            Ok(_) => format!("{id:?} {op:?} done"),
            Err(error) => format!("{id:?} {op:?} failed: {error:?}"),
        });
        if failed {
            Stats::count(&mut self.stats.rare, "disk-operation-failed", 1);
        }
        self.oracles.on_completion(id, &completion, &slot.disk);
        self.feed(node, Input::Done { op, result: completion.result });
    }

    fn send(&mut self, node: usize, to: NodeId, message: PeerMessage) {
        let from = self.slots[node].id;
        let Some(target) = self.slots.iter().position(|slot| slot.id == to && to != from) else {
            let what = format!("{from:?} sends to {to:?}, which is no peer");
            return self.violate(Violation::new("contract", self.now, what));
        };
        let bulk = match message.is_bulk() {
            true if message.body.is_empty() => message.encode().0.len() as u64,
            true => message.body.len() as u64,
            false => 0,
        };
        self.check_stranger(node, &message);
        let bytes = match self.network.is_narrow(from, to) {
            true => bulk + message.encode().0.len() as u64,
            false => bulk,
        };
        let fate = self.network.send_sized(self.now, from, to, bulk, bytes);
        let line = || format!("{from:?} -> {to:?} {}", cut(format!("{message:?}")));
        self.tracer.event(self.now, Kind::Send, &[node as u64, target as u64], line);
        let send = self.tracer.events();
        self.tracer.note(|| {
            let (cut, arrivals) = (self.network.is_cut(from, to), &fate.arrivals);
            Note::Sent { from: node, to: target, message: &message, arrivals, cut }
        });
        if fate.through_bytes || cfg!(debug_assertions) {
            let (head, body) = message.encode();
            if fate.through_bytes {
                self.tracer.content(&head);
            }
            let decoded = PeerMessage::decode(&head, body);
            if decoded.as_ref() != Ok(&message) {
                let what = format!("{message:?} comes back as {decoded:?}");
                self.violate(Violation::new("codec", self.now, what));
            }
        }
        self.echoes.hear(node, target, &message);
        self.check_match(node, &message);
        let copies = core::iter::repeat_n(Box::new(message), fate.arrivals.len());
        for (at, message) in fate.arrivals.into_iter().zip(copies) {
            let delay = at.saturating_sub(self.now);
            self.schedule(delay, Event::Deliver { from: node, to: target, send, message });
        }
    }

    fn deliver(&mut self, from: usize, to: usize, send: u64, message: PeerMessage) {
        let (sender, receiver) = (self.slots[from].id, self.slots[to].id);
        let open = self.network.lets_through(sender, receiver)
            && !self.network.is_severed(sender, receiver, send);
        if !open || !self.slots[to].is_up() {
            return self.tracer.note(|| Note::Dropped { send, at: self.now, cut: !open });
        }
        let line = || format!("{receiver:?} <- {sender:?} {}", cut(format!("{message:?}")));
        self.tracer.event(self.now, Kind::Deliver, &[from as u64, to as u64], line);
        self.tracer.note(|| Note::Arrived { send });
        self.hear_invitations(&message);
        let held = self.committed_held(to, &message);
        self.feed(to, Input::Message { from: sender, message });
        self.check_held(to, held);
    }

    fn boot(&mut self, node: usize) {
        let slot = &mut self.slots[node];
        if slot.is_up() || self.now < slot.up_at {
            return;
        }
        slot.boot += 1;
        let (id, boot, name) = (slot.id, slot.boot, slot.boot_name());
        let coordinates = [u64::from(id.0), name, 1];
        let mut draw = Draw::new(self.setup.luck, Domain::Boot, &coordinates);
        slot.clock.boot(self.now, draw.magnitude(1, 1 << 60));
        let files = slot.disk.found();
        // The operator founds on the first node, and tries again for as long as it left no trace.
        // The operator's tool founds until the store has it durably; founding again is harmless.
        // On another disk than the one that was founded on, nobody founds again.
        let found = (node == 0 && !self.replaced.has(0)).then(|| founding(self.setup.seed));
        let heals_at = slot.clock.now(self.setup.duration).mono;
        slot.machine = Some(M::new(self.setup.config(id, name, self.planted, heals_at)));
        let line = || {
            let founds = if found.is_some() { ", founding" } else { "" };
            format!("{id:?} boots, {} files{founds}", files.len())
        };
        self.tracer.event(self.now, Kind::Boot, &[node as u64, files.len() as u64], line);
        self.oracles.on_boot(id);
        self.check_index(node);
        self.check_engine(node);
        if boot > 1 {
            Stats::count(&mut self.stats.rare, "restart", 1);
        }
        self.feed(node, Input::Boot { files, found });
        if !self.loops.is_empty() {
            self.booted_in_loop(node);
        }
    }

    /// Nodes that were told to stop and have not, frozen ones left out.
    #[must_use]
    pub fn stopping(&self) -> Vec<NodeId> {
        let slots = self.slots.iter().enumerate().filter(|(node, _)| !self.is_frozen(*node));
        slots.filter(|(_, slot)| slot.stopping.is_some()).map(|(_, slot)| slot.id).collect()
    }

    /// Makes the record of choices say what each operation is, and what became of each message.
    pub fn tell(&mut self) {
        self.clients.tell();
        self.network.remember();
    }

    /// What the run did, as lists that make the same run.
    #[must_use]
    pub fn choices(&self) -> Choices {
        Choices {
            nodes: self.slots.len() as u32,
            shards: self.setup.shards,
            plan: self.plan[..self.planned].to_vec(),
            derived: self.derived.clone(),
            script: self.clients.begun().to_vec(),
            healed: self.healed,
            deliveries: self.network.fates().to_vec(),
        }
    }

    /// The run is over: what the parts of the world have counted.
    pub fn finish(&mut self) {
        self.note_catches();
        self.end_burdens();
        self.count_scars();
        let counts = self.network.counts();
        let messages = &mut self.stats.messages;
        for (name, count) in [
            ("sent", counts.sent),
            ("lost", counts.lost),
            ("cut", counts.cut),
            ("duplicated", counts.duplicated),
            ("replayed", counts.replayed),
            ("throttled", counts.throttled),
            ("lost-with-connection", counts.severed),
        ] {
            Stats::count(messages, name, count);
        }
        for (name, count) in self.clients.counts() {
            Stats::count(&mut self.stats.workload, name, *count);
        }
        races::count(&self.history, &self.parted, &mut self.stats.rare);
        Stats::count(&mut self.stats.topology, &self.setup.topology(), 1);
        Stats::count(&mut self.stats.workload, &format!("runs-{}", self.setup.mix.kind), 1);
        self.stats.events = self.tracer.events();
        self.stats.sim_nanos = self.now;
    }
}

/// What the operator founds the cluster with.
fn founding(seed: u64) -> Founding {
    let mut draw = Draw::new(seed, Domain::Setup, &[5]);
    let mut cluster = [0; 16];
    cluster[..8].copy_from_slice(&draw.next().to_le_bytes());
    cluster[8..].copy_from_slice(&draw.next().to_le_bytes());
    Founding {
        cluster: ClusterId(cluster),
        access_key: "root".into(),
        secret_key: "a secret that nobody keeps".into(),
    }
}

/// Up to here every state of every replica is compared, and not only those at which somebody was answered.
const CLOSELY_WATCHED_SHARDS_MAX: u16 = 8;

/// A disk operation without its bytes.
fn describe(io: &Io) -> String {
    match io {
        Io::Create { file, bytes } => format!("create {file}, {bytes} bytes"),
        Io::Write { file, offset, data } => {
            let bytes: usize = data.iter().map(Bytes::len).sum();
            format!("write {file} at {offset}, {bytes} bytes")
        }
        Io::Sync { file } => format!("sync {file}"),
        Io::Read { file, offset, len } => format!("read {file} at {offset}, {len} bytes"),
        Io::Rename { from, to } => format!("rename {from} to {to}"),
        Io::Remove { file } => format!("remove {file}"),
        Io::SyncDir => "sync directory".into(),
        Io::Rows(RowIo::Write { changes }) => format!("write {} changes of rows", changes.len()),
        Io::Rows(RowIo::Sync) => "sync rows".into(),
        Io::Rows(RowIo::Get { space, .. }) => format!("get a row of {}", space.name()),
        Io::Rows(RowIo::Scan { space, .. }) => format!("scan {}", space.name()),
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(240) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests;
