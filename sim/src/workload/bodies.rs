//! Bodies on their way in and out, through the same machines as the S3 gateway's.

use super::script::Target;
use bytes::Bytes;
use ironseed_core::machine::Instant;
use ironseed_core::object::api::{ETag, Outcome, PUT_BYTES_MAX};
use ironseed_core::object::transfer::{Call, Downloader, Ticket, Uploader};

/// A body on its way into the store.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    /// The machine.
    pub(super) uploader: Box<Uploader>,
    /// What is put.
    pub(super) body: Bytes,
    pushed: usize,
    complete: bool,
}

/// A body on its way out, compared with what its tag stands for.
#[derive(Clone, Debug)]
pub(super) struct Download {
    /// The machine.
    pub(super) downloader: Box<Downloader>,
    /// What is being read.
    pub(super) etag: ETag,
    /// When the look-up pinned it.
    pub(super) began: u64,
    /// Bytes found right so far.
    pub(super) checked: u64,
    expected: Vec<Bytes>,
}

impl Upload {
    pub(super) fn new(target: &Target, body: Bytes) -> Self {
        let (bucket, key) = (target.bucket.clone(), target.key.clone());
        let uploader = Uploader::new(bucket, key, PUT_BYTES_MAX).promised(body.len() as u64);
        let uploader = Box::new(uploader);
        let mut upload = Self { uploader, body, pushed: 0, complete: false };
        upload.feed();
        upload
    }

    /// Gives it what it has room for.
    fn feed(&mut self) {
        while self.uploader.wants_bytes() && self.pushed < self.body.len() {
            let end = self.body.len().min(self.pushed + PIECE);
            self.uploader.push(&self.body[self.pushed..end]);
            self.pushed = end;
        }
        if self.pushed == self.body.len() && !self.complete {
            self.complete = true;
            self.uploader.finish();
        }
    }

    pub(super) fn poll(&mut self, now: u64) -> Option<Call> {
        self.feed();
        self.uploader.poll(Instant(now))
    }

    pub(super) fn report(&mut self, ticket: Option<Ticket>, outcome: Outcome) {
        if let Some(ticket) = ticket {
            self.uploader.on_outcome(ticket, outcome);
        }
        self.feed();
    }
}

impl Download {
    pub(super) fn new(
        downloader: Downloader,
        etag: ETag,
        expected: Vec<Bytes>,
        began: u64,
    ) -> Self {
        Self { downloader: Box::new(downloader), etag, began, checked: 0, expected }
    }

    /// Compares a piece with what the tag stands for.
    pub(super) fn matches(&mut self, piece: &Bytes) -> bool {
        let mut at = self.checked;
        let mut rest = piece.as_ref();
        let mut start = 0;
        for body in &self.expected {
            let end = start + body.len() as u64;
            if at < end && !rest.is_empty() {
                let from = (at - start) as usize;
                let take = rest.len().min(body.len() - from);
                if rest[..take] != body[from..from + take] {
                    return false;
                }
                rest = &rest[take..];
                at += take as u64;
            }
            start = end;
        }
        self.checked = at;
        rest.is_empty()
    }
}

/// Bytes that a client sends at once.
const PIECE: usize = 64 << 10;
