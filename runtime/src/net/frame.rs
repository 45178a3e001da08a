//! How a message lies on the wire.
//!
//! ```text
//! frame
//!   0  bytes of the head    4   little-endian, like all numbers here
//!   4  bytes of the body    4
//!   8  kind                 1
//!   9  version              1   1
//!  10  zero                 2
//!  12  CRC32 of the head    4
//!  16  CRC32 of the body    4
//!  20  CRC32 of bytes 0..20 4
//!  24  head                     bincode
//!      body                     bulk bytes, as they are
//! ```
//!
//! A frame is broken when one of its three checksums is wrong, its version or kind is not known, bytes
//! 10 and 11 are not zero, or it is longer than the reader allows at that point. The connection is closed
//! then: nothing after a broken frame can be trusted to begin where it seems to.

use bytes::{Bytes, BytesMut};
use std::fmt;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes before the head.
pub const HEADER_BYTES: usize = 24;
const VERSION: u8 = 3;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Handshake, 1: who is calling whom.
    Hello = 1,
    /// Handshake, 2: the other side's nonce.
    Challenge = 2,
    /// Handshake, 3: the caller's proof.
    Proof = 3,
    /// Handshake, 4: the other side's proof.
    Welcome = 4,
    /// Handshake, 4 instead: why a caller that proved itself is sent away.
    Refusal = 5,
    /// A message between nodes.
    Message = 16,
}

/// Head and body sizes that a reader allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the head.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
}

/// From a stranger: a frame of 256 bytes with its header.
pub const STRANGER: Limits = Limits { head: 256 - HEADER_BYTES, body: 0 };
/// From a member: a head that the codec can decode, a body with room for several chunks.
pub const MEMBER: Limits = Limits { head: ironseed_core::codec::VALUE_BYTES_MAX, body: 16 << 20 };

/// Why a frame could not be read.
#[derive(Debug)]
pub enum FrameError {
    /// The connection ended or failed.
    Io(io::Error),
    /// The bytes are no frame; says what is wrong with them.
    Broken(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Broken(what) => write!(f, "broken frame: {what}"),
        }
    }
}

impl std::error::Error for FrameError {}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A checked header.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Bytes of its head.
    pub head: usize,
    /// Bytes of its body.
    pub body: usize,
    head_crc: u32,
    body_crc: u32,
}

/// The header before this head and body, which are within [`MEMBER`].
#[must_use]
pub fn header(kind: Kind, head: &[u8], body: &[u8]) -> [u8; HEADER_BYTES] {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&length(head));
    header[4..8].copy_from_slice(&length(body));
    header[8] = kind as u8;
    header[9] = VERSION;
    header[12..16].copy_from_slice(&crc32fast::hash(head).to_le_bytes());
    header[16..20].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..24].copy_from_slice(&crc.to_le_bytes());
    header
}

impl Header {
    /// Checks a header.
    ///
    /// # Errors
    /// It is broken, or the frame is larger than `limits`.
    pub fn parse(bytes: &[u8; HEADER_BYTES], limits: Limits) -> Result<Self, FrameError> {
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if number(20) != crc32fast::hash(&bytes[..20]) {
            return Err(FrameError::Broken("checksum of the header"));
        }
        if bytes[9] != VERSION || bytes[10..12] != [0, 0] {
            return Err(FrameError::Broken("unknown version"));
        }
        let kind = match bytes[8] {
            1 => Kind::Hello,
            2 => Kind::Challenge,
            3 => Kind::Proof,
            4 => Kind::Welcome,
            5 => Kind::Refusal,
            16 => Kind::Message,
            _ => return Err(FrameError::Broken("unknown kind")),
        };
        let (head, body) = (number(0) as usize, number(4) as usize);
        if head > limits.head || body > limits.body {
            return Err(FrameError::Broken("longer than is allowed here"));
        }
        Ok(Self { kind, head, body, head_crc: number(12), body_crc: number(16) })
    }

    /// Reads the header of the next frame; `None` when the connection ends before it.
    ///
    /// # Errors
    /// The connection fails or ends within the header, or the header is broken.
    pub async fn read(
        stream: &mut (impl AsyncRead + Unpin),
        limits: Limits,
    ) -> Result<Option<Self>, FrameError> {
        let mut bytes = [0; HEADER_BYTES];
        let first = stream.read(&mut bytes).await?;
        if first == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut bytes[first..]).await?;
        Self::parse(&bytes, limits).map(Some)
    }

    /// Reads what follows the header. Allocates what the header says, which was found to be within
    /// limits.
    ///
    /// # Errors
    /// The connection fails or ends, or a checksum is wrong.
    pub async fn read_rest(
        self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<(Vec<u8>, Bytes), FrameError> {
        let mut head = vec![0; self.head];
        stream.read_exact(&mut head).await?;
        if crc32fast::hash(&head) != self.head_crc {
            return Err(FrameError::Broken("checksum of the head"));
        }
        let mut body = BytesMut::zeroed(self.body);
        stream.read_exact(&mut body).await?;
        if crc32fast::hash(&body) != self.body_crc {
            return Err(FrameError::Broken("checksum of the body"));
        }
        Ok((head, body.freeze()))
    }
}
