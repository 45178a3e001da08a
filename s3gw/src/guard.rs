//! The judge in front of everything: what a request is, who sent it, and whether it may go on.
//!
//! s3s parses S3's XML and parameters well, but it verifies neither Content-MD5 nor checksums, collects
//! whole chunks in memory, ignores what it doesn't know, and words its refusals its own way. So it sees
//! only what [`judge`] has admitted: the signature verified here (in constant time), the path in one
//! style, the parameters that the operation honours, and no header that it could stumble over.
//!
//! Everything that can be said without the body is said before a byte of it is read, so that a client
//! that waits for `100 Continue` never sends a body in vain.

pub mod auth;
pub mod chunked;
pub mod class;
pub mod payload;
pub mod sigv4;

use crate::checksum::Announced;
use crate::error::{Code, Error, Result};
use crate::text::{parse_query, unpercent};
use crate::{Config, Store};
use auth::{PayloadKind, Signable, Signed, authenticate};
use chunked::Decoder;
use class::{BodyUse, Level, Op, Row, classify};
use http::HeaderMap;
use http::request::Parts;
use ironseed_core::object::api::{KEY_BYTES_MAX, PUT_BYTES_MAX};
use ironseed_core::object::names::{METADATA_BYTES_MAX, check_bucket};
pub use payload::{Patience, Payload, RawBody};
use sha2::{Digest, Sha256};
use sigv4::ChunkSigner;
use std::time::{SystemTime, UNIX_EPOCH};

/// The most bytes of a document that lists parts or keys: 10,000 parts with SHA-256 checksums and
/// generous white space, or 1,000 keys of 1,024 escaped bytes.
pub const LARGE_BYTES_MAX: usize = 4 << 20;
/// The most bytes of any other document.
pub const SMALL_BYTES_MAX: usize = 128 << 10;
/// The only owner there is, as `x-amz-expected-bucket-owner` may name it.
pub const OWNER_ID: &str = "000000000000";

/// Headers of which a second one would be a second opinion.
const SINGULAR: &[&str] = &[
    "authorization",
    "content-length",
    "content-md5",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "range",
    "x-amz-acl",
    "x-amz-content-sha256",
    "x-amz-copy-source",
    "x-amz-copy-source-range",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-tagging",
];

/// A request that may go on.
pub struct Admitted {
    /// What it asks for, and what may come with it.
    pub row: &'static Row,
    /// The bucket, if the path names one.
    pub bucket: String,
    /// The key, if the path names one.
    pub key: String,
    /// The query, decoded, without the signature.
    pub query: Vec<(String, String)>,
    /// What the client says that the body comes to.
    pub announced: Announced,
    /// The body.
    pub payload: Payload,
}

/// A request, taken apart as far as it can be without believing it.
struct Target {
    level: Level,
    bucket: String,
    key: String,
    path: String,
    query: Vec<(String, String)>,
}

/// Judges a request. The body comes back with a refusal, so that it can be drained.
///
/// # Errors
/// Everything that is wrong with it.
pub fn judge<S: Store>(
    parts: &Parts,
    body: RawBody,
    store: &S,
    config: &Config,
) -> std::result::Result<Admitted, (Error, Box<Payload>)> {
    let patience = Patience { window: config.body_timeout, bytes_min: config.body_bytes_min };
    let plain = payload::Framing::Plain { hash: None };
    match examine(parts, store, config) {
        Ok((target, signed, row, announced)) => match framing(parts, &signed, row) {
            Ok((framing, promised)) => {
                let payload = Payload::new(body, framing, promised, patience);
                let Target { bucket, key, query, .. } = target;
                let query =
                    query.into_iter().filter(|(name, _)| !name.starts_with("X-Amz-")).collect();
                Ok(Admitted { row, bucket, key, query, announced, payload })
            }
            Err(error) => Err((error, Box::new(Payload::new(body, plain, None, patience)))),
        },
        Err(error) => Err((error, Box::new(Payload::new(body, plain, None, patience)))),
    }
}

fn examine<S: Store>(
    parts: &Parts,
    store: &S,
    config: &Config,
) -> Result<(Target, Signed, &'static Row, Announced)> {
    if !store.ready() {
        return Err(Code::ServiceUnavailable.because("this node is not ready yet"));
    }
    let headers = &parts.headers;
    let repeated = |name: &&&str| headers.get_all(**name).iter().count() > 1;
    // Hardly any request has a header twice.
    if headers.len() > headers.keys_len()
        && let Some(name) = SINGULAR.iter().find(repeated)
    {
        return Err(Code::InvalidRequest.because(format!("more than one header {name}")));
    }
    let target = locate(parts, config)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let signable = Signable {
        method: parts.method.as_str(),
        raw_path: parts.uri.path(),
        path: &target.path,
        query: &target.query,
        headers,
        now: i64::try_from(now).unwrap_or(i64::MAX),
    };
    let signed = authenticate(&signable, store)?;
    let unsigned_query: Vec<_> =
        target.query.iter().filter(|(name, _)| !name.starts_with("X-Amz-")).cloned().collect();
    let row = classify(&parts.method, target.level, &unsigned_query, headers)?;
    check_names(&target)?;
    check_headers(headers, row)?;
    let announced = match row.body {
        // A checksum at completion is the object's, not the document's.
        BodyUse::Large if row.op == Op::CompleteMultipartUpload => {
            let mut document = HeaderMap::new();
            if let Some(md5) = headers.get("content-md5") {
                document.insert("content-md5", md5.clone());
            }
            Announced::of(&document)?
        }
        _ => Announced::of(headers)?,
    };
    let unannounced = announced.md5.is_none() && announced.checksum.is_none();
    if row.op == Op::DeleteObjects && unannounced {
        return Err(
            Code::InvalidRequest.because("Missing required header for this request: Content-MD5")
        );
    }
    Ok((target, signed, row, announced))
}

/// Finds bucket and key in path or host.
fn locate(parts: &Parts, config: &Config) -> Result<Target> {
    let host = match parts.headers.get("host") {
        Some(host) => {
            host.to_str().map_err(|_| Code::InvalidRequest.because("invalid Host header"))?
        }
        None => return Err(Code::InvalidRequest.because("missing Host header")),
    };
    let host = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let host = host.to_ascii_lowercase();
    let in_host = config.domains.iter().find_map(|domain| {
        host.strip_suffix(domain.as_str()).and_then(|rest| rest.strip_suffix('.'))
    });
    let path = unpercent(parts.uri.path(), false).ok_or(Code::InvalidURI)?;
    let query = parse_query(parts.uri.query().unwrap_or_default()).ok_or(Code::InvalidURI)?;
    let Some(rest) = path.strip_prefix('/') else { return Err(Code::InvalidURI.into()) };
    let (bucket, key) = match in_host {
        Some(bucket) => (bucket.to_owned(), rest.to_owned()),
        None => {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            (bucket.to_owned(), key.to_owned())
        }
    };
    let level = match (bucket.is_empty(), key.is_empty()) {
        (true, true) => Level::Service,
        (true, false) => return Err(Code::InvalidBucketName.into()),
        (false, true) => Level::Bucket,
        (false, false) => Level::Object,
    };
    Ok(Target { level, bucket, key, path, query })
}

fn check_names(target: &Target) -> Result<()> {
    if target.level != Level::Service && check_bucket(&target.bucket).is_err() {
        return Err(Code::InvalidBucketName.into());
    }
    check_key(&target.key)
}

/// Whether an object may have this key.
///
/// # Errors
/// It is too long, or holds a NUL, which no XML can show.
pub fn check_key(key: &str) -> Result<()> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Code::KeyTooLongError.into());
    }
    if key.contains('\0') {
        return Err(Code::InvalidArgument.because("a key can't hold a NUL"));
    }
    Ok(())
}

fn check_headers(headers: &HeaderMap, row: &Row) -> Result<()> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    if text("x-amz-expected-bucket-owner").is_some_and(|owner| owner != OWNER_ID)
        || text("x-amz-source-expected-bucket-owner").is_some_and(|owner| owner != OWNER_ID)
    {
        return Err(Code::AccessDenied.into());
    }
    match text("x-amz-acl") {
        // All of these leave the object to its owner alone, which is what it is.
        None | Some("private" | "bucket-owner-full-control" | "bucket-owner-read") => {}
        Some(
            "public-read" | "public-read-write" | "authenticated-read" | "aws-exec-read"
            | "log-delivery-write",
        ) => {
            return Err(Code::NotImplemented.because("only private ACLs are implemented"));
        }
        Some(_) => return Err(Code::InvalidArgument.because("x-amz-acl is no canned ACL")),
    }
    match text("x-amz-storage-class") {
        None | Some("STANDARD") => {}
        Some(
            "REDUCED_REDUNDANCY"
            | "STANDARD_IA"
            | "ONEZONE_IA"
            | "INTELLIGENT_TIERING"
            | "GLACIER"
            | "DEEP_ARCHIVE"
            | "OUTPOSTS"
            | "GLACIER_IR"
            | "SNOW"
            | "EXPRESS_ONEZONE",
        ) => {
            return Err(
                Code::NotImplemented.because("only the storage class STANDARD is implemented")
            );
        }
        Some(_) => return Err(Code::InvalidStorageClass.into()),
    }
    if text("x-amz-bucket-object-lock-enabled")
        .is_some_and(|value| !value.eq_ignore_ascii_case("false"))
    {
        return Err(Code::NotImplemented.because("object lock is not implemented"));
    }
    match text("x-amz-object-ownership") {
        None | Some("BucketOwnerEnforced") => {}
        Some("BucketOwnerPreferred" | "ObjectWriter") => {
            return Err(Code::NotImplemented.because("only BucketOwnerEnforced is implemented"));
        }
        Some(_) => return Err(Code::InvalidArgument.because("x-amz-object-ownership")),
    }
    let metadata = headers.iter().filter_map(|(name, value)| {
        name.as_str().strip_prefix("x-amz-meta-").map(|name| name.len() + value.len())
    });
    let stores = matches!(row.op, Op::PutObject | Op::CopyObject | Op::CreateMultipartUpload);
    if stores && metadata.sum::<usize>() > METADATA_BYTES_MAX {
        return Err(Code::MetadataTooLarge.into());
    }
    let multipart =
        text("content-type").is_some_and(|kind| kind.starts_with("multipart/form-data"));
    if multipart && parts_of_form(row) {
        return Err(Code::NotImplemented.because("POST policy uploads are not implemented"));
    }
    Ok(())
}

/// s3s takes any POST with this content type for a browser's form.
fn parts_of_form(row: &Row) -> bool {
    matches!(row.op, Op::DeleteObjects | Op::CreateMultipartUpload | Op::CompleteMultipartUpload)
}

/// How the body is framed and how long it is to be.
fn framing(parts: &Parts, signed: &Signed, row: &Row) -> Result<(payload::Framing, Option<u64>)> {
    let length = |name: &str| match parts.headers.get(name) {
        None => Ok(None),
        Some(value) => value
            .to_str()
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u64>().ok())
            .map(Some)
            .ok_or_else(|| Code::InvalidArgument.because(format!("{name} is malformed"))),
    };
    let content_length = length("content-length")?;
    let decoded = length("x-amz-decoded-content-length")?;
    let stream = row.body == BodyUse::Stream;
    let too_large = |bytes: Option<u64>| bytes.is_some_and(|bytes| bytes > PUT_BYTES_MAX);
    let framing = match signed.payload {
        PayloadKind::Chunked { signed: with_signatures, trailers } => {
            let decoded = decoded.ok_or(Code::MissingContentLength)?;
            if stream && too_large(Some(decoded)) {
                return Err(Code::EntityTooLarge.into());
            }
            let signer = with_signatures.then(|| {
                ChunkSigner::new(&signed.scope, signed.key, &signed.date, signed.signature.clone())
            });
            let decoder = Decoder::new(decoded, signer, trailers);
            return Ok((payload::Framing::Chunked(decoder), Some(decoded)));
        }
        PayloadKind::Hashed(hash) => payload::Framing::Plain { hash: Some((Sha256::new(), hash)) },
        PayloadKind::Unsigned => payload::Framing::Plain { hash: None },
    };
    if parts.headers.contains_key("x-amz-trailer") {
        return Err(Code::InvalidRequest.because("x-amz-trailer needs a body in chunks"));
    }
    let promised = match (content_length, decoded) {
        (Some(length), Some(decoded)) if length != decoded => {
            return Err(Code::IncompleteBody.into());
        }
        (Some(length), _) => Some(length),
        // Transfer-Encoding: chunked without a length.
        (None, decoded) => decoded,
    };
    if stream && promised.is_none() {
        return Err(Code::MissingContentLength.into());
    }
    if stream && too_large(promised) {
        return Err(Code::EntityTooLarge.into());
    }
    Ok((framing, promised))
}
