//! Snapshots between replicas: a clone of the leader's state, fetched in slices; or of a follower's, for a leader
//! whose own is damaged.
//!
//! The leader offers; the follower pulls slice after slice, each by the last key that it has, so that
//! lost, late and repeated messages do no harm. The leader's copy stands still however long it takes
//! (`kv::snapshot`). The follower builds the new state beside the old one and writes it to the table log
//! as a generation of its own: until its end is durable, a restart finds the old state.

use super::message::{Head, Offer};
use super::post::{Post, StoreInput};
use super::replica::{Cx, Replica};
use super::trace::Trace;
use crate::codec::Octets;
use crate::kv::frame::{Place, Placed};
use crate::kv::snapshot::{Export, Exported, Import, SnapshotRecord};
use crate::kv::state::State;
use crate::machine::{Duration, Instant};
use crate::planted::Point;
use crate::raft::{self, Configuration};
use crate::types::{Damage, NodeId, Position, Term};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

/// An offer or a pull without an answer is sent again after this long.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A stream in which nothing happens for this long is given up.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// A snapshot that a follower fetches here.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    export: Export,
    configuration: Configuration,
    pulled: bool,
    /// The slice whose bodies are being read.
    slice: Option<Slice>,
    again_at: Instant,
    give_up_at: Instant,
}

#[derive(Clone, Debug)]
struct Slice {
    after: Option<Octets>,
    records: Vec<(Exported, Option<Bytes>)>,
    /// Tokens of the reads under way, and the record that each is for.
    reading: BTreeMap<u64, usize>,
}

/// A snapshot that is being fetched.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    from: NodeId,
    term: Term,
    configuration: Configuration,
    stage: Stage,
    /// Frames handed to the table log, and how many of them are durable.
    posted: u64,
    durable: u64,
    again_at: Instant,
    give_up_at: Instant,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Fetching; `writing` while the table log has not written the last slice.
    Fetching { import: Import, writing: bool },
    /// Complete; takes the old state's place once its end is durable.
    Installing { state: State },
}

impl Replica {
    /// When a stream wants to be looked at.
    pub(super) fn stream_deadline(&self) -> Option<Instant> {
        let outgoing = self.outgoing.values().map(|it| it.again_at.min(it.give_up_at));
        let incoming = self.incoming.iter().map(|it| it.again_at);
        outgoing.chain(incoming).min()
    }

    /// The oldest segment of the table log that a stream from here may still read.
    pub(super) fn streams_from(&self) -> Option<u64> {
        self.outgoing.values().filter_map(|outgoing| outgoing.export.oldest_segment()).min()
    }

    /// Whether a complete snapshot is being made durable: nothing is applied meanwhile, because the
    /// next boot may find either state and the old one must not get ahead of the new.
    pub(super) fn is_installing(&self) -> bool {
        matches!(&self.incoming, Some(Incoming { stage: Stage::Installing { .. }, .. }))
    }

    pub(super) fn start_snapshot(&mut self, to: NodeId, cx: &mut Cx<'_>) {
        let asked = self.leads() || self.leader == Some(to);
        if !asked || self.damage.is_some() || self.outgoing.contains_key(&to) {
            return;
        }
        self.log_changes(cx);
        let export = self.state.export();
        let configuration = self.raft.configuration_at(export.head().mark.position.index);
        let now = cx.now.mono;
        let outgoing = Outgoing {
            export,
            configuration,
            pulled: false,
            slice: None,
            again_at: now,
            give_up_at: now + IDLE_MAX,
        };
        self.outgoing.insert(to, outgoing);
        self.stream(cx);
    }

    /// Sends again what was not answered; gives up what never is.
    pub(super) fn stream(&mut self, cx: &mut Cx<'_>) {
        let (now, group, term) = (cx.now.mono, self.group, self.term());
        let mut idle = Vec::new();
        for (to, outgoing) in &mut self.outgoing {
            if outgoing.give_up_at <= now {
                idle.push(*to);
            } else if outgoing.again_at <= now {
                outgoing.again_at =
                    if outgoing.pulled { outgoing.give_up_at } else { now + AGAIN_AFTER };
                if !outgoing.pulled {
                    let configuration = outgoing.configuration.clone();
                    let offer = Offer { term, head: outgoing.export.head(), configuration };
                    cx.posts.push(Post::Peer(*to, Head::SnapshotOffer { group, offer }.into()));
                }
            }
        }
        for to in idle {
            self.abandon_stream(to, cx);
        }
        self.pull_again(cx);
    }

    fn pull_again(&mut self, cx: &mut Cx<'_>) {
        let Some(incoming) = &self.incoming else { return };
        if incoming.again_at > cx.now.mono {
            return;
        }
        match &incoming.stage {
            Stage::Fetching { writing: false, .. } if incoming.give_up_at <= cx.now.mono => {
                self.incoming = None;
            }
            Stage::Fetching { writing: false, .. } => self.pull(cx),
            _ => {
                if let Some(incoming) = &mut self.incoming {
                    incoming.again_at = cx.now.mono + AGAIN_AFTER;
                }
            }
        }
    }

    fn abandon_stream(&mut self, to: NodeId, cx: &mut Cx<'_>) {
        if self.outgoing.remove(&to).is_some() {
            self.feed(raft::Input::SnapshotFailed { to }, cx);
        }
    }

    /// The leader offers its state.
    pub(super) fn on_offer(&mut self, from: NodeId, offer: Offer, cx: &mut Cx<'_>) {
        let position = offer.head.mark.position;
        if offer.term < self.term() || self.is_installing() {
            return;
        }
        if !self.wants(position) {
            let head = Head::SnapshotEnd { group: self.group, position };
            return cx.posts.push(Post::Peer(from, head.into()));
        }
        let same = self.incoming.as_ref().is_some_and(|incoming| {
            incoming.from == from
                && matches!(&incoming.stage, Stage::Fetching { import, .. } if *import.head() == offer.head)
        });
        if !same {
            let generation = self.next_generation();
            let (import, frame) = Import::begin(self.seat.clone(), generation, offer.head);
            let group = self.group;
            cx.posts.push(Post::Store(StoreInput::Frame { group, frame }));
            self.incoming = Some(Incoming {
                from,
                term: offer.term,
                configuration: offer.configuration,
                stage: Stage::Fetching { import, writing: false },
                posted: 1,
                durable: 0,
                again_at: cx.now.mono,
                give_up_at: cx.now.mono + IDLE_MAX,
            });
        }
        self.pull(cx);
    }

    /// Whether a state at `position` is of use: further than what is here, or fit to replace what is damaged here. One
    /// that was installed while this replica led may not have been taken by Raft: then once more.
    fn wants(&self, position: Position) -> bool {
        let applied = self.state.mark().position.index;
        let mends = self.damage.is_some() || position.index == applied;
        let further = self.damage.is_none() && position.index > applied;
        further || mends && self.raft.wants_snapshot(position)
    }

    fn pull(&mut self, cx: &mut Cx<'_>) {
        let group = self.group;
        let Some(incoming) = &mut self.incoming else { return };
        let Stage::Fetching { import, writing: false } = &incoming.stage else { return };
        incoming.again_at = cx.now.mono + AGAIN_AFTER;
        let after = import.last().map(|key| Octets::from(key.to_vec()));
        let position = import.head().mark.position;
        let head = Head::SnapshotPull { group, position, after };
        cx.posts.push(Post::Peer(incoming.from, head.into()));
    }

    /// A follower asks for the slice after a key.
    pub(super) fn on_pull(
        &mut self,
        from: NodeId,
        position: Position,
        after: Option<Octets>,
        cx: &mut Cx<'_>,
    ) {
        let group = self.group;
        let one = self.forces(Point::SliceOne, cx);
        let Some(outgoing) = self.outgoing.get_mut(&from) else { return };
        if outgoing.export.head().mark.position != position {
            return;
        }
        outgoing.pulled = true;
        outgoing.give_up_at = cx.now.mono + IDLE_MAX;
        outgoing.again_at = outgoing.give_up_at;
        if outgoing.slice.as_ref().is_some_and(|slice| slice.after == after) {
            return; // It is being read.
        }
        let slice_bytes = if one { 1 } else { cx.slice_bytes };
        let records = outgoing.export.slice(after.as_deref(), cx.slice_items, slice_bytes);
        let mut slice = Slice { after, records: Vec::new(), reading: BTreeMap::new() };
        for record in records {
            if let Some(location) = record.location() {
                self.next_id += 1;
                let token = self.next_id;
                slice.reading.insert(token, slice.records.len());
                cx.posts.push(Post::Store(StoreInput::ReadBody { group, token, location }));
            }
            slice.records.push((record, None));
        }
        outgoing.slice = Some(slice);
        self.send_slice(from, cx);
    }

    /// Sends the slice if all its bodies are there.
    fn send_slice(&mut self, to: NodeId, cx: &mut Cx<'_>) {
        let group = self.group;
        let Some(outgoing) = self.outgoing.get_mut(&to) else { return };
        let Some(slice) = outgoing.slice.take_if(|slice| slice.reading.is_empty()) else { return };
        let position = outgoing.export.head().mark.position;
        let records: Option<Vec<SnapshotRecord>> =
            slice.records.into_iter().map(|(record, read)| record.finish(read)).collect();
        match records {
            Some(records) => {
                let head = Head::SnapshotSlice { group, position, after: slice.after, records };
                cx.posts.push(Post::Peer(to, head.into()));
            }
            None => self.abandon_stream(to, cx),
        }
    }

    /// A body for a slice. Returns whether the token was one of ours.
    pub(super) fn on_snapshot_body(
        &mut self,
        token: u64,
        result: &Result<Bytes, Damage>,
        cx: &mut Cx<'_>,
    ) -> bool {
        let found = self.outgoing.iter_mut().find_map(|(to, outgoing)| {
            let slice = outgoing.slice.as_mut()?;
            let at = slice.reading.remove(&token)?;
            if let (Ok(bytes), Some(record)) = (result, slice.records.get_mut(at)) {
                record.1 = Some(bytes.clone());
            }
            Some(*to)
        });
        let Some(to) = found else { return false };
        match result {
            Ok(_) => self.send_slice(to, cx),
            Err(damage) => {
                self.abandon_stream(to, cx);
                self.on_damage(damage.clone(), cx);
            }
        }
        true
    }

    /// A slice arrives; an empty one is the end.
    pub(super) fn on_slice(
        &mut self,
        from: NodeId,
        position: Position,
        after: Option<Octets>,
        records: Vec<SnapshotRecord>,
        cx: &mut Cx<'_>,
    ) {
        let group = self.group;
        let Some(incoming) = self.incoming.take_if(|incoming| {
            incoming.from == from
                && matches!(&incoming.stage, Stage::Fetching { import, writing: false }
                    if import.head().mark.position == position && import.last() == after.as_deref())
        }) else {
            return;
        };
        let Incoming { from, term, configuration, stage, posted, durable, again_at, .. } = incoming;
        let Stage::Fetching { mut import, .. } = stage else { return };
        let frame;
        let stage = if records.is_empty() {
            if !self.wants(position) {
                return; // The log has brought more in the meantime.
            }
            match import.finish() {
                Ok((state, end)) => {
                    frame = end;
                    Stage::Installing { state }
                }
                // Something else was sent than announced: the next offer begins anew.
                Err(_) => return,
            }
        } else {
            match import.add(after.as_deref(), records) {
                Some(part) => frame = part,
                None => return,
            }
            Stage::Fetching { import, writing: true }
        };
        cx.posts.push(Post::Store(StoreInput::Frame { group, frame }));
        if matches!(stage, Stage::Installing { .. }) {
            cx.posts.push(Post::Store(StoreInput::Checkpoint));
        }
        let (posted, give_up_at) = (posted + 1, cx.now.mono + IDLE_MAX);
        self.incoming = Some(Incoming {
            from,
            term,
            configuration,
            stage,
            posted,
            durable,
            again_at,
            give_up_at,
        });
    }

    /// The table log has written a frame.
    pub(super) fn on_frame_written(&mut self, placed: &Placed, start: Place, cx: &mut Cx<'_>) {
        self.state.settle(placed, start);
        if let Some(Incoming { stage, .. }) = &mut self.incoming {
            match stage {
                Stage::Fetching { import, writing } => {
                    import.settle(placed, start);
                    if placed.generation() == import.generation() && *writing {
                        *writing = false;
                        self.pull(cx);
                    }
                }
                Stage::Installing { state } => state.settle(placed, start),
            }
        }
    }

    /// A frame of this generation is durable; if it was a snapshot's last, its state takes over.
    pub(super) fn on_generation_durable(&mut self, generation: u64, cx: &mut Cx<'_>) {
        let ended = self.incoming.take_if(|incoming| {
            let (of, complete) = match &incoming.stage {
                Stage::Fetching { import, .. } => (import.generation(), false),
                Stage::Installing { state } => (state.generation(), true),
            };
            incoming.durable += u64::from(of == generation);
            complete && incoming.durable == incoming.posted
        });
        let Some(Incoming { from, term, configuration, stage, .. }) = ended else { return };
        let Stage::Installing { state } = stage else { return };
        let position = state.mark().position;
        let old = core::mem::replace(&mut self.state, state);
        self.rubble.push(old.into_rubble());
        self.next_generation = None;
        self.checkpoint = position;
        self.damage = None;
        self.settle_in();
        self.audit.restart();
        if self.raft.wants_snapshot(position) {
            self.feed(raft::Input::SnapshotInstalled { term, position, configuration }, cx);
        } else {
            // The log has caught up with it in the meantime.
            self.feed_applied(position.index, cx);
        }
        let head = Head::SnapshotEnd { group: self.group, position };
        cx.posts.push(Post::Peer(from, head.into()));
        cx.posts.push(Post::Trace(Trace::SnapshotInstalled { group: self.group, position }));
        self.post_cluster(cx);
        self.apply(cx);
        self.go_on(cx);
    }

    /// The follower has the state, or does not want it.
    pub(super) fn on_snapshot_end(&mut self, from: NodeId, position: Position, cx: &mut Cx<'_>) {
        let done = self
            .outgoing
            .get(&from)
            .is_some_and(|outgoing| outgoing.export.head().mark.position == position);
        if !done {
            return;
        }
        // Who wanted none of it has applied as much: what follows is what it lacks, either way.
        self.outgoing.remove(&from);
        self.feed(raft::Input::SnapshotSent { to: from, position }, cx);
    }
}
