//! Lines as datagrams of syslog (RFC 3164), as nginx sends them: facility `local7`, tag `nginx`.
//!
//! UDP gives no answer, so a server that is gone costs lines; those that could not even be sent are counted. Only the
//! thread of a [`LineWriter`](super::LineWriter) uses this.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use crate::telemetry::access_log::Clock;

/// Facility `local7`.
const FACILITY: u8 = 23;
/// Bytes of one message; longer lines are cut.
const MAX_MESSAGE: usize = 60_000;
/// After a failure nothing is sent for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The way to a server.
#[derive(Debug)]
pub(super) struct Sender {
    server: Server,
    hostname: String,
    socket: Option<UdpSocket>,
    /// No try before.
    rest: Option<Instant>,
    clock: Clock,
}

impl Sender {
    pub(super) fn new(server: &Server) -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let hostname = hostname.trim().to_owned();
        Self { server: server.clone(), hostname, socket: None, rest: None, clock: Clock::system() }
    }

    /// Whom it sends to.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Sends each line; how many went out, and the failure after which the others did not.
    pub(super) fn send(&mut self, text: &[u8]) -> (u64, Option<io::Error>) {
        let (mut sent, mut failure) = (0, None);
        let stamp = self.clock.syslog(SystemTime::now()).to_owned();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if self.rest.is_some_and(|rest| Instant::now() < rest) {
                continue;
            }
            let message = message(&stamp, &self.hostname, line);
            match self.socket().and_then(|socket| socket.send(&message)) {
                Ok(_) => sent += 1,
                Err(error) => {
                    failure = Some(error);
                    // The name may lead elsewhere by now.
                    self.socket = None;
                    self.rest = Some(Instant::now() + PAUSE);
                }
            }
        }
        (sent, failure)
    }

    fn socket(&mut self) -> io::Result<&UdpSocket> {
        if self.socket.is_none() {
            self.socket = Some(connect(&self.server)?);
        }
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn connect(server: &Server) -> io::Result<UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (server.host.as_str(), server.port).to_socket_addrs()? {
        let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        match UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `<190>Jan  2 15:04:05 host nginx: line`.
fn message(stamp: &str, hostname: &str, line: &[u8]) -> Vec<u8> {
    let priority = FACILITY * 8 + severity(line);
    let mut message = format!("<{priority}>{stamp} {hostname} nginx: ").into_bytes();
    message.extend_from_slice(line.get(..MAX_MESSAGE).unwrap_or(line));
    message
}

/// The severity that a line of the diagnostic log names where it begins, in text or JSON; `info` for requests.
fn severity(line: &[u8]) -> u8 {
    const INFO: u8 = 6;
    const WORDS: [(&[u8], u8); 3] = [(b" ERROR ", 3), (b"  WARN ", 4), (b" DEBUG ", 7)];
    const KEYS: [(&[u8], u8); 3] =
        [(b"\"level\":\"ERROR\"", 3), (b"\"level\":\"WARN\"", 4), (b"\"level\":\"DEBUG\"", 7)];
    // A diagnostic line begins with its time and its level.
    let start = line.get(..72).unwrap_or(line);
    let named = |(word, _): &&(&[u8], u8)| memchr::memmem::find(start, word).is_some();
    let found = if line.starts_with(b"{\"timestamp\"") {
        KEYS.iter().find(named)
    } else {
        // 2026-01-02T15:04:05.123456Z, then the level.
        WORDS.iter().find(|(word, _)| line.get(27..).is_some_and(|rest| rest.starts_with(word)))
    };
    found.map_or(INFO, |(_, severity)| *severity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_nginx_sends() {
        let seen =
            |line: &str| String::from_utf8(message("Jan  2 15:04:05", "edge-1", line.as_bytes())).unwrap();
        assert_eq!(seen("GET /"), "<190>Jan  2 15:04:05 edge-1 nginx: GET /");
        for (line, priority) in [
            ("2026-01-02T15:04:05.123456Z ERROR narthex: x", "<187>"),
            ("2026-01-02T15:04:05.123456Z  WARN narthex: x", "<188>"),
            ("2026-01-02T15:04:05.123456Z  INFO narthex: x", "<190>"),
            ("2026-01-02T15:04:05.123456Z DEBUG narthex: x", "<191>"),
            (r#"{"timestamp":"2026-01-02T15:04:05Z","level":"ERROR","message":"x"}"#, "<187>"),
            ("10.0.0.1 - - [x] \"GET / ERROR HTTP/1.1\"", "<190>"),
            ("", "<190>"),
        ] {
            assert!(seen(line).starts_with(priority), "{line}");
        }
        assert!(message("", "", &vec![b'x'; 100_000]).len() < 65_000);
    }

    #[test]
    fn lines_reach_a_server_one_by_one_and_failures_are_counted() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let port = server.local_addr().unwrap().port();
        let mut sender = Sender::new(&Server { host: "127.0.0.1".into(), port });
        assert!(matches!(sender.send(b"one\ntwo\n"), (2, None)));
        let mut buffer = [0; 1000];
        for expect in ["nginx: one", "nginx: two"] {
            let length = server.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(text.starts_with("<190>") && text.ends_with(expect), "{text}");
        }
        let mut lost = Sender::new(&Server { host: "no such name".into(), port });
        assert!(matches!(lost.send(b"one\ntwo\n"), (0, Some(_))), "after a failure it rests");
    }
}
