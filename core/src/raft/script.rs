//! Golden scripts: one scenario a file, with every message, write, role change and answer as transcript.
//!
//! Lines of a script: `#` starts a comment, which is copied. Nodes are numbers.
//!
//! - `cluster 3` starts that many nodes, `cluster 3 5000` with leases for clocks that run wrong by 5000 millionths at the most.
//!   `status` shows them all.
//! - `campaign 1`, `propose 1 a`, `read 1`, `transfer 1`, `transfer 1 2` (best to 2), `wake 1`, `suspect 2 1` (2 suspects 1),
//!   `found 2 1` (2 hears from 1 again),
//!   `damaged 1` (its state), `compact 1 5` feed a node.
//! - `join 4` starts a node with an empty disk that the group was not founded with; `voters 1 1,2,4` tells leader 1
//!   who is to vote.
//! - `deliver 2` brings it everything under way, `deliver 1 2` what is under way from 1 to 2,
//!   `drop 1 2` loses that.
//! - `sync 1` makes everything durable that node 1 has asked for.
//! - `stabilize` syncs and delivers until nothing is under way. `stabilize 2` leaves node 2's disk alone.
//! - `partition 1` cuts a node off, `cut 1 2` what goes from 1 to 2, `heal` ends that.
//! - `advance 100` passes milliseconds and fires every deadline on the way; `settle 100` also
//!   stabilizes after each deadline.
//! - `crash 1` loses what wasn't synced. `restart 1` boots it, `restart 1 abstaining` or `blank` in that
//!   standing; the others are told only by its messages.
//! - `rot 1 2` damages the payload of entry 2 on a node that is down.
//! - `quiet` and `loud` leave out, and show again, everything but roles, answers and traces.

extern crate std;

use super::testing::{Cluster, Flight, Packet, describe, describe_configuration, describe_write};
use super::{Input, Output, Payload, Standing, Status};
use crate::machine::Duration;
use crate::planted::Planted;
use crate::types::{Index, NodeId};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

/// A script that runs.
struct Runner {
    cluster: Cluster,
    transcript: String,
    cut: Vec<NodeId>,
    links: Vec<(NodeId, NodeId)>,
    loud: bool,
    next_id: u64,
}

impl Runner {
    fn line(&mut self, text: &str) {
        writeln!(self.transcript, "  {text}").unwrap();
    }

    /// Shows what the nodes have put out since the last time.
    fn show(&mut self) {
        for (id, output) in core::mem::take(&mut self.cluster.seen) {
            let text = match output {
                Output::Persist { id, writes } if self.loud => {
                    let writes: Vec<String> = writes.iter().map(describe_write).collect();
                    format!("writes {} [{}]", id.0, writes.join(" "))
                }
                Output::Send { to, message, after } if self.loud => {
                    let gate = after.map_or(String::new(), |gate| format!(" (after {})", gate.0));
                    format!("-> {to:?} {:?} {}{gate}", message.term, describe(&message.body))
                }
                Output::Persist { .. } | Output::Send { .. } => continue,
                Output::Role { role, term, leader } => {
                    let leader = leader.map_or(String::from("nobody"), |node| format!("{node:?}"));
                    format!("is {role:?} in {term:?}, follows {leader}")
                }
                other => format!("{other:?}"),
            };
            self.line(&format!("{id:?} {text}"));
        }
    }

    fn deliver(&mut self, keep: impl Fn(&Flight) -> bool) {
        let flights = core::mem::take(&mut self.cluster.net);
        for flight in flights {
            let link = (flight.from, flight.to);
            let cut = self.cut.contains(&link.0) || self.cut.contains(&link.1);
            if !keep(&flight) {
                self.cluster.net.push(flight);
            } else if cut || self.links.contains(&link) {
                self.cluster.lose(&flight);
            } else {
                if let Packet::Snapshot { machine, .. } = &flight.packet {
                    self.line(&format!(
                        "{:?} receives a state at {:?}",
                        flight.to, machine.applied
                    ));
                }
                self.cluster.deliver(flight);
            }
            self.show();
        }
    }

    fn stabilize(&mut self, unsynced: Option<NodeId>) {
        for _ in 0..1_000 {
            for id in self.cluster.ids() {
                if Some(id) != unsynced && self.cluster.is_up(id) {
                    self.cluster.sync_all(id);
                    self.show();
                }
            }
            if self.cluster.net.is_empty() {
                return;
            }
            self.deliver(|_| true);
        }
        panic!("no end in sight:\n{}", self.transcript);
    }

    /// Passes time from deadline to deadline.
    fn advance(&mut self, span: Duration, stabilize: bool) {
        let end = self.cluster.now + span;
        loop {
            let ids = self.cluster.ids().into_iter().filter(|id| self.cluster.is_up(*id));
            let deadline = |id| self.cluster.group(id).deadline().map(|at| (at, id));
            let next = ids.filter_map(deadline).min().filter(|(at, _)| *at <= end);
            let Some((at, id)) = next else { break };
            self.cluster.now = self.cluster.now.max(at);
            self.cluster.input(id, Input::Timer);
            self.show();
            if stabilize {
                self.stabilize(None);
            }
        }
        self.cluster.now = end;
    }

    fn status(&mut self) {
        for id in self.cluster.ids() {
            if !self.cluster.is_up(id) {
                self.line(&format!("{id:?} is down"));
                continue;
            }
            let Status { role, term, commit_index, applied_index, last, durable, .. } =
                self.cluster.group(id).status();
            let status = self.cluster.group(id).status();
            let mut text = format!(
                "{id:?}@{term} {role:?} last={last:?} commit={commit_index} applied={applied_index} sync={durable}"
            );
            if status.compacted.index > Index(0) {
                write!(text, " compacted={:?}", status.compacted).unwrap();
            }
            if status.configuration.version > 0 {
                write!(text, " {}", describe_configuration(&status.configuration)).unwrap();
            }
            if status.standing != Standing::Full {
                write!(text, " {:?}", status.standing).unwrap();
            }
            for (set, name) in [
                (status.quiet, "quiet"),
                (status.damaged, "damaged"),
                (status.lost > 0, "lost payloads"),
            ] {
                if set {
                    write!(text, " {name}").unwrap();
                }
            }
            self.line(&text);
        }
    }

    fn command(&mut self, words: &[&str]) {
        let number = |at: usize| words.get(at).map(|word| word.parse::<u64>().unwrap());
        let node = |at: usize| number(at).map(|id| NodeId(u32::try_from(id).unwrap()));
        let first = node(1).unwrap_or_default();
        self.next_id += 1;
        let id = self.next_id;
        match words[0] {
            "cluster" => {
                let drift = number(2).map(|ppm| u32::try_from(ppm).unwrap());
                self.cluster = Cluster::leased(first.0, 1, Planted::NONE, drift);
            }
            "campaign" => self.cluster.input(first, Input::Campaign),
            "propose" => {
                let command = words[2].as_bytes().to_vec().into();
                self.cluster.input(first, Input::Propose { id, command });
            }
            "read" => self.cluster.input(first, Input::Read { id }),
            "transfer" => {
                let prefer = node(2);
                self.cluster.input(first, Input::TransferAway { prefer });
            }
            "wake" => self.cluster.input(first, Input::Wake),
            "join" => self.cluster.add(first, Standing::Blank),
            "voters" => {
                let parse = |word: &str| NodeId(word.parse().unwrap());
                let voters = words[2].split(',').map(parse).collect();
                self.cluster.input(first, Input::ChangeVoters { id, wish: id, voters });
            }
            "suspect" => self.cluster.input(first, Input::PeerSuspected { node: node(2).unwrap() }),
            "found" => self.cluster.input(first, Input::PeerFound { node: node(2).unwrap() }),
            "damaged" => self.cluster.input(first, Input::StateDamaged),
            "compact" => self.cluster.compact(first, Index(number(2).unwrap())),
            "deliver" => match node(2) {
                Some(to) => self.deliver(|flight| (flight.from, flight.to) == (first, to)),
                None => self.deliver(|flight| flight.to == first),
            },
            "drop" => {
                let to = node(2).unwrap();
                self.cluster.net.retain(|flight| (flight.from, flight.to) != (first, to));
            }
            "sync" => self.cluster.sync_all(first),
            "stabilize" => self.stabilize(node(1)),
            "partition" => self.cut.push(first),
            "cut" => self.links.push((first, node(2).unwrap())),
            "heal" => {
                self.cut.clear();
                self.links.clear();
            }
            "advance" => self.advance(Duration::from_millis(number(1).unwrap()), false),
            "settle" => self.advance(Duration::from_millis(number(1).unwrap()), true),
            "crash" => self.cluster.crash(first, 0),
            "restart" => {
                let standing = match words.get(2) {
                    None => Standing::Full,
                    Some(&"abstaining") => Standing::Abstaining,
                    Some(_) => Standing::Blank,
                };
                self.cluster.restart(first, standing);
            }
            "rot" => {
                let entries = &mut self.cluster.node(first).store.entries;
                let index = Index(number(2).unwrap());
                let entry = entries.iter_mut().find(|entry| entry.position.index == index);
                let payload = &mut entry.unwrap().payload;
                *payload = Payload::Lost { configures: payload.changes_members() };
            }
            "status" => self.status(),
            "quiet" => self.loud = false,
            "loud" => self.loud = true,
            other => panic!("unknown command {other}"),
        }
        self.show();
        self.cluster.check_logs();
    }
}

fn run(script: &str) -> String {
    let mut runner = Runner {
        cluster: Cluster::new(1, 1, Planted::NONE),
        transcript: String::new(),
        cut: Vec::new(),
        links: Vec::new(),
        loud: true,
        next_id: 0,
    };
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        writeln!(runner.transcript, "{line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with('#') {
            runner.command(&words);
        }
    }
    runner.transcript
}

#[test]
fn golden_scripts() {
    insta::glob!("testscripts/*.txt", |path| {
        let script = std::fs::read_to_string(path).unwrap();
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(run(&script));
        });
    });
}
