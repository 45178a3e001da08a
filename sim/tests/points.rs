//! Fault points: every one of them is come to and forces, and nothing that it may force is wrong.

#![cfg(feature = "planted-bugs")]

use ironseed_core::planted::Point;
use ironseed_sim::choices::{Calm, Knob};
use ironseed_sim::faults::Class;
use ironseed_sim::run::{Order, run};
use ironseed_sim::setup::Overrides;
use ironseed_sim::stats::Stats;
use std::collections::BTreeMap;

#[test]
fn every_point_forces_and_no_answer_is_wrong() {
    let points: BTreeMap<String, u16> =
        Point::ALL.iter().map(|point| (point.name().into(), point.often())).collect();
    for seed in 0..6 {
        let overrides = Overrides {
            nodes: Some(3),
            shards: Some(2),
            millis: Some(4_000),
            faults: Some(vec![Class::Kill, Class::Isolate, Class::Rot]),
            points: Some(points.clone()),
            engines: Some([3].into()),
            ..Overrides::default()
        };
        let report = run(&Order { overrides, ..Order::new(seed) }, None);
        assert_eq!(report.violation, None, "seed {seed}");
    }
    let mut stats = Stats::default();
    stats.take_points();
    for point in Point::ALL {
        let (reached, forced) = (&stats.points_reached, &stats.points_forced);
        let counts = [reached, forced].map(|counts| counts.get(point.name()).copied());
        assert!(
            counts.iter().all(|count| count.is_some_and(|count| count > 3)),
            "{point:?}: {counts:?}"
        );
    }
}

#[test]
fn a_point_changes_a_run_and_nothing_is_drawn_where_faults_are_given() {
    let hash = |points: Option<BTreeMap<String, u16>>| {
        let overrides = Overrides {
            nodes: Some(3),
            shards: Some(1),
            millis: Some(1_000),
            faults: Some(Vec::new()),
            points,
            ..Overrides::default()
        };
        run(&Order { overrides, ..Order::new(5) }, None).history_hash
    };
    let none = hash(Some(BTreeMap::new()));
    assert_eq!(hash(None), none);
    let one = BTreeMap::from([(Point::BatchOne.name().to_owned(), 1024)]);
    assert_eq!(hash(Some(one.clone())), hash(Some(one.clone())));
    assert_ne!(hash(Some(one)), none);
}

/// Segments of few records hold less than the groups need, so none of them can be freed for good.
#[test]
fn a_log_of_too_few_segments_is_not_written_anew_without_end() {
    for seed in [3, 4, 5, 7, 8] {
        let segments = |most| {
            let points = [(Point::BatchOne, 1024), (Point::SegmentEarly, 256)];
            let overrides = Overrides {
                nodes: Some(1),
                shards: Some(2),
                millis: Some(4_000),
                workload: Some("kv".into()),
                faults: Some(Vec::new()),
                calm: vec![Calm::Disks, Calm::Tuning, Calm::Clients],
                tuning: BTreeMap::from([(Knob::WalSegmentsMax, most)]),
                points: Some(points.map(|(point, rate)| (point.name().into(), rate)).into()),
                ..Overrides::default()
            };
            let report = run(&Order { overrides, ..Order::new(seed) }, None);
            assert_eq!(report.violation, None, "seed {seed}");
            report.stats.rare.get("segment-started").copied().unwrap_or(0)
        };
        let (few, many) = (segments(2), segments(1_000));
        assert!(many > 10 && few < 3 * many, "seed {seed}: {few} in place of {many}");
    }
}
