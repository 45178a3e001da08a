//! One node of the world: its machine while it runs, and what outlives the machine.

use super::Machine;
use super::operator::Order;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::draw::{TICK_BITS, Ticks};
use crate::history::CallId;
use crate::workload::Call;
use ironseed_core::node::api::Input;
use ironseed_core::types::{GroupId, NodeId, Position, RequestId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A node's place in the world.
#[derive(Debug)]
pub(super) struct Slot<M> {
    pub(super) id: NodeId,
    pub(super) disk: Disk,
    pub(super) clock: Clock,
    /// How often it was booted. Events carry it, so that those of an earlier life are dropped.
    pub(super) boot: u64,
    /// `None` while it is down.
    pub(super) machine: Option<M>,
    /// World time of the timer that counts; any other is stale.
    pub(super) timer: Option<u64>,
    /// While it hangs: what it will get when it goes on.
    pub(super) paused: Option<VecDeque<Input>>,
    /// How many pauses lie over it now: they may overlap.
    pub(super) pauses: u32,
    /// When it comes up again at the earliest, while it is down.
    pub(super) up_at: u64,
    /// When it comes up again after a graceful stop that is under way.
    pub(super) stopping: Option<u64>,
    /// The last state of each group that the oracles have seen, by its number.
    pub(super) looked: Vec<Option<(Position, u128)>>,
    /// Groups whose replica here was given up, and has been given no state since.
    pub(super) given_up: BTreeSet<GroupId>,
    next_request: u64,
    /// Names the latencies of hashes.
    pub(super) hashes: Ticks,
    /// Client requests that it has not answered.
    pub(super) requests: BTreeMap<RequestId, (Call, Option<CallId>)>,
    /// The operator's requests to let in the new disk of a node.
    pub(super) orders: BTreeMap<RequestId, Order>,
}

impl<M: Machine> Slot<M> {
    pub(super) const fn new(id: NodeId, disk: Disk, clock: Clock) -> Self {
        Self {
            id,
            disk,
            clock,
            boot: 0,
            machine: None,
            timer: None,
            paused: None,
            pauses: 0,
            up_at: 0,
            stopping: None,
            looked: Vec::new(),
            given_up: BTreeSet::new(),
            next_request: 0,
            hashes: Ticks::START,
            requests: BTreeMap::new(),
            orders: BTreeMap::new(),
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    /// Names the draws of a boot: by when it was due, so that a crash that is left out renames no other boot.
    pub(super) const fn boot_name(&self) -> u64 {
        self.up_at >> TICK_BITS
    }

    /// Takes a client's request on.
    pub(super) fn accept(&mut self, call: Call, entry: Option<CallId>) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.requests.insert(id, (call, entry));
        id
    }

    /// Takes a request of the operator on.
    pub(super) fn accept_from_operator(&mut self, order: Order) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.orders.insert(id, order);
        id
    }

    /// The machine is gone, with all that it had in memory. Its unanswered requests.
    pub(super) fn fall(&mut self) -> Vec<Call> {
        self.machine = None;
        self.timer = None;
        self.paused = None;
        self.stopping = None;
        self.looked.clear();
        self.orders.clear();
        core::mem::take(&mut self.requests).into_values().map(|(call, _)| call).collect()
    }
}
