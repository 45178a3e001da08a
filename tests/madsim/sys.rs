//! What a node takes from a simulated machine: the twin of `runtime/src/sys.rs`, and part of the crate
//! `ironseed` wherever that is built with `--cfg madsim`.
//!
//! Sockets, tasks and time are madsim's. A machine's disk is a [`Device`] that whoever made the machine has
//! mounted on the data directory ([`mount`]); its ports are bound by madsim and kept until the node asks for
//! them ([`plug`]). One thread runs a whole simulation, so all tables are its own.

use bytes::Bytes;
use ironseed_core::machine::{FileId, FoundFile, Hashed, IoDone, IoOp, IoResult};
use ironseed_core::planted::Planted;
use ironseed_core::types::OpId;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinHandle};

use crate::disk::DataDir;
pub use tokio::task::AbortHandle;

/// A machine's disk.
pub trait Device: Send + Sync {
    /// Every file on it.
    fn files(&self) -> Vec<FoundFile>;
    /// The whole of a file; `None` if there is none.
    fn read(&self, file: FileId) -> Option<Vec<u8>>;
    /// Takes an operation on. Returns when it is to be completed.
    fn issue(&self, operation: IoOp) -> Duration;
    /// Carries an operation out; `None` when a crash has taken it.
    fn complete(&self, op: OpId) -> Option<IoResult>;
}

thread_local! {
    static PLANTED: Cell<Planted> = const { Cell::new(Planted::NONE) };
    static DEVICES: RefCell<BTreeMap<PathBuf, Arc<dyn Device>>> = const { RefCell::new(BTreeMap::new()) };
    static PORTS: RefCell<BTreeMap<SocketAddr, Listener>> = const { RefCell::new(BTreeMap::new()) };
}

/// Puts a disk under a data directory, in place of the one there.
pub fn mount(dir: &Path, device: Arc<dyn Device>) {
    DEVICES.with_borrow_mut(|devices| devices.insert(dir.to_owned(), device));
}

fn device(dir: &Path) -> io::Result<Arc<dyn Device>> {
    let device = DEVICES.with_borrow(|devices| devices.get(dir).cloned());
    device.ok_or_else(|| io::Error::other(format!("nothing is mounted on {}", dir.display())))
}

/// Time since the simulation began.
#[must_use]
pub fn monotonic() -> Duration {
    thread_local! {
        static BEGAN: std::time::Instant = std::time::Instant::now();
    }
    BEGAN.with(std::time::Instant::elapsed)
}

/// Every node that is started from now on carries this bug.
pub fn plant(planted: Planted) {
    PLANTED.set(planted);
}

/// The bug that a node carries.
#[must_use]
pub fn planted() -> Planted {
    PLANTED.get()
}

/// A bound port.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Its address.
    ///
    /// # Errors
    /// None here.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Binds a port of the machine that this is called on, for the node that is started on it next.
///
/// # Errors
/// It is taken or not ours.
pub async fn plug(address: SocketAddr) -> io::Result<()> {
    let listener = Listener(TcpListener::bind(address).await?);
    PORTS.with_borrow_mut(|ports| ports.insert(address, listener));
    Ok(())
}

/// Takes a port that was bound.
///
/// # Errors
/// It was not.
pub fn bind(address: SocketAddr) -> io::Result<Listener> {
    let plugged = PORTS.with_borrow_mut(|ports| ports.remove(&address));
    plugged.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Begins to accept on a bound port.
///
/// # Errors
/// None here.
pub fn accept_on(listener: Listener) -> io::Result<TcpListener> {
    Ok(listener.0)
}

/// Nothing: a simulated connection never breaks by itself.
///
/// # Errors
/// None here.
pub fn watch(_: &TcpStream, _unacknowledged: Duration, _idle: Duration) -> io::Result<()> {
    Ok(())
}

/// The two directions of a connection.
pub fn split(stream: TcpStream) -> (ReadHalf<TcpStream>, WriteHalf<TcpStream>) {
    tokio::io::split(stream)
}

/// The files of a data directory that a machine made.
///
/// # Errors
/// Nothing is mounted there.
pub fn files(dir: &Path) -> io::Result<Vec<FoundFile>> {
    Ok(device(dir)?.files())
}

/// The whole of a small file of a data directory.
///
/// # Errors
/// It is not there, or nothing is mounted there.
pub fn read(dir: &Path, file: FileId) -> io::Result<Vec<u8>> {
    device(dir)?.read(file).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Reports an operation's end.
type Done = Arc<dyn Fn(OpId, IoResult) + Send + Sync>;

/// A mounted disk, as a driver uses it.
pub struct Disk {
    dir: DataDir,
    device: Arc<dyn Device>,
    done: Done,
}

impl Disk {
    /// The disk under this directory. Each operation's end is reported through `done`.
    ///
    /// # Errors
    /// Nothing is mounted there.
    pub fn start(
        dir: DataDir,
        _engine: Option<Box<dyn crate::engine::Engine>>,
        _name: &str,
        done: impl Fn(OpId, IoResult) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let device = device(dir.path())?;
        Ok(Self { dir, device, done: Arc::new(done) })
    }

    /// Begins an operation; it always takes a while.
    pub fn submit(&self, operation: IoOp) -> Option<IoResult> {
        let (op, device, done) = (operation.op, self.device.clone(), self.done.clone());
        let after = self.device.issue(operation);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(result) = device.complete(op) {
                done(op, result);
            }
        });
        None
    }

    /// The directory that the files are in.
    #[must_use]
    pub const fn dir(&self) -> &DataDir {
        &self.dir
    }
}

/// Hashes at once.
pub struct Hashers(Done);

impl Hashers {
    /// Each result is reported through `done`.
    ///
    /// # Errors
    /// None here.
    pub fn start(
        _name: &str,
        done: impl Fn(OpId, IoResult) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Ok(Self(Arc::new(done)))
    }

    /// Hashes these bytes.
    pub fn submit(&self, op: OpId, bytes: Bytes) {
        (self.0)(op, Ok(IoDone::Hashed(Hashed::of(&bytes))));
    }
}

/// Starts a task of the machine that this is called on; its panic ends the simulation.
pub fn spawn_or_abort(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Drops what waits for its threads when it is dropped; here there are none.
pub async fn retire(value: impl Send + 'static) {
    drop(value);
}

/// Tasks that end with it.
#[derive(Debug)]
pub struct JoinSet<T>(Vec<JoinHandle<T>>);

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Send + 'static> JoinSet<T> {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task.
    pub fn spawn(&mut self, task: impl Future<Output = T> + Send + 'static) -> AbortHandle {
        let handle = tokio::spawn(task);
        let abort = handle.abort_handle();
        self.0.push(handle);
        abort
    }

    /// What a task came to that has ended, if one has.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        match self.poll_join_next(context) {
            std::task::Poll::Ready(ended) => ended,
            std::task::Poll::Pending => None,
        }
    }

    /// What the next task that ends comes to; `None` when there is none left.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        std::future::poll_fn(|context| self.poll_join_next(context)).await
    }

    /// What all tasks come to, in the order in which they end.
    ///
    /// # Panics
    /// A task was aborted.
    pub async fn join_all(mut self) -> Vec<T> {
        let mut all = Vec::new();
        while let Some(ended) = self.join_next().await {
            all.push(ended.unwrap_or_else(|error| panic!("{error}")));
        }
        all
    }

    fn poll_join_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<T, JoinError>>> {
        for place in 0..self.0.len() {
            if let std::task::Poll::Ready(ended) =
                std::pin::Pin::new(&mut self.0[place]).poll(context)
            {
                self.0.remove(place);
                return std::task::Poll::Ready(Some(ended));
            }
        }
        if self.0.is_empty() { std::task::Poll::Ready(None) } else { std::task::Poll::Pending }
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}
