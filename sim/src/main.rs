//! `ironseed-sim`: runs seeds, replays them, and swarms over many.

mod verbs;

use clap::{Parser, Subcommand};
use ironseed_sim::run::{Order, run};
use ironseed_sim::seedfile::{parse_instant, parse_seed};
use ironseed_sim::setup::Overrides;
use ironseed_sim::swarm::{Swarm, swarm};
use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;
use std::time::Instant;
use verbs::common::{
    Common, Named, Source, features, guard, last_line, plant, replay_command, to_stdout, verdict,
};

/// A run allocates and frees with each event: the system's allocator took a sixth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Drives Ironseed's decisions through simulated disasters, all drawn from one seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed. The last line is one JSON object.
    Run {
        /// The seed: decimal or 0x...
        #[arg(long, value_parser = parse_seed)]
        seed: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Runs one seed, or a file of the corpus, and prints every event.
    Replay {
        #[command(flatten)]
        source: Source,
        /// Stops at this instant of the run: 412ms, 1.5s.
        #[arg(long, value_parser = parse_instant)]
        until: Option<u64>,
        /// Prints the verdict only.
        #[arg(long)]
        quiet: bool,
    },
    /// Makes a run that fails as small as it can be, and writes it as a file for the corpus. The last line is
    /// one JSON object.
    Shrink(verbs::shrink::Options),
    /// Runs one seed, or a file of the corpus, and writes one HTML page that shows what happened.
    Report(verbs::report::Options),
    /// Runs many seeds and stops at the first that fails. The last line is one JSON object.
    Swarm {
        /// Begins no run after so many seconds.
        #[arg(long, required_unless_present = "runs")]
        seconds: Option<u64>,
        /// Runs at the most.
        #[arg(long)]
        runs: Option<u64>,
        /// The first seed; the others follow it.
        #[arg(long, value_parser = parse_seed, default_value = "1")]
        first_seed: u64,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        jobs: u64,
        /// Goes on after a seed that failed, and names them all.
        #[arg(long)]
        keep_going: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Plants bug after bug and says which are caught, by what and how soon (needs the feature `planted-bugs`).
    Bugs(verbs::bugs::Options),
    /// Leaves fault classes and oracles out, one at a time, and says which bugs then escape (needs the feature
    /// `planted-bugs`).
    Ablate(verbs::ablate::Options),
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was wrong.
fn execute(command: Command) -> Result<bool, String> {
    match command {
        Command::Run { seed, common } => {
            let planted = plant(common.bug)?;
            let overrides = common.over(Overrides::default())?;
            let order = Order { planted, overrides, ..Order::new(seed) };
            let began = Instant::now();
            guard(1, &common)[0].attach();
            let mut report = run(&order, None);
            report.stats.take_points();
            verdict(&report, &replay_command(seed, &common));
            last_line(&report.stats, began, Some(&report.history_hash));
            Ok(report.violation.is_none())
        }
        Command::Replay { source, until, quiet } => {
            let Named { order, how, .. } = source.named()?;
            let order = Order { until, ..order };
            let began = Instant::now();
            let mut report = run(&order, (!quiet).then(to_stdout));
            report.stats.take_points();
            verdict(&report, &how);
            last_line(&report.stats, began, Some(&report.history_hash));
            Ok(report.violation.is_none())
        }
        Command::Swarm { seconds, runs, first_seed, jobs, keep_going, common } => {
            let planted = plant(common.bug)?;
            let overrides = common.over(Overrides::default())?;
            let began = Instant::now();
            let order = Swarm { first_seed, runs, seconds, keep_going, planted, overrides };
            let pulses = guard(jobs.max(1), &common);
            let outcome = swarm(&order, &pulses, |stats, wall| {
                let (runs, events) = (stats.runs, stats.events);
                let _ = write!(stderr(), "\r{:>5} s, {runs} runs, {events} events", wall.as_secs());
            });
            let _ = writeln!(stderr());
            for failure in &outcome.failures {
                let how = replay_command(failure.seed, &common);
                let _ = writeln!(
                    stdout(),
                    "seed {}: violation of {}\nreplay it: cargo run -p ironseed-sim{} -- {how}",
                    failure.seed,
                    failure.violation,
                    features(),
                );
            }
            last_line(&outcome.stats, began, None);
            Ok(outcome.failures.is_empty())
        }
        Command::Shrink(options) => verbs::shrink::execute(options),
        Command::Report(options) => verbs::report::execute(options),
        Command::Bugs(options) => verbs::bugs::execute(&options),
        Command::Ablate(options) => verbs::ablate::execute(&options),
    }
}
