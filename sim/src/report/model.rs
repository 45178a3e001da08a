//! What the page shows, as data: the part of a recording that fits, with the series that say how everything
//! was at any instant. The page only draws it and looks things up.
//!
//! Events are numbered from the first one on the page; numbers below 0 and beyond the last stand for events that
//! are not there, so that what reaches in from outside keeps its ends.

use super::compare::describe;
use super::cone::cone;
use super::message::KINDS;
use super::recorder::{Call, Fate, Life, Message, Recording, Series, View};
use crate::checkers::Violation;
use crate::faults::{Fault, Planned};
use crate::trace::Kind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Which part of a run is wanted on the page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// From this instant on: nanoseconds.
    pub from: Option<u64>,
    /// Up to this instant.
    pub until: Option<u64>,
    /// Events at the most.
    pub events_max: usize,
}

/// Everything that the page draws. Times are world nanoseconds, nodes positions in `nodes`.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// The form of this data.
    pub schema: u32,
    /// Ids of the nodes.
    pub nodes: Vec<u32>,
    /// Clients that ask something in this part.
    pub clients: Vec<u32>,
    /// All groups.
    pub groups: Vec<u32>,
    /// The group that the violation is about, or the busiest.
    pub focus: u32,
    /// Families of messages.
    pub kinds: Vec<&'static str>,
    /// Which part of the run this is.
    pub window: Window,
    /// The events.
    pub events: Vec<EventRow>,
    /// Messages of which an end is in this part.
    pub messages: Vec<MessageRow>,
    /// Requests of clients that are open in this part.
    pub calls: Vec<CallRow>,
    /// Disk operations.
    pub disk: Vec<DiskRow>,
    /// Faults that lie over this part.
    pub faults: Vec<FaultRow>,
    /// How each node is: event, time, state.
    pub lives: Vec<Vec<(i64, u64, Life)>>,
    /// From when on which directions are cut: event, time, pairs of node ids.
    pub cuts: Vec<(i64, u64, Pairs)>,
    /// Replicas.
    pub replicas: Vec<Replica>,
    /// How many groups each node leads: event, time, count.
    pub leads: Vec<Vec<(i64, u64, usize)>>,
    /// For each event `1` if it is in the causal cone of the anchor.
    pub cone: String,
    /// Events of the whole run in the cone.
    pub cone_size: usize,
    /// The event that the violation is about.
    pub anchor: Option<i64>,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Number of the first event in the run.
    pub first: usize,
    /// Number of events of the run.
    pub total: usize,
    /// Its first instant.
    pub from: u64,
    /// Its last instant.
    pub until: u64,
    /// The last instant of the run.
    pub end: u64,
    /// Whether more was wanted than fits.
    pub capped: bool,
}

/// An event.
#[derive(Clone, Debug, Serialize)]
pub struct EventRow {
    /// When.
    pub at: u64,
    /// What kind: a letter.
    pub kind: char,
    /// Where, -1 for nowhere.
    pub node: i64,
    /// The client, -1 for none.
    pub client: i64,
    /// The group that it is about, -1 for none or several.
    pub group: i64,
    /// In a few words.
    pub brief: String,
    /// Its line in the trace.
    pub line: String,
}

/// A message.
#[derive(Clone, Debug, Serialize)]
pub struct MessageRow {
    /// The event that sends it.
    pub sent: i64,
    /// When.
    pub sent_at: u64,
    /// The event that delivers it.
    pub arrived: Option<i64>,
    /// When it arrives or is lost.
    pub end_at: Option<u64>,
    /// Sender.
    pub from: usize,
    /// Receiver.
    pub to: usize,
    /// What became of it.
    pub fate: Fate,
    /// Group (-1 for none), family (a position in `kinds`) and words.
    pub parts: Vec<(i64, usize, String)>,
}

/// A request.
#[derive(Clone, Debug, Serialize)]
pub struct CallRow {
    /// Who asks.
    pub client: u32,
    /// Who is asked.
    pub node: usize,
    /// The request's number there.
    pub id: u64,
    /// The event that asks, and when.
    pub asked: (i64, u64),
    /// The event that ends it, and when.
    pub ended: Option<(i64, u64)>,
    /// `open`, `ok`, `refused` or `unknown`.
    pub outcome: &'static str,
    /// What is asked.
    pub text: String,
    /// What is answered.
    pub answer: String,
}

/// A disk operation.
#[derive(Clone, Debug, Serialize)]
pub struct DiskRow {
    /// Whose disk.
    pub node: usize,
    /// The event that issues it, and when.
    pub issued: (i64, u64),
    /// The event that ends it, and when.
    pub done: Option<(i64, u64)>,
    /// Of a write: the event that made it durable, and when.
    pub synced: Option<(i64, u64)>,
    /// Whether it failed or was taken by a crash.
    pub failed: bool,
    /// `write`, `sync`, `read` or `other`.
    pub kind: &'static str,
    /// The file; empty for the directory.
    pub file: String,
    /// Bytes written.
    pub bytes: u64,
}

/// A fault.
#[derive(Clone, Debug, Serialize)]
pub struct FaultRow {
    /// Its number in the plan.
    pub number: u64,
    /// What it is.
    pub text: String,
    /// When it struck.
    pub at: u64,
    /// When it was over, for those that last.
    pub until: Option<u64>,
    /// The event with which it struck.
    pub event: i64,
}

/// Ids of senders and receivers.
pub type Pairs = Vec<(u32, u32)>;

/// A replica from an event on: event, time, and then role (0 follower, 1 candidate, 2 leader), term, leader's node id
/// (0 for none), commit index, applied index, end of the log, durable end, whether it abstains.
pub type ReplicaRow = (i64, u64, u8, u64, u32, u64, u64, u64, u64, bool);

/// A replica through time.
#[derive(Clone, Debug, Serialize)]
pub struct Replica {
    /// Where.
    pub node: usize,
    /// Of which group.
    pub group: u32,
    /// How it was.
    pub rows: Vec<ReplicaRow>,
}

/// The form of the data.
pub const SCHEMA: u32 = 1;

/// What the page shows of a recording. `nodes` are the ids.
#[must_use]
pub fn model(
    recording: &Recording,
    nodes: &[u32],
    plan: &[Planned],
    violation: Option<&Violation>,
    wanted: Wanted,
) -> Model {
    let anchor = violation.and_then(|violation| anchor(recording, violation));
    let focus = focus(recording, violation, anchor);
    let (first, past, capped) = part(recording, anchor, wanted);
    let cut = Cut { recording, first, past };
    let at = |number: usize| recording.events.get(number).map_or(0, |event| event.at);
    let within = anchor.map(|anchor| cone(recording, anchor)).unwrap_or_default();
    let shown = within.get(first..past.min(within.len())).unwrap_or_default();
    let calls: Vec<&Call> = recording
        .calls
        .iter()
        .filter(|call| call.asked < past && call.ended.is_none_or(|ended| ended >= first))
        .collect();
    let clients: BTreeSet<u32> = calls.iter().map(|call| call.client).collect();
    let groups: BTreeSet<u32> = recording.views.keys().map(|(_, group)| *group).collect();
    let window = Window {
        first,
        total: recording.events.len(),
        from: at(first),
        until: at(past.saturating_sub(1)),
        end: recording.events.last().map_or(0, |event| event.at),
        capped,
    };
    Model {
        schema: SCHEMA,
        nodes: nodes.to_vec(),
        clients: clients.into_iter().collect(),
        groups: groups.into_iter().collect(),
        focus,
        kinds: KINDS.to_vec(),
        window,
        events: (first..past).map(|number| cut.event(number)).collect(),
        messages: recording.messages.iter().filter_map(|message| cut.message(message)).collect(),
        calls: calls.into_iter().map(|call| cut.call(call)).collect(),
        disk: cut.disk(),
        faults: cut.faults(plan),
        lives: (0..nodes.len())
            .map(|node| cut.series(recording.lives.get(&node), |life| *life))
            .collect(),
        cuts: cut.series(Some(&recording.cuts), |cuts| {
            cuts.iter().map(|(from, to)| (from.0, to.0)).collect()
        }),
        replicas: cut.replicas(),
        leads: cut.leads(nodes.len()),
        cone: shown.iter().map(|within| if *within { '1' } else { '0' }).collect(),
        cone_size: within.iter().filter(|within| **within).count(),
        anchor: anchor.map(|anchor| cut.number(anchor)),
    }
}

/// The event that a violation is about: what was happening when an oracle objected; or, if it was found in the
/// history of the clients, the answer that fits nowhere.
#[must_use]
pub fn anchor(recording: &Recording, violation: &Violation) -> Option<usize> {
    let last = recording.events.len().checked_sub(1)?;
    let from_history = recording
        .calls
        .iter()
        .filter(|call| recording.events[call.asked].at == violation.at)
        .find_map(|call| call.ended);
    let fits = |at: &usize| recording.events[*at].at == violation.at;
    let seen = recording.violated.filter(fits).or_else(|| Some(last).filter(fits));
    Some(seen.or(from_history).unwrap_or(last))
}

/// The group that a violation names, or that its client's request went to, or that has most to say.
fn focus(recording: &Recording, violation: Option<&Violation>, anchor: Option<usize>) -> u32 {
    let named = violation.and_then(|violation| {
        let words = violation.what.split(|c: char| !c.is_ascii_alphanumeric());
        words.filter_map(|word| word.strip_prefix('g')?.parse().ok()).next()
    });
    let known: BTreeSet<u32> = recording.views.keys().map(|(_, group)| *group).collect();
    let named = named.filter(|group| known.contains(group));
    let asked = || {
        let call = recording.calls.iter().find(|call| call.ended == anchor)?;
        let until = call.ended.unwrap_or(usize::MAX);
        let its = |message: &&Message| {
            message.ends.0 == call.node && (call.asked..until).contains(&message.sent)
        };
        let parts = recording.messages.iter().filter(its).flat_map(|message| message.parts.iter());
        parts.filter(|part| part.kind == "call").find_map(|part| part.group)
    };
    let busiest = || {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for ((_, group), series) in &recording.views {
            *counts.entry(*group).or_default() += series.len();
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(group, _)| group)
    };
    named.or_else(asked).or_else(busiest).unwrap_or(0)
}

/// First event and the one past the last, and whether there would be more.
fn part(recording: &Recording, anchor: Option<usize>, wanted: Wanted) -> (usize, usize, bool) {
    let events = &recording.events;
    let before = |at: u64| events.partition_point(|event| event.at < at);
    let low = wanted.from.map_or(0, before);
    let high = wanted.until.map_or(events.len(), |until| before(until.saturating_add(1)));
    let (low, high) = (low.min(high), high);
    if high - low <= wanted.events_max {
        return (low, high, false);
    }
    // What leads to the violation counts more than what follows it.
    let lead = wanted.events_max / 20 * 17;
    let begin = match anchor {
        Some(anchor) if (low..high).contains(&anchor) => {
            anchor.saturating_sub(lead).clamp(low, high - wanted.events_max)
        }
        _ => low,
    };
    (begin, begin + wanted.events_max, true)
}

/// A recording and the part of it that is shown.
struct Cut<'a> {
    recording: &'a Recording,
    first: usize,
    past: usize,
}

impl Cut<'_> {
    fn number(&self, event: usize) -> i64 {
        event as i64 - self.first as i64
    }

    fn at(&self, event: usize) -> u64 {
        self.recording.events.get(event).map_or(0, |event| event.at)
    }

    fn point(&self, event: usize) -> (i64, u64) {
        (self.number(event), self.at(event))
    }

    /// The rows of a series in this part, and the one that holds when it begins.
    fn rows<'a, T>(&'a self, series: &'a Series<T>) -> impl Iterator<Item = &'a (usize, T)> {
        let low = series.partition_point(|(event, _)| *event <= self.first).saturating_sub(1);
        let high = series.partition_point(|(event, _)| *event < self.past);
        series.get(low..high).unwrap_or_default().iter()
    }

    fn series<T, U>(
        &self,
        series: Option<&Series<T>>,
        show: impl Fn(&T) -> U,
    ) -> Vec<(i64, u64, U)> {
        let rows = series.into_iter().flat_map(|series| self.rows(series));
        rows.map(|(event, value)| (self.number(*event), self.at(*event), show(value))).collect()
    }

    fn event(&self, number: usize) -> EventRow {
        let event = &self.recording.events[number];
        EventRow {
            at: event.at,
            kind: letter(event.kind),
            node: event.node.map_or(-1, |node| node as i64),
            client: event.client.map_or(-1, i64::from),
            group: event.group.map_or(-1, i64::from),
            brief: event.brief.clone(),
            line: event.line.clone(),
        }
    }

    fn message(&self, message: &Message) -> Option<MessageRow> {
        let end_at = message.end;
        let (from, until) = (self.at(self.first), self.at(self.past.saturating_sub(1)));
        let shown = message.sent < self.past
            && (message.sent >= self.first || end_at.is_some_and(|end| end >= from))
            && self.at(message.sent) <= until;
        let kind = |kind| KINDS.iter().position(|known| *known == kind).unwrap_or(0);
        let part = |part: &super::message::Part| {
            (part.group.map_or(-1, i64::from), kind(part.kind), part.text.clone())
        };
        shown.then(|| MessageRow {
            sent: self.number(message.sent),
            sent_at: self.at(message.sent),
            arrived: message.arrived.map(|event| self.number(event)),
            end_at,
            from: message.ends.0,
            to: message.ends.1,
            fate: message.fate,
            parts: message.parts.iter().map(part).collect(),
        })
    }

    fn call(&self, call: &Call) -> CallRow {
        CallRow {
            client: call.client,
            node: call.node,
            id: call.id,
            asked: self.point(call.asked),
            ended: call.ended.map(|ended| self.point(ended)),
            outcome: call.outcome,
            text: call.text.clone(),
            answer: call.answer.clone(),
        }
    }

    fn disk(&self) -> Vec<DiskRow> {
        let ops = self.recording.disk_ops.iter();
        let shown = ops.filter(|op| {
            let last = op.synced.or(op.done).unwrap_or(usize::MAX);
            op.issued < self.past && last >= self.first
        });
        shown
            .map(|op| DiskRow {
                node: op.node,
                issued: self.point(op.issued),
                done: op.done.map(|done| self.point(done)),
                synced: op.synced.map(|synced| self.point(synced)),
                failed: op.failed,
                kind: op.kind,
                file: op.file.clone(),
                bytes: op.bytes,
            })
            .collect()
    }

    fn faults(&self, plan: &[Planned]) -> Vec<FaultRow> {
        let strikes = &self.recording.strikes;
        let (from, until) = (self.at(self.first), self.at(self.past.saturating_sub(1)));
        let healing = |event: &&super::recorder::Event| event.kind == Kind::Phase;
        let healed = self.recording.events.iter().find(healing).map(|event| event.at);
        let mut rows = Vec::new();
        for (number, event, _) in strikes.iter().filter(|(.., begins)| *begins) {
            let ends = |end: &&(u64, usize, bool)| end.0 == *number && end.1 > *event && !end.2;
            let at = self.at(*event);
            // A plan grows while a run goes on: what was added tells itself in the trace.
            let planned = plan.get(*number as usize).map(|planned| &planned.fault);
            let text = planned.map_or_else(|| self.recording.events[*event].line.clone(), describe);
            let lasts = planned.and_then(lasts).map(|lasts| at.saturating_add(lasts));
            let mended = strikes.iter().find(ends).map(|(_, end, _)| self.at(*end));
            // When everything heals, no fault has anything left to mend.
            let over =
                mended.or_else(|| lasts.map(|lasts| healed.map_or(lasts, |at| lasts.min(at))));
            if at <= until && over.unwrap_or(at) >= from {
                let event = self.number(*event);
                rows.push(FaultRow { number: *number, text, at, until: over, event });
            }
        }
        rows
    }

    fn replicas(&self) -> Vec<Replica> {
        let row = |(event, view): &(usize, View)| {
            let role = match view.role {
                "leader" => 2,
                "candidate" => 1,
                _ => 0,
            };
            let View { term, leader, commit, applied, last, durable, abstains, .. } = *view;
            let (number, at) = self.point(*event);
            let leader = leader.unwrap_or(0);
            (number, at, role, term, leader, commit, applied, last, durable, abstains)
        };
        let replica = |(&(node, group), series): (&(usize, u32), &Series<View>)| Replica {
            node,
            group,
            rows: self.rows(series).map(row).collect(),
        };
        self.recording.views.iter().map(replica).collect()
    }

    /// How many groups each node leads. A node that goes down leads none.
    fn leads(&self, nodes: usize) -> Vec<Vec<(i64, u64, usize)>> {
        let mut changes: Vec<(usize, usize, Option<u32>, bool)> = Vec::new();
        for (&(node, group), series) in &self.recording.views {
            let roles = series
                .iter()
                .map(|(event, view)| (*event, node, Some(group), view.role == "leader"));
            changes.extend(roles);
        }
        for (&node, series) in &self.recording.lives {
            let downs = series.iter().filter(|(_, life)| *life == Life::Down);
            changes.extend(downs.map(|(event, _)| (*event, node, None, false)));
        }
        changes.sort_unstable();
        let mut led: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); nodes];
        let mut counts: Vec<Series<usize>> = vec![Vec::new(); nodes];
        for (event, node, group, leads) in changes {
            match (group, leads) {
                (Some(group), true) => drop(led[node].insert(group)),
                (Some(group), false) => drop(led[node].remove(&group)),
                (None, _) => led[node].clear(),
            }
            let count = led[node].len();
            if counts[node].last().map(|(_, before)| *before) != Some(count) {
                counts[node].push((event, count));
            }
        }
        counts.iter().map(|series| self.series(Some(series), |count| *count)).collect()
    }
}

/// How long a fault is planned to last.
const fn lasts(fault: &Fault) -> Option<u64> {
    match fault {
        Fault::Crash { lasts, .. }
        | Fault::Pause { lasts, .. }
        | Fault::Cut { lasts, .. }
        | Fault::Clog { lasts, .. }
        | Fault::Storm { lasts, .. }
        | Fault::DiskFull { lasts, .. }
        | Fault::DiskSlow { lasts, .. }
        | Fault::Hunt { lasts, .. }
        | Fault::Burden { lasts, .. }
        | Fault::Estrange { lasts, .. }
        | Fault::Ambush { lasts }
        | Fault::DiskLoss { lasts, .. }
        | Fault::Throttle { lasts, .. }
        | Fault::Reset { lasts, .. }
        | Fault::Choke { lasts, .. } => Some(*lasts),
        Fault::Rot { .. }
        | Fault::DiskError { .. }
        | Fault::ClockStep { .. }
        | Fault::Misdirect { .. }
        | Fault::Byte { .. }
        | Fault::Move { .. }
        | Fault::CrashLoop { .. } => None,
    }
}

/// What the page calls a kind of event.
const fn letter(kind: Kind) -> char {
    match kind {
        Kind::Boot => 'b',
        Kind::Down => 'x',
        Kind::Send => 's',
        Kind::Deliver => 'd',
        Kind::Io => 'i',
        Kind::Done => 'o',
        Kind::Timer => 't',
        Kind::Request => 'q',
        Kind::Reply => 'r',
        Kind::GiveUp => 'g',
        Kind::Fault => 'f',
        Kind::Mend => 'm',
        Kind::Trace => 'n',
        Kind::Phase => 'p',
        Kind::Hashed => 'h',
        Kind::Refused => 'u',
    }
}
