//! What is recorded, computed and written of real runs.

use super::compare::compare;
use super::model::{Model, SCHEMA, Wanted, model};
use super::recorder::{Fate, Recording, tape};
use super::*;
use crate::checkers::Violation;
use crate::faults::{Class, Planned};
use crate::run::run;
use crate::setup::Overrides;
use crate::trace::Kind;
use serde_json::Value;
use std::cell::RefCell;
use std::rc::Rc;

fn order(seed: u64) -> Order {
    let overrides = Overrides {
        nodes: Some(3),
        shards: Some(1),
        millis: Some(1_500),
        operations: Some(40),
        faults: Some(vec![Class::PowerLoss, Class::Partition, Class::Loss, Class::Kill]),
        ..Overrides::default()
    };
    Order { overrides, ..Order::new(seed) }
}

fn recorded(order: &Order) -> (Report, Rc<RefCell<Recording>>, Vec<Planned>) {
    let (tape, recording) = tape();
    let report = run_recorded(order, tape);
    (report, recording, faults::plan(&Setup::draw(order.seed, &order.overrides)))
}

fn shown(order: &Order, wanted: Wanted, violation: Option<&Violation>) -> Model {
    let (_, recording, plan) = recorded(order);
    model(&recording.borrow(), &[1, 2, 3], &plan, violation, wanted)
}

const ALL: Wanted = Wanted { from: None, until: None, events_max: usize::MAX / 20 };

#[test]
fn to_be_recorded_changes_nothing_and_misses_nothing() {
    for seed in 0..4 {
        let silent = run(&order(seed), None);
        let (report, recording, _) = recorded(&order(seed));
        assert_eq!(report.history_hash, silent.history_hash, "seed {seed}");
        assert_eq!(recording.borrow().events.len() as u64, silent.stats.events);
    }
}

#[test]
fn every_arrival_has_its_sending_and_what_is_lost_is_seen_to_be() {
    let (mut lost, mut cut) = (0, 0);
    for seed in 0..6 {
        let (report, recording, _) = recorded(&order(seed));
        let recording = recording.borrow();
        for (number, event) in recording.events.iter().enumerate() {
            if event.kind == Kind::Deliver {
                let cause = event.cause.expect("somebody sent it");
                assert!(cause < number && recording.events[cause].kind == Kind::Send);
            }
        }
        for message in &recording.messages {
            assert_eq!(message.arrived.is_some(), message.fate == Fate::Arrived);
        }
        let with = |fate| recording.messages.iter().filter(|one| one.fate == fate).count() as u64;
        let counted = |name| report.stats.messages.get(name).copied().unwrap_or(0);
        assert_eq!((with(Fate::Lost), with(Fate::Cut)), (counted("lost"), counted("cut")));
        lost += with(Fate::Lost);
        cut += with(Fate::Cut);
    }
    assert!(lost > 0 && cut > 10, "{lost} lost, {cut} cut");
}

#[test]
fn a_write_is_durable_with_the_first_sync_that_was_asked_for_after_it() {
    let (_, recording, _) = recorded(&order(1));
    let recording = recording.borrow();
    let synced = recording.disk_ops.iter().filter_map(|op| Some((op, op.synced?)));
    let mut seen = 0;
    for (write, event) in synced {
        let sync = recording.disk_ops.iter().find(|op| op.done == Some(event) && op.kind == "sync");
        let sync = sync.expect("a sync made it durable");
        assert_eq!((sync.node, &sync.file), (write.node, &write.file));
        assert!(write.done.is_some_and(|done| done < sync.issued));
        seen += 1;
    }
    assert!(seen > 20, "{seen} writes");
}

#[test]
fn the_state_at_an_instant_is_the_one_in_which_a_run_that_stops_there_ends() {
    let whole = shown(&order(2), ALL, None);
    for until in [400_000_000, 700_000_000, 1_100_000_000] {
        let stopped = Order { until: Some(until), ..order(2) };
        let stopped = shown(&stopped, ALL, None);
        let last = stopped.events.len() as i64 - 1;
        assert!(last > 100, "{last} events");
        for (there, here) in whole.replicas.iter().zip(&stopped.replicas) {
            let row = there.rows.iter().rev().find(|row| row.0 <= last);
            assert_eq!(row, here.rows.last(), "n{} g{}", here.node + 1, here.group);
        }
        for (there, here) in whole.lives.iter().zip(&stopped.lives) {
            assert_eq!(there.iter().rev().find(|row| row.0 <= last), here.last());
        }
    }
    let rows = || whole.replicas.iter().flat_map(|replica| &replica.rows);
    assert!(rows().any(|row| row.2 == 2), "somebody leads");
    assert!(rows().any(|row| row.7 > row.8), "something is not durable yet");
    assert!(rows().all(|row| row.7 >= row.8), "nothing is durable that is not there");
}

#[test]
fn a_page_has_as_much_as_fits_around_the_violation() {
    let (report, recording, plan) = recorded(&order(3));
    let recording = recording.borrow();
    let middle = recording.events.len() / 2;
    let violation = Violation::new("raft", report.stats.sim_nanos, "n1 leads g1 in t2".into());
    let wanted = Wanted { events_max: 200, ..Wanted::default() };
    let last = model(&recording, &[1, 2, 3], &plan, Some(&violation), wanted);
    assert_eq!((last.events.len(), last.window.capped), (200, true));
    assert_eq!((last.focus, last.anchor), (1, Some(199)));
    let at = recording.events[middle].at;
    let from = Wanted { from: Some(at), until: Some(at + 20_000_000), events_max: 100_000 };
    let part = model(&recording, &[1, 2, 3], &plan, None, from);
    assert!(!part.events.is_empty() && !part.window.capped);
    assert!(part.events.iter().all(|event| (at..=at + 20_000_000).contains(&event.at)));
    assert_eq!(part.window.total, recording.events.len());
    // What holds when the part begins is there, though it became so before.
    assert!(part.replicas.iter().any(|replica| replica.rows.first().is_some_and(|row| row.0 < 0)));
}

#[test]
fn the_nearest_passing_run_is_the_one_that_parts_last() {
    let order = order(4);
    let (report, recording, plan) = recorded(&order);
    assert_eq!(report.violation, None);
    // As if it had failed: then every run with one choice less passes.
    let violation = Violation::new("raft", report.stats.sim_nanos, "as if".into());
    let comparison = compare(&order, &plan, 1, &violation, &recording, |_, _| {});
    let recording = recording.borrow();
    let nearest = comparison.nearest.expect("one passes");
    assert!(comparison.tried.len() > 3, "{:?}", comparison.tried);
    assert!(comparison.tried.iter().all(|tried| tried.common <= nearest.common));
    for tried in &comparison.tried {
        let Some(fault) = tried.fault else { continue };
        let strikes = |strike: &&(u64, usize, bool)| strike.0 == fault as u64;
        let struck = recording.strikes.iter().find(strikes).expect("it struck").1;
        assert!(tried.at >= recording.events[struck].at, "equal until it strikes: {tried:?}");
        assert!(tried.common >= struck, "{tried:?}");
    }
    assert!(nearest.failing.first() != nearest.passing.first(), "{nearest:?}");
}

#[test]
fn the_data_has_the_form_that_the_page_reads() {
    let request =
        Request { order: order(5), wanted: ALL, bug: None, command: "replay --seed 5".into() };
    let (report, html) = page(&request, |_, _| {});
    let data = html.split_once("id=\"data\">").expect("data").1.split_once("</script>");
    let page: Value = serde_json::from_str(data.expect("an end").0).expect("JSON");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect();
    let top: Vec<String> = keys(&page);
    assert_eq!(top, ["comparison", "headline", "model"]);
    let model: Vec<String> = keys(&page["model"]);
    let wanted = [
        "anchor",
        "calls",
        "clients",
        "cone",
        "cone_size",
        "cuts",
        "disk",
        "events",
        "faults",
        "focus",
        "groups",
        "kinds",
        "leads",
        "lives",
        "messages",
        "nodes",
        "replicas",
        "schema",
        "window",
    ];
    assert_eq!(model, wanted);
    let model = &page["model"];
    assert_eq!(model["schema"], SCHEMA);
    let events = model["events"].as_array().expect("a list");
    assert_eq!(events.len() as u64, report.stats.events);
    let event: Vec<String> = keys(&events[0]);
    assert_eq!(event, ["at", "brief", "client", "group", "kind", "line", "node"]);
    for message in model["messages"].as_array().expect("a list") {
        let part = &message["parts"][0];
        assert!(part[1].as_u64().is_some_and(|kind| kind < 7) && part[2].is_string(), "{message}");
    }
    assert_eq!(page["headline"]["verdict"], "passed");
}

#[test]
fn a_page_needs_nothing_else_and_data_can_not_end_its_script() {
    let hostile = "</script><script>alert(1)</script><!-- &amp; {{data}}";
    let request = Request {
        order: order(6),
        wanted: ALL,
        bug: Some(hostile.into()),
        command: hostile.into(),
    };
    let (_, html) = page(&request, |_, _| {});
    assert_eq!(html.matches("</script").count(), 2, "its own two scripts end");
    assert!(!html.contains("alert(1)</script>") && !html.contains("<!-- &"));
    for reference in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!html.contains(reference), "{reference}");
    }
    let escaped: String = serde_json::from_str(&inert(&format!("{hostile:?}"))).expect("JSON");
    assert_eq!(escaped, hostile);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn an_acknowledgement_before_its_sync_is_told_with_its_place() {
    let planted =
        ironseed_core::planted::Planted::with(ironseed_core::planted::Bug::AcknowledgeBeforeSync);
    let order = Order { planted, ..Order::new(1) };
    let (report, recording, plan) = recorded(&order);
    let violation = report.violation.expect("it is caught");
    assert_eq!(violation.checker, "durable");
    let nodes: Vec<u32> =
        Setup::draw(1, &order.overrides).nodes.iter().map(|node| node.0).collect();
    let model = model(&recording.borrow(), &nodes, &plan, Some(&violation), ALL);
    let anchor = model.anchor.expect("an event") as usize;
    assert!(model.events[anchor].brief.starts_with("decided"), "{:?}", model.events[anchor]);
    assert_eq!(i64::from(model.focus), model.events[anchor].group);
    assert_eq!(model.cone.as_bytes()[anchor], b'1');
    assert!(model.cone.len() == model.events.len() && model.cone_size <= anchor + 1);
}
