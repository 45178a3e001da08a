//! To come.

pub mod api;
pub mod command;
pub mod conditions;
pub mod merge;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]
mod naive;
pub mod names;
pub mod registry;
pub mod transfer;
