//! Bucket procedures on the node that leads the meta group: what `object::procedure` wants proposed goes
//! out as calls, and what the calls come to goes back. All state is in the registry and the shards, so
//! losing leadership in the middle only means that the next leader begins that step again.

use super::calls::{Calls, Ended, Sends, TaskId};
use crate::kv::command::Op;
use crate::machine::{Duration, Instant};
use crate::object::api::{Outcome, Refusal};
use crate::object::procedure::{Procedure, Proposal, Ticket};
use crate::object::registry::BucketRecord;
use crate::types::{BucketId, GroupId};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A command of a procedure is given up after this long, and proposed again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tasks of procedures have numbers from here on, so that they never collide with clients' tasks.
pub(super) const FIRST_TASK: u64 = 1 << 62;

/// The procedures under way.
#[derive(Clone, Debug)]
pub(super) struct Procedures {
    shards: u16,
    next_task: u64,
    running: BTreeMap<BucketId, Running>,
    tasks: BTreeMap<TaskId, BucketId>,
}

#[derive(Clone, Debug)]
struct Running {
    task: TaskId,
    procedure: Procedure,
    calls: BTreeMap<u64, Ticket>,
}

impl Procedures {
    pub(super) const fn new(shards: u16) -> Self {
        Self { shards, next_task: FIRST_TASK, running: BTreeMap::new(), tasks: BTreeMap::new() }
    }

    /// Whether a call's owner is a procedure, also one that is over.
    pub(super) const fn owns(&self, task: TaskId) -> bool {
        task.0 >= FIRST_TASK
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.running.values().filter_map(|running| running.procedure.deadline()).min()
    }

    /// The registry, led here, holds these unsettled buckets.
    pub(super) fn on_registry(
        &mut self,
        now: Instant,
        unsettled: Vec<(String, BucketRecord)>,
        calls: &mut Calls,
        sends: &mut Sends,
    ) {
        for (name, record) in unsettled {
            if self.running.contains_key(&record.id) {
                continue;
            }
            let Some(procedure) = Procedure::new(name, record, self.shards) else { continue };
            self.next_task += 1;
            let task = TaskId(self.next_task);
            self.tasks.insert(task, record.id);
            let running = Running { task, procedure, calls: BTreeMap::new() };
            self.running.insert(record.id, running);
        }
        self.advance(now, calls, sends);
    }

    /// Leadership of the meta group is lost: the next leader goes on.
    pub(super) fn stop(&mut self, calls: &mut Calls) {
        for running in core::mem::take(&mut self.running).into_values() {
            calls.disown(running.task);
        }
        self.tasks.clear();
    }

    pub(super) fn on_call(
        &mut self,
        now: Instant,
        (task, number, ended): (TaskId, u64, Ended),
        calls: &mut Calls,
        sends: &mut Sends,
    ) {
        let outcome: Outcome = match ended {
            Ended::Outcome(outcome) => outcome,
            Ended::Resolved(_) | Ended::Expired { .. } => Err(Refusal::OutcomeUnknown),
        };
        let running = self.tasks.get(&task).and_then(|bucket| self.running.get_mut(bucket));
        if let Some(running) = running
            && let Some(ticket) = running.calls.remove(&number)
        {
            running.procedure.on_outcome(now, ticket, &outcome);
        }
        self.advance(now, calls, sends);
    }

    /// Proposes what can be proposed, and forgets what is over.
    pub(super) fn advance(&mut self, now: Instant, calls: &mut Calls, sends: &mut Sends) {
        for running in self.running.values_mut() {
            while let Some((ticket, proposal)) = running.procedure.poll(now) {
                let (group, op) = match proposal {
                    Proposal::Shard(shard, op) => (shard.group(), Op::Object(op)),
                    Proposal::Meta(op) => (GroupId::META, Op::Registry(op)),
                };
                let number =
                    calls.write(now, running.task, group, Box::new(op), now + PATIENCE, sends);
                running.calls.insert(number, ticket);
            }
        }
        let over: Vec<BucketId> = self
            .running
            .iter()
            .filter(|(_, running)| running.procedure.end().is_some())
            .map(|(bucket, _)| *bucket)
            .collect();
        for bucket in over {
            if let Some(running) = self.running.remove(&bucket) {
                calls.disown(running.task);
                self.tasks.remove(&running.task);
            }
        }
    }
}
