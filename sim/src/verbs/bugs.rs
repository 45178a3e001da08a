//! The verb `bugs`: runs the bug bench and writes down what it came to.

use super::common::{Common, guard, plant, text_of, write_text};
use clap::Args;
use ironseed_sim::bench::{self, Scale};
use ironseed_sim::run::Order;
use ironseed_sim::seedfile::parse_bug;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::time::Duration;

/// What is run of the bug bench.
#[derive(Debug, Args)]
pub(crate) struct Options {
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

/// Runs the bug bench. The last line is one JSON object.
pub(crate) fn execute(options: &Options) -> Result<bool, String> {
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
    let scale = Scale { streams: options.streams.max(1), patience };
    let pulses = guard(options.jobs.max(1), &Common::default());
    let mut tallies = Vec::new();
    for row in [None].into_iter().chain(rows.iter().copied().map(Some)) {
        let number = row.map_or(0, |row| row.number);
        if !wanted(number) {
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
    if let Some(path) = &options.json {
        write_text(path, &format!("{figures:#}\n"))?;
    }
    if let Some((path, text)) = document {
        let text = bench::insert(&text, "bugs", &bench::table(&tallies, scale));
        write_text(path, &text.map_err(|error| format!("{}: {error}", path.display()))?)?;
    }
    let good = tallies.iter().filter(|tally| tally.is_good()).count();
    let last = serde_json::json!({ "rows": tallies.len(), "as_they_should_be": good });
    let _ = writeln!(stdout(), "{last}");
    Ok(good == tallies.len())
}
