//! `cargo xtask madsim`: the node's adapter and the gateway on simulated sockets, time and disks. The work is in
//! `tests/madsim/`, a workspace of its own that is built with `--cfg madsim`; this verb knows how.

use crate::shell::{self, Context, Failure, Result};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 40)]
    seeds: u64,
    /// A bug to plant in the adapter (`sync-nothing`, `report-before-sync`); it has to be seen.
    #[arg(long, conflicts_with = "bug")]
    plant: Option<String>,
    /// A row of docs/bug-bench.md to plant in every node; it has to be seen.
    #[arg(long)]
    bug: Option<u32>,
    /// What to log to standard error, as `RUST_LOG` has it.
    #[arg(long, default_value = "off")]
    log: String,
}

pub(crate) fn run(args: &Args) -> Result {
    let simulator = Simulator::build()?;
    let mut command = simulator.command(args.first_seed, args.seeds);
    command.args(["--log", &args.log]);
    if let Some(plant) = &args.plant {
        command.args(["--plant", plant]);
    }
    if let Some(bug) = args.bug {
        command.args(["--bug", &bug.to_string()]);
    }
    shell::run(command)
}

/// Bugs in the adapter and in the node (rows of docs/bug-bench.md), and how many seeds may miss each.
const BUGS: &[(&str, &str, u64)] = &[
    ("--plant", "sync-nothing", 5),
    ("--plant", "report-before-sync", 60),
    ("--bug", "3", 60),
    ("--bug", "10", 20),
];

/// As many seeds as a change has to survive: quiet, the same in two processes, and not blind.
pub(crate) fn check(first_seed: u64, seeds: u64) -> Result {
    let simulator = Simulator::build()?;
    // Side by side: a run has one thread.
    let mut pair = Vec::new();
    for _ in 0..2 {
        let mut command = simulator.command(first_seed, seeds);
        println!("$ {}", shell::show(&command));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        pair.push(command.spawn().context(|| "can't start the simulation".into())?);
    }
    let mut told = Vec::new();
    for process in pair {
        let output = process.wait_with_output().context(|| "the simulation".into())?;
        told.push((output.status, String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let (status, text) = told.swap_remove(0);
    print!("{text}");
    if !status.success() {
        let again = format!("cargo xtask madsim --first-seed {first_seed} --seeds {seeds}");
        return Err(Failure::new(format!("a seed failed, see above; `{again}` repeats all")));
    }
    let (_, other) = told.swap_remove(0);
    if text != other {
        let mut pairs = text.lines().zip(other.lines());
        let (one, two) = pairs.find(|(one, two)| one != two).unwrap_or_default();
        return Err(Failure::new(format!("two processes differ:\n  {one}\n  {two}")));
    }
    for (kind, bug, seeds) in BUGS {
        let mut command = simulator.command(1, *seeds);
        command.args([kind, bug]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        shell::run(command)?;
        println!("{kind} {bug}: seen");
    }
    Ok(())
}

struct Simulator(PathBuf);

impl Simulator {
    fn build() -> Result<Self> {
        let target = shell::target_dir()?.join("madsim");
        let mut cargo = shell::cargo(["build"]);
        cargo.current_dir(shell::root().join("tests/madsim"));
        // Whatever else asks for flags builds other programs.
        cargo.env("RUSTFLAGS", "--cfg madsim --deny warnings").env("CARGO_TARGET_DIR", &target);
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
        shell::run(cargo)?;
        Ok(Self(target.join("debug").join("ironseed-madsim")))
    }

    fn command(&self, first_seed: u64, seeds: u64) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["--first-seed", &first_seed.to_string(), "--seeds", &seeds.to_string()]);
        command
    }
}
