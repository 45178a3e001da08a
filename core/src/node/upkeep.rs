//! What a replica does beside answering: collection of dead blobs, the audit of the chunks that its
//! state names, and taking apart states that were replaced. All in slices.

use super::post::{Post, StoreInput};
use super::replica::{Cx, Replica};
use crate::chunk::PIN_MS;
use crate::kv::command::Op;
use crate::kv::cow::Key;
use crate::kv::space;
use crate::kv::table::RecordLocation;
use crate::machine::{Duration, Instant};
use crate::object::api::ChunkRef;
use crate::object::{blob, collect};
use crate::types::{BlobId, Damage};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;

/// Pause between two rounds of collection.
const ROUND_EVERY: Duration = Duration::from_secs(5);
/// Pause between two slices of a round.
const SLICE_EVERY: Duration = Duration::from_millis(20);
/// Chores that one slice looks at.
const SLICE_CHORES: usize = 64;

/// A leader's round over the chores of its shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Collector {
    at: Option<Instant>,
    after: Option<BlobId>,
    pins: BTreeMap<BlobId, Instant>,
}

impl Collector {
    /// Begins anew at a new leader, which knows of no pins.
    pub(super) fn start(now: Instant) -> Self {
        Self { at: Some(now + ROUND_EVERY), ..Self::default() }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// A reader was given this blob.
    pub(super) fn pin(&mut self, blob: BlobId, now: Instant) {
        self.pins.insert(blob, now + Duration::from_millis(PIN_MS));
    }
}

/// The search for chunks that the state names, after a boot or a snapshot: the chunk store may lack any
/// of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit {
    after: Option<Key>,
    /// The body of an extent of this blob, which is fetched under this token.
    reading: Option<(u64, BlobId, RecordLocation)>,
    done: bool,
}

impl Audit {
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// The body that is being fetched.
    pub(super) fn reads(&self) -> impl Iterator<Item = RecordLocation> {
        self.reading.iter().map(|(.., location)| *location)
    }

    /// Whether every chunk that the state names is looked for.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }
}

impl Replica {
    /// A slice of collection, if one is due.
    pub(super) fn collect(&mut self, cx: &mut Cx<'_>) {
        let Some(home) = self.group.shard() else { return };
        let now = cx.now.mono;
        if !self.leads() || self.damage.is_some() || self.collector.at.is_none_or(|at| at > now) {
            return;
        }
        self.collector.pins.retain(|_, until| *until > now);
        let watch =
            collect::Watch { home, wall: cx.now.wall_earliest, leading: now - self.led_since };
        let Collector { after, pins, .. } = &self.collector;
        let pinned = |blob| pins.contains_key(&blob);
        let due = collect::due(self.state.table(), watch, *after, SLICE_CHORES, pinned);
        let pause = if due.next.is_some() { SLICE_EVERY } else { ROUND_EVERY };
        self.collector.after = due.next;
        self.collector.at = Some(now + pause);
        for op in due.ops {
            self.propose_own(Op::Object(op), cx);
        }
    }

    /// Goes on with the audit: one extent is read at a time.
    pub(super) fn audit(&mut self, cx: &mut Cx<'_>) {
        let Some(home) = self.group.shard() else { return };
        while !self.audit.done && self.audit.reading.is_none() {
            let from = self.audit.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let prefix = [space::EXTENTS];
            let next = self.state.table().scan(&prefix, from).next();
            let Some((key, slot)) = next else {
                self.audit.done = true;
                return;
            };
            let Some(blob) = space::blob_of(home, key) else { return };
            let body = slot.body.bytes();
            self.audit.after = Some(Key::from(key));
            match body {
                Ok(bytes) => expect(blob, &bytes, cx),
                Err(location) => {
                    let token = self.fresh_id();
                    let group = self.group;
                    self.audit.reading = Some((token, blob, location));
                    cx.posts.push(Post::Store(StoreInput::ReadBody { group, token, location }));
                }
            }
        }
    }

    /// A body for the audit. Returns whether the token was the audit's.
    pub(super) fn on_audit_body(
        &mut self,
        token: u64,
        result: &Result<Bytes, Damage>,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some((_, blob, _)) = self.audit.reading.take_if(|(reading, ..)| *reading == token)
        else {
            return false;
        };
        match result {
            Ok(bytes) => {
                expect(blob, bytes, cx);
                self.go_on(cx);
            }
            Err(damage) => self.on_damage(damage.clone(), cx),
        }
        true
    }

    /// Drops the chunks of a blob that the state is past and does not know: its collection was missed.
    pub(super) fn drop_unknown(&mut self, blob: BlobId, cx: &mut Cx<'_>) {
        let past = blob.opened <= self.state.mark().position.index && self.damage.is_none();
        let unknown = past && blob::find(self.state.table(), blob).is_none();
        if unknown || self.is_retired() {
            cx.posts.push(Post::Store(StoreInput::DropBlob(blob)));
        }
    }

    /// Takes apart a slice of what was replaced.
    pub(super) fn clear_rubble(&mut self, cx: &mut Cx<'_>) {
        if let Some(rubble) = self.rubble.last_mut() {
            if rubble.clear(cx.slice_items) {
                self.rubble.pop();
            }
            self.go_on(cx);
        }
    }
}

/// Tells the store lane which chunks an extent names.
pub(super) fn expect(blob: BlobId, extent: &[u8], cx: &mut Cx<'_>) {
    if let Ok(chunks) = blob::decode_extent(extent) {
        expect_chunks(blob, chunks, cx);
    }
}

/// Tells the store lane that these chunks are named.
pub(super) fn expect_chunks(blob: BlobId, chunks: Vec<ChunkRef>, cx: &mut Cx<'_>) {
    cx.posts.push(Post::Store(StoreInput::Expect { blob, chunks }));
}
