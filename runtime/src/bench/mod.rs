//! `ironseed bench s3`: loads any S3 endpoint and says how fast it was.
//!
//! Every worker holds one connection, to one of the endpoints in turn, and does one request after
//! another: closed loop, so a slow server is asked less and the percentiles flatter it; compare at equal
//! concurrency. Requests are presigned with unsigned payload, which every S3 server understands and
//! which keeps hashing bodies out of what is measured. Bodies are random, and every block of 4 KiB
//! differs from every other that was ever sent, so that neither compression nor deduplication helps.
//!
//! Reads and listings first put the objects that they need, outside the measured time.

mod client;
mod disk;
pub mod index;
mod payload;
mod report;

use crate::sign::Signer;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use client::{Client, RequestError};
use payload::Payload;
use report::{Report, Tally};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What to load.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// S3 endpoints, `http://host:port`; workers are spread over them
    #[arg(long, value_delimiter = ',', required = true)]
    pub endpoint: Vec<String>,
    /// What every request does
    #[arg(long, value_enum)]
    pub op: Operation,
    /// Bytes of an object: a number with K, M or G (powers of 1024)
    #[arg(long, default_value = "1K", value_parser = parse_size)]
    pub size: u64,
    /// Requests under way at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub concurrency: u32,
    /// How long to load
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// The bucket; made if it is not there, and left with what was put into it
    #[arg(long, default_value = "ironseed-bench")]
    pub bucket: String,
    /// Objects put before the measured time, to be read or listed
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub objects: u64,
    /// Region to sign for
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    pub region: String,
    /// Access key
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    pub access_key: String,
    /// Secret key
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub secret_key: String,
    /// Admin ports of all nodes, `host:port`: what they write for the load is told too
    #[arg(long, value_delimiter = ',')]
    pub admin: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What every request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// Puts a new object.
    Put,
    /// Gets one of the objects that were put before.
    Get,
    /// Lists a page of up to 1,000 of the objects that were put before.
    List,
}

/// Why there is no result.
#[derive(Debug)]
pub enum BenchError {
    /// An endpoint that is no `http://host:port`.
    Endpoint(String),
    /// An object that can't be put in one request.
    Size(u64),
    /// The bucket or the objects to be read could not be made.
    Prepare(RequestError),
    /// Every single request failed.
    NothingWorked(String),
    /// A node of the benchmark itself does not do what it should.
    Node(String),
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => write!(f, "{endpoint:?} is not http://host:port"),
            Self::Size(size) => {
                write!(f, "{size} bytes: bodies are held in memory, {SIZE_MAX} at the most")
            }
            Self::Prepare(error) => write!(f, "preparing: {error}"),
            Self::NothingWorked(error) => {
                write!(f, "every request failed, the first with: {error}")
            }
            Self::Node(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for BenchError {}

/// The largest object: each worker holds one in memory.
const SIZE_MAX: u64 = 1 << 30;
/// Keys of a page of a listing.
const PAGE: u32 = 1000;

/// Loads as asked and returns what to print.
///
/// # Errors
/// The options make no sense, or nothing works.
pub async fn run(options: &Options) -> Result<String, BenchError> {
    if options.size > SIZE_MAX {
        return Err(BenchError::Size(options.size));
    }
    let plan = Arc::new(Plan::new(options)?);
    prepare(&plan).await?;
    let before = disk::ask(&options.admin).await?;
    let (tally, elapsed) = load(&plan).await;
    let after = disk::ask(&options.admin).await?;
    if tally.requests() == 0 {
        return Err(BenchError::NothingWorked(tally.first_error.unwrap_or_default()));
    }
    let on_disk = after.since(&before, options.admin.len(), tally.requests(), tally.bytes());
    let report = Report::new(options, &tally, elapsed, on_disk);
    Ok(if options.json { report.json() } else { report.text() })
}

/// What all workers share.
struct Plan {
    hosts: Vec<String>,
    signer: Signer,
    operation: Operation,
    size: u64,
    bucket: String,
    objects: u64,
    concurrency: u32,
    duration: Duration,
    /// Separates the keys of this run from those of others.
    run: u64,
    /// Numbers the keys that are put in the measured time.
    next: AtomicU64,
}

impl Plan {
    fn new(options: &Options) -> Result<Self, BenchError> {
        let hosts: Result<Vec<String>, BenchError> = options
            .endpoint
            .iter()
            .map(|endpoint| host(endpoint).ok_or_else(|| BenchError::Endpoint(endpoint.clone())))
            .collect();
        Ok(Self {
            hosts: hosts?,
            signer: Signer::new(&options.access_key, &options.secret_key, &options.region),
            operation: options.op,
            size: options.size,
            bucket: options.bucket.clone(),
            objects: options.objects,
            concurrency: options.concurrency,
            duration: Duration::from_secs(options.seconds),
            run: getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id())),
            next: AtomicU64::new(0),
        })
    }

    fn client(self: &Arc<Self>, worker: u32) -> Client {
        let host = self.hosts.get(worker as usize % self.hosts.len()).cloned().unwrap_or_default();
        Client::new(host, self.signer.clone())
    }

    /// The path of a key. Keys that are read and listed have a name that says their size, so that runs
    /// share them.
    fn prepared(&self, number: u64) -> String {
        format!("/{}/{}{number:08}", self.bucket, self.prefix())
    }

    fn prefix(&self) -> String {
        match self.operation {
            Operation::List => "list/".into(),
            _ => format!("get-{}/", self.size),
        }
    }

    fn fresh(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Spread like names that people give, not in the order of time.
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        format!("/{}/put/{:016x}/{spread:04x}/{number}", self.bucket, self.run)
    }
}

/// `host:port` of an endpoint.
fn host(endpoint: &str) -> Option<String> {
    let rest = endpoint.strip_prefix("http://")?;
    let host = rest.strip_suffix('/').unwrap_or(rest);
    let valid = !host.is_empty() && !host.contains(['/', '?', '#', '@']);
    valid.then(|| if host.contains(':') { host.to_owned() } else { format!("{host}:80") })
}

async fn prepare(plan: &Arc<Plan>) -> Result<(), BenchError> {
    let mut client = plan.client(0);
    match put_patiently(&mut client, &format!("/{}", plan.bucket), &Bytes::new()).await {
        // It is there already, and ours; if it is not ours, the first put says so.
        Ok(()) | Err(RequestError::Status { status: 409, .. }) => {}
        Err(error) => return Err(BenchError::Prepare(error)),
    }
    if plan.operation == Operation::Put {
        return Ok(());
    }
    let size = if plan.operation == Operation::List { 0 } else { plan.size };
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for worker in 0..plan.concurrency {
        let (plan, next) = (plan.clone(), next.clone());
        workers.spawn(async move {
            let mut client = plan.client(worker);
            let mut payload = Payload::new(size);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= plan.objects {
                    return Ok(());
                }
                put_patiently(&mut client, &plan.prepared(number), &payload.next()).await?;
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        match done {
            Ok(result) => result.map_err(BenchError::Prepare)?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(())
}

/// Puts what the measured time needs: a server that is only busy gets a little time.
async fn put_patiently(client: &mut Client, path: &str, body: &Bytes) -> Result<(), RequestError> {
    let mut pause = Duration::from_millis(50);
    for _ in 0..6 {
        match client.put(path, &[], body.clone()).await {
            Err(RequestError::Status { status: 500..=599, .. } | RequestError::Io(_)) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            result => return result,
        }
    }
    client.put(path, &[], body.clone()).await
}

async fn load(plan: &Arc<Plan>) -> (Tally, Duration) {
    let started = Instant::now();
    let until = started + plan.duration;
    let mut workers = JoinSet::new();
    for worker in 0..plan.concurrency {
        workers.spawn(work(plan.clone(), worker, until));
    }
    let mut tally = Tally::new();
    while let Some(done) = workers.join_next().await {
        match done {
            Ok(part) => tally.add(&part),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    (tally, started.elapsed())
}

async fn work(plan: Arc<Plan>, worker: u32, until: Instant) -> Tally {
    let mut client = plan.client(worker);
    let mut payload = Payload::new(if plan.operation == Operation::Put { plan.size } else { 0 });
    let mut tally = Tally::new();
    let page = PAGE.to_string();
    let prefix = plan.prefix();
    let query = [("list-type", "2"), ("max-keys", page.as_str()), ("prefix", prefix.as_str())];
    // Any walk over the keys will do that differs between the workers.
    let mut walk = u64::from(worker).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while Instant::now() < until {
        let started;
        let result = match plan.operation {
            Operation::Put => {
                let (path, body) = (plan.fresh(), payload.next());
                started = Instant::now();
                client.put(&path, &[], body).await.map(|()| plan.size)
            }
            Operation::Get => {
                walk = walk.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let path = plan.prepared((walk >> 33) % plan.objects);
                started = Instant::now();
                client.get(&path, &[], Some(plan.size)).await
            }
            Operation::List => {
                started = Instant::now();
                client.get(&format!("/{}", plan.bucket), &query, None).await
            }
        };
        let failed = result.is_err();
        tally.record(started.elapsed(), result);
        if failed {
            // A server that refuses at once must not be asked a million times.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    tally
}

fn parse_size(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let upper = upper.strip_suffix("IB").or(upper.strip_suffix('B')).unwrap_or(&upper);
    let (digits, shift) = match upper.as_bytes().last() {
        Some(b'K') => (&upper[..upper.len() - 1], 10),
        Some(b'M') => (&upper[..upper.len() - 1], 20),
        Some(b'G') => (&upper[..upper.len() - 1], 30),
        _ => (upper, 0),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no size"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests;
