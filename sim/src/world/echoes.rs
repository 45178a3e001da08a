//! Echoes: who leads a group again hears answers again that it was given when it led before.
//!
//! A network may deliver a message a second time, at any time. The times that matter are few: an answer of an earlier term
//! is poison only to a leader that asks the same follower anew. Copies at random times do not hit them.

use super::{Event, Machine, World, cut};
use crate::draw::{Domain, Draw};
use crate::faults::Class;
use crate::setup::Setup;
use crate::stats::Stats;
use crate::trace::Kind;
use ironseed_core::node::api::Input;
use ironseed_core::node::message::{Head, PeerMessage};
use ironseed_core::raft::{Ballot, Body, Message};
use ironseed_core::types::{GroupId, Term};
use std::collections::{BTreeMap, VecDeque};

/// Answers that may be heard again.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    /// Whether there are any, now.
    on: bool,
    /// The last ones to each node in each group, with who gave them.
    answers: BTreeMap<(usize, GroupId), VecDeque<(usize, Message)>>,
    /// Whether candidates hear any, now.
    of_ballots: bool,
    /// The last votes for each node in each group, with who gave them.
    ballots: BTreeMap<(usize, GroupId), VecDeque<(usize, Message)>>,
}

/// So many answers in a group are remembered.
const KEPT: usize = 6;
/// An echo takes this long at the most: nanoseconds.
const DELAY_MAX: u64 = 50_000_000;

impl Echoes {
    /// Where messages may arrive twice, they echo.
    pub(super) fn new(setup: &Setup) -> Self {
        let has = |class| setup.classes.contains(&class);
        let (on, of_ballots) = (has(Class::Duplicate) || has(Class::Echo), has(Class::Echo));
        Self { on, of_ballots, ..Self::default() }
    }

    /// Everything heals.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// A message leaves.
    pub(super) fn hear(&mut self, from: usize, to: usize, message: &PeerMessage) {
        let Head::Raft(messages) = &message.head else { return };
        if !self.on {
            return;
        }
        for (group, message) in messages {
            let is_answer = matches!(
                message.body,
                Body::AppendReply { .. } | Body::HeartbeatReply { .. } | Body::VoteReply { .. }
            );
            if is_answer {
                let kept = self.answers.entry((to, *group)).or_default();
                kept.push_back((from, message.clone()));
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
            if self.of_ballots
                && matches!(message.body, Body::VoteReply { ballot: Ballot::Granted, .. })
            {
                let kept = self.ballots.entry((to, *group)).or_default();
                kept.push_back((from, message.clone()));
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
        }
    }
}

impl<M: Machine> World<M> {
    /// A node stands for election: it hears votes that it was given in earlier ones. They have crossed the network long
    /// ago, so no cut keeps them from it.
    pub(super) fn echo_ballots(&mut self, node: usize, group: GroupId, campaign: Term, pre: bool) {
        if !self.echoes.of_ballots {
            return;
        }
        let Some(ballots) = self.echoes.ballots.get(&(node, group)) else { return };
        let is_old = |message: &Message| match message.body {
            Body::VoteReply { pre: of_pre, campaign: of, .. } => of_pre == pre && of < campaign,
            _ => false,
        };
        let old = ballots.iter().filter(|(_, message)| is_old(message));
        let old: Vec<(usize, Message)> = old.cloned().collect();
        let name = [97, node as u64, u64::from(group.0), campaign.0, u64::from(pre)];
        let mut draw = Draw::new(self.setup.luck, Domain::Message, &name);
        for (from, message) in old {
            // Before an answer to this election can come, or in time for it.
            let delay = draw.magnitude(1_000, self.setup.weather.delay * 8);
            let message = Box::new(Head::Raft(vec![(group, message)]).into());
            self.schedule(delay, Event::Echo { from, to: node, message });
        }
    }

    /// A message is heard again.
    pub(super) fn hear_echo(&mut self, from: usize, to: usize, message: PeerMessage) {
        if self.healed.is_some() || !self.slots[to].is_up() {
            return;
        }
        let (sender, receiver) = (self.slots[from].id, self.slots[to].id);
        let line = || format!("{receiver:?} <- {sender:?} again {}", cut(format!("{message:?}")));
        self.tracer.event(self.now, Kind::Deliver, &[from as u64, to as u64], line);
        Stats::count(&mut self.stats.rare, "vote-echoed", 1);
        self.feed(to, Input::Message { from: sender, message });
    }

    /// A node has begun to lead a group in this term: it hears answers of earlier ones.
    pub(super) fn echo(&mut self, node: usize, group: GroupId, term: Term) {
        let Some(answers) = self.echoes.answers.remove(&(node, group)) else { return };
        let (own, old): (VecDeque<_>, VecDeque<_>) =
            answers.into_iter().partition(|(_, message)| message.term >= term);
        let name = [98, node as u64, u64::from(group.0), term.0];
        let mut draw = Draw::new(self.setup.luck, Domain::Message, &name);
        for (from, message) in old {
            let delay = draw.magnitude(1_000, DELAY_MAX);
            let message = Box::new(Head::Raft(vec![(group, message)]).into());
            let send = self.tracer.events();
            self.schedule(delay, Event::Deliver { from, to: node, send, message });
            Stats::count(&mut self.stats.rare, "answer-echoed", 1);
        }
        self.echoes.answers.insert((node, group), own);
    }
}
