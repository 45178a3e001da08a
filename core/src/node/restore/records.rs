//! What a record of the write-ahead log says, for tools.

use super::kind;
use crate::codec;
use crate::raft::{Configuration, HardState, Payload};
use crate::wal::Identity;
use bincode::Decode;

/// A record of the write-ahead log. `None` inside it: its payload is damaged, or no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalRecord {
    /// Term, vote and commit index.
    HardState(Option<HardState>),
    /// An entry after the last one, and whether it is marked as one that changes members.
    Entry(Option<Payload>, bool),
    /// The log ends before the record's index.
    Truncate,
    /// The log is not needed up to the record's position.
    Compacted(Option<Configuration>),
    /// The log begins anew after the record's position.
    Reset(Option<Configuration>),
    /// The payload of an entry, after it was damaged.
    Repair(Option<Payload>),
    /// The group counts fully from here on.
    Readmitted,
    /// The group abstains from here on.
    Abstaining,
    /// As abstaining, and nothing of what it promised is left.
    Blank,
    /// The group has no replica here from here on.
    Retired,
    /// A replica of the group begins here, with nothing.
    Joined,
    /// Of a kind that this program does not know, and that a node skips.
    Unknown,
}

impl WalRecord {
    /// The record of this identity with this payload; `None` for one that can't be had.
    #[must_use]
    pub fn of(identity: &Identity, payload: Option<&[u8]>) -> Self {
        fn decoded<T: Decode<()>>(payload: Option<&[u8]>) -> Option<T> {
            payload.and_then(|bytes| codec::decode(bytes).ok())
        }
        match identity.kind {
            kind::HARD_STATE => {
                Self::HardState(payload.and_then(|bytes| codec::decode(bytes).ok()))
            }
            kind::ENTRY => Self::Entry(decoded(payload), false),
            kind::CONFIGURE => Self::Entry(decoded(payload), true),
            kind::TRUNCATE => Self::Truncate,
            kind::COMPACTED | kind::COMPACTED_CHANGED => Self::Compacted(decoded(payload)),
            kind::RESET | kind::RESET_CHANGED => Self::Reset(decoded(payload)),
            kind::REPAIR => Self::Repair(decoded(payload)),
            kind::READMITTED => Self::Readmitted,
            kind::ABSTAINING => Self::Abstaining,
            kind::BLANK => Self::Blank,
            kind::RETIRED => Self::Retired,
            kind::JOINED => Self::Joined,
            _ => Self::Unknown,
        }
    }

    /// The record's kind, in one word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::HardState(_) => "hard-state",
            Self::Entry(_, false) => "entry",
            Self::Entry(_, true) => "configure",
            Self::Truncate => "truncate",
            Self::Compacted(_) => "compacted",
            Self::Reset(_) => "reset",
            Self::Repair(_) => "repair",
            Self::Readmitted => "readmitted",
            Self::Abstaining => "abstaining",
            Self::Blank => "blank",
            Self::Retired => "retired",
            Self::Joined => "joined",
            Self::Unknown => "unknown",
        }
    }
}
