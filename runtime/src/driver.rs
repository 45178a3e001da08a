//! The only loop: takes one input, steps the node, executes the effects.
//!
//! One task owns the node. Everything that happens reaches it through one queue: messages from the
//! node port, requests from the gateway, completions from the disk's and the hashing threads. It takes
//! what has gathered, up to a bound, steps the node through it and then executes all effects in their
//! order, so that messages to one peer leave together. When nothing comes it sleeps until the node's
//! deadline.
//!
//! It is a task beside the connections and no thread of its own: a step takes microseconds, and to hand a
//! request to another thread and its answer back, each with a thread to wake, cost more than the step.
//! What would hold the tasks up (files, hashing chunks) has threads.
//!
//! There is no policy here: no retry, no protocol timer, no order between operations beyond that in which
//! the node asked for them. What is bounded is bounded elsewhere: messages by the node port's budget,
//! whose room is given back here once the message has been stepped; requests by the node, which refuses
//! what is too much.
//!
//! # When it ends
//! After [`Effect::Stopped`] or [`Effect::Halt`] the node is not stepped any more. Requests that are
//! still open are answered with [`Refusal::OutcomeUnknown`], for that is the truth. A panic in a step is a
//! broken invariant: the process aborts, because a node that has stopped deciding must not look alive.

mod events;
mod written;

pub use written::{AllWritten, Written};

use crate::clock::Clock;
use crate::disk::{DataDir, Disk};
use crate::engine::Engine;
use crate::net::{Channel, Deliver, Net, Traffic};
use crate::recording::Recorder;
use crate::sys::{self, Hashers};
use bytes::Bytes;
use ironseed_core::codec::DecodeError;
use ironseed_core::machine::{Hashed, Instant, IoDone, IoResult, Now};
use ironseed_core::node::Node;
use ironseed_core::node::api::{Effect, Founding, Input};
use ironseed_core::node::message::PeerMessage;
use ironseed_core::node::status::{Phase, Status};
use ironseed_core::object::api::{Outcome, Refusal, Request};
use ironseed_core::types::{NodeId, OpId, RequestId};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep};
use tracing::Instrument as _;

/// Inputs stepped before their effects are executed, at the most. A step takes microseconds, so no
/// effect waits for a millisecond; and messages to one peer leave in few writes.
const BATCH_MAX: usize = 64;
/// Bytes that are hashed at once, in the driver's task: handing them over would take longer.
const HASH_INLINE_BYTES_MAX: usize = 4 << 10;
/// Rounds of 5 ms that the last messages get to leave. A peer that can't be reached must not hold up a
/// stop.
const DRAIN_ROUNDS: u32 = 40;

/// What the driver needs of the machine that it drives. [`Node`] in production.
pub trait Machine: Send + 'static {
    /// Feeds one input; appends what must happen.
    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>);
    /// When it wants [`Input::Timer`] at the latest.
    fn deadline(&self) -> Option<Instant>;
    /// How far it has come.
    fn phase(&self) -> Phase;
    /// Its cluster, once it knows.
    fn founding(&self) -> Option<&Founding>;
    /// What it knows of itself.
    fn status(&self) -> Status;
}

impl Machine for Node {
    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        Self::step(self, now, input, effects);
    }
    fn deadline(&self) -> Option<Instant> {
        Self::deadline(self)
    }
    fn phase(&self) -> Phase {
        Self::phase(self)
    }
    fn founding(&self) -> Option<&Founding> {
        Self::founding(self)
    }
    fn status(&self) -> Status {
        Self::status(self)
    }
}

/// What others may know of the node without asking its driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Public {
    /// How far it has come.
    pub phase: Phase,
    /// Its cluster, once it knows.
    pub founding: Option<Founding>,
}

/// A node as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it knows of itself.
    pub status: Status,
    /// What it and its peers have said to each other.
    pub traffic: Vec<Traffic>,
    /// What it has had written.
    pub written: AllWritten,
}

/// How a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Asked to, with everything durable.
    Stopped,
    /// Its store can't go on; says why.
    Halted(String),
}

/// What reaches the driver.
#[allow(
    clippy::large_enum_variant,
    reason = "the queue is short and most events are requests and messages: a box for each would cost more"
)]
enum Event {
    Message { from: NodeId, message: PeerMessage, room: OwnedSemaphorePermit },
    Refused(NodeId),
    Request { id: RequestId, request: Request, reply: oneshot::Sender<Outcome> },
    Cancel(RequestId),
    Done(OpId, IoResult),
    Status(oneshot::Sender<Report>),
    Stop,
}

/// A way to the node from any thread.
#[derive(Clone)]
pub struct Handle {
    events: UnboundedSender<Event>,
    requests: Arc<AtomicU64>,
    public: watch::Receiver<Public>,
}

impl Handle {
    /// Has a request carried out. Dropping the future cancels it: it may then have been carried out or
    /// not.
    ///
    /// # Errors
    /// As the node refuses; [`Refusal::OutcomeUnknown`] when it ends before it has answered.
    pub async fn call(&self, request: Request) -> Outcome {
        let id = RequestId(self.requests.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        if self.events.send(Event::Request { id, request, reply }).is_err() {
            return Err(Refusal::Unavailable("the node has stopped".into()));
        }
        let mut cancel = CancelOnDrop { handle: self, id: Some(id) };
        let outcome = answer.await;
        cancel.id = None;
        outcome.unwrap_or(Err(Refusal::OutcomeUnknown))
    }

    /// What the node knows of itself; `None` when it has ended.
    pub async fn status(&self) -> Option<Report> {
        let (reply, answer) = oneshot::channel();
        self.events.send(Event::Status(reply)).ok()?;
        answer.await.ok()
    }

    /// What is known of the node without asking it.
    #[must_use]
    pub fn public(&self) -> watch::Receiver<Public> {
        self.public.clone()
    }

    /// Asks the node to stop; [`Running::exit`] tells when it has. Asking again is harmless.
    pub fn stop(&self) {
        let _ = self.events.send(Event::Stop);
    }
}

/// Tells the node that nobody waits for an answer any more.
struct CancelOnDrop<'a> {
    handle: &'a Handle,
    id: Option<RequestId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let _ = self.handle.events.send(Event::Cancel(id));
        }
    }
}

/// Hands the messages of peers to the driver.
#[derive(Clone)]
pub struct Inbox(UnboundedSender<Event>);

impl Deliver for Inbox {
    fn deliver(
        &self,
        from: NodeId,
        head: &[u8],
        body: Bytes,
        room: OwnedSemaphorePermit,
    ) -> Result<(), DecodeError> {
        let message = PeerMessage::decode(head, body)?;
        // A node that has ended hears nothing.
        let _ = self.0.send(Event::Message { from, message, room });
        Ok(())
    }

    fn refused(&self, peer: NodeId) {
        let _ = self.0.send(Event::Refused(peer));
    }
}

/// A node that has been started.
pub struct Running {
    /// The way to it.
    pub handle: Handle,
    /// How it ends, once; all its disk operations have come to their end then.
    pub exit: oneshot::Receiver<Exit>,
}

/// What a driver needs beside the machine.
pub struct Parts<N> {
    /// Names its threads.
    pub name: String,
    /// The clocks.
    pub clock: Clock,
    /// The data directory.
    pub dir: DataDir,
    /// What keeps its records, where its own table log does not.
    pub engine: Option<Box<dyn Engine>>,
    /// Set when a cluster is to be founded on it.
    pub found: Option<Founding>,
    /// Starts the node port, given where its messages go and what is known of the node.
    pub net: N,
    /// Writes down what the machine is fed, when that is asked for.
    pub recorder: Option<Recorder>,
}

/// Starts a machine; it boots at once. Must be called inside a tokio runtime.
///
/// # Errors
/// No more threads, an unreadable data directory, or whatever starting the node port says.
pub fn start<M: Machine>(
    machine: M,
    parts: Parts<impl FnOnce(Inbox, watch::Receiver<Public>) -> io::Result<Net>>,
) -> io::Result<Running> {
    let (events, inbox) = unbounded_channel();
    let (public_sender, public) = watch::channel(Public::default());
    let files = parts.dir.files().map_err(io::Error::other)?;
    let completed = events.clone();
    let done = move |op, result| {
        let _ = completed.send(Event::Done(op, result));
    };
    let disk = Disk::start(parts.dir, parts.engine, &parts.name, done.clone())?;
    let hashers = Hashers::start(&parts.name, done)?;
    let net = (parts.net)(Inbox(events.clone()), public.clone())?;
    let mut driver = Driver {
        recorder: parts.recorder,
        machine,
        clock: parts.clock,
        events: inbox,
        at_once: VecDeque::from([Input::Boot { files, found: parts.found }]),
        replies: BTreeMap::new(),
        effects: Vec::new(),
        public: public_sender,
        alarm: Alarm::new(),
        written: AllWritten::default(),
        disk,
        hashers,
        net,
    };
    let (ended, exit) = oneshot::channel();
    // Several nodes may share a process and its log.
    let span = tracing::info_span!("node", name = %parts.name);
    let running = async move {
        let end = driver.run().await;
        // Whoever hears of the end may take the directory over.
        sys::retire(driver).await;
        let _ = ended.send(end);
    };
    sys::spawn_or_abort(running.instrument(span));
    let requests = Arc::new(AtomicU64::new(1));
    Ok(Running { handle: Handle { events, requests, public }, exit })
}

struct Driver<M> {
    /// First, so that it is closed before anything waits for its threads when a step panics.
    recorder: Option<Recorder>,
    machine: M,
    clock: Clock,
    events: UnboundedReceiver<Event>,
    /// Inputs that follow from effects without anybody's help.
    at_once: VecDeque<Input>,
    replies: BTreeMap<RequestId, oneshot::Sender<Outcome>>,
    effects: Vec<Effect>,
    public: watch::Sender<Public>,
    alarm: Alarm,
    written: AllWritten,
    disk: Disk,
    hashers: Hashers,
    net: Net,
}

/// Wakes the driver when the machine wants the time.
///
/// One timer that stays set: tokio wakes its own event loop, with a system call, for every timer that is due before all
/// others, and a timer for each wait would be that.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// What it is set for; `None` when it has gone off.
    set_for: Option<Instant>,
}

impl Alarm {
    fn new() -> Self {
        Self { sleep: Box::pin(sleep(std::time::Duration::ZERO)), set_for: None }
    }

    /// Goes off at `deadline`, or earlier: the driver looks at the deadline when it is awake, and waits again.
    fn set(&mut self, deadline: Instant, clock: &Clock) {
        if self.set_for.is_none_or(|set| deadline < set) {
            self.sleep.as_mut().reset(tokio::time::Instant::now() + clock.until(deadline));
            self.set_for = Some(deadline);
        }
    }
}

impl<M: Machine> Driver<M> {
    async fn run(&mut self) -> Exit {
        loop {
            let mut steps = 0;
            while let Some(input) = self.at_once.pop_front() {
                self.step(input);
                steps += 1;
            }
            let mut event = self.events.try_recv().ok();
            if event.is_none() && steps == 0 {
                event = self.wait().await;
                // Whoever else is ready adds to the batch.
                yield_now().await;
            }
            while let Some(next) = event {
                self.take(next);
                steps += 1;
                event = if steps < BATCH_MAX { self.events.try_recv().ok() } else { None };
            }
            let due = self.machine.deadline();
            if due.is_some_and(|deadline| self.clock.until(deadline).is_zero()) {
                self.step(Input::Timer);
            }
            if let Some(exit) = self.execute() {
                self.publish();
                self.drain().await;
                return exit;
            }
            self.publish();
            if steps >= BATCH_MAX {
                // The connections are to go on as well.
                yield_now().await;
            }
        }
    }

    /// The next event, or nothing when the deadline comes first.
    async fn wait(&mut self) -> Option<Event> {
        if let Some(recorder) = &mut self.recorder {
            recorder.rest();
        }
        // The handle, the node port and the disk all hold a sender, so the queue never closes: the disk's lives
        // as long as the driver.
        let next = self.events.recv();
        let Some(deadline) = self.machine.deadline() else { return next.await };
        self.alarm.set(deadline, &self.clock);
        tokio::select! {
            biased;
            event = next => event,
            () = self.alarm.sleep.as_mut() => {
                self.alarm.set_for = None;
                None
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Message { from, message, room } => {
                self.step(Input::Message { from, message });
                drop(room);
            }
            Event::Refused(peer) => self.step(Input::Refused { peer }),
            Event::Request { id, request, reply } => {
                self.replies.insert(id, reply);
                self.step(Input::Request { id, request });
            }
            Event::Cancel(id) => {
                // Nothing to cancel when the answer crossed the cancellation.
                if self.replies.remove(&id).is_some() {
                    self.step(Input::Cancel { id });
                }
            }
            Event::Done(op, result) => self.step(Input::Done { op, result }),
            Event::Status(reply) => {
                let (status, traffic) = (self.machine.status(), self.net.traffic());
                let _ = reply.send(Report { status, traffic, written: self.written });
            }
            Event::Stop => self.step(Input::Stop),
        }
    }

    fn step(&mut self, input: Input) {
        let now = self.clock.now();
        let Some(recorder) = &mut self.recorder else {
            return self.machine.step(now, input, &mut self.effects);
        };
        recorder.step(now, &input);
        let before = self.effects.len();
        self.machine.step(now, input, &mut self.effects);
        recorder.reaction(&self.effects[before..], self.machine.deadline());
    }

    /// Executes what has gathered. Returns how the node ended, if it did.
    fn execute(&mut self) -> Option<Exit> {
        let mut exit = None;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Io(operation) => {
                    let op = operation.op;
                    self.written.count(&operation.io);
                    if let Some(result) = self.disk.submit(operation) {
                        self.at_once.push_back(Input::Done { op, result });
                    }
                }
                Effect::Hash { op, bytes } if bytes.len() <= HASH_INLINE_BYTES_MAX => {
                    let result = Ok(IoDone::Hashed(Hashed::of(&bytes)));
                    self.at_once.push_back(Input::Done { op, result });
                }
                Effect::Hash { op, bytes } => self.hashers.submit(op, bytes),
                Effect::Send { to, message } => {
                    let channel = if message.is_bulk() { Channel::Bulk } else { Channel::Control };
                    let (head, body) = message.encode();
                    self.net.send(to, channel, head, body);
                }
                Effect::Reply { id, outcome } => {
                    // Whoever has gone misses its answer.
                    if let Some(reply) = self.replies.remove(&id) {
                        let _ = reply.send(outcome);
                    }
                }
                Effect::Trace(trace) => events::log(&trace),
                Effect::Stopped => exit = exit.or(Some(Exit::Stopped)),
                Effect::Halt(halt) => exit = exit.or(Some(Exit::Halted(halt.reason))),
            }
        }
        exit
    }

    /// Lets the last messages leave: a leader that stops gives its leadership away with one.
    async fn drain(&mut self) {
        for _ in 0..DRAIN_ROUNDS {
            if self.net.is_drained() {
                break;
            }
            sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn publish(&self) {
        let (phase, founding) = (self.machine.phase(), self.machine.founding());
        self.public.send_if_modified(|public| {
            if public.phase == phase && public.founding.as_ref() == founding {
                return false;
            }
            tracing::info!(?phase, cluster = ?founding.map(|founding| founding.cluster), "node");
            *public = Public { phase, founding: founding.cloned() };
            true
        });
    }
}

#[cfg(test)]
mod tests;
