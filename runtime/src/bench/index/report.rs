//! What was measured.

use super::{BenchError, failed};
use serde::{Deserialize, Serialize};
use std::fs;
use std::time::Duration;

/// What the system says of a process, in KiB.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) rss_kib: u64,
    pub(super) hwm_kib: u64,
}

impl Memory {
    pub(super) fn now() -> Result<Self, BenchError> {
        let status = fs::read_to_string("/proc/self/status")
            .map_err(|error| failed(format!("/proc/self/status: {error}")))?;
        let of = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            let value = value.and_then(|value| value.trim().strip_suffix(" kB"));
            value.and_then(|value| value.parse().ok()).ok_or_else(|| failed(format!("no {name}")))
        };
        Ok(Self { rss_kib: of("VmRSS:")?, hwm_kib: of("VmHWM:")? })
    }

    pub(super) async fn after(rest: Duration) -> Result<Self, BenchError> {
        tokio::time::sleep(rest).await;
        Self::now()
    }

    pub(super) fn per_key(kib: u64, keys: u64) -> f64 {
        (kib << 10) as f64 / keys as f64
    }
}

/// What filling came to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Filled {
    pub(super) seconds: f64,
    pub(super) memory: Memory,
}

/// What starting came to. Milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Served {
    /// From the start of the process until the node was booted.
    pub(super) begun_ms: f64,
    /// From then until it took requests.
    pub(super) serving_ms: f64,
    /// In that time: it was stepped, and did not wait for the disk.
    pub(super) deciding_ms: f64,
    /// In that time: bytes that it read.
    pub(super) read_bytes: u64,
    /// From then until it had answered a read.
    pub(super) answered_ms: f64,
    /// From the start of the process until then: what processors spent on it, on all threads and in the system.
    pub(super) cpu_ms: f64,
    /// From then until every group had.
    pub(super) all_groups_ms: f64,
    pub(super) memory: Memory,
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) keys: u64,
    pub(super) what: &'static str,
    pub(super) key_bytes: u64,
    pub(super) value_bytes: u64,
    pub(super) shards: u16,
    pub(super) cold: bool,
    pub(super) disk_bytes: u64,
    pub(super) filled: Option<Filled>,
    /// From before the start of the process until it said that it had answered a read.
    pub(super) restart_ms: f64,
    pub(super) served: Served,
    pub(super) rss_bytes_per_key: f64,
    pub(super) hwm_bytes_per_key: f64,
}

impl Report {
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} records ({}) with keys of {} and values of {} bytes in {} shards, {:.0} MB on disk\n",
            self.keys,
            self.what,
            self.key_bytes,
            self.value_bytes,
            self.shards,
            self.disk_bytes as f64 / 1e6,
        );
        if let Some(Filled { seconds, memory }) = &self.filled {
            text.push_str(&format!(
                "  filled      {seconds:.1} s, {:.0}/s; resident {:.0} bytes a record, at the most {:.0}\n",
                self.keys as f64 / seconds,
                Memory::per_key(memory.rss_kib, self.keys),
                Memory::per_key(memory.hwm_kib, self.keys),
            ));
        }
        let served = &self.served;
        text.push_str(&format!(
            "  restarted   resident {:.0} bytes a record, at the most {:.0}\n  \
             first read  {:.0} ms after the start of the process{}, {:.0} ms of processor time\n    \
             booted {:.0} ms, recovered {:.0} ms ({:.0} ms deciding, {:.0} MB read), answered {:.0} ms\n  \
             all groups  {:.0} ms later\n",
            self.rss_bytes_per_key,
            self.hwm_bytes_per_key,
            self.restart_ms,
            if self.cold { " (files not in the cache)" } else { "" },
            served.cpu_ms,
            served.begun_ms,
            served.serving_ms,
            served.deciding_ms,
            served.read_bytes as f64 / 1e6,
            served.answered_ms,
            served.all_groups_ms,
        ));
        text
    }
}
