//! Worker threads: one current-thread runtime each, with its own sockets, pools and metric cells.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{StartError, ports};
use crate::drain::{DrainToken, DrainTrigger, DrainWatcher, Work};
use crate::limit::{Clients, ConnectionLimit, ConnectionPermit, Memory};
use crate::listener::{self, Last, own};
use crate::places::Places;
use crate::proxy::client_certificate::Groups;
use crate::proxy::connection;
use crate::proxy::filter::digest::Nonces;
use crate::proxy::filter::external::Answers;
use crate::proxy::filter::limit::Limits;
use crate::proxy::filter::password::{self, Threads};
use crate::proxy::handshakes::Handshakes;
use crate::proxy::l4::Removed;
use crate::proxy::sni;
use crate::proxy::spool::Spool;
use crate::proxy::turns::{self, BEGINNINGS, Turns};
use crate::proxy::worker::Worker;
use crate::request::Scheme;
use crate::route::reach::Reach;
use crate::snapshot::{LocalReader, Reader};
use crate::telemetry::metrics::{Counter, Gauge, GaugeGuard};
use crate::telemetry::spans::Spans;
use crate::telemetry::{AccessLog, Metrics};
use crate::upstream::resolve::NameServers;
use crate::upstream::{Rng, Settings, Upstreams};

/// Connections to one endpoint over all workers (F-17).
const ENDPOINT_CONNECTIONS: usize = 1024;

/// What all workers get.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) reader: Reader,
    pub(super) tls: Arc<sni::Configs>,
    pub(super) client_groups: Groups,
    pub(super) connections: ConnectionLimit,
    pub(super) memory: Memory,
    pub(super) clients: Clients,
    pub(super) drain: DrainTrigger,
    pub(super) metrics: Metrics,
    pub(super) log: AccessLog,
    pub(super) spans: Spans,
    pub(super) places: Places,
    pub(super) dns: Vec<SocketAddr>,
    pub(super) passive_health: bool,
    /// Which addresses may be backends (B-18); asked again for each connection.
    pub(super) reach: Arc<Reach>,
    /// The ports of HTTP and HTTPS.
    pub(super) listeners: [u16; 2],
    pub(super) workers: usize,
    /// `--ssl-passthrough-proxy-protocol`.
    pub(super) passthrough_proxy_protocol: bool,
    /// Threads that check passwords.
    pub(super) passwords: Threads,
    /// Nonces of digest authentication.
    pub(super) nonces: Nonces,
    /// Answers of authentication services (`auth-cache-key`).
    pub(super) auth_answers: Answers,
    /// What clients asked for lately.
    pub(super) limits: Limits,
    /// Room for request bodies.
    pub(super) spool: Spool,
}

impl Shared {
    /// Room for one more connection of a worker; `None` where there are as many as may be.
    pub(super) fn admit(&self, worker: &Worker) -> Option<Admitted> {
        let permit = self.connections.try_acquire();
        if permit.is_none() {
            worker.metrics.rejected("connections");
        }
        permit.map(|permit| admitted(worker, permit))
    }

    /// Room for one more connection of a worker, waited for.
    async fn admit_in_time(&self, worker: &Worker) -> Admitted {
        if let Some(permit) = self.connections.try_acquire() {
            return admitted(worker, permit);
        }
        let _resting = worker.metrics.hold(Gauge::AcceptResting);
        admitted(worker, self.connections.acquire().await)
    }
}

/// What a connection holds as long as it is open.
pub(super) type Admitted = (ConnectionPermit, GaugeGuard, DrainToken);

fn admitted(worker: &Worker, permit: ConnectionPermit) -> Admitted {
    worker.metrics.count(Counter::Accepted);
    (permit, worker.metrics.hold(Gauge::Connections), worker.drain.token(Work::Connection))
}

/// Starts a worker.
pub(super) fn spawn(
    index: usize,
    changes: UnboundedReceiver<ports::Change>,
    shared: Shared,
) -> Result<JoinHandle<()>, StartError> {
    let fail = |source| StartError::Thread { what: "a worker", source };
    // From here on, not from when the thread runs: clients may already wait at the sockets.
    let drain = shared.drain.watcher();
    let queue = drain.token(Work::Listener);
    // A runtime that cannot be made is told to whoever starts us, but it belongs to its thread from its first moment.
    let (made, outcome) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            // Local: tasks need no set beside the runtime's own queue, which would wake the runtime through the kernel.
            let local = tokio::runtime::LocalOptions::default();
            let runtime = match tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_park(turns::rest)
                .build_local(local)
            {
                Ok(runtime) => runtime,
                Err(error) => return drop(made.send(error)),
            };
            drop(made);
            runtime.block_on(serve(index, changes, shared, drain, queue));
        })
        .map_err(fail)?;
    match outcome.recv() {
        Ok(error) => Err(fail(error)),
        Err(_made) => Ok(thread),
    }
}

async fn serve(
    index: usize,
    changes: UnboundedReceiver<ports::Change>,
    shared: Shared,
    drain: DrainWatcher,
    queue: DrainToken,
) {
    let worker = Rc::new(worker(index, &shared, drain.clone()));
    tokio::task::spawn_local(Rc::clone(&worker).maintain());
    tokio::task::spawn_local(worker.turns.clone().keep(BEGINNINGS));
    tokio::task::spawn_local(worker.handshakes.keep_turns());
    let open = ports::serve(&worker, &shared, changes).await;
    drop(queue);
    // What is still open ends by itself or is cut with the runtime.
    let emptied = async {
        while drain.open(Work::Connection) + drain.open(Work::Tunnel) + drain.open(Work::Request) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = emptied => {}
        () = drain.cut() => {}
    }
    drop(open);
}

fn worker(index: usize, shared: &Shared, drain: DrainWatcher) -> Worker {
    let (reach, reader, listeners) = (Arc::clone(&shared.reach), shared.reader.clone(), shared.listeners);
    // What flags say of our own addresses never changes; the ConfigMap may name more of them.
    let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let all = all.map(|ip: IpAddr| SocketAddr::new(ip, 0));
    let machine: BTreeSet<IpAddr> = own::everywhere(&all).iter().map(SocketAddr::ip).collect();
    let may_reach = move |address: SocketAddr| {
        let ip = address.ip().to_canonical();
        let named = |named: &IpAddr| {
            *named == ip
                || (named.is_unspecified() && named.is_ipv4() == ip.is_ipv4() && machine.contains(&ip))
        };
        reach.check(address).is_ok()
            && !(listeners.contains(&address.port())
                && reader.load().table.globals.bind_address.iter().any(named))
    };
    let dns = shared.dns.clone();
    let share = (ENDPOINT_CONNECTIONS / shared.workers.max(1)).max(1);
    let settings = Settings {
        keepalive: shared.reader.load().table.globals.upstream_keepalive,
        name_servers: if dns.is_empty() { NameServers::System } else { NameServers::Listed(dns) },
        address_rule: Rc::new(may_reach),
        passive_health: shared.passive_health,
        workers: u32::try_from(shared.workers).unwrap_or(u32::MAX),
        endpoint_connections: u32::try_from(share).unwrap_or(u32::MAX),
        rng: Rng::from_system(),
        memory: shared.memory.clone(),
    };
    Worker {
        reader: shared.reader.clone(),
        snapshot: LocalReader::new(&shared.reader),
        upstreams: Upstreams::new(settings),
        nonces: shared.nonces.clone(),
        auth_answers: shared.auth_answers.clone(),
        passwords: password::Memory::new(shared.passwords.clone()),
        limits: shared.limits.clone(),
        spool: shared.spool.clone(),
        mirrors: Cell::new(0),
        metrics: shared.metrics.worker(),
        log: shared.log.lane(),
        spans: shared.spans.clone(),
        places: shared.places.clone(),
        drain,
        tls: Arc::clone(&shared.tls),
        client_groups: shared.client_groups.clone(),
        rng: Rng::from_system(),
        index: index as u64,
        workers: u32::try_from(shared.workers).unwrap_or(u32::MAX),
        memory: shared.memory.clone(),
        room: shared.connections.clone(),
        clients: shared.clients.clone(),
        presences: Rc::default(),
        turns: Turns::default(),
        handshakes: Handshakes::default(),
        connections: Cell::new(0),
        requests: Cell::new(0),
        http1: RefCell::default(),
        l4: crate::proxy::l4::State::new(shared.passthrough_proxy_protocol, shared.workers),
    }
}

/// Takes the connections with requests that come to a socket, until its port is closed.
pub(super) async fn accept(
    worker: Rc<Worker>,
    shared: Shared,
    port: (TcpListener, SocketAddr),
    scheme: Scheme,
    removed: Removed,
) {
    let (listener, address) = port;
    // Not through the permit itself: what waits here has no connection yet, and others may come first.
    let room = async || {
        if !shared.connections.has_room() {
            let _resting = worker.metrics.hold(Gauge::AcceptResting);
            drop(shared.connections.acquire().await);
        }
    };
    let resting = || worker.metrics.hold(Gauge::AcceptResting);
    let take = |stream: TcpStream, peer, open: Admitted| {
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            connection::run(worker, stream, peer, scheme, address).await;
            drop(open);
        });
    };
    let failed = |error: &std::io::Error| {
        worker.metrics.count(Counter::AcceptErrors);
        tracing::warn!(%error, "cannot accept a connection");
    };
    let stop = ports::stopped(&worker, removed);
    let admit = async || Some(shared.admit_in_time(&worker).await);
    let last = listener::accept_paced(listener, stop, room, resting, admit, &take, failed).await;
    if let Some(last) = last {
        take_last(&worker, &shared, last, take).await;
    }
}

/// Takes those who waited when their port was closed or the drain began. Where there is no room they wait for it, as they
/// would have otherwise, for as long as what is under way may go on; then they are closed.
async fn take_last(
    worker: &Worker,
    shared: &Shared,
    mut last: Last,
    take: impl Fn(TcpStream, SocketAddr, Admitted),
) {
    while let Some(permit) = shared.connections.try_acquire() {
        let Some((stream, peer)) = last.next() else { return };
        take(stream, peer, admitted(worker, permit));
    }
    let patience = worker.reader.load().table.globals.worker_shutdown_timeout;
    let end = tokio::time::sleep(patience);
    tokio::pin!(end);
    let mut waiting = last.close().into_iter();
    while let Some((stream, peer)) = waiting.next() {
        tokio::select! {
            biased;
            permit = shared.connections.acquire() => {
                take(stream, peer, admitted(worker, permit));
                continue;
            }
            () = end.as_mut() => {}
            () = worker.drain.cut() => {}
        }
        (0..=waiting.len()).for_each(|_| worker.metrics.rejected("connections"));
        return;
    }
}
