//! What the verbs share: how a run is named, what is fixed of it, and how its verdict is told.

use clap::Args;
use ironseed_core::planted::Planted;
use ironseed_sim::run::{Order, Pulse, Report, watch};
use ironseed_sim::seedfile::{SeedFile, parse_bug, parse_seed};
use ironseed_sim::setup::Overrides;
use ironseed_sim::stats::Stats;
use ironseed_sim::trace::Sink;
use std::io::{BufWriter, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which run: a file of the corpus, or a seed.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// A file of the corpus.
    #[arg(required_unless_present = "seed", conflicts_with = "seed")]
    file: Option<PathBuf>,
    /// The seed: decimal or 0x...
    #[arg(long, value_parser = parse_seed)]
    seed: Option<u64>,
    #[command(flatten)]
    common: Common,
}

/// A run that was named.
pub(crate) struct Named {
    /// It.
    pub(crate) order: Order,
    /// The row that is planted in it.
    pub(crate) bug: Option<u32>,
    /// The arguments that replay it.
    pub(crate) how: String,
}

impl Source {
    /// The run that it names.
    pub(crate) fn named(&self) -> Result<Named, String> {
        let common = &self.common;
        let (seed, bug, config, how) = match (&self.file, self.seed) {
            (Some(file), _) => {
                let found = SeedFile::parse(&text_of(file)?);
                let found = found.map_err(|error| format!("{}: {error}", file.display()))?;
                let how = format!("replay {}{}", file.display(), common.arguments());
                (found.seed()?, common.bug.or(found.bug), found.config, how)
            }
            (None, Some(seed)) => {
                (seed, common.bug, Overrides::default(), replay_command(seed, common))
            }
            (None, None) => return Err("name a seed or a file".into()),
        };
        let overrides = common.over(config)?;
        let order = Order { planted: plant(bug)?, overrides, ..Order::new(seed) };
        Ok(Named { order, bug, how })
    }

    /// Ends the process with a violation when a run of one of these threads stops for good.
    pub(crate) fn guard(&self, threads: u64) -> Vec<Arc<Pulse>> {
        guard(threads, &self.common)
    }
}

/// What is fixed of a run.
#[derive(Debug, Default, Args)]
pub(crate) struct Common {
    /// Plants this row of the bug bench (needs the feature `planted-bugs`).
    #[arg(long)]
    pub(crate) bug: Option<u32>,
    /// How many nodes: 1, 3, 5 or 7.
    #[arg(long)]
    nodes: Option<u32>,
    /// How many shards: a power of two up to 256.
    #[arg(long)]
    shards: Option<u16>,
    /// Which workload, by its name in the counts.
    #[arg(long)]
    workload: Option<String>,
    /// Which region of runs: succession, buckets, disks, moves, leases, bytes or none.
    #[arg(long)]
    region: Option<String>,
    /// How long clients and faults go on: simulated milliseconds.
    #[arg(long)]
    millis: Option<u64>,
    /// How many operations all clients begin together at the most.
    #[arg(long)]
    operations: Option<u64>,
}

impl Common {
    /// What it fixes of a run, on top of what a file does.
    ///
    /// # Errors
    /// What can't be.
    pub(crate) fn over(&self, overrides: Overrides) -> Result<Overrides, String> {
        let overrides = Overrides {
            nodes: self.nodes.or(overrides.nodes),
            shards: self.shards.or(overrides.shards),
            workload: self.workload.clone().or(overrides.workload),
            region: self.region.clone().or(overrides.region),
            millis: self.millis.or(overrides.millis),
            operations: self.operations.or(overrides.operations),
            ..overrides
        };
        overrides.check()?;
        Ok(overrides)
    }

    /// The same as arguments, for the command that replays a run.
    pub(crate) fn arguments(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text += &format!(" --{name} {value}");
            }
        };
        add("bug", self.bug.map(|bug| bug.to_string()));
        add("nodes", self.nodes.map(|nodes| nodes.to_string()));
        add("shards", self.shards.map(|shards| shards.to_string()));
        add("workload", self.workload.clone());
        add("region", self.region.clone());
        add("millis", self.millis.map(|millis| millis.to_string()));
        add("operations", self.operations.map(|operations| operations.to_string()));
        text
    }
}

/// Ends the process with a violation when a run of one of these threads stops for good.
pub(crate) fn guard(threads: u64, common: &Common) -> Vec<Arc<Pulse>> {
    let pulses: Vec<Arc<Pulse>> = (0..threads).map(|_| Arc::default()).collect();
    let (watched, arguments) = (pulses.clone(), common.arguments());
    std::thread::spawn(move || {
        watch(&watched, STEP_PATIENCE, |seed| {
            let _ = writeln!(
                stdout(),
                "seed {seed}: violation of work: a step does not end\nreplay it: cargo run -p ironseed-sim{} -- \
                 replay --seed {seed}{arguments}",
                features(),
            );
            std::process::exit(1);
        });
    });
    pulses
}

/// No step takes a thousandth of this, on any machine.
const STEP_PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn replay_command(seed: u64, common: &Common) -> String {
    format!("replay --seed {seed}{}", common.arguments())
}

/// Debug and release tell the same story, so the command is the one that builds faster.
pub(crate) const fn features() -> &'static str {
    if ironseed_core::planted::COMPILED_IN { " --features planted-bugs" } else { "" }
}

pub(crate) fn plant(row: Option<u32>) -> Result<Planted, String> {
    let Some(row) = row else { return Ok(Planted::NONE) };
    let bug = parse_bug(row)?;
    #[cfg(feature = "planted-bugs")]
    return Ok(Planted::with(bug));
    #[cfg(not(feature = "planted-bugs"))]
    Err(format!("{bug:?} is not in this build: add --features planted-bugs"))
}

/// Prints every line; a reader that has seen enough, such as `head`, ends it.
pub(crate) fn to_stdout() -> Sink {
    let mut out = BufWriter::new(stdout());
    Box::new(move |line| {
        if writeln!(out, "{line}").is_err() {
            std::process::exit(0);
        }
    })
}

pub(crate) fn verdict(report: &Report, how: &str) {
    let _ = match &report.violation {
        None => writeln!(stdout(), "nothing is wrong"),
        Some(violation) => writeln!(
            stdout(),
            "violation of {violation}\nreplay it: cargo run -p ironseed-sim{} -- {how}",
            features(),
        ),
    };
}

pub(crate) fn last_line(stats: &Stats, began: Instant, history_hash: Option<&str>) {
    let mut json = stats.json(began.elapsed().as_millis() as f64 / 1000.0);
    if let Some(hash) = history_hash {
        json.insert("history_hash".into(), hash.into());
    }
    let _ = writeln!(stdout(), "{}", serde_json::Value::Object(json));
}

pub(crate) fn text_of(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
