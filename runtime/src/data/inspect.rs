//! `data inspect`: whose directory this is and what it holds.

use super::logs::KINDS;
use super::store::Store;
use super::{Progress, ToolError};
use ironseed_core::codec;
use ironseed_core::kv::space;
use ironseed_core::kv::table::Table;
use ironseed_core::machine::FileKind;
use ironseed_core::node::api::FsyncPolicy;
use ironseed_core::node::offline::{Found, FoundGroup};
use ironseed_core::node::superblock::{self, CopyError, Membership, Superblock};
use ironseed_core::object::record::ObjectHead;
use ironseed_core::object::registry::BucketRecord;
use ironseed_core::raft::Standing;
use ironseed_core::types::{GroupId, Position};
use ironseed_core::wal::record;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

/// What a directory is and holds.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Whose it is.
    pub identity: Identity,
    /// Its logs, the files that wait to be segments of the write-ahead log again, and snapshots of the index.
    pub logs: Vec<LogFiles>,
    /// Its replicas.
    pub groups: Vec<Group>,
    /// Buckets, by id, as far as the states of their shards are here.
    pub buckets: BTreeMap<u64, Bucket>,
    /// Its chunks.
    pub chunks: Chunks,
    /// Why the logs can't be opened, if they can't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Whose a directory is.
#[derive(Debug, Serialize)]
pub struct Identity {
    /// The node.
    pub node: u32,
    /// Its store.
    pub store: String,
    /// How often it was booted.
    pub incarnation: u64,
    /// Whether it was stopped with everything durable.
    pub clean: bool,
    /// What its groups are worth at the most, whatever its log says: `full`, `abstaining` (they may have forgotten promises)
    /// or `blank` (they have nothing of what was promised).
    pub standing: &'static str,
    /// When its last boot synced the log.
    pub fsync: String,
    /// Both copies of its superblock, and whether a boot would use them.
    pub copies: [Copy; 2],
    /// The versions of the formats that this program reads.
    pub formats: Formats,
    /// What founding fixed; `None` before the store has joined a cluster.
    pub founding: Option<Founding>,
}

/// A copy of a superblock.
#[derive(Debug, Serialize)]
pub struct Copy {
    /// The number of the update that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// Whether a boot goes by it.
    pub used: bool,
}

/// Versions of formats.
#[derive(Debug, Serialize)]
pub struct Formats {
    /// Of the directory and of the superblock.
    pub directory: u16,
    /// Of segments.
    pub segment: u16,
}

/// What founding fixed.
#[derive(Debug, Serialize)]
pub struct Founding {
    /// The cluster.
    pub cluster: String,
    /// How often the nodes and their stores have changed.
    pub charter: u64,
    /// The nodes and the store of each.
    pub members: Vec<(u32, String)>,
    /// How many shards.
    pub shards: u16,
    /// Replicas of each shard.
    pub replication: u8,
}

/// The files of a log.
#[derive(Debug, Serialize)]
pub struct LogFiles {
    /// Which log.
    pub log: &'static str,
    /// How many segments.
    pub segments: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes of them that were written.
    pub used: u64,
    /// The number of the oldest.
    pub first: Option<u64>,
    /// The number of the newest.
    pub last: Option<u64>,
}

/// A replica.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Its group; 0 is the meta group, shard `s` is group `s + 1`.
    pub group: u32,
    /// The nodes that hold it.
    pub replicas: Vec<u32>,
    /// Its term.
    pub term: u64,
    /// Who got its vote in this term.
    pub vote: Option<u32>,
    /// The highest index known to be committed.
    pub commit: u64,
    /// The last entry, as index and term.
    pub last: (u64, u64),
    /// The log begins after this.
    pub compacted: (u64, u64),
    /// What the table log has of the state.
    pub checkpoint: (u64, u64),
    /// The voters.
    pub voters: Vec<u32>,
    /// Entries whose payload is lost.
    pub entries_lost: u64,
    /// Whether it abstains until it is readmitted.
    pub abstaining: bool,
    /// Why its state can't be had, if it can't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// Records of its state.
    pub records: Option<u64>,
    /// Objects, by bucket.
    pub objects: BTreeMap<u64, Count>,
}

/// Objects of a bucket.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Count {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A bucket.
#[derive(Debug, Default, Serialize)]
pub struct Bucket {
    /// Its name; `None` where the meta group's state is not here.
    pub name: Option<String>,
    /// Its state.
    pub state: Option<String>,
    /// Its objects in the shards that are here.
    #[serde(flatten)]
    pub count: Count,
}

/// Chunks.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Chunks {
    /// How many.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Looks at a directory.
///
/// # Errors
/// It is refused, or its superblock can't be used.
pub fn inspect(path: &Path, progress: &Progress) -> Result<Inspection, ToolError> {
    let store = Store::open(path)?;
    let (sequence, superblock) = store.superblock()?;
    let identity = identity_of(&store, sequence, &superblock)?;
    progress.expect(store.bytes(FileKind::Wal) + store.bytes(FileKind::Table));
    progress.say("logs");
    let surveyed = store.survey(&superblock, progress);
    progress.end();
    let (found, problem) = match surveyed {
        Ok(found) => (found, None),
        Err(ToolError::Store(why)) => (None, Some(why)),
        Err(error) => return Err(error),
    };
    let found = found.as_ref();
    let groups: Vec<Group> = found
        .into_iter()
        .flat_map(|found| found.groups.iter().map(|(group, it)| group_of(*group, it)))
        .collect();
    let meta = found.and_then(|found| found.groups.get(&GroupId::META)?.state.as_ref());
    let mut buckets = meta.map_or_else(BTreeMap::new, |state| named(state.table()));
    for (id, count) in groups.iter().flat_map(|group| &group.objects) {
        let of: &mut Count = &mut buckets.entry(*id).or_default().count;
        of.objects += count.objects;
        of.bytes += count.bytes;
    }
    let stats = found.map(|found| found.chunks.stats()).unwrap_or_default();
    let chunks = Chunks { chunks: stats.chunks, bytes: stats.live_bytes };
    let kinds = KINDS.into_iter().chain([FileKind::Spare, FileKind::Index]);
    let logs = kinds.map(|kind| log_of(&store, kind, found)).collect();
    Ok(Inspection { identity, logs, groups, buckets, chunks, problem })
}

fn identity_of(store: &Store, used: u64, from: &Superblock) -> Result<Identity, ToolError> {
    let copies = store.copies()?.map(|copy| match copy {
        Ok((sequence, _)) => {
            Copy { sequence: Some(sequence), damage: None, used: sequence == used }
        }
        Err(CopyError::Damaged) => {
            Copy { sequence: None, damage: Some("damaged".into()), used: false }
        }
        Err(CopyError::Version(version)) => {
            Copy { sequence: None, damage: Some(format!("version {version}")), used: false }
        }
    });
    let founding = match &from.membership {
        Membership::Member(charter) => Some(Founding {
            cluster: format!("{:?}", charter.founding.cluster),
            charter: charter.version,
            members: charter.nodes.iter().map(|it| (it.node.0, it.store.to_string())).collect(),
            shards: charter.shards,
            replication: charter.replication,
        }),
        Membership::Blank | Membership::Founder(_) => None,
    };
    Ok(Identity {
        node: from.node.0,
        store: format!("{:?}", from.store),
        incarnation: from.incarnation.0,
        clean: from.clean,
        standing: match from.standing {
            Standing::Full => "full",
            Standing::Abstaining => "abstaining",
            Standing::Blank => "blank",
        },
        fsync: match from.fsync {
            FsyncPolicy::Always => "always".into(),
            FsyncPolicy::Interval(every) => format!("every {} ms", every.as_millis()),
            FsyncPolicy::Never => "never".into(),
        },
        copies,
        formats: Formats { directory: superblock::FORMAT_VERSION, segment: record::VERSION },
        founding,
    })
}

fn log_of(store: &Store, kind: FileKind, found: Option<&Found>) -> LogFiles {
    let files = store.segments(kind);
    let stats = found.and_then(|found| found.segments.get(&kind));
    LogFiles {
        log: match kind {
            FileKind::Wal => "wal",
            FileKind::Table => "table",
            FileKind::Chunk => "chunks",
            FileKind::Spare => "spare",
            FileKind::Index => "index",
            FileKind::Engine => "engine",
            FileKind::Superblock => "superblock",
        },
        segments: files.len() as u64,
        bytes: files.iter().map(|file| file.bytes).sum(),
        used: stats.into_iter().flatten().map(|stat| stat.used).sum(),
        first: files.first().map(|file| file.file.number),
        last: files.last().map(|file| file.file.number),
    }
}

fn group_of(group: GroupId, found: &FoundGroup) -> Group {
    let at = |position: Position| (position.index.0, position.term.0);
    let raft = &found.raft;
    let table = found.state.as_ref().map(|state| state.table());
    Group {
        group: group.0,
        replicas: found.replicas.iter().map(|node| node.0).collect(),
        term: found.hard_state.term.0,
        vote: found.hard_state.vote.map(|node| node.0),
        commit: raft.commit_index.0,
        last: at(raft.last),
        compacted: at(raft.compacted),
        checkpoint: at(found.checkpoint),
        voters: raft.configuration.voters().iter().map(|node| node.0).collect(),
        entries_lost: raft.lost as u64,
        abstaining: raft.standing != Standing::Full,
        damage: found.damage.clone(),
        records: table.map(|table| table.len() as u64),
        objects: table.map(objects_of).unwrap_or_default(),
    }
}

fn objects_of(table: &Table) -> BTreeMap<u64, Count> {
    let mut buckets: BTreeMap<u64, Count> = BTreeMap::new();
    for (key, slot) in table.scan(&[space::OBJECTS], Bound::Unbounded) {
        let Some(bucket) = space::bucket_of(key) else { continue };
        let count = buckets.entry(bucket.0).or_default();
        count.objects += 1;
        count.bytes += codec::decode::<ObjectHead>(&slot.head).map_or(0, |head| head.bytes);
    }
    buckets
}

/// The buckets that the registry knows.
fn named(table: &Table) -> BTreeMap<u64, Bucket> {
    let records = table.scan(&[space::REGISTRY], Bound::Unbounded);
    let named = records.filter_map(|(key, slot)| {
        let name = String::from_utf8_lossy(key.get(1..)?).into_owned();
        let record = codec::decode::<BucketRecord>(&slot.head).ok()?;
        let state = Some(format!("{:?}", record.state).to_lowercase());
        Some((record.id.0, Bucket { name: Some(name), state, count: Count::default() }))
    });
    named.collect()
}
