//! The verb `shrink`: makes a run that fails as small as it can be, and writes it as a file for the corpus.

use super::common::{Named, Source, features};
use clap::Args;
use ironseed_sim::run::Pulse;
use ironseed_sim::shrink::judge::Case;
use ironseed_sim::shrink::{Outcome, Progress, Shrink, write};
use serde_json::json;
use std::cell::RefCell;
use std::io::{Write as _, stderr, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which run, and how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    source: Source,
    /// Begins no run after so many seconds, and ends with the smallest so far.
    #[arg(long)]
    seconds: Option<u64>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Where the file goes: by default `shrunk-<seed>.toml`.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn execute(options: Options) -> Result<bool, String> {
    let Named { order, bug, .. } = options.source.named()?;
    let out = options.out.clone().unwrap_or_else(|| format!("shrunk-{}.toml", order.seed).into());
    let pulses = options.source.guard(options.jobs.max(1));
    shrunk(&Shrink { seconds: options.seconds, ..Shrink::new(order) }, bug, &out, &pulses)
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
