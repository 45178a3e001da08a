//! `ironseed cluster`: what an operator does about the nodes of a cluster.

use crate::admin::{self, Key, MOVE_SHARD, MoveShard, REPLACE_STORE, ReplaceStore};
use crate::config::{Config, ConfigError};
use crate::http;
use crate::status::summary::Answer;
use crate::status::{self, AskError, NodeReport, StoreReport};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// A command waits for the meta group, which may be electing a leader.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why the cluster was not changed.
#[derive(Debug)]
pub enum ChangeError {
    /// The configuration is refused.
    Config(ConfigError),
    /// It says not whom to ask.
    Ask(AskError),
    /// The cluster is not in a state in which it could or should be done. Nothing was done.
    Not(String),
    /// Nobody did it; what each node said.
    Refused(Vec<String>),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Ask(error) => write!(f, "{error}"),
            Self::Not(why) => f.write_str(why),
            Self::Refused(answers) => write!(f, "not done: {}", answers.join("; ")),
        }
    }
}

impl std::error::Error for ChangeError {}

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
/// See [`ChangeError`].
pub async fn replace_store(
    file: &Path,
    node: u32,
    store: Option<&str>,
    sure: bool,
) -> Result<String, ChangeError> {
    let targets = status::configured(file).map_err(ChangeError::Ask)?;
    let config = Config::load(file).map_err(ChangeError::Config)?;
    let answers = status::ask_all(&targets).await;
    let plan = plan(&answers, node, store).map_err(ChangeError::Not)?;
    let ReplaceStore { old, new, .. } = &plan.request;
    if !sure {
        return Ok(format!(
            "node {node} has store {old} according to the cluster; store {new} wants its place.\n\
             The old one never counts again, and what only it had is lost. Do it with --yes.\n"
        ));
    }
    let key = Key::new(&config.cluster.secret);
    let asked = post(REPLACE_STORE, &plan.request, &plan.addresses, &key);
    asked.await.map_err(ChangeError::Refused)?;
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

/// Has other nodes take a shard's replicas; without `sure` it only says what would be done. Returns what to print.
///
/// # Errors
/// See [`ChangeError`].
pub async fn move_shard(
    file: &Path,
    shard: u16,
    to: &[u32],
    sure: bool,
) -> Result<String, ChangeError> {
    let targets = status::configured(file).map_err(ChangeError::Ask)?;
    let config = Config::load(file).map_err(ChangeError::Config)?;
    let answers = status::ask_all(&targets).await;
    let (request, from, addresses) = plan_move(&answers, shard, to).map_err(ChangeError::Not)?;
    let (there, wanted) = (listed(&from), listed(&request.to));
    if !sure {
        return Ok(format!(
            "the replicas of shard {shard} are at nodes {there} and would be moved to {wanted}. Do it with --yes.\n"
        ));
    }
    let key = Key::new(&config.cluster.secret);
    post(MOVE_SHARD, &request, &addresses, &key).await.map_err(ChangeError::Refused)?;
    Ok(format!(
        "shard {shard} is being moved from nodes {there} to {wanted} (`ironseed status` shows when it is there)\n"
    ))
}

/// What to ask for, where the shard is now, and whom to ask.
fn plan_move(
    answers: &[Answer],
    shard: u16,
    to: &[u32],
) -> Result<(MoveShard, Vec<u32>, Vec<String>), String> {
    let serving =
        |answer: &&Answer| answer.report.as_ref().is_ok_and(|report| report.phase == "serving");
    let members: Vec<&Answer> = answers.iter().filter(serving).collect();
    let reports = || members.iter().filter_map(|answer| answer.report.as_ref().ok());
    let Some(layout) = reports().map(|report| report.layout).max() else {
        return Err("no node answers and serves: there is nobody to ask".into());
    };
    let group = u32::from(shard) + 1;
    let replicas = reports().flat_map(|report| &report.groups).filter(|it| it.group == group);
    let Some(latest) = replicas.max_by_key(|it| (it.term, it.applied)) else {
        return Err(format!("no node that answers has a replica of shard {shard}"));
    };
    let mut to = to.to_vec();
    to.sort_unstable();
    let request = MoveShard { shard, to, layout };
    let addresses = members.iter().map(|answer| answer.address.clone()).collect();
    Ok((request, latest.voters.clone(), addresses))
}

fn listed(nodes: &[u32]) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(", ")
}

/// Asks one node after the other until one has done it.
async fn post(
    path: &str,
    request: &impl Serialize,
    addresses: &[String],
    key: &Key,
) -> Result<(), Vec<String>> {
    let body = serde_json::to_vec(request).unwrap_or_default();
    let Some(proof) = key.prove(path, &body) else {
        return Err(vec!["the configuration has no secret of the cluster".into()]);
    };
    let mut refusals = Vec::new();
    for address in addresses {
        let header = (admin::PROOF, proof.as_str());
        match http::post(address, path, header, body.clone(), TIMEOUT).await {
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

    #[test]
    fn a_shard_is_moved_by_the_latest_layout_from_where_its_latest_leader_says() {
        let replica = |term, voters: &[u32]| status::GroupReport {
            group: 4,
            role: "leader".into(),
            term,
            leader: None,
            commit: 0,
            last: 0,
            applied: 0,
            voters: voters.to_vec(),
            matched: Vec::new(),
            entries_lost: 0,
            abstaining: false,
            damaged: None,
        };
        let mut answers = [answer(1, "serving", "1", &[]), down(2), answer(3, "serving", "3", &[])];
        let set = |answer: &mut Answer, layout, term, voters: &[u32]| {
            let report = answer.report.as_mut().unwrap();
            (report.layout, report.groups) = (layout, vec![replica(term, voters)]);
        };
        set(&mut answers[0], 5, 2, &[1, 2, 3]);
        set(&mut answers[2], 4, 3, &[1, 3, 4]);
        let (request, from, addresses) = plan_move(&answers, 3, &[5, 1, 2]).unwrap();
        assert_eq!(request, MoveShard { shard: 3, to: vec![1, 2, 5], layout: 5 });
        assert_eq!((from, addresses.len()), (vec![1, 3, 4], 2));
        assert!(plan_move(&answers, 9, &[1]).unwrap_err().contains("no node that answers"));
        assert!(plan_move(&[down(1)], 3, &[1]).unwrap_err().contains("nobody to ask"));
    }
}
