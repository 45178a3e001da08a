//! The operator: who has lost a disk lets the new one in, and shards are moved.
//!
//! What an operator sees is what a member says: a store that the charter does not name wants the place of a node. Some
//! time later it asks a node of its choice to let that store in ([`Request::ReplaceStore`]), and another one if it gets no
//! good answer. From the first question on the new store may take part; before, it must not
//! ([`World::check_stranger`]). Once it is let in it is a node like any other: what it lacks has to come back.

use super::losses::Stage;
use super::*;
use ironseed_core::object::layout::Move;
use ironseed_core::object::registry::Replacement;
use ironseed_core::types::{ShardId, StoreId};

/// What the operator has asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// That this new store of a node be let in.
    Admit { node: usize, store: StoreId },
    /// That a shard be moved.
    Move,
}

/// How long the operator waits for an answer: nanoseconds.
const PATIENCE: u64 = 1_000_000_000;

impl<M: Machine> World<M> {
    /// A member refuses a store of this node. Sooner or later the operator sees it, if there is one.
    pub(super) fn refused(&mut self, node: NodeId, store: StoreId) {
        let Some(node) = self.slots.iter().position(|slot| slot.id == node) else { return };
        if let Some(delay) = self.replaced.refuse(node, store) {
            let delay = if self.healed.is_some() { 1 } else { delay };
            self.schedule(delay, Event::Admit { node });
        }
    }

    /// The operator lets the new store of a node in, or tries again.
    pub(super) fn admit(&mut self, node: usize) {
        let Some(new) = self.replaced.wanted(node) else { return };
        let id = self.slots[node].id;
        let name = [u64::from(id.0), self.now >> 20];
        let mut draw = Draw::new(self.setup.luck, Domain::Operator, &name);
        self.schedule(PATIENCE, Event::Admit { node });
        let slots = self.slots.iter().enumerate();
        let up = slots.filter(|(at, slot)| {
            slot.is_up() && *at != node && !self.is_frozen(*at) && self.replaced.is_whole(*at)
        });
        let up: Vec<usize> = up.map(|(at, _)| at).collect();
        if up.is_empty() {
            return;
        }
        let asked = *draw.pick(&up);
        let status = self.slots[asked].machine.as_ref().and_then(Machine::status);
        let stores = status.map(|status| status.stores).unwrap_or_default();
        let Some((_, old)) = stores.into_iter().find(|(of, _)| *of == id) else { return };
        if old == new {
            return self.admitted(node);
        }
        let request = self.slots[asked].accept_from_operator(Order::Admit { node, store: new });
        self.replaced.ask(node);
        let line = || format!("the operator asks n{} to let {id:?} in with store {new}", asked + 1);
        let parts = [node as u64, asked as u64, request.0];
        self.tracer.event(self.now, Kind::Request, &parts, line);
        let replacement = Replacement { node: id, old, new };
        let input = Input::Request { id: request, request: Request::ReplaceStore(replacement) };
        self.feed(asked, input);
    }

    /// The operator is answered.
    pub(super) fn on_order(&mut self, order: Order, outcome: &Outcome) {
        let line = || format!("the operator is answered {}", short_outcome(outcome));
        match order {
            Order::Admit { node, store } => {
                self.tracer.event(self.now, Kind::Reply, &[node as u64], line);
                // It may have lost that one too by now.
                if outcome.is_ok() && self.replaced.wanted(node) == Some(store) {
                    self.admitted(node);
                }
            }
            Order::Move => {
                self.tracer.event(self.now, Kind::Reply, &[u64::from(outcome.is_ok())], line);
                Stats::count(&mut self.stats.rare, "shard-move-begun", u64::from(outcome.is_ok()));
            }
        }
    }

    /// The operator asks some node to move a shard, going by the layout that this node knows.
    pub(super) fn move_shard(&mut self, shard: ShardId, to: &[u32]) -> bool {
        let mut draw = Draw::new(self.setup.luck, Domain::Operator, &[2, self.now]);
        let up = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_up());
        let up: Vec<usize> = up.map(|(at, _)| at).collect();
        if up.is_empty() {
            return false;
        }
        let asked = *draw.pick(&up);
        let status = self.slots[asked].machine.as_ref().and_then(Machine::status);
        let Some(version) = status.map(|status| status.layout) else { return false };
        let request = self.slots[asked].accept_from_operator(Order::Move);
        let to: Vec<NodeId> = to.iter().copied().map(NodeId).collect();
        let line = || format!("the operator asks n{} to move {shard:?} to {to:?}", asked + 1);
        let parts = [u64::from(shard.0), asked as u64, request.0];
        self.tracer.event(self.now, Kind::Request, &parts, line);
        let asks = Request::MoveShard(Move { shard, to: to.clone(), version });
        self.feed(asked, Input::Request { id: request, request: asks });
        true
    }

    fn admitted(&mut self, node: usize) {
        if self.replaced.stage(node) == Some(Stage::Asked) {
            self.replaced.admit(node);
            Stats::count(&mut self.stats.rare, "disk-replacement-admitted", 1);
        }
    }

    /// Everything heals: nobody waits any more with what is to be done.
    pub(super) fn admit_all(&mut self) {
        for node in 0..self.slots.len() {
            if self.replaced.wanted(node).is_some() {
                self.schedule(1, Event::Admit { node });
            }
        }
    }
}
