//! Moving an object's bytes in and out of the store, one bounded piece at a time.
//!
//! A gateway has a stream of bytes of unknown length and a store that takes whole requests. Between
//! the two stand an [`Uploader`] and a [`Downloader`]: sans-IO machines that say which [`Request`] to
//! make next and are told its [`Outcome`]. The S3 gateway drives them from sockets, the simulator's
//! clients drive the same code, so how bytes are cut, named and put together again is tested once.
//!
//! **Guarantees.** An upload holds at most [`HELD_CHUNKS`] chunks (plus the piece that the last
//! [`Uploader::push`] brought) and a download at most [`READ_AHEAD`], whatever the object's size. A body up to
//! [`INLINE_BYTES_MAX`](super::api::INLINE_BYTES_MAX) costs no request of its own. Every chunk but
//! the last is [`CHUNK_BYTES`](super::api::CHUNK_BYTES) long and every extent but the last is full, so a range finds its
//! chunk by division. A download delivers exactly the bytes of its range, in order, or fails: lengths
//! that disagree with the record are a failure, never a short body.
//!
//! **The path of an upload.** `push` pieces while `wants_bytes`; run every [`Call`] that `poll` gives, any
//! number at once, and report each with `on_outcome`; `finish` at the end of the body; `outcome` then
//! says where the bytes are, and the caller puts the object that names them. Until it has, the
//! store keeps them under a lease, which the uploader renews in time if it is polled at `deadline`.
//! On any failure `poll` gives one last `DropBlob`; a caller that dies instead leaves the lease
//! to run out.
//!
//! **The path of a download.** Look the object up (that pins its bytes), make a downloader for the
//! range, then run its calls and `take` pieces until it is `done`. It renews the pin when the reader is slow.
//!
//! **Caveats.** Neither retries a refused request: the router behind the store already has. The one
//! exception is [`Refusal::Restage`], which an upload answers by staging the chunks of that extent again.

mod download;
#[cfg(test)]
mod tests;
mod upload;

pub use download::Downloader;
pub use upload::{Uploaded, Uploader};

use super::api::{Outcome, Refusal, Request};
use alloc::string::String;
use core::fmt;

/// Chunks that an upload holds at the most: one under way to the replicas while the next one fills.
pub const HELD_CHUNKS: usize = 2;
/// Chunks that a download asks for ahead of the one being delivered: two keep a link busy while one
/// is on its way to the client.
pub const READ_AHEAD: usize = 2;

/// Names a call of one transfer until its outcome is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A request that a transfer wants made. Calls may run at once and complete in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// To report the outcome with.
    pub ticket: Ticket,
    /// What to ask the store.
    pub request: Request,
}

/// Why a transfer came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The body is longer than the caller allowed.
    TooLarge,
    /// The caller gave it up.
    Aborted,
    /// The store refused a request.
    Refused(Refusal),
    /// The store's answers contradict each other or the object's record: says how.
    Inconsistent(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the body is too large"),
            Self::Aborted => f.write_str("given up by the caller"),
            Self::Refused(refusal) => write!(f, "refused: {refusal:?}"),
            Self::Inconsistent(how) => write!(f, "inconsistent answers: {how}"),
        }
    }
}

impl core::error::Error for Failure {}

impl Failure {
    /// What an answer of the wrong kind, or a refusal, comes to.
    fn of(outcome: Outcome, wanted: &str) -> Self {
        match outcome {
            Ok(answer) => {
                let mut how = alloc::format!("wanted {wanted}, got {answer:?}");
                // The answer may carry a chunk: a message needs only its beginning.
                how.truncate(how.char_indices().nth(200).map_or(how.len(), |(at, _)| at));
                Self::Inconsistent(how)
            }
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

/// Hands out tickets.
#[derive(Clone, Debug, Default)]
struct Tickets(u64);

impl Tickets {
    const fn take(&mut self) -> Ticket {
        self.0 += 1;
        Ticket(self.0)
    }
}
