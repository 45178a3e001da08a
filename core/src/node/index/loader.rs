//! The boot's side: the newest snapshot that is whole and fits the table log is loaded, the others are removed.

use super::format::{BLOCK_BYTES_MAX, Block, Decoded, FOOTER_BYTES, Footer, Seal, Tail};
use crate::kv::index::{IndexHead, IndexLoading};
use crate::kv::table::Table;
use crate::machine::{FileId, FileKind, FoundFile, Halt, Io, IoDone, IoOp, IoResult, OpIds};
use crate::node::cleaner::FrameAt;
use crate::node::trace::Trace;
use crate::types::{GroupId, OpId};
use crate::wal::SegmentStat;
use crate::wal::record::{SEGMENT_HEADER_BYTES, SegmentHeader, kind_code};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

/// Bytes of a read, and how many are under way: while one is decoded the next are on their way.
const SLICE_BYTES: u64 = 1 << 20;
const READS: u64 = 4;

/// What was loaded.
#[derive(Clone, Debug)]
pub(in crate::node) struct Loaded {
    /// The groups, each at the end of a frame.
    pub(in crate::node) groups: BTreeMap<GroupId, (IndexHead, Table)>,
    /// Where the frames are of segments that need not be read.
    pub(in crate::node) frames: BTreeMap<u64, Vec<FrameAt>>,
    /// Segments that are there and known; the last one and those behind it are to be read.
    pub(in crate::node) segments: Vec<SegmentStat>,
    /// Batches of the table log up to this one were durable.
    pub(in crate::node) durable: u64,
}

/// The files of snapshots as a boot leaves them.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::node) struct Files {
    /// The one that was loaded, and its bytes.
    pub(in crate::node) kept: Option<(u64, u64)>,
    /// The highest number that there was.
    pub(in crate::node) highest: u64,
}

/// Looks for a snapshot, and loads it.
#[derive(Clone, Debug)]
pub(in crate::node) struct Loader {
    store: [u8; 16],
    /// Segments of the table log, by number.
    table: Vec<FoundFile>,
    /// Groups that there may be.
    groups: BTreeSet<GroupId>,
    /// Snapshots not yet tried, the newest last.
    untried: Vec<FoundFile>,
    /// All of them.
    found: Vec<u64>,
    trial: Option<Trial>,
    waiting: BTreeMap<OpId, Want>,
    loaded: Option<Loaded>,
    files: Files,
    /// Snapshots that were refused.
    refused: Vec<(u64, Doubt)>,
    /// Files to be removed; `None` before that has begun.
    removing: Option<Vec<u64>>,
    done: bool,
}

/// Why a snapshot is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It was not written to its end.
    Unfinished,
    /// A segment of the table log that a boot would have to read was cleaned since, or is lost.
    Outdated(FileId),
    /// It is not as it was written, or not of this log.
    Damaged(String),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished => f.write_str("it was not written to its end"),
            Self::Outdated(segment) => {
                write!(f, "not all is there that it knows of {segment} and before")
            }
            Self::Damaged(why) => f.write_str(why),
        }
    }
}

impl From<&str> for Doubt {
    fn from(why: &str) -> Self {
        Self::Damaged(why.to_string())
    }
}

/// What a completion brings.
#[derive(Clone, Debug)]
enum Want {
    Footer,
    Tail,
    Header(SegmentStat),
    Slice(u64),
    Removed,
    Synced,
}

/// A snapshot that is being read.
#[derive(Clone, Debug)]
struct Trial {
    file: FoundFile,
    seal: Seal,
    footer: Footer,
    tail: Option<Tail>,
    /// Segments of it that are there.
    segments: Vec<SegmentStat>,
    /// Headers of segments that are not compared yet.
    headers: usize,
    /// Where the next slice begins.
    next: u64,
    /// Slices that came before their turn, and whose turn it is.
    arrived: BTreeMap<u64, Bytes>,
    turn: u64,
    /// What is left of slices: less than a block.
    rest: Vec<u8>,
    block: u32,
    open: Option<(GroupId, IndexLoading)>,
    groups: BTreeMap<GroupId, (IndexHead, Table)>,
    frames: BTreeMap<u64, Vec<FrameAt>>,
    records: u64,
}

impl Loader {
    /// A loader for the data directory of this store.
    pub(in crate::node) fn new(
        store: [u8; 16],
        found: &[FoundFile],
        groups: impl Iterator<Item = GroupId>,
    ) -> Self {
        let of = |kind| {
            let mut files: Vec<FoundFile> =
                found.iter().filter(|it| it.file.kind == kind).copied().collect();
            files.sort_unstable_by_key(|it| it.file.number);
            files
        };
        let untried = of(FileKind::Index);
        let numbers: Vec<u64> = untried.iter().map(|it| it.file.number).collect();
        let highest = numbers.last().copied().unwrap_or(0);
        Self {
            store,
            table: of(FileKind::Table),
            groups: groups.collect(),
            untried,
            found: numbers,
            trial: None,
            waiting: BTreeMap::new(),
            loaded: None,
            refused: Vec::new(),
            files: Files { kept: None, highest },
            removing: None,
            done: false,
        }
    }

    /// Whether it has come to its end: what was loaded can be taken, and the table log be read.
    pub(in crate::node) const fn is_done(&self) -> bool {
        self.done
    }

    /// What was loaded, if anything.
    pub(in crate::node) const fn take(&mut self) -> Option<Loaded> {
        self.loaded.take()
    }

    /// What there is of files, once it is done.
    pub(in crate::node) const fn files(&self) -> Files {
        self.files
    }

    /// What was refused.
    pub(in crate::node) fn refused(&self) -> &[(u64, Doubt)] {
        &self.refused
    }

    /// Begins; done at once if there is no snapshot.
    pub(in crate::node) fn start(&mut self, ops: &mut OpIds, ios: &mut Vec<IoOp>) {
        self.go_on(ops, ios);
    }

    /// Takes the completion of an operation and goes on. `false`: it isn't the loader's.
    ///
    /// # Errors
    /// A file can't be removed that must not stay.
    pub(in crate::node) fn on_done(
        &mut self,
        op: OpId,
        result: &IoResult,
        ops: &mut OpIds,
        ios: &mut Vec<IoOp>,
        traces: &mut Vec<Trace>,
    ) -> Result<bool, Halt> {
        let Some(want) = self.waiting.remove(&op) else { return Ok(false) };
        match (&want, result) {
            (Want::Removed | Want::Synced, Err(error))
                if *error != crate::machine::IoError::NotFound =>
            {
                let reason = format!("removing a snapshot of the index: {error:?}");
                return Err(Halt { reason });
            }
            (Want::Removed | Want::Synced, _) => {}
            (_, Ok(IoDone::Data(bytes))) => {
                let read = self.on_read(want, bytes, ops, ios);
                read.unwrap_or_else(|why| self.refuse(why, traces));
            }
            (_, _) => self.refuse("it can't be read".into(), traces),
        }
        self.maybe_load(traces);
        self.go_on(ops, ios);
        Ok(true)
    }

    /// Tries the next snapshot, or removes the next file.
    fn go_on(&mut self, ops: &mut OpIds, ios: &mut Vec<IoOp>) {
        if !self.waiting.is_empty() || self.trial.is_some() || self.done {
            return;
        }
        if self.removing.is_none()
            && self.loaded.is_none()
            && let Some(file) = self.untried.pop()
        {
            self.trial = Some(Trial::new(&self.store, file));
            let start = file.bytes.saturating_sub(FOOTER_BYTES);
            return self.read(Want::Footer, file.file, start, file.bytes, ops, ios);
        }
        let kept = self.files.kept.map(|(number, _)| number);
        let first = self.removing.is_none();
        let found = &self.found;
        let removing = self.removing.get_or_insert_with(|| {
            found.iter().copied().filter(|number| Some(*number) != kept).collect()
        });
        if first && removing.is_empty() {
            self.done = true;
        } else if let Some(number) = removing.pop() {
            let file = FileId::new(FileKind::Index, number);
            self.issue(Want::Removed, Io::Remove { file }, ops, ios);
        } else if core::mem::take(&mut self.found).is_empty() {
            self.done = true;
        } else {
            // Segments of a log that begins anew must not find a snapshot of one that is lost.
            self.issue(Want::Synced, Io::SyncDir, ops, ios);
        }
    }

    fn issue(&mut self, want: Want, io: Io, ops: &mut OpIds, ios: &mut Vec<IoOp>) {
        let op = ops.take();
        self.waiting.insert(op, want);
        ios.push(IoOp { op, io });
    }

    fn read(
        &mut self,
        want: Want,
        file: FileId,
        offset: u64,
        end: u64,
        ops: &mut OpIds,
        ios: &mut Vec<IoOp>,
    ) {
        let len = u32::try_from(end.saturating_sub(offset)).unwrap_or(u32::MAX);
        self.issue(want, Io::Read { file, offset, len }, ops, ios);
    }

    fn refuse(&mut self, why: Doubt, traces: &mut Vec<Trace>) {
        if let Some(trial) = self.trial.take() {
            self.note_refused(trial.file.file.number, why, traces);
        }
        self.waiting.clear();
    }

    fn note_refused(&mut self, number: u64, why: Doubt, traces: &mut Vec<Trace>) {
        traces.push(Trace::IndexRefused { number, why: why.to_string() });
        self.refused.push((number, why));
    }

    fn on_read(
        &mut self,
        want: Want,
        bytes: &Bytes,
        ops: &mut OpIds,
        ios: &mut Vec<IoOp>,
    ) -> Result<(), Doubt> {
        let Some(mut trial) = self.trial.take() else { return Ok(()) };
        let result = self.take_read(&mut trial, want, bytes, ops, ios);
        self.trial = Some(trial);
        result
    }

    fn take_read(
        &mut self,
        trial: &mut Trial,
        want: Want,
        bytes: &Bytes,
        ops: &mut OpIds,
        ios: &mut Vec<IoOp>,
    ) -> Result<(), Doubt> {
        let FoundFile { file, bytes: end } = trial.file;
        match want {
            Want::Footer => {
                let footer = trial.seal.footer_in(bytes).ok_or(Doubt::Unfinished)?;
                let tail_end = end.saturating_sub(FOOTER_BYTES);
                // Nothing outside of the file is read, and no more at a time than a block may have.
                if footer.tail_at >= tail_end || tail_end - footer.tail_at > BLOCK_BYTES_MAX {
                    return Err("its last block is damaged".into());
                }
                trial.footer = footer;
                self.read(Want::Tail, file, footer.tail_at, tail_end, ops, ios);
            }
            Want::Tail => {
                let block = trial.seal.decode(trial.footer.tail_block, bytes);
                let tail = match block {
                    Decoded::Block { block: Block::End(tail), bytes: all }
                        if all == bytes.len() =>
                    {
                        tail
                    }
                    _ => return Err("its last block is damaged".into()),
                };
                trial.segments = fitting(&tail, &self.table)?;
                trial.headers = trial.segments.len();
                trial.tail = Some(tail);
                for stat in &trial.segments {
                    let segment = FileId::new(FileKind::Table, stat.number);
                    let end = SEGMENT_HEADER_BYTES as u64;
                    self.read(Want::Header(*stat), segment, 0, end, ops, ios);
                }
            }
            Want::Header(stat) => {
                let header = SegmentHeader::decode(bytes).filter(|it| {
                    let kind = kind_code(FileKind::Table);
                    it.segment == stat.number && it.store == self.store && it.kind == kind
                });
                if header.is_none_or(|it| it.first_seq != stat.first_seq) {
                    let segment = FileId::new(FileKind::Table, stat.number);
                    return Err(Doubt::Damaged(format!("{segment} is not the one that it knows")));
                }
                trial.headers -= 1;
                for _ in 0..if trial.headers == 0 { READS } else { 0 } {
                    self.read_next(trial, ops, ios);
                }
            }
            Want::Slice(at) => {
                trial.arrived.insert(at, bytes.clone());
                self.read_next(trial, ops, ios);
                trial.take_slices(&self.groups)?;
            }
            Want::Removed | Want::Synced => {}
        }
        Ok(())
    }

    /// Reads the next slice of blocks.
    fn read_next(&mut self, trial: &mut Trial, ops: &mut OpIds, ios: &mut Vec<IoOp>) {
        let (at, end) = (trial.next, trial.footer.tail_at);
        if at < end {
            trial.next = end.min(at + SLICE_BYTES);
            self.read(Want::Slice(at), trial.file.file, at, trial.next, ops, ios);
        }
    }

    /// Everything of it is read.
    fn maybe_load(&mut self, traces: &mut Vec<Trace>) {
        let Some(trial) = self.trial.take_if(|trial| trial.is_read()) else { return };
        let FoundFile { file, bytes } = trial.file;
        match trial.finish() {
            Ok((loaded, records)) => {
                self.files.kept = Some((file.number, bytes));
                let segments = loaded.segments.len().saturating_sub(1) as u64;
                self.loaded = Some(loaded);
                traces.push(Trace::IndexLoaded { number: file.number, records, segments });
            }
            Err(why) => self.note_refused(file.number, why, traces),
        }
    }
}

/// Segments that a snapshot knows and that are there: all from one of them on. Older ones were cleaned since.
fn fitting(tail: &Tail, table: &[FoundFile]) -> Result<Vec<SegmentStat>, Doubt> {
    let first = tail.segments.last().ok_or("it knows no segment")?;
    if !tail.segments.is_sorted_by(|one, other| one.number < other.number) {
        return Err("its segments are in no order".into());
    }
    let known: Vec<&FoundFile> = table.iter().filter(|it| it.file.number <= first.number).collect();
    let oldest = known.first().map_or(u64::MAX, |it| it.file.number);
    let there = tail.segments.iter().skip_while(|it| it.number < oldest);
    let there: Vec<SegmentStat> = there.copied().collect();
    let files = known.iter().map(|it| (it.file.number, it.bytes));
    if !files.eq(there.iter().map(|it| (it.number, it.capacity))) || there.is_empty() {
        return Err(Doubt::Outdated(FileId::new(FileKind::Table, first.number)));
    }
    Ok(there)
}

impl Trial {
    fn new(store: &[u8; 16], file: FoundFile) -> Self {
        Self {
            seal: Seal::new(store, file.file.number),
            file,
            footer: Footer { tail_at: 0, tail_block: 0 },
            tail: None,
            segments: Vec::new(),
            headers: 0,
            next: 0,
            arrived: BTreeMap::new(),
            turn: 0,
            rest: Vec::new(),
            block: 0,
            open: None,
            groups: BTreeMap::new(),
            frames: BTreeMap::new(),
            records: 0,
        }
    }

    const fn is_read(&self) -> bool {
        self.tail.is_some() && self.headers == 0 && self.turn == self.footer.tail_at
    }

    /// Takes the slices whose turn it is.
    fn take_slices(&mut self, groups: &BTreeSet<GroupId>) -> Result<(), Doubt> {
        while let Some(bytes) = self.arrived.remove(&self.turn) {
            let expected = SLICE_BYTES.min(self.footer.tail_at - self.turn);
            if bytes.len() as u64 != expected {
                return Err("it is shorter than it was".into());
            }
            self.turn += expected;
            self.rest.extend_from_slice(&bytes);
            let (rest, seal) = (core::mem::take(&mut self.rest), self.seal.clone());
            let mut at = 0;
            loop {
                let there = rest.get(at..).unwrap_or_default();
                match seal.decode(self.block, there) {
                    Decoded::Short => break,
                    Decoded::Bad(why) => {
                        let at = self.turn - (rest.len() - at) as u64;
                        return Err(Doubt::Damaged(format!("{why}, at byte {at}")));
                    }
                    Decoded::Block { block, bytes } => {
                        self.take_block(block, groups)?;
                        at += bytes;
                        self.block += 1;
                    }
                }
            }
            self.rest = rest;
            self.rest.drain(..at);
        }
        Ok(())
    }

    fn take_block(&mut self, block: Block<'_>, groups: &BTreeSet<GroupId>) -> Result<(), Doubt> {
        match block {
            Block::Group { group, head } => {
                self.end_group()?;
                if !groups.contains(&group) || self.groups.contains_key(&group) {
                    return Err(Doubt::Damaged(format!("group {group} has no place in it")));
                }
                self.open = Some((group, IndexLoading::new(head)));
            }
            Block::Records(records) => {
                let open = self.open.as_mut().map(|(_, loading)| loading);
                if !open.is_some_and(|loading| loading.add(&records)) {
                    return Err("records that are none".into());
                }
                self.records += records.len() as u64;
            }
            Block::Frames { segment, frames } => {
                self.end_group()?;
                self.frames.entry(segment).or_default().extend(frames);
            }
            Block::End(_) => return Err("it ends before its end".into()),
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), Doubt> {
        if let Some((group, loading)) = self.open.take() {
            let whole = loading.finish().ok_or("records of a group are missing")?;
            self.groups.insert(group, whole);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Loaded, u64), Doubt> {
        self.end_group()?;
        let Self { tail, segments, rest, block, footer, groups, mut frames, records, .. } = self;
        let Some(tail) = tail.filter(|tail| tail.records == records) else {
            return Err("records are missing".into());
        };
        if !rest.is_empty() || block != footer.tail_block {
            return Err("blocks are missing".into());
        }
        frames.retain(|segment, _| segments.iter().any(|it| it.number == *segment));
        Ok((Loaded { groups, frames, segments, durable: tail.durable }, records))
    }
}
