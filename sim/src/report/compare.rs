//! The nearest passing schedule: the same run with one choice taken out, and where the two part.
//!
//! First each fault alone, then several together. A choice that is taken out takes nothing else with it ([`crate::draw`]): a fault keeps its number in the
//! plan and never strikes. So two runs are the same event for event until the first consequence of the choice,
//! and of all runs that pass the nearest is the one that parts last.

use super::recorder::Recording;
use crate::checkers::{Millis, Violation};
use crate::faults::{Fault, Planned};
use crate::run::{Order, run_recorded};
use crate::setup::Overrides;
use crate::trace::{Kind, Note, Recorder};
use ironseed_core::planted::Planted;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// What was tried, and the nearest run that passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Every run that was tried, the nearest first.
    pub tried: Vec<Tried>,
    /// Choices that were left out of the search, because there are too many.
    pub untried: usize,
    /// The nearest run that passes.
    pub nearest: Option<Nearest>,
}

/// A run that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Which choice was taken out.
    pub without: String,
    /// The number of the fault, if it is one.
    pub fault: Option<usize>,
    /// Whether faults were taken out and nothing else.
    pub faults: bool,
    /// `passes`, `same` (the same oracle objects) or `other`.
    pub verdict: &'static str,
    /// What is wrong with it.
    pub what: String,
    /// How many events both runs have in common.
    pub common: usize,
    /// When they part: nanoseconds.
    pub at: u64,
}

/// Where the nearest passing run parts from the failing one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// Which choice was taken out.
    pub without: String,
    /// How many events both runs have in common, the choice itself left out.
    pub common: usize,
    /// The first event that only the failing run has, by number.
    pub event: usize,
    /// When they part: nanoseconds.
    pub at: u64,
    /// The last lines that they share.
    pub before: Vec<String>,
    /// How the failing run goes on.
    pub failing: Vec<String>,
    /// How the passing run goes on.
    pub passing: Vec<String>,
}

/// A change of a run.
#[derive(Clone, Debug)]
struct Change {
    without: String,
    fault: Option<usize>,
    faults: bool,
    order: Order,
}

/// Tries runs with one choice less than `order`, which failed so. `plan` is the run's plan, `clients` how many
/// there are, `told` hears how far it has come.
#[must_use]
pub fn compare(
    order: &Order,
    plan: &[Planned],
    clients: u32,
    violation: &Violation,
    recording: &Rc<RefCell<Recording>>,
    told: impl Fn(usize, usize),
) -> Comparison {
    let struck: BTreeSet<usize> =
        recording.borrow().strikes.iter().map(|(number, ..)| *number as usize).collect();
    let (changes, untried) = changes(order, plan, clients, &struck);
    let mut runs = Vec::new();
    for (number, change) in changes.iter().enumerate() {
        told(number, changes.len());
        runs.push(attempt(change, violation, recording));
    }
    // Faults first: another number of clients is another load, and a planted bug is no choice of the schedule.
    runs.sort_by_key(|(tried, _)| {
        (tried.verdict != "passes", !tried.faults, usize::MAX - tried.common)
    });
    let nearest = runs
        .first()
        .filter(|(tried, _)| tried.verdict == "passes")
        .map(|(tried, split)| nearest(tried, split, &recording.borrow()));
    Comparison { tried: runs.into_iter().map(|(tried, _)| tried).collect(), untried, nearest }
}

/// The faults that struck, the latest first, one less each; and then coarser changes.
fn changes(
    order: &Order,
    plan: &[Planned],
    clients: u32,
    struck: &BTreeSet<usize>,
) -> (Vec<Change>, usize) {
    let with = |without: String, fault, overrides: Overrides| {
        let order = Order { overrides, until: None, ..order.clone() };
        Change { without, fault, faults: false, order }
    };
    let without = |gone: &dyn Fn(usize) -> bool| {
        let spare = |(number, planned): (usize, &Planned)| Planned {
            at: if gone(number) { NEVER } else { planned.at },
            fault: planned.fault.clone(),
        };
        let plan = plan.iter().enumerate().map(spare).collect();
        Overrides { plan: Some(plan), ..order.overrides.clone() }
    };
    let mut changes = Vec::new();
    let latest: Vec<usize> =
        struck.iter().copied().filter(|number| *number < plan.len()).rev().collect();
    for &number in latest.iter().take(FAULTS_MAX) {
        let name = format!("fault {number}: {}", describe(&plan[number].fault));
        changes.push(with(name, Some(number), without(&|other| other == number)));
    }
    let untried = latest.len().saturating_sub(FAULTS_MAX);
    // Several together: all of one name, the last few, all.
    let names: BTreeSet<&str> = latest.iter().map(|number| plan[*number].fault.name()).collect();
    for name in names {
        let named = |number: usize| plan[number].fault.name() == name;
        if latest.iter().filter(|number| named(**number)).count() > 1 {
            changes.push(with(format!("every {name}"), None, without(&named)));
        }
    }
    for few in [2, 3, 4, 6, 8, 12, 16, 24] {
        if let Some(&first) = latest.get(few - 1).filter(|_| few < latest.len()) {
            let name = format!("the last {few} faults that struck, from number {first} on");
            changes.push(with(name, None, without(&|number| number >= first)));
        }
    }
    if !struck.is_empty() {
        changes.push(with("any fault".into(), None, without(&|_| true)));
    }
    changes.iter_mut().for_each(|change| change.faults = true);
    for fewer in [1, 2].into_iter().filter(|fewer| *fewer < clients) {
        let left = clients - fewer;
        let overrides = Overrides { clients: Some(left), ..order.overrides.clone() };
        let name = if fewer == 1 {
            format!("client c{left}")
        } else {
            format!("clients c{left} and above")
        };
        changes.push(with(name, None, overrides));
    }
    if order.planted != Planted::NONE {
        let mut change = with(PLANTED.into(), None, order.overrides.clone());
        change.order.planted = Planted::NONE;
        changes.push(change);
    }
    (changes, untried)
}

fn attempt(
    change: &Change,
    violation: &Violation,
    recording: &Rc<RefCell<Recording>>,
) -> (Tried, Split) {
    let split = Rc::new(RefCell::new(Split::default()));
    let own = |(number, event, _): &(u64, usize, bool)| {
        (change.fault == Some(*number as usize)).then_some(*event)
    };
    let skipped = recording.borrow().strikes.iter().filter_map(own).collect();
    let recorder =
        Follower { recording: recording.clone(), skipped, next: 0, split: split.clone() };
    let report = run_recorded(&change.order, Box::new(recorder));
    let verdict = match &report.violation {
        None => "passes",
        Some(other) if other.checker == violation.checker => "same",
        Some(_) => "other",
    };
    let split = split.take();
    let what = report.violation.map_or_else(String::new, |violation| {
        violation.to_string().lines().next().unwrap_or_default().to_string()
    });
    let (without, fault) = (change.without.clone(), change.fault);
    let faults = change.faults;
    (Tried { without, fault, faults, verdict, what, common: split.common, at: split.at }, split)
}

fn nearest(tried: &Tried, split: &Split, recording: &Recording) -> Nearest {
    let line = |event: &super::recorder::Event| format!("{} {}", Millis(event.at), event.line);
    let events = &recording.events;
    let from = split.event.min(events.len());
    Nearest {
        without: tried.without.clone(),
        common: split.common,
        event: split.event,
        at: split.at,
        before: events[from.saturating_sub(3)..from].iter().map(line).collect(),
        failing: events[from..].iter().take(LINES).map(line).collect(),
        passing: split.lines.clone(),
    }
}

/// A fault in a few words.
#[must_use]
pub fn describe(fault: &Fault) -> String {
    let nodes = |nodes: &[u32]| {
        let names: Vec<String> = nodes.iter().map(|node| format!("n{node}")).collect();
        names.join(" ")
    };
    let name = fault.name();
    match fault {
        Fault::Crash { nodes: which, .. } => format!("{name} of {}", nodes(which)),
        Fault::Cut { from, to, both_ways: true, .. } => {
            format!("{name} {} | {}", nodes(from), nodes(to))
        }
        Fault::Cut { from, to, .. } => format!("{name} {} -> {}", nodes(from), nodes(to)),
        Fault::Clog { from, to, .. } | Fault::Reset { from, to, .. } => {
            format!("{name} {} | {}", nodes(from), nodes(to))
        }
        Fault::Throttle { from, to, bytes_per_second, .. } => {
            format!("{name} {} | {}, {bytes_per_second} bytes a second", nodes(from), nodes(to))
        }
        Fault::Storm { weather, .. } => {
            let mut says = Vec::new();
            let mut says_if = |ppm: u32, what: &str| {
                if ppm > 0 {
                    says.push(format!("{}% {what}", f64::from(ppm) / 10_000.0));
                }
            };
            says_if(weather.loss_ppm, "lost");
            says_if(weather.duplicate_ppm, "doubled");
            says_if(weather.replay_ppm, "replayed");
            if weather.reorder {
                says.push(format!("reordered, delay about {}", Millis(weather.delay)));
            }
            format!("{name}, {}", says.join(", "))
        }
        Fault::Pause { node, .. }
        | Fault::Rot { node, .. }
        | Fault::DiskError { node, .. }
        | Fault::Misdirect { node, .. }
        | Fault::Byte { node, .. }
        | Fault::Choke { node, .. }
        | Fault::DiskFull { node, .. } => format!("{name} at n{node}"),
        Fault::DiskLoss { node, left, .. } => format!("{name} at n{node}, left: {left:?}"),
        Fault::CrashLoop { node, times, .. } => format!("{name} of n{node}, {times} boots"),
        Fault::DiskSlow { node, times, .. } => format!("{name} at n{node}, {times} times"),
        Fault::ClockStep { node, by } => {
            let sign = if *by < 0 { "-" } else { "+" };
            format!("{name} of n{node}, {sign}{}", Millis(by.unsigned_abs()))
        }
        Fault::Move { shard, to } => format!("{name} of shard {shard} to {to:?}"),
        Fault::Hunt { group, .. } => format!("{name} of the leaders of g{group}"),
        Fault::Estrange { group, .. } => format!("{name} of the leaders of g{group}"),
        Fault::Burden { group, times, .. } => {
            format!("{name} on the leaders of g{group}, {times} times")
        }
        Fault::Ambush { .. } => format!("{name} of bucket deletions"),
    }
}

/// Where a run parts from the one that is followed.
#[derive(Clone, Debug, Default)]
struct Split {
    common: usize,
    /// The first event that is not shared, by its number in the run that is followed.
    event: usize,
    at: u64,
    parted: bool,
    lines: Vec<String>,
}

/// Compares a run to a recording while it goes on.
struct Follower {
    recording: Rc<RefCell<Recording>>,
    /// Events of the recording that are the choice itself.
    skipped: BTreeSet<usize>,
    next: usize,
    split: Rc<RefCell<Split>>,
}

impl Recorder for Follower {
    fn event(&mut self, at: u64, _kind: Kind, _parts: &[u64], line: &mut dyn FnMut() -> String) {
        let mut split = self.split.borrow_mut();
        if split.lines.len() >= LINES {
            return;
        }
        let line = line();
        if !split.parted {
            while self.skipped.contains(&self.next) {
                self.next += 1;
            }
            let recording = self.recording.borrow();
            let there = recording.events.get(self.next);
            if there.is_some_and(|there| there.at == at && there.line == line) {
                self.next += 1;
                split.common += 1;
                (split.event, split.at) = (self.next, at);
                return;
            }
            split.parted = true;
            split.event = self.next;
            split.at = there.map_or(at, |there| there.at.min(at));
        }
        split.lines.push(format!("{} {line}", Millis(at)));
    }

    fn note(&mut self, _note: Note<'_>) {}
}

const PLANTED: &str = "the planted bug";
/// Faults that are taken out one by one, at the most.
const FAULTS_MAX: usize = 40;
/// Lines that are shown of each run after they part.
const LINES: usize = 14;
/// Long after any run: nanoseconds.
const NEVER: u64 = 1 << 60;
