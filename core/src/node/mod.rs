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
mod boot;
mod chunks;
mod cleaner;
pub mod message;
mod peers;
mod post;
mod reads;
mod recovery;
mod replica;
mod restore;
mod router;
mod running;
mod snapshot;
pub mod status;
mod store;
pub mod superblock;
pub mod trace;
mod upkeep;

use self::boot::{Boot, Progress};
use self::message::{Head, PeerMessage};
use self::recovery::{Ops, Recovering};
use self::running::{Running, Stopping};
use self::superblock::Membership;
use self::trace::Trace;
use crate::machine::{Halt, Instant, IoOp, Now};
use crate::object::api::Refusal;
use crate::rng::Rng;
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
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
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
        Self { config, rng, now: Now::default(), phase: Phase::New }
    }

    /// Feeds one input; appends what must happen to `effects`.
    pub fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        assert!(now.mono >= self.now.mono, "time went back: {:?} < {:?}", now.mono, self.now.mono);
        self.now = now;
        if let Input::Request { id, .. } = &input
            && !matches!(self.phase, Phase::Running(_))
        {
            let refusal = Refusal::Unavailable("the node is not ready".to_string());
            return effects.push(Effect::Reply { id: *id, outcome: Err(refusal) });
        }
        match &mut self.phase {
            Phase::New => self.on_new(input, effects),
            Phase::Booting { .. } => self.on_booting(input, effects),
            Phase::Recovering(_) => self.on_recovering(input, effects),
            Phase::Running(running) => {
                running.step(&self.config, now, input, effects);
                if let Some(halt) = running.take_halt() {
                    self.halt(halt, effects);
                } else if running.stopping == Some(Stopping::Stopped) {
                    self.phase = Phase::Stopped;
                }
            }
            Phase::Stopped | Phase::Halted => {}
        }
    }

    /// When the node wants [`Input::Timer`], if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Booting { boot, hello_at, .. } => boot.hello().map(|_| *hello_at),
            Phase::Running(running) => running.deadline(),
            Phase::New | Phase::Recovering(_) | Phase::Stopped | Phase::Halted => None,
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
        let membership = match &self.phase {
            Phase::Recovering(recovering) => &recovering.admitted.superblock.membership,
            Phase::Running(running) => &running.superblock.membership,
            _ => return None,
        };
        match membership {
            Membership::Member(charter) => Some(&charter.founding),
            Membership::Blank | Membership::Founder(_) => None,
        }
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
                self.phase = Phase::Booting { boot: Box::new(boot), ops, hello_at };
            }
            Err(halt) => self.halt(halt, effects),
        }
    }

    fn on_booting(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let Phase::Booting { boot, ops, hello_at } = &mut self.phase else { return };
        let mut ios: Vec<IoOp> = Vec::new();
        let ids = &mut ops.superblock;
        let progress = match input {
            Input::Done { op, result } => {
                boot.on_done(&self.config, &mut self.rng, op, &result, ids, &mut ios)
            }
            Input::Message { from, message: PeerMessage { head: Head::Hello { store }, .. } } => {
                boot.on_hello(&self.config, from, store, ids, &mut ios)
            }
            Input::Message { message: PeerMessage { head: Head::Welcome(charter), .. }, .. } => {
                boot.on_welcome(&self.config, charter, ids, &mut ios);
                Progress::Going
            }
            Input::Stop => {
                effects.push(Effect::Stopped);
                self.phase = Phase::Stopped;
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
                    doubt: superblock.doubt,
                }));
                let ops = ops.clone();
                let (mut ios, mut traces) = (Vec::new(), Vec::new());
                let recovering =
                    Recovering::new(&self.config, admitted, ops, &mut ios, &mut traces);
                effects.extend(traces.into_iter().map(Effect::Trace));
                effects.extend(ios.into_iter().map(Effect::Io));
                match recovering {
                    Ok(recovering) => {
                        self.phase = Phase::Recovering(Box::new(recovering));
                        self.maybe_run(effects);
                    }
                    Err(halt) => self.halt(halt, effects),
                }
            }
        }
    }

    fn on_recovering(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let Phase::Recovering(recovering) = &mut self.phase else { return };
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
                self.phase = Phase::Stopped;
            }
            // Peers say things again, and clients were answered.
            _ => {}
        }
    }

    fn maybe_run(&mut self, effects: &mut Vec<Effect>) {
        match core::mem::replace(&mut self.phase, Phase::Halted) {
            Phase::Recovering(recovering) if recovering.is_complete() => {
                let mut traces = Vec::new();
                let ready = recovering.finish(
                    &self.config,
                    self.now.mono,
                    &mut self.rng,
                    &mut traces,
                );
                effects.extend(traces.into_iter().map(Effect::Trace));
                let Some(ready) = ready else { unreachable!("all logs are there") };
                let running =
                    Running::new(&self.config, ready, self.now, &mut self.rng, effects);
                self.phase = Phase::Running(Box::new(running));
            }
            phase => self.phase = phase,
        }
    }

    fn halt(&mut self, halt: Halt, effects: &mut Vec<Effect>) {
        self.phase = Phase::Halted;
        effects.push(Effect::Halt(halt));
    }
}
