//! What is asked of a replica: reads, confirmed and then evaluated, and commands, proposed.

use super::*;

impl Replica {
    pub(super) fn on_call(&mut self, caller: Caller, ask: Ask, cx: &mut Cx<'_>) {
        match ask {
            Ask::Read(query) => self.read(caller, query, cx),
            Ask::ReadNear(query) if self.leads() => self.read(caller, query, cx),
            Ask::ReadNear(query) => self.read_near(caller, query, cx),
            Ask::OpenSession(session) => {
                self.propose(caller, None, Op::OpenSession { session }, cx);
            }
            Ask::Write { tag, op } => self.propose(caller, Some(tag), *op, cx),
        }
    }

    fn read(&mut self, caller: Caller, query: Query, cx: &mut Cx<'_>) {
        let read = Read { caller, wants: Wants::Answer(query) };
        if self.damage.is_some() {
            return self.refuse_damaged(read, cx);
        }
        if self.forces(Point::ReadElsewhere, cx) {
            return self.turn_away(read, None, cx);
        }
        self.ask_leadership(read, cx);
    }

    /// Whether this replica leads is asked on behalf of a read.
    pub(super) fn ask_leadership(&mut self, read: Read, cx: &mut Cx<'_>) {
        self.asked.push(read);
        if !self.leads() || self.raft.holds_lease(cx.now.mono) {
            // Refused at once, and a quiet group looks after its leader. Or answered at once: time was read after
            // the call had come.
            return self.confirm(cx);
        }
        cx.posts.push(Post::ReadAsked(self.group));
        self.maybe_stay_awake(cx);
    }

    /// A leader that sleeps has no lease for long. Whoever reads now and then does not wake it; where reads come again soon it
    /// stays awake for as long as they do.
    fn maybe_stay_awake(&mut self, cx: &mut Cx<'_>) {
        if !self.raft.has_leases() || !self.raft.is_quiet() {
            return;
        }
        let again = self.read_asleep.is_some_and(|at| cx.now.mono - at < READ_AGAIN);
        self.read_asleep = Some(cx.now.mono);
        if again {
            self.feed(raft::Input::Wake, cx);
        }
    }

    /// Confirms that this replica leads, for all reads that were asked so far.
    pub(super) fn confirm(&mut self, cx: &mut Cx<'_>) {
        let reads = core::mem::take(&mut self.asked);
        self.ask_or_refuse(reads, cx);
        self.maybe_end_round(cx);
    }

    /// Has Raft confirm by heartbeats that this replica leads, unless nothing can be read here anyway.
    fn ask_or_refuse(&mut self, reads: Vec<Read>, cx: &mut Cx<'_>) {
        if self.damage.is_some() {
            return reads.into_iter().for_each(|read| self.refuse_damaged(read, cx));
        }
        if reads.is_empty() {
            return;
        }
        let id = self.fresh_id();
        self.confirming.insert(id, reads);
        self.feed(raft::Input::Read { id }, cx);
    }

    /// Keeps the word of a follower that answers this term's heartbeats.
    pub(super) fn hear_support(&mut self, from: NodeId, message: &raft::Message) {
        let raft::Message { term, incarnation, body } = message;
        if let Body::HeartbeatReply { counts: true, support: epoch, .. } = body
            && self.leads()
            && *term == self.term
        {
            let support = Support { incarnation: *incarnation, epoch: *epoch };
            self.followers.hear(from, *term, support);
        }
    }

    /// Whether the support of other nodes may be enough to confirm reads.
    pub(in super::super) fn may_be_supported(&self) -> bool {
        let planted = self.seat.planted.is(Bug::ReadWithoutQuorum);
        let ready = self.leads() && self.damage.is_none() && self.raft.read_index().is_some();
        let knows = |node| self.followers.knows(self.term, node);
        ready && !planted && !self.is_alone() && self.raft.is_quorum(knows)
    }

    /// Whether what nodes say now proves that this replica still leads.
    pub(in super::super) fn is_supported(&self, said: &BTreeMap<NodeId, Support>) -> bool {
        let confirms = |node| self.followers.confirms(self.term, said, node);
        self.leads() && self.raft.is_quorum(confirms)
    }

    pub(super) fn await_support(&mut self, round: u64, cx: &mut Cx<'_>) {
        if !self.may_be_supported() {
            return self.confirm(cx); // something has happened since the round began
        }
        let reads = core::mem::take(&mut self.asked);
        self.awaiting.insert(round, reads);
    }

    pub(super) fn on_supported(&mut self, round: u64, cx: &mut Cx<'_>) {
        let reads = self.awaited(round);
        match self.raft.read_index() {
            Some(index) if self.damage.is_none() => self.read_at(index, reads, cx),
            _ => self.ask_or_refuse(reads, cx),
        }
        self.maybe_end_round(cx);
    }

    pub(super) fn on_unsupported(&mut self, round: u64, cx: &mut Cx<'_>) {
        let reads = self.awaited(round);
        self.ask_or_refuse(reads, cx);
        self.maybe_end_round(cx);
    }

    /// The reads of a round and of those before it: a later question confirms them too.
    fn awaited(&mut self, round: u64) -> Vec<Read> {
        let later = self.awaiting.split_off(&(round + 1));
        core::mem::replace(&mut self.awaiting, later).into_values().flatten().collect()
    }

    /// Raft has decided on the reads with this id.
    pub(super) fn on_confirmed(&mut self, id: u64, cx: &mut Cx<'_>) -> Vec<Read> {
        let reads = self.confirming.remove(&id).unwrap_or_default();
        self.maybe_end_round(cx);
        reads
    }

    /// Says so if no read waits for a confirmation any more.
    pub(super) fn maybe_end_round(&self, cx: &mut Cx<'_>) {
        if self.confirming.is_empty() && self.awaiting.is_empty() {
            cx.posts.push(Post::ReadsConfirmed(self.group));
        }
    }

    /// The reads see everything acknowledged before them once `index` is applied.
    pub(super) fn read_at(&mut self, index: Index, reads: Vec<Read>, cx: &mut Cx<'_>) {
        let applied = self.state.mark().position.index >= index && self.damage.is_none();
        for read in reads {
            match read.wants {
                Wants::Index => self.tell_index(read.caller, Some(index), cx),
                Wants::Answer(_) if applied => self.evaluate(read, cx),
                Wants::Answer(_) => self.confirmed.entry(index).or_default().push(read),
            }
        }
    }

    /// This replica does not lead, as far as it can tell.
    pub(super) fn turn_away(&self, read: Read, leader: Option<NodeId>, cx: &mut Cx<'_>) {
        match read.wants {
            Wants::Answer(_) => cx.answer(self.group, read.caller, Reply::NotLeader(leader)),
            Wants::Index => self.tell_index(read.caller, None, cx),
        }
    }

    pub(super) fn refuse_damaged(&self, read: Read, cx: &mut Cx<'_>) {
        match read.wants {
            Wants::Answer(_) => self.refuse_caller(read.caller, cx),
            Wants::Index => self.tell_index(read.caller, None, cx),
        }
    }

    fn refuse_caller(&self, caller: Caller, cx: &mut Cx<'_>) {
        // Another replica may serve; alone, this is the answer that the client gets.
        let reply = match (&self.damage, self.leader) {
            (Some(_), Some(leader)) if leader != cx.me => Reply::NotLeader(Some(leader)),
            (Some(damage), _) if self.is_alone() => Reply::Refused(Refusal::Unavailable(format!(
                "{} is damaged and there is no other replica: {damage}",
                name_of(self.group)
            ))),
            _ => Reply::NotLeader(None),
        };
        cx.answer(self.group, caller, reply);
    }

    fn propose(&mut self, caller: Caller, tag: Option<SessionTag>, op: Op, cx: &mut Cx<'_>) {
        if self.refuses() && self.is_proposed(caller) {
            // A repeated message: the first one's answer is on its way, or the session has it.
            return;
        }
        if self.damage.is_some() {
            return self.refuse_caller(caller, cx);
        }
        if !self.leads() {
            return cx.answer(self.group, caller, Reply::NotLeader(self.leader));
        }
        if self.disk_full && !frees_space(&op) {
            return cx.answer(self.group, caller, Reply::Refused(Refusal::NoSpace));
        }
        if self.proposed.len() >= PROPOSALS_MAX || self.forces(Point::ProposalAgain, cx) {
            return cx.answer(self.group, caller, Reply::Again);
        }
        let command =
            Command { meaning: self.state.meaning(), wall: cx.now.wall(), session: tag, op };
        match command.encode() {
            Ok(command) => {
                let id = self.fresh_id();
                self.placing.insert(id, caller);
                self.feed(raft::Input::Propose { id, command }, cx);
            }
            Err(too_long) => {
                let why = format!("the record would take {} bytes", too_long.bytes);
                cx.answer(self.group, caller, Reply::Refused(Refusal::Invalid(why)));
            }
        }
    }

    /// Whether writes are refused here for a reason of this node's own.
    const fn refuses(&self) -> bool {
        self.damage.is_some() || self.disk_full
    }

    /// Whether this very call is in the log already and will be answered from there.
    fn is_proposed(&self, caller: Caller) -> bool {
        self.proposed.values().any(|(term, known)| *term == self.term && *known == caller)
    }

    pub(super) fn evaluate(&mut self, read: Read, cx: &mut Cx<'_>) {
        let Wants::Answer(query) = read.wants else { return };
        let found = reads::evaluate(&self.state, &query);
        if let Some(blob) = found.pins() {
            self.collector.pin(blob, cx.now.mono);
        }
        self.fetch(read.caller, found, cx);
    }

    /// Gets the next body that an answer needs, or gives the answer.
    pub(super) fn fetch(&mut self, caller: Caller, found: Found, cx: &mut Cx<'_>) {
        match found.wants() {
            Some(location) => {
                let token = self.fresh_id();
                let group = self.group;
                self.fetching.insert(token, (caller, found));
                cx.posts.push(Post::Store(StoreInput::ReadBody { group, token, location }));
            }
            None => cx.answer(self.group, caller, found.finish()),
        }
    }

    pub(super) fn on_body(&mut self, token: u64, result: Result<Bytes, Damage>, cx: &mut Cx<'_>) {
        if self.on_snapshot_body(token, &result, cx) || self.on_audit_body(token, &result, cx) {
            return;
        }
        let Some((caller, mut found)) = self.fetching.remove(&token) else { return };
        match result {
            Ok(bytes) => {
                found.give(bytes);
                self.fetch(caller, found, cx);
            }
            Err(damage) => {
                self.on_damage(damage, cx);
                self.refuse_caller(caller, cx);
            }
        }
    }
}

/// Whether carrying the command out gives space back, so that a full disk must not refuse it.
const fn frees_space(op: &Op) -> bool {
    match op {
        Op::Object(op) => matches!(
            op,
            ObjectOp::Delete { .. }
                | ObjectOp::Abort { .. }
                | ObjectOp::DropBlob { .. }
                | ObjectOp::Expire { .. }
                | ObjectOp::Collect { .. }
                | ObjectOp::FenceBucket { .. }
                | ObjectOp::RemoveBucket { .. }
        ),
        Op::Kv(write) => matches!(write, KvWrite::Delete { .. }),
        Op::OpenSession { .. } | Op::ExpireSessions { .. } => true,
        Op::Registry(_) | Op::Activate { .. } => false,
    }
}
