//! The file of a recording: a preamble, and frames with their checksums. Reads from any source of bytes and
//! takes nothing on trust: a recording may come from a stranger.

use ironseed_core::codec::{self, DecodeError};
use ironseed_core::machine::Now;
use ironseed_core::node::api::Input;
use ironseed_core::node::recording::{self, Head, RECORD_BYTES_MAX, Reaction, VERSION};
use std::fmt;
use std::io::{self, Read};

/// The first bytes of every recording.
pub const MAGIC: &[u8; 8] = b"IRONREC\n";
/// Bytes of the preamble: magic and version.
pub const PREAMBLE_BYTES: usize = 10;
/// Bytes of a frame before its payload: length, checksum, kind.
pub const HEADER_BYTES: usize = 9;
/// A frame with the [`Head`].
pub const HEAD: u8 = 1;
/// A frame with a step that is about to be taken.
pub const STEP: u8 = 2;
/// A frame with what the step brought.
pub const REACTION: u8 = 3;

/// What a file begins with.
#[must_use]
pub fn preamble() -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// Empties `frame` and leaves the room that its header needs; the payload is appended by the caller.
pub fn begin_frame(frame: &mut Vec<u8>) {
    frame.clear();
    frame.resize(HEADER_BYTES, 0);
}

/// Fills the header in.
///
/// # Errors
/// The payload is longer than any reader takes.
pub fn end_frame(frame: &mut [u8], kind: u8) -> io::Result<()> {
    let payload = frame.len() - HEADER_BYTES;
    if payload > RECORD_BYTES_MAX {
        let what = format!("{payload} bytes in one step, {RECORD_BYTES_MAX} are possible");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    frame[8] = kind;
    frame[..4].copy_from_slice(&(payload as u32).to_le_bytes());
    let crc = crc32fast::hash(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// What stands in a recording after its head.
#[allow(clippy::large_enum_variant, reason = "one at a time, and every other is the large one")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A step that is about to be taken.
    Step(Now, Input),
    /// What it brought.
    Reaction(Reaction),
}

/// How a recording ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// With a whole frame.
    #[default]
    Whole,
    /// In the middle of a frame, which begins at this byte: the process was killed.
    Torn(u64),
    /// At this byte, with a frame that isn't what was written. Nothing behind it is read.
    Damaged(u64),
}

/// Why a file can't be read as a recording.
#[derive(Debug)]
pub enum Unreadable {
    /// The operating system's reason.
    Io(io::Error),
    /// It doesn't begin like one.
    Foreign,
    /// It is of this version, which this program doesn't read.
    Version(u16),
    /// It ends before its head is over.
    Headless,
    /// The frame at this byte has a good checksum and is no frame, or is not at its place.
    Malformed(u64),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Foreign => f.write_str("is no recording of a node"),
            Self::Version(version) => {
                write!(
                    f,
                    "is a recording of version {version}; this program reads version {VERSION}"
                )
            }
            Self::Headless => f.write_str("ends before its head is over: nothing was recorded"),
            Self::Malformed(at) => {
                write!(f, "the frame at byte {at} was not written by this version of the program")
            }
        }
    }
}

impl std::error::Error for Unreadable {}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a recording from its beginning to its end.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    head: Head,
    /// Where the next frame begins.
    at: u64,
    payload: Vec<u8>,
    tail: Option<Tail>,
}

impl<R: Read> Reader<R> {
    /// Reads the preamble and the head.
    ///
    /// # Errors
    /// It is no recording, or not one that this program reads.
    pub fn open(mut source: R) -> Result<Self, Unreadable> {
        let mut preamble = Vec::new();
        source.by_ref().take(PREAMBLE_BYTES as u64).read_to_end(&mut preamble)?;
        let Ok(preamble) = <[u8; PREAMBLE_BYTES]>::try_from(preamble) else {
            return Err(Unreadable::Foreign);
        };
        if preamble[..8] != *MAGIC {
            return Err(Unreadable::Foreign);
        }
        let version = u16::from_le_bytes([preamble[8], preamble[9]]);
        if version != VERSION {
            return Err(Unreadable::Version(version));
        }
        let at = PREAMBLE_BYTES as u64;
        let mut payload = Vec::new();
        let Ok((kind, next)) = frame(&mut source, at, &mut payload)? else {
            return Err(Unreadable::Headless);
        };
        if kind != HEAD {
            return Err(Unreadable::Malformed(at));
        }
        let head = codec::decode(&payload).map_err(|_| Unreadable::Malformed(at))?;
        Ok(Self { source, head, at: next, payload, tail: None })
    }

    /// Who was recorded.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// How it ends; `Whole` until the end has been reached.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail.unwrap_or_default()
    }

    /// How many bytes have been read and understood.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// The next frame; `None` at the end, which [`Reader::tail`] describes.
    ///
    /// # Errors
    /// The source can't be read, or a frame is none although its checksum is good.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Unreadable> {
        if self.tail.is_some() {
            return Ok(None);
        }
        let (kind, next) = match frame(&mut self.source, self.at, &mut self.payload)? {
            Ok(found) => found,
            Err(tail) => {
                self.tail = Some(tail);
                return Ok(None);
            }
        };
        let malformed = |_: DecodeError| Unreadable::Malformed(self.at);
        let frame = match kind {
            STEP => {
                let (now, input) = recording::decode_step(&self.payload).map_err(malformed)?;
                Frame::Step(now, input)
            }
            REACTION => Frame::Reaction(codec::decode(&self.payload).map_err(malformed)?),
            _ => return Err(Unreadable::Malformed(self.at)),
        };
        self.at = next;
        Ok(Some(frame))
    }
}

/// Reads the frame at `at` into `payload`: its kind and where the next one begins, or how the file ends here.
fn frame(
    source: &mut impl Read,
    at: u64,
    payload: &mut Vec<u8>,
) -> io::Result<Result<(u8, u64), Tail>> {
    payload.clear();
    source.take(HEADER_BYTES as u64).read_to_end(payload)?;
    let header = match <[u8; HEADER_BYTES]>::try_from(payload.as_slice()) {
        Ok(header) => header,
        Err(_) if payload.is_empty() => return Ok(Err(Tail::Whole)),
        Err(_) => return Ok(Err(Tail::Torn(at))),
    };
    let [a, b, c, d, e, f, g, h, kind] = header;
    let (bytes, crc) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    if bytes as usize > RECORD_BYTES_MAX {
        return Ok(Err(Tail::Damaged(at)));
    }
    payload.clear();
    // Grows with what is there, whatever the length says.
    source.take(u64::from(bytes)).read_to_end(payload)?;
    if payload.len() < bytes as usize {
        return Ok(Err(Tail::Torn(at)));
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    if hasher.finalize() != crc {
        return Ok(Err(Tail::Damaged(at)));
    }
    Ok(Ok((kind, at + (HEADER_BYTES as u64) + u64::from(bytes))))
}
