//! The operations: S3's parameters in, a [`Store`] request out, S3's answer back. Nothing is decided
//! here that the simulator could not see.
//!
//! s3s has parsed the XML and the list parameters; headers, which it would reject or lose, are read from
//! the request as it came ([`Call`]).

mod bucket;
mod copy;
mod delete;
mod list;
mod misc;
mod multipart;
mod object;

use crate::Store;
use crate::checksum::Announced;
use crate::error::{Code, Error, Result};
use crate::guard::Payload;
use crate::stream::Budget;
use http::{HeaderMap, HeaderValue};
use ironseed_core::object::api::{Answer, Condition, Object, Request};
use ironseed_core::object::conditions::{Preconditions, TagMatch};
use s3s::dto::{self, Owner};
use s3s::{S3Request, S3Response, S3Result};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The canonical id of the only owner.
pub(crate) const OWNER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A request as it came, beside what s3s has made of it.
pub struct Call {
    /// All its headers.
    pub headers: HeaderMap,
    /// Its query, decoded.
    pub query: Vec<(String, String)>,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// What the client says that its body comes to.
    pub announced: Announced,
    /// The body, of operations that stream one.
    pub payload: Mutex<Payload>,
}

impl Call {
    fn of<T>(request: &S3Request<T>) -> Result<Arc<Self>> {
        request.extensions.get::<Arc<Self>>().cloned().ok_or_else(|| Code::InternalError.into())
    }

    /// A header's text; `None` if it is absent or no text.
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What the parameter `response-NAME` wants a read to answer with.
    fn response_param(&self, name: &str) -> Option<&str> {
        let named = |key: &str| key.strip_prefix("response-") == Some(name);
        self.query.iter().find(|(key, _)| named(key)).map(|(_, value)| value.as_str())
    }

    fn place(&self) -> (&str, &str) {
        (&self.bucket, &self.key)
    }

    /// What the write demands of the key.
    fn condition(&self) -> Result<Condition> {
        Condition::of_write(self.header("if-match"), self.header("if-none-match")).map_err(|_| {
            Code::NotImplemented
                .because("this condition implies functionality that is not implemented")
        })
    }

    /// What a read demands of the object, in the headers of these [names](Demands).
    fn preconditions(&self, demands: &Demands) -> Preconditions {
        let date = |name: &str| {
            self.header(name)
                .and_then(crate::text::parse_http_date)
                .and_then(|at| u64::try_from(at).ok())
        };
        Preconditions {
            if_match: self.header(demands.matches).map(TagMatch::parse),
            if_none_match: self.header(demands.none_matches).map(TagMatch::parse),
            if_modified_since: date(demands.modified_since),
            if_unmodified_since: date(demands.unmodified_since),
        }
    }

    /// Buckets have no versions, so an object's only version is `null`.
    fn check_version(&self) -> Result<()> {
        match self.param("versionId") {
            None | Some("null") => Ok(()),
            Some(_) => Err(Code::InvalidArgument.because("Invalid version id specified")),
        }
    }
}

/// The headers that say what a read demands of its object.
struct Demands {
    matches: &'static str,
    none_matches: &'static str,
    modified_since: &'static str,
    unmodified_since: &'static str,
}

/// Of a GET or HEAD.
const OF_READ: Demands = Demands {
    matches: "if-match",
    none_matches: "if-none-match",
    modified_since: "if-modified-since",
    unmodified_since: "if-unmodified-since",
};
/// Of a copy, about its source.
const OF_SOURCE: Demands = Demands {
    matches: "x-amz-copy-source-if-match",
    none_matches: "x-amz-copy-source-if-none-match",
    modified_since: "x-amz-copy-source-if-modified-since",
    unmodified_since: "x-amz-copy-source-if-unmodified-since",
};

/// s3s's view of the store.
pub struct Ops<S: Store> {
    store: Arc<S>,
    budget: Budget,
}

impl<S: Store> Ops<S> {
    /// Operations on this store.
    #[must_use]
    pub fn new(store: Arc<S>, budget: Budget) -> Self {
        Self { store, budget }
    }

    async fn ask(&self, request: Request) -> Result<Answer> {
        Ok(self.store.call(request).await?)
    }

    fn into(&self) -> (&Arc<S>, &Budget) {
        (&self.store, &self.budget)
    }

    async fn find(&self, bucket: &str, key: &str) -> Result<Object> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        match self.ask(Request::GetObject { bucket, key }).await? {
            Answer::Object(object) => Ok(object),
            other => Err(strange(&other)),
        }
    }

    async fn check_bucket(&self, bucket: &str) -> Result<()> {
        self.ask(Request::HeadBucket { bucket: bucket.to_owned() }).await.map(|_| ())
    }

    /// The answer to a question about a configuration that no bucket has.
    async fn unconfigured<T>(&self, bucket: &str, code: Code) -> S3Result<S3Response<T>> {
        self.check_bucket(bucket).await?;
        Err(Error::from(code).into())
    }
}

/// An answer of a kind that the request can't have.
fn strange(answer: &Answer) -> Error {
    let mut answer = format!("{answer:?}");
    answer.truncate(answer.char_indices().nth(200).map_or(answer.len(), |(at, _)| at));
    tracing::error!(answer, "the store gave a strange answer");
    Code::InternalError.into()
}

fn owner() -> Owner {
    Owner { id: Some(OWNER.to_owned()), display_name: None }
}

fn put_header(headers: &mut HeaderMap, name: &'static str, value: &str) -> Result<()> {
    let value = HeaderValue::from_str(value).map_err(|_| {
        Code::InvalidArgument.because(format!("the value for {name} is not allowed in a header"))
    })?;
    headers.insert(name, value);
    Ok(())
}

macro_rules! operations {
    ($($method:ident($input:ident) -> $output:ident = $module:ident;)*) => {
        #[async_trait::async_trait]
        impl<S: Store> s3s::S3 for Ops<S> {
            $(async fn $method(&self, request: S3Request<dto::$input>) -> S3Result<S3Response<dto::$output>> {
                $module::$method(self, request).await
            })*
        }
    };
}

operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput = bucket;
    create_bucket(CreateBucketInput) -> CreateBucketOutput = bucket;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = bucket;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = bucket;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = bucket;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = misc;
    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput = misc;
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = misc;
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput = misc;
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput = misc;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput)
        -> GetBucketLifecycleConfigurationOutput = misc;
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput = misc;
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput = misc;
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput = misc;
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput)
        -> GetBucketOwnershipControlsOutput = misc;
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput = misc;
    get_object_lock_configuration(GetObjectLockConfigurationInput)
        -> GetObjectLockConfigurationOutput = misc;
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput = misc;
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = misc;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput = misc;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = misc;
    list_objects(ListObjectsInput) -> ListObjectsOutput = list;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = list;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput = list;
    get_object(GetObjectInput) -> GetObjectOutput = object;
    head_object(HeadObjectInput) -> HeadObjectOutput = object;
    put_object(PutObjectInput) -> PutObjectOutput = object;
    copy_object(CopyObjectInput) -> CopyObjectOutput = copy;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = copy;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = delete;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = delete;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = multipart;
    upload_part(UploadPartInput) -> UploadPartOutput = multipart;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = multipart;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = multipart;
    list_parts(ListPartsInput) -> ListPartsOutput = multipart;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = list;
}
