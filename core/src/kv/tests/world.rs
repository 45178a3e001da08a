//! A replica with a table log of small segments, which crashes, cleans and installs snapshots; and
//! a group's log of random entries for several replicas to apply.

use crate::codec::{self, Octets};
use crate::kv::api::Expect;
use crate::kv::batch::Seat;
use crate::kv::command::{Command, KvWrite, MEANING_FIRST, Op, SessionId, SessionTag};
use crate::kv::frame::{Frame, FrameError, Place, Placed};
use crate::kv::index::{IndexCopy, IndexHead, IndexLoading, IndexRecord};
use crate::kv::replay::{Broken, Replay};
use crate::kv::snapshot::{Export, Import};
use crate::kv::space;
use crate::kv::state::State;
use crate::kv::table::RecordLocation;
use crate::planted::Planted;
use crate::rng::Rng;
use crate::types::{GroupId, Incarnation, Index, NodeId, Position, Term, Version};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;

pub(super) fn seat() -> Seat {
    Seat { group: GroupId(4), roster: Arc::default(), planted: Planted::NONE }
}

/// A segment is closed above this, so that a run has many.
const SEGMENT_BYTES: usize = 3_000;

/// An entry of the group's log.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Command(Bytes),
    /// A batch drawn from this seed: heads changed without their bodies, keys written twice.
    Edit(u64),
    Noop,
}

impl Entry {
    pub(super) fn apply(&self, state: &mut State, position: Position) {
        match self {
            Self::Command(command) => drop(state.apply(position, command)),
            Self::Edit(seed) => edit(state, position, *seed),
            Self::Noop => state.advance(position),
        }
    }
}

fn edit(state: &mut State, position: Position, seed: u64) {
    let mut rng = Rng::new(seed);
    state.apply_edit(position, |batch| {
        for _ in 0..rng.between(1, 4) {
            let key = space::kv(&user_key(&mut rng));
            let head = vec![9; rng.between(1, 20) as usize];
            match rng.below(4) {
                0 => batch.remove(&key),
                1 => {
                    batch.put(&key, head, vec![rng.below(256) as u8; rng.below(90) as usize].into())
                }
                _ => batch.put_head(&key, head),
            }
        }
    });
}

fn user_key(rng: &mut Rng) -> Vec<u8> {
    format!("k{}", rng.below(40)).into_bytes()
}

/// A random entry; sessions repeat themselves.
pub(super) fn entry(rng: &mut Rng) -> Entry {
    match rng.below(20) {
        0 => return Entry::Noop,
        1..4 => return Entry::Edit(rng.next()),
        4 => return Entry::Command(vec![1, 0, 77].into()),
        5 => return Entry::Command(vec![9, 0, 0].into()),
        _ => {}
    }
    let node = NodeId(rng.between(1, 2) as u32);
    let session = SessionId { node, incarnation: Incarnation(rng.between(1, 3)) };
    let key = Octets::from(user_key(rng));
    let expect = match rng.below(5) {
        0 => Expect::Absent,
        1 => Expect::Version(Version(rng.below(300))),
        _ => Expect::Any,
    };
    let op = match rng.below(24) {
        0 => Op::OpenSession { session },
        1 if rng.chance(1, 4) => Op::ExpireSessions { sessions: vec![session] },
        2..6 => Op::Kv(KvWrite::Delete { key, expect }),
        _ => {
            let value = vec![rng.below(256) as u8; rng.below(200) as usize].into();
            Op::Kv(KvWrite::Put { key, value, expect })
        }
    };
    let first_incomplete = rng.below(100);
    let seq = first_incomplete + rng.below(20);
    let tag = rng.chance(2, 3).then_some(SessionTag { session, seq, first_incomplete });
    let command = Command { meaning: MEANING_FIRST, wall: rng.below(1_000), session: tag, op };
    Entry::Command(command.encode().unwrap())
}

/// Segments as bytes, frames as written.
#[derive(Clone, Default)]
pub(super) struct TableLog {
    pub(super) segments: BTreeMap<u64, Vec<u8>>,
    pub(super) frames: Vec<(Place, usize)>,
    /// How many of `frames` are synced.
    pub(super) durable: usize,
}

impl TableLog {
    fn append(&mut self, frame: &Frame) -> Place {
        let (segment, bytes) = self.current();
        let place = Place { segment, offset: bytes.len() as u64 };
        frame.payload.iter().for_each(|piece| bytes.extend_from_slice(piece));
        self.frames.push((place, frame.bytes() as usize));
        place
    }

    /// Other groups of the node write.
    pub(super) fn append_of_others(&mut self, count: usize) {
        let (_, bytes) = self.current();
        bytes.resize(bytes.len() + count, 0xee);
    }

    /// The segment that is written.
    fn current(&mut self) -> (u64, &mut Vec<u8>) {
        let last = self.segments.last_key_value();
        let (mut segment, full) =
            last.map_or((0, true), |(n, bytes)| (*n, bytes.len() > SEGMENT_BYTES));
        if full {
            segment += 1;
        }
        (segment, self.segments.entry(segment).or_default())
    }

    pub(super) fn payload(&self, at: usize) -> Bytes {
        let (place, bytes) = self.frames[at];
        let start = place.offset as usize;
        Bytes::copy_from_slice(&self.segments[&place.segment][start..start + bytes])
    }

    pub(super) fn read(&self, location: RecordLocation) -> Option<Bytes> {
        let start = location.offset as usize;
        let bytes =
            self.segments.get(&location.segment)?.get(start..start + location.bytes as usize)?;
        Some(Bytes::copy_from_slice(bytes)).filter(|bytes| location.verify(bytes))
    }

    /// Loses what comes after the first `keep` frames.
    fn cut(&mut self, keep: usize) {
        for (place, _) in self.frames.split_off(keep).into_iter().rev() {
            let bytes = self.segments.get_mut(&place.segment).unwrap();
            bytes.truncate(place.offset as usize);
            if bytes.is_empty() {
                self.segments.remove(&place.segment);
            }
        }
        self.durable = keep;
    }

    fn remove(&mut self, segment: u64) {
        let gone = self.frames.iter().filter(|(place, _)| place.segment == segment).count();
        assert!(self.durable >= gone && self.segments.len() > 1);
        self.frames.drain(..gone);
        self.durable -= gone;
        self.segments.remove(&segment);
    }

    pub(super) fn replay(&self) -> (Replay, Vec<FrameError>) {
        let mut replay = Replay::new(seat());
        let mut errors = Vec::new();
        for at in 0..self.frames.len() {
            match replay.push(self.frames[at].0, &self.payload(at)) {
                Ok(rubble) => assert!(rubble.is_none_or(|mut rubble| rubble.clear(usize::MAX))),
                Err(error) => errors.push(error),
            }
        }
        (replay, errors)
    }
}

/// A replica of the group.
pub(super) struct Replica {
    pub(super) state: State,
    pub(super) log: TableLog,
    /// Frames whose write has not completed.
    writing: VecDeque<(Placed, Place)>,
    import: Option<(Import, Export, TableLog)>,
    /// A snapshot of the index that is being written, and the segment from which a boot would read.
    copy: Option<(u64, IndexCopy)>,
    /// The one that counts.
    index: Option<IndexFile>,
}

/// A snapshot of the index as bytes.
struct IndexFile {
    first: u64,
    head: Vec<u8>,
    blocks: Vec<Vec<u8>>,
}

impl IndexFile {
    fn of(first: u64, copy: &IndexCopy, rng: &mut Rng) -> Self {
        let (mut blocks, mut after) = (Vec::new(), None);
        while let Some((records, last)) =
            copy.slice(after.as_deref(), rng.between(1, 20) as usize, 400)
        {
            blocks.push(codec::encode(&records));
            after = Some(last);
        }
        Self { first, head: codec::encode(&copy.head()), blocks }
    }

    fn load(&self) -> Replay {
        let mut loading = IndexLoading::new(codec::decode(&self.head).unwrap());
        for block in &self.blocks {
            let records: Vec<IndexRecord<'_>> = codec::decode_borrowed(block).unwrap();
            assert!(loading.add(&records));
        }
        let (head, table) = loading.finish().unwrap();
        assert!(table.is_consistent());
        Replay::loaded(seat(), &head, table)
    }
}

/// How often each thing happened.
#[derive(Default, Debug)]
pub(super) struct Counts {
    pub(super) crashes: u32,
    pub(super) cleaned: u32,
    pub(super) marks: u32,
    pub(super) cleaned_importing: u32,
    pub(super) installed: u32,
    pub(super) abandoned: u32,
    pub(super) indexed: u32,
    pub(super) loaded: u32,
}

impl Replica {
    pub(super) fn new() -> Self {
        let (log, writing) = (TableLog::default(), VecDeque::new());
        let state = State::new(seat());
        Self { state, log, writing, import: None, copy: None, index: None }
    }

    pub(super) const fn is_importing(&self) -> bool {
        self.import.is_some()
    }

    pub(super) fn append(&mut self, frame: Option<Frame>) {
        if let Some(frame) = frame {
            let place = self.log.append(&frame);
            self.writing.push_back((frame.placed, place));
        }
    }

    /// Completes up to `count` writes.
    pub(super) fn complete(&mut self, count: usize) {
        for _ in 0..count {
            let Some((placed, place)) = self.writing.pop_front() else { return };
            self.state.settle(&placed, place);
            if let Some((import, ..)) = &mut self.import {
                import.settle(&placed, place);
            }
            if let Some((_, copy)) = &mut self.copy {
                copy.settle(&placed, place);
            }
        }
    }

    /// Begins a snapshot of the index.
    pub(super) fn begin_index(&mut self) {
        let last = self.log.segments.last_key_value().map(|(segment, _)| *segment);
        let Some(first) = last.filter(|_| !self.is_importing()) else { return };
        let frame = self.state.take_frame();
        self.append(frame);
        self.copy = Some((first, self.state.index_copy()));
    }

    /// Ends it, if everything in it is written.
    pub(super) fn end_index(&mut self, rng: &mut Rng, counts: &mut Counts) {
        let Some((first, copy)) = self.copy.take_if(|(_, copy)| copy.is_settled()) else { return };
        self.sync();
        self.index = Some(IndexFile::of(first, &copy, rng));
        counts.indexed += 1;
    }

    /// What a boot makes of the snapshot of the index; `None` if segments are gone that it would read.
    fn boot_by_index(&self) -> Option<State> {
        let index = self.index.as_ref()?;
        if !self.log.segments.contains_key(&index.first) {
            return None;
        }
        let mut replay = index.load();
        for at in 0..self.log.frames.len() {
            let place = self.log.frames[at].0;
            if place.segment >= index.first {
                replay.push(place, &self.log.payload(at)).unwrap();
            }
        }
        let state = replay.finish().unwrap();
        for segment in state.table().segments() {
            assert!(self.log.segments.contains_key(&segment), "{segment} is gone");
        }
        Some(state)
    }

    pub(super) fn sync(&mut self) {
        self.complete(usize::MAX);
        self.log.durable = self.log.frames.len();
    }

    /// Cleans the oldest segment, removing it once nothing needs it.
    pub(super) fn clean(&mut self, counts: &mut Counts) {
        let Some((segment, _)) = self.log.segments.first_key_value() else { return };
        let segment = *segment;
        self.complete(usize::MAX);
        let importing = self.import.as_ref().is_some_and(|(import, ..)| import.needs(segment));
        if self.log.segments.len() < 3 || importing {
            return;
        }
        let count =
            self.log.frames.iter().take_while(|(place, _)| place.segment == segment).count();
        for at in 0..count {
            let frame = self.state.rewrite(self.log.frames[at].0, &self.log.payload(at)).unwrap();
            self.append(frame);
        }
        let mark = self.state.rewrite_mark(segment);
        counts.marks += u32::from(mark.is_some());
        assert!(mark.is_none() || self.state.needs(segment), "the mark is only there");
        self.append(mark);
        self.sync();
        assert!(!self.state.needs(segment), "{:?}", self.state.table().live(segment));
        self.log.remove(segment);
        counts.cleaned += 1;
        counts.cleaned_importing += u32::from(self.is_importing());
    }

    /// Loses memory and a drawn number of frames that were not synced.
    pub(super) fn crash(&mut self, rng: &mut Rng, counts: &mut Counts) -> Result<(), Broken> {
        let (durable, all) = (self.log.durable as u64, self.log.frames.len() as u64);
        self.log.cut(rng.between(durable, all) as usize);
        self.writing.clear();
        counts.abandoned += u32::from(self.import.take().is_some());
        counts.crashes += 1;
        self.copy = None;
        let (replay, _) = self.log.replay();
        self.state = replay.finish()?;
        if let Some(state) = self.boot_by_index() {
            let told = |state: &State| {
                let table = state.table();
                assert!(table.is_consistent());
                let places = table.scan(&[], Bound::Unbounded).map(|(_, slot)| slot.clone());
                let places: Vec<_> = places.collect();
                (
                    state.state_hash(),
                    state.mark(),
                    state.generation(),
                    state.index_copy().head(),
                    places,
                )
            };
            let (whole, by_index) = (told(&self.state), told(&state));
            assert_eq!(
                IndexHead { generation_seen: 0, ..whole.3 },
                IndexHead { generation_seen: 0, ..by_index.3 }
            );
            // Generations whose frames were cleaned are known to nobody else.
            assert!(by_index.3.generation_seen >= whole.3.generation_seen);
            assert_eq!((whole.0, whole.1, whole.2), (by_index.0, by_index.1, by_index.2));
            assert_eq!(whole.4, by_index.4);
            counts.loaded += 1;
            if rng.chance(1, 2) {
                self.state = state;
            }
        }
        Ok(())
    }

    /// Goes one slice on with installing the other's state, beginning if need be.
    pub(super) fn import(&mut self, from: &Self, rng: &mut Rng, counts: &mut Counts) {
        let Some((import, export, source)) = &mut self.import else {
            let export = from.state.export();
            let generation = self.state.next_generation();
            return self.begin(export, from.log.clone(), generation);
        };
        let slice = export.slice(import.last(), rng.between(1, 9) as usize, 500);
        let records: Vec<_> = slice
            .into_iter()
            .map(|exported| {
                let read = exported.location().map(|location| source.read(location).unwrap());
                exported.finish(read).unwrap()
            })
            .collect();
        if records.is_empty() {
            let (import, ..) = self.import.take().unwrap();
            let (state, frame) = import.finish().unwrap();
            self.state = state;
            self.append(Some(frame));
            counts.installed += 1;
            return;
        }
        let after = import.last().map(<[u8]>::to_vec);
        let frame = import.add(after.as_deref(), records.clone());
        assert!(frame.is_some());
        assert!(import.add(after.as_deref(), records).is_none(), "a slice that came twice");
        self.append(frame);
    }

    pub(super) fn begin(&mut self, export: Export, source: TableLog, generation: u64) {
        let (import, frame) = Import::begin(seat(), generation, export.head());
        self.import = Some((import, export, source));
        self.append(Some(frame));
    }

    /// Every record with its body read, by key.
    pub(super) fn content(&self) -> BTreeMap<Vec<u8>, (Version, Vec<u8>, Bytes)> {
        let records = self.state.table().scan(&[], Bound::Unbounded);
        let read = records.map(|(key, slot)| {
            let body =
                slot.body.bytes().unwrap_or_else(|location| self.log.read(location).unwrap());
            (key.to_vec(), (slot.version, slot.head.to_vec(), body))
        });
        read.collect()
    }
}

pub(super) fn at(index: u64) -> Position {
    Position { term: Term(1 + index / 50), index: Index(index) }
}
