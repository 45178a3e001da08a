//! Records in an engine, on a lone node: a boot finds what was written, bodies that nobody needs go, and what is not as it was
//! written is said and not served.

use crate::by_hand::Alone;
use crate::stopped::{BUCKET, config, filled_with, put_small, small};
use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::node::api::{Config, Engine, Tuning};
use ironseed_core::node::offline::Survey;
use ironseed_core::node::superblock;
use ironseed_core::node::trace::Trace;
use ironseed_core::object::api::{Answer, Content, Refusal, Request};
use ironseed_core::types::GroupId;
use ironseed_sim::disk::ENGINE;
use ironseed_sim::draw::{Domain, Draw};

const OBJECTS: u16 = 200;

fn with(engine: Engine) -> Config {
    let config = config();
    // The log is cut as soon as the table has what it says; and any frame fits a segment of a table log.
    let table_segment_bytes = if engine == Engine::Native { 256 << 10 } else { 64 << 10 };
    let tuning = Tuning { table_segment_bytes, log_bytes_max: 16 << 10, ..config.tuning.clone() };
    Config { engine, tuning, ..config }
}

/// Records and their bodies in the engine, and more on their way there.
fn filled() -> Alone {
    filled_in(Engine::Fjall)
}

fn filled_in(engine: Engine) -> Alone {
    let mut alone = filled_with(with(engine), OBJECTS, 1);
    for number in 0..8 {
        put_small(&mut alone, &key(number), 1);
    }
    alone
}

fn told(alone: &Alone, is: impl Fn(&Trace) -> bool) -> bool {
    alone.traces.iter().any(is)
}

/// What every group holds.
fn states(alone: &Alone) -> Vec<Option<(usize, u128)>> {
    let table = |group| alone.node.table_of(GroupId(group));
    let told = |group| table(group).map(|table| (table.len(), table.digest()));
    (0..=4).map(told).collect()
}

/// A small object, or why there is none.
fn read(alone: &mut Alone, key: &str) -> Result<Vec<u8>, Refusal> {
    match alone.ask(Request::GetObject { bucket: BUCKET.into(), key: key.into() })? {
        Answer::Object(object) => match object.content {
            Content::Inline(bytes) => Ok(bytes.0.to_vec()),
            other => panic!("{key}: {other:?}"),
        },
        other => panic!("{key}: {other:?}"),
    }
}

fn key(number: u16) -> String {
    format!("small-{number}")
}

/// An object as [`filled`] leaves it.
fn written(number: u16) -> Vec<u8> {
    small(&key(number), u8::from(number < 8))
}

fn assert_whole(alone: &mut Alone) {
    for number in 0..OBJECTS {
        assert_eq!(read(alone, &key(number)), Ok(written(number)), "{number}");
    }
}

#[test]
fn a_boot_finds_what_was_written_and_the_rest_in_the_log() {
    let in_engine = |trace: &Trace| matches!(trace, Trace::EngineLoaded { records: 100.., .. });
    for engine in [Engine::Native, Engine::Fjall] {
        let native = engine == Engine::Native;
        let mut alone = filled_in(engine);
        for _ in 0..3 {
            let before = states(&alone);
            assert!(before.iter().all(Option::is_some));
            alone.reboot(|_| {});
            assert_eq!(told(&alone, in_engine), !native, "{engine:?}: {:?}", alone.traces);
            assert_eq!(states(&alone), before, "{engine:?}");
            assert_whole(&mut alone);
            alone.rest(20_000);
        }
        let tables = alone.disk.found().into_iter().filter(|it| it.file.kind == FileKind::Table);
        assert_eq!(tables.count() > 0, native, "a table log, or an engine");
    }
}

#[test]
fn bodies_that_nobody_needs_go() {
    let mut alone = filled();
    for round in 0..20 {
        for number in 0..OBJECTS {
            put_small(&mut alone, &key(number), round);
        }
        alone.rest(10_000);
    }
    let swept = alone.traces.iter().filter_map(|trace| match trace {
        Trace::BodiesSwept { gone, .. } => Some(*gone),
        _ => None,
    });
    let swept: u64 = swept.sum();
    assert!(swept > u64::from(OBJECTS) * written(0).len() as u64, "{swept} bytes went");
    alone.rest(120_000);
    let (bytes, current) =
        (alone.disk.engine().bytes(), u64::from(OBJECTS) * written(0).len() as u64);
    assert!(bytes < 4 * current + (512 << 10), "{bytes} bytes of which {current} are current");
    alone.reboot(|_| {});
    for number in 0..OBJECTS {
        assert_eq!(read(&mut alone, &key(number)), Ok(small(&key(number), 19)));
    }
}

#[test]
fn an_engine_that_is_lost_is_missed() {
    let mut alone = filled();
    alone.rest(20_000);
    alone.reboot(|disk| disk.lose(|file| file == ENGINE));
    let refused = read(&mut alone, "small-1");
    assert!(matches!(refused, Err(Refusal::Unavailable(_))), "{refused:?}");
    assert!(told(&alone, |trace| matches!(trace, Trace::StateDamaged { .. })));
}

#[test]
fn what_is_not_as_it_was_written_is_said_and_never_served() {
    let (mut silent, mut refused) = (0, 0);
    for salt in 0..12 {
        let mut alone = filled();
        alone.rest(20_000);
        alone.reboot(|disk| {
            let mut draw = Draw::new(7, Domain::Rot, &[salt]);
            assert!(disk.rot_row(&mut draw));
        });
        for number in 0..OBJECTS {
            match read(&mut alone, &key(number)) {
                Ok(found) => assert_eq!(found, written(number)),
                Err(Refusal::Unavailable(_)) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        let said = told(&alone, |trace| match trace {
            Trace::Damaged { damage } | Trace::StateDamaged { damage, .. } => {
                damage.file.kind == FileKind::Engine
            }
            _ => false,
        });
        // A body of an object that was overwritten is nobody's.
        silent += u32::from(!said);
    }
    assert!(silent < 12 && refused > 0, "{silent} of 12 were not seen, {refused} reads refused");
}

#[test]
fn a_directory_keeps_its_engine_and_refuses_another() {
    let mut alone = filled();
    alone.rest(20_000);
    alone.config.engine = Engine::Native;
    alone.reboot(|_| {});
    let why = alone.halted().expect("it is another engine").to_owned();
    assert!(why.contains("fjall") && why.contains("native") && why.contains("engine ="), "{why}");
    alone.config.engine = Engine::Fjall;
    alone.reboot(|_| {});
    assert_whole(&mut alone);
}

#[test]
fn what_looks_at_logs_says_that_there_is_an_engine() {
    let alone = filled();
    let file = FileId::new(FileKind::Superblock, 0);
    let file = alone.disk.peek(file, 0, 2 * superblock::COPY_BYTES).expect("there");
    let (_, superblock) = superblock::newest(&file).expect("good");
    let refused = Survey::new(&superblock, alone.disk.found(), &mut Vec::new());
    let Err(halt) = refused else { panic!("its records are in no log") };
    assert!(halt.reason.contains("fjall"), "{}", halt.reason);
}
