//! The router: client requests become calls to groups.
//!
//! Every node routes, so a client may ask any of them. The router has to find out which groups a request
//! concerns, who leads them, and what came of it, although leaders change, messages are lost and the
//! client may be gone by then. It owns no durable state: whatever it forgets with its node was either
//! decided by a group or never happened.
//!
//! # The path of a request
//!
//! A request is classified ([`plan`]), the bucket that it names is looked up in the meta group unless a
//! hint is at hand, and one call goes to the leader of its shard ([`calls`]); a listing asks every shard
//! ([`listing`]); bulk bytes go to and come from replicas directly ([`bulk`]). On the node that leads the
//! meta group the router also carries out what the registry says is begun ([`buckets`]); the client that
//! began it waits until the registry says that it is settled.
//!
//! # Guarantees
//!
//! - Every request that isn't cancelled is answered exactly once, and calls end by its deadline.
//! - A write is executed at most once, however often its call is sent: it keeps its tag, and the group's
//!   session table knows it. What may have been executed and can't be learned ends as `OutcomeUnknown`,
//!   never as a refusal that says that nothing happened.
//! - What is remembered of buckets and leaders is only a hint. A shard that knows the bucket better
//!   answers `StaleBucket`, and a replica that doesn't lead says so.
//! - No more than `requests_max` requests are under way; one more is refused as busy.
//!
//! # Caveats
//!
//! - A client that gives up, or whose node dies, may find its bucket made or deleted later: what is in
//!   the registry is carried out.
//! - Cancelling disowns the calls that are out; it does not take back what they ask.

mod buckets;
mod bulk;
mod calls;
mod listing;
mod plan;
mod reports;

use self::buckets::Procedures;
use self::bulk::{Bulk, Ends, Moving};
use self::calls::{Calls, Ended, Sends, TaskId, expired};
use self::listing::{Asking, Listing, Step};
use self::plan::Plan;
pub(crate) use self::reports::Report;
use self::reports::Reports;
use super::message::Query;
use super::post::{Post, RouterInput};
use crate::kv::command::Op;
use crate::machine::{Duration, Instant, Now, first_of};
use crate::object::api::{Outcome, Refusal, Request};
use crate::object::command::ObjectOp;
use crate::object::registry::{BucketEpoch, BucketState};
use crate::planted::{Planted, Point};
use crate::rng::Rng;
use crate::types::{BucketId, Epoch, GroupId, Incarnation, NodeId, RequestId};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// Hints remembered at the most; then they are forgotten together.
const HINTS_MAX: usize = 10_000;
/// The pause before a bucket that is being made or deleted is looked up again.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// A request that finds its bucket changed more often than this is told that it is busy.
const STALE_MAX: u32 = 20;

#[derive(Clone, Debug)]
struct Task {
    client: RequestId,
    request: Request,
    stage: Stage,
    deadline: Instant,
    stale: u32,
}

#[derive(Clone, Debug)]
enum Stage {
    /// One call decides it.
    Call,
    /// The bucket is being looked up.
    Resolving,
    /// The bucket is busy: look again later.
    Pausing(Instant),
    /// A bucket's change was begun; whoever leads the registry carries it out.
    Settling(BucketEpoch),
    /// As [`Self::Settling`], later.
    SettlingLater { change: BucketEpoch, at: Instant },
    /// All shards are asked.
    Listing(Box<Listing>),
    /// Bulk bytes move.
    Moving,
}

/// The router lane of a node.
#[derive(Clone, Debug)]
pub(super) struct Router {
    shards: u16,
    requests_max: usize,
    timeout: Duration,
    planted: Planted,
    calls: Calls,
    bulk: Bulk,
    procedures: Procedures,
    reports: Reports,
    next_task: u64,
    tasks: BTreeMap<TaskId, Task>,
    clients: BTreeMap<RequestId, TaskId>,
    pauses: BTreeSet<(Instant, TaskId)>,
    hints: BTreeMap<String, (BucketId, Epoch)>,
}

/// What a router is made of.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) me: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) shards: u16,
    pub(super) replicas: BTreeMap<GroupId, Vec<NodeId>>,
    pub(super) requests_max: usize,
    pub(super) timeout: Duration,
    pub(super) nearest: bool,
    pub(super) planted: Planted,
    pub(super) rng: Rng,
}

/// What a step of the router may use.
struct Cx<'a> {
    now: Now,
    posts: &'a mut Vec<Post>,
    sends: Sends,
}

impl Router {
    pub(super) fn new(setup: Setup) -> Self {
        let Setup { me, incarnation, shards, replicas, .. } = setup;
        let Setup { requests_max, timeout, nearest, planted, rng, .. } = setup;
        Self {
            shards,
            requests_max,
            timeout,
            planted,
            calls: Calls::new(me, incarnation, replicas, nearest, rng),
            bulk: Bulk::new(me),
            procedures: Procedures::new(shards),
            reports: Reports::new(me),
            next_task: 0,
            tasks: BTreeMap::new(),
            clients: BTreeMap::new(),
            pauses: BTreeSet::new(),
            hints: BTreeMap::new(),
        }
    }

    /// When it wants [`RouterInput::Timer`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        let pause = self.pauses.first().map(|(at, _)| *at);
        let procedures = self.procedures.deadline();
        first_of([pause, self.calls.deadline(), self.bulk.deadline(), procedures])
    }

    pub(super) fn handle(&mut self, now: Now, input: RouterInput, posts: &mut Vec<Post>) {
        let mut cx = Cx { now, posts, sends: Sends::new() };
        match input {
            RouterInput::Request(id, request) => self.on_request(id, *request, &mut cx),
            RouterInput::Cancel(id) => self.on_cancel(id),
            RouterInput::Returned { from, call, reply } => {
                for ended in self.calls.on_return(now.mono, from, call, reply, &mut cx.sends) {
                    self.on_ended(ended, &mut cx);
                }
            }
            RouterInput::Leader { group, leader, here } => {
                self.calls.on_leader(now.mono, group, leader);
                if group == GroupId::META && !here {
                    self.procedures.stop(&mut self.calls);
                }
            }
            RouterInput::Registry(unsettled) => {
                let Self { procedures, calls, .. } = self;
                procedures.on_registry(now.mono, unsettled, calls, &mut cx.sends);
            }
            RouterInput::Layout(layout) => self.calls.lay_out(&layout),
            RouterInput::Report(report) => {
                let Self { reports, calls, .. } = self;
                reports.make(now.mono, report, calls, &mut cx.sends);
            }
            RouterInput::Hashed { token, hashed } => {
                self.with_bulk(&mut cx, |bulk, moving| bulk.on_hashed(token, hashed, moving));
            }
            RouterInput::ChunkStored { from, call, stored } => {
                self.with_bulk(&mut cx, |bulk, _| bulk.on_stored(from, call, stored));
            }
            RouterInput::ChunkFetched { from, call, bytes } => {
                self.with_bulk(&mut cx, |bulk, moving| bulk.on_fetched(from, call, bytes, moving));
            }
            RouterInput::Missing(chunks) => {
                self.with_bulk(&mut cx, |bulk, moving| {
                    bulk.on_missing(chunks, moving);
                    Ends::new()
                });
            }
            RouterInput::PeerLost(node) => self.calls.on_peer_lost(now.mono, node),
            RouterInput::PeerFound(node) => self.calls.on_peer_found(node),
            RouterInput::Timer => self.on_timer(&mut cx),
        }
        let Cx { posts, sends, .. } = cx;
        posts.extend(sends.into_iter().map(|(to, message)| Post::Peer(to, message)));
    }

    fn on_request(&mut self, id: RequestId, request: Request, cx: &mut Cx<'_>) {
        let busy = self.planted.forces(Point::RequestBusy, cx.now.mono.0);
        if self.tasks.len() >= self.requests_max || busy {
            return cx.posts.push(Post::Reply(id, Box::new(Err(Refusal::Busy))));
        }
        if let Err(refusal) = plan::check(&request) {
            return cx.posts.push(Post::Reply(id, Box::new(Err(refusal))));
        }
        self.next_task += 1;
        let task = TaskId(self.next_task);
        let deadline = cx.now.mono + self.timeout;
        let stage = Stage::Call;
        self.tasks.insert(task, Task { client: id, request, stage, deadline, stale: 0 });
        self.clients.insert(id, task);
        self.begin(task, cx);
    }

    fn on_cancel(&mut self, id: RequestId) {
        let Some(task) = self.clients.remove(&id) else { return };
        self.calls.disown(task);
        self.bulk.cancel(task);
        self.forget(task);
    }

    fn forget(&mut self, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        if let Stage::Pausing(at) | Stage::SettlingLater { at, .. } = task.stage {
            self.pauses.remove(&(at, id));
        }
        self.clients.remove(&task.client);
        Some(task)
    }

    fn reply(&mut self, id: TaskId, outcome: Outcome, cx: &mut Cx<'_>) {
        if let Some(task) = self.forget(id) {
            cx.posts.push(Post::Reply(task.client, Box::new(outcome)));
        }
    }

    /// Takes a request's first step, or its first step anew.
    fn begin(&mut self, id: TaskId, cx: &mut Cx<'_>) {
        let Some(task) = self.tasks.get(&id) else { return };
        let deadline = task.deadline;
        match plan::of(&task.request, self.shards) {
            Plan::Read(group) => {
                let request = Box::new(task.request.clone());
                let query = Query::Client { bucket: None, request };
                self.read(id, group, query, deadline, cx);
            }
            Plan::Write(group, op) => self.write(id, group, op, deadline, cx),
            Plan::InBucket(name) => match self.hints.get(name).copied() {
                // A hint is worth nothing where no shard will be asked.
                Some(bucket) if !plan::is_empty_page(&task.request) => self.enter(id, bucket, cx),
                _ => self.resolve(id, cx),
            },
            Plan::WriteChunk { blob, bytes } => {
                self.set_stage(id, Stage::Moving);
                self.with_bulk(cx, |bulk, moving| {
                    bulk.write(id, blob, bytes, deadline, moving);
                    Ends::new()
                });
            }
            Plan::ReadChunk(chunk) => {
                self.set_stage(id, Stage::Moving);
                self.with_bulk(cx, |bulk, moving| {
                    bulk.read(id, chunk, deadline, moving);
                    Ends::new()
                });
            }
        }
    }

    fn read(
        &mut self,
        id: TaskId,
        group: GroupId,
        query: Query,
        deadline: Instant,
        cx: &mut Cx<'_>,
    ) {
        self.calls.read(cx.now.mono, id, group, query, deadline, &mut cx.sends);
    }

    fn write(
        &mut self,
        id: TaskId,
        group: GroupId,
        op: Box<Op>,
        deadline: Instant,
        cx: &mut Cx<'_>,
    ) {
        self.calls.write(cx.now.mono, id, group, op, deadline, &mut cx.sends);
    }

    fn set_stage(&mut self, id: TaskId, stage: Stage) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.stage = stage;
        }
    }

    /// Looks up the bucket that a request names.
    fn resolve(&mut self, id: TaskId, cx: &mut Cx<'_>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(bucket) = plan::bucket_of(&task.request) else { return };
        let query = Query::Resolve { bucket: String::from(bucket) };
        let deadline = task.deadline;
        task.stage = Stage::Resolving;
        self.read(id, GroupId::META, query, deadline, cx);
    }

    /// Asks what became of the change of a bucket that a request began.
    fn settle(&mut self, id: TaskId, change: BucketEpoch, cx: &mut Cx<'_>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let deadline = task.deadline;
        task.stage = Stage::Settling(change.clone());
        self.read(id, GroupId::META, Query::Settled(change), deadline, cx);
    }

    /// Asks the shards, the bucket being known.
    fn enter(&mut self, id: TaskId, bucket: (BucketId, Epoch), cx: &mut Cx<'_>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let deadline = task.deadline;
        if let Some(mut listing) = Listing::new(&task.request, bucket, self.shards) {
            let mut asking = Asking {
                now: cx.now.mono,
                deadline,
                owner: id,
                calls: &mut self.calls,
                sends: &mut cx.sends,
            };
            let step = listing.ask(&mut asking);
            task.stage = Stage::Listing(Box::new(listing));
            return self.on_listing(id, step, cx);
        }
        task.stage = Stage::Call;
        let Some(group) = plan::group_in(&task.request, bucket.0, self.shards) else {
            return self.begin(id, cx); // it makes or deletes the bucket, which was busy: once more
        };
        match ObjectOp::of(&task.request, Some(bucket)) {
            Some(op) => self.write(id, group, Box::new(Op::Object(op)), deadline, cx),
            None => {
                let request = Box::new(task.request.clone());
                self.read(id, group, Query::Client { bucket: Some(bucket), request }, deadline, cx);
            }
        }
    }

    fn on_ended(&mut self, (id, number, ended): (TaskId, u64, Ended), cx: &mut Cx<'_>) {
        if self.procedures.owns(id) {
            let Self { procedures, calls, .. } = self;
            return procedures.on_call(cx.now.mono, (id, number, ended), calls, &mut cx.sends);
        }
        if self.reports.owns(id) {
            let leaves = self.reports.on_call(id, &ended);
            return cx.posts.extend(leaves.map(Post::MayLeave));
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match &mut task.stage {
            Stage::Call => self.on_call(id, ended, cx),
            Stage::Resolving => self.on_resolved(id, ended, cx),
            Stage::Settling(change) => {
                let change = change.clone();
                self.on_settling(id, change, ended, cx);
            }
            Stage::Listing(listing) => {
                let mut asking = Asking {
                    now: cx.now.mono,
                    deadline: task.deadline,
                    owner: id,
                    calls: &mut self.calls,
                    sends: &mut cx.sends,
                };
                let step = listing.on_call(number, ended, &mut asking);
                self.on_listing(id, step, cx);
            }
            Stage::Pausing(_) | Stage::SettlingLater { .. } | Stage::Moving => {}
        }
    }

    fn on_call(&mut self, id: TaskId, ended: Ended, cx: &mut Cx<'_>) {
        match ended {
            Ended::Outcome(outcome) => {
                let Some(task) = self.tasks.get(&id) else { return };
                let in_bucket = plan::bucket_of(&task.request).is_some();
                if in_bucket && outcome.as_ref().is_err_and(plan::is_stale) {
                    return self.on_stale(id, cx);
                }
                match plan::begun(&task.request, &outcome) {
                    Some(change) => self.settle(id, change, cx),
                    None => self.reply(id, outcome, cx),
                }
            }
            // A peer that answers another question than it was asked: whatever it did, the client is told something.
            Ended::Resolved(_) => self.reply(id, Err(Refusal::OutcomeUnknown), cx),
            Ended::Expired { maybe } => self.reply(id, Err(expired(maybe)), cx),
        }
    }

    /// A shard knows the bucket otherwise: the hint is worth nothing.
    fn on_stale(&mut self, id: TaskId, cx: &mut Cx<'_>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.stale += 1;
        if let Some(bucket) = plan::bucket_of(&task.request) {
            self.hints.remove(bucket);
        }
        if task.stale > STALE_MAX {
            return self.reply(id, Err(Refusal::BucketBusy), cx);
        }
        if task.stale > 1 {
            return self.pause(id, cx);
        }
        self.resolve(id, cx);
    }

    fn pause(&mut self, id: TaskId, cx: &mut Cx<'_>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let at = cx.now.mono + BUSY_PAUSE;
        if at >= task.deadline {
            return self.reply(id, Err(Refusal::BucketBusy), cx);
        }
        task.stage = Stage::Pausing(at);
        self.pauses.insert((at, id));
    }

    fn on_resolved(&mut self, id: TaskId, ended: Ended, cx: &mut Cx<'_>) {
        match ended {
            Ended::Resolved(None) => self.reply(id, Err(Refusal::NoSuchBucket), cx),
            Ended::Resolved(Some(bucket)) if bucket.state == BucketState::Active => {
                if self.hints.len() >= HINTS_MAX {
                    self.hints.clear();
                }
                let known = (bucket.id, bucket.epoch);
                if let Some(task) = self.tasks.get(&id)
                    && let Some(name) = plan::bucket_of(&task.request)
                {
                    self.hints.insert(String::from(name), known);
                }
                self.enter(id, known, cx);
            }
            Ended::Resolved(Some(_)) => self.pause(id, cx),
            Ended::Outcome(Err(refusal)) => self.reply(id, Err(refusal), cx),
            // Nothing was asked that could be done: a peer that answers like this has not understood.
            Ended::Outcome(Ok(_)) | Ended::Expired { .. } => {
                self.reply(id, Err(expired(false)), cx)
            }
        }
    }

    /// The change of a bucket that this request began: is it done?
    fn on_settling(&mut self, id: TaskId, change: BucketEpoch, ended: Ended, cx: &mut Cx<'_>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match ended {
            Ended::Outcome(Err(Refusal::BucketBusy)) => {
                let at = cx.now.mono + BUSY_PAUSE;
                task.stage = Stage::SettlingLater { change, at };
                self.pauses.insert((at, id));
            }
            Ended::Outcome(outcome @ (Ok(_) | Err(Refusal::BucketNotEmpty))) => {
                self.reply(id, outcome, cx);
            }
            // The change is in the registry and will be carried out; this client won't hear of it.
            Ended::Expired { .. } | Ended::Outcome(_) | Ended::Resolved(_) => {
                self.reply(id, Err(Refusal::OutcomeUnknown), cx);
            }
        }
    }

    fn on_listing(&mut self, id: TaskId, step: Step, cx: &mut Cx<'_>) {
        match step {
            Step::Going => {}
            Step::Done(outcome) => {
                self.calls.disown(id);
                self.reply(id, outcome, cx);
            }
            Step::Stale => {
                self.calls.disown(id);
                self.on_stale(id, cx);
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>) {
        for ended in self.calls.on_timer(cx.now.mono, &mut cx.sends) {
            self.on_ended(ended, cx);
        }
        self.with_bulk(cx, Bulk::on_timer);
        while let Some((at, id)) = self.pauses.first().copied() {
            if at > cx.now.mono {
                break;
            }
            self.pauses.remove(&(at, id));
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            match &task.stage {
                Stage::SettlingLater { .. } if task.deadline <= cx.now.mono => {
                    self.reply(id, Err(Refusal::OutcomeUnknown), cx);
                }
                Stage::SettlingLater { change, .. } => {
                    let change = change.clone();
                    self.settle(id, change, cx);
                }
                _ => self.resolve(id, cx),
            }
        }
        self.procedures.advance(cx.now.mono, &mut self.calls, &mut cx.sends);
    }

    fn with_bulk(
        &mut self,
        cx: &mut Cx<'_>,
        step: impl FnOnce(&mut Bulk, &mut Moving<'_>) -> Ends,
    ) {
        let mut moving = Moving {
            now: cx.now.mono,
            calls: &mut self.calls,
            sends: &mut cx.sends,
            posts: cx.posts,
        };
        for (id, outcome) in step(&mut self.bulk, &mut moving) {
            self.reply(id, outcome, cx);
        }
    }

    /// Requests under way.
    pub(super) fn tasks(&self) -> usize {
        self.tasks.len()
    }
}
