//! The states of a node's replicas out of an engine, at boot.
//!
//! First what is said of all groups, then the records of one group after another, page by page: they come in key order,
//! so a table is put together from its first record on. What is not what was written costs a group its
//! state, and an engine that can't be read costs all of them theirs.

use super::Found;
use crate::kv::index::IndexHead;
use crate::kv::rows::{Catalogue, Loading};
use crate::kv::table::Table;
use crate::machine::{FileId, FileKind, Io, IoDone, IoOp, IoResult, OpIds};
use crate::rows::{RowIo, Space, page};
use crate::types::{Damage, GroupId, OpId};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Enough bytes of a page.
const PAGE_BYTES: u32 = 256 << 10;

/// What is read of a group.
#[derive(Clone, Debug)]
pub(in crate::node) enum Read {
    /// Its state.
    State(IndexHead, Table),
    /// It is not what was written; and what was begun of it.
    Damaged(Damage, u64),
}

/// A range of keys that is read page by page.
#[derive(Clone, Debug)]
struct Cursor {
    op: OpId,
    before: Bytes,
}

/// An engine that is being read.
#[derive(Clone, Debug, Default)]
pub(in crate::node) struct Loader {
    cursor: Option<Cursor>,
    pub(in crate::node) catalogue: Catalogue,
    /// Groups whose records are not read yet.
    rest: Vec<(GroupId, IndexHead, (Bytes, Bytes))>,
    loading: Option<(GroupId, Loading)>,
    pub(in crate::node) groups: BTreeMap<GroupId, Read>,
    /// Nothing can be said of any group.
    pub(in crate::node) lost: Option<Damage>,
    done: bool,
}

impl Loader {
    pub(in crate::node) fn start(&mut self, ops: &mut OpIds, ios: &mut Vec<IoOp>) {
        let (from, before) = Catalogue::range();
        self.scan(from, before, ops, ios);
    }

    /// Whether everything is read.
    pub(in crate::node) const fn is_done(&self) -> bool {
        self.done
    }

    /// What it holds beside the states, once they were taken: of the groups that have a replica here, and of the others.
    pub(in crate::node) fn found(self, has_replica: impl Fn(GroupId) -> bool) -> Found {
        let groups = self.catalogue.groups();
        let (current, left): (Vec<_>, Vec<_>) = groups.partition(|(group, _)| has_replica(*group));
        let left = left.into_iter().map(|(group, _)| group).collect();
        Found { segments: self.catalogue.segments, left, current }
    }

    fn scan(&mut self, from: Bytes, before: Bytes, ops: &mut OpIds, ios: &mut Vec<IoOp>) {
        let op = ops.take();
        self.cursor = Some(Cursor { op, before: before.clone() });
        let (space, bytes_max) = (Space::Records, PAGE_BYTES);
        ios.push(IoOp { op, io: Io::Rows(RowIo::Scan { space, from, before, bytes_max }) });
    }

    /// Returns whether the operation was the loader's.
    pub(in crate::node) fn on_done(
        &mut self,
        op: OpId,
        result: &IoResult,
        ops: &mut OpIds,
        ios: &mut Vec<IoOp>,
    ) -> bool {
        let Some(Cursor { before, .. }) = self.cursor.take_if(|cursor| cursor.op == op) else {
            return false;
        };
        let rows = match result {
            Ok(IoDone::Data(bytes)) => page(bytes),
            _ => None,
        };
        match rows {
            Some(rows) => match rows.last() {
                Some((last, _)) => {
                    let from = after(last);
                    if self.take(&rows) {
                        self.scan(from, before, ops, ios);
                    } else {
                        self.go_on(ops, ios);
                    }
                }
                None => {
                    self.finish();
                    self.go_on(ops, ios);
                }
            },
            None => {
                self.fail("rows can't be read");
                self.go_on(ops, ios);
            }
        }
        true
    }

    /// Takes a page. `false` if what it is of is not to be read on.
    fn take(&mut self, rows: &[(Bytes, Bytes)]) -> bool {
        let Some((_, loading)) = &mut self.loading else {
            let good = rows.iter().all(|(key, value)| self.catalogue.add(key, value));
            if !good {
                self.fail("a row is none that was written");
            }
            return good;
        };
        let error = rows.iter().find_map(|(key, value)| loading.add(key, value).err());
        if let Some(error) = &error {
            self.fail(&alloc::format!("{error}"));
        }
        error.is_none()
    }

    /// What was being read is read.
    fn finish(&mut self) {
        match self.loading.take() {
            Some((group, loading)) => match loading.finish() {
                Ok((head, table)) => {
                    self.groups.insert(group, Read::State(head, table));
                }
                Err(error) => self.damaged(group, &alloc::format!("{error}")),
            },
            None => {
                let mut rest: Vec<_> = self.catalogue.heads().collect();
                rest.reverse();
                self.rest = rest;
                for group in core::mem::take(&mut self.catalogue.damaged) {
                    self.damaged(group, "what is said of the group is not what was written");
                }
            }
        }
    }

    fn fail(&mut self, what: &str) {
        match self.loading.take() {
            Some((group, _)) => self.damaged(group, what),
            None => {
                self.lost = Some(damage(what));
                self.rest.clear();
            }
        }
    }

    fn damaged(&mut self, group: GroupId, what: &str) {
        let seen = self.catalogue.generation_seen(group);
        self.groups.insert(group, Read::Damaged(damage(what), seen));
    }

    fn go_on(&mut self, ops: &mut OpIds, ios: &mut Vec<IoOp>) {
        match self.rest.pop() {
            Some((group, head, (from, before))) => {
                self.loading = Some((group, Loading::new(head)));
                self.scan(from, before, ops, ios);
            }
            None => self.done = true,
        }
    }
}

/// The first key behind this one.
fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

fn damage(what: &str) -> Damage {
    Damage { file: FileId::new(FileKind::Engine, 0), offset: 0, what: String::from(what) }
}
