//! What nodes ask each other so that replicas answer reads without leading (ADR 21): one question to a node, for all
//! groups that it leads and that have reads here.
//!
//! One question to a node is under way at a time; whatever comes meanwhile waits for the next, as in `rounds`, and like a
//! round it begins at a timer. What the answers are worth is the replicas' business (`replica/near`).

use super::*;
use crate::node::message::ReadIndex;

/// A question that takes longer doesn't hold the next one up: some group in it may have lost its quorum.
const QUESTION_MAX: Duration = Duration::from_millis(1);

/// Read indexes of groups, where there are any.
type Indexes = Vec<(GroupId, Option<ReadIndex>)>;

/// Questions to other nodes, and answers to theirs.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions {
    peers: BTreeMap<NodeId, Peer>,
    /// The last question. Counts up from 1.
    number: u64,
    /// What this step has to answer.
    answers: BTreeMap<(NodeId, CallId), Indexes>,
}

/// A node that is asked.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// Groups with reads in no question yet.
    waiting: BTreeSet<GroupId>,
    /// The question that is under way.
    question: u64,
    /// The groups of it that are not answered.
    open: BTreeSet<GroupId>,
    /// When the next one begins at the latest.
    next_at: Instant,
}

impl Peer {
    fn due(&self) -> Option<Instant> {
        let at = if self.open.is_empty() { Instant(0) } else { self.next_at };
        (!self.waiting.is_empty()).then_some(at)
    }
}

impl Questions {
    /// A group that this node leads, as it seems, has reads here.
    pub(super) fn want(&mut self, leader: NodeId, group: GroupId) {
        self.peers.entry(leader).or_default().waiting.insert(group);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(Peer::due).min()
    }

    /// The next question that begins now: to whom, its number, its groups.
    fn begin(&mut self, now: Instant) -> Option<(NodeId, u64, BTreeSet<GroupId>)> {
        let due = |(_, peer): &(_, &mut Peer)| peer.due().is_some_and(|at| at <= now);
        let (to, peer) = self.peers.iter_mut().find(due)?;
        self.number += 1;
        let groups = core::mem::take(&mut peer.waiting);
        peer.open.clone_from(&groups);
        (peer.question, peer.next_at) = (self.number, now + QUESTION_MAX);
        Some((*to, self.number, groups))
    }

    /// A node has answered for a group.
    fn answered(&mut self, from: NodeId, question: u64, group: GroupId) {
        if let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.question == question) {
            peer.open.remove(&group);
        }
    }

    /// Another node's question has an answer for a group.
    pub(super) fn answer(
        &mut self,
        to: NodeId,
        question: CallId,
        group: GroupId,
        index: Option<ReadIndex>,
    ) {
        self.answers.entry((to, question)).or_default().push((group, index));
    }

    /// What this step answers.
    pub(super) fn take_answers(&mut self, effects: &mut Vec<Effect>) {
        while let Some(((to, question), indexes)) = self.answers.pop_first() {
            let message = Head::IndexReply { question, indexes }.into();
            effects.push(Effect::Send { to, message });
        }
    }
}

impl Running {
    /// Begins the questions for which it is time.
    pub(super) fn begin_questions(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let incarnation = self.superblock.incarnation;
        while let Some((to, number, mut groups)) = self.questions.begin(now) {
            let wants = |group: &GroupId| {
                self.replicas.get(group).is_some_and(|replica| replica.wants_index_of(to))
            };
            for group in groups.extract_if(.., |group| !wants(group)) {
                self.questions.answered(to, number, group);
            }
            if groups.is_empty() {
                continue;
            }
            for group in &groups {
                self.push(Post::Replica(*group, ReplicaInput::IndexAsked { question: number }));
            }
            let message = Head::IndexQuery {
                question: CallId { incarnation, number },
                // Of this moment: no replica here has gone on to a later term since.
                support: Support { incarnation, epoch: self.support.epoch(to) },
                groups: groups.into_iter().collect(),
            };
            effects.push(Effect::Send { to, message: message.into() });
        }
    }

    /// A node asks how far groups are that this one leads, as it seems to it.
    pub(super) fn on_index_query(
        &mut self,
        from: NodeId,
        question: CallId,
        support: Support,
        groups: Vec<GroupId>,
    ) {
        for group in groups {
            if self.replicas.get(&group).is_some_and(|replica| !replica.is_retired()) {
                let input = ReplicaInput::IndexQuery { from, question, support };
                self.push(Post::Replica(group, input));
            } else {
                self.questions.answer(from, question, group, None);
            }
        }
    }

    /// A node answers a question of this boot.
    pub(super) fn on_index_reply(&mut self, from: NodeId, question: u64, indexes: Indexes) {
        for (group, index) in indexes {
            self.questions.answered(from, question, group);
            self.push(Post::Replica(group, ReplicaInput::IndexIs { question, index }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);
    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);

    #[test]
    fn what_comes_during_a_question_waits_for_the_next_to_that_node() {
        let mut questions = Questions::default();
        let now = Instant(5);
        assert!(questions.begin(now).is_none() && questions.deadline().is_none());
        questions.want(ONE, A);
        questions.want(ONE, A);
        assert!(questions.deadline() <= Some(now));
        assert_eq!(questions.begin(now), Some((ONE, 1, BTreeSet::from([A]))));
        questions.want(ONE, A);
        questions.want(ONE, B);
        assert_eq!(questions.deadline(), Some(now + QUESTION_MAX));
        assert!(questions.begin(now).is_none());
        questions.want(OTHER, B);
        assert_eq!(questions.begin(now), Some((OTHER, 2, BTreeSet::from([B]))), "another node");
        questions.answered(OTHER, 1, A);
        questions.answered(ONE, 2, A);
        assert!(questions.begin(now).is_none(), "none of these is the answer");
        questions.answered(ONE, 1, A);
        assert_eq!(questions.begin(now), Some((ONE, 3, BTreeSet::from([A, B]))));
        questions.answered(ONE, 1, A);
        questions.answered(ONE, 3, B);
        questions.want(ONE, B);
        assert!(questions.begin(now).is_none(), "a late answer, and half of one");
        assert_eq!(
            questions.begin(now + QUESTION_MAX),
            Some((ONE, 4, BTreeSet::from([B]))),
            "who does not answer holds nobody up"
        );
    }
}
