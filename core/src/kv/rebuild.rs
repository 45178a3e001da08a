//! Many changes of the index at once: it is taken apart in key order and put together anew with them.
//!
//! A boot writes every record of a shard in the order in which they were written once, which is no order. One by one,
//! each of them costs a walk down the tree and half a dozen misses of the cache on the way: two microseconds where a table is
//! larger than the caches. Put together in key order it is a tenth of that.

use super::cow::{FILL, Inner, Leaf, Map, Node};
use super::keys::{Keys, separator};
use alloc::sync::Arc;
use alloc::vec::Vec;

impl<V: Clone> Map<V> {
    /// Decides for each of these keys, which rise strictly, what is there: `decide` is given what was there. Work in
    /// proportion to the map, whatever is shared with clones.
    pub fn merge<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]>,
        mut decide: impl FnMut(&'k [u8], Option<V>) -> Option<V>,
    ) {
        let mut there = Apart { nodes: Vec::from([core::mem::take(self).root]), leaf: None };
        let mut built = Builder::default();
        for key in keys {
            while there.move_on(Some(key), &mut built) {}
            if let Some(value) = decide(key, there.take(key)) {
                built.push(key, value);
            }
        }
        while there.move_on(None, &mut built) {}
        *self = built.finish();
    }
}

/// What is left of a map that is taken apart from its first key on.
struct Apart<V> {
    /// The next one last.
    nodes: Vec<Arc<Node<V>>>,
    /// The leaf that is taken apart: its keys, and its values from this place on.
    leaf: Option<(Keys, usize, alloc::vec::IntoIter<V>)>,
}

impl<V: Clone> Apart<V> {
    /// The next key.
    fn peek(&mut self) -> Option<&[u8]> {
        while self.leaf.as_ref().is_none_or(|(keys, at, _)| *at == keys.len()) {
            match Arc::unwrap_or_clone(self.nodes.pop()?) {
                Node::Leaf(Leaf { keys, values }) => {
                    self.leaf = Some((keys, 0, values.into_iter()))
                }
                Node::Inner(inner) => self.nodes.extend(inner.children.into_iter().rev()),
            }
        }
        self.leaf.as_ref().and_then(|(keys, at, _)| keys.get(*at))
    }

    fn next_value(&mut self) -> Option<V> {
        let (_, at, values) = self.leaf.as_mut()?;
        *at += 1;
        values.next()
    }

    /// Moves the next entry if its key is before this one; whether it did.
    fn move_on(&mut self, before: Option<&[u8]>, built: &mut Builder<V>) -> bool {
        if self.peek().is_none_or(|key| before.is_some_and(|before| key >= before)) {
            return false;
        }
        let Some((keys, at, values)) = &mut self.leaf else { return false };
        if let (Some(key), Some(value)) = (keys.get(*at), values.next()) {
            built.push(key, value);
        }
        *at += 1;
        true
    }

    fn take(&mut self, key: &[u8]) -> Option<V> {
        if self.peek()? == key { self.next_value() } else { None }
    }
}

/// A map that is built from its first key on.
#[derive(Clone, Debug)]
pub(super) struct Builder<V> {
    keys: Keys,
    values: Vec<V>,
    /// The last key of the last leaf that is complete.
    last: Vec<u8>,
    /// Each with what separates it from the one before.
    leaves: Vec<(Vec<u8>, Arc<Node<V>>)>,
    len: usize,
}

impl<V> Default for Builder<V> {
    fn default() -> Self {
        let (keys, values) = (Keys::default(), Vec::new());
        Self { keys, values, last: Vec::new(), leaves: Vec::new(), len: 0 }
    }
}

impl<V> Builder<V> {
    pub(super) fn push(&mut self, key: &[u8], value: V) {
        if self.keys.len() == FILL {
            self.end_leaf();
        }
        self.keys.push(key);
        self.values.push(value);
        self.len += 1;
    }

    fn end_leaf(&mut self) {
        let first = self.keys.get(0).unwrap_or_default();
        let split = match self.leaves.is_empty() {
            true => Vec::new(),
            false => separator(&self.last, first).to_vec(),
        };
        let last = self.keys.len().checked_sub(1).and_then(|last| self.keys.get(last));
        self.last.clear();
        self.last.extend_from_slice(last.unwrap_or_default());
        // Copies that have no room to grow: most leaves never do.
        let leaf = Leaf { keys: self.keys.clone(), values: self.values.drain(..).collect() };
        self.keys.clear();
        self.leaves.push((split, Arc::new(Node::Leaf(leaf))));
    }

    pub(super) fn finish(mut self) -> Map<V> {
        if self.keys.len() > 0 {
            self.end_leaf();
        }
        let mut level = self.leaves;
        while level.len() > 1 {
            level = level_above(level);
        }
        let Some((_, root)) = level.pop() else { return Map::default() };
        Map { root, len: self.len }
    }
}

/// Inner nodes over nodes, as full as each other.
fn level_above<V>(below: Vec<(Vec<u8>, Arc<Node<V>>)>) -> Vec<(Vec<u8>, Arc<Node<V>>)> {
    let count = below.len().div_ceil(FILL);
    let (each, more) = (below.len() / count, below.len() % count);
    let mut below = below.into_iter();
    let nodes = (0..count).map(|at| {
        let (mut splits, mut children) = (Keys::default(), Vec::new());
        let mut before = Vec::new();
        for (split, child) in below.by_ref().take(each + usize::from(at < more)) {
            match children.is_empty() {
                true => before = split,
                false => splits.push(&split),
            }
            children.push(child);
        }
        (before, Arc::new(Node::Inner(Inner { splits, children })))
    });
    nodes.collect()
}
