//! The lanes' queues, and what leaves the node: posts go to the lane that they are for, or out, raft's
//! messages through their group's gate.

use super::*;

/// A group's messages, held back until what they promise is durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    durable: PersistId,
    held: VecDeque<(PersistId, NodeId, raft::Message)>,
}

/// Lists that are empty between two posts. They keep their memory, because many posts come a step, and steps are short.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    posts: Vec<Post>,
    ios: Vec<IoOp>,
    hashes: Vec<(OpId, Bytes)>,
    pub(super) outputs: Vec<raft::Output>,
}

impl Running {
    /// Empties the lanes' queues, then lets go what is ready.
    pub(super) fn pump(&mut self, config: &Config, now: Now, effects: &mut Vec<Effect>) {
        loop {
            while let Some(post) = self.next_post() {
                self.deliver(config, now, post, effects);
            }
            if core::mem::take(&mut self.checkpoint_wanted) {
                self.logs.checkpoint();
                self.store_due = true;
            }
            if self.store_due {
                self.with_store(config, effects, |logs, chunks, out| {
                    logs.pump(now, out);
                    chunks.pump(now, out);
                });
                self.store_due = false;
            }
            if let Some(shard) = self.leaving.pop() {
                self.leave(config, now, shard, effects);
            } else if self.queues.iter().all(VecDeque::is_empty) {
                break;
            }
        }
        for (to, messages) in &mut self.outgoing {
            if !messages.is_empty() {
                let message = Head::Raft(core::mem::take(messages)).into();
                effects.push(Effect::Send { to: *to, message });
            }
        }
        self.questions.take_answers(effects);
    }

    fn next_post(&mut self) -> Option<Post> {
        let busy = |queue: &&mut VecDeque<Post>| !queue.is_empty();
        match &mut self.shuffle {
            None => self.queues.iter_mut().find(busy)?.pop_front(),
            Some(rng) => {
                let count = self.queues.iter().filter(|queue| !queue.is_empty()).count() as u64;
                if count == 0 {
                    return None;
                }
                let at = usize::try_from(rng.below(count)).unwrap_or(0);
                self.queues.iter_mut().filter(busy).nth(at)?.pop_front()
            }
        }
    }

    fn deliver(&mut self, config: &Config, now: Now, post: Post, effects: &mut Vec<Effect>) {
        match post {
            Post::Replica(group, input) if !self.replicas.contains_key(&group) => {
                self.for_nobody(group, &input);
            }
            Post::Replica(group, input) => {
                self.with_replica(config, now, group, effects, |replica, cx| {
                    replica.handle(input, cx);
                });
            }
            Post::Router(input) => {
                let mut posts = core::mem::take(&mut self.scratch.posts);
                self.router.handle(now, input, &mut posts);
                self.enqueue_all(posts, effects, config);
            }
            Post::Store(input) => {
                self.with_store(config, effects, |logs, chunks, out| {
                    store_input(now, logs, chunks, input, out);
                });
            }
            other => self.enqueue(other, effects, config),
        }
    }

    pub(super) fn with_replica(
        &mut self,
        config: &Config,
        now: Now,
        group: GroupId,
        effects: &mut Vec<Effect>,
        step: impl FnOnce(&mut Replica, &mut Cx<'_>),
    ) {
        let Some(replica) = self.replicas.get_mut(&group) else { return };
        let Scratch { posts, outputs, .. } = &mut self.scratch;
        let mut posts = core::mem::take(posts);
        let now = self.peers.moderate(now);
        step(replica, &mut cx(config, now, &mut posts, outputs));
        let deadline = replica.deadline();
        let old = core::mem::replace(&mut replica.timer, deadline);
        if old != deadline {
            old.map(|at| self.timers.remove(&(at, group)));
            deadline.map(|at| self.timers.insert((at, group)));
        }
        self.enqueue_all(posts, effects, config);
    }

    pub(super) fn with_store(
        &mut self,
        config: &Config,
        effects: &mut Vec<Effect>,
        step: impl FnOnce(&mut Logs, &mut Chunks, &mut Out<'_>),
    ) {
        self.store_due = true;
        let Scratch { posts, ios, hashes, .. } = &mut self.scratch;
        let mut posts = core::mem::take(posts);
        let mut out = Out { posts: &mut posts, ios, hashes, halt: &mut self.halted };
        step(&mut self.logs, &mut self.chunks, &mut out);
        effects.extend(ios.drain(..).map(Effect::Io));
        effects.extend(hashes.drain(..).map(|(op, bytes)| Effect::Hash { op, bytes }));
        self.enqueue_all(posts, effects, config);
    }

    pub(super) fn enqueue_all(
        &mut self,
        mut posts: Vec<Post>,
        effects: &mut Vec<Effect>,
        config: &Config,
    ) {
        for post in posts.drain(..) {
            self.enqueue(post, effects, config);
        }
        self.scratch.posts = posts;
    }

    /// Sends a post on its way: to a lane's queue, or out of the node.
    pub(super) fn enqueue(&mut self, post: Post, effects: &mut Vec<Effect>, config: &Config) {
        match post {
            Post::Replica(..) | Post::Router(_) | Post::Store(_) => self.push(post),
            Post::Peer(to, message) if to == config.me => self.loop_back(config.me, message),
            Post::Peer(to, message) => effects.push(Effect::Send { to, message }),
            Post::Raft { to, group, message, after } => self.send_raft(to, group, message, after),
            Post::Left(node) => {
                if !config.planted.is(Bug::SupportOutlivesTerm) {
                    self.support.withdraw(node);
                }
            }
            Post::Persisted(group, id) => self.on_persisted(group, id, effects),
            Post::StandingNoted => {
                self.superblock.standing = Standing::Full;
                self.write_superblock(effects);
            }
            Post::Scrubbed(scrubbed) => {
                self.superblock.scrubbed = scrubbed;
                self.write_superblock(effects);
            }
            Post::Charter(charter) => self.on_charter(*charter, effects),
            Post::Layout(layout) => self.on_layout(*layout, effects),
            Post::MayLeave(shard) => self.leaving.push(shard),
            Post::ReadAsked(group) => self.rounds.ask(group),
            Post::ReadsConfirmed(group) => self.rounds.end(group),
            Post::IndexWanted { group, leader } => self.questions.want(leader, group),
            Post::Index { to, question, group, index } => {
                self.questions.answer(to, question, group, index);
            }
            Post::DiskFull(full) => self.tell_replicas(&ReplicaInput::DiskFull(full)),
            Post::Hash { token, bytes } => {
                let op = self.ops.hashes.take();
                self.hashing.insert(op, Hashing::Router(token));
                effects.push(Effect::Hash { op, bytes });
            }
            Post::Reply(id, outcome) => {
                effects.push(Effect::Trace(Trace::Answered { request: id }));
                effects.push(Effect::Reply { id, outcome: *outcome });
            }
            Post::Trace(event) => effects.push(Effect::Trace(event)),
        }
    }

    pub(in crate::node) fn push(&mut self, post: Post) {
        let lanes = self.queues.len() - 2;
        let at = match &post {
            Post::Store(_) => 0,
            Post::Replica(group, _) => 2 + group.0 as usize % lanes,
            _ => 1,
        };
        if let Some(queue) = self.queues.get_mut(at) {
            queue.push_back(post);
        }
    }

    /// What the router says to a replica on its own node, and back, needs no wire.
    fn loop_back(&mut self, me: NodeId, message: PeerMessage) {
        match message.head {
            Head::Call { call, group, ask } if self.replicas.contains_key(&group) => {
                self.push(Post::Replica(group, ReplicaInput::Call { from: me, call, ask }));
            }
            Head::Call { call, .. } => {
                let reply = Reply::NotLeader(None);
                self.push(Post::Router(RouterInput::Returned { from: me, call, reply }));
            }
            Head::Return { call, answer, .. } => {
                self.push(Post::Router(RouterInput::Returned { from: me, call, reply: answer }));
            }
            head => unreachable!("a node says {head:?} to itself"),
        }
    }

    pub(super) fn tell_replicas(&mut self, input: &ReplicaInput) {
        let groups: Vec<GroupId> = self.replicas.keys().copied().collect();
        for group in groups {
            self.push(Post::Replica(group, input.clone()));
        }
    }

    fn send_raft(
        &mut self,
        to: NodeId,
        group: GroupId,
        mut message: raft::Message,
        after: Option<PersistId>,
    ) {
        if let Body::HeartbeatReply { counts: true, support, .. } = &mut message.body {
            // The epoch of now, however long the gate holds the answer back.
            *support = self.support.epoch(to);
        }
        let gate = self.gates.entry(group).or_default();
        match after {
            Some(id) if id > gate.durable => gate.held.push_back((id, to, message)),
            _ => self.outgoing.entry(to).or_default().push((group, message)),
        }
    }

    pub(super) fn open_gate(&mut self, group: GroupId, durable: PersistId) {
        let gate = self.gates.entry(group).or_default();
        gate.durable = gate.durable.max(durable);
        let held = core::mem::take(&mut gate.held);
        for (id, to, message) in held {
            if id > durable {
                gate.held.push_back((id, to, message));
            } else {
                self.outgoing.entry(to).or_default().push((group, message));
            }
        }
    }
}

pub(super) fn cx<'a>(
    config: &Config,
    now: Now,
    posts: &'a mut Vec<Post>,
    outputs: &'a mut Vec<raft::Output>,
) -> Cx<'a> {
    Cx {
        now,
        me: config.me,
        near_patience: config.tuning.heartbeat * 2,
        slice_items: config.tuning.slice_items as usize,
        slice_bytes: config.tuning.snapshot_slice_bytes,
        posts,
        outputs,
    }
}

fn store_input(
    now: Now,
    logs: &mut Logs,
    chunks: &mut Chunks,
    input: StoreInput,
    out: &mut Out<'_>,
) {
    match input {
        StoreInput::Persist { group, id, writes } => logs.persist(group, id, &writes),
        StoreInput::Restated { group, writes, standing, retired } => {
            logs.restated(group, &writes, standing, retired);
        }
        StoreInput::Joined(group) => {
            logs.note(group, restore::joined_record(group));
            logs.table.forget(group);
        }
        StoreInput::Retired(group) => logs.note(group, restore::retired_record(group)),
        StoreInput::Readmitted(group) => logs.note_standing(&[(group, Standing::Full)], false),
        StoreInput::Frame { group, frame } => logs.frame(group, frame),
        StoreInput::Checkpoint => logs.checkpoint(),
        StoreInput::Needed { group, segment, needed } => logs.on_needed(group, segment, needed),
        StoreInput::Swept { group, segment, dead } => logs.on_swept(group, segment, &dead),
        StoreInput::IndexCopy { group, number, copy } => {
            logs.on_index_copy(now.mono, group, number, copy);
        }
        StoreInput::Live { group, bytes } => logs.on_live(group, bytes),
        StoreInput::ReadBody { group, token, location } => {
            logs.read_body(group, token, location, out);
        }
        StoreInput::Expect { blob, chunks: named } => chunks.expect(blob, &named),
        StoreInput::DropBlob(blob) => chunks.drop_blob(blob),
        StoreInput::StoreChunk { from, call, chunk, bytes, hashed } => {
            chunks.put((from, call), chunk, bytes, hashed, out);
        }
        StoreInput::FetchChunk { from, call, chunk } => chunks.fetch((from, call), chunk, out),
    }
}
