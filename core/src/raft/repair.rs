//! Entries whose identity survived and whose payload didn't (protocol-aware recovery, FAST '18).
//!
//! A follower needs nothing of its own: it refuses an append at or after its first damaged entry, so
//! the leader sends that entry again, or the state if its log begins later. A candidate or leader asks
//! its peers. If so many say that they don't have the entry that it can't have been committed, it is
//! given up, with all after it.

use super::api::{Event, Output, Standing, Write};
use super::group::{Group, State};
use super::message::{Body, Entry, Payload, PayloadAnswer};
use crate::types::{NodeId, Position};
use alloc::vec::Vec;

impl Group {
    /// Asks every peer for the first damaged entries; at the pace of elections and heartbeats.
    pub(super) fn request_payloads(&self, out: &mut Vec<Output>) {
        for index in self.log.lost().iter().take(PAYLOADS_PER_REQUEST) {
            let Some(position) = self.log.position_at(*index) else { continue };
            for peer in self.peers() {
                self.say(peer, Body::PayloadRequest { position }, self.disk.promise_gate(), out);
            }
        }
    }

    /// Any replica answers. That it doesn't have an entry is a promise of sorts: it now is in a term in
    /// which no older leader can give it the entry any more.
    pub(super) fn on_payload_request(
        &self,
        from: NodeId,
        position: Position,
        out: &mut Vec<Output>,
    ) {
        let answer = match self.log.get(position.index) {
            _ if position.index <= self.log.compacted().index => PayloadAnswer::Compacted,
            Some(Entry { position: ours, payload: Payload::Lost { .. } }) if *ours == position => {
                PayloadAnswer::Lost
            }
            Some(entry) if entry.position == position => {
                PayloadAnswer::Found(entry.payload.clone())
            }
            // It may have had it, and forgotten.
            _ if self.standing != Standing::Full => PayloadAnswer::Lost,
            _ => PayloadAnswer::Absent,
        };
        self.say(from, Body::PayloadReply { position, answer }, self.disk.promise_gate(), out);
    }

    pub(super) fn on_payload_reply(
        &mut self,
        from: NodeId,
        position: Position,
        answer: &PayloadAnswer,
        out: &mut Vec<Output>,
    ) {
        match answer {
            PayloadAnswer::Found(payload) => self.maybe_repair(position, payload, out),
            PayloadAnswer::Absent => self.on_payload_absent(from, position, out),
            // It was committed and only a state has it: somebody else must lead, and send us theirs.
            PayloadAnswer::Compacted => {
                let leads = matches!(self.state, State::Leader(_)) && !self.damaged;
                if self.is_first_lost(position) && leads {
                    self.on_state_damaged(out);
                }
            }
            PayloadAnswer::Lost => {}
        }
    }

    fn is_first_lost(&self, position: Position) -> bool {
        self.log.first_lost() == Some(position.index) && self.log.contains(position)
    }

    /// Puts a payload back into the damaged entry that it belongs to, if there is one.
    pub(super) fn maybe_repair(
        &mut self,
        position: Position,
        payload: &Payload,
        out: &mut Vec<Output>,
    ) {
        if !self.log.repair(position, payload) {
            return;
        }
        self.absent.clear();
        self.disk.write(Write::Repair(Entry { position, payload: payload.clone() }));
        if let State::Leader(leadership) = &mut self.state {
            leadership.unsent = true; // followers may have waited for it
        }
        Self::trace(Event::Repaired { position }, out);
    }

    /// A peer that is in our term never had the entry, or has another. Only who campaigned in this very
    /// term may conclude anything: nobody else leads it, so nothing that this replica acknowledged
    /// earlier can be counted together with what the peers will acknowledge later.
    fn on_payload_absent(&mut self, from: NodeId, position: Position, out: &mut Vec<Output>) {
        let campaigned = match &self.state {
            State::Leader(_) => true,
            State::Candidate(candidacy) => !candidacy.pre,
            State::Follower => false,
        };
        let open = position.index > self.commit_index && position.term < self.term;
        if !campaigned || !open || !self.is_first_lost(position) {
            return;
        }
        self.absent.insert(from);
        if self.log.configuration().blocked_by(|node| self.absent.contains(&node)) {
            self.become_follower(self.term, out);
            self.truncate(position.index);
            self.draw_election(); // it may campaign like any other again
            Self::trace(Event::GaveUp { position }, out);
        }
    }
}

/// Damaged entries asked for at a time: enough to mend a rotten segment soon, few enough for one beat.
const PAYLOADS_PER_REQUEST: usize = 16;
