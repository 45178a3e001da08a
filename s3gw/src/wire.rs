//! What hyper no longer shows: the request heads as they came over the wire.
//!
//! hyper follows RFC 9112: of two equal lengths it keeps one, and of a length and a transfer encoding
//! the encoding wins. Both are how requests are smuggled past a proxy that decides otherwise, so such a
//! request must be refused and its connection closed. By the time a handler runs, the evidence is gone:
//! [`Watch`] therefore follows the bytes as hyper reads them, and passes a verdict on every head.
//!
//! The watch never changes a byte and never decides where hyper's messages end; it only has to agree
//! with hyper about the framing of *sane* requests, since the connection closes after any other. What
//! hyper itself refuses (two different lengths, a malformed one, a malformed head) never reaches a
//! handler: hyper answers 400 and closes.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The longest request head, with all its headers. hyper gets the same limit.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most headers of a request.
pub const HEADERS_MAX: usize = 256;

/// What was seen of a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its length is beyond doubt.
    Sane,
    /// It has more than one opinion about its length.
    Ambiguous,
}

/// The verdicts on the heads of one connection, in their order.
#[derive(Clone, Debug, Default)]
pub struct Verdicts(Arc<Mutex<VecDeque<Verdict>>>);

impl Verdicts {
    /// The verdict on the next request. A request whose head was not seen whole is ambiguous.
    #[must_use]
    pub fn next(&self) -> Verdict {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front().unwrap_or(Verdict::Ambiguous)
    }

    fn push(&self, verdict: Verdict) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(verdict);
    }
}

/// Follows the framing of one connection's requests.
#[derive(Debug)]
pub struct Watch {
    state: State,
    head: Vec<u8>,
    verdicts: Verdicts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// A body of known length.
    Body {
        left: u64,
    },
    /// A chunk's length.
    Size {
        size: u64,
    },
    /// The rest of that line.
    Extension {
        size: u64,
    },
    Chunk {
        left: u64,
    },
    /// The line end behind a chunk.
    ChunkEnd,
    /// A trailer line; whether anything is on it yet.
    Trailer {
        empty: bool,
    },
    /// Nothing more can be said: hyper is about to close the connection.
    Lost,
}

impl Watch {
    /// A new connection, whose verdicts go here.
    #[must_use]
    pub fn new(verdicts: Verdicts) -> Self {
        Self { state: State::Head, head: Vec::new(), verdicts }
    }

    /// Sees the next bytes.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.state {
                State::Head => bytes = self.see_head(bytes),
                State::Body { left } | State::Chunk { left } => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let left = left - take as u64;
                    self.state = match self.state {
                        State::Body { .. } if left == 0 => State::Head,
                        State::Body { .. } => State::Body { left },
                        _ if left == 0 => State::ChunkEnd,
                        _ => State::Chunk { left },
                    };
                    bytes = &bytes[take..];
                }
                _ => {
                    self.state = self.see_framing(byte);
                    bytes = rest;
                }
            }
        }
    }

    /// One byte of a chunked body's framing.
    fn see_framing(&self, byte: u8) -> State {
        let digit = char::from(byte).to_digit(16);
        match (self.state, byte) {
            (State::Size { size } | State::Extension { size }, b'\n') => match size {
                0 => State::Trailer { empty: true },
                left => State::Chunk { left },
            },
            (State::Size { size }, _) => match digit {
                Some(digit) => match size.checked_mul(16) {
                    Some(size) => State::Size { size: size + u64::from(digit) },
                    None => State::Lost,
                },
                None => State::Extension { size },
            },
            (state @ State::Extension { .. }, _) => state,
            (State::ChunkEnd, b'\n') => State::Size { size: 0 },
            (State::ChunkEnd, _) => State::ChunkEnd,
            (State::Trailer { empty: true }, b'\n') => State::Head,
            (State::Trailer { .. }, b'\n') => State::Trailer { empty: true },
            (state @ State::Trailer { .. }, b'\r') => state,
            (State::Trailer { .. }, _) => State::Trailer { empty: false },
            _ => State::Lost,
        }
    }

    /// Collects a head up to the empty line; gives back what is behind it.
    fn see_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Empty lines before a request are allowed and skipped.
            if self.head.is_empty()
                && let [b'\r' | b'\n', behind @ ..] = rest
            {
                rest = behind;
                continue;
            }
            let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, behind) = rest.split_at(line);
            self.head.extend_from_slice(line);
            rest = behind;
            if self.head.len() > HEAD_BYTES_MAX {
                self.state = State::Lost;
                self.head = Vec::new();
                break;
            }
            if self.head.ends_with(b"\n\r\n") || self.head.ends_with(b"\n\n") {
                self.judge_head();
                self.head.clear();
                return rest;
            }
        }
        &[]
    }

    fn judge_head(&mut self) {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        self.state = State::Lost;
        let parsed = request.parse_with_uninit_headers(&self.head, &mut headers);
        let Ok(httparse::Status::Complete(_)) = parsed else { return };
        let values = |name: &str| -> Vec<&[u8]> {
            let named =
                request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| header.value).collect()
        };
        let (lengths, encodings) = (values("content-length"), values("transfer-encoding"));
        let state = match (lengths.as_slice(), encodings.as_slice()) {
            ([], []) => Some(State::Head),
            ([length], []) => match parse_length(length) {
                Some(0) => Some(State::Head),
                length => length.map(|left| State::Body { left }),
            },
            ([], [encoding]) if encoding.trim_ascii().eq_ignore_ascii_case(b"chunked") => {
                Some(State::Size { size: 0 })
            }
            _ => None,
        };
        self.verdicts.push(if state.is_some() { Verdict::Sane } else { Verdict::Ambiguous });
        self.state = state.unwrap_or(State::Lost);
    }
}

fn parse_length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// A connection that is watched as it is read, and that fails when its peer takes nothing of what is
/// written for too long.
pub struct Watched<T> {
    inner: T,
    watch: Watch,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Watched<T> {
    /// Watches `inner`.
    pub fn new(inner: T, verdicts: Verdicts, write_timeout: Duration) -> Self {
        Self { inner, watch: Watch::new(verdicts), write_timeout, stalled: None }
    }

    fn check_progress<R>(
        &mut self,
        progress: Poll<io::Result<R>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        if progress.is_ready() {
            self.stalled = None;
            return progress;
        }
        let until = Instant::now() + self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(until)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.watch.see(&buf.filled()[before..]);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.check_progress(progress, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.check_progress(progress, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_flush(cx);
        self.check_progress(progress, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.check_progress(progress, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdicts on `wire`, seen in pieces of `step` bytes.
    fn verdicts(wire: &[u8], step: usize) -> Vec<Verdict> {
        let verdicts = Verdicts::default();
        let mut watch = Watch::new(verdicts.clone());
        wire.chunks(step).for_each(|piece| watch.see(piece));
        let queue = verdicts.0.lock().expect("no test panics with the lock");
        queue.iter().copied().collect()
    }

    #[test]
    fn a_pipeline_of_sane_requests_stays_in_step_at_every_split() {
        let wire = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\
            PUT /b HTTP/1.1\r\nContent-Length: 27\r\n\r\nGET / HTTP/1.1\r\nX: fake\r\n\r\n\
            PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
            1c;x=y\r\nGET / HTTP/1.1\r\nX: fake\r\n\r\n.\r\nA\r\n0123456789\r\n0\r\nt: v\r\n\r\n\
            \r\nPUT /d HTTP/1.1\r\nContent-Length: 0\r\n\r\n\
            DELETE /e HTTP/1.1\n\n";
        for step in 1..wire.len() {
            assert_eq!(verdicts(wire, step), vec![Verdict::Sane; 5], "step {step}");
        }
    }

    #[test]
    fn two_opinions_are_ambiguous_and_nothing_behind_them_counts() {
        let heads = [
            "Content-Length: 3\r\nContent-Length: 3",
            "Content-Length: 3\r\ncontent-length: 4",
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: identity",
            "Content-Length: -3",
            "Content-Length: +3",
            "Content-Length: 3, 3",
            "Content-Length:",
            "Content-Length: 99999999999999999999999999",
        ];
        for head in heads {
            let wire = format!("PUT /b HTTP/1.1\r\n{head}\r\n\r\nabcGET / HTTP/1.1\r\n\r\n");
            assert_eq!(verdicts(wire.as_bytes(), 1000), vec![Verdict::Ambiguous], "{head}");
        }
    }

    #[test]
    fn garbage_and_endless_heads_have_no_verdict_and_take_no_memory() {
        assert!(verdicts(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 3).is_empty());
        let mut watch = Watch::new(Verdicts::default());
        for _ in 0..100 {
            watch.see(&[b'a'; 4096]);
            assert!(watch.head.capacity() <= 2 * HEAD_BYTES_MAX);
        }
        assert_eq!(watch.state, State::Lost);
    }
}
