//! The tokio runtime of a node, and the `ironseed` binary around it.
//!
//! The node decides ([`ironseed_core::node`]); this crate executes what it decides on real files
//! ([`disk`]), real sockets ([`net`]) and real clocks ([`clock`]), from the one loop in [`driver`]. These
//! are the twins of the simulator's files of the same names, and like them they contain no policy: no
//! retry, no order, no protocol timer.
//!
//! Around it: the configuration file ([`config`]), the founding of a cluster ([`founding`]), one node with
//! its ports ([`server`], [`gateway`], [`health`]), and the verbs of the binary ([`commands`], [`demo`],
//! [`status`], [`mod@bench`]).

pub mod bench;
pub mod clock;
pub mod commands;
pub mod config;
pub mod demo;
pub mod disk;
pub mod driver;
pub mod founding;
pub mod gateway;
pub mod health;
pub mod http;
pub mod net;
pub mod pool;
pub mod server;
pub mod status;
