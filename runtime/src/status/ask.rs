//! `ironseed status`: asks the admin ports and prints what they make together.

use super::summary::{Answer, Summary, summarise};
use super::{NodeReport, table};
use crate::config::Config;
use crate::http::{self, Fetched};
use crate::sys::JoinSet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An admin port to ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The node that should be there, if it is known.
    pub node: Option<u32>,
    /// `host:port`.
    pub address: String,
}

/// Why nobody can be asked.
#[derive(Debug)]
pub enum AskError {
    /// The configuration is refused.
    Config(crate::config::ConfigError),
    /// It names no admin address.
    NoTargets(PathBuf),
    /// The demo's list of nodes can't be read.
    Demo {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::NoTargets(path) => {
                write!(f, "{}: no node in [[cluster.nodes]] has an admin address", path.display())
            }
            Self::Demo { path, what } => write!(
                f,
                "{}: {what}: say which nodes to ask with --config FILE or --admin HOST:PORT,...",
                path.display()
            ),
        }
    }
}

impl std::error::Error for AskError {}

/// A node that is down must not hold the answer up for long.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks all targets at the same time.
pub async fn ask_all(targets: &[Target]) -> Vec<Answer> {
    let mut asking = JoinSet::new();
    for (place, target) in targets.iter().cloned().enumerate() {
        asking.spawn(async move { (place, ask(target).await) });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn ask(target: Target) -> Answer {
    let report = match http::get(&target.address, "/status", TIMEOUT).await {
        Ok(Fetched { status: 200, body }) => serde_json::from_slice::<NodeReport>(&body)
            .map_err(|error| format!("not understood: {error}")),
        Ok(Fetched { status, .. }) => Err(format!("answered {status}")),
        Err(error) => Err(error.to_string()),
    };
    let node = report.as_ref().map_or(target.node, |report| Some(report.node));
    Answer { node, address: target.address, report }
}

/// The targets that a configuration lists.
///
/// # Errors
/// The file is refused or lists none.
pub fn configured(file: &Path) -> Result<Vec<Target>, AskError> {
    let config = Config::load(file).map_err(AskError::Config)?;
    let own = (config.node, config.admin.to_string());
    let targets: Vec<Target> = config
        .cluster
        .members
        .into_iter()
        .filter_map(|member| {
            let address = member.admin.or_else(|| (member.id == own.0).then(|| own.1.clone()))?;
            Some(Target { node: Some(member.id.0), address })
        })
        .collect();
    if targets.is_empty() { Err(AskError::NoTargets(file.to_owned())) } else { Ok(targets) }
}

/// Everything that `--json` prints.
#[derive(Serialize)]
struct Full<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    reports: Vec<&'a NodeReport>,
}

/// Asks and renders, as JSON or for people. Returns the text, and whether every group is available.
pub async fn run(targets: &[Target], json: bool) -> (String, bool) {
    let answers = ask_all(targets).await;
    let summary = summarise(&answers);
    let available = summary.can_lose.is_some();
    if !json {
        return (table::render(&summary), available);
    }
    let reports = answers.iter().filter_map(|answer| answer.report.as_ref().ok()).collect();
    let full = Full { summary: &summary, reports };
    // Nothing in it can fail to be JSON.
    (serde_json::to_string(&full).unwrap_or_default() + "\n", available)
}
