//! From a data directory to a running node: the superblock, founding, recovery.
//!
//! ```text
//! Boot -> read or make the superblock -> write it for this boot -> Blank or Founder: wait for the others
//!                                                               -> Member: recover the logs -> run
//! ```
//!
//! An empty directory never founds by itself: it is given a blank store, which says hello until a member
//! welcomes it by name. The founder waits until every listed node has said hello, records their
//! stores in the charter, and makes that durable before it tells anyone. A store that is not in the
//! charter is never welcomed, so a replaced disk can't pass for the one that made promises.

use super::api::{Config, Founding, FsyncPolicy};
use super::scrub::Scrubbed;
use super::superblock::{self, COPY_BYTES, Charter, Membership, Superblock};
use crate::machine::{
    FileId, FileKind, FoundFile, Halt, Io, IoDone, IoError, IoOp, IoResult, OpIds,
};
use crate::object::charter::Chartered;
use crate::planted::Bug;
use crate::raft::Standing;
use crate::rng::Rng;
use crate::types::{Incarnation, NodeId, OpId, StoreId};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const FILE: FileId = FileId::new(FileKind::Superblock, 0);

/// Writes a superblock: one copy, sync, the other copy, sync.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    steps: VecDeque<Io>,
    op: Option<OpId>,
}

impl Writer {
    pub(super) fn new(superblock: &Superblock, sequence: u64, create: bool) -> Self {
        let copy = superblock::encode_copy(superblock, sequence);
        let bytes = 2 * COPY_BYTES as u64;
        let create_steps = [Io::Create { file: FILE, bytes }, Io::SyncDir];
        let mut steps: VecDeque<Io> = VecDeque::new();
        if create {
            steps.extend(create_steps);
        }
        for offset in [0, COPY_BYTES as u64] {
            steps.push_back(Io::Write { file: FILE, offset, data: Vec::from([copy.clone()]) });
            steps.push_back(Io::Sync { file: FILE });
        }
        Self { steps, op: None }
    }

    /// Starts the next step; `false` when all are done.
    pub(super) fn go_on(&mut self, ops: &mut OpIds, ios: &mut Vec<IoOp>) -> bool {
        let Some(io) = self.steps.pop_front() else { return false };
        let op = ops.take();
        self.op = Some(op);
        ios.push(IoOp { op, io });
        true
    }

    pub(super) fn is_mine(&self, op: OpId) -> bool {
        self.op == Some(op)
    }
}

/// Where a boot stands before the node runs.
#[derive(Clone, Debug)]
enum Stage {
    Reading(OpId),
    Writing(Writer),
    Waiting,
}

/// A boot under way.
#[derive(Clone, Debug)]
pub(super) struct Boot {
    stage: Stage,
    files: Vec<FoundFile>,
    found: Option<Founding>,
    superblock: Option<Superblock>,
    sequence: u64,
    /// At the founder: the stores that have said hello.
    hellos: BTreeMap<NodeId, StoreId>,
}

/// What came of a step of a boot.
pub(super) enum Progress {
    Going,
    /// The superblock says that this store is a member: recover.
    Member(Box<Admitted>),
    Halted(Halt),
}

/// What recovery begins with.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) superblock: Superblock,
    pub(super) sequence: u64,
    pub(super) charter: Charter,
    pub(super) files: Vec<FoundFile>,
}

impl Boot {
    /// Begins a boot.
    pub(super) fn new(
        config: &Config,
        rng: &mut Rng,
        files: Vec<FoundFile>,
        found: Option<Founding>,
        ops: &mut OpIds,
        ios: &mut Vec<IoOp>,
    ) -> Result<Self, Halt> {
        let has_superblock = files.iter().any(|it| it.file == FILE);
        let mut boot = Self {
            stage: Stage::Waiting,
            files,
            found,
            superblock: None,
            sequence: 0,
            hellos: BTreeMap::new(),
        };
        if has_superblock {
            let op = ops.take();
            let len = u32::try_from(2 * COPY_BYTES).unwrap_or(u32::MAX);
            ios.push(IoOp { op, io: Io::Read { file: FILE, offset: 0, len } });
            boot.stage = Stage::Reading(op);
        } else if let Some(stray) = boot.files.first() {
            return Err(halt(format!(
                "the data directory holds {} but no superblock: it is incomplete; restore the \
                 superblock or give this node an empty directory",
                stray.file
            )));
        } else {
            boot.make(config, rng, ops, ios);
        }
        Ok(boot)
    }

    /// The store, once it is read or made.
    pub(super) fn superblock(&self) -> Option<&Superblock> {
        self.superblock.as_ref()
    }

    /// Whether it waits for other nodes.
    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting)
    }

    /// The store that says hello, if it has something to wait for.
    pub(super) fn hello(&self) -> Option<StoreId> {
        match (&self.stage, &self.superblock) {
            (Stage::Waiting, Some(superblock)) if superblock.membership == Membership::Blank => {
                Some(superblock.store)
            }
            _ => None,
        }
    }

    pub(super) fn on_done(
        &mut self,
        config: &Config,
        rng: &mut Rng,
        op: OpId,
        result: &IoResult,
        ops: &mut OpIds,
        ios: &mut Vec<IoOp>,
    ) -> Progress {
        match &mut self.stage {
            Stage::Reading(reading) if *reading == op => match result {
                Ok(IoDone::Data(bytes)) => self.on_read(config, rng, bytes, ops, ios),
                _ => Progress::Halted(halt("superblock: can't be read".to_string())),
            },
            Stage::Writing(writer) if writer.is_mine(op) => match result {
                Ok(_) if writer.go_on(ops, ios) => Progress::Going,
                Ok(_) => self.on_written(config, ops, ios),
                Err(error) => Progress::Halted(halt(write_failed(*error))),
            },
            _ => Progress::Going,
        }
    }

    /// A store says hello. At the founder it may be the last one missing.
    pub(super) fn on_hello(
        &mut self,
        config: &Config,
        from: NodeId,
        store: StoreId,
        ops: &mut OpIds,
        ios: &mut Vec<IoOp>,
    ) -> Progress {
        if config.nodes.contains(&from) && from != config.me {
            self.hellos.insert(from, store);
        }
        self.maybe_found(config, ops, ios)
    }

    /// A member has told this blank store who it belongs to.
    pub(super) fn on_welcome(
        &mut self,
        config: &Config,
        charter: Charter,
        ops: &mut OpIds,
        ios: &mut Vec<IoOp>,
    ) {
        let Some(superblock) = &mut self.superblock else { return };
        let Some(chartered) = charter.node(config.me).copied() else { return };
        if chartered.store == superblock.store
            && matches!(self.stage, Stage::Waiting)
            && superblock.membership == Membership::Blank
        {
            if chartered.generation > 0 {
                // It has nothing of what was promised in its node's name before.
                if !config.planted.is(Bug::NewStoreCounts) {
                    superblock.standing = Standing::Blank;
                }
                if !config.planted.is(Bug::NewStoreCountsFromOne) {
                    superblock.incarnation = chartered.incarnation(superblock.incarnation);
                }
            }
            superblock.membership = Membership::Member(charter);
            self.write(false, ops, ios);
        }
    }

    fn make(&mut self, config: &Config, rng: &mut Rng, ops: &mut OpIds, ios: &mut Vec<IoOp>) {
        let mut store = StoreId::default();
        rng.fill(&mut store.0);
        let membership = self.found.clone().map_or(Membership::Blank, Membership::Founder);
        self.superblock = Some(Superblock {
            node: config.me,
            store,
            incarnation: Incarnation(1),
            clean: false,
            fsync: config.fsync,
            engine: config.engine,
            standing: Standing::Full,
            logs: false,
            scrubbed: Scrubbed::default(),
            membership,
        });
        self.write(true, ops, ios);
    }

    fn on_read(
        &mut self,
        config: &Config,
        rng: &mut Rng,
        bytes: &[u8],
        ops: &mut OpIds,
        ios: &mut Vec<IoOp>,
    ) -> Progress {
        let (sequence, old) = match superblock::newest(bytes) {
            Ok(newest) => newest,
            // Torn while it was made: nothing was promised by it yet.
            Err(superblock::Unusable::Damaged(_)) if self.files.len() == 1 => {
                self.make(config, rng, ops, ios);
                return Progress::Going;
            }
            Err(why) => return Progress::Halted(halt(why.to_string())),
        };
        if old.node != config.me {
            return Progress::Halted(halt(format!(
                "this data directory belongs to node {}, and this is node {}",
                old.node, config.me
            )));
        }
        if old.engine != config.engine {
            return Progress::Halted(halt(format!(
                "this data directory keeps its records in the engine {}, and the configuration says {}: set engine = \"{}\", or \
                 give this node an empty directory",
                old.engine, config.engine, old.engine
            )));
        }
        let membership = match (self.found.take(), old.membership.clone()) {
            (None, membership) => membership,
            (Some(founding), Membership::Blank) => Membership::Founder(founding),
            // The same founding again: the operator could not know how far it had come.
            (Some(founding), Membership::Founder(begun)) if begun == founding => {
                Membership::Founder(begun)
            }
            (Some(founding), Membership::Member(charter)) if charter.founding == founding => {
                Membership::Member(charter)
            }
            (Some(_), _) => {
                return Progress::Halted(halt(
                    "this data directory belongs to a cluster already: nothing is founded on it"
                        .to_string(),
                ));
            }
        };
        self.sequence = sequence;
        let next = next_boot(old, &self.files, config.fsync);
        self.superblock = Some(Superblock { membership, ..next });
        self.write(false, ops, ios);
        Progress::Going
    }

    fn write(&mut self, create: bool, ops: &mut OpIds, ios: &mut Vec<IoOp>) {
        let Some(superblock) = &self.superblock else { return };
        self.sequence += 1;
        let mut writer = Writer::new(superblock, self.sequence, create);
        writer.go_on(ops, ios);
        self.stage = Stage::Writing(writer);
    }

    fn on_written(&mut self, config: &Config, ops: &mut OpIds, ios: &mut Vec<IoOp>) -> Progress {
        self.stage = Stage::Waiting;
        let Some(superblock) = &self.superblock else { return Progress::Going };
        match &superblock.membership {
            Membership::Member(charter) => Progress::Member(Box::new(Admitted {
                superblock: superblock.clone(),
                sequence: self.sequence,
                charter: charter.clone(),
                files: core::mem::take(&mut self.files),
            })),
            Membership::Founder(_) | Membership::Blank => self.maybe_found(config, ops, ios),
        }
    }

    /// The founder knows all stores: the charter can be written.
    fn maybe_found(&mut self, config: &Config, ops: &mut OpIds, ios: &mut Vec<IoOp>) -> Progress {
        let Some(superblock) = &mut self.superblock else { return Progress::Going };
        let (Membership::Founder(founding), Stage::Waiting) = (&superblock.membership, &self.stage)
        else {
            return Progress::Going;
        };
        let mut members = self.hellos.clone();
        members.insert(config.me, superblock.store);
        if config.nodes.iter().any(|node| !members.contains_key(node)) {
            return Progress::Going;
        }
        let chartered = |(node, store)| Chartered { node, store, generation: 0 };
        let charter = Charter {
            founding: founding.clone(),
            version: 0,
            nodes: members.into_iter().map(chartered).collect(),
            shards: config.shards,
            replication: config.replication,
        };
        superblock.membership = Membership::Member(charter);
        self.write(false, ops, ios);
        Progress::Going
    }
}

/// What a boot makes of the superblock that it finds beside these files.
pub(super) fn next_boot(old: Superblock, files: &[FoundFile], fsync: FsyncPolicy) -> Superblock {
    let lax = old.fsync != FsyncPolicy::Always;
    // Once this boot has made another log, the next one could not tell any more that the old one is lost.
    let log_lost = old.logs && !files.iter().any(|it| it.file.kind == FileKind::Wal);
    let found = match (log_lost, lax && !old.clean) {
        (true, _) => Standing::Blank,
        (false, true) => Standing::Abstaining,
        (false, false) => Standing::Full,
    };
    Superblock {
        incarnation: old.incarnation.next(),
        clean: false,
        fsync,
        standing: old.standing.max(found),
        ..old
    }
}

fn halt(reason: String) -> Halt {
    Halt { reason }
}

fn write_failed(error: IoError) -> String {
    match error {
        IoError::NoSpace => "superblock: no space left on the disk".to_string(),
        IoError::NotFound | IoError::Device => "superblock: can't be written".to_string(),
    }
}
