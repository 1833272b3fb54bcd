//! Ports of TCP and UDP services: opened and closed as the table says, each without touching the others. One thread
//! binds, so that a port is ours alone before workers share it; workers get a socket each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::{StartError, worker};
use crate::control::{Hook, Report};
use crate::drain::{DrainTrigger, Phase, Work};
use crate::listener::{self, BindError};
use crate::proxy::l4::{Removed, tcp, udp};
use crate::proxy::worker::Worker;
use crate::route::stream::Transport;
use crate::snapshot::{Reader, Snapshot};
use crate::telemetry::metrics::{Counter, Gauge};

/// Between two attempts to open a port that another process holds.
const AGAIN: Duration = Duration::from_millis(250);

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Change {
    /// Serve this socket of a TCP service.
    Tcp(TcpListener, SocketAddr),
    /// Serve this socket of a UDP service.
    Udp(UdpSocket, SocketAddr),
    /// Close the port.
    Close(Transport, u16),
}

/// Tells of publications; the other end is for [`start`].
pub(super) fn hook() -> (Hook, Receiver<()>) {
    let (published, heard): (Sender<()>, _) = channel();
    let hook = move |_: &std::sync::Arc<Snapshot>, _: &Report| {
        // Nobody hears once the process ends.
        let _ended = published.send(());
    };
    (Box::new(hook), heard)
}

/// Opens the ports of the table as it is, and follows it from then on. Ports that cannot be opened are said and tried
/// again: one bad entry stops nothing.
///
/// # Errors
/// When there is no thread.
pub(super) fn start(
    ip: IpAddr,
    reader: Reader,
    workers: Vec<UnboundedSender<Change>>,
    published: Receiver<()>,
    drain: DrainTrigger,
) -> Result<(), StartError> {
    let mut ports = Ports { ip, reader, workers, open: BTreeMap::new(), failing: BTreeMap::new(), drain };
    ports.follow();
    let run = move || {
        loop {
            let patience = if ports.failing.is_empty() { Duration::from_secs(3600) } else { AGAIN };
            if published.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            ports.follow();
        }
    };
    let thread = std::thread::Builder::new().name("stream-ports".into()).spawn(run);
    thread
        .map(drop)
        .map_err(|source| StartError::Thread { what: "the ports of TCP and UDP services", source })
}

struct Ports {
    ip: IpAddr,
    reader: Reader,
    workers: Vec<UnboundedSender<Change>>,
    /// Ports, with the address of those that have one of their own.
    open: BTreeMap<(Transport, u16), Option<IpAddr>>,
    /// Ports that could not be opened, with what was said about it.
    failing: BTreeMap<(Transport, u16), String>,
    drain: DrainTrigger,
}

impl Ports {
    fn follow(&mut self) {
        if self.drain.phase() >= Phase::Draining {
            return;
        }
        let wanted: BTreeMap<_, _> = self.reader.load().table.streams.ports().collect();
        let gone: Vec<_> = self
            .open
            .iter()
            .filter(|(port, address)| wanted.get(port) != Some(address))
            .map(|(port, _)| *port)
            .collect();
        for (transport, port) in gone {
            self.open.remove(&(transport, port));
            for worker in &self.workers {
                // A worker that is gone needs to close nothing.
                drop(worker.send(Change::Close(transport, port)));
            }
            tracing::info!(%transport, port, "port closed");
        }
        self.failing.retain(|port, _| wanted.contains_key(port));
        for ((transport, port), own) in wanted {
            if self.open.contains_key(&(transport, port)) {
                continue;
            }
            match self.bind(transport, SocketAddr::new(own.unwrap_or(self.ip), port)) {
                Ok(()) => {
                    self.failing.remove(&(transport, port));
                    self.open.insert((transport, port), own);
                    tracing::info!(%transport, port, "port opened");
                }
                Err(error) => {
                    let text = error.to_string();
                    if self.failing.get(&(transport, port)) != Some(&text) {
                        tracing::error!(%transport, port, %error, "a port cannot be opened, its service is not served");
                        self.failing.insert((transport, port), text);
                    }
                }
            }
        }
    }

    fn bind(&self, transport: Transport, address: SocketAddr) -> Result<(), BindError> {
        let sockets: Vec<Change> = match transport {
            Transport::Tcp => listener::bind(address, "--tcp-services-configmap")?
                .listen(self.workers.len())?
                .into_iter()
                .map(|socket| Change::Tcp(socket, address))
                .collect(),
            Transport::Udp => listener::bind_udp(address, "--udp-services-configmap", self.workers.len())?
                .into_iter()
                .map(|socket| Change::Udp(socket, address))
                .collect(),
        };
        for (worker, socket) in self.workers.iter().zip(sockets) {
            drop(worker.send(socket));
        }
        Ok(())
    }
}

/// Serves on one worker what it is told to, for as long as it is polled.
pub(super) async fn serve(
    worker: Rc<Worker>,
    shared: worker::Shared,
    mut changes: UnboundedReceiver<Change>,
) {
    let mut open = BTreeMap::new();
    while let Some(change) = changes.recv().await {
        match change {
            Change::Tcp(socket, address) => {
                let (keep, removed) = Removed::channel();
                open.insert((Transport::Tcp, address.port()), keep);
                tokio::task::spawn_local(accept(
                    Rc::clone(&worker),
                    shared.clone(),
                    socket,
                    address,
                    removed,
                ));
            }
            Change::Udp(socket, address) => {
                let (keep, removed) = Removed::channel();
                open.insert((Transport::Udp, address.port()), keep);
                tokio::task::spawn_local(udp::serve(Rc::clone(&worker), socket, address, removed));
            }
            Change::Close(transport, port) => drop(open.remove(&(transport, port))),
        }
    }
    // Nobody is left to open or close; what is open stays so.
    std::future::pending::<()>().await;
    drop(open);
}

async fn accept(
    worker: Rc<Worker>,
    shared: worker::Shared,
    socket: TcpListener,
    address: SocketAddr,
    removed: Removed,
) {
    let queue = worker.drain.token(Work::Listener);
    let admit = || {
        let permit = shared.connections.try_acquire();
        if permit.is_none() {
            worker.metrics.rejected("connections");
        }
        permit
    };
    let take = |stream, peer, permit| {
        worker.metrics.count(Counter::Accepted);
        let open = (permit, worker.metrics.hold(Gauge::Connections), worker.drain.token(Work::Connection));
        let session = tcp::run(Rc::clone(&worker), stream, peer, address, removed.clone());
        tokio::task::spawn_local(async move {
            session.await;
            drop(open);
        });
    };
    let failed = |error: &std::io::Error| {
        worker.metrics.count(Counter::AcceptErrors);
        tracing::warn!(%error, port = address.port(), "cannot accept a connection");
    };
    let stop = async {
        let mut closed = removed.clone();
        tokio::select! {
            () = worker.drain.draining() => {}
            () = closed.wait() => {}
        }
    };
    listener::accept(socket, stop, admit, take, failed).await;
    drop(queue);
}
