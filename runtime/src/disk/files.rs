//! The files of one store and what each operation does to them.

use super::buffers::Buffers;
use super::{DataDir, ExecuteIo, Listed};
use crate::engine::{self, Engine};
use bytes::{Bytes, BytesMut};
use ironseed_core::machine::{FileId, FileKind, FoundFile, Io, IoDone, IoError, IoResult};
use rustix::buffer::spare_capacity;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Descriptors kept open at the most. A store of this many segments holds at least tens of gigabytes, and
/// half the usual limit of a process is left to sockets.
const OPEN_MAX: usize = 384;
/// Zeros are written in pieces of this size and each is synced, so that filling a new segment never
/// leaves a backlog of dirty pages that the next sync of the log would have to wait for.
const ZERO_BYTES: usize = 4 << 20;
/// Reads up to this size are tried on the caller's thread. Copying more would hold the node up for
/// longer than handing the read over costs.
const CACHED_READ_BYTES_MAX: u32 = 64 << 10;

/// Reads so many bytes from `offset` on, fewer where the file ends before.
pub(crate) fn read_range(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    read_into(file, offset, len, Vec::with_capacity(len)).map(Bytes::from)
}

/// The same into a buffer that is empty and has room for them.
fn read_into(file: &File, offset: u64, len: usize, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    // Not zeroed before: a boot reads gigabytes.
    while bytes.len() < len {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // More may have been allocated, and read, than was asked for.
    bytes.truncate(len);
    Ok(bytes)
}

/// An open file.
#[derive(Debug)]
struct Open {
    file: File,
    /// Written to since the last sync began: its descriptor is the one that hears of a failed
    /// write-back.
    unsynced: AtomicBool,
}

/// The files of one store.
pub(super) struct Files {
    dir: DataDir,
    engine: Option<Box<dyn Engine>>,
    open: Mutex<BTreeMap<FileId, Arc<Open>>>,
    buffers: Buffers,
}

impl Files {
    pub(super) fn new(dir: DataDir) -> Self {
        Self::with_engine(dir, None)
    }

    /// The same, beside what an engine keeps.
    pub(super) fn with_engine(dir: DataDir, engine: Option<Box<dyn Engine>>) -> Self {
        Self { dir, engine, open: Mutex::new(BTreeMap::new()), buffers: Buffers::default() }
    }

    pub(super) fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// Answers a small read from the page cache; `None` when it would have to wait for the disk.
    pub(super) fn read_cached(&self, file: FileId, offset: u64, len: u32) -> Option<IoResult> {
        if len > CACHED_READ_BYTES_MAX {
            return None;
        }
        // Opening a file may wait, so only one that is open will do.
        let open = self.table().get(&file)?.clone();
        let mut bytes = BytesMut::zeroed(len as usize);
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        let read =
            rustix::io::preadv2(&open.file, &mut [IoSliceMut::new(&mut bytes)], offset, flags);
        // A short read may be the end of the file or the end of what is cached: let the pool tell.
        (read == Ok(bytes.len())).then(|| Ok(IoDone::Data(bytes.freeze())))
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<FileId, Arc<Open>>> {
        // The table is whole between any two of its operations.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.dir.path().join(file.to_string())
    }

    fn opened(&self, file: FileId) -> io::Result<Arc<Open>> {
        if let Some(open) = self.table().get(&file) {
            return Ok(open.clone());
        }
        let handle = File::options().read(true).write(true).open(self.path(file))?;
        Ok(self.keep(file, handle))
    }

    /// Remembers an open file. Of two threads that opened the same one the first wins.
    fn keep(&self, file: FileId, handle: File) -> Arc<Open> {
        let mut table = self.table();
        if table.len() >= OPEN_MAX {
            let idle = |open: &Open| !open.unsynced.load(Ordering::Acquire);
            let victim = table.iter().find(|(_, open)| idle(open)).map(|(file, _)| *file);
            victim.map(|file| table.remove(&file));
        }
        let open = Open { file: handle, unsynced: AtomicBool::new(false) };
        table.entry(file).or_insert_with(|| Arc::new(open)).clone()
    }

    fn create(&self, file: FileId, bytes: u64) -> io::Result<()> {
        let path = self.path(file);
        let new = !path.exists();
        // The directory is ours alone and file operations share a thread: nothing comes in between.
        let handle =
            File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let length = handle.metadata()?.len();
        let filled = if length < bytes { fill(&handle, file.kind, length, bytes) } else { Ok(()) };
        if let Err(error) = filled {
            // Half a file would hold the space that is short.
            if new {
                fs::remove_file(&path)?;
            } else {
                handle.set_len(length)?;
            }
            return Err(error);
        }
        if length > bytes {
            handle.set_len(bytes)?;
        }
        self.keep(file, handle);
        Ok(())
    }

    fn write(&self, file: FileId, offset: u64, data: &[Bytes]) -> io::Result<()> {
        let open = self.opened(file)?;
        open.unsynced.store(true, Ordering::Release);
        write_all_at(&open.file, offset, data)
    }

    fn sync(&self, file: FileId) -> io::Result<()> {
        let open = self.opened(file)?;
        // Cleared first: a write that comes while the sync runs is not covered by it.
        open.unsynced.store(false, Ordering::Release);
        open.file.sync_data()
    }

    fn read(&self, file: FileId, offset: u64, len: u32) -> io::Result<Bytes> {
        let (open, len) = (self.opened(file)?, len as usize);
        read_into(&open.file, offset, len, self.buffers.take(len)).map(|it| self.buffers.lend(it))
    }

    fn rename(&self, from: FileId, to: FileId) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))?;
        let mut table = self.table();
        // Whoever still uses the file that was replaced holds its descriptor.
        table.remove(&to);
        if let Some(open) = table.remove(&from) {
            table.insert(to, open);
        }
        Ok(())
    }

    fn remove(&self, file: FileId) -> io::Result<()> {
        fs::remove_file(self.path(file))?;
        self.table().remove(&file);
        Ok(())
    }
}

impl ExecuteIo for Files {
    fn execute(&self, io: Io) -> IoResult {
        let file = io.file();
        let done = match io {
            Io::Create { file, bytes } => self.create(file, bytes).map(|()| IoDone::Ok),
            Io::Write { file, offset, data } => {
                self.write(file, offset, &data).map(|()| IoDone::Ok)
            }
            Io::Sync { file } => self.sync(file).map(|()| IoDone::Ok),
            Io::Read { file, offset, len } => self.read(file, offset, len).map(IoDone::Data),
            Io::Rename { from, to } => self.rename(from, to).map(|()| IoDone::Ok),
            Io::Remove { file } => self.remove(file).map(|()| IoDone::Ok),
            Io::SyncDir => self.dir.sync().map(|()| IoDone::Ok),
            // Its mistakes are logged where they are made.
            Io::Rows(io) => {
                let engine = self.engine.as_deref().ok_or(IoError::NotFound)?;
                return engine::execute(engine, io);
            }
        };
        done.map_err(|error| {
            let file = file.map_or_else(|| "directory".into(), |file| file.to_string());
            tracing::warn!(%file, %error, "disk operation failed");
            classify(&error)
        })
    }
}

impl Listed for Files {
    fn found(&self) -> Vec<FoundFile> {
        self.dir.files().unwrap_or_else(|error| panic!("{error}"))
    }
}

fn classify(error: &io::Error) -> IoError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            IoError::NoSpace
        }
        io::ErrorKind::NotFound => IoError::NotFound,
        _ => IoError::Device,
    }
}

/// Allocates the bytes from `length` to `bytes` and makes them zero.
fn fill(file: &File, kind: FileKind, length: u64, bytes: u64) -> io::Result<()> {
    let allocated =
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), length, bytes - length);
    match allocated {
        Ok(()) if kind == FileKind::Wal => write_zeros(file, length, bytes),
        Ok(()) => Ok(()),
        // A file system that can't allocate has to be written to.
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, length, bytes),
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_BYTES];
    let mut offset = from;
    while offset < to {
        let piece = usize::try_from(to - offset).map_or(ZERO_BYTES, |rest| rest.min(ZERO_BYTES));
        file.write_all_at(zeros.get(..piece).unwrap_or(&zeros), offset)?;
        file.sync_data()?;
        offset += piece as u64;
    }
    Ok(())
}

/// Pieces handed to the kernel in one call; it takes 1024 at the most.
const PIECES_MAX: usize = 256;

fn write_all_at(file: &File, mut offset: u64, data: &[Bytes]) -> io::Result<()> {
    let mut rest: Vec<&[u8]> =
        data.iter().map(|piece| &**piece).filter(|piece| !piece.is_empty()).collect();
    let mut first = 0;
    while first < rest.len() {
        let slices: Vec<_> =
            rest.iter().skip(first).take(PIECES_MAX).map(|piece| io::IoSlice::new(piece)).collect();
        let mut written = match rustix::io::pwritev(file, &slices, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        offset += written as u64;
        while let Some(piece) = rest.get_mut(first) {
            if written < piece.len() {
                *piece = piece.get(written..).unwrap_or_default();
                break;
            }
            written -= piece.len();
            first += 1;
        }
    }
    Ok(())
}
