//! What a record is beside its key, as small as it can be: there is one of each for every record of a node.

pub use crate::types::Location as RecordLocation;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::num::NonZeroU32;
use core::ops::Deref;

/// The part of a record that apply never looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In memory, because the table log has not written the record yet; `None` for no bytes. Boxed to keep slots small:
    /// nearly all bodies are stored.
    Resident(Option<Arc<ResidentBody>>),
    /// The record is in the table log, and this is where its body is. Of length 0 for no body: then
    /// there is nothing to read, but the segment is still needed for the record.
    Stored(Stored),
}

/// A body in memory with its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidentBody {
    /// The bytes, at least one.
    pub bytes: Bytes,
    /// Their CRC32.
    pub crc: u32,
}

/// A [`RecordLocation`] in the table log, in half its space: no segment is longer than 4 GiB, and none is numbered 2^32 or
/// above ([`Stored::SEGMENT_MAX`]), which a node that writes a gigabyte a second comes to after thousands of years. A boot refuses
/// files that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The segment; its being never zero is what makes a [`Body`] no larger than this.
    segment: NonZeroU32,
    offset: u32,
    bytes: u32,
    crc: u32,
}

impl Stored {
    /// The highest number of a segment that a record can be in.
    pub const SEGMENT_MAX: u64 = u32::MAX as u64;
    /// The longest segment.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 32;

    /// A location; `None` for one that no segment of the table log has.
    #[must_use]
    pub fn new(location: RecordLocation) -> Option<Self> {
        let RecordLocation { segment, offset, bytes, crc } = location;
        let segment = NonZeroU32::new(u32::try_from(segment).ok()?)?;
        Some(Self { segment, offset: u32::try_from(offset).ok()?, bytes, crc })
    }

    /// The location.
    #[must_use]
    pub fn location(&self) -> RecordLocation {
        RecordLocation {
            segment: u64::from(self.segment.get()),
            offset: u64::from(self.offset),
            bytes: self.bytes,
            crc: self.crc,
        }
    }
}

impl Body {
    /// No bytes, and the record is not yet in the table log.
    pub const EMPTY: Self = Self::Resident(None);

    /// A body in memory. Computes its checksum.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self::EMPTY;
        }
        Self::Resident(Some(Arc::new(ResidentBody { crc: crc32fast::hash(&bytes), bytes })))
    }

    /// A body where the table log has written it.
    ///
    /// # Panics
    /// If no segment of the table log has such a place.
    #[must_use]
    pub fn stored(location: RecordLocation) -> Self {
        let stored = Stored::new(location);
        Self::Stored(stored.unwrap_or_else(|| panic!("the table log can't reach {location:?}")))
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u32 {
        match self {
            Self::Resident(None) => 0,
            // A command's limit is far below.
            Self::Resident(Some(body)) => u32::try_from(body.bytes.len()).unwrap_or(u32::MAX),
            Self::Stored(stored) => stored.bytes,
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// CRC32 of the bytes; 0 of none.
    #[must_use]
    pub fn crc(&self) -> u32 {
        match self {
            Self::Resident(None) => 0,
            Self::Resident(Some(body)) => body.crc,
            Self::Stored(stored) => stored.crc,
        }
    }

    /// Where the table log has it, if it has.
    #[must_use]
    pub fn location(&self) -> Option<RecordLocation> {
        match self {
            Self::Resident(_) => None,
            Self::Stored(stored) => Some(stored.location()),
        }
    }

    /// The bytes if no read is needed, else where to read them.
    ///
    /// # Errors
    /// The location, when the bytes are only in the table log.
    pub fn bytes(&self) -> Result<Bytes, RecordLocation> {
        match self {
            Self::Resident(None) => Ok(Bytes::new()),
            Self::Resident(Some(body)) => Ok(body.bytes.clone()),
            Self::Stored(stored) if stored.bytes == 0 => Ok(Bytes::new()),
            Self::Stored(stored) => Err(stored.location()),
        }
    }
}

/// The part of a record that apply decides from. No bytes take no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head(Option<Arc<[u8]>>);

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<&[u8]> for Head {
    fn from(bytes: &[u8]) -> Self {
        Self((!bytes.is_empty()).then(|| Arc::from(bytes)))
    }
}

impl From<Vec<u8>> for Head {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(&*bytes)
    }
}

const _: () = {
    assert!(size_of::<Body>() == 16, "a body is no larger than a place");
    assert!(size_of::<Head>() == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_whole_or_refused() {
        let location = RecordLocation { segment: 7, offset: 4096, bytes: 5, crc: 9 };
        let highest = RecordLocation {
            segment: Stored::SEGMENT_MAX,
            offset: Stored::SEGMENT_BYTES_MAX - 1,
            bytes: u32::MAX,
            crc: u32::MAX,
        };
        for location in [location, highest] {
            assert_eq!(Stored::new(location).map(|it| it.location()), Some(location));
            assert_eq!(Body::stored(location).bytes(), Err(location));
        }
        for beyond in [
            RecordLocation { segment: 0, ..location },
            RecordLocation { segment: Stored::SEGMENT_MAX + 1, ..location },
            RecordLocation { offset: Stored::SEGMENT_BYTES_MAX, ..location },
        ] {
            assert_eq!(Stored::new(beyond), None);
        }
    }
}
