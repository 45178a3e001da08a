//! One byte of one file of one node is another one, at random, again and again.
//!
//! Three nodes hold objects inline and in chunks. Each try writes some more, picks a node, and changes one byte of one file of its
//! directory: while the node is down after kill -9 or after a stop, or under its feet while it runs. Then the node is started on
//! that, everything that was ever acknowledged is read through every node, and the cluster has to become whole; at last the
//! node is stopped and its directory verified. A node that refuses to go on has to say what to do, and that is done.
//!
//! Half of the bytes are any bytes of all files together, which are mostly room that nothing was written to yet; the
//! others are bytes that mean something, of any file alike. What became of each is told.

use crate::cluster::{self, Cluster, NODES, Place};
use crate::content::Random;
use crate::damage::{BUCKET, PATIENCE, Written};
use crate::{Result, replaced};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a node may take to stop, or to say that it does not start.
const BACKGROUND: Duration = Duration::from_secs(30);
/// A byte under a node that runs is left there for so long.
const UNDERFOOT: Duration = Duration::from_millis(500);
const FRESH_SMALL: usize = 6;
const LARGE_BYTES: u64 = 300 << 10;
/// So many bytes are looked at for one that is not zero.
const LOOKS: usize = 10_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Bytes.
    #[arg(long)]
    tries: u32,
    /// Names what is done; by default another one each time. It is printed.
    #[arg(long)]
    seed: Option<u64>,
}

/// How the node is when its byte changes.
#[derive(Clone, Copy, Debug)]
enum When {
    Killed,
    Stopped,
    Running,
}

/// A byte that was changed.
struct Change {
    path: PathBuf,
    offset: u64,
    before: u8,
    after: u8,
}

pub(crate) async fn run(args: &Args) -> Result {
    let seed = args.seed.unwrap_or_else(cluster::entropy);
    println!("  seed {seed} (repeat with --seed {seed})");
    let mut random = Random::new(seed);
    let mut cluster = Cluster::found(&args.place).await?;
    let clients = cluster.clients(BUCKET, PATIENCE)?;
    let mut written = Written::default();
    written.fill(&clients).await?;
    cluster.healed().await?;
    let mut became = BTreeMap::<String, u32>::new();
    // What is left of earlier bytes on each node's disk, and costs nothing.
    let mut known = [const { BTreeSet::new() }; NODES];
    for number in 1..=args.tries {
        for fresh in 0..FRESH_SMALL {
            let bytes = 200 + random.below(4_000);
            written.put(&clients[fresh % NODES], format!("try/{number}/{fresh}"), bytes).await?;
        }
        if random.below(3) == 0 {
            written.put(&clients[0], format!("try/{number}/large"), LARGE_BYTES).await?;
        }
        let node = random.below(NODES as u64) as usize;
        let one =
            Try { cluster: &mut cluster, written: &mut written, node, known: &mut known[node] };
        let (change, end) =
            one.run(&mut random).await.map_err(|why| format!("try {number}: {why}"))?;
        let (name, Change { offset, before, after, .. }) = (change.name(), change);
        println!(
            "  {number:>3}: node {}, byte {offset} of {name}, {before:#04x} to {after:#04x}: {end}",
            node + 1
        );
        let kind = name.split('-').next().unwrap_or_default();
        *became.entry(format!("{kind}: {end}")).or_default() += 1;
        for client in &clients {
            written.all_are_there(client).await.map_err(|why| format!("try {number}: {why}"))?;
        }
    }
    for (what, count) in &became {
        println!("  {count:>4} {what}");
    }
    let ends: serde_json::Map<String, Value> =
        became.into_iter().map(|(what, count)| (what, count.into())).collect();
    println!(
        "{{\"tries\":{},\"seed\":{seed},\"lost\":0,\"became\":{}}}",
        args.tries,
        Value::Object(ends)
    );
    cluster.end().map(drop)
}

/// One of them.
struct Try<'a> {
    cluster: &'a mut Cluster,
    written: &'a mut Written,
    node: usize,
    known: &'a mut BTreeSet<String>,
}

impl Try<'_> {
    async fn run(mut self, random: &mut Random) -> Result<(Change, String)> {
        let clients = self.cluster.clients(BUCKET, PATIENCE)?;
        let when =
            [When::Killed, When::Killed, When::Stopped, When::Running][random.below(4) as usize];
        let change = match when {
            When::Killed => {
                self.cluster.kill(self.node)?;
                Change::make(self.cluster.data(self.node), random)?
            }
            When::Stopped => {
                self.stop().await?;
                Change::make(self.cluster.data(self.node), random)?
            }
            When::Running => {
                let change = Change::make(self.cluster.data(self.node), random)?;
                // It goes on meanwhile, and what it reads it reads from these files.
                self.written.all_are_there(&clients[self.node]).await?;
                let key = format!("underfoot/{}", random.next());
                self.written.put(&clients[self.node], key, LARGE_BYTES).await?;
                tokio::time::sleep(UNDERFOOT).await;
                self.cluster.kill(self.node)?;
                change
            }
        };
        let told = self.verify()?;
        let skip = self.cluster.logged(self.node)?;
        self.cluster.restart(self.node)?;
        let refused = self.refusal(skip).await?;
        if let Some(why) = &refused {
            self.do_as_told(why, &change).await?;
        }
        self.written.all_are_there(&clients[self.node]).await?;
        self.cluster.healed().await?;
        self.stop().await?;
        let mut left = self.verify()?;
        self.cluster.restart(self.node)?;
        self.cluster.ready().await?;
        self.cluster.healed().await?;
        if left.costs() {
            return Err(format!(
                "{} byte {} is not healed: {}",
                change.name(),
                change.offset,
                left.what
            ));
        }
        *self.known = core::mem::take(&mut left.places);
        let end = match (refused, told.what.as_str(), left.what.as_str()) {
            (Some(_), ..) => "refused, and whole when it was done as told".to_owned(),
            (None, "", _) => "nothing is damaged".to_owned(),
            (None, found, "") => format!("{found}; whole"),
            (None, found, left) => format!("{found}; whole but for: {left}"),
        };
        Ok((change, end))
    }

    async fn stop(&mut self) -> Result {
        self.cluster.stop(self.node)?;
        self.cluster.ended(self.node, BACKGROUND).await
    }

    /// What `ironseed data verify` says of the node's directory.
    fn verify(&self) -> Result<Told> {
        let path = self.cluster.data(self.node).display().to_string();
        let (good, said, why) = self.cluster.offline(&["data", "verify", "--json", &path])?;
        if !good && said.is_empty() {
            let what = format!("`data verify` refuses: {}", one_line(&why));
            return Ok(Told { advice: "refused".into(), what, places: BTreeSet::new() });
        }
        let told: Value = serde_json::from_str(&said)
            .map_err(|error| format!("data verify: {error}: {said:.300}"))?;
        let advice = told.get("advice").and_then(Value::as_str).unwrap_or_default().to_owned();
        let findings = told.get("findings").and_then(Value::as_array).into_iter().flatten();
        let mut kinds = BTreeSet::new();
        let mut places = BTreeSet::new();
        for finding in findings {
            let word = |name: &str| finding.get(name).and_then(Value::as_str).unwrap_or_default();
            let kind = word("kind");
            let offset = finding.get("offset").and_then(Value::as_u64);
            let place = format!("{kind} {} {offset:?}", word("file"));
            // What a kill leaves, and what a node that was away has yet to be given.
            if !["torn-tail", "missing"].contains(&kind) && !self.known.contains(&place) {
                kinds.insert(kind);
            }
            places.insert(place);
        }
        let what = kinds.into_iter().collect::<Vec<_>>().join(", ");
        Ok(Told { advice, what, places })
    }

    /// Why the node does not start, if it does not.
    async fn refusal(&mut self, skip: usize) -> Result<Option<String>> {
        let Err(why) = self.cluster.ready().await else { return Ok(None) };
        if self.cluster.ended(self.node, Duration::ZERO).await.is_err() {
            return Err(format!("it neither starts nor ends: {why}"));
        }
        let log = self.cluster.log_since(self.node, skip)?;
        let says = log.lines().rfind(|line| line.contains("rror") || line.contains("halt"));
        Ok(Some(says.unwrap_or(&log).to_owned()))
    }

    /// A node that does not start has said what to do.
    async fn do_as_told(&mut self, why: &str, change: &Change) -> Result {
        println!("       it says: {}", one_line(why));
        let data = self.cluster.data(self.node).to_owned();
        let id = (self.node + 1).to_string();
        if why.contains("write that line") && change.name() == "FORMAT" {
            let line = why.split('"').nth(1).ok_or("it does not say which line")?;
            fs::write(&change.path, format!("{line}\n")).map_err(|error| error.to_string())?;
            self.cluster.restart(self.node)?;
        } else if why.contains("replace-store") {
            fs::remove_dir_all(&data).map_err(|error| error.to_string())?;
            self.cluster.restart(self.node)?;
            replaced::wait_for_stranger(self.cluster).await?;
            self.cluster.tool(&["cluster", "replace-store", "--node", &id, "--yes"])?;
        } else {
            return Err(format!(
                "{} byte {}: it does not say what to do: {why}",
                change.name(),
                change.offset
            ));
        }
        self.cluster.ready().await
    }
}

/// What a verification says.
struct Told {
    advice: String,
    /// Kinds of damage that were not there before.
    what: String,
    /// All findings.
    places: BTreeSet<String>,
}

impl Told {
    /// Whether something is lost that another replica has to give.
    fn costs(&self) -> bool {
        !["nothing", "start"].contains(&self.advice.as_str()) && !self.what.is_empty()
    }
}

impl Change {
    /// Changes one byte of one file in this directory.
    fn make(data: &Path, random: &mut Random) -> Result<Self> {
        let broken = |error: std::io::Error| format!("{}: {error}", data.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(data).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            files.push((entry.path(), entry.metadata().map_err(broken)?.len()));
        }
        files.retain(|(_, bytes)| *bytes > 0);
        files.sort();
        let anywhere = random.below(2) == 0;
        for look in 0..LOOKS {
            let (path, offset) = match anywhere {
                true => {
                    let total = files.iter().map(|(_, bytes)| bytes).sum();
                    let mut at = random.below(total);
                    let mut at_file = 0;
                    while at >= files[at_file].1 {
                        at -= files[at_file].1;
                        at_file += 1;
                    }
                    (files[at_file].0.clone(), at)
                }
                false => {
                    let (path, bytes) = &files[random.below(files.len() as u64) as usize];
                    // Segments are written from their beginning on.
                    let most = bytes.min(&(4 << 10 << random.below(12))).to_owned();
                    (path.clone(), random.below(most))
                }
            };
            // Whatever file that is by now: a node that runs may have given it another name.
            let Ok(file) = File::options().read(true).write(true).open(&path) else { continue };
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).map_err(broken)?;
            let [before] = byte;
            if !anywhere && before == 0 && look + 1 < LOOKS {
                continue;
            }
            let after = before ^ (1 + random.below(255) as u8);
            file.write_all_at(&[after], offset).map_err(broken)?;
            return Ok(Self { path, offset, before, after });
        }
        Err(format!("{}: no byte was found", data.display()))
    }

    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(400).collect()
}
