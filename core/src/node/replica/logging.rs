//! What a replica hands to the table, and what it says of what lies there: frames of what changed, what of the log behind them may
//! go, what is current of what is cleaned, and copies for snapshots of the index.

use super::*;
use crate::kv::table::RecordLocation;
use alloc::collections::BTreeSet;

impl Replica {
    /// Hands what changed to the table log.
    pub(in super::super) fn log_changes(&mut self, cx: &mut Cx<'_>) {
        self.unlogged_bytes = 0;
        if let Some(frame) = self.state.take_frame() {
            self.post_frame(frame, cx);
        }
    }

    pub(super) fn post_frame(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        cx.posts.push(Post::Store(StoreInput::Frame { group: self.group, frame }));
    }

    pub(super) fn on_frame_durable(
        &mut self,
        generation: u64,
        position: Position,
        cx: &mut Cx<'_>,
    ) {
        if generation == self.state.generation() {
            self.checkpoint = self.checkpoint.max(position);
            self.compact_wanted |= self.forces(Point::CompactNow, cx);
            self.maybe_compact(cx);
        }
        self.on_generation_durable(generation, cx);
    }

    /// Frees the log behind what is durable in the table log, if that was asked for.
    pub(super) fn maybe_compact(&mut self, cx: &mut Cx<'_>) {
        let planted = self.state.seat().planted.is(Bug::CompactBeforeDurable);
        let upto = if planted { self.raft.status().applied_index } else { self.checkpoint.index };
        if self.compact_wanted && !self.is_installing() && self.damage.is_none() {
            if upto > self.raft.compacted().index {
                self.feed(raft::Input::Compact { upto }, cx);
            }
            self.compact_wanted = self.checkpoint.index < self.state.mark().position.index;
        }
    }

    /// Rewrites what is current of a frame in the oldest segment of the table log.
    pub(super) fn clean(&mut self, place: Place, payload: &Bytes, cx: &mut Cx<'_>) {
        self.log_changes(cx);
        if self.damage.is_none()
            && let Ok(Some(frame)) = self.state.rewrite(place, payload)
        {
            self.post_frame(frame, cx);
        }
    }

    /// Copies the state for a snapshot of the index. The copy goes when all of its frames are written.
    pub(super) fn copy_for_index(&mut self, number: u64, cx: &mut Cx<'_>) {
        if let Some((_, copy)) = self.copying.take() {
            self.rubble.push(copy.into_rubble());
            self.go_on(cx);
        }
        if !self.is_retired() && !self.has_state() {
            let (group, copy) = (self.group, None);
            return cx.posts.push(Post::Store(StoreInput::IndexCopy { group, number, copy }));
        }
        self.log_changes(cx);
        self.copying = Some((number, Box::new(self.state.index_copy())));
        self.post_copy(cx);
    }

    pub(super) fn post_copy(&mut self, cx: &mut Cx<'_>) {
        if let Some((number, copy)) = self.copying.take_if(|(_, copy)| copy.is_settled()) {
            let (group, copy) = (self.group, Some(copy));
            cx.posts.push(Post::Store(StoreInput::IndexCopy { group, number, copy }));
        }
    }

    pub(super) fn on_cleaned(&mut self, segment: u64, cx: &mut Cx<'_>) {
        self.log_changes(cx);
        if let Some(frame) = self.state.rewrite_mark(segment) {
            self.post_frame(frame, cx);
        }
        let needed = self.keeps(segment)
            || self.reads_from(segment).next().is_some()
            || self.state.needs(segment);
        let needed = needed && !self.is_retired();
        let group = self.group;
        cx.posts.push(Post::Store(StoreInput::Needed { group, segment, needed }));
    }

    /// Which of these bodies in an engine nobody needs. Those that are on their way to being the state's, or another's, are
    /// not told from others, and stay; so do those of a replica that was given up, with the records that name them.
    pub(super) fn on_sweep(&mut self, segment: u64, rows: &[Swept], cx: &mut Cx<'_>) {
        // Once they are gone, the engine has what stands in their place.
        if !self.seat.planted.is(Bug::EngineSweepsEarly) {
            self.log_changes(cx);
        }
        let keeps = self.keeps(segment);
        let read: BTreeSet<u64> = self.reads_from(segment).map(|it| it.offset).collect();
        let is_dead = |row: &&Swept| {
            let place = |location: RecordLocation| (location.segment, location.offset);
            let current = self.state.table().get(&row.key).and_then(|slot| slot.body.location());
            current.map(place) != Some((segment, row.offset)) && !read.contains(&row.offset)
        };
        let dead = rows.iter().filter(|_| !keeps).filter(is_dead).map(|row| row.offset).collect();
        let group = self.group;
        cx.posts.push(Post::Store(StoreInput::Swept { group, segment, dead }));
    }

    /// Whether all of a segment stays: the state is not here, or another one is on its way here or from here.
    pub(super) fn keeps(&self, segment: u64) -> bool {
        let streamed = self.streams_from().is_some_and(|oldest| oldest <= segment);
        self.damage.is_some() || self.incoming.is_some() || streamed
    }

    /// Bodies in a segment that readers still want, who found them while they were current.
    pub(super) fn reads_from(&self, segment: u64) -> impl Iterator<Item = RecordLocation> {
        let wanted = self.fetching.values().flat_map(|(_, found)| found.all_wanted());
        let wanted = wanted.chain(self.audit.reads());
        wanted.filter(move |location| location.segment == segment)
    }
}
