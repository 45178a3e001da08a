//! What is tried to make a failing run smaller, one kind of thing a pass.
//!
//! Each pass builds candidates out of the best case so far and takes the first that is good, until none is.
//! Where a list is made shorter, [`ddmin`] says which candidates there are; where a single thing is made
//! simpler, [`simpler`] does.

use super::judge::{Case, Judge};
use super::{ddmin, simpler};
use crate::choices::{Calm, Delivery, Knob, Step};
use crate::faults::{self, Planned};
use crate::setup::{Overrides, Setup};
use ironseed_core::node::api::Tuning;
use std::collections::{BTreeMap, BTreeSet};

/// The best case so far, and what makes it better.
pub(super) struct Passes<'a> {
    seed: u64,
    judge: Judge,
    /// The best case so far.
    pub(super) best: Case,
    better: &'a dyn Fn(&Case, &Judge),
}

impl<'a> Passes<'a> {
    /// Begins with a case that fails.
    pub(super) fn new(
        seed: u64,
        mut judge: Judge,
        best: Case,
        better: &'a dyn Fn(&Case, &Judge),
    ) -> Self {
        judge.bound(&best.report.stats);
        Self { seed, judge, best, better }
    }

    pub(super) const fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Takes the first good one of so many candidates. Cheap runs are tried under other deliveries too: what is
    /// left out may have been needed for nothing but its delays.
    fn first(
        &mut self,
        count: usize,
        build: impl Fn(&Overrides, usize) -> Option<Overrides> + Sync,
    ) -> Option<usize> {
        let lucks = (LUCKY_EVENTS / self.best.report.stats.events.max(1)).clamp(1, LUCKS_MAX);
        let lucks = usize::try_from(lucks).unwrap_or(1);
        let best = &self.best.overrides;
        let candidate = |number: usize| {
            let mut candidate = build(best, number / lucks)?;
            let other = (number % lucks) as u64;
            if other > 0 {
                candidate.luck = Some(best.luck.unwrap_or(0) % LUCKS + other);
            }
            Some(candidate)
        };
        let (number, case) = self.judge.first(count * lucks, &candidate)?;
        self.take(case);
        Some(number / lucks)
    }

    fn take(&mut self, case: Case) {
        self.judge.bound(&case.report.stats);
        self.best = case;
        (self.better)(&self.best, &self.judge);
    }

    /// Everything that the run drew is given instead, and what comes after the violation is left out.
    pub(super) fn spell_out(&mut self) -> bool {
        let setup = Setup::draw(self.seed, &self.best.overrides);
        let choices = self.best.report.choices.clone();
        let healed = choices.healed;
        let end = healed.unwrap_or(self.best.report.stats.sim_nanos);
        self.first(3, |best, number| {
            let mut all = Overrides {
                nodes: Some(setup.nodes.len() as u32),
                shards: Some(setup.shards),
                lanes: Some(setup.lanes),
                workload: Some(setup.mix.kind.into()),
                // Where faults are given, no region is drawn.
                region: setup.region.map(|region| region.name().into()),
                faults: Some(setup.classes.iter().copied().collect()),
                plan: Some(choices.plan.clone()),
                engines: Some(setup.engines.iter().map(|node| node.0).collect()),
                points: Some(
                    setup.points.iter().map(|(p, rate)| (p.name().into(), *rate)).collect(),
                ),
                ..best.clone()
            };
            // Nor are leases, nor who answers reads, nor the scrub, nor snapshots of the index.
            for knob in [
                Knob::MaxClockDriftPpm,
                Knob::ReadsNearest,
                Knob::ScrubBytesPerSecond,
                Knob::ScrubEvery,
                Knob::IndexBytesMin,
            ] {
                let value = knob.of(&setup.tuning);
                if value > 0 {
                    all.tuning.entry(knob).or_insert(value);
                }
            }
            if number == 2 {
                return Some(all);
            }
            all.script = Some(choices.script.clone());
            (all.clients, all.operations) = (None, None);
            // A run that failed before it healed may heal as soon as it has: nothing else comes of it.
            all.heals = Some(healed.unwrap_or(end + 1));
            all.millis = None;
            if number == 0 {
                all.plan.iter_mut().for_each(|plan| plan.retain(|planned| planned.at <= end));
                all.script.iter_mut().for_each(|script| script.retain(|step| step.at <= end));
            }
            Some(all)
        })
        .is_some()
    }

    /// Leaves out of a list what can be left out.
    fn shorten<T: Clone + Sync + PartialEq>(
        &mut self,
        finest: usize,
        list: impl Fn(&Overrides) -> Vec<T>,
        set: impl Fn(&mut Overrides, Vec<T>) + Sync,
    ) -> bool {
        let items = list(&self.best.overrides);
        let before = items.len();
        let left = ddmin::minimise(items, finest, |count, build| {
            self.first(count, |best, number| {
                let mut candidate = best.clone();
                set(&mut candidate, build(number));
                Some(candidate)
            })
        });
        left.len() < before
    }

    /// Fewer faults.
    pub(super) fn faults(&mut self, finest: usize) -> bool {
        let list = |best: &Overrides| best.plan.clone().unwrap_or_default();
        self.shorten(finest, list, |candidate, plan| candidate.plan = Some(plan))
    }

    /// Fewer fault points.
    pub(super) fn points(&mut self) -> bool {
        let list = |best: &Overrides| best.points.clone().into_iter().flatten().collect::<Vec<_>>();
        self.shorten(1, list, |candidate, points| {
            candidate.points = Some(points.into_iter().collect());
        })
    }

    /// Fewer nodes on engines.
    pub(super) fn engines(&mut self) -> bool {
        let list =
            |best: &Overrides| best.engines.clone().into_iter().flatten().collect::<Vec<_>>();
        self.shorten(1, list, |candidate, engines| {
            candidate.engines = Some(engines.into_iter().collect());
        })
    }

    /// Fewer operations.
    pub(super) fn operations(&mut self, finest: usize) -> bool {
        let list = |best: &Overrides| best.script.clone().unwrap_or_default();
        self.shorten(finest, list, |candidate, script| candidate.script = Some(script))
    }

    /// Fewer clients.
    pub(super) fn clients(&mut self) -> bool {
        let list = |best: &Overrides| {
            let script = best.script.iter().flatten();
            script.map(|step| step.client).collect::<BTreeSet<u32>>().into_iter().collect()
        };
        self.shorten(1, list, |candidate, clients: Vec<u32>| {
            let script = candidate.script.iter_mut();
            script.for_each(|script| script.retain(|step| clients.contains(&step.client)));
        })
    }

    /// Less is left to chance.
    pub(super) fn calm(&mut self) -> bool {
        let wild = |best: &Overrides| {
            Calm::ALL.iter().copied().filter(|calm| !best.calm.contains(calm)).collect()
        };
        self.shorten(1, wild, |candidate, wild: Vec<Calm>| {
            candidate.calm =
                Calm::ALL.iter().copied().filter(|calm| !wild.contains(calm)).collect();
            candidate.faults.iter_mut().for_each(|classes| {
                // All that a class still says is the drift of clocks and the tuning for hunts.
                if !wild.contains(&Calm::Clocks) && !wild.contains(&Calm::Tuning) {
                    classes.clear();
                }
            });
        })
    }

    /// Settings of production but for those that matter.
    pub(super) fn tuning(&mut self) -> bool {
        let best = &self.best.overrides;
        if best.calm.contains(&Calm::Tuning) && best.tuning.is_empty() {
            return false;
        }
        let drawn = Setup::draw(self.seed, best).tuning;
        let mut calm = best.clone();
        calm.tuning.clear();
        if !calm.calm.contains(&Calm::Tuning) {
            calm.calm.push(Calm::Tuning);
        }
        let even = Setup::draw(self.seed, &calm).tuning;
        let differ = |tuning: &Tuning, knob: Knob| knob.of(tuning) != knob.of(&even);
        let knobs = Knob::ALL.iter().copied().filter(|knob| differ(&drawn, *knob));
        let knobs: BTreeMap<Knob, u64> = knobs.map(|knob| (knob, knob.of(&drawn))).collect();
        let before = self.best.overrides.tuning.len();
        let spelled = Overrides { tuning: knobs, ..calm };
        let is_new = !self.best.overrides.calm.contains(&Calm::Tuning);
        if is_new && self.first(1, |_, _| Some(spelled.clone())).is_none() {
            return false;
        }
        let list = |best: &Overrides| best.tuning.clone().into_iter().collect::<Vec<_>>();
        self.shorten(1, list, |candidate, knobs| candidate.tuning = knobs.into_iter().collect());
        is_new || self.best.overrides.tuning.len() < before
    }

    /// Fewer nodes, shards and lanes.
    pub(super) fn topology(&mut self) -> bool {
        let setup = Setup::draw(self.seed, &self.best.overrides);
        let nodes: Vec<u32> =
            [1, 3, 5].into_iter().filter(|&nodes| (nodes as usize) < setup.nodes.len()).collect();
        let seed = self.seed;
        let fewer = self.first(nodes.len() * 2, |best, number| {
            Some(simpler::with_nodes(seed, best, nodes[number / 2], number % 2 == 1))
        });
        let shards: Vec<u16> =
            (0..8).map(|bits| 1 << bits).filter(|&shards| shards < setup.shards).collect();
        let narrower = self.first(shards.len(), |best, number| {
            let shards = Some(shards[number]);
            Some(simpler::fair(seed, Overrides { shards, ..best.clone() }))
        });
        let single = setup.lanes > 1
            && self
                .first(1, |best, _| Some(Overrides { lanes: Some(1), ..best.clone() }))
                .is_some();
        fewer.is_some() || narrower.is_some() || single
    }

    /// Single faults that do less.
    pub(super) fn simplify(&mut self) -> bool {
        let mut changed = false;
        let mut at = 0;
        while let Some(planned) = self.best.overrides.plan.iter().flatten().nth(at).cloned() {
            let variants = self.variants(at, &planned);
            let taken = self.first(variants.len(), |best, number| {
                let mut candidate = best.clone();
                let plan = candidate.plan.as_mut()?;
                plan.splice(at..=at, variants[number].clone());
                plan.sort_by_key(|planned| planned.at);
                Some(candidate)
            });
            changed |= taken.is_some();
            at += usize::from(taken.is_none());
        }
        changed
    }

    /// What might do in place of the fault at this position.
    fn variants(&self, at: usize, planned: &Planned) -> Vec<Vec<Planned>> {
        let derived = self.best.report.choices.derived.iter();
        let came: Vec<Planned> =
            derived.filter(|(of, _)| *of == at).map(|(_, planned)| planned.clone()).collect();
        let mut variants = Vec::new();
        if !came.is_empty() && faults::is_cause(&planned.fault) {
            variants.push(came);
        }
        variants.extend(simpler::faults(planned).into_iter().map(|fault| vec![fault]));
        variants
    }

    /// Healing comes earlier, and so does everything after a time in which nothing is to happen.
    pub(super) fn hurry(&mut self) -> bool {
        let before = self.best.report.stats.sim_nanos;
        let gaps = |best: &Overrides| simpler::gaps(best);
        let all = gaps(&self.best.overrides);
        ddmin::minimise(all, 1, |count, build| {
            self.first(count, |best, number| simpler::without_gaps(best, &build(number)))
        });
        for part in [64, 16, 4, 2] {
            let mut at = 0;
            while at < simpler::gaps(&self.best.overrides).len() {
                let less = |best: &Overrides, _| simpler::with_gap(best, at, part);
                at += usize::from(self.first(1, less).is_none());
            }
        }
        self.best.report.stats.sim_nanos < before
    }

    /// Messages that take their time or are lost, one by one, in place of all that the weather does.
    pub(super) fn deliveries(&mut self) -> bool {
        let best = &self.best.overrides;
        if !best.calm.contains(&Calm::Network) {
            let sent = self.best.report.stats.messages.get("sent").copied().unwrap_or(0);
            if sent > SPELLED_MESSAGES_MAX {
                return false;
            }
            let fates = self.judge.told(best).choices.deliveries;
            let mut spelled = Overrides { deliveries: fates, ..best.clone() };
            spelled.calm.push(Calm::Network);
            if self.first(1, |_, _| Some(spelled.clone())).is_none() {
                return false;
            }
        }
        let list = |best: &Overrides| best.deliveries.clone();
        let set = |candidate: &mut Overrides, fates: Vec<Delivery>| candidate.deliveries = fates;
        self.shorten(1, list, set)
    }

    /// Times that are easier to read, and the seed's own luck.
    pub(super) fn tidy(&mut self) {
        self.first(3, |best, number| match number {
            0 => Some(Overrides { luck: None, ..simpler::rounded(best) }),
            1 => Some(simpler::rounded(best)),
            _ => Some(Overrides { luck: None, ..best.clone() }),
        });
    }

    /// Puts words to what is left.
    pub(super) fn tell(&mut self) {
        let told = self.judge.told(&self.best.overrides).choices.script;
        for step in self.best.overrides.script.iter_mut().flatten() {
            let is_it = |other: &&Step| (other.client, other.number) == (step.client, step.number);
            if let Some(told) = told.iter().find(is_it) {
                step.what.clone_from(&told.what);
            }
        }
    }
}

/// With more messages than this, each is left to the weather.
const SPELLED_MESSAGES_MAX: u64 = 3_000;
/// Runs of fewer events than this are tried under several lucks.
const LUCKY_EVENTS: u64 = 120_000;
/// How many lucks at the most.
const LUCKS_MAX: u64 = 6;
/// Lucks have small numbers.
const LUCKS: u64 = 1_000;
