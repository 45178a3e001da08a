//! Rows in Fjall, a log-structured engine in Rust.
//!
//! A write is one batch, which its journal holds whole or not at all; a sync persists the journal. What was not persisted when the machine falls may be
//! gone, from some batch on.

use super::{Engine, Keys, Show};
use bytes::Bytes;
use fjall::{Database, Error, Keyspace, KeyspaceCreateOptions, PersistMode};
use ironseed_core::machine::IoError;
use ironseed_core::rows::{RowChange, Space};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use tracing::error;

/// A database with a keyspace for each space.
pub(super) struct Fjall {
    database: Database,
    records: Keyspace,
    bodies: Keyspace,
}

impl Fjall {
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let database = Database::builder(folder).open()?;
        let keyspace =
            |space: Space| database.keyspace(space.name(), KeyspaceCreateOptions::default);
        let (records, bodies) = (keyspace(Space::Records)?, keyspace(Space::Bodies)?);
        Ok(Self { database, records, bodies })
    }

    const fn of(&self, space: Space) -> &Keyspace {
        match space {
            Space::Records => &self.records,
            Space::Bodies => &self.bodies,
        }
    }
}

impl Engine for Fjall {
    fn write(&self, changes: Vec<RowChange>) -> Result<(), IoError> {
        let rows = settled(changes, |space, from, before, found| {
            for row in self.of(space).range(from..before) {
                found(Bytes::copy_from_slice(&row.key()?));
            }
            Ok(())
        });
        let mut batch = self.database.batch();
        for ((space, key), value) in rows.map_err(failed)? {
            match value {
                Some(value) => batch.insert(self.of(space), &*key, &*value),
                None => batch.remove(self.of(space), &*key),
            }
        }
        batch.commit().map_err(failed)
    }

    fn sync(&self) -> Result<(), IoError> {
        self.database.persist(PersistMode::SyncAll).map_err(failed)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IoError> {
        let value = self.of(space).get(key).map_err(failed)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, space: Space, keys: Keys<'_>, show: &mut Show<'_>) -> Result<(), IoError> {
        let (from, before) = keys;
        for row in self.of(space).range(from..before) {
            let (key, value) = row.into_inner().map_err(failed)?;
            if !show(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}

/// What changes come to, each key once: a batch knows no order, and no ranges. `keys` are those that are there now
/// of a range.
///
/// # Errors
/// That of `keys`.
fn settled<E>(
    changes: Vec<RowChange>,
    mut keys: impl FnMut(Space, &[u8], &[u8], &mut dyn FnMut(Bytes)) -> Result<(), E>,
) -> Result<BTreeMap<(Space, Bytes), Option<Bytes>>, E> {
    let mut settled = BTreeMap::new();
    for change in changes {
        match change {
            RowChange::Put { space, key, value } => {
                settled.insert((space, key), Some(value));
            }
            RowChange::Remove { space, key } => {
                settled.insert((space, key), None);
            }
            RowChange::RemoveRange { space, from, before } if from < before => {
                let range = (
                    Bound::Included((space, from.clone())),
                    Bound::Excluded((space, before.clone())),
                );
                settled.range_mut(range).for_each(|(_, value)| *value = None);
                keys(space, &from, &before, &mut |key| {
                    settled.insert((space, key), None);
                })?;
            }
            RowChange::RemoveRange { .. } => {}
        }
    }
    Ok(settled)
}

fn failed(error: Error) -> IoError {
    error!(%error, "engine fjall");
    let full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
    match &error {
        Error::Io(error) if full(error) => IoError::NoSpace,
        _ => IoError::Device,
    }
}
