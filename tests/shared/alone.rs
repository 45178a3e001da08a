//! A node without others on a simulated disk, driven by hand: every operation is carried out at once, and
//! time passes only when nothing else is left to do.

use ironseed_core::machine::{FileKind, Hashed, Instant, IoDone, IoOp, Now};
use ironseed_core::node::Node;
use ironseed_core::node::api::{Config, Effect, Founding, Input};
use ironseed_core::node::status::Phase;
use ironseed_core::node::trace::Trace;
use ironseed_core::object::api::{Outcome, Refusal, Request};
use ironseed_core::types::{ClusterId, RequestId};
use ironseed_sim::disk::{Disk, Speed};
use std::collections::VecDeque;

/// Nanoseconds in a millisecond.
pub(crate) const MILLISECOND: u64 = 1_000_000;
/// What the wall clock says when the node's own time is zero: nanoseconds since the Unix epoch.
const WALL: u64 = 1_700_000_000 * 1_000 * MILLISECOND;
/// Inputs that one request or timer may lead to. Thousands are ordinary at boot; a node that does not
/// come to rest at all would hang every driver.
const INPUTS_MAX: u32 = 200_000;

/// A node, its disk and its clock.
#[derive(Clone, Debug)]
pub(crate) struct Alone {
    pub(crate) config: Config,
    pub(crate) node: Node,
    /// The disk that it runs on.
    pub(crate) disk: Disk,
    /// Nanoseconds since it was founded.
    pub(crate) now: u64,
    /// What it has told since its last boot.
    pub(crate) traces: Vec<Trace>,
    requests: u64,
    halted: Option<String>,
    /// Whether the superblock's operations wait from the first write to the log on.
    pub(crate) parks: bool,
    parked: Vec<IoOp>,
}

impl Alone {
    /// A node that has just founded its cluster.
    ///
    /// # Panics
    /// If it does not come to serve: nothing is wrong with its disk.
    #[must_use]
    pub(crate) fn found(config: Config, access_key: &str, secret_key: &str) -> Self {
        Self::found_on(false, config, access_key, secret_key)
    }

    /// The same on a disk that parks operations, or doesn't.
    #[must_use]
    pub(crate) fn found_on(parks: bool, config: Config, access: &str, secret: &str) -> Self {
        let disk = Disk::new(1, 1, Speed { write: 1, sync: 1, read: 1 });
        let (node, traces) = (Node::new(config.clone()), Vec::new());
        let (now, requests, halted, parked) = (0, 0, None, Vec::new());
        let mut alone = Self { config, node, disk, now, traces, requests, halted, parks, parked };
        alone.boot(Some(Founding {
            cluster: ClusterId([1; 16]),
            access_key: access.into(),
            secret_key: secret.into(),
        }));
        assert_eq!(alone.phase(), Phase::Serving, "{:?}", alone.halted);
        alone
    }

    /// Kills the node, changes its disk and boots it again.
    pub(crate) fn reboot(&mut self, change: impl FnOnce(&mut Disk)) {
        self.disk.kill(self.now);
        change(&mut self.disk);
        self.halted = None;
        self.parked.clear();
        self.traces.clear();
        self.boot(None);
    }

    fn boot(&mut self, found: Option<Founding>) {
        self.node = Node::new(self.config.clone());
        let files = self.disk.found();
        let answer = self.step(Input::Boot { files, found });
        assert_eq!(answer, None, "nobody asked");
    }

    /// How far the node has come.
    #[must_use]
    pub(crate) fn phase(&self) -> Phase {
        if self.halted.is_some() { Phase::Halted } else { self.node.phase() }
    }

    /// Why it has halted, if it has.
    #[must_use]
    pub(crate) fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// Feeds one input and all that follows from it without waiting; returns the answer to the last request, if
    /// it came.
    fn step(&mut self, input: Input) -> Option<Outcome> {
        let (mut inputs, mut answer, mut fed) = (VecDeque::from([input]), None, 0);
        if !self.parks {
            let parked = core::mem::take(&mut self.parked);
            inputs.extend(parked.into_iter().map(|io| self.carry_out(io)));
        }
        while let Some(input) = inputs.pop_front() {
            fed += 1;
            assert!(fed < INPUTS_MAX, "the node does not come to rest: {input:?}");
            if self.halted.is_some() {
                break;
            }
            let wall = WALL + self.now;
            let now = Now { mono: Instant(self.now), wall_earliest: wall, wall_latest: wall };
            let mut effects = Vec::new();
            self.node.step(now, input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Io(io) if self.is_parked(&io) => self.parked.push(io),
                    Effect::Io(io) => inputs.push_back(self.carry_out(io)),
                    Effect::Hash { op, bytes } => {
                        let result = Ok(IoDone::Hashed(Hashed::of(&bytes)));
                        inputs.push_back(Input::Done { op, result });
                    }
                    Effect::Reply { id, outcome } if id == RequestId(self.requests) => {
                        answer = Some(outcome);
                    }
                    Effect::Trace(trace) => self.traces.push(trace),
                    Effect::Halt(halt) => self.halted = Some(halt.reason),
                    Effect::Reply { .. } | Effect::Send { .. } | Effect::Stopped => {}
                }
            }
        }
        answer
    }

    fn is_parked(&self, io: &IoOp) -> bool {
        let is = |kind| io.io.file().is_some_and(|file| file.kind == kind);
        self.parks
            && is(FileKind::Superblock)
            && self.disk.found().iter().any(|it| it.file.kind == FileKind::Wal)
    }

    fn carry_out(&mut self, io: IoOp) -> Input {
        self.disk.issue(self.now, io.op, io.io);
        let done = self.disk.complete(self.now, io.op).expect("nothing crashed");
        Input::Done { op: io.op, result: done.result }
    }

    /// Lets time pass up to the node's next deadline, or to `until` if that comes first.
    fn wait(&mut self, until: u64) -> Option<Outcome> {
        let due = self.node.deadline().map_or(until, |Instant(at)| at.min(until));
        // A deadline that has passed is not a reason to stand still.
        self.now = due.max(self.now + 1_000);
        self.step(Input::Timer)
    }

    /// Lets time pass.
    pub(crate) fn rest(&mut self, milliseconds: u64) {
        let until = self.now + milliseconds * MILLISECOND;
        while self.now < until && self.halted.is_none() {
            let answer = self.wait(until);
            assert_eq!(answer, None, "nobody asked");
        }
    }

    /// Asks, and waits for the answer; a node that has halted is unavailable.
    ///
    /// # Panics
    /// If there is none after twice the time that the node gives itself.
    pub(crate) fn ask(&mut self, request: Request) -> Outcome {
        self.requests += 1;
        self.now += MILLISECOND;
        let id = RequestId(self.requests);
        let until = self.now + 2 * self.config.tuning.request_timeout.0;
        let mut answer = self.step(Input::Request { id, request });
        while answer.is_none() {
            if let Some(reason) = &self.halted {
                return Err(Refusal::Unavailable(reason.clone()));
            }
            assert!(self.now < until, "no answer in time");
            answer = self.wait(until);
        }
        answer.unwrap_or_else(|| unreachable!("the loop ends with an answer"))
    }
}
