//! Leadership that is given away: which groups, so that nobody takes it for an election that something went wrong before.

use super::{Machine, World};
use ironseed_core::node::message::{Head, PeerMessage};
use ironseed_core::raft::Body;
use ironseed_core::types::GroupId;

/// So many election timeouts after it was offered, leadership has changed for that reason or not at all.
const OFFERED_ELECTIONS: u64 = 4;

impl<M: Machine> World<M> {
    /// A leader asks another node to lead its group.
    pub(super) fn note_hand_over(&mut self, group: GroupId) {
        self.handed.insert(group, self.now);
    }

    /// A leader's invitation to stand for election arrives: it may have been on its way for longer than any patience.
    pub(super) fn hear_invitations(&mut self, message: &PeerMessage) {
        let Head::Raft(messages) = &message.head else { return };
        for (group, _) in messages.iter().filter(|(_, it)| matches!(it.body, Body::TimeoutNow)) {
            self.note_hand_over(*group);
        }
    }

    /// Whether a group that elects now was given away a moment ago.
    pub(super) fn was_handed_over(&self, group: GroupId) -> bool {
        let patience = self.setup.tuning.election.0 * OFFERED_ELECTIONS;
        self.handed.get(&group).is_some_and(|at| self.now - at < patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::{Calm, Knob};
    use crate::faults::{Crash, Fault, Moment, Planned};
    use crate::setup::{Overrides, Setup};
    use crate::trace::Tracer;
    use ironseed_core::node::Node;
    use ironseed_core::node::status::Role;
    use ironseed_core::planted::Planted;
    use ironseed_core::raft::Message;
    use ironseed_core::shard::placement::{Member, ranked};
    use ironseed_core::types::{Incarnation, NodeId, Term};
    use std::collections::BTreeMap;

    const SHARDS: u16 = 32;
    const AWAY: NodeId = NodeId(2);
    const MILLI: u64 = 1_000_000;

    /// Three nodes that nobody asks for anything, one of which goes at 9 s and comes back three seconds later.
    fn world(how: Crash) -> World<Node> {
        let crash =
            Fault::Crash { nodes: vec![AWAY.0], how, moment: Moment::Now, lasts: 3_000 * MILLI };
        let times = [(Knob::Heartbeat, 50 * MILLI), (Knob::Election, 200 * MILLI)];
        let overrides = Overrides {
            nodes: Some(3),
            shards: Some(SHARDS),
            workload: Some("kv".into()),
            millis: Some(60_000),
            faults: Some(Vec::new()),
            calm: Calm::ALL.to_vec(),
            tuning: BTreeMap::from(times),
            plan: Some(vec![Planned { at: 9_000 * MILLI, fault: crash }]),
            script: Some(Vec::new()),
            ..Overrides::default()
        };
        World::new(Setup::draw(7, &overrides), Planted::NONE, Tracer::silent())
    }

    /// Who leads each group, in the latest term of which there is a leader that has committed something.
    fn leaders(world: &World<Node>) -> BTreeMap<GroupId, NodeId> {
        let statuses = world.statuses();
        let mut leaders = BTreeMap::new();
        for status in &statuses {
            for of in status.groups.iter().filter(|of| of.role == Role::Leader) {
                let newest = leaders.entry(of.group).or_insert((of.term, status.node));
                *newest = (of.term, status.node).max(*newest);
            }
        }
        leaders.into_iter().map(|(group, (_, node))| (group, node)).collect()
    }

    #[test]
    fn an_invitation_that_was_long_on_its_way_is_no_unseating() {
        let mut world = world(Crash::Kill);
        let invites = |body| {
            let message = Message { term: Term(1), incarnation: Incarnation(1), body };
            PeerMessage::from(Head::Raft(vec![(GroupId(3), message)]))
        };
        run(&mut world, 8_000);
        world.hear_invitations(&invites(Body::Nudge));
        assert!(!world.was_handed_over(GroupId(3)), "offered long ago, if at all");
        world.hear_invitations(&invites(Body::TimeoutNow));
        assert!(world.was_handed_over(GroupId(3)) && !world.was_handed_over(GroupId(4)));
    }

    fn run(world: &mut World<Node>, millis: u64) {
        assert_eq!(world.run(millis * MILLI, |_| false), None);
    }

    /// Who should lead each group among these nodes.
    fn wanted(nodes: &[u32]) -> BTreeMap<GroupId, NodeId> {
        let members: Vec<Member> = nodes.iter().copied().map(NodeId).map(Member::new).collect();
        let groups = (0..=u32::from(SHARDS)).map(GroupId);
        groups.map(|group| (group, ranked(group, &members, 1)[0])).collect()
    }

    #[test]
    fn leaders_spread_over_the_nodes_and_come_back_to_who_was_away() {
        let mut world = world(Crash::Kill);
        run(&mut world, 8_900);
        assert_eq!(leaders(&world), wanted(&[1, 2, 3]));
        run(&mut world, 11_900);
        assert!(leaders(&world).values().all(|node| *node != AWAY));
        run(&mut world, 18_000);
        assert_eq!(leaders(&world), wanted(&[1, 2, 3]));
        let handed = world.stats.rare.get("leader-handed-over").copied().unwrap_or(0);
        let most = 2 * u64::from(SHARDS);
        assert!((8..most).contains(&handed), "{handed} times: no group moves to and fro");
    }

    /// All groups sleep when the operator stops the node. Nobody waits for an election timeout, nor for a heartbeat.
    #[test]
    fn who_stops_gives_its_sleeping_groups_to_who_should_lead_them_without_it() {
        let mut world = world(Crash::Stop);
        run(&mut world, 8_999);
        let asleep = world.statuses().iter().all(|status| status.groups.len() > 30);
        assert!(asleep && leaders(&world) == wanted(&[1, 2, 3]));
        let mut millis = 9_000;
        while leaders(&world) != wanted(&[1, 3]) {
            millis += 1;
            run(&mut world, millis);
            assert!(millis < 9_020, "{} ms: {:?}", millis - 9_000, leaders(&world));
        }
        assert!(millis > 9_001, "it led nothing");
    }
}
