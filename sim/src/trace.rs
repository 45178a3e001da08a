//! What happened in a run, twice: as a rolling hash that two equal runs share, and as lines for people.
//!
//! The hash takes in every event of the world in order: its time, its kind and its coordinates, and the
//! contents of disk writes, replies and those messages that travel as bytes. Lines are made only when
//! somebody reads them.

use crate::checkers::Millis;
use std::fmt;

/// Takes a line of the trace.
pub type Sink = Box<dyn FnMut(&str)>;

/// The record of one run.
pub struct Tracer {
    hasher: blake3::Hasher,
    events: u64,
    sink: Option<Sink>,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracer({} events)", self.events)
    }
}

/// The kind of an event. The number is part of every recorded hash: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A node boots.
    Boot = 1,
    /// A node goes down.
    Down = 2,
    /// A message is sent.
    Send = 3,
    /// A message arrives.
    Deliver = 4,
    /// A disk operation is issued.
    Io = 5,
    /// A disk operation completes.
    Done = 6,
    /// A timer fires.
    Timer = 7,
    /// A client asks.
    Request = 8,
    /// A client is answered.
    Reply = 9,
    /// A client gives up.
    GiveUp = 10,
    /// A fault strikes.
    Fault = 11,
    /// A fault is over.
    Mend = 12,
    /// A machine says what happened.
    Trace = 13,
    /// The run enters another phase.
    Phase = 14,
    /// Bytes have been hashed.
    Hashed = 15,
}

impl Tracer {
    /// A record without lines.
    #[must_use]
    pub fn silent() -> Self {
        Self { hasher: blake3::Hasher::new(), events: 0, sink: None }
    }

    /// A record whose lines go to `sink`.
    #[must_use]
    pub fn verbose(sink: Sink) -> Self {
        Self { sink: Some(sink), ..Self::silent() }
    }

    /// Takes an event in. `line` is called only if somebody reads it.
    pub fn event(&mut self, at: u64, kind: Kind, parts: &[u64], line: impl FnOnce() -> String) {
        self.events += 1;
        let mut bytes = [0; 9];
        bytes[..8].copy_from_slice(&at.to_le_bytes());
        bytes[8] = kind as u8;
        self.hasher.update(&bytes);
        for part in parts {
            self.hasher.update(&part.to_le_bytes());
        }
        if let Some(sink) = &mut self.sink {
            sink(&format!("{:>16} {}", Millis(at).to_string(), line()));
        }
    }

    /// Takes the contents of the last event in.
    pub fn content(&mut self, bytes: &[u8]) {
        self.hasher.update(&crc32fast::hash(bytes).to_le_bytes());
    }

    /// Events so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn history_hash(&self) -> String {
        self.hasher.finalize().to_hex()[..32].to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_time_and_contents_all_count() {
        let hash = |events: &[(u64, Kind, &[u64])], content: &[u8]| {
            let mut tracer = Tracer::silent();
            for (at, kind, parts) in events {
                tracer.event(*at, *kind, parts, String::new);
            }
            tracer.content(content);
            tracer.history_hash()
        };
        let (a, b): ((u64, Kind, &[u64]), _) = ((1, Kind::Boot, &[1]), (2, Kind::Send, &[1][..]));
        let first = hash(&[a, b], b"x");
        assert_eq!(first, hash(&[a, b], b"x"));
        assert_ne!(first, hash(&[b, a], b"x"));
        assert_ne!(first, hash(&[a, (3, b.1, b.2)], b"x"));
        assert_ne!(first, hash(&[a, (2, b.1, &[2])], b"x"));
        assert_ne!(first, hash(&[a, b], b"y"));
    }
}
