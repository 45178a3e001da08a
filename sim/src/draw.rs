//! Keyed draws: every random choice of the world has a name, not a place in a stream.
//!
//! A run's choices are drawn from `(seed, domain, coordinates)`: the fate of the 17th message from n1 to
//! n2 does not depend on how many other messages were sent. So taking one fault out of a run leaves the
//! rest of it as it was as far as the machines allow, which is what makes a failing run shrinkable.
//! The generator is splitmix64: the state is one word, and naming a new stream costs nothing, where a
//! ChaCha key schedule for each message would cost more than the message.

/// What a stream of choices is about. The number is part of every seed that was ever recorded: never
/// change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Domain {
    /// Topology, settings and which faults a run has.
    Setup = 1,
    /// The fault plan.
    Faults = 2,
    /// What becomes of one message.
    Message = 3,
    /// How long one disk operation takes.
    Disk = 4,
    /// What one crash leaves on the disk.
    Crash = 5,
    /// Bit rot.
    Rot = 6,
    /// One client's choices.
    Client = 7,
    /// The bytes of one body.
    Body = 8,
    /// The seed of one boot of one node.
    Boot = 9,
    /// Clock drift and offsets.
    Clock = 10,
    /// How long one hash takes.
    Hash = 11,
    /// The fingerprint of one operation in the linearizability checker.
    Fingerprint = 12,
    /// Misdirected writes.
    Misdirect = 13,
    /// Legal but rare behaviour that nodes are made to show.
    Points = 14,
    /// What the operator does.
    Operator = 15,
    /// One byte of a disk that is another one.
    Byte = 16,
    /// Connections that are refused.
    Refusal = 17,
}

/// A stream of choices.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The stream of this name.
    #[must_use]
    pub fn new(seed: u64, domain: Domain, coordinates: &[u64]) -> Self {
        let start = mix(seed ^ mix(domain as u64));
        Self(coordinates.iter().fold(start, |state, &part| mix(state ^ mix(part))))
    }

    /// Any 64-bit number.
    #[expect(clippy::should_implement_trait, reason = "an endless stream is no iterator here")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "empty range {low}..={high}");
        low + self.below((high - low).saturating_add(1))
    }

    /// A number from `low` to `high` whose order of magnitude is even: small ones are as likely as big.
    pub fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        assert!(0 < low && low <= high, "no magnitudes in {low}..={high}");
        let (low_bits, high_bits) = (low.ilog2(), high.ilog2());
        let bits = self.between(u64::from(low_bits), u64::from(high_bits));
        let floor = 1_u64 << bits;
        self.between(floor.max(low), (floor * 2 - 1).min(high).max(floor.max(low)))
    }

    /// True `numerator` times out of `denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// True so many times in a million.
    pub fn ppm(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(1_000_000) < u64::from(ppm)
    }

    /// One of the items, which are not none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// The position of one of the weights, each as likely as it weighs.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut at = self.below(total);
        for (position, &weight) in weights.iter().enumerate() {
            if at < u64::from(weight) {
                return position;
            }
            at -= u64::from(weight);
        }
        unreachable!("a draw below {total} falls on a weight")
    }

    /// Puts the items in any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// A latency in nanoseconds around `typical`, with a long tail: one in fifty is up to ten times as
    /// long, one in a thousand up to a hundred times.
    pub fn latency(&mut self, typical: u64) -> u64 {
        let body = self.between(typical / 2, typical + typical / 2).max(1);
        match self.below(1000) {
            0 => body.saturating_mul(self.between(10, 100)),
            1..20 => body.saturating_mul(self.between(2, 10)),
            _ => body,
        }
    }
}

/// Names for things of one place that come one after another, such as the messages of a link: by about when
/// they come, and which of those of that time they are. A number counted from the beginning would do as well
/// until one thing is left out of a run, and then every later one would be called something else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks {
    tick: u64,
    count: u64,
}

impl Ticks {
    /// Before the first one.
    pub const START: Self = Self { tick: 0, count: 0 };

    /// The name of the next one, which comes at this world time.
    pub const fn name(&mut self, now: u64) -> [u64; 2] {
        let tick = now >> TICK_BITS;
        if tick != self.tick {
            *self = Self { tick, count: 0 };
        }
        self.count += 1;
        [tick, self.count]
    }
}

/// A tick is 2^20 nanoseconds, about a millisecond.
pub const TICK_BITS: u32 = 20;

/// The finalizer of splitmix64.
const fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(GAMMA);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The odd constant of splitmix64: 2^64 over the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_name_and_nothing_else() {
        let take = |mut draw: Draw| (0..8).map(|_| draw.next()).collect::<Vec<_>>();
        let first = take(Draw::new(7, Domain::Message, &[1, 2, 17]));
        assert_eq!(first, take(Draw::new(7, Domain::Message, &[1, 2, 17])));
        assert_ne!(first, take(Draw::new(7, Domain::Message, &[2, 1, 17])));
        assert_ne!(first, take(Draw::new(7, Domain::Disk, &[1, 2, 17])));
        assert_ne!(first, take(Draw::new(8, Domain::Message, &[1, 2, 17])));
    }

    #[test]
    fn what_is_left_out_renames_nothing_that_comes_much_later() {
        let names = |times: &[u64]| {
            let mut ticks = Ticks::default();
            times.iter().map(|&at| ticks.name(at)).collect::<Vec<_>>()
        };
        let all = names(&[5, 6, 7, 3 << TICK_BITS, (3 << TICK_BITS) + 9, 8 << TICK_BITS]);
        assert_eq!(all[..3], [[0, 1], [0, 2], [0, 3]]);
        assert_eq!(all[3..], [[3, 1], [3, 2], [8, 1]]);
        assert_eq!(names(&[6, 3 << TICK_BITS, (3 << TICK_BITS) + 9])[1..], all[3..5]);
    }

    #[test]
    fn draws_stay_in_their_bounds_and_reach_them() {
        let mut draw = Draw::new(1, Domain::Setup, &[]);
        let mut seen = [0_u32; 4];
        for _ in 0..1000 {
            let number = draw.between(3, 6);
            seen[(number - 3) as usize] += 1;
            assert!((5..=900).contains(&draw.magnitude(5, 900)));
            assert_eq!(draw.weighted(&[0, 3, 0]), 1);
        }
        assert!(seen.iter().all(|&count| count > 150), "uneven draws: {seen:?}");
        let mut items = [0, 1, 2, 3, 4, 5, 6, 7];
        draw.shuffle(&mut items);
        let mut sorted = items;
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_ne!(items, sorted, "this seed moves something");
    }
}
