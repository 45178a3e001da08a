//! Regions: parts of the space of runs where bugs of one kind live, each searched on purpose by some of the runs.
//!
//! What is drawn independently rarely comes together. Where two leaders of one group believe in themselves, where logs
//! part in more than their tails, where a deletion meets the next one of the same bucket, a bug shows only if several
//! rare things are there at once: few nodes, one busy group, faults that follow its leaders, and clients that all want the
//! same. A run of a region has those; everything else of it is drawn as ever. No region knows of a bug.

use super::Overrides;
use crate::disk::Speed;
use crate::draw::{Domain, Draw};
use crate::faults::Class;
use crate::workload::mix::{RACES, READS, RELAYS};
use ironseed_core::planted::Point;
use std::collections::{BTreeMap, BTreeSet};

/// A region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// Leaders of one busy group follow one another, and who led does not hear of it at once.
    Succession,
    /// One bucket is made, filled, emptied and deleted by everybody at once.
    Buckets,
    /// Disks are lost and replaced, logs cut short, and nodes go down in between.
    Disks,
    /// Shards are moved, to and fro, while leaders fall.
    Moves,
    /// Leaders hold leases by clocks that run as wrong as they may, and are cut off from those who elect another.
    Leases,
    /// One byte of one node's files is another one, wherever it is, and nothing else is wrong. Only runs that ask for it are of it.
    Bytes,
}

/// What a run of a region has in place of what it would have drawn.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    pub(super) region: Region,
    pub(super) nodes: u32,
    pub(super) replication: u8,
    pub(super) shards: u16,
    pub(super) millis: u64,
    pub(super) workload: &'static str,
    pub(super) classes: BTreeSet<Class>,
    pub(super) points: BTreeMap<Point, u16>,
    /// A typical delay of the network and what disks are like, where clients are to get much done between two looks of a
    /// node at anything.
    pub(super) quick: Option<(u64, Speed)>,
    /// For the clients and their keys.
    pub(super) draw: Draw,
}

/// What a seed file says of a run that is of no region.
pub const NO_REGION: &str = "none";
/// One run in so many is of the first two regions, and of the others one in so many of each that came later: every seed that
/// was of a region stayed in it.
const ONE_IN: u64 = 4;
const DISKS_ONE_IN: u64 = 10;
const MOVES_ONE_IN: u64 = 7;
const LEASES_ONE_IN: u64 = 8;

impl Region {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::Succession, Self::Buckets, Self::Disks, Self::Moves, Self::Leases, Self::Bytes];

    /// What it is called in seed files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succession => "succession",
            Self::Buckets => "buckets",
            Self::Disks => "disks",
            Self::Moves => "moves",
            Self::Leases => "leases",
            Self::Bytes => "bytes",
        }
    }

    /// The region of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|region| region.name() == name)
    }

    /// The region of this seed, if it is of one. Where faults are given, they are all there is.
    pub(super) fn draw(seed: u64, overrides: &Overrides) -> Option<Aim> {
        let mut draw = Draw::new(seed, Domain::Setup, &[15]);
        let given = overrides.faults.is_some() || overrides.plan.is_some();
        let drawn = draw.chance(1, ONE_IN);
        let region = [Self::Succession, Self::Buckets][draw.weighted(&[2, 1])];
        let disks = Draw::new(seed, Domain::Setup, &[16]).chance(1, DISKS_ONE_IN);
        let moves = Draw::new(seed, Domain::Setup, &[21]).chance(1, MOVES_ONE_IN);
        let leases = Draw::new(seed, Domain::Setup, &[19]).chance(1, LEASES_ONE_IN);
        let region = match overrides.region.as_deref() {
            Some(name) => Self::named(name)?,
            None if given => return None,
            None if drawn => region,
            None if disks => Self::Disks,
            None if moves => Self::Moves,
            None if leases => Self::Leases,
            None => return None,
        };
        Some(region.aim(Draw::new(seed, Domain::Setup, &[15, region as u64])))
    }

    fn aim(self, mut draw: Draw) -> Aim {
        let five = self != Self::Buckets && draw.chance(1, 4);
        let often: &[(Class, u64)] = match self {
            Self::Succession => &[
                (Class::Hunt, 8),
                (Class::Estrange, 9),
                (Class::Echo, 6),
                (Class::Duplicate, 4),
                (Class::Reorder, 2),
                (Class::Burden, 2),
                (Class::OneWay, 2),
                (Class::Stop, 2),
                (Class::Kill, 2),
                (Class::PowerLoss, 3),
            ],
            Self::Buckets => &[
                (Class::Ambush, 12),
                (Class::Hunt, 2),
                (Class::Loss, 2),
                (Class::Estrange, 2),
                (Class::OneWay, 2),
                (Class::Pause, 2),
                (Class::Kill, 1),
            ],
            Self::Disks => &[
                (Class::DiskLoss, 12),
                (Class::PowerLoss, 6),
                (Class::Blackout, 3),
                (Class::Kill, 4),
                (Class::Stop, 2),
                (Class::Isolate, 8),
                (Class::Partition, 4),
                (Class::Hunt, 8),
                (Class::SyncError, 2),
                (Class::Rot, 2),
                (Class::DiskFull, 1),
                (Class::Throttle, 2),
            ],
            Self::Moves => &[
                (Class::Move, 12),
                (Class::Kill, 4),
                (Class::PowerLoss, 4),
                (Class::Blackout, 2),
                (Class::Stop, 2),
                (Class::Pause, 3),
                (Class::Isolate, 6),
                (Class::Partition, 4),
                (Class::OneWay, 3),
                (Class::Hunt, 6),
                (Class::Duplicate, 5),
                (Class::Reorder, 4),
                (Class::Loss, 3),
                (Class::DiskLoss, 2),
                (Class::Rot, 2),
                (Class::DiskFull, 1),
            ],
            Self::Leases => &[
                (Class::Hunt, 8),
                (Class::Estrange, 6),
                (Class::Isolate, 8),
                (Class::Partition, 6),
                (Class::OneWay, 6),
                (Class::Clog, 6),
                (Class::Reorder, 3),
                (Class::Duplicate, 3),
                (Class::Pause, 4),
                (Class::Kill, 6),
                (Class::Stop, 2),
                (Class::CrashLoop, 4),
            ],
            Self::Bytes => &[(Class::Byte, 12)],
        };
        let classes = often.iter().filter(|(_, rate)| draw.chance(*rate, 12)).map(|(of, _)| *of);
        let classes = classes.collect();
        let forced: &[(Point, u64)] = match self {
            Self::Succession => &[
                (Point::AppendOne, 6),
                (Point::HintLow, 6),
                (Point::ProbeAgain, 6),
                (Point::TransferAway, 9),
                (Point::StepDown, 4),
                (Point::ElectionSoon, 6),
            ],
            Self::Buckets => &[(Point::TransferAway, 4), (Point::ApplyOne, 4)],
            Self::Leases => &[(Point::ElectionSoon, 5), (Point::TransferAway, 11)],
            Self::Disks | Self::Bytes => &[
                (Point::CompactNow, 6),
                (Point::FrameNow, 4),
                (Point::TrimEarly, 6),
                (Point::SegmentEarly, 4),
                (Point::SnapshotInstead, 3),
                (Point::SliceOne, 2),
                (Point::TransferAway, 3),
                (Point::SweepEarly, 6),
            ],
            Self::Moves => &[
                (Point::CompactNow, 4),
                (Point::FrameNow, 3),
                (Point::TrimEarly, 5),
                (Point::SegmentEarly, 4),
                (Point::SnapshotInstead, 2),
                (Point::TransferAway, 3),
                (Point::StepDown, 2),
                (Point::AppendOne, 2),
            ],
        };
        let points = forced.iter().filter(|(_, rate)| draw.chance(*rate, 12));
        let points = points.map(|(point, _)| (*point, point.often())).collect();
        let quick = match self {
            Self::Buckets => draw.chance(3, 4),
            Self::Leases => true,
            Self::Succession | Self::Disks | Self::Moves | Self::Bytes => false,
        };
        let quick = quick.then(|| {
            let delay = draw.magnitude(20_000, 150_000);
            let sync = draw.magnitude(50_000, 300_000);
            (delay, Speed { write: 5_000, sync, read: 50_000 })
        });
        Aim {
            quick,
            region: self,
            nodes: match (five, self) {
                (true, _) => 5,
                (false, Self::Moves) => 4,
                (false, _) => 3,
            },
            replication: if five && self != Self::Moves { 5 } else { 3 },
            shards: if draw.chance(3, 4) { 1 } else { 2 },
            millis: match self {
                Self::Disks | Self::Moves => draw.between(4_000, 8_000),
                Self::Succession | Self::Buckets | Self::Leases | Self::Bytes => {
                    draw.between(2_000, 4_000)
                }
            },
            workload: match self {
                Self::Succession => [RELAYS, "kv", "kv-swaps"][draw.weighted(&[3, 1, 1])],
                Self::Buckets => RACES,
                Self::Leases => [READS, RELAYS][draw.weighted(&[4, 1])],
                Self::Disks | Self::Bytes => {
                    ["kv", "mixed", "multipart", "objects"][draw.weighted(&[3, 2, 1, 1])]
                }
                Self::Moves => ["kv", "kv-swaps", "mixed", "multipart", "objects"]
                    [draw.weighted(&[3, 1, 2, 2, 2])],
            },
            classes,
            points,
            draw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Setup;

    fn regions(overrides: &Overrides) -> Vec<Option<Region>> {
        (0..400).map(|seed| Setup::draw(seed, overrides).region).collect()
    }

    #[test]
    fn two_runs_in_five_are_of_a_region_and_what_is_given_is_of_none() {
        let drawn = regions(&Overrides::default());
        for region in Region::ALL {
            let count = drawn.iter().filter(|of| **of == Some(*region)).count();
            let range = if *region == Region::Bytes { 0..1 } else { 20..120 };
            assert!(range.contains(&count), "{region:?} in {count} of 400");
            let named = Overrides { region: Some(region.name().into()), ..Overrides::default() };
            assert!(regions(&named).iter().all(|of| *of == Some(*region)));
            assert_eq!(named.check(), Ok(()));
        }
        let given = Overrides { faults: Some(Vec::new()), ..Overrides::default() };
        let none = Overrides { region: Some(NO_REGION.into()), ..Overrides::default() };
        for overrides in [given, none] {
            assert!(regions(&overrides).iter().all(Option::is_none));
            assert_eq!(overrides.check(), Ok(()));
        }
        let unknown = Overrides { region: Some("nowhere".into()), ..Overrides::default() };
        assert!(unknown.check().is_err());
    }

    #[test]
    fn a_region_changes_no_seed_that_is_of_none() {
        let kind = |seed, overrides: &Overrides| {
            let setup = Setup::draw(seed, overrides);
            (setup.region, format!("{setup:?}"))
        };
        let none = Overrides { region: Some(NO_REGION.into()), ..Overrides::default() };
        let (mut same, mut other) = (0, 0);
        for seed in 0..100 {
            let (region, drawn) = kind(seed, &Overrides::default());
            let (_, plain) = kind(seed, &none);
            assert_eq!(region.is_none(), drawn == plain, "seed {seed}");
            if region.is_none() { same += 1 } else { other += 1 }
        }
        assert!(same > 40 && other > 10, "{same} and {other}");
    }
}
