//! The admin port: health for load balancers and supervisors, status for operators.
//!
//! - `/health/live`: 200 for as long as the process answers at all.
//! - `/health/ready`: 200 while the node takes requests, else 503 and why.
//! - `/status`: the node's own report as JSON ([`crate::status::NodeReport`]).
//! - `POST /cluster/replace-store`: another store takes the place of a node's ([`crate::admin`]).
//! - `POST /cluster/move-shard`: other nodes have the replicas of a shard.
//!
//! Who changes something proves that he knows the cluster's secret. The rest is for everybody and tells nothing secret,
//! but it is meant for operators: it binds loopback like every listener unless the configuration says otherwise.

use crate::admin::{self, Key, MOVE_SHARD, REPLACE_STORE};
use crate::driver::Handle;
use crate::status::NodeReport;
use crate::sys::{self, JoinSet, Listener};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ironseed_core::node::status::Phase;
use ironseed_core::object::api::Refusal;
use ironseed_s3gw::timer::HttpTimer;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Connections at a time. Monitoring needs few, and each costs a descriptor.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may live: no client needs the same one for longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves the admin port, for ever.
///
/// # Errors
/// The listener can't be used.
pub async fn serve(listener: Listener, handle: Handle, key: Key) -> io::Result<()> {
    let listener = sys::accept_on(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Waits for a place before it accepts: callers queue in the kernel.
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, handle.clone(), key.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "admin port can't accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, handle: Handle, key: Key, _place: OwnedSemaphorePermit) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (handle, key) = (handle.clone(), key.clone());
        async move {
            Ok::<_, Infallible>(match request.uri().path() {
                REPLACE_STORE | MOVE_SHARD => change(request, &handle, &key).await,
                _ => answer(&request, &handle).await,
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(HttpTimer)
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever goes wrong on it is the client's affair.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

async fn answer(request: &Request<Incoming>, handle: &Handle) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return not_allowed("GET, HEAD");
    }
    match request.uri().path() {
        "/health/live" => text(StatusCode::OK, "live\n"),
        "/health/ready" => ready(handle),
        "/status" => match handle.status().await {
            Some(report) => json(&NodeReport::from(&report)),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "the node has stopped\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "/health/live, /health/ready or /status\n"),
    }
}

/// What an operator wants changed.
async fn change(request: Request<Incoming>, handle: &Handle, key: &Key) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        return not_allowed("POST");
    }
    let path = request.uri().path().to_owned();
    let proof = request.headers().get(admin::PROOF).and_then(|proof| proof.to_str().ok());
    let proof = proof.unwrap_or_default().to_owned();
    let Ok(body) = Limited::new(request.into_body(), admin::BODY_BYTES_MAX).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "too long\n");
    };
    let body = body.to_bytes();
    if !key.holds(&path, &body, &proof) {
        return text(StatusCode::FORBIDDEN, "this takes the secret of the cluster\n");
    }
    let Some(asked) = admin::parse(&path, &body) else {
        return told(StatusCode::BAD_REQUEST, format!("this is not what {path} takes"));
    };
    match handle.call(asked).await {
        Ok(_) => text(StatusCode::OK, "done\n"),
        Err(Refusal::Invalid(why)) => told(StatusCode::CONFLICT, why),
        Err(Refusal::Unavailable(why)) => told(StatusCode::SERVICE_UNAVAILABLE, why),
        Err(Refusal::OutcomeUnknown) => {
            text(StatusCode::GATEWAY_TIMEOUT, "it may have been done: ask for the status\n")
        }
        Err(refusal) => told(StatusCode::SERVICE_UNAVAILABLE, format!("{refusal:?}")),
    }
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = told(StatusCode::METHOD_NOT_ALLOWED, allowed.into());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn ready(handle: &Handle) -> Response<Full<Bytes>> {
    let public = handle.public();
    // The sender lives on the driver's thread and goes with it.
    if public.has_changed().is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the node has stopped\n");
    }
    let phase = public.borrow().phase;
    match phase {
        Phase::Serving => text(StatusCode::OK, "ready\n"),
        Phase::Booting => text(StatusCode::SERVICE_UNAVAILABLE, "recovering its files\n"),
        Phase::Waiting => {
            let why =
                "belongs to no cluster yet: found one with `ironseed init`, or start the others\n";
            text(StatusCode::SERVICE_UNAVAILABLE, why)
        }
        Phase::Stopping => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        Phase::Halted => text(StatusCode::SERVICE_UNAVAILABLE, "its store can't go on\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", Bytes::from_static(body.as_bytes()))
}

fn told(status: StatusCode, why: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", Bytes::from(why + "\n"))
}

fn json(report: &NodeReport) -> Response<Full<Bytes>> {
    match serde_json::to_vec(report) {
        Ok(body) => respond(StatusCode::OK, "application/json", body.into()),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "no report\n"),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::{Config, Secret};
    use crate::disk::DataDir;
    use crate::driver::{self, Parts};
    use crate::http;
    use crate::net::Net;
    use ironseed_core::machine::Duration as Span;
    use ironseed_core::node::Node;
    use std::net::TcpListener as StdListener;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const TEXT: &str =
        "node = 7\ndata = \"data\"\ncluster.nodes = [{ id = 7, address = \"127.0.0.1:1\" }]\n";

    #[tokio::test]
    async fn health_and_status_are_told_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse(&folder.path().join("node.toml"), TEXT).unwrap();
        let parts = Parts {
            name: "n7".into(),
            clock: Clock::start(Span::ZERO),
            dir: DataDir::open(&config.data).unwrap(),
            engine: None,
            found: None,
            net: |inbox, _public| {
                let listener = StdListener::bind("127.0.0.1:0")?;
                let cluster = tokio::sync::watch::channel(None).1;
                let secret = &config.cluster.secret;
                Net::start(listener, config.node, &config.cluster.members, secret, cluster, inbox)
            },
            recorder: None,
        };
        let running = driver::start(Node::new(config.node_config().unwrap()), parts).unwrap();
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let secret = Secret::new(b"0123456789abcdef".to_vec());
        tokio::spawn(serve(listener, running.handle.clone(), Key::new(&secret)));
        let get = async |path| http::get(&address, path, Duration::from_secs(5)).await.unwrap();

        assert_eq!(get("/health/live").await.status, 200);
        // A store without a cluster is alive and not ready.
        let ready = get("/health/ready").await;
        assert_eq!(ready.status, 503, "{:?}", ready.body);
        let status = get("/status").await;
        let report: NodeReport = serde_json::from_slice(&status.body).unwrap();
        assert_eq!((status.status, report.node, report.nodes), (200, 7, vec![7]));
        assert_eq!(get("/").await.status, 404);
        assert_eq!(get(REPLACE_STORE).await.status, 405);
        let post = async |key: &Key, body: &str| {
            let proof = key.prove(REPLACE_STORE, body.as_bytes()).unwrap();
            let (header, body) = ((admin::PROOF, proof.as_str()), body.as_bytes().to_vec());
            let posted = http::post(&address, REPLACE_STORE, header, body, Duration::from_secs(5));
            posted.await.unwrap().status
        };
        let store = "0".repeat(32);
        let body = format!("{{\"node\":7,\"old\":\"{store}\",\"new\":\"{store}\"}}");
        let stranger = Key::new(&Secret::new(b"a guess".to_vec()));
        assert_eq!(post(&stranger, &body).await, 403);
        assert_eq!(post(&Key::new(&secret), "{}").await, 400);
        assert_eq!(post(&Key::new(&secret), &"x".repeat(admin::BODY_BYTES_MAX + 1)).await, 413);
        assert_eq!(post(&Key::new(&secret), &body).await, 503, "it is no member of a cluster");

        for (request, answer) in [
            ("DELETE /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 405 "),
            ("garbage\r\n\r\n", "HTTP/1.1 400 "),
        ] {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answered = String::new();
            stream.read_to_string(&mut answered).await.unwrap();
            assert!(answered.starts_with(answer), "{request:?}: {answered:?}");
        }
    }
}
