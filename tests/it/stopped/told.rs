//! What the tools tell of a directory, and which ones they refuse.

use super::{BUCKET, Directory, SECRET, crc, filled};
use ironseed::data::{
    Advice, DumpOptions, Groups, Kind, Log, LogFiles, Progress, ToolError, compact, dump, inspect,
    verify, verify_logs,
};
use ironseed::disk::{DataDir, DirError};
use ironseed_core::node::superblock::{self, Membership, Superblock};
use std::io::{self, Write};

const WAL: &str = "wal-0000000000000001.seg";
const CHUNKS: &str = "chunk-0000000000000001.seg";

fn dumped(directory: &Directory, options: DumpOptions) -> String {
    let mut out = Vec::new();
    dump(directory.path(), &options, &mut out).expect("a dump");
    String::from_utf8(out).expect("text")
}

/// Where the bytes of the one small object stand in the write-ahead log.
fn place_of(directory: &Directory, name: &str, wanted: &[u8]) -> usize {
    let bytes = std::fs::read(directory.file(name)).expect("a file");
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("it is there")
}

#[test]
fn a_whole_directory_is_told_and_found_whole() {
    let directory = Directory::of(&filled(5, 2));
    let spares = |logs: &[LogFiles]| {
        let spares = logs.iter().filter(|log| log.log == "spare");
        spares.map(|log| (log.segments, log.bytes, log.last)).collect::<Vec<_>>()
    };
    let before = inspect(directory.path(), &Progress::hidden()).expect("an inspection");
    assert_eq!(spares(&before.logs), [(0, 0, None)]);
    std::fs::write(directory.file("spare-00000000000000ff.seg"), [7; 4096]).expect("a file");
    let inspection = inspect(directory.path(), &Progress::hidden()).expect("an inspection");
    assert_eq!((inspection.identity.node, inspection.groups.len()), (1, 5));
    assert!(inspection.identity.copies.iter().all(|copy| copy.damage.is_none()));
    assert!(inspection.problem.is_none() && inspection.groups.iter().all(|it| it.damage.is_none()));
    assert_eq!(spares(&inspection.logs), [(1, 4096, Some(0xff))]);
    let bucket = inspection.buckets.values().next().expect("a bucket");
    assert_eq!((bucket.name.as_deref(), bucket.state.as_deref()), (Some(BUCKET), Some("active")));
    assert_eq!((bucket.count.objects, bucket.count.bytes), (7, 5 * 900 + 2 * 20_000));
    assert_eq!((inspection.chunks.chunks, inspection.chunks.bytes), (2, 40_000));
    let founding = inspection.identity.founding.expect("it is a member");
    assert_eq!((founding.shards, founding.replication, founding.members.len()), (4, 1, 1));

    for verified in [
        verify(directory.path(), &Progress::hidden()).expect("a verification"),
        verify_logs(directory.path(), &Progress::hidden()).expect("a verification"),
    ] {
        assert_eq!(verified.findings, [], "{verified:?}");
        assert_eq!((verified.advice, verified.is_damaged()), (Advice::Nothing, false));
        assert!(verified.checked["records"] > 20, "{verified:?}");
    }
}

#[test]
fn a_dump_says_what_records_are_and_never_the_secret() {
    let directory = Directory::of(&filled(2, 1));
    let all = dumped(&directory, DumpOptions::default());
    assert!(all.contains("put object \"small-1\" in bucket"), "{all}");
    assert!(all.contains("extent 0 of blob"), "{all}");
    assert!(all.contains("create bucket \"photos\"") && all.contains("found cluster"), "{all}");
    assert!(all.contains("term 1, vote for node 1") && all.contains(": chunk "), "{all}");
    assert!(!all.contains(SECRET));

    let json = dumped(&directory, DumpOptions { json: true, ..DumpOptions::default() });
    assert!(!json.contains(SECRET));
    for line in json.lines() {
        let kinds = ["segment", "batch", "record", "damage", "end"];
        let is_one = kinds.iter().any(|kind| line.starts_with(&format!("{{\"line\":\"{kind}\"")));
        assert!(is_one && line.ends_with('}'), "{line}");
    }

    let log = Some(Log::Wal);
    let one = dumped(&directory, DumpOptions { log, group: Some(0), ..DumpOptions::default() });
    assert!(one.contains("create bucket") && !one.contains("group 1 "), "{one}");
    assert!(!one.contains("table-") && one.len() < all.len());
    let none = dumped(&directory, DumpOptions { log, from: 2, ..DumpOptions::default() });
    assert!(!none.contains(WAL), "{none}");
}

/// A pipe that nobody reads.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_dump_that_nobody_reads_ends() {
    let directory = Directory::of(&filled(1, 0));
    for json in [false, true] {
        let options = DumpOptions { json, ..DumpOptions::default() };
        match dump(directory.path(), &options, &mut Closed) {
            Err(ToolError::Output(error)) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nothing_is_written_even_where_a_boot_would() {
    let mut alone = filled(3, 1);
    super::put_small(&mut alone, "last", 0);
    let directory = Directory::of(&alone);
    // A write that a power loss has cut off, before a mark said that it was synced: a boot would overwrite it.
    let at = place_of(&directory, WAL, &super::small("last", 0));
    directory.change(WAL, |bytes| bytes[at + 100..at + 8_000].fill(0));
    let before = directory.hashes();
    let path = directory.path();
    let logs = verify_logs(path, &Progress::hidden()).expect("a verification");
    let all = verify(path, &Progress::hidden()).expect("a verification");
    inspect(path, &Progress::hidden()).expect("an inspection");
    dumped(&directory, DumpOptions::default());
    assert_eq!(directory.hashes(), before);
    for verified in [logs, all] {
        let [found] = &verified.findings[..] else { panic!("{verified:?}") };
        assert_eq!((found.file.as_str(), found.kind), (WAL, Kind::TornTail));
        let (offset, bytes) = (found.offset.expect("a place"), found.bytes.expect("a length"));
        assert!(offset.is_multiple_of(4096) && offset <= at as u64, "{found:?}");
        assert!((at as u64) < offset + bytes && bytes < 8_192, "{found:?}");
        assert!(matches!(&found.groups, Groups::Some(groups) if groups.len() == 1), "{found:?}");
        assert_eq!((verified.advice, verified.is_damaged()), (Advice::Start, false));
    }
}

#[test]
fn damage_is_told_with_its_place_its_group_and_what_to_do() {
    let directory = Directory::of(&filled(1, 1));
    let at = place_of(&directory, WAL, &super::small("small-0", 0));
    directory.change(WAL, |bytes| bytes[at + 10] ^= 1);
    let verified = verify_logs(directory.path(), &Progress::hidden()).expect("a verification");
    let [found] = &verified.findings[..] else { panic!("{verified:?}") };
    let offset = found.offset.expect("a place");
    let inside = offset <= at as u64 && (at as u64) < offset + 2_000;
    assert_eq!((found.file.as_str(), found.kind, inside), (WAL, Kind::Payload, true), "{found:?}");
    assert!(matches!(&found.groups, Groups::Some(groups) if groups.len() == 1), "{found:?}");
    assert_eq!((verified.advice, verified.is_damaged()), (Advice::Restore, true));
    // The state has the entry: nobody will ask for it.
    let verified = verify(directory.path(), &Progress::hidden()).expect("a verification");
    let [found] = &verified.findings[..] else { panic!("{verified:?}") };
    assert_eq!(
        (found.kind, verified.advice, verified.is_damaged()),
        (Kind::Dead, Advice::Start, true)
    );
    let inspection = inspect(directory.path(), &Progress::hidden()).expect("an inspection");
    assert!(inspection.groups.iter().all(|group| group.damage.is_none()));

    let directory = Directory::of(&filled(0, 1));
    let at = dumped(&directory, DumpOptions { log: Some(Log::Chunks), ..DumpOptions::default() });
    let line = at.lines().find(|line| line.contains(": chunk ")).expect("a chunk");
    let at: usize = line.trim()["at ".len()..].split(':').next().unwrap().parse().unwrap();
    directory.change(CHUNKS, |bytes| bytes[at + 19_000] ^= 0x80);
    let verified = verify(directory.path(), &Progress::hidden()).expect("a verification");
    let [found] = &verified.findings[..] else { panic!("{verified:?}") };
    assert_eq!((found.offset, found.bytes), (Some(at as u64), Some(20_000)));
    assert_eq!((found.kind, verified.advice), (Kind::Chunk, Advice::Restore));
    assert!(dump(directory.path(), &DumpOptions::default(), &mut io::sink()).expect("a dump"));
}

#[test]
fn a_chunk_that_is_named_and_nowhere_is_told() {
    let directory = Directory::of(&filled(0, 2));
    std::fs::remove_file(directory.file(CHUNKS)).expect("a file");
    let verified = verify(directory.path(), &Progress::hidden()).expect("a verification");
    let missing: u64 = verified.findings.iter().filter_map(|found| found.bytes).sum();
    assert!(verified.findings.iter().all(|found| found.kind == Kind::Chunk), "{verified:?}");
    assert_eq!((missing, verified.checked["chunks named"]), (40_000, 2));
}

#[test]
fn a_directory_in_use_of_another_format_or_without_a_store_is_refused() {
    let directory = Directory::of(&filled(0, 0));
    let refusal = |path: &std::path::Path| {
        let before = std::fs::read_dir(path).map(Iterator::count).ok();
        let all = [
            inspect(path, &Progress::hidden()).map(|_| ()).unwrap_err().to_string(),
            verify(path, &Progress::hidden()).map(|_| ()).unwrap_err().to_string(),
            verify_logs(path, &Progress::hidden()).map(|_| ()).unwrap_err().to_string(),
            dump(path, &DumpOptions::default(), &mut io::sink()).unwrap_err().to_string(),
            compact(path, &Progress::hidden()).unwrap_err().to_string(),
        ];
        assert_eq!(std::fs::read_dir(path).map(Iterator::count).ok(), before, "nothing is made");
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        all[0].clone()
    };
    {
        let _running = DataDir::open(directory.path()).expect("a data directory");
        let why = refusal(directory.path());
        assert!(why.contains("another process runs"), "{why}");
    }
    let other = tempfile::tempdir().expect("a temporary folder");
    assert!(refusal(other.path()).contains("holds no store"));
    assert!(refusal(&other.path().join("nowhere")).contains("nowhere"));
    std::fs::create_dir(other.path().join("node-1")).expect("a folder");
    std::fs::copy(directory.file("FORMAT"), other.path().join("node-1/FORMAT")).expect("a copy");
    let why = refusal(other.path());
    assert!(why.contains("did you mean") && why.contains("node-1"), "{why}");

    // Versions that are yet to come.
    let later = superblock::FORMAT_VERSION + 1;
    directory.change("superblock", |bytes| {
        for copy in [0, 4096] {
            bytes[copy + 8..copy + 10].copy_from_slice(&later.to_le_bytes());
            let crc = crc(&bytes[copy..copy + 26]);
            bytes[copy + 26..copy + 30].copy_from_slice(&crc.to_le_bytes());
        }
    });
    let why = refusal(directory.path());
    let version = format!("version {later}");
    assert!(why.contains("superblock at byte 8") && why.contains(&version), "{why}");
    std::fs::write(directory.file("FORMAT"), "ironseed data directory, format 2\n")
        .expect("a file");
    let error = verify(directory.path(), &Progress::hidden()).map(|_| ()).unwrap_err();
    assert!(matches!(error, ToolError::Dir(DirError::Format { .. })), "{error}");
    assert!(refusal(directory.path()).contains("FORMAT: at byte 0"));
}

#[test]
fn a_store_that_waits_for_a_cluster_has_an_identity_and_nothing_else() {
    let directory = Directory::of(&filled(0, 0));
    directory.change("superblock", |bytes| {
        let (sequence, member) = superblock::newest(bytes).expect("a superblock");
        let blank = Superblock { membership: Membership::Blank, ..member };
        *bytes = superblock::encode_copy(&blank, sequence + 1).repeat(2);
    });
    let inspection = inspect(directory.path(), &Progress::hidden()).expect("an inspection");
    assert!(inspection.identity.founding.is_none() && inspection.groups.is_empty());
    let verified = verify(directory.path(), &Progress::hidden()).expect("a verification");
    assert_eq!(verified.findings, [], "{verified:?}");
    let error = compact(directory.path(), &Progress::hidden()).unwrap_err().to_string();
    assert!(error.contains("has not joined a cluster"), "{error}");
}

#[test]
fn logs_can_be_read_without_their_superblock() {
    let directory = Directory::of(&filled(1, 0));
    directory.change("superblock", |bytes| bytes.fill(0));
    let error = inspect(directory.path(), &Progress::hidden()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("superblock at byte 0: both copies are damaged"), "{error}");
    let verified = verify_logs(directory.path(), &Progress::hidden()).expect("a verification");
    assert_eq!(verified.findings, [], "{verified:?}");
    assert!(dumped(&directory, DumpOptions::default()).contains("put object \"small-0\""));
    std::fs::remove_file(directory.file("superblock")).expect("a file");
    let error = verify(directory.path(), &Progress::hidden()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("no superblock: the directory is incomplete"), "{error}");
}

#[test]
fn one_copy_of_the_superblock_is_enough_and_the_other_is_told() {
    let directory = Directory::of(&filled(0, 0));
    directory.change("superblock", |bytes| bytes[4096 + 50] ^= 1);
    let inspection = inspect(directory.path(), &Progress::hidden()).expect("an inspection");
    let [first, second] = &inspection.identity.copies;
    assert!(first.used && first.damage.is_none() && !second.used && second.damage.is_some());
    let verified = verify(directory.path(), &Progress::hidden()).expect("a verification");
    let [found] = &verified.findings[..] else { panic!("{verified:?}") };
    assert_eq!(
        (found.offset, found.kind, verified.advice),
        (Some(4096), Kind::Copy, Advice::Start)
    );
}

#[test]
fn a_segment_of_a_later_version_is_named() {
    let directory = Directory::of(&filled(0, 0));
    directory.change(WAL, |bytes| {
        bytes[8] = 9;
        let crc = crc(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    let error = verify_logs(directory.path(), &Progress::hidden()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains(WAL) && error.to_string().contains("version 9"), "{error}");
    let inspection = inspect(directory.path(), &Progress::hidden()).expect("an inspection");
    assert!(inspection.problem.expect("a problem").contains("version 9"));
}
