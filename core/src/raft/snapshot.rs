//! Compaction, and the state that replaces it for a follower that lags behind it (Raft 7). The node
//! streams the state; this decides who needs it and what it means for the log.
//!
//! A leader with a damaged state can't give any. It takes one from a follower, at a position that its own log has: by
//! log matching that is what its own would be. Otherwise a group might wait for ever in which nobody else can win an
//! election: one abstains, another lags behind what the leader has compacted.

use super::api::{Event, Output, Standing, Write};
use super::configuration::Configuration;
use super::group::{Group, State};
use super::message::{AppendOutcome, Body};
use super::progress::Flow;
use crate::planted::Bug;
use crate::types::{Index, NodeId, Position, Term};
use alloc::vec::Vec;

impl Group {
    /// Whether a state at `position` would help this replica. Ask when it is offered and again when it
    /// is about to replace the old one: the log may have caught up in between.
    #[must_use]
    pub fn wants_snapshot(&self, position: Position) -> bool {
        if matches!(self.state, State::Leader(_)) {
            // Of a state that came from an earlier leader it may not know yet that it is committed.
            let new = self.damaged || position.index > self.commit_index;
            return new && self.log.contains(position);
        }
        let lost = self.log.first_lost().is_some_and(|lost| lost <= position.index);
        let new = self.damaged || !self.log.knows_members();
        let whole = new && position.index >= self.log.compacted().index;
        position.index > self.commit_index || lost || whole
    }

    /// The log through `upto` isn't needed any more.
    pub(super) fn on_compact(&mut self, upto: Index) {
        if upto <= self.log.compacted().index || self.damaged {
            return;
        }
        assert!(upto <= self.applied, "compacting {upto:?}, applied {:?}", self.applied);
        self.log.compact(upto);
        self.write_compacted();
    }

    fn write_compacted(&mut self) {
        let position = self.log.compacted();
        let configuration = self.log.configuration_at(position.index);
        self.disk.write(Write::Compacted { position, configuration });
    }

    /// The state was replaced by the leader's, or a leader's by a follower's.
    pub(super) fn on_snapshot_installed(
        &mut self,
        term: Term,
        position: Position,
        configuration: Configuration,
        out: &mut Vec<Output>,
    ) {
        assert!(self.wants_snapshot(position), "a state at {position:?} was not wanted");
        // What its leader had committed, every leader of its term or a later one has. One of an earlier
        // term may not: we must not call ourselves equal to that.
        if term > self.term {
            self.become_follower(term, out);
        }
        if self.log.contains(position) {
            self.log.compact_as(position.index, configuration);
            self.write_compacted();
        } else {
            let planted = self.config.planted.is(Bug::SnapshotWithoutMembers);
            let ours = Configuration::founding(&self.config.voters);
            let configuration = if planted { ours } else { configuration };
            // Ours parts from the leader's before that position: nothing of it is of use.
            self.log.reset(position, configuration.clone());
            self.disk.truncated(Index(0));
            self.disk.write(Write::Reset { position, configuration });
        }
        self.commit_index = self.commit_index.max(position.index);
        self.applied = position.index;
        self.handed = position.index;
        self.damaged = false;
        self.verified = self.verified.max(position.index); // committed, so every leader has it
        self.draw_election();
        if let State::Leader(leadership) = &mut self.state {
            leadership.transfer = None; // it can lead itself now
        }
        Self::trace(Event::SnapshotInstalled { position }, out);
        if let Some(leader) = self.leader.filter(|leader| *leader != self.config.me) {
            let outcome = AppendOutcome::Matched { match_index: position.index };
            let counts = self.standing == Standing::Full;
            self.say(leader, Body::AppendReply { outcome, counts }, self.disk.gate(), out);
        }
    }

    /// The leader's node has seen the follower install a state.
    pub(super) fn on_snapshot_sent(
        &mut self,
        to: NodeId,
        position: Position,
        out: &mut Vec<Output>,
    ) {
        let State::Leader(leadership) = &mut self.state else { return };
        let Some(progress) = leadership.followers.get_mut(&to) else { return };
        progress.snapshot_asked = false;
        if progress.flow == Flow::Snapshot {
            // Not a proof, the follower's own reply is: but a good guess.
            progress.probe(position.index.next());
            self.send_appends(to, false, out);
        }
    }

    /// It is wanted again when the follower is next heard from.
    pub(super) fn on_snapshot_failed(&mut self, to: NodeId) {
        let State::Leader(leadership) = &mut self.state else { return };
        if let Some(progress) = leadership.followers.get_mut(&to) {
            progress.snapshot_asked = false;
        }
    }

    /// A follower's own state is damaged. Its log isn't: entries still go to it. Or the leader's is.
    pub(super) fn on_snapshot_request(&mut self, from: NodeId, out: &mut Vec<Output>) {
        let State::Leader(leadership) = &mut self.state else {
            if self.leader == Some(from) && !self.damaged {
                out.push(Output::WantSnapshot { to: from });
            }
            return;
        };
        // It has none to give. The follower asks again, and may have to ask another by then.
        let Some(progress) = leadership.followers.get_mut(&from).filter(|_| !self.damaged) else {
            return;
        };
        if !core::mem::replace(&mut progress.snapshot_asked, true) {
            out.push(Output::WantSnapshot { to: from });
        }
    }

    /// Asks the node once for the state that a follower needs, if the follower answers at all.
    pub(super) fn maybe_want_snapshot(&mut self, to: NodeId, out: &mut Vec<Output>) {
        let (now, election) = (self.now, self.config.election);
        let State::Leader(leadership) = &mut self.state else { return };
        let Some(progress) = leadership.followers.get_mut(&to) else { return };
        let has = !self.damaged;
        let needed = has && progress.flow == Flow::Snapshot && progress.is_active(now, election);
        if needed && !core::mem::replace(&mut progress.snapshot_asked, true) {
            out.push(Output::WantSnapshot { to });
        }
    }

    /// The state above is damaged: it can't answer clients, so somebody else should lead.
    pub(super) fn on_state_damaged(&mut self, out: &mut Vec<Output>) {
        self.damaged = true;
        self.wake(true, out);
        if matches!(self.state, State::Follower) {
            self.draw_election();
        } else {
            self.become_follower(self.term, out);
        }
    }
}
