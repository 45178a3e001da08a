//! Clients that take their time, and crowds of them.

use crate::support::client::{Answer, read_answer};
use crate::support::{REGION, Server, impatient};
use ironseed_s3gw::Config;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn a_head_byte_by_byte_and_an_idle_connection_are_closed() {
    let server = Server::start().await;
    let mut slow = server.client.connect().await;
    let mut idle = server.client.connect().await;
    let started = Instant::now();
    let writing = async {
        for byte in b"GET / HTTP/1.1\r\nhost: slow\r\nx: aaaaaaaaaaaaaaaaaaaaaaaa".iter().cycle() {
            if slow.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
            let mut byte = [0];
            if timeout(Duration::from_millis(1), slow.read(&mut byte)).await.is_ok() {
                break;
            }
        }
    };
    timeout(Duration::from_secs(5), writing).await.expect("the slow head is cut off");
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), idle.read_to_end(&mut rest))
        .await
        .expect("idle is closed")
        .expect("cleanly");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_body_byte_by_byte_times_out() {
    let server = Server::with_bucket().await;
    let body = vec![b'x'; 1000];
    let bytes = server.client.draft("PUT", "/bucket/key").body(&body).signed();
    let (head, body) = bytes.split_at(bytes.len() - 1000);
    let mut stream = server.client.connect().await;
    stream.write_all(head).await.expect("the server reads");
    let (mut reader, mut writer) = stream.into_split();
    let body = body.to_vec();
    let writing = tokio::spawn(async move {
        for byte in body {
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(40)).await;
        }
    });
    let mut answer = Vec::new();
    let reading = reader.read_to_end(&mut answer);
    timeout(Duration::from_secs(8), reading).await.expect("a bounded time").expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("<Code>RequestTimeout</Code>"),
        "{answer}"
    );
    writing.abort();
    assert_eq!(server.store.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn a_crowd_of_idle_connections_stops_nobody() {
    let server = Server::with_bucket().await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(server.client.connect().await);
    }
    timeout(Duration::from_secs(2), server.client.put("/bucket/key", b"body"))
        .await
        .expect("at once")
        .expect(200);
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_at_once() {
    let server = Server::with(Config { connections_max: 2, ..impatient() }, REGION).await;
    let _first = server.client.connect().await;
    let _second = server.client.connect().await;
    sleep(Duration::from_millis(50)).await;
    let mut third = server.client.connect().await;
    let mut rest = Vec::new();
    let closed = timeout(Duration::from_millis(500), third.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the third connection is closed");
}

/// Uploads of three chunks each, all at once, to a gateway with room for eight chunks and a store that
/// takes `chunk_ms` over each.
struct Crowded {
    server: Server,
    body: Vec<u8>,
    answers: Vec<Answer>,
}

impl Crowded {
    async fn upload(count: usize, buffer_wait: Duration, chunk_ms: usize) -> Self {
        let config = Config { buffer_bytes_max: 8 << 20, buffer_wait, ..impatient() };
        let server = Server::with_bucket_and(config).await;
        server.store.chunk_ms.store(chunk_ms, Ordering::Relaxed);
        let body = vec![b'x'; 3 << 20];
        let uploads = (0..count).map(|n| {
            let draft = server.client.draft("PUT", &format!("/bucket/key{n}")).body(&body);
            let draft = draft.payload("UNSIGNED-PAYLOAD");
            let client = server.client.clone();
            async move { client.send(&draft).await }
        });
        let answers = futures::future::join_all(uploads).await;
        Self { server, body, answers }
    }
}

#[tokio::test]
async fn uploads_wait_for_room_and_hold_no_more_than_their_share() {
    // Sixteen have to take turns.
    let crowded = Crowded::upload(16, Duration::from_secs(10), 20).await;
    assert!(crowded.answers.iter().all(|answer| answer.status == 200));
    let store = &crowded.server.store;
    let most = store.chunks_under_way_max.load(Ordering::Relaxed);
    assert!(most <= 8, "{most} chunks at once with room for eight");
    assert_eq!(store.keys().len(), 16);
    let read = crowded.server.client.get("/bucket/key3").await.expect(200).body;
    assert_eq!(read, crowded.body);
}

#[tokio::test]
async fn without_room_in_time_a_request_is_refused_and_not_stuck() {
    let Crowded { server, answers, .. } =
        Crowded::upload(12, Duration::from_millis(100), 700).await;
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    assert!(refused > 0, "twelve uploads of a chunk at a time have no room in eight");
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 503)));
    assert_eq!(server.store.keys().len(), answers.len() - refused);
}

/// Waits until so many uploads are staged.
async fn until_staged(server: &Server, count: usize) {
    for _ in 0..200 {
        if server.store.staged() == count {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{} uploads staged instead of {count}", server.store.staged());
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_staged() {
    let server = Server::with_bucket().await;
    let body = vec![b'x'; 5 << 20];
    let bytes = server.client.draft("PUT", "/bucket/key").body(&body).signed();
    let mut stream = server.client.connect().await;
    stream.write_all(&bytes[..3 << 20]).await.expect("the server reads");
    until_staged(&server, 1).await;
    drop(stream);
    until_staged(&server, 0).await;
    assert_eq!(server.store.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refused_body_is_not_asked_for() {
    let server = Server::start().await;
    let draft = server
        .client
        .draft("PUT", "/bucket/key")
        .body(&[b'x'; 100])
        .header("expect", "100-continue");
    let mut bytes = draft.signed();
    bytes.truncate(bytes.len() - 100);
    let mut spoiled = String::from_utf8(bytes).expect("ASCII");
    spoiled = spoiled.replace("Signature=", "Signature=0");
    let mut stream = server.client.connect().await;
    stream.write_all(spoiled.as_bytes()).await.expect("the server reads");
    let answer = read_answer(&mut stream, false).await.expect("an answer at once");
    assert!(answer.refused(403, "SignatureDoesNotMatch").closed);
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let server = Server::with_bucket().await;
    let mut stream = server.client.connect().await;
    for n in 0..5 {
        let put = server.client.draft("PUT", &format!("/bucket/key{n}")).body(b"body").signed();
        stream.write_all(&put).await.expect("open");
        read_answer(&mut stream, false).await.expect("an answer").expect(200);
        // A refusal with a small body costs nobody the connection.
        let spoiled = server
            .client
            .draft("PUT", "/bucket/key")
            .body(b"body")
            .payload(&"0".repeat(64))
            .signed();
        stream.write_all(&spoiled).await.expect("open");
        let answer = read_answer(&mut stream, false).await.expect("an answer");
        assert!(!answer.refused(400, "XAmzContentSHA256Mismatch").closed);
    }
}
