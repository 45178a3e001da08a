//! The contract of [`Io`], one test a promise.

use super::*;

const A: FileId = FileId::new(FileKind::Wal, 1);
const B: FileId = FileId::new(FileKind::Superblock, 0);
const SPEED: Speed = Speed { write: 10_000, sync: 1_000_000, read: 50_000 };

struct Rig {
    disk: Disk,
    next: u64,
}

impl Rig {
    fn new(seed: u64) -> Self {
        Self { disk: Disk::new(seed, 1, SPEED), next: 0 }
    }

    fn issue(&mut self, io: Io) -> OpId {
        self.next += 1;
        self.disk.issue(0, OpId(self.next), io);
        OpId(self.next)
    }

    fn run(&mut self, io: Io) -> IoResult {
        let op = self.issue(io);
        self.disk.complete(0, op).expect("nothing crashed").result
    }

    fn write(&mut self, file: FileId, byte: u8) -> IoResult {
        self.run(Io::Write { file, offset: 0, data: vec![Bytes::from(vec![byte; 1024])] })
    }

    fn first_byte(&mut self, file: FileId) -> Result<u8, IoError> {
        match self.run(Io::Read { file, offset: 0, len: 1 })? {
            IoDone::Data(bytes) => Ok(bytes[0]),
            other => panic!("a read brought {other:?}"),
        }
    }

    fn ready(seed: u64) -> Self {
        let mut rig = Self::new(seed);
        for io in [Io::Create { file: A, bytes: 4096 }, Io::Sync { file: A }, Io::SyncDir] {
            rig.run(io).expect("room and no faults");
        }
        rig
    }
}

#[test]
fn a_name_is_durable_only_after_the_directory_sync() {
    let mut kept = 0;
    for seed in 0..100 {
        let mut rig = Rig::new(seed);
        rig.run(Io::Create { file: A, bytes: 4096 }).expect("room");
        assert_eq!(rig.disk.durable_files().count(), 0);
        rig.disk.lose_power(0);
        kept += rig.disk.found().len();
    }
    assert!((10..90).contains(&kept), "{kept} of 100 names kept");
    let mut rig = Rig::ready(1);
    rig.disk.lose_power(0);
    assert_eq!(rig.disk.found(), [FoundFile { file: A, bytes: 4096 }]);
}

#[test]
fn a_directory_sync_covers_only_changes_completed_before_it_was_issued() {
    let mut rig = Rig::ready(1);
    let sync = rig.issue(Io::SyncDir);
    rig.run(Io::Remove { file: A }).expect("it is there");
    rig.disk.complete(0, sync).expect("nothing crashed");
    assert_eq!(rig.disk.durable_files().collect::<Vec<_>>(), [A]);
}

#[test]
fn a_rename_is_whole_or_not_at_all() {
    for seed in 0..100 {
        let mut rig = Rig::ready(seed);
        rig.run(Io::Rename { from: A, to: B }).expect("it is there");
        rig.disk.lose_power(0);
        let names: Vec<FileId> = rig.disk.found().iter().map(|found| found.file).collect();
        assert!(names == [A] || names == [B], "{names:?}");
    }
}

#[test]
fn a_write_in_flight_at_a_power_loss_may_be_torn_and_never_completes() {
    let mut torn = 0;
    for seed in 0..100 {
        let mut rig = Rig::ready(seed);
        let op =
            rig.issue(Io::Write { file: A, offset: 0, data: vec![Bytes::from(vec![5; 4096])] });
        rig.disk.lose_power(0);
        assert!(rig.disk.complete(0, op).is_none());
        let bytes = rig.disk.read_durable(A, 0, 4096).expect("its name is durable");
        let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        torn += u32::from(sectors.contains(&0) && sectors.contains(&5));
    }
    assert!(torn > 10, "{torn} of 100 torn");
}

#[test]
fn a_killed_process_leaves_what_had_completed() {
    let mut rig = Rig::ready(1);
    rig.write(A, 7).expect("room");
    rig.disk.kill(0);
    assert_eq!(rig.first_byte(A), Ok(7));
    assert_eq!(rig.disk.read_durable(A, 0, 1), Some(vec![0]), "and makes none of it durable");
}

#[test]
fn a_failed_sync_is_followed_by_one_that_lies() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut rig = Rig::ready(seed);
        rig.write(A, 7).expect("room");
        rig.disk.arm(Trap::Sync);
        assert_eq!(rig.run(Io::Sync { file: A }), Err(IoError::Device));
        assert_eq!(rig.run(Io::Sync { file: A }), Ok(IoDone::Ok));
        rig.disk.lose_power(0);
        lost += u32::from(rig.first_byte(A) == Ok(0));
    }
    assert!((10..40).contains(&lost), "{lost} of 50 lost");
}

#[test]
fn a_full_disk_refuses_growth_and_takes_writes_within_what_is_allocated() {
    let mut rig = Rig::ready(1);
    rig.disk.fill(Some(100));
    assert_eq!(rig.run(Io::Create { file: B, bytes: 101 }), Err(IoError::NoSpace));
    assert_eq!(rig.write(A, 1), Ok(IoDone::Ok));
    let past_end = Io::Write { file: A, offset: 4000, data: vec![Bytes::from(vec![1; 1024])] };
    assert_eq!(rig.run(past_end.clone()), Err(IoError::NoSpace));
    rig.disk.fill(None);
    assert_eq!(rig.run(past_end), Ok(IoDone::Ok));
}

#[test]
fn rot_reaches_bytes_at_rest_only() {
    let mut rig = Rig::ready(1);
    assert!(rig.disk.flip(A, 2000, 3));
    assert_eq!(rig.disk.read_durable(A, 2000, 1), Some(vec![8]));
    rig.write(A, 7).expect("room");
    assert!(!rig.disk.flip(A, 10, 0), "an unsynced sector is not at rest");
    assert!(!rig.disk.flip(B, 0, 0), "no such file");
}

#[test]
fn a_write_that_went_elsewhere_leaves_what_stood_there_in_an_earlier_life_of_the_file() {
    let mut rig = Rig::ready(3);
    let spare = FileId::new(FileKind::Spare, 1);
    let sync = Io::Sync { file: A };
    rig.write(A, 1).expect("room");
    let renames = [Io::Rename { from: A, to: spare }, Io::Rename { from: spare, to: A }];
    for io in [sync.clone()].into_iter().chain(renames).chain([Io::SyncDir]) {
        rig.run(io).expect("no faults");
    }
    rig.write(A, 2).expect("room");
    rig.run(sync).expect("no faults");
    assert!(rig.disk.misdirect(A, 0..1024, A, 2048, 512));
    let bytes = rig.disk.read_durable(A, 0, 4096).expect("it has a name");
    let sectors: Vec<u8> = bytes.iter().step_by(512).copied().collect();
    assert_eq!(sectors, [1, 1, 0, 0, 2, 0, 0, 0]);
}

#[test]
fn a_misdirected_write_is_missing_here_and_found_there_and_spares_what_is_not_at_rest() {
    let mut rig = Rig::ready(1);
    rig.write(A, 7).expect("room");
    assert!(!rig.disk.misdirect(A, 0..1024, A, 2048, 1024), "its sync is not done");
    rig.run(Io::Sync { file: A }).expect("no faults");
    assert!(!rig.disk.misdirect(A, 0..1024, A, 3584, 1024), "there is no room there");
    assert!(!rig.disk.misdirect(A, 0..1024, B, 0, 1024), "no such file");
    assert!(rig.disk.misdirect(A, 0..1024, A, 2048, 512));
    let bytes = rig.disk.read_durable(A, 0, 4096).expect("a file");
    let sevens: Vec<usize> = (0..4096).filter(|at| bytes[*at] == 7).collect();
    assert_eq!((sevens.first(), sevens.last()), (Some(&2048), Some(&2559)));
    assert_eq!(sevens.len(), 512);
}

#[test]
fn a_lost_file_does_not_come_back_with_a_power_loss() {
    let mut rig = Rig::ready(1);
    rig.run(Io::Create { file: B, bytes: 8192 }).expect("room");
    rig.run(Io::SyncDir).expect("no faults");
    rig.disk.lose(|file| file == A);
    rig.disk.lose_power(0);
    let found: Vec<FileId> = rig.disk.found().iter().map(|found| found.file).collect();
    assert_eq!(found, [B]);
    assert_eq!(rig.first_byte(A), Err(IoError::NotFound));
}

#[test]
fn latencies_vary_with_a_tail_and_repeat_with_the_seed() {
    let latencies = |seed| {
        let mut disk = Disk::new(seed, 1, SPEED);
        (0..2000).map(|op| disk.issue(0, OpId(op), Io::SyncDir)).collect::<Vec<_>>()
    };
    let first = latencies(3);
    assert_eq!(first, latencies(3));
    assert_ne!(first, latencies(4));
    assert!(first.iter().max() > Some(&10_000_000), "no tail");
    assert!(first.iter().min() >= Some(&500_000));
}

#[test]
fn what_a_slow_disk_has_begun_is_known_with_the_time_that_it_takes_otherwise() {
    let mut rig = Rig::ready(1);
    let usual = rig.issue(Io::Sync { file: A });
    rig.disk.slow(64);
    let op = OpId(77);
    let takes = rig.disk.issue(5, op, Io::SyncDir);
    let slowed: Vec<(OpId, u64)> = rig.disk.slowed().collect();
    assert_eq!(slowed, [(op, 5 + takes / 64)], "not {usual:?}");
    rig.disk.complete(9, op).expect("nothing crashed");
    assert_eq!(rig.disk.slowed().count(), 0);
}
