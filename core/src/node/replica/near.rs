//! Reads that a replica answers without leading (ADR 21): it asks the leader how far the group is committed, waits until its own
//! state contains that, and answers.
//!
//! - One question is for all reads that wait. Whatever comes while it is under way is in the next one.
//! - An answer counts for what was asked by then, never for what was asked later: the leader was confirmed before that.
//! - Who asks gives its own word for the leader with the question ([`super::Support`]). Asker and leader are a quorum of three.
//! - What takes too long, and what the leader can't or won't say, goes on to the leader: the router asks it.
//! - An answer that lets its reader read a blob's chunks is the leader's to give, for only that one remembers who reads (ADR 9).

use super::*;
use crate::node::message::ReadIndex;
use alloc::collections::VecDeque;

/// At the most so many reads wait here. The others are for the leader.
const NEAR_MAX: usize = 4096;

/// Reads that wait for the word of another, and then for this replica's state.
#[derive(Clone, Debug)]
pub(super) struct Near<T> {
    /// In no question yet.
    asked: Vec<T>,
    /// In a question, oldest first.
    batches: VecDeque<Batch<T>>,
    count: usize,
}

/// Reads that one question was asked for.
#[derive(Clone, Debug)]
struct Batch<T> {
    question: u64,
    reads: Vec<T>,
    until: Instant,
    /// What the state has to contain, once that is known.
    index: Option<Index>,
    /// It did not when that became known.
    waits: bool,
}

impl<T> Default for Near<T> {
    fn default() -> Self {
        Self { asked: Vec::new(), batches: VecDeque::new(), count: 0 }
    }
}

impl<T> Near<T> {
    const fn len(&self) -> usize {
        self.count
    }

    /// A read waits for the next question. Whether it is the first that does.
    fn push(&mut self, read: T) -> bool {
        self.count += 1;
        self.asked.push(read);
        self.asked.len() == 1
    }

    const fn wants_question(&self) -> bool {
        !self.asked.is_empty()
    }

    /// All that has come so far is asked for.
    fn ask(&mut self, question: u64, until: Instant) {
        if self.wants_question() {
            let reads = core::mem::take(&mut self.asked);
            self.batches.push_back(Batch { question, reads, until, index: None, waits: false });
        }
    }

    /// A question is answered: it and those before it.
    fn confirm(&mut self, question: u64, index: Index, applied: Index) {
        let open = self.batches.iter_mut().take_while(|batch| batch.question <= question);
        for batch in open.filter(|batch| batch.index.is_none()) {
            batch.index = Some(index);
            batch.waits = index > applied;
        }
    }

    /// The next reads that the state is far enough for, and whether they waited for that.
    fn ready(&mut self, applied: Index) -> Option<(Vec<T>, bool)> {
        let is_ready = |batch: &mut Batch<T>| batch.index.is_some_and(|index| index <= applied);
        let batch = self.batches.pop_front_if(is_ready)?;
        self.count -= batch.reads.len();
        Some((batch.reads, batch.waits))
    }

    /// What has waited for too long.
    fn expired(&mut self, now: Instant) -> Vec<T> {
        let mut reads = Vec::new();
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.until <= now) {
            reads.extend(batch.reads);
        }
        self.count -= reads.len();
        reads
    }

    /// Whoever was asked can't answer this question, nor those before it.
    fn deny(&mut self, question: u64) -> Vec<T> {
        let mut reads = Vec::new();
        self.batches.retain_mut(|batch| {
            let denied = batch.question <= question && batch.index.is_none();
            if denied {
                reads.append(&mut batch.reads);
            }
            !denied
        });
        self.count -= reads.len();
        reads
    }

    /// Nobody will answer what was asked so far.
    fn forsake(&mut self) -> Vec<T> {
        let mut reads = self.deny(u64::MAX);
        self.count -= self.asked.len();
        reads.append(&mut self.asked);
        reads
    }

    /// All of them.
    fn drain(&mut self) -> Vec<T> {
        self.count = 0;
        let asked = core::mem::take(&mut self.asked);
        let batches = core::mem::take(&mut self.batches);
        batches.into_iter().flat_map(|batch| batch.reads).chain(asked).collect()
    }

    /// When the oldest question has waited for too long.
    fn deadline(&self) -> Option<Instant> {
        self.batches.front().map(|batch| batch.until)
    }
}

impl Replica {
    /// A read that is to be answered here, whoever leads.
    pub(super) fn read_near(&mut self, caller: Caller, query: Query, cx: &mut Cx<'_>) {
        let may = self.has_state() && self.near.len() < NEAR_MAX;
        match self.leader.filter(|leader| *leader != cx.me) {
            Some(leader) if may && !self.forces(Point::ReadElsewhere, cx) => {
                if self.near.push((caller, query)) {
                    cx.posts.push(Post::IndexWanted { group: self.group, leader });
                }
            }
            leader => cx.answer(self.group, caller, Reply::NotLeader(leader)),
        }
    }

    /// Whether reads wait for a question to this leader.
    pub(in super::super) fn wants_index_of(&self, leader: NodeId) -> bool {
        self.leader == Some(leader) && self.near.wants_question()
    }

    /// The leader is asked, in this step.
    pub(super) fn on_index_asked(&mut self, question: u64, cx: &Cx<'_>) {
        self.near.ask(question, cx.now.mono + cx.near_patience);
    }

    /// The answer.
    pub(super) fn on_index(&mut self, question: u64, index: Option<ReadIndex>, cx: &mut Cx<'_>) {
        let Some(ReadIndex { term, index }) = index else {
            let denied = self.near.deny(question);
            return self.pass_on(denied, cx);
        };
        self.feed(raft::Input::LeaderCommits { term, index }, cx);
        let planted = self.seat.planted.is(Bug::AnswerToLaterQuestion);
        let question = if planted { u64::MAX } else { question };
        self.near.confirm(question, index, self.state.mark().position.index);
        self.answer_near(cx);
    }

    /// Answers what the state is far enough for.
    pub(super) fn answer_near(&mut self, cx: &mut Cx<'_>) {
        while self.damage.is_none()
            && let Some((reads, waited)) = self.near.ready(self.state.mark().position.index)
        {
            cx.posts.push(Post::Trace(Trace::ReadsNear { group: self.group, waited }));
            for (caller, query) in reads {
                let found = reads::evaluate(&self.state, &query);
                match found.pins() {
                    Some(_) if !self.leads() => {
                        cx.answer(self.group, caller, Reply::NotLeader(self.leader));
                    }
                    pins => {
                        pins.into_iter().for_each(|blob| self.collector.pin(blob, cx.now.mono));
                        self.fetch(caller, found, cx);
                    }
                }
            }
        }
    }

    /// Passes on what has waited for too long. Its leader may sleep, or be gone: the group looks after it.
    pub(super) fn expire_near(&mut self, cx: &mut Cx<'_>) {
        let expired = self.near.expired(cx.now.mono);
        if !expired.is_empty() {
            self.feed(raft::Input::Wake, cx);
            self.pass_on(expired, cx);
        }
    }

    /// Whoever was asked leads no more, or is not heard of.
    pub(super) fn forsake_leader(&mut self, cx: &mut Cx<'_>) {
        let forsaken = self.near.forsake();
        self.pass_on(forsaken, cx);
    }

    /// The state is gone.
    pub(super) fn drain_near(&mut self, cx: &mut Cx<'_>) {
        let drained = self.near.drain();
        self.pass_on(drained, cx);
    }

    pub(super) fn near_deadline(&self) -> Option<Instant> {
        self.near.deadline()
    }

    fn pass_on(&self, reads: Vec<(Caller, Query)>, cx: &mut Cx<'_>) {
        if !reads.is_empty() {
            cx.posts.push(Post::Trace(Trace::ReadsFellBack { group: self.group }));
        }
        for (caller, _) in reads {
            cx.answer(self.group, caller, Reply::NotLeader(self.leader));
        }
    }

    /// A follower's node asks for a read index, and says how it stands by this one.
    pub(super) fn on_index_query(
        &mut self,
        from: NodeId,
        question: CallId,
        support: Support,
        cx: &mut Cx<'_>,
    ) {
        let caller = Caller { from, call: question };
        if self.damage.is_some() || self.forces(Point::ReadElsewhere, cx) {
            return self.tell_index(caller, None, cx);
        }
        let said = BTreeMap::from([(from, support)]);
        let planted = self.seat.planted.is(Bug::ReadWithoutQuorum);
        let index = self.raft.read_index().filter(|_| !planted);
        if index.is_some() && self.is_supported(&said) {
            return self.tell_index(caller, index, cx);
        }
        self.ask_leadership(Read { caller, wants: Wants::Index }, cx);
    }

    pub(super) fn tell_index(&self, to: Caller, index: Option<Index>, cx: &mut Cx<'_>) {
        let index = index.map(|index| ReadIndex { term: self.raft.term(), index });
        let Caller { from, call: question } = to;
        cx.posts.push(Post::Index { to: from, question, group: self.group, index });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const LATER: Instant = Instant(100);

    #[test]
    fn an_answer_is_for_what_was_asked_by_then() {
        let mut near = Near::default();
        assert!(near.push('a') && !near.push('b'), "two share a question");
        near.ask(1, LATER);
        assert!(near.push('c'));
        near.ask(2, LATER);
        near.push('d');
        near.confirm(1, Index(5), Index(5));
        assert_eq!(near.ready(Index(5)), Some((vec!['a', 'b'], false)));
        assert_eq!(near.ready(Index(9)), None, "the second question has no answer yet");
        near.confirm(1, Index(7), Index(9));
        assert_eq!(near.ready(Index(9)), None, "nor by a doubled answer to the first");
        near.confirm(2, Index(10), Index(9));
        assert_eq!(near.ready(Index(9)), None, "the state is not so far");
        near.confirm(2, Index(12), Index(9));
        assert_eq!(near.ready(Index(10)), Some((vec!['c'], true)), "one answer is enough");
        near.confirm(u64::MAX, Index(1), Index(9));
        assert_eq!((near.ready(Index(9)), near.len()), (None, 1), "nobody was asked for d");
    }

    #[test]
    fn the_answer_to_a_later_question_is_one_to_the_earlier() {
        let mut near = Near::default();
        for question in 1..=3 {
            near.push(question);
            near.ask(question, LATER);
        }
        near.confirm(2, Index(5), Index(5));
        assert_eq!(near.ready(Index(5)), Some((vec![1], false)));
        assert_eq!(near.ready(Index(5)), Some((vec![2], false)));
        assert_eq!(near.ready(Index(5)), None);
    }

    #[test]
    fn what_is_denied_or_late_is_given_back_once() {
        let mut near = Near::default();
        for question in 1..=4 {
            near.push(question);
            near.ask(question, Instant(question * 10));
        }
        near.push(5);
        near.confirm(1, Index(8), Index(0));
        assert_eq!(near.deny(2), vec![2], "the first one only waits for the state");
        assert_eq!(near.deadline(), Some(Instant(10)));
        assert_eq!(near.expired(Instant(9)), Vec::<u64>::new());
        assert_eq!(near.expired(Instant(30)), vec![1, 3]);
        assert_eq!(near.forsake(), vec![4, 5]);
        assert_eq!((near.len(), near.drain()), (0, vec![]));
        near.push(6);
        near.ask(5, LATER);
        near.push(7);
        assert_eq!((near.drain(), near.len()), (vec![6, 7], 0));
    }
}
