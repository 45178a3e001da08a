//! A store without its node: what a data directory holds, and its compaction, for the tools of an operator.
//!
//! # How it agrees with the node
//!
//! A [`Survey`] is a boot's own recovery, with one difference: who drives it may leave its writes out and say that they
//! were done. Recovery never reads what it wrote, so it finds the same; and what it would have written is what the next
//! boot writes. A [`Compaction`] begins with a survey whose writes to the table log and the chunk log were carried out,
//! and rewrites what is current by the same functions as a node in the background.
//!
//! # Caveats
//!
//! - A survey takes as much memory as the node does: the heads of all records, the entries of the logs, and the index of
//!   all chunks.
//! - What a store holds is not all that its cluster knows: a log's end may be committed elsewhere, and a chunk that is
//!   named here may be on other nodes only.

mod compaction;
mod index;
mod survey;

pub use super::index::Doubt;
pub use super::restore::records::WalRecord;
pub use compaction::{Compaction, Kept, Moved};
pub use index::{Indexed, judge_indexes, load_index};
pub use survey::{Found, FoundGroup, Survey};

use super::api::{Config, Engine, FsyncPolicy, Tuning};
use super::recovery;
use super::superblock::{Charter, Superblock};
use crate::machine::{FileKind, FoundFile};
use crate::planted::Planted;
use crate::types::NodeId;
use crate::wal;
use alloc::vec::Vec;

/// The shortest new segments. Every payload of every log fits one, also where those that are there have been cut off.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;

/// The settings that a log of this store is read with: a node's own. Payloads are verified if `payloads`, and never kept.
#[must_use]
pub fn log_config(kind: FileKind, store: [u8; 16], payloads: bool) -> wal::Config {
    let node = config_of(NodeId(1), Vec::from([NodeId(1)]), (1, 1), FsyncPolicy::Always);
    wal::Config {
        verify_payloads_at_boot: payloads,
        keep_payloads_at_boot: false,
        ..recovery::log_config(&node, kind, store)
    }
}

/// Settings of a node that would boot on this store. New segments are as long as the longest that is there.
fn node_config(superblock: &Superblock, charter: &Charter, files: &[FoundFile]) -> Config {
    let defaults = Tuning::default();
    let longest = |kind, default| {
        let of_kind = files.iter().filter(|found| found.file.kind == kind);
        of_kind.map(|found| found.bytes.max(SEGMENT_BYTES_MIN)).max().unwrap_or(default)
    };
    let nodes: Vec<_> = charter.ids().collect();
    let tuning = Tuning {
        wal_segment_bytes: longest(FileKind::Wal, defaults.wal_segment_bytes),
        table_segment_bytes: longest(FileKind::Table, defaults.table_segment_bytes),
        chunk_segment_bytes: longest(FileKind::Chunk, defaults.chunk_segment_bytes),
        ..defaults
    };
    let shape = (charter.shards, charter.replication);
    Config { tuning, ..config_of(superblock.node, nodes, shape, superblock.fsync) }
}

fn config_of(
    me: NodeId,
    nodes: Vec<NodeId>,
    (shards, replication): (u16, u8),
    fsync: FsyncPolicy,
) -> Config {
    let tuning = Tuning::default();
    Config {
        me,
        nodes,
        shards,
        replication,
        lanes: 1,
        fsync,
        engine: Engine::Native,
        tuning,
        seed: 0,
        planted: Planted::NONE,
    }
}
