//! Listings: objects in both versions, object versions (each object is its own `null` version) and
//! uploads in progress.

use super::multipart::{parse_upload, show_upload};
use super::{Call, Ops, owner, strange};
use crate::Store;
use crate::error::{Code, Result};
use crate::text::{base64, moment, percent, unbase64};
use ironseed_core::object::api::{
    Answer, ListFrom, ListObjects, ListedObject, Listing, PAGE_MAX, Request,
};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result};

/// How many entries a page may have: what the client asks for, but no more than S3 gives.
pub(super) fn limit(name: &str, asked: Option<i32>) -> Result<u32> {
    match asked {
        None => Ok(PAGE_MAX),
        Some(asked) => u32::try_from(asked).map(|asked| asked.min(PAGE_MAX)).map_err(|_| {
            Code::InvalidArgument
                .because(format!("Argument {name} must be an integer between 0 and 2147483647"))
        }),
    }
}

/// Writes keys as the client wants them.
#[derive(Clone, Copy)]
struct Writer {
    url: bool,
}

impl Writer {
    fn of(encoding: Option<&dto::EncodingType>) -> Result<Self> {
        match encoding.map(dto::EncodingType::as_str) {
            None => Ok(Self { url: false }),
            Some("url") => Ok(Self { url: true }),
            Some(_) => {
                Err(Code::InvalidArgument.because("Invalid Encoding Method specified in Request"))
            }
        }
    }

    fn write(self, text: &str) -> String {
        // A space as `%20`: clients that read `+` as a space read that as well.
        if self.url { percent(text.as_bytes(), false) } else { text.to_owned() }
    }

    fn prefixes(self, prefixes: Vec<String>) -> Option<dto::CommonPrefixList> {
        let prefixes =
            prefixes.iter().map(|prefix| dto::CommonPrefix { prefix: Some(self.write(prefix)) });
        Some(prefixes.collect())
    }

    fn objects(self, objects: Vec<ListedObject>, with_owner: bool) -> Option<dto::ObjectList> {
        let objects = objects.into_iter().map(|object| dto::Object {
            key: Some(self.write(&object.key)),
            size: Some(i64::try_from(object.bytes).unwrap_or(i64::MAX)),
            e_tag: Some(dto::ETag::Strong(object.etag.to_string())),
            last_modified: Some(moment(object.modified).into()),
            owner: with_owner.then(owner),
            storage_class: Some(dto::ObjectStorageClass::from_static(
                dto::ObjectStorageClass::STANDARD,
            )),
            ..Default::default()
        });
        Some(objects.collect())
    }
}

fn not_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Where a page begins that a client wants after `marker`. A marker that is itself a common prefix, as
/// the last entry of the page before may have been, stands for all that is under it.
fn after_marker(marker: Option<&str>, prefix: &str, delimiter: Option<&str>) -> ListFrom {
    let Some(marker) = marker.filter(|marker| !marker.is_empty()) else { return ListFrom::Start };
    let is_common_prefix = delimiter.is_some_and(|delimiter| {
        let rest = marker.strip_prefix(prefix);
        rest.is_some_and(|rest| {
            rest.find(delimiter).is_some_and(|at| at + delimiter.len() == rest.len())
        })
    });
    let marker = marker.to_owned();
    if is_common_prefix { ListFrom::AfterPrefix(marker) } else { ListFrom::After(marker) }
}

/// The last entry of a page, in the order of keys and common prefixes.
fn marker_of(next: &ListFrom) -> Option<&str> {
    match next {
        ListFrom::Start => None,
        ListFrom::After(last) | ListFrom::AfterPrefix(last) => Some(last),
    }
}

fn show_token(next: &ListFrom) -> String {
    let text = match next {
        ListFrom::Start => "s".to_owned(),
        ListFrom::After(key) => format!("k{key}"),
        ListFrom::AfterPrefix(prefix) => format!("p{prefix}"),
    };
    base64(text.as_bytes())
}

fn parse_token(token: &str) -> Result<ListFrom> {
    let text = unbase64(token).and_then(|bytes| String::from_utf8(bytes).ok());
    let from = text.as_deref().and_then(|text| {
        let mut chars = text.chars();
        match (chars.next()?, chars.as_str()) {
            ('s', "") => Some(ListFrom::Start),
            ('k', key) if !key.is_empty() => Some(ListFrom::After(key.to_owned())),
            ('p', prefix) if !prefix.is_empty() => Some(ListFrom::AfterPrefix(prefix.to_owned())),
            _ => None,
        }
    });
    from.ok_or_else(|| {
        Code::InvalidArgument.because("The continuation token provided is incorrect")
    })
}

async fn page<S: Store>(ops: &Ops<S>, list: ListObjects) -> Result<Listing> {
    match ops.ask(Request::ListObjects(list)).await? {
        Answer::Listing(listing) => Ok(listing),
        other => Err(strange(&other)),
    }
}

pub(super) async fn list_objects<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::ListObjectsInput>,
) -> S3Result<S3Response<dto::ListObjectsOutput>> {
    let input = request.input;
    let writer = Writer::of(input.encoding_type.as_ref())?;
    let limit = limit("max-keys", input.max_keys)?;
    let (prefix, delimiter) = (input.prefix.unwrap_or_default(), not_empty(input.delimiter));
    let from = after_marker(input.marker.as_deref(), &prefix, delimiter.as_deref());
    let bucket = input.bucket.clone();
    let list =
        ListObjects { bucket, prefix: prefix.clone(), delimiter: delimiter.clone(), from, limit };
    let listing = page(ops, list).await?;
    let next = listing.next.as_ref().filter(|_| delimiter.is_some()).and_then(marker_of);
    Ok(S3Response::new(dto::ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(writer.write(&prefix)),
        marker: Some(writer.write(&input.marker.unwrap_or_default())),
        max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        is_truncated: Some(listing.next.is_some()),
        next_marker: next.map(|next| writer.write(next)),
        contents: writer.objects(listing.objects, true),
        common_prefixes: writer.prefixes(listing.common_prefixes),
        delimiter: delimiter.map(|delimiter| writer.write(&delimiter)),
        encoding_type: input.encoding_type,
        request_charged: None,
    }))
}

pub(super) async fn list_objects_v2<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::ListObjectsV2Input>,
) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
    let input = request.input;
    let writer = Writer::of(input.encoding_type.as_ref())?;
    let limit = limit("max-keys", input.max_keys)?;
    let (prefix, delimiter) = (input.prefix.unwrap_or_default(), not_empty(input.delimiter));
    let from = match input.continuation_token.as_deref() {
        Some(token) => parse_token(token)?,
        None => after_marker(input.start_after.as_deref(), &prefix, None),
    };
    let bucket = input.bucket.clone();
    let list =
        ListObjects { bucket, prefix: prefix.clone(), delimiter: delimiter.clone(), from, limit };
    let listing = page(ops, list).await?;
    let count = listing.objects.len() + listing.common_prefixes.len();
    Ok(S3Response::new(dto::ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(writer.write(&prefix)),
        max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        key_count: Some(i32::try_from(count).unwrap_or(i32::MAX)),
        continuation_token: input.continuation_token,
        is_truncated: Some(listing.next.is_some()),
        next_continuation_token: listing.next.as_ref().map(show_token),
        contents: writer.objects(listing.objects, input.fetch_owner == Some(true)),
        common_prefixes: writer.prefixes(listing.common_prefixes),
        delimiter: delimiter.map(|delimiter| writer.write(&delimiter)),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(|start| writer.write(&start)),
        request_charged: None,
    }))
}

pub(super) async fn list_object_versions<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::ListObjectVersionsInput>,
) -> S3Result<S3Response<dto::ListObjectVersionsOutput>> {
    let input = request.input;
    let writer = Writer::of(input.encoding_type.as_ref())?;
    let limit = limit("max-keys", input.max_keys)?;
    let (prefix, delimiter) = (input.prefix.unwrap_or_default(), not_empty(input.delimiter));
    // Every key has one version, so wherever in a key's versions a page ended, it ended behind the key.
    if input.version_id_marker.as_deref().is_some_and(|version| !matches!(version, "" | "null")) {
        return Err(Code::InvalidArgument.because("Invalid version id specified").into());
    }
    if input.version_id_marker.is_some() && input.key_marker.is_none() {
        let why = "A version-id marker cannot be specified without a key marker.";
        return Err(Code::InvalidArgument.because(why).into());
    }
    let from = after_marker(input.key_marker.as_deref(), &prefix, delimiter.as_deref());
    let bucket = input.bucket.clone();
    let list =
        ListObjects { bucket, prefix: prefix.clone(), delimiter: delimiter.clone(), from, limit };
    let listing = page(ops, list).await?;
    let next = listing.next.as_ref().and_then(marker_of).map(|next| writer.write(next));
    let next_is_key = matches!(listing.next, Some(ListFrom::After(_)));
    let standard = dto::ObjectVersionStorageClass::STANDARD;
    let versions = listing.objects.into_iter().map(|object| dto::ObjectVersion {
        key: Some(writer.write(&object.key)),
        version_id: Some("null".to_owned()),
        is_latest: Some(true),
        size: Some(i64::try_from(object.bytes).unwrap_or(i64::MAX)),
        e_tag: Some(dto::ETag::Strong(object.etag.to_string())),
        last_modified: Some(moment(object.modified).into()),
        owner: Some(owner()),
        storage_class: Some(dto::ObjectVersionStorageClass::from_static(standard)),
        ..Default::default()
    });
    Ok(S3Response::new(dto::ListObjectVersionsOutput {
        name: Some(input.bucket),
        prefix: Some(writer.write(&prefix)),
        key_marker: Some(writer.write(&input.key_marker.unwrap_or_default())),
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        is_truncated: Some(listing.next.is_some()),
        next_version_id_marker: next.as_ref().filter(|_| next_is_key).map(|_| "null".to_owned()),
        next_key_marker: next,
        versions: Some(versions.collect()),
        common_prefixes: writer.prefixes(listing.common_prefixes),
        delimiter: delimiter.map(|delimiter| writer.write(&delimiter)),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}

pub(super) async fn list_multipart_uploads<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::ListMultipartUploadsInput>,
) -> S3Result<S3Response<dto::ListMultipartUploadsOutput>> {
    let call = Call::of(&request)?;
    let input = request.input;
    let writer = Writer::of(input.encoding_type.as_ref())?;
    let limit = limit("max-uploads", input.max_uploads)?;
    let (prefix, delimiter) = (input.prefix.unwrap_or_default(), not_empty(input.delimiter));
    let key_marker = not_empty(input.key_marker);
    // Without a key, AWS ignores the upload marker.
    let upload_marker = not_empty(input.upload_id_marker).filter(|_| key_marker.is_some());
    let upload = match upload_marker.as_deref().map(parse_upload) {
        None => None,
        Some(Ok(upload)) => Some(upload),
        Some(Err(_)) => {
            return Err(Code::InvalidArgument.because("Invalid uploadId marker").into());
        }
    };
    let after = match after_marker(key_marker.as_deref(), &prefix, delimiter.as_deref()) {
        ListFrom::Start => None,
        ListFrom::After(key) => Some((key, upload)),
        // The highest character there is: after everything under the prefix.
        ListFrom::AfterPrefix(prefix) => Some((format!("{prefix}\u{10ffff}"), None)),
    };
    let list = Request::ListUploads {
        bucket: call.bucket.clone(),
        prefix: prefix.clone(),
        delimiter: delimiter.clone(),
        after,
        limit,
    };
    let (uploads, common_prefixes, truncated) = match ops.ask(list).await? {
        Answer::Uploads { uploads, common_prefixes, truncated } => {
            (uploads, common_prefixes, truncated)
        }
        other => return Err(strange(&other).into()),
    };
    let last_upload = uploads.last().map(|last| (last.key.clone(), show_upload(last.upload)));
    let last_prefix = common_prefixes.last().map(|prefix| (prefix.clone(), String::new()));
    let next = last_upload.max(last_prefix).filter(|_| truncated);
    let standard = dto::StorageClass::STANDARD;
    let uploads = uploads.into_iter().map(|upload| dto::MultipartUpload {
        key: Some(writer.write(&upload.key)),
        upload_id: Some(show_upload(upload.upload)),
        initiated: Some(moment(upload.initiated).into()),
        initiator: Some(dto::Initiator { id: Some(super::OWNER.to_owned()), display_name: None }),
        owner: Some(owner()),
        storage_class: Some(dto::StorageClass::from_static(standard)),
        ..Default::default()
    });
    Ok(S3Response::new(dto::ListMultipartUploadsOutput {
        bucket: Some(call.bucket.clone()),
        prefix: Some(writer.write(&prefix)),
        key_marker: Some(writer.write(&key_marker.unwrap_or_default())),
        upload_id_marker: Some(upload_marker.unwrap_or_default()),
        max_uploads: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        is_truncated: Some(truncated),
        next_key_marker: next.as_ref().map(|(key, _)| writer.write(key)),
        next_upload_id_marker: next.map(|(_, upload)| upload),
        uploads: Some(uploads.collect()),
        common_prefixes: writer.prefixes(common_prefixes),
        delimiter: delimiter.map(|delimiter| writer.write(&delimiter)),
        encoding_type: input.encoding_type,
        request_charged: None,
    }))
}
