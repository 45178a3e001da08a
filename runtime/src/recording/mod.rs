//! Recordings of a node's boots: written by the driver while the node runs, fed to a fresh node afterwards.
//!
//! # The problem
//!
//! What happened to a node on somebody else's machine has to happen again on a developer's. The node is a
//! function of its settings and inputs ([`ironseed_core::node::recording`]), so with `debug.record` in the
//! configuration the driver writes these down, with a print of what the node made of each. `ironseed debug
//! replay` feeds them to a fresh node and compares every step: the crash happens again, under a debugger if
//! need be, and a node that decides differently the second time is found out.
//!
//! # The file
//!
//! One file a boot, `node-<id>-<number>.rec`, readable by its owner only. A short preamble, then frames with
//! a checksum each (docs/formats.md): the head, and for every step the input before it is taken and the
//! reaction after it ([`mod@file`]).
//!
//! # Caveats
//!
//! - **A recording holds everything that clients wrote and read meanwhile, and the root credentials.**
//! - It grows as fast as traffic comes, bulk bytes included: a node that takes 100 MB/s writes as much again.
//! - Written from the driver's own task, through a buffer: a disk that stalls stalls the node. Figures are in
//!   CONTRIBUTING.md. When the recording can't be written any more (a full disk) that is logged once, and the node
//!   goes on without.
//! - The buffer goes to the system ten times a second, and when a step panics. Kill -9 takes the steps since;
//!   nothing is synced, so a power loss takes more.

pub mod file;
mod replay;

pub use replay::{Failure, Inputs, Options, Summary, replay};

use file::{HEAD, REACTION, STEP};
use ironseed_core::codec;
use ironseed_core::machine::{Duration, Instant, Now};
use ironseed_core::node::api::{Config, Effect, Input};
use ironseed_core::node::recording::{self, Head, Reaction};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The program that runs, as heads name it.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");
/// What gathers before it goes to the system. Longer frames go there at once.
const BUFFER_BYTES: usize = 1 << 20;

/// What has gathered goes there this often, if the driver has time: each time that it sleeps would be too dear.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Writes the recording of one boot.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    /// `None` once it could not be written.
    file: Option<BufWriter<File>>,
    frame: Vec<u8>,
    /// Time of the last step.
    now: Instant,
    flushed: Instant,
}

impl Recorder {
    /// Begins the recording of a boot with these settings, in a file of its own in `folder`, which is made if
    /// need be.
    ///
    /// # Errors
    /// The folder or the file can't be made or written.
    pub fn create(folder: &Path, config: &Config) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let (path, file) = create_next(folder, config.me.0)?;
        let head = Head { program: PROGRAM.into(), config: config.clone() };
        let mut frame = Vec::new();
        file::begin_frame(&mut frame);
        frame.extend_from_slice(&codec::encode(&head));
        file::end_frame(&mut frame, HEAD)?;
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
        file.write_all(&file::preamble())?;
        file.write_all(&frame)?;
        file.flush()?;
        tracing::warn!(
            file = %path.display(),
            "recording every input: the file will hold what clients write and read, and the root credentials"
        );
        let (now, flushed) = (Instant::default(), Instant::default());
        Ok(Self { path, file: Some(file), frame, now, flushed })
    }

    /// Where it is written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a step down before it is taken.
    pub fn step(&mut self, now: Now, input: &Input) {
        if self.file.is_none() {
            return;
        }
        self.now = now.mono;
        file::begin_frame(&mut self.frame);
        recording::encode_step(now, input, &mut self.frame);
        self.write(STEP);
    }

    /// Writes down what the step brought.
    pub fn reaction(&mut self, effects: &[Effect], deadline: Option<Instant>) {
        if self.file.is_none() {
            return;
        }
        file::begin_frame(&mut self.frame);
        let reaction = Reaction::of(effects, deadline);
        codec::encode_to(&reaction, |piece| self.frame.extend_from_slice(piece));
        self.write(REACTION);
    }

    /// The driver has nothing to do now: hands what has gathered to the system, unless that was done just before.
    pub fn rest(&mut self) {
        if self.now - self.flushed >= FLUSH_EVERY {
            self.flushed = self.now;
            let flushed = self.file.as_mut().map_or(Ok(()), Write::flush);
            self.keep_on(flushed);
        }
    }

    fn write(&mut self, kind: u8) {
        let written = file::end_frame(&mut self.frame, kind).and_then(|()| match &mut self.file {
            Some(file) => file.write_all(&self.frame),
            None => Ok(()),
        });
        self.keep_on(written);
    }

    /// A node must not fall because of what watches it.
    fn keep_on(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::error!(file = %self.path.display(), %error, "the recording ends here");
            if let Some(file) = self.file.take() {
                // Its buffer can't be written either.
                let _ = file.into_parts();
            }
        }
    }
}

/// A file after the last one of this node: recordings are never overwritten.
fn create_next(folder: &Path, node: u32) -> io::Result<(PathBuf, File)> {
    let prefix = format!("node-{node}-");
    let mut number: u64 = 1;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let taken = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".rec"));
        let taken = taken.and_then(|digits| digits.parse::<u64>().ok());
        number = number.max(taken.map_or(1, |taken| taken.saturating_add(1)));
    }
    let path = folder.join(format!("{prefix}{number:06}.rec"));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    Ok((path, file))
}

#[cfg(test)]
mod tests;
