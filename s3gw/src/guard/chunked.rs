//! aws-chunked: a body cut into chunks, each with its length and perhaps a signature, and perhaps
//! trailers. Decoded byte by byte as it arrives: a chunk may be gigabytes, so it is never collected;
//! its bytes go on before its signature has been seen, and nothing is stored until the last one held.
//!
//! ```text
//! <hex length>[;chunk-signature=<64 hex>]\r\n <bytes> \r\n     any number of times
//! 0[;chunk-signature=<64 hex>]\r\n
//! [<trailer>:<value>\r\n ... [x-amz-trailer-signature:<64 hex>\r\n]] \r\n
//! ```

use super::sigv4::ChunkSigner;
use crate::error::{Code, Error, Result};
use bytes::{Buf, Bytes};

/// The longest chunk head: a length and a signature take about a hundred bytes.
const LINE_BYTES_MAX: usize = 512;
/// The most that all trailers may take.
const TRAILER_BYTES_MAX: usize = 8 << 10;

/// Decodes one body.
pub struct Decoder {
    state: State,
    line: Vec<u8>,
    /// Bytes of data that are still to come, by `x-amz-decoded-content-length`.
    missing: u64,
    signer: Option<ChunkSigner>,
    trailers_allowed: bool,
    trailers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Data {
        left: u64,
    },
    /// The CR and LF after a chunk's data; `seen` of them have come.
    DataEnd {
        seen: usize,
    },
    Trailers,
}

impl Decoder {
    /// A decoder for `bytes` bytes of data. Chunks must be signed if there is a `signer`.
    #[must_use]
    pub fn new(bytes: u64, signer: Option<ChunkSigner>, trailers_allowed: bool) -> Self {
        let state = State::Head;
        let line = Vec::new();
        Self { state, line, missing: bytes, signer, trailers_allowed, trailers: Vec::new() }
    }

    /// Consumes from `input` until there is data to give out or nothing is left.
    ///
    /// # Errors
    /// Framing, lengths or signatures that don't hold.
    pub fn feed(&mut self, input: &mut Bytes) -> Result<Option<Bytes>> {
        while !input.is_empty() {
            match self.state {
                State::Head => {
                    if self.read_line(input, LINE_BYTES_MAX)? {
                        self.on_head()?;
                    }
                }
                State::Data { left } => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let data = input.split_to(take);
                    self.missing -= take as u64;
                    if let Some(signer) = &mut self.signer {
                        signer.update(&data);
                    }
                    let left = left - take as u64;
                    if left == 0 {
                        self.end_chunk()?;
                        self.state = State::DataEnd { seen: 0 };
                    } else {
                        self.state = State::Data { left };
                    }
                    return Ok(Some(data));
                }
                State::DataEnd { seen } => {
                    let byte = input.get_u8();
                    self.state = match (seen, byte) {
                        (0, b'\r') => State::DataEnd { seen: 1 },
                        (1, b'\n') => State::Head,
                        _ => return Err(malformed("a chunk is longer than its length")),
                    };
                }
                State::Trailers => {
                    if self.read_line(input, TRAILER_BYTES_MAX)? {
                        self.on_trailer()?;
                    }
                }
            }
        }
        Ok(None)
    }

    /// The body has ended.
    ///
    /// # Errors
    /// It ended too early, or the trailers' signature does not hold.
    pub fn finish(&mut self) -> Result<()> {
        if self.state != State::Trailers || self.missing > 0 {
            return Err(Code::IncompleteBody.into());
        }
        if !self.line.is_empty() {
            self.on_trailer()?;
        }
        let Some(signer) = &mut self.signer else { return Ok(()) };
        let at = self.trailers.iter().position(|(name, _)| name == "x-amz-trailer-signature");
        match at.map(|at| self.trailers.remove(at)) {
            Some((_, signature)) => signer.verify_trailers(&self.trailers, &signature),
            None if self.trailers_allowed => Err(Code::SignatureDoesNotMatch.into()),
            None => Ok(()),
        }
    }

    /// The trailers, after [`Decoder::finish`]: lower-case names.
    #[must_use]
    pub fn trailers(&self) -> &[(String, String)] {
        &self.trailers
    }

    /// Moves bytes into `line` up to a newline; says whether it is complete (without its ending).
    fn read_line(&mut self, input: &mut Bytes, max: usize) -> Result<bool> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let take = end.unwrap_or(input.len());
        if self.line.len() + take > max {
            return Err(malformed("a chunk head or trailer is too long"));
        }
        self.line.extend_from_slice(&input.split_to(take));
        if end.is_some() {
            input.advance(1);
            if self.line.last() == Some(&b'\r') {
                self.line.pop();
            }
        }
        Ok(end.is_some())
    }

    fn on_head(&mut self) -> Result<()> {
        let line = String::from_utf8(std::mem::take(&mut self.line))
            .map_err(|_| malformed("a chunk head is malformed"))?;
        let (length, extension) = line.split_once(';').unwrap_or((&line, ""));
        // from_str_radix alone would take a sign.
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_hexdigit());
        let length = u64::from_str_radix(length, 16).ok().filter(|_| digits);
        let length = length.ok_or_else(|| malformed("a chunk length is malformed"))?;
        if length > self.missing {
            return Err(Code::IncompleteBody
                .because("the chunks hold more than x-amz-decoded-content-length says"));
        }
        if let Some(signer) = &mut self.signer {
            let signature = extension.strip_prefix("chunk-signature=");
            signer.begin(signature.ok_or(Code::SignatureDoesNotMatch)?);
        }
        if length > 0 {
            self.state = State::Data { left: length };
            return Ok(());
        }
        self.end_chunk()?;
        if self.missing > 0 {
            return Err(Code::IncompleteBody.into());
        }
        self.state = State::Trailers;
        Ok(())
    }

    fn end_chunk(&mut self) -> Result<()> {
        self.signer.as_mut().map_or(Ok(()), ChunkSigner::verify_chunk)
    }

    fn on_trailer(&mut self) -> Result<()> {
        let line = String::from_utf8(std::mem::take(&mut self.line))
            .map_err(|_| Error::from(Code::MalformedTrailerError))?;
        // Clients separate the trailers' signature by an empty line or not, and end with one.
        if line.trim().is_empty() {
            return Ok(());
        }
        let (name, value) = line.split_once(':').ok_or(Code::MalformedTrailerError)?;
        let taken: usize = self.trailers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if !self.trailers_allowed || taken + line.len() > TRAILER_BYTES_MAX {
            return Err(Code::MalformedTrailerError.into());
        }
        self.trailers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        Ok(())
    }
}

fn malformed(why: &'static str) -> Error {
    Code::IncompleteBody.because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `body` fed in pieces of `step` bytes.
    fn decode(
        body: &[u8],
        bytes: u64,
        trailers: bool,
        step: usize,
    ) -> Result<(Vec<u8>, usize), Code> {
        let mut decoder = Decoder::new(bytes, None, trailers);
        let mut out = Vec::new();
        for piece in body.chunks(step) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(data) = decoder.feed(&mut piece).map_err(|error| error.code)? {
                out.extend_from_slice(&data);
            }
        }
        decoder.finish().map_err(|error| error.code)?;
        Ok((out, decoder.trailers().len()))
    }

    #[test]
    fn every_split_decodes_alike_and_every_cut_is_incomplete() {
        let body = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        let whole = b"abc0123456789".to_vec();
        for step in 1..body.len() {
            assert_eq!(decode(body, 13, true, step), Ok((whole.clone(), 1)), "step {step}");
        }
        let final_head = body.len() - b"\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n".len();
        for cut in 0..=final_head {
            assert_eq!(decode(&body[..cut], 13, true, 7), Err(Code::IncompleteBody), "cut {cut}");
        }
    }

    #[test]
    fn lengths_must_agree_and_be_lengths() {
        let rows: [(&[u8], u64); 9] = [
            (b"3\r\nabc\r\n0\r\n\r\n", 2),
            (b"3\r\nabc\r\n0\r\n\r\n", 4),
            (b"3\r\nabcd\r\n0\r\n\r\n", 4),
            (b"+3\r\nabc\r\n0\r\n\r\n", 3),
            (b"-3\r\nabc\r\n0\r\n\r\n", 3),
            (b"\r\nabc\r\n0\r\n\r\n", 3),
            (b"fffffffffffffffff\r\nabc", 3),
            (b"xyz\r\nabc", 3),
            (b"", 0),
        ];
        for (body, bytes) in rows {
            assert_eq!(decode(body, bytes, false, 64), Err(Code::IncompleteBody), "{body:?}");
        }
        let endless = vec![b'1'; 4096];
        assert_eq!(decode(&endless, 3, false, 64), Err(Code::IncompleteBody));
        assert_eq!(decode(b"0\r\na:b\r\n\r\n", 0, false, 64), Err(Code::MalformedTrailerError));
        assert_eq!(decode(b"0\r\nnonsense\r\n\r\n", 0, true, 64), Err(Code::MalformedTrailerError));
    }
}
