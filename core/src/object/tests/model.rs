//! Random commands against a model that keeps whole objects in a map and knows nothing of blobs'
//! lives; at the end everything is deleted and collected, and nothing is left.

use super::*;
use crate::object::multipart::etag_of_parts;
use crate::rng::Rng;

/// An object or a part as the model sees it.
#[derive(Clone, Debug, PartialEq)]
struct Thing {
    etag: ETag,
    bytes: u64,
    content: Content,
}

#[derive(Default)]
struct Model {
    objects: BTreeMap<String, Thing>,
    /// Staged blobs that nobody has taken: their bytes.
    staged: BTreeMap<BlobId, u64>,
    uploads: BTreeMap<BlobId, (String, BTreeMap<u16, Thing>)>,
    completed: BTreeMap<BlobId, (String, Vec<NamedPart>, ETag)>,
}

impl Model {
    /// Takes content over as a put does.
    fn take(&mut self, content: &Content, bytes: u64) -> Result<(), Refusal> {
        match content {
            Content::Blob(blob) if self.staged.get(blob) == Some(&bytes) => {
                self.staged.remove(blob);
                Ok(())
            }
            Content::Blob(_) => Err(Refusal::NoSuchBlob),
            _ => Ok(()),
        }
    }

    fn put(&mut self, key: &str, new: &NewObject, condition: Condition) -> Result<ETag, Refusal> {
        condition.check(self.objects.get(key).map(|old| &old.etag))?;
        self.take(&new.content, new.bytes)?;
        let NewObject { etag, bytes, ref content, .. } = *new;
        self.objects.insert(key.into(), Thing { etag, bytes, content: content.clone() });
        Ok(etag)
    }

    fn delete(&mut self, key: &str, condition: Condition) -> Result<(), Refusal> {
        condition.check(self.objects.get(key).map(|old| &old.etag))?;
        self.objects.remove(key);
        Ok(())
    }

    fn put_part(
        &mut self,
        key: &str,
        upload: BlobId,
        number: u16,
        new: &NewPart,
    ) -> Result<(), Refusal> {
        if self.uploads.get(&upload).is_none_or(|(of, _)| of != key) {
            return Err(Refusal::NoSuchUpload);
        }
        self.take(&new.content, new.bytes)?;
        let etag = ETag { md5: new.md5, parts: 0 };
        let thing = Thing { etag, bytes: new.bytes, content: new.content.clone() };
        self.uploads.get_mut(&upload).unwrap().1.insert(number, thing);
        Ok(())
    }

    fn complete(
        &mut self,
        key: &str,
        upload: BlobId,
        named: &[NamedPart],
        condition: Condition,
    ) -> Result<ETag, Refusal> {
        let Some((_, parts)) = self.uploads.get(&upload).filter(|(of, _)| of == key) else {
            let done =
                self.completed.get(&upload).filter(|(of, parts, _)| of == key && parts == named);
            return done.map(|(.., etag)| *etag).ok_or(Refusal::NoSuchUpload);
        };
        let mut bytes = 0;
        for NamedPart { number, md5 } in named {
            let part = parts.get(number).filter(|part| part.etag.md5 == *md5);
            bytes += part.ok_or(Refusal::InvalidPart)?.bytes;
        }
        let but_last = &named[..named.len() - 1];
        if but_last.iter().any(|part| parts[&part.number].bytes < PART_BYTES_MIN) {
            return Err(Refusal::PartTooSmall);
        }
        condition.check(self.objects.get(key).map(|old| &old.etag))?;
        let etag = etag_of_parts(named.iter().map(|part| part.md5));
        self.uploads.remove(&upload);
        self.completed.insert(upload, (key.into(), named.to_vec(), etag));
        self.objects.insert(key.into(), Thing { etag, bytes, content: Content::Parts { upload } });
        Ok(etag)
    }
}

/// One run: the shard beside its model.
struct Run {
    rng: Rng,
    shard: Group,
    model: Model,
    blobs: Vec<BlobId>,
    uploads: Vec<BlobId>,
    tag: u64,
}

impl Run {
    fn key(&mut self) -> String {
        (*self.rng.pick(&["a", "a/b", "b"]).unwrap()).into()
    }

    fn condition(&mut self, key: &str) -> Condition {
        match self.rng.below(6) {
            0 => Condition::Absent,
            1 => Condition::Present,
            2 => Condition::Is(self.model.objects.get(key).map_or(etag(0), |object| object.etag)),
            3 => Condition::Is(etag(self.tag)),
            _ => Condition::None,
        }
    }

    /// Inline bytes or a blob, sometimes one that is taken, unknown or of another length.
    fn content(&mut self, key: &str) -> (Content, u64) {
        match self.rng.below(5) {
            0 | 1 => {
                let bytes = self.rng.below(100);
                (inline(&vec![7; bytes as usize]), bytes)
            }
            2 | 3 => {
                let small = self.rng.between(16 << 10, 3 << 20);
                let bytes = if self.rng.chance(1, 2) { PART_BYTES_MIN } else { small };
                let blob = self.shard.stage(key, bytes);
                self.model.staged.insert(blob, bytes);
                self.blobs.push(blob);
                (Content::Blob(blob), bytes)
            }
            _ => {
                let unknown = BlobId { home: HOME, opened: Index(1) };
                let blob = self.rng.pick(&self.blobs).copied().unwrap_or(unknown);
                (Content::Blob(blob), PART_BYTES_MIN)
            }
        }
    }

    fn step(&mut self) {
        let key = self.key();
        let unknown = BlobId { home: HOME, opened: Index(1) };
        let upload = self.rng.pick(&self.uploads).copied().unwrap_or(unknown);
        match self.rng.below(9) {
            0 | 1 => {
                let (content, bytes) = self.content(&key);
                self.tag += 1;
                let object = NewObject { etag: etag(self.tag), ..object(bytes, content) };
                let condition = self.condition(&key);
                let expected = self.model.put(&key, &object, condition);
                self.expect_written(put(&key, object, condition), expected);
            }
            2 => {
                let condition = self.condition(&key);
                let expected = self.model.delete(&key, condition).map(|()| Answer::Done);
                let op = ObjectOp::Delete { target: target(&key), condition };
                assert_eq!(self.shard.run(op), expected);
            }
            3 => {
                let upload = self.shard.create(&key);
                self.uploads.push(upload);
                self.model.uploads.insert(upload, (key, BTreeMap::new()));
            }
            4 | 5 => {
                let (content, bytes) = self.content(&key);
                self.tag += 1;
                let part = part(bytes, etag(self.tag).md5, content);
                let number = self.rng.between(1, 4) as u16;
                let expected = self.model.put_part(&key, upload, number, &part);
                let op = ObjectOp::PutPart { target: target(&key), upload, number, part };
                assert_eq!(self.shard.run(op), expected.map(|()| Answer::Done));
            }
            6 => self.complete(&key, upload),
            7 => {
                let known = self.model.uploads.get(&upload).is_some_and(|(of, _)| *of == key);
                if known {
                    self.model.uploads.remove(&upload);
                }
                let op = ObjectOp::Abort { target: target(&key), upload };
                let expected = if known { Ok(Answer::Done) } else { Err(Refusal::NoSuchUpload) };
                assert_eq!(self.shard.run(op), expected);
            }
            _ => {
                let blob = self.rng.pick(&self.blobs).copied().unwrap_or(unknown);
                self.model.staged.remove(&blob);
                assert_eq!(self.shard.run(ObjectOp::DropBlob { blob }), Ok(Answer::Done));
            }
        }
    }

    fn complete(&mut self, key: &str, upload: BlobId) {
        let parts = self.model.uploads.get(&upload).map(|(_, parts)| parts.clone());
        let mut named: Vec<NamedPart> = parts
            .unwrap_or_default()
            .into_iter()
            .map(|(number, part)| NamedPart { number, md5: part.etag.md5 })
            .collect();
        if let Some((_, done, _)) = self.model.completed.get(&upload) {
            named.clone_from(done);
        }
        named.retain(|_| self.rng.chance(3, 4));
        if named.is_empty() || self.rng.chance(1, 10) {
            named.push(NamedPart { number: 9000, md5: [9; 16] });
        }
        let condition = self.condition(key);
        let expected = self.model.complete(key, upload, &named, condition);
        let (target, parts, checksum) = (target(key), named, None);
        let op = ObjectOp::Complete { target, upload, parts, checksum, condition };
        self.expect_written(op, expected);
    }

    fn expect_written(&mut self, op: ObjectOp, expected: Result<ETag, Refusal>) {
        let outcome = self.shard.run(op.clone()).map(|answer| match answer {
            Answer::Written { etag, .. } => etag,
            other => panic!("{other:?}"),
        });
        assert_eq!(outcome, expected, "{op:?}");
    }

    /// Everything that can be read is what the model has.
    fn compare(&self) {
        for key in ["a", "a/b", "b"] {
            let found = self.shard.get(key).ok();
            let found = found.map(|object| {
                let Object { etag, bytes, content, .. } = object;
                Thing { etag, bytes, content }
            });
            assert_eq!(found.as_ref(), self.model.objects.get(key), "{key}");
            let Some(Content::Parts { upload }) = found.map(|thing| thing.content) else {
                continue;
            };
            let (bucket, key) = (BUCKET, key.into());
            let query = Query::Parts { bucket, key, upload, after: 0, limit: 9 };
            let Ok(Answer::Parts { parts, .. }) = self.shard.read(&query) else { panic!() };
            let named = &self.model.completed[&upload].1;
            let listed = parts.iter().map(|part| NamedPart { number: part.number, md5: part.md5 });
            assert_eq!(listed.collect::<Vec<_>>(), *named);
        }
        assert_eq!(self.shard.count(space::UPLOADS), self.model.uploads.len());
    }
}

#[test]
fn random_commands_do_what_the_model_does_and_collection_leaves_nothing() {
    for seed in 0..60 {
        let (rng, shard, model) = (Rng::new(seed), Group::shard(), Model::default());
        let (blobs, uploads) = (Vec::new(), Vec::new());
        let mut run = Run { rng, shard, model, blobs, uploads, tag: 1 };
        for _ in 0..150 {
            run.step();
            run.compare();
        }
        // What is kept stays through any collection.
        run.model.staged.clear();
        run.model.completed.retain(|upload, _| {
            let content = Content::Parts { upload: *upload };
            run.model.objects.values().any(|object| object.content == content)
        });
        run.shard.collect_all();
        run.compare();

        for key in ["a", "a/b", "b"] {
            let condition = Condition::None;
            run.shard.run(ObjectOp::Delete { target: target(key), condition }).unwrap();
        }
        for (upload, (key, _)) in &run.model.uploads {
            run.shard.run(ObjectOp::Abort { target: target(key), upload: *upload }).unwrap();
        }
        run.shard.collect_all();
        assert_eq!(run.shard.table.len(), 1, "only the bucket is left: {:?}", run.shard.table);
        // Every blob that had chunks was said to be gone, once.
        let gone = run.shard.events.iter().filter_map(|event| match event {
            ObjectEvent::BlobCollected { blob } => Some(*blob),
            ObjectEvent::ExtentNamed { .. } => None,
        });
        let gone: Vec<BlobId> = gone.collect();
        assert_eq!(gone.len(), run.blobs.len());
        assert_eq!(BTreeSet::from_iter(gone), BTreeSet::from_iter(run.blobs));
    }
}
