//! The S3 port: requests on a real socket, through the real gateway, to a node that runs beside it.

use super::requests::{DICTIONARY, HTTP_SEEDS, XML_DICTIONARY, XML_SEEDS, signed};
use crate::alone::Alone;
use crate::run::panics;
use crate::{Target, Verdict};
use ironseed::sign::Signer;
use ironseed_core::object::api::{Outcome, Request};
use ironseed_s3gw::text::base64;
use ironseed_s3gw::{Config, Store, serve};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(super) const ACCESS_KEY: &str = "AKIDFUZZ";
pub(super) const SECRET_KEY: &str = "secret/of+the+fuzz+target";
pub(super) const REGION: &str = "us-east-1";

/// A bucket that no mutated request is likely to name, and what it holds.
const UNTOUCHED: (&str, &str, &[u8]) = ("kept-apart-from-the-others", "object", b"as it was put");
/// How long an answer may take to begin before the client says that it has nothing more to send.
const FIRST_BYTE: Duration = Duration::from_millis(40);
/// How long a connection may last after that. Beyond every timeout of the gateway.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) const HTTP: Target = Target {
    name: "http",
    runs: 1_000,
    about: "a request on the S3 port, as it is and with a true signature",
    seeds: || HTTP_SEEDS.iter().map(|seed| seed.replace('\n', "\r\n").into_bytes()).collect(),
    dictionary: DICTIONARY,
    bytes_max: 12 << 10,
    memory_max: 96 << 20,
    run: |input| {
        let gateway = Gateway::of_this_process();
        gateway.reset();
        let raw = gateway.exchange(input, Then::Closes);
        gateway.judge(&raw);
        let request = signed(input, gateway.address, &gateway.upload);
        gateway.judge(&gateway.exchange(&request, Then::Waits))
    },
};

pub(super) const XML: Target = Target {
    name: "xml",
    runs: 1500,
    about: "a line with method and target, then a document; signed, with its checksum",
    seeds: || XML_SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect(),
    dictionary: XML_DICTIONARY,
    bytes_max: 12 << 10,
    memory_max: 96 << 20,
    run: |input| {
        let gateway = Gateway::of_this_process();
        gateway.reset();
        let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
        let (line, document) = input.split_at(end);
        let document = document.get(1..).unwrap_or_default();
        let crc = base64(&crc32fast::hash(document).to_be_bytes());
        let line = String::from_utf8_lossy(line);
        let head = format!("{line} HTTP/1.1\r\nx-amz-checksum-crc32: {crc}\r\n\r\n");
        let request = [head.as_bytes(), document].concat();
        let request = signed(&request, gateway.address, &gateway.upload);
        gateway.judge(&gateway.exchange(&request, Then::Waits))
    },
};

/// The node behind the gateway. It answers within the call.
struct Lone(Mutex<Alone>);

impl Lone {
    fn lock(&self) -> MutexGuard<'_, Alone> {
        // A panic in there is counted, and the next input finds another node.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Lone {
    async fn call(&self, request: Request) -> Outcome {
        self.lock().ask(request)
    }

    fn credentials(&self, access_key: &str) -> Option<String> {
        (access_key == ACCESS_KEY).then(|| SECRET_KEY.to_owned())
    }

    fn region(&self) -> &str {
        REGION
    }

    fn ready(&self) -> bool {
        true
    }
}

/// What a client does once an answer has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It has asked for the connection to be closed behind the answer.
    Waits,
    /// It has nothing more to say.
    Closes,
}

/// A gateway on a port of its own, for the life of the process.
struct Gateway {
    address: SocketAddr,
    store: Arc<Lone>,
    /// What the node is before every input.
    base: Alone,
    /// An upload in progress of `/bucket/key`.
    upload: String,
}

impl Gateway {
    fn of_this_process() -> &'static Self {
        static GATEWAY: OnceLock<Gateway> = OnceLock::new();
        GATEWAY.get_or_init(Self::start)
    }

    fn start() -> Self {
        let mut base = Alone::founded(ACCESS_KEY, SECRET_KEY);
        for bucket in ["bucket", UNTOUCHED.0] {
            let bucket = bucket.to_owned();
            let made = base.ask(Request::CreateBucket { bucket });
            assert!(made.is_ok(), "{made:?}");
        }
        let large: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
        for (key, body) in [("key", b"small".as_slice()), ("a/b", b"other"), ("large", &large)] {
            base.put("bucket", key, body).expect("nothing is wrong yet");
        }
        base.put(UNTOUCHED.0, UNTOUCHED.1, UNTOUCHED.2).expect("nothing is wrong yet");
        let store = Arc::new(Lone(Mutex::new(base.clone())));
        let address = listen(Arc::clone(&store));
        let mut gateway = Self { address, store, base, upload: String::new() };
        let create = signed(b"POST /bucket/key?uploads HTTP/1.1\r\n\r\n", address, "");
        let answer = String::from_utf8_lossy(&gateway.exchange(&create, Then::Waits)).into_owned();
        let (_, rest) = answer.split_once("<UploadId>").expect(&answer);
        gateway.upload = rest.split('<').next().unwrap_or_default().to_owned();
        gateway.base = gateway.store.lock().clone();
        gateway
    }

    /// Puts the node back to where it began, so that an input fails alone as it fails after others.
    fn reset(&self) {
        *self.store.lock() = self.base.clone();
    }

    /// Sends bytes on a connection of their own; returns everything that is answered.
    ///
    /// # Panics
    /// If the connection stays open beyond every timeout that the gateway has.
    fn exchange(&self, request: &[u8], then: Then) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("the gateway listens");
        stream.set_nodelay(true).expect("a socket");
        // A gateway that refuses early may close before everything is written.
        let _ = stream.write_all(request);
        let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        let (began, mut ended) = (Instant::now(), false);
        stream.set_read_timeout(Some(FIRST_BYTE)).expect("a socket");
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return answer,
                Ok(read) => answer.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    assert!(began.elapsed() < PATIENCE, "the gateway keeps a dead connection");
                }
                // Reset: closed with bytes unread.
                Err(_) => return answer,
            }
            let begun = then == Then::Closes && !answer.is_empty();
            if !ended && (begun || began.elapsed() >= FIRST_BYTE) {
                // Whatever it still waits for will not come.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                ended = true;
            }
        }
    }

    /// What answers: HTTP and nothing else, no failure of the gateway's own, no task that has panicked, and
    /// to a sane request on a new connection the right thing.
    fn judge(&self, answer: &[u8]) -> Verdict {
        let text = String::from_utf8_lossy(&answer[..answer.len().min(4096)]).into_owned();
        assert!(answer.is_empty() || text.starts_with("HTTP/1."), "{text}");
        assert!(text.get(8..12) != Some(" 500") && !text.contains("InternalError"), "{text}");
        let (bucket, key, body) = UNTOUCHED;
        let mut signer = Signer::new(ACCESS_KEY, SECRET_KEY, REGION);
        let host = self.address.to_string();
        let target = signer.presign("GET", &host, &format!("/{bucket}/{key}"), &[]);
        let sane = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let sane = self.exchange(sane.as_bytes(), Then::Waits);
        let shown = String::from_utf8_lossy(&sane);
        assert_eq!(panics(), 0, "a task has panicked");
        assert!(shown.starts_with("HTTP/1.1 200") && sane.ends_with(body), "{shown}");
        if text.get(8..10) == Some(" 2") { Verdict::Accepted } else { Verdict::Refused }
    }
}

/// Serves from a thread of its own, until the process ends.
fn listen(store: Arc<Lone>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("a bound socket has an address");
    let config = Config {
        domains: vec!["s3.test".to_owned()],
        head_timeout: Duration::from_secs(2),
        body_timeout: Duration::from_secs(1),
        buffer_wait: Duration::from_millis(500),
        write_timeout: Duration::from_secs(2),
        ..Config::default()
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            serve(listener, store, config, std::future::pending()).await;
        });
    });
    address
}
