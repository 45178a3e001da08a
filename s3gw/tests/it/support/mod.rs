//! A server to talk to, and a client that can also misbehave.

pub(crate) mod client;
pub(crate) mod memory_store;

use client::Client;
use ironseed_s3gw::{Config, serve};
use memory_store::MemoryStore;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub(crate) const ACCESS_KEY: &str = "AKIDTEST";
pub(crate) const SECRET_KEY: &str = "c2VjcmV0/+secret";
pub(crate) const REGION: &str = "eu-west-9";

/// A gateway on a port of its own, stopped when dropped.
pub(crate) struct Server {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) client: Client,
    _stop: oneshot::Sender<()>,
}

/// Timeouts short enough for tests to see.
pub(crate) fn impatient() -> Config {
    Config {
        domains: vec!["s3.test".to_owned()],
        head_timeout: Duration::from_millis(700),
        body_timeout: Duration::from_millis(500),
        body_bytes_min: 64,
        stop_grace: Duration::from_secs(1),
        buffer_wait: Duration::from_millis(500),
        ..Config::default()
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(impatient(), REGION).await
    }

    pub(crate) async fn with(config: Config, region: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let store = Arc::new(MemoryStore::new(region));
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&store);
        tokio::spawn(serve(listener, serving, config, async move {
            let _ = stopped.await;
        }));
        let client = Client { address, region: region.to_owned() };
        Self { store, client, _stop: stop }
    }

    /// A server with the bucket `bucket`.
    pub(crate) async fn with_bucket() -> Self {
        Self::with_bucket_and(impatient()).await
    }

    /// A server of these settings with the bucket `bucket`.
    pub(crate) async fn with_bucket_and(config: Config) -> Self {
        let server = Self::with(config, REGION).await;
        server.client.put("/bucket", b"").await.expect(200);
        server
    }
}
