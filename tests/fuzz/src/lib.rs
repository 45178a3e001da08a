//! Every decoder of bytes from outside, fed with what nobody should send.
//!
//! **The problem.** A disk that rots, a peer of another version, a stranger with a socket: all of them hand
//! bytes to a decoder. Whatever they are, it must not panic, hang or allocate without bound, and what it accepts
//! must mean what was written.
//!
//! **The targets** ([`targets()`]) are functions of bytes. Each takes anything at all, asserts what must hold of
//! what the product makes of it, and says whether the product accepted it. Checksums would keep nearly every
//! mutated input from the decoder behind them, so targets also try the input with true checksums, and requests
//! with true signatures.
//!
//! **Inputs** come from a corpus (valid examples that the code makes, and the files in `corpus/`) through a small
//! mutator ([`mutate`]), drawn from a seed: the same seed, the same inputs. A failing input is written to
//! the corpus folder and replayed by the test suite ever after ([`run`]).
//!
//! **Caveats.** Mutation without guidance finds what is near the corpus. Memory is what the whole process
//! allocates, and only a new peak of it is seen.

mod alone;
pub mod mutate;
pub mod run;
#[cfg(feature = "guided")]
pub mod steered;
mod targets;

use cap::Cap;
use std::alloc::System;

/// Counts what is allocated, so that a decoder that takes too much is seen.
#[global_allocator]
pub static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What became of an input that harmed nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something was made of it.
    Accepted,
    /// It was turned down as a whole.
    Refused,
}

/// A decoder and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line, and of its folder in `corpus/`.
    pub name: &'static str,
    /// How many mutated inputs a short campaign feeds it: two or three seconds of them.
    pub runs: u64,
    /// What its input is.
    pub about: &'static str,
    /// Valid inputs, made by the code of the product.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What the mutator puts in.
    pub dictionary: &'static [&'static [u8]],
    /// Longer inputs are cut.
    pub bytes_max: usize,
    /// What one input may make the process allocate at the most, in bytes.
    pub memory_max: usize,
    /// Feeds an input. Panics if something does not hold.
    pub run: fn(&[u8]) -> Verdict,
}

/// All targets.
#[must_use]
pub fn targets() -> &'static [Target] {
    targets::ALL
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    targets::ALL.iter().find(|target| target.name == name)
}

/// A number in bytes that are there.
pub(crate) fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}
