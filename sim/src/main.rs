//! `ironseed-sim`: runs seeds, replays them, and swarms over many.

use clap::{Args, Parser, Subcommand};
use ironseed_core::planted::Planted;
use ironseed_sim::run::{Order, Pulse, Report, run, watch};
use ironseed_sim::seedfile::{SeedFile, parse_bug, parse_instant, parse_seed};
use ironseed_sim::setup::Overrides;
use ironseed_sim::shrink::judge::Case;
use ironseed_sim::shrink::{Outcome, Progress, Shrink, write};
use ironseed_sim::stats::Stats;
use ironseed_sim::swarm::{Swarm, swarm};
use ironseed_sim::trace::Sink;
use serde_json::json;
use std::cell::RefCell;
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
    /// Makes a run that fails as small as it can be, and writes it as a file for the corpus. The last line is
    /// one JSON object.
    Shrink {
        /// A file of the corpus.
        #[arg(required_unless_present = "seed", conflicts_with = "seed")]
        file: Option<PathBuf>,
        /// The seed: decimal or 0x...
        #[arg(long, value_parser = parse_seed)]
        seed: Option<u64>,
        /// Begins no run after so many seconds, and ends with the smallest so far.
        #[arg(long)]
        seconds: Option<u64>,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        jobs: u64,
        /// Where the file goes: by default `shrunk-<seed>.toml`.
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
    /// How long clients and faults go on: simulated milliseconds.
    #[arg(long)]
    millis: Option<u64>,
    /// How many operations all clients begin together at the most.
    #[arg(long)]
    operations: Option<u64>,
}

impl Common {
    /// What it fixes of a run, on top of what a file does.
    fn over(&self, overrides: Overrides) -> Overrides {
        Overrides {
            nodes: self.nodes.or(overrides.nodes),
            shards: self.shards.or(overrides.shards),
            workload: self.workload.clone().or(overrides.workload),
            millis: self.millis.or(overrides.millis),
            operations: self.operations.or(overrides.operations),
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
        add("millis", self.millis.map(|millis| millis.to_string()));
        add("operations", self.operations.map(|operations| operations.to_string()));
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
            overrides.check()?;
            let order = Order { planted, overrides, ..Order::new(seed) };
            let began = Instant::now();
            guard(1, &common)[0].attach();
            let report = run(&order, None);
            verdict(&report, &replay_command(seed, &common));
            last_line(&report.stats, began, Some(&report.history_hash));
            Ok(report.violation.is_none())
        }
        Command::Replay { file, seed, until, quiet, common } => {
            let how = match &file {
                Some(file) => format!("replay {}{}", file.display(), common.arguments()),
                None => seed.map(|seed| replay_command(seed, &common)).unwrap_or_default(),
            };
            let (seed, bug, config) = named(file.as_deref(), seed, &common)?;
            let (planted, overrides) = (plant(bug)?, common.over(config));
            overrides.check()?;
            let order = Order { until, planted, overrides, ..Order::new(seed) };
            let began = Instant::now();
            let report = run(&order, (!quiet).then(to_stdout));
            verdict(&report, &how);
            last_line(&report.stats, began, Some(&report.history_hash));
            Ok(report.violation.is_none())
        }
        Command::Shrink { file, seed, seconds, jobs, out, common } => {
            let (seed, bug, config) = named(file.as_deref(), seed, &common)?;
            let order =
                Order { planted: plant(bug)?, overrides: common.over(config), ..Order::new(seed) };
            order.overrides.check()?;
            let out = out.unwrap_or_else(|| format!("shrunk-{seed}.toml").into());
            shrunk(
                &Shrink { seconds, ..Shrink::new(order) },
                bug,
                &out,
                &guard(jobs.max(1), &common),
            )
        }
        Command::Swarm { seconds, runs, first_seed, jobs, keep_going, common } => {
            let planted = plant(common.bug)?;
            let overrides = common.over(Overrides::default());
            overrides.check()?;
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

/// The seed, the bug and what is fixed, of a file or of the command line.
fn named(
    file: Option<&Path>,
    seed: Option<u64>,
    common: &Common,
) -> Result<(u64, Option<u32>, Overrides), String> {
    match (file, seed) {
        (Some(file), _) => {
            let read = read(file)?;
            Ok((read.seed()?, common.bug.or(read.bug), read.config))
        }
        (None, Some(seed)) => Ok((seed, common.bug, Overrides::default())),
        (None, None) => Err("name a seed or a file".into()),
    }
}

/// Shrinks a run and writes what it comes to, each time that it is smaller.
fn shrunk(
    shrink: &Shrink,
    bug: Option<u32>,
    out: &Path,
    pulses: &[Arc<Pulse>],
) -> Result<bool, String> {
    let found = commit();
    let keep = |case: &Case, outcome: Option<&Outcome>| {
        let text = write(shrink.order.seed, &found, bug, case, outcome)?;
        // Whole or not at all: an interruption must not leave half a file.
        let draft = out.with_extension("draft");
        let kept = std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, out));
        kept.map_err(|error| format!("{}: {error}", out.display()))
    };
    let failure = RefCell::new(None);
    let outcome = ironseed_sim::shrink::shrink(shrink, pulses, |progress| {
        let Progress { case, figures: now, tried, wall } = progress;
        let _ = write!(
            stderr(),
            "\r{:>5} s, {tried} runs: {} nodes, {} faults, {} operations, {} events, {} ms    ",
            wall.as_secs(),
            now.nodes,
            now.faults,
            now.operations,
            now.events,
            now.millis,
        );
        if let Err(error) = keep(case, None) {
            failure.replace(Some(error));
        }
    });
    let _ = writeln!(stderr());
    if let Some(error) = failure.take() {
        return Err(error);
    }
    let Some(outcome) = outcome else {
        let seed = shrink.order.seed;
        return Err(format!("seed {seed} does not fail: there is nothing to shrink"));
    };
    keep(&outcome.case, Some(&outcome))?;
    let _ = writeln!(
        stdout(),
        "violation of {}\nwritten to {}\nreplay it: cargo run -p ironseed-sim{} -- replay {}\n{}",
        outcome.case.violation,
        out.display(),
        features(),
        out.display(),
        json!({
            "checker": outcome.case.violation.checker,
            "before": outcome.before.json(),
            "after": outcome.after.json(),
            "runs": outcome.tried,
            "finished": outcome.finished,
            "wall_seconds": outcome.wall.as_millis() as f64 / 1000.0,
            "history_hash": outcome.case.report.history_hash,
        }),
    );
    Ok(true)
}

/// The commit of the checkout that this is called in, where git knows one.
fn commit() -> String {
    let git = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let known = git.ok().filter(|output| output.status.success());
    let name = known.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".into())
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
