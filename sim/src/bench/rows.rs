//! What the rows of the bench are, for people. Rows keep their numbers for ever.

/// A row of the bench.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number.
    pub number: u32,
    /// What is wrong on purpose.
    pub plant: &'static str,
    /// What that breaks.
    pub breaks: &'static str,
    /// Where it is planted, or why it is not.
    pub place: &'static str,
}

const fn row(number: u32, plant: &'static str, breaks: &'static str, place: &'static str) -> Row {
    Row { number, plant, breaks, place }
}

/// Rows of which no machine exists yet, or whose bug the structure leaves no place for.
pub const OPEN: &[Row] = &[
    row(
        13,
        "membership change before an entry of the own term is committed",
        "election safety",
        "every change goes through a joint configuration: two that begin with the same voters both need a majority of them, so no two quorums fail to meet",
    ),
    row(
        25,
        "coordinator replies before its decision is durable",
        "atomicity",
        "there are no transactions over shards yet",
    ),
    row(
        26,
        "decision forgotten before every participant has acknowledged",
        "atomicity",
        "there are no transactions over shards yet",
    ),
    row(
        27,
        "participant aborts by itself after it voted yes",
        "atomicity",
        "there are no transactions over shards yet",
    ),
    row(
        28,
        "yes vote before the prepare is replicated",
        "atomicity",
        "there are no transactions over shards yet",
    ),
    row(
        29,
        "locks not rebuilt when a leader changes",
        "serializability",
        "there are no transactions over shards yet",
    ),
    row(
        38,
        "a leader that knows an older layout has its group follow that again",
        "progress, redundancy",
        "five hundred runs of its region have not come to it; a paper test sees it",
    ),
    row(
        40,
        "a replica that boots votes at once, though it may have promised a leader not to",
        "linearizability",
        "`raft`, the boot of a replica: it has to be down for less than a lease between two leaders; a paper test sees it",
    ),
];

/// Rows that can be planted. One test says that these are all of `Bug::ALL` but for those of the list above, which no run
/// of the simulator comes to yet.
pub const PLANTED: &[Row] = &[
    row(
        1,
        "commit an entry of an earlier term by counting copies",
        "leader completeness",
        "`raft`, advance of the commit index",
    ),
    row(
        2,
        "answer RequestVote before the vote is durable",
        "election safety",
        "`raft`, answer of the voter",
    ),
    row(
        3,
        "a follower acknowledges before its sync",
        "durable view",
        "`raft`, acknowledgement of an append",
    ),
    row(
        4,
        "a leader counts itself before its own sync",
        "state machine safety",
        "`raft`, advance of the commit index",
    ),
    row(
        5,
        "match index kept over a re-election of the same node",
        "leader completeness",
        "`raft`, begin of a leadership",
    ),
    row(
        6,
        "a follower acknowledges its last index, not the end of what it was sent",
        "leader completeness",
        "`raft`, acknowledgement of an append",
    ),
    row(
        7,
        "commit = leader's commit without the minimum with the last new entry",
        "state machine safety",
        "`raft`, append at the follower",
    ),
    row(8, "truncate although the entries match", "durable view", "`raft`, append at the follower"),
    row(
        9,
        "accept vote and append replies of an older term",
        "election safety",
        "`raft`, terms of messages, and the question that a vote answers",
    ),
    row(10, "ReadIndex without a quorum round", "linearizability", "`raft`, confirmation of reads"),
    row(
        11,
        "ReadIndex before an entry of the own term is committed",
        "linearizability",
        "`raft`, confirmation of reads",
    ),
    row(
        12,
        "lease counted from receipt of the reply, without a drift bound",
        "linearizability",
        "`raft`, the answer to a heartbeat",
    ),
    row(
        14,
        "joint quorum looks at the new set only",
        "leader completeness",
        "`raft`, quorums of a leader",
    ),
    row(15, "snapshot leaves the membership out", "election safety", "`raft`, end of a snapshot"),
    row(
        16,
        "log compacted before the state that replaces it is durable",
        "durable view",
        "`node`, compaction of a replica's log",
    ),
    row(
        17,
        "a pre-vote ignores a live leader and raises the term",
        "liveness",
        "`raft`, pre-vote at the voter",
    ),
    row(18, "no CheckQuorum", "liveness", "`raft`, timer of the leader"),
    row(
        19,
        "applied state and applied index not atomic: the state on disk is newer than the index beside it",
        "state hash",
        "`kv`, frames of the table log",
    ),
    row(
        20,
        "completion of an append matched by index only (ABA)",
        "leader completeness",
        "`raft`, cut of the log",
    ),
    row(
        21,
        "corruption in mid-log is cut like a torn tail, and the replica votes",
        "leader completeness",
        "`wal`, recovery",
    ),
    row(22, "a failed sync is tried again and believed", "durable view", "`wal`, end of a sync"),
    row(
        23,
        "the segment that a batch names under its checksum is not looked at",
        "log matching",
        "`wal`, head and tail of a batch",
    ),
    row(
        24,
        "a sync acknowledges what was queued after it began",
        "durable view",
        "`wal`, end of a sync",
    ),
    row(
        30,
        "a bucket's epoch counts when a write is proposed, and is not looked at when it is applied",
        "linearizability",
        "`object`, the look at the bucket before a write",
    ),
    row(
        31,
        "whoever deletes a bucket takes a later deletion, somebody else's, for its own (was ours)",
        "linearizability",
        "`object`, what became of a deletion",
    ),
    row(
        32,
        "a quiet leader does not look after peers that fell silent (was ours)",
        "progress, redundancy",
        "`raft`, a suspected peer",
    ),
    row(
        33,
        "a node's word for a leader outlives the term in which its replica followed that one",
        "linearizability",
        "`node`, a replica in a later term",
    ),
    row(
        34,
        "a store that takes a lost one's place counts as if it had kept every promise",
        "leader completeness",
        "`node`, the first boot of a new store",
    ),
    row(
        35,
        "boots of a store that takes a lost one's place are numbered as if nobody had been there before",
        "linearizability, redundancy",
        "`node`, the first boot of a new store",
    ),
    row(
        36,
        "a node to which a shard is moved says that it holds all of it, whatever chunks it lacks",
        "redundancy",
        "`node`, report to the meta group",
    ),
    row(
        37,
        "who holds a chunk is counted against the voters that the group was founded with",
        "redundancy, durable view",
        "`node`, members of the state",
    ),
    row(
        39,
        "a leader that told another to campaign at once goes on with its lease",
        "linearizability",
        "`raft`, the check of the lease",
    ),
    row(
        41,
        "the scrub passes over what it can't verify",
        "redundancy",
        "`chunk`, the end of a verification",
    ),
    row(
        42,
        "the end of a snapshot of the index does not wait for the sync of the frames that are in it",
        "two boots",
        "`node`, the writer of snapshots of the index",
    ),
    row(
        43,
        "who hears that its leader's node is gone takes back what it has promised that leader",
        "linearizability",
        "`raft`, suspicion of a peer",
    ),
    row(
        44,
        "a replica that answers reads without leading takes the answer to a question for one to those that it has asked since",
        "linearizability",
        "`node`, reads without leading",
    ),
    row(
        45,
        "what a frame says of its group's state is written to an engine before the frame's records",
        "state hash",
        "`node`, writes to an engine",
    ),
    row(
        46,
        "a body in an engine is taken for one that nobody needs before what stands in its place was written",
        "engine",
        "`node`, the sweep of an engine's bodies",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use ironseed_core::planted::Bug;

    #[test]
    fn every_bug_has_a_row_and_every_row_of_the_list_is_told() {
        let told: Vec<u32> = PLANTED.iter().map(|row| row.number).collect();
        let open = |bug: &&Bug| !OPEN.iter().any(|row| row.number == bug.row());
        let bugs: Vec<u32> = Bug::ALL.iter().filter(open).map(|bug| bug.row()).collect();
        assert_eq!(told, bugs);
        let mut all: Vec<u32> = PLANTED.iter().chain(OPEN).map(|row| row.number).collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(1..=all.len() as u32), "{all:?}");
    }
}
