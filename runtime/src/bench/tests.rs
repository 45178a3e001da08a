use super::*;
use crate::sign;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;

#[test]
fn presigned_urls_are_those_of_the_reference() {
    // "Authenticating Requests: Using Query Parameters" in the S3 API reference.
    let mut signer = Signer::new(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "us-east-1",
    );
    let host = "examplebucket.s3.amazonaws.com";
    let sign = |signer: &mut Signer| {
        signer.presign_at("20130524T000000Z", 86_400, "GET", host, "/test.txt", &[])
    };
    let expected = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE\
        %2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400\
        &X-Amz-SignedHeaders=host&X-Amz-Signature=\
        aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    assert_eq!(sign(&mut signer), expected);
    // And again with the key that is kept.
    assert_eq!(sign(&mut signer), expected);
}

#[test]
fn timestamps_are_civil() {
    assert_eq!(sign::timestamp(0), "19700101T000000Z");
    assert_eq!(sign::timestamp(951_782_399), "20000228T235959Z");
    assert_eq!(sign::timestamp(951_782_400), "20000229T000000Z");
    assert_eq!(sign::timestamp(1_369_353_600), "20130524T000000Z");
    assert_eq!(sign::timestamp(4_107_542_399), "21000228T235959Z");
    assert_eq!(sign::timestamp(4_107_542_400), "21000301T000000Z");
}

#[test]
fn sizes_and_endpoints_are_read_as_people_write_them() {
    for (text, size) in [("0", 0), ("17", 17), ("1K", 1024), ("5MiB", 5 << 20), ("1gb", 1 << 30)] {
        assert_eq!(parse_size(text), Ok(size), "{text}");
    }
    for text in ["", "K", "-1", "1T", "99999999999G"] {
        assert!(parse_size(text).is_err(), "{text}");
    }
    assert_eq!(host("http://127.0.0.1:9000/").as_deref(), Some("127.0.0.1:9000"));
    assert_eq!(host("http://store").as_deref(), Some("store:80"));
    for endpoint in ["https://x", "127.0.0.1:9000", "http://", "http://x/y"] {
        assert_eq!(host(endpoint), None, "{endpoint}");
    }
}

#[test]
fn no_block_of_any_body_comes_twice() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let mut payload = Payload::new(10_000);
        for _ in 0..50 {
            let body = payload.next();
            assert_eq!(body.len(), 10_000);
            for block in body.chunks(4096) {
                assert!(seen.insert(block.to_vec()));
            }
        }
    }
    assert_eq!(Payload::new(0).next().len(), 0);
}

/// A server that keeps what is put into it and fails every hundredth request, the first among them.
async fn server() -> (String, Arc<Mutex<BTreeMap<String, Bytes>>>) {
    let objects: Arc<Mutex<BTreeMap<String, Bytes>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (kept, count) = (objects.clone(), Arc::new(AtomicU64::new(0)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (kept, count) = (kept.clone(), count.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (kept, count) = (kept.clone(), count.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    assert!(parts.uri.query().unwrap_or("").contains("X-Amz-Signature="));
                    let sized = parts.headers.contains_key("content-length");
                    assert!(sized || parts.method != Method::PUT, "S3 answers 411");
                    let body = body.collect().await.unwrap().to_bytes();
                    let path = parts.uri.path().to_owned();
                    let mut response = Response::new(Full::new(Bytes::new()));
                    if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
                        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    } else if path == "/bench" {
                        // Making it, or a page of it.
                    } else if parts.method == Method::PUT {
                        kept.lock().unwrap().insert(path, body);
                    } else if let Some(body) = kept.lock().unwrap().get(&path) {
                        *response.body_mut() = Full::new(body.clone());
                    } else {
                        *response.status_mut() = StatusCode::NOT_FOUND;
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    (endpoint, objects)
}

fn options(endpoint: &str, op: Operation) -> Options {
    Options {
        endpoint: vec![endpoint.into()],
        op,
        size: 3000,
        concurrency: 4,
        seconds: 1,
        bucket: "bench".into(),
        objects: 50,
        region: "us-east-1".into(),
        access_key: "access".into(),
        secret_key: "secret".into(),
        admin: Vec::new(),
        json: true,
    }
}

async fn measure(endpoint: &str, op: Operation) -> serde_json::Value {
    let text = run(&options(endpoint, op)).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_and_gets_are_counted_with_their_bytes_and_errors() {
    let (endpoint, objects) = server().await;
    let put = measure(&endpoint, Operation::Put).await;
    let requests = put["requests"].as_u64().unwrap();
    let stored =
        objects.lock().unwrap().keys().filter(|key| key.starts_with("/bench/put/")).count();
    assert_eq!(requests, stored as u64);
    assert!(requests < 100 || put["errors"].as_u64().unwrap() >= requests / 100 - 1, "{put}");
    let rate = put["requests_per_second"].as_f64().unwrap();
    assert!((put["mb_per_second"].as_f64().unwrap() - rate * 3000.0 / 1e6).abs() < 0.01, "{put}");
    assert!(put["latency_ms"]["p50"].as_f64() <= put["latency_ms"]["p99"].as_f64(), "{put}");

    let get = measure(&endpoint, Operation::Get).await;
    assert!(get["requests"].as_u64().unwrap() > 0);
    let prepared =
        objects.lock().unwrap().keys().filter(|key| key.starts_with("/bench/get-3000/")).count();
    assert_eq!(prepared, 50);

    let list = measure(&endpoint, Operation::List).await;
    let objects = objects.lock().unwrap().clone();
    let listed =
        objects.iter().filter(|(key, body)| key.starts_with("/bench/list/") && body.is_empty());
    assert_eq!((listed.count(), list["op"].as_str()), (50, Some("list")));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = run(&options(&endpoint, Operation::Put)).await.unwrap_err();
    assert!(matches!(error, BenchError::Prepare(RequestError::Io(_))), "{error}");
}
