//! The verbs of the command line, a file each, beside those that `main.rs` holds.

pub(crate) mod ablate;
pub(crate) mod bugs;
pub(crate) mod common;
pub(crate) mod report;
pub(crate) mod shrink;
