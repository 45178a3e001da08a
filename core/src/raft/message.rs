//! What the replicas of one group say to each other, and what their log holds. These are wire and
//! disk types (docs/formats.md): everything here derives its encoding, nothing else in this module does.

use super::configuration::Configuration;
use crate::codec::Octets;
use crate::machine::Duration;
use crate::types::{Incarnation, Index, Position, Term};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// A message between two replicas of one group. The node adds the group and the sender.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Message {
    /// The sender's term, always its true one: a pre-vote asks about another term in its body.
    pub term: Term,
    /// The boot of the sender's store. What an older boot promised may have been forgotten since, so
    /// messages of a boot older than the newest one known are dropped.
    pub incarnation: Incarnation,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// A candidate asks for a vote (Raft 5.2), or asks whether it would get one (thesis 9.6).
    VoteRequest {
        /// Only asking: changes nothing at the voter.
        pre: bool,
        /// The term that the candidate wants to lead.
        campaign: Term,
        /// The candidate's last entry, for the comparison of 5.4.1.
        last: Position,
        /// The leader itself asked for this election, so a live leader is no reason to refuse.
        transfer: bool,
    },
    /// The answer to it.
    VoteReply {
        /// Whether a pre-vote is answered.
        pre: bool,
        /// The term that was asked for.
        campaign: Term,
        /// The answer.
        ballot: Ballot,
    },
    /// Entries for a follower's log (Raft 5.3). Empty as a probe.
    Append {
        /// Just before the first of the entries.
        prev: Position,
        /// The entries, contiguous from `prev`.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit_index: Index,
    },
    /// The answer to it, once what it says is durable.
    AppendReply {
        /// Whether the logs agree at `prev`.
        outcome: AppendOutcome,
        /// False from a replica that abstains: it says how far it is, but must not be counted.
        counts: bool,
    },
    /// A leader says that it leads.
    Heartbeat {
        /// The leader's commit index; it counts only as far as the follower's log is proven equal.
        commit_index: Index,
        /// The leader's last entry: a follower goes quiet only when its own is the same.
        last: Position,
        /// Rises with each round of heartbeats; a quorum of answers to a round confirms every read
        /// that began before it.
        round: u64,
        /// Nothing happens here: go quiet until something does.
        quiesce: bool,
        /// Every voter answered this leader's election, so the conditional votes count and those who
        /// gave them are full voters again.
        unanimous: bool,
    },
    /// The answer to it.
    HeartbeatReply {
        /// The round that is answered.
        round: u64,
        /// The highest index that is durable here and proven equal to this leader's log. Repeats what
        /// a lost append reply said.
        match_index: Index,
        /// As in an append reply.
        counts: bool,
        /// The follower has gone quiet.
        quiet: bool,
        /// The support epoch of the follower's node for the leader's, if it counts (`node/support.rs`). That node
        /// writes it, and the leader's reads it: to Raft it is nothing, and 0.
        support: u64,
        /// For how long the follower has promised to elect nobody else, counted from when it heard the round, by a clock that
        /// is right (`lease`). Zero where there are no leases, or it does not count.
        promise: Duration,
    },
    /// The receiver's term is over. Ends the leadership of a stale leader.
    Outdated,
    /// The leader wants the receiver to lead: campaign now (thesis 3.10).
    TimeoutNow,
    /// A quiet follower was woken and asks whether the leader still lives.
    Nudge,
    /// The sender knows that it had this entry but its payload is damaged.
    PayloadRequest {
        /// Which entry.
        position: Position,
    },
    /// The answer to it.
    PayloadReply {
        /// Which entry.
        position: Position,
        /// The answer.
        answer: PayloadAnswer,
    },
    /// The sender abstains because it may have forgotten promises of an earlier boot, and asks to be
    /// readmitted under the incarnation of this message.
    ReadmitRequest,
    /// The sender's state is damaged: it needs all of it. To the leader, or from a leader to a follower whose log
    /// has everything that its own has compacted.
    SnapshotRequest,
    /// The receiver is no member of the group by a committed configuration of this version. Whoever knows no later one
    /// has nothing to do here.
    Expelled {
        /// Rises with every change.
        version: u64,
    },
}

/// A voter's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Ballot {
    /// Yes. Durable before it is said.
    Granted,
    /// Yes, but the voter may have given its vote of that term away and forgotten it: counts only if
    /// every voter of the group answers yes.
    Conditional,
    /// No.
    Refused,
}

/// What a follower found when it compared an append to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AppendOutcome {
    /// Its log equals the leader's through this index (prev plus entries, never the end of its own
    /// log), and that is durable.
    Matched {
        /// Last index proven equal.
        match_index: Index,
    },
    /// It has no such entry as `prev`.
    Mismatch {
        /// The index of the refused `prev`, so that the leader recognises a stale refusal.
        prev_index: Index,
        /// The last entry that may be shared: no later than `prev` in index and term.
        hint: Position,
    },
}

/// The answer to a request for a payload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PayloadAnswer {
    /// This is it.
    Found(Payload),
    /// The log here never had this entry, or doesn't now.
    Absent,
    /// The entry is part of this replica's state; its log begins later.
    Compacted,
    /// The payload is damaged here too.
    Lost,
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Its identity.
    pub position: Position,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Payload {
    /// Nothing: a new leader's first entry, which lets it commit those of earlier terms (Raft 5.4.2, 8).
    Noop,
    /// A command for the state above, opaque here.
    Command(Octets),
    /// From here on this is the group's configuration (Raft 6): members have changed, or a replica that may have forgotten
    /// promises counts again. Boxed, because nearly all entries are commands.
    Configure(Box<Configuration>),
    /// The entry existed here but its bytes are damaged. Never sent; its identity still counts in
    /// elections.
    Lost {
        /// Whether it held a configuration.
        configures: bool,
    },
}

const _: () = assert!(size_of::<Entry>() == 56, "there is one for every command that is in memory");

impl Payload {
    /// Whether its bytes are damaged.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Whether losing it is losing who belongs to the group.
    #[must_use]
    pub const fn changes_members(&self) -> bool {
        match self {
            Self::Configure(configuration) => !configuration.founding,
            Self::Lost { configures } => *configures,
            Self::Noop | Self::Command(_) => false,
        }
    }

    /// Bytes that the entry is charged for in memory and in messages: its command and a flat sum for
    /// identity and bookkeeping.
    #[must_use]
    pub fn cost(&self) -> u64 {
        const OVERHEAD: u64 = 64;
        match self {
            Self::Command(command) => OVERHEAD + command.len() as u64,
            Self::Configure(configuration) => OVERHEAD + 16 * configuration.members.len() as u64,
            Self::Noop | Self::Lost { .. } => OVERHEAD,
        }
    }
}
