//! What a node takes from the machine that it runs on, and all that is exchanged when it runs on a simulated
//! one (`tests/madsim/sys.rs` stands in for this file there): how its ports listen, what a panic ends, where
//! its files are and who hashes.
//!
//! Everything else is the same code in both: protocols, the driver's rounds, the gateway. So what is here has
//! no choice to make, and is as short as it can be.

use crate::pool::{AbortOnPanic, Pool};
use bytes::Bytes;
use ironseed_core::machine::{FileId, FoundFile, Hashed, IoDone, IoResult};
use ironseed_core::planted::Planted;
use ironseed_core::types::OpId;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

pub use crate::disk::Workers as Disk;
pub use std::net::TcpListener as Listener;
pub use tokio::task::{AbortHandle, JoinSet};

/// Connections that wait to be accepted: bursts of clients that all reconnect at the same moment.
const BACKLOG: i32 = 1024;

/// Time since some moment before this process began. It never goes back, and counts on while the machine sleeps: leases rest on
/// it (ADR 15), and `std`'s clock may stand still then.
#[must_use]
pub fn monotonic() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::Boottime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

/// Binds a port with room for bursts of connections.
///
/// # Errors
/// It is taken or not ours.
pub fn bind(address: SocketAddr) -> io::Result<Listener> {
    let listener = Listener::bind(address)?;
    // std asks for 128; listening again only changes that.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Begins to accept on a bound port. Must be called inside a tokio runtime.
///
/// # Errors
/// The listener can't be used.
pub fn accept_on(listener: Listener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Breaks a connection on which bytes stay unacknowledged for so long, and probes it when it is idle.
///
/// # Errors
/// The operating system's.
pub fn watch(stream: &TcpStream, unacknowledged: Duration, idle: Duration) -> io::Result<()> {
    use rustix::net::sockopt;
    let millis = u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, millis)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, unacknowledged)?;
    Ok(sockopt::set_tcp_keepcnt(stream, 3)?)
}

/// The two directions of a connection.
pub fn split(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    stream.into_split()
}

/// The files of a data directory that a machine made, in any order.
///
/// # Errors
/// The directory can't be read.
pub fn files(dir: &Path) -> io::Result<Vec<FoundFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(file) = entry.file_name().to_str().and_then(FileId::parse) else { continue };
        found.push(FoundFile { file, bytes: entry.metadata()?.len() });
    }
    Ok(found)
}

/// The whole of a small file of a data directory.
///
/// # Errors
/// It is not there or can't be read.
pub fn read(dir: &Path, file: FileId) -> io::Result<Vec<u8>> {
    fs::read(dir.join(file.to_string()))
}

/// The bug that a node carries: none.
pub const fn planted() -> Planted {
    Planted::NONE
}

/// Threads that hash. Dropping them finishes what was submitted.
pub struct Hashers(Pool<(OpId, Bytes)>);

impl Hashers {
    /// Starts them. Each result is reported through `done`, from any of them.
    ///
    /// # Errors
    /// The operating system starts no more threads.
    pub fn start(
        name: &str,
        done: impl Fn(OpId, IoResult) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        // Hashing a chunk takes a third of a millisecond; more threads than cores would only take time
        // away from the others.
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
        let work = move |(op, bytes): (OpId, Bytes)| {
            done(op, Ok(IoDone::Hashed(Hashed::of(&bytes))));
        };
        Ok(Self(Pool::start(&format!("{name}-hash"), threads, work)?))
    }

    /// Hashes these bytes.
    pub fn submit(&self, op: OpId, bytes: Bytes) {
        self.0.submit((op, bytes));
    }
}

/// Starts a task whose panic ends the process: a broken invariant must stop the node, and a node that has
/// stopped deciding must not look alive.
pub fn spawn_or_abort(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        let _abort = AbortOnPanic;
        task.await;
    });
}

/// Drops what waits for its threads when it is dropped.
pub async fn retire(value: impl Send + 'static) {
    // It fails if the drop panics, which has been printed, or if the runtime ends, which drops it as well.
    let _ = tokio::task::spawn_blocking(move || drop(value)).await;
}
