//! When leaders ask whether they still lead: many groups at once.
//!
//! A read waits for a quorum's word. If every read asked for it, a busy node would spend most of its time on that.
//! So one round is under way at a time, over all groups that have reads; what is asked meanwhile waits
//! for the next, as writes wait for the log's next batch. A lone read finds no round under way and
//! waits for nobody. A round begins at a timer, never with the read that wants it: what else has arrived by then, which
//! the driver hands in before it looks at the time, goes with it.
//!
//! A round asks peers for their support ([`super::super::support`]): as many as a quorum of each group needs, and the
//! others when those don't answer soon or don't suffice. Groups for which all of them can't be enough, or turn out
//! not to be, ask their followers with heartbeats.

use super::super::support::Support;
use super::*;

/// A round that takes longer doesn't hold the next one up: some group in it may have lost its quorum.
const ROUND_MAX: Duration = Duration::from_millis(1);

/// A peer that takes longer to answer is late: the others are asked, and before it from then on.
const ANSWER_MAX: Duration = Duration::from_millis(5);

/// The groups with reads to confirm.
#[derive(Clone, Debug)]
pub(super) struct Rounds {
    /// How long a question is open before followers are asked otherwise.
    patience: Duration,
    waiting: BTreeSet<GroupId>,
    underway: BTreeSet<GroupId>,
    /// When the next begins at the latest.
    next_at: Instant,
    /// The last round. Counts up from 1.
    number: u64,
    /// Questions that are open, by their round.
    open: BTreeMap<u64, Question>,
    /// When a peer was late last.
    late: BTreeMap<NodeId, Instant>,
}

/// A question for support.
#[derive(Clone, Debug)]
struct Question {
    /// Of these groups reads wait for it.
    groups: BTreeSet<GroupId>,
    asked: BTreeSet<NodeId>,
    /// Who may be asked as well.
    spared: BTreeSet<NodeId>,
    said: BTreeMap<NodeId, Support>,
    begun: Instant,
}

impl Question {
    const fn new(begun: Instant) -> Self {
        Self {
            groups: BTreeSet::new(),
            asked: BTreeSet::new(),
            spared: BTreeSet::new(),
            said: BTreeMap::new(),
            begun,
        }
    }

    /// When something has to be done about it.
    fn due(&self, patience: Duration) -> Instant {
        self.begun + if self.spared.is_empty() { patience } else { ANSWER_MAX }
    }
}

impl Rounds {
    pub(super) const fn new(heartbeat: Duration) -> Self {
        Self {
            patience: if heartbeat.0 > ANSWER_MAX.0 { heartbeat } else { ANSWER_MAX },
            waiting: BTreeSet::new(),
            underway: BTreeSet::new(),
            next_at: Instant(0),
            number: 0,
            open: BTreeMap::new(),
            late: BTreeMap::new(),
        }
    }

    /// A group has a read.
    pub(super) fn ask(&mut self, group: GroupId) {
        self.waiting.insert(group);
    }

    /// A group's reads are confirmed, or refused.
    pub(super) fn end(&mut self, group: GroupId) {
        self.underway.remove(&group);
    }

    /// When the next round begins, or a question of an earlier one has to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let at = if self.underway.is_empty() { Instant(0) } else { self.next_at };
        let next = (!self.waiting.is_empty()).then_some(at);
        let open = self.open.values().map(|question| question.due(self.patience));
        next.into_iter().chain(open).min()
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

    /// Has a group's quorum asked: `supporters` of whom so many are `needed`. Those first who have not been late for
    /// longest; and of equals, every leader has others in mind.
    fn choose(
        &self,
        me: NodeId,
        (supporters, needed): (impl Iterator<Item = NodeId>, usize),
        question: &mut Question,
    ) {
        let mut nodes: Vec<NodeId> = supporters.collect();
        let late = |node: &NodeId| self.late.get(node).copied().unwrap_or_default();
        nodes.sort_by_key(|node| (late(node), node.0.wrapping_sub(me.0)));
        let known = nodes.iter().filter(|node| question.asked.contains(node)).count();
        let mut missing = needed.saturating_sub(known);
        for node in nodes {
            if !question.asked.contains(&node) && missing > 0 {
                question.asked.insert(node);
                question.spared.remove(&node);
                missing -= 1;
            } else if !question.asked.contains(&node) {
                question.spared.insert(node);
            }
        }
    }
}

impl Running {
    /// Begins the next round, if it is time.
    pub(super) fn begin_round(&mut self, config: &Config, now: Instant, effects: &mut Vec<Effect>) {
        let mut question = Question::new(now);
        let begun = self.rounds.begin(now);
        let round = self.rounds.number;
        for group in begun {
            let replica = self.replicas.get(&group).filter(|replica| replica.may_be_supported());
            let Some(replica) = replica else {
                self.push(Post::Replica(group, ReplicaInput::Confirm));
                continue;
            };
            self.rounds.choose(config.me, replica.supporters(), &mut question);
            question.groups.insert(group);
            self.push(Post::Replica(group, ReplicaInput::AwaitSupport { round }));
        }
        if !question.groups.is_empty() {
            self.ask_support(round, &question.asked, effects);
            self.rounds.open.insert(round, question);
        }
    }

    fn ask_support(&self, number: u64, peers: &BTreeSet<NodeId>, effects: &mut Vec<Effect>) {
        let round = CallId { incarnation: self.superblock.incarnation, number };
        for to in peers {
            let message = Head::SupportQuery { round }.into();
            effects.push(Effect::Send { to: *to, message });
        }
    }

    /// A peer's word, in answer to a question of this boot.
    pub(super) fn on_support(
        &mut self,
        from: NodeId,
        round: u64,
        support: Support,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut question) = self.rounds.open.remove(&round) else { return };
        question.said.insert(from, support);
        let (replicas, said) = (&self.replicas, &question.said);
        let supported =
            |group: &GroupId| replicas.get(group).is_some_and(|replica| replica.is_supported(said));
        let confirmed: Vec<GroupId> = question.groups.extract_if(.., |it| supported(it)).collect();
        for group in confirmed {
            self.push(Post::Replica(group, ReplicaInput::Supported { round }));
        }
        if question.groups.is_empty() {
            return;
        }
        if question.said.len() == question.asked.len() {
            self.go_on_asking(round, question, effects);
        } else {
            self.rounds.open.insert(round, question);
        }
    }

    /// Those who were asked did not answer in time, or not well enough.
    fn go_on_asking(&mut self, round: u64, mut question: Question, effects: &mut Vec<Effect>) {
        let more = core::mem::take(&mut question.spared);
        if more.is_empty() {
            for group in question.groups {
                self.push(Post::Replica(group, ReplicaInput::Unsupported { round }));
            }
            return;
        }
        self.ask_support(round, &more, effects);
        question.asked.extend(more);
        self.rounds.open.insert(round, question);
    }

    /// Looks after questions that should have been answered by now.
    pub(super) fn expire_rounds(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let patience = self.rounds.patience;
        let due = |_: &u64, question: &mut Question| question.due(patience) <= now;
        let late: Vec<(u64, Question)> = self.rounds.open.extract_if(.., due).collect();
        for (round, question) in late {
            let silent = question.asked.iter().filter(|node| !question.said.contains_key(node));
            self.rounds.late.extend(silent.map(|node| (*node, now)));
            self.go_on_asking(round, question, effects);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);
    const PATIENCE: Duration = Duration::from_millis(100);

    #[test]
    fn what_comes_during_a_round_waits_for_the_next() {
        let mut rounds = Rounds::new(PATIENCE);
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
        let mut rounds = Rounds::new(PATIENCE);
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

    #[test]
    fn no_more_peers_are_asked_than_a_quorum_needs_and_who_was_late_is_spared() {
        let (me, n2, n3, n4) = (NodeId(1), NodeId(2), NodeId(3), NodeId(4));
        let mut rounds = Rounds::new(PATIENCE);
        let chosen = |rounds: &Rounds, groups: &[&[NodeId]]| {
            let mut question = Question::new(Instant(0));
            for group in groups {
                rounds.choose(me, (group.iter().copied(), 1), &mut question);
            }
            assert!(question.asked.is_disjoint(&question.spared));
            question.asked
        };
        assert_eq!(chosen(&rounds, &[&[n2, n3]]), BTreeSet::from([n2]));
        assert_eq!(chosen(&rounds, &[&[n2, n3], &[n3, n2]]), BTreeSet::from([n2]));
        assert_eq!(chosen(&rounds, &[&[n2, n3], &[n3, n4]]), BTreeSet::from([n2, n3]));
        rounds.late.insert(n2, Instant(7));
        assert_eq!(chosen(&rounds, &[&[n2, n3]]), BTreeSet::from([n3]));
        rounds.late.insert(n3, Instant(8));
        assert_eq!(chosen(&rounds, &[&[n2, n3]]), BTreeSet::from([n2]));
    }
}
