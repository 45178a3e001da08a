//! Who should lead: leaders spread over the nodes, and come back to a node that was away.
//!
//! Elections are won by whoever is first, so after a restart a node leads nothing, and the others do its part. Placement ranks the
//! voters of each group ([`placement::ranked`]): over all groups each is first in its share, and where the first is away the
//! second is another node in each. Whoever leads a group hands it to the first of those that are there.
//!
//! - Not before it has led for a while, and the other has been there for as long: who comes and goes is not waited for, and
//!   what was just elected serves first.
//! - A few groups at a time: each is without a leader for as long as a vote takes. A restart is undone in seconds.
//! - Only to a follower that has nearly everything. Where that fails it is tried again much later.
//!
//! A node that stops hands its groups over by the same order, so that they need not move again.

use super::post::{Post, ReplicaInput};
use super::replica::Replica;
use super::running::Running;
use crate::machine::{Duration, Instant};
use crate::shard::placement::{self, Member};
use crate::types::{GroupId, NodeId};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Groups handed over in one look.
const HANDED_OVER: usize = 4;
/// Groups looked at in one look.
const LOOKED_AT: usize = 64;
/// So many election timeouts a leader has led, and the other node has been there.
const SETTLED_ELECTIONS: u64 = 10;

/// What a node remembers of handing groups over.
#[derive(Clone, Debug, Default)]
pub(super) struct Leading {
    /// The group after which the next look begins.
    last: GroupId,
}

/// Who of the group's voters should lead it, as long as these are not there.
pub(super) fn first(
    group: GroupId,
    voters: &[NodeId],
    absent: &BTreeSet<NodeId>,
) -> Option<NodeId> {
    let there = voters.iter().filter(|node| !absent.contains(node));
    let members: Vec<Member> = there.copied().map(Member::new).collect();
    placement::ranked(group, &members, 1).first().copied()
}

impl Running {
    /// Hands some groups to those who should lead them. A look at a bounded number of groups.
    pub(super) fn hand_over_some(&mut self, me: NodeId, election: Duration, now: Instant) {
        let settled = election * SETTLED_ELECTIONS;
        let absent = self.peers.unsettled(now, settled).collect();
        let after = self.leading.last;
        let later = self.replicas.range(after..).filter(|(group, _)| **group > after);
        let all = later.chain(self.replicas.range(..=after));
        let (mut posts, mut last) = (Vec::new(), after);
        for (group, replica) in all.take(LOOKED_AT) {
            if posts.len() >= HANDED_OVER {
                break;
            }
            last = *group;
            if !replica.may_hand_over(now, settled) {
                continue;
            }
            let voters = replica.raft.configuration().voters();
            if let Some(node) = first(*group, &voters, &absent).filter(|node| *node != me) {
                posts.push(Post::Replica(*group, ReplicaInput::HandOver(node)));
            }
        }
        self.leading.last = last;
        posts.into_iter().for_each(|post| self.push(post));
    }

    /// The node stops: every group goes to whoever should lead it without this node.
    pub(super) fn hand_over_all(&mut self, me: NodeId) {
        let mut absent: BTreeSet<NodeId> = self.peers.lost().collect();
        absent.insert(me);
        let prefer = |(group, replica): (&GroupId, &Replica)| {
            let voters = replica.raft.configuration().voters();
            (*group, first(*group, &voters, &absent))
        };
        let preferred: Vec<(GroupId, Option<NodeId>)> = self.replicas.iter().map(prefer).collect();
        for (group, prefer) in preferred {
            self.push(Post::Replica(group, ReplicaInput::Stop { prefer }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec;

    fn led(nodes: u32, absent: &[u32]) -> BTreeMap<NodeId, u32> {
        let voters: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let absent = absent.iter().copied().map(NodeId).collect();
        let mut led = BTreeMap::new();
        for group in 0..256 {
            let first = first(GroupId(group), &voters, &absent);
            *led.entry(first.unwrap_or_default()).or_default() += 1;
        }
        led
    }

    #[test]
    fn groups_spread_over_the_nodes_that_are_there() {
        for (nodes, absent) in [(3, vec![]), (3, vec![2]), (5, vec![]), (5, vec![1, 4])] {
            let led = led(nodes, &absent);
            let there = nodes - u32::try_from(absent.len()).unwrap_or(0);
            assert_eq!(u32::try_from(led.len()), Ok(there), "{led:?}");
            let share = 256 / there;
            let even = |count: &u32| (share * 2 / 3..=share * 4 / 3).contains(count);
            assert!(led.values().all(even), "{led:?} without {absent:?}");
        }
        assert_eq!(first(GroupId(1), &[NodeId(1)], &BTreeSet::from([NodeId(1)])), None);
    }

    /// What the others lead stays where it is when one goes.
    #[test]
    fn only_the_groups_of_who_is_away_move() {
        let voters = [1, 2, 3].map(NodeId);
        for group in (0..256).map(GroupId) {
            let all = first(group, &voters, &BTreeSet::new());
            let without = first(group, &voters, &BTreeSet::from([NodeId(3)]));
            assert!(all == Some(NodeId(3)) || all == without, "{group:?}");
        }
    }
}
