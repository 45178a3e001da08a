//! What objects hold: bytes that follow from a key and a version, so that nothing has to be remembered
//! to check them, and that no compression makes smaller.

use bytes::Bytes;

/// Larger objects go up in parts of this size, the smallest that S3 allows.
pub(crate) const PART: usize = 5 << 20;

/// A seeded generator (SplitMix64); quality matters little here, speed does.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound - 1`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below 0");
        self.next() % bound
    }
}

/// FNV-1a: a seed for every name.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The body of `version` of an object; its size follows from both, too.
pub(crate) fn object(key: &str, version: u64) -> Bytes {
    let mut random = Random::new(seed_of(key) ^ version.wrapping_mul(0x2545_f491_4f6c_dd1d));
    // Mostly inline bodies, because they are many; some of one chunk, few of several, fewer in parts.
    let size = match random.below(1_000) {
        0..700 => random.below(4 << 10),
        700..900 => random.below(64 << 10),
        900..980 => random.below(1 << 20),
        980..995 => random.below(4 << 20),
        _ => PART as u64 + 1 + random.below(1 << 20),
    };
    bytes(&mut random, size)
}

/// `size` bytes of a stream that is named by `name`, from `offset`, which is a multiple of 8. Pieces of
/// one stream fit together, however it is cut.
pub(crate) fn piece(name: &str, offset: u64, size: u64) -> Bytes {
    assert!(offset.is_multiple_of(8), "pieces begin at whole words: {offset}");
    let words = (offset / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bytes(&mut Random::new(seed_of(name).wrapping_add(words)), size)
}

fn bytes(random: &mut Random, size: u64) -> Bytes {
    let size = usize::try_from(size).expect("an object fits into memory");
    let mut body = Vec::with_capacity(size + 8);
    while body.len() < size {
        body.extend_from_slice(&random.next().to_le_bytes());
    }
    body.truncate(size);
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_stream_fit_together() {
        let whole = piece("stream", 0, 4096);
        let parts = [piece("stream", 0, 1000), piece("stream", 1000, 3096)].concat();
        assert_eq!(whole, parts);
        assert_ne!(whole, piece("other", 0, 4096));
    }

    #[test]
    fn versions_differ_and_repeat() {
        let versions: Vec<Bytes> = (0..50).map(|version| object("k", version)).collect();
        assert_eq!(versions[7], object("k", 7));
        let filled: Vec<&Bytes> = versions.iter().filter(|body| body.len() >= 16).collect();
        assert!(filled.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
