//! Changes out of frames that a table does not have yet.
//!
//! Frames are read back in the order of the log. What they say is kept until it is worth putting a table together anew
//! with it ([`Table::merge`]): then records are sorted, and only the last word on each of them is carried out. While it waits
//! it takes a little less memory than it will in the table.

use super::frame::{Decided, FrameError};
use super::keys::Keys;
use super::table::{Slot, Table};
use alloc::vec::Vec;

/// A table that is this many times as large as what is pending is written to record by record. Below that it is put together
/// anew even where that is more work: record by record most of its nodes would grow out of the memory that they have, and what
/// they leave behind is no longer of use to anything.
const FEW: usize = 64;

/// Changes in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    frames: Vec<Frame>,
    len: usize,
}

/// The changes of a frame.
#[derive(Clone, Debug)]
struct Frame {
    keys: Keys,
    /// What is there now, by the same places.
    slots: Vec<Option<Slot>>,
    /// They were only rewritten: none may stand in the place of anything else.
    moved: bool,
}

/// A change by its frame and its place there.
type Change = (u32, u32);

impl Pending {
    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds those of the next frame.
    pub(super) fn push(&mut self, changes: Vec<Decided<'_>>, moved: bool) {
        let bytes = changes.iter().map(|it| it.key.len()).sum();
        let mut keys = Keys::with_room(changes.len(), bytes);
        changes.iter().for_each(|it| keys.push(&it.key));
        self.len += changes.len();
        let slots = changes.into_iter().map(|it| it.slot).collect();
        self.frames.push(Frame { keys, slots, moved });
    }

    /// Carries them out.
    ///
    /// # Errors
    /// When a record was rewritten that was not current. The table is not to be used then.
    pub(super) fn settle(self, table: &mut Table) -> Result<(), FrameError> {
        let Self { frames, len } = self;
        let (mut keys, mut slots) = (Vec::with_capacity(frames.len()), Vec::new());
        for Frame { keys: of_frame, slots: there, moved } in frames {
            keys.push(of_frame);
            slots.push((there, moved));
        }
        let key_of = |(frame, at): Change| {
            let key = keys.get(to_usize(frame)).and_then(|keys| keys.get(to_usize(at)));
            key.unwrap_or_default()
        };
        let mut out_of_order = false;
        let mut carry_out = |(frame, at): Change, there: Option<&Slot>| {
            let (slots, moved) = slots.get_mut(to_usize(frame))?;
            let slot = slots.get_mut(to_usize(at)).and_then(Option::take);
            // A record is rewritten only while it is current, so all that can be here is the same
            // version, or nothing if its segment has been removed.
            if let (true, Some(slot), Some(there)) = (*moved, &slot, there) {
                out_of_order |= slot.version != there.version;
            }
            slot
        };
        let places = (0_u32..).zip(&keys);
        let changes =
            places.flat_map(|(frame, keys)| (0_u32..).take(keys.len()).map(move |at| (frame, at)));
        if len < table.len() / FEW {
            for change in changes {
                let key = key_of(change);
                let slot = carry_out(change, table.get(key));
                table.set(key, slot);
            }
        } else {
            let mut order: Vec<Change> = Vec::with_capacity(len);
            order.extend(changes);
            // Changes of one record stay in their order. Frames are sorted, so this is mostly merging.
            order.sort_by(|one, other| key_of(*one).cmp(key_of(*other)));
            let rows = order.chunk_by(|one, other| key_of(*one) == key_of(*other));
            let distinct = rows.clone().filter_map(|row| Some(key_of(*row.first()?)));
            let mut rows = rows;
            table.merge(distinct, |_, there| {
                let (first, more) = rows.next()?.split_first()?;
                let now = carry_out(*first, there);
                more.iter().fold(now, |now, change| carry_out(*change, now.as_ref()))
            });
        }
        if out_of_order { Err(FrameError::OutOfOrder) } else { Ok(()) }
    }
}

/// A place in what is pending, of which there are fewer than 2^32.
const fn to_usize(at: u32) -> usize {
    at as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::table::{Body, RecordLocation};
    use crate::rng::Rng;
    use crate::types::{Timestamp, Version};
    use alloc::borrow::Cow;
    use alloc::collections::BTreeMap;
    use core::ops::Bound;

    fn slot(version: u64, segment: u64) -> Slot {
        let location = RecordLocation { segment, offset: version, bytes: 7, crc: 3 };
        Slot {
            version: Version(version),
            committed: Timestamp(version),
            head: (&version.to_le_bytes()[..]).into(),
            body: Body::stored(location),
        }
    }

    type Made = BTreeMap<Vec<u8>, Option<Slot>>;

    fn push(pending: &mut Pending, changes: &Made, moved: bool) {
        let decided = changes
            .iter()
            .map(|(key, slot)| Decided { key: Cow::Borrowed(key.as_slice()), slot: slot.clone() });
        pending.push(decided.collect(), moved);
    }

    /// Frames of all sizes, settled after a few or many of them, against a table that is written record by record.
    #[test]
    fn what_is_pending_comes_to_the_same_as_one_by_one() {
        let mut rng = Rng::new(11);
        for records in [1, 3, 40, 700] {
            let (mut table, mut pending) = (Table::default(), Pending::default());
            let mut model = Table::default();
            for frame in 1..200 {
                let moved = rng.chance(1, 4);
                let mut made = Made::new();
                for _ in 0..rng.below(20) {
                    let key = rng.below(records).to_be_bytes().to_vec();
                    let new = match (moved, model.get(&key)) {
                        // Rewritten, or what was cleaned since and nobody has any more.
                        (true, Some(there)) => Some(slot(there.version.0, frame)),
                        (true, None) => continue,
                        (false, _) => rng.chance(2, 3).then(|| slot(frame, frame)),
                    };
                    made.insert(key, new);
                }
                push(&mut pending, &made, moved);
                for (key, slot) in made {
                    model.set(&key, slot);
                }
                if rng.chance(1, 1 + frame % 30) {
                    assert_eq!(core::mem::take(&mut pending).settle(&mut table), Ok(()));
                    assert_eq!(pending.len(), 0);
                    assert!(
                        table.scan(&[], Bound::Unbounded).eq(model.scan(&[], Bound::Unbounded))
                    );
                    assert_eq!((table.digest(), table.len()), (model.digest(), model.len()));
                    let live =
                        |table: &Table| (0..200).map(|at| table.live(at)).collect::<Vec<_>>();
                    assert_eq!(live(&table), live(&model));
                }
            }
        }
    }

    #[test]
    fn what_is_rewritten_stands_in_the_place_of_nothing_else() {
        for others in [0, 100] {
            let settle = |frames: &[(u64, bool)]| {
                let (mut table, mut pending) = (Table::default(), Pending::default());
                for other in 0..others {
                    table.set(&[other], Some(slot(1, 1)));
                }
                for (version, moved) in frames {
                    let key = Vec::from([200]);
                    push(&mut pending, &Made::from([(key, Some(slot(*version, 1)))]), *moved);
                }
                pending.settle(&mut table)
            };
            assert_eq!(settle(&[(5, false), (5, true), (6, false), (6, true)]), Ok(()));
            assert_eq!(settle(&[(5, true), (6, false)]), Ok(()), "what it rewrites was removed");
            let wrong = Err(FrameError::OutOfOrder);
            assert_eq!(settle(&[(5, false), (6, true)]), wrong);
            assert_eq!(settle(&[(5, false), (6, false), (5, true)]), wrong);
        }
    }
}
