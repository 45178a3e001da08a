//! To come.

/// How long a staged blob lives without a new extent: milliseconds.
pub const STAGE_LEASE_MS: u64 = 60_000;
/// How long a read pins the blobs of the object it looked up: milliseconds. A longer read looks up again.
pub const PIN_MS: u64 = 30_000;
