//! The cluster as a whole, from the reports of its nodes.

use super::{GroupReport, MovingReport, NodeReport};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A follower further behind its leader than this many entries would have to catch up before it could
/// stand in for another.
const LAG_MAX: u64 = 1_000;

/// The cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many nodes, whichever they are, can be lost now without losing data or availability. `None`
    /// when some group can't be served as it is, or when no group is known.
    pub can_lose: Option<u32>,
    /// The cluster's id.
    pub cluster: Option<String>,
    /// How many groups are known.
    pub groups: u32,
    /// Groups without a leader that a quorum of healthy replicas stands behind.
    pub unavailable: Vec<u32>,
    /// One line a node.
    pub nodes: Vec<NodeLine>,
    /// What needs somebody's attention.
    pub warnings: Vec<String>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeLine {
    /// Its id.
    pub node: u32,
    /// Its admin address.
    pub address: String,
    /// Its phase, or `unreachable`.
    pub state: String,
    /// Groups that it leads.
    pub leads: u32,
    /// Groups that it follows.
    pub follows: u32,
    /// Groups in which it stands for election.
    pub stands: u32,
    /// Its highest term.
    pub term: u64,
    /// Entries that it is behind the leaders, in the group where it is furthest behind.
    pub lag: u64,
    /// Replicas that are damaged, lack log entries or abstain.
    pub unhealthy: u32,
    /// Chunks that it still has to fetch.
    pub chunks_missing: u64,
    /// Bytes of chunks that it holds.
    pub chunk_bytes: u64,
    /// How much of them the round of verification under way has come to, in percent.
    pub scrubbed_percent: Option<u64>,
    /// How often its store was booted.
    pub incarnation: u64,
}

/// What an admin port answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The node, if it is known which one should be there.
    pub node: Option<u32>,
    /// The admin address.
    pub address: String,
    /// Its report, or why there is none.
    pub report: Result<NodeReport, String>,
}

/// Puts the answers together.
#[must_use]
pub fn summarise(answers: &[Answer]) -> Summary {
    let reports: BTreeMap<u32, &NodeReport> = answers
        .iter()
        .filter_map(|answer| answer.report.as_ref().ok())
        .map(|report| (report.node, report))
        .collect();
    let groups = groups(&reports);
    let mut unavailable = Vec::new();
    let mut spare: Option<u32> = None;
    for (group, views) in &groups {
        match spare_replicas(views, &reports) {
            Some(count) => spare = Some(spare.map_or(count, |least| least.min(count))),
            None => unavailable.push(*group),
        }
    }
    Summary {
        can_lose: if unavailable.is_empty() { spare } else { None },
        cluster: reports.values().find_map(|report| report.cluster.clone()),
        groups: u32::try_from(groups.len()).unwrap_or(u32::MAX),
        nodes: answers.iter().map(|answer| line(answer, &groups)).collect(),
        warnings: warnings(answers, &reports),
        unavailable,
    }
}

/// Each group's replicas by node.
type Views<'a> = BTreeMap<u32, &'a GroupReport>;

fn groups<'a>(reports: &BTreeMap<u32, &'a NodeReport>) -> BTreeMap<u32, Views<'a>> {
    let mut groups: BTreeMap<u32, Views<'a>> = BTreeMap::new();
    for (node, report) in reports {
        for replica in &report.groups {
            groups.entry(replica.group).or_default().insert(*node, replica);
        }
    }
    groups
}

/// The leader of the highest term: an older one may not know yet that it was deposed.
fn leader<'a>(views: &Views<'a>) -> Option<(u32, &'a GroupReport)> {
    views
        .iter()
        .filter(|(_, replica)| replica.leads())
        .max_by_key(|(_, replica)| replica.term)
        .map(|(node, replica)| (*node, *replica))
}

/// Replicas of a group beyond its quorum that are healthy: how many of them may be lost. `None` when
/// there is no quorum behind a leader.
fn spare_replicas(views: &Views<'_>, reports: &BTreeMap<u32, &NodeReport>) -> Option<u32> {
    let (leading, leader) = leader(views)?;
    let quorum = leader.voters.len() / 2 + 1;
    let healthy = leader.voters.iter().filter(|voter| {
        let Some(replica) = views.get(voter) else { return false };
        let keeps_up = **voter == leading
            || leader.matched.iter().any(|(node, index)| {
                node == *voter && index.saturating_add(LAG_MAX) >= leader.commit
            });
        // A node that lacks chunks is no copy of what it lacks.
        let whole = reports.get(voter).is_some_and(|report| report.chunks_missing == 0);
        keeps_up && whole && replica.is_healthy()
    });
    u32::try_from(healthy.count().checked_sub(quorum)?).ok()
}

fn line(answer: &Answer, groups: &BTreeMap<u32, Views<'_>>) -> NodeLine {
    let Ok(report) = &answer.report else {
        return NodeLine {
            node: answer.node.unwrap_or(0),
            address: answer.address.clone(),
            state: "unreachable".into(),
            ..NodeLine::default()
        };
    };
    let count = |role: &str| {
        let replicas = report.groups.iter().filter(|replica| replica.role == role);
        u32::try_from(replicas.count()).unwrap_or(u32::MAX)
    };
    let lag = |replica: &GroupReport| {
        let commit = groups.get(&replica.group).and_then(leader).map(|(_, leader)| leader.commit);
        commit.unwrap_or(0).saturating_sub(replica.applied)
    };
    let unhealthy = report.groups.iter().filter(|replica| !replica.is_healthy());
    NodeLine {
        node: report.node,
        address: answer.address.clone(),
        state: report.phase.clone(),
        leads: count("leader"),
        follows: count("follower"),
        stands: count("candidate"),
        term: report.groups.iter().map(|replica| replica.term).max().unwrap_or(0),
        lag: report.groups.iter().map(lag).max().unwrap_or(0),
        unhealthy: u32::try_from(unhealthy.count()).unwrap_or(u32::MAX),
        chunks_missing: report.chunks_missing,
        chunk_bytes: report.chunk_bytes,
        scrubbed_percent: scrubbed_percent(report),
        // Of this store; what is above counts the stores before it.
        incarnation: report.incarnation & u64::from(u32::MAX),
    }
}

/// Chunks come and go meanwhile, so it is an estimate.
fn scrubbed_percent(report: &NodeReport) -> Option<u64> {
    let share = || report.scrub.bytes.saturating_mul(100) / report.chunk_bytes.max(1);
    (report.scrub.began > 0).then(|| share().min(99))
}

fn warnings(answers: &[Answer], reports: &BTreeMap<u32, &NodeReport>) -> Vec<String> {
    let mut warnings = Vec::new();
    for answer in answers {
        if let Err(error) = &answer.report {
            let node = answer.node.map_or_else(String::new, |node| format!("node {node} at "));
            warnings.push(format!("{node}{}: {error}", answer.address));
        }
    }
    let clusters: BTreeSet<_> =
        reports.values().filter_map(|report| report.cluster.as_ref()).collect();
    if clusters.len() > 1 {
        warnings.push("these nodes belong to different clusters".into());
    }
    let known: BTreeSet<u32> = reports.values().flat_map(|report| report.nodes.clone()).collect();
    for node in known.iter().filter(|node| !reports.contains_key(node)) {
        if !answers.iter().any(|answer| answer.node == Some(*node)) {
            warnings.push(format!("node {node} was not asked: its admin address is not known"));
        }
    }
    let strangers: BTreeSet<_> = reports
        .values()
        .flat_map(|report| &report.strangers)
        .map(|it| (it.node, &it.store))
        .collect();
    for (node, store) in strangers {
        warnings.push(format!(
            "store {store} wants the place of node {node}'s: if that is lost, let it in with `ironseed cluster replace-store`"
        ));
    }
    if let Some(latest) = reports.values().max_by_key(|report| report.layout) {
        for MovingReport { shard, to, from } in &latest.moving {
            warnings.push(format!("shard {shard} is on its way from nodes {from:?} to {to:?}"));
        }
    }
    for (node, report) in reports {
        if report.disk_full {
            warnings.push(format!("node {node}: the disk is full, writes are refused"));
        }
        if report.chunks_missing > 0 {
            warnings.push(format!("node {node}: {} chunks still to fetch", report.chunks_missing));
        }
        if report.scrub.damaged > 0 {
            let count = report.scrub.damaged;
            warnings.push(format!(
                "node {node}: the scrub found {count} damaged chunks: is its disk failing?"
            ));
        }
        for replica in &report.groups {
            if let Some(why) = &replica.damaged {
                warnings.push(format!("node {node}, group {}: {why}", replica.group));
            }
        }
        let lost: u64 = report.groups.iter().map(|replica| replica.entries_lost).sum();
        if lost > 0 {
            warnings.push(format!("node {node}: {lost} damaged log entries still to fetch"));
        }
        let abstaining = report.groups.iter().filter(|replica| replica.abstaining).count();
        if abstaining > 0 {
            warnings.push(format!("node {node}: {abstaining} replicas wait to be readmitted"));
        }
    }
    warnings
}
