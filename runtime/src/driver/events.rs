//! What happened, into the log: a view of the machines' events. What an operator has to know is said at
//! `info` and above, with file and offset where something is damaged; the rest is there for whoever
//! asks.

use ironseed_core::node::trace::Trace;
use ironseed_core::raft::Event;
use tracing::{debug, info, trace, warn};

pub(super) fn log(event: &Trace) {
    match event {
        Trace::Booted { store, incarnation, standing } => {
            info!(?store, %incarnation, ?standing, "booted");
        }
        Trace::Running { cluster } => info!(?cluster, "running"),
        Trace::Damaged { damage } => warn!(%damage, "damaged on disk"),
        Trace::StateDamaged { group, damage } => {
            warn!(%group, %damage, "the group's state is damaged: it serves nothing here until it is healed");
        }
        Trace::ChunkRepaired { chunk } => info!(?chunk, "healed a chunk from a peer"),
        Trace::Scrubbed { bytes, damaged: 0 } => info!(bytes, "verified all chunks"),
        Trace::Scrubbed { bytes, damaged } => warn!(bytes, damaged, "verified all chunks"),
        Trace::EngineLoaded { groups, records } => info!(groups, records, "read the engine"),
        Trace::BodiesSwept { segment, gone, kept } => {
            debug!(segment, gone, kept, "looked through bodies of the engine");
        }
        Trace::IndexWritten { number, records, bytes } => {
            info!(number, records, bytes, "wrote a snapshot of the index");
        }
        Trace::IndexLoaded { number, records, segments } => {
            info!(
                number,
                records, segments, "loaded a snapshot of the index: older segments are not read"
            );
        }
        Trace::IndexRefused { number, why } => {
            warn!(number, %why, "a snapshot of the index is refused: the boot reads more");
        }
        Trace::Readmitted { group } => info!(%group, "readmitted"),
        Trace::SnapshotDeferred { group } => debug!(%group, "a state is not fetched yet"),
        Trace::SnapshotInstalled { group, position } => {
            info!(%group, ?position, "installed a leader's state");
        }
        Trace::DiskFull(true) => warn!("the disk is full: writes are refused, reads go on"),
        Trace::DiskFull(false) => info!("the disk has room again"),
        Trace::PeerLost(peer) => warn!(%peer, "not heard of any more"),
        Trace::PeerFound(peer) => info!(%peer, "heard of again"),
        Trace::Stranger { node, store } => {
            warn!(%node, %store, "another store wants the place of this node's: if its disk is lost, let it in with `ironseed cluster replace-store`");
        }
        Trace::Chartered { version } => info!(version, "another version of the charter"),
        Trace::LaidOut { version } => info!(version, "another version of the layout"),
        Trace::Joined { group } => info!(%group, "a replica begins: the shard is moved here"),
        Trace::Left { group } => info!(%group, "the replica is given up: the shard was moved away"),
        Trace::Stranded { group, meaning } => {
            warn!(%group, meaning, "commands of a newer version: the group is not applied any further");
        }
        Trace::Raft { group, event: Event::Repaired { position } } => {
            info!(%group, ?position, "healed a log entry from a peer");
        }
        Trace::Raft { group, event: Event::GaveUp { position } } => {
            warn!(%group, ?position, "gave up a damaged log entry that can't have been committed");
        }
        Trace::Raft { group, event } => debug!(%group, ?event, "raft"),
        Trace::Role { group, role, term, leader } => {
            debug!(%group, ?role, %term, leader = ?leader, "role");
        }
        Trace::HandOver { group, to } => debug!(%group, %to, "hands over"),
        Trace::BlobCollected { blob } => debug!(?blob, "collected"),
        Trace::ReadsFellBack { group } => debug!(%group, "reads are passed on to the leader"),
        Trace::Decided { .. }
        | Trace::Answered { .. }
        | Trace::ReadsNear { .. }
        | Trace::Log(_) => trace!(?event),
    }
}
