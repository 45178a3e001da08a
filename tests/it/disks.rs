//! The simulator's disk and a real directory answer every operation alike.

use ironseed::disk::{DataDir, ExecuteIo, direct};
use ironseed::disk::{Listed, conformance};
use ironseed::engine;
use ironseed_core::machine::{FoundFile, Io, IoResult};
use ironseed_core::types::OpId;
use ironseed_sim::disk::{Disk, Speed};
use std::cell::RefCell;

/// The simulator's disk, with each operation carried out as soon as it is issued.
struct Simulated(RefCell<(Disk, u64)>);

impl Simulated {
    fn new(seed: u64) -> Self {
        let mut disk = Disk::new(seed, 1, Speed { write: 10_000, sync: 1_000_000, read: 50_000 });
        // Like any disk, it has an end.
        disk.fill(Some(1 << 30));
        Self(RefCell::new((disk, 0)))
    }
}

impl ExecuteIo for Simulated {
    fn execute(&self, io: Io) -> IoResult {
        let (disk, issued) = &mut *self.0.borrow_mut();
        *issued += 1;
        disk.issue(*issued, OpId(*issued), io);
        disk.complete(*issued, OpId(*issued)).expect("nothing crashed").result
    }
}

impl Listed for Simulated {
    fn found(&self) -> Vec<FoundFile> {
        self.0.borrow().0.found()
    }
}

#[test]
fn the_simulated_disk_and_a_directory_answer_alike() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = DataDir::open(&folder.path().join("data")).expect("a data directory");
    conformance::check(&direct(dir));
    conformance::check(&Simulated::new(1));
}

#[test]
fn the_simulated_engine_does_what_any_must() {
    let simulated = Simulated::new(2);
    engine::conformance::check(&|io| simulated.execute(Io::Rows(io)));
}
