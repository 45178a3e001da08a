//! What happens in a run, all of it drawn from the seed before it begins.

use ironseed_sim::draw::{Domain, Draw};
use std::time::Duration;

/// What strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed, and started again after `down`.
    Kill {
        /// The node.
        node: u32,
        /// How long it stays down.
        down: Duration,
    },
    /// A machine loses its power.
    PowerLoss {
        /// The node.
        node: u32,
        /// How long it stays down.
        down: Duration,
    },
    /// All machines lose their power at once.
    Blackout {
        /// How long they stay down.
        down: Duration,
        /// Just after some client has been told that its write is done: what was promised too early is lost.
        ambush: bool,
    },
    /// A process is asked to stop, and started again when it has.
    Stop {
        /// The node.
        node: u32,
    },
    /// A process stands still.
    Freeze {
        /// The node.
        node: u32,
        /// For how long.
        time: Duration,
    },
    /// A node is cut off from the others, in one direction or both; clients still reach it.
    Isolate {
        /// The node.
        node: u32,
        /// What it sends is lost.
        out: bool,
        /// What is sent to it is lost.
        into: bool,
        /// For how long.
        time: Duration,
    },
    /// A client reaches no node.
    CutClient {
        /// The client.
        client: u32,
        /// For how long.
        time: Duration,
    },
    /// A disk is slow.
    SlowDisk {
        /// The node.
        node: u32,
        /// How many times.
        times: u64,
        /// For how long.
        time: Duration,
    },
    /// The next sync of a disk fails.
    FailSync {
        /// The node, the same all through a run: what a failed sync drops, the others must still have.
        node: u32,
    },
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes.
    pub nodes: u32,
    /// Clients.
    pub clients: u32,
    /// Keys that they share.
    pub keys: Vec<String>,
    /// How long clients ask and faults strike.
    pub load: Duration,
    /// What strikes and when, by time.
    pub faults: Vec<(Duration, Fault)>,
    /// The most that a message takes.
    pub latency: Duration,
    /// Packets lost of a million: what they carry comes later, and a connection is refused.
    pub lost_ppm: u32,
}

impl Plan {
    /// The plan of this seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut draw = Draw::new(seed, Domain::Setup, &[]);
        let nodes = 3;
        let clients = draw.between(3, 6) as u32;
        let keys = (0..draw.between(2, 5)).map(|key| format!("key-{key}")).collect();
        let load = Duration::from_millis(draw.between(8_000, 20_000));
        let latency = Duration::from_micros(draw.magnitude(500, 8_000));
        let faults = faults(seed, nodes, clients, load);
        let lost_ppm = if draw.chance(1, 3) { draw.magnitude(100, 20_000) as u32 } else { 0 };
        Self { nodes, clients, keys, load, faults, latency, lost_ppm }
    }
}

fn faults(seed: u64, nodes: u32, clients: u32, load: Duration) -> Vec<(Duration, Fault)> {
    let mut draw = Draw::new(seed, Domain::Faults, &[]);
    let victim = draw.between(1, nodes.into()) as u32;
    // The first of a run strikes a cluster that is just being founded, now and then.
    let mut at = millis(&mut draw, 50, 4_000);
    let pause = draw.magnitude(500, 4_000);
    let mut faults = Vec::new();
    while at < load {
        let node = draw.between(1, nodes.into()) as u32;
        let fault = match draw.weighted(&[4, 4, 4, 2, 2, 5, 1, 1, 1]) {
            0 => Fault::Kill { node, down: millis(&mut draw, 100, 3_000) },
            1 => Fault::PowerLoss { node, down: millis(&mut draw, 100, 3_000) },
            2 => {
                let ambush = draw.chance(3, 4);
                Fault::Blackout { down: millis(&mut draw, 100, 2_000), ambush }
            }
            3 => Fault::Stop { node },
            4 => Fault::Freeze { node, time: millis(&mut draw, 100, 5_000) },
            5 => {
                let (out, into) = *draw.pick(&[(true, true), (true, false), (false, true)]);
                Fault::Isolate { node, out, into, time: millis(&mut draw, 200, 5_000) }
            }
            6 => {
                let client = draw.below(clients.into()) as u32;
                Fault::CutClient { client, time: millis(&mut draw, 100, 3_000) }
            }
            7 => {
                let times = draw.between(2, 30);
                Fault::SlowDisk { node, times, time: millis(&mut draw, 200, 4_000) }
            }
            _ => Fault::FailSync { node: victim },
        };
        faults.push((at, fault));
        at += Duration::from_millis(draw.between(pause / 2, pause * 2));
    }
    faults
}

fn millis(draw: &mut Draw, low: u64, high: u64) -> Duration {
    Duration::from_millis(draw.magnitude(low, high))
}
