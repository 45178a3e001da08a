//! How a bucket's state is changed at every shard: a sans-IO machine at the leader of the meta group.
//!
//! **Create, and undo:** install at every shard, then settle in the registry. **Delete:** fence every
//! shard; each then says whether it holds objects, and nothing can be put after it has said so. If all
//! are empty, remove at every shard, then in the registry. If one is not, restore:
//! a higher epoch in the registry, then install as above.
//!
//! **Why it survives its leader.** The machine holds nothing that the registry and the shards don't say:
//! a new leader builds one from each unsettled record and begins that state from its first step. Every
//! step is harmless to repeat. Two leaders that run it at once do no harm either: a fenced shard
//! does not change its answer, so both find the same; and whatever an old one still says carries an epoch
//! that has passed.
//!
//! **Caveat.** A shard without a quorum holds the procedure up, and with it writes to a bucket that is being
//! deleted: they are refused as busy until the shard answers.

use super::api::{Outcome, Refusal};
use super::command::ObjectOp;
use super::registry::{BucketEpoch, BucketRecord, BucketState, RegistryOp};
use crate::machine::{Duration, Instant};
use crate::types::{Epoch, ShardId};
use alloc::collections::BTreeMap;
use alloc::string::String;

/// Commands to shards that are under way at once. Enough for one round over 256 shards in a few
/// round trips, few enough to leave room for clients.
pub const UNDERWAY_MAX: usize = 64;

/// Names a command of one procedure until its outcome is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A command to propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// To the group of a shard.
    Shard(ShardId, ObjectOp),
    /// To the meta group.
    Meta(RegistryOp),
}

/// How a procedure ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The bucket is active: made.
    Active,
    /// The bucket is active again: it was not empty.
    NotEmpty,
    /// The bucket is gone.
    Removed,
    /// The bucket's state has moved on without this procedure: look at the registry.
    Superseded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// At shards: install.
    Install,
    /// In the registry: it is installed.
    Settle,
    /// At shards: fence.
    Fence,
    /// In the registry: it was not empty.
    Restore,
    /// At shards: remove.
    Remove,
    /// In the registry: it is gone.
    Forget,
    Over(End),
}

/// A procedure for one bucket.
///
/// - In a phase at shards, each shard is in `waiting` or `underway`, or has done its part.
/// - In a phase in the registry, there is one command, in `meta_at` or `underway`.
#[derive(Clone, Debug)]
pub struct Procedure {
    bucket: String,
    record: BucketRecord,
    shards: u16,
    phase: Phase,
    /// Shards that are to be asked, and from when on.
    waiting: BTreeMap<ShardId, Instant>,
    /// When to propose to the meta group, if that is the phase and nothing is under way.
    meta_at: Option<Instant>,
    underway: BTreeMap<Ticket, Option<ShardId>>,
    next_ticket: u64,
    /// Whether a deletion was undone.
    restored: bool,
}

impl Procedure {
    /// The procedure that this record wants over shards 0 to `shards` exclusive; `None` if it wants
    /// none.
    #[must_use]
    pub fn new(bucket: String, record: BucketRecord, shards: u16) -> Option<Self> {
        let phase = match record.state {
            BucketState::Creating | BucketState::Restoring => Phase::Install,
            BucketState::Deleting => Phase::Fence,
            BucketState::Active => return None,
        };
        let mut procedure = Self {
            bucket,
            record,
            shards,
            phase,
            waiting: BTreeMap::new(),
            meta_at: None,
            underway: BTreeMap::new(),
            next_ticket: 0,
            restored: record.state == BucketState::Restoring,
        };
        procedure.enter(phase);
        Some(procedure)
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The next command to propose, if there is one now.
    pub fn poll(&mut self, now: Instant) -> Option<(Ticket, Proposal)> {
        if self.meta_at.is_some_and(|at| at <= now) {
            self.meta_at = None;
            let op = self.meta_op()?;
            return Some((self.ticket(None), Proposal::Meta(op)));
        }
        if self.underway.len() >= UNDERWAY_MAX {
            return None;
        }
        let (&shard, _) = self.waiting.iter().find(|(_, at)| **at <= now)?;
        let op = self.shard_op()?;
        self.waiting.remove(&shard);
        Some((self.ticket(Some(shard)), Proposal::Shard(shard, op)))
    }

    /// Reports what a command came to. One that never got an answer is reported as
    /// [`Refusal::OutcomeUnknown`].
    pub fn on_outcome(&mut self, now: Instant, ticket: Ticket, outcome: &Outcome) {
        // Commands of an earlier phase no longer matter.
        let Some(shard) = self.underway.remove(&ticket) else { return };
        match (self.phase, outcome) {
            (Phase::Fence, Err(Refusal::BucketNotEmpty)) => self.enter(Phase::Restore),
            // Refused for its epoch, or for objects in a bucket that had none and was fenced: someone
            // else has gone on.
            (_, Err(Refusal::BucketBusy | Refusal::BucketNotEmpty)) => {
                self.enter(Phase::Over(End::Superseded));
            }
            (_, Ok(_))
                if shard.is_none() || self.waiting.is_empty() && self.underway.is_empty() =>
            {
                let next = self.next_phase();
                self.enter(next);
            }
            (_, Ok(_)) => {}
            (Phase::Remove, Err(Refusal::Busy)) => self.again(shard, now + AGAIN_AFTER),
            (_, Err(_)) => self.again(shard, now + RETRY_AFTER),
        }
    }

    /// When to poll again although nothing has happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.underway.len() >= UNDERWAY_MAX {
            return None;
        }
        self.waiting.values().copied().chain(self.meta_at).min()
    }

    /// How it ended, once it has.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        match self.phase {
            Phase::Over(end) => Some(end),
            _ => None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.underway.clear();
        self.waiting.clear();
        self.meta_at = None;
        let now = Instant::default();
        match phase {
            Phase::Install | Phase::Fence | Phase::Remove => {
                self.waiting = (0..self.shards).map(|shard| (ShardId(shard), now)).collect();
            }
            Phase::Settle | Phase::Restore | Phase::Forget => self.meta_at = Some(now),
            Phase::Over(_) => {}
        }
    }

    /// What follows when the phase has done all it had to.
    fn next_phase(&mut self) -> Phase {
        match self.phase {
            Phase::Install => Phase::Settle,
            Phase::Settle if self.restored => Phase::Over(End::NotEmpty),
            Phase::Settle => Phase::Over(End::Active),
            Phase::Fence => Phase::Remove,
            Phase::Restore => {
                self.restored = true;
                self.record.epoch = self.record.epoch.next();
                self.record.state = BucketState::Restoring;
                Phase::Install
            }
            Phase::Remove => Phase::Forget,
            Phase::Forget => Phase::Over(End::Removed),
            Phase::Over(end) => Phase::Over(end),
        }
    }

    fn shard_op(&self) -> Option<ObjectOp> {
        let (bucket, epoch): (_, Epoch) = (self.record.id, self.record.epoch);
        match self.phase {
            Phase::Install => Some(ObjectOp::InstallBucket { bucket, epoch }),
            Phase::Fence => Some(ObjectOp::FenceBucket { bucket, epoch }),
            Phase::Remove => Some(ObjectOp::RemoveBucket { bucket, epoch }),
            Phase::Settle | Phase::Restore | Phase::Forget | Phase::Over(_) => None,
        }
    }

    fn meta_op(&self) -> Option<RegistryOp> {
        let BucketRecord { id, epoch, .. } = self.record;
        let at = BucketEpoch { bucket: self.bucket.clone(), id, epoch };
        match self.phase {
            Phase::Settle => Some(RegistryOp::SettleBucket(at)),
            Phase::Restore => Some(RegistryOp::RestoreBucket(at)),
            Phase::Forget => Some(RegistryOp::RemoveBucket(at)),
            Phase::Install | Phase::Fence | Phase::Remove | Phase::Over(_) => None,
        }
    }

    fn again(&mut self, shard: Option<ShardId>, at: Instant) {
        match shard {
            Some(shard) => {
                self.waiting.insert(shard, at);
            }
            None => self.meta_at = Some(at),
        }
    }

    fn ticket(&mut self, shard: Option<ShardId>) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.underway.insert(ticket, shard);
        ticket
    }
}

/// A command that was not carried out is proposed again after this long: about an election.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// The next slice of a removal comes after this long, so that clients' commands come between.
const AGAIN_AFTER: Duration = Duration::from_millis(2);
