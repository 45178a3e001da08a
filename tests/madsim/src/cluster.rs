//! Machines, and what can happen to them: boots, deaths, partitions. Nothing here knows what a node does.

use crate::disk::{Hardware, Plant};
use ironseed::config::Config;
use ironseed::disk::DataDir;
use ironseed::founding;
use ironseed::server::{Listeners, Server};
use ironseed::sys;
use madsim::net::NetSim;
use madsim::runtime::Handle;
use madsim::task::NodeId as MachineId;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The root user of every simulated cluster.
pub const ACCESS_KEY: &str = "simulated";
/// Its secret key.
pub const SECRET_KEY: &str = "simulated-secret";
/// The region that requests are signed for.
pub const REGION: &str = "us-east-1";

const NODE_PORT: u16 = 7000;
const S3_PORT: u16 = 9000;
const ADMIN_PORT: u16 = 9001;
/// A machine is looked after this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The address of a node, from 1.
#[must_use]
pub fn node_ip(node: u32) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, node as u8).into()
}

/// Where a node serves S3.
#[must_use]
pub fn s3_host(node: u32) -> String {
    SocketAddr::new(node_ip(node), S3_PORT).to_string()
}

/// What a machine keeps over deaths.
struct Machine {
    disk: Arc<Hardware>,
    /// Asks the node that runs to stop gracefully.
    stop: Arc<Notify>,
    id: MachineId,
    /// Why it does not run, unless it does: it is not to be started again by itself.
    down: bool,
}

/// All machines that run nodes.
pub struct Cluster {
    machines: Vec<Machine>,
    clients: Vec<MachineId>,
    handle: Handle,
    net: Arc<NetSim>,
}

impl Cluster {
    /// Starts `nodes` nodes on empty disks, the first of which founds their cluster. `folder` is a real one, for
    /// what the adapter keeps beside the node's files.
    #[must_use]
    pub fn start(seed: u64, nodes: u32, plant: Option<Plant>, folder: &Path) -> Self {
        let (handle, net) = (Handle::current(), NetSim::current());
        let machines = (1..=nodes).map(|node| {
            let config = config(folder, node, nodes);
            let disk = Arc::new(Hardware::new(seed, node.into(), plant));
            sys::mount(&config.data, disk.clone());
            let stop = Arc::new(Notify::new());
            let parts = (config, disk.clone(), stop.clone());
            let machine = handle.create_node().name(format!("n{node}")).ip(node_ip(node));
            let machine = machine.init(move || {
                let (config, disk, stop) = parts.clone();
                serve(config, disk, stop)
            });
            Machine { disk, stop, id: machine.build().id(), down: false }
        });
        let machines = machines.collect();
        Self { machines, clients: Vec::new(), handle, net }
    }

    /// How many nodes there are; they count from 1.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.machines.len() as u32
    }

    /// A machine for a client, which never dies.
    pub fn add_client(&mut self, client: u32) -> madsim::runtime::NodeHandle {
        let ip = Ipv4Addr::new(10, 0, 1, client as u8 + 1).into();
        let machine = self.handle.create_node().name(format!("c{client}")).ip(ip).build();
        self.clients.push(machine.id());
        machine
    }

    /// A node's process dies, and its power with it or not. It stays down.
    pub fn kill(&mut self, node: u32, power: bool) {
        let machine = &mut self.machines[node as usize - 1];
        machine.down = true;
        self.handle.kill(machine.id);
        if power { machine.disk.lose_power() } else { machine.disk.kill() }
    }

    /// Starts a node if it is down.
    pub fn restart(&mut self, node: u32) {
        let machine = &mut self.machines[node as usize - 1];
        if machine.down {
            machine.down = false;
            self.handle.restart(machine.id);
        }
    }

    /// A node's process stands still, or goes on.
    pub fn pause(&self, node: u32, still: bool) {
        let machine = &self.machines[node as usize - 1];
        if machine.down {
            return;
        }
        if still { self.handle.pause(machine.id) } else { self.handle.resume(machine.id) }
    }

    /// Asks a node to stop gracefully; it is started again once it has.
    pub fn stop(&self, node: u32) {
        self.machines[node as usize - 1].stop.notify_waiters();
    }

    /// A node's disk.
    #[must_use]
    pub fn disk(&self, node: u32) -> &Hardware {
        &self.machines[node as usize - 1].disk
    }

    /// Cuts what a node sends to another, or mends it.
    pub fn cut(&self, from: u32, to: u32, cut: bool) {
        let id = |node: u32| self.machines[node as usize - 1].id;
        if cut {
            self.net.clog_link(id(from), id(to));
        } else {
            self.net.unclog_link(id(from), id(to));
        }
    }

    /// Cuts a client off from everything, or lets it back.
    pub fn cut_client(&self, client: u32, cut: bool) {
        let id = self.clients[client as usize];
        if cut { self.net.clog_node(id) } else { self.net.unclog_node(id) }
    }

    /// Mends everything and starts every node that is down.
    pub fn heal(&mut self) {
        for from in 1..=self.nodes() {
            self.disk(from).heal();
            self.pause(from, false);
            (1..=self.nodes()).filter(|to| *to != from).for_each(|to| self.cut(from, to, false));
        }
        (0..self.clients.len() as u32).for_each(|client| self.cut_client(client, false));
        (1..=self.nodes()).for_each(|node| self.restart(node));
    }

    /// Does what an operator's supervisor does: starts nodes again that have ended by themselves. Returns
    /// those.
    pub fn look_after(&mut self) -> Vec<u32> {
        let ended = |machine: &Machine| !machine.down && self.handle.is_exit(machine.id);
        let nodes = (1..=self.nodes()).filter(|node| ended(&self.machines[*node as usize - 1]));
        let nodes: Vec<u32> = nodes.collect();
        for node in &nodes {
            let machine = &self.machines[*node as usize - 1];
            // Closes its ports, too.
            self.handle.kill(machine.id);
            machine.disk.kill();
            self.handle.restart(machine.id);
        }
        nodes
    }

    /// How often to look after them.
    pub const LOOK_EVERY: Duration = LOOK_EVERY;
}

/// What the program's verb `serve --init` does, until the node ends or is asked to.
async fn serve(config: Config, disk: Arc<Hardware>, stop: Arc<Notify>) {
    // What the last process left under way has no one to complete for.
    disk.kill();
    for address in [config.cluster.listen, config.s3.listen, config.admin] {
        sys::plug(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    }
    let ports = Listeners::bind(&config).unwrap_or_else(|error| panic!("{error}"));
    let dir = DataDir::open(&config.data).unwrap_or_else(|error| panic!("{error}"));
    if config.node.0 == 1 && !founding::is_used(&dir) {
        founding::prepare(&dir, Some(ACCESS_KEY.into()), Some(SECRET_KEY.into()))
            .unwrap_or_else(|error| panic!("{error}"));
    }
    let asked = stop.notified();
    let mut server = Server::start(&config, dir, ports).unwrap_or_else(|error| panic!("{error}"));
    tokio::select! {
        biased;
        exit = server.ended() => {
            tracing::info!(node = %config.node, ?exit, "ended by itself");
            return;
        }
        () = asked => {}
    }
    let exit = server.stop().await;
    tracing::info!(node = %config.node, ?exit, "stopped");
}

fn config(folder: &Path, node: u32, nodes: u32) -> Config {
    let secret = folder.join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").expect("a folder of our own");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600))
        .expect("a folder of our own");
    let mut text = format!(
        "node = {node}\ndata = \"n{node}\"\ninsecure = true\n[cluster]\nshards = 8\n\
         secret_file = \"secret\"\nnodes = ["
    );
    for member in 1..=nodes {
        let address = SocketAddr::new(node_ip(member), NODE_PORT);
        let _ = write!(text, "{{ id = {member}, address = \"{address}\" }}, ");
    }
    let at = |port| SocketAddr::new(node_ip(node), port);
    let _ = write!(
        text,
        "]\n[s3]\nlisten = \"{}\"\nregion = \"{REGION}\"\n[admin]\nlisten = \"{}\"\n[storage]\n\
         wal_segment_mib = 4\ntable_segment_mib = 4\nchunk_segment_mib = 4\n",
        at(S3_PORT),
        at(ADMIN_PORT)
    );
    let file = folder.join(format!("n{node}.toml"));
    Config::parse(&file, &text).unwrap_or_else(|error| panic!("{error}"))
}
