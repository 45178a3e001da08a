//! A replica: one group's Raft machine and the state that its log builds.
//!
//! The path of a write: a router's [`Ask::Write`] becomes a command, Raft appends it
//! ([`raft::Output::Appended`]), the store lane makes it durable, Raft commits it, [`Replica::apply`]
//! applies it and answers the call if the entry at that position is still the one that was proposed
//! for it. The path of a read: a quorum confirms leadership (`super::support`, or Raft's own round), which
//! makes the commit index a read index; the query is evaluated once that is applied, and a body that is only on disk is fetched before the answer.
//!
//! A replica whose state is damaged votes and acknowledges entries (its log is intact) but neither applies nor
//! answers until a peer's snapshot has replaced the state. It leads only where its log alone can win an election, until
//! a follower has that log and takes over, or has given it a state.

mod applying;
mod calls;
mod logging;
mod moving;
mod near;
#[cfg(test)]
mod trio;

use self::moving::Stay;
use self::near::Near;

use super::engine::sweeper::Swept;
use super::members;
use super::message::{Ask, CallId, Head, Query, Reply};
use super::post::{Post, ReplicaInput, RouterInput, StoreInput};
use super::reads::{self, Found};
use super::snapshot::{Incoming, Outgoing};
use super::status::{self, GroupStatus};
use super::support::{Follows, Received, Support};
use super::trace::Trace;
use super::upkeep::{Audit, Collector, expect_chunks};
use crate::codec::Octets;
use crate::kv::batch::Seat;
use crate::kv::command::{Command, KvWrite, Op, SessionTag};
use crate::kv::cow::Rubble;
use crate::kv::frame::{Frame, Place};
use crate::kv::index::IndexCopy;
use crate::kv::state::{Event, State};
use crate::kv::table::Slot;
use crate::machine::{Duration, Instant, Now, first_of};
use crate::object::api::Refusal;
use crate::object::command::{ObjectEvent, ObjectOp};
use crate::object::registry;
use crate::planted::{Bug, Point};
use crate::raft::{self, Body, Group, Payload, Role};
use crate::types::{Damage, GroupId, Index, NodeId, Position, Term, Version};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;

/// Changes go to the table log once the commands behind them have this many bytes: bodies are in memory
/// until then, and what is overwritten before is never written.
const FRAME_BYTES: usize = 64 << 10;
/// A leader refuses proposals while this many are not yet applied: the client is told to come again
/// instead of queueing without bound.
const PROPOSALS_MAX: usize = 4096;

/// A group that another should lead is offered to it this often.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(30);

/// Where there are leases, reads of a group that sleeps wake it if they are no further apart.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// Buckets that are made or deleted at a time; the others wait.
const PROCEDURES_MAX: usize = 64;

/// What a replica may use in a step.
pub(super) struct Cx<'a> {
    pub(super) now: Now,
    pub(super) me: NodeId,
    /// For so long a read waits to be answered without leading.
    pub(super) near_patience: Duration,
    pub(super) slice_items: usize,
    pub(super) slice_bytes: u64,
    pub(super) posts: &'a mut Vec<Post>,
    /// What Raft says, while it is carried out: empty between two steps of Raft.
    pub(super) outputs: &'a mut Vec<raft::Output>,
}

impl Cx<'_> {
    pub(super) fn answer(&mut self, group: GroupId, to: Caller, answer: Reply) {
        let head = Head::Return { call: to.call, group, answer };
        self.posts.push(Post::Peer(to.from, head.into()));
    }
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) from: NodeId,
    pub(super) call: CallId,
}

#[derive(Clone, Debug)]
struct Read {
    caller: Caller,
    wants: Wants,
}

/// What a read is after.
#[derive(Clone, Debug)]
enum Wants {
    Answer(Query),
    /// Only the read index, for a replica that answers itself.
    Index,
}

/// One replica of one group on this node.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) group: GroupId,
    pub(super) raft: Group,
    pub(super) state: State,
    pub(super) seat: Seat,
    stay: Stay,
    pub(super) damage: Option<String>,
    /// After damage at boot: the generation of the next snapshot.
    pub(super) next_generation: Option<u64>,
    role: Role,
    term: Term,
    pub(super) leader: Option<NodeId>,
    pub(super) led_since: Instant,
    pub(super) next_id: u64,
    /// Proposals of this step that Raft has not yet placed.
    placing: BTreeMap<u64, Caller>,
    /// Proposals in the log, by index: answered when that index is applied.
    proposed: BTreeMap<Index, (Term, Caller)>,
    /// Reads that wait for the next round.
    asked: Vec<Read>,
    /// When it was last read while it slept.
    read_asleep: Option<Instant>,
    /// Reads that wait for the support of other nodes, by the round that asks for it.
    awaiting: BTreeMap<u64, Vec<Read>>,
    /// Whom this replica follows.
    follows: Follows,
    /// Who follows it.
    followers: Received,
    /// Reads that wait for a read index.
    confirming: BTreeMap<u64, Vec<Read>>,
    /// Reads that wait for their read index to be applied.
    confirmed: BTreeMap<Index, Vec<Read>>,
    /// Reads that are answered here although another leads.
    near: Near<(Caller, Query)>,
    /// Reads that wait for a body.
    fetching: BTreeMap<u64, (Caller, Found)>,
    commit_index: Index,
    /// At the meta group: which writes made the charter and the layout that were posted last.
    cluster: (Option<Version>, Option<Version>),
    /// What of the state is durable in the table log.
    pub(super) checkpoint: Position,
    /// Bytes of commands applied since changes last went to the table log.
    unlogged_bytes: usize,
    compact_wanted: bool,
    pub(super) outgoing: BTreeMap<NodeId, Outgoing>,
    pub(super) incoming: Option<Incoming>,
    pub(super) collector: Collector,
    pub(super) audit: Audit,
    /// States that were replaced, being taken apart.
    pub(super) rubble: Vec<Rubble<Slot>>,
    disk_full: bool,
    /// A copy for this snapshot of the index, some frames of which are not written yet.
    copying: Option<(u64, Box<IndexCopy>)>,
    continue_posted: bool,
    /// The deadline that the node knows of.
    pub(super) timer: Option<Instant>,
    /// When it was last to be led by another.
    handed_over: Option<Instant>,
}

impl Replica {
    pub(super) fn new(group: GroupId, raft: Group, state: State) -> Self {
        let status = raft.status();
        Self {
            group,
            seat: state.seat().clone(),
            stay: Stay::Here,
            checkpoint: state.mark().position,
            raft,
            state,
            damage: None,
            next_generation: None,
            role: status.role,
            term: status.term,
            leader: None,
            led_since: Instant(0),
            next_id: 0,
            placing: BTreeMap::new(),
            proposed: BTreeMap::new(),
            asked: Vec::new(),
            read_asleep: None,
            awaiting: BTreeMap::new(),
            follows: Follows::default(),
            followers: Received::default(),
            confirming: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            near: Near::default(),
            fetching: BTreeMap::new(),
            commit_index: Index(0),
            cluster: (None, None),
            unlogged_bytes: 0,
            compact_wanted: false,
            outgoing: BTreeMap::new(),
            incoming: None,
            collector: Collector::default(),
            audit: Audit::default(),
            rubble: Vec::new(),
            disk_full: false,
            copying: None,
            continue_posted: false,
            timer: None,
            handed_over: None,
        }
    }

    /// State or log were found damaged at boot, so that the state can't go on from here; a snapshot that
    /// heals it is of this generation.
    pub(super) fn damaged(mut self, damage: &Damage, next_generation: Option<u64>) -> Self {
        self.damage = Some(damage.to_string());
        self.next_generation = next_generation;
        self
    }

    /// The first step of a boot.
    pub(super) fn start(&mut self, cx: &mut Cx<'_>) {
        if self.damage.is_some() {
            self.feed(raft::Input::StateDamaged, cx);
        }
        self.post_cluster(cx);
        self.go_on(cx);
    }

    /// Whether it has a state, and no other is on its way.
    pub(super) fn has_state(&self) -> bool {
        self.damage.is_none() && self.incoming.is_none()
    }

    /// The generation that the next snapshot is installed as.
    pub(super) fn next_generation(&mut self) -> u64 {
        match &mut self.next_generation {
            Some(next) => {
                *next += 1;
                *next - 1
            }
            None => self.state.next_generation(),
        }
    }

    /// Whether it has led for so long, nothing moves here, and it was not tried of late to have another lead it.
    pub(super) fn may_hand_over(&self, now: Instant, settled: Duration) -> bool {
        let calm = self.damage.is_none() && self.outgoing.is_empty() && !self.is_alone();
        let tried = self.handed_over.is_some_and(|at| now - at < HAND_OVER_AGAIN);
        self.leads() && calm && !tried && now - self.led_since >= settled
    }

    pub(super) fn leads(&self) -> bool {
        self.role == Role::Leader
    }

    pub(super) fn term(&self) -> Term {
        self.term
    }

    /// When it wants [`ReplicaInput::Timer`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.is_retired() {
            return None;
        }
        let collects = self.leads() && self.damage.is_none() && self.group.shard().is_some();
        let collect = if collects { self.collector.deadline() } else { None };
        first_of([self.raft.deadline(), collect, self.stream_deadline(), self.near_deadline()])
    }

    pub(super) fn handle(&mut self, input: ReplicaInput, cx: &mut Cx<'_>) {
        if self.is_retired() && is_for_members(&input) {
            return;
        }
        match input {
            ReplicaInput::Timer => {
                self.feed(raft::Input::Timer, cx);
                self.stream(cx);
                self.collect(cx);
                self.expire_near(cx);
            }
            ReplicaInput::Raft(from, message) => {
                self.hear_support(from, &message);
                self.feed(raft::Input::Message { from, message }, cx);
            }
            ReplicaInput::Call { from, call, ask } => self.on_call(Caller { from, call }, ask, cx),
            ReplicaInput::Persisted(upto) => self.feed(raft::Input::Persisted { upto }, cx),
            ReplicaInput::FrameWritten { placed, start } => {
                self.on_frame_written(&placed, start, cx);
                if let Some((_, copy)) = &mut self.copying {
                    copy.settle(&placed, start);
                }
                self.post_copy(cx);
            }
            ReplicaInput::FrameDurable { generation, position } => {
                self.on_frame_durable(generation, position, cx);
            }
            ReplicaInput::Body { token, result } => self.on_body(token, result, cx),
            ReplicaInput::Continue => {
                self.continue_posted = false;
                self.apply(cx);
                self.audit(cx);
                self.clear_rubble(cx);
            }
            ReplicaInput::Checkpoint { compact } => {
                self.compact_wanted |= compact;
                if let Some(frame) = self.state.take_checkpoint() {
                    self.post_frame(frame, cx);
                }
                let (group, bytes) = (self.group, self.state.table().live_bytes());
                cx.posts.push(Post::Store(StoreInput::Live { group, bytes }));
                self.maybe_compact(cx);
            }
            ReplicaInput::Clean { place, payload } => self.clean(place, &payload, cx),
            ReplicaInput::Cleaned { segment } => self.on_cleaned(segment, cx),
            ReplicaInput::Sweep { segment, rows } => self.on_sweep(segment, &rows, cx),
            ReplicaInput::Index { number } => self.copy_for_index(number, cx),
            ReplicaInput::FrameLost(damage) => {
                // Nobody else can give a lone replica a state: what can still be read of its own is all there is.
                let is_current = self.state.table().live(damage.file.number).records > 0;
                if is_current && !self.is_alone() {
                    self.on_damage(damage, cx);
                }
            }
            ReplicaInput::PeerLost(node) => {
                if self.leader == Some(node) {
                    self.forsake_leader(cx);
                }
                self.feed(raft::Input::PeerSuspected { node }, cx);
            }
            ReplicaInput::PeerFound(node) => self.feed(raft::Input::PeerFound { node }, cx),
            ReplicaInput::PeerRestarted(node, incarnation) => {
                self.feed(raft::Input::PeerRestarted { node, incarnation }, cx);
            }
            ReplicaInput::Confirm => self.confirm(cx),
            ReplicaInput::AwaitSupport { round } => self.await_support(round, cx),
            ReplicaInput::Supported { round } => self.on_supported(round, cx),
            ReplicaInput::Unsupported { round } => self.on_unsupported(round, cx),
            ReplicaInput::IndexAsked { question } => self.on_index_asked(question, cx),
            ReplicaInput::IndexIs { question, index } => self.on_index(question, index, cx),
            ReplicaInput::IndexQuery { from, question, support } => {
                self.on_index_query(from, question, support, cx);
            }
            ReplicaInput::Offer { from, offer } => self.on_offer(from, offer, cx),
            ReplicaInput::Pull { from, position, after } => {
                self.on_pull(from, position, after, cx);
            }
            ReplicaInput::Slice { from, position, after, records } => {
                self.on_slice(from, position, after, records, cx);
            }
            ReplicaInput::SnapshotEnd { from, position } => {
                self.on_snapshot_end(from, position, cx);
            }
            ReplicaInput::Restate => {
                let (group, writes) = (self.group, self.restate());
                let (standing, retired) = (self.raft.status().standing, self.is_retired());
                let restated = StoreInput::Restated { group, writes, standing, retired };
                cx.posts.push(Post::Store(restated));
            }
            ReplicaInput::IsKnown(blob) => self.drop_unknown(blob, cx),
            ReplicaInput::DiskFull(full) => self.disk_full = full,
            ReplicaInput::Stop { prefer } => self.feed(raft::Input::TransferAway { prefer }, cx),
            ReplicaInput::HandOver(node) => {
                self.handed_over = Some(cx.now.mono);
                cx.posts.push(Post::Trace(Trace::HandOver { group: self.group, to: node }));
                self.feed(raft::Input::TransferTo { node }, cx);
            }
        }
    }

    /// Whether a fault point forces here and now.
    pub(super) fn forces(&self, point: Point, cx: &Cx<'_>) -> bool {
        let occasion = cx.now.mono.0 ^ u64::from(self.group.0) << 48;
        self.seat.planted.forces(point, occasion)
    }

    /// Feeds Raft and carries out what it says.
    pub(super) fn feed(&mut self, input: raft::Input, cx: &mut Cx<'_>) {
        // Carrying an output out may feed Raft again.
        let mut outputs = core::mem::take(cx.outputs);
        self.raft.step(cx.now.mono, input, &mut outputs);
        for output in outputs.drain(..) {
            self.carry_out(output, cx);
        }
        *cx.outputs = outputs;
    }

    fn carry_out(&mut self, output: raft::Output, cx: &mut Cx<'_>) {
        let group = self.group;
        match output {
            raft::Output::Persist { id, writes } => {
                cx.posts.push(Post::Store(StoreInput::Persist { group, id, writes }));
            }
            raft::Output::Send { to, message, after } => {
                if let Body::HeartbeatReply { counts: true, .. } = message.body {
                    let left = self.follows.answers(to, message.term);
                    cx.posts.extend(left.map(Post::Left));
                }
                cx.posts.push(Post::Raft { to, group, message, after });
            }
            raft::Output::Appended { id, position } => {
                if let Some(caller) = self.placing.remove(&id) {
                    self.proposed.insert(position.index, (position.term, caller));
                }
            }
            raft::Output::Rejected { id, leader } => {
                if let Some(caller) = self.placing.remove(&id) {
                    cx.answer(group, caller, Reply::NotLeader(leader));
                }
            }
            raft::Output::Committed { upto } => {
                self.commit_index = self.commit_index.max(upto);
                self.apply(cx);
            }
            raft::Output::ReadReady { id, index } => {
                let reads = self.on_confirmed(id, cx);
                self.read_at(index, reads, cx);
            }
            raft::Output::ReadRejected { id, leader } => {
                for read in self.on_confirmed(id, cx) {
                    self.turn_away(read, leader, cx);
                }
            }
            raft::Output::Role { role, term, leader } => self.on_role(role, term, leader, cx),
            raft::Output::WantSnapshot { to } => self.start_snapshot(to, cx),
            raft::Output::Readmitted => {
                cx.posts.push(Post::Store(StoreInput::Readmitted(group)));
                cx.posts.push(Post::Trace(Trace::Readmitted { group }));
            }
            raft::Output::Trace(event) => cx.posts.push(Post::Trace(Trace::Raft { group, event })),
        }
    }

    fn on_role(&mut self, role: Role, term: Term, leader: Option<NodeId>, cx: &mut Cx<'_>) {
        let led = self.leads();
        let followed = self.leader;
        (self.role, self.term, self.leader) = (role, term, leader);
        cx.posts.extend(self.follows.leaves(term).map(Post::Left));
        cx.posts.push(Post::Trace(Trace::Role { group: self.group, role, term, leader }));
        let here = self.leads();
        if here && !led {
            self.led_since = cx.now.mono;
            self.collector = Collector::start(cx.now.mono);
        }
        if led && !here {
            // What was proposed may still be committed by the next leader: it is answered when its index
            // is applied. Streams to followers are the next leader's business.
            self.outgoing.clear();
            self.handed_over = None;
            let confirmed = core::mem::take(&mut self.confirmed).into_values();
            let awaiting = core::mem::take(&mut self.awaiting).into_values();
            for read in confirmed.chain(awaiting).flatten() {
                self.turn_away(read, leader, cx);
            }
            self.maybe_end_round(cx);
        }
        if leader != followed {
            self.forsake_leader(cx);
        }
        cx.posts.push(Post::Router(RouterInput::Leader { group: self.group, leader, here }));
        if here && !led {
            self.post_registry(cx);
        }
    }

    /// Proposes on the group's own behalf: nobody waits, and repeating it is harmless.
    pub(super) fn propose_own(&mut self, op: Op, cx: &mut Cx<'_>) {
        let command =
            Command { meaning: self.state.meaning(), wall: cx.now.wall(), session: None, op };
        if let Ok(command) = command.encode() {
            let id = self.fresh_id();
            self.feed(raft::Input::Propose { id, command }, cx);
        }
    }

    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The state can't be trusted: stop leading and ask for another's.
    pub(super) fn on_damage(&mut self, damage: Damage, cx: &mut Cx<'_>) {
        if self.damage.is_some() {
            return;
        }
        cx.posts
            .push(Post::Trace(Trace::StateDamaged { group: self.group, damage: damage.clone() }));
        self.damage = Some(damage.to_string());
        self.feed(raft::Input::StateDamaged, cx);
        let reads = core::mem::take(&mut self.confirmed);
        for read in reads.into_values().flatten() {
            self.refuse_damaged(read, cx);
        }
        self.drain_near(cx);
    }

    /// What an operator wants to know.
    pub(super) fn describe(&self) -> GroupStatus {
        let raft = self.raft.status();
        // Nobody says anything in a quiet group; it went quiet because all voters had everything.
        let matched = raft.followers.iter().filter(|follower| follower.active || raft.quiet);
        GroupStatus {
            group: self.group,
            role: match raft.role {
                Role::Follower => status::Role::Follower,
                Role::PreCandidate | Role::Candidate => status::Role::Candidate,
                Role::Leader => status::Role::Leader,
            },
            term: raft.term,
            leader: raft.leader,
            commit: raft.commit_index,
            last: raft.last.index,
            applied: self.state.mark().position.index,
            voters: raft.configuration.voters(),
            matched: matched.map(|follower| (follower.node, follower.match_index)).collect(),
            entries_lost: raft.lost as u64,
            abstaining: raft.standing != raft::Standing::Full || self.stay == Stay::Joining,
            damaged: self.damage.clone().filter(|_| self.stay == Stay::Here),
        }
    }

    /// Hard state, compaction and every entry, as writes that may be replayed over what is there.
    fn restate(&self) -> Vec<raft::Write> {
        let compacted = self.raft.compacted();
        let configuration = self.raft.configuration_at(compacted.index);
        let mut writes = alloc::vec![raft::Write::HardState(self.raft.hard_state())];
        if compacted != Position::default() {
            writes.push(raft::Write::Compacted { position: compacted, configuration });
        }
        let entries = self.raft.entries(compacted.index.next(), usize::MAX).cloned();
        writes.extend(entries.map(raft::Write::Append));
        writes
    }
}

/// A group as an operator knows it.
pub(super) fn name_of(group: GroupId) -> String {
    match group.shard() {
        Some(shard) => format!("shard {shard}"),
        None => String::from("the meta group"),
    }
}

/// Whether an input concerns only replicas that belong to their group.
const fn is_for_members(input: &ReplicaInput) -> bool {
    !matches!(
        input,
        ReplicaInput::Persisted(_)
            | ReplicaInput::FrameWritten { .. }
            | ReplicaInput::FrameDurable { .. }
            | ReplicaInput::Continue
            | ReplicaInput::Cleaned { .. }
            | ReplicaInput::Sweep { .. }
            | ReplicaInput::Index { .. }
            | ReplicaInput::Restate
            | ReplicaInput::IsKnown(_)
            | ReplicaInput::DiskFull(_)
    )
}
