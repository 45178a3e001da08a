//! The entries of a group while its records are replayed: nearly always the next one behind the last.

use crate::raft::Entry;
use crate::types::Index;
use alloc::collections::{VecDeque, vec_deque};

/// Entries in the order of their indexes, at most one for each. There may be gaps.
#[derive(Clone, Debug, Default)]
pub(super) struct Row(VecDeque<Entry>);

impl Row {
    /// The entry at an index.
    pub(super) fn get(&self, index: Index) -> Option<&Entry> {
        self.0.get(self.place(index).ok()?)
    }

    /// Puts an entry at its index, in place of the one that is there.
    pub(super) fn insert(&mut self, entry: Entry) {
        match self.place(entry.position.index) {
            Ok(at) => {
                if let Some(place) = self.0.get_mut(at) {
                    *place = entry;
                }
            }
            Err(at) => self.0.insert(at, entry),
        }
    }

    /// How many are at an index up to this one.
    pub(super) fn through(&self, index: Index) -> usize {
        self.place(index).map_or_else(|at| at, |at| at + 1)
    }

    /// The indexes from this one on at which there are entries.
    pub(super) fn indexes_from(&self, index: Index) -> impl Iterator<Item = Index> + '_ {
        let at = self.place(index).unwrap_or_else(|at| at);
        self.0.range(at..).map(|entry| entry.position.index)
    }

    /// Takes those out that are at this index or behind it.
    pub(super) fn split_off(&mut self, index: Index) -> Self {
        let at = self.place(index).unwrap_or_else(|at| at);
        Self(self.0.split_off(at))
    }

    /// Forgets those that are at an index up to this one.
    pub(super) fn forget_through(&mut self, index: Index) {
        let forgotten = self.through(index);
        self.0.drain(..forgotten);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Where the entry at an index is, or would be.
    fn place(&self, index: Index) -> Result<usize, usize> {
        let of = |entry: &Entry| entry.position.index;
        if self.0.back().is_none_or(|last| of(last) < index) {
            return Err(self.0.len());
        }
        // Where there are no gaps, the first tells.
        let ahead = self.0.front().map_or(0, |first| index.0.saturating_sub(of(first).0));
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        if self.0.get(ahead).is_some_and(|entry| of(entry) == index) {
            return Ok(ahead);
        }
        self.0.binary_search_by_key(&index, of)
    }
}

impl IntoIterator for Row {
    type Item = Entry;
    type IntoIter = vec_deque::IntoIter<Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Payload;
    use crate::rng::Rng;
    use crate::types::{Position, Term};
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    fn entry(index: u64, term: u64) -> Entry {
        let position = Position { term: Term(term), index: Index(index) };
        Entry { position, payload: Payload::Noop }
    }

    /// Against a map, with gaps, entries that come late and entries that come again.
    #[test]
    fn it_is_a_map_by_index() {
        let mut rng = Rng::new(3);
        let (mut row, mut model) = (Row::default(), BTreeMap::new());
        for round in 0..20_000 {
            let next = model.last_key_value().map_or(1, |(last, _): (&Index, _)| last.0 + 1);
            let at = match rng.below(8) {
                0 => next + rng.below(3),
                1 => rng.below(next + 1),
                _ => next,
            };
            row.insert(entry(at, round));
            model.insert(Index(at), entry(at, round));
            let at = Index(rng.below(next + 3));
            assert_eq!(row.get(at), model.get(&at));
            assert_eq!(row.through(at), model.range(..=at).count());
            assert!(row.indexes_from(at).eq(model.range(at..).map(|(index, _)| *index)));
            match rng.below(60) {
                0 => {
                    row.forget_through(at);
                    model = model.split_off(&at.next());
                }
                1 => {
                    let (cut, expected) = (row.split_off(at), model.split_off(&at));
                    assert!(cut.into_iter().eq(expected.into_values()));
                }
                2 if rng.chance(1, 10) => {
                    row.clear();
                    model.clear();
                }
                _ => {}
            }
        }
        assert_eq!(row.into_iter().collect::<Vec<_>>(), model.into_values().collect::<Vec<_>>());
    }
}
