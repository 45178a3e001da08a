//! `cargo xtask chaos`: real processes, real files, kill -9. The work itself is in `tests/real/`,
//! whose program has an S3 client that xtask does without.

use crate::e2e::Scratch;
use crate::shell::{self, Failure, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How long and how often.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of writing under kills.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The fewest kills of a single node; the run goes on until they have happened.
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// Another program than the release build of this checkout.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Stops nodes as an operator does instead, so often, and prints how long a write waited meanwhile.
    #[arg(long, value_name = "STOPS")]
    planned: Option<u32>,
    /// Kills whoever leads what is written instead, so often, and prints how long it was until writes went on.
    #[arg(long, value_name = "KILLS", conflicts_with = "planned")]
    failover: Option<u32>,
    /// Changes so many bytes of files instead, one of one node at a time, and prints what became of each.
    #[arg(long, value_name = "TRIES", conflicts_with_all = ["planned", "failover"])]
    bytes: Option<u32>,
    /// Names the bytes; by default others each time.
    #[arg(long, requires = "bytes")]
    seed: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result {
    let server = match &args.server {
        Some(server) => server.clone(),
        None => shell::build("ironseed", "ironseed", true, &[])?,
    };
    let dir = Scratch::new("chaos")?;
    let done = match args {
        Args { planned: Some(stops), .. } => {
            part(&server, &dir.path, "planned", ("--stops", *stops))
        }
        Args { failover: Some(kills), .. } => {
            part(&server, &dir.path, "failover", ("--kills", *kills))
        }
        Args { bytes: Some(tries), seed, .. } => bytes(&server, &dir.path, *tries, *seed),
        Args { seconds, kills, .. } => kill(&server, &dir.path, *seconds, *kills),
    };
    match done {
        Ok(()) => dir.remove(),
        Err(failure) => {
            let kept = dir.path.display();
            Err(Failure::new(format!("{failure} (logs and data: {kept})")))
        }
    }
}

/// Builds the program with the clients.
pub(crate) fn clients() -> Result<PathBuf> {
    shell::build("ironseed-tests", "real-clients", true, &["--features", "real-clients"])
}

/// Three nodes, writers, and something that happens so often.
fn part(server: &Path, dir: &Path, part: &str, (often, count): (&str, u32)) -> Result {
    let mut command = Command::new(clients()?);
    command.arg(part).arg("--server").arg(server).arg("--work").arg(dir);
    command.args([often, &count.to_string()]);
    shell::run(command)
}

/// Three nodes and bytes that change.
pub(crate) fn bytes(server: &Path, dir: &Path, tries: u32, seed: Option<u64>) -> Result {
    let mut command = Command::new(clients()?);
    command.arg("bytes").arg("--server").arg(server).arg("--work").arg(dir);
    command.args(["--tries", &tries.to_string()]);
    if let Some(seed) = seed {
        command.args(["--seed", &seed.to_string()]);
    }
    shell::run(command)
}

/// Three nodes, writers, kills; every acknowledged object is read back.
pub(crate) fn kill(server: &Path, dir: &Path, seconds: u64, kills: u32) -> Result {
    let mut command = Command::new(clients()?);
    command.arg("chaos").arg("--server").arg(server).arg("--work").arg(dir);
    command.args(["--seconds", &seconds.to_string(), "--kills", &kills.to_string()]);
    shell::run(command)
}
