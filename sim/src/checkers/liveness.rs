//! Progress once everything has healed, and bounds that hold always.
//!
//! After a while the world mends every link, gives every disk room, sets every clock right, resumes and
//! restarts every node. From then on the cluster owes an answer to everything: no group stuck without
//! a leader, no bucket stuck in deletion, no chunk without a copy that can be read. And it owes itself all the
//! redundancy that it is configured with.

use super::Violation;
use crate::setup::Setup;
use ironseed_core::node::status::{Moving, Phase, Status};
use ironseed_core::types::{GroupId, Index, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// How long after the healing every client must have had all its answers: nanoseconds.
///
/// Clients give up a request after [`crate::workload::Mix::patience`] at the most and try again, and a request that
/// hits an election waits it out. So the bound is that of many elections and several patiences, far above
/// what a run takes when nothing is stuck, and far below what a stuck one would take to be noticed.
#[must_use]
pub fn bound(setup: &Setup) -> u64 {
    PROGRESS.max(setup.mix.patience * 8).max(setup.tuning.election.0 * 40)
}

/// What is said when the bound has passed and this is not done.
#[must_use]
pub fn stuck(at: u64, healed: u64, unfinished: &[String]) -> Violation {
    let seconds = (at - healed) / 1_000_000_000;
    let mut what = format!("{seconds} s after everything healed, still open:");
    for line in unfinished.iter().take(LINES) {
        what += &format!("\n  {line}");
    }
    if unfinished.len() > LINES {
        what += &format!("\n  and {} more", unfinished.len() - LINES);
    }
    Violation::new("liveness", at, what)
}

/// What is said when a group's leader was replaced for no reason but that somebody came back.
#[must_use]
pub fn unseated(at: u64, groups: &[GroupId]) -> Violation {
    let what = format!("who came back unseated the leaders of {groups:?}");
    Violation::new("liveness", at, what)
}

/// For so many election timeouts it is watched whether leaders stay.
pub const STEADY_ELECTIONS: u64 = 10;

/// Chunks without a copy where one belongs. A body that was given up before anything named it has chunks too, and may have a single copy of each:
/// they are wanted until its lease is over.
#[must_use]
pub fn missing_chunks(nodes: &[Status]) -> Vec<String> {
    let lacking = nodes.iter().filter(|node| node.chunks_missing > 0);
    lacking.map(|node| format!("{:?} lacks {} chunks", node.node, node.chunks_missing)).collect()
}

/// What else lacks redundancy: replicas that abstain, are damaged or lag. Nothing of that may last once all nodes run and can reach each other, or the next fault takes
/// what no fault before it could have taken. A shard can't come to nodes that are `out` for good, and does not leave those
/// that it comes from before it has.
#[must_use]
pub fn degraded(nodes: &[Status], out: &[NodeId]) -> Vec<String> {
    let moving = nodes.iter().flat_map(|node| &node.moving);
    let hopeless = moving.filter(|it| it.to.iter().any(|node| out.contains(node)));
    let hopeless: BTreeSet<GroupId> = hopeless.map(|it| it.shard.group()).collect();
    let mut found = Vec::new();
    let mut ends: BTreeMap<GroupId, (Index, NodeId)> = BTreeMap::new();
    for node in nodes {
        let id = node.node;
        if node.phase != Phase::Serving {
            found.push(format!("{id:?} is {:?}", node.phase));
        }
        let on_its_way = |it: &&Moving| !hopeless.contains(&it.shard.group());
        for it in node.moving.iter().filter(on_its_way) {
            found.push(format!("{id:?} knows of {:?} on its way to {:?}", it.shard, it.to));
        }
        for replica in &node.groups {
            let group = replica.group;
            if replica.abstaining {
                found.push(format!("{id:?} abstains in {group:?}"));
            }
            if let Some(damage) = &replica.damaged {
                found.push(format!("{id:?} is damaged in {group:?}: {damage}"));
            }
            let (end, other) = *ends.entry(group).or_insert((replica.applied, id));
            if end != replica.applied && !hopeless.contains(&group) {
                let applied = replica.applied;
                found.push(format!("{id:?} is at {applied:?} of {group:?}, {other:?} at {end:?}"));
            }
        }
    }
    found
}

/// What is said when one step asks for more than [`EFFECTS_PER_STEP_MAX`].
#[must_use]
pub fn overworked(at: u64, effects: usize, input: &str) -> Violation {
    let what = format!("one step had {effects} effects, of {EFFECTS_PER_STEP_MAX}: {input}");
    Violation::new("work", at, what)
}

/// Effects of one step at the most, events left out: a step works on slices whatever the size of the state. A
/// beat of 256 groups to six peers is the most that any step has to say.
pub const EFFECTS_PER_STEP_MAX: usize = 4096;

/// What is said when a while of [`SPELL`] had more than [`EVENTS_PER_SPELL_MAX`] events.
#[must_use]
pub fn storm(at: u64, events: u64) -> Violation {
    let millis = SPELL / 1_000_000;
    let what = format!("{events} events within {millis} ms, of {EVENTS_PER_SPELL_MAX} at the most");
    Violation::new("work", at, what)
}

/// The while over which events are counted: nanoseconds.
pub const SPELL: u64 = 100_000_000;

/// Events of a while at the most. Busy ones of the largest clusters have a tenth of it; messages that answer each
/// other without end have no bound.
pub const EVENTS_PER_SPELL_MAX: u64 = 200_000;

const PROGRESS: u64 = 30_000_000_000;
const LINES: usize = 8;
