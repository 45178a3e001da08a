//! What each client does, drawn from a seed.

use crate::client::{Client, Op};
use ironseed_core::object::api::{Answer, Condition, ETag, Refusal};
use ironseed_sim::draw::{Domain, Draw};
use ironseed_sim::workload::content::Body;
use std::time::Duration;
use tokio::time::sleep;

/// A client's choices.
pub(crate) struct Choices {
    draw: Draw,
    client: u32,
    bodies: u64,
    seed: u64,
    /// What it saw last of each key.
    seen: Vec<Option<ETag>>,
}

impl Choices {
    /// Those of this client.
    #[must_use]
    pub(crate) fn new(seed: u64, client: u32, keys: usize) -> Self {
        let draw = Draw::new(seed, Domain::Client, &[client.into()]);
        Self { draw, client, bodies: 0, seed, seen: vec![None; keys] }
    }

    /// Has the client do the next thing, remembers what it saw, and rests. The client may turn to another of
    /// `nodes` nodes.
    pub(crate) async fn act(&mut self, client: &mut Client, keys: &[String], nodes: u32) {
        let (place, op) = self.next(keys);
        let outcome = client.ask(&op).await;
        match &outcome {
            Some(Ok(Answer::Written { etag, .. })) => self.seen[place] = Some(*etag),
            Some(Ok(Answer::Object(object))) => self.seen[place] = Some(object.etag),
            Some(Err(Refusal::NoSuchKey)) => self.seen[place] = None,
            _ => {}
        }
        let failed = !matches!(outcome, Some(Ok(_) | Err(Refusal::NoSuchKey)));
        if let Some(node) = self.turn(nodes, failed) {
            client.turn_to(node);
        }
        sleep(self.rest()).await;
    }

    /// What it does next, and on which key.
    fn next(&mut self, keys: &[String]) -> (usize, Op) {
        let place = self.draw.below(keys.len() as u64) as usize;
        let key = keys[place].clone();
        let op = match self.draw.weighted(&[30, 12, 8, 35, 8, 7]) {
            0 => Op::Put(key, self.body(), Condition::None),
            1 => {
                let seen = self.seen[place];
                Op::Put(key, self.body(), seen.map_or(Condition::Absent, Condition::Is))
            }
            2 => Op::Put(key, self.body(), Condition::Absent),
            3 => Op::Get(key),
            4 => Op::Delete(key),
            _ => Op::List(self.draw.between(1, 6) as u32),
        };
        (place, op)
    }

    /// A body that nobody else writes.
    pub(crate) fn body(&mut self) -> Body {
        let len = match self.draw.weighted(&[70, 20, 10]) {
            0 => self.draw.between(0, 3_000),
            1 => self.draw.between(16 << 10, 200 << 10),
            _ => self.draw.between(900 << 10, 1_300 << 10),
        };
        self.bodies += 1;
        let coordinates = [self.client.into(), self.bodies];
        // Short bodies must differ, too: a tag stands for one write.
        Body { seed: Draw::new(self.seed, Domain::Body, &coordinates).next(), len: len.max(8) }
    }

    /// How long it rests before the next request.
    fn rest(&mut self) -> Duration {
        Duration::from_millis(self.draw.magnitude(1, 200))
    }

    /// Whether it turns to another node, and to which of `nodes`.
    pub(crate) fn turn(&mut self, nodes: u32, failed: bool) -> Option<u32> {
        let turns = if failed { self.draw.chance(1, 2) } else { self.draw.chance(1, 12) };
        turns.then(|| self.draw.between(1, nodes.into()) as u32)
    }
}
