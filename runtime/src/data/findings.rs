//! What a verification finds, what each finding costs, and what is to be done.

use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::node::offline::WalRecord;
use ironseed_core::types::{GroupId, Index};
use ironseed_core::wal::{DamageKind, Identity, LogDamage};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// Findings that are kept; the others are counted. Whoever has more has lost the disk.
const FINDINGS_MAX: usize = 10_000;

/// Something that is not as it was written, or not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, or the log where it is no one place.
    pub file: String,
    /// Where in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// How many bytes, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What it costs.
    pub kind: Kind,
    /// Whom.
    pub groups: Groups,
    /// What was expected there.
    pub what: String,
}

/// What a finding costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing: the end of a write that a crash has cut off. Nobody was promised what it held.
    TornTail,
    /// Nothing: the other copy is good.
    Copy,
    /// Nothing: it stands elsewhere too, or nobody needs it any more.
    Dead,
    /// The payload of a record of the write-ahead log: an entry, or a promise.
    Payload,
    /// Records that nobody can name any more.
    Identities,
    /// The state of a group.
    State,
    /// The bytes of a record of a state.
    Body,
    /// A chunk.
    Chunk,
    /// A chunk that a record names is not on this node.
    Missing,
    /// Entries of a group's log, lost now or at an earlier boot.
    Entries,
    /// It can't be read.
    Unreadable,
}

impl Kind {
    /// Whether it is damage. A torn tail is what a crash leaves, and a chunk may be missing at any node of several.
    #[must_use]
    pub const fn is_damage(self) -> bool {
        !matches!(self, Self::TornTail | Self::Missing)
    }

    /// Whether something is lost here that another replica has to give.
    #[must_use]
    pub const fn costs(self) -> bool {
        !matches!(self, Self::TornTail | Self::Copy | Self::Dead)
    }

    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TornTail => "torn tail",
            Self::Copy => "copy damaged, the other is good",
            Self::Dead => "damaged, and not needed",
            Self::Payload => "record lost",
            Self::Identities => "records lost that nobody can name",
            Self::State => "state lost",
            Self::Body => "stored bytes lost",
            Self::Chunk => "chunk lost",
            Self::Missing => "chunk not here",
            Self::Entries => "log entries lost",
            Self::Unreadable => "can't be read",
        }
    }
}

/// Which groups a finding is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Groups {
    /// None.
    #[default]
    None,
    /// These.
    Some(BTreeSet<u32>),
    /// Nobody can tell: any of them.
    Any,
}

/// A list, or the word `any`.
impl Serialize for Groups {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.collect_seq(core::iter::empty::<u32>()),
            Self::Some(groups) => serializer.collect_seq(groups),
            Self::Any => serializer.serialize_str("any"),
        }
    }
}

impl Groups {
    pub(super) fn one(group: u32) -> Self {
        Self::Some(BTreeSet::from([group]))
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advice {
    /// Nothing.
    #[default]
    Nothing,
    /// Start the node: it heals by itself.
    Start,
    /// Start it: its peers heal it.
    StartWithPeers,
    /// There is no other replica: bring back what is lost from elsewhere.
    Restore,
    /// The device fails.
    Replace,
}

/// What a verification found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// What is to be done.
    pub advice: Advice,
    /// The same in words.
    pub words: String,
    /// What is not as it should be, by file and offset.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
    /// What was looked at, by name, with how many of it.
    pub checked: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    kinds: BTreeMap<Kind, u64>,
}

impl Verified {
    /// Whether anything is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.kinds.keys().any(|kind| kind.is_damage())
    }

    pub(super) fn add(&mut self, finding: Finding) {
        *self.kinds.entry(finding.kind).or_default() += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn count(&mut self, what: &'static str, many: u64) {
        *self.checked.entry(what).or_default() += many;
    }

    /// Sorts, and says what is to be done where every group has this many replicas; `None` if that isn't known.
    pub(super) fn conclude(&mut self, replicas: Option<u8>) {
        let place = |finding: &Finding| (finding.file.clone(), finding.offset, finding.kind);
        self.findings.sort_by_cached_key(place);
        let costs = self.kinds.keys().any(|kind| kind.costs());
        self.advice = if self.kinds.contains_key(&Kind::Unreadable) {
            Advice::Replace
        } else if costs {
            match replicas {
                Some(1) => Advice::Restore,
                _ => Advice::StartWithPeers,
            }
        } else if self.findings.is_empty() {
            Advice::Nothing
        } else {
            Advice::Start
        };
        self.words = match self.advice {
            Advice::Nothing => "Nothing is damaged: nothing to do.",
            Advice::Start => {
                "Nothing is lost: start the node. It cuts a torn tail off; a damaged copy goes with its segment."
            }
            Advice::StartWithPeers => {
                "Start the node: what is lost here comes back from its peers, a majority of which must be running. \
                 `ironseed status` shows when it is whole."
            }
            Advice::Restore => {
                "This cluster keeps one replica of each shard, so no peer has what is lost here: bring the files back \
                 from a copy, or start the node without it. What is affected then answers 503, all else is served."
            }
            Advice::Replace => {
                "The device fails to read: copy what can be read to another disk and start the node there, or give it \
                 an empty directory if its cluster can do without it."
            }
        }
        .into();
    }
}

/// What a boot can do without, going by what it makes of the groups.
#[derive(Debug, Default)]
pub(super) struct Covered {
    /// How far the state of each group has got that is whole: entries of the log up to there are not needed, and no frame
    /// is that could not be had.
    pub(super) through: BTreeMap<GroupId, Index>,
    /// Groups that count fully and lack nothing: what is lost here was promised anew since, or given back.
    pub(super) whole: BTreeSet<GroupId>,
}

impl Covered {
    /// Whether nobody needs the payload of this record.
    fn spares(&self, file: FileKind, identity: &Identity) -> bool {
        let through = self.through.get(&identity.group);
        match (file, WalRecord::of(identity, None)) {
            (FileKind::Table, _) => through.is_some(),
            (FileKind::Wal, WalRecord::Entry(..) | WalRecord::Repair(_)) => {
                through.is_some_and(|through| identity.index <= *through)
                    || self.whole.contains(&identity.group)
            }
            (FileKind::Wal, _) => self.whole.contains(&identity.group),
            _ => false,
        }
    }
}

/// A damage of a log, as a boot judges it.
pub(super) fn of_damage(LogDamage { damage, kind }: &LogDamage, covered: &Covered) -> Finding {
    let what = match kind {
        DamageKind::PayloadLost(identity) => payload_of(damage.file.kind, identity),
        DamageKind::CopyLost | DamageKind::IdentityLost => damage.what.clone(),
    };
    let (kind, groups) = match kind {
        DamageKind::CopyLost => (Kind::Copy, Groups::None),
        DamageKind::PayloadLost(identity) => {
            let spared = covered.spares(damage.file.kind, identity);
            let kind = if spared { Kind::Dead } else { Kind::Payload };
            (kind, Groups::one(identity.group.0))
        }
        DamageKind::IdentityLost => (Kind::Identities, Groups::Any),
    };
    finding(damage.file, damage.offset, kind, groups, what)
}

/// Which payload it is.
pub(super) fn payload_of(log: FileKind, identity: &Identity) -> String {
    let name = match log {
        FileKind::Wal => WalRecord::of(identity, None).name(),
        _ => "frame",
    };
    let Identity { group, index, term, .. } = identity;
    format!("payload of {name} {index}@{term} of group {group}")
}

pub(super) fn finding(
    file: FileId,
    offset: u64,
    kind: Kind,
    groups: Groups,
    what: String,
) -> Finding {
    let (file, offset) = (file.to_string(), Some(offset));
    Finding { file, offset, bytes: None, kind, groups, what }
}

/// Something about a log that is in no one place.
pub(super) fn of_log(log: FileKind, kind: Kind, groups: Groups, what: String) -> Finding {
    let file = format!("{} log", log_name(log));
    Finding { file, offset: None, bytes: None, kind, groups, what }
}

/// What a log is called.
pub(super) const fn log_name(log: FileKind) -> &'static str {
    match log {
        FileKind::Wal => "write-ahead",
        FileKind::Table => "table",
        FileKind::Chunk => "chunk",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironseed_core::types::{Damage, Term};

    const GROUP: GroupId = GroupId(7);

    /// What is said of a payload that is lost, given what a boot makes of its group.
    fn said(kind: FileKind, record: u8, covered: &Covered) -> Kind {
        let identity = Identity { group: GROUP, index: Index(8), term: Term(2), kind: record };
        let file = FileId::new(kind, 1);
        let damage = Damage { file, offset: 4096, what: "payload".into() };
        of_damage(&LogDamage { damage, kind: DamageKind::PayloadLost(identity) }, covered).kind
    }

    #[test]
    fn what_was_healed_since_is_not_asked_for_again() {
        const HARD_STATE: u8 = 1;
        const ENTRY: u8 = 2;
        let nothing = Covered::default();
        let through = BTreeMap::from([(GROUP, Index(5))]);
        let state = Covered { through: through.clone(), whole: BTreeSet::new() };
        let whole = Covered { through, whole: BTreeSet::from([GROUP]) };
        for (kind, record, told) in [
            (FileKind::Table, 1, [Kind::Payload, Kind::Dead, Kind::Dead]),
            (FileKind::Wal, ENTRY, [Kind::Payload, Kind::Payload, Kind::Dead]),
            (FileKind::Wal, HARD_STATE, [Kind::Payload, Kind::Payload, Kind::Dead]),
        ] {
            let found = [&nothing, &state, &whole].map(|covered| said(kind, record, covered));
            assert_eq!(found, told, "{kind:?} {record}");
        }
    }
}
