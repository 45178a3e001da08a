//! The verb `ablate`: leaves fault classes and oracles out, one at a time, and writes down which bugs then escape.

use super::common::{Common, guard, plant, text_of, write_text};
use clap::Args;
use ironseed_sim::ablation::Removal;
use ironseed_sim::bench::{self, Scale, ablate};
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::time::Duration;

/// What is left out of which rows.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these rows of the bug bench.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// Only these removals, by words in their names as the table has them.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Streams of seeds for each row.
    #[arg(long, default_value_t = 4)]
    streams: u64,
    /// CPU seconds that a stream may take.
    #[arg(long, default_value_t = 20)]
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

/// Runs the ablation. The last line is one JSON object.
pub(crate) fn execute(options: &Options) -> Result<bool, String> {
    let wanted = |row: u32| options.only.is_empty() || options.only.contains(&row);
    let mut rows = Vec::new();
    for row in bench::rows::PLANTED.iter().filter(|row| wanted(row.number)) {
        rows.push((*row, plant(Some(row.number))?));
    }
    let named = |removal: &Removal| {
        let name = removal.to_string();
        options.without.is_empty() || options.without.iter().any(|word| name.contains(word))
    };
    let document = options.doc.as_deref().map(|path| Ok::<_, String>((path, text_of(path)?)));
    let document = document.transpose()?;
    let streams = options.streams.max(1);
    let scale = Scale { streams, patience: Duration::from_secs(options.seconds) };
    let pulses = guard(options.jobs.max(1), &Common::default());
    let ablation = ablate::ablate(&rows, Removal::all().filter(named), scale, &pulses, |loss| {
        let _ = writeln!(stdout(), "{}", loss.markdown(streams));
    });
    let figures = ablation.json();
    if let Some(path) = &options.json {
        write_text(path, &format!("{figures:#}\n"))?;
    }
    if let Some((path, text)) = document {
        let text = bench::insert(&text, "ablate", &ablation.table(scale));
        write_text(path, &text.map_err(|error| format!("{}: {error}", path.display()))?)?;
    }
    let _ = writeln!(stdout(), "{figures}");
    Ok(true)
}
