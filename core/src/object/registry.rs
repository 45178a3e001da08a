//! To come: what the meta group knows of buckets and of the cluster.

use crate::kv::batch::Batch;
use crate::object::api::Outcome;
use bincode::{Decode, Encode};

/// A write of the meta group.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RegistryOp {}

/// Applies an operation: deterministic, and it can't fail but by an answer that all replicas give.
pub fn apply(_batch: &mut Batch<'_>, op: RegistryOp) -> Outcome {
    match op {}
}
