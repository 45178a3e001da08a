//! Disks that are lost, whole or in part, and writes that are found in another place.
//!
//! **A lost disk.** What an operator can do about one is put back what is left of it, or give the node another one.
//! With the superblock the node is still the one that it was: its groups abstain until they are readmitted, and its
//! peers give it back what it had. With an empty disk it is a stranger: every member refuses it, for the charter names
//! another store. Then the operator lets it in ([`super::operator`]), or never: from then on nobody waits for that node, and if
//! it ever took part that would be the violation ([`World::check_stranger`]).
//!
//! **A misdirected write** is two wounds at once: a place that should have changed and did not, and a place that should
//! not have and did. A log finds the first only behind its sync mark, like rot, for beyond it a write that went
//! elsewhere and a write that was never made look the same ([`crate::checkers::durable`]). Nobody reads a batch of a
//! log between its sync and the mark that vouches for it, so the write is done where it should be, and moved when the mark
//! has passed: no machine can tell the difference.

use super::{Event, Machine, World};
use crate::checkers::Violation;
use crate::disk::Disk;
use crate::draw::{Domain, Draw};
use crate::faults::Left;
use crate::stats::Stats;
use crate::trace::Kind;
use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::node::message::{Head, PeerMessage};
use ironseed_core::node::superblock::{self, COPY_BYTES, Membership, Superblock};
use ironseed_core::types::{NodeId, StoreId};
use std::collections::BTreeMap;

/// Nodes with another disk than the one that they were founded with.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    nodes: BTreeMap<usize, Replacement>,
}

#[derive(Debug)]
struct Replacement {
    stage: Stage,
    /// How long after it is refused first the operator lets it in, if he ever does: nanoseconds.
    admitted_after: Option<u64>,
    /// The store that a member has refused since.
    refused: Option<StoreId>,
}

/// How far a new disk has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It must not take part.
    Outside,
    /// The operator has asked for it.
    Asked,
    /// It belongs to the cluster.
    Admitted,
}

impl Replaced {
    /// Whether it has another disk than it was founded with.
    pub(super) fn has(&self, node: usize) -> bool {
        self.nodes.contains_key(&node)
    }

    pub(super) fn stage(&self, node: usize) -> Option<Stage> {
        self.nodes.get(&node).map(|it| it.stage)
    }

    /// Whether it belongs to the cluster with the disk that it has.
    pub(super) fn is_whole(&self, node: usize) -> bool {
        self.stage(node).is_none_or(|stage| stage == Stage::Admitted)
    }

    /// Whether the cluster has to do without it for good.
    pub(super) fn is_out(&self, node: usize) -> bool {
        let out = |it: &Replacement| it.stage != Stage::Admitted && it.admitted_after.is_none();
        self.nodes.get(&node).is_some_and(out)
    }

    fn lose(&mut self, node: usize, admitted_after: Option<u64>) {
        let stage = Stage::Outside;
        self.nodes.insert(node, Replacement { stage, admitted_after, refused: None });
    }

    /// A member refuses this store. When the operator is to let it in, if he does and has not been told.
    pub(super) fn refuse(&mut self, node: usize, store: StoreId) -> Option<u64> {
        let it = self.nodes.get_mut(&node).filter(|it| it.stage != Stage::Admitted)?;
        let known = it.refused.replace(store).is_some();
        it.admitted_after.filter(|_| !known)
    }

    /// The store that the operator is to let in now.
    pub(super) fn wanted(&self, node: usize) -> Option<StoreId> {
        let it = self.nodes.get(&node)?;
        let wanted = it.stage != Stage::Admitted && it.admitted_after.is_some();
        it.refused.filter(|_| wanted)
    }

    pub(super) fn ask(&mut self, node: usize) {
        if let Some(it) = self.nodes.get_mut(&node) {
            it.stage = Stage::Asked;
        }
    }

    pub(super) fn admit(&mut self, node: usize) {
        if let Some(it) = self.nodes.get_mut(&node) {
            it.stage = Stage::Admitted;
        }
    }
}

impl<M: Machine> World<M> {
    /// A node loses its disk but for what is left. `false` if there is nothing to lose, or a cluster that is not
    /// complete yet would never be.
    pub(super) fn lose_disk(
        &mut self,
        node: usize,
        left: Left,
        lasts: u64,
        admitted_after: Option<u64>,
    ) -> bool {
        let is_member = |disk: &Disk| {
            let block = superblock_of(disk);
            block.filter(|block| matches!(block.membership, Membership::Member(_)))
        };
        // Until its superblock says so, a node that finds no log is new: it may have promised nothing yet.
        let has_logs = is_member(&self.slots[node].disk).is_some_and(|block| block.logs);
        let mut slots = self.slots.iter().enumerate();
        let complete =
            slots.all(|(other, slot)| self.replaced.has(other) || is_member(&slot.disk).is_some());
        if !has_logs || !complete || !self.replaced.is_whole(node) {
            return false;
        }
        let until = self.now + lasts;
        let (id, now) = (self.slots[node].id, self.now);
        self.slots[node].disk.lose_power(now);
        if self.slots[node].is_up() {
            self.fall(node, until, "loses its disk");
        } else {
            let slot = &mut self.slots[node];
            slot.up_at = slot.up_at.max(until);
            let (delay, boot) = (slot.up_at - now, slot.boot);
            self.schedule(delay, Event::Boot { node, boot });
        }
        let disk = &mut self.slots[node].disk;
        disk.lose(|file| match left {
            Left::Nothing => true,
            Left::Superblock => file.kind != FileKind::Superblock,
            Left::Logs => file.kind == FileKind::Superblock,
            Left::NoWal => file.kind == FileKind::Wal,
            Left::NoTable => matches!(file.kind, FileKind::Table | FileKind::Engine),
            Left::NoChunks => file.kind == FileKind::Chunk,
        });
        self.oracles.durable.lost(id, disk);
        if matches!(left, Left::Nothing | Left::Logs) {
            self.replaced.lose(node, admitted_after);
        }
        true
    }

    /// A node has said why it can't go on: where nothing says what a disk is, its operator does as he is told.
    pub(super) fn empty_refused_disk(&mut self, node: usize) {
        let (id, disk) = (self.slots[node].id, &mut self.slots[node].disk);
        if !self.replaced.is_whole(node) && superblock_of(disk).is_none() {
            disk.lose(|_| true);
            self.oracles.durable.lost(id, disk);
            Stats::count(&mut self.stats.rare, "disk-refused-by-its-node", 1);
        }
    }

    /// A store that the charter does not name may say hello and nothing else.
    pub(super) fn check_stranger(&mut self, node: usize, message: &PeerMessage) {
        let outside = self.replaced.stage(node) == Some(Stage::Outside);
        if outside && !matches!(message.head, Head::Hello { .. }) {
            let id = self.slots[node].id;
            let what = format!("{id:?} has an empty disk and takes part: {:?}", message.head);
            self.violate(Violation::new("replaced", self.now, what));
        }
    }

    /// Nodes that the cluster has to do without for good.
    #[must_use]
    pub fn out_for_good(&self) -> Vec<NodeId> {
        let out = (0..self.slots.len()).filter(|node| self.replaced.is_out(*node));
        out.map(|node| self.slots[node].id).collect()
    }

    /// Nodes with another disk that no member has refused, or that are to be let in and are not.
    #[must_use]
    pub fn unrefused(&self) -> Vec<String> {
        let open = self.replaced.nodes.iter().filter(|(_, it)| match it.stage {
            Stage::Outside => it.refused.is_none() || it.admitted_after.is_some(),
            Stage::Asked => true,
            Stage::Admitted => false,
        });
        let say = |(node, it): (&usize, &Replacement)| {
            let (id, stage) = (self.slots[*node].id, it.stage);
            match it.refused {
                None => format!("{id:?} has another disk, and nobody refuses it"),
                Some(_) => format!("{id:?} has another disk, and is not let in: {stage:?}"),
            }
        };
        open.map(say).collect()
    }

    /// A write turns out to have gone elsewhere. `false` if this disk has none that may.
    pub(super) fn misdirect(&mut self, node: usize, salt: u64) -> bool {
        let id = self.slots[node].id;
        let mut draw = Draw::new(self.setup.seed, Domain::Misdirect, &[salt]);
        let marked = self.oracles.durable.rottable(id);
        let writes: Vec<_> = marked.iter().copied().filter(|(_, start, _)| *start > 0).collect();
        if writes.is_empty() {
            return false;
        }
        // The youngest of a log is the one that most depends on.
        let youngest = |kind| writes.iter().rev().find(|(file, ..)| file.kind == kind);
        let kind = *draw.pick(&[FileKind::Wal, FileKind::Table, FileKind::Chunk]);
        let young = youngest(kind).copied().filter(|_| draw.chance(1, 2));
        let write = young.unwrap_or_else(|| *draw.pick(&writes));
        let (to, offset, room) = if draw.chance(1, 8) && has_equal_copies(&self.slots[node].disk) {
            // The first copy of the superblock, which is also the first to be written anew: the second is good
            // whatever happens meanwhile.
            (SUPERBLOCK, 0, COPY_BYTES as u64)
        } else if draw.chance(1, 3) {
            // Behind the end of a log, where nothing is yet.
            let (file, ..) = *draw.pick(&writes);
            let tail = self.oracles.durable.tail(id, file).unwrap_or(0);
            (file, tail + BLOCK * draw.magnitude(1, 256), u64::MAX)
        } else {
            let (file, start, _) = *draw.pick(&marked);
            let ends = marked.iter().filter(|(other, ..)| *other == file).map(|(.., end)| *end);
            // What lies beyond the mark is not vouched for: a write that goes there is cut off.
            (file, start, ends.max().unwrap_or(0) - start)
        };
        let (file, start, end) = write;
        let len = (end - start).min(room);
        if !self.slots[node].disk.misdirect(file, start..end, to, offset, len) {
            return false;
        }
        self.oracles.durable.struck(id, file);
        self.oracles.durable.struck(id, to);
        let line = || format!("{id:?}: {len} bytes of {file} at {start} are in {to} at {offset}");
        let parts = [node as u64, file.number, start, to.number, offset];
        self.tracer.event(self.now, Kind::Fault, &parts, line);
        Stats::count(&mut self.stats.rare, "write-misdirected", 1);
        true
    }
}

/// What a power loss at this moment leaves of a superblock.
fn superblock_of(disk: &Disk) -> Option<Superblock> {
    let bytes = disk.read_durable(SUPERBLOCK, 0, 2 * COPY_BYTES)?;
    superblock::newest(&bytes).ok().map(|(_, block)| block)
}

/// Whether both copies of a superblock are good and say the same.
fn has_equal_copies(disk: &Disk) -> bool {
    let copy = |at: usize| {
        let bytes = disk.read_durable(SUPERBLOCK, at as u64, COPY_BYTES)?;
        superblock::decode_copy(&bytes).ok()
    };
    let (first, second) = (copy(0), copy(COPY_BYTES));
    first.is_some() && first == second
}

const SUPERBLOCK: FileId = FileId::new(FileKind::Superblock, 0);

/// What writes of a file system are aligned to: bytes.
const BLOCK: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Fault, Planned};
    use crate::run::{Order, Report, run};
    use crate::setup::Overrides;
    use std::collections::BTreeMap;

    /// A victim of this seed loses something every 600 ms.
    fn struck(seed: u64, fault: impl Fn(u32, u64) -> Fault) -> Report {
        let overrides = Overrides {
            nodes: Some(3),
            shards: Some(2),
            millis: Some(3_000),
            faults: Some(Vec::new()),
            calm: vec![crate::choices::Calm::Syncs],
            ..Overrides::default()
        };
        let setup = crate::setup::Setup::draw(seed, &overrides);
        let victim = setup.victims[0].0;
        let plan = (1..5).map(|at| Planned { at: at * 600_000_000, fault: fault(victim, at) });
        let overrides = Overrides { plan: Some(plan.collect()), ..overrides };
        run(&Order { overrides, ..Order::new(seed) }, None)
    }

    fn rare(
        seeds: core::ops::Range<u64>,
        fault: impl Fn(u32, u64) -> Fault,
    ) -> BTreeMap<String, u64> {
        let mut sum = Stats::default();
        for seed in seeds {
            let report = struck(seed, &fault);
            assert_eq!(report.violation, None, "seed {seed}");
            sum.add(&report.stats);
        }
        sum.rare.extend(sum.faults);
        sum.rare
    }

    fn lost(node: u32, left: Left) -> Fault {
        Fault::DiskLoss { node, left, lasts: 50_000_000, admitted_after: None }
    }

    #[test]
    fn a_new_disk_that_is_let_in_is_given_everything() {
        let admitted_after = Some(100_000_000);
        let seen = rare(0..8, |node, _| match lost(node, Left::Nothing) {
            Fault::DiskLoss { node, left, lasts, .. } => {
                Fault::DiskLoss { node, left, lasts, admitted_after }
            }
            fault => fault,
        });
        assert!(seen["disk-replacement-admitted"] >= 16, "again and again: {seen:?}");
        assert!(seen["boot-with-nothing"] >= 16, "{seen:?}");
        assert!(seen["replica-readmitted"] >= 16, "{seen:?}");
    }

    #[test]
    fn an_empty_disk_is_refused_and_the_others_go_on() {
        let seen = rare(0..4, |node, _| lost(node, Left::Nothing));
        assert_eq!(seen.get("disk-replaced"), Some(&4), "once each: {seen:?}");
        assert!(seen["stranger-refused"] >= 4, "{seen:?}");
    }

    #[test]
    fn logs_without_a_superblock_are_refused_by_their_own_node() {
        let seen = rare(0..3, |node, _| lost(node, Left::Logs));
        assert_eq!(seen.get("disk-refused-by-its-node"), Some(&3), "{seen:?}");
        assert!(seen["stranger-refused"] >= 3, "{seen:?}");
    }

    #[test]
    fn a_node_that_kept_its_superblock_is_healed() {
        let seen = rare(0..4, |node, _| lost(node, Left::Superblock));
        assert!(seen["disk-lost-in-part"] >= 8, "{seen:?}");
        assert!(seen["replica-readmitted"] >= 8, "{seen:?}");
    }

    #[test]
    fn each_log_that_is_lost_is_missed_and_given_back() {
        for (left, sign) in [(Left::NoWal, "replica-readmitted"), (Left::NoTable, "state-damaged")]
        {
            let seen = rare(0..6, |node, _| lost(node, left));
            // A log that still has everything makes the lost table again.
            assert!(seen.get(sign).is_some_and(|count| *count > 1), "{left:?}: {seen:?}");
        }
    }

    #[test]
    fn a_misdirected_write_is_found_at_both_places() {
        let crash = |node| Fault::Crash {
            nodes: vec![node],
            how: crate::faults::Crash::Kill,
            moment: crate::faults::Moment::Now,
            lasts: 1_000_000,
        };
        let seen = rare(0..6, |node, at| match at % 2 {
            1 => Fault::Misdirect { node, salt: at },
            _ => crash(node),
        });
        assert!(seen["write-misdirected"] >= 6, "{seen:?}");
        assert!(seen["corruption-found"] >= 6, "{seen:?}");
    }
}
