//! Three `ironseed serve` processes on loopback, each with a configuration file, a data directory and
//! a log of its own.

use crate::Result;
use crate::content::Random;
use crate::http_raw;
use crate::store::Access;
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

/// A founded cluster. Its processes are killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    server: PathBuf,
    access: Access,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    config: PathBuf,
    log: PathBuf,
    s3: u16,
    admin: u16,
    child: Option<Child>,
}

impl Cluster {
    /// Founds a cluster in `dir` and waits until every node is ready.
    pub(crate) async fn found(server: &Path, dir: &Path) -> Result<Self> {
        let mut random = Random::new(entropy());
        let access = Access {
            access_key: format!("CHAOS{:016X}", random.next()),
            secret_key: format!("{:016x}{:016x}", random.next(), random.next()),
            region: "us-east-1".into(),
        };
        let ports = free_ports(3 * NODES, &mut random)?;
        let secret = dir.join("cluster.secret");
        let text: String = (0..4).map(|_| format!("{:016x}", random.next())).collect();
        write(&secret, &text)?;
        let private = std::fs::set_permissions(&secret, Permissions::from_mode(0o600));
        private.map_err(|error| format!("{}: {error}", secret.display()))?;
        let nodes =
            (0..NODES).map(|index| Node::prepare(dir, index, &ports)).collect::<Result<_>>();
        let mut cluster = Self { server: server.to_path_buf(), access, nodes: nodes? };
        for index in 0..NODES {
            cluster.spawn(index, index == 0)?;
        }
        cluster.ready().await?;
        Ok(cluster)
    }

    pub(crate) const fn access(&self) -> &Access {
        &self.access
    }

    /// The S3 endpoint of every node.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.s3)).collect()
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

    /// Waits until every node says that it is ready.
    pub(crate) async fn ready(&mut self) -> Result {
        let began = Instant::now();
        for index in 0..self.nodes.len() {
            loop {
                let node = &mut self.nodes[index];
                let ended = node.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
                if let Some(status) = ended {
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
    /// Writes the configuration of node `index + 1`. Ports: node ports first, then S3, then admin.
    fn prepare(dir: &Path, index: usize, ports: &[u16]) -> Result<Self> {
        let id = index + 1;
        let (s3, admin) = (ports[NODES + index], ports[2 * NODES + index]);
        let mut text = format!(
            "node = {id}\ndata = \"data-{id}\"\n\n[cluster]\nsecret_file = \"cluster.secret\"\n"
        );
        for peer in 0..NODES {
            text += &format!(
                "\n[[cluster.nodes]]\nid = {}\naddress = \"127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\n",
                peer + 1,
                ports[peer],
                ports[2 * NODES + peer],
            );
        }
        text += &format!("\n[s3]\nlisten = \"127.0.0.1:{s3}\"\n");
        text += &format!("\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n");
        let config = dir.join(format!("node-{id}.toml"));
        write(&config, &text)?;
        Ok(Self { config, log: dir.join(format!("node-{id}.log")), s3, admin, child: None })
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
