//! Objects: what goes in comes out, in every way of sending it.

use crate::support::{REGION, Server, impatient};
use ironseed_core::object::api::{CHUNK_BYTES, INLINE_BYTES_MAX, Refusal};
use ironseed_s3gw::text::{base64, hex};
use md5::{Digest, Md5};
use std::sync::atomic::Ordering;

pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[tokio::test]
async fn bodies_of_every_size_class_round_trip() {
    let server = Server::with_bucket().await;
    for len in [
        0,
        1,
        INLINE_BYTES_MAX,
        INLINE_BYTES_MAX + 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        5 * CHUNK_BYTES + 17,
    ] {
        let body = bytes(len);
        let put = server.client.put("/bucket/key", &body).await.expect(200);
        let etag = format!("\"{}\"", hex(&Md5::digest(&body)));
        assert_eq!(put.header("etag"), Some(etag.as_str()));
        let get = server.client.get("/bucket/key").await.expect(200);
        assert!(get.body == body, "{len} bytes");
        assert_eq!(get.header("etag"), Some(etag.as_str()));
        assert_eq!(get.header("content-length"), Some(len.to_string().as_str()));
        let head = server.client.head("/bucket/key").await.expect(200);
        assert_eq!(head.header("content-length"), Some(len.to_string().as_str()));
        for (from, to) in [(0, 0), (len / 2, len / 2 + 10), (len.saturating_sub(3), len)] {
            let (from, to) = (from.min(len), to.min(len.saturating_sub(1)));
            if from > to || len == 0 {
                continue;
            }
            let draft = server
                .client
                .draft("GET", "/bucket/key")
                .header("range", &format!("bytes={from}-{to}"));
            let part = server.client.send(&draft).await.expect(206);
            assert!(part.body == body[from..=to], "{from}-{to} of {len}");
            assert_eq!(
                part.header("content-range"),
                Some(format!("bytes {from}-{to}/{len}").as_str())
            );
        }
    }
}

#[tokio::test]
async fn headers_metadata_and_tags_come_back() {
    let server = Server::with_bucket().await;
    let put = server
        .client
        .draft("PUT", "/bucket/key")
        .body(b"body")
        .header("content-type", "text/plain; charset=utf-8")
        .header("content-encoding", "aws-chunked,gzip")
        .header("content-disposition", "attachment; filename=x")
        .header("content-language", "de")
        .header("cache-control", "max-age=1")
        .header("expires", "whenever")
        .header("x-amz-meta-One", "1")
        .header("x-amz-meta-two", "zwei ü")
        .header("x-amz-tagging", "a=1&b=%C3%BC");
    server.client.send(&put).await.expect(200);
    let get = server.client.get("/bucket/key").await.expect(200);
    for (name, value) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-encoding", "gzip"),
        ("content-disposition", "attachment; filename=x"),
        ("content-language", "de"),
        ("cache-control", "max-age=1"),
        ("expires", "whenever"),
        ("x-amz-meta-one", "1"),
        ("x-amz-meta-two", "=?UTF-8?B?endlaSDDvA==?="),
        ("x-amz-tagging-count", "2"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(get.header(name), Some(value), "{name}");
    }
    let target = "/bucket/key?response-content-type=a%2Fb&response-cache-control=no-store";
    let overridden = server.client.get(target).await.expect(200);
    assert_eq!(overridden.header("content-type"), Some("a/b"));
    assert_eq!(overridden.header("cache-control"), Some("no-store"));
    assert_eq!(
        server.client.get("/bucket/key?tagging").await.expect(200).fields("Value"),
        ["1", "ü"]
    );
    let tagging = b"<Tagging><TagSet><Tag><Key>c</Key><Value>3</Value></Tag></TagSet></Tagging>";
    server.client.put("/bucket/key?tagging", tagging).await.expect(200);
    assert_eq!(server.client.get("/bucket/key?tagging").await.expect(200).fields("Key"), ["c"]);
    server.client.delete("/bucket/key?tagging").await.expect(204);
    assert!(server.client.get("/bucket/key?tagging").await.expect(200).fields("Key").is_empty());
    assert_eq!(server.client.get("/bucket/key").await.expect(200).body, b"body");
}

#[tokio::test]
async fn checksums_are_verified_stored_and_returned() {
    let server = Server::with_bucket().await;
    let rows = [
        ("sha1", base64(&sha1::Sha1::digest(b"body"))),
        ("sha256", base64(&sha2::Sha256::digest(b"body"))),
    ];
    for (name, value) in &rows {
        let header = format!("x-amz-checksum-{name}");
        let put = server.client.draft("PUT", "/bucket/key").body(b"body").header(&header, value);
        let put = server.client.send(&put).await.expect(200);
        assert_eq!(put.header(&header), Some(value.as_str()));
        assert_eq!(server.client.get("/bucket/key").await.expect(200).header(&header), None);
        for method in ["GET", "HEAD"] {
            let draft =
                server.client.draft(method, "/bucket/key").header("x-amz-checksum-mode", "ENABLED");
            let read = server.client.send(&draft).await.expect(200);
            assert_eq!(read.header(&header), Some(value.as_str()));
            assert_eq!(read.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
        }
        let ranged =
            server.client.draft("GET", "/bucket/key").header("x-amz-checksum-mode", "ENABLED");
        let ranged = server.client.send(&ranged.header("range", "bytes=0-1")).await.expect(206);
        assert_eq!(ranged.header(&header), None, "a checksum of the whole is none of a part");
    }
}

#[tokio::test]
async fn virtual_hosts_name_buckets() {
    let server = Server::with_bucket().await;
    let mut put = server.client.draft("PUT", "/deep/key").body(b"body");
    put.host = "bucket.s3.test:9000".to_owned();
    server.client.send(&put).await.expect(200);
    assert_eq!(server.store.keys(), ["bucket/deep/key"]);
    let mut list = server.client.draft("GET", "/?list-type=2");
    list.host = "BUCKET.s3.test".to_owned();
    assert_eq!(server.client.send(&list).await.expect(200).fields("Key"), ["deep/key"]);
    let mut path = server.client.draft("GET", "/bucket/deep/key");
    path.host = "s3.test".to_owned();
    assert_eq!(server.client.send(&path).await.expect(200).body, b"body");
}

#[tokio::test]
async fn buckets_live_and_die() {
    let server = Server::start().await;
    server.client.put("/one", b"").await.expect(200);
    server.client.put("/one", b"").await.refused(409, "BucketAlreadyOwnedByYou");
    let here = b"<CreateBucketConfiguration><LocationConstraint>eu-west-9</LocationConstraint></CreateBucketConfiguration>";
    server.client.put("/two", here).await.expect(200);
    let elsewhere = b"<CreateBucketConfiguration><LocationConstraint>mars-1</LocationConstraint></CreateBucketConfiguration>";
    server.client.put("/three", elsewhere).await.refused(400, "IllegalLocationConstraintException");
    let head = server.client.head("/one").await.expect(200);
    assert_eq!(head.header("x-amz-bucket-region"), Some(REGION));
    let location = server.client.get("/one?location").await.expect(200).text();
    assert!(location.contains(REGION), "{location}");
    let page = server.client.get("/?max-buckets=1").await.expect(200);
    assert_eq!(page.fields("Name"), ["one"]);
    let token = page.field("ContinuationToken");
    let page = server
        .client
        .get(&format!("/?max-buckets=1&continuation-token={}", token.replace('=', "%3D")))
        .await;
    let page = page.expect(200);
    assert_eq!(
        (page.fields("Name"), page.field("ContinuationToken")),
        (vec!["two".to_owned()], String::new())
    );
    server.client.put("/one/key", b"x").await.expect(200);
    server.client.delete("/one").await.refused(409, "BucketNotEmpty");
    server.client.delete("/one/key").await.expect(204);
    server.client.delete("/one/key").await.expect(204);
    server.client.delete("/one").await.expect(204);
    server.client.delete("/one").await.refused(404, "NoSuchBucket");
    server.client.put("/one/key", b"x").await.refused(404, "NoSuchBucket");
    let oldest = Server::with(impatient(), "us-east-1").await;
    oldest.client.put("/one", b"").await.expect(200);
    oldest.client.put("/one", b"").await.expect(200);
}

#[tokio::test]
async fn many_objects_are_deleted_at_once() {
    let server = Server::with_bucket().await;
    for key in ["a", "b", "c", "d&e"] {
        server.client.put(&format!("/bucket/{key}").replace('&', "%26"), b"x").await.expect(200);
    }
    let delete = |document: &str| {
        let md5 = base64(&Md5::digest(document.as_bytes()));
        server
            .client
            .draft("POST", "/bucket?delete")
            .body(document.as_bytes())
            .header("content-md5", &md5)
    };
    let long = "k".repeat(1025);
    let document = format!(
        "<Delete><Object><Key>a</Key></Object><Object><Key>d&amp;e</Key><VersionId>null</VersionId></Object>\
         <Object><Key>absent</Key></Object><Object><Key>{long}</Key></Object>\
         <Object><Key>b</Key><ETag>\"00000000000000000000000000000000\"</ETag></Object></Delete>"
    );
    let answer = server.client.send(&delete(&document)).await.expect(200);
    assert_eq!(answer.fields("Code"), ["KeyTooLongError", "PreconditionFailed"]);
    assert_eq!(answer.fields("Deleted").len(), 3);
    assert_eq!(server.store.keys(), ["bucket/b", "bucket/c"]);
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>";
    let answer = server.client.send(&delete(quiet)).await.expect(200);
    assert!(answer.fields("Deleted").is_empty());
    assert_eq!(server.store.keys(), ["bucket/c"]);
    let document = "<Delete><Object><Key>c</Key></Object></Delete>";
    let md5 = base64(&Md5::digest(document.as_bytes()));
    let elsewhere = server.client.draft("POST", "/nowhere?delete").body(document.as_bytes());
    server.client.send(&elsewhere.header("content-md5", &md5)).await.refused(404, "NoSuchBucket");
}

#[tokio::test]
async fn copies_carry_what_they_are_told_to() {
    let server = Server::with_bucket().await;
    let body = bytes(3 * CHUNK_BYTES + 5);
    let put = server.client.draft("PUT", "/bucket/from%20%C3%BC").body(&body);
    let put = put
        .header("x-amz-meta-a", "1")
        .header("content-type", "a/b")
        .header("x-amz-tagging", "t=1");
    server.client.send(&put).await.expect(200);
    let copy = |to: &str| {
        server.client.draft("PUT", to).header("x-amz-copy-source", "bucket/from%20%C3%BC")
    };
    let answer = server.client.send(&copy("/bucket/to")).await.expect(200);
    assert_eq!(answer.field("ETag"), format!("\"{}\"", hex(&Md5::digest(&body))));
    let get = server.client.get("/bucket/to").await.expect(200);
    assert!(get.body == body);
    assert_eq!((get.header("x-amz-meta-a"), get.header("content-type")), (Some("1"), Some("a/b")));
    assert_eq!(get.header("x-amz-tagging-count"), Some("1"));
    let replace = copy("/bucket/to")
        .header("x-amz-metadata-directive", "REPLACE")
        .header("x-amz-tagging-directive", "REPLACE")
        .header("x-amz-meta-b", "2");
    server.client.send(&replace).await.expect(200);
    let get = server.client.get("/bucket/to").await.expect(200);
    assert_eq!((get.header("x-amz-meta-a"), get.header("x-amz-meta-b")), (None, Some("2")));
    assert_eq!(get.header("x-amz-tagging-count"), None);
    let onto_itself = copy("/bucket/from%20%C3%BC");
    server.client.send(&onto_itself.clone()).await.refused(400, "InvalidRequest");
    server
        .client
        .send(&onto_itself.header("x-amz-metadata-directive", "REPLACE"))
        .await
        .expect(200);
    let junk = copy("/bucket/to").header("x-amz-metadata-directive", "JUNK");
    server.client.send(&junk).await.refused(400, "InvalidArgument");
    let absent =
        server.client.draft("PUT", "/bucket/to").header("x-amz-copy-source", "/bucket/absent");
    server.client.send(&absent).await.refused(404, "NoSuchKey");
    assert_eq!(server.store.staged(), 0);
}

#[tokio::test]
async fn what_the_store_refuses_becomes_s3s_error() {
    let server = Server::with_bucket().await;
    let rows = [
        (Refusal::Busy, 503, "SlowDown"),
        (Refusal::Unavailable("no leader".to_owned()), 503, "ServiceUnavailable"),
        (Refusal::NoSpace, 507, "InsufficientStorage"),
        (Refusal::OutcomeUnknown, 500, "InternalError"),
        (Refusal::BucketBusy, 409, "OperationAborted"),
        (Refusal::Restage, 503, "ServiceUnavailable"),
        (Refusal::ChunkUnavailable, 503, "ServiceUnavailable"),
        (Refusal::Invalid("why".to_owned()), 400, "InvalidArgument"),
        (Refusal::PartTooSmall, 400, "EntityTooSmall"),
    ];
    for (refusal, status, code) in rows {
        *server.store.refusal.lock().expect("not poisoned") = Some(refusal.clone());
        server.client.put("/bucket/key", b"body").await.refused(status, code);
        server.client.get("/bucket/key").await.refused(status, code);
    }
    *server.store.refusal.lock().expect("not poisoned") = None;
    server.store.ready.store(false, Ordering::Relaxed);
    server.client.get("/bucket/key").await.refused(503, "ServiceUnavailable");
}
