//! The runtime.
pub mod clock;
pub mod config;
pub mod disk;
pub mod driver;
pub mod net;
pub mod pool;
