//! How a cluster begins: explicitly, once, on one node.
//!
//! `ironseed init` (or `serve --init`) draws the cluster's id and the root credentials and writes them
//! to `founding.toml` in the empty data directory of one node, for its owner's eyes only. When that node
//! next boots, the file founds the cluster; as soon as the store durably belongs to it, the file is renamed
//! to `root-credentials.toml` and founds nothing any more. So a crash at any moment founds the same
//! cluster again or none, and a data directory that was lost and made anew waits for the others.

use crate::disk::{DataDir, DirError, write_private};
use crate::sys;
use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::node::api::Founding;
use ironseed_core::node::superblock::{self, Membership, Unusable};
use ironseed_core::types::ClusterId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// Names the root user's access key when a cluster is founded.
pub const ACCESS_KEY_VARIABLE: &str = "IRONSEED_ROOT_ACCESS_KEY";
/// Names the root user's secret key when a cluster is founded.
pub const SECRET_KEY_VARIABLE: &str = "IRONSEED_ROOT_SECRET_KEY";

const SUPERBLOCK: FileId = FileId::new(FileKind::Superblock, 0);
const PENDING_FILE: &str = "founding.toml";
const DONE_FILE: &str = "root-credentials.toml";
/// Characters of a secret key at the least when the operator chooses it.
const SECRET_CHARS_MIN: usize = 8;
/// Characters of either key at the most.
const KEY_CHARS_MAX: usize = 128;

/// Why no cluster can be founded.
#[derive(Debug)]
pub enum FoundingError {
    /// The data directory can't be used.
    Dir(DirError),
    /// The store belongs to a cluster, or is about to found one.
    NotEmpty {
        /// What tells.
        path: PathBuf,
    },
    /// The credentials in the environment make no sense; says why.
    Credentials(&'static str),
    /// A founding file that was not written by this program.
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The operating system has no randomness to give.
    NoRandomness,
}

impl fmt::Display for FoundingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(error) => write!(f, "{error}"),
            Self::NotEmpty { path } => write!(
                f,
                "{} is there already: a cluster is founded once, on a data directory that belongs to none",
                path.display()
            ),
            Self::Credentials(what) => f.write_str(what),
            Self::Malformed { path, what } => write!(f, "{}: {what}", path.display()),
            Self::NoRandomness => f.write_str("the operating system has no randomness to give"),
        }
    }
}

impl std::error::Error for FoundingError {}

impl From<DirError> for FoundingError {
    fn from(error: DirError) -> Self {
        Self::Dir(error)
    }
}

/// The file's contents.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    cluster: String,
    access_key: String,
    secret_key: String,
}

/// Whether this data directory belongs to a cluster, or is about to found one.
#[must_use]
pub fn is_used(dir: &DataDir) -> bool {
    used(dir).is_some()
}

fn used(dir: &DataDir) -> Option<PathBuf> {
    for name in [PENDING_FILE, DONE_FILE] {
        let path = dir.path().join(name);
        if path.exists() {
            return Some(path);
        }
    }
    // A superblock that can't be read is one that was used.
    (!matches!(is_blank(dir), Ok(true))).then(|| dir.path().join(SUPERBLOCK.to_string()))
}

/// Prepares the founding of a cluster on an empty data directory. The credentials are those given, or
/// random ones.
///
/// # Errors
/// The directory is not empty, the credentials make no sense, or it can't be written.
pub fn prepare(
    dir: &DataDir,
    access_key: Option<String>,
    secret_key: Option<String>,
) -> Result<Founding, FoundingError> {
    if let Some(path) = used(dir) {
        return Err(FoundingError::NotEmpty { path });
    }
    let (access_key, secret_key) = match (access_key, secret_key) {
        (Some(access), Some(secret)) => chosen(access, secret)?,
        (None, None) => {
            (random(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 20)?, random(ALPHANUMERIC, 40)?)
        }
        _ => {
            return Err(FoundingError::Credentials(
                "IRONSEED_ROOT_ACCESS_KEY and IRONSEED_ROOT_SECRET_KEY: set both or none",
            ));
        }
    };
    let mut cluster = [0; 16];
    getrandom::fill(&mut cluster).map_err(|_| FoundingError::NoRandomness)?;
    let founding = Founding { cluster: ClusterId(cluster), access_key, secret_key };
    let stored = Stored {
        cluster: format!("{:?}", founding.cluster),
        access_key: founding.access_key.clone(),
        secret_key: founding.secret_key.clone(),
    };
    let text = toml::to_string(&stored).map_err(|error| FoundingError::Malformed {
        path: dir.path().join(PENDING_FILE),
        what: error.to_string(),
    })?;
    write_private(&dir.path().join(PENDING_FILE), &text)?;
    Ok(founding)
}

/// The cluster that the next boot of this store founds, if it founds one.
///
/// # Errors
/// The file is malformed or can't be read.
pub fn pending(dir: &DataDir) -> Result<Option<Founding>, FoundingError> {
    if is_blank(dir)? { read(&dir.path().join(PENDING_FILE)) } else { Ok(None) }
}

/// The root credentials that this store's cluster was founded with, where it was founded here.
///
/// # Errors
/// The file is malformed or can't be read.
pub fn credentials(dir: &Path) -> Result<Option<Founding>, FoundingError> {
    match read(&dir.join(DONE_FILE))? {
        Some(founding) => Ok(Some(founding)),
        None => read(&dir.join(PENDING_FILE)),
    }
}

/// The store belongs to its cluster durably: from now on the file founds nothing.
///
/// # Errors
/// The operating system's.
pub fn confirm(dir: &Path) -> std::io::Result<()> {
    match std::fs::rename(dir.join(PENDING_FILE), dir.join(DONE_FILE)) {
        Ok(()) => std::fs::File::open(dir)?.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether this store belongs to no cluster, and is not about to found one: it was never made, or a node
/// was started on it that waits to be welcomed.
fn is_blank(dir: &DataDir) -> Result<bool, FoundingError> {
    let bytes = match sys::read(dir.path(), SUPERBLOCK) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => {
            return Err(
                DirError::Io { path: dir.path().join(SUPERBLOCK.to_string()), error }.into()
            );
        }
    };
    Ok(match superblock::newest(&bytes) {
        Ok((_, superblock)) => superblock.membership == Membership::Blank,
        // Alone, it was torn while the store was made: nothing was promised by it yet.
        Err(Unusable::Damaged(_)) => dir.files()?.len() == 1,
        Err(Unusable::Version(_)) => false,
    })
}

fn read(path: &Path) -> Result<Option<Founding>, FoundingError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DirError::Io { path: path.into(), error }.into()),
    };
    let malformed = |what: &str| FoundingError::Malformed { path: path.into(), what: what.into() };
    let stored: Stored = toml::from_str(&text).map_err(|error| malformed(error.message()))?;
    let cluster = u128::from_str_radix(&stored.cluster, 16)
        .ok()
        .filter(|_| stored.cluster.len() == 32)
        .ok_or_else(|| malformed("cluster: 32 hexadecimal digits expected"))?;
    let (access_key, secret_key) = chosen(stored.access_key, stored.secret_key)?;
    Ok(Some(Founding { cluster: ClusterId(cluster.to_be_bytes()), access_key, secret_key }))
}

fn chosen(access: String, secret: String) -> Result<(String, String), FoundingError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !(3..=KEY_CHARS_MAX).contains(&access.len()) || !access.bytes().all(plain) {
        return Err(FoundingError::Credentials(
            "the root access key needs 3 to 128 of A-Z, a-z, 0-9, -, _ and .",
        ));
    }
    if !(SECRET_CHARS_MIN..=KEY_CHARS_MAX).contains(&secret.len())
        || !secret.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(FoundingError::Credentials(
            "the root secret key needs 8 to 128 printable ASCII characters without spaces",
        ));
    }
    Ok((access, secret))
}

const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// `length` characters, each as likely as any other.
///
/// # Errors
/// The operating system has no randomness to give.
fn random(alphabet: &[u8], length: usize) -> Result<String, FoundingError> {
    // Bytes at or above the largest multiple of the alphabet's length would favour its beginning.
    let usable = 256 / alphabet.len() * alphabet.len();
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes).map_err(|_| FoundingError::NoRandomness)?;
        let fitting = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < usable);
        let characters = fitting.filter_map(|byte| alphabet.get(byte % alphabet.len()));
        text.extend(characters.take(length - text.len()).map(|byte| char::from(*byte)));
    }
    Ok(text)
}

/// A random secret for the node port, as `openssl rand -hex 32` would make it.
///
/// # Errors
/// The operating system has no randomness to give.
pub fn random_secret() -> Result<String, FoundingError> {
    random(b"0123456789abcdef", 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn dir() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&folder.path().join("data")).unwrap();
        (folder, dir)
    }

    /// A superblock file of this membership.
    fn store(membership: Membership) -> Vec<u8> {
        let superblock = superblock::Superblock {
            node: ironseed_core::types::NodeId(1),
            store: ironseed_core::types::StoreId([7; 16]),
            incarnation: ironseed_core::types::Incarnation(1),
            clean: false,
            fsync: ironseed_core::node::api::FsyncPolicy::Always,
            engine: ironseed_core::node::api::Engine::Native,
            standing: ironseed_core::raft::Standing::Full,
            logs: false,
            scrubbed: ironseed_core::node::scrub::Scrubbed::default(),
            membership,
        };
        superblock::encode_copy(&superblock, 1).to_vec()
    }

    #[test]
    fn a_store_that_waits_can_be_told_to_found_and_no_other() {
        let (_folder, dir) = dir();
        let path = dir.path().join("superblock");
        std::fs::write(&path, b"IRONSEED, but damaged").unwrap();
        let segment = dir.path().join(FileId::new(FileKind::Wal, 1).to_string());
        std::fs::write(&segment, b"a log").unwrap();
        assert!(matches!(prepare(&dir, None, None), Err(FoundingError::NotEmpty { .. })));
        std::fs::remove_file(&segment).unwrap();
        std::fs::write(&path, store(Membership::Blank)).unwrap();
        let founding = prepare(&dir, None, None).unwrap();
        assert_eq!(pending(&dir).unwrap(), Some(founding));
    }

    #[test]
    fn a_cluster_is_founded_once_and_again_only_after_a_crash() {
        let (_folder, dir) = dir();
        assert_eq!(pending(&dir).unwrap(), None, "an empty directory founds nothing by itself");
        let founding = prepare(&dir, None, None).unwrap();
        assert_eq!((founding.access_key.len(), founding.secret_key.len()), (20, 40));
        assert!(matches!(prepare(&dir, None, None), Err(FoundingError::NotEmpty { .. })));
        let mode = std::fs::metadata(dir.path().join(PENDING_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        // A crash before the superblock was written; a node that waited here before; one after it was.
        assert_eq!(pending(&dir).unwrap(), Some(founding.clone()));
        let path = dir.path().join("superblock");
        std::fs::write(&path, [0; 8192]).unwrap();
        assert_eq!(pending(&dir).unwrap(), Some(founding.clone()));
        std::fs::write(&path, store(Membership::Blank)).unwrap();
        assert_eq!(pending(&dir).unwrap(), Some(founding.clone()));
        std::fs::write(&path, store(Membership::Founder(founding.clone()))).unwrap();
        assert_eq!(pending(&dir).unwrap(), None);

        confirm(dir.path()).unwrap();
        confirm(dir.path()).unwrap();
        std::fs::remove_file(dir.path().join("superblock")).unwrap();
        assert_eq!(pending(&dir).unwrap(), None, "a lost superblock founds nothing");
        assert!(matches!(prepare(&dir, None, None), Err(FoundingError::NotEmpty { .. })));
        assert_eq!(credentials(dir.path()).unwrap(), Some(founding));
    }

    #[test]
    fn credentials_are_the_operators_or_random_never_built_in() {
        let (_first, one) = dir();
        let (_second, other) = dir();
        assert_ne!(prepare(&one, None, None).unwrap(), prepare(&other, None, None).unwrap());
        let refused: [(Option<&str>, Option<&str>); 5] = [
            (Some("root"), None),
            (None, Some("long enough")),
            (Some("ro"), Some("long-enough")),
            (Some("root"), Some("short")),
            (Some("root"), Some("with a space in it")),
        ];
        let (_third, dir) = dir();
        for (access, secret) in refused {
            let error = prepare(&dir, access.map(Into::into), secret.map(Into::into));
            assert!(matches!(error, Err(FoundingError::Credentials(_))), "{access:?} {secret:?}");
        }
        let founding = prepare(&dir, Some("root".into()), Some("long-enough".into())).unwrap();
        assert_eq!((&*founding.access_key, &*founding.secret_key), ("root", "long-enough"));
    }

    #[test]
    fn a_founding_file_that_makes_no_sense_is_refused_with_its_name() {
        let (_folder, dir) = dir();
        for text in [
            "",
            "cluster = 1",
            "cluster = \"ab\"\naccess_key = \"root\"\nsecret_key = \"12345678\"",
        ] {
            std::fs::write(dir.path().join(PENDING_FILE), text).unwrap();
            let error = pending(&dir).unwrap_err().to_string();
            assert!(error.contains("founding.toml"), "{error}");
        }
    }
}
