//! When leaders ask whether they still lead: many groups at once.
//!
//! A read waits for a quorum's word. If every read asked for it, a busy node would spend most of its time on that.
//! So one round is under way at a time, over all groups that have reads; what is asked meanwhile waits
//! for the next, as writes wait for the log's next batch. A lone read finds no round under way and
//! waits for nobody. A round begins at a timer, never with the read that wants it: what else has arrived by then, which
//! the driver hands in before it looks at the time, goes with it.
//!
//! A round asks the peers' nodes for their support ([`super::super::support`]). Groups for which that can't be
//! enough, or turns out not to be, ask their followers with heartbeats.

use super::super::support::Support;
use super::*;

/// A round that takes longer doesn't hold the next one up: some group in it may have lost its quorum.
const ROUND_MAX: Duration = Duration::from_millis(1);

/// The groups with reads to confirm.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    waiting: BTreeSet<GroupId>,
    underway: BTreeSet<GroupId>,
    /// When the next begins at the latest.
    next_at: Instant,
    /// The last round. Counts up from 1.
    number: u64,
    /// Questions that are not answered by all, by their round.
    open: BTreeMap<u64, Question>,
}

/// A question for support.
#[derive(Clone, Debug)]
struct Question {
    /// Of these groups reads wait for it.
    groups: BTreeSet<GroupId>,
    /// How many peers were asked.
    asked: usize,
    said: BTreeMap<NodeId, Support>,
    /// Then the groups ask their followers.
    until: Instant,
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
        let at = if self.underway.is_empty() { Instant(0) } else { self.next_at };
        let next = (!self.waiting.is_empty()).then_some(at);
        // All questions are given the same time, so the first one is the first to be given up.
        let first = self.open.first_key_value().map(|(_, question)| question.until);
        next.into_iter().chain(first).min()
    }

    /// The groups of the next round, if it begins now.
    fn begin(&mut self, now: Instant) -> BTreeSet<GroupId> {
        if self.waiting.is_empty() || (!self.underway.is_empty() && now < self.next_at) {
            return BTreeSet::new();
        }
        let groups = core::mem::take(&mut self.waiting);
        self.underway.clone_from(&groups);
        self.next_at = now + ROUND_MAX;
        self.number += 1;
        groups
    }
}

impl Running {
    /// Begins the next round, if it is time.
    pub(super) fn begin_round(&mut self, config: &Config, now: Instant, effects: &mut Vec<Effect>) {
        let groups = self.rounds.begin(now);
        let number = self.rounds.number;
        let (mut supported, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        for group in groups {
            let replica = self.replicas.get(&group);
            if replica.is_some_and(Replica::may_be_supported) {
                supported.insert(group);
                nodes.extend(self.groups.get(&group).into_iter().flatten());
                self.push(Post::Replica(group, ReplicaInput::AwaitSupport { round: number }));
            } else {
                self.push(Post::Replica(group, ReplicaInput::Confirm));
            }
        }
        nodes.remove(&config.me);
        if nodes.is_empty() {
            return;
        }
        let round = CallId { incarnation: self.superblock.incarnation, number };
        for to in &nodes {
            let message = Head::SupportQuery { round }.into();
            effects.push(Effect::Send { to: *to, message });
        }
        let (asked, until) = (nodes.len(), now + config.tuning.heartbeat);
        let question = Question { groups: supported, asked, said: BTreeMap::new(), until };
        self.rounds.open.insert(number, question);
    }

    /// A peer's word, in answer to a question of this boot.
    pub(super) fn on_support(&mut self, from: NodeId, number: u64, support: Support) {
        let Some(mut question) = self.rounds.open.remove(&number) else { return };
        question.said.insert(from, support);
        let said = &question.said;
        let supported = |group: &GroupId| {
            self.replicas.get(group).is_some_and(|replica| replica.is_supported(said))
        };
        let confirmed: Vec<GroupId> = question.groups.extract_if(.., supported).collect();
        for group in confirmed {
            self.push(Post::Replica(group, ReplicaInput::Supported { round: number }));
        }
        if question.said.len() < question.asked && !question.groups.is_empty() {
            self.rounds.open.insert(number, question);
        } else {
            self.give_up(number, question);
        }
    }

    /// Gives up the questions that should have been answered by now.
    pub(super) fn expire_rounds(&mut self, now: Instant) {
        while let Some(first) = self.rounds.open.first_entry()
            && first.get().until <= now
        {
            let (number, question) = first.remove_entry();
            self.give_up(number, question);
        }
    }

    fn give_up(&mut self, round: u64, question: Question) {
        for group in question.groups {
            self.push(Post::Replica(group, ReplicaInput::Unsupported { round }));
        }
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
        assert!(rounds.deadline() <= Some(now));
        assert_eq!(rounds.begin(now), BTreeSet::from([A]), "a lone read waits for nobody");
        rounds.ask(B);
        rounds.ask(A);
        assert!(rounds.begin(now).is_empty() && rounds.deadline() > Some(now));
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
