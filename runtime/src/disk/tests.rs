use super::files::Files;
use super::*;
use bytes::Bytes;
use ironseed_core::machine::{FileId, FileKind, FoundFile, IoDone, IoError, IoOp};
use ironseed_core::types::OpId;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;

fn temporary() -> (tempfile::TempDir, DataDir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::open(&folder.path().join("data")).unwrap();
    (folder, dir)
}

fn read(files: &impl ExecuteIo, file: FileId, offset: u64, len: u32) -> IoResult {
    files.execute(Io::Read { file, offset, len })
}

#[test]
fn real_files_conform() {
    let (_folder, dir) = temporary();
    conformance::check(&direct(dir));
}

#[test]
fn many_pieces_are_written_in_order() {
    let (_folder, dir) = temporary();
    let files = Files::new(dir);
    let file = FileId::new(FileKind::Chunk, 1);
    files.execute(Io::Create { file, bytes: 0 }).unwrap();
    let data: Vec<_> = (0..2_500_u32).map(|n| Bytes::from(n.to_be_bytes().to_vec())).collect();
    files.execute(Io::Write { file, offset: 3, data: data.clone() }).unwrap();
    assert_eq!(read(&files, file, 3, 20_000), Ok(IoDone::Data(data.concat().into())));
}

#[test]
fn more_files_than_descriptors_keep_what_was_written() {
    let (_folder, dir) = temporary();
    let files = Files::new(dir);
    let name = |number| FileId::new(FileKind::Chunk, number);
    for number in 0..900 {
        files.execute(Io::Create { file: name(number), bytes: 0 }).unwrap();
        let data = vec![Bytes::from(number.to_be_bytes().to_vec())];
        files.execute(Io::Write { file: name(number), offset: 0, data }).unwrap();
        if number % 3 != 0 {
            files.execute(Io::Sync { file: name(number) }).unwrap();
        }
    }
    for number in 0..900_u64 {
        let bytes = Bytes::from(number.to_be_bytes().to_vec());
        assert_eq!(read(&files, name(number), 0, 8), Ok(IoDone::Data(bytes)));
    }
}

#[test]
fn a_disk_without_space_says_so_and_keeps_nothing_of_the_new_file() {
    let (folder, dir) = temporary();
    let files = Files::new(dir);
    let file = FileId::new(FileKind::Chunk, 1);
    // More than any file system holds; some call that a file that is too large.
    let bytes = (i64::MAX as u64) & !4095;
    assert_eq!(files.execute(Io::Create { file, bytes }), Err(IoError::NoSpace));
    assert!(!folder.path().join("data").join(file.to_string()).exists());
}

#[test]
fn every_operation_completes_once_on_its_thread() {
    let (_folder, dir) = temporary();
    let (sender, done) = mpsc::channel();
    let disk = Disk::start(dir, None, "n1", move |op, result| {
        let thread = std::thread::current().name().unwrap_or("").to_owned();
        sender.send((op, result, thread)).unwrap();
    })
    .unwrap();
    let run = |op, io| {
        if let Some(result) = disk.submit(IoOp { op: OpId(op), io }) {
            return (result, "caller".to_owned());
        }
        let (done, result, thread) = done.recv().unwrap();
        assert_eq!(done, OpId(op));
        (result, thread)
    };
    let ok = || Ok(IoDone::Ok);
    for (op, kind, thread) in [
        (10, FileKind::Wal, "n1-wal"),
        (20, FileKind::Table, "n1-table"),
        (30, FileKind::Chunk, "n1-chunk"),
        (40, FileKind::Superblock, "n1-names"),
    ] {
        let file = FileId::new(kind, 0);
        assert_eq!(run(op, Io::Create { file, bytes: 8192 }), (ok(), "n1-names".into()));
        let data = vec![Bytes::from_static(b"hello")];
        assert_eq!(run(op + 1, Io::Write { file, offset: 0, data }), (ok(), thread.into()));
        assert_eq!(run(op + 2, Io::Sync { file }), (ok(), thread.into()));
        let (result, thread) = run(op + 3, Io::Read { file, offset: 0, len: 5 });
        assert_eq!(result, Ok(IoDone::Data(Bytes::from_static(b"hello"))));
        assert!(thread == "caller" || thread == "n1-read", "{thread}");
        // Beyond the end it takes the pool to tell.
        let (result, thread) = run(op + 4, Io::Read { file, offset: 8190, len: 5 });
        assert_eq!(
            (result, thread),
            (Ok(IoDone::Data(Bytes::from_static(&[0, 0]))), "n1-read".into())
        );
    }
    drop(disk);
    assert!(done.recv().is_err(), "nothing completes twice");
}

#[test]
fn a_directory_is_locked_until_it_is_let_go() {
    let (folder, dir) = temporary();
    let path = folder.path().join("data");
    assert!(matches!(DataDir::open(&path), Err(DirError::Locked { .. })));
    drop(dir);
    assert_eq!(DataDir::open(&path).unwrap().files().unwrap(), []);
}

#[test]
fn a_directory_of_another_format_or_of_somebody_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.tex"), "years").unwrap();
    let error = DataDir::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("thesis.tex"), "{error}");
    assert!(!folder.path().join("LOCK").exists(), "nothing was left in it");

    let data = folder.path().join("data");
    drop(DataDir::open(&data).unwrap());
    std::fs::write(data.join("FORMAT"), "ironseed data directory, format 2\n").unwrap();
    let error = DataDir::open(&data).unwrap_err().to_string();
    assert!(error.contains("FORMAT: at byte 0") && error.contains("format 2"), "{error}");
}

#[test]
fn files_are_found_by_the_names_that_machines_give_and_secrets_stay_private() {
    let (folder, dir) = temporary();
    let path = folder.path().join("data");
    write_private(&path.join("founding.toml"), "secret").unwrap();
    write_private(&path.join("founding.toml"), "secret again").unwrap();
    let mode = std::fs::metadata(path.join("founding.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files = Files::new(dir);
    let (wal, table) = (FileId::new(FileKind::Wal, 255), FileId::new(FileKind::Table, 1));
    files.execute(Io::Create { file: table, bytes: 4096 }).unwrap();
    files.execute(Io::Create { file: wal, bytes: 8192 }).unwrap();
    std::fs::write(path.join("wal-1.seg"), "not canonical").unwrap();
    let found = files.dir().files().unwrap();
    let expected = [FoundFile { file: wal, bytes: 8192 }, FoundFile { file: table, bytes: 4096 }];
    assert_eq!(found, expected);
}
