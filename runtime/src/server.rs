//! One node with its ports: puts the parts together, and takes them apart in order.
//!
//! Everything that can be refused is refused before anything runs: ports are bound and the data
//! directory is locked first. A graceful stop goes from the outside in: the gateway finishes the requests
//! that are under way, then the node gives its leaderships away and makes its state durable, then the
//! disk's threads end. The admin port answers until the end.

use crate::admin::Key;
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::{DataDir, DirError};
use crate::driver::{self, Exit, Handle, Inbox, Parts, Public, Running};
use crate::engine;
use crate::founding::{self, FoundingError};
use crate::gateway::{self, NodeStore};
use crate::health;
use crate::net::Net;
use crate::recording::Recorder;
use crate::sys::{self, JoinSet, Listener};
use ironseed_core::node::Node;
use ironseed_core::node::api::{Engine, Founding};
use ironseed_core::node::status::Phase;
use ironseed_core::types::ClusterId;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Why a node can't be started.
#[derive(Debug)]
pub enum StartError {
    /// A port can't be bound.
    Bind {
        /// Which one, as the configuration names it.
        port: &'static str,
        /// Its address.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// The data directory can't be used.
    Dir(DirError),
    /// The engine of the records can't be opened.
    Engine(engine::OpenError),
    /// The founding of a cluster is refused.
    Founding(FoundingError),
    /// The recording that the configuration asks for can't be made.
    Record {
        /// Where.
        folder: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The operating system gives no threads or no randomness.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { port, address, error } => {
                write!(f, "{port}: can't bind {address}: {error}")
            }
            Self::Dir(error) => write!(f, "{error}"),
            Self::Engine(error) => write!(f, "{error}"),
            Self::Founding(error) => write!(f, "{error}"),
            Self::Record { folder, error } => {
                write!(f, "debug.record: {}: {error}", folder.display())
            }
            Self::System(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<engine::OpenError> for StartError {
    fn from(error: engine::OpenError) -> Self {
        Self::Engine(error)
    }
}

impl From<DirError> for StartError {
    fn from(error: DirError) -> Self {
        Self::Dir(error)
    }
}

impl From<FoundingError> for StartError {
    fn from(error: FoundingError) -> Self {
        Self::Founding(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// The bound ports of a node.
#[derive(Debug)]
pub struct Listeners {
    /// For peers.
    pub node: Listener,
    /// For clients.
    pub s3: Listener,
    /// For operators.
    pub admin: Listener,
}

impl Listeners {
    /// Binds what the configuration says.
    ///
    /// # Errors
    /// A port is taken or not ours.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            node: bind("the node port", config.cluster.listen)?,
            s3: bind("s3.listen", config.s3.listen)?,
            admin: bind("admin.listen", config.admin)?,
        })
    }
}

/// Binds a port with room for bursts of connections.
///
/// # Errors
/// It is taken or not ours.
pub fn bind(port: &'static str, address: SocketAddr) -> Result<Listener, StartError> {
    sys::bind(address).map_err(|error| StartError::Bind { port, address, error })
}

/// A node that serves.
pub struct Server {
    /// The way to the node.
    pub handle: Handle,
    /// Where S3 is served.
    pub s3: SocketAddr,
    /// Where health and status are served.
    pub admin: SocketAddr,
    exit: oneshot::Receiver<Exit>,
    shutdown: oneshot::Sender<()>,
    gateway: JoinHandle<()>,
    stop: Duration,
    /// The admin port and what watches the node. Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl Server {
    /// Starts a node on an open data directory and bound ports. Founds a cluster where the directory
    /// says so. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The directory or the operating system says no.
    pub fn start(config: &Config, dir: DataDir, ports: Listeners) -> Result<Self, StartError> {
        let found = founding::pending(&dir)?;
        let path = dir.path().to_owned();
        let (s3, admin) = (ports.s3.local_addr()?, ports.admin.local_addr()?);
        let settings = config.node_config().map_err(io::Error::other)?;
        let engine = engine::open(settings.engine, &path)?;
        if settings.engine == Engine::Memory {
            tracing::warn!(
                "engine memory: the records of this node are gone when it stops, and come from the other nodes again"
            );
        }
        let recorder = config.record.as_deref().map(|folder| {
            Recorder::create(folder, &settings)
                .map_err(|error| StartError::Record { folder: folder.to_owned(), error })
        });
        let recorder = recorder.transpose()?;
        let parts = Parts {
            name: format!("n{}", config.node),
            clock: Clock::start(config.clock_bound),
            dir,
            engine,
            found,
            net: |inbox, public| start_net(config, ports.node, inbox, public),
            recorder,
        };
        let Running { handle, exit } = driver::start(Node::new(settings), parts)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(confirm_founding(handle.public(), path));
        let (admin_handle, key) = (handle.clone(), Key::new(&config.cluster.secret));
        tasks.spawn(async move {
            if let Err(error) = health::serve(ports.admin, admin_handle, key).await {
                tracing::error!(%error, "the admin port has ended");
            }
        });
        let listener = sys::accept_on(ports.s3)?;
        let store = Arc::new(NodeStore::new(handle.clone(), config.s3.region.clone()));
        let (shutdown, asked) = oneshot::channel();
        let gateway_config = gateway::config(&config.s3, &config.limits);
        let gateway = tokio::spawn(ironseed_s3gw::serve(listener, store, gateway_config, async {
            // Dropping the server shuts the gateway down as well.
            let _ = asked.await;
        }));
        tracing::info!(node = %config.node, %s3, %admin, port = %config.cluster.listen, "started");
        Ok(Self {
            handle,
            s3,
            admin,
            exit,
            shutdown,
            gateway,
            stop: config.limits.stop,
            _tasks: tasks,
        })
    }

    /// Waits until the node ends by itself, which it only does when its store can't go on.
    pub async fn ended(&mut self) -> Exit {
        std::future::poll_fn(|context| self.poll_ended(context)).await
    }

    /// As [`Server::ended`], for waiting on several nodes at once.
    pub fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Exit> {
        let exit = std::task::ready!(Pin::new(&mut self.exit).poll(context));
        Poll::Ready(exit.unwrap_or_else(|_| Exit::Halted("its thread is gone".into())))
    }

    /// Stops gracefully. Returns how the node ended; `None` if it did not end in time.
    pub async fn stop(self) -> Option<Exit> {
        let Self { handle, exit, shutdown, gateway, stop, _tasks, .. } = self;
        // Fails when the gateway has ended by itself.
        let _ = shutdown.send(());
        let abort = gateway.abort_handle();
        if timeout(stop / 2 + Duration::from_secs(1), gateway).await.is_err() {
            abort.abort();
        }
        handle.stop();
        timeout(stop, exit).await.ok()?.ok()
    }
}

fn start_net(
    config: &Config,
    listener: Listener,
    inbox: Inbox,
    mut public: watch::Receiver<Public>,
) -> io::Result<Net> {
    let (sender, cluster) = watch::channel(None::<ClusterId>);
    tokio::spawn(async move {
        let known = public.wait_for(|public| public.founding.is_some()).await;
        if let Ok(Some(founding)) = known.map(|public| public.founding.clone()) {
            let _ = sender.send(Some(founding.cluster));
        }
        // The value is kept when the sender goes.
    });
    let cluster_config = &config.cluster;
    let members = &cluster_config.members;
    Net::start(listener, config.node, members, &cluster_config.secret, cluster, inbox)
}

/// As soon as the store belongs to its cluster, the file that founded it founds nothing any more.
async fn confirm_founding(mut public: watch::Receiver<Public>, dir: PathBuf) {
    let known = public.wait_for(|public| public.founding.is_some()).await.is_ok();
    if known && let Err(error) = founding::confirm(&dir) {
        tracing::error!(%error, dir = %dir.display(), "can't rename founding.toml");
    }
}

/// Waits until the node takes requests; false when that takes longer than `patience` or it ends before.
pub async fn ready(handle: &Handle, patience: Duration) -> bool {
    let mut public = handle.public();
    let serving = public.wait_for(|public| public.phase == Phase::Serving);
    matches!(timeout(patience, serving).await, Ok(Ok(_)))
}

/// The root credentials, once the node knows its cluster.
pub async fn credentials(handle: &Handle, patience: Duration) -> Option<Founding> {
    let mut public = handle.public();
    let known = timeout(patience, public.wait_for(|public| public.founding.is_some())).await;
    known.ok()?.ok()?.founding.clone()
}
