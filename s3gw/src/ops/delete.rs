//! Deleting objects, one or many.

use super::{Call, Ops};
use crate::Store;
use crate::error::{Code, Error, Result};
use crate::guard::check_key;
use futures::{StreamExt, stream};
use ironseed_core::object::api::{Condition, ETag, PAGE_MAX, Request};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result};

/// Deletions of one request that are under way at once.
const AT_ONCE: usize = 16;

pub(super) async fn delete_object<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::DeleteObjectInput>,
) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
    let call = Call::of(&request)?;
    call.check_version()?;
    let condition = call.condition()?;
    let (bucket, key) = (call.bucket.clone(), call.key.clone());
    ops.ask(Request::DeleteObject { bucket, key, condition }).await?;
    Ok(S3Response::new(dto::DeleteObjectOutput::default()))
}

pub(super) async fn delete_objects<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::DeleteObjectsInput>,
) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
    let dto::Delete { objects, quiet } = request.input.delete;
    let bucket = request.input.bucket;
    let nameless = objects.iter().any(|object| object.key.is_empty());
    if objects.is_empty() || objects.len() > PAGE_MAX as usize || nameless {
        return Err(Error::from(Code::MalformedXML).into());
    }
    // Also when every key is refused before the store is asked.
    ops.check_bucket(&bucket).await?;
    let outcomes: Vec<(dto::ObjectIdentifier, Result<()>)> = stream::iter(objects)
        .map(|object| async {
            let outcome = delete_one(ops, &bucket, &object).await;
            (object, outcome)
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (object, outcome) in outcomes {
        let (key, version_id) = (Some(object.key), object.version_id);
        match outcome {
            Ok(()) => deleted.push(dto::DeletedObject { key, version_id, ..Default::default() }),
            Err(error) => errors.push(dto::Error {
                code: Some(error.code.as_str().to_owned()),
                message: Some(error.message.into_owned()),
                key,
                version_id,
            }),
        }
    }
    let deleted = if quiet == Some(true) { Vec::new() } else { deleted };
    Ok(S3Response::new(dto::DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        request_charged: None,
    }))
}

async fn delete_one<S: Store>(
    ops: &Ops<S>,
    bucket: &str,
    object: &dto::ObjectIdentifier,
) -> Result<()> {
    check_key(&object.key)?;
    if object.version_id.as_deref().is_some_and(|version| version != "null") {
        return Err(Code::InvalidArgument.because("Invalid version id specified"));
    }
    if object.last_modified_time.is_some() || object.size.is_some() {
        return Err(Code::NotImplemented.into());
    }
    let condition = match &object.e_tag {
        None => Condition::None,
        Some(tag) if tag.value() == "*" => Condition::Present,
        Some(tag) => Condition::Is(ETag::parse(tag.value()).ok_or(Code::PreconditionFailed)?),
    };
    let (bucket, key) = (bucket.to_owned(), object.key.clone());
    ops.ask(Request::DeleteObject { bucket, key, condition }).await.map(|_| ())
}
