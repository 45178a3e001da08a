//! The keys of one node of the index, one behind the other in one array of bytes.
//!
//! A key of its own allocation costs a handle, a reference count and what the allocator rounds up to: twice as much as
//! most keys are long. Here it costs four bytes. And a search stays within a few lines of the cache, where it would follow
//! a pointer for each comparison.

use alloc::vec::Vec;

/// Keys by which the arrays grow at a time.
const GROWTH: usize = 4;

/// Keys in an order that is their owner's business.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`; it begins where the one before ends.
    ends: Vec<u32>,
}

impl Keys {
    /// None yet, and room for so many keys of so many bytes in all.
    pub(super) fn with_room(keys: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(keys) }
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// The key at a place; `None` from [`Self::len`] on.
    pub(super) fn get(&self, at: usize) -> Option<&[u8]> {
        let end = to_usize(*self.ends.get(at)?);
        self.bytes.get(self.start(at)..end)
    }

    /// The place of a key among rising ones, or the one that it would have.
    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let at = self.first_that(|probe| probe >= key);
        if self.get(at) == Some(key) { Ok(at) } else { Err(at) }
    }

    /// How many of rising keys are at most this one.
    pub(super) fn through(&self, key: &[u8]) -> usize {
        self.first_that(|probe| probe > key)
    }

    /// The first place from which on it holds.
    fn first_that(&self, holds: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).is_some_and(&holds) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// Puts a key behind all.
    pub(super) fn push(&mut self, key: &[u8]) {
        self.make_room(key.len());
        self.bytes.extend_from_slice(key);
        self.ends.push(to_u32(self.bytes.len()));
    }

    /// Puts a key before the one at a place, or behind all.
    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        if at == self.len() {
            return self.push(key);
        }
        self.make_room(key.len());
        let (start, old) = (self.start(at), self.bytes.len());
        self.bytes.resize(old + key.len(), 0);
        self.bytes.copy_within(start..old, start + key.len());
        let place = self.bytes.get_mut(start..start + key.len());
        place.unwrap_or_else(|| unreachable!("resized above")).copy_from_slice(key);
        self.ends.insert(at, to_u32(start));
        self.move_ends(at, |end| end + to_u32(key.len()));
    }

    /// Takes the key at a place out.
    pub(super) fn remove(&mut self, at: usize) {
        let start = self.start(at);
        let bytes = to_usize(self.ends.remove(at)) - start;
        self.bytes.drain(start..start + bytes);
        self.move_ends(at, |end| end - to_u32(bytes));
    }

    /// Takes all keys out and keeps the room that they had.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Cuts the keys from a place on off. Neither part keeps more memory than it needs.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let start = self.start(at);
        let mut rest = Self { bytes: self.bytes.split_off(start), ends: self.ends.split_off(at) };
        rest.move_ends(0, |end| end - to_u32(start));
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        rest
    }

    /// Takes the last key out.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let last = self.len().checked_sub(1)?;
        let key = self.bytes.split_off(self.start(last));
        self.ends.pop();
        Some(key)
    }

    /// Puts other keys behind these.
    pub(super) fn append(&mut self, other: &Self) {
        let (len, start) = (self.len(), self.bytes.len());
        self.bytes.reserve_exact(other.bytes.len());
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.reserve_exact(other.len());
        self.ends.extend_from_slice(&other.ends);
        self.move_ends(len, |end| end + to_u32(start));
    }

    fn make_room(&mut self, bytes: usize) {
        if self.bytes.capacity() < self.bytes.len() + bytes {
            self.bytes.reserve_exact(GROWTH * bytes);
        }
        if self.ends.len() == self.ends.capacity() {
            self.ends.reserve_exact(GROWTH);
        }
    }

    fn start(&self, at: usize) -> usize {
        let before = at.checked_sub(1).and_then(|before| self.ends.get(before));
        before.map_or(0, |end| to_usize(*end))
    }

    fn move_ends(&mut self, from: usize, to: impl Fn(u32) -> u32) {
        for end in self.ends.iter_mut().skip(from) {
            *end = to(*end);
        }
    }
}

/// The shortest key that is above `left` and at most `right`, which is above `left`.
pub(super) fn separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    let same = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    right.get(..=same).unwrap_or(right)
}

const fn to_usize(bytes: u32) -> usize {
    bytes as usize
}

/// A node holds few keys, each far below what a command may have.
fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or_else(|_| unreachable!("{bytes} bytes of keys in a node"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn of(keys: &[Vec<u8>]) -> Keys {
        let mut all = Keys::default();
        keys.iter().for_each(|key| all.insert(all.len(), key));
        all
    }

    fn list(keys: &Keys) -> Vec<Vec<u8>> {
        (0..keys.len()).filter_map(|at| keys.get(at)).map(<[u8]>::to_vec).collect()
    }

    /// Every operation against a list of keys, with keys of all lengths and none.
    #[test]
    fn it_is_a_list_of_keys() {
        let mut rng = Rng::new(7);
        let (mut keys, mut model) = (Keys::default(), Vec::<Vec<u8>>::new());
        for _ in 0..20_000 {
            let mut key = alloc::vec![0; usize::try_from(rng.below(5)).expect("small")];
            rng.fill(&mut key);
            key.iter_mut().for_each(|byte| *byte %= 3);
            assert_eq!(keys.find(&key), model.binary_search(&key));
            assert_eq!(keys.through(&key), model.partition_point(|probe| *probe <= key));
            match (keys.find(&key), rng.below(4)) {
                (Err(at), 0..=2) => {
                    keys.insert(at, &key);
                    model.insert(at, key);
                }
                (Ok(at), 0..=1) => {
                    keys.remove(at);
                    model.remove(at);
                }
                (Ok(at) | Err(at), _) => {
                    let rest = keys.split_off(at);
                    let rest_of_model = model.split_off(at);
                    assert_eq!((list(&keys), list(&rest)), (model.clone(), rest_of_model.clone()));
                    let mut last = rest.clone();
                    assert_eq!(last.pop().as_ref(), rest_of_model.last());
                    assert_eq!(last.len(), rest.len().saturating_sub(1));
                    keys.append(&rest);
                    model.extend(rest_of_model);
                }
            }
            assert_eq!(list(&keys), model);
            assert_eq!((keys.len(), keys.get(keys.len())), (model.len(), None));
        }
        assert_eq!(list(&of(&model)), model);
    }

    #[test]
    fn a_separator_separates_and_is_short() {
        let separates = |left: &[u8], right: &[u8], expected: &[u8]| {
            let found = separator(left, right);
            assert!(left < found && found <= right, "{left:?} {found:?} {right:?}");
            assert_eq!(found, expected);
        };
        separates(b"", b"a", b"a");
        separates(b"abc", b"abd/efg", b"abd");
        separates(b"ab", b"abcdef", b"abc");
        separates(b"a", b"b", b"b");
        separates(b"az", b"bcd", b"b");
    }
}
