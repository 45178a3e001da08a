//! The resident log of one replica: entries from compaction on, and the watermarks over them.

use super::api::Configuration;
use super::message::{Entry, Payload};
use crate::types::{Incarnation, Index, NodeId, Position, Term};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

/// A log.
///
/// - Entries are contiguous from `compacted` on, and terms never fall ([`Self::append`]).
/// - `runs` holds the first index of each run of equal terms, in order ([`Self::assert_invariants`]).
/// - `lost` and `mending` only name entries in the log ([`Self::assert_invariants`]).
/// - What [`Self::durable`] vouches for is on disk with identity and payload.
#[derive(Clone, Debug)]
pub(super) struct Log {
    compacted: Position,
    /// The configuration at `compacted`.
    base: Configuration,
    entries: VecDeque<Entry>,
    /// (term, its first index), so that a term is found without walking entries.
    runs: VecDeque<(Term, Index)>,
    /// Changes of the configuration that the entries hold.
    readmits: VecDeque<(Index, NodeId, Incarnation)>,
    /// Entries whose payload is damaged on disk and not known here.
    lost: BTreeSet<Index>,
    /// Entries whose payload has come back but isn't durable yet.
    mending: BTreeSet<Index>,
    /// Identities through here are durable.
    durable: Index,
    bytes: u64,
}

impl Log {
    /// A log as it was found on disk: all of it durable.
    pub(super) fn restored(compacted: Position, base: Configuration, entries: Vec<Entry>) -> Self {
        let mut log = Self {
            compacted,
            base,
            entries: VecDeque::with_capacity(entries.len()),
            runs: VecDeque::new(),
            readmits: VecDeque::new(),
            lost: BTreeSet::new(),
            mending: BTreeSet::new(),
            durable: compacted.index,
            bytes: 0,
        };
        entries.into_iter().for_each(|entry| log.append(entry));
        log.durable = log.last().index;
        log
    }

    /// The log begins after this.
    pub(super) const fn compacted(&self) -> Position {
        self.compacted
    }

    /// The last entry, or where the log begins.
    pub(super) fn last(&self) -> Position {
        self.entries.back().map_or(self.compacted, |entry| entry.position)
    }

    /// Bytes that the entries are charged for.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn offset(&self, index: Index) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.compacted.index.0 + 1)?).ok()
    }

    /// The entry at `index`.
    pub(super) fn get(&self, index: Index) -> Option<&Entry> {
        self.entries.get(self.offset(index)?)
    }

    /// At most `count` entries from `from` on.
    pub(super) fn range(&self, from: Index, count: usize) -> impl Iterator<Item = &Entry> {
        let skip = self.offset(from).unwrap_or(usize::MAX);
        self.entries.range(skip.min(self.entries.len())..).take(count)
    }

    /// The position at `index`, if it is in the log or just where the log begins.
    pub(super) fn position_at(&self, index: Index) -> Option<Position> {
        if index == self.compacted.index {
            return Some(self.compacted);
        }
        self.get(index).map(|entry| entry.position)
    }

    /// Whether this very entry is in the log, or the log begins after it.
    pub(super) fn contains(&self, position: Position) -> bool {
        self.position_at(position.index) == Some(position)
    }

    /// Adds an entry after the last one.
    pub(super) fn append(&mut self, entry: Entry) {
        let (last, position) = (self.last(), entry.position);
        assert_eq!(
            position.index,
            last.index.next(),
            "entries are contiguous: {position:?} after {last:?}"
        );
        assert!(position.term >= last.term, "terms never fall: {position:?} after {last:?}");
        if self.runs.back().is_none_or(|(term, _)| *term != position.term) {
            self.runs.push_back((position.term, position.index));
        }
        match entry.payload {
            Payload::Readmit { node, incarnation } => {
                self.readmits.push_back((position.index, node, incarnation));
            }
            Payload::Lost => {
                self.lost.insert(position.index);
            }
            Payload::Noop | Payload::Command(_) => {}
        }
        self.bytes += entry.payload.cost();
        self.entries.push_back(entry);
    }

    /// Removes the entry at `from` and all after it.
    pub(super) fn truncate(&mut self, from: Index) {
        assert!(from > self.compacted.index, "{from:?} is compacted through {:?}", self.compacted);
        let Some(keep) = self.offset(from) else { return };
        let removed = self.entries.range(keep.min(self.entries.len())..);
        self.bytes -= removed.map(|entry| entry.payload.cost()).sum::<u64>();
        self.entries.truncate(keep);
        while self.runs.back().is_some_and(|(_, first)| *first >= from) {
            self.runs.pop_back();
        }
        while self.readmits.back().is_some_and(|(index, ..)| *index >= from) {
            self.readmits.pop_back();
        }
        self.lost.split_off(&from);
        self.mending.split_off(&from);
        self.durable = self.durable.min(from.prev());
    }

    /// Drops the entries through `index`, which is in the log.
    pub(super) fn compact(&mut self, index: Index) {
        let Some(position) = self.position_at(index) else {
            assert!(index < self.compacted.index, "{index:?} is past the end {:?}", self.last());
            return;
        };
        self.base = self.configuration_at(index);
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.position.index <= index) {
            self.bytes -= entry.payload.cost();
        }
        while self.readmits.pop_front_if(|(at, ..)| *at <= index).is_some() {}
        // The run that `index` is in goes on after it, or ends there.
        while self.runs.get(1).is_some_and(|(_, first)| *first <= index.next()) {
            self.runs.pop_front();
        }
        if self.entries.is_empty() {
            self.runs.clear();
        } else if let Some((_, first)) = self.runs.front_mut() {
            *first = (*first).max(index.next());
        }
        self.lost = self.lost.split_off(&index.next());
        self.mending = self.mending.split_off(&index.next());
        self.compacted = position;
        self.durable = self.durable.max(index);
    }

    /// Drops everything: the log begins after `position`, whose state is durable.
    pub(super) fn reset(&mut self, position: Position, configuration: Configuration) {
        *self = Self::restored(position, configuration, Vec::new());
    }

    /// The last position that may be shared with a log that has `limit`: no later in index or term
    /// (the fast backup of Raft 5.3). `None` if only what is compacted can be shared.
    pub(super) fn agreement(&self, limit: Position) -> Option<Position> {
        let index = limit.index.min(self.last().index);
        // The run after the last one that began in a term of at most `limit.term`.
        let after = self.runs.partition_point(|(term, _)| *term <= limit.term);
        let end = self.runs.get(after).map_or(self.last().index, |(_, first)| first.prev());
        self.position_at(index.min(end)).filter(|position| position.term <= limit.term)
    }

    /// Entries to send from `from` on: at least one if there is one, else no more than `bytes_max`.
    /// Stops before a damaged payload.
    pub(super) fn batch(&self, from: Index, bytes_max: u64) -> Vec<Entry> {
        let mut bytes = 0;
        let sendable = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += entry.payload.cost();
            entry.payload != Payload::Lost && (first || bytes <= bytes_max)
        };
        self.range(from, usize::MAX).take_while(sendable).cloned().collect()
    }

    /// The configuration that the entries through `index` make.
    pub(super) fn configuration_at(&self, index: Index) -> Configuration {
        let mut configuration = self.base.clone();
        for (_, node, incarnation) in self.readmits.iter().take_while(|(at, ..)| *at <= index) {
            configuration.version += 1;
            for voter in configuration.voters.iter_mut().filter(|voter| voter.node == *node) {
                voter.readmitted = voter.readmitted.max(*incarnation);
            }
        }
        configuration
    }

    /// From which boot on `node`'s promises count, by the whole log: an entry that isn't committed yet
    /// already proves that the boot happened.
    pub(super) fn readmitted(&self, node: NodeId) -> Incarnation {
        let in_base =
            self.base.voters.iter().filter(|voter| voter.node == node).map(|v| v.readmitted);
        let in_log =
            self.readmits.iter().filter(|(_, who, _)| *who == node).map(|(.., boot)| *boot);
        in_base.chain(in_log).max().unwrap_or_default()
    }

    /// The highest index that this replica vouches for: everything through it is durable here.
    pub(super) fn durable(&self) -> Index {
        self.first_unvouched().map_or(self.durable, |index| self.durable.min(index.prev()))
    }

    /// Through `index` the identities are durable.
    pub(super) fn mark_durable(&mut self, index: Index) {
        assert!(index <= self.last().index, "durable {index:?} is past {:?}", self.last());
        self.durable = self.durable.max(index);
    }

    /// The first entry whose payload is damaged.
    pub(super) fn first_lost(&self) -> Option<Index> {
        self.lost.first().copied()
    }

    fn first_unvouched(&self) -> Option<Index> {
        self.lost.iter().next().into_iter().chain(self.mending.iter().next()).min().copied()
    }

    /// All entries whose payload is damaged.
    pub(super) const fn lost(&self) -> &BTreeSet<Index> {
        &self.lost
    }

    /// Puts a payload back into the damaged entry `position`. False if there is no such entry.
    pub(super) fn repair(&mut self, position: Position, payload: &Payload) -> bool {
        if *payload == Payload::Lost
            || !self.contains(position)
            || !self.lost.remove(&position.index)
        {
            return false;
        }
        let Some(offset) = self.offset(position.index) else { return false };
        let Some(entry) = self.entries.get_mut(offset) else { return false };
        self.bytes = self.bytes - entry.payload.cost() + payload.cost();
        entry.payload = payload.clone();
        self.mending.insert(position.index);
        if let Payload::Readmit { node, incarnation } = *payload {
            let place = self.readmits.partition_point(|(at, ..)| *at < position.index);
            self.readmits.insert(place, (position.index, node, incarnation));
        }
        true
    }

    /// The payload of a repaired entry is durable.
    pub(super) fn mended(&mut self, index: Index) {
        self.mending.remove(&index);
    }

    /// What the docs of this type promise, as far as it is cheap.
    pub(super) fn assert_invariants(&self) {
        let last = self.last();
        assert!(self.durable <= last.index, "durable {:?} is past {last:?}", self.durable);
        assert!(
            self.durable >= self.compacted.index,
            "{:?} is before {:?}",
            self.durable,
            self.compacted
        );
        assert_eq!(self.runs.back().map(|run| run.0), self.entries.back().map(|e| e.position.term));
        let first = self.entries.front().map(|entry| (entry.position.term, entry.position.index));
        assert_eq!(self.runs.front().copied(), first, "the runs begin where the log begins");
        let damaged = self.lost.iter().chain(&self.mending);
        assert!(damaged.clone().all(|index| *index > self.compacted.index && *index <= last.index));
    }
}
