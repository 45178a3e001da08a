//! The simulator.
pub mod checkers;
pub mod clock;
pub mod disk;
pub mod draw;
pub mod history;
pub mod net;
pub mod workload;
