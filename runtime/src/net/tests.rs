use super::frame::{FrameError, Header, Kind, MEMBER, STRANGER};
use super::handshake::{HandshakeError, Reason};
use super::*;
use ironseed_core::codec::DecodeError;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

const SECRET: &[u8] = b"a secret that the tests share 123456";
type Received = (NodeId, Vec<u8>, Bytes);

#[derive(Clone)]
struct Inbox(mpsc::UnboundedSender<Received>, mpsc::UnboundedSender<NodeId>);

impl Deliver for Inbox {
    fn deliver(
        &self,
        from: NodeId,
        head: &[u8],
        body: Bytes,
        _room: OwnedSemaphorePermit,
    ) -> Result<(), DecodeError> {
        if head == b"malformed" {
            return Err(DecodeError::Malformed);
        }
        let _ = self.0.send((from, head.to_vec(), body));
        Ok(())
    }

    fn refused(&self, peer: NodeId) {
        let _ = self.1.send(peer);
    }
}

fn cluster(id: Option<u8>) -> watch::Receiver<Option<ClusterId>> {
    watch::channel(id.map(|id| ClusterId([id; 16]))).1
}

fn credentials(me: u32, members: &[u32], secret: &[u8], id: Option<u8>) -> Credentials {
    let members = members.iter().copied().map(NodeId).collect();
    Credentials::new(NodeId(me), members, &Secret::new(secret.to_vec()), cluster(id))
}

/// What both sides of a handshake come to.
async fn shake(
    dialler: Credentials,
    to: u32,
    acceptor: Credentials,
) -> (Result<(), HandshakeError>, Result<(NodeId, Channel), HandshakeError>) {
    let (mut near, mut far) = duplex(4096);
    let dial = async move { dialler.dial(&mut near, NodeId(to), Channel::Bulk).await };
    let accept = async move { acceptor.accept(&mut far).await };
    tokio::join!(dial, accept)
}

#[tokio::test]
async fn members_recognise_each_other() {
    for (near, far) in [(None, None), (Some(1), None), (None, Some(1)), (Some(1), Some(1))] {
        let dialler = credentials(1, &[1, 2], SECRET, near);
        let (dialled, accepted) = shake(dialler, 2, credentials(2, &[1, 2], SECRET, far)).await;
        dialled.unwrap();
        assert_eq!(accepted.unwrap(), (NodeId(1), Channel::Bulk));
    }
}

#[tokio::test]
async fn a_wrong_secret_learns_nothing() {
    let dialler = credentials(1, &[1, 2], b"another secret, as long as it is", None);
    let (dialled, accepted) = shake(dialler, 2, credentials(2, &[1, 2], SECRET, None)).await;
    assert!(matches!(accepted, Err(HandshakeError::WrongSecret)));
    // Closed without a word: neither a proof nor a reason.
    assert!(matches!(dialled, Err(HandshakeError::Frame(FrameError::Io(_)))), "{dialled:?}");
}

#[tokio::test]
async fn members_of_something_else_are_sent_away() {
    let cases = [
        (credentials(9, &[1, 2, 9], SECRET, None), 2, Reason::NotAMember),
        (credentials(2, &[1, 2], SECRET, None), 2, Reason::NotAMember),
        (credentials(1, &[1, 2], SECRET, None), 3, Reason::WrongNode),
        (credentials(1, &[1, 2], SECRET, Some(7)), 2, Reason::OtherCluster),
    ];
    for (dialler, to, reason) in cases {
        let acceptor = credentials(2, &[1, 2], SECRET, Some(1));
        let (dialled, accepted) = shake(dialler, to, acceptor).await;
        assert!(matches!(dialled, Err(HandshakeError::Refused(found)) if found == reason));
        assert!(
            matches!(accepted, Err(HandshakeError::SentAway { reason: found, .. }) if found == reason)
        );
    }
}

#[tokio::test]
async fn a_proof_cannot_be_replayed() {
    // Record what a member says to node 2, then say it again.
    let (mut near, middle) = duplex(4096);
    let (mut far, other) = duplex(4096);
    let dialler = credentials(1, &[1, 2], SECRET, None);
    let acceptor = credentials(2, &[1, 2], SECRET, None);
    let dial = async move { dialler.dial(&mut near, NodeId(2), Channel::Control).await };
    let accept = async move { acceptor.accept(&mut far).await };
    let relay = async move {
        let (mut said, mut recorded) = (tokio::io::split(middle), Vec::new());
        let mut answered = tokio::io::split(other);
        let forward = async {
            let mut byte = [0; 1];
            while said.0.read_exact(&mut byte).await.is_ok() {
                recorded.push(byte[0]);
                if answered.1.write_all(&byte).await.is_err() {
                    break;
                }
            }
        };
        let back = tokio::io::copy(&mut answered.0, &mut said.1);
        let _ = tokio::join!(forward, back);
        recorded
    };
    let (dialled, accepted, recorded) =
        tokio::join!(dial, accept, timeout(Duration::from_secs(1), relay));
    dialled.unwrap();
    accepted.unwrap();
    // The relay ends when both sides have closed.
    let recorded = recorded.expect("both ends were dropped");
    assert!(recorded.len() > 2 * frame::HEADER_BYTES + 32, "{} bytes", recorded.len());

    let (mut near, mut far) = duplex(4096);
    near.write_all(&recorded).await.unwrap();
    let again = credentials(2, &[1, 2], SECRET, None).accept(&mut far).await;
    assert!(matches!(again, Err(HandshakeError::WrongSecret)), "{again:?}");
}

#[tokio::test]
async fn every_flipped_bit_of_a_frame_is_seen() {
    let (head, body) = (b"some head".as_slice(), b"and a body".as_slice());
    let mut bytes = frame::header(Kind::Message, head, body).to_vec();
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(body);
    let parse = async |bytes: &[u8]| -> Result<(Kind, Vec<u8>, Bytes), FrameError> {
        let mut bytes = bytes;
        let header = Header::read(&mut bytes, MEMBER).await?.expect("not empty");
        let (head, body) = header.read_rest(&mut bytes).await?;
        Ok((header.kind, head, body))
    };
    let whole = parse(&bytes).await.unwrap();
    assert_eq!(whole, (Kind::Message, head.to_vec(), Bytes::from_static(b"and a body")));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&flipped).await.is_err(), "bit {bit}");
    }
    for cut in 1..bytes.len() {
        assert!(parse(&bytes[..cut]).await.is_err(), "cut at {cut}");
    }
    assert!(Header::read(&mut &b""[..], MEMBER).await.unwrap().is_none());
}

/// A node port with what arrives on it.
struct Port {
    net: Net,
    address: SocketAddr,
    inbox: mpsc::UnboundedReceiver<Received>,
    refusals: mpsc::UnboundedReceiver<NodeId>,
}

fn bind() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn member(id: u32, address: SocketAddr) -> Member {
    Member { id: NodeId(id), address: address.to_string(), admin: None }
}

fn port(me: u32, listener: std::net::TcpListener, members: &[Member]) -> Port {
    let address = listener.local_addr().unwrap();
    let (sender, inbox) = mpsc::unbounded_channel();
    let (refuser, refusals) = mpsc::unbounded_channel();
    let (secret, deliver) = (Secret::new(SECRET.to_vec()), Inbox(sender, refuser));
    let net = Net::start(listener, NodeId(me), members, &secret, cluster(None), deliver).unwrap();
    Port { net, address, inbox, refusals }
}

fn pair() -> (Port, Port, Vec<Member>) {
    let (first, second) = (bind(), bind());
    let members = vec![member(1, first.1), member(2, second.1)];
    (port(1, first.0, &members), port(2, second.0, &members), members)
}

async fn next(port: &mut Port) -> Received {
    timeout(Duration::from_secs(10), port.inbox.recv()).await.expect("in time").expect("open")
}

/// Sends until something arrives: what is queued before a connection stands may be dropped.
async fn until_connected(from: &Net, to: NodeId, channel: Channel, port: &mut Port) {
    loop {
        from.send(to, channel, b"ping".to_vec(), Bytes::new());
        if timeout(Duration::from_millis(20), port.inbox.recv()).await.is_ok() {
            break;
        }
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    while port.inbox.try_recv().is_ok() {}
}

#[tokio::test]
async fn messages_arrive_whole_and_in_the_order_of_their_channel() {
    let (mut first, mut second, _) = pair();
    until_connected(&first.net, NodeId(2), Channel::Control, &mut second).await;
    until_connected(&first.net, NodeId(2), Channel::Bulk, &mut second).await;
    until_connected(&second.net, NodeId(1), Channel::Control, &mut first).await;
    for number in 0..2_000_u32 {
        let body = Bytes::from(vec![number as u8; (number as usize * 7) % 20_000]);
        first.net.send(NodeId(2), Channel::Control, number.to_le_bytes().to_vec(), body);
    }
    for number in 0..2_000_u32 {
        let (from, head, body) = next(&mut second).await;
        assert_eq!((from, head), (NodeId(1), number.to_le_bytes().to_vec()));
        assert_eq!(body, vec![number as u8; (number as usize * 7) % 20_000]);
    }
    let chunk = Bytes::from(vec![7; 1 << 20]);
    first.net.send(NodeId(2), Channel::Bulk, b"chunk".to_vec(), chunk.clone());
    assert_eq!(next(&mut second).await, (NodeId(1), b"chunk".to_vec(), chunk));
    second.net.send(NodeId(1), Channel::Control, b"back".to_vec(), Bytes::new());
    assert_eq!(next(&mut first).await, (NodeId(2), b"back".to_vec(), Bytes::new()));
}

/// Node 2 anew, where it was.
async fn restarted(address: SocketAddr, members: &[Member]) -> Port {
    // The port is free as soon as the old listener's task has ended.
    loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => return port(2, listener, members),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[tokio::test]
async fn a_peer_that_restarts_is_dialled_again() {
    let (first, mut second, members) = pair();
    until_connected(&first.net, NodeId(2), Channel::Control, &mut second).await;
    let address = second.address;
    drop(second);
    let mut second = restarted(address, &members).await;
    until_connected(&first.net, NodeId(2), Channel::Control, &mut second).await;
    first.net.send(NodeId(2), Channel::Control, b"again".to_vec(), Bytes::new());
    assert_eq!(next(&mut second).await.1, b"again");
    let (there, here) = (first.net.traffic()[0], second.net.traffic()[0]);
    assert!(there.sent > here.received && here.received > 0, "{there:?} {here:?}");
    assert_eq!((there.peer, here.peer, here.sent), (NodeId(2), NodeId(1), 0));
}

/// The next refusal that a node is told of.
async fn refusal(port: &mut Port) -> NodeId {
    timeout(Duration::from_secs(10), port.refusals.recv()).await.expect("in time").expect("open")
}

#[tokio::test]
async fn a_peer_whose_host_refuses_is_told_of_after_every_connection() {
    let (mut first, mut second, members) = pair();
    for _ in 0..2 {
        until_connected(&first.net, NodeId(2), Channel::Control, &mut second).await;
        let address = second.address;
        drop(second);
        assert_eq!(refusal(&mut first).await, NodeId(2));
        second = restarted(address, &members).await;
    }
}

/// A proxy accepts before it knows that there is nobody behind it. Each of its connections is a refusal, and only the
/// first is told of.
#[tokio::test]
async fn a_connection_that_is_closed_without_a_word_is_refused_and_that_is_said_once() {
    let (listener, address) = bind();
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let members = [member(1, address), member(2, proxy.local_addr().unwrap())];
    let mut port = port(1, listener, &members);
    // Both channels dial, each again and again: of eight connections some are of the control channel after its first.
    for _ in 0..8 {
        drop(timeout(Duration::from_secs(10), proxy.accept()).await.expect("in time"));
    }
    assert_eq!(refusal(&mut port).await, NodeId(2));
    assert!(port.refusals.try_recv().is_err(), "said again");
}

#[tokio::test]
async fn a_malformed_message_closes_the_connection_and_the_next_one_gets_through() {
    let (first, mut second, _) = pair();
    until_connected(&first.net, NodeId(2), Channel::Control, &mut second).await;
    first.net.send(NodeId(2), Channel::Control, b"malformed".to_vec(), Bytes::new());
    tokio::time::sleep(Duration::from_millis(50)).await;
    until_connected(&first.net, NodeId(2), Channel::Control, &mut second).await;
}

#[tokio::test]
async fn what_finds_a_full_queue_is_dropped_and_counted() {
    // Nobody listens there: the queue only empties at failed attempts.
    let (listener, address) = bind();
    let silent = bind();
    let members = [member(1, address), member(2, silent.1)];
    let port = port(1, listener, &members);
    let chunk = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..200 {
        port.net.send(NodeId(2), Channel::Bulk, Vec::new(), chunk.clone());
    }
    let dropped = port.net.traffic()[0].dropped;
    assert!(dropped.messages >= 200 - 64 && dropped.bytes >= dropped.messages << 20, "{dropped:?}");
    // No peer at all.
    port.net.send(NodeId(3), Channel::Bulk, Vec::new(), chunk);
    drop(silent);
}

/// Writes `bytes` to a node port as a stranger; returns everything that it answers until it closes.
async fn knock(port: &Port, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    // The port may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ =
        timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("closed");
    answer
}

#[tokio::test]
async fn garbage_is_closed_without_an_answer() {
    let (_first, mut second, _) = pair();
    let mut oversized = frame::header(Kind::Hello, &[0; 1024], &[]).to_vec();
    oversized.extend_from_slice(&[0; 1024]);
    let mut with_body = frame::header(Kind::Hello, b"", b"body").to_vec();
    with_body.extend_from_slice(b"body");
    let member_first = frame::header(Kind::Message, b"", b"");
    let not_a_hello = [frame::header(Kind::Hello, b"hello", b"").as_slice(), b"hello"].concat();
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".as_slice();
    for bytes in
        [http, &[0xff; 4096], &[0; 64], &oversized, &with_body, &member_first, &not_a_hello]
    {
        assert_eq!(knock(&second, bytes).await, b"", "{:?}", &bytes[..24]);
    }
    assert!(second.inbox.try_recv().is_err());
}

#[tokio::test]
async fn a_stranger_cannot_make_the_port_read_or_keep_much() {
    // The limit is judged on the header alone: no byte of the rest has to arrive.
    let header = frame::header(Kind::Hello, &[0; STRANGER.head + 1], &[]);
    assert!(matches!(Header::parse(&header, STRANGER), Err(FrameError::Broken(_))));
    assert!(Header::parse(&frame::header(Kind::Hello, &[0; STRANGER.head], &[]), STRANGER).is_ok());
    assert_eq!(frame::HEADER_BYTES + STRANGER.head + STRANGER.body, 256);

    // The 65th who says nothing is closed at once; those who knock later get in when time is up.
    let (first, mut second, _) = pair();
    until_connected(&first.net, NodeId(2), Channel::Control, &mut second).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(second.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = std::time::Instant::now();
    assert_eq!(knock(&second, b"").await, b"");
    assert!(started.elapsed() < Duration::from_secs(2), "closed at once");
    // Members that are connected don't notice.
    first.net.send(NodeId(2), Channel::Control, b"still".to_vec(), Bytes::new());
    assert_eq!(next(&mut second).await.1, b"still");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_slow_is_closed_after_five_seconds() {
    let (listener, address) = bind();
    let port = port(1, listener, &[member(1, address)]);
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    stream.write_all(&[0; 3]).await.unwrap();
    let started = tokio::time::Instant::now();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(answer, b"");
    assert!(started.elapsed() >= Duration::from_secs(5), "{:?}", started.elapsed());
}
