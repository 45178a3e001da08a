//! Getting and putting one object.

use super::{Call, OF_READ, Ops, put_header, strange};
use crate::Store;
use crate::checksum::{header_name, show};
use crate::error::{Code, Error, Result};
use crate::stream::{Download, Stored, receive};
use crate::text::{base64, http_date, parse_http_date, parse_query};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ironseed_core::object::api::{
    Answer, Attributes, Checksum, Condition, Content, ETag, NewObject, Object, Part, Refusal,
    Request,
};
use ironseed_core::object::conditions::Verdict;
use ironseed_core::object::names::check_tags;
use ironseed_core::types::Timestamp;
use s3s::dto;
use s3s::{S3Error, S3Request, S3Response, S3Result};
use std::ops::Range;

/// Headers that are stored with an object and come back with it.
const STORED: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

/// What a put's headers say is to be stored beside the bytes.
pub(super) fn attributes(call: &Call) -> Result<Attributes> {
    let mut attributes = Attributes { headers: headers_of(call)?, ..Attributes::default() };
    for name in call.headers.keys() {
        let Some(short) =
            name.as_str().strip_prefix("x-amz-meta-").filter(|short| !short.is_empty())
        else {
            continue;
        };
        let values: Option<Vec<&str>> = call
            .headers
            .get_all(name)
            .iter()
            .map(|value| std::str::from_utf8(value.as_bytes()).ok())
            .collect();
        let values =
            values.ok_or_else(|| Code::InvalidArgument.because(format!("{name} is not UTF-8")))?;
        attributes.metadata.push((short.to_owned(), values.join(",")));
    }
    attributes.metadata.sort();
    attributes.tags = tags_of(call)?;
    Ok(attributes)
}

fn headers_of(call: &Call) -> Result<Vec<(String, String)>> {
    let mut out = Vec::new();
    for name in STORED {
        let Some(value) = call.headers.get(name) else { continue };
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| Code::InvalidArgument.because(format!("{name} is not UTF-8")))?;
        let value = if name == "content-encoding" {
            // That was how the body travelled, not what it is.
            let codings = value.split(',').map(str::trim);
            codings
                .filter(|coding| !coding.eq_ignore_ascii_case("aws-chunked"))
                .collect::<Vec<_>>()
                .join(",")
        } else {
            value.to_owned()
        };
        if !value.is_empty() {
            out.push((name.to_owned(), value));
        }
    }
    Ok(out)
}

/// The tags in `x-amz-tagging`.
pub(super) fn tags_of(call: &Call) -> Result<Vec<(String, String)>> {
    let Some(value) = call.headers.get("x-amz-tagging") else { return Ok(Vec::new()) };
    let tags = value.to_str().ok().and_then(parse_query);
    let tags = tags.ok_or_else(|| {
        Code::InvalidArgument
            .because("The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded")
    })?;
    check_tags(&tags).map_err(|error| Code::InvalidTag.because(error.to_string()))?;
    Ok(tags)
}

pub(super) async fn put_object<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::PutObjectInput>,
) -> S3Result<S3Response<dto::PutObjectOutput>> {
    let call = Call::of(&request)?;
    let condition = call.condition()?;
    let attributes = attributes(&call)?;
    let mut payload = call.payload.lock().await;
    let (stored, summary) =
        receive(ops.into(), call.place(), &mut payload, &call.announced).await?;
    let attributes = Attributes { checksum: summary.checksum.clone(), ..attributes };
    let (etag, _) = name_object(ops, &call, stored, attributes, summary.md5, condition).await?;
    let mut headers = HeaderMap::new();
    put_header(&mut headers, "etag", &format!("\"{etag}\""))?;
    if let Some(checksum) = &summary.checksum {
        put_checksum(&mut headers, checksum, 0)?;
    }
    Ok(S3Response::with_headers(dto::PutObjectOutput::default(), headers))
}

/// Commits the record that names stored bytes.
pub(super) async fn name_object<S: Store>(
    ops: &Ops<S>,
    call: &Call,
    stored: Stored<S>,
    attributes: Attributes,
    md5: [u8; 16],
    condition: Condition,
) -> Result<(ETag, Timestamp)> {
    let object = NewObject {
        attributes,
        bytes: stored.uploaded().bytes,
        etag: ETag { md5, parts: 0 },
        content: stored.uploaded().content.clone(),
    };
    let (bucket, key) = (call.bucket.clone(), call.key.clone());
    let outcome = ops.store.call(Request::PutObject { bucket, key, object, condition }).await;
    if matches!(outcome, Ok(_) | Err(Refusal::OutcomeUnknown)) {
        stored.named();
    }
    match outcome? {
        Answer::Written { etag, committed } => Ok((etag, committed)),
        other => Err(strange(&other)),
    }
}

pub(super) fn put_checksum(headers: &mut HeaderMap, checksum: &Checksum, parts: u16) -> Result<()> {
    put_header(headers, header_name(checksum.algorithm), &show(checksum, parts))?;
    let kind = if checksum.composite { "COMPOSITE" } else { "FULL_OBJECT" };
    put_header(headers, "x-amz-checksum-type", kind)
}

pub(super) async fn get_object<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::GetObjectInput>,
) -> S3Result<S3Response<dto::GetObjectOutput>> {
    let call = Call::of(&request)?;
    let read = look_up(ops, &call).await?;
    let download = Download::new(&ops.store, &ops.budget, &read.object, read.range.clone());
    let body = dto::StreamingBlob::new(download.into_body().await?);
    let output = dto::GetObjectOutput { body: Some(body), ..Default::default() };
    Ok(S3Response::with_headers(output, read.headers))
}

pub(super) async fn head_object<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::HeadObjectInput>,
) -> S3Result<S3Response<dto::HeadObjectOutput>> {
    let call = Call::of(&request)?;
    let Read { headers, .. } = look_up(ops, &call).await?;
    Ok(S3Response::with_headers(dto::HeadObjectOutput::default(), headers))
}

/// A read that goes ahead.
struct Read {
    object: Object,
    range: Range<u64>,
    headers: HeaderMap,
}

/// Everything that GET and HEAD have in common: all but the bytes.
async fn look_up<S: Store>(ops: &Ops<S>, call: &Call) -> S3Result<Read> {
    call.check_version()?;
    let part = call.param("partNumber").map(parse_part_number).transpose()?;
    let object = ops.find(&call.bucket, &call.key).await?;
    match call.preconditions(&OF_READ).judge(&object.etag, object.modified) {
        Verdict::Proceed => {}
        Verdict::PreconditionFailed => return Err(Error::from(Code::PreconditionFailed).into()),
        Verdict::NotModified => {
            let mut error = S3Error::from(Error::from(Code::NotModified));
            let mut headers = HeaderMap::new();
            validators(&object, &mut headers)?;
            error.set_headers(headers);
            return Err(error);
        }
    }
    let (wanted, parts) = match part {
        Some(number) if call.headers.contains_key(header::RANGE) => {
            let why = format!("partNumber {number} and Range can't be combined");
            return Err(Code::InvalidRequest.because(why).into());
        }
        Some(number) => {
            let (range, parts) = part_range(ops, &object, number).await?;
            (Wanted::Part(range), parts)
        }
        None => (wanted_range(call, &object), None),
    };
    let mut headers = object_headers(call, &object, matches!(wanted, Wanted::Whole))?;
    let (partial, range) = match wanted {
        Wanted::Whole => (false, 0..object.bytes),
        Wanted::Part(range) => (true, range),
        Wanted::Impossible => {
            let mut error = S3Error::from(Error::from(Code::InvalidRange));
            let mut headers = HeaderMap::new();
            put_header(&mut headers, "content-range", &format!("bytes */{}", object.bytes))?;
            error.set_headers(headers);
            return Err(error);
        }
    };
    put_header(&mut headers, "content-length", &(range.end - range.start).to_string())?;
    if partial && range.end > range.start {
        // The answer's status follows from this header.
        let shown = format!("bytes {}-{}/{}", range.start, range.end - 1, object.bytes);
        put_header(&mut headers, "content-range", &shown)?;
    }
    if let Some(parts) = parts {
        put_header(&mut headers, "x-amz-mp-parts-count", &parts.to_string())?;
    }
    Ok(Read { object, range, headers })
}

/// What of an object a read wants.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<u64>),
    Impossible,
}

fn wanted_range(call: &Call, object: &Object) -> Wanted {
    let Some(range) = call.header("range") else { return Wanted::Whole };
    // A client that has the beginning of another version must get the whole of this one.
    if let Some(validator) = call.header("if-range") {
        let same = match parse_http_date(validator) {
            Some(date) => {
                u64::try_from(date).is_ok_and(|date| object.modified / 1_000_000_000 <= date)
            }
            None => ETag::parse(validator) == Some(object.etag),
        };
        if !same {
            return Wanted::Whole;
        }
    }
    parse_range(range, object.bytes)
}

/// RFC 9110, 14.2: what is no byte range at all, or more than one (which S3 does not serve), is ignored;
/// what is one but lies outside can't be satisfied.
fn parse_range(text: &str, bytes: u64) -> Wanted {
    let digits = |text: &str| {
        let valid = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        valid.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let Some((first, last)) =
        text.trim().strip_prefix("bytes=").and_then(|spec| spec.split_once('-'))
    else {
        return Wanted::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    match (first, digits(first), last, digits(last)) {
        ("", _, _, Some(suffix)) => match suffix.min(bytes) {
            0 => Wanted::Impossible,
            suffix => Wanted::Part(bytes - suffix..bytes),
        },
        (_, Some(first), "", _) if first < bytes => Wanted::Part(first..bytes),
        (_, Some(_), "", _) => Wanted::Impossible,
        (_, Some(first), _, Some(last)) if last < first => Wanted::Whole,
        (_, Some(first), _, Some(last)) if first < bytes => {
            Wanted::Part(first..last.saturating_add(1).min(bytes))
        }
        (_, Some(_), _, Some(_)) => Wanted::Impossible,
        _ => Wanted::Whole,
    }
}

pub(super) fn parse_part_number(text: &str) -> Result<u16> {
    let number = text.parse().ok().filter(|number| (1..=10_000).contains(number));
    number.ok_or_else(|| {
        Code::InvalidArgument
            .because("Part number must be an integer between 1 and 10000, inclusive")
    })
}

/// Where a part lies in its object, and how many there are.
async fn part_range<S: Store>(
    ops: &Ops<S>,
    object: &Object,
    number: u16,
) -> Result<(Range<u64>, Option<u16>)> {
    let Content::Parts { upload } = object.content else {
        // An object that was put whole is its own first part.
        return if number == 1 {
            Ok((0..object.bytes, None))
        } else {
            Err(Code::InvalidRange.into())
        };
    };
    let (mut start, mut after) = (0, 0);
    loop {
        let request = Request::ReadParts { upload, after, limit: 1000 };
        let (parts, truncated) = match ops.ask(request).await? {
            Answer::Parts { parts, truncated, .. } => (parts, truncated),
            other => return Err(strange(&other)),
        };
        for Part { number: found, bytes, .. } in &parts {
            if *found == number {
                return Ok((start..start + bytes, Some(object.etag.parts)));
            }
            start += bytes;
            after = *found;
        }
        if !truncated || parts.is_empty() || after > number {
            return Err(Code::InvalidRange.into());
        }
    }
}

fn validators(object: &Object, headers: &mut HeaderMap) -> Result<()> {
    put_header(headers, "etag", &format!("\"{}\"", object.etag))?;
    put_header(headers, "last-modified", &http_date(object.modified))
}

/// The headers that come with an object; `whole` if all its bytes do.
fn object_headers(call: &Call, object: &Object, whole: bool) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    validators(object, &mut headers)?;
    put_header(&mut headers, "accept-ranges", "bytes")?;
    put_header(&mut headers, "content-type", "binary/octet-stream")?;
    for name in STORED {
        let stored = object.attributes.headers.iter().find(|(stored, _)| stored == name);
        let value = call.response_param(name).or(stored.map(|(_, value)| value.as_str()));
        if let Some(value) = value {
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
                Code::InvalidArgument.because(format!("response-{name} is no header value"))
            })?;
            headers.insert(name, value);
        }
    }
    for (name, value) in &object.attributes.metadata {
        let name = HeaderName::try_from(format!("x-amz-meta-{name}"));
        // Headers are ASCII: other text comes back as RFC 2047 has it, as from AWS.
        let value = if value.is_ascii() {
            value.clone()
        } else {
            format!("=?UTF-8?B?{}?=", base64(value.as_bytes()))
        };
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
    if !object.attributes.tags.is_empty() {
        put_header(&mut headers, "x-amz-tagging-count", &object.attributes.tags.len().to_string())?;
    }
    let asked =
        call.header("x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case("ENABLED"));
    if let Some(checksum) = object.attributes.checksum.as_ref().filter(|_| asked && whole) {
        put_checksum(&mut headers, checksum, object.etag.parts)?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let rows = [
            ("bytes=0-4", Wanted::Part(0..5)),
            ("bytes=9-", Wanted::Part(9..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=5-99999999999999999999999", Wanted::Part(5..10)),
            ("bytes=10-", Wanted::Impossible),
            ("bytes=10-11", Wanted::Impossible),
            ("bytes=99999999999999999999999-", Wanted::Impossible),
            ("bytes=-0", Wanted::Impossible),
            ("bytes=4-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("items=0-4", Wanted::Whole),
            ("", Wanted::Whole),
        ];
        for (text, wanted) in rows {
            assert_eq!(parse_range(text, 10), wanted, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Wanted::Impossible);
        assert_eq!(parse_range("bytes=-5", 0), Wanted::Impossible);
    }
}
