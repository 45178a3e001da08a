//! What a record says, in words. Never the root's secret key.

use ironseed_core::kv::api::Expect;
use ironseed_core::kv::command::{Command, KvWrite, Op, Unreadable};
use ironseed_core::node::offline::WalRecord;
use ironseed_core::object::api::{Condition, Content};
use ironseed_core::object::command::{ObjectOp, Target};
use ironseed_core::object::layout::Move;
use ironseed_core::object::registry::{BucketEpoch, RegistryOp, Replacement};
use ironseed_core::raft::{Configuration, Payload};

/// Bytes of a key that are shown.
const KEY_BYTES_MAX: usize = 80;
/// No meaning is active where a log is only read: what can be understood is shown.
const ANY_MEANING: u16 = u16::MAX;

/// A record of the write-ahead log.
pub(super) fn of_record(record: &WalRecord) -> String {
    let lost = || String::from("payload damaged");
    match record {
        WalRecord::HardState(state) => state.map_or_else(lost, |state| {
            let vote = state.vote.map_or("nobody".into(), |node| format!("node {node}"));
            format!("term {}, vote for {vote}, committed {}", state.term, state.commit_index)
        }),
        WalRecord::Entry(payload, _) | WalRecord::Repair(payload) => {
            payload.as_ref().map_or_else(lost, of_payload)
        }
        WalRecord::Truncate => "the log ends before this index".into(),
        WalRecord::Compacted(configuration) => configuration
            .as_ref()
            .map_or_else(lost, |it| format!("not needed up to here; {}", of_configuration(it))),
        WalRecord::Reset(configuration) => configuration
            .as_ref()
            .map_or_else(lost, |it| format!("the log begins after this; {}", of_configuration(it))),
        WalRecord::Readmitted => "counts fully from here on".into(),
        WalRecord::Abstaining => "abstains from here on".into(),
        WalRecord::Blank => "abstains from here on, with nothing of what it promised".into(),
        WalRecord::Retired => "given up: the shard was moved away".into(),
        WalRecord::Joined => "begins here, with nothing".into(),
        WalRecord::Unknown => "of a kind that this program skips".into(),
    }
}

fn of_payload(payload: &Payload) -> String {
    match payload {
        Payload::Noop => "a leader's first entry".into(),
        Payload::Configure(configuration) => of_configuration(configuration),
        Payload::Lost { .. } => "lost before".into(),
        Payload::Command(bytes) => match Command::decode(bytes, ANY_MEANING) {
            Ok(command) => of_op(&command.op),
            Err(Unreadable::Meaning(meaning)) => format!("a command of meaning {meaning}"),
            Err(Unreadable::Malformed) => "no command that this program can read".into(),
        },
    }
}

fn of_configuration(configuration: &Configuration) -> String {
    let voters: Vec<String> = configuration.voters().iter().map(ToString::to_string).collect();
    format!("voters {}", voters.join(" "))
}

fn of_op(op: &Op) -> String {
    match op {
        Op::OpenSession { session } => {
            format!("open a session for node {}, boot {}", session.node, session.incarnation)
        }
        Op::ExpireSessions { sessions } => format!("expire {} sessions", sessions.len()),
        Op::Activate { meaning } => format!("activate meaning {meaning} of commands"),
        Op::Kv(write) => of_kv(write),
        Op::Object(op) => of_object(op),
        Op::Registry(op) => of_registry(op),
    }
}

fn of_kv(write: &KvWrite) -> String {
    let expected = |expect: &Expect| match expect {
        Expect::Any => String::new(),
        Expect::Absent => " if there is none".into(),
        Expect::Version(version) => format!(" if it is version {version}"),
    };
    match write {
        KvWrite::Put { key, value, expect } => {
            format!("write key {}, {} bytes{}", key_of(key), value.len(), expected(expect))
        }
        KvWrite::Delete { key, expect } => {
            format!("delete key {}{}", key_of(key), expected(expect))
        }
    }
}

fn of_object(op: &ObjectOp) -> String {
    let at =
        |target: &Target| format!("{} in bucket {}", key_of(target.key.as_bytes()), target.bucket);
    let when = |condition: &Condition| match condition {
        Condition::None => "",
        _ => ", under a condition",
    };
    match op {
        ObjectOp::Put { target, object, condition } => {
            let how = match &object.content {
                Content::Inline(_) => "in the record".into(),
                Content::Blob(blob) => format!("in {blob:?}"),
                Content::Parts { upload } => format!("in parts of {upload:?}"),
            };
            let (at, when) = (at(target), when(condition));
            format!("put object {at}, {} bytes {how}{when}", object.bytes)
        }
        ObjectOp::Delete { target, condition } => {
            format!("delete object {}{}", at(target), when(condition))
        }
        ObjectOp::PutTags { target, tags } => {
            format!("put {} tags on object {}", tags.len(), at(target))
        }
        ObjectOp::CreateUpload { target, .. } => format!("create an upload to {}", at(target)),
        ObjectOp::PutPart { target, upload, number, part } => {
            format!("put part {number} of {upload:?} to {}, {} bytes", at(target), part.bytes)
        }
        ObjectOp::Complete { target, upload, parts, condition, .. } => {
            let (at, when) = (at(target), when(condition));
            format!("complete {upload:?} to {at}, {} parts{when}", parts.len())
        }
        ObjectOp::Abort { target, upload } => format!("abort {upload:?} to {}", at(target)),
        ObjectOp::OpenBlob { target } => format!("open a blob for {}", at(target)),
        ObjectOp::AppendExtent { blob, chunks, .. } if chunks.is_empty() => {
            format!("renew the lease of {blob:?}")
        }
        ObjectOp::AppendExtent { blob, seq, chunks } => {
            let bytes: u64 = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
            format!("extent {seq} of {blob:?}: {} chunks, {bytes} bytes", chunks.len())
        }
        ObjectOp::DropBlob { blob } => format!("give up {blob:?}"),
        ObjectOp::Expire { blob, .. } => format!("the lease of {blob:?} has ended"),
        ObjectOp::Collect { blob, items } => format!("collect up to {items} records of {blob:?}"),
        ObjectOp::InstallBucket { bucket, epoch } => {
            format!("install bucket {bucket}, epoch {epoch}")
        }
        ObjectOp::FenceBucket { bucket, epoch } => format!("fence bucket {bucket}, epoch {epoch}"),
        ObjectOp::RemoveBucket { bucket, epoch, .. } => {
            format!("remove bucket {bucket}, epoch {epoch}")
        }
    }
}

fn of_registry(op: &RegistryOp) -> String {
    let at = |at: &BucketEpoch| format!("bucket {:?}, id {}, epoch {}", at.bucket, at.id, at.epoch);
    match op {
        // Its credentials are nobody's business here.
        RegistryOp::Found(cluster) => format!(
            "found cluster {:?}: {} nodes, {} shards, {} replicas of each",
            cluster.founding.cluster,
            cluster.nodes.len(),
            cluster.shards,
            cluster.replication
        ),
        RegistryOp::ReplaceStore(Replacement { node, old, new }) => {
            format!("node {node} has store {new} in place of {old}")
        }
        RegistryOp::MoveShard(Move { shard, to, version }) => {
            let to: Vec<String> = to.iter().map(ToString::to_string).collect();
            format!("move shard {shard} to {}, by layout {version}", to.join(" "))
        }
        RegistryOp::ShardWhole { shard, change, node } => {
            format!("node {node} holds all of shard {shard}, moved by layout {change}")
        }
        RegistryOp::LeaveShard { shard, node } => {
            format!("node {node} asks to leave shard {shard}")
        }
        RegistryOp::CreateBucket { bucket } => format!("create bucket {bucket:?}"),
        RegistryOp::DeleteBucket { bucket } => format!("delete bucket {bucket:?}"),
        RegistryOp::SettleBucket(it) => format!("{} is installed", at(it)),
        RegistryOp::RestoreBucket(it) => format!("{} was not empty", at(it)),
        RegistryOp::RemoveBucket(it) => format!("{} is gone", at(it)),
    }
}

/// A key as text, cut off where it is long.
fn key_of(key: &[u8]) -> String {
    let shown = key.get(..KEY_BYTES_MAX).unwrap_or(key);
    let text = format!("{:?}", String::from_utf8_lossy(shown));
    if key.len() > KEY_BYTES_MAX { format!("{text}... ({} bytes)", key.len()) } else { text }
}
