//! The text files of a checkout, read once.

use crate::shell::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Every text file by its path from the root, with `/` between the parts.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the checkout at `root`. Left out: git's own folder, folders that cargo or a Python
    /// environment marked as caches, data of a local cluster, and files that are no text.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_dir(root, "")?;
        Ok(tree)
    }

    fn read_dir(&mut self, dir: &Path, prefix: &str) -> Result {
        let listing = std::fs::read_dir(dir).context(|| dir.display().to_string())?;
        for entry in listing {
            let entry = entry.context(|| dir.display().to_string())?;
            let (path, kind) = (entry.path(), entry.file_type().context(|| prefix.to_owned())?);
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                let skipped = matches!(name.as_str(), ".git" | "target" | "ironseed-data")
                    || entry.file_name() == "__pycache__"
                    || path.join("CACHEDIR.TAG").exists();
                if !skipped {
                    self.read_dir(&path, &format!("{name}/"))?;
                }
            } else if kind.is_file() && name != ".git" {
                let bytes = std::fs::read(&path).context(|| name.clone())?;
                if let Ok(text) = String::from_utf8(bytes) {
                    self.files.insert(name, text);
                }
            }
        }
        Ok(())
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// All files, in order of their paths.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The Rust files below `folder`, which ends in `/` or is empty.
    pub(crate) fn rust<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files().filter(move |(path, _)| path.starts_with(folder) && path.ends_with(".rs"))
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).into(), (*text).into()));
        Self { files: files.collect() }
    }
}

/// Whether a Rust file holds only tests, by its name.
pub(crate) fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.starts_with("tests/")
        || path.contains("/tests/")
        || name == "tests.rs"
        || name == "test.rs"
        || name.ends_with("_tests.rs")
        || name.ends_with("_test.rs")
        || name.starts_with("test_")
}
