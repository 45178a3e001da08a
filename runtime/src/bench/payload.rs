//! Bodies that neither compress nor repeat.

use bytes::Bytes;

/// Each block of this size is unique among all bodies of all runs.
const BLOCK: usize = 4096;

/// Makes one body after another.
pub(super) struct Payload {
    template: Vec<u8>,
    /// Random, so that no two workers or runs count alike.
    worker: u64,
    count: u64,
}

impl Payload {
    /// Bodies of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        let worker = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        let mut template = vec![0; usize::try_from(size).unwrap_or(0)];
        // A keyed stream is as incompressible as randomness, and a gigabyte takes a fraction of a
        // second.
        let mut stream = blake3::Hasher::new().update(&worker.to_le_bytes()).finalize_xof();
        stream.fill(&mut template);
        Self { template, worker, count: 0 }
    }

    /// The next body. Changing a few bytes of each block is cheaper than making them anew.
    pub(super) fn next(&mut self) -> Bytes {
        self.count += 1;
        let mark = blake3::hash(&[self.worker.to_le_bytes(), self.count.to_le_bytes()].concat());
        let mark = mark.as_bytes();
        for block in self.template.chunks_mut(BLOCK) {
            for (byte, mark) in block.iter_mut().zip(mark.iter().take(16)) {
                *byte ^= mark;
            }
        }
        Bytes::copy_from_slice(&self.template)
    }
}
