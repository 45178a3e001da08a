//! The least of HTTP that tools and tests need: a connection, and one request on one of its own. Everything S3 is
//! in the gateway.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The most bytes of an answer: a report of 256 groups takes about 100 KiB.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Why nothing was fetched.
#[derive(Debug)]
pub enum FetchError {
    /// No connection, or it failed.
    Io(io::Error),
    /// What came was no HTTP.
    Http(hyper::Error),
    /// The answer is too long or broke off.
    Body(String),
    /// It took too long.
    Late,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Http(error) => write!(f, "{error}"),
            Self::Body(error) => f.write_str(error),
            Self::Late => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for FetchError {}

/// An answer.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// A connection for one request after the other. Closed when it is dropped, whatever is under way.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects to `host:port`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let task = tokio::spawn(async move {
            // Its failure shows in the request.
            let _ = connection.await;
        });
        Ok(Self { sender, task })
    }

    /// Whether it is of no more use.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until a request can be sent.
    ///
    /// # Errors
    /// The connection has gone. Nothing was sent.
    pub async fn ready(&mut self) -> hyper::Result<()> {
        self.sender.ready().await
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// The connection has gone; how much of the request was sent is not known.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }
}

/// Gets `path` from `host:port`.
///
/// # Errors
/// No whole answer within `timeout`.
pub async fn get(address: &str, path: &str, timeout: Duration) -> Result<Fetched, FetchError> {
    let request = Request::get(path).body(Full::default());
    tokio::time::timeout(timeout, fetch(address, request)).await.unwrap_or(Err(FetchError::Late))
}

/// Posts JSON to `path` at `host:port`, with one header more.
///
/// # Errors
/// No whole answer within `timeout`; what became of the request is not known.
pub async fn post(
    address: &str,
    path: &str,
    (name, value): (&str, &str),
    body: Vec<u8>,
    timeout: Duration,
) -> Result<Fetched, FetchError> {
    let request = Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .header(name, value)
        .body(Full::new(body.into()));
    tokio::time::timeout(timeout, fetch(address, request)).await.unwrap_or(Err(FetchError::Late))
}

async fn fetch(
    address: &str,
    request: Result<Request<Full<Bytes>>, hyper::http::Error>,
) -> Result<Fetched, FetchError> {
    let mut connection = Connection::open(address).await.map_err(FetchError::Io)?;
    let mut request = request.map_err(|error| FetchError::Body(error.to_string()))?;
    let host =
        HeaderValue::from_str(address).map_err(|error| FetchError::Body(error.to_string()))?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let response = connection.send(request).await.map_err(FetchError::Http)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| FetchError::Body(error.to_string()))?.to_bytes();
    Ok(Fetched { status, body })
}
