//! One connection to one endpoint.

use crate::http::Connection;
use crate::sign::Signer;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Method, Request, Response};
use std::fmt;
use std::time::Duration;
use tokio::time::timeout;

/// How long one request may take: beyond, the server is as good as down.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a request failed.
#[derive(Clone, Debug)]
pub enum RequestError {
    /// No connection, or it broke.
    Io(String),
    /// The server refused.
    Status {
        /// HTTP status.
        status: u16,
        /// The beginning of the answer.
        body: String,
    },
    /// The answer is not what was asked for.
    Wrong(String),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what) | Self::Wrong(what) => f.write_str(what),
            Self::Status { status, body } => write!(f, "status {status}: {body}"),
        }
    }
}

impl std::error::Error for RequestError {}

fn io(error: impl fmt::Display) -> RequestError {
    RequestError::Io(error.to_string())
}

pub(super) struct Client {
    host: String,
    signer: Signer,
    connection: Option<Connection>,
}

impl Client {
    pub(super) fn new(host: String, signer: Signer) -> Self {
        Self { host, signer, connection: None }
    }

    /// Puts a body.
    pub(super) async fn put(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(), RequestError> {
        self.exchange(Method::PUT, path, query, body, None).await.map(|_| ())
    }

    /// Gets a body and returns its length, which has to be `length` where it is known.
    pub(super) async fn get(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        length: Option<u64>,
    ) -> Result<u64, RequestError> {
        self.exchange(Method::GET, path, query, Bytes::new(), length).await
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Bytes,
        length: Option<u64>,
    ) -> Result<u64, RequestError> {
        let uri = self.signer.presign(method.as_str(), &self.host, path, query);
        let request = Request::builder().uri(uri).header(HOST, &self.host);
        // hyper leaves it out where it is 0, and S3 wants to see it.
        let request = if method == Method::PUT {
            request.header(CONTENT_LENGTH, body.len())
        } else {
            request
        };
        let request = request.method(method).body(Full::new(body));
        let request = request.map_err(io)?;
        let result = timeout(REQUEST_TIMEOUT, self.send(request)).await;
        let result = result.unwrap_or_else(|_| Err(io("no answer in time")));
        if matches!(result, Err(RequestError::Io(_))) {
            self.connection = None;
        }
        match result? {
            read if length.is_none_or(|length| length == read) => Ok(read),
            read => Err(RequestError::Wrong(format!("{read} bytes instead of {length:?}"))),
        }
    }

    /// Sends one request and reads its answer to the end.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<u64, RequestError> {
        let connected = self.connection.take_if(|connection| !connection.is_closed());
        let connection = self.connection.insert(match connected {
            Some(connection) => connection,
            None => Connection::open(&self.host).await.map_err(io)?,
        });
        connection.ready().await.map_err(io)?;
        let response = connection.send(request).await.map_err(io)?;
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            return Err(refused(status, response).await);
        }
        let mut body = response.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.map_err(io)?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(read)
    }
}

async fn refused(status: u16, response: Response<Incoming>) -> RequestError {
    let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    RequestError::Status { status, body: text.chars().take(300).collect() }
}
