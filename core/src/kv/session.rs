//! Request sessions: a command that a router repeats, because it does not know whether the first copy
//! was committed, is carried out once.
//!
//! A router opens one session a group and boot and numbers its commands. The group remembers the
//! answer of each, as a record of its own table, so it survives restarts and travels in snapshots.
//! Every command says which answers its router no longer waits for, and those are forgotten.
//!
//! **How much is remembered.** Answers of at most [`REPLIES_MAX`] consecutive numbers a session, up to
//! the highest one seen. Below that window, below what the router has declared done, in a session of an
//! older boot, in an expired or an unknown session the answer is [`Refusal::OutcomeUnknown`]: the
//! command may have been carried out by an earlier copy, and is not carried out now.
//!
//! Invariants:
//! - The **floor** of a session, the lowest number that it still carries out, never goes back. It is
//!   kept in the replies themselves: a reply is removed only when the floor passes its number, and a
//!   floor is never above the number of the reply that recorded it, so the highest floor is always in
//!   a record that is still there (`the_floor_survives_a_reload`).
//! - A node has at most one session with a group. Its record stays after expiry, so that a late copy of
//!   the command that opened it can't open it again with an empty memory.

use super::batch::Batch;
use super::command::{EXPIRE_SESSIONS_MAX, SessionId, SessionTag};
use super::cow::Key;
use super::space;
use super::table::Table;
use crate::codec;
use crate::object::api::{Answer, Outcome, Refusal};
use crate::types::{Incarnation, NodeId};
use alloc::collections::BTreeMap;
use alloc::string::ToString as _;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;
use core::ops::Bound;

/// How many consecutive numbers' replies a session remembers at the most. A router has far fewer
/// commands under way with one group; and one command never drops more records than this.
pub const REPLIES_MAX: u64 = 1024;

/// The record of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct SessionHead {
    incarnation: Incarnation,
    expired: bool,
}

/// The record of a reply.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct ReplyHead {
    /// The session's floor when this was written: at most the reply's own number.
    floor: u64,
    outcome: Outcome,
}

/// What a session tag comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Carry it out and remember the answer.
    Fresh,
    /// Answer this and change nothing.
    Answered(Outcome),
}

/// Open sessions as far as they have been looked at since the state was loaded: a cache of what the
/// table says, never more.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    known: BTreeMap<NodeId, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    head: SessionHead,
    floor: u64,
}

impl Sessions {
    /// Whether a command is new to its session.
    pub(super) fn admit(&mut self, table: &Table, tag: SessionTag) -> Admission {
        let unknown = Admission::Answered(Err(Refusal::OutcomeUnknown));
        let Some(known) = self.load(table, tag.session.node) else { return unknown };
        let open = !known.head.expired && known.head.incarnation == tag.session.incarnation;
        if !open || tag.seq < known.floor || tag.seq < tag.first_incomplete {
            return unknown;
        }
        let key = space::reply(tag.session.node, tag.session.incarnation, tag.seq);
        match table.get(&key) {
            Some(slot) => Admission::Answered(reply_of(&slot.head).outcome),
            None => Admission::Fresh,
        }
    }

    /// Remembers the answer of a command that [`Self::admit`] found new.
    pub(super) fn remember(&mut self, batch: &mut Batch<'_>, tag: SessionTag, outcome: &Outcome) {
        let SessionTag { session: SessionId { node, incarnation }, seq, first_incomplete } = tag;
        let Some(known) = self.known.get_mut(&node) else { unreachable!("admitted before") };
        let window = seq.saturating_add(1).saturating_sub(REPLIES_MAX);
        let floor = known.floor.max(first_incomplete).max(window);
        assert!(floor <= seq, "floor {floor} would forget its own reply {seq} of {node:?}");
        if floor > known.floor {
            let to = space::reply(node, incarnation, floor);
            drop_replies(batch, node, incarnation, Some(&to));
            known.floor = floor;
        }
        let reply = ReplyHead { floor, outcome: outcome.clone() };
        batch.put(&space::reply(node, incarnation, seq), codec::encode(&reply), Bytes::new());
    }

    /// Opens a session.
    pub(super) fn open(&mut self, batch: &mut Batch<'_>, session: SessionId) -> Outcome {
        let head = SessionHead { incarnation: session.incarnation, expired: false };
        if let Some(known) = self.load(batch.table(), session.node) {
            if known.head == head {
                return Ok(Answer::Done);
            }
            if known.head.incarnation >= session.incarnation {
                return Err(Refusal::OutcomeUnknown);
            }
            drop_replies(batch, session.node, known.head.incarnation, None);
        }
        batch.put(&space::session(session.node), codec::encode(&head), Bytes::new());
        self.known.insert(session.node, Known { head, floor: 0 });
        Ok(Answer::Done)
    }

    /// Expires sessions.
    pub(super) fn expire(&mut self, batch: &mut Batch<'_>, sessions: &[SessionId]) -> Outcome {
        if sessions.len() > EXPIRE_SESSIONS_MAX {
            return Err(Refusal::Invalid("too many sessions to expire at once".to_string()));
        }
        for SessionId { node, incarnation } in sessions {
            let Some(known) = self.load(batch.table(), *node) else { continue };
            if known.head.incarnation != *incarnation || known.head.expired {
                continue;
            }
            drop_replies(batch, *node, *incarnation, None);
            let head = SessionHead { expired: true, ..known.head };
            batch.put(&space::session(*node), codec::encode(&head), Bytes::new());
            self.known.insert(*node, Known { head, ..known });
        }
        Ok(Answer::Done)
    }

    /// The session of a node. Bounded work: a session has at most [`REPLIES_MAX`] replies.
    fn load(&mut self, table: &Table, node: NodeId) -> Option<Known> {
        if let Some(known) = self.known.get(&node) {
            return Some(*known);
        }
        let slot = table.get(&space::session(node))?;
        let head: SessionHead = decode_own(&slot.head);
        let prefix = space::replies(node, head.incarnation);
        let floors =
            table.scan(&prefix, Bound::Unbounded).map(|(_, slot)| reply_of(&slot.head).floor);
        let known = Known { head, floor: floors.max().unwrap_or(0) };
        self.known.insert(node, known);
        Some(known)
    }
}

/// The sessions of a table that are open, beginning after `after`: what a leader looks through for
/// nodes that are gone. Takes `limit` at the most and at most that many seeks.
#[must_use]
pub fn open_sessions(table: &Table, after: Option<NodeId>, limit: usize) -> Vec<SessionId> {
    let mut next = after.map_or(Some(NodeId(0)), |node| node.0.checked_add(1).map(NodeId));
    let mut found = Vec::new();
    for _ in 0..limit {
        let Some(node) = next else { break };
        let from = space::session(node);
        let mut records = table.scan(&[space::SESSIONS], Bound::Included(&from));
        let Some((key, slot)) = records.next() else { break };
        let Some(node) = session_node(key) else { unreachable!("a session precedes its replies") };
        let head: SessionHead = decode_own(&slot.head);
        if !head.expired {
            found.push(SessionId { node, incarnation: head.incarnation });
        }
        next = node.0.checked_add(1).map(NodeId);
    }
    found
}

fn session_node(key: &[u8]) -> Option<NodeId> {
    Some(NodeId(u32::from_be_bytes(key.get(1..)?.try_into().ok()?)))
}

/// Removes the replies below the key `to`, or all.
fn drop_replies(batch: &mut Batch<'_>, node: NodeId, incarnation: Incarnation, to: Option<&Key>) {
    let prefix = space::replies(node, incarnation);
    let keys = batch.scan(&prefix, Bound::Unbounded).map(|(key, _)| key);
    let doomed: Vec<Key> =
        keys.take_while(|key| to.is_none_or(|to| *key < &**to)).map(Key::from).collect();
    assert!(doomed.len() as u64 <= REPLIES_MAX, "{} replies of {node:?}", doomed.len());
    doomed.iter().for_each(|key| batch.remove(key));
}

fn reply_of(head: &[u8]) -> ReplyHead {
    decode_own(head)
}

/// Decodes a head that this module wrote: the table's content is checked where it is read from disk or
/// network, so here it can't be wrong.
fn decode_own<T: Decode<()>>(head: &[u8]) -> T {
    codec::decode(head).unwrap_or_else(|error| unreachable!("record of a session: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::batch::Seat;
    use super::*;
    use crate::planted::Planted;
    use crate::types::{GroupId, Index, Position, Term, Timestamp};

    struct Fixture {
        table: Table,
        sessions: Sessions,
        index: u64,
    }

    const SESSION: SessionId = SessionId { node: NodeId(3), incarnation: Incarnation(7) };

    impl Fixture {
        fn new() -> Self {
            Self { table: Table::default(), sessions: Sessions::default(), index: 0 }
        }

        fn batch<T>(&mut self, work: impl FnOnce(&mut Sessions, &mut Batch<'_>) -> T) -> T {
            self.index += 1;
            let position = Position { term: Term(1), index: Index(self.index) };
            let roster = alloc::sync::Arc::default();
            let seat = Seat { group: GroupId(1), roster, planted: Planted::NONE };
            let now = Timestamp(self.index);
            let mut batch = Batch::new(&mut self.table, &seat, position, self.index, now);
            work(&mut self.sessions, &mut batch)
        }

        fn open(&mut self, node: u32, incarnation: u64) -> Outcome {
            let session = SessionId { node: NodeId(node), incarnation: Incarnation(incarnation) };
            self.batch(|sessions, batch| sessions.open(batch, session))
        }

        /// Sends a command; `None` if it was carried out anew.
        fn send(&mut self, session: SessionId, seq: u64, first_incomplete: u64) -> Option<Outcome> {
            let tag = SessionTag { session, seq, first_incomplete };
            let answer = Answer::Blob {
                blob: crate::types::BlobId {
                    home: crate::types::ShardId(0),
                    opened: Index(1_000 + seq),
                },
            };
            self.batch(|sessions, batch| match sessions.admit(batch.table(), tag) {
                Admission::Answered(outcome) => Some(outcome),
                Admission::Fresh => {
                    sessions.remember(batch, tag, &Ok(answer));
                    None
                }
            })
        }

        fn replies(&self) -> usize {
            self.table.scan(&[space::SESSIONS], Bound::Unbounded).count() - 1
        }
    }

    const UNKNOWN: Option<Outcome> = Some(Err(Refusal::OutcomeUnknown));

    #[test]
    fn a_repeated_command_is_answered_from_memory() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.send(SESSION, 1, 1), UNKNOWN, "not open yet");
        assert_eq!(fixture.open(3, 7), Ok(Answer::Done));
        assert_eq!(fixture.send(SESSION, 1, 1), None);
        let again = fixture.send(SESSION, 1, 1);
        assert!(matches!(&again, Some(Ok(Answer::Blob { blob })) if blob.opened == Index(1_001)));
        assert_eq!(fixture.open(3, 7), Ok(Answer::Done), "opening again keeps the memory");
        assert_eq!(fixture.send(SESSION, 1, 1), again);
        // Once the router has its answer, a late copy is refused and the record is gone.
        assert_eq!(fixture.send(SESSION, 3, 3), None);
        assert_eq!(fixture.send(SESSION, 1, 1), UNKNOWN);
        assert_eq!(fixture.send(SESSION, 2, 2), UNKNOWN, "never seen, but declared done");
        assert_eq!(fixture.replies(), 1);
        assert_eq!(fixture.send(SESSION, 4, 5), UNKNOWN, "a tag that contradicts itself");
    }

    #[test]
    fn a_session_remembers_a_window_and_no_more() {
        let mut fixture = Fixture::new();
        fixture.open(3, 7).expect("opens");
        for seq in 1..=REPLIES_MAX {
            assert_eq!(fixture.send(SESSION, seq, 1), None);
        }
        assert!(matches!(fixture.send(SESSION, 1, 1), Some(Ok(_))));
        assert_eq!(fixture.send(SESSION, REPLIES_MAX + 1, 1), None);
        assert_eq!(fixture.send(SESSION, 1, 1), UNKNOWN);
        assert!(matches!(fixture.send(SESSION, 2, 1), Some(Ok(_))));
        assert_eq!(fixture.replies() as u64, REPLIES_MAX);
        assert_eq!(fixture.send(SESSION, 10 * REPLIES_MAX, 1), None);
        assert_eq!(fixture.replies(), 1);
    }

    #[test]
    fn the_floor_survives_a_reload() {
        let mut rng = crate::rng::Rng::new(11);
        let mut fixture = Fixture::new();
        fixture.open(3, 7).expect("opens");
        let mut carried_out = alloc::collections::BTreeSet::new();
        for round in 0..4_000_u64 {
            let seq = (round / 2 + rng.below(40)).max(1);
            let first = seq.saturating_sub(rng.below(60));
            if rng.chance(1, 3) {
                fixture.sessions = Sessions::default();
            }
            if fixture.send(SESSION, seq, first).is_none() {
                assert!(carried_out.insert(seq), "{seq} was carried out twice");
            }
        }
        assert!(carried_out.len() > 1_000, "only {} of them were new", carried_out.len());
    }

    #[test]
    fn a_newer_boot_ends_the_sessions_of_older_ones() {
        let mut fixture = Fixture::new();
        fixture.open(3, 7).expect("opens");
        assert_eq!(fixture.send(SESSION, 1, 1), None);
        fixture.open(3, 8).expect("opens");
        assert_eq!(fixture.replies(), 0);
        assert_eq!(fixture.send(SESSION, 1, 1), UNKNOWN);
        assert_eq!(fixture.open(3, 7), Err(Refusal::OutcomeUnknown), "a late copy");
        let newer = SessionId { incarnation: Incarnation(8), ..SESSION };
        assert_eq!(fixture.send(newer, 1, 1), None);
    }

    #[test]
    fn an_expired_session_stays_closed() {
        let mut fixture = Fixture::new();
        fixture.open(3, 7).expect("opens");
        fixture.open(5, 1).expect("opens");
        assert_eq!(fixture.send(SESSION, 1, 1), None);
        let other = SessionId { node: NodeId(5), incarnation: Incarnation(1) };
        assert_eq!(open_sessions(&fixture.table, None, 10), [SESSION, other]);
        assert_eq!(open_sessions(&fixture.table, Some(NodeId(3)), 10), [other]);
        let stale = SessionId { incarnation: Incarnation(2), ..other };
        let done = fixture.batch(|sessions, batch| sessions.expire(batch, &[SESSION, stale]));
        assert_eq!(done, Ok(Answer::Done));
        assert_eq!(open_sessions(&fixture.table, None, 10), [other]);
        assert_eq!(fixture.send(SESSION, 1, 1), UNKNOWN);
        assert_eq!(fixture.open(3, 7), Err(Refusal::OutcomeUnknown));
        assert_eq!(fixture.open(3, 8), Ok(Answer::Done));
    }
}
