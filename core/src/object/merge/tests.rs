#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]
//! Merged pages against one naive listing of everything.

use super::*;
use crate::object::naive;
use crate::rng::Rng;
use crate::types::Index;
use alloc::collections::BTreeSet;
use alloc::vec;

fn shards(count: u16) -> impl Iterator<Item = ShardId> {
    (0..count).map(ShardId)
}

/// Runs a merge; answers come in random order. Returns the page and how many entries shards gave.
fn merged(
    rng: &mut Rng,
    keys: &[BTreeSet<String>],
    request: &ListObjects,
) -> (Listing, usize, usize) {
    let mut merge = ObjectMerge::new(request.clone(), shards(keys.len() as u16));
    let (mut asks, mut given, mut rounds) = (Vec::new(), 0, 0);
    loop {
        let more = merge.asks();
        rounds += usize::from(!more.is_empty());
        asks.extend(more);
        if asks.is_empty() {
            break;
        }
        assert!(merge.page().is_none(), "a page before it is certain");
        let (shard, ask) = asks.swap_remove(rng.below(asks.len() as u64) as usize);
        let page = naive::list(&keys[shard.0 as usize], &ask);
        given += page.objects.len() + page.common_prefixes.len();
        merge.on_page(shard, page);
    }
    (merge.page().unwrap(), given, rounds)
}

#[test]
fn a_merged_page_is_the_page_of_one_big_shard() {
    for seed in 0..3000 {
        let mut rng = Rng::new(seed);
        let mut keys = vec![BTreeSet::new(); rng.between(1, 9) as usize];
        for _ in 0..rng.below(120) {
            let (key, shard) = (naive::key(&mut rng), rng.below(keys.len() as u64) as usize);
            if keys.iter().all(|keys| !keys.contains(&key)) {
                keys[shard].insert(key);
            }
        }
        let all: BTreeSet<String> = keys.iter().flatten().cloned().collect();
        let mut request = naive::request(&mut rng, &all);
        // To the end, page by page: nothing twice, nothing left out.
        loop {
            let (page, ..) = merged(&mut rng, &keys, &request);
            assert_eq!(page, naive::list(&all, &request), "seed {seed} {request:?}");
            let Some(next) = page.next else { break };
            request.from = next;
        }
    }
}

#[test]
fn a_page_over_many_shards_takes_one_round_and_little_more_than_a_page() {
    let mut rng = Rng::new(1);
    let mut keys = vec![BTreeSet::new(); 256];
    for number in 0..100_000 {
        keys[rng.below(256) as usize].insert(alloc::format!("key-{number:06}"));
    }
    let request = ListObjects { limit: 1000, ..naive::request(&mut rng, &BTreeSet::new()) };
    let request =
        ListObjects { prefix: String::new(), delimiter: None, from: ListFrom::Start, ..request };
    let (page, given, rounds) = merged(&mut rng, &keys, &request);
    assert_eq!(page.objects.len(), 1000);
    assert!(rounds <= 2 && given < 5000, "{rounds} rounds, {given} entries");
}

#[test]
fn uploads_of_one_key_stay_in_order_and_pages_go_on_between_them() {
    let uploads: Vec<ListedUpload> =
        [("a", 3), ("b", 1), ("b", 2), ("b", 7), ("c/x", 5), ("c/y", 6)]
            .map(|(key, opened)| ListedUpload {
                key: key.into(),
                upload: BlobId {
                    home: ShardId(u16::from(key == "b" || key == "c/y")),
                    opened: Index(opened),
                },
                initiated: opened,
            })
            .into();
    let of_shard = |shard: ShardId, request: &ListUploads| {
        let mut page = UploadsPage::default();
        for upload in uploads.iter().filter(|upload| upload.upload.home == shard) {
            let place = (upload.key.clone(), upload.upload);
            let after = |(key, upload): &(String, Option<BlobId>)| {
                upload.map_or(place.0 > *key && !place.0.starts_with("c/"), |upload| {
                    place > (key.clone(), upload)
                })
            };
            if !request.after.as_ref().is_none_or(after) {
                continue;
            }
            if page.uploads.len() + page.common_prefixes.len() == request.limit as usize {
                page.truncated = true;
                break;
            }
            if upload.key.starts_with("c/") {
                page.common_prefixes = vec!["c/".into()];
            } else {
                page.uploads.push(upload.clone());
            }
        }
        page
    };
    let mut request = ListUploads {
        bucket: BucketId(1),
        prefix: String::new(),
        delimiter: Some("/".into()),
        after: None,
        limit: 2,
    };
    let mut seen = Vec::new();
    loop {
        let mut merge = UploadMerge::new(request.clone(), shards(2));
        while let asks @ [_, ..] = merge.asks().as_slice() {
            for (shard, ask) in asks {
                merge.on_page(*shard, of_shard(*shard, ask));
            }
        }
        let page = merge.page().unwrap();
        seen.extend(page.uploads.iter().map(|upload| upload.initiated));
        if !page.truncated {
            assert_eq!(page.common_prefixes, ["c/"]);
            break;
        }
        let last = page.uploads.last().unwrap();
        request.after = Some((last.key.clone(), Some(last.upload)));
    }
    assert_eq!(seen, [3, 1, 2, 7]);
}
