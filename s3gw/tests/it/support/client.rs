//! A client that speaks over a raw socket, so that it can send what no library would.

use super::{ACCESS_KEY, SECRET_KEY};
use ironseed_s3gw::guard::sigv4::{Canonical, Scope};
use ironseed_s3gw::text::{amz_date, hex, parse_query, percent, unpercent};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer takes longer than this in a test.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) region: String,
}

pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("before the year 292 billion")
}

/// A request that is not signed yet.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) method: &'static str,
    /// Path and query as they are sent.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What stands for the body in the signature; its hash by default.
    pub(crate) payload: Option<String>,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) region: String,
    pub(crate) service: String,
    /// Seconds since the Unix epoch.
    pub(crate) at: i64,
    /// Whether to send a Content-Length.
    pub(crate) length: bool,
    pub(crate) host: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the server closed the connection after it.
    pub(crate) closed: bool,
}

impl Client {
    pub(crate) fn draft(&self, method: &'static str, target: &str) -> Draft {
        Draft {
            method,
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            payload: None,
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            region: self.region.clone(),
            service: "s3".to_owned(),
            at: now(),
            length: true,
            host: self.address.to_string(),
        }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(&self.draft("GET", target)).await
    }

    pub(crate) async fn head(&self, target: &str) -> Answer {
        self.send(&self.draft("HEAD", target)).await
    }

    pub(crate) async fn delete(&self, target: &str) -> Answer {
        self.send(&self.draft("DELETE", target)).await
    }

    pub(crate) async fn put(&self, target: &str, body: &[u8]) -> Answer {
        self.send(&self.draft("PUT", target).body(body)).await
    }

    pub(crate) async fn post(&self, target: &str, body: &[u8]) -> Answer {
        self.send(&self.draft("POST", target).body(body)).await
    }

    pub(crate) async fn send(&self, draft: &Draft) -> Answer {
        self.exchange(&draft.signed(), draft.method == "HEAD").await
    }

    /// Sends raw bytes on a new connection and reads one answer.
    pub(crate) async fn exchange(&self, request: &[u8], head: bool) -> Answer {
        let mut stream = self.connect().await;
        // A server that refuses early may close before everything is written.
        let _ = stream.write_all(request).await;
        read_answer(&mut stream, head).await.expect("an answer")
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }
}

impl Draft {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn payload(mut self, payload: &str) -> Self {
        self.payload = Some(payload.to_owned());
        self
    }

    pub(crate) fn no_length(mut self) -> Self {
        self.length = false;
        self
    }

    pub(crate) fn scope(&self) -> Scope {
        Scope {
            access_key: self.access_key.clone(),
            day: amz_date(self.at)[..8].to_owned(),
            region: self.region.clone(),
            service: self.service.clone(),
        }
    }

    fn path_and_query(&self) -> (String, Vec<(String, String)>) {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let path =
            unpercent(path, false).map_or(path.to_owned(), |path| percent(path.as_bytes(), false));
        (path, parse_query(query).unwrap_or_default())
    }

    /// Everything but the signature: headers to send, and the signed ones among them.
    fn all_headers(&self) -> Vec<(String, String)> {
        let payload = self.payload.clone().unwrap_or_else(|| hex(&Sha256::digest(&self.body)));
        let mut headers = vec![
            ("host".to_owned(), self.host.clone()),
            ("x-amz-content-sha256".to_owned(), payload),
            ("x-amz-date".to_owned(), amz_date(self.at)),
        ];
        headers.extend(
            self.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())),
        );
        headers.sort();
        headers
    }

    /// The signature, and the headers that it covers.
    pub(crate) fn signature(&self) -> (String, Vec<(String, String)>) {
        let headers = self.all_headers();
        let payload = headers
            .iter()
            .find(|(name, _)| name == "x-amz-content-sha256")
            .expect("put there")
            .1
            .clone();
        let (path, query) = self.path_and_query();
        let canonical = Canonical {
            method: self.method,
            path: &path,
            query: &query,
            headers: &headers,
            payload: &payload,
        };
        let scope = self.scope();
        let key = scope.signing_key(&self.secret_key);
        (canonical.signature(&scope, &key, &amz_date(self.at)), headers)
    }

    /// The bytes of the request, signed in the header.
    pub(crate) fn signed(&self) -> Vec<u8> {
        let (signature, headers) = self.signature();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let scope = self.scope();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}/{}/{}/aws4_request, SignedHeaders={}, Signature={signature}",
            scope.access_key,
            scope.day,
            scope.region,
            scope.service,
            names.join(";")
        );
        let mut headers = headers;
        headers.push(("authorization".to_owned(), authorization));
        self.bytes(&headers)
    }

    /// The bytes of the request with exactly these headers.
    pub(crate) fn bytes(&self, headers: &[(String, String)]) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if self.length && (!self.body.is_empty() || matches!(self.method, "PUT" | "POST")) {
            out.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }

    /// The request as a presigned URL, with these parameters replaced (or, if `None`, left out).
    pub(crate) fn presigned(&self, expires: &str, change: &[(&str, Option<&str>)]) -> Vec<u8> {
        let scope = self.scope();
        let credential = format!(
            "{}/{}/{}/{}/aws4_request",
            scope.access_key, scope.day, scope.region, scope.service
        );
        let (path, mut query) = self.path_and_query();
        let mut signed = vec![("host".to_owned(), self.host.clone())];
        signed.extend(self.headers.iter().cloned());
        signed.sort();
        let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
        for (name, value) in [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("X-Amz-Credential", credential),
            ("X-Amz-Date", amz_date(self.at)),
            ("X-Amz-Expires", expires.to_owned()),
            ("X-Amz-SignedHeaders", names.join(";")),
        ] {
            match change.iter().find(|(changed, _)| *changed == name) {
                Some((_, Some(value))) => query.push((name.to_owned(), (*value).to_owned())),
                Some((_, None)) => {}
                None => query.push((name.to_owned(), value)),
            }
        }
        let canonical = Canonical {
            method: self.method,
            path: &path,
            query: &query,
            headers: &signed,
            payload: "UNSIGNED-PAYLOAD",
        };
        let key = scope.signing_key(&self.secret_key);
        let signature = canonical.signature(&scope, &key, &amz_date(self.at));
        if !change.iter().any(|(name, value)| *name == "X-Amz-Signature" && value.is_none()) {
            query.push(("X-Amz-Signature".to_owned(), signature));
        }
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| {
                format!("{}={}", percent(name.as_bytes(), true), percent(value.as_bytes(), true))
            })
            .collect();
        let target = format!("{path}?{}", query.join("&"));
        let mut draft = self.clone();
        draft.target = target;
        draft.bytes(&signed)
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The content of the first element of this name.
    pub(crate) fn field(&self, name: &str) -> String {
        let text = self.text();
        let from = text.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
        from.split_once(&format!("</{name}>")).map_or("", |(content, _)| content).to_owned()
    }

    /// The contents of all elements of this name.
    pub(crate) fn fields(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        self.text()
            .split(&open)
            .skip(1)
            .filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned()))
            .collect()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}\n{}", self.headers, self.text());
        self
    }

    /// Asserts that this is S3's error: status, code, and an id that headers and body agree on.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.field("Code").as_str()), (status, code), "{}", self.text());
        assert_eq!(self.header("x-amz-request-id"), Some(self.field("RequestId").as_str()));
        assert_eq!(self.header("content-type"), Some("application/xml"));
        assert!(!self.field("Message").is_empty(), "{}", self.text());
        assert!(self.text().contains("<Resource>"), "{}", self.text());
        self
    }
}

/// Reads one answer, or `None` if the connection closes without one.
pub(crate) async fn read_answer(stream: &mut TcpStream, head: bool) -> Option<Answer> {
    timeout(PATIENCE, read(stream, head)).await.expect("an answer in time")
}

async fn read(stream: &mut TcpStream, head: bool) -> Option<Answer> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
            if text.starts_with("HTTP/1.1 100") {
                bytes.drain(..end + 4);
                continue;
            }
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let find = |name: &str| {
        headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    };
    let mut body = bytes.split_off(end + 4);
    let bodyless = head || status == 304 || status == 204;
    let length = if bodyless {
        Some(0)
    } else {
        find("content-length").and_then(|length| length.parse().ok())
    };
    let mut closed = find("connection").as_deref() == Some("close");
    match length {
        Some(length) => {
            while body.len() < length {
                if stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
                    closed = true;
                    break;
                }
            }
            body.truncate(length);
        }
        None => {
            assert_eq!(find("transfer-encoding").as_deref(), Some("chunked"), "{text}");
            let mut decoded = Vec::new();
            loop {
                let line = loop {
                    if let Some(at) = body.windows(2).position(|window| window == b"\r\n") {
                        break at;
                    }
                    assert!(stream.read_buf(&mut body).await.ok()? > 0, "cut off in a chunk");
                };
                let size =
                    usize::from_str_radix(&String::from_utf8_lossy(&body[..line]), 16).ok()?;
                while body.len() < line + 2 + size + 2 {
                    assert!(stream.read_buf(&mut body).await.ok()? > 0, "cut off in a chunk");
                }
                decoded.extend_from_slice(&body[line + 2..line + 2 + size]);
                body.drain(..line + 2 + size + 2);
                if size == 0 {
                    break;
                }
            }
            body = decoded;
        }
    }
    if closed {
        let mut rest = Vec::new();
        let _ = timeout(Duration::from_secs(2), stream.read_to_end(&mut rest))
            .await
            .expect("the connection closes");
    }
    Some(Answer { status, headers, body, closed })
}
