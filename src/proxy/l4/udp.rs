//! A UDP service: datagrams of one client address go to one endpoint, and what comes back from it to that client. A
//! session ends after the replies that `proxy-stream-responses` expects, or when it idles (`security.md` G-6). Tables of
//! sessions are bounded, for the process and for each source address; what does not fit is dropped and counted, and
//! nothing is ever answered by us. A port that is closed ends its sessions at once: they could not answer without it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

use super::{Removed, Session, Way, endpoints};
use crate::limit::{self, Bodies};
use crate::proxy::worker::Worker;
use crate::route::stream::Transport;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Counter;

/// Sessions of the process.
const SESSIONS: usize = 65_536;
/// Sessions of one source address on one port and worker.
const SESSIONS_OF_SOURCE: u32 = 1_024;
/// Datagrams that wait for one session.
const QUEUE: usize = 64;
/// Largest datagram there is.
const LARGEST: usize = 65_536;

/// One port of one worker.
struct Port {
    worker: Rc<Worker>,
    socket: UdpSocket,
    listener: SocketAddr,
    /// Queues by client.
    sessions: RefCell<HashMap<SocketAddr, mpsc::Sender<Queued>, RandomState>>,
    /// Sessions by source address.
    sources: RefCell<HashMap<IpAddr, u32, RandomState>>,
    removed: Removed,
}

/// Serves a port until it is closed or the process stops, and its sessions to their end.
pub async fn serve(
    worker: Rc<Worker>,
    socket: std::net::UdpSocket,
    listener: SocketAddr,
    mut removed: Removed,
) {
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, port = listener.port(), "the UDP port does not work"),
    };
    let port = Rc::new(Port {
        worker: Rc::clone(&worker),
        socket,
        listener,
        sessions: RefCell::default(),
        sources: RefCell::default(),
        removed: removed.clone(),
    });
    let mut space = vec![0; LARGEST];
    loop {
        tokio::select! {
            biased;
            () = worker.drain.draining() => break,
            () = removed.wait() => break,
            received = port.socket.recv_from(&mut space) => match received {
                Ok((length, client)) => take(&port, client, space.get(..length).unwrap_or(&[])),
                // Of an earlier reply that did not arrive, mostly.
                Err(error) => {
                    tracing::debug!(%error, port = listener.port(), "cannot receive a datagram");
                    tokio::task::yield_now().await;
                }
            },
        }
    }
    // Sessions that run get what their clients send until they end; new ones are not begun.
    let emptied = async {
        while !port.sessions.borrow().is_empty() {
            let wait = tokio::time::sleep(Duration::from_millis(50));
            tokio::select! {
                () = wait => {}
                received = port.socket.recv_from(&mut space) => {
                    if let Ok((length, client)) = received {
                        offer(&port, client, space.get(..length).unwrap_or(&[]));
                    }
                }
            }
        }
    };
    tokio::select! {
        () = emptied => {}
        () = worker.drain.cut() => {}
    }
}

/// A datagram that waits for its session, counted with the bodies while it does.
struct Queued {
    data: Bytes,
    _room: limit::Held,
}

/// Gives a datagram to the session of its client; false when there is none.
fn offer(port: &Port, client: SocketAddr, datagram: &[u8]) -> bool {
    let sessions = port.sessions.borrow();
    let Some(queue) = sessions.get(&client) else { return false };
    let memory = &port.worker.memory;
    if memory.bodies() == Bodies::Spent {
        port.worker.metrics.count(Counter::DatagramsDropped);
        return true;
    }
    let room = memory.hold(datagram.len() as u64);
    match queue.try_send(Queued { data: Bytes::copy_from_slice(datagram), _room: room }) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => {
            port.worker.metrics.count(Counter::DatagramsDropped);
            true
        }
        Err(TrySendError::Closed(_)) => false,
    }
}

/// A datagram from a client: to its session, else to a new one if there is room.
fn take(port: &Rc<Port>, client: SocketAddr, datagram: &[u8]) {
    if offer(port, client, datagram) {
        return;
    }
    let worker = &port.worker;
    let most = (SESSIONS / worker.l4.workers).max(1);
    let of_source = port.sources.borrow().get(&client.ip()).copied().unwrap_or(0);
    if worker.l4.udp_sessions.get() >= most || of_source >= SESSIONS_OF_SOURCE {
        worker.metrics.count(Counter::DatagramsDropped);
        return worker.metrics.rejected("udp_sessions");
    }
    let (queue, queued) = mpsc::channel(QUEUE);
    let held = Held::new(port, client, queue);
    offer(port, client, datagram);
    let port = Rc::clone(port);
    tokio::task::spawn_local(async move {
        run(&port, client, queued).await;
        drop(held);
    });
}

/// The place of a session in the tables of its port.
struct Held {
    port: Rc<Port>,
    client: SocketAddr,
}

impl Held {
    fn new(port: &Rc<Port>, client: SocketAddr, queue: mpsc::Sender<Queued>) -> Self {
        let count = &port.worker.l4.udp_sessions;
        count.set(count.get() + 1);
        *port.sources.borrow_mut().entry(client.ip()).or_default() += 1;
        // A session that ended by itself, whose task has yet to run, may stand here: it is replaced.
        port.sessions.borrow_mut().insert(client, queue);
        Self { port: Rc::clone(port), client }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let count = &self.port.worker.l4.udp_sessions;
        count.set(count.get().saturating_sub(1));
        let mut sources = self.port.sources.borrow_mut();
        if let Some(left) = sources.get_mut(&self.client.ip()) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                sources.remove(&self.client.ip());
            }
        }
        let mut sessions = self.port.sessions.borrow_mut();
        // Its own entry only: a later session of the same client may stand there.
        if sessions.get(&self.client).is_some_and(mpsc::Sender::is_closed) {
            sessions.remove(&self.client);
        }
    }
}

/// What a session is connected with.
struct Upstream {
    socket: UdpSocket,
    address: SocketAddr,
    generation: u64,
}

async fn run(port: &Rc<Port>, client: SocketAddr, mut queued: mpsc::Receiver<Queued>) {
    let worker = &port.worker;
    let snapshot = worker.reader.load();
    let globals = Arc::clone(&snapshot.table.globals);
    let mut session = Session::begin(worker, Transport::Udp, client, port.listener, &globals);
    session.number = worker.next_connection();
    session.status = 502;
    let mut upstream: Option<Upstream> = None;
    let service = snapshot.table.streams.service(Transport::Udp, port.listener.port()).cloned();
    let patience = service.as_ref().map_or(globals.stream_timeout, |one| one.timeout(globals.stream_timeout));
    let own = service.as_ref().and_then(|service| service.snippet.as_ref()?.responses);
    let responses = u64::from(own.unwrap_or(globals.stream_responses));
    drop(snapshot);
    if service.is_some_and(|service| service.refuses(client.ip())) {
        session.status = 403;
        return;
    }
    let idle = tokio::time::sleep(patience);
    let mut removed = port.removed.clone();
    let end = async {
        tokio::select! {
            () = worker.drain.ending_tunnels() => {}
            () = removed.wait() => {}
        }
    };
    tokio::pin!(idle, end);
    let (mut asked, mut answered) = (0_u64, 0_u64);
    loop {
        let replied = async {
            match &upstream {
                // An endpoint that refuses shows as an error only.
                Some(upstream) => upstream.socket.ready(Interest::READABLE | Interest::ERROR).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut end => return worker.metrics.cut(),
            () = &mut idle => return,
            datagram = queued.recv() => {
                let Some(Queued { data: datagram, _room }) = datagram else { return };
                upstream = still_there(port, upstream, &mut session).await;
                let Some(to) = &upstream else { return };
                if to.socket.send(&datagram).await.is_err() {
                    return;
                }
                session.status = 200;
                session.received += datagram.len() as u64;
                asked += 1;
            }
            ready = replied => {
                let Some(from) = &upstream else { return };
                if ready.is_err() {
                    return;
                }
                match receive(worker, &from.socket) {
                    Ok(Some(reply)) => {
                        if port.socket.send_to(&reply, client).await.is_ok() {
                            session.sent += reply.len() as u64;
                        }
                        answered += 1;
                    }
                    Ok(None) => continue,
                    // Nobody listens there.
                    Err(error) => {
                        tracing::debug!(%error, address = %from.address, "a UDP endpoint refuses");
                        session.status = 502;
                        return;
                    }
                }
            }
        }
        idle.as_mut().reset(Instant::now() + patience);
        // nginx's rule: as many replies as are expected of the datagrams so far.
        if answered >= responses.saturating_mul(asked) && queued.is_empty() {
            return;
        }
    }
}

/// A reply, if one is there.
fn receive(worker: &Worker, socket: &UdpSocket) -> std::io::Result<Option<Bytes>> {
    let mut space = worker.l4.datagram.borrow_mut();
    if space.is_empty() {
        *space = vec![0; LARGEST].into_boxed_slice();
    }
    match socket.try_recv(&mut space) {
        Ok(length) => Ok(Some(Bytes::copy_from_slice(space.get(..length).unwrap_or(&[])))),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => match socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(None),
        },
        Err(error) => Err(error),
    }
}

/// The endpoint of the session as long as it is one, else the next one of the backend as it is now.
async fn still_there(port: &Port, upstream: Option<Upstream>, session: &mut Session) -> Option<Upstream> {
    let worker = &port.worker;
    let snapshot = worker.reader.load();
    if let Some(mut upstream) = upstream
        && (upstream.generation == snapshot.generation
            || is_endpoint(port, &snapshot, upstream.address).await)
    {
        upstream.generation = snapshot.generation;
        return Some(upstream);
    }
    let service = snapshot.table.streams.service(Transport::Udp, port.listener.port())?;
    session.backend = Arc::clone(&service.backend.name);
    let addresses = endpoints(worker, &snapshot, Way::of(service)).await;
    for address in addresses {
        session.upstream = Some(address);
        if !Way::of(service).names(address) && !worker.upstreams.may_reach(address) {
            continue;
        }
        match dial(address).await {
            Ok(socket) => return Some(Upstream { socket, address, generation: snapshot.generation }),
            Err(error) => tracing::warn!(%address, %error, "cannot begin a UDP session"),
        }
    }
    None
}

async fn is_endpoint(port: &Port, snapshot: &Snapshot, address: SocketAddr) -> bool {
    let Some(service) = snapshot.table.streams.service(Transport::Udp, port.listener.port()) else {
        // The port was closed; its sessions go on for a while.
        return true;
    };
    let Some(set) = Way::of(service).set(snapshot) else { return false };
    let set = port.worker.upstreams.endpoints(set).await;
    set.ready.contains(&crate::route::EndpointAddress::Socket(address))
}

async fn dial(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}
