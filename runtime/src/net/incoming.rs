//! The listener, and the connections on which peers speak to this node.

use super::frame::{self, FrameError, Header, Kind};
use super::handshake::Credentials;
use super::{Channel, Received, prepare};
use crate::sys::{AbortHandle, JoinSet};
use bytes::Bytes;
use ironseed_core::codec::DecodeError;
use ironseed_core::types::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// Connections that have not proved themselves, at a time. A whole cluster that restarts knocks twice a
/// node; beyond this a caller is closed at once and tries again.
const STRANGERS_MAX: usize = 64;
/// How long a stranger may take to prove itself.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// KiB of control messages on their way to the node at the most, from all peers. More than the largest
/// message, so that any can pass.
const CONTROL_KIB_MAX: usize = 48 << 10;
/// The same of bulk messages.
const BULK_KIB_MAX: usize = 40 << 10;

/// Where messages go.
pub trait Deliver: Clone + Send + Sync + 'static {
    /// Hands a message to the node. `room` is given back when the node has taken it.
    ///
    /// # Errors
    /// The bytes are no message; the connection is closed.
    fn deliver(
        &self,
        from: NodeId,
        head: &[u8],
        body: Bytes,
        room: OwnedSemaphorePermit,
    ) -> Result<(), DecodeError>;

    /// A peer's host has refused a connection: nobody listens there.
    fn refused(&self, peer: NodeId);
}

/// Where messages go, and how they are counted.
#[derive(Clone)]
pub(super) struct Inbox<D> {
    pub(super) received: Received,
    pub(super) deliver: D,
}

/// A peer that has proved itself.
struct Admitted {
    peer: NodeId,
    channel: Channel,
    stream: TcpStream,
}

/// Accepts connections, for ever.
pub(super) async fn listen<D: Deliver>(
    listener: TcpListener,
    credentials: Arc<Credentials>,
    inbox: Inbox<D>,
) {
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    let budgets = BTreeMap::from([
        (Channel::Control, Arc::new(Semaphore::new(CONTROL_KIB_MAX))),
        (Channel::Bulk, Arc::new(Semaphore::new(BULK_KIB_MAX))),
    ]);
    let (admit, mut admitted) = mpsc::channel(STRANGERS_MAX);
    // All tasks end with this one.
    let mut tasks = JoinSet::new();
    let mut connected: BTreeMap<(NodeId, Channel), AbortHandle> = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            Some(Admitted { peer, channel, stream }) = admitted.recv() => {
                let Some(budget) = budgets.get(&channel).cloned() else { continue };
                let task = tasks.spawn(receive(peer, channel, stream, budget, inbox.clone()));
                // The peer dials one connection a channel; an older one is what is left of its last
                // boot or of a broken path.
                if let Some(older) = connected.insert((peer, channel), task) {
                    older.abort();
                }
            }
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let Ok(place) = strangers.clone().try_acquire_owned() else {
                        tracing::debug!(%address, "too many strangers on the node port");
                        continue;
                    };
                    tasks.spawn(meet(stream, address, credentials.clone(), admit.clone(), place));
                }
                Err(error) => {
                    // Out of descriptors, most likely: they come back.
                    tracing::warn!(%error, "node port can't accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn meet(
    mut stream: TcpStream,
    address: SocketAddr,
    credentials: Arc<Credentials>,
    admit: mpsc::Sender<Admitted>,
    place: OwnedSemaphorePermit,
) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%address, %error, "node port");
        return;
    }
    match timeout(HANDSHAKE_TIMEOUT, credentials.accept(&mut stream)).await {
        Ok(Ok((peer, channel))) => {
            drop(place);
            // Fails only when the listener has ended.
            let _ = admit.send(Admitted { peer, channel, stream }).await;
        }
        Ok(Err(error)) => tracing::warn!(%address, %error, "refused on the node port"),
        Err(_) => tracing::warn!(%address, "a stranger on the node port took too long"),
    }
}

async fn receive<D: Deliver>(
    peer: NodeId,
    channel: Channel,
    stream: TcpStream,
    budget: Arc<Semaphore>,
    inbox: Inbox<D>,
) {
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    match receive_all(peer, &mut stream, &budget, &inbox).await {
        Ok(()) => tracing::debug!(%peer, ?channel, "peer closed its connection"),
        Err(FrameError::Io(error)) => tracing::debug!(%peer, ?channel, %error, "peer lost"),
        Err(error) => tracing::warn!(%peer, ?channel, %error, "closed the peer's connection"),
    }
}

async fn receive_all<D: Deliver>(
    peer: NodeId,
    stream: &mut BufReader<TcpStream>,
    budget: &Arc<Semaphore>,
    inbox: &Inbox<D>,
) -> Result<(), FrameError> {
    while let Some(header) = Header::read(stream, frame::MEMBER).await? {
        if header.kind != Kind::Message {
            return Err(FrameError::Broken("a handshake after the handshake"));
        }
        let kib = u32::try_from((header.head + header.body).div_ceil(1024)).unwrap_or(u32::MAX);
        let Ok(room) = budget.clone().acquire_many_owned(kib).await else { return Ok(()) };
        let (head, body) = header.read_rest(stream).await?;
        if let Some(received) = inbox.received.get(&peer) {
            received.fetch_add(1, Ordering::Relaxed);
        }
        inbox
            .deliver
            .deliver(peer, &head, body, room)
            .map_err(|_| FrameError::Broken("malformed message"))?;
    }
    Ok(())
}
