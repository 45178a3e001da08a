//! What any disk must do, whoever executes the operations: the real directory and the simulator's disk
//! pass the same checks, so that what was proved on one holds on the other. Durability is not in here: it
//! only shows when power is lost, which the simulator does.

use super::ExecuteIo;
use bytes::Bytes;
use ironseed_core::machine::{FileId, FileKind, Io, IoDone, IoError, IoResult};

fn read(disk: &impl ExecuteIo, file: FileId, offset: u64, len: u32) -> IoResult {
    disk.execute(Io::Read { file, offset, len })
}

/// Runs every operation on an empty disk, and leaves it empty.
///
/// # Panics
/// The disk does something else than it must.
pub fn check(disk: &impl ExecuteIo) {
    let wal = FileId::new(FileKind::Wal, 7);
    let spare = FileId::new(FileKind::Wal, 8);
    let ok = Ok(IoDone::Ok);
    let data = |bytes: &[u8]| Ok(IoDone::Data(Bytes::copy_from_slice(bytes)));

    // Nothing is there before it is made.
    assert_eq!(read(disk, wal, 0, 4), Err(IoError::NotFound));
    assert_eq!(disk.execute(Io::Sync { file: wal }), Err(IoError::NotFound));
    assert_eq!(disk.execute(Io::Remove { file: wal }), Err(IoError::NotFound));
    assert_eq!(disk.execute(Io::Rename { from: wal, to: spare }), Err(IoError::NotFound));
    let write = |file, offset, data: &[&'static [u8]]| Io::Write {
        file,
        offset,
        data: data.iter().map(|piece| Bytes::from_static(piece)).collect(),
    };
    assert_eq!(disk.execute(write(wal, 0, &[b"x"])), Err(IoError::NotFound));

    // A new file is zeros to its length and nothing beyond.
    assert_eq!(disk.execute(Io::Create { file: wal, bytes: 10_000 }), ok);
    assert_eq!(read(disk, wal, 0, 20_000), data(&[0; 10_000]));
    assert_eq!(read(disk, wal, 9_998, 8), data(&[0, 0]));
    assert_eq!(read(disk, wal, 10_000, 8), data(b""));

    // Pieces land one after another; writing beyond the end grows the file over zeros.
    assert_eq!(disk.execute(write(wal, 5, &[b"ab", b"", b"cde"])), ok);
    assert_eq!(read(disk, wal, 4, 7), data(b"\0abcde\0"));
    assert_eq!(disk.execute(write(wal, 10_002, &[b"end"])), ok);
    assert_eq!(read(disk, wal, 9_999, 100), data(b"\0\0\0end"));
    assert_eq!(disk.execute(Io::Sync { file: wal }), ok);

    // Making a file again keeps its bytes and sets its length.
    assert_eq!(disk.execute(Io::Create { file: wal, bytes: 7 }), ok);
    assert_eq!(read(disk, wal, 0, 100), data(b"\0\0\0\0\0ab"));
    assert_eq!(disk.execute(Io::Create { file: wal, bytes: 9 }), ok);
    assert_eq!(read(disk, wal, 5, 100), data(b"ab\0\0"));

    // A rename takes the place of what was there, and leaves nothing behind.
    assert_eq!(disk.execute(Io::Create { file: spare, bytes: 3 }), ok);
    assert_eq!(disk.execute(Io::Rename { from: wal, to: spare }), ok);
    assert_eq!(read(disk, wal, 0, 1), Err(IoError::NotFound));
    assert_eq!(read(disk, spare, 5, 4), data(b"ab\0\0"));
    assert_eq!(disk.execute(write(spare, 0, &[b"z"])), ok);
    assert_eq!(disk.execute(Io::SyncDir), ok);
    assert_eq!(disk.execute(Io::Remove { file: spare }), ok);
    assert_eq!(read(disk, spare, 0, 1), Err(IoError::NotFound));
}
