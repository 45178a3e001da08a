//! The key-value space: compare-and-swap on versions.
//!
//! A value of up to [`HEAD_VALUE_BYTES_MAX`] bytes is the record's head and so never costs a read; a
//! longer one is its body.

use super::api::{Expect, KV_KEY_BYTES_MAX, KV_VALUE_BYTES_MAX, KvAnswer};
use super::batch::Batch;
use super::command::KvWrite;
use super::space;
use crate::types::Version;
use alloc::string::ToString as _;
use bytes::Bytes;

/// Values up to this many bytes stay in memory: they take no more there than the place of a body.
pub const HEAD_VALUE_BYTES_MAX: usize = 64;

/// Why a key or value is refused, before it is proposed and again at apply.
#[must_use]
pub fn refusal(key: &[u8], value: &[u8]) -> Option<KvAnswer> {
    let what = if key.is_empty() {
        "the key is empty"
    } else if key.len() > KV_KEY_BYTES_MAX {
        "the key is too long"
    } else if value.len() > KV_VALUE_BYTES_MAX {
        "the value is too long"
    } else {
        return None;
    };
    Some(KvAnswer::Invalid(what.to_string()))
}

/// Carries a write out.
pub(super) fn apply(batch: &mut Batch<'_>, write: KvWrite) -> KvAnswer {
    match write {
        KvWrite::Put { key, value, expect } => {
            if let Some(refusal) = refusal(&key, &value) {
                return refusal;
            }
            let key = space::kv(&key);
            if let Some(conflict) = conflict(batch, &key, expect) {
                return conflict;
            }
            if value.len() <= HEAD_VALUE_BYTES_MAX {
                batch.put(&key, value.as_ref(), Bytes::new());
            } else {
                batch.put(&key, &[][..], value.0);
            }
            written(batch)
        }
        KvWrite::Delete { key, expect } => {
            if let Some(refusal) = refusal(&key, &[]) {
                return refusal;
            }
            let key = space::kv(&key);
            if let Some(conflict) = conflict(batch, &key, expect) {
                return conflict;
            }
            batch.remove(&key);
            written(batch)
        }
    }
}

const fn written(batch: &Batch<'_>) -> KvAnswer {
    KvAnswer::Written { version: batch.version(), committed: batch.committed() }
}

fn conflict(batch: &Batch<'_>, key: &[u8], expect: Expect) -> Option<KvAnswer> {
    let version = batch.get(key).map_or(Version(0), |slot| slot.version);
    let holds = match expect {
        Expect::Any => true,
        Expect::Absent => version == Version(0),
        Expect::Version(expected) => version == expected,
    };
    (!holds).then_some(KvAnswer::Conflict { version })
}
