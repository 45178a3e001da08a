//! What is kept of an effect: its kind, and a digest of all that it carries.

use crate::codec;
use crate::machine::{Io, IoOp};
use crate::node::api::Effect;
use crate::rows::{RowChange, RowIo};
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// Pieces below this many bytes are hashed together: BLAKE3 takes bytes singly as dearly as blocks.
const GATHER_BYTES: usize = 1024;

/// Tells an effect from every other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Print {
    /// Its kind, as numbered here.
    kind: u8,
    /// The first 8 bytes of the BLAKE3 of its content.
    digest: [u8; 8],
}

impl Print {
    /// The print of an effect.
    #[must_use]
    pub fn of(effect: &Effect) -> Self {
        let mut digest = Digest::default();
        // Numbers and order of the fields are part of the format (docs/formats.md).
        let kind = match effect {
            Effect::Io(IoOp { op, io }) => {
                digest.put(op);
                operation(io, &mut digest)
            }
            Effect::Hash { op, bytes } => {
                digest.put(op);
                digest.bulk(bytes);
                8
            }
            Effect::Send { to, message } => {
                digest.put(&(to, &message.head));
                digest.bulk(&message.body);
                9
            }
            Effect::Reply { id, outcome } => {
                digest.put(&(id, outcome));
                10
            }
            Effect::Trace(trace) => {
                digest.put(trace);
                11
            }
            Effect::Stopped => 12,
            Effect::Halt(halt) => {
                digest.put(&halt.reason);
                13
            }
        };
        Self { kind, digest: digest.finish() }
    }

    /// What it is the print of.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.kind {
            1 => "creation of a file",
            2 => "write",
            3 => "sync",
            4 => "read",
            5 => "rename",
            6 => "removal",
            7 => "sync of the directory",
            8 => "hash",
            9 => "message",
            10 => "reply",
            11 => "trace event",
            12 => "stop",
            13 => "halt",
            _ => "unknown effect",
        }
    }
}

fn operation(io: &Io, digest: &mut Digest) -> u8 {
    match io {
        Io::Create { file, bytes } => {
            digest.put(&(file, bytes));
            1
        }
        Io::Write { file, offset, data } => {
            digest.put(&(file, offset, data.len() as u64));
            data.iter().for_each(|piece| digest.bulk(piece));
            2
        }
        Io::Sync { file } => {
            digest.put(file);
            3
        }
        Io::Read { file, offset, len } => {
            digest.put(&(file, offset, len));
            4
        }
        Io::Rename { from, to } => {
            digest.put(&(from, to));
            5
        }
        Io::Remove { file } => {
            digest.put(file);
            6
        }
        Io::SyncDir => 7,
        Io::Rows(io) => {
            rows(io, digest);
            8
        }
    }
}

#[derive(Default)]
struct Digest {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
}

impl Digest {
    fn put<T: Encode>(&mut self, value: &T) {
        codec::encode_to(value, |piece| self.bytes(piece));
    }

    /// Bytes with their length before them.
    fn bulk(&mut self, bytes: &[u8]) {
        self.put(&(bytes.len() as u64));
        self.bytes(bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() > GATHER_BYTES {
            self.hasher.update(&self.gathered);
            self.gathered.clear();
        }
        if bytes.len() > GATHER_BYTES {
            self.hasher.update(bytes);
        } else {
            self.gathered.extend_from_slice(bytes);
        }
    }

    fn finish(mut self) -> [u8; 8] {
        self.hasher.update(&self.gathered);
        let [a, b, c, d, e, f, g, h, ..] = *self.hasher.finalize().as_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

fn rows(io: &RowIo, digest: &mut Digest) {
    match io {
        RowIo::Write { changes } => {
            digest.put(&(1_u8, changes.len() as u64));
            changes.iter().for_each(|it| change(it, digest));
        }
        RowIo::Sync => digest.put(&2_u8),
        RowIo::Get { space, key } => {
            digest.put(&(3_u8, space.name()));
            digest.bulk(key);
        }
        RowIo::Scan { space, from, before, bytes_max } => {
            digest.put(&(4_u8, space.name(), bytes_max));
            digest.bulk(from);
            digest.bulk(before);
        }
    }
}

fn change(change: &RowChange, digest: &mut Digest) {
    let (kind, space, [one, other]) = match change {
        RowChange::Put { space, key, value } => (1_u8, space, [key.as_ref(), value]),
        RowChange::Remove { space, key } => (2, space, [key.as_ref(), &[]]),
        RowChange::RemoveRange { space, from, before } => (3, space, [from.as_ref(), before]),
    };
    digest.put(&(kind, space.name()));
    digest.bulk(one);
    digest.bulk(other);
}
