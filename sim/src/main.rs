//! `ironseed-sim`: runs seeds, replays them, and swarms over many.

use clap::{Args, Parser, Subcommand};
use ironseed_core::planted::Planted;
use ironseed_sim::report;
use ironseed_sim::report::model::Wanted;
use ironseed_sim::run::{Order, Pulse, Report, run, watch};
use ironseed_sim::seedfile::{SeedFile, parse_bug, parse_instant, parse_seed};
use ironseed_sim::setup::Overrides;
use ironseed_sim::stats::Stats;
use ironseed_sim::swarm::{Swarm, swarm};
use ironseed_sim::trace::Sink;
use std::io::{BufWriter, Write as _, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
        /// A file of the corpus.
        #[arg(required_unless_present = "seed", conflicts_with = "seed")]
        file: Option<PathBuf>,
        /// The seed: decimal or 0x...
        #[arg(long, value_parser = parse_seed)]
        seed: Option<u64>,
        /// Stops at this instant of the run: 412ms, 1.5s.
        #[arg(long, value_parser = parse_instant)]
        until: Option<u64>,
        /// Prints the verdict only.
        #[arg(long)]
        quiet: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Runs one seed, or a file of the corpus, and writes one HTML page that shows what happened.
    Report {
        /// A file of the corpus.
        #[arg(required_unless_present = "seed", conflicts_with = "seed")]
        file: Option<PathBuf>,
        /// The seed: decimal or 0x...
        #[arg(long, value_parser = parse_seed)]
        seed: Option<u64>,
        /// Shows nothing before this instant of the run: 412ms, 1.5s.
        #[arg(long, value_parser = parse_instant)]
        from: Option<u64>,
        /// Shows nothing after this instant of the run.
        #[arg(long, value_parser = parse_instant)]
        until: Option<u64>,
        /// Shows so many events at the most, those around the violation.
        #[arg(long, default_value_t = 8_000)]
        events: usize,
        /// Where to write it; else `report-SEED.html`.
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
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
}

#[derive(Debug, Args)]
struct Common {
    /// Plants this row of the bug bench (needs the feature `planted-bugs`).
    #[arg(long)]
    bug: Option<u32>,
    /// How many nodes: 1, 3, 5 or 7.
    #[arg(long)]
    nodes: Option<u32>,
    /// How many shards: a power of two up to 256.
    #[arg(long)]
    shards: Option<u16>,
    /// Which workload, by its name in the counts.
    #[arg(long)]
    workload: Option<String>,
}

impl Common {
    /// What it fixes of a run, on top of what a file does.
    fn over(&self, overrides: Overrides) -> Overrides {
        Overrides {
            nodes: self.nodes.or(overrides.nodes),
            shards: self.shards.or(overrides.shards),
            workload: self.workload.clone().or(overrides.workload),
            ..overrides
        }
    }

    /// The same as arguments, for the command that replays a run.
    fn arguments(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text += &format!(" --{name} {value}");
            }
        };
        add("bug", self.bug.map(|bug| bug.to_string()));
        add("nodes", self.nodes.map(|nodes| nodes.to_string()));
        add("shards", self.shards.map(|shards| shards.to_string()));
        add("workload", self.workload.clone());
        text
    }
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
            let overrides = common.over(Overrides::default());
            let order = Order { planted, overrides, ..Order::new(seed) };
            let began = Instant::now();
            guard(1, &common)[0].attach();
            let report = run(&order, None);
            verdict(&report, &replay_command(seed, &common));
            last_line(&report.stats, began, Some(&report.history_hash));
            Ok(report.violation.is_none())
        }
        Command::Replay { file, seed, until, quiet, common } => {
            let (order, _, how) = named(file, seed, &common)?;
            let order = Order { until, ..order };
            let began = Instant::now();
            let report = run(&order, (!quiet).then(to_stdout));
            verdict(&report, &how);
            last_line(&report.stats, began, Some(&report.history_hash));
            Ok(report.violation.is_none())
        }
        Command::Report { file, seed, from, until, events, out, common } => {
            let (order, bug, how) = named(file, seed, &common)?;
            let out = out.unwrap_or_else(|| format!("report-{}.html", order.seed).into());
            let bug = bug.map(parse_bug).transpose()?;
            let began = Instant::now();
            let wanted = Wanted { from, until, events_max: events.max(100) };
            let command = format!("cargo run -p ironseed-sim{} -- {how}", features());
            let bug = bug.map(|bug| format!("{bug:?}, row {}", bug.row()));
            let request = report::Request { order, wanted, bug, command };
            let (report, html) = report::page(&request, |run, runs| {
                let _ = write!(stderr(), "\rwithout one choice: {} of {runs} runs", run + 1);
            });
            let _ = writeln!(stderr());
            std::fs::write(&out, html).map_err(|error| format!("{}: {error}", out.display()))?;
            verdict(&report, &how);
            let _ = writeln!(stdout(), "look at {}", out.display());
            last_line(&report.stats, began, Some(&report.history_hash));
            Ok(report.violation.is_none())
        }
        Command::Swarm { seconds, runs, first_seed, jobs, keep_going, common } => {
            let planted = plant(common.bug)?;
            let overrides = common.over(Overrides::default());
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
    }
}

/// The run that a file or a seed names, the bug that is planted in it, and the arguments that replay it.
fn named(
    file: Option<PathBuf>,
    seed: Option<u64>,
    common: &Common,
) -> Result<(Order, Option<u32>, String), String> {
    let (seed, bug, config, how) = match (file, seed) {
        (Some(file), _) => {
            let found = read(&file)?;
            let how = format!("replay {}{}", file.display(), common.arguments());
            (found.seed()?, common.bug.or(found.bug), found.config, how)
        }
        (None, Some(seed)) => {
            (seed, common.bug, Overrides::default(), replay_command(seed, common))
        }
        (None, None) => return Err("name a seed or a file".into()),
    };
    let order = Order { planted: plant(bug)?, overrides: common.over(config), ..Order::new(seed) };
    Ok((order, bug, how))
}

/// Ends the process with a violation when a run of one of these threads stops for good.
fn guard(threads: u64, common: &Common) -> Vec<Arc<Pulse>> {
    let pulses: Vec<Arc<Pulse>> = (0..threads).map(|_| Arc::default()).collect();
    let (watched, arguments) = (pulses.clone(), common.arguments());
    std::thread::spawn(move || {
        watch(&watched, STEP_PATIENCE, |seed| {
            let _ = writeln!(
                stdout(),
                "seed {seed}: violation of work: a step does not end\nreplay it: cargo run -p ironseed-sim{} -- \
                 replay --seed {seed}{arguments}",
                features(),
            );
            std::process::exit(1);
        });
    });
    pulses
}

/// No step takes a thousandth of this, on any machine.
const STEP_PATIENCE: Duration = Duration::from_secs(20);

fn replay_command(seed: u64, common: &Common) -> String {
    format!("replay --seed {seed}{}", common.arguments())
}

/// Debug and release tell the same story, so the command is the one that builds faster.
const fn features() -> &'static str {
    if ironseed_core::planted::COMPILED_IN { " --features planted-bugs" } else { "" }
}

fn read(file: &Path) -> Result<SeedFile, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    SeedFile::parse(&text).map_err(|error| format!("{}: {error}", file.display()))
}

fn plant(row: Option<u32>) -> Result<Planted, String> {
    let Some(row) = row else { return Ok(Planted::NONE) };
    let bug = parse_bug(row)?;
    #[cfg(feature = "planted-bugs")]
    return Ok(Planted::with(bug));
    #[cfg(not(feature = "planted-bugs"))]
    Err(format!("{bug:?} is not in this build: add --features planted-bugs"))
}

/// Prints every line; a reader that has seen enough, such as `head`, ends it.
fn to_stdout() -> Sink {
    let mut out = BufWriter::new(stdout());
    Box::new(move |line| {
        if writeln!(out, "{line}").is_err() {
            std::process::exit(0);
        }
    })
}

fn verdict(report: &Report, how: &str) {
    let _ = match &report.violation {
        None => writeln!(stdout(), "nothing is wrong"),
        Some(violation) => writeln!(
            stdout(),
            "violation of {violation}\nreplay it: cargo run -p ironseed-sim{} -- {how}",
            features(),
        ),
    };
}

fn last_line(stats: &Stats, began: Instant, history_hash: Option<&str>) {
    let mut json = stats.json(began.elapsed().as_millis() as f64 / 1000.0);
    if let Some(hash) = history_hash {
        json.insert("history_hash".into(), hash.into());
    }
    let _ = writeln!(stdout(), "{}", serde_json::Value::Object(json));
}
