//! Inputs that nobody should send, made of inputs that somebody might. A function of its seed.

use ironseed_core::rng::Rng;

/// Numbers that decoders trip over, as they are; cut to the width that is written.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    63,
    64,
    127,
    128,
    250,
    251,
    252,
    253,
    255,
    256,
    1000,
    4095,
    4096,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    1 << 20,
    (16 << 20) - 1,
    16 << 20,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Changes bytes.
#[derive(Debug)]
pub struct Mutator {
    rng: Rng,
}

impl Mutator {
    /// Everything that follows is drawn from this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed) }
    }

    /// The next input: one of the corpus, changed in one place or a few, of `bytes_max` bytes at the most.
    /// The first `valid` of the corpus are taken as often as all others: most of those are refused at once.
    ///
    /// # Panics
    /// If none is valid.
    pub fn next(
        &mut self,
        corpus: &[Vec<u8>],
        valid: usize,
        dictionary: &[&[u8]],
        bytes_max: usize,
    ) -> Vec<u8> {
        let from = if self.below(2) == 0 { &corpus[..valid] } else { corpus };
        let mut input = self.pick(from).clone();
        // One change most of the time: two that spoil two fields reach no further than the first.
        let changes = 1 << self.below(4).min(self.below(4));
        for _ in 0..changes {
            self.change(&mut input, corpus, dictionary);
        }
        input.truncate(bytes_max);
        input
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>], dictionary: &[&[u8]]) {
        let at = self.below(input.len());
        if input.is_empty() {
            input.push(self.below(256) as u8);
            return;
        }
        match self.below(if dictionary.is_empty() { 10 } else { 13 }) {
            0 | 1 => input[at] ^= 1 << self.below(8),
            2 => input[at] = self.below(256) as u8,
            3 => input[at] = input[at].wrapping_add(self.below(9) as u8).wrapping_sub(4),
            4 => self.number(input, at),
            5 => input.truncate(at),
            6 => {
                let range = self.range(input, at);
                input.drain(range);
            }
            7 => {
                let (from, range) = (self.below(input.len()), self.range(input, at));
                let piece = input[range].to_vec();
                let times = 1 + self.below(3);
                input.splice(from..from, piece.repeat(times));
            }
            8 => {
                let other = self.pick(corpus);
                let from = self.below(other.len());
                let piece = other[from..].to_vec();
                let end = (at + piece.len() * self.below(2)).min(input.len());
                input.splice(at..end, piece);
            }
            9 => {
                let piece: Vec<u8> = (0..=self.below(8)).map(|_| self.below(256) as u8).collect();
                input.splice(at..at, piece);
            }
            // In place of what is there, or between.
            kind => {
                let token = *self.pick(dictionary);
                let end = if kind == 10 { (at + token.len()).min(input.len()) } else { at };
                input.splice(at..end, token.iter().copied());
            }
        }
    }

    /// A range from `at` on, usually short.
    fn range(&mut self, input: &[u8], at: usize) -> core::ops::Range<usize> {
        let longest = 1 << self.below(10);
        let bytes = 1 + self.below(longest);
        at..(at + bytes).min(input.len())
    }

    /// Overwrites one to eight bytes with a number that decoders trip over, in either order of bytes.
    fn number(&mut self, input: &mut [u8], at: usize) {
        let number = *self.pick(NUMBERS);
        let width = (1 << self.below(4)).min(input.len() - at);
        let mut bytes = number.to_le_bytes()[..width].to_vec();
        if self.below(4) == 0 {
            bytes.reverse();
        }
        input[at..at + width].copy_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_within_their_limit_and_they_differ() {
        let corpus = vec![b"one input".to_vec(), vec![7; 300], Vec::new()];
        let draw = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..2_000).map(|_| mutator.next(&corpus, 2, &[b"word"], 400)).collect::<Vec<_>>()
        };
        let (first, again, other) = (draw(1), draw(1), draw(2));
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert!(first.iter().all(|input| input.len() <= 400));
        let distinct: std::collections::BTreeSet<_> = first.iter().collect();
        assert!(distinct.len() > 1_000, "{} of 2,000 differ", distinct.len());
        assert!(first.iter().any(|input| input.windows(4).any(|window| window == b"word")));
    }
}
