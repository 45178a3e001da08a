//! Conditions on requests: what a write demands of the key's current object, checked at apply, and
//! what a read demands, checked where it is answered.
//!
//! Reads follow RFC 9110, section 13.2.2, with the two combinations that S3 states: a true `If-Match`
//! overrules `If-Unmodified-Since`, and a false `If-None-Match` overrules `If-Modified-Since`.
//! Writes know less: S3 takes `If-None-Match: *` and `If-Match` with one tag or `*`, and everything else is
//! not implemented rather than ignored.

use super::api::{Condition, ETag, Refusal};
use alloc::vec::Vec;

impl ETag {
    /// The tag that a client wrote, with or without quotes; `None` for text that can't be one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        let (digits, parts) = match bare.split_once('-') {
            // Canonical digits only, so that two texts are never one tag.
            Some((_, parts)) if parts.starts_with(['0', '+']) => return None,
            Some((digits, parts)) => (digits, parts.parse().ok()?),
            None => (bare, 0),
        };
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let md5 = u128::from_str_radix(digits, 16).ok()?.to_be_bytes();
        Some(Self { md5, parts })
    }
}

impl Condition {
    /// Whether a write may go on, given the tag of the object that is there.
    ///
    /// # Errors
    /// [`Refusal::NoSuchKey`] when an object is demanded and none is there, else
    /// [`Refusal::PreconditionFailed`].
    pub fn check(&self, current: Option<&ETag>) -> Result<(), Refusal> {
        match (self, current) {
            (Self::None, _) | (Self::Absent, None) | (Self::Present, Some(_)) => Ok(()),
            (Self::Is(wanted), Some(current)) if wanted == current => Ok(()),
            (Self::Present | Self::Is(_), None) => Err(Refusal::NoSuchKey),
            (Self::Absent | Self::Is(_), Some(_)) => Err(Refusal::PreconditionFailed),
        }
    }

    /// The condition of a write with these headers.
    ///
    /// # Errors
    /// Combinations that S3 does not define for writes.
    pub fn of_write(
        if_match: Option<&str>,
        if_none_match: Option<&str>,
    ) -> Result<Self, WriteConditionError> {
        match (if_match.map(str::trim), if_none_match.map(str::trim)) {
            (None, None) => Ok(Self::None),
            (None, Some("*")) => Ok(Self::Absent),
            (Some("*"), None) => Ok(Self::Present),
            (Some(tag), None) if tag.starts_with("W/") => Err(WriteConditionError::NotImplemented),
            (Some(tag), None) if tag.contains(',') => Err(WriteConditionError::NotImplemented),
            // A tag that can't be ours matches no object: an impossible tag keeps "404 when absent".
            (Some(tag), None) => Ok(Self::Is(ETag::parse(tag).unwrap_or(IMPOSSIBLE))),
            (Some(_), Some(_)) | (None, Some(_)) => Err(WriteConditionError::NotImplemented),
        }
    }
}

/// Why headers are no condition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteConditionError {
    /// S3 does not implement it for writes, and neither do we: 501.
    NotImplemented,
}

/// The tags of an `If-Match` or `If-None-Match` of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagMatch {
    /// `*`: any object.
    Any,
    /// One of these. Tags that can't be ours are left out: they match nothing.
    OneOf(Vec<ETag>),
}

impl TagMatch {
    /// Reads the header's value. Weak tags compare as strong ones: our tags name exact bytes.
    #[must_use]
    pub fn parse(value: &str) -> Self {
        if value.trim() == "*" {
            return Self::Any;
        }
        let tags = value.split(',').map(str::trim);
        Self::OneOf(
            tags.filter_map(|tag| ETag::parse(tag.strip_prefix("W/").unwrap_or(tag))).collect(),
        )
    }

    fn matches(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(etag),
        }
    }
}

/// What a read demands of the object it found. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// `If-Match`.
    pub if_match: Option<TagMatch>,
    /// `If-None-Match`.
    pub if_none_match: Option<TagMatch>,
    /// `If-Modified-Since`; leave a malformed date out.
    pub if_modified_since: Option<u64>,
    /// `If-Unmodified-Since`; leave a malformed date out.
    pub if_unmodified_since: Option<u64>,
}

/// What a read with preconditions comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as if there were none.
    Proceed,
    /// 304 for a get or a head; 412 for the source of a copy.
    NotModified,
    /// 412.
    PreconditionFailed,
}

impl Preconditions {
    /// Judges an object by its tag and the wall time of its write in nanoseconds. HTTP dates have whole
    /// seconds, so the object's time is rounded down as its `Last-Modified` is.
    #[must_use]
    pub fn judge(&self, etag: &ETag, modified: u64) -> Verdict {
        let modified = modified / 1_000_000_000;
        let unmatched = match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => !tags.matches(etag),
            (None, Some(since)) => modified > since,
            (None, None) => false,
        };
        if unmatched {
            return Verdict::PreconditionFailed;
        }
        let unmodified = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => tags.matches(etag),
            (None, Some(since)) => modified <= since,
            (None, None) => false,
        };
        if unmodified { Verdict::NotModified } else { Verdict::Proceed }
    }
}

/// A tag that no object has: a multipart tag never says more than
/// [`PART_NUMBER_MAX`](super::api::PART_NUMBER_MAX) parts.
const IMPOSSIBLE: ETag = ETag { md5: [0; 16], parts: u16::MAX };

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    const A: ETag = ETag { md5: [0xab; 16], parts: 0 };
    const B: ETag = ETag { md5: [0xcd; 16], parts: 7 };

    #[test]
    fn tags_survive_text_and_nothing_else_passes_for_one() {
        for tag in [A, B] {
            assert_eq!(ETag::parse(&tag.to_string()), Some(tag));
            assert_eq!(ETag::parse(&alloc::format!(" \"{tag}\" ")), Some(tag));
        }
        for junk in ["", "\"", "abc", "+babababababababababababababababab", "*", "é"] {
            assert_eq!(ETag::parse(junk), None, "{junk}");
        }
        for parts in ["-", "-x", "-0", "-07", "-+7", "-65536", "-7-7"] {
            assert_eq!(ETag::parse(&(A.to_string() + parts)), None, "{parts}");
        }
    }

    #[test]
    fn a_write_condition_is_compare_and_swap() {
        use Refusal::{NoSuchKey, PreconditionFailed};
        let table = [
            (Condition::None, None, Ok(())),
            (Condition::None, Some(&A), Ok(())),
            (Condition::Absent, None, Ok(())),
            (Condition::Absent, Some(&A), Err(PreconditionFailed)),
            (Condition::Present, None, Err(NoSuchKey)),
            (Condition::Present, Some(&A), Ok(())),
            (Condition::Is(A), None, Err(NoSuchKey)),
            (Condition::Is(A), Some(&A), Ok(())),
            (Condition::Is(A), Some(&B), Err(PreconditionFailed)),
        ];
        for (condition, current, verdict) in table {
            assert_eq!(condition.check(current), verdict, "{condition:?} on {current:?}");
        }
    }

    #[test]
    fn headers_of_a_write_become_a_condition_or_are_refused() {
        let quoted = alloc::format!("\"{B}\"");
        assert_eq!(Condition::of_write(None, None), Ok(Condition::None));
        assert_eq!(Condition::of_write(None, Some("*")), Ok(Condition::Absent));
        assert_eq!(Condition::of_write(Some("*"), None), Ok(Condition::Present));
        assert_eq!(Condition::of_write(Some(&quoted), None), Ok(Condition::Is(B)));
        let junk = Condition::of_write(Some("junk"), None).unwrap();
        assert_eq!(junk.check(Some(&A)), Err(Refusal::PreconditionFailed));
        assert_eq!(junk.check(None), Err(Refusal::NoSuchKey));
        for (if_match, if_none_match) in [
            (None, Some("\"a\"")),
            (Some("*"), Some("*")),
            (Some("a,b"), None),
            (Some("W/\"a\""), None),
        ] {
            let refused = Condition::of_write(if_match, if_none_match);
            assert_eq!(refused, Err(WriteConditionError::NotImplemented));
        }
    }

    #[test]
    fn read_preconditions_follow_the_rfc_in_every_combination() {
        let (match_a, match_b) = (TagMatch::OneOf(vec![A]), TagMatch::OneOf(vec![B]));
        let (hit, miss) = (Some(match_a), Some(match_b));
        let modified = 100 * 1_000_000_000 + 999;
        for if_match in [None, hit.clone(), miss.clone(), Some(TagMatch::Any)] {
            for if_none_match in [None, hit.clone(), miss.clone(), Some(TagMatch::Any)] {
                for if_modified_since in [None, Some(99), Some(100), Some(101)] {
                    for if_unmodified_since in [None, Some(99), Some(100), Some(101)] {
                        let conditions = Preconditions {
                            if_match: if_match.clone(),
                            if_none_match: if_none_match.clone(),
                            if_modified_since,
                            if_unmodified_since,
                        };
                        // RFC 9110, 13.2.2, step by step.
                        let expected = 'steps: {
                            if if_match.is_some() {
                                if if_match == miss {
                                    break 'steps Verdict::PreconditionFailed;
                                }
                            } else if if_unmodified_since == Some(99) {
                                break 'steps Verdict::PreconditionFailed;
                            }
                            if if_none_match.is_some() {
                                if if_none_match != miss {
                                    break 'steps Verdict::NotModified;
                                }
                            } else if if_modified_since.is_some_and(|since| since >= 100) {
                                break 'steps Verdict::NotModified;
                            }
                            Verdict::Proceed
                        };
                        assert_eq!(conditions.judge(&A, modified), expected, "{conditions:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn lists_of_tags_are_read() {
        assert_eq!(TagMatch::parse(" * "), TagMatch::Any);
        let list = alloc::format!("\"{A}\", W/\"{B}\", \"junk\"");
        assert_eq!(TagMatch::parse(&list), TagMatch::OneOf(vec![A, B]));
    }
}
