//! Counts over runs: what a swarm did, so that "nothing was wrong" can be told from "nothing happened".

use ironseed_core::planted;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Counts of one run, or of many added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Runs.
    pub runs: u64,
    /// Events of the world.
    pub events: u64,
    /// Simulated nanoseconds.
    pub sim_nanos: u64,
    /// Runs that ended in a violation.
    pub violations: u64,
    /// Histories searched for a linearization.
    pub searches: u64,
    /// Searches given up: histories of which nothing is known.
    pub searches_given_up: u64,
    /// Faults that struck, by name.
    pub faults: BTreeMap<String, u64>,
    /// Runs by nodes and shards.
    pub topology: BTreeMap<String, u64>,
    /// Runs by kind of workload, and operations and refusals by name.
    pub workload: BTreeMap<String, u64>,
    /// What seldom happens and must happen in a swarm, by name.
    pub rare: BTreeMap<String, u64>,
    /// How often each fault point was come to in runs that have it, by name.
    pub points_reached: BTreeMap<String, u64>,
    /// How often each fault point forced what it stands for.
    pub points_forced: BTreeMap<String, u64>,
    /// Messages by what the network did to them.
    pub messages: BTreeMap<String, u64>,
}

impl Stats {
    /// Counts one more of these.
    pub fn count(counts: &mut BTreeMap<String, u64>, name: &str, by: u64) {
        if by == 0 {
            return;
        }
        match counts.get_mut(name) {
            Some(count) => *count += by,
            None => {
                counts.insert(name.into(), by);
            }
        }
    }

    /// Adds what all fault points of this process have counted since the last time.
    pub fn take_points(&mut self) {
        for (point, reached, forced) in planted::take_tally() {
            Self::count(&mut self.points_reached, point.name(), reached);
            Self::count(&mut self.points_forced, point.name(), forced);
        }
    }

    /// Adds another run, or other runs.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.events += other.events;
        self.sim_nanos += other.sim_nanos;
        self.violations += other.violations;
        self.searches += other.searches;
        self.searches_given_up += other.searches_given_up;
        let pairs = [
            (&mut self.faults, &other.faults),
            (&mut self.topology, &other.topology),
            (&mut self.workload, &other.workload),
            (&mut self.rare, &other.rare),
            (&mut self.messages, &other.messages),
            (&mut self.points_reached, &other.points_reached),
            (&mut self.points_forced, &other.points_forced),
        ];
        for (mine, theirs) in pairs {
            theirs.iter().for_each(|(name, count)| Self::count(mine, name, *count));
        }
    }

    /// One JSON object: the last line that the binary prints.
    #[must_use]
    pub fn json(&self, wall_seconds: f64) -> Map<String, Value> {
        let seconds = (self.sim_nanos / 1_000_000) as f64 / 1000.0;
        let value = json!({
            "runs": self.runs,
            "events": self.events,
            "sim_seconds": seconds,
            "wall_seconds": wall_seconds,
            "violations": self.violations,
            "searches": self.searches,
            "searches_given_up": self.searches_given_up,
            "faults": self.faults,
            "topology": self.topology,
            "workload": self.workload,
            "rare": self.rare,
            "messages": self.messages,
            "points_reached": self.points_reached,
            "points_forced": self.points_forced,
        });
        match value {
            Value::Object(map) => map,
            other => unreachable!("an object, not {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up() {
        let mut one = Stats { runs: 1, events: 10, sim_nanos: 1_500_000_000, ..Stats::default() };
        Stats::count(&mut one.faults, "kill", 2);
        Stats::count(&mut one.rare, "never", 0);
        let mut sum = one.clone();
        sum.add(&one);
        let json = Value::Object(sum.json(0.5));
        assert_eq!(json["runs"], 2);
        assert_eq!(json["sim_seconds"], 3.0);
        assert_eq!(json["faults"]["kill"], 4);
        assert_eq!(json["rare"], json!({}));
    }
}
