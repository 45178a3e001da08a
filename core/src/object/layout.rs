//! The layout: where shards are that were moved, and how far their moves have come.
//!
//! A shard that was never moved is where rendezvous hashing puts it ([`placement`]), and has no entry. The meta group
//! decides where it shall be; its own log brings that about, member by member (docs/adr/0017):
//!
//! ```text
//!            move                 every new voter says that it is whole
//!   settled -----> voters, from ----------------------------------------> settled
//!                     |  ^
//!                     move back
//! ```
//!
//! Until a move is settled the nodes that the shard comes from keep what they have of it. Whoever is not among the voters
//! of a settled shard asks the meta group whether it may give its replica up ([`Layout::may_leave`]): only an answer that
//! is newer than the question proves that no later move wants it back.

use super::charter::Charter;
use crate::shard::placement::{self, Member};
use crate::types::{GroupId, NodeId, ShardId};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use core::fmt;

/// Where the shards are that were moved, the same on every node that knows this version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Layout {
    /// 0 as founded; rises with every move that begins or ends.
    pub version: u64,
    /// The shards that were moved.
    pub placed: BTreeMap<ShardId, Placed>,
}

/// Where a shard is that was moved.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Placed {
    /// The voters that it shall have, sorted.
    pub voters: Vec<NodeId>,
    /// While the move is under way: the voters that it had. Empty once it is settled.
    pub from: Vec<NodeId>,
    /// While the move is under way: the voters that have said that they hold all of it.
    pub whole: Vec<NodeId>,
    /// The version of the layout that began this move: what is said of another one counts for nothing.
    pub change: u64,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Move {
    /// Which shard.
    pub shard: ShardId,
    /// The voters that it shall have.
    pub to: Vec<NodeId>,
    /// The version of the layout that the operator has seen: of two who ask at once one is refused.
    pub version: u64,
}

/// Why a shard can't be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Immovable {
    /// There are so many shards.
    NoSuchShard(u16),
    /// It is not of this cluster.
    NoSuchNode(NodeId),
    /// A shard has so many different voters.
    Replication(u8),
    /// With one replica nobody could vouch for the new one.
    OnlyReplica,
    /// The layout has this version.
    Version(u64),
    /// It is being moved to these voters: wait, or move it back.
    UnderWay(Vec<NodeId>),
}

impl fmt::Display for Immovable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchShard(shards) => write!(f, "there are {shards} shards, numbered from 0"),
            Self::NoSuchNode(node) => write!(f, "there is no node {node}"),
            Self::Replication(count) => write!(f, "a shard has {count} different voters"),
            Self::OnlyReplica => f.write_str("shards with one replica can't be moved"),
            Self::Version(version) => {
                write!(f, "the layout has changed meanwhile: it has version {version}")
            }
            Self::UnderWay(voters) => {
                let nodes: Vec<String> = voters.iter().map(ToString::to_string).collect();
                write!(f, "the shard is being moved to {}: wait, or move it back", nodes.join(" "))
            }
        }
    }
}

/// The voters of a group that was never moved.
#[must_use]
pub fn home(charter: &Charter, group: GroupId) -> Vec<NodeId> {
    let members: Vec<Member> = charter.ids().map(Member::new).collect();
    placement::replicas(group, &members, usize::from(charter.replication))
}

impl Placed {
    /// Whether the move is over.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.from.is_empty()
    }

    /// Everyone who may have something of the shard, those first who shall.
    pub fn holders(&self) -> impl Iterator<Item = NodeId> {
        let others = self.from.iter().filter(|node| !self.voters.contains(node));
        self.voters.iter().chain(others).copied()
    }
}

impl Layout {
    /// The layout once this move has begun. Asking once more for the one that is under way, or was, changes nothing.
    ///
    /// # Errors
    /// See [`Immovable`].
    pub fn moving(&self, charter: &Charter, asked: &Move) -> Result<Self, Immovable> {
        let Move { shard, to, version } = asked;
        if shard.0 >= charter.shards {
            return Err(Immovable::NoSuchShard(charter.shards));
        }
        let mut voters = to.clone();
        voters.sort_unstable();
        voters.dedup();
        if let Some(stranger) = voters.iter().find(|node| charter.node(**node).is_none()) {
            return Err(Immovable::NoSuchNode(*stranger));
        }
        if to.len() != voters.len() || voters.len() != usize::from(charter.replication) {
            return Err(Immovable::Replication(charter.replication));
        }
        let placed = self.placed.get(shard);
        let now = placed.map_or_else(|| home(charter, shard.group()), |it| it.voters.clone());
        if now == voters {
            return Ok(self.clone());
        }
        if *version != self.version {
            return Err(Immovable::Version(self.version));
        }
        if charter.replication == 1 {
            return Err(Immovable::OnlyReplica);
        }
        if placed.is_some_and(|it| !it.is_settled() && it.from != voters) {
            return Err(Immovable::UnderWay(now));
        }
        let mut next = Self { version: self.version + 1, placed: self.placed.clone() };
        let placed = Placed { voters, from: now, whole: Vec::new(), change: next.version };
        next.placed.insert(*shard, placed);
        Ok(next)
    }

    /// The layout once `node` has said that it holds all of a shard that is being moved to it. `None` if that is no news.
    #[must_use]
    pub fn whole(&self, shard: ShardId, change: u64, node: NodeId) -> Option<Self> {
        let mut next = self.clone();
        let placed = next.placed.get_mut(&shard)?;
        let concerned = placed.change == change && placed.voters.contains(&node);
        if !concerned || placed.is_settled() || placed.whole.contains(&node) {
            return None;
        }
        placed.whole.push(node);
        if placed.whole.len() == placed.voters.len() {
            (placed.from, placed.whole) = (Vec::new(), Vec::new());
            next.version += 1;
        }
        Some(next)
    }

    /// Whether `node` may give up what it has of a shard: it was moved away, and nobody needs it there any more.
    #[must_use]
    pub fn may_leave(&self, shard: ShardId, node: NodeId) -> bool {
        self.placed.get(&shard).is_some_and(|it| it.is_settled() && !it.voters.contains(&node))
    }

    /// Whether a shard that was moved is to be at `node`.
    #[must_use]
    pub fn wants(&self, shard: ShardId, node: NodeId) -> bool {
        self.placed.get(&shard).is_some_and(|it| it.voters.contains(&node))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::object::charter::{Chartered, Founding};
    use crate::types::{ClusterId, StoreId};

    const SHARD: ShardId = ShardId(1);

    fn charter(nodes: u32, replication: u8) -> Charter {
        let founding = Founding {
            cluster: ClusterId([1; 16]),
            access_key: "root".into(),
            secret_key: "secret".into(),
        };
        let chartered =
            |node| Chartered { node: NodeId(node), store: StoreId([7; 16]), generation: 0 };
        let nodes = (1..=nodes).map(chartered).collect();
        Charter { founding, version: 0, nodes, shards: 4, replication }
    }

    fn ids(nodes: &[u32]) -> Vec<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    fn to(nodes: &[u32], version: u64) -> Move {
        Move { shard: SHARD, to: ids(nodes), version }
    }

    /// A node that has the shard at home, and one that hasn't.
    fn one_of_each(charter: &Charter) -> (Vec<u32>, u32) {
        let home: Vec<u32> = home(charter, SHARD.group()).iter().map(|node| node.0).collect();
        let other = (1..).find(|node| !home.contains(node)).unwrap();
        (home, other)
    }

    #[test]
    fn a_move_is_settled_once_every_new_voter_is_whole() {
        let charter = charter(4, 3);
        let (home, other) = one_of_each(&charter);
        let mut target = home.clone();
        target[0] = other;
        target.sort_unstable();
        let begun = Layout::default().moving(&charter, &to(&target, 0)).unwrap();
        let leaver = NodeId(home[0]);
        assert_eq!((begun.version, begun.placed[&SHARD].from.clone()), (1, ids(&home)));
        assert_eq!(begun.moving(&charter, &to(&target, 0)), Ok(begun.clone()), "asked again");
        assert!(!begun.may_leave(SHARD, leaver));
        let mut now = begun.clone();
        for (at, node) in ids(&target).into_iter().enumerate() {
            assert_eq!(now.whole(SHARD, 0, node), None, "of another move");
            assert_eq!(now.whole(SHARD, 1, leaver), None, "it is to go");
            assert!(!now.placed[&SHARD].is_settled(), "{at}");
            now = now.whole(SHARD, 1, node).unwrap();
            assert_eq!(now.whole(SHARD, 1, node), None, "once more");
        }
        assert!(now.placed[&SHARD].is_settled() && now.version == 2);
        assert!(now.may_leave(SHARD, leaver) && !now.may_leave(SHARD, NodeId(other)));
        assert!(now.wants(SHARD, NodeId(other)) && !now.wants(SHARD, leaver));
        // And home again.
        let back = now.moving(&charter, &to(&home, 2)).unwrap();
        assert!(!back.may_leave(SHARD, leaver) && back.wants(SHARD, leaver));
    }

    #[test]
    fn a_move_that_is_under_way_can_be_taken_back_and_nothing_else() {
        let charter = charter(5, 3);
        let (home, other) = one_of_each(&charter);
        let last = (1..).find(|node| !home.contains(node) && *node != other).unwrap();
        let with = |node| {
            let mut target = home.clone();
            target[0] = node;
            target
        };
        let begun = Layout::default().moving(&charter, &to(&with(other), 0)).unwrap();
        let third = begun.moving(&charter, &to(&with(last), 1));
        assert!(matches!(third, Err(Immovable::UnderWay(_))), "{third:?}");
        let back = begun.moving(&charter, &to(&home, 1)).unwrap();
        assert_eq!(back.placed[&SHARD].voters, ids(&home));
        assert!(back.placed[&SHARD].from.contains(&NodeId(other)));
    }

    #[test]
    fn what_can_t_be_done_is_refused_with_the_reason() {
        let four = charter(4, 3);
        let refused = |charter: &Charter, asked: Move| {
            Layout::default().moving(charter, &asked).unwrap_err().to_string()
        };
        let beyond = Move { shard: ShardId(4), ..to(&[1, 2, 3], 0) };
        let mut text = String::new();
        for (charter, asked) in [
            (&four, beyond),
            (&four, to(&[1, 2, 5], 0)),
            (&four, to(&[1, 2], 0)),
            (&four, to(&[1, 2, 2], 0)),
        ] {
            text += &refused(charter, asked);
            text += "\n";
        }
        let (home, other) = one_of_each(&charter(3, 1));
        assert_eq!(home.len(), 1);
        text += &refused(&charter(3, 1), to(&[other], 0));
        text += "\n";
        let (home, other) = one_of_each(&four);
        text += &refused(&four, to(&[other, home[1], home[2]], 7));
        insta::assert_snapshot!(text, @r"
        there are 4 shards, numbered from 0
        there is no node 5
        a shard has 3 different voters
        a shard has 3 different voters
        shards with one replica can't be moved
        the layout has changed meanwhile: it has version 0
        ");
    }
}
