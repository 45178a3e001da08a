//! Who sent this request: signature V4 in the `Authorization` header or in the query, and nothing else.
//!
//! The order of the checks is the order in which AWS answers: form, then scope, then key, then time,
//! then the signature itself. A request that gets past [`authenticate`] was made by the holder of the
//! secret key within the last 15 minutes (or the presigned URL's life), in every header that means
//! anything to S3.

use super::sigv4::{Canonical, Scope, canonical_value, same};
use crate::Store;
use crate::error::{Code, Error, Result};
use crate::text::{amz_date, parse_amz_date, parse_http_date, percent, unhex};
use http::HeaderMap;
use std::cell::RefCell;

/// How far a client's clock may be off: seconds.
const SKEW_MAX: i64 = 15 * 60;
/// The longest life of a presigned URL: seven days, in seconds.
const EXPIRES_MAX: i64 = 604_800;

/// The parts of a request that signatures cover.
pub struct Signable<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path as the client sent it.
    pub raw_path: &'a str,
    /// The path decoded.
    pub path: &'a str,
    /// The query decoded.
    pub query: &'a [(String, String)],
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Seconds since the Unix epoch.
    pub now: i64,
}

/// How the body is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// Its SHA-256 is signed.
    Hashed([u8; 32]),
    /// Not at all.
    Unsigned,
    /// aws-chunked.
    Chunked {
        /// Every chunk is signed.
        signed: bool,
        /// Trailers follow.
        trailers: bool,
    },
}

impl PayloadKind {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "UNSIGNED-PAYLOAD" => Self::Unsigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Self::Chunked { signed: true, trailers: false },
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
                Self::Chunked { signed: true, trailers: true }
            }
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Self::Chunked { signed: false, trailers: true },
            other if other.starts_with("STREAMING-") => return Err(Code::NotImplemented.into()),
            other => {
                let hash = unhex(other).and_then(|hash| hash.try_into().ok());
                Self::Hashed(hash.ok_or_else(|| {
                    Code::InvalidArgument.because(
                        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                         STREAMING-AWS4-HMAC-SHA256-PAYLOAD(-TRAILER), or a valid sha256 value.",
                    )
                })?)
            }
        })
    }
}

/// A request whose signature holds.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Whose key, for what.
    pub scope: Scope,
    /// The signing key, which also signs chunks.
    pub key: [u8; 32],
    /// The date that was signed, `yyyymmddThhmmssZ`.
    pub date: String,
    /// The signature, which the first chunk's covers.
    pub signature: String,
    /// How the body is protected.
    pub payload: PayloadKind,
}

/// Verifies whichever one signature the request has.
///
/// # Errors
/// Everything but one valid signature.
pub fn authenticate<S: Store>(request: &Signable<'_>, store: &S) -> Result<Signed> {
    let in_query = request.query.iter().any(|(name, _)| {
        matches!(
            name.as_str(),
            "X-Amz-Algorithm"
                | "X-Amz-Credential"
                | "X-Amz-Signature"
                | "X-Amz-SignedHeaders"
                | "X-Amz-Expires"
        )
    });
    let has = |name: &str| request.query.iter().any(|(key, _)| key == name);
    let header = request.headers.get("authorization");
    if header.is_some() && (in_query || has("Signature")) {
        return Err(Code::InvalidArgument
            .because("Only one auth mechanism allowed; use either the query or the header"));
    }
    if has("AWSAccessKeyId") && has("Signature") {
        return Err(version_2());
    }
    if request.headers.contains_key("x-amz-security-token") || has("X-Amz-Security-Token") {
        return Err(Code::InvalidToken.into());
    }
    if in_query {
        return by_query(request, store);
    }
    let Some(header) = header else { return Err(Code::AccessDenied.into()) };
    by_header(request, header.to_str().map_err(|_| Code::AuthorizationHeaderMalformed)?, store)
}

fn version_2() -> Error {
    Code::NotImplemented.because("Signature version 2 is not supported; use AWS4-HMAC-SHA256")
}

fn by_header<S: Store>(request: &Signable<'_>, header: &str, store: &S) -> Result<Signed> {
    let malformed = || Error::from(Code::AuthorizationHeaderMalformed);
    let (scheme, fields) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    match scheme {
        "AWS4-HMAC-SHA256" => {}
        "AWS" => return Err(version_2()),
        other if other.starts_with("AWS4-ECDSA") => return Err(Code::NotImplemented.into()),
        other if other.starts_with("AWS4") => return Err(malformed()),
        _ => return Err(Code::InvalidArgument.because("Unsupported Authorization Type")),
    }
    let (mut credential, mut names, mut signature) = (None, None, None);
    for field in fields.split(',') {
        let (name, value) = field.trim().split_once('=').ok_or_else(malformed)?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut names,
            "Signature" => &mut signature,
            _ => return Err(malformed()),
        };
        if slot.replace(value).is_some() {
            return Err(malformed());
        }
    }
    let (Some(credential), Some(names), Some(signature)) = (credential, names, signature) else {
        return Err(malformed());
    };
    let scope = Scope::parse(credential).ok_or_else(malformed)?;
    check_scope(&scope, store, Code::AuthorizationHeaderMalformed)?;
    let key = signing_key(&scope, store)?;
    let (seconds, date) = date_of(request.headers)?;
    if (request.now - seconds).abs() > SKEW_MAX {
        return Err(Code::RequestTimeTooSkewed.into());
    }
    if !date.starts_with(&scope.day) {
        return Err(Code::AuthorizationHeaderMalformed
            .because("The date of the credential is not the date of the request"));
    }
    let Some(payload) = request.headers.get("x-amz-content-sha256") else {
        return Err(Code::InvalidRequest
            .because("Missing required header for this request: x-amz-content-sha256"));
    };
    let payload = payload.to_str().map_err(|_| Code::InvalidArgument)?;
    let kind = PayloadKind::parse(payload)?;
    let headers = signed_headers(request, names)?;
    verify(request, request.query, &headers, payload, (&scope, &key, &date), signature)?;
    Ok(Signed { scope, key, date, signature: signature.to_owned(), payload: kind })
}

fn by_query<S: Store>(request: &Signable<'_>, store: &S) -> Result<Signed> {
    let malformed = |why: &'static str| Code::AuthorizationQueryParametersError.because(why);
    let field = |name: &str| {
        let mut found = request.query.iter().filter(|(key, _)| key == name);
        let first = found.next().map(|(_, value)| value.as_str());
        first.filter(|_| found.next().is_none()).ok_or_else(|| {
            malformed(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                 X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
            )
        })
    };
    let algorithm = field("X-Amz-Algorithm")?;
    let credential = field("X-Amz-Credential")?;
    let date = field("X-Amz-Date")?;
    let expires = field("X-Amz-Expires")?;
    let names = field("X-Amz-SignedHeaders")?;
    let signature = field("X-Amz-Signature")?;
    if algorithm != "AWS4-HMAC-SHA256" {
        return Err(malformed("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
    }
    let scope = Scope::parse(credential)
        .ok_or_else(|| malformed("Error parsing the X-Amz-Credential parameter"))?;
    check_scope(&scope, store, Code::AuthorizationQueryParametersError)?;
    let seconds = parse_amz_date(date)
        .ok_or_else(|| malformed("X-Amz-Date must be in the ISO8601 Long Format"))?;
    let expires: i64 =
        expires.parse().map_err(|_| malformed("X-Amz-Expires should be a number"))?;
    if expires < 0 {
        return Err(malformed("X-Amz-Expires must be non-negative"));
    }
    if expires > EXPIRES_MAX {
        return Err(malformed("X-Amz-Expires must be less than a week (in seconds)"));
    }
    if !date.starts_with(&scope.day) {
        return Err(malformed("The date of the credential is not X-Amz-Date's"));
    }
    let key = signing_key(&scope, store)?;
    if seconds - request.now > SKEW_MAX {
        return Err(Code::AccessDenied.because("Request is not yet valid"));
    }
    if request.now > seconds + expires {
        return Err(Code::AccessDenied.because("Request has expired"));
    }
    let in_header =
        request.headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
    let in_query = request.query.iter().find(|(name, _)| name == "X-Amz-Content-Sha256");
    let payload =
        in_header.or(in_query.map(|(_, value)| value.as_str())).unwrap_or("UNSIGNED-PAYLOAD");
    let kind = PayloadKind::parse(payload)?;
    let headers = signed_headers(request, names)?;
    let query: Vec<(String, String)> =
        request.query.iter().filter(|(name, _)| name != "X-Amz-Signature").cloned().collect();
    verify(request, &query, &headers, payload, (&scope, &key, date), signature)?;
    Ok(Signed { scope, key, date: date.to_owned(), signature: signature.to_owned(), payload: kind })
}

fn check_scope<S: Store>(scope: &Scope, store: &S, code: Code) -> Result<()> {
    if scope.service != "s3" {
        return Err(code.because(format!(
            "The authorization is malformed; incorrect service \"{}\". This endpoint belongs to \"s3\".",
            scope.service
        )));
    }
    if scope.region != store.region() {
        return Err(code.because(format!(
            "The authorization is malformed; the region '{}' is wrong; expecting '{}'",
            scope.region,
            store.region()
        )));
    }
    Ok(())
}

fn signing_key<S: Store>(scope: &Scope, store: &S) -> Result<[u8; 32]> {
    let secret = store.credentials(&scope.access_key).ok_or(Code::InvalidAccessKeyId)?;
    // The same for a client's whole day, and four hashes to derive: each thread keeps its last one.
    LAST_KEY.with_borrow_mut(|last| match last {
        Some((of, with, key)) if of == scope && *with == secret => Ok(*key),
        _ => {
            let key = scope.signing_key(&secret);
            *last = Some((scope.clone(), secret, key));
            Ok(key)
        }
    })
}

thread_local! {
    /// The signing key that was derived last: for which scope, from which secret.
    static LAST_KEY: RefCell<Option<(Scope, String, [u8; 32])>> = const { RefCell::new(None) };
}

/// When the client says that it signed: seconds since the Unix epoch, and the signed notation.
fn date_of(headers: &HeaderMap) -> Result<(i64, String)> {
    let none = || {
        Code::AccessDenied.because("AWS authentication requires a valid Date or x-amz-date header")
    };
    if let Some(date) = headers.get("x-amz-date") {
        let date = date.to_str().map_err(|_| none())?;
        return Ok((parse_amz_date(date).ok_or_else(none)?, date.to_owned()));
    }
    let date = headers.get("date").and_then(|date| date.to_str().ok()).ok_or_else(none)?;
    let seconds = parse_http_date(date).or_else(|| parse_amz_date(date)).ok_or_else(none)?;
    Ok((seconds, amz_date(seconds)))
}

/// The signed headers with their values; refuses when a header that means something to S3 is not among
/// them, since anybody on the way could have added it.
fn signed_headers(request: &Signable<'_>, names: &str) -> Result<Vec<(String, String)>> {
    let names: Vec<String> = names.split(';').map(str::to_ascii_lowercase).collect();
    let unsigned = |name: &str| {
        Code::AccessDenied.because(format!(
            "There were headers present in the request which were not signed: {name}"
        ))
    };
    if !names.iter().any(|name| name == "host") {
        return Err(unsigned("host"));
    }
    for name in request.headers.keys() {
        // The payload line of the canonical request covers this one anyway.
        if name.as_str().starts_with("x-amz-")
            && name != "x-amz-content-sha256"
            && !names.iter().any(|signed| signed == name.as_str())
        {
            return Err(unsigned(name.as_str()));
        }
    }
    Ok(names
        .into_iter()
        .map(|name| {
            let values = request.headers.get_all(&name).iter();
            let values: Vec<String> = values
                .map(|value| canonical_value(&String::from_utf8_lossy(value.as_bytes())))
                .collect();
            (name, values.join(","))
        })
        .collect())
}

fn verify(
    request: &Signable<'_>,
    query: &[(String, String)],
    headers: &[(String, String)],
    payload: &str,
    (scope, key, date): (&Scope, &[u8; 32], &str),
    given: &str,
) -> Result<()> {
    // Most clients sign the path encoded in the one canonical way, whatever they send; some sign what
    // they send. Both signatures need the key, so accepting either gives nothing away.
    let encoded = percent(request.path.as_bytes(), false);
    for path in [encoded.as_str(), request.raw_path] {
        let method = request.method;
        let canonical = Canonical { method, path, query, headers, payload };
        if same(&canonical.signature(scope, key, date), given) {
            return Ok(());
        }
    }
    Err(Code::SignatureDoesNotMatch.into())
}
