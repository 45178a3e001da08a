//! What a log may write anew to free its segments: as much as was written for the first time.
//!
//! To free its oldest segment, a log has what is still needed of it written again at its end. Where more is needed than
//! the segments hold that it should have at the most, that is never over: each round fills the segments that the next one
//! is to free, and what is new waits behind all of it. So writing anew has to be paid for, and takes half of the log at the
//! most; the log is longer then than it should be, by as much as is needed again.

/// About what a record takes in the log beside its payload.
const RECORD_BYTES: i64 = 64;

/// How much a log may write anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    /// Bytes; below zero after more than was paid for.
    bytes: i64,
    /// No more is saved up than this.
    bytes_max: i64,
}

impl Balance {
    /// Of a log that has written nothing. What is saved up is a segment's bytes at the most.
    pub(super) fn new(segment_bytes: u64) -> Self {
        Self { bytes: 0, bytes_max: i64::try_from(segment_bytes).unwrap_or(i64::MAX) }
    }

    /// A record with a payload of so many bytes was written, for the first time or anew.
    pub(super) fn on_written(&mut self, bytes: u32, anew: bool) {
        let bytes = i64::from(bytes) + RECORD_BYTES;
        self.bytes = match anew {
            true => self.bytes.saturating_sub(bytes),
            false => self.bytes.saturating_add(bytes).min(self.bytes_max),
        };
    }

    /// Whether something may be written anew now, however much it is.
    pub(super) const fn allows(self) -> bool {
        self.bytes >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_anew_is_paid_for_in_advance_or_later() {
        let mut balance = Balance::new(1 << 20);
        assert!(balance.allows());
        (0..10).for_each(|_| balance.on_written(100, true));
        for fresh in 0..10 {
            assert!(!balance.allows(), "{fresh} records for 10");
            balance.on_written(100, false);
        }
        assert!(balance.allows());
        balance.on_written(0, true);
        assert!(!balance.allows(), "empty records take their place too");
    }

    #[test]
    fn no_more_is_saved_up_than_a_segment() {
        let mut balance = Balance::new(1000);
        (0..1000).for_each(|_| balance.on_written(500, false));
        balance.on_written(1000 - 64, true);
        assert!(balance.allows());
        balance.on_written(0, true);
        assert!(!balance.allows());
    }
}
