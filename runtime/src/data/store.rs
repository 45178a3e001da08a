//! The files of a stopped node, to be read and not to be changed.

use super::{Progress, ToolError};
use crate::disk::files::read_range;
use crate::disk::{DirError, StoppedDir};
use crate::sys;
use bytes::{Bytes, BytesMut};
use ironseed_core::machine::{FileId, FileKind, FoundFile, Io, IoDone, IoError, IoOp, IoResult};
use ironseed_core::node::offline::{Found, Survey};
use ironseed_core::node::superblock::{
    self, COPY_BYTES, CopyError, Membership, Superblock, Unusable,
};
use ironseed_core::types::StoreId;
use ironseed_core::wal::record::SegmentHeader;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

const SUPERBLOCK: FileId = FileId::new(FileKind::Superblock, 0);
/// A read that fails is done again in pieces of this size, so that one bad sector costs no more than itself.
const PIECE_BYTES: u64 = 4096;

/// A stopped node's directory, locked.
#[derive(Debug)]
pub(super) struct Store {
    dir: StoppedDir,
    /// Every file of the store, by kind and number.
    pub(super) files: Vec<FoundFile>,
    /// The file of each log that was read last: reads of one file follow one another.
    open: RefCell<BTreeMap<FileKind, (FileId, File)>>,
}

/// The two copies of a superblock: the sequence of each and whether every byte of it is as it was written, or why it
/// can't be used.
pub(super) type Copies = [Result<(u64, bool), CopyError>; 2];

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, ToolError> {
        let dir = StoppedDir::open(path)?;
        let at = |error| DirError::Io { path: path.to_owned(), error };
        let mut files = sys::files(dir.path()).map_err(at)?;
        files.sort_by_key(|found| found.file);
        if files.is_empty() {
            return Err(DirError::NoStore { path: path.to_owned(), within: None }.into());
        }
        Ok(Self { dir, files, open: RefCell::default() })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The segments of a log, oldest first.
    pub(super) fn segments(&self, kind: FileKind) -> Vec<FoundFile> {
        self.files.iter().filter(|found| found.file.kind == kind).copied().collect()
    }

    /// Bytes of all segments of a log.
    pub(super) fn bytes(&self, kind: FileKind) -> u64 {
        self.segments(kind).iter().map(|found| found.bytes).sum()
    }

    /// Bytes of a file; fewer at its end.
    pub(super) fn read(&self, file: FileId, range: &Range<u64>) -> io::Result<Bytes> {
        let mut open = self.open.borrow_mut();
        if open.get(&file.kind).is_none_or(|(opened, _)| *opened != file) {
            let handle = File::open(self.path().join(file.to_string()))?;
            open.insert(file.kind, (file, handle));
        }
        let Some((_, handle)) = open.get(&file.kind) else { return Ok(Bytes::new()) };
        // No read is to take more memory than the file can fill.
        let end = range.end.min(handle.metadata()?.len()).max(range.start);
        let length = usize::try_from(end - range.start).map_err(io::Error::other)?;
        read_range(handle, range.start, length)
    }

    /// As [`Self::read`], with zeros for what the device can't read, and where that is.
    pub(super) fn read_around(&self, file: FileId, range: &Range<u64>) -> (Bytes, Range<u64>) {
        if let Ok(bytes) = self.read(file, range) {
            return (bytes, 0..0);
        }
        let mut whole = BytesMut::new();
        let mut bad = range.end..range.start;
        let mut at = range.start;
        while at < range.end {
            let piece = at..range.end.min(at + PIECE_BYTES);
            match self.read(file, &piece) {
                Ok(bytes) => whole.extend_from_slice(&bytes),
                Err(_) => bad = bad.start.min(piece.start)..bad.end.max(piece.end),
            }
            at = piece.end;
            whole.resize(usize::try_from(at - range.start).unwrap_or(usize::MAX), 0);
        }
        (whole.freeze(), bad)
    }

    /// Executes a read; whatever writes is left out and said to be done.
    pub(super) fn pretend(&self, io: &Io, progress: &Progress) -> IoResult {
        let Io::Read { file, offset, len } = io else { return Ok(IoDone::Ok) };
        progress.read(u64::from(*len));
        let range = *offset..offset.saturating_add(u64::from(*len));
        self.read(*file, &range).map(IoDone::Data).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => IoError::NotFound,
            _ => IoError::Device,
        })
    }

    /// Both copies of the superblock.
    pub(super) fn copies(&self) -> Result<Copies, ToolError> {
        let file = self.superblock_file()?;
        Ok([0, COPY_BYTES].map(|at| {
            let copy = file.get(at..at + COPY_BYTES).unwrap_or_default();
            superblock::decode_copy(copy).map(|(sequence, content)| {
                (sequence, superblock::encode_copy(&content, sequence) == copy)
            })
        }))
    }

    /// The superblock that a boot would use.
    pub(super) fn superblock(&self) -> Result<(u64, Superblock), ToolError> {
        superblock::newest(&self.superblock_file()?).map_err(ToolError::Superblock)
    }

    fn superblock_file(&self) -> Result<Bytes, ToolError> {
        if !self.files.iter().any(|found| found.file == SUPERBLOCK) {
            let path = self.path().display();
            return Err(ToolError::Store(format!(
                "{path}: there are logs and no superblock: the directory is incomplete"
            )));
        }
        let (bytes, _) = self.read_around(SUPERBLOCK, &(0..2 * COPY_BYTES as u64));
        Ok(bytes)
    }

    /// Who wrote the logs: the superblock says it, or else the first header of a segment that is good.
    pub(super) fn store_id(&self) -> Result<StoreId, ToolError> {
        let error = match self.superblock() {
            Ok((_, superblock)) => return Ok(superblock.store),
            Err(error @ ToolError::Superblock(Unusable::Damaged(_))) => error,
            Err(error) => return Err(error),
        };
        let headers = self.files.iter().filter(|found| found.file.kind != FileKind::Superblock);
        let mut stores = headers.filter_map(|found| {
            let bytes = self.read(found.file, &(0..64)).ok()?;
            Some(StoreId(SegmentHeader::decode(&bytes)?.store))
        });
        stores.next().ok_or(error)
    }

    /// Everything that the store holds, as a boot finds it. `None` for a store that has not joined a cluster.
    pub(super) fn survey(
        &self,
        superblock: &Superblock,
        progress: &Progress,
    ) -> Result<Option<Found>, ToolError> {
        if !matches!(superblock.membership, Membership::Member(_)) {
            return Ok(None);
        }
        survey_by(superblock, self.files.clone(), |io| self.pretend(io, progress)).map(Some)
    }
}

/// A survey whose operations are executed so.
pub(super) fn survey_by(
    superblock: &Superblock,
    files: Vec<FoundFile>,
    mut execute: impl FnMut(&Io) -> IoResult,
) -> Result<Found, ToolError> {
    let refused = |halt: ironseed_core::machine::Halt| ToolError::Store(halt.reason);
    let mut ios = Vec::new();
    let mut survey = Survey::new(superblock, files, &mut ios).map_err(refused)?;
    let mut queue = VecDeque::from(ios);
    while let Some(IoOp { op, io }) = queue.pop_front() {
        let result = execute(&io);
        let mut ios = Vec::new();
        survey.on_done(op, &result, &mut ios).map_err(refused)?;
        queue.extend(ios);
    }
    Ok(survey.finish())
}
