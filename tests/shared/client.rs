//! An S3 client: signed requests over HTTP, and what they tell of the store. The same for simulated sockets
//! (`tests/madsim`) and real ones (`tests/real`): whoever includes it has a `now` that counts nanoseconds.
//!
//! An answer is recorded as what the store said ([`Outcome`]), so that the simulator's checkers read these
//! histories like its own. What leaves the outcome open stays open: a connection that broke, an answer that did
//! not come, a 500 (which says so). A 4xx and a 503 promise that nothing was changed, and without a connection
//! nothing was asked.

use crate::now;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CONTENT_LENGTH, ETAG, HOST, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, Request as HttpRequest};
use ironseed::http::Connection;
use ironseed::sign::Signer;
use ironseed_core::object::api::{
    Answer, Attributes, Condition, Content, ETag, ListFrom, ListObjects, ListedObject, Listing,
    NewObject, Object, Outcome, Refusal, Request,
};
use ironseed_core::types::{NodeId, Timestamp};
use ironseed_sim::checkers::Violation;
use ironseed_sim::history::History;
use ironseed_sim::workload::content::{Body, Contents};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A client waits so long for an answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// What all clients of a run share.
#[derive(Default)]
pub(crate) struct Record {
    /// What they asked and were told.
    pub(crate) history: History,
    /// What they wrote.
    pub(crate) contents: Contents,
    /// What they saw to be wrong at once.
    pub(crate) violations: Vec<Violation>,
    /// Requests with a definite answer.
    pub(crate) answered: u64,
    /// Requests that were carried out.
    pub(crate) carried_out: u64,
}

/// A shared record.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<(Mutex<Record>, Notify)>);

impl Shared {
    /// The record. Nobody holds it while it waits for anything.
    pub(crate) fn open(&self) -> MutexGuard<'_, Record> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until some client is told that its write is done.
    #[allow(dead_code, reason = "only power that goes at the worst moment waits for it")]
    pub(crate) async fn acknowledged(&self) {
        self.0.1.notified().await;
    }
}

/// Where a cluster serves, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// `HOST:PORT` of each node's S3 port, from node 1 on.
    pub(crate) hosts: Vec<String>,
    /// Whose requests are signed.
    pub(crate) access_key: String,
    /// With what.
    pub(crate) secret_key: String,
    /// For which region.
    pub(crate) region: String,
    /// The bucket that all clients share.
    pub(crate) bucket: String,
}

/// What a client does.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Makes the bucket.
    MakeBucket,
    /// Puts this body.
    Put(String, Body, Condition),
    /// Reads an object.
    Get(String),
    /// Deletes an object.
    Delete(String),
    /// Lists, up to so many keys.
    List(u32),
}

/// One client with one connection.
pub(crate) struct Client {
    number: u32,
    site: Arc<Site>,
    node: u32,
    signer: Signer,
    connection: Option<Connection>,
    record: Shared,
}

/// Why there is no answer.
struct Failure {
    /// Whether it may have been asked: without a connection nothing was.
    sent: bool,
    why: String,
}

fn not_sent(error: impl ToString) -> Failure {
    Failure { sent: false, why: error.to_string() }
}

fn no_answer(error: impl ToString) -> Failure {
    Failure { sent: true, why: error.to_string() }
}

/// A whole answer.
struct Told {
    status: u16,
    etag: Option<String>,
    body: Bytes,
}

impl Client {
    /// A client that talks to this node first.
    #[must_use]
    pub(crate) fn new(number: u32, site: Arc<Site>, node: u32, record: Shared) -> Self {
        let signer = Signer::new(&site.access_key, &site.secret_key, &site.region);
        Self { number, site, node, signer, connection: None, record }
    }

    fn host(&self) -> String {
        self.site.hosts[self.node as usize - 1].clone()
    }

    /// Talks to this node from now on.
    pub(crate) fn turn_to(&mut self, node: u32) {
        (self.node, self.connection) = (node, None);
    }

    /// Asks, and records it. `None` when the outcome is unknown.
    pub(crate) async fn ask(&mut self, op: &Op) -> Option<Outcome> {
        let request = self.request(op);
        let call = {
            let record = &mut *self.record.open();
            record.history.call(now(), self.number, NodeId(self.node), &request)
        };
        let told = tokio::time::timeout(PATIENCE, self.exchange(op)).await;
        let told = told.unwrap_or_else(|_| Err(no_answer("too late")));
        let outcome = match told {
            Ok(told) => self.understand(op, told),
            Err(Failure { sent, why }) => {
                tracing::debug!(client = self.number, node = self.node, sent, why, "no answer");
                self.connection = None;
                (!sent).then_some(Err(Refusal::Unavailable(why)))
            }
        };
        let record = &mut *self.record.open();
        if let Some(outcome) = &outcome {
            record.answered += 1;
            record.carried_out += u64::from(outcome.is_ok());
            if let Ok(Answer::Written { .. }) = outcome {
                self.record.0.1.notify_waiters();
            }
            // Which bucket was made is nothing that S3 tells: its creation stays open.
            let silent = matches!(op, Op::MakeBucket) && outcome.is_ok();
            if let Some(call) = call.filter(|_| !silent) {
                record.history.returned(call, now(), outcome);
            }
        }
        outcome
    }

    fn request(&self, op: &Op) -> Request {
        let bucket = self.site.bucket.clone();
        match op.clone() {
            Op::MakeBucket => Request::CreateBucket { bucket },
            Op::Put(key, body, condition) => {
                let etag = self.record.open().contents.put(body);
                let content = Content::Inline(Bytes::new().into());
                let object =
                    NewObject { attributes: Attributes::default(), bytes: body.len, etag, content };
                Request::PutObject { bucket, key, object, condition }
            }
            Op::Get(key) => Request::GetObject { bucket, key },
            Op::Delete(key) => Request::DeleteObject { bucket, key, condition: Condition::None },
            Op::List(limit) => Request::ListObjects(ListObjects {
                bucket,
                prefix: String::new(),
                delimiter: None,
                from: ListFrom::Start,
                limit,
            }),
        }
    }

    async fn exchange(&mut self, op: &Op) -> Result<Told, Failure> {
        let connected = self.connection.take_if(|connection| !connection.is_closed());
        let connected = match connected {
            Some(connection) => connection,
            None => Connection::open(&self.host()).await.map_err(not_sent)?,
        };
        let request = self.http(op);
        let connection = self.connection.insert(connected);
        connection.ready().await.map_err(not_sent)?;
        let response = connection.send(request).await.map_err(no_answer)?;
        let status = response.status().as_u16();
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        let etag = etag.map(str::to_owned);
        let body = response.into_body().collect().await.map_err(no_answer)?;
        Ok(Told { status, etag, body: body.to_bytes() })
    }

    fn http(&mut self, op: &Op) -> HttpRequest<Full<Bytes>> {
        let (host, limit) = (self.host(), op.limit().to_string());
        let (method, key, query, body) = match op {
            Op::MakeBucket => (Method::PUT, None, vec![], Bytes::new()),
            Op::Put(key, body, _) => (Method::PUT, Some(key), vec![], body.bytes()),
            Op::Get(key) => (Method::GET, Some(key), vec![], Bytes::new()),
            Op::Delete(key) => (Method::DELETE, Some(key), vec![], Bytes::new()),
            Op::List(_) => {
                let query = vec![("list-type", "2"), ("max-keys", &*limit)];
                (Method::GET, None, query, Bytes::new())
            }
        };
        let path = match key {
            Some(key) => format!("/{}/{key}", self.site.bucket),
            None => format!("/{}", self.site.bucket),
        };
        let uri = self.signer.presign(method.as_str(), &host, &path, &query);
        let mut request = HttpRequest::builder().uri(uri).header(HOST, host);
        if method == Method::PUT {
            request = request.header(CONTENT_LENGTH, body.len());
        }
        if let Op::Put(_, _, condition) = op {
            request = match condition {
                Condition::None => request,
                Condition::Absent => request.header(IF_NONE_MATCH, "*"),
                Condition::Present => request.header(IF_MATCH, "*"),
                Condition::Is(etag) => request.header(IF_MATCH, format!("\"{etag}\"")),
            };
        }
        request.method(method).body(Full::new(body)).expect("keys and tags make no odd headers")
    }

    /// What an answer means; `None` when it leaves open what happened.
    fn understand(&self, op: &Op, told: Told) -> Option<Outcome> {
        let text = String::from_utf8_lossy(&told.body);
        if told.status >= 300 {
            return refusal(told.status, between(&text, "<Code>", "</Code>")?).map(Err);
        }
        Some(Ok(match op {
            Op::MakeBucket | Op::Delete(_) => Answer::Done,
            Op::Put(..) => {
                let etag = self.etag(&told, op)?;
                Answer::Written { etag, committed: Timestamp::default() }
            }
            Op::Get(_) => {
                let etag = self.etag(&told, op)?;
                self.compare(op, etag, &told.body);
                Answer::Object(Object {
                    attributes: Attributes::default(),
                    bytes: told.body.len() as u64,
                    etag,
                    content: Content::Inline(Bytes::new().into()),
                    committed: Timestamp::default(),
                    modified: 0,
                })
            }
            Op::List(_) => match page(&text) {
                Some(page) => Answer::Listing(page),
                None => {
                    self.wrong(op, format!("a page that is none: {text}"));
                    return None;
                }
            },
        }))
    }

    fn etag(&self, told: &Told, op: &Op) -> Option<ETag> {
        let etag = told.etag.as_deref().and_then(parse_etag);
        if etag.is_none() {
            self.wrong(op, format!("an answer with the entity tag {:?}", told.etag));
        }
        etag
    }

    /// The bytes are those that the tag stands for.
    fn compare(&self, op: &Op, etag: ETag, body: &Bytes) {
        let wrote = self.record.open().contents.bytes(etag);
        if let Some(wrote) = wrote
            && wrote.concat() != *body
        {
            self.wrong(op, format!("{etag} came with {} other bytes", body.len()));
        }
    }

    fn wrong(&self, op: &Op, what: String) {
        let what = format!("client {} at n{}: {op:?}: {what}", self.number, self.node);
        self.record.open().violations.push(Violation::new("content", now(), what));
    }
}

impl Op {
    const fn limit(&self) -> u32 {
        match self {
            Self::List(limit) => *limit,
            _ => 0,
        }
    }
}

/// What a refusal says, if it says that nothing was changed.
fn refusal(status: u16, code: &str) -> Option<Refusal> {
    Some(match code {
        "NoSuchKey" => Refusal::NoSuchKey,
        "NoSuchBucket" => Refusal::NoSuchBucket,
        "PreconditionFailed" => Refusal::PreconditionFailed,
        "BucketAlreadyOwnedByYou" => Refusal::BucketAlreadyOwnedByYou,
        "OperationAborted" => Refusal::BucketBusy,
        "ServiceUnavailable" => Refusal::Unavailable(String::new()),
        "SlowDown" => Refusal::Busy,
        "InternalError" => return None,
        _ => panic!("a client is refused with {status} {code}"),
    })
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    text.split_once(open)?.1.split_once(close).map(|(inside, _)| inside)
}

fn parse_etag(text: &str) -> Option<ETag> {
    let digits = text.trim_matches('"');
    let md5 = u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(ETag { md5: md5.to_be_bytes(), parts: 0 })
}

/// A page of a listing. Keys are such that XML does not change them.
fn page(text: &str) -> Option<Listing> {
    let mut objects = Vec::new();
    for entry in text.split("<Contents>").skip(1) {
        let tag = between(entry, "<ETag>", "</ETag>")?.replace("&quot;", "");
        objects.push(ListedObject {
            key: between(entry, "<Key>", "</Key>")?.to_owned(),
            bytes: between(entry, "<Size>", "</Size>")?.parse().ok()?,
            etag: parse_etag(&tag)?,
            modified: 0,
        });
    }
    let truncated = between(text, "<IsTruncated>", "</IsTruncated>")? == "true";
    let last = objects.last().map(|last| ListFrom::After(last.key.clone()));
    let next = if truncated { Some(last?) } else { None };
    Some(Listing { objects, common_prefixes: Vec::new(), next })
}
