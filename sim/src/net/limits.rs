//! Links that carry only so many bytes a second, and connections that break.
//!
//! A limited link is a queue for each of its two channels, of which each has half of the rate: a message leaves when
//! all before it have, and takes the time that its bytes need. When a limit is over, what still waits leaves at once.
//!
//! A connection that breaks takes all that is under way with it. Neither end is told: the driver drops what it had
//! queued and connects again, and machines learn of it from what does not arrive.

use ironseed_core::types::NodeId;
use std::collections::BTreeMap;

/// A direction of a link: sender and receiver.
type Ends = (NodeId, NodeId);

/// What is narrow and what was broken.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    narrow: BTreeMap<Ends, Narrow>,
    /// The last message that was sent before each direction broke.
    broken: BTreeMap<Ends, u64>,
}

#[derive(Clone, Debug, Default)]
struct Narrow {
    /// Limits that lie over it now, as they may overlap: when each ends, and its bytes a second.
    rates: Vec<(u64, u64)>,
    /// When the last message of each channel has left: control and bulk.
    free_at: [u64; 2],
}

impl Limits {
    pub(super) const fn new() -> Self {
        Self { narrow: BTreeMap::new(), broken: BTreeMap::new() }
    }

    pub(super) fn throttle(&mut self, ends: Ends, until: u64, bytes_per_second: u64) {
        self.narrow.entry(ends).or_default().rates.push((until, bytes_per_second.max(1)));
    }

    pub(super) fn is_narrow(&self, ends: Ends) -> bool {
        self.narrow.contains_key(&ends)
    }

    /// When a message of so many bytes that is sent now has left its sender.
    pub(super) fn departure(&mut self, now: u64, ends: Ends, bytes: u64, is_bulk: bool) -> u64 {
        let Some(narrow) = self.narrow.get_mut(&ends) else { return now };
        narrow.rates.retain(|(until, _)| *until > now);
        let slowest = narrow.rates.iter().copied().min_by_key(|(_, rate)| *rate);
        let Some((until, rate)) = slowest else {
            self.narrow.remove(&ends);
            return now;
        };
        let takes = bytes.saturating_mul(2 * SECOND) / rate;
        let free_at = &mut narrow.free_at[usize::from(is_bulk)];
        *free_at = (*free_at).max(now).saturating_add(takes).min(until);
        *free_at
    }

    /// Whatever was sent up to this one is lost.
    pub(super) fn sever(&mut self, ends: Ends, sent: u64) {
        self.broken.insert(ends, sent);
        if let Some(narrow) = self.narrow.get_mut(&ends) {
            narrow.free_at = [0; 2];
        }
    }

    /// Whether this message was under way when its connection broke.
    pub(super) fn is_severed(&self, ends: Ends, send: u64) -> bool {
        !self.broken.is_empty() && self.broken.get(&ends).is_some_and(|last| send <= *last)
    }

    pub(super) fn heal(&mut self) {
        self.narrow.clear();
    }
}

const SECOND: u64 = 1_000_000_000;
