//! The connection to one peer for one channel: a bounded queue and the task that empties it.

use super::frame::{self, FrameError, Kind};
use super::handshake::{Credentials, HandshakeError};
use super::{Channel, Deliver, prepare};
use crate::config::Member;
use crate::sys;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Queued control bytes of one peer at the most. Many times what is under way between healthy nodes.
const CONTROL_BYTES_MAX: usize = 32 << 20;
/// Queued bulk bytes of one peer at the most. They are handles of chunks that the node holds anyway.
const BULK_BYTES_MAX: usize = 64 << 20;
/// Frames are gathered into writes of about this size.
const WRITE_BYTES: usize = 64 << 10;
/// Bodies from this size on are not copied to be gathered.
const COPY_BYTES_MAX: usize = 8 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after the first failed attempt; doubles up to the longest. A restarted peer is found within
/// the longest, which is short against the time that a restart takes.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Messages that were not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl std::ops::Add for Dropped {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }
}

/// Messages that wait for a connection.
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    ready: Notify,
    bytes_max: usize,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<(Vec<u8>, Bytes)>,
    bytes: usize,
    sent: u64,
    dropped: Dropped,
}

fn size((head, body): &(Vec<u8>, Bytes)) -> usize {
    frame::HEADER_BYTES + head.len() + body.len()
}

impl Queue {
    fn drop_all(&mut self) {
        self.dropped.messages += self.frames.len() as u64;
        self.dropped.bytes += self.bytes as u64;
        self.frames.clear();
        self.bytes = 0;
    }
}

impl Outbox {
    pub(super) fn new(channel: Channel) -> Self {
        let bytes_max = match channel {
            Channel::Control => CONTROL_BYTES_MAX,
            Channel::Bulk => BULK_BYTES_MAX,
        };
        Self { queue: Mutex::default(), ready: Notify::new(), bytes_max }
    }

    pub(super) fn push(&self, head: Vec<u8>, body: Bytes) {
        let oversized = head.len() > frame::MEMBER.head || body.len() > frame::MEMBER.body;
        let frame = (head, body);
        let bytes = size(&frame);
        if oversized {
            // The other side would close the connection on it, and everything behind it would be lost.
            tracing::error!(bytes, "dropped a message that is too large to send");
        }
        {
            let mut queue = self.lock();
            // One message always fits, whatever its size.
            if oversized || (queue.bytes > 0 && queue.bytes + bytes > self.bytes_max) {
                queue.dropped.messages += 1;
                queue.dropped.bytes += bytes as u64;
                return;
            }
            queue.bytes += bytes;
            queue.frames.push_back(frame);
        }
        self.ready.notify_one();
    }

    /// Messages that were handed to a connection.
    pub(super) fn sent(&self) -> u64 {
        self.lock().sent
    }

    pub(super) fn dropped(&self) -> Dropped {
        self.lock().dropped
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().frames.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<(Vec<u8>, Bytes)> {
        let mut queue = self.lock();
        let frame = queue.frames.pop_front()?;
        queue.bytes -= size(&frame);
        queue.sent += 1;
        Some(frame)
    }
}

/// Connects, sends what is queued, and connects again, for ever. Says it when the peer's host refuses: once, until there was
/// a connection again.
pub(super) async fn run(
    peer: Member,
    channel: Channel,
    credentials: Arc<Credentials>,
    outbox: Arc<Outbox>,
    deliver: impl Deliver,
) {
    let mut pause = PAUSE_MIN;
    let mut silent = false;
    let mut told = false;
    loop {
        match connect(&peer, channel, &credentials).await {
            Ok(stream) => {
                tracing::info!(peer = %peer.id, address = %peer.address, ?channel, "connected");
                (pause, silent, told) = (PAUSE_MIN, false, false);
                let error = send_all(stream, &outbox).await;
                tracing::info!(peer = %peer.id, ?channel, %error, "connection lost");
            }
            Err(error) if !told && channel == Channel::Control && is_refused(&error) => {
                tracing::warn!(peer = %peer.id, address = %peer.address, %error, "refused: nobody there");
                deliver.refused(peer.id);
                (silent, told) = (true, true);
            }
            // Said once: a peer that is down for a day is not worth a line every half second.
            Err(error) if !silent => {
                tracing::warn!(peer = %peer.id, address = %peer.address, ?channel, %error, "can't connect");
                silent = true;
            }
            Err(error) => tracing::debug!(peer = %peer.id, ?channel, %error, "can't connect"),
        }
        outbox.lock().drop_all();
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether the peer's host answers, or something before it, and the peer does not: nobody listens there, or who listened
/// has just gone. Not that somebody does who won't have this node, and not silence.
fn is_refused(error: &HandshakeError) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    let HandshakeError::Frame(FrameError::Io(error)) = error else { return false };
    matches!(error.kind(), ConnectionRefused | ConnectionReset | ConnectionAborted | UnexpectedEof)
}

async fn connect(
    peer: &Member,
    channel: Channel,
    credentials: &Credentials,
) -> Result<TcpStream, HandshakeError> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let connecting = TcpStream::connect(peer.address.as_str());
    let mut stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(late)??;
    prepare(&stream)?;
    let shaking = credentials.dial(&mut stream, peer.id, channel);
    timeout(HANDSHAKE_TIMEOUT, shaking).await.map_err(late)??;
    Ok(stream)
}

/// Sends until the connection fails, and says how.
async fn send_all(stream: TcpStream, outbox: &Outbox) -> io::Error {
    let (mut reader, mut writer) = sys::split(stream);
    let mut buffer = Vec::with_capacity(WRITE_BYTES);
    let mut nothing = [0; 1];
    loop {
        if let Err(error) = send_queued(&mut writer, outbox, &mut buffer).await {
            return error;
        }
        tokio::select! {
            biased;
            () = outbox.ready.notified() => {}
            // The other side says nothing after the handshake, so this is its end.
            read = reader.read(&mut nothing) => {
                return match read {
                    Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                    Ok(_) => io::ErrorKind::InvalidData.into(),
                    Err(error) => error,
                };
            }
        }
    }
}

async fn send_queued(
    writer: &mut (impl AsyncWrite + Unpin),
    outbox: &Outbox,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    while let Some((head, body)) = outbox.take() {
        buffer.extend_from_slice(&frame::header(Kind::Message, &head, &body));
        buffer.extend_from_slice(&head);
        if body.len() <= COPY_BYTES_MAX {
            buffer.extend_from_slice(&body);
        } else {
            writer.write_all(buffer).await?;
            buffer.clear();
            writer.write_all(&body).await?;
        }
        if buffer.len() >= WRITE_BYTES {
            writer.write_all(buffer).await?;
            buffer.clear();
        }
    }
    writer.write_all(buffer).await?;
    writer.flush().await?;
    buffer.clear();
    // A large message must not keep its memory for as long as the connection lives.
    buffer.shrink_to(WRITE_BYTES);
    Ok(())
}
