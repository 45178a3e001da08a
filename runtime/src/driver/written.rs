//! What a node has had written: counted where it is handed to the disk, whatever comes of it.

use bytes::Bytes;
use ironseed_core::machine::{FileKind, Io};
use ironseed_core::rows::{RowChange, RowIo};

/// Of one kind of file, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Writes.
    pub writes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Syncs.
    pub syncs: u64,
}

/// Of all kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllWritten {
    /// The write-ahead log.
    pub wal: Written,
    /// The log of records.
    pub table: Written,
    /// The log of chunks.
    pub chunk: Written,
    /// The superblock, snapshots of the index, and syncs of the directory.
    pub other: Written,
}

impl AllWritten {
    /// Counts an operation. Files that are made are left out: the write-ahead log uses its own again.
    pub(super) fn count(&mut self, io: &Io) {
        match io {
            Io::Write { file, data, .. } => {
                let of = self.of(file.kind);
                of.writes += 1;
                of.bytes += data.iter().map(Bytes::len).sum::<usize>() as u64;
            }
            Io::Sync { file } => self.of(file.kind).syncs += 1,
            Io::SyncDir => self.other.syncs += 1,
            Io::Rows(RowIo::Write { changes }) => {
                self.table.writes += 1;
                self.table.bytes += changes.iter().map(RowChange::bytes).sum::<usize>() as u64;
            }
            Io::Rows(RowIo::Sync) => self.table.syncs += 1,
            Io::Rows(RowIo::Get { .. } | RowIo::Scan { .. }) => {}
            Io::Read { .. } | Io::Create { .. } | Io::Rename { .. } | Io::Remove { .. } => {}
        }
    }

    const fn of(&mut self, kind: FileKind) -> &mut Written {
        match kind {
            FileKind::Wal | FileKind::Spare => &mut self.wal,
            FileKind::Table | FileKind::Engine => &mut self.table,
            FileKind::Chunk => &mut self.chunk,
            FileKind::Superblock | FileKind::Index => &mut self.other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironseed_core::machine::FileId;

    #[test]
    fn writes_and_syncs_are_counted_by_what_they_are_for() {
        let mut all = AllWritten::default();
        let wal = FileId::new(FileKind::Wal, 3);
        let data = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")];
        all.count(&Io::Create { file: wal, bytes: 1 << 20 });
        all.count(&Io::Write { file: wal, offset: 0, data });
        all.count(&Io::Sync { file: wal });
        all.count(&Io::Sync { file: FileId::new(FileKind::Chunk, 1) });
        all.count(&Io::SyncDir);
        assert_eq!(all.wal, Written { writes: 1, bytes: 5, syncs: 1 });
        assert_eq!(all.chunk, Written { syncs: 1, ..Written::default() });
        assert_eq!((all.table, all.other.syncs), (Written::default(), 1));
    }
}
