//! What any disk must do, whoever executes the operations: the real directory and the simulator's disk
//! pass the same checks, so that what was proved on one holds on the other. Durability is not in here: it
//! only shows when power is lost, which the simulator does.

use super::Listed;
use bytes::Bytes;
use ironseed_core::machine::{FileId, FileKind, FoundFile, Io, IoDone, IoError, IoResult};

const WAL: FileId = FileId::new(FileKind::Wal, 7);
const SPARE: FileId = FileId::new(FileKind::Wal, 8);
const KEPT: FileId = FileId::new(FileKind::Spare, 7);
const TABLE: FileId = FileId::new(FileKind::Table, 1);
const SUPERBLOCK: FileId = FileId::new(FileKind::Superblock, 0);
const OK: IoResult = Ok(IoDone::Ok);
/// More than any disk has, and in whole blocks.
const TOO_MANY_BYTES: u64 = (i64::MAX as u64) & !4095;

/// Runs every operation on an empty disk, and leaves it empty.
///
/// # Panics
/// The disk does something else than it must.
pub fn check(disk: &impl Listed) {
    let disk = Checked(disk);
    let checks: [fn(&Checked<'_, _>); 8] =
        [absent, created, written, resized, renamed, used_again, removed, without_room];
    for check in checks {
        assert_eq!(disk.0.found(), [], "empty between checks");
        check(&disk);
    }
    assert_eq!(disk.0.found(), []);
}

struct Checked<'a, D>(&'a D);

impl<D: Listed> Checked<'_, D> {
    fn run(&self, io: Io) -> IoResult {
        self.0.execute(io)
    }

    fn create(&self, file: FileId, bytes: u64) {
        assert_eq!(self.run(Io::Create { file, bytes }), OK);
    }

    fn write(&self, file: FileId, offset: u64, data: &[&'static [u8]]) -> IoResult {
        let data = data.iter().map(|piece| Bytes::from_static(piece)).collect();
        self.run(Io::Write { file, offset, data })
    }

    fn remove(&self, file: FileId) {
        assert_eq!(self.run(Io::Remove { file }), OK);
    }

    #[track_caller]
    fn reads(&self, file: FileId, offset: u64, len: u32, expected: &[u8]) {
        let read = self.run(Io::Read { file, offset, len });
        assert_eq!(read, Ok(IoDone::Data(Bytes::copy_from_slice(expected))));
    }

    #[track_caller]
    fn finds(&self, expected: &[(FileId, u64)]) {
        let expected: Vec<FoundFile> =
            expected.iter().map(|(file, bytes)| FoundFile { file: *file, bytes: *bytes }).collect();
        assert_eq!(self.0.found(), expected);
    }

    #[track_caller]
    fn lacks(&self, file: FileId) {
        let missing = Err(IoError::NotFound);
        assert_eq!(self.run(Io::Read { file, offset: 0, len: 4 }), missing);
        assert_eq!(self.run(Io::Sync { file }), missing);
        assert_eq!(self.run(Io::Remove { file }), missing);
        assert_eq!(self.run(Io::Rename { from: file, to: TABLE }), missing);
        assert_eq!(self.write(file, 0, &[b"x"]), missing);
        assert_eq!(self.write(file, 0, &[]), missing);
    }
}

/// Nothing is there before it is made, and trying makes nothing.
fn absent(disk: &Checked<'_, impl Listed>) {
    for file in [WAL, SPARE, TABLE, SUPERBLOCK] {
        disk.lacks(file);
    }
    assert_eq!(disk.run(Io::SyncDir), OK);
}

/// A new file is zeros to its length and nothing beyond.
fn created(disk: &Checked<'_, impl Listed>) {
    disk.create(WAL, 10_000);
    disk.create(SUPERBLOCK, 0);
    disk.finds(&[(SUPERBLOCK, 0), (WAL, 10_000)]);
    disk.reads(WAL, 0, 20_000, &[0; 10_000]);
    disk.reads(WAL, 9_998, 8, &[0, 0]);
    disk.reads(WAL, 10_000, 8, b"");
    disk.reads(WAL, 1 << 40, 8, b"");
    disk.reads(WAL, 5, 0, b"");
    disk.reads(SUPERBLOCK, 0, 8, b"");
    disk.remove(WAL);
    disk.remove(SUPERBLOCK);
}

/// Pieces land one after another; writing beyond the end grows the file over zeros, writing nothing there
/// does not.
fn written(disk: &Checked<'_, impl Listed>) {
    disk.create(WAL, 100);
    assert_eq!(disk.write(WAL, 5, &[b"ab", b"", b"cde"]), OK);
    disk.reads(WAL, 4, 7, b"\0abcde\0");
    assert_eq!(disk.write(WAL, 6, &[b"B"]), OK);
    disk.reads(WAL, 4, 7, b"\0aBcde\0");
    assert_eq!(disk.write(WAL, 98, &[b"over"]), OK);
    disk.reads(WAL, 97, 100, b"\0over");
    assert_eq!(disk.write(WAL, 105, &[b"end"]), OK);
    disk.reads(WAL, 100, 100, b"er\0\0\0end");
    assert_eq!(disk.write(WAL, 200, &[]), OK);
    assert_eq!(disk.write(WAL, 200, &[b"", b""]), OK);
    disk.finds(&[(WAL, 108)]);
    assert_eq!(disk.run(Io::Sync { file: WAL }), OK);
    assert_eq!(disk.run(Io::Sync { file: WAL }), OK);
    disk.remove(WAL);
}

/// Making a file again keeps its bytes and sets its length; what was cut off does not come back.
fn resized(disk: &Checked<'_, impl Listed>) {
    disk.create(WAL, 10);
    assert_eq!(disk.write(WAL, 5, &[b"abcde"]), OK);
    disk.create(WAL, 10);
    disk.reads(WAL, 0, 100, b"\0\0\0\0\0abcde");
    disk.create(WAL, 7);
    disk.finds(&[(WAL, 7)]);
    disk.reads(WAL, 0, 100, b"\0\0\0\0\0ab");
    disk.create(WAL, 9);
    disk.reads(WAL, 5, 100, b"ab\0\0");
    disk.remove(WAL);
}

/// A rename takes the place of what was there, leaves nothing behind, and both names go their own ways.
fn renamed(disk: &Checked<'_, impl Listed>) {
    disk.create(WAL, 9);
    disk.create(SPARE, 3);
    assert_eq!(disk.write(WAL, 0, &[b"wal"]), OK);
    assert_eq!(disk.run(Io::Rename { from: WAL, to: SPARE }), OK);
    disk.lacks(WAL);
    disk.finds(&[(SPARE, 9)]);
    disk.reads(SPARE, 0, 4, b"wal\0");
    assert_eq!(disk.run(Io::Sync { file: SPARE }), OK);
    disk.create(WAL, 2);
    assert_eq!(disk.write(SPARE, 0, &[b"z"]), OK);
    disk.reads(WAL, 0, 9, b"\0\0");
    disk.reads(SPARE, 0, 3, b"zal");
    assert_eq!(disk.run(Io::Rename { from: SPARE, to: SPARE }), OK);
    disk.reads(SPARE, 0, 3, b"zal");
    assert_eq!(disk.run(Io::SyncDir), OK);
    disk.finds(&[(WAL, 2), (SPARE, 9)]);
    disk.remove(WAL);
    disk.remove(SPARE);
}

/// A segment that is kept for another use is found under the name that says so, with its length and its bytes, and is written over
/// under the next one; making it as long as it is changes nothing.
fn used_again(disk: &Checked<'_, impl Listed>) {
    disk.create(WAL, 8192);
    assert_eq!(disk.write(WAL, 0, &[b"first life"]), OK);
    assert_eq!(disk.write(WAL, 8000, &[b"end"]), OK);
    assert_eq!(disk.run(Io::Sync { file: WAL }), OK);
    assert_eq!(disk.run(Io::Rename { from: WAL, to: KEPT }), OK);
    assert_eq!(disk.run(Io::SyncDir), OK);
    disk.finds(&[(KEPT, 8192)]);
    assert_eq!(disk.run(Io::Rename { from: KEPT, to: SPARE }), OK);
    assert_eq!(disk.run(Io::SyncDir), OK);
    disk.lacks(WAL);
    disk.lacks(KEPT);
    disk.create(SPARE, 8192);
    assert_eq!(disk.write(SPARE, 0, &[b"second"]), OK);
    assert_eq!(disk.run(Io::Sync { file: SPARE }), OK);
    disk.finds(&[(SPARE, 8192)]);
    disk.reads(SPARE, 0, 11, b"secondlife\0");
    disk.reads(SPARE, 8000, 4, b"end\0");
    disk.remove(SPARE);
}

/// What is removed is gone, and a file of its name begins anew.
fn removed(disk: &Checked<'_, impl Listed>) {
    disk.create(TABLE, 5);
    assert_eq!(disk.write(TABLE, 0, &[b"table"]), OK);
    disk.remove(TABLE);
    assert_eq!(disk.run(Io::Read { file: TABLE, offset: 0, len: 5 }), Err(IoError::NotFound));
    disk.create(TABLE, 5);
    disk.reads(TABLE, 0, 5, &[0; 5]);
    disk.remove(TABLE);
    assert_eq!(disk.run(Io::SyncDir), OK);
}

/// A file that there is no room for is not made, and one that can't grow stays as it is.
fn without_room(disk: &Checked<'_, impl Listed>) {
    let refused = Err(IoError::NoSpace);
    for file in [WAL, TABLE] {
        assert_eq!(disk.run(Io::Create { file, bytes: TOO_MANY_BYTES }), refused);
    }
    disk.finds(&[]);
    disk.create(TABLE, 4);
    assert_eq!(disk.write(TABLE, 0, &[b"kept"]), OK);
    assert_eq!(disk.run(Io::Create { file: TABLE, bytes: TOO_MANY_BYTES }), refused);
    disk.finds(&[(TABLE, 4)]);
    disk.reads(TABLE, 0, 8, b"kept");
    disk.remove(TABLE);
}
