//! What happened in a run, twice: as a rolling hash that two equal runs share, and as lines for people.
//!
//! The hash takes in every event of the world in order: its time, its kind and its coordinates, and the
//! contents of disk writes, replies and those messages that travel as bytes. Lines are made only when
//! somebody reads them.

use crate::checkers::Millis;
use ironseed_core::machine::Io;
use ironseed_core::node::message::PeerMessage;
use ironseed_core::node::status::Status;
use ironseed_core::node::trace::Trace;
use ironseed_core::object::api::{Outcome, Request};
use ironseed_core::types::{GroupId, Index, NodeId};
use std::fmt;

/// Takes a line of the trace.
pub type Sink = Box<dyn FnMut(&str)>;

/// Hears a run in detail, for those who look at it when it is over ([`crate::report`]). Hearing changes
/// nothing: the world does not know whether anybody does.
pub trait Recorder {
    /// An event. `line` makes its line, which costs more than all the rest.
    fn event(&mut self, at: u64, kind: Kind, parts: &[u64], line: &mut dyn FnMut() -> String);
    /// What the last event was made of, or what is so after it.
    fn note(&mut self, note: Note<'_>);
}

/// What a [`Recorder`] is told beside the events. Nodes are positions in the setup's list.
#[expect(missing_docs, reason = "each variant's line names its fields")]
pub enum Note<'a> {
    /// The last event sends this message. Without arrivals it is lost, because of a cut or of the weather.
    Sent { from: usize, to: usize, message: &'a PeerMessage, arrivals: &'a [u64], cut: bool },
    /// The last event delivers the message that event number `send` sent.
    Arrived { send: u64 },
    /// A message comes to its end instead of its receiver, at a cut or because the receiver is down.
    Dropped { send: u64, at: u64, cut: bool },
    /// The last event is a client's request.
    Asked { client: u32, node: usize, id: u64, request: &'a Request },
    /// The last event answers a request; the client may have stopped listening.
    Answered { client: u32, node: usize, id: u64, outcome: &'a Outcome, heard: bool },
    /// The last event ends a client's patience.
    GaveUp { client: u32, node: usize, id: u64 },
    /// The last event hands this operation to a disk.
    Issued { node: usize, op: u64, io: &'a Io },
    /// A machine says this in the last event.
    Said { node: usize, trace: &'a Trace },
    /// Whether a node runs now, and whether it hangs.
    Life { node: usize, up: bool, paused: bool },
    /// The directions of links that are cut now.
    Cuts(Vec<(NodeId, NodeId)>),
    /// What a node tells of itself now, and how far a group's log is durable there.
    Look { node: usize, status: &'a Status, durable: &'a dyn Fn(GroupId) -> Index },
    /// The last event is what an oracle objects to.
    Violated,
}

/// Bytes of events that are hashed together: enough chunks for the widest vectors.
const PENDING_MAX: usize = 16 << 10;

/// The record of one run.
pub struct Tracer {
    hasher: blake3::Hasher,
    /// What the hasher gets next: many events at once cost it a fraction of what each alone does.
    pending: Vec<u8>,
    events: u64,
    sink: Option<Sink>,
    recorder: Option<Box<dyn Recorder>>,
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
    /// A node hears that a peer's host refuses connections.
    Refused = 16,
}

impl Tracer {
    /// A record without lines.
    #[must_use]
    pub fn silent() -> Self {
        let pending = Vec::with_capacity(PENDING_MAX + 256);
        Self { hasher: blake3::Hasher::new(), pending, events: 0, sink: None, recorder: None }
    }

    /// A record that is also given to `recorder`.
    #[must_use]
    pub fn recorded(recorder: Box<dyn Recorder>) -> Self {
        Self { recorder: Some(recorder), ..Self::silent() }
    }

    /// A record whose lines go to `sink`.
    #[must_use]
    pub fn verbose(sink: Sink) -> Self {
        Self { sink: Some(sink), ..Self::silent() }
    }

    /// Takes an event in. `line` is called only if somebody reads it.
    pub fn event(&mut self, at: u64, kind: Kind, parts: &[u64], line: impl FnOnce() -> String) {
        self.events += 1;
        if self.pending.len() >= PENDING_MAX {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
        self.pending.extend_from_slice(&at.to_le_bytes());
        self.pending.push(kind as u8);
        for part in parts {
            self.pending.extend_from_slice(&part.to_le_bytes());
        }
        if let Some(sink) = &mut self.sink {
            sink(&format!("{:>16} {}", Millis(at).to_string(), line()));
        } else if let Some(recorder) = &mut self.recorder {
            let mut line = Some(line);
            let mut once = || line.take().map_or_else(String::new, |line| line());
            recorder.event(at, kind, parts, &mut once);
        }
    }

    /// Tells whoever hears the run more; `note` is made only then.
    pub fn note<'a>(&mut self, note: impl FnOnce() -> Note<'a>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.note(note());
        }
    }

    /// Whether anybody hears the run in detail.
    #[must_use]
    pub const fn is_recorded(&self) -> bool {
        self.recorder.is_some()
    }

    /// Takes the contents of the last event in.
    pub fn content(&mut self, bytes: &[u8]) {
        self.checksum(crc32fast::hash(bytes));
    }

    /// Takes them in by their checksum, a CRC32.
    pub fn checksum(&mut self, crc: u32) {
        self.pending.extend_from_slice(&crc.to_le_bytes());
    }

    /// Events so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn history_hash(&self) -> String {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.pending);
        hasher.finalize().to_hex()[..32].to_string()
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
