//! A disk small enough to reason about: sectors that are volatile until synced, names that are volatile
//! until the directory is, completions in any order.

use crate::machine::{FileId, FoundFile, Io, IoDone, IoError, IoOp, IoResult};
use crate::rng::Rng;
use crate::types::OpId;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<FileId, File>,
    /// Files whose removal isn't durable: they may come back.
    removed: BTreeMap<FileId, File>,
    pending: Vec<Pending>,
    /// No space for anything. What a write leaves behind is anybody's guess.
    pub(crate) full: bool,
    /// No space for new files.
    pub(crate) full_for_new: bool,
    /// So many writes find no space after everything of them has landed.
    pub(crate) late_refusals: u32,
    pub(crate) fail_syncs: bool,
    /// So many reads that touch this byte fail.
    pub(crate) bad: Option<(FileId, u64, u32)>,
    pub(crate) writes: u32,
    pub(crate) syncs: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    named: bool,
    /// The name that it may have again, because the rename is not durable.
    was: Option<FileId>,
}

#[derive(Clone, Debug)]
struct Pending {
    op: IoOp,
    /// What a sync makes durable: sectors as they were when it was issued.
    synced: Vec<(usize, Vec<u8>)>,
    length: usize,
}

impl File {
    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(data);
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    fn sector(&self, sector: usize) -> Vec<u8> {
        let end = ((sector + 1) * SECTOR).min(self.bytes.len());
        self.bytes[sector * SECTOR..end].to_vec()
    }
}

impl Disk {
    pub(crate) fn submit(&mut self, op: IoOp) {
        let mut pending = Pending { op, synced: Vec::new(), length: 0 };
        if let Io::Sync { file } = pending.op.io
            && let Some(file) = self.files.get(&file)
        {
            pending.synced = file.dirty.iter().map(|at| (*at, file.sector(*at))).collect();
            pending.length = file.bytes.len();
        }
        self.pending.push(pending);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Completes any one of the operations in flight.
    pub(crate) fn complete(&mut self, rng: &mut Rng) -> Option<(OpId, IoResult)> {
        if self.pending.is_empty() {
            return None;
        }
        let which = rng.below(self.pending.len() as u64) as usize;
        let pending = self.pending.swap_remove(which);
        let result = self.execute(&pending, rng);
        Some((pending.op.op, result))
    }

    fn execute(&mut self, pending: &Pending, rng: &mut Rng) -> IoResult {
        match &pending.op.io {
            Io::Create { .. } if self.full || self.full_for_new => return Err(IoError::NoSpace),
            Io::Write { file, offset, data } if self.full || self.late_refusals > 0 => {
                let keep = if self.full { rng.below(4) } else { 3 };
                self.late_refusals = self.late_refusals.saturating_sub(1);
                self.write_some(*file, *offset as usize, &data.concat(), keep, rng);
                return Err(IoError::NoSpace);
            }
            Io::Create { file, bytes } => {
                let file = self.files.entry(*file).or_default();
                file.bytes.resize(*bytes as usize, 0);
            }
            Io::Write { file, offset, data } => {
                self.writes += 1;
                let file = self.files.get_mut(file).ok_or(IoError::NotFound)?;
                assert!(file.was.is_none(), "written to before its name is durable");
                file.write(*offset as usize, &data.concat());
            }
            Io::Sync { .. } if self.fail_syncs => return Err(IoError::Device),
            Io::Sync { file } => {
                self.syncs += 1;
                let file = self.files.get_mut(file).ok_or(IoError::NotFound)?;
                file.durable.resize(file.durable.len().max(pending.length), 0);
                for (at, bytes) in &pending.synced {
                    let start = at * SECTOR;
                    file.durable[start..start + bytes.len()].copy_from_slice(bytes);
                    if file.sector(*at) == *bytes {
                        file.dirty.remove(at);
                    }
                }
            }
            Io::Read { file, offset, len } => {
                if let Some((bad, at, times @ 1..)) = &mut self.bad
                    && bad == file
                    && (*offset..*offset + u64::from(*len)).contains(at)
                {
                    *times -= 1;
                    return Err(IoError::Device);
                }
                let file = self.files.get(file).ok_or(IoError::NotFound)?;
                let start = (*offset as usize).min(file.bytes.len());
                let end = (start + *len as usize).min(file.bytes.len());
                return Ok(IoDone::Data(Bytes::copy_from_slice(&file.bytes[start..end])));
            }
            Io::Remove { file } => {
                let gone = self.files.remove(file).ok_or(IoError::NotFound)?;
                assert_eq!(gone.was, None, "{file} is removed and its name isn't durable");
                if gone.named {
                    self.removed.insert(*file, gone);
                }
            }
            Io::SyncDir => {
                self.removed.clear();
                for file in self.files.values_mut() {
                    (file.named, file.was) = (true, None);
                }
            }
            Io::Rename { from, to } => self.rename(*from, *to)?,
            Io::Rows(_) => unreachable!("logs have no rows"),
        }
        Ok(IoDone::Ok)
    }

    fn rename(&mut self, from: FileId, to: FileId) -> Result<(), IoError> {
        let mut file = self.files.remove(&from).ok_or(IoError::NotFound)?;
        assert!(file.named && file.was.is_none(), "{from} has no durable name to be renamed from");
        file.was = Some(from);
        assert!(self.files.insert(to, file).is_none(), "{to} is replaced");
        Ok(())
    }

    /// What is in flight happens in part: any subset of a write's sectors.
    fn tear(&mut self, rng: &mut Rng) {
        for pending in core::mem::take(&mut self.pending) {
            match &pending.op.io {
                Io::Write { file, offset, data } => {
                    let keep = rng.below(4);
                    self.write_some(*file, *offset as usize, &data.concat(), keep, rng);
                }
                Io::Rename { from, to } if rng.chance(1, 2) => {
                    // A file that is not there is not renamed.
                    let _ = self.rename(*from, *to);
                }
                _ => {}
            }
        }
    }

    /// Writes each sector with a chance of `keep + 1` in 4.
    fn write_some(&mut self, file: FileId, offset: usize, data: &[u8], keep: u64, rng: &mut Rng) {
        let Some(file) = self.files.get_mut(&file) else { return };
        assert!(file.was.is_none(), "written to before its name is durable");
        for (at, sector) in data.chunks(SECTOR).enumerate() {
            if rng.below(4) <= keep {
                file.write(offset + at * SECTOR, sector);
            }
        }
    }

    /// The process dies; the operating system lives.
    pub(crate) fn kill(&mut self, rng: &mut Rng) {
        self.tear(rng);
    }

    /// The power goes: any subset of what isn't synced is lost.
    pub(crate) fn power_loss(&mut self, rng: &mut Rng) {
        self.tear(rng);
        for (id, file) in core::mem::take(&mut self.removed) {
            if rng.chance(1, 2) {
                self.files.insert(id, file);
            }
        }
        self.files.retain(|_, file| file.named || rng.chance(1, 2));
        for (id, mut file) in core::mem::take(&mut self.files) {
            let was = file.was.take().filter(|_| rng.chance(1, 2));
            self.files.insert(was.unwrap_or(id), file);
        }
        for file in self.files.values_mut() {
            file.named = true;
            if rng.chance(1, 2) {
                file.durable.resize(file.bytes.len(), 0);
            }
            let keep = rng.below(4);
            for at in core::mem::take(&mut file.dirty) {
                if rng.below(4) <= keep {
                    let bytes = file.sector(at);
                    let end = at * SECTOR + bytes.len();
                    file.durable.resize(file.durable.len().max(end), 0);
                    file.durable[at * SECTOR..end].copy_from_slice(&bytes);
                }
            }
            file.bytes = file.durable.clone();
        }
    }

    pub(crate) fn found(&self) -> Vec<FoundFile> {
        let found =
            |(file, it): (&FileId, &File)| FoundFile { file: *file, bytes: it.bytes.len() as u64 };
        self.files.iter().map(found).collect()
    }

    /// Puts a file there as if it had always been.
    pub(crate) fn place(&mut self, id: FileId, bytes: Vec<u8>) {
        let file =
            File { durable: bytes.clone(), bytes, dirty: BTreeSet::new(), named: true, was: None };
        self.files.insert(id, file);
    }

    pub(crate) fn zero(&mut self, id: FileId, range: core::ops::Range<usize>) {
        let file = self.files.get_mut(&id).expect("the file is there");
        let zeros = vec![0; range.len()];
        file.bytes[range.clone()].copy_from_slice(&zeros);
        file.durable.resize(file.bytes.len(), 0);
        file.durable[range].copy_from_slice(&zeros);
    }

    pub(crate) fn flip(&mut self, id: FileId, at: usize, mask: u8) {
        let file = self.files.get_mut(&id).expect("the file is there");
        file.bytes[at] ^= mask;
    }
}
