//! The replicated state: commands out of a group's log, and frames out of the table log.

use crate::alone::octets;
use crate::{Target, Verdict};
use ironseed_core::kv::api::Expect;
use ironseed_core::kv::batch::{Roster, Seat};
use ironseed_core::kv::command::{
    COMMAND_BYTES_MAX, Command, KvWrite, MEANING_FIRST, MEANING_LATEST, Op, SessionId, SessionTag,
};
use ironseed_core::kv::frame::{Frame, Place};
use ironseed_core::kv::replay::Replay;
use ironseed_core::kv::state::State;
use ironseed_core::object::api::{
    Attributes, Condition, Content, ETag, NewObject, NewPart, StagedChunk,
};
use ironseed_core::object::command::{ObjectOp, Target as Place0};
use ironseed_core::object::registry::RegistryOp;
use ironseed_core::planted::Planted;
use ironseed_core::types::{
    BlobId, Boot, BucketId, ChunkHash, Epoch, GroupId, Incarnation, Index, NodeId, Position,
    ShardId, Term,
};
use std::sync::{Arc, OnceLock};

pub(super) const COMMAND: Target = Target {
    name: "command",
    runs: 3000,
    about: "a command of a group's log; what is decoded is applied, twice alike, and its frame replays",
    seeds: || commands().into_iter().map(|op| encoded(op, true)).collect(),
    dictionary: &[],
    bytes_max: 8 << 10,
    memory_max: 64 << 20,
    run: command,
};

const META: GroupId = GroupId(0);
const SHARD: GroupId = GroupId(1);
const SESSION: SessionId = SessionId { node: NodeId(1), incarnation: Incarnation(1) };

fn seat(group: GroupId) -> Seat {
    let roster = Arc::new(Roster::founding(&[NodeId(1), NodeId(2), NodeId(3)]));
    Seat { group, roster, planted: Planted::NONE }
}

fn encoded(op: Op, in_session: bool) -> Vec<u8> {
    let tag = SessionTag { session: SESSION, seq: 40, first_incomplete: 30 };
    let session = in_session.then_some(tag);
    let command = Command { meaning: MEANING_FIRST, wall: 1_700_000_000_000_000_000, session, op };
    command.encode().expect("it is short").to_vec()
}

/// Commands of every kind. The first ones make what the others are about.
fn commands() -> Vec<Op> {
    let place = || Place0 { bucket: BucketId(7), epoch: Epoch(1), key: "a key".into() };
    let md5 = [7; 16];
    let object = |content, bytes| NewObject {
        attributes: Attributes {
            headers: vec![("content-type".into(), "text/plain".into())],
            metadata: vec![("name".into(), "value".into())],
            tags: vec![("tag".into(), "value".into())],
            ..Attributes::default()
        },
        bytes,
        etag: ETag { md5, parts: 0 },
        content,
    };
    let inline = || Content::Inline(octets(b"inline"));
    let key = || octets(b"a key");
    // Blobs and uploads are named by the index of the command that makes them: the fourth and the fifth.
    let blob = |index| BlobId { home: ShardId(0), opened: Index(index) };
    let boot = |node| Boot { node: NodeId(node), incarnation: Incarnation(1) };
    let chunk =
        StagedChunk { hash: ChunkHash([3; 32]), bytes: 20_000, holders: vec![boot(1), boot(3)] };
    let part = NewPart { bytes: 6, md5, checksum: None, content: inline() };
    let ops = [
        ObjectOp::InstallBucket { bucket: BucketId(7), epoch: Epoch(1) },
        ObjectOp::OpenBlob { target: place() },
        ObjectOp::CreateUpload { target: place(), attributes: Attributes::default() },
        ObjectOp::PutPart { target: place(), upload: blob(5), number: 1, part },
        ObjectOp::AppendExtent { blob: blob(4), seq: 0, chunks: vec![chunk] },
        ObjectOp::Put {
            target: place(),
            object: object(inline(), 6),
            condition: Condition::Absent,
        },
        ObjectOp::Put {
            target: place(),
            object: object(Content::Blob(blob(4)), 20_000),
            condition: Condition::Is(ETag { md5, parts: 0 }),
        },
        ObjectOp::PutTags { target: place(), tags: vec![("tag".into(), "other".into())] },
        ObjectOp::Complete {
            target: place(),
            upload: blob(5),
            parts: vec![ironseed_core::object::api::NamedPart { number: 1, md5 }],
            checksum: None,
            condition: Condition::None,
        },
        ObjectOp::Abort { target: place(), upload: blob(5) },
        ObjectOp::Collect { blob: blob(5), items: 10 },
        ObjectOp::DropBlob { blob: blob(4) },
        ObjectOp::Delete { target: place(), condition: Condition::None },
        ObjectOp::FenceBucket { bucket: BucketId(7), epoch: Epoch(2) },
    ];
    let mut all = vec![
        Op::OpenSession { session: SESSION },
        Op::Kv(KvWrite::Put { key: key(), value: octets(&[1; 100]), expect: Expect::Any }),
    ];
    all.extend(ops.map(Op::Object));
    all.extend([
        Op::Kv(KvWrite::Delete { key: key(), expect: Expect::Absent }),
        Op::ExpireSessions { sessions: vec![SESSION] },
        Op::Activate { meaning: MEANING_LATEST },
        Op::Registry(RegistryOp::CreateBucket { bucket: "bucket".into() }),
        Op::Registry(RegistryOp::DeleteBucket { bucket: "bucket".into() }),
    ]);
    all
}

/// A state with something of everything, and the frames that it was written as.
#[derive(Clone)]
struct Filled {
    state: State,
    frames: Vec<Frame>,
}

impl Filled {
    fn new(group: GroupId) -> Self {
        let mut filled = Self { state: State::new(seat(group)), frames: Vec::new() };
        // Without what would take it apart again.
        for op in commands().into_iter().take(7) {
            filled.apply(&encoded(op, false));
        }
        filled
    }

    fn apply(&mut self, command: &[u8]) -> u128 {
        let last = self.state.mark().position;
        let position = Position { index: last.index.next(), term: Term(1) };
        self.state.apply(position, command);
        self.frames.extend(self.state.take_frame());
        self.state.state_hash()
    }

    /// The state that the frames alone give.
    fn replayed(&self) -> State {
        let mut replay = Replay::new(self.state.seat().clone());
        for (number, frame) in self.frames.iter().enumerate() {
            let place = Place { segment: 1, offset: number as u64 * (1 << 20) };
            let pushed = replay.push(place, &frame.payload.concat());
            assert!(pushed.is_ok(), "frame {number} of our own: {pushed:?}");
        }
        replay.finish().unwrap_or_else(|broken| panic!("our own frames: {broken:?}"))
    }
}

fn filled(group: GroupId) -> Filled {
    static STATES: OnceLock<[Filled; 2]> = OnceLock::new();
    let states = STATES.get_or_init(|| [Filled::new(META), Filled::new(SHARD)]);
    states[usize::from(group == SHARD)].clone()
}

fn command(input: &[u8]) -> Verdict {
    let Ok(decoded) = Command::decode(input, MEANING_LATEST) else {
        apply_everywhere(input);
        return Verdict::Refused;
    };
    let again = decoded.clone().encode().expect("no longer than it came");
    assert!(again.len() <= input.len() && again.len() <= COMMAND_BYTES_MAX);
    assert_eq!(Command::decode(&again, MEANING_LATEST), Ok(decoded));
    apply_everywhere(input);
    Verdict::Accepted
}

/// Whatever an entry holds, every replica comes to the same state, also over a restart.
fn apply_everywhere(command: &[u8]) {
    for group in [META, SHARD] {
        let (mut one, mut other) = (filled(group), filled(group));
        let hash = one.apply(command);
        assert_eq!(hash, other.apply(command), "{group:?}: two replicas differ");
        // A meaning beyond this program: nothing can be said of the state before a newer one runs.
        if one.state.stranded().is_none() {
            one.frames.extend(one.state.take_checkpoint());
            assert_eq!(one.replayed().state_hash(), hash, "{group:?}: the frames say otherwise");
        }
    }
}

pub(super) const TABLE_FRAME: Target = Target {
    name: "table-frame",
    runs: 20_000,
    about: "frames of the table log, each with its length before it, with true checksums and without",
    seeds: || {
        let frames: Vec<Vec<u8>> =
            filled(SHARD).frames.iter().map(|frame| frame.payload.concat()).collect();
        let mut seeds: Vec<Vec<u8>> = frames.iter().map(|frame| joined(&[frame])).collect();
        seeds.push(joined(&frames.iter().collect::<Vec<_>>()));
        seeds.push(joined(&frames.iter().take(3).collect::<Vec<_>>()));
        seeds
    },
    dictionary: &[],
    bytes_max: 8 << 10,
    memory_max: 64 << 20,
    run: table_frame,
};

fn joined(frames: &[&Vec<u8>]) -> Vec<u8> {
    let with_length =
        |frame: &&Vec<u8>| [&(frame.len() as u16).to_le_bytes(), frame.as_slice()].concat();
    frames.iter().flat_map(with_length).collect()
}

fn table_frame(input: &[u8]) -> Verdict {
    let (mut frames, mut rest) = (Vec::new(), input);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (frame, after) = after.split_at(length);
        frames.push(frame.to_vec());
        rest = after;
    }
    let raw = replay(&frames);
    frames.iter_mut().for_each(|frame| reseal(frame));
    match replay(&frames) {
        Verdict::Refused => raw,
        Verdict::Accepted => Verdict::Accepted,
    }
}

/// Gives a frame the version and the checksum that it should have, and a length of its head that fits.
fn reseal(frame: &mut [u8]) {
    const PREAMBLE_BYTES: usize = 9;
    let Some(room) = frame.len().checked_sub(PREAMBLE_BYTES) else { return };
    let head = (crate::le_u32(frame, 1) as usize).min(room);
    let crc = crc32fast::hash(&frame[PREAMBLE_BYTES..PREAMBLE_BYTES + head]);
    frame[0] = 1;
    frame[1..5].copy_from_slice(&(head as u32).to_le_bytes());
    frame[5..9].copy_from_slice(&crc.to_le_bytes());
}

/// Frames that are taken give a state that can be read through; those that are not say why.
fn replay(frames: &[Vec<u8>]) -> Verdict {
    let mut replay = Replay::new(seat(SHARD));
    let (mut offset, mut taken) = (4096, 0);
    for frame in frames {
        match replay.push(Place { segment: 1, offset }, frame) {
            Ok(_) => taken += 1,
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        offset += frame.len() as u64;
    }
    let Ok(state) = replay.finish() else { return Verdict::Refused };
    let _ = state.state_hash();
    let records = state.export().slice(None, usize::MAX, u64::MAX).len();
    assert_eq!(state.export().head().records, records as u64);
    if taken > 0 { Verdict::Accepted } else { Verdict::Refused }
}
