//! Raft: one log per group, the same on a quorum of disks.
//!
//! # The problem
//!
//! A shard's state must survive the loss of any minority of its replicas and look like one copy to its
//! clients. So its commands are put in one order, in a log that a majority of replicas holds durably
//! before anyone acts on it. This module is that log for one group: [`Group`] is one replica's part, as a
//! pure machine. Commands are opaque bytes. It follows the extended Raft paper (Ongaro, Ousterhout 2014;
//! sections as cited) and the thesis (Ongaro 2014).
//!
//! # What it guarantees
//!
//! The properties of the paper's figure 3, whatever the network does and whenever replicas crash:
//! - **Election safety**: at most one leader a term (asserted by `follow`).
//! - **Leader append-only, log matching**: entries at one position are equal, and so is all before them.
//! - **Leader completeness**: whoever leads has every committed entry.
//! - **State machine safety**: no two replicas apply different entries at one index.
//!
//! And beyond it:
//! - **Promises are gated in data.** Term, vote and entries go out as [`Output::Persist`]; each message
//!   that promises them names the persist that it waits for. A leader counts itself only up to its own
//!   durable watermark, though its appends leave before its sync.
//! - **Nothing is applied that isn't durable here**, so a restart never finds a state that is ahead of its
//!   own log, except where the disk itself forgot.
//! - **Linearizable reads** cost one round of heartbeats for all that arrive together (ReadIndex). A node can do with less,
//!   over all its groups ([`Group::read_index`], `node/support.rs`), and a leader without any round while it holds a lease,
//!   which there is only where operators have promised how far clocks drift (`lease`).
//! - **No disturbance** (thesis 9.6, 4.2.3, 6.2): a replica asks before it raises the term; whoever hears
//!   a leader doesn't vote it out; a leader that a quorum doesn't answer steps down.
//! - **Damage is not absence** (protocol-aware recovery, FAST '18). An entry whose payload is damaged
//!   still counts in elections with its identity; its bytes come back from a peer. A replica that may have
//!   forgotten promises counts for nothing until a quorum without it has readmitted it.
//! - **Voters come and go** by joint consensus (Raft 6), an entry at a time, whoever leads meanwhile (`membership`).
//! - **Quiet groups cost nothing**: no timers, no messages, until something happens.
//!
//! # The path of one command
//!
//! 1. [`Input::Propose`] at the leader appends an entry: [`Output::Appended`] names its position. In the
//!    same step appends go to every follower, and one [`Output::Persist`] to the leader's own disk.
//! 2. A follower compares the append with its log ([`Body::Append`], `on_append`), cuts what conflicts,
//!    takes the rest, and answers [`AppendOutcome::Matched`] behind the gate of its own persist.
//! 3. The leader commits what a quorum has matched, once an entry of its own term is among it
//!    (`maybe_commit`, figure 8). [`Output::Committed`] hands the entries to apply.
//! 4. Followers learn the commit index with the next append or heartbeat.
//!
//! A proposal whose position is later held by another term was never committed and never will be.
//!
//! # What the node owes
//!
//! - Persists are made durable in order, and a restart finds a prefix of their writes. The order within a
//!   persist counts: its hard state comes before the entries of its term.
//! - After [`Output::Committed`] it applies in order and says so with [`Input::Applied`]; it answers
//!   [`Input::Compact`] with a durable state first. When memory is short it compacts: the whole log after
//!   the compaction point is resident.
//! - It streams states ([`Output::WantSnapshot`]), because only it knows them. It asks
//!   [`Group::wants_snapshot`] before the state is replaced, installs it durably, then feeds
//!   [`Input::SnapshotInstalled`].
//! - It runs one beat between nodes, and tells groups with [`Input::PeerSuspected`] and
//!   [`Input::PeerRestarted`]: nothing else wakes a quiet group whose leader died. `PeerRestarted` also
//!   tells a leader to show itself to a replica that can't campaign, and [`Input::PeerFound`] a quiet replica that it may
//!   have missed a leader.
//! - It restores [`Standing::Full`] only where it knows that no promise was lost: a clean stop, or syncs
//!   before every acknowledgement and no identity lost. [`Output::Readmitted`] ends the other standings,
//!   for this boot: after another unclean stop the replica abstains again.
//!
//! # The files
//!
//! `group` has state, dispatch, terms and the end of a step. `election`, `replication`, `read`, `lease`,
//! `snapshot`, `readmit`, `membership`, `repair` and `quiesce` are one protocol each, with both sides of a message in
//! one place. `log`, `disk` (what is on its way there), `progress` (one follower), `configuration` and `quorum` decide
//! nothing about messages. The tests: `paper` (one rule of the paper each), `testscripts` (stories, run by
//! `script`), `simulation` (random misfortune), all over the box in `testing`.
//!
//! # Caveats
//!
//! - **A lease is no stronger than its clocks**: where they drift further than promised, a read may be stale. Without the
//!   promise ([`Config::max_clock_drift_ppm`]) no answer rests on a clock.
//! - **An unanimous election** is how a group starts whose every replica abstains. It can lose what every
//!   holder forgot: that is what an fsync policy other than `always` means. A replaced store
//!   ([`Standing::Blank`]) takes no part in it, so replacing a majority of disks ends in waiting for an
//!   operator and not in a silent loss.
//! - Nothing limits the uncommitted tail but what the node lets clients have under way.

mod api;
mod configuration;
mod disk;
mod election;
mod group;
mod lease;
mod log;
mod membership;
mod message;
mod progress;
mod quiesce;
mod quorum;
mod read;
mod readmit;
mod repair;
mod replication;
mod snapshot;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod paper;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod script;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod simulation;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod testing;

pub use api::{
    Config, Event, FollowerStatus, HardState, Input, Output, PersistId, Restored, Role, Standing,
    Status, Write,
};
pub use configuration::{Configuration, Member, Seat, VOTERS_MAX, is_electorate};
pub use group::Group;
pub use message::{AppendOutcome, Ballot, Body, Entry, Message, Payload, PayloadAnswer};
