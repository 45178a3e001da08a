//! The least of HTTP that tools need: one request on one connection. Everything S3 is in the gateway,
//! and the load generator keeps its own connections.

use crate::sys::JoinSet;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use std::fmt;
use std::time::Duration;
use tokio::net::TcpStream;

/// The most bytes of an answer: a report of 256 groups takes about 100 KiB.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Why nothing was fetched.
#[derive(Debug)]
pub enum FetchError {
    /// No connection, or it failed.
    Io(std::io::Error),
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

/// Gets `path` from `host:port`.
///
/// # Errors
/// No whole answer within `timeout`.
pub async fn get(address: &str, path: &str, timeout: Duration) -> Result<Fetched, FetchError> {
    tokio::time::timeout(timeout, fetch(address, path)).await.unwrap_or(Err(FetchError::Late))
}

async fn fetch(address: &str, path: &str) -> Result<Fetched, FetchError> {
    let stream = TcpStream::connect(address).await.map_err(FetchError::Io)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Http)?;
    // Aborted when this function ends, however it does: the answer may be whole before the connection
    // is, and the other way round.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let request = Request::get(path)
        .header(hyper::header::HOST, address)
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Body(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(FetchError::Http)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| FetchError::Body(error.to_string()))?.to_bytes();
    Ok(Fetched { status, body })
}
