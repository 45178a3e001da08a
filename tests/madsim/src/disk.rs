//! A machine's disk: the simulator's, behind what the adapter asks of one.
//!
//! It outlives the node that runs on it. A power loss takes what was not synced, in any of the ways in which
//! disks do that; a process that dies leaves the page cache. Bugs can be planted here, at the place where the
//! adapter hands the node's promises to the world.

use crate::now;
use clap::ValueEnum;
use ironseed::sys::Device;
use ironseed_core::machine::{FileId, FoundFile, Io, IoDone, IoOp, IoResult};
use ironseed_core::types::OpId;
use ironseed_sim::disk::{Disk, Speed, Trap};
use ironseed_sim::draw::{Domain, Draw};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A bug in the adapter: how we know that the checkers see what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plant {
    /// Every sync succeeds and syncs nothing.
    SyncNothing,
    /// A sync is reported to the node when it is begun, and done when it is done.
    ReportBeforeSync,
}

/// One machine's disk.
pub struct Hardware {
    state: Mutex<State>,
    plant: Option<Plant>,
}

struct State {
    disk: Disk,
    /// Operations that are reported without being done, or before they are.
    lied: BTreeSet<OpId>,
    /// Syncs that were reported before they are done, and when they will be.
    owed: Vec<(Instant, OpId)>,
}

impl State {
    /// Does what was reported before and is done by now.
    fn settle(&mut self) {
        let due_by = Instant::now();
        for (_, op) in self.owed.extract_if(.., |(due, _)| *due <= due_by) {
            let _ = self.disk.complete(now(), op);
        }
    }
}

/// How fast the disks of a run are. madsim sleeps for a millisecond at the least, so faster ones would have all
/// their latencies alike; and a sync that takes longer than a message leaves time for what comes too early.
fn speed(seed: u64) -> Speed {
    let sync = Draw::new(seed, Domain::Disk, &[]).magnitude(4_000_000, 40_000_000);
    Speed { write: 1_500_000, sync, read: 1_500_000 }
}

/// Names the read of a file before the node runs; no node gets so far.
const PEEK: OpId = OpId(u64::MAX);

impl Hardware {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64, machine: u64, plant: Option<Plant>) -> Self {
        let disk = Disk::new(seed, machine, speed(seed));
        let state = State { disk, lied: BTreeSet::new(), owed: Vec::new() };
        Self { state: Mutex::new(state), plant }
    }

    /// The power goes.
    pub fn lose_power(&self) {
        let mut state = self.lock();
        state.disk.lose_power(now());
        (state.lied, state.owed) = (BTreeSet::new(), Vec::new());
    }

    /// The process dies, or has ended.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.disk.kill(now());
        (state.lied, state.owed) = (BTreeSet::new(), Vec::new());
    }

    /// The next sync fails, and drops what it should have written.
    pub fn fail_sync(&self) {
        self.lock().disk.arm(Trap::Sync);
    }

    /// Every operation takes so many times as long.
    pub fn slow(&self, times: u64) {
        self.lock().disk.slow(times);
    }

    /// Nothing fails any more, and it is as fast as it was.
    pub fn heal(&self) {
        self.lock().disk.heal();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // One thread runs the simulation, and a panic in it ends the run.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle();
        state
    }
}

impl Device for Hardware {
    fn files(&self) -> Vec<FoundFile> {
        self.lock().disk.found()
    }

    fn read(&self, file: FileId) -> Option<Vec<u8>> {
        let mut state = self.lock();
        let found = state.disk.found().into_iter().find(|found| found.file == file)?;
        let len = u32::try_from(found.bytes).expect("only the superblock is read like this");
        state.disk.issue(now(), PEEK, Io::Read { file, offset: 0, len });
        match state.disk.complete(now(), PEEK)?.result {
            Ok(IoDone::Data(bytes)) => Some(bytes.to_vec()),
            done => panic!("a read came to {done:?}"),
        }
    }

    fn issue(&self, IoOp { op, io }: IoOp) -> Duration {
        let mut state = self.lock();
        let sync = matches!(io, Io::Sync { .. } | Io::SyncDir);
        match self.plant.filter(|_| sync) {
            Some(Plant::SyncNothing) => {
                state.lied.insert(op);
                Duration::ZERO
            }
            Some(Plant::ReportBeforeSync) => {
                let due = Instant::now() + Duration::from_nanos(state.disk.issue(now(), op, io));
                state.lied.insert(op);
                state.owed.push((due, op));
                Duration::ZERO
            }
            None => Duration::from_nanos(state.disk.issue(now(), op, io)),
        }
    }

    fn complete(&self, op: OpId) -> Option<IoResult> {
        let mut state = self.lock();
        if state.lied.remove(&op) {
            return Some(Ok(IoDone::Ok));
        }
        state.disk.complete(now(), op).map(|completion| completion.result)
    }
}
