//! The one place where bytes become values: bincode 2 with a limit, and no byte left over.
//!
//! bincode alone accepts trailing bytes, panics on a hostile length without a limit and does not see
//! most bit flips. So every frame around an encoded value carries a CRC32, every decode has a limit,
//! and only format types (docs/formats.md) derive `Encode` and `Decode`.

use alloc::vec::Vec;
use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError as BincodeDecode, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};
use bytes::Bytes;
use core::fmt;

/// The most that one encoded value may take: what a decoder can be made to allocate.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// Why bytes are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end early, name an unknown variant, exceed the limit or are otherwise malformed.
    Malformed,
    /// Bytes are left after the value.
    Trailing,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed value",
            Self::Trailing => "bytes left after the value",
        })
    }
}

impl core::error::Error for DecodeError {}

/// Encodes a format type.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    // Encoding into a growing vector has no failure but a type that refuses to encode, and no format
    // type does.
    bincode::encode_to_vec(value, bincode::config::standard()).unwrap_or_default()
}

/// Encodes a format type piece by piece, for those who hash it or have a place for it: the pieces in their
/// order are what [`encode`] returns. Most are a few bytes.
pub fn encode_to<T: Encode>(value: &T, piece: impl FnMut(&[u8])) {
    struct Pieces<F>(F);
    impl<F: FnMut(&[u8])> Writer for Pieces<F> {
        fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
            (self.0)(bytes);
            Ok(())
        }
    }
    // As above: nothing here can fail.
    let _ = bincode::encode_into_writer(value, Pieces(piece), bincode::config::standard());
}

/// Decodes a format type from exactly `bytes`.
///
/// # Errors
/// Malformed or trailing bytes. Allocates no more than [`VALUE_BYTES_MAX`] whatever the bytes say.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_within::<T, VALUE_BYTES_MAX>(bytes)
}

/// As [`decode`], with another limit, in bytes.
///
/// # Errors
/// Malformed or trailing bytes. Allocates no more than `LIMIT` whatever the bytes say.
pub fn decode_within<T: Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<T, DecodeError> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    match bincode::decode_from_slice(bytes, config) {
        Ok((value, read)) if read == bytes.len() => Ok(value),
        Ok(_) => Err(DecodeError::Trailing),
        Err(_) => Err(DecodeError::Malformed),
    }
}

/// As [`decode`], of a type that borrows from the bytes instead of copying them.
///
/// # Errors
/// Malformed or trailing bytes. Allocates no more than [`VALUE_BYTES_MAX`] whatever the bytes say.
pub fn decode_borrowed<'de, T: BorrowDecode<'de, ()>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    let config = bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();
    match bincode::borrow_decode_from_slice(bytes, config) {
        Ok((value, read)) if read == bytes.len() => Ok(value),
        Ok(_) => Err(DecodeError::Trailing),
        Err(_) => Err(DecodeError::Malformed),
    }
}

/// A byte string inside a format type. Encodes as length and bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Octets(pub Bytes);

impl Encode for Octets {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.as_ref().encode(encoder)
    }
}

impl<C> Decode<C> for Octets {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, BincodeDecode> {
        Ok(Self(Bytes::from(Vec::<u8>::decode(decoder)?)))
    }
}

impl<'de, C> BorrowDecode<'de, C> for Octets {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, BincodeDecode> {
        Ok(Self(Bytes::from(Vec::<u8>::decode(decoder)?)))
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<Bytes> for Octets {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Octets {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl core::ops::Deref for Octets {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests cut bytes where they know the length")]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_consumed_and_hostile_lengths_are_refused() {
        let bytes = encode(&Octets::from(b"abc".to_vec()));
        assert_eq!(decode::<Octets>(&bytes), Ok(Octets::from(b"abc".to_vec())));
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode::<Octets>(&longer), Err(DecodeError::Trailing));
        for cut in 0..bytes.len() {
            assert_eq!(decode::<Octets>(&bytes[..cut]), Err(DecodeError::Malformed));
        }
        let hostile = [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(decode::<Octets>(&hostile), Err(DecodeError::Malformed));
        assert_eq!(decode::<Vec<u64>>(&hostile), Err(DecodeError::Malformed));
    }
}
