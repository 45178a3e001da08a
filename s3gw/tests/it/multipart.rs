//! Multipart uploads.

use crate::objects::bytes;
use crate::support::Server;
use crate::support::client::Answer;
use ironseed_core::object::api::ChecksumAlgorithm;
use ironseed_s3gw::checksum::Digests;
use ironseed_s3gw::text::{base64, hex};
use md5::{Digest, Md5};

const PART: usize = 5 << 20;

async fn create(server: &Server, headers: &[(&str, &str)]) -> String {
    let draft = server.client.draft("POST", "/bucket/key?uploads");
    let draft = headers.iter().fold(draft, |draft, (name, value)| draft.header(name, value));
    server.client.send(&draft).await.expect(200).field("UploadId")
}

async fn part(
    server: &Server,
    upload: &str,
    number: u32,
    body: &[u8],
    headers: &[(&str, &str)],
) -> String {
    let draft =
        server.client.draft("PUT", &format!("/bucket/key?partNumber={number}&uploadId={upload}"));
    let draft = draft.body(body).payload("UNSIGNED-PAYLOAD");
    let draft = headers.iter().fold(draft, |draft, (name, value)| draft.header(name, value));
    server
        .client
        .send(&draft)
        .await
        .expect(200)
        .header("etag")
        .expect("every part has one")
        .to_owned()
}

fn document(parts: &[(u32, &str)]) -> String {
    let parts: String = parts
        .iter()
        .map(|(number, etag)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        })
        .collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

async fn complete(
    server: &Server,
    upload: &str,
    document: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let draft = server
        .client
        .draft("POST", &format!("/bucket/key?uploadId={upload}"))
        .body(document.as_bytes());
    let draft = headers.iter().fold(draft, |draft, (name, value)| draft.header(name, value));
    server.client.send(&draft).await
}

#[tokio::test]
async fn parts_become_an_object() {
    let server = Server::with_bucket().await;
    let upload = create(&server, &[("x-amz-meta-a", "1"), ("content-type", "a/b")]).await;
    let (one, two) = (bytes(PART), bytes(1000));
    let second = part(&server, &upload, 7, &two, &[]).await;
    let first = part(&server, &upload, 2, &one, &[]).await;
    part(&server, &upload, 9, b"never named", &[]).await;
    let listed =
        server.client.get(&format!("/bucket/key?uploadId={upload}&max-parts=2")).await.expect(200);
    assert_eq!(listed.fields("PartNumber"), ["2", "7"]);
    assert_eq!(
        (listed.field("IsTruncated").as_str(), listed.field("NextPartNumberMarker").as_str()),
        ("true", "7")
    );
    let uploads = server.client.get("/bucket?uploads").await.expect(200);
    assert_eq!(uploads.fields("UploadId"), [upload.as_str()]);
    let document = document(&[(2, &first), (7, &second)]);
    let done = complete(&server, &upload, &document, &[]).await.expect(200);
    let of_md5s: Vec<u8> = [Md5::digest(&one), Md5::digest(&two)].concat();
    let etag = format!("\"{}-2\"", hex(&Md5::digest(&of_md5s)));
    assert_eq!(done.field("ETag"), etag);
    let again = complete(&server, &upload, &document, &[]).await.expect(200);
    assert_eq!(again.field("ETag"), done.field("ETag"), "completing again is harmless");
    let get = server.client.get("/bucket/key").await.expect(200);
    assert!(get.body == [one.clone(), two.clone()].concat());
    assert_eq!((get.header("etag"), get.header("x-amz-meta-a")), (Some(etag.as_str()), Some("1")));
    let range = server
        .client
        .draft("GET", "/bucket/key")
        .header("range", &format!("bytes={}-{}", PART - 2, PART + 1));
    let range = server.client.send(&range).await.expect(206);
    assert!(range.body == [&one[PART - 2..], &two[..2]].concat());
    let by_part = server.client.get("/bucket/key?partNumber=7").await.expect(206);
    assert!(by_part.body == two);
    assert_eq!(by_part.header("x-amz-mp-parts-count"), Some("2"));
    assert_eq!(
        by_part.header("content-range"),
        Some(format!("bytes {PART}-{}/{}", PART + 999, PART + 1000).as_str())
    );
    server.client.get("/bucket/key?partNumber=3").await.refused(416, "InvalidRange");
    assert!(server.client.get("/bucket?uploads").await.expect(200).fields("UploadId").is_empty());
    let over = server.client.get(&format!("/bucket/key?uploadId={upload}")).await;
    over.refused(404, "NoSuchUpload");
}

#[tokio::test]
async fn completions_that_are_refused() {
    let server = Server::with_bucket().await;
    let upload = create(&server, &[]).await;
    let first = part(&server, &upload, 1, b"small", &[]).await;
    let second = part(&server, &upload, 2, b"small too", &[]).await;
    let rows = [
        (document(&[]), 400, "MalformedXML"),
        ("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>".to_owned(), 400, "MalformedXML"),
        ("junk".to_owned(), 400, "MalformedXML"),
        (document(&[(1, &first), (2, &second)]), 400, "EntityTooSmall"),
        (document(&[(2, &second), (1, &first)]), 400, "InvalidPartOrder"),
        (document(&[(1, &first), (1, &first)]), 400, "InvalidPartOrder"),
        (document(&[(1, &second)]), 400, "InvalidPart"),
        (document(&[(3, &first)]), 400, "InvalidPart"),
        (document(&[(1, "\"junk\"")]), 400, "InvalidPart"),
        (document(&[(0, &first)]), 400, "InvalidArgument"),
        (document(&[(10_001, &first)]), 400, "InvalidArgument"),
    ];
    for (document, status, code) in rows {
        complete(&server, &upload, &document, &[]).await.refused(status, code);
    }
    let one = document(&[(1, &first)]);
    complete(&server, &upload, &one, &[("x-amz-mp-object-size", "6")])
        .await
        .refused(400, "InvalidRequest");
    complete(&server, "00070000000000ffffff", &one, &[]).await.refused(404, "NoSuchUpload");
    server.client.put("/bucket/key", b"in the way").await.expect(200);
    complete(&server, &upload, &one, &[("if-none-match", "*")])
        .await
        .refused(412, "PreconditionFailed");
    assert_eq!(server.client.get("/bucket/key").await.expect(200).body, b"in the way");
    complete(&server, &upload, &one, &[("if-match", "*"), ("x-amz-mp-object-size", "5")])
        .await
        .expect(200);
    assert_eq!(server.client.get("/bucket/key").await.expect(200).body, b"small");
}

#[tokio::test]
async fn ten_thousand_parts_fit_a_document() {
    let server = Server::with_bucket().await;
    let upload = create(&server, &[]).await;
    let sha = base64(&[7; 32]);
    let parts: String = (1..=10_000)
        .map(|number| {
            format!(
                "\n    <Part>\n      <ETag>&quot;{}&quot;</ETag>\n      <PartNumber>{number}</PartNumber>\n      \
                 <ChecksumSHA256>{sha}</ChecksumSHA256>\n    </Part>",
                "0".repeat(32)
            )
        })
        .collect();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    complete(&server, &upload, &document, &[]).await.refused(400, "InvalidPart");
}

#[tokio::test]
async fn an_abort_forgets() {
    let server = Server::with_bucket().await;
    let upload = create(&server, &[]).await;
    part(&server, &upload, 1, b"part", &[]).await;
    server.client.delete(&format!("/bucket/key?uploadId={upload}")).await.expect(204);
    server
        .client
        .delete(&format!("/bucket/key?uploadId={upload}"))
        .await
        .refused(404, "NoSuchUpload");
    let target = format!("/bucket/key?partNumber=1&uploadId={upload}");
    server.client.put(&target, b"late").await.refused(404, "NoSuchUpload");
    assert_eq!(server.store.parts(), 0);
}

fn crc32(bytes: &[u8]) -> Vec<u8> {
    let mut digests = Digests::new(Some(ChecksumAlgorithm::Crc32));
    digests.update(bytes);
    digests.finish().checksum.expect("asked for").value
}

#[tokio::test]
async fn checksums_of_both_types() {
    for (kind, composite) in [("COMPOSITE", true), ("FULL_OBJECT", false)] {
        let server = Server::with_bucket().await;
        let created = [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", kind)];
        let upload = create(&server, &created).await;
        let (one, two) = (bytes(PART), bytes(1000));
        let (crc_one, crc_two) = (base64(&crc32(&one)), base64(&crc32(&two)));
        let first = part(&server, &upload, 1, &one, &[("x-amz-checksum-crc32", &crc_one)]).await;
        let second = part(&server, &upload, 2, &two, &[("x-amz-checksum-crc32", &crc_two)]).await;
        let wrong = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{first}</ETag>\
             <ChecksumCRC32>{crc_two}</ChecksumCRC32></Part></CompleteMultipartUpload>"
        );
        complete(&server, &upload, &wrong, &[]).await.refused(400, "InvalidPart");
        let document = document(&[(1, &first), (2, &second)]);
        let bad = [("x-amz-checksum-crc32", "AAAAAA==")];
        complete(&server, &upload, &document, &bad).await.refused(400, "BadDigest");
        let expected = if composite {
            format!("{}-2", base64(&crc32(&[crc32(&one), crc32(&two)].concat())))
        } else {
            base64(&crc32(&[one, two].concat()))
        };
        let good = [("x-amz-checksum-crc32", expected.as_str()), ("x-amz-checksum-type", kind)];
        let done = complete(&server, &upload, &document, &good).await.expect(200);
        complete(&server, &upload, &document, &good).await.expect(200);
        assert_eq!(
            (done.field("ChecksumCRC32"), done.field("ChecksumType")),
            (expected.clone(), kind.to_owned())
        );
        let head =
            server.client.draft("HEAD", "/bucket/key").header("x-amz-checksum-mode", "ENABLED");
        let head = server.client.send(&head).await.expect(200);
        assert_eq!(head.header("x-amz-checksum-crc32"), Some(expected.as_str()));
        assert_eq!(head.header("x-amz-checksum-type"), Some(kind));
    }
    let server = Server::with_bucket().await;
    for (algorithm, kind) in [
        ("SHA256", "FULL_OBJECT"),
        ("CRC64NVME", "COMPOSITE"),
        ("MD4", "COMPOSITE"),
        ("CRC32", "JUNK"),
    ] {
        let draft = server
            .client
            .draft("POST", "/bucket/key?uploads")
            .header("x-amz-checksum-algorithm", algorithm);
        server
            .client
            .send(&draft.header("x-amz-checksum-type", kind))
            .await
            .refused(400, "InvalidRequest");
    }
}

#[tokio::test]
async fn parts_are_copied() {
    let server = Server::with_bucket().await;
    let body = bytes(PART + 100);
    server.client.put("/bucket/from", &body).await.expect(200);
    let upload = create(&server, &[]).await;
    let copy = |number: u32, range: Option<&str>| {
        let target = format!("/bucket/key?partNumber={number}&uploadId={upload}");
        let draft = server.client.draft("PUT", &target).header("x-amz-copy-source", "/bucket/from");
        range.into_iter().fold(draft, |draft, range| draft.header("x-amz-copy-source-range", range))
    };
    let first = server.client.send(&copy(1, None)).await.expect(200).field("ETag");
    let second = server.client.send(&copy(2, Some("bytes=10-19"))).await.expect(200).field("ETag");
    assert_eq!(second, format!("\"{}\"", hex(&Md5::digest(&body[10..20]))));
    for range in ["bytes=10-", "bytes=-10", "10-19", "bytes=19-10", "junk"] {
        server.client.send(&copy(3, Some(range))).await.refused(400, "InvalidArgument");
    }
    server.client.send(&copy(3, Some("bytes=0-99999999"))).await.refused(416, "InvalidRange");
    let failing = copy(3, None).header("x-amz-copy-source-if-none-match", "*");
    server.client.send(&failing).await.refused(412, "PreconditionFailed");
    let document = document(&[(1, &first), (2, &second)]);
    complete(&server, &upload, &document, &[]).await.expect(200);
    let get = server.client.get("/bucket/key").await.expect(200);
    assert!(get.body == [&body[..], &body[10..20]].concat());
}
