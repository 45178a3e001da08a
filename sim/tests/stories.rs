//! Stories of small runs, kept as they were told: whoever changes a protocol reads here what that does to them, and
//! accepts it with `cargo insta accept` (or `INSTA_UPDATE=always`) once the difference is the one that was meant.
//!
//! Each is a file in `stories/`, of the form of the corpus; `broke` says what it tells.

use ironseed_sim::run::Order;
use ironseed_sim::seedfile::SeedFile;
use ironseed_sim::story::story;
use std::path::PathBuf;

fn folder() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs tests");
    PathBuf::from(package).join("tests/stories")
}

fn told(name: &str) -> String {
    let path = folder().join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).expect("a story has its file");
    let file = SeedFile::parse(&text).expect("it is one of the corpus' form");
    file.config.check().expect("it can be");
    let seed = file.seed().expect("a number");
    let order = Order { overrides: file.config, ..Order::new(seed) };
    format!("{}\n\n{}", file.broke, story(&order))
}

macro_rules! stories {
    ($($test:ident = $name:literal;)*) => {
        const NAMES: &[&str] = &[$($name),*];
        $(
            #[test]
            fn $test() {
                insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
                    insta::assert_snapshot!($name, told($name));
                });
            }
        )*
    };
}

stories! {
    first_election = "first-election";
    leader_is_killed = "leader-is-killed";
    leader_is_cut_off = "leader-is-cut-off";
    leader_hears_nobody = "leader-hears-nobody";
    leader_hangs = "leader-hangs";
    all_lose_power = "all-lose-power";
    a_sync_fails = "a-sync-fails";
    bits_flip_under_a_follower = "bits-flip-under-a-follower";
    a_follower_misses_much = "a-follower-misses-much";
    a_lone_node_loses_power = "a-lone-node-loses-power";
    leader_is_not_heard = "leader-is-not-heard";
    leader_is_stopped = "leader-is-stopped";
    leaders_are_hunted = "leaders-are-hunted";
    five_are_split = "five-are-split";
    power_goes_at_a_follower = "power-goes-at-a-follower";
    a_disk_is_full = "a-disk-is-full";
    a_clock_jumps = "a-clock-jumps";
    messages_are_late_and_double = "messages-are-late-and-double";
    a_bucket_is_deleted_under_a_write = "a-bucket-is-deleted-under-a-write";
    an_upload_outlives_its_leader = "an-upload-outlives-its-leader";
    a_quiet_leader_is_read = "a-quiet-leader-is-read";
    a_follower_is_read = "a-follower-is-read";
    a_disk_is_replaced = "a-disk-is-replaced";
    a_shard_is_moved = "a-shard-is-moved";
}

#[test]
fn every_file_is_told() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .expect("the stories")
        .map(|entry| entry.expect("can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    let mut names: Vec<&str> = NAMES.to_vec();
    files.sort_unstable();
    names.sort_unstable();
    assert_eq!(files, names);
}
