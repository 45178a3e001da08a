//! The drawing of a plan: each class has draws of its own.

use super::{Class, Crash, Down, Fault, Left, Moment, Operation, Planned};
use crate::draw::{Domain, Draw};
use crate::setup::{Region, Setup};

/// The faults of a run, by their instants.
#[must_use]
pub fn plan(setup: &Setup) -> Vec<Planned> {
    if let Some(plan) = &setup.plan {
        return plan.clone();
    }
    let mut planned = Vec::new();
    if setup.classes.contains(&Class::Byte) {
        planned.extend(byte(setup));
    }
    for &class in &setup.classes {
        let mut draw = Draw::new(setup.seed, Domain::Faults, &[class as u64]);
        let anew = setup.region == Some(Region::Disks) && class == Class::DiskLoss;
        let frequency = class.frequency() * if anew { 3 } else { 1 };
        let most = (frequency * setup.duration / TEN_SECONDS).max(2);
        let count = if frequency == 0 { 0 } else { draw.between(1, most) };
        for _ in 0..count {
            // Clients may be through with their work early, and some faults lie in wait for them.
            let waits =
                matches!(class, Class::Hunt | Class::Ambush | Class::Burden | Class::Estrange);
            let latest = if waits { setup.duration / 3 } else { setup.duration };
            let at = draw.below(latest);
            if class == Class::Swizzle {
                planned.extend(swizzle(setup, at, &mut draw));
            } else if let Some(fault) = one(class, setup, &mut draw) {
                planned.push(Planned { at, fault });
            }
        }
    }
    planned.sort_by_key(|planned| planned.at);
    planned
}

fn one(class: Class, setup: &Setup, draw: &mut Draw) -> Option<Fault> {
    let node = draw.pick(&setup.nodes).0;
    let lasts = draw.magnitude(5_000_000, 3_000_000_000);
    let moment = *draw.pick(&[Moment::Now, Moment::Answer, Moment::Elected]);
    let crash = |nodes, how| Fault::Crash { nodes, how, moment, lasts };
    // Without syncs, a power loss forgets what was acknowledged: only the victims may.
    let victim = (!setup.victims.is_empty()).then(|| draw.pick(&setup.victims).0);
    let all: Vec<u32> = setup.nodes.iter().map(|node| node.0).collect();
    Some(match class {
        Class::PowerLoss if setup.syncs_always() => crash(vec![node], Crash::Power),
        Class::PowerLoss => crash(vec![victim?], Crash::Power),
        Class::Blackout if setup.syncs_always() => crash(all, Crash::Power),
        Class::Blackout => crash(all, Crash::Kill),
        Class::Kill => crash(vec![node], Crash::Kill),
        Class::Stop => crash(vec![node], Crash::Stop),
        Class::Pause => Fault::Pause { node, lasts },
        Class::Partition | Class::OneWay | Class::Clog | Class::Isolate if all.len() < 2 => {
            return None;
        }
        Class::Partition | Class::OneWay | Class::Clog => {
            let (from, to) = sides(&all, draw);
            match class {
                Class::Clog => Fault::Clog { from, to, lasts },
                _ => Fault::Cut { from, to, both_ways: class == Class::Partition, lasts },
            }
        }
        Class::Isolate => {
            let to = all.into_iter().filter(|&other| other != node).collect();
            Fault::Cut { from: vec![node], to, both_ways: true, lasts }
        }
        Class::Loss | Class::Duplicate | Class::Reorder => storm(class, setup, draw, lasts),
        Class::Rot => Fault::Rot {
            node: victim?,
            salt: draw.below(1 << 48),
            bits: draw.magnitude(1, 8) as u32,
        },
        Class::ReadError => Fault::DiskError { node: victim?, operation: Operation::Read },
        // A failed write or sync stops the node with dirty data dropped, which without syncs forgets as
        // a power loss does.
        Class::WriteError | Class::SyncError => {
            let node = if setup.syncs_always() { node } else { victim? };
            let operation = match class {
                Class::WriteError => Operation::Write,
                _ => Operation::Sync,
            };
            Fault::DiskError { node, operation }
        }
        Class::DiskFull => {
            let spare = if draw.chance(1, 2) { 0 } else { draw.magnitude(4 << 10, 16 << 20) };
            Fault::DiskFull { node, spare, lasts }
        }
        Class::DiskSlow => Fault::DiskSlow { node, times: draw.magnitude(2, 100), lasts },
        Class::ClockStep => {
            let by = draw.magnitude(1_000_000, 3_600_000_000_000) as i64;
            Fault::ClockStep { node, by: if draw.chance(1, 2) { by } else { -by } }
        }
        Class::Ambush => Fault::Ambush { lasts: draw.between(setup.duration / 4, setup.duration) },
        Class::Hunt => {
            let group = hunted(setup, draw);
            Fault::Hunt { group, lasts: draw.between(setup.duration / 4, setup.duration) }
        }
        Class::Burden => {
            let group = hunted(setup, draw);
            let lasts = draw.between(setup.duration / 4, setup.duration);
            Fault::Burden { group, times: draw.magnitude(4, 64), lasts }
        }
        Class::Estrange => {
            let group = hunted(setup, draw);
            Fault::Estrange { group, lasts: draw.between(setup.duration / 4, setup.duration) }
        }
        Class::DiskLoss | Class::Misdirect if !setup.syncs_always() => return None,
        Class::DiskLoss => {
            let left = *draw.pick(LEFT);
            let admits = matches!(left, Left::Nothing | Left::Logs) && draw.chance(3, 4);
            let admitted_after = admits.then(|| draw.magnitude(1_000_000, setup.duration));
            Fault::DiskLoss { node: victim?, left, lasts, admitted_after }
        }
        Class::Move if all.len() <= usize::from(setup.replication) || setup.replication < 2 => {
            return None;
        }
        Class::Move => {
            let mut left = all;
            let mut to: Vec<u32> = (0..setup.replication)
                .map(|_| left.swap_remove(draw.below(left.len() as u64) as usize))
                .collect();
            to.sort_unstable();
            Fault::Move { shard: draw.below(u64::from(setup.shards)) as u16, to }
        }
        Class::Misdirect => Fault::Misdirect { node: victim?, salt: draw.below(1 << 48) },
        Class::Throttle | Class::Reset if all.len() < 2 => return None,
        Class::Throttle => {
            let (from, to) = sides(&all, draw);
            let bytes_per_second = draw.magnitude(8_000, 40_000_000);
            Fault::Throttle { from, to, bytes_per_second, lasts }
        }
        Class::Reset => {
            let (from, to) = sides(&all, draw);
            // A pause, a connection and its handshake.
            Fault::Reset { from, to, lasts: draw.magnitude(20_000_000, 600_000_000) }
        }
        Class::CrashLoop => {
            let power = setup.syncs_always() && draw.chance(1, 2);
            let how = if power { Crash::Power } else { Crash::Kill };
            Fault::CrashLoop { node, how, times: draw.between(2, 8) as u32 }
        }
        Class::ClockDrift | Class::Swizzle | Class::Echo | Class::Byte => return None,
    })
}

/// One byte of one node is changed, once in the run: most often while the node is down, so that the next boot meets it, or
/// under a running node that goes down later, or under one that never does.
fn byte(setup: &Setup) -> Vec<Planned> {
    let mut draw = Draw::new(setup.seed, Domain::Byte, &[]);
    if setup.victims.is_empty() || !setup.syncs_always() {
        return Vec::new();
    }
    let node = draw.pick(&setup.victims).0;
    // Clients may be through with their work early.
    let at = draw.between(setup.duration / 20, setup.duration / 3);
    let salt = draw.below(1 << 48);
    let how = *draw.pick(&[Crash::Power, Crash::Kill, Crash::Stop]);
    let lasts = draw.magnitude(1_000_000, 1_000_000_000);
    let when = draw.weighted(&[5, 4, 1]);
    let down = (when == 0).then_some(Down { how, lasts });
    let mut planned = vec![Planned { at, fault: Fault::Byte { node, salt, down } }];
    if when == 1 {
        let at = at + draw.magnitude(10_000, setup.duration / 4);
        let (nodes, moment) = (vec![node], Moment::Now);
        planned.push(Planned { at, fault: Fault::Crash { nodes, how, moment, lasts } });
    }
    planned
}

/// The group whose leaders a fault is after.
fn hunted(setup: &Setup, draw: &mut Draw) -> u32 {
    let group = draw.below(u64::from(setup.shards).min(HUNTED_SHARDS) + 1) as u32;
    // Where one group is busy, it is the one.
    if setup.region == Some(Region::Succession) { group.max(1) } else { group }
}

/// Some nodes are clogged one after another, and heal one after another in an order of its own.
fn swizzle(setup: &Setup, from: u64, draw: &mut Draw) -> Vec<Planned> {
    if setup.nodes.len() < 2 {
        return Vec::new();
    }
    let mut nodes: Vec<u32> = setup.nodes.iter().map(|node| node.0).collect();
    draw.shuffle(&mut nodes);
    nodes.truncate(draw.between(2, nodes.len() as u64) as usize);
    let step = draw.magnitude(2_000_000, 400_000_000);
    let mut heals: Vec<u64> = (1..=nodes.len() as u64).collect();
    draw.shuffle(&mut heals);
    let over = from + step * nodes.len() as u64;
    let choke = |(position, (node, heals)): (usize, (u32, u64))| {
        let at = from + step * position as u64;
        Planned { at, fault: Fault::Choke { node, lasts: over + step * heals - at } }
    };
    let all = nodes.into_iter().zip(heals).enumerate().map(choke);
    all.filter(|planned| planned.at < setup.duration).collect()
}

/// Two sides of the network, neither of them empty; now and then only some of the links between.
fn sides(all: &[u32], draw: &mut Draw) -> (Vec<u32>, Vec<u32>) {
    let mut shuffled = all.to_vec();
    draw.shuffle(&mut shuffled);
    let cut = draw.between(1, all.len() as u64 - 1) as usize;
    let mut to = shuffled.split_off(cut);
    if draw.chance(1, 3) {
        to.truncate(1);
    }
    (shuffled, to)
}

fn storm(class: Class, setup: &Setup, draw: &mut Draw, lasts: u64) -> Fault {
    let mut weather = setup.weather;
    match class {
        Class::Loss => weather.loss_ppm = draw.magnitude(1_000, 400_000) as u32,
        Class::Duplicate => {
            weather.duplicate_ppm = draw.magnitude(1_000, 300_000) as u32;
            weather.replay_ppm = draw.magnitude(1_000, 100_000) as u32;
        }
        _ => {
            weather.reorder = true;
            weather.delay *= draw.magnitude(1, 16);
        }
    }
    Fault::Storm { weather, lasts }
}

/// What a lost disk may leave, as often as it is drawn.
const LEFT: &[Left] = &[
    Left::Nothing,
    Left::Logs,
    Left::Superblock,
    Left::Superblock,
    Left::NoWal,
    Left::NoTable,
    Left::NoChunks,
];
const TEN_SECONDS: u64 = 10_000_000_000;
/// Hunts are for the meta group and the first shards: few, so that clients are at work there.
const HUNTED_SHARDS: u64 = 4;
