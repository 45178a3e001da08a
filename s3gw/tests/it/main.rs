//! The gateway over real sockets, in front of a store in memory.

mod conditions;
mod hostile;
mod multipart;
mod objects;
mod slow;
mod snapshots;
mod support;
