//! The tokio runtime of a node, and the `ironseed` binary around it.
//!
//! The node decides ([`ironseed_core::node`]); this crate executes what it decides on real files
//! ([`disk`]), real sockets ([`net`]) and real clocks ([`clock`]), from the one loop in [`driver`]. These
//! are the twins of the simulator's files of the same names, and like them they contain no policy: no
//! retry, no order, no protocol timer. What they take from the machine itself is in [`sys`], so that the same
//! code runs on a simulated one (`tests/madsim`).
//!
//! Around it: the configuration file ([`config`]), the founding of a cluster ([`founding`]), one node with
//! its ports ([`server`], [`gateway`], [`health`]), and the verbs of the binary ([`commands`], [`demo`],
//! [`status`], [`mod@bench`]), and the tools on a stopped node's directory ([`data`]). Beside it: what a boot was fed can be written down and replayed
//! ([`recording`]).

pub mod admin;
#[cfg(not(madsim))]
pub mod bench;
pub mod clock;
#[cfg(not(madsim))]
pub mod cluster;
#[cfg(not(madsim))]
pub mod commands;
pub mod config;
#[cfg(not(madsim))]
pub mod data;
#[cfg(not(madsim))]
pub mod demo;
pub mod disk;
pub mod driver;
pub mod engine;
pub mod founding;
pub mod gateway;
pub mod health;
pub mod http;
pub mod net;
pub mod pool;
pub mod recording;
pub mod server;
pub mod sign;
pub mod status;
#[cfg_attr(madsim, path = "../../tests/madsim/sys.rs")]
pub mod sys;
