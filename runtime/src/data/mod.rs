//! The tools of an operator on the data directory of a node that does not run: `ironseed wal dump|verify` and
//! `ironseed data inspect|verify|compact`.
//!
//! # What agrees by construction
//!
//! What a log holds, where it ends, which damage is a torn tail and what it costs is said by the recovery that the node
//! boots with ([`ironseed_core::node::offline`]). The tools execute its reads and leave its writes out (`store`), so
//! that nothing in the directory changes. Beyond it, every byte of every batch is compared with what must stand there
//! (`logs`): a boot is content with one good copy of each identity.
//!
//! # The path of a verb
//!
//! [`run`] locks the directory, does the work and prints it, for people or as JSON; a progress bar is shown where
//! standard error is a terminal. The exit code is 0 when nothing is damaged, 1 when something is, and 2 when the
//! directory can't be read or is refused.
//!
//! # Caveats
//!
//! - What lies behind the end of a log can't be told from a write that was cut off by a power loss, so damage in the
//!   batches after the last sync mark is a torn tail (see [`ironseed_core::wal`]). It is reported as such.
//! - Bytes that belong to nothing aren't looked at: the rest of a segment, segments made ahead of need, the small files
//!   beside the store (`founding.toml`, `root-credentials.toml`), which have no checksum.
//! - `inspect`, `verify` and `compact` of `data` take as much memory as the node; `wal` takes that of one batch.

mod bodies;
mod chunks;
mod compact;
mod dump;
mod findings;
mod inspect;
mod logs;
mod print;
mod progress;
mod store;
mod verify;
mod words;

pub use compact::{Compacted, compact, compact_on};
pub use dump::{DumpOptions, dump};
pub use findings::{Advice, Finding, Groups, Kind, Verified};
pub use inspect::{Inspection, LogFiles, inspect};
pub use progress::Progress;
pub use verify::{verify, verify_logs};

use crate::disk::DirError;
use clap::{Subcommand, ValueEnum};
use ironseed_core::machine::FileKind;
use ironseed_core::node::superblock::Unusable;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Verbs on the logs of a data directory.
#[derive(Debug, Subcommand)]
pub enum WalVerb {
    /// Print every batch and every record
    Dump {
        /// The data directory of a node that does not run
        dir: PathBuf,
        /// One log only
        #[arg(long, value_enum)]
        log: Option<Log>,
        /// Records of one group only
        #[arg(long)]
        group: Option<u32>,
        /// Begin at this segment
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        from: u64,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Read all of all logs and compare checksums; exits with 1 when something is damaged
    Verify {
        /// The data directory of a node that does not run
        dir: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Verbs on a whole data directory.
#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// Show whose it is and what it holds
    Inspect {
        /// The data directory of a node that does not run
        dir: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check everything: logs, states, stored bytes, chunks; exits with 1 when something is damaged
    Verify {
        /// The data directory of a node that does not run
        dir: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Give back the space of what is dead in the table log and in the chunk log
    Compact {
        /// The data directory of a node that does not run
        dir: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// A log of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// The write-ahead log
    Wal,
    /// The records behind the shards' state
    Table,
    /// The chunks
    Chunks,
}

impl Log {
    const fn kind(self) -> FileKind {
        match self {
            Self::Wal => FileKind::Wal,
            Self::Table => FileKind::Table,
            Self::Chunks => FileKind::Chunk,
        }
    }
}

/// Why a tool could not do its work.
#[derive(Debug)]
pub enum ToolError {
    /// The directory is in use, holds no store or is of another format.
    Dir(DirError),
    /// Its superblock is.
    Superblock(Unusable),
    /// A log can't be opened, or the disk fails: why, with file and offset.
    Store(String),
    /// What is asked for can't be printed.
    Output(io::Error),
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(error) => write!(f, "{error}"),
            Self::Superblock(error) => write!(f, "{error}"),
            Self::Store(reason) => f.write_str(reason),
            Self::Output(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ToolError {}

impl From<DirError> for ToolError {
    fn from(error: DirError) -> Self {
        Self::Dir(error)
    }
}

impl From<io::Error> for ToolError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// What a tool's verb was.
#[derive(Debug)]
pub enum Verb {
    /// Of the logs.
    Wal(WalVerb),
    /// Of the directory.
    Data(DataVerb),
}

/// Carries a verb out and prints what it says; the exit code tells whether something is damaged.
///
/// # Errors
/// The directory can't be read or is refused. That nobody reads the output any more is no error.
pub fn run(verb: &Verb) -> Result<ExitCode, ToolError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = carry_out(verb, &mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match result {
        Err(ToolError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            // What is still buffered has nowhere to go either.
            drop(out.into_parts());
            Ok(ExitCode::SUCCESS)
        }
        result => result,
    }
}

fn carry_out(verb: &Verb, out: &mut impl Write) -> Result<ExitCode, ToolError> {
    let damaged = |damaged| if damaged { ExitCode::from(1) } else { ExitCode::SUCCESS };
    Ok(match verb {
        Verb::Wal(WalVerb::Dump { dir, log, group, from, json }) => {
            let options = DumpOptions { log: *log, group: *group, from: *from, json: *json };
            damaged(dump(dir, &options, out)?)
        }
        Verb::Wal(WalVerb::Verify { dir, json }) => {
            let verified = verify_logs(dir, &Progress::shown())?;
            print::verified(&verified, *json, out)?;
            damaged(verified.is_damaged())
        }
        Verb::Data(DataVerb::Verify { dir, json }) => {
            let verified = verify(dir, &Progress::shown())?;
            print::verified(&verified, *json, out)?;
            damaged(verified.is_damaged())
        }
        Verb::Data(DataVerb::Inspect { dir, json }) => {
            let inspection = inspect(dir, &Progress::shown())?;
            print::inspection(&inspection, *json, out)?;
            if inspection.problem.is_some() { ExitCode::from(2) } else { ExitCode::SUCCESS }
        }
        Verb::Data(DataVerb::Compact { dir, json }) => {
            let compacted = compact(dir, &Progress::shown())?;
            print::compacted(&compacted, *json, out)?;
            ExitCode::SUCCESS
        }
    })
}
