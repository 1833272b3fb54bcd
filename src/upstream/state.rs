//! What one worker has towards backends, as one value.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::balance::{Balancer, PickFacts, Picked};
use super::connect::connect;
use super::error::ErrorKind;
use super::fastcgi::{self, FastcgiRequest};
use super::health::Health;
use super::http1::{self, Connection, Home};
use super::http2::{self, Checkout, Sessions};
use super::pool::{OpenCounts, Pool, PoolKey};
use super::resolve::{AddressRule, NameServers, Resolver};
use super::rng::Rng;
use super::stream::Tunnel;
use super::tls::{ClientTls, TlsCache, TlsError, TlsMaterial};
use super::{Answer, Failed, Protocol, Reuse, UpstreamError, UpstreamRequest, UpstreamTimes};
use crate::limit::Memory;
use crate::message::RequestBody;
use crate::policy::backend_tls::BackendTls;
use crate::policy::external_auth::Keepalive;
use crate::policy::global::UpstreamKeepalive;
use crate::policy::timeout::Timeouts;
use crate::route::{Backend, BackendKey, EndpointAddress, EndpointMap, EndpointSet};

/// Backends that are looked at without a pause, which takes some ten microseconds.
const PIECE: usize = 256;
/// Between two looks at idle connections.
const SWEEP: Duration = Duration::from_secs(1);

/// What a worker starts with.
pub struct Settings {
    /// The ConfigMap's `upstream-keepalive-*`.
    pub keepalive: UpstreamKeepalive,
    /// Who resolves ExternalName Services.
    pub name_servers: NameServers,
    /// Which addresses may be connected to (B-18); asked for every connection and every resolved address.
    pub address_rule: AddressRule,
    /// False for `--passive-health=off`.
    pub passive_health: bool,
    /// Connections of this worker to one endpoint (F-17: 1,024 over all workers).
    pub endpoint_connections: u32,
    /// Workers that share what a backend may be retried (F-12).
    pub workers: u32,
    /// Source of chance for balancing.
    pub rng: Rng,
    /// Where what answers take up is counted.
    pub memory: Memory,
}

/// Where and how a request goes.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Address that was picked.
    pub address: SocketAddr,
    /// What is spoken.
    pub protocol: Protocol,
    /// How its connection is kept; `None` where the ConfigMap's `upstream-keepalive-*` say so.
    pub kept: Option<Keepalive>,
    /// TLS, or clear text.
    pub tls: Option<Rc<ClientTls>>,
}

/// Pools, balancers, TLS configurations, names and health of one worker.
pub struct Upstreams {
    pool: Rc<Pool>,
    sessions: Rc<Sessions>,
    open: OpenCounts,
    balancer: Balancer,
    health: Health,
    tls: TlsCache,
    resolver: Resolver,
    address_rule: AddressRule,
    /// Names stand for their IPv4 addresses only.
    ipv4_names: Cell<bool>,
    endpoint_connections: u32,
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams")
            .field("idle", &self.pool.len())
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

impl Upstreams {
    /// Empty pools, unresolved names.
    pub fn new(settings: Settings) -> Self {
        let resolver = Resolver::new(&settings.name_servers);
        Self::with_resolver(settings, resolver)
    }

    /// As [`Upstreams::new`], with a resolver of the caller's.
    pub fn with_resolver(settings: Settings, resolver: Resolver) -> Self {
        Self {
            pool: Rc::new(Pool::new(settings.keepalive, settings.memory)),
            sessions: Rc::default(),
            open: OpenCounts::default(),
            balancer: Balancer::new(settings.rng).shared_by(settings.workers),
            health: Health::new(settings.passive_health),
            tls: TlsCache::new(),
            resolver,
            address_rule: settings.address_rule,
            ipv4_names: Cell::new(false),
            endpoint_connections: settings.endpoint_connections,
        }
    }

    /// Follows `disable-ipv6-dns`: names stand for their IPv4 addresses only.
    pub fn use_ipv4_names_only(&self, only: bool) {
        self.ipv4_names.set(only);
    }

    /// The set with every name replaced by its allowed addresses. Waits only for a name that was never resolved;
    /// a set without names comes back as it is.
    pub async fn endpoints(&self, set: &Arc<EndpointSet>) -> Arc<EndpointSet> {
        // Sets are sorted, and names sort last.
        if !matches!(set.ready.last(), Some(EndpointAddress::Name(..))) {
            return Arc::clone(set);
        }
        // Boxed: rare, and every request would carry the room for a look-up.
        Box::pin(self.resolved(set)).await
    }

    async fn resolved(&self, set: &EndpointSet) -> Arc<EndpointSet> {
        let mut ready = Vec::with_capacity(set.ready.len());
        for endpoint in &set.ready {
            match endpoint {
                EndpointAddress::Socket(_) => ready.push(endpoint.clone()),
                EndpointAddress::Name(name, port) => {
                    let addresses = self.resolver.addresses(name).await;
                    let sockets = addresses.iter().map(|address| SocketAddr::new(*address, *port));
                    let ipv4_only = self.ipv4_names.get();
                    let allowed = sockets
                        .filter(|socket| !(ipv4_only && socket.is_ipv6()))
                        .filter(|socket| (self.address_rule)(*socket));
                    ready.extend(allowed.map(EndpointAddress::Socket));
                }
            }
        }
        let empty_because = if ready.is_empty() { "the external name has no usable address" } else { "" };
        Arc::new(EndpointSet { ready, empty_because })
    }

    /// Picks the endpoint for a try; `None` when there is none (503).
    pub fn pick(
        &self,
        backend: &Backend,
        endpoints: &Arc<EndpointSet>,
        facts: &PickFacts<'_>,
        now: Instant,
    ) -> Option<Picked> {
        self.balancer.pick(backend, endpoints, facts, &self.health, now)
    }

    /// Takes one more try out of the budget of a backend (F-12); false when it is used up.
    pub fn may_retry(&self, backend: &Backend, now: Instant) -> bool {
        self.balancer.may_retry(&backend.key, now)
    }

    /// The TLS configuration for a backend; see [`TlsCache::client`].
    ///
    /// # Errors
    /// [`TlsError`]: answer 502, never go on in clear text.
    pub fn tls(
        &self,
        policy: &BackendTls,
        material: Option<&Arc<TlsMaterial>>,
        host: &str,
        protocol: Protocol,
    ) -> Result<Rc<ClientTls>, TlsError> {
        self.tls.client(policy, material, host, protocol)
    }

    /// One try: takes or makes a connection, sends `request` with `body`, reads the head of the answer. Dropping the
    /// future gives the try up and closes what it used. Passive health learns from the outcome.
    ///
    /// # Errors
    /// [`Failed`], with the body where it can be sent again.
    pub async fn exchange(
        &self,
        peer: &Peer,
        request: &UpstreamRequest<'_>,
        body: RequestBody,
        timeouts: &Timeouts,
        reuse: Reuse,
        times: &Rc<UpstreamTimes>,
    ) -> Result<Answer, Failed> {
        let key = PoolKey {
            address: peer.address,
            protocol: peer.protocol,
            kept: peer.kept,
            tls: peer.tls.as_ref().map_or(0, |tls| tls.id()),
        };
        let outcome = match peer.protocol {
            Protocol::Http1 => self.exchange_http1(peer, key, request, body, timeouts, reuse, times).await,
            // Boxed, as is connecting: rare, large, and every request would carry the room for it.
            Protocol::Http2 => Box::pin(self.exchange_http2(peer, key, request, body, timeouts, times)).await,
        };
        match &outcome {
            Ok(_) => self.health.answered(peer.address),
            Err(failed) => {
                times.ended();
                if failed.error.is_illness() {
                    self.health.failed(peer.address, Instant::now());
                }
            }
        }
        outcome
    }

    #[expect(clippy::too_many_arguments, reason = "the second half of `exchange`, split by protocol")]
    async fn exchange_http1(
        &self,
        peer: &Peer,
        key: PoolKey,
        request: &UpstreamRequest<'_>,
        body: RequestBody,
        timeouts: &Timeouts,
        reuse: Reuse,
        times: &Rc<UpstreamTimes>,
    ) -> Result<Answer, Failed> {
        let lane = self.pool.lane(&key);
        let pooled = match reuse {
            Reuse::Allow => self.pool.checkout(&lane, times.start()),
            Reuse::Fresh => None,
        };
        let connection = match pooled {
            Some(connection) => connection,
            None => match Box::pin(self.connect(peer, timeouts)).await {
                Ok((stream, open)) => Box::new(Connection::new(stream, open, self.pool.memory())),
                Err(kind) => {
                    return Err(Failed { error: UpstreamError::unsent(kind), body: Some(body) });
                }
            },
        };
        times.connected(connection.exchanges() > 0);
        let home = Home { pool: Rc::clone(&self.pool), lane };
        http1::exchange(connection, home, request, body, *timeouts, Rc::clone(times)).await
    }

    async fn exchange_http2(
        &self,
        peer: &Peer,
        key: PoolKey,
        request: &UpstreamRequest<'_>,
        body: RequestBody,
        timeouts: &Timeouts,
        times: &Rc<UpstreamTimes>,
    ) -> Result<Answer, Failed> {
        let mut may_wait = true;
        let lease = loop {
            match self.sessions.checkout(&key, &self.pool.limits(), may_wait, Instant::now()) {
                Checkout::Lease(lease) => {
                    times.connected(true);
                    break lease;
                }
                Checkout::Wait(notify) => {
                    notify.notified().await;
                    may_wait = false;
                }
                Checkout::Connect(_ticket) => {
                    let started = match self.connect(peer, timeouts).await {
                        Ok((stream, open)) => {
                            self.sessions.start(key, stream, open, self.pool.memory().bodies()).await
                        }
                        Err(kind) => Err(kind),
                    };
                    match started {
                        Ok(lease) => {
                            times.connected(false);
                            break lease;
                        }
                        Err(kind) => {
                            return Err(Failed { error: UpstreamError::unsent(kind), body: Some(body) });
                        }
                    }
                }
            }
        };
        let (timeouts, times) = (*timeouts, Rc::clone(times));
        http2::exchange(lease, &key, request, body, timeouts, times, self.pool.memory()).await
    }

    async fn connect(
        &self,
        peer: &Peer,
        timeouts: &Timeouts,
    ) -> Result<(super::stream::Stream, super::pool::Open), ErrorKind> {
        if !(self.address_rule)(peer.address) {
            return Err(ErrorKind::Denied);
        }
        let open = self.open.open(peer.address, self.endpoint_connections).ok_or(ErrorKind::Busy)?;
        let stream = connect(peer.address, peer.tls.as_deref(), timeouts.connect).await?;
        Ok((stream, open))
    }

    /// One try at a FastCGI application: a fresh connection, the request, the head of the answer. Passive health learns
    /// from the outcome.
    ///
    /// # Errors
    /// [`Failed`], with the body where it can be sent again.
    pub async fn fastcgi(
        &self,
        address: SocketAddr,
        request: &FastcgiRequest<'_>,
        body: RequestBody,
        timeouts: &Timeouts,
        times: &Rc<UpstreamTimes>,
    ) -> Result<Answer, Failed> {
        let outcome = match self.dial(address, timeouts.connect).await {
            Ok(stream) => {
                times.connected(false);
                fastcgi::exchange(stream, request, body, *timeouts, Rc::clone(times)).await
            }
            Err(kind) => {
                times.ended();
                Err(Failed { error: UpstreamError::unsent(kind), body: Some(body) })
            }
        };
        match &outcome {
            Ok(_) => self.health.answered(address),
            Err(failed) if failed.error.is_illness() => self.health.failed(address, Instant::now()),
            Err(_) => {}
        }
        outcome
    }

    /// A connection of its own for a byte stream that is no HTTP, within `limit`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn dial(&self, address: SocketAddr, limit: Duration) -> Result<Tunnel, ErrorKind> {
        if (self.address_rule)(address) {
            self.dial_judged(address, limit).await
        } else {
            Err(ErrorKind::Denied)
        }
    }

    /// As [`Upstreams::dial`] for an address that was judged when the table was compiled.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn dial_judged(&self, address: SocketAddr, limit: Duration) -> Result<Tunnel, ErrorKind> {
        let open = self.open.open(address, self.endpoint_connections).ok_or(ErrorKind::Busy)?;
        let stream = connect(address, None, limit).await?;
        Ok(Tunnel::new(bytes::BytesMut::new(), stream, open))
    }

    /// True for an address that may be connected to.
    pub fn may_reach(&self, address: SocketAddr) -> bool {
        (self.address_rule)(address)
    }

    /// Tells the EWMA balancer what a finished try took. Call when the answer's body ended or the try failed.
    pub fn observe(&self, backend: &BackendKey, address: SocketAddr, times: &UpstreamTimes, now: Instant) {
        if let Some(response) = times.response() {
            let took = response.saturating_add(times.connect().unwrap_or_default());
            self.balancer.observe(backend, address, took, now);
        }
    }

    /// Takes a newly published table over: limits, and what belongs to vanished backends and endpoints goes. Running
    /// exchanges go on, and requests come between: there may be ten thousand backends to look at. `newer` gives the
    /// backends, sorted by key, of a table that was published meanwhile: requests may have begun with them already.
    pub async fn publish<'b>(
        &self,
        backends: impl Iterator<Item = &'b Backend>,
        endpoints: &EndpointMap,
        keepalive: UpstreamKeepalive,
        newer: impl Fn() -> Option<Arc<[Arc<Backend>]>>,
    ) {
        self.pool.configure(keepalive);
        let keys = in_pieces(backends.map(|backend| &backend.key)).await;
        let next = newer().unwrap_or_default();
        let is_next = |key: &BackendKey| next.binary_search_by(|backend| backend.key.cmp(key)).is_ok();
        self.balancer.retain(|key| keys.contains(key) || is_next(key));
        self.tls.sweep(Instant::now());
        self.open.sweep();
        if self.pool.is_empty() && self.sessions.is_empty() {
            return;
        }
        let names = self.resolver.all_addresses();
        let ready = endpoints.iter().flat_map(|set| &set.ready);
        let sockets = in_pieces(ready.filter_map(|endpoint| match endpoint {
            EndpointAddress::Socket(socket) => Some(socket),
            EndpointAddress::Name(..) => None,
        }))
        .await;
        // Connections to the newer endpoints cannot be told from those to vanished ones: the next publication looks at
        // them, and what idles for long ends by itself.
        if newer().is_some() {
            return;
        }
        let keep = |key: &PoolKey| sockets.contains(&key.address) || names.contains(&key.address.ip());
        self.pool.retain(keep);
        self.sessions.retain(keep);
    }

    /// Closes every idle HTTP/1 connection: their descriptors are needed elsewhere (F-21).
    pub fn drop_idle(&self) {
        self.pool.retain(|_| false);
    }

    /// Drops what idled too long or was closed by backends. [`Upstreams::maintain`] calls it.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.pool.sweep(now);
        self.sessions.sweep(&self.pool.limits(), now);
        self.health.sweep(now);
        self.resolver.sweep(now);
    }

    /// Keeps the pools clean for as long as it is polled: the worker spawns it once.
    pub async fn maintain(&self) {
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep();
        }
    }

    /// Idle HTTP/1 connections, and HTTP/2 connections.
    pub fn kept_connections(&self) -> (usize, usize) {
        (self.pool.len(), self.sessions.len())
    }
}

/// A set of `items`; after every so many of them everything else on this thread gets a turn.
async fn in_pieces<T: Hash + Eq>(items: impl Iterator<Item = T>) -> HashSet<T, RandomState> {
    let mut set = HashSet::with_capacity_and_hasher(items.size_hint().0, RandomState::default());
    for item in items {
        set.insert(item);
        if set.len().is_multiple_of(PIECE) {
            tokio::task::yield_now().await;
        }
    }
    set
}
