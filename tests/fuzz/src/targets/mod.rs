//! One function for each decoder of bytes from outside. What each of them asserts stands with it.

mod disk;
mod gateway;
mod index;
mod recording;
mod requests;
mod segment;
mod state;
mod store;
mod text;
mod wire;

use crate::Target;

/// All of them, those that hold least memory first.
pub(crate) const ALL: &[Target] = &[
    text::CONFIG,
    text::SEED_FILE,
    wire::PEER_MESSAGE,
    wire::NODE_PORT,
    state::COMMAND,
    state::TABLE_FRAME,
    disk::SUPERBLOCK,
    disk::WAL_BATCH,
    segment::SEGMENT_FILE,
    index::INDEX,
    recording::RECORDING,
    gateway::HTTP,
    gateway::XML,
    store::STORE,
];
