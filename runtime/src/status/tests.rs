use super::summary::{Answer, Summary, summarise};
use super::*;

const VOTERS: [u32; 3] = [1, 2, 3];

/// Node `node` of three, leading group 0 if it is node 1.
fn report(node: u32) -> NodeReport {
    let leads = node == 1;
    NodeReport {
        node,
        phase: "serving".into(),
        cluster: Some("c0ffee".into()),
        store: None,
        incarnation: 2,
        nodes: VOTERS.to_vec(),
        charter: 1,
        layout: 3,
        moving: Vec::new(),
        stores: vec![StoreReport { node: 1, store: "aa".into() }],
        strangers: Vec::new(),
        suspected: Vec::new(),
        chunks_missing: 0,
        chunks: 3,
        chunk_bytes: 3 << 20,
        scrub: ScrubReport { rounds: 1, whole: 7, began: 9, bytes: 1 << 20, damaged: 0 },
        requests: 0,
        disk_full: false,
        peers: vec![PeerReport { node: 9, sent: 3, received: 4, dropped: 5 }],
        disk: DiskReport::default(),
        groups: vec![GroupReport {
            group: 0,
            role: if leads { "leader" } else { "follower" }.into(),
            term: 4,
            leader: Some(1),
            commit: 5_000,
            last: 5_000,
            applied: 5_000 - u64::from(node) * 10,
            voters: VOTERS.to_vec(),
            matched: if leads { vec![(2, 5_000), (3, 4_500)] } else { Vec::new() },
            entries_lost: 0,
            abstaining: false,
            damaged: None,
        }],
    }
}

fn answers() -> Vec<Answer> {
    VOTERS
        .iter()
        .map(|node| Answer {
            node: Some(*node),
            address: format!("127.0.0.1:910{node}"),
            report: Ok(report(*node)),
        })
        .collect()
}

fn changed(change: impl FnOnce(&mut Vec<Answer>)) -> Summary {
    let mut answers = answers();
    change(&mut answers);
    summarise(&answers)
}

fn group(answers: &mut [Answer], node: usize) -> &mut GroupReport {
    &mut answers[node - 1].report.as_mut().unwrap().groups[0]
}

#[test]
fn three_healthy_replicas_can_lose_one_node() {
    let summary = summarise(&answers());
    assert_eq!(summary.can_lose, Some(1));
    assert_eq!(summary.warnings, Vec::<String>::new());
    let text = table::render(&summary);
    let expected = "\
1 node can be lost now without losing data or availability

NODE  STATE    LEADS  FOLLOWS  STANDS  TERM  LAG  UNHEALTHY  MISSING  CHUNKS  SCRUB  BOOTS  ADMIN
1     serving  1      0        0       4     10   0          0        3 MiB   33 %   2      127.0.0.1:9101
2     serving  0      1        0       4     20   0          0        3 MiB   33 %   2      127.0.0.1:9102
3     serving  0      1        0       4     30   0          0        3 MiB   33 %   2      127.0.0.1:9103
";
    assert_eq!(text, expected);
}

#[test]
fn a_replica_that_is_no_full_copy_does_not_count() {
    let summary = changed(|answers| answers[2].report = Err("connection refused".into()));
    assert_eq!(summary.can_lose, Some(0));
    assert_eq!(summary.warnings, ["node 3 at 127.0.0.1:9103: connection refused"]);
    assert_eq!(summary.nodes[2].state, "unreachable");

    assert_eq!(changed(|answers| group(answers, 2).abstaining = true).can_lose, Some(0));
    let damaged = changed(|answers| group(answers, 2).damaged = Some("wal-1.seg at byte 9".into()));
    assert_eq!(damaged.can_lose, Some(0));
    assert_eq!(damaged.warnings, ["node 2, group 0: wal-1.seg at byte 9"]);
    let lacking = changed(|answers| group(answers, 2).entries_lost = 2);
    assert_eq!((lacking.can_lose, lacking.nodes[1].unhealthy), (Some(0), 1));
    assert_eq!(lacking.warnings, ["node 2: 2 damaged log entries still to fetch"]);
    let behind = changed(|answers| group(answers, 1).matched = vec![(2, 5_000), (3, 100)]);
    assert_eq!(behind.can_lose, Some(0));
    let silent = changed(|answers| group(answers, 1).matched = vec![(2, 5_000)]);
    assert_eq!(silent.can_lose, Some(0));
    let lacking = changed(|answers| answers[1].report.as_mut().unwrap().chunks_missing = 7);
    assert_eq!(lacking.can_lose, Some(0));
    assert_eq!(lacking.warnings, ["node 2: 7 chunks still to fetch"]);
}

#[test]
fn without_a_leader_or_a_quorum_behind_it_nothing_is_promised() {
    let headless = changed(|answers| group(answers, 1).role = "follower".into());
    assert_eq!((headless.can_lose, headless.unavailable), (None, vec![0]));
    let alone = changed(|answers| group(answers, 1).matched.clear());
    assert_eq!(alone.can_lose, None);
    assert!(table::render(&alone).starts_with("1 of 1 groups are not available as it is\n"));
    let nobody = summarise(&[]);
    assert_eq!(nobody.can_lose, None);
    assert!(table::render(&nobody).starts_with("no node that answers"));
}

#[test]
fn the_leader_of_the_highest_term_counts() {
    // A deposed leader still believes in itself and its followers.
    let summary = changed(|answers| {
        *group(answers, 3) = GroupReport {
            role: "leader".into(),
            term: 5,
            matched: vec![(2, 5_000)],
            ..group(answers, 1).clone()
        };
    });
    assert_eq!(summary.can_lose, Some(0), "node 1 is not among those that follow node 3");
}

#[test]
fn nodes_that_nobody_asked_are_named() {
    let summary = changed(|answers| {
        answers.remove(2);
    });
    assert_eq!(summary.warnings, ["node 3 was not asked: its admin address is not known"]);
}

#[test]
fn who_wants_a_place_is_told_once() {
    let summary = changed(|answers| {
        for answer in answers.iter_mut().skip(1) {
            let report = answer.report.as_mut().unwrap();
            report.strangers = vec![StoreReport { node: 1, store: "bb".into() }];
        }
    });
    assert!(matches!(&summary.warnings[..], [warning] if warning.contains("store bb")));
}

#[test]
fn a_report_survives_json() {
    let report = report(1);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<NodeReport>(&text).unwrap(), report);
}

#[test]
fn a_shard_on_its_way_is_told_as_whoever_knows_most_knows_it() {
    let moving = |to: [u32; 3]| MovingReport { shard: 7, to: to.to_vec(), from: VOTERS.to_vec() };
    let summary = changed(|answers| {
        let news = [(3, [1, 2, 4]), (5, [2, 3, 4]), (4, [1, 3, 4])];
        for (answer, (layout, to)) in answers.iter_mut().zip(news) {
            let report = answer.report.as_mut().unwrap();
            (report.layout, report.moving) = (layout, vec![moving(to)]);
        }
    });
    let told = "shard 7 is on its way from nodes [1, 2, 3] to [2, 3, 4]";
    assert_eq!(summary.warnings, [told]);
}
