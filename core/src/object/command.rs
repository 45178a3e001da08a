//! To come: what a shard's log does to objects.

use crate::kv::batch::Batch;
use crate::object::api::Outcome;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// A write of objects, their blobs and what a shard knows of buckets.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ObjectOp {}

/// What an applied operation means for the chunks on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectEvent {}

/// Applies an operation: deterministic, and it can't fail but by an answer that all replicas give.
pub fn apply(_batch: &mut Batch<'_>, _events: &mut Vec<ObjectEvent>, op: ObjectOp) -> Outcome {
    match op {}
}
