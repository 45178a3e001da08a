//! What a load made the nodes write: asked of their admin ports before and after.

use super::BenchError;
use crate::status::{Target, WrittenReport, ask_all};
use serde::Serialize;

/// What all nodes together have written so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Syncs of write-ahead logs.
    wal_syncs: u64,
    syncs: u64,
    wal_bytes: u64,
    bytes: u64,
}

/// What a load came to on disk, on average over the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct OnDisk {
    /// Requests for each sync of a node's write-ahead log.
    pub(super) requests_per_wal_sync: f64,
    /// Requests for each sync of a node, of any file.
    pub(super) requests_per_sync: f64,
    /// Bytes that a node wrote to its write-ahead log for each byte of a body.
    pub(super) wal_bytes_per_byte: f64,
    /// Bytes that a node wrote for each byte of a body.
    pub(super) bytes_per_byte: f64,
}

/// Asks all of them.
pub(super) async fn ask(admin: &[String]) -> Result<Sum, BenchError> {
    let target = |address: &String| Target { node: None, address: address.clone() };
    let targets: Vec<Target> = admin.iter().map(target).collect();
    let mut sum = Sum::default();
    for answer in ask_all(&targets).await {
        let report =
            answer.report.map_err(|why| BenchError::Node(format!("{}: {why}", answer.address)))?;
        let disk = report.disk;
        let all = [disk.wal, disk.table, disk.chunk, disk.other];
        let total = |of: fn(&WrittenReport) -> u64| all.iter().map(of).sum::<u64>();
        sum.wal_syncs += disk.wal.syncs;
        sum.wal_bytes += disk.wal.bytes;
        sum.syncs += total(|of| of.syncs);
        sum.bytes += total(|of| of.bytes);
    }
    Ok(sum)
}

impl Sum {
    /// What came since, of so many nodes, for this load. Nothing where nothing was written.
    pub(super) fn since(
        &self,
        before: &Self,
        nodes: usize,
        requests: u64,
        bytes: u64,
    ) -> Option<OnDisk> {
        let nodes = nodes as f64;
        let share = |part: u64, of: f64| if of > 0.0 { part as f64 / of } else { 0.0 };
        let syncs = self.syncs.saturating_sub(before.syncs);
        let wal_syncs = self.wal_syncs.saturating_sub(before.wal_syncs);
        let round = |figure: f64| (figure * 100.0).round() / 100.0;
        (syncs > 0).then(|| OnDisk {
            requests_per_wal_sync: round(share(requests, wal_syncs as f64 / nodes)),
            requests_per_sync: round(share(requests, syncs as f64 / nodes)),
            wal_bytes_per_byte: round(share(
                self.wal_bytes.saturating_sub(before.wal_bytes),
                bytes as f64 * nodes,
            )),
            bytes_per_byte: round(share(
                self.bytes.saturating_sub(before.bytes),
                bytes as f64 * nodes,
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_one_node() {
        let before = Sum { wal_syncs: 10, syncs: 20, wal_bytes: 1_000, bytes: 5_000 };
        let after = Sum { wal_syncs: 40, syncs: 110, wal_bytes: 31_000, bytes: 65_000 };
        let found = after.since(&before, 3, 200, 5_000).expect("something was written");
        assert_eq!((found.requests_per_wal_sync, found.requests_per_sync), (20.0, 6.67));
        assert_eq!((found.wal_bytes_per_byte, found.bytes_per_byte), (2.0, 4.0));
        assert_eq!(before.since(&before, 3, 200, 5_000), None);
    }
}
