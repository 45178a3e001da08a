//! A node that boots from damaged files: it serves, refuses or halts with a reason, and never answers
//! wrong bytes.

use crate::alone::{Alone, octets, read_file, remove_file, write_file};
use crate::{Target, Verdict};
use ironseed_core::kv::api::{Expect, KvAnswer, KvRequest};
use ironseed_core::machine::FileId;
use ironseed_core::node::status::Phase;
use ironseed_core::object::api::{Answer, Refusal, Request};
use ironseed_sim::disk::Disk;
use std::collections::BTreeSet;
use std::sync::OnceLock;

pub(super) const STORE: Target = Target {
    name: "store",
    runs: 150,
    about: "edits of eight bytes (file, what, where: 3, value, length: 2) on the files of a node that then boots",
    seeds: || {
        let edit = |file: u8, what: u8, at: u32, value: u8, length: u16| {
            let (at, length) = (at.to_le_bytes(), length.to_le_bytes());
            [file, what, at[0], at[1], at[2], value, length[0], length[1]].to_vec()
        };
        let mut seeds: Vec<Vec<u8>> = vec![Vec::new()];
        for file in 0..5 {
            seeds.push(edit(file, FLIP, 4096 + 70, 3, 0));
            seeds.push(edit(file, FILL, 9000, 0, 600));
            seeds.push(edit(file, COPY, 8192, 1, 4096));
            seeds.push(edit(file, CUT, 20_000, 0, 0));
            seeds.push(edit(file, REMOVE, 0, 0, 0));
        }
        seeds.push([edit(1, FLIP, 5000, 1, 0), edit(2, FLIP, 5000, 1, 0)].concat());
        seeds
    },
    dictionary: &[],
    bytes_max: 64,
    memory_max: 256 << 20,
    run: store,
};

const FLIP: u8 = 0;
const FILL: u8 = 1;
const COPY: u8 = 2;
const CUT: u8 = 3;
const REMOVE: u8 = 4;
const KINDS: u8 = 5;

/// What one disk block or sector can take with it.
const BLOCK_BYTES: usize = 4096;
const KV_KEYS: u8 = 6;
const BUCKET: &str = "bucket";
const OBJECTS: &[(&str, usize)] = &[("inline", 3_000), ("chunked", 50_000)];

/// A node with values and objects of which some are in its state on disk and some in its log only.
fn filled() -> &'static Alone {
    static FILLED: OnceLock<Alone> = OnceLock::new();
    FILLED.get_or_init(|| {
        let mut alone = Alone::founded("access", "secret");
        let made = alone.ask(Request::CreateBucket { bucket: BUCKET.into() });
        assert!(made.is_ok(), "{made:?}");
        for key in 0..KV_KEYS {
            assert!(put_value(&mut alone, key, 0));
        }
        for (key, bytes) in OBJECTS {
            alone.put(BUCKET, key, &body(key, *bytes)).expect("nothing is wrong yet");
        }
        // Two checkpoints: what was written so far is in the table log, durably.
        alone.rest(1_500);
        for key in 0..KV_KEYS / 2 {
            assert!(put_value(&mut alone, key, 1));
        }
        // For the sync mark.
        alone.rest(20);
        alone
    })
}

/// The value of a key after so many rewrites.
fn value(key: u8, rewrite: u8) -> Vec<u8> {
    (0..700_u32).map(|at| (at as u8).wrapping_mul(7) ^ key.wrapping_mul(31) ^ rewrite).collect()
}

/// How often a key was rewritten in [`filled`].
fn rewrites(key: u8) -> u8 {
    u8::from(key < KV_KEYS / 2)
}

fn body(key: &str, bytes: usize) -> Vec<u8> {
    let seed = crc32fast::hash(key.as_bytes());
    (0..bytes as u32).map(|at| (at.wrapping_mul(2_654_435_761) ^ seed).to_le_bytes()[3]).collect()
}

fn put_value(alone: &mut Alone, key: u8, rewrite: u8) -> bool {
    let (key, value) = (octets(&[key]), octets(&value(key, rewrite)));
    let put = KvRequest::Put { key, value, expect: Expect::Any };
    matches!(alone.ask(Request::Kv(put)), Ok(Answer::Kv(KvAnswer::Written { .. })))
}

/// A key's value; `None` if the node says that there is none.
fn get_value(alone: &mut Alone, key: u8) -> Result<Option<Vec<u8>>, String> {
    match alone.ask(Request::Kv(KvRequest::Get { key: octets(&[key]) })) {
        Ok(Answer::Kv(KvAnswer::Value(entry))) => Ok(entry.map(|entry| entry.value.0.to_vec())),
        Err(Refusal::Unavailable(why)) if !why.is_empty() => Err(why),
        other => panic!("key {key} answered {other:?}"),
    }
}

/// What was done to a disk: which blocks of which files are not what they were.
#[derive(Debug, Default)]
struct Damage(BTreeSet<(FileId, usize)>);

impl Damage {
    /// Damage at one place is always told from what a power loss leaves. Where it takes a record and every
    /// mark that says it was synced, nobody can tell.
    fn is_narrow(&self) -> bool {
        self.0.len() <= 1
    }
}

fn store(input: &[u8]) -> Verdict {
    let mut alone = filled().clone();
    let mut damage = Damage::default();
    alone.reboot(|disk| {
        for edit in input.chunks_exact(8) {
            apply(disk, edit, &mut damage);
        }
    });
    if let Some(reason) = alone.halted() {
        assert!(!reason.is_empty());
        assert!(!damage.0.is_empty(), "halted over nothing: {reason}");
        return Verdict::Refused;
    }
    // A store that has lost everything that says whose it is waits for a founder.
    if alone.phase() == Phase::Waiting && !damage.is_narrow() {
        return Verdict::Refused;
    }
    assert_eq!(alone.phase(), Phase::Serving, "{damage:?}");
    let served = read_everything(&mut alone, &damage);
    write_and_reboot(alone, &damage);
    if served { Verdict::Accepted } else { Verdict::Refused }
}

/// Whether everything is there; whatever is not is refused, or was lost with all that spoke of it.
fn read_everything(alone: &mut Alone, damage: &Damage) -> bool {
    let mut served = true;
    for key in 0..KV_KEYS {
        let newest = value(key, rewrites(key));
        match get_value(alone, key) {
            Ok(Some(found)) if found == newest => {}
            Ok(Some(found)) => {
                let older = !damage.is_narrow() && found == value(key, 0);
                assert!(older, "key {key} has {} other bytes: {damage:?}", found.len());
                served = false;
            }
            Ok(None) => {
                assert!(!damage.is_narrow(), "key {key} is gone without a word: {damage:?}");
                served = false;
            }
            Err(_) => served = false,
        }
    }
    for (key, bytes) in OBJECTS {
        match alone.get(BUCKET, key) {
            Ok(Some(found)) => {
                let right = found == body(key, *bytes);
                assert!(right, "{key} has {} other bytes: {damage:?}", found.len());
            }
            Ok(None) => {
                assert!(!damage.is_narrow(), "{key} is gone without a word: {damage:?}");
                served = false;
            }
            Err(_) => served = false,
        }
    }
    served
}

/// What a node acknowledges after the damage is there after its next boot.
fn write_and_reboot(mut alone: Alone, damage: &Damage) {
    let written: Vec<u8> = (0..KV_KEYS).filter(|key| put_value(&mut alone, *key, 9)).collect();
    alone.reboot(|_| {});
    assert_eq!(alone.phase(), Phase::Serving, "{:?} after {damage:?}", alone.halted());
    for key in written {
        let found = get_value(&mut alone, key);
        assert_eq!(found, Ok(Some(value(key, 9))), "key {key} was acknowledged after {damage:?}");
    }
}

/// One edit of a file.
fn apply(disk: &mut Disk, edit: &[u8], damage: &mut Damage) {
    let files = disk.found();
    if files.is_empty() {
        return;
    }
    let found = files[usize::from(edit[0]) % files.len()];
    let file = found.file;
    let mut bytes = read_file(disk, file, found.bytes);
    let whole = bytes.clone();
    // What was never written is not worth damaging.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let used = used.next_multiple_of(BLOCK_BYTES).min(bytes.len());
    if used == 0 {
        return;
    }
    let at = u32::from_le_bytes([edit[2], edit[3], edit[4], 0]) as usize % used;
    let length = usize::from(u16::from_le_bytes([edit[6], edit[7]])).max(1).min(used - at);
    match edit[1] % KINDS {
        FLIP => bytes[at] ^= 1 << (edit[5] % 8),
        FILL => bytes[at..at + length].fill(edit[5]),
        // A block that was written to the wrong place.
        COPY => {
            let from = usize::from(edit[5]) * BLOCK_BYTES % used;
            let to = at / BLOCK_BYTES * BLOCK_BYTES;
            let length = length.min(used - from).min(used - to);
            bytes.copy_within(from..from + length, to);
        }
        CUT => bytes.truncate(at),
        _ => {
            remove_file(disk, file);
            damage.0.extend([(file, 0), (file, 1)]);
            return;
        }
    }
    if bytes == whole {
        return;
    }
    if bytes.len() < whole.len() {
        damage.0.extend([(file, 0), (file, 1)]);
    }
    let differ =
        |(place, (old, new)): (usize, (&[u8], &[u8]))| (old != new).then_some((file, place));
    let blocks = whole.chunks(BLOCK_BYTES).zip(bytes.chunks(BLOCK_BYTES)).enumerate();
    damage.0.extend(blocks.filter_map(differ));
    write_file(disk, file, &bytes);
}
