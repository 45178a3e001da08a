//! Linearizable reads without a log entry: ReadIndex (thesis 6.4). A read takes the commit index, then
//! one round of heartbeats proves that this replica still led after the read had begun. All reads that
//! arrive while a round is under way share the next one. A leader that holds a lease needs no round (`lease`). (A node that leads many groups seldom needs it: see
//! `node/support.rs`.)

use super::api::{Event, Output};
use super::group::{Group, State};
use super::progress::Progress;
use crate::planted::Bug;
use crate::types::Index;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Reads that wait for a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    /// In no round yet.
    waiting: Vec<u64>,
    /// In a round that isn't confirmed yet, oldest first.
    rounds: VecDeque<Batch>,
}

/// Reads that one round confirms.
#[derive(Clone, Debug)]
struct Batch {
    round: u64,
    index: Index,
    ids: Vec<u64>,
}

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.rounds.is_empty()
    }

    /// All that are under way, oldest first.
    pub(super) fn into_ids(self) -> impl Iterator<Item = u64> {
        self.rounds.into_iter().flat_map(|batch| batch.ids).chain(self.waiting)
    }

    /// `round` starts: it confirms everything that came before it.
    pub(super) fn start(&mut self, round: u64, index: Index) {
        if !self.waiting.is_empty() {
            let ids = core::mem::take(&mut self.waiting);
            self.rounds.push_back(Batch { round, index, ids });
        }
    }
}

impl Group {
    /// A linearizable read at this replica.
    pub(super) fn on_read(&mut self, id: u64, out: &mut Vec<Output>) {
        self.wake(true, out);
        let (now, commit_index) = (self.now, self.commit_index);
        let planted = self.config.planted.is(Bug::ReadWithoutQuorum);
        let State::Leader(leadership) = &mut self.state else {
            return out.push(Output::ReadRejected { id, leader: self.leader });
        };
        if planted {
            return out.push(Output::ReadReady { id, index: commit_index });
        }
        leadership.busy_at = now;
        if self.holds_lease(now) {
            Self::trace(Event::ReadByLease, out);
            return out.push(Output::ReadReady { id, index: commit_index });
        }
        let State::Leader(leadership) = &mut self.state else { return };
        leadership.reads.waiting.push(id);
        self.maybe_start_round(out);
    }

    /// Starts a round for reads that wait, unless one is under way: then they share the next.
    pub(super) fn maybe_start_round(&mut self, out: &mut Vec<Output>) {
        let State::Leader(leadership) = &self.state else { return };
        let idle = leadership.reads.rounds.is_empty();
        if idle && !leadership.reads.waiting.is_empty() && self.knows_commit_index() {
            self.broadcast_heartbeat(out);
        }
    }

    /// The index that a read has to see, at a leader that knows it. Whether it still leads is another question.
    #[must_use]
    pub fn read_index(&self) -> Option<Index> {
        self.knows_commit_index().then_some(self.commit_index)
    }

    /// A leader knows what its predecessors committed only once an entry of its own term is committed
    /// (thesis 6.4, step 1).
    pub(super) fn knows_commit_index(&self) -> bool {
        let State::Leader(leadership) = &self.state else { return false };
        self.commit_index >= leadership.first_index
            || self.config.planted.is(Bug::ReadBeforeOwnTerm)
    }

    /// A quorum has answered a round: the reads in it are safe at their index.
    pub(super) fn maybe_confirm_reads(&mut self, out: &mut Vec<Output>) {
        let State::Leader(leadership) = &self.state else { return };
        let confirmed = self.reached(leadership, leadership.round, Progress::counted_round);
        let State::Leader(leadership) = &mut self.state else { return };
        let reads = &mut leadership.reads;
        let mut any = false;
        while let Some(batch) = reads.rounds.pop_front_if(|batch| batch.round <= confirmed) {
            any = true;
            for id in batch.ids {
                out.push(Output::ReadReady { id, index: batch.index });
            }
        }
        if any {
            self.maybe_start_round(out);
        }
    }
}
