//! The snapshots of the index of a store that does not run.

use crate::machine::{FileKind, FoundFile, Io, IoDone, IoOp, IoResult, OpIds};
use crate::node::index::{Doubt, Loader};
use crate::node::recovery;
use crate::node::superblock::{Membership, Superblock};
use crate::node::trace::Trace;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What a boot would make of each snapshot, if there were no newer one: how many records it has, or why it is refused.
/// `read` executes a read; nothing is written.
pub fn judge_indexes(
    superblock: &Superblock,
    files: &[FoundFile],
    mut read: impl FnMut(&Io) -> IoResult,
) -> Vec<(FoundFile, Result<u64, Doubt>)> {
    let Membership::Member(charter) = &superblock.membership else { return Vec::new() };
    let of = |kind| files.iter().filter(move |it| it.file.kind == kind).copied();
    let judged = of(FileKind::Index).map(|file| {
        let with: Vec<FoundFile> = of(FileKind::Table).chain([file]).collect();
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
        let doubt = || loader.refused().first().map(|(_, doubt)| doubt.clone());
        (file, records.ok_or_else(|| doubt().unwrap_or(Doubt::Unfinished)))
    });
    judged.collect()
}
