//! Buffers for long reads, used again. A boot reads gigabytes in slices that it is done with at once; fresh pages for each of
//! them cost as much as reading.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// Shorter reads have buffers of their own: the allocator keeps such at hand.
const BYTES_MIN: usize = 256 << 10;
/// Longer ones too: what is kept is memory for good.
const BYTES_MAX: usize = 1 << 20;
/// What is kept at the most.
const KEPT_MAX: usize = 8;

/// Buffers that wait to be used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that goes back when nobody reads it any more.
struct Borrowed {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// An empty buffer with room for so many bytes.
    pub(super) fn take(&self, len: usize) -> Vec<u8> {
        let kept = (BYTES_MIN..=BYTES_MAX).contains(&len).then(|| {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = kept.iter().rposition(|it| it.capacity() >= len);
            fits.map(|at| kept.swap_remove(at))
        });
        kept.flatten().unwrap_or_else(|| Vec::with_capacity(len))
    }

    /// What was read into a buffer that [`Self::take`] gave.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        if !(BYTES_MIN..=BYTES_MAX).contains(&bytes.capacity()) {
            return bytes.into();
        }
        Bytes::from_owner(Borrowed { bytes, home: self.clone() })
    }
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            let mut bytes = core::mem::take(&mut self.bytes);
            bytes.clear();
            kept.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_buffer_is_used_again_when_the_last_handle_is_gone_and_never_before() {
        let buffers = Buffers::default();
        let mut bytes = buffers.take(BYTES_MIN);
        bytes.extend_from_slice(&[7; 100]);
        let place = bytes.as_ptr();
        let lent = buffers.lend(bytes);
        let slice = lent.slice(10..20);
        drop(lent);
        let other = buffers.take(BYTES_MIN);
        assert_ne!(other.as_ptr(), place, "a slice of it is still read");
        assert_eq!(slice, [7; 10].as_slice());
        drop(slice);
        let again = buffers.take(BYTES_MIN);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn no_more_are_kept_than_a_few_and_none_that_are_short_or_very_long() {
        let buffers = Buffers::default();
        let lent: Vec<Bytes> = (0..2 * KEPT_MAX)
            .map(|_| buffers.lend(buffers.take(BYTES_MIN)))
            .chain([100, BYTES_MAX + 1].map(|len| buffers.lend(buffers.take(len))))
            .collect();
        drop(lent);
        let kept = buffers.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(kept.len(), KEPT_MAX);
        assert!(kept.iter().all(|it| (BYTES_MIN..=BYTES_MAX).contains(&it.capacity())));
    }
}
