//! Bodies: every byte that a client ever writes follows from a number, so that any read can be checked
//! against what the entity tag stands for without keeping a copy.

use crate::draw::{Domain, Draw};
use bytes::Bytes;
use ironseed_core::object::api::{ETag, NamedPart};
use md5::{Digest as _, Md5};
use std::collections::BTreeMap;

/// A body that some client made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// Names the bytes.
    pub seed: u64,
    /// How many.
    pub len: u64,
}

impl Body {
    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        let mut draw = Draw::new(self.seed, Domain::Body, &[self.len]);
        let mut bytes = vec![0; self.len as usize];
        let (words, rest) = bytes.as_chunks_mut::<8>();
        words.iter_mut().for_each(|word| *word = draw.next().to_le_bytes());
        rest.copy_from_slice(&draw.next().to_le_bytes()[..rest.len()]);
        bytes.into()
    }
}

/// MD5 of a body's bytes.
#[must_use]
pub fn md5_of(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// Every body that was written in a run, by its tag.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    bodies: BTreeMap<ETag, Vec<Body>>,
    parts: BTreeMap<[u8; 16], Body>,
}

impl Contents {
    /// A client puts this body whole.
    pub fn put(&mut self, body: Body) -> ETag {
        self.put_bytes(body, &body.bytes())
    }

    /// A client puts this body, whose bytes are these, whole.
    pub fn put_bytes(&mut self, body: Body, bytes: &[u8]) -> ETag {
        let etag = ETag { md5: md5_of(bytes), parts: 0 };
        self.bodies.insert(etag, vec![body]);
        etag
    }

    /// A client has written this body, whose MD5 is this, as a part.
    pub fn part(&mut self, body: Body, md5: [u8; 16]) {
        self.parts.insert(md5, body);
    }

    /// A client completes an upload out of these parts.
    pub fn complete(&mut self, parts: &[NamedPart]) -> ETag {
        let etag = self.completed_etag(parts);
        let bodies = parts.iter().filter_map(|part| self.parts.get(&part.md5).copied()).collect();
        self.bodies.insert(etag, bodies);
        etag
    }

    /// The tag of an object made of these parts: MD5 over their MD5s, and how many.
    #[must_use]
    pub fn completed_etag(&self, parts: &[NamedPart]) -> ETag {
        let mut md5 = Md5::new();
        for part in parts {
            md5.update(part.md5);
        }
        ETag { md5: md5.finalize().into(), parts: parts.len() as u16 }
    }

    /// How many bytes this tag stands for; `None` if nobody wrote it.
    #[must_use]
    pub fn len(&self, etag: ETag) -> Option<u64> {
        self.bodies.get(&etag).map(|bodies| bodies.iter().map(|body| body.len).sum())
    }

    /// The bytes that this tag stands for, one body after another.
    #[must_use]
    pub fn bytes(&self, etag: ETag) -> Option<Vec<Bytes>> {
        self.bodies.get(&etag).map(|bodies| bodies.iter().map(|body| body.bytes()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_leads_back_to_its_bytes() {
        let mut contents = Contents::default();
        let (a, b) = (Body { seed: 1, len: 1001 }, Body { seed: 2, len: 3 });
        let etag = contents.put(a);
        assert_eq!(contents.bytes(etag), Some(vec![a.bytes()]));
        assert_eq!(contents.len(etag), Some(1001));
        let [first, second] = [a, b].map(|body| md5_of(&body.bytes()));
        contents.part(a, first);
        contents.part(b, second);
        let named = [NamedPart { number: 1, md5: first }, NamedPart { number: 2, md5: second }];
        let whole = contents.complete(&named);
        assert_eq!(whole.parts, 2);
        assert_eq!(contents.bytes(whole), Some(vec![a.bytes(), b.bytes()]));
        assert_eq!(contents.len(ETag { md5: [0; 16], parts: 0 }), None);
    }
}
