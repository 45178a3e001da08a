//! A page of a file: bytes of its own, or a part of what somebody wrote.

use bytes::Bytes;

/// Bytes of a page, which is all sectors of a place that were ever written, and the others.
pub(super) const PAGE: usize = 8 * super::file::SECTOR;

/// A page of its own, or a part of what somebody wrote, which is copied when it changes.
#[derive(Clone, Debug)]
pub(super) enum Page {
    Own(Box<[u8; PAGE]>),
    Shared(Bytes),
}

impl Page {
    pub(super) fn bytes(&self) -> &[u8; PAGE] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes.first_chunk().unwrap_or(&[0; PAGE]),
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8; PAGE] {
        if let Self::Shared(_) = self {
            *self = Self::Own(Box::new(*self.bytes()));
        }
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(_) => unreachable!("it was copied"),
        }
    }
}
