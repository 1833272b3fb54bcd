//! The client of a lane: bytes out as the case wants them, everything that comes back kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::{Travel, tls};

/// Inputs longer than this do not travel byte by byte: in pieces of [`PIECE`].
const FINE: usize = 16 * 1024;
const PIECE: usize = 97;

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// One connection.
pub(crate) struct Client {
    reader: ReadHalf<Box<dyn Io>>,
    writer: Option<WriteHalf<Box<dyn Io>>>,
    pub(crate) received: Vec<u8>,
    pub(crate) closed: bool,
}

impl Client {
    /// Connects; `protocol` is what TLS negotiates.
    pub(crate) async fn connect(port: u16, travel: Travel, protocol: &[u8]) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Io> = if travel == Travel::Tls {
            let name = ServerName::try_from("a.test").unwrap();
            Box::new(
                connector(protocol).connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?,
            )
        } else {
            Box::new(stream)
        };
        let (reader, writer) = tokio::io::split(stream);
        Ok(Self { reader, writer: Some(writer), received: Vec::new(), closed: false })
    }

    /// Sends while reading goes on; what the peer does not take is its choice.
    pub(crate) async fn send(&mut self, bytes: &[u8], travel: Travel) {
        let Some(mut writer) = self.writer.take() else { return };
        let piece = match travel {
            Travel::Bytes if bytes.len() <= FINE => 1,
            Travel::Bytes => PIECE,
            Travel::Write | Travel::Tls => 64 * 1024,
        };
        let bytes = bytes.to_vec();
        let mut sending = tokio::task::spawn_local(async move {
            for part in bytes.chunks(piece) {
                let sent = timeout(Duration::from_secs(3), writer.write_all(part)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
                if piece < FINE {
                    tokio::task::yield_now().await;
                }
            }
            let _flushed = timeout(Duration::from_secs(1), writer.flush()).await;
            writer
        });
        loop {
            let mut part = vec![0; 64 * 1024];
            tokio::select! {
                writer = &mut sending => {
                    self.writer = writer.ok();
                    return;
                }
                read = self.reader.read(&mut part), if !self.closed => self.take(read, &part),
            }
        }
    }

    fn take(&mut self, read: std::io::Result<usize>, part: &[u8]) {
        match read {
            Ok(0) | Err(_) => self.closed = true,
            Ok(count) => self.received.extend_from_slice(&part[..count]),
        }
    }

    /// Reads until `done` says so of everything received, or nothing came for `quiet`.
    pub(crate) async fn until(&mut self, quiet: Duration, mut done: impl FnMut(&[u8], bool) -> bool) {
        let mut last = Instant::now();
        while !done(&self.received, self.closed) && !self.closed {
            let mut part = vec![0; 64 * 1024];
            match timeout(quiet.saturating_sub(last.elapsed()), self.reader.read(&mut part)).await {
                Ok(read) => {
                    self.take(read, &part);
                    last = Instant::now();
                }
                Err(_) => return,
            }
        }
    }
}

/// One answer out of what was received.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// 0 for what is no HTTP answer.
    pub(crate) status: u16,
    fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) complete: bool,
    /// Interim answers before it.
    pub(crate) interim: usize,
    /// The head is cut.
    pub(crate) cut_head: bool,
}

impl Answer {
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| &value[..])
            .collect()
    }
}

/// Splits what a client received; `head_only` tells which answers are to HEAD.
pub(crate) fn answers(mut data: &[u8], closed: bool, head_only: &[bool]) -> Vec<Answer> {
    let (mut all, mut interim) = (Vec::new(), 0);
    while !data.is_empty() {
        let Some(end) = data.windows(4).position(|window| window == b"\r\n\r\n") else {
            all.push(Answer { cut_head: true, interim, ..Answer::default() });
            break;
        };
        let (head, rest) = (&data[..end], &data[end + 4..]);
        let text = crate::backend::latin1(head);
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 ")));
        let Some(status) = status.and_then(|status| status.get(..3)?.parse().ok()) else {
            all.push(Answer { body: data.to_vec(), interim, ..Answer::default() });
            break;
        };
        data = rest;
        if (100..200).contains(&status) && status != 101 {
            interim += 1;
            continue;
        }
        let pair = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().bytes().collect()))
        };
        let mut answer =
            Answer { status, fields: lines.filter_map(pair).collect(), interim, ..Answer::default() };
        interim = 0;
        let head_only = head_only.get(all.len()).copied().unwrap_or(false);
        data = take_body(&mut answer, data, closed, head_only);
        all.push(answer);
    }
    if interim > 0 {
        all.push(Answer { cut_head: true, interim, ..Answer::default() });
    }
    all
}

fn take_body<'d>(answer: &mut Answer, mut data: &'d [u8], closed: bool, head_only: bool) -> &'d [u8] {
    let length =
        answer.all("content-length").first().and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    if head_only || matches!(answer.status, 204 | 304) {
        answer.complete = true;
        return data;
    }
    if answer.all("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case(b"chunked")) {
        loop {
            let line = data.windows(2).position(|window| window == b"\r\n");
            let size =
                line.and_then(|end| usize::from_str_radix(std::str::from_utf8(&data[..end]).ok()?, 16).ok());
            let (Some(line), Some(size)) = (line, size) else { return &[] };
            data = &data[line + 2..];
            if size == 0 {
                // The trailer section ends with an empty line, at once or after its fields.
                let end = if data.starts_with(b"\r\n") {
                    Some(2)
                } else {
                    data.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
                };
                answer.complete = end.is_some();
                return end.map_or(&[], |end| &data[end..]);
            }
            answer.body.extend_from_slice(&data[..size.min(data.len())]);
            let Some(rest) = data.get(size + 2..) else { return &[] };
            data = rest;
        }
    }
    let Some(length) = length else {
        answer.body = data.to_vec();
        answer.complete = closed || answer.status == 101;
        return &[];
    };
    let taken: usize = data.len().min(length);
    answer.body = data[..taken].to_vec();
    answer.complete = taken == length;
    &data[taken..]
}

fn connector(protocol: &[u8]) -> TlsConnector {
    let mut config = tls::config(rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}
