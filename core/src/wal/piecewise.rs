//! Reads that the device fails to do whole are done in pieces, so that recovery loses what is bad and no more.

use super::RecoveryOutput;
use super::recovery::Recovery;
use crate::machine::{FileId, OpIds};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// A read that fails is done again in pieces of this size, so that one bad sector costs no more than itself.
const PIECE_BYTES: u64 = 4096;

/// A read done in pieces because the device failed to do it whole.
#[derive(Clone, Debug)]
pub(super) struct Patchwork {
    file: FileId,
    range: Range<u64>,
    bytes: Vec<u8>,
    /// What could not be read in any way, as one range.
    bad: Range<u64>,
}

impl Recovery {
    /// A read has ended, whole or one piece of it; `None`: the device can't do it.
    pub(super) fn on_piece(
        &mut self,
        file: FileId,
        range: Range<u64>,
        bytes: Option<&Bytes>,
        ops: &mut OpIds,
        out: &mut Vec<RecoveryOutput>,
    ) -> Result<(), String> {
        let mut work = match (self.patchwork.take(), bytes) {
            (None, Some(bytes)) => return self.on_read(&range, bytes, 0..0, ops, out),
            (Some(work), _) => work,
            (None, None) if range.end - range.start <= PIECE_BYTES => {
                return self.on_read(&range, &Bytes::new(), range.clone(), ops, out);
            }
            (None, None) => {
                let bad = range.end..range.start;
                let whole = Patchwork { file, range: range.clone(), bytes: Vec::new(), bad };
                self.patchwork = Some(whole);
                self.read(file, &(range.start..range.start + PIECE_BYTES), ops, out);
                return Ok(());
            }
        };
        match bytes {
            Some(bytes) => work.bytes.extend_from_slice(bytes),
            None => work.bad = work.bad.start.min(range.start)..work.bad.end.max(range.end),
        }
        // Zeros for what can't be read, or lies behind the end of the file.
        work.bytes.resize(usize::try_from(range.end - work.range.start).unwrap_or(usize::MAX), 0);
        if range.end >= work.range.end {
            let bytes = Bytes::from(work.bytes);
            return self.on_read(&work.range, &bytes, work.bad, ops, out);
        }
        let piece = range.end..work.range.end.min(range.end + PIECE_BYTES);
        self.read(work.file, &piece, ops, out);
        self.patchwork = Some(work);
        Ok(())
    }
}
