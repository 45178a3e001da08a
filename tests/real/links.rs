//! Links between nodes that can be cut: each node dials each peer through a relay of this program.
//!
//! A node's connections to a peer carry what it says and nothing back, so a relay that stands still is a
//! cut of one direction: what was sent waits, as behind a switch that died, and leaves when the cut is mended
//! unless a node has given the connection up by then.

use crate::Result;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The relays of a cluster: `[from][to]`.
#[derive(Debug)]
pub(crate) struct Links {
    gates: Vec<Vec<watch::Sender<bool>>>,
    /// End with it.
    _relays: JoinSet<()>,
}

impl Links {
    /// Relays between nodes that listen on these ports. Returns as well where each node is to look for each peer;
    /// for itself, its own port.
    pub(crate) fn between(ports: &[u16]) -> Result<(Self, Vec<Vec<u16>>)> {
        let (mut gates, mut looks, mut relays) = (Vec::new(), Vec::new(), JoinSet::new());
        for (from, own) in ports.iter().enumerate() {
            let (mut open, mut look) = (Vec::new(), Vec::new());
            for (to, port) in ports.iter().enumerate() {
                let (gate, mut watched) = watch::channel(true);
                open.push(gate);
                if from == to {
                    look.push(*own);
                    continue;
                }
                let listener = listen().map_err(|error| format!("no port for a relay: {error}"))?;
                look.push(listener.local_addr().map_err(|error| error.to_string())?.port());
                let port = *port;
                relays.spawn(async move {
                    let mut streams = JoinSet::new();
                    while let Ok((stream, _)) = listener.accept().await {
                        while streams.try_join_next().is_some() {}
                        watched.mark_unchanged();
                        streams.spawn(relay(stream, port, watched.clone()));
                    }
                });
            }
            gates.push(open);
            looks.push(look);
        }
        Ok((Self { gates, _relays: relays }, looks))
    }

    /// Cuts or mends the direction from one node to another, both counted from 0.
    pub(crate) fn set(&self, from: usize, to: usize, open: bool) {
        self.gates[from][to].send_replace(open);
    }

    /// Cuts or mends all that a node says, and what is said to it.
    pub(crate) fn around(&self, node: usize, says: bool, hears: bool) {
        for other in (0..self.gates.len()).filter(|other| *other != node) {
            self.set(node, other, says);
            self.set(other, node, hears);
        }
    }
}

fn listen() -> std::io::Result<TcpListener> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn relay(stream: TcpStream, port: u16, mut gate: watch::Receiver<bool>) {
    // Behind a cut nobody answers, not even to refuse.
    if gate.wait_for(|open| *open).await.is_err() {
        return;
    }
    let Ok(peer) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let _ = (stream.set_nodelay(true), peer.set_nodelay(true));
    let ((from, to), (back, forth)) = (stream.into_split(), peer.into_split());
    tokio::select! {
        biased;
        () = copy(from, forth, gate.clone()) => {}
        () = copy(back, to, gate) => {}
    }
}

/// Copies until either side ends, standing still while the gate is shut.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        if gate.wait_for(|open| *open).await.is_err()
            || to.write_all(&buffer[..bytes]).await.is_err()
        {
            return;
        }
    }
}
