//! `ironseed serve` processes on loopback, each with a configuration file, a data directory and a log of
//! its own.

use crate::Result;
use crate::client::Site;
use crate::content::Random;
use crate::http_raw;
use crate::links::Links;
use crate::recordings;
use crate::store::{self, Access};
use object_store::aws::AmazonS3;
use serde_json::Value;
use std::fs::{File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nodes of a cluster.
pub(crate) const NODES: usize = 3;
/// How long nodes may take until they are ready.
const READY: Duration = Duration::from_secs(60);
/// Where ports are looked for: below the range from which the system takes the ports of outgoing
/// connections, else a client could sit on the port of a node that is down.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// Where servers come from and where they work: what every part that starts some is told.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// The program to run.
    #[arg(long)]
    pub(crate) server: PathBuf,
    /// An existing folder for data and logs.
    #[arg(long)]
    pub(crate) work: PathBuf,
}

impl Place {
    /// A folder of its own in this one.
    pub(crate) fn below(&self, name: &str) -> Result<Self> {
        let work = self.work.join(name);
        let made = std::fs::create_dir(&work);
        made.map_err(|error| format!("{}: {error}", work.display()))?;
        Ok(Self { server: self.server.clone(), work })
    }
}

/// A founded cluster. Its processes are killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    server: PathBuf,
    access: Access,
    nodes: Vec<Node>,
    /// Processes started so far.
    boots: usize,
    /// What the nodes say to each other goes through here.
    pub(crate) links: Links,
}

#[derive(Debug)]
struct Node {
    config: PathBuf,
    data: PathBuf,
    log: PathBuf,
    s3: u16,
    admin: u16,
    child: Option<Child>,
}

impl Cluster {
    /// Founds a cluster of three nodes and waits until every one is ready.
    pub(crate) async fn found(place: &Place) -> Result<Self> {
        Self::found_of(NODES, place).await
    }

    /// As [`Cluster::found`]; every boot of a node is recorded for [`recordings::replay`].
    pub(crate) async fn found_recorded(place: &Place) -> Result<Self> {
        Self::make(NODES, place, true).await
    }

    /// Founds a cluster of so many nodes and waits until every one is ready.
    pub(crate) async fn found_of(nodes: usize, place: &Place) -> Result<Self> {
        Self::make(nodes, place, false).await
    }

    async fn make(nodes: usize, place: &Place, record: bool) -> Result<Self> {
        let dir = &place.work;
        let mut random = Random::new(entropy());
        let access = Access {
            access_key: format!("CHAOS{:016X}", random.next()),
            secret_key: format!("{:016x}{:016x}", random.next(), random.next()),
            region: "us-east-1".into(),
        };
        let ports = free_ports(3 * nodes, &mut random)?;
        let secret = dir.join("cluster.secret");
        let text: String = (0..4).map(|_| format!("{:016x}", random.next())).collect();
        write(&secret, &text)?;
        let private = std::fs::set_permissions(&secret, Permissions::from_mode(0o600));
        private.map_err(|error| format!("{}: {error}", secret.display()))?;
        let (links, looks) = Links::between(&ports[..nodes])?;
        let prepared = looks.iter().enumerate();
        let nodes: Vec<Node> = prepared
            .map(|(index, peers)| Node::prepare(dir, index, &ports, peers, record))
            .collect::<Result<_>>()?;
        let mut cluster = Self { server: place.server.clone(), access, nodes, boots: 0, links };
        for index in 0..cluster.nodes.len() {
            cluster.spawn(index, index == 0)?;
        }
        cluster.ready().await?;
        Ok(cluster)
    }

    /// How many nodes it has, running or not.
    pub(crate) const fn size(&self) -> usize {
        self.nodes.len()
    }

    /// A client of one bucket for every node's endpoint. An attempt that takes longer than `timeout` has
    /// an unknown outcome.
    pub(crate) fn clients(&self, bucket: &str, timeout: Duration) -> Result<Vec<AmazonS3>> {
        let endpoints = self.nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.s3));
        endpoints.map(|url| store::client(&self.access, &url, bucket, timeout)).collect()
    }

    /// Where clients of one bucket find it.
    pub(crate) fn site(&self, bucket: &str) -> Site {
        let Access { access_key, secret_key, region } = self.access.clone();
        let hosts = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.s3)).collect();
        Site { hosts, access_key, secret_key, region, bucket: bucket.into() }
    }

    /// The data directory of a node.
    pub(crate) fn data(&self, index: usize) -> &Path {
        &self.nodes[index].data
    }

    /// How much a node has logged so far: bytes.
    pub(crate) fn logged(&self, index: usize) -> Result<usize> {
        self.log(index).map(|log| log.len())
    }

    /// What a node has logged after the first `skip` bytes.
    pub(crate) fn log_since(&self, index: usize, skip: usize) -> Result<String> {
        let log = self.log(index)?;
        Ok(log
            .get(skip..)
            .map(|rest| String::from_utf8_lossy(rest).into_owned())
            .unwrap_or_default())
    }

    fn log(&self, index: usize) -> Result<Vec<u8>> {
        let path = &self.nodes[index].log;
        std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The process of a node that runs.
    pub(crate) fn pid(&self, index: usize) -> Option<u32> {
        self.nodes.get(index)?.child.as_ref().map(Child::id)
    }

    /// Starts a node again on what it has on disk.
    pub(crate) fn restart(&mut self, index: usize) -> Result {
        self.spawn(index, false)
    }

    fn spawn(&mut self, index: usize, found: bool) -> Result {
        let node = &mut self.nodes[index];
        assert!(node.child.is_none(), "node {} runs already", index + 1);
        let log = File::options().create(true).append(true).open(&node.log);
        let log = log.map_err(|error| format!("{}: {error}", node.log.display()))?;
        let out = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.server);
        command.arg("serve").arg("--config").arg(&node.config);
        if found {
            command
                .arg("--init")
                .env("IRONSEED_ROOT_ACCESS_KEY", &self.access.access_key)
                .env("IRONSEED_ROOT_SECRET_KEY", &self.access.secret_key);
        }
        command.stdin(Stdio::null()).stdout(out).stderr(log);
        let child = command.spawn();
        node.child = Some(child.map_err(|error| format!("{}: {error}", self.server.display()))?);
        self.boots += 1;
        Ok(())
    }

    /// Ends a node as a power switch would, as far as a process can be.
    pub(crate) fn kill(&mut self, index: usize) -> Result {
        let Some(mut child) = self.nodes[index].child.take() else {
            return Err(format!("node {} does not run", index + 1));
        };
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            let log = self.nodes[index].log.display();
            return Err(format!("node {} had ended by itself: {status}; see {log}", index + 1));
        }
        child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Ends every node that runs, as [`Cluster::kill`] does. Returns how often a node was started in all.
    pub(crate) fn end(mut self) -> Result<usize> {
        for index in 0..self.nodes.len() {
            if self.nodes[index].child.is_some() {
                self.kill(index)?;
            }
        }
        Ok(self.boots)
    }

    /// Makes a process hang, or go on.
    pub(crate) fn hang(&self, index: usize, hangs: bool) -> Result {
        use rustix::process::Signal;
        self.signal(index, if hangs { Signal::STOP } else { Signal::CONT })
    }

    /// Tells a node to stop, as an operator does.
    pub(crate) fn stop(&self, index: usize) -> Result {
        self.signal(index, rustix::process::Signal::TERM)
    }

    fn signal(&self, index: usize, signal: rustix::process::Signal) -> Result {
        use rustix::process::{Pid, kill_process};
        let pid = self.pid(index).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.ok_or_else(|| format!("node {} does not run", index + 1))?;
        kill_process(pid, signal).map_err(|error| format!("node {}: {error}", index + 1))
    }

    /// Waits until every node that was started says that it is ready.
    pub(crate) async fn ready(&mut self) -> Result {
        let began = Instant::now();
        for index in 0..self.nodes.len() {
            loop {
                let node = &mut self.nodes[index];
                let Some(child) = node.child.as_mut() else { break };
                if let Some(status) = child.try_wait().ok().flatten() {
                    let log = node.log.display();
                    return Err(format!("node {} ended: {status}; see {log}", index + 1));
                }
                let health = format!("http://127.0.0.1:{}/health/ready", node.admin);
                let answer = http_raw::call("GET", &health, b"").await;
                if answer == Ok(200) {
                    break;
                }
                if began.elapsed() > READY {
                    return Err(format!("node {} is not ready: {answer:?}", index + 1));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// What `ironseed status --json` prints, asked of a node that runs.
    pub(crate) fn status(&self) -> Result<Value> {
        let running = self.nodes.iter().find(|node| node.child.is_some());
        let node = running.ok_or_else(|| "no node runs".to_owned())?;
        let mut command = Command::new(&self.server);
        command.args(["status", "--json", "--config"]).arg(&node.config);
        let output = command.output().map_err(|error| format!("status: {error}"))?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("`ironseed status --json` printed no JSON: {error}; {said}")
        })
    }

    /// What `ironseed` prints when it is told this with the configuration of a node that runs.
    pub(crate) fn tool(&self, args: &[&str]) -> Result<String> {
        let running = self.nodes.iter().find(|node| node.child.is_some());
        let node = running.ok_or_else(|| "no node runs".to_owned())?;
        let mut command = Command::new(&self.server);
        command.args(args).arg("--config").arg(&node.config);
        let output = command.output().map_err(|error| format!("{args:?}: {error}"))?;
        let (said, why) = (output.stdout, output.stderr);
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&said).into_owned()),
            false => Err(format!("{args:?}: {}", String::from_utf8_lossy(&why))),
        }
    }

    /// What `ironseed` prints when it is told this, whatever runs: whether it ended well, and what it said on both streams.
    pub(crate) fn offline(&self, args: &[&str]) -> Result<(bool, String, String)> {
        let output = Command::new(&self.server).args(args).output();
        let output = output.map_err(|error| format!("{args:?}: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
    }

    /// Waits until a node has ended by itself.
    pub(crate) async fn ended(&mut self, index: usize, patience: Duration) -> Result {
        let began = Instant::now();
        while let Some(child) = &mut self.nodes[index].child {
            if child.try_wait().map_err(|error| error.to_string())?.is_some() {
                self.nodes[index].child = None;
            } else if began.elapsed() > patience {
                return Err(format!("node {} goes on", index + 1));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until the cluster is as good as new: every node is up and has everything.
    pub(crate) async fn healed(&self) -> Result {
        self.healed_but_for(0).await
    }

    /// The same while clients write: a node may be so many entries behind.
    pub(crate) async fn healed_but_for(&self, entries: u64) -> Result {
        let began = Instant::now();
        loop {
            let status = self.status()?;
            let field = |name| status.get(name).cloned().unwrap_or_default();
            let lag = |node: &Value| {
                node.get("lag").and_then(Value::as_u64).is_some_and(|lag| lag <= entries)
            };
            let caught_up = field("nodes").as_array().is_some_and(|nodes| nodes.iter().all(lag));
            let quiet = field("warnings").as_array().is_some_and(Vec::is_empty);
            let spare = (self.size() as u64 - 1) / 2;
            if caught_up && quiet && field("can_lose").as_u64() == Some(spare) {
                return Ok(());
            }
            if began.elapsed() > READY {
                let nodes = field("nodes");
                return Err(format!("not whole after {READY:?}: {} {nodes}", field("warnings")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The node that leads most shards.
    pub(crate) fn busiest(&self) -> Result<usize> {
        let status = self.status()?;
        let nodes = status.get("nodes").and_then(Value::as_array);
        let leads = nodes.into_iter().flatten().filter_map(|node| {
            let id = usize::try_from(node.get("node")?.as_u64()?).ok()?;
            Some((node.get("leads")?.as_u64()?, id.checked_sub(1)?))
        });
        let busiest = leads.filter(|(_, index)| *index < self.nodes.len()).max();
        busiest
            .map(|(_, index)| index)
            .ok_or_else(|| format!("status says nothing of who leads: {status}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                // It may have ended by itself; then there is nothing to kill, only to collect.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Node {
    /// Writes the configuration of node `index + 1`, which finds the node ports of its peers at `peers`. Ports: node
    /// ports first, then S3, then admin.
    fn prepare(
        dir: &Path,
        index: usize,
        ports: &[u16],
        peers: &[u16],
        record: bool,
    ) -> Result<Self> {
        let id = index + 1;
        let nodes = ports.len() / 3;
        let (s3, admin) = (ports[nodes + index], ports[2 * nodes + index]);
        let mut text = format!(
            "node = {id}\ndata = \"data-{id}\"\n\n[cluster]\nsecret_file = \"cluster.secret\"\n"
        );
        for peer in 0..nodes {
            text += &format!(
                "\n[[cluster.nodes]]\nid = {}\naddress = \"127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\n",
                peer + 1,
                peers[peer],
                ports[2 * nodes + peer],
            );
        }
        text += &format!("\n[s3]\nlisten = \"127.0.0.1:{s3}\"\n");
        text += &format!("\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n");
        text += "\n[log]\nformat = \"json\"\n";
        if record {
            text += &format!("\n[debug]\nrecord = \"{}\"\n", recordings::FOLDER);
        }
        let config = dir.join(format!("node-{id}.toml"));
        write(&config, &text)?;
        let (data, log) = (dir.join(format!("data-{id}")), dir.join(format!("node-{id}.log")));
        Ok(Self { config, data, log, s3, admin, child: None })
    }
}

fn write(path: &Path, text: &str) -> Result {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Ports that nobody listens on. All are held until the last is found, so they differ.
fn free_ports(count: usize, random: &mut Random) -> Result<Vec<u16>> {
    let mut held = Vec::new();
    for _ in 0..1_000 {
        if held.len() == count {
            return Ok(held.into_iter().map(|(port, _)| port).collect());
        }
        let port = PORTS.start + random.below(PORTS.len() as u64) as u16;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
    }
    Err(format!("no {count} free ports in {PORTS:?}"))
}

/// A seed that differs from run to run.
pub(crate) fn entropy() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hasher is the one source of randomness that needs no crate.
    std::hash::RandomState::new().build_hasher().finish()
}
