//! What a node holds while it is busy: memory, file descriptors, bytes on disk.
//!
//! A large object goes up in ten parallel parts and comes back in ten parallel ranges. Meanwhile a hundred
//! clients upload slowly at once, and then a hundred download the large object slowly; half of the
//! former and all of the latter vanish in the middle. Judged are the most memory that any process ever
//! had (`VmHWM`), and that memory, file descriptors and staged bytes return to where they were before.

use crate::cluster::{Cluster, NODES, Place};
use crate::store;
use crate::{Result, content, http_raw};
use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const BUCKET: &str = "memory";
/// The most that a request may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most that a process may ever have had.
const HWM_KIB_MAX: u64 = 300 << 10;
const PARALLEL: usize = 10;
const PART: u64 = 16 << 20;
const LARGE: &str = "large";
const SLOW_UPLOADS: usize = 100;
const SLOW_DOWNLOADS: usize = 100;
/// A few seconds each.
const SLOW_DOWNLOAD_PIECES: usize = 60;
const SLOW_BYTES: u64 = 4 << 20;
/// Each slow upload takes about 12 seconds: a piece, a pause.
const SLOW_PIECE: usize = 32 << 10;
const SLOW_PAUSE: Duration = Duration::from_millis(90);
/// How long nodes may take to give back what uploads took. A gateway gives up the blob of a client that
/// vanished at once, so no lease has to run out; the collector waits for reads that may hold it.
const SETTLE: Duration = Duration::from_secs(60);
/// After the first objects, until all replicas hold them: a quorum is enough for an acknowledgement.
const CATCH_UP: Duration = Duration::from_secs(3);
/// Memory that a process may keep over what it had: allocators give back late, and in their own units.
const RSS_KIB_SLACK: u64 = 100 << 10;
/// Descriptors that may come and go: a connection of our own, a segment being rotated.
const DESCRIPTORS_SLACK: usize = 8;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// MiB of the large object.
    #[arg(long)]
    large_mib: u64,
}

pub(crate) async fn run(args: &Args) -> Result {
    let cluster = Cluster::found(&args.place).await?;
    let clients = cluster.clients(BUCKET, PATIENCE)?;
    store::create_bucket(&clients[0]).await?;
    // One small object through every node, so that what is opened once is open.
    for (index, client) in clients.iter().enumerate() {
        let key = Key::from(format!("warm/{index}"));
        client.put(&key, content::piece("warm", 0, 2 << 20).into()).await.map_err(text)?;
        client.get(&key).await.map_err(text)?.bytes().await.map_err(text)?;
    }
    tokio::time::sleep(CATCH_UP).await;
    let before = Held::by(&cluster)?;
    let size = args.large_mib << 20;
    tokio::try_join!(upload(&clients, size), slow_uploads(&clients))?;
    report("after the uploads", &Held::by(&cluster)?)?;
    tokio::try_join!(download(&clients, size), slow_downloads(&clients))?;
    report("after the downloads", &Held::by(&cluster)?)?;
    remove(&clients).await?;
    drop(clients);
    settle(&cluster, &before).await
}

fn text(error: object_store::Error) -> String {
    error.to_string()
}

/// Up in parallel parts.
async fn upload(clients: &[AmazonS3], size: u64) -> Result {
    let key = Key::from(LARGE);
    let began = Instant::now();
    let upload = clients[0].create_multipart(&key).await.map_err(text)?;
    let offsets: Vec<u64> = (0..size).step_by(PART as usize).collect();
    let (key, upload) = (&key, &upload);
    let parts = offsets.iter().enumerate().map(|(number, offset)| async move {
        let body = content::piece("large", *offset, PART.min(size - offset));
        let client = &clients[number % NODES];
        client.put_part(key, upload, number, body.into()).await.map_err(text)
    });
    let parts: Vec<PartId> =
        futures_util::stream::iter(parts).buffered(PARALLEL).try_collect().await?;
    clients[0].complete_multipart(key, upload, parts).await.map_err(text)?;
    println!("  {} MiB up in {:.1} s", size >> 20, began.elapsed().as_secs_f64());
    Ok(())
}

/// Back in parallel ranges.
async fn download(clients: &[AmazonS3], size: u64) -> Result {
    let key = &Key::from(LARGE);
    let began = Instant::now();
    let offsets: Vec<u64> = (0..size).step_by(PART as usize).collect();
    let ranges = offsets.iter().enumerate().map(|(number, offset)| async move {
        let range = *offset..(offset + PART).min(size);
        let wanted = content::piece("large", *offset, range.end - range.start);
        let found = clients[number % NODES].get_range(key, range).await.map_err(text)?;
        if found == wanted { Ok(()) } else { Err(format!("different bytes at {offset}")) }
    });
    futures_util::stream::iter(ranges).buffered(PARALLEL).try_collect::<()>().await?;
    println!("  {} MiB back in {:.1} s", size >> 20, began.elapsed().as_secs_f64());
    Ok(())
}

/// A hundred uploads at a few hundred KiB a second each; every second client vanishes halfway.
async fn slow_uploads(clients: &[AmazonS3]) -> Result {
    let began = Instant::now();
    let mut uploads = JoinSet::new();
    for number in 0..SLOW_UPLOADS {
        let key = format!("slow/{number:03}");
        let link = store::put_link(&clients[number % NODES], &key).await?;
        uploads.spawn(async move {
            let vanish = number % 2 == 1;
            let body = content::piece(&key, 0, SLOW_BYTES);
            let done =
                http_raw::upload_slowly(&link, &body, SLOW_PIECE, SLOW_PAUSE, vanish).await?;
            let wanted = if vanish { None } else { Some(200) };
            if done == wanted { Ok(()) } else { Err(format!("{key} answered {done:?}")) }
        });
    }
    while let Some(upload) = uploads.join_next().await {
        upload.map_err(|error| error.to_string())??;
    }
    println!("  {SLOW_UPLOADS} slow uploads in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// A hundred downloads of the large object whose clients take a little of it, then vanish.
async fn slow_downloads(clients: &[AmazonS3]) -> Result {
    let mut downloads = JoinSet::new();
    for number in 0..SLOW_DOWNLOADS {
        let link = store::link(&clients[number % NODES], http::Method::GET, LARGE).await?;
        downloads.spawn(async move {
            http_raw::download_slowly(&link, SLOW_PIECE, SLOW_PAUSE, SLOW_DOWNLOAD_PIECES).await
        });
    }
    while let Some(download) = downloads.join_next().await {
        download.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// Takes everything away; uploads are there whole or not at all.
async fn remove(clients: &[AmazonS3]) -> Result {
    clients[0].delete(&Key::from(LARGE)).await.map_err(text)?;
    for number in 0..SLOW_UPLOADS {
        let key = format!("slow/{number:03}");
        let path = Key::from(key.as_str());
        let client = &clients[(number + 1) % NODES];
        match client.get(&path).await {
            Ok(answer) if number % 2 == 0 => {
                let body = answer.bytes().await.map_err(text)?;
                if body != content::piece(&key, 0, SLOW_BYTES) {
                    return Err(format!("{key} came back different"));
                }
                client.delete(&path).await.map_err(text)?;
            }
            Err(object_store::Error::NotFound { .. }) if number % 2 == 1 => {}
            other => return Err(format!("{key}: {:?}", other.map(|answer| answer.meta))),
        }
    }
    Ok(())
}

/// What each process holds.
#[derive(Debug)]
struct Held {
    hwm_kib: Vec<u64>,
    rss_kib: Vec<u64>,
    descriptors: Vec<usize>,
    /// Bytes of chunks on all nodes, as `status` tells it; `None` where it does not.
    chunk_bytes: Option<u64>,
}

impl Held {
    fn by(cluster: &Cluster) -> Result<Self> {
        let mut held = Self {
            hwm_kib: Vec::new(),
            rss_kib: Vec::new(),
            descriptors: Vec::new(),
            chunk_bytes: None,
        };
        for index in 0..NODES {
            let pid = cluster.pid(index).ok_or_else(|| format!("node {} is down", index + 1))?;
            let path = format!("/proc/{pid}/status");
            let status =
                std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            held.hwm_kib.push(kib(&status, "VmHWM:")?);
            held.rss_kib.push(kib(&status, "VmRSS:")?);
            let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
            held.descriptors.push(descriptors.map_err(|error| error.to_string())?.count());
        }
        held.chunk_bytes = chunk_bytes(&cluster.status()?);
        Ok(held)
    }

    /// What keeps it from being back where it was, if anything does.
    fn still_more_than(&self, before: &Self) -> Option<String> {
        for (index, (now, then)) in self.descriptors.iter().zip(&before.descriptors).enumerate() {
            if *now > then + DESCRIPTORS_SLACK {
                return Some(format!("node {} has {now} descriptors, had {then}", index + 1));
            }
        }
        for (index, (now, then)) in self.rss_kib.iter().zip(&before.rss_kib).enumerate() {
            if *now > then + RSS_KIB_SLACK {
                return Some(format!("node {} has {now} KiB resident, had {then}", index + 1));
            }
        }
        match (self.chunk_bytes, before.chunk_bytes) {
            (Some(now), Some(then)) if now > then => {
                Some(format!("{now} bytes of chunks, had {then}"))
            }
            _ => None,
        }
    }
}

fn kib(status: &str, field: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok());
    number.ok_or_else(|| format!("the system does not tell {field}"))
}

fn chunk_bytes(status: &Value) -> Option<u64> {
    let nodes = status.get("nodes")?.as_array()?;
    nodes.iter().map(|node| node.get("chunk_bytes")?.as_u64()).sum()
}

fn report(when: &str, held: &Held) -> Result {
    let mib = |list: &[u64]| list.iter().map(|kib| kib >> 10).collect::<Vec<_>>();
    println!(
        "  {when}: at the most {:?} MiB, now {:?} MiB, descriptors {:?}, chunks {:?} bytes",
        mib(&held.hwm_kib),
        mib(&held.rss_kib),
        held.descriptors,
        held.chunk_bytes
    );
    match held.hwm_kib.iter().find(|kib| **kib > HWM_KIB_MAX) {
        Some(kib) => Err(format!("a node had {} MiB, more than {}", kib >> 10, HWM_KIB_MAX >> 10)),
        None => Ok(()),
    }
}

async fn settle(cluster: &Cluster, before: &Held) -> Result {
    let began = Instant::now();
    loop {
        let held = Held::by(cluster)?;
        let Some(more) = held.still_more_than(before) else {
            return report(&format!("settled after {:.0} s", began.elapsed().as_secs_f64()), &held);
        };
        if began.elapsed() > SETTLE {
            return Err(format!("after {SETTLE:?}: {more}"));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
