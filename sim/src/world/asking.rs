//! Clients of the world: when they wake, what they ask, and what becomes of it.

use super::*;

impl<M: Machine> World<M> {
    pub(super) fn wake_client(&mut self, client: u32) {
        // An event may come a little after its time, when another had it first.
        if self.wakes[client as usize] > self.now {
            return;
        }
        self.wakes[client as usize] = u64::MAX;
        let slots = self.slots.iter().enumerate();
        let out =
            |node| self.is_frozen(node) || self.healed.is_some() && !self.replaced.is_whole(node);
        let up = slots.filter(|(node, slot)| slot.is_up() && !out(*node));
        let up: Vec<NodeId> = up.map(|(_, slot)| slot.id).collect();
        for issue in self.clients.wake(self.now, client, &up) {
            self.ask(issue);
        }
        // What it waits for wakes it.
        if !self.clients.is_waiting(client) {
            self.plan_wake(client);
        }
    }

    /// A new phase has begun: clients that think must not sleep through it.
    pub fn wake_clients(&mut self) {
        for client in 0..self.wakes.len() {
            let client = client as u32;
            if !self.clients.is_waiting(client) {
                self.plan_wake(client);
            }
        }
    }

    /// Wakes a client after a pause of its own choice; any earlier plan is off.
    pub(super) fn plan_wake(&mut self, client: u32) {
        let delay = self.clients.pause(self.now, client).max(1);
        self.wakes[client as usize] = self.now + delay;
        self.schedule(delay, Event::Client { client });
    }

    pub(super) fn ask(&mut self, issue: Issue) {
        let Issue { call, node: id, request, patience, cancels } = issue;
        let Some(node) = self.slots.iter().position(|slot| slot.id == id) else { return };
        let entry = self.history.call(self.now, call.client, id, &request);
        let request_id = self.slots[node].accept(call, entry);
        let line = || format!("c{} asks {id:?} {request_id:?} {}", call.client, short(&request));
        let parts = [u64::from(call.client), node as u64, request_id.0];
        self.tracer.event(self.now, Kind::Request, &parts, line);
        let (client, id) = (call.client, request_id.0);
        self.tracer.note(|| Note::Asked { client, node, id, request: &request });
        self.asked.insert(call, (node, request_id));
        if !self.ambushes.is_empty() && matches!(request, Request::DeleteBucket { .. }) {
            self.waylay(node);
        }
        self.schedule(patience, Event::GiveUp { call, cancels });
        self.feed(node, Input::Request { id: request_id, request });
    }

    pub(super) fn reply(&mut self, node: usize, id: RequestId, outcome: Outcome) {
        if let Some(order) = self.slots[node].orders.remove(&id) {
            return self.on_order(order, &outcome);
        }
        let me = self.slots[node].id;
        let Some((call, entry)) = self.slots[node].requests.remove(&id) else {
            return self.unasked(node, id);
        };
        let line = || format!("{me:?} answers c{} {id:?} {}", call.client, short_outcome(&outcome));
        self.tracer.event(self.now, Kind::Reply, &[node as u64, id.0], line);
        self.tracer.note(|| {
            let heard = self.asked.contains_key(&call);
            Note::Answered { client: call.client, node, id: id.0, outcome: &outcome, heard }
        });
        self.tracer.content(&codec::encode(&outcome.as_ref().err()));
        if let Ok(answer) = &outcome {
            self.tracer.content(&codec::encode(answer));
        }
        // A client that has stopped waiting hears nothing: for it the outcome stays unknown.
        if self.asked.remove(&call).is_some() {
            if outcome.is_ok() && !self.armed.is_empty() {
                self.spring(node, Moment::Answer);
            }
            if let Some(entry) = entry {
                self.history.returned(entry, self.now, &outcome);
            }
            self.clients.on_outcome(self.now, call, outcome);
            self.plan_wake(call.client);
        }
    }

    pub(super) fn unasked(&mut self, node: usize, id: RequestId) {
        let me = self.slots[node].id;
        let what = format!("{me:?} answers {id:?}, which nobody asked or which was answered");
        self.violate(Violation::new("contract", self.now, what));
    }

    pub(super) fn give_up(&mut self, call: Call, cancels: bool) {
        let Some((node, id)) = self.asked.remove(&call) else { return };
        let line = || format!("c{} waits no longer for {id:?}", call.client);
        self.tracer.event(self.now, Kind::GiveUp, &[u64::from(call.client), id.0], line);
        self.tracer.note(|| Note::GaveUp { client: call.client, node, id: id.0 });
        Stats::count(&mut self.stats.rare, "client-gave-up", 1);
        self.clients.on_outcome(self.now, call, Err(Refusal::OutcomeUnknown));
        self.plan_wake(call.client);
        // The node may still answer, and nobody listens; it must not answer twice.
        if cancels && self.slots[node].requests.contains_key(&id) {
            self.feed(node, Input::Cancel { id });
        }
    }
}
