//! `ironseed-sim`: runs seeds, replays them, and swarms over many.

use clap::{Args, Parser, Subcommand};
use ironseed_core::planted::Planted;
use ironseed_sim::bench::{self, Scale};
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
    Bugs(BenchOptions),
}

/// What is run of the bug bench.
#[derive(Debug, Args)]
struct BenchOptions {
    /// Only these rows; 0 is the build with nothing planted.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// Streams of seeds for each row.
    #[arg(long, default_value_t = 20)]
    streams: u64,
    /// CPU seconds that a stream may take.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Writes all figures there as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the table into this document, between its marks.
    #[arg(long)]
    doc: Option<PathBuf>,
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
            let (seed, bug, config, how) = match (file, seed) {
                (Some(file), _) => {
                    let SeedFile { bug, config, .. } = read(&file)?;
                    let seed = read(&file)?.seed()?;
                    let how = format!("replay {}{}", file.display(), common.arguments());
                    (seed, common.bug.or(bug), config, how)
                }
                (None, Some(seed)) => {
                    (seed, common.bug, Overrides::default(), replay_command(seed, &common))
                }
                (None, None) => return Err("name a seed or a file".into()),
            };
            let order = Order { seed, until, planted: plant(bug)?, overrides: common.over(config) };
            let began = Instant::now();
            let report = run(&order, (!quiet).then(to_stdout));
            verdict(&report, &how);
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
        Command::Bugs(options) => run_bench(&options),
    }
}

/// Runs the bug bench. The last line is one JSON object.
fn run_bench(options: &BenchOptions) -> Result<bool, String> {
    let rows = bench::rows::PLANTED;
    if let Some(row) = options
        .only
        .iter()
        .find(|row| **row != 0 && !rows.iter().any(|known| known.number == **row))
    {
        parse_bug(*row)?;
    }
    let document = options.doc.as_deref().map(|path| Ok::<_, String>((path, text_of(path)?)));
    let document = document.transpose()?;
    let wanted = |row: u32| options.only.is_empty() || options.only.contains(&row);
    let patience = Duration::from_secs(options.seconds);
    let scale = Scale { streams: options.streams.max(1), patience, jobs: options.jobs };
    let mut tallies = Vec::new();
    for row in [None].into_iter().chain(rows.iter().copied().map(Some)) {
        let number = row.map_or(0, |row| row.number);
        if !wanted(number) {
            continue;
        }
        let tally = bench::bench(row, plant(row.map(|row| row.number))?, scale);
        let _ = writeln!(stdout(), "{}", tally.markdown());
        tallies.push(tally);
    }
    let figures = serde_json::json!({
        "streams": scale.streams,
        "seconds": options.seconds,
        "rows": tallies.iter().map(bench::Tally::json).collect::<Vec<_>>(),
    });
    if let Some(path) = &options.json {
        write_text(path, &format!("{figures:#}\n"))?;
    }
    if let Some((path, text)) = document {
        let text = bench::insert(&text, &bench::table(&tallies, scale));
        write_text(path, &text.map_err(|error| format!("{}: {error}", path.display()))?)?;
    }
    let good = tallies.iter().filter(|tally| tally.is_good()).count();
    let last = serde_json::json!({ "rows": tallies.len(), "as_they_should_be": good });
    let _ = writeln!(stdout(), "{last}");
    Ok(good == tallies.len())
}

fn text_of(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write_text(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
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
    SeedFile::parse(&text_of(file)?).map_err(|error| format!("{}: {error}", file.display()))
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
