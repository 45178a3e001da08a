//! What a message says, in the few words that fit on an arrow.

use ironseed_core::node::message::{Ask, Head, PeerMessage, Reply};
use ironseed_core::object::api::Refusal;
use ironseed_core::raft::{AppendOutcome, Ballot, Body, Message};
use ironseed_core::types::GroupId;
use serde::Serialize;

/// One thing that a message says. Messages of several groups travel in one envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The group that it is about, if it is about one.
    pub group: Option<u32>,
    /// Which family it belongs to, for filters and line styles: one of [`KINDS`].
    pub kind: &'static str,
    /// In a few words, with term and index where it has them.
    pub text: String,
}

/// Families of messages.
pub const KINDS: [&str; 7] =
    ["vote", "append", "heartbeat", "call", "snapshot", "chunk", "presence"];

/// What a message says.
#[must_use]
pub fn parts(message: &PeerMessage) -> Vec<Part> {
    let one = |group: Option<GroupId>, kind, text: String| {
        vec![Part { group: group.map(|group| group.0), kind, text }]
    };
    match &message.head {
        Head::Raft(messages) => {
            let part = |(group, message): &(GroupId, Message)| {
                let (kind, text) = raft(message);
                Part { group: Some(group.0), kind, text }
            };
            messages.iter().map(part).collect()
        }
        Head::Beat(_) => one(None, "presence", "I am here".into()),
        Head::Hello { .. } => one(None, "presence", "hello".into()),
        Head::Welcome(_) => one(None, "presence", "welcome".into()),
        Head::Layout { layout, .. } => one(None, "presence", format!("layout {}", layout.version)),
        Head::Call { group, ask, .. } => one(Some(*group), "call", asked(ask)),
        Head::Return { group, answer, .. } => one(Some(*group), "call", returned(answer)),
        Head::StoreChunk { chunk, .. } => one(None, "chunk", format!("store {:?}", chunk.hash)),
        Head::ChunkStored { stored: Some(_), .. } => one(None, "chunk", "stored".into()),
        Head::ChunkStored { stored: None, .. } => one(None, "chunk", "not stored".into()),
        Head::FetchChunk { chunk, .. } => one(None, "chunk", format!("fetch {:?}", chunk.hash)),
        Head::ChunkFound { .. } => one(None, "chunk", "chunk found".into()),
        Head::ChunkAbsent { .. } => one(None, "chunk", "chunk absent".into()),
        Head::SnapshotOffer { group, offer } => {
            let text = format!("offers snapshot {:?} t{}", offer.head.mark.position, offer.term.0);
            one(Some(*group), "snapshot", text)
        }
        Head::SnapshotPull { group, position, .. } => {
            one(Some(*group), "snapshot", format!("pulls snapshot {position:?}"))
        }
        Head::SnapshotSlice { group, position, records, .. } => {
            let text = format!("slice of {position:?}, {} records", records.len());
            one(Some(*group), "snapshot", text)
        }
        Head::SupportQuery { round } => {
            one(None, "heartbeat", format!("asks for support, round {}", round.number))
        }
        Head::SupportReply { round, support } => {
            let text = format!("support epoch {}, round {}", support.epoch, round.number);
            one(None, "heartbeat", text)
        }
        Head::IndexQuery { question, groups, .. } => {
            let text =
                format!("asks for {} read indexes, question {}", groups.len(), question.number);
            one(groups.first().copied(), "call", text)
        }
        Head::IndexReply { question, indexes } => {
            let told = indexes.iter().filter_map(|(_, index)| *index).map(|index| index.index.0);
            let told: Vec<u64> = told.collect();
            let text =
                format!("{} read indexes {told:?}, question {}", indexes.len(), question.number);
            one(indexes.first().map(|(group, _)| *group), "call", text)
        }
        Head::SnapshotEnd { group, position } => {
            one(Some(*group), "snapshot", format!("has snapshot {position:?}"))
        }
    }
}

fn raft(message: &Message) -> (&'static str, String) {
    let term = message.term.0;
    match &message.body {
        Body::VoteRequest { pre: true, campaign, last, .. } => {
            ("vote", format!("would you vote? t{} last {last:?}", campaign.0))
        }
        Body::VoteRequest { campaign, last, .. } => {
            ("vote", format!("vote? t{} last {last:?}", campaign.0))
        }
        Body::VoteReply { pre, campaign, ballot } => {
            let would = if *pre { "would vote: " } else { "vote: " };
            let ballot = match ballot {
                Ballot::Granted => "yes",
                Ballot::Conditional => "yes, if all do",
                Ballot::Refused => "no",
            };
            ("vote", format!("{would}{ballot} t{}", campaign.0))
        }
        Body::Append { prev, entries, commit_index } => {
            let range = match (entries.first(), entries.last()) {
                (Some(first), Some(last)) if first == last => format!("{:?}", first.position),
                (Some(first), Some(last)) => format!("{:?}..{:?}", first.position, last.position),
                _ => format!("probe after {prev:?}"),
            };
            ("append", format!("append {range} t{term} commit {}", commit_index.0))
        }
        Body::AppendReply { outcome: AppendOutcome::Matched { match_index }, counts } => {
            let but = if *counts { "" } else { ", not counted" };
            ("append", format!("has up to {} t{term}{but}", match_index.0))
        }
        Body::AppendReply { outcome: AppendOutcome::Mismatch { prev_index, hint }, .. } => {
            ("append", format!("lacks {}, try {hint:?} t{term}", prev_index.0))
        }
        Body::Heartbeat { commit_index, round, quiesce, .. } => {
            let quiet = if *quiesce { ", go quiet" } else { "" };
            ("heartbeat", format!("lead t{term} round {round} commit {}{quiet}", commit_index.0))
        }
        Body::HeartbeatReply { round, match_index, .. } => {
            ("heartbeat", format!("ok round {round} has {} t{term}", match_index.0))
        }
        Body::Outdated => ("vote", format!("your term is over: t{term}")),
        Body::TimeoutNow => ("vote", format!("lead after me t{term}")),
        Body::Nudge => ("heartbeat", format!("still there? t{term}")),
        Body::PayloadRequest { position } => ("append", format!("lost {position:?}, give it")),
        Body::PayloadReply { position, .. } => ("append", format!("about {position:?}")),
        Body::ReadmitRequest => ("vote", format!("readmit me t{term}")),
        Body::SnapshotRequest => ("snapshot", format!("needs a snapshot t{term}")),
        Body::Expelled { version } => {
            ("vote", format!("you are no member any more, by configuration {version}, t{term}"))
        }
    }
}

fn asked(ask: &Ask) -> String {
    match ask {
        Ask::OpenSession(_) => "open a session".into(),
        Ask::Write { tag, op } => {
            let op = format!("{op:?}");
            format!("write #{} {}", tag.seq, words(&op))
        }
        Ask::Read(query) => format!("read {}", words(&format!("{query:?}"))),
        Ask::ReadNear(query) => format!("read here {}", words(&format!("{query:?}"))),
    }
}

fn refused(refusal: &Refusal) -> String {
    format!("refused: {}", words(&format!("{refusal:?}")))
}

fn returned(reply: &Reply) -> String {
    match reply {
        Reply::Outcome(outcome) => match &**outcome {
            Ok(_) => "done".into(),
            Err(refusal) => refused(refusal),
        },
        Reply::Refused(refusal) => refused(refusal),
        Reply::Resolved(found) => {
            if found.is_some() {
                "bucket found".into()
            } else {
                "no such bucket".into()
            }
        }
        Reply::NotLeader(Some(leader)) => format!("ask {leader:?}, it leads"),
        Reply::NotLeader(None) => "I do not lead".into(),
        Reply::Again => "try again".into(),
    }
}

/// The names at the head of a value as it is debugged: `Object(Complete { ... })` is `Object Complete`.
#[must_use]
pub fn words(debugged: &str) -> String {
    let head = debugged.split([' ', '{']).next().unwrap_or_default();
    let names = head.split('(').filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()));
    let mut names: Vec<&str> = names.map(|name| name.trim_end_matches([')', ','])).collect();
    names.dedup();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ironseed_core::types::{Incarnation, Index, Position, Term};

    #[test]
    fn an_envelope_says_one_thing_for_each_group() {
        let says = |body| Message { term: Term(5), incarnation: Incarnation(1), body };
        let prev = Position { index: Index(3), term: Term(2) };
        let append = says(Body::Append { prev, entries: Vec::new(), commit_index: Index(2) });
        let reply = AppendOutcome::Matched { match_index: Index(9) };
        let reply = says(Body::AppendReply { outcome: reply, counts: true });
        let head = Head::Raft(vec![(GroupId(0), append), (GroupId(7), reply)]);
        let parts = parts(&PeerMessage { head, body: Bytes::new() });
        let said: Vec<_> = parts.iter().map(|part| (part.group, part.text.as_str())).collect();
        let wanted = [(Some(0), "append probe after 3@2 t5 commit 2"), (Some(7), "has up to 9 t5")];
        assert_eq!(said, wanted);
        assert!(parts.iter().all(|part| KINDS.contains(&part.kind)));
    }

    #[test]
    fn a_debugged_value_is_named_by_its_head() {
        assert_eq!(words("Object(Complete { target: 1 })"), "Object Complete");
        assert_eq!(words("Kv(Put { key: b\"K\" })"), "Kv Put");
        assert_eq!(words("ListObjects(ListObjects { limit: 1 })"), "ListObjects");
        assert_eq!(words("Busy"), "Busy");
    }
}
