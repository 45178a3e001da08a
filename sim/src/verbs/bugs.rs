//! The verb `bugs`: runs the bug bench and writes down what it came to.

use super::common::{Common, guard, plant, text_of, write_text};
use clap::Args;
use ironseed_sim::bench::{self, Scale};
use ironseed_sim::run::{Order, Pulse};
use ironseed_sim::seedfile::parse_bug;
use serde_json::Value;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What is run of the bug bench.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rows: Rows,
    /// Streams of seeds for each row.
    #[arg(long, default_value_t = 20)]
    streams: u64,
    /// CPU seconds that a stream may take.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
}

/// Which rows of the bench, by how many threads, and where what they came to is written.
#[derive(Debug, Args)]
pub(crate) struct Rows {
    /// Only these rows; 0 is the build with nothing planted.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
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

impl Rows {
    /// Whether this row is wanted.
    pub(crate) fn want(&self, row: u32) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }

    /// What watches over the threads.
    pub(crate) fn pulses(&self) -> Vec<Arc<Pulse>> {
        guard(self.jobs.max(1), &Common::default())
    }

    /// Refuses what will not do before hours are spent on it: a row that there isn't, a document that can't be read.
    pub(crate) fn check(&self) -> Result<(), String> {
        let known = |row: u32| row == 0 || bench::rows::PLANTED.iter().any(|it| it.number == row);
        if let Some(row) = self.only.iter().find(|row| !known(**row)) {
            parse_bug(*row)?;
        }
        self.doc.as_deref().map_or(Ok(()), |path| text_of(path).map(drop))
    }

    /// Writes down what `verb` came to.
    pub(crate) fn write(&self, verb: &str, figures: &Value, table: &str) -> Result<(), String> {
        if let Some(path) = &self.json {
            write_text(path, &format!("{figures:#}\n"))?;
        }
        let Some(path) = &self.doc else { return Ok(()) };
        let text = bench::insert(&text_of(path)?, verb, table);
        write_text(path, &text.map_err(|error| format!("{}: {error}", path.display()))?)
    }
}

/// Runs the bug bench. The last line is one JSON object.
pub(crate) fn execute(options: &Options) -> Result<bool, String> {
    options.rows.check()?;
    let patience = Duration::from_secs(options.seconds);
    let scale = Scale { streams: options.streams.max(1), patience };
    let pulses = options.rows.pulses();
    let mut tallies = Vec::new();
    for row in [None].into_iter().chain(bench::rows::PLANTED.iter().copied().map(Some)) {
        let number = row.map_or(0, |row| row.number);
        if !options.rows.want(number) {
            continue;
        }
        let planted = plant(row.map(|row| row.number))?;
        let tally = bench::bench(row, &Order { planted, ..Order::new(0) }, scale, &pulses);
        let _ = writeln!(stdout(), "{}", tally.markdown());
        tallies.push(tally);
    }
    let figures = serde_json::json!({
        "streams": scale.streams,
        "seconds": options.seconds,
        "rows": tallies.iter().map(bench::Tally::json).collect::<Vec<_>>(),
    });
    options.rows.write("bugs", &figures, &bench::table(&tallies, scale))?;
    let good = tallies.iter().filter(|tally| tally.is_good()).count();
    let last = serde_json::json!({ "rows": tallies.len(), "as_they_should_be": good });
    let _ = writeln!(stdout(), "{last}");
    Ok(good == tallies.len())
}
