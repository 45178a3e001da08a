//! Shrinking on runs of the store.
