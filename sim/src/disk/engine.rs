//! An engine that keeps rows, as far as it promises anything (`ironseed_core::rows`): whole writes in their order, and of those that no
//! sync covers a crash may take any that come last.

use crate::draw::Draw;
use bytes::Bytes;
use ironseed_core::machine::{IoDone, IoError, IoResult};
use ironseed_core::rows::{PageBuilder, RowChange, Space};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Rows = BTreeMap<(Space, Bytes), Bytes>;

/// The rows of one node.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    /// What a read finds.
    rows: Rows,
    /// What a power loss can't take.
    durable: Rows,
    /// Completed writes that are not durable, oldest first.
    unsynced: VecDeque<Vec<RowChange>>,
    /// Writes that have become durable, of all that were completed.
    synced: u64,
    /// Rows that the engine finds to be other bytes than were written.
    rotten: BTreeSet<(Space, Bytes)>,
    bytes: u64,
}

impl Engine {
    /// One without rows.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            rows: Rows::new(),
            durable: Rows::new(),
            unsynced: VecDeque::new(),
            synced: 0,
            rotten: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// How many writes were completed: what a sync that is issued now covers.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    /// Bytes of all rows.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Carries a write out.
    pub fn write(&mut self, changes: Vec<RowChange>) {
        self.bytes = self.bytes.saturating_add_signed(apply(&mut self.rows, &changes));
        for change in &changes {
            if let RowChange::Put { space, key, .. } | RowChange::Remove { space, key } = change {
                self.rotten.remove(&(*space, key.clone()));
            }
        }
        self.unsynced.push_back(changes);
    }

    /// Everything through this write is durable.
    pub fn sync(&mut self, writes: u64) {
        while self.synced < writes
            && let Some(changes) = self.unsynced.pop_front()
        {
            apply(&mut self.durable, &changes);
            self.synced += 1;
        }
    }

    /// The value of a row.
    pub fn get(&self, space: Space, key: &Bytes) -> IoResult {
        let key = (space, key.clone());
        if self.rotten.contains(&key) {
            return Err(IoError::Device);
        }
        self.rows.get(&key).cloned().map(IoDone::Data).ok_or(IoError::NotFound)
    }

    /// Whether there is such a row, whatever is in it.
    pub fn has(&self, space: Space, key: &Bytes) -> bool {
        self.rows.contains_key(&(space, key.clone()))
    }

    /// A page of rows.
    pub fn scan(&self, space: Space, from: &Bytes, before: &Bytes, bytes_max: u32) -> IoResult {
        let mut page = PageBuilder::default();
        if from < before {
            let range = (space, from.clone())..(space, before.clone());
            for (key, value) in self.rows.range(range) {
                if self.rotten.contains(key) {
                    return Err(IoError::Device);
                }
                if !page.push(&key.1, value, bytes_max) {
                    break;
                }
            }
        }
        Ok(IoDone::Data(page.finish()))
    }

    /// The process dies: of the writes that are not durable those that came last may be gone, and `under_way` may be there.
    pub fn crash(&mut self, under_way: Vec<Vec<RowChange>>, draw: &mut Draw) {
        let kept = draw.below(self.unsynced.len() as u64 + 1) as usize;
        let whole = kept == self.unsynced.len();
        self.unsynced.truncate(kept);
        if whole {
            self.unsynced.extend(under_way.into_iter().take_while(|_| draw.chance(1, 2)));
        }
        self.rows = self.durable.clone();
        for changes in &self.unsynced {
            apply(&mut self.rows, changes);
        }
        self.bytes =
            self.rows.iter().map(|((_, key), value)| (key.len() + value.len()) as u64).sum();
    }

    /// What is left after a crash of the machine is what is on the disk.
    pub fn settle(&mut self) {
        self.sync(self.writes());
    }

    /// A row at rest, which one the draw says, turns out to be other bytes than were written. `false` if there is none.
    pub fn rot(&mut self, draw: &mut Draw) -> bool {
        if self.durable.is_empty() {
            return false;
        }
        let at = draw.below(self.durable.len() as u64) as usize;
        let key = self.durable.keys().nth(at).filter(|key| self.rows.contains_key(key)).cloned();
        key.is_some_and(|key| self.rotten.insert(key))
    }

    /// Rows of a range, as a read finds them.
    pub fn range(
        &self,
        space: Space,
        (from, before): (Bytes, Bytes),
    ) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.rows.range((space, from)..(space, before)).map(|((_, key), value)| (key, value))
    }

    /// Rows of a range that a power loss keeps for certain.
    pub fn durable(
        &self,
        space: Space,
        from: Bytes,
        before: Bytes,
    ) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.durable.range((space, from)..(space, before)).map(|((_, key), value)| (key, value))
    }
}

/// Returns by how many bytes it grew.
fn apply(rows: &mut Rows, changes: &[RowChange]) -> i64 {
    let mut grown = 0;
    let size =
        |key: &Bytes, value: &Bytes| i64::try_from(key.len() + value.len()).unwrap_or(i64::MAX);
    for change in changes {
        match change.clone() {
            RowChange::Put { space, key, value } => {
                grown += size(&key, &value);
                if let Some(old) = rows.insert((space, key.clone()), value) {
                    grown -= size(&key, &old);
                }
            }
            RowChange::Remove { space, key } => {
                let old = rows.remove(&(space, key.clone()));
                grown -= old.map_or(0, |old| size(&key, &old));
            }
            RowChange::RemoveRange { space, from, before } => {
                if from < before {
                    let range = (space, from)..(space, before);
                    grown -= rows
                        .extract_if(range, |_, _| true)
                        .map(|((_, key), old)| size(&key, &old))
                        .sum::<i64>();
                }
            }
        }
    }
    grown
}
