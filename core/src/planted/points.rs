//! Fault points: places where a decision that is legal but rare is forced now and then, so that what follows from it
//! is common in a simulation (the BUGGIFY of FoundationDB).
//!
//! A point is one line at its place: `planted.forces(Point::BatchOne, occasion)`. Whether it forces is a function of
//! the machine's seed, the point and the occasion, a number that is another one each time: there is no stream
//! of draws that another point, or a point that is left out, could move. A place where the same thing is tried again until
//! it succeeds takes the time for its occasion, or it would be refused for ever.
//!
//! Points that move leaders ([`Point::moves_leaders`]) take the time for their occasion too, and end at an instant: nothing in Raft lets a group get on whose leaders
//! give up again and again, so they are faults, which are over when everything heals.
//!
//! What a point forces must be allowed to happen without it: a full queue, a lost leadership, a
//! small disk. A run in which one forces may be slower and must not be wrong. Without the feature `planted-bugs`
//! every question is a constant `false`, like those of planted bugs.

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $often:literal;)+) => {
        /// A place and what is forced there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point { $($(#[$doc])* $name),+ }

        impl Point {
            /// Every point.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What it is called in seed files and counts.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// How often it may force at the most for a cluster to get on: of [`OCCASIONS`].
            #[must_use]
            pub const fn often(self) -> u16 {
                match self { $(Self::$name => $often),+ }
            }
        }
    };
}

impl Point {
    /// Whether leaders don't stay what they are.
    #[must_use]
    pub const fn moves_leaders(self) -> bool {
        matches!(self, Self::StepDown | Self::TransferAway)
    }
}

points! {
    /// An append to a follower has one entry.
    AppendOne = "append-one", 512;
    /// A leader looks anew for the place where a follower's log parts from its own.
    ProbeAgain = "probe-again", 256;
    /// A follower that lags is given the state in place of entries.
    SnapshotInstead = "snapshot-instead", 64;
    /// A leader steps down for no reason.
    StepDown = "step-down", 24;
    /// A leader gives its leadership away.
    TransferAway = "transfer-away", 48;
    /// A follower waits the shortest time before it stands for election, as all others that are forced.
    ElectionSoon = "election-soon", 512;
    /// A group goes quiet as soon as it may.
    QuiesceNow = "quiesce-now", 1024;
    /// A follower that refuses an append agrees to no more than what it has compacted.
    HintLow = "hint-low", 512;
    /// A batch of a log holds one record.
    BatchOne = "batch-one", 1024;
    /// A log begins a new segment although the old one has room.
    SegmentEarly = "segment-early", 256;
    /// A log that syncs when it is asked syncs at once.
    SyncNow = "sync-now", 1024;
    /// A log marks a sync as soon as it is done.
    MarkNow = "mark-now", 1024;
    /// A proposal is to be asked again, as if too many were under way.
    ProposalAgain = "proposal-again", 128;
    /// A leader refuses a read as if it did not lead.
    ReadElsewhere = "read-elsewhere", 128;
    /// One entry is applied in a slice.
    ApplyOne = "apply-one", 1024;
    /// Changes go to the table log after one command.
    FrameNow = "frame-now", 512;
    /// A group's log is compacted as far as it may be.
    CompactNow = "compact-now", 1024;
    /// A slice of a snapshot holds as little as it can.
    SliceOne = "slice-one", 512;
    /// The write-ahead log keeps no segment that it can do without.
    TrimEarly = "trim-early", 256;
    /// A client's request is refused as if too many were under way.
    RequestBusy = "request-busy", 64;
    /// The bodies in an engine are looked through although few are of no use, or stand under few numbers.
    SweepEarly = "sweep-early", 256;
}

/// Rates are parts of this.
pub const OCCASIONS: u16 = 1024;

/// How often which points force in one machine: nothing in production.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Points {
    #[cfg(feature = "planted-bugs")]
    seed: u64,
    /// By the order of [`Point::ALL`].
    #[cfg(feature = "planted-bugs")]
    rates: [u16; Point::ALL.len()],
    /// No leader is moved from this instant on, by the machine's clock.
    #[cfg(feature = "planted-bugs")]
    leaders_until: u64,
}

impl Points {
    /// Nothing is forced.
    pub(super) const NONE: Self = Self {
        #[cfg(feature = "planted-bugs")]
        seed: 0,
        #[cfg(feature = "planted-bugs")]
        rates: [0; Point::ALL.len()],
        #[cfg(feature = "planted-bugs")]
        leaders_until: 0,
    };

    /// These points force so often, and those that move leaders until then.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn new(
        seed: u64,
        rates: impl IntoIterator<Item = (Point, u16)>,
        leaders_until: u64,
    ) -> Self {
        let mut points = Self { seed, leaders_until, ..Self::NONE };
        for (point, rate) in rates {
            if let Some(place) = points.rates.get_mut(point as usize) {
                *place = rate;
            }
        }
        points
    }

    /// Whether this point forces on this occasion.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn force(&self, point: Point, occasion: u64) -> bool {
        let rate = self.rates.get(point as usize).copied().unwrap_or(0);
        if rate == 0 || point.moves_leaders() && occasion >= self.leaders_until {
            return false;
        }
        let drawn = mix(self.seed ^ mix(occasion ^ mix(point as u64)));
        let forces = drawn % u64::from(OCCASIONS) < u64::from(rate);
        tally::count(point, forces);
        forces
    }
}

/// The finalizer of splitmix64.
#[cfg(feature = "planted-bugs")]
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// How often each point was come to, and how often it forced, in this process since the last call, points that were
/// never come to left out. Nothing in production.
#[must_use]
pub fn take_tally() -> alloc::vec::Vec<(Point, u64, u64)> {
    #[cfg(feature = "planted-bugs")]
    return tally::take();
    #[cfg(not(feature = "planted-bugs"))]
    alloc::vec::Vec::new()
}

#[cfg(feature = "planted-bugs")]
mod tally {
    use super::Point;
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicU64, Ordering};

    type Counts = [AtomicU64; Point::ALL.len()];
    static REACHED: Counts = [const { AtomicU64::new(0) }; Point::ALL.len()];
    static FORCED: Counts = [const { AtomicU64::new(0) }; Point::ALL.len()];

    pub(super) fn count(point: Point, forced: bool) {
        let at = point as usize;
        let counts = [(&REACHED, true), (&FORCED, forced)];
        for (counts, _) in counts.into_iter().filter(|(_, counts)| *counts) {
            if let Some(count) = counts.get(at) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn take() -> Vec<(Point, u64, u64)> {
        let of = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let counts = REACHED.iter().map(of).zip(FORCED.iter().map(of));
        let all = Point::ALL.iter().zip(counts);
        all.map(|(point, (reached, forced))| (*point, reached, forced))
            .filter(|(_, reached, _)| *reached > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Planted;
    use super::*;
    use crate::machine::Instant;

    #[test]
    fn points_stand_in_their_order_and_have_names_of_their_own() {
        let mut names = alloc::collections::BTreeSet::new();
        for (at, point) in Point::ALL.iter().enumerate() {
            assert_eq!(*point as usize, at);
            assert!((1..=OCCASIONS).contains(&point.often()), "{point:?}");
            assert!(names.insert(point.name()), "{point:?}");
        }
    }

    #[test]
    fn a_point_forces_as_often_as_it_is_told_and_only_where_it_is_compiled_in() {
        let rates = [(Point::BatchOne, 256), (Point::StepDown, OCCASIONS)];
        let planted = Planted::NONE.forcing(7, rates, Instant(3000));
        let count = |point| (0..4096).filter(|occasion| planted.forces(point, *occasion)).count();
        let here = super::super::COMPILED_IN;
        assert_eq!(count(Point::HintLow), 0);
        assert_eq!(
            count(Point::StepDown),
            if here { 3000 } else { 0 },
            "leaders are moved until then"
        );
        let some = count(Point::BatchOne);
        assert!(if here { (850..1200).contains(&some) } else { some == 0 }, "{some} of 4096");
        let none = |planted: Planted| planted.forcing(8, [], Instant(0));
        assert_eq!(none(planted), none(Planted::NONE));
    }
}
