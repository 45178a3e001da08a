//! The contract between a machine and whoever drives it.
//!
//! A machine takes one input at a time (`step`) and appends to one ordered list of effects. It never
//! blocks, never fails and never looks at a clock: time comes in as [`Now`], disk and network
//! completions come in as inputs. `deadline` says when it wants to be woken if nothing else happens.
//!
//! What a driver owes:
//! - It executes effects; it may complete [`Io`] operations in **any order**, unless a
//!   [`Effect::Io`](crate::node::api::Effect::Io) was only issued after the completion of the one it depends on. A machine that
//!   needs an order waits for the completion.
//! - Every `Io` and `Hash` is completed exactly once with its operation id, or never if the process dies.
//! - A `Send` may be lost, delayed, duplicated or reordered, but a message that arrives is whole.
//! - Late or spurious timers are harmless.
//!
//! What a machine owes: a message or reply that promises durability leaves `step` only after the
//! operations that it names have completed (the node's gate, [`crate::node`]), so no driver ever has to
//! remember an order. A step does a bounded amount of work whatever the size of the state.

use crate::rows::RowIo;
use crate::types::{ChunkHash, OpId};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;
use core::fmt;

/// Monotonic time in nanoseconds from an arbitrary start. Comparable within one boot only.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Instant(pub u64);

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Duration(pub u64);

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of `ms` milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// A span of `s` seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self(s * 1_000_000_000)
    }

    /// Whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// The first of these deadlines, where `None` is never.
///
/// Written out, because drivers ask after every step: of `into_iter().flatten().min()` the compiler makes kilobytes of
/// vector code.
#[must_use]
pub fn first_of<const N: usize>(deadlines: [Option<Instant>; N]) -> Option<Instant> {
    let mut first = None;
    for at in deadlines {
        first = match (first, at) {
            (Some(first), Some(at)) if first <= at => Some(first),
            (first, None) => first,
            (_, at) => at,
        };
    }
    first
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl core::ops::Sub<Self> for Instant {
    type Output = Duration;
    /// Zero when `earlier` is later than `self`.
    fn sub(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Mul<u64> for Duration {
    type Output = Self;
    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}ms", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}ms", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// What a machine is told of time with every input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Now {
    /// Never goes back within a boot.
    pub mono: Instant,
    /// Wall time is at or after this: nanoseconds since the Unix epoch. It may jump either way.
    pub wall_earliest: u64,
    /// Wall time is at or before this: `wall_earliest` plus twice the operator's stated clock bound.
    pub wall_latest: u64,
}

impl Now {
    /// The middle of the wall clock's bounds: what a `Last-Modified` shows.
    #[must_use]
    pub const fn wall(&self) -> u64 {
        self.wall_earliest + (self.wall_latest - self.wall_earliest) / 2
    }
}

/// What a file is for. Its name on a real disk follows from this alone ([`FileId`]'s `Display`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum FileKind {
    /// Identity and incarnation of the store; one file, number 0.
    Superblock,
    /// A segment of the shared write-ahead log.
    Wal,
    /// A segment of the records behind the shards' state.
    Table,
    /// A segment of chunks.
    Chunk,
    /// A file that held a segment of the write-ahead log and waits to hold another; its bytes mean nothing.
    Spare,
    /// A snapshot of the index: it makes a boot faster, and nothing rests on it.
    Index,
    /// What an engine of somebody else's holds, in files of its own: no machine makes one, and only what is wrong with it is
    /// said by this name.
    Engine,
}

/// A file of the node's data directory. All files live flat in one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct FileId {
    /// What it is for.
    pub kind: FileKind,
    /// Which one of its kind.
    pub number: u64,
}

impl FileId {
    /// The file of `kind` with this number.
    #[must_use]
    pub const fn new(kind: FileKind, number: u64) -> Self {
        Self { kind, number }
    }

    /// The file that a name on disk stands for, or `None` for a name that no machine ever made.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "superblock" {
            return Some(Self::new(FileKind::Superblock, 0));
        }
        let (kind, rest) = name.split_once('-')?;
        let digits = rest.strip_suffix(".seg")?;
        let kind = match kind {
            "wal" => FileKind::Wal,
            "table" => FileKind::Table,
            "chunk" => FileKind::Chunk,
            "spare" => FileKind::Spare,
            "index" => FileKind::Index,
            _ => return None,
        };
        let id = Self::new(kind, u64::from_str_radix(digits, 16).ok()?);
        // Only the canonical spelling: two names must never mean one file. And nobody has counted that far: there is a next number.
        let canonical = digits.len() == 16 && !digits.bytes().any(|b| b.is_ascii_uppercase());
        (canonical && id.number <= u64::MAX >> 1).then_some(id)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FileKind::Superblock => f.write_str("superblock"),
            FileKind::Wal => write!(f, "wal-{:016x}.seg", self.number),
            FileKind::Table => write!(f, "table-{:016x}.seg", self.number),
            FileKind::Chunk => write!(f, "chunk-{:016x}.seg", self.number),
            FileKind::Spare => write!(f, "spare-{:016x}.seg", self.number),
            FileKind::Index => write!(f, "index-{:016x}.seg", self.number),
            FileKind::Engine => write!(f, "engine, segment {:x}", self.number),
        }
    }
}

/// One disk operation. Offsets and lengths are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Io {
    /// Creates the file with `bytes` zero bytes allocated, or makes an existing one that long. Its
    /// directory entry is durable only after [`Io::SyncDir`].
    Create {
        /// The file to make.
        file: FileId,
        /// Its length.
        bytes: u64,
    },
    /// Writes the pieces one after another from `offset`. Grows the file where needed. Durable only
    /// after [`Io::Sync`]; until then a power loss keeps any subset of its sectors.
    Write {
        /// The file, which exists.
        file: FileId,
        /// Where the first piece goes.
        offset: u64,
        /// What to write, in order. Handles: the driver must not copy them to own them.
        data: Vec<Bytes>,
    },
    /// Makes every write to the file that completed before this was issued durable.
    Sync {
        /// The file.
        file: FileId,
    },
    /// Reads `len` bytes; fewer at the end of the file.
    Read {
        /// The file.
        file: FileId,
        /// Where to start.
        offset: u64,
        /// How many bytes at the most.
        len: u32,
    },
    /// Renames a file over another. Durable only after [`Io::SyncDir`].
    Rename {
        /// The old name.
        from: FileId,
        /// The new name; a file there is replaced.
        to: FileId,
    },
    /// Removes a file. Durable only after [`Io::SyncDir`].
    Remove {
        /// The file.
        file: FileId,
    },
    /// Makes creations, renames and removals durable.
    SyncDir,
    /// An operation of the engine that keeps the node's records, where that is not the table log.
    Rows(RowIo),
}

impl Io {
    /// The file that the operation touches, if it touches one.
    #[must_use]
    pub const fn file(&self) -> Option<FileId> {
        match self {
            Self::Create { file, .. }
            | Self::Write { file, .. }
            | Self::Sync { file }
            | Self::Read { file, .. }
            | Self::Remove { file } => Some(*file),
            Self::Rename { from, .. } => Some(*from),
            Self::SyncDir | Self::Rows(_) => None,
        }
    }
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum IoError {
    /// No space is left on the disk. Nothing is known of the bytes in the range written.
    NoSpace,
    /// There is no such file, or no such row.
    NotFound,
    /// The device failed. After a failed [`Io::Sync`] the dirty data may be gone.
    Device,
}

/// What a completed operation brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IoDone {
    /// Everything but a read.
    Ok,
    /// What a read found; shorter than asked at the end of the file. The value of a row, or a page of them
    /// ([`crate::rows::page`]).
    Data(Bytes),
    /// What a hash effect computed.
    Hashed(Hashed),
}

/// Result of [`Effect::Hash`](crate::node::api::Effect::Hash): name and checksum of the bytes, computed in one pass beside the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hashed {
    /// BLAKE3 of the bytes.
    pub hash: ChunkHash,
    /// CRC32 (IEEE) of the bytes.
    pub crc: u32,
}

impl Hashed {
    /// Computes both. For drivers; a step never does it to bulk bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { hash: ChunkHash::of(bytes), crc: crc32fast::hash(bytes) }
    }
}

/// The result of an operation.
pub type IoResult = Result<IoDone, IoError>;

/// A file that a driver found in the data directory at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FoundFile {
    /// Which file.
    pub file: FileId,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Why a node stopped for good until it is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// What happened, for the operator.
    pub reason: String,
}

/// An operation with its id, as machines below the node emit it. The node forwards it as an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoOp {
    /// Chosen by the machine from the [`OpIds`] it was given.
    pub op: OpId,
    /// What to do.
    pub io: Io,
}

/// Hands out operation ids. One a node and boot, so that ids of different machines never collide:
/// each machine gets its own residue class.
#[derive(Clone, Debug)]
pub struct OpIds {
    next: u64,
    stride: u64,
}

impl OpIds {
    /// Ids `start`, `start + stride`, ... A machine that owns class `c` of `n` takes `new(c, n)`.
    #[must_use]
    pub const fn new(start: u64, stride: u64) -> Self {
        Self { next: start, stride }
    }

    /// A fresh id.
    pub const fn take(&mut self) -> OpId {
        let op = OpId(self.next);
        self.next += self.stride;
        op
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_first_deadline_wins_and_none_is_never() {
        let at = |ns| Some(Instant(ns));
        assert_eq!(first_of([]), None);
        assert_eq!(first_of([None, None]), None);
        assert_eq!(first_of([None, at(5), None]), at(5));
        assert_eq!(first_of([at(7), None, at(3), at(4)]), at(3));
        assert_eq!(first_of([at(u64::MAX), None]), at(u64::MAX));
        assert_eq!(first_of([at(0), at(1)]), at(0));
    }

    #[test]
    fn a_file_has_one_name_and_a_next_number() {
        for kind in
            [FileKind::Wal, FileKind::Table, FileKind::Chunk, FileKind::Spare, FileKind::Index]
        {
            for number in [0, 1, 0xabc, u64::MAX >> 1] {
                let file = FileId::new(kind, number);
                assert_eq!(FileId::parse(&file.to_string()), Some(file));
            }
            for number in [1 << 63, u64::MAX] {
                assert_eq!(FileId::parse(&FileId::new(kind, number).to_string()), None);
            }
        }
        let names = [
            "wal-1.seg",
            "wal-00000000000000AB.seg",
            "wal-0000000000000001",
            "log-0000000000000001.seg",
        ];
        assert_eq!(names.map(FileId::parse), [None; 4]);
    }
}
