//! Replicas that may have forgotten promises: how one abstains, and how it counts again.
//!
//! A vote or an acknowledgement that was counted and then forgotten is what breaks Raft's proofs. So a
//! replica that stopped without knowing what its disk kept is readmitted by an entry that a quorum
//! *without it* has committed (it acknowledges nothing itself, so no other quorum can). Any quorum that
//! it was once counted in meets that one in a replica that forgot nothing. From that entry on every log
//! that could elect a leader also voids what its older boots still have under way.

use super::api::{Output, Standing};
use super::group::{Group, State};
use super::message::{AppendOutcome, Body, Payload};
use crate::types::{Incarnation, NodeId};
use alloc::vec::Vec;

impl Group {
    /// A replica that abstains asks to count again, under the boot that its message names.
    pub(super) fn on_readmit_request(&mut self, from: NodeId, incarnation: Incarnation) {
        if matches!(self.state, State::Leader(_)) {
            self.maybe_append_readmit(from, incarnation);
        }
    }

    /// Once for each boot.
    pub(super) fn maybe_append_readmit(&mut self, node: NodeId, incarnation: Incarnation) {
        if let Some(configuration) = self.log.configuration().readmitting(node, incarnation) {
            self.append(Payload::Configure(configuration.into()));
        }
    }

    /// Counts again once the entry that says so is committed and, with all before it, durable here.
    pub(super) fn maybe_regain_standing(&mut self, out: &mut Vec<Output>) {
        if self.standing == Standing::Full {
            return;
        }
        let settled = self.commit_index.min(self.log.durable()).max(self.log.compacted().index);
        let configuration = self.log.configuration_at(settled);
        let own = configuration.member(self.config.me);
        if own.is_some_and(|member| member.readmitted == self.config.incarnation) {
            self.regain_standing(out);
        }
    }

    /// The leader won because everyone answered it, and this boot was one of them: the vote stands
    /// durably, and all that anyone remembers is in the leader's log.
    pub(super) fn maybe_join_unanimous_leader(&mut self, out: &mut Vec<Output>) {
        let voted = self.conditional == Some(self.term) && self.vote == self.leader;
        if self.standing == Standing::Abstaining && voted {
            self.regain_standing(out);
        }
    }

    fn regain_standing(&mut self, out: &mut Vec<Output>) {
        self.standing = Standing::Full;
        out.push(Output::Readmitted);
        if !matches!(self.state, State::Follower) {
            return;
        }
        self.draw_election();
        if let Some(leader) = self.leader {
            let match_index = self.verified.min(self.log.durable());
            let outcome = AppendOutcome::Matched { match_index };
            let gate = self.disk.gate();
            self.say(leader, Body::AppendReply { outcome, counts: true }, gate, out);
        }
    }
}
