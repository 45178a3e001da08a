//! One node's disk: latencies, completion in any order, and what a crash leaves.
//!
//! The promises are the contract's ([`Io`]) and not one more:
//! - A write is visible when it completes and durable when a sync **issued after that** completes. Until
//!   then a power loss keeps any subset of its 512-byte sectors, even when it has not completed.
//! - Names are durable after [`Io::SyncDir`]. A power loss keeps any of the later changes, or none.
//! - Operations complete in any order.
//! - A failed sync drops dirty data, and the next one says that all is well.
//! - A process that is killed leaves the page cache behind: nothing that had completed is lost, and
//!   nothing becomes durable by it.
//!
//! Rot flips bits in durable bytes at rest. Where it may, [`crate::checkers::durable`] says.

pub mod engine;
pub mod file;
mod kept;
mod page;

use crate::draw::{Domain, Draw, Ticks};
use bytes::Bytes;
use engine::Engine;
use file::{File, SECTOR};
use ironseed_core::machine::{FileId, FileKind, FoundFile, Io, IoDone, IoError, IoResult};
use ironseed_core::rows::{RowChange, RowIo};
use ironseed_core::types::OpId;
use std::collections::BTreeMap;

/// How fast a disk is. Nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// A typical write into the page cache.
    pub write: u64,
    /// A typical sync.
    pub sync: u64,
    /// A typical read.
    pub read: u64,
}

/// A fault that waits for the next operation of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trap {
    /// The next sync fails and drops dirty data.
    Sync,
    /// The next write fails; nothing is known of its range.
    Write,
    /// The next read fails, once.
    Read,
}

/// What a completed operation tells the world.
#[derive(Clone, Debug)]
pub struct Completion {
    /// For the machine.
    pub result: IoResult,
    /// The file of which more has become durable.
    pub synced: Option<FileId>,
    /// Names have become durable.
    pub names_synced: bool,
}

/// By this name it is said that more of what an engine keeps is durable, and that it is lost.
pub const ENGINE: FileId = FileId::new(FileKind::Engine, 0);

/// One node's disk.
#[derive(Clone, Debug)]
pub struct Disk {
    seed: u64,
    node: u64,
    speed: Speed,
    /// Multiplies every latency.
    slowness: u64,
    /// Whether every operation takes exactly the typical time.
    even: bool,
    /// Names the latencies of operations.
    issued: Ticks,
    /// Names what crashes and failures leave.
    crashes: Ticks,
    files: BTreeMap<Inode, File>,
    /// What an engine keeps on it, in files of its own.
    engine: Engine,
    next_inode: Inode,
    names: BTreeMap<FileId, Inode>,
    names_durable: BTreeMap<FileId, Inode>,
    /// Changes of names since the last directory sync that a sync could cover, oldest first.
    name_changes: Vec<NameChange>,
    name_changes_made: u64,
    in_flight: BTreeMap<OpId, InFlight>,
    /// No growth beyond this many bytes.
    capacity: Option<u64>,
    traps: BTreeMap<Trap, u32>,
}

type Inode = u64;

/// One create, rename or remove: it survives a power loss whole or not at all.
#[derive(Clone, Debug)]
struct NameChange {
    number: u64,
    sets: Vec<(FileId, Option<Inode>)>,
}

#[derive(Clone, Debug)]
struct InFlight {
    io: Io,
    /// For a sync: the file and what was complete of it. For a directory sync: the changes it covers.
    covers: Covers,
    /// When it would complete on a disk that is not slow, if this one was.
    unslowed: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Covers {
    Nothing,
    Writes { inode: Inode, writes: u64, len: usize },
    Names { upto: u64 },
    Rows { upto: u64 },
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub const fn new(seed: u64, node: u64, speed: Speed) -> Self {
        Self {
            seed,
            node,
            speed,
            slowness: 1,
            even: false,
            issued: Ticks::START,
            crashes: Ticks::START,
            files: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            names_durable: BTreeMap::new(),
            name_changes: Vec::new(),
            name_changes_made: 0,
            in_flight: BTreeMap::new(),
            capacity: None,
            traps: BTreeMap::new(),
            engine: Engine::new(),
        }
    }

    /// The same disk with every operation as fast as the others of its kind and size.
    #[must_use]
    pub fn even(self, even: bool) -> Self {
        Self { even, ..self }
    }

    /// Takes an operation on at this world time; it completes after the nanoseconds returned.
    pub fn issue(&mut self, now: u64, op: OpId, io: Io) -> u64 {
        let [tick, number] = self.issued.name(now);
        let mut draw = Draw::new(self.seed, Domain::Disk, &[self.node, tick, number]);
        let typical = match &io {
            Io::Write { data, .. } => self.speed.write + transfer(total(data)),
            Io::Read { len, .. } => self.speed.read + transfer(u64::from(*len)),
            Io::Rows(RowIo::Write { changes }) => {
                let bytes = changes.iter().map(RowChange::bytes).sum::<usize>();
                self.speed.write + transfer(bytes as u64)
            }
            Io::Rows(RowIo::Get { .. }) => self.speed.read,
            Io::Rows(RowIo::Scan { bytes_max, .. }) => {
                self.speed.read + transfer(u64::from(*bytes_max))
            }
            Io::Sync { .. } | Io::SyncDir | Io::Rows(RowIo::Sync) => self.speed.sync,
            Io::Create { .. } | Io::Rename { .. } | Io::Remove { .. } => self.speed.write * 2,
        };
        let covers = match &io {
            Io::Sync { file } => self.inode(*file).map_or(Covers::Nothing, |inode| {
                let file = &self.files[&inode];
                Covers::Writes { inode, writes: file.writes(), len: file.len() }
            }),
            Io::SyncDir => Covers::Names { upto: self.name_changes_made },
            Io::Rows(RowIo::Sync) => Covers::Rows { upto: self.engine.writes() },
            _ => Covers::Nothing,
        };
        let drawn = draw.latency(typical);
        let takes = if self.even { typical } else { drawn };
        let slowed = takes.saturating_mul(self.slowness);
        let unslowed = now + takes;
        let is_slowed = self.slowness > 1;
        let under_way = InFlight { io, covers, unslowed: is_slowed.then_some(unslowed) };
        let replaced = self.in_flight.insert(op, under_way);
        assert!(replaced.is_none(), "{op:?} is under way twice on n{}", self.node);
        slowed
    }

    /// Operations that were taken on while the disk was slow, and when they complete if it is so no more.
    pub fn slowed(&self) -> impl Iterator<Item = (OpId, u64)> {
        self.in_flight.iter().filter_map(|(op, under_way)| Some((*op, under_way.unslowed?)))
    }

    /// Carries an operation out at this world time. `None` when a crash has taken it.
    pub fn complete(&mut self, now: u64, op: OpId) -> Option<Completion> {
        let InFlight { io, covers, .. } = self.in_flight.remove(&op)?;
        let mut completion =
            Completion { result: Ok(IoDone::Ok), synced: None, names_synced: false };
        match (io, covers) {
            (Io::Create { file, bytes }, _) => completion.result = self.create(file, bytes),
            (Io::Write { file, offset, data }, _) => {
                completion.result = self.write(now, file, offset, &data);
            }
            (Io::Read { file, offset, len }, _) => completion.result = self.read(file, offset, len),
            (Io::Sync { .. }, Covers::Writes { inode, .. }) if self.spring(Trap::Sync) => {
                let mut draw = self.crash_draw(now);
                if let Some(file) = self.files.get_mut(&inode) {
                    file.drop_dirty(&mut draw);
                }
                completion.result = Err(IoError::Device);
            }
            (Io::Sync { file }, Covers::Writes { inode, writes, len }) => {
                if let Some(synced) = self.files.get_mut(&inode) {
                    synced.synced(writes, len);
                }
                completion.synced = Some(file);
            }
            (Io::Sync { .. }, _) => completion.result = Err(IoError::NotFound),
            (Io::SyncDir, Covers::Names { upto }) => {
                self.sync_names(upto);
                completion.names_synced = true;
            }
            (Io::SyncDir, _) => unreachable!("a directory sync always covers names"),
            (Io::Rows(RowIo::Sync), Covers::Rows { upto }) => {
                self.sync_rows(now, upto, &mut completion)
            }
            (Io::Rows(io), _) => completion.result = self.rows(io),
            (Io::Rename { from, to }, _) => {
                completion.result = match self.inode(from) {
                    Some(inode) => {
                        if from.kind == FileKind::Spare {
                            self.files.entry(inode).and_modify(File::begin_life);
                        }
                        self.change_names(vec![(from, None), (to, Some(inode))])
                    }
                    None => Err(IoError::NotFound),
                };
            }
            (Io::Remove { file }, _) => {
                completion.result = match self.inode(file) {
                    Some(_) => self.change_names(vec![(file, None)]),
                    None => Err(IoError::NotFound),
                };
            }
        }
        Some(completion)
    }

    /// What a driver finds at boot.
    #[must_use]
    pub fn found(&self) -> Vec<FoundFile> {
        let found = |(&file, inode): (&FileId, &Inode)| FoundFile {
            file,
            bytes: self.files[inode].len() as u64,
        };
        self.names.iter().map(found).collect()
    }

    /// What a process reads there now, if there is such a file.
    #[must_use]
    pub fn peek(&self, file: FileId, offset: u64, len: usize) -> Option<Bytes> {
        Some(self.files[&self.inode(file)?].read(offset as usize, len))
    }

    /// The same for somebody who is likely to come again.
    #[must_use]
    pub fn peek_again(&mut self, file: FileId, offset: u64, len: usize) -> Option<Bytes> {
        let inode = self.inode(file)?;
        Some(self.files.get_mut(&inode)?.read_again(offset as usize, len))
    }

    /// The power goes: unsynced sectors and names become anything that they may.
    pub fn lose_power(&mut self, now: u64) {
        let mut draw = self.crash_draw(now);
        self.interrupt(&mut draw);
        self.engine.settle();
        for file in self.files.values_mut() {
            file.lose_power(&mut draw);
        }
        let kept = draw.below(3);
        let prefix = draw.below(self.name_changes.len() as u64 + 1) as usize;
        for (position, change) in core::mem::take(&mut self.name_changes).iter().enumerate() {
            let keep = match kept {
                0 => false,
                1 => position < prefix,
                _ => draw.chance(1, 2),
            };
            if keep {
                change.apply(&mut self.names_durable);
            }
        }
        self.names.clone_from(&self.names_durable);
        self.forget_unnamed();
    }

    /// The process dies; the operating system lives on.
    pub fn kill(&mut self, now: u64) {
        let mut draw = self.crash_draw(now);
        self.interrupt(&mut draw);
    }

    /// Operations under way happen in part or not at all, and never complete.
    fn interrupt(&mut self, draw: &mut Draw) {
        let mut rows = Vec::new();
        for (_, InFlight { io, .. }) in core::mem::take(&mut self.in_flight) {
            match io {
                Io::Rows(RowIo::Write { changes }) => rows.push(changes),
                Io::Write { file, offset, data } => {
                    let how = draw.below(3);
                    let torn = draw.below(total(&data).div_ceil(SECTOR as u64) + 1) as usize;
                    let inode = self.inode(file);
                    if let Some(file) = inode.and_then(|inode| self.files.get_mut(&inode))
                        && how > 0
                        // A process that dies within a write past the end leaves a shorter file.
                        && offset as usize + total(&data) as usize <= file.len()
                    {
                        file.write(offset as usize, &data, |sector| match how {
                            1 => sector < torn,
                            _ => draw.chance(1, 2),
                        });
                    }
                }
                Io::Create { file, bytes } if draw.chance(1, 2) => {
                    let _ = self.create(file, bytes);
                }
                Io::Rename { from, to } if draw.chance(1, 2) => {
                    if let Some(inode) = self.inode(from) {
                        let _ = self.change_names(vec![(from, None), (to, Some(inode))]);
                    }
                }
                Io::Remove { file } if draw.chance(1, 2) && self.inode(file).is_some() => {
                    let _ = self.change_names(vec![(file, None)]);
                }
                _ => {}
            }
        }
        if !rows.is_empty() || self.engine.bytes() > 0 {
            self.engine.crash(rows, draw);
        }
    }

    /// What an engine keeps here.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A row of the engine turns out to be other bytes than were written. `false` if there is none.
    pub fn rot_row(&mut self, draw: &mut Draw) -> bool {
        self.engine.rot(draw)
    }

    fn rows(&mut self, io: RowIo) -> IoResult {
        match io {
            RowIo::Write { changes } => {
                let growth = changes.iter().map(RowChange::bytes).sum::<usize>() as u64;
                if self.spring(Trap::Write) {
                    return Err(IoError::Device);
                }
                if self.lacks_room(growth) {
                    return Err(IoError::NoSpace);
                }
                self.engine.write(changes);
                Ok(IoDone::Ok)
            }
            RowIo::Sync => unreachable!("a sync always covers rows"),
            RowIo::Get { .. } | RowIo::Scan { .. } if self.spring(Trap::Read) => {
                Err(IoError::Device)
            }
            RowIo::Get { space, key } => self.engine.get(space, &key),
            RowIo::Scan { space, from, before, bytes_max } => {
                self.engine.scan(space, &from, &before, bytes_max)
            }
        }
    }

    fn sync_rows(&mut self, now: u64, upto: u64, completion: &mut Completion) {
        if self.spring(Trap::Sync) {
            let mut draw = self.crash_draw(now);
            self.engine.crash(Vec::new(), &mut draw);
            completion.result = Err(IoError::Device);
        } else {
            self.engine.sync(upto);
            completion.synced = Some(ENGINE);
        }
    }

    /// The next operation of this kind fails.
    pub fn arm(&mut self, trap: Trap) {
        *self.traps.entry(trap).or_default() += 1;
    }

    /// Nothing fails any more, there is room, and it is as fast as it was.
    pub fn heal(&mut self) {
        self.traps.clear();
        self.capacity = None;
        self.slowness = 1;
    }

    /// Whether the disk refuses to grow beyond `spare` more bytes; `None` gives it room again.
    pub fn fill(&mut self, spare: Option<u64>) {
        self.capacity = spare.map(|spare| self.bytes() + spare);
    }

    /// Every operation from now on takes so many times as long.
    pub const fn slow(&mut self, times: u64) {
        self.slowness = times;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let files: u64 = self.names.values().map(|inode| self.files[inode].len() as u64).sum();
        files + self.engine.bytes()
    }

    /// Operations under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Files whose name a power loss at this moment keeps for certain.
    pub fn durable_files(&self) -> impl Iterator<Item = FileId> {
        self.names_durable.keys().copied()
    }

    /// What a power loss at this moment keeps for certain of a range; `None` if not even the name.
    #[must_use]
    pub fn read_durable(&self, file: FileId, offset: u64, len: usize) -> Option<Vec<u8>> {
        let inode = self.names_durable.get(&file)?;
        Some(self.files[inode].read_durable(offset as usize, len))
    }

    /// Flips a bit at rest. `false` if that byte is not at rest.
    pub fn flip(&mut self, file: FileId, offset: u64, bit: u32) -> bool {
        let inode = self.names_durable.get(&file).copied();
        let file = inode.and_then(|inode| self.files.get_mut(&inode));
        file.is_some_and(|file| file.flip(offset as usize, bit))
    }

    /// Makes one byte at rest another one, and says which it was. `None` if that byte is not at rest.
    pub fn change(&mut self, file: FileId, offset: u64, mask: u8) -> Option<u8> {
        let inode = self.names_durable.get(&file).copied();
        let file = inode.and_then(|inode| self.files.get_mut(&inode));
        file.and_then(|file| file.change(offset as usize, mask))
    }

    /// All bytes of the files that a power loss keeps for certain: each file, where a range of it begins, and how long that
    /// is. `written` leaves out those parts that nothing was ever written to.
    #[must_use]
    pub fn ranges(&self, written: bool) -> Vec<(FileId, u64, u64)> {
        let mut ranges = Vec::new();
        for (id, inode) in &self.names_durable {
            let file = &self.files[inode];
            match written {
                true => ranges.extend(file.written().map(|(at, len)| (*id, at as u64, len as u64))),
                false => ranges.push((*id, 0, file.len() as u64)),
            }
        }
        ranges.retain(|(.., len)| *len > 0);
        ranges
    }

    /// Forgets these files as if they had never been. Nothing is under way.
    pub fn lose(&mut self, is_lost: impl Fn(FileId) -> bool) {
        self.names.retain(|file, _| !is_lost(*file));
        self.names_durable.retain(|file, _| !is_lost(*file));
        if is_lost(ENGINE) {
            self.engine = Engine::new();
        }
        self.forget_unnamed();
    }

    /// Of a range at rest, the first `len` bytes turn out to be in another place, and none of it in its own: there is still
    /// what was there before the file was used again, or zeros. `false`, and nothing is changed, if there is no such place or something there is not at rest.
    pub fn misdirect(
        &mut self,
        file: FileId,
        range: core::ops::Range<u64>,
        to: FileId,
        offset: u64,
        len: u64,
    ) -> bool {
        let (start, end) = (range.start as usize, range.end as usize);
        let inodes = [file, to].map(|file| self.names_durable.get(&file).copied());
        let [Some(from), Some(into)] = inodes else { return false };
        let bytes = self.files[&from].read(start, end - start);
        let at_rest = self.files[&from].is_at_rest(start, end - start)
            && self.files[&into].is_at_rest(offset as usize, len as usize);
        let elsewhere = file != to || offset != range.start;
        if !at_rest || !elsewhere || bytes.len() < len as usize {
            return false;
        }
        if let Some(from) = self.files.get_mut(&from) {
            let before = from.before_life(start, end - start);
            from.put_at_rest(start, &before);
        }
        if let Some(into) = self.files.get_mut(&into) {
            into.put_at_rest(offset as usize, &bytes[..len as usize]);
        }
        true
    }

    fn inode(&self, file: FileId) -> Option<Inode> {
        self.names.get(&file).copied()
    }

    fn create(&mut self, file: FileId, bytes: u64) -> IoResult {
        let inode = self.inode(file);
        let has = inode.map_or(0, |inode| self.files[&inode].len() as u64);
        if self.lacks_room(bytes.saturating_sub(has)) {
            return Err(IoError::NoSpace);
        }
        let inode = match inode {
            Some(inode) => inode,
            None => {
                let inode = self.next_inode;
                self.next_inode += 1;
                self.files.insert(inode, File::default());
                self.change_names(vec![(file, Some(inode))])?;
                inode
            }
        };
        if let Some(file) = self.files.get_mut(&inode) {
            file.set_len(bytes as usize);
        }
        Ok(IoDone::Ok)
    }

    fn write(&mut self, now: u64, file: FileId, offset: u64, data: &[Bytes]) -> IoResult {
        let Some(inode) = self.inode(file) else { return Err(IoError::NotFound) };
        let failed = self.spring(Trap::Write);
        let len = self.files[&inode].len() as u64;
        let end = if total(data) > 0 { offset + total(data) } else { 0 };
        let full = self.lacks_room(end.saturating_sub(len));
        let mut draw = (failed || full).then(|| self.crash_draw(now));
        let file = self.files.get_mut(&inode).ok_or(IoError::NotFound)?;
        match &mut draw {
            None => file.write(offset as usize, data, |_| true),
            // Of a write that fails, any part may be there; but it can't grow a full disk.
            Some(draw) if !full => file.write(offset as usize, data, |_| draw.chance(1, 2)),
            Some(_) => {}
        }
        match (failed, full) {
            (true, _) => Err(IoError::Device),
            (_, true) => Err(IoError::NoSpace),
            _ => Ok(IoDone::Ok),
        }
    }

    fn read(&mut self, file: FileId, offset: u64, len: u32) -> IoResult {
        let Some(inode) = self.inode(file) else { return Err(IoError::NotFound) };
        if self.spring(Trap::Read) {
            return Err(IoError::Device);
        }
        let file = self.files.get_mut(&inode).ok_or(IoError::NotFound)?;
        Ok(IoDone::Data(file.read_again(offset as usize, len as usize)))
    }

    fn lacks_room(&self, growth: u64) -> bool {
        growth > 0 && self.capacity.is_some_and(|capacity| self.bytes() + growth > capacity)
    }

    fn spring(&mut self, trap: Trap) -> bool {
        match self.traps.get_mut(&trap) {
            Some(armed) if *armed > 0 => {
                *armed -= 1;
                true
            }
            _ => false,
        }
    }

    fn change_names(&mut self, sets: Vec<(FileId, Option<Inode>)>) -> IoResult {
        self.name_changes_made += 1;
        let change = NameChange { number: self.name_changes_made, sets };
        change.apply(&mut self.names);
        self.name_changes.push(change);
        Ok(IoDone::Ok)
    }

    fn sync_names(&mut self, upto: u64) {
        let later = self.name_changes.partition_point(|change| change.number <= upto);
        for change in self.name_changes.drain(..later) {
            change.apply(&mut self.names_durable);
        }
        self.forget_unnamed();
    }

    /// Drops files that no name can lead to any more.
    fn forget_unnamed(&mut self) {
        let pending = self.name_changes.iter().flat_map(|change| &change.sets);
        let named: std::collections::BTreeSet<Inode> = self
            .names
            .values()
            .chain(self.names_durable.values())
            .copied()
            .chain(pending.filter_map(|(_, inode)| *inode))
            .collect();
        self.files.retain(|inode, _| named.contains(inode));
    }

    fn crash_draw(&mut self, now: u64) -> Draw {
        let [tick, number] = self.crashes.name(now);
        Draw::new(self.seed, Domain::Crash, &[self.node, tick, number])
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<FileId, Inode>) {
        for &(file, inode) in &self.sets {
            match inode {
                Some(inode) => names.insert(file, inode),
                None => names.remove(&file),
            };
        }
    }
}

fn total(data: &[Bytes]) -> u64 {
    data.iter().map(|piece| piece.len() as u64).sum()
}

/// Nanoseconds that so many bytes take at 2 GB/s.
const fn transfer(bytes: u64) -> u64 {
    bytes / 2
}

#[cfg(test)]
mod tests;
