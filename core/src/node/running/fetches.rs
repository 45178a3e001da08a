//! How many states are fetched from peers at a time.
//!
//! A node that comes back after its peers have forgotten what it missed is offered the state of every group at once. Each is
//! fetched slice after slice, one under way at a time; of hundreds of groups together these would be as many megabytes in the
//! queues of each link and in memory. So a node takes up so many offers as their slices may be bytes together, and the others are
//! offered again ([`super::super::snapshot`]): a few states come whole after each other, instead of all in small pieces.

use crate::machine::{Duration, Instant};
use crate::types::GroupId;
use alloc::collections::BTreeMap;

/// A fetch of which no slice came for this long has ended, or its peer is gone. Slices that are late are taken all the same.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// The states that are being fetched.
#[derive(Clone, Debug)]
pub(super) struct Fetches {
    most: usize,
    /// When something came of each last.
    heard: BTreeMap<GroupId, Instant>,
}

impl Fetches {
    /// Slices of `slice` bytes may be `most` bytes together; one may always be fetched.
    pub(super) fn new(most: u64, slice: u64) -> Self {
        let most = usize::try_from(most / slice.max(1)).unwrap_or(usize::MAX).max(1);
        Self { most, heard: BTreeMap::new() }
    }

    /// A group's state is offered: whether it may be fetched now.
    pub(super) fn admits(&mut self, group: GroupId, now: Instant) -> bool {
        self.heard.retain(|_, heard| now - *heard < IDLE_MAX);
        let admits = self.heard.contains_key(&group) || self.heard.len() < self.most;
        if admits {
            self.heard.insert(group, now);
        }
        admits
    }

    /// A slice has come; the `last` one is the end.
    pub(super) fn on_slice(&mut self, group: GroupId, last: bool, now: Instant) {
        if last {
            self.heard.remove(&group);
        } else if let Some(heard) = self.heard.get_mut(&group) {
            *heard = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);
    const C: GroupId = GroupId(3);

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    #[test]
    fn so_many_are_fetched_as_fit_and_one_always() {
        let mut fetches = Fetches::new(1000, 400);
        assert!(fetches.admits(A, at(0)) && fetches.admits(B, at(0)));
        assert!(!fetches.admits(C, at(1)), "three slices are more than 1000 bytes");
        assert!(fetches.admits(A, at(2)), "offered again, because an answer was lost");
        fetches.on_slice(A, false, at(3));
        assert!(!fetches.admits(C, at(4)));
        fetches.on_slice(A, true, at(5));
        assert!(fetches.admits(C, at(6)) && !fetches.admits(A, at(7)));
        assert!(Fetches::new(1, 400).admits(A, at(0)));
    }

    #[test]
    fn whose_peer_is_gone_makes_room() {
        let mut fetches = Fetches::new(800, 400);
        assert!(fetches.admits(A, at(0)) && fetches.admits(B, at(0)));
        fetches.on_slice(B, false, at(900));
        assert!(!fetches.admits(C, at(999)));
        assert!(fetches.admits(C, at(1000)), "nothing came of A for a second");
        fetches.on_slice(A, false, at(1001));
        assert!(!fetches.admits(A, at(1002)), "its slices are taken, and it is none of the two");
    }
}
