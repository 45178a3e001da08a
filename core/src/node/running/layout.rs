//! Shards that move: how a node learns of another layout, starts a replica that it was not founded with, and gives one up.
//!
//! The meta group decides where shards shall be ([`Layout`]); every node is told, as it is of the charter. From there on
//! each does its part, again and again until the layout says that it is done:
//!
//! - whoever leads a shard has its group change its voters to those of the layout;
//! - a node that is to have a replica starts one when the group's leader first speaks to it. It is blank: nothing that
//!   it says counts before the group has admitted it, and its state comes from the leader;
//! - a voter that holds the state and every chunk that the state names reports that;
//! - a node that the shard has left asks whether it may give its replica up, and does so when the answer comes.
//!
//! What is given up is the state and the chunks. Term, vote and log are promises: they stay until the node's next boot,
//! which finds in its log that there is nothing to start.

use super::*;
use crate::kv::state::State;
use crate::node::recovery;
use crate::node::router::Report;
use crate::object::layout::Layout;
use crate::raft::{Configuration, Group, Restored};
use crate::types::ShardId;
use alloc::boxed::Box;

impl Running {
    /// Another version of the layout, from this node's meta group or from a peer.
    pub(super) fn on_layout(&mut self, layout: Layout, effects: &mut Vec<Effect>) {
        if layout.version <= self.layout.version {
            return;
        }
        self.peers.lay_out(layout.version);
        effects.push(Effect::Trace(Trace::LaidOut { version: layout.version }));
        self.push(Post::Router(RouterInput::Layout(Box::new(layout.clone()))));
        self.layout = layout;
    }

    /// Whether a shard that was moved is to be here.
    fn is_wanted(&self, group: GroupId) -> bool {
        let me = self.superblock.node;
        group.shard().is_some_and(|shard| self.layout.wants(shard, me))
    }

    /// Whether messages to the replica of this group have somebody to go to. The first one starts it.
    pub(super) fn has_replica(
        &mut self,
        config: &Config,
        now: Now,
        group: GroupId,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let here = self.replicas.get(&group).map(Replica::is_retired);
        match here {
            Some(false) => return true,
            _ if !self.is_wanted(group) => return false,
            Some(true) => {
                self.with_replica(config, now, group, effects, |replica, _| replica.return_back());
            }
            None => self.join(config, now, group, effects),
        }
        effects.push(Effect::Trace(Trace::Joined { group }));
        true
    }

    /// Starts a replica that has nothing yet.
    fn join(&mut self, config: &Config, now: Now, group: GroupId, effects: &mut Vec<Effect>) {
        let founding = self.groups.get(&group).cloned().unwrap_or_default();
        let restored = Restored {
            standing: Standing::Blank,
            applied_configuration: Some(Configuration::founding(&founding)),
            ..Restored::default()
        };
        let incarnation = self.superblock.incarnation;
        let raft = recovery::raft_config(config, incarnation, group, &founding);
        let raft = Group::new(raft, restored, now.mono, self.rng.fork());
        let generations = self.retired.remove(&group).unwrap_or(0);
        let state = State::new(recovery::seat(group, &founding, config.planted));
        self.replicas.insert(group, Replica::new(group, raft, state).joining(generations));
        // As posts: what the store lane was told of the group before comes first.
        self.push(Post::Store(StoreInput::Joined(group)));
        self.push(Post::Store(StoreInput::Live { group, bytes: 0 })); // cleaning is to ask it too
        self.with_replica(config, now, group, effects, Replica::start);
    }

    /// Does this node's part in the moves that are under way.
    pub(super) fn settle_shards(&mut self, config: &Config, now: Now, effects: &mut Vec<Effect>) {
        let me = config.me;
        let mut wishes = Vec::new();
        let mut reports = Vec::new();
        for (shard, placed) in &self.layout.placed {
            let (shard, group) = (*shard, shard.group());
            let Some(replica) = self.replicas.get(&group).filter(|it| !it.is_retired()) else {
                continue;
            };
            if replica.leads() && !replica.follows(placed.change) {
                wishes.push((group, placed.change, placed.voters.clone()));
            }
            if placed.is_settled() && !placed.voters.contains(&me) {
                reports.push(Report::Leaves { shard });
            } else if !placed.is_settled()
                && placed.voters.contains(&me)
                && replica.holds_all(placed.change)
                && (!self.chunks.lacks(shard) || config.planted.is(Bug::WholeWithoutChunks))
            {
                reports.push(Report::Whole { shard, change: placed.change });
            }
        }
        for (group, change, voters) in wishes {
            self.with_replica(config, now, group, effects, |replica, cx| {
                replica.follow(change, voters, cx);
            });
        }
        for report in reports {
            self.push(Post::Router(RouterInput::Report(report)));
        }
    }

    /// The meta group has said that nobody needs the replica of this shard here any more.
    pub(super) fn leave(
        &mut self,
        config: &Config,
        now: Now,
        shard: ShardId,
        effects: &mut Vec<Effect>,
    ) {
        let group = shard.group();
        let replica = self.replicas.get(&group);
        // It may have been wanted back since the question.
        let leaves = self.layout.may_leave(shard, config.me);
        if !leaves || replica.is_none_or(Replica::is_retired) {
            return;
        }
        self.with_replica(config, now, group, effects, Replica::retire);
        self.push(Post::Store(StoreInput::Retired(group)));
        effects.push(Effect::Trace(Trace::Left { group }));
    }

    /// What is asked of a replica that is not here.
    pub(super) fn for_nobody(&mut self, group: GroupId, input: &ReplicaInput) {
        let answer = match input {
            // Its frames and records are of no use to anybody.
            ReplicaInput::Cleaned { segment } => {
                StoreInput::Needed { group, segment: *segment, needed: false }
            }
            ReplicaInput::Sweep { segment, rows } => {
                let dead = rows.iter().map(|row| row.offset).collect();
                StoreInput::Swept { group, segment: *segment, dead }
            }
            ReplicaInput::Restate => {
                let (writes, standing) = (Vec::new(), Standing::Full);
                StoreInput::Restated { group, writes, standing, retired: true }
            }
            // Left behind, or sent by somebody who did not know.
            ReplicaInput::IsKnown(blob) if self.retired.contains_key(&group) => {
                StoreInput::DropBlob(*blob)
            }
            _ => return,
        };
        self.push(Post::Store(answer));
    }
}
