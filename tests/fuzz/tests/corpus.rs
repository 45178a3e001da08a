//! Every file of the corpus, and a few mutated inputs for every target.

use ironseed_fuzz::run::{self, Length};
use ironseed_fuzz::{Target, target, targets};

/// Whole campaigns are for `cargo xtask ci --only fuzz`.
fn replay_and_mutate(target: &Target) {
    let files = run::files(target).expect("the corpus can be read");
    let runs = (target.runs / 20).clamp(5, 300);
    match run::campaign(target, &files, 7, Length::Runs(runs), |_| {}) {
        Ok(tally) => assert!(tally.accepted > 0, "{}: nothing got through", target.name),
        Err((input, harm)) => {
            let named = files.iter().find(|(_, bytes)| *bytes == input);
            let named = named.map_or("a mutated input", |(name, _)| name);
            panic!("{}: {named}: {harm}\n{input:?}", target.name);
        }
    }
}

macro_rules! targets {
    ($($name:ident: $target:literal),+ $(,)?) => {
        $(#[test]
        fn $name() {
            replay_and_mutate(target($target).expect("there is this target"));
        })+

        #[test]
        fn every_target_is_tested_and_every_folder_has_a_target() {
            let tested = [$($target),+];
            let all: Vec<&str> = targets().iter().map(|target| target.name).collect();
            assert!(all.iter().all(|name| tested.contains(name)), "{all:?}");
            let corpus = run::folder(&targets()[0]);
            let folders = std::fs::read_dir(corpus.parent().expect("a folder of folders"));
            for folder in folders.expect("there is a corpus") {
                let name = folder.expect("it can be read").file_name();
                assert!(name.to_str().is_some_and(|name| all.contains(&name)), "{name:?}");
            }
        }
    };
}

targets! {
    config: "config",
    seed_file: "seed-file",
    peer_message: "peer-message",
    node_port: "node-port",
    command: "command",
    table_frame: "table-frame",
    superblock: "superblock",
    wal_batch: "wal-batch",
    segment: "segment",
    index: "index",
    recording: "recording",
    http: "http",
    xml: "xml",
    store: "store",
}

/// A harness that sees nothing would be green for ever.
#[test]
fn a_panic_anywhere_and_memory_without_bound_are_seen() {
    const NAME: Target = Target {
        name: "harness",
        runs: 1,
        about: "harms on demand",
        seeds: Vec::new,
        dictionary: &[],
        bytes_max: 1,
        memory_max: 1 << 20,
        run: |input| {
            match input {
                b"panic" => panic!("as asked"),
                b"thread" => drop(std::thread::spawn(|| panic!("elsewhere")).join()),
                b"memory" => drop(std::hint::black_box(vec![1_u8; 1 << 30])),
                _ => {}
            }
            ironseed_fuzz::Verdict::Accepted
        },
    };
    let harm = |input: &[u8]| run::feed(&NAME, input).err().map(|harm| harm.to_string());
    assert_eq!(harm(b"nothing"), None);
    assert!(harm(b"panic").is_some_and(|harm| harm.contains("as asked")));
    assert!(harm(b"thread").is_some_and(|harm| harm.contains("elsewhere")));
    assert!(harm(b"memory").is_some_and(|harm| harm.contains("allocated")));
}
