//! The project's verbs, in Rust so that there is nothing to install: `cargo xtask VERB`.
//!
//! - `ci`: everything that must hold before a change lands, as a list of named steps. Continuous
//!   integration runs this verb and nothing else, so a red run can be repeated at a desk.
//! - `tidy`: what the compiler can't check: who may depend on whom, that core really has no `std`
//!   under it, that documentation, snapshots and the corpus of seeds are whole.
//! - `fuzz`: the decoders of bytes from outside under mutation that coverage guides.
//! - `e2e`: the release binary under real clients.
//! - `madsim`: the node's adapter and the gateway on simulated sockets, time and disks.
//! - `chaos`: three real processes under kill -9, with every acknowledged object accounted for.
//!
//! Verbs call the same programs that a person would, and print each command before it runs.
#![expect(clippy::print_stdout, reason = "a command-line tool talks on standard output")]

mod chaos;
mod ci;
mod e2e;
mod fuzz;
mod madsim;
mod shell;
mod simulator;
mod tidy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The project's verbs.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs every step that must be green before a change lands.
    Ci(ci::Args),
    /// Checks what the compiler can't.
    Tidy(tidy::Args),
    /// Feeds decoders with inputs that coverage guides, for as long as one likes.
    Fuzz(fuzz::Args),
    /// Runs real clients against the release binary.
    E2e(e2e::Args),
    /// Runs the adapter and the gateway on simulated sockets, time and disks.
    Madsim(madsim::Args),
    /// Kills real processes under load and looks for lost objects.
    Chaos(chaos::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Ci(args) => ci::run(&args),
        Verb::Tidy(args) => tidy::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::E2e(args) => e2e::run(&args),
        Verb::Madsim(args) => madsim::run(&args),
        Verb::Chaos(args) => chaos::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("\nFAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}
