//! Listening sockets: bound once per worker with `SO_REUSEPORT`, accepted in a loop that never ends by an error.
//!
//! It hands each connection to the function that `app` gave it and knows nothing of HTTP.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdUdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

pub mod client_hello;
pub mod own;
pub mod proxy_protocol;

/// Connections that may wait in the kernel per socket.
const BACKLOG: i32 = 4096;
/// Connections that may wait for room after their socket closed. They have descriptors that nobody counted, and what is
/// under way needs some too.
const HELD: usize = 256;

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({flag}): {source}; {hint}")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// The flag that asked for it.
    pub flag: &'static str,
    /// What to do.
    pub hint: &'static str,
    /// What the system said.
    pub source: io::Error,
}

/// A port that is kept for us, and the address it really has. Nobody listens yet: clients are refused, as long as there is
/// nothing to serve them with, instead of left waiting.
#[derive(Debug)]
pub struct Port {
    /// Address with the real port number.
    pub address: SocketAddr,
    flag: &'static str,
    /// Holds the port; bound only. None where somebody else has it on one of the addresses.
    _held: Option<Socket>,
}

/// Takes a port. It is tried without `SO_REUSEPORT`, so a port that another process holds is an error and never shared in
/// silence. Port 0 takes a free one.
///
/// # Errors
/// [`BindError`] naming address and flag.
pub fn bind(address: SocketAddr, flag: &'static str) -> Result<Port, BindError> {
    let fail = |source| refusal(address, flag, source);
    let alone = listening_socket(Place::from(address), Sharing::Alone).map_err(fail)?;
    let real = alone.local_addr().map_err(fail)?.as_socket().unwrap_or(address);
    drop(alone);
    let held = stream_socket(Place::from(real), Sharing::Alone).map_err(fail)?;
    Ok(Port { address: real, flag, _held: Some(held) })
}

/// As [`bind`], where other addresses than this one may be listened on in the end: a port that somebody has is not held,
/// and why comes with it. Whoever listens finds out whether that is in the way.
///
/// # Errors
/// [`BindError`] naming address and flag, for any other reason.
pub fn bind_or_leave(
    address: SocketAddr,
    flag: &'static str,
) -> Result<(Port, Option<BindError>), BindError> {
    match bind(address, flag) {
        Ok(port) => Ok((port, None)),
        Err(taken) if taken.source.kind() == io::ErrorKind::AddrInUse => {
            Ok((Port { address, flag, _held: None }, Some(taken)))
        }
        Err(other) => Err(other),
    }
}

impl Port {
    /// One listening socket per worker. From now on clients are taken.
    ///
    /// # Errors
    /// [`BindError`] naming address and flag.
    pub fn listen(self, workers: usize) -> Result<Vec<StdListener>, BindError> {
        // Somebody may have begun to listen since: a port that is only bound keeps nobody out.
        listen(Place::from(self.address), self.flag, Neighbours::None, workers)
    }
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Address and port.
    pub address: SocketAddr,
    /// Whose clients come to `[::]`.
    pub families: Families,
}

/// Whose clients come to the address that stands for all of IPv6; others have no choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Families {
    /// Those of IPv6 and of IPv4.
    Both,
    /// Those of IPv6.
    Own,
}

/// Whether sockets of this process stand in the way of a new one, which is told only together with the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbours {
    /// None do: who holds the port is somebody else.
    None,
    /// One that listens on all addresses, or on one of them where the new one is for all.
    Ours,
}

impl From<SocketAddr> for Place {
    /// Everyone's who may come to the address.
    fn from(address: SocketAddr) -> Self {
        Self { address, families: Families::Both }
    }
}

impl Place {
    /// True where both cannot be open for two processes.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (one, another) = (self.address, other.address);
        let all = one.ip().is_unspecified() || another.ip().is_unspecified();
        one.port() == another.port() && self.shares_family(other) && (all || one.ip() == another.ip())
    }

    /// True where clients of one family may come to either.
    pub fn shares_family(&self, other: &Self) -> bool {
        self.families().iter().any(|family| other.families().contains(family))
    }

    /// Whose clients come to it.
    pub fn families(&self) -> &'static [Family] {
        match self.address {
            SocketAddr::V4(_) => &[Family::V4],
            SocketAddr::V6(at) if at.ip().is_unspecified() && self.families == Families::Both => {
                &[Family::V6, Family::V4]
            }
            SocketAddr::V6(_) => &[Family::V6],
        }
    }
}

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One listening socket for each worker. As with [`bind`] the port is taken alone first, unless our own neighbours
/// would be in the way.
///
/// # Errors
/// [`BindError`] naming address and flag.
pub fn listen(
    place: Place,
    flag: &'static str,
    neighbours: Neighbours,
    workers: usize,
) -> Result<Vec<StdListener>, BindError> {
    for_workers(place, flag, neighbours, workers, |sharing| listening_socket(place, sharing))
}

/// Takes a UDP port as [`listen`] does and gives one socket for each worker: the kernel spreads clients over them, each
/// to the same one as long as none comes or goes.
///
/// # Errors
/// [`BindError`] naming address and flag.
pub fn bind_udp(
    place: Place,
    flag: &'static str,
    neighbours: Neighbours,
    workers: usize,
) -> Result<Vec<StdUdpSocket>, BindError> {
    for_workers(place, flag, neighbours, workers, |sharing| datagram_socket(place, sharing))
}

/// As many sockets of one port as there are workers, each as the caller makes its kind.
fn for_workers<S: From<Socket>>(
    place: Place,
    flag: &'static str,
    neighbours: Neighbours,
    workers: usize,
    open: impl Fn(Sharing) -> io::Result<Socket>,
) -> Result<Vec<S>, BindError> {
    let fail = |source| refusal(place.address, flag, source);
    // Whoever holds the port already is found out by a socket that shares it with nobody. From then on it does: one that
    // was only tried and closed would reset clients who came meanwhile.
    let first = match neighbours {
        Neighbours::None => {
            let alone = open(Sharing::Alone).map_err(fail)?;
            alone.set_reuse_port(true).map_err(fail)?;
            Some(alone)
        }
        Neighbours::Ours => None,
    };
    let others = std::iter::repeat_with(|| open(Sharing::Workers));
    let all = first.map(Ok).into_iter().chain(others).take(workers);
    all.map(|socket| socket.map(S::from).map_err(fail)).collect()
}

fn datagram_socket(place: Place, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(place.address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // No SO_REUSEADDR: for UDP it would let another process take the port from us.
    if sharing == Sharing::Workers {
        socket.set_reuse_port(true)?;
    }
    choose_families(&socket, place)?;
    socket.bind(&place.address.into())?;
    Ok(socket)
}

fn choose_families(socket: &Socket, place: Place) -> io::Result<()> {
    match place.address {
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => socket.set_only_v6(place.families == Families::Own),
        _ => Ok(()),
    }
}

fn refusal(address: SocketAddr, flag: &'static str, source: io::Error) -> BindError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => "another process holds this port; stop it or choose another address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher port",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
        _ => "choose another address",
    };
    BindError { address, flag, hint, source }
}

/// Who may listen on the same port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Nobody else.
    Alone,
    /// The other workers of this process.
    Workers,
}

fn stream_socket(place: Place, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(place.address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Workers {
        socket.set_reuse_port(true)?;
    }
    choose_families(&socket, place)?;
    socket.bind(&place.address.into())?;
    Ok(socket)
}

/// Two sockets may be bound to one port as long as none listens (SO_REUSEADDR); listening is what tells.
fn listening_socket(place: Place, sharing: Sharing) -> io::Result<Socket> {
    let socket = stream_socket(place, sharing)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// A connection that was accepted, and where it comes from.
pub type Accepted = (TcpStream, SocketAddr);

/// Accepts until `stop` resolves, then takes what already waits in the kernel and closes the socket. Each accepted
/// stream goes to `take`; what `admit` refuses is closed at once.
pub async fn accept<P>(
    listener: StdListener,
    stop: impl Future<Output = ()>,
    admit: impl Fn() -> Option<P>,
    take: impl Fn(TcpStream, SocketAddr, P),
    failed: impl Fn(&io::Error),
) {
    let last = accept_paced(listener, stop, async || (), || (), async || admit(), &take, failed).await;
    for (stream, peer) in last.into_iter().flatten() {
        if let Some(permit) = admit() {
            take(stream, peer, permit);
        }
    }
}

/// As [`accept`]; before each connection `room` is waited for, while others wait in the kernel, and `admit` may wait with
/// the connection in hand: room may have gone to other sockets before somebody came. `resting` is held while accepting
/// rests because the process has no descriptors left. Who still waits in the end is for the caller, who knows how long
/// they may wait for room; none where the socket does not work.
pub async fn accept_paced<P, R>(
    listener: StdListener,
    stop: impl Future<Output = ()>,
    room: impl AsyncFn(),
    resting: impl Fn() -> R,
    admit: impl AsyncFn() -> Option<P>,
    take: impl Fn(TcpStream, SocketAddr, P),
    failed: impl Fn(&io::Error),
) -> Option<Last> {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            failed(&error);
            return None;
        }
    };
    let mut reserve = Reserve::open();
    let mut pause = Pause::default();
    tokio::pin!(stop);
    let next = async || {
        room().await;
        listener.accept().await
    };
    let held = loop {
        tokio::select! {
            biased;
            () = stop.as_mut() => break None,
            accepted = next() => match accepted {
                Ok((stream, peer)) => {
                    pause = Pause::default();
                    at_once(&stream);
                    tokio::select! {
                        biased;
                        permit = admit() => {
                            if let Some(permit) = permit {
                                take(stream, peer, permit);
                            }
                        }
                        () = stop.as_mut() => break Some((stream, peer)),
                    }
                }
                Err(error) if is_of_one_connection(&error) => failed(&error),
                Err(error) => {
                    failed(&error);
                    reserve.shed(&listener).await;
                    let rest = resting();
                    tokio::time::sleep(pause.next()).await;
                    drop(rest);
                }
            },
        }
    };
    // The runtime may not have heard yet of clients that wait in the kernel, so the kernel itself is asked.
    listener.into_std().ok().map(|socket| Last { held, socket })
}

/// Those who wait at a socket that takes nobody else any more; it closes when this is dropped.
#[derive(Debug)]
pub struct Last {
    /// Who was accepted and not admitted yet.
    held: Option<Accepted>,
    socket: StdListener,
}

impl Iterator for Last {
    type Item = Accepted;

    fn next(&mut self) -> Option<Accepted> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        loop {
            let (stream, peer) = self.socket.accept().ok()?;
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                at_once(&stream);
                return Some((stream, peer));
            }
        }
    }
}

impl Last {
    /// Closes the socket and keeps those who wait there, first come first. Beyond a bound they are closed with it.
    pub fn close(self) -> Vec<Accepted> {
        self.take(HELD).collect()
    }
}

/// Answers go out when they are ready.
fn at_once(stream: &TcpStream) {
    // A socket that refuses this is already dead and will say so.
    let _dead = stream.set_nodelay(true);
}

/// The next connection that already waits, if any.
async fn ready(listener: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match listener.poll_accept(cx) {
            std::task::Poll::Ready(accepted) => Some(accepted),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Pause between failing accepts: 5 ms, doubling to 1 s (`D-8`).
#[derive(Default)]
struct Pause(u32);

impl Pause {
    fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(5 << self.0.min(8)).min(Duration::from_secs(1));
        self.0 += 1;
        pause
    }
}

/// One spare descriptor: given up for a moment when there are none left, so that a waiting client is closed instead
/// of left hanging (`D-8`).
struct Reserve(Option<std::fs::File>);

impl Reserve {
    fn open() -> Self {
        Self(std::fs::File::open("/dev/null").ok())
    }

    async fn shed(&mut self, listener: &TcpListener) {
        self.0 = None;
        drop(ready(listener).await);
        *self = Self::open();
    }
}

#[cfg(test)]
mod tests;
