//! One accepted connection: PROXY header, TLS or clear text, HTTP/1 or HTTP/2; then the driver of that protocol.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use self::farewell::{Farewell, farewell};
use super::client_certificate::Judged;
use super::l4::passthrough;
use super::prefixed::Prefixed;
use super::presence::{Entry, Presence};
use super::worker::Worker;
use super::{http1, http2, respond, service};
use crate::limit::{Bodies, ClientConnection, Pressure};
use crate::listener::proxy_protocol::{self, Parse, ProxyHeader};
use crate::message::ResponseBody;
use crate::pipe::Socket;
use crate::policy::forwarded::{Connection, ProxyFacts};
use crate::request::Scheme;
use crate::telemetry::metrics::{Counter, Gauge};
use crate::upstream::suites::openssl_name;

mod farewell;

/// HTTP/2 connection preface (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of the first read of a TLS connection; a hello with a post-quantum key has some 1,800.
const HELLO: usize = 2048;
/// Bytes of records that wait for a socket: what one read from a backend brings goes out in one write. Such a read fills a
/// buffer of 256 KiB and what the allocator gives beside it.
const TLS_BUFFER: usize = 288 * 1024;

/// What is known about a connection for all its requests.
#[derive(Debug)]
pub struct ConnectionFacts {
    /// TCP peer.
    pub peer: SocketAddr,
    /// Addresses from an accepted PROXY header: source and destination.
    pub proxied: Option<(SocketAddr, SocketAddr)>,
    /// Clear or TLS.
    pub scheme: Scheme,
    /// Where the client connected (the listener's address).
    pub local: SocketAddr,
    /// Number of the connection in this process.
    pub number: u64,
    /// Requests so far.
    pub requests: Cell<u64>,
    /// TLS version and cipher suite as nginx names them, and SNI.
    pub tls: Option<TlsFacts>,
    /// Whether it idles, and whether it was asked to leave.
    pub presence: Rc<Presence>,
}

impl ConnectionFacts {
    /// The connection as the policies that judge trust see it.
    pub fn forwarded(&self) -> Connection {
        let proxy = self.proxied.map(|(source, destination)| ProxyFacts { source, destination });
        Connection { peer: self.peer, listen_port: self.local.port(), scheme: self.scheme, proxy }
    }

    /// Address of the client before fields are looked at.
    pub fn client(&self) -> IpAddr {
        self.proxied.map_or(self.peer, |(source, _)| source).ip()
    }

    /// Counts one more request and says its number, from 1.
    pub fn next_request(&self) -> u64 {
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }
}

/// Facts of a finished handshake.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: &'static str,
    /// Cipher suite, by OpenSSL's name.
    pub cipher: &'static str,
    /// Group of the key exchange, by OpenSSL's name.
    pub group: Option<&'static str>,
    /// What ALPN agreed on.
    pub alpn: Option<Box<[u8]>>,
    /// SNI as sent, lower case.
    pub server_name: Option<String>,
    /// It went on where an earlier one had ended.
    pub resumed: bool,
    /// The handshake asked for a client certificate.
    pub asked: bool,
    /// Certificates of the client, its own first; it has the key of that one. Not verified.
    pub client_chain: Vec<CertificateDer<'static>>,
    /// What the chain was last found to be worth.
    pub judged: RefCell<Option<Judged>>,
}

/// What drives a connection from its first request to its end.
type Driver = Pin<Box<dyn Future<Output = ()>>>;

/// Serves a connection of an http (`Scheme::Http`) or https listener to its end.
///
/// No `async fn`: the task of a connection that idles holds a pointer to the driver of its protocol and nothing of what
/// went before.
pub fn run(
    worker: Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    scheme: Scheme,
    local: SocketAddr,
) -> impl Future<Output = ()> {
    let begun = Box::pin(begin(worker, stream, peer, scheme, local));
    async move {
        if let Some((until_the_end, driver)) = begun.await {
            driver.await;
            drop(until_the_end);
        }
    }
}

/// What counts a connection for as long as it is open.
type Counted = (Entry, Option<ClientConnection>);

/// Everything before the first request: PROXY header, handshake, choice of the protocol. None: there will be none.
async fn begin(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    peer: SocketAddr,
    scheme: Scheme,
    local: SocketAddr,
) -> Option<(Counted, Driver)> {
    let snapshot = worker.reader.load();
    let (proxy_protocol, http2, limit, per_client) = {
        let globals = &snapshot.table.globals;
        let limit = globals.proxy_protocol_header_timeout;
        (globals.use_proxy_protocol, globals.use_http2, limit, globals.limits.per_client)
    };
    let passthrough = scheme == Scheme::Https && snapshot.table.passthrough;
    drop(snapshot);
    if worker.memory.pressure() >= Pressure::Critical {
        worker.metrics.rejected("memory");
        return None;
    }
    let number = worker.next_connection();
    let entry = worker.presences.enter(std::time::Instant::now(), local);
    let presence = Rc::clone(&entry.presence);
    let requests = Cell::new(0);
    let mut facts =
        ConnectionFacts { peer, proxied: None, scheme, local, number, requests, tls: None, presence };
    let mut ahead = Bytes::new();
    if proxy_protocol {
        match timeout(limit, read_proxy_header(&mut stream)).await {
            Ok(Ok((header, rest))) => {
                facts.proxied = header.addresses;
                ahead = rest;
            }
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "connection without a sound PROXY header");
                return None;
            }
            Err(_elapsed) => {
                tracing::debug!(%peer, "no PROXY header in time");
                return None;
            }
        }
    }
    let mut counted = None;
    if per_client > 0 {
        // Behind a PROXY header every peer is the load balancer.
        counted = worker.clients.connect(facts.client(), per_client);
        if counted.is_none() {
            worker.metrics.rejected("connections-per-client");
            return None;
        }
    }
    let until_the_end = (entry, counted);
    if passthrough {
        // Boxed: few processes have such hosts, and every connection would carry the room.
        match Box::pin(passthrough::intercept(&worker, stream, ahead, &facts)).await {
            Some((rest, read)) => (stream, ahead) = (rest, read),
            None => return None,
        }
    }
    let mut stream = Prefixed::new(ahead, stream);
    // Each phase lies in a box of its own, so a connection that idles holds the room of its own phase only.
    let driver: Driver = match scheme {
        Scheme::Http if !http2 => Box::pin(serve_http1(worker, stream, BytesMut::new(), facts)),
        Scheme::Http => {
            let (preface, ahead) = Box::pin(first_bytes(&worker, &mut stream, &facts)).await?;
            if preface {
                Box::pin(serve_http2(worker, Prefixed::new(ahead.freeze(), stream), facts))
            } else {
                Box::pin(serve_http1(worker, stream, ahead, facts))
            }
        }
        Scheme::Https => {
            let stream = Box::pin(tls(&worker, stream, &mut facts)).await?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                Box::pin(serve_http2(worker, stream, facts))
            } else {
                Box::pin(serve_http1(worker, stream, BytesMut::new(), facts))
            }
        }
    };
    Some((until_the_end, driver))
}

/// Reads a PROXY header; what was read behind it comes with it.
pub(super) async fn read_proxy_header(stream: &mut TcpStream) -> io::Result<(ProxyHeader, Bytes)> {
    let mut bytes = BytesMut::with_capacity(256);
    loop {
        match proxy_protocol::parse(&bytes) {
            Parse::Done(length, header) => {
                let rest = bytes.split_off(length).freeze();
                return Ok((header, rest));
            }
            Parse::Bad => return Err(io::Error::new(io::ErrorKind::InvalidData, "not a PROXY header")),
            Parse::Need(_) if stream.read_buf(&mut bytes).await? == 0 => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Parse::Need(_) => {}
        }
    }
}

/// What a client says first in clear text, and whether it is the HTTP/2 preface. None: it went, or said nothing in time.
async fn first_bytes<IO: AsyncRead + Unpin>(
    worker: &Worker,
    stream: &mut IO,
    facts: &ConnectionFacts,
) -> Option<(bool, BytesMut)> {
    let first = tokio::select! {
        biased;
        first = timeout(worker.first_byte(), read_preface(stream)) => first,
        () = farewell(worker, facts) => return None,
    };
    first.ok()?.ok()
}

/// Reads until the bytes are the HTTP/2 preface or cannot become it. The end of the stream before any byte is an error.
async fn read_preface<IO: AsyncRead + Unpin>(stream: &mut IO) -> io::Result<(bool, BytesMut)> {
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(4096);
        let read = stream.read_buf(&mut bytes).await?;
        let known = bytes.len().min(PREFACE.len());
        let same = bytes.get(..known) == PREFACE.get(..known);
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !same || known == PREFACE.len() || read == 0 {
            return Ok((same && known == PREFACE.len(), bytes));
        }
    }
}

/// A connection whose handshake is done. Boxed: TLS state is large, and moved often.
type Secured = Box<tokio_rustls::server::TlsStream<Prefixed<Prefixed<TcpStream>>>>;

/// What it carries is not what its socket carries.
impl Socket for Secured {}

/// The handshake. None: there was none, and the client has been told where that is possible.
async fn tls(
    worker: &Worker,
    mut stream: Prefixed<TcpStream>,
    facts: &mut ConnectionFacts,
) -> Option<Secured> {
    let (limit, at_once) = {
        let limits = &worker.reader.load().table.globals.limits;
        (Instant::now() + limits.handshake_timeout, limits.handshakes)
    };
    let begun = tokio::select! {
        biased;
        begun = timeout_at(limit, first_read(&mut stream)) => begun,
        () = farewell(worker, facts) => return None,
    };
    let first = begun.ok()?.ok()?;
    let is_handshake = match first.first() {
        None => return None,
        // RFC 8446 section 5.1: a handshake record starts with 22, one of SSLv2 with its highest bit. Anything else is
        // HTTP on the TLS port. As nginx.
        Some(kind) => *kind == 22 || kind & 0x80 != 0,
    };
    let mut stream = Prefixed::new(first, stream);
    if !is_handshake {
        worker.metrics.count(Counter::TlsErrors);
        plain_http_on_tls(&mut stream).await;
        return None;
    }
    let place = async {
        worker.handshakes.turn().await;
        worker.handshakes.enter(at_once).await
    };
    let Ok(Some(turn)) = timeout_at(limit, place).await else {
        worker.metrics.rejected("handshakes");
        return None;
    };
    let handshake = worker.metrics.hold(Gauge::TlsHandshakes);
    let ended = tokio::select! {
        biased;
        ended = timeout_at(limit, Box::pin(accept(worker, stream))) => ended,
        () = turn.lost() => {
            worker.metrics.rejected("handshakes");
            return None;
        }
    };
    let (stream, asked) = match ended {
        Ok(Ok((stream, asked))) => (Box::new(stream), asked),
        Ok(Err(error)) => {
            worker.metrics.count(Counter::TlsErrors);
            tracing::debug!(peer = %facts.peer, %error, "TLS handshake failed");
            return None;
        }
        Err(_elapsed) => {
            worker.metrics.count(Counter::TlsErrors);
            tracing::debug!(peer = %facts.peer, "TLS handshake took too long");
            return None;
        }
    };
    drop((handshake, turn));
    let (_, session) = stream.get_ref();
    worker.metrics.count(Counter::TlsHandshakes);
    if session.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        worker.metrics.count(Counter::TlsResumed);
    }
    facts.tls = Some(tls_facts(session, asked));
    let mut stream = stream;
    if worker.memory.bodies() == Bodies::Plenty {
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
    }
    Some(stream)
}

/// What a client says first, usually all of its hello; nothing at the end of the stream. The room lies on the stack: a
/// client that says nothing holds none.
async fn first_read<IO: AsyncRead + Unpin>(stream: &mut IO) -> io::Result<Bytes> {
    std::future::poll_fn(|cx| {
        let mut space = [MaybeUninit::<u8>::uninit(); HELLO];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(read.filled())))
    })
    .await
}

/// Takes the handshake with the configuration of the host that the client names, and says whether it asks for a client
/// certificate.
async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
    worker: &Worker,
    stream: IO,
) -> io::Result<(tokio_rustls::server::TlsStream<IO>, bool)> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let (config, asked) = {
        let snapshot = worker.reader.load();
        match worker.client_groups.config(&snapshot.table, start.client_hello().server_name()) {
            Some(own) => own,
            None => (worker.tls.of(&snapshot.table.globals), false),
        }
    };
    Ok((start.into_stream(config).await?, asked))
}

fn tls_facts(session: &rustls::ServerConnection, asked: bool) -> TlsFacts {
    let is_old = session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2);
    TlsFacts {
        protocol: if is_old { "TLSv1.2" } else { "TLSv1.3" },
        cipher: session.negotiated_cipher_suite().map_or("", |suite| openssl_name(suite.suite())),
        group: session
            .negotiated_key_exchange_group()
            .and_then(|group| super::tls_variables::group_name(group.name())),
        alpn: session.alpn_protocol().map(Box::from),
        server_name: session.server_name().map(str::to_ascii_lowercase),
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        asked,
        client_chain: session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect(),
        judged: RefCell::new(None),
    }
}

/// nginx's answer 400 to clear HTTP on the TLS port, then the end.
async fn plain_http_on_tls<IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut IO) {
    let page = respond::page(StatusCode::BAD_REQUEST, respond::Asker::default());
    let text = match page.body {
        ResponseBody::Full(bytes) => bytes,
        ResponseBody::Empty | ResponseBody::Stream(_) => Bytes::new(),
    };
    let text = String::from_utf8_lossy(&text)
        .replace("<hr>", "<center>The plain HTTP request was sent to HTTPS port</center>\r\n<hr>");
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    let answer = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        // What the client still sends is read for a moment, so that a reset does not take the answer away.
        let mut sink = [0; 1024];
        for _ in 0..64 {
            if stream.read(&mut sink).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    let _gone = timeout(Duration::from_secs(2), answer).await;
}

async fn serve_http2<IO>(worker: Rc<Worker>, stream: IO, facts: ConnectionFacts)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let options = worker.http2_options();
    let facts = Rc::new(facts);
    let farewell = Farewell::new(Rc::clone(&worker), Rc::clone(&facts));
    let asked = Rc::clone(&worker);
    // Boxed: hyper moves the future several times before it rests.
    let handler = move |request| {
        // The room first: the future is large, and so it is made where it stays.
        let room = Box::new_uninit();
        Box::into_pin(Box::write(room, service::handle(Rc::clone(&asked), Rc::clone(&facts), request)))
    };
    if let Some(flood) = http2::serve(stream, handler, &options, farewell).await {
        worker.metrics.rejected(flood.word());
        tracing::debug!(%flood, "connection closed");
    }
}

/// No `async fn`, which would keep room for `facts` beside where they are shared.
fn serve_http1<IO>(
    worker: Rc<Worker>,
    stream: IO,
    ahead: BytesMut,
    facts: ConnectionFacts,
) -> impl Future<Output = ()>
where
    IO: AsyncRead + AsyncWrite + Socket + Unpin + 'static,
{
    let options = worker.http1_options();
    let facts = Rc::new(facts);
    let (heard, of) = (Rc::clone(&worker), Rc::clone(&facts));
    let (asked, told) = (Rc::clone(&worker), Rc::clone(&facts));
    // The driver boxes it, so a connection that idles carries no room for a request.
    let handler = move |request| service::handle(Rc::clone(&asked), Rc::clone(&told), request);
    let rejected = move |rejection: &http1::Rejection<'_>| heard.rejected(&of, rejection);
    let farewell = Farewell::new(worker, facts);
    async move { http1::serve(stream, ahead, &options, handler, farewell, rejected).await }
}

#[cfg(test)]
mod tests;
