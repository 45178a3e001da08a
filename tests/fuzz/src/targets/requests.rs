//! Requests to the S3 port: what they are mutated from, and their signatures.

use super::gateway::{ACCESS_KEY, REGION, SECRET_KEY};
use ironseed_s3gw::guard::sigv4::{Canonical, Scope, canonical_value};
use ironseed_s3gw::text::{amz_date, hex, parse_query, percent, unpercent};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Stands for the id of an upload that is in progress.
const UPLOAD: &str = "UPLOAD";
/// Headers that are not signed: the framing, and what [`signed`] writes itself.
const UNSIGNED: &[&str] =
    &["content-length", "transfer-encoding", "connection", "expect", "authorization"];
const REPLACED: &[&str] = &["host", "x-amz-date", "authorization"];

/// Requests without what signing adds. Lines end as they should when they are used.
pub(super) const HTTP_SEEDS: &[&str] = &[
    "GET / HTTP/1.1\nHost: localhost\n\n",
    "PUT /bucket/key HTTP/1.1\nContent-Type: text/plain\nx-amz-meta-name: value\n\
     x-amz-tagging: a=b&c=d\n\nbody",
    "PUT /bucket/new HTTP/1.1\nIf-None-Match: *\nContent-MD5: hBotaJrYa9FhFEdFPCLG/A==\n\nbody",
    "PUT /bucket/key HTTP/1.1\nx-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\n\
     x-amz-decoded-content-length: 4\nx-amz-trailer: x-amz-checksum-crc32\n\
     content-encoding: aws-chunked\n\n4\nbody\n0\nx-amz-checksum-crc32:26gLsg==\n\n",
    "PUT /bucket/key HTTP/1.1\nx-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\n\
     x-amz-decoded-content-length: 4\n\n\
     4;chunk-signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\nbody\n\
     0;chunk-signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n\n",
    "PUT /bucket/key HTTP/1.1\nTransfer-Encoding: chunked\n\
     x-amz-content-sha256: UNSIGNED-PAYLOAD\n\n4\nbody\n0\n\n",
    "GET /bucket/large HTTP/1.1\nRange: bytes=100-30000\nIf-None-Match: \"abc\"\n\n",
    "GET /bucket/key?response-content-type=text%2Fhtml&partNumber=1 HTTP/1.1\n\
     If-Modified-Since: Wed, 21 Oct 2015 07:28:00 GMT\n\n",
    "HEAD /bucket/key HTTP/1.1\nHost: bucket.s3.test\nx-amz-checksum-mode: ENABLED\n\n",
    "GET /bucket?list-type=2&prefix=a%2F&delimiter=%2F&max-keys=2&start-after=k&encoding-type=url \
     HTTP/1.1\n\n",
    "GET /bucket?list-type=2&continuation-token=a2V5&fetch-owner=true HTTP/1.1\n\n",
    "GET /bucket?uploads&key-marker=k&upload-id-marker=UPLOAD&max-uploads=3 HTTP/1.1\n\n",
    "GET /bucket/key?uploadId=UPLOAD&part-number-marker=1&max-parts=1000 HTTP/1.1\n\n",
    "PUT /bucket/key?partNumber=1&uploadId=UPLOAD HTTP/1.1\n\npart",
    "PUT /bucket/copy HTTP/1.1\nx-amz-copy-source: /bucket/large\nx-amz-metadata-directive: REPLACE\n\
     x-amz-copy-source-if-none-match: \"abc\"\n\n",
    "PUT /bucket/key?partNumber=2&uploadId=UPLOAD HTTP/1.1\nx-amz-copy-source: bucket%2Flarge\n\
     x-amz-copy-source-range: bytes=0-999\n\n",
    "DELETE /bucket/a/b HTTP/1.1\n\n",
    "POST /bucket?delete HTTP/1.1\nx-amz-checksum-crc32: DY2k5w==\n\n<Delete/>",
    "GET /bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDFUZZ%2F20260101%2F\
     us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=900&\
     X-Amz-SignedHeaders=host&X-Amz-Signature=00 HTTP/1.1\nHost: localhost\n\n",
    "GET /bucket/key HTTP/1.1\nHost: localhost\nx-amz-date: 20260101T000000Z\n\
     x-amz-content-sha256: UNSIGNED-PAYLOAD\nAuthorization: AWS4-HMAC-SHA256 \
     Credential=AKIDFUZZ/20260101/us-east-1/s3/aws4_request, \
     SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=00\n\n",
    "GET /a HTTP/1.1\nHost: localhost\n\nGET /b HTTP/1.1\nHost: localhost\n\n",
];

/// What requests are made of.
pub(super) const DICTIONARY: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b": ",
    b"&",
    b"%2F",
    b"%00",
    b"%ff",
    b"/../",
    b"//",
    b"?acl",
    b"?versionId=null",
    b"?tagging",
    b"?uploads",
    b"&uploadId=UPLOAD",
    b"&partNumber=10001",
    b"&max-keys=18446744073709551616",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"Content-Length: 4\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Host: bucket.s3.test\r\n",
    b"Range: bytes=-1\r\n",
    b"Range: bytes=18446744073709551615-\r\n",
    b"If-Match: *\r\n",
    b"If-None-Match: \"5d41402abc4b2a76b9719d911017c592-3\"\r\n",
    b"x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n",
    b"x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n",
    b"x-amz-decoded-content-length: 5368709121\r\n",
    b"x-amz-trailer: x-amz-checksum-sha256\r\n",
    b"x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n",
    b"x-amz-checksum-algorithm: SHA1\r\n",
    b"x-amz-checksum-type: COMPOSITE\r\n",
    b"x-amz-copy-source: /bucket/key?versionId=null\r\n",
    b"x-amz-tagging: a=%ff&=\r\n",
    b"x-amz-meta-\xc3\xa4: \xff\r\n",
    b"ffffffffffffffff\r\n",
    b"0\r\n\r\n",
    b";chunk-signature=",
];

/// Documents behind the line that sends them.
pub(super) const XML_SEEDS: &[&str] = &[
    "POST /bucket?delete\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
     <Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>\
     <Object><Key>a/b</Key></Object><Object><Key>&lt;none&gt; &#x41;&#10;</Key></Object></Delete>",
    "POST /bucket/key?uploadId=UPLOAD\n<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>\
     <ETag>\"d41d8cd98f00b204e9800998ecf8427e\"</ETag></Part><Part><ETag>0</ETag>\
     <PartNumber>2</PartNumber><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>\
     </CompleteMultipartUpload>",
    "PUT /bucket/key?tagging\n<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag>\
     <Tag><Key>c</Key><Value/></Tag></TagSet></Tagging>",
    "PUT /another\n<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint>\
     </CreateBucketConfiguration>",
];

pub(super) const XML_DICTIONARY: &[&[u8]] = &[
    b"<Object><Key>key</Key></Object>",
    b"<Part><PartNumber>1</PartNumber><ETag>0</ETag></Part>",
    b"<Tag><Key>k</Key><Value>v</Value></Tag>",
    b"<VersionId>null</VersionId>",
    b"<Quiet>",
    b"</Delete>",
    b"/>",
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"<!DOCTYPE x [<!ENTITY e \"e\">]>",
    b"&e;",
    b"&#0;",
    b"&#x10FFFF;",
    b"<?xml version=\"1.1\"?>",
    b" xmlns:a=\"b\"",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"4294967296",
    b"-1",
];

/// The request in these bytes, as far as there is one, signed for the gateway at `address` now.
pub(super) fn signed(request: &[u8], address: SocketAddr, upload: &str) -> Vec<u8> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = request.split_at(end.unwrap_or(request.len()));
    let body = body.get(4..).unwrap_or_default();
    let head = String::from_utf8_lossy(head).replace(UPLOAD, upload);
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let (method, rest) = line.split_once(' ').unwrap_or((line, ""));
    let target = rest.rsplit_once(" HTTP/").map_or(rest, |(target, _)| target);
    let given: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| !REPLACED.contains(&name.as_str()))
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let date = amz_date(i64::try_from(now).unwrap_or_default());
    let mut own =
        vec![("host".to_owned(), address.to_string()), ("x-amz-date".to_owned(), date.clone())];
    if !given.iter().any(|(name, _)| name == "x-amz-content-sha256") {
        own.push(("x-amz-content-sha256".to_owned(), hex(&Sha256::digest(body))));
    }
    let mut covered: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let headers = own.iter().map(|(name, value)| (name, value.as_str()));
    for (name, value) in headers.chain(given.iter().map(|(name, value)| (name, *value))) {
        if !UNSIGNED.contains(&name.as_str()) {
            covered.entry(name).or_default().push(canonical_value(value));
        }
    }
    let covered: Vec<(String, String)> =
        covered.into_iter().map(|(name, values)| (name.to_owned(), values.join(","))).collect();
    let authorization = authorize(method, target, &covered, &date);
    let mut out = format!("{method} {target} HTTP/1.1\r\nauthorization: {authorization}\r\n");
    for (name, value) in &own {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    for (name, value) in &given {
        out.push_str(&format!("{name}:{value}\r\n"));
    }
    let framed =
        |(name, _): &(String, &str)| name == "content-length" || name == "transfer-encoding";
    if !given.iter().any(framed) && (!body.is_empty() || matches!(method, "PUT" | "POST")) {
        out.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    if !given.iter().any(|(name, _)| name == "connection") {
        out.push_str("connection: close\r\n");
    }
    [out.as_bytes(), b"\r\n", body].concat()
}

fn authorize(method: &str, target: &str, headers: &[(String, String)], date: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = unpercent(path, false).unwrap_or_else(|| path.to_owned());
    let path = percent(path.as_bytes(), false);
    let query = parse_query(query).unwrap_or_default();
    let payload = headers.iter().find(|(name, _)| name == "x-amz-content-sha256");
    let payload = payload.map_or("", |(_, value)| value);
    let canonical = Canonical { method, path: &path, query: &query, headers, payload };
    let day = date.get(..8).unwrap_or_default().to_owned();
    let (access_key, region, service) = (ACCESS_KEY.into(), REGION.into(), "s3".into());
    let scope = Scope { access_key, day, region, service };
    let signature = canonical.signature(&scope, &scope.signing_key(SECRET_KEY), date);
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let Scope { day, .. } = scope;
    format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{day}/{REGION}/s3/aws4_request, \
         SignedHeaders={}, Signature={signature}",
        names.join(";")
    )
}
