//! `wal dump`: every batch and every record, as they stand in the files.

use super::logs::{KINDS, Segment};
use super::store::Store;
use super::{Log, Progress, ToolError, findings, words};
use ironseed_core::kv::frame;
use ironseed_core::machine::{FileId, FileKind};
use ironseed_core::node::offline::WalRecord;
use ironseed_core::types::ChunkHash;
use ironseed_core::wal::reading::{self, Flaw, ReadBatch, Reading};
use ironseed_core::wal::record::Entry;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// What is printed, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct DumpOptions {
    /// One log only.
    pub log: Option<Log>,
    /// Records of one group only, and batches that have such.
    pub group: Option<u32>,
    /// Begin at this segment of each log.
    pub from: u64,
    /// One JSON object a line.
    pub json: bool,
}

/// A line.
#[derive(Serialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
enum Line {
    Segment {
        file: String,
        segment: u64,
        bytes: u64,
        /// Of the header, unless it is damaged or was never written.
        header: Option<Header>,
    },
    Batch {
        file: String,
        segment: u64,
        offset: u64,
        seq: u64,
        synced_seq: u64,
        bytes: u32,
        records: u32,
    },
    Record {
        file: String,
        segment: u64,
        offset: u64,
        seq: u64,
        group: u32,
        kind: String,
        index: u64,
        term: u64,
        bytes: u32,
        says: String,
    },
    Damage {
        file: String,
        offset: u64,
        what: String,
    },
    End {
        file: String,
        /// The end of the last batch.
        offset: u64,
        /// Where it isn't zero behind that.
        not_zero: Option<(u64, u64)>,
    },
}

#[derive(Serialize)]
struct Header {
    version: u16,
    store: String,
    block_bytes: u32,
    first_seq: u64,
}

/// Prints the logs of a directory. True if something in them is damaged.
///
/// # Errors
/// The directory is refused, a log is of another store or version, or nobody reads the output.
pub fn dump(path: &Path, options: &DumpOptions, out: &mut dyn Write) -> Result<bool, ToolError> {
    let store = Store::open(path)?;
    let id = store.store_id()?;
    let chosen = options.log.map(Log::kind);
    let mut damaged = false;
    for kind in KINDS.into_iter().filter(|kind| chosen.is_none_or(|chosen| chosen == *kind)) {
        for file in store.segments(kind) {
            if file.file.number >= options.from {
                let segment = Segment::new(&store, id, file);
                damaged |= Dump { options, out: &mut *out, damaged: false }.segment(segment)?;
            }
        }
    }
    Ok(damaged)
}

struct Dump<'a> {
    options: &'a DumpOptions,
    out: &'a mut dyn Write,
    damaged: bool,
}

impl Dump<'_> {
    fn segment(mut self, mut segment: Segment<'_>) -> Result<bool, ToolError> {
        let file = segment.file.file;
        loop {
            match segment.next(&Progress::hidden()) {
                Reading::Read(_) => unreachable!("a segment feeds its reader"),
                Reading::Refused(why) => return Err(ToolError::Store(why)),
                Reading::Start { header, .. } => {
                    let header = header.map(|header| Header {
                        version: header.version,
                        store: format!("{:?}", ironseed_core::types::StoreId(header.store)),
                        block_bytes: header.block_bytes,
                        first_seq: header.first_seq,
                    });
                    let (segment, bytes) = (file.number, segment.file.bytes);
                    self.say(&Line::Segment { file: file.to_string(), segment, bytes, header })?;
                }
                Reading::Batch(batch) => self.batch(&segment, &batch)?,
                Reading::End { from, dirt, unreadable } => {
                    if unreadable {
                        self.damage(file, from, "the device can't read what is here".into())?;
                    }
                    let not_zero = dirt.map(|dirt| (dirt.start, dirt.end));
                    self.say(&Line::End { file: file.to_string(), offset: from, not_zero })?;
                    return Ok(self.damaged);
                }
            }
        }
    }

    fn batch(&mut self, segment: &Segment<'_>, batch: &ReadBatch) -> Result<(), ToolError> {
        let (file, header) = (segment.file.file, &batch.header);
        if batch.from < header.offset {
            let what = format!("no batch up to byte {}", header.offset);
            self.damage(file, batch.from, what)?;
        }
        let entries = batch.entries.as_deref().unwrap_or_default();
        let wanted =
            |entry: &Entry| self.options.group.is_none_or(|group| group == entry.identity.group.0);
        if self.options.group.is_some() && !entries.iter().any(wanted) {
            return Ok(());
        }
        self.say(&Line::Batch {
            file: file.to_string(),
            segment: header.segment,
            offset: header.offset,
            seq: header.seq,
            synced_seq: header.synced_seq,
            bytes: header.batch_bytes,
            records: header.records,
        })?;
        for flaw in segment.reader.flaws(batch) {
            match flaw {
                Flaw::Frame(offset) => {
                    let what =
                        "a copy of the batch's identities, or its padding; the other copy is good";
                    self.damage(file, offset, what.into())?;
                }
                Flaw::Directory => {
                    self.damage(file, header.offset, "both directories of the batch".into())?;
                }
                Flaw::Payload(at) => {
                    if let Some(entry) = entries.get(at) {
                        let what = findings::payload_of(file.kind, &entry.identity);
                        self.damage(file, entry.location.offset, what)?;
                    }
                }
            }
        }
        for entry in entries {
            if self.options.group.is_none_or(|group| group == entry.identity.group.0) {
                self.record(file, batch, entry)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, file: FileId, batch: &ReadBatch, entry: &Entry) -> Result<(), ToolError> {
        let identity = entry.identity;
        let payload = reading::payload(batch, entry);
        let (kind, says) = match file.kind {
            FileKind::Wal => {
                let record = WalRecord::of(&identity, payload);
                (record.name().to_owned(), words::of_record(&record))
            }
            FileKind::Table => ("frame".into(), of_frame(payload)),
            _ => ("chunk".into(), of_chunk(entry)),
        };
        self.say(&Line::Record {
            file: file.to_string(),
            segment: entry.location.segment,
            offset: entry.location.offset,
            seq: batch.header.seq,
            group: identity.group.0,
            kind,
            index: identity.index.0,
            term: identity.term.0,
            bytes: entry.location.bytes,
            says,
        })
    }

    fn damage(&mut self, file: FileId, offset: u64, what: String) -> Result<(), ToolError> {
        self.damaged = true;
        self.say(&Line::Damage { file: file.to_string(), offset, what })
    }

    fn say(&mut self, line: &Line) -> Result<(), ToolError> {
        if self.options.json {
            serde_json::to_writer(&mut *self.out, line).map_err(std::io::Error::from)?;
            return Ok(writeln!(self.out)?);
        }
        Ok(match line {
            Line::Segment { file, bytes, header: Some(header), .. } => writeln!(
                self.out,
                "{file}: {bytes} bytes, version {}, store {}, blocks of {}, begins with batch {}",
                header.version, header.store, header.block_bytes, header.first_seq
            ),
            Line::Segment { file, bytes, header: None, .. } => {
                writeln!(self.out, "{file}: {bytes} bytes, no header")
            }
            Line::Batch { offset, seq, synced_seq, bytes, records, .. } => writeln!(
                self.out,
                "  at {offset}: batch {seq}, synced through {synced_seq}, {bytes} bytes, {records} records"
            ),
            Line::Record { offset, group, kind, index, term, bytes, says, .. } => writeln!(
                self.out,
                "    at {offset}: group {group} {kind} {index}@{term}, {bytes} bytes: {says}"
            ),
            Line::Damage { offset, what, .. } => {
                writeln!(self.out, "    at {offset}: DAMAGED: {what}")
            }
            Line::End { offset, not_zero: None, .. } => {
                writeln!(self.out, "  at {offset}: end")
            }
            Line::End { offset, not_zero: Some((from, to)), .. } => writeln!(
                self.out,
                "  at {offset}: end; what is not zero from {from} to {to} is no batch"
            ),
        }?)
    }
}

fn of_frame(payload: Option<&[u8]>) -> String {
    let Some(payload) = payload else { return "payload damaged".into() };
    match frame::summary(payload) {
        Ok(frame) => format!(
            "{}, {} records, generation {} number {}",
            frame.what, frame.records, frame.generation, frame.number
        ),
        Err(error) => format!("no frame: {error}"),
    }
}

fn of_chunk(entry: &Entry) -> String {
    match entry.note.as_ref().try_into() {
        Ok(hash) => format!("chunk {}", hex(&ChunkHash(hash))),
        Err(_) => "a record without a hash".into(),
    }
}

fn hex(hash: &ChunkHash) -> String {
    hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
}
