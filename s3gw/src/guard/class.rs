//! Which operation a request asks for, and everything that may come with it.
//!
//! One table. A request that no row matches, and one that carries a sub-resource, a condition or a
//! feature header that its row does not list, answers 501: the alternative, ignoring what we don't know,
//! is how a `PUT ?retention` becomes a plain put and a lock is lost.

use crate::error::{Code, Error, Result};
use http::{HeaderMap, Method};

/// The operations that this gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the S3 reference")]
pub enum Op {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    GetBucketLocation,
    GetBucketVersioning,
    GetBucketAcl,
    GetBucketPolicy,
    GetBucketPolicyStatus,
    GetBucketCors,
    GetBucketLifecycleConfiguration,
    GetBucketTagging,
    GetBucketEncryption,
    GetBucketWebsite,
    GetBucketOwnershipControls,
    GetPublicAccessBlock,
    GetObjectLockConfiguration,
    ListObjects,
    ListObjectsV2,
    ListObjectVersions,
    ListMultipartUploads,
    DeleteObjects,
    GetObject,
    HeadObject,
    PutObject,
    CopyObject,
    DeleteObject,
    GetObjectAcl,
    GetObjectTagging,
    PutObjectTagging,
    DeleteObjectTagging,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
}

/// What the path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `/`
    Service,
    /// `/bucket`
    Bucket,
    /// `/bucket/key`
    Object,
}

/// What an operation does with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// It has none, or a small document.
    Small,
    /// A document that lists up to 10,000 parts or 1,000 keys.
    Large,
    /// It is an object's bytes.
    Stream,
}

/// One operation: how it is recognised and what may come with it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The operation.
    pub op: Op,
    method: &'static str,
    level: Level,
    /// Query parameters that must be there.
    markers: &'static [&'static str],
    /// Whether `x-amz-copy-source` must (or must not) be there.
    copies: bool,
    /// Query parameters that may be there.
    pub params: &'static [&'static str],
    /// Conditional headers that are honoured.
    conditions: &'static [&'static str],
    /// What it does with a body.
    pub body: BodyUse,
}

const fn row(
    op: Op,
    method: &'static str,
    level: Level,
    markers: &'static [&'static str],
    params: &'static [&'static str],
) -> Row {
    Row { op, method, level, markers, copies: false, params, conditions: &[], body: BodyUse::Small }
}

impl Row {
    /// Whether s3s gets to see this parameter. The overrides of a read's headers are applied here.
    #[must_use]
    pub fn passes(&self, name: &str) -> bool {
        (self.markers.contains(&name) || self.params.contains(&name))
            && !name.starts_with("response-")
    }

    const fn body(self, body: BodyUse) -> Self {
        Self { body, ..self }
    }
    const fn copies(self) -> Self {
        Self { copies: true, ..self }
    }
    const fn conditions(self, conditions: &'static [&'static str]) -> Self {
        Self { conditions, ..self }
    }
}

const READ: &[&str] =
    &["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"];
const WRITE: &[&str] = &["if-match", "if-none-match"];
const SOURCE: &[&str] = &[
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-unmodified-since",
];
const COPY: &[&str] = &[
    "if-match",
    "if-none-match",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-unmodified-since",
];
const READ_PARAMS: &[&str] = &[
    "versionId",
    "partNumber",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];

/// First match wins: rows with more markers come before those with fewer.
static ROWS: &[Row] = &{
    use Level::{Bucket, Object, Service};
    [
        row(
            Op::ListBuckets,
            "GET",
            Service,
            &[],
            &["max-buckets", "continuation-token", "prefix", "bucket-region"],
        ),
        row(Op::CreateBucket, "PUT", Bucket, &[], &[]),
        row(Op::HeadBucket, "HEAD", Bucket, &[], &[]),
        row(Op::DeleteBucket, "DELETE", Bucket, &[], &[]),
        row(Op::GetBucketLocation, "GET", Bucket, &["location"], &[]),
        row(Op::GetBucketVersioning, "GET", Bucket, &["versioning"], &[]),
        row(Op::GetBucketAcl, "GET", Bucket, &["acl"], &[]),
        row(Op::GetBucketPolicyStatus, "GET", Bucket, &["policyStatus"], &[]),
        row(Op::GetBucketPolicy, "GET", Bucket, &["policy"], &[]),
        row(Op::GetBucketCors, "GET", Bucket, &["cors"], &[]),
        row(Op::GetBucketLifecycleConfiguration, "GET", Bucket, &["lifecycle"], &[]),
        row(Op::GetBucketTagging, "GET", Bucket, &["tagging"], &[]),
        row(Op::GetBucketEncryption, "GET", Bucket, &["encryption"], &[]),
        row(Op::GetBucketWebsite, "GET", Bucket, &["website"], &[]),
        row(Op::GetBucketOwnershipControls, "GET", Bucket, &["ownershipControls"], &[]),
        row(Op::GetPublicAccessBlock, "GET", Bucket, &["publicAccessBlock"], &[]),
        row(Op::GetObjectLockConfiguration, "GET", Bucket, &["object-lock"], &[]),
        row(
            Op::ListMultipartUploads,
            "GET",
            Bucket,
            &["uploads"],
            &[
                "delimiter",
                "encoding-type",
                "key-marker",
                "max-uploads",
                "prefix",
                "upload-id-marker",
            ],
        ),
        row(
            Op::ListObjectVersions,
            "GET",
            Bucket,
            &["versions"],
            &[
                "delimiter",
                "encoding-type",
                "key-marker",
                "max-keys",
                "prefix",
                "version-id-marker",
            ],
        ),
        row(
            Op::ListObjectsV2,
            "GET",
            Bucket,
            &["list-type"],
            &[
                "continuation-token",
                "delimiter",
                "encoding-type",
                "fetch-owner",
                "max-keys",
                "prefix",
                "start-after",
            ],
        ),
        row(
            Op::ListObjects,
            "GET",
            Bucket,
            &[],
            &["delimiter", "encoding-type", "marker", "max-keys", "prefix"],
        ),
        row(Op::DeleteObjects, "POST", Bucket, &["delete"], &[]).body(BodyUse::Large),
        row(Op::GetObjectAcl, "GET", Object, &["acl"], &["versionId"]),
        row(Op::GetObjectTagging, "GET", Object, &["tagging"], &["versionId"]),
        row(
            Op::ListParts,
            "GET",
            Object,
            &["uploadId"],
            &["max-parts", "part-number-marker", "encoding-type"],
        ),
        row(Op::GetObject, "GET", Object, &[], READ_PARAMS).conditions(READ),
        row(Op::HeadObject, "HEAD", Object, &[], READ_PARAMS).conditions(READ),
        row(Op::PutObjectTagging, "PUT", Object, &["tagging"], &["versionId"]),
        row(Op::UploadPartCopy, "PUT", Object, &["partNumber", "uploadId"], &[])
            .copies()
            .conditions(SOURCE),
        row(Op::UploadPart, "PUT", Object, &["partNumber", "uploadId"], &[]).body(BodyUse::Stream),
        row(Op::CopyObject, "PUT", Object, &[], &[]).copies().conditions(COPY),
        row(Op::PutObject, "PUT", Object, &[], &[]).conditions(WRITE).body(BodyUse::Stream),
        row(Op::CreateMultipartUpload, "POST", Object, &["uploads"], &[]),
        row(Op::CompleteMultipartUpload, "POST", Object, &["uploadId"], &[])
            .conditions(WRITE)
            .body(BodyUse::Large),
        row(Op::DeleteObjectTagging, "DELETE", Object, &["tagging"], &["versionId"]),
        row(Op::AbortMultipartUpload, "DELETE", Object, &["uploadId"], &[]),
        row(Op::DeleteObject, "DELETE", Object, &[], &["versionId"]).conditions(&["if-match"]),
    ]
};

/// Parameters that select an operation or change its meaning somewhere in S3. Elsewhere they are not
/// ignored. A parameter without a value counts as one of them even if we have never heard of it.
const MEANINGFUL: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "list-type",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "select-type",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Every conditional header there is.
const CONDITIONS: &[&str] = &[
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
    "x-amz-rename-source-if-match",
];

/// Headers that ask for what we don't have. Each is a prefix.
const FEATURES: &[&str] = &[
    "x-amz-copy-source-server-side-encryption-",
    "x-amz-grant-",
    "x-amz-mfa",
    "x-amz-object-lock-",
    "x-amz-optional-object-attributes",
    "x-amz-rename-source",
    "x-amz-server-side-encryption",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
];

/// Finds the operation and refuses whatever it does not honour.
///
/// # Errors
/// `NotImplemented`, mostly.
pub fn classify(
    method: &Method,
    level: Level,
    query: &[(String, String)],
    headers: &HeaderMap,
) -> Result<&'static Row> {
    let has = |name: &str| query.iter().any(|(key, _)| key == name);
    let copies = headers.contains_key("x-amz-copy-source");
    let found = ROWS.iter().find(|row| {
        row.method == method.as_str()
            && row.level == level
            && row.markers.iter().all(|marker| has(marker))
            && row.copies == copies
    });
    let Some(row) = found else { return Err(unknown(method, level)) };
    if row.op == Op::ListObjectsV2 && !query.contains(&("list-type".into(), "2".into())) {
        return Err(Code::InvalidArgument.because("list-type must be 2"));
    }
    for (name, value) in query {
        let name = name.as_str();
        let honoured = row.markers.contains(&name) || row.params.contains(&name) || name == "x-id";
        if !honoured && (MEANINGFUL.contains(&name) || value.is_empty()) {
            return Err(not_implemented(format!("the parameter {name}")));
        }
    }
    for name in headers.keys() {
        let name = name.as_str();
        let unknown_condition = CONDITIONS.contains(&name) && !row.conditions.contains(&name);
        let feature = FEATURES.iter().any(|prefix| name.starts_with(prefix));
        if unknown_condition || feature {
            return Err(not_implemented(format!("the header {name}")));
        }
    }
    Ok(row)
}

fn unknown(method: &Method, level: Level) -> Error {
    let known = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE];
    if !known.contains(method) || (level == Level::Service && method != Method::GET) {
        return Code::MethodNotAllowed.into();
    }
    not_implemented(format!("this {method} request"))
}

fn not_implemented(what: String) -> Error {
    Code::NotImplemented.because(format!("{what} implies functionality that is not implemented"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        method: &Method,
        level: Level,
        query: &str,
        headers: &[&'static str],
    ) -> Result<Op, Code> {
        let query = crate::text::parse_query(query).expect("well formed");
        let mut map = HeaderMap::new();
        for name in headers {
            map.insert(*name, http::HeaderValue::from_static("x"));
        }
        classify(method, level, &query, &map).map(|row| row.op).map_err(|error| error.code)
    }

    #[test]
    fn nothing_falls_through() {
        use Level::{Bucket, Object};
        assert_eq!(of(&Method::PUT, Object, "", &[]), Ok(Op::PutObject));
        assert_eq!(of(&Method::PUT, Object, "x-id=PutObject&nonsense=1", &[]), Ok(Op::PutObject));
        assert_eq!(of(&Method::PUT, Object, "", &["x-amz-copy-source"]), Ok(Op::CopyObject));
        for name in MEANINGFUL.iter().filter(|name| **name != "tagging") {
            assert_eq!(of(&Method::PUT, Object, name, &[]), Err(Code::NotImplemented), "{name}");
        }
        assert_eq!(of(&Method::PUT, Object, "unheard-of", &[]), Err(Code::NotImplemented));
        for query in
            ["accelerate", "logging", "requestPayment", "notification", "session", "replication"]
        {
            assert_eq!(of(&Method::GET, Bucket, query, &[]), Err(Code::NotImplemented), "{query}");
        }
        for query in ["restore", "select&select-type=2", "torrent"] {
            assert_eq!(of(&Method::POST, Object, query, &[]), Err(Code::NotImplemented), "{query}");
        }
        for header in ["if-modified-since", "x-amz-server-side-encryption", "x-amz-grant-read"] {
            assert_eq!(
                of(&Method::PUT, Object, "", &[header]),
                Err(Code::NotImplemented),
                "{header}"
            );
        }
        for condition in CONDITIONS {
            assert_eq!(of(&Method::GET, Bucket, "", &[condition]), Err(Code::NotImplemented));
        }
        assert_eq!(of(&Method::GET, Bucket, "list-type=3", &[]), Err(Code::InvalidArgument));
        assert_eq!(of(&Method::PATCH, Object, "", &[]), Err(Code::MethodNotAllowed));
    }

    #[test]
    fn rows_with_more_markers_come_first() {
        for (at, later) in ROWS.iter().enumerate() {
            for earlier in &ROWS[..at] {
                let shadows = earlier.method == later.method
                    && earlier.level == later.level
                    && earlier.copies == later.copies
                    && earlier.markers.iter().all(|marker| later.markers.contains(marker));
                assert!(!shadows, "{:?} hides {:?}", earlier.op, later.op);
            }
        }
    }
}
