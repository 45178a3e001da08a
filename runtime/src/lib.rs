//! The runtime.
pub mod clock;
pub mod config;
