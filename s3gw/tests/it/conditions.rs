//! Conditional reads and writes.

use crate::support::Server;
use crate::support::client::Draft;

async fn status(server: &Server, draft: Draft) -> (u16, String) {
    let answer = server.client.send(&draft).await;
    (answer.status, answer.field("Code"))
}

#[tokio::test]
async fn writes_are_compare_and_swap() {
    let server = Server::with_bucket().await;
    let put = |body: &[u8]| server.client.draft("PUT", "/bucket/key").body(body);
    let missing =
        status(&server, put(b"1").header("if-match", "\"0123456789abcdef0123456789abcdef\"")).await;
    assert_eq!(missing, (404, "NoSuchKey".to_owned()));
    let first = server.client.send(&put(b"1").header("if-none-match", "*")).await.expect(200);
    let etag = first.header("etag").expect("every put has one").to_owned();
    let again = status(&server, put(b"2").header("if-none-match", "*")).await;
    assert_eq!(again, (412, "PreconditionFailed".to_owned()));
    let second = server.client.send(&put(b"2").header("if-match", &etag)).await.expect(200);
    let stale = status(&server, put(b"3").header("if-match", &etag)).await;
    assert_eq!(stale, (412, "PreconditionFailed".to_owned()));
    assert_eq!(server.client.get("/bucket/key").await.expect(200).body, b"2");
    let other = status(&server, put(b"3").header("if-none-match", &etag)).await;
    assert_eq!(other, (501, "NotImplemented".to_owned()));
    let delete = || server.client.draft("DELETE", "/bucket/key");
    let stale = status(&server, delete().header("if-match", &etag)).await;
    assert_eq!(stale, (412, "PreconditionFailed".to_owned()));
    let unsupported = status(&server, delete().header("if-none-match", "*")).await;
    assert_eq!(unsupported, (501, "NotImplemented".to_owned()));
    let current = second.header("etag").expect("every put has one").to_owned();
    server.client.send(&delete().header("if-match", &current)).await.expect(204);
    assert!(server.store.keys().is_empty());
}

#[tokio::test]
async fn a_refused_condition_on_a_large_body_leaves_nothing_staged() {
    let server = Server::with_bucket().await;
    server.client.put("/bucket/key", b"1").await.expect(200);
    let body = vec![b'x'; 2 << 20];
    let put = server.client.draft("PUT", "/bucket/key").body(&body).header("if-none-match", "*");
    server.client.send(&put).await.refused(412, "PreconditionFailed");
    for _ in 0..100 {
        if server.store.staged() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(server.store.staged(), 0);
}

#[tokio::test]
async fn reads() {
    let server = Server::with_bucket().await;
    let etag = server
        .client
        .put("/bucket/key", b"body")
        .await
        .expect(200)
        .header("etag")
        .expect("one")
        .to_owned();
    let old = "Fri, 24 May 2013 00:00:00 GMT";
    let new = "Fri, 24 May 2043 00:00:00 GMT";
    let other = "\"00000000000000000000000000000000\"";
    let rows = [
        ("if-match", etag.as_str(), 200),
        ("if-match", other, 412),
        ("if-match", "*", 200),
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", other, 200),
        ("if-none-match", "*", 304),
        ("if-modified-since", old, 200),
        ("if-modified-since", new, 304),
        ("if-modified-since", "nonsense", 200),
        ("if-unmodified-since", old, 412),
        ("if-unmodified-since", new, 200),
    ];
    for (name, value, expected) in rows {
        for method in ["GET", "HEAD"] {
            let draft = server.client.draft(method, "/bucket/key").header(name, value);
            let answer = server.client.send(&draft).await.expect(expected);
            if expected == 304 {
                assert_eq!((answer.header("etag"), answer.body.len()), (Some(etag.as_str()), 0));
            }
        }
    }
    let get = || server.client.draft("GET", "/bucket/key").header("range", "bytes=0-1");
    server.client.send(&get().header("if-range", &etag)).await.expect(206);
    server.client.send(&get().header("if-range", other)).await.expect(200);
}

#[tokio::test]
async fn copies() {
    let server = Server::with_bucket().await;
    let etag = server
        .client
        .put("/bucket/from", b"body")
        .await
        .expect(200)
        .header("etag")
        .expect("one")
        .to_owned();
    let copy =
        || server.client.draft("PUT", "/bucket/to").header("x-amz-copy-source", "/bucket/from");
    let other = "\"00000000000000000000000000000000\"";
    for (name, value, expected) in [
        ("x-amz-copy-source-if-match", other, 412),
        ("x-amz-copy-source-if-none-match", etag.as_str(), 412),
        ("x-amz-copy-source-if-modified-since", "Fri, 24 May 2043 00:00:00 GMT", 412),
        ("x-amz-copy-source-if-unmodified-since", "Fri, 24 May 2013 00:00:00 GMT", 412),
        ("x-amz-copy-source-if-match", etag.as_str(), 200),
        ("if-none-match", "*", 412),
        ("if-match", other, 412),
        ("if-match", etag.as_str(), 200),
    ] {
        server.client.send(&copy().header(name, value)).await.expect(expected);
    }
}
