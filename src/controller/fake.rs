//! An API server that says what a test tells it to, over real connections on loopback: each request is a [`Call`] that the
//! test answers, or leaves open, or drops.

use std::time::Duration;

use kube::{Client, Config};
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// Only a failing test waits so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The server.
pub(super) struct FakeApi {
    pub(super) client: Client,
    calls: UnboundedReceiver<Call>,
}

/// A request that waits for its answer. Dropping it cuts the connection.
pub(super) struct Call {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) body: Json,
    socket: TcpStream,
}

/// An answer that goes on.
pub(super) struct Stream(TcpStream);

impl FakeApi {
    pub(super) async fn start() -> Self {
        let _installed_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (sender, calls) = unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(read(socket, sender.clone()));
            }
        });
        let mut config = Config::new(url);
        config.default_retry = false;
        Self { client: Client::try_from(config).unwrap(), calls }
    }

    /// The next request.
    pub(super) async fn call(&mut self) -> Call {
        timeout(PATIENCE, self.calls.recv()).await.expect("a request").expect("the server runs")
    }

    /// The next request, which must be this one: method, and parts of the target.
    pub(super) async fn expect(&mut self, method: &str, parts: &[&str]) -> Call {
        let call = self.call().await;
        assert_eq!(call.method, method, "{}", call.target);
        assert!(parts.iter().all(|part| call.target.contains(part)), "{parts:?} in {}", call.target);
        call
    }
}

async fn read(mut socket: TcpStream, calls: UnboundedSender<Call>) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let Ok(count) = socket.read_buf(&mut bytes).await else { return };
        if count == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let mut words = head.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, target) = (word(), word());
    let body = serde_json::from_str(&body).unwrap_or_default();
    drop(calls.send(Call { method, target, body, socket }));
}

impl Call {
    /// Answers, and closes.
    pub(super) async fn reply(mut self, status: u16, body: &Json) {
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _gone = self.socket.write_all(format!("{head}{body}").as_bytes()).await;
    }

    /// Refuses as an API server does.
    pub(super) async fn refuse(self, code: u16, reason: &str) {
        let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": reason, "message": reason});
        self.reply(code, &body).await;
    }

    /// Begins an answer without an end.
    pub(super) async fn stream(mut self) -> Stream {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        let _gone = self.socket.write_all(head.as_bytes()).await;
        Stream(self.socket)
    }
}

impl Stream {
    /// Sends one event.
    pub(super) async fn event(&mut self, kind: &str, object: Json) {
        let line = format!("{}\n", serde_json::json!({"type": kind, "object": object}));
        self.0.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.unwrap();
    }

    /// Sends one event to a client that may be gone.
    pub(super) async fn try_event(&mut self, kind: &str, object: Json) {
        let line = format!("{}\n", serde_json::json!({"type": kind, "object": object}));
        self.raw(line.as_bytes()).await;
    }

    /// Sends bytes, whole events or not, to a client that may be gone.
    pub(super) async fn raw(&mut self, bytes: &[u8]) {
        let head = format!("{:x}\r\n", bytes.len());
        let _gone = self.0.write_all(&[head.as_bytes(), bytes, b"\r\n"].concat()).await;
    }

    /// Ends the answer as a server does when a watch has lasted long enough.
    pub(super) async fn end(mut self) {
        let _gone = self.0.write_all(b"0\r\n\r\n").await;
    }
}
