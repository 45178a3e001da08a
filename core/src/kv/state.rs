//! The replicated state of one group: the table, and what apply does to it.

use super::batch::{Batch, Change, Roster, Seat};
use super::command::{Command, MEANING_FIRST, MEANING_LATEST, Op, Unreadable};
use super::cow::{Key, Rubble};
use super::frame::{self, Content, Decided, Frame, FrameError, Place, Placed, RecordHead, Records};
use super::index::{IndexCopy, IndexHead};
use super::session::{Admission, Sessions};
use super::snapshot::{self, Export, Mark};
use super::table::{Slot, Table};
use super::{space, write};
use crate::codec;
use crate::object::api::{Answer, Outcome, Refusal};
use crate::object::command::ObjectEvent;
use crate::object::{command as object, registry};
use crate::planted::Bug;
use crate::types::{Position, Timestamp};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;

/// What applying a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer for whoever proposed it. All replicas find the same.
    pub outcome: Outcome,
    /// What this node must do beside.
    pub events: Vec<Event>,
}

/// What an applied command means for the node beyond the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// For the chunks on this node.
    Object(ObjectEvent),
    /// Another meaning of commands is active from here on: new commands are to be proposed in it.
    Activated {
        /// The meaning.
        meaning: u16,
    },
    /// The meaning that is active from here on is beyond this program: this replica must apply nothing
    /// more until a newer one runs it ([`State::stranded`]).
    Stranded {
        /// The meaning.
        meaning: u16,
    },
}

/// The header record of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Header {
    meaning: u16,
}

/// The head of the members' record.
#[derive(Clone, Debug, Encode, Decode)]
struct Members {
    roster: Roster,
    /// All that was told, in a form of its own.
    members: Vec<u8>,
}

/// The replicated state of a group.
///
/// Invariants:
/// - Entries are applied in the order of their indexes, without gaps (asserted in [`State::apply`]).
/// - Commit timestamps rise strictly with the log (asserted there too).
/// - Everything applied is in a frame of the table log that was taken, or in `unlogged`
///   (`replay_gives_the_state_back`).
#[derive(Clone, Debug)]
pub struct State {
    seat: Seat,
    table: Table,
    mark: Mark,
    /// The active meaning: what the header record says.
    meaning: u16,
    sessions: Sessions,
    /// Counts installed snapshots, from 1: frames of an older generation mean nothing to this state.
    generation: u64,
    /// The highest generation that the table log has a frame of, complete or not.
    generation_seen: u64,
    /// Frames taken in this generation.
    frames: u64,
    /// Changes that no frame has yet.
    unlogged: BTreeMap<Key, Option<Slot>>,
    /// The mark of the latest frame taken.
    logged: Mark,
    /// The segment of the latest frame written. It must be kept for its mark.
    anchor: Option<u64>,
    /// Frames of this generation that are written.
    settled: u64,
}

impl State {
    /// The state of a group before its first entry.
    #[must_use]
    pub fn new(seat: Seat) -> Self {
        Self::of(seat, Table::default(), Mark::default(), MEANING_FIRST, 1, 0)
    }

    /// A state out of its parts: the end of an import or a replay.
    ///
    /// # Errors
    /// When its header record is no header: the records came from a disk or from a peer.
    pub(super) fn restored(
        seat: Seat,
        table: Table,
        mark: Mark,
        generation: u64,
        frames: u64,
    ) -> Result<Self, FrameError> {
        let seat = match table.get(&space::members()) {
            Some(slot) => {
                let Members { roster, .. } =
                    codec::decode(&slot.head).map_err(|_| FrameError::Header)?;
                Seat { roster: Arc::new(roster), ..seat }
            }
            None => seat,
        };
        let meaning = match table.get(&space::header()) {
            Some(slot) => {
                codec::decode::<Header>(&slot.head).map_err(|_| FrameError::Header)?.meaning
            }
            None => MEANING_FIRST,
        };
        Ok(Self::of(seat, table, mark, meaning, generation, frames))
    }

    fn of(
        seat: Seat,
        table: Table,
        mark: Mark,
        meaning: u16,
        generation: u64,
        frames: u64,
    ) -> Self {
        Self {
            seat,
            table,
            mark,
            meaning,
            sessions: Sessions::default(),
            generation,
            generation_seen: generation,
            frames,
            unlogged: BTreeMap::new(),
            logged: mark,
            anchor: None,
            settled: frames,
        }
    }

    /// For the end of an import: its last frame is not written yet.
    pub(super) const fn with_end_unwritten(mut self) -> Self {
        self.settled = self.settled.saturating_sub(1);
        self
    }

    /// For the end of a replay: what the table log held beside the state.
    pub(super) const fn with_log(mut self, generation_seen: u64, anchor: Option<u64>) -> Self {
        self.generation_seen = generation_seen;
        self.anchor = anchor;
        self
    }

    /// The group's place.
    #[must_use]
    pub const fn seat(&self) -> &Seat {
        &self.seat
    }

    /// The table, for queries.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// How far the state has got.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.mark
    }

    /// How far the frames that were taken have got.
    #[must_use]
    pub const fn logged(&self) -> Mark {
        self.logged
    }

    /// The meaning that commands are to be proposed in.
    #[must_use]
    pub const fn meaning(&self) -> u16 {
        self.meaning
    }

    /// The active meaning, if it is beyond this program. Then [`Self::apply`] must not be called.
    #[must_use]
    pub const fn stranded(&self) -> Option<u16> {
        if self.meaning > MEANING_LATEST { Some(self.meaning) } else { None }
    }

    /// The commit timestamp that a command proposed now would get, if nothing comes between. Far ahead
    /// of every clock it shows a leader whose clock was wrong: then nothing more is to be proposed
    /// until time has caught up.
    #[must_use]
    pub fn next_commit(&self, wall: u64) -> Timestamp {
        Timestamp(wall.max(self.mark.committed.0 + 1))
    }

    /// Digest of everything replicated. Replicas that have applied the same entries have the same.
    #[must_use]
    pub fn state_hash(&self) -> u128 {
        // The table's digest is as good as random: it need not be hashed again to be told from that of another index.
        let (index, committed) = (self.mark.position.index.0, self.mark.committed.0);
        self.table.digest() ^ (u128::from(index) << 64 | u128::from(committed))
    }

    /// Applies the entry at `position`, which is the one after the last. Deterministic, and infallible:
    /// what can't be carried out is refused in the outcome, alike on every replica.
    pub fn apply(&mut self, position: Position, command: &[u8]) -> Applied {
        self.advance(position);
        let mut applied = Applied { outcome: Ok(Answer::Done), events: Vec::new() };
        applied.outcome = match Command::decode(command, self.meaning) {
            Ok(command) => self.carry_out(command, &mut applied.events),
            Err(Unreadable::Meaning(meaning)) => {
                Err(Refusal::Unavailable(format!("meaning {meaning} of commands is not active")))
            }
            Err(Unreadable::Malformed) => Err(Refusal::Invalid("malformed command".to_string())),
        };
        applied
    }

    /// Passes over an entry that is no command.
    pub fn advance(&mut self, position: Position) {
        let last = self.mark.position;
        let group = self.seat.group;
        assert_eq!(self.stranded(), None, "{group:?} applies what it can't understand");
        assert_eq!(
            position.index,
            last.index.next(),
            "{group:?} applies {position:?} after {last:?}"
        );
        assert!(position.term >= last.term, "{group:?}: {position:?} after {last:?}");
        self.mark.position = position;
    }

    /// Passes over an entry that changes the group's members. They become part of the state, so that whoever is given
    /// the state knows who belongs to the group at its position. What they are beyond who votes is not this module's
    /// business.
    pub fn configure(&mut self, position: Position, roster: Roster, members: Vec<u8>) {
        self.advance(position);
        let committed = self.mark.committed;
        let mut batch = Batch::new(&mut self.table, &self.seat, position, 0, committed);
        let members = Members { roster, members };
        batch.put(&space::members(), codec::encode(&members), Bytes::new());
        let changes = batch.finish();
        self.seat.roster = Arc::new(members.roster);
        self.unlogged.extend(changes.into_iter().map(|change| (change.key, change.slot)));
    }

    /// What [`Self::configure`] was last told; `None` if the members never changed.
    #[must_use]
    pub fn members(&self) -> Option<Vec<u8>> {
        let slot = self.table.get(&space::members())?;
        let members: Option<Members> = codec::decode(&slot.head).ok();
        members.map(|it| it.members)
    }

    fn carry_out(&mut self, command: Command, events: &mut Vec<Event>) -> Outcome {
        let Command { wall, session, op, .. } = command;
        let tag = session.filter(|_| remembered(&op));
        if let Some(tag) = tag
            && let Admission::Answered(outcome) = self.sessions.admit(&self.table, tag)
        {
            return outcome;
        }
        let committed = self.next_commit(wall);
        assert!(committed > self.mark.committed, "{committed:?} after {:?}", self.mark.committed);
        self.mark.committed = committed;
        let Self { seat, table, sessions, .. } = self;
        let mut batch = Batch::new(table, seat, self.mark.position, wall, committed);
        let outcome = match op {
            Op::OpenSession { session } => sessions.open(&mut batch, session),
            Op::ExpireSessions { sessions: expired } => sessions.expire(&mut batch, &expired),
            Op::Activate { meaning } => {
                activate(&mut batch, &mut self.meaning, meaning, events);
                Ok(Answer::Done)
            }
            Op::Kv(write) => Ok(Answer::Kv(write::apply(&mut batch, write))),
            Op::Object(op) => {
                let mut own = Vec::new();
                let outcome = object::apply(&mut batch, &mut own, op);
                events.extend(own.into_iter().map(Event::Object));
                outcome
            }
            Op::Registry(op) => registry::apply(&mut batch, op),
        };
        if let Some(tag) = tag {
            sessions.remember(&mut batch, tag, &outcome);
        }
        let changes = batch.finish();
        self.unlogged.extend(changes.into_iter().map(|change| (change.key, change.slot)));
        outcome
    }

    /// Applies an entry that does what no command of this module does: what the writers of other
    /// modules may do to a batch.
    #[cfg(test)]
    pub(super) fn apply_edit(&mut self, position: Position, edit: impl FnOnce(&mut Batch<'_>)) {
        self.advance(position);
        self.mark.committed = self.next_commit(0);
        let mut batch = Batch::new(&mut self.table, &self.seat, position, 0, self.mark.committed);
        edit(&mut batch);
        let changes = batch.finish();
        self.unlogged.extend(changes.into_iter().map(|change| (change.key, change.slot)));
    }

    /// The changes that no frame has yet, as one frame with the mark: state and applied index change
    /// together. To be appended to the table log before any later frame. `None` if there are none.
    #[must_use = "changes that are not logged are lost at a restart"]
    pub fn take_frame(&mut self) -> Option<Frame> {
        if self.unlogged.is_empty() { None } else { Some(self.frame_of_unlogged()) }
    }

    /// As [`Self::take_frame`], but also if only the mark has moved: for a checkpoint, after which the
    /// log up to the mark can go.
    #[must_use = "changes that are not logged are lost at a restart"]
    pub fn take_checkpoint(&mut self) -> Option<Frame> {
        if self.mark == self.logged { None } else { Some(self.frame_of_unlogged()) }
    }

    /// Notes that a frame has been written, its payload at `start`, in the order in which frames were
    /// taken. Bodies are dropped from memory. Frames of older generations are ignored.
    pub fn settle(&mut self, placed: &Placed, start: Place) {
        if placed.generation == self.generation {
            let segment = Some(start.segment);
            assert!(segment >= self.anchor, "{start:?} before segment {:?}", self.anchor);
            self.anchor = segment;
            self.settled = placed.number + 1;
            snapshot::settle(&mut self.table, placed, start);
        }
    }

    /// Whether the oldest segment of the table log is still needed for this group.
    #[must_use]
    pub fn needs(&self, segment: u64) -> bool {
        self.table.live(segment).records > 0 || self.anchor.is_some_and(|anchor| anchor <= segment)
    }

    /// For cleaning the oldest segment: rewrites what is current of a frame in it, read back whole.
    /// `None` if nothing is. All changes must have been taken ([`Self::take_frame`]) before, and the
    /// segment's frames settled: what is not is found current only the next time.
    ///
    /// # Errors
    /// When the payload is no frame.
    pub fn rewrite(&mut self, place: Place, payload: &Bytes) -> Result<Option<Frame>, FrameError> {
        assert!(self.unlogged.is_empty(), "{:?} rewrites records before logging", self.seat.group);
        let decoded = frame::decode(payload, place)?;
        let mut records = Records::default();
        for Decided { key, slot } in &decoded.changes {
            let (Some(found), Some(current)) = (slot, self.table.get(key)) else { continue };
            // By place and not by version: a newer head may share an older record's body.
            let (Some(location), true) = (found.body.location(), found.body == current.body) else {
                continue;
            };
            let Some(body) = slice_of(payload, place, location.offset, location.bytes) else {
                continue; // In an earlier frame: found there.
            };
            // A damaged body stays where it is: the segment is kept, and the reader finds the damage.
            if location.verify(&body) {
                records.push_again(key, current, body);
            }
        }
        if records.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.frame(records, |records| Content::Moved { records })))
    }

    /// For cleaning the oldest segment: notes the mark anew, if it is recorded only there.
    #[must_use]
    pub fn rewrite_mark(&mut self, segment: u64) -> Option<Frame> {
        assert!(self.unlogged.is_empty(), "{:?} rewrites its mark before logging", self.seat.group);
        let needed = self.anchor.is_some_and(|anchor| anchor <= segment);
        needed.then(|| self.frame(Records::default(), |records| Content::Moved { records }))
    }

    /// The state as it is now, to be streamed to another replica.
    #[must_use]
    pub fn export(&self) -> Export {
        Export::new(self.table.clone(), self.mark)
    }

    /// The state as of the last frame taken, for a snapshot of the index. All changes must have been taken
    /// ([`Self::take_frame`]) before.
    #[must_use]
    pub fn index_copy(&self) -> IndexCopy {
        assert!(self.unlogged.is_empty(), "{:?} is copied before logging", self.seat.group);
        let head = IndexHead {
            generation: self.generation,
            generation_seen: self.generation_seen,
            next: self.frames,
            mark: self.logged,
            anchor: self.anchor,
            digest: self.table.digest(),
            records: self.table.len() as u64,
        };
        IndexCopy::new(self.table.clone(), head, self.settled)
    }

    /// Which life of the state this is: frames of another one are not about it.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The highest generation that the table log has a frame of.
    #[must_use]
    pub const fn generation_seen(&self) -> u64 {
        self.generation_seen
    }

    /// The generation that the next import has.
    #[must_use]
    pub fn next_generation(&mut self) -> u64 {
        self.generation_seen += 1;
        self.generation_seen
    }

    /// Gives up what is here. The rest is a state before its first entry, of a life of its own: frames of what was given
    /// up mean nothing to it.
    #[must_use]
    pub fn vacate(&mut self) -> Self {
        let generation = self.next_generation();
        let (table, mark) = (Table::default(), Mark::default());
        let vacant = Self::of(self.seat.clone(), table, mark, MEANING_FIRST, generation, 0);
        core::mem::replace(self, vacant)
    }

    /// Takes a state that is no longer needed apart in slices.
    #[must_use]
    pub fn into_rubble(self) -> Rubble<Slot> {
        self.table.into_rubble()
    }

    fn frame_of_unlogged(&mut self) -> Frame {
        let mut records = Records::default();
        for (key, slot) in core::mem::take(&mut self.unlogged) {
            records.push(&Change { key, slot });
        }
        if !self.seat.planted.is(Bug::StaleAppliedIndex) || records.is_empty() {
            self.logged = self.mark;
        }
        self.frame(records, |records| Content::Applied { records })
    }

    fn frame(
        &mut self,
        records: Records,
        content: impl FnOnce(Vec<RecordHead<'static>>) -> Content<'static>,
    ) -> Frame {
        let sum = self.table.sum();
        let frame = records.frame(self.generation, self.frames, self.logged, sum, content);
        self.frames += 1;
        frame
    }
}

/// Whether the answer to a session's command is remembered. What concerns sessions themselves is
/// harmless to repeat, and must not leave a reply in a session that it closes.
const fn remembered(op: &Op) -> bool {
    match op {
        Op::OpenSession { .. } | Op::ExpireSessions { .. } | Op::Activate { .. } => false,
        Op::Kv(_) | Op::Object(_) | Op::Registry(_) => true,
    }
}

fn activate(batch: &mut Batch<'_>, active: &mut u16, meaning: u16, events: &mut Vec<Event>) {
    if meaning <= *active {
        return;
    }
    batch.put(&space::header(), codec::encode(&Header { meaning }), Bytes::new());
    *active = meaning;
    events.push(if meaning > MEANING_LATEST {
        Event::Stranded { meaning }
    } else {
        Event::Activated { meaning }
    });
}

/// The bytes of a payload that begin at file offset `offset`, if they are inside it.
fn slice_of(payload: &Bytes, place: Place, offset: u64, bytes: u32) -> Option<Bytes> {
    let start = usize::try_from(offset.checked_sub(place.offset)?).ok()?;
    let end = start.checked_add(usize::try_from(bytes).ok()?)?;
    (end <= payload.len()).then(|| payload.slice(start..end))
}
