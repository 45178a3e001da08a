//! What a node boots from: two boots of one disk come to the same, and what an engine holds is whole.
//!
//! **Two boots of one disk**: by way of a snapshot of the index, and from the logs alone.
//!
//! When a node boots that has a snapshot, its disk is read twice beside it, as an operator's tool would: nothing is
//! written. Every group that the logs alone give a state must get the same one from the snapshot and what it leaves to be read: the
//! same position, digest and generation, and sums that are those of its records. The other way round more may be found damaged by the
//! logs alone, because a boot by way of a snapshot doesn't look at all of them. Of a disk of which any byte was changed nothing is
//! said: a snapshot also says how far the log was durable, so that what the log alone takes for a torn tail is damage to it.

use super::{Machine, World};
use crate::checkers::Violation;
use crate::disk::Disk;
use crate::stats::Stats;
use bytes::Bytes;
use ironseed_core::kv::rows::{self, Catalogue};
use ironseed_core::machine::{FileId, FileKind, Io, IoDone, IoError, IoOp, IoResult};
use ironseed_core::node::offline::{Found, FoundGroup, Survey};
use ironseed_core::node::superblock::{self, COPY_BYTES, Membership, Superblock};
use ironseed_core::rows::Space;
use ironseed_core::types::GroupId;
use std::collections::{BTreeSet, VecDeque};

impl<M: Machine> World<M> {
    /// Whatever a crash has left of an engine: there is a body for each record that counts, or nobody could read it.
    pub(super) fn check_engine(&mut self, node: usize) {
        let engine = self.slots[node].disk.engine();
        let mut catalogue = Catalogue::default();
        for (key, value) in engine.range(Space::Records, Catalogue::range()) {
            if !catalogue.add(key, value) {
                return;
            }
        }
        let has_body = |row: &Bytes| {
            let place = rows::place_of(row);
            place.is_some_and(|it| it.bytes == 0 || engine.has(Space::Bodies, &rows::body_key(it)))
        };
        let lacks = catalogue.heads().find_map(|(group, _, keys)| {
            let mut records = engine.range(Space::Records, keys);
            records.find(|(_, row)| !has_body(row)).map(|(key, _)| (group, key.clone()))
        });
        Stats::count(&mut self.stats.rare, "engine-looked-through", 1);
        if let Some((group, key)) = lacks {
            let id = self.slots[node].id;
            let what = format!("the engine of {id:?} has no body for {key:?} of {group:?}");
            self.violate(Violation::new("engine", self.now, what));
        }
    }

    /// Compares the two, if this node has a snapshot.
    pub(super) fn check_index(&mut self, node: usize) {
        let disk = &mut self.slots[node].disk;
        let has_index = disk.found().iter().any(|it| it.file.kind == FileKind::Index);
        if !has_index || self.scars.has(node) {
            return;
        }
        let Some(superblock) = superblock_of(disk) else { return };
        let mut survey = |by_index: bool| {
            let mut ios = Vec::new();
            let files = disk.found();
            let survey = match by_index {
                true => Survey::by_index(&superblock, files, &mut ios),
                false => Survey::new(&superblock, files, &mut ios),
            };
            run(disk, survey.ok()?, ios)
        };
        // A log that can't be opened: the node says so itself.
        let Some(whole) = survey(false) else { return };
        let found = survey(true);
        let given_up = &self.slots[node].given_up;
        let found = found.map(|by_index| difference(&whole, &by_index, given_up));
        Stats::count(&mut self.stats.rare, "two-boots-compared", 1);
        if let Some(what) = found.unwrap_or_else(|| Some("it can't be opened".into())) {
            let what =
                format!("{:?} by way of a snapshot of the index: {what}", self.slots[node].id);
            self.violate(Violation::new("two-boots", self.now, what));
        }
    }
}

/// What a boot by way of a snapshot finds otherwise, of what the logs alone have. Of a replica that was given up a log may still have an earlier life
/// where a snapshot knows of the end of that; nobody needs either, and whoever has lost the word of it is given a state.
fn difference(whole: &Found, by_index: &Found, given_up: &BTreeSet<GroupId>) -> Option<String> {
    if !whole.groups.keys().eq(by_index.groups.keys()) {
        return Some("other groups".into());
    }
    let told_by_logs = whole.groups.iter().filter(|(_, it)| it.damage.is_none());
    told_by_logs.filter(|(group, _)| !given_up.contains(*group)).find_map(|(group, it)| {
        let other = by_index.groups.get(group)?;
        let (one, two) = (told(it), told(other));
        let sums = other.state.as_ref().is_none_or(|state| state.table().is_consistent());
        let same = one == two && other.damage.is_none() && sums;
        (!same)
            .then(|| format!("{group:?} is {two:?} ({:?}, sums {sums}), and {one:?}", other.damage))
    })
}

/// What two boots have to agree on.
fn told(group: &FoundGroup) -> impl PartialEq + core::fmt::Debug {
    let state = group.state.as_ref();
    (group.checkpoint, state.map(|it| (it.state_hash(), it.generation(), it.table().len())))
}

fn superblock_of(disk: &Disk) -> Option<Superblock> {
    let bytes = disk.peek(FileId::new(FileKind::Superblock, 0), 0, 2 * COPY_BYTES)?;
    let (_, superblock) = superblock::newest(&bytes).ok()?;
    matches!(superblock.membership, Membership::Member(_)).then_some(superblock)
}

fn run(disk: &mut Disk, mut survey: Survey, ios: Vec<IoOp>) -> Option<Found> {
    let mut queue = VecDeque::from(ios);
    while let Some(IoOp { op, io }) = queue.pop_front() {
        let mut ios = Vec::new();
        survey.on_done(op, &pretend(disk, &io), &mut ios).ok()?;
        queue.extend(ios);
    }
    Some(survey.finish())
}

/// Reads; what writes is left out and said to be done.
fn pretend(disk: &mut Disk, io: &Io) -> IoResult {
    match io {
        Io::Read { file, offset, len } => disk
            .peek_again(*file, *offset, *len as usize)
            .map(IoDone::Data)
            .ok_or(IoError::NotFound),
        _ => Ok(IoDone::Ok),
    }
}
