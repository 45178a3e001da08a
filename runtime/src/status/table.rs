//! The summary for people.

use super::summary::Summary;
use std::fmt::Write as _;

/// The first line says how much the cluster can lose; then a line a node; then what needs attention.
pub(super) fn render(summary: &Summary) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", headline(summary));
    let header = [
        "NODE",
        "STATE",
        "LEADS",
        "FOLLOWS",
        "STANDS",
        "TERM",
        "LAG",
        "UNHEALTHY",
        "MISSING",
        "CHUNKS",
        "SCRUB",
        "BOOTS",
        "ADMIN",
    ];
    let mut rows = vec![header.map(String::from)];
    for node in &summary.nodes {
        rows.push([
            if node.node == 0 { "?".into() } else { node.node.to_string() },
            node.state.clone(),
            node.leads.to_string(),
            node.follows.to_string(),
            node.stands.to_string(),
            node.term.to_string(),
            node.lag.to_string(),
            node.unhealthy.to_string(),
            node.chunks_missing.to_string(),
            mib(node.chunk_bytes),
            node.scrubbed_percent.map_or_else(|| "-".into(), |percent| format!("{percent} %")),
            node.incarnation.to_string(),
            node.address.clone(),
        ]);
    }
    let mut widths = [0; 13];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    text.push('\n');
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    if !summary.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &summary.warnings {
        let _ = writeln!(text, "! {warning}");
    }
    text
}

fn headline(summary: &Summary) -> String {
    if summary.groups == 0 {
        return "no node that answers belongs to a cluster".into();
    }
    match summary.can_lose {
        Some(0) => "no node can be lost now without losing availability".into(),
        Some(1) => "1 node can be lost now without losing data or availability".into(),
        Some(count) => format!("{count} nodes can be lost now without losing data or availability"),
        None => {
            let groups = summary.unavailable.len();
            format!("{groups} of {} groups are not available as it is", summary.groups)
        }
    }
}

fn mib(bytes: u64) -> String {
    if bytes < 1 << 30 {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{}.{} GiB", bytes >> 30, ((bytes >> 20) & 1023) * 10 / 1024)
    }
}
