//! Calls: one ask to one group, sent to whoever leads it, again and again until it is answered or
//! given up. A write keeps its tag over all its sends, so it is executed once however often it arrives
//! (the group's session table, `kv::session`).

use crate::kv::batch::Roster;
use crate::kv::command::{Op, SessionId, SessionTag};
use crate::machine::{Duration, Instant};
use crate::node::message::{Ask, CallId, Head, PeerMessage, Query, Reply};
use crate::object::api::{Outcome, Refusal};
use crate::object::layout::Layout;
use crate::object::registry::BucketRecord;
use crate::rng::Rng;
use crate::types::{GroupId, Incarnation, NodeId};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Writes of one session under way at the most; the group's session table remembers more than this.
const SESSION_WRITES_MAX: usize = 512;
/// A call without an answer is sent again after this long. Longer than a loaded quorum needs; a leader
/// that is known to have died is not waited for (`Calls::on_peer_lost`).
const RESEND_AFTER: Duration = Duration::from_millis(700);
/// The first and the longest pause after an answer that says "not here, not now".
const PAUSE_MIN: Duration = Duration::from_millis(4);
const PAUSE_MAX: Duration = Duration::from_millis(64);
/// A call that waits for its group's scout looks after it this often: the scout may have ended without a leader.
const PARK: Duration = Duration::from_millis(250);

/// Who waits for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub(crate) u64);

/// What a call asks.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Open,
    Write { op: Box<Op>, seq: Option<u64> },
    Read(Query),
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// Decided.
    Outcome(Outcome),
    /// A registry entry.
    Resolved(Option<BucketRecord>),
    /// Given up. `maybe` says whether it may have been executed.
    Expired { maybe: bool },
}

/// A message to send, and to whom; the node delivers those to itself.
pub(crate) type Sends = Vec<(NodeId, PeerMessage)>;

/// Calls that ended: whose, which, and how.
pub(crate) type Ends = Vec<(TaskId, u64, Ended)>;

#[derive(Clone, Debug)]
struct Call {
    owner: Option<TaskId>,
    group: GroupId,
    body: Body,
    target: NodeId,
    sends: u32,
    /// When to send again, or to give up.
    wake: Instant,
    deadline: Instant,
    pause: Duration,
    waits: Waits,
    /// It was sent first to the replica here, which did not lead.
    near: bool,
    /// Who has said since the last pause that it does not lead; at the most every replica once.
    denied: Vec<NodeId>,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// For an answer, or to be sent at all.
    Answer,
    /// It was told "not here, not now" and asks again a little later.
    Pause,
    /// For its group's scout to find the leader.
    Scout,
}

#[derive(Clone, Debug, Default)]
struct Session {
    open: bool,
    opening: bool,
    next_seq: u64,
    /// Sequence numbers that were sent and have no answer.
    under_way: BTreeSet<u64>,
    /// Calls that wait for the session to open, or for room in it.
    waiting: VecDeque<u64>,
}

/// Where a group is.
#[derive(Clone, Debug)]
struct Replicas {
    /// Everyone who may have a replica.
    nodes: Vec<NodeId>,
    roster: Arc<Roster>,
}

impl Replicas {
    fn of(voters: Vec<NodeId>) -> Self {
        Self { roster: Arc::new(Roster::founding(&voters)), nodes: voters }
    }
}

/// All calls of a router.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    me: NodeId,
    incarnation: Incarnation,
    /// Whether reads are first asked of the replica here.
    nearest: bool,
    rng: Rng,
    next: u64,
    calls: BTreeMap<u64, Call>,
    wakes: BTreeSet<(Instant, u64)>,
    sessions: BTreeMap<GroupId, Session>,
    replicas: BTreeMap<GroupId, Replicas>,
    leaders: BTreeMap<GroupId, NodeId>,
    /// Which call asks around while nobody is known to lead its group. If all of them did, a group that is slow to
    /// elect would be asked the more the longer it takes, until nobody hears its votes any more.
    scouts: BTreeMap<GroupId, u64>,
    lost: BTreeSet<NodeId>,
}

impl Calls {
    pub(crate) fn new(
        me: NodeId,
        incarnation: Incarnation,
        replicas: BTreeMap<GroupId, Vec<NodeId>>,
        nearest: bool,
        rng: Rng,
    ) -> Self {
        Self {
            me,
            incarnation,
            nearest,
            rng,
            next: 1,
            calls: BTreeMap::new(),
            wakes: BTreeSet::new(),
            sessions: BTreeMap::new(),
            replicas: replicas
                .into_iter()
                .map(|(group, voters)| (group, Replicas::of(voters)))
                .collect(),
            leaders: BTreeMap::new(),
            scouts: BTreeMap::new(),
            lost: BTreeSet::new(),
        }
    }

    /// Everyone who may have a replica of a group.
    pub(crate) fn replicas(&self, group: GroupId) -> &[NodeId] {
        self.replicas.get(&group).map_or(&[], |replicas| &replicas.nodes)
    }

    /// Of whom a quorum has to hold a chunk of a group: while it is moved, of the old voters and of the new ones.
    pub(crate) fn roster(&self, group: GroupId) -> Arc<Roster> {
        self.replicas.get(&group).map(|replicas| replicas.roster.clone()).unwrap_or_default()
    }

    /// Where shards are now.
    pub(crate) fn lay_out(&mut self, layout: &Layout) {
        for (shard, placed) in &layout.placed {
            let mut roster = Roster::founding(&placed.voters);
            if !placed.is_settled() {
                roster.old = Some(Roster::founding(&placed.from).voters);
            }
            let nodes = placed.holders().collect();
            self.replicas.insert(shard.group(), Replicas { nodes, roster: Arc::new(roster) });
        }
    }

    /// Peers that are not heard of.
    pub(crate) fn is_lost(&self, node: NodeId) -> bool {
        self.lost.contains(&node)
    }

    /// A fresh call id, for messages that are no calls to a group (chunks).
    pub(crate) fn fresh_id(&mut self) -> CallId {
        let number = self.next;
        self.next += 1;
        self.id(number)
    }

    /// The id of a number given out before.
    pub(crate) const fn id(&self, number: u64) -> CallId {
        CallId { incarnation: self.incarnation, number }
    }

    pub(crate) fn read(
        &mut self,
        now: Instant,
        owner: TaskId,
        group: GroupId,
        query: Query,
        deadline: Instant,
        sends: &mut Sends,
    ) -> u64 {
        let number = self.insert(now, Some(owner), group, Body::Read(query), deadline);
        self.send(now, number, sends);
        number
    }

    pub(crate) fn write(
        &mut self,
        now: Instant,
        owner: TaskId,
        group: GroupId,
        op: Box<Op>,
        deadline: Instant,
        sends: &mut Sends,
    ) -> u64 {
        let number = self.insert(now, Some(owner), group, Body::Write { op, seq: None }, deadline);
        self.sessions.entry(group).or_default().waiting.push_back(number);
        self.admit(now, group, sends);
        number
    }

    /// Nobody waits for these any more. A read is over. A write that was sent stays under way until it is answered
    /// or its time is up: its sequence number must not be taken for finished.
    pub(crate) fn disown(&mut self, owner: TaskId) {
        let wakes = &mut self.wakes;
        self.calls.retain(|number, call| {
            let read = call.owner == Some(owner) && matches!(call.body, Body::Read(_));
            if read {
                wakes.remove(&(call.wake, *number));
            } else if call.owner == Some(owner) {
                call.owner = None;
            }
            !read
        });
    }

    /// Handles an answer. Returns the calls that it ended.
    pub(crate) fn on_return(
        &mut self,
        now: Instant,
        from: NodeId,
        id: CallId,
        reply: Reply,
        sends: &mut Sends,
    ) -> Ends {
        if id.incarnation != self.incarnation {
            return Ends::new();
        }
        let number = id.number;
        let Some(call) = self.calls.get_mut(&number) else { return Ends::new() };
        let group = call.group;
        let ended = match reply {
            Reply::Outcome(outcome) => Ended::Outcome(*outcome),
            Reply::Resolved(bucket) => Ended::Resolved(bucket),
            Reply::Refused(refusal) => {
                if call.sends > 1 && !matches!(call.body, Body::Read(_) | Body::Open) {
                    Ended::Expired { maybe: true }
                } else {
                    Ended::Outcome(Err(refusal))
                }
            }
            Reply::NotLeader(hint) => {
                self.on_denial(now, number, from, hint, sends);
                return Ends::new();
            }
            Reply::Again => {
                self.pause(now, number);
                return Ends::new();
            }
        };
        // Who answers leads, but for the replica here that was asked to answer without.
        if !call.near || from != self.me {
            self.found(now, group, from);
        }
        self.finish(now, number, ended, sends)
    }

    /// Whoever was asked does not lead, and may know who does.
    ///
    /// That is asked at once, but nobody twice without a pause. While leadership is handed over, and where votes are lost,
    /// two replicas name each other for as long as an election takes.
    fn on_denial(
        &mut self,
        now: Instant,
        number: u64,
        from: NodeId,
        hint: Option<NodeId>,
        sends: &mut Sends,
    ) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if call.target != from || call.waits != Waits::Answer {
            // It asks another by now, or already waits: an answer to each message that a network delivers twice would
            // be another one that it can deliver twice.
            return;
        }
        call.denied.push(from);
        let (group, denied) = (call.group, &call.denied);
        match hint.filter(|hint| !denied.contains(hint) && !self.lost.contains(hint)) {
            Some(leader) => {
                self.found(now, group, leader);
                self.send(now, number, sends);
            }
            None => {
                if self.leaders.get(&group).is_some_and(|leader| denied.contains(leader)) {
                    self.leaders.remove(&group);
                }
                self.pause(now, number);
            }
        }
    }

    /// Sends again what has waited long enough; ends what has waited too long.
    pub(crate) fn on_timer(&mut self, now: Instant, sends: &mut Sends) -> Ends {
        let mut ended = Ends::new();
        while let Some((wake, number)) = self.wakes.first().copied() {
            if wake > now {
                break;
            }
            self.wakes.remove(&(wake, number));
            let Some(call) = self.calls.get(&number) else { continue };
            if call.deadline <= now {
                let maybe = call.sends > 0 && !matches!(call.body, Body::Read(_));
                ended.extend(self.finish(now, number, Ended::Expired { maybe }, sends));
            } else if call.sends == 0 && matches!(call.body, Body::Write { seq: None, .. }) {
                // Still waits for its session; only the deadline ends it.
                self.set_wake(number, call.deadline);
            } else {
                self.turn(number);
                if let Some(call) = self.calls.get_mut(&number) {
                    call.denied.clear();
                }
                if self.may_ask(number) {
                    self.send(now, number, sends);
                } else {
                    let jitter = Duration(self.rng.below(PARK.0));
                    self.set_wake(number, now + PARK + jitter);
                }
            }
        }
        ended
    }

    /// Whether a call may be sent again: to a known leader, or as the one that asks around for its group.
    fn may_ask(&mut self, number: u64) -> bool {
        let Some(group) = self.calls.get(&number).map(|call| call.group) else { return false };
        let scout = self.scouts.get(&group).filter(|scout| self.calls.contains_key(scout));
        let may = self.leaders.contains_key(&group) || scout.is_none_or(|scout| *scout == number);
        if may && !self.leaders.contains_key(&group) {
            self.scouts.insert(group, number);
        }
        if let Some(call) = self.calls.get_mut(&number).filter(|_| !may) {
            call.waits = Waits::Scout;
        }
        may
    }

    /// Somebody leads this group: whoever waited for that goes on.
    fn found(&mut self, now: Instant, group: GroupId, leader: NodeId) {
        self.leaders.insert(group, leader);
        if self.scouts.remove(&group).is_some() {
            self.hasten(now, |call| call.group == group && call.waits == Waits::Scout);
        }
    }

    /// When the next call wants to be looked at.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.wakes.first().map(|(wake, _)| *wake)
    }

    /// A replica on this node has seen who leads its group.
    pub(crate) fn on_leader(&mut self, now: Instant, group: GroupId, leader: Option<NodeId>) {
        let Some(leader) = leader else { return };
        if self.leaders.get(&group) != Some(&leader) {
            self.found(now, group, leader);
            self.hasten(now, |call| call.group == group && call.target != leader);
        }
    }

    /// A peer is not heard of any more: what was sent to it is sent elsewhere.
    pub(crate) fn on_peer_lost(&mut self, now: Instant, node: NodeId) {
        self.lost.insert(node);
        self.leaders.retain(|_, leader| *leader != node);
        self.hasten(now, |call| call.target == node);
    }

    /// A peer is heard of again.
    pub(crate) fn on_peer_found(&mut self, node: NodeId) {
        self.lost.remove(&node);
    }

    fn insert(
        &mut self,
        now: Instant,
        owner: Option<TaskId>,
        group: GroupId,
        body: Body,
        deadline: Instant,
    ) -> u64 {
        let number = self.fresh_id().number;
        let call = Call {
            owner,
            group,
            body,
            target: self.me,
            sends: 0,
            wake: deadline.max(now),
            deadline,
            pause: PAUSE_MIN,
            waits: Waits::Answer,
            near: false,
            denied: Vec::new(),
        };
        self.wakes.insert((call.wake, number));
        self.calls.insert(number, call);
        number
    }

    fn set_wake(&mut self, number: u64, wake: Instant) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        self.wakes.remove(&(call.wake, number));
        call.wake = wake.min(call.deadline);
        self.wakes.insert((call.wake, number));
    }

    /// Waits a little, longer each time, before asking the next replica.
    fn pause(&mut self, now: Instant, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.waits = Waits::Pause;
        let pause = call.pause;
        call.pause = Duration((pause.0 * 2).min(PAUSE_MAX.0));
        let jitter = Duration(self.rng.below(pause.0 / 2 + 1));
        self.set_wake(number, now + pause + jitter);
    }

    /// Looks at the calls that match at the next timer, which is now.
    fn hasten(&mut self, now: Instant, matches: impl Fn(&Call) -> bool) {
        let numbers: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| call.sends > 0 && call.wake > now && matches(call))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.set_wake(number, now);
        }
    }

    /// Without a known leader, the next replica that is not lost is asked.
    fn turn(&mut self, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let leader = self.leaders.get(&call.group) == Some(&call.target);
        match call.waits {
            // It does not answer.
            Waits::Answer if leader => {
                self.leaders.remove(&call.group);
            }
            // It has said that it does not lead, and does by now; or nobody was asked.
            Waits::Pause if leader => return,
            Waits::Scout => return,
            Waits::Answer | Waits::Pause => {}
        }
        let replicas = self.replicas.get(&call.group).map_or(&[][..], |it| &it.nodes);
        let at = replicas.iter().position(|node| *node == call.target).map_or(0, |at| at + 1);
        let next = replicas.iter().cycle().skip(at).take(replicas.len());
        if let Some(target) = next.copied().find(|node| !self.lost.contains(node)) {
            call.target = target;
        }
    }

    fn send(&mut self, now: Instant, number: u64, sends: &mut Sends) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let known = self.leaders.get(&call.group).copied();
        let replicas = self.replicas.get(&call.group).map_or(&[][..], |it| &it.nodes);
        // Once: what that replica can't answer soon is the leader's.
        let near = self.nearest
            && call.sends == 0
            && known.is_some_and(|leader| leader != self.me)
            && replicas.contains(&self.me)
            && matches!(&call.body, Body::Read(query) if query.is_near());
        if near {
            (call.near, call.target) = (true, self.me);
        } else if let Some(leader) = known {
            call.target = leader;
        } else if call.sends == 0 {
            // Nobody is known to lead: ask here if a replica is here, else anyone.
            if !replicas.contains(&self.me) {
                call.target = self.rng.pick(replicas).copied().unwrap_or(self.me);
            }
        }
        let ask = match &call.body {
            Body::Open => {
                Ask::OpenSession(SessionId { node: self.me, incarnation: self.incarnation })
            }
            Body::Read(query) if near => Ask::ReadNear(query.clone()),
            Body::Read(query) => Ask::Read(query.clone()),
            Body::Write { op, seq } => {
                let seq = seq.unwrap_or(0);
                let session = self.sessions.get(&call.group);
                let first = session.and_then(|session| session.under_way.first().copied());
                Ask::Write {
                    tag: SessionTag {
                        session: SessionId { node: self.me, incarnation: self.incarnation },
                        seq,
                        first_incomplete: first.unwrap_or(seq),
                    },
                    op: op.clone(),
                }
            }
        };
        call.sends += 1;
        call.waits = Waits::Answer;
        let id = CallId { incarnation: self.incarnation, number };
        let target = call.target;
        let head = Head::Call { call: id, group: call.group, ask };
        sends.push((target, head.into()));
        let jitter = Duration(self.rng.below(RESEND_AFTER.0 / 8));
        self.set_wake(number, now + RESEND_AFTER + jitter);
    }

    /// Sends what waits for a group's session, opening it first.
    fn admit(&mut self, now: Instant, group: GroupId, sends: &mut Sends) {
        let session = self.sessions.entry(group).or_default();
        if !session.open {
            if !session.opening && !session.waiting.is_empty() {
                session.opening = true;
                let deadline = session
                    .waiting
                    .iter()
                    .filter_map(|number| self.calls.get(number))
                    .map(|call| call.deadline)
                    .max()
                    .unwrap_or(now);
                let open = self.insert(now, None, group, Body::Open, deadline);
                self.send(now, open, sends);
            }
            return;
        }
        loop {
            let Some(session) = self.sessions.get_mut(&group) else { return };
            if session.under_way.len() >= SESSION_WRITES_MAX {
                return;
            }
            let Some(number) = session.waiting.pop_front() else { return };
            let Some(Call { body: Body::Write { seq, .. }, .. }) = self.calls.get_mut(&number)
            else {
                continue;
            };
            session.next_seq += 1;
            *seq = Some(session.next_seq);
            session.under_way.insert(session.next_seq);
            self.send(now, number, sends);
        }
    }

    /// Ends a call; with a session that could not be opened, also those that waited for it.
    fn finish(&mut self, now: Instant, number: u64, ended: Ended, sends: &mut Sends) -> Ends {
        let Some(call) = self.calls.remove(&number) else { return Ends::new() };
        self.wakes.remove(&(call.wake, number));
        let mut ends = Ends::new();
        let session = self.sessions.entry(call.group).or_default();
        match call.body {
            Body::Open => {
                session.opening = false;
                session.open |= matches!(ended, Ended::Outcome(Ok(_)));
                if !session.open {
                    // Nothing was sent for these yet, and the next to come tries again.
                    for waiting in core::mem::take(&mut session.waiting) {
                        let Some(call) = self.calls.remove(&waiting) else { continue };
                        self.wakes.remove(&(call.wake, waiting));
                        let ended = match &ended {
                            Ended::Outcome(Err(refusal)) => Ended::Outcome(Err(refusal.clone())),
                            _ => Ended::Expired { maybe: false },
                        };
                        ends.extend(call.owner.map(|owner| (owner, waiting, ended)));
                    }
                }
            }
            Body::Write { seq: Some(seq), .. } => {
                session.under_way.remove(&seq);
                // The group may have forgotten the session (a lax fsync policy): the next write opens
                // it again, which is harmless if it has not.
                session.open &= !matches!(ended, Ended::Outcome(Err(Refusal::OutcomeUnknown)));
            }
            Body::Write { seq: None, .. } => session.waiting.retain(|waiting| *waiting != number),
            Body::Read(_) => {}
        }
        ends.extend(call.owner.map(|owner| (owner, number, ended)));
        self.admit(now, call.group, sends);
        ends
    }
}

/// What a client is told of a call that was given up.
pub(crate) fn expired(maybe: bool) -> Refusal {
    if maybe {
        Refusal::OutcomeUnknown
    } else {
        Refusal::Unavailable(String::from("no leader answered in time"))
    }
}

#[cfg(test)]
mod tests;
