//! What a cluster costs that nobody uses: messages between its nodes, and time on the processor.
//!
//! Every shard is written to, so that all 256 groups have a leader and a log. Once the load is over and
//! the groups are quiet, messages are counted over a while, as the nodes themselves report them, and the
//! system is asked how long each process has run. Messages are judged: they follow from the protocol, not
//! from the machine. Time on the processor is printed.

use crate::cluster::{Cluster, NODES, Place};
use crate::{Result, content, store};
use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use serde_json::Value;
use std::time::{Duration, Instant};

const BUCKET: &str = "idle";
/// The most that a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Enough that no shard is left out but by bad luck.
const OBJECTS: usize = 4_000;
const WRITERS: usize = 16;
/// From the last write until the groups are quiet and their state is on disk.
const SETTLE: Duration = Duration::from_secs(15);
/// Messages a second, sent by all nodes together, that a cluster at rest may cost.
const MESSAGES_PER_SECOND_MAX: f64 = 50.0;
/// Linux counts processor time in hundredths of a second, whatever its clock does.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Seconds of rest that are measured.
    #[arg(long)]
    seconds: u64,
}

pub(crate) async fn run(args: &Args) -> Result {
    let cluster = Cluster::found(&args.place).await?;
    let clients = cluster.clients(BUCKET, PATIENCE)?;
    store::create_bucket(&clients[0]).await?;
    let writes = (0..OBJECTS).map(|number| {
        let client = &clients[number % NODES];
        async move {
            let key = format!("object/{number}");
            let body = content::piece(&key, 0, 1 << 10);
            let put = client.put(&Key::from(key.as_str()), body.into()).await;
            put.map(drop).map_err(|error| format!("{key}: {error}"))
        }
    });
    futures_util::stream::iter(writes).buffer_unordered(WRITERS).try_collect::<()>().await?;
    cluster.healed().await?;
    drop(clients);
    tokio::time::sleep(SETTLE).await;

    let (began, before) = (Instant::now(), Count::of(&cluster)?);
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let (after, seconds) = (Count::of(&cluster)?, began.elapsed().as_secs_f64());
    let messages = (after.messages - before.messages) as f64 / seconds;
    let percent: Vec<String> = after
        .ticks
        .iter()
        .zip(&before.ticks)
        .map(|(after, before)| (after - before) as f64 / TICKS_PER_SECOND / seconds * 100.0)
        .map(|percent| format!("{percent:.2}"))
        .collect();
    println!(
        "{{\"groups\":{},\"seconds\":{seconds:.1},\"messages_per_second\":{messages:.1},\
         \"cpu_percent\":[{}]}}",
        after.groups,
        percent.join(",")
    );
    if messages > MESSAGES_PER_SECOND_MAX {
        return Err(format!("{messages:.1} messages a second at rest"));
    }
    Ok(())
}

/// What has gathered since the processes were started.
#[derive(Debug)]
struct Count {
    groups: u64,
    /// Sent by all nodes.
    messages: u64,
    /// Processor time of each process.
    ticks: Vec<u64>,
}

impl Count {
    fn of(cluster: &Cluster) -> Result<Self> {
        let status = cluster.status()?;
        let told = || format!("the status does not tell what was sent: {status:.500}");
        let reports = status.get("reports").and_then(Value::as_array).ok_or_else(told)?;
        let mut messages = 0;
        for report in reports {
            let peers = report.get("peers").and_then(Value::as_array).ok_or_else(told)?;
            for peer in peers {
                messages += peer.get("sent").and_then(Value::as_u64).ok_or_else(told)?;
            }
        }
        let groups = status.get("groups").and_then(Value::as_u64).ok_or_else(told)?;
        let ticks = (0..cluster.size()).map(|index| {
            let pid = cluster.pid(index).ok_or_else(|| format!("node {} is down", index + 1))?;
            processor_ticks(pid)
        });
        Ok(Self { groups, messages, ticks: ticks.collect::<Result<_>>()? })
    }
}

/// User and system time of a process, with all its threads.
fn processor_ticks(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // The name may hold spaces; what follows its closing bracket does not.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace());
    let mut times = fields.into_iter().flatten().skip(11).take(2).map(str::parse::<u64>);
    match (times.next(), times.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(user + system),
        _ => Err(format!("{path} is not understood: {stat}")),
    }
}
