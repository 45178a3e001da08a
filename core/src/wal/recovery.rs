use super::{Config, RecoveryOutput};
use crate::machine::{FoundFile, IoResult, OpIds};
use crate::types::OpId;
use alloc::vec::Vec;

/// The boot scan.
#[derive(Clone, Debug)]
pub struct Recovery {
    config: Config,
    files: Vec<FoundFile>,
}

impl Recovery {
    /// A recovery over the files of the data directory; those of other kinds are ignored.
    #[must_use]
    pub fn new(config: Config, files: &[FoundFile]) -> Self {
        Self { config, files: files.to_vec() }
    }

    /// Emits the first outputs; may finish at once. Called once.
    pub fn start(&mut self, _ops: &mut OpIds, _out: &mut Vec<RecoveryOutput>) {}

    /// Takes the completion of an operation and goes on. `false`: the operation isn't this recovery's.
    pub fn on_done(
        &mut self,
        _op: OpId,
        _result: &IoResult,
        _ops: &mut OpIds,
        _out: &mut Vec<RecoveryOutput>,
    ) -> bool {
        false
    }
}
