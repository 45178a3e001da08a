//! One test binary.

mod alone;
mod disks;
