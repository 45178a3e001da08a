//! Every decision that Ironseed takes, as pure state machines.
//!
//! Nothing in this crate can reach a clock, a socket, a file, a thread or the operating system's
//! randomness: it is `no_std` with `alloc`, and the compiler holds it to that. A machine takes one
//! input and appends to one ordered list of effects ([`machine`]); two drivers of equal rank, the
//! simulator and the tokio runtime, execute the effects and feed the completions back.
//!
//! What lives here: consensus ([`raft`]), the segmented log under it ([`wal`]), the replicated state
//! of a shard ([`kv`], [`object`]), bulk bytes ([`chunk`]), placement ([`shard`]) and their
//! composition ([`node`]). What never will: `async`, locks, floats in decisions, maps with random
//! order.
#![no_std]
#![warn(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::float_arithmetic
)]

extern crate alloc;

pub mod chunk;
pub mod codec;
pub mod kv;
pub mod machine;
pub mod node;
pub mod object;
pub mod planted;
pub mod raft;
pub mod rng;
pub mod rows;
pub mod shard;
pub mod types;
pub mod wal;
