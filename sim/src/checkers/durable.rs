//! The durable view: what every disk would still hold if all power went now.
//!
//! When a node is about to acknowledge a write, a quorum of nodes must hold its log entry durably: in
//! whole, with good checksums, in bytes that no power loss can take. The oracle decodes the logs on the
//! simulated disks as they become durable, and so sees an acknowledgement that came too early without
//! any crash to prove it. It knows nothing of who said what to whom. What a replica has applied counts like what is
//! acknowledged: a commit that came too early shows at a follower before anybody is answered.
//!
//! The same decoding says **where rot may strike**: in a batch at or before the last durable sync mark of its
//! log, and in the header of a segment that has such a batch. Never beyond the mark, because what lies there
//! is by definition a torn tail: a log can't tell rot from a write that never finished, and need not.
//! The batch that carries the mark lies beyond it, so the mark itself never rots.

use super::Violation;
use crate::disk::Disk;
use ironseed_core::kv::rows::Catalogue;
use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::rows::Space;
use ironseed_core::types::{GroupId, Index, NodeId, Position, Term};
use ironseed_core::wal::record::{
    BATCH_HEADER_BYTES, BatchHeader, SEGMENT_HEADER_BYTES, Seal, SegmentHeader, decode_batch,
};
use std::collections::{BTreeMap, BTreeSet};

/// What all disks hold durably.
#[derive(Clone, Debug)]
pub struct DurableLog {
    /// How many nodes a quorum of a shard's replicas has.
    quorum: usize,
    /// Kinds of WAL records that hold a log entry.
    entry_kinds: &'static [u8],
    nodes: BTreeMap<NodeId, Logs>,
    /// Whether a file of chunks was ever struck.
    chunks_struck: bool,
}

/// One node's logs.
#[derive(Clone, Debug, Default)]
struct Logs {
    segments: BTreeMap<FileId, Segment>,
    /// The last batch known synced, by the marks that are durable, of each log.
    marks: BTreeMap<FileKind, u64>,
    /// Whole log entries: their term, and the segment that holds them.
    entries: BTreeMap<(GroupId, Index), (Term, FileId)>,
    /// Files that hold other bytes than were written.
    struck: BTreeSet<FileId>,
    /// The highest index of each group of which the table log holds the changes, and so all before it.
    applied: BTreeMap<GroupId, Index>,
    /// Entries that were whole on a disk, or a part of one, that was lost since.
    lost: BTreeMap<(GroupId, Index), Term>,
    /// The same of the changes in its table log.
    lost_applied: BTreeMap<GroupId, Index>,
    /// A batch without a mark that is not what was written, by its number.
    doubtful: Option<(FileId, u64)>,
}

/// What a byte of a log's file is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The header of a segment.
    Header,
    /// A batch that a durable mark vouches for.
    Marked,
    /// A durable batch that no durable mark vouches for yet.
    Unmarked,
    /// Nothing that the log has written and can read.
    Rest,
}

#[derive(Clone, Debug)]
struct Segment {
    seal: Seal,
    /// Where the batch after the last durable one begins.
    next: u64,
    /// Number, start and end of each durable batch.
    batches: Vec<(u64, u64, u64)>,
}

impl DurableLog {
    /// Nothing is durable yet.
    #[must_use]
    pub const fn new(quorum: usize, entry_kinds: &'static [u8]) -> Self {
        Self { quorum, entry_kinds, nodes: BTreeMap::new(), chunks_struck: false }
    }

    /// More of a file has become durable.
    pub fn synced(&mut self, node: NodeId, file: FileId, disk: &Disk) {
        if file.kind == FileKind::Engine {
            return self.nodes.entry(node).or_default().scan_rows(disk);
        }
        if matches!(file.kind, FileKind::Superblock | FileKind::Spare | FileKind::Index) {
            return;
        }
        self.nodes.entry(node).or_default().scan(file, disk, self.entry_kinds);
    }

    /// Names have become durable: files may be gone for good, and others may have come.
    pub fn names_synced(&mut self, node: NodeId, disk: &Disk) {
        let logs = self.nodes.entry(node).or_default();
        let named: BTreeSet<FileId> = disk.durable_files().collect();
        logs.struck.retain(|file| named.contains(file));
        // There is a segment for every file that holds an entry.
        let before = logs.segments.len();
        logs.segments.retain(|file, _| named.contains(file));
        if logs.segments.len() < before {
            logs.entries.retain(|_, (_, file)| named.contains(file));
        }
        for file in named {
            if !matches!(file.kind, FileKind::Superblock | FileKind::Spare | FileKind::Index) {
                logs.scan(file, disk, self.entry_kinds);
            }
        }
    }

    /// A disk has lost files, and what they held. What was committed with that node's copy stays committed, and
    /// may be acknowledged later: such a copy goes on to count for the entries that it held.
    pub fn lost(&mut self, node: NodeId, disk: &Disk) {
        let named: BTreeSet<FileId> = disk.durable_files().collect();
        let kinds: BTreeSet<FileKind> = named.iter().map(|file| file.kind).collect();
        let Some(logs) = self.nodes.get_mut(&node) else { return };
        // What is left is not read again: where it has rotted, nothing behind the damage would be seen.
        logs.segments.retain(|file, _| named.contains(file));
        logs.marks.retain(|kind, _| kinds.contains(kind));
        for (key, (term, _)) in logs.entries.extract_if(.., |_, (_, file)| !named.contains(file)) {
            logs.lost.insert(key, term);
        }
        if !kinds.contains(&FileKind::Table) {
            for (group, index) in core::mem::take(&mut logs.applied) {
                let before = logs.lost_applied.entry(group).or_default();
                *before = index.max(*before);
            }
        }
    }

    /// Bytes of a file are not what was written. A node that finds it out removes the file when it needs it no more,
    /// and knows what it lacks: as with a lost disk, what it held may have been committed with its copy.
    pub fn struck(&mut self, node: NodeId, file: FileId) {
        self.chunks_struck |= file.kind == FileKind::Chunk;
        let Some(logs) = self.nodes.get_mut(&node) else { return };
        logs.struck.insert(file);
        logs.lose_entries(|holder| holder == file);
    }

    /// Whether bytes of a file of chunks have ever been others than were written.
    #[must_use]
    pub const fn chunks_struck(&self) -> bool {
        self.chunks_struck
    }

    /// What a byte of a node's file is a part of, as far as the disk says.
    #[must_use]
    pub fn part(&self, node: NodeId, file: FileId, offset: u64) -> Part {
        let logs = self.nodes.get(&node);
        let Some((logs, segment)) = logs.and_then(|it| Some((it, it.segments.get(&file)?))) else {
            return Part::Rest;
        };
        let mark = logs.marks.get(&file.kind).copied().unwrap_or(0);
        let inside = |(_, start, end): &&(u64, u64, u64)| (*start..*end).contains(&offset);
        match segment.batches.iter().find(inside) {
            Some((seq, ..)) if *seq <= mark => Part::Marked,
            Some(_) => Part::Unmarked,
            None if offset < SEGMENT_HEADER_BYTES as u64 => Part::Header,
            None => Part::Rest,
        }
    }

    /// A byte of a file is not what was written, and it may be one that no mark vouches for yet: if the node reads its log
    /// before there is one, it may take that batch and all behind it for a write that never finished, and write on from there.
    pub fn changed(&mut self, node: NodeId, file: FileId, offset: u64) {
        let part = self.part(node, file, offset);
        self.struck(node, file);
        let Some(logs) = self.nodes.get_mut(&node).filter(|_| part == Part::Unmarked) else {
            return;
        };
        let segment = logs.segments.get(&file);
        let batch = segment.and_then(|it| it.batches.iter().find(|(.., end)| offset < *end));
        logs.doubtful = batch.map(|(seq, ..)| (file, *seq));
    }

    /// A node reads its log again. Of what lies behind the damage it believes what it can prove, and lets others go.
    pub fn booted(&mut self, node: NodeId) {
        let Some(logs) = self.nodes.get_mut(&node) else { return };
        if let Some((file, doubtful)) = logs.doubtful.take()
            && logs.marks.get(&file.kind).is_none_or(|mark| *mark < doubtful)
            && let Some(segment) = logs.segments.get_mut(&file)
        {
            let from = segment.batches.iter().position(|(seq, ..)| *seq >= doubtful);
            if let Some(from) = from {
                segment.next = segment.batches[from].1;
                segment.batches.truncate(from);
            }
        }
        if let Some(first) = logs.struck.iter().find(|file| file.kind == FileKind::Wal).copied() {
            logs.lose_entries(|holder| holder >= first);
        }
    }

    /// Where the next batch of a node's file begins, as far as is durable.
    #[must_use]
    pub fn tail(&self, node: NodeId, file: FileId) -> Option<u64> {
        Some(self.nodes.get(&node)?.segments.get(&file)?.next)
    }

    /// A write is about to be acknowledged whose command is this entry.
    #[must_use]
    pub fn acknowledged(&self, at: u64, group: GroupId, position: Position) -> Option<Violation> {
        self.demand_quorum(at, group, position, "acknowledged")
    }

    /// A replica has applied everything up to this entry.
    #[must_use]
    pub fn applied(&self, at: u64, group: GroupId, position: Position) -> Option<Violation> {
        self.demand_quorum(at, group, position, "applied")
    }

    fn demand_quorum(
        &self,
        at: u64,
        group: GroupId,
        position: Position,
        is: &str,
    ) -> Option<Violation> {
        let holders = || self.nodes.iter().filter(|(_, logs)| logs.holds(group, position));
        (holders().count() < self.quorum).then(|| {
            let holders: Vec<NodeId> = holders().map(|(node, _)| *node).collect();
            let what = format!(
                "{position:?} of {group:?} is {is} and durable on {holders:?} only, of {} needed",
                self.quorum
            );
            Violation::new("durable", at, what)
        })
    }

    /// The entry that is durable on a node at this index of a group's log, as far as its disk says: one that was cut
    /// off stays there until another takes its place.
    #[must_use]
    pub fn entry(&self, node: NodeId, group: GroupId, index: Index) -> Option<Position> {
        let (term, _) = self.nodes.get(&node)?.entries.get(&(group, index))?;
        Some(Position { index, term: *term })
    }

    /// The last entry of a group's log that is durable on a node; 0 if there is none. `holds` says whether the log
    /// still has an entry: one that was cut off it stays on the disk for a while.
    #[must_use]
    pub fn end(&self, node: NodeId, group: GroupId, holds: impl Fn(Position) -> bool) -> Index {
        let Some(logs) = self.nodes.get(&node) else { return Index(0) };
        let range = (group, Index(0))..=(group, Index(u64::MAX));
        let entries = logs.entries.range(range).rev();
        let mut positions =
            entries.map(|((_, index), (term, _))| Position { index: *index, term: *term });
        let end = positions.find(|position| holds(*position)).map_or(Index(0), |found| found.index);
        end.max(logs.applied.get(&group).copied().unwrap_or(Index(0)))
    }

    /// Ranges of a node's files in which rot may strike.
    #[must_use]
    pub fn rottable(&self, node: NodeId) -> Vec<(FileId, u64, u64)> {
        let Some(logs) = self.nodes.get(&node) else { return Vec::new() };
        let mut ranges = Vec::new();
        for (&file, segment) in &logs.segments {
            let mark = logs.marks.get(&file.kind).copied().unwrap_or(0);
            let marked = segment.batches.iter().filter(|(seq, ..)| *seq <= mark);
            let before = ranges.len();
            ranges.extend(marked.map(|&(_, start, end)| (file, start, end)));
            if ranges.len() > before {
                ranges.push((file, 0, SEGMENT_HEADER_BYTES as u64));
            }
        }
        ranges
    }
}

impl Logs {
    fn holds(&self, group: GroupId, position: Position) -> bool {
        let entry = self.entries.get(&(group, position.index));
        let lost = self.lost.get(&(group, position.index));
        let covers = |applied: &BTreeMap<GroupId, Index>| {
            applied.get(&group).is_some_and(|applied| *applied >= position.index)
        };
        entry.is_some_and(|(term, _)| *term == position.term)
            || lost == Some(&position.term)
            || covers(&self.applied)
            || covers(&self.lost_applied)
    }

    /// What these files hold counts as lost from now on, if it is gone one day.
    fn lose_entries(&mut self, is_lost: impl Fn(FileId) -> bool) {
        let held = self.entries.iter().filter(|(_, (_, holder))| is_lost(*holder));
        self.lost.extend(held.map(|(key, (term, _))| (*key, *term)));
    }

    /// Decodes what has become durable behind what is known of a file.
    fn scan(&mut self, file: FileId, disk: &Disk, entry_kinds: &'static [u8]) {
        let Some(mut segment) = self.segments.remove(&file).or_else(|| self.open(file, disk))
        else {
            return;
        };
        while let Some(header) = segment.head(file, disk) {
            let bytes = if file.kind == FileKind::Chunk {
                // Chunks are bulk: their names are checked where they are read.
                None
            } else {
                let Some(bytes) =
                    disk.read_durable(file, segment.next, header.batch_bytes as usize)
                else {
                    break;
                };
                Some(bytes)
            };
            if let Some(bytes) = bytes {
                let Some((_, entries)) = decode_batch(&bytes, &segment.seal, file.number) else {
                    break;
                };
                if entries.iter().any(|(_, good)| !good) {
                    break;
                }
                for (entry, _) in entries {
                    let identity = entry.identity;
                    let key = (identity.group, identity.index);
                    if file.kind == FileKind::Wal && entry_kinds.contains(&identity.kind) {
                        self.entries.insert(key, (identity.term, file));
                    } else if file.kind == FileKind::Table {
                        let applied = self.applied.entry(identity.group).or_default();
                        *applied = identity.index.max(*applied);
                    }
                }
            }
            self.mark(file.kind, header.synced_seq);
            segment.batches.push((header.seq, segment.next, header.end()));
            segment.next = header.end();
        }
        self.segments.insert(file, segment);
    }

    /// What the durable rows of an engine say of the groups' states.
    fn scan_rows(&mut self, disk: &Disk) {
        let mut catalogue = Catalogue::default();
        let (from, before) = Catalogue::range();
        for (key, value) in disk.engine().durable(Space::Records, from, before) {
            assert!(catalogue.add(key, value), "a row that is none: {key:?}");
        }
        for (group, head, _) in catalogue.heads() {
            let applied = self.applied.entry(group).or_default();
            *applied = head.mark.position.index.max(*applied);
        }
    }

    /// A segment whose header has become durable.
    fn open(&mut self, file: FileId, disk: &Disk) -> Option<Segment> {
        let bytes = disk.read_durable(file, 0, SEGMENT_HEADER_BYTES)?;
        // A file that was another segment before has the header of that one until it is written.
        let header =
            SegmentHeader::decode(&bytes).filter(|header| header.segment == file.number)?;
        self.mark(file.kind, header.first_seq.saturating_sub(1));
        Some(Segment {
            seal: Seal::new(&header.store, file.kind),
            next: u64::from(header.block_bytes),
            batches: Vec::new(),
        })
    }

    fn mark(&mut self, kind: FileKind, seq: u64) {
        let mark = self.marks.entry(kind).or_default();
        *mark = seq.max(*mark);
    }
}

impl Segment {
    /// The head of the next batch, if it is durable and this log wrote it here.
    fn head(&self, file: FileId, disk: &Disk) -> Option<BatchHeader> {
        let bytes = disk.read_durable(file, self.next, BATCH_HEADER_BYTES)?;
        let header = BatchHeader::decode_head(&bytes, &self.seal, file.number)?;
        (header.offset == self.next).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Speed;
    use bytes::Bytes;
    use ironseed_core::machine::OpIds;
    use ironseed_core::machine::{FoundFile, Instant, Io, IoOp};
    use ironseed_core::types::{OpId, OpId as Op};
    use ironseed_core::wal::{
        Config, Identity, LogOutput, Record, Recovery, RecoveryOutput, SegmentLog,
    };

    const ENTRY: u8 = 1;
    const G: GroupId = GroupId(4);

    /// A log of the store's own making on a simulated disk.
    struct Rig {
        disk: Disk,
        log: SegmentLog,
        ops: OpIds,
        oracle: DurableLog,
    }

    impl Rig {
        fn new() -> Self {
            let speed = Speed { write: 1000, sync: 1000, read: 1000 };
            let mut config = Config::new(FileKind::Wal, [7; 16]);
            (config.segment_bytes, config.block_bytes) = (64 << 10, 512);
            let mut disk = Disk::new(1, 1, speed);
            let mut ops = OpIds::new(1, 1);
            let mut recovery = Recovery::new(config, &[] as &[FoundFile]);
            let mut out = Vec::new();
            recovery.start(&mut ops, &mut out);
            let mut oracle = DurableLog::new(1, &[ENTRY]);
            let log = loop {
                let mut finished = None;
                for output in core::mem::take(&mut out) {
                    match output {
                        RecoveryOutput::Io(op) => {
                            let result = execute(&mut disk, &mut oracle, op.clone());
                            recovery.on_done(op.op, &result, &mut ops, &mut out);
                        }
                        RecoveryOutput::Finished(log) => finished = Some(*log),
                        other => panic!("an empty disk has {other:?}"),
                    }
                }
                if let Some(log) = finished {
                    break log;
                }
                assert!(!out.is_empty(), "recovery is stuck");
            };
            Self { disk, log, ops, oracle }
        }

        fn append(&mut self, index: u64, kind: u8) {
            let (index, term) = (Index(index), Term(2));
            let identity = Identity { kind, group: G, index, term };
            self.log.append(Record::new(identity, Bytes::from(vec![index.0 as u8; 600])));
        }

        /// Runs the log until it wants nothing more, but for its syncs if they are held back.
        fn run(&mut self, syncs: bool) -> Option<Op> {
            let mut out = Vec::new();
            self.log.pump(Instant(0), &mut self.ops, &mut out);
            while !out.is_empty() {
                for output in core::mem::take(&mut out) {
                    let LogOutput::Io(op) = output else { continue };
                    if matches!(op.io, Io::Sync { .. }) && !syncs {
                        self.disk.issue(0, op.op, op.io);
                        return Some(op.op);
                    }
                    let result = execute(&mut self.disk, &mut self.oracle, op.clone());
                    self.log.on_done(Instant(0), op.op, &result, &mut self.ops, &mut out);
                }
            }
            None
        }

        fn early(&self, index: u64) -> bool {
            let position = Position { term: Term(2), index: Index(index) };
            self.oracle.acknowledged(5, G, position).is_some()
        }
    }

    fn execute(
        disk: &mut Disk,
        oracle: &mut DurableLog,
        IoOp { op, io }: IoOp,
    ) -> ironseed_core::machine::IoResult {
        disk.issue(0, op, io);
        let completion = disk.complete(0, op).expect("nothing crashed");
        if let Some(file) = completion.synced {
            oracle.synced(NodeId(1), file, disk);
        }
        if completion.names_synced {
            oracle.names_synced(NodeId(1), disk);
        }
        completion.result
    }

    #[test]
    fn an_entry_counts_when_its_sync_has_completed_and_not_before() {
        let mut rig = Rig::new();
        // The first batch also makes its segment, with syncs of its own.
        rig.append(9, ENTRY);
        rig.run(true);
        rig.append(1, ENTRY);
        let held: OpId = rig.run(false).expect("an eager log syncs");
        assert!(rig.early(1), "written is not durable");
        let completion = rig.disk.complete(0, held).expect("nothing crashed");
        rig.oracle.synced(NodeId(1), completion.synced.expect("a sync"), &rig.disk);
        assert!(!rig.early(1));
        let other = Position { term: Term(3), index: Index(1) };
        assert!(rig.oracle.acknowledged(5, G, other).is_some(), "another term is another entry");
    }

    #[test]
    fn a_record_that_is_no_entry_does_not_count() {
        let mut rig = Rig::new();
        rig.append(1, ENTRY + 1);
        rig.run(true);
        assert!(rig.early(1));
    }

    #[test]
    fn a_quorum_needs_as_many_nodes() {
        let mut rig = Rig::new();
        rig.oracle.quorum = 2;
        rig.append(1, ENTRY);
        rig.run(true);
        let violation = rig.oracle.acknowledged(5, G, Position { term: Term(2), index: Index(1) });
        assert!(violation.expect("one of two").what.contains("[n1]"));
    }

    #[test]
    fn an_entry_on_a_lost_disk_counts_and_a_later_one_needs_another_disk() {
        let mut rig = Rig::new();
        rig.append(1, ENTRY);
        rig.run(true);
        rig.disk.lose(|_| true);
        rig.oracle.lost(NodeId(1), &rig.disk);
        assert!(!rig.early(1), "it may have been committed with this copy");
        assert!(rig.early(2));
        assert!(rig.oracle.rottable(NodeId(1)).is_empty(), "there is nothing left to rot");
    }

    #[test]
    fn an_entry_of_a_struck_file_counts_when_the_file_is_gone() {
        let mut rig = Rig::new();
        rig.append(1, ENTRY);
        rig.run(true);
        let wal = |file: &FileId| file.kind == FileKind::Wal;
        let (intact, mut struck) = (rig.oracle.clone(), rig.oracle.clone());
        let file = rig.disk.durable_files().find(wal).expect("a log");
        struck.struck(NodeId(1), file);
        rig.disk.lose(|file| wal(&file));
        for (oracle, early) in [(intact, true), (struck, false)] {
            rig.oracle = oracle;
            rig.oracle.names_synced(NodeId(1), &rig.disk);
            assert_eq!(rig.early(1), early, "a log that was whole has to keep what counts");
        }
    }

    #[test]
    fn what_was_written_behind_the_damage_counts_as_lost_at_the_next_boot() {
        let mut rig = Rig::new();
        rig.append(1, ENTRY);
        rig.run(true);
        let wal = |file: &FileId| file.kind == FileKind::Wal;
        let file = rig.disk.durable_files().find(wal).expect("a log");
        rig.oracle.struck(NodeId(1), file);
        rig.append(2, ENTRY);
        rig.run(true);
        rig.disk.lose(|file| wal(&file));
        let mut oracle = rig.oracle.clone();
        rig.oracle.names_synced(NodeId(1), &rig.disk);
        assert!(rig.early(2), "nothing was read again: the node has thrown it away");
        oracle.booted(NodeId(1));
        rig.oracle = oracle;
        rig.oracle.names_synced(NodeId(1), &rig.disk);
        assert!(!rig.early(2));
    }

    #[test]
    fn rot_stays_before_the_sync_mark() {
        let mut rig = Rig::new();
        rig.append(1, ENTRY);
        rig.run(true);
        assert!(rig.oracle.rottable(NodeId(1)).iter().all(|(_, start, _)| *start == 0));
        rig.append(2, ENTRY);
        rig.run(true);
        let ranges = rig.oracle.rottable(NodeId(1));
        let batches: Vec<_> = ranges.iter().filter(|(_, start, _)| *start > 0).collect();
        assert_eq!(batches.len(), 1, "the first batch is marked by the second: {ranges:?}");
    }
}
