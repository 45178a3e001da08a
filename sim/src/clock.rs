//! What time a node believes it is.
//!
//! The world has one time, nanoseconds from the start of the run, that no node sees. A node's monotonic
//! clock starts at an arbitrary number at each boot and runs a little fast or slow; its wall clock is off
//! by an amount that faults change, in either direction. Nothing here ever takes a monotonic clock back
//! within a boot: the contract says so, and hardware keeps it.

use ironseed_core::machine::{Instant, Now};

/// Wall time of the start of every run: 2025-01-01, nanoseconds since the Unix epoch.
pub const WALL_START: u64 = 1_735_689_600_000_000_000;

/// One node's clocks.
#[derive(Clone, Debug)]
pub struct Clock {
    /// How many parts in a million the monotonic clock runs fast (or slow, below zero).
    drift_ppm: i64,
    /// How far the wall clock is ahead (or behind, below zero): nanoseconds.
    offset: i64,
    /// The bound that the operator states for `offset`: nanoseconds. Faults may break it.
    bound: u64,
    /// World time of the boot.
    booted: u64,
    /// What the monotonic clock showed then.
    start: u64,
}

impl Clock {
    /// A clock with this drift and this stated bound.
    #[must_use]
    pub const fn new(drift_ppm: i64, bound: u64) -> Self {
        Self { drift_ppm, offset: 0, bound, booted: 0, start: 0 }
    }

    /// The node boots at `world`: its monotonic clock begins anew at `start`.
    pub const fn boot(&mut self, world: u64, start: u64) {
        self.booted = world;
        self.start = start;
    }

    /// Moves the wall clock by so many nanoseconds.
    pub const fn step_wall(&mut self, by: i64) {
        self.offset = self.offset.saturating_add(by);
    }

    /// How far the wall clock is ahead (or behind, below zero): nanoseconds.
    #[must_use]
    pub const fn offset(&self) -> i64 {
        self.offset
    }

    /// Sets the wall clock to be so far ahead.
    pub const fn set_offset(&mut self, offset: i64) {
        self.offset = offset;
    }

    /// What the node is told at this world time.
    #[must_use]
    pub fn now(&self, world: u64) -> Now {
        let wall = (WALL_START + world).saturating_add_signed(self.offset);
        Now {
            mono: Instant(self.start + self.scale(world.saturating_sub(self.booted))),
            wall_earliest: wall.saturating_sub(self.bound),
            wall_latest: wall + self.bound,
        }
    }

    /// The first world time at which the node's monotonic clock shows `mono` or more.
    #[must_use]
    pub fn world_at(&self, mono: Instant) -> u64 {
        let span = u128::from(mono.0.saturating_sub(self.start));
        let rate = u128::from((MILLION + self.drift_ppm) as u64);
        let exact = (span * MILLION as u128).div_ceil(rate);
        self.booted.saturating_add(u64::try_from(exact).unwrap_or(u64::MAX))
    }

    fn scale(&self, span: u64) -> u64 {
        let rate = (MILLION + self.drift_ppm) as u128;
        (u128::from(span) * rate / MILLION as u128) as u64
    }
}

const MILLION: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_the_world_says_so_and_not_before() {
        for drift in [-500, -1, 0, 1, 500] {
            let mut clock = Clock::new(drift, 1_000);
            clock.boot(77, 1_000_000);
            for span in [0, 1, 2, 999, 123_456_789, 60_000_000_000] {
                let deadline = Instant(1_000_000 + span);
                let world = clock.world_at(deadline);
                assert!(clock.now(world).mono >= deadline, "drift {drift}, span {span}");
                if span > 0 {
                    assert!(clock.now(world - 1).mono < deadline, "drift {drift}, span {span}");
                }
            }
        }
    }

    #[test]
    fn steps_move_the_wall_only() {
        let mut clock = Clock::new(0, 5);
        let before = clock.now(1_000);
        clock.step_wall(-300);
        let after = clock.now(1_000);
        assert_eq!(before.mono, after.mono);
        assert_eq!(after.wall_earliest, before.wall_earliest - 300);
        assert_eq!(after.wall_latest - after.wall_earliest, 10);
        assert_eq!(clock.offset(), -300);
        clock.set_offset(0);
        assert_eq!(clock.now(1_000), before);
    }
}
