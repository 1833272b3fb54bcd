//! One question to a responder: POST over clear HTTP, no redirects, bounded answer.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::cert::ocsp::MAX_ANSWER;

/// Sends `body` and gives the answer's. `permitted` judges each address that the name resolves to.
pub(super) async fn post(
    url: &str,
    body: &[u8],
    permitted: impl Fn(SocketAddr) -> Result<(), &'static str>,
) -> Result<Vec<u8>, String> {
    let uri: Uri = url.parse().map_err(|_| "the responder has no URL".to_owned())?;
    let host = uri.host().ok_or("the responder has no host")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(80);
    let resolved = tokio::net::lookup_host((bare, port)).await;
    let resolved = resolved.map_err(|error| format!("the responder cannot be found: {error}"))?;
    let mut refused = "the responder has no address";
    let judged =
        resolved.filter(|address| permitted(*address).inspect_err(|reason| refused = reason).is_ok());
    let addresses: Vec<SocketAddr> = judged.collect();
    if addresses.is_empty() {
        return Err(format!("the responder may not be asked: {refused}"));
    }
    let words = |error: hyper::Error| format!("the responder fails: {error}");
    let stream = TcpStream::connect(&*addresses).await.map_err(|error| format!("cannot connect: {error}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let connection = tokio::spawn(connection);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let request = Request::post(target)
        .header("host", authority.rsplit('@').next().unwrap_or(host))
        .header("content-type", "application/ocsp-request")
        .header("accept", "application/ocsp-response")
        .header("connection", "close")
        .body(Full::new(Bytes::copy_from_slice(body)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(words)?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("the responder answers {}", answer.status()));
    }
    let read = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let bytes = read.map_err(|error| format!("the answer cannot be read: {error}"))?.to_bytes();
    connection.abort();
    Ok(bytes.to_vec())
}
