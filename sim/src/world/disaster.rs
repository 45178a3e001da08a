//! Disasters, and the healing of everything.

use super::{Event, Machine, World};
use crate::disk::{ENGINE, Trap};
use crate::draw::{Domain, Draw};
use crate::faults::{Crash, Fault, Moment, Operation, Planned};
use crate::stats::Stats;
use crate::trace::Kind;
use ironseed_core::machine::FileKind;
use ironseed_core::node::api::Input;
use ironseed_core::types::{GroupId, NodeId, ShardId};
use std::collections::VecDeque;

impl<M: Machine> World<M> {
    /// A planned fault's instant has come, or the moment that it has waited for.
    pub(super) fn strike(&mut self, number: usize, sprung: bool) {
        if self.healed.is_some() {
            return;
        }
        let fault = self.plan[number].fault.clone();
        if !sprung && matches!(&fault, Fault::Crash { moment, .. } if *moment != Moment::Now) {
            self.armed.push(number);
            return self.schedule(MOMENT_PATIENCE, Event::Fault { number, sprung: true });
        }
        // Its moment may have come, and then its patience has ended too.
        if !self.struck.insert(number) {
            return;
        }
        self.armed.retain(|&armed| armed != number);
        if let Fault::Crash { nodes, how, moment, lasts } = &fault
            && *moment != Moment::Now
        {
            let (nodes, how, lasts) = (nodes.clone(), *how, *lasts);
            let fault = Fault::Crash { nodes, how, moment: Moment::Now, lasts };
            self.derived.push((number, Planned { at: self.now, fault }));
        }
        let line = || format!("fault {number}: {fault:?}");
        self.tracer.event(self.now, Kind::Fault, &[number as u64], line);
        let struck = match &fault {
            Fault::Crash { nodes, how, lasts, .. } => {
                let mut struck = false;
                for &node in nodes {
                    struck |= self.at(node).is_some_and(|node| self.crash(node, *how, *lasts));
                }
                struck
            }
            Fault::Pause { node, lasts } => {
                let struck = self.at(*node).is_some_and(|node| self.pause(node));
                if struck {
                    self.schedule(*lasts, Event::Mend { number });
                }
                struck
            }
            Fault::Cut { from, to, both_ways, lasts } => {
                self.each_link(from, to, *both_ways, |world, a, b| world.network.cut(a, b));
                self.refuse_wrongly((from, to), *both_ways, number);
                self.schedule(*lasts, Event::Mend { number });
                true
            }
            Fault::Clog { from, to, lasts } => {
                let until = self.now + lasts;
                self.each_link(from, to, true, |world, a, b| world.network.clog(a, b, until));
                true
            }
            Fault::Storm { weather, lasts } => {
                self.network.set_weather(*weather);
                self.schedule(*lasts, Event::Mend { number });
                true
            }
            Fault::Rot { node, salt, bits } => {
                self.at(*node).is_some_and(|node| self.rot(node, *salt, *bits))
            }
            Fault::DiskError { node, operation } => self.on_disk(*node, |disk| {
                disk.arm(match operation {
                    Operation::Read => Trap::Read,
                    Operation::Write => Trap::Write,
                    Operation::Sync => Trap::Sync,
                });
            }),
            Fault::DiskFull { node, spare, lasts } => {
                self.schedule(*lasts, Event::Mend { number });
                self.on_disk(*node, |disk| disk.fill(Some(*spare)))
            }
            Fault::DiskSlow { node, times, lasts } => {
                self.schedule(*lasts, Event::Mend { number });
                self.on_disk(*node, |disk| disk.slow(*times))
            }
            Fault::Hunt { group, lasts } => {
                self.begin_hunt(number, GroupId(*group));
                self.schedule(*lasts, Event::Mend { number });
                true
            }
            Fault::Burden { group, times, lasts } => {
                self.begin_burden(number, GroupId(*group), *times);
                self.schedule(*lasts, Event::Mend { number });
                true
            }
            Fault::Estrange { group, lasts } => {
                self.estrangements.insert(number, (GroupId(*group), 0));
                self.schedule(*lasts, Event::Mend { number });
                true
            }
            Fault::Ambush { lasts } => {
                self.ambushes.insert(number, 0);
                self.schedule(*lasts, Event::Mend { number });
                true
            }
            Fault::DiskLoss { node, left, lasts, admitted_after } => self
                .at(*node)
                .is_some_and(|node| self.lose_disk(node, *left, *lasts, *admitted_after)),
            Fault::Move { shard, to } => self.move_shard(ShardId(*shard), to),
            Fault::Misdirect { node, salt } => {
                self.at(*node).is_some_and(|node| self.misdirect(node, *salt))
            }
            Fault::Byte { node, salt, down } => {
                self.at(*node).is_some_and(|node| self.scar(node, *salt, *down))
            }
            Fault::Throttle { from, to, bytes_per_second, lasts } => {
                let until = self.now + lasts;
                self.each_link(from, to, true, |world, a, b| {
                    world.network.throttle(a, b, until, *bytes_per_second);
                });
                true
            }
            Fault::Reset { from, to, lasts } => {
                let (sent, until) = (self.tracer.events(), self.now + lasts);
                self.each_link(from, to, true, |world, a, b| {
                    world.network.reset(a, b, sent, until);
                });
                self.refuse_wrongly((from, to), true, number);
                true
            }
            Fault::Choke { node, lasts } => {
                let (until, me) = (self.now + lasts, [*node]);
                let others: Vec<u32> = self.setup.nodes.iter().map(|node| node.0).collect();
                self.each_link(&me, &others, true, |world, a, b| world.network.clog(a, b, until));
                true
            }
            Fault::CrashLoop { node, how, times } => self.at(*node).is_some_and(|node| {
                self.begin_loop(number, node, *how, *times);
                true
            }),
            Fault::ClockStep { node, by } => self.at(*node).is_some_and(|node| {
                let clock = &mut self.slots[node].clock;
                clock.step_wall(*by);
                self.furthest_clock = self.furthest_clock.max(clock.offset());
                true
            }),
        };
        if struck {
            Stats::count(&mut self.stats.faults, fault.name(), 1);
        }
    }

    /// Crashes that wait for this moment of this node strike next.
    pub(super) fn spring(&mut self, node: usize, moment: Moment) {
        let id = self.slots[node].id.0;
        let mut sprung = Vec::new();
        let plan = &self.plan;
        self.armed.retain(|&number| {
            let Fault::Crash { nodes, moment: wanted, .. } = &plan[number].fault else {
                return false;
            };
            let meant = *wanted == moment && (moment == Moment::Answer || nodes.contains(&id));
            if meant {
                sprung.push(number);
            }
            !meant
        });
        for number in sprung {
            let name = [99, self.plan[number].at];
            let mut draw = Draw::new(self.setup.seed, Domain::Faults, &name);
            let delay = match moment {
                // A leader's first appends take some round trips and syncs to be known.
                Moment::Elected => draw.magnitude(1_000, self.setup.weather.delay * 8),
                Moment::Answer | Moment::Now => draw.magnitude(1, 50_000),
            };
            self.schedule(delay, Event::Fault { number, sprung: true });
        }
    }

    /// A fault that lasts is over.
    pub(super) fn mend(&mut self, number: usize) {
        if self.healed.is_some() {
            return;
        }
        let line = || format!("fault {number} is over");
        self.tracer.event(self.now, Kind::Mend, &[number as u64], line);
        match self.plan[number].fault.clone() {
            Fault::Cut { from, to, both_ways, .. } => {
                self.each_link(&from, &to, both_ways, |world, a, b| world.network.mend(a, b));
            }
            Fault::Storm { .. } => self.network.set_weather(self.setup.weather),
            Fault::Pause { node, .. } => {
                if let Some(node) = self.at(node) {
                    self.resume(node);
                }
            }
            Fault::DiskFull { node, .. } => {
                self.on_disk(node, |disk| disk.fill(None));
            }
            Fault::DiskSlow { node, .. } => {
                self.on_disk(node, |disk| disk.slow(1));
            }
            Fault::Hunt { .. } => self.end_hunt(number),
            Fault::Burden { .. } => self.end_burden(number),
            Fault::Estrange { .. } => {
                self.estrangements.remove(&number);
            }
            Fault::Ambush { .. } => {
                self.ambushes.remove(&number);
            }
            Fault::Crash { .. }
            | Fault::Clog { .. }
            | Fault::Rot { .. }
            | Fault::DiskError { .. }
            | Fault::DiskLoss { .. }
            | Fault::Misdirect { .. }
            | Fault::Byte { .. }
            | Fault::Throttle { .. }
            | Fault::Reset { .. }
            | Fault::Choke { .. }
            | Fault::CrashLoop { .. }
            | Fault::Move { .. }
            | Fault::ClockStep { .. } => {}
        }
    }

    /// Mends every link and disk, sets every clock to one time, lets every process go on and starts those that
    /// are down. Nothing breaks after this.
    ///
    /// The time is the latest that any node ever believed it was. A store may refuse to commit while its last
    /// commit timestamp is far ahead of its clock, so a clock that was an hour ahead and is set back makes a
    /// shard read-only for an hour: that is what the operator is told, not a lack of progress.
    pub fn heal(&mut self) {
        self.tracer.event(self.now, Kind::Phase, &[1], || "everything heals".into());
        self.healed = Some(self.now);
        self.note_catches();
        self.hunts.clear();
        self.end_burdens();
        self.echoes.end();
        self.ambushes.clear();
        self.estrangements.clear();
        self.loops.clear();
        self.network.heal();
        self.note_parted();
        self.admit_all();
        for node in 0..self.slots.len() {
            let slot = &mut self.slots[node];
            slot.disk.heal();
            // What a slow disk has begun it ends like any other.
            let (slowed, boot): (Vec<_>, _) = (slot.disk.slowed().collect(), slot.boot);
            for (op, at) in slowed {
                self.schedule(at.saturating_sub(self.now), Event::Disk { node, boot, op });
            }
            let slot = &mut self.slots[node];
            slot.clock.set_offset(self.furthest_clock);
            slot.up_at = self.now;
            slot.stopping = slot.stopping.map(|_| self.now);
            if slot.pauses > 0 {
                slot.pauses = 1;
                self.resume(node);
            }
            if !self.slots[node].is_up() {
                let boot = self.slots[node].boot;
                self.schedule(1, Event::Boot { node, boot });
            }
        }
    }

    fn at(&self, node: u32) -> Option<usize> {
        self.slots.iter().position(|slot| slot.id == NodeId(node))
    }

    fn on_disk(&mut self, node: u32, change: impl FnOnce(&mut crate::disk::Disk)) -> bool {
        let Some(node) = self.at(node) else { return false };
        change(&mut self.slots[node].disk);
        true
    }

    pub(super) fn each_link(
        &mut self,
        from: &[u32],
        to: &[u32],
        both_ways: bool,
        mut change: impl FnMut(&mut Self, NodeId, NodeId),
    ) {
        for &a in from {
            for &b in to {
                change(self, NodeId(a), NodeId(b));
                if both_ways {
                    change(self, NodeId(b), NodeId(a));
                }
            }
        }
    }

    pub(super) fn crash(&mut self, node: usize, how: Crash, lasts: u64) -> bool {
        let until = self.now + lasts;
        let slot = &mut self.slots[node];
        if !slot.is_up() {
            return false;
        }
        match how {
            Crash::Stop => {
                // A process that hangs does not hear its operator.
                if slot.paused.is_some() || slot.stopping.is_some() {
                    return false;
                }
                slot.stopping = Some(until);
                self.feed(node, Input::Stop);
            }
            Crash::Power => {
                slot.disk.lose_power(self.now);
                self.note_depth(node);
                self.fall(node, until, "loses power");
            }
            Crash::Kill => {
                slot.disk.kill(self.now);
                self.note_depth(node);
                self.refuse_all(node);
                self.fall(node, until, "is killed");
            }
        }
        true
    }

    /// A node is down until then.
    pub(super) fn fall(&mut self, node: usize, until: u64, why: &str) {
        let slot = &mut self.slots[node];
        let id = slot.id;
        self.tracer.event(self.now, Kind::Down, &[node as u64], || format!("{id:?} {why}"));
        slot.up_at = until;
        let (boot, name) = (slot.boot, slot.boot_name());
        let calls = slot.fall();
        self.scar_the_fallen(node);
        // Clients see their connections break, a little later.
        for call in calls {
            let coordinates = [u64::from(id.0), name, 2, u64::from(call.client)];
            let mut draw = Draw::new(self.setup.luck, Domain::Boot, &coordinates);
            let delay = draw.magnitude(100_000, 50_000_000);
            self.schedule(delay, Event::GiveUp { call, cancels: false });
        }
        self.schedule(until.saturating_sub(self.now), Event::Boot { node, boot });
    }

    /// The machine says that it has stopped: its process ends.
    pub(super) fn stopped(&mut self, node: usize) {
        Stats::count(&mut self.stats.rare, "graceful-stop", 1);
        let slot = &mut self.slots[node];
        let until = slot.stopping.unwrap_or(self.now + RESTART_AFTER).max(self.now + 1);
        slot.disk.kill(self.now);
        self.refuse_all(node);
        self.fall(node, until, "has stopped");
    }

    /// The machine says that its store can't go on: its process ends, and somebody restarts it.
    pub(super) fn halted(&mut self, node: usize, reason: &str) {
        if !self.slots[node].is_up() {
            return;
        }
        Stats::count(&mut self.stats.rare, "halt", 1);
        self.scars.halted(node);
        self.slots[node].disk.kill(self.now);
        self.empty_refused_disk(node);
        self.refuse_all(node);
        let why = format!("halts: {reason}");
        self.fall(node, self.now + RESTART_AFTER, &why);
    }

    fn pause(&mut self, node: usize) -> bool {
        let slot = &mut self.slots[node];
        if !slot.is_up() {
            return false;
        }
        slot.pauses += 1;
        slot.paused.get_or_insert_with(VecDeque::new);
        true
    }

    /// A process goes on, if no other pause lies over it, and gets all that has waited for it.
    fn resume(&mut self, node: usize) {
        let slot = &mut self.slots[node];
        slot.pauses = slot.pauses.saturating_sub(1);
        if slot.pauses > 0 {
            return;
        }
        for input in slot.paused.take().into_iter().flatten() {
            self.feed(node, input);
        }
    }

    /// Flips bits where rot may strike, in one place or in several.
    fn rot(&mut self, node: usize, salt: u64, bits: u32) -> bool {
        let id = self.slots[node].id;
        let mut ranges = self.oracles.durable.rottable(id);
        // Nothing rests on a snapshot of the index: it may rot anywhere.
        let durable = self.slots[node].disk.ranges(true);
        let of_index = durable.into_iter().filter(|(file, ..)| file.kind == FileKind::Index);
        ranges.extend(of_index.map(|(file, start, len)| (file, start, start + len)));
        if ranges.is_empty() {
            return false;
        }
        let mut draw = Draw::new(self.setup.seed, Domain::Rot, &[salt]);
        if self.slots[node].disk.engine().bytes() > 0 && draw.chance(1, 2) {
            return self.rot_row(node, &mut draw);
        }
        let mut place = *draw.pick(&ranges);
        let mut struck = false;
        for _ in 0..bits {
            if draw.chance(1, 2) {
                place = *draw.pick(&ranges);
            }
            let (file, start, end) = place;
            let (offset, bit) = (start + draw.below(end - start), draw.below(8) as u32);
            if self.slots[node].disk.flip(file, offset, bit) {
                struck = true;
                self.oracles.durable.struck(id, file);
                let line = || format!("{id:?} rots: {file} at byte {offset}, bit {bit}");
                let parts = [node as u64, file.number, offset, u64::from(bit)];
                self.tracer.event(self.now, Kind::Fault, &parts, line);
            }
        }
        struck
    }

    /// A row of an engine turns out to be other bytes than were written.
    fn rot_row(&mut self, node: usize, draw: &mut Draw) -> bool {
        let id = self.slots[node].id;
        let struck = self.slots[node].disk.rot_row(draw);
        if struck {
            self.oracles.durable.struck(id, ENGINE);
            let line = || format!("{id:?} rots: a row of its engine");
            self.tracer.event(self.now, Kind::Fault, &[node as u64], line);
            Stats::count(&mut self.stats.rare, "engine-row-rotted", 1);
        }
        struck
    }
}

/// A crash that waits for a moment strikes after this long at the latest: nanoseconds.
const MOMENT_PATIENCE: u64 = 400_000_000;

/// How long a process manager waits before it starts a process again: nanoseconds.
const RESTART_AFTER: u64 = 100_000_000;
