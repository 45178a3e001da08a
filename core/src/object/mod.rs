//! To come.

pub mod api;
pub mod transfer;
