//! Bodies that no record needs any more go from an engine: of one segment after another, all are looked at, page by page,
//! and each replica says which of its own are of no use.
//!
//! It is begun as the table log is cleaned: when there is much more than is current. Then one segment after another is looked through, the one
//! that was looked through longest ago first; after one of which nothing goes, not before the replicas have said again what is current.

use crate::kv::cow::Key;
use crate::kv::rows::{self, BodyRow, body_from, body_offset};
use crate::kv::table::RecordLocation;
use crate::machine::{Io, IoDone, IoOp, IoResult};
use crate::node::post::{Post, ReplicaInput};
use crate::node::store::{Logs, Out};
use crate::node::table::Table;
use crate::node::trace::Trace;
use crate::planted::Point;
use crate::rows::{RowChange, RowIo, Space, page};
use crate::types::{GroupId, OpId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

/// Enough bytes of a page: a replica looks at all of its bodies in one step.
const PAGE_BYTES: u32 = 64 << 10;

/// A body of a segment: whose it is, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct Swept {
    /// The record.
    pub(in crate::node) key: Key,
    /// Its offset in the segment.
    pub(in crate::node) offset: u64,
    /// Bytes of its row.
    pub(in crate::node) bytes: u64,
}

/// Bodies that are looked through.
#[derive(Clone, Debug, Default)]
pub(in crate::node) struct Sweeper {
    /// The segment that was looked through last.
    last: u64,
    work: Option<Work>,
}

#[derive(Clone, Debug)]
struct Work {
    segment: u64,
    /// The next page begins there.
    from: u64,
    reading: Option<OpId>,
    /// Of groups that have not answered yet: bytes of their rows in this page.
    asked: BTreeMap<GroupId, Vec<Swept>>,
    dead: Vec<u64>,
    /// Bytes of the rows that stay, and of the others.
    kept: u64,
    gone: u64,
}

impl Logs {
    /// Begins or goes on with looking through bodies.
    pub(in crate::node) fn sweep(&mut self, out: &mut Out<'_>) {
        if self.sweeper.work.is_none() {
            self.sweeper.work = self.choose_segment();
        }
        let (Some(work), Table::Engine(engine)) = (&mut self.sweeper.work, &mut self.table) else {
            return;
        };
        if work.reading.is_some() || !work.asked.is_empty() {
            return;
        }
        let gone = core::mem::take(&mut work.dead).into_iter().map(|offset| {
            let segment = work.segment;
            let key = rows::body_key(RecordLocation { segment, offset, bytes: 0, crc: 0 });
            RowChange::Remove { space: Space::Bodies, key }
        });
        let gone: Vec<RowChange> = gone.collect();
        if !gone.is_empty() {
            engine.enqueue(gone, None);
        }
        let op = self.read_ops.take();
        work.reading = Some(op);
        let (from, before) = (body_from(work.segment, work.from), body_from(work.segment + 1, 0));
        let (space, bytes_max) = (Space::Bodies, PAGE_BYTES);
        out.ios.push(IoOp { op, io: Io::Rows(RowIo::Scan { space, from, before, bytes_max }) });
    }

    /// The next segment, if the engine holds much more than what is current.
    fn choose_segment(&self) -> Option<Work> {
        let Table::Engine(engine) = &self.table else { return None };
        let used: u64 = engine.segments.values().sum();
        let much = |live: u64| used > 2 * live + 2 * engine.segment_bytes;
        let early = engine.planted.forces(Point::SweepEarly, engine.appended.0);
        // Not while the disk is full: a removal takes space before it gives any back.
        if self.is_full() || !(early || self.cleaner.live().is_some_and(much)) {
            return None;
        }
        let old = || engine.segments.range(..engine.next.segment).map(|(number, _)| *number);
        let next = old().find(|number| *number > self.sweeper.last);
        let segment = next.or_else(|| old().next())?;
        let (asked, dead) = (BTreeMap::new(), Vec::new());
        Some(Work { segment, from: 0, reading: None, asked, dead, kept: 0, gone: 0 })
    }

    /// Returns whether the operation was the sweeper's.
    pub(in crate::node) fn on_sweep_read(
        &mut self,
        op: OpId,
        result: &IoResult,
        out: &mut Out<'_>,
    ) -> bool {
        let Some(work) = &mut self.sweeper.work else { return false };
        if work.reading.take_if(|reading| *reading == op).is_none() {
            return false;
        }
        let rows = match result {
            Ok(IoDone::Data(bytes)) => page(bytes),
            _ => None,
        };
        match rows.as_deref() {
            // What can't be read now stays, and is looked at again in its turn.
            None => self.end_sweep(None, out),
            Some([]) => {
                let kept = work.kept;
                self.end_sweep(Some(kept), out);
            }
            Some(rows) => work.ask(rows, out),
        }
        true
    }

    /// A replica says which of these bodies nobody needs, by rising offset; none of them, if it can't tell.
    pub(in crate::node) fn on_swept(&mut self, group: GroupId, segment: u64, dead: &[u64]) {
        let Some(work) = self.sweeper.work.as_mut().filter(|work| work.segment == segment) else {
            return;
        };
        let Some(rows) = work.asked.remove(&group) else { return };
        for Swept { offset, bytes, .. } in rows {
            if dead.binary_search(&offset).is_ok() {
                work.dead.push(offset);
                work.gone += bytes;
            } else {
                work.kept += bytes;
            }
        }
    }

    fn end_sweep(&mut self, kept: Option<u64>, out: &mut Out<'_>) {
        let Some(Work { segment, gone, .. }) = self.sweeper.work.take() else { return };
        self.sweeper.last = segment;
        if let (Some(kept), Table::Engine(engine)) = (kept, &mut self.table) {
            let note = engine.note(segment, kept);
            engine.enqueue(Vec::from([note]), None);
            out.posts.push(Post::Trace(Trace::BodiesSwept { segment, gone, kept }));
        }
        if gone == 0 {
            // Nothing is gained for now: the next one when the replicas have said again what is current.
            self.cleaner.forget_live();
        }
    }
}

impl Work {
    /// Asks the replicas about a page.
    fn ask(&mut self, rows: &[(Bytes, Bytes)], out: &mut Out<'_>) {
        for (key, value) in rows {
            let Some(offset) = body_offset(key) else { continue };
            self.from = offset + 1;
            // A row that is none has no reader.
            match BodyRow::of(value.clone()) {
                Some(BodyRow { group, key, .. }) => {
                    let bytes = value.len() as u64;
                    self.asked.entry(group).or_default().push(Swept { key, offset, bytes });
                }
                None => self.dead.push(offset),
            }
        }
        for (group, rows) in &self.asked {
            let input = ReplicaInput::Sweep { segment: self.segment, rows: rows.clone() };
            out.posts.push(Post::Replica(*group, input));
        }
    }
}
