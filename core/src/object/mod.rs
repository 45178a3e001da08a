//! What S3 means: buckets, objects, multipart uploads, conditional writes and listings, as pure functions over
//! a shard's table.
//!
//! **The problem.** S3 promises that a put is seen by every later read and listing, that one of two
//! conditional writers wins, that a bucket with an object in it is not deleted, and that bytes which
//! were acknowledged stay. Bytes are many and names are few: names go through consensus, bytes do not. So
//! what has to be right is how the two are tied together, under retries, crashes and commands that come late.
//!
//! **Where what lives.** An object's record is in the shard of its key; everything that its bytes consist of (blobs,
//! extents, uploads, parts: [`record`]) is in that same shard, so one log orders it all. The bucket registry
//! is in the meta group ([`registry`]).
//!
//! **The path of a put.** Small bodies travel in the command. A longer one is cut into chunks
//! ([`transfer`]): [`command::ObjectOp::OpenBlob`] opens a blob under a lease; each chunk is made durable at
//! a quorum of replicas, outside the log; [`command::ObjectOp::AppendExtent`] names chunks, and is refused if their
//! holders are no quorum of the current replica set; [`command::ObjectOp::Put`] names the blob, which takes it
//! over from its lease. The content that it replaces is dead from then on, and is collected after readers
//! that may still use it are done ([`collect`]).
//!
//! **The path of a read.** A replica that may answer looks the record up ([`query`]) and pins the blob it
//! names. A listing asks every shard and merges their pages ([`merge`]).
//!
//! **Buckets** exist in two places: the registry decides, shards enforce. A bucket's epoch rises with every
//! change of its state; each command on objects carries the epoch that its sender went by and is refused
//! unless it is the shard's. Creating and deleting are procedures over all shards ([`procedure`]).
//!
//! **Guarantees.**
//! - *A reference is taken before a name is committed and released after it is gone*, so an error leaks
//!   bytes, which the collector finds, and never loses them (`assert_consistent` in the tests).
//! - *Every refusal is decided from the state at apply*, alike on all replicas, and unless it says otherwise changes
//!   nothing.
//! - *Conditions are compare-and-swap*: they are checked in the command that writes.
//! - *A deletion never loses an acknowledged object*, and a removed bucket never comes back, however late a
//!   command arrives (`a_deletion_never_loses_an_acknowledged_object`).
//! - *Collection leaves nothing* of what nobody keeps.
//!
//! **Caveats.** No versioning, object lock or lifecycle yet, and copies share nothing: a copy is a new upload.
//! An upload in progress lives until it is completed, aborted, or its bucket is deleted. Completing an upload
//! looks at every part in one command, up to ten thousand; it is the one operation whose work is not
//! constant, and its bound is S3's own.

pub mod api;
pub mod blob;
pub mod bucket;
pub mod charter;
pub mod collect;
pub mod command;
pub mod conditions;
mod delete;
pub mod layout;
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

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]
mod tests;
