//! The node port: framed TCP between the members of a cluster. The real twin of the simulator's network.
//!
//! # Connections
//! Each node dials each peer twice: once for control messages, once for bulk bytes, so that no upload stands
//! before a heartbeat. A connection carries messages one way only, from the node that dialled it: there
//! is nothing to agree on when two nodes dial each other at the same moment, and a connection that
//! broke is simply dialled again. What is queued when a connection breaks may be lost, and nothing is
//! ever sent twice; the machines tolerate both. When a peer's host refuses the new connection, the node is told: where a
//! process was killed, that is known long before its silence says so.
//!
//! # Who may speak
//! A member proves that it knows the cluster's secret, both ways, over nonces that both sides drew
//! ([`handshake`]). Until then a connection may send 256 bytes a frame, has five seconds in all, and
//! shares 64 places with every other stranger; nothing reaches the node. Afterwards a frame may be as large
//! as the codec allows, but it is read only when the budget for messages on their way to the node has
//! room for it, so a peer that sends faster than the node steps is slowed down by TCP.
//!
//! # What a message may cost the sender
//! Sending never waits. A queue holds a bounded number of bytes for each connection; a message that
//! finds it full is dropped and counted, as if the network had lost it. While a peer can't be reached its
//! queues are emptied at every failed attempt, so that it is not greeted with stale news.
//!
//! # Caveats
//! After the handshake nothing authenticates or encrypts the frames: whoever can write into the TCP
//! stream of others can speak for them. Until the port speaks TLS, it belongs on a private network,
//! which is why an address other than loopback needs `insecure = true` ([`crate::config`]).

pub mod frame;
pub mod handshake;
mod incoming;
mod outgoing;

pub use incoming::Deliver;
pub use outgoing::Dropped;

use crate::config::{Member, Secret};
use crate::sys::{self, JoinSet, Listener};
use bytes::Bytes;
use handshake::Credentials;
use ironseed_core::types::{ClusterId, NodeId};
use outgoing::Outbox;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// What travels on a connection. Two kinds, so that bulk bytes never delay the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, bincode::Encode, bincode::Decode)]
pub enum Channel {
    /// Everything but bulk bytes.
    Control,
    /// Chunks and slices of states on their way to and from other nodes.
    Bulk,
}

impl Channel {
    const ALL: [Self; 2] = [Self::Control, Self::Bulk];
}

/// Unacknowledged bytes break a connection after this long: a peer that lost power answers nothing, and
/// TCP alone would wait for minutes before it tries the new boot.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);
/// An idle connection is probed after this long.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);

/// Messages received, by peer.
type Received = Arc<BTreeMap<NodeId, AtomicU64>>;

/// What one peer and this node have said to each other since this node was started. A message may carry
/// the words of many groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The peer.
    pub peer: NodeId,
    /// Messages handed to a connection.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// What was not sent.
    pub dropped: Dropped,
}

/// The node port and the connections to all peers. Dropping it closes them.
pub struct Net {
    outboxes: BTreeMap<(NodeId, Channel), Arc<Outbox>>,
    received: Received,
    /// Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl Net {
    /// Begins to listen and to dial. `cluster` tells which cluster this node belongs to as soon as it
    /// knows; what peers say goes to `deliver`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The listener can't be used.
    pub fn start<D: Deliver>(
        listener: Listener,
        me: NodeId,
        members: &[Member],
        secret: &Secret,
        cluster: watch::Receiver<Option<ClusterId>>,
        deliver: D,
    ) -> io::Result<Self> {
        let listener = sys::accept_on(listener)?;
        let ids = members.iter().map(|member| member.id).collect();
        let credentials = Arc::new(Credentials::new(me, ids, secret, cluster));
        let mut tasks = JoinSet::new();
        let peers = members.iter().map(|member| member.id).filter(|id| *id != me);
        let received: Received = Arc::new(peers.map(|peer| (peer, AtomicU64::new(0))).collect());
        let inbox = incoming::Inbox { received: received.clone(), deliver: deliver.clone() };
        tasks.spawn(incoming::listen(listener, credentials.clone(), inbox));
        let mut outboxes = BTreeMap::new();
        for member in members.iter().filter(|member| member.id != me) {
            for channel in Channel::ALL {
                let outbox = Arc::new(Outbox::new(channel));
                outboxes.insert((member.id, channel), outbox.clone());
                let (member, credentials) = (member.clone(), credentials.clone());
                let deliver = deliver.clone();
                tasks.spawn(outgoing::run(member, channel, credentials, outbox, deliver));
            }
        }
        Ok(Self { outboxes, received, _tasks: tasks })
    }

    /// Queues a message; drops it when the queue is full or the peer is none.
    pub fn send(&self, to: NodeId, channel: Channel, head: Vec<u8>, body: Bytes) {
        if let Some(outbox) = self.outboxes.get(&(to, channel)) {
            outbox.push(head, body);
        }
    }

    /// Whether every message has been handed to a connection or dropped.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.outboxes.values().all(|outbox| outbox.is_empty())
    }

    /// What was said so far, peer by peer.
    #[must_use]
    pub fn traffic(&self) -> Vec<Traffic> {
        let outboxes = |peer| {
            let channels = Channel::ALL.into_iter();
            channels.filter_map(move |channel| self.outboxes.get(&(peer, channel)))
        };
        let traffic = |(peer, received): (&NodeId, &AtomicU64)| Traffic {
            peer: *peer,
            sent: outboxes(*peer).map(|outbox| outbox.sent()).sum(),
            received: received.load(Ordering::Relaxed),
            dropped: outboxes(*peer).fold(Dropped::default(), |sum, it| sum + it.dropped()),
        };
        self.received.iter().map(traffic).collect()
    }
}

/// Options of every connection of the node port.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Messages are small and wait for answers: without this they wait 40 ms for each other.
    stream.set_nodelay(true)?;
    sys::watch(stream, UNACKNOWLEDGED_MAX, KEEPALIVE_AFTER)
}

#[cfg(test)]
mod tests;
