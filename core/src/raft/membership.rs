//! Changes of the voters (Raft 6, thesis 4.3): the leader brings a group from the configuration that it has to the one
//! that is wanted, an entry at a time.
//!
//! What is wanted stands in the configuration itself, so that any later leader goes on with it. Who is to vote first
//! learns; once all of them have nearly the whole log and count, a joint configuration is entered; once that is
//! committed, it is left. The next entry comes when the last is committed, and the first when the leader has committed
//! one of its own term: before that, another configuration may be on its way to be committed.
//!
//! A leader that is to go leads until its successor configuration is committed, without counting itself. Who is no
//! member any more isn't told so, because nothing is sent to it: it learns when it asks for votes, and goes quiet.

use super::api::{Event, Output};
use super::configuration::is_electorate;
use super::group::{Group, State};
use super::message::{Body, Payload};
use super::progress::Progress;
use crate::planted::Bug;
use crate::types::NodeId;
use alloc::vec::Vec;

/// A learner that lacks no more entries than this may vote: it has the rest in a moment.
pub(super) const CATCH_UP_ENTRIES: u64 = 64;

impl Group {
    /// These shall be the voters.
    pub(super) fn on_change_voters(
        &mut self,
        id: u64,
        wish: u64,
        voters: Vec<NodeId>,
        out: &mut Vec<Output>,
    ) {
        assert!(is_electorate(&voters), "{voters:?} can't be the voters of a group");
        self.wake(true, out);
        let old = wish <= self.log.configuration().wish && !self.config.planted.is(Bug::OlderWish);
        if old || !self.may_configure() {
            return out.push(Output::Rejected { id, leader: self.leader });
        }
        let aim = self.log.configuration().aiming_at(voters, wish);
        let position = self.append(Payload::Configure(aim.into()));
        out.push(Output::Appended { id, position });
    }

    /// Whether a change may follow: one at a time, and none before this leader knows all that was committed.
    fn may_configure(&self) -> bool {
        let State::Leader(leadership) = &self.state else { return false };
        let own_term = self.commit_index >= leadership.first_index;
        own_term && leadership.transfer.is_none() && self.is_configured()
    }

    /// Whether the configuration in force is known to be committed.
    fn is_configured(&self) -> bool {
        self.log.configured_at().is_none_or(|at| at <= self.commit_index)
    }

    /// Whether this replica may ask for votes. One that is to go counts for nothing, but while that isn't known to be
    /// committed its log may be the only one that can win an election (thesis 4.2.2).
    pub(super) fn may_campaign(&self) -> bool {
        let configuration = self.log.configuration();
        let leaves = configuration.seat(self.config.me).is_none();
        configuration.votes(self.config.me) || leaves && !self.is_configured()
    }

    /// Whether this replica has no business in its group: it is no member any more, or was never told of what.
    pub(super) fn is_outside(&self) -> bool {
        let outside = self.log.configuration().seat(self.config.me).is_none();
        outside && self.is_configured()
    }

    /// The next step of a change, and the end of a leader that is no member any more.
    pub(super) fn maybe_configure(&mut self, out: &mut Vec<Output>) {
        let State::Leader(leadership) = &self.state else { return };
        let configuration = self.log.configuration();
        let stays = configuration.votes(self.config.me);
        if (configuration.is_steady() && stays) || !self.may_configure() {
            return;
        }
        if !stays {
            return self.hand_over(out);
        }
        let (now, election, last) = (self.now, self.config.election, self.log.last().index);
        let ready = |node| {
            leadership.followers.get(&node).is_some_and(|progress| {
                progress.counts
                    && progress.is_active(now, election)
                    && progress.match_index.0 + CATCH_UP_ENTRIES >= last.0
            })
        };
        if let Some(next) = configuration.next(ready) {
            self.append(Payload::Configure(next.into()));
        }
    }

    /// Follows the configuration in force: at a leader, every other member has its place.
    pub(super) fn settle_followers(&mut self) {
        let (me, last) = (self.config.me, self.log.last().index);
        let configuration = self.log.configuration();
        let State::Leader(leadership) = &mut self.state else { return };
        leadership.followers.retain(|node, _| configuration.seat(*node).is_some());
        for member in configuration.members.iter().filter(|member| member.node != me) {
            leadership.followers.entry(member.node).or_insert_with(|| Progress::new(last));
        }
    }

    /// The group goes on without this leader: whoever has everything may campaign at once.
    fn hand_over(&mut self, out: &mut Vec<Output>) {
        let State::Leader(leadership) = &self.state else { return };
        let last = self.log.last().index;
        let configuration = self.log.configuration();
        let whole = |(node, progress): &(&NodeId, &Progress)| {
            configuration.stays(**node) && progress.match_index == last
        };
        let mut whole = leadership.followers.iter().filter(whole);
        if let Some((heir, _)) = whole.next() {
            self.say(*heir, Body::TimeoutNow, None, out);
        }
        self.become_follower(self.term, out);
    }

    /// A stranger doubts the leader, or asks who leads. By a committed configuration it is no member: nobody needs to
    /// wake for it. It may be one by a later configuration, which it then knows.
    pub(super) fn expels(&self, from: NodeId, body: &Body, out: &mut Vec<Output>) -> bool {
        if !matches!(body, Body::VoteRequest { transfer: false, .. } | Body::Nudge) {
            return false;
        }
        let Some(version) = self.knows_outsider(from) else { return false };
        self.say(from, Body::Expelled { version }, self.disk.promise_gate(), out);
        true
    }

    /// The version of a committed configuration that `node` is no member of. Nobody can be sure to know the last word who
    /// follows no leader; and a member must not be denied a vote.
    fn knows_outsider(&self, node: NodeId) -> Option<u64> {
        let configuration = self.log.configuration();
        let settled = !self.log.is_blind() && self.is_configured();
        let outside = |node| settled && configuration.seat(node).is_none();
        let sure = self.leader.is_some() || outside(self.config.me);
        (sure && outside(node)).then_some(configuration.version)
    }

    /// The answer: nothing is to be done here until somebody leads this replica again.
    pub(super) fn on_expelled(&mut self, version: u64, out: &mut Vec<Output>) {
        let leads = matches!(self.state, State::Leader(_));
        if !leads && self.leader.is_none() && version > self.log.configuration().version {
            self.expelled = true;
            self.rest(out);
        }
    }

    /// Goes quiet without a leader.
    pub(super) fn rest(&mut self, out: &mut Vec<Output>) {
        if matches!(self.state, State::Candidate(_)) {
            self.become_follower(self.term, out);
        }
        if !core::mem::replace(&mut self.quiet, true) {
            Self::trace(Event::Expelled, out);
        }
    }
}
