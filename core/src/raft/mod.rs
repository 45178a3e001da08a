//! To come.

mod api;
mod disk;
mod election;
mod group;
mod log;
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
mod simulation;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod testing;

pub use api::{
    Config, Configuration, Event, FollowerStatus, HardState, Input, Output, PersistId, Restored,
    Role, Standing, Status, VOTERS_MAX, Voter, Write,
};
pub use group::Group;
pub use message::{AppendOutcome, Ballot, Body, Entry, Message, Payload, PayloadAnswer};
