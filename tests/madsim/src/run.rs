//! One run from its seed to its verdict, in the simulator's four steps: load, healing, proof, histories.
//!
//! Clients ask over HTTP while the plan's faults strike. Then everything mends, and within a bound every key has
//! to be readable through every node, and writable: what was acknowledged is there, and the cluster lives. What
//! all clients saw is then checked by the simulator's checkers.

use crate::choices::Choices;
use crate::client::{Client, Op, Shared, Site};
use crate::cluster::{ACCESS_KEY, Cluster, REGION, SECRET_KEY, s3_host};
use crate::disk::Plant;
use crate::now;
use crate::plan::{Fault, Plan};
use ironseed_core::object::api::{Condition, Refusal};
use ironseed_sim::checkers::{Violation, check_history};
use madsim::net::NetSim;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The bucket that all clients share.
const BUCKET: &str = "bucket";
/// A new cluster serves within this, whatever strikes it meanwhile.
const FOUNDING_MAX: Duration = Duration::from_secs(90);
/// Once everything is mended, every key is read through every node and written within this. What was sent into
/// a cut connection arrives as long after it is mended as it was cut.
const LIVENESS_MAX: Duration = Duration::from_secs(60);
/// An ambush lasts no longer.
const AMBUSH_MAX: Duration = Duration::from_millis(500);
/// A pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// What a run came to. Equal for equal runs.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// What was asked.
    pub requests: usize,
    /// What of it was answered.
    pub answered: u64,
    /// What of it was carried out.
    pub carried_out: u64,
    /// Searches of the linearizability checker that were given up.
    pub given_up: u64,
    /// What struck.
    pub faults: usize,
    /// Nodes that ended by themselves and were started again.
    pub ended: usize,
    /// Simulated time of the run.
    pub simulated: Duration,
    /// Writes to sockets.
    pub messages: u64,
    /// Hash of the history, each entry with its times.
    pub history: blake3::Hash,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, answered, carried_out, faults, ended, given_up, .. } = self;
        let Self { simulated, messages, history, .. } = self;
        let nanos = simulated.as_nanos();
        write!(
            f,
            "{requests} requests, {answered} answered, {carried_out} carried out, {faults} faults, {ended} nodes \
             ended, {messages} messages, {nanos} ns, {given_up} searches given up, history {}",
            &history.to_hex()[..16]
        )
    }
}

/// Runs a seed on the caller's thread, in madsim's time. `folder` is a real and empty one.
#[must_use]
pub fn run(seed: u64, plant: Option<Plant>, folder: &Path) -> Report {
    let plan = Plan::draw(seed);
    let mut config = madsim::Config::default();
    config.net.send_latency = plan.latency / 10..plan.latency;
    config.net.packet_loss_rate = f64::from(plan.lost_ppm) / 1_000_000.0;
    let runtime = madsim::runtime::Runtime::with_seed_and_config(seed, config);
    runtime.block_on(live(seed, plan, plant, folder))
}

async fn live(seed: u64, plan: Plan, plant: Option<Plant>, folder: &Path) -> Report {
    let plan = Arc::new(plan);
    let record = Shared::default();
    let cluster = Cluster::start(seed, plan.nodes, plant, folder);
    let mut stage = Stage { plan: plan.clone(), cluster, record: record.clone(), ended: 0 };
    let mut clients = Vec::new();
    for client in 0..plan.clients {
        let machine = stage.cluster.add_client(client);
        clients.push(machine.spawn(load(seed, client, plan.clone(), record.clone())));
    }
    stage.strike().await;
    stage.cluster.heal();
    let (healed, proof) = (now(), stage.cluster.add_client(plan.clients));
    let proof = proof.spawn(prove(seed, plan.clone(), record.clone()));
    let finished = async {
        for client in clients {
            client.await.expect("a client's machine never dies");
        }
        proof.await.expect("a client's machine never dies");
    };
    if stage.looking_after(timeout(LIVENESS_MAX, finished)).await.is_err() {
        let what = format!("not everything was answered within {LIVENESS_MAX:?} of healing");
        record.open().violations.push(Violation::new("liveness", healed, what));
    }
    stage.report()
}

fn site(plan: &Plan) -> Arc<Site> {
    let hosts = (1..=plan.nodes).map(s3_host).collect();
    let (access_key, secret_key) = (ACCESS_KEY.into(), SECRET_KEY.into());
    Arc::new(Site { hosts, access_key, secret_key, region: REGION.into(), bucket: BUCKET.into() })
}

/// Asks until the load is over. The first client makes the bucket.
async fn load(seed: u64, number: u32, plan: Arc<Plan>, record: Shared) {
    let mut client = Client::new(number, site(&plan), number % plan.nodes + 1, record);
    let mut choices = Choices::new(seed, number, plan.keys.len());
    let founding = FOUNDING_MAX.as_nanos() as u64;
    // A creation stays open in the history, and one is enough of those.
    while number == 0 && now() < founding {
        match client.ask(&Op::MakeBucket).await {
            Some(Ok(_) | Err(Refusal::BucketAlreadyOwnedByYou)) => break,
            _ => sleep(PAUSE).await,
        }
        client.turn_to(choices.turn(plan.nodes, true).unwrap_or(1));
    }
    while now() < plan.load.as_nanos() as u64 {
        choices.act(&mut client, &plan.keys, plan.nodes).await;
    }
}

/// Reads every key through every node, lists, and writes every key, each until it is answered.
async fn prove(seed: u64, plan: Arc<Plan>, record: Shared) {
    let mut choices = Choices::new(seed, plan.clients, plan.keys.len());
    let mut client = Client::new(plan.clients, site(&plan), 1, record);
    for node in 1..=plan.nodes {
        client.turn_to(node);
        for key in &plan.keys {
            insist(&mut client, &Op::Get(key.clone())).await;
        }
        insist(&mut client, &Op::List(100)).await;
    }
    for (place, key) in plan.keys.iter().enumerate() {
        client.turn_to(place as u32 % plan.nodes + 1);
        insist(&mut client, &Op::Put(key.clone(), choices.body(), Condition::None)).await;
        insist(&mut client, &Op::Get(key.clone())).await;
    }
}

async fn insist(client: &mut Client, op: &Op) {
    // A put with an unknown outcome is repeated: it writes the same once more, which a checker can't tell apart.
    loop {
        match client.ask(op).await {
            Some(Ok(_) | Err(Refusal::NoSuchKey)) => return,
            _ => sleep(PAUSE).await,
        }
    }
}

/// A run under way.
struct Stage {
    plan: Arc<Plan>,
    cluster: Cluster,
    record: Shared,
    ended: usize,
}

/// What ends a fault, and when.
enum Mend {
    Start(u32),
    Resume(u32),
    Join { from: u32, to: u32 },
    JoinClient(u32),
    Quicken(u32),
}

impl Stage {
    /// Lets all faults of the plan strike and end, until the load is over.
    async fn strike(&mut self) {
        let plan = self.plan.clone();
        let mut faults = plan.faults.iter().peekable();
        let mut mends: Vec<(Duration, Mend)> = Vec::new();
        loop {
            let at = Duration::from_nanos(now());
            self.ended += self.cluster.look_after().len();
            for (_, mend) in mends.extract_if(.., |(due, _)| *due <= at).collect::<Vec<_>>() {
                self.mend(mend);
            }
            while let Some((_, fault)) = faults.next_if(|(due, _)| *due <= at) {
                if let Fault::Blackout { ambush: true, .. } = fault {
                    // Nothing may be acknowledged for a while: then it strikes anyhow.
                    let _ = timeout(AMBUSH_MAX, self.record.acknowledged()).await;
                }
                tracing::info!(?fault, at = now() / 1_000_000, "strikes");
                mends
                    .extend(self.fault(*fault).into_iter().map(|(after, mend)| (at + after, mend)));
            }
            if at >= plan.load {
                return;
            }
            sleep(Cluster::LOOK_EVERY).await;
        }
    }

    fn fault(&mut self, fault: Fault) -> Vec<(Duration, Mend)> {
        let nodes = self.plan.nodes;
        match fault {
            Fault::Kill { node, down } => {
                self.cluster.kill(node, false);
                vec![(down, Mend::Start(node))]
            }
            Fault::PowerLoss { node, down } => {
                self.cluster.kill(node, true);
                vec![(down, Mend::Start(node))]
            }
            Fault::Blackout { down, .. } => (1..=nodes)
                .map(|node| {
                    self.cluster.kill(node, true);
                    (down, Mend::Start(node))
                })
                .collect(),
            Fault::Stop { node } => {
                self.cluster.stop(node);
                Vec::new()
            }
            Fault::Freeze { node, time } => {
                self.cluster.pause(node, true);
                vec![(time, Mend::Resume(node))]
            }
            Fault::Isolate { node, out, into, time } => {
                let others = (1..=nodes).filter(|other| *other != node);
                let links = others.flat_map(|other| {
                    let (out, into) = (out.then_some((node, other)), into.then_some((other, node)));
                    out.into_iter().chain(into)
                });
                let cut = |(from, to)| {
                    self.cluster.cut(from, to, true);
                    (time, Mend::Join { from, to })
                };
                links.map(cut).collect()
            }
            Fault::CutClient { client, time } => {
                self.cluster.cut_client(client, true);
                vec![(time, Mend::JoinClient(client))]
            }
            Fault::SlowDisk { node, times, time } => {
                self.cluster.disk(node).slow(times);
                vec![(time, Mend::Quicken(node))]
            }
            Fault::FailSync { node } => {
                self.cluster.disk(node).fail_sync();
                Vec::new()
            }
        }
    }

    fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Start(node) => self.cluster.restart(node),
            Mend::Resume(node) => self.cluster.pause(node, false),
            Mend::Join { from, to } => self.cluster.cut(from, to, false),
            Mend::JoinClient(client) => self.cluster.cut_client(client, false),
            Mend::Quicken(node) => self.cluster.disk(node).slow(1),
        }
    }

    /// Waits, while nodes that end by themselves are started again.
    async fn looking_after<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        tokio::pin!(waiting);
        loop {
            tokio::select! {
                biased;
                done = &mut waiting => return done,
                () = sleep(Cluster::LOOK_EVERY) => self.ended += self.cluster.look_after().len(),
            }
        }
    }

    fn report(&self) -> Report {
        let record = &mut *self.record.open();
        let mut violations = std::mem::take(&mut record.violations);
        let findings = check_history(&record.history, &record.contents);
        violations.extend(findings.violations);
        let mut hash = blake3::Hasher::new();
        for entry in record.history.entries() {
            hash.update(format!("{entry:?}\n").as_bytes());
        }
        Report {
            violations,
            requests: record.history.entries().len(),
            answered: record.answered,
            carried_out: record.carried_out,
            given_up: findings.given_up,
            faults: self.plan.faults.len(),
            ended: self.ended,
            simulated: Duration::from_nanos(now()),
            messages: NetSim::current().stat().msg_count,
            history: hash.finalize(),
        }
    }
}
