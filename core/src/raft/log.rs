//! The resident log of one replica: entries from compaction on, and the watermarks over them.

use super::configuration::Configuration;
use super::message::{Entry, Payload};
use crate::types::{Incarnation, Index, NodeId, Position, Term};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

/// A log.
///
/// - Entries are contiguous from `compacted` on, and terms never fall ([`Self::append`]).
/// - `runs` holds the first index of each run of equal terms, in order ([`Self::assert_invariants`]).
/// - `lost`, `blind` and `mending` only name entries in the log ([`Self::assert_invariants`]).
/// - `configuration` is the last of `changes`, or `base` ([`Self::settle_configuration`]).
/// - What [`Self::durable`] vouches for is on disk with identity and payload.
#[derive(Clone, Debug)]
pub(super) struct Log {
    compacted: Position,
    /// The configuration at `compacted`.
    base: Configuration,
    entries: VecDeque<Entry>,
    /// (term, its first index), so that a term is found without walking entries.
    runs: VecDeque<(Term, Index)>,
    /// The configurations that entries hold.
    changes: VecDeque<(Index, Configuration)>,
    /// The last one in the log, committed or not.
    configuration: Configuration,
    /// Entries whose payload is damaged on disk and not known here.
    lost: BTreeSet<Index>,
    /// Those of them that hold a configuration.
    blind: BTreeSet<Index>,
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
            configuration: base.clone(),
            base,
            entries: VecDeque::with_capacity(entries.len()),
            runs: VecDeque::new(),
            changes: VecDeque::new(),
            lost: BTreeSet::new(),
            blind: BTreeSet::new(),
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
        match &entry.payload {
            Payload::Configure(configuration) => {
                self.configuration = (**configuration).clone();
                self.changes.push_back((position.index, (**configuration).clone()));
            }
            Payload::Lost { configures } => {
                self.lost.insert(position.index);
                if *configures {
                    self.blind.insert(position.index);
                }
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
        while self.changes.pop_back_if(|(index, _)| *index >= from).is_some() {}
        self.settle_configuration();
        self.lost.split_off(&from);
        self.blind.split_off(&from);
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
        // Room that a burst took is given back: a node has hundreds of logs. What is moved is less than what went.
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        while self.changes.pop_front_if(|(at, _)| *at <= index).is_some() {}
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
        self.blind = self.blind.split_off(&index.next());
        self.settle_configuration();
        self.mending = self.mending.split_off(&index.next());
        self.compacted = position;
        self.durable = self.durable.max(index);
    }

    /// As [`Self::compact`], and this is the configuration there, by a state that was committed.
    pub(super) fn compact_as(&mut self, index: Index, configuration: Configuration) {
        self.compact(index);
        self.base = configuration;
        self.settle_configuration();
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
            !entry.payload.is_lost() && (first || bytes <= bytes_max)
        };
        self.range(from, usize::MAX).take_while(sendable).cloned().collect()
    }

    /// The configuration in force: the last in the log, committed or not (Raft 6).
    pub(super) const fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Where the log says so. `None` if that is compacted, and so committed.
    pub(super) fn configured_at(&self) -> Option<Index> {
        self.changes.back().map(|(index, _)| *index)
    }

    /// Whether the configuration in force may be another than the log can say: it is damaged, or was never told.
    pub(super) fn is_blind(&self) -> bool {
        !self.blind.is_empty() || !self.knows_members()
    }

    /// Whether the log has any configuration to begin with.
    pub(super) fn knows_members(&self) -> bool {
        !self.configuration.members.is_empty()
    }

    /// The configuration that the entries through `index` make; without members if it isn't known.
    pub(super) fn configuration_at(&self, index: Index) -> Configuration {
        let known = self.changes.iter().rev().find(|(at, _)| *at <= index);
        let newer = known.map_or(Index(0), |(at, _)| at.next());
        if self.blind.range(newer..=index.max(newer)).any(|at| *at <= index) {
            return Configuration::default();
        }
        known.map_or_else(|| self.base.clone(), |(_, configuration)| configuration.clone())
    }

    fn settle_configuration(&mut self) {
        let last = self.changes.back().map_or(&self.base, |(_, configuration)| configuration);
        if self.configuration != *last {
            self.configuration = last.clone();
        }
    }

    /// From which boot on `node`'s promises count: an entry that isn't committed yet already proves that the boot
    /// happened.
    pub(super) fn readmitted(&self, node: NodeId) -> Incarnation {
        self.configuration.member(node).map_or(Incarnation(0), |member| member.readmitted)
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
        if payload.is_lost() || !self.contains(position) || !self.lost.remove(&position.index) {
            return false;
        }
        let Some(offset) = self.offset(position.index) else { return false };
        let Some(entry) = self.entries.get_mut(offset) else { return false };
        self.bytes = self.bytes - entry.payload.cost() + payload.cost();
        entry.payload = payload.clone();
        self.mending.insert(position.index);
        self.blind.remove(&position.index);
        if let Payload::Configure(configuration) = payload {
            let place = self.changes.partition_point(|(at, _)| *at < position.index);
            self.changes.insert(place, (position.index, (**configuration).clone()));
            self.settle_configuration();
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
        assert!(self.blind.iter().all(|index| self.lost.contains(index)), "blind but not lost");
    }
}
