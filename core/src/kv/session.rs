//! Request sessions: exactly once.

/// How many replies a session remembers at the most.
pub const REPLIES_MAX: usize = 1024;
