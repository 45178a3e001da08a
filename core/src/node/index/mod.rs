//! Snapshots of the index: how a restart gets by without reading the whole table log.
//!
//! # The problem
//!
//! The index of all records is in memory, and the table log is what it is made of again. That log holds bodies as well, and every
//! version that was not cleaned yet: a boot that reads all of it takes time in proportion to what was written, not to what there is.
//!
//! # The shape
//!
//! **The table log stays complete; a snapshot only makes a boot faster.** It is a file of its own ([`crate::machine::FileKind::Index`],
//! `format`): of every group the state at the end of one of its frames, which need not be the same moment for all of them,
//! and where the frames are of the segments that a boot then passes over. A boot loads it, and reads the table log from the segment
//! on that was written when the snapshot was begun: of each group's frames there it takes those that the
//! snapshot does not include, told by their numbers ([`crate::kv::replay::Replay::loaded`]). Whatever is doubtful about a snapshot, the boot
//! removes it and reads the table log whole, and says so in a trace. So no promise ever rests on one.
//!
//! # Guarantees
//!
//! - *A frame that a snapshot includes is durable before the snapshot's end is written.* So a snapshot is never ahead of the
//!   log that it stands for. Its end says how far the log was durable then, which a boot takes for a sync mark.
//! - *A frame that it does not include is read.* It was appended after the snapshot was begun, so it is in the segment
//!   that was written then, or in a later one; and if one of these is gone, the snapshot is refused. Older segments may be gone:
//!   what was current in them was rewritten, in frames that are read.
//! - *Each segment is the one that it was*: its length and its header are compared.
//! - *One at a time*: a group's table is copied (copy-on-write) when its turn comes, and taken apart in slices when it is written. No
//!   step works in proportion to state.
//! - *A crash at any point leaves the older snapshot, or none.* It is removed when the newer one and its name are durable.
//!
//! # The path of a snapshot
//!
//! The table log has grown by [`crate::node::api::Tuning::index_bytes_min`] since the last one, and by as much as that takes: it is
//! begun, if every replica has a state. Group by group is asked for a copy, and writes what changed to the table
//! log first; when the frames of the copy are written, its records have places, and go out in blocks, no faster than
//! [`crate::node::api::Tuning::index_bytes_per_second`]. Then the frames, the sync of the table log, the end, the sync of the file and of its name. A disk
//! that is full ends it, and the file goes.
//!
//! # Caveats
//!
//! - What rots in a segment that no boot reads is found by whoever reads it: a reader of a body, or the cleaner. Before, each boot
//!   found it. `ironseed data verify` reads everything.
//! - A group whose state is damaged, or on its way here, keeps the node from writing snapshots until it is whole.

mod format;
mod loader;
mod writer;

pub use loader::Doubt;
pub(in crate::node) use loader::{Files, Loaded, Loader};
pub(in crate::node) use writer::{Settings, Subject, Writer};
