//! Ambushes: whoever deletes a bucket is cut off from some of the others in the middle of it.
//!
//! A deletion fences every shard and removes the bucket from every shard, so what must never show is a state
//! in which some shards know of it and others don't. The router that was asked is one place to cut, the
//! leader of the meta group, which runs the procedure, the other. Each cut becomes a fault of the plan like
//! those that were drawn before the run.

use super::{Event, Machine, World};
use crate::draw::{Domain, Draw};
use crate::faults::{Fault, Planned};
use crate::setup::Region;
use ironseed_core::types::GroupId;

impl<M: Machine> World<M> {
    /// A client asks this node to delete a bucket.
    pub(super) fn waylay(&mut self, router: usize) {
        let typical = self.setup.weather.delay;
        let mut planned = Vec::new();
        for (&number, met) in &mut self.ambushes {
            *met += 1;
            let coordinates = [97, self.plan[number].at, *met];
            let mut draw = Draw::new(self.setup.seed, Domain::Faults, &coordinates);
            let runs_it = self.led.get(&GroupId(0)).filter(|_| draw.chance(1, 2));
            let node = self.slots[*runs_it.unwrap_or(&router)].id.0;
            let others = self.slots.iter().map(|slot| slot.id.0).filter(|other| *other != node);
            let mut to: Vec<u32> = others.collect();
            draw.shuffle(&mut to);
            to.truncate(draw.between(1, to.len().max(1) as u64) as usize);
            // A deletion is a dozen one-way trips: the cut may fall between any two of them.
            let mut at = self.now + draw.magnitude(1_000, typical * 24);
            // Where that is what is looked for, as often late in it: whoever asked waits for what became of it.
            if self.setup.region == Some(Region::Buckets) && draw.chance(1, 2) {
                at = self.now + draw.between(typical * 2, typical * 24);
            }
            let both_ways = draw.chance(2, 3);
            let (mut from, lasts) = (vec![node], draw.magnitude(typical * 4, LASTS_MAX));
            if !both_ways && draw.chance(1, 2) {
                core::mem::swap(&mut from, &mut to);
            }
            if draw.chance(2, 3) {
                let fault = Fault::Cut { from, to, both_ways, lasts };
                planned.push((number, Planned { at, fault }));
            }
        }
        for (cause, planned) in planned {
            self.derived.push((cause, planned.clone()));
            let (delay, number) = (planned.at - self.now, self.plan.len());
            self.plan.push(planned);
            self.schedule(delay, Event::Fault { number, sprung: false });
        }
    }
}

/// The longest that a cut lasts: nanoseconds.
const LASTS_MAX: u64 = 1_500_000_000;

#[cfg(test)]
mod tests {
    use crate::faults::Class;
    use crate::run::{Order, Report, run};
    use crate::seedfile::SeedFile;
    use crate::setup::Overrides;
    use ironseed_core::planted::Planted;

    /// The corpus has a run for this race, and it must stay one.
    fn pinned(planted: Planted) -> Report {
        let text = include_str!("../../../seeds/0013-put-races-the-deletion-of-its-bucket.toml");
        let file = SeedFile::parse(text).expect("a file of the corpus");
        let seed = file.seed().expect("a seed");
        run(&Order { overrides: file.config, planted, ..Order::new(seed) }, None)
    }

    #[test]
    fn the_pinned_run_has_puts_racing_with_deletions_under_partition() {
        let report = pinned(Planted::NONE);
        assert_eq!(report.violation, None);
        let rare = |name| report.stats.rare.get(name).copied().unwrap_or(0);
        assert!(rare("put-raced-bucket-deletion-under-partition") > 5, "{:?}", report.stats.rare);
        assert!(rare("bucket-deleted-under-load") > 0, "{:?}", report.stats.rare);
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn the_pinned_run_sees_writes_that_nobody_checked() {
        let planted = Planted::with(ironseed_core::planted::Bug::BucketEpochAtPropose);
        let seen = pinned(planted).violation.map(|violation| violation.checker);
        assert_eq!(seen, Some("linearizable"));
    }

    #[test]
    fn deletions_of_buckets_are_cut_off_and_race_with_puts() {
        let count = |faults: &[Class]| {
            let overrides = Overrides {
                nodes: Some(3),
                shards: Some(2),
                workload: Some("bucket-races".into()),
                faults: Some(faults.to_vec()),
                ..Overrides::default()
            };
            let mut counts = [0; 3];
            for seed in 0..6 {
                let overrides = overrides.clone();
                let report = run(&Order { overrides, ..Order::new(seed) }, None);
                assert_eq!(report.violation, None, "seed {seed}");
                let rare = |name| report.stats.rare.get(name).copied().unwrap_or(0);
                counts[0] += rare("bucket-deleted-under-load");
                counts[1] += rare("put-raced-bucket-deletion-under-partition");
                counts[2] += report.stats.faults.values().sum::<u64>();
            }
            counts
        };
        let [under_load, parted, _] = count(&[Class::Ambush]);
        assert!(under_load > 3 && parted > 3, "{under_load}, {parted}");
        let [under_load, parted, faults] = count(&[]);
        assert!(under_load > 3, "{under_load}");
        assert_eq!((parted, faults), (0, 0));
    }
}
