//! What the log says of each group: raft's writes as log records, and groups out of records at boot.
//!
//! A group's records are replayed in the order of the log. A rewrite of what the log still needs (so that its
//! oldest segment can go) repeats entries under their own positions, which changes nothing, so a
//! crash in the middle of one is harmless.

pub(super) mod records;
mod row;

use self::row::Row;
use crate::codec;
use crate::raft::{Configuration, Entry, HardState, Payload, Restored, Standing, Write};
use crate::types::{GroupId, Index, Position, Term};
use crate::wal::{Identity, Record, Recovered, RecoveredPayload};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bytes::Bytes;

/// Kinds of log records. Part of the format (docs/formats.md).
mod kind {
    pub(super) const HARD_STATE: u8 = 1;
    pub(super) const ENTRY: u8 = 2;
    pub(super) const TRUNCATE: u8 = 3;
    pub(super) const COMPACTED: u8 = 4;
    pub(super) const RESET: u8 = 5;
    pub(super) const REPAIR: u8 = 6;
    pub(super) const READMITTED: u8 = 7;
    pub(super) const ABSTAINING: u8 = 8;
    pub(super) const CONFIGURE: u8 = 9;
    pub(super) const COMPACTED_CHANGED: u8 = 10;
    pub(super) const RESET_CHANGED: u8 = 11;
    pub(super) const BLANK: u8 = 12;
    pub(super) const RETIRED: u8 = 13;
    pub(super) const JOINED: u8 = 14;
}

/// The kinds of records whose payload is an entry's.
pub(super) const ENTRY_KINDS: [u8; 3] = [kind::ENTRY, kind::REPAIR, kind::CONFIGURE];

/// The record of a write.
pub(super) fn record_of(group: GroupId, write: &Write) -> Record {
    let record = |kind, position: Position, payload: Vec<u8>| {
        let Position { term, index } = position;
        Record::new(Identity { kind, group, index, term }, Bytes::from(payload))
    };
    let from = |index| Position { term: Term(0), index };
    match write {
        Write::HardState(state) => record(
            kind::HARD_STATE,
            Position { term: state.term, index: state.commit_index },
            codec::encode(state),
        ),
        Write::Append(entry) => {
            let kind = if entry.payload.changes_members() { kind::CONFIGURE } else { kind::ENTRY };
            record(kind, entry.position, codec::encode(&entry.payload))
        }
        Write::Repair(entry) => record(kind::REPAIR, entry.position, codec::encode(&entry.payload)),
        Write::Truncate { from: index } => record(kind::TRUNCATE, from(*index), Vec::new()),
        Write::Compacted { position, configuration } => {
            let kinds = (kind::COMPACTED, kind::COMPACTED_CHANGED);
            let kind = if configuration.founding { kinds.0 } else { kinds.1 };
            record(kind, *position, codec::encode(configuration))
        }
        Write::Reset { position, configuration } => {
            let kinds = (kind::RESET, kind::RESET_CHANGED);
            let kind = if configuration.founding { kinds.0 } else { kinds.1 };
            record(kind, *position, codec::encode(configuration))
        }
    }
}

/// The record that says what a group is worth from here on.
pub(super) fn standing_record(group: GroupId, standing: Standing) -> Record {
    let kind = match standing {
        Standing::Full => kind::READMITTED,
        Standing::Abstaining => kind::ABSTAINING,
        Standing::Blank => kind::BLANK,
    };
    note(kind, group)
}

/// The record that says that a group has no replica here any more.
pub(super) fn retired_record(group: GroupId) -> Record {
    note(kind::RETIRED, group)
}

/// The record that a replica begins with which was not here before.
pub(super) fn joined_record(group: GroupId) -> Record {
    note(kind::JOINED, group)
}

fn note(kind: u8, group: GroupId) -> Record {
    Record::new(Identity { kind, group, index: Index(0), term: Term(0) }, Bytes::new())
}

/// A group as far as its records were replayed.
#[derive(Clone, Debug, Default)]
struct Image {
    hard_state: HardState,
    compacted: Position,
    configuration: Option<Configuration>,
    entries: Row,
    /// Something that it may have promised is lost.
    tainted: bool,
    /// All that it ever promised is lost.
    blank: bool,
    /// Its shard was moved away, and nothing has been written since.
    retired: bool,
    /// Entries may be lost that follow all that are here.
    cut: bool,
    /// Entries that were not known to be committed when identities were lost, and were not written since. The records
    /// that are lost may have cut them off and written others: then what is committed later, and what follows them here,
    /// means those others.
    doubtful: BTreeSet<Index>,
}

impl Image {
    /// Of a group that is first seen after identities were lost, or with nothing lost.
    fn new(lost: bool) -> Self {
        Self { tainted: lost, cut: lost, ..Self::default() }
    }
}

/// All groups of a node, out of the records of its log.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    images: BTreeMap<GroupId, Image>,
    /// Identities were lost when this many groups had been seen; a group without records of its own
    /// may have lost all of them.
    tainted: bool,
}

impl Replay {
    /// Records of unknown groups are lost: any group may have lost any promise.
    pub(super) fn identity_lost(&mut self) {
        self.tainted = true;
        for image in self.images.values_mut() {
            image.tainted = true;
            image.cut = true;
            let doubtful = image.entries.indexes_from(image.hard_state.commit_index.next());
            image.doubtful.extend(doubtful);
        }
    }

    /// The next record of the log.
    pub(super) fn push(&mut self, recovered: &Recovered) {
        let Identity { kind, group, index, term } = recovered.identity;
        let tainted = self.tainted;
        let image = self.images.entry(group).or_insert_with(|| Image::new(tainted));
        // Brought back before its next boot, it went on with what it had.
        image.retired &= matches!(
            kind,
            kind::READMITTED | kind::ABSTAINING | kind::BLANK | kind::RETIRED | kind::JOINED
        );
        let position = Position { term, index };
        let payload = match &recovered.payload {
            RecoveredPayload::Kept(bytes) => Some(bytes),
            RecoveredPayload::Stored | RecoveredPayload::Lost => None,
        };
        match kind {
            kind::HARD_STATE => match payload.and_then(|bytes| codec::decode(bytes).ok()) {
                Some(state) => image.hard_state = state,
                // The term is part of the identity; who got its vote is forgotten.
                None => {
                    let commit_index = image.hard_state.commit_index.max(index);
                    image.hard_state = HardState { term, vote: None, commit_index };
                    image.tainted = true;
                }
            },
            kind::ENTRY | kind::REPAIR | kind::CONFIGURE => {
                image.cut &= kind == kind::REPAIR; // what was lost came before an append
                let payload = payload.and_then(|bytes| codec::decode(bytes).ok());
                let known = image.entries.get(index).filter(|entry| entry.position == position);
                let kept = known.is_some_and(|entry| !entry.payload.is_lost());
                let configures = kind == kind::CONFIGURE
                    || known
                        .is_some_and(|entry| entry.payload == Payload::Lost { configures: true });
                if index > image.compacted.index && !(payload.is_none() && kept) {
                    let payload = payload.unwrap_or(Payload::Lost { configures });
                    image.entries.insert(Entry { position, payload });
                }
                if kind != kind::REPAIR {
                    image.doubtful.remove(&index);
                }
            }
            kind::TRUNCATE => {
                image.entries.split_off(index);
                image.doubtful.split_off(&index);
            }
            kind::COMPACTED | kind::COMPACTED_CHANGED | kind::RESET | kind::RESET_CHANGED => {
                match payload.and_then(|bytes| codec::decode(bytes).ok()) {
                    Some(configuration) => image.configuration = Some(configuration),
                    None => {
                        image.tainted = true;
                        if matches!(kind, kind::COMPACTED_CHANGED | kind::RESET_CHANGED) {
                            image.configuration = Some(Configuration::default());
                        }
                    }
                }
                image.compacted = position;
                image.entries.forget_through(index);
                image.doubtful = image.doubtful.split_off(&index.next());
                if matches!(kind, kind::RESET | kind::RESET_CHANGED) {
                    image.entries.clear();
                    image.doubtful.clear();
                }
            }
            kind::READMITTED => (image.tainted, image.blank) = (false, false),
            kind::ABSTAINING => image.tainted = true,
            kind::BLANK => image.blank = true,
            kind::RETIRED => image.retired = true,
            kind::JOINED => *image = Image { blank: true, ..Image::default() },
            // A later format's record: nothing that this version wrote depends on it.
            _ => {}
        }
    }

    /// The groups that the log knows, and whether each has been given up.
    pub(super) fn groups(&self) -> impl Iterator<Item = (GroupId, bool)> {
        self.images.iter().map(|(group, image)| (*group, image.retired))
    }

    /// What a group is restored from, given what its state contains, whether this boot's other circumstances let it
    /// count, and whether it has no other replicas: then nobody ever cut its log. Also whether entries may be lost
    /// that neither log nor state has.
    pub(super) fn restored(
        &mut self,
        group: GroupId,
        applied: Position,
        standing: Standing,
        alone: bool,
    ) -> (Restored, bool) {
        let image = self.images.remove(&group).unwrap_or_else(|| Image::new(self.tainted));
        let Image { mut hard_state, mut compacted, configuration, mut entries, .. } = image;
        let Image { mut tainted, blank, cut, doubtful, .. } = image;
        let through = entries.through(applied.index) as u64;
        let holds = entries.get(applied.index).is_some_and(|entry| entry.position == applied);
        if holds && compacted.index.0 + through < applied.index.0 {
            // What is missing was lost, not compacted; but the state covers it.
            tainted = true;
            entries.forget_through(applied.index);
            compacted = applied;
        }
        if !alone {
            if !holds && doubtful.first().is_some_and(|first| *first <= applied.index) {
                // The state covers what they may stand in place of.
                entries.forget_through(applied.index);
                compacted = compacted.max(applied);
            }
            let sure = compacted.index.max(applied.index);
            if let Some(first) = doubtful.range(sure.next()..).next() {
                // Others have what was committed of these, and send it.
                let dropped = entries.split_off(*first);
                let mut dropped = dropped.into_iter().map(|entry| entry.position.index);
                tainted |= dropped.any(|index| !doubtful.contains(&index));
            }
        }
        let mut lost = cut;
        let mut contiguous = Vec::new();
        let mut next = compacted.index.next();
        let mut term = compacted.term;
        for entry in entries {
            let index = entry.position.index;
            if index != next || entry.position.term < term {
                (tainted, lost) = (true, true);
                break;
            }
            (next, term) = (index.next(), entry.position.term);
            contiguous.push(entry);
        }
        let last = next.prev();
        hard_state.commit_index = hard_state.commit_index.min(last.max(compacted.index));
        let standing = match (blank, tainted) {
            (true, _) => Standing::Blank,
            (false, true) => standing.max(Standing::Abstaining),
            (false, false) => standing,
        };
        let entries = contiguous;
        let restored = Restored {
            hard_state,
            compacted,
            configuration,
            entries,
            applied,
            applied_configuration: None, // the state's business
            standing,
        };
        (restored, lost)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may panic")]
    use super::*;
    use crate::wal::Location;
    use alloc::vec;

    const GROUP: GroupId = GroupId(3);

    fn entry(index: u64, term: u64, command: &'static [u8]) -> Entry {
        let position = Position { term: Term(term), index: Index(index) };
        Entry { position, payload: Payload::Command(Bytes::from_static(command).into()) }
    }

    fn replay(writes: &[(Write, bool)]) -> Replay {
        let mut replay = Replay::default();
        for (write, lost) in writes {
            match lost {
                true => push_as(&mut replay, write, |_| RecoveredPayload::Lost),
                false => push(&mut replay, write),
            }
        }
        replay
    }

    fn push(replay: &mut Replay, write: &Write) {
        push_as(replay, write, |record| RecoveredPayload::Kept(record.payload[0].clone()));
    }

    fn push_as(replay: &mut Replay, write: &Write, payload: fn(&Record) -> RecoveredPayload) {
        let record = record_of(GROUP, write);
        let payload = payload(&record);
        let (identity, note) = (record.identity, record.note);
        replay.push(&Recovered { identity, note, location: Location::default(), payload });
    }

    fn restored(writes: &[(Write, bool)]) -> Restored {
        replay(writes).restored(GROUP, Position::default(), Standing::Full, false).0
    }

    #[test]
    fn writes_replay_to_what_they_say() {
        let restored = restored(&[
            (Write::HardState(HardState { term: Term(1), ..HardState::default() }), false),
            (Write::Append(entry(1, 1, b"a")), false),
            (Write::Append(entry(2, 1, b"b")), false),
            (Write::Truncate { from: Index(2) }, false),
            (Write::Append(entry(2, 2, b"c")), false),
            (Write::Append(entry(1, 1, b"a")), false),
        ]);
        assert_eq!(restored.entries, vec![entry(1, 1, b"a"), entry(2, 2, b"c")]);
        assert_eq!(restored.hard_state.term, Term(1));
        assert_eq!(restored.standing, Standing::Full);
    }

    #[test]
    fn a_lost_payload_keeps_the_identity_and_the_vote() {
        let restored = restored(&[
            (Write::Append(entry(1, 1, b"a")), true),
            (Write::Append(entry(2, 1, b"b")), false),
        ]);
        assert_eq!(restored.entries[0].payload, Payload::Lost { configures: false });
        assert_eq!(restored.entries[0].position.term, Term(1));
        assert_eq!(restored.standing, Standing::Full);
    }

    #[test]
    fn lost_identities_make_the_group_abstain_until_it_is_readmitted() {
        let mut lost = replay(&[(Write::Append(entry(1, 1, b"a")), false)]);
        lost.identity_lost();
        let mut again = lost.clone();
        let (got, is_cut) = lost.restored(GROUP, Position::default(), Standing::Full, false);
        assert_eq!((got.standing, is_cut), (Standing::Abstaining, true));
        let (got, is_cut) = lost.restored(GroupId(9), Position::default(), Standing::Full, false);
        let told = (Standing::Abstaining, true);
        assert_eq!((got.standing, is_cut), told, "a group without records may have lost them");
        let record = standing_record(GROUP, Standing::Full);
        let location = Location::default();
        let payload = RecoveredPayload::Kept(Bytes::new());
        again.push(&Recovered { identity: record.identity, note: record.note, location, payload });
        let (got, is_cut) = again.restored(GROUP, Position::default(), Standing::Full, false);
        assert_eq!((got.standing, is_cut), (Standing::Full, true));
    }

    /// Its disk was replaced. Another boot, or damage, makes it no better; only the others do.
    #[test]
    fn a_blank_group_is_blank_until_it_is_readmitted() {
        let standing = |replay: &Replay, found| {
            replay.clone().restored(GROUP, Position::default(), found, false).0.standing
        };
        let note = |replay: &mut Replay, standing| {
            let record = standing_record(GROUP, standing);
            let (location, payload) = (Location::default(), RecoveredPayload::Kept(Bytes::new()));
            let (identity, note) = (record.identity, record.note);
            replay.push(&Recovered { identity, note, location, payload });
        };
        let mut log = Replay::default();
        note(&mut log, Standing::Blank);
        push(&mut log, &Write::Append(entry(1, 1, b"a")));
        assert_eq!(standing(&log, Standing::Full), Standing::Blank);
        let mut lost = log.clone();
        lost.identity_lost();
        assert_eq!(standing(&lost, Standing::Abstaining), Standing::Blank);
        note(&mut log, Standing::Full);
        assert_eq!(standing(&log, Standing::Full), Standing::Full);
        assert_eq!(standing(&log, Standing::Abstaining), Standing::Abstaining);
        note(&mut log, Standing::Abstaining);
        assert_eq!(standing(&log, Standing::Full), Standing::Abstaining);
    }

    /// The records that are lost cut off entry 2 and wrote others: what follows them, and what is committed later, is
    /// not what is here.
    #[test]
    fn what_was_not_committed_before_a_hole_is_not_believed_after_it() {
        let committed = |index| {
            let commit_index = Index(index);
            Write::HardState(HardState { term: Term(2), vote: None, commit_index })
        };
        let old = [1, 2, 3].map(|index| (Write::Append(entry(index, 1, b"old")), false));
        let mut log = replay(&old);
        push(&mut log, &committed(1));
        log.identity_lost();
        push(&mut log, &Write::Append(entry(4, 2, b"new")));
        push(&mut log, &committed(4));
        let applied = |index| Position { term: Term(1), index: Index(index) };
        let of = |log: &Replay, applied, alone| {
            let (got, _) = log.clone().restored(GROUP, applied, Standing::Full, alone);
            let entries: Vec<u64> =
                got.entries.iter().map(|entry| entry.position.index.0).collect();
            (got.compacted.index.0, entries, got.hard_state.commit_index.0, got.standing)
        };
        let abstains = Standing::Abstaining;
        assert_eq!(of(&log, applied(1), false), (0, vec![1], 1, abstains));
        assert_eq!(of(&log, applied(3), false), (0, vec![1, 2, 3, 4], 4, abstains), "the same");
        let others = Position { term: Term(2), index: Index(3) };
        assert_eq!(of(&log, others, false), (3, vec![4], 4, abstains), "the state has others");
        assert_eq!(of(&log, applied(1), true), (0, vec![1, 2, 3, 4], 4, abstains), "never cut");
        for index in [2, 3] {
            push(&mut log, &Write::Append(entry(index, 2, b"new")));
        }
        assert_eq!(
            of(&log, applied(1), false),
            (0, vec![1, 2, 3, 4], 4, abstains),
            "written again"
        );
    }

    #[test]
    fn a_gap_is_never_bridged() {
        let restored = restored(&[
            (Write::Append(entry(1, 1, b"a")), false),
            (Write::Append(entry(3, 1, b"c")), false),
        ]);
        assert_eq!(restored.entries, vec![entry(1, 1, b"a")]);
        assert_eq!(restored.standing, Standing::Abstaining);
    }

    #[test]
    fn a_gap_that_the_state_covers_costs_no_entry() {
        let mut log = replay(&[(Write::Append(entry(1, 1, b"a")), false)]);
        log.identity_lost();
        for (index, command) in [(3, b"c"), (4, b"d")] {
            push(&mut log, &Write::Append(entry(index, 1, command)));
        }
        let applied = |index| Position { term: Term(1), index: Index(index) };
        let (got, is_lost) = log.clone().restored(GROUP, applied(3), Standing::Full, false);
        assert_eq!((got.entries, is_lost), (vec![entry(4, 1, b"d")], false));
        assert_eq!((got.compacted, got.standing), (applied(3), Standing::Abstaining));
        let (got, is_lost) = log.restored(GROUP, applied(1), Standing::Full, false);
        assert_eq!((got.entries, is_lost), (vec![entry(1, 1, b"a")], true));
    }

    #[test]
    fn a_lost_hard_state_forgets_a_vote_and_says_so() {
        let state = HardState { term: Term(7), ..HardState::default() };
        let restored = restored(&[(Write::HardState(state), true)]);
        assert_eq!(restored.hard_state.term, Term(7));
        assert_eq!(restored.standing, Standing::Abstaining);
    }
}
