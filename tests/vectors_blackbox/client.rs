//! A client that sends exactly what a vector says and takes what comes.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::parse_x509_certificate;

use crate::echo::latin1;
use crate::process::Started;
use crate::tls;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) certificate: Option<String>,
}

impl Answer {
    /// Values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// First value of a field.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// The request of a vector, as often as it says.
pub(crate) async fn repeat(request: &Value, started: &Started) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    for _ in 0..request["repeat"].as_u64().unwrap_or(1) {
        let answer = if request["scheme"] == "https" {
            ask_tls(request, started.ports.https).await?
        } else {
            ask(request, started.ports.http).await?
        };
        answers.push(answer);
    }
    Ok(answers)
}

/// One request on a connection of its own, in clear.
pub(crate) async fn ask(request: &Value, port: u16) -> Result<Answer, String> {
    let stream = connect(request, port).await?;
    exchange(stream, request).await
}

async fn ask_tls(request: &Value, port: u16) -> Result<Answer, String> {
    let stream = connect(request, port).await?;
    let host = request["host"].as_str().and_then(|host| host.split(':').next());
    let sni = request.get("sni").map_or(host, Value::as_str).filter(|name| !name.is_empty());
    let name =
        ServerName::try_from(sni.unwrap_or("unnamed").to_owned()).map_err(|error| error.to_string())?;
    let handshake = connector(sni.is_some()).connect(name, stream);
    let stream =
        timeout(PATIENCE, handshake).await.map_err(|_| "no TLS in time")?.map_err(|e| format!("TLS: {e}"))?;
    let certificate =
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(common_name);
    Ok(Answer { certificate, ..exchange(stream, request).await? })
}

async fn connect(request: &Value, port: u16) -> Result<TcpStream, String> {
    let stream = timeout(PATIENCE, TcpStream::connect(("127.0.0.1", port))).await;
    let mut stream =
        stream.map_err(|_| "no connection in time")?.map_err(|error| format!("connect: {error}"))?;
    if let Some(line) = request["proxy_protocol_line"].as_str() {
        stream.write_all(format!("{line}\r\n").as_bytes()).await.map_err(|error| error.to_string())?;
    }
    Ok(stream)
}

/// The bytes of a request. Names, values and paths are UTF-8; `raw` is one byte for each character.
fn bytes(request: &Value) -> Vec<u8> {
    if let Some(raw) = request["raw"].as_str() {
        return latin1(raw);
    }
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let mut out = format!("{} {} HTTP/1.1\r\n", text("method"), text("path"));
    if let Some(host) = request["host"].as_str() {
        out += &format!("Host: {host}\r\n");
    }
    let mut names = Vec::new();
    for field in request["headers"].as_array().into_iter().flatten() {
        let (name, value) = (field[0].as_str().unwrap_or_default(), field[1].as_str().unwrap_or_default());
        out += &format!("{name}: {value}\r\n");
        names.push(name.to_lowercase());
    }
    let given = |name: &str| names.iter().any(|given| given == name);
    let body = text("body");
    if !given("user-agent") {
        out += "User-Agent: vectors\r\n";
    }
    let framed = given("content-length") || given("transfer-encoding");
    if !framed && (!body.is_empty() || ["POST", "PUT", "PATCH"].contains(&text("method"))) {
        out += &format!("Content-Length: {}\r\n", body.len());
    }
    if !given("connection") {
        out += "Connection: close\r\n";
    }
    (out + "\r\n" + body).into_bytes()
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &Value,
) -> Result<Answer, String> {
    // A proxy that refuses may close before it has read everything; what it said counts.
    let sent = stream.write_all(&bytes(request)).await;
    let mut received = Vec::new();
    let head_only = request["method"] == "HEAD";
    let reading = async {
        let mut buffer = vec![0; 65536];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => received.extend(&buffer[..count]),
            }
            if parse(&received, head_only).is_some_and(|(_, complete)| complete) {
                return;
            }
        }
    };
    let in_time = timeout(PATIENCE, reading).await.is_ok();
    match parse(&received, head_only) {
        Some((answer, complete)) if complete || in_time => Ok(answer),
        _ => Err(format!("no answer: {} bytes, sent {sent:?}, ended {in_time}", received.len())),
    }
}

/// The first final answer in `received`, and whether it is all there (else it lasts until the connection ends).
fn parse(mut received: &[u8], head_only: bool) -> Option<(Answer, bool)> {
    loop {
        let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        let body = &received[end + 4..];
        let mut lines = head.split("\r\n");
        let status: u64 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        if (100..200).contains(&status) && status != 101 {
            received = body;
            continue;
        }
        let field =
            |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
        let answer = Answer { status, headers: lines.filter_map(field).collect(), ..Answer::default() };
        if head_only || status == 204 || status == 304 {
            return Some((answer, true));
        }
        if answer.first("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            let (body, complete) = unchunk(body);
            return Some((Answer { body, ..answer }, complete));
        }
        let length = answer.first("content-length").and_then(|length| length.parse::<usize>().ok());
        let complete = length.is_some_and(|length| body.len() >= length);
        return Some((Answer { body: body.to_vec(), ..answer }, complete));
    }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size =
            std::str::from_utf8(&rest[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size else { break };
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else { break };
        body.extend(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    (body, false)
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
}

fn connector(sni: bool) -> TlsConnector {
    let mut config = tls::config(rustls::ALL_VERSIONS);
    config.enable_sni = sni;
    TlsConnector::from(Arc::new(config))
}

#[test]
fn an_answer_is_complete_when_its_framing_says_so() {
    let complete =
        |bytes: &[u8], head_only| parse(bytes, head_only).map(|(answer, complete)| (answer.body, complete));
    for (bytes, expect) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], Some((b"ok".to_vec(), true))),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Some((b"ok".to_vec(), false))),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Some((b"ok".to_vec(), true)),
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Some((b"ok".to_vec(), false))),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", Some((Vec::new(), true))),
        (b"HTTP/1.1 200 OK\r\n", None),
    ] {
        assert_eq!(complete(bytes, false), expect, "{:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(complete(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true), Some((Vec::new(), true)));
}
