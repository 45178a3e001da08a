//! `ironseed demo`: a whole cluster in one process, to try things on.
//!
//! Real nodes, with real files and real connections on loopback; only the process is shared, so it
//! survives the loss of no machine. Everything lies below one folder: `node-1`, `node-2`, ... and
//! `cluster.toml`, which remembers what the cluster was founded with and where its admin ports are.
//! Node 1 founds it at the first start; every later start finds it again. Ports other than that of S3 are
//! whatever is free.

use crate::commands::{CommandError, StopSignals, say};
use crate::config::{Cluster, Config, Limits, Log, Member, Reads, S3, Secret, Storage};
use crate::disk::DataDir;
use crate::driver::Exit;
use crate::founding::{self, ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE};
use crate::server::{self, Listeners, Server, StartError};
use crate::status::{AskError, Target};
use ironseed_core::machine::Duration as Span;
use ironseed_core::node::api::{Engine, Founding, FsyncPolicy};
use ironseed_core::types::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to run.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// How many nodes; fixed by the first start in a folder
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub nodes: u32,
    /// Where the files are
    #[arg(long, default_value = "ironseed-data")]
    pub data: PathBuf,
    /// Port of S3 on 127.0.0.1; 0 picks a free one
    #[arg(long, default_value_t = 9000)]
    pub s3_port: u16,
    /// Who answers reads: the shard's leader, or the node that is asked where it has a replica
    #[arg(long, value_enum, default_value_t)]
    pub reads: Reads,
    /// Print one JSON object when it is ready
    #[arg(long)]
    pub json: bool,
    /// What to log, to standard error
    #[arg(long, default_value = "warn")]
    pub log: String,
}

/// Why there is no demo.
#[derive(Debug)]
pub enum DemoError {
    /// The folder can't be used.
    Folder {
        /// What was touched.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The folder holds a demo of another size.
    Nodes {
        /// As it was founded.
        founded: u32,
        /// As it was asked for.
        asked: u32,
    },
    /// The nodes did not come to serve.
    NotReady,
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Nodes { founded, asked } => write!(
                f,
                "the data is that of {founded} nodes, not {asked}: say --nodes {founded} or another \
                 --data"
            ),
            Self::NotReady => f.write_str("the nodes did not become ready; --log info says more"),
        }
    }
}

impl std::error::Error for DemoError {}

const REGION: &str = "us-east-1";
const STATE_FILE: &str = "cluster.toml";
/// A start after a crash replays logs of a few hundred MiB at the most.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// What a folder remembers of its demo.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    nodes: u32,
    /// What the nodes prove to each other.
    secret: String,
    /// The admin ports of the last start.
    admin: Vec<Target>,
}

/// The admin ports of the demo that runs on this folder, for `ironseed status`.
///
/// # Errors
/// There is no demo.
pub fn targets(data: &Path) -> Result<Vec<Target>, AskError> {
    let path = data.join(STATE_FILE);
    let state =
        std::fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| {
            toml::from_str::<State>(&text).map_err(|error| error.message().to_owned())
        });
    match state {
        Ok(state) => Ok(state.admin),
        Err(what) => Err(AskError::Demo { path, what }),
    }
}

/// Runs until asked to stop.
///
/// # Errors
/// It can't be started, or a node stops itself.
pub async fn run(options: &Options) -> Result<(), CommandError> {
    let mut stop = StopSignals::listen()?;
    let mut nodes = start(options)?;
    let session = tokio::select! {
        biased;
        ready = session(&nodes, options) => ready?,
        () = stop.asked() => return end(nodes).await,
    };
    say(&if options.json { session.json() } else { session.text() })?;
    loop {
        tokio::select! {
            biased;
            () = stop.asked() => return end(nodes).await,
            (node, exit) = any_ended(&mut nodes) => {
                // The others go on: that is what several nodes are for.
                let Exit::Halted(reason) = exit else { continue };
                tracing::error!(node, %reason, "a node has stopped itself");
                if nodes.is_empty() {
                    return Err(CommandError::Halted(reason));
                }
            }
        }
    }
}

fn start(options: &Options) -> Result<Vec<(u32, Server)>, CommandError> {
    let (listeners, members) = bind(options)?;
    // Each node's folder is locked before anything is written.
    let mut dirs = Vec::new();
    for number in 1..=options.nodes {
        let path = options.data.join(format!("node-{number}"));
        dirs.push(DataDir::open(&path).map_err(StartError::Dir)?);
    }
    let secret = remember(options, &members)?;
    if let Some(dir) = dirs.first().filter(|dir| !founding::is_used(dir)) {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (access, secret) = (variable(ACCESS_KEY_VARIABLE), variable(SECRET_KEY_VARIABLE));
        founding::prepare(dir, access, secret).map_err(StartError::Founding)?;
    }
    let mut nodes = Vec::new();
    for ((number, dir), ports) in (1..=options.nodes).zip(dirs).zip(listeners) {
        let config = config(number, options, &members, &secret, &ports)?;
        nodes.push((number, Server::start(&config, dir, ports)?));
    }
    Ok(nodes)
}

/// Binds all ports, so that every node knows where the others are before any of them starts.
fn bind(options: &Options) -> Result<(Vec<Listeners>, Vec<Member>), CommandError> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (mut listeners, mut members) = (Vec::new(), Vec::new());
    for number in 1..=options.nodes {
        let s3 = if number == 1 { options.s3_port } else { 0 };
        let ports = Listeners {
            node: server::bind("a node port", loopback(0))?,
            s3: server::bind("S3 (--s3-port 0 picks a free port)", loopback(s3))?,
            admin: server::bind("an admin port", loopback(0))?,
        };
        members.push(Member {
            id: NodeId(number),
            address: ports.node.local_addr()?.to_string(),
            admin: Some(ports.admin.local_addr()?.to_string()),
        });
        listeners.push(ports);
    }
    Ok((listeners, members))
}

/// Compares with what the folder remembers, and writes where the admin ports are now. Returns the
/// secret.
fn remember(options: &Options, members: &[Member]) -> Result<Secret, DemoError> {
    let path = options.data.join(STATE_FILE);
    let refuse = |what: String| DemoError::Folder { path: path.clone(), what };
    let secret = match std::fs::read_to_string(&path) {
        Ok(text) => {
            let state: State =
                toml::from_str(&text).map_err(|error| refuse(error.message().to_owned()))?;
            if state.nodes != options.nodes {
                return Err(DemoError::Nodes { founded: state.nodes, asked: options.nodes });
            }
            state.secret
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            founding::random_secret().map_err(|error| refuse(error.to_string()))?
        }
        Err(error) => return Err(refuse(error.to_string())),
    };
    let admin = members.iter().filter_map(|member| {
        Some(Target { node: Some(member.id.0), address: member.admin.clone()? })
    });
    let state = State { nodes: options.nodes, secret, admin: admin.collect() };
    let text = toml::to_string(&state).map_err(|error| refuse(error.to_string()))?;
    crate::disk::write_private(&path, &text).map_err(|error| refuse(error.to_string()))?;
    Ok(Secret::new(state.secret.into_bytes()))
}

fn config(
    number: u32,
    options: &Options,
    members: &[Member],
    secret: &Secret,
    ports: &Listeners,
) -> io::Result<Config> {
    Ok(Config {
        node: NodeId(number),
        data: options.data.join(format!("node-{number}")),
        clock_bound: Span::from_millis(500),
        max_clock_drift_ppm: None,
        reads: options.reads,
        cluster: Cluster {
            members: members.to_vec(),
            shards: 256,
            replication: if options.nodes >= 3 { 3 } else { 1 },
            listen: ports.node.local_addr()?,
            secret: secret.clone(),
        },
        s3: S3 { listen: ports.s3.local_addr()?, region: REGION.into(), domain: None },
        admin: ports.admin.local_addr()?,
        storage: Storage {
            engine: Engine::Native,
            fsync: FsyncPolicy::Always,
            // Small segments: three nodes allocate theirs on one laptop's disk, and at once.
            wal_segment_bytes: 16 << 20,
            table_segment_bytes: 16 << 20,
            chunk_segment_bytes: 64 << 20,
        },
        limits: Limits {
            connections: 1024,
            body_bytes: 64 << 20,
            requests: 16_384,
            log_bytes: 16 << 20,
            scrub_bytes_per_second: 4 << 20,
            stop: Duration::from_secs(15),
        },
        log: Log { filter: options.log.clone(), json: false },
        record: None,
    })
}

/// What the user needs to know, once every node serves.
async fn session(nodes: &[(u32, Server)], options: &Options) -> Result<Session, CommandError> {
    for (_, server) in nodes {
        if !server::ready(&server.handle, READY_PATIENCE).await {
            return Err(DemoError::NotReady.into());
        }
    }
    let Some((_, first)) = nodes.first() else { return Err(DemoError::NotReady.into()) };
    let credentials = server::credentials(&first.handle, READY_PATIENCE).await;
    let Some(Founding { access_key, secret_key, .. }) = credentials else {
        return Err(DemoError::NotReady.into());
    };
    Ok(Session {
        endpoint: format!("http://{}", first.s3),
        endpoints: nodes.iter().map(|(_, server)| format!("http://{}", server.s3)).collect(),
        admin: nodes.iter().map(|(_, server)| server.admin.to_string()).collect(),
        access_key,
        secret_key,
        region: REGION,
        data: options.data.clone(),
    })
}

/// How to reach the demo.
#[derive(Debug, Serialize)]
struct Session {
    endpoint: String,
    endpoints: Vec<String>,
    admin: Vec<String>,
    access_key: String,
    secret_key: String,
    region: &'static str,
    data: PathBuf,
}

impl Session {
    fn json(&self) -> String {
        // A path that is no UTF-8 is the only thing that JSON can't hold.
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
            + "\n"
    }

    fn text(&self) -> String {
        let Self { endpoint, endpoints, access_key, secret_key, region, data, .. } = self;
        let data = data.display();
        // The operator may have chosen a secret with a quote in it.
        let secret_quoted = secret_key.replace('\'', "'\\''");
        let count = match endpoints.len() {
            1 => "one node".to_owned(),
            count => format!("{count} nodes in one process"),
        };
        format!(
            "\
Ironseed: {count}, files in {data}

  endpoint    {endpoint}
  access key  {access_key}
  secret key  {secret_key}

A first session:

  export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY='{secret_quoted}'
  export AWS_ENDPOINT_URL={endpoint} AWS_DEFAULT_REGION={region}
  aws s3 mb s3://first
  echo 'hello' | aws s3 cp - s3://first/hello.txt
  aws s3 ls s3://first
  aws s3 cp s3://first/hello.txt -

How the nodes are: ironseed status --data {data}
Ctrl-C stops them; the next start finds everything again.
"
        )
    }
}

async fn any_ended(nodes: &mut Vec<(u32, Server)>) -> (u32, Exit) {
    let (place, exit) = std::future::poll_fn(|context| {
        for (place, (_, server)) in nodes.iter_mut().enumerate() {
            if let std::task::Poll::Ready(exit) = server.poll_ended(context) {
                return std::task::Poll::Ready((place, exit));
            }
        }
        std::task::Poll::Pending
    })
    .await;
    let (number, _) = nodes.remove(place);
    (number, exit)
}

/// Stops all nodes at the same time.
async fn end(nodes: Vec<(u32, Server)>) -> Result<(), CommandError> {
    let mut stopping = tokio::task::JoinSet::new();
    for (_, server) in nodes {
        stopping.spawn(server.stop());
    }
    let mut result = Ok(());
    for exit in stopping.join_all().await {
        match exit {
            Some(Exit::Stopped) => {}
            Some(Exit::Halted(reason)) => result = Err(CommandError::Halted(reason)),
            None => result = Err(CommandError::Late),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn options(data: &Path, nodes: u32) -> Options {
        let data = data.into();
        Options { nodes, data, s3_port: 0, reads: Reads::Leader, json: false, log: "warn".into() }
    }

    #[test]
    fn a_folder_remembers_its_size_its_secret_and_where_to_ask() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(STATE_FILE);
        let error = targets(folder.path()).unwrap_err().to_string();
        assert!(error.contains(STATE_FILE) && error.contains("--config"), "{error}");

        let (_ports, members) = bind(&options(folder.path(), 3)).unwrap();
        let secret = remember(&options(folder.path(), 3), &members).unwrap();
        assert_eq!(secret.bytes().len(), 64);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let asked = targets(folder.path()).unwrap();
        assert_eq!(asked.len(), 3);
        assert_eq!(Some(&asked[1].address), members[1].admin.as_ref());

        // The ports change with every start, the secret does not.
        let (_others, members) = bind(&options(folder.path(), 3)).unwrap();
        assert_eq!(remember(&options(folder.path(), 3), &members).unwrap(), secret);
        assert_eq!(targets(folder.path()).unwrap()[0].address, *members[0].admin.as_ref().unwrap());

        let error = remember(&options(folder.path(), 1), &members).unwrap_err();
        assert!(matches!(error, DemoError::Nodes { founded: 3, asked: 1 }), "{error}");
        std::fs::write(&path, "nodes = \"three\"").unwrap();
        let error = remember(&options(folder.path(), 3), &members).unwrap_err().to_string();
        assert!(error.contains(STATE_FILE), "{error}");
    }

    #[test]
    fn what_is_printed_can_be_pasted_and_parsed() {
        let session = Session {
            endpoint: "http://127.0.0.1:9000".into(),
            endpoints: vec!["http://127.0.0.1:9000".into(), "http://127.0.0.1:9001".into()],
            admin: vec!["127.0.0.1:9100".into()],
            access_key: "ACCESS".into(),
            secret_key: "SECRET".into(),
            region: REGION,
            data: "ironseed-data".into(),
        };
        let text = session.text();
        assert!(text.contains("AWS_ACCESS_KEY_ID=ACCESS AWS_SECRET_ACCESS_KEY='SECRET'"), "{text}");
        assert!(text.contains("AWS_ENDPOINT_URL=http://127.0.0.1:9000 "), "{text}");
        let json: serde_json::Value = serde_json::from_str(&session.json()).unwrap();
        assert_eq!(json["endpoint"], "http://127.0.0.1:9000");
        assert_eq!(json["endpoints"].as_array().unwrap().len(), 2);
        assert_eq!(
            (&json["access_key"], &json["secret_key"]),
            (&"ACCESS".into(), &"SECRET".into())
        );
    }
}
