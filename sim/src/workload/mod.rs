//! Clients.
pub mod content;
