//! Shards that are moved from one node to another while clients write.
//!
//! Four nodes have three replicas of each shard. An operator moves shards off one of them, over the admin port, while a
//! client goes on writing: it is told how long the longest pause was. The node gives up what it had, also across a kill, and
//! everything is read without it and with it. Then the shards come back.

use crate::Result;
use crate::cluster::{Cluster, Place};
use crate::damage::{BUCKET, LARGE_BYTES, PATIENCE, Written};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const NODES: u64 = 4;
/// The node that shards leave: its id and its index.
const LEFT: u64 = 4;
const LEFT_AT: usize = 3;
/// How many are moved.
const SHARDS: usize = 12;
/// How long anything here may take.
const BACKGROUND: Duration = Duration::from_secs(60);

pub(crate) async fn run(place: &Place) -> Result {
    let mut cluster = Cluster::found_of(NODES as usize, place).await?;
    let clients = cluster.clients(BUCKET, PATIENCE)?;
    let mut written = Written::default();
    written.fill(&clients[..3]).await?;
    cluster.healed().await?;
    let shards: Vec<u64> = held(&cluster, LEFT)?.into_iter().take(SHARDS).collect();
    if shards.len() < SHARDS {
        return Err(format!("node {LEFT} has shards {shards:?} only"));
    }
    let asked = ["cluster", "move-shard", "--shard", &shards[0].to_string(), "--to", "1,2,3"];
    let told = cluster.tool(&asked)?;
    if !told.contains("--yes") || held(&cluster, LEFT)?.first() != shards.first() {
        return Err(format!("it was moved without --yes: {told}"));
    }
    if cluster.tool(&[&asked[..5], &["1,2,9", "--yes"]].concat()).is_ok() {
        return Err("a shard was moved to a node that there is not".into());
    }

    let began = Instant::now();
    let (mut pause, mut count) = (Duration::ZERO, 0);
    let mut write = async |written: &mut Written| -> Result {
        let from = Instant::now();
        count += 1;
        written.put(&clients[count % 3], format!("meanwhile-{count}"), 2_000).await?;
        pause = pause.max(from.elapsed());
        Ok(())
    };
    for shard in &shards {
        let shard = shard.to_string();
        cluster.tool(&["cluster", "move-shard", "--shard", &shard, "--to", "1,2,3", "--yes"])?;
        write(&mut written).await?;
    }
    while held(&cluster, LEFT)?.iter().any(|shard| shards.contains(shard)) {
        write(&mut written).await?;
        if began.elapsed() > BACKGROUND {
            return Err(format!(
                "not all of {shards:?} have left node {LEFT}: {}",
                cluster.status()?
            ));
        }
    }
    cluster.healed().await?;
    println!(
        "  {SHARDS} shards were moved in {:?}, the slowest of {count} writes meanwhile took {pause:?}",
        began.elapsed()
    );
    written.put(&clients[0], "after".into(), LARGE_BYTES).await?;

    cluster.kill(LEFT_AT)?;
    written.read_all(&clients[0], "without the node that they have left").await?;
    cluster.restart(LEFT_AT)?;
    cluster.ready().await?;
    cluster.healed().await?;
    if let Some(shard) = held(&cluster, LEFT)?.iter().find(|shard| shards.contains(shard)) {
        return Err(format!("shard {shard} is back at node {LEFT} after a restart"));
    }

    for shard in &shards {
        let shard = shard.to_string();
        cluster.tool(&["cluster", "move-shard", "--shard", &shard, "--to", "2,3,4", "--yes"])?;
    }
    let began = Instant::now();
    while !shards.iter().all(|shard| held(&cluster, LEFT).is_ok_and(|held| held.contains(shard)))
        || held(&cluster, 1)?.iter().any(|shard| shards.contains(shard))
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if began.elapsed() > BACKGROUND {
            return Err(format!("not all of {shards:?} have come back: {}", cluster.status()?));
        }
    }
    cluster.healed().await?;
    cluster.kill(1)?;
    written.read_all(&clients[LEFT_AT], "with the node that they came back to").await
}

/// The shards that a node has replicas of.
fn held(cluster: &Cluster, node: u64) -> Result<BTreeSet<u64>> {
    let status = cluster.status()?;
    let reports = status.get("reports").and_then(Value::as_array).into_iter().flatten();
    let mut of = reports.filter(|report| report.get("node").and_then(Value::as_u64) == Some(node));
    let groups = of.next().and_then(|report| report.get("groups")?.as_array().cloned());
    let groups = groups.ok_or_else(|| format!("status says nothing of node {node}: {status}"))?;
    let shard = |group: &Value| group.get("group")?.as_u64()?.checked_sub(1);
    Ok(groups.iter().filter_map(shard).collect())
}
