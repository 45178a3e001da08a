//! Keys of the table keep the order of what they are made of, and give it back.

use crate::kv::space;
use crate::rng::Rng;
use crate::types::{BlobId, BucketId, Incarnation, Index, NodeId, ShardId};
use alloc::vec::Vec;

const HOME: ShardId = ShardId(3);

fn blob(opened: u64) -> BlobId {
    BlobId { home: HOME, opened: Index(opened) }
}

#[test]
fn uploads_are_ordered_by_key_and_then_by_upload() {
    let mut rng = Rng::new(2);
    let mut model = Vec::new();
    for _ in 0..2_000 {
        let bytes = (0..rng.below(5)).map(|_| [0, 1, 2, 0xfe, 0xff][rng.below(5) as usize]);
        model.push((bytes.collect::<Vec<u8>>(), rng.below(600)));
    }
    let bucket = BucketId(7);
    let mut keys: Vec<_> =
        model.iter().map(|(key, id)| space::upload(bucket, key, blob(*id))).collect();
    keys.sort();
    model.sort();
    for (key, (name, id)) in keys.iter().zip(&model) {
        assert_eq!(space::parse_upload(HOME, key), Some((name.clone(), blob(*id))));
        assert!(key.starts_with(&space::uploads_of(bucket, name)));
        assert!(key.starts_with(&space::uploads(bucket)));
        for cut in 0..=name.len() {
            assert!(key.starts_with(&space::uploads_with_prefix(bucket, &name[..cut])));
        }
    }
    for hostile in
        [&[][..], &[6], &[6; 9], &[6; 12], &[6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 4, 5, 6]]
    {
        assert_eq!(space::parse_upload(HOME, hostile), None);
    }
}

#[test]
fn keys_give_back_what_they_were_made_of() {
    let big = u64::MAX - 5;
    assert_eq!(space::extent_seq(&space::extent(blob(big), 77)), Some(77));
    assert_eq!(space::part_number(&space::part(blob(big), 10_000)), Some(10_000));
    for key in [space::blob(blob(big)), space::extent(blob(big), 1), space::part(blob(big), 1)] {
        assert_eq!(space::blob_of(HOME, &key), Some(blob(big)));
    }
    let object = space::object(BucketId(9), b"a/b");
    assert_eq!(space::bucket_of(&object), Some(BucketId(9)));
    assert_eq!(space::object_key(&object), Some(&b"a/b"[..]));
    assert_eq!(space::kv_key(&space::kv(b"k")), Some(&b"k"[..]));
    let reply = space::reply(NodeId(3), Incarnation(4), 5);
    assert_eq!(space::reply_seq(&reply), Some(5));
    assert!(space::session(NodeId(3)) < reply && reply < space::session(NodeId(4)));
    assert_eq!(space::reply_seq(&space::session(NodeId(3))), None);
    assert_eq!(space::extent_seq(&object[..4]), None);
}

#[test]
fn after_a_prefix_comes_what_does_not_begin_with_it() {
    assert_eq!(space::after_prefix(b"abc"), Some(b"abd".to_vec()));
    assert_eq!(space::after_prefix(&[1, 0xff, 0xff]), Some([2].to_vec()));
    assert_eq!(space::after_prefix(&[0xff, 0xff]), None);
    assert_eq!(space::after_prefix(&[]), None);
}
