//! The configuration file: what an operator may set, and how a mistake in it is refused.
//!
//! One TOML file a node; `ironseed.example.toml` documents every key. An unknown key, a value of the
//! wrong type and a value that makes no sense are all refused before anything is opened, by file, line
//! and key: a setting that is silently ignored is worse than a node that does not start.
//!
//! Two rules keep a first start from being an open door. Every listener binds loopback unless the file
//! says otherwise, and an address that others can reach needs `insecure = true`, because nothing here
//! encrypts yet. A cluster of more than one node needs a secret, which the peers prove to each other
//! ([`crate::net`]); the file that holds it must not be readable by others.
//!
//! Relative paths count from the folder of the configuration file, so that it does not matter where
//! the process is started.

mod raw;

use crate::engine;
use ironseed_core::machine::Duration;
use ironseed_core::node::api::{self, FsyncPolicy, Tuning};
use ironseed_core::types::NodeId;
use raw::Raw;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Fewest bytes of a cluster secret. It authenticates by a keyed hash that a listener on the network
/// can try guesses on, so it must not be guessable: 32 hexadecimal digits are 128 bits.
const SECRET_BYTES_MIN: usize = 32;
/// The most members of a cluster: the node port's and the meta group's sizes are tried up to here.
const NODES_MAX: usize = 128;

/// A node's settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Its data directory.
    pub data: PathBuf,
    /// How far the wall clock may be off, either way.
    pub clock_bound: Duration,
    /// How wrong the monotonic clock runs at the most, in millionths. Leases rest on it; there are none without.
    pub max_clock_drift_ppm: Option<u32>,
    /// Who answers the reads that come to this node.
    pub reads: Reads,
    /// Who is in the cluster.
    pub cluster: Cluster,
    /// The S3 port.
    pub s3: S3,
    /// The port for health and status.
    pub admin: SocketAddr,
    /// How records reach the disk.
    pub storage: Storage,
    /// What a node takes on at the most.
    pub limits: Limits,
    /// What is logged.
    pub log: Log,
    /// Where every boot leaves a recording of its inputs ([`crate::recording`]), if anywhere.
    pub record: Option<PathBuf>,
}

/// Who answers a read. Either way it is linearizable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[cfg_attr(not(madsim), derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// Whoever leads the shard.
    #[default]
    Leader,
    /// This node, where it has a replica of the shard.
    Nearest,
}

/// The cluster, the same on every node.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// All members by rising id, this node among them.
    pub members: Vec<Member>,
    /// Shards, fixed when the cluster is founded.
    pub shards: u16,
    /// Replicas of each shard.
    pub replication: u8,
    /// Where the node port listens.
    pub listen: SocketAddr,
    /// What members prove to each other. Empty only for a cluster of one.
    pub secret: Secret,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// `host:port` of its node port.
    pub address: String,
    /// `host:port` of its admin port, for `ironseed status`.
    pub admin: Option<String>,
}

/// The S3 port.
#[derive(Clone, Debug)]
pub struct S3 {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The region that requests must be signed for.
    pub region: String,
    /// `bucket.domain` is understood beside `domain/bucket` when this is set.
    pub domain: Option<String>,
}

/// How records reach the disk.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Where the records of its shards are.
    pub engine: api::Engine,
    /// When log entries are synced.
    pub fsync: FsyncPolicy,
    /// Bytes of a segment of the write-ahead log.
    pub wal_segment_bytes: u64,
    /// Bytes of a segment of the table log.
    pub table_segment_bytes: u64,
    /// Bytes of a segment of the chunk log.
    pub chunk_segment_bytes: u64,
}

/// What a node takes on at the most; beyond, clients are told to slow down.
#[derive(Clone, Debug)]
pub struct Limits {
    /// S3 connections at a time.
    pub connections: u32,
    /// Bytes of object bodies held in memory by all S3 requests together.
    pub body_bytes: u64,
    /// Requests inside the node at a time.
    pub requests: u32,
    /// Bytes of resident log entries of all groups together.
    pub log_bytes: u64,
    /// Bytes of stored chunks that are verified a second while nobody reads them; 0 for none.
    pub scrub_bytes_per_second: u64,
    /// How long a graceful stop may take.
    pub stop: std::time::Duration,
}

/// What is logged, to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A filter as `tracing` reads it: `info`, `ironseed::net=debug`, ...
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// The secret of a cluster. Never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// These bytes, whatever their length.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None` when the mistake is not at one place.
    pub line: Option<usize>,
    /// The key, as far as it is known; empty otherwise.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads and checks a file, and the secret that it points to.
    ///
    /// # Errors
    /// The file can't be read, or something in it is refused.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError {
            file: file.to_owned(),
            line: None,
            key: String::new(),
            what: error.to_string(),
        })?;
        Self::parse(file, &text)
    }

    /// Checks the text of a file; relative paths count from the folder of `file`.
    ///
    /// # Errors
    /// Something in it is refused.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source { file, text };
        let raw: Raw = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        check(&source, raw)
    }

    /// The settings of the node itself, with a fresh seed for its random choices.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn node_config(&self) -> Result<api::Config, getrandom::Error> {
        Ok(api::Config {
            me: self.node,
            nodes: self.cluster.members.iter().map(|member| member.id).collect(),
            shards: self.cluster.shards,
            replication: self.cluster.replication,
            // One thread drives the node, so more lanes would only add hand-overs.
            lanes: 1,
            fsync: self.storage.fsync,
            engine: self.storage.engine,
            tuning: Tuning {
                wal_segment_bytes: self.storage.wal_segment_bytes,
                table_segment_bytes: self.storage.table_segment_bytes,
                chunk_segment_bytes: self.storage.chunk_segment_bytes,
                log_bytes_max: self.limits.log_bytes,
                requests_max: self.limits.requests,
                max_clock_drift_ppm: self.max_clock_drift_ppm,
                reads_nearest: self.reads == Reads::Nearest,
                scrub_bytes_per_second: self.limits.scrub_bytes_per_second,
                ..Tuning::default()
            },
            seed: getrandom::u64()?,
            planted: crate::sys::planted(),
        })
    }
}

/// The text that mistakes are located in.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The key of the line at `offset`: what stands before its `=`.
    fn key(&self, offset: usize) -> String {
        let line = self.text.lines().nth(self.line(offset) - 1).unwrap_or("");
        line.split_once('=').map_or("", |(key, _)| key.trim()).to_owned()
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let start = error.span().map(|span| span.start).or_else(|| self.first_to_fail(error));
        ConfigError {
            file: self.file.to_owned(),
            line: start.map(|start| self.line(start)),
            key: start.map(|start| self.key(start)).unwrap_or_default(),
            what: error.message().to_owned(),
        }
    }

    /// The line with which the file begins to fail like this: the parser has no place for tables that are
    /// too deep.
    fn first_to_fail(&self, error: &toml::de::Error) -> Option<usize> {
        let fails = |text: &str| {
            let error = toml::from_str::<toml::Table>(text).err();
            error.map(|error| error.message().to_owned())
        };
        let wanted = Some(error.message().to_owned());
        let mut starts = vec![0];
        starts.extend(self.text.match_indices('\n').map(|(at, _)| at + 1));
        let end = |line: usize| starts.get(line + 1).copied().unwrap_or(self.text.len());
        let lines: Vec<usize> = (0..starts.len()).collect();
        let line = lines.partition_point(|line| fails(&self.text[..end(*line)]) != wanted);
        starts.get(line).copied()
    }

    fn refuse(&self, span: Range<usize>, key: &str, what: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.file.to_owned(),
            line: Some(self.line(span.start)),
            key: key.to_owned(),
            what: what.into(),
        }
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or_else(|| Path::new("")).join(path)
    }
}

fn check(source: &Source<'_>, raw: Raw) -> Result<Config, ConfigError> {
    let insecure = raw.insecure;
    let members = check_members(source, &raw)?;
    let Some(me) = members.iter().find(|member| member.id.0 == *raw.node.get_ref()) else {
        let what = format!("is {}, which [[cluster.nodes]] does not list", raw.node.get_ref());
        return Err(source.refuse(raw.node.span(), "node", what));
    };
    let cluster_listen = match &raw.cluster.listen {
        Some(listen) => listen_address(source, listen, "cluster.listen", insecure)?,
        None => own_address(source, &raw, me, insecure)?,
    };
    let secret = check_secret(source, &raw, members.len())?;
    let s3 = S3 {
        listen: listen_address(source, &raw.s3.listen, "s3.listen", insecure)?,
        region: check_region(source, &raw.s3.region)?,
        domain: check_domain(source, raw.s3.domain.as_ref())?,
    };
    Ok(Config {
        node: me.id,
        data: source.resolve(&raw.data),
        clock_bound: Duration::from_millis(within(
            source,
            &raw.clock_bound_ms,
            "clock_bound_ms",
            0,
            60_000,
        )?),
        max_clock_drift_ppm: check_drift(source, raw.max_clock_drift_ppm.as_ref())?,
        reads: raw.reads,
        admin: listen_address(source, &raw.admin.listen, "admin.listen", insecure)?,
        storage: check_storage(source, &raw.storage)?,
        limits: check_limits(source, &raw.limits)?,
        log: check_log(source, &raw.log)?,
        record: raw.debug.record.as_deref().map(|folder| source.resolve(folder)),
        cluster: Cluster {
            shards: check_shards(source, &raw.cluster.shards)?,
            replication: check_replication(source, &raw, members.len())?,
            listen: cluster_listen,
            secret,
            members,
        },
        s3,
    })
}

/// No ordinary clock earns a bound below this, and none is needed: a lease of 400 ms loses 40 us by it.
const DRIFT_PPM_MIN: u64 = 100;
/// Beyond this little is left of a lease.
const DRIFT_PPM_MAX: u64 = 200_000;

fn check_drift(
    source: &Source<'_>,
    value: Option<&toml::Spanned<u64>>,
) -> Result<Option<u32>, ConfigError> {
    let Some(value) = value else { return Ok(None) };
    let key = "max_clock_drift_ppm";
    let why = match *value.get_ref() {
        ppm @ DRIFT_PPM_MIN..=DRIFT_PPM_MAX => return Ok(u32::try_from(ppm).ok()),
        0 => "is 0, but no clock is perfect; leave it out to read without leases",
        1..DRIFT_PPM_MIN => "promises more than a clock can keep",
        _ => "leaves too little of a lease to be of use",
    };
    let what = format!("{why}: {DRIFT_PPM_MIN} to {DRIFT_PPM_MAX} millionths are possible");
    Err(source.refuse(value.span(), key, what))
}

fn check_members(source: &Source<'_>, raw: &Raw) -> Result<Vec<Member>, ConfigError> {
    let nodes = raw.cluster.nodes.get_ref();
    if nodes.is_empty() || nodes.len() > NODES_MAX {
        let what = format!("lists {} nodes; 1 to {NODES_MAX} are possible", nodes.len());
        return Err(source.refuse(raw.cluster.nodes.span(), "cluster.nodes", what));
    }
    let mut members: Vec<Member> = Vec::new();
    for node in nodes {
        let id = *node.id.get_ref();
        if id == 0 {
            return Err(source.refuse(node.id.span(), "id", "node ids count from 1"));
        }
        if members.iter().any(|member| member.id.0 == id) {
            return Err(source.refuse(node.id.span(), "id", format!("node {id} is listed twice")));
        }
        host_and_port(source, &node.address, "address")?;
        if members.iter().any(|member| member.address == *node.address.get_ref()) {
            let what = format!("{:?} is the address of two nodes", node.address.get_ref());
            return Err(source.refuse(node.address.span(), "address", what));
        }
        if let Some(admin) = &node.admin {
            host_and_port(source, admin, "admin")?;
        }
        members.push(Member {
            id: NodeId(id),
            address: node.address.get_ref().clone(),
            admin: node.admin.as_ref().map(|admin| admin.get_ref().clone()),
        });
    }
    members.sort_by_key(|member| member.id);
    Ok(members)
}

fn host_and_port(
    source: &Source<'_>,
    address: &toml::Spanned<String>,
    key: &str,
) -> Result<(), ConfigError> {
    let valid = address.get_ref().rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if valid {
        return Ok(());
    }
    let what = format!("{:?} is not host:port", address.get_ref());
    Err(source.refuse(address.span(), key, what))
}

/// The node port listens where the peers are told to connect, if that is an address of its own.
fn own_address(
    source: &Source<'_>,
    raw: &Raw,
    me: &Member,
    insecure: bool,
) -> Result<SocketAddr, ConfigError> {
    let span = raw
        .cluster
        .nodes
        .get_ref()
        .iter()
        .find(|node| *node.id.get_ref() == me.id.0)
        .map_or(0..0, |node| node.address.span());
    let Ok(address) = me.address.parse::<SocketAddr>() else {
        let what =
            format!("{:?} is a name: say in cluster.listen which address to bind", me.address);
        return Err(source.refuse(span, "address", what));
    };
    if !address.ip().is_loopback() && !insecure {
        return Err(source.refuse(span, "address", exposed(address)));
    }
    Ok(address)
}

fn listen_address(
    source: &Source<'_>,
    value: &toml::Spanned<String>,
    key: &str,
    insecure: bool,
) -> Result<SocketAddr, ConfigError> {
    let Ok(address) = value.get_ref().parse::<SocketAddr>() else {
        let what = format!("{:?} is not an address:port", value.get_ref());
        return Err(source.refuse(value.span(), key, what));
    };
    if !address.ip().is_loopback() && !insecure {
        return Err(source.refuse(value.span(), key, exposed(address)));
    }
    Ok(address)
}

fn exposed(address: SocketAddr) -> String {
    format!(
        "{address} can be reached from outside and nothing is encrypted: bind loopback, or accept \
         it with insecure = true"
    )
}

fn check_secret(source: &Source<'_>, raw: &Raw, members: usize) -> Result<Secret, ConfigError> {
    const KEY: &str = "cluster.secret_file";
    let Some(path) = &raw.cluster.secret_file else {
        if members == 1 {
            return Ok(Secret::default());
        }
        let what = "is missing: several nodes need a secret to know each other by";
        return Err(source.refuse(raw.cluster.nodes.span(), KEY, what));
    };
    let refuse = |what: String| source.refuse(path.span(), KEY, what);
    let full = source.resolve(path.get_ref());
    let file = std::fs::File::open(&full)
        .map_err(|error| refuse(format!("{}: {error}", full.display())))?;
    let metadata = file.metadata().map_err(|error| refuse(error.to_string()))?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    if mode & 0o077 != 0 {
        let what = format!("{} has mode {mode:o}: others can read it; chmod 600", full.display());
        return Err(refuse(what));
    }
    let text = std::io::read_to_string(file)
        .map_err(|error| refuse(format!("{}: {error}", full.display())))?;
    let secret = text.trim();
    if secret.len() < SECRET_BYTES_MIN {
        let what = format!(
            "{} holds {} characters; at least {SECRET_BYTES_MIN} random ones are needed",
            full.display(),
            secret.len()
        );
        return Err(refuse(what));
    }
    Ok(Secret::new(secret.as_bytes().to_vec()))
}

fn check_region(
    source: &Source<'_>,
    region: &toml::Spanned<String>,
) -> Result<String, ConfigError> {
    let name = region.get_ref();
    let valid = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !valid {
        let what = format!("{name:?} is not made of a-z, 0-9 and -");
        return Err(source.refuse(region.span(), "s3.region", what));
    }
    Ok(name.clone())
}

fn check_domain(
    source: &Source<'_>,
    domain: Option<&toml::Spanned<String>>,
) -> Result<Option<String>, ConfigError> {
    let Some(domain) = domain else { return Ok(None) };
    let name = domain.get_ref();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        let what = format!("{name:?} is not a domain name");
        return Err(source.refuse(domain.span(), "s3.domain", what));
    }
    Ok(Some(name.to_ascii_lowercase()))
}

fn check_shards(source: &Source<'_>, shards: &toml::Spanned<u16>) -> Result<u16, ConfigError> {
    let count = *shards.get_ref();
    if !count.is_power_of_two() || count > 256 {
        let what = format!("is {count}; a power of two from 1 to 256 is possible");
        return Err(source.refuse(shards.span(), "cluster.shards", what));
    }
    Ok(count)
}

fn check_replication(source: &Source<'_>, raw: &Raw, members: usize) -> Result<u8, ConfigError> {
    let Some(replication) = &raw.cluster.replication else {
        return Ok(if members >= 3 { 3 } else { 1 });
    };
    let count = *replication.get_ref();
    if ![1, 3, 5].contains(&count) {
        let what = format!("is {count}; 1, 3 or 5 are possible");
        return Err(source.refuse(replication.span(), "cluster.replication", what));
    }
    if usize::from(count) > members {
        let what = format!("is {count}, but there are only {members} nodes");
        return Err(source.refuse(replication.span(), "cluster.replication", what));
    }
    Ok(count)
}

fn check_storage(source: &Source<'_>, raw: &raw::Storage) -> Result<Storage, ConfigError> {
    let fsync = match raw.fsync.get_ref() {
        raw::Fsync::Always => FsyncPolicy::Always,
        raw::Fsync::Interval => FsyncPolicy::Interval(Duration::from_millis(within(
            source,
            &raw.fsync_interval_ms,
            "storage.fsync_interval_ms",
            1,
            60_000,
        )?)),
        raw::Fsync::Never => FsyncPolicy::Never,
    };
    let engine = match raw.engine.get_ref() {
        raw::Engine::Native => api::Engine::Native,
        raw::Engine::Memory => api::Engine::Memory,
        raw::Engine::RocksDb => api::Engine::RocksDb,
        raw::Engine::Fjall => api::Engine::Fjall,
    };
    let there = engine::available();
    if !there.contains(&engine) {
        let there: Vec<&str> = there.into_iter().map(api::Engine::name).collect();
        let what = format!(
            "is {engine}, and this build has {}: it is built with --features {engine}",
            there.join(", ")
        );
        return Err(source.refuse(raw.engine.span(), "storage.engine", what));
    }
    let mib = |value, key| Ok(within(source, value, key, 4, 4096)? << 20);
    Ok(Storage {
        engine,
        fsync,
        wal_segment_bytes: mib(&raw.wal_segment_mib, "storage.wal_segment_mib")?,
        table_segment_bytes: mib(&raw.table_segment_mib, "storage.table_segment_mib")?,
        chunk_segment_bytes: mib(&raw.chunk_segment_mib, "storage.chunk_segment_mib")?,
    })
}

fn check_limits(source: &Source<'_>, raw: &raw::Limits) -> Result<Limits, ConfigError> {
    let count = |value, key, low, high| {
        within(source, value, key, low, high).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    };
    Ok(Limits {
        connections: count(&raw.connections, "limits.connections", 1, 1_000_000)?,
        body_bytes: within(source, &raw.body_mib, "limits.body_mib", 8, 1 << 20)? << 20,
        requests: count(&raw.requests, "limits.requests", 1, 1_000_000)?,
        log_bytes: within(source, &raw.log_mib, "limits.log_mib", 4, 1 << 20)? << 20,
        scrub_bytes_per_second: within(
            source,
            &raw.scrub_mib_per_second,
            "limits.scrub_mib_per_second",
            0,
            1 << 20,
        )? << 20,
        stop: std::time::Duration::from_secs(within(
            source,
            &raw.stop_seconds,
            "limits.stop_seconds",
            1,
            3600,
        )?),
    })
}

fn check_log(source: &Source<'_>, raw: &raw::Log) -> Result<Log, ConfigError> {
    let filter = raw.filter.get_ref();
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(filter) {
        return Err(source.refuse(raw.filter.span(), "log.filter", error.to_string()));
    }
    Ok(Log { filter: filter.clone(), json: matches!(raw.format, raw::Format::Json) })
}

fn within(
    source: &Source<'_>,
    value: &toml::Spanned<u64>,
    key: &str,
    low: u64,
    high: u64,
) -> Result<u64, ConfigError> {
    let number = *value.get_ref();
    if (low..=high).contains(&number) {
        return Ok(number);
    }
    Err(source.refuse(value.span(), key, format!("is {number}; {low} to {high} are possible")))
}

#[cfg(test)]
mod tests;
