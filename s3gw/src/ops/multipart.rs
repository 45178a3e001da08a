//! Multipart uploads.

use super::object::{attributes, parse_part_number};
use super::{Call, Ops, owner, put_header, strange};
use crate::Store;
use crate::checksum::{
    ALGORITHMS, Summary, allowed, header_name, name, named, of_parts, parse_value, show,
};
use crate::error::{Code, Error, Result};
use crate::stream::{Stored, receive};
use crate::text::{hex, moment, unhex_md5};
use http::HeaderMap;
use ironseed_core::object::api::{
    Answer, Attributes, Checksum, ChecksumAlgorithm, Content, NamedPart, NewPart, PAGE_MAX,
    PART_NUMBER_MAX, Part, Refusal, Request,
};
use ironseed_core::types::{BlobId, Index, ShardId};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result};

/// Puts a checksum into the one field of five that is its own.
macro_rules! show_checksum {
    ($into:expr, $checksum:expr, $parts:expr) => {{
        use ironseed_core::object::api::ChecksumAlgorithm as A;
        let shown = Some($crate::checksum::show($checksum, $parts));
        match $checksum.algorithm {
            A::Crc32 => $into.checksum_crc32 = shown,
            A::Crc32c => $into.checksum_crc32c = shown,
            A::Crc64Nvme => $into.checksum_crc64nvme = shown,
            A::Sha1 => $into.checksum_sha1 = shown,
            A::Sha256 => $into.checksum_sha256 = shown,
        }
    }};
}
pub(super) use show_checksum;

/// An upload as clients name it.
pub(super) fn show_upload(upload: BlobId) -> String {
    format!("{:04x}{:016x}", upload.home.0, upload.opened.0)
}

/// # Errors
/// `NoSuchUpload` for whatever is no upload id of ours.
pub(super) fn parse_upload(text: &str) -> Result<BlobId> {
    let digits = text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parse = || {
        let home = u16::from_str_radix(text.get(..4)?, 16).ok()?;
        let opened = u64::from_str_radix(text.get(4..)?, 16).ok()?;
        Some(BlobId { home: ShardId(home), opened: Index(opened) })
    };
    digits.then(parse).flatten().ok_or_else(|| Code::NoSuchUpload.into())
}

fn checksum_kind(composite: bool) -> dto::ChecksumType {
    let kind =
        if composite { dto::ChecksumType::COMPOSITE } else { dto::ChecksumType::FULL_OBJECT };
    dto::ChecksumType::from_static(kind)
}

/// Which checksum the object is to have, as a creation asks for it.
fn asked_checksum(call: &Call) -> Result<Option<(ChecksumAlgorithm, bool)>> {
    let kind = call.header("x-amz-checksum-type");
    let Some(text) = call.header("x-amz-checksum-algorithm") else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(Code::InvalidRequest
                .because("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")),
        };
    };
    let algorithm = named(text).ok_or_else(|| {
        Code::InvalidRequest.because("Checksum algorithm provided is unsupported.")
    })?;
    let composite = match kind {
        None => allowed(algorithm, true),
        Some("COMPOSITE") => true,
        Some("FULL_OBJECT") => false,
        Some(_) => {
            return Err(
                Code::InvalidRequest.because("Value for x-amz-checksum-type header is invalid.")
            );
        }
    };
    if !allowed(algorithm, composite) {
        let kind = if composite { "COMPOSITE" } else { "FULL_OBJECT" };
        let why = format!(
            "The {kind} checksum type cannot be used with the {} checksum algorithm.",
            name(algorithm)
        );
        return Err(Code::InvalidRequest.because(why));
    }
    Ok(Some((algorithm, composite)))
}

pub(super) async fn create_multipart_upload<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::CreateMultipartUploadInput>,
) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
    let call = Call::of(&request)?;
    let upload_checksum = asked_checksum(&call)?;
    let attributes = Attributes { upload_checksum, ..attributes(&call)? };
    let (bucket, key) = (call.bucket.clone(), call.key.clone());
    let upload = match ops.ask(Request::CreateUpload { bucket, key, attributes }).await? {
        Answer::Upload { upload } => upload,
        other => return Err(strange(&other).into()),
    };
    let mut headers = HeaderMap::new();
    if let Some((algorithm, composite)) = upload_checksum {
        put_header(&mut headers, "x-amz-checksum-algorithm", name(algorithm))?;
        put_header(&mut headers, "x-amz-checksum-type", checksum_kind(composite).as_str())?;
    }
    let output = dto::CreateMultipartUploadOutput {
        bucket: Some(call.bucket.clone()),
        key: Some(call.key.clone()),
        upload_id: Some(show_upload(upload)),
        ..Default::default()
    };
    Ok(S3Response::with_headers(output, headers))
}

pub(super) async fn upload_part<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::UploadPartInput>,
) -> S3Result<S3Response<dto::UploadPartOutput>> {
    let call = Call::of(&request)?;
    let number = parse_part_number(call.param("partNumber").unwrap_or_default())?;
    let upload = parse_upload(&request.input.upload_id)?;
    let mut payload = call.payload.lock().await;
    let (stored, summary) =
        receive(ops.into(), call.place(), &mut payload, &call.announced).await?;
    put_part(ops, &call, upload, number, stored, &summary).await?;
    let mut headers = HeaderMap::new();
    put_header(&mut headers, "etag", &format!("\"{}\"", hex(&summary.md5)))?;
    if let Some(checksum) = &summary.checksum {
        put_header(&mut headers, header_name(checksum.algorithm), &show(checksum, 0))?;
    }
    Ok(S3Response::with_headers(dto::UploadPartOutput::default(), headers))
}

/// Commits the record that makes stored bytes a part.
pub(super) async fn put_part<S: Store>(
    ops: &Ops<S>,
    call: &Call,
    upload: BlobId,
    number: u16,
    stored: Stored<S>,
    summary: &Summary,
) -> Result<()> {
    let part = NewPart {
        bytes: summary.bytes,
        md5: summary.md5,
        checksum: summary.checksum.clone(),
        content: stored.uploaded().content.clone(),
    };
    let (bucket, key) = (call.bucket.clone(), call.key.clone());
    let outcome = ops.store.call(Request::PutPart { bucket, key, upload, number, part }).await;
    if matches!(outcome, Ok(_) | Err(Refusal::OutcomeUnknown)) {
        stored.named();
    }
    outcome.map(|_| ()).map_err(Error::from)
}

async fn parts_page<S: Store>(
    ops: &Ops<S>,
    call: &Call,
    upload: BlobId,
    after: u16,
    limit: u32,
) -> Result<(Vec<Part>, bool, Attributes)> {
    let (bucket, key) = (call.bucket.clone(), call.key.clone());
    match ops.ask(Request::ListParts { bucket, key, upload, after, limit }).await? {
        Answer::Parts { parts, truncated, attributes } => Ok((parts, truncated, attributes)),
        other => Err(strange(&other)),
    }
}

/// The checksum that an upload in progress is to have.
pub(super) async fn upload_checksum<S: Store>(
    ops: &Ops<S>,
    call: &Call,
    upload: BlobId,
) -> Result<Option<(ChecksumAlgorithm, bool)>> {
    Ok(parts_page(ops, call, upload, 0, 1).await?.2.upload_checksum)
}

/// A part as a client names it at completion, with the checksum that it believes the part has.
struct Claimed {
    part: NamedPart,
    checksum: Option<(ChecksumAlgorithm, String)>,
}

fn claimed(input: dto::CompletedPart) -> Result<Claimed> {
    let number = input.part_number.ok_or(Code::MalformedXML)?;
    let number = u16::try_from(number).ok().filter(|number| (1..=PART_NUMBER_MAX).contains(number));
    let number = number.ok_or_else(|| {
        Code::InvalidArgument
            .because("Part number must be an integer between 1 and 10000, inclusive")
    })?;
    let tag = input.e_tag.ok_or(Code::MalformedXML)?;
    let md5 = unhex_md5(tag.value()).ok_or(Code::InvalidPart)?;
    let given = [
        (ChecksumAlgorithm::Crc32, input.checksum_crc32),
        (ChecksumAlgorithm::Crc32c, input.checksum_crc32c),
        (ChecksumAlgorithm::Crc64Nvme, input.checksum_crc64nvme),
        (ChecksumAlgorithm::Sha1, input.checksum_sha1),
        (ChecksumAlgorithm::Sha256, input.checksum_sha256),
    ];
    let checksum = given.into_iter().find_map(|(algorithm, value)| Some((algorithm, value?)));
    Ok(Claimed { part: NamedPart { number, md5 }, checksum })
}

pub(super) async fn complete_multipart_upload<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::CompleteMultipartUploadInput>,
) -> S3Result<S3Response<dto::CompleteMultipartUploadOutput>> {
    let call = Call::of(&request)?;
    let upload = parse_upload(&request.input.upload_id)?;
    let condition = call.condition()?;
    let listed =
        request.input.multipart_upload.and_then(|document| document.parts).unwrap_or_default();
    if listed.is_empty() || listed.len() > usize::from(PART_NUMBER_MAX) {
        return Err(Error::from(Code::MalformedXML).into());
    }
    let claims = listed.into_iter().map(claimed).collect::<Result<Vec<_>>>()?;
    if !claims.is_sorted_by(|a, b| a.part.number < b.part.number) {
        return Err(Error::from(Code::InvalidPartOrder).into());
    }
    let checksum = match completed_checksum(ops, &call, upload, &claims).await {
        Ok(checksum) => checksum,
        // A repeated completion: the store remembers it, and what it came to.
        Err(Error { code: Code::NoSuchUpload, .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let parts: Vec<NamedPart> = claims.into_iter().map(|claim| claim.part).collect();
    let count = u16::try_from(parts.len()).unwrap_or(PART_NUMBER_MAX);
    let (bucket, key) = (call.bucket.clone(), call.key.clone());
    let checksum_sent = checksum.clone();
    let complete =
        Request::CompleteUpload { bucket, key, upload, parts, checksum: checksum_sent, condition };
    let etag = match ops.ask(complete).await? {
        Answer::Written { etag, .. } => etag,
        other => return Err(strange(&other).into()),
    };
    let host = call.header("host").unwrap_or_default();
    let path = crate::text::percent(call.key.as_bytes(), false);
    let mut output = dto::CompleteMultipartUploadOutput {
        bucket: Some(call.bucket.clone()),
        key: Some(call.key.clone()),
        location: Some(format!("http://{host}/{}/{path}", call.bucket)),
        e_tag: Some(dto::ETag::Strong(etag.to_string())),
        ..Default::default()
    };
    if let Some(checksum) = &checksum {
        show_checksum!(output, checksum, count);
        output.checksum_type = Some(checksum_kind(checksum.composite));
    }
    Ok(S3Response::new(output))
}

/// Verifies everything that the client claims about parts and object, and computes the object's
/// checksum if it is to have one.
async fn completed_checksum<S: Store>(
    ops: &Ops<S>,
    call: &Call,
    upload: BlobId,
    claims: &[Claimed],
) -> Result<Option<Checksum>> {
    let expected = claimed_checksum(call)?;
    let size = call.header("x-amz-mp-object-size");
    let mut stored: Vec<Part> = Vec::new();
    let mut wanted = None;
    let mut after = 0;
    loop {
        let (parts, truncated, attributes) = parts_page(ops, call, upload, after, PAGE_MAX).await?;
        wanted = wanted.or(attributes.upload_checksum);
        let nothing_to_verify = wanted.is_none()
            && expected.is_none()
            && size.is_none()
            && claims.iter().all(|claim| claim.checksum.is_none());
        if nothing_to_verify {
            return Ok(None);
        }
        after = parts.last().map_or(after, |part| part.number);
        let ended = !truncated || parts.is_empty();
        // Only what is compared below; parts in progress come without their bytes anyway.
        stored.extend(parts);
        if ended {
            break;
        }
    }
    let mut chosen: Vec<&Part> = Vec::with_capacity(claims.len());
    for claim in claims {
        let found = stored.binary_search_by_key(&claim.part.number, |part| part.number).ok();
        let part = found.map(|at| &stored[at]).filter(|part| part.md5 == claim.part.md5);
        let part = part.ok_or(Code::InvalidPart)?;
        if let Some((algorithm, text)) = &claim.checksum {
            let value = parse_value(*algorithm, text).ok_or(Code::InvalidPart)?;
            let matches = part
                .checksum
                .as_ref()
                .is_some_and(|c| c.algorithm == *algorithm && c.value == value);
            if !matches {
                return Err(Code::InvalidPart.into());
            }
        }
        chosen.push(part);
    }
    if let Some(size) = size {
        let sum: u64 = chosen.iter().map(|part| part.bytes).sum();
        if size.parse() != Ok(sum) {
            let why = format!(
                "The provided 'x-amz-mp-object-size' header value {size} does not match what was computed: {sum}"
            );
            return Err(Code::InvalidRequest.because(why));
        }
    }
    let kind = call.header("x-amz-checksum-type");
    if let (Some((_, composite)), Some(kind)) = (wanted, kind)
        && checksum_kind(composite).as_str() != kind
    {
        return Err(Code::InvalidRequest.because(
            "The upload was created using another checksum type than the complete request names.",
        ));
    }
    // Without one asked for at creation, an announced one is still verified where the parts allow it. A
    // completed upload no longer says what was asked for: then the claim itself shows its type.
    let claimed = expected.as_ref().map(|(algorithm, text)| {
        (*algorithm, text.contains('-') || kind == Some(checksum_kind(true).as_str()))
    });
    let Some((algorithm, composite)) = wanted.or(claimed) else { return Ok(None) };
    if !allowed(algorithm, composite) {
        return Err(
            Code::InvalidRequest.because("the upload was created without a checksum algorithm")
        );
    }
    let values: Option<Vec<(&[u8], u64)>> = chosen
        .iter()
        .map(|part| {
            let checksum =
                part.checksum.as_ref().filter(|checksum| checksum.algorithm == algorithm)?;
            Some((checksum.value.as_slice(), part.bytes))
        })
        .collect();
    let values = values.ok_or_else(|| {
        let why = format!(
            "The upload was created using a {} checksum. Every part needs one.",
            name(algorithm)
        );
        Code::InvalidRequest.because(why)
    })?;
    let checksum = of_parts(algorithm, composite, values.into_iter());
    let count = u16::try_from(claims.len()).unwrap_or(PART_NUMBER_MAX);
    match expected {
        Some((claimed, text)) if claimed != algorithm || text != show(&checksum, count) => {
            Err(Code::BadDigest.because(format!(
                "The {} you specified did not match the calculated checksum.",
                name(claimed)
            )))
        }
        _ => Ok(Some(checksum)),
    }
}

/// The object's checksum as the completing client believes it to be.
fn claimed_checksum(call: &Call) -> Result<Option<(ChecksumAlgorithm, String)>> {
    let mut found = None;
    for (algorithm, header, ..) in ALGORITHMS {
        let Some(text) = call.header(header) else { continue };
        let value = text
            .rsplit_once('-')
            .filter(|(_, n)| n.parse::<u16>().is_ok())
            .map_or(text, |(value, _)| value);
        if found.is_some() || parse_value(algorithm, value).is_none() {
            return Err(
                Code::InvalidRequest.because(format!("Value for {header} header is invalid."))
            );
        }
        found = Some((algorithm, text.to_owned()));
    }
    Ok(found)
}

pub(super) async fn abort_multipart_upload<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::AbortMultipartUploadInput>,
) -> S3Result<S3Response<dto::AbortMultipartUploadOutput>> {
    let call = Call::of(&request)?;
    let upload = parse_upload(&request.input.upload_id)?;
    let (bucket, key) = (call.bucket.clone(), call.key.clone());
    ops.ask(Request::AbortUpload { bucket, key, upload }).await?;
    Ok(S3Response::new(dto::AbortMultipartUploadOutput::default()))
}

async fn is_completed<S: Store>(ops: &Ops<S>, call: &Call, upload: BlobId) -> Result<bool> {
    match ops.find(&call.bucket, &call.key).await {
        Ok(object) => Ok(object.content == Content::Parts { upload }),
        Err(Error { code: Code::NoSuchKey, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn list_parts<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::ListPartsInput>,
) -> S3Result<S3Response<dto::ListPartsOutput>> {
    let call = Call::of(&request)?;
    let upload = parse_upload(&request.input.upload_id)?;
    let limit = super::list::limit("max-parts", request.input.max_parts)?;
    let after = match call.param("part-number-marker") {
        None | Some("") => 0,
        Some(marker) => marker
            .parse()
            .map_err(|_| Code::InvalidArgument.because("part-number-marker is malformed"))?,
    };
    let (parts, truncated, attributes) = parts_page(ops, &call, upload, after, limit).await?;
    // The store also lists the parts behind an object; to S3 that upload is over. It has no attributes
    // of its own then, which spares all others the second question.
    if attributes == Attributes::default() && is_completed(ops, &call, upload).await? {
        return Err(Error::from(Code::NoSuchUpload).into());
    }
    let next = parts.last().map_or(after, |part| part.number);
    let mut output = dto::ListPartsOutput {
        bucket: Some(call.bucket.clone()),
        key: Some(call.key.clone()),
        upload_id: Some(show_upload(upload)),
        part_number_marker: Some(after.into()),
        next_part_number_marker: Some(next.into()),
        max_parts: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        is_truncated: Some(truncated),
        initiator: Some(dto::Initiator { id: Some(super::OWNER.to_owned()), display_name: None }),
        owner: Some(owner()),
        storage_class: Some(dto::StorageClass::from_static(dto::StorageClass::STANDARD)),
        ..Default::default()
    };
    if let Some((algorithm, composite)) = attributes.upload_checksum {
        output.checksum_algorithm = Some(dto::ChecksumAlgorithm::from_static(name(algorithm)));
        output.checksum_type = Some(checksum_kind(composite));
    }
    let shown = parts.into_iter().map(|part| {
        let mut shown = dto::Part {
            part_number: Some(part.number.into()),
            size: Some(i64::try_from(part.bytes).unwrap_or(i64::MAX)),
            e_tag: Some(dto::ETag::Strong(hex(&part.md5))),
            last_modified: Some(moment(part.modified).into()),
            ..Default::default()
        };
        if let Some(checksum) = &part.checksum {
            show_checksum!(shown, checksum, 0);
        }
        shown
    });
    output.parts = Some(shown.collect());
    Ok(S3Response::new(output))
}
