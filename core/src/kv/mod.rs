//! The replicated state of a group, and what a command does to it.
//!
//! **The problem.** Every replica of a group must come to the same state from the same log, hold more
//! than fits a write of the whole, survive a crash at any point, hand its state to a replica that is
//! too far behind, and carry out a client's command exactly once although every message may come twice.
//!
//! **The shape.** All replicated state of a group (user keys, objects, blobs, sessions, the bucket
//! registry of the meta group) is one ordered table ([`table`]); the first byte of a key says which space
//! it is in ([`space`]). The index is in memory, copy-on-write ([`cow`]), the keys of a node in one array (`keys`); a record's small **head** is in
//! memory with it, its **body** in the table log. [`state::State::apply`] reads heads only, so it needs no
//! I/O and can't fail.
//!
//! **The path of a command.** The leader encodes a [`command::Command`] with the active meaning, its wall
//! time and the client's session, and proposes it. Once committed, every replica applies it: it is
//! decoded under the active meaning, its session says whether it is new ([`session`]), it gets its
//! commit timestamp, and its operation writes through a [`batch::Batch`]. What changed is taken as a
//! [`frame::Frame`] and appended to the node's table log without a sync: the group's own log still has
//! the command. At a checkpoint the table log is synced, and the log behind the frame's mark is free to
//! go. When a frame has been written, bodies leave memory ([`state::State::settle`]).
//!
//! **After a restart** the frames give back the state as of the last durable one ([`replay`]), and the
//! group's log is applied from there. Where a snapshot of the index is good, only frames behind it are read ([`index`]). A replica that is too far behind is sent the state in slices
//! ([`snapshot`]); they are frames of a new generation, which counts once its last frame is there.
//!
//! **Cleaning the table log** takes the oldest segment, always: read it back, have each group rewrite
//! what is current of each frame ([`state::State::rewrite`]) and its mark
//! ([`state::State::rewrite_mark`]), sync, and remove the segment once no group needs it
//! ([`state::State::needs`]). Because no younger segment ever goes first, a removal is never forgotten
//! before the record that it removed. Segments stay while an export may read them
//! ([`snapshot::Export::oldest_segment`]), and from the first frame of an unfinished import on
//! ([`snapshot::Import::needs`]).
//!
//! **Guarantees.**
//! - *Deterministic.* Equal logs give equal [`state::State::state_hash`]es, whatever was restarted,
//!   cleaned or installed in between.
//! - *Commit timestamps rise strictly with a group's log*, and are the leader's wall time where it rises
//!   by itself (docs/adr/0002).
//! - *Exactly once* within what a session remembers; beyond it the answer is "outcome unknown".
//! - *State and applied index are one frame*: neither is ever durable without the other.
//! - *A meaning is activated by the log*, not by the program: a command of a meaning that is not active is
//!   refused alike everywhere, and a replica whose program does not know the active meaning stops applying.
//!
//! **Caveats.** The index is in memory whole: with keys of 100 bytes some 300 to 340 bytes of resident memory for each record, all that a node holds
//! beside included (docs/adr/0016 and 0018, and `ironseed bench index` measures it). So a key that is not there is found missing without a read, and there is no filter for misses
//! to keep. A boot reads the table log whole ([`replay`]), or what is behind a snapshot
//! of the index ([`index`], and `node::index`). Old versions
//! are not kept yet, so nothing reads at a timestamp (DESIGN.md, wall 9). A group's session with a node
//! that will never come back takes memory until [`command::Op::ExpireSessions`] is proposed; and a node
//! whose session was expired by mistake gets a new one only with its next boot.

pub mod api;
pub mod batch;
mod body;
pub mod command;
pub mod cow;
pub mod frame;
pub mod index;
mod keys;
mod pending;
pub mod query;
mod rebuild;
pub mod replay;
pub mod rows;
pub mod session;
pub mod snapshot;
pub mod space;
pub mod state;
pub mod table;
pub mod write;

#[cfg(test)]
mod tests;
