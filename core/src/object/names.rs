//! Which names, and how much of what is stored beside an object, are admitted.
//!
//! The gateway asks to answer with S3's own codes; apply asks again, because what is in the log must
//! hold whoever proposed it.

use super::api::{Attributes, KEY_BYTES_MAX};
use alloc::string::String;
use core::fmt;

/// The most bytes of `x-amz-meta-*` names and values of one object.
pub const METADATA_BYTES_MAX: usize = 2 << 10;
/// The most bytes of standard headers kept with one object: as much as a request's head may have.
pub const HEADERS_BYTES_MAX: usize = 8 << 10;
/// The most tags of an object.
pub const TAGS_MAX: usize = 10;
/// The most characters of a tag's key.
pub const TAG_KEY_CHARS_MAX: usize = 128;
/// The most characters of a tag's value.
pub const TAG_VALUE_CHARS_MAX: usize = 256;

/// What breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The bucket's name: `InvalidBucketName`.
    Bucket,
    /// A key of no bytes.
    KeyEmpty,
    /// A key above [`KEY_BYTES_MAX`]: `KeyTooLongError`.
    KeyTooLong,
    /// Metadata above [`METADATA_BYTES_MAX`]: `MetadataTooLarge`.
    MetadataTooLarge,
    /// Standard headers above [`HEADERS_BYTES_MAX`].
    HeadersTooLarge,
    /// A tag that is too long, reserved or given twice, or too many: `InvalidTag`.
    Tag,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bucket => "the bucket name is not valid",
            Self::KeyEmpty => "the key is empty",
            Self::KeyTooLong => "the key is too long",
            Self::MetadataTooLarge => "the metadata is too large",
            Self::HeadersTooLarge => "the headers are too large",
            Self::Tag => "the tags are not valid",
        })
    }
}

impl core::error::Error for NameError {}

/// Checks a bucket's name: 3 to 63 of lower-case letters, digits, `.` and `-`; every label between dots
/// begins and ends with a letter or digit; no IP address and none of the prefixes and suffixes that S3 reserves.
///
/// # Errors
/// [`NameError::Bucket`].
pub fn check_bucket(name: &str) -> Result<(), NameError> {
    let admitted = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let label = |label: &str| edge(label.bytes().next()) && edge(label.bytes().last());
    let ok = (3..=63).contains(&name.len())
        && name.bytes().all(admitted)
        && name.split('.').all(label)
        && !is_ip_address(name)
        && !RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !RESERVED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    if ok { Ok(()) } else { Err(NameError::Bucket) }
}

/// Checks a key: any UTF-8 of 1 to [`KEY_BYTES_MAX`] bytes. It is never a path: `..` and `/` mean nothing.
///
/// # Errors
/// [`NameError::KeyEmpty`] or [`NameError::KeyTooLong`].
pub const fn check_key(key: &str) -> Result<(), NameError> {
    match key.len() {
        0 => Err(NameError::KeyEmpty),
        1..=KEY_BYTES_MAX => Ok(()),
        _ => Err(NameError::KeyTooLong),
    }
}

/// Checks what is to be stored beside an object.
///
/// # Errors
/// What is too large, or [`NameError::Tag`].
pub fn check_attributes(attributes: &Attributes) -> Result<(), NameError> {
    let bytes = |pairs: &[(String, String)]| -> usize {
        pairs.iter().map(|(name, value)| name.len() + value.len()).sum()
    };
    if bytes(&attributes.metadata) > METADATA_BYTES_MAX {
        return Err(NameError::MetadataTooLarge);
    }
    if bytes(&attributes.headers) > HEADERS_BYTES_MAX {
        return Err(NameError::HeadersTooLarge);
    }
    check_tags(&attributes.tags)
}

/// Checks an object's tags: at most [`TAGS_MAX`], keys given once, in S3's lengths, and not reserved.
///
/// # Errors
/// [`NameError::Tag`].
pub fn check_tags(tags: &[(String, String)]) -> Result<(), NameError> {
    let fits = |text: &str, max: usize| text.chars().nth(max).is_none();
    let sound = |(key, value): &(String, String)| {
        !key.is_empty()
            && fits(key, TAG_KEY_CHARS_MAX)
            && fits(value, TAG_VALUE_CHARS_MAX)
            && !key.starts_with("aws:")
            && tags.iter().filter(|(other, _)| other == key).count() == 1
    };
    // The count first: what follows compares each with each.
    if tags.len() <= TAGS_MAX && tags.iter().all(sound) { Ok(()) } else { Err(NameError::Tag) }
}

fn is_ip_address(name: &str) -> bool {
    name.parse::<core::net::Ipv4Addr>().is_ok()
        // S3 refuses whatever looks like one, in range or not.
        || name.split('.').count() == 4
            && name.split('.').all(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn bucket_names_follow_s3() {
        let longest = "a".repeat(63);
        let good = ["abc", "a-b", "a.b.c", "1bucket", "my-bucket.v2", "300.1.1", &longest];
        for name in good {
            assert_eq!(check_bucket(name), Ok(()), "{name}");
        }
        let long = "a".repeat(64);
        let bad = [
            "",
            "ab",
            &long,
            "Abc",
            "a_b",
            "a b",
            "-ab",
            "ab-",
            ".ab",
            "ab.",
            "a..b",
            "a.-b",
            "a-.b",
            "192.168.1.1",
            "999.1.1.1",
            "xn--abc",
            "sthree-a",
            "amzn-s3-demo-a",
            "a-s3alias",
            "a--ol-s3",
            "a.mrap",
            "a--x-s3",
            "a--table-s3",
            "bücket",
            "a/b",
            "../a",
            "a\0b",
        ];
        for name in bad {
            assert_eq!(check_bucket(name), Err(NameError::Bucket), "{name}");
        }
    }

    #[test]
    fn a_key_has_1_to_1024_bytes_of_anything() {
        assert_eq!(check_key(""), Err(NameError::KeyEmpty));
        assert_eq!(check_key(&"k".repeat(1024)), Ok(()));
        assert_eq!(check_key(&"k".repeat(1025)), Err(NameError::KeyTooLong));
        // Bytes, not characters.
        assert_eq!(check_key(&"é".repeat(513)), Err(NameError::KeyTooLong));
        assert_eq!(check_key("../../etc/passwd\0"), Ok(()));
    }

    #[test]
    fn what_is_beside_an_object_is_bounded() {
        let pair = |name: &str, bytes: usize| vec![(name.to_string(), "v".repeat(bytes))];
        let mut attributes = Attributes { metadata: pair("name", 2044), ..Attributes::default() };
        assert_eq!(check_attributes(&attributes), Ok(()));
        attributes.metadata = pair("names", 2044);
        assert_eq!(check_attributes(&attributes), Err(NameError::MetadataTooLarge));
        attributes = Attributes { headers: pair("h", HEADERS_BYTES_MAX), ..Attributes::default() };
        assert_eq!(check_attributes(&attributes), Err(NameError::HeadersTooLarge));
    }

    #[test]
    fn tags_follow_s3() {
        let tags = |tags: &[(&str, &str)]| -> Vec<(String, String)> {
            tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
        };
        let (key, value) = ("é".repeat(128), "é".repeat(256));
        assert_eq!(check_tags(&tags(&[(&key, &value), ("b", "")])), Ok(()));
        assert_eq!(check_tags(&tags(&[("", "v")])), Err(NameError::Tag));
        assert_eq!(check_tags(&tags(&[("k", "v"), ("k", "w")])), Err(NameError::Tag));
        assert_eq!(check_tags(&tags(&[("aws:k", "v")])), Err(NameError::Tag));
        assert_eq!(check_tags(&tags(&[(&(key + "x"), "")])), Err(NameError::Tag));
        assert_eq!(check_tags(&tags(&[("k", &(value + "x"))])), Err(NameError::Tag));
        let numbered =
            |count: u32| (0..count).map(|n| (n.to_string(), String::new())).collect::<Vec<_>>();
        assert_eq!(check_tags(&numbered(10)), Ok(()));
        assert_eq!(check_tags(&numbered(11)), Err(NameError::Tag));
    }
}
