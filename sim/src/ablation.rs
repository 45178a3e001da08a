//! What a run goes without, so that it shows what that is for.

use crate::faults::Class;
use crate::setup::Setup;
use std::fmt;

/// One thing that a simulation can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// No fault of this class.
    Class(Class),
    /// Nodes are forced to nothing (`core/src/planted/points.rs`).
    Points,
    /// Nobody stays broken after the healing.
    Rest,
    /// What this oracle sees does not count.
    Oracle(&'static str),
}

/// The oracles that can be left out. Assertions in machines can't: what follows a broken one means nothing.
pub const ORACLES: &[&str] = &[
    "raft",
    "durable",
    "linearizable",
    "kv",
    "objects",
    "liveness",
    "collection",
    "scrub",
    "two-boots",
    "engine",
    "work",
];

impl Removal {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let classes = Class::ALL.iter().copied().map(Self::Class);
        let oracles = ORACLES.iter().copied().map(Self::Oracle);
        classes.chain([Self::Points, Self::Rest]).chain(oracles)
    }

    /// Takes it from a run's setup.
    pub fn apply(self, setup: &mut Setup) {
        match self {
            Self::Class(class) => {
                setup.classes.remove(&class);
            }
            Self::Points => setup.points.clear(),
            Self::Rest => setup.rest = None,
            Self::Oracle(_) => {}
        }
    }

    /// Whether what this oracle sees does not count.
    #[must_use]
    pub fn silences(self, checker: &str) -> bool {
        matches!(self, Self::Oracle(name) if name == checker)
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => {
                let name = serde_json::to_value(class).unwrap_or_default();
                write!(f, "fault `{}`", name.as_str().unwrap_or_default())
            }
            Self::Points => f.write_str("fault points"),
            Self::Rest => f.write_str("frozen rest"),
            Self::Oracle(name) => write!(f, "oracle `{name}`"),
        }
    }
}
