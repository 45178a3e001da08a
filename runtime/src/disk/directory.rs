//! The data directory: whose it is, and that no one else has it.

use crate::sys;
use ironseed_core::machine::FoundFile;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Names the format of everything beside it. A directory without it must be empty to be used, so that
/// a mistaken path never mixes a store with somebody's files.
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_LINE: &str = "ironseed data directory, format 1\n";
/// Held locked while a node runs.
const LOCK_FILE: &str = "LOCK";

/// Why a data directory can't be used.
#[derive(Debug)]
pub enum DirError {
    /// The operating system says no.
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Another process runs on it.
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// It is of another version, or something else altogether.
    Format {
        /// The file that tells.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// It has files, but not ours.
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        name: String,
    },
    /// It holds no store.
    NoStore {
        /// The directory.
        path: PathBuf,
        /// A folder in it that does.
        within: Option<PathBuf>,
    },
}

impl fmt::Display for DirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Locked { path } => {
                write!(f, "{}: another process runs on this data directory", path.display())
            }
            Self::Format { path, found } => write!(
                f,
                "{}: at byte 0: this build reads {:?} and found {found:?}; if no newer build was at work here, \
                 the file is damaged: write that line to it, and start again",
                path.display(),
                FORMAT_LINE.trim_end()
            ),
            Self::Foreign { path, name } => write!(
                f,
                "{}: no data directory, and not empty either (it holds {name:?})",
                path.display()
            ),
            Self::NoStore { path, within: Some(within) } => {
                write!(f, "{}: holds no store; did you mean {}?", path.display(), within.display())
            }
            Self::NoStore { path, within: None } => {
                write!(f, "{}: holds no store", path.display())
            }
        }
    }
}

impl std::error::Error for DirError {}

/// A locked data directory of a known format.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// For directory syncs.
    handle: File,
    /// Unlocks when it is closed, however the process ends.
    _lock: File,
}

impl DataDir {
    /// Opens the directory, making it if it is not there, and locks it.
    ///
    /// # Errors
    /// It is locked, of another format, somebody else's, or can't be accessed.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| DirError::Io { path, error }
        };
        make(path).map_err(at(path))?;
        let handle = File::open(path).map_err(at(path))?;
        refuse_foreign(path)?;
        let lock_path = path.join(LOCK_FILE);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(DirError::Locked { path: path.into() });
            }
            Err(fs::TryLockError::Error(error)) => return Err(at(&lock_path)(error)),
        }
        let dir = Self { path: path.to_owned(), handle, _lock: lock };
        dir.check_format()?;
        Ok(dir)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes creations, renames and removals in it durable.
    ///
    /// # Errors
    /// The operating system's.
    pub fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    /// Every file of the store, by kind and number.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn files(&self) -> Result<Vec<FoundFile>, DirError> {
        let mut found = sys::files(&self.path)
            .map_err(|error| DirError::Io { path: self.path.clone(), error })?;
        found.sort_by_key(|found| found.file);
        Ok(found)
    }

    fn check_format(&self) -> Result<(), DirError> {
        if is_ours(&self.path)? {
            return Ok(());
        }
        let path = self.path.join(FORMAT_FILE);
        write_durably(&path, FORMAT_LINE, 0o644)
            .and_then(|()| self.sync())
            .map_err(|error| DirError::Io { path, error })
    }
}

/// The data directory of a node that does not run, to be read: nothing in it is written or made. Until this is dropped
/// no node starts on it.
#[derive(Debug)]
pub struct StoppedDir {
    path: PathBuf,
    /// None where no node has ever made the file, so that none can be running.
    _lock: Option<File>,
}

impl StoppedDir {
    /// Locks the directory, which must hold a store.
    ///
    /// # Errors
    /// It is locked, of another format, holds no store or can't be read.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let at = |path: &Path, error| DirError::Io { path: path.to_owned(), error };
        fs::read_dir(path).map_err(|error| at(path, error))?;
        if !is_ours(path)? {
            // A demo keeps its nodes one level below.
            let below = path.join("node-1");
            let within = is_ours(&below).unwrap_or(false).then_some(below);
            return Err(DirError::NoStore { path: path.to_owned(), within });
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = match File::open(&lock_path) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(at(&lock_path, error)),
        };
        match lock.as_ref().map(File::try_lock) {
            None | Some(Ok(())) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Some(Err(fs::TryLockError::WouldBlock)) => {
                Err(DirError::Locked { path: path.to_owned() })
            }
            Some(Err(fs::TryLockError::Error(error))) => Err(at(&lock_path, error)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether the directory is marked as a data directory of the format that this program reads.
fn is_ours(path: &Path) -> Result<bool, DirError> {
    let path = path.join(FORMAT_FILE);
    let at = |error| DirError::Io { path: path.clone(), error };
    match File::open(&path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(256).read_to_end(&mut bytes).map_err(at)?;
            let found = String::from_utf8_lossy(&bytes).into_owned();
            if found == FORMAT_LINE { Ok(true) } else { Err(DirError::Format { path, found }) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(error)),
    }
}

/// Makes the directory and whatever above it is missing, durably, for its owner only.
fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => File::open(parent)?.sync_all(),
        // Three nodes of one demo make their common parent at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// A directory without a format file may hold the lock and a format file that was never renamed into
/// place, and nothing else.
fn refuse_foreign(path: &Path) -> Result<(), DirError> {
    let at = |error| DirError::Io { path: path.to_owned(), error };
    if path.join(FORMAT_FILE).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(at)? {
        let name = entry.map_err(at)?.file_name().to_string_lossy().into_owned();
        if name != LOCK_FILE && name != format!("{FORMAT_FILE}.new") && name != "lost+found" {
            return Err(DirError::Foreign { path: path.to_owned(), name });
        }
    }
    Ok(())
}

/// Writes a small file that only its owner can read, durably: a temporary file, renamed.
///
/// # Errors
/// The operating system's.
pub fn write_private(path: &Path, text: &str) -> Result<(), DirError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    write_durably(path, text, 0o600)
        .and_then(|()| File::open(parent)?.sync_all())
        .map_err(|error| DirError::Io { path: path.into(), error })
}

fn write_durably(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // A file left by a crash may have another mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().create_new(true).write(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
