//! Quiet groups: one without work for a while stops its timers, and any event starts them again.
//!
//! The leader tells its followers to go quiet, and goes quiet itself once every follower that it has heard from and
//! that its node does not suspect has said that it did, with everything known to be committed and durable. From then on
//! nobody notices here that a leader died: the node's beat between peers does, and wakes the group.
//!
//! A follower that is only silent is waited for. It may have heard nothing since the group woke, for a time too short
//! for any node to notice, and then nobody would tell it what it missed. One that was never heard from in
//! this term is waited for as long as nodes take to suspect each other. It may still be quiet for the leader before: its
//! node, once it hears from this leader's again, wakes it, and it asks.

use super::api::{Event, Output};
use super::group::{Group, State};
use super::message::Body;
use crate::planted::Point;
use crate::types::Index;
use alloc::vec::Vec;

impl Group {
    /// Something happens. A follower may also doubt its leader: then it asks it.
    pub(super) fn wake(&mut self, doubt: bool, out: &mut Vec<Output>) {
        let now = self.now;
        if let State::Leader(leadership) = &mut self.state {
            leadership.quiesce_round = None;
        }
        if !core::mem::take(&mut self.quiet) {
            return;
        }
        Self::trace(Event::Woken, out);
        self.heard = Some(now); // the benefit of the doubt, for one election timeout
        if let State::Leader(leadership) = &mut self.state {
            leadership.busy_at = now;
            leadership.check_at = now + self.config.election;
            self.broadcast_heartbeat(out);
            return;
        }
        self.draw_election();
        if let Some(leader) = self.leader.filter(|_| doubt) {
            self.say(leader, Body::Nudge, self.disk.promise_gate(), out);
        }
    }

    /// At a heartbeat: whether the followers should go quiet, from the next round on.
    pub(super) fn maybe_quiesce(&mut self) {
        let last = self.log.last().index;
        let steady = self.log.configuration().is_steady();
        let idle = self.is_settled(last) && self.disk.is_idle() && !self.damaged && steady;
        let (now, election, after) = (self.now, self.config.election, self.config.quiesce_after);
        let State::Leader(leadership) = &mut self.state else { return };
        let mut known = leadership.followers.values().filter(|progress| progress.heard.is_some());
        let follow = known.all(|progress| progress.counts && progress.match_index == last);
        let at_once = self.config.planted.forces(Point::QuiesceNow, now.0);
        let rests =
            now - leadership.busy_at >= if at_once { election } else { after.max(election) };
        let stays = leadership.transfer.is_none() && leadership.leaving.is_none();
        let nothing_open = leadership.reads.is_empty() && stays;
        if !(idle && follow && rests && nothing_open) {
            leadership.quiesce_round = None;
        } else if leadership.quiesce_round.is_none() {
            leadership.quiesce_round = Some(leadership.round + 1);
        }
    }

    fn is_settled(&self, last: Index) -> bool {
        self.commit_index == last && self.log.durable() == last && self.log.first_lost().is_none()
    }

    /// Goes quiet if every follower has. Those whose nodes are suspected are not waited for: they are woken by
    /// their own node, and ask.
    pub(super) fn maybe_go_quiet(&mut self, out: &mut Vec<Output>) {
        let settled = self.is_settled(self.log.last().index);
        let State::Leader(leadership) = &self.state else { return };
        let Some(round) = leadership.quiesce_round else { return };
        let (now, election) = (self.now, self.config.election);
        let active =
            |node| leadership.followers.get(&node).is_some_and(|it| it.is_active(now, election));
        let mut known = leadership.followers.values().filter(|progress| progress.heard.is_some());
        let all = known.all(|progress| progress.quiet_round >= round);
        let quorum = self.is_quorum(active);
        if !self.quiet && settled && all && quorum {
            self.quiet = true;
            Self::trace(Event::Quiesced, out);
        }
    }
}
