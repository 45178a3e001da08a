use super::*;

/// What it fills a node with is there after the restart, and keys are as long as they should be and all different.
#[tokio::test]
async fn a_node_that_was_filled_has_it_all_when_it_starts_again() {
    for what in [What::Kv, What::Object] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            dir: folder.path().join("data"),
            keys: 300,
            what,
            key_bytes: 30,
            value_bytes: 100,
            shards: 4,
            cold: false,
            json: false,
            part: None,
        };
        let keys: std::collections::BTreeSet<Bytes> =
            (0..options.keys).map(|number| key(&options, number)).collect();
        assert!(keys.len() == 300 && keys.iter().all(|key| key.len() == 30));
        let filled = fill(&options, Duration::ZERO).await.unwrap();
        assert!(filled.seconds > 0.0 && filled.memory.hwm_kib >= filled.memory.rss_kib);
        drop_from_cache(&options.dir).unwrap();
        let served = serve(&options, Duration::ZERO).await.unwrap();
        assert!(served.read_bytes > 300 * 130, "{served:?}");
        let node = Lone::start(&options, FsyncPolicy::Always).unwrap();
        node.serving().await;
        for number in 0..options.keys {
            read(&options, &node.handle, number).await.unwrap();
        }
        assert!(read(&options, &node.handle, options.keys).await.is_err());
        node.stop().await.unwrap();
    }
}

#[test]
fn what_is_printed_names_every_figure() {
    let memory = Memory { rss_kib: 250, hwm_kib: 300 };
    let report = Report {
        keys: 1024,
        what: "kv",
        key_bytes: 16,
        value_bytes: 100,
        shards: 4,
        cold: true,
        disk_bytes: 5_000_000,
        filled: Some(Filled { seconds: 0.5, memory }),
        restart_ms: 70.0,
        served: Served {
            begun_ms: 1.0,
            serving_ms: 50.0,
            deciding_ms: 40.0,
            read_bytes: 3_000_000,
            answered_ms: 9.0,
            cpu_ms: 45.0,
            all_groups_ms: 8.0,
            memory,
        },
        rss_bytes_per_key: 250.0,
        hwm_bytes_per_key: 300.0,
    };
    let expected =
        "1024 records (kv) with keys of 16 and values of 100 bytes in 4 shards, 5 MB on disk
  filled      0.5 s, 2048/s; resident 250 bytes a record, at the most 300
  restarted   resident 250 bytes a record, at the most 300
  first read  70 ms after the start of the process (files not in the cache), 45 ms of processor time
    booted 1 ms, recovered 50 ms (40 ms deciding, 3 MB read), answered 9 ms
  all groups  8 ms later
";
    assert_eq!(report.text(), expected);
    let json: serde_json::Value = serde_json::from_str(&line(&report)).unwrap();
    assert_eq!(json["served"]["memory"]["rss_kib"], 250);
}
