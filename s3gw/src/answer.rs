//! Answers on their way out: every one has its request id, every error the same XML.

use crate::error::{Code, Error};
use crate::text::xml_escape;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The body of an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, s3s::StdError>;

/// Numbers requests, so that a client's complaint finds its log line.
#[derive(Debug)]
pub struct RequestIds(AtomicU64);

impl Default for RequestIds {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(AtomicU64::new(u64::try_from(now.as_nanos()).unwrap_or_default()))
    }
}

impl RequestIds {
    /// The next id: sixteen hexadecimal digits.
    pub fn next(&self) -> String {
        let mut id = self.0.fetch_add(1, Ordering::Relaxed);
        // SplitMix64's finish: neighbours should not look alike to a human eye.
        id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016X}", id ^ (id >> 31))
    }
}

/// What of a request every answer to it needs.
pub struct Asked<'a> {
    /// The id of the request.
    pub id: &'a str,
    /// The path, as the client sent it.
    pub resource: &'a str,
    /// Whether it was a HEAD: its answers have no body.
    pub head: bool,
}

/// The answer to a refused request.
#[must_use]
pub fn refuse(error: &Error, asked: &Asked<'_>) -> Response<AnswerBody> {
    let message = xml_escape(&error.message);
    error_response(error.code.status(), error.code.as_str(), &message, asked)
}

/// Finishes what s3s has made of a request.
#[must_use]
pub fn finish(response: Response<s3s::Body>, asked: &Asked<'_>) -> Response<AnswerBody> {
    let (mut parts, body) = response.into_parts();
    if parts.status.is_client_error() || parts.status.is_server_error() {
        let bytes = body.bytes().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let (status, code, message) = match field(&text, "Code") {
            // No document is no document, whatever s3s calls it.
            Some("MissingRequestBodyError") => {
                let code = Code::MalformedXML;
                (code.status(), code.as_str(), Some(code.message()))
            }
            Some(code) => (parts.status, code, field(&text, "Message")),
            None => (parts.status, Code::InternalError.as_str(), None),
        };
        let message = message.unwrap_or_else(|| Code::named(code).map_or("", Code::message));
        let mut out = error_response(status, code, message, asked);
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        out.headers_mut().extend(parts.headers);
        return out;
    }
    // s3s gives reads no say in their status.
    if parts.status == StatusCode::OK && parts.headers.contains_key(header::CONTENT_RANGE) {
        parts.status = StatusCode::PARTIAL_CONTENT;
    }
    let bodyless = asked.head || parts.status == StatusCode::NOT_MODIFIED;
    if parts.status == StatusCode::NOT_MODIFIED {
        parts.headers.remove(header::CONTENT_TYPE);
    }
    let body = if bodyless { empty() } else { body.boxed_unsync() };
    stamp(Response::from_parts(parts, body), asked)
}

/// The escaped content of a field of s3s's error document, which has no attributes and no nesting.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let from = text.split_once(&format!("<{name}>"))?.1;
    Some(from.split_once(&format!("</{name}>"))?.0)
}

fn empty() -> AnswerBody {
    full(Bytes::new())
}

fn full(bytes: Bytes) -> AnswerBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// `message` is escaped already.
fn error_response(
    status: StatusCode,
    code: &str,
    message: &str,
    asked: &Asked<'_>,
) -> Response<AnswerBody> {
    let bodyless = asked.head || status == StatusCode::NOT_MODIFIED;
    let body = if bodyless {
        Bytes::new()
    } else {
        let resource = xml_escape(asked.resource);
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
             <Resource>{resource}</Resource><RequestId>{}</RequestId></Error>",
            asked.id
        )
        .into()
    };
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    if !bodyless {
        let xml = HeaderValue::from_static("application/xml");
        response.headers_mut().insert(header::CONTENT_TYPE, xml);
    }
    stamp(response, asked)
}

fn stamp(mut response: Response<AnswerBody>, asked: &Asked<'_>) -> Response<AnswerBody> {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(asked.id) {
        headers.insert("x-amz-request-id", id);
    }
    headers.insert(header::SERVER, HeaderValue::from_static("Ironseed"));
    response
}
