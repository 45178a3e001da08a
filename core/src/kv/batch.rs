//! What one applied command does to the table: a writer that collects its changes.
//!
//! An operation checks first and writes after. What it wrote stays, also when it answers with a
//! refusal: most refusals write nothing, but fencing a bucket that turns out not to be empty must.

use super::cow::Key;
use super::table::{Body, Head, Slot, Table};
use crate::planted::Planted;
use crate::types::{
    Boot, GroupId, Incarnation, Index, NodeId, Position, ShardId, Timestamp, Version,
};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use bytes::Bytes;
use core::ops::Bound;

/// What became of one record: its new content, or `None` for removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The record's key.
    pub key: Key,
    /// What is there now.
    pub slot: Option<Slot>,
}

/// What a group's state knows of its place. Every replica is given the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The group.
    pub group: GroupId,
    /// Who votes: at first who did when the group was founded, then who its log says.
    pub roster: Arc<Roster>,
    /// The planted bug, in the simulator.
    pub planted: Planted,
}

/// Who votes in a group, and from which boot on what each of them holds counts: what a quorum of a chunk's holders is
/// counted against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Roster {
    /// The voters; of a joint configuration the new ones.
    pub voters: Vec<Boot>,
    /// The old voters of a joint configuration.
    pub old: Option<Vec<Boot>>,
}

impl Roster {
    /// The voters of a group as it is founded.
    #[must_use]
    pub fn founding(voters: &[NodeId]) -> Self {
        let first = |node: &NodeId| Boot { node: *node, incarnation: Incarnation(0) };
        Self { voters: voters.iter().map(first).collect(), old: None }
    }

    /// Whether a quorum can't be without one of these: of a joint configuration, whether that is so on either side.
    #[must_use]
    pub fn is_quorum(&self, holders: &[Boot]) -> bool {
        let counts = |voter: &&Boot| {
            let is = |holder: &&Boot| holder.node == voter.node;
            holders.iter().filter(is).any(|holder| holder.incarnation >= voter.incarnation)
        };
        let most = |voters: &Vec<Boot>| voters.iter().filter(counts).count() > voters.len() / 2;
        most(&self.voters) && self.old.as_ref().is_none_or(most)
    }
}

impl Seat {
    /// The shard, which is the home of its blobs; `None` for the meta group.
    #[must_use]
    pub fn shard(&self) -> Option<ShardId> {
        self.group.shard()
    }
}

/// Writes to the table on behalf of one command. Reads see what was written before.
#[derive(Debug)]
pub struct Batch<'a> {
    table: &'a mut Table,
    seat: &'a Seat,
    position: Position,
    wall: u64,
    committed: Timestamp,
    /// By key, so that a record that is written twice changes once: a version names one content.
    changes: BTreeMap<Key, Option<Slot>>,
}

impl<'a> Batch<'a> {
    /// A batch for the command at `position`, which commits at `committed` and was proposed at
    /// `wall`.
    #[must_use]
    pub fn new(
        table: &'a mut Table,
        seat: &'a Seat,
        position: Position,
        wall: u64,
        committed: Timestamp,
    ) -> Self {
        Self { table, seat, position, wall, committed, changes: BTreeMap::new() }
    }

    /// The group's place.
    #[must_use]
    pub const fn seat(&self) -> &Seat {
        self.seat
    }

    /// The command's index in the log: the id of what it opens.
    #[must_use]
    pub const fn index(&self) -> Index {
        self.position.index
    }

    /// The version of what it writes.
    #[must_use]
    pub const fn version(&self) -> Version {
        Version(self.position.index.0)
    }

    /// Wall time at which the leader proposed it, nanoseconds since the Unix epoch. For what clients
    /// see and for leases; it may go back from one command to the next.
    #[must_use]
    pub const fn wall(&self) -> u64 {
        self.wall
    }

    /// Its commit timestamp.
    #[must_use]
    pub const fn committed(&self) -> Timestamp {
        self.committed
    }

    /// The table as it is now.
    #[must_use]
    pub const fn table(&self) -> &Table {
        self.table
    }

    /// The record at `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Slot> {
        self.table.get(key)
    }

    /// As [`Table::scan`].
    pub fn scan<'b>(
        &'b self,
        prefix: &'b [u8],
        from: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'b [u8], &'b Slot)> + use<'a, 'b> {
        self.table.scan(prefix, from)
    }

    /// Writes a record.
    pub fn put(&mut self, key: &Key, head: impl Into<Head>, body: Bytes) {
        self.write(key, head.into(), Body::new(body));
    }

    /// Writes a record with a new head and the body that it has; nothing if there is no record. The
    /// body is not read: this is how a decision changes a record whose body is only on disk.
    pub fn put_head(&mut self, key: &Key, head: impl Into<Head>) {
        let Some(slot) = self.table.get(key) else { return };
        let body = match &slot.body {
            // An empty body is nowhere: the record is written anew.
            Body::Stored(_) if slot.body.is_empty() => Body::EMPTY,
            body => body.clone(),
        };
        self.write(key, head.into(), body);
    }

    /// Removes a record; nothing if there is none.
    pub fn remove(&mut self, key: &Key) {
        if self.table.set(key, None).is_some() {
            self.changes.insert(key.clone(), None);
        }
    }

    /// What was changed, in key order.
    #[must_use]
    pub fn finish(self) -> Vec<Change> {
        self.changes.into_iter().map(|(key, slot)| Change { key, slot }).collect()
    }

    fn write(&mut self, key: &Key, head: Head, body: Body) {
        let slot = Slot { version: self.version(), committed: self.committed, head, body };
        self.table.set(key, Some(slot.clone()));
        self.changes.insert(key.clone(), Some(slot));
    }
}
