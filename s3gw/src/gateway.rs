//! One request, from its head to its answer.

use crate::answer::{self, AnswerBody, Asked, RequestIds};
use crate::checksum::Digests;
use crate::error::{Code, Error, Result};
use crate::guard::class::{BodyUse, Row};
use crate::guard::{Admitted, LARGE_BYTES_MAX, Payload, RawBody, SMALL_BYTES_MAX, judge};
use crate::ops::{Call, Ops};
use crate::stream::Budget;
use crate::text::percent;
use crate::wire::Verdict;
use crate::{Config, Store};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, header};
use s3s::service::{S3Service, S3ServiceBuilder};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How much of a refused body is read before the answer, and for how long: enough that an ordinary
/// client gets to see why, little enough to be no gift to another.
const DRAIN_BYTES_MAX: usize = 1 << 20;
const DRAIN_TIME_MAX: Duration = Duration::from_millis(500);

/// Everything that requests share.
pub struct Gateway<S: Store> {
    store: Arc<S>,
    config: Config,
    s3s: S3Service,
    budget: Budget,
    ids: RequestIds,
    requests: Semaphore,
}

impl<S: Store> Gateway<S> {
    /// A gateway to this store.
    #[must_use]
    pub fn new(store: Arc<S>, config: Config) -> Self {
        let budget = Budget::new(config.buffer_bytes_max, config.buffer_wait);
        let ops = Ops::new(Arc::clone(&store), budget.clone());
        // No authentication provider: the guard has verified the request, and s3s gets to see neither
        // signature nor access key.
        let s3s = S3ServiceBuilder::new(ops).build();
        let requests = Semaphore::new(config.requests_max);
        Self { store, config, s3s, budget, ids: RequestIds::default(), requests }
    }

    /// Answers one request. `verdict` is what was seen of its head on the wire.
    pub async fn handle(
        &self,
        request: Request<RawBody>,
        verdict: Verdict,
    ) -> Response<AnswerBody> {
        let started = Instant::now();
        let id = self.ids.next();
        let (parts, body) = request.into_parts();
        let resource = parts.uri.path();
        let asked = Asked { id: &id, resource, head: parts.method == http::Method::HEAD };
        let mut response = self.answer(&parts, body, verdict, &asked).await;
        if response.version() == http::Version::HTTP_10 {
            *response.version_mut() = http::Version::HTTP_11;
        }
        let status = response.status().as_u16();
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (method, query) = (&parts.method, parts.uri.query().map(redact));
        if response.status().is_server_error() && status != 501 {
            tracing::warn!(%method, resource, query, status, id, millis, "answered");
        } else {
            tracing::debug!(%method, resource, query, status, id, millis, "answered");
        }
        response
    }

    async fn answer(
        &self,
        parts: &Parts,
        body: RawBody,
        verdict: Verdict,
        asked: &Asked<'_>,
    ) -> Response<AnswerBody> {
        if verdict == Verdict::Ambiguous {
            let error = Code::InvalidRequest.because("the request's length is ambiguous");
            return closing(answer::refuse(&error, asked));
        }
        let Ok(_permit) = self.requests.try_acquire() else {
            return closing(answer::refuse(&Code::SlowDown.into(), asked));
        };
        match judge(parts, body, &*self.store, &self.config) {
            Ok(admitted) => self.carry_out(parts, admitted, asked).await,
            Err((error, mut payload)) => {
                let response = answer::refuse(&error, asked);
                drained(response, &mut payload, parts).await
            }
        }
    }

    async fn carry_out(
        &self,
        parts: &Parts,
        admitted: Admitted,
        asked: &Asked<'_>,
    ) -> Response<AnswerBody> {
        let Admitted { row, bucket, key, query, announced, mut payload } = admitted;
        let mut document = Bytes::new();
        let mut _room = None;
        if row.body != BodyUse::Stream {
            let max = if row.body == BodyUse::Large { LARGE_BYTES_MAX } else { SMALL_BYTES_MAX };
            // Most requests have no document; those that have one share the room of the transfers.
            if row.body == BodyUse::Large {
                match self.budget.take(max).await {
                    Ok(room) => _room = Some(room),
                    Err(error) => {
                        return drained(answer::refuse(&error, asked), &mut payload, parts).await;
                    }
                }
            }
            match read_document(&mut payload, &announced, max).await {
                Ok(bytes) => document = bytes,
                Err(error) => {
                    return drained(answer::refuse(&error, asked), &mut payload, parts).await;
                }
            }
        }
        let request = match sanitised(parts, row, &bucket, &key, &query, document) {
            Ok(request) => request,
            Err(error) => return answer::refuse(&error, asked),
        };
        let headers = parts.headers.clone();
        let call =
            Arc::new(Call { headers, query, bucket, key, announced, payload: payload.into() });
        let mut request = request;
        request.extensions_mut().insert(Arc::clone(&call));
        let response = match self.s3s.call(request).await {
            Ok(response) => answer::finish(response, asked),
            Err(error) => {
                tracing::error!(?error, "s3s could not make an answer");
                answer::refuse(&Code::InternalError.into(), asked)
            }
        };
        if response.status().is_success() {
            return response;
        }
        let mut payload = call.payload.lock().await;
        drained(response, &mut payload, parts).await
    }
}

/// A query fit for a log.
fn redact(query: &str) -> String {
    query.split('&').filter(|pair| !pair.starts_with("X-Amz-")).collect::<Vec<_>>().join("&")
}

/// Reads a small body and verifies it against what was announced.
async fn read_document(
    payload: &mut Payload,
    announced: &crate::checksum::Announced,
    max: usize,
) -> Result<Bytes> {
    let document = payload.collect(max).await?;
    let mut announced = announced.clone();
    announced.take_trailers(payload.trailers())?;
    let mut digests = Digests::new(announced.checksum.as_ref().map(|(algorithm, _)| *algorithm));
    digests.update(&document);
    digests.finish().verify(&announced)?;
    // s3s's parser skips both without a word: an entity bomb is harmless there, but a key in a CDATA
    // section would be read as empty.
    let holds = |mark: &[u8]| document.windows(mark.len()).any(|window| window == mark);
    if holds(b"<!") && (holds(b"<!DOCTYPE") || holds(b"<![CDATA[") || holds(b"<!ENTITY")) {
        return Err(Code::MalformedXML.into());
    }
    Ok(document)
}

/// What s3s gets to see: the path in path style, the parameters of the operation, and no header but the
/// one that makes a put a copy. Everything else it might stumble over; operations read it themselves.
fn sanitised(
    parts: &Parts,
    row: &Row,
    bucket: &str,
    key: &str,
    query: &[(String, String)],
    document: Bytes,
) -> Result<Request<s3s::Body>> {
    let mut uri = String::from("/");
    if !bucket.is_empty() {
        uri.push_str(bucket);
    }
    if !key.is_empty() {
        uri.push('/');
        uri.push_str(&percent(key.as_bytes(), false));
    }
    let mut separator = '?';
    for (name, value) in query.iter().filter(|(name, _)| row.passes(name)) {
        uri.push(separator);
        uri.push_str(&percent(name.as_bytes(), true));
        uri.push('=');
        uri.push_str(&percent(value.as_bytes(), true));
        separator = '&';
    }
    let mut request = Request::builder()
        .method(&parts.method)
        .uri(uri)
        .body(s3s::Body::from(document))
        .map_err(|_| Error::from(Code::InvalidURI))?;
    if let Some(source) = parts.headers.get("x-amz-copy-source") {
        request.headers_mut().insert("x-amz-copy-source", source.clone());
    }
    Ok(request)
}

fn closing(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Lets a client that is still sending finish, within bounds, so that it reads its refusal instead of a
/// reset. One that waits for `100 Continue` is not waited for: it has not begun.
async fn drained(
    response: Response<AnswerBody>,
    payload: &mut Payload,
    parts: &Parts,
) -> Response<AnswerBody> {
    let expects = parts.headers.contains_key(header::EXPECT);
    if !payload.ended() && (payload.begun() || !expects) {
        payload.drain(DRAIN_BYTES_MAX, DRAIN_TIME_MAX).await;
    }
    if payload.ended() { response } else { closing(response) }
}
