//! How much of each segment is alive, and which segments can go.

use crate::wal::SegmentStat;
use alloc::collections::{BTreeMap, BTreeSet};

/// Accounts of all segments.
///
/// - A segment's bytes are the sum over the index of the locations in it (`tests`, by recount).
/// - `empty` holds exactly the segments with an account and no live bytes or chunks.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    accounts: BTreeMap<u64, Account>,
    /// Live bytes of all segments.
    total: u64,
    empty: BTreeSet<u64>,
    /// Full segments with few live bytes, not yet taken up by compaction.
    sparse: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    chunks: u64,
    bytes: u64,
    /// Reads under way and appends that aren't durable.
    pins: u64,
}

impl Live {
    fn account(&mut self, segment: u64) -> &mut Account {
        self.accounts.entry(segment).or_insert_with(|| {
            self.empty.insert(segment);
            Account::default()
        })
    }

    /// Opens an account, so that a segment without any chunk can be removed too.
    pub(super) fn open(&mut self, segment: u64) {
        self.account(segment);
    }

    pub(super) fn add(&mut self, segment: u64, bytes: u32) {
        let account = self.account(segment);
        account.chunks += 1;
        account.bytes += u64::from(bytes);
        self.total += u64::from(bytes);
        self.empty.remove(&segment);
    }

    pub(super) fn subtract(&mut self, segment: u64, bytes: u32) {
        let account = self.account(segment);
        assert!(account.chunks > 0, "segment {segment} has no chunk to lose");
        account.chunks -= 1;
        account.bytes -= u64::from(bytes);
        if account.chunks == 0 {
            self.empty.insert(segment);
        }
        self.total -= u64::from(bytes);
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn pin(&mut self, segment: u64) {
        self.account(segment).pins += 1;
    }

    pub(super) fn unpin(&mut self, segment: u64) {
        let account = self.account(segment);
        assert!(account.pins > 0, "segment {segment} isn't pinned");
        account.pins -= 1;
    }

    /// Looks again at whether a segment that isn't being written has become sparse.
    pub(super) fn judge(&mut self, stat: &SegmentStat, live_percent_min: u8) {
        let bytes = self.account(stat.number).bytes;
        let is_sparse = bytes * 100 < stat.used * u64::from(live_percent_min);
        if is_sparse && !self.empty.contains(&stat.number) {
            self.sparse.insert(stat.number);
        } else {
            self.sparse.remove(&stat.number);
        }
    }

    pub(super) fn has_sparse(&self) -> bool {
        !self.sparse.is_empty()
    }

    /// Takes up to `count` sparse segments, the oldest first.
    pub(super) fn take_sparse(&mut self, count: usize) -> BTreeSet<u64> {
        let taken: BTreeSet<u64> = self.sparse.iter().take(count).copied().collect();
        self.sparse.retain(|segment| !taken.contains(segment));
        taken
    }

    /// Closes and returns the accounts of segments that hold nothing and that nobody uses.
    pub(super) fn take_removable(&mut self, current: Option<u64>) -> BTreeSet<u64> {
        let is_free = |segment: &u64| {
            Some(*segment) != current
                && self.accounts.get(segment).is_none_or(|account| account.pins == 0)
        };
        let free: BTreeSet<u64> = self.empty.iter().copied().filter(is_free).collect();
        for segment in &free {
            self.empty.remove(segment);
            self.sparse.remove(segment);
            self.accounts.remove(segment);
        }
        free
    }

    /// Bytes and chunks of a segment, for tests that count again.
    #[cfg(test)]
    pub(super) fn of(&self, segment: u64) -> (u64, u64) {
        self.accounts.get(&segment).map_or((0, 0), |account| (account.chunks, account.bytes))
    }
}
