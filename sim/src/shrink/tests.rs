//! Shrinking on runs of the store with a bug in it.

use super::*;
use crate::seedfile::SeedFile;
use crate::setup::Overrides;
use ironseed_core::planted::{Bug, Planted};

#[test]
fn an_early_acknowledgement_needs_one_operation_and_no_fault() {
    let overrides = Overrides {
        nodes: Some(5),
        shards: Some(2),
        workload: Some("kv".into()),
        ..Overrides::default()
    };
    let planted = Planted::with(Bug::AcknowledgeBeforeSync);
    let order = |seed| Order { overrides: overrides.clone(), planted, ..Order::new(seed) };
    let fails = |seed: &u64| {
        run(&order(*seed), None).violation.is_some_and(|seen| seen.checker == "durable")
    };
    let seed = (0..40).find(fails).expect("half of all runs fail");
    let outcome = shrink(&Shrink::new(order(seed)), &[Arc::default(), Arc::default()], |_| {});
    let outcome = outcome.expect("it fails");
    assert!(outcome.finished);
    assert!(outcome.after.operations <= 2 && outcome.after.faults <= 1, "{outcome:?}");
    let text = write(seed, "0bf7018", Some(3), &outcome.case, Some(&outcome)).expect("a file");
    let file = SeedFile::parse(&text).expect(&text);
    let replayed = run(&Order { overrides: file.config, planted, ..Order::new(seed) }, None);
    assert_eq!(replayed.violation, Some(outcome.case.violation));
    assert_eq!(replayed.history_hash, outcome.case.report.history_hash);
}
