//! The node's files: executes [`Io`] against a real directory. The real twin of the simulator's disk.
//!
//! Nothing here decides or orders anything: every operation is executed as soon as a thread is free and
//! completed once, whatever its outcome, and operations may overtake each other. That is what the
//! contract promises ([`ironseed_core::machine`]), so the machines already wait where an order matters.
//!
//! # Which thread does what
//! What must not wait for what decides the cut. The write-ahead log has a thread for its writes and
//! syncs alone, so that neither a bulk sync of the chunk log nor the making of the next segment stands
//! before an acknowledgement. Table and chunk log have one each. Making, renaming and removing files,
//! directory syncs and the superblock share one thread. Reads go to a small pool, unless the page cache
//! already holds them, when they are answered at once on the caller's thread.
//!
//! # What the bytes on disk may rest on
//! - A sync is `fdatasync`. Its failure is reported, never repeated: the page cache may have dropped what it
//!   could not write.
//! - [`Io::Create`] allocates all blocks, so that a later write inside the file can't run out of space,
//!   and writes real zeros into segments of the write-ahead log: on common file systems a write into blocks that
//!   are merely allocated changes metadata, and its sync costs twice as much. A log that is trimmed as it grows makes no new
//!   ones: its files are used again.
//! - A file that was written to and not yet synced keeps its descriptor: the kernel reports a failed
//!   write-back to the descriptors that were open when it failed.
//!
//! # Caveats
//! Bulk data goes through the page cache, not around it (`O_DIRECT`).

mod buffers;
pub mod conformance;
mod directory;
pub(crate) mod files;
mod workers;

pub use crate::sys::Disk;
pub use directory::{DataDir, DirError, StoppedDir, write_private};
pub use workers::Workers;

use ironseed_core::machine::{FoundFile, Io, IoResult};

/// Something that executes disk operations: the real directory, and whatever else must behave like it.
pub trait ExecuteIo {
    /// Executes one operation to its end.
    fn execute(&self, io: Io) -> IoResult;
}

/// A disk whose files can be listed while nobody works on them.
pub trait Listed: ExecuteIo {
    /// What a driver would find at boot, sorted by file.
    fn found(&self) -> Vec<FoundFile>;
}

/// Executes operations on a data directory on the caller's thread: for tools and tests.
pub fn direct(dir: DataDir) -> impl Listed {
    files::Files::new(dir)
}

#[cfg(test)]
mod tests;
