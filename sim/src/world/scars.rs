//! One byte of one node that is another one, and what became of it.
//!
//! Rot strikes where a log must find it ([`super::disaster`]). Here nothing is spared: any byte of any file, the unwritten rest of a
//! segment and the batch that was synced a moment ago included. Whatever it was, nobody may be given a wrong byte, nothing
//! that was acknowledged may be lost, and at the end the node is whole again; the ordinary oracles say so. What is
//! counted here is which bytes those were, and what their node had to say of them.

use super::{Machine, World};
use crate::checkers::durable::Part;
use crate::draw::{Domain, Draw};
use crate::faults::{Crash, Down};
use crate::stats::Stats;
use crate::trace::Kind;
use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::node::trace::Trace;
use std::collections::BTreeMap;

/// The byte of a run.
#[derive(Debug, Default)]
pub(super) struct Scars {
    /// Nodes whose byte is changed when they are down: what names it.
    waiting: BTreeMap<usize, u64>,
    made: Vec<Scar>,
}

#[derive(Debug)]
struct Scar {
    node: usize,
    file: FileId,
    part: Part,
    /// The node has found damage since.
    found: bool,
    /// The node has refused to go on since.
    halted: bool,
}

impl Scars {
    /// A node says what happened.
    pub(super) fn hear(&mut self, node: usize, trace: &Trace) {
        if matches!(trace, Trace::Damaged { .. } | Trace::StateDamaged { .. }) {
            let mine = self.made.iter_mut().filter(|scar| scar.node == node);
            mine.for_each(|scar| scar.found = true);
        }
    }

    /// Whether one of this node's bytes was changed.
    pub(super) fn has(&self, node: usize) -> bool {
        self.made.iter().any(|scar| scar.node == node)
    }

    pub(super) fn halted(&mut self, node: usize) {
        let mine = self.made.iter_mut().filter(|scar| scar.node == node);
        mine.for_each(|scar| scar.halted = true);
    }
}

impl Scar {
    /// Under which name it is counted.
    fn name(&self) -> String {
        let kind = match self.file.kind {
            FileKind::Superblock => "superblock",
            FileKind::Wal => "wal",
            FileKind::Table => "table",
            FileKind::Chunk => "chunk",
            FileKind::Spare => "spare",
            FileKind::Index => "index",
            FileKind::Engine => "engine",
        };
        let part = match self.part {
            Part::Header => "-header",
            Part::Marked => "-batch",
            Part::Unmarked => "-batch-without-mark",
            Part::Rest => "",
        };
        let became = match (self.found, self.halted) {
            (_, true) => "refused",
            (true, _) => "found",
            (false, _) => "unnoticed",
        };
        format!("byte-in-{kind}{part}-{became}")
    }
}

impl<M: Machine> World<M> {
    /// One byte is changed: now, or when the node has gone down for it.
    pub(super) fn scar(&mut self, node: usize, salt: u64, down: Option<Down>) -> bool {
        let Some(Down { how, lasts }) = down.filter(|_| self.slots[node].is_up()) else {
            return self.change_byte(node, salt);
        };
        self.scars.waiting.insert(node, salt);
        // A process that is being stopped goes down for its operator.
        self.crash(node, how, lasts) || how == Crash::Stop
    }

    /// A node has gone down.
    pub(super) fn scar_the_fallen(&mut self, node: usize) {
        if let Some(salt) = self.scars.waiting.remove(&node) {
            self.change_byte(node, salt);
        }
    }

    /// Any byte of any file, most often one that was written: segments are mostly room.
    fn change_byte(&mut self, node: usize, salt: u64) -> bool {
        let id = self.slots[node].id;
        let mut draw = Draw::new(self.setup.seed, Domain::Byte, &[salt]);
        let disk = &mut self.slots[node].disk;
        let how = draw.below(4);
        let mut ranges = disk.ranges(how > 0);
        if how > 1 && !ranges.is_empty() {
            // Small files are as good a target as large ones.
            let kind = draw.pick(&ranges).0.kind;
            let (wal, table) = (FileKind::Wal, FileKind::Table);
            let kinds = [kind, kind, wal, wal, table, table, FileKind::Chunk, FileKind::Superblock];
            let kind = *draw.pick(&kinds);
            if ranges.iter().any(|(file, ..)| file.kind == kind) {
                ranges.retain(|(file, ..)| file.kind == kind);
            }
        }
        let total: u64 = ranges.iter().map(|(.., len)| *len).sum();
        for _ in 0..TRIES {
            if total == 0 {
                return false;
            }
            let mut at = draw.below(total);
            let range = ranges.iter().find(|(.., len)| {
                let here = at < *len;
                at -= if here { 0 } else { *len };
                here
            });
            let Some((file, start, _)) = range else { return false };
            let (file, offset, mask) = (*file, start + at, draw.between(1, 255) as u8);
            let disk = &mut self.slots[node].disk;
            // Of what was written, what is not zero is likelier to mean something.
            let empty = disk.read_durable(file, offset, 1).is_none_or(|byte| byte == [0]);
            if how > 0 && empty && draw.chance(7, 8) {
                continue;
            }
            let Some(before) = disk.change(file, offset, mask) else { continue };
            let part = self.oracles.durable.part(id, file, offset);
            self.oracles.durable.changed(id, file, offset);
            let line = || {
                format!(
                    "{id:?}: byte {offset} of {file} ({part:?}), {before:#04x}, is changed by {mask:#04x}"
                )
            };
            let parts = [node as u64, file.number, offset, u64::from(mask)];
            self.tracer.event(self.now, Kind::Fault, &parts, line);
            self.scars.made.push(Scar { node, file, part, found: false, halted: false });
            return true;
        }
        false
    }

    /// The run is over: what became of the bytes.
    pub(super) fn count_scars(&mut self) {
        for scar in &self.scars.made {
            Stats::count(&mut self.stats.rare, &scar.name(), 1);
        }
    }
}

/// So many bytes are looked at for one that is at rest.
const TRIES: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Order, run};
    use crate::setup::Overrides;

    #[test]
    fn one_byte_of_each_run_is_changed_and_those_that_matter_are_found() {
        let mut sum = Stats::default();
        for seed in 0..RUNS {
            let overrides = Overrides { region: Some("bytes".into()), ..Overrides::default() };
            let report = run(&Order { overrides, ..Order::new(seed) }, None);
            assert_eq!(report.violation, None, "seed {seed}");
            sum.add(&report.stats);
        }
        let of = |end: &str| {
            let named = sum.rare.iter().filter(|(name, _)| name.starts_with("byte-in-"));
            named.filter(|(name, _)| name.ends_with(end)).map(|(_, count)| count).sum::<u64>()
        };
        assert!(of("") >= RUNS - 2, "{:?}", sum.rare);
        assert!(of("-batch-found") >= RUNS / 12, "{:?}", sum.rare);
    }

    const RUNS: u64 = 24;
}
