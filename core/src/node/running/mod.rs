//! A running member: its lanes, the posts between them, and the gates.
//!
//! The machines of a node know nothing of each other. Here they are put together: who is told what, in which
//! order, and what may leave the node.
//!
//! # Guarantees
//!
//! - Lanes exchange only posts. Each has a queue of its own; within a step they are emptied in turn, or, in the
//!   simulator, in an order drawn from the seed: nothing may depend on it.
//! - Nothing that promises durability leaves before its gate: [`Running::gates`] is the one place that holds
//!   messages back, and the one that lets them go.
//! - Posts between two lanes arrive in the order in which they were posted.
//! - A step ends with all queues empty; whatever takes longer is a slice that posts its own continuation.
//!
//! # The path of an input
//!
//! An input becomes posts (`mod`), posts are delivered until none is left, and the messages that this step has
//! for one peer leave in one envelope (`lanes`). Reads of many groups are confirmed in one round (`rounds`). The
//! superblock and the graceful stop are in `stopping`.
//!
//! # Caveats
//!
//! - All lanes run in one thread: the cut is there, the threads are not.
//! - The order of rounds and gates is that of groups, so a node's effects are the same in every run.

mod charter;
mod fetches;
mod lanes;
mod layout;
mod questions;
mod rounds;
mod stopping;

pub(super) use self::stopping::Stopping;

use self::fetches::{Fetches, Offered};
use self::lanes::{Gate, Scratch, cx};
use self::questions::Questions;
use self::rounds::Rounds;
use super::api::{Config, Effect, Input};
use super::boot::{Admitted, Writer};
use super::chunks::Chunks;
use super::index;
use super::leading::Leading;
use super::message::{CallId, Head, PeerMessage, Reply};
use super::peers::Peers;
use super::post::{Post, ReplicaInput, RouterInput, StoreInput};
use super::recovery::{Ops, Ready};
use super::replica::{Cx, Replica};
use super::restore;
use super::router::{Router, Setup};
use super::scrub::Scrub;
use super::status::{Moving, Status};
use super::store::{self, Logs, Out};
use super::superblock::{Membership, Superblock};
use super::support::{self, Support};
use super::trace::Trace;
use crate::kv::command::Op;
use crate::machine::{Duration, Halt, Hashed, Instant, IoDone, IoOp, IoResult, Now, first_of};
use crate::object::api::Refusal;
use crate::object::layout::Layout;
use crate::object::registry::{self, RegistryOp};
use crate::planted::Bug;
use crate::raft::{self, Body, PersistId, Standing};
use crate::rng::Rng;
use crate::types::{BlobId, Boot, ChunkId, GroupId, Location, NodeId, OpId, ShardId, StoreId};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// How often the memory of logs is looked at.
const UPKEEP_EVERY: Duration = Duration::from_millis(200);

/// Whom a hash is for.
#[derive(Clone, Debug)]
enum Hashing {
    /// The router, under its token.
    Router(u64),
    /// A peer's chunk, to be stored if it is what it is called.
    Incoming { from: NodeId, call: CallId, chunk: ChunkId, bytes: Bytes },
}

/// A node that takes part.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) superblock: Superblock,
    sequence: u64,
    writer: Option<Writer>,
    /// The superblock has changed since its writing began.
    superblock_due: bool,
    /// What has become durable in a log of which the superblock on disk does not know yet: nothing of it counts before.
    unnoted: Vec<(GroupId, PersistId)>,
    ops: Ops,
    /// The voters that each group was founded with.
    groups: BTreeMap<GroupId, Vec<NodeId>>,
    /// Where shards are that were moved, as far as is known here.
    layout: Layout,
    /// Groups whose replicas were given up in an earlier boot, with the generations that the table log has of each.
    retired: BTreeMap<GroupId, u64>,
    /// Shards whose replicas may be given up.
    leaving: Vec<ShardId>,
    logs: Logs,
    chunks: Chunks,
    pub(super) replicas: BTreeMap<GroupId, Replica>,
    /// What every replica's `timer` says, in order.
    timers: BTreeSet<(Instant, GroupId)>,
    router: Router,
    pub(super) peers: Peers,
    gates: BTreeMap<GroupId, Gate>,
    outgoing: BTreeMap<NodeId, Vec<(GroupId, raft::Message)>>,
    hashing: BTreeMap<OpId, Hashing>,
    /// Stores that look for a cluster in the place of a node's.
    strangers: BTreeMap<NodeId, StoreId>,
    rounds: Rounds,
    questions: Questions,
    fetches: Fetches,
    pub(super) leading: Leading,
    support: support::Given,
    /// A queue for the store lane, one for the router, one for each lane of shards.
    queues: Vec<VecDeque<Post>>,
    scratch: Scratch,
    shuffle: Option<Rng>,
    /// For replicas that begin.
    rng: Rng,
    /// The store lane was told something, or time may have come for it.
    store_due: bool,
    upkeep_at: Instant,
    checkpoint_at: Instant,
    checkpoint_wanted: bool,
    pub(super) stopping: Option<Stopping>,
    halted: Option<Halt>,
}

impl Running {
    pub(super) fn new(
        config: &Config,
        ready: Ready,
        now: Now,
        rng: &mut Rng,
        effects: &mut Vec<Effect>,
    ) -> Self {
        let Ready { admitted, groups, replicas, retired, abstaining, logs, chunks, ops } = ready;
        let Admitted { superblock, sequence, charter, .. } = admitted;
        let settings = store::Settings {
            fsync: config.fsync,
            checkpoint_every: config.tuning.checkpoint_every,
            wal_segments_max: usize::try_from(config.tuning.wal_segments_max).unwrap_or(usize::MAX),
            wal_segment_bytes: config.tuning.wal_segment_bytes,
            table_segment_bytes: config.tuning.table_segment_bytes,
            planted: config.planted,
            index: index::Settings {
                store: superblock.store.0,
                bytes_min: config.tuning.index_bytes_min,
                bytes_per_second: config.tuning.index_bytes_per_second,
                slice_items: config.tuning.slice_items as usize,
                planted: config.planted,
            },
        };
        let log_ops = [ops.wal.clone(), ops.table.clone(), ops.reads.clone()];
        let router = Router::new(Setup {
            me: config.me,
            incarnation: superblock.incarnation,
            shards: charter.shards,
            replicas: groups.clone(),
            requests_max: config.tuning.requests_max as usize,
            timeout: config.tuning.request_timeout,
            nearest: config.tuning.reads_nearest,
            planted: config.planted,
            rng: rng.fork(),
        });
        let lanes = usize::from(config.lanes.max(1));
        let mut running = Self {
            sequence,
            writer: None,
            superblock_due: false,
            unnoted: Vec::new(),
            chunks: Chunks::new(
                Boot { node: config.me, incarnation: superblock.incarnation },
                chunks,
                Scrub::new(&config.tuning, superblock.scrubbed, now),
                ops.chunk.clone(),
                now.mono,
            ),
            logs: Logs::new(settings, logs, log_ops, now.mono),
            ops,
            groups,
            layout: Layout::default(),
            retired,
            leaving: Vec::new(),
            replicas,
            timers: BTreeSet::new(),
            router,
            peers: Peers::new(config, &charter, &superblock, now.mono),
            superblock,
            gates: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            hashing: BTreeMap::new(),
            strangers: BTreeMap::new(),
            rounds: Rounds::default(),
            questions: Questions::default(),
            fetches: Fetches::new(
                config.tuning.snapshot_bytes_max,
                config.tuning.snapshot_slice_bytes,
            ),
            leading: Leading::default(),
            support: support::Given::default(),
            queues: (0..2 + lanes).map(|_| VecDeque::new()).collect(),
            scratch: Scratch::default(),
            shuffle: config.tuning.shuffle_lanes.then(|| rng.fork()),
            rng: rng.fork(),
            store_due: true,
            upkeep_at: now.mono + UPKEEP_EVERY,
            checkpoint_at: now.mono + config.tuning.checkpoint_every,
            checkpoint_wanted: false,
            stopping: None,
            halted: None,
        };
        effects.push(Effect::Trace(Trace::Running { cluster: charter.founding.cluster }));
        running.logs.note_standing(&abstaining, true);
        let groups: Vec<GroupId> = running.replicas.keys().copied().collect();
        for group in groups {
            running.with_replica(config, now, group, effects, Replica::start);
        }
        running.pump(config, now, effects);
        running
    }

    /// When the node wants [`Input::Timer`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        if matches!(self.stopping, Some(Stopping::Settling { .. } | Stopping::Marking)) {
            let until = match self.stopping {
                Some(Stopping::Settling { until }) => Some(until),
                _ => None,
            };
            return first_of([self.logs.deadline(), self.chunks.deadline(), until]);
        }
        let replica = self.timers.first().map(|(at, _)| *at);
        let stop = match self.stopping {
            Some(Stopping::Leading { until }) => Some(until),
            _ => None,
        };
        first_of([
            replica,
            stop,
            self.router.deadline(),
            self.rounds.deadline(),
            self.questions.deadline(),
            self.logs.deadline(),
            self.chunks.deadline(),
            Some(self.peers.deadline()),
            Some(self.upkeep_at),
        ])
    }

    pub(super) fn step(
        &mut self,
        config: &Config,
        now: Now,
        input: Input,
        effects: &mut Vec<Effect>,
    ) {
        let leaving = matches!(self.stopping, Some(Stopping::Settling { .. } | Stopping::Marking));
        let timer = matches!(input, Input::Timer);
        match input {
            Input::Boot { .. } => {}
            // What is marked as cleanly stopped must not promise anything after.
            Input::Message { .. } if leaving => {}
            Input::Request { id, .. } if leaving => {
                let refusal = Refusal::Unavailable(String::from("the node is stopping"));
                effects.push(Effect::Reply { id, outcome: Err(refusal) });
            }
            Input::Message { from, message } => {
                self.on_message(config, now, from, message, effects)
            }
            Input::Request { id, request } => {
                let input = RouterInput::Request(id, Box::new(request));
                self.enqueue(Post::Router(input), effects, config);
            }
            Input::Cancel { id } => {
                self.enqueue(Post::Router(RouterInput::Cancel(id)), effects, config);
            }
            Input::Refused { peer } => self.peers.refused(peer),
            Input::Done { op, result } => self.on_done(config, now, op, &result, effects),
            Input::Timer => {}
            Input::Stop => {
                if self.stopping.is_none() {
                    let until = now.mono + config.tuning.election;
                    self.stopping = Some(Stopping::Leading { until });
                    self.hand_over_all(config.me);
                }
            }
        }
        self.store_due |= timer;
        if !leaving {
            self.on_time(config, now, effects);
            if timer {
                self.begin_round(config, now.mono, effects);
                self.begin_questions(now.mono, effects);
            }
        }
        self.pump(config, now, effects);
        self.maybe_stop(config, now, effects);
    }

    /// Why the node has to halt, if it has.
    pub(super) fn take_halt(&mut self) -> Option<Halt> {
        self.halted.take()
    }

    /// Fills in what an operator wants to know.
    pub(super) fn describe(&self, status: &mut Status) {
        status.store = Some(self.superblock.store);
        status.incarnation = self.superblock.incarnation;
        let charter = self.charter();
        status.charter = charter.version;
        status.nodes = charter.ids().collect();
        status.stores = charter.nodes.iter().map(|it| (it.node, it.store)).collect();
        status.strangers = self.strangers.iter().map(|(node, store)| (*node, *store)).collect();
        status.suspected = self.peers.lost().collect();
        status.layout = self.layout.version;
        let moving = self.layout.placed.iter().filter(|(_, placed)| !placed.is_settled());
        let moving = moving.map(|(shard, it)| {
            let (to, from) = (it.voters.clone(), it.from.clone());
            Moving { shard: *shard, to, from }
        });
        status.moving = moving.collect();
        let described = |replica: &Replica| {
            let mut described = replica.describe();
            described.matched.retain(|(node, _)| !status.suspected.contains(node));
            described
        };
        let here = self.replicas.values().filter(|replica| !replica.is_retired());
        status.groups = here.map(described).collect();
        let chunks = self.chunks.stats();
        status.chunks_missing = chunks.missing;
        status.chunks = chunks.chunks;
        status.chunk_bytes = chunks.live_bytes;
        status.scrubbed = self.chunks.scrubbed();
        status.disk_full = self.logs.is_full();
        status.requests = self.router.tasks() as u64;
    }

    /// The blobs of which there are chunks here.
    pub(super) fn held_blobs(&self) -> Vec<BlobId> {
        self.chunks.held_blobs()
    }

    /// Every chunk that is here, damaged ones too, and where.
    pub(super) fn held_chunks(&self) -> impl Iterator<Item = (ChunkId, Location)> {
        self.chunks.held()
    }

    fn on_message(
        &mut self,
        config: &Config,
        now: Now,
        from: NodeId,
        message: PeerMessage,
        effects: &mut Vec<Effect>,
    ) {
        let PeerMessage { head, body } = message;
        // Whoever says hello does not take part. Nobody may wait for it as for one that does: a quiet leader whose
        // disk was replaced would have its followers wait for ever.
        if !matches!(head, Head::Hello { .. } | Head::Beat(_)) {
            self.peers.heard(from, now.mono);
        }
        let post = match head {
            Head::Beat(beat) => {
                for news in self.peers.on_beat(from, beat, now.mono) {
                    self.on_news(news, effects, config);
                }
                return;
            }
            Head::Hello { store } => match self.on_hello(from, store) {
                Some(post) => post,
                None => return,
            },
            Head::Welcome(charter) => return self.on_charter(charter, effects),
            Head::Raft(messages) => {
                for (group, message) in messages {
                    if !self.has_replica(config, now, group, effects) {
                        continue;
                    }
                    self.enqueue(
                        Post::Replica(group, ReplicaInput::Raft(from, message)),
                        effects,
                        config,
                    );
                }
                return;
            }
            Head::Call { call, group, ask } => {
                if self.replicas.contains_key(&group) {
                    Post::Replica(group, ReplicaInput::Call { from, call, ask })
                } else {
                    let answer = Reply::NotLeader(None);
                    Post::Peer(from, Head::Return { call, group, answer }.into())
                }
            }
            Head::Return { call, answer, .. } => {
                Post::Router(RouterInput::Returned { from, call, reply: answer })
            }
            Head::StoreChunk { call, chunk } => {
                let op = self.ops.hashes.take();
                let bytes = body.clone();
                self.hashing.insert(op, Hashing::Incoming { from, call, chunk, bytes });
                effects.push(Effect::Hash { op, bytes: body });
                return;
            }
            Head::ChunkStored { call, stored } => {
                Post::Router(RouterInput::ChunkStored { from, call, stored })
            }
            Head::FetchChunk { call, chunk } => {
                Post::Store(StoreInput::FetchChunk { from, call, chunk })
            }
            Head::ChunkFound { call } => {
                Post::Router(RouterInput::ChunkFetched { from, call, bytes: Some(body) })
            }
            Head::ChunkAbsent { call } => {
                Post::Router(RouterInput::ChunkFetched { from, call, bytes: None })
            }
            Head::SnapshotOffer { group, offer } => {
                match self.fetches.on_offer(Offered { group, from, offer }, now.mono) {
                    Some(Offered { from, offer, .. }) => {
                        Post::Replica(group, ReplicaInput::Offer { from, offer })
                    }
                    None => return effects.push(Effect::Trace(Trace::SnapshotDeferred { group })),
                }
            }
            Head::SnapshotPull { group, position, after } => {
                Post::Replica(group, ReplicaInput::Pull { from, position, after })
            }
            Head::SnapshotSlice { group, position, after, records } => {
                let next = self.fetches.on_slice(group, records.is_empty(), now.mono);
                if let Some(Offered { group, from, offer }) = next {
                    self.push(Post::Replica(group, ReplicaInput::Offer { from, offer }));
                }
                Post::Replica(group, ReplicaInput::Slice { from, position, after, records })
            }
            Head::SnapshotEnd { group, position } => {
                Post::Replica(group, ReplicaInput::SnapshotEnd { from, position })
            }
            Head::Layout { cluster, layout } => {
                // The clusters of two operators may have the same secret.
                if cluster == self.charter().founding.cluster {
                    self.on_layout(layout, effects);
                }
                return;
            }
            Head::SupportQuery { round } => {
                let incarnation = self.superblock.incarnation;
                let support = Support { incarnation, epoch: self.support.epoch(from) };
                Post::Peer(from, Head::SupportReply { round, support }.into())
            }
            Head::IndexQuery { question, support, groups } => {
                return self.on_index_query(from, question, support, groups);
            }
            Head::IndexReply { question, indexes } => {
                if question.incarnation == self.superblock.incarnation {
                    self.on_index_reply(from, question.number, indexes);
                }
                return;
            }
            Head::SupportReply { round, support } => {
                if round.incarnation == self.superblock.incarnation {
                    self.on_support(from, round.number, support);
                }
                return;
            }
        };
        self.enqueue(post, effects, config);
    }

    fn on_news(&mut self, news: super::peers::News, effects: &mut Vec<Effect>, config: &Config) {
        use super::peers::News;
        match news {
            News::Lost(node) => {
                effects.push(Effect::Trace(Trace::PeerLost(node)));
                self.tell_replicas(&ReplicaInput::PeerLost(node));
                self.enqueue(Post::Router(RouterInput::PeerLost(node)), effects, config);
            }
            News::Found(node) => {
                effects.push(Effect::Trace(Trace::PeerFound(node)));
                self.tell_replicas(&ReplicaInput::PeerFound(node));
                self.enqueue(Post::Router(RouterInput::PeerFound(node)), effects, config);
            }
            News::Restarted(node, incarnation) => {
                self.tell_replicas(&ReplicaInput::PeerRestarted(node, incarnation));
            }
            News::Behind(node) => {
                let charter = Head::Welcome(self.charter().clone());
                effects.push(Effect::Send { to: node, message: charter.into() });
            }
            News::LayoutBehind(node) => {
                let cluster = self.charter().founding.cluster;
                let layout = Head::Layout { cluster, layout: self.layout.clone() };
                effects.push(Effect::Send { to: node, message: layout.into() });
            }
            News::Stranger(node, store) => {
                effects.push(Effect::Trace(Trace::Stranger { node, store }));
            }
        }
    }

    fn on_done(
        &mut self,
        config: &Config,
        now: Now,
        op: OpId,
        result: &IoResult,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(hashing) = self.hashing.remove(&op) {
            return self.on_hashed(config, hashing, result, effects);
        }
        if self.writer.as_ref().is_some_and(|writer| writer.is_mine(op)) {
            return self.on_superblock_written(result, effects);
        }
        self.with_store(config, effects, |logs, chunks, out| {
            let _ = logs.on_done(now, op, result, out) || chunks.on_done(now.mono, op, result, out);
            if chunks.take_lacked_space() {
                logs.give_spares_back();
                logs.pump(now, out);
            }
        });
    }

    fn on_hashed(
        &mut self,
        config: &Config,
        hashing: Hashing,
        result: &IoResult,
        effects: &mut Vec<Effect>,
    ) {
        let Ok(IoDone::Hashed(hashed)) = result else { return };
        let hashed: Hashed = *hashed;
        let post = match hashing {
            Hashing::Router(token) => Post::Router(RouterInput::Hashed { token, hashed }),
            Hashing::Incoming { from, call, chunk, bytes } if hashed.hash == chunk.hash => {
                Post::Store(StoreInput::StoreChunk { from, call, chunk, bytes, hashed })
            }
            // Damaged on the way: the sender sends it again.
            Hashing::Incoming { .. } => return,
        };
        self.enqueue(post, effects, config);
    }

    /// What is due by the clock.
    fn on_time(&mut self, config: &Config, now: Now, effects: &mut Vec<Effect>) {
        for news in self.peers.on_time(now.mono) {
            self.on_news(news, effects, config);
        }
        for (to, head) in self.peers.beats(now) {
            effects.push(Effect::Send { to, message: head.into() });
        }
        while let Some((at, group)) = self.timers.first().copied() {
            if at > now.mono {
                break;
            }
            self.timers.remove(&(at, group));
            if let Some(replica) = self.replicas.get_mut(&group) {
                replica.timer = None;
            }
            self.enqueue(Post::Replica(group, ReplicaInput::Timer), effects, config);
        }
        self.expire_rounds(now.mono);
        if self.router.deadline().is_some_and(|at| at <= now.mono) {
            self.enqueue(Post::Router(RouterInput::Timer), effects, config);
        }
        if self.upkeep_at <= now.mono {
            self.upkeep_at = now.mono + UPKEEP_EVERY;
            self.upkeep(config, now);
            self.maybe_index(config, now, effects);
            self.settle_shards(config, now, effects);
        }
    }

    /// Begins a snapshot of the index, if it is due and every replica has a state to be copied.
    fn maybe_index(&mut self, config: &Config, now: Now, effects: &mut Vec<Effect>) {
        let is_whole = |replica: &Replica| replica.is_retired() || replica.has_state();
        if self.stopping.is_some()
            || !self.logs.wants_index(now.mono)
            || !self.replicas.values().all(is_whole)
        {
            return;
        }
        let replicas = self.replicas.keys().map(|group| index::Subject::Replica(*group));
        let retired = self.retired.iter();
        let retired =
            retired.map(|(group, generations)| index::Subject::Retired(*group, *generations));
        let subjects = replicas.chain(retired).collect();
        self.with_store(config, effects, |logs, _, out| logs.begin_index(subjects, out));
    }

    /// Keeps the memory of logs bounded, and the table log current.
    fn upkeep(&mut self, config: &Config, now: Now) {
        let mut sizes: Vec<(u64, GroupId)> = self
            .replicas
            .iter()
            .filter(|(_, replica)| !replica.is_retired())
            .map(|(group, replica)| (replica.raft.log_bytes(), *group))
            .collect();
        let mut total: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
        let mut checkpoint = self.checkpoint_at <= now.mono;
        if total > config.tuning.log_bytes_max {
            sizes.sort_unstable();
            while total > config.tuning.log_bytes_max / 2 {
                let Some((bytes, group)) = sizes.pop() else { break };
                total = total.saturating_sub(bytes);
                self.push(Post::Replica(group, ReplicaInput::Checkpoint { compact: true }));
            }
            checkpoint = true;
        }
        if self.checkpoint_at <= now.mono {
            self.checkpoint_at = now.mono + config.tuning.checkpoint_every;
            self.tell_replicas(&ReplicaInput::Checkpoint { compact: false });
        }
        if checkpoint {
            self.checkpoint_wanted = true;
        }
        self.propose_charter(config, now);
        if self.stopping.is_none() {
            self.hand_over_some(config.me, config.tuning.election, now.mono);
        }
    }
}
