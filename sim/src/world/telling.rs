//! What whoever hears a run in detail is told after every event: who runs, what is cut, and what the nodes
//! that have taken a step say of themselves.

use super::*;

impl<M: Machine> World<M> {
    /// Tells how things are after an event. Only for runs that are recorded: it is much work.
    pub(super) fn note_all(&mut self) {
        let Self { tracer, slots, network, oracles, touched, .. } = self;
        for (node, slot) in slots.iter().enumerate() {
            let (up, paused) = (slot.is_up(), slot.paused.is_some());
            tracer.note(|| Note::Life { node, up, paused });
        }
        tracer.note(|| Note::Cuts(network.cuts().collect()));
        for node in core::mem::take(touched) {
            let slot = &slots[node];
            let Some(machine) = &slot.machine else { continue };
            let Some(status) = machine.status() else { continue };
            let durable = |group| {
                let holds = |entry| machine.holds_entry(group, entry) == Some(true);
                oracles.durable.end(slot.id, group, holds)
            };
            tracer.note(|| Note::Look { node, status: &status, durable: &durable });
        }
    }
}
