//! The XML, as clients get to see it.

use crate::support::Server;
use crate::support::client::Answer;

/// An element a line, and no ids that change from run to run.
fn pretty(answer: &Answer) -> String {
    let id = answer.header("x-amz-request-id").expect("every answer has one");
    answer.text().replace(id, "REQUEST-ID").replace("><", ">\n<")
}

async fn with_objects() -> Server {
    let server = Server::with_bucket().await;
    for key in ["a", "b/1", "b/2", "c d+e%f&<g>", "ü/x", "z"] {
        let target = format!("/bucket/{}", ironseed_s3gw::text::percent(key.as_bytes(), false));
        server.client.put(&target, key.as_bytes()).await.expect(200);
    }
    server
}

macro_rules! snapshots {
    ($($name:ident = $target:literal, $status:literal;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let server = with_objects().await;
            let answer = server.client.get($target).await.expect($status);
            insta::assert_snapshot!(pretty(&answer));
        })*
    };
}

snapshots! {
    list_buckets = "/", 200;
    list_v1 = "/bucket", 200;
    list_v1_delimiter = "/bucket?delimiter=/&max-keys=2", 200;
    list_v1_after_a_common_prefix = "/bucket?delimiter=/&marker=b/", 200;
    list_v1_encoded = "/bucket?encoding-type=url&prefix=c%20d&marker=a%26", 200;
    list_v2 = "/bucket?list-type=2&max-keys=3&fetch-owner=true", 200;
    list_v2_delimiter = "/bucket?list-type=2&delimiter=/&start-after=a", 200;
    list_v2_none = "/bucket?list-type=2&max-keys=0", 200;
    list_versions = "/bucket?versions&max-keys=2", 200;
    list_uploads = "/bucket?uploads", 200;
    location = "/bucket?location", 200;
    versioning = "/bucket?versioning", 200;
    bucket_acl = "/bucket?acl", 200;
    object_acl = "/bucket/a?acl", 200;
    ownership_controls = "/bucket?ownershipControls", 200;
    no_policy = "/bucket?policy", 404;
    no_policy_status = "/bucket?policyStatus", 404;
    no_cors = "/bucket?cors", 404;
    no_lifecycle = "/bucket?lifecycle", 404;
    no_tagging = "/bucket?tagging", 404;
    no_encryption = "/bucket?encryption", 404;
    no_public_access_block = "/bucket?publicAccessBlock", 404;
    no_object_lock = "/bucket?object-lock", 404;
    no_bucket = "/nobucket/key", 404;
    no_key = "/bucket/no%20%3Ckey%3E", 404;
    not_implemented = "/bucket?logging", 501;
}

#[tokio::test]
async fn pages_follow_each_other() {
    let server = with_objects().await;
    let all = server.client.get("/bucket?list-type=2&delimiter=/").await.expect(200);
    let mut whole = all.fields("Key");
    whole.extend(all.fields("CommonPrefixes"));
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let more = if token.is_empty() {
            String::new()
        } else {
            format!(
                "&continuation-token={}",
                token.replace('=', "%3D").replace('+', "%2B").replace('/', "%2F")
            )
        };
        let target = format!("/bucket?list-type=2&delimiter=/&max-keys=1{more}");
        let page = server.client.get(&target).await.expect(200);
        assert_eq!(page.field("KeyCount"), "1");
        assert_eq!(page.field("ContinuationToken"), token);
        pages.extend(page.fields("Key"));
        pages.extend(page.fields("CommonPrefixes"));
        token = page.field("NextContinuationToken");
        if token.is_empty() {
            break;
        }
    }
    pages.sort();
    whole.sort();
    assert_eq!(pages, whole);
    // The same with V1 and its markers.
    let (mut pages, mut marker) = (Vec::new(), String::new());
    loop {
        let shown = ironseed_s3gw::text::percent(marker.as_bytes(), true);
        let target = format!("/bucket?delimiter=/&max-keys=1&encoding-type=url&marker={shown}");
        let page = server.client.get(&target).await.expect(200);
        pages.extend(page.fields("Key"));
        pages.extend(page.fields("CommonPrefixes"));
        let next = page.field("NextMarker");
        if next.is_empty() {
            break;
        }
        marker = ironseed_s3gw::text::unpercent(&next, false).expect("encoded");
    }
    assert_eq!(pages.len(), whole.len());
}
