//! The bug bench: what this simulator catches, and how soon (docs/bug-bench.md).
//!
//! Each bug is planted in several **streams** of seeds, which share none. A stream runs one seed after another
//! until one ends in a violation, or until its time is up. Time is what the stream's own thread has computed,
//! so other work on the machine does not count. Row 0 is the same with nothing planted: each stream runs to the
//! end of its time, and no alarm may be raised.
//!
//! - **reached**: the planted line was asked about its bug.
//! - **diverged**: the first run of the stream differs from the same seed's without the bug.
//! - **killed**: a seed ended in a violation; the oracle is the one that said so first.

pub mod ablate;
pub mod rows;

use crate::run::{Order, Pulse, run};
use crate::swarm::run_checked;
use ironseed_core::planted::{self, Planted};
use rows::Row;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Seeds of two streams never meet: no stream runs so many.
const STREAM_SEEDS: u64 = 10_000_000;

/// How much is run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Streams for each row.
    pub streams: u64,
    /// CPU time that a stream may take.
    pub patience: Duration,
}

/// What one stream came to.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Seeds run.
    pub seeds: u64,
    /// Events of all of them.
    pub events: u64,
    /// CPU time.
    pub cpu: Duration,
    /// Whether the first seed ran otherwise than without the bug.
    pub diverged: bool,
    /// The seed that failed, and the oracle that saw it.
    pub killed: Option<(u64, &'static str)>,
}

/// What a row came to.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The row; `None` for row 0.
    pub row: Option<Row>,
    /// Whether the planted line was ever asked.
    pub reached: bool,
    /// Its streams.
    pub streams: Vec<Stream>,
}

/// Runs a row: all its streams, of runs like `order`. The threads' runs beat in `pulses`, one each.
#[must_use]
pub fn bench(row: Option<Row>, order: &Order, scale: Scale, pulses: &[Arc<Pulse>]) -> Tally {
    planted::forget_reached();
    let (next, streams) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for pulse in pulses {
            let (next, streams) = (&next, &streams);
            scope.spawn(move || {
                pulse.attach();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= scale.streams {
                        return;
                    }
                    let stream = stream(number, order, scale.patience);
                    if let Ok(mut streams) = streams.lock() {
                        streams.insert(number, stream);
                    }
                }
            });
        }
    });
    let streams = streams.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    Tally { row, reached: planted::reached(), streams: streams.into_values().collect() }
}

fn stream(number: u64, like: &Order, patience: Duration) -> Stream {
    let first = (number + 1) * STREAM_SEEDS;
    let order = |seed| Order { seed, ..like.clone() };
    let diverged = like.planted != Planted::NONE && {
        let hash = |planted| run(&Order { planted, ..order(first) }, None).history_hash;
        hash(like.planted) != hash(Planted::NONE)
    };
    let began = cpu_time();
    let mut stream = Stream { seeds: 0, events: 0, cpu: Duration::ZERO, diverged, killed: None };
    while stream.killed.is_none() && stream.cpu < patience {
        let seed = first + stream.seeds;
        let (stats, violation) = run_checked(&order(seed), false);
        stream.seeds += 1;
        stream.events += stats.events;
        stream.cpu = cpu_time().saturating_sub(began);
        stream.killed = violation.map(|violation| (seed, violation.checker));
    }
    stream
}

/// What this thread has computed so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

impl Tally {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.row.map_or(0, |row| row.number)
    }

    /// Streams that ended in a violation.
    #[must_use]
    pub fn killed(&self) -> usize {
        self.streams.iter().filter(|stream| stream.killed.is_some()).count()
    }

    /// Whether it came to what it should: every stream of a bug killed, none of row 0.
    #[must_use]
    pub fn is_good(&self) -> bool {
        if self.row.is_none() { self.killed() == 0 } else { self.killed() == self.streams.len() }
    }

    fn oracles(&self) -> BTreeMap<&'static str, u64> {
        let mut oracles = BTreeMap::new();
        for (_, oracle) in self.streams.iter().filter_map(|stream| stream.killed) {
            *oracles.entry(oracle).or_default() += 1;
        }
        oracles
    }

    /// The value at this percentile of the streams, those that were not killed counted as they are: a lower
    /// bound.
    fn percentile(&self, percent: usize, of: impl Fn(&Stream) -> u64) -> u64 {
        let mut values: Vec<u64> = self.streams.iter().map(of).collect();
        values.sort_unstable();
        let at = (values.len() * percent).div_ceil(100).saturating_sub(1);
        values.get(at).copied().unwrap_or_default()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let spread = |of: &dyn Fn(&Stream) -> u64| json!({ "p50": self.percentile(50, of), "p95": self.percentile(95, of) });
        let seeds: Vec<String> = self
            .streams
            .iter()
            .filter_map(|stream| stream.killed.map(|(seed, _)| seed.to_string()))
            .collect();
        json!({
            "row": self.number(),
            "streams": self.streams.len(),
            "reached": self.reached,
            "diverged": self.streams.iter().filter(|stream| stream.diverged).count(),
            "killed": self.killed(),
            "oracles": self.oracles(),
            "seeds": spread(&|stream| stream.seeds),
            "events": spread(&|stream| stream.events),
            "cpu_millis": spread(&|stream| millis(stream.cpu)),
            "cpu_millis_in_all": self.streams.iter().map(|stream| millis(stream.cpu)).sum::<u64>(),
            "killing_seeds": seeds,
        })
    }

    /// One row of the table.
    #[must_use]
    pub fn markdown(&self) -> String {
        let (plant, breaks, place) =
            self.row.map_or(("nothing", "", ""), |row| (row.plant, row.breaks, row.place));
        let reached = if self.row.is_none() || self.reached { "" } else { "never reached; " };
        let streams = self.streams.len();
        let diverged = self.streams.iter().filter(|stream| stream.diverged).count();
        let oracles: Vec<String> =
            self.oracles().into_iter().map(|(name, count)| format!("`{name}` {count}")).collect();
        let p50 = |of: &dyn Fn(&Stream) -> u64| self.percentile(50, of);
        let p95 = |of: &dyn Fn(&Stream) -> u64| self.percentile(95, of);
        let cpu = |stream: &Stream| millis(stream.cpu);
        format!(
            "| {} | {plant} | {breaks} | {place} | {reached}{diverged} of {streams} | {} of {streams} | {} | {}, {} | {}, {} | {:.1}, {:.1} |",
            self.number(),
            self.killed(),
            oracles.join(", "),
            p50(&|stream| stream.seeds),
            p95(&|stream| stream.seeds),
            thousands(p50(&|stream| stream.events)),
            thousands(p95(&|stream| stream.events)),
            p50(&cpu) as f64 / 1000.0,
            p95(&cpu) as f64 / 1000.0,
        )
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn thousands(events: u64) -> String {
    format!("{}k", events.div_ceil(1000))
}

/// The table of `docs/bug-bench.md`.
#[must_use]
pub fn table(tallies: &[Tally], scale: Scale) -> String {
    let mut text = format!(
        "{} streams a row, at most {} CPU seconds each; the two figures of a column are the median and the 95th percentile \
         over the streams (of a stream that was not killed, what it spent).\n\n",
        scale.streams,
        scale.patience.as_secs()
    );
    text += "| row | planted | breaks | where | diverged at once | killed | by | seeds | events | CPU s |\n";
    text += "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for tally in tallies {
        let _ = writeln!(text, "{}", tally.markdown());
    }
    text += "\nNot planted:\n\n| row | planted | breaks | why not |\n| --- | --- | --- | --- |\n";
    for row in rows::OPEN {
        let _ =
            writeln!(text, "| {} | {} | {} | {} |", row.number, row.plant, row.breaks, row.place);
    }
    text
}

/// Puts `table` between the marks of `verb` in a document.
///
/// # Errors
/// The marks are missing.
pub fn insert(document: &str, verb: &str, table: &str) -> Result<String, String> {
    let begin = format!("<!-- begin: written by `ironseed-sim {verb}` -->");
    let (before, rest) = document.split_once(&begin).ok_or(format!("no line {begin:?}"))?;
    let (_, after) = rest.split_once(END).ok_or(format!("no line {END:?}"))?;
    Ok(format!("{before}{begin}\n\n{table}\n{END}{after}"))
}

const END: &str = "<!-- end -->";

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(seeds: u64, killed: Option<(u64, &'static str)>) -> Stream {
        let cpu = Duration::from_millis(seeds * 100);
        Stream { seeds, events: seeds * 1000, cpu, diverged: seeds == 1, killed }
    }

    #[test]
    fn a_tally_counts_what_its_streams_came_to() {
        let killed = (1..=19).map(|n| stream(n, Some((n, if n < 5 { "raft" } else { "durable" }))));
        let mut tally = Tally {
            row: Some(rows::PLANTED[0]),
            reached: true,
            streams: killed.chain([stream(90, None)]).collect(),
        };
        assert!(!tally.is_good());
        let json = tally.json();
        assert_eq!((&json["killed"], &json["diverged"]), (&json!(19), &json!(1)));
        assert_eq!(json["oracles"], json!({ "durable": 15, "raft": 4 }));
        assert_eq!(json["seeds"], json!({ "p50": 10, "p95": 19 }));
        assert_eq!(json["cpu_millis"]["p95"], 1900);
        tally.streams.pop();
        assert!(tally.is_good());
        tally.row = None;
        assert!(!tally.is_good(), "an alarm without a bug");
    }

    #[test]
    fn a_table_goes_between_the_marks_of_a_document() {
        let marked =
            |verb| format!("<!-- begin: written by `ironseed-sim {verb}` -->\nXYZ\n{END}\n");
        let document = format!("# head\n{}{}tail\n", marked("ablate"), marked("bugs"));
        let scale = Scale { streams: 0, patience: Duration::ZERO };
        let written = insert(&document, "bugs", &table(&[], scale)).unwrap();
        assert!(written.starts_with("# head\n") && written.ends_with("\ntail\n"));
        assert!(written.matches("XYZ").count() == 1 && written.contains("| 29 |"));
        assert_eq!(insert(&written, "bugs", &table(&[], scale)), Ok(written));
        assert!(insert("nothing", "bugs", "").is_err());
    }

    #[test]
    fn nothing_planted_raises_no_alarm_and_a_stream_repeats_itself() {
        let scale = Scale { streams: 2, patience: Duration::from_millis(1) };
        let bench = || bench(None, &Order::new(0), scale, &[Arc::default(), Arc::default()]);
        let (one, two) = (bench(), bench());
        assert!(one.is_good(), "{one:?}");
        let events = |tally: &Tally| -> Vec<u64> {
            tally.streams.iter().map(|stream| stream.events).collect()
        };
        assert_eq!(events(&one), events(&two));
    }
}
