//! A run's choices as a list that can be written down, edited and replayed.
//!
//! Everything random in a run is drawn from its seed, and whatever is drawn can also be given: the faults
//! ([`Planned`]), what clients do and when ([`Step`]), what is no longer left to chance at all ([`Calm`]),
//! settings ([`Knob`]) and what becomes of single messages ([`Delivery`]). What is given has names of its
//! own, so any part of a list is a list, and leaving something out leaves the rest as it was.

use crate::faults::Planned;
use ironseed_core::machine::Duration;
use ironseed_core::node::api::Tuning;
use serde::{Deserialize, Serialize};

/// An operation that a client begins. What it is follows from the seed, the client and its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When: world nanoseconds. Later, if the one before it is still under way.
    pub at: u64,
    /// Which client, from 0.
    pub client: u32,
    /// Which of the client's operations, from 1.
    pub number: u64,
    /// What it is, for people. Nothing reads it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
}

/// What is the same everywhere and always, in place of what the seed would draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calm {
    /// Every message takes the typical time of its weather, and not now and then a hundred times as long. Storms
    /// still lose and double messages.
    Network,
    /// All disks are alike, and every operation takes as long as the last of its kind.
    Disks,
    /// Clocks show one time and run at one speed, and nodes are told so.
    Clocks,
    /// Nodes boot together, in their order.
    Boots,
    /// Clients have all the patience of their kind and stay with the node that they asked first.
    Clients,
    /// Sizes and times of nodes are those of production, but for the times that follow the network's.
    Tuning,
    /// Nodes sync before they acknowledge anything.
    Syncs,
    /// The run ends with its proof and does not wait for leases to run out.
    Leases,
    /// Everything heals at once: no core has to go on without the rest.
    Rest,
}

impl Calm {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Network,
        Self::Disks,
        Self::Clocks,
        Self::Boots,
        Self::Clients,
        Self::Tuning,
        Self::Syncs,
        Self::Leases,
        Self::Rest,
    ];
}

/// What one message meets on its way, in place of what the weather would do to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Who sends it.
    pub from: u32,
    /// To whom.
    pub to: u32,
    /// When, in ticks of 2^20 nanoseconds: about milliseconds.
    pub tick: u64,
    /// Which of the messages of this link and tick, from 1.
    pub number: u64,
    /// How long it takes, nanoseconds: once for each time that it arrives. Empty if it is lost.
    pub takes: Vec<u64>,
}

/// What a run did, as the lists that make the same run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// How many nodes there were.
    pub nodes: u32,
    /// How many shards.
    pub shards: u16,
    /// The faults, drawn or given.
    pub plan: Vec<Planned>,
    /// Faults that came of other faults while the run went on, each with the position in `plan` of the one
    /// that it came of: they could take its place.
    pub derived: Vec<(usize, Planned)>,
    /// What clients began before everything healed.
    pub script: Vec<Step>,
    /// When everything healed: world nanoseconds. `None` if the run did not come so far.
    pub healed: Option<u64>,
    /// What became of every message that met no cut, if the run was asked to tell.
    pub deliveries: Vec<Delivery>,
}

macro_rules! knobs {
    ($($(#[$doc:meta])* $name:ident = $field:ident: $low:literal ..= $high:literal, $get:expr, $set:expr);+ $(;)?) => {
        /// A setting of every node, by the name of its field in [`Tuning`]. Times are in nanoseconds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Knob { $($(#[$doc])* $name),+ }

        impl Knob {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its value here.
            #[must_use]
            pub fn of(self, tuning: &Tuning) -> u64 {
                match self { $(Self::$name => $get(tuning.$field)),+ }
            }

            /// Sets it.
            pub fn set(self, tuning: &mut Tuning, value: u64) {
                match self { $(Self::$name => tuning.$field = $set(value)),+ }
            }

            /// What it may be.
            #[must_use]
            pub const fn range(self) -> core::ops::RangeInclusive<u64> {
                match self { $(Self::$name => $low..=$high),+ }
            }
        }
    };
}

knobs! {
    /// A leader's heartbeat.
    Heartbeat = heartbeat: 1_000_000 ..= 10_000_000_000, nanos, Duration;
    /// How long a follower waits at least before it stands for election.
    Election = election: 3_000_000 ..= 60_000_000_000, nanos, Duration;
    /// How soon a group goes quiet.
    QuiesceAfter = quiesce_after: 1_000_000 ..= 3_600_000_000_000, nanos, Duration;
    /// What log records are aligned to: 512 or 4096.
    BlockBytes = block_bytes: 512 ..= 4096, u64::from, narrow;
    /// Whether lanes are run in an order drawn from the seed: 0 or 1.
    ShuffleLanes = shuffle_lanes: 0 ..= 1, u64::from, is_set;
    /// Bytes of a WAL segment.
    WalSegmentBytes = wal_segment_bytes: 524_288 ..= 1_073_741_824, same, same;
    /// Bytes of a table segment.
    TableSegmentBytes = table_segment_bytes: 524_288 ..= 1_073_741_824, same, same;
    /// Bytes of a chunk segment.
    ChunkSegmentBytes = chunk_segment_bytes: 3_145_728 ..= 1_073_741_824, same, same;
    /// Bytes of log above which it is compacted.
    LogBytesMax = log_bytes_max: 1 ..= 1_073_741_824, same, same;
    /// WAL segments above which it is trimmed.
    WalSegmentsMax = wal_segments_max: 2 ..= 1_000, same, same;
    /// How often table records are synced.
    CheckpointEvery = checkpoint_every: 1_000_000 ..= 3_600_000_000_000, nanos, Duration;
    /// Bytes of entries in one append message.
    AppendBytesMax = append_bytes_max: 1 ..= 4_194_304, same, same;
    /// Append messages under way to one follower.
    AppendInflightMax = append_inflight_max: 1 ..= 65_536, u64::from, narrow;
    /// Bytes in one slice of a snapshot.
    SnapshotSliceBytes = snapshot_slice_bytes: 1 ..= 4_194_304, same, same;
    /// Bytes of slices of snapshots that a node fetches at a time.
    SnapshotBytesMax = snapshot_bytes_max: 1 ..= 1_073_741_824, same, same;
    /// Items of one step of a scan.
    SliceItems = slice_items: 1 ..= 1_048_576, u64::from, narrow;
    /// Client requests under way.
    RequestsMax = requests_max: 1 ..= 1_048_576, u64::from, narrow;
    /// How long a request may take.
    RequestTimeout = request_timeout: 1_000_000 ..= 3_600_000_000_000, nanos, Duration;
    /// By how many millionths monotonic clocks run wrong at the most, which leases rest on: 0 for no leases.
    MaxClockDriftPpm = max_clock_drift_ppm: 0 ..= 200_000, or_zero, unless_zero;
    /// Whether replicas answer reads without leading: 0 or 1.
    ReadsNearest = reads_nearest: 0 ..= 1, u64::from, is_set;
    /// Bytes of chunks that are verified a second: 0 for no scrub.
    ScrubBytesPerSecond = scrub_bytes_per_second: 0 ..= 1_099_511_627_776, same, same;
    /// How often all of them are.
    ScrubEvery = scrub_every: 1_000_000 ..= 31_536_000_000_000_000, nanos, Duration;
    /// Growth of the table log after which a snapshot of the index is written: 0 for never.
    IndexBytesMin = index_bytes_min: 0 ..= 1_099_511_627_776, same, same;
    /// Bytes of it that are written a second.
    IndexBytesPerSecond = index_bytes_per_second: 1 ..= 1_099_511_627_776, same, same;
}

const fn nanos(duration: Duration) -> u64 {
    duration.0
}

const fn same(value: u64) -> u64 {
    value
}

fn or_zero(value: Option<u32>) -> u64 {
    value.map_or(0, u64::from)
}

fn unless_zero(value: u64) -> Option<u32> {
    (value > 0).then(|| narrow(value))
}

const fn is_set(value: u64) -> bool {
    value != 0
}

/// No knob goes beyond 32 bits that has only so many.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_reads_what_it_set_and_production_is_in_its_range() {
        for &knob in Knob::ALL {
            let mut tuning = Tuning::default();
            assert!(knob.range().contains(&knob.of(&tuning)), "{knob:?}");
            let value = *knob.range().start();
            knob.set(&mut tuning, value);
            assert_eq!(knob.of(&tuning), value, "{knob:?}");
        }
    }
}
