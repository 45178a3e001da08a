//! `wal verify` and `data verify`.

use super::findings::{self, Covered, Groups, Kind, Verified};
use super::logs::{self, Judgement, KINDS};
use super::store::{Copies, Store};
use super::{Progress, ToolError, bodies, chunks};
use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::node::offline::{Doubt, Found, FoundGroup, judge_indexes};
use ironseed_core::node::superblock::{COPY_BYTES, Membership, Superblock};
use ironseed_core::raft::Standing;
use std::path::Path;

/// Reads all of all logs and compares checksums.
///
/// # Errors
/// The directory is refused, or a log can't be opened.
pub fn verify_logs(path: &Path, progress: &Progress) -> Result<Verified, ToolError> {
    let store = Store::open(path)?;
    let id = store.store_id()?;
    let mut verified = Verified::default();
    // What a boot reads payloads of is read twice.
    progress.expect(KINDS.map(|kind| store.bytes(kind) * passes(kind)).iter().sum());
    for kind in KINDS {
        progress.say(format!("{} log", findings::log_name(kind)));
        let judgement = logs::judge(&store, id, kind, progress)?;
        logs::read_all(&store, id, kind, &judgement, &mut verified, progress, logs::plain(kind))?;
    }
    progress.end();
    let replicas = store.superblock().ok().and_then(|(_, superblock)| replicas(&superblock));
    verified.conclude(replicas);
    Ok(verified)
}

/// Checks everything that a directory holds: the superblock's copies, the logs, the state of every group and the bytes
/// that its records name, the chunks.
///
/// # Errors
/// The directory is refused, or a log can't be opened.
pub fn verify(path: &Path, progress: &Progress) -> Result<Verified, ToolError> {
    let store = Store::open(path)?;
    let mut verified = Verified::default();
    let (_, superblock) = store.superblock()?;
    check_copies(&store.copies()?, &mut verified);
    progress.expect(KINDS.map(|kind| store.bytes(kind) * passes(kind)).iter().sum());
    progress.say("states");
    let Some(found) = store.survey(&superblock, progress)? else {
        progress.end();
        verified.conclude(None);
        return Ok(verified);
    };
    let whole = found.groups.iter().filter(|(_, it)| it.damage.is_none());
    let through = whole.map(|(group, it)| (*group, it.checkpoint.index)).collect();
    let lacks_nothing = |it: &FoundGroup| {
        it.damage.is_none() && it.raft.lost == 0 && it.raft.standing == Standing::Full
    };
    let whole = found.groups.iter().filter(|(_, it)| lacks_nothing(it));
    let covered = Covered { through, whole: whole.map(|(group, _)| *group).collect() };
    let (damages, cuts) = (found.damages.clone(), found.cuts.clone());
    let judgement = Judgement { damages, cuts, covered };
    let id = superblock.store;
    for kind in [FileKind::Wal, FileKind::Table] {
        logs::read_all(&store, id, kind, &judgement, &mut verified, progress, logs::plain(kind))?;
    }
    let kind = FileKind::Chunk;
    let each = chunks::checker(&found.chunks);
    logs::read_all(&store, id, kind, &judgement, &mut verified, progress, each)?;
    verified.count("chunks", found.chunks.stats().chunks);
    check_groups(&found, &mut verified);
    check_indexes(&store, &superblock, &mut verified, progress);
    progress.say("stored bytes");
    bodies::check(&store, &found, &mut verified);
    chunks::check_named(&store, &found, &mut verified);
    progress.end();
    verified.conclude(replicas(&superblock));
    Ok(verified)
}

fn check_copies(copies: &Copies, verified: &mut Verified) {
    let file = FileId::new(FileKind::Superblock, 0);
    verified.count("superblock copies", 2);
    let sequences = copies.iter().flatten().map(|(sequence, _)| *sequence);
    let newest = sequences.max().unwrap_or(0);
    for (at, copy) in copies.iter().enumerate() {
        let offset = (at * COPY_BYTES) as u64;
        match copy {
            Err(_) => {
                let what = format!("copy {} of the superblock", at + 1);
                verified.add(findings::finding(file, offset, Kind::Copy, Groups::None, what));
            }
            // A crash between the two writes of an update: the next boot writes both.
            Ok((sequence, _)) if *sequence < newest => {
                let what = format!("copy {} is of update {sequence}, not {newest}", at + 1);
                verified.add(findings::finding(file, offset, Kind::TornTail, Groups::None, what));
            }
            Ok((_, true)) => {}
            Ok((_, false)) => {
                let what = format!("padding of copy {} of the superblock", at + 1);
                verified.add(findings::finding(file, offset, Kind::Copy, Groups::None, what));
            }
        }
    }
}

/// What the survey says of the groups beside the damages of their logs.
fn check_groups(found: &Found, verified: &mut Verified) {
    let (wal, table) = (FileKind::Wal, FileKind::Table);
    for (group, it) in &found.groups {
        verified.count("groups", 1);
        let groups = Groups::one(group.0);
        if let Some(damage) = &it.damage {
            let what = format!("the state of group {group}: {damage}");
            verified.add(findings::of_log(table, Kind::State, groups.clone(), what));
        }
        if it.raft.lost > 0 {
            let what = format!("{} entries of group {group}", it.raft.lost);
            verified.add(findings::of_log(wal, Kind::Entries, groups.clone(), what));
        }
        if it.raft.standing != Standing::Full {
            let what = format!("promises of group {group}: it abstains until it is readmitted");
            verified.add(findings::of_log(wal, Kind::Entries, groups, what));
        }
    }
}

/// Snapshots of the index: what they say is in the table log, too.
fn check_indexes(
    store: &Store,
    superblock: &Superblock,
    verified: &mut Verified,
    progress: &Progress,
) {
    let judged = judge_indexes(superblock, &store.files, |io| store.pretend(io, progress));
    for (found, judged) in judged {
        verified.count("snapshots of the index", 1);
        let (kind, what) = match judged {
            Ok(_) => continue,
            // A crash leaves the first, and cleaning the second: the next boot removes both.
            Err(doubt @ (Doubt::Unfinished | Doubt::Outdated(_))) => (Kind::TornTail, doubt),
            Err(doubt @ Doubt::Damaged(_)) => (Kind::Copy, doubt),
        };
        let what = format!("snapshot of the index ({what}): a boot reads the table log instead");
        verified.add(findings::finding(found.file, 0, kind, Groups::None, what));
    }
}

fn replicas(superblock: &Superblock) -> Option<u8> {
    match &superblock.membership {
        Membership::Member(charter) => Some(charter.replication),
        Membership::Blank | Membership::Founder(_) => None,
    }
}

/// How often a log is read.
const fn passes(kind: FileKind) -> u64 {
    match kind {
        FileKind::Chunk => 1,
        _ => 2,
    }
}
