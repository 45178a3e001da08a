//! Boot: the index from the chunk log's directories, without reading a chunk.

use super::live::Live;
use super::store::{ChunkStore, identity_of};
use super::{Config, RECORD_KIND, Wanted};
use crate::machine::{FoundFile, Halt, IoOp, IoResult, OpIds};
use crate::types::{BlobId, ChunkHash, ChunkId, OpId};
use crate::wal::{
    Cut, Location, LogDamage, Recovered, RecoveredPayload, Recovery, RecoveryOutput, SegmentLog,
};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The boot scan of the chunk log.
#[derive(Clone, Debug)]
pub struct ChunkRecovery {
    config: Config,
    log: Recovery,
    index: BTreeMap<ChunkId, Location>,
    live: Live,
    missing: BTreeMap<ChunkId, Wanted>,
}

/// What the boot scan asks for and finds.
#[derive(Clone, Debug)]
pub enum ChunkRecoveryOutput {
    /// An operation for the driver. Its completion goes to [`ChunkRecovery::on_done`].
    Io(IoOp),
    /// Damage in the chunk log. Chunks may be missing that nobody can name from the disk alone:
    /// [`ChunkStore::expect`] finds them.
    Damage(LogDamage),
    /// The store is open.
    Finished(Box<ChunkStore>),
    /// The chunk log can't be opened.
    Failed(Halt),
}

impl ChunkRecovery {
    /// A recovery over the files of the data directory; those of other kinds are ignored.
    #[must_use]
    pub fn new(mut config: Config, files: &[FoundFile]) -> Self {
        // Puts sync in groups as they ask for it; chunks are verified when they are read.
        config.log.eager_sync = false;
        config.log.verify_payloads_at_boot = false;
        config.log.keep_payloads_at_boot = false;
        Self {
            log: Recovery::new(config.log.clone(), files),
            config,
            index: BTreeMap::new(),
            live: Live::default(),
            missing: BTreeMap::new(),
        }
    }

    /// Emits the first outputs; finishes at once if there are no files. Called once.
    pub fn start(&mut self, ops: &mut OpIds, out: &mut Vec<ChunkRecoveryOutput>) {
        let mut log_out = Vec::new();
        self.log.start(ops, &mut log_out);
        self.take_log(log_out, out);
    }

    /// Takes the completion of an operation and goes on. `false`: the operation isn't this recovery's.
    pub fn on_done(
        &mut self,
        op: OpId,
        result: &IoResult,
        ops: &mut OpIds,
        out: &mut Vec<ChunkRecoveryOutput>,
    ) -> bool {
        let mut log_out = Vec::new();
        let is_mine = self.log.on_done(op, result, ops, &mut log_out);
        self.take_log(log_out, out);
        is_mine
    }

    /// Where the log ends, once everything in it was read.
    #[must_use]
    pub const fn cut_at(&self) -> Option<&Cut> {
        self.log.cut_at()
    }

    fn take_log(&mut self, log_out: Vec<RecoveryOutput>, out: &mut Vec<ChunkRecoveryOutput>) {
        for output in log_out {
            match output {
                RecoveryOutput::Io(op) => out.push(ChunkRecoveryOutput::Io(op)),
                RecoveryOutput::Record(record) => self.on_record(&record),
                RecoveryOutput::Damage(damage) => out.push(ChunkRecoveryOutput::Damage(damage)),
                RecoveryOutput::Finished(log) => out.push(self.finish(*log)),
                RecoveryOutput::Failed(halt) => out.push(ChunkRecoveryOutput::Failed(halt)),
            }
        }
    }

    fn on_record(&mut self, record: &Recovered) {
        let Some(chunk) = chunk_of(record) else { return };
        let location = record.location;
        if record.payload == RecoveredPayload::Lost {
            self.missing.insert(chunk, Wanted { bytes: location.bytes, holders: 0 });
        } else {
            self.missing.remove(&chunk);
        }
        self.live.add(location.segment, location.bytes);
        // A chunk that was moved or replaced stands there twice: the later one counts.
        if let Some(before) = self.index.insert(chunk, location) {
            self.live.subtract(before.segment, before.bytes);
        }
    }

    fn finish(&mut self, log: SegmentLog) -> ChunkRecoveryOutput {
        let index = core::mem::take(&mut self.index);
        let live = core::mem::take(&mut self.live);
        let missing = core::mem::take(&mut self.missing);
        let store = ChunkStore::open(self.config.clone(), log, index, live, missing);
        ChunkRecoveryOutput::Finished(Box::new(store))
    }
}

/// The chunk that a record holds; `None` for a record of a kind that this version doesn't know.
fn chunk_of(record: &Recovered) -> Option<ChunkId> {
    let home = record.identity.group.shard()?;
    let blob = BlobId { home, opened: record.identity.index };
    let hash = ChunkHash(record.note.as_ref().try_into().ok()?);
    (record.identity.kind == RECORD_KIND && record.identity == identity_of(blob))
        .then_some(ChunkId { blob, hash })
}
