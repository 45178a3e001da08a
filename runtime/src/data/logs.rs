//! The logs: what a boot makes of them, and every byte of every batch.

use super::findings::{self, Covered, Finding, Groups, Kind, Verified};
use super::store::Store;
use super::{Progress, ToolError};
use ironseed_core::machine::{FileId, FileKind, FoundFile, IoOp, OpIds};
use ironseed_core::node::offline::log_config;
use ironseed_core::types::{Location, StoreId};
use ironseed_core::wal::reading::{Flaw, ReadBatch, Reading, SegmentReader};
use ironseed_core::wal::record::Entry;
use ironseed_core::wal::{Cut, LogDamage, Recovery, RecoveryOutput};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

/// The logs of a directory.
pub(super) const KINDS: [FileKind; 3] = [FileKind::Wal, FileKind::Table, FileKind::Chunk];
/// Bytes that are looked through at a time for what isn't zero.
const SLICE_BYTES: u64 = 1 << 20;

/// What a boot makes of a log.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) damages: Vec<LogDamage>,
    pub(super) cuts: Vec<Cut>,
    /// Empty where nobody looks at states.
    pub(super) covered: Covered,
}

/// Runs the recovery of one log, and leaves its writes out.
pub(super) fn judge(
    store: &Store,
    id: StoreId,
    kind: FileKind,
    progress: &Progress,
) -> Result<Judgement, ToolError> {
    // A boot looks at the chunk log's directories alone.
    let config = log_config(kind, id.0, kind != FileKind::Chunk);
    let mut recovery = Recovery::new(config, &store.files);
    let (mut ops, mut outputs) = (OpIds::new(1, 1), Vec::new());
    let (mut judgement, mut queue) = (Judgement::default(), VecDeque::new());
    recovery.start(&mut ops, &mut outputs);
    loop {
        for output in outputs.drain(..) {
            match output {
                RecoveryOutput::Io(io) => queue.push_back(io),
                RecoveryOutput::Damage(damage) => judgement.damages.push(damage),
                RecoveryOutput::Record(_) | RecoveryOutput::Finished(_) => {}
                RecoveryOutput::Failed(halt) => return Err(ToolError::Store(halt.reason)),
            }
        }
        let Some(IoOp { op, io }) = queue.pop_front() else { break };
        let result = store.pretend(&io, progress);
        recovery.on_done(op, &result, &mut ops, &mut outputs);
    }
    judgement.cuts.extend(recovery.cut_at().cloned());
    Ok(judgement)
}

/// A segment being read, batch after batch.
pub(super) struct Segment<'a> {
    store: &'a Store,
    pub(super) file: FoundFile,
    pub(super) reader: SegmentReader,
}

impl<'a> Segment<'a> {
    pub(super) fn new(store: &'a Store, id: StoreId, file: FoundFile) -> Self {
        let config = log_config(file.file.kind, id.0, true);
        Self { store, file, reader: SegmentReader::new(config, file) }
    }

    /// What comes next; never [`Reading::Read`].
    pub(super) fn next(&mut self, progress: &Progress) -> Reading {
        loop {
            match self.reader.go_on() {
                Reading::Read(range) => {
                    progress.read(range.end - range.start);
                    let (bytes, bad) = self.store.read_around(self.file.file, &range);
                    self.reader.feed(&range, &bytes, bad);
                }
                reading => return reading,
            }
        }
    }
}

/// Reads every batch of a log and reports what is damaged beside what a boot has reported, and the torn tail. `each` is
/// given every record with its payload, if that has its checksum, and says what is wrong with it.
pub(super) fn read_all(
    store: &Store,
    id: StoreId,
    kind: FileKind,
    judgement: &Judgement,
    verified: &mut Verified,
    progress: &Progress,
    mut each: impl FnMut(&Entry, Option<&[u8]>) -> Option<(Kind, Groups, String)>,
) -> Result<(), ToolError> {
    let told: BTreeSet<(FileId, u64)> =
        judgement.damages.iter().map(|it| (it.damage.file, it.damage.offset)).collect();
    for found in judgement.damages.iter().filter(|it| it.damage.file.kind == kind) {
        verified.add(findings::of_damage(found, &judgement.covered));
    }
    let cut = judgement.cuts.iter().find(|cut| cut.file.kind == kind);
    for file in store.segments(kind) {
        progress.say(file.file.to_string());
        verified.count("segments", 1);
        verified.count("bytes", file.bytes);
        let mut segment = Segment::new(store, id, file);
        let mut torn = Torn::of(cut, file);
        let mut begun = None;
        let behind = loop {
            match segment.next(progress) {
                Reading::Start { header, intact } => begun = Some((header.is_some(), intact)),
                Reading::Refused(why) => return Err(ToolError::Store(why)),
                Reading::Read(_) => unreachable!("a segment feeds its reader"),
                Reading::End { unreadable, from, dirt } => {
                    if unreadable {
                        let what = String::from("the device can't read what is here");
                        let kind = Kind::Unreadable;
                        verified.add(findings::finding(file.file, from, kind, Groups::Any, what));
                    }
                    break dirt;
                }
                Reading::Batch(batch) => {
                    if let Some((has_header, false)) = begun.take()
                        && !torn.covers(0)
                        && !told.contains(&(file.file, 0))
                    {
                        let what = if has_header { "padding of the header" } else { "header" };
                        let (kind, what) = (Kind::Copy, format!("segment {what}"));
                        verified.add(findings::finding(file.file, 0, kind, Groups::None, what));
                    }
                    if torn.covers(batch.header.offset) {
                        let groups = batch.entries.iter().flatten();
                        torn.groups.extend(groups.map(|entry| entry.identity.group.0));
                    } else {
                        verified.count("batches", 1);
                        on_batch(&segment, &batch, &told, verified, &mut each);
                    }
                }
            }
        };
        torn.report(store, behind, verified);
    }
    Ok(())
}

fn on_batch(
    segment: &Segment<'_>,
    batch: &ReadBatch,
    told: &BTreeSet<(FileId, u64)>,
    verified: &mut Verified,
    each: &mut impl FnMut(&Entry, Option<&[u8]>) -> Option<(Kind, Groups, String)>,
) {
    let (file, seq) = (segment.file.file, batch.header.seq);
    let flaws = segment.reader.flaws(batch);
    let mut lost = BTreeSet::new();
    for flaw in flaws {
        match flaw {
            Flaw::Payload(at) => {
                lost.insert(at);
            }
            Flaw::Directory if told.contains(&(file, batch.header.offset)) => {}
            Flaw::Directory => {
                let what = format!("directory of batch {seq}");
                let offset = batch.header.offset;
                verified.add(findings::finding(file, offset, Kind::Identities, Groups::Any, what));
            }
            // A boot reports the batch, this the byte.
            Flaw::Frame(_) if told.contains(&(file, batch.header.offset)) => {}
            Flaw::Frame(offset) => {
                let what = format!("a copy of the identities of batch {seq}, or its padding");
                verified.add(findings::finding(file, offset, Kind::Copy, Groups::None, what));
            }
        }
    }
    for (at, entry) in batch.entries.iter().flatten().enumerate() {
        verified.count("records", 1);
        let good = if lost.contains(&at) { None } else { payload_of(batch, entry) };
        let finding = each(entry, good);
        let is_told = told.contains(&(file, entry.location.offset));
        if let Some((kind, groups, what)) = finding
            && !is_told
        {
            let Location { offset, bytes, .. } = entry.location;
            let bytes = Some(u64::from(bytes));
            let found = findings::finding(file, offset, kind, groups, what);
            verified.add(Finding { bytes, ..found });
        }
    }
}

fn payload_of<'a>(batch: &'a ReadBatch, entry: &Entry) -> Option<&'a [u8]> {
    ironseed_core::wal::reading::payload(batch, entry)
}

/// What a damaged record of this log is, if a boot has not said it.
pub(super) fn plain(
    log: FileKind,
) -> impl FnMut(&Entry, Option<&[u8]>) -> Option<(Kind, Groups, String)> {
    move |entry, payload| {
        let what = || findings::payload_of(log, &entry.identity);
        let lost = payload.is_none().then(what);
        lost.map(|what| (Kind::Payload, Groups::one(entry.identity.group.0), what))
    }
}

/// What of a segment lies behind the end of the log.
struct Torn {
    file: FileId,
    /// Where the log ends in it: at its start if it holds no part of the log.
    from: u64,
    /// What recovery takes for the rest of a write; `None` where the reader is to say it.
    rest: Option<Option<Range<u64>>>,
    groups: BTreeSet<u32>,
}

impl Torn {
    fn of(cut: Option<&Cut>, file: FoundFile) -> Self {
        let number = file.file.number;
        let (from, rest) = match cut {
            Some(cut) if cut.file == file.file => (cut.from, Some(cut.torn.clone())),
            Some(cut) if number < cut.file.number && !cut.unused.contains(&number) => {
                (file.bytes, Some(None))
            }
            // Made ahead of need, or the log has not begun.
            Some(_) | None => (0, None),
        };
        Self { file: file.file, from, rest, groups: BTreeSet::new() }
    }

    fn covers(&self, offset: u64) -> bool {
        offset >= self.from
    }

    /// Reports it, given what the reader has found behind the last batch.
    fn report(self, store: &Store, behind: Option<Range<u64>>, verified: &mut Verified) {
        let rest = self.rest.unwrap_or(behind);
        let Some(dirt) = rest.and_then(|rest| dirt(store, self.file, rest)) else { return };
        let groups = if self.groups.is_empty() { Groups::None } else { Groups::Some(self.groups) };
        let what = String::from("what is not the end of a whole write");
        let found = findings::finding(self.file, dirt.start, Kind::TornTail, groups, what);
        verified.add(Finding { bytes: Some(dirt.end - dirt.start), ..found });
    }
}

/// The first and the last byte of a range that aren't zero.
fn dirt(store: &Store, file: FileId, range: Range<u64>) -> Option<Range<u64>> {
    let (mut found, mut at) = (None, range.start);
    while at < range.end {
        let slice = at..range.end.min(at + SLICE_BYTES);
        let (bytes, _) = store.read_around(file, &slice);
        let mut start = slice.start;
        for piece in bytes.chunks(ZEROS.len()) {
            if ZEROS.get(..piece.len()) != Some(piece) {
                let first = piece.iter().position(|byte| *byte != 0).unwrap_or(0);
                let last = piece.iter().rposition(|byte| *byte != 0).unwrap_or(first);
                let from = found.map_or(start + first as u64, |it: Range<u64>| it.start);
                found = Some(from..start + last as u64 + 1);
            }
            start += piece.len() as u64;
        }
        at = slice.end;
    }
    found
}

/// Zeros to compare with, which is what the machine does fastest.
const ZEROS: [u8; 4096] = [0; 4096];
