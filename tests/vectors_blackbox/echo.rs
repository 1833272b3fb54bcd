//! Backends that answer with what they saw.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// An address that nobody listens on.
pub(crate) async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    listener.local_addr().expect("bound")
}

/// Listens on a free port. Requests may say what they want: `X-Echo-Status`, `X-Echo-Location`, and `X-Echo-Fail` with
/// a label or `all` for a connection that ends without an answer.
pub(crate) async fn start(address: Ipv4Addr, identity: String, label: String) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).await.expect("a loopback address");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (identity, label) = (identity.clone(), label.clone());
            tokio::spawn(async move {
                // A connection that ends early is part of what is tested.
                let _ended = serve(stream, address, &identity, &label).await;
            });
        }
    });
    address
}

async fn serve(stream: TcpStream, address: SocketAddr, identity: &str, label: &str) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some((method, target, headers)) = head(&mut stream).await? else { return Ok(()) };
        let header = |name: &str| {
            headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        if let Some(length) = header("content-length").and_then(|length| length.parse::<usize>().ok()) {
            stream.read_exact(&mut vec![0; length]).await?;
        } else if header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            skip_chunks(&mut stream).await?;
        }
        if header("x-echo-fail").is_some_and(|wanted| wanted == "all" || wanted == label) {
            return Ok(());
        }
        let status: u16 = header("x-echo-status").and_then(|status| status.parse().ok()).unwrap_or(200);
        let body =
            json!({"ident": identity, "method": method, "target": target, "headers": headers}).to_string();
        let mut answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-Echo-Ident: {identity}\r\n\
             X-Echo-Addr: {address}\r\n",
            body.len()
        );
        if let Some(location) = header("x-echo-location") {
            answer += &format!("Location: {location}\r\n");
        }
        answer += "\r\n";
        let mut answer = latin1(&answer);
        if method != "HEAD" {
            answer.extend(body.as_bytes());
        }
        stream.write_all(&answer).await?;
    }
}

/// Method, target and fields of the next request; bytes as Latin-1. `None` at the end of the connection.
async fn head(
    stream: &mut BufReader<TcpStream>,
) -> std::io::Result<Option<(String, String, Vec<(String, String)>)>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        let line: String = line.iter().map(|byte| char::from(*byte)).collect();
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut first = lines.first().map_or("", String::as_str).split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let target = first.next().unwrap_or_default().to_owned();
    let field =
        |line: &String| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
    Ok(Some((method, target, lines.iter().skip(1).filter_map(field).collect())))
}

async fn skip_chunks(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let size =
            line.trim().split(';').next().and_then(|size| usize::from_str_radix(size, 16).ok()).unwrap_or(0);
        stream.read_exact(&mut vec![0; size + 2]).await?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// One byte for each character.
pub(crate) fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}
