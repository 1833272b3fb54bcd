//! The record of an exchange: what the access log, the metrics and the span are told when it is over, and for whom it is
//! not logged.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use smallvec::SmallVec;

use super::lookup::{self, Asked, OptionalLookup, Placed, Sent};
use super::own::Own;
use super::{Exchange, Names, Path, words};
use crate::proxy::span;
use crate::reply::RedirectCause;
use crate::route::{Backend, Location, LocationTarget};
use crate::telemetry::metrics::Counter;
use crate::telemetry::{
    Counted, HostLabel, LocalReason, PlaceLookup, Record, RequestLine, RouteLabels, TraceText, UpstreamTry,
};
use crate::variable::Handshake;

/// What nginx calls the default backend of the process, built-in or not.
const DEFAULT_BACKEND: &str = "upstream-default-backend";

/// A request that took less ended when it began and as much later, by the clock on the wall too.
const SHORT: Duration = Duration::from_secs(1);

impl Exchange {
    /// Tells of this exchange, once.
    pub(super) fn account(&self) {
        let status = match self.status.get() {
            0 => {
                self.local.set(Some(LocalReason { kind: "client_gone", rule: "" }));
                499
            }
            status => status,
        };
        let end = Instant::now();
        let request_time = end.saturating_duration_since(self.start);
        self.connection.presence.end(end);
        self.meter.ended.set(Some(end));
        self.tell_upstreams(end);
        let (traced, logged) = (self.traced.get(), self.is_logged());
        if traced.is_none() && !logged {
            let last = self.tries.borrow().last().map(|one| one.record(end));
            return self.count(status, request_time, last.as_ref());
        }
        let tries: SmallVec<[UpstreamTry; 1]> =
            self.tries.borrow().iter().map(|one| one.record(end)).collect();
        self.with_record(status, request_time, &tries, |record| {
            if let Some(traced) = traced {
                span::finish(self, traced, record);
            }
            self.worker.metrics.observe(&record.counted());
            if logged {
                self.worker.log.write(record);
            }
        });
    }

    /// Tells the metrics, where nobody else asks.
    fn count(&self, status: u16, request_time: Duration, last: Option<&UpstreamTry>) {
        let (names, canary) = (self.host.borrow(), self.canary.borrow());
        self.worker.metrics.observe(&Counted {
            method: Some(self.head.method.as_str()),
            request_length: self.meter.request_bytes.get(),
            request_time,
            status,
            bytes_sent: self.meter.bytes_sent.get(),
            alternative_upstream_name: canary.as_ref().map_or("", |canary| &canary.name),
            last,
            route: self.labels(&names),
            local: self.local.get(),
        });
    }

    /// Tells who chooses endpoints how they did.
    fn tell_upstreams(&self, end: Instant) {
        let (backend, canary) = (self.backend.borrow(), self.canary.borrow());
        let (page, used) = (self.page(), canary.as_ref().or(backend.as_ref()));
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
            bytes_sent: 0,
            bytes_received: 0,
            starts_group: false,
        };
        self.with_record(status.unwrap_or(502), self.start.elapsed(), &[one], |record| {
            self.worker.log.write(record);
        });
    }

    pub(super) fn with_record(
        &self,
        status: u16,
        request_time: Duration,
        tries: &[UpstreamTry],
        tell: impl FnOnce(&Record<'_>),
    ) {
        let (names, uri) = (self.host.borrow(), self.uri.borrow());
        let answer = self.rare().map(|rare| rare.answer.borrow());
        let (backend, canary) = (self.backend.borrow(), self.canary.borrow());
        let (path, args) = self.came();
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
            // Looking at the clock is not free. Whoever waited long may have seen it set.
            time: if request_time < SHORT { self.began + request_time } else { SystemTime::now() },
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
            host: self.text(&names.host),
            best_host: self.text(&names.best),
            forwarded: Some(self),
            uri: match (rewritten.as_deref(), &*uri) {
                (Some(rewritten), _) => &rewritten.uri,
                (None, Path::Normal(uri)) => uri,
                (None, Path::AsItCame) => path,
                (None, Path::Unknown) => b"",
            },
            args: match rewritten.as_deref() {
                Some(rewritten) => Some(&rewritten.args),
                None => args,
            },
            request_fields: &Asked(&self.head, self.upgrade.get().map(|protocol| &**protocol)),
            response_fields: &Sent { fields: answer.as_deref(), framed: self.meter.framed.get() },
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
            tls_cipher: tls.map(|tls| tls.cipher),
            tls_server_name: tls.and_then(|tls| tls.server_name.as_deref()),
            upstream_name: self.upstream_name(backend.as_ref()),
            alternative_upstream_name: canary.as_ref().map_or("", |canary| &canary.name),
            own: Some(&own),
            tries,
            route: self.labels(&names),
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

    fn labels<'a>(&'a self, names: &'a Names) -> RouteLabels<'a> {
        let Some(server) = self.server.get() else {
            let host = HostLabel::Undefined(self.text(&names.host));
            return RouteLabels { host, ..RouteLabels::NONE };
        };
        let host = if &*server.name == "_" {
            HostLabel::Undefined(self.text(&names.host))
        } else {
            HostLabel::Configured(&server.name)
        };
        let location = self.location.get().filter(|_| !self.lacked_slash());
        let Some(location) = location else { return RouteLabels { host, ..RouteLabels::NONE } };
        let backend = location.backend();
        RouteLabels {
            identity: Arc::as_ptr(location).addr(),
            generation: self.snapshot.generation,
            host,
            namespace: location.owner.as_ref().map_or("", |owner| &owner.namespace),
            ingress: location.owner.as_ref().map_or("", |owner| &owner.name),
            service: backend.map_or("", |backend| &backend.key.service),
            service_port: backend.map_or("", |backend| &backend.key.port),
            path: location.owner.as_ref().map_or("", |_| &location.rule_path),
        }
    }

    /// nginx names the location's upstream also for answers of its own, and the error backend once it asks that one. What
    /// it answers while it looks for the location (the slash that a path lacks) has none yet.
    fn upstream_name<'a>(&'a self, chosen: Option<&'a Arc<Backend>>) -> &'a str {
        if let Some(page) = self.page() {
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
