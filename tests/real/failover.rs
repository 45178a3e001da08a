//! Whoever leads what is written is killed: how long until writes go on?
//!
//! Each writer overwrites one key, so all it writes is led by one node at a time; which group that is is found out first, by
//! looking whose applied index a few writes move. A writer asks for one write at a time and goes to the next endpoint at once when
//! one fails, as a client with a list of endpoints would. The node that leads most of those groups is killed (kill -9), and for
//! each writer whose group it led the time is taken from the kill to the next acknowledgement of a write that began
//! after it. Then the node comes back, all is whole, and the next one is killed. Judged is that nothing that was
//! acknowledged is lost; the times are told: of each writer, and of the slowest one of each kill.

use crate::cluster::{self, Cluster, NODES, Place};
use crate::content::{self, Random};
use crate::{Result, store};
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3;
use object_store::path::Path as Key;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const BUCKET: &str = "failover";
const BODY: u64 = 200;
/// Writes of one key by which its group is found.
const PROBES: u64 = 12;
/// An attempt that takes longer has an unknown outcome, and the next endpoint is asked.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Between attempts.
const AGAIN: Duration = Duration::from_millis(5);
/// A write that no endpoint takes for this long ends the run.
const STUCK: Duration = Duration::from_secs(60);
/// A killed node stays away for this long.
const AWAY: Duration = Duration::from_millis(2_500);
/// Calm before a kill.
const CALM: Duration = Duration::from_millis(1_500);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Kills.
    #[arg(long)]
    kills: u32,
    /// Writers, each of a key of its own.
    #[arg(long, default_value_t = 16)]
    writers: usize,
}

/// What writers and the killer share.
struct Shared {
    clients: Vec<AmazonS3>,
    stop: AtomicBool,
    /// Of each writer: when its acknowledged writes began and ended, and the version of the last.
    writes: Vec<Mutex<Vec<(Instant, Instant)>>>,
}

pub(crate) async fn run(args: &Args) -> Result {
    let mut cluster = Cluster::found(&args.place).await?;
    let shared = Arc::new(Shared {
        clients: cluster.clients(BUCKET, ATTEMPT)?,
        stop: AtomicBool::new(false),
        writes: (0..args.writers).map(|_| Mutex::default()).collect(),
    });
    store::create_bucket(&shared.clients[0]).await?;
    let mut groups = Vec::new();
    for number in 0..args.writers {
        groups.push(group_of(&cluster, &shared.clients[0], &key(number)).await?);
    }
    let mut writers = JoinSet::new();
    for number in 0..args.writers {
        writers.spawn(write(shared.clone(), number));
    }
    let mut random = Random::new(cluster::entropy());
    let mut kills = Vec::new();
    while kills.len() < args.kills as usize {
        tokio::time::sleep(CALM + Duration::from_millis(random.below(400))).await;
        kills.push(kill_one(&mut cluster, &shared, &groups).await?);
    }
    shared.stop.store(true, Ordering::Relaxed);
    let mut last = BTreeMap::new();
    while let Some(writer) = writers.join_next().await {
        let (number, version) = writer.map_err(|error| error.to_string())??;
        last.insert(number, version);
    }
    for (number, version) in last {
        let read = shared.clients[number % NODES].get(&Key::from(key(number))).await;
        let found = read.map_err(|error| error.to_string())?.bytes().await;
        if found.map_err(|error| error.to_string())? != body(number, version) {
            return Err(format!("{} is not what was last acknowledged", key(number)));
        }
    }
    tell(args, &shared, &kills);
    cluster.end().map(drop)
}

fn key(number: usize) -> String {
    format!("failover-{number}")
}

fn body(number: usize, version: u64) -> bytes::Bytes {
    content::piece(&format!("{}/{version}", key(number)), 0, BODY)
}

/// Applied indexes and leaders of all groups, as the nodes that run report them.
fn groups(cluster: &Cluster) -> Result<BTreeMap<u64, (u64, Option<u64>)>> {
    let status = cluster.status()?;
    let reports = status.get("reports").and_then(Value::as_array).into_iter().flatten();
    let mut groups = BTreeMap::new();
    for report in reports {
        let me = report.get("node").and_then(Value::as_u64);
        for group in report.get("groups").and_then(Value::as_array).into_iter().flatten() {
            let number = |name: &str| group.get(name).and_then(Value::as_u64);
            let Some(id) = number("group") else { continue };
            let of = groups.entry(id).or_insert((0, None));
            of.0 = number("applied").unwrap_or(0).max(of.0);
            if group
                .get("role")
                .and_then(Value::as_str)
                .is_some_and(|role| role.eq_ignore_ascii_case("leader"))
            {
                of.1 = me;
            }
        }
    }
    match groups.is_empty() {
        true => Err(format!("status says nothing of groups: {status:.600}")),
        false => Ok(groups),
    }
}

/// The group of a key: the one that some writes of it move furthest.
async fn group_of(cluster: &Cluster, client: &AmazonS3, key: &str) -> Result<u64> {
    let before = groups(cluster)?;
    for _ in 0..PROBES {
        let put = client.put(&Key::from(key), body(0, 0).into()).await;
        put.map_err(|error| format!("{key}: {error}"))?;
    }
    let moved = |(group, (applied, _)): (u64, (u64, Option<u64>))| {
        let from = before.get(&group).map_or(0, |(applied, _)| *applied);
        (applied.saturating_sub(from), group)
    };
    match groups(cluster)?.into_iter().map(moved).max() {
        Some((by, group)) if by >= PROBES => Ok(group),
        most => Err(format!("{PROBES} writes of {key} moved no group: {most:?}")),
    }
}

/// One kill: how long each writer waited whose leader it was.
async fn kill_one(cluster: &mut Cluster, shared: &Shared, of: &[u64]) -> Result<Vec<Duration>> {
    let all = groups(cluster)?;
    let leads = |group: &u64| all.get(group).and_then(|(_, leader)| *leader);
    let mut counts = BTreeMap::<u64, usize>::new();
    of.iter().filter_map(leads).for_each(|node| *counts.entry(node).or_default() += 1);
    let busiest = counts.iter().max_by_key(|(_, count)| **count).map(|(node, _)| *node);
    let node = busiest.ok_or("nobody leads what is written")?;
    let index = usize::try_from(node - 1).map_err(|error| error.to_string())?;
    let killed = Instant::now();
    cluster.kill(index)?;
    tokio::time::sleep(AWAY).await;
    let mut gaps = Vec::new();
    for (number, group) in of.iter().enumerate() {
        if leads(group) == Some(node) {
            gaps.push(shared.resumed(number, killed).await? - killed);
        }
    }
    cluster.restart(index)?;
    cluster.ready().await?;
    // Each writer has one write under way.
    cluster.healed_but_for(of.len() as u64).await?;
    let slowest = gaps.iter().max().copied().unwrap_or_default();
    println!(
        "  node {node} killed: {} writers waited, the slowest for {} ms",
        gaps.len(),
        slowest.as_millis()
    );
    Ok(gaps)
}

impl Shared {
    /// When the first write was acknowledged that a writer began after the kill.
    async fn resumed(&self, number: usize, killed: Instant) -> Result<Instant> {
        loop {
            let first = {
                let writes = self.writes[number].lock().expect("no holder panics");
                writes.iter().rev().take_while(|(began, _)| *began > killed).last().copied()
            };
            if let Some((_, ended)) = first {
                return Ok(ended);
            }
            if killed.elapsed() > STUCK {
                return Err(format!(
                    "{} was not written for {STUCK:?} after the kill",
                    key(number)
                ));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Writes until told to stop. The version that was acknowledged last.
async fn write(shared: Arc<Shared>, number: usize) -> Result<(usize, u64)> {
    let key = Key::from(key(number));
    let mut endpoint = number;
    for version in 1_u64.. {
        let (first, body) = (Instant::now(), body(number, version));
        loop {
            let began = Instant::now();
            let Err(error) = shared.clients[endpoint % NODES].put(&key, body.clone().into()).await
            else {
                let mut writes = shared.writes[number].lock().expect("no holder panics");
                // What is asked again counts from when it was asked last: it may be that which is acknowledged.
                writes.push((began, Instant::now()));
                break;
            };
            if first.elapsed() > STUCK {
                return Err(format!("no endpoint took {key} for {STUCK:?}: {error}"));
            }
            endpoint += 1;
            tokio::time::sleep(AGAIN).await;
        }
        if shared.stop.load(Ordering::Relaxed) {
            return Ok((number, version));
        }
    }
    unreachable!("versions do not end")
}

fn tell(args: &Args, shared: &Shared, kills: &[Vec<Duration>]) {
    let millis = |of: Duration| of.as_millis() as u64;
    let sorted = |gaps: Vec<Duration>| {
        let mut gaps: Vec<u64> = gaps.into_iter().map(millis).collect();
        gaps.sort_unstable();
        gaps
    };
    let each = sorted(kills.iter().flatten().copied().collect());
    let slowest = sorted(kills.iter().filter_map(|gaps| gaps.iter().max().copied()).collect());
    let writes: usize =
        shared.writes.iter().map(|of| of.lock().expect("no holder panics").len()).sum();
    println!(
        "{{\"kills\":{},\"writers\":{},\"writes\":{writes},\"lost\":0,\"gaps\":{},\"gap_median_ms\":{},\"gap_p99_ms\":{},\"gap_max_ms\":{},\
         \"slowest_median_ms\":{},\"slowest_p99_ms\":{}}}",
        args.kills,
        args.writers,
        each.len(),
        share(&each, 50),
        share(&each, 99),
        share(&each, 100),
        share(&slowest, 50),
        share(&slowest, 99),
    );
}

/// The smallest that so many percent of them do not exceed.
fn share(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_was_seen() {
        let fifty: Vec<u64> = (1..=50).collect();
        assert_eq!((share(&fifty, 50), share(&fifty, 99), share(&fifty, 100)), (25, 50, 50));
        assert_eq!((share(&[7], 50), share(&[], 99)), (7, 0));
        let many: Vec<u64> = (1..=300).collect();
        assert_eq!(share(&many, 99), 297);
    }
}
