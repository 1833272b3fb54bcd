//! Scripted backends on loopback sockets, and the tests of the whole path through [`Upstreams`].

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::resolve::{NameServers, Resolver};
use super::*;
use crate::message::{BodyError, Flow, LocalBody};
use crate::policy::global::UpstreamKeepalive;
use crate::policy::timeout::Timeouts;

mod faults;
mod pooling;
mod tls;

/// Runs a test as a worker would; a test that hangs fails.
pub(super) fn local<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(Duration::from_secs(60), future).await };
    tokio::task::LocalSet::new().block_on(&runtime, bounded).expect("the test hangs")
}

/// One accepted connection of a scripted backend.
pub(super) struct Conn {
    pub(super) stream: TcpStream,
}

impl Conn {
    /// Reads up to and with the empty line.
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(head).unwrap()
    }

    pub(super) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // The proxy may be gone by now; tests that care look at what it got.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Closes with RST.
    pub(super) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// True when the proxy closed or reset.
    pub(super) async fn closed(&mut self) -> bool {
        loop {
            match self.stream.read(&mut [0; 4096]).await {
                Ok(0) | Err(_) => return true,
                Ok(_) => {}
            }
        }
    }
}

/// A backend that runs a script per connection; the script gets the connection's number, from 0.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    pub(super) accepted: Rc<Cell<usize>>,
}

pub(super) async fn serve<F, Fut>(script: F) -> Scripted
where
    F: Fn(usize, Conn) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Rc::new(Cell::new(0));
    let count = Rc::clone(&accepted);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = count.replace(count.get() + 1);
            tokio::task::spawn_local(script(number, Conn { stream }));
        }
    });
    Scripted { address, accepted }
}

pub(super) const KEEPALIVE: UpstreamKeepalive = UpstreamKeepalive {
    connections: 320,
    time: Duration::from_secs(3600),
    timeout: Duration::from_secs(60),
    requests: 10_000,
};

pub(super) const PATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    send: Duration::from_secs(60),
    read: Duration::from_secs(60),
};

pub(super) const HASTY: Timeouts = Timeouts {
    connect: Duration::from_millis(150),
    send: Duration::from_millis(150),
    read: Duration::from_millis(150),
};

pub(super) fn settings() -> Settings {
    Settings {
        keepalive: KEEPALIVE,
        name_servers: NameServers::Listed(Vec::new()),
        address_rule: Rc::new(|_| true),
        passive_health: true,
        workers: 1,
        endpoint_connections: 1024,
        rng: Rng::new(1),
        memory: crate::limit::Memory::new(None),
    }
}

pub(super) fn upstreams() -> Upstreams {
    Upstreams::with_resolver(settings(), Resolver::with_lookup(|_| Box::pin(async { None })))
}

pub(super) fn clear(address: SocketAddr) -> Peer {
    Peer { address, protocol: Protocol::Http1, kept: None, tls: None }
}

pub(super) fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in lines {
        fields.append(name, value.as_bytes()).unwrap();
    }
    fields
}

/// One request, all parts settable.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) fields: Fields,
    pub(super) framing: Framing,
    pub(super) body: RequestBody,
    pub(super) version: HttpVersion,
    pub(super) upgrade: bool,
    pub(super) timeouts: Timeouts,
    pub(super) reuse: Reuse,
    pub(super) peer: &'a Peer,
    pub(super) times: Rc<UpstreamTimes>,
}

impl<'a> Ask<'a> {
    pub(super) fn get(peer: &'a Peer) -> Self {
        Self {
            method: Method::GET,
            fields: fields(&[("Host", "a.test")]),
            framing: Framing::None,
            body: RequestBody::Empty,
            version: HttpVersion::Http11,
            upgrade: false,
            timeouts: PATIENT,
            reuse: Reuse::Allow,
            peer,
            times: Rc::default(),
        }
    }

    pub(super) fn post(peer: &'a Peer, framing: Framing, body: RequestBody) -> Self {
        Self { method: Method::POST, framing, body, ..Self::get(peer) }
    }

    pub(super) async fn send(self, upstreams: &Upstreams) -> Result<Answer, Failed> {
        let request = UpstreamRequest {
            method: &self.method,
            target: b"/path?q=1",
            fields: &self.fields,
            framing: self.framing,
            version: self.version,
            upgrade: self.upgrade,
            trailers: false,
            head_bytes: None,
            among_many: false,
        };
        upstreams.exchange(self.peer, &request, self.body, &self.timeouts, self.reuse, &self.times).await
    }
}

/// All of a body: data, trailers, and the error that cut it.
pub(super) async fn read(content: Content) -> (Vec<u8>, Option<HeaderMap>, Option<BodyError>) {
    let Content::Body(mut body) = content else { panic!("a tunnel, not a body") };
    let (mut data, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(piece)) => data.extend_from_slice(&piece),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(error) => return (data, trailers, Some(error)),
        }
    }
    (data, trailers, None)
}

/// A streamed body of `pieces`, each after a turn of the event loop, then `last`.
pub(super) fn stream_of(pieces: Vec<Bytes>, last: Option<Result<Frame<Bytes>, BodyError>>) -> RequestBody {
    struct Pieces {
        frames: std::vec::IntoIter<Result<Frame<Bytes>, BodyError>>,
        pause: bool,
    }
    impl Flow for Pieces {}

    impl Body for Pieces {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            self.pause = !self.pause;
            if self.pause {
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(self.frames.next())
        }
    }
    let frames: Vec<_> = pieces.into_iter().map(|piece| Ok(Frame::data(piece))).chain(last).collect();
    let body: LocalBody = Box::pin(Pieces { frames: frames.into_iter(), pause: false });
    RequestBody::Stream(body)
}

/// A streamed body of `total` bytes in pieces of 16 KiB.
pub(super) fn bulk(total: usize) -> RequestBody {
    let piece = Bytes::from(vec![b'u'; 16 * 1024]);
    stream_of(vec![piece; total / (16 * 1024)], None)
}

/// A streamed body from which nothing ever comes.
pub(super) fn silent() -> RequestBody {
    struct Never;
    impl Flow for Never {}

    impl Body for Never {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            std::task::Poll::Pending
        }
    }
    RequestBody::Stream(Box::pin(Never))
}

/// A streamed body whose only bytes come once the backend began to answer.
pub(super) fn after_the_answer(times: &Rc<UpstreamTimes>, piece: &'static [u8]) -> RequestBody {
    struct Late {
        times: Rc<UpstreamTimes>,
        piece: Option<&'static [u8]>,
    }
    impl Flow for Late {}

    impl Body for Late {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            if self.times.received() == 0 {
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(self.piece.take().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
        }
    }
    RequestBody::Stream(Box::pin(Late { times: Rc::clone(times), piece: Some(piece) }))
}

#[test]
fn the_future_of_an_exchange_stays_small() {
    local(async {
        let (upstreams, peer) = (upstreams(), clear(SocketAddr::from(([127, 0, 0, 1], 9))));
        let future = Ask::get(&peer).send(&upstreams);
        assert!(size_of_val(&future) < 4096, "{} bytes", size_of_val(&future));
    });
}
