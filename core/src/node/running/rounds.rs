//! When groups ask their followers whether they still lead: many groups at once.
//!
//! A read waits for a round of heartbeats. If every read began its own, a busy node would spend most of its time
//! on them. So one round is under way at a time, over all groups that have reads; what is asked meanwhile waits
//! for the next, as writes wait for the log's next batch. A lone read finds no round under way and
//! waits for nobody.

use crate::machine::{Duration, Instant};
use crate::types::GroupId;
use alloc::collections::BTreeSet;

/// A round that takes longer doesn't hold the next one up: some group in it may have lost its quorum.
const ROUND_MAX: Duration = Duration::from_millis(1);

/// The groups with reads to confirm.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    waiting: BTreeSet<GroupId>,
    underway: BTreeSet<GroupId>,
    /// When the next begins at the latest.
    next_at: Instant,
}

impl Rounds {
    /// A group has a read.
    pub(super) fn ask(&mut self, group: GroupId) {
        self.waiting.insert(group);
    }

    /// A group's reads are confirmed, or refused.
    pub(super) fn end(&mut self, group: GroupId) {
        self.underway.remove(&group);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next_at)
    }

    /// The groups of the next round, if it begins now.
    pub(super) fn begin(&mut self, now: Instant) -> BTreeSet<GroupId> {
        if self.waiting.is_empty() || (!self.underway.is_empty() && now < self.next_at) {
            return BTreeSet::new();
        }
        let groups = core::mem::take(&mut self.waiting);
        self.underway.clone_from(&groups);
        self.next_at = now + ROUND_MAX;
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);

    #[test]
    fn what_comes_during_a_round_waits_for_the_next() {
        let mut rounds = Rounds::default();
        let now = Instant(5);
        assert!(rounds.begin(now).is_empty() && rounds.deadline().is_none());
        rounds.ask(A);
        assert_eq!(rounds.begin(now), BTreeSet::from([A]), "a lone read waits for nobody");
        rounds.ask(B);
        rounds.ask(A);
        assert!(rounds.begin(now).is_empty());
        rounds.end(A);
        assert_eq!(rounds.begin(now), BTreeSet::from([A, B]));
    }

    #[test]
    fn a_round_without_a_quorum_holds_the_next_up_for_a_while_only() {
        let mut rounds = Rounds::default();
        rounds.ask(A);
        assert_eq!(rounds.begin(Instant(0)).len(), 1);
        rounds.ask(B);
        let due = rounds.deadline().unwrap_or_default();
        assert_eq!(due, Instant(0) + ROUND_MAX);
        assert_eq!(rounds.begin(due), BTreeSet::from([B]));
        rounds.end(A);
        rounds.ask(A);
        assert!(rounds.begin(due).is_empty(), "the late one ends no other round");
    }
}
