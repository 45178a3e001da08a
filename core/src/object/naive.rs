//! Listings the slow, obvious way: every key is looked at. What the fast ones are tested against.

use super::api::{ETag, ListFrom, ListObjects, ListedObject, Listing};
use crate::rng::Rng;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// The tag that every object of these tests has.
pub(crate) const TAG: ETag = ETag { md5: [7; 16], parts: 0 };

/// The common prefix that a key falls under, if it does.
fn common_prefix(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    let at = key.strip_prefix(prefix)?.find(delimiter?)?;
    Some(key[..prefix.len() + at + delimiter?.len()].into())
}

/// The page of this request over these keys.
pub(crate) fn list(keys: &BTreeSet<String>, request: &ListObjects) -> Listing {
    let delimiter = request.delimiter.as_deref();
    let before = |key: &str| match &request.from {
        ListFrom::Start => false,
        // A marker that is itself a common prefix stands for all of it.
        ListFrom::After(after)
            if common_prefix(after, &request.prefix, delimiter).as_ref() == Some(after) =>
        {
            key <= after.as_str() || key.starts_with(after.as_str())
        }
        ListFrom::After(after) => key <= after.as_str(),
        ListFrom::AfterPrefix(after) => key <= after.as_str() || key.starts_with(after.as_str()),
    };
    let mut listing = Listing::default();
    let mut last = ListFrom::Start;
    for key in keys.iter().filter(|key| key.starts_with(&request.prefix) && !before(key)) {
        let group = common_prefix(key, &request.prefix, delimiter);
        if group.is_some() && group.as_ref() == listing.common_prefixes.last() {
            continue;
        }
        if request.limit == 0 {
            break;
        }
        if listing.objects.len() + listing.common_prefixes.len() == request.limit as usize {
            listing.next = Some(last);
            break;
        }
        if let Some(group) = group {
            last = ListFrom::AfterPrefix(group.clone());
            listing.common_prefixes.push(group);
        } else {
            last = ListFrom::After(key.clone());
            listing.objects.push(listed(key));
        }
    }
    listing
}

/// An object of these tests in a listing.
pub(crate) fn listed(key: &str) -> ListedObject {
    ListedObject { key: key.into(), bytes: key.len() as u64, etag: TAG, modified: 5 }
}

/// A key of a few letters that collide, nest and include delimiters and characters of several bytes.
pub(crate) fn key(rng: &mut Rng) -> String {
    const LETTERS: [&str; 9] = ["a", "b", "/", "/", "-", "é", "ab", "\u{10ffff}", "\0"];
    (0..rng.between(1, 6)).map(|_| *rng.pick(&LETTERS).unwrap()).collect()
}

/// A request for a listing of keys like these.
pub(crate) fn request(rng: &mut Rng, keys: &BTreeSet<String>) -> ListObjects {
    let some = |rng: &mut Rng| -> String {
        let keys: Vec<&String> = keys.iter().collect();
        rng.pick(&keys).map_or_else(String::new, |key| (*key).clone())
    };
    let cut = |rng: &mut Rng, text: String| -> String {
        let keep = rng.below(text.chars().count() as u64 + 1) as usize;
        text.chars().take(keep).collect()
    };
    let prefix = if rng.chance(1, 2) { String::new() } else { some(rng) };
    let prefix = cut(rng, prefix);
    let delimiter =
        *rng.pick(&[None, Some("/"), Some("/"), Some("-"), Some("ab"), Some("é")]).unwrap();
    let from = match rng.below(4) {
        0 | 1 => ListFrom::Start,
        2 => ListFrom::After(some(rng)),
        _ => {
            let text = some(rng);
            ListFrom::After(cut(rng, text))
        }
    };
    let limit = *rng.pick(&[0, 1, 1, 2, 3, 5, 1000]).unwrap();
    ListObjects { bucket: "b".into(), prefix, delimiter: delimiter.map(String::from), from, limit }
}
