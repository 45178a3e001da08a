//! What a client is told when its request is not carried out: one table from causes to S3's codes and
//! HTTP statuses.

use http::StatusCode;
use ironseed_core::object::api::Refusal;
use s3s::{S3Error, S3ErrorCode};
use std::borrow::Cow;
use std::fmt;

/// A refusal on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// S3's code.
    pub code: Code,
    /// For people. Never secret: the client sees it.
    pub message: Cow<'static, str>,
}

/// What a request comes to in the gateway.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $message:literal;)*) => {
        /// S3's error codes, as far as this gateway gives them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names are S3's, the messages say what they mean")]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as S3 writes it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
            /// The status that goes with it.
            #[must_use]
            pub fn status(self) -> StatusCode {
                let status = match self { $(Self::$name => $status,)* };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            /// What it means, where there is nothing more exact to say.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported = 400, "The bucket does not allow ACLs";
    AccessDenied = 403, "Access Denied";
    AuthorizationHeaderMalformed = 400, "The authorization header that you provided is malformed";
    AuthorizationQueryParametersError = 400, "The query parameters of the signature are malformed";
    BadDigest = 400, "A checksum that you specified did not match what we received";
    BucketAlreadyOwnedByYou = 409, "The bucket exists already, and you own it";
    BucketNotEmpty = 409, "The bucket you tried to delete is not empty";
    EntityTooLarge = 400, "Your proposed upload exceeds the maximum allowed size";
    EntityTooSmall = 400, "A part other than the last is smaller than the minimum allowed size";
    IllegalLocationConstraintException = 400, "The location constraint is not this endpoint's region";
    IncompleteBody = 400, "The request body is not what its lengths promised";
    InternalError = 500, "We encountered an internal error; please try again";
    InvalidAccessKeyId = 403, "The access key id you provided does not exist in our records";
    InvalidArgument = 400, "Invalid argument";
    InvalidBucketName = 400, "The specified bucket is not valid";
    InvalidDigest = 400, "The Content-MD5 you specified is not valid";
    InvalidPart = 400, "A part could not be found, or its entity tag did not match";
    InvalidPartOrder = 400, "The list of parts was not in ascending order";
    InvalidRange = 416, "The requested range is not satisfiable";
    InvalidRequest = 400, "Invalid request";
    InvalidStorageClass = 400, "The storage class you specified is not valid";
    InvalidTag = 400, "The tag provided was not a valid tag";
    InvalidToken = 400, "The provided token is malformed or otherwise invalid";
    InvalidURI = 400, "Couldn't parse the specified URI";
    KeyTooLongError = 400, "Your key is too long";
    MalformedTrailerError = 400, "The trailer was not well formed or did not hold what was announced";
    MalformedXML = 400, "The XML you provided was not well formed or did not validate";
    MaxMessageLengthExceeded = 400, "Your request was too big";
    MetadataTooLarge = 400, "Your metadata headers exceed the maximum allowed metadata size";
    MethodNotAllowed = 405, "The method is not allowed against this resource";
    MissingContentLength = 411, "You must provide the Content-Length HTTP header";
    NoSuchBucket = 404, "The specified bucket does not exist";
    NoSuchBucketPolicy = 404, "The bucket policy does not exist";
    NoSuchCORSConfiguration = 404, "The CORS configuration does not exist";
    NoSuchKey = 404, "The specified key does not exist";
    NoSuchLifecycleConfiguration = 404, "The lifecycle configuration does not exist";
    NoSuchPublicAccessBlockConfiguration = 404, "The public access block configuration was not found";
    NoSuchTagSet = 404, "The TagSet does not exist";
    NoSuchUpload = 404, "The specified multipart upload does not exist";
    NoSuchWebsiteConfiguration = 404, "The specified bucket does not have a website configuration";
    NotImplemented = 501, "A header, parameter or method implies functionality that is not implemented";
    NotModified = 304, "Not Modified";
    ObjectLockConfigurationNotFoundError = 404, "Object Lock configuration does not exist for this bucket";
    OperationAborted = 409, "A conflicting operation on the bucket is in progress; try again";
    PreconditionFailed = 412, "At least one of the preconditions you specified did not hold";
    RequestTimeTooSkewed = 403, "The difference between the request time and the server's is too large";
    RequestTimeout = 400, "Your socket connection was not read from or written to within the timeout";
    ServerSideEncryptionConfigurationNotFoundError = 404, "The encryption configuration was not found";
    ServiceUnavailable = 503, "Please reduce your request rate or try again later";
    SignatureDoesNotMatch = 403, "The signature we calculated does not match the one you provided";
    SlowDown = 503, "Please reduce your request rate";
    /// No code of S3's own: it has no full disks. SDKs retry a 503 but give a 507 up, as they should.
    InsufficientStorage = 507, "A disk that the write needs is full; reads go on";
    XAmzContentSHA256Mismatch = 400, "The provided x-amz-content-sha256 does not match what was computed";
}

impl Code {
    /// The code with a message of its own.
    pub fn because(self, message: impl Into<Cow<'static, str>>) -> Error {
        Error { code: self, message: message.into() }
    }

    /// The code written like this, or `None`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self { code, message: Cow::Borrowed(code.message()) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchBucket => Code::NoSuchBucket.into(),
            Refusal::BucketAlreadyOwnedByYou => Code::BucketAlreadyOwnedByYou.into(),
            Refusal::BucketNotEmpty => Code::BucketNotEmpty.into(),
            Refusal::BucketBusy => Code::OperationAborted.into(),
            Refusal::NoSuchKey => Code::NoSuchKey.into(),
            Refusal::NoSuchUpload => Code::NoSuchUpload.into(),
            Refusal::InvalidPart => Code::InvalidPart.into(),
            Refusal::InvalidPartOrder => Code::InvalidPartOrder.into(),
            Refusal::PartTooSmall => Code::EntityTooSmall.into(),
            Refusal::PreconditionFailed => Code::PreconditionFailed.into(),
            // The bytes were staged for a replica set that has changed, or their lease has run out:
            // they are gone from our memory, so only the client can send them again.
            Refusal::NoSuchBlob | Refusal::Restage => {
                Code::ServiceUnavailable.because("the upload was interrupted; send it again")
            }
            Refusal::ChunkUnavailable => {
                Code::ServiceUnavailable.because("the object's bytes can't be read now")
            }
            Refusal::Invalid(why) => Code::InvalidArgument.because(why),
            Refusal::NoSpace => Code::InsufficientStorage.into(),
            Refusal::Unavailable(why) => Code::ServiceUnavailable.because(why),
            Refusal::Busy => Code::SlowDown.into(),
            // Not a 503: those promise that nothing happened.
            Refusal::OutcomeUnknown => Code::InternalError
                .because("the request may or may not have been carried out; look before you retry"),
        }
    }
}

impl From<Error> for S3Error {
    fn from(error: Error) -> Self {
        let name = error.code.as_str();
        let code = S3ErrorCode::from_bytes(name.as_bytes())
            .unwrap_or_else(|| S3ErrorCode::Custom(name.to_owned().into()));
        let mut out = Self::with_message(code, error.message);
        out.set_status_code(error.code.status());
        out
    }
}
