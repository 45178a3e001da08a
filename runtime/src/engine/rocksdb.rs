//! Rows in RocksDB.
//!
//! A write is one batch, which its write-ahead log holds whole or not at all; a sync makes that log durable. Column families are
//! flushed together, so that they never come back from different moments.

use super::{Engine, Keys, Show};
use bytes::Bytes;
use ironseed_core::machine::IoError;
use ironseed_core::rows::{RowChange, Space};
use rocksdb::{ColumnFamily, DB, Error, ErrorKind, IteratorMode, Options, ReadOptions, WriteBatch};
use std::path::Path;
use tracing::error;

/// A database with a column family for each space.
pub(super) struct RocksDb(DB);

impl RocksDb {
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        // What a crash cut off is cut off; what is damaged before it is not passed over.
        options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::TolerateCorruptedTailRecords);
        let families = Space::ALL.map(Space::name);
        DB::open_cf(&options, folder, families).map(Self)
    }

    fn of(&self, space: Space) -> &ColumnFamily {
        let family = self.0.cf_handle(space.name());
        family.unwrap_or_else(|| unreachable!("both are there since it was opened"))
    }
}

impl Engine for RocksDb {
    fn write(&self, changes: Vec<RowChange>) -> Result<(), IoError> {
        let mut batch = WriteBatch::default();
        for change in changes {
            match change {
                RowChange::Put { space, key, value } => batch.put_cf(self.of(space), key, value),
                RowChange::Remove { space, key } => batch.delete_cf(self.of(space), key),
                RowChange::RemoveRange { space, from, before } => {
                    if from < before {
                        batch.delete_range_cf(self.of(space), from, before);
                    }
                }
            }
        }
        self.0.write(batch).map_err(failed)
    }

    fn sync(&self) -> Result<(), IoError> {
        self.0.flush_wal(true).map_err(failed)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IoError> {
        let value = self.0.get_cf(self.of(space), key).map_err(failed)?;
        Ok(value.map(Bytes::from))
    }

    fn scan(&self, space: Space, keys: Keys<'_>, show: &mut Show<'_>) -> Result<(), IoError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(keys.0);
        options.set_iterate_upper_bound(keys.1);
        for row in self.0.iterator_cf_opt(self.of(space), options, IteratorMode::Start) {
            let (key, value) = row.map_err(failed)?;
            if !show(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}

fn failed(error: Error) -> IoError {
    error!(%error, "engine rocksdb");
    let full = error.kind() == ErrorKind::IOError && error.to_string().contains("No space left");
    if full { IoError::NoSpace } else { IoError::Device }
}
