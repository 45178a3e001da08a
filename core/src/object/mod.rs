//! To come.

pub mod api;
pub mod command;
pub mod registry;
