//! The adapter and the gateway on a simulated machine: three nodes with the code that `ironseed serve` runs, S3
//! clients over HTTP, and everything that happens drawn from one seed.
//!
//! madsim gives sockets, time, tasks and the deaths of processes; the simulator gives disks, histories and
//! checkers. What a node takes from its machine is `sys.rs`, the twin of `runtime/src/sys.rs`. What is tested here
//! is the wiring: that the driver executes what the node decides and in no other way, that the node port
//! survives what networks do, that the gateway tells the truth. Decisions are hunted by the simulator, which runs
//! ten thousand times as many of them.
//!
//! A line a seed goes to standard output and is equal for equal runs; `cargo xtask madsim` compares two
//! processes.

#[path = "../../shared/choices.rs"]
mod choices;
#[path = "../../shared/client.rs"]
mod client;
mod cluster;
mod disk;
mod plan;
mod run;

use clap::Parser;
use disk::Plant;
use ironseed_core::planted::{Bug, Planted};
use run::Report;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// Simulated nanoseconds since the start of the run.
#[must_use]
pub fn now() -> u64 {
    madsim::time::TimeHandle::current().elapsed().as_nanos() as u64
}

#[derive(Parser)]
#[command(about = "Runs nodes, gateway and S3 clients on simulated sockets and time")]
struct Options {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Plants a bug in the adapter: the run ends well when some seed shows it
    #[arg(long, value_enum)]
    plant: Option<Plant>,
    /// Plants a bug in every node, by its row in docs/bug-bench.md: likewise
    #[arg(long, value_parser = bug, conflicts_with = "plant")]
    bug: Option<Bug>,
    /// What to log, as `RUST_LOG` has it
    #[arg(long, default_value = "off")]
    log: String,
}

impl Options {
    fn planted(&self) -> Planted {
        self.bug.map_or(Planted::NONE, Planted::with)
    }

    fn is_planted(&self) -> bool {
        self.plant.is_some() || self.bug.is_some()
    }
}

fn bug(row: &str) -> Result<Bug, String> {
    let bug = Bug::ALL.iter().find(|bug| bug.row().to_string() == row);
    bug.copied().ok_or_else(|| "no row that can be planted".into())
}

fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(&options.log)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    let mut failed = 0;
    for seed in options.first_seed..options.first_seed.saturating_add(options.seeds) {
        let started = Instant::now();
        let outcome = one(seed, options.plant, options.planted());
        let line = match &outcome {
            Ok(report) => report.to_string(),
            Err(panic) => format!("assertion: {panic}"),
        };
        say(&format!("seed {seed}: {line}\n"));
        eprintln!("seed {seed}: {:.1} s", started.elapsed().as_secs_f64());
        let violations = outcome.as_ref().map(|report| &*report.violations).unwrap_or_default();
        for violation in violations {
            say(&format!("seed {seed}: VIOLATION {violation}\n"));
        }
        if outcome.is_err() || !violations.is_empty() {
            failed += 1;
            if options.is_planted() {
                return ExitCode::SUCCESS;
            }
        }
    }
    if options.is_planted() {
        eprintln!("the bug was not seen by {} seeds", options.seeds);
        return ExitCode::FAILURE;
    }
    if failed > 0 {
        eprintln!("{failed} of {} seeds failed; one again: --first-seed N", options.seeds);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs a seed on a thread of its own, as madsim wants it: a thread's hash maps have one order.
fn one(seed: u64, plant: Option<Plant>, planted: Planted) -> Result<Report, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = std::thread::Builder::new().name(format!("seed-{seed}")).spawn(move || {
        ironseed::sys::plant(planted);
        catch_unwind(AssertUnwindSafe(|| run::run(seed, plant, folder.path())))
    });
    let outcome = run.expect("a thread").join().expect("panics are caught");
    outcome.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or("a panic", |text| *text).to_owned(),
    })
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever has closed it does not want to know.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
