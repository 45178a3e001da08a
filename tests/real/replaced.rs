//! A disk that is lost, and the one that takes its place.
//!
//! A node is killed and its directory taken away. Started on an empty one it must not take part; an operator who asks is
//! told which store wants the place of which, and lets it in. Then the node is as good a copy as before: everything is read
//! while it and one other are all that run. The old directory comes back by mistake: its node must refuse to go on, and say
//! why. Afterwards the new one is still what it was.

use crate::Result;
use crate::cluster::{Cluster, Place};
use crate::damage::{BUCKET, LARGE_BYTES, PATIENCE, Written};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long anything here may take.
const BACKGROUND: Duration = Duration::from_secs(60);
const VICTIM: usize = 1;
const OTHER: usize = 2;

pub(crate) async fn run(place: &Place) -> Result {
    let mut cluster = Cluster::found(place).await?;
    let clients = cluster.clients(BUCKET, PATIENCE)?;
    let mut written = Written::default();
    written.fill(&clients).await?;
    cluster.healed().await?;
    let data = cluster.data(VICTIM).to_owned();
    let (lost, new) = (data.with_extension("lost"), data.with_extension("new"));
    cluster.kill(VICTIM)?;
    put_away(&data, &lost)?;
    cluster.restart(VICTIM)?;
    let stranger = wait_for_stranger(&cluster).await?;
    written.put(&clients[0], "meanwhile".into(), LARGE_BYTES).await?;

    let asked = ["cluster", "replace-store", "--node", "2"];
    let told = cluster.tool(&asked)?;
    if !told.contains(&stranger) || !told.contains("--yes") {
        return Err(format!("it says nothing of store {stranger}: {told}"));
    }
    if wait_for_stranger(&cluster).await? != stranger {
        return Err("it was let in without --yes".into());
    }
    let began = Instant::now();
    cluster.tool(&[&asked[..], &["--yes"]].concat())?;
    cluster.ready().await?;
    cluster.healed().await?;
    println!("  a new disk was as good as the old one after {:?}", began.elapsed());
    if cluster.tool(&[&asked[..], &["--yes"]].concat()).is_ok() {
        return Err("a disk that is not lost was replaced".into());
    }
    cluster.kill(OTHER)?;
    written.read_all(&clients[VICTIM], "with the new disk and one other").await?;
    written.put(&clients[VICTIM], "after".into(), LARGE_BYTES).await?;
    cluster.restart(OTHER)?;
    cluster.ready().await?;
    cluster.healed().await?;

    cluster.kill(VICTIM)?;
    put_away(&data, &new)?;
    put_away(&lost, &data)?;
    let skip = cluster.logged(VICTIM)?;
    cluster.restart(VICTIM)?;
    cluster.ended(VICTIM, BACKGROUND).await?;
    let log = cluster.log_since(VICTIM, skip)?;
    if !log.contains("has another store now") {
        return Err(format!("the old disk's node ended and does not say why: {log:.600}"));
    }
    put_away(&data, &lost)?;
    put_away(&new, &data)?;
    cluster.restart(VICTIM)?;
    cluster.ready().await?;
    cluster.healed().await?;
    written.read_all(&clients[VICTIM], "after the old disk had come back").await
}

fn put_away(from: &Path, to: &Path) -> Result {
    std::fs::rename(from, to).map_err(|error| format!("{}: {error}", from.display()))
}

/// Waits until a member says that another store wants the node's place. Which.
pub(crate) async fn wait_for_stranger(cluster: &Cluster) -> Result<String> {
    let began = Instant::now();
    loop {
        let status = cluster.status()?;
        let reports = status.get("reports").and_then(|reports| reports.as_array());
        let mut strangers = reports.into_iter().flatten().filter_map(|report| {
            let stranger = report.get("strangers")?.as_array()?.first()?;
            Some(stranger.get("store")?.as_str()?.to_owned())
        });
        if let Some(store) = strangers.next() {
            return Ok(store);
        }
        if began.elapsed() > BACKGROUND {
            return Err(format!("nobody says that another store wants to be let in: {status}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
