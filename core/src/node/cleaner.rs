//! Cleaning of the table log: when most of it is dead, what is current in its oldest segment is rewritten
//! at its end, and the segment goes.
//!
//! Oldest first, because then nothing that the segment removes (a deletion, say) can be about a record
//! of an older one. Each frame of the segment is read and given to its replica, which rewrites what is
//! current of it; at the end each replica says whether it still needs the segment.

use super::patient::Report;
use super::post::{Post, ReplicaInput};
use super::store::{Logs, Out};
use super::trace::Trace;
use crate::kv::frame::Place;
use crate::machine::{FileId, FileKind, IoDone, IoResult};
use crate::types::{Damage, GroupId, OpId};
use crate::wal::Location;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// Where a frame of the table log is in its segment, for the cleaner: in half the space of a group and a [`Location`],
/// because a node that writes little at a time has a frame for every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct FrameAt {
    group: GroupId,
    offset: u32,
    bytes: u32,
    crc: u32,
}

impl FrameAt {
    /// # Panics
    /// If it is behind [`crate::kv::table::Stored::SEGMENT_BYTES_MAX`]: no segment of the table log is that long.
    pub(super) fn new(group: GroupId, location: Location) -> Self {
        let Location { offset, bytes, crc, .. } = location;
        let offset = u32::try_from(offset);
        let offset = offset.unwrap_or_else(|_| panic!("a frame of {group} at {location:?}"));
        Self { group, offset, bytes, crc }
    }

    /// Whose it is and where.
    pub(super) fn of(self, segment: u64) -> (GroupId, Location) {
        let Self { group, offset, bytes, crc } = self;
        (group, Location { segment, offset: u64::from(offset), bytes, crc })
    }
}

/// Cleaning under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Cleaner {
    /// What is current, by group, as the replicas last said.
    live: BTreeMap<GroupId, u64>,
    work: Option<Work>,
}

impl Cleaner {
    /// What is current, as far as the replicas have said. `None` if a segment had to stay, and nobody has said so since.
    pub(super) fn live(&self) -> Option<u64> {
        (!self.live.is_empty()).then(|| self.live.values().sum())
    }

    /// Waits until the replicas say again what is current.
    pub(super) fn forget_live(&mut self) {
        self.live.clear();
    }
}

#[derive(Clone, Debug)]
struct Work {
    segment: u64,
    /// Frames that are still to be read, the next one last.
    frames: Vec<FrameAt>,
    groups: BTreeSet<GroupId>,
    reading: Option<(OpId, GroupId, Location)>,
    /// Groups that have not yet said whether they need the segment; `None` while frames are read.
    asked: Option<BTreeSet<GroupId>>,
    needed: bool,
}

impl Logs {
    /// What is current of a group's records.
    pub(super) fn on_live(&mut self, group: GroupId, bytes: u64) {
        self.cleaner.live.insert(group, bytes);
    }

    /// Begins or goes on with cleaning.
    pub(super) fn clean(&mut self, out: &mut Out<'_>) {
        if self.table.log().is_none() {
            return self.sweep(out);
        }
        if self.cleaner.work.is_none() {
            self.cleaner.work = self.choose();
        }
        let Some(work) = &mut self.cleaner.work else { return };
        if work.reading.is_some() || work.asked.is_some() {
            return;
        }
        match work.frames.pop() {
            Some(frame) => {
                let (group, location) = frame.of(work.segment);
                let io = self.table.read(location, &mut self.read_ops);
                work.reading = Some((io.op, group, location));
                out.ios.push(io);
            }
            None => {
                work.asked = Some(work.groups.clone());
                let segment = work.segment;
                for group in &work.groups {
                    let input = ReplicaInput::Cleaned { segment };
                    out.posts.push(Post::Replica(*group, input));
                }
            }
        }
    }

    /// The oldest segment, if the log holds much more than what is current.
    fn choose(&self) -> Option<Work> {
        let live = self.cleaner.live()?;
        let log = self.table.log()?;
        let current = log.current_segment()?;
        let used: u64 = log.segments().map(|segment| segment.used).sum();
        let oldest = log.segments().next()?;
        let worth = used > 2 * live + 2 * oldest.capacity;
        // Not while the disk is full: rewriting takes space before it gives any back.
        if !worth || oldest.number == current || self.is_full() {
            return None;
        }
        // It is clean already, and goes as soon as what was rewritten is durable.
        if self.cleaned.iter().any(|(_, segment)| *segment == oldest.number) {
            return None;
        }
        let mut frames = self.frames.get(&oldest.number).cloned().unwrap_or_default();
        frames.reverse();
        // Every group may hold its mark there, also without a frame that is still known.
        let groups = self.cleaner.live.keys().copied().collect();
        let segment = oldest.number;
        Some(Work { segment, frames, groups, reading: None, asked: None, needed: false })
    }

    /// Returns whether the operation was the cleaner's.
    pub(super) fn on_clean_read(&mut self, op: OpId, result: &IoResult, out: &mut Out<'_>) -> bool {
        let Some(work) = &mut self.cleaner.work else { return false };
        let Some((_, group, location)) = work.reading.take_if(|(reading, ..)| *reading == op)
        else {
            return false;
        };
        match result {
            Ok(IoDone::Data(payload)) if location.verify(payload) => {
                let place = Place { segment: location.segment, offset: location.offset };
                let input = ReplicaInput::Clean { place, payload: payload.clone() };
                out.posts.push(Post::Replica(group, input));
            }
            _ => {
                // What the device can't read now is tried again. What is damaged stays as long as something in it is current:
                // for its reader, or until a peer has given the group another state.
                work.needed |= result.is_err();
                let damage = Damage {
                    file: FileId::new(FileKind::Table, location.segment),
                    offset: location.offset,
                    what: String::from("frame does not match its checksum"),
                };
                if result.is_ok() {
                    out.posts.push(Post::Replica(group, ReplicaInput::FrameLost(damage.clone())));
                }
                out.posts.push(Post::Trace(Trace::Damaged { damage }));
            }
        }
        true
    }

    /// A replica says whether it needs the segment. When all have, and none does, it goes as soon as
    /// what was rewritten is durable.
    pub(super) fn on_needed(&mut self, group: GroupId, segment: u64, needed: bool) {
        let Some(work) = self.cleaner.work.as_mut().filter(|work| work.segment == segment) else {
            return;
        };
        let Some(asked) = &mut work.asked else { return };
        asked.remove(&group);
        work.needed |= needed;
        if !asked.is_empty() {
            return;
        }
        let keep = work.needed;
        self.cleaner.work = None;
        if keep {
            // Tried again when the replicas next say what is current.
            self.cleaner.forget_live();
        } else {
            self.table.request_sync();
            let appended = self.table.log().map(|log| (log.appended(), segment));
            self.cleaned.extend(appended);
        }
    }

    /// Removes segments whose successors are durable.
    pub(super) fn remove_cleaned<T>(&mut self, report: &Report<T>) {
        let Report::Durable(upto) = report else { return };
        let ready: Vec<u64> = self
            .cleaned
            .iter()
            .filter(|(lsn, _)| lsn <= upto)
            .map(|(_, segment)| *segment)
            .collect();
        self.cleaned.retain(|(lsn, _)| lsn > upto);
        let Some(log) = self.table.log_mut() else { return };
        for segment in ready {
            log.remove_segment(segment);
        }
    }
}
