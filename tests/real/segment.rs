//! Where the records of a segment are, read from the file as `docs/formats.md` draws it and without the
//! code under test: so that a bit can be flipped where it is known what it belongs to.

use crate::Result;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Which log a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The write-ahead log of all groups.
    Wal,
    /// The records behind the groups' states.
    Table,
    /// The chunks.
    Chunk,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Wal => "wal-",
            Self::Table => "table-",
            Self::Chunk => "chunk-",
        }
    }
}

/// A record with a payload that is as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Byte of the file where the payload begins.
    pub(crate) offset: u64,
    /// The payload.
    pub(crate) payload: Vec<u8>,
    /// The kind of record: 2 in the write-ahead log is an entry.
    pub(crate) kind: u8,
    /// The group that it belongs to.
    pub(crate) group: u32,
    /// Its index; of a frame of the table log, that of the last entry applied.
    pub(crate) index: u64,
    /// The batch that it is in.
    seq: u64,
}

const BATCH_HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 32;

/// All records of a log that were synced, by what the log itself says: every one at or before its last
/// sync mark. What lies beyond it would pass for a torn tail.
pub(crate) fn records(data: &Path, kind: Kind) -> Result<Vec<Record>> {
    let broken = |error: std::io::Error| format!("{}: {error}", data.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(data).map_err(broken)? {
        let path = entry.map_err(broken)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(kind.prefix()) && name.ends_with(".seg") {
            paths.push(path);
        }
    }
    paths.sort();
    let (mut found, mut mark) = (Vec::new(), 0);
    for path in paths {
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        mark = mark.max(read_segment(&path, &bytes, &mut found).unwrap_or(0));
    }
    found.retain(|record| record.seq <= mark);
    Ok(found)
}

/// Reads one segment; returns its highest sync mark, or `None` if it was never written to.
fn read_segment(path: &Path, bytes: &[u8], found: &mut Vec<Record>) -> Option<u64> {
    bytes.strip_prefix(b"IRONSEG\n")?;
    let block = number(bytes, 12, 4)?;
    let mut mark = number(bytes, 40, 8)?.saturating_sub(1);
    let mut at = block;
    while at < bytes.len() as u64 {
        let rest = bytes.get(usize::try_from(at).ok()?..)?;
        let Some((header, end)) = read_batch(path, at, rest, found) else { break };
        mark = mark.max(header);
        at += end;
    }
    Some(mark)
}

/// Reads the batch that `bytes` begin with; returns its sync mark and its length.
fn read_batch(path: &Path, at: u64, bytes: &[u8], found: &mut Vec<Record>) -> Option<(u64, u64)> {
    bytes.strip_prefix(b"ISbh")?;
    let (seq, synced) = (number(bytes, 24, 8)?, number(bytes, 32, 8)?);
    let batch_bytes = number(bytes, 40, 4)?;
    let directory_bytes = usize::try_from(number(bytes, 44, 4)?).ok()?;
    let directory = bytes.get(BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + directory_bytes)?;
    let mut payload_at = BATCH_HEADER_BYTES + directory_bytes;
    let mut entry = directory;
    while !entry.is_empty() {
        let length = usize::try_from(number(entry, 24, 4)?).ok()?;
        let payload = bytes.get(payload_at..payload_at + length)?;
        // A payload that was damaged before is none.
        if u64::from(crc32fast::hash(payload)) == number(entry, 28, 4)? && length > 0 {
            found.push(Record {
                path: path.to_owned(),
                offset: at + payload_at as u64,
                payload: payload.to_vec(),
                kind: *entry.first()?,
                group: u32::try_from(number(entry, 4, 4)?).ok()?,
                index: number(entry, 8, 8)?,
                seq,
            });
        }
        payload_at += length;
        entry = entry.get(ENTRY_BYTES + usize::from(*entry.get(1)?)..)?;
    }
    Some((synced, batch_bytes))
}

/// The little-endian integer of `width` bytes at `at`.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + width)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

impl Record {
    /// Whether the payload holds these bytes.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        !bytes.is_empty() && self.payload.windows(bytes.len()).any(|window| window == bytes)
    }

    /// The file's name.
    pub(crate) fn file(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// How a log names the place.
    pub(crate) fn place(&self) -> String {
        format!("{} at byte {}", self.file(), self.offset)
    }

    /// Flips one bit in the middle of the payload.
    pub(crate) fn flip(&self) -> Result {
        let broken = |error: std::io::Error| format!("{}: {error}", self.path.display());
        let file = File::options().read(true).write(true).open(&self.path).map_err(broken)?;
        let at = self.offset + self.payload.len() as u64 / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).map_err(broken)?;
        file.write_all_at(&[byte[0] ^ 0x10], at).map_err(broken)?;
        file.sync_all().map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment of one block of 512 bytes for the header and one batch with two records.
    fn segment(synced: u64) -> Vec<u8> {
        let mut bytes = vec![0; 1536];
        bytes[..8].copy_from_slice(b"IRONSEG\n");
        bytes[12..16].copy_from_slice(&512_u32.to_le_bytes());
        bytes[40..48].copy_from_slice(&1_u64.to_le_bytes());
        for (at, seq, synced) in [(512, 1_u64, 0_u64), (1024, 2, synced)] {
            bytes[at..at + 4].copy_from_slice(b"ISbh");
            bytes[at + 24..at + 32].copy_from_slice(&seq.to_le_bytes());
            bytes[at + 32..at + 40].copy_from_slice(&synced.to_le_bytes());
            bytes[at + 40..at + 44].copy_from_slice(&512_u32.to_le_bytes());
        }
        // The first batch: a record with a note of 3 bytes and 5 of payload, and one of 4.
        bytes[512 + 44] = 67;
        for (at, note, group, payload) in
            [(576, 3, 7_u8, b"hello".as_slice()), (576 + 35, 0, 8, b"rest")]
        {
            bytes[at..at + 2].copy_from_slice(&[2, note]);
            (bytes[at + 4], bytes[at + 8]) = (group, 9);
            bytes[at + 24] = payload.len() as u8;
            bytes[at + 28..at + 32].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        }
        bytes[643..652].copy_from_slice(b"hellorest");
        bytes
    }

    #[test]
    fn records_are_found_where_they_stand_once_they_are_synced() {
        let mut found = Vec::new();
        let path = Path::new("wal-0000000000000001.seg");
        assert_eq!(read_segment(path, &segment(1), &mut found), Some(1));
        let seen: Vec<_> =
            found.iter().map(|it| (it.offset, it.kind, it.group, it.index)).collect();
        assert_eq!(seen, [(643, 2, 7, 9), (648, 2, 8, 9)]);
        assert_eq!((&found[0].payload[..], found[0].seq), (&b"hello"[..], 1));
        assert!(found[0].holds(b"ell") && !found[0].holds(b"rest"));
        assert_eq!(found[1].place(), "wal-0000000000000001.seg at byte 648");
        assert_eq!(read_segment(path, &segment(0), &mut Vec::new()), Some(0));
        assert_eq!(read_segment(path, &[0; 512], &mut Vec::new()), None);
    }

    #[test]
    fn a_damaged_payload_is_no_record() {
        let mut bytes = segment(1);
        bytes[644] ^= 1;
        let mut found = Vec::new();
        read_segment(Path::new("wal"), &bytes, &mut found);
        assert_eq!(found.iter().map(|it| it.group).collect::<Vec<_>>(), [8]);
    }
}
