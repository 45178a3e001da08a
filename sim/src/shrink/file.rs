//! The file that shrinking ends with, and the figures that show what it did.

use super::Outcome;
use super::judge::Case;
use crate::seedfile::SeedFile;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How big a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Nodes.
    pub nodes: u64,
    /// Shards.
    pub shards: u64,
    /// Clients that began anything.
    pub clients: u64,
    /// Operations that they began before everything healed.
    pub operations: u64,
    /// Faults of the plan, whether they had struck before the violation or not.
    pub faults: u64,
    /// Events.
    pub events: u64,
    /// Simulated milliseconds up to the verdict.
    pub millis: u64,
}

impl Figures {
    /// Of this run.
    #[must_use]
    pub fn of(case: &Case) -> Self {
        let Case { report, .. } = case;
        let script = &report.choices.script;
        let clients: BTreeSet<u32> = script.iter().map(|step| step.client).collect();
        Self {
            nodes: u64::from(report.choices.nodes),
            shards: u64::from(report.choices.shards),
            clients: clients.len() as u64,
            operations: script.len() as u64,
            faults: report.choices.plan.len() as u64,
            events: report.stats.events,
            millis: report.stats.sim_nanos / 1_000_000,
        }
    }

    /// For the last line of the program.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "nodes": self.nodes,
            "shards": self.shards,
            "clients": self.clients,
            "operations": self.operations,
            "faults": self.faults,
            "events": self.events,
            "sim_seconds": self.millis as f64 / 1000.0,
        })
    }

    fn line(&self) -> String {
        format!(
            "{} nodes, {} shards, {} faults, {} operations of {} clients, {} events, {} ms",
            self.nodes,
            self.shards,
            self.faults,
            self.operations,
            self.clients,
            self.events,
            self.millis
        )
    }
}

/// The text of the file: `seed` with what is fixed of it, for `seeds/` as it is.
///
/// # Errors
/// It has no form in TOML.
pub fn write(
    seed: u64,
    found: &str,
    bug: Option<u32>,
    case: &Case,
    before: Option<&Outcome>,
) -> Result<String, String> {
    let file = SeedFile {
        seed: seed.to_string(),
        found: found.into(),
        broke: sentence(&case.violation.what),
        checker: case.violation.checker.into(),
        bug,
        config: case.overrides.clone(),
    };
    let text = toml::to_string(&file).map_err(|error| error.to_string())?;
    let head = match before {
        Some(Outcome { before, after, .. }) => {
            format!("# Shrunk from {}\n#     to {}.\n", before.line(), after.line())
        }
        None => "# Shrinking is under way, or was interrupted.\n".into(),
    };
    let back = SeedFile::parse(&text)?;
    if back != file {
        return Err(format!("what is written is not what is read:\n{text}"));
    }
    Ok(head + &text)
}

/// The first line of what a checker says, on one line and not too long.
fn sentence(what: &str) -> String {
    let mut lines = what.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut text = lines.next().unwrap_or("It failed").to_owned();
    // Some first lines only announce the next.
    if text.ends_with(':')
        && let Some(next) = lines.next()
    {
        text = format!("{text} {next}");
    }
    if let Some((end, _)) = text.char_indices().nth(SENTENCE_CHARS) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

const SENTENCE_CHARS: usize = 300;
