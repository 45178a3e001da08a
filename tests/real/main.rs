//! Real clients against real processes: what `cargo xtask e2e` and `cargo xtask chaos` run.
//!
//! - `session`: what the crate `object_store`, the client of data lakes, does with a store.
//! - `chaos`: three nodes under kill -9, processes that hang and links that are cut, while writers write. A ledger
//!   remembers what was asked and what was acknowledged; at the end every acknowledged object is read back, bit for
//!   bit. Beside them clients race on few keys, and what they saw is checked as the simulator's histories are. Every
//!   boot is recorded and replayed at the end.
//! - `planned`: three nodes that are stopped as an operator stops them, and how long a write waits meanwhile.
//! - `memory`: three nodes under a large object and a hundred slow uploads; what each process held at
//!   the most is read from the system.
//!
//! - `damage`: bits flipped on the disks of three nodes, and of one alone, and a disk that is lost and replaced: what
//!   heals, and what is said.
//! - `bytes`: one byte of one file of one node is changed, at random, again and again.
//! - `failover`: whoever leads what is written is killed, and how long it is until writes go on.
//! - `idle`: what a cluster costs that nobody uses.
//!
//! Nodes are real processes with real files, on ports of the loopback address that the system picks.
//! Time is real too, so no gap is judged here, only loss; gaps are printed.
#![expect(clippy::print_stdout, reason = "a command-line tool talks on standard output")]

mod bytes;
mod chaos;
#[path = "../shared/choices.rs"]
mod choices;
#[path = "../shared/client.rs"]
mod client;
mod cluster;
mod content;
mod damage;
mod failover;
mod histories;
mod http_raw;
mod idle;
mod ledger;
mod links;
mod memory;
mod moved;
mod planned;
mod recordings;
mod replaced;
mod segment;
mod session;
mod store;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds since this program first asked.
fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Why a part did not succeed, for the person who called it.
type Result<T = ()> = std::result::Result<T, String>;

/// Real clients against real processes.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// The crate `object_store` against the endpoint in the environment.
    Session,
    /// Three nodes under kill -9.
    Chaos(chaos::Args),
    /// Three nodes that are stopped one after another, and how long writes wait.
    Planned(planned::Args),
    /// Three nodes under uploads large and slow.
    Memory(memory::Args),
    /// Flipped bits on three nodes and on one.
    Damage(damage::Args),
    /// Bytes of three nodes that are changed one at a time.
    Bytes(bytes::Args),
    /// Three nodes whose leaders are killed, and how long writes wait.
    Failover(failover::Args),
    /// Three nodes at rest.
    Idle(idle::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().part {
        Part::Session => session::run().await,
        Part::Chaos(args) => chaos::run(&args).await,
        Part::Planned(args) => planned::run(&args).await,
        Part::Memory(args) => memory::run(&args).await,
        Part::Damage(args) => damage::run(&args).await,
        Part::Bytes(args) => bytes::run(&args).await,
        Part::Failover(args) => failover::run(&args).await,
        Part::Idle(args) => idle::run(&args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            println!("FAILED: {what}");
            ExitCode::FAILURE
        }
    }
}
