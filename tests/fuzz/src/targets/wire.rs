//! The node port: frames, the handshake, and the messages inside.

use crate::{Target, Verdict, le_u32};
use bytes::Bytes;
use ironseed::config::Secret;
use ironseed::net::Channel;
use ironseed::net::frame::{self, HEADER_BYTES, Header, Kind, MEMBER};
use ironseed::net::handshake::{Credentials, HandshakeError};
use ironseed_core::codec::{self, Octets};
use ironseed_core::kv::snapshot::SnapshotRecord;
use ironseed_core::node::message::{Ask, Beat, CallId, Head, PeerMessage, Query, ReadIndex, Reply};
use ironseed_core::node::support::Support;
use ironseed_core::object::api::{Answer, ListObjects, Refusal, Request};
use ironseed_core::object::layout::{Layout, Placed};
use ironseed_core::raft;
use ironseed_core::types::{
    ClusterId, GroupId, Incarnation, Index, NodeId, Position, ShardId, StoreId, Term, Timestamp,
    Version,
};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

pub(super) const PEER_MESSAGE: Target = Target {
    name: "peer-message",
    runs: 60_000,
    about: "a message between nodes: length of the head, head, body",
    seeds: || messages().iter().map(split).collect(),
    dictionary: &[],
    bytes_max: 16 << 10,
    memory_max: 64 << 20,
    run: peer_message,
};

/// One message of every shape that has another one inside.
fn messages() -> Vec<PeerMessage> {
    let position = Position { index: Index(7), term: Term(3) };
    let call = CallId { incarnation: Incarnation(2), number: 9 };
    let octets = |bytes: &[u8]| Octets(Bytes::copy_from_slice(bytes));
    let entry = |payload| raft::Entry { position, payload };
    let append = raft::Message {
        term: Term(3),
        incarnation: Incarnation(2),
        body: raft::Body::Append {
            prev: position,
            entries: vec![
                entry(raft::Payload::Command(octets(b"command"))),
                entry(raft::Payload::Noop),
                entry(raft::Payload::Configure(raft::Configuration::founding(&[NodeId(2)]).into())),
            ],
            commit_index: Index(6),
        },
    };
    let vote = raft::Message {
        term: Term(3),
        incarnation: Incarnation(2),
        body: raft::Body::VoteReply {
            pre: true,
            campaign: Term(4),
            ballot: raft::Ballot::Conditional,
        },
    };
    let list = Request::ListObjects(ListObjects {
        bucket: "bucket".into(),
        prefix: "pre".into(),
        delimiter: Some("/".into()),
        from: Default::default(),
        limit: 1000,
    });
    let record = SnapshotRecord {
        key: octets(b"key"),
        version: Version(4),
        committed: Timestamp(5),
        head: octets(b"head"),
        body: octets(&[7; 40]),
    };
    let group = GroupId(5);
    let placed = Placed {
        voters: vec![NodeId(1), NodeId(2), NodeId(4)],
        from: vec![NodeId(1), NodeId(2), NodeId(3)],
        whole: vec![NodeId(1)],
        change: 8,
    };
    let layout = Layout { version: 8, placed: [(ShardId(4), placed)].into() };
    let heads = [
        Head::Beat(Beat {
            incarnation: Incarnation(1),
            wall: u64::MAX / 2,
            store: StoreId([3; 16]),
            charter: 7,
            layout: 8,
        }),
        Head::Hello { store: StoreId([3; 16]) },
        Head::Layout { cluster: ClusterId([4; 16]), layout },
        Head::Raft(vec![(group, append), (GroupId(0), vote)]),
        Head::Call {
            call,
            group,
            ask: Ask::Read(Query::Client { bucket: None, request: Box::new(list) }),
        },
        Head::Return { call, group, answer: Reply::Refused(Refusal::Unavailable("why".into())) },
        Head::Return { call, group, answer: Reply::Outcome(Box::new(Ok(Answer::Done))) },
        Head::SnapshotPull { group, position, after: Some(octets(b"after")) },
        Head::SnapshotSlice { group, position, after: None, records: vec![record] },
        Head::SupportQuery { round: call },
        Head::IndexQuery {
            question: call,
            support: Support { incarnation: Incarnation(1), epoch: 3 },
            groups: vec![group, GroupId(0)],
        },
        Head::IndexReply {
            question: call,
            indexes: vec![
                (group, Some(ReadIndex { term: Term(2), index: Index(9) })),
                (GroupId(0), None),
            ],
        },
        Head::SupportReply {
            round: call,
            support: Support { incarnation: Incarnation(1), epoch: 3 },
        },
    ];
    let mut messages: Vec<PeerMessage> = heads.into_iter().map(PeerMessage::from).collect();
    let body = Bytes::from_static(b"a chunk, or what is left of one");
    messages.push(PeerMessage { head: Head::ChunkFound { call }, body });
    messages
}

fn split(message: &PeerMessage) -> Vec<u8> {
    let (head, body) = message.encode();
    [&(head.len() as u16).to_le_bytes(), head.as_slice(), &body].concat()
}

fn peer_message(input: &[u8]) -> Verdict {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return Verdict::Refused };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (head, body) = rest.split_at(length);
    decode(head, Bytes::copy_from_slice(body))
}

/// What is decoded comes back as it is encoded, and takes no more bytes than it came in.
fn decode(head: &[u8], body: Bytes) -> Verdict {
    let Ok(message) = PeerMessage::decode(head, body) else { return Verdict::Refused };
    let (encoded, body) = message.encode();
    assert!(encoded.len() <= head.len(), "{} bytes from {}", encoded.len(), head.len());
    assert_eq!(PeerMessage::decode(&encoded, body), Ok(message));
    let mut longer = encoded;
    longer.push(0);
    assert!(codec::decode::<Head>(&longer).is_err(), "a byte more was not seen");
    Verdict::Accepted
}

pub(super) const NODE_PORT: Target = Target {
    name: "node-port",
    runs: 6000,
    about: "bytes on the node port, from a stranger and from a member, with true checksums and without",
    seeds: || {
        let hello = HelloOnWire { from: 1, to: 2, nonce: [5; 32] }.encode();
        let mut streams = vec![
            framed(Kind::Hello, &hello, b""),
            [framed(Kind::Hello, &hello, b""), framed(Kind::Proof, &[9; 32], b"")].concat(),
            [framed(Kind::Challenge, &[0; 33], b""), framed(Kind::Welcome, &[9; 32], b"")].concat(),
            [framed(Kind::Challenge, &[0; 33], b""), framed(Kind::Refusal, &[1], b"")].concat(),
        ];
        for message in messages() {
            let (head, body) = message.encode();
            streams.push(framed(Kind::Message, &head, &body));
        }
        streams
    },
    dictionary: &[b"GET / HTTP/1.1\r\n\r\n"],
    bytes_max: 8 << 10,
    // Head and body of one frame at their limits.
    memory_max: 48 << 20,
    run: node_port,
};

/// Hello as it is on the wire: a format of docs/formats.md, written down once more.
struct HelloOnWire {
    from: u8,
    to: u8,
    nonce: [u8; 32],
}

impl HelloOnWire {
    fn encode(&self) -> Vec<u8> {
        // Channel control, no cluster known.
        [&[self.from, self.to, 0, 0], self.nonce.as_slice()].concat()
    }
}

fn framed(kind: Kind, head: &[u8], body: &[u8]) -> Vec<u8> {
    [&frame::header(kind, head, body), head, body].concat()
}

fn node_port(input: &[u8]) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let sealed = reseal(input);
    runtime.block_on(async {
        for bytes in [input, &sealed] {
            knock(bytes).await;
        }
        // Frame by frame, as from a member that has proved itself.
        let raw = frames(input).await;
        match frames(&sealed).await {
            Verdict::Refused => raw,
            Verdict::Accepted => Verdict::Accepted,
        }
    })
}

/// Gives every frame of the input true checksums and, where its lengths go too far, lengths that fit.
fn reseal(input: &[u8]) -> Vec<u8> {
    let (mut rest, mut sealed) = (input, Vec::with_capacity(input.len()));
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let head = (le_u32(header, 0) as usize).min(after.len());
        let body = (le_u32(header, 4) as usize).min(after.len() - head);
        let (head, after) = after.split_at(head);
        let (body, after) = after.split_at(body);
        let mut header = frame::header(Kind::Message, head, body);
        header[8] = rest[8];
        let crc = crc32fast::hash(&header[..20]);
        header[20..].copy_from_slice(&crc.to_le_bytes());
        sealed.extend_from_slice(&[header.as_slice(), head, body].concat());
        rest = after;
    }
    sealed
}

/// Nobody gets in by saying anything that does not rest on the secret, on either side of a connection.
async fn knock(bytes: &[u8]) {
    let credentials = |me| {
        let members = BTreeSet::from([NodeId(1), NodeId(2)]);
        let secret = Secret::new(b"a secret of thirty-two characters".to_vec());
        let (_, cluster) = watch::channel(Some(ClusterId([7; 16])));
        Credentials::new(NodeId(me), members, &secret, cluster)
    };
    let (mut near, mut far) = tokio::io::duplex(64 << 10);
    near.write_all(bytes).await.expect("there is room for it");
    near.shutdown().await.expect("it is open");
    let accepted = credentials(2).accept(&mut far).await;
    assert!(
        matches!(accepted, Err(HandshakeError::Frame(_) | HandshakeError::WrongSecret)),
        "{accepted:?}"
    );
    drop(far);
    let mut said = Vec::new();
    near.read_to_end(&mut said).await.expect("it is closed");
    assert!(said.len() <= 256, "{} bytes for a stranger", said.len());

    let (mut near, mut far) = tokio::io::duplex(64 << 10);
    near.write_all(bytes).await.expect("there is room for it");
    near.shutdown().await.expect("it is open");
    let dialled = credentials(1).dial(&mut far, NodeId(2), Channel::Control).await;
    assert!(dialled.is_err(), "taken for a member");
}

async fn frames(input: &[u8]) -> Verdict {
    let (mut stream, mut verdict) = (input, Verdict::Refused);
    loop {
        let before = stream;
        let Ok(Some(header)) = Header::read(&mut stream, MEMBER).await else { return verdict };
        let Ok((head, body)) = header.read_rest(&mut stream).await else { return verdict };
        let taken = &before[..before.len() - stream.len()];
        assert_eq!(framed(header.kind, &head, &body), taken, "read otherwise than it is written");
        flipped(taken).await;
        if header.kind == Kind::Message {
            match decode(&head, body) {
                Verdict::Accepted => verdict = Verdict::Accepted,
                Verdict::Refused => return verdict,
            }
        }
    }
}

/// No flipped bit of a good frame passes.
async fn flipped(frame: &[u8]) {
    let mut flipped = frame.to_vec();
    let at = crc32fast::hash(frame) as usize % (frame.len() * 8);
    flipped[at / 8] ^= 1 << (at % 8);
    let mut stream = flipped.as_slice();
    if let Ok(Some(header)) = Header::read(&mut stream, MEMBER).await {
        assert!(
            header.read_rest(&mut stream).await.is_err(),
            "bit {at} flipped, and nobody saw it"
        );
    }
}
