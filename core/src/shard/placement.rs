//! Which nodes hold a group: weighted rendezvous hashing (HRW) over failure domains.
//!
//! Every node draws a lot for every group, `-ln(u) / weight` with `u` uniform in (0, 1] by hash; the
//! lowest lots win. So a node gets groups in proportion to its weight, and when one leaves, only its
//! own groups move (Schindelhauer and Schomaker, *Weighted distributed hash tables*, 2005).
//!
//! No two replicas share a zone while there is an unused one; then zones are used a second time, and
//! so on.
//!
//! The logarithm is computed in integers, bit by bit: a platform's floating-point rounding must not
//! decide where data is.

use crate::types::{GroupId, NodeId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// A failure domain: nodes that may fail together, such as a rack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(pub u32);

/// A node that groups can be placed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its failure domain.
    pub zone: Zone,
    /// Its share relative to the others'; 0 for nothing more.
    pub weight: u32,
}

impl Member {
    /// A node of weight 1 in a zone of its own.
    #[must_use]
    pub const fn new(node: NodeId) -> Self {
        Self { node, zone: Zone(node.0), weight: 1 }
    }
}

/// How many members the meta group has among `nodes` nodes: the largest odd number up to 7. It is
/// written rarely and everything hangs on it, so it may be larger than the shards' groups.
#[must_use]
pub const fn meta_replicas(nodes: usize) -> usize {
    match nodes {
        0 => 0,
        1 | 2 => 1,
        3 | 4 => 3,
        5 | 6 => 5,
        _ => 7,
    }
}

/// The voters of a group, sorted: `replication` of the members, or as many as there are with a weight.
#[must_use]
pub fn replicas(group: GroupId, members: &[Member], replication: usize) -> Vec<NodeId> {
    let mut nodes = ranked(group, members, replication);
    nodes.sort_unstable();
    nodes
}

/// As [`replicas`], best first: who should lead, other things being equal.
#[must_use]
pub fn ranked(group: GroupId, members: &[Member], replication: usize) -> Vec<NodeId> {
    let drawn = members.iter().filter(|member| member.weight > 0);
    let mut lots: Vec<Lot> = drawn.map(|member| Lot::draw(group, *member)).collect();
    lots.sort_unstable_by(Lot::compare);
    let mut used = BTreeMap::<Zone, u32>::new();
    let mut chosen = Vec::new();
    while chosen.len() < replication {
        let uses = |lot: &Lot| used.get(&lot.member.zone).copied().unwrap_or(0);
        // The first of the least: lots stand in their order.
        let best = lots.iter().enumerate().min_by_key(|(at, lot)| (uses(lot), *at));
        let Some((at, _)) = best else { break };
        let Member { node, zone, .. } = lots.remove(at).member;
        *used.entry(zone).or_default() += 1;
        chosen.push(node);
    }
    chosen
}

/// A node's lot for one group.
#[derive(Clone, Copy, Debug)]
struct Lot {
    member: Member,
    /// `-log2(u)` with 32 fractional bits. The base makes no difference to the order.
    length: u64,
}

impl Lot {
    fn draw(group: GroupId, member: Member) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"ironseed placement 1");
        hasher.update(&group.0.to_le_bytes());
        hasher.update(&member.node.0.to_le_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        Self { member, length: neg_log2(u64::from_le_bytes([a, b, c, d, e, f, g, h])) }
    }

    /// Orders by length over weight, and by node where those are equal.
    fn compare(&self, other: &Self) -> Ordering {
        let mine = u128::from(self.length) * u128::from(other.member.weight);
        let theirs = u128::from(other.length) * u128::from(self.member.weight);
        mine.cmp(&theirs).then(self.member.node.cmp(&other.member.node))
    }
}

/// `-log2((hash + 1) / 2^64)` with 32 fractional bits, rounded up: from 0 to 64.
fn neg_log2(hash: u64) -> u64 {
    let Some(x) = hash.checked_add(1) else { return 0 };
    let shift = x.leading_zeros();
    let mut log = u64::from(63 - shift);
    // x = 2^log * mantissa / 2^63, with the mantissa in [2^63, 2^64). Squaring doubles its logarithm:
    // each time it passes 2, the next binary digit is 1.
    let mut mantissa = u128::from(x << shift);
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        let digit = u64::from(mantissa >= 1 << 64);
        mantissa >>= digit;
        log = log << 1 | digit;
    }
    (64 << 32) - log
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test that is wrong may panic")]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    fn members(nodes: u32) -> Vec<Member> {
        (1..=nodes).map(NodeId).map(Member::new).collect()
    }

    /// How many of `groups` groups each node holds.
    fn held(members: &[Member], groups: u32, replication: usize) -> BTreeMap<NodeId, u32> {
        let mut held = BTreeMap::new();
        for group in 0..groups {
            for node in replicas(GroupId(group), members, replication) {
                *held.entry(node).or_default() += 1;
            }
        }
        held
    }

    #[test]
    fn the_logarithm_is_exact_to_its_last_digits() {
        assert_eq!(neg_log2(u64::MAX), 0);
        for bit in 0..64 {
            assert_eq!(neg_log2((1 << bit) - 1), (64 - bit) << 32);
        }
        // log2(3) = 1.58496250072115618...
        let log2_of_3 = 6_807_362_106_u64;
        assert!(neg_log2(2).abs_diff((64 << 32) - log2_of_3) <= 1);
        let mut rng = crate::rng::Rng::new(1);
        for _ in 0..10_000 {
            let (a, b) = (rng.next(), rng.next());
            assert_eq!(a < b, neg_log2(a) > neg_log2(b), "{a} {b}");
        }
    }

    #[test]
    fn groups_are_dealt_evenly() {
        for nodes in [3, 4, 5, 7, 12] {
            let held = held(&members(nodes), 256, 3);
            let fair = 256 * 3 / nodes;
            for (node, count) in held {
                let tolerance = fair * 40 / 100;
                assert!(count.abs_diff(fair) <= tolerance, "{node:?} of {nodes} holds {count}");
            }
        }
    }

    #[test]
    fn a_node_holds_in_proportion_to_its_weight() {
        let mut members = members(10);
        for member in &mut members {
            member.weight = if member.node.0 <= 5 { 100 } else { 300 };
        }
        // One replica: with more, a heavy node can't be chosen twice for a group and so gets less.
        for (node, count) in held(&members, 20_000, 1) {
            let fair = if node.0 <= 5 { 1_000_u32 } else { 3_000 };
            assert!(count.abs_diff(fair) <= fair / 8, "{node:?} holds {count}");
        }
        members[0].weight = 0;
        assert_eq!(held(&members, 256, 3).get(&NodeId(1)), None);
        assert_eq!(replicas(GroupId(1), &members[..3], 3), [NodeId(2), NodeId(3)]);
    }

    #[test]
    fn only_the_groups_of_a_node_that_leaves_move() {
        let all = members(7);
        for leaver in &all {
            let rest: Vec<Member> = all.iter().copied().filter(|member| member != leaver).collect();
            for group in (0..257).map(GroupId) {
                let before = replicas(group, &all, 3);
                let after = replicas(group, &rest, 3);
                let stay: Vec<_> = before.iter().filter(|node| **node != leaver.node).collect();
                assert!(stay.iter().all(|node| after.contains(node)), "{before:?} {after:?}");
                assert_eq!(after.len(), 3);
            }
        }
    }

    #[test]
    fn replicas_share_a_zone_only_when_they_must() {
        let mut members = members(9);
        for member in &mut members {
            member.zone = Zone(member.node.0 % 3);
        }
        for group in (0..257).map(GroupId) {
            let zones = |replication| {
                let mut zones = [0; 3];
                replicas(group, &members, replication)
                    .iter()
                    .for_each(|node| zones[node.0 as usize % 3] += 1);
                zones.sort_unstable();
                zones
            };
            assert_eq!(zones(3), [1, 1, 1]);
            assert_eq!(zones(5), [1, 2, 2]);
        }
    }

    #[test]
    fn placement_never_changes() {
        let mut table = String::new();
        for group in (0..24).map(GroupId) {
            let sizes = [(3, 3), (5, 3), (12, 5)];
            let rows =
                sizes.map(|(nodes, count)| format!("{:?}", ranked(group, &members(nodes), count)));
            table += &format!("{group:?}: {}\n", rows.join(" "));
        }
        insta::assert_snapshot!(table);
    }
}
