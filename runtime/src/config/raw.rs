//! The file as it is written: every key, its type and its default. Values that a check may refuse keep
//! their place in the file.

use serde::Deserialize;
use std::path::PathBuf;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) node: Spanned<u32>,
    pub(super) data: PathBuf,
    #[serde(default)]
    pub(super) insecure: bool,
    #[serde(default = "clock_bound_ms")]
    pub(super) clock_bound_ms: Spanned<u64>,
    pub(super) max_clock_drift_ppm: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) reads: super::Reads,
    pub(super) cluster: Cluster,
    #[serde(default)]
    pub(super) s3: S3,
    #[serde(default)]
    pub(super) admin: Admin,
    #[serde(default)]
    pub(super) storage: Storage,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) debug: Debug,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) nodes: Spanned<Vec<Node>>,
    #[serde(default = "shards")]
    pub(super) shards: Spanned<u16>,
    pub(super) replication: Option<Spanned<u8>>,
    pub(super) listen: Option<Spanned<String>>,
    pub(super) secret_file: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) id: Spanned<u32>,
    pub(super) address: Spanned<String>,
    pub(super) admin: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct S3 {
    pub(super) listen: Spanned<String>,
    pub(super) region: Spanned<String>,
    pub(super) domain: Option<Spanned<String>>,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            listen: unplaced("127.0.0.1:9000".into()),
            region: unplaced("us-east-1".into()),
            domain: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    pub(super) listen: Spanned<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: unplaced("127.0.0.1:9100".into()) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fsync {
    Always,
    Interval,
    Never,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Engine {
    Native,
    Memory,
    RocksDb,
    Fjall,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Storage {
    pub(super) engine: Spanned<Engine>,
    pub(super) fsync: Spanned<Fsync>,
    pub(super) fsync_interval_ms: Spanned<u64>,
    pub(super) wal_segment_mib: Spanned<u64>,
    pub(super) table_segment_mib: Spanned<u64>,
    pub(super) chunk_segment_mib: Spanned<u64>,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            engine: unplaced(Engine::Native),
            fsync: unplaced(Fsync::Always),
            fsync_interval_ms: unplaced(100),
            wal_segment_mib: unplaced(64),
            table_segment_mib: unplaced(64),
            chunk_segment_mib: unplaced(256),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) connections: Spanned<u64>,
    pub(super) body_mib: Spanned<u64>,
    pub(super) requests: Spanned<u64>,
    pub(super) log_mib: Spanned<u64>,
    pub(super) scrub_mib_per_second: Spanned<u64>,
    pub(super) stop_seconds: Spanned<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: unplaced(1024),
            body_mib: unplaced(128),
            requests: unplaced(16_384),
            log_mib: unplaced(32),
            scrub_mib_per_second: unplaced(4),
            stop_seconds: unplaced(15),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Text,
    Json,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) filter: Spanned<String>,
    pub(super) format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: unplaced("info".into()), format: Format::Text }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Debug {
    pub(super) record: Option<PathBuf>,
}

/// A default: it stands nowhere in the file, and no check refuses it.
fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn clock_bound_ms() -> Spanned<u64> {
    unplaced(500)
}

fn shards() -> Spanned<u16> {
    unplaced(256)
}
