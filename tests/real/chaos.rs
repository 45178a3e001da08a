//! Writers write, nodes die, nothing acknowledged may be lost.
//!
//! Each writer asks for one write at a time and goes round the endpoints until one acknowledges it, as
//! a client with a list of endpoints would. Most writes name a new key; some overwrite a key of the
//! writer's own; a few are large and go up in parts. A reader keeps looking at acknowledged objects
//! meanwhile. Kills take the node that leads most shards, then another, in turn; after the last one all
//! three die at once. Then everything is read back and judged by the [`Ledger`]. At the very end every boot of every
//! process, which were all recorded, is replayed ([`recordings`]).
//!
//! Caveat: kill -9 loses what a process held, not what the system held for it. Power loss is the
//! simulator's business.

use crate::cluster::{self, Cluster, NODES, Place};
use crate::content::{self, Random};
use crate::ledger::{Ledger, Loss};
use crate::{Result, histories, recordings, store};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const BUCKET: &str = "chaos";
const HISTORIES: &str = "histories";
const WRITERS: u64 = 8;
/// Keys that each writer overwrites again and again.
const HOT_KEYS: u64 = 4;
/// An attempt that takes longer has an unknown outcome.
const ATTEMPT: Duration = Duration::from_secs(10);
/// A write that no endpoint takes for this long ends the run: the cluster has stopped serving.
const STUCK: Duration = Duration::from_secs(60);
/// A killed node stays away for this long, which is also the window in which gaps are looked for.
const AWAY: Duration = Duration::from_millis(2_500);
/// Calm between a restart and the next kill: caught up is not the same as ready.
const CALM: Duration = Duration::from_millis(1_500);
/// Reads under way at once when everything is read back.
const READERS: usize = 16;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Seconds of writing under kills.
    #[arg(long)]
    seconds: u64,
    /// The fewest kills of a single node.
    #[arg(long)]
    kills: u32,
}

/// What writers, the reader and the killer share.
struct Shared {
    clients: Vec<AmazonS3>,
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
}

pub(crate) async fn run(args: &Args) -> Result {
    let mut cluster = Cluster::found_recorded(&args.place).await?;
    let shared = Arc::new(Shared {
        clients: cluster.clients(BUCKET, ATTEMPT)?,
        ledger: Mutex::default(),
        stop: AtomicBool::new(false),
    });
    store::create_bucket(&shared.clients[0]).await?;
    let seed = cluster::entropy();
    let racers = histories::start(cluster.site(HISTORIES), seed).await?;
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let random = Random::new(seed.wrapping_add(number));
        writers.spawn(write(shared.clone(), number, random));
    }
    let reader = tokio::spawn(watch(shared.clone(), Random::new(!seed)));

    let kills = disturb(&mut cluster, args, Random::new(seed ^ 1)).await;
    // The processes all die while the writers still write; only then may the writers end.
    let last = match &kills {
        Ok(_) => all_at_once(&mut cluster).await,
        Err(_) => Ok(()),
    };
    shared.stop.store(true, Ordering::Relaxed);
    let mut acknowledgements = Vec::new();
    while let Some(writer) = writers.join_next().await {
        acknowledgements.push(writer.map_err(|error| error.to_string())??);
    }
    let reads = reader.await.map_err(|error| error.to_string())??;
    let kills = kills?;
    last?;
    let histories = racers.judge().await?;

    let objects = verify(&shared).await?;
    let replayed = recordings::replay(cluster, &args.place)?;
    println!("  {replayed}");
    let mut gaps: Vec<Duration> = kills
        .iter()
        .flat_map(|kill| acknowledgements.iter().map(|times| longest_gap(times, *kill)))
        .collect();
    gaps.sort_unstable();
    let writes: usize = acknowledgements.iter().map(Vec::len).sum();
    let middle = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    let longest = gaps.last().copied().unwrap_or_default();
    println!(
        "{{\"kills\":{},\"writes\":{writes},\"objects\":{objects},\"reads\":{reads},\"lost\":0,\
         \"gap_median_ms\":{},\"gap_max_ms\":{},\"raced\":{},\"raced_answered\":{},\"searches_given_up\":{},\
         \"replayed_boots\":{},\"replayed_steps\":{}}}",
        kills.len(),
        middle.as_millis(),
        longest.as_millis(),
        histories.requests,
        histories.answered,
        histories.given_up,
        replayed.boots,
        replayed.steps,
    );
    Ok(())
}

impl Shared {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no holder panics")
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Writes until told to stop; returns when each write was acknowledged.
async fn write(shared: Arc<Shared>, number: u64, mut random: Random) -> Result<Vec<Instant>> {
    let mut acknowledged = Vec::new();
    let mut endpoint = number as usize;
    for version in 1.. {
        if shared.stopped() {
            break;
        }
        // Versions rise over all of a writer's keys, so they do over each.
        let key = if random.below(4) == 0 {
            format!("hot/{number}/{}", random.below(HOT_KEYS))
        } else {
            format!("new/{number}/{version:06}")
        };
        let body = content::object(&key, version);
        let began = Instant::now();
        loop {
            let client = &shared.clients[endpoint % NODES];
            let Err(error) = attempt(client, &Key::from(key.as_str()), &body).await else { break };
            shared.ledger().unknown(&key, version);
            if began.elapsed() > STUCK {
                return Err(format!("no endpoint took {key} for {STUCK:?}: {error}"));
            }
            endpoint += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shared.ledger().acknowledge(&key, version);
        acknowledged.push(Instant::now());
    }
    Ok(acknowledged)
}

/// One attempt: whole, or in parts when it is larger than one.
async fn attempt(client: &AmazonS3, key: &Key, body: &Bytes) -> std::result::Result<(), Error> {
    if body.len() <= content::PART {
        return client.put(key, body.clone().into()).await.map(drop);
    }
    let mut upload = client.put_multipart(key).await?;
    // What an attempt that broke off has left stays: a client that died doesn't clean up either.
    for offset in (0..body.len()).step_by(content::PART) {
        let part = body.slice(offset..body.len().min(offset + content::PART));
        upload.put_part(part.into()).await?;
    }
    upload.complete().await.map(drop)
}

/// Reads acknowledged objects while nodes die: a read that succeeds must see what it may see.
async fn watch(shared: Arc<Shared>, mut random: Random) -> Result<u64> {
    let mut reads = 0;
    while !shared.stopped() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let Some(key) = pick(&shared, &mut random) else { continue };
        let client = &shared.clients[random.below(NODES as u64) as usize];
        // An error is a node that is down; that is what `verify` is for.
        let Ok(found) = read(client, &key).await else { continue };
        // A write of the same key may be under way, whose version nobody has noted yet.
        if !key.starts_with("hot/") {
            judge(&shared, &key, found.as_ref())?;
        }
        reads += 1;
    }
    Ok(reads)
}

fn pick(shared: &Shared, random: &mut Random) -> Option<String> {
    let ledger = shared.ledger();
    let count = ledger.count() as u64;
    let nth = if count == 0 { return None } else { random.below(count) };
    ledger.acknowledged().nth(nth as usize).map(str::to_owned)
}

/// The object, or `None` if the store says that there is none.
async fn read(client: &AmazonS3, key: &str) -> std::result::Result<Option<Bytes>, Error> {
    match client.get(&Key::from(key)).await {
        Ok(answer) => answer.bytes().await.map(Some),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn judge(shared: &Shared, key: &str, found: Option<&Bytes>) -> Result {
    shared.ledger().judge(key, found).map_err(|loss| match loss {
        Loss::Missing => format!("{key} was acknowledged and is gone"),
        Loss::Wrong(size) => format!("{key} has {size} bytes that it can't have"),
        Loss::Invented => format!("{key} was never written"),
    })
}

/// Kills node after node, each time giving it back; returns when the kills were.
async fn disturb(cluster: &mut Cluster, args: &Args, mut random: Random) -> Result<Vec<Instant>> {
    let began = Instant::now();
    let mut kills = Vec::new();
    tokio::time::sleep(CALM).await;
    while kills.len() < args.kills as usize || began.elapsed().as_secs() < args.seconds {
        let busiest = cluster.busiest()?;
        let index = if kills.len() % 2 == 0 {
            busiest
        } else {
            (busiest + 1 + random.below(NODES as u64 - 1) as usize) % NODES
        };
        cluster.kill(index)?;
        kills.push(Instant::now());
        tokio::time::sleep(AWAY).await;
        cluster.restart(index)?;
        cluster.ready().await?;
        println!("  {:5.1} s  node {} killed and back", began.elapsed().as_secs_f64(), index + 1);
        tokio::time::sleep(CALM).await;
        let number = kills.len() as u64;
        let what = part(cluster, number, &mut random).await?;
        println!("  {:5.1} s  {what}", began.elapsed().as_secs_f64());
        cluster.ready().await?;
        tokio::time::sleep(CALM).await;
    }
    Ok(kills)
}

/// Takes the node that leads most shards away without killing it: it hangs, is cut off, hears nobody or is
/// heard by nobody, in turn.
async fn part(cluster: &Cluster, number: u64, random: &mut Random) -> Result<String> {
    let node = cluster.busiest()?;
    let away = Duration::from_millis(AWAY.as_millis() as u64 / 2 + random.below(2_000));
    let how = match number % 4 {
        0 => {
            cluster.hang(node, true)?;
            tokio::time::sleep(away).await;
            cluster.hang(node, false)?;
            "hung"
        }
        way => {
            let (says, hears, how) = match way {
                1 => (false, false, "was cut off"),
                2 => (true, false, "heard nobody"),
                _ => (false, true, "was heard by nobody"),
            };
            cluster.links.around(node, says, hears);
            tokio::time::sleep(away).await;
            cluster.links.around(node, true, true);
            how
        }
    };
    Ok(format!("node {} {how} for {:.1} s", node + 1, away.as_secs_f64()))
}

async fn all_at_once(cluster: &mut Cluster) -> Result {
    for index in 0..NODES {
        cluster.kill(index)?;
    }
    for index in 0..NODES {
        cluster.restart(index)?;
    }
    cluster.ready().await?;
    println!("  all {NODES} nodes killed and back");
    Ok(())
}

/// Reads every object that is listed or was acknowledged; returns how many were acknowledged.
async fn verify(shared: &Shared) -> Result<usize> {
    let listing = shared.clients[0].list(None).map_ok(|meta| meta.location.to_string());
    let listed: Vec<String> = listing.try_collect().await.map_err(|error| error.to_string())?;
    let listed: std::collections::BTreeSet<String> = listed.into_iter().collect();
    let mut keys: Vec<String> = shared.ledger().acknowledged().map(str::to_owned).collect();
    let acknowledged = keys.len();
    if let Some(unlisted) = keys.iter().find(|key| !listed.contains(*key)) {
        return Err(format!("{unlisted} was acknowledged and is not listed"));
    }
    keys.extend(listed);
    keys.sort();
    keys.dedup();
    let checks = keys.iter().enumerate().map(|(number, key)| async move {
        // Every node must be able to answer for every key; each is asked for its share.
        let client = &shared.clients[number % NODES];
        let found = read(client, key).await.map_err(|error| format!("{key}: {error}"))?;
        judge(shared, key, found.as_ref())
    });
    futures_util::stream::iter(checks).buffer_unordered(READERS).try_collect::<()>().await?;
    Ok(acknowledged)
}

/// The longest time between two acknowledgements of a writer that touches the window after a kill.
fn longest_gap(times: &[Instant], kill: Instant) -> Duration {
    let pairs = times.windows(2).filter(|pair| pair[1] >= kill && pair[0] <= kill + AWAY);
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_the_longest_silence_that_touches_the_window() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let times = [at(0), at(5_000), at(5_100), at(5_900), at(6_000), at(20_000)];
        assert_eq!(longest_gap(&times, at(5_050)), Duration::from_millis(14_000));
        assert_eq!(longest_gap(&times[..5], at(5_050)), Duration::from_millis(800));
        assert_eq!(longest_gap(&times[..2], at(9_000)), Duration::ZERO);
    }
}
