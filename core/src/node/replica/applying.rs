//! From the log to the state: committed entries are applied, a slice at a time, and whoever waited for them is answered.

use super::*;

impl Replica {
    /// Applies committed entries, a slice at a time.
    pub(in super::super) fn apply(&mut self, cx: &mut Cx<'_>) {
        if self.damage.is_some() || self.is_installing() {
            return;
        }
        let one = self.forces(Point::ApplyOne, cx);
        let mut budget = if one { 1 } else { cx.slice_items };
        let mut moved = false;
        while self.state.mark().position.index < self.commit_index {
            if budget == 0 {
                self.go_on(cx);
                break;
            }
            budget -= 1;
            let next = self.state.mark().position.index.next();
            let Some(entry) = self.raft.entries(next, 1).next().cloned() else { break };
            assert_eq!(entry.position.index, next, "a gap below the commit index");
            match entry.payload {
                Payload::Command(command) => self.apply_command(entry.position, &command, cx),
                other => {
                    // Raft reports a commit only through what is whole.
                    let passed = members::pass_over(&mut self.state, entry.position, &other);
                    assert!(passed, "{:?} is committed but lost here", entry.position);
                    self.answer_displaced(entry.position, cx);
                }
            }
            moved = true;
        }
        let index = self.state.mark().position.index;
        if moved {
            self.feed_applied(index, cx);
            self.post_registry(cx);
            self.post_cluster(cx);
        }
        let mut ready = self.confirmed.split_off(&index.next());
        core::mem::swap(&mut ready, &mut self.confirmed);
        for read in ready.into_values().flatten() {
            self.evaluate(read, cx);
        }
        self.answer_near(cx);
    }

    pub(in super::super) fn feed_applied(&mut self, index: Index, cx: &mut Cx<'_>) {
        let mut outputs = Vec::new();
        self.raft.step(cx.now.mono, raft::Input::Applied { index }, &mut outputs);
        for output in outputs {
            // A commit that arrives here is applied by the loop that called, or by the next slice.
            match output {
                raft::Output::Committed { upto } => {
                    self.commit_index = self.commit_index.max(upto);
                    self.go_on(cx);
                }
                other => self.carry_out(other, cx),
            }
        }
    }

    pub(in super::super) fn go_on(&mut self, cx: &mut Cx<'_>) {
        if !self.continue_posted {
            self.continue_posted = true;
            cx.posts.push(Post::Replica(self.group, ReplicaInput::Continue));
        }
    }

    pub(super) fn apply_command(&mut self, position: Position, command: &Octets, cx: &mut Cx<'_>) {
        let applied = self.state.apply(position, command);
        for event in applied.events {
            match event {
                Event::Object(ObjectEvent::ExtentNamed { blob, chunks }) => {
                    expect_chunks(blob, chunks, cx);
                }
                Event::Object(ObjectEvent::BlobCollected { blob }) => {
                    cx.posts.push(Post::Store(StoreInput::DropBlob(blob)));
                    cx.posts.push(Post::Trace(Trace::BlobCollected { blob }));
                }
                Event::Activated { .. } => {}
                Event::Stranded { meaning } => {
                    cx.posts.push(Post::Trace(Trace::Stranded { group: self.group, meaning }));
                }
            }
        }
        if let Some((term, caller)) = self.proposed.remove(&position.index) {
            // The entry at this index may be another leader's: then the one proposed here will never be
            // committed, and asking again is safe.
            let reply = if term == position.term {
                let group = self.group;
                let Caller { from, call } = caller;
                cx.posts.push(Post::Trace(Trace::Decided { group, position, from, call }));
                Reply::Outcome(Box::new(applied.outcome))
            } else {
                Reply::Again
            };
            cx.answer(self.group, caller, reply);
        }
        self.unlogged_bytes += command.len();
        if self.unlogged_bytes >= FRAME_BYTES || self.forces(Point::FrameNow, cx) {
            self.log_changes(cx);
        }
    }

    /// Answers a proposal whose place was taken by an entry that is no command.
    pub(super) fn answer_displaced(&mut self, position: Position, cx: &mut Cx<'_>) {
        if let Some((_, caller)) = self.proposed.remove(&position.index) {
            cx.answer(self.group, caller, Reply::Again);
        }
    }

    /// At a replica of the meta group: what its state says of the cluster, if that is news.
    pub(in super::super) fn post_cluster(&mut self, cx: &mut Cx<'_>) {
        if self.group != GroupId::META || self.damage.is_some() {
            return;
        }
        let table = self.state.table();
        let versions = (registry::charter_version(table), registry::layout_version(table));
        let known = core::mem::replace(&mut self.cluster, versions);
        if known.0 != versions.0
            && let Some(charter) = registry::charter(table)
        {
            cx.posts.push(Post::Charter(Box::new(charter)));
        }
        if known.1 != versions.1 {
            cx.posts.push(Post::Layout(Box::new(registry::layout(table))));
        }
    }

    /// On the meta group's leader: the router carries out what the registry has begun.
    pub(super) fn post_registry(&self, cx: &mut Cx<'_>) {
        if self.group != GroupId::META || !self.leads() || self.damage.is_some() {
            return;
        }
        let unsettled = registry::unsettled(self.state.table(), PROCEDURES_MAX);
        cx.posts.push(Post::Router(RouterInput::Registry(unsettled)));
    }
}
