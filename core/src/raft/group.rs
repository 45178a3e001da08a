//! The machine: one replica of one group. State, dispatch, terms and the end of each step; the
//! protocols are in the files named by what they do.

use super::api::{
    Config, Event, FollowerStatus, HardState, Input, Output, PersistId, Restored, Role, Standing,
    Status, Write,
};
use super::configuration::{Configuration, is_electorate};
use super::disk::Disk;
use super::election::Candidacy;
use super::lease::Promise;
use super::log::Log;
use super::message::{Body, Entry, Message, Payload};
use super::progress::{Flow, Progress};
use super::replication::Leadership;
use crate::machine::Instant;
use crate::planted::Bug;
use crate::rng::Rng;
use crate::types::{Incarnation, Index, NodeId, Position, Term};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// One replica of one group.
///
/// - Compacted <= applied <= handed to apply <= durable here and committed <= last, unless the state is
///   damaged (`assert_invariants`).
/// - The term is at least that of the last entry (`assert_invariants`).
/// - Only a replica in full standing whose state is whole leads (`assert_invariants`).
/// - At most one leader a term is ever followed (`follow`).
/// - Term and vote are durable before any message of that term leaves (the gates in `say`).
#[derive(Clone, Debug)]
pub struct Group {
    pub(super) config: Config,
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) term: Term,
    pub(super) vote: Option<NodeId>,
    pub(super) state: State,
    pub(super) leader: Option<NodeId>,
    /// When the leader was last heard from.
    pub(super) heard: Option<Instant>,
    /// When this replica campaigns, or asks for a leader if it may not lead itself.
    pub(super) election_at: Instant,
    /// Nothing happens here: no timers run.
    pub(super) quiet: bool,
    pub(super) log: Log,
    pub(super) disk: Disk,
    pub(super) commit_index: Index,
    /// What [`Output::Committed`] has said.
    pub(super) handed: Index,
    pub(super) applied: Index,
    /// Our log is proven equal to that of this term's leader through here.
    pub(super) verified: Index,
    /// What this term's leader has said beside its messages that it has committed ([`Input::LeaderCommits`]).
    pub(super) told: Index,
    pub(super) standing: Standing,
    /// What keeps it from electing somebody, with leases.
    pub(super) promised: Option<Promise>,
    /// The term in which this boot gave its vote conditionally.
    pub(super) conditional: Option<Term>,
    /// The state above is damaged.
    pub(super) damaged: bool,
    /// It was told that it is no member. It votes if it is asked, should that be over, and wakes for a leader only.
    pub(super) expelled: bool,
    /// The newest boot of each peer that was heard of.
    pub(super) incarnations: BTreeMap<NodeId, Incarnation>,
    /// Peers that don't have the first damaged entry, asked in this candidacy or leadership.
    pub(super) absent: BTreeSet<NodeId>,
    /// What the last leadership here knew of its followers: empty unless that bug is planted.
    pub(super) matched: BTreeMap<NodeId, Index>,
    /// What [`Output::Role`] said last.
    announced: (Role, Term, Option<NodeId>),
}

/// A role with what only it knows.
#[derive(Clone, Debug)]
pub(super) enum State {
    Follower,
    Candidate(Candidacy),
    Leader(Leadership),
}

impl Group {
    /// A replica as it was found on disk. It is awake: look at [`Self::deadline`].
    ///
    /// # Panics
    /// If the founding voters are too many or unsorted, or if the log isn't contiguous.
    #[must_use]
    pub fn new(config: Config, restored: Restored, now: Instant, rng: Rng) -> Self {
        let founding = &config.voters;
        assert!(founding.is_empty() || is_electorate(founding), "founded with {founding:?}");
        let base = restored.configuration.unwrap_or_else(|| Configuration::founding(founding));

        let applied = restored.applied;
        let mut log = Log::restored(restored.compacted, base, restored.entries);
        let mut disk = Disk::new(restored.hard_state.commit_index);
        let told = restored.applied_configuration;
        // The state may be ahead of a log that lost its unsynced tail. It holds committed entries only,
        // so it wins over whatever the log says there.
        if applied.index > log.compacted().index && !log.contains(applied) {
            let told = told.clone();
            let configuration = told.unwrap_or_else(|| log.configuration_at(applied.index));
            log.reset(applied, configuration.clone());
            disk.write(Write::Reset { position: applied, configuration });
        }
        // Damaged entries that the state contains need no repair.
        if let Some(index) = log.lost().range(..=applied.index).next_back().copied() {
            match told {
                Some(told) => log.compact_as(applied.index, told),
                None => log.compact(index),
            }
            let position = log.compacted();
            let configuration = log.configuration_at(position.index);
            disk.write(Write::Compacted { position, configuration });
        }
        let damaged = applied.index < log.compacted().index;
        let handed = if damaged { log.compacted().index } else { applied.index };
        let commit_index = restored.hard_state.commit_index.min(log.last().index).max(handed);
        let term = restored.hard_state.term.max(log.last().term);
        let vote = restored.hard_state.vote.filter(|_| term == restored.hard_state.term);
        let mut group = Self {
            announced: (Role::Follower, term, None),
            disk,
            now,
            term,
            vote,
            state: State::Follower,
            leader: None,
            heard: None,
            election_at: now,
            quiet: false,
            log,
            commit_index,
            handed,
            applied: handed,
            verified: Index(0),
            told: Index(0),
            standing: restored.standing,
            promised: None,
            conditional: None,
            damaged,
            expelled: false,
            incarnations: BTreeMap::new(),
            absent: BTreeSet::new(),
            matched: BTreeMap::new(),
            config,
            rng,
        };
        group.promised = group.promise_of_the_last_boot();
        group.draw_election();
        if group.log.configuration().is_alone(group.config.me) {
            group.election_at = now; // nobody to wait for
        }
        group
    }

    /// Feeds one input; appends what must happen to `out`.
    pub fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        self.step_all(now, [input], out);
    }

    /// Feeds several inputs as one step: they share one persist, and one append to each follower.
    pub fn step_all(
        &mut self,
        now: Instant,
        inputs: impl IntoIterator<Item = Input>,
        out: &mut Vec<Output>,
    ) {
        assert!(now >= self.now, "time went back: {now:?} < {:?}", self.now);
        self.now = now;
        for input in inputs {
            self.on_input(input, out);
        }
        self.finish(out);
    }

    fn on_input(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Message { from, message } => self.on_message(from, message, out),
            Input::Propose { id, command } => self.on_propose(id, command, out),
            Input::Read { id } => self.on_read(id, out),
            Input::LeaderCommits { term, index } => self.on_leader_commits(term, index),
            Input::Timer => self.on_timer(out),
            Input::Persisted { upto } => self.on_persisted(upto, out),
            Input::Applied { index } => self.on_applied(index),
            Input::Compact { upto } => self.on_compact(upto),
            Input::SnapshotInstalled { term, position, configuration } => {
                self.on_snapshot_installed(term, position, configuration, out);
            }
            Input::SnapshotSent { to, position } => self.on_snapshot_sent(to, position, out),
            Input::SnapshotFailed { to } => self.on_snapshot_failed(to),
            Input::Wake => self.wake(true, out),
            Input::PeerSuspected { node } => self.on_peer_suspected(node, out),
            Input::PeerFound { node } => self.on_peer_found(node, out),
            Input::PeerRestarted { node, incarnation } => {
                self.on_peer_restarted(node, incarnation, out);
            }
            Input::ChangeVoters { id, wish, voters } => {
                self.on_change_voters(id, wish, voters, out);
            }
            Input::TransferAway { prefer } => self.on_transfer_away(prefer, false, out),
            Input::TransferTo { node } => self.on_transfer_away(Some(node), true, out),
            Input::Campaign => self.on_campaign(out),
            Input::StateDamaged => self.on_state_damaged(out),
        }
    }

    fn on_timer(&mut self, out: &mut Vec<Output>) {
        if self.quiet {
            return;
        }
        if matches!(self.state, State::Leader(_)) {
            self.on_leader_timer(out);
        } else if self.election_at <= self.now {
            self.on_election_timeout(out);
        }
    }

    /// Settles who speaks and in which term (Raft 5.1), then hands the message on.
    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Vec<Output>) {
        // Anybody may speak: members that this replica has not heard of yet lead and ask for votes as well (Raft 6).
        if from == self.config.me || !self.settle_incarnation(from, message.incarnation) {
            return;
        }
        let Message { term, incarnation, body } = message;
        if self.expels(from, &body, out) {
            return;
        }
        let leads = matches!(self.state, State::Leader(_)) && term == self.term;
        match &body {
            // Something late has woken it, and it would wait in vain for a leader that sleeps.
            Body::HeartbeatReply { quiet: false, .. } | Body::AppendReply { .. }
                if leads && self.quiet =>
            {
                self.wake(false, out);
            }
            // Silence is the purpose of this one; and an answer starts nothing.
            Body::Heartbeat { quiesce: true, .. }
            | Body::HeartbeatReply { .. }
            | Body::AppendReply { .. }
            | Body::VoteReply { .. }
            | Body::Expelled { .. }
            | Body::PayloadReply { .. } => {}
            Body::VoteRequest { .. } | Body::Nudge if self.expelled => {}
            // Whoever asks for votes doubts the leader: ask it. And what else comes from others, late or at a wrong address,
            // must not leave some of the group awake beside a leader that sleeps.
            _ => self.wake(self.leader != Some(from) || term != self.term, out),
        }
        if let Body::VoteRequest { pre: true, campaign, last, .. } = body {
            return self.on_pre_vote_request(from, campaign, last, out); // changes no term
        }
        if term > self.term {
            let sticky = matches!(body, Body::VoteRequest { transfer: false, .. });
            if sticky && self.leader_is_live(from) {
                return; // a candidate that lost touch must not depose a working leader (thesis 4.2.3)
            }
            self.become_follower(term, out);
        }
        // A voter behind our term may still answer a pre-vote: asking didn't raise its term.
        let old = term < self.term && !matches!(body, Body::VoteReply { pre: true, .. });
        if old && !self.believes_old(&body) {
            return self.on_outdated_message(from, &body, out);
        }
        match body {
            Body::VoteRequest { campaign, last, transfer, .. } => {
                self.on_vote_request(from, campaign, last, transfer, out);
            }
            Body::VoteReply { pre, campaign, ballot } => {
                self.on_vote_reply(from, pre, campaign, ballot, out);
            }
            Body::Append { prev, entries, commit_index } => {
                self.on_append(from, prev, entries, commit_index, out);
            }
            Body::AppendReply { outcome, counts } => {
                self.on_append_reply(from, outcome, counts, out);
            }
            Body::Heartbeat { commit_index, last, round, quiesce, unanimous } => {
                self.on_heartbeat(from, commit_index, last, round, quiesce, unanimous, out);
            }
            Body::HeartbeatReply { round, match_index, counts, quiet, promise, .. } => {
                self.on_heartbeat_reply(from, round, match_index, counts, quiet, promise, out);
            }
            Body::Outdated | Body::Nudge => {} // the term, or the waking, was the message
            Body::TimeoutNow => self.on_timeout_now(from, out),
            Body::PayloadRequest { position } => self.on_payload_request(from, position, out),
            Body::PayloadReply { position, answer } => {
                self.on_payload_reply(from, position, &answer, out);
            }
            Body::ReadmitRequest => self.on_readmit_request(from, incarnation),
            Body::SnapshotRequest => self.on_snapshot_request(from, out),
            Body::Expelled { version } => self.on_expelled(version, out),
        }
    }

    /// The planted bug: replies of an older term are taken for answers of this one.
    fn believes_old(&self, body: &Body) -> bool {
        let reply = matches!(
            body,
            Body::VoteReply { .. } | Body::AppendReply { .. } | Body::HeartbeatReply { .. }
        );
        reply && self.config.planted.is(Bug::AcceptOldReplies)
    }

    /// A message of a term that is over: whoever still acts in it must learn that.
    fn on_outdated_message(&self, from: NodeId, body: &Body, out: &mut Vec<Output>) {
        match body {
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::VoteRequest { .. }
            | Body::ReadmitRequest
            | Body::SnapshotRequest
            | Body::Nudge
            // It went quiet for a leader of that term, which a late message spoke for: nothing else wakes it.
            | Body::HeartbeatReply { quiet: true, .. } => {
                self.say(from, Body::Outdated, self.disk.promise_gate(), out);
            }
            // Replies of an older term prove nothing in this one.
            _ => {}
        }
    }

    /// Learns of a peer's boots. False for a message of a boot that is known to be over.
    fn settle_incarnation(&mut self, from: NodeId, incarnation: Incarnation) -> bool {
        let known = self.incarnations.get(&from).copied().unwrap_or_default();
        if incarnation < known.max(self.log.readmitted(from)) {
            return false;
        }
        if incarnation > known {
            self.incarnations.insert(from, incarnation);
            self.forget_progress(from);
        }
        true
    }

    fn on_peer_restarted(&mut self, node: NodeId, incarnation: Incarnation, out: &mut Vec<Output>) {
        let known = self.incarnations.get(&node).copied().unwrap_or_default();
        if self.log.configuration().seat(node).is_none() || incarnation <= known {
            return;
        }
        self.settle_incarnation(node, incarnation);
        match self.state {
            State::Leader(_) => self.wake(false, out), // it knows nothing of us: show that we lead
            _ => self.on_peer_suspected(node, out),    // if it led, it doesn't any more
        }
    }

    /// Something is durable: it may be counted, and this replica's own vote too.
    fn on_persisted(&mut self, upto: PersistId, out: &mut Vec<Output>) {
        let durable = self.disk.persisted(upto);
        durable.repaired.into_iter().for_each(|index| self.log.mended(index));
        self.log.mark_durable(durable.through.max(self.log.compacted().index));
        self.on_own_vote_durable(out);
        self.maybe_commit(out);
    }

    fn on_applied(&mut self, index: Index) {
        if self.damaged {
            return;
        }
        // A state that was installed while the log caught up may be ahead of what was handed out.
        assert!(index <= self.commit_index, "applied {index:?}, committed {:?}", self.commit_index);
        self.handed = self.handed.max(index);
        self.applied = self.applied.max(index);
    }

    /// Follows nobody yet, in this term or a higher one (Raft 5.1).
    pub(super) fn become_follower(&mut self, term: Term, out: &mut Vec<Output>) {
        assert!(term >= self.term, "terms never decrease: {term:?} < {:?}", self.term);
        if term > self.term {
            self.term = term;
            self.vote = None;
            self.disk.promise();
            self.verified = Index(0);
            self.told = Index(0);
        }
        self.leader = None;
        self.absent.clear();
        let state = core::mem::replace(&mut self.state, State::Follower);
        if let State::Leader(leadership) = state {
            if self.config.planted.is(Bug::MatchKeptOverReelection) {
                let last = self.log.last().index;
                let known = leadership.followers.iter();
                self.matched = known.map(|(peer, at)| (*peer, at.match_index.min(last))).collect();
            }
            for id in leadership.reads.into_ids() {
                out.push(Output::ReadRejected { id, leader: None });
            }
        }
        self.draw_election();
    }

    /// `from` leads this term: it was heard (Raft 5.2).
    pub(super) fn follow(&mut self, from: NodeId, out: &mut Vec<Output>) {
        let leads = matches!(self.state, State::Leader(_));
        assert!(!leads, "election safety: {from:?} and {:?} lead {:?}", self.config.me, self.term);
        let other = self.leader.filter(|leader| *leader != from);
        assert!(other.is_none(), "election safety: {from:?} and {other:?} lead {:?}", self.term);
        if matches!(self.state, State::Candidate(_)) {
            self.become_follower(self.term, out);
        }
        self.leader = Some(from);
        self.heard = Some(self.now);
        self.quiet = false;
        self.expelled = false;
        self.draw_election();
    }

    /// Sends a message of this term.
    pub(super) fn say(
        &self,
        to: NodeId,
        body: Body,
        after: Option<PersistId>,
        out: &mut Vec<Output>,
    ) {
        let message = Message { term: self.term, incarnation: self.config.incarnation, body };
        out.push(Output::Send { to, message, after });
    }

    /// All members but this one.
    pub(super) fn peers(&self) -> Vec<NodeId> {
        let members = self.log.configuration().members.iter().map(|member| member.node);
        members.filter(|node| *node != self.config.me).collect()
    }

    /// Adds an entry of this term to the leader's own log.
    pub(super) fn append(&mut self, payload: Payload) -> Position {
        let position = Position { term: self.term, index: self.log.last().index.next() };
        let configures = matches!(payload, Payload::Configure(_));
        let entry = Entry { position, payload };
        self.log.append(entry.clone());
        self.disk.write(Write::Append(entry));
        if configures {
            self.settle_followers();
        }
        if let State::Leader(leadership) = &mut self.state {
            leadership.unsent = true;
        }
        position
    }

    /// Ends a step: appends go out before our own sync begins, then everything is written in one go.
    fn finish(&mut self, out: &mut Vec<Output>) {
        self.maybe_configure(out);
        self.broadcast_unsent(out);
        self.maybe_hand_over(out);
        self.maybe_regain_standing(out);
        self.disk.flush(self.hard_state(), out);
        let announce = (self.role(), self.term, self.leader);
        if announce != self.announced {
            self.announced = announce;
            let (role, term, leader) = announce;
            out.push(Output::Role { role, term, leader });
        }
        self.assert_invariants();
    }

    /// Hands committed entries to apply, once they are durable here: a state must never be ahead of
    /// its own log after a restart.
    fn maybe_hand_over(&mut self, out: &mut Vec<Output>) {
        let upto = self.commit_index.min(self.log.durable());
        if upto > self.handed {
            self.handed = upto;
            out.push(Output::Committed { upto });
        }
    }

    /// When it wants [`Input::Timer`]; `None` while it is quiet.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            _ if self.quiet => None,
            State::Leader(leadership) => Some(leadership.deadline()),
            State::Follower | State::Candidate(_) => Some(self.election_at),
        }
    }

    /// At most `count` entries from `from` on, for apply. None if `from` is compacted.
    pub fn entries(&self, from: Index, count: usize) -> impl Iterator<Item = &Entry> {
        self.log.range(from, count)
    }

    /// Position of the entry at `index`, if the log has it or begins just after it.
    #[must_use]
    pub fn position_at(&self, index: Index) -> Option<Position> {
        self.log.position_at(index)
    }

    /// The configuration in force here: the last in the log, committed or not (Raft 6).
    #[must_use]
    pub const fn configuration(&self) -> &Configuration {
        self.log.configuration()
    }

    /// Whether this replica and those of whom it `is` true are a quorum.
    pub fn is_quorum(&self, is: impl Fn(NodeId) -> bool) -> bool {
        self.log.configuration().has_quorum(|node| node == self.config.me || is(node))
    }

    /// The highest value that a quorum has reached, given this leader's own and what is known of a follower's.
    pub(super) fn reached<T: Ord + Copy + Default>(
        &self,
        leadership: &Leadership,
        own: T,
        follower: impl Fn(&Progress) -> T,
    ) -> T {
        let value = |node| match leadership.followers.get(&node) {
            Some(progress) => follower(progress),
            None if node == self.config.me => own,
            None => T::default(),
        };
        let configuration = self.log.configuration();
        if self.config.planted.is(Bug::JointNewOnly) {
            return configuration.reached_by_new(value);
        }
        configuration.reached(value)
    }

    /// The configuration as of `index`, which isn't compacted: part of every snapshot.
    #[must_use]
    pub fn configuration_at(&self, index: Index) -> Configuration {
        self.log.configuration_at(index)
    }

    /// The log begins after this.
    #[must_use]
    pub const fn compacted(&self) -> Position {
        self.log.compacted()
    }

    /// Bytes of the log in memory.
    #[must_use]
    pub const fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// What the hard state on disk says once every persist so far is durable. The commit index is one
    /// that is durable here: more can't be said before the entries are.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        let commit_index = self.commit_index.min(self.log.durable());
        HardState { term: self.term, vote: self.vote, commit_index }
    }

    /// What this replica is.
    #[must_use]
    pub const fn role(&self) -> Role {
        match &self.state {
            State::Follower => Role::Follower,
            State::Candidate(candidacy) if candidacy.pre => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// Who leads, if known.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Its term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// Whether the group is quiet here.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether this very entry is in the log, or the log begins after it.
    #[must_use]
    pub fn holds_entry(&self, position: Position) -> bool {
        position.index <= self.log.compacted().index || self.log.contains(position)
    }

    /// A replica at a glance.
    #[must_use]
    pub fn status(&self) -> Status {
        let followers = match &self.state {
            State::Leader(leadership) => leadership.followers.iter().collect(),
            _ => Vec::new(),
        };
        let follower = |(node, progress): (&NodeId, &Progress)| FollowerStatus {
            node: *node,
            match_index: progress.match_index,
            active: progress.is_active(self.now, self.config.election),
            snapshot: progress.snapshot_asked || progress.flow == Flow::Snapshot,
            counts: progress.counts,
        };
        Status {
            group: self.config.group,
            role: self.role(),
            term: self.term,
            leader: self.leader,
            commit_index: self.commit_index,
            applied_index: self.applied,
            last: self.log.last(),
            durable: self.log.durable(),
            compacted: self.log.compacted(),
            log_bytes: self.log.bytes(),
            quiet: self.quiet,
            standing: self.standing,
            damaged: self.damaged,
            lost: self.log.lost().len(),
            configuration: self.log.configuration().clone(),
            followers: followers.into_iter().map(follower).collect(),
        }
    }

    pub(super) fn trace(event: Event, out: &mut Vec<Output>) {
        out.push(Output::Trace(event));
    }

    fn assert_invariants(&self) {
        let last = self.log.last();
        assert!(self.term >= last.term, "in {:?} with an entry of {last:?}", self.term);
        assert!(self.commit_index <= last.index, "committed {:?} past {last:?}", self.commit_index);
        assert!(
            // What an installed state contains needs no durable entry.
            self.handed <= self.commit_index.min(self.log.durable().max(self.applied)),
            "handed {:?}",
            self.handed
        );
        assert!(
            self.applied <= self.handed,
            "applied {:?}, handed {:?}",
            self.applied,
            self.handed
        );
        assert!(self.damaged || self.log.compacted().index <= self.applied, "compacted too far");
        self.log.assert_invariants();
        if let State::Leader(leadership) = &self.state {
            assert!(self.standing == Standing::Full, "an unfit replica leads");
            assert_eq!((self.leader, self.vote), (Some(self.config.me), Some(self.config.me)));
            assert!(!self.log.is_blind(), "leads a group whose members it does not know");
            leadership.followers.values().for_each(Progress::assert_invariants);
        }
    }
}
