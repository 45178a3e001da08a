//! Object bytes through the gateway: never more than a few chunks of each transfer in memory, and never
//! more than [`crate::Config::buffer_bytes_max`] of all together.
//!
//! The cutting and putting together is core's [`Uploader`] and [`Downloader`]; here they are driven from
//! sockets. Whoever waits for room holds nothing that another waits for, so nobody waits for ever: an
//! upload takes room for a whole chunk before its first byte and keeps it to the end, and fills a second
//! chunk while the first is on its way to the replicas only if there is room at once. A download takes
//! room for each chunk before it asks for it, and gives it back when the socket has taken the bytes. Who
//! finds no room for [`crate::Config::buffer_wait`] is refused.
//!
//! A transfer whose future is dropped, because its client went away, gives its blob up.

use crate::Store;
use crate::checksum::{Announced, Digests, Summary};
use crate::error::{Code, Error, Result};
use crate::guard::Payload;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use ironseed_core::machine::Instant as CoreInstant;
use ironseed_core::object::api::{
    Answer, CHUNK_BYTES, ChecksumAlgorithm, Object, Outcome, PUT_BYTES_MAX, Request,
};
use ironseed_core::object::transfer::{
    Call, Downloader, Failure, READ_AHEAD, Ticket, Uploaded, Uploader,
};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

/// Room is counted in pieces of this size: what a socket gives at once.
const ROOM_BYTES: usize = 64 << 10;

/// The room in memory that all transfers share.
#[derive(Clone)]
pub struct Budget {
    room: Arc<Semaphore>,
    wait: Duration,
    epoch: Instant,
}

impl Budget {
    /// Room for `bytes`, for which a transfer waits no longer than `wait`.
    #[must_use]
    pub fn new(bytes: usize, wait: Duration) -> Self {
        // Less than a few transfers' worth could never move a chunk.
        let pieces = (bytes / ROOM_BYTES).max(8 * CHUNK_BYTES / ROOM_BYTES);
        Self { room: Arc::new(Semaphore::new(pieces)), wait, epoch: Instant::now() }
    }

    /// Takes room for `bytes`.
    ///
    /// # Errors
    /// `SlowDown` when there is none for too long.
    pub async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let pieces = u32::try_from(bytes.div_ceil(ROOM_BYTES)).unwrap_or(u32::MAX);
        match timeout(self.wait, Arc::clone(&self.room).acquire_many_owned(pieces)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Code::SlowDown.into()),
        }
    }

    /// Bytes of room that nobody has taken.
    #[must_use]
    pub fn free(&self) -> usize {
        self.room.available_permits() * ROOM_BYTES
    }

    fn take_now(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let pieces = u32::try_from(bytes.div_ceil(ROOM_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(pieces).ok()
    }

    fn now(&self) -> CoreInstant {
        CoreInstant(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn at(&self, instant: CoreInstant) -> Instant {
        self.epoch + Duration::from_nanos(instant.0)
    }
}

/// The room of one upload: what it keeps to its end, and what it has on top of that for now.
struct Room {
    kept: usize,
    permit: OwnedSemaphorePermit,
}

impl Room {
    /// Room for the chunk that fills, for the piece that overfills it, and for `beside`.
    async fn take(budget: &Budget, promised: Option<u64>, beside: usize) -> Result<Self> {
        let kept = ROOM_BYTES + whole_or(promised) + beside;
        Ok(Self { kept, permit: budget.take(kept).await? })
    }

    /// Whether there is, or can be at once, room for `bytes`. Gives back what is no longer needed.
    fn fits(&mut self, budget: &Budget, bytes: usize) -> bool {
        let wanted = bytes.max(self.kept).div_ceil(ROOM_BYTES);
        let surplus = self.permit.num_permits().saturating_sub(wanted);
        drop(self.permit.split(surplus));
        let lacks = wanted - self.permit.num_permits();
        if let Some(more) = budget.take_now(lacks * ROOM_BYTES).filter(|_| lacks > 0) {
            self.permit.merge(more);
        }
        self.permit.num_permits() == wanted
    }
}

/// A chunk, or less if no more is to come.
fn whole_or(left: Option<u64>) -> usize {
    left.and_then(|left| usize::try_from(left).ok())
        .map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES))
}

/// Where bytes come from: a client's body or another object.
pub trait Pieces: Send {
    /// How many bytes there are in all, as far as is known.
    fn promised(&self) -> Option<u64>;

    /// Bytes that the source itself keeps in memory, without room of its own.
    fn kept(&self) -> usize {
        0
    }

    /// The next bytes, `None` at the end. May be dropped and called again.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

impl Pieces for Payload {
    fn promised(&self) -> Option<u64> {
        Self::promised(self)
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        Self::next(self).await
    }
}

/// Calls under way, and the tickets to report them with.
type Calls = FuturesUnordered<BoxFuture<'static, (Ticket, Result<Outcome>)>>;

fn refused(failure: Failure) -> Error {
    match failure {
        Failure::TooLarge => Code::EntityTooLarge.into(),
        Failure::Refused(refusal) => refusal.into(),
        Failure::Aborted => Code::IncompleteBody.into(),
        Failure::Inconsistent(how) => {
            tracing::error!(how, "the store's answers contradict each other");
            Code::InternalError.into()
        }
    }
}

/// Bytes that are in the store but not yet named by a record. Gives them up when dropped, unless
/// [`Stored::named`] was called.
pub struct Stored<S: Store> {
    store: Arc<S>,
    uploaded: Option<Uploaded>,
}

impl<S: Store> Stored<S> {
    /// Where the bytes are.
    #[must_use]
    pub fn uploaded(&self) -> &Uploaded {
        self.uploaded.as_ref().expect("named() consumes the value")
    }

    /// A record names the bytes now, or may do so.
    pub fn named(mut self) {
        self.uploaded = None;
    }
}

impl<S: Store> Drop for Stored<S> {
    fn drop(&mut self) {
        if let Some(request) = self.uploaded.take().and_then(|uploaded| uploaded.release()) {
            let store = Arc::clone(&self.store);
            // What does not get through is collected when the blob's lease runs out.
            tokio::spawn(async move { store.call(request).await });
        }
    }
}

/// An upload in progress, which gives its blob up when dropped.
struct Uploading<S: Store> {
    store: Arc<S>,
    budget: Budget,
    machine: Uploader,
    calls: Calls,
    done: bool,
}

impl<S: Store> Drop for Uploading<S> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.machine.abort();
        while let Some(call) = self.machine.poll(self.budget.now()) {
            let store = Arc::clone(&self.store);
            tokio::spawn(async move { store.call(call.request).await });
        }
    }
}

impl<S: Store> Uploading<S> {
    fn start_calls(&mut self) {
        while let Some(Call { ticket, request }) = self.machine.poll(self.budget.now()) {
            let store = Arc::clone(&self.store);
            self.calls.push(Box::pin(async move { (ticket, Ok(store.call(request).await)) }));
        }
    }

    /// When the machine wants to be polled next; far away if it doesn't.
    fn wake(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        self.machine.deadline().map_or(far, |deadline| self.budget.at(deadline).min(far))
    }
}

/// Streams `source` into the store under this key, computing MD5 and, if asked for, a checksum.
///
/// # Errors
/// Whatever `source` or the store refuses; nothing is left behind then.
pub async fn store_pieces<S: Store>(
    (store, budget): (&Arc<S>, &Budget),
    (bucket, key): (&str, &str),
    source: &mut impl Pieces,
    algorithm: Option<ChecksumAlgorithm>,
) -> Result<(Stored<S>, Summary)> {
    let mut digests = Digests::new(algorithm);
    let promised = source.promised();
    let mut room = Room::take(budget, promised, source.kept()).await?;
    let machine = Uploader::new(bucket.to_owned(), key.to_owned(), PUT_BYTES_MAX)
        .promised(promised.unwrap_or(u64::MAX));
    let mut up = Uploading {
        store: Arc::clone(store),
        budget: budget.clone(),
        machine,
        calls: Calls::new(),
        done: false,
    };
    let mut ended = false;
    loop {
        up.start_calls();
        if up.machine.is_idle() {
            break;
        }
        let reads = !ended && up.machine.wants_bytes() && {
            // The chunk that fills counts whole from its first byte, so that it can be filled.
            let filling =
                usize::try_from(up.machine.bytes() % CHUNK_BYTES as u64).unwrap_or(CHUNK_BYTES);
            let left = promised.map(|all| all.saturating_sub(up.machine.bytes()) + filling as u64);
            let held = up.machine.held_bytes();
            assert!(held >= filling, "{held} bytes held with {filling} in the chunk that fills");
            room.fits(budget, source.kept() + held - filling + whole_or(left) + ROOM_BYTES)
        };
        let wake = up.wake();
        tokio::select! {
            biased;
            Some((ticket, outcome)) = up.calls.next(), if !up.calls.is_empty() => {
                up.machine.on_outcome(ticket, outcome?);
            }
            piece = source.next(), if reads => match piece? {
                Some(piece) => {
                    digests.update(&piece);
                    up.machine.push(&piece);
                }
                None => {
                    ended = true;
                    up.machine.finish();
                }
            },
            () = sleep_until(wake) => {}
        }
    }
    let uploaded = up.machine.outcome().expect("an idle upload has an outcome").map_err(refused)?;
    up.done = true;
    let stored = Stored { store: Arc::clone(store), uploaded: Some(uploaded) };
    Ok((stored, digests.finish()))
}

/// Streams a client's body into the store and verifies it against everything that was announced.
///
/// # Errors
/// As [`store_pieces`], and `BadDigest` and its like.
pub async fn receive<S: Store>(
    into: (&Arc<S>, &Budget),
    place: (&str, &str),
    payload: &mut Payload,
    announced: &Announced,
) -> Result<(Stored<S>, Summary)> {
    let algorithm = announced.checksum.as_ref().map(|(algorithm, _)| *algorithm);
    let (stored, summary) = store_pieces(into, place, payload, algorithm).await?;
    let mut announced = announced.clone();
    announced.take_trailers(payload.trailers())?;
    summary.verify(&announced)?;
    Ok((stored, summary))
}

/// A download in progress.
pub struct Download<S: Store> {
    store: Arc<S>,
    budget: Budget,
    machine: Downloader,
    calls: Calls,
    bytes: u64,
    /// Whether the chunks take their own room; otherwise whoever takes the bytes has room for them.
    roomy: bool,
}

impl<S: Store> Download<S> {
    /// Begins to read `range` of an object that was just looked up.
    #[must_use]
    pub fn new(store: &Arc<S>, budget: &Budget, object: &Object, range: Range<u64>) -> Self {
        let bytes = range.end - range.start;
        let machine = Downloader::new(&object.content, object.bytes, range);
        let (store, budget) = (Arc::clone(store), budget.clone());
        Self { store, budget, machine, calls: Calls::new(), bytes, roomy: true }
    }

    /// For a copy, whose upload takes room for both: two that wait for each other's room would wait long.
    #[must_use]
    pub fn without_room(self) -> Self {
        Self { roomy: false, ..self }
    }

    fn start_calls(&mut self) {
        while let Some(Call { ticket, request }) = self.machine.poll(self.budget.now()) {
            let (store, budget) = (Arc::clone(&self.store), self.budget.clone());
            let takes_room = self.roomy && matches!(request, Request::ReadChunk { .. });
            self.calls.push(Box::pin(async move {
                if !takes_room {
                    return (ticket, Ok(store.call(request).await));
                }
                let room = match budget.take(CHUNK_BYTES).await {
                    Ok(room) => room,
                    Err(error) => return (ticket, Err(error)),
                };
                let outcome = store.call(request).await.map(|answer| match answer {
                    // The room comes back when the last slice of the chunk has left the socket.
                    Answer::Chunk(bytes) => {
                        Answer::Chunk(Bytes::from_owner(Held(bytes.0, room)).into())
                    }
                    other => other,
                });
                (ticket, Ok(outcome))
            }));
        }
    }

    /// The answer's body, once its first bytes are here: what fails before them can still be answered with an
    /// error. If there are more, a task feeds them.
    ///
    /// # Errors
    /// Whatever the store refuses.
    pub async fn into_body(mut self) -> Result<BodyStream> {
        let left = self.bytes;
        if left == 0 {
            return Ok(BodyStream { first: None, rest: None, left });
        }
        let first = Pieces::next(&mut self).await?;
        // Most objects are one piece: it leaves with the head in one write, and nobody has to be woken.
        let whole = first.as_ref().is_some_and(|first| first.len() as u64 == left);
        let rest = (!whole).then(|| {
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(self.feed(sender));
            receiver
        });
        Ok(BodyStream { first, rest, left })
    }

    /// Sends piece after piece, until the end or until nobody wants them any more.
    async fn feed(mut self, sender: mpsc::Sender<Result<Bytes>>) {
        loop {
            let piece = tokio::select! {
                biased;
                () = sender.closed() => return,
                piece = Pieces::next(&mut self) => piece,
            };
            let piece = match piece {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "a download was cut off");
                    Err(error)
                }
            };
            let failed = piece.is_err();
            if sender.send(piece).await.is_err() || failed {
                return;
            }
        }
    }
}

impl<S: Store> Pieces for Download<S> {
    fn promised(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn kept(&self) -> usize {
        // What it reads ahead, and the chunk that is being taken.
        whole_or(Some(self.bytes))
            * if self.bytes > CHUNK_BYTES as u64 { READ_AHEAD + 1 } else { 1 }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(failure) = self.machine.failure() {
                return Err(refused(failure.clone()));
            }
            if let Some(piece) = self.machine.take() {
                // What is read ahead is asked for now, not when the client has taken this piece.
                self.start_calls();
                return Ok(Some(piece));
            }
            if self.machine.done() {
                return Ok(None);
            }
            self.start_calls();
            let far = Instant::now() + Duration::from_secs(3600);
            let wake = self.machine.deadline().map_or(far, |at| self.budget.at(at).min(far));
            tokio::select! {
                biased;
                Some((ticket, outcome)) = self.calls.next(), if !self.calls.is_empty() => {
                    self.machine.on_outcome(ticket, outcome?);
                }
                () = sleep_until(wake) => {}
            }
        }
    }
}

/// A chunk together with the room that it takes.
struct Held(Bytes, #[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The body of an answer. If the download fails in the middle it ends with an error, and the server
/// breaks the connection: a short body must not pass for a whole one.
pub struct BodyStream {
    first: Option<Bytes>,
    /// Where the pieces behind the first come from.
    rest: Option<mpsc::Receiver<Result<Bytes>>>,
    left: u64,
}

impl futures::Stream for BodyStream {
    type Item = Result<Bytes, s3s::StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = match (self.first.take(), &mut self.rest) {
            (Some(first), _) => Some(Ok(first)),
            (None, Some(rest)) => std::task::ready!(rest.poll_recv(cx)),
            (None, None) => None,
        };
        Poll::Ready(match piece {
            Some(Ok(piece)) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Some(Ok(piece))
            }
            Some(Err(error)) => Some(Err(error.into())),
            None if self.left > 0 => {
                self.left = 0;
                Some(Err(Error::from(Code::InternalError).into()))
            }
            None => None,
        })
    }
}

impl s3s::stream::ByteStream for BodyStream {
    fn remaining_length(&self) -> s3s::stream::RemainingLength {
        s3s::stream::RemainingLength::new_exact(usize::try_from(self.left).unwrap_or(usize::MAX))
    }
}
