//! The switch for planted bugs: how we know that the simulator sees anything (docs/bug-bench.md).
//!
//! One enum, one line at the place. Without the feature `planted-bugs` the switch has no size and
//! every question is a constant `false`, so nothing of it is in a production build. The node binary
//! refuses to compile with the feature on.

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
    /// A follower acknowledges entries before its sync.
    AcknowledgeBeforeSync = 3,
    /// ReadIndex answers without a quorum round.
    ReadWithoutQuorum = 10,
    /// Corruption in mid-log is cut like a torn tail, and the replica votes.
    CorruptionAsTornTail = 21,
    /// A bucket's epoch counts when a write is proposed, and is not looked at when it is applied.
    BucketEpochAtPropose = 30,
    /// Whoever deletes a bucket takes a later deletion, somebody else's, for its own.
    DeletionByName = 31,
    /// A quiet leader does not look after peers that fell silent, and never learns of its successor.
    QuietLeaderNeverLooks = 32,
}

/// Which bug this machine carries; nothing in production.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<Bug>,
}

impl Planted {
    /// Nothing planted.
    pub const NONE: Self = Self {
        #[cfg(feature = "planted-bugs")]
        bug: None,
    };

    /// Plants `bug`.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub const fn with(bug: Bug) -> Self {
        Self { bug: Some(bug) }
    }

    /// Whether `bug` is planted: a constant `false` in production.
    #[must_use]
    pub fn is(self, bug: Bug) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.bug == Some(bug);
        #[cfg(not(feature = "planted-bugs"))]
        {
            let _ = bug;
            false
        }
    }
}
