//! Clients that race on few keys while nodes die; what they saw goes through the simulator's checkers: the same
//! history, the same judge, over real sockets, files and time.

use crate::Result;
use crate::choices::Choices;
use crate::client::{Client, Op, Shared, Site};
use crate::cluster::NODES;
use ironseed_core::object::api::Refusal;
use ironseed_sim::checkers::check_history;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

const CLIENTS: u32 = 6;
/// Few enough that clients meet, many enough that the search of each history stays short.
const KEYS: usize = 12;
const PAUSE: Duration = Duration::from_millis(100);
/// The bucket is made while nothing is wrong yet.
const FOUNDING_TRIES: u32 = 100;

/// Clients under way.
pub(crate) struct Racers {
    record: Shared,
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

/// What they came to.
pub(crate) struct Verdict {
    /// What was asked.
    pub(crate) requests: usize,
    /// What of it had a definite answer.
    pub(crate) answered: u64,
    /// Searches that took too long to be finished: of those keys nothing is known.
    pub(crate) given_up: u64,
}

/// Makes the bucket and starts the clients.
pub(crate) async fn start(site: Site, seed: u64) -> Result<Racers> {
    let (site, record) = (Arc::new(site), Shared::default());
    let mut founder = Client::new(CLIENTS, site.clone(), 1, record.clone());
    for attempt in 0.. {
        match founder.ask(&Op::MakeBucket).await {
            Some(Ok(_) | Err(Refusal::BucketAlreadyOwnedByYou)) => break,
            other if attempt == FOUNDING_TRIES => {
                return Err(format!("no bucket for the histories: {other:?}"));
            }
            _ => sleep(PAUSE).await,
        }
    }
    let mut racers = Racers { record, clients: JoinSet::new(), stop: Arc::default() };
    let keys: Arc<[String]> = (0..KEYS).map(|key| format!("key-{key:02}")).collect();
    for number in 0..CLIENTS {
        let node = number % NODES as u32 + 1;
        let client = Client::new(number, site.clone(), node, racers.record.clone());
        let choices = Choices::new(seed, number, KEYS);
        racers.clients.spawn(race(client, choices, keys.clone(), racers.stop.clone()));
    }
    Ok(racers)
}

async fn race(
    mut client: Client,
    mut choices: Choices,
    keys: Arc<[String]>,
    stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::Relaxed) {
        choices.act(&mut client, &keys, NODES as u32).await;
    }
}

impl Racers {
    /// Lets every client finish what it has begun, and checks what all of them saw.
    ///
    /// # Errors
    /// What no store may show.
    pub(crate) async fn judge(mut self) -> Result<Verdict> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.map_err(|error| format!("a client of the histories: {error}"))?;
        }
        let record = &mut *self.record.open();
        let findings = check_history(&record.history, &record.contents);
        let seen = record.violations.drain(..).chain(findings.violations);
        let wrong: Vec<String> = seen.map(|violation| violation.to_string()).collect();
        if !wrong.is_empty() {
            return Err(format!("the history is none of a store:\n{}", wrong.join("\n")));
        }
        let requests = record.history.entries().len();
        Ok(Verdict { requests, answered: record.answered, given_up: findings.given_up })
    }
}
