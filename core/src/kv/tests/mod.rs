//! The state of a group against slow obvious models.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that is wrong may panic"
)]

mod commands;
mod durability;
mod spaces;
mod world;
