//! Bits flipped at random, and worse: nothing falls over, and what is flipped in what counts is found.

use super::compaction::worn;
use super::{Directory, filled};
use ironseed::data::{DumpOptions, Progress, compact, dump, inspect, verify, verify_logs};
use ironseed_core::rng::Rng;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

const FLIPS: u64 = 100;
const BLOWS: u64 = 8;

/// All tools on a directory; whether each of the two verifications says something.
fn all(path: &Path) -> (bool, bool) {
    let _ = inspect(path, &Progress::hidden());
    let _ = dump(path, &DumpOptions::default(), &mut io::sink());
    let logs = verify_logs(path, &Progress::hidden());
    let whole = verify(path, &Progress::hidden());
    let told = |verified: Result<ironseed::data::Verified, _>| {
        verified.map_or(true, |verified| !verified.findings.is_empty())
    };
    (told(logs), told(whole))
}

/// The objects of each group whose state is whole.
fn objects(path: &Path) -> BTreeMap<u32, String> {
    let inspection = inspect(path, &Progress::hidden());
    let groups = inspection.into_iter().flat_map(|it| it.groups);
    let whole = groups.filter(|group| group.damage.is_none());
    whole.map(|group| (group.group, format!("{:?} {:?}", group.records, group.objects))).collect()
}

/// The files of the directory and how many of their bytes belong to something.
fn live(directory: &Directory) -> Vec<(String, u64)> {
    let mut out = Vec::new();
    dump(directory.path(), &DumpOptions::default(), &mut out).expect("a dump");
    let text = String::from_utf8(out).expect("text");
    let mut live = vec![("superblock".to_owned(), 8192), ("FORMAT".to_owned(), 34)];
    let mut name = None;
    for line in text.lines() {
        if let Some((file, says)) = line.split_once(": ").filter(|(file, _)| file.ends_with(".seg"))
        {
            // One that was made ahead of need holds nothing yet.
            name = Some(file.to_owned()).filter(|_| !says.ends_with("no header"));
        }
        if let Some(end) = line.strip_prefix("  at ").and_then(|line| line.strip_suffix(": end"))
            && let Some(name) = &name
        {
            live.push((name.clone(), end.parse().expect("an offset")));
        }
    }
    live
}

#[test]
fn every_flip_in_what_counts_is_found() {
    let directory = Directory::of(&filled(20, 3));
    assert_eq!(all(directory.path()), (false, false), "nothing is wrong yet");
    let live = live(&directory);
    assert!(live.len() >= 5, "{live:?}");
    let mut rng = Rng::new(7);
    for flip in 0..FLIPS {
        let (name, bytes) = &live[rng.below(live.len() as u64) as usize];
        let (at, bit) = (rng.below(*bytes) as usize, rng.below(8));
        directory.change(name, |bytes| bytes[at] ^= 1 << bit);
        let (logs, whole) = all(directory.path());
        assert!(whole, "flip {flip}: bit {bit} of byte {at} of {name}");
        assert!(logs || name == "superblock", "flip {flip}: bit {bit} of byte {at} of {name}");
        directory.change(name, |bytes| bytes[at] ^= 1 << bit);
    }
    assert_eq!(all(directory.path()), (false, false), "all is as it was");
}

#[test]
fn nothing_falls_over_whatever_is_lost() {
    let alone = worn();
    let mut rng = Rng::new(11);
    for blow in 0..BLOWS {
        let directory = Directory::of(&alone);
        let live = live(&directory);
        for _ in 0..=rng.below(3) {
            let (name, bytes) = &live[rng.below(live.len() as u64) as usize];
            if !directory.file(name).exists() {
                continue;
            }
            let at = rng.below(*bytes) as usize;
            match rng.below(4) {
                0 => std::fs::remove_file(directory.file(name)).expect("a file"),
                1 => directory.change(name, |bytes| bytes.truncate(at)),
                2 => directory.change(name, |bytes| {
                    let end = bytes.len().min(at + 5_000);
                    bytes.get_mut(at..end).into_iter().flatten().for_each(|it| *it ^= 0x5a);
                }),
                // A piece of another place.
                _ => directory.change(name, |bytes| {
                    let from = at / 2 / 4096 * 4096;
                    let end = (from + 8192).min(bytes.len());
                    let piece = bytes.get(from..end).unwrap_or_default().to_vec();
                    let to = at / 4096 * 4096;
                    if let Some(place) = bytes.get_mut(to..to + piece.len()) {
                        place.copy_from_slice(&piece);
                    }
                }),
            }
        }
        all(directory.path());
        let before = objects(directory.path());
        // Compaction refuses, or leaves what it does not understand.
        let _ = compact(directory.path(), &Progress::hidden());
        all(directory.path());
        let after = objects(directory.path());
        for (group, objects) in before {
            assert_eq!(after.get(&group), Some(&objects), "blow {blow}, group {group}");
        }
    }
}
