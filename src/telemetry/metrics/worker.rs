//! One worker's metrics: plain counters and gauges, and the way from a finished request to its series.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::Shared;
use super::layout::{Layout, Observed};
use super::names::{self, Family};
use super::series::{Slot, method_index};
use crate::telemetry::record::{Counted, HostLabel, LocalReason, RouteLabels};

/// Half as many routes is what a worker remembers series for if all of them are in use at once, such as ten thousand hosts
/// with five paths; beyond, it forgets all and begins again.
const CACHED_ROUTES: usize = 131_072;
/// The same where clients give hosts names of their own.
const FEWER_ROUTES: usize = 16_384;
/// After each text of a remembered route: what no name and no path of an object has in it.
const END: &str = "\0";
/// So many are remembered before anything is forgotten.
const FEW_ROUTES: usize = 256;

macro_rules! indexed {
    ($(#[$doc:meta])* $name:ident $table:ident { $($variant:ident = $family:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("See `names::", stringify!($family), "`.")] $variant,)*
        }

        /// Families in the order of the enum.
        pub(super) static $table: &[&Family] = &[$(&names::$family,)*];
    };
}

indexed! {
    /// Counters of a worker.
    Counter COUNTERS {
        Accepted = ACCEPTED,
        AcceptErrors = ACCEPT_ERRORS,
        Requests = PROCESS_REQUESTS_TOTAL,
        Unmatched = UNMATCHED,
        BytesReceived = BYTES_RECEIVED,
        BytesSent = BYTES_SENT_TOTAL,
        TlsHandshakes = TLS_HANDSHAKES,
        TlsResumed = TLS_RESUMED,
        TlsErrors = TLS_ERRORS,
        UpstreamConnects = UPSTREAM_CONNECTS,
        UpstreamConnectErrors = UPSTREAM_CONNECT_ERRORS,
        UpstreamReuses = UPSTREAM_REUSES,
        UpstreamStale = UPSTREAM_STALE,
        RetriesDenied = RETRIES_DENIED,
        Ejections = EJECTIONS,
        Tunnels = TUNNELS_TOTAL,
        TunnelsCut = TUNNELS_CUT,
        Stalls = WORKER_STALLS,
        SessionBytesReceived = SESSION_BYTES_RECEIVED,
        SessionBytesSent = SESSION_BYTES_SENT,
        DatagramsDropped = DATAGRAMS_DROPPED,
        IdleShed = IDLE_SHED,
        HeaderValuesRejected = HEADER_VALUES_REJECTED,
    }
}

indexed! {
    /// Gauges of a worker.
    Gauge GAUGES {
        Connections = CONNECTIONS,
        Requests = ACTIVE_REQUESTS,
        Tunnels = TUNNELS,
        TlsHandshakes = TLS_HANDSHAKES_ACTIVE,
        PoolIdle = POOL_IDLE,
        PoolInUse = POOL_IN_USE,
        UdpSessions = UDP_SESSIONS,
        Spooled = SPOOLED,
        Buffered = BUFFERED,
        AcceptResting = ACCEPT_RESTING,
    }
}

/// Counters told apart by words of ours: a closed list, written by hand at the place that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Worded {
    /// By kind and rule.
    LocalReply,
    /// By what failed.
    Retry,
    /// By reason.
    Refused,
    /// By protocol and status.
    Session,
}

/// What is counted, and its words.
pub(super) type WordedKey = (Worded, &'static str, &'static str);

/// Counters and gauges of one worker, shared with the scraper.
#[derive(Debug)]
pub(super) struct WorkerCells {
    counters: [AtomicU64; COUNTERS.len()],
    gauges: [AtomicI64; GAUGES.len()],
}

impl WorkerCells {
    fn new() -> Self {
        Self {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            gauges: std::array::from_fn(|_| AtomicI64::new(0)),
        }
    }

    pub(super) fn counter(&self, index: usize) -> u64 {
        self.counters.get(index).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    pub(super) fn gauge(&self, index: usize) -> i64 {
        self.gauges.get(index).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// From the worker's own thread, where no guard of `gauge` ever leaves it.
    fn move_gauge(&self, gauge: Gauge, by: i64) {
        if let Some(cell) = self.gauges.get(gauge as usize) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
        }
    }

    fn add_gauge(&self, gauge: Gauge, amount: i64) {
        if let Some(cell) = self.gauges.get(gauge as usize) {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }
}

/// What one worker counts with. Not `Sync`; share it inside the worker by `Rc`.
#[derive(Debug)]
pub struct WorkerMetrics {
    shared: Arc<Shared>,
    cells: Arc<WorkerCells>,
    number: usize,
    hasher: RandomState,
    cache: RefCell<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    epoch: u64,
    routes: HashMap<u64, CachedRoute, RandomState>,
    /// At this many routes those that nobody asked for lately are forgotten: each swap gives routes new identities.
    sweep_at: usize,
    /// Requests so far.
    clock: u64,
    words: HashMap<WordedKey, Arc<AtomicU64>, RandomState>,
}

/// Where the texts of a route stand; the same table has the same texts there for as long as it lives, which is as long
/// as one of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Standing {
    generation: u64,
    location: usize,
    host: usize,
    canary: usize,
}

/// The series of one route that this worker has met. There may be many thousands, and each request finds another one: what
/// it looks at lies side by side.
#[derive(Debug)]
struct CachedRoute {
    /// Where its texts stood when they were compared last.
    stood: Option<Standing>,
    /// [`Cache::clock`] when it was asked for last.
    used_at: u64,
    /// By status and method: most routes have one.
    slots: SmallVec<[(u16, u8, Slot); 1]>,
    /// See [`CachedRoute::texts`].
    texts: Box<str>,
}

/// Raises a gauge until it is dropped, also when the work is cancelled. May be dropped on any thread.
#[derive(Debug)]
#[must_use = "the gauge falls when the guard is dropped"]
pub struct GaugeGuard {
    cells: Arc<WorkerCells>,
    gauge: Gauge,
    amount: i64,
}

// === impl WorkerMetrics ===

impl WorkerMetrics {
    pub(super) fn new(shared: Arc<Shared>, number: usize) -> Self {
        let cells = Arc::new(WorkerCells::new());
        shared.add_worker(Arc::clone(&cells));
        Self { shared, cells, number, hasher: RandomState::default(), cache: RefCell::default() }
    }

    /// Adds one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `amount`.
    pub fn add(&self, counter: Counter, amount: u64) {
        if let Some(cell) = self.cells.counters.get(counter as usize) {
            // Only this worker writes the cell.
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        }
    }

    /// A request began; [`WorkerMetrics::request_ended`] must follow, on this thread. As [`WorkerMetrics::hold`] of
    /// [`Gauge::Requests`], without operations that other threads have to hear of.
    pub fn request_began(&self) {
        self.cells.move_gauge(Gauge::Requests, 1);
    }

    /// See [`WorkerMetrics::request_began`].
    pub fn request_ended(&self) {
        self.cells.move_gauge(Gauge::Requests, -1);
    }

    /// Raises `gauge` by one until the guard is dropped.
    pub fn hold(&self, gauge: Gauge) -> GaugeGuard {
        self.hold_amount(gauge, 1)
    }

    /// Raises `gauge` by `amount` until the guard is dropped.
    pub fn hold_amount(&self, gauge: Gauge, amount: u64) -> GaugeGuard {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        self.cells.add_gauge(gauge, amount);
        GaugeGuard { cells: Arc::clone(&self.cells), gauge, amount }
    }

    /// Present value of a gauge on this worker.
    pub fn gauge(&self, gauge: Gauge) -> i64 {
        self.cells.gauge(gauge as usize)
    }

    /// A try failed and another one follows; `word` says what failed.
    pub fn retried(&self, word: &'static str) {
        self.cache.borrow_mut().word(&self.shared, (Worded::Retry, word, ""));
    }

    /// A connection was closed before it carried a request; `word` says why.
    pub fn rejected(&self, word: &'static str) {
        self.cache.borrow_mut().word(&self.shared, (Worded::Refused, word, ""));
    }

    /// Counts a session of a TCP or UDP service or of a host that hands TLS through, at its end. `status` is nginx's.
    pub fn session(&self, protocol: &'static str, status: u16, received: u64, sent: u64) {
        let status = match status {
            200 => "200",
            400 => "400",
            403 => "403",
            502 => "502",
            503 => "503",
            _ => "500",
        };
        self.cache.borrow_mut().word(&self.shared, (Worded::Session, protocol, status));
        self.add(Counter::SessionBytesReceived, received);
        self.add(Counter::SessionBytesSent, sent);
    }

    /// A tunnel began; it lasts as long as the guard.
    pub fn tunnel(&self) -> GaugeGuard {
        self.count(Counter::Tunnels);
        self.hold(Gauge::Tunnels)
    }

    /// A tunnel was cut by us.
    pub fn cut(&self) {
        self.count(Counter::TunnelsCut);
    }

    /// Counts one finished request.
    pub fn observe(&self, record: &Counted<'_>) {
        self.count(Counter::Requests);
        self.add(Counter::BytesReceived, record.request_length);
        self.add(Counter::BytesSent, record.bytes_sent);
        if record.route.ingress.is_empty() {
            self.count(Counter::Unmatched);
        }
        let mut cache = self.cache.borrow_mut();
        cache.refresh(self.shared.registry.epoch());
        if let Some(LocalReason { kind, rule }) = record.local {
            cache.word(&self.shared, (Worded::LocalReply, kind, rule));
        }
        let registry = &self.shared.registry;
        if !registry.counts(&record.route) {
            return;
        }
        let status = registry.status(record.status);
        let method = method_index(record.method);
        // Whatever clients write there is one host, so that they cannot make a worker remember more than there is.
        let unnamed = RouteLabels { host: HostLabel::Undefined(""), ..record.route };
        let labels = match record.route.host {
            HostLabel::Undefined(_) if !registry.tells_undefined() => &unnamed,
            _ => &record.route,
        };
        let key = self.key(labels, record.alternative_upstream_name);
        if cache.routes.len() >= cache.sweep_at {
            cache.sweep(if registry.tells_undefined() { FEWER_ROUTES } else { CACHED_ROUTES });
        }
        cache.clock += 1;
        let clock = cache.clock;
        let canary = record.alternative_upstream_name;
        let route = cache.routes.entry(key).or_insert_with(|| CachedRoute::new(labels, canary));
        let standing = Standing::of(labels, canary);
        if standing.is_none() || route.stood != standing {
            if !route.is(labels, canary) {
                *route = CachedRoute::new(labels, canary);
            }
            route.stood = standing;
        }
        route.used_at = clock;
        let known = route.slots.iter().position(|(s, m, _)| *s == status && *m == method);
        let known = known.unwrap_or_else(|| {
            let slot = registry.slot(self.number, labels, canary, method, record.status);
            route.slots.push((status, method, slot));
            route.slots.len() - 1
        });
        if let Some((_, _, slot)) = route.slots.get(known) {
            fill(&registry.layout, slot, record);
        }
    }

    /// How many routes are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.cache.borrow().routes.len()
    }

    /// A likely unique number for a route: equal ones are told apart by comparing the texts.
    fn key(&self, route: &RouteLabels<'_>, canary: &str) -> u64 {
        match route.host {
            HostLabel::Configured(name) => {
                self.hasher.hash_one((route.identity, name.as_ptr() as usize, canary.as_ptr() as usize))
            }
            HostLabel::Undefined(name) => {
                self.hasher.hash_one((route.identity, name, canary.as_ptr() as usize))
            }
        }
    }
}

// === impl Cache ===

impl Cache {
    fn word(&mut self, shared: &Shared, key: WordedKey) {
        let counter = self.words.entry(key).or_insert_with(|| shared.word(key));
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn refresh(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.routes.clear();
        }
    }

    /// Forgets what none of the last requests asked for, as many as there is room: what is in use at once stays.
    fn sweep(&mut self, most: usize) {
        let lately = self.clock.saturating_sub(self.sweep_at as u64);
        self.routes.retain(|_, route| route.used_at > lately);
        if self.routes.len() >= most / 2 {
            self.routes.clear();
        }
        self.sweep_at = FEW_ROUTES.max(2 * self.routes.len());
        self.routes.shrink_to(self.sweep_at);
    }
}

// === impl Standing ===

impl Standing {
    /// `None` where a text is the client's, or of no table.
    fn of(route: &RouteLabels<'_>, canary: &str) -> Option<Self> {
        let HostLabel::Configured(host) = route.host else { return None };
        let [host, canary] = [host, canary].map(|text| text.as_ptr() as usize);
        (route.generation > 0).then_some(Self {
            generation: route.generation,
            location: route.identity,
            host,
            canary,
        })
    }
}

// === impl CachedRoute ===

impl CachedRoute {
    fn new(route: &RouteLabels<'_>, canary: &str) -> Self {
        let texts: String = Self::texts(route, canary).into_iter().flat_map(|text| [text, END]).collect();
        Self { stood: None, used_at: 0, slots: SmallVec::new(), texts: texts.into() }
    }

    /// What routes are told apart by.
    fn texts<'r>(route: &RouteLabels<'r>, canary: &'r str) -> [&'r str; 7] {
        let (kind, host) = match route.host {
            HostLabel::Configured(name) => ("configured", name),
            HostLabel::Undefined(name) => ("undefined", name),
        };
        [kind, route.path, route.ingress, route.namespace, route.service, canary, host]
    }

    fn is(&self, route: &RouteLabels<'_>, canary: &str) -> bool {
        let mut rest = &*self.texts;
        for text in Self::texts(route, canary) {
            match rest.strip_prefix(text).and_then(|rest| rest.strip_prefix(END)) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        rest.is_empty()
    }
}

// === impl GaugeGuard ===

impl GaugeGuard {
    /// Changes how much the guard holds.
    pub fn set_amount(&mut self, amount: u64) {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        self.cells.add_gauge(self.gauge, amount.saturating_sub(self.amount));
        self.amount = amount;
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.cells.add_gauge(self.gauge, self.amount.saturating_neg());
    }
}

fn fill(layout: &Layout, slot: &Slot, record: &Counted<'_>) {
    slot.count.add(0, 1);
    let last = record.last;
    for histogram in &layout.histograms {
        let value = match histogram.observed {
            Observed::RequestDuration => Some(micros(record.request_time)),
            Observed::ResponseDuration => last.and_then(|one| one.response_time).map(micros),
            Observed::HeaderDuration => last.and_then(|one| one.header_time).map(micros),
            Observed::ConnectDuration => last.and_then(|one| one.connect_time).map(micros),
            Observed::RequestSize => Some(record.request_length),
            Observed::ResponseSize | Observed::BytesSent => Some(record.bytes_sent),
        };
        if let Some(value) = value {
            slot.observe.add(histogram.bucket(value), 1);
            slot.observe.add(histogram.sum(), value);
        }
    }
}

fn micros(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into())
}
