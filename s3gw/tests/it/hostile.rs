//! One test a row of the table of hostile and malformed requests. Whatever comes: the answer is S3's,
//! nothing is stored, and the server goes on.

use crate::support::Server;
use crate::support::client::{Draft, read_answer};
use ironseed_core::object::api::ChecksumAlgorithm;
use ironseed_s3gw::checksum::Digests;
use ironseed_s3gw::guard::sigv4::ChunkSigner;
use ironseed_s3gw::text::{amz_date, base64, hex, percent};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use tokio::io::AsyncWriteExt;

const MINUTES_20: i64 = 20 * 60;

/// Asserts that nothing was stored and that an honest client is still served.
async fn nothing_stored(server: &Server) {
    assert_eq!(server.store.keys(), Vec::<String>::new());
    assert_eq!(server.store.bucket_names(), ["bucket"]);
    // A blob is given up by a task of its own.
    for _ in 0..100 {
        if server.store.staged() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!((server.store.staged(), server.store.parts()), (0, 0));
    server.client.get("/bucket").await.expect(200);
}

async fn refused(server: &Server, draft: Draft, status: u16, code: &str) {
    server.client.send(&draft).await.refused(status, code);
}

/// The body as aws-chunked with these signatures, and the draft that announces it.
fn chunked(draft: Draft, chunks: &[&[u8]], spoil: Option<usize>) -> Draft {
    let total: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    let draft = draft
        .payload("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", &total.to_string());
    let key = draft.scope().signing_key(&draft.secret_key);
    let mut previous = draft.signature().0;
    let mut body = Vec::new();
    for (at, chunk) in chunks.iter().copied().chain([&b""[..]]).enumerate() {
        let scope = draft.scope();
        let to_sign = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}/{}/s3/aws4_request\n{previous}\n{}\n{}",
            amz_date(draft.at),
            scope.day,
            scope.region,
            hex(&Sha256::digest(b"")),
            hex(&Sha256::digest(chunk)),
        );
        let signature = sign(&key, &to_sign);
        previous.clone_from(&signature);
        let shown = if spoil == Some(at) { "0".repeat(64) } else { signature };
        body.extend_from_slice(format!("{:x};chunk-signature={shown}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    draft.body(&body)
}

fn sign(key: &[u8; 32], text: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

#[tokio::test]
async fn keys_secrets_and_signatures() {
    let server = Server::with_bucket().await;
    let put = || server.client.draft("PUT", "/bucket/key").body(b"body");
    let mut unknown = put();
    unknown.access_key = "AKIDUNKNOWN".to_owned();
    refused(&server, unknown, 403, "InvalidAccessKeyId").await;
    let mut wrong = put();
    wrong.secret_key = "wrong".to_owned();
    refused(&server, wrong, 403, "SignatureDoesNotMatch").await;
    let bytes = put().signed();
    let text = String::from_utf8(bytes).expect("ASCII").replace("Signature=", "Signature=00");
    server.client.exchange(text.as_bytes(), false).await.refused(403, "SignatureDoesNotMatch");
    for spoiled in 0..3 {
        let draft = chunked(
            server.client.draft("PUT", "/bucket/key"),
            &[b"first", b"second"],
            Some(spoiled),
        );
        refused(&server, draft, 403, "SignatureDoesNotMatch").await;
    }
    nothing_stored(&server).await;
    let draft = chunked(server.client.draft("PUT", "/bucket/key"), &[b"first", b"second"], None);
    server.client.send(&draft).await.expect(200);
    assert_eq!(server.client.get("/bucket/key").await.expect(200).body, b"firstsecond");
}

#[tokio::test]
async fn nobody_is_refused() {
    let server = Server::with_bucket().await;
    let draft = server.client.draft("PUT", "/bucket/key").body(b"body");
    let bytes = draft.bytes(&[("host".to_owned(), draft.host.clone())]);
    server.client.exchange(&bytes, false).await.refused(403, "AccessDenied");
    nothing_stored(&server).await;
}

#[tokio::test]
async fn clocks_and_expiry() {
    let server = Server::with_bucket().await;
    for off in [-MINUTES_20, MINUTES_20] {
        let mut draft = server.client.draft("PUT", "/bucket/key").body(b"body");
        draft.at += off;
        refused(&server, draft, 403, "RequestTimeTooSkewed").await;
    }
    let draft = server.client.draft("PUT", "/bucket/key").body(b"body");
    let undated = String::from_utf8(draft.signed()).expect("ASCII");
    let undated: String =
        undated.split_inclusive("\r\n").filter(|line| !line.starts_with("x-amz-date")).collect();
    server.client.exchange(undated.as_bytes(), false).await.refused(403, "AccessDenied");
    let mut old = server.client.draft("GET", "/bucket/key");
    old.at -= 100;
    server.client.exchange(&old.presigned("60", &[]), false).await.refused(403, "AccessDenied");
    nothing_stored(&server).await;
}

#[tokio::test]
async fn malformed_authorization() {
    let server = Server::with_bucket().await;
    let with = |authorization: &str| {
        let draft = server.client.draft("PUT", "/bucket/key").body(b"body");
        let mut headers = draft.signature().1;
        headers.push(("authorization".to_owned(), authorization.to_owned()));
        draft.bytes(&headers)
    };
    let day = &amz_date(crate::support::client::now())[..8];
    let rows = [
        ("AWS4-HMAC-SHA256".to_owned(), 400, "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 garbage".to_owned(), 400, "AuthorizationHeaderMalformed"),
        (
            "AWS4-HMAC-SHA256 Credential=a,Credential=a".to_owned(),
            400,
            "AuthorizationHeaderMalformed",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=0".to_owned(),
            400,
            "AuthorizationHeaderMalformed",
        ),
        (
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDTEST/{day}/eu-west-9/s3/aws4_request, SignedHeaders=host"
            ),
            400,
            "AuthorizationHeaderMalformed",
        ),
        ("AWS4-GARBAGE x".to_owned(), 400, "AuthorizationHeaderMalformed"),
        ("Bearer token".to_owned(), 400, "InvalidArgument"),
        ("Basic dTpw".to_owned(), 400, "InvalidArgument"),
        ("AWS AKIDTEST:c2lnbmF0dXJl".to_owned(), 501, "NotImplemented"),
    ];
    for (authorization, status, code) in rows {
        server.client.exchange(&with(&authorization), false).await.refused(status, code);
    }
    let mut region = server.client.draft("PUT", "/bucket/key").body(b"body");
    region.region = "us-west-2".to_owned();
    refused(&server, region, 400, "AuthorizationHeaderMalformed").await;
    let mut service = server.client.draft("PUT", "/bucket/key").body(b"body");
    service.service = "ec2".to_owned();
    refused(&server, service, 400, "AuthorizationHeaderMalformed").await;
    // Signature V2 in the query.
    let target = "/bucket/key?AWSAccessKeyId=AKIDTEST&Expires=1&Signature=c2ln";
    let draft = server.client.draft("GET", target);
    let bytes = draft.bytes(&[("host".to_owned(), draft.host.clone())]);
    server.client.exchange(&bytes, false).await.refused(501, "NotImplemented");
    nothing_stored(&server).await;
}

#[tokio::test]
async fn two_mechanisms_at_once() {
    let server = Server::with_bucket().await;
    let draft = server.client.draft("GET", "/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256");
    refused(&server, draft, 400, "InvalidArgument").await;
    let draft = server.client.draft("GET", "/bucket/key?X-Amz-Signature=00");
    refused(&server, draft, 400, "InvalidArgument").await;
    nothing_stored(&server).await;
}

#[tokio::test]
async fn presigned_parameters() {
    let server = Server::with_bucket().await;
    let draft = server.client.draft("PUT", "/bucket/key").body(b"presigned");
    for expires in ["604801", "-1", "abc", "99999999999999999999", ""] {
        let answer = server.client.exchange(&draft.presigned(expires, &[]), false).await;
        answer.refused(400, "AuthorizationQueryParametersError");
    }
    for missing in [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
    ] {
        let answer =
            server.client.exchange(&draft.presigned("60", &[(missing, None)]), false).await;
        answer.refused(400, "AuthorizationQueryParametersError");
    }
    let changes = [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA1"),
        ("X-Amz-Credential", "garbage"),
        ("X-Amz-Date", "yesterday"),
    ];
    for (name, value) in changes {
        let answer =
            server.client.exchange(&draft.presigned("60", &[(name, Some(value))]), false).await;
        answer.refused(400, "AuthorizationQueryParametersError");
    }
    let mut region = draft.clone();
    region.region = "us-west-2".to_owned();
    let answer = server.client.exchange(&region.presigned("60", &[]), false).await;
    answer.refused(400, "AuthorizationQueryParametersError");
    nothing_stored(&server).await;
    server.client.exchange(&draft.presigned("604800", &[]), false).await.expect(200);
    let get = server.client.draft("GET", "/bucket/key").presigned("60", &[]);
    assert_eq!(server.client.exchange(&get, false).await.expect(200).body, b"presigned");
}

#[tokio::test]
async fn unsigned_amz_headers() {
    let server = Server::with_bucket().await;
    let draft = server.client.draft("PUT", "/bucket/key").body(b"body");
    let bytes = String::from_utf8(draft.signed()).expect("ASCII");
    let bytes = bytes.replacen("\r\n", "\r\nx-amz-meta-injected: yes\r\n", 1);
    server.client.exchange(bytes.as_bytes(), false).await.refused(403, "AccessDenied");
    nothing_stored(&server).await;
}

#[tokio::test]
async fn digests_that_do_not_match() {
    let server = Server::with_bucket().await;
    let put = || server.client.draft("PUT", "/bucket/key").body(b"body");
    let other = hex(&Sha256::digest(b"other"));
    refused(&server, put().payload(&other), 400, "XAmzContentSHA256Mismatch").await;
    let md5 = base64(&Md5::digest(b"other"));
    refused(&server, put().header("content-md5", &md5), 400, "BadDigest").await;
    for (name, bytes) in
        [("crc32", 4), ("crc32c", 4), ("crc64nvme", 8), ("sha1", 20), ("sha256", 32)]
    {
        let header = format!("x-amz-checksum-{name}");
        let wrong = base64(&vec![7; bytes]);
        refused(&server, put().header(&header, &wrong), 400, "BadDigest").await;
        refused(&server, put().header(&header, "AA"), 400, "InvalidRequest").await;
        refused(
            &server,
            put().header(&header, &base64(&vec![7; bytes + 1])),
            400,
            "InvalidRequest",
        )
        .await;
        let body = format!("4\r\nbody\r\n0\r\n{header}:{wrong}\r\n\r\n");
        let trailing = server
            .client
            .draft("PUT", "/bucket/key")
            .payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .header("x-amz-decoded-content-length", "4")
            .header("x-amz-trailer", &header)
            .body(body.as_bytes());
        refused(&server, trailing, 400, "BadDigest").await;
    }
    for malformed in ["nonsense", "AAAA", &base64(&[0; 15])] {
        refused(&server, put().header("content-md5", malformed), 400, "InvalidDigest").await;
    }
    // Documents are verified as objects are.
    let md5 = base64(&Md5::digest(b"other"));
    let delete = server
        .client
        .draft("POST", "/bucket?delete")
        .body(b"<Delete/>")
        .header("content-md5", &md5);
    refused(&server, delete, 400, "BadDigest").await;
    nothing_stored(&server).await;
}

#[tokio::test]
async fn a_large_body_that_does_not_match_leaves_nothing() {
    let server = Server::with_bucket().await;
    let body = vec![b'x'; 3_000_000];
    let put = server.client.draft("PUT", "/bucket/key").body(&body);
    let md5 = base64(&Md5::digest(b"other"));
    refused(&server, put.clone().header("content-md5", &md5), 400, "BadDigest").await;
    nothing_stored(&server).await;
    server.client.send(&put).await.expect(200);
    assert_eq!(server.store.staged(), 0);
}

#[tokio::test]
async fn bodies_that_are_not_what_was_promised() {
    let server = Server::with_bucket().await;
    // Shorter than its length, and then nothing more.
    let draft =
        server.client.draft("PUT", "/bucket/key").body(b"whole body").payload("UNSIGNED-PAYLOAD");
    let bytes = draft.signed();
    let mut stream = server.client.connect().await;
    stream.write_all(&bytes[..bytes.len() - 4]).await.expect("the server reads");
    stream.shutdown().await.expect("half closed");
    let answer = read_answer(&mut stream, false).await.expect("an answer");
    assert!(answer.refused(400, "IncompleteBody").closed);
    let bodies = [
        ("4\r\nbody\r\n", "4"),
        ("4\r\nbody\r\n0\r\n\r\n", "5"),
        ("4\r\nbody\r\n0\r\n\r\n", "3"),
        ("5\r\nbody\r\n0\r\n\r\n", "5"),
        ("4\r\nbod", "4"),
        ("nonsense", "4"),
    ];
    for (body, decoded) in bodies {
        let draft = server
            .client
            .draft("PUT", "/bucket/key")
            .payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .header("x-amz-decoded-content-length", decoded)
            .body(body.as_bytes());
        refused(&server, draft, 400, "IncompleteBody").await;
    }
    nothing_stored(&server).await;
}

#[tokio::test]
async fn lengths_that_are_missing() {
    let server = Server::with_bucket().await;
    let put = || server.client.draft("PUT", "/bucket/key");
    refused(&server, put().no_length(), 411, "MissingContentLength").await;
    let chunked = put().payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER").body(b"0\r\n\r\n");
    refused(&server, chunked, 411, "MissingContentLength").await;
    let encoded = put()
        .payload("UNSIGNED-PAYLOAD")
        .header("transfer-encoding", "chunked")
        .body(b"4\r\nbody\r\n0\r\n\r\n")
        .no_length();
    refused(&server, encoded, 411, "MissingContentLength").await;
    nothing_stored(&server).await;
}

#[tokio::test]
async fn transfer_encoding_with_a_decoded_length_is_served() {
    let server = Server::with_bucket().await;
    let mut digests = Digests::new(Some(ChecksumAlgorithm::Crc32));
    digests.update(b"body");
    let crc = base64(&digests.finish().checksum.expect("asked for").value);
    // As pyarrow sends it: chunks of S3's inside one of HTTP's.
    let inner = format!("4\r\nbody\r\n0\r\nx-amz-checksum-crc32:{crc}\r\n\r\n");
    let outer = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let draft = server
        .client
        .draft("PUT", "/bucket/key")
        .payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .header("x-amz-decoded-content-length", "4")
        .header("x-amz-trailer", "x-amz-checksum-crc32")
        .header("transfer-encoding", "chunked")
        .no_length();
    let put = server.client.send(&draft.body(outer.as_bytes())).await.expect(200);
    assert_eq!(put.header("x-amz-checksum-crc32"), Some(crc.as_str()));
    assert_eq!(server.client.get("/bucket/key").await.expect(200).body, b"body");
}

#[tokio::test]
async fn things_that_are_too_large() {
    let server = Server::with_bucket().await;
    let huge = server.client.draft("PUT", "/bucket/key").payload("UNSIGNED-PAYLOAD").no_length();
    let huge = huge.header("content-length", "6597069766656").header("expect", "100-continue");
    refused(&server, huge, 400, "EntityTooLarge").await;
    let put = |target: &str| server.client.draft("PUT", target).body(b"body");
    let metadata = put("/bucket/key").header("x-amz-meta-a", &"v".repeat(2048));
    refused(&server, metadata, 400, "MetadataTooLarge").await;
    let long = format!("/bucket/{}", "k".repeat(1025));
    refused(&server, put(&long), 400, "KeyTooLongError").await;
    nothing_stored(&server).await;
    let fits = put("/bucket/key").header("x-amz-meta-a", &"v".repeat(2047));
    server.client.send(&fits).await.expect(200);
    let longest = format!("/bucket/{}", "k".repeat(1024));
    server.client.send(&put(&longest)).await.expect(200);
    assert_eq!(server.client.get(&longest).await.expect(200).body, b"body");
}

#[tokio::test]
async fn lengths_that_contradict_each_other_close_the_connection() {
    let server = Server::with_bucket().await;
    for extra in [
        "content-length: 4\r\n",
        "content-length: 5\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
    ] {
        let draft =
            server.client.draft("PUT", "/bucket/key").body(b"body").payload("UNSIGNED-PAYLOAD");
        let bytes = String::from_utf8(draft.signed()).expect("ASCII");
        for bytes in [
            bytes.replacen("\r\n", &format!("\r\n{extra}"), 1),
            bytes.replacen("\r\n\r\n", &format!("\r\n{extra}\r\n"), 1),
        ] {
            // A second request hides in the body of the first.
            let bytes = bytes + "GET / HTTP/1.1\r\nhost: smuggled\r\n\r\n";
            let answer = server.client.exchange(bytes.as_bytes(), false).await;
            assert!(matches!(answer.status, 400 | 501), "{extra}: {}", answer.status);
            assert!(answer.closed, "{extra}: the connection must close");
        }
    }
    for length in ["-1", "+4", "4, 4", "99999999999999999999999", "abc", ""] {
        let draft =
            server.client.draft("PUT", "/bucket/key").payload("UNSIGNED-PAYLOAD").no_length();
        let bytes = String::from_utf8(draft.signed()).expect("ASCII");
        let bytes =
            bytes.replacen("\r\n", &format!("\r\ncontent-length: {length}\r\n"), 1) + "body";
        let answer = server.client.exchange(bytes.as_bytes(), false).await;
        assert!(matches!(answer.status, 400 | 501) && answer.closed, "{length}: {answer:?}");
    }
    nothing_stored(&server).await;
}

#[tokio::test]
async fn bucket_names() {
    let server = Server::with_bucket().await;
    let long = "a".repeat(64);
    for name in
        ["Upper", "ab", &long, "192.168.1.1", "a..b", "xn--bucket", "under_score", "-dash", "dash-"]
    {
        let put = server.client.draft("PUT", &format!("/{name}"));
        refused(&server, put, 400, "InvalidBucketName").await;
    }
    nothing_stored(&server).await;
}

#[tokio::test]
async fn keys_are_literal_or_refused() {
    let server = Server::with_bucket().await;
    let literal =
        ["../../etc/passwd", "a/../b", "./a", "..", "a//b", "%252e%252e", "/leading", "a b+c%20d"];
    for key in literal {
        let target = format!("/bucket/{}", percent(key.as_bytes(), false));
        server.client.put(&target, key.as_bytes()).await.expect(200);
        assert_eq!(server.client.get(&target).await.expect(200).body, key.as_bytes());
        assert_eq!(server.store.keys(), [format!("bucket/{key}")]);
        server.client.delete(&target).await.expect(204);
    }
    let dots = server.client.draft("PUT", "/bucket/%2e%2e%2fkey").body(b"x");
    server.client.send(&dots).await.expect(200);
    assert_eq!(server.store.keys(), ["bucket/../key"]);
    server.client.delete("/bucket/../key").await.expect(204);
    for (target, code) in [
        ("/bucket/%00", "InvalidArgument"),
        ("/bucket/%ff%fe", "InvalidURI"),
        ("/bucket/%zz", "InvalidURI"),
        ("/bucket/%4", "InvalidURI"),
        ("/bucket?prefix=%zz", "InvalidURI"),
    ] {
        refused(&server, server.client.draft("PUT", target).body(b"x"), 400, code).await;
    }
    nothing_stored(&server).await;
}

#[tokio::test]
async fn documents_that_are_none() {
    let server = Server::with_bucket().await;
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE d [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>\
        <Delete><Object><Key>&b;</Key></Object></Delete>";
    let external = "<?xml version=\"1.0\"?><!DOCTYPE d [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>\
        <Delete><Object><Key>&x;</Key></Object></Delete>";
    let undefined = "<Delete><Object><Key>&nothing;</Key></Object></Delete>";
    let cdata = "<Delete><Object><Key><![CDATA[key]]></Key></Object></Delete>";
    let deep = format!("<Delete>{}{}</Delete>", "<a>".repeat(100_000), "</a>".repeat(100_000));
    let deep_known = format!("<Delete>{}", "<Object>".repeat(100_000));
    let many = format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(1001));
    let rows = [
        "junk",
        "<",
        "<Delete>",
        "<Other/>",
        "",
        "<Delete/>",
        "<Delete></Delete>",
        "<Delete><Object></Object></Delete>",
        "<Delete><Object><Key></Key></Object></Delete>",
        bomb,
        external,
        undefined,
        cdata,
        &deep,
        &deep_known,
        &many,
    ];
    for document in rows {
        let md5 = base64(&Md5::digest(document.as_bytes()));
        let delete = server.client.draft("POST", "/bucket?delete").body(document.as_bytes());
        refused(&server, delete.header("content-md5", &md5), 400, "MalformedXML").await;
    }
    for document in ["junk", &deep, bomb] {
        let create = server.client.draft("PUT", "/another").body(document.as_bytes());
        let answer = server.client.send(&create).await;
        // A document that is too large for its operation is refused unread.
        assert!(
            matches!(answer.field("Code").as_str(), "MalformedXML" | "MaxMessageLengthExceeded"),
            "{}",
            answer.text()
        );
    }
    let oversize = vec![b' '; 5 << 20];
    let md5 = base64(&Md5::digest(&oversize));
    let delete =
        server.client.draft("POST", "/bucket?delete").body(&oversize).header("content-md5", &md5);
    refused(&server, delete, 400, "MaxMessageLengthExceeded").await;
    let unchecked = server.client.draft("POST", "/bucket?delete").body(b"<Delete/>");
    refused(&server, unchecked, 400, "InvalidRequest").await;
    nothing_stored(&server).await;
}

#[tokio::test]
async fn ranges() {
    let server = Server::with_bucket().await;
    server.client.put("/bucket/key", b"0123456789").await.expect(200);
    for range in ["bytes=10-", "bytes=100-200", "bytes=-0"] {
        let answer = server
            .client
            .send(&server.client.draft("GET", "/bucket/key").header("range", range))
            .await;
        let answer = answer.refused(416, "InvalidRange");
        assert_eq!(answer.header("content-range"), Some("bytes */10"));
    }
    for range in ["bytes=4-2", "bytes=0-1,4-5", "lines=1-2", "bytes", "nonsense"] {
        let answer = server
            .client
            .send(&server.client.draft("GET", "/bucket/key").header("range", range))
            .await;
        assert_eq!(answer.expect(200).body, b"0123456789", "{range}");
    }
}

#[tokio::test]
async fn part_numbers_and_uploads() {
    let server = Server::with_bucket().await;
    let created = server.client.post("/bucket/key?uploads", b"").await.expect(200);
    let upload = created.field("UploadId");
    for number in ["0", "10001", "abc", "-1", ""] {
        let target = format!("/bucket/key?partNumber={number}&uploadId={upload}");
        refused(&server, server.client.draft("PUT", &target).body(b"x"), 400, "InvalidArgument")
            .await;
    }
    for unknown in ["nonsense", "00070000000000ffffff", ""] {
        let target = format!("/bucket/key?partNumber=1&uploadId={unknown}");
        refused(&server, server.client.draft("PUT", &target).body(b"x"), 404, "NoSuchUpload").await;
        let target = format!("/bucket/key?uploadId={unknown}");
        refused(&server, server.client.draft("DELETE", &target), 404, "NoSuchUpload").await;
        refused(&server, server.client.draft("GET", &target), 404, "NoSuchUpload").await;
    }
    nothing_stored(&server).await;
}

#[tokio::test]
async fn arguments() {
    let server = Server::with_bucket().await;
    for query in [
        "max-keys=-1",
        "max-keys=abc",
        "max-keys=99999999999",
        "encoding-type=junk",
        "list-type=2&max-keys=-1",
        "list-type=2&continuation-token=junk",
        "list-type=2&continuation-token=anVuaw==",
        "list-type=2&encoding-type=junk",
        "list-type=3",
        "uploads&max-uploads=-1",
        "versions&version-id-marker=x",
    ] {
        let target = format!("/bucket?{query}");
        refused(&server, server.client.draft("GET", &target), 400, "InvalidArgument").await;
    }
    refused(&server, server.client.draft("GET", "/?max-buckets=0"), 400, "InvalidArgument").await;
    refused(
        &server,
        server.client.draft("GET", "/?continuation-token=junk"),
        400,
        "InvalidArgument",
    )
    .await;
    for version in ["junk", "3sL4kqtJlcpXroDTDmJ", ""] {
        let target = format!("/bucket/key?versionId={version}");
        refused(&server, server.client.draft("GET", &target), 400, "InvalidArgument").await;
        refused(&server, server.client.draft("DELETE", &target), 400, "InvalidArgument").await;
    }
    let put = || server.client.draft("PUT", "/bucket/key");
    for source in ["nonsense", "/", "bucket", "UPPER/key", "bucket/key?versionId=junk"] {
        refused(&server, put().header("x-amz-copy-source", source), 400, "InvalidArgument").await;
    }
    refused(&server, put().body(b"x").header("x-amz-acl", "junk"), 400, "InvalidArgument").await;
    refused(&server, put().body(b"x").header("x-amz-acl", "public-read"), 501, "NotImplemented")
        .await;
    refused(&server, put().body(b"x").payload("junk"), 400, "InvalidArgument").await;
    nothing_stored(&server).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_implemented() {
    let server = Server::with_bucket().await;
    for (method, target) in [
        ("PUT", "/bucket/key?retention"),
        ("PUT", "/bucket/key?legal-hold"),
        ("PUT", "/bucket/key?acl"),
        ("PUT", "/bucket/key?versionId=null"),
        ("PUT", "/bucket/key?uploadId=1"),
        ("PUT", "/bucket/key?new-thing"),
        ("PUT", "/bucket?versioning"),
        ("PUT", "/bucket?policy"),
        ("PUT", "/bucket?lifecycle"),
        ("DELETE", "/bucket?policy"),
        ("DELETE", "/bucket?new-thing"),
        ("GET", "/bucket?logging"),
        ("GET", "/bucket/key?torrent"),
        ("POST", "/bucket/key?restore"),
        ("POST", "/bucket/key?select&select-type=2"),
        ("POST", "/bucket/key"),
        ("POST", "/bucket"),
    ] {
        refused(&server, server.client.draft(method, target).body(b"<x/>"), 501, "NotImplemented")
            .await;
    }
    let put = || server.client.draft("PUT", "/bucket/key").body(b"x");
    for (name, value) in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-grant-read", "id=1"),
        ("if-modified-since", "x"),
        ("x-amz-website-redirect-location", "/x"),
        ("x-amz-storage-class", "GLACIER"),
    ] {
        refused(&server, put().header(name, value), 501, "NotImplemented").await;
    }
    refused(&server, put().header("x-amz-storage-class", "JUNK"), 400, "InvalidStorageClass").await;
    refused(
        &server,
        put().header("x-amz-expected-bucket-owner", "123456789012"),
        403,
        "AccessDenied",
    )
    .await;
    refused(&server, put().header("x-amz-security-token", "token"), 400, "InvalidToken").await;
    nothing_stored(&server).await;
}

#[tokio::test]
async fn errors_of_head_have_no_body() {
    let server = Server::with_bucket().await;
    for (target, status) in [("/nobucket", 404), ("/bucket/nokey", 404), ("/Bad/key", 400)] {
        let answer = server.client.head(target).await.expect(status);
        assert_eq!(answer.body, b"");
        assert!(answer.header("x-amz-request-id").is_some());
    }
}

#[tokio::test]
async fn garbage_is_answered_400_and_the_server_lives() {
    let server = Server::with_bucket().await;
    let requests: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ];
    for request in requests {
        let mut stream = server.client.connect().await;
        stream.write_all(request).await.expect("the server reads");
        if let Some(answer) = read_answer(&mut stream, false).await {
            assert!(matches!(answer.status, 400 | 505), "{request:?}: {answer:?}");
        }
    }
    let mut stream = server.client.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("the server reads");
    let _ = stream.write_all(&vec![b'a'; 1 << 20]).await;
    if let Some(answer) = read_answer(&mut stream, false).await {
        assert!(matches!(answer.status, 400 | 431), "{answer:?}");
    }
    nothing_stored(&server).await;
}

#[tokio::test]
async fn a_chunk_signature_chain_is_checked_by_what_signs_it() {
    // The signer that verifies and the one in this file agree, so the rows above test something.
    let server = Server::with_bucket().await;
    let draft = chunked(server.client.draft("PUT", "/bucket/key"), &[b"data"], None);
    let key = draft.scope().signing_key(&draft.secret_key);
    let mut signer =
        ChunkSigner::new(&draft.scope(), key, &amz_date(draft.at), draft.signature().0);
    let text = String::from_utf8(draft.body.clone()).expect("ASCII");
    signer.begin(&text["4;chunk-signature=".len()..][..64]);
    signer.update(b"data");
    signer.verify_chunk().expect("the same signature");
}
