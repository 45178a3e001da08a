//! Joins the S3 gateway to the node: what the gateway needs of a cluster, asked of the driver.

use crate::config::{Limits, S3};
use crate::driver::{Handle, Public};
use ironseed_core::node::status::Phase;
use ironseed_core::object::api::{Outcome, Request};
use ironseed_s3gw::Store;
use tokio::sync::watch;

/// The node as the gateway sees it.
pub struct NodeStore {
    handle: Handle,
    public: watch::Receiver<Public>,
    region: String,
}

impl NodeStore {
    /// The node behind `handle`, signed for in `region`.
    #[must_use]
    pub fn new(handle: Handle, region: String) -> Self {
        Self { public: handle.public(), handle, region }
    }
}

impl Store for NodeStore {
    async fn call(&self, request: Request) -> Outcome {
        self.handle.call(request).await
    }

    fn credentials(&self, access_key: &str) -> Option<String> {
        let public = self.public.borrow();
        let founding = public.founding.as_ref()?;
        (founding.access_key == access_key).then(|| founding.secret_key.clone())
    }

    fn region(&self) -> &str {
        &self.region
    }

    fn ready(&self) -> bool {
        // Without its thread the node is no more, whatever was last known of it.
        self.public.has_changed().is_ok() && self.public.borrow().phase == Phase::Serving
    }
}

/// The gateway's settings from the operator's.
#[must_use]
pub fn config(s3: &S3, limits: &Limits) -> ironseed_s3gw::Config {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    ironseed_s3gw::Config {
        domains: s3.domain.iter().cloned().collect(),
        connections_max: size(limits.connections.into()),
        requests_max: size(limits.requests.into()),
        buffer_bytes_max: size(limits.body_bytes),
        // The node has to stop as well: half of the time is its own.
        stop_grace: limits.stop / 2,
        ..ironseed_s3gw::Config::default()
    }
}
