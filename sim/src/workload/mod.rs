//! Clients: what they ask, of whom, and how long they wait.
//!
//! Clients are closed loops: one operation after another, each a [`script::Script`] of one or more requests. They
//! are not polite. They ask before the cluster is ready, they ask for what nobody made, several of them
//! write one key, they give up in the middle and leave the store to clean up after them.
//!
//! In the **load** phase an operation whose outcome is unknown stays unknown, and the client goes on to the
//! next one. In the **proof** phase, after everything has healed, each client is given a list of operations that
//! must come to a definite end: those that do not are tried again until they do or the run is a
//! violation of liveness ([`crate::checkers::liveness`]).
//!
//! Each operation has draws of its own, named by the client and the operation's number: an operation that is
//! left out takes nothing away from the others. Which operations there are, and when each begins, can be given
//! as a list ([`Step`]); those of the proof follow from what was seen. The proof reads every key and every byte of
//! every object back, and those reads are part of the history like any other.

mod bodies;
pub mod content;
pub mod mix;
pub mod multipart;
pub mod script;

use crate::choices::Step;
use crate::draw::{Domain, Draw};
use content::Contents;
use ironseed_core::object::api::{Answer, Outcome, Refusal, Request};
use ironseed_core::types::NodeId;
pub use mix::Mix;
use mix::Seen;
use script::{End, Script};
use std::collections::{BTreeMap, VecDeque};

/// A request that a client makes.
#[derive(Clone, Debug)]
pub struct Issue {
    /// The client's name for it.
    pub call: Call,
    /// The node that it asks.
    pub node: NodeId,
    /// What it asks.
    pub request: Request,
    /// How long it waits for the answer: nanoseconds.
    pub patience: u64,
    /// Whether it tells the node when it stops waiting.
    pub cancels: bool,
}

/// A client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The client, from 0.
    pub client: u32,
    /// Which operation of the client.
    operation: u64,
    /// Which request of the operation.
    tag: u64,
}

/// All clients of a run.
#[derive(Clone, Debug)]
pub struct Clients {
    mix: Mix,
    clients: Vec<Client>,
    /// What bodies there are.
    pub contents: Contents,
    seen: Seen,
    seed: u64,
    /// What the load did so far.
    begun: Vec<Step>,
    /// Whether the load follows a list.
    scripted: bool,
    /// Whether steps are to say what they are.
    telling: bool,
    phase: Phase,
    counts: BTreeMap<&'static str, u64>,
    wrong: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Load,
    Settle,
    Proof,
    Over,
}

#[derive(Clone, Debug)]
struct Client {
    /// Number of the last operation.
    operation: u64,
    running: Option<Running>,
    /// What is left to begin in the load, if it follows a list.
    script: VecDeque<Step>,
    /// Operations that must succeed, in the proof.
    owed: VecDeque<mix::Operation>,
}

#[derive(Clone, Debug)]
struct Running {
    /// Drawn from for each request of the operation.
    draw: Draw,
    script: Script,
    node: NodeId,
    owed: Option<mix::Operation>,
    waiting: BTreeMap<u64, Request>,
}

/// What a draw of an operation is about.
#[derive(Clone, Copy)]
enum About {
    What = 1,
    Expected = 2,
    Node = 3,
    Requests = 4,
    Pause = 5,
}

impl Clients {
    /// The clients of this mix, whose load follows `script` if there is one.
    #[must_use]
    pub fn new(seed: u64, mix: Mix, script: Option<&[Step]>) -> Self {
        let client = |number: u32| {
            let mine = script.unwrap_or_default().iter().filter(|step| step.client == number);
            let mut script: Vec<Step> = mine.cloned().collect();
            script.sort_by_key(|step| step.at);
            let script = script.into();
            Client { operation: 0, running: None, script, owed: VecDeque::new() }
        };
        Self {
            clients: (0..mix.clients).map(client).collect(),
            mix,
            contents: Contents::default(),
            seen: Seen::default(),
            seed,
            begun: Vec::new(),
            scripted: script.is_some(),
            telling: false,
            phase: Phase::Load,
            counts: BTreeMap::new(),
            wrong: None,
        }
    }

    /// Makes the record of the load say what each operation is.
    pub const fn tell(&mut self) {
        self.telling = true;
    }

    /// The operations of the load so far, in the order in which they began.
    #[must_use]
    pub fn begun(&self) -> &[Step] {
        &self.begun
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.mix.clients
    }

    /// When a client should be woken first: nanoseconds.
    #[must_use]
    pub fn first_wake(&self, client: u32) -> u64 {
        if self.scripted {
            return self.clients[client as usize].script.front().map_or(NEVER, |step| step.at);
        }
        Draw::new(self.seed, Domain::Client, &[u64::from(client)]).magnitude(1, 300_000_000)
    }

    /// When a client should be woken again: nanoseconds from now.
    pub fn pause(&mut self, now: u64, client: u32) -> u64 {
        let Client { operation, running, script, owed } = &mut self.clients[client as usize];
        if let Some(running) = running {
            return running.draw.between(1_000, 50_000);
        }
        let name = [u64::from(client), *operation, About::Pause as u64];
        let mut draw = Draw::new(self.seed, Domain::Client, &name);
        match self.phase {
            Phase::Load if self.scripted => match script.front() {
                None => NEVER,
                Some(step) if step.at > now => step.at - now,
                // It comes late, or there is nobody to ask.
                Some(_) => draw.between(1_000, 1_000_000),
            },
            Phase::Load => draw.latency(self.mix.think),
            Phase::Proof if !owed.is_empty() => draw.latency(1_000_000),
            Phase::Settle | Phase::Proof => draw.latency(20_000_000),
            Phase::Over => NEVER,
        }
    }

    fn draw(&self, client: u32, operation: u64, about: About) -> Draw {
        Draw::new(self.seed, Domain::Client, &[u64::from(client), operation, about as u64])
    }

    /// Whether an answer, or the lack of one, will move this client.
    #[must_use]
    pub fn is_waiting(&self, client: u32) -> bool {
        let running = &self.clients[client as usize].running;
        running.as_ref().is_some_and(|running| !running.waiting.is_empty())
    }

    /// The requests that a client makes now. None without a node to ask.
    pub fn wake(&mut self, now: u64, client: u32, up: &[NodeId]) -> Vec<Issue> {
        if up.is_empty() {
            return Vec::new();
        }
        if self.clients[client as usize].running.is_none() {
            self.begin(now, client, up);
        }
        let mix = &self.mix;
        let Client { operation, running, .. } = &mut self.clients[client as usize];
        let Some(Running { draw, script, node, waiting, .. }) = running else { return Vec::new() };
        let mut issues = Vec::new();
        while let Some((tag, request)) = script.poll(now) {
            let roams = draw.chance(1, 8) && !mix.steady;
            if script.goes_round() && tag > 1 {
                let next = up.iter().position(|other| other == node).map_or(0, |at| at + 1);
                *node = up[next % up.len()];
            } else if !up.contains(node) || roams {
                *node = *draw.pick(up);
            }
            waiting.insert(tag, request.clone());
            let patience = draw.magnitude(mix.patience / 8 + 1, mix.patience);
            issues.push(Issue {
                call: Call { client, operation: *operation, tag },
                node: *node,
                request,
                patience: if mix.steady { mix.patience } else { patience },
                cancels: draw.chance(1, 2),
            });
        }
        issues
    }

    /// Starts the client's next operation, if it has one.
    fn begin(&mut self, now: u64, client: u32, up: &[NodeId]) {
        let Some((number, owed)) = self.next_of(now, client) else { return };
        let next = owed.clone().unwrap_or_else(|| {
            let (mut what, mut expected) = (
                self.draw(client, number, About::What),
                self.draw(client, number, About::Expected),
            );
            self.mix.next(&mut what, &mut expected, &self.seen)
        });
        if owed.is_none() {
            let what = if self.telling { next.brief() } else { String::new() };
            self.begun.push(Step { at: now, client, number, what });
        }
        *self.counts.entry(next.name()).or_default() += 1;
        // A body is named by who wrote it and when, so that no two are alike.
        let body = u64::from(client) << 40 | number << 8;
        let script = next.script(body, &mut self.contents);
        let node = self.choose(client, number, up);
        let draw = self.draw(client, number, About::Requests);
        let waiting = BTreeMap::new();
        let client = &mut self.clients[client as usize];
        client.operation = number;
        client.running = Some(Running { draw, script, node, owed, waiting });
    }

    /// Number of the client's next operation, and what it is if it is owed.
    fn next_of(&mut self, now: u64, client: u32) -> Option<(u64, Option<mix::Operation>)> {
        let spent = self.is_spent();
        let Client { operation, script, owed, .. } = &mut self.clients[client as usize];
        match self.phase {
            Phase::Load if self.scripted => {
                let step = script.pop_front_if(|step| step.at <= now)?;
                Some((step.number, None))
            }
            Phase::Load => (!spent).then_some((*operation + 1, None)),
            Phase::Settle | Phase::Over => None,
            // Numbers of their own, whatever the load has done.
            Phase::Proof => Some(((*operation).max(PROOF) + 1, Some(owed.pop_front()?))),
        }
    }

    /// The node that an operation asks: of those that are up the first in an order of the operation's own.
    fn choose(&self, client: u32, number: u64, up: &[NodeId]) -> NodeId {
        let rank = |node: &NodeId| {
            let name = [u64::from(client), number, About::Node as u64, u64::from(node.0)];
            Draw::new(self.seed, Domain::Client, &name).next()
        };
        up.iter().copied().min_by_key(rank).unwrap_or(NodeId(1))
    }

    /// A request's outcome, or that the client waits no longer ([`Refusal::OutcomeUnknown`]). `false` if
    /// the client had given it up.
    pub fn on_outcome(&mut self, now: u64, call: Call, outcome: Outcome) -> bool {
        let Client { operation, running: slot, owed, .. } = &mut self.clients[call.client as usize];
        let Some(running) = slot.as_mut().filter(|_| *operation == call.operation) else {
            return false;
        };
        let Some(request) = running.waiting.remove(&call.tag) else { return false };
        self.seen.learn(&request, &outcome);
        if let Err(refusal) = &outcome {
            *self.counts.entry(refusal_name(refusal)).or_default() += 1;
        }
        running.script.on_outcome(now, call.tag, outcome, &mut self.contents);
        match running.script.end() {
            None => {}
            Some(End::Wrong(what)) => {
                self.wrong = Some(what.clone());
                *slot = None;
            }
            Some(end) => {
                // An operation that must succeed goes back to the end of the line.
                if *end == End::Indefinite
                    && let Some(again) = running.owed.take()
                {
                    owed.push_back(again);
                }
                *slot = None;
            }
        }
        true
    }

    /// No operation begins any more.
    pub const fn settle(&mut self) {
        self.phase = Phase::Settle;
    }

    /// Gives the clients what must succeed: reading everything back, and writing a little.
    pub fn prove(&mut self) {
        self.phase = Phase::Proof;
        let owed = self.mix.proof(&self.seen);
        // Clients that are not in the list are not there; but somebody must do the proof.
        let asked = |number: &usize| {
            !self.scripted || self.begun.iter().any(|step| step.client as usize == *number)
        };
        let mut provers: Vec<usize> = (0..self.clients.len()).filter(asked).collect();
        if provers.is_empty() {
            provers.push(0);
        }
        for (position, operation) in owed.into_iter().enumerate() {
            self.clients[provers[position % provers.len()]].owed.push_back(operation);
        }
    }

    /// Nothing is asked any more.
    pub const fn retire(&mut self) {
        self.phase = Phase::Over;
    }

    /// Whether no operation is under way or owed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.clients.iter().all(|client| client.running.is_none() && client.owed.is_empty())
    }

    /// Operations that are under way or owed, for a report.
    #[must_use]
    pub fn unfinished(&self) -> Vec<String> {
        let running = |client: &Client| {
            let running = client.running.as_ref()?;
            let operation = running.owed.as_ref()?;
            let waiting: Vec<_> = running.waiting.values().map(short).collect();
            Some(format!("{operation:?} at {:?}, waiting for {waiting:?}", running.node))
        };
        let owed = self.clients.iter().flat_map(|client| &client.owed);
        self.clients
            .iter()
            .filter_map(running)
            .chain(owed.map(|owed| format!("{owed:?}")))
            .collect()
    }

    /// Whether the load phase has begun all its operations, and is over with them. A list says what is done
    /// and not how long the load is.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        !self.scripted && self.begun.len() as u64 >= self.mix.operations_max
    }

    /// What the store said that it must never say: wrong bytes, answers of the wrong kind.
    pub const fn take_wrong(&mut self) -> Option<String> {
        self.wrong.take()
    }

    /// Operations by name, and refusals by theirs.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}

/// A request without its body, for people.
#[must_use]
pub fn short(request: &Request) -> String {
    let mut text = format!("{request:?}");
    if let Some((cut, _)) = text.char_indices().nth(160) {
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

/// An outcome without its body, for people.
#[must_use]
pub fn short_outcome(outcome: &Outcome) -> String {
    match outcome {
        Ok(Answer::Chunk(bytes)) => format!("Chunk of {} bytes", bytes.len()),
        Ok(answer) => {
            let mut text = format!("{answer:?}");
            if let Some((cut, _)) = text.char_indices().nth(160) {
                text.truncate(cut);
                text.push_str("...");
            }
            text
        }
        Err(refusal) => format!("refused: {refusal:?}"),
    }
}

const fn refusal_name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoSuchBucket => "refused-no-such-bucket",
        Refusal::BucketAlreadyOwnedByYou => "refused-bucket-exists",
        Refusal::BucketNotEmpty => "refused-bucket-not-empty",
        Refusal::BucketBusy => "refused-bucket-busy",
        Refusal::NoSuchKey => "refused-no-such-key",
        Refusal::NoSuchUpload => "refused-no-such-upload",
        Refusal::InvalidPart => "refused-invalid-part",
        Refusal::InvalidPartOrder => "refused-invalid-part-order",
        Refusal::PartTooSmall => "refused-part-too-small",
        Refusal::PreconditionFailed => "refused-precondition-failed",
        Refusal::NoSuchBlob => "refused-no-such-blob",
        Refusal::Restage => "refused-restage",
        Refusal::ChunkUnavailable => "refused-chunk-unavailable",
        Refusal::Invalid(_) => "refused-invalid",
        Refusal::NoSpace => "refused-no-space",
        Refusal::Unavailable(_) => "refused-unavailable",
        Refusal::Busy => "refused-busy",
        Refusal::OutcomeUnknown => "outcome-unknown",
    }
}

/// Longer than any run: nanoseconds.
const NEVER: u64 = 1 << 50;
/// Operations of the proof have numbers above this, those of the load below.
const PROOF: u64 = 1 << 31;

#[cfg(test)]
mod tests;
