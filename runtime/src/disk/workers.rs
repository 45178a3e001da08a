//! The threads that execute operations, and the queues before them.

use super::files::Files;
use super::{DataDir, ExecuteIo as _};
use crate::engine::Engine;
use crate::pool::Pool;
use ironseed_core::machine::{FileKind, Io, IoOp, IoResult};
use ironseed_core::rows::RowIo;
use ironseed_core::types::OpId;
use std::io;
use std::sync::Arc;

/// Threads that read. Enough to keep a disk's queue filled, few enough to bound the buffers that are
/// being filled at a time.
const READERS: usize = 4;

/// A store's files with the threads that work on them. Dropping it lets every operation that was begun
/// come to its end.
pub struct Workers {
    files: Arc<Files>,
    wal: Pool<IoOp>,
    table: Pool<IoOp>,
    chunk: Pool<IoOp>,
    /// Making, renaming and removing files, directory syncs, the superblock.
    names: Pool<IoOp>,
    readers: Pool<IoOp>,
}

impl Workers {
    /// Starts the threads. Each operation's end is reported through `done`, from any of them.
    ///
    /// # Errors
    /// The operating system starts no more threads.
    pub fn start(
        dir: DataDir,
        engine: Option<Box<dyn Engine>>,
        name: &str,
        done: impl Fn(OpId, IoResult) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let files = Arc::new(Files::with_engine(dir, engine));
        let pool = |part: &str, threads| {
            let files = files.clone();
            let done = done.clone();
            Pool::start(&format!("{name}-{part}"), threads, move |IoOp { op, io }| {
                done(op, files.execute(io));
            })
        };
        Ok(Self {
            wal: pool("wal", 1)?,
            table: pool("table", 1)?,
            chunk: pool("chunk", 1)?,
            names: pool("names", 1)?,
            readers: pool("read", READERS)?,
            files,
        })
    }

    /// Begins an operation. Returns its result if it could be had at once; `done` is not called for it
    /// then.
    pub fn submit(&self, IoOp { op, io }: IoOp) -> Option<IoResult> {
        let pool = match &io {
            Io::Read { file, offset, len } => {
                if let Some(result) = self.files.read_cached(*file, *offset, *len) {
                    return Some(result);
                }
                &self.readers
            }
            Io::Write { file, .. } | Io::Sync { file } => match file.kind {
                FileKind::Wal => &self.wal,
                FileKind::Table => &self.table,
                FileKind::Chunk => &self.chunk,
                FileKind::Superblock | FileKind::Spare | FileKind::Index | FileKind::Engine => {
                    &self.names
                }
            },
            Io::Rows(RowIo::Write { .. } | RowIo::Sync) => &self.table,
            Io::Rows(RowIo::Get { .. } | RowIo::Scan { .. }) => &self.readers,
            Io::Create { .. } | Io::Rename { .. } | Io::Remove { .. } | Io::SyncDir => &self.names,
        };
        pool.submit(IoOp { op, io });
        None
    }

    /// The directory that the files are in.
    #[must_use]
    pub fn dir(&self) -> &DataDir {
        self.files.dir()
    }
}
