//! What one client operation does: which requests it makes, and what it makes of their answers.
//!
//! A script is polled for requests and told their outcomes, in any order. Bodies move through the same
//! uploader and downloader as the S3 gateway's, so the simulator tests how bytes are cut, named and put
//! together again.

use super::bodies::{Download, Upload};
use super::content::{Body, Contents};
use super::multipart::{Finish, Multipart, Progress};
use bytes::Bytes;
use ironseed_core::chunk::PIN_MS;
use ironseed_core::machine::Instant;
use ironseed_core::object::api::{
    Answer, Attributes, Condition, ETag, NewObject, Outcome, Refusal, Request,
};
use ironseed_core::object::transfer::{Downloader, Failure, Ticket};
use std::collections::BTreeMap;
use std::fmt;

/// An object that a script is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

/// What a script came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The store said what happened.
    Definite,
    /// It said "not now", or nothing: an operation that must succeed is tried again.
    Indefinite,
    /// It said something that it must not say.
    Wrong(String),
}

/// One client operation under way.
#[derive(Clone, Debug)]
pub struct Script {
    stage: Stage,
    /// Requests made so far: the next tag.
    tags: u64,
    tickets: BTreeMap<u64, Ticket>,
    waiting: usize,
    end: Option<End>,
}

#[derive(Clone, Debug)]
enum Stage {
    /// One request, and perhaps what to ask should it be refused.
    Single { request: Box<Option<Request>>, release: Option<Request> },
    /// A write, and the look at it that is taken so often as soon as it is answered.
    Relay { write: Option<Box<Request>>, look: Box<Request>, left: u32 },
    /// A put: the body goes up, then the record.
    Put { upload: Upload, target: Target, condition: Condition, etag: ETag },
    /// A read: the record comes, then the body.
    Lookup { request: Option<Request> },
    /// The body of a read.
    Download(Download),
    /// A multipart upload.
    Multipart(Box<Multipart>),
    /// Nothing more.
    Done,
}

impl Script {
    const fn new(stage: Stage) -> Self {
        Self { stage, tags: 0, tickets: BTreeMap::new(), waiting: 0, end: None }
    }

    /// One request.
    #[must_use]
    pub fn single(request: Request) -> Self {
        Self::new(Stage::Single { request: Box::new(Some(request)), release: None })
    }

    /// One request, and as soon as it is answered another one so many times at once.
    #[must_use]
    pub fn relay(write: Request, look: Request, times: u32) -> Self {
        let (write, look) = (Some(Box::new(write)), Box::new(look));
        Self::new(Stage::Relay { write, look, left: times })
    }

    /// Whether what is asked next is for another node.
    #[must_use]
    pub const fn goes_round(&self) -> bool {
        matches!(self.stage, Stage::Relay { write: None, .. })
    }

    /// Puts a body.
    pub fn put(target: Target, body: Body, condition: Condition, contents: &mut Contents) -> Self {
        let bytes = body.bytes();
        let etag = contents.put_bytes(body, &bytes);
        let upload = Upload::new(&target, bytes);
        let mut script = Self::new(Stage::Done);
        // A small body has nothing to stage.
        script.stage = script.after_upload(upload, target, condition, etag);
        script
    }

    /// Reads an object and every byte of it.
    #[must_use]
    pub fn get(target: Target) -> Self {
        let Target { bucket, key } = target;
        let request = Some(Request::GetObject { bucket, key });
        Self::new(Stage::Lookup { request })
    }

    /// Writes these parts, in order, and ends the upload.
    #[must_use]
    pub fn multipart(target: Target, bodies: Vec<Body>, finish: Finish) -> Self {
        Self::new(Stage::Multipart(Box::new(Multipart::new(target, bodies, finish))))
    }

    /// What it came to, once nothing is under way.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref().filter(|_| self.waiting == 0 && matches!(self.stage, Stage::Done))
    }

    /// The next request, with a tag to report its outcome under.
    pub fn poll(&mut self, now: u64) -> Option<(u64, Request)> {
        let (ticket, request) = match &mut self.stage {
            Stage::Single { request, .. } => (None, request.take()?),
            Stage::Relay { write, look, left } => match write.take() {
                Some(write) => (None, *write),
                // What it has written has to be answered first.
                None if self.waiting > 0 && self.tags == 1 || *left == 0 => return None,
                None => {
                    *left -= 1;
                    (None, (**look).clone())
                }
            },
            Stage::Lookup { request } => (None, request.take()?),
            Stage::Put { upload, .. } => {
                let call = upload.poll(now)?;
                (Some(call.ticket), call.request)
            }
            Stage::Download(download) => {
                let call = download.downloader.poll(Instant(now))?;
                (Some(call.ticket), call.request)
            }
            Stage::Multipart(multipart) => multipart.poll(Instant(now))?,
            Stage::Done => return None,
        };
        self.tags += 1;
        self.waiting += 1;
        self.tickets.extend(ticket.map(|ticket| (self.tags, ticket)));
        Some((self.tags, request))
    }

    /// A request's outcome; one that never came is [`Refusal::OutcomeUnknown`].
    pub fn on_outcome(&mut self, now: u64, tag: u64, outcome: Outcome, contents: &mut Contents) {
        self.waiting -= 1;
        let ticket = self.tickets.remove(&tag);
        let stage = core::mem::replace(&mut self.stage, Stage::Done);
        self.stage = match stage {
            Stage::Put { mut upload, target, condition, etag } => {
                upload.report(ticket, outcome);
                self.after_upload(upload, target, condition, etag)
            }
            Stage::Single { release, .. } => {
                self.finish(&outcome);
                match release.filter(|_| outcome.is_err()) {
                    None => Stage::Done,
                    release => Stage::Single { request: Box::new(release), release: None },
                }
            }
            Stage::Relay { write, look, left } => {
                self.finish(&outcome);
                let over = left == 0 && self.waiting == 0;
                if over { Stage::Done } else { Stage::Relay { write, look, left } }
            }
            Stage::Lookup { .. } => self.after_lookup(now, outcome, contents),
            Stage::Download(mut download) => {
                if let Some(ticket) = ticket {
                    download.downloader.on_outcome(ticket, outcome);
                }
                self.after_chunk(now, download)
            }
            Stage::Multipart(mut multipart) => {
                match multipart.on_outcome(ticket, outcome, contents) {
                    Progress::Going => Stage::Multipart(multipart),
                    Progress::Failed(failure) => self.fail(failure),
                    Progress::Wrong(what) => self.wrong(what),
                    Progress::Over(outcome) => {
                        self.finish(&outcome);
                        Stage::Done
                    }
                }
            }
            Stage::Done => Stage::Done,
        };
    }

    /// The first ending counts.
    fn finish(&mut self, outcome: &Outcome) {
        let end = if is_definite(outcome) { End::Definite } else { End::Indefinite };
        self.end.get_or_insert(end);
    }

    fn wrong(&mut self, what: String) -> Stage {
        self.end = Some(End::Wrong(what));
        Stage::Done
    }

    fn fail(&mut self, failure: Failure) -> Stage {
        match failure {
            Failure::Refused(refusal) => self.finish(&Err(refusal)),
            Failure::Inconsistent(how) => return self.wrong(how),
            Failure::TooLarge | Failure::Aborted => unreachable!("no client does that"),
        }
        Stage::Done
    }

    fn after_upload(
        &mut self,
        upload: Upload,
        target: Target,
        condition: Condition,
        etag: ETag,
    ) -> Stage {
        match upload.uploader.outcome() {
            // A failed upload still has its blob to drop.
            Some(Err(failure)) if upload.uploader.is_idle() => self.fail(failure),
            Some(Err(_)) | None => Stage::Put { upload, target, condition, etag },
            Some(Ok(uploaded)) => {
                let release = uploaded.release();
                let object = NewObject {
                    attributes: Attributes::default(),
                    bytes: uploaded.bytes,
                    etag,
                    content: uploaded.content,
                };
                let Target { bucket, key } = target;
                let request = Request::PutObject { bucket, key, object, condition };
                Stage::Single { request: Box::new(Some(request)), release }
            }
        }
    }

    fn after_lookup(&mut self, now: u64, outcome: Outcome, contents: &Contents) -> Stage {
        let Ok(Answer::Object(object)) = outcome else {
            self.finish(&outcome);
            return Stage::Done;
        };
        let Some(expected) = contents.bytes(object.etag) else {
            return self.wrong(format!("nobody wrote {}", object.etag));
        };
        let len: usize = expected.iter().map(Bytes::len).sum();
        if len as u64 != object.bytes {
            return self.wrong(format!("{} has {len} bytes, not {}", object.etag, object.bytes));
        }
        let all = 0..object.bytes;
        let downloader = Downloader::new(&object.content, object.bytes, all);
        self.after_chunk(now, Download::new(downloader, object.etag, expected, now))
    }

    fn after_chunk(&mut self, now: u64, mut download: Download) -> Stage {
        while let Some(piece) = download.downloader.take() {
            if !download.matches(&piece) {
                let (etag, at) = (download.etag, download.checked);
                return self.wrong(format!("{etag}: wrong bytes within {} of {at}", piece.len()));
            }
        }
        match download.downloader.failure().cloned() {
            // The look-up pinned the bytes: nothing may collect them under a reader.
            Some(Failure::Refused(Refusal::NoSuchBlob | Refusal::NoSuchUpload))
                if now < download.began + PIN_MS * 1_000_000 / 2 =>
            {
                self.wrong(format!("{}: its bytes were collected while pinned", download.etag))
            }
            Some(failure) => self.fail(failure),
            None if download.downloader.done() => {
                self.finish(&Ok(Answer::Done));
                Stage::Done
            }
            None => Stage::Download(download),
        }
    }
}

/// Whether an outcome says what happened.
#[must_use]
pub const fn is_definite(outcome: &Outcome) -> bool {
    !matches!(
        outcome,
        Err(Refusal::Unavailable(_)
            | Refusal::Busy
            | Refusal::BucketBusy
            | Refusal::ChunkUnavailable
            | Refusal::NoSpace
            | Refusal::Restage
            | Refusal::OutcomeUnknown)
    )
}
