//! Copies. The bytes are read and stored again, in bounded memory: an object's chunks belong to the
//! shard of the object that wrote them, and small ones are in the record anyway.

use super::multipart::{parse_upload, put_part};
use super::object::{attributes, name_object, parse_part_number, tags_of};
use super::{Call, OF_SOURCE, Ops};
use crate::Store;
use crate::checksum::{Summary, named};
use crate::error::{Code, Error, Result};
use crate::stream::{Download, Stored, store_pieces};
use crate::text::{hex, moment};
use ironseed_core::object::api::{Attributes, ChecksumAlgorithm, Object, PUT_BYTES_MAX};
use ironseed_core::object::conditions::Verdict;
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// The bucket and the key that a copy source names.
fn source_place(source: &dto::CopySource) -> Result<(&str, &str)> {
    match source {
        dto::CopySource::Bucket { bucket, key, version_id } => {
            if version_id.as_deref().is_some_and(|version| version != "null") {
                return Err(Code::InvalidArgument.because("Invalid version id specified"));
            }
            Ok((bucket, key))
        }
        _ => Err(Code::NotImplemented.because("access points are not implemented")),
    }
}

async fn find_source<S: Store>(
    ops: &Ops<S>,
    call: &Call,
    (bucket, key): (&str, &str),
) -> Result<Object> {
    let object = ops.find(bucket, key).await?;
    match call.preconditions(&OF_SOURCE).judge(&object.etag, object.modified) {
        Verdict::Proceed => Ok(object),
        Verdict::NotModified | Verdict::PreconditionFailed => Err(Code::PreconditionFailed.into()),
    }
}

async fn copy_bytes<S: Store>(
    ops: &Ops<S>,
    call: &Call,
    object: &Object,
    range: Range<u64>,
    algorithm: Option<ChecksumAlgorithm>,
) -> Result<(Stored<S>, Summary)> {
    let mut download = Download::new(&ops.store, &ops.budget, object, range).without_room();
    store_pieces(ops.into(), call.place(), &mut download, algorithm).await
}

/// `COPY` or `REPLACE`; says whether it is the latter.
fn replaces(call: &Call, name: &str) -> Result<bool> {
    match call.header(name) {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(Code::InvalidArgument.because(format!("Unknown {name}"))),
    }
}

pub(super) async fn copy_object<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::CopyObjectInput>,
) -> S3Result<S3Response<dto::CopyObjectOutput>> {
    let call = Call::of(&request)?;
    let source = source_place(&request.input.copy_source)?;
    let condition = call.condition()?;
    let new_metadata = replaces(&call, "x-amz-metadata-directive")?;
    let new_tags = replaces(&call, "x-amz-tagging-directive")?;
    if source == call.place() && !new_metadata {
        let why = "This copy request is illegal because it is trying to copy an object to itself without \
                   changing the object's metadata, storage class, website redirect location or encryption \
                   attributes.";
        return Err(Code::InvalidRequest.because(why).into());
    }
    let asked = match call.header("x-amz-checksum-algorithm") {
        None => None,
        Some(name) => Some(named(name).ok_or_else(|| {
            Code::InvalidRequest.because("Checksum algorithm provided is unsupported.")
        })?),
    };
    let object = find_source(ops, &call, source).await?;
    if object.bytes > PUT_BYTES_MAX {
        let why = "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120";
        return Err(Code::InvalidRequest.because(why).into());
    }
    let kept = &object.attributes;
    let mut attributes = if new_metadata {
        attributes(&call)?
    } else {
        Attributes {
            headers: kept.headers.clone(),
            metadata: kept.metadata.clone(),
            ..Attributes::default()
        }
    };
    attributes.tags = if new_tags { tags_of(&call)? } else { kept.tags.clone() };
    let algorithm = asked.or(kept.checksum.as_ref().map(|checksum| checksum.algorithm));
    let (stored, summary) = copy_bytes(ops, &call, &object, 0..object.bytes, algorithm).await?;
    attributes.checksum = summary.checksum.clone();
    let (etag, committed) =
        name_object(ops, &call, stored, attributes, summary.md5, condition).await?;
    let mut result = dto::CopyObjectResult {
        e_tag: Some(dto::ETag::Strong(etag.to_string())),
        last_modified: Some(moment(committed.0).into()),
        ..Default::default()
    };
    if let Some(checksum) = &summary.checksum {
        super::multipart::show_checksum!(result, checksum, 0);
        result.checksum_type = Some(dto::ChecksumType::from_static(dto::ChecksumType::FULL_OBJECT));
    }
    let output = dto::CopyObjectOutput { copy_object_result: Some(result), ..Default::default() };
    Ok(S3Response::new(output))
}

pub(super) async fn upload_part_copy<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::UploadPartCopyInput>,
) -> S3Result<S3Response<dto::UploadPartCopyOutput>> {
    let call = Call::of(&request)?;
    let number = parse_part_number(call.param("partNumber").unwrap_or_default())?;
    let upload = parse_upload(&request.input.upload_id)?;
    let source = source_place(&request.input.copy_source)?;
    // Before any byte is copied: an upload that is not there, and which checksum its parts need.
    let algorithm = super::multipart::upload_checksum(ops, &call, upload)
        .await?
        .map(|(algorithm, _)| algorithm);
    let object = find_source(ops, &call, source).await?;
    let range = match call.header("x-amz-copy-source-range") {
        None => 0..object.bytes,
        Some(text) => source_range(text, object.bytes)?,
    };
    if range.end - range.start > PUT_BYTES_MAX {
        return Err(Error::from(Code::EntityTooLarge).into());
    }
    let (stored, summary) = copy_bytes(ops, &call, &object, range, algorithm).await?;
    put_part(ops, &call, upload, number, stored, &summary).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut result = dto::CopyPartResult {
        e_tag: Some(dto::ETag::Strong(hex(&summary.md5))),
        last_modified: Some(moment(u64::try_from(now.as_nanos()).unwrap_or_default()).into()),
        ..Default::default()
    };
    if let Some(checksum) = &summary.checksum {
        super::multipart::show_checksum!(result, checksum, 0);
    }
    let output = dto::UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() };
    Ok(S3Response::new(output))
}

/// Unlike a read's range this one must be exact: `bytes=first-last`, inside the source.
fn source_range(text: &str, bytes: u64) -> Result<Range<u64>> {
    let malformed = || {
        Code::InvalidArgument.because(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last \
             are the zero-based offsets of the first and last bytes to copy",
        )
    };
    let (first, last) =
        text.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')).ok_or_else(malformed)?;
    let digits = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?
    };
    let (first, last) = digits(first).zip(digits(last)).ok_or_else(malformed)?;
    if first > last {
        return Err(malformed());
    }
    if last >= bytes {
        return Err(Code::InvalidRange
            .because(format!("Range specified is not valid for source object of size: {bytes}")));
    }
    Ok(first..last + 1)
}
