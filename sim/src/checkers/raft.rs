//! What Raft promises (figure 3 of the paper), from what the machines say of themselves.
//!
//! - **Election safety**: one leader at the most for a group and term.
//! - **State machine safety**: no two nodes commit different entries at one index. With the paper's log
//!   matching, an entry is named by its index and term.
//! - **Leader completeness**: the log of a leader of a later term has the last entry that is known to be
//!   committed, and so, with log matching, all before it.
//! - Terms and commit indexes of a replica never go back within a boot; what is applied is committed.
//! - Equal applied indexes have equal state hashes.
//!
//! Machines say more as they grow: [`super::oracles`] translates, and this file knows no machine.

use super::Violation;
use ironseed_core::types::{GroupId, Index, NodeId, Position, Term};
use std::collections::BTreeMap;

/// Something that a replica said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It has become the leader.
    Leads {
        /// Of this term.
        term: Term,
    },
    /// It is in this term now.
    Term {
        /// Which one.
        term: Term,
    },
    /// It knows that this entry is committed.
    Committed {
        /// Which one.
        position: Position,
    },
    /// It says that this entry is committed, whatever its own commit index.
    Entry {
        /// Which one.
        position: Position,
    },
    /// It has applied everything up to here, and this is its state.
    State {
        /// The applied index.
        applied: Index,
        /// The state's hash.
        hash: u128,
    },
    /// Its state is damaged: another's takes its place, which may be older than what it had applied.
    StateLost,
}

/// What is known of all groups.
#[derive(Clone, Debug, Default)]
pub struct Raft {
    leaders: BTreeMap<(GroupId, Term), NodeId>,
    committed: BTreeMap<(GroupId, Index), (Term, NodeId)>,
    states: BTreeMap<(GroupId, Index), (u128, NodeId)>,
    replicas: BTreeMap<(NodeId, GroupId), Replica>,
    /// The last entry of each group that is known to be committed, and the term of who said so: at the latest
    /// in that term it was.
    newest: BTreeMap<GroupId, (Position, Term)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Replica {
    term: Term,
    committed: Index,
    applied: Index,
    /// The last term that it has led in this boot.
    led: Term,
}

impl Raft {
    /// Nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            states: BTreeMap::new(),
            replicas: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    /// A node has lost its volatile state: what it says may go back to what is durable.
    pub fn booted(&mut self, node: NodeId) {
        for ((_, _), replica) in
            self.replicas.range_mut((node, GroupId(0))..=(node, GroupId(u32::MAX)))
        {
            // A machine says that it stands for election before its new term is durable, which is no promise
            // to anybody: a crash may take it back.
            replica.term = Term(0);
            replica.committed = Index(0);
            replica.applied = Index(0);
            replica.led = Term(0);
        }
    }

    /// Takes one observation in.
    pub fn observe(
        &mut self,
        at: u64,
        node: NodeId,
        group: GroupId,
        observation: Observation,
    ) -> Option<Violation> {
        let replica = self.replicas.entry((node, group)).or_default();
        let wrong = match observation {
            Observation::Leads { term } => {
                let leader = *self.leaders.entry((group, term)).or_insert(node);
                let back = replica.term > term;
                replica.term = replica.term.max(term);
                replica.led = term;
                if leader != node {
                    Some(format!("{leader:?} and {node:?} both lead {group:?} in {term:?}"))
                } else {
                    back.then(|| format!("{node:?} leads {group:?} in {term:?}, which is over"))
                }
            }
            Observation::Term { term } => {
                let before = replica.term;
                replica.term = before.max(term);
                (before > term)
                    .then(|| format!("{node:?} went back from {before:?} to {term:?} in {group:?}"))
            }
            Observation::Committed { position } | Observation::Entry { position } => {
                let watermark = matches!(observation, Observation::Committed { .. });
                let back = watermark && position.index < replica.committed;
                if watermark {
                    replica.committed = position.index.max(replica.committed);
                }
                // Whoever has lost its term with a crash says nothing of when it was.
                let known = self.newest.get(&group).map_or(Index(0), |(known, _)| known.index);
                if position.index > known && replica.term >= position.term {
                    self.newest.insert(group, (position, replica.term));
                }
                let mine = (position.term, node);
                let (term, other) = *self.committed.entry((group, position.index)).or_insert(mine);
                if term != position.term {
                    Some(format!(
                        "{group:?} committed {position:?} on {node:?} and {term:?} on {other:?} there"
                    ))
                } else {
                    back.then(|| format!("{node:?} went back to {position:?} in {group:?}"))
                }
            }
            Observation::State { applied, hash } => {
                let back = applied < replica.applied;
                replica.applied = applied.max(replica.applied);
                let (known, other) = *self.states.entry((group, applied)).or_insert((hash, node));
                if known != hash {
                    Some(format!("{node:?} and {other:?} differ in {group:?} at {applied:?}"))
                } else {
                    back.then(|| format!("{node:?} applied {applied:?} of {group:?} again"))
                }
            }
            Observation::StateLost => {
                replica.applied = Index(0);
                None
            }
        };
        wrong.map(|what| Violation::new("raft", at, what))
    }

    /// Who leads or led in this term, if it has not gone on to another nor booted since: what it had not synced by then
    /// is gone, and those who have it of an earlier boot are right to say so.
    #[must_use]
    pub fn leads_still(&self, group: GroupId, term: Term) -> Option<NodeId> {
        let leader = *self.leaders.get(&(group, term))?;
        let replica = self.replicas.get(&(leader, group))?;
        (replica.term == term && replica.led == term).then_some(leader)
    }

    /// The last entry of a group that is known to be committed.
    #[must_use]
    pub fn newest(&self, group: GroupId) -> Option<Position> {
        self.newest.get(&group).map(|(position, _)| *position)
    }

    /// A node has begun to lead in this term. `lacks` says whether an entry is missing from its log.
    pub fn complete(
        &self,
        at: u64,
        node: NodeId,
        group: GroupId,
        term: Term,
        lacks: impl Fn(Position) -> bool,
    ) -> Option<Violation> {
        let (committed, by) = *self.newest.get(&group)?;
        (by < term && lacks(committed)).then(|| {
            let what = format!(
                "{node:?} leads {group:?} in {term:?} without {committed:?}, committed by {by:?}"
            );
            Violation::new("raft", at, what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: GroupId = GroupId(3);

    fn committed(term: u64, index: u64) -> Observation {
        Observation::Committed { position: Position { term: Term(term), index: Index(index) } }
    }

    #[track_caller]
    fn check(steps: &[(u32, Observation)], wrong: bool) {
        let mut raft = Raft::default();
        let mut last = None;
        for (node, observation) in steps {
            assert_eq!(last, None, "wrong too early");
            last = raft.observe(7, NodeId(*node), G, *observation);
        }
        assert_eq!(last.is_some(), wrong, "{last:?}");
    }

    #[test]
    fn a_term_has_one_leader() {
        let leads = |term| Observation::Leads { term: Term(term) };
        check(&[(1, leads(1)), (2, leads(2)), (1, leads(3))], false);
        check(&[(1, leads(1)), (2, leads(1))], true);
        check(&[(1, Observation::Term { term: Term(4) }), (1, leads(3))], true);
    }

    #[test]
    fn an_index_has_one_committed_entry() {
        check(&[(1, committed(1, 5)), (2, committed(1, 5)), (2, committed(2, 6))], false);
        check(&[(1, committed(1, 5)), (2, committed(2, 5))], true);
        check(&[(1, committed(1, 5)), (1, committed(1, 4))], true);
    }

    #[test]
    fn a_leader_of_a_later_term_has_what_was_committed() {
        let mut raft = Raft::default();
        let leads = Observation::Leads { term: Term(3) };
        assert_eq!(raft.observe(1, NodeId(1), G, leads), None);
        assert_eq!(raft.observe(2, NodeId(1), G, committed(2, 5)), None);
        let complete = |term, lacks| raft.complete(3, NodeId(2), G, Term(term), |_| lacks);
        assert_eq!(complete(4, false), None);
        assert_eq!(complete(3, true), None, "it may have been elected before");
        assert!(complete(4, true).is_some_and(|wrong| wrong.checker == "raft"));
    }

    #[test]
    fn whose_log_a_term_is_judged_by_is_the_leader_of_this_boot() {
        let (mut raft, node) = (Raft::default(), NodeId(1));
        let leads = |term| Observation::Leads { term: Term(term) };
        let in_term = |term| Observation::Term { term: Term(term) };
        assert_eq!(raft.leads_still(G, Term(3)), None);
        assert_eq!(raft.observe(1, node, G, leads(3)), None);
        assert_eq!(raft.observe(2, node, G, in_term(3)), None, "it has stepped down");
        assert_eq!(raft.leads_still(G, Term(3)), Some(node));
        raft.booted(node);
        assert_eq!(
            raft.observe(3, node, G, in_term(3)),
            None,
            "it has lost what it had not synced"
        );
        assert_eq!(raft.leads_still(G, Term(3)), None);
        assert_eq!(raft.observe(4, node, G, leads(4)), None);
        assert_eq!(raft.leads_still(G, Term(4)), Some(node));
        assert_eq!(raft.observe(5, node, G, in_term(5)), None);
        assert_eq!(raft.leads_still(G, Term(4)), None);
    }

    #[test]
    fn equal_indexes_have_equal_states() {
        let state = |applied, byte| Observation::State { applied: Index(applied), hash: byte };
        check(&[(1, state(5, 1)), (2, state(5, 1)), (2, state(6, 2))], false);
        check(&[(1, state(5, 1)), (2, state(5, 2))], true);
        check(&[(1, state(5, 1)), (1, state(4, 2))], true);
        check(&[(1, state(5, 1)), (1, Observation::StateLost), (1, state(4, 2))], false);
        check(&[(2, state(4, 1)), (1, Observation::StateLost), (1, state(4, 2))], true);
    }

    #[test]
    fn a_boot_forgets_indexes_and_terms_but_not_who_led() {
        let mut raft = Raft::default();
        let node = NodeId(1);
        assert_eq!(raft.observe(1, node, G, committed(4, 9)), None);
        assert_eq!(raft.observe(1, node, G, Observation::Term { term: Term(4) }), None);
        raft.booted(node);
        assert_eq!(raft.observe(2, node, G, committed(4, 9)), None);
        assert_eq!(raft.observe(2, node, G, Observation::Term { term: Term(3) }), None);
        let leads = Observation::Leads { term: Term(4) };
        assert_eq!(raft.observe(3, node, G, leads), None);
        raft.booted(node);
        assert!(raft.observe(4, NodeId(2), G, leads).is_some());
    }
}
