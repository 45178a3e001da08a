//! Which batch goes in which file: the current segment, the standby made ahead of need, removal, and use again.
//!
//! A segment's life: created with all its bytes allocated, synced, its name synced (*standby*); written from its
//! header on (*current*); synced whole and never written again (*full*); removed, and the removal synced. At most
//! one operation of making a segment and one of removing are in flight.
//!
//! A log that recycles renames what it removes to a *spare*, and a standby is a spare that is renamed again if there is
//! one. Both renames are synced before anything else is done with the file: a power loss may keep any of
//! several renames that are not, and must never find one file under two names, or an old name over new bytes.
//! Numbers are never reused, and the name of a file is no lower than the numbers of all segments that it ever was: that is
//! why nothing in a spare can pass for a batch of the segment that it becomes.

use super::Config;
use crate::machine::{FileId, FileKind, Io, IoError, IoOp, IoResult, OpIds};
use crate::types::OpId;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// A segment as its log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SegmentStat {
    /// Its number; segments are written in this order, and numbers are never reused.
    pub number: u64,
    /// The number of the segment before it; 0 if there was none, or nobody knows.
    pub previous: u64,
    /// Bytes allocated on disk.
    pub capacity: u64,
    /// Bytes written, header and padding included.
    pub used: u64,
    /// Number of the first batch in it.
    pub first_seq: u64,
    /// Number of the last batch in it; below `first_seq` while it has none.
    pub last_seq: u64,
}

/// All segments of one log.
///
/// - Exactly the segments in `known` hold batches; the current one, if there is one, is the last of them.
/// - The standby's number is above every known one (`adopt_standby`).
/// - A spare's number is below that of every segment to come (`new`).
#[derive(Clone, Debug)]
pub(super) struct Segments {
    known: BTreeMap<u64, SegmentStat>,
    current: Option<u64>,
    standby: Standby,
    next_number: u64,
    /// Making a standby ahead of need failed for lack of space: not tried again until it is needed, or until
    /// a removal has made space.
    ahead_blocked: bool,
    removals: VecDeque<Removal>,
    removing: Option<(OpId, Removing)>,
    /// Removed, but the removal isn't synced yet.
    removed: Vec<u64>,
    /// Those of them that become spares once it is.
    spared: Vec<u64>,
    /// Whether names were changed that are to be synced.
    renamed: bool,
    /// Files to use again, by the number of the segment that they were last. All are `segment_bytes` long.
    spares: BTreeSet<u64>,
    /// No spare is kept: others need the space.
    keeps_none: bool,
}

/// A file that is to go.
#[derive(Clone, Copy, Debug)]
enum Removal {
    Segment { number: u64, capacity: u64 },
    Spare(u64),
}

#[derive(Clone, Debug)]
enum Standby {
    None,
    Making { number: u64, op: OpId, step: Making },
    Ready { number: u64, capacity: u64, reused: Option<u64> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Making {
    Create,
    Sync,
    SyncDir,
    /// Renames the spare of this number.
    Reuse(u64),
    SyncReused(u64),
    /// The creation failed: what is there of the file is removed.
    Discard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removing {
    Remove(u64),
    /// Renames a segment to a spare.
    Spare(u64),
    /// Removes a spare.
    GiveBack(u64),
    SyncDir,
}

/// What a completion meant for the segments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SegmentEvent {
    /// Not one of the segments' operations.
    NotMine,
    /// Nothing to report.
    Progress,
    /// No space to make a segment.
    NoSpace,
    /// These are gone for good.
    Removed(Vec<u64>),
    /// The device failed.
    Failed(String),
}

impl Segments {
    pub(super) fn new(
        known: BTreeMap<u64, SegmentStat>,
        current: Option<u64>,
        spares: BTreeSet<u64>,
        next: u64,
    ) -> Self {
        let last = known.last_key_value().map(|(number, _)| *number);
        assert!(current.is_none_or(|number| Some(number) == last), "{current:?} of {known:?}");
        assert!(last.is_none_or(|number| number < next), "number {next} of {known:?}");
        assert!(spares.last().is_none_or(|spare| *spare < next), "number {next} of {spares:?}");
        Self {
            known,
            current,
            standby: Standby::None,
            next_number: next,
            ahead_blocked: false,
            removals: VecDeque::new(),
            removing: None,
            removed: Vec::new(),
            spared: Vec::new(),
            renamed: false,
            spares,
            keeps_none: false,
        }
    }

    /// How many files wait to be used again.
    pub(super) fn spares(&self) -> usize {
        self.spares.len()
    }

    /// Whether files are kept to be used again. Those that there are go if not.
    pub(super) fn keep_spares(&mut self, keep: bool) {
        self.keeps_none = !keep;
        if !keep {
            let spares = core::mem::take(&mut self.spares);
            self.removals.extend(spares.into_iter().map(Removal::Spare));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SegmentStat> {
        self.known.values()
    }

    pub(super) fn get(&self, number: u64) -> Option<&SegmentStat> {
        self.known.get(&number)
    }

    pub(super) fn current(&self) -> Option<&SegmentStat> {
        self.current.and_then(|number| self.known.get(&number))
    }

    /// A batch of `seq` has been written to the current segment, which is now used up to `end`.
    pub(super) fn on_written(&mut self, end: u64, seq: u64) {
        let current = self.current.and_then(|number| self.known.get_mut(&number));
        let Some(current) = current else { panic!("batch {seq} was written without a segment") };
        assert!(current.used < end && end <= current.capacity, "{end} in {current:?}");
        current.used = end;
        current.last_seq = seq;
    }

    /// Makes the standby current, if there is one. Its first batch will be `first_seq`. Says which segment its file
    /// was before, if any.
    pub(super) fn adopt_standby(&mut self, first_seq: u64) -> Option<Option<u64>> {
        let Standby::Ready { number, capacity, reused } = self.standby else { return None };
        let last_seq = first_seq.saturating_sub(1);
        let previous = self.current.unwrap_or(0);
        let stat = SegmentStat { number, previous, capacity, used: 0, first_seq, last_seq };
        assert!(self.known.keys().all(|known| *known < number), "{number} of {:?}", self.known);
        self.known.insert(number, stat);
        self.current = Some(number);
        self.standby = Standby::None;
        Some(reused)
    }

    /// Starts to make a standby unless there is one or one is being made.
    pub(super) fn make_standby(&mut self, config: &Config, ops: &mut OpIds, out: &mut Vec<IoOp>) {
        if !matches!(self.standby, Standby::None) {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        let file = FileId::new(config.kind, number);
        let (io, step) = match self.spares.pop_first() {
            Some(spare) => (Io::Rename { from: spare_file(spare), to: file }, Making::Reuse(spare)),
            None => (Io::Create { file, bytes: config.segment_bytes }, Making::Create),
        };
        let op = ops.take();
        out.push(IoOp { op, io });
        self.standby = Standby::Making { number, op, step };
    }

    /// Makes a standby once the current segment is half full, so that no append ever waits for one.
    pub(super) fn make_ahead(&mut self, config: &Config, ops: &mut OpIds, out: &mut Vec<IoOp>) {
        let soon = self.current().is_some_and(|current| current.used > current.capacity / 2);
        if soon && !self.ahead_blocked {
            self.make_standby(config, ops, out);
        }
    }

    /// Forgets a segment and queues its removal.
    pub(super) fn remove(&mut self, number: u64) {
        assert!(self.current != Some(number), "segment {number} is being written");
        let Some(stat) = self.known.remove(&number) else { panic!("segment {number} isn't known") };
        self.removals.push_back(Removal::Segment { number, capacity: stat.capacity });
    }

    /// Starts the next removal, or syncs those that are done.
    pub(super) fn start_removal(&mut self, config: &Config, ops: &mut OpIds, out: &mut Vec<IoOp>) {
        if self.removing.is_some() {
            return;
        }
        let (io, step) = match self.removals.pop_front() {
            Some(Removal::Segment { number, capacity }) => {
                let file = FileId::new(config.kind, number);
                let kept = self.spares.len() + self.spared.len();
                let fits = capacity == config.segment_bytes && kept < config.spares_max;
                if fits && !self.keeps_none {
                    let to = spare_file(number);
                    (Io::Rename { from: file, to }, Removing::Spare(number))
                } else {
                    (Io::Remove { file }, Removing::Remove(number))
                }
            }
            Some(Removal::Spare(number)) => {
                (Io::Remove { file: spare_file(number) }, Removing::GiveBack(number))
            }
            None if self.renamed => (Io::SyncDir, Removing::SyncDir),
            None => return,
        };
        let op = ops.take();
        out.push(IoOp { op, io });
        self.removing = Some((op, step));
    }

    pub(super) fn on_done(
        &mut self,
        op: OpId,
        result: &IoResult,
        config: &Config,
        ops: &mut OpIds,
        out: &mut Vec<IoOp>,
    ) -> SegmentEvent {
        if let Some((removing, step)) = self.removing
            && removing == op
        {
            self.removing = None;
            return self.on_removal(step, result);
        }
        match self.standby {
            Standby::Making { number, op: making, step } if making == op => {
                self.on_making(number, step, result, config, ops, out)
            }
            _ => SegmentEvent::NotMine,
        }
    }

    fn on_removal(&mut self, step: Removing, result: &IoResult) -> SegmentEvent {
        self.renamed = true;
        match (step, result) {
            // A file that is gone already is as good.
            (Removing::Remove(number), Ok(_) | Err(IoError::NotFound))
            | (Removing::Spare(number), Err(IoError::NotFound)) => {
                self.removed.push(number);
                SegmentEvent::Progress
            }
            (Removing::Spare(number), Ok(_)) => {
                self.removed.push(number);
                self.spared.push(number);
                SegmentEvent::Progress
            }
            (Removing::GiveBack(_), Ok(_) | Err(IoError::NotFound)) => SegmentEvent::Progress,
            (Removing::SyncDir, Ok(_)) => {
                self.renamed = false;
                self.ahead_blocked = false;
                self.spares.extend(core::mem::take(&mut self.spared));
                // What was on its way when others came to need the space.
                self.keep_spares(!self.keeps_none);
                SegmentEvent::Removed(core::mem::take(&mut self.removed))
            }
            (_, Err(error)) => SegmentEvent::Failed(format!("removing a segment: {error:?}")),
        }
    }

    fn on_making(
        &mut self,
        number: u64,
        step: Making,
        result: &IoResult,
        config: &Config,
        ops: &mut OpIds,
        out: &mut Vec<IoOp>,
    ) -> SegmentEvent {
        let file = FileId::new(config.kind, number);
        let (io, next, event) = match (step, result) {
            (Making::Reuse(spare), Ok(_)) => {
                (Io::SyncDir, Making::SyncReused(spare), SegmentEvent::Progress)
            }
            // Somebody removed it: a new one does as well.
            (Making::Reuse(_), Err(IoError::NotFound)) => {
                let bytes = config.segment_bytes;
                (Io::Create { file, bytes }, Making::Create, SegmentEvent::Progress)
            }
            (Making::Create, Ok(_)) => (Io::Sync { file }, Making::Sync, SegmentEvent::Progress),
            (Making::Create, Err(IoError::NoSpace)) => {
                self.ahead_blocked = true;
                (Io::Remove { file }, Making::Discard, SegmentEvent::NoSpace)
            }
            (Making::Sync, Ok(_)) => (Io::SyncDir, Making::SyncDir, SegmentEvent::Progress),
            (Making::SyncDir | Making::SyncReused(_), Ok(_)) => {
                self.ahead_blocked = false;
                let reused = match step {
                    Making::SyncReused(spare) => Some(spare),
                    _ => None,
                };
                let capacity = config.segment_bytes;
                self.standby = Standby::Ready { number, capacity, reused };
                return SegmentEvent::Progress;
            }
            (Making::Discard, Ok(_) | Err(IoError::NotFound)) => {
                self.standby = Standby::None;
                return SegmentEvent::Progress;
            }
            (_, Err(error)) => {
                return SegmentEvent::Failed(format!("making {file} ({step:?}): {error:?}"));
            }
        };
        let op = ops.take();
        out.push(IoOp { op, io });
        self.standby = Standby::Making { number, op, step: next };
        event
    }
}

/// What a segment is called while it waits to be used again.
pub(super) const fn spare_file(number: u64) -> FileId {
    FileId::new(FileKind::Spare, number)
}
