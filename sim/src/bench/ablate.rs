//! Ablation: which bugs escape when a fault class or an oracle is left out (docs/bug-bench.md).
//!
//! Only bugs that are caught in every stream with everything in place are tried. Each removal gives a stream a multiple of
//! the time that the bug took before, so a bug that is only caught much later counts as escaped too.

use super::{Scale, Tally, bench, rows::Row};
use crate::ablation::Removal;
use crate::run::{Order, Pulse};
use ironseed_core::planted::Planted;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// How many times longer a bug may take without something than its slowest stream did with everything.
const SLACK: u32 = 5;
/// No stream is given less: CPU time.
const PATIENCE_MIN: Duration = Duration::from_secs(3);

/// A bug that is caught, and how long that may take.
#[derive(Clone, Copy, Debug)]
struct Caught {
    row: u32,
    planted: Planted,
    patience: Duration,
}

/// What a removal cost.
#[derive(Clone, Debug)]
pub struct Loss {
    /// What was left out.
    pub removal: Removal,
    /// Bugs that not all streams caught any more, with how many did.
    pub weaker: Vec<(u32, usize)>,
}

/// What an ablation came to.
#[derive(Clone, Debug)]
pub struct Ablation {
    /// Bugs that every stream catches with everything in place.
    pub caught: Vec<u32>,
    /// One for each removal.
    pub losses: Vec<Loss>,
}

/// Runs it for these rows. `told` hears of each removal when it is done.
#[must_use]
pub fn ablate(
    rows: &[(Row, Planted)],
    removals: impl Iterator<Item = Removal>,
    scale: Scale,
    pulses: &[Arc<Pulse>],
    mut told: impl FnMut(&Loss),
) -> Ablation {
    let run = |planted, without, patience| {
        let order = Order { planted, without, ..Order::new(0) };
        bench(None, &order, Scale { patience, ..scale }, pulses)
    };
    let mut caught = Vec::new();
    for (row, planted) in rows {
        let tally = run(*planted, None, scale.patience);
        if tally.killed() == tally.streams.len() {
            let slowest = tally.streams.iter().map(|stream| stream.cpu).max().unwrap_or_default();
            let patience = (slowest * SLACK).clamp(PATIENCE_MIN, PATIENCE_MIN.max(scale.patience));
            caught.push(Caught { row: row.number, planted: *planted, patience });
        }
    }
    let lost = |removal| {
        let weaker = caught.iter().filter_map(|bug| {
            let tally: Tally = run(bug.planted, Some(removal), bug.patience);
            (tally.killed() < tally.streams.len()).then_some((bug.row, tally.killed()))
        });
        Loss { removal, weaker: weaker.collect() }
    };
    let losses = removals.map(lost).inspect(|loss| told(loss)).collect();
    Ablation { caught: caught.iter().map(|bug| bug.row).collect(), losses }
}

impl Loss {
    fn escaped(&self, streams: u64, wholly: bool) -> String {
        let rows = self.weaker.iter().filter(|(_, killed)| (*killed == 0) == wholly);
        let one = |(row, killed): &(u32, usize)| match wholly {
            true => row.to_string(),
            false => format!("{row} ({killed} of {streams})"),
        };
        rows.map(one).collect::<Vec<_>>().join(", ")
    }

    /// One row of the table.
    #[must_use]
    pub fn markdown(&self, streams: u64) -> String {
        format!(
            "| {} | {} | {} |",
            self.removal,
            self.escaped(streams, true),
            self.escaped(streams, false)
        )
    }
}

impl Ablation {
    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let loss = |loss: &Loss| {
            let weaker: Vec<Value> = loss
                .weaker
                .iter()
                .map(|(row, killed)| json!({ "row": row, "killed": killed }))
                .collect();
            json!({ "without": loss.removal.to_string(), "weaker": weaker })
        };
        json!({ "caught": self.caught, "losses": self.losses.iter().map(loss).collect::<Vec<_>>() })
    }

    /// The table of `docs/bug-bench.md`.
    #[must_use]
    pub fn table(&self, scale: Scale) -> String {
        let row = |row: &u32| row.to_string();
        let caught = self.caught.iter().map(row).collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "{} streams a row, at most {} CPU seconds each. Tried with the bugs that every stream catches with everything \
             in place: {caught}. A bug escapes if no stream catches it within {SLACK} times what its slowest stream took \
             before, or {} s.\n\n| without | escape | are caught by fewer streams |\n| --- | --- | --- |\n",
            scale.streams,
            scale.patience.as_secs(),
            PATIENCE_MIN.as_secs(),
        );
        for loss in self.losses.iter().filter(|loss| !loss.weaker.is_empty()) {
            let _ = writeln!(text, "{}", loss.markdown(scale.streams));
        }
        let nothing = self.losses.iter().filter(|loss| loss.weaker.is_empty());
        let nothing: Vec<String> = nothing.map(|loss| loss.removal.to_string()).collect();
        if !nothing.is_empty() {
            let _ = writeln!(text, "\nNothing escapes without one of: {}.", nothing.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Class;

    #[test]
    fn a_table_says_what_escapes_and_what_costs_nothing() {
        let loss = |removal, weaker: &[(u32, usize)]| Loss { removal, weaker: weaker.to_vec() };
        let ablation = Ablation {
            caught: vec![1, 3, 21],
            losses: vec![
                loss(Removal::Class(Class::PowerLoss), &[]),
                loss(Removal::Oracle("durable"), &[(3, 0), (21, 2)]),
                loss(Removal::Rest, &[]),
            ],
        };
        let scale = Scale { streams: 3, patience: Duration::from_secs(20) };
        let table = ablation.table(scale);
        assert!(table.contains("\n| oracle `durable` | 3 | 21 (2 of 3) |\n"), "{table}");
        assert!(table.contains("catches with everything in place: 1, 3, 21."), "{table}");
        assert!(table.ends_with("without one of: fault `power-loss`, frozen rest.\n"), "{table}");
        let without = &ablation.json()["losses"][1];
        assert_eq!(without["weaker"][1], json!({ "row": 21, "killed": 2 }));
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn a_bug_that_one_oracle_sees_at_once_escapes_without_it() {
        use ironseed_core::planted::Bug;
        let row =
            |number| *super::super::rows::PLANTED.iter().find(|row| row.number == number).unwrap();
        let rows = [(row(3), Planted::with(Bug::AcknowledgeBeforeSync))];
        let scale = Scale { streams: 1, patience: Duration::from_secs(30) };
        let removals = [Removal::Oracle("durable"), Removal::Oracle("work")];
        let pulses = [Arc::default()];
        let ablation = ablate(&rows, removals.into_iter(), scale, &pulses, |_| {});
        assert_eq!(ablation.caught, [3]);
        assert!(ablation.losses[1].weaker.is_empty());
    }
}
