//! Requests by hand, on a bare socket: for what no good client would do (upload a few bytes a second,
//! then vanish), and for a node's health.

use crate::Result;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most that any of these requests may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Host and path of a link.
fn split(link: &str) -> Result<(&str, &str)> {
    let rest = link.strip_prefix("http://").ok_or_else(|| format!("not plain HTTP: {link}"))?;
    Ok(rest.find('/').map_or((rest, "/"), |at| rest.split_at(at)))
}

/// What came back until the connection was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body, as far as it came.
    pub(crate) body: Vec<u8>,
    /// Whether the body is as long as the head says: what a client takes for whole.
    pub(crate) whole: bool,
}

/// One exchange; the status code of the answer.
pub(crate) async fn call(method: &str, link: &str, body: &[u8]) -> Result<u16> {
    exchange(method, link, body).await.map(|answer| answer.status)
}

/// One exchange.
pub(crate) async fn exchange(method: &str, link: &str, body: &[u8]) -> Result<Answer> {
    let (socket, head) = begin(method, link, body.len() as u64).await?;
    finish(socket, &[head.as_bytes(), body].concat()).await
}

/// Connects, and prepares the head of a request that promises `size` bytes.
async fn begin(method: &str, link: &str, size: u64) -> Result<(TcpStream, String)> {
    let (host, path) = split(link)?;
    let socket = TcpStream::connect(host).await.map_err(|error| format!("{host}: {error}"))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n"
    );
    Ok((socket, head))
}

async fn finish(mut socket: TcpStream, last: &[u8]) -> Result<Answer> {
    let exchange = async {
        socket.write_all(last).await?;
        let mut answer = Vec::new();
        // A connection that is broken off may have brought something before.
        match socket.read_to_end(&mut answer).await {
            Err(error) if answer.is_empty() => Err(error),
            _ => Ok(answer),
        }
    };
    let answer = match tokio::time::timeout(PATIENCE, exchange).await {
        Err(_) => return Err(format!("no answer within {PATIENCE:?}")),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(answer)) => answer,
    };
    parse(&answer)
        .ok_or_else(|| format!("no HTTP answer: {:.200}", String::from_utf8_lossy(&answer)))
}

/// Reads an answer whose end is the connection's. A body in chunks is left as it is.
fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?.to_ascii_lowercase();
    let status = head.strip_prefix("http/1.1 ")?.get(..3)?.parse().ok()?;
    let body = answer.get(end + 4..)?.to_vec();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let whole = match field("content-length:") {
        Some(length) => length.parse() == Ok(body.len()),
        None => field("transfer-encoding:").is_none() || body.ends_with(b"0\r\n\r\n"),
    };
    Some(Answer { status, body, whole })
}

/// Uploads `body` in pieces with a pause after each. `vanish` closes the connection halfway; then
/// there is no status.
pub(crate) async fn upload_slowly(
    link: &str,
    body: &[u8],
    piece: usize,
    pause: Duration,
    vanish: bool,
) -> Result<Option<u16>> {
    let (mut socket, head) = begin("PUT", link, body.len() as u64).await?;
    let broken = |error: std::io::Error| format!("a slow upload broke: {error}");
    socket.write_all(head.as_bytes()).await.map_err(broken)?;
    let until = if vanish { body.len() / 2 } else { body.len().saturating_sub(piece) };
    for piece in body[..until].chunks(piece) {
        socket.write_all(piece).await.map_err(broken)?;
        tokio::time::sleep(pause).await;
    }
    if vanish {
        return Ok(None);
    }
    finish(socket, &body[until..]).await.map(|answer| Some(answer.status))
}

/// Reads so many pieces of an object, with a pause after each, and then closes the connection. The
/// answer must have begun, and go on for as long.
pub(crate) async fn download_slowly(
    link: &str,
    piece: usize,
    pause: Duration,
    pieces: usize,
) -> Result {
    let (mut socket, head) = begin("GET", link, 0).await?;
    let broken = |error: std::io::Error| format!("a slow download broke: {error}");
    socket.write_all(head.as_bytes()).await.map_err(broken)?;
    let mut buffer = vec![0; piece];
    for number in 0..pieces {
        let read = tokio::time::timeout(PATIENCE, socket.read_exact(&mut buffer)).await;
        read.map_err(|_| format!("no bytes within {PATIENCE:?}"))?.map_err(broken)?;
        if number == 0 && !buffer.starts_with(b"HTTP/1.1 200 ") {
            return Err(format!(
                "a slow download answered {:.200}",
                String::from_utf8_lossy(&buffer)
            ));
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_was_cut_off_is_not_whole() {
        let parse =
            |text: &str| parse(text.as_bytes()).map(|it| (it.status, it.body.len(), it.whole));
        assert_eq!(parse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Some((200, 3, true)));
        assert_eq!(parse("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"), Some((200, 2, false)));
        assert_eq!(parse("HTTP/1.1 204 No Content\r\nx: y\r\n\r\n"), Some((204, 0, true)));
        let chunked = "HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
        assert_eq!(parse(chunked), Some((503, 6, false)));
        assert_eq!(parse(&format!("{chunked}0\r\n\r\n")), Some((503, 11, true)));
        assert_eq!(parse("HTTP/1.1 200"), None);
    }
}
