//! Ports of HTTP, HTTPS and of TCP and UDP services: opened and closed as the table says, each without touching the
//! others. One thread binds, so that a port is ours alone before workers share it; workers get a socket each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::addresses::Chosen;
use super::{StartError, worker};
use crate::control::{Beside, Hook, Report};
use crate::diagnostic::{Diagnostic, Severity};
use crate::drain::{DrainTrigger, Phase, Work};
use crate::listener::{self, BindError, Neighbours, Place};
use crate::model::{Kind, ObjectKey, ObjectRef};
use crate::proxy::l4::{Removed, tcp, udp};
use crate::proxy::worker::Worker;
use crate::request::Scheme;
use crate::route::Table;
use crate::route::stream::Transport;
use crate::snapshot::{Reader, Snapshot};
use crate::telemetry::metrics::Counter;

/// Between two attempts to open a port that another process holds.
const AGAIN: Duration = Duration::from_millis(250);

/// The key of the ConfigMap.
const BIND_ADDRESS: &str = "bind-address";

/// What comes in at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Carries {
    /// Requests.
    Web(Scheme),
    /// What a TCP or UDP service gets.
    Stream(Transport),
}

impl Carries {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Web(scheme) => scheme.as_str(),
            Self::Stream(transport) => transport.lower(),
        }
    }
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Change {
    /// Take connections with requests from this socket.
    Web(TcpListener, SocketAddr, Scheme),
    /// Serve this socket of a TCP service.
    Tcp(TcpListener, SocketAddr),
    /// Serve this socket of a UDP service.
    Udp(UdpSocket, SocketAddr),
    /// Close the port.
    Close(Carries, SocketAddr),
}

/// Tells of publications; the other end is for [`Ports::start`].
pub(super) fn hook() -> (Hook, Receiver<()>) {
    let (published, heard): (Sender<()>, _) = channel();
    let hook = move |_: &Arc<Snapshot>, _: &Report| {
        // Nobody hears once the process ends.
        let _ended = published.send(());
    };
    (Box::new(hook), heard)
}

type Key = (Carries, Place);

/// All ports of the process but those of `admin` and the webhook.
pub(super) struct Ports {
    http: Chosen,
    https: Chosen,
    workers: Vec<UnboundedSender<Change>>,
    open: BTreeSet<Key>,
    /// Ports that could not be opened, with what was said about it.
    failing: BTreeMap<Key, BindError>,
}

impl Ports {
    /// Nothing is open yet.
    pub(super) fn new(http: Chosen, https: Chosen, workers: Vec<UnboundedSender<Change>>) -> Self {
        Self { http, https, workers, open: BTreeSet::new(), failing: BTreeMap::new() }
    }

    /// Opens those of HTTP and HTTPS; from then on clients are taken. A named address that cannot be opened is said and
    /// tried again, as long as there is another one.
    ///
    /// # Errors
    /// When an address of the flags cannot be opened, or none at all, or none of a family for which some are named.
    pub(super) fn listen(&mut self, table: &Table) -> Result<(), StartError> {
        let web = |(carries, _): &Key| matches!(carries, Carries::Web(_));
        let wanted = self.wanted(table).into_iter().filter(|(port, _)| web(port)).collect();
        self.open(&wanted);
        for (scheme, chosen) in [(Scheme::Http, self.http), (Scheme::Https, self.https)] {
            let of_scheme = |carries: Carries| carries == Carries::Web(scheme);
            let open: Vec<Place> = self.open.iter().filter(|at| of_scheme(at.0)).map(|at| at.1).collect();
            let fatal = self.failing.extract_if(.., |(carries, place), error| {
                let lost = || error.flag == BIND_ADDRESS && !open.iter().any(|at| at.shares_family(place));
                of_scheme(*carries) && (open.is_empty() || place.address == chosen.address || lost())
            });
            if let Some((_, error)) = fatal.into_iter().next() {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Opens the ports of the table as it is, and follows it from then on. Ports that cannot be opened are said and
    /// tried again: one bad entry stops nothing.
    ///
    /// # Errors
    /// When there is no thread.
    pub(super) fn start(
        mut self,
        reader: Reader,
        published: Receiver<()>,
        drain: DrainTrigger,
        (config_map, beside): (Option<ObjectKey>, Beside),
    ) -> Result<(), StartError> {
        self.follow(&reader.load().table);
        beside.tell(self.found(config_map.as_ref()));
        let run = move || {
            loop {
                let patience = if self.failing.is_empty() { Duration::from_secs(3600) } else { AGAIN };
                if published.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
                if drain.phase() < Phase::Draining {
                    self.follow(&reader.load().table);
                    beside.tell(self.found(config_map.as_ref()));
                }
            }
        };
        let thread = std::thread::Builder::new().name("ports".into()).spawn(run);
        thread.map(drop).map_err(|source| StartError::Thread { what: "the ports", source })
    }

    /// Addresses of the ConfigMap that cannot be opened, for its owner.
    fn found(&self, config_map: Option<&ObjectKey>) -> Vec<Diagnostic> {
        let Some(key) = config_map else { return Vec::new() };
        let failing = self.failing.values().filter(|error| error.flag == BIND_ADDRESS);
        let finding = |error: &BindError| Diagnostic {
            object: ObjectRef { kind: Kind::ConfigMap, key: key.clone() },
            code: "AddressUnavailable",
            severity: Severity::Error,
            field: format!("data[{BIND_ADDRESS}]"),
            value: error.address.to_string(),
            reason: format!("cannot be listened on: {}", error.source),
            hint: error.hint.to_owned(),
            origin: Arc::default(),
        };
        failing.map(finding).collect()
    }

    /// Every port that is to be open, with who asked for it.
    fn wanted(&self, table: &Table) -> BTreeMap<Key, &'static str> {
        let globals = &table.globals;
        let mut wanted = BTreeMap::new();
        let web = [(Scheme::Http, self.http, "--http-addr"), (Scheme::Https, self.https, "--https-addr")];
        for (scheme, chosen, flag) in web {
            for place in chosen.places(globals) {
                let named = globals.bind_address.contains(&place.address.ip());
                wanted.insert((Carries::Web(scheme), place), if named { BIND_ADDRESS } else { flag });
            }
        }
        for ((transport, port), own) in table.streams.ports() {
            let places = match own {
                Some(ip) => [Place::from(SocketAddr::new(ip, port))].into(),
                None => self.http.at(port).places(globals),
            };
            let flag = match transport {
                Transport::Tcp => "--tcp-services-configmap",
                Transport::Udp => "--udp-services-configmap",
            };
            wanted.extend(places.into_iter().map(|place| ((Carries::Stream(transport), place), flag)));
        }
        wanted
    }

    fn follow(&mut self, table: &Table) {
        let wanted = self.wanted(table);
        self.failing.retain(|port, _| wanted.contains_key(port));
        // New ones first, so that a port that moves from one address to another is never shut to everybody.
        self.open(&wanted);
        for (carries, place) in gone(&self.open, &wanted) {
            self.open.remove(&(carries, place));
            // `[::]` for other families than before: workers have the new socket in the place of the old one.
            if self.open.iter().any(|(other, at)| (*other, at.address) == (carries, place.address)) {
                continue;
            }
            for worker in &self.workers {
                // A worker that is gone needs to close nothing.
                drop(worker.send(Change::Close(carries, place.address)));
            }
            tracing::info!(carries = carries.as_str(), address = %place.address, "port closed");
        }
    }

    fn open(&mut self, wanted: &BTreeMap<Key, &'static str>) {
        for (port, flag) in wanted {
            if self.open.contains(port) {
                continue;
            }
            let (carries, Place { address, .. }) = *port;
            match self.bind(*port, flag) {
                Ok(()) => {
                    self.failing.remove(port);
                    self.open.insert(*port);
                    tracing::info!(carries = carries.as_str(), %address, "port opened");
                }
                Err(error) => {
                    let known =
                        self.failing.get(port).is_some_and(|last| last.to_string() == error.to_string());
                    if !known {
                        let carries = carries.as_str();
                        tracing::error!(carries, %address, %error, "a port cannot be opened and is not served");
                    }
                    self.failing.insert(*port, error);
                }
            }
        }
    }

    fn bind(&self, (carries, place): Key, flag: &'static str) -> Result<(), BindError> {
        let udp = |carries| carries == Carries::Stream(Transport::Udp);
        let ours = |(other, at): &Key| udp(*other) == udp(carries) && at.overlaps(&place);
        let neighbours = if self.open.iter().any(ours) { Neighbours::Ours } else { Neighbours::None };
        let (workers, address) = (self.workers.len(), place.address);
        let listen = || listener::listen(place, flag, neighbours, workers);
        let sockets: Vec<Change> = match carries {
            Carries::Web(scheme) => {
                listen()?.into_iter().map(|socket| Change::Web(socket, address, scheme)).collect()
            }
            Carries::Stream(Transport::Tcp) => {
                listen()?.into_iter().map(|socket| Change::Tcp(socket, address)).collect()
            }
            Carries::Stream(Transport::Udp) => listener::bind_udp(place, flag, neighbours, workers)?
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

/// What is open and nobody asks for any more. A port stays where it is as long as it cannot be opened where clients of the
/// same family should find it: better one that was right a moment ago than none.
fn gone(open: &BTreeSet<Key>, wanted: &BTreeMap<Key, &'static str>) -> Vec<Key> {
    let lost = |(carries, place): &&Key| {
        place.families().iter().all(|family| {
            let same = |(other, at): &&Key| {
                other == carries
                    && at.address.port() == place.address.port()
                    && at.families().contains(family)
            };
            let mut instead = wanted.keys().filter(same).peekable();
            instead.peek().is_none() || instead.any(|port| open.contains(port))
        })
    };
    open.iter().filter(|port| !wanted.contains_key(port)).filter(lost).copied().collect()
}

/// What a worker has open; who takes clients there, and sessions of services, hear of the end when it is dropped.
#[derive(Default)]
pub(super) struct Open(BTreeMap<(Carries, SocketAddr), Kept>);

/// A port of a worker. `[::]` may get another socket while it stays open: then the old one stops, and sessions that began
/// there go on as if nothing had been.
struct Kept {
    _socket: watch::Sender<()>,
    port: watch::Sender<()>,
}

impl Open {
    /// A socket of a port that is new, or in the place of the one there was; tells of the end of the socket, and of the
    /// port.
    fn socket(&mut self, carries: Carries, address: SocketAddr) -> (Removed, Removed) {
        let (socket, replaced) = Removed::channel();
        let port = match self.0.remove(&(carries, address)) {
            Some(before) => before.port,
            None => Removed::channel().0,
        };
        let removed = Removed::of(&port);
        self.0.insert((carries, address), Kept { _socket: socket, port });
        (replaced, removed)
    }
}

/// Serves on one worker what it is told to until the drain begins and what waited for it in the kernel is taken.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    shared: &worker::Shared,
    mut changes: UnboundedReceiver<Change>,
) -> Open {
    let mut open = Open::default();
    let mut taking: Vec<JoinHandle<()>> = Vec::new();
    loop {
        // What was told before the drain began counts: clients may wait there.
        let change = tokio::select! {
            biased;
            Some(change) = changes.recv() => change,
            () = worker.drain.draining() => break,
        };
        let here = || (Rc::clone(worker), shared.clone());
        match change {
            Change::Web(socket, address, scheme) => {
                let (replaced, _removed) = open.socket(Carries::Web(scheme), address);
                worker.presences.welcome(address);
                let (worker, shared) = here();
                let task = worker::accept(worker, shared, (socket, address), scheme, replaced);
                taking.push(tokio::task::spawn_local(task));
            }
            Change::Tcp(socket, address) => {
                let ends = open.socket(Carries::Stream(Transport::Tcp), address);
                let (worker, shared) = here();
                let task = accept(worker, shared, socket, address, ends);
                taking.push(tokio::task::spawn_local(task));
            }
            Change::Udp(socket, address) => {
                // Its sessions end with the socket: the kernel would go on to give it datagrams of others.
                let (replaced, _removed) = open.socket(Carries::Stream(Transport::Udp), address);
                tokio::task::spawn_local(udp::serve(Rc::clone(worker), socket, address, replaced));
            }
            Change::Close(carries, address) => {
                drop(open.0.remove(&(carries, address)));
                if let Carries::Web(_) = carries {
                    worker.presences.dismiss(address);
                }
            }
        }
        taking.retain(|task| !task.is_finished());
    }
    for task in taking {
        // A panic was reported when it happened.
        let _reported = task.await;
    }
    open
}

/// Takes the connections of a TCP service until its socket is replaced or its port is closed; its sessions hear of the
/// latter only.
async fn accept(
    worker: Rc<Worker>,
    shared: worker::Shared,
    socket: TcpListener,
    address: SocketAddr,
    (replaced, removed): (Removed, Removed),
) {
    let queue = worker.drain.token(Work::Listener);
    let take = |stream, peer, open| {
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
    let stop = stopped(&worker, replaced);
    listener::accept(socket, stop, || shared.admit(&worker), take, failed).await;
    drop(queue);
}

/// Resolves when nobody is to come any more: the process leaves, the port is closed or has another socket.
pub(super) async fn stopped(worker: &Worker, mut replaced: Removed) {
    tokio::select! {
        () = worker.drain.draining() => {}
        () = replaced.wait() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Families;

    /// `open` with what cannot be opened left out of it: what is closed when `wanted` is wanted.
    fn check(open: &[&str], wanted: &[&str], expected: &[&str]) {
        let key = |text: &&str| {
            let (address, families) = match text.strip_suffix(" both") {
                Some(address) => (address, Families::Both),
                None => (*text, Families::Own),
            };
            (Carries::Web(Scheme::Http), Place { address: address.parse().unwrap(), families })
        };
        let wanted: BTreeMap<Key, &str> = wanted.iter().map(|at| (key(at), BIND_ADDRESS)).collect();
        let closed = gone(&open.iter().map(key).collect(), &wanted);
        let expected: Vec<Key> = expected.iter().map(key).collect();
        assert_eq!(closed, expected, "{open:?} {wanted:?}");
    }

    #[test]
    fn an_address_stays_until_clients_of_its_family_find_another_one() {
        // The new address of IPv4 cannot be opened; that of IPv6 is open as before.
        check(&["0.0.0.0:80", "[::]:80"], &["10.9.9.9:80", "[::]:80"], &[]);
        check(&["10.0.0.1:80", "[::]:80"], &["10.9.9.9:80", "[::]:80"], &[]);
        check(&["0.0.0.0:80", "[::]:80"], &["0.0.0.0:80", "[fd00::9]:80"], &[]);
        check(&["[::]:80 both"], &["10.9.9.9:80", "[::]:80"], &[]);
        check(&["[::]:80 both", "[::]:80"], &["10.9.9.9:80", "[::]:80"], &[]);
        // It can.
        check(&["0.0.0.0:80", "10.0.0.1:80", "[::]:80"], &["10.0.0.1:80", "[::]:80"], &["0.0.0.0:80"]);
        check(&["[::]:80 both", "[::]:80", "10.0.0.1:80"], &["10.0.0.1:80", "[::]:80"], &["[::]:80 both"]);
        // One of two is enough.
        check(&["0.0.0.0:80", "10.0.0.1:80"], &["10.0.0.1:80", "10.9.9.9:80"], &["0.0.0.0:80"]);
        // Nobody of the family is to come any more, or nobody at all.
        check(&["0.0.0.0:80", "[::]:80"], &["0.0.0.0:80"], &["[::]:80"]);
        check(&["0.0.0.0:80", "[::]:80"], &[], &["0.0.0.0:80", "[::]:80"]);
        // Another port is no help.
        check(&["0.0.0.0:80", "10.0.0.1:81"], &["10.9.9.9:80", "10.0.0.1:81"], &[]);
    }
}
