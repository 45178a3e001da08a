//! A copy-on-write ordered map: the index behind a shard's state.
//!
//! A B+tree whose nodes are shared. Cloning it costs one reference count, and a clone never changes: a
//! writer copies the nodes on its path that a clone still shares (one leaf and a few inner nodes) and
//! leaves the others alone. That is what makes a snapshot of a shard free to take and lets it be
//! streamed in slices while writes go on.
//!
//! Invariants (checked by `assert_invariants` in the tests):
//! - Keys rise strictly, within a leaf and from leaf to leaf.
//! - All leaves are at one depth; no node but an empty root leaf is empty.
//! - An inner node has at least two children, and one split key less: the split before a child is at
//!   most the child's first key and above every key of the child before.
//!
//! Memory: the keys of a node are one array of bytes ([`super::keys`]), its values another, and both grow by
//! a few places at a time. So an entry costs its key's bytes and four more, its value, and what nodes are not full of:
//! a third where keys come in any order.

use super::keys::{Keys, separator};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

/// A key on its way to the index or from it: shared by the changes that name it.
pub type Key = Arc<[u8]>;

/// The most entries of a leaf and children of an inner node. Copying a shared node costs this many
/// reference counts; 32 keeps a path of four levels for a million keys.
const NODE_MAX: usize = 32;
/// A node below this is merged with a neighbour. A quarter, so that a merge followed by an insert does
/// not split again at once.
const NODE_MIN: usize = NODE_MAX / 4;
/// Entries of a leaf, and at the most children of an inner node, that is put together anew: room for what comes between
/// them.
pub(super) const FILL: usize = NODE_MAX - NODE_MIN;
/// Places by which a node's arrays grow.
const GROWTH: usize = 4;

/// The map. `Clone` takes constant time.
#[derive(Clone, Debug)]
pub struct Map<V> {
    pub(super) root: Arc<Node<V>>,
    pub(super) len: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Node<V> {
    Leaf(Leaf<V>),
    Inner(Inner<V>),
}

#[derive(Clone, Debug)]
pub(super) struct Leaf<V> {
    pub(super) keys: Keys,
    pub(super) values: Vec<V>,
}

#[derive(Clone, Debug)]
pub(super) struct Inner<V> {
    pub(super) splits: Keys,
    pub(super) children: Vec<Arc<Node<V>>>,
}

/// The upper half of a node that grew too long, and the key before it.
type Split<V> = Option<(Vec<u8>, Arc<Node<V>>)>;

impl<V> Default for Map<V> {
    fn default() -> Self {
        let leaf = Leaf { keys: Keys::default(), values: Vec::new() };
        Self { root: Arc::new(Node::Leaf(leaf)), len: 0 }
    }
}

impl<V> Map<V> {
    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let at = leaf.keys.find(key).ok()?;
                    return leaf.values.get(at);
                }
                Node::Inner(inner) => node = inner.children.get(inner.child_of(key))?,
            }
        }
    }

    /// Entries in key order, beginning at `from`.
    #[must_use]
    pub fn range(&self, from: Bound<&[u8]>) -> Range<'_, V> {
        let mut range = Range { path: Vec::new(), leaf: None };
        range.descend(&self.root, from);
        range
    }

    /// Takes the map apart without the long pause of dropping it whole.
    #[must_use]
    pub fn into_rubble(self) -> Rubble<V> {
        Rubble { nodes: alloc::vec![self.root] }
    }
}

impl<V: Clone> Map<V> {
    /// Writes an entry; returns what was there.
    pub fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        let (old, split) = insert_into(&mut self.root, key, value);
        if let Some((split, right)) = split {
            let left = self.root.clone();
            let mut splits = Keys::default();
            splits.insert(0, &split);
            let inner = Inner { splits, children: alloc::vec![left, right] };
            self.root = Arc::new(Node::Inner(inner));
        }
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes an entry; returns it. Copies nothing when there is none.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        self.get(key)?;
        let old = remove_from(&mut self.root, key)?;
        self.len -= 1;
        if let Node::Inner(inner) = &*self.root
            && let [only] = inner.children.as_slice()
        {
            self.root = only.clone();
        }
        Some(old)
    }

    /// The value at `key`, to be changed. Copies shared nodes on the way: look with [`Self::get`] first
    /// if it may not be needed.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let mut node = &mut self.root;
        loop {
            match Arc::make_mut(node) {
                Node::Leaf(leaf) => {
                    let at = leaf.keys.find(key).ok()?;
                    return leaf.values.get_mut(at);
                }
                Node::Inner(inner) => {
                    let at = inner.child_of(key);
                    node = inner.children.get_mut(at)?;
                }
            }
        }
    }
}

impl<V> Inner<V> {
    /// Which child holds `key`.
    fn child_of(&self, key: &[u8]) -> usize {
        self.splits.through(key)
    }
}

impl<V> Node<V> {
    const fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.keys.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }

    /// Cuts the node so that `keep` stay; returns the rest and the key that separates them.
    fn split(&mut self, keep: usize) -> (Vec<u8>, Arc<Self>) {
        match self {
            Self::Leaf(leaf) => {
                let keys = leaf.keys.split_off(keep);
                let values = leaf.values.split_off(keep);
                leaf.values.shrink_to_fit();
                let left = keep.checked_sub(1).and_then(|last| leaf.keys.get(last));
                let (Some(left), Some(right)) = (left, keys.get(0)) else {
                    unreachable!("a leaf is cut between two keys")
                };
                let split = separator(left, right).to_vec();
                (split, Arc::new(Self::Leaf(Leaf { keys, values })))
            }
            Self::Inner(inner) => {
                let children = inner.children.split_off(keep);
                let splits = inner.splits.split_off(keep);
                let split = inner.splits.pop();
                let split =
                    split.unwrap_or_else(|| unreachable!("there is a split before each child"));
                inner.children.shrink_to_fit();
                (split, Arc::new(Self::Inner(Inner { splits, children })))
            }
        }
    }

    /// Appends the right neighbour, which `split` separated.
    fn absorb(&mut self, split: &[u8], right: Self) {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                left.keys.append(&right.keys);
                left.values.reserve_exact(right.values.len());
                left.values.extend(right.values);
            }
            (Self::Inner(left), Self::Inner(right)) => {
                left.splits.push(split);
                left.splits.append(&right.splits);
                left.children.reserve_exact(right.children.len());
                left.children.extend(right.children);
            }
            _ => unreachable!("neighbours are at one depth"),
        }
    }
}

/// Inserts below `node`; the caller places the split, if there is one.
fn insert_into<V: Clone>(node: &mut Arc<Node<V>>, key: &[u8], value: V) -> (Option<V>, Split<V>) {
    let node = Arc::make_mut(node);
    let (old, at_end) = match node {
        Node::Leaf(leaf) => match leaf.keys.find(key) {
            Ok(at) => {
                let place = leaf.values.get_mut(at);
                return (place.map(|place| core::mem::replace(place, value)), None);
            }
            Err(at) => {
                let at_end = at == leaf.keys.len();
                leaf.keys.insert(at, key);
                insert_at(&mut leaf.values, at, value);
                (None, at_end)
            }
        },
        Node::Inner(inner) => {
            let at = inner.child_of(key);
            let child = inner.children.get_mut(at);
            let child = child.unwrap_or_else(|| unreachable!("every key has a child"));
            let (old, split) = insert_into(child, key, value);
            let at_end = at + 1 == inner.children.len();
            if let Some((split, right)) = split {
                inner.splits.insert(at, &split);
                insert_at(&mut inner.children, at + 1, right);
            }
            (old, at_end)
        }
    };
    if node.len() <= NODE_MAX {
        return (old, None);
    }
    // Keys that only rise (log indexes, sequence numbers) fill one node after another; cut in the
    // middle they would leave every node half empty.
    let keep = if at_end { FILL } else { NODE_MAX / 2 };
    (old, Some(node.split(keep)))
}

/// Removes an entry that is there.
fn remove_from<V: Clone>(node: &mut Arc<Node<V>>, key: &[u8]) -> Option<V> {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let at = leaf.keys.find(key).ok()?;
            leaf.keys.remove(at);
            Some(leaf.values.remove(at))
        }
        Node::Inner(inner) => {
            let at = inner.child_of(key);
            let child = inner.children.get_mut(at)?;
            let old = remove_from(child, key)?;
            if child.len() < NODE_MIN {
                rebalance(inner, at.saturating_sub(1));
            }
            Some(old)
        }
    }
}

/// Merges the children `at` and `at + 1`; shares them out evenly if one node can't hold both.
fn rebalance<V: Clone>(inner: &mut Inner<V>, at: usize) {
    let split = inner.splits.get(at).map(<[u8]>::to_vec).unwrap_or_default();
    inner.splits.remove(at);
    let right = Arc::unwrap_or_clone(inner.children.remove(at + 1));
    let Some(left) = inner.children.get_mut(at) else {
        unreachable!("an inner node has two children")
    };
    let left = Arc::make_mut(left);
    left.absorb(&split, right);
    if left.len() > NODE_MAX {
        let (split, right) = left.split(left.len() / 2);
        inner.splits.insert(at, &split);
        insert_at(&mut inner.children, at + 1, right);
    }
}

fn insert_at<T>(items: &mut Vec<T>, at: usize, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact(GROWTH);
    }
    items.insert(at, item);
}

/// Entries in key order. Borrowing; to go on later, remember the last key and ask again.
#[derive(Clone, Debug)]
pub struct Range<'a, V> {
    /// Inner nodes above the leaf, each with the child that comes next.
    path: Vec<(&'a Inner<V>, usize)>,
    leaf: Option<(&'a Leaf<V>, usize)>,
}

impl<'a, V> Range<'a, V> {
    fn descend(&mut self, mut node: &'a Node<V>, from: Bound<&[u8]>) {
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let at = match from {
                        Bound::Unbounded => 0,
                        Bound::Included(key) => leaf.keys.find(key).unwrap_or_else(|at| at),
                        Bound::Excluded(key) => {
                            leaf.keys.find(key).map_or_else(|at| at, |at| at + 1)
                        }
                    };
                    self.leaf = Some((leaf, at));
                    return;
                }
                Node::Inner(inner) => {
                    let at = match from {
                        Bound::Unbounded => 0,
                        Bound::Included(key) | Bound::Excluded(key) => inner.child_of(key),
                    };
                    self.path.push((inner, at + 1));
                    let Some(child) = inner.children.get(at) else { return };
                    node = child;
                }
            }
        }
    }
}

impl<'a, V> Iterator for Range<'a, V> {
    type Item = (&'a [u8], &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (leaf, at) = self.leaf.as_mut()?;
            if let (Some(key), Some(value)) = (leaf.keys.get(*at), leaf.values.get(*at)) {
                *at += 1;
                return Some((key, value));
            }
            self.leaf = None;
            while let Some((inner, next)) = self.path.last_mut() {
                if let Some(child) = inner.children.get(*next) {
                    *next += 1;
                    self.descend(child, Bound::Unbounded);
                    break;
                }
                self.path.pop();
            }
        }
    }
}

/// What is left of a map that is no longer needed. Dropping a map of a million entries takes a tenth
/// of a second, too long for a step; this drops it in slices.
#[derive(Clone, Debug)]
pub struct Rubble<V> {
    nodes: Vec<Arc<Node<V>>>,
}

impl<V> Rubble<V> {
    /// Frees about `entries` entries. True when nothing is left.
    pub fn clear(&mut self, entries: usize) -> bool {
        let mut freed = 0;
        while freed < entries {
            let Some(node) = self.nodes.pop() else { return true };
            // A node that a clone still shares only loses a reference.
            let Some(node) = Arc::into_inner(node) else {
                freed += 1;
                continue;
            };
            freed += node.len();
            if let Node::Inner(inner) = node {
                self.nodes.extend(inner.children);
            }
        }
        self.nodes.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test that is wrong may panic")]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use alloc::collections::BTreeMap;

    impl<V> Map<V> {
        /// The invariants at the top of the file.
        fn assert_invariants(&self) {
            let mut leaves = Vec::new();
            check(&self.root, None, None, 0, &mut leaves);
            assert!(leaves.windows(2).all(|pair| pair[0].0 == pair[1].0), "leaves at {leaves:?}");
            assert_eq!(leaves.iter().map(|(_, entries)| entries).sum::<usize>(), self.len);
            assert!(leaves.len() == 1 || leaves.iter().all(|(_, entries)| *entries > 0));
        }
    }

    fn check<V>(
        node: &Node<V>,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
        depth: usize,
        leaves: &mut Vec<(usize, usize)>,
    ) {
        assert!(node.len() <= NODE_MAX);
        let keys = match node {
            Node::Leaf(leaf) => &leaf.keys,
            Node::Inner(inner) => &inner.splits,
        };
        let keys: Vec<&[u8]> = (0..keys.len()).filter_map(|at| keys.get(at)).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(keys.iter().all(|key| low.is_none_or(|low| low <= *key)));
        assert!(keys.iter().all(|key| high.is_none_or(|high| *key < high)));
        match node {
            Node::Leaf(leaf) => {
                assert_eq!(leaf.keys.len(), leaf.values.len());
                leaves.push((depth, leaf.keys.len()));
            }
            Node::Inner(inner) => {
                assert!(inner.children.len() >= 2);
                assert_eq!(inner.children.len(), inner.splits.len() + 1);
                for (at, child) in inner.children.iter().enumerate() {
                    let low = if at == 0 { low } else { inner.splits.get(at - 1) };
                    check(child, low, inner.splits.get(at).or(high), depth + 1, leaves);
                }
            }
        }
    }

    type Model = BTreeMap<Key, u64>;

    fn assert_same(map: &Map<u64>, model: &Model) {
        map.assert_invariants();
        assert!(map.range(Bound::Unbounded).eq(model.iter().map(borrowed)));
        assert_eq!(map.len(), model.len());
        assert_eq!(map.is_empty(), model.is_empty());
    }

    fn borrowed<'a>((key, value): (&'a Key, &'a u64)) -> (&'a [u8], &'a u64) {
        (key, value)
    }

    fn key(number: u64) -> Key {
        Key::from(&number.to_be_bytes()[6..])
    }

    /// Random writes and removals against `BTreeMap`, with clones that must stay as they were.
    fn compare(seed: u64, keys: u64, rounds: u64) {
        let mut rng = Rng::new(seed);
        let (mut map, mut model) = (Map::default(), Model::new());
        let mut clones: Vec<(Map<u64>, Model)> = Vec::new();
        for round in 0..rounds {
            // The tree grows and shrinks by turns, down to nothing and up again.
            let removal = if (round / (keys * 3)).is_multiple_of(2) { 2 } else { 8 };
            let at = key(rng.below(keys));
            if rng.chance(removal, 10) {
                assert_eq!(map.remove(&at), model.remove(&at));
            } else {
                assert_eq!(map.insert(&at, round), model.insert(at.clone(), round));
            }
            let at = key(rng.below(keys));
            assert_eq!(map.get(&at), model.get(&at));
            if rng.chance(1, 4)
                && let Some(value) = model.get_mut(&at)
            {
                *value += 1;
                *map.get_mut(&at).expect("in the model") += 1;
            }
            if rng.chance(1, 200) {
                clones.push((map.clone(), model.clone()));
            }
            if clones.len() > 3 {
                let (map, model) = clones.remove(0);
                assert_same(&map, &model);
            }
            if rng.chance(1, 50) {
                map.assert_invariants();
                let bound =
                    if rng.chance(1, 2) { Bound::Included(&*at) } else { Bound::Excluded(&*at) };
                let owned = match bound {
                    Bound::Included(_) => Bound::Included(at.clone()),
                    _ => Bound::Excluded(at.clone()),
                };
                let expected = model.range((owned, Bound::Unbounded)).take(70);
                assert!(map.range(bound).take(70).eq(expected.map(borrowed)), "from {bound:?}");
            }
        }
        assert_same(&map, &model);
        clones.iter().for_each(|(map, model)| assert_same(map, model));
    }

    #[test]
    fn it_is_an_ordered_map_and_clones_stand_still() {
        for seed in 0..20 {
            compare(seed, 1 + seed * seed, 3_000);
        }
        compare(77, 5_000, 60_000);
    }

    /// Sets of changes of all sizes, with clones that must stay as they were.
    #[test]
    fn what_is_merged_is_as_if_written_one_by_one() {
        let mut rng = Rng::new(5);
        for size in [0, 1, 2, 23, 24, 25, 48, 49, 600, 3_000] {
            let (mut map, mut model) = (Map::default(), Model::new());
            for round in 0..6 {
                let changes: Model =
                    (0..rng.below(size + 1)).map(|at| (key(rng.below(size * 2)), at)).collect();
                let (clone, was) = (map.clone(), model.clone());
                let mut seen = Vec::new();
                map.merge(changes.keys().map(|key| &**key), |key, old| {
                    seen.push((Key::from(key), old));
                    // What is there goes every third time.
                    let new = changes.get(key).copied();
                    new.filter(|at| old.is_none() || at % 3 > 0)
                });
                let told = changes.keys().map(|key| (key.clone(), was.get(key).copied()));
                assert!(seen.into_iter().eq(told), "{size} {round}");
                for (key, at) in &changes {
                    if was.contains_key(key) && at % 3 == 0 {
                        model.remove(key);
                    } else {
                        model.insert(key.clone(), *at);
                    }
                }
                assert_same(&map, &model);
                assert_same(&clone, &was);
                for _ in 0..rng.below(40) {
                    let at = key(rng.below(size * 2 + 1));
                    assert_eq!(map.insert(&at, 7), model.insert(at.clone(), 7));
                    let at = key(rng.below(size * 2 + 1));
                    assert_eq!(map.remove(&at), model.remove(&at));
                }
                assert_same(&map, &model);
            }
        }
    }

    #[test]
    fn rising_keys_fill_their_nodes() {
        let mut map = Map::default();
        for number in 0..20_000 {
            map.insert(&key(number), number);
        }
        let mut leaves = Vec::new();
        check(&map.root, None, None, 0, &mut leaves);
        let fill = 20_000 * 100 / (leaves.len() * NODE_MAX);
        assert!(fill >= 70, "{fill} % full");
        map.assert_invariants();
    }

    #[test]
    fn a_write_copies_only_its_path() {
        let mut map = Map::default();
        (0..20_000).for_each(|number| assert_eq!(map.insert(&key(number), number), None));
        let clone = map.clone();
        map.insert(&key(10_000), 0);
        let (mut shared, mut all) = (0, 0);
        count_shared(&map.root, false, &mut shared, &mut all);
        assert!(all > 800 && all - shared <= 4, "{shared} of {all} nodes are shared");
        assert_eq!(clone.get(&key(10_000)), Some(&10_000));
        assert_eq!(map.remove(b"none"), None);
    }

    /// Nodes below a shared one count as shared.
    fn count_shared(node: &Arc<Node<u64>>, above: bool, shared: &mut u32, all: &mut u32) {
        let here = above || Arc::strong_count(node) > 1;
        *all += 1;
        *shared += u32::from(here);
        if let Node::Inner(inner) = &**node {
            inner.children.iter().for_each(|child| count_shared(child, here, shared, all));
        }
    }

    #[test]
    fn rubble_is_cleared_in_slices_and_spares_what_is_shared() {
        let mut map = Map::default();
        (0..5_000).for_each(|number| assert_eq!(map.insert(&key(number), number), None));
        let mut clone = map.clone();
        clone.insert(&key(77), 0);
        let mut rubble = map.into_rubble();
        let mut slices = 1;
        while !rubble.clear(10) {
            slices += 1;
        }
        assert!(slices < 12, "{slices} slices, although the clone shares all but one path");
        clone.assert_invariants();
        assert_eq!(clone.len(), 5_000);
        let mut rubble = clone.into_rubble();
        let mut slices = 1;
        while !rubble.clear(100) {
            slices += 1;
        }
        assert!((35..60).contains(&slices), "{slices} slices");
    }
}
