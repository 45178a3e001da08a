//! One run as one HTML page: what broke, when, on which node, and what could have led to it.
//!
//! **The problem.** A failing run has thousands of events, and the dozen that matter are spread over nodes,
//! disks, messages and clients. A trace has them all, one below the other; nobody sees a message that
//! overtakes a sync in it.
//!
//! **The way.** A [`recorder`] hears the run in detail. [`cone`] walks back from the event that an oracle
//! objected to; [`compare`] runs the same choices with one taken out, and finds where the nearest passing run
//! parts from it. The [`model`] cuts out what fits on a page and says how everything was at any instant. The
//! page itself (`page/`) draws it and has nothing to decide; it opens without a network.
//!
//! **Guarantees.** Looking changes nothing: a recorded run has the hash of the silent one. The same run makes
//! the same page, byte for byte.
//!
//! **Caveats.** Where a run has more events than fit, the page has those around the violation and says so.
//! Which choice made the difference is told for one choice at a time.

pub mod compare;
pub mod cone;
pub mod message;
pub mod model;
pub mod recorder;

#[cfg(test)]
mod tests;

use crate::checkers::Violation;
use crate::faults;
use crate::run::{Order, Report, run_recorded};
use crate::setup::Setup;
use compare::Comparison;
use model::{Model, Wanted};
use serde::Serialize;

/// What to put on a page.
#[derive(Clone, Debug)]
pub struct Request {
    /// The run.
    pub order: Order,
    /// Which part of it.
    pub wanted: Wanted,
    /// The bug that is planted, in words.
    pub bug: Option<String>,
    /// The command that replays the run.
    pub command: String,
}

/// What stands above the picture.
#[derive(Clone, Debug, Serialize)]
struct Headline {
    /// `failed`, `passed` or `stopped`.
    verdict: &'static str,
    /// What that means, in a sentence.
    sentence: String,
    /// What the oracle saw.
    what: String,
    /// Which oracle.
    oracle: String,
    /// When: nanoseconds.
    at: u64,
    /// The seed, as text: it may be beyond what the page can count to.
    seed: String,
    /// The planted bug.
    bug: Option<String>,
    /// The command that replays it.
    command: String,
    /// Name and value of what kind of run it is.
    settings: Vec<(&'static str, String)>,
    /// The hash of the run.
    history_hash: String,
}

#[derive(Serialize)]
struct Page {
    headline: Headline,
    model: Model,
    comparison: Option<Comparison>,
}

/// Runs, compares and writes the page. `told` hears how the comparison goes on: runs done and to do.
#[must_use]
pub fn page(request: &Request, told: impl Fn(usize, usize)) -> (Report, String) {
    let (tape, recording) = recorder::tape();
    let report = run_recorded(&request.order, tape);
    let setup = Setup::draw(request.order.seed, &request.order.overrides);
    let plan = faults::plan(&setup);
    let clients = setup.mix.clients;
    let comparison = report.violation.as_ref().map(|violation| {
        compare::compare(&request.order, &plan, clients, violation, &recording, told)
    });
    let nodes: Vec<u32> = setup.nodes.iter().map(|node| node.0).collect();
    let violation = report.violation.as_ref();
    let model = model::model(&recording.borrow(), &nodes, &plan, violation, request.wanted);
    let headline = headline(request, &setup, &plan, &report);
    let html = html(&Page { headline, model, comparison });
    (report, html)
}

fn headline(
    request: &Request,
    setup: &Setup,
    plan: &[faults::Planned],
    report: &Report,
) -> Headline {
    let (verdict, sentence) = match &report.violation {
        Some(violation) => ("failed", meaning(violation)),
        None if request.order.until.is_some() => {
            ("stopped", "The run was stopped here, and nothing was wrong so far.")
        }
        None => ("passed", "The run passed: no oracle objected to anything."),
    };
    let (oracle, at, what) = report.violation.as_ref().map_or_else(
        || (String::new(), report.stats.sim_nanos, String::new()),
        |violation| (violation.checker.to_string(), violation.at, violation.what.clone()),
    );
    Headline {
        verdict,
        sentence: sentence.into(),
        what,
        oracle,
        at,
        seed: request.order.seed.to_string(),
        bug: request.bug.clone(),
        command: request.command.clone(),
        settings: settings(setup, plan, report),
        history_hash: report.history_hash.clone(),
    }
}

/// What kind of run it is.
fn settings(
    setup: &Setup,
    plan: &[faults::Planned],
    report: &Report,
) -> Vec<(&'static str, String)> {
    let classes: Vec<String> = setup.classes.iter().map(|class| format!("{class:?}")).collect();
    let drifts = setup.drift_ppm.iter().any(|drift| *drift != 0);
    vec![
        ("nodes", setup.nodes.len().to_string()),
        ("shards", format!("{} and the meta group g0", setup.shards)),
        ("replicas of a shard", setup.replication.to_string()),
        ("lanes", setup.lanes.to_string()),
        ("workload", setup.mix.kind.to_string()),
        ("clients", setup.mix.clients.to_string()),
        ("operations at most", setup.mix.operations_max.to_string()),
        ("faults planned", plan.len().to_string()),
        ("faults that struck", report.stats.faults.values().sum::<u64>().to_string()),
        ("kinds of faults", classes.join(", ")),
        ("sync policy", format!("{:?}", setup.fsync)),
        ("network", format!("{:?}", setup.weather)),
        ("clock drift", if drifts { format!("{:?} ppm", setup.drift_ppm) } else { "none".into() }),
        ("clock bound", crate::checkers::Millis(setup.clock_bound).to_string()),
        ("load lasts", crate::checkers::Millis(setup.duration).to_string()),
        ("tuning", format!("{:?}", setup.tuning)),
    ]
}

/// What it means that this oracle objects.
fn meaning(violation: &Violation) -> &'static str {
    let what = &violation.what;
    match violation.checker {
        "durable" => {
            "A write was acknowledged before enough disks held it: a power loss now would lose it."
        }
        "raft" if what.contains("without") => {
            "A node became leader without an entry that was already committed."
        }
        "raft" if what.contains("both lead") => "Two nodes lead the same group in the same term.",
        "raft" if what.contains("differ in") => "Two replicas applied different histories.",
        "raft" => "A replica broke a promise of the consensus protocol.",
        "linearizable" => "Clients saw answers that no order of their operations explains.",
        "liveness" => "After everything had healed, the store did not get its work done in time.",
        "collection" => "What nobody needs any more was not collected.",
        "scrub" => "Stored bytes rotted where nobody reads them, and the scrub did not find it.",
        "objects" | "kv" => "A client got an answer that can't be right, whatever happened before.",
        "assertion" => "An assertion in the code failed.",
        "engine" => "A crash left a record in an engine without its body.",
        "two-boots" => "A snapshot of the index gave a node another state than its logs.",
        "work" => "One step did more work than a step may.",
        "codec" => "A message did not survive its own encoding.",
        "determinism" => "The same seed told two stories.",
        _ => "The store broke the contract with whoever drives it.",
    }
}

fn html(page: &Page) -> String {
    let title = format!("seed {}: {}", page.headline.seed, page.headline.verdict);
    let data = serde_json::to_string(page).unwrap_or_else(|error| panic!("a page: {error}"));
    let mut html = String::with_capacity(data.len() + TEMPLATE.len() + 65_536);
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        html.push_str(before);
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        match name {
            "title" => html.push_str(&title),
            "style" => html.push_str(STYLE),
            "script" => SCRIPTS.iter().for_each(|script| html.push_str(script)),
            "data" => html.push_str(&inert(&data)),
            other => panic!("the page has no {other}"),
        }
        rest = after;
    }
    html + rest
}

/// JSON that nothing in a page can take for markup: it stays the same JSON.
#[must_use]
pub fn inert(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPTS: [&str; 5] = [
    include_str!("page/data.js"),
    include_str!("page/view.js"),
    include_str!("page/draw.js"),
    include_str!("page/panels.js"),
    include_str!("page/main.js"),
];
