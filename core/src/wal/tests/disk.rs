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
    /// Operations that fail next, by what they are.
    pub(crate) full: bool,
    pub(crate) fail_syncs: bool,
    pub(crate) writes: u32,
    pub(crate) syncs: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    named: bool,
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
        let result = self.execute(&pending);
        Some((pending.op.op, result))
    }

    fn execute(&mut self, pending: &Pending) -> IoResult {
        match &pending.op.io {
            Io::Create { .. } | Io::Write { .. } if self.full => return Err(IoError::NoSpace),
            Io::Create { file, bytes } => {
                let file = self.files.entry(*file).or_default();
                file.bytes.resize(*bytes as usize, 0);
            }
            Io::Write { file, offset, data } => {
                self.writes += 1;
                let file = self.files.get_mut(file).ok_or(IoError::NotFound)?;
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
                let file = self.files.get(file).ok_or(IoError::NotFound)?;
                let start = (*offset as usize).min(file.bytes.len());
                let end = (start + *len as usize).min(file.bytes.len());
                return Ok(IoDone::Data(Bytes::copy_from_slice(&file.bytes[start..end])));
            }
            Io::Remove { file } => {
                let gone = self.files.remove(file).ok_or(IoError::NotFound)?;
                if gone.named {
                    self.removed.insert(*file, gone);
                }
            }
            Io::SyncDir => {
                self.removed.clear();
                self.files.values_mut().for_each(|file| file.named = true);
            }
            Io::Rename { .. } => unreachable!("a log renames nothing"),
        }
        Ok(IoDone::Ok)
    }

    /// What is in flight happens in part: any subset of a write's sectors.
    fn tear(&mut self, rng: &mut Rng) {
        for pending in core::mem::take(&mut self.pending) {
            let Io::Write { file, offset, data } = &pending.op.io else { continue };
            let Some(file) = self.files.get_mut(file) else { continue };
            let keep = rng.below(4);
            for (at, sector) in data.concat().chunks(SECTOR).enumerate() {
                if rng.below(4) <= keep {
                    file.write(*offset as usize + at * SECTOR, sector);
                }
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
        let file = File { durable: bytes.clone(), bytes, dirty: BTreeSet::new(), named: true };
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
