//! One test binary.

mod alone;
#[path = "../shared/alone.rs"]
mod by_hand;
mod disks;
mod engines;
mod index;
mod scrub;
mod stopped;
