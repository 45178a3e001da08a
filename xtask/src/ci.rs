//! `cargo xtask ci`: the steps, in order. Each can be called alone (`--only tidy`) or left out
//! (`--skip e2e`); `--list` says what each of them does.

use crate::shell::{self, Context, Failure, Result};
use crate::simulator::{Build, Report, Simulator};
use crate::{e2e, madsim, tidy};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What to run, and how much of it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these steps (may be repeated, or a list with commas).
    #[arg(long, value_delimiter = ',', value_parser = step_names())]
    only: Vec<String>,
    /// All steps but these.
    #[arg(long, value_delimiter = ',', value_parser = step_names(), conflicts_with = "only")]
    skip: Vec<String>,
    /// Names the steps and stops.
    #[arg(long)]
    list: bool,
    /// Go on after a failed step, and fail at the end.
    #[arg(long)]
    keep_going: bool,
    /// Runs of the swarm.
    #[arg(long, default_value_t = 600)]
    swarm_runs: u64,
    /// The most seconds that a planted bug may stay unseen.
    #[arg(long, default_value_t = 60)]
    bug_seconds: u64,
    /// Seeds of the adapter on simulated sockets.
    #[arg(long, default_value_t = 20)]
    madsim_seeds: u64,
    /// Processes of a swarm.
    #[arg(long, default_value_t = 2)]
    jobs: u32,
    /// The swarm's first seed; by default it follows from the commit, so that a red run can be repeated.
    #[arg(long)]
    first_seed: Option<u64>,
    #[command(flatten)]
    e2e: e2e::Options,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Args) -> Result,
}

const STEPS: &[Step] = &[
    Step { name: "test", about: "README's test command", run: test },
    Step { name: "fmt", about: "formatting", run: fmt },
    Step { name: "clippy", about: "lints, warnings denied", run: clippy },
    Step { name: "tidy", about: "what the compiler can't check", run: run_tidy },
    Step { name: "doc", about: "documentation, warnings denied", run: doc },
    Step {
        name: "deny",
        about: "licences, sources and advisories, where cargo-deny is installed",
        run: deny,
    },
    Step { name: "seeds", about: "every seed that once failed", run: seeds },
    Step {
        name: "determinism",
        about: "one seed, twice and in debug: the same history",
        run: determinism,
    },
    Step {
        name: "fuzz",
        about: "mutated bytes for every decoder, seeded by the commit",
        run: fuzz,
    },
    Step { name: "swarm", about: "fresh simulations, seeded by the commit", run: swarm },
    Step {
        name: "bugs",
        about: "every planted bug is caught, and nothing where none is planted",
        run: bugs,
    },
    Step {
        name: "madsim",
        about: "adapter and gateway on simulated sockets, time and disks, seeded by the commit",
        run: run_madsim,
    },
    Step { name: "e2e", about: "the release binary under real clients and kill -9", run: run_e2e },
];

/// What a swarm must have met at least once: a simulator that never gets there proves nothing of it.
const MUST_HAPPEN: &[&str] = &[
    "snapshot_installed",
    "snapshot_deferred",
    "leader_elected",
    "leader_caught",
    "chunk_repaired",
    "scrub_round",
    "corruption_healed",
    "bucket_deleted_under_load",
    "put_raced_bucket_deletion_under_partition",
    "collected_to_the_end",
    "core_went_on_alone",
    "disk_lost_in_part",
    "write_misdirected",
    "crashed_in_recovery",
    "replica_joined",
    "replica_left",
    "read_by_lease",
    "read_near",
    "read_near_waited",
    "engine_loaded",
    "engine_bodies_swept",
    "read_near_fell_back",
    "index_snapshot_written",
    "index_snapshot_loaded",
    "index_snapshot_refused",
    "refused_by_the_fallen",
    "refused_by_the_living",
];

/// Rows of docs/bug-bench.md: the swarm kills them all.
const BUGS: &[u32] = &[1, 3, 4, 10, 11, 17, 18, 21, 22, 24, 30];

fn step_names() -> clap::builder::PossibleValuesParser {
    STEPS.iter().map(|step| step.name).collect::<Vec<_>>().into()
}

pub(crate) fn run(args: &Args) -> Result {
    if args.list {
        for step in STEPS {
            println!("{:<12} {}", step.name, step.about);
        }
        return Ok(());
    }
    let mut ended: Vec<(&str, Duration, Option<Failure>)> = Vec::new();
    for step in STEPS.iter().filter(|step| args.wants(step.name)) {
        println!("\n=== {}: {}", step.name, step.about);
        let began = Instant::now();
        let failure = (step.run)(args).err();
        if let Some(failure) = &failure {
            println!("=== {} FAILED: {failure}", step.name);
        }
        let stop = failure.is_some() && !args.keep_going;
        ended.push((step.name, began.elapsed(), failure));
        if stop {
            break;
        }
    }
    println!();
    for (name, took, failure) in &ended {
        let verdict = if failure.is_none() { "ok" } else { "FAILED" };
        println!("{name:<12} {:>7.1} s  {verdict}", took.as_secs_f64());
    }
    let failed: Vec<String> = (ended.into_iter())
        .filter_map(|(name, _, failure)| failure.map(|failure| format!("{name}: {failure}")))
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("; "))) }
}

impl Args {
    fn wants(&self, step: &str) -> bool {
        let among = |list: &[String]| list.iter().any(|name| name == step);
        if self.only.is_empty() { !among(&self.skip) } else { among(&self.only) }
    }

    fn first_seed(&self) -> Result<u64> {
        let seed = match self.first_seed {
            Some(seed) => seed,
            None => seed_of_commit()?,
        };
        println!("first seed {seed} (repeat with --first-seed {seed})");
        Ok(seed)
    }
}

/// The first 48 bits of the commit: another seed for every change, the same for everybody.
fn seed_of_commit() -> Result<u64> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "HEAD"]).current_dir(shell::root());
    let commit = shell::capture(git)?;
    let head = commit.get(..12).unwrap_or_default();
    u64::from_str_radix(head, 16).context(|| format!("`{}` is no commit", commit.trim()))
}

fn test(_: &Args) -> Result {
    shell::run(shell::cargo(["test", "--workspace"]))?;
    // RocksDB takes a quarter of an hour to build, and needs libclang: by hand.
    let engines = ["test", "--package", "ironseed", "--lib", "--features", "fjall", "engine"];
    shell::run(shell::cargo(engines))
}

fn fmt(_: &Args) -> Result {
    shell::run(shell::cargo(["fmt", "--all", "--check"]))?;
    shell::run(shell::cargo(["fmt", "--manifest-path", "tests/madsim/Cargo.toml", "--check"]))
}

fn clippy(_: &Args) -> Result {
    let deny = ["--", "--deny", "warnings"];
    let all = ["clippy", "--workspace", "--all-targets"];
    shell::run(shell::cargo(all.into_iter().chain(deny)))?;
    // What stands behind features is linted too: cargo unifies features over one call, so each alone.
    let planted =
        ["clippy", "--package", "ironseed-sim", "--all-targets", "--features", "planted-bugs"];
    shell::run(shell::cargo(planted.into_iter().chain(deny)))?;
    let clients =
        ["clippy", "--package", "ironseed-tests", "--all-targets", "--features", "real-clients"];
    shell::run(shell::cargo(clients.into_iter().chain(deny)))?;
    // Without libFuzzer itself, so without a C++ compiler.
    let guided = ["clippy", "--package", "ironseed-fuzz", "--all-targets", "--features", "guided"];
    shell::run(shell::cargo(guided.into_iter().chain(deny)))?;
    let engines = ["clippy", "--package", "ironseed", "--all-targets", "--features", "fjall"];
    shell::run(shell::cargo(engines.into_iter().chain(deny)))
}

fn run_tidy(_: &Args) -> Result {
    tidy::run(&tidy::Args::default())
}

fn doc(_: &Args) -> Result {
    let args = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    let mut cargo = shell::cargo(args);
    // Invariants link to the private functions that check them, and those have pages here.
    cargo.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links");
    shell::run(cargo)
}

fn deny(_: &Args) -> Result {
    let mut probe = shell::cargo(["deny", "--version"]);
    probe.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("left out: cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    shell::run(shell::cargo(["deny", "--all-features", "check"]))
}

fn seeds(_: &Args) -> Result {
    replay(Build::Release, "are quiet", |points| !points)
}

/// Replays those files of the corpus that this build can: what forces fault points is only in the build that has them.
fn replay(build: Build, verdict: &str, wanted: impl Fn(bool) -> bool) -> Result {
    let dir = shell::root().join("seeds");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).context(|| "seeds".into())? {
        let name = entry.context(|| "seeds".into())?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".toml") && wanted(forces_points(&dir.join(&name))?) {
            files.push(format!("seeds/{name}"));
        }
    }
    files.sort();
    if files.is_empty() {
        println!("the corpus has no such seed");
        return Ok(());
    }
    let simulator = Simulator::build(build)?;
    for file in &files {
        simulator.replay(file)?;
    }
    println!("{} seeds {verdict}", files.len());
    Ok(())
}

/// Whether a file of the corpus forces fault points.
fn forces_points(file: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(file).context(|| file.display().to_string())?;
    let parsed: toml::Table = toml::from_str(&text).context(|| file.display().to_string())?;
    let points = parsed.get("config").and_then(|config| config.get("points")?.as_table());
    Ok(points.is_some_and(|points| !points.is_empty()))
}

fn must_be_clean(report: &Report) -> Result {
    if report.clean {
        return Ok(());
    }
    let violations = report.count("violations")?;
    Err(Failure::new(format!("`{}`: {violations} violations, see above", report.shown)))
}

fn determinism(args: &Args) -> Result {
    let seed = args.first_seed()?.to_string();
    let release = Simulator::build(Build::Release)?;
    let debug = Simulator::build(Build::Debug)?;
    let mut hashes = Vec::new();
    for simulator in [&release, &release, &debug] {
        let report = simulator.call(&["run", "--seed", &seed])?;
        must_be_clean(&report)?;
        hashes.push(report.text("history_hash")?.to_owned());
    }
    if hashes.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(Failure::new(format!("seed {seed}: release, release again, debug differ: {hashes:?}")))
}

/// Bounded runs and not seconds, so that a seed gives the same verdict on every machine. Not optimized: the
/// tests have built nearly all of it already, and overflow is checked in both.
fn fuzz(args: &Args) -> Result {
    let seed = args.first_seed()?.to_string();
    let mut command = Command::new(shell::build("ironseed-fuzz", "ironseed-fuzz", false, &[])?);
    command.args(["--seed", &seed]).current_dir(shell::root());
    command.env("CARGO_MANIFEST_DIR", shell::root().join("tests/fuzz"));
    shell::run(command)
}

fn swarm(args: &Args) -> Result {
    let simulator = Simulator::build(Build::Release)?;
    let report = simulator.call(&swarm_args(
        args,
        args.first_seed()?,
        Length::Runs(args.swarm_runs),
        None,
    ))?;
    must_be_clean(&report)?;
    println!("{} runs, {} events", report.count("runs")?, report.count("events")?);
    let bytes = format!(
        "swarm --region bytes --runs {} --first-seed {}",
        args.swarm_runs / 10,
        args.first_seed()?
    );
    let bytes: Vec<&str> = bytes.split(' ').collect();
    let changed = simulator.call(&bytes)?;
    must_be_clean(&changed)?;
    println!("{} runs with a changed byte", changed.count("runs")?);
    let missing: Vec<&str> =
        MUST_HAPPEN.iter().copied().filter(|event| report.happened(event) == 0).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("the swarm never met: {}", missing.join(", "))))
}

fn bugs(args: &Args) -> Result {
    replay(Build::Planted, "that force fault points are quiet", |points| points)?;
    let simulator = Simulator::build(Build::Planted)?;
    let first = args.first_seed()?;
    for bug in BUGS {
        let report = simulator.call(&swarm_args(
            args,
            first,
            Length::Seconds(args.bug_seconds),
            Some(*bug),
        ))?;
        if report.clean {
            let what = format!("bug {bug} was not seen in {} seconds", args.bug_seconds);
            return Err(Failure::new(what));
        }
        println!("bug {bug}: killed");
    }
    // The same build with nothing planted: what caught the bugs must be the bugs.
    let nothing = swarm_args(args, first, Length::Runs(args.swarm_runs / 4), None);
    must_be_clean(&simulator.call(&nothing)?)
}

/// How long a swarm is. A number of runs gives the same verdict on every machine.
enum Length {
    Runs(u64),
    Seconds(u64),
}

fn swarm_args(args: &Args, first: u64, length: Length, bug: Option<u32>) -> Vec<String> {
    let length = match length {
        Length::Runs(runs) => format!("--runs {runs}"),
        Length::Seconds(seconds) => format!("--seconds {seconds}"),
    };
    let words = format!("swarm {length} --first-seed {first} --jobs {}", args.jobs);
    let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    if let Some(bug) = bug {
        words.extend(["--bug".to_owned(), bug.to_string()]);
    }
    words
}

fn run_madsim(args: &Args) -> Result {
    madsim::check(args.first_seed()?, args.madsim_seeds)
}

fn run_e2e(args: &Args) -> Result {
    e2e::all(&args.e2e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn wanted(line: &[&str]) -> Vec<&'static str> {
        let words = std::iter::once("ci").chain(line.iter().copied());
        let args = Cli::parse_from(words).args;
        STEPS.iter().map(|step| step.name).filter(|name| args.wants(name)).collect()
    }

    #[test]
    fn files_that_force_points_are_for_the_build_that_has_them() {
        let folder = std::env::temp_dir().join(format!("ironseed-points-{}", std::process::id()));
        let judged = |text: &str| {
            std::fs::write(&folder, text).expect("a file");
            forces_points(&folder).expect("a table")
        };
        assert!(judged("seed = \"1\"\n[config.points]\nbatch-one = 300\n"));
        assert!(!judged("seed = \"1\"\n[config]\nnodes = 3\n"));
        assert!(!judged("seed = \"1\"\n[config.points]\n"));
        std::fs::remove_file(&folder).expect("a file");
    }

    #[test]
    fn each_step_can_be_called_alone_or_left_out() {
        assert_eq!(wanted(&["--only", "tidy,doc"]), ["tidy", "doc"]);
        let all = wanted(&[]);
        assert_eq!((all.len(), all[0], all[all.len() - 1]), (STEPS.len(), "test", "e2e"));
        assert_eq!(wanted(&["--skip", "e2e"]).len(), STEPS.len() - 1);
        assert!(Cli::try_parse_from(["ci", "--only", "tidyy"]).is_err());
    }
}
