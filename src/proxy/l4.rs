//! Below HTTP: TCP and UDP services, and TLS that is handed through unopened. What they have in common: which endpoint
//! is next, how a connection to it is made, and the one record of a session.
//!
//! Which port or name leads where is decided by the table (`route::stream`, `Server::passthrough`); which ports are
//! open is `app`'s.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use foldhash::fast::RandomState;
use tokio::time::{Instant as TokioInstant, timeout_at};

use super::worker::Worker;
use crate::drain::{DrainToken, Work};
use crate::policy::global::Globals;
use crate::route::stream::{Snippet, StreamService, Transport};
use crate::route::{Backend, EndpointAddress, EndpointSet};
use crate::snapshot::Snapshot;
use crate::telemetry::StreamRecord;
use crate::telemetry::metrics::{Counter, GaugeGuard};
use crate::upstream::Tunnel;

pub mod passthrough;
pub mod tcp;
pub mod udp;

/// Backends whose turn is remembered; beyond, all begin again.
const REMEMBERED: usize = 16_384;

/// What a worker keeps for all its sessions.
#[derive(Debug)]
pub struct State {
    /// Whose turn it is, by name of the backend.
    turns: RefCell<HashMap<Arc<str>, usize, RandomState>>,
    /// `--ssl-passthrough-proxy-protocol`.
    passthrough_header: bool,
    /// How many workers share the bounds of the process.
    workers: usize,
    /// UDP sessions of this worker.
    udp_sessions: Cell<usize>,
    /// Where datagrams from endpoints are received: one space for all sessions, as none keeps it across a wait.
    datagram: RefCell<Box<[u8]>>,
}

impl State {
    /// No session yet.
    pub fn new(passthrough_header: bool, workers: usize) -> Self {
        Self {
            turns: RefCell::default(),
            passthrough_header,
            workers: workers.max(1),
            udp_sessions: Cell::new(0),
            datagram: RefCell::default(),
        }
    }

    /// The place in the list of a backend's endpoints where a session begins: each session at the next one. `start` is
    /// where the first one of this worker begins.
    fn turn(&self, name: &Arc<str>, start: u64) -> usize {
        let mut turns = self.turns.borrow_mut();
        if let Some(turn) = turns.get_mut(name) {
            *turn = turn.wrapping_add(1);
            return *turn;
        }
        if turns.len() >= REMEMBERED {
            turns.clear();
        }
        let start = usize::try_from(start >> 33).unwrap_or(0);
        turns.insert(Arc::clone(name), start);
        start
    }
}

/// Where a session goes: a backend of the table, or the endpoints that a `stream-snippet` names.
#[derive(Clone, Copy)]
struct Way<'w> {
    backend: &'w Backend,
    snippet: Option<&'w Snippet>,
}

impl<'w> Way<'w> {
    fn of(service: &'w StreamService) -> Self {
        Self { backend: &service.backend, snippet: service.snippet.as_deref() }
    }

    /// True for an address that stands in a snippet as such, and was judged with it.
    fn names(self, address: SocketAddr) -> bool {
        let named = EndpointAddress::Socket(address);
        self.snippet.is_some_and(|snippet| snippet.endpoints.ready.contains(&named))
    }

    fn set(self, snapshot: &'w Snapshot) -> Option<&'w Arc<EndpointSet>> {
        match self.snippet {
            Some(snippet) => Some(&snippet.endpoints),
            None => snapshot.endpoints.shared(self.backend.slot),
        }
    }
}

/// The endpoints of a backend as addresses, the one whose turn it is first.
async fn endpoints(worker: &Worker, snapshot: &Snapshot, way: Way<'_>) -> Vec<SocketAddr> {
    let backend = way.backend;
    let none = Arc::new(EndpointSet::default());
    let set = way.set(snapshot).unwrap_or(&none);
    let set = worker.upstreams.endpoints(set).await;
    let mut addresses: Vec<SocketAddr> = set
        .ready
        .iter()
        .filter_map(|endpoint| match endpoint {
            EndpointAddress::Socket(address) => Some(*address),
            EndpointAddress::Name(..) => None,
        })
        .collect();
    if !addresses.is_empty() {
        let turn = worker.l4.turn(&backend.name, worker.rng.next_u64()) % addresses.len();
        addresses.rotate_left(turn);
    }
    addresses
}

/// Connects to an endpoint of a backend by `proxy-stream-next-upstream` and its limits: each endpoint is asked once,
/// beginning with the one whose turn it is.
async fn connect(
    worker: &Worker,
    snapshot: &Snapshot,
    way: Way<'_>,
    session: &mut Session,
) -> Option<Tunnel> {
    let globals = &snapshot.table.globals;
    let backend = way.backend;
    let patience = way.snippet.and_then(|snippet| snippet.connect_timeout);
    let patience = patience.unwrap_or(globals.proxy_connect_timeout);
    let end = globals.stream_next_upstream_timeout.map(|limit| TokioInstant::now() + limit);
    let tries = match (globals.stream_next_upstream, globals.stream_next_upstream_tries) {
        (false, _) => 1,
        (true, 0) => usize::MAX,
        (true, tries) => usize::try_from(tries).unwrap_or(usize::MAX),
    };
    for (number, address) in endpoints(worker, snapshot, way).await.into_iter().take(tries).enumerate() {
        if number > 0 && end.is_some_and(|end| TokioInstant::now() >= end) {
            break;
        }
        if number > 0 {
            worker.metrics.retried("stream_connect");
        }
        session.upstream = Some(address);
        let dial = async {
            if way.names(address) {
                worker.upstreams.dial_judged(address, patience).await
            } else {
                worker.upstreams.dial(address, patience).await
            }
        };
        let dialled = match end {
            Some(end) => timeout_at(end, dial).await.ok(),
            None => Some(dial.await),
        };
        match dialled {
            Some(Ok(tunnel)) => {
                worker.metrics.count(Counter::UpstreamConnects);
                session.connect_time = Some(session.began.elapsed());
                return Some(tunnel);
            }
            Some(Err(error)) => {
                worker.metrics.count(Counter::UpstreamConnectErrors);
                tracing::warn!(backend = &*backend.name, %address, ?error, "cannot connect a session");
            }
            None => {
                worker.metrics.count(Counter::UpstreamConnectErrors);
                break;
            }
        }
    }
    None
}

/// One session, from its beginning to its record. The record is written when this is dropped, by its end, a cut or a
/// panic.
struct Session {
    worker: Rc<Worker>,
    transport: Transport,
    began: Instant,
    number: u64,
    client: SocketAddr,
    /// The client as a PROXY header told of it, whoever sent that.
    proxied: Option<SocketAddr>,
    listener: SocketAddr,
    backend: Arc<str>,
    server_name: Option<String>,
    upstream: Option<SocketAddr>,
    connect_time: Option<Duration>,
    /// nginx's word for the end.
    status: u16,
    received: u64,
    sent: u64,
    logged: bool,
    _open: (GaugeGuard, DrainToken),
}

impl Session {
    fn begin(
        worker: &Rc<Worker>,
        transport: Transport,
        client: SocketAddr,
        listener: SocketAddr,
        globals: &Globals,
    ) -> Self {
        let gauge = match transport {
            Transport::Tcp => worker.metrics.tunnel(),
            Transport::Udp => worker.metrics.hold(crate::telemetry::metrics::Gauge::UdpSessions),
        };
        Self {
            worker: Rc::clone(worker),
            transport,
            began: Instant::now(),
            number: 0,
            client,
            proxied: None,
            listener,
            backend: Arc::from(""),
            server_name: None,
            upstream: None,
            connect_time: None,
            status: 500,
            received: 0,
            sent: 0,
            logged: !globals.disable_stream_access_log,
            _open: (gauge, worker.drain.token(Work::Tunnel)),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let protocol = self.transport.upper();
        self.worker.metrics.session(protocol, self.status, self.received, self.sent);
        if !self.logged {
            return;
        }
        self.worker.log.write_stream(&StreamRecord {
            time: SystemTime::now(),
            client: self.client.ip().to_canonical(),
            client_port: self.client.port(),
            number: self.number,
            proxied: self.proxied.map(|source| source.ip().to_canonical()),
            listener: self.listener,
            protocol,
            status: self.status,
            bytes_sent: self.sent,
            bytes_received: self.received,
            session_time: self.began.elapsed(),
            upstream: self.upstream,
            upstream_connect_time: self.connect_time,
            upstream_name: &self.backend,
            server_name: self.server_name.as_deref(),
        });
    }
}

/// Heard by the sessions of a port that is closed while the process goes on: they may go on for as long as a shutdown
/// would let them (`security.md` G-1).
#[derive(Debug, Clone)]
pub struct Removed(tokio::sync::watch::Receiver<()>);

impl Removed {
    /// Dropping the first part says that the port is closed.
    pub fn channel() -> (tokio::sync::watch::Sender<()>, Self) {
        let (sender, receiver) = tokio::sync::watch::channel(());
        (sender, Self(receiver))
    }

    /// One more who hears when `port` is dropped.
    pub fn of(port: &tokio::sync::watch::Sender<()>) -> Self {
        Self(port.subscribe())
    }

    /// Waits until the port is closed.
    pub async fn wait(&mut self) {
        // Nothing is ever sent: the end of the sender is the news.
        while self.0.changed().await.is_ok() {}
    }
}

/// Resolves when a session must end: the process stops, or its port has been closed for so long.
async fn cut(worker: &Worker, removed: Option<Removed>) {
    let gone = async {
        match removed {
            Some(mut removed) => {
                removed.wait().await;
                let patience = worker.reader.load().table.globals.worker_shutdown_timeout;
                tokio::time::sleep(patience).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = worker.drain.ending_tunnels() => {}
        () = gone => {}
    }
}
