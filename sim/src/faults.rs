//! The fault plan: every disaster of a run as an explicit list, drawn before the run begins.
//!
//! A fault stands for itself: it names its nodes, its instant and how long it lasts, and no other fault
//! is needed to end it. So any subset of a plan is a plan, which is what makes a failing one shrinkable,
//! and a seed file can carry one.
//!
//! The **fault atlas** keeps a run recoverable on purpose:
//! - Rot and read errors strike only the run's victims, fewer nodes than any quorum can spare, and none
//!   where there is one node. Where on a disk rot may strike, [`crate::checkers::durable`] says.
//! - Disks are lost, writes found elsewhere, and bytes changed, at the victims only, and only where nodes always sync.
//! - Failed syncs and writes strike any node: they lose only what was not durable.
//! - Power may go everywhere at once if nodes always sync. Otherwise it goes at the victims only, and
//!   the other nodes are killed instead, which leaves their page caches whole.

mod plan;

pub use plan::plan;

use crate::net::Weather;
use crate::setup::Setup;
use ironseed_core::types::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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
    /// Whoever stands for election against a leader is cut off from it.
    Estrange,
    /// Who stands for election hears answers again that it was given in earlier ones.
    Echo,
    /// The operator moves a shard to other nodes.
    Move,
    /// One byte of a node's files is another one, wherever it is.
    Byte,
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
        Self::Estrange,
        Self::Echo,
        Self::Move,
        Self::Byte,
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

    /// Whether only runs of some region draw it ([`crate::setup::Region`]).
    #[must_use]
    pub const fn is_regional(self) -> bool {
        matches!(self, Self::Estrange | Self::Echo | Self::Move | Self::Byte)
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
                | Self::Estrange
                | Self::Echo
                | Self::Move
                | Self::Byte
        )
    }

    /// How often it strikes in ten seconds, at the most.
    pub(super) const fn frequency(self) -> u64 {
        match self {
            Self::Kill | Self::PowerLoss | Self::Rot | Self::ClockStep => 12,
            Self::Blackout | Self::DiskFull | Self::SyncError | Self::WriteError => 4,
            Self::ClockDrift | Self::Echo | Self::Byte => 0,
            Self::Hunt
            | Self::Estrange
            | Self::Ambush
            | Self::Swizzle
            | Self::CrashLoop
            | Self::Burden => 2,
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
    /// Whoever stands for election in a group that has a leader is cut off from that one for a while, so that it hears
    /// of its end from others, or not at once.
    Estrange {
        /// Which group: 0 is the meta group, the others are shards.
        group: u32,
        /// How long it lies in wait.
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
        /// With another disk: how long after it is refused first the operator lets it in. Never, if he does not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        admitted_after: Option<u64>,
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
    /// The operator asks some node to have a shard moved. Whatever comes of it: another move may be under way, or nobody may
    /// be there who can decide.
    Move {
        /// Which shard.
        shard: u16,
        /// The voters that it shall have.
        to: Vec<u32>,
    },
    /// One byte of a node's files is another one. Unlike rot it knows of no place that is spared: it may be in what was
    /// synced a moment ago, in a superblock, or in nothing.
    Byte {
        /// Whose.
        node: u32,
        /// Names the byte.
        salt: u64,
        /// The node goes down for it and finds it when it comes up. If not, it runs on and may not notice.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        down: Option<Down>,
    },
}

/// How a node goes down, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Down {
    /// How.
    pub how: Crash,
    /// How long, nanoseconds.
    pub lasts: u64,
}

/// What is left of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// Nothing: the node comes up with an empty disk. The cluster refuses it until the operator lets it in.
    Nothing,
    /// The superblock.
    Superblock,
    /// All but the superblock: the node refuses what it finds, and its operator gives it an empty disk.
    Logs,
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
            Self::Estrange { .. } => "estrange",
            Self::Ambush { .. } => "ambush",
            Self::DiskLoss { left: Left::Nothing | Left::Logs, .. } => "disk-replaced",
            Self::DiskLoss { .. } => "disk-lost-in-part",
            Self::Misdirect { .. } => "misdirected-write",
            Self::Throttle { .. } => "throttle",
            Self::Reset { .. } => "reset",
            Self::Choke { .. } => "swizzle",
            Self::CrashLoop { .. } => "crash-loop",
            Self::Move { .. } => "shard-move",
            Self::Byte { down: Some(_), .. } => "byte-changed-while-down",
            Self::Byte { .. } => "byte-changed",
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
        Fault::DiskLoss { node, .. } | Fault::Misdirect { node, .. } | Fault::Byte { node, .. } => {
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
        Fault::Hunt { group, .. } | Fault::Burden { group, .. } | Fault::Estrange { group, .. } => {
            setup.nodes.len() > 1 && *group <= u32::from(setup.shards)
        }
        Fault::Storm { .. } | Fault::Ambush { .. } => setup.nodes.len() > 1,
        Fault::Move { shard, to } => {
            let distinct: BTreeSet<&u32> = to.iter().collect();
            *shard < setup.shards
                && to.iter().all(there)
                && to.len() == distinct.len()
                && to.len() == usize::from(setup.replication)
        }
    }
}

/// Whether other faults come of this one while a run goes on.
#[must_use]
pub const fn is_cause(fault: &Fault) -> bool {
    match fault {
        Fault::Hunt { .. }
        | Fault::Burden { .. }
        | Fault::Estrange { .. }
        | Fault::Ambush { .. }
        | Fault::CrashLoop { .. } => true,
        Fault::Crash { moment, .. } => !matches!(moment, Moment::Now),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
