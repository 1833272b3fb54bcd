//! One exchange from its first byte to its last: everything known about it, and the one place where it is accounted.
//!
//! `service` fills it in as it goes. When it is dropped, whatever the reason (answered, cut, client gone, panic), one
//! record goes to the access log and the metrics.

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
use super::worker::Worker;
use crate::limit::Held;
use crate::message::Meter;
use crate::policy::template::RouteFacts;
use crate::reply::{LocalReply, RedirectCause};
use crate::route::{Backend, Location, LocationTarget, Server};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{Counter, Gauge, GaugeGuard};
use crate::telemetry::{FieldLookup, HostLabel, LocalReason, Record, RequestLine, RouteLabels, UpstreamTry};
use crate::upstream::UpstreamTimes;
use crate::wire::{Fields, RequestHead};

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
    standing: OnceCell<Standing>,
    granted: OnceCell<Granted>,
    running: OnceCell<Running>,
    tries: RefCell<SmallVec<[Try; 1]>>,
    local: Cell<Option<LocalReason>>,
    status: Cell<u16>,
    answer: RefCell<Fields>,
    buffered: RefCell<Option<Held>>,
    _active: GaugeGuard,
}

#[derive(Default)]
struct Names {
    host: String,
    best: String,
}

/// One try at an endpoint.
pub struct Try {
    /// Endpoint.
    pub address: Option<SocketAddr>,
    /// Status it answered, or the one its failure means.
    pub status: Option<u16>,
    /// Its times and bytes, still running while the body flows.
    pub times: Rc<UpstreamTimes>,
    /// It is the first after an internal redirect (error page).
    pub starts_group: bool,
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
            standing: OnceCell::new(),
            granted: OnceCell::new(),
            running: OnceCell::new(),
            tries: RefCell::default(),
            local: Cell::new(None),
            status: Cell::new(0),
            answer: RefCell::default(),
            buffered: RefCell::default(),
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
            now,
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

    /// A try begins `now`.
    pub fn tried(&self, address: Option<SocketAddr>, starts_group: bool, now: Instant) -> Rc<UpstreamTimes> {
        let times = Rc::new(UpstreamTimes::starting(now));
        self.tries.borrow_mut().push(Try { address, status: None, times: Rc::clone(&times), starts_group });
        times
    }

    /// The last try has its status.
    pub fn try_status(&self, status: u16) {
        if let Some(last) = self.tries.borrow_mut().last_mut() {
            last.status = Some(status);
        }
    }

    /// Since the request came.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Tries so far.
    pub fn tries(&self) -> usize {
        self.tries.borrow().len()
    }

    /// The answer is ours, and why.
    pub fn local(&self, reply: &LocalReply) {
        self.local.set(Some(reason(reply)));
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
        let (names, uri, answer) = (self.host.borrow(), self.uri.borrow(), self.answer.borrow());
        let (backend, canary) = (self.backend.borrow(), self.canary.borrow());
        let request_time = self.start.elapsed();
        let end = self.start + request_time;
        let tries: SmallVec<[UpstreamTry; 1]> =
            self.tries.borrow().iter().map(|one| one.record(end)).collect();
        let path = self.head.target.iter().position(|byte| *byte == b'?');
        let tls = self.connection.tls.as_ref();
        self.connection.presence.end(end);
        let record = Record {
            time: SystemTime::now(),
            client: self.client.get(),
            peer: self.connection.peer,
            listener: self.connection.local,
            proxy_protocol: self.connection.proxied.map(|(source, _)| source),
            remote_user: self.granted().and_then(|granted| granted.user.as_deref()),
            line: RequestLine::Parsed {
                method: self.head.method.as_str(),
                target: &self.head.target,
                protocol: self.head.version.as_str(),
            },
            scheme: self.connection.scheme.as_str(),
            host: &names.host,
            best_host: &names.best,
            uri: &uri,
            args: path.and_then(|at| self.head.target.get(at + 1..)),
            request_fields: &Lookup(&self.head.fields),
            response_fields: &Lookup(&answer),
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
            tries: &tries,
            route: self.labels(&names.host),
            local: self.local.get(),
        };
        if let Some(used) = canary.as_ref().or(backend.as_ref()) {
            for one in self.tries.borrow().iter() {
                if let Some(address) = one.address {
                    self.worker.upstreams.observe(&used.key, address, &one.times, self.start + request_time);
                }
            }
        }
        for one in self.tries.borrow().iter() {
            self.worker.metrics.count(match one.times.connect() {
                None => Counter::UpstreamConnectErrors,
                Some(took) if took.is_zero() => Counter::UpstreamReuses,
                Some(_) => Counter::UpstreamConnects,
            });
        }
        self.worker.metrics.observe(&record);
        if self.is_logged(&record) {
            self.worker.log.write(&record);
        }
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
        let Some(location) = self.location.get() else { return RouteLabels { host, ..RouteLabels::NONE } };
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

    /// nginx names the location's upstream also for answers of its own.
    fn upstream_name<'a>(&'a self, chosen: Option<&'a Arc<Backend>>) -> &'a str {
        match (chosen, self.location.get().map(|location| &location.target)) {
            (Some(backend), _) | (None, Some(LocationTarget::Backend(backend))) => &backend.name,
            (None, Some(LocationTarget::Default(_))) => "upstream-default-backend",
            (None, Some(LocationTarget::Healthz | LocationTarget::StubStatus)) => "internal",
            (None, None) => "",
        }
    }

    /// nginx logs neither the default backend (unless asked to) nor locations with `enable-access-log: false` nor what
    /// `skip-access-log-urls` names.
    fn is_logged(&self, record: &Record<'_>) -> bool {
        let globals = &self.snapshot.table.globals;
        if globals.disable_access_log
            || self.location.get().is_some_and(|location| !location.policies.access_log)
        {
            return false;
        }
        let hidden =
            record.upstream_name == "upstream-default-backend" && !globals.access_log_for_default_backend;
        let health = matches!(self.local.get(), Some(LocalReason { kind: "healthz" | "stub_status", .. }));
        !hidden && !health && !globals.skip_access_log_urls.iter().any(|test| test.matches(&self.head.target))
    }
}

impl Try {
    /// `end` is when the exchange ended: a try still under way then took until then, as nginx has it.
    fn record(&self, end: Instant) -> UpstreamTry {
        UpstreamTry {
            address: self.address,
            status: self.status,
            connect_time: self.times.connect(),
            header_time: self.times.header(),
            response_time: self.times.response().or_else(|| end.checked_duration_since(self.times.start())),
            response_length: self.times.body(),
            starts_group: self.starts_group,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.account();
    }
}

struct Lookup<'f>(&'f Fields);

impl FieldLookup for Lookup<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.0.get_all(name).for_each(visit);
    }
}

/// The words of a local reply in logs and metrics.
fn reason(reply: &LocalReply) -> LocalReason {
    let (kind, rule) = match reply {
        LocalReply::BadRequest { rule, .. } => ("bad_request", *rule),
        LocalReply::Redirect { cause, .. } => ("redirect", cause_word(*cause)),
        LocalReply::Preflight => ("preflight", ""),
        LocalReply::Healthz => ("healthz", ""),
        LocalReply::StubStatus => ("stub_status", ""),
        LocalReply::NoRoute => ("no_route", ""),
        LocalReply::NoEndpoints => ("no_endpoints", ""),
        LocalReply::Denied { code } => ("denied", *code),
        LocalReply::Unauthorized { .. } => ("unauthorized", ""),
        LocalReply::AuthForbidden => ("auth_forbidden", ""),
        LocalReply::AuthFailed { reason } => ("auth_failed", *reason),
        LocalReply::CertificateMissing => ("certificate_missing", ""),
        LocalReply::CertificateInvalid => ("certificate_invalid", ""),
        LocalReply::CertificateUnauthorized => ("certificate_unauthorized", ""),
        LocalReply::Forbidden { .. } => ("forbidden", ""),
        LocalReply::Limited { limit, .. } => ("limited", *limit),
        LocalReply::RewriteFailed { .. } => ("rewrite_failed", ""),
        LocalReply::BodyTooLarge => ("body_too_large", ""),
        LocalReply::BadBody { .. } => ("bad_body", ""),
        LocalReply::BadGateway { reason } => ("bad_gateway", *reason),
        LocalReply::GatewayTimeout { phase } => ("gateway_timeout", *phase),
        LocalReply::Overloaded { what } => ("overloaded", *what),
        LocalReply::Scripted { .. } => ("snippet", ""),
        LocalReply::Misdirected => ("misdirected", ""),
        LocalReply::ClientGone => ("client_gone", ""),
        LocalReply::Internal => ("internal", ""),
    };
    LocalReason { kind, rule }
}

const fn cause_word(cause: RedirectCause) -> &'static str {
    match cause {
        RedirectCause::AppRoot => "app_root",
        RedirectCause::CertificateError => "certificate_error",
        RedirectCause::FromToWww => "from_to_www",
        RedirectCause::Permanent => "permanent",
        RedirectCause::SignIn => "sign_in",
        RedirectCause::Ssl => "ssl",
        RedirectCause::Rewrite => "rewrite",
        RedirectCause::Temporal => "temporal",
        RedirectCause::TrailingSlash => "trailing_slash",
    }
}
