//! A boot of a node, written down so that it can happen again.
//!
//! # The problem
//!
//! A node that misbehaves in the field leaves a log, which says what somebody thought of in advance. But a
//! node is a function of its settings and its inputs, so these alone are the whole story: fed to a fresh
//! [`Node`] they must bring the same effects, on any machine and as often as one likes. Whoever drives a
//! node may write them down.
//!
//! # What is written
//!
//! The [`Head`] once, then for every step `(Now, Input)` before it is taken and its [`Reaction`] afterwards,
//! so that an input from which the process does not come back is there too. Effects are only recorded as
//! prints ([`Print`]): enough to see that they are the same, and which is not. All of these are format types
//! (docs/formats.md); the file around them is the driver's business.
//!
//! # Guarantees
//!
//! - A print covers every byte that an effect carries and the reaction their order, so what was held
//!   back or let go too early shows as well.
//! - [`Replay`] decides nothing: what it steps is the node that production runs.
//!
//! # Caveats
//!
//! - A recording holds what clients wrote and read, the root credentials and bulk bytes: it is as
//!   secret and as large as they are.
//! - It replays on the program that made it. Another one may rightly decide otherwise.

mod input;
mod print;
#[cfg(test)]
mod tests;

pub use print::Print;

use super::Node;
use super::api::{Config, Effect, Input};
use crate::codec::{self, DecodeError};
use crate::machine::{Instant, Now};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use core::fmt;

/// The version of the encoding of everything here.
pub const VERSION: u16 = 4;
/// The most that one recorded value may take, in bytes: a message's head and its body, each as long as the
/// node port lets them be, with room.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// What a recording begins with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// The version of the program that ran the node.
    pub program: String,
    /// What [`Node::new`] was given, its seed included.
    pub config: Config,
}

/// What one step brought.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Reaction {
    /// The effects in their order.
    pub effects: Vec<Print>,
    /// When the node wants to be woken, after the step.
    pub deadline: Option<Instant>,
}

impl Reaction {
    /// The reaction that consists of these effects.
    #[must_use]
    pub fn of(effects: &[Effect], deadline: Option<Instant>) -> Self {
        Self { effects: effects.iter().map(Print::of).collect(), deadline }
    }

    /// How another reaction to the same input differs from this one, if it does.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&self, other: &Self) -> Result<(), Difference> {
        let (recorded, replayed) = (self.effects.len(), other.effects.len());
        let mut pairs = self.effects.iter().zip(&other.effects).enumerate();
        if let Some((index, (was, is))) = pairs.find(|(_, (was, is))| was != is) {
            return Err(Difference::Effect { index, was: was.name(), is: is.name() });
        }
        if recorded != replayed {
            return Err(Difference::Count { recorded, replayed });
        }
        if self.deadline != other.deadline {
            let (recorded, replayed) = (self.deadline, other.deadline);
            return Err(Difference::Deadline { recorded, replayed });
        }
        Ok(())
    }
}

/// The first thing in which two reactions to one input differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// An effect is of another kind, or of the same kind with other content.
    Effect {
        /// Which one, from 0.
        index: usize,
        /// The kind that was recorded.
        was: &'static str,
        /// The kind that it is now.
        is: &'static str,
    },
    /// One has the other's effects and more.
    Count {
        /// How many were recorded.
        recorded: usize,
        /// How many there are now.
        replayed: usize,
    },
    /// The node wants to be woken at another time.
    Deadline {
        /// The time recorded.
        recorded: Option<Instant>,
        /// The time now.
        replayed: Option<Instant>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Effect { index, was, is } if was == is => {
                write!(f, "effect {} is a {is} with other content", index + 1)
            }
            Self::Effect { index, was, is } => {
                write!(f, "effect {} is a {is}, recorded was a {was}", index + 1)
            }
            Self::Count { recorded, replayed } => {
                write!(f, "there are {replayed} effects, recorded were {recorded}")
            }
            Self::Deadline { recorded, replayed } => {
                write!(f, "the deadline is {replayed:?}, recorded was {recorded:?}")
            }
        }
    }
}

/// Encodes one step before it is taken, appending to `out`.
pub fn encode_step(now: Now, input: &Input, out: &mut Vec<u8>) {
    codec::encode_to(&(now, input), |piece| out.extend_from_slice(piece));
}

/// The step in these bytes.
///
/// # Errors
/// They are none.
pub fn decode_step(bytes: &[u8]) -> Result<(Now, Input), DecodeError> {
    codec::decode_within::<_, RECORD_BYTES_MAX>(bytes)
}

/// A fresh node that takes a recording's inputs.
#[derive(Clone, Debug)]
pub struct Replay {
    node: Node,
    effects: Vec<Effect>,
}

impl Replay {
    /// The node as it was before its boot.
    ///
    /// # Panics
    /// No node can have these settings.
    #[must_use]
    pub fn new(head: &Head) -> Self {
        Self { node: Node::new(head.config.clone()), effects: Vec::new() }
    }

    /// Takes a step; returns what it brought.
    ///
    /// # Panics
    /// A broken invariant of the node, or inputs that no driver may give it, like time that goes back.
    pub fn step(&mut self, now: Now, input: Input) -> Reaction {
        self.effects.clear();
        self.node.step(now, input, &mut self.effects);
        Reaction::of(&self.effects, self.node.deadline())
    }

    /// The effects of the last step.
    #[must_use]
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// The node as it is after the last step.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }
}
