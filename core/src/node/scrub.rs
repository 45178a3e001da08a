//! The scrub: chunks that nobody reads are read and verified in rounds, one after the other and no faster than so many bytes a
//! second, so that what rots is found while other nodes still have it.
//!
//! A round goes through the names of all chunks in order. How far it is, is noted in the superblock now and then: a restart goes on
//! from there, and verifies some chunks twice. A chunk that comes behind the place where a round stands is the next round's. What is
//! damaged becomes missing, and is fetched as everything is that is missing.

use super::api::Tuning;
use crate::chunk::{ChunkOutput, ChunkStore};
use crate::machine::{Duration, Instant, Now, OpIds};
use crate::types::ChunkId;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// Progress is noted this often at the most, and no more than so many times while a round may last at the least.
const NOTE_EVERY: Duration = Duration::from_secs(60);
const NOTES_A_ROUND: u64 = 16;

/// How far the scrub of a store is. Survives restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Scrubbed {
    /// Rounds that came to their end.
    pub rounds: u64,
    /// When the last of these began, in nanoseconds since the Unix epoch by the node's clock: every chunk that was here by then
    /// and still is was verified since. 0 before the first.
    pub whole: u64,
    /// When the round under way began; 0 between rounds.
    pub began: u64,
    /// The last chunk that this round has come to.
    pub after: Option<ChunkId>,
    /// Bytes that this round has verified.
    pub bytes: u64,
    /// Chunks that this round, or between rounds the last one, found damaged.
    pub damaged: u64,
}

/// The rounds of a running node.
#[derive(Clone, Debug)]
pub(super) struct Scrub {
    bytes_per_second: u64,
    every: Duration,
    at: Scrubbed,
    /// The chunk being verified, and its bytes.
    verifying: Option<(ChunkId, u32)>,
    /// Nothing begins before.
    next_at: Instant,
    /// What was noted last, and when.
    noted: (Scrubbed, Instant),
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// To be kept over a restart.
    Note(Scrubbed),
    /// The same, and a round has ended.
    Round(Scrubbed),
}

impl Scrub {
    /// Goes on from where the superblock says that it was.
    pub(super) fn new(tuning: &Tuning, at: Scrubbed, now: Now) -> Self {
        let mut scrub = Self {
            bytes_per_second: tuning.scrub_bytes_per_second,
            every: tuning.scrub_every,
            at,
            verifying: None,
            next_at: now.mono,
            noted: (at, now.mono),
        };
        if at.began == 0 && at.rounds > 0 {
            // A clock that was set is no reason never to begin again.
            let gone = Duration(now.wall_earliest.saturating_sub(at.whole)).min(scrub.every);
            scrub.next_at = now.mono + Duration(scrub.every.0 - gone.0);
        }
        scrub
    }

    pub(super) const fn status(&self) -> Scrubbed {
        self.at
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = self.bytes_per_second > 0 && self.verifying.is_none();
        waits.then_some(self.next_at)
    }

    /// Begins to verify the next chunk, if it is time.
    pub(super) fn pump(
        &mut self,
        now: Now,
        store: &mut ChunkStore,
        ops: &mut OpIds,
        out: &mut Vec<ChunkOutput>,
    ) -> Option<Progress> {
        if self.bytes_per_second == 0 || self.verifying.is_some() || now.mono < self.next_at {
            return None;
        }
        if self.at.began == 0 {
            let Scrubbed { rounds, whole, .. } = self.at;
            let began = now.wall_earliest.max(1);
            self.at = Scrubbed { rounds, whole, began, ..Scrubbed::default() };
        }
        let Some((chunk, bytes)) = store.next_chunk(self.at.after) else {
            return Some(self.end_round(now));
        };
        if store.verify(chunk, ops, out) {
            self.verifying = Some((chunk, bytes));
            self.next_at = now.mono + time_for(bytes, self.bytes_per_second);
        } else {
            self.at.after = Some(chunk);
        }
        self.note(now.mono)
    }

    /// A chunk was verified.
    pub(super) fn on_verified(&mut self, chunk: ChunkId, is_good: bool) {
        let Some((_, bytes)) = self.verifying.take_if(|(it, _)| *it == chunk) else { return };
        self.at.after = Some(chunk);
        self.at.bytes += u64::from(bytes);
        self.at.damaged += u64::from(!is_good);
    }

    fn end_round(&mut self, now: Now) -> Progress {
        let Scrubbed { rounds, began, bytes, damaged, .. } = self.at;
        self.at =
            Scrubbed { rounds: rounds + 1, whole: began, bytes, damaged, ..Scrubbed::default() };
        let gone = Duration(now.wall_earliest.saturating_sub(began)).min(self.every);
        self.next_at = now.mono + Duration(self.every.0 - gone.0).max(Duration(1));
        self.noted = (self.at, now.mono);
        Progress::Round(self.at)
    }

    fn note(&mut self, now: Instant) -> Option<Progress> {
        let pause = NOTE_EVERY.min(Duration(self.every.0 / NOTES_A_ROUND));
        if now < self.noted.1 + pause || self.noted.0 == self.at {
            return None;
        }
        self.noted = (self.at, now);
        Some(Progress::Note(self.at))
    }
}

/// How long so many bytes take at this rate: at least a nanosecond, so that time goes on.
fn time_for(bytes: u32, bytes_per_second: u64) -> Duration {
    Duration((u64::from(bytes) * 1_000_000_000 / bytes_per_second.max(1)).max(1))
}
