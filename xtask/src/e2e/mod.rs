//! `cargo xtask e2e`: the release binary under clients that other people wrote.
//!
//! Every part starts its own servers on ports that the system picks, in a folder that is removed
//! when it ends, unless something failed: then the folder with the servers' logs stays, and its path
//! is printed.

mod demo;
mod python;

use crate::chaos;
use crate::shell::{self, Context, Failure, Result};
use demo::Demo;
use python::Python;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these parts: aws, boto3, object-store, memory, damage, idle, chaos.
    #[arg(long, value_delimiter = ',', value_parser = part_names())]
    only: Vec<String>,
    #[command(flatten)]
    options: Options,
}

/// How much of it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// May install the Python clients, into a folder of their own below the target folder. Implied by
    /// CI=true.
    #[arg(long)]
    install: bool,
    /// Another program than the release build of this checkout.
    #[arg(long)]
    server: Option<PathBuf>,
    /// MiB of the large object.
    #[arg(long, default_value_t = 1024)]
    large_mib: u64,
    /// Seconds under kill -9.
    #[arg(long, default_value_t = 30)]
    chaos_seconds: u64,
    /// Bytes that are changed, one at a time.
    #[arg(long, default_value_t = 6)]
    bytes: u32,
    /// Seconds at rest.
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
}

/// What every part needs.
struct Bench<'a> {
    server: PathBuf,
    options: &'a Options,
}

type Part = fn(&Bench<'_>, &Path) -> Result;

const PARTS: &[(&str, Part)] = &[
    ("aws", aws),
    ("boto3", boto3),
    ("object-store", object_store),
    ("memory", memory),
    ("damage", damage),
    ("idle", idle),
    ("chaos", kill),
];

fn part_names() -> clap::builder::PossibleValuesParser {
    PARTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().into()
}

pub(crate) fn run(args: &Args) -> Result {
    parts(&args.only, &args.options)
}

/// Every part.
pub(crate) fn all(options: &Options) -> Result {
    parts(&[], options)
}

fn parts(only: &[String], options: &Options) -> Result {
    let server = match &options.server {
        Some(server) => server.clone(),
        None => shell::build("ironseed", "ironseed", true, &[])?,
    };
    let bench = Bench { server, options };
    for (name, part) in PARTS {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("\n--- e2e: {name}");
        let dir = Scratch::new(name)?;
        match part(&bench, &dir.path) {
            Ok(()) => dir.remove()?,
            Err(failure) => {
                let kept = dir.path.display();
                return Err(Failure::new(format!("e2e {name}: {failure} (logs and data: {kept})")));
            }
        }
        println!("--- e2e: {name}: ok");
    }
    Ok(())
}

/// A folder for one part, below the target folder: a gigabyte does not belong in a small /tmp.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let dir = shell::target_dir()?.join("xtask").join("run");
        let path = dir.join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).context(|| path.display().to_string())?;
        Ok(Self { path })
    }

    pub(crate) fn remove(self) -> Result {
        std::fs::remove_dir_all(&self.path).context(|| self.path.display().to_string())
    }
}

fn script(name: &str) -> PathBuf {
    shell::root().join("tests/e2e").join(name)
}

/// The stock command line with its defaults: buckets, files small and large, and back.
fn aws(bench: &Bench<'_>, dir: &Path) -> Result {
    let python = Python::ready(bench.options.install)?;
    let demo = Demo::start(&bench.server, dir)?;
    let mut session = python.command(&script("aws_session.py"));
    session.arg("--work").arg(dir.join("files"));
    session.arg("--large-mib").arg(bench.options.large_mib.to_string());
    demo.tell(&mut session);
    shell::run(session)?;
    demo.stop()
}

/// What the SDK does and what it is told when it errs; and that a restart keeps what was stored.
fn boto3(bench: &Bench<'_>, dir: &Path) -> Result {
    let python = Python::ready(bench.options.install)?;
    let call = |demo: &Demo, verb: &str| {
        let mut session = python.command(&script("boto3_session.py"));
        session.arg(verb);
        demo.tell(&mut session);
        shell::run(session)
    };
    let demo = Demo::start(&bench.server, dir)?;
    call(&demo, "all")?;
    call(&demo, "leave")?;
    demo.stop()?;
    let demo = Demo::start(&bench.server, dir)?;
    call(&demo, "find")?;
    demo.stop()
}

/// The Rust crate that data lakes use.
fn object_store(bench: &Bench<'_>, dir: &Path) -> Result {
    let clients = chaos::clients()?;
    let demo = Demo::start(&bench.server, dir)?;
    let mut session = Command::new(&clients);
    session.arg("session");
    demo.tell(&mut session);
    shell::run(session)?;
    demo.stop()
}

/// Three processes under a large object and a hundred slow uploads: memory stays bounded, and
/// descriptors and staged bytes return to where they were.
fn memory(bench: &Bench<'_>, dir: &Path) -> Result {
    let mut session = real(bench, dir, "memory")?;
    session.arg("--large-mib").arg(bench.options.large_mib.to_string());
    shell::run(session)
}

/// Bits flipped on the disks of three nodes, and of one alone.
fn damage(bench: &Bench<'_>, dir: &Path) -> Result {
    shell::run(real(bench, dir, "damage")?)?;
    let dir = dir.join("bytes");
    std::fs::create_dir(&dir).context(|| dir.display().to_string())?;
    chaos::bytes(&bench.server, &dir, bench.options.bytes, None)
}

/// Three processes that nobody asks for anything.
fn idle(bench: &Bench<'_>, dir: &Path) -> Result {
    let mut session = real(bench, dir, "idle")?;
    session.arg("--seconds").arg(bench.options.idle_seconds.to_string());
    shell::run(session)
}

/// A part of the program in `tests/real/` that starts its own servers.
fn real(bench: &Bench<'_>, dir: &Path, part: &str) -> Result<Command> {
    let mut session = Command::new(chaos::clients()?);
    session.arg(part).arg("--server").arg(&bench.server).arg("--work").arg(dir);
    Ok(session)
}

/// Three processes under kill -9.
fn kill(bench: &Bench<'_>, dir: &Path) -> Result {
    chaos::kill(&bench.server, dir, bench.options.chaos_seconds, 3)
}
