//! Backends on loopback: an echo, and scripts that own the bytes.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A listening backend; its thread ends with it.
pub struct Backend {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    /// Heads and bodies as received, in order, over all connections.
    pub received: Arc<Mutex<Vec<Received>>>,
}

/// One request as a backend saw it.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// Request line.
    pub line: String,
    /// Field lines as they came.
    pub fields: Vec<(String, String)>,
    /// Body without framing.
    pub body: Vec<u8>,
}

impl Received {
    /// First value of a field, name in any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Backend {
    /// Answers every request with 200, its own name as `X-Backend` and the request line as body.
    pub fn echo(name: &'static str) -> Self {
        Self::answering(move |request| {
            let body = if request.body.is_empty() {
                request.line.clone().into_bytes()
            } else {
                request.body.clone()
            };
            let mut answer =
                format!("HTTP/1.1 200 OK\r\nX-Backend: {name}\r\nContent-Length: {}\r\n\r\n", body.len())
                    .into_bytes();
            if !request.line.starts_with("HEAD ") {
                answer.extend(body);
            }
            answer
        })
    }

    /// Answers each parsed request with these bytes and keeps the connection.
    pub fn answering(answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        let mut backend = Self::script(move |stream, _| {
            let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
            let mut writer = stream;
            while let Some(request) = read_request(&mut reader) {
                let bytes = answer(&request);
                log.lock().expect("not poisoned").push(request);
                if writer.write_all(&bytes).is_err() {
                    return;
                }
            }
        });
        backend.received = received;
        backend
    }

    /// Hands each accepted connection, with its number from 0, to a script on a thread of its own.
    pub fn script(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let serve = Arc::new(serve);
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&accepted));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
                let _ = stream.set_nodelay(true);
                let number = count.fetch_add(1, Ordering::Relaxed);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream, number));
            }
        });
        Self { address, stop, accepted, received: Arc::default() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Requests received so far.
    pub fn requests(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Reads one request with its body; `None` at the end of the connection or of sense.
pub fn read_request(reader: &mut impl BufRead) -> Option<Received> {
    let mut request = Received { line: line(reader)?, ..Received::default() };
    loop {
        let text = line(reader)?;
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':')?;
        request.fields.push((name.to_owned(), value.trim().to_owned()));
    }
    if let Some(length) = request.field("content-length").and_then(|value| value.parse::<usize>().ok()) {
        request.body = vec![0; length];
        reader.read_exact(&mut request.body).ok()?;
    } else if request.field("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(line(reader)?.split(';').next()?.trim(), 16).ok()?;
            let mut part = vec![0; size];
            reader.read_exact(&mut part).ok()?;
            request.body.extend(part);
            if size == 0 {
                while !line(reader)?.is_empty() {}
                break;
            }
            line(reader)?;
        }
    }
    Some(request)
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut text = Vec::new();
    reader.read_until(b'\n', &mut text).ok()?;
    if text.pop()? != b'\n' {
        return None;
    }
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    String::from_utf8(text).ok()
}

/// An address on loopback where nobody listens.
pub fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address")
}
