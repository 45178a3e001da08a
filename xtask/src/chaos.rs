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
}

pub(crate) fn run(args: &Args) -> Result {
    let server = match &args.server {
        Some(server) => server.clone(),
        None => shell::build("ironseed", "ironseed", true, &[])?,
    };
    let dir = Scratch::new("chaos")?;
    let done = match args.planned {
        Some(stops) => planned(&server, &dir.path, stops),
        None => kill(&server, &dir.path, args.seconds, args.kills),
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

/// Three nodes, writers, graceful stops.
fn planned(server: &Path, dir: &Path, stops: u32) -> Result {
    let mut command = Command::new(clients()?);
    command.arg("planned").arg("--server").arg(server).arg("--work").arg(dir);
    command.args(["--stops", &stops.to_string()]);
    shell::run(command)
}

/// Three nodes, writers, kills; every acknowledged object is read back.
pub(crate) fn kill(server: &Path, dir: &Path, seconds: u64, kills: u32) -> Result {
    let mut command = Command::new(clients()?);
    command.arg("chaos").arg("--server").arg(server).arg("--work").arg(dir);
    command.args(["--seconds", &seconds.to_string(), "--kills", &kills.to_string()]);
    shell::run(command)
}
