//! Elections, both sides: pre-vote, RequestVote, leadership transfer (Raft 5.2, 5.4.1; thesis 9.6, 3.10).

use super::api::{Event, Output, Standing};
use super::group::{Group, State};
use super::membership::CATCH_UP_ENTRIES;
use super::message::{Ballot, Body, Payload};
use super::progress::Progress;
use super::quorum::Election;
use super::replication::Leadership;
use crate::machine::{Duration, Instant};
use crate::planted::{Bug, Point};
use crate::types::{Incarnation, Index, NodeId, Position, Term};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// An election that this replica stands in.
#[derive(Clone, Debug)]
pub(super) struct Candidacy {
    /// Only asking whether it would be elected.
    pub(super) pre: bool,
    /// The term that it wants to lead.
    pub(super) campaign: Term,
    /// The answers, this replica's own among them.
    pub(super) ballots: BTreeMap<NodeId, Ballot>,
}

/// A leader's wish to lead no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    /// Who should lead, if as far as any other.
    prefer: Option<NodeId>,
    /// Or nobody.
    only: bool,
    /// Then it stays.
    until: Instant,
}

impl Group {
    /// Draws when to campaign if no leader is heard until then (Raft 5.2). Whoever would lead badly
    /// leaves the others time to be first.
    pub(super) fn draw_election(&mut self) {
        let election = self.config.election;
        let lost = if self.log.first_lost().is_some() || self.damaged { 3 } else { 0 };
        let abstains = if self.standing == Standing::Full { 0 } else { 2 };
        let drawn = self.rng.below(election.0.max(1));
        let soon = self.config.planted.forces(Point::ElectionSoon, drawn);
        let jitter = Duration(if soon { 0 } else { drawn });
        self.election_at = self.now + election + election * (lost + abstains) + jitter;
    }

    /// Whether this replica could lead if it was elected. With a damaged state it can't answer clients, but its
    /// log may be the only one that can win: it then leads until a follower has that log.
    fn may_lead(&self) -> bool {
        let configuration = self.log.configuration();
        let knows = self.may_campaign() && !self.log.is_blind();
        let can_hand_over = !self.damaged || !configuration.is_alone(self.config.me);
        self.standing != Standing::Blank && knows && can_hand_over
    }

    /// A peer's node is gone, for now or for good. If it led this group somebody else should: soon, but
    /// not all at the same time.
    pub(super) fn on_peer_suspected(&mut self, node: NodeId, out: &mut Vec<Output>) {
        if self.config.planted.is(Bug::SuspicionEndsPromise) {
            self.promised = None;
        }
        if let State::Leader(leadership) = &mut self.state {
            if let Some(progress) = leadership.followers.get_mut(&node) {
                progress.heard = None;
            }
            // It may be us who is cut off, and another leads by now: a quiet leader would never know.
            if !self.config.planted.is(Bug::QuietLeaderNeverLooks) {
                self.wake(false, out);
            }
        } else if self.leader == Some(node) {
            self.wake(false, out);
            self.leader = None;
            let jitter = Duration(self.rng.below(self.config.election.0.max(1)));
            let free = self.bound_until().unwrap_or(self.now);
            self.election_at = self.election_at.min(free + jitter);
        }
    }

    /// Whoever is heard from again may have come to lead while nothing of it arrived here, and have gone quiet. A follower
    /// that is quiet for an earlier leader, whom it can hear all along, has no other reason to look: it asks that one.
    pub(super) fn on_peer_found(&mut self, node: NodeId, out: &mut Vec<Output>) {
        let another = self.leader.is_some_and(|leader| ![node, self.config.me].contains(&leader));
        if another && self.log.configuration().seat(node).is_some() {
            self.wake(true, out);
        }
    }

    /// Nobody was heard who leads.
    ///
    /// A candidate whose own vote is still on its way to the disk waits for that: another term would put another vote
    /// behind it. A disk that is busy with the elections of many groups would never come to the end of any.
    pub(super) fn on_election_timeout(&mut self, out: &mut Vec<Output>) {
        let me = self.config.me;
        match &self.state {
            State::Candidate(candidacy) if !candidacy.ballots.contains_key(&me) => {
                self.draw_election();
            }
            _ => self.pre_campaign(out),
        }
    }

    /// The operator or a test wants this replica to lead.
    pub(super) fn on_campaign(&mut self, out: &mut Vec<Output>) {
        self.wake(false, out);
        if !matches!(self.state, State::Leader(_)) {
            self.pre_campaign(out);
        }
    }

    /// Asks whether it would be elected: a replica that can't win must not raise the term (thesis 9.6).
    pub(super) fn pre_campaign(&mut self, out: &mut Vec<Output>) {
        if let Some(until) = self.bound_until() {
            self.election_at = until; // a leader may answer reads until then because this replica said so
            return;
        }
        self.leader = None;
        self.absent.clear();
        self.draw_election();
        if self.is_outside() {
            return self.rest(out); // a leader will come if one is wanted here
        }
        if !self.may_lead() {
            return self.ask_for_leader(out);
        }
        if self.damaged {
            self.ask_for_leader(out); // whose state it needs
        }
        let campaign = self.term.next();
        let ballots = BTreeMap::from([(self.config.me, self.own_ballot())]);
        self.state = State::Candidate(Candidacy { pre: true, campaign, ballots });
        self.request_votes(campaign, false, out);
        self.maybe_win(out);
    }

    /// A replica that may not lead itself wakes whoever does: it needs to be readmitted, or a state.
    fn ask_for_leader(&self, out: &mut Vec<Output>) {
        for peer in self.peers() {
            self.say(peer, Body::Nudge, self.disk.promise_gate(), out);
        }
    }

    /// Stands for election in `campaign` (Raft 5.2). Its own vote counts once it is durable.
    fn campaign(&mut self, campaign: Term, transfer: bool, out: &mut Vec<Output>) {
        assert!(campaign > self.term, "{campaign:?} is over, this is {:?}", self.term);
        let bound = self.bound_until().filter(|_| !transfer);
        assert!(bound.is_none(), "promised not to stand for election before {bound:?}");
        self.become_follower(campaign, out);
        self.vote = Some(self.config.me);
        self.disk.promise();
        self.state = State::Candidate(Candidacy { pre: false, campaign, ballots: BTreeMap::new() });
        self.request_votes(campaign, transfer, out);
        self.request_payloads(out);
    }

    fn request_votes(&self, campaign: Term, transfer: bool, out: &mut Vec<Output>) {
        let State::Candidate(Candidacy { pre, .. }) = self.state else { return };
        let last = self.log.last();
        for peer in self.peers() {
            let body = Body::VoteRequest { pre, campaign, last, transfer };
            self.say(peer, body, self.disk.promise_gate(), out);
        }
    }

    fn own_ballot(&self) -> Ballot {
        match self.standing {
            Standing::Full => Ballot::Granted,
            Standing::Abstaining => Ballot::Conditional,
            Standing::Blank => Ballot::Refused,
        }
    }

    /// Whether there is a leader that works, as far as this replica can tell (thesis 4.2.3). If the
    /// candidate itself was the leader, it isn't any more.
    pub(super) fn leader_is_live(&self, candidate: NodeId) -> bool {
        match self.state {
            State::Leader(_) => true,
            _ if self.is_bound_against(candidate) => true,
            State::Candidate(_) => false,
            State::Follower => {
                self.leader.is_some_and(|leader| leader != candidate)
                    && self.heard.is_some_and(|heard| self.now - heard < self.config.election)
            }
        }
    }

    /// A pre-vote at the voter: promises nothing, changes nothing.
    pub(super) fn on_pre_vote_request(
        &mut self,
        from: NodeId,
        campaign: Term,
        last: Position,
        out: &mut Vec<Output>,
    ) {
        let planted = self.config.planted.is(Bug::PreVoteDisrupts);
        let live = self.leader_is_live(from) && !planted;
        let would = campaign > self.term && last >= self.log.last() && !live;
        let ballot = if would { self.own_ballot() } else { Ballot::Refused };
        let body = Body::VoteReply { pre: true, campaign, ballot };
        self.say(from, body, self.disk.promise_gate(), out);
        if planted && campaign > self.term {
            self.become_follower(campaign, out);
        }
    }

    /// RequestVote at the voter (Raft figure 2). `on_message` has settled the term.
    pub(super) fn on_vote_request(
        &mut self,
        from: NodeId,
        campaign: Term,
        last: Position,
        transfer: bool,
        out: &mut Vec<Output>,
    ) {
        // Step 2. One vote a term, and only for a log at least as up to date as ours (5.4.1). A replica
        // that knows this term's leader has nothing to vote on.
        let free = self.vote == Some(from) || (self.vote.is_none() && self.leader.is_none());
        // The term may have risen by other messages than this, which the check of a live leader let pass.
        let may = transfer || !self.is_bound_against(from);
        let grants = campaign == self.term && free && may && last >= self.log.last();
        let ballot = if grants { self.own_ballot() } else { Ballot::Refused };
        if ballot != Ballot::Refused {
            if self.vote.is_none() {
                self.vote = Some(from);
                self.disk.promise();
            }
            if ballot == Ballot::Conditional {
                self.conditional = Some(self.term);
            }
            self.draw_election();
        }
        // The vote is a promise: it must not outrun the disk.
        let planted = self.config.planted.is(Bug::VoteBeforeDurable);
        let gate = if planted { None } else { self.disk.promise_gate() };
        self.say(from, Body::VoteReply { pre: false, campaign, ballot }, gate, out);
    }

    /// An answer at the candidate. That of an older boot than the log knows was dropped before.
    pub(super) fn on_vote_reply(
        &mut self,
        from: NodeId,
        pre: bool,
        campaign: Term,
        ballot: Ballot,
        out: &mut Vec<Output>,
    ) {
        let planted = self.config.planted.is(Bug::AcceptOldReplies);
        let State::Candidate(candidacy) = &mut self.state else { return };
        if candidacy.pre != pre || (candidacy.campaign != campaign && !planted) {
            return; // an answer to an earlier question
        }
        candidacy.ballots.insert(from, ballot);
        self.maybe_win(out);
    }

    /// A candidate's own vote counts once it is durable, like any other.
    pub(super) fn on_own_vote_durable(&mut self, out: &mut Vec<Output>) {
        let (me, own) = (self.config.me, self.own_ballot());
        let durable = self.disk.promise_gate().is_none();
        let State::Candidate(candidacy) = &mut self.state else { return };
        if durable && !candidacy.pre && candidacy.ballots.insert(me, own).is_none() {
            self.maybe_win(out);
        }
    }

    fn maybe_win(&mut self, out: &mut Vec<Output>) {
        let State::Candidate(candidacy) = &self.state else { return };
        let full = self.standing == Standing::Full;
        let ballot = |node| candidacy.ballots.get(&node).copied();
        match (self.log.configuration().tally(ballot, full), candidacy.pre) {
            (Election::Open, _) => {}
            (Election::Lost, _) => self.become_follower(self.term, out),
            (Election::Won { unanimous: false }, true) => {
                self.campaign(self.term.next(), false, out)
            }
            (Election::Won { unanimous: true }, true) => {
                self.campaign(Term(self.term.0 + UNANIMOUS_TERMS), false, out);
            }
            (Election::Won { unanimous }, false) => self.become_leader(unanimous, out),
        }
    }

    fn become_leader(&mut self, unanimous: bool, out: &mut Vec<Output>) {
        let State::Candidate(candidacy) = &self.state else { return };
        let conditional =
            |(node, ballot): (&NodeId, &Ballot)| (*ballot == Ballot::Conditional).then_some(*node);
        let readmitted: Vec<NodeId> = candidacy.ballots.iter().filter_map(conditional).collect();
        self.leader = Some(self.config.me);
        self.heard = Some(self.now);
        self.verified = self.log.last().index;
        let peers = self.peers();
        let mut leadership = Leadership::new(&self.config, self.now, self.log.last(), &peers);
        if self.config.planted.is(Bug::MatchKeptOverReelection) {
            for (peer, progress) in &mut leadership.followers {
                progress.match_index = self.matched.get(peer).copied().unwrap_or(Index(0));
                progress.next_index = progress.next_index.max(progress.match_index.next());
            }
        }
        self.state = State::Leader(leadership);
        // Commits what earlier terms left behind (Raft 5.4.2, 8).
        self.append(Payload::Noop);
        if unanimous {
            self.become_unanimous_leader(&readmitted, out);
        }
        self.broadcast_heartbeat(out);
        self.request_payloads(out);
        self.maybe_commit(out);
    }

    /// Everyone answered and nobody remembers more than this log has, so nothing is left to wait for:
    /// the conditional voters are full ones again, and what their older boots promised is void.
    fn become_unanimous_leader(&mut self, readmitted: &[NodeId], out: &mut Vec<Output>) {
        Self::trace(Event::Unanimous { term: self.term }, out);
        if let State::Leader(leadership) = &mut self.state {
            leadership.unanimous = true;
        }
        if self.standing != Standing::Full {
            self.standing = Standing::Full;
            out.push(Output::Readmitted);
        }
        for node in readmitted {
            let own = (*node == self.config.me).then_some(self.config.incarnation);
            let incarnation = own.or_else(|| self.incarnations.get(node).copied());
            self.maybe_append_readmit(*node, incarnation.unwrap_or(Incarnation(0)));
        }
    }

    /// Gives leadership away (thesis 3.10): no new entries until the best follower has all of ours, then
    /// it campaigns at once. In a group that slept nobody was heard for long: whoever answers first that will do is it.
    pub(super) fn on_transfer_away(
        &mut self,
        prefer: Option<NodeId>,
        only: bool,
        out: &mut Vec<Output>,
    ) {
        let slept = self.quiet;
        self.wake(false, out);
        let until = self.now + self.config.election;
        let State::Leader(leadership) = &mut self.state else { return };
        leadership.leaving = Some(Leaving { prefer, only, until });
        self.maybe_choose_heir(!slept);
        self.maybe_transfer(out);
    }

    /// Looks for who can take leadership over. Before a heartbeat has passed (`late`) nobody takes it in place of whom is
    /// preferred.
    pub(super) fn maybe_choose_heir(&mut self, late: bool) {
        let (now, election, last) = (self.now, self.config.election, self.log.last().index);
        let configuration = self.log.configuration();
        let State::Leader(leadership) = &mut self.state else { return };
        let Some(Leaving { prefer, only, until }) = leadership.leaving else { return };
        let able = |node: NodeId, progress: &Progress| {
            progress.counts && progress.is_active(now, election) && configuration.stays(node)
        };
        let preferred = |node| prefer == Some(node);
        let close = |progress: &Progress| progress.match_index.0 + CATCH_UP_ENTRIES >= last.0;
        let fit = leadership.followers.iter().filter(|(node, progress)| {
            able(**node, progress) && (!only || preferred(**node) && close(progress))
        });
        let best = fit.max_by_key(|(node, progress)| (progress.match_index, preferred(**node)));
        let best = best
            .map(|(node, _)| *node)
            .filter(|node| late || prefer.is_none_or(|prefer| prefer == *node));
        if until <= now || best.is_some() {
            leadership.leaving = None;
        }
        if let Some(node) = best {
            leadership.transfer = Some((node, now + election));
        }
    }

    /// Tells the chosen follower to campaign if it has everything.
    pub(super) fn maybe_transfer(&mut self, out: &mut Vec<Output>) {
        let last = self.log.last().index;
        let State::Leader(leadership) = &mut self.state else { return };
        let Some((to, _)) = leadership.transfer else { return };
        let matched = leadership.followers.get(&to).map(|progress| progress.match_index);
        if matched == Some(last) {
            leadership.invited = true;
            self.say(to, Body::TimeoutNow, None, out);
        }
    }

    /// The leader gives its leadership to this replica: no pre-vote, it agrees.
    pub(super) fn on_timeout_now(&mut self, from: NodeId, out: &mut Vec<Output>) {
        let fit = self.standing == Standing::Full && self.may_lead() && !self.damaged;
        if fit && self.leader == Some(from) && from != self.config.me {
            self.campaign(self.term.next(), true, out);
        }
    }
}

/// An election that counts conditional votes skips this many terms: votes and appends of terms that
/// everybody has forgotten may still be under way, and no unsynced tail holds a million elections.
const UNANIMOUS_TERMS: u64 = 1 << 20;
