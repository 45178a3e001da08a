//! What a leader knows of one follower, and how fast it sends (Raft 5.3; the states are etcd's).

use crate::machine::{Duration, Instant};
use crate::types::Index;
use alloc::collections::VecDeque;

/// How appends go to a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Where the logs part isn't known: one append at a time, until it is answered or a heartbeat that
    /// was sent after it is.
    Probe {
        /// One is under way.
        paused: bool,
    },
    /// The logs agree: appends are pipelined without waiting. Holds the last index of each one under way.
    Replicate {
        /// Last index of each append under way.
        inflight: VecDeque<Index>,
    },
    /// The log no longer has what the follower needs next.
    Snapshot,
}

/// One follower as its leader sees it.
///
/// - `match_index` is proven in this term and in this boot of the follower; it never falls within both.
/// - `next_index` is a guess above it ([`Self::assert_invariants`]).
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// The follower's log equals ours through here, and that is durable there.
    pub(super) match_index: Index,
    /// The next entry to send.
    pub(super) next_index: Index,
    /// How to send it.
    pub(super) flow: Flow,
    /// False while the follower abstains: then nothing of it may be counted.
    pub(super) counts: bool,
    /// When it last answered; `None` if it hasn't, or its node is suspected.
    pub(super) heard: Option<Instant>,
    /// The node has been asked to send it the state.
    pub(super) snapshot_asked: bool,
    /// The highest heartbeat round that it answered.
    pub(super) round: u64,
    /// The round before the last append: an answer to a later one should know of that append.
    pub(super) sent_round: u64,
    /// The highest round that it answered going quiet; 0 if none.
    pub(super) quiet_round: u64,
    /// Until then, by our clock, it elects nobody else.
    pub(super) promised: Instant,
}

impl Progress {
    /// Nothing is known but that it may share our log up to `last`.
    pub(super) const fn new(last: Index) -> Self {
        Self {
            match_index: Index(0),
            next_index: last.next(),
            flow: Flow::Probe { paused: false },
            counts: false,
            heard: None,
            snapshot_asked: false,
            round: 0,
            sent_round: 0,
            quiet_round: 0,
            promised: Instant(0),
        }
    }

    /// Whether it answered within the last `election` before `now`.
    pub(super) fn is_active(&self, now: Instant, election: Duration) -> bool {
        self.heard.is_some_and(|heard| now - heard < election)
    }

    /// What may be counted towards a commit.
    pub(super) const fn counted_match(&self) -> Index {
        if self.counts { self.match_index } else { Index(0) }
    }

    /// What may be counted towards a lease.
    pub(super) const fn counted_promise(&self) -> Instant {
        if self.counts { self.promised } else { Instant(0) }
    }

    /// What may be counted towards a read.
    pub(super) const fn counted_round(&self) -> u64 {
        if self.counts { self.round } else { 0 }
    }

    /// The follower has proven `index`. Returns whether that is news.
    pub(super) fn matched(&mut self, index: Index) -> bool {
        let news = index > self.match_index;
        self.match_index = self.match_index.max(index);
        self.next_index = self.next_index.max(self.match_index.next());
        if let Flow::Replicate { inflight } = &mut self.flow {
            while inflight.pop_front_if(|last| *last <= index).is_some() {}
        }
        news
    }

    /// Sends at full speed from what is proven.
    pub(super) fn replicate(&mut self) {
        self.next_index = self.match_index.next();
        self.flow = Flow::Replicate { inflight: VecDeque::new() };
    }

    /// Looks for the place where the logs part, from `next_index` down.
    pub(super) fn probe(&mut self, next_index: Index) {
        self.next_index = next_index.max(self.match_index.next());
        self.flow = Flow::Probe { paused: false };
    }

    /// Sends no probe before the next heartbeat was answered.
    pub(super) fn pause(&mut self) {
        if let Flow::Probe { paused } = &mut self.flow {
            *paused = true;
        }
    }

    /// Whether another append may be sent.
    pub(super) fn may_send(&self, inflight_max: u32) -> bool {
        match &self.flow {
            Flow::Probe { paused } => !paused,
            Flow::Replicate { inflight } => inflight.len() < inflight_max.max(1) as usize,
            Flow::Snapshot => false,
        }
    }

    /// An append that ends with `last` goes out after heartbeat `round`.
    pub(super) fn sent(&mut self, last: Index, round: u64) {
        self.sent_round = round;
        match &mut self.flow {
            Flow::Probe { paused } => *paused = true,
            Flow::Replicate { inflight } => {
                if last >= self.next_index {
                    inflight.push_back(last);
                }
                self.next_index = self.next_index.max(last.next());
            }
            Flow::Snapshot => {}
        }
    }

    /// A heartbeat that was sent after the last append was answered, and the follower still lags: that
    /// append or its answer may be lost. Returns whether to look.
    pub(super) fn suspect_loss(&mut self, round: u64, inflight_max: u32) -> bool {
        if round <= self.sent_round {
            return false;
        }
        match &mut self.flow {
            Flow::Probe { paused } => *paused = false,
            Flow::Replicate { inflight } => {
                if inflight.len() >= inflight_max as usize {
                    inflight.pop_front(); // frees a place, should all that is under way be lost
                }
            }
            Flow::Snapshot => {}
        }
        true
    }

    /// What the docs of this type promise.
    pub(super) fn assert_invariants(&self) {
        assert!(
            self.next_index > self.match_index,
            "next {:?}, match {:?}",
            self.next_index,
            self.match_index
        );
    }
}
