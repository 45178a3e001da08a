//! What was asked and what was acknowledged, and what a store may therefore hold.
//!
//! A write whose attempt failed (timeout, broken connection, 5xx) has an unknown outcome: it may have
//! happened, it may happen later, even behind a newer acknowledged write of the same key, or never. So
//! a key may hold its last acknowledged version or any version of which some attempt failed. It may
//! hold nothing only if no write of it was ever acknowledged.

use crate::content;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The record of one run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    keys: BTreeMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    acknowledged: Option<u64>,
    unknown: BTreeSet<u64>,
}

/// What is wrong with a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Acknowledged, and gone.
    Missing,
    /// There, but with bytes that it may not have: so many of them.
    Wrong(usize),
    /// There, though nobody ever asked for it.
    Invented,
}

impl Ledger {
    /// An attempt failed: it may have happened.
    pub(crate) fn unknown(&mut self, key: &str, version: u64) {
        self.keys.entry(key.to_owned()).or_default().unknown.insert(version);
    }

    /// A version was acknowledged. Versions of one key are written one after another.
    pub(crate) fn acknowledge(&mut self, key: &str, version: u64) {
        let entry = self.keys.entry(key.to_owned()).or_default();
        assert!(entry.acknowledged < Some(version), "{key}: {version} after a newer one");
        entry.acknowledged = Some(version);
    }

    /// Every key that was acknowledged.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter(|(_, entry)| entry.acknowledged.is_some()).map(|(key, _)| &**key)
    }

    /// How many keys were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.acknowledged().count()
    }

    /// Judges what was found under a key; `None` for nothing there.
    pub(crate) fn judge(&self, key: &str, found: Option<&Bytes>) -> Result<(), Loss> {
        let Some(entry) = self.keys.get(key) else {
            return if found.is_some() { Err(Loss::Invented) } else { Ok(()) };
        };
        let Some(found) = found else {
            return if entry.acknowledged.is_some() { Err(Loss::Missing) } else { Ok(()) };
        };
        let mut allowed = entry.acknowledged.iter().chain(&entry.unknown);
        if allowed.any(|version| content::object(key, *version) == *found) {
            Ok(())
        } else {
            Err(Loss::Wrong(found.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_object_must_be_there_bit_for_bit() {
        let mut ledger = Ledger::default();
        ledger.acknowledge("k", 1);
        let body = content::object("k", 1);
        assert_eq!(ledger.judge("k", Some(&body)), Ok(()));
        assert_eq!(ledger.judge("k", None), Err(Loss::Missing));
        let mut bent = body.to_vec();
        bent.push(0);
        assert_eq!(ledger.judge("k", Some(&bent.into())), Err(Loss::Wrong(body.len() + 1)));
    }

    #[test]
    fn an_unknown_outcome_allows_both() {
        let mut ledger = Ledger::default();
        ledger.unknown("k", 1);
        assert_eq!(ledger.judge("k", None), Ok(()));
        ledger.acknowledge("k", 2);
        assert_eq!(ledger.judge("k", Some(&content::object("k", 1))), Ok(()));
        assert_eq!(ledger.judge("k", Some(&content::object("k", 2))), Ok(()));
        assert_eq!(ledger.judge("k", None), Err(Loss::Missing));
    }

    #[test]
    fn an_overwritten_version_must_not_come_back() {
        let mut ledger = Ledger::default();
        ledger.acknowledge("k", 1);
        ledger.acknowledge("k", 2);
        let old = content::object("k", 1);
        assert_eq!(ledger.judge("k", Some(&old)), Err(Loss::Wrong(old.len())));
    }

    #[test]
    fn nothing_appears_by_itself() {
        let found = Bytes::from_static(b"x");
        assert_eq!(Ledger::default().judge("k", Some(&found)), Err(Loss::Invented));
    }
}
