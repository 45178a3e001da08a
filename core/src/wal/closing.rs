//! The end of recovery: the torn tail is overwritten, what was written is synced, unused files are removed.

use super::record::{self, Place, SegmentHeader};
use super::recovery::{Cut, Flow, Phase, Recovery, Walk};
use super::scan::is_marked;
use super::segment::{Segments, spare_file};
use super::{RecoveryOutput, SegmentLog};
use crate::machine::{FileId, Io, OpIds};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

/// Bytes of the torn tail that are looked at, and overwritten where needed, at a time.
const ERASE_BYTES: u64 = 1 << 20;

impl Recovery {
    /// The log ends at `from` in the segment at `index`: nothing behind it counts, and what isn't zero there
    /// is in `dirt`.
    pub(super) fn cut(
        &mut self,
        index: usize,
        walk: &Walk,
        from: u64,
        dirt: Option<Range<u64>>,
    ) -> Flow {
        let block = walk.block(&self.config);
        self.block = block;
        self.resumes = block == u64::from(self.config.block_bytes);
        self.stat(walk).used = from;
        let later = self.files.iter().skip(index + 1).map(|found| found.file.number);
        let later: Vec<u64> = later.filter(|number| !self.unused.contains(number)).collect();
        self.unused.extend(later);
        let segment = walk.file.file.number;
        self.cut = Some(Cut {
            file: walk.file.file,
            from,
            torn: dirt.clone(),
            unused: self.unused.clone(),
            mark: self.mark,
        });
        let Range { start: at, end } = dirt.unwrap_or(from..from);
        let forgets = self.damaged_seq > self.mark_kept && from + block <= walk.file.bytes;
        self.phase = match forgets {
            true => Phase::Mark { segment, at: from, end, block },
            false => Phase::Erase { segment, at, end },
        };
        self.header_lost = walk.header.is_none();
        Flow::Continue
    }

    /// An empty batch that says how far the log is synced, as one of an idle log.
    pub(super) fn write_mark(
        &mut self,
        segment: u64,
        (at, end): (u64, u64),
        block: u64,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) -> Flow {
        let Some(stat) = self.known.get_mut(&segment) else {
            unreachable!("segment {segment} was walked and is not known")
        };
        let (seq, synced_seq) = (self.expected.unwrap_or(0).max(self.mark + 1), self.mark);
        let block_bytes = u32::try_from(block).unwrap_or(u32::MAX); // 64 KiB at the most
        let place = Place { segment, offset: at, seq, synced_seq, block_bytes };
        let batch = record::encode_batch(Vec::new(), place, &self.seal);
        (stat.used, stat.last_seq) = (batch.header.end(), seq);
        (self.mark_kept, self.expected) = (synced_seq, Some(seq + 1));
        self.phase = Phase::SyncMark { segment, at: stat.used, end };
        let file = FileId::new(self.config.kind, segment);
        self.issue(Io::Write { file, offset: at, data: batch.data }, 1, ops, out);
        Flow::Wait
    }

    /// What of these bytes of the last segment, which begin with a block at `base`, could be taken for a part of the log
    /// later.
    pub(super) fn to_be_erased(&self, segment: u64, base: u64, bytes: &[u8]) -> Option<Range<u64>> {
        let recycles = self.config.spares_max > 0;
        let is_dirty = |block: &[u8]| match recycles {
            true => is_marked(block, &self.seal, segment),
            false => block.iter().any(|byte| *byte != 0),
        };
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        let blocks = (base..).step_by(block).zip(bytes.chunks(block));
        let mut dirty = blocks.filter(|(_, block)| is_dirty(block));
        let (start, first) = dirty.next()?;
        let (last, block) = dirty.last().unwrap_or((start, first));
        Some(start..last + block.len() as u64)
    }

    pub(super) fn erase(
        &mut self,
        segment: u64,
        at: u64,
        end: u64,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) -> Flow {
        if at >= end {
            self.phase = Phase::Header { segment };
            return Flow::Continue;
        }
        let next = end.min(at + ERASE_BYTES);
        self.phase = Phase::Erase { segment, at: next, end };
        self.read(FileId::new(self.config.kind, segment), &(at..next), ops, out)
    }

    pub(super) fn write_header(
        &mut self,
        segment: u64,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) -> Flow {
        self.phase = Phase::Sync;
        let Some(stat) = self.known.get(&segment).copied().filter(|_| self.header_lost) else {
            return Flow::Continue;
        };
        self.is_unsynced = true;
        let header = SegmentHeader::new(&self.config, &stat);
        let data = Vec::from([header.block()]);
        let file = FileId::new(self.config.kind, segment);
        self.issue(Io::Write { file, offset: 0, data }, 1, ops, out);
        Flow::Wait
    }

    pub(super) fn sync(&mut self, ops: &mut OpIds, out: &mut Vec<RecoveryOutput>) -> Flow {
        self.phase = Phase::Names;
        let last = self.known.last_key_value().map(|(number, _)| *number);
        match last {
            Some(number) if self.is_unsynced => {
                let file = FileId::new(self.config.kind, number);
                self.issue(Io::Sync { file }, 1, ops, out);
                Flow::Wait
            }
            _ => Flow::Continue,
        }
    }

    /// Of two renames of one file that are not durable a power loss may keep the second alone, and then the file has
    /// two names.
    pub(super) fn settle_names(&mut self, ops: &mut OpIds, out: &mut Vec<RecoveryOutput>) -> Flow {
        self.phase = Phase::Remove;
        let changes = !self.unused.is_empty() || !self.excess.is_empty();
        if self.config.spares_max == 0 || !changes {
            return Flow::Continue;
        }
        self.issue(Io::SyncDir, 1, ops, out);
        Flow::Wait
    }

    pub(super) fn remove(&mut self, ops: &mut OpIds, out: &mut Vec<RecoveryOutput>) -> Flow {
        let io = if let Some(number) = self.excess.pop() {
            Io::Remove { file: spare_file(number) }
        } else if let Some(number) = self.unused.pop() {
            let file = FileId::new(self.config.kind, number);
            let bytes = self.files.iter().find(|it| it.file == file).map_or(0, |it| it.bytes);
            let is_spare = bytes == self.config.segment_bytes;
            if is_spare && self.spares.len() < self.config.spares_max {
                self.spares.insert(number);
                Io::Rename { from: file, to: spare_file(number) }
            } else {
                Io::Remove { file }
            }
        } else {
            // Also when nothing was removed: a removal before the crash may not be durable.
            let is_new = self.files.is_empty() && self.next_number == 1;
            self.phase = if is_new { Phase::Finish } else { Phase::SyncDir };
            return Flow::Continue;
        };
        self.phase = Phase::Remove;
        self.issue(io, 1, ops, out);
        Flow::Wait
    }

    pub(super) fn finish(&mut self, out: &mut Vec<RecoveryOutput>) -> Flow {
        let last = self.known.last_key_value().map(|(number, _)| *number);
        let current = if self.resumes { last } else { None };
        let last_seq = self.expected.map_or(0, |expected| expected - 1).max(self.mark);
        let known = core::mem::take(&mut self.known);
        let spares = core::mem::take(&mut self.spares);
        let segments = Segments::new(known, current, spares, self.next_number);
        let seqs = (last_seq, self.record_seq, self.mark_kept.min(self.mark));
        let log = SegmentLog::open(self.config.clone(), segments, seqs);
        out.push(RecoveryOutput::Finished(Box::new(log)));
        self.phase = Phase::Done;
        Flow::Wait
    }
}
