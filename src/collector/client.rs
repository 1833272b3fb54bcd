//! One gRPC connection in clear text to a collector, and the one call made over it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// The method of the service.
const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// Why spans were not taken.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection is of no use any more.
    Connection(String),
    /// The collector said no.
    Refused(String),
}

/// A connection.
pub(super) struct Client {
    to: (Arc<str>, u16),
    sender: SendRequest<Full<Bytes>>,
}

/// A message as gRPC frames it: not compressed, with its length.
pub(super) fn framed(message: Vec<u8>) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(0);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

impl Client {
    /// Resolves and connects.
    pub(super) async fn connect(to: &(Arc<str>, u16)) -> Result<Self, String> {
        let (host, port) = to;
        let stream =
            TcpStream::connect((&**host, *port)).await.map_err(|error| format!("cannot connect: {error}"))?;
        let _slower = stream.set_nodelay(true);
        let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| format!("no HTTP/2: {error}"))?;
        tokio::spawn(async move {
            // Its end shows in the next call.
            let _ended = connection.await;
        });
        Ok(Self { to: to.clone(), sender })
    }

    /// True when it leads to this collector and still stands.
    pub(super) fn is_for(&self, to: &(Arc<str>, u16)) -> bool {
        self.to == *to && !self.sender.is_closed()
    }

    /// One call.
    pub(super) async fn export(&mut self, message: Bytes) -> Result<(), Failure> {
        let broken = |error: hyper::Error| Failure::Connection(error.to_string());
        self.sender.ready().await.map_err(broken)?;
        let (host, port) = &self.to;
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let request = Request::post(format!("http://{authority}{PATH}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(message))
            .map_err(|error| Failure::Refused(error.to_string()))?;
        let answer = self.sender.send_request(request).await.map_err(broken)?;
        let (head, body) = answer.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(Failure::Refused(format!("the collector answers {}", head.status)));
        }
        let read = Limited::new(body, MAX_ANSWER).collect().await;
        let read = read.map_err(|error| Failure::Connection(error.to_string()))?;
        // An answer without a body carries the status in its head.
        status(read.trailers().unwrap_or(&head.headers)).map_err(Failure::Refused)
    }
}

/// `grpc-status`.
fn status(fields: &HeaderMap) -> Result<(), String> {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "0" => Ok(()),
        "" => Err("the collector speaks no gRPC".into()),
        code => Err(format!("the collector answers with gRPC status {code} {}", text("grpc-message"))),
    }
}
