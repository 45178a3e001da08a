//! Time as the node is told it: the real twin of the simulator's clocks.
//!
//! The monotonic clock counts from the start of the process, so that it is a plain number and never
//! goes back within a boot. It counts on while the machine sleeps ([`sys::monotonic`]). The wall clock is whatever the operating system says, widened by the bound
//! on its error that the operator states; it may jump, and nothing but the choice of timestamps and of
//! leases reads it.

use crate::sys;
use ironseed_core::machine::{Duration, Instant, Now};
use std::time::{SystemTime, UNIX_EPOCH};

/// The clocks of one node.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What the monotonic clock showed.
    started: std::time::Duration,
    /// How far the wall clock may be off, either way.
    bound: Duration,
}

impl Clock {
    /// Starts the monotonic clock; the wall clock is taken to be right within `bound`.
    #[must_use]
    pub fn start(bound: Duration) -> Self {
        Self { started: sys::monotonic(), bound }
    }

    /// Since the start.
    fn elapsed(&self) -> u64 {
        let elapsed = sys::monotonic().saturating_sub(self.started);
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Now {
        // Before the epoch or past the year 2554 the clock is broken; 0 is as good as any other
        // answer, and timestamps stay above their shard's last one whatever the clock says.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_nanos()).unwrap_or(0);
        Now {
            mono: Instant(self.elapsed()),
            wall_earliest: wall.saturating_sub(self.bound.0),
            wall_latest: wall.saturating_add(self.bound.0),
        }
    }

    /// How long from now until `deadline`; zero when it has passed.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> std::time::Duration {
        std::time::Duration::from_nanos(deadline.0.saturating_sub(self.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_enclose_the_wall_clock_and_the_monotonic_clock_rises() {
        let clock = Clock::start(Duration::from_millis(250));
        let first = clock.now();
        let second = clock.now();
        assert!(second.mono >= first.mono);
        assert_eq!(first.wall_latest - first.wall_earliest, Duration::from_millis(500).0);
        let wall = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos());
        let wall = wall.unwrap();
        assert!(wall >= first.wall_earliest && wall <= second.wall_latest + 60_000_000_000);
        assert_eq!(clock.until(first.mono), std::time::Duration::ZERO);
        assert!(clock.until(second.mono + Duration::from_secs(5)).as_secs() >= 4);
    }
}
