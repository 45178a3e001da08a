//! AppendEntries and heartbeats, both sides (Raft 5.3, 5.4.2; thesis 6.2 for the check of the quorum).

use super::api::{Config, Event, Output, Role, Standing, Write};
use super::election::Leaving;
use super::group::{Group, State};
use super::lease::Begun;
use super::message::{AppendOutcome, Body, Entry, Payload};
use super::progress::{Flow, Progress};
use super::read::Reads;
use crate::codec::Octets;
use crate::machine::{Duration, Instant};
use crate::planted::{Bug, Point};
use crate::types::{Index, NodeId, Position, Term};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

/// What only a leader knows.
#[derive(Clone, Debug)]
pub(super) struct Leadership {
    /// The other members.
    pub(super) followers: BTreeMap<NodeId, Progress>,
    /// The first entry of this term.
    pub(super) first_index: Index,
    /// Entries were added in this step and not sent yet.
    pub(super) unsent: bool,
    /// The last round of heartbeats, from 1.
    pub(super) round: u64,
    /// When the last rounds began.
    pub(super) begun: Begun,
    pub(super) heartbeat_at: Instant,
    /// When a quorum must have been heard from within the election timeout before.
    pub(super) check_at: Instant,
    /// Reads that wait for a round.
    pub(super) reads: Reads,
    /// When something was last asked of the group.
    pub(super) busy_at: Instant,
    /// The first round that told the followers to go quiet, while it lasts.
    pub(super) quiesce_round: Option<u64>,
    /// Leadership is being given to this follower, until then.
    pub(super) transfer: Option<(NodeId, Instant)>,
    /// It should be given to somebody, who is not found yet.
    pub(super) leaving: Option<Leaving>,
    /// Somebody was told to campaign at once, and may do so at any time.
    pub(super) invited: bool,
    /// The election counted conditional votes.
    pub(super) unanimous: bool,
}

impl Leadership {
    pub(super) fn new(config: &Config, now: Instant, last: Position, peers: &[NodeId]) -> Self {
        Self {
            followers: peers.iter().map(|peer| (*peer, Progress::new(last.index))).collect(),
            first_index: last.index.next(),
            unsent: false,
            round: 0,
            begun: Begun::default(),
            heartbeat_at: now + config.heartbeat,
            check_at: now + config.election,
            reads: Reads::default(),
            busy_at: now,
            quiesce_round: None,
            transfer: None,
            leaving: None,
            invited: false,
            unanimous: false,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let transfer = self.transfer.map(|(_, until)| until);
        self.heartbeat_at.min(self.check_at).min(transfer.unwrap_or(self.check_at))
    }
}

impl Group {
    /// A command for the log.
    pub(super) fn on_propose(&mut self, id: u64, command: Bytes, out: &mut Vec<Output>) {
        self.wake(true, out);
        let now = self.now;
        let State::Leader(leadership) = &mut self.state else {
            return out.push(Output::Rejected { id, leader: self.leader });
        };
        leadership.busy_at = now;
        if let Some((to, _)) = leadership.transfer {
            return out.push(Output::Rejected { id, leader: Some(to) });
        }
        let position = self.append(Payload::Command(Octets(command)));
        out.push(Output::Appended { id, position });
    }

    pub(super) fn on_leader_timer(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let State::Leader(leadership) = &mut self.state else { return };
        if leadership.transfer.is_some_and(|(_, until)| until <= now) {
            leadership.transfer = None; // it didn't take over: lead on
        }
        if leadership.check_at <= now && !self.check_quorum(out) {
            return;
        }
        let State::Leader(leadership) = &mut self.state else { return };
        if leadership.heartbeat_at <= now {
            if self.config.planted.forces(Point::StepDown, now.0) {
                return self.become_follower(self.term, out);
            }
            self.maybe_quiesce();
            self.broadcast_heartbeat(out);
            self.request_payloads(out);
            if self.damaged || self.config.planted.forces(Point::TransferAway, now.0) {
                self.on_transfer_away(None, false, out); // chosen anew each time: who answers best may change
            }
            self.maybe_choose_heir(true);
            self.maybe_transfer(out);
            self.maybe_go_quiet(out);
        }
    }

    /// A leader that a quorum doesn't answer steps down (thesis 6.2): its clients should look elsewhere.
    /// Who abstains doesn't count, because nothing can be committed with it.
    fn check_quorum(&mut self, out: &mut Vec<Output>) -> bool {
        let (now, election) = (self.now, self.config.election);
        let State::Leader(leadership) = &mut self.state else { return false };
        leadership.check_at = now + self.config.heartbeat;
        let State::Leader(leadership) = &self.state else { return false };
        let answers = |progress: &Progress| progress.counts && progress.is_active(now, election);
        let keeps = self.is_quorum(|node| leadership.followers.get(&node).is_some_and(answers))
            || self.config.planted.is(Bug::NoCheckQuorum);
        if !keeps {
            self.become_follower(self.term, out);
        }
        keeps
    }

    /// One round: says that we lead, how far the log is committed, and confirms reads.
    pub(super) fn broadcast_heartbeat(&mut self, out: &mut Vec<Output>) {
        let (now, last, commit_index) = (self.now, self.log.last(), self.commit_index);
        let knows = self.knows_commit_index();
        let State::Leader(leadership) = &mut self.state else { return };
        leadership.heartbeat_at = now + self.config.heartbeat;
        leadership.round += 1;
        let (round, unanimous) = (leadership.round, leadership.unanimous);
        if knows {
            leadership.reads.start(round, commit_index);
        }
        let quiesce = leadership.quiesce_round.is_some();
        self.note_round();
        for peer in self.peers() {
            let body = Body::Heartbeat { commit_index, last, round, quiesce, unanimous };
            self.say(peer, body, None, out);
        }
        self.maybe_confirm_reads(out); // alone, we are the quorum
    }

    /// A heartbeat at the follower. `on_message` has settled the term: the sender leads it.
    #[expect(clippy::too_many_arguments, reason = "one for each field of the message")]
    pub(super) fn on_heartbeat(
        &mut self,
        leader: NodeId,
        leader_commit: Index,
        leader_last: Position,
        round: u64,
        quiesce: bool,
        unanimous: bool,
        out: &mut Vec<Output>,
    ) {
        let was_quiet = self.quiet;
        self.follow(leader, out);
        // Beyond what is proven equal, our log may hold other entries than the leader committed.
        self.advance_commit(leader_commit.min(self.verified));
        if unanimous {
            self.maybe_join_unanimous_leader(out);
        }
        let counts = self.standing == Standing::Full;
        let settled = self.verified == leader_last.index && self.commit_index == leader_last.index;
        let idle = settled && counts && !self.damaged && self.log.durable() == leader_last.index;
        if quiesce && idle && self.disk.is_idle() {
            self.quiet = true;
            if !was_quiet {
                Self::trace(Event::Quiesced, out);
            }
        }
        let match_index = self.verified.min(self.log.durable());
        let quiet = self.quiet;
        let promise = if counts { self.promise(leader) } else { Duration::ZERO };
        let body = Body::HeartbeatReply { round, match_index, counts, quiet, support: 0, promise };
        self.say(leader, body, self.disk.promise_gate(), out);
        if !counts {
            self.say(leader, Body::ReadmitRequest, self.disk.promise_gate(), out);
        }
        if self.damaged || !self.log.knows_members() {
            self.say(leader, Body::SnapshotRequest, self.disk.promise_gate(), out);
        }
    }

    /// The answer at the leader.
    #[expect(clippy::too_many_arguments, reason = "one for each field of the message")]
    pub(super) fn on_heartbeat_reply(
        &mut self,
        from: NodeId,
        round: u64,
        match_index: Index,
        counts: bool,
        quiet: bool,
        promise: Duration,
        out: &mut Vec<Output>,
    ) {
        self.on_promise(from, round, promise);
        let (now, last) = (self.now, self.log.last().index);
        let compacted = self.log.compacted().index;
        let State::Leader(leadership) = &mut self.state else { return };
        let Some(progress) = leadership.followers.get_mut(&from) else { return };
        assert!(match_index <= last, "{from:?} matches {match_index:?}, we end at {last:?}");
        progress.heard = Some(now);
        progress.counts |= counts;
        progress.round = progress.round.max(round);
        if quiet {
            progress.quiet_round = progress.quiet_round.max(round);
        }
        let inflight_max = self.config.append_inflight_max;
        let look = match_index < last && progress.suspect_loss(round, inflight_max);
        if look && self.config.planted.forces(Point::ProbeAgain, now.0) {
            progress.probe(progress.match_index.next());
        }
        if look && self.damaged && progress.flow == Flow::Snapshot {
            // There is no state to give it. It may have all that our log no longer has and have said less: whoever has
            // it can take over.
            progress.probe(compacted.next());
        }
        self.on_match(from, match_index, out);
        if look {
            self.send_appends(from, true, out);
        }
        if self.damaged && match_index >= compacted {
            self.say(from, Body::SnapshotRequest, None, out);
        }
        self.maybe_confirm_reads(out);
        self.maybe_go_quiet(out);
    }

    /// Sends what this step has added.
    pub(super) fn broadcast_unsent(&mut self, out: &mut Vec<Output>) {
        let State::Leader(leadership) = &mut self.state else { return };
        if core::mem::take(&mut leadership.unsent) {
            for peer in self.peers() {
                self.send_appends(peer, false, out);
            }
        }
    }

    /// Sends a follower what it may be sent now. With `probe` also an empty append: it shows the
    /// follower a gap that lost messages have left.
    pub(super) fn send_appends(&mut self, to: NodeId, probe: bool, out: &mut Vec<Output>) {
        for sent in 0..APPENDS_PER_STEP {
            let State::Leader(leadership) = &mut self.state else { return };
            let Some(progress) = leadership.followers.get_mut(&to) else { return };
            if !progress.may_send(self.config.append_inflight_max) {
                return self.maybe_want_snapshot(to, out);
            }
            let Some(prev) = self.log.position_at(progress.next_index.prev()) else {
                progress.flow = Flow::Snapshot;
                return self.maybe_want_snapshot(to, out);
            };
            let name = self.now.0 ^ progress.next_index.0;
            if self.applied > progress.match_index
                && self.config.planted.forces(Point::SnapshotInstead, name)
            {
                progress.flow = Flow::Snapshot;
                return self.maybe_want_snapshot(to, out);
            }
            let one = self.config.planted.forces(Point::AppendOne, name);
            let bytes_max = if one { 1 } else { self.config.append_bytes_max };
            let entries = self.log.batch(progress.next_index, bytes_max);
            let probing = matches!(progress.flow, Flow::Probe { .. }) || (probe && sent == 0);
            if entries.is_empty() && !probing {
                return;
            }
            let end = entries.last().map_or(prev.index, |entry| entry.position.index);
            progress.sent(end, leadership.round);
            let body = Body::Append { prev, entries, commit_index: self.commit_index };
            // No gate: the leader's own promise of this term was durable before it asked for votes, and
            // it counts itself only when its own sync is done.
            self.say(to, body, None, out);
        }
    }

    /// AppendEntries at the follower (Raft figure 2, steps 2 to 5). `on_message` has settled the term:
    /// the sender leads it.
    pub(super) fn on_append(
        &mut self,
        leader: NodeId,
        prev: Position,
        entries: Vec<Entry>,
        leader_commit: Index,
        out: &mut Vec<Output>,
    ) {
        self.follow(leader, out);
        if !self.log.knows_members() {
            // Entries say what changes; who was there before is part of the state.
            return self.say(leader, Body::SnapshotRequest, self.disk.promise_gate(), out);
        }

        // What is compacted here is committed, and so equal to the leader's: only the rest is news.
        let compacted = self.log.compacted();
        let prev = if prev.index < compacted.index { compacted } else { prev };
        // Step 2. Without a shared entry at `prev`, nothing after it can be trusted. A damaged entry is
        // as good as a missing one: the leader sends it again.
        let whole = self.log.first_lost().is_none_or(|lost| prev.index < lost);
        if !whole || !self.log.contains(prev) {
            return self.refuse_append(leader, prev, out);
        }
        // Steps 3, 4.
        let match_index = self.splice(prev, entries, out);
        self.verified = self.verified.max(match_index);
        // Step 5. Commit only what this leader proved equal.
        let planted = self.config.planted.is(Bug::CommitWithoutMinimum);
        let proven = if planted { self.log.last().index } else { self.verified };
        self.advance_commit(leader_commit.max(self.told).min(proven));
        // The leader counts this reply towards a quorum: it must not outrun the disk.
        let planted = self.config.planted.is(Bug::AcknowledgeBeforeSync);
        let gate = if planted { None } else { self.disk.gate() };
        let counts = self.standing == Standing::Full;
        let planted = self.config.planted.is(Bug::AcknowledgeLastIndex);
        let match_index = if planted { self.log.last().index } else { match_index };
        let outcome = AppendOutcome::Matched { match_index };
        self.say(leader, Body::AppendReply { outcome, counts }, gate, out);
    }

    fn refuse_append(&self, leader: NodeId, prev: Position, out: &mut Vec<Output>) {
        let mut limit = prev;
        if let Some(lost) = self.log.first_lost() {
            limit.index = limit.index.min(lost.prev());
        }
        let low = self.config.planted.forces(Point::HintLow, self.now.0);
        let agreed = if low { None } else { self.log.agreement(limit) };
        let hint = agreed.unwrap_or(self.log.compacted());
        let outcome = AppendOutcome::Mismatch { prev_index: prev.index, hint };
        let counts = self.standing == Standing::Full;
        self.say(leader, Body::AppendReply { outcome, counts }, self.disk.promise_gate(), out);
    }

    /// Takes the leader's entries after `prev` into the log. Returns the last index that is now proven
    /// equal. Cuts only at a real conflict: a reordered old append must not undo a newer one.
    fn splice(&mut self, prev: Position, entries: Vec<Entry>, out: &mut Vec<Output>) -> Index {
        let mut last = prev.index;
        for entry in entries {
            let position = entry.position;
            if position.index <= prev.index {
                continue; // compacted here
            }
            if position.index != last.next() || entry.payload.is_lost() {
                break; // no leader sends this; trust nothing from here on
            }
            last = position.index;
            match self.log.position_at(position.index) {
                Some(known) if known == position && !self.cuts_equals(known) => {
                    self.maybe_repair(position, &entry.payload, out);
                    continue;
                }
                Some(known) => {
                    let committed = self.commit_index;
                    assert!(
                        known.index > committed,
                        "{position:?} for {known:?}, committed {committed:?}"
                    );
                    self.truncate(known.index);
                    Self::trace(Event::Truncated { from: known.index }, out);
                }
                None => {}
            }
            self.log.append(entry.clone());
            self.disk.write(Write::Append(entry));
        }
        last
    }

    /// The planted bug: an append cuts the log although the entries match.
    fn cuts_equals(&self, known: Position) -> bool {
        self.config.planted.is(Bug::TruncateThoughEqual) && known.index > self.commit_index
    }

    /// Removes the entry at `from` and all after it, here and on disk.
    pub(super) fn truncate(&mut self, from: Index) {
        self.log.truncate(from);
        if !self.config.planted.is(Bug::CompletionByIndex) {
            self.disk.truncated(from);
        }
        self.disk.write(Write::Truncate { from });
        self.verified = self.verified.min(from.prev());
    }

    /// The answer at the leader.
    pub(super) fn on_append_reply(
        &mut self,
        from: NodeId,
        outcome: AppendOutcome,
        counts: bool,
        out: &mut Vec<Output>,
    ) {
        let (now, last) = (self.now, self.log.last().index);
        let State::Leader(leadership) = &mut self.state else { return };
        let Some(progress) = leadership.followers.get_mut(&from) else { return };
        progress.heard = Some(now);
        progress.counts |= counts;
        match outcome {
            AppendOutcome::Matched { match_index } => {
                assert!(
                    match_index <= last,
                    "{from:?} matches {match_index:?}, we end at {last:?}"
                );
                // Less than the probe asked for answers something else, such as a replica that counts again
                // before it was sent anything: the logs may part anywhere above.
                if matches!(progress.flow, Flow::Probe { .. })
                    && match_index >= progress.next_index.prev()
                {
                    progress.match_index = match_index;
                    progress.replicate();
                }
                self.on_match(from, match_index, out);
            }
            AppendOutcome::Mismatch { prev_index, hint } => {
                let stale = match progress.flow {
                    Flow::Probe { .. } => prev_index != progress.next_index.prev(),
                    Flow::Replicate { .. } => prev_index <= progress.match_index,
                    Flow::Snapshot => true,
                };
                if stale {
                    return; // already answered, or overtaken by a proof
                }
                // The logs can only be equal where both terms and both indexes allow it. Below our own
                // log there is nothing to compare: `send_appends` finds that out.
                let shared = self.log.agreement(hint).map_or(Index(0), |position| position.index);
                let contradicts = hint.index < progress.match_index;
                progress.probe(shared.next());
                if contradicts {
                    // It lacks what it had acknowledged: nothing that we could send helps. Asking again at once would go
                    // on as fast as the network can; the next heartbeat is soon enough to see whether it still does.
                    return progress.pause();
                }
            }
        }
        self.send_appends(from, false, out);
    }

    /// A follower has proven that its log equals ours through `match_index`.
    pub(super) fn on_match(&mut self, from: NodeId, match_index: Index, out: &mut Vec<Output>) {
        let compacted = self.log.compacted().index;
        let State::Leader(leadership) = &mut self.state else { return };
        let Some(progress) = leadership.followers.get_mut(&from) else { return };
        progress.matched(match_index);
        if progress.flow == Flow::Snapshot && match_index >= compacted {
            progress.replicate(); // it has all that our log no longer has
        }
        // Even an old match is news if it was the first that counts.
        self.maybe_commit(out);
        self.maybe_choose_heir(false);
        self.maybe_transfer(out);
    }

    /// Commits what a quorum holds durably, this replica counting as far as its own disk is (Raft 5.3).
    /// Entries of earlier terms only along with one of this term (5.4.2, figure 8).
    pub(super) fn maybe_commit(&mut self, out: &mut Vec<Output>) {
        let State::Leader(leadership) = &self.state else { return };
        let planted = self.config.planted.is(Bug::LeaderCountsUnsynced);
        let own = if planted { self.log.last().index } else { self.log.durable() };
        let held = self.reached(leadership, own, Progress::counted_match);
        let of_this_term = self.log.position_at(held).is_some_and(|at| at.term == self.term);
        if held > self.commit_index
            && (of_this_term || self.config.planted.is(Bug::CommitEarlierTerm))
        {
            self.advance_commit(held);
            self.maybe_start_round(out); // reads may have waited for the first one
        }
    }

    /// The leader of `term` has told this replica's node how far it has committed: nobody waits for its next heartbeat
    /// to hear that. What our log lacks of it is committed here when it comes.
    pub(super) fn on_leader_commits(&mut self, term: Term, index: Index) {
        if term == self.term && self.role() == Role::Follower {
            self.told = self.told.max(index);
            self.advance_commit(self.told.min(self.verified));
        }
    }

    /// Everything through `index` is committed and in our log.
    pub(super) fn advance_commit(&mut self, index: Index) {
        assert!(index <= self.log.last().index, "{index:?} is past the end {:?}", self.log.last());
        self.commit_index = self.commit_index.max(index);
    }

    /// A peer has booted again: what was proven about it, or was under way to it, is gone.
    pub(super) fn forget_progress(&mut self, node: NodeId) {
        let last = self.log.last().index;
        self.absent.remove(&node);
        let State::Leader(leadership) = &mut self.state else { return };
        if let Some(progress) = leadership.followers.get_mut(&node) {
            *progress = Progress::new(last);
        }
    }
}

/// The most appends to one follower in one step: the pipeline fills as answers come in, and no step
/// copies more than this many batches.
const APPENDS_PER_STEP: u32 = 4;
