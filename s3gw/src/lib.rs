//! The S3 gateway: HTTP in, [`ironseed_core::object::api`] requests out.
//!
//! # The problem
//! S3 clients agree on little but the wire: signatures in headers, in the query and chunk by chunk in
//! the body, checksums in headers and trailers, XML, and dozens of sub-resources. And whoever can reach
//! the port can send anything at all. This crate turns that into a handful of typed requests, and turns
//! the outcomes back. It decides nothing: what an operation means is in `core/object`, so that the
//! simulator runs it too.
//!
//! # The path of one request
//! 1. [`wire`] looks at the raw bytes of each request head, before hyper has normalised them away:
//!    a head with two lengths, or with a length and a transfer encoding, is condemned.
//! 2. [`guard`] judges the request: which operation is it, is every parameter and header of it one that
//!    we honour, who signed it, does the body's framing make sense. What is left of the body is a
//!    [`guard::Payload`] that verifies hashes, chunk signatures and lengths while it streams.
//! 3. s3s is handed a sanitised request (path style, no credentials, only the parameters that the guard
//!    has admitted, and only small bodies, already verified). It routes, parses XML and calls [`ops`].
//! 4. `ops` translates to [`Store::call`]. Bulk bytes go through [`stream`]: up in chunks of 1 MiB, down
//!    likewise, never a whole object.
//! 5. [`answer`] gives every answer its request id, and every error its XML.
//!
//! # Guarantees
//! - Nothing is stored unless every signature, hash, checksum and length that the client sent holds:
//!   the record that names the bytes is written last.
//! - An operation, sub-resource, condition or feature header that we don't implement answers 501; it is
//!   never ignored and never falls through to a plain put or get.
//! - Bulk bytes in memory are bounded by [`Config::buffer_bytes_max`] over all requests, connections by
//!   [`Config::connections_max`], and every wait for a client by a timeout.
//!
//! # Caveats
//! - One set of root credentials: no users, no policies; anonymous requests are refused.
//! - HTTP/1.1 without TLS. Put a TLS proxy in front, or use presigned URLs over a trusted network.
//! - s3s logs every refused request, and every malformed document whole, as an error: a binary should
//!   silence its target (`s3s=off`). What matters is logged here, without signatures.
//! - A copy answers when it is done: a client with a short timeout may lose patience with gigabytes.
//! - s3s compares nothing secret here: signatures are verified in [`guard`], in constant time.

pub mod answer;
pub mod checksum;
pub mod error;
pub mod gateway;
pub mod guard;
pub mod ops;
pub mod server;
pub mod stream;
pub mod text;
pub mod timer;
pub mod wire;

use ironseed_core::object::api::{Outcome, Request};
use std::future::Future;
use std::time::Duration;

pub use server::serve;

/// What the gateway needs of a cluster.
pub trait Store: Send + Sync + 'static {
    /// Has a request carried out. The future may be dropped at any time; the request may then have been
    /// carried out or not.
    fn call(&self, request: Request) -> impl Future<Output = Outcome> + Send;

    /// The secret key that belongs to an access key, or `None` if there is no such access key.
    fn credentials(&self, access_key: &str) -> Option<String>;

    /// The region that clients must sign for.
    fn region(&self) -> &str;

    /// Whether the node takes requests yet. Until then every request is answered 503.
    fn ready(&self) -> bool;
}

/// Limits and names. Every wait for a client is bounded by one of these.
#[derive(Clone, Debug)]
pub struct Config {
    /// Domains under which a bucket may be named in the host: `bucket.<domain>`. Lower case, no port.
    pub domains: Vec<String>,
    /// Connections at the most; more are closed at once.
    pub connections_max: usize,
    /// Requests under way at the most; more are answered 503 `SlowDown`.
    pub requests_max: usize,
    /// Object bytes in memory at the most, over all uploads and downloads.
    pub buffer_bytes_max: usize,
    /// How long a request waits for room in memory before it is answered 503 `SlowDown`.
    pub buffer_wait: Duration,
    /// How long a client may take from one request's end, or from connecting, to the end of the next
    /// request's head: it bounds idle connections and slow heads alike.
    pub head_timeout: Duration,
    /// Waiting for body bytes this long while fewer than [`Config::body_bytes_min`] arrive is answered
    /// 400 `RequestTimeout`.
    pub body_timeout: Duration,
    /// The bytes of body that a client must send in each [`Config::body_timeout`] that we wait for it.
    pub body_bytes_min: u64,
    /// A client that takes no byte of an answer for this long is cut off.
    pub write_timeout: Duration,
    /// How long requests under way may go on after shutdown was asked for.
    pub stop_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            connections_max: 8192,
            requests_max: 1024,
            // A hundred uploads of which each fills one chunk and has another under way wait for each
            // other a little, and a process stays far below 300 MiB.
            buffer_bytes_max: 128 << 20,
            buffer_wait: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(20),
            // 200 bytes a second: a bad mobile link passes, a byte every two seconds does not.
            body_bytes_min: 4096,
            write_timeout: Duration::from_secs(60),
            stop_grace: Duration::from_secs(10),
        }
    }
}
