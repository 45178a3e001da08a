//! One test binary.

mod disks;
