//! Text that people write: the configuration of a node and the files of the seed corpus.

use crate::{Target, Verdict};
use ironseed::config::Config;
use ironseed_sim::seedfile::SeedFile;
use std::path::Path;

pub(super) const CONFIG: Target = Target {
    name: "config",
    runs: 20_000,
    about: "the configuration file; a refusal names a line or a key",
    seeds: || {
        let least = "node = 1\ndata = \"data\"\n[cluster]\n\
                     nodes = [{ id = 1, address = \"127.0.0.1:7001\" }]\n";
        vec![include_bytes!("../../../../ironseed.example.toml").to_vec(), least.into()]
    },
    dictionary: &[
        b"node = ",
        b"insecure = true\n",
        b"[cluster]\n",
        b"[[cluster.nodes]]\n",
        b"[s3]\n",
        b"[storage]\n",
        b"[limits]\n",
        b"clock_bound_ms = ",
        b"shards = ",
        b"replication = ",
        b"0.0.0.0:0",
        b"[::1]:9000",
        b"\"interval\"",
        b"\"\"\"",
        b"18446744073709551616",
        b"-1",
        b"1979-05-27T07:32:00Z",
        b"\\u0000",
        b"= [",
        b"}",
        b"\n",
    ],
    bytes_max: 8 << 10,
    memory_max: 32 << 20,
    run: config,
};

fn config(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Verdict::Refused };
    // A file is opened for the secret, and what is at an invented path is not this test's business.
    if text.contains("secret_file") {
        return Verdict::Refused;
    }
    match Config::parse(Path::new("node.toml"), text) {
        Ok(config) => {
            let members: Vec<_> = config.cluster.members.iter().map(|member| member.id).collect();
            assert!(members.is_sorted() && members.contains(&config.node), "{members:?}");
            assert!(config.cluster.shards.is_power_of_two() && config.cluster.shards <= 256);
            assert!(usize::from(config.cluster.replication) <= members.len());
            config.node_config().expect("there is randomness");
            Verdict::Accepted
        }
        Err(error) => {
            let lines = text.lines().count() + 1;
            assert!(error.line.is_some() || !error.key.is_empty(), "says not where: {error}");
            assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{error}");
            assert!(!error.what.is_empty(), "says not what: {error}");
            Verdict::Refused
        }
    }
}

pub(super) const SEED_FILE: Target = Target {
    name: "seed-file",
    runs: 20_000,
    about: "a file of seeds/; what is read comes back as it is written",
    seeds: || {
        vec![
            include_bytes!("../../../../seeds/0013-put-races-the-deletion-of-its-bucket.toml")
                .to_vec(),
            b"seed = \"0x5eed\"\nfound = \"0bf7018\"\nbroke = \"x\"\nchecker = \"raft\"\nbug = 3\n"
                .to_vec(),
        ]
    },
    dictionary: &[
        b"[config]\n",
        b"[[config.plan]]\n",
        b"nodes = ",
        b"lanes = ",
        b"millis = ",
        b"faults = [\"power-loss\", \"clock-drift\"]\n",
        b"\"bucket-races\"",
        b"0x",
        b"18446744073709551615",
        b"\n",
    ],
    bytes_max: 8 << 10,
    memory_max: 32 << 20,
    run: seed_file,
};

fn seed_file(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Verdict::Refused };
    match SeedFile::parse(text) {
        Ok(file) => {
            file.seed().expect("parsing has checked it");
            let written = toml::to_string(&file).expect("it has a form");
            assert_eq!(SeedFile::parse(&written).as_ref(), Ok(&file), "{written}");
            Verdict::Accepted
        }
        Err(error) => {
            assert!(!error.is_empty());
            Verdict::Refused
        }
    }
}
