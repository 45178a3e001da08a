//! Chunks at rest: what a scrub has to find, because nobody reads it.

use super::*;
use ironseed_core::machine::{FileId, FileKind, Hashed};

impl<M: Machine> World<M> {
    /// Whether something struck chunks that lie on a disk, and a scrub is there to find it.
    #[must_use]
    pub fn is_scrubbed(&self) -> bool {
        self.setup.tuning.scrub_bytes_per_second > 0 && self.oracles.durable.chunks_struck()
    }

    /// Chunks that a running node holds and whose bytes on its disk are others.
    #[must_use]
    pub fn rotten_chunks(&self) -> Vec<String> {
        let mut rotten = Vec::new();
        for (node, slot) in self.slots.iter().enumerate() {
            if self.replaced.is_out(node) {
                continue;
            }
            for (chunk, at) in slot.machine.iter().flat_map(Machine::held_chunks) {
                let file = FileId::new(FileKind::Chunk, at.segment);
                let bytes = slot.disk.read_durable(file, at.offset, at.bytes as usize);
                let hash = bytes.map(|bytes| Hashed::of(&bytes).hash);
                if hash != Some(chunk.hash) {
                    let offset = at.offset;
                    rotten
                        .push(format!("{:?} holds {chunk:?} in {file} at byte {offset}", slot.id));
                }
            }
        }
        rotten
    }
}
