//! Commands: what a group's log carries and every replica applies.
//!
//! ```text
//! meaning  u16 LE   which version of the rules the command is to be read by
//! body     bincode  wall u64, session, operation
//! ```
//!
//! The meaning stands in front of everything that may change with it, so that a replica can tell a
//! command that it must not read from one that is malformed. See [`super`] for what happens to each.

use super::api::Expect;
use crate::codec::{self, Octets};
use crate::object::command::ObjectOp;
use crate::object::registry::RegistryOp;
use crate::types::{Incarnation, NodeId};
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;

/// The meaning that a new group begins with.
pub const MEANING_FIRST: u16 = 1;
/// The latest meaning that this program can carry out.
pub const MEANING_LATEST: u16 = 1;
/// The most bytes of an encoded command: no log entry is longer.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// The most sessions that one command expires. Each drops up to
/// [`super::session::REPLIES_MAX`] records.
pub const EXPIRE_SESSIONS_MAX: usize = 8;

/// A router's session with one group: one router a node and boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SessionId {
    /// The router's node.
    pub node: NodeId,
    /// The boot that opened it.
    pub incarnation: Incarnation,
}

/// What makes a repeated command the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SessionTag {
    /// The session, which must be open.
    pub session: SessionId,
    /// Numbers the session's commands. Never used again for another one.
    pub seq: u64,
    /// The lowest number whose answer the router still waits for, at most `seq`. Replies below are
    /// forgotten.
    pub first_incomplete: u64,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Which version of the rules it is to be read by: the one that was active when it was proposed.
    pub meaning: u16,
    /// The proposing leader's wall time, nanoseconds since the Unix epoch.
    pub wall: u64,
    /// Set for a client's command. Without it the command must be harmless to repeat.
    pub session: Option<SessionTag>,
    /// What to do.
    pub op: Op,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Op {
    /// Opens a session and drops those of older boots of its node. Harmless to repeat.
    OpenSession {
        /// The session.
        session: SessionId,
    },
    /// Drops what sessions of nodes that will not come back remember. They can't be opened again.
    ExpireSessions {
        /// At most [`EXPIRE_SESSIONS_MAX`].
        sessions: Vec<SessionId>,
    },
    /// Makes commands of another meaning valid from here on.
    Activate {
        /// The meaning, above the active one.
        meaning: u16,
    },
    /// A write of the key-value space.
    Kv(KvWrite),
    /// A write of objects, their blobs and what a shard knows of buckets.
    Object(ObjectOp),
    /// A write of the meta group: buckets and the cluster's records.
    Registry(RegistryOp),
}

/// A write of the key-value space.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum KvWrite {
    /// Writes a key.
    Put {
        /// The key.
        key: Octets,
        /// The value.
        value: Octets,
        /// What must hold.
        expect: Expect,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        key: Octets,
        /// What must hold.
        expect: Expect,
    },
}

/// The command is longer than [`COMMAND_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// How long it is.
    pub bytes: usize,
}

/// Why a replica does not carry a command out. Every replica of the group finds the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Its meaning is not active.
    Meaning(u16),
    /// Its meaning is active, but the bytes are no command of it.
    Malformed,
}

#[derive(Encode, Decode)]
struct Envelope {
    wall: u64,
    session: Option<SessionTag>,
    op: Op,
}

impl Command {
    /// Encodes the command for the log.
    ///
    /// # Errors
    /// When it is too long for an entry.
    pub fn encode(self) -> Result<Bytes, TooLong> {
        let mut bytes = self.meaning.to_le_bytes().to_vec();
        let envelope = Envelope { wall: self.wall, session: self.session, op: self.op };
        bytes.extend(codec::encode(&envelope));
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(TooLong { bytes: bytes.len() });
        }
        Ok(bytes.into())
    }

    /// Decodes a command under the active meaning.
    ///
    /// # Errors
    /// When it can't be carried out.
    pub fn decode(bytes: &[u8], active: u16) -> Result<Self, Unreadable> {
        let (meaning, rest) = bytes.split_first_chunk().ok_or(Unreadable::Malformed)?;
        let meaning = u16::from_le_bytes(*meaning);
        if !(MEANING_FIRST..=active).contains(&meaning) {
            return Err(Unreadable::Meaning(meaning));
        }
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(Unreadable::Malformed);
        }
        let Envelope { wall, session, op } =
            codec::decode(rest).map_err(|_| Unreadable::Malformed)?;
        Ok(Self { meaning, wall, session, op })
    }
}
