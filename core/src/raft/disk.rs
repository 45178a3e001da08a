//! What has been handed to the disk and isn't durable yet: the gates of this replica's promises.

use super::api::{HardState, Output, PersistId, Write};
use crate::types::Index;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Persists under way and the one being built in this step.
///
/// - `open` holds rising ids, all below that of `building` ([`Self::flush`]).
/// - The log end that a persist proves is cut whenever the log is: a completion never vouches for an
///   entry that replaced the one it wrote ([`Self::truncated`]).
#[derive(Clone, Debug)]
pub(super) struct Disk {
    building: Persist,
    writes: Vec<Write>,
    open: VecDeque<Persist>,
    /// The commit index in the last hard state written.
    saved_commit: Index,
}

/// What one persist makes durable.
#[derive(Clone, Debug, Default)]
struct Persist {
    id: PersistId,
    /// Term or vote.
    promise: bool,
    /// The end of the log with this persist; 0 if it adds nothing.
    through: Index,
    /// Entries whose payload it puts back.
    repaired: Vec<Index>,
}

/// What has become durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    /// The log through here.
    pub(super) through: Index,
    /// Payloads that were put back.
    pub(super) repaired: Vec<Index>,
}

impl Disk {
    /// Nothing under way.
    pub(super) fn new(saved_commit: Index) -> Self {
        let building = Persist { id: PersistId(1), ..Persist::default() };
        Self { building, writes: Vec::new(), open: VecDeque::new(), saved_commit }
    }

    /// Term or vote have changed: [`Self::flush`] writes them before anything else of this step.
    pub(super) const fn promise(&mut self) {
        self.building.promise = true;
    }

    /// Adds a write to this step's persist.
    pub(super) fn write(&mut self, write: Write) {
        match &write {
            Write::Append(entry) => self.building.through = entry.position.index,
            Write::Repair(entry) => self.building.repaired.push(entry.position.index),
            Write::Truncate { .. }
            | Write::Compacted { .. }
            | Write::Reset { .. }
            | Write::HardState(_) => {}
        }
        self.writes.push(write);
    }

    /// Entries from `from` on are gone: nothing under way proves them any more.
    pub(super) fn truncated(&mut self, from: Index) {
        for persist in self.open.iter_mut().chain([&mut self.building]) {
            persist.through = persist.through.min(from.prev());
            persist.repaired.retain(|index| *index < from);
        }
    }

    /// Gate of everything that promises what this replica's log says: the newest persist.
    pub(super) fn gate(&self) -> Option<PersistId> {
        if self.building.promise || !self.writes.is_empty() {
            return Some(self.building.id);
        }
        self.open.back().map(|persist| persist.id)
    }

    /// Gate of what only promises term and vote.
    pub(super) fn promise_gate(&self) -> Option<PersistId> {
        if self.building.promise {
            return Some(self.building.id);
        }
        self.open.iter().rev().find(|persist| persist.promise).map(|persist| persist.id)
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.gate().is_none()
    }

    /// Everything through `upto` is durable.
    pub(super) fn persisted(&mut self, upto: PersistId) -> Durable {
        assert!(upto < self.building.id, "{upto:?} was never asked for");
        let mut durable = Durable::default();
        while let Some(persist) = self.open.pop_front_if(|persist| persist.id <= upto) {
            durable.through = durable.through.max(persist.through);
            durable.repaired.extend(persist.repaired);
        }
        durable
    }

    /// Ends the step: hands over what was written. The commit index in `hard_state` must be durable
    /// here already: a restart may find the hard state and not the entries after it.
    pub(super) fn flush(&mut self, hard_state: HardState, out: &mut Vec<Output>) {
        if self.gate() != Some(self.building.id) {
            return;
        }
        let mut writes = core::mem::take(&mut self.writes);
        if self.building.promise || hard_state.commit_index > self.saved_commit {
            self.saved_commit = hard_state.commit_index;
            writes.insert(0, Write::HardState(hard_state));
        }
        let next = PersistId(self.building.id.0 + 1);
        let persist =
            core::mem::replace(&mut self.building, Persist { id: next, ..Persist::default() });
        out.push(Output::Persist { id: persist.id, writes });
        self.open.push_back(persist);
    }
}
