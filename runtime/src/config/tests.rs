use super::*;
use ironseed_core::planted::Planted;

const BASE: &str = "\
node = 1
data = \"data\"
[cluster]
nodes = [{ id = 1, address = \"127.0.0.1:7001\" }]
";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/ironseed/node.toml"), text)
}

/// The base with one more piece of text is refused at this line, with this key and these words.
#[track_caller]
fn refused(text: &str, line: usize, key: &str, words: &str) {
    let error = parse(text).expect_err("must be refused");
    assert_eq!(error.line, Some(line), "{error}");
    assert_eq!(error.key, key, "{error}");
    assert!(error.what.contains(words), "{error}");
    assert!(error.to_string().starts_with(&format!("/etc/ironseed/node.toml:{line}: ")), "{error}");
}

#[test]
fn tables_that_are_too_deep_are_refused_by_their_line() {
    let text = format!("{BASE}[{}a]\n[s3]\n", "a.".repeat(2_000));
    let error = parse(&text).expect_err("must be refused");
    assert_eq!(error.line, Some(BASE.lines().count() + 1), "{error}");
}

#[test]
fn the_least_file_gets_the_defaults() {
    let config = parse(BASE).unwrap();
    assert_eq!(config.node, NodeId(1));
    assert_eq!(config.data, Path::new("/etc/ironseed/data"));
    assert_eq!(config.cluster.listen, "127.0.0.1:7001".parse().unwrap());
    assert_eq!((config.cluster.shards, config.cluster.replication), (256, 1));
    assert_eq!(config.s3.listen, "127.0.0.1:9000".parse().unwrap());
    assert_eq!(config.storage.fsync, FsyncPolicy::Always);
    let node = config.node_config().unwrap();
    assert_eq!(node.nodes, [NodeId(1)]);
    assert_eq!(node.planted, Planted::NONE);
}

#[test]
fn the_example_documents_every_key_with_its_default() {
    let text = include_str!("../../../ironseed.example.toml");
    let config = parse(text).expect("the example is valid as it stands");
    let least = parse(BASE).unwrap();
    assert_eq!(format!("{:?}", config.storage), format!("{:?}", least.storage));
    assert_eq!(format!("{:?}", config.limits), format!("{:?}", least.limits));
    assert_eq!(format!("{:?}", config.s3), format!("{:?}", least.s3));
    assert_eq!((config.log, config.admin), (least.log, least.admin));
    assert_eq!((config.record, least.record), (None, None));
    assert_eq!(config.reads, least.reads);
    // Every key of every section appears, in use or commented out.
    let keys = [
        "node",
        "data",
        "insecure",
        "clock_bound_ms",
        "max_clock_drift_ppm",
        "reads",
        "shards",
        "replication",
        "listen",
        "secret_file",
        "id",
        "address",
        "admin",
        "region",
        "domain",
        "fsync",
        "fsync_interval_ms",
        "wal_segment_mib",
        "table_segment_mib",
        "chunk_segment_mib",
        "connections",
        "body_mib",
        "requests",
        "log_mib",
        "scrub_mib_per_second",
        "stop_seconds",
        "filter",
        "record",
        "format",
    ];
    for key in keys {
        let shown = text.lines().any(|line| {
            line.trim_start_matches(['#', ' '])
                .split_once('=')
                .is_some_and(|(left, _)| left.trim() == key)
                || line.contains(&format!("{key} = "))
        });
        assert!(shown, "{key} is not in ironseed.example.toml");
    }
}

#[test]
fn unknown_keys_are_refused_by_name_and_line() {
    refused(&format!("{BASE}[s3]\nregoin = \"x\"\n"), 6, "regoin", "unknown field `regoin`");
    refused(&format!("nod = 1\n{BASE}"), 1, "nod", "unknown field `nod`");
    refused(&BASE.replace("id = 1,", "id = 1, adress = 2,"), 4, "nodes", "unknown field `adress`");
}

#[test]
fn wrong_types_and_broken_syntax_are_refused_by_line() {
    refused(&BASE.replace("node = 1", "node = \"one\""), 1, "node", "invalid type");
    refused(&format!("{BASE}[s3]\nlisten = \n"), 6, "listen", "");
    refused(&format!("{BASE}[storage]\nfsync = \"sometimes\"\n"), 6, "fsync", "unknown variant");
    refused(&format!("{BASE}[limits]\nrequests = -1\n"), 6, "requests", "");
}

#[test]
fn values_that_make_no_sense_are_refused_by_line() {
    refused(&BASE.replace("node = 1", "node = 2"), 1, "node", "does not list");
    refused(&BASE.replace("id = 1", "id = 0"), 4, "id", "from 1");
    refused(&BASE.replace("127.0.0.1:7001", "localhost"), 4, "address", "not host:port");
    refused(&BASE.replace("127.0.0.1:7001", "localhost:7001"), 4, "address", "cluster.listen");
    refused(&format!("{BASE}shards = 3\n"), 5, "cluster.shards", "power of two");
    refused(&format!("{BASE}replication = 2\n"), 5, "cluster.replication", "1, 3 or 5");
    refused(&format!("{BASE}replication = 3\n"), 5, "cluster.replication", "only 1 nodes");
    refused(&format!("{BASE}[s3]\nregion = \"EU\"\n"), 6, "s3.region", "a-z");
    refused(&format!("{BASE}[s3]\ndomain = \"a..b\"\n"), 6, "s3.domain", "domain");
    refused(&format!("{BASE}[s3]\nlisten = \"9000\"\n"), 6, "s3.listen", "address:port");
    refused(
        &format!("{BASE}[storage]\nwal_segment_mib = 1\n"),
        6,
        "storage.wal_segment_mib",
        "4 to",
    );
    refused(&format!("{BASE}[log]\nfilter = \"=x=\"\n"), 6, "log.filter", "");
    let twice = BASE.replace("}]", "}, { id = 1, address = \"127.0.0.1:7002\" }]");
    refused(&twice, 4, "id", "listed twice");
    let same = BASE.replace("}]", "}, { id = 2, address = \"127.0.0.1:7001\" }]");
    refused(&same, 4, "address", "two nodes");
}

#[test]
fn leases_take_a_bound_that_clocks_can_keep() {
    let with = |ppm: &str| format!("max_clock_drift_ppm = {ppm}\n{BASE}");
    for (ppm, words) in [("0", "no clock is perfect"), ("99", "can keep"), ("200001", "too little")]
    {
        refused(&with(ppm), 1, "max_clock_drift_ppm", words);
        refused(&with(ppm), 1, "max_clock_drift_ppm", "100 to 200000");
    }
    refused(&with("-1"), 1, "max_clock_drift_ppm", "");
    refused(&with("0.1"), 1, "max_clock_drift_ppm", "invalid type");
    let tuning = |text: &str| parse(text).unwrap().node_config().unwrap().tuning;
    assert_eq!(tuning(&with("1000")).max_clock_drift_ppm, Some(1000));
    assert_eq!(tuning(BASE).max_clock_drift_ppm, None, "no leases unless somebody promises it");
}

#[test]
fn reads_are_the_leaders_unless_the_file_says_otherwise() {
    let with = |reads: &str| format!("reads = \"{reads}\"\n{BASE}");
    let nearest = |text: &str| parse(text).unwrap().node_config().unwrap().tuning.reads_nearest;
    assert_eq!(
        [nearest(BASE), nearest(&with("leader")), nearest(&with("nearest"))],
        [false, false, true]
    );
    refused(&with("any"), 1, "reads", "unknown variant `any`, expected `leader` or `nearest`");
}

#[test]
fn the_scrub_has_a_rate_or_is_off() {
    let with = |rate: &str| format!("{BASE}[limits]\nscrub_mib_per_second = {rate}\n");
    let rate =
        |text: &str| parse(text).unwrap().node_config().unwrap().tuning.scrub_bytes_per_second;
    assert_eq!([rate(BASE), rate(&with("0")), rate(&with("100"))], [4 << 20, 0, 100 << 20]);
    refused(&with("-1"), 6, "scrub_mib_per_second", "");
    refused(&with("2000000"), 6, "limits.scrub_mib_per_second", "0 to 1048576");
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    let open = format!("{BASE}[s3]\nlisten = \"0.0.0.0:9000\"\n");
    refused(&open, 6, "s3.listen", "insecure = true");
    refused(&BASE.replace("127.0.0.1:7001", "10.0.0.1:7001"), 4, "address", "insecure = true");
    assert!(parse(&format!("insecure = true\n{open}")).is_ok());
}

#[test]
fn several_nodes_need_a_secret_that_others_cannot_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let three = BASE.replace(
        "}]",
        "}, { id = 2, address = \"127.0.0.1:7002\" }, { id = 3, address = \"127.0.0.1:7003\" }]",
    );
    refused(&three, 4, "cluster.secret_file", "need a secret");
    let with = format!("{three}secret_file = {:?}\n", secret.to_str().unwrap());
    refused(&with, 5, "cluster.secret_file", "No such file");
    std::fs::write(&secret, "short\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&with, 5, "cluster.secret_file", "mode 644");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    refused(&with, 5, "cluster.secret_file", "5 characters");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let config = parse(&with).unwrap();
    assert_eq!(config.cluster.secret.bytes().len(), 32);
    assert_eq!(config.cluster.replication, 3);
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}
