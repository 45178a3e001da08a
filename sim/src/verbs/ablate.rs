//! The verb `ablate`: leaves fault classes and oracles out, one at a time, and writes down which bugs then escape.

use super::bugs::Rows;
use super::common::plant;
use clap::Args;
use ironseed_sim::ablation::Removal;
use ironseed_sim::bench::{self, Scale, ablate};
use std::io::{Write as _, stdout};
use std::time::Duration;

/// What is left out of which rows.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rows: Rows,
    /// Only these removals, by words in their names as the table has them.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Streams of seeds for each row.
    #[arg(long, default_value_t = 4)]
    streams: u64,
    /// CPU seconds that a stream may take.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Runs the ablation. The last line is one JSON object.
pub(crate) fn execute(options: &Options) -> Result<bool, String> {
    options.rows.check()?;
    let mut rows = Vec::new();
    for row in bench::rows::PLANTED.iter().filter(|row| options.rows.want(row.number)) {
        rows.push((*row, plant(Some(row.number))?));
    }
    let named = |removal: &Removal| {
        let name = removal.to_string();
        options.without.is_empty() || options.without.iter().any(|word| name.contains(word))
    };
    let streams = options.streams.max(1);
    let scale = Scale { streams, patience: Duration::from_secs(options.seconds) };
    let pulses = options.rows.pulses();
    let ablation = ablate::ablate(&rows, Removal::all().filter(named), scale, &pulses, |loss| {
        let _ = writeln!(stdout(), "{}", loss.markdown(streams));
    });
    let figures = ablation.json();
    options.rows.write("ablate", &figures, &ablation.table(scale))?;
    let _ = writeln!(stdout(), "{figures}");
    Ok(true)
}
