//! What must hold, one file a property.
//!
//! Some oracles watch while a run goes on ([`raft`], [`durable`], [`liveness`]); others read the
//! history of the clients when it is over ([`kv`], [`objects`], [`uploads`] through [`linearizable`]). None shares
//! code with what it checks: placement, formats' meaning and S3's rules are written down again, except
//! for the WAL's record decoder, which has tests of its own.
//!
//! A search for a linearization that takes too long is given up and counted, never reported as a
//! violation and never as a success.

pub mod collection;
pub mod durable;
pub mod kv;
pub mod linearizable;
pub mod liveness;
pub mod objects;
pub mod oracles;
pub mod raft;
pub mod uploads;

use crate::history::{Entry, History};
use crate::workload::content::Contents;
use linearizable::{Interval, Model, Verdict};
use std::fmt;

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which oracle saw it.
    pub checker: &'static str,
    /// World time, nanoseconds; 0 where none can be given.
    pub at: u64,
    /// What it saw, for people.
    pub what: String,
}

impl Violation {
    /// A violation seen by this oracle.
    #[must_use]
    pub const fn new(checker: &'static str, at: u64, what: String) -> Self {
        Self { checker, at, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.checker, Millis(self.at), self.what)
    }
}

/// World time as the trace and `--until` write it.
#[derive(Clone, Copy, Debug)]
pub struct Millis(pub u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}ms", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// What the checks of a history come to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// Histories of single keys and names that were searched.
    pub searched: u64,
    /// Searches that were given up.
    pub given_up: u64,
}

/// Checks a whole history.
#[must_use]
pub fn check_history(history: &History, contents: &Contents) -> Findings {
    let entries = history.entries();
    let mut findings = Findings::default();
    kv::check_forms(entries, &mut findings.violations);
    objects::check_forms(entries, contents, &mut findings.violations);
    uploads::check_forms(entries, &mut findings.violations);
    let mut keys = kv::split(entries);
    kv::add_absences(entries, &mut keys);
    for (key, history) in &keys {
        findings.search(&kv::Key, "linearizable", &format!("key {key:?}"), history);
    }
    let split = objects::split(entries, contents);
    for ((bucket, key), history) in &split.objects {
        let name = format!("object {bucket}/{key}");
        findings.search(&objects::ObjectKey, "linearizable", &name, history);
    }
    for (bucket, history) in &split.buckets {
        let name = format!("bucket {bucket}");
        findings.search(&objects::BucketName, "linearizable", &name, history);
    }
    for ((bucket, key, upload), history) in &uploads::split(entries) {
        let name = format!("{upload:?} of {bucket}/{key}");
        findings.search(&uploads::Upload, "linearizable", &name, history);
    }
    findings
}

impl Findings {
    fn search<M: Model>(
        &mut self,
        model: &M,
        checker: &'static str,
        name: &str,
        history: &[Interval<M::Op>],
    ) where
        M::Op: fmt::Debug,
    {
        self.searched += 1;
        match linearizable::check(model, history) {
            Verdict::Linearizable => {}
            Verdict::GaveUp(_) => self.given_up += 1,
            Verdict::Violation { longest, stuck } => {
                let at = stuck.iter().map(|&at| history[at].called).min().unwrap_or(0);
                let what = describe(name, history, &longest, &stuck);
                self.violations.push(Violation::new(checker, at, what));
            }
        }
    }
}

/// The end of the longest order that could be explained, and what fits nowhere after it.
fn describe<Op: fmt::Debug>(
    name: &str,
    history: &[Interval<Op>],
    longest: &[usize],
    stuck: &[usize],
) -> String {
    let line = |mark: &str, position: &usize| {
        let Interval { called, returned, op } = &history[*position];
        let returned = returned.map_or("open".into(), |at| Millis(at).to_string());
        format!("\n  {mark} {} .. {returned}  {op:?}", Millis(*called))
    };
    let mut text = format!("{name}: no order explains {} operations", history.len());
    let shown = longest.len().saturating_sub(SHOWN);
    longest[shown..].iter().for_each(|position| text += &line("then", position));
    stuck.iter().take(SHOWN).for_each(|position| text += &line("but ", position));
    text
}

/// An entry as a report shows it.
fn explain(entry: &Entry) -> String {
    format!(
        "  client {} at {:?}, {}: {:?} -> {:?}",
        entry.client,
        entry.node,
        Millis(entry.called),
        entry.request,
        entry.outcome
    )
}

/// Operations that a report shows of a history.
const SHOWN: usize = 12;
