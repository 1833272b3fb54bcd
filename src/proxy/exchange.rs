//! One exchange from its first byte to its last: everything known about it, and the one place where it is accounted.
//!
//! `service` fills it in as it goes. When it is dropped, whatever the reason (answered, cut, client gone, panic), one
//! record goes to the access log and the metrics.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use smallvec::SmallVec;

use super::client_certificate::Standing;
use super::connection::ConnectionFacts;
use super::filter::Granted;
use super::filter::limit::Running;
use super::span::{self, Traced};
use super::worker::Worker;
use crate::limit::Held;
use crate::message::Meter;
use crate::places::Databases;
use crate::policy::snippet::Remains;
use crate::policy::template::{Places, RouteFacts};
use crate::policy::tracing::context::TraceContext;
use crate::reply::{LocalReply, RedirectCause};
use crate::request::RequestView;
use crate::route::{Backend, Location, LocationTarget, Server};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{Counter, Gauge, GaugeGuard};
use crate::telemetry::{
    HostLabel, LocalReason, PlaceLookup, Record, RequestLine, RouteLabels, TraceText, UpstreamTry,
};
use crate::variable::Handshake;
use crate::wire::{Fields, RequestHead};

mod attempt;
mod lookup;
mod own;
mod words;

pub use attempt::Try;
use lookup::{Lookup, OptionalLookup, Placed};
use own::{Own, Rewritten};

/// One request, its way and its answer.
pub struct Exchange {
    /// Worker that serves it.
    pub worker: Rc<Worker>,
    /// Connection it came over.
    pub connection: Rc<ConnectionFacts>,
    /// The one snapshot it sees, to its end.
    pub snapshot: Arc<Snapshot>,
    /// Head; hop-by-hop fields already removed.
    pub head: RequestHead,
    /// `$req_id`.
    pub request_id: String,
    /// Byte counts of the client's side.
    pub meter: Rc<Meter>,
    start: Instant,
    number: u64,
    client: Cell<IpAddr>,
    host: RefCell<Names>,
    uri: RefCell<Vec<u8>>,
    server: OnceCell<Arc<Server>>,
    location: OnceCell<Arc<Location>>,
    backend: RefCell<Option<Arc<Backend>>>,
    canary: RefCell<Option<Arc<Backend>>>,
    page: OnceCell<Page>,
    standing: OnceCell<Standing>,
    granted: OnceCell<Granted>,
    running: OnceCell<Running>,
    traced: OnceCell<Box<Traced>>,
    /// Variables that snippets set, where the log shows one.
    remains: RefCell<Option<Box<Remains>>>,
    /// How fast the answer goes, where its backend or a snippet says so.
    pub(super) pace: Cell<Pace>,
    /// Path and query as rewritten, where they were.
    rewritten: RefCell<Option<Box<Rewritten>>>,
    tries: RefCell<SmallVec<[Try; 1]>>,
    local: Cell<Option<LocalReason>>,
    status: Cell<u16>,
    answer: RefCell<Fields>,
    /// The last backend's own fields, where the log shows one.
    raw_answer: RefCell<Option<Box<Fields>>>,
    buffered: RefCell<Option<Held>>,
    places: Option<Arc<Databases>>,
    _active: GaugeGuard,
}

#[derive(Default)]
struct Names {
    host: String,
    best: String,
}

/// Bytes a second (0 for no limit), and bytes before they count; `None` where the location's own count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    pub(super) bytes: Option<u64>,
    pub(super) after: Option<u64>,
}

/// What stands in for an answer (`custom-http-errors`).
struct Page {
    /// Who gives it; `None` is the built-in page.
    by: Option<Arc<Backend>>,
    /// Tries that came before.
    after: usize,
}

impl Exchange {
    /// Starts the clock.
    pub fn begin(
        worker: Rc<Worker>,
        connection: Rc<ConnectionFacts>,
        snapshot: Arc<Snapshot>,
        head: RequestHead,
        request_id: String,
        meter: Rc<Meter>,
    ) -> Self {
        let client = connection.client();
        let places = if snapshot.table.globals.geoip { worker.places.current() } else { None };
        let active = worker.metrics.hold(Gauge::Requests);
        worker.requests.set(worker.requests.get() + 1);
        let number = connection.next_request();
        connection.presence.begin();
        Self {
            worker,
            connection,
            snapshot,
            head,
            request_id,
            meter,
            start: Instant::now(),
            number,
            client: Cell::new(client),
            host: RefCell::default(),
            uri: RefCell::default(),
            server: OnceCell::new(),
            location: OnceCell::new(),
            backend: RefCell::new(None),
            canary: RefCell::new(None),
            page: OnceCell::new(),
            standing: OnceCell::new(),
            granted: OnceCell::new(),
            running: OnceCell::new(),
            traced: OnceCell::new(),
            remains: RefCell::default(),
            pace: Cell::default(),
            rewritten: RefCell::default(),
            tries: RefCell::default(),
            local: Cell::new(None),
            status: Cell::new(0),
            answer: RefCell::default(),
            raw_answer: RefCell::default(),
            buffered: RefCell::default(),
            places,
            _active: active,
        }
    }

    /// The client after trust was judged, `$host`, `$best_http_host` and the normalised path.
    pub fn identified(&self, client: IpAddr, host: &str, best: &str, uri: &[u8]) {
        self.client.set(client);
        let mut names = self.host.borrow_mut();
        *names = Names { host: host.to_owned(), best: best.to_owned() };
        *self.uri.borrow_mut() = uri.to_vec();
    }

    /// The server and location that took it.
    pub fn routed(&self, server: &Arc<Server>, location: Option<&Arc<Location>>) {
        let _first_counts = self.server.set(Arc::clone(server));
        if let Some(location) = location {
            let _first_counts = self.location.set(Arc::clone(location));
        }
    }

    /// Begins its span, where the location that took it is traced.
    pub fn traces(&self, view: &RequestView<'_>) {
        if let Some(traced) = span::begin(self, view) {
            let _first_counts = self.traced.set(traced);
        }
    }

    /// Where addresses are, where that is known.
    pub fn places(&self) -> Option<&dyn Places> {
        self.places.as_deref().map(|places| places as &dyn Places)
    }

    /// Its span as others are told of it.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.traced.get().map(|traced| &traced.context)
    }

    /// What the client's certificate is worth here.
    pub fn stands(&self, standing: Standing) {
        let _first_counts = self.standing.set(standing);
    }

    /// What the client's certificate is worth, where the host asks for one.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.get()
    }

    /// It counts as one of the client's requests until its end.
    pub fn counts(&self, running: Running) {
        let _first_counts = self.running.set(running);
    }

    /// Access was granted with these consequences.
    pub fn grant(&self, granted: Granted) {
        let _first_counts = self.granted.set(granted);
    }

    /// What granting access led to, once it was asked for.
    pub fn granted(&self) -> Option<&Granted> {
        self.granted.get()
    }

    /// The virtual host that took it, once there is one.
    pub fn server(&self) -> Option<&Arc<Server>> {
        self.server.get()
    }

    /// The location that took it, once there is one.
    pub fn location(&self) -> Option<&Arc<Location>> {
        self.location.get()
    }

    /// The route as variables show it.
    pub fn facts<'a>(&'a self, host: &'a str, now: Duration) -> RouteFacts<'a> {
        let location = self.location.get();
        let owner = location.and_then(|location| location.owner.as_ref());
        let backend = location.and_then(|location| location.backend());
        RouteFacts {
            request_id: &self.request_id,
            namespace: owner.map_or("", |owner| &owner.namespace),
            ingress: owner.map_or("", |owner| &owner.name),
            service: backend.map_or("", |backend| &backend.key.service),
            service_port: backend.map_or("", |backend| &backend.key.port),
            location_path: location.map_or("", |location| &location.rule_path),
            upstream_name: backend.map_or("", |backend| &backend.name),
            server_name: host,
            places: self.places(),
            trace: self.trace(),
            now,
            rest: Some(self),
        }
    }

    /// Name of the virtual host that took it.
    pub fn server_name(&self) -> &str {
        self.server.get().map_or("_", |server| &server.name)
    }

    /// `$proxy_upstream_name` and, when a canary takes it, `$proxy_alternative_upstream_name`.
    pub fn chosen(&self, primary: &Arc<Backend>, canary: Option<&Arc<Backend>>) {
        *self.backend.borrow_mut() = Some(Arc::clone(primary));
        *self.canary.borrow_mut() = canary.map(Arc::clone);
    }

    /// From here on `by` is asked for a page instead of the answer; `None` is the built-in default backend.
    pub fn turns_to_page(&self, by: Option<&Arc<Backend>>) {
        let _first_counts = self.page.set(Page { by: by.map(Arc::clone), after: self.tries() });
    }

    /// Since the request came.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The answer is ours, and why.
    pub fn local(&self, reply: &LocalReply) {
        self.local.set(Some(words::reason(reply)));
    }

    /// The answer's head as it goes out.
    pub fn answered(&self, status: u16, fields: &Fields) {
        self.status.set(status);
        if self.worker.log.wants_response_fields() {
            self.answer.borrow_mut().clone_from(fields);
        }
    }

    /// Bytes of the request body that stay in memory until the exchange ends.
    pub fn hold(&self, bytes: Held) {
        *self.buffered.borrow_mut() = Some(bytes);
    }

    fn account(&self) {
        let status = match self.status.get() {
            0 => {
                self.local.set(Some(LocalReason { kind: "client_gone", rule: "" }));
                499
            }
            status => status,
        };
        let request_time = self.start.elapsed();
        let end = self.start + request_time;
        let tries: SmallVec<[UpstreamTry; 1]> =
            self.tries.borrow().iter().map(|one| one.record(end)).collect();
        self.connection.presence.end(end);
        self.with_record(status, request_time, &tries, |record| self.finish(record));
    }

    /// Tells everybody who wants to know of the finished exchange.
    fn finish(&self, record: &Record<'_>) {
        let (backend, canary) = (self.backend.borrow(), self.canary.borrow());
        if let Some(traced) = self.traced.get() {
            span::finish(self, traced, record);
        }
        let (page, used) = (self.page.get(), canary.as_ref().or(backend.as_ref()));
        let end = self.start + record.request_time;
        for (at, one) in self.tries.borrow().iter().enumerate() {
            let asked = page.filter(|page| at >= page.after).map_or(used, |page| page.by.as_ref());
            if let (Some(asked), Some(address)) = (asked, one.address) {
                self.worker.upstreams.observe(&asked.key, address, &one.times, end);
            }
        }
        for one in self.tries.borrow().iter() {
            self.worker.metrics.count(match one.times.connect() {
                None => Counter::UpstreamConnectErrors,
                Some(took) if took.is_zero() => Counter::UpstreamReuses,
                Some(_) => Counter::UpstreamConnects,
            });
        }
        self.worker.metrics.observe(record);
        if self.is_logged() {
            self.worker.log.write(record);
        }
    }

    /// Writes a question to an authentication service to the access log (`enable-auth-access-log`): the line of the request
    /// that is asked about, with the service's status and address.
    pub fn log_question(&self, status: Option<u16>, address: Option<SocketAddr>, took: Duration) {
        let globals = &self.snapshot.table.globals;
        if !globals.auth_access_log || globals.disable_access_log {
            return;
        }
        let one = UpstreamTry {
            address,
            status,
            connect_time: None,
            header_time: status.map(|_| took),
            response_time: Some(took),
            response_length: 0,
            starts_group: false,
        };
        self.with_record(status.unwrap_or(502), self.start.elapsed(), &[one], |record| {
            self.worker.log.write(record);
        });
    }

    fn with_record(
        &self,
        status: u16,
        request_time: Duration,
        tries: &[UpstreamTry],
        tell: impl FnOnce(&Record<'_>),
    ) {
        let (names, uri, answer) = (self.host.borrow(), self.uri.borrow(), self.answer.borrow());
        let (backend, canary) = (self.backend.borrow(), self.canary.borrow());
        let path = self.head.target.iter().position(|byte| *byte == b'?');
        let tls = self.connection.tls.as_ref();
        let raw = self.raw_answer.borrow();
        // As nginx has it, from the credentials, whoever asked for them.
        let granted = self.granted().and_then(|granted| granted.user.as_deref()).map(Cow::Borrowed);
        let claimed = || lookup::claimed_user(&self.head.fields).map(Cow::Owned);
        let user: Option<Cow<'_, [u8]>> = granted.or_else(claimed).filter(|user| !user.is_empty());
        let rewritten = self.rewritten.borrow();
        let own = Own { remains: self.remains.borrow(), maps: &self.snapshot.table.globals.snippets.maps };
        let place = self.places.as_deref().map(|places| Placed { places, client: self.client.get() });
        let record = Record {
            time: SystemTime::now(),
            client: self.client.get(),
            peer: self.connection.peer,
            listener: self.connection.local,
            proxy_protocol: self.connection.proxied.map(|(source, _)| source),
            remote_user: user.as_deref(),
            line: RequestLine::Parsed {
                method: self.head.method.as_str(),
                target: &self.head.target,
                protocol: self.head.version.as_str(),
            },
            scheme: self.connection.scheme.as_str(),
            host: &names.host,
            best_host: &names.best,
            uri: rewritten.as_deref().map_or(&uri, |rewritten| &rewritten.uri),
            args: match rewritten.as_deref() {
                Some(rewritten) => Some(&rewritten.args),
                None => path.and_then(|at| self.head.target.get(at + 1..)),
            },
            request_fields: &Lookup(&self.head.fields),
            response_fields: &Lookup(&answer),
            upstream_fields: &OptionalLookup(raw.as_deref()),
            handshake: tls.is_some().then_some(self as &dyn Handshake),
            completed: self.meter.finished.get(),
            request_id: &self.request_id,
            connection: self.connection.number,
            connection_requests: self.number,
            request_length: self.meter.request_bytes.get(),
            request_time,
            status,
            bytes_sent: self.meter.bytes_sent.get(),
            body_bytes_sent: self.meter.body_bytes_sent.get(),
            tls_protocol: tls.map(|tls| tls.protocol),
            tls_cipher: tls.map(|tls| tls.cipher.as_str()),
            tls_server_name: tls.and_then(|tls| tls.server_name.as_deref()),
            upstream_name: self.upstream_name(backend.as_ref()),
            alternative_upstream_name: canary.as_ref().map_or("", |canary| &canary.name),
            own: Some(&own),
            tries,
            route: self.labels(&names.host),
            place: place.as_ref().map(|place| place as &dyn PlaceLookup),
            trace: self.trace().map(|trace| TraceText {
                trace_id: trace.trace_id_text(),
                span_id: trace.span_id_text(),
                parent: trace.traceparent(),
                state: &trace.state,
            }),
            local: self.local.get(),
        };
        tell(&record);
    }

    fn labels<'a>(&'a self, host: &'a str) -> RouteLabels<'a> {
        let Some(server) = self.server.get() else {
            return RouteLabels { host: HostLabel::Undefined(host), ..RouteLabels::NONE };
        };
        let host = if &*server.name == "_" {
            HostLabel::Undefined(host)
        } else {
            HostLabel::Configured(&server.name)
        };
        let location = self.location.get().filter(|_| !self.lacked_slash());
        let Some(location) = location else { return RouteLabels { host, ..RouteLabels::NONE } };
        let backend = location.backend();
        RouteLabels {
            identity: Arc::as_ptr(location).addr(),
            host,
            namespace: location.owner.as_ref().map_or("", |owner| &owner.namespace),
            ingress: location.owner.as_ref().map_or("", |owner| &owner.name),
            service: backend.map_or("", |backend| &backend.key.service),
            service_port: backend.map_or("", |backend| &backend.key.port),
            path: &location.rule_path,
        }
    }

    /// nginx names the location's upstream also for answers of its own, and the error backend once it asks that one. What
    /// it answers while it looks for the location (the slash that a path lacks) has none yet.
    fn upstream_name<'a>(&'a self, chosen: Option<&'a Arc<Backend>>) -> &'a str {
        if let Some(page) = self.page.get() {
            return page.by.as_ref().map_or(DEFAULT_BACKEND, |by| &by.name);
        }
        if self.lacked_slash() {
            return "";
        }
        match (chosen, self.location.get().map(|location| &location.target)) {
            (Some(backend), _) | (None, Some(LocationTarget::Backend(backend))) => &backend.name,
            (None, Some(LocationTarget::Default(_))) => DEFAULT_BACKEND,
            (None, Some(LocationTarget::Healthz | LocationTarget::StubStatus)) => "internal",
            (None, None) => "",
        }
    }

    fn lacked_slash(&self) -> bool {
        self.local.get().is_some_and(|local| local.rule == words::cause_word(RedirectCause::TrailingSlash))
    }

    /// nginx logs neither requests of no Ingress's (unless asked to) nor locations with `enable-access-log: false` nor
    /// what `skip-access-log-urls` names.
    fn is_logged(&self) -> bool {
        let globals = &self.snapshot.table.globals;
        let location = self.location.get();
        if globals.disable_access_log || location.is_some_and(|location| !location.policies.access_log) {
            return false;
        }
        let nobodys = |location: &Arc<Location>| {
            location.owner.is_none() && matches!(location.target, LocationTarget::Default(_))
        };
        let hidden = location.is_some_and(nobodys) && !globals.access_log_for_default_backend;
        let health = matches!(self.local.get(), Some(LocalReason { kind: "healthz" | "stub_status", .. }));
        !hidden && !health && !globals.skip_access_log_urls.iter().any(|test| test.matches(&self.head.target))
    }
}

/// What nginx calls the default backend of the process, built-in or not.
const DEFAULT_BACKEND: &str = "upstream-default-backend";

impl Drop for Exchange {
    fn drop(&mut self) {
        self.account();
    }
}
