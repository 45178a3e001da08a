//! Replay across the seam: every boot of a real process, as its driver recorded it under kills, hangs and cut
//! links, is fed to a fresh node by `ironseed debug replay`. A node that reacts differently the second time
//! depends on something that is not among its inputs.

use crate::Result;
use crate::cluster::{Cluster, Place};
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Where recordings are, below the folder that a cluster works in.
pub(crate) const FOLDER: &str = "recordings";

/// What was replayed.
pub(crate) struct Replayed {
    /// Boots of nodes, each recorded.
    pub(crate) boots: usize,
    /// Steps in all of them.
    pub(crate) steps: u64,
    /// Bytes of the recordings.
    pub(crate) bytes: u64,
    /// Recordings that end in the middle of a frame.
    pub(crate) torn: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boots, steps, bytes, torn, took } = self;
        let (mib, seconds) = (bytes >> 20, took.as_secs_f64());
        write!(f, "{boots} boots, {steps} steps replayed identically ")?;
        write!(f, "({mib} MiB of recordings, {torn} of them torn, in {seconds:.1} s)")
    }
}

/// What the program says of one recording.
#[derive(Deserialize)]
struct Line {
    file: String,
    steps: u64,
    bytes: u64,
    tail: String,
}

/// Ends the cluster and replays every boot of every node.
///
/// # Errors
/// A boot was not recorded, its recording is damaged, or it replays differently.
pub(crate) fn replay(cluster: Cluster, place: &Place) -> Result<Replayed> {
    let boots = cluster.end()?;
    let folder = place.work.join(FOLDER);
    let began = Instant::now();
    let found = std::fs::read_dir(&folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()
    });
    let mut files: Vec<PathBuf> =
        found.map_err(|error| format!("{}: {error}", folder.display()))?;
    files.sort();
    if files.len() != boots {
        return Err(format!("{boots} boots left {} recordings", files.len()));
    }
    let mut command = Command::new(&place.server);
    command.args(["debug", "replay"]).args(&files);
    let output = command.output().map_err(|error| format!("debug replay: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "the recordings do not replay:\n{}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let lines = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Line>();
    let lines: Vec<Line> =
        lines.collect::<std::result::Result<_, _>>().map_err(|error| error.to_string())?;
    if lines.len() != boots {
        return Err(format!("{boots} recordings, of which {} were replayed", lines.len()));
    }
    // Every boot was waited for until it was ready, so each has taken steps; and a kill tears, but harms nothing.
    if let Some(line) = lines.iter().find(|line| line.steps == 0 || line.tail == "damaged") {
        return Err(format!("{}: {} steps, tail {}", line.file, line.steps, line.tail));
    }
    Ok(Replayed {
        boots,
        steps: lines.iter().map(|line| line.steps).sum(),
        bytes: lines.iter().map(|line| line.bytes).sum(),
        torn: lines.iter().filter(|line| line.tail == "torn").count(),
        took: began.elapsed(),
    })
}
