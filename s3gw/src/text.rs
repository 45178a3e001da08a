//! The small notations of S3: hexadecimal, percent escapes, dates.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// Decodes hexadecimal of either case, or `None`.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Decodes an MD5 written as 32 hexadecimal digits.
#[must_use]
pub fn unhex_md5(text: &str) -> Option<[u8; 16]> {
    unhex(text)?.try_into().ok()
}

/// Standard base64 with padding.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

/// Decodes standard base64 with padding, or `None`.
#[must_use]
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    base64_simd::STANDARD.decode_to_vec(text).ok()
}

/// Percent-encodes all but RFC 3986's unreserved characters, as signature V4 demands. `slash` says
/// whether `/` is encoded too.
#[must_use]
pub fn percent(bytes: &[u8], slash: bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'~')
            || (byte == b'/' && !slash)
    };
    if bytes.iter().all(|byte| plain(*byte)) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut out = String::with_capacity(bytes.len() + bytes.len() / 4);
    for &byte in bytes {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

/// Decodes percent escapes, or `None` if one is malformed or the result is not UTF-8. `plus` says
/// whether `+` is a space, as in queries.
#[must_use]
pub fn unpercent(text: &str, plus: bool) -> Option<String> {
    if !text.bytes().any(|byte| byte == b'%' || (plus && byte == b'+')) {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high << 4 | low).ok()?);
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// Splits a query into decoded pairs in their order, or `None` if an escape is malformed.
#[must_use]
pub fn parse_query(query: &str) -> Option<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unpercent(name, true)?, unpercent(value, true)?))
        })
        .collect()
}

const HTTP_DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);
const AMZ_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// A moment as `Last-Modified` shows it, from nanoseconds since the Unix epoch.
#[must_use]
pub fn http_date(nanos: u64) -> String {
    moment(nanos).format(HTTP_DATE).unwrap_or_default()
}

/// Seconds since the Unix epoch of an HTTP date in its preferred form, or `None`.
#[must_use]
pub fn parse_http_date(text: &str) -> Option<i64> {
    PrimitiveDateTime::parse(text, HTTP_DATE).ok().map(|date| date.assume_utc().unix_timestamp())
}

/// Seconds since the Unix epoch of signature V4's `20130524T000000Z`, or `None`.
#[must_use]
pub fn parse_amz_date(text: &str) -> Option<i64> {
    PrimitiveDateTime::parse(text, AMZ_DATE).ok().map(|date| date.assume_utc().unix_timestamp())
}

/// A moment in signature V4's notation, from seconds since the Unix epoch.
#[must_use]
pub fn amz_date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|date| date.format(AMZ_DATE).ok())
        .unwrap_or_default()
}

/// A moment from nanoseconds since the Unix epoch.
#[must_use]
pub fn moment(nanos: u64) -> OffsetDateTime {
    // 2^64 nanoseconds end in 2554, well inside what the type holds.
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanos))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Escapes text for XML content.
#[must_use]
pub fn xml_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // XML 1.0 has no notation for other control characters.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notations_round_trip() {
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(unhex("009Fff"), Some(vec![0, 0x9f, 0xff]));
        assert_eq!(unhex("009"), None);
        assert_eq!(unhex("0g"), None);
        assert_eq!(percent("a b/ü~".as_bytes(), true), "a%20b%2F%C3%BC~");
        assert_eq!(percent(b"a/b+", false), "a/b%2B");
        assert_eq!(unpercent("a%20b+c", true).as_deref(), Some("a b c"));
        assert_eq!(unpercent("a+b", false).as_deref(), Some("a+b"));
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(unpercent(bad, false), None, "{bad}");
        }
        assert_eq!(http_date(1_369_353_600_000_000_000), "Fri, 24 May 2013 00:00:00 GMT");
        assert_eq!(parse_http_date("Fri, 24 May 2013 00:00:00 GMT"), Some(1_369_353_600));
        assert_eq!(parse_amz_date("20130524T000000Z"), Some(1_369_353_600));
        assert_eq!(amz_date(1_369_353_600), "20130524T000000Z");
        assert_eq!(parse_amz_date("20131324T000000Z"), None);
        assert_eq!(xml_escape("<a&\"\0>"), "&lt;a&amp;&quot;\u{fffd}&gt;");
    }
}
