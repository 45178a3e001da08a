//! Engines: what keeps a node's records in place of its own table log, behind one trait. They are other people's: here is only how
//! `ironseed_core::rows` is said in their words.
//!
//! `memory` is always there. `fjall` and `rocksdb` come with the cargo features of these names: what they link in is larger
//! than all the rest of the program, and few will want it. Each lies in a folder of its own in the data directory, and a directory keeps
//! the engine that it was made with (the superblock names it).

pub mod conformance;
#[cfg(feature = "fjall")]
mod fjall;
mod memory;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use bytes::Bytes;
use ironseed_core::machine::{FileId, FileKind, IoDone, IoError, IoResult};
use ironseed_core::node::api;
use ironseed_core::node::superblock;
use ironseed_core::rows::{PageBuilder, RowChange, RowIo, Space};
use std::fmt;
use std::path::Path;

/// Something that keeps rows. Its methods may be called from several threads at once.
pub trait Engine: Send + Sync {
    /// Carries all changes out, in their order, or none; see [`RowIo::Write`].
    ///
    /// # Errors
    /// The engine's; nothing has changed then.
    fn write(&self, changes: Vec<RowChange>) -> Result<(), IoError>;

    /// Makes every completed write durable.
    ///
    /// # Errors
    /// The engine's; what is durable is known after it is opened again.
    fn sync(&self) -> Result<(), IoError>;

    /// The value of a row, if there is one.
    ///
    /// # Errors
    /// The engine's: it can't be read, or is not what was written.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IoError>;

    /// Shows rows in key order, those from one key on and before a later one, for as long as more are wanted.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn scan(&self, space: Space, keys: Keys<'_>, show: &mut Show<'_>) -> Result<(), IoError>;
}

/// The first key of a range, and the first one behind it.
pub type Keys<'a> = (&'a [u8], &'a [u8]);

/// Takes key and value of a row, and says whether it wants another.
pub type Show<'a> = dyn FnMut(&[u8], &[u8]) -> bool + 'a;

/// Executes an operation to its end.
pub fn execute(engine: &dyn Engine, io: RowIo) -> IoResult {
    match io {
        RowIo::Write { changes } => engine.write(changes).map(|()| IoDone::Ok),
        RowIo::Sync => engine.sync().map(|()| IoDone::Ok),
        RowIo::Get { space, key } => {
            engine.get(space, &key)?.map(IoDone::Data).ok_or(IoError::NotFound)
        }
        RowIo::Scan { space, from, before, bytes_max } => {
            let mut page = PageBuilder::default();
            if from < before {
                let mut show = |key: &[u8], value: &[u8]| page.push(key, value, bytes_max);
                engine.scan(space, (&from, &before), &mut show)?;
            }
            Ok(IoDone::Data(page.finish()))
        }
    }
}

/// Why there is no engine.
#[derive(Debug)]
pub struct OpenError {
    engine: api::Engine,
    why: String,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "engine {}: {}", self.engine, self.why)
    }
}

impl std::error::Error for OpenError {}

/// The engines that this build has.
#[must_use]
pub fn available() -> Vec<api::Engine> {
    let mut all = vec![api::Engine::Native, api::Engine::Memory];
    if cfg!(feature = "fjall") {
        all.push(api::Engine::Fjall);
    }
    if cfg!(feature = "rocksdb") {
        all.push(api::Engine::RocksDb);
    }
    all
}

/// Opens the engine of a data directory, making it where there is none; `None` for the native one, and for a directory that was
/// made with another: the node says so when it boots.
///
/// # Errors
/// The engine can't be opened, or this build has it not.
pub fn open(engine: api::Engine, dir: &Path) -> Result<Option<Box<dyn Engine>>, OpenError> {
    if engine == api::Engine::Native || made_with(dir).is_some_and(|made| made != engine) {
        return Ok(None);
    }
    let why = |why: String| OpenError { engine, why };
    let folder = dir.join(engine.name());
    match engine {
        api::Engine::Native => Ok(None),
        api::Engine::Memory => Ok(Some(Box::new(memory::Memory::default()))),
        #[cfg(feature = "fjall")]
        api::Engine::Fjall => match fjall::Fjall::open(&folder) {
            Ok(engine) => Ok(Some(Box::new(engine))),
            Err(error) => Err(why(format!("{}: {error}", folder.display()))),
        },
        #[cfg(feature = "rocksdb")]
        api::Engine::RocksDb => match rocksdb::RocksDb::open(&folder) {
            Ok(engine) => Ok(Some(Box::new(engine))),
            Err(error) => Err(why(format!("{}: {error}", folder.display()))),
        },
        #[cfg(not(all(feature = "fjall", feature = "rocksdb")))]
        absent => Err(why(format!(
            "this build has it not, so {} is of no use to it; it is built with the cargo feature {absent}",
            folder.display()
        ))),
    }
}

/// What a data directory was made with, if it was.
fn made_with(dir: &Path) -> Option<api::Engine> {
    let file = crate::sys::read(dir, FileId::new(FileKind::Superblock, 0)).ok()?;
    superblock::newest(&file).ok().map(|(_, superblock)| superblock.engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(check: impl Fn(&dyn Engine)) {
        for engine in available() {
            let dir = tempfile::tempdir().unwrap();
            if let Some(engine) = open(engine, dir.path()).unwrap() {
                check(&*engine);
            }
        }
    }

    #[test]
    fn every_engine_does_what_any_must() {
        each(|engine| conformance::check(&|io| execute(engine, io)));
    }

    #[test]
    fn what_was_synced_is_there_when_an_engine_is_opened_again() {
        for kind in available() {
            if matches!(kind, api::Engine::Native | api::Engine::Memory) {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
            for round in 0..3 {
                let engine = open(kind, dir.path()).unwrap().unwrap();
                let found = engine.get(Space::Records, &key).unwrap();
                assert_eq!(found, (round > 0).then(|| value.clone()), "{kind}");
                let (space, key, value) = (Space::Records, key.clone(), value.clone());
                engine.write(vec![RowChange::Put { space, key, value }]).unwrap();
                engine.sync().unwrap();
            }
        }
    }

    #[test]
    fn an_engine_that_this_build_has_not_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for kind in [api::Engine::Fjall, api::Engine::RocksDb] {
            if !available().contains(&kind) {
                let error = open(kind, dir.path()).err().unwrap().to_string();
                assert!(error.contains(kind.name()) && error.contains("feature"), "{error}");
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    }
}
