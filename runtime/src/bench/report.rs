//! What was measured.

use super::client::RequestError;
use super::disk::OnDisk;
use super::{Operation, Options};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// The longest latency told apart, in microseconds; what takes longer counts as this.
const LATENCY_US_MAX: u64 = 120_000_000;

/// What one worker, or all, have seen.
pub(super) struct Tally {
    /// Microseconds of the requests that worked.
    latency: Histogram<u64>,
    bytes: u64,
    errors: u64,
    pub(super) first_error: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Self { latency: latency.expect("valid bounds"), bytes: 0, errors: 0, first_error: None }
    }

    pub(super) fn record(&mut self, latency: Duration, result: Result<u64, RequestError>) {
        match result {
            Ok(bytes) => {
                let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
                self.latency.saturating_record(micros.max(1));
                self.bytes += bytes;
            }
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("equal bounds");
        self.bytes += other.bytes;
        self.errors += other.errors;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.latency.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What is printed. Failed requests are counted and enter no other figure.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    op: &'static str,
    endpoints: Vec<String>,
    size: u64,
    concurrency: u32,
    seconds: f64,
    requests: u64,
    errors: u64,
    first_error: Option<String>,
    requests_per_second: f64,
    /// Megabytes (10^6) of bodies.
    mb_per_second: f64,
    latency_ms: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_disk: Option<OnDisk>,
}

#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        tally: &Tally,
        elapsed: Duration,
        on_disk: Option<OnDisk>,
    ) -> Self {
        let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
        let quantile = |quantile| round(tally.latency.value_at_quantile(quantile) as f64 / 1e3);
        Self {
            on_disk,
            op: match options.op {
                Operation::Put => "put",
                Operation::Get => "get",
                Operation::List => "list",
            },
            endpoints: options.endpoint.clone(),
            size: options.size,
            concurrency: options.concurrency,
            seconds: round(seconds),
            requests: tally.requests(),
            errors: tally.errors,
            first_error: tally.first_error.clone(),
            requests_per_second: round(tally.requests() as f64 / seconds),
            mb_per_second: round(tally.bytes as f64 / 1e6 / seconds),
            latency_ms: Latency {
                mean: round(tally.latency.mean() / 1e3),
                p50: quantile(0.5),
                p90: quantile(0.9),
                p99: quantile(0.99),
                p999: quantile(0.999),
                max: round(tally.latency.max() as f64 / 1e3),
            },
        }
    }

    pub(super) fn json(&self) -> String {
        // Nothing in it can fail to be JSON: every figure is finite.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    pub(super) fn text(&self) -> String {
        let Latency { mean, p50, p90, p99, p999, max } = self.latency_ms;
        let mut text = format!(
            "{} of {} bytes, {} at a time, {} s\n  {} requests, {}/s, {} MB/s, {} errors\n  ms: \
             mean {mean}  p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}\n",
            self.op,
            self.size,
            self.concurrency,
            self.seconds,
            self.requests,
            self.requests_per_second,
            self.mb_per_second,
            self.errors,
        );
        if let Some(error) = &self.first_error {
            text.push_str(&format!("  first error: {error}\n"));
        }
        if let Some(disk) = &self.on_disk {
            text.push_str(&format!(
                "  a node: {} requests a sync of its write-ahead log, {} a sync of any file; {} bytes written for each of a body, \
                 {} of them to the write-ahead log\n",
                disk.requests_per_wal_sync,
                disk.requests_per_sync,
                disk.bytes_per_byte,
                disk.wal_bytes_per_byte,
            ));
        }
        text
    }
}

fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
