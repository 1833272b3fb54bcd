//! One question to the admin port of a running instance. Plain HTTP, one exchange, a few seconds: no client library.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::inquiry::Inquiry;

const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
const MAX_ANSWER: u64 = 256 << 20;

/// Asks `/api/v1/explain`.
pub(super) fn explain(url: &str, inquiry: &Inquiry) -> Result<Value, String> {
    let mut query = format!("method={}&url={}", encoded(&inquiry.method), encoded(&inquiry.url));
    for (name, value) in &inquiry.fields {
        // Writing into a String cannot fail.
        let _ = write!(query, "&header={}", encoded(&format!("{name}: {value}")));
    }
    let _ = write!(query, "&client={}", encoded(&inquiry.client.to_string()));
    read(url, &format!("/api/v1/explain?{query}"))
}

/// Asks `/api/v1/{what}`.
pub(super) fn api(url: &str, what: &str) -> Result<Value, String> {
    read(url, &format!("/api/v1/{what}"))
}

fn read(url: &str, target: &str) -> Result<Value, String> {
    let (status, body) = exchange(url, target)?;
    let text = String::from_utf8_lossy(&body);
    if status != 200 {
        return Err(format!("{url} answers {status}: {}", text.trim()));
    }
    serde_json::from_str(&text).map_err(|_| format!("{url} does not answer as a narthex does"))
}

fn exchange(url: &str, target: &str) -> Result<(u16, Vec<u8>), String> {
    let authority = url
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .filter(|rest| !rest.is_empty() && !rest.contains(['/', '@', '?', '\r', '\n']))
        .ok_or("the URL of an admin port looks like http://127.0.0.1:10254")?;
    let failed = |error: std::io::Error| format!("cannot ask {url}: {error}");
    let port = if authority.ends_with(']') || !authority.contains(':') { ":80" } else { "" };
    let address = format!("{authority}{port}").to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| format!("{url} has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .map_err(failed)?;
    // With HTTP/1.0 the answer ends with the connection and is never chunked. The API answers under few names, and
    // under any address.
    let request = format!("GET {target} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(failed)?;
    parse(&answer).ok_or_else(|| format!("{url} does not answer as HTTP"))
}

fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let head = str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.get(end + 4..)?.to_vec()))
}

/// Percent-encoding of everything but unreserved characters (RFC 3986 section 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_question_is_asked_and_its_answer_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).unwrap();
            stream
                .write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"text\":\"here\"}")
                .unwrap();
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        let mut inquiry = Inquiry::new("GET", "https://a.example/x?y=1");
        inquiry.fields.push(("Cookie".into(), "a=b".into()));
        let answer = explain(&url, &inquiry).unwrap();
        assert_eq!(answer["text"], "here");
        let asked = server.join().unwrap();
        let target = "GET /api/v1/explain?method=GET&url=https%3A%2F%2Fa.example%2Fx%3Fy%3D1&header=Cookie%3A%20a%3Db&client=127.0.0.1 HTTP/1.0\r\n";
        assert!(asked.starts_with(target), "{asked}");
    }

    #[test]
    fn what_is_no_admin_port_is_told() {
        for url in ["https://x", "127.0.0.1:1", "http://", "http://a/b"] {
            let error = explain(url, &Inquiry::new("GET", "http://a/")).unwrap_err();
            assert!(error.contains("looks like"), "{url}: {error}");
        }
        assert_eq!(parse(b"HTTP/1.1 404 Not Found\r\n\r\nno"), Some((404, b"no".to_vec())));
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), None);
    }
}
