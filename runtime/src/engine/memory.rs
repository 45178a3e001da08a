//! Rows in memory, and nowhere else: what a node that stops forgets, and is given by its peers when it comes back.

use super::{Engine, Keys, Show};
use bytes::Bytes;
use ironseed_core::machine::IoError;
use ironseed_core::rows::{RowChange, Space};
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

type Rows = BTreeMap<(Space, Bytes), Bytes>;

/// An engine without a disk.
#[derive(Debug, Default)]
pub(super) struct Memory(RwLock<Rows>);

impl Engine for Memory {
    fn write(&self, changes: Vec<RowChange>) -> Result<(), IoError> {
        let mut rows = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                RowChange::Put { space, key, value } => {
                    // What it shares its memory with would be kept with it.
                    let [key, value] = [key, value].map(|it| Bytes::copy_from_slice(&it));
                    rows.insert((space, key), value);
                }
                RowChange::Remove { space, key } => {
                    rows.remove(&(space, key));
                }
                RowChange::RemoveRange { space, from, before } => {
                    if from < before {
                        let range = (space, from)..(space, before);
                        rows.extract_if(range, |_, _| true).for_each(drop);
                    }
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IoError> {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.get(&(space, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(&self, space: Space, keys: Keys<'_>, show: &mut Show<'_>) -> Result<(), IoError> {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (from, before) = keys;
        let [from, before] = [from, before].map(Bytes::copy_from_slice);
        let mut range = rows.range((space, from)..(space, before));
        while range.next().is_some_and(|((_, key), value)| show(key, value)) {}
        Ok(())
    }
}
