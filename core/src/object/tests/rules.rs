//! What each operation demands and refuses, rule by rule.

use super::*;
use crate::kv::table::RecordLocation;
use crate::object::multipart::etag_of_parts;
use crate::object::names::METADATA_BYTES_MAX;
use alloc::string::ToString;

const MB: u64 = 1 << 20;

#[test]
fn a_put_object_reads_back_with_everything_beside_it() {
    let mut shard = Group::shard();
    let mut new = object(5, inline(b"hello"));
    new.attributes.metadata = vec![("name".into(), "value".into())];
    new.attributes.tags = vec![("tag".into(), "one".into())];
    let written = shard.run(put("k", new.clone(), Condition::None));
    let committed = Timestamp(shard.wall);
    assert_eq!(written, Ok(Answer::Written { etag: TAG, committed }));
    let read = shard.get("k").unwrap();
    assert_eq!((read.attributes, read.bytes, read.etag), (new.attributes, 5, TAG));
    assert_eq!((read.content, read.committed), (new.content, committed));
    assert_eq!(read.modified, shard.wall);
    assert_eq!(shard.get("kk"), Err(Refusal::NoSuchKey));
}

#[test]
fn tags_are_replaced_and_nothing_else() {
    let mut shard = Group::shard();
    let tags = vec![("b".to_string(), "2".to_string())];
    let op = ObjectOp::PutTags { target: target("k"), tags: tags.clone() };
    assert_eq!(shard.run(op.clone()), Err(Refusal::NoSuchKey));
    shard.run(put("k", object(5, inline(b"hello")), Condition::None)).unwrap();
    let before = shard.get("k").unwrap();
    assert_eq!(shard.run(op), Ok(Answer::Done));
    let after = shard.get("k").unwrap();
    assert_eq!(after.attributes.tags, tags);
    assert_eq!(
        (after.modified, after.etag, &after.content),
        (before.modified, TAG, &before.content)
    );
    let reserved = vec![("aws:b".to_string(), String::new())];
    let op = ObjectOp::PutTags { target: target("k"), tags: reserved };
    assert!(matches!(shard.run(op), Err(Refusal::Invalid(_))));
}

#[test]
fn what_breaks_a_limit_is_refused_and_changes_nothing() {
    let mut shard = Group::shard();
    let staged = shard.stage("k", MB);
    let long = vec![0; INLINE_BYTES_MAX + 1];
    let mut large = object(0, inline(b""));
    large.attributes.metadata = vec![("n".into(), "v".repeat(METADATA_BYTES_MAX))];
    let mut parts = object(0, inline(b""));
    parts.etag.parts = 2;
    let elsewhere = BlobId { home: ShardId(6), ..staged };
    let refused = [
        (put("", object(0, inline(b"")), Condition::None), None),
        (put(&"k".repeat(1025), object(0, inline(b"")), Condition::None), None),
        (put("k", object(4, inline(b"hello")), Condition::None), None),
        (put("k", object(long.len() as u64, inline(&long)), Condition::None), None),
        (put("k", large, Condition::None), None),
        (put("k", parts, Condition::None), None),
        (put("k", object(0, Content::Parts { upload: staged }), Condition::None), None),
        (
            put("k", object(MB - 1, Content::Blob(staged)), Condition::None),
            Some(Refusal::NoSuchBlob),
        ),
        (
            put("k", object(MB, Content::Blob(elsewhere)), Condition::None),
            Some(Refusal::NoSuchBlob),
        ),
    ];
    let digest = shard.table.digest();
    for (op, refusal) in refused {
        let outcome = shard.run(op.clone());
        match refusal {
            Some(refusal) => assert_eq!(outcome, Err(refusal), "{op:?}"),
            None => assert!(matches!(outcome, Err(Refusal::Invalid(_))), "{op:?}: {outcome:?}"),
        }
        assert_eq!(shard.table.digest(), digest, "{op:?} changed something");
    }
}

#[test]
fn of_two_writers_that_saw_the_same_object_one_wins() {
    let mut shard = Group::shard();
    let write = |tag: ETag, condition| {
        put("k", NewObject { etag: tag, ..object(1, inline(b"x")) }, condition)
    };
    assert!(shard.run(write(etag(1), Condition::Absent)).is_ok());
    assert_eq!(shard.run(write(etag(2), Condition::Absent)), Err(Refusal::PreconditionFailed));
    assert!(shard.run(write(etag(3), Condition::Is(etag(1)))).is_ok());
    let late = write(etag(4), Condition::Is(etag(1)));
    assert_eq!(shard.run(late), Err(Refusal::PreconditionFailed));
    let delete = |condition| ObjectOp::Delete { target: target("k"), condition };
    assert_eq!(shard.run(delete(Condition::Is(etag(1)))), Err(Refusal::PreconditionFailed));
    assert_eq!(shard.get("k").unwrap().etag, etag(3));
    assert_eq!(shard.run(delete(Condition::Is(etag(3)))), Ok(Answer::Done));
    assert_eq!(shard.run(delete(Condition::Is(etag(3)))), Err(Refusal::NoSuchKey));
    assert_eq!(shard.run(delete(Condition::None)), Ok(Answer::Done));
}

#[test]
fn a_blob_is_named_once_and_dies_with_its_object() {
    let mut shard = Group::shard();
    let first = shard.stage("k", 65 * MB + 1);
    let named = object(65 * MB + 1, Content::Blob(first));
    assert!(shard.run(put("k", named.clone(), Condition::None)).is_ok());
    assert_eq!(shard.count(space::CHORES), 0);
    // Once only: content has one owner.
    assert_eq!(shard.run(put("l", named, Condition::None)), Err(Refusal::NoSuchBlob));
    // A caller that does not know that its put went through may give the blob up without harm.
    assert_eq!(shard.run(ObjectOp::DropBlob { blob: first }), Ok(Answer::Done));
    assert_eq!(shard.get("k").unwrap().content, Content::Blob(first));
    assert!(matches!(shard.append(first, 2, vec![]), Err(Refusal::NoSuchBlob)));
    let second = shard.stage("k", MB);
    assert!(shard.run(put("k", object(MB, Content::Blob(second)), Condition::None)).is_ok());
    let since = Timestamp(shard.wall);
    let dead = record::find::<BlobHead>(&shard.table, &space::blob(first)).unwrap();
    assert_eq!(dead.life, Life::Dead { since });
}

#[test]
fn extents_are_full_in_order_and_held_by_a_quorum() {
    let mut shard = Group::shard();
    let blob = shard.open("k");
    let full = chunks(64 * MB);
    let with = |change: &dyn Fn(&mut StagedChunk)| {
        let mut chunks = full.clone();
        change(&mut chunks[10]);
        chunks
    };
    assert!(matches!(shard.append(blob, 1, full.clone()), Err(Refusal::Invalid(_))));
    let short = with(&|chunk| chunk.bytes -= 1);
    assert!(matches!(shard.append(blob, 0, short), Err(Refusal::Invalid(_))));
    let too_many = chunks(65 * MB);
    assert!(matches!(shard.append(blob, 0, too_many), Err(Refusal::Invalid(_))));
    let unheld = with(&|chunk| chunk.holders = boots(&[(3, 1)]));
    assert_eq!(shard.append(blob, 0, unheld), Err(Refusal::Restage));
    // Strangers don't count towards a quorum.
    let strangers = with(&|chunk| chunk.holders = boots(&[(4, 1), (5, 1), (6, 1)]));
    assert_eq!(shard.append(blob, 0, strangers), Err(Refusal::Restage));
    let twice = with(&|chunk| chunk.holders = boots(&[(3, 1), (3, 2)]));
    assert_eq!(shard.append(blob, 0, twice), Err(Refusal::Restage));
    assert!(shard.events.is_empty(), "nothing was named: {:?}", shard.events);

    assert_eq!(shard.append(blob, 0, full.clone()), Ok(Answer::Done));
    let event =
        ObjectEvent::ExtentNamed { blob, chunks: full.iter().map(StagedChunk::named).collect() };
    assert_eq!(shard.events, [event]);
    // The last one once more is the same; another in its place is not.
    assert_eq!(shard.append(blob, 0, full.clone()), Ok(Answer::Done));
    let other = with(&|chunk| chunk.hash.0[0] ^= 1);
    assert!(matches!(shard.append(blob, 0, other), Err(Refusal::Invalid(_))));
    assert_eq!(shard.events.len(), 1);
    assert_eq!(shard.append(blob, 1, chunks(MB + 1)), Ok(Answer::Done));
    // Nothing comes after an extent that is not full.
    assert!(matches!(shard.append(blob, 2, full), Err(Refusal::Invalid(_))));
    let extents = |from, limit| match shard.read(&Query::Extents { blob, from, limit }) {
        Ok(Answer::Extents { extents, truncated }) => {
            (extents.iter().map(Vec::len).collect::<Vec<_>>(), truncated)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(extents(0, 1), (vec![64], true));
    assert_eq!(extents(0, 9), (vec![64, 2], false));
    assert_eq!(extents(1, 9), (vec![2], false));
    assert_eq!(extents(5, 9), (vec![], false));
    assert_eq!(extents(0, 0), (vec![], true));
}

#[test]
fn completing_an_upload_takes_the_named_parts_and_releases_the_others() {
    let mut shard = Group::shard();
    let upload = shard.create("k");
    let put_part = |shard: &mut Group, number: u16, bytes: u64| {
        let blob = shard.stage("k", bytes);
        let part = part(bytes, [number as u8; 16], Content::Blob(blob));
        shard.run(ObjectOp::PutPart { target: target("k"), upload, number, part }).unwrap();
        blob
    };
    let replaced = put_part(&mut shard, 2, 6 * MB);
    for (number, bytes) in [(1, 5 * MB), (2, 5 * MB), (3, 7 * MB), (9, MB)] {
        put_part(&mut shard, number, bytes);
    }
    let tail = part(3, [10; 16], inline(b"end"));
    shard.run(ObjectOp::PutPart { target: target("k"), upload, number: 10, part: tail }).unwrap();
    let dead = record::find::<BlobHead>(&shard.table, &space::blob(replaced)).unwrap();
    assert!(matches!(dead.life, Life::Dead { .. }));

    let named = |numbers: &[u16]| -> Vec<NamedPart> {
        numbers.iter().map(|n| NamedPart { number: *n, md5: [*n as u8; 16] }).collect()
    };
    let complete = |parts: Vec<NamedPart>, condition| {
        let (target, checksum) = (target("k"), None);
        ObjectOp::Complete { target, upload, parts, checksum, condition }
    };
    let mut wrong = named(&[1, 2]);
    wrong[0].md5[3] ^= 1;
    for (parts, refusal) in [
        (named(&[2, 1]), Refusal::InvalidPartOrder),
        (named(&[1, 1]), Refusal::InvalidPartOrder),
        (named(&[1, 4]), Refusal::InvalidPart),
        (wrong, Refusal::InvalidPart),
        (named(&[1, 9, 10]), Refusal::PartTooSmall),
    ] {
        assert_eq!(shard.run(complete(parts, Condition::None)), Err(refusal));
    }
    assert!(matches!(shard.run(complete(vec![], Condition::None)), Err(Refusal::Invalid(_))));
    let missing = complete(named(&[1, 2]), Condition::Present);
    assert_eq!(shard.run(missing), Err(Refusal::NoSuchKey));

    let parts = named(&[1, 2, 10]);
    let etag = etag_of_parts(parts.iter().map(|part| part.md5));
    let written = shard.run(complete(parts.clone(), Condition::Absent));
    assert_eq!(written, Ok(Answer::Written { etag, committed: Timestamp(shard.wall) }));
    let object = shard.get("k").unwrap();
    assert_eq!((object.bytes, object.etag.parts), (10 * MB + 3, 3));
    assert_eq!(object.content, Content::Parts { upload });
    assert_eq!(object.attributes, attributes("k"));
    // A repeat answers the same, also under a condition that holds no more and after an overwrite.
    assert_eq!(shard.run(complete(parts.clone(), Condition::Absent)), written);
    let other = complete(named(&[1, 2]), Condition::None);
    assert_eq!(shard.run(other), Err(Refusal::NoSuchUpload));
    let list = |shard: &Group| {
        let (bucket, key) = (BUCKET, "k".to_string());
        shard.read(&Query::Parts { bucket, key, upload, after: 0, limit: 1000 })
    };
    let Ok(Answer::Parts { parts: listed, truncated: false, .. }) = list(&shard) else { panic!() };
    assert_eq!(listed.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 2, 10]);
    assert_eq!(listed[2].content, inline(b"end"));
    shard.run(put("k", super::object(1, inline(b"x")), Condition::None)).unwrap();
    assert_eq!(shard.run(complete(parts, Condition::None)), written);
    assert!(list(&shard).is_ok(), "a reader that began before the overwrite goes on");
    assert_eq!(
        shard.run(ObjectOp::Abort { target: target("k"), upload }),
        Err(Refusal::NoSuchUpload)
    );
}

#[test]
fn parts_go_only_to_the_upload_of_their_key() {
    let mut shard = Group::shard();
    let upload = shard.create("k");
    let op = |key: &str, upload, number| {
        let part = part(1, [1; 16], inline(b"x"));
        ObjectOp::PutPart { target: target(key), upload, number, part }
    };
    let unknown = BlobId { opened: Index(999), ..upload };
    let elsewhere = BlobId { home: ShardId(0), ..upload };
    for op in [op("l", upload, 1), op("k", unknown, 1), op("k", elsewhere, 1)] {
        assert_eq!(shard.run(op), Err(Refusal::NoSuchUpload));
    }
    for number in [0, PART_NUMBER_MAX + 1] {
        assert!(matches!(shard.run(op("k", upload, number)), Err(Refusal::Invalid(_))));
    }
    assert_eq!(shard.run(op("k", upload, PART_NUMBER_MAX)), Ok(Answer::Done));
    let abort = ObjectOp::Abort { target: target("k"), upload };
    assert_eq!(shard.run(abort.clone()), Ok(Answer::Done));
    assert_eq!(shard.run(abort), Err(Refusal::NoSuchUpload));
    assert_eq!(shard.run(op("k", upload, 1)), Err(Refusal::NoSuchUpload));
}

#[test]
fn a_multipart_tag_is_the_md5_of_md5s() {
    // As S3 computes it: md5(md5("a") + md5("b")) and the count.
    let md5 = |hex: &str| ETag::parse(hex).unwrap().md5;
    let a = md5("0cc175b9c0f1b6a831c399e269772661");
    let b = md5("92eb5ffee6ae2fec3ad71c777531578f");
    assert_eq!(etag_of_parts([a, b]).to_string(), "96e024ba2074fe77e8e965ba43a704be-2");
}

#[test]
fn a_body_that_is_only_on_disk_is_asked_for_and_completes_the_answer() {
    let mut shard = Group::shard();
    shard.run(put("k", object(5, inline(b"hello")), Condition::None)).unwrap();
    let resident = shard.get("k").unwrap();
    let key = space::object(BUCKET, b"k");
    let slot = shard.table.get(&key).unwrap().clone();
    let body = slot.body.bytes().unwrap();
    let (bytes, crc) = (slot.body.len(), slot.body.crc());
    let location = RecordLocation { segment: 3, offset: 4096, bytes, crc };
    assert!(shard.table.relocate(&key, slot.version, location));

    let query = Query::Object { bucket: BUCKET, key: "k".into() };
    let reading = || query::read(&shard.table, HOME, &query).unwrap();
    assert_eq!(reading().wants().collect::<Vec<_>>(), [location]);
    assert_eq!(reading().finish([body.clone()]), Ok(Answer::Object(resident)));
    assert!(reading().finish([]).is_err(), "nothing was fetched");
    assert!(reading().finish([body.slice(1..)]).is_err(), "something else was fetched");
    // Tags change without the body being read.
    let tags = vec![("t".into(), "1".into())];
    shard.run(ObjectOp::PutTags { target: target("k"), tags: tags.clone() }).unwrap();
    let reading = query::read(&shard.table, HOME, &query).unwrap();
    let Ok(Answer::Object(object)) = reading.finish([body]) else { panic!() };
    assert_eq!((object.attributes.tags, object.content), (tags, inline(b"hello")));
}
