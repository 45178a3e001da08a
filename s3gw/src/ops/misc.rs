//! Questions that clients ask although nobody has configured anything, and tags.

use super::{Call, OWNER, Ops, owner};
use crate::Store;
use crate::error::{Code, Error};
use ironseed_core::object::api::Request;
use ironseed_core::object::names::check_tags;
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result};

pub(super) async fn get_bucket_versioning<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::GetBucketVersioningInput>,
) -> S3Result<S3Response<dto::GetBucketVersioningOutput>> {
    ops.check_bucket(&request.input.bucket).await?;
    // Neither enabled nor suspended: never set.
    Ok(S3Response::new(dto::GetBucketVersioningOutput::default()))
}

fn grants() -> dto::Grants {
    let grantee = dto::Grantee {
        type_: dto::Type::from_static(dto::Type::CANONICAL_USER),
        id: Some(OWNER.to_owned()),
        display_name: None,
        email_address: None,
        uri: None,
    };
    let permission = Some(dto::Permission::from_static(dto::Permission::FULL_CONTROL));
    vec![dto::Grant { grantee: Some(grantee), permission }]
}

pub(super) async fn get_bucket_acl<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::GetBucketAclInput>,
) -> S3Result<S3Response<dto::GetBucketAclOutput>> {
    ops.check_bucket(&request.input.bucket).await?;
    Ok(S3Response::new(dto::GetBucketAclOutput { grants: Some(grants()), owner: Some(owner()) }))
}

pub(super) async fn get_object_acl<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::GetObjectAclInput>,
) -> S3Result<S3Response<dto::GetObjectAclOutput>> {
    let call = Call::of(&request)?;
    call.check_version()?;
    ops.find(&call.bucket, &call.key).await?;
    Ok(S3Response::new(dto::GetObjectAclOutput {
        grants: Some(grants()),
        owner: Some(owner()),
        ..Default::default()
    }))
}

pub(super) async fn get_bucket_ownership_controls<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<dto::GetBucketOwnershipControlsOutput>> {
    ops.check_bucket(&request.input.bucket).await?;
    let enforced = dto::ObjectOwnership::from_static(dto::ObjectOwnership::BUCKET_OWNER_ENFORCED);
    let rules = vec![dto::OwnershipControlsRule { object_ownership: enforced }];
    let ownership_controls = Some(dto::OwnershipControls { rules });
    Ok(S3Response::new(dto::GetBucketOwnershipControlsOutput { ownership_controls }))
}

macro_rules! unconfigured {
    ($($method:ident($input:ident) -> $output:ident = $code:ident;)*) => {
        $(pub(super) async fn $method<S: Store>(
            ops: &Ops<S>,
            request: S3Request<dto::$input>,
        ) -> S3Result<S3Response<dto::$output>> {
            ops.unconfigured(&request.input.bucket, Code::$code).await
        })*
    };
}

unconfigured! {
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = NoSuchBucketPolicy;
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput = NoSuchBucketPolicy;
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput = NoSuchCORSConfiguration;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput)
        -> GetBucketLifecycleConfigurationOutput = NoSuchLifecycleConfiguration;
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput = NoSuchTagSet;
    get_bucket_encryption(GetBucketEncryptionInput)
        -> GetBucketEncryptionOutput = ServerSideEncryptionConfigurationNotFoundError;
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput = NoSuchWebsiteConfiguration;
    get_public_access_block(GetPublicAccessBlockInput)
        -> GetPublicAccessBlockOutput = NoSuchPublicAccessBlockConfiguration;
    get_object_lock_configuration(GetObjectLockConfigurationInput)
        -> GetObjectLockConfigurationOutput = ObjectLockConfigurationNotFoundError;
}

pub(super) async fn get_object_tagging<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::GetObjectTaggingInput>,
) -> S3Result<S3Response<dto::GetObjectTaggingOutput>> {
    let call = Call::of(&request)?;
    call.check_version()?;
    let object = ops.find(&call.bucket, &call.key).await?;
    let tags = object.attributes.tags.into_iter();
    let tag_set =
        tags.map(|(key, value)| dto::Tag { key: Some(key), value: Some(value) }).collect();
    Ok(S3Response::new(dto::GetObjectTaggingOutput { tag_set, version_id: None }))
}

pub(super) async fn put_object_tagging<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::PutObjectTaggingInput>,
) -> S3Result<S3Response<dto::PutObjectTaggingOutput>> {
    let call = Call::of(&request)?;
    call.check_version()?;
    let tags = request.input.tagging.tag_set.into_iter();
    let tags: Option<Vec<_>> =
        tags.map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect();
    let tags = tags.ok_or_else(|| Error::from(Code::MalformedXML))?;
    check_tags(&tags).map_err(|error| Code::InvalidTag.because(error.to_string()))?;
    put_tags(ops, &call, tags).await?;
    Ok(S3Response::new(dto::PutObjectTaggingOutput { version_id: None }))
}

pub(super) async fn delete_object_tagging<S: Store>(
    ops: &Ops<S>,
    request: S3Request<dto::DeleteObjectTaggingInput>,
) -> S3Result<S3Response<dto::DeleteObjectTaggingOutput>> {
    let call = Call::of(&request)?;
    call.check_version()?;
    put_tags(ops, &call, Vec::new()).await?;
    Ok(S3Response::new(dto::DeleteObjectTaggingOutput { version_id: None }))
}

async fn put_tags<S: Store>(
    ops: &Ops<S>,
    call: &Call,
    tags: Vec<(String, String)>,
) -> Result<(), Error> {
    let (bucket, key) = (call.bucket.clone(), call.key.clone());
    ops.ask(Request::PutTags { bucket, key, tags }).await.map(|_| ())
}
