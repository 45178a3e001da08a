//! The bytes that the records of the states name in the table log.

use super::findings::{self, Finding, Groups, Kind, Verified};
use super::store::Store;
use ironseed_core::kv::table::RecordLocation;
use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::node::offline::Found;
use ironseed_core::types::GroupId;
use std::ops::Bound;

/// Bytes that are read at once: records of one segment stand close together.
const WINDOW_BYTES: u64 = 1 << 20;

/// Reads every body of every state and compares its checksum.
pub(super) fn check(store: &Store, found: &Found, verified: &mut Verified) {
    let mut places = Vec::new();
    for (group, it) in &found.groups {
        let Some(state) = &it.state else { continue };
        let slots = state.table().scan(&[], Bound::Unbounded).map(|(_, slot)| slot);
        for slot in slots {
            verified.count("state records", 1);
            if let Some(location) = slot.body.location()
                && location.bytes > 0
            {
                places.push((location, *group));
            }
        }
    }
    places.sort_unstable_by_key(|(location, _)| (location.segment, location.offset));
    places.dedup();
    let mut window = Window::default();
    for (location, group) in places {
        verified.count("state bytes", u64::from(location.bytes));
        if !window.holds(store, &location) {
            verified.add(lost(location, group));
        }
    }
}

fn lost(location: RecordLocation, group: GroupId) -> Finding {
    let file = FileId::new(FileKind::Table, location.segment);
    let what = String::from("the bytes of a record");
    let groups = Groups::one(group.0);
    let bytes = Some(u64::from(location.bytes));
    Finding { bytes, ..findings::finding(file, location.offset, Kind::Body, groups, what) }
}

/// The part of the table log that was read last.
#[derive(Default)]
pub(super) struct Window {
    segment: u64,
    start: u64,
    bytes: bytes::Bytes,
}

impl Window {
    /// The bytes there, if they are as they were written.
    pub(super) fn get(&mut self, store: &Store, location: &RecordLocation) -> Option<&[u8]> {
        let file = FileId::new(FileKind::Table, location.segment);
        let end = location.offset.checked_add(u64::from(location.bytes))?;
        let read_to = self.start + self.bytes.len() as u64;
        if self.segment != location.segment || location.offset < self.start || end > read_to {
            let range = location.offset..end.max(location.offset.saturating_add(WINDOW_BYTES));
            (self.bytes, _) = store.read_around(file, &range);
            (self.segment, self.start) = (location.segment, location.offset);
        }
        let from = usize::try_from(location.offset - self.start).ok()?;
        let bytes = self.bytes.get(from..from + location.bytes as usize)?;
        location.verify(bytes).then_some(bytes)
    }

    fn holds(&mut self, store: &Store, location: &RecordLocation) -> bool {
        self.get(store, location).is_some()
    }
}
