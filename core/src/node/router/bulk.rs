//! Bulk bytes: chunks on their way to and from the replicas of their home shard.
//!
//! A write is hashed beside the step, sent to every replica, and answered when a quorum holds it
//! durably. A read asks one replica after another, this node first, and believes only bytes that have
//! the chunk's name. A repair is a read whose bytes are stored here.

use super::calls::{Calls, Sends, TaskId};
use crate::codec::Octets;
use crate::kv::batch::Roster;
use crate::machine::{Duration, Hashed, Instant};
use crate::node::message::{CallId, Head, PeerMessage};
use crate::node::post::{Post, StoreInput};
use crate::object::api::{Answer, Outcome, Refusal, StagedChunk};
use crate::types::{BlobId, Boot, ChunkHash, ChunkId, Incarnation, NodeId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// A replica that has not answered is sent the chunk again after this long.
const STORE_AGAIN_AFTER: Duration = Duration::from_millis(1_500);
/// A replica that has not sent a chunk by now is given up for the next one.
const FETCH_PATIENCE: Duration = Duration::from_millis(1_000);
/// After a round without success, the next one begins this much later.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// A client's read is given up after this many rounds over the replicas.
const ROUNDS_MAX: u32 = 5;
/// Repairs under way at once: they must not crowd out clients.
const REPAIRS_MAX: usize = 4;

/// Who wants the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Client(TaskId),
    Repair,
}

#[derive(Clone, Debug)]
struct Store {
    owner: TaskId,
    chunk: ChunkId,
    hashed: Hashed,
    bytes: Bytes,
    replicas: Vec<NodeId>,
    roster: Arc<Roster>,
    /// Who holds it, in which boot.
    holders: BTreeMap<NodeId, Incarnation>,
    full: BTreeSet<NodeId>,
    wake: Instant,
    deadline: Instant,
}

#[derive(Clone, Debug)]
struct Fetch {
    reader: Reader,
    chunk: ChunkId,
    replicas: Vec<NodeId>,
    at: usize,
    rounds: u32,
    /// The bytes that are being hashed.
    verifying: Option<Bytes>,
    wake: Instant,
    deadline: Instant,
}

#[derive(Clone, Debug)]
struct Hashing {
    owner: TaskId,
    blob: BlobId,
    bytes: Bytes,
    deadline: Instant,
}

/// All chunks that this node moves.
#[derive(Clone, Debug)]
pub(super) struct Bulk {
    me: NodeId,
    hashing: BTreeMap<u64, Hashing>,
    stores: BTreeMap<u64, Store>,
    fetches: BTreeMap<u64, Fetch>,
    wakes: BTreeSet<(Instant, u64)>,
    missing: BTreeSet<ChunkId>,
    repairing: BTreeSet<ChunkId>,
}

/// What ended.
pub(super) type Ends = Vec<(TaskId, Outcome)>;

/// What a step may use.
pub(super) struct Moving<'a> {
    pub(super) now: Instant,
    pub(super) calls: &'a mut Calls,
    pub(super) sends: &'a mut Sends,
    pub(super) posts: &'a mut Vec<Post>,
}

impl Bulk {
    pub(super) fn new(me: NodeId) -> Self {
        Self {
            me,
            hashing: BTreeMap::new(),
            stores: BTreeMap::new(),
            fetches: BTreeMap::new(),
            wakes: BTreeSet::new(),
            missing: BTreeSet::new(),
            repairing: BTreeSet::new(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.wakes.first().map(|(wake, _)| *wake)
    }

    /// Begins to store a client's chunk: its name comes first.
    pub(super) fn write(
        &mut self,
        owner: TaskId,
        blob: BlobId,
        bytes: Bytes,
        deadline: Instant,
        cx: &mut Moving<'_>,
    ) {
        let token = cx.calls.fresh_id().number;
        cx.posts.push(Post::Hash { token, bytes: bytes.clone() });
        self.hashing.insert(token, Hashing { owner, blob, bytes, deadline });
    }

    /// Begins to read a chunk for a client.
    pub(super) fn read(
        &mut self,
        owner: TaskId,
        chunk: ChunkId,
        deadline: Instant,
        cx: &mut Moving<'_>,
    ) {
        self.fetch(Reader::Client(owner), chunk, deadline, cx);
    }

    /// These chunks are named but not here.
    pub(super) fn on_missing(&mut self, chunks: Vec<ChunkId>, cx: &mut Moving<'_>) {
        let new = chunks.into_iter().filter(|chunk| !self.repairing.contains(chunk));
        self.missing.extend(new);
        self.repair(cx);
    }

    pub(super) fn on_hashed(&mut self, token: u64, hashed: Hashed, cx: &mut Moving<'_>) -> Ends {
        if let Some(Hashing { owner, blob, bytes, deadline }) = self.hashing.remove(&token) {
            self.store(owner, ChunkId { blob, hash: hashed.hash }, bytes, hashed, deadline, cx);
            return Ends::new();
        }
        let Some(fetch) = self.fetches.get_mut(&token) else { return Ends::new() };
        let Some(bytes) = fetch.verifying.take() else { return Ends::new() };
        if fetch.chunk.hash != hashed.hash {
            return self.next_replica(token, cx);
        }
        self.finish_fetch(token, Some((bytes, Some(hashed))), cx)
    }

    pub(super) fn on_stored(
        &mut self,
        from: NodeId,
        call: CallId,
        stored: Option<Incarnation>,
    ) -> Ends {
        let Some(store) = self.stores.get_mut(&call.number) else { return Ends::new() };
        match stored {
            Some(incarnation) => _ = store.holders.insert(from, incarnation),
            None => _ = store.full.insert(from),
        }
        let boot = |(node, incarnation): (&NodeId, &Incarnation)| Boot {
            node: *node,
            incarnation: *incarnation,
        };
        let holders: Vec<Boot> = store.holders.iter().map(boot).collect();
        let full = |node: &&NodeId| store.full.contains(node) && !store.holders.contains_key(node);
        let rest = store.replicas.iter().filter(|node| !full(node));
        let may_hold: Vec<Boot> =
            rest.map(|node| Boot { node: *node, ..Boot::default() }).collect();
        let outcome = if store.roster.is_quorum(&holders) {
            Ok(Answer::Staged(StagedChunk {
                hash: store.chunk.hash,
                bytes: u32::try_from(store.bytes.len()).unwrap_or(u32::MAX),
                holders,
            }))
        } else if !store.roster.is_quorum(&may_hold) {
            Err(Refusal::NoSpace)
        } else {
            return Ends::new();
        };
        self.end_store(call.number, outcome)
    }

    pub(super) fn on_fetched(
        &mut self,
        from: NodeId,
        call: CallId,
        found: Option<Bytes>,
        cx: &mut Moving<'_>,
    ) -> Ends {
        let Some(fetch) = self.fetches.get_mut(&call.number) else { return Ends::new() };
        if fetch.replicas.get(fetch.at) != Some(&from) || fetch.verifying.is_some() {
            return Ends::new();
        }
        match found {
            // The store lane has just compared them with their name.
            Some(bytes) if from == self.me => {
                self.finish_fetch(call.number, Some((bytes, None)), cx)
            }
            Some(bytes) => {
                fetch.verifying = Some(bytes.clone());
                cx.posts.push(Post::Hash { token: call.number, bytes });
                Ends::new()
            }
            None => self.next_replica(call.number, cx),
        }
    }

    pub(super) fn on_timer(&mut self, cx: &mut Moving<'_>) -> Ends {
        let mut ends = Ends::new();
        while let Some((wake, number)) = self.wakes.first().copied() {
            if wake > cx.now {
                break;
            }
            self.wakes.remove(&(wake, number));
            if let Some(store) = self.stores.get(&number) {
                if store.deadline <= cx.now {
                    let why = "too few replicas stored the chunk in time".into();
                    ends.extend(self.end_store(number, Err(Refusal::Unavailable(why))));
                } else {
                    self.send_store(number, cx);
                }
            } else if let Some(fetch) = self.fetches.get(&number) {
                if fetch.verifying.is_some() {
                    // The hash is on its way.
                    self.set_fetch_wake(number, cx.now + FETCH_PATIENCE);
                } else if fetch.at >= fetch.replicas.len() {
                    ends.extend(self.next_round(number, cx));
                } else {
                    ends.extend(self.next_replica(number, cx));
                }
            }
        }
        self.repair(cx);
        ends
    }

    /// The client is gone: what is being stored may finish, nobody is told.
    pub(super) fn cancel(&mut self, owner: TaskId) {
        self.hashing.retain(|_, hashing| hashing.owner != owner);
        let gone = |number: &u64, stores: &BTreeMap<u64, Store>| {
            stores.get(number).is_some_and(|store| store.owner == owner)
        };
        let stores: Vec<u64> =
            self.stores.keys().copied().filter(|number| gone(number, &self.stores)).collect();
        for number in stores {
            self.end_store(number, Err(Refusal::OutcomeUnknown));
        }
        let fetches: Vec<u64> = self
            .fetches
            .iter()
            .filter(|(_, fetch)| fetch.reader == Reader::Client(owner))
            .map(|(number, _)| *number)
            .collect();
        for number in fetches {
            if let Some(fetch) = self.fetches.remove(&number) {
                self.wakes.remove(&(fetch.wake, number));
            }
        }
    }

    fn store(
        &mut self,
        owner: TaskId,
        chunk: ChunkId,
        bytes: Bytes,
        hashed: Hashed,
        deadline: Instant,
        cx: &mut Moving<'_>,
    ) {
        let number = cx.calls.fresh_id().number;
        let group = chunk.blob.home.group();
        let (replicas, roster) = (cx.calls.replicas(group).to_vec(), cx.calls.roster(group));
        let (holders, full) = (BTreeMap::new(), BTreeSet::new());
        let wake = cx.now;
        let store =
            Store { owner, chunk, hashed, bytes, replicas, roster, holders, full, wake, deadline };
        self.stores.insert(number, store);
        self.send_store(number, cx);
    }

    fn send_store(&mut self, number: u64, cx: &mut Moving<'_>) {
        let call = cx.calls.id(number);
        let Some(store) = self.stores.get_mut(&number) else { return };
        for to in store.replicas.iter().filter(|node| !store.holders.contains_key(node)) {
            if *to == self.me {
                cx.posts.push(Post::Store(StoreInput::StoreChunk {
                    from: self.me,
                    call,
                    chunk: store.chunk,
                    bytes: store.bytes.clone(),
                    hashed: store.hashed,
                }));
            } else {
                let head = Head::StoreChunk { call, chunk: store.chunk };
                cx.sends.push((*to, PeerMessage { head, body: store.bytes.clone() }));
            }
        }
        self.wakes.remove(&(store.wake, number));
        store.wake = (cx.now + STORE_AGAIN_AFTER).min(store.deadline);
        self.wakes.insert((store.wake, number));
    }

    fn end_store(&mut self, number: u64, outcome: Outcome) -> Ends {
        let Some(store) = self.stores.remove(&number) else { return Ends::new() };
        self.wakes.remove(&(store.wake, number));
        Ends::from([(store.owner, outcome)])
    }

    fn fetch(&mut self, reader: Reader, chunk: ChunkId, deadline: Instant, cx: &mut Moving<'_>) {
        let number = cx.calls.fresh_id().number;
        let all = cx.calls.replicas(chunk.blob.home.group());
        let mut replicas: Vec<NodeId> = Vec::new();
        if reader != Reader::Repair && all.contains(&self.me) {
            replicas.push(self.me);
        }
        // Spread over the others by the chunk's name; those not heard of come last.
        let others: Vec<NodeId> = all.iter().copied().filter(|node| *node != self.me).collect();
        let ChunkHash([first, ..]) = chunk.hash;
        let start = usize::from(first).checked_rem(others.len()).unwrap_or(0);
        let turned = others.iter().cycle().skip(start).take(others.len()).copied();
        let (lost, heard): (Vec<_>, Vec<_>) = turned.partition(|node| cx.calls.is_lost(*node));
        replicas.extend(heard);
        replicas.extend(lost);
        let fetch = Fetch {
            reader,
            chunk,
            replicas,
            at: 0,
            rounds: 0,
            verifying: None,
            wake: cx.now,
            deadline,
        };
        self.fetches.insert(number, fetch);
        self.send_fetch(number, cx);
    }

    fn send_fetch(&mut self, number: u64, cx: &mut Moving<'_>) {
        let call = cx.calls.id(number);
        let Some(fetch) = self.fetches.get(&number) else { return };
        match fetch.replicas.get(fetch.at) {
            Some(to) if *to == self.me => cx.posts.push(Post::Store(StoreInput::FetchChunk {
                from: self.me,
                call,
                chunk: fetch.chunk,
            })),
            Some(to) => {
                let head = Head::FetchChunk { call, chunk: fetch.chunk };
                cx.sends.push((*to, head.into()));
            }
            None => {}
        }
        self.set_fetch_wake(number, cx.now + FETCH_PATIENCE);
    }

    fn set_fetch_wake(&mut self, number: u64, wake: Instant) {
        let Some(fetch) = self.fetches.get_mut(&number) else { return };
        self.wakes.remove(&(fetch.wake, number));
        fetch.wake = wake;
        self.wakes.insert((wake, number));
    }

    fn next_replica(&mut self, number: u64, cx: &mut Moving<'_>) -> Ends {
        let Some(fetch) = self.fetches.get_mut(&number) else { return Ends::new() };
        fetch.at += 1;
        if fetch.at < fetch.replicas.len() {
            self.send_fetch(number, cx);
            return Ends::new();
        }
        fetch.rounds += 1;
        if fetch.rounds >= ROUNDS_MAX || fetch.deadline <= cx.now || fetch.replicas.is_empty() {
            return self.finish_fetch(number, None, cx);
        }
        let rounds = u64::from(fetch.rounds);
        self.set_fetch_wake(number, cx.now + ROUND_PAUSE * rounds);
        Ends::new()
    }

    fn next_round(&mut self, number: u64, cx: &mut Moving<'_>) -> Ends {
        if let Some(fetch) = self.fetches.get_mut(&number) {
            fetch.at = 0;
        }
        self.send_fetch(number, cx);
        Ends::new()
    }

    fn finish_fetch(
        &mut self,
        number: u64,
        found: Option<(Bytes, Option<Hashed>)>,
        cx: &mut Moving<'_>,
    ) -> Ends {
        let Some(fetch) = self.fetches.remove(&number) else { return Ends::new() };
        self.wakes.remove(&(fetch.wake, number));
        match (fetch.reader, found) {
            (Reader::Client(owner), Some((bytes, _))) => {
                Ends::from([(owner, Ok(Answer::Chunk(Octets(bytes))))])
            }
            (Reader::Client(owner), None) => Ends::from([(owner, Err(Refusal::ChunkUnavailable))]),
            (Reader::Repair, found) => {
                self.repairing.remove(&fetch.chunk);
                if let Some((bytes, Some(hashed))) = found {
                    let call = cx.calls.fresh_id();
                    let (from, chunk) = (self.me, fetch.chunk);
                    let store = StoreInput::StoreChunk { from, call, chunk, bytes, hashed };
                    cx.posts.push(Post::Store(store));
                }
                // What was not found stays missing in the store lane, which asks again.
                self.repair(cx);
                Ends::new()
            }
        }
    }

    fn repair(&mut self, cx: &mut Moving<'_>) {
        while self.repairing.len() < REPAIRS_MAX {
            let Some(chunk) = self.missing.pop_first() else { return };
            self.repairing.insert(chunk);
            let deadline = cx.now + FETCH_PATIENCE * 10;
            self.fetch(Reader::Repair, chunk, deadline, cx);
        }
    }
}
