//! Buckets.

use super::{Call, Ops, owner, put_header, strange};
use crate::Store;
use crate::error::{Code, Error, Result};
use crate::text::{base64, moment, unbase64};
use http::HeaderMap;
use ironseed_core::object::api::{Answer, BucketInfo, PAGE_MAX, Refusal, Request};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result};

/// As many buckets as one answer may list.
const BUCKETS_MAX: u32 = 10_000;

pub(super) async fn list_buckets<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::ListBucketsInput>,
) -> S3Result<S3Response<dto::ListBucketsOutput>> {
    let input = request.input;
    let limit = match input.max_buckets {
        None => BUCKETS_MAX,
        Some(limit) => u32::try_from(limit)
            .ok()
            .filter(|limit| (1..=BUCKETS_MAX).contains(limit))
            .ok_or_else(|| Code::InvalidArgument.because("max-buckets must be 1 to 10000"))?,
    };
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.as_deref().map(parse_token).transpose()?;
    // Buckets of another region can't be ours.
    let elsewhere =
        input.bucket_region.as_deref().is_some_and(|region| region != ops.store.region());
    let (buckets, truncated) =
        if elsewhere { (Vec::new(), false) } else { collect(ops, &prefix, after, limit).await? };
    let next = buckets
        .last()
        .filter(|_| truncated)
        .map(|last| base64(format!("b{}", last.name).as_bytes()));
    let paged = input.max_buckets.is_some() || input.bucket_region.is_some();
    let region = || paged.then(|| ops.store.region().to_owned());
    let buckets = buckets
        .into_iter()
        .map(|bucket| dto::Bucket {
            name: Some(bucket.name),
            creation_date: Some(moment(bucket.created).into()),
            bucket_region: region(),
        })
        .collect();
    Ok(S3Response::new(dto::ListBucketsOutput {
        buckets: Some(buckets),
        continuation_token: next,
        owner: Some(owner()),
        prefix: input.prefix,
    }))
}

fn parse_token(token: &str) -> Result<String> {
    let text = unbase64(token).and_then(|bytes| String::from_utf8(bytes).ok());
    let name = text.as_deref().and_then(|text| text.strip_prefix('b')).map(str::to_owned);
    name.ok_or_else(|| {
        Code::InvalidArgument.because("The continuation token provided is incorrect")
    })
}

async fn collect<S: Store>(
    ops: &Ops<S>,
    prefix: &str,
    mut after: Option<String>,
    limit: u32,
) -> Result<(Vec<BucketInfo>, bool)> {
    let mut all: Vec<BucketInfo> = Vec::new();
    loop {
        let left = limit - u32::try_from(all.len()).unwrap_or(limit);
        let request = Request::ListBuckets {
            prefix: prefix.to_owned(),
            after: after.take(),
            limit: left.min(PAGE_MAX),
        };
        let (buckets, truncated) = match ops.ask(request).await? {
            Answer::Buckets { buckets, truncated } => (buckets, truncated),
            other => return Err(strange(&other)),
        };
        let empty = buckets.is_empty();
        all.extend(buckets);
        if !truncated || empty || all.len() >= limit as usize {
            return Ok((all, truncated));
        }
        after = all.last().map(|last| last.name.clone());
    }
}

pub(super) async fn create_bucket<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::CreateBucketInput>,
) -> S3Result<S3Response<dto::CreateBucketOutput>> {
    let input = request.input;
    if let Some(config) = input.create_bucket_configuration {
        if config.bucket.is_some() || config.location.is_some() {
            return Err(Code::NotImplemented
                .because("directory buckets are not implemented")
                .into());
        }
        let constraint = config.location_constraint;
        if constraint
            .as_ref()
            .is_some_and(|at| !at.as_str().is_empty() && at.as_str() != ops.store.region())
        {
            return Err(Error::from(Code::IllegalLocationConstraintException).into());
        }
    }
    let location = Some(format!("/{}", input.bucket));
    match ops.store.call(Request::CreateBucket { bucket: input.bucket }).await {
        Ok(_) => {}
        // As AWS has it in its oldest region; everywhere else it is a conflict.
        Err(Refusal::BucketAlreadyOwnedByYou) if ops.store.region() == "us-east-1" => {}
        Err(refusal) => return Err(Error::from(refusal).into()),
    }
    Ok(S3Response::new(dto::CreateBucketOutput { location }))
}

pub(super) async fn head_bucket<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::HeadBucketInput>,
) -> S3Result<S3Response<dto::HeadBucketOutput>> {
    ops.check_bucket(&request.input.bucket).await?;
    let mut headers = HeaderMap::new();
    put_header(&mut headers, "x-amz-bucket-region", ops.store.region())?;
    Ok(S3Response::with_headers(dto::HeadBucketOutput::default(), headers))
}

pub(super) async fn delete_bucket<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::DeleteBucketInput>,
) -> S3Result<S3Response<dto::DeleteBucketOutput>> {
    ops.ask(Request::DeleteBucket { bucket: request.input.bucket }).await?;
    Ok(S3Response::new(dto::DeleteBucketOutput {}))
}

pub(super) async fn get_bucket_location<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::GetBucketLocationInput>,
) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
    let call = Call::of(&request)?;
    ops.check_bucket(&call.bucket).await?;
    let region = ops.store.region();
    // The oldest region has no name here.
    let location_constraint =
        (region != "us-east-1").then(|| dto::BucketLocationConstraint::from(region.to_owned()));
    Ok(S3Response::new(dto::GetBucketLocationOutput { location_constraint }))
}
