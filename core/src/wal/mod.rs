//! The segmented log: how this node remembers.
//!
//! # The problem
//!
//! A node promises that what it acknowledged survives a power loss, and it must know afterwards what it
//! has forgotten. A disk makes neither easy. Writes land in any order and in any subset of sectors until
//! a sync has succeeded; a failed sync may have thrown the data away; bits rot at rest. At boot, a log that
//! ends in garbage may have been cut by the power loss (then nobody was promised anything, and the
//! garbage is dropped), or it may have rotted after it was acknowledged (then dropping it is the worst
//! thing one can do: a replica would vote with a log shorter than the one it promised).
//!
//! One machine, [`SegmentLog`], is used three times: as the write-ahead log of all Raft groups of the
//! node, as the log of table records behind the shards' state, and as the log of chunks.
//!
//! # The guarantees
//!
//! - **Order.** Records are durable in the order in which they were appended: after any crash the
//!   log holds a prefix of what was appended, and at least everything up to the last
//!   [`LogOutput::Durable`]. (Property tests cut and tear at every byte.)
//! - **Group commit.** One write and one sync are in flight; whatever is appended meanwhile is the next
//!   batch. With [`Config::eager_sync`] a write and its sync strictly alternate, so that at most one
//!   batch is ever unsynced.
//! - **Sync marks.** Every batch records up to which batch the log was known to be synced when it was
//!   written; an idle log writes one empty batch to say it ([`Config::mark_after`]). A torn tail is only
//!   what lies beyond the last mark. Whatever is damaged at or before it is corruption and is reported with
//!   file and offset, never cut.
//! - **Identity apart from payload.** Which records a batch holds ([`Identity`]) is stored in a
//!   directory, twice, each copy with its own checksum; a payload has its own. One damaged spot loses a
//!   payload or a copy, never an identity.
//! - **No byte of another life.** A batch names its segment, its offset and its number in the log, and
//!   its checksum starts with the store's id and the kind of file: a misdirected write, a file of another
//!   store or an older use of the same sectors does not pass. So files can be used again: the segments of the
//!   write-ahead log are (`segment`, [`Config::spares_max`]).
//! - **Errors are outputs.** A full disk refuses appends ([`LogOutput::NoSpace`]) and the log goes on when
//!   there is space again. A failed sync, or a device error on a write, is final ([`LogOutput::Failed`]).
//!
//! # The path of a record
//!
//! [`SegmentLog::append`] queues it. [`SegmentLog::pump`] builds a batch of everything queued that fits
//! and emits one `Write` of handles (payloads are not copied); its completion yields
//! [`LogOutput::Written`] with the [`Location`] of each payload, and the sync's completion
//! [`LogOutput::Durable`]. When a segment is full, everything in it is synced before the next one is
//! written; the next one is created, synced and its name made durable ahead of need. A segment's
//! header goes out in one write with its first batch.
//!
//! # Boot
//!
//! [`Recovery`] first reads the last segment for the highest mark, then walks all segments in order and
//! hands records and damages out in slices; where the owner knows what the older ones hold, from a later one on ([`Recovery::begin_at`]). Records beyond the mark are accepted only if they are whole, and
//! are **written again in place** and synced before [`RecoveryOutput::Finished`]: they may stand in the
//! page cache only, left there by a process that was killed, or by one whose sync failed. What follows the
//! cut is overwritten with zeros before anything is appended, so it can't come back; in a log that recycles only where it
//! bears the mark of its segment, as all else never counts. If it alone said how far the log was
//! synced, and something before that is damaged, a mark takes its place: the next boot is to see the damage too.
//!
//! # Caveats
//!
//! - Damage in the window between a sync and its mark is indistinguishable from a torn write. The window is the
//!   next batch, or [`Config::mark_after`] on an idle log.
//! - Header and copy of a batch of one block share that block: losing the whole block loses identity.
//!   Recovery then reports [`DamageKind::IdentityLost`] and goes on behind it.
//! - A batch refused for lack of space is overwritten with zeros before the refusal is reported, but that
//!   erasure is not synced: a crash right then may bring the batch back. The refusal of an append is
//!   therefore final only until a crash, like the outcome of any request that was not acknowledged.
//! - A damaged header whose copy is good isn't repaired in place; the segment's removal repairs it.

mod closing;
mod log;
mod piecewise;
pub mod reading;
pub mod record;
mod recovery;
mod scan;
mod segment;
#[cfg(test)]
pub(crate) mod tests;
mod walking;

pub use log::SegmentLog;
pub use recovery::{Cut, Recovery};
pub use segment::SegmentStat;

use crate::machine::{Duration, FileKind, Halt, IoOp};
use crate::planted::Planted;
pub use crate::types::Location;
use crate::types::{Damage, GroupId, Index, Term};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bincode::Encode;
use bytes::Bytes;
use core::fmt;

/// How a log is laid out and when it syncs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which files the log's segments are.
    pub kind: FileKind,
    /// The store that the log belongs to: a segment of another one is refused.
    pub store: [u8; 16],
    /// Bytes of a new segment, a multiple of `block_bytes`.
    pub segment_bytes: u64,
    /// What batches are aligned to: a power of two from 512 to 64 KiB. No smaller than what the device may
    /// tear as one, or a later write could damage an earlier batch. 4096 on real disks.
    pub block_bytes: u32,
    /// A batch takes records until it has this many bytes; a single longer record is a batch alone.
    pub batch_bytes_max: u64,
    /// Whether every batch is synced at once. A log that is not eager syncs on
    /// [`SegmentLog::request_sync`] and before a new segment is written.
    pub eager_sync: bool,
    /// An idle log writes its sync mark this long after the sync.
    pub mark_after: Duration,
    /// Whether recovery reads payloads and verifies their checksums before the sync mark. Beyond it,
    /// it always does.
    pub verify_payloads_at_boot: bool,
    /// Whether recovery hands verified payloads out. Implies `verify_payloads_at_boot`.
    pub keep_payloads_at_boot: bool,
    /// So many files of removed segments are kept to be used again; 0 for a log that makes every segment anew.
    /// Then what is behind the last batch of a segment is zeros, otherwise it may be what stood there
    /// in an earlier life of the file. Only the write-ahead log may have any, and its owner removes the oldest segment
    /// first: spares have a name of their own ([`FileKind::Spare`]), but not one for each log.
    pub spares_max: usize,
    /// The planted bug, in the simulator.
    pub planted: Planted,
}

impl Config {
    /// Sensible sizes for a log of `kind` that syncs every batch: a write-ahead log.
    #[must_use]
    pub const fn new(kind: FileKind, store: [u8; 16]) -> Self {
        Self {
            kind,
            store,
            segment_bytes: 64 << 20,
            block_bytes: 4096,
            batch_bytes_max: 4 << 20,
            eager_sync: true,
            mark_after: Duration::from_millis(5),
            verify_payloads_at_boot: true,
            keep_payloads_at_boot: true,
            spares_max: if matches!(kind, FileKind::Wal) { SPARES_MAX } else { 0 },
            planted: Planted::NONE,
        }
    }
}

/// One segment goes when one is begun, so one spare would do; the other is for the one that goes a little later or sooner.
const SPARES_MAX: usize = 2;

/// What a record is. Survives the loss of its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// What the owner of the log calls this kind of record.
    pub kind: u8,
    /// The group that it belongs to.
    pub group: GroupId,
    /// Its index in that group's log, or what the owner means by it.
    pub index: Index,
    /// Its term, or what the owner means by it.
    pub term: Term,
}

/// The most bytes of a [`Record::note`].
pub const NOTE_BYTES_MAX: usize = 64;

/// What is appended.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is.
    pub identity: Identity,
    /// A few bytes kept beside the identity, as safe as that and read at every boot: a chunk's hash. At most
    /// [`NOTE_BYTES_MAX`]; usually empty.
    pub note: Bytes,
    /// The bytes, in pieces that are written one after another and never copied.
    pub payload: Vec<Bytes>,
    /// CRC32 of all pieces, when the caller has it already: bulk bytes are not hashed in a step.
    pub payload_crc: Option<u32>,
}

impl Record {
    /// A record with a payload in one piece and no note.
    #[must_use]
    pub fn new(identity: Identity, payload: Bytes) -> Self {
        Self { identity, note: Bytes::new(), payload: Vec::from([payload]), payload_crc: None }
    }

    /// Bytes of the payload.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.payload.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// The position of a record in the order of this boot's appends, from 1. 0 is before the first. Records
/// recovered at boot have none: they are durable before the log exists.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "l{}", self.0)
    }
}

/// What a log asks for and reports, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// An operation for the driver. Its completion goes to [`SegmentLog::on_done`].
    Io(IoOp),
    /// All records up to `upto` that were not refused are in the file, though maybe not durable: reads
    /// find them.
    Written {
        /// The last one.
        upto: Lsn,
        /// Where the payload of each of them stands, in order of append.
        locations: Vec<(Lsn, Location)>,
    },
    /// All records up to `upto` that were not refused are durable.
    Durable {
        /// The last one.
        upto: Lsn,
    },
    /// The disk is full: none of these records counts. They are everything that was appended and not yet
    /// written, so no record is written behind a refused one unless it was appended after this output.
    NoSpace {
        /// The first refused.
        first: Lsn,
        /// The last refused.
        last: Lsn,
    },
    /// A segment that was to be removed is gone for good.
    Removed {
        /// Its number.
        segment: u64,
    },
    /// The log can't go on until the store is recovered at the next boot. Nothing follows.
    Failed(Halt),
    /// What happened. No decision hangs on it.
    Trace(LogTrace),
}

/// Events of a log, for traces and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub enum LogTrace {
    /// A batch goes to the disk.
    Batch {
        /// Its segment.
        segment: u64,
        /// Its number in the log.
        seq: u64,
        /// How many records it holds; 0 for a sync mark.
        records: u32,
        /// Bytes on disk.
        bytes: u32,
    },
    /// Everything up to this batch is durable.
    Synced {
        /// The batch's number in the log.
        seq: u64,
    },
    /// A segment is written for the first time.
    SegmentStarted {
        /// Its number.
        segment: u64,
    },
    /// A segment that is about to be written has the file of one that was removed.
    SegmentReused {
        /// Its number.
        segment: u64,
        /// The number that the file had last.
        was: u64,
    },
}

/// A record found at boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// What it is.
    pub identity: Identity,
    /// The note that it was appended with.
    pub note: Bytes,
    /// Where its payload stands.
    pub location: Location,
    /// What is known of its payload.
    pub payload: RecoveredPayload,
}

/// What recovery knows of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveredPayload {
    /// Read and verified. It shares memory with all that was read at once: whoever wants to keep it copies it.
    Kept(Bytes),
    /// Not handed out ([`Config::keep_payloads_at_boot`]); verified if
    /// [`Config::verify_payloads_at_boot`].
    Stored,
    /// Damaged; reported before this record.
    Lost,
}

/// What is damaged at or before the last sync mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    /// Where, and what was expected there.
    pub damage: Damage,
    /// What it costs.
    pub kind: DamageKind,
}

/// What a damage costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// Records stood here and nobody knows which. Any group may have lost any entry that was appended
    /// between the records reported before and after this.
    IdentityLost,
    /// The payload of this record.
    PayloadLost(Identity),
    /// Nothing yet: a copy was damaged and the other one was good.
    CopyLost,
}

/// What recovery asks for and finds. Records and damages come in the order of the log.
#[derive(Clone, Debug)]
pub enum RecoveryOutput {
    /// An operation for the driver. Its completion goes to [`Recovery::on_done`].
    Io(IoOp),
    /// The next record. Durable only when recovery has finished.
    Record(Recovered),
    /// Damage between the records before and after it.
    Damage(LogDamage),
    /// All is read and durable: the log goes on behind it.
    Finished(Box<SegmentLog>),
    /// The log can't be opened: another store, an unknown format version, or a failing device.
    Failed(Halt),
}
