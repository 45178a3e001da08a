//! Content-MD5 and the five additional checksums: what a client announced, what its bytes come to, and
//! what a multipart object's checksum follows from its parts' ones.

use crate::error::{Code, Error, Result};
use crate::text::{base64, unbase64};
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use ironseed_core::object::api::{Checksum, ChecksumAlgorithm};
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::Sha256;

/// The algorithms with the header (or trailer) that carries each, S3's name for it, and how many bytes
/// its values have.
pub const ALGORITHMS: [(ChecksumAlgorithm, &str, &str, usize); 5] = [
    (ChecksumAlgorithm::Crc32, "x-amz-checksum-crc32", "CRC32", 4),
    (ChecksumAlgorithm::Crc32c, "x-amz-checksum-crc32c", "CRC32C", 4),
    (ChecksumAlgorithm::Crc64Nvme, "x-amz-checksum-crc64nvme", "CRC64NVME", 8),
    (ChecksumAlgorithm::Sha1, "x-amz-checksum-sha1", "SHA1", 20),
    (ChecksumAlgorithm::Sha256, "x-amz-checksum-sha256", "SHA256", 32),
];

/// The header that carries a checksum of this algorithm.
#[must_use]
pub fn header_name(algorithm: ChecksumAlgorithm) -> &'static str {
    row(algorithm).1
}

/// S3's name of an algorithm.
#[must_use]
pub fn name(algorithm: ChecksumAlgorithm) -> &'static str {
    row(algorithm).2
}

/// The algorithm of this name, of either case.
#[must_use]
pub fn named(name: &str) -> Option<ChecksumAlgorithm> {
    ALGORITHMS.iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.0)
}

fn row(
    algorithm: ChecksumAlgorithm,
) -> &'static (ChecksumAlgorithm, &'static str, &'static str, usize) {
    ALGORITHMS.iter().find(|row| row.0 == algorithm).expect("every algorithm has its row")
}

/// A checksum as headers and XML show it. `parts` is how many parts a composite one counts.
#[must_use]
pub fn show(checksum: &Checksum, parts: u16) -> String {
    let value = base64(&checksum.value);
    if checksum.composite { format!("{value}-{parts}") } else { value }
}

/// Reads a checksum value, or `None` if it is not base64 of the right length.
#[must_use]
pub fn parse_value(algorithm: ChecksumAlgorithm, text: &str) -> Option<Vec<u8>> {
    unbase64(text.trim()).filter(|value| value.len() == row(algorithm).3)
}

/// What a client says its body comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Content-MD5.
    pub md5: Option<[u8; 16]>,
    /// The additional checksum; its value is `None` while it is still to come in the trailer.
    pub checksum: Option<(ChecksumAlgorithm, Option<Vec<u8>>)>,
}

impl Announced {
    /// Reads the headers.
    ///
    /// # Errors
    /// A malformed or contradictory announcement.
    pub fn of(headers: &HeaderMap) -> Result<Self> {
        let md5 = match headers.get("content-md5") {
            None => None,
            Some(value) => {
                let bytes = value.to_str().ok().and_then(unbase64);
                Some(bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Code::InvalidDigest)?)
            }
        };
        let mut checksum = None;
        for (algorithm, header, ..) in ALGORITHMS {
            let Some(value) = headers.get(header) else { continue };
            if checksum.is_some() {
                return Err(Code::InvalidRequest.because(
                    "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed.",
                ));
            }
            let value = value.to_str().ok().and_then(|text| parse_value(algorithm, text));
            let value = value.ok_or_else(|| invalid_value(header))?;
            checksum = Some((algorithm, Some(value)));
        }
        if let Some(trailer) = Self::in_trailer(headers)? {
            if checksum.is_some() {
                return Err(Code::InvalidRequest
                    .because("a checksum is announced both in a header and in the trailer"));
            }
            checksum = Some((trailer, None));
        }
        let announced = Self { md5, checksum };
        announced.check_named_algorithm(headers)?;
        Ok(announced)
    }

    fn in_trailer(headers: &HeaderMap) -> Result<Option<ChecksumAlgorithm>> {
        let mut found = None;
        for value in headers.get_all("x-amz-trailer") {
            for name in value.to_str().unwrap_or_default().split(',') {
                let name = name.trim().to_ascii_lowercase();
                let algorithm = ALGORITHMS.iter().find(|row| row.1 == name).map(|row| row.0);
                match algorithm {
                    Some(algorithm) if found.is_none() => found = Some(algorithm),
                    _ => {
                        return Err(Code::InvalidRequest.because(
                            "The value specified in the x-amz-trailer header is not supported",
                        ));
                    }
                }
            }
        }
        Ok(found)
    }

    /// SDKs also name the algorithm that they have chosen: a name without a value would be a checksum
    /// that we silently did not check.
    fn check_named_algorithm(&self, headers: &HeaderMap) -> Result<()> {
        let Some(value) = headers.get("x-amz-sdk-checksum-algorithm") else { return Ok(()) };
        let algorithm = value.to_str().ok().and_then(named).ok_or_else(|| {
            Code::InvalidRequest
                .because("Value for x-amz-sdk-checksum-algorithm header is invalid.")
        })?;
        match &self.checksum {
            Some((announced, _)) if *announced == algorithm => Ok(()),
            _ => Err(Code::InvalidRequest.because(
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or \
                 x-amz-trailer headers were found.",
            )),
        }
    }

    /// Takes the values that came in the trailer.
    ///
    /// # Errors
    /// An announced checksum that did not come, or came malformed; one that was not announced.
    pub fn take_trailers(&mut self, trailers: &[(String, String)]) -> Result<()> {
        for (name, value) in trailers {
            let Some((algorithm, ..)) = ALGORITHMS.iter().find(|row| row.1 == name) else {
                continue;
            };
            match &mut self.checksum {
                Some((announced, slot @ None)) if announced == algorithm => {
                    let value = parse_value(*algorithm, value);
                    *slot = Some(value.ok_or_else(|| invalid_value(name))?);
                }
                _ => return Err(Code::MalformedTrailerError.into()),
            }
        }
        match self.checksum {
            Some((_, None)) => Err(Code::MalformedTrailerError.into()),
            _ => Ok(()),
        }
    }
}

fn invalid_value(header: &str) -> Error {
    Code::InvalidRequest.because(format!("Value for {header} header is invalid."))
}

/// One additional checksum, growing with the bytes.
enum Running {
    Crc(ChecksumAlgorithm, crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Running {
    fn new(algorithm: ChecksumAlgorithm) -> Self {
        match algorithm {
            ChecksumAlgorithm::Sha1 => Self::Sha1(Sha1::new()),
            ChecksumAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
            crc => Self::Crc(crc, crc_fast::Digest::new(crc_kind(crc))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(_, digest) => digest.update(bytes),
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    fn finish(self) -> (ChecksumAlgorithm, Vec<u8>) {
        match self {
            Self::Crc(algorithm, digest) => (algorithm, crc_bytes(algorithm, digest.finalize())),
            Self::Sha1(digest) => (ChecksumAlgorithm::Sha1, digest.finalize().to_vec()),
            Self::Sha256(digest) => (ChecksumAlgorithm::Sha256, digest.finalize().to_vec()),
        }
    }
}

fn crc_kind(algorithm: ChecksumAlgorithm) -> CrcAlgorithm {
    match algorithm {
        ChecksumAlgorithm::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
        ChecksumAlgorithm::Crc32c => CrcAlgorithm::Crc32Iscsi,
        ChecksumAlgorithm::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => {
            unreachable!("callers tell CRCs from hashes")
        }
    }
}

fn crc_bytes(algorithm: ChecksumAlgorithm, value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    bytes[bytes.len() - row(algorithm).3..].to_vec()
}

/// Everything that is computed over a body while it streams by.
pub struct Digests {
    md5: Md5,
    checksum: Option<Running>,
    bytes: u64,
}

impl Digests {
    /// MD5, and an additional checksum if one is wanted.
    #[must_use]
    pub fn new(algorithm: Option<ChecksumAlgorithm>) -> Self {
        Self { md5: Md5::new(), checksum: algorithm.map(Running::new), bytes: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        if let Some(checksum) = &mut self.checksum {
            checksum.update(bytes);
        }
        self.bytes += bytes.len() as u64;
    }

    /// What the bytes come to.
    #[must_use]
    pub fn finish(self) -> Summary {
        let checksum = self.checksum.map(Running::finish);
        let checksum =
            checksum.map(|(algorithm, value)| Checksum { algorithm, value, composite: false });
        Summary { md5: self.md5.finalize().into(), checksum, bytes: self.bytes }
    }
}

/// What a body came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its MD5.
    pub md5: [u8; 16],
    /// The additional checksum that was computed.
    pub checksum: Option<Checksum>,
    /// Its length.
    pub bytes: u64,
}

impl Summary {
    /// Compares with what the client announced, trailers included.
    ///
    /// # Errors
    /// `BadDigest` where they differ.
    pub fn verify(&self, announced: &Announced) -> Result<()> {
        if announced.md5.is_some_and(|md5| md5 != self.md5) {
            return Err(Code::BadDigest
                .because("The Content-MD5 you specified did not match what we received."));
        }
        let Some((algorithm, Some(value))) = &announced.checksum else { return Ok(()) };
        match &self.checksum {
            Some(computed) if computed.algorithm == *algorithm && computed.value == *value => {
                Ok(())
            }
            _ => Err(Code::BadDigest.because(format!(
                "The {} you specified did not match the calculated checksum.",
                name(*algorithm)
            ))),
        }
    }
}

/// Whether S3 allows this kind of multipart checksum: CRC64NVME counts only the whole object, hashes
/// only the parts.
#[must_use]
pub fn allowed(algorithm: ChecksumAlgorithm, composite: bool) -> bool {
    match algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => true,
        ChecksumAlgorithm::Crc64Nvme => !composite,
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => composite,
    }
}

/// The checksum of an object out of its parts' checksums and lengths.
#[must_use]
pub fn of_parts<'a>(
    algorithm: ChecksumAlgorithm,
    composite: bool,
    parts: impl Iterator<Item = (&'a [u8], u64)>,
) -> Checksum {
    if composite {
        let mut running = Running::new(algorithm);
        parts.for_each(|(value, _)| running.update(value));
        return Checksum { algorithm, value: running.finish().1, composite };
    }
    let kind = crc_kind(algorithm);
    let whole = parts.fold(None, |whole, (value, bytes)| {
        let value = value.iter().fold(0u64, |crc, byte| crc << 8 | u64::from(*byte));
        Some(whole.map_or(value, |whole| crc_fast::checksum_combine(kind, whole, value, bytes)))
    });
    Checksum { algorithm, value: crc_bytes(algorithm, whole.unwrap_or(0)), composite }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Vec<u8> {
        let mut digests = Digests::new(Some(algorithm));
        digests.update(bytes);
        digests.finish().checksum.expect("one was asked for").value
    }

    #[test]
    fn check_values_of_the_algorithms() {
        let check = b"123456789";
        let expect = [
            (ChecksumAlgorithm::Crc32, "cbf43926"),
            (ChecksumAlgorithm::Crc32c, "e3069283"),
            (ChecksumAlgorithm::Crc64Nvme, "ae8b14860a799888"),
            (ChecksumAlgorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        ];
        for (algorithm, value) in expect {
            assert_eq!(crate::text::hex(&of(algorithm, check)), value, "{algorithm:?}");
        }
        assert_eq!(of(ChecksumAlgorithm::Sha256, check).len(), 32);
    }

    #[test]
    fn a_full_object_checksum_follows_from_the_parts() {
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
        for algorithm in
            [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme]
        {
            for cuts in [vec![], vec![1], vec![5000, 5001], vec![0, 9999]] {
                let mut parts = Vec::new();
                let mut from = 0;
                for to in cuts.iter().copied().chain([bytes.len()]) {
                    parts.push((of(algorithm, &bytes[from..to]), (to - from) as u64));
                    from = to;
                }
                let parts = parts.iter().map(|(value, bytes)| (value.as_slice(), *bytes));
                assert_eq!(
                    of_parts(algorithm, false, parts).value,
                    of(algorithm, &bytes),
                    "{cuts:?}"
                );
            }
        }
    }

    #[test]
    fn announcements() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            Announced::of(&headers).map_err(|error| error.code)
        };
        assert_eq!(of(&[]), Ok(Announced::default()));
        assert_eq!(of(&[("content-md5", "nonsense")]), Err(Code::InvalidDigest));
        assert_eq!(of(&[("content-md5", "AAAA")]), Err(Code::InvalidDigest));
        assert_eq!(of(&[("x-amz-checksum-crc32", "AAAA")]), Err(Code::InvalidRequest));
        let two = [("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-checksum-crc32c", "AAAAAA==")];
        assert_eq!(of(&two), Err(Code::InvalidRequest));
        assert_eq!(of(&[("x-amz-sdk-checksum-algorithm", "CRC32")]), Err(Code::InvalidRequest));
        assert_eq!(of(&[("x-amz-trailer", "x-amz-meta-a")]), Err(Code::InvalidRequest));
        let mut announced = of(&[
            ("x-amz-sdk-checksum-algorithm", "CRC32"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ])
        .expect("a trailer may be announced");
        assert_eq!(announced.checksum, Some((ChecksumAlgorithm::Crc32, None)));
        let missing = announced.clone().take_trailers(&[]).map_err(|error| error.code);
        assert_eq!(missing, Err(Code::MalformedTrailerError));
        let trailer = ("x-amz-checksum-crc32".to_owned(), "AAAAAA==".to_owned());
        announced.take_trailers(&[trailer]).expect("as announced");
        assert_eq!(announced.checksum, Some((ChecksumAlgorithm::Crc32, Some(vec![0; 4]))));
    }
}
