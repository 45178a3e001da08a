//! To come.

mod api;
mod group;
mod message;

pub use api::{
    Config, Configuration, Event, FollowerStatus, HardState, Input, Output, PersistId, Restored,
    Role, Standing, Status, VOTERS_MAX, Voter, Write,
};
pub use group::Group;
pub use message::{AppendOutcome, Ballot, Body, Entry, Message, Payload, PayloadAnswer};
