use super::*;
use crate::codec::Octets;
use crate::machine::{FileId, FileKind, FoundFile, Halt, Hashed, Io, IoDone, IoError, IoOp};
use crate::node::api::{Engine, Founding, FsyncPolicy, Tuning};
use crate::node::message::{CallId, Head as Says, PeerMessage};
use crate::node::trace::Trace;
use crate::object::api::{Answer, Refusal, Request};
use crate::planted::Planted;
use crate::types::{
    BlobId, ChunkHash, ChunkId, ClusterId, Incarnation, NodeId, OpId, RequestId, StoreId,
};
use alloc::vec;
use bytes::Bytes;

/// As a piece of the same length whose last byte is 1.
const LAST_DIFFERS: [u8; 5000] = {
    let mut bytes = [1; 5000];
    bytes[4999] = 2;
    bytes
};
const FILE: FileId = FileId::new(FileKind::Wal, 3);

fn head() -> Head {
    let config = Config {
        me: NodeId(1),
        nodes: vec![NodeId(1)],
        shards: 4,
        replication: 1,
        lanes: 1,
        fsync: FsyncPolicy::Interval(crate::machine::Duration(5)),
        engine: Engine::Native,
        tuning: Tuning::default(),
        seed: 77,
        planted: Planted::NONE,
    };
    Head { program: "0.1.0".into(), config }
}

fn chunk_message(body: &'static [u8]) -> PeerMessage {
    let call = CallId { incarnation: Incarnation(2), number: 9 };
    let chunk = ChunkId { blob: BlobId::default(), hash: ChunkHash::of(b"x") };
    PeerMessage { head: Says::StoreChunk { call, chunk }, body: Bytes::from_static(body) }
}

/// One of every kind.
fn inputs() -> Vec<Input> {
    let found = Founding {
        cluster: ClusterId([7; 16]),
        access_key: "access".into(),
        secret_key: "secret".into(),
    };
    let done = |result| Input::Done { op: OpId(300), result };
    vec![
        Input::Boot { files: vec![FoundFile { file: FILE, bytes: 4096 }], found: Some(found) },
        Input::Message { from: NodeId(2), message: chunk_message(b"body") },
        Input::Request {
            id: RequestId(5),
            request: Request::WriteChunk {
                blob: BlobId::default(),
                bytes: Octets::from(vec![1; 9]),
            },
        },
        Input::Cancel { id: RequestId(5) },
        done(Ok(IoDone::Ok)),
        done(Ok(IoDone::Data(Bytes::from_static(b"read")))),
        done(Ok(IoDone::Data(Bytes::new()))),
        done(Ok(IoDone::Data(vec![0; 5000].into()))),
        done(Ok(IoDone::Hashed(Hashed::of(b"hashed")))),
        done(Err(IoError::Device)),
        Input::Timer,
        Input::Stop,
        Input::Refused { peer: NodeId(2) },
    ]
}

/// Each differs from its neighbours in one thing that it carries.
fn effects() -> Vec<Effect> {
    let io = |io| Effect::Io(IoOp { op: OpId(1), io });
    let other = FileId::new(FileKind::Wal, 4);
    let write = |offset, data: &[&'static [u8]]| {
        let data = data.iter().map(|piece| Bytes::from_static(piece)).collect();
        io(Io::Write { file: FILE, offset, data })
    };
    let send = |to, message| Effect::Send { to: NodeId(to), message };
    let hello = |store| PeerMessage::from(Says::Hello { store: StoreId([store; 16]) });
    let reply = |id, outcome| Effect::Reply { id: RequestId(id), outcome };
    vec![
        io(Io::Create { file: FILE, bytes: 1 }),
        io(Io::Create { file: FILE, bytes: 2 }),
        io(Io::Create { file: other, bytes: 1 }),
        Effect::Io(IoOp { op: OpId(2), io: Io::Create { file: FILE, bytes: 1 } }),
        write(0, &[b"ab", b"c"]),
        write(0, &[b"a", b"bc"]),
        write(0, &[b"ab", b"d"]),
        write(1, &[b"ab", b"c"]),
        // The last byte of a piece that is hashed apart from the others.
        write(0, &[&[1; 5000]]),
        write(0, &[&LAST_DIFFERS]),
        io(Io::Sync { file: FILE }),
        io(Io::Sync { file: other }),
        io(Io::Remove { file: FILE }),
        io(Io::Read { file: FILE, offset: 0, len: 9 }),
        io(Io::Read { file: FILE, offset: 0, len: 8 }),
        io(Io::Rename { from: FILE, to: other }),
        io(Io::Rename { from: other, to: FILE }),
        io(Io::SyncDir),
        Effect::Io(IoOp { op: OpId(2), io: Io::SyncDir }),
        Effect::Hash { op: OpId(1), bytes: Bytes::from_static(b"x") },
        Effect::Hash { op: OpId(1), bytes: Bytes::from_static(b"y") },
        send(2, hello(1)),
        send(3, hello(1)),
        send(2, hello(2)),
        send(2, chunk_message(b"body")),
        send(2, chunk_message(b"bodx")),
        reply(1, Ok(Answer::Done)),
        reply(2, Ok(Answer::Done)),
        reply(1, Err(Refusal::Busy)),
        Effect::Trace(Trace::DiskFull(true)),
        Effect::Trace(Trace::DiskFull(false)),
        Effect::Stopped,
        Effect::Halt(Halt { reason: "x".into() }),
        Effect::Halt(Halt { reason: "y".into() }),
    ]
}

#[test]
fn what_is_recorded_comes_back() {
    assert_eq!(codec::decode::<Head>(&codec::encode(&head())), Ok(head()));
    let now = Now { mono: Instant(1), wall_earliest: 2, wall_latest: 30_000 };
    for input in inputs() {
        let mut bytes = Vec::new();
        encode_step(now, &input, &mut bytes);
        assert_eq!(decode_step(&bytes), Ok((now, input.clone())));
        for cut in 0..bytes.len() {
            assert!(decode_step(bytes.get(..cut).unwrap_or_default()).is_err(), "{input:?}");
        }
        bytes.push(0);
        assert_eq!(decode_step(&bytes), Err(DecodeError::Trailing), "{input:?}");
    }
    let reaction = Reaction::of(&effects(), Some(Instant(9)));
    assert_eq!(codec::decode::<Reaction>(&codec::encode(&reaction)), Ok(reaction));
}

/// Recordings outlive the program that made them only if these stay.
#[test]
fn the_bytes_are_those_of_the_format() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| alloc::format!("{b:02x}")).collect::<String>();
    let now = Now { mono: Instant(1), wall_earliest: 2, wall_latest: 3 };
    let mut lines: Vec<String> = inputs()
        .iter()
        .map(|input| {
            let mut bytes = Vec::new();
            encode_step(now, input, &mut bytes);
            hex(&bytes)
        })
        .collect();
    lines.push(hex(&codec::encode(&head())));
    lines.push(hex(&codec::encode(&Reaction::of(&effects(), None))));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_read_of_any_length_comes_back_and_zeros_at_its_end_cost_nothing() {
    let read = |bytes: &[u8]| Input::Done {
        op: OpId(1),
        result: Ok(IoDone::Data(Bytes::copy_from_slice(bytes))),
    };
    for len in [0, 1, 4095, 4096, 4097, 8192, 10_000] {
        for written in [0, 1, 4095, 4096, 4097, 8191, 8192, 10_000] {
            let mut bytes = vec![0; len];
            bytes.iter_mut().take(written).skip(written.saturating_sub(1)).for_each(|b| *b = 7);
            let mut encoded = Vec::new();
            encode_step(Now::default(), &read(&bytes), &mut encoded);
            assert_eq!(decode_step(&encoded), Ok((Now::default(), read(&bytes))));
            let blocks = written.min(len).div_ceil(4096) * 4096;
            assert!(encoded.len() < 20 + blocks, "{len} bytes, {written} written");
        }
    }
    let claims = |len: u64, start: &[u8]| {
        let mut encoded = codec::encode(&(Now::default(), 5_u8, OpId(1), len));
        encoded.extend(codec::encode(&start.to_vec()));
        decode_step(&encoded).is_ok()
    };
    assert!(claims(3, b"abc") && claims(4, b"abc"));
    assert!(!claims(2, b"abc") && !claims(u64::MAX, b"abc") && !claims(65 << 20, b""));
}

#[test]
fn no_two_effects_have_the_same_print() {
    let effects = effects();
    for (index, one) in effects.iter().enumerate() {
        for (other_index, other) in effects.iter().enumerate() {
            let same = Print::of(one) == Print::of(other);
            assert_eq!(same, index == other_index, "{one:?} and {other:?}");
        }
    }
}

#[test]
fn the_first_difference_is_named() {
    let effects = effects();
    let reaction = |range: core::ops::Range<usize>, deadline: u64| {
        Reaction::of(effects.get(range).unwrap_or_default(), Some(Instant(deadline)))
    };
    let said =
        |one: &Reaction, other: &Reaction| one.compare(other).map_err(|d| alloc::format!("{d}"));
    assert_eq!(said(&reaction(0..4, 1), &reaction(0..4, 1)), Ok(()));
    let mut other = reaction(0..4, 1);
    other.effects.swap(1, 2);
    let words = "effect 2 is a creation of a file with other content";
    assert_eq!(said(&reaction(0..4, 1), &other), Err(words.into()));
    let words = "effect 1 is a write, recorded was a creation of a file";
    assert_eq!(said(&reaction(0..1, 1), &reaction(4..5, 1)), Err(words.into()));
    let words = "there are 3 effects, recorded were 4";
    assert_eq!(said(&reaction(0..4, 1), &reaction(0..3, 1)), Err(words.into()));
    let words = "the deadline is Some(0.000002ms), recorded was Some(0.000001ms)";
    assert_eq!(said(&reaction(0..4, 1), &reaction(0..4, 2)), Err(words.into()));
}
