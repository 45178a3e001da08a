//! `ironseed bench index`: what a node's records cost in memory, and how long it takes until it serves again.
//!
//! One node without others, with its real driver and files but without ports for clients, is filled in a process of its
//! own, stopped and started again in another one. Memory is what the system says of these processes (`VmRSS`,
//! `VmHWM`), divided by the number of records and with everything in it: logs, sessions, buffers, the program. Time
//! counts from the start of the second process until it has answered a linearizable read, and until every group has.
//!
//! The second process also says how long the node itself was deciding until it served, and how many bytes it had read:
//! the rest of the time it waited for the disk. Files that were just written are in the system's cache; `--cold` has them dropped from
//! it first.

mod node;
mod report;
#[cfg(test)]
mod tests;

use super::BenchError;
use crate::driver::Handle;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use ironseed_core::codec::Octets;
use ironseed_core::kv::api::{Expect, KV_KEY_BYTES_MAX, KV_VALUE_BYTES_MAX, KvAnswer, KvRequest};
use ironseed_core::node::api::{FsyncPolicy, Tuning};
use ironseed_core::object::api::{
    Answer, Attributes, Condition, Content, ETag, INLINE_BYTES_MAX, NewObject, Refusal, Request,
};
use ironseed_core::shard;
use node::Lone;
use report::{Filled, Memory, Report, Served};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What to fill a node with.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The data directory: an empty one is filled, one that was filled with the same options is only started
    #[arg(long)]
    pub dir: PathBuf,
    /// How many records
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// What each of them is
    #[arg(long, value_enum, default_value = "kv")]
    pub what: What,
    /// Bytes of a key: 16 digits that no other key has, and letters behind them
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(16..=1024))]
    pub key_bytes: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=16_384))]
    pub value_bytes: u64,
    /// How many shards they are spread over, a power of two
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: u16,
    /// Drop the files from the system's cache before the start
    #[arg(long)]
    pub cold: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// What this process does for the one that was called
    #[arg(long, value_enum, hide = true)]
    pub part: Option<Part>,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// A key of the key-value space.
    Kv,
    /// An object of one bucket, its bytes inline.
    Object,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Puts the records and stops.
    Fill,
    /// Starts on them.
    Serve,
}

const BUCKET: &str = "bench";
/// Requests under way at a time while a node is filled.
const FILL_CONCURRENCY: u64 = 1024;
/// What the process that serves says when it has answered the first read.
const ANSWERED: &str = "answered";

/// Fills a node if there is none, starts it, and returns what to print.
///
/// # Errors
/// The options make no sense, or the node does not do what it should.
pub async fn run(options: &Options) -> Result<String, BenchError> {
    match options.part {
        None => compare(options),
        Some(Part::Fill) => fill(options, rest()).await.map(|filled| line(&filled)),
        Some(Part::Serve) => serve(options, rest()).await.map(|served| line(&served)),
    }
}

/// Two checkpoints: then no value is in memory any more, and the allocator has given back what nobody uses.
fn rest() -> Duration {
    Duration::from_nanos(2 * Tuning::default().checkpoint_every.0)
}

fn line(value: &impl Serialize) -> String {
    // Nothing in them can fail to be JSON: every figure is finite.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

fn failed(what: impl Into<String>) -> BenchError {
    BenchError::Node(what.into())
}

/// Runs both parts, each in a process of its own.
fn compare(options: &Options) -> Result<String, BenchError> {
    if !options.shards.is_power_of_two() {
        return Err(failed(format!("{} shards are no power of two", options.shards)));
    }
    let is_filled = options.dir.join("superblock").exists();
    let filled = match is_filled {
        true => None,
        false => Some(part(options, Part::Fill)?.0),
    };
    if options.cold {
        drop_from_cache(&options.dir)?;
    }
    let (served, restart_ms): (Served, f64) = part(options, Part::Serve)?;
    let report = Report {
        keys: options.keys,
        what: name_of(options.what),
        key_bytes: options.key_bytes,
        value_bytes: options.value_bytes,
        shards: options.shards,
        cold: options.cold,
        disk_bytes: files(&options.dir)?.iter().map(|(_, bytes)| bytes).sum(),
        filled,
        restart_ms,
        rss_bytes_per_key: Memory::per_key(served.memory.rss_kib, options.keys),
        hwm_bytes_per_key: Memory::per_key(served.memory.hwm_kib, options.keys),
        served,
    };
    Ok(if options.json { line(&report) } else { report.text() })
}

const fn name_of(what: What) -> &'static str {
    match what {
        What::Kv => "kv",
        What::Object => "object",
    }
}

/// Runs a part; returns what it says at its end, and how many milliseconds after its start it had answered.
fn part<T: for<'a> Deserialize<'a>>(options: &Options, part: Part) -> Result<(T, f64), BenchError> {
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(["bench", "index", "--what", name_of(options.what)])
        .args(["--part", if part == Part::Fill { "fill" } else { "serve" }])
        .arg("--dir")
        .arg(&options.dir)
        .args(["--keys", &options.keys.to_string()])
        .args(["--key-bytes", &options.key_bytes.to_string()])
        .args(["--value-bytes", &options.value_bytes.to_string()])
        .args(["--shards", &options.shards.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("no process for a part: {error}")))?;
    let (mut answered, mut last) = (began.elapsed(), String::new());
    let output = child.stdout.take().ok_or_else(|| failed("a part without output"))?;
    for text in BufReader::new(output).lines() {
        last = text.map_err(|error| failed(error.to_string()))?;
        if last == ANSWERED {
            answered = began.elapsed();
        }
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let value = serde_json::from_str(&last);
    let value = value.map_err(|_| failed(format!("a part ended with {status}")))?;
    Ok((value, answered.as_secs_f64() * 1e3))
}

fn files(dir: &Path) -> Result<Vec<(PathBuf, u64)>, BenchError> {
    let told = |error: std::io::Error| failed(format!("{}: {error}", dir.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(told)? {
        let entry = entry.map_err(told)?;
        files.push((entry.path(), entry.metadata().map_err(told)?.len()));
    }
    Ok(files)
}

fn drop_from_cache(dir: &Path) -> Result<(), BenchError> {
    for (path, _) in files(dir)? {
        let told = |what: String| failed(format!("{}: {what}", path.display()));
        let file = fs::File::open(&path).map_err(|error| told(error.to_string()))?;
        // Only what is on the disk can be dropped.
        file.sync_all().map_err(|error| told(error.to_string()))?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
            .map_err(|error| told(error.to_string()))?;
    }
    Ok(())
}

/// Puts all records.
async fn fill(options: &Options, rest: Duration) -> Result<Filled, BenchError> {
    let began = Instant::now();
    let node = Lone::start(options, FsyncPolicy::Never)?;
    node.serving().await;
    if options.what == What::Object {
        ask(&node.handle, Request::CreateBucket { bucket: BUCKET.into() }).await?;
    }
    let next = Arc::new(AtomicU64::new(0));
    let mut workers: JoinSet<Result<(), BenchError>> = JoinSet::new();
    for _ in 0..FILL_CONCURRENCY.min(options.keys) {
        let (options, handle, next) = (options.clone(), node.handle.clone(), next.clone());
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= options.keys {
                    return Ok(());
                }
                ask(&handle, put(&options, number)).await?;
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        match done {
            Ok(result) => result?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let memory = Memory::after(rest).await?;
    node.stop().await?;
    Ok(Filled { seconds, memory })
}

/// Starts on a node that was filled.
async fn serve(options: &Options, rest: Duration) -> Result<Served, BenchError> {
    let began = Instant::now();
    let node = Lone::start(options, FsyncPolicy::Always)?;
    let begun = began.elapsed();
    node.serving().await;
    let serving = began.elapsed();
    read(options, &node.handle, options.keys / 2).await?;
    let (answered, cpu) = (began.elapsed(), clock_gettime(ClockId::ProcessCPUTime));
    let mut output = std::io::stdout();
    writeln!(output, "{ANSWERED}")
        .and_then(|()| output.flush())
        .map_err(|error| failed(error.to_string()))?;
    // One key of every shard, if the keys are enough to have one everywhere.
    let mut missing = options.shards;
    let mut asked = vec![false; usize::from(options.shards)];
    for number in 0..options.keys {
        if options.what == What::Object || missing == 0 {
            break;
        }
        let shard = shard::shard_of_key(&key(options, number), options.shards);
        if let Some(asked) = asked.get_mut(usize::from(shard.0)).filter(|asked| !**asked) {
            *asked = true;
            missing -= 1;
            read(options, &node.handle, number).await?;
        }
    }
    let all = began.elapsed();
    let memory = Memory::after(rest).await?;
    let booted = node.booted.clone();
    node.stop().await?;
    let millis = |span: Duration| span.as_secs_f64() * 1e3;
    Ok(Served {
        begun_ms: millis(begun),
        serving_ms: millis(serving - begun),
        deciding_ms: booted.deciding.load(Ordering::Relaxed) as f64 / 1e6,
        read_bytes: booted.read.load(Ordering::Relaxed),
        answered_ms: millis(answered - serving),
        cpu_ms: cpu.tv_sec as f64 * 1e3 + cpu.tv_nsec as f64 / 1e6,
        all_groups_ms: millis(all - answered),
        memory,
    })
}

/// Asks until the node has time: a leader that has just been elected, or has too much to do, says so.
async fn ask(handle: &Handle, request: Request) -> Result<Answer, BenchError> {
    let began = Instant::now();
    loop {
        match handle.call(request.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(Refusal::Busy | Refusal::Unavailable(_) | Refusal::OutcomeUnknown)
                if began.elapsed() < Duration::from_secs(60) =>
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(refusal) => return Err(failed(format!("{refusal:?}"))),
        }
    }
}

async fn read(options: &Options, handle: &Handle, number: u64) -> Result<(), BenchError> {
    let key = key(options, number);
    let (request, wanted) = match options.what {
        What::Kv => (Request::Kv(KvRequest::Get { key: Octets(key) }), value(options, number)),
        What::Object => {
            let (bucket, key) = (BUCKET.into(), text_of(&key));
            (Request::GetObject { bucket, key }, value(options, number))
        }
    };
    let found = match ask(handle, request).await? {
        Answer::Kv(KvAnswer::Value(Some(entry))) => Some(entry.value.0),
        Answer::Object(object) => match object.content {
            Content::Inline(bytes) => Some(bytes.0),
            _ => None,
        },
        _ => None,
    };
    match found {
        Some(found) if found == wanted => Ok(()),
        found => Err(failed(format!("record {number} is {found:?}"))),
    }
}

fn put(options: &Options, number: u64) -> Request {
    let (key, value) = (key(options, number), value(options, number));
    match options.what {
        What::Kv => {
            let (key, value) = (Octets(key), Octets(value));
            Request::Kv(KvRequest::Put { key, value, expect: Expect::Any })
        }
        What::Object => {
            let mut md5 = [0; 16];
            md5.iter_mut().zip(Digits(mix(!number))).for_each(|(to, from)| *to = from);
            let object = NewObject {
                attributes: Attributes::default(),
                bytes: value.len() as u64,
                etag: ETag { md5, parts: 0 },
                content: Content::Inline(Octets(value)),
            };
            let (bucket, key) = (BUCKET.into(), text_of(&key));
            Request::PutObject { bucket, key, object, condition: Condition::None }
        }
    }
}

fn text_of(key: &Bytes) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Keys share no prefix, as those of users do: what is measured is to hold for any.
fn key(options: &Options, number: u64) -> Bytes {
    let digits = format!("{:016x}", mix(number)).into_bytes();
    let letters = Digits(mix(number ^ 1 << 63)).map(|byte| b'a' + byte % 26);
    digits.into_iter().chain(letters).take(to_usize(options.key_bytes)).collect()
}

fn value(options: &Options, number: u64) -> Bytes {
    Digits(number).take(to_usize(options.value_bytes)).collect()
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Bytes without a pattern.
struct Digits(u64);

impl Iterator for Digits {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Some((mix(self.0) >> 56) as u8)
    }
}

/// Another number for each number, in no order.
const fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

const _: () = {
    assert!(1024 <= KV_KEY_BYTES_MAX);
    assert!(16_384 <= KV_VALUE_BYTES_MAX && 16_384 <= INLINE_BYTES_MAX);
};
