//! One run from its seed to its verdict.
//!
//! 1. **Load**: nodes boot, clients ask, faults strike, until the run's time is up or the clients have
//!    asked all they had.
//! 2. **Healing**: everything mends and stays so; what is under way comes to an end. In every other run some nodes
//!    stay broken, and the others have to do without them until after the proof.
//! 3. **Proof**: every key and every byte is read back, and a little is written, within a bound.
//! 4. **Histories**: what all clients saw is checked.
//!
//! A panic in a machine is a violation like any other: an assertion is an oracle.

use crate::ablation::Removal;
use crate::checkers::{Violation, check_history, collection, liveness};
use crate::choices::Choices;
use crate::setup::{Overrides, Setup};
use crate::stats::Stats;
use crate::trace::{Kind, Recorder, Sink, Tracer};
use crate::world::{Machine, World};
use ironseed_core::chunk::STAGE_LEASE_MS;
use ironseed_core::node::Node;
use ironseed_core::planted::Planted;
use ironseed_core::types::{GroupId, NodeId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

/// What to run.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names the run.
    pub seed: u64,
    /// What is fixed of it.
    pub overrides: Overrides,
    /// The bug that machines carry.
    pub planted: Planted,
    /// World time at which to stop without a verdict, nanoseconds.
    pub until: Option<u64>,
    /// What it goes without.
    pub without: Option<Removal>,
    /// Whether the record of choices is complete: what clients do in words, and the fates of messages.
    pub telling: bool,
}

impl Order {
    /// The run of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            overrides: Overrides::default(),
            planted: Planted::NONE,
            until: None,
            without: None,
            telling: false,
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The first thing that was wrong.
    pub violation: Option<Violation>,
    /// What was counted.
    pub stats: Stats,
    /// Equal for equal runs.
    pub history_hash: String,
    /// What the run did, as lists.
    pub choices: Choices,
}

/// Runs a store.
#[must_use]
pub fn run(order: &Order, sink: Option<Sink>) -> Report {
    run_machine::<Node>(order, sink)
}

/// Runs a store for somebody who hears it in detail.
#[must_use]
pub fn run_recorded(order: &Order, recorder: Box<dyn Recorder>) -> Report {
    run_traced::<Node>(order, Tracer::recorded(recorder))
}

/// Runs any machine.
#[must_use]
pub fn run_machine<M: Machine>(order: &Order, sink: Option<Sink>) -> Report {
    run_traced::<M>(order, sink.map_or_else(Tracer::silent, Tracer::verbose))
}

fn run_traced<M: Machine>(order: &Order, tracer: Tracer) -> Report {
    quiet_panics();
    let mut setup = Setup::draw(order.seed, &order.overrides);
    if let Some(removal) = order.without {
        removal.apply(&mut setup);
    }
    let mut world = World::<M>::new(setup, order.planted, tracer);
    world.without = order.without;
    if order.telling {
        world.tell();
    }
    RUNNING.set(true);
    set_pulse(order.seed, 0);
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        let verdict = live(&mut world, order.until);
        unless_silenced(&world, verdict)
    }));
    set_pulse(order.seed, IDLE);
    RUNNING.set(false);
    let violation = verdict.unwrap_or_else(|_| {
        let what = PANIC.with_borrow_mut(core::mem::take);
        Some(Violation::new("assertion", world.now(), what))
    });
    world.finish();
    world.stats.violations = u64::from(violation.is_some());
    let (choices, history_hash) = (world.choices(), world.tracer.history_hash());
    Report { violation, history_hash, choices, stats: world.stats }
}

fn live<M: Machine>(world: &mut World<M>, until: Option<u64>) -> Option<Violation> {
    let limit = until.unwrap_or(u64::MAX);
    let over = |world: &World<M>| world.clients.is_spent() && world.clients.is_idle();
    let wrong = world.run(limit.min(world.setup.duration), over);
    if wrong.is_some() || world.now() >= limit {
        return wrong;
    }
    world.heal();
    world.freeze();
    world.clients.settle();
    world.wake_clients();
    let healed = world.now();
    let due = healed + liveness::bound(&world.setup);
    for phase in [2, 3] {
        let wrong = world.run(limit.min(due), |world| {
            world.clients.is_idle() && (phase == 2 || world.stopping().is_empty())
        });
        if wrong.is_some() || world.now() >= limit {
            return wrong;
        }
        let stopping = world.stopping();
        if phase == 3 && !stopping.is_empty() {
            let what = [format!("{stopping:?} were told to stop and have not")];
            return Some(liveness::stuck(world.now(), healed, &what));
        }
        if !world.clients.is_idle() {
            return Some(liveness::stuck(world.now(), healed, &world.clients.unfinished()));
        }
        if phase == 2 {
            world.tracer.event(world.now(), Kind::Phase, &[phase], || "the proof begins".into());
            world.clients.prove();
            world.wake_clients();
        }
    }
    if let Some(violation) = rest_returns(world, limit) {
        return Some(violation);
    }
    if let Some(violation) = redundancy_returns(world, limit) {
        return Some(violation);
    }
    if let Some(violation) = rot_is_found(world, limit) {
        return Some(violation);
    }
    if world.setup.outlives_leases
        && let Some(wrong) = collect(world, limit)
    {
        return Some(wrong);
    }
    // A search has bounds of its own, and no events.
    set_pulse(world.setup.seed, IDLE);
    let findings = check_history(&world.history, &world.clients.contents);
    world.stats.searches = findings.searched;
    world.stats.searches_given_up = findings.given_up;
    findings.violations.into_iter().find(|violation| world.counts(violation))
}

/// What the last oracle says of a run that another one ended whose word does not count.
fn unless_silenced<M: Machine>(world: &World<M>, verdict: Option<Violation>) -> Option<Violation> {
    if verdict.as_ref().is_none_or(|violation| world.counts(violation)) {
        return verdict;
    }
    let findings = check_history(&world.history, &world.clients.contents);
    findings.violations.into_iter().find(|violation| world.counts(violation))
}

/// The rest comes back, if there is one, and unseats nobody: who has lost touch asks first (pre-vote), and is refused
/// by whoever hears a leader. Where leaders changed without it, it may be that they would have changed anyway.
fn rest_returns<M: Machine>(world: &mut World<M>, limit: u64) -> Option<Violation> {
    let mut steady = world.is_steady();
    if steady {
        let (wrong, anew) = watch_leaders(world, limit);
        if wrong.is_some() {
            return wrong;
        }
        steady = anew.is_empty() && world.is_steady();
    }
    if !world.thaw() {
        return None;
    }
    if steady {
        let (wrong, anew) = watch_leaders(world, limit);
        let unseated = || liveness::unseated(world.now(), &anew);
        let wrong = wrong.or_else(|| (!anew.is_empty()).then(unseated));
        if wrong.is_some() {
            return wrong;
        }
    }
    all_stop(world, limit)
}

/// For a while, which groups get a new leader.
fn watch_leaders<M: Machine>(
    world: &mut World<M>,
    limit: u64,
) -> (Option<Violation>, Vec<GroupId>) {
    world.watch_elections();
    let until = world.now() + world.setup.tuning.election.0 * liveness::STEADY_ELECTIONS;
    let wrong = world.run(limit.min(until), |_| false);
    (wrong, world.elected_anew())
}

/// Waits until whoever was told to stop has stopped.
fn all_stop<M: Machine>(world: &mut World<M>, limit: u64) -> Option<Violation> {
    let from = world.now();
    let due = from + liveness::bound(&world.setup);
    let wrong = world.run(limit.min(due), |world| world.stopping().is_empty());
    let stopping = world.stopping();
    if wrong.is_some() || world.now() >= limit || stopping.is_empty() {
        return wrong;
    }
    let what = [format!("{stopping:?} were told to stop and have not")];
    Some(liveness::stuck(world.now(), from, &what))
}

/// Waits until every replica and every chunk is where it belongs.
fn redundancy_returns<M: Machine>(world: &mut World<M>, limit: u64) -> Option<Violation> {
    let due = world.now() + liveness::bound(&world.setup);
    let wrong = wait_for(world, limit, due, |world| {
        let mut degraded = liveness::degraded(&world.statuses(), &world.out_for_good());
        degraded.extend(world.unrefused());
        degraded
    });
    let due = due + STAGE_LEASE_MS * 1_000_000;
    wrong.or_else(|| {
        wait_for(world, limit, due, |world| liveness::missing_chunks(&world.statuses()))
    })
}

/// Where chunks lie damaged on disks after everything has healed, nobody has read them: after two rounds of every node's scrub (one
/// may have been past them when they rotted) they are found, and replaced by copies.
fn rot_is_found<M: Machine>(world: &mut World<M>, limit: u64) -> Option<Violation> {
    if !world.is_scrubbed() || world.rotten_chunks().is_empty() {
        return None;
    }
    let rounds = |world: &World<M>| -> BTreeMap<NodeId, u64> {
        world.statuses().iter().map(|it| (it.node, it.scrubbed.rounds)).collect()
    };
    let before = rounds(world);
    let due = world.now() + liveness::bound(&world.setup) + 3 * world.setup.tuning.scrub_every.0;
    let wrong = wait_for(world, limit, due, |world| {
        let now = rounds(world);
        let is_late =
            |node: &NodeId, rounds: u64| now.get(node).is_none_or(|now| *now < rounds + 2);
        let late = before.iter().filter(|(node, rounds)| is_late(node, **rounds));
        late.map(|(node, _)| format!("{node:?} has not verified its chunks")).collect()
    });
    let wrong = wrong.or_else(|| redundancy_returns(world, limit));
    if wrong.is_some() || world.now() >= limit {
        return wrong;
    }
    let rotten = world.rotten_chunks();
    if rotten.is_empty() {
        Stats::count(&mut world.stats.rare, "rot-found-by-a-scrub", 1);
        return None;
    }
    let what = format!("after two rounds of every scrub {}", rotten.join(", "));
    Some(Violation::new("scrub", world.now(), what))
}

/// Lets time pass until nothing is open; something still is when it is `due`: the cluster is stuck. Looking at all of it is much
/// work, so it is done now and then.
fn wait_for<M: Machine>(
    world: &mut World<M>,
    limit: u64,
    due: u64,
    open: impl Fn(&World<M>) -> Vec<String>,
) -> Option<Violation> {
    let from = world.now();
    loop {
        let open = open(world);
        if open.is_empty() || world.now() >= limit {
            return None;
        }
        if world.now() >= due {
            return Some(liveness::stuck(world.now(), from, &open));
        }
        let next = world.now() + LOOK_EVERY;
        let wrong = world.run(limit.min(next), |_| false);
        if wrong.is_some() {
            return wrong;
        }
    }
}

/// Lets time pass until nothing is left that nobody needs, or should have been.
fn collect<M: Machine>(world: &mut World<M>, limit: u64) -> Option<Violation> {
    world.tracer.event(world.now(), Kind::Phase, &[4], || "all leases run out".into());
    world.clients.retire();
    let began = world.now();
    let due = began + collection::PATIENCE;
    loop {
        let left = world.leftovers();
        if left.is_empty() {
            let had_to_wait = u64::from(world.now() > began);
            Stats::count(&mut world.stats.rare, "collected-to-the-end", had_to_wait);
            Stats::count(&mut world.stats.rare, "blobs-live-at-the-end", left.live() as u64);
            return None;
        }
        if world.now() >= due {
            return Some(left.violation(world.now()));
        }
        let until = (world.now() + COLLECTION_LOOK).min(due).min(limit);
        let wrong = world.run(until, |_| false);
        if wrong.is_some() || world.now() >= limit {
            return wrong;
        }
    }
}

/// Nanoseconds between two looks at what is left.
const COLLECTION_LOOK: u64 = 5_000_000_000;
/// How long what is waited for is not looked at: nanoseconds.
const LOOK_EVERY: u64 = 20_000_000;

/// How far runs have come, for whoever watches that they go on. A machine that loops for ever within one
/// step is the one violation that the world can't see from inside.
#[derive(Debug, Default)]
pub struct Pulse {
    seed: AtomicU64,
    /// Events so far, in the run under way.
    beats: AtomicU64,
}

impl Pulse {
    /// Makes the runs of this thread beat here.
    pub fn attach(self: &Arc<Self>) {
        PULSE.set(Some(self.clone()));
    }

    /// The seed under way and how far it has come.
    #[must_use]
    pub fn look(&self) -> (u64, u64) {
        (self.seed.load(Ordering::Relaxed), self.beats.load(Ordering::Relaxed))
    }
}

fn set_pulse(seed: u64, beats: u64) {
    PULSE.with_borrow(|pulse| {
        if let Some(pulse) = pulse {
            pulse.seed.store(seed, Ordering::Relaxed);
            pulse.beats.store(beats, Ordering::Relaxed);
        }
    });
}

/// One more event has happened in this thread's run.
pub(crate) fn beat() {
    PULSE.with_borrow(|pulse| {
        if let Some(pulse) = pulse {
            pulse.beats.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Calls `stuck` with the seed of a run that has not had an event for so long. Never returns by itself: for a
/// thread of its own, which ends with the process.
pub fn watch(pulses: &[Arc<Pulse>], patience: Duration, stuck: impl Fn(u64)) {
    let mut seen: Vec<(u64, u64)> = pulses.iter().map(|pulse| pulse.look()).collect();
    loop {
        std::thread::sleep(patience);
        for (pulse, seen) in pulses.iter().zip(&mut seen) {
            let now = pulse.look();
            if now == *seen && now.1 != IDLE {
                stuck(now.0);
            }
            *seen = now;
        }
    }
}

/// What a pulse shows between runs.
const IDLE: u64 = u64::MAX;

thread_local! {
    static PULSE: RefCell<Option<Arc<Pulse>>> = const { RefCell::new(None) };
    /// What the last panic of this thread said, and where.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    /// Whether this thread is in a run.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Panics of a run become violations with their message and place; nothing is printed for them.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if RUNNING.get() {
                PANIC.with_borrow_mut(|text| *text = panic.to_string());
            } else {
                before(panic);
            }
        }));
    });
}
