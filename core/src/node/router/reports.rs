//! What a node reports to the meta group about shards that move (`running::layout`): as commands, until each is
//! answered, and not again at once.

use super::buckets;
use super::calls::{Calls, Ended, Sends, TaskId};
use crate::kv::command::Op;
use crate::machine::{Duration, Instant};
use crate::object::registry::RegistryOp;
use crate::types::{GroupId, NodeId, ShardId};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;

/// A report is given up after this long; it is made again while there is reason to.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before what was said is said again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Reports have task numbers from here on, below those of procedures.
const FIRST_TASK: u64 = 1 << 61;

/// What a node has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Report {
    /// It holds all of a shard that is being moved to it.
    Whole { shard: ShardId, change: u64 },
    /// It has something left of a shard that was moved away: may it go?
    Leaves { shard: ShardId },
}

/// The reports under way, and when each was made last.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    me: NodeId,
    next_task: u64,
    underway: BTreeMap<TaskId, Report>,
    made: BTreeMap<Report, Instant>,
}

impl Reports {
    pub(super) const fn new(me: NodeId) -> Self {
        Self { me, next_task: FIRST_TASK, underway: BTreeMap::new(), made: BTreeMap::new() }
    }

    /// Whether a call's owner is a report.
    pub(super) const fn owns(&self, task: TaskId) -> bool {
        FIRST_TASK <= task.0 && task.0 < buckets::FIRST_TASK
    }

    pub(super) fn make(
        &mut self,
        now: Instant,
        report: Report,
        calls: &mut Calls,
        sends: &mut Sends,
    ) {
        let soon = |at: &Instant| now < *at + AGAIN_AFTER;
        self.made.retain(|_, at| soon(at));
        let underway = self.underway.values().any(|it| *it == report);
        if underway || self.made.contains_key(&report) {
            return;
        }
        self.next_task += 1;
        let task = TaskId(self.next_task);
        self.underway.insert(task, report);
        self.made.insert(report, now);
        let node = self.me;
        let op = match report {
            Report::Whole { shard, change } => RegistryOp::ShardWhole { shard, change, node },
            Report::Leaves { shard } => RegistryOp::LeaveShard { shard, node },
        };
        let op = Box::new(Op::Registry(op));
        calls.write(now, task, GroupId::META, op, now + PATIENCE, sends);
    }

    /// A report is answered. Returns the shard that may go.
    pub(super) fn on_call(&mut self, task: TaskId, ended: &Ended) -> Option<ShardId> {
        match (self.underway.remove(&task)?, ended) {
            (Report::Leaves { shard }, Ended::Outcome(Ok(_))) => Some(shard),
            _ => None,
        }
    }
}
