//! Progress once everything has healed, and bounds that hold always.
//!
//! After a while the world mends every link, gives every disk room, sets every clock right, resumes and
//! restarts every node. From then on the cluster owes an answer to everything: no group stuck without
//! a leader, no bucket stuck in deletion, no chunk without a copy that can be read.

use super::Violation;
use crate::setup::Setup;

/// How long after the healing every client must have had all its answers: nanoseconds.
///
/// Clients give up a request after [`crate::workload::Mix::patience`] at the most and try again, and a request that
/// hits an election waits it out. So the bound is that of many elections and several patiences, far above
/// what a run takes when nothing is stuck, and far below what a stuck one would take to be noticed.
#[must_use]
pub fn bound(setup: &Setup) -> u64 {
    PROGRESS.max(setup.mix.patience * 8).max(setup.tuning.election.0 * 40)
}

/// What is said when the bound has passed.
#[must_use]
pub fn stuck(at: u64, healed: u64, unfinished: &[String]) -> Violation {
    let seconds = (at - healed) / 1_000_000_000;
    let mut what = format!("{seconds} s after everything healed, still unanswered:");
    for line in unfinished.iter().take(LINES) {
        what += &format!("\n  {line}");
    }
    if unfinished.len() > LINES {
        what += &format!("\n  and {} more", unfinished.len() - LINES);
    }
    Violation::new("liveness", at, what)
}

/// What is said when one step asks for more than [`EFFECTS_PER_STEP_MAX`].
#[must_use]
pub fn overworked(at: u64, effects: usize, input: &str) -> Violation {
    let what = format!("one step had {effects} effects, of {EFFECTS_PER_STEP_MAX}: {input}");
    Violation::new("work", at, what)
}

/// Effects of one step at the most, events left out: a step works on slices whatever the size of the state. A
/// beat of 256 groups to six peers is the most that any step has to say.
pub const EFFECTS_PER_STEP_MAX: usize = 4096;

const PROGRESS: u64 = 30_000_000_000;
const LINES: usize = 8;
