//! AWS signature version 4: what is signed, and with which key. Only arithmetic; who may sign what is
//! [`super::auth`]'s.

use crate::error::{Code, Result};
use crate::text::{hex, percent};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Whose key signs, and for what: `<access key>/<date>/<region>/<service>/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The access key.
    pub access_key: String,
    /// The day, `yyyymmdd`.
    pub day: String,
    /// The region.
    pub region: String,
    /// The service: `s3`.
    pub service: String,
}

impl Scope {
    /// Parses a credential, or `None`.
    #[must_use]
    pub fn parse(credential: &str) -> Option<Self> {
        // From the right: only the access key may hold a slash.
        let mut fields = credential.rsplitn(5, '/');
        let end = fields.next()?;
        let service = fields.next()?.to_owned();
        let region = fields.next()?.to_owned();
        let day = fields.next()?.to_owned();
        let access_key = fields.next()?.to_owned();
        let day_ok = day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit());
        (end == "aws4_request" && day_ok && !access_key.is_empty()).then_some(Self {
            access_key,
            day,
            region,
            service,
        })
    }

    fn text(&self) -> String {
        [self.day.as_str(), &self.region, &self.service, "aws4_request"].join("/")
    }

    /// The key that signs in this scope.
    #[must_use]
    pub fn signing_key(&self, secret: &str) -> [u8; 32] {
        let mut key = hmac(format!("AWS4{secret}").as_bytes(), self.day.as_bytes());
        for step in [self.region.as_str(), &self.service, "aws4_request"] {
            key = hmac(&key, step.as_bytes());
        }
        key
    }
}

/// What of a request is signed.
pub struct Canonical<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path as it is to be signed, percent-encoded.
    pub path: &'a str,
    /// The decoded query without the signature itself.
    pub query: &'a [(String, String)],
    /// Signed headers: lower-case names, in the order signed, with their joined and trimmed values.
    pub headers: &'a [(String, String)],
    /// What stands for the body: its hash or one of the fixed words.
    pub payload: &'a str,
}

impl Canonical<'_> {
    /// The canonical request of the specification.
    #[must_use]
    pub fn request(&self) -> String {
        let mut query: Vec<(String, String)> = self
            .query
            .iter()
            .map(|(name, value)| (percent(name.as_bytes(), true), percent(value.as_bytes(), true)))
            .collect();
        query.sort();
        let mut out = String::with_capacity(512);
        for part in [self.method, "\n", self.path, "\n"] {
            out.push_str(part);
        }
        for (at, (name, value)) in query.iter().enumerate() {
            out.push_str(if at > 0 { "&" } else { "" });
            for part in [name, "=", value] {
                out.push_str(part);
            }
        }
        out.push('\n');
        for (name, value) in self.headers {
            for part in [name, ":", value, "\n"] {
                out.push_str(part);
            }
        }
        out.push('\n');
        for (at, (name, _)) in self.headers.iter().enumerate() {
            out.push_str(if at > 0 { ";" } else { "" });
            out.push_str(name);
        }
        out.push('\n');
        out.push_str(self.payload);
        out
    }

    /// The signature of this request at `date` (`yyyymmddThhmmssZ`).
    #[must_use]
    pub fn signature(&self, scope: &Scope, key: &[u8; 32], date: &str) -> String {
        let hashed = hex(&Sha256::digest(self.request()));
        let to_sign = ["AWS4-HMAC-SHA256", date, &scope.text(), &hashed].join("\n");
        hex(&hmac(key, to_sign.as_bytes()))
    }
}

/// Header values as they are signed: trimmed, with runs of spaces as one.
#[must_use]
pub fn canonical_value(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether two signatures are the same, in constant time.
#[must_use]
pub fn same(computed: &str, given: &str) -> bool {
    computed.as_bytes().ct_eq(given.as_bytes()).into()
}

/// Verifies the signatures of a body's chunks: each covers the one before, the first the request's.
#[derive(Clone)]
pub struct ChunkSigner {
    key: [u8; 32],
    date: String,
    scope: String,
    previous: String,
    given: String,
    data: Sha256,
}

impl ChunkSigner {
    /// The chain begins with the request's own signature.
    #[must_use]
    pub fn new(scope: &Scope, key: [u8; 32], date: &str, seed: String) -> Self {
        let scope = scope.text();
        Self {
            key,
            date: date.to_owned(),
            scope,
            previous: seed,
            given: String::new(),
            data: Sha256::new(),
        }
    }

    /// A chunk begins that claims this signature.
    pub fn begin(&mut self, signature: &str) {
        self.given = signature.to_owned();
        self.data = Sha256::new();
    }

    /// Bytes of the chunk.
    pub fn update(&mut self, data: &[u8]) {
        self.data.update(data);
    }

    /// The chunk has ended.
    ///
    /// # Errors
    /// Its signature does not match.
    pub fn verify_chunk(&mut self) -> Result<()> {
        let nothing = hex(&Sha256::digest(b""));
        let data = hex(&std::mem::take(&mut self.data).finalize());
        let given = std::mem::take(&mut self.given);
        self.verify("AWS4-HMAC-SHA256-PAYLOAD", &format!("{nothing}\n{data}"), &given)
    }

    /// The trailers have ended.
    ///
    /// # Errors
    /// Their signature does not match.
    pub fn verify_trailers(&mut self, trailers: &[(String, String)], given: &str) -> Result<()> {
        let mut sorted = trailers.to_vec();
        sorted.sort();
        let text: String = sorted.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        self.verify("AWS4-HMAC-SHA256-TRAILER", &hex(&Sha256::digest(text)), given)
    }

    fn verify(&mut self, kind: &str, hashes: &str, given: &str) -> Result<()> {
        let (date, scope, previous) = (&self.date, &self.scope, &self.previous);
        let to_sign = format!("{kind}\n{date}\n{scope}\n{previous}\n{hashes}");
        let computed = hex(&hmac(&self.key, to_sign.as_bytes()));
        if !same(&computed, given) {
            return Err(Code::SignatureDoesNotMatch.into());
        }
        self.previous = computed;
        Ok(())
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const DATE: &str = "20130524T000000Z";

    fn scope() -> Scope {
        Scope::parse("AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request")
            .expect("well formed")
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// AWS documentation, "Authenticating Requests: Using the Authorization Header", GET Object.
    #[test]
    fn the_documented_get_object() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let headers = pairs(&[
            ("host", "examplebucket.s3.amazonaws.com"),
            ("range", "bytes=0-9"),
            ("x-amz-content-sha256", empty),
            ("x-amz-date", DATE),
        ]);
        let canonical = Canonical {
            method: "GET",
            path: "/test.txt",
            query: &[],
            headers: &headers,
            payload: empty,
        };
        let signature = canonical.signature(&scope(), &scope().signing_key(SECRET), DATE);
        assert_eq!(signature, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    }

    /// AWS documentation, "Using Query Parameters".
    #[test]
    fn the_documented_presigned_get() {
        let query = pairs(&[
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"),
            ("X-Amz-Date", DATE),
            ("X-Amz-Expires", "86400"),
            ("X-Amz-SignedHeaders", "host"),
        ]);
        let canonical = Canonical {
            method: "GET",
            path: "/test.txt",
            query: &query,
            headers: &pairs(&[("host", "examplebucket.s3.amazonaws.com")]),
            payload: "UNSIGNED-PAYLOAD",
        };
        let signature = canonical.signature(&scope(), &scope().signing_key(SECRET), DATE);
        assert_eq!(signature, "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
    }

    /// AWS documentation, "Transferring Payload in Multiple Chunks": 64 KiB, 1 KiB and the final chunk.
    #[test]
    fn the_documented_chunks() {
        let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".to_owned();
        let mut signer = ChunkSigner::new(&scope(), scope().signing_key(SECRET), DATE, seed);
        let chunks = [
            (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ];
        for (bytes, signature) in chunks {
            signer.begin(signature);
            signer.update(&vec![b'a'; bytes]);
            signer.verify_chunk().expect("the documented signature");
        }
        signer.begin(&"0".repeat(64));
        assert!(signer.verify_chunk().is_err());
    }

    #[test]
    fn garbage_is_no_scope() {
        for bad in [
            "",
            "AK",
            "AK/20130524/us-east-1/s3",
            "AK/2013052/us-east-1/s3/aws4_request",
            "AK/2013052x/us-east-1/s3/aws4_request",
            "/20130524/us-east-1/s3/aws4_request",
            "AK/20130524/us-east-1/s3/aws5_request",
        ] {
            assert_eq!(Scope::parse(bad), None, "{bad}");
        }
    }
}
