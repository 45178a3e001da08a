//! Presigned URLs (AWS Signature Version 4, query parameters, unsigned payload), for the load generator and
//! for tests.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// How long a URL is good for. It is used at once.
const EXPIRES_SECONDS: u32 = 900;

/// Signs for one user and region.
#[derive(Clone)]
pub struct Signer {
    access_key: String,
    secret_key: String,
    region: String,
    /// The signing key of a day: deriving it costs as much as four signatures.
    derived: Option<(String, [u8; 32])>,
}

impl Signer {
    /// Signs with this key pair for this region.
    #[must_use]
    pub fn new(access_key: &str, secret_key: &str, region: &str) -> Self {
        Self {
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            region: region.into(),
            derived: None,
        }
    }

    /// Path and query of a request that is signed now.
    pub fn presign(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> String {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.presign_at(&timestamp(seconds), EXPIRES_SECONDS, method, host, path, query)
    }

    pub(crate) fn presign_at(
        &mut self,
        timestamp: &str,
        expires: u32,
        method: &str,
        host: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> String {
        let day = timestamp.get(..8).unwrap_or(timestamp);
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let credential = format!("{}/{scope}", self.access_key);
        let expires = expires.to_string();
        let mut pairs = vec![
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", timestamp),
            ("X-Amz-Expires", &expires),
            ("X-Amz-SignedHeaders", "host"),
        ];
        pairs.extend_from_slice(query);
        // By name: none of the names needs encoding, so encoding would not change their order.
        pairs.sort_unstable();
        let mut canonical = String::new();
        for (name, value) in pairs {
            let separator = if canonical.is_empty() { "" } else { "&" };
            let _ = write!(canonical, "{separator}{name}=");
            encode(value, &mut canonical);
        }
        let mut uri = String::new();
        for (place, segment) in path.split('/').enumerate() {
            if place > 0 {
                uri.push('/');
            }
            encode(segment, &mut uri);
        }
        let request =
            format!("{method}\n{uri}\n{canonical}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
        let digest = hex(&Sha256::digest(request.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}");
        let key = self.key(day);
        format!("{uri}?{canonical}&X-Amz-Signature={}", hex(&mac(&key, to_sign.as_bytes())))
    }

    fn key(&mut self, day: &str) -> [u8; 32] {
        if let Some((derived, key)) = &self.derived
            && derived == day
        {
            return *key;
        }
        let mut key = mac(format!("AWS4{}", self.secret_key).as_bytes(), day.as_bytes());
        for part in [self.region.as_str(), "s3", "aws4_request"] {
            key = mac(&key, part.as_bytes());
        }
        self.derived = Some((day.to_owned(), key));
        key
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256>>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn encode(text: &str, encoded: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
}

/// Seconds since the epoch as `20130524T000000Z`.
pub(crate) fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days: eras of 400 years that begin on the first of March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}
