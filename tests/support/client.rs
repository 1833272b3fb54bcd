//! A raw HTTP/1 client: bytes out, bytes in, nothing hidden.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One connection.
pub struct Raw {
    /// The socket.
    pub stream: TcpStream,
    ahead: Vec<u8>,
}

/// One parsed answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Field lines in order, names as sent.
    pub fields: Vec<(String, String)>,
    /// Body without framing.
    pub body: Vec<u8>,
    /// Trailer lines of a chunked body.
    pub trailers: Vec<(String, String)>,
    /// False when the body ended before its end.
    pub whole: bool,
}

impl Answer {
    /// First value of a field, name in any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All values of a field, name in any case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Raw {
    /// Connects; reads and writes give up after ten seconds.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("connected"))
    }

    /// The same over a connection that stands.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout set");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("timeout set");
        stream.set_nodelay(true).expect("nodelay set");
        Self { stream, ahead: Vec::new() }
    }

    /// Writes bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("written");
        self
    }

    /// Reads one answer to a request that was not HEAD.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET").expect("an answer")
    }

    /// Reads one final answer to `method`; `None` when the connection ended before a whole head.
    pub fn answer_to(&mut self, method: &str) -> Option<Answer> {
        loop {
            let head = self.until(b"\r\n\r\n")?;
            let text = String::from_utf8_lossy(&head).into_owned();
            let mut lines = text.split("\r\n");
            let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
            let fields: Vec<(String, String)> = lines.filter_map(pair).collect();
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let mut answer = Answer { status, fields, body: Vec::new(), trailers: Vec::new(), whole: true };
            if method != "HEAD" && !matches!(status, 101 | 204 | 304) {
                self.body(&mut answer);
            }
            return Some(answer);
        }
    }

    /// True when the peer closed and nothing more came; false when it said nothing for as long as reads wait.
    pub fn is_closed(&mut self) -> bool {
        let silent = |error: &Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        self.ahead.is_empty()
            && match self.stream.read(&mut [0; 1]) {
                Ok(read) => read == 0,
                Err(error) => !silent(&error),
            }
    }

    /// Reads exactly this many bytes.
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.ahead.len() < length {
            assert!(self.fill() > 0, "the connection ended early");
        }
        self.ahead.drain(..length).collect()
    }

    /// Waits until this many bytes have come, and leaves them.
    pub fn peek(&mut self, length: usize) -> &[u8] {
        while self.ahead.len() < length {
            assert!(self.fill() > 0, "the connection ended early");
        }
        &self.ahead[..length]
    }

    /// Reads to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.ahead)
    }

    fn body(&mut self, answer: &mut Answer) {
        let chunked =
            answer.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = answer.field("content-length").and_then(|value| value.parse::<usize>().ok());
        if chunked {
            answer.whole = self.chunks(answer).is_some();
        } else if let Some(length) = length {
            while self.ahead.len() < length && self.fill() > 0 {}
            answer.whole = self.ahead.len() >= length;
            let take = length.min(self.ahead.len());
            answer.body = self.ahead.drain(..take).collect();
        } else {
            answer.body = self.rest();
        }
    }

    fn chunks(&mut self, answer: &mut Answer) -> Option<()> {
        loop {
            let line = self.until(b"\r\n")?;
            let size =
                usize::from_str_radix(String::from_utf8_lossy(&line).split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                break;
            }
            while self.ahead.len() < size + 2 {
                if self.fill() == 0 {
                    answer.body.append(&mut self.ahead);
                    return None;
                }
            }
            answer.body.extend(self.ahead.drain(..size));
            self.ahead.drain(..2);
        }
        loop {
            let line = self.until(b"\r\n")?;
            if line.is_empty() {
                return Some(());
            }
            answer.trailers.extend(pair(&String::from_utf8_lossy(&line)));
        }
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end) {
                let found = self.ahead.drain(..at).collect();
                self.ahead.drain(..end.len());
                return Some(found);
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    fn fill(&mut self) -> usize {
        let mut part = [0; 16 * 1024];
        let read = self.stream.read(&mut part).unwrap_or(0);
        self.ahead.extend_from_slice(&part[..read]);
        read
    }
}

fn pair(line: &str) -> Option<(String, String)> {
    line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
}

/// One GET over a connection of its own.
pub fn get(address: SocketAddr, host: &str, target: &str) -> Answer {
    let mut raw = Raw::connect(address);
    raw.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    raw.answer()
}
