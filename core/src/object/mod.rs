//! To come.

pub mod api;
pub mod blob;
pub mod bucket;
pub mod collect;
pub mod command;
pub mod conditions;
mod delete;
pub mod merge;
pub mod multipart;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]
mod naive;
pub mod names;
pub mod procedure;
mod put;
pub mod query;
pub mod record;
pub mod registry;
pub mod transfer;
