//! Bits that flip on real disks.
//!
//! Objects are written and acknowledged, a node is killed, and one bit is flipped in the middle of a
//! record that is known to hold something: an entry of the write-ahead log that nothing else on this disk
//! has, another one that the state has too, a frame of the table log, a chunk. Then the node is started.
//!
//! Among three nodes it must heal without anybody's help, and then be as good a copy as before: everything
//! is read through it, also while it and one other are all that run. A node alone can't heal what only it
//! had. It must say so, file and offset and what was there, in its log and to the clients that it
//! concerns; serve everybody else; and never hand out bytes that are not the object's.

use crate::cluster::{Cluster, NODES, Place};
use crate::http_raw::{self, Answer};
use crate::segment::{self, Kind, Record};
use crate::{Result, content, moved, replaced, store};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3;
use object_store::path::Path as Key;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const BUCKET: &str = "damage";
/// The most that a request may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the background may take: checkpoints come every 5 seconds.
const BACKGROUND: Duration = Duration::from_secs(60);
const SMALL_OBJECTS: usize = 64;
const SMALL_BYTES: u64 = 1 << 10;
const LARGE_OBJECTS: usize = 4;
pub(crate) const LARGE_BYTES: u64 = 3 << 20;
/// The kind of a record of the write-ahead log that is an entry.
const ENTRY: u8 = 2;
/// An entry that no checkpoint covers is looked for this often: each try writes some.
const FRESH_TRIES: usize = 20;
const FRESH_OBJECTS: usize = 8;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(crate) async fn run(args: &Args) -> Result {
    among_three(&args.place.below("three")?).await.map_err(|error| format!("three: {error}"))?;
    replaced::run(&args.place.below("lost")?).await.map_err(|error| format!("lost: {error}"))?;
    moved::run(&args.place.below("moved")?).await.map_err(|error| format!("moved: {error}"))?;
    alone(&args.place.below("one")?).await.map_err(|error| format!("one node: {error}"))
}

/// What was written and acknowledged: objects by key. Their bytes follow from the key.
#[derive(Debug, Default)]
pub(crate) struct Written(BTreeMap<String, u64>);

impl Written {
    pub(crate) async fn put(&mut self, client: &AmazonS3, key: String, bytes: u64) -> Result {
        let body = content::piece(&key, 0, bytes);
        let put = client.put(&Key::from(key.as_str()), body.into()).await;
        put.map_err(|error| format!("{key}: {error}"))?;
        self.0.insert(key, bytes);
        Ok(())
    }

    fn body(&self, key: &str) -> Bytes {
        content::piece(key, 0, self.0[key])
    }

    /// The key of the object whose first bytes a record holds.
    fn key_in(&self, record: &Record) -> Option<&str> {
        let begins = |key: &&String| record.holds(&content::piece(key, 0, 64));
        self.0.keys().find(begins).map(String::as_str)
    }

    pub(crate) async fn fill(&mut self, clients: &[AmazonS3]) -> Result {
        store::create_bucket(&clients[0]).await?;
        for number in 0..SMALL_OBJECTS {
            let client = &clients[number % clients.len()];
            self.put(client, format!("small/{number:03}"), SMALL_BYTES).await?;
        }
        for number in 0..LARGE_OBJECTS {
            let client = &clients[number % clients.len()];
            self.put(client, format!("large/{number}"), LARGE_BYTES).await?;
        }
        Ok(())
    }

    /// Every object comes back bit for bit.
    pub(crate) async fn all_are_there(&self, client: &AmazonS3) -> Result {
        for key in self.0.keys() {
            let answer = get(client, key).await?;
            self.expect_whole(key, &answer)?;
        }
        Ok(())
    }

    /// The same, and says so.
    pub(crate) async fn read_all(&self, client: &AmazonS3, how: &str) -> Result {
        self.all_are_there(client).await.map_err(|error| format!("{how}: {error}"))?;
        println!("  {how}: {} objects are what they were", self.0.len());
        Ok(())
    }

    fn expect_whole(&self, key: &str, answer: &Answer) -> Result {
        if answer.status == 200 && answer.whole && answer.body == self.body(key) {
            return Ok(());
        }
        Err(format!("{key} answered {}: {:.300}", answer.status, text(answer)))
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

async fn get(client: &AmazonS3, key: &str) -> Result<Answer> {
    let link = store::link(client, http::Method::GET, key).await?;
    http_raw::exchange("GET", &link, b"").await.map_err(|error| format!("{key}: {error}"))
}

/// The largest index of each group that the table log has: what a checkpoint covers.
fn covered(data: &Path) -> Result<BTreeMap<u32, u64>> {
    let mut covered = BTreeMap::new();
    for frame in segment::records(data, Kind::Table)? {
        let upto = covered.entry(frame.group).or_insert(0);
        *upto = frame.index.max(*upto);
    }
    Ok(covered)
}

/// The home groups of the large objects: their chunks are damaged, the groups must not be.
fn homes_of_chunks(data: &Path) -> Result<BTreeSet<u32>> {
    let chunks = segment::records(data, Kind::Chunk)?;
    Ok(chunks.into_iter().map(|chunk| chunk.group).collect())
}

/// Entries of the write-ahead log with the objects that they hold.
fn entries(data: &Path, written: &Written) -> Result<Vec<(Record, String)>> {
    let entries = segment::records(data, Kind::Wal)?.into_iter();
    let entries = entries.filter(|record| record.kind == ENTRY && record.payload.len() > 512);
    let with_key = |record: Record| {
        let key = written.key_in(&record)?.to_owned();
        Some((record, key))
    };
    Ok(entries.filter_map(with_key).collect())
}

/// Waits until a checkpoint has taken the small objects into the table log.
async fn checkpointed(data: &Path, written: &Written) -> Result {
    let began = Instant::now();
    loop {
        let covered = covered(data)?;
        let behind = |record: &Record| covered.get(&record.group).copied() < Some(record.index);
        if !entries(data, written)?.iter().any(|(record, _)| behind(record)) {
            return Ok(());
        }
        if began.elapsed() > BACKGROUND {
            return Err(format!("no checkpoint in {BACKGROUND:?}"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Writes objects and kills the node so soon after that the log alone has one of them. A checkpoint may
/// come between, whatever one does; then again.
async fn kill_with_a_fresh_entry(
    cluster: &mut Cluster,
    index: usize,
    clients: &[AmazonS3],
    written: &mut Written,
) -> Result<(Record, String)> {
    for round in 0..FRESH_TRIES {
        for number in 0..FRESH_OBJECTS {
            let client = &clients[number % clients.len()];
            written.put(client, format!("fresh/{round}/{number}"), SMALL_BYTES).await?;
        }
        cluster.healed().await?;
        cluster.kill(index)?;
        let data = cluster.data(index);
        let (covered, spared) = (covered(data)?, homes_of_chunks(data)?);
        let fresh = entries(data, written)?.into_iter().find(|(record, _)| {
            !spared.contains(&record.group) && covered.get(&record.group) < Some(&record.index)
        });
        if let Some(fresh) = fresh {
            return Ok(fresh);
        }
        cluster.restart(index)?;
        cluster.ready().await?;
    }
    Err(format!("after {FRESH_TRIES} tries every entry was covered by a checkpoint"))
}

/// The chunk record that holds the object's bytes from `offset` on.
fn chunk_of(data: &Path, key: &str, offset: u64) -> Result<Record> {
    let begins = content::piece(key, offset, 64);
    let mut chunks = segment::records(data, Kind::Chunk)?.into_iter();
    let found = chunks.find(|record| record.payload.starts_with(&begins));
    found.ok_or_else(|| format!("no synced chunk of {key} at {offset} in {}", data.display()))
}

/// A line of the log that names the place, and what it says was there.
fn expect_logged(log: &str, record: &Record, what: &str) -> Result {
    let place = record.place();
    match log.lines().find(|line| line.contains(&place) && line.contains(what)) {
        Some(_) => Ok(()),
        None => Err(format!("the log says nothing of {place} and {what}")),
    }
}

/// How the log names a record of a group.
fn of_group(record: &Record) -> String {
    format!("group: g{}, index: i{}", record.group, record.index)
}

async fn among_three(place: &Place) -> Result {
    let mut cluster = Cluster::found(place).await?;
    let clients = cluster.clients(BUCKET, PATIENCE)?;
    let mut written = Written::default();
    written.fill(&clients).await?;
    cluster.healed().await?;
    let victim = 0;
    checkpointed(cluster.data(victim), &written).await?;
    let (fresh, _) = kill_with_a_fresh_entry(&mut cluster, victim, &clients, &mut written).await?;
    let flipped = flip_some(cluster.data(victim), &written, fresh)?;
    let skip = cluster.logged(victim)?;
    cluster.restart(victim)?;
    cluster.ready().await?;
    written.read_all(&clients[victim], "through the damaged node").await?;
    cluster.healed().await?;
    let log = cluster.log_since(victim, skip)?;
    for record in &flipped.records {
        expect_logged(&log, record, &of_group(record))?;
    }
    expect_logged(&log, &flipped.chunk, "ChunkId")?;
    for healed in ["healed a log entry from a peer", "installed a leader's state", "healed a chunk"]
    {
        if !log.contains(healed) {
            return Err(format!("the log does not say {healed:?}"));
        }
    }
    println!("  {} places healed", flipped.records.len() + 1);
    for other in 1..NODES {
        cluster.kill(NODES - other)?;
        written.read_all(&clients[victim], &format!("with node {other} alone beside")).await?;
        written.put(&clients[victim], format!("after/{other}"), LARGE_BYTES).await?;
        cluster.restart(NODES - other)?;
        cluster.ready().await?;
        cluster.healed().await?;
    }
    let (data, key) = (cluster.data(victim), &flipped.chunk_key);
    if chunk_of(data, key, 0)?.payload != content::piece(key, 0, 1 << 20) {
        return Err(format!("the chunk of {key} on disk is not as it was"));
    }
    Ok(())
}

/// What was damaged.
struct Flipped {
    /// In the write-ahead log and the table log.
    records: Vec<Record>,
    chunk: Record,
    chunk_key: String,
}

/// Flips a bit in each log of a node that does not run: in a fresh entry, in one that the state has too, in
/// a frame, in a chunk; each of another group.
fn flip_some(data: &Path, written: &Written, fresh: Record) -> Result<Flipped> {
    let covered = covered(data)?;
    let mut spared = homes_of_chunks(data)?;
    spared.insert(fresh.group);
    let mut old = entries(data, written)?.into_iter().map(|(record, _)| record);
    let old =
        old.find(|it| !spared.contains(&it.group) && covered.get(&it.group) >= Some(&it.index));
    let old = old.ok_or_else(|| "no entry that a checkpoint covers".to_owned())?;
    spared.insert(old.group);
    let mut frames = segment::records(data, Kind::Table)?.into_iter();
    let frame = frames.find(|it| !spared.contains(&it.group) && written.key_in(it).is_some());
    let frame = frame.ok_or_else(|| "no frame with an object".to_owned())?;
    let chunk_key = "large/1".to_owned();
    let chunk = chunk_of(data, &chunk_key, 0)?;
    for record in [&fresh, &old, &frame, &chunk] {
        record.flip()?;
    }
    Ok(Flipped { records: vec![fresh, old, frame], chunk, chunk_key })
}

async fn alone(place: &Place) -> Result {
    let mut cluster = Cluster::found_of(1, place).await?;
    let clients = cluster.clients(BUCKET, PATIENCE)?;
    let mut written = Written::default();
    written.fill(&clients).await?;
    checkpointed(cluster.data(0), &written).await?;
    let (fresh, key) = kill_with_a_fresh_entry(&mut cluster, 0, &clients, &mut written).await?;
    let Flipped { records, chunk, chunk_key } = flip_some(cluster.data(0), &written, fresh)?;
    let [fresh, old, frame] = &records[..] else { unreachable!("three were flipped") };
    // The bytes before this one are good, and are sent before it is looked at.
    let last_key = "large/2";
    let last = chunk_of(cluster.data(0), last_key, 2 << 20)?;
    last.flip()?;
    let lost: BTreeSet<u32> = [fresh.group, frame.group].into();
    let affected: BTreeSet<String> = entries(cluster.data(0), &written)?
        .into_iter()
        .filter(|(record, _)| lost.contains(&record.group))
        .map(|(_, key)| key)
        .chain([key.clone()])
        .collect();
    let skip = cluster.logged(0)?;
    cluster.restart(0)?;
    cluster.ready().await?;
    let client = &clients[0];
    let groups = LostGroups { affected: &affected, places: [fresh.place(), frame.place()] };
    groups.judge(client, &written, &[&chunk_key, last_key]).await?;
    expect_cut(&get(client, &chunk_key).await?, &written.body(&chunk_key), 0)?;
    expect_cut(&get(client, last_key).await?, &written.body(last_key), 2 << 20)?;
    let log = cluster.log_since(0, skip)?;
    for record in [fresh, old, frame] {
        expect_logged(&log, record, &of_group(record))?;
    }
    expect_logged(&log, &chunk, "ChunkId")?;
    expect_logged(&log, &last, "ChunkId")?;
    let status = cluster.status()?.to_string();
    if !groups.places.iter().all(|place| status.contains(place)) {
        return Err(format!("the status does not name what is damaged: {status:.2000}"));
    }
    println!("  {} objects of 2 groups refused, all others served", affected.len());
    Ok(())
}

/// What a node alone can't serve.
struct LostGroups<'a> {
    /// Objects of the damaged groups: small ones only.
    affected: &'a BTreeSet<String>,
    places: [String; 2],
}

impl LostGroups<'_> {
    /// Reads every object but those whose chunks are damaged, and overwrites the small ones: in the damaged
    /// groups both are refused, and the answer says why; in all others both are served.
    async fn judge(&self, client: &AmazonS3, written: &Written, damaged: &[&str]) -> Result {
        for key in written.0.keys().filter(|key| !damaged.contains(&key.as_str())) {
            let read = get(client, key).await?;
            let refused = self.affected.contains(key);
            if refused {
                self.expect_refused(key, &read)?;
            } else {
                written.expect_whole(key, &read)?;
            }
            if key.starts_with("large/") {
                continue;
            }
            let link = store::put_link(client, key).await?;
            let write = http_raw::exchange("PUT", &link, &written.body(key)).await?;
            if refused {
                self.expect_refused(key, &write)?;
            } else if write.status != 200 {
                return Err(format!("writing {key}: {} {:.300}", write.status, text(&write)));
            }
        }
        Ok(())
    }

    fn expect_refused(&self, key: &str, answer: &Answer) -> Result {
        let said = text(answer);
        let says_why = self.places.iter().any(|place| said.contains(place));
        if answer.status == 503 && answer.whole && says_why {
            return Ok(());
        }
        Err(format!("{key} of a damaged group answered {}: {said:.300}", answer.status))
    }
}

/// The answer to a read of an object whose bytes are damaged from `good` on: nothing that passes for the
/// object, and nothing that was never in it.
fn expect_cut(answer: &Answer, body: &Bytes, good: usize) -> Result {
    let honest = match answer.status {
        200 => !answer.whole && answer.body.len() <= good && body.starts_with(&answer.body),
        status => status == 503 && good == 0,
    };
    if honest {
        return Ok(());
    }
    let (status, length) = (answer.status, answer.body.len());
    Err(format!("a damaged object answered {status} with {length} bytes, whole: {}", answer.whole))
}
