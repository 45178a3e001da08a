//! What kind of run a seed is: topology, settings, hardware, workload and which faults there are at all.
//!
//! Runs differ in kind, not only in their dice: one has five nodes, 64 shards, segments of a few pages
//! and nothing but clock trouble, the next has one node and a full disk. A seed file or the command line
//! may fix any of it ([`Overrides`]); the rest is drawn as if nothing were fixed, so that fixing one
//! thing does not change another.

mod region;

pub use region::{NO_REGION, Region};

use crate::choices::{Calm, Delivery, Knob, Step};
use crate::disk::Speed;
use crate::draw::{Domain, Draw};
use crate::faults::{Class, Planned};
use crate::net::Weather;
use crate::workload::Mix;
use crate::workload::mix::RACES;
use ironseed_core::machine::{Duration, Instant};
use ironseed_core::node::api::{Config, Engine, FsyncPolicy, Tuning};
use ironseed_core::planted::{self, Planted, Point};
use ironseed_core::types::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a seed file or the command line fixes of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// How many nodes: 1, 3, 5 or 7.
    pub nodes: Option<u32>,
    /// How many shards: a power of two up to 256.
    pub shards: Option<u16>,
    /// How many lanes.
    pub lanes: Option<u16>,
    /// How long clients and faults go on: simulated milliseconds.
    pub millis: Option<u64>,
    /// Which workload, by its name in the counts.
    pub workload: Option<String>,
    /// Which region of runs it is of, or [`NO_REGION`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How many clients.
    pub clients: Option<u32>,
    /// How many operations all clients begin together at the most.
    pub operations: Option<u64>,
    /// Which classes of faults there are; an empty list for none.
    pub faults: Option<Vec<Class>>,
    /// What is not left to chance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calm: Vec<Calm>,
    /// Names the draws of deliveries, latencies and elections in place of the seed.
    pub luck: Option<u64>,
    /// When everything heals, in place of the end of `millis`: world nanoseconds.
    pub heals: Option<u64>,
    /// The network without faults.
    pub weather: Option<Weather>,
    /// Which nodes keep their records in an engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engines: Option<BTreeSet<u32>>,
    /// Sizes and times of nodes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tuning: BTreeMap<Knob, u64>,
    /// The faults themselves, in place of those drawn.
    pub plan: Option<Vec<Planned>>,
    /// What clients do before everything heals, in place of what they would draw. The load then lasts its
    /// full time.
    pub script: Option<Vec<Step>>,
    /// What nodes are forced to, by the names of [`Point`], and how often: of 1024 occasions. Only in builds that
    /// have the points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<BTreeMap<String, u16>>,
    /// What becomes of these messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<Delivery>,
}

impl Overrides {
    /// Whether it fixes things to what they can be.
    ///
    /// # Errors
    /// The first that they can't be, for people.
    pub fn check(&self) -> Result<(), String> {
        let refuse = |good: bool, what: &str| if good { Ok(()) } else { Err(what.to_owned()) };
        refuse(self.nodes.is_none_or(|nodes| (1..=7).contains(&nodes)), "`nodes`: from 1 to 7")?;
        let shards = self.shards.unwrap_or(1);
        let power = shards.is_power_of_two() && shards <= 256;
        refuse(power, "`shards`: a power of two up to 256")?;
        let lanes = self.lanes.unwrap_or(1);
        refuse((1..=64).contains(&lanes), "`lanes`: from 1 to 64")?;
        let millis = self.millis.unwrap_or(1);
        refuse((1..=3_600_000).contains(&millis), "`millis`: from 1 to 3600000")?;
        refuse(
            self.heals.is_none_or(|at| at <= 3_600_000_000_000),
            "`heals`: an hour of nanoseconds at the most",
        )?;
        let kind = self.workload.as_deref().unwrap_or("kv");
        refuse(Mix::has_kind(kind), &format!("`workload`: there is no {kind:?}"))?;
        let region = self.region.as_deref().unwrap_or(NO_REGION);
        let known = region == NO_REGION || Region::named(region).is_some();
        refuse(known, &format!("`region`: there is no {region:?}"))?;
        let clients = self.clients.unwrap_or(1);
        refuse((1..=1_000).contains(&clients), "`clients`: from 1 to 1000")?;
        let delay = self.weather.map_or(1_000_000, |weather| weather.delay);
        refuse(
            (1_000..=1_000_000_000).contains(&delay),
            "`weather`: a delay from 1000 to 1000000000 nanoseconds",
        )?;
        for (knob, value) in &self.tuning {
            let range = knob.range();
            let what = format!("`tuning`: {knob:?} is {value}, and may be from {range:?}");
            refuse(range.contains(value), &what)?;
        }
        for (name, rate) in self.points.iter().flatten() {
            refuse(point(name).is_some(), &format!("`points`: there is no {name:?}"))?;
            let good = *rate <= planted::OCCASIONS;
            refuse(good, &format!("`points`: {name} {rate}, of {}", planted::OCCASIONS))?;
            let here = planted::COMPILED_IN || *rate == 0;
            refuse(here, "`points`: not in this build, add --features planted-bugs")?;
        }
        for step in self.script.iter().flatten() {
            let what = format!("`script`: client {} or number {}", step.client, step.number);
            let good = step.client < 1_000 && (1..1 << 31).contains(&step.number);
            refuse(good, &format!("{what} is out of range"))?;
        }
        Ok(())
    }
}

/// The point of this name.
fn point(name: &str) -> Option<Point> {
    Point::ALL.iter().copied().find(|point| point.name() == name)
}

/// How a node stays broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// It is down.
    Down,
    /// It hears nobody and is not heard.
    Isolated,
    /// It hears nobody; what it says is heard.
    Deaf,
    /// Nobody hears it; it hears the others.
    Mute,
}

/// Nodes that stay broken when everything else has healed: never more than the others can do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Which.
    pub nodes: Vec<NodeId>,
    /// How.
    pub how: Frozen,
}

impl Rest {
    /// One run in two has a rest: some of those whose disks may rot, so that no copy is missing twice.
    fn draw(draw: &mut Draw, victims: &[NodeId]) -> Option<Self> {
        if victims.is_empty() || draw.chance(1, 2) {
            return None;
        }
        let count = draw.between(1, victims.len() as u64) as usize;
        let how = *draw.pick(&[Frozen::Down, Frozen::Isolated, Frozen::Deaf, Frozen::Mute]);
        Some(Self { nodes: victims[..count].to_vec(), how })
    }
}

/// A run's kind.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Names every draw of the run.
    pub seed: u64,
    /// All nodes.
    pub nodes: Vec<NodeId>,
    /// Which region of runs it is of.
    pub region: Option<Region>,
    /// How many shards.
    pub shards: u16,
    /// Replicas of a shard.
    pub replication: u8,
    /// Lanes of every node.
    pub lanes: u16,
    /// When nodes sync.
    pub fsync: FsyncPolicy,
    /// Nodes that keep their records in an engine.
    pub engines: BTreeSet<NodeId>,
    /// Sizes and times of every node.
    pub tuning: Tuning,
    /// How long clients and faults go on: nanoseconds.
    pub duration: u64,
    /// The bound that nodes are told for their wall clocks: nanoseconds.
    pub clock_bound: u64,
    /// Drift of each node's monotonic clock, parts per million, in the order of `nodes`.
    pub drift_ppm: Vec<i64>,
    /// Each node's disk, in the order of `nodes`.
    pub disks: Vec<Speed>,
    /// The network without faults.
    pub weather: Weather,
    /// Which faults there are.
    pub classes: BTreeSet<Class>,
    /// Nodes whose disks may rot or fail reads: always fewer than a quorum can spare.
    pub victims: Vec<NodeId>,
    /// What clients do.
    pub mix: Mix,
    /// Whether the run goes on after the proof until all leases have run out, to see that everything is collected.
    pub outlives_leases: bool,
    /// Who stays broken after the healing until the others have done without.
    pub rest: Option<Rest>,
    /// The faults themselves, if they are not drawn.
    pub plan: Option<Vec<Planned>>,
    /// What clients do, if it is not drawn.
    pub script: Option<Vec<Step>>,
    /// Messages whose fate is not drawn.
    pub deliveries: Vec<Delivery>,
    /// What is not left to chance.
    pub calm: BTreeSet<Calm>,
    /// What nodes are forced to, and how often.
    pub points: BTreeMap<Point, u16>,
    /// Names the draws of deliveries, latencies and elections.
    pub luck: u64,
}

impl Setup {
    /// The kind of this seed.
    #[must_use]
    pub fn draw(seed: u64, overrides: &Overrides) -> Self {
        let aim = Region::draw(seed, overrides);
        let mut draw = Draw::new(seed, Domain::Setup, &[]);
        let count = [1, 3, 5][draw.weighted(&[2, 7, 2])];
        let count = aim.as_ref().map_or(count, |aim| aim.nodes);
        let count = overrides.nodes.unwrap_or(count).clamp(1, 7);
        let nodes: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let shards = 1 << draw.weighted(&[10, 6, 5, 4, 3, 2, 1, 1, 1]);
        let shards = aim.as_ref().map_or(shards, |aim| aim.shards);
        let shards = overrides.shards.unwrap_or(shards);
        let lanes = overrides.lanes.unwrap_or(1 << draw.weighted(&[4, 2, 1]));
        let replication = *draw.pick(&[3, 3, 5]);
        let replication = aim.as_ref().map_or(replication, |aim| aim.replication);
        let replication = replication.min(if count >= 5 {
            5
        } else if count >= 3 {
            3
        } else {
            1
        });
        let millis = match draw.weighted(&[6, 3, 1]) {
            0 => draw.between(2_000, 4_000),
            1 => draw.between(4_000, 9_000),
            _ => draw.between(9_000, 20_000),
        };
        let millis = aim.as_ref().map_or(millis, |aim| aim.millis);
        let millis = overrides.millis.unwrap_or(millis);
        let mut names = Draw::new(seed, Domain::Setup, &[1]);
        let races = Draw::new(seed, Domain::Setup, &[7]).chance(1, 8);
        let kind = aim.as_ref().map(|aim| aim.workload).or(races.then_some(RACES));
        let kind = overrides.workload.as_deref().or(kind);
        let classes = match (&overrides.faults, &aim) {
            (Some(classes), _) => classes.iter().copied().collect(),
            (None, Some(aim)) => aim.classes.clone(),
            (None, None) => draw_classes(&mut names, seed, count, kind == Some(RACES)),
        };
        let calm: BTreeSet<Calm> = overrides.calm.iter().copied().collect();
        let mut hardware = Draw::new(seed, Domain::Setup, &[2]);
        let quick = aim.as_ref().and_then(|aim| aim.quick);
        let speed = draw_speed(&mut hardware);
        let speed = quick.map_or(speed, |(_, speed)| speed);
        // A disk of its own kind now and then: one slow follower is a fault of its own.
        let disk = |node| {
            let mut own = Draw::new(seed, Domain::Setup, &[10, u64::from(node)]);
            if own.chance(1, 4) && quick.is_none() { draw_speed(&mut own) } else { speed }
        };
        let disk = |node: &NodeId| match calm.contains(&Calm::Disks) {
            true => CALM_DISK,
            false => disk(node.0),
        };
        let delay = hardware.magnitude(20_000, 4_000_000);
        let weather = Weather::calm(quick.map_or(delay, |(delay, _)| delay));
        let weather = overrides.weather.unwrap_or(weather);
        let mut victims = nodes.clone();
        victims.sort_by_key(|node| Draw::new(seed, Domain::Setup, &[11, u64::from(node.0)]).next());
        victims.truncate(usize::from(replication) / 2);
        let mut tuning = draw_tuning(&mut Draw::new(seed, Domain::Setup, &[3]), weather.delay);
        let succession = aim.as_ref().is_some_and(|aim| aim.region == Region::Succession);
        let leases = aim.as_ref().is_some_and(|aim| aim.region == Region::Leases);
        if leases {
            tune_for_leases(&mut tuning, &mut Draw::new(seed, Domain::Setup, &[20]), weather.delay);
        } else if classes.contains(&Class::Hunt) || succession {
            tune_for_hunts(&mut tuning, &mut Draw::new(seed, Domain::Setup, &[6]), weather.delay);
        }
        draw_fetches(&mut tuning, seed);
        if calm.contains(&Calm::Tuning) {
            tuning = calm_tuning(&tuning);
        }
        tuning.max_clock_drift_ppm = draw_leases(seed, overrides, aim.as_ref());
        tuning.reads_nearest = draw_nearest(seed, overrides, aim.as_ref());
        draw_scrub(&mut tuning, seed, overrides);
        draw_index(&mut tuning, seed, overrides);
        overrides.tuning.iter().for_each(|(knob, value)| knob.set(&mut tuning, *value));
        let drifts = classes.contains(&Class::ClockDrift);
        let drift = |node: &NodeId| match calm.contains(&Calm::Clocks) {
            true => 0,
            false => draw_drift(seed, *node, tuning.max_clock_drift_ppm, drifts),
        };
        let mut drift_ppm: Vec<i64> = nodes.iter().map(drift).collect();
        let wrong = leases && !calm.contains(&Calm::Clocks);
        if let (true, Some(bound)) = (wrong, tuning.max_clock_drift_ppm.map(i64::from)) {
            // Leadership is given to the last of the nodes, other things being equal: a slow clock there and fast ones where another
            // is elected are as far apart as clocks may be.
            let slow = |at| if at + 1 == nodes.len() { -bound } else { bound };
            drift_ppm = (0..nodes.len()).map(slow).collect();
        }
        let clock_bound = hardware.magnitude(1_000, 100_000_000);
        let fsync = draw_fsync(&mut hardware, &tuning);
        let mut mix = Mix::draw(&mut Draw::new(seed, Domain::Setup, &[4]), shards, kind);
        if let Some(aim) = &aim {
            mix.narrow(&mut aim.draw.clone());
        }
        mix.clients = overrides.clients.unwrap_or(mix.clients);
        let scripted = overrides.script.iter().flatten().map(|step| step.client + 1).max();
        mix.clients = mix.clients.max(scripted.unwrap_or(0));
        mix.operations_max = overrides.operations.unwrap_or(mix.operations_max);
        mix.spread(millis * 1_000_000);
        mix.steady = calm.contains(&Calm::Clients);
        let leases = aim.is_none() && Draw::new(seed, Domain::Setup, &[8]).chance(1, 5);
        let fsync =
            if calm.contains(&Calm::Syncs) || aim.is_some() { FsyncPolicy::Always } else { fsync };
        // Where nodes forget what they promised, all of them may be needed.
        let rest = (fsync == FsyncPolicy::Always)
            .then(|| Rest::draw(&mut Draw::new(seed, Domain::Setup, &[12]), &victims));
        let rest = rest.flatten();
        let given = overrides.faults.is_some() || overrides.plan.is_some();
        let region = aim.as_ref().map(|aim| aim.region);
        let engines = match &overrides.engines {
            Some(given) => nodes.iter().copied().filter(|node| given.contains(&node.0)).collect(),
            None if given || region == Some(Region::Bytes) => BTreeSet::new(),
            None => draw_engines(seed, &nodes, region),
        };
        Self {
            seed,
            engines,
            drift_ppm,
            disks: nodes.iter().map(disk).collect(),
            nodes,
            region,
            shards,
            replication,
            lanes,
            fsync,
            tuning,
            duration: overrides.heals.unwrap_or(millis * 1_000_000),
            clock_bound: if calm.contains(&Calm::Clocks) { CALM_CLOCK_BOUND } else { clock_bound },
            weather,
            classes,
            victims,
            mix,
            outlives_leases: leases && !calm.contains(&Calm::Leases),
            rest: rest.filter(|_| !calm.contains(&Calm::Rest)),
            plan: overrides.plan.clone(),
            script: overrides.script.clone(),
            deliveries: overrides.deliveries.clone(),
            points: match &aim {
                Some(aim) if planted::COMPILED_IN && overrides.points.is_none() => {
                    aim.points.clone()
                }
                _ => draw_points(seed, overrides, shards, leases),
            },
            luck: overrides.luck.unwrap_or(seed),
            calm,
        }
    }

    /// Whether this is not left to chance.
    #[must_use]
    pub fn is_calm(&self, what: Calm) -> bool {
        self.calm.contains(&what)
    }

    /// What a node is told at the boot of this name. Everything heals at `heals_at` by its clock, at the latest.
    #[must_use]
    pub fn config(&self, me: NodeId, boot: u64, planted: Planted, heals_at: Instant) -> Config {
        let mut draw = Draw::new(self.luck, Domain::Boot, &[u64::from(me.0), boot]);
        let mut forced = Draw::new(self.luck, Domain::Points, &[u64::from(me.0), boot]);
        let points = self.points.iter().map(|(point, rate)| (*point, *rate));
        let planted = match self.points.is_empty() {
            true => planted,
            false => planted.forcing(forced.next(), points, heals_at),
        };
        Config {
            me,
            nodes: self.nodes.clone(),
            shards: self.shards,
            replication: self.replication,
            lanes: self.lanes,
            fsync: self.fsync,
            // Any but its own: what is simulated is what all of them promise.
            engine: if self.engines.contains(&me) { Engine::Fjall } else { Engine::Native },
            tuning: self.tuning.clone(),
            seed: draw.next(),
            planted,
        }
    }

    /// Whether an acknowledged write is durable on a quorum before it is acknowledged.
    #[must_use]
    pub fn syncs_always(&self) -> bool {
        self.fsync == FsyncPolicy::Always
    }

    /// One line for people, and the key under which like runs are counted.
    #[must_use]
    pub fn topology(&self) -> String {
        format!("{} nodes, {} shards", self.nodes.len(), self.shards)
    }
}

/// Each class is in one run of three, hunts in one of six, and one run of twelve has no faults: what fails there fails
/// without an excuse.
/// Clients that race with deletions of buckets (`races`) are always ambushed. Late classes are in one run of five.
fn draw_classes(draw: &mut Draw, seed: u64, nodes: u32, races: bool) -> BTreeSet<Class> {
    let mut late = Draw::new(seed, Domain::Setup, &[13]);
    let quiet = draw.chance(1, 12);
    let rate = draw.between(15, 50);
    // Hunted groups get little else done.
    let rate_of = |class| if class == Class::Hunt { rate / 2 } else { rate };
    Class::ALL
        .iter()
        .copied()
        .filter(|class| !class.is_regional())
        .filter(|class| match class.is_late() {
            true => late.chance(1, 5),
            false => draw.chance(rate_of(*class), 100) || *class == Class::Ambush && races,
        })
        .filter(|class| !quiet && (nodes > 1 || !class.needs_peers()))
        .collect()
}

/// Every other run of a build that has fault points has some of them, unless its faults are given: what is given is
/// all there is. Only who has led for long collects: where leases are to run out (`leases`) nobody is made to step down.
/// And some are for few groups ([`suits_many_groups`]).
fn draw_points(
    seed: u64,
    overrides: &Overrides,
    shards: u16,
    leases: bool,
) -> BTreeMap<Point, u16> {
    let mut draw = Draw::new(seed, Domain::Setup, &[14]);
    if let Some(points) = &overrides.points {
        return points.iter().filter_map(|(name, rate)| Some((point(name)?, *rate))).collect();
    }
    let given = overrides.faults.is_some() || overrides.plan.is_some();
    if !planted::COMPILED_IN || given || draw.chance(1, 2) {
        return BTreeMap::new();
    }
    let share = draw.between(1, 4);
    let one = |point: &Point| {
        let rate = draw.magnitude(1, u64::from(point.often())) as u16;
        draw.chance(share, 6).then_some((*point, rate))
    };
    let mut points: BTreeMap<Point, u16> = Point::ALL.iter().filter_map(one).collect();
    points.retain(|point, _| !leases || !point.moves_leaders());
    if shards > SHARDS_OF_SLOW_POINTS_MAX {
        points.retain(|point, _| suits_many_groups(*point));
    }
    points
}

/// Whether a cluster of many groups gets on with it. The votes of hundreds of groups, each synced alone, outlast any
/// election; and a listing asks all of them, and finds some whose leader goes, or refuses it, every time.
const fn suits_many_groups(point: Point) -> bool {
    !matches!(point, Point::BatchOne | Point::ReadElsewhere) && !point.moves_leaders()
}

/// Up to here groups are few.
const SHARDS_OF_SLOW_POINTS_MAX: u16 = 16;

fn draw_speed(draw: &mut Draw) -> Speed {
    Speed {
        write: draw.magnitude(2_000, 40_000),
        sync: draw.magnitude(50_000, 6_000_000),
        read: draw.magnitude(10_000, 400_000),
    }
}

fn draw_fsync(draw: &mut Draw, tuning: &Tuning) -> FsyncPolicy {
    match draw.weighted(&[18, 1, 1]) {
        0 => FsyncPolicy::Always,
        1 => FsyncPolicy::Interval(tuning.heartbeat * 2),
        _ => FsyncPolicy::Never,
    }
}

/// Small on purpose: the rare paths of production (rotation, compaction, snapshots, slices that end in the
/// middle) are to be the common ones here. Times follow the network's, or nothing would ever be elected.
fn draw_tuning(draw: &mut Draw, delay: u64) -> Tuning {
    let heartbeat = Duration(draw.magnitude(20_000_000, 100_000_000).max(delay * 8));
    let small = draw.chance(2, 3);
    let of = |draw: &mut Draw, small_range: (u64, u64), big: u64| {
        if small { draw.magnitude(small_range.0, small_range.1) } else { big }
    };
    Tuning {
        block_bytes: if draw.chance(1, 2) { 512 } else { 4096 },
        shuffle_lanes: draw.chance(1, 2),
        heartbeat,
        election: heartbeat * draw.between(3, 6),
        quiesce_after: heartbeat * draw.magnitude(3, 40),
        // A command may be a megabyte by contract and is a fifth of it here; a chunk is a megabyte; and no
        // batch crosses segments.
        wal_segment_bytes: of(draw, (512 << 10, 4 << 20), 8 << 20).next_multiple_of(4096),
        table_segment_bytes: of(draw, (512 << 10, 4 << 20), 8 << 20).next_multiple_of(4096),
        chunk_segment_bytes: of(draw, (3 << 20, 8 << 20), 16 << 20).next_multiple_of(4096),
        log_bytes_max: of(draw, (8 << 10, 1 << 20), 8 << 20),
        wal_segments_max: draw.between(2, 4),
        checkpoint_every: Duration::from_millis(of(draw, (50, 2_000), 5_000)),
        append_bytes_max: of(draw, (512, 64 << 10), 512 << 10),
        append_inflight_max: draw.magnitude(1, 64) as u32,
        snapshot_slice_bytes: of(draw, (256, 64 << 10), 256 << 10),
        snapshot_bytes_max: 4 << 20,
        slice_items: of(draw, (1, 64), 512) as u32,
        requests_max: of(draw, (4, 1024), 16_384) as u32,
        request_timeout: Duration::from_millis(draw.magnitude(1_000, 15_000)),
        max_clock_drift_ppm: None,
        reads_nearest: false,
        scrub_bytes_per_second: 0,
        scrub_every: Duration::from_secs(1),
        index_bytes_min: 0,
        index_bytes_per_second: 1 << 20,
    }
}

/// Every other run writes snapshots of the index, often. What is given is all there is.
fn draw_index(tuning: &mut Tuning, seed: u64, overrides: &Overrides) {
    let mut draw = Draw::new(seed, Domain::Setup, &[23]);
    let given = overrides.faults.is_some() || overrides.plan.is_some();
    let least = draw.magnitude(256, 256 << 10);
    tuning.index_bytes_per_second = draw.magnitude(16 << 10, 64 << 20);
    tuning.index_bytes_min = if given || draw.chance(1, 2) { 0 } else { least };
}

/// In one of six runs some of the nodes keep their records in an engine, or all; in one of two where disks are what it is about.
fn draw_engines(seed: u64, nodes: &[NodeId], region: Option<Region>) -> BTreeSet<NodeId> {
    let mut draw = Draw::new(seed, Domain::Setup, &[26]);
    let any = draw.chance(if region == Some(Region::Disks) { 3 } else { 1 }, 6);
    let all = draw.chance(1, 3);
    nodes.iter().copied().filter(|_| any && (draw.chance(1, 2) || all)).collect()
}

/// Every other run scrubs, fast enough for several rounds. What is given is all there is.
fn draw_scrub(tuning: &mut Tuning, seed: u64, overrides: &Overrides) {
    let mut draw = Draw::new(seed, Domain::Setup, &[22]);
    let given = overrides.faults.is_some() || overrides.plan.is_some();
    let rate = draw.magnitude(8 << 20, 1 << 30);
    tuning.scrub_every = Duration(draw.magnitude(50_000_000, 5_000_000_000));
    tuning.scrub_bytes_per_second = if given || draw.chance(1, 2) { 0 } else { rate };
}

/// How many states are fetched at a time: one, often, and seldom as many as there are groups.
fn draw_fetches(tuning: &mut Tuning, seed: u64) {
    let fetches = Draw::new(seed, Domain::Setup, &[24]).magnitude(1, 32);
    tuning.snapshot_bytes_max = tuning.snapshot_slice_bytes * fetches;
}

/// What operators promise of clocks, where they do: one run in four has leases, and most of a region whose leaders follow one
/// another. What is given is all there is.
fn draw_leases(seed: u64, overrides: &Overrides, aim: Option<&region::Aim>) -> Option<u32> {
    let mut draw = Draw::new(seed, Domain::Setup, &[17]);
    let given = overrides.faults.is_some() || overrides.plan.is_some();
    let (rate, least) = match aim.map(|aim| aim.region) {
        Some(Region::Leases) => (12, 50_000),
        Some(Region::Succession) => (4, 100),
        _ if given => (0, 100),
        _ => (3, 100),
    };
    let ppm = draw.magnitude(least, LEASE_DRIFT_PPM_MAX);
    draw.chance(rate, 12).then_some(ppm as u32)
}

/// In one run of three replicas answer reads without leading, and seldom in a region of leases, which they do without. What is
/// given is all there is.
fn draw_nearest(seed: u64, overrides: &Overrides, aim: Option<&region::Aim>) -> bool {
    let mut draw = Draw::new(seed, Domain::Setup, &[25]);
    let rate = match aim.map(|aim| aim.region) {
        Some(Region::Leases) => 1,
        None if overrides.faults.is_some() || overrides.plan.is_some() => 0,
        _ => 4,
    };
    draw.chance(rate, 12)
}

/// By how many millionths a node's clock runs wrong. Where leases rest on a bound it is never more, and often just that: some
/// clocks as fast as they may be, and some as slow. Without them now and then far beyond any bound that would be promised.
fn draw_drift(seed: u64, node: NodeId, bound: Option<u32>, drifts: bool) -> i64 {
    // Each node has draws of its own: with fewer of them, the others stay what they are.
    let mut own = Draw::new(seed, Domain::Setup, &[9, u64::from(node.0)]);
    let mut far = Draw::new(seed, Domain::Setup, &[18, u64::from(node.0)]);
    let wild = Draw::new(seed, Domain::Setup, &[18]).chance(1, 3);
    let within = |draw: &mut Draw, bound: i64| draw.below(2 * bound as u64 + 1) as i64 - bound;
    match bound.map(i64::from) {
        Some(bound) => match far.below(3) {
            0 => bound,
            1 => -bound,
            _ => within(&mut far, bound),
        },
        None if drifts && wild => within(&mut far, LEASE_DRIFT_PPM_MAX as i64),
        None if drifts => within(&mut own, 500),
        None => 0,
    }
}

/// The most that clocks of a run drift.
const LEASE_DRIFT_PPM_MAX: u64 = 100_000;

/// Production's sizes, with the times that this run's network needs.
fn calm_tuning(drawn: &Tuning) -> Tuning {
    Tuning {
        heartbeat: drawn.heartbeat,
        election: drawn.heartbeat * 4,
        quiesce_after: drawn.heartbeat * 20,
        max_clock_drift_ppm: drawn.max_clock_drift_ppm,
        // Production's segments are there for disks, and would only be written out in full here.
        wal_segment_bytes: 8 << 20,
        table_segment_bytes: 8 << 20,
        chunk_segment_bytes: 16 << 20,
        ..Tuning::default()
    }
}

/// A disk that nobody notices.
const CALM_DISK: Speed = Speed { write: 10_000, sync: 500_000, read: 50_000 };
/// Nanoseconds.
const CALM_CLOCK_BOUND: u64 = 1_000_000;

/// Where leaders are hunted there are to be many of them, and what each inherits from those before is to
/// reach the others entry by entry.
fn tune_for_hunts(tuning: &mut Tuning, draw: &mut Draw, delay: u64) {
    if draw.chance(2, 3) {
        tuning.append_bytes_max = 1;
        tuning.append_inflight_max = draw.between(1, 2) as u32;
    }
    if draw.chance(2, 3) {
        tuning.heartbeat = Duration((delay * 8).max(20_000_000));
        tuning.election = tuning.heartbeat * draw.between(3, 4);
    }
}

/// Where clocks run wrong, the time by which they are apart at the end of a lease is to be long enough to elect somebody, and to
/// write.
fn tune_for_leases(tuning: &mut Tuning, draw: &mut Draw, delay: u64) {
    tuning.heartbeat = Duration((delay * 8).max(draw.between(20_000_000, 60_000_000)));
    tuning.election = tuning.heartbeat * draw.between(4, 7);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_kind_and_seeds_differ_in_kind() {
        let kind = |seed| format!("{:?}", Setup::draw(seed, &Overrides::default()));
        assert_eq!(kind(5), kind(5));
        let setups: Vec<Setup> =
            (0..500).map(|seed| Setup::draw(seed, &Overrides::default())).collect();
        let topologies: BTreeSet<String> = setups.iter().map(Setup::topology).collect();
        assert!(topologies.len() > 15, "{topologies:?}");
        // Bytes are changed where somebody asks for it.
        for class in Class::ALL.iter().filter(|class| **class != Class::Byte) {
            let with = setups.iter().filter(|setup| setup.classes.contains(class)).count();
            let least = if *class == Class::Hunt || class.is_regional() { 25 } else { 30 };
            assert!((least..350).contains(&with), "{class:?} in {with} of 500 runs");
        }
        assert!(setups.iter().any(|setup| setup.classes.is_empty()));
    }

    #[test]
    fn no_run_has_more_victims_than_its_quorums_can_spare() {
        for seed in 0..500 {
            let setup = Setup::draw(seed, &Overrides::default());
            assert!(setup.victims.len() * 2 < setup.nodes.len(), "seed {seed}");
            assert!(usize::from(setup.replication) <= setup.nodes.len());
            let spare = usize::from(setup.replication) / 2;
            assert!(setup.victims.len() <= spare, "seed {seed}: {:?}", setup.victims);
            assert!(setup.shards.is_power_of_two() && setup.shards <= 256);
        }
    }

    #[test]
    fn points_that_many_groups_do_not_survive_are_for_few() {
        let many = |setup: &Setup| setup.shards > SHARDS_OF_SLOW_POINTS_MAX;
        let setups = (0..1000).map(|seed| Setup::draw(seed, &Overrides::default()));
        let (many, few): (Vec<Setup>, Vec<Setup>) = setups.partition(many);
        for point in Point::ALL {
            let of = |setups: &[Setup]| setups.iter().any(|it| it.points.contains_key(point));
            assert_eq!(of(&few), planted::COMPILED_IN, "{point:?}");
            assert_eq!(of(&many), planted::COMPILED_IN && suits_many_groups(*point), "{point:?}");
        }
    }

    #[test]
    fn an_override_changes_what_it_says_and_nothing_else() {
        let plain = Setup::draw(9, &Overrides::default());
        let fixed = Setup::draw(9, &Overrides { shards: Some(128), ..Overrides::default() });
        assert_eq!(fixed.shards, 128);
        assert_eq!(plain.nodes, fixed.nodes);
        assert_eq!(plain.classes, fixed.classes);
        assert_eq!(plain.duration, fixed.duration);
        assert_eq!(format!("{:?}", plain.tuning), format!("{:?}", fixed.tuning));
    }
}
