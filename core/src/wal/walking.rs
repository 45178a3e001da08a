//! The walk of recovery: every segment in order, what is damaged in it, and where the log ends.

use super::record::{self, BatchHeader, Entry, Place, SegmentHeader};
use super::recovery::{BLOCK_BYTES_MAX, Flow, Phase, Recovery, Walk};
use super::scan::{Found, FoundBatch};
use super::{DamageKind, Record, Recovered, RecoveredPayload, RecoveryOutput, SegmentStat};
use crate::machine::{FileId, Io, OpIds};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

impl Recovery {
    /// What a segment's header says about the end of the one before it.
    pub(super) fn enter_segment(
        &mut self,
        number: u64,
        header: Option<SegmentHeader>,
        out: &mut Vec<RecoveryOutput>,
    ) {
        let before = self.walked.take();
        let recycles = self.config.spares_max > 0;
        let follows = before.as_ref().is_some_and(|(before, _, _)| match header {
            Some(header) if header.previous > 0 => header.previous == *before,
            // A log that recycles removes the oldest segment first: none between can have been removed for good.
            _ => recycles || before + 1 == number,
        });
        let expected = if follows { self.expected } else { None };
        if let Some((before, end, dirt)) = before {
            let lost = match (expected, header) {
                (Some(seq), Some(header)) => header.first_seq != seq,
                (Some(_), None) => false, // The next batch's number tells.
                // No segment is left before it has a batch.
                (None, _) if recycles => follows,
                // Segments between were removed: what isn't zero there was a batch.
                (None, _) => dirt.is_some(),
            };
            if lost {
                let file = FileId::new(self.config.kind, before);
                let what = String::from("batches at the end of the segment");
                self.report(file, end, what, DamageKind::IdentityLost, out);
            }
        }
        if let Some(header) = header {
            self.mark_kept = self.mark_kept.max(header.first_seq.saturating_sub(1));
        }
        self.expected = header.map(|header| header.first_seq).or(expected);
    }

    /// Goes on with the segment at `index`.
    pub(super) fn walk(
        &mut self,
        index: usize,
        last: usize,
        walk: Option<Walk>,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) -> Flow {
        let Some(mut walk) = walk else {
            let Some(file) = self.files.get(index).copied() else {
                self.phase = Phase::Names;
                return Flow::Continue;
            };
            self.phase = Phase::Walk(index, last, None);
            return self.read(file.file, &(0..file.bytes.min(BLOCK_BYTES_MAX)), ops, out);
        };
        let file = walk.file.file;
        let batch = match walk.batch.take() {
            Some(batch) => batch,
            None if self.is_at_end(&walk) => {
                let (_, from, dirt) = self.end.take().unwrap_or_default();
                return self.on_end(index, last, &walk, (from, dirt, false), out);
            }
            None => match walk.scanner.next(&self.seal) {
                Found::Read(range) => {
                    self.phase = Phase::Walk(index, last, Some(walk));
                    return self.read(file, &range, ops, out);
                }
                Found::End { from, dirt, unreadable } => {
                    return self.on_end(index, last, &walk, (from, dirt, unreadable), out);
                }
                Found::Batch(batch) => {
                    if self.is_cut_before(file, &batch, out) {
                        if batch.unreadable {
                            return self.refuse_unreadable(file, batch.from, out);
                        }
                        let dirt = batch.from..walk.file.bytes;
                        return self.cut(index, &walk, batch.from, Some(dirt));
                    }
                    batch
                }
            },
        };
        let seq = batch.header.seq;
        // A first write may be torn in its header block too; a header that was synced was damaged.
        if walk.header.is_none() && !walk.any && seq <= self.mark {
            let what = String::from("segment header");
            self.report(file, 0, what, DamageKind::CopyLost, out);
        }
        walk.any = true;
        let payloads = if self.config.verify_payloads_at_boot
            || self.config.keep_payloads_at_boot
            || seq > self.mark
        {
            match walk.scanner.require(batch.header.offset..batch.header.end()) {
                Ok(bytes) => Some(bytes),
                Err(range) => {
                    walk.batch = Some(batch);
                    self.phase = Phase::Walk(index, last, Some(walk));
                    return self.read(file, &range, ops, out);
                }
            }
        } else {
            None
        };
        if self.hand_out(file, &batch, payloads.as_ref(), ops, out) {
            let from = batch.header.offset;
            if walk.scanner.is_unreadable(&(from..batch.header.end())) {
                return self.refuse_unreadable(file, from, out);
            }
            return self.cut(index, &walk, from, Some(from..walk.file.bytes));
        }
        self.note_batch(&walk, &batch.header);
        self.expected = Some(seq + 1);
        self.phase = Phase::Walk(index, last, Some(walk));
        Flow::Continue
    }

    /// Whether nothing follows but what [`Self::find`] has looked through.
    fn is_at_end(&self, walk: &Walk) -> bool {
        let number = walk.file.file.number;
        self.end.as_ref().is_some_and(|(of, from, _)| *of == number && walk.scanner.is_at(*from))
    }

    /// Reports batches that are missing before this one. `true`: they are the torn tail.
    fn is_cut_before(
        &mut self,
        file: FileId,
        batch: &FoundBatch,
        out: &mut Vec<RecoveryOutput>,
    ) -> bool {
        let seq = batch.header.seq;
        let is_missing = match self.expected {
            Some(expected) => seq != expected,
            None => batch.from < batch.header.offset,
        };
        if !is_missing {
            return false;
        }
        let expected = self.expected.unwrap_or(seq.saturating_sub(1)).min(seq);
        if self.is_torn(expected) {
            return true;
        }
        let what = format!("batches {expected} to {}", seq - 1);
        self.damaged_seq = seq - 1;
        self.report(file, batch.from, what, DamageKind::IdentityLost, out);
        // Where the segment's header is lost as well, the one that is written in its place begins with them: the next
        // boot is to miss them again, because what this one makes of it may never become durable.
        self.expected = Some(expected);
        // Some of the missing ones may never have been synced: what follows them doesn't count.
        seq - 1 > self.mark
    }

    /// Hands out a batch's records, with payloads if they were read. `true`: the batch is torn.
    fn hand_out(
        &mut self,
        file: FileId,
        batch: &FoundBatch,
        bytes: Option<&Bytes>,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) -> bool {
        let (header, offset) = (&batch.header, batch.header.offset);
        let Some(entries) = &batch.entries else {
            let torn = self.is_torn(header.seq);
            if !torn {
                let what = format!("directory of batch {}", header.seq);
                self.damaged_seq = header.seq;
                self.report(file, offset, what, DamageKind::IdentityLost, out);
            }
            return torn;
        };
        let payloads: Vec<Option<Bytes>> = match bytes {
            Some(bytes) => entries.iter().map(|entry| good_payload(entry, offset, bytes)).collect(),
            None => Vec::new(),
        };
        if payloads.iter().any(Option::is_none) && self.is_torn(header.seq) {
            return true;
        }
        if batch.copy_lost && header.seq <= self.mark {
            let what = format!("a copy of the identities of batch {}", header.seq);
            self.report(file, offset, what, DamageKind::CopyLost, out);
        }
        if header.seq > self.mark {
            self.rewrite(file, header, entries, &payloads, ops, out);
        }
        let mut payloads = payloads.into_iter();
        for entry in entries {
            let payload = match payloads.next() {
                None => RecoveredPayload::Stored,
                Some(Some(payload)) if self.config.keep_payloads_at_boot => {
                    RecoveredPayload::Kept(payload)
                }
                Some(Some(_)) => RecoveredPayload::Stored,
                Some(None) => {
                    let what = format!("payload of {:?}", entry.identity);
                    let kind = DamageKind::PayloadLost(entry.identity);
                    self.damaged_seq = header.seq;
                    self.report(file, entry.location.offset, what, kind, out);
                    RecoveredPayload::Lost
                }
            };
            let Entry { identity, note, location } = entry.clone();
            out.push(RecoveryOutput::Record(Recovered { identity, note, location, payload }));
        }
        false
    }

    /// Writes a whole batch beyond the mark again, byte for byte: it may stand in the page cache only.
    fn rewrite(
        &mut self,
        file: FileId,
        header: &BatchHeader,
        entries: &[Entry],
        payloads: &[Option<Bytes>],
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) {
        let records = entries.iter().zip(payloads).map(|(entry, payload)| Record {
            identity: entry.identity,
            note: entry.note.clone(),
            payload: payload.iter().cloned().collect(),
            payload_crc: Some(entry.location.crc),
        });
        let place = Place {
            segment: header.segment,
            offset: header.offset,
            seq: header.seq,
            synced_seq: header.synced_seq,
            // The batch keeps its length, whatever the block size was.
            block_bytes: header.batch_bytes,
        };
        let batch = record::encode_batch(records.collect(), place, &self.seal);
        assert_eq!(batch.header, *header, "a batch is encoded as it was");
        self.is_unsynced = true;
        let io = Io::Write { file, offset: header.offset, data: batch.data };
        self.issue(io, 1, ops, out);
    }

    fn note_batch(&mut self, walk: &Walk, header: &BatchHeader) {
        // Without a segment header or a batch before, the first one that is there begins the segment.
        self.expected.get_or_insert(header.seq);
        self.mark_kept = self.mark_kept.max(header.synced_seq);
        let stat = self.stat(walk);
        stat.used = header.end();
        stat.last_seq = header.seq;
        if header.records > 0 {
            self.record_seq = header.seq;
        }
    }

    /// What is known of a segment being walked.
    pub(super) fn stat(&mut self, walk: &Walk) -> &mut SegmentStat {
        let block = walk.block(&self.config);
        // With nothing to go by, the log goes on behind the mark (`finish`).
        let next_seq = self.expected.unwrap_or(self.mark + 1);
        let first_seq = walk.header.map_or(next_seq, |header| header.first_seq);
        let number = walk.file.file.number;
        self.known.entry(number).or_insert(SegmentStat {
            number,
            // Without a header nobody knows: the one before may have been removed.
            previous: walk.header.map_or(0, |header| header.previous),
            capacity: walk.file.bytes,
            used: block,
            first_seq,
            last_seq: first_seq.saturating_sub(1),
        })
    }

    /// No more batches in this segment.
    fn on_end(
        &mut self,
        index: usize,
        last: usize,
        walk: &Walk,
        (from, dirt, unreadable): (u64, Option<Range<u64>>, bool),
        out: &mut Vec<RecoveryOutput>,
    ) -> Flow {
        let file = walk.file.file;
        self.stat(walk);
        if index < last {
            self.walked = Some((file.number, from, dirt));
            self.phase = Phase::Walk(index + 1, last, None);
            return Flow::Continue;
        }
        let expected = self.expected.unwrap_or(self.mark + 1);
        if !self.is_torn(expected) {
            let what = format!("batches {expected} to {}", self.mark);
            self.report(file, from, what, DamageKind::IdentityLost, out);
        }
        if unreadable {
            return self.refuse_unreadable(file, from, out);
        }
        self.cut(index, walk, from, dirt)
    }
}

/// A payload that is as it was written.
fn good_payload(entry: &Entry, base: u64, batch: &Bytes) -> Option<Bytes> {
    let payload = record::payload_of(&entry.location, base, batch)?;
    entry.location.verify(payload).then(|| batch.slice_ref(payload))
}
