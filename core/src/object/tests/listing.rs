//! A shard's pages against the naive listing.

use super::*;
use crate::object::merge::ListUploads;
use crate::object::naive;
use crate::rng::Rng;
use alloc::string::ToString;

#[test]
fn pages_are_those_of_a_listing_that_looks_at_every_key() {
    for seed in 0..150 {
        let (mut rng, mut shard) = (Rng::new(seed), Group::shard());
        // Neighbours in the table that must never show.
        for bucket in [BucketId(BUCKET.0 - 1), BucketId(BUCKET.0 + 1)] {
            shard.run(ObjectOp::InstallBucket { bucket, epoch: EPOCH }).unwrap();
            let neighbour = Target { bucket, ..target("a") };
            let object = object(0, inline(b""));
            let condition = Condition::None;
            shard.run(ObjectOp::Put { target: neighbour, object, condition }).unwrap();
        }
        let mut keys = BTreeSet::new();
        for _ in 0..rng.below(60) {
            let key = naive::key(&mut rng);
            shard.wall = 4;
            let bytes = vec![b'x'; key.len()];
            shard
                .run(put(&key, object(key.len() as u64, inline(&bytes)), Condition::None))
                .unwrap();
            keys.insert(key);
        }
        for _ in 0..40 {
            let mut list = naive::request(&mut rng, &keys);
            loop {
                let query = Query::Objects { bucket: BUCKET, list: list.clone() };
                let expected = naive::list(&keys, &list);
                let found = shard.read(&query);
                assert_eq!(found, Ok(Answer::Listing(expected.clone())), "seed {seed} {list:?}");
                let Some(next) = expected.next else { break };
                list.from = next;
            }
        }
    }
}

#[test]
fn a_common_prefix_costs_one_step_however_much_is_below_it() {
    // Not a timing test: a page of two over many keys must come from seeks, so what is asked for after
    // it must be past all of them.
    let mut shard = Group::shard();
    for number in 0..500 {
        let key = alloc::format!("logs/{number:04}");
        shard.run(put(&key, object(0, inline(b"")), Condition::None)).unwrap();
    }
    shard.run(put("zebra", object(0, inline(b"")), Condition::None)).unwrap();
    let list = |from| {
        let (bucket, prefix, delimiter) = (String::new(), String::new(), Some("/".to_string()));
        let list = ListObjects { bucket, prefix, delimiter, from, limit: 1 };
        query::list_objects(&shard.table, BUCKET, &list)
    };
    let first = list(ListFrom::Start);
    assert_eq!(first.common_prefixes, ["logs/"]);
    assert_eq!(first.next, Some(ListFrom::AfterPrefix("logs/".into())));
    let second = list(first.next.unwrap());
    assert_eq!((second.objects.len(), &second.next), (1, &None));
    // The last common prefix as a marker stands for all of it, a key inside it does not.
    assert_eq!(list(ListFrom::After("logs/".into())).objects.len(), 1);
    assert_eq!(list(ListFrom::After("logs/0100".into())).common_prefixes, ["logs/"]);
}

#[test]
fn uploads_are_listed_by_key_and_then_by_age() {
    let mut shard = Group::shard();
    let keys = ["b", "a", "b", "dir/x", "dir/y", "a\0b", "b"];
    let uploads: Vec<BlobId> = keys.iter().map(|key| shard.create(key)).collect();
    let list = |prefix: &str, delimiter: Option<&str>, after, limit| {
        let (prefix, delimiter) = (prefix.to_string(), delimiter.map(String::from));
        let list = ListUploads { bucket: BUCKET, prefix, delimiter, after, limit };
        let page = query::list_uploads(&shard.table, HOME, &list);
        let order: Vec<usize> = page
            .uploads
            .iter()
            .map(|listed| uploads.iter().position(|upload| *upload == listed.upload).unwrap())
            .collect();
        (order, page.common_prefixes, page.truncated)
    };
    let dir = vec!["dir/".to_string()];
    assert_eq!(list("", None, None, 1000), (vec![1, 5, 0, 2, 6, 3, 4], vec![], false));
    assert_eq!(list("", Some("/"), None, 1000), (vec![1, 5, 0, 2, 6], dir.clone(), false));
    assert_eq!(list("b", None, None, 2), (vec![0, 2], vec![], true));
    let after =
        |key: &str, upload: Option<usize>| Some((key.to_string(), upload.map(|u| uploads[u])));
    assert_eq!(list("", None, after("b", Some(0)), 9), (vec![2, 6, 3, 4], vec![], false));
    assert_eq!(list("", None, after("b", None), 9), (vec![3, 4], vec![], false));
    assert_eq!(list("", None, after("a", None), 1), (vec![5], vec![], true));
    assert_eq!(list("", Some("/"), after("dir/", None), 9), (vec![], vec![], false));
    assert_eq!(list("", Some("/"), after("b", None), 1), (vec![], dir, false));
    assert_eq!(list("", None, None, 0), (vec![], vec![], false));
}

#[test]
fn parts_are_listed_in_pages() {
    let mut shard = Group::shard();
    let upload = shard.create("k");
    for number in [5, 1, 300, 2] {
        let part = part(1, [1; 16], inline(b"x"));
        shard.run(ObjectOp::PutPart { target: target("k"), upload, number, part }).unwrap();
    }
    let list = |after, limit| {
        let (bucket, key) = (BUCKET, "k".to_string());
        match shard.read(&Query::Parts { bucket, key, upload, after, limit }) {
            Ok(Answer::Parts { parts, truncated, attributes }) => {
                assert_eq!(attributes, super::attributes("k"));
                // Inline bytes are not read for an upload in progress.
                assert!(parts.iter().all(|part| part.content == inline(b"") && part.bytes == 1));
                (parts.iter().map(|part| part.number).collect::<Vec<_>>(), truncated)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(0, 1000), (vec![1, 2, 5, 300], false));
    assert_eq!(list(0, 2), (vec![1, 2], true));
    assert_eq!(list(2, 2), (vec![5, 300], false));
    assert_eq!(list(300, 2), (vec![], false));
    let (bucket, key) = (BUCKET, "other".to_string());
    let other = Query::Parts { bucket, key, upload, after: 0, limit: 9 };
    assert_eq!(shard.read(&other), Err(Refusal::NoSuchUpload));
}
