//! The operator: who has lost a disk lets the new one in.
//!
//! What an operator sees is what a member says: a store that the charter does not name wants the place of a node. Some
//! time later it asks a node of its choice to let that store in ([`Request::ReplaceStore`]), and another one if it gets no
//! good answer. From the first question on the new store may take part; before, it must not
//! ([`World::check_stranger`]). Once it is let in it is a node like any other: what it lacks has to come back.

use super::losses::Stage;
use super::*;
use ironseed_core::object::registry::Replacement;
use ironseed_core::types::StoreId;

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
        let request = self.slots[asked].accept_from_operator(node);
        self.replaced.ask(node);
        let line = || format!("the operator asks n{} to let {id:?} in with store {new}", asked + 1);
        let parts = [node as u64, asked as u64, request.0];
        self.tracer.event(self.now, Kind::Request, &parts, line);
        let replacement = Replacement { node: id, old, new };
        let input = Input::Request { id: request, request: Request::ReplaceStore(replacement) };
        self.feed(asked, input);
    }

    /// The operator is answered.
    pub(super) fn on_admission(&mut self, node: usize, outcome: &Outcome) {
        let line = || format!("the operator is answered {}", short_outcome(outcome));
        self.tracer.event(self.now, Kind::Reply, &[node as u64], line);
        if outcome.is_ok() {
            self.admitted(node);
        }
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
