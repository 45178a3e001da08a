//! The body of a request while it streams in: decoded, bounded in length and in time, and verified
//! against what was signed. Whoever has read it to its end without an error has read what the client
//! sent; until then nothing may be stored.

use super::chunked::Decoder;
use crate::error::{Code, Result};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A body as the server hands it in.
pub type RawBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// How slow a client may be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The time waited for `bytes_min`; time during which we were not asking does not count.
    pub window: Duration,
    /// The bytes that must come in every window.
    pub bytes_min: u64,
}

/// What is to be checked while the body streams by.
pub enum Framing {
    /// The bytes as they are, with the hash that was signed.
    Plain {
        /// SHA-256 so far, and what it must come to.
        hash: Option<(Sha256, [u8; 32])>,
    },
    /// aws-chunked.
    Chunked(Decoder),
}

/// A body that verifies itself.
pub struct Payload {
    body: RawBody,
    framing: Framing,
    /// How many bytes of data the client has promised; `None` if the framing alone says where it ends.
    promised: Option<u64>,
    received: u64,
    input: Bytes,
    begun: bool,
    ended: bool,
    broken: bool,
    patience: Patience,
    /// Since when we have been asking for the next bytes. Survives a dropped [`Payload::next`].
    asked: Option<Instant>,
    waited: Duration,
    waited_for: u64,
}

impl Payload {
    /// A body of `promised` bytes.
    #[must_use]
    pub fn new(body: RawBody, framing: Framing, promised: Option<u64>, patience: Patience) -> Self {
        Self {
            body,
            framing,
            promised,
            received: 0,
            input: Bytes::new(),
            begun: false,
            ended: false,
            broken: false,
            patience,
            asked: None,
            waited: Duration::ZERO,
            waited_for: 0,
        }
    }

    /// How many bytes of data the client has promised.
    #[must_use]
    pub fn promised(&self) -> Option<u64> {
        self.promised
    }

    /// Whether anything of the body has been asked for: the client may be sending.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Whether the body has come to its proper end: what follows on the connection is the next request.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended && !self.broken
    }

    /// The next bytes; `None` once everything has come and everything holds.
    ///
    /// # Errors
    /// The body is too short, too long, too slow, or not what was signed.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if !self.input.is_empty() {
                if let Some(data) = self.decode()? {
                    return Ok(Some(data));
                }
            } else if self.ended {
                return self.finish().map(|()| None);
            } else {
                self.fill().await?;
            }
        }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// As [`Payload::next`], and `MaxMessageLengthExceeded` above `max` bytes.
    pub async fn collect(&mut self, max: usize) -> Result<Bytes> {
        if self.promised.is_some_and(|promised| promised > max as u64) {
            return Err(Code::MaxMessageLengthExceeded.into());
        }
        let mut whole = BytesMut::new();
        while let Some(data) = self.next().await? {
            if whole.len() + data.len() > max {
                return Err(Code::MaxMessageLengthExceeded.into());
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    /// The trailers: lower-case names. Only after [`Payload::next`] gave `None`.
    #[must_use]
    pub fn trailers(&self) -> &[(String, String)] {
        match &self.framing {
            Framing::Plain { .. } => &[],
            Framing::Chunked(decoder) => decoder.trailers(),
        }
    }

    /// Reads and forgets, at most so much and so long, so that a client that is still sending gets to
    /// read its refusal and may go on using the connection.
    pub async fn drain(&mut self, max: usize, patience: Duration) {
        let until = Instant::now() + patience;
        let mut left = max;
        while !self.ended && left > 0 {
            let patience = until.saturating_duration_since(Instant::now());
            match timeout(patience, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                }
                Ok(Some(Err(_))) => (self.ended, self.broken) = (true, true),
                Ok(None) => self.ended = true,
                Err(_) => return,
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.begun = true;
        let asked = *self.asked.get_or_insert_with(Instant::now);
        let until = asked + self.patience.window.saturating_sub(self.waited);
        let patience = until.saturating_duration_since(Instant::now());
        let frame = timeout(patience, self.body.frame()).await.map_err(|_| Code::RequestTimeout)?;
        self.asked = None;
        self.waited += asked.elapsed();
        match frame {
            None => self.ended = true,
            Some(Ok(frame)) => {
                self.input = frame.into_data().unwrap_or_default();
                self.waited_for += self.input.len() as u64;
                if self.waited_for >= self.patience.bytes_min {
                    (self.waited, self.waited_for) = (Duration::ZERO, 0);
                }
            }
            Some(Err(_)) => {
                (self.ended, self.broken) = (true, true);
                return Err(Code::IncompleteBody.into());
            }
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<Option<Bytes>> {
        let data = match &mut self.framing {
            Framing::Chunked(decoder) => decoder.feed(&mut self.input)?,
            Framing::Plain { hash } => {
                let data = std::mem::take(&mut self.input);
                if let Some((hash, _)) = hash {
                    hash.update(&data);
                }
                Some(data)
            }
        };
        self.received += data.as_ref().map_or(0, |data| data.len() as u64);
        if self.promised.is_some_and(|promised| self.received > promised) {
            return Err(Code::IncompleteBody.into());
        }
        Ok(data)
    }

    fn finish(&mut self) -> Result<()> {
        match &mut self.framing {
            Framing::Chunked(decoder) => decoder.finish()?,
            Framing::Plain { hash } => {
                if self.promised.is_some_and(|promised| self.received != promised) {
                    return Err(Code::IncompleteBody.into());
                }
                if let Some((hash, signed)) = hash.take()
                    && <[u8; 32]>::from(hash.finalize()) != signed
                {
                    return Err(Code::XAmzContentSHA256Mismatch.into());
                }
            }
        }
        Ok(())
    }
}
