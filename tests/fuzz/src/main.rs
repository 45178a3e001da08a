//! `ironseed-fuzz`: campaigns of mutated inputs against every target, and the repetition of one input.
//!
//! Each campaign is a process of its own: a stack that overflows, or memory that runs out, ends a process without a
//! word, and the input that did it must be known all the same.

use clap::{Args, Parser, Subcommand};
use ironseed_fuzz::run::{self, INPUT_TIME_MAX, Length, Tally};
use ironseed_fuzz::{ALLOCATOR, Target, target, targets};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Feeds every decoder of bytes from outside with what nobody should send.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    campaign: Campaign,
}

#[derive(Subcommand)]
enum Verb {
    /// Feeds one file to the target whose corpus it lies in.
    Repeat {
        /// The file.
        file: PathBuf,
        /// Another target than its folder names.
        #[arg(long)]
        target: Option<String>,
    },
    /// Names the targets.
    List,
    /// Writes the valid inputs of a target to a folder: what a fuzzer that is guided by coverage starts from.
    Seeds {
        /// The target.
        #[arg(value_parser = known)]
        target: String,
        /// The folder.
        folder: PathBuf,
    },
}

#[derive(Args)]
struct Campaign {
    /// Only this target (may be repeated).
    #[arg(long, value_parser = known)]
    target: Vec<String>,
    /// So many seconds a target.
    #[arg(long)]
    seconds: Option<u64>,
    /// So many mutated inputs a target; a few seconds of them by default.
    #[arg(long, conflicts_with = "seconds")]
    runs: Option<u64>,
    /// Every input follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where a campaign's process leaves each input before it is fed. For the program itself.
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

fn known(name: &str) -> Result<String, String> {
    let names: Vec<&str> = targets().iter().map(|target| target.name).collect();
    target(name).map(|_| name.to_owned()).ok_or_else(|| format!("there are: {}", names.join(", ")))
}

fn main() -> ExitCode {
    let Cli { verb, campaign } = Cli::parse();
    let ended = match verb {
        Some(Verb::Repeat { file, target }) => repeat(&file, target),
        Some(Verb::List) => {
            for target in targets() {
                say(&format!("{:<14} {}", target.name, target.about));
            }
            Ok(true)
        }
        Some(Verb::Seeds { target, folder }) => seeds(&target, &folder),
        None => campaigns(&campaign),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(2)
        }
    }
}

/// One line. A reader that has gone away is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn repeat(file: &Path, name: Option<String>) -> std::io::Result<bool> {
    let folder = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy());
    let name = name.unwrap_or_else(|| folder.unwrap_or_default().into_owned());
    let Some(target) = target(&name) else {
        return Err(std::io::Error::other(format!("no target is called {name:?}: say --target")));
    };
    match run::feed(target, &std::fs::read(file)?) {
        Ok(verdict) => say(&format!("{name}: {verdict:?}")),
        Err(harm) => {
            say(&format!("{name}: {harm}"));
            return Ok(false);
        }
    }
    Ok(true)
}

fn seeds(name: &str, folder: &Path) -> std::io::Result<bool> {
    if let Some(target) = target(name) {
        run::write_seeds(target, folder)?;
    }
    Ok(true)
}

fn campaigns(args: &Campaign) -> std::io::Result<bool> {
    let wanted = |target: &&Target| {
        args.target.is_empty() || args.target.iter().any(|name| name == target.name)
    };
    let mut harmless = true;
    for target in targets().iter().filter(wanted) {
        harmless &= match &args.inside {
            Some(last) => campaign(target, args, last)?,
            None => watched(target, args)?,
        };
    }
    Ok(harmless)
}

/// Runs a campaign in a process of its own.
fn watched(target: &Target, args: &Campaign) -> std::io::Result<bool> {
    let last =
        std::env::temp_dir().join(format!("ironseed-fuzz-{}-{}", std::process::id(), target.name));
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--target", target.name, "--seed", &args.seed.to_string()]);
    command.arg("--inside").arg(&last);
    for (name, number) in [("--seconds", args.seconds), ("--runs", args.runs)] {
        if let Some(number) = number {
            command.args([name, &number.to_string()]);
        }
    }
    let status = command.status()?;
    let harmless = status.success();
    // Anything but a verdict: the process died of the input that it was fed last.
    if !matches!(status.code(), Some(0..=2)) {
        let input = std::fs::read(&last)?;
        report(target, &input, &format!("the process ended with {status}"))?;
    }
    let _ = std::fs::remove_file(&last);
    Ok(harmless)
}

fn report(target: &Target, input: &[u8], what: &str) -> std::io::Result<()> {
    let file = run::keep(target, input)?;
    let package = run::package();
    let root = package.ancestors().nth(2).unwrap_or(Path::new(""));
    let shown = file.strip_prefix(root).unwrap_or(&file).display();
    say(&format!("{}: {what}", target.name));
    say(&format!(
        "  {} bytes, kept; again: cargo run -p ironseed-fuzz -- repeat {shown}",
        input.len()
    ));
    Ok(())
}

fn campaign(target: &Target, args: &Campaign, last: &Path) -> std::io::Result<bool> {
    let length = match (args.seconds, args.runs) {
        (Some(seconds), _) => Length::For(Duration::from_secs(seconds)),
        (None, runs) => Length::Runs(runs.unwrap_or(target.runs)),
    };
    let files = run::files(target)?;
    let last = File::create(last)?;
    let fed = Arc::new(Mutex::new(Instant::now()));
    watch(target.name, Arc::clone(&fed));
    let began = Instant::now();
    let ended = run::campaign(target, &files, args.seed, length, |input| {
        *fed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let written = last.set_len(input.len() as u64).and_then(|()| last.write_all_at(input, 0));
        written.expect("the input can be left behind");
    });
    match ended {
        Ok(Tally { runs, accepted }) => {
            let (name, refused) = (target.name, runs - accepted);
            let rate = runs * 1_000 / (began.elapsed().as_millis() as u64).max(1);
            let peak = ALLOCATOR.max_allocated() >> 20;
            say(&format!(
                "{name:<14} {runs:>8} runs {accepted:>8} accepted {refused:>8} refused {rate:>7}/s {peak:>4} MiB"
            ));
            Ok(true)
        }
        Err((input, harm)) => {
            report(target, &input, &harm.to_string())?;
            Ok(false)
        }
    }
}

/// Ends the process over an input that never ends.
fn watch(name: &'static str, fed: Arc<Mutex<Instant>>) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let since = fed.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            if since > INPUT_TIME_MAX {
                say(&format!("{name}: no end after {since:?}"));
                std::process::abort();
            }
        }
    });
}
