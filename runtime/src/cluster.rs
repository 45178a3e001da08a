//! `ironseed cluster`: what an operator does about the nodes of a cluster.

use crate::admin::{self, Key, REPLACE_STORE, ReplaceStore};
use crate::config::{Config, ConfigError};
use crate::http;
use crate::status::summary::Answer;
use crate::status::{self, AskError, NodeReport, StoreReport};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// A command waits for the meta group, which may be electing a leader.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a store was not replaced.
#[derive(Debug)]
pub enum ReplaceError {
    /// The configuration is refused.
    Config(ConfigError),
    /// It says not whom to ask.
    Ask(AskError),
    /// The cluster is not in a state in which it could or should be done. Nothing was done.
    Not(String),
    /// Nobody did it; what each node said.
    Refused(Vec<String>),
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Ask(error) => write!(f, "{error}"),
            Self::Not(why) => f.write_str(why),
            Self::Refused(answers) => write!(f, "not done: {}", answers.join("; ")),
        }
    }
}

impl std::error::Error for ReplaceError {}

/// What is going to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    request: ReplaceStore,
    /// Whom to ask, in this order.
    addresses: Vec<String>,
}

/// Lets another store take the place of a node's; without `sure` it only says what would be done. Returns what to print.
///
/// # Errors
/// See [`ReplaceError`].
pub async fn replace_store(
    file: &Path,
    node: u32,
    store: Option<&str>,
    sure: bool,
) -> Result<String, ReplaceError> {
    let targets = status::configured(file).map_err(ReplaceError::Ask)?;
    let config = Config::load(file).map_err(ReplaceError::Config)?;
    let answers = status::ask_all(&targets).await;
    let plan = plan(&answers, node, store).map_err(ReplaceError::Not)?;
    let ReplaceStore { old, new, .. } = &plan.request;
    if !sure {
        return Ok(format!(
            "node {node} has store {old} according to the cluster; store {new} wants its place.\n\
             The old one never counts again, and what only it had is lost. Do it with --yes.\n"
        ));
    }
    let key = Key::new(&config.cluster.secret);
    post(&plan, &key).await.map_err(ReplaceError::Refused)?;
    Ok(format!(
        "node {node} has store {new} now; its peers give it what it had (`ironseed status` shows what is missing)\n"
    ))
}

/// Finds out which store has to go and which comes.
fn plan(answers: &[Answer], node: u32, wanted: Option<&str>) -> Result<Plan, String> {
    let serving = |answer: &&Answer| {
        answer.report.as_ref().is_ok_and(|report| report.phase == "serving" && report.node != node)
    };
    let members: Vec<&Answer> = answers.iter().filter(serving).collect();
    let reports = || members.iter().filter_map(|answer| answer.report.as_ref().ok());
    let latest = reports().max_by_key(|report| report.charter);
    let Some(latest) = latest else {
        return Err("no other node answers and serves: there is nobody to ask".into());
    };
    let of_node = |stores: &[StoreReport]| stores.iter().find(|of| of.node == node).cloned();
    let Some(old) = of_node(&latest.stores) else {
        return Err(format!("the cluster has no node {node}"));
    };
    let itself = answers.iter().filter_map(|answer| answer.report.as_ref().ok());
    if let Some(report) = itself.clone().find(|report| is_running(report, &old)) {
        return Err(format!(
            "node {node} is {} with the store that it has: its disk is not lost. Stop it, and start it on an empty \
             directory if it is to have another one",
            report.phase
        ));
    }
    let strangers: BTreeSet<String> = reports()
        .flat_map(|report| &report.strangers)
        .filter(|stranger| stranger.node == node && stranger.store != old.store)
        .map(|stranger| stranger.store.clone())
        .collect();
    let new = match wanted {
        Some(store) if strangers.contains(store) => store.to_owned(),
        Some(store) => return Err(format!("nobody has heard of store {store} at node {node}")),
        None => {
            let mut strangers = strangers.into_iter();
            match (strangers.next(), strangers.next()) {
                (Some(store), None) => store,
                (Some(one), Some(other)) => {
                    return Err(format!(
                        "several stores want the place of node {node} ({one}, {other}, ...): say which with --store"
                    ));
                }
                (None, _) => {
                    return Err(format!(
                        "no other store wants the place of node {node}: start it on an empty directory first"
                    ));
                }
            }
        }
    };
    let addresses = members.iter().map(|answer| answer.address.clone()).collect();
    Ok(Plan { request: ReplaceStore { node, old: old.store, new }, addresses })
}

fn is_running(report: &NodeReport, old: &StoreReport) -> bool {
    report.node == old.node
        && report.store.as_deref() == Some(old.store.as_str())
        && matches!(report.phase.as_str(), "booting" | "serving" | "stopping")
}

/// Asks one node after the other until one has done it.
async fn post(plan: &Plan, key: &Key) -> Result<(), Vec<String>> {
    let body = serde_json::to_vec(&plan.request).unwrap_or_default();
    let Some(proof) = key.prove(REPLACE_STORE, &body) else {
        return Err(vec!["the configuration has no secret of the cluster".into()]);
    };
    let mut refusals = Vec::new();
    for address in &plan.addresses {
        let header = (admin::PROOF, proof.as_str());
        match http::post(address, REPLACE_STORE, header, body.clone(), TIMEOUT).await {
            Ok(fetched) if fetched.status == 200 => return Ok(()),
            Ok(fetched) => {
                let why = String::from_utf8_lossy(&fetched.body).trim().to_owned();
                refusals.push(format!("{address}: {why}"));
            }
            Err(error) => refusals.push(format!("{address}: {error}")),
        }
    }
    Err(refusals)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "22222222222222222222222222222222";
    const NEW: &str = "77777777777777777777777777777777";

    fn stranger(node: u32, store: &str) -> StoreReport {
        StoreReport { node, store: store.into() }
    }

    fn answer(node: u32, phase: &str, store: &str, strangers: &[StoreReport]) -> Answer {
        let report = NodeReport {
            node,
            phase: phase.into(),
            store: Some(store.into()),
            stores: vec![stranger(1, "1"), stranger(2, OLD), stranger(3, "3")],
            strangers: strangers.to_vec(),
            ..NodeReport::default()
        };
        Answer { node: Some(node), address: format!("node{node}"), report: Ok(report) }
    }

    fn down(node: u32) -> Answer {
        Answer { node: Some(node), address: format!("node{node}"), report: Err("down".into()) }
    }

    #[test]
    fn the_only_store_that_wants_the_place_gets_it() {
        let new = [stranger(2, NEW)];
        let answers = [
            answer(1, "serving", "1", &[]),
            answer(2, "waiting", NEW, &[]),
            answer(3, "serving", "3", &new),
        ];
        let found = plan(&answers, 2, None).unwrap();
        assert_eq!((found.request.old.as_str(), found.request.new.as_str()), (OLD, NEW));
        assert_eq!(found.addresses, ["node1", "node3"]);
        assert_eq!(plan(&answers, 2, Some(NEW)), Ok(found));
        assert!(plan(&answers, 2, Some("8")).unwrap_err().contains("nobody has heard"));
        assert!(plan(&answers, 3, None).unwrap_err().contains("its disk is not lost"));
        assert!(plan(&answers, 4, None).unwrap_err().contains("no node 4"));
    }

    #[test]
    fn what_is_not_clear_is_not_done() {
        let two = [stranger(2, NEW), stranger(2, "88888888888888888888888888888888")];
        let of = |strangers: &[StoreReport]| {
            [answer(1, "serving", "1", strangers), down(2), answer(3, "serving", "3", &[])]
        };
        assert!(plan(&of(&two), 2, None).unwrap_err().contains("several stores"));
        assert_eq!(plan(&of(&two), 2, Some(NEW)).unwrap().request.new, NEW);
        assert!(plan(&of(&[]), 2, None).unwrap_err().contains("start it on an empty directory"));
        assert!(plan(&[down(1), down(3)], 2, None).unwrap_err().contains("nobody to ask"));
    }
}
