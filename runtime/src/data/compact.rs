//! `data compact`: what a node does in the background, run to its end on a stopped node's directory.

use super::store::{Store, survey_by};
use super::{Progress, ToolError};
use crate::disk::{self, DataDir, ExecuteIo, Listed as _};
use ironseed_core::machine::{FileKind, FoundFile, Hashed, Io, IoDone, IoError, IoOp, IoResult};
use ironseed_core::node::api::Effect;
use ironseed_core::node::offline::{Compaction, Kept, Moved};
use ironseed_core::node::superblock::{Membership, Superblock};
use serde::Serialize;
use std::collections::VecDeque;
use std::path::Path;

/// What a compaction has done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Compacted {
    /// Bytes of the files of the table log and of the chunk log before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
    /// Frames of the table log that were written again.
    pub frames_moved: u64,
    /// Chunks that were written again.
    pub chunks_moved: u64,
    /// Segments that are gone.
    pub segments_removed: u64,
    /// Blobs whose chunks were dropped because no record knows them.
    pub blobs_dropped: u64,
    /// Why something was left that may be dead.
    pub kept: Option<String>,
}

/// Compacts the table log and the chunk log of a directory.
///
/// # Errors
/// The directory is refused, a log can't be opened, or the disk is full. Then, and whenever the process ends before it
/// is done, the directory is as good as before.
pub fn compact(path: &Path, progress: &Progress) -> Result<Compacted, ToolError> {
    // Nothing is made in a directory that holds no store.
    let superblock = Store::open(path)?.superblock()?.1;
    let dir = DataDir::open(path)?;
    let files = dir.files()?;
    let disk = disk::direct(dir);
    progress.open_ended();
    progress.say("reading the logs");
    let compacted = compact_on(&superblock, files, &disk, |moved| {
        let Moved { frames, chunks, segments, .. } = moved;
        progress
            .say(format!("{frames} frames and {chunks} chunks moved, {segments} segments removed"));
        progress.tick();
    });
    let mut compacted = compacted?;
    progress.say("reading the logs again");
    // What was written opens, and segments that were made ahead and not used go: the next boot would do it.
    survey_by(&superblock, disk.found(), |io| on_logs(&disk, io.clone()))?;
    progress.end();
    compacted.bytes_after = bytes_of(&disk.found());
    Ok(compacted)
}

/// As [`compact`], on these files. `bytes_after` is for the caller to say.
///
/// # Errors
/// As [`compact`].
pub fn compact_on(
    superblock: &Superblock,
    files: Vec<FoundFile>,
    disk: &impl ExecuteIo,
    mut told: impl FnMut(Moved),
) -> Result<Compacted, ToolError> {
    let refused = |halt: ironseed_core::machine::Halt| ToolError::Store(halt.reason);
    if !matches!(superblock.membership, Membership::Member(_)) {
        let reason = "this store has not joined a cluster yet: it holds nothing";
        return Err(ToolError::Store(reason.into()));
    }
    let bytes_before = bytes_of(&files);
    // A snapshot of the index of what was there before: the next boot would find that it lacks segments.
    for stale in files.iter().filter(|it| it.file.kind == FileKind::Index) {
        let removed = disk.execute(Io::Remove { file: stale.file });
        removed.map_err(|error| ToolError::Store(format!("removing {}: {error:?}", stale.file)))?;
    }
    let found = survey_by(superblock, files, |io| on_logs(disk, io.clone()))?;
    let mut compaction = Compaction::new(found);
    let mut queue = VecDeque::new();
    let mut effects = Vec::new();
    loop {
        queue.extend(effects.drain(..));
        match queue.pop_front() {
            Some(Effect::Io(IoOp { op, io })) => {
                let result = on_logs(disk, io);
                if result == Err(IoError::NoSpace) {
                    // Moving takes space before it gives any back; what was moved so far counts.
                    return Err(ToolError::Store(
                        "no space left on the disk: moving takes room for a segment first".into(),
                    ));
                }
                compaction.on_done(op, &result, &mut effects).map_err(refused)?;
                told(compaction.moved());
            }
            Some(Effect::Hash { op, bytes }) => {
                let result = Ok(IoDone::Hashed(Hashed::of(&bytes)));
                compaction.on_done(op, &result, &mut effects).map_err(refused)?;
            }
            Some(other) => unreachable!("a compaction does not ask for {other:?}"),
            None => {
                if !compaction.go_on(&mut effects).map_err(refused)? {
                    break;
                }
            }
        }
    }
    let Moved { frames, chunks, segments, blobs } = compaction.moved();
    Ok(Compacted {
        bytes_before,
        bytes_after: 0,
        frames_moved: frames,
        chunks_moved: chunks,
        segments_removed: segments,
        blobs_dropped: blobs,
        kept: compaction.kept().map(Kept::to_string),
    })
}

/// The write-ahead log and its spare files are read and left as they are: what a boot would do with them is for a boot to do.
fn on_logs(disk: &impl ExecuteIo, io: Io) -> IoResult {
    let is_read = matches!(io, Io::Read { .. });
    match io.file().map(|file| file.kind) {
        Some(FileKind::Wal | FileKind::Spare | FileKind::Superblock) if !is_read => Ok(IoDone::Ok),
        _ => disk.execute(io),
    }
}

fn bytes_of(files: &[FoundFile]) -> u64 {
    let compacted =
        files.iter().filter(|it| matches!(it.file.kind, FileKind::Table | FileKind::Chunk));
    compacted.map(|it| it.bytes).sum()
}
