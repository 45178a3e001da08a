//! The boot scan: tells a torn tail from corruption, hands out what is there, and makes it durable.
//!
//! 1. **Find the mark.** From the newest file back: the first that has a good header or any batch is the
//!    last segment; newer ones were made ahead or hold a torn first write, and are removed. The highest mark in
//!    the last segment is the log's: a segment is only begun when all before it is synced. Only heads are read for that; what lies behind the last
//!    batch is not read again.
//! 2. **Walk** all segments in order (`walking`). At or before the mark, a batch that is missing or can't be identified
//!    and a payload with a wrong checksum are damage. Beyond it the first of these is the torn tail:
//!    the log ends before it. A whole batch beyond the mark is written again in place.
//!    What is cut may be all that says how far the log was synced: then a mark is written in its place, or the next boot
//!    would take what is damaged now for torn.
//! 3. **Close** (`closing`). Zeros over the torn tail, sync, removal of what is unused, sync of the directory. Where the log recycles,
//!    files that are unused become spares, and zeros are written only over what bears the mark of the segment itself:
//!    everything else behind the end of the log is of an earlier life of the file, and never passes.

use super::piecewise::Patchwork;
use super::record::{self, Seal, SegmentHeader};
use super::scan::{Found, FoundBatch, Scanner};
use super::{Config, DamageKind, LogDamage, RecoveryOutput, SegmentStat, log};
use crate::machine::{
    FileId, FileKind, FoundFile, Halt, Io, IoDone, IoError, IoOp, IoResult, OpIds,
};
use crate::planted::Bug;
use crate::types::{Damage, OpId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// A read that fails is tried this often before its bytes count as lost.
const READ_TRIES_MAX: u8 = 3;
/// The largest block size of any segment, so the first read of one holds its whole first block.
pub(super) const BLOCK_BYTES_MAX: u64 = 64 << 10;

/// The boot scan of one log. One operation is in flight at a time; each completion brings a slice of
/// records.
#[derive(Clone, Debug)]
pub struct Recovery {
    pub(super) config: Config,
    pub(super) seal: Seal,
    /// This log's files, by number.
    pub(super) files: Vec<FoundFile>,
    pub(super) phase: Phase,
    waiting: Option<Waiting>,
    pub(super) patchwork: Option<Patchwork>,
    /// The last segment, where its last batch ends, and what isn't zero behind that: it need not be read again.
    pub(super) end: Option<(u64, u64, Option<Range<u64>>)>,
    /// The segment that the walk begins with, if it is not the first.
    begin: u64,
    /// The last batch known to be synced.
    pub(super) mark: u64,
    /// The highest mark in what the log keeps.
    pub(super) mark_kept: u64,
    /// The last batch of which damage was reported that costs something.
    pub(super) damaged_seq: u64,
    /// Files without a batch, to be removed or kept as spares.
    pub(super) unused: Vec<u64>,
    /// Files that are kept to be used again.
    pub(super) spares: BTreeSet<u64>,
    /// Spares that are too many, or of another size.
    pub(super) excess: Vec<u64>,
    /// The number of the next segment: above all files, so that nothing in a spare ever passes for a part of it.
    pub(super) next_number: u64,
    pub(super) known: BTreeMap<u64, SegmentStat>,
    /// The number of the next batch, if it follows from what was walked.
    pub(super) expected: Option<u64>,
    /// The last batch with records in it.
    pub(super) record_seq: u64,
    /// The segment walked last, and where its batches ended.
    pub(super) walked: Option<(u64, u64, Option<Range<u64>>)>,
    /// Whether the last segment was written to and must be synced.
    pub(super) is_unsynced: bool,
    /// Whether the last segment has lost its header, which is written again.
    pub(super) header_lost: bool,
    /// Whether the last segment can be written on.
    pub(super) resumes: bool,
    /// The block size of the last segment.
    pub(super) block: u64,
    /// Where the log ends.
    pub(super) cut: Option<Cut>,
}

/// Where a recovery found that the log ends, and what it does not take for a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The last segment.
    pub file: FileId,
    /// The end of its last batch.
    pub from: u64,
    /// The torn tail: what isn't zero behind that, to be overwritten. Batches may stand in it that are whole.
    pub torn: Option<Range<u64>>,
    /// Files behind it that hold no part of the log, to be removed.
    pub unused: Vec<u64>,
    /// The highest sync mark: what is damaged at or before this batch is corruption.
    pub mark: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Looks for the mark in the file at this index.
    Find(usize, Option<Walk>),
    /// Hands out the segment at this index; the second is the index of the last.
    Walk(usize, usize, Option<Walk>),
    /// Writes the mark over the torn tail, before what says so there is erased.
    Mark {
        segment: u64,
        at: u64,
        end: u64,
        block: u64,
    },
    /// Makes it durable.
    SyncMark {
        segment: u64,
        at: u64,
        end: u64,
    },
    /// Overwrites the last segment from `at` on.
    Erase {
        segment: u64,
        at: u64,
        end: u64,
    },
    /// Writes the last segment's header again, if it was lost.
    Header {
        segment: u64,
    },
    Sync,
    /// Makes the names durable that a killed process left, if some of them are to be changed again.
    Names,
    Remove,
    SyncDir,
    Finish,
    Done,
}

/// A segment being read.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) file: FoundFile,
    pub(super) header: Option<SegmentHeader>,
    pub(super) scanner: Scanner,
    /// A batch whose payloads are being read.
    pub(super) batch: Option<FoundBatch>,
    /// Whether a batch was found.
    pub(super) any: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    op: OpId,
    io: Io,
    tries: u8,
}

/// Whether recovery goes on within this step.
#[derive(PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Wait,
}

impl Recovery {
    /// A recovery over the files of the data directory; those of other kinds are ignored, but for spares by a log that recycles.
    #[must_use]
    pub fn new(config: Config, found: &[FoundFile]) -> Self {
        let mut files: Vec<FoundFile> =
            found.iter().filter(|found| found.file.kind == config.kind).copied().collect();
        files.sort_unstable_by_key(|found| found.file.number);
        let (mut spares, mut excess) = (BTreeSet::new(), Vec::new());
        let found_spares = found.iter().filter(|it| it.file.kind == FileKind::Spare);
        for it in found_spares.filter(|_| config.spares_max > 0) {
            if it.bytes == config.segment_bytes && spares.len() < config.spares_max {
                spares.insert(it.file.number);
            } else {
                excess.push(it.file.number);
            }
        }
        let numbers = files.iter().map(|it| it.file.number).chain(spares.iter().copied());
        let highest = numbers.chain(excess.iter().copied()).max().unwrap_or(0);
        Self {
            seal: Seal::of(&config),
            config,
            spares,
            excess,
            next_number: highest + 1,
            phase: Phase::Find(files.len(), None),
            files,
            waiting: None,
            patchwork: None,
            end: None,
            begin: 0,
            mark: 0,
            mark_kept: 0,
            damaged_seq: 0,
            unused: Vec::new(),
            known: BTreeMap::new(),
            expected: None,
            record_seq: 0,
            walked: None,
            is_unsynced: false,
            header_lost: false,
            resumes: false,
            cut: None,
            block: 0,
        }
    }

    /// Where the log ends, once everything in it was handed out. `None` too if there is none.
    #[must_use]
    pub const fn cut_at(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// The owner knows what is in these segments, oldest first, but for the last: the walk begins with that, and the others are
    /// a part of the log without being read. Every batch up to `durable` is known to be synced. To be called before
    /// [`Self::start`].
    pub fn begin_at(&mut self, segments: &[SegmentStat], durable: u64) {
        let Some((first, before)) = segments.split_last() else { return };
        self.known.extend(before.iter().map(|stat| (stat.number, *stat)));
        (self.begin, self.mark) = (first.number, durable);
        if let Some(last) = before.last() {
            self.walked = Some((last.number, last.used, None));
            self.expected = Some(first.first_seq);
        }
    }

    /// Emits the first outputs; finishes at once if there are no files. Called once.
    pub fn start(&mut self, ops: &mut OpIds, out: &mut Vec<RecoveryOutput>) {
        self.advance(ops, out);
    }

    /// Takes the completion of an operation and goes on. `false`: the operation isn't this recovery's.
    pub fn on_done(
        &mut self,
        op: OpId,
        result: &IoResult,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) -> bool {
        let Some(waiting) = self.waiting.take_if(|waiting| waiting.op == op) else {
            return false;
        };
        match (&waiting.io, result) {
            (Io::Read { .. }, Err(IoError::Device)) if waiting.tries < READ_TRIES_MAX => {
                self.issue(waiting.io, waiting.tries + 1, ops, out);
                return true;
            }
            (Io::Read { file, offset, len }, Ok(IoDone::Data(_)) | Err(IoError::Device)) => {
                let range = *offset..*offset + u64::from(*len);
                let bytes = match result {
                    Ok(IoDone::Data(bytes)) => Some(bytes),
                    _ => None,
                };
                if let Err(reason) = self.on_piece(*file, range, bytes, ops, out) {
                    self.fail(reason, out);
                }
            }
            (Io::Remove { .. } | Io::Rename { .. }, Err(IoError::NotFound)) | (_, Ok(_)) => {}
            (io, Err(error)) => self.fail(format!("recovery: {io:?}: {error:?}"), out),
        }
        self.advance(ops, out);
        true
    }

    pub(super) fn advance(&mut self, ops: &mut OpIds, out: &mut Vec<RecoveryOutput>) {
        while self.waiting.is_none() {
            let flow = match core::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Find(index, walk) => self.find(index, walk, ops, out),
                Phase::Walk(index, last, walk) => self.walk(index, last, walk, ops, out),
                Phase::Mark { segment, at, end, block } => {
                    self.write_mark(segment, (at, end), block, ops, out)
                }
                Phase::SyncMark { segment, at, end } => {
                    self.phase = Phase::Erase { segment, at, end };
                    let file = FileId::new(self.config.kind, segment);
                    self.issue(Io::Sync { file }, 1, ops, out);
                    Flow::Wait
                }
                Phase::Erase { segment, at, end } => self.erase(segment, at, end, ops, out),
                Phase::Header { segment } => self.write_header(segment, ops, out),
                Phase::Sync => self.sync(ops, out),
                Phase::Names => self.settle_names(ops, out),
                Phase::Remove => self.remove(ops, out),
                Phase::SyncDir => {
                    self.phase = Phase::Finish;
                    self.issue(Io::SyncDir, 1, ops, out);
                    Flow::Wait
                }
                Phase::Finish => self.finish(out),
                Phase::Done => Flow::Wait,
            };
            if flow == Flow::Wait {
                return;
            }
        }
    }

    pub(super) fn issue(
        &mut self,
        io: Io,
        tries: u8,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) {
        let op = ops.take();
        out.push(RecoveryOutput::Io(IoOp { op, io: io.clone() }));
        self.waiting = Some(Waiting { op, io, tries });
    }

    pub(super) fn read(
        &mut self,
        file: FileId,
        range: &Range<u64>,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) -> Flow {
        // Ranges are bounded by a slice or by a batch, both below 4 GiB.
        let len = u32::try_from(range.end - range.start).unwrap_or(u32::MAX);
        self.issue(Io::Read { file, offset: range.start, len }, 1, ops, out);
        Flow::Wait
    }

    pub(super) fn fail(&mut self, reason: String, out: &mut Vec<RecoveryOutput>) {
        self.phase = Phase::Done;
        out.push(RecoveryOutput::Failed(Halt { reason }));
    }

    /// Bytes of a segment have come, but for what is in `bad`.
    pub(super) fn on_read(
        &mut self,
        range: &Range<u64>,
        bytes: &Bytes,
        bad: Range<u64>,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) -> Result<(), String> {
        match &mut self.phase {
            Phase::Find(_, Some(walk)) | Phase::Walk(_, _, Some(walk)) => {
                walk.scanner.feed(range, bytes, bad);
                Ok(())
            }
            Phase::Find(index, walk @ None) => {
                let file = file_at(&self.files, *index)?;
                let mut opened = Walk::open(file, range, bytes, bad, &self.config)?;
                opened.scanner.skip_payloads(); // Heads tell all that is looked for.
                *walk = Some(opened);
                Ok(())
            }
            Phase::Walk(index, _, walk @ None) => {
                let file = file_at(&self.files, *index)?;
                let opened = Walk::open(file, range, bytes, bad, &self.config)?;
                let (number, header) = (file.file.number, opened.header);
                *walk = Some(opened);
                self.enter_segment(number, header, out);
                Ok(())
            }
            Phase::Erase { segment, .. } => {
                let segment = *segment;
                let dirty = if bad.start < bad.end {
                    Some(range.clone())
                } else {
                    self.to_be_erased(segment, range.start, bytes)
                };
                if let Some(Range { start: offset, end }) = dirty {
                    let file = FileId::new(self.config.kind, segment);
                    let data = log::zeros(end - offset);
                    self.is_unsynced = true;
                    self.issue(Io::Write { file, offset, data }, 1, ops, out);
                }
                Ok(())
            }
            phase => Err(format!("recovery: a read completed in {phase:?}")),
        }
    }

    /// Looks for the last segment and the mark, from file `index` (exclusive) down.
    fn find(
        &mut self,
        index: usize,
        walk: Option<Walk>,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) -> Flow {
        let Some(mut walk) = walk else {
            let Some((below, file)) =
                index.checked_sub(1).and_then(|below| Some((below, self.files.get(below)?)))
            else {
                self.phase = Phase::Names; // No segment at all.
                return Flow::Continue;
            };
            let (file, range) = (file.file, 0..file.bytes.min(BLOCK_BYTES_MAX));
            self.phase = Phase::Find(below, None);
            return self.read(file, &range, ops, out);
        };
        let first_seq = walk.header.map_or(0, |header| header.first_seq);
        self.mark = self.mark.max(first_seq.saturating_sub(1));
        let file = walk.file.file;
        match walk.scanner.next(&self.seal) {
            Found::Read(range) => {
                self.phase = Phase::Find(index, Some(walk));
                self.read(file, &range, ops, out)
            }
            Found::Batch(batch) => {
                walk.any = true;
                self.mark = self.mark.max(batch.header.synced_seq);
                self.phase = Phase::Find(index, Some(walk));
                Flow::Continue
            }
            // A batch may stand there, and with it the mark.
            Found::End { from, unreadable: true, .. } => self.refuse_unreadable(file, from, out),
            Found::End { from, dirt, .. } if walk.any || walk.header.is_some() => {
                self.end = Some((file.number, from, dirt));
                let begin = self.files.iter().position(|it| it.file.number >= self.begin);
                self.phase = Phase::Walk(begin.unwrap_or(0).min(index), index, None);
                Flow::Continue
            }
            Found::End { .. } => {
                self.unused.push(file.number);
                self.phase = Phase::Find(index, None);
                Flow::Continue
            }
        }
    }

    /// Whether a damage at batch `seq` is a torn tail and not corruption.
    pub(super) fn is_torn(&mut self, seq: u64) -> bool {
        if self.config.planted.is(Bug::CorruptionAsTornTail) {
            self.mark = self.mark.min(seq.saturating_sub(1));
        }
        seq > self.mark
    }

    /// What lies beyond the mark can't be read, so nobody can tell whether it is torn. Cutting it might
    /// forget a promise; another boot, or another disk, may do better.
    pub(super) fn refuse_unreadable(
        &mut self,
        file: FileId,
        from: u64,
        out: &mut Vec<RecoveryOutput>,
    ) -> Flow {
        self.fail(format!("{file} at byte {from}: the device can't read the end of the log"), out);
        Flow::Wait
    }

    pub(super) fn report(
        &mut self,
        file: FileId,
        offset: u64,
        what: String,
        kind: DamageKind,
        out: &mut Vec<RecoveryOutput>,
    ) {
        let damage = Damage { file, offset, what };
        out.push(RecoveryOutput::Damage(LogDamage { damage, kind }));
    }
}

impl Walk {
    /// Judges the first bytes of a segment. An error is a segment that this log must not touch.
    pub(super) fn open(
        file: FoundFile,
        range: &Range<u64>,
        bytes: &Bytes,
        bad: Range<u64>,
        config: &Config,
    ) -> Result<Self, String> {
        let id = file.file;
        let header = SegmentHeader::decode(bytes);
        // A header of another file came here by a misdirected write: as good as none.
        let header = header
            .filter(|header| header.segment == id.number)
            .filter(|header| header.kind == record::kind_code(id.kind));
        if let Some(header) = header {
            if header.version != record::VERSION {
                return Err(format!("{id} has format version {}, not 1", header.version));
            }
            if header.store != config.store {
                return Err(format!("{id} at byte 24: belongs to another store"));
            }
            let block = u64::from(header.block_bytes);
            if !block.is_power_of_two() || block > BLOCK_BYTES_MAX {
                return Err(format!("{id} at byte 12: block size {block}"));
            }
        }
        let block = header.map_or(config.block_bytes, |header| header.block_bytes);
        let skips = !config.verify_payloads_at_boot && !config.keep_payloads_at_boot;
        let recycled = config.spares_max > 0;
        let mut scanner = Scanner::new(id.number, u64::from(block), file.bytes, skips, recycled);
        scanner.feed(range, bytes, bad);
        Ok(Self { file, header, scanner, batch: None, any: false })
    }

    pub(super) fn block(&self, config: &Config) -> u64 {
        u64::from(self.header.map_or(config.block_bytes, |header| header.block_bytes))
    }
}

fn file_at(files: &[FoundFile], index: usize) -> Result<FoundFile, String> {
    files.get(index).copied().ok_or_else(|| format!("recovery: no file {index}"))
}
