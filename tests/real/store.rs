//! The S3 client under test, `object_store`, set up so that it hides nothing: it never retries.

use crate::{Result, http_raw};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ClientOptions, RetryConfig};
use std::time::Duration;

/// What a client has to know of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) region: String,
}

/// A client of one bucket through one endpoint. An attempt that takes longer than `timeout` has an
/// unknown outcome.
pub(crate) fn client(
    access: &Access,
    endpoint: &str,
    bucket: &str,
    timeout: Duration,
) -> Result<AmazonS3> {
    let never =
        RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() };
    let options = ClientOptions::new()
        .with_allow_http(true)
        .with_connect_timeout(Duration::from_millis(500))
        .with_timeout(timeout);
    AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_bucket_name(bucket)
        .with_region(&access.region)
        .with_access_key_id(&access.access_key)
        .with_secret_access_key(&access.secret_key)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(options)
        .with_retry(never)
        .build()
        .map_err(|error| format!("no client for {endpoint}: {error}"))
}

/// Makes the client's bucket.
pub(crate) async fn create_bucket(client: &AmazonS3) -> Result {
    match http_raw::call("PUT", &put_link(client, "").await?, b"").await? {
        200 => Ok(()),
        status => Err(format!("creating the bucket answered {status}")),
    }
}

/// A link that lets anybody PUT this key of the client's bucket for a while; the empty key is the
/// bucket itself.
pub(crate) async fn put_link(client: &AmazonS3, key: &str) -> Result<String> {
    link(client, http::Method::PUT, key).await
}

/// A link that lets anybody do the same to this key for a while.
pub(crate) async fn link(client: &AmazonS3, method: http::Method, key: &str) -> Result<String> {
    let minutes = Duration::from_secs(600);
    let link = client.signed_url(method, &Path::from(key), minutes).await;
    link.map(String::from).map_err(|error| format!("no link for {key}: {error}"))
}
