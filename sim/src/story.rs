//! A run told so that a person can read it from the first line to the last: what clients asked and were
//! answered, what broke, who came to lead, what was found damaged and what was healed. Messages, timers and
//! disk operations are left out; the trace ([`crate::trace`]) has them.
//!
//! Stories of small runs are kept as snapshots (`sim/tests/stories.rs`): a change of the protocol shows in them as
//! a difference that can be read.

use crate::run::{Order, run};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// The longest line.
const LINE_MAX: usize = 120;

/// Runs this order and tells its story. The last line is the verdict.
#[must_use]
pub fn story(order: &Order) -> String {
    let told = Arc::new(Mutex::new(String::new()));
    let sink = {
        let told = told.clone();
        move |line: &str| {
            if let Some(line) = tell(line) {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = writeln!(told, "{line}");
            }
        }
    };
    let report = run(order, Some(Box::new(sink)));
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match report.violation {
        None => told += "nothing is wrong\n",
        Some(violation) => {
            let _ = writeln!(told, "violation of {violation}");
        }
    }
    told
}

/// A line of the trace as the story has it, if it has it.
fn tell(line: &str) -> Option<String> {
    let (at, what) = line.trim_start().split_once(' ')?;
    if !belongs(what) {
        return None;
    }
    // Whole bodies say less than that there is one.
    let what = what.split_once(", value:").map_or(what, |(before, _)| before);
    let what: String = what.chars().take(LINE_MAX).collect();
    let millis = at.trim_end_matches("ms").split('.').next().unwrap_or_default();
    Some(format!("{millis:>6} ms  {what}"))
}

fn belongs(what: &str) -> bool {
    let second = what.split(' ').nth(1).unwrap_or_default();
    let number = second.strip_prefix("op").is_some_and(|rest| rest.parse::<u64>().is_ok());
    let small = number
        || matches!(second, "->" | "<-" | "timer" | "Running" | "Answered" | "Booted" | "Decided")
        || second.starts_with("Log(");
    // Whoever stands and whoever wins; that the others follow goes without saying.
    let follows = second == "Role"
        && (what.contains("role: Follower") || what.contains("role: PreCandidate"));
    !small && !follows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_want_to_know_is_told_and_the_rest_is_not() {
        let told = |line: &str| tell(&format!("{line:>60}"));
        assert_eq!(told("12.345678ms n1 op7 done"), None);
        assert_eq!(told("12.345678ms n1 -> n2 PeerMessage { }"), None);
        assert_eq!(told("12.345678ms n1 Role { group: g0, role: Follower }"), None);
        assert_eq!(told("12.345678ms n2 is killed"), Some("    12 ms  n2 is killed".into()));
        assert_eq!(
            told("1202.3ms c0 asks n3 r1 Kv(Put { key: b\"k\", value: b\"\\0\\0\" })"),
            Some("  1202 ms  c0 asks n3 r1 Kv(Put { key: b\"k\"".into())
        );
    }
}
