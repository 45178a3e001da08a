//! Recordings of a node's boots, which come with reports of bugs.

use crate::{Target, Verdict, le_u32, put_u32};
use bytes::Bytes;
use ironseed::recording::file::{
    self, Frame, HEAD, HEADER_BYTES, MAGIC, PREAMBLE_BYTES, REACTION, Reader, STEP, Tail,
};
use ironseed_core::codec::{self, Octets};
use ironseed_core::machine::{
    FileId, FileKind, FoundFile, Hashed, Instant, Io, IoDone, IoError, IoOp, Now,
};
use ironseed_core::node::api::{Config, Effect, Engine, Founding, FsyncPolicy, Input, Tuning};
use ironseed_core::node::message::Head as Says;
use ironseed_core::node::recording::{Head, Reaction, VERSION, encode_step};
use ironseed_core::object::api::{Answer, Request};
use ironseed_core::planted::Planted;
use ironseed_core::types::{BlobId, ClusterId, NodeId, OpId, RequestId, StoreId};

pub(super) const RECORDING: Target = Target {
    name: "recording",
    runs: 20_000,
    about: "a recording of a boot, with true checksums and without",
    seeds: || vec![recording()],
    dictionary: &[MAGIC],
    bytes_max: 8 << 10,
    // A short frame may stand for a long read of zeros.
    memory_max: 256 << 20,
    run: judge,
};

/// A step of every kind, with its reaction.
fn recording() -> Vec<u8> {
    let config = Config {
        me: NodeId(2),
        nodes: (1..=3).map(NodeId).collect(),
        shards: 8,
        replication: 3,
        lanes: 1,
        fsync: FsyncPolicy::Always,
        engine: Engine::Native,
        tuning: Tuning::default(),
        seed: 7,
        planted: Planted::NONE,
    };
    let mut bytes = file::preamble().to_vec();
    let mut append = |kind, payload: &[u8]| {
        let mut frame = Vec::new();
        file::begin_frame(&mut frame);
        frame.extend_from_slice(payload);
        file::end_frame(&mut frame, kind).expect("it is short");
        bytes.extend_from_slice(&frame);
    };
    append(HEAD, &codec::encode(&Head { program: "0.1.0".into(), config }));
    for (number, input) in inputs().into_iter().enumerate() {
        let now =
            Now { mono: Instant(number as u64), wall_earliest: 1 << 60, wall_latest: 1 << 61 };
        let mut step = Vec::new();
        encode_step(now, &input, &mut step);
        append(STEP, &step);
        let io = IoOp { op: OpId(7), io: Io::SyncDir };
        let reply = Effect::Reply { id: RequestId(3), outcome: Ok(Answer::Done) };
        let reaction = Reaction::of(&[Effect::Io(io), reply], Some(Instant(9)));
        append(REACTION, &codec::encode(&reaction));
    }
    bytes
}

fn inputs() -> Vec<Input> {
    let file = FileId::new(FileKind::Wal, 3);
    let found = Founding {
        cluster: ClusterId([9; 16]),
        access_key: "access".into(),
        secret_key: "secret".into(),
    };
    let done = |result| Input::Done { op: OpId(300), result };
    let chunk = Octets::from(vec![1; 40]);
    vec![
        Input::Boot { files: vec![FoundFile { file, bytes: 4096 }], found: Some(found) },
        Input::Message { from: NodeId(1), message: Says::Hello { store: StoreId([3; 16]) }.into() },
        Input::Request {
            id: RequestId(5),
            request: Request::WriteChunk { blob: BlobId::default(), bytes: chunk },
        },
        Input::Cancel { id: RequestId(5) },
        Input::Refused { peer: NodeId(1) },
        done(Ok(IoDone::Ok)),
        done(Ok(IoDone::Data(Bytes::from_static(b"read")))),
        done(Ok(IoDone::Hashed(Hashed::of(b"hashed")))),
        done(Err(IoError::NoSpace)),
        Input::Timer,
        Input::Stop,
    ]
}

fn judge(input: &[u8]) -> Verdict {
    let raw = read(input);
    let mut sealed = input.to_vec();
    seal(&mut sealed);
    match read(&sealed) {
        Verdict::Refused => raw,
        Verdict::Accepted => Verdict::Accepted,
    }
}

/// Magic, version and every checksum as they should be, as far as lengths lead.
fn seal(bytes: &mut [u8]) {
    if bytes.len() < PREAMBLE_BYTES {
        return;
    }
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    let mut at = PREAMBLE_BYTES;
    while at + HEADER_BYTES <= bytes.len() {
        let next = at + HEADER_BYTES + le_u32(bytes, at) as usize;
        let Some(covered) = bytes.get(at + 8..next) else { return };
        let crc = crc32fast::hash(covered);
        put_u32(bytes, at + 4, crc);
        at = next;
    }
}

fn read(input: &[u8]) -> Verdict {
    let Ok(mut reader) = Reader::open(input) else { return Verdict::Refused };
    let mut verdict = Verdict::Refused;
    loop {
        let before = reader.bytes();
        match reader.next_frame() {
            Ok(Some(frame)) => {
                assert!(reader.bytes() > before && reader.bytes() <= input.len() as u64);
                comes_back(&frame);
                verdict = Verdict::Accepted;
            }
            Ok(None) => {
                let ends_at = match reader.tail() {
                    Tail::Whole => input.len() as u64,
                    Tail::Torn(at) | Tail::Damaged(at) => at,
                };
                assert_eq!(ends_at, reader.bytes(), "{:?}", reader.tail());
                assert!(matches!(reader.next_frame(), Ok(None)), "an end is an end");
                return verdict;
            }
            Err(_) => return Verdict::Refused,
        }
    }
}

/// What is read means what is written.
fn comes_back(frame: &Frame) {
    match frame {
        Frame::Step(now, input) => {
            let mut bytes = Vec::new();
            encode_step(*now, input, &mut bytes);
            let again = ironseed_core::node::recording::decode_step(&bytes);
            assert_eq!(again.as_ref(), Ok(&(*now, input.clone())));
        }
        Frame::Reaction(reaction) => {
            let again = codec::decode::<Reaction>(&codec::encode(reaction));
            assert_eq!(again.as_ref(), Ok(reaction));
        }
    }
}
