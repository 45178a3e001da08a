//! The surface of a group: its settings, what a node restores it from, feeds it, and does for it.

use super::configuration::Configuration;
use super::message::{Entry, Message};
use crate::machine::Duration;
use crate::planted::Planted;
use crate::types::{GroupId, Incarnation, Index, NodeId, Position, Term};
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;

/// A replica's settings. All voters of a group must agree on the times.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// The group.
    pub group: GroupId,
    /// This boot of this node's store.
    pub incarnation: Incarnation,
    /// The voters that the group was founded with: 1 to [`VOTERS_MAX`](super::VOTERS_MAX), sorted. None if this replica
    /// was not among them and is to learn of its group from its leader.
    pub voters: Vec<NodeId>,
    /// How often a leader says that it leads.
    pub heartbeat: Duration,
    /// A follower waits this long without a leader at least, and less than twice as long.
    pub election: Duration,
    /// A group without work for this long goes quiet.
    pub quiesce_after: Duration,
    /// The most bytes of entries in one append; a single larger entry goes alone.
    pub append_bytes_max: u64,
    /// The most appends under way to one follower.
    pub append_inflight_max: u32,
    /// How wrong monotonic clocks may run at the most, of this node and of any other with such a promise: parts in a million, over an
    /// election timeout. With it followers give promises and leaders hold leases; `None` for neither.
    pub max_clock_drift_ppm: Option<u32>,
    /// The planted bug, in the simulator.
    pub planted: Planted,
}

/// Term, vote and commit index as they are on disk (Raft figure 2). Term and vote are durable before
/// anything is said on them; the commit index only saves work after a restart and rides along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got the vote of this term.
    pub vote: Option<NodeId>,
    /// Highest index known to be committed.
    pub commit_index: Index,
}

/// Whether a replica's promises of earlier boots can be relied on.
///
/// The worse, the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Standing {
    /// They can: it votes, acknowledges and campaigns.
    #[default]
    Full,
    /// It may have forgotten some (unclean stop without sync before acknowledgement, lost identities):
    /// it counts for nothing until it is readmitted. If every voter answers an election the group may
    /// start with what all of them remember together.
    Abstaining,
    /// It never had this group's log, or has lost all of it (replaced store): as abstaining, but it
    /// can't even speak for what all remember together, so it gives no conditional vote either.
    Blank,
}

/// What a node found of a group at boot.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The last hard state. Its term may be behind the last entry's.
    pub hard_state: HardState,
    /// The log begins after this position.
    pub compacted: Position,
    /// The configuration at `compacted`; `None` for the one that the group was founded with, and one without members if
    /// it can't be known.
    pub configuration: Option<Configuration>,
    /// The log: contiguous from `compacted`, terms never falling.
    pub entries: Vec<Entry>,
    /// What the state contains. Beyond the log's end if the log lost its unsynced tail; before
    /// `compacted` only if the state is damaged.
    pub applied: Position,
    /// The configuration at `applied`, if the state knows it. Without it, a state that is ahead of its log says nothing of
    /// who has come and gone, and the log's last configuration is taken for that of the group.
    pub applied_configuration: Option<Configuration>,
    /// Whether earlier promises can be relied on.
    pub standing: Standing,
}

/// Names one [`Output::Persist`] of one group and boot. Rises by one, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);

/// Everything that can move a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message from another replica.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A command for the log. Answered with [`Output::Appended`] or [`Output::Rejected`] in the step.
    Propose {
        /// The node's name for it.
        id: u64,
        /// The command.
        command: Bytes,
    },
    /// A linearizable read. Answered with [`Output::ReadReady`] or [`Output::ReadRejected`] in some
    /// later step; in this one by a leader that [holds a lease](super::Group::holds_lease).
    Read {
        /// The node's name for it.
        id: u64,
    },
    /// The leader of this term said, beside Raft's messages, that it has committed so much.
    LeaderCommits {
        /// Its term.
        term: Term,
        /// How much.
        index: Index,
    },
    /// The deadline has passed, or may have.
    Timer,
    /// Everything through this persist is durable.
    Persisted {
        /// The last one.
        upto: PersistId,
    },
    /// The state contains everything through this index.
    Applied {
        /// The last one.
        index: Index,
    },
    /// The log through this index isn't needed: the state that contains it is durable.
    Compact {
        /// No more than what was applied.
        upto: Index,
    },
    /// The state was replaced by a leader's and is durable. Only after
    /// [`super::Group::wants_snapshot`] agreed.
    SnapshotInstalled {
        /// The term of the leader that sent it, when it did.
        term: Term,
        /// What it contains.
        position: Position,
        /// The configuration at that position.
        configuration: Configuration,
    },
    /// A follower has installed the snapshot that was wanted for it.
    SnapshotSent {
        /// The follower.
        to: NodeId,
        /// What the snapshot contained.
        position: Position,
    },
    /// Sending a snapshot failed; it is wanted again when the follower is heard from.
    SnapshotFailed {
        /// The follower.
        to: NodeId,
    },
    /// Something may have happened to a quiet group's leader: look.
    Wake,
    /// A peer's node hasn't been heard from for a while.
    PeerSuspected {
        /// The peer.
        node: NodeId,
    },
    /// A peer's node is heard from again.
    PeerFound {
        /// The peer.
        node: NodeId,
    },
    /// A peer's node has another incarnation than before: its volatile state is gone.
    PeerRestarted {
        /// The peer.
        node: NodeId,
        /// Its new boot.
        incarnation: Incarnation,
    },
    /// These shall be the voters (Raft 6). Answered as a proposal is, and done once [`super::Group::configuration`] of a
    /// committed index [is steady](Configuration::is_steady): new voters learn first, whoever leads meanwhile goes on with
    /// it, and a later wish takes the place of this one. Refused by a leader while its last change isn't committed, and where
    /// the group has followed a later wish, or this one.
    ChangeVoters {
        /// The node's name for it.
        id: u64,
        /// Which wish it is: they rise, from 1.
        wish: u64,
        /// The voters: 1 to [`VOTERS_MAX`](super::VOTERS_MAX), sorted.
        voters: Vec<NodeId>,
    },
    /// Give leadership to the most advanced follower (graceful stop), and if others have as much, to this one. Proposals are
    /// rejected as soon as there is one that can take it; given up after an election timeout.
    TransferAway {
        /// Whom it should go to, if anybody.
        prefer: Option<NodeId>,
    },
    /// As [`Self::TransferAway`], but to this follower, or to nobody if it is not heard of or still lacks much after an election timeout
    /// (balancing).
    TransferTo {
        /// The follower.
        node: NodeId,
    },
    /// Stand for election now, pre-vote first.
    Campaign,
    /// The state above is damaged: ask the leader for all of it, and lead only if no other log can win, until
    /// another replica has this one's or has given a state that fits it.
    StateDamaged,
}

/// Everything a replica can ask of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make these durable, in this order and after those of every earlier persist; then feed
    /// [`Input::Persisted`]. A restart must find a prefix of them.
    Persist {
        /// Its name.
        id: PersistId,
        /// What to write.
        writes: Vec<Write>,
    },
    /// A message for another replica.
    Send {
        /// The replica.
        to: NodeId,
        /// What to say.
        message: Message,
        /// The gate: not before this persist is durable. It may be one that comes later in the same
        /// step's outputs.
        after: Option<PersistId>,
    },
    /// A proposal is in the log. It is committed if the entry at this very position is; another term
    /// there means that it never will be.
    Appended {
        /// The proposal.
        id: u64,
        /// Where.
        position: Position,
    },
    /// A proposal was refused; nothing happened.
    Rejected {
        /// The proposal.
        id: u64,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// The entries through this index are committed and durable here: apply them
    /// ([`super::Group::entries`]).
    Committed {
        /// The last one.
        upto: Index,
    },
    /// A read sees everything acknowledged before it, once the state contains this index.
    ReadReady {
        /// The read.
        id: u64,
        /// The read index.
        index: Index,
    },
    /// A read was refused.
    ReadRejected {
        /// The read.
        id: u64,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Role, term or leader have changed.
    Role {
        /// What this replica is now.
        role: Role,
        /// In which term.
        term: Term,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// A follower needs entries that the log no longer has, or its state is damaged, or the leader's is: send it the
    /// state, with its position, this replica's term and [`super::Group::configuration_at`] the
    /// position; then feed [`Input::SnapshotSent`] or [`Input::SnapshotFailed`].
    WantSnapshot {
        /// The follower; at a follower its leader.
        to: NodeId,
    },
    /// This replica counts again. The node may record that nothing is forgotten in this group.
    Readmitted,
    /// What happened, for traces and checkers.
    Trace(Event),
}

/// One change on disk. Replaying the writes of all persists in order rebuilds [`Restored`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Replaces the hard state.
    HardState(HardState),
    /// Adds the entry after the last one.
    Append(Entry),
    /// Replaces the damaged payload of an entry that keeps its identity; nothing after it changes.
    Repair(Entry),
    /// Removes this entry and all after it.
    Truncate {
        /// The first one removed.
        from: Index,
    },
    /// The entries through this position are no longer needed.
    Compacted {
        /// The last one.
        position: Position,
        /// The configuration there.
        configuration: Configuration,
    },
    /// All entries are gone; the log begins after this position.
    Reset {
        /// What the state contains.
        position: Position,
        /// The configuration there.
        configuration: Configuration,
    },
}

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub enum Role {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads its term.
    Leader,
}

/// A replica at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The group.
    pub group: GroupId,
    /// What this replica is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// Highest index known to be committed.
    pub commit_index: Index,
    /// Highest index in the state.
    pub applied_index: Index,
    /// The last entry.
    pub last: Position,
    /// The durable watermark, below the first damaged payload.
    pub durable: Index,
    /// The log begins after this.
    pub compacted: Position,
    /// Bytes of the log in memory.
    pub log_bytes: u64,
    /// Whether the group is quiet.
    pub quiet: bool,
    /// Whether the replica counts.
    pub standing: Standing,
    /// Whether its state is damaged.
    pub damaged: bool,
    /// Entries whose payload is damaged.
    pub lost: usize,
    /// Who belongs to the group, by the last entry that says so, committed or not.
    pub configuration: Configuration,
    /// At a leader: the other members.
    pub followers: Vec<FollowerStatus>,
}

/// What a leader knows of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// The follower.
    pub node: NodeId,
    /// The leader's proof about it.
    pub match_index: Index,
    /// Heard from within the last election timeout.
    pub active: bool,
    /// Waits for a snapshot.
    pub snapshot: bool,
    /// False while it abstains.
    pub counts: bool,
}

/// What happened inside, beyond what other outputs show.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub enum Event {
    /// A conflict with the leader removed entries.
    Truncated {
        /// The first one removed.
        from: Index,
    },
    /// A damaged payload was given back by a peer.
    Repaired {
        /// Which entry.
        position: Position,
    },
    /// A damaged entry that can't have been committed was given up, with all after it.
    GaveUp {
        /// Which entry.
        position: Position,
    },
    /// A leader's state replaced ours.
    SnapshotInstalled {
        /// What it contains.
        position: Position,
    },
    /// The group has gone quiet.
    Quiesced,
    /// Something woke it.
    Woken,
    /// Reads were answered by a lease.
    ReadByLease,
    /// This replica is no member of its group any more.
    Expelled,
    /// An election was won because every voter answered.
    Unanimous {
        /// Its term.
        term: Term,
    },
}
