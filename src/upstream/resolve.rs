//! Names of ExternalName Services to addresses (B-18, B-19, F-23).
//!
//! Bounded and never blocking: a name is asked for by one task at a time, answers are kept for their TTL (1 to 300 s),
//! a renewal happens behind the back of requests, and a failed renewal keeps the last good answer for ten minutes.
//! Which addresses may be connected to is a rule passed in; it is asked for every address.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use tokio::sync::Notify;

/// TTLs below count as this.
const SHORTEST: Duration = Duration::from_secs(1);
/// TTLs above count as this.
const LONGEST: Duration = Duration::from_secs(300);
/// A failed or empty answer is asked for again after this.
const NEGATIVE: Duration = Duration::from_secs(5);
/// How long the last good answer serves when renewals fail.
const LAST_GOOD: Duration = Duration::from_secs(600);
/// Questions under way at once.
const IN_FLIGHT: usize = 512;
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Which addresses may be connected to.
pub type AddressRule = Rc<dyn Fn(SocketAddr) -> bool>;

/// Who is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NameServers {
    /// Those of the system's resolv.conf.
    #[default]
    System,
    /// `--dns-resolver`.
    Listed(Vec<SocketAddr>),
}

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// For how long.
    pub ttl: Duration,
}

/// An answer to come; `None` when there is none.
pub type Lookup = Pin<Box<dyn Future<Output = Option<Found>>>>;

/// The names of one worker.
#[derive(Clone)]
pub struct Resolver(Rc<Inner>);

struct Inner {
    ask: Box<dyn Fn(Arc<str>) -> Lookup>,
    names: RefCell<HashMap<Arc<str>, Name, RandomState>>,
    in_flight: Cell<usize>,
}

#[derive(Debug)]
struct Name {
    addresses: Rc<[IpAddr]>,
    fresh_until: Instant,
    /// When the addresses stop serving although no newer ones came.
    good_until: Instant,
    /// Set while the name is asked for.
    asking: Option<Rc<Notify>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolver({} names)", self.0.names.borrow().len())
    }
}

impl Resolver {
    /// A resolver that asks `servers`. Where the system's configuration cannot be read, no name resolves.
    pub fn new(servers: &NameServers) -> Self {
        let hickory = hickory(servers).map(Rc::new);
        Self::with_lookup(move |name| {
            let hickory = hickory.clone();
            Box::pin(async move { look_up(hickory.as_deref()?, &name).await })
        })
    }

    /// A resolver over any source of answers.
    pub fn with_lookup(ask: impl Fn(Arc<str>) -> Lookup + 'static) -> Self {
        let inner = Inner { ask: Box::new(ask), names: RefCell::default(), in_flight: Cell::new(0) };
        Self(Rc::new(inner))
    }

    /// The addresses of `name`, in order; none when it does not resolve. Waits only where nothing is known.
    pub async fn addresses(&self, name: &Arc<str>) -> Rc<[IpAddr]> {
        if is_refused(name) {
            return Rc::default();
        }
        let now = Instant::now();
        if let Some(addresses) = self.known(name, now) {
            return addresses;
        }
        let Some(asking) = self.ask(name, now) else { return Rc::default() };
        asking.notified().await;
        self.known(name, Instant::now()).unwrap_or_default()
    }

    /// Every address that a name has now.
    pub(super) fn all_addresses(&self) -> Vec<IpAddr> {
        self.0.names.borrow().values().flat_map(|name| name.addresses.iter().copied()).collect()
    }

    /// Forgets names that nobody could be served from.
    pub(super) fn sweep(&self, now: Instant) {
        self.0.names.borrow_mut().retain(|_, name| name.asking.is_some() || name.good_until > now);
    }

    /// What is known, and a renewal in the background where it is old.
    fn known(&self, name: &Arc<str>, now: Instant) -> Option<Rc<[IpAddr]>> {
        let (addresses, fresh) = {
            let names = self.0.names.borrow();
            let known = names.get(name)?;
            let fresh = known.fresh_until > now;
            if !fresh && known.good_until <= now {
                return None;
            }
            (Rc::clone(&known.addresses), fresh || known.asking.is_some())
        };
        if !fresh {
            let _ = self.ask(name, now);
        }
        Some(addresses)
    }

    /// Starts asking, or joins who asks already; `None` when too many questions are under way.
    fn ask(&self, name: &Arc<str>, now: Instant) -> Option<Rc<Notify>> {
        let mut names = self.0.names.borrow_mut();
        let known = names.entry(Arc::clone(name)).or_insert_with(|| Name {
            addresses: Rc::default(),
            fresh_until: now,
            good_until: now,
            asking: None,
        });
        if let Some(asking) = &known.asking {
            return Some(Rc::clone(asking));
        }
        if self.0.in_flight.get() >= IN_FLIGHT {
            return None;
        }
        self.0.in_flight.set(self.0.in_flight.get().saturating_add(1));
        let asking = Rc::new(Notify::new());
        known.asking = Some(Rc::clone(&asking));
        let (inner, name) = (Rc::clone(&self.0), Arc::clone(name));
        // A task of its own: a client that leaves does not stop what others wait for.
        tokio::task::spawn_local(async move {
            let found = tokio::time::timeout(TIMEOUT, (inner.ask)(Arc::clone(&name))).await.ok().flatten();
            inner.take(&name, found, Instant::now());
        });
        Some(asking)
    }
}

impl Inner {
    fn take(&self, name: &Arc<str>, found: Option<Found>, now: Instant) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        let mut names = self.names.borrow_mut();
        let Some(known) = names.get_mut(name) else { return };
        match found.filter(|found| !found.addresses.is_empty()) {
            Some(Found { mut addresses, ttl }) => {
                addresses.sort_unstable();
                addresses.dedup();
                known.addresses = addresses.into();
                known.fresh_until = now + ttl.clamp(SHORTEST, LONGEST);
                known.good_until = known.fresh_until + LAST_GOOD;
            }
            None => {
                known.fresh_until = now + NEGATIVE;
                if known.good_until <= now {
                    known.addresses = Rc::default();
                    known.good_until = known.fresh_until;
                }
            }
        }
        if let Some(asking) = known.asking.take() {
            asking.notify_waiters();
        }
    }
}

/// Names that never leave the machine or lead to metadata services, and addresses in the place of names (B-19).
fn is_refused(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.is_empty()
        || name == "localhost"
        || name.ends_with(".localhost")
        || name == "metadata"
        || name == "metadata.google.internal"
        || name.parse::<IpAddr>().is_ok()
}

fn hickory(servers: &NameServers) -> Option<TokioResolver> {
    let mut builder = match servers {
        NameServers::System => TokioResolver::builder_tokio().ok()?,
        NameServers::Listed(servers) => {
            let servers = servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            Hickory::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.timeout = TIMEOUT / 2;
    options.attempts = 1;
    options.cache_size = 0;
    options.positive_max_ttl = Some(LONGEST);
    builder.build().ok()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp]
        .map(|protocol| {
            let mut connection = ConnectionConfig::new(protocol);
            connection.port = address.port();
            connection
        })
        .into();
    NameServerConfig::new(address.ip(), true, connections)
}

async fn look_up(hickory: &TokioResolver, name: &str) -> Option<Found> {
    // The final dot keeps search domains out: tenants' names are absolute (F-23).
    let absolute = format!("{}.", name.trim_end_matches('.'));
    let lookup = hickory.lookup_ip(absolute).await.ok()?;
    let ttl = lookup.valid_until().saturating_duration_since(Instant::now());
    Some(Found { addresses: lookup.iter().collect(), ttl })
}

#[cfg(test)]
mod tests;
