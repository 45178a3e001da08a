//! The fault plan: every disaster of a run as an explicit list, drawn before the run begins.
//!
//! A fault stands for itself: it names its nodes, its instant and how long it lasts, and no other fault
//! is needed to end it. So any subset of a plan is a plan, which is what makes a failing one shrinkable,
//! and a seed file can carry one.
//!
//! The **fault atlas** keeps a run recoverable on purpose:
//! - Rot and read errors strike only the run's victims, fewer nodes than any quorum can spare, and none
//!   where there is one node. Where on a disk rot may strike, [`crate::checkers::durable`] says.
//! - Disks are lost, and writes found elsewhere, at the victims only, and only where nodes always sync.
//! - Failed syncs and writes strike any node: they lose only what was not durable.
//! - Power may go everywhere at once if nodes always sync. Otherwise it goes at the victims only, and
//!   the other nodes are killed instead, which leaves their page caches whole.

use crate::draw::{Domain, Draw};
use crate::net::Weather;
use crate::setup::Setup;
use ironseed_core::types::NodeId;
use serde::{Deserialize, Serialize};

/// A kind of fault that a run has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Power goes at one node.
    PowerLoss,
    /// Power goes at all nodes at once.
    Blackout,
    /// A process is killed.
    Kill,
    /// A process is stopped by its operator.
    Stop,
    /// A process hangs and goes on.
    Pause,
    /// The network splits in two.
    Partition,
    /// Some links work in one direction only.
    OneWay,
    /// A node is cut off.
    Isolate,
    /// Messages are delivered late and all at once.
    Clog,
    /// Messages are lost.
    Loss,
    /// Messages arrive twice, or again long after.
    Duplicate,
    /// Messages overtake each other and take long.
    Reorder,
    /// Bits flip at rest.
    Rot,
    /// A read fails.
    ReadError,
    /// A write fails.
    WriteError,
    /// A sync fails.
    SyncError,
    /// A disk is full.
    DiskFull,
    /// A disk is slow.
    DiskSlow,
    /// Monotonic clocks run at different speeds.
    ClockDrift,
    /// A wall clock jumps.
    ClockStep,
    /// Leaders are cut off one after another, each at a bad moment.
    Hunt,
    /// Whoever deletes a bucket is cut off from some of the others in the middle of it.
    Ambush,
    /// A disk is lost, with all that was on it or with a part.
    DiskLoss,
    /// A write is found in another place, and not in its own.
    Misdirect,
    /// Links carry only so many bytes a second.
    Throttle,
    /// Connections break in the middle of what is under way.
    Reset,
    /// Nodes are clogged one after another and heal in another order.
    Swizzle,
    /// A process dies again and again, soon after each boot.
    CrashLoop,
    /// Whoever leads has a slow disk, and some of the others do not hear it.
    Burden,
}

impl Class {
    /// Every class.
    pub const ALL: &[Self] = &[
        Self::PowerLoss,
        Self::Blackout,
        Self::Kill,
        Self::Stop,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Isolate,
        Self::Clog,
        Self::Loss,
        Self::Duplicate,
        Self::Reorder,
        Self::Rot,
        Self::ReadError,
        Self::WriteError,
        Self::SyncError,
        Self::DiskFull,
        Self::DiskSlow,
        Self::ClockDrift,
        Self::ClockStep,
        Self::Hunt,
        Self::Ambush,
        Self::DiskLoss,
        Self::Misdirect,
        Self::Throttle,
        Self::Reset,
        Self::Swizzle,
        Self::CrashLoop,
        Self::Burden,
    ];

    /// Classes that came after seeds had been recorded: they are drawn apart, so that every seed kept the
    /// classes that it had.
    #[must_use]
    pub const fn is_late(self) -> bool {
        matches!(
            self,
            Self::DiskLoss
                | Self::Misdirect
                | Self::Throttle
                | Self::Reset
                | Self::Swizzle
                | Self::CrashLoop
                | Self::Burden
        )
    }

    /// Whether it has no meaning, or no recovery, on a single node.
    #[must_use]
    pub const fn needs_peers(self) -> bool {
        matches!(
            self,
            Self::Partition
                | Self::OneWay
                | Self::Isolate
                | Self::Clog
                | Self::Loss
                | Self::Duplicate
                | Self::Reorder
                | Self::Rot
                | Self::ReadError
                | Self::Hunt
                | Self::Ambush
                | Self::DiskLoss
                | Self::Misdirect
                | Self::Throttle
                | Self::Reset
                | Self::Swizzle
                | Self::Burden
        )
    }

    /// How often it strikes in ten seconds, at the most.
    const fn frequency(self) -> u64 {
        match self {
            Self::Kill | Self::PowerLoss | Self::Rot | Self::ClockStep => 12,
            Self::Blackout | Self::DiskFull | Self::SyncError | Self::WriteError => 4,
            Self::ClockDrift => 0,
            Self::Hunt | Self::Ambush | Self::Swizzle | Self::CrashLoop | Self::Burden => 2,
            Self::DiskLoss => 4,
            _ => 8,
        }
    }
}

/// A fault and its instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// World time, nanoseconds.
    pub at: u64,
    /// What happens.
    pub fault: Fault,
}

/// One fault. `lasts` is in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Nodes go down and come up again.
    Crash {
        /// Which.
        nodes: Vec<u32>,
        /// How.
        how: Crash,
        /// When exactly.
        #[serde(default)]
        moment: Moment,
        /// How long they stay down.
        lasts: u64,
    },
    /// A process hangs: it gets nothing until it goes on, and then everything.
    Pause {
        /// Which.
        node: u32,
        /// How long.
        lasts: u64,
    },
    /// Nothing goes from these nodes to those.
    Cut {
        /// Senders.
        from: Vec<u32>,
        /// Receivers.
        to: Vec<u32>,
        /// Whether nothing goes back either.
        both_ways: bool,
        /// How long.
        lasts: u64,
    },
    /// What these nodes send those arrives when it is over.
    Clog {
        /// Senders.
        from: Vec<u32>,
        /// Receivers.
        to: Vec<u32>,
        /// How long.
        lasts: u64,
    },
    /// The weather changes on all links.
    Storm {
        /// To this.
        weather: Weather,
        /// How long.
        lasts: u64,
    },
    /// Bits flip at rest on a node's disk.
    Rot {
        /// Whose.
        node: u32,
        /// Names the places.
        salt: u64,
        /// How many.
        bits: u32,
    },
    /// The next operation of a node's disk fails.
    DiskError {
        /// Whose.
        node: u32,
        /// Which operation.
        operation: Operation,
    },
    /// A node's disk has this much room left and no more.
    DiskFull {
        /// Whose.
        node: u32,
        /// Bytes.
        spare: u64,
        /// How long.
        lasts: u64,
    },
    /// A node's disk takes so many times as long.
    DiskSlow {
        /// Whose.
        node: u32,
        /// How many times.
        times: u64,
        /// How long.
        lasts: u64,
    },
    /// A node's wall clock jumps.
    ClockStep {
        /// Whose.
        node: u32,
        /// Nanoseconds forward, or back below zero.
        by: i64,
    },
    /// Every leader of a group is cut off soon after its election, or right after its first commit, until the
    /// next one is.
    Hunt {
        /// Which group: 0 is the meta group, the others are shards.
        group: u32,
        /// How long.
        lasts: u64,
    },
    /// Whoever leads a group has a disk that takes so many times as long, and as many of the others as a quorum can do
    /// without do not hear it.
    Burden {
        /// Which group: 0 is the meta group, the others are shards.
        group: u32,
        /// How many times.
        times: u64,
        /// How long.
        lasts: u64,
    },
    /// Whenever a client asks for the deletion of a bucket, the node that was asked, or the one that runs the
    /// procedure, is cut off from some of the others soon after.
    Ambush {
        /// How long it lies in wait.
        lasts: u64,
    },
    /// A node goes down and comes up with a part of its disk, or with another disk. Nothing happens to a node
    /// that has no logs yet, and none before all the others are members: what never was can't be lost.
    DiskLoss {
        /// Whose.
        node: u32,
        /// What is left.
        left: Left,
        /// How long the node stays down.
        lasts: u64,
    },
    /// A write of a node's disk is found in another place, and its own has what was there before.
    Misdirect {
        /// Whose.
        node: u32,
        /// Names the write and the place.
        salt: u64,
    },
    /// What these nodes send those, and those these, queues for a link of so many bytes a second.
    Throttle {
        /// Some.
        from: Vec<u32>,
        /// The others.
        to: Vec<u32>,
        /// Of each link and direction.
        bytes_per_second: u64,
        /// How long.
        lasts: u64,
    },
    /// The connections between these nodes and those break: what is under way is lost together, both ways, and
    /// what is sent meanwhile waits for the next connection.
    Reset {
        /// Some.
        from: Vec<u32>,
        /// The others.
        to: Vec<u32>,
        /// How long it takes to connect again.
        lasts: u64,
    },
    /// All that is sent to a node, or by it, arrives when it is over. A swizzle is made of these.
    Choke {
        /// Which.
        node: u32,
        /// How long.
        lasts: u64,
    },
    /// A node crashes now and again soon after each of its next boots, after as much of its recovery as it comes to.
    CrashLoop {
        /// Which.
        node: u32,
        /// How.
        how: Crash,
        /// How many boots.
        times: u32,
    },
}

/// What is left of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// Nothing: the node comes up with an empty disk. The cluster refuses it from then on.
    Nothing,
    /// The superblock.
    Superblock,
    /// All but the write-ahead log.
    NoWal,
    /// All but the table log.
    NoTable,
    /// All but the chunks.
    NoChunks,
}

/// When a planned crash strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// At its instant.
    #[default]
    Now,
    /// Right after the next good answer that any node gives: when a promise is youngest.
    Answer,
    /// Shortly after one of the nodes has begun to lead a group: when it knows of entries that few others
    /// have (figure 8 of the Raft paper).
    Elected,
}

/// How a node goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crash {
    /// The power goes: what is not synced may be gone.
    Power,
    /// The process is killed: the page cache stays.
    Kill,
    /// The operator stops it.
    Stop,
}

/// Which operation of a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// The next read.
    Read,
    /// The next write.
    Write,
    /// The next sync.
    Sync,
}

impl Fault {
    /// Under which name it is counted.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Crash { nodes, how: Crash::Power, .. } if nodes.len() > 1 => "blackout",
            Self::Crash { how: Crash::Power, .. } => "power-loss",
            Self::Crash { how: Crash::Kill, .. } => "kill",
            Self::Crash { how: Crash::Stop, .. } => "stop",
            Self::Pause { .. } => "pause",
            Self::Cut { both_ways: true, .. } => "partition",
            Self::Cut { both_ways: false, .. } => "one-way-partition",
            Self::Clog { .. } => "clog",
            Self::Storm { .. } => "storm",
            Self::Rot { .. } => "rot",
            Self::DiskError { operation: Operation::Read, .. } => "read-error",
            Self::DiskError { operation: Operation::Write, .. } => "write-error",
            Self::DiskError { operation: Operation::Sync, .. } => "sync-error",
            Self::DiskFull { .. } => "disk-full",
            Self::DiskSlow { .. } => "disk-slow",
            Self::ClockStep { .. } => "clock-step",
            Self::Hunt { .. } => "hunt",
            Self::Burden { .. } => "burden",
            Self::Ambush { .. } => "ambush",
            Self::DiskLoss { left: Left::Nothing, .. } => "disk-replaced",
            Self::DiskLoss { .. } => "disk-lost-in-part",
            Self::Misdirect { .. } => "misdirected-write",
            Self::Throttle { .. } => "throttle",
            Self::Reset { .. } => "reset",
            Self::Choke { .. } => "swizzle",
            Self::CrashLoop { .. } => "crash-loop",
        }
    }
}

/// Whether a run of this kind has to survive this fault: what the atlas promises of the plans that it draws, it
/// asks of those that are given (when they are made, and not when they are replayed).
#[must_use]
pub fn is_fair(setup: &Setup, fault: &Fault) -> bool {
    let there = |node: &u32| setup.nodes.contains(&NodeId(*node));
    let spared = |node: &u32| setup.victims.contains(&NodeId(*node));
    let forgets = |node: &u32| there(node) && (setup.syncs_always() || spared(node));
    match fault {
        Fault::Crash { nodes, how: Crash::Power, .. } => {
            !nodes.is_empty() && nodes.iter().all(forgets)
        }
        Fault::Crash { nodes, .. } => !nodes.is_empty() && nodes.iter().all(there),
        Fault::Rot { node, .. } | Fault::DiskError { node, operation: Operation::Read } => {
            there(node) && spared(node)
        }
        Fault::DiskError { node, .. } | Fault::CrashLoop { node, how: Crash::Power, .. } => {
            forgets(node)
        }
        // Where nodes forget what they promised, all of them may be needed.
        Fault::DiskLoss { node, .. } | Fault::Misdirect { node, .. } => {
            there(node) && spared(node) && setup.syncs_always()
        }
        Fault::Cut { from, to, .. }
        | Fault::Clog { from, to, .. }
        | Fault::Throttle { from, to, .. }
        | Fault::Reset { from, to, .. } => {
            !from.is_empty() && !to.is_empty() && from.iter().chain(to).all(there)
        }
        Fault::Pause { node, .. }
        | Fault::Choke { node, .. }
        | Fault::CrashLoop { node, .. }
        | Fault::DiskFull { node, .. }
        | Fault::DiskSlow { node, .. }
        | Fault::ClockStep { node, .. } => there(node),
        Fault::Hunt { group, .. } | Fault::Burden { group, .. } => {
            setup.nodes.len() > 1 && *group <= u32::from(setup.shards)
        }
        Fault::Storm { .. } | Fault::Ambush { .. } => setup.nodes.len() > 1,
    }
}

/// Whether other faults come of this one while a run goes on.
#[must_use]
pub const fn is_cause(fault: &Fault) -> bool {
    match fault {
        Fault::Hunt { .. }
        | Fault::Burden { .. }
        | Fault::Ambush { .. }
        | Fault::CrashLoop { .. } => true,
        Fault::Crash { moment, .. } => !matches!(moment, Moment::Now),
        _ => false,
    }
}

/// The faults of a run, by their instants.
#[must_use]
pub fn plan(setup: &Setup) -> Vec<Planned> {
    if let Some(plan) = &setup.plan {
        return plan.clone();
    }
    let mut planned = Vec::new();
    for &class in &setup.classes {
        let mut draw = Draw::new(setup.seed, Domain::Faults, &[class as u64]);
        let most = (class.frequency() * setup.duration / TEN_SECONDS).max(2);
        let count = if class.frequency() == 0 { 0 } else { draw.between(1, most) };
        for _ in 0..count {
            // Clients may be through with their work early, and some faults lie in wait for them.
            let waits = matches!(class, Class::Hunt | Class::Ambush | Class::Burden);
            let latest = if waits { setup.duration / 3 } else { setup.duration };
            let at = draw.below(latest);
            if class == Class::Swizzle {
                planned.extend(swizzle(setup, at, &mut draw));
            } else if let Some(fault) = one(class, setup, &mut draw) {
                planned.push(Planned { at, fault });
            }
        }
    }
    planned.sort_by_key(|planned| planned.at);
    planned
}

fn one(class: Class, setup: &Setup, draw: &mut Draw) -> Option<Fault> {
    let node = draw.pick(&setup.nodes).0;
    let lasts = draw.magnitude(5_000_000, 3_000_000_000);
    let moment = *draw.pick(&[Moment::Now, Moment::Answer, Moment::Elected]);
    let crash = |nodes, how| Fault::Crash { nodes, how, moment, lasts };
    // Without syncs, a power loss forgets what was acknowledged: only the victims may.
    let victim = (!setup.victims.is_empty()).then(|| draw.pick(&setup.victims).0);
    let all: Vec<u32> = setup.nodes.iter().map(|node| node.0).collect();
    Some(match class {
        Class::PowerLoss if setup.syncs_always() => crash(vec![node], Crash::Power),
        Class::PowerLoss => crash(vec![victim?], Crash::Power),
        Class::Blackout if setup.syncs_always() => crash(all, Crash::Power),
        Class::Blackout => crash(all, Crash::Kill),
        Class::Kill => crash(vec![node], Crash::Kill),
        Class::Stop => crash(vec![node], Crash::Stop),
        Class::Pause => Fault::Pause { node, lasts },
        Class::Partition | Class::OneWay | Class::Clog | Class::Isolate if all.len() < 2 => {
            return None;
        }
        Class::Partition | Class::OneWay | Class::Clog => {
            let (from, to) = sides(&all, draw);
            match class {
                Class::Clog => Fault::Clog { from, to, lasts },
                _ => Fault::Cut { from, to, both_ways: class == Class::Partition, lasts },
            }
        }
        Class::Isolate => {
            let to = all.into_iter().filter(|&other| other != node).collect();
            Fault::Cut { from: vec![node], to, both_ways: true, lasts }
        }
        Class::Loss | Class::Duplicate | Class::Reorder => storm(class, setup, draw, lasts),
        Class::Rot => Fault::Rot {
            node: victim?,
            salt: draw.below(1 << 48),
            bits: draw.magnitude(1, 8) as u32,
        },
        Class::ReadError => Fault::DiskError { node: victim?, operation: Operation::Read },
        // A failed write or sync stops the node with dirty data dropped, which without syncs forgets as
        // a power loss does.
        Class::WriteError | Class::SyncError => {
            let node = if setup.syncs_always() { node } else { victim? };
            let operation = match class {
                Class::WriteError => Operation::Write,
                _ => Operation::Sync,
            };
            Fault::DiskError { node, operation }
        }
        Class::DiskFull => {
            let spare = if draw.chance(1, 2) { 0 } else { draw.magnitude(4 << 10, 16 << 20) };
            Fault::DiskFull { node, spare, lasts }
        }
        Class::DiskSlow => Fault::DiskSlow { node, times: draw.magnitude(2, 100), lasts },
        Class::ClockStep => {
            let by = draw.magnitude(1_000_000, 3_600_000_000_000) as i64;
            Fault::ClockStep { node, by: if draw.chance(1, 2) { by } else { -by } }
        }
        Class::Ambush => Fault::Ambush { lasts: draw.between(setup.duration / 4, setup.duration) },
        Class::Hunt => {
            let group = draw.below(u64::from(setup.shards).min(HUNTED_SHARDS) + 1) as u32;
            Fault::Hunt { group, lasts: draw.between(setup.duration / 4, setup.duration) }
        }
        Class::Burden => {
            let group = draw.below(u64::from(setup.shards).min(HUNTED_SHARDS) + 1) as u32;
            let lasts = draw.between(setup.duration / 4, setup.duration);
            Fault::Burden { group, times: draw.magnitude(4, 64), lasts }
        }
        Class::DiskLoss | Class::Misdirect if !setup.syncs_always() => return None,
        Class::DiskLoss => {
            let left = *draw.pick(LEFT);
            Fault::DiskLoss { node: victim?, left, lasts }
        }
        Class::Misdirect => Fault::Misdirect { node: victim?, salt: draw.below(1 << 48) },
        Class::Throttle | Class::Reset if all.len() < 2 => return None,
        Class::Throttle => {
            let (from, to) = sides(&all, draw);
            let bytes_per_second = draw.magnitude(8_000, 40_000_000);
            Fault::Throttle { from, to, bytes_per_second, lasts }
        }
        Class::Reset => {
            let (from, to) = sides(&all, draw);
            // A pause, a connection and its handshake.
            Fault::Reset { from, to, lasts: draw.magnitude(20_000_000, 600_000_000) }
        }
        Class::CrashLoop => {
            let power = setup.syncs_always() && draw.chance(1, 2);
            let how = if power { Crash::Power } else { Crash::Kill };
            Fault::CrashLoop { node, how, times: draw.between(2, 8) as u32 }
        }
        Class::ClockDrift | Class::Swizzle => return None,
    })
}

/// Some nodes are clogged one after another, and heal one after another in an order of its own.
fn swizzle(setup: &Setup, from: u64, draw: &mut Draw) -> Vec<Planned> {
    if setup.nodes.len() < 2 {
        return Vec::new();
    }
    let mut nodes: Vec<u32> = setup.nodes.iter().map(|node| node.0).collect();
    draw.shuffle(&mut nodes);
    nodes.truncate(draw.between(2, nodes.len() as u64) as usize);
    let step = draw.magnitude(2_000_000, 400_000_000);
    let mut heals: Vec<u64> = (1..=nodes.len() as u64).collect();
    draw.shuffle(&mut heals);
    let over = from + step * nodes.len() as u64;
    let choke = |(position, (node, heals)): (usize, (u32, u64))| {
        let at = from + step * position as u64;
        Planned { at, fault: Fault::Choke { node, lasts: over + step * heals - at } }
    };
    let all = nodes.into_iter().zip(heals).enumerate().map(choke);
    all.filter(|planned| planned.at < setup.duration).collect()
}

/// Two sides of the network, neither of them empty; now and then only some of the links between.
fn sides(all: &[u32], draw: &mut Draw) -> (Vec<u32>, Vec<u32>) {
    let mut shuffled = all.to_vec();
    draw.shuffle(&mut shuffled);
    let cut = draw.between(1, all.len() as u64 - 1) as usize;
    let mut to = shuffled.split_off(cut);
    if draw.chance(1, 3) {
        to.truncate(1);
    }
    (shuffled, to)
}

fn storm(class: Class, setup: &Setup, draw: &mut Draw, lasts: u64) -> Fault {
    let mut weather = setup.weather;
    match class {
        Class::Loss => weather.loss_ppm = draw.magnitude(1_000, 400_000) as u32,
        Class::Duplicate => {
            weather.duplicate_ppm = draw.magnitude(1_000, 300_000) as u32;
            weather.replay_ppm = draw.magnitude(1_000, 100_000) as u32;
        }
        _ => {
            weather.reorder = true;
            weather.delay *= draw.magnitude(1, 16);
        }
    }
    Fault::Storm { weather, lasts }
}

/// What a lost disk may leave, as often as it is drawn.
const LEFT: &[Left] = &[
    Left::Nothing,
    Left::Superblock,
    Left::Superblock,
    Left::NoWal,
    Left::NoTable,
    Left::NoChunks,
];
const TEN_SECONDS: u64 = 10_000_000_000;
/// Hunts are for the meta group and the first shards: few, so that clients are at work there.
const HUNTED_SHARDS: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Overrides;

    fn of(class: Class, nodes: u32) -> impl Iterator<Item = (Setup, Vec<Planned>)> {
        (0..50).map(move |seed| {
            let overrides =
                Overrides { nodes: Some(nodes), faults: Some(vec![class]), ..Overrides::default() };
            let setup = Setup::draw(seed, &overrides);
            let plan = plan(&setup);
            (setup, plan)
        })
    }

    #[test]
    fn every_class_makes_faults_within_the_run() {
        for &class in Class::ALL {
            for (setup, plan) in of(class, 3) {
                assert!(plan.is_sorted_by_key(|planned| planned.at));
                assert!(plan.iter().all(|planned| planned.at < setup.duration));
                let needs_syncs = matches!(class, Class::DiskLoss | Class::Misdirect);
                let none = class == Class::ClockDrift || needs_syncs && !setup.syncs_always();
                assert_eq!(plan.is_empty(), none, "{class:?}");
            }
        }
    }

    #[test]
    fn the_atlas_spares_a_quorum() {
        for class in [Class::Rot, Class::ReadError, Class::DiskLoss, Class::Misdirect] {
            assert!(of(class, 1).all(|(_, plan)| plan.is_empty()));
            for (setup, plan) in of(class, 5) {
                for Planned { fault, .. } in plan {
                    let (Fault::Rot { node, .. }
                    | Fault::DiskError { node, .. }
                    | Fault::DiskLoss { node, .. }
                    | Fault::Misdirect { node, .. }) = fault
                    else {
                        panic!("{fault:?}")
                    };
                    assert!(setup.victims.contains(&NodeId(node)));
                }
            }
        }
    }

    #[test]
    fn what_the_atlas_draws_it_finds_fair() {
        let mut unfair = 0;
        for class in Class::ALL {
            for (setup, plan) in of(*class, 5) {
                let smaller = Setup::draw(
                    setup.seed,
                    &Overrides {
                        nodes: Some(3),
                        faults: Some(vec![*class]),
                        ..Overrides::default()
                    },
                );
                for Planned { fault, .. } in plan {
                    assert!(is_fair(&setup, &fault), "{fault:?}");
                    unfair += u32::from(!is_fair(&smaller, &fault));
                }
            }
        }
        assert!(unfair > 100, "{unfair} faults of five nodes are not for three");
    }

    #[test]
    fn nodes_that_do_not_sync_never_lose_power_together() {
        let mut lax = 0;
        for class in [Class::PowerLoss, Class::Blackout] {
            for (setup, plan) in of(class, 3).filter(|(setup, _)| !setup.syncs_always()) {
                for Planned { fault, .. } in plan {
                    let Fault::Crash { nodes, how, .. } = fault else { panic!("{fault:?}") };
                    let spared = nodes.iter().all(|&node| setup.victims.contains(&NodeId(node)));
                    assert!(how == Crash::Kill || spared, "{nodes:?}");
                    lax += 1;
                }
            }
        }
        assert!(lax > 5, "only {lax} faults under a lax policy");
    }

    #[test]
    fn a_swizzle_heals_in_another_order_than_it_clogs() {
        let mut other = 0;
        for (_, plan) in of(Class::Swizzle, 5) {
            let ends = plan.iter().map(|Planned { at, fault }| match fault {
                Fault::Choke { lasts, .. } => at + lasts,
                fault => panic!("{fault:?}"),
            });
            other += u32::from(!ends.is_sorted());
        }
        assert!(other > 30, "{other} of 50");
    }

    #[test]
    fn a_plan_survives_its_file() {
        let late =
            Class::ALL.iter().filter(|class| class.is_late()).flat_map(|class| of(*class, 3));
        for (_, plan) in of(Class::Reorder, 3).chain(of(Class::Blackout, 3)).chain(late) {
            let overrides = Overrides { plan: Some(plan), ..Overrides::default() };
            let text = toml::to_string(&overrides).expect("a plan has a form");
            assert_eq!(toml::from_str::<Overrides>(&text).expect(&text), overrides);
        }
    }
}
