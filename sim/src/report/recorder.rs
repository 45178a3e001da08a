//! What is kept of a run that somebody wants to look at: every event, and what it is made of.

use super::message::{self, Part};
use crate::trace::{Kind, Note, Recorder};
use ironseed_core::machine::Io;
use ironseed_core::node::status::{GroupStatus, Role, Status};
use ironseed_core::node::trace::Trace;
use ironseed_core::object::api::{Outcome, Refusal, Request};
use ironseed_core::raft;
use ironseed_core::rows::RowIo;
use ironseed_core::types::{GroupId, Index, NodeId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// An event. Its number is its position, from 0.
#[derive(Clone, Debug)]
pub struct Event {
    /// World time, nanoseconds.
    pub at: u64,
    /// What kind.
    pub kind: Kind,
    /// The node where it happens, as a position.
    pub node: Option<usize>,
    /// The client that it reaches or comes from.
    pub client: Option<u32>,
    /// An event elsewhere without which it would not have happened: the sending of what is delivered.
    pub cause: Option<usize>,
    /// The group that a machine speaks of.
    pub group: Option<u32>,
    /// What a machine says, in a few words; empty for what only the trace line tells.
    pub brief: String,
    /// Its line in the trace.
    pub line: String,
}

/// A message, once for each of its arrivals; a lost one once.
#[derive(Clone, Debug)]
pub struct Message {
    /// The event that sends it.
    pub sent: usize,
    /// The event that delivers it.
    pub arrived: Option<usize>,
    /// When it arrives, or comes to its end: nanoseconds. `None` while it is under way.
    pub end: Option<u64>,
    /// Sender and receiver as positions.
    pub ends: (usize, usize),
    /// What became of it.
    pub fate: Fate,
    /// What it says; copies share it.
    pub parts: Rc<Vec<Part>>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It was under way when the run ended.
    Underway,
    /// It arrived.
    Arrived,
    /// The network lost it.
    Lost,
    /// A cut stopped it.
    Cut,
    /// Its receiver was down.
    Down,
}

/// A client's request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asks.
    pub client: u32,
    /// Who is asked, as a position.
    pub node: usize,
    /// The request's number at the node.
    pub id: u64,
    /// The event that asks.
    pub asked: usize,
    /// The event that answers, or that ends the client's patience.
    pub ended: Option<usize>,
    /// `open`, `ok`, `refused` or `unknown`.
    pub outcome: &'static str,
    /// What is asked, in a few words.
    pub text: String,
    /// What is answered, in a few words.
    pub answer: String,
}

/// An operation of a disk.
#[derive(Clone, Debug)]
pub struct DiskOp {
    /// Whose disk.
    pub node: usize,
    /// The event that issues it.
    pub issued: usize,
    /// The event that completes it.
    pub done: Option<usize>,
    /// Whether it failed, or a crash took it.
    pub failed: bool,
    /// `write`, `sync`, `read` or `other`.
    pub kind: &'static str,
    /// The file; empty for the directory.
    pub file: String,
    /// Bytes that are written.
    pub bytes: u64,
    /// Of a write: the event that made it durable.
    pub synced: Option<usize>,
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// It does not run.
    Down,
    /// It runs.
    Up,
    /// It hangs.
    Paused,
}

/// A replica as its node tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What it is: `follower`, `candidate` or `leader`.
    pub role: &'static str,
    /// Its term.
    pub term: u64,
    /// The leader that it knows.
    pub leader: Option<u32>,
    /// Its commit index.
    pub commit: u64,
    /// How far it has applied.
    pub applied: u64,
    /// The end of its log.
    pub last: u64,
    /// How far its log is durable.
    pub durable: u64,
    /// Whether it abstains from votes and acknowledgements.
    pub abstains: bool,
}

/// A series of what was so from an event on.
pub type Series<T> = Vec<(usize, T)>;

/// Everything kept of a run.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// All events.
    pub events: Vec<Event>,
    /// All messages.
    pub messages: Vec<Message>,
    /// All requests of clients.
    pub calls: Vec<Call>,
    /// All operations of disks.
    pub disk_ops: Vec<DiskOp>,
    /// Faults of the plan that struck and ended: number, event, and whether it struck.
    pub strikes: Vec<(u64, usize, bool)>,
    /// How each node is.
    pub lives: BTreeMap<usize, Series<Life>>,
    /// Which directions of links are cut.
    pub cuts: Series<Vec<(NodeId, NodeId)>>,
    /// Each replica, by node and group.
    pub views: BTreeMap<(usize, u32), Series<View>>,
    /// The event that an oracle objected to.
    pub violated: Option<usize>,
}

/// Records a run. The recording is where the other half of [`tape`] points to.
#[derive(Debug, Default)]
struct Tape {
    recording: Rc<RefCell<Recording>>,
    sends: BTreeMap<u64, Vec<usize>>,
    disk_ops: BTreeMap<(usize, u64), usize>,
    calls: BTreeMap<(usize, u64), usize>,
    /// The event that last took each node down.
    downs: BTreeMap<usize, usize>,
    /// The last event that came from the world. A machine's step takes no time: what is so after it is so from
    /// then on, before any event that the step itself makes.
    input: usize,
}

/// A recorder and what it will have recorded.
#[must_use]
pub fn tape() -> (Box<dyn Recorder>, Rc<RefCell<Recording>>) {
    let tape = Tape::default();
    let recording = tape.recording.clone();
    (Box::new(tape), recording)
}

impl Recorder for Tape {
    fn event(&mut self, at: u64, kind: Kind, parts: &[u64], line: &mut dyn FnMut() -> String) {
        let shared = self.recording.clone();
        let mut recording = shared.borrow_mut();
        let line = line();
        let number = recording.events.len();
        let position = |at: usize| parts.get(at).map(|part| *part as usize);
        let node = match kind {
            Kind::Boot | Kind::Down | Kind::Send | Kind::Io | Kind::Done | Kind::Timer => {
                position(0)
            }
            Kind::Trace | Kind::Hashed | Kind::Refused | Kind::Reply => position(0),
            Kind::Deliver | Kind::Request => position(1),
            Kind::Fault | Kind::Mend | Kind::Phase | Kind::GiveUp => None,
        };
        match (kind, parts) {
            (Kind::Down, [node]) => {
                let power = line.ends_with("loses power");
                self.fell(&mut recording, *node as usize, number, power);
            }
            (Kind::Done, [node, op, failed]) => {
                self.completed(&mut recording, (*node as usize, *op), number, *failed > 0);
            }
            (Kind::Fault, [fault]) => recording.strikes.push((*fault, number, true)),
            (Kind::Mend, [fault]) => recording.strikes.push((*fault, number, false)),
            _ => {}
        }
        if !matches!(kind, Kind::Send | Kind::Io | Kind::Trace | Kind::Reply | Kind::Down) {
            self.input = number;
        }
        recording.events.push(Event {
            at,
            kind,
            node,
            client: None,
            cause: None,
            group: None,
            brief: String::new(),
            line,
        });
    }

    fn note(&mut self, note: Note<'_>) {
        let mut recording = self.recording.borrow_mut();
        let Some(now) = recording.events.len().checked_sub(1) else { return };
        match note {
            Note::Sent { from, to, message, arrivals, cut } => {
                let parts = Rc::new(message::parts(message));
                let fate = match (arrivals.is_empty(), cut) {
                    (false, _) => Fate::Underway,
                    (true, true) => Fate::Cut,
                    (true, false) => Fate::Lost,
                };
                let first = recording.messages.len();
                let copies = arrivals.len().max(1);
                let ends = (from, to);
                let message = Message { sent: now, arrived: None, end: None, ends, fate, parts };
                recording.messages.extend(vec![message; copies]);
                // Copies arrive in the order of their arrivals.
                self.sends.insert(now as u64 + 1, (first..first + arrivals.len()).rev().collect());
            }
            Note::Arrived { send } => {
                recording.events[now].cause = (send as usize).checked_sub(1);
                let at = recording.events[now].at;
                let copy = self.sends.get_mut(&send).and_then(Vec::pop);
                if let Some(message) = copy.and_then(|copy| recording.messages.get_mut(copy)) {
                    message.arrived = Some(now);
                    message.end = Some(at);
                    message.fate = Fate::Arrived;
                }
            }
            Note::Dropped { send, at, cut } => {
                let copy = self.sends.get_mut(&send).and_then(Vec::pop);
                if let Some(message) = copy.and_then(|copy| recording.messages.get_mut(copy)) {
                    message.end = Some(at);
                    message.fate = if cut { Fate::Cut } else { Fate::Down };
                }
            }
            Note::Asked { client, node, id, request } => {
                recording.events[now].client = Some(client);
                self.calls.insert((node, id), recording.calls.len());
                let text = request_words(request);
                let answer = String::new();
                let outcome = "open";
                let ended = None;
                let call = Call { client, node, id, asked: now, ended, outcome, text, answer };
                recording.calls.push(call);
            }
            Note::Answered { client, node, id, outcome, heard } => {
                let call = self.calls.remove(&(node, id));
                if !heard {
                    return;
                }
                recording.events[now].client = Some(client);
                if let Some(call) = call.and_then(|call| recording.calls.get_mut(call)) {
                    call.ended = Some(now);
                    (call.outcome, call.answer) = outcome_words(outcome);
                }
            }
            Note::GaveUp { client, node, id } => {
                let call = self.calls.get(&(node, id)).copied();
                let Some(call) = call.and_then(|call| recording.calls.get_mut(call)) else {
                    return;
                };
                call.ended = Some(now);
                call.outcome = "unknown";
                call.answer = "waits no longer".into();
                let asked = call.asked;
                // A connection that breaks tells of the fall.
                let down = self.downs.get(&node).copied().filter(|down| *down > asked);
                let event = &mut recording.events[now];
                (event.client, event.cause) = (Some(client), down);
            }
            Note::Issued { node, op, io } => {
                self.disk_ops.insert((node, op), recording.disk_ops.len());
                recording.disk_ops.push(disk_op(node, now, io));
            }
            Note::Said { trace, .. } => {
                let (group, brief) = said(trace);
                let event = &mut recording.events[now];
                (event.group, event.brief) = (group.map(|group| group.0), brief);
            }
            Note::Life { node, up, paused } => {
                let life = match (up, paused) {
                    (false, _) => Life::Down,
                    (true, false) => Life::Up,
                    (true, true) => Life::Paused,
                };
                follow(recording.lives.entry(node).or_default(), now, life);
            }
            Note::Cuts(cuts) => {
                if !(cuts.is_empty() && recording.cuts.is_empty()) {
                    follow(&mut recording.cuts, now, cuts);
                }
            }
            Note::Look { node, status, durable } => {
                look(&mut recording, self.input, node, status, durable);
            }
            Note::Violated => recording.violated = Some(now),
        }
    }
}

impl Tape {
    /// Whatever was under way on a disk is taken, and with the power what no sync has covered.
    fn fell(&mut self, recording: &mut Recording, node: usize, event: usize, power: bool) {
        self.downs.insert(node, event);
        let mut later = self.disk_ops.split_off(&(node, 0));
        let mut others = later.split_off(&(node + 1, 0));
        self.disk_ops.append(&mut others);
        for op in later.into_values() {
            let op = &mut recording.disk_ops[op];
            (op.done, op.failed) = (Some(event), true);
        }
        if power {
            let lost = |op: &&mut DiskOp| op.node == node && op.synced.is_none();
            recording
                .disk_ops
                .iter_mut()
                .filter(lost)
                .for_each(|op| op.failed |= op.kind == "write");
        }
    }

    fn completed(
        &mut self,
        recording: &mut Recording,
        op: (usize, u64),
        event: usize,
        failed: bool,
    ) {
        let Some(at) = self.disk_ops.remove(&op) else { return };
        let op = &mut recording.disk_ops[at];
        (op.done, op.failed) = (Some(event), failed);
        if op.kind != "sync" || failed {
            return;
        }
        let (node, issued, file) = (op.node, op.issued, op.file.clone());
        // It covers the writes to this file that were complete when it was issued. Older ones were covered by
        // the sync before, so the search ends at the first of them.
        let mine =
            |write: &&mut DiskOp| write.node == node && write.kind == "write" && write.file == file;
        for write in recording.disk_ops[..at].iter_mut().rev().filter(mine) {
            if write.synced.is_some() {
                break;
            }
            if !write.failed && write.done.is_some_and(|done| done < issued) {
                write.synced = Some(event);
            }
        }
    }
}

fn follow<T: PartialEq>(series: &mut Series<T>, now: usize, value: T) {
    match series.last_mut() {
        Some((_, last)) if *last == value => {}
        Some((at, last)) if *at == now => *last = value,
        _ => series.push((now, value)),
    }
}

fn look(
    recording: &mut Recording,
    now: usize,
    node: usize,
    status: &Status,
    durable: &dyn Fn(GroupId) -> Index,
) {
    for group in &status.groups {
        let view = view(group, durable(group.group).0);
        follow(recording.views.entry((node, group.group.0)).or_default(), now, view);
    }
}

fn view(status: &GroupStatus, durable: u64) -> View {
    let role = match status.role {
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    };
    View {
        role,
        term: status.term.0,
        leader: status.leader.map(|leader| leader.0),
        commit: status.commit.0,
        applied: status.applied.0,
        last: status.last.0,
        durable,
        abstains: status.abstaining,
    }
}

fn disk_op(node: usize, issued: usize, io: &Io) -> DiskOp {
    let (kind, file, bytes) = match io {
        Io::Write { file, data, .. } => {
            ("write", file.to_string(), data.iter().map(|piece| piece.len() as u64).sum())
        }
        Io::Sync { file } => ("sync", file.to_string(), 0),
        Io::SyncDir => ("sync", String::new(), 0),
        Io::Rows(RowIo::Write { changes }) => {
            let bytes = changes.iter().map(|change| change.bytes() as u64).sum();
            ("write", "engine".to_owned(), bytes)
        }
        Io::Rows(RowIo::Sync) => ("sync", "engine".to_owned(), 0),
        Io::Rows(RowIo::Get { .. } | RowIo::Scan { .. }) => ("read", "engine".to_owned(), 0),
        Io::Read { file, .. } => ("read", file.to_string(), 0),
        Io::Create { file, .. } | Io::Remove { file } => ("other", file.to_string(), 0),
        Io::Rename { to, .. } => ("other", to.to_string(), 0),
    };
    DiskOp { node, issued, done: None, failed: false, kind, file, bytes, synced: None }
}

fn said(trace: &Trace) -> (Option<GroupId>, String) {
    match trace {
        Trace::Role { group, role, term, .. } => {
            let role = match role {
                raft::Role::Follower => "follows",
                raft::Role::PreCandidate => "asks around",
                raft::Role::Candidate => "stands for election",
                raft::Role::Leader => "leads",
            };
            (Some(*group), format!("{role} t{}", term.0))
        }
        Trace::HandOver { group, to } => (Some(*group), format!("hands over to {to:?}")),
        Trace::Decided { group, position, .. } => (Some(*group), format!("decided {position:?}")),
        Trace::Raft { group, event } => (Some(*group), format!("{event:?}")),
        Trace::Readmitted { group } => (Some(*group), "counts again".into()),
        Trace::SnapshotInstalled { group, position } => {
            (Some(*group), format!("has snapshot {position:?}"))
        }
        Trace::Joined { group } => (Some(*group), "a replica begins".into()),
        Trace::Left { group } => (Some(*group), "the replica is given up".into()),
        Trace::StateDamaged { group, .. } => (Some(*group), "state damaged".into()),
        Trace::Stranded { group, .. } => (Some(*group), "stranded".into()),
        Trace::Running { .. } => (None, "recovered".into()),
        Trace::Damaged { .. } => (None, "finds damage".into()),
        Trace::DiskFull(full) => (None, if *full { "disk full" } else { "disk has room" }.into()),
        Trace::PeerLost(peer) => (None, format!("misses {peer:?}")),
        Trace::PeerFound(peer) => (None, format!("hears {peer:?} again")),
        _ => (None, String::new()),
    }
}

/// A request in a few words: what it is and what it is about.
fn request_words(request: &Request) -> String {
    let text = format!("{request:?}");
    let name = message::words(&text);
    let quoted = |field: &str| {
        let from = text.find(&format!("{field}: "))? + field.len() + 2;
        let rest = text[from..].trim_start_matches('b').strip_prefix('"')?;
        rest.split('"').next().map(str::to_string)
    };
    let about: Vec<String> = ["bucket", "key"].iter().filter_map(|field| quoted(field)).collect();
    if about.is_empty() { name } else { format!("{name} {}", about.join("/")) }
}

fn outcome_words(outcome: &Outcome) -> (&'static str, String) {
    match outcome {
        Ok(_) => ("ok", crate::workload::short_outcome(outcome)),
        Err(Refusal::OutcomeUnknown) => ("unknown", "outcome unknown".into()),
        Err(refusal) => ("refused", format!("{refusal:?}")),
    }
}
