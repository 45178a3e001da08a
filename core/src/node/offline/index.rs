//! The snapshots of the index of a store that does not run.

use crate::kv::index::IndexHead;
use crate::kv::table::Table;
use crate::machine::{FileKind, FoundFile, Io, IoDone, IoOp, IoResult, OpIds};
use crate::node::index::{Doubt, Loaded, Loader};
use crate::node::recovery;
use crate::node::superblock::{Membership, Superblock};
use crate::node::trace::Trace;
use crate::types::{GroupId, Location};
use crate::wal::SegmentStat;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What a boot takes from a snapshot of the index.
#[derive(Clone, Debug)]
pub struct Indexed {
    loaded: Loaded,
    records: u64,
}

impl Indexed {
    /// Records of all groups.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// The groups, each at the end of a frame: what is said of it, and its table.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &IndexHead, &Table)> {
        self.loaded.groups.iter().map(|(group, (head, table))| (*group, head, table))
    }

    /// Where frames are in segments that a boot passes over, and whose they are.
    pub fn frames(&self) -> impl Iterator<Item = (GroupId, Location)> {
        let by_segment = self.loaded.frames.iter();
        by_segment.flat_map(|(segment, frames)| frames.iter().map(|frame| frame.of(*segment)))
    }

    /// Segments of the table log that it knows and that are there; a boot reads the last of them and those behind it.
    #[must_use]
    pub fn segments(&self) -> &[SegmentStat] {
        &self.loaded.segments
    }
}

/// What a boot would make of each snapshot, if there were no newer one: how many records it has, or why it is refused.
/// `read` executes a read; nothing is written.
pub fn judge_indexes(
    superblock: &Superblock,
    files: &[FoundFile],
    mut read: impl FnMut(&Io) -> IoResult,
) -> Vec<(FoundFile, Result<u64, Doubt>)> {
    let snapshots = files.iter().filter(|it| it.file.kind == FileKind::Index).copied();
    let judged = snapshots.filter_map(|file| {
        let loaded = load_index(superblock, files, file, &mut read)?;
        Some((file, loaded.map(|indexed| indexed.records)))
    });
    judged.collect()
}

/// What a boot would take from this snapshot, if there were no newer one, or why it would refuse it. `None` for a store that
/// is of no cluster: it has no index. `files` are all of the store, and `read` executes a read; nothing is written.
pub fn load_index(
    superblock: &Superblock,
    files: &[FoundFile],
    snapshot: FoundFile,
    mut read: impl FnMut(&Io) -> IoResult,
) -> Option<Result<Indexed, Doubt>> {
    let Membership::Member(charter) = &superblock.membership else { return None };
    let table = files.iter().filter(|it| it.file.kind == FileKind::Table).copied();
    let with: Vec<FoundFile> = table.chain([snapshot]).collect();
    let groups = recovery::groups_of(charter).into_keys();
    let mut loader = Loader::new(superblock.store.0, &with, groups);
    let (mut ops, mut ios, mut traces) = (OpIds::new(1, 1), Vec::new(), Vec::new());
    loader.start(&mut ops, &mut ios);
    let mut queue = VecDeque::from(ios);
    while let Some(IoOp { op, io }) = queue.pop_front() {
        let result = if matches!(io, Io::Read { .. }) { read(&io) } else { Ok(IoDone::Ok) };
        let mut ios = Vec::new();
        // Only a removal can fail, and none is made.
        let _ = loader.on_done(op, &result, &mut ops, &mut ios, &mut traces);
        queue.extend(ios);
    }
    let records = traces.iter().find_map(|trace| match trace {
        Trace::IndexLoaded { records, .. } => Some(*records),
        _ => None,
    });
    let loaded = loader.take().zip(records);
    let doubt = || loader.refused().first().map_or(Doubt::Unfinished, |(_, doubt)| doubt.clone());
    Some(loaded.map(|(loaded, records)| Indexed { loaded, records }).ok_or_else(doubt))
}
