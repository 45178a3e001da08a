//! Nodes are stopped as an operator stops them, one after another under load: how long does anybody wait?
//!
//! Writers write small objects through the two nodes that stay, each one at a time, so a shard without a leader shows as a
//! write that takes long. The node that leads most shards is stopped (SIGTERM), started again, and given time to get its shards
//! back. Printed is the longest write that any writer waited for while a node stopped, beside the longest of as long a time before
//! that: what a disk and two busy cores do by themselves. Judged is only that no write fails.

use crate::cluster::{Cluster, NODES, Place};
use crate::{Result, content, store};
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3;
use object_store::path::Path as Key;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const BUCKET: &str = "planned";
const WRITERS: usize = 8;
/// The most that a write may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before a stop, and after one: from when on nobody waits for its end any more.
const CALM: Duration = Duration::from_secs(2);
/// From a start until shards have come back to the node: leaders and nodes settle for ten election timeouts each.
const RETURN: Duration = Duration::from_secs(15);
/// A node that was told to stop has done so by then.
const STOPPED: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Stops.
    #[arg(long)]
    stops: u32,
}

/// What writers and the operator share.
struct Shared {
    clients: Vec<AmazonS3>,
    /// Nobody asks this node.
    leaves: AtomicUsize,
    stop: AtomicBool,
    /// When each write began and ended.
    writes: Mutex<Vec<(Instant, Instant)>>,
}

pub(crate) async fn run(args: &Args) -> Result {
    let mut cluster = Cluster::found(&args.place).await?;
    let shared = Arc::new(Shared {
        clients: cluster.clients(BUCKET, PATIENCE)?,
        leaves: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        writes: Mutex::default(),
    });
    store::create_bucket(&shared.clients[0]).await?;
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(write(shared.clone(), number));
    }
    let mut longest = Vec::new();
    for _ in 0..args.stops {
        longest.push(stop_one(&mut cluster, &shared).await?);
    }
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.map_err(|error| error.to_string())??;
    }
    let writes = shared.writes.lock().expect("no holder panics").len();
    let spread = |of: fn(&(Duration, Duration)) -> Duration| {
        let mut all: Vec<Duration> = longest.iter().map(of).collect();
        all.sort_unstable();
        let millis = |at: usize| all.get(at).map_or(0.0, |span| span.as_secs_f64() * 1_000.0);
        (millis(all.len() / 2), millis(all.len().saturating_sub(1)))
    };
    let (calm, calm_max) = spread(|(calm, _)| *calm);
    let (stop, stop_max) = spread(|(_, stop)| *stop);
    println!(
        "{{\"stops\":{},\"writes\":{writes},\"failed\":0,\"longest_write_ms\":{stop:.1},\"longest_write_ms_max\":{stop_max:.1},\
         \"calm_longest_write_ms\":{calm:.1},\"calm_longest_write_ms_max\":{calm_max:.1}}}",
        args.stops,
    );
    cluster.end().map(drop)
}

/// Stops the node that leads most shards and starts it again. The longest write of as long a time before, and that meanwhile.
async fn stop_one(cluster: &mut Cluster, shared: &Shared) -> Result<(Duration, Duration)> {
    tokio::time::sleep(RETURN).await;
    let node = cluster.busiest()?;
    shared.leaves.store(node, Ordering::Relaxed);
    // Writes that were asked of it before are over by the end of the calm.
    tokio::time::sleep(CALM).await;
    let began = Instant::now();
    tokio::time::sleep(CALM).await;
    let stopped = Instant::now();
    cluster.stop(node)?;
    cluster.ended(node, STOPPED).await?;
    let left = CALM.saturating_sub(stopped.elapsed());
    tokio::time::sleep(left).await;
    let (calm, stop) = (shared.longest(began, stopped), shared.longest(stopped, Instant::now()));
    println!(
        "  node {} stopped: a write took {:.1} ms at the most, {:.1} before",
        node + 1,
        stop.as_secs_f64() * 1_000.0,
        calm.as_secs_f64() * 1_000.0,
    );
    cluster.restart(node)?;
    cluster.ready().await?;
    Ok((calm, stop))
}

impl Shared {
    /// The longest write that was under way at some time between these.
    fn longest(&self, from: Instant, to: Instant) -> Duration {
        let writes = self.writes.lock().expect("no holder panics");
        let meanwhile = writes.iter().filter(|(began, ended)| *ended > from && *began < to);
        meanwhile.map(|(began, ended)| *ended - *began).max().unwrap_or_default()
    }
}

async fn write(shared: Arc<Shared>, number: usize) -> Result {
    for version in 0_u64.. {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{number}/{version:08}");
        let endpoint = (shared.leaves.load(Ordering::Relaxed) + 1 + number % (NODES - 1)) % NODES;
        let body = content::piece(&key, 0, 200);
        let began = Instant::now();
        let put = shared.clients[endpoint].put(&Key::from(key.as_str()), body.into()).await;
        put.map_err(|error| format!("{key} at node {}: {error}", endpoint + 1))?;
        shared.writes.lock().expect("no holder panics").push((began, Instant::now()));
    }
    Ok(())
}
