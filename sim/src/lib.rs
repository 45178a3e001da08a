//! The simulator: the whole store in one thread, with every interface to the world made up.
//!
//! **The problem.** A store's worst bugs need three things at once: a crash between two syncs, a message that
//! comes too late, a client that asks at that moment. No test that waits for them on real machines sees them
//! often enough, and what it sees it can't show again.
//!
//! **What it does.** The decisions of a node are pure state machines, so a world can be made up around
//! them: [`net`], [`disk`], [`clock`], [`faults`] and [`workload`], all drawn from one seed ([`setup`]). The
//! [`world`] pops one event after another in virtual time, thousands of simulated disasters an hour. A
//! [`run`] ends in a verdict of the [`checkers`]; a [`swarm`] does many.
//!
//! **Guarantees.**
//! - A seed is a run: the same seed has the same events, in debug and in release, on every machine. The
//!   [`trace`] has a rolling hash that shows it, and swarms run some seeds twice to prove it.
//! - Choices have names and not places in a stream ([`draw`]): what is taken out of a run changes the
//!   rest no more than the machines themselves make it.
//! - The world never breaks the contract that it drives machines by ([`ironseed_core::machine`]), and uses all the
//!   freedom that the contract leaves it.
//!
//! **The path of a failure.** A violation prints its seed and the command that replays it with every
//! event. [`shrink`] makes the run as small as it can be and still fail alike, and writes it as lists that can be
//! read and edited ([`choices`]). The file goes to `seeds/` with what broke ([`seedfile`]); the fix goes with it. A
//! [`report`] shows a run as one page.
//!
//! **Caveats.** Nodes don't come and go yet; disks do. Broken frames (the contract has whole messages) are not simulated.

pub mod ablation;
pub mod bench;
pub mod checkers;
pub mod choices;
pub mod clock;
pub mod disk;
pub mod draw;
pub mod faults;
pub mod hashes;
pub mod history;
pub mod net;
pub mod races;
pub mod report;
pub mod run;
pub mod seedfile;
pub mod setup;
pub mod shrink;
pub mod stats;
pub mod story;
pub mod swarm;
pub mod trace;
pub mod workload;
pub mod world;
