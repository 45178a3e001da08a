//! What the tools print, for people or as JSON.

use super::findings::{Finding, Groups, Verified};
use super::inspect::{Copy, Group, Identity, Inspection};
use super::{Compacted, ToolError};
use serde::Serialize;
use std::io::{self, Write};

/// Findings that are shown to people; JSON has more.
const SHOWN_MAX: usize = 50;

fn json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), ToolError> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

pub(super) fn verified(
    verified: &Verified,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    if as_json {
        return json(verified, out);
    }
    for found in verified.findings.iter().take(SHOWN_MAX) {
        let Finding { file, offset, bytes, kind, what, groups } = found;
        let bytes = bytes.map_or(String::new(), |bytes| format!(", {bytes} bytes"));
        let at = offset.map_or(String::new(), |offset| format!(" at byte {offset}"));
        writeln!(out, "{file}{at}{bytes}: {}: {what}{}", kind.name(), whom(groups))?;
    }
    let more = verified.more + verified.findings.len().saturating_sub(SHOWN_MAX) as u64;
    if more > 0 {
        writeln!(out, "and {more} more (--json shows up to 10000)")?;
    }
    let checked: Vec<String> =
        verified.checked.iter().map(|(what, many)| format!("{many} {what}")).collect();
    writeln!(out, "checked: {}", checked.join(", "))?;
    Ok(writeln!(out, "{}", verified.words)?)
}

fn whom(groups: &Groups) -> String {
    match groups {
        Groups::None => String::new(),
        Groups::Any => " (any group)".into(),
        Groups::Some(groups) => {
            let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
            format!(" (group {})", groups.join(" "))
        }
    }
}

pub(super) fn compacted(
    compacted: &Compacted,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    if as_json {
        return json(compacted, out);
    }
    let Compacted { bytes_before, bytes_after, frames_moved, chunks_moved, .. } = compacted;
    let Compacted { segments_removed, blobs_dropped, kept, .. } = compacted;
    writeln!(out, "before  {bytes_before} bytes")?;
    writeln!(out, "after   {bytes_after} bytes")?;
    writeln!(
        out,
        "moved {frames_moved} frames and {chunks_moved} chunks, dropped {blobs_dropped} blobs, removed \
         {segments_removed} segments"
    )?;
    if let Some(why) = kept {
        writeln!(out, "{why}")?;
    }
    Ok(())
}

pub(super) fn inspection(
    inspection: &Inspection,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    if as_json {
        return json(inspection, out);
    }
    identity(&inspection.identity, out)?;
    writeln!(out, "\nlog     segments          bytes           used  numbers")?;
    for log in &inspection.logs {
        let numbers = match (log.first, log.last) {
            (Some(first), Some(last)) => format!("{first} to {last}"),
            _ => "none".into(),
        };
        let (name, segments, bytes, used) = (log.log, log.segments, log.bytes, log.used);
        writeln!(out, "{name:8}{segments:8} {bytes:14} {used:14}  {numbers}")?;
    }
    let chunks = inspection.chunks;
    writeln!(out, "chunks  {} of {} bytes", chunks.chunks, chunks.bytes)?;
    if let Some(problem) = &inspection.problem {
        return Ok(writeln!(out, "\nThe logs can't be opened: {problem}")?);
    }
    groups(&inspection.groups, out)?;
    writeln!(out, "\nbucket                            id     objects          bytes  state")?;
    for (id, bucket) in &inspection.buckets {
        let name = bucket.name.as_deref().unwrap_or("(its name is not here)");
        let state = bucket.state.as_deref().unwrap_or("unknown");
        let (objects, bytes) = (bucket.count.objects, bucket.count.bytes);
        writeln!(out, "{name:28} {id:7} {objects:11} {bytes:14}  {state}")?;
    }
    Ok(())
}

fn identity(identity: &Identity, out: &mut dyn Write) -> Result<(), ToolError> {
    let Identity { node, store, incarnation, clean, standing, fsync, copies, formats, founding } =
        identity;
    writeln!(out, "node        {node}, store {store}, boot {incarnation}")?;
    match founding {
        Some(it) => {
            let (shards, replication) = (it.shards, it.replication);
            writeln!(out, "cluster     {}, {shards} shards, {replication} replicas", it.cluster)?;
            for (node, store) in &it.members {
                writeln!(out, "  member    node {node}, store {store}")?;
            }
        }
        None => writeln!(out, "cluster     none yet")?,
    }
    let stopped = if *clean { "cleanly" } else { "uncleanly, or never" };
    let standing = match *standing {
        "full" => "",
        "blank" => ", has nothing of what was promised before",
        _ => ", may have forgotten promises",
    };
    writeln!(out, "stopped     {stopped}{standing}; synced {fsync}")?;
    writeln!(out, "formats     directory {}, segments {}", formats.directory, formats.segment)?;
    for (at, copy) in copies.iter().enumerate() {
        let Copy { sequence, damage, used } = copy;
        let used = if *used { ", used" } else { "" };
        let what = match (sequence, damage) {
            (Some(sequence), None) => format!("update {sequence}"),
            (_, damage) => format!("DAMAGED: {}", damage.as_deref().unwrap_or("unknown")),
        };
        writeln!(out, "superblock  copy {}: {what}{used}", at + 1)?;
    }
    Ok(())
}

fn groups(groups: &[Group], out: &mut dyn Write) -> Result<(), ToolError> {
    writeln!(
        out,
        "\ngroup   term  vote     commit       last  compacted checkpoint    records    objects  voters"
    )?;
    for it in groups {
        let vote = it.vote.map_or("-".into(), |node| node.to_string());
        let records = it.records.map_or("-".into(), |records| records.to_string());
        let objects: u64 = it.objects.values().map(|count| count.objects).sum();
        let voters: Vec<String> = it.voters.iter().map(ToString::to_string).collect();
        write!(
            out,
            "{:5} {:6} {vote:>5} {:10} {:10} {:10} {:10} {records:>10} {objects:10}  {}",
            it.group,
            it.term,
            it.commit,
            it.last.0,
            it.compacted.0,
            it.checkpoint.0,
            voters.join(" ")
        )?;
        if it.abstaining {
            write!(out, "  abstains")?;
        }
        if it.entries_lost > 0 {
            write!(out, "  {} entries lost", it.entries_lost)?;
        }
        match &it.damage {
            Some(damage) => writeln!(out, "  DAMAGED: {damage}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
