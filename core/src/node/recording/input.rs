//! How an input is encoded: a tag and its fields. By hand, because bulk bytes are handles ([`Bytes`]), and
//! because a completion's result is part of the tag.

use super::RECORD_BYTES_MAX;
use crate::codec::Octets;
use crate::machine::{IoDone, IoResult};
use crate::node::api::Input;
use crate::node::message::PeerMessage;
use alloc::vec::Vec;
use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};
use bytes::Bytes;

// Part of the format (docs/formats.md): never change one.
const BOOT: u8 = 0;
const MESSAGE: u8 = 1;
const REQUEST: u8 = 2;
const CANCEL: u8 = 3;
const DONE: u8 = 4;
const DONE_DATA: u8 = 5;
const DONE_HASHED: u8 = 6;
const DONE_FAILED: u8 = 7;
const TIMER: u8 = 8;
const STOP: u8 = 9;
const REFUSED: u8 = 10;

impl Encode for Input {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Boot { files, found } => (BOOT, files, found).encode(encoder),
            Self::Message { from, message } => {
                let body: &[u8] = &message.body;
                (MESSAGE, from, &message.head, body).encode(encoder)
            }
            Self::Request { id, request } => (REQUEST, id, request).encode(encoder),
            Self::Cancel { id } => (CANCEL, id).encode(encoder),
            Self::Done { op, result } => match result {
                Ok(IoDone::Ok) => (DONE, op).encode(encoder),
                Ok(IoDone::Data(bytes)) => {
                    (DONE_DATA, op, bytes.len() as u64, without_end(bytes)).encode(encoder)
                }
                Ok(IoDone::Hashed(hashed)) => (DONE_HASHED, op, hashed).encode(encoder),
                Err(error) => (DONE_FAILED, op, error).encode(encoder),
            },
            Self::Timer => TIMER.encode(encoder),
            Self::Stop => STOP.encode(encoder),
            Self::Refused { peer } => (REFUSED, peer).encode(encoder),
        }
    }
}

impl<C> Decode<C> for Input {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u8::decode(decoder)? {
            BOOT => {
                let (files, found) = Decode::decode(decoder)?;
                Self::Boot { files, found }
            }
            MESSAGE => {
                let (from, head, body) = Decode::decode(decoder)?;
                Self::Message { from, message: PeerMessage { head, body: bytes(body) } }
            }
            REQUEST => {
                let (id, request) = Decode::decode(decoder)?;
                Self::Request { id, request }
            }
            CANCEL => Self::Cancel { id: Decode::decode(decoder)? },
            DONE => done(decoder, |()| Ok(IoDone::Ok))?,
            DONE_DATA => {
                let (op, len, start) = Decode::decode(decoder)?;
                Self::Done { op, result: Ok(IoDone::Data(with_end(start, len)?)) }
            }
            DONE_HASHED => done(decoder, |hashed| Ok(IoDone::Hashed(hashed)))?,
            DONE_FAILED => done(decoder, Err)?,
            TIMER => Self::Timer,
            STOP => Self::Stop,
            REFUSED => Self::Refused { peer: Decode::decode(decoder)? },
            _ => return Err(DecodeError::Other("no such input")),
        })
    }
}

impl<'de, C> BorrowDecode<'de, C> for Input {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

fn done<D: Decoder, T: Decode<D::Context>>(
    decoder: &mut D,
    result: impl FnOnce(T) -> IoResult,
) -> Result<Input, DecodeError> {
    let (op, content) = Decode::decode(decoder)?;
    Ok(Input::Done { op, result: result(content) })
}

fn bytes(octets: Octets) -> Bytes {
    octets.0
}

/// Bytes without the blocks of zeros that they end with. A boot reads all of its segments, which are mostly
/// allocated and not written yet: recorded as they are, they would be most of a recording.
fn without_end(bytes: &[u8]) -> &[u8] {
    const ZEROS: &[u8] = &[0; 4096];
    let written = bytes.chunks(ZEROS.len()).rposition(|block| !ZEROS.starts_with(block));
    let kept = written.map_or(0, |last| (last + 1) * ZEROS.len());
    bytes.get(..kept).unwrap_or(bytes)
}

/// So many bytes that begin like this and end with zeros.
fn with_end(mut start: Vec<u8>, len: u64) -> Result<Bytes, DecodeError> {
    let len =
        usize::try_from(len).ok().filter(|len| (start.len()..=RECORD_BYTES_MAX).contains(len));
    let len = len.ok_or(DecodeError::Other("no such length of a read"))?;
    start.resize(len, 0);
    Ok(start.into())
}
