//! The verb `report`: one HTML page that shows what happened in a run.

use super::common::{Named, Source, features, last_line, verdict, write_text};
use clap::Args;
use ironseed_sim::report::model::Wanted;
use ironseed_sim::report::{self, Request};
use ironseed_sim::seedfile::{parse_bug, parse_instant};
use std::io::{Write as _, stderr, stdout};
use std::path::PathBuf;
use std::time::Instant;

/// Which run, and what of it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    source: Source,
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
}

pub(crate) fn execute(options: Options) -> Result<bool, String> {
    let Named { order, bug, how } = options.source.named()?;
    let out = options.out.unwrap_or_else(|| format!("report-{}.html", order.seed).into());
    let bug = bug.map(parse_bug).transpose()?;
    let began = Instant::now();
    let wanted =
        Wanted { from: options.from, until: options.until, events_max: options.events.max(100) };
    let command = format!("cargo run -p ironseed-sim{} -- {how}", features());
    let bug = bug.map(|bug| format!("{bug:?}, row {}", bug.row()));
    let request = Request { order, wanted, bug, command };
    let (report, html) = report::page(&request, |run, runs| {
        let _ = write!(stderr(), "\rwithout one choice: {} of {runs} runs", run + 1);
    });
    let _ = writeln!(stderr());
    write_text(&out, &html)?;
    verdict(&report, &how);
    let _ = writeln!(stdout(), "look at {}", out.display());
    last_line(&report.stats, began, Some(&report.history_hash));
    Ok(report.violation.is_none())
}
