//! Refused connections: what the host of a peer says when no process listens there, or when something on the way says it
//! in its place.
//!
//! Whoever was connected to a process that ended dials again and is refused, soon, and not where the way there is cut.
//! Where power went nobody is left to say anything. And what cuts a way, or breaks a connection, may be a firewall that refuses
//! while the peer lives on: then a leader is given up that leads, which must do no harm.

use super::{Event, Machine, World};
use crate::choices::Calm;
use crate::draw::{Domain, Draw};
use crate::stats::Stats;
use crate::trace::Kind;
use ironseed_core::node::api::Input;
use ironseed_core::types::NodeId;

/// When a peer hears of it: nanoseconds. A driver waits a moment before it dials again.
const HEARD_AFTER: (u64, u64) = (100_000, 60_000_000);

impl<M: Machine> World<M> {
    /// The process of a node has ended, and its host has not.
    pub(super) fn refuse_all(&mut self, fallen: usize) {
        let slot = &self.slots[fallen];
        let (peer, name) = (slot.id, slot.boot_name());
        for node in 0..self.slots.len() {
            if node != fallen {
                self.maybe_refuse(node, peer, name, (3, 4));
            }
        }
    }

    /// What strikes these links may be a firewall that lets nobody through and says so.
    pub(super) fn refuse_wrongly(
        &mut self,
        links: (&[u32], &[u32]),
        both_ways: bool,
        fault: usize,
    ) {
        let (at, (from, to)) = (self.plan[fault].at, links);
        let mut draw = Draw::new(self.setup.luck, Domain::Refusal, &[at]);
        if !draw.chance(1, 3) {
            return;
        }
        // The other side may not hear of it.
        let (from, to) = if both_ways && draw.chance(1, 2) { (to, from) } else { (from, to) };
        self.each_link(from, to, both_ways && draw.chance(1, 3), |world, a, b| {
            let node = world.slots.iter().position(|slot| slot.id == a);
            node.into_iter().for_each(|node| world.maybe_refuse(node, b, at, (9, 10)));
        });
    }

    fn maybe_refuse(&mut self, node: usize, peer: NodeId, name: u64, (odds, of): (u64, u64)) {
        let slot = &self.slots[node];
        let coordinates = [u64::from(slot.id.0), u64::from(peer.0), name];
        let mut draw = Draw::new(self.setup.luck, Domain::Refusal, &coordinates);
        if self.setup.is_calm(Calm::Network) || !slot.is_up() || !draw.chance(odds, of) {
            return;
        }
        let (boot, (least, most)) = (slot.boot, HEARD_AFTER);
        self.schedule(draw.magnitude(least, most), Event::Refused { node, boot, peer });
    }

    /// A node hears that a peer is refused to it, unless that is said by a host whose word can't get through.
    pub(super) fn hear_refusal(&mut self, node: usize, peer: NodeId) {
        let id = self.slots[node].id;
        let lives = self.slots.iter().any(|slot| slot.id == peer && slot.is_up());
        if !lives && (self.network.is_cut(id, peer) || self.network.is_cut(peer, id)) {
            return;
        }
        let event = if lives { "refused-by-the-living" } else { "refused-by-the-fallen" };
        Stats::count(&mut self.stats.rare, event, 1);
        let parts = [node as u64, u64::from(peer.0)];
        self.tracer
            .event(self.now, Kind::Refused, &parts, || format!("{id:?} is refused by {peer:?}"));
        self.feed(node, Input::Refused { peer });
    }
}
