//! Simpler faults, smaller clusters and shorter runs: what might do in place of what is there.

use crate::faults::{self, Crash, Down, Fault, Left, Moment, Planned};
use crate::net::Weather;
use crate::setup::{Overrides, Setup};

/// What might do in place of a fault, the simplest first.
pub(super) fn faults(planned: &Planned) -> Vec<Planned> {
    let at = planned.at;
    let mut simpler: Vec<Fault> = Vec::new();
    match &planned.fault {
        Fault::Crash { nodes, how, moment, lasts } => {
            let crash =
                |nodes: Vec<u32>, how, moment, lasts| Fault::Crash { nodes, how, moment, lasts };
            for fewer in fewer(nodes) {
                simpler.push(crash(fewer, *how, *moment, *lasts));
            }
            if *how == Crash::Stop {
                simpler.push(crash(nodes.clone(), Crash::Kill, *moment, *lasts));
            }
            if *moment != Moment::Now {
                simpler.push(crash(nodes.clone(), *how, Moment::Now, *lasts));
            }
            for shorter in shorter(*lasts) {
                simpler.push(crash(nodes.clone(), *how, *moment, shorter));
            }
        }
        Fault::Cut { from, to, both_ways, lasts } => {
            let cut = |from: Vec<u32>, to: Vec<u32>, both_ways, lasts| Fault::Cut {
                from,
                to,
                both_ways,
                lasts,
            };
            simpler.extend(
                fewer(from).into_iter().map(|from| cut(from, to.clone(), *both_ways, *lasts)),
            );
            simpler
                .extend(fewer(to).into_iter().map(|to| cut(from.clone(), to, *both_ways, *lasts)));
            simpler.extend(
                shorter(*lasts).map(|lasts| cut(from.clone(), to.clone(), *both_ways, lasts)),
            );
        }
        Fault::Clog { from, to, lasts } => {
            let clog = |from: Vec<u32>, to: Vec<u32>, lasts| Fault::Clog { from, to, lasts };
            simpler.extend(fewer(from).into_iter().map(|from| clog(from, to.clone(), *lasts)));
            simpler.extend(fewer(to).into_iter().map(|to| clog(from.clone(), to, *lasts)));
            simpler.extend(shorter(*lasts).map(|lasts| clog(from.clone(), to.clone(), lasts)));
        }
        Fault::Rot { node, salt, bits } if *bits > 1 => {
            simpler.push(Fault::Rot { node: *node, salt: *salt, bits: 1 });
        }
        Fault::Rot { .. }
        | Fault::DiskError { .. }
        | Fault::Misdirect { .. }
        | Fault::Move { .. } => {}
        Fault::Byte { node, salt, down } => {
            if let Some(Down { how, lasts }) = *down {
                let (node, salt) = (*node, *salt);
                let byte = |how, lasts| {
                    let down = Some(Down { how, lasts });
                    Fault::Byte { node, salt, down }
                };
                if how == Crash::Stop {
                    simpler.push(byte(Crash::Kill, lasts));
                }
                simpler.extend(shorter(lasts).map(|lasts| byte(how, lasts)));
            }
        }
        Fault::DiskLoss { node, left, lasts, admitted_after } => {
            let (node, admitted_after) = (*node, *admitted_after);
            let loss = |left, lasts| Fault::DiskLoss { node, left, lasts, admitted_after };
            if admitted_after.is_some() {
                let (left, lasts, admitted_after) = (*left, *lasts, None);
                simpler.push(Fault::DiskLoss { node, left, lasts, admitted_after });
            }
            if *left != Left::Superblock {
                simpler.push(loss(Left::Superblock, *lasts));
            }
            simpler.extend(shorter(*lasts).map(|lasts| loss(*left, lasts)));
        }
        Fault::Throttle { from, to, bytes_per_second, lasts } => {
            let throttle = |from: Vec<u32>, to: Vec<u32>, lasts| {
                let bytes_per_second = *bytes_per_second;
                Fault::Throttle { from, to, bytes_per_second, lasts }
            };
            simpler.extend(fewer(from).into_iter().map(|from| throttle(from, to.clone(), *lasts)));
            simpler.extend(fewer(to).into_iter().map(|to| throttle(from.clone(), to, *lasts)));
            simpler.extend(shorter(*lasts).map(|lasts| throttle(from.clone(), to.clone(), lasts)));
        }
        Fault::Reset { from, to, lasts } => {
            let reset = |from: Vec<u32>, to: Vec<u32>, lasts| Fault::Reset { from, to, lasts };
            simpler.extend(fewer(from).into_iter().map(|from| reset(from, to.clone(), *lasts)));
            simpler.extend(fewer(to).into_iter().map(|to| reset(from.clone(), to, *lasts)));
            simpler.extend(shorter(*lasts).map(|lasts| reset(from.clone(), to.clone(), lasts)));
        }
        Fault::Choke { node, lasts } => {
            simpler.extend(shorter(*lasts).map(|lasts| Fault::Choke { node: *node, lasts }));
        }
        Fault::CrashLoop { node, how, times } if *times > 1 => {
            for times in [1, times / 2] {
                simpler.push(Fault::CrashLoop { node: *node, how: *how, times });
            }
        }
        Fault::CrashLoop { .. } => {}
        Fault::ClockStep { node, by } if by.abs() > 10_000_000 => {
            simpler.push(Fault::ClockStep { node: *node, by: by / 10 });
        }
        Fault::ClockStep { .. } => {}
        Fault::DiskSlow { node, times, lasts } => {
            if *times > 3 {
                simpler.push(Fault::DiskSlow { node: *node, times: times / 2, lasts: *lasts });
            }
            let slow = |lasts| Fault::DiskSlow { node: *node, times: *times, lasts };
            simpler.extend(shorter(*lasts).map(slow));
        }
        Fault::DiskFull { node, spare, lasts } => {
            if *spare > 0 {
                simpler.push(Fault::DiskFull { node: *node, spare: 0, lasts: *lasts });
            }
            let full = |lasts| Fault::DiskFull { node: *node, spare: *spare, lasts };
            simpler.extend(shorter(*lasts).map(full));
        }
        Fault::Pause { node, lasts } => {
            simpler.extend(shorter(*lasts).map(|lasts| Fault::Pause { node: *node, lasts }));
        }
        Fault::Storm { weather, lasts } => {
            let weathers = calmer(*weather).into_iter();
            simpler.extend(weathers.map(|weather| Fault::Storm { weather, lasts: *lasts }));
            simpler.extend(shorter(*lasts).map(|lasts| Fault::Storm { weather: *weather, lasts }));
        }
        Fault::Hunt { group, lasts } => {
            simpler.extend(shorter(*lasts).map(|lasts| Fault::Hunt { group: *group, lasts }));
        }
        Fault::Estrange { group, lasts } => {
            simpler.extend(shorter(*lasts).map(|lasts| Fault::Estrange { group: *group, lasts }));
        }
        Fault::Burden { group, times, lasts } => {
            let (group, times) = (*group, *times);
            simpler.extend(shorter(*lasts).map(|lasts| Fault::Burden { group, times, lasts }));
        }
        Fault::Ambush { lasts } => {
            simpler.extend(shorter(*lasts).map(|lasts| Fault::Ambush { lasts }));
        }
    }
    simpler.into_iter().map(|fault| Planned { at, fault }).collect()
}

/// The list without one of its nodes each, unless that leaves none.
fn fewer(nodes: &[u32]) -> Vec<Vec<u32>> {
    if nodes.len() < 2 {
        return Vec::new();
    }
    let without = |left: &u32| nodes.iter().copied().filter(|node| node != left).collect();
    nodes.iter().map(without).collect()
}

/// The same weather with one thing less in it each.
fn calmer(weather: Weather) -> Vec<Weather> {
    let calmer = [
        Weather { loss_ppm: 0, ..weather },
        Weather { duplicate_ppm: 0, ..weather },
        Weather { replay_ppm: 0, ..weather },
        Weather { reorder: false, ..weather },
    ];
    calmer.into_iter().filter(|calmer| *calmer != weather).collect()
}

/// Shorter times, the shortest first. Whole milliseconds, which are easier to read.
fn shorter(lasts: u64) -> impl Iterator<Item = u64> {
    let of = move |part: u64| (lasts / part / MILLI).max(1) * MILLI;
    let good = move |shorter: &u64| *shorter * 4 <= lasts * 3;
    [of(64), of(8), of(2)].into_iter().filter(good)
}

/// The same run with so many nodes: faults of the others go, or strike nodes that there are (`folded`).
pub(super) fn with_nodes(seed: u64, best: &Overrides, nodes: u32, folded: bool) -> Overrides {
    let fold = |all: &mut Vec<u32>| {
        if folded {
            all.iter_mut().for_each(|node| *node = (*node - 1) % nodes + 1);
            all.sort_unstable();
            all.dedup();
        } else {
            all.retain(|node| *node <= nodes);
        }
    };
    let mut candidate = Overrides { nodes: Some(nodes), ..best.clone() };
    if let Some(engines) = &mut candidate.engines {
        let mut all = engines.iter().copied().collect();
        fold(&mut all);
        *engines = all.into_iter().collect();
    }
    for planned in candidate.plan.iter_mut().flatten() {
        match &mut planned.fault {
            Fault::Crash { nodes, .. } | Fault::Move { to: nodes, .. } => fold(nodes),
            Fault::Cut { from, to, .. }
            | Fault::Clog { from, to, .. }
            | Fault::Throttle { from, to, .. }
            | Fault::Reset { from, to, .. } => {
                fold(from);
                fold(to);
                to.retain(|node| !from.contains(node));
            }
            Fault::Pause { node, .. }
            | Fault::Rot { node, .. }
            | Fault::DiskError { node, .. }
            | Fault::DiskFull { node, .. }
            | Fault::DiskSlow { node, .. }
            | Fault::DiskLoss { node, .. }
            | Fault::Misdirect { node, .. }
            | Fault::Byte { node, .. }
            | Fault::Choke { node, .. }
            | Fault::CrashLoop { node, .. }
            | Fault::ClockStep { node, .. }
                if folded =>
            {
                *node = (*node - 1) % nodes + 1;
            }
            _ => {}
        }
    }
    fair(seed, candidate)
}

/// The same run without the faults that mean nothing in it, or that no run of this kind need survive.
pub(super) fn fair(seed: u64, mut candidate: Overrides) -> Overrides {
    let setup = Setup::draw(seed, &candidate);
    if let Some(plan) = &mut candidate.plan {
        plan.retain(|planned| faults::is_fair(&setup, &planned.fault));
    }
    candidate
}

/// A stretch of a run in which nothing is to happen: from an instant to the next.
pub(super) type Gap = (u64, u64);

/// The stretches between the instants of a run that are worth being left out.
pub(super) fn gaps(best: &Overrides) -> Vec<Gap> {
    let mut instants = vec![0];
    instants.extend(best.plan.iter().flatten().map(|planned| planned.at));
    instants.extend(best.script.iter().flatten().map(|step| step.at));
    instants.extend(best.heals);
    instants.sort_unstable();
    let pairs = instants.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(|(from, to)| to - from > GAP_LEFT * 2).collect()
}

/// The same run with all stretches but these cut down. `None` if that is no change.
pub(super) fn without_gaps(best: &Overrides, kept: &[Gap]) -> Option<Overrides> {
    // Stretches that were cut down before are no stretches any more, and those kept may have moved: what
    // counts is how long each was.
    let kept: Vec<u64> = kept.iter().map(|(from, to)| to - from).collect();
    let cut: Vec<Gap> =
        gaps(best).into_iter().filter(|(from, to)| !kept.contains(&(to - from))).collect();
    if cut.is_empty() {
        return None;
    }
    let gone = |(from, to): Gap| (to, to - from - GAP_LEFT);
    Some(earlier(best, &cut.into_iter().map(gone).collect::<Vec<_>>()))
}

/// The same run with this one of its stretches cut down to a part of it. `None` if it is none by now.
pub(super) fn with_gap(best: &Overrides, at: usize, part: u64) -> Option<Overrides> {
    let (from, to) = *gaps(best).get(at)?;
    let left = ((to - from) / part).max(GAP_LEFT);
    Some(earlier(best, &[(to, to - from - left)]))
}

/// The same run with everything from these instants on so much earlier.
fn earlier(best: &Overrides, by: &[(u64, u64)]) -> Overrides {
    moved(best, |at| {
        let gone = |&(from, by): &(u64, u64)| if at >= from { by } else { 0 };
        at - by.iter().map(gone).sum::<u64>()
    })
}

/// The same run at whole milliseconds, rounded up.
pub(super) fn rounded(best: &Overrides) -> Overrides {
    moved(best, |at| at.next_multiple_of(MILLI))
}

/// The same run with other times.
fn moved(best: &Overrides, to: impl Fn(u64) -> u64) -> Overrides {
    let mut candidate = best.clone();
    candidate.plan.iter_mut().flatten().for_each(|planned| planned.at = to(planned.at));
    candidate.script.iter_mut().flatten().for_each(|step| step.at = to(step.at));
    candidate.heals = candidate.heals.map(to);
    candidate
}

const MILLI: u64 = 1_000_000;
/// What is left of a stretch that is cut down.
const GAP_LEFT: u64 = 3 * MILLI;
