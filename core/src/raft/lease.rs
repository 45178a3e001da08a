//! Leases: reads that no round confirms, where operators have promised how far clocks drift (thesis 6.4.1, ADR 15).
//!
//! A follower that answers a heartbeat **promises** its leader that it will neither vote for another nor stand for election
//! itself for an election timeout by its own clock, and says for how long that is at least, however fast its clock runs. The
//! leader counts that time from when it **began** the round that was answered, by its own clock, shortened by as much as
//! that may be slow. While a quorum's promises last nobody else can have been elected, so what is committed
//! here is all that was ever acknowledged.
//!
//! - A follower that boots knows of no promises of its last boot. It keeps the longest that it could have given.
//! - Nodes tell their groups of peers that fell silent or booted again. That is no reason to break a promise.
//! - A leader that has told a follower to campaign at once has no lease any more, to the end of its term: nobody knows when
//!   that message arrives, and voters do not hold what they promised against the one who is to follow.
//! - Time passed in a step that was begun late changes nothing: `now` was read after the request had come, and what
//!   was true then may be answered at any time later.

use super::group::{Group, State};
use super::progress::Progress;
use crate::machine::{Duration, Instant};
use crate::planted::Bug;
use crate::types::NodeId;
use alloc::collections::VecDeque;

/// What a replica may not do yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    /// Whom it was given; none for whoever may have led when this replica went down.
    to: Option<NodeId>,
    /// Until then, by this replica's clock, it neither votes for another nor stands for election.
    until: Instant,
}

/// When a leader began its rounds, roughly: never later than it says.
#[derive(Clone, Debug, Default)]
pub(super) struct Begun(VecDeque<(u64, Instant)>);

/// So many rounds are told apart in the time between two heartbeats.
const MARKS_PER_HEARTBEAT: u64 = 16;

impl Begun {
    /// Round `round` begins. Others that began just before stand for it; what began `memory` ago is forgotten.
    fn note(&mut self, round: u64, now: Instant, apart: Duration, memory: Duration) {
        while self.0.pop_front_if(|(_, at)| now - *at > memory).is_some() {}
        if self.0.back().is_none_or(|(_, at)| now - *at >= apart) {
            self.0.push_back((round, now));
        }
    }

    /// When it began, or earlier.
    fn of(&self, round: u64) -> Option<Instant> {
        self.0.iter().rev().find(|(marked, _)| *marked <= round).map(|(_, at)| *at)
    }
}

/// What is left of `span` on a clock that runs wrong by `drift_ppm` millionths: rounded down.
fn shortened(span: Duration, drift_ppm: u32) -> Duration {
    let lost = (u128::from(span.0) * u128::from(drift_ppm)).div_ceil(1_000_000);
    Duration(span.0.saturating_sub(u64::try_from(lost).unwrap_or(u64::MAX)))
}

impl Group {
    /// What a replica that boots may have promised in its last life.
    pub(super) fn promise_of_the_last_boot(&self) -> Option<Promise> {
        let alone = self.log.configuration().is_alone(self.config.me);
        let planted = self.config.planted.is(Bug::PromiseLostAtBoot);
        let leases = self.config.max_clock_drift_ppm.is_some() && !alone && !planted;
        leases.then(|| Promise { to: None, until: self.now + self.config.election })
    }

    /// A heartbeat of `leader` is being answered: for how long the answer promises not to elect another, by a clock that is
    /// right. Zero if nothing is promised.
    pub(super) fn promise(&mut self, leader: NodeId) -> Duration {
        let election = self.config.election;
        let Some(drift) = self.config.max_clock_drift_ppm else { return Duration::ZERO };
        self.promised = Some(Promise { to: Some(leader), until: self.now + election });
        shortened(election, drift)
    }

    /// Until when this replica has promised not to stand for election. `None` if it may.
    pub(super) fn bound_until(&self) -> Option<Instant> {
        self.promised.map(|promise| promise.until).filter(|until| *until > self.now)
    }

    /// Whether it has promised not to vote for `candidate`. Who was promised it and asks for votes leads no more.
    pub(super) fn is_bound_against(&self, candidate: NodeId) -> bool {
        let to = self.promised.and_then(|promise| promise.to);
        to != Some(candidate) && self.bound_until().is_some()
    }

    /// A round of heartbeats begins at the leader.
    pub(super) fn note_round(&mut self) {
        let now = self.now;
        let apart = Duration(self.config.heartbeat.0 / MARKS_PER_HEARTBEAT);
        let State::Leader(leadership) = &mut self.state else { return };
        if self.config.max_clock_drift_ppm.is_some() {
            leadership.begun.note(leadership.round, now, apart, self.config.election);
        }
    }

    /// A follower that counts has answered `round` and promised this.
    pub(super) fn on_promise(&mut self, from: NodeId, round: u64, promise: Duration) {
        let Some(drift) = self.config.max_clock_drift_ppm else { return };
        let (now, election) = (self.now, self.config.election);
        let State::Leader(leadership) = &mut self.state else { return };
        let Some(begun) = leadership.begun.of(round) else { return };
        let Some(progress) = leadership.followers.get_mut(&from) else { return };
        let until = match self.config.planted.is(Bug::LeaseFromReceipt) {
            true => now + election,
            false => begun + shortened(promise, drift),
        };
        if promise > Duration::ZERO {
            progress.promised = progress.promised.max(until);
        }
    }

    /// Whether nobody else can have been elected before `now`, so that a read that came before needs no round. `now` is
    /// that of the step that answers.
    #[must_use]
    pub fn holds_lease(&self, now: Instant) -> bool {
        let State::Leader(leadership) = &self.state else { return false };
        let over = leadership.invited && !self.config.planted.is(Bug::LeaseOutlivesTransfer);
        if self.config.max_clock_drift_ppm.is_none() || over || !self.knows_commit_index() {
            return false;
        }
        let forever = Instant(u64::MAX);
        now < self.reached(leadership, forever, Progress::counted_promise)
    }

    /// Whether reads may be answered by leases here at all.
    #[must_use]
    pub const fn has_leases(&self) -> bool {
        self.config.max_clock_drift_ppm.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_shortened_by_no_less_than_the_drift() {
        assert_eq!(shortened(Duration(1_000_000), 500), Duration(999_500));
        assert_eq!(shortened(Duration(1), 1), Duration(0), "rounded against the lease");
        assert_eq!(shortened(Duration(u64::MAX), 1_000_000), Duration(0));
        assert_eq!(shortened(Duration(7), 2_000_000), Duration(0), "absurd, and harmless");
    }

    #[test]
    fn a_round_is_never_said_to_have_begun_later_than_it_did() {
        let (apart, memory) = (Duration(10), Duration(100));
        let mut begun = Begun::default();
        assert_eq!(begun.of(1), None);
        let rounds: alloc::vec::Vec<(u64, Instant)> =
            (1..=60).map(|round| (round, Instant(round * 3))).collect();
        for (round, now) in &rounds {
            begun.note(*round, *now, apart, memory);
            for (earlier, at) in rounds.iter().take_while(|(earlier, _)| earlier <= round) {
                let said = begun.of(*earlier);
                assert!(said.is_none_or(|said| said <= *at && *at - said < apart), "{earlier}");
                assert!(
                    said.is_some() || now.0 - at.0 + apart.0 > memory.0,
                    "{earlier} at {now:?}"
                );
            }
        }
        assert!(begun.0.len() <= 11, "{begun:?}");
    }
}
