//! The way to a backend and back: choice, tries, answer, tunnel, error pages.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};
use http_body::Body;
use smallvec::SmallVec;

use super::ahead;
use super::body;
use super::exchange::Exchange;
use crate::message::{BodyError, RequestBody, Response, ResponseBody};
use crate::policy::backend_protocol::BackendProtocol;
use crate::policy::buffering::MOST_AHEAD;
use crate::policy::global::Globals;
use crate::policy::request_headers::{Hop, Outgoing, Purpose};
use crate::policy::response_headers::{self, Kind, Length};
use crate::policy::retry::Failure;
use crate::policy::session_cookie;
use crate::policy::snippet::{Run, Stage};
use crate::policy::template::{Facts, RouteFacts};
use crate::reply::LocalReply;
use crate::request::RequestView;
use crate::route::decide::{Forward, Unrecorded};
use crate::route::{Backend, EndpointSet, Location, choose};
use crate::telemetry::metrics::Counter;
use crate::upstream::{
    Answer, Content, ErrorKind, Failed, Peer, PickFacts, Protocol, Reuse, UpstreamError, UpstreamRequest,
};
use crate::wire::{Fields, Framing, Version};

mod error_page;
mod fastcgi;
mod head;
mod shown;
mod sticky;
mod switch;

pub use error_page::{error_backend, error_page};
use head::{as_granted, complete_handshake, sound_host};
pub(super) use head::{as_granted as granted, head_for_backend};
use shown::{paced, passed, shown};
use sticky::{bound, set_cookie};

/// A request inside its location.
#[derive(Clone, Copy)]
pub struct Way<'w> {
    /// Accounting.
    pub exchange: &'w Rc<Exchange>,
    /// Facts.
    pub view: &'w RequestView<'w>,
    /// The location.
    pub location: &'w Arc<Location>,
    /// Upgrade and trailers.
    pub hop: &'w Hop,
    /// The client told the length of a body, be it nothing.
    pub framed: bool,
    /// The peer's word about the client counts.
    pub trusted: bool,
    /// Its way through snippets.
    pub run: &'w Run<'w>,
}

/// What is sent, and where: the same for every try.
struct Trip<'t> {
    way: &'t Way<'t>,
    backend: &'t Arc<Backend>,
    endpoints: Arc<EndpointSet>,
    method: &'t Method,
    target: &'t [u8],
    fields: &'t Fields,
    protocol: BackendProtocol,
    /// It asks for an error page, which is no tunnel.
    page: bool,
    sticky_key: Option<&'t str>,
    hash_key: Option<String>,
}

/// An answer and what the balancer wants the client to remember.
struct Got {
    answer: Answer,
    set_cookie_key: Option<String>,
}

impl<'w> Way<'w> {
    pub(super) fn globals(&self) -> &'w Globals {
        &self.exchange.snapshot.table.globals
    }

    /// Facts of the location's own backend.
    pub(super) fn own_facts(&self) -> RouteFacts<'w> {
        match self.location.backend() {
            Some(backend) => self.facts(backend),
            None => RouteFacts {
                request_id: &self.exchange.request_id,
                server_name: &self.view.host.name,
                places: self.exchange.places(),
                trace: self.exchange.trace(),
                rest: Some(&**self.exchange),
                ..RouteFacts::default()
            },
        }
    }

    pub(super) fn facts(&self, backend: &'w Backend) -> RouteFacts<'w> {
        let owner = self.location.owner.as_ref();
        RouteFacts {
            request_id: &self.exchange.request_id,
            namespace: owner.map_or("", |owner| &owner.namespace),
            ingress: owner.map_or("", |owner| &owner.name),
            service: &backend.key.service,
            service_port: &backend.key.port,
            location_path: &self.location.rule_path,
            upstream_name: &backend.name,
            server_name: &self.view.host.name,
            places: self.exchange.places(),
            trace: self.exchange.trace(),
            now: self.run.now,
            rest: Some(&**self.exchange),
        }
    }

    /// What snippets are evaluated with.
    pub(super) fn stage(&self, route: RouteFacts<'w>) -> Stage<'w> {
        Stage {
            facts: Facts { view: self.view, route },
            maps: &self.globals().snippets.maps,
            style: self.location.policies.redirect_style,
        }
    }
}

/// Sends a request to the backend that takes it.
///
/// # Errors
/// The answer for a request that no endpoint answered.
pub async fn to_backend(
    way: &Way<'_>,
    forward: &Forward<'_>,
    purpose: Purpose,
    body: RequestBody,
) -> Result<Response, LocalReply> {
    let primary = forward.backend;
    let cookie = primary.policies.affinity.and_then(|_| way.view.last_cookie(&primary.policies.cookie.name));
    let sticky = bound(primary, cookie);
    let snapshot = &way.exchange.snapshot;
    let chosen = choose(primary, &snapshot.endpoints, way.view, sticky, &mut Unrecorded);
    let backend = chosen.backend;
    way.exchange.chosen(primary, chosen.canary.then_some(backend));
    let described = forward.fallback_for.unwrap_or(primary);
    let method = if way.view.method == Method::CONNECT { &Method::GET } else { way.view.method };
    let written = match way.run.is_idle() {
        true => None,
        false => method_of(way, described)?,
    };
    let method = written.as_ref().unwrap_or(method);
    let outgoing = Outgoing {
        view: way.view,
        route: way.facts(described),
        policies: &way.location.policies,
        globals: way.globals(),
        hop: way.hop,
        trusted: way.trusted,
        forwarded_prefix: forward.forwarded_prefix.as_deref(),
        purpose,
    };
    let mut fields = head_for_backend(way, &outgoing);
    as_granted(way, &mut fields);
    sound_host(way, &fields)?;
    if way.view.method == Method::CONNECT {
        complete_handshake(way, &mut fields);
    }
    let facts = Facts { view: way.view, route: outgoing.route };
    let protocol = protocol_for(way, forward);
    let body = if protocol == BackendProtocol::Fcgi {
        Box::pin(fastcgi::with_length(way, body)).await?
    } else {
        body
    };
    let trip = Trip {
        way,
        backend,
        endpoints: endpoints_of(way, backend).await,
        method,
        target: &forward.target,
        fields: &fields,
        protocol,
        page: false,
        sticky_key: cookie.and_then(session_cookie::key),
        hash_key: backend.policies.hash_by.as_ref().map(|hash| hash.template.expand(&facts)),
    };
    let got = trip.run(body).await?;
    answer(way, backend, got, purpose).await
}

/// `proxy_method` of a snippet.
fn method_of(way: &Way<'_>, backend: &Backend) -> Result<Option<Method>, LocalReply> {
    way.run.method(&way.stage(way.facts(backend))).map_err(|reason| LocalReply::RewriteFailed { reason })
}

async fn endpoints_of(way: &Way<'_>, backend: &Backend) -> Arc<EndpointSet> {
    match way.exchange.snapshot.endpoints.shared(backend.slot) {
        Some(set) => way.exchange.worker.upstreams.endpoints(set).await,
        None => Arc::default(),
    }
}

/// The default backend is always plain HTTP (`routing.md` 6.5).
fn protocol_for(way: &Way<'_>, forward: &Forward<'_>) -> BackendProtocol {
    let is_default = matches!(way.location.target, crate::route::LocationTarget::Default(_));
    if is_default || forward.fallback_for.is_some() {
        BackendProtocol::Http
    } else {
        way.location.policies.protocol
    }
}

// === impl Trip ===

impl Trip<'_> {
    /// Tries until an endpoint answers or the route's rules say stop.
    async fn run(&self, body: RequestBody) -> Result<Got, LocalReply> {
        let exchange = self.way.exchange;
        let policy = &self.way.location.policies.retry;
        let mut body = Some(body);
        let mut tried: SmallVec<[SocketAddr; 3]> = SmallVec::new();
        loop {
            let facts = PickFacts {
                hash_key: self.hash_key.as_deref(),
                sticky_key: self.sticky_key,
                tried: &tried,
                default_balance: self.way.globals().load_balance,
            };
            let now = Instant::now();
            let picked = exchange.worker.upstreams.pick(self.backend, &self.endpoints, &facts, now);
            let Some(picked) = picked else { return Err(LocalReply::NoEndpoints) };
            tried.push(picked.address);
            let Some(sent) = body.take() else { return Err(LocalReply::Internal) };
            let spare = body::replay(&sent);
            let mut was_an_error = false;
            let (failure, was_sent, reply, again) =
                match self.once(picked.address, sent, spare.as_ref(), now).await {
                    Ok(answer) => {
                        let failure = Failure::Status(answer.head.status.as_u16());
                        let tries = u32::try_from(tried.len()).unwrap_or(u32::MAX);
                        let more = policy.on.covers(failure)
                            && policy.allows(failure, self.method, true, tries, exchange.elapsed())
                            && self.endpoints.ready.len() > distinct(&tried);
                        // An answer is at hand: without another try in the budget it is the one.
                        if !more || spare.is_none() || !self.may_retry() {
                            return Ok(Got { answer, set_cookie_key: picked.set_cookie_key });
                        }
                        (failure, true, LocalReply::BadGateway { reason: "status" }, spare)
                    }
                    Err(failed) => {
                        was_an_error = true;
                        let reply = reply_for(&failed.error);
                        let Some(failure) = failed.error.failure() else { return Err(reply) };
                        (failure, failed.error.sent, reply, failed.body.or(spare))
                    }
                };
            let tries = u32::try_from(tried.len()).unwrap_or(u32::MAX);
            let allowed = policy.allows(failure, self.method, was_sent, tries, exchange.elapsed());
            // A retry is for another endpoint (F-12); the one that failed is not asked the same again.
            let untried = self.endpoints.ready.len() > distinct(&tried);
            if !allowed || !untried || again.is_none() {
                return Err(reply);
            }
            if was_an_error && !self.may_retry() {
                return Err(reply);
            }
            exchange.worker.metrics.retried(word(failure));
            body = again;
        }
    }

    /// Takes one try out of the backend's budget; counts when there is none.
    fn may_retry(&self) -> bool {
        let worker = &self.way.exchange.worker;
        let may = worker.upstreams.may_retry(self.backend, Instant::now());
        if !may {
            worker.metrics.count(Counter::RetriesDenied);
        }
        may
    }

    /// One try, and one more on a fresh connection when a pooled one turned out to be dead (F-13).
    /// `spare` is a second copy of the body, where there is one.
    async fn once(
        &self,
        address: SocketAddr,
        body: RequestBody,
        spare: Option<&RequestBody>,
        now: Instant,
    ) -> Result<Answer, Failed> {
        let way = self.way;
        let exchange = way.exchange;
        let policies = &way.location.policies;
        let times = exchange.tried(Some(address), now);
        if let (BackendProtocol::Fcgi, Some(policy)) = (self.protocol, &policies.fastcgi) {
            // Boxed, as all that is rare on this way.
            let outcome = Box::pin(self.by_fastcgi(policy, address, body, &times)).await;
            told(&outcome).into_iter().for_each(|status| exchange.try_status(status));
            return outcome;
        }
        let protocol = if self.protocol.is_grpc() { Protocol::Http2 } else { Protocol::Http1 };
        let is_tls = self.protocol.is_tls(way.view.scheme);
        let tls = if is_tls { Some(self.tls(protocol)) } else { None }.transpose();
        let tls = match tls {
            Ok(tls) => tls,
            Err(kind) => {
                exchange.try_status(502);
                let error = UpstreamError { kind, reused: false, sent: false, answered: false };
                return Err(Failed { error, body: Some(body) });
            }
        };
        let peer = Peer { address, protocol, kept: None, tls };
        let request = UpstreamRequest {
            method: self.method,
            target: self.target,
            fields: self.fields,
            framing: framing(&body, way.framed),
            version: policies.http_version,
            upgrade: way.hop.upgrade.is_some() && !self.page,
            trailers: way.hop.trailers && exchange.head.version != Version::Http2,
            head_bytes: policies.buffering.header_bytes,
            among_many: exchange.head.version == Version::Http2,
        };
        let upstreams = &exchange.worker.upstreams;
        let mut outcome =
            upstreams.exchange(&peer, &request, body, &policies.timeout, Reuse::Allow, &times).await;
        if let Err(failed) = &mut outcome {
            failed.body = failed.body.take().or_else(|| spare.and_then(body::replay));
        }
        if let Err(failed) = &mut outcome
            && failed.allows_fresh_try(is_idempotent(self.method) || policies.retry.non_idempotent)
            && let Some(body) = failed.body.take()
        {
            outcome =
                upstreams.exchange(&peer, &request, body, &policies.timeout, Reuse::Fresh, &times).await;
        }
        told(&outcome).into_iter().for_each(|status| exchange.try_status(status));
        if let Ok(answer) = &outcome {
            exchange.try_fields(&answer.head.fields);
        }
        outcome
    }

    fn tls(&self, protocol: Protocol) -> Result<Rc<crate::upstream::ClientTls>, ErrorKind> {
        let mut changed;
        let mut policy = &self.way.location.policies.backend_tls;
        if self.way.run.has_backend_tls() {
            changed = policy.clone();
            self.way.run.backend_tls(&mut changed, self.way.exchange.server_name());
            policy = &changed;
        }
        let snapshot = &self.way.exchange.snapshot;
        let material = policy.secret.as_ref().and_then(|key| snapshot.certs.materials.get(key));
        // The name a certificate of a Service is expected to carry, where `proxy-ssl-name` gives none (E-11).
        let host = match &policy.name {
            Some(_) => String::new(),
            None => format!("{}.{}.svc", self.backend.key.service, self.backend.key.namespace),
        };
        let made = self.way.exchange.worker.upstreams.tls(policy, material, &host, protocol);
        made.map_err(|error| ErrorKind::Tls(error.to_string().into()))
    }
}

fn distinct(tried: &[SocketAddr]) -> usize {
    tried
        .iter()
        .enumerate()
        .filter(|(at, one)| !tried.iter().take(*at).any(|earlier| earlier == *one))
        .count()
}

/// The metrics' word for a failure that leads to another try.
const fn word(failure: Failure) -> &'static str {
    match failure {
        Failure::Connect => "connect",
        Failure::ConnectTimeout => "connect_timeout",
        Failure::SendTimeout => "send_timeout",
        Failure::ReadTimeout => "read_timeout",
        Failure::Reset => "reset",
        Failure::InvalidHeader => "invalid_header",
        Failure::Status(_) => "status",
    }
}

/// Status that a try shows in the log: what the backend answered, or what its failure means. What the client spoiled is
/// no answer of the backend's.
fn told(outcome: &Result<Answer, Failed>) -> Option<u16> {
    match outcome {
        Ok(answer) => Some(answer.head.status.as_u16()),
        Err(failed) => {
            let status = reply_for(&failed.error).status();
            status.is_server_error().then(|| status.as_u16())
        }
    }
}

/// GET, HEAD and whatever nginx sends twice: all but POST, LOCK, PATCH.
fn is_idempotent(method: &Method) -> bool {
    !matches!(method.as_str(), "POST" | "LOCK" | "PATCH")
}

pub(super) fn framing(body: &RequestBody, framed: bool) -> Framing {
    match body {
        RequestBody::Empty if framed => Framing::Length(0),
        RequestBody::Empty => Framing::None,
        RequestBody::Full(bytes) => Framing::Length(bytes.len() as u64),
        RequestBody::Kept(kept) => kept.size_hint().exact().map_or(Framing::Chunked, Framing::Length),
        RequestBody::Stream(stream) => stream.size_hint().exact().map_or(Framing::Chunked, Framing::Length),
    }
}

/// The answer for a request whose last try failed.
fn reply_for(error: &UpstreamError) -> LocalReply {
    if let Some(error) = error.client() {
        return body_reply(error);
    }
    match (&error.kind, error.timeout()) {
        (ErrorKind::Request(reason), _) => LocalReply::RewriteFailed { reason },
        (ErrorKind::Busy, _) => LocalReply::Overloaded { what: "connections to the endpoint" },
        (_, Some(phase)) => LocalReply::GatewayTimeout { phase },
        (_, None) => LocalReply::BadGateway { reason: error.reason() },
    }
}

/// The answer for a request whose body failed.
pub(super) fn body_reply(error: BodyError) -> LocalReply {
    match error {
        BodyError::TooLarge => LocalReply::BodyTooLarge,
        BodyError::Timeout => LocalReply::BadBody { status: StatusCode::REQUEST_TIMEOUT },
        BodyError::Framing(_) => LocalReply::BadBody { status: StatusCode::BAD_REQUEST },
        BodyError::Gone => LocalReply::ClientGone,
        BodyError::NoRoom => LocalReply::Overloaded { what: "room for request bodies" },
        BodyError::Upstream | BodyError::UpstreamTimeout | BodyError::Aborted(_) => LocalReply::Internal,
    }
}

/// A backend's answer as the client gets it.
async fn answer(
    way: &Way<'_>,
    backend: &Arc<Backend>,
    got: Got,
    purpose: Purpose,
) -> Result<Response, LocalReply> {
    let Got { answer: Answer { mut head, content, trailers, .. }, set_cookie_key } = got;
    let (globals, scheme) = (way.globals(), way.view.scheme);
    match content {
        Content::Tunnel(tunnel) => switch::switch(way, head, tunnel),
        // RFC 8441 section 4: to the client any 2xx says that the tunnel stands.
        Content::Body(_) if way.view.method == Method::CONNECT && head.status.is_success() => {
            Err(LocalReply::BadGateway { reason: "no_tunnel" })
        }
        Content::Body(body) => {
            let body = ahead(way, &head.fields, body);
            let keeps_length = way.view.method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
            let length = if keeps_length { Length::Keep } else { Length::Drop };
            let passed = passed(way, &head.fields);
            paced(way, &head.fields);
            response_headers::apply(&mut head.fields, Kind::Ordinary, length, scheme, globals);
            shown(way, passed, &mut head.fields);
            // To nginx an error page is another location's answer, which rewrites nothing.
            if !matches!(purpose, Purpose::ErrorPage(_))
                && let Some(rewrite) = &way.location.policies.response_rewrite
            {
                let facts = Facts { view: way.view, route: way.facts(backend) };
                rewrite.apply(&mut head.fields, &facts, way.location.policies.redirect_style);
            }
            if let Some(key) = set_cookie_key.filter(|_| way.location.sets_cookie) {
                set_cookie(way, backend, &key, &mut head.fields);
            }
            Ok(Response { head, body, trailers, close: false, upgrade: None, guard: None })
        }
    }
}

/// `proxy-buffering`. As with nginx the backend has the last word (`X-Accel-Buffering`); gRPC is never held.
fn ahead(way: &Way<'_>, fields: &Fields, body: ResponseBody) -> ResponseBody {
    let policies = &way.location.policies;
    if policies.protocol.is_grpc() {
        return body;
    }
    let told = fields.get("x-accel-buffering").filter(|_| !policies.ignored.buffering);
    let most = match told {
        Some(word) if word.eq_ignore_ascii_case(b"no") => None,
        Some(word) if word.eq_ignore_ascii_case(b"yes") => policies.buffering.ahead.or(Some(MOST_AHEAD)),
        _ => policies.buffering.ahead,
    };
    match most {
        Some(most) => ahead::read(body, most, &way.exchange.worker.memory),
        None => body,
    }
}
