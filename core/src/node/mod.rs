//! Composes one node's machines behind one `step`: the only module that sees all of them.
//!
//! # The path of a boot
//!
//! [`api::Input::Boot`] brings the list of files. The superblock says who this store is ([`superblock`]); a
//! blank one waits to be welcomed, a founder waits for the others, a member recovers its logs and runs.
//!
//! # The path of a request
//!
//! The router lane of the node that was asked turns a request into calls to groups. The call reaches the
//! replica that leads the group, here or on another node. A write becomes a log entry; the store lane makes
//! it durable in the next batch; the messages that promise it are held back until then; when a quorum has
//! it, every replica applies it and the leader's answers the call. Chunks go around the log: the router
//! sends them to the home shard's replicas and names them in a command once a quorum holds them.
//!
//! # Guarantees
//!
//! - Nothing that promises durability leaves the node before the write that it promises is durable. Such an
//!   effect names its write, and one place (`running`) holds it back.
//! - Every request is answered exactly once, unless it is cancelled or the node ends; `OutcomeUnknown` is
//!   the answer where a write may have happened.
//! - A store votes only with what it promised before: one that may have forgotten abstains until its
//!   group has readmitted it, and one that the charter doesn't name never takes part.
//! - The same inputs in the same order, seed included, give the same effects.
//! - What can't go on stops the node by [`api::Effect::Halt`], with the file and the reason.
//!
//! # Lanes
//!
//! A node is made of lanes that share nothing and exchange posts: the store lane (all disk), the router
//! lane, and one or more lanes of shards. One thread runs them now; nothing depends on that.
//!
//! # Caveats
//!
//! - Replica sets are fixed when a cluster is founded.
//! - A replaced store is refused, not rebuilt.
//! - Read pins are the leader's memory, not its log: a leader waits for the longest pin before it collects
//!   anything. Wrong clocks can make a slow read end in an error, never in wrong bytes.

pub mod api;
mod balance;
mod boot;
mod chunks;
mod cleaner;
mod engine;
mod index;
mod leading;
mod members;
pub mod message;
pub mod offline;
mod patient;
mod peers;
mod post;
mod reads;
pub mod recording;
mod recovery;
mod replica;
mod restore;
mod router;
mod running;
pub mod scrub;
mod snapshot;
pub mod status;
mod store;
pub mod superblock;
pub mod support;
mod table;
pub mod trace;
mod upkeep;

use self::boot::{Boot, Progress};
use self::message::{Head, PeerMessage};
use self::recovery::{Ops, Recovering};
use self::running::{Running, Stopping};
use self::status::{Phase, Status};
use self::superblock::Membership;
use self::trace::Trace;
use crate::kv::table::Table;
use crate::machine::{Halt, Instant, IoOp, Now};
use crate::object::api::Refusal;
use crate::rng::Rng;
use crate::types::{BlobId, ChunkId, GroupId, Location, Position};
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use api::{Config, Effect, Founding, Input};

/// One node: everything it decides.
#[derive(Clone, Debug)]
pub struct Node {
    config: Config,
    rng: Rng,
    now: Now,
    life: Life,
}

#[derive(Clone, Debug)]
enum Life {
    New,
    Booting { boot: Box<Boot>, ops: Ops, hello_at: Instant },
    Recovering(Box<Recovering>),
    Running(Box<Running>),
    Stopped,
    Halted,
}

impl Node {
    /// A node that has not been booted yet: [`Input::Boot`] comes first.
    #[must_use]
    pub fn new(config: Config) -> Self {
        assert!(config.shards.is_power_of_two(), "{} shards", config.shards);
        assert!(config.nodes.contains(&config.me), "{:?} is not in its own list", config.me);
        let rng = Rng::new(config.seed);
        Self { config, rng, now: Now::default(), life: Life::New }
    }

    /// Feeds one input; appends what must happen to `effects`.
    pub fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        assert!(now.mono >= self.now.mono, "time went back: {:?} < {:?}", now.mono, self.now.mono);
        self.now = now;
        if let Input::Request { id, .. } = &input
            && !matches!(self.life, Life::Running(_))
        {
            let refusal = Refusal::Unavailable("the node is not ready".to_string());
            return effects.push(Effect::Reply { id: *id, outcome: Err(refusal) });
        }
        match &mut self.life {
            Life::New => self.on_new(input, effects),
            Life::Booting { .. } => self.on_booting(input, effects),
            Life::Recovering(_) => self.on_recovering(input, effects),
            Life::Running(running) => {
                running.step(&self.config, now, input, effects);
                if let Some(halt) = running.take_halt() {
                    self.halt(halt, effects);
                } else if running.stopping == Some(Stopping::Stopped) {
                    self.life = Life::Stopped;
                }
            }
            Life::Stopped | Life::Halted => {}
        }
    }

    /// When the node wants [`Input::Timer`], if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.life {
            Life::Booting { boot, hello_at, .. } => boot.hello().map(|_| *hello_at),
            Life::Running(running) => running.deadline(),
            Life::New | Life::Recovering(_) | Life::Stopped | Life::Halted => None,
        }
    }

    /// The node's settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What founding fixed: cluster id and root credentials. `None` until the node is a member.
    #[must_use]
    pub fn founding(&self) -> Option<&Founding> {
        let membership = match &self.life {
            Life::Recovering(recovering) => &recovering.admitted.superblock.membership,
            Life::Running(running) => &running.superblock.membership,
            _ => return None,
        };
        match membership {
            Membership::Member(charter) => Some(&charter.founding),
            Membership::Blank | Membership::Founder(_) => None,
        }
    }

    /// How far the node has come. Cheap: drivers ask after every step.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.life {
            Life::New | Life::Recovering(_) => Phase::Booting,
            Life::Booting { boot, .. } if boot.is_waiting() => Phase::Waiting,
            Life::Booting { .. } => Phase::Booting,
            Life::Running(running) if running.stopping.is_some() => Phase::Stopping,
            Life::Running(_) => Phase::Serving,
            Life::Stopped => Phase::Stopping,
            Life::Halted => Phase::Halted,
        }
    }

    /// What the node knows of itself, for operators. Work proportional to its groups.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = Status {
            node: self.config.me,
            phase: self.phase(),
            cluster: self.founding().map(|founding| founding.cluster),
            nodes: self.config.nodes.clone(),
            ..Status::default()
        };
        match &self.life {
            Life::Booting { boot, .. } => {
                status.store = boot.superblock().map(|superblock| superblock.store);
            }
            Life::Running(running) => running.describe(&mut status),
            _ => {}
        }
        status
    }

    /// The state of a group on this node, for checkers: where it is and its digest.
    #[must_use]
    pub fn state_of(&self, group: GroupId) -> Option<(Position, u128)> {
        let Life::Running(running) = &self.life else { return None };
        let replica = running.replicas.get(&group)?;
        let sound = replica.damage.is_none();
        sound.then(|| (replica.state.mark().position, replica.state.state_hash()))
    }

    /// A group's table on this node, for checkers, if its state is sound.
    #[must_use]
    pub fn table_of(&self, group: GroupId) -> Option<&Table> {
        let Life::Running(running) = &self.life else { return None };
        let replica = running.replicas.get(&group)?;
        replica.damage.is_none().then(|| replica.state.table())
    }

    /// The blobs of which this node holds chunks, for checkers. Work in proportion to them.
    #[must_use]
    pub fn held_blobs(&self) -> Vec<BlobId> {
        let Life::Running(running) = &self.life else { return Vec::new() };
        running.held_blobs()
    }

    /// Every chunk on this node, damaged ones too, and where it is; for checkers. Work in proportion to them.
    #[must_use]
    pub fn held_chunks(&self) -> Vec<(ChunkId, Location)> {
        let Life::Running(running) = &self.life else { return Vec::new() };
        running.held_chunks().collect()
    }

    /// Whether a group's log on this node has this very entry, or begins after it; for checkers. `None` if
    /// there is no such replica here now.
    #[must_use]
    pub fn holds_entry(&self, group: GroupId, position: Position) -> Option<bool> {
        let Life::Running(running) = &self.life else { return None };
        Some(running.replicas.get(&group)?.raft.holds_entry(position))
    }

    fn on_new(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let Input::Boot { files, found } = input else { return };
        let mut ops = Ops::new();
        let mut ios = Vec::new();
        let boot =
            Boot::new(&self.config, &mut self.rng, files, found, &mut ops.superblock, &mut ios);
        effects.extend(ios.into_iter().map(Effect::Io));
        match boot {
            Ok(boot) => {
                let hello_at = self.now.mono;
                self.life = Life::Booting { boot: Box::new(boot), ops, hello_at };
            }
            Err(halt) => self.halt(halt, effects),
        }
    }

    fn on_booting(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let Life::Booting { boot, ops, hello_at } = &mut self.life else { return };
        let mut ios: Vec<IoOp> = Vec::new();
        let ids = &mut ops.superblock;
        let progress = match input {
            Input::Done { op, result } => {
                boot.on_done(&self.config, &mut self.rng, op, &result, ids, &mut ios)
            }
            Input::Message { from, message: PeerMessage { head: Head::Hello { store }, .. } } => {
                boot.on_hello(&self.config, from, store, ids, &mut ios)
            }
            Input::Message {
                message: PeerMessage { head: Head::Welcome(charter), .. }, ..
            } => {
                boot.on_welcome(&self.config, charter, ids, &mut ios);
                Progress::Going
            }
            Input::Stop => {
                effects.push(Effect::Stopped);
                self.life = Life::Stopped;
                return;
            }
            _ => Progress::Going,
        };
        effects.extend(ios.into_iter().map(Effect::Io));
        if let Some(store) = boot.hello()
            && *hello_at <= self.now.mono
        {
            *hello_at = self.now.mono + self.config.tuning.heartbeat;
            for to in self.config.nodes.iter().filter(|node| **node != self.config.me) {
                let message = Head::Hello { store }.into();
                effects.push(Effect::Send { to: *to, message });
            }
        }
        match progress {
            Progress::Going => {}
            Progress::Halted(halt) => self.halt(halt, effects),
            Progress::Member(admitted) => {
                let superblock = &admitted.superblock;
                effects.push(Effect::Trace(Trace::Booted {
                    store: superblock.store,
                    incarnation: superblock.incarnation,
                    standing: superblock.standing,
                }));
                let ops = ops.clone();
                let (mut ios, mut traces) = (Vec::new(), Vec::new());
                let recovering =
                    Recovering::new(&self.config, *admitted, ops, &mut ios, &mut traces);
                effects.extend(traces.into_iter().map(Effect::Trace));
                effects.extend(ios.into_iter().map(Effect::Io));
                match recovering {
                    Ok(recovering) => {
                        self.life = Life::Recovering(Box::new(recovering));
                        self.maybe_run(effects);
                    }
                    Err(halt) => self.halt(halt, effects),
                }
            }
        }
    }

    fn on_recovering(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let Life::Recovering(recovering) = &mut self.life else { return };
        match input {
            Input::Done { op, result } => {
                let (mut ios, mut traces) = (Vec::new(), Vec::new());
                let done = recovering.on_done(op, &result, &mut ios, &mut traces);
                effects.extend(traces.into_iter().map(Effect::Trace));
                effects.extend(ios.into_iter().map(Effect::Io));
                match done {
                    Ok(()) => self.maybe_run(effects),
                    Err(halt) => self.halt(halt, effects),
                }
            }
            Input::Stop => {
                effects.push(Effect::Stopped);
                self.life = Life::Stopped;
            }
            // Peers say things again, and clients were answered.
            _ => {}
        }
    }

    fn maybe_run(&mut self, effects: &mut Vec<Effect>) {
        match core::mem::replace(&mut self.life, Life::Halted) {
            Life::Recovering(recovering) if recovering.is_complete() => {
                let mut traces = Vec::new();
                let ready =
                    recovering.finish(&self.config, self.now.mono, &mut self.rng, &mut traces);
                effects.extend(traces.into_iter().map(Effect::Trace));
                let Some(ready) = ready else { unreachable!("all logs are there") };
                let running = Running::new(&self.config, ready, self.now, &mut self.rng, effects);
                self.life = Life::Running(Box::new(running));
            }
            life => self.life = life,
        }
    }

    fn halt(&mut self, halt: Halt, effects: &mut Vec<Effect>) {
        self.life = Life::Halted;
        effects.push(Effect::Halt(halt));
    }
}
