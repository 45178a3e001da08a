//! The node that is measured.

use super::{BenchError, Options, failed};
use crate::clock::Clock;
use crate::config::{Member, Secret};
use crate::disk::DataDir;
use crate::driver::{self, Exit, Handle, Machine, Parts, Running};
use crate::net::Net;
use ironseed_core::machine::{Duration, Instant as Moment, IoDone, Now};
use ironseed_core::node::Node;
use ironseed_core::node::api::{Config, Effect, Engine, Founding, FsyncPolicy, Input, Tuning};
use ironseed_core::node::status::{Phase, Status};
use ironseed_core::planted::Planted;
use ironseed_core::types::{ClusterId, NodeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A node without others and without clients' ports.
pub(super) struct Lone {
    pub(super) handle: Handle,
    pub(super) exit: tokio::sync::oneshot::Receiver<Exit>,
    pub(super) booted: Arc<Booted>,
}

impl Lone {
    pub(super) fn start(options: &Options, fsync: FsyncPolicy) -> Result<Self, BenchError> {
        let me = NodeId(1);
        let config = Config {
            me,
            nodes: vec![me],
            shards: options.shards,
            replication: 1,
            lanes: 1,
            fsync,
            engine: Engine::Native,
            tuning: Tuning::default(),
            seed: 1,
            planted: Planted::NONE,
        };
        let told = |error: &dyn std::fmt::Display| failed(error.to_string());
        let dir = DataDir::open(&options.dir).map_err(|error| told(&error))?;
        let is_new = dir.files().map_err(|error| told(&error))?.is_empty();
        let (access_key, secret_key) = ("bench".to_owned(), "bench".to_owned());
        let founding = Founding { cluster: ClusterId([1; 16]), access_key, secret_key };
        let parts = Parts {
            name: "bench".into(),
            clock: Clock::start(Duration::from_millis(250)),
            dir,
            engine: None,
            found: is_new.then_some(founding),
            net: |inbox, _public| {
                let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                let address = listener.local_addr()?.to_string();
                let members = [Member { id: me, address, admin: None }];
                let cluster = tokio::sync::watch::channel(None).1;
                Net::start(listener, me, &members, &Secret::default(), cluster, inbox)
            },
            recorder: None,
        };
        let booted = Arc::new(Booted::default());
        let node = Watched { node: Node::new(config), booted: booted.clone() };
        let Running { handle, exit } = driver::start(node, parts).map_err(|error| told(&error))?;
        Ok(Self { handle, exit, booted })
    }

    pub(super) async fn serving(&self) {
        let mut public = self.handle.public();
        // It fails only when the node has ended, which whoever asks it next is told.
        let _ = public.wait_for(|public| public.phase == Phase::Serving).await;
    }

    pub(super) async fn stop(self) -> Result<(), BenchError> {
        self.handle.stop();
        match self.exit.await {
            Ok(Exit::Stopped) => Ok(()),
            exit => Err(failed(format!("the node ended with {exit:?}"))),
        }
    }
}

/// What a node did until it served.
#[derive(Debug, Default)]
pub(super) struct Booted {
    /// Nanoseconds of its steps.
    pub(super) deciding: AtomicU64,
    pub(super) read: AtomicU64,
}

/// A node whose boot is measured.
struct Watched {
    node: Node,
    booted: Arc<Booted>,
}

impl Machine for Watched {
    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        if self.node.phase() == Phase::Serving {
            return self.node.step(now, input, effects);
        }
        if let Input::Done { result: Ok(IoDone::Data(bytes)), .. } = &input {
            self.booted.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        let began = Instant::now();
        self.node.step(now, input, effects);
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.booted.deciding.fetch_add(nanos, Ordering::Relaxed);
    }

    fn deadline(&self) -> Option<Moment> {
        self.node.deadline()
    }

    fn phase(&self) -> Phase {
        self.node.phase()
    }

    fn founding(&self) -> Option<&Founding> {
        self.node.founding()
    }

    fn status(&self) -> Status {
        self.node.status()
    }
}
