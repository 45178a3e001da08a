//! The switch for planted bugs: how we know that the simulator sees anything (docs/bug-bench.md).
//!
//! One enum, one line at the place. Without the feature `planted-bugs` the switch has no size and
//! every question is a constant `false`, so nothing of it is in a production build. The node binary
//! refuses to compile with the feature on.
//!
//! The same switch carries the fault points of the machine ([`Point`]): legal but rare behaviour that simulations
//! force.

mod points;

pub use points::{OCCASIONS, Point, take_tally};

use crate::machine::Instant;
use points::Points;

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};

/// Whether this build can plant bugs. The node binary asserts at compile time that it can't.
pub const COMPILED_IN: bool = cfg!(feature = "planted-bugs");

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $row:literal),+ $(,)?) => {
        /// A bug of the bench; the number is its row in docs/bug-bench.md.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $($(#[$doc])* $name),+ }

        impl Bug {
            /// Every bug that can be planted.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its row in the bench.
            #[must_use]
            pub const fn row(self) -> u32 {
                match self { $(Self::$name => $row),+ }
            }
        }
    };
}

bugs! {
    /// Commit an entry of an earlier term by counting copies (Raft 5.4.2, figure 8).
    CommitEarlierTerm = 1,
    /// A voter answers RequestVote before its vote is durable.
    VoteBeforeDurable = 2,
    /// A follower acknowledges entries before its sync.
    AcknowledgeBeforeSync = 3,
    /// A leader counts itself before its own sync.
    LeaderCountsUnsynced = 4,
    /// What a leader knew of its followers is kept over its re-election.
    MatchKeptOverReelection = 5,
    /// A follower acknowledges its last index, not the end of what it was sent.
    AcknowledgeLastIndex = 6,
    /// A follower commits what the leader has, without the minimum with what is proven equal.
    CommitWithoutMinimum = 7,
    /// A follower cuts its log at an append although the entries match.
    TruncateThoughEqual = 8,
    /// Replies of an older term are taken for answers to this one's questions.
    AcceptOldReplies = 9,
    /// ReadIndex answers without a quorum round.
    ReadWithoutQuorum = 10,
    /// ReadIndex answers before an entry of the leader's own term is committed.
    ReadBeforeOwnTerm = 11,
    /// A lease is counted from receipt of the answer, and not shortened by how far clocks may drift.
    LeaseFromReceipt = 12,
    /// In a joint configuration a quorum of the new voters is enough.
    JointNewOnly = 14,
    /// A state takes the place of a log and its configuration does not.
    SnapshotWithoutMembers = 15,
    /// The log is compacted before the state that replaces it is durable.
    CompactBeforeDurable = 16,
    /// A pre-vote ignores a live leader and raises the term.
    PreVoteDisrupts = 17,
    /// A leader that hears nothing from a quorum goes on leading.
    NoCheckQuorum = 18,
    /// The state on disk is newer than the applied index beside it.
    StaleAppliedIndex = 19,
    /// A completed append vouches for whatever has its index by then (ABA).
    CompletionByIndex = 20,
    /// Corruption in mid-log is cut like a torn tail, and the replica votes.
    CorruptionAsTornTail = 21,
    /// A failed sync is tried again and believed.
    FailedSyncBelieved = 22,
    /// The segment that a batch names is not looked at: one of an earlier life of the file passes.
    BatchOfAnySegment = 23,
    /// A sync acknowledges what was queued after it began.
    SyncCoversLater = 24,
    /// A bucket's epoch counts when a write is proposed, and is not looked at when it is applied.
    BucketEpochAtPropose = 30,
    /// Whoever deletes a bucket takes a later deletion, somebody else's, for its own.
    DeletionByName = 31,
    /// A quiet leader does not look after peers that fell silent, and never learns of its successor.
    QuietLeaderNeverLooks = 32,
    /// A node's word for a leader outlives the term in which its replica followed that one.
    SupportOutlivesTerm = 33,
    /// A store that takes a lost one's place counts as if it had kept every promise.
    NewStoreCounts = 34,
    /// Boots of a store that takes a lost one's place are numbered as if nobody had been there before.
    NewStoreCountsFromOne = 35,
    /// A node to which a shard is moved says that it holds all of it when it has the state, whatever chunks it lacks.
    WholeWithoutChunks = 36,
    /// Who holds a chunk is counted against the voters that the group was founded with.
    ReceiptsOfOldVoters = 37,
    /// A leader that knows an older layout has its group follow that again.
    OlderWish = 38,
    /// A leader that told another to campaign at once goes on with its lease.
    LeaseOutlivesTransfer = 39,
    /// A replica that boots votes at once, though it may have promised a leader not to.
    PromiseLostAtBoot = 40,
    /// The scrub passes over what it can't verify.
    ScrubPassesOver = 41,
    /// The end of a snapshot of the index does not wait for the sync of the frames that are in it.
    IndexBeforeSync = 42,
    /// Who hears that its leader's node is gone takes back what it has promised that leader.
    SuspicionEndsPromise = 43,
    /// A replica that does not lead takes the answer to a question for one to those that it has asked since.
    AnswerToLaterQuestion = 44,
    /// What a frame says of its group's state is written to an engine before the frame's records.
    EngineSplitsFrames = 45,
    /// A body in an engine is taken for one that nobody needs before what stands in its place was written.
    EngineSweepsEarly = 46,
}

/// Which bug this machine carries, and what it is forced to; nothing in production.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<Bug>,
    points: Points,
}

impl Planted {
    /// Nothing planted.
    pub const NONE: Self = Self {
        #[cfg(feature = "planted-bugs")]
        bug: None,
        points: Points::NONE,
    };

    /// Plants `bug`.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub const fn with(bug: Bug) -> Self {
        Self { bug: Some(bug), points: Points::NONE }
    }

    /// The same, and these points force so often, of [`OCCASIONS`]; those that move leaders only before `leaders_until`, by the
    /// machine's clock. Changes nothing in production.
    #[must_use]
    pub fn forcing(
        self,
        seed: u64,
        rates: impl IntoIterator<Item = (Point, u16)>,
        leaders_until: Instant,
    ) -> Self {
        #[cfg(feature = "planted-bugs")]
        return Self { points: Points::new(seed, rates, leaders_until.0), ..self };
        #[cfg(not(feature = "planted-bugs"))]
        {
            let _ = (seed, rates.into_iter(), leaders_until);
            self
        }
    }

    /// Whether `point` forces on this occasion: a constant `false` in production.
    #[must_use]
    pub fn forces(self, point: Point, occasion: u64) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.points.force(point, occasion);
        #[cfg(not(feature = "planted-bugs"))]
        {
            let _ = (point, occasion);
            false
        }
    }

    /// Whether `bug` is planted: a constant `false` in production.
    #[must_use]
    pub fn is(self, bug: Bug) -> bool {
        #[cfg(feature = "planted-bugs")]
        {
            let here = self.has(bug);
            if here {
                REACHED.store(true, core::sync::atomic::Ordering::Relaxed);
            }
            here
        }
        #[cfg(not(feature = "planted-bugs"))]
        self.has(bug)
    }

    /// As [`Planted::is`], without counting as having come to its line.
    const fn has(self, bug: Bug) -> bool {
        #[cfg(feature = "planted-bugs")]
        return matches!(self.bug, Some(here) if here.row() == bug.row());
        #[cfg(not(feature = "planted-bugs"))]
        {
            let _ = bug;
            false
        }
    }
}

/// Encodes as the row of the bug, 0 for none. Only recordings of a node's settings carry it.
impl Encode for Planted {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let planted = Bug::ALL.iter().find(|bug| self.has(**bug));
        planted.map_or(0, |bug| bug.row()).encode(encoder)
    }
}

impl<C> Decode<C> for Planted {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            0 => Ok(Self::NONE),
            #[cfg(feature = "planted-bugs")]
            row => {
                let bug = Bug::ALL.iter().find(|bug| bug.row() == row);
                bug.map(|bug| Self::with(*bug)).ok_or(DecodeError::Other("no such bug"))
            }
            #[cfg(not(feature = "planted-bugs"))]
            _ => Err(DecodeError::Other("this build plants no bugs")),
        }
    }
}

impl<'de, C> BorrowDecode<'de, C> for Planted {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// Whether any planted bug was asked about since [`forget_reached`], anywhere in this process.
#[cfg(feature = "planted-bugs")]
static REACHED: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

/// Whether the line of a planted bug has been come to since [`forget_reached`]. Never in production.
#[must_use]
pub fn reached() -> bool {
    #[cfg(feature = "planted-bugs")]
    return REACHED.load(core::sync::atomic::Ordering::Relaxed);
    #[cfg(not(feature = "planted-bugs"))]
    false
}

/// Begins to watch anew.
pub fn forget_reached() {
    #[cfg(feature = "planted-bugs")]
    REACHED.store(false, core::sync::atomic::Ordering::Relaxed);
}
