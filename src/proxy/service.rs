//! The handler: what happens to one request, read from top to bottom.
//!
//! It decides nothing itself: `route::decide` and the policies do. It holds the order, the I/O and the accounting.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::body;
use super::client_certificate;
use super::compress;
use super::connection::ConnectionFacts;
use super::exchange::{Exchange, Pace, Place};
use super::filter;
use super::forward::{self, Way};
use super::mirror;
use super::respond::{Asker, respond};
use super::substitute;
use super::throttle;
use super::worker::Worker;
use crate::message::{Request, RequestBody, Response, ResponseBody};
use crate::policy::RoutePolicies;
use crate::policy::custom_errors::Made;
use crate::policy::log;
use crate::policy::redirect::RedirectStyle;
use crate::policy::request_headers::{self, Hop, Purpose};
use crate::policy::response_headers;
use crate::policy::response_rate::ResponseRate;
use crate::policy::snippet::{Run, Seen, Stage, heads};
use crate::policy::template::Facts;
use crate::reply::{LocalReply, RedirectCause};
use crate::request::RequestView;
use crate::route::decide::{Forward, Unrecorded};
use crate::route::intake::Intake;
use crate::route::{Decision, Location, LocationTarget, decide};
use crate::wire::{RequestHead, Version};

mod challenge;
mod turned;

use challenge::{challenged, challenges};

/// Serves one request; the answer carries the [`Exchange`] as its guard.
pub async fn handle(worker: Rc<Worker>, connection: Rc<ConnectionFacts>, request: Request) -> Response {
    let snapshot = worker.snapshot.load();
    let Request { mut head, body, refused, meter } = request;
    let globals = &snapshot.table.globals;
    let has_body = !matches!(body, RequestBody::Empty);
    let framed = head.fields.contains("content-length") || head.fields.contains("transfer-encoding");
    let mut hop = request_headers::sanitise(&mut head, has_body, globals);
    if let Some(protocol) = head.protocol.as_deref() {
        // RFC 8441: an extended CONNECT asks an HTTP/1 backend for what `Upgrade` asks for.
        hop.upgrade = Some(protocol.into());
    }
    let request_id = match request_headers::request_id(&head.fields) {
        Some(id) => id.to_owned(),
        None if globals.generate_request_id => worker.random_id(),
        None => String::new(),
    };
    let exchange = Rc::new(Exchange::begin(worker, connection, snapshot, head, request_id, meter));
    if let Some(protocol) = &hop.upgrade {
        let _first_counts = exchange.upgrade.set(protocol.clone());
    }
    let served = match refused {
        Some(reject) => {
            Err(LocalReply::BadRequest { status: reject.status, rule: reject.rule, reason: reject.reason })
        }
        None => serve(&exchange, body, &hop, framed).await,
    };
    let mut response = match served {
        Ok(response) => response,
        Err(reply) => local(&exchange, &reply, true),
    };
    compress::apply(&exchange, &mut response);
    pace(&exchange, &mut response);
    exchange.answered(response.head.status.as_u16(), &response.head.fields);
    if response.upgrade.is_none() {
        response.guard = Some(exchange);
    }
    response
}

/// Fields for cross-origin pages and `custom-headers` stand on every answer of a location, whoever gave it.
fn dress(exchange: &Exchange, location: Option<&Arc<Location>>, place: Place, response: &mut Response) {
    let policies = location.map(|location| &location.policies);
    let counts = |policies: &&RoutePolicies| policies.denied.is_none() && place != Place::ErrorPage;
    let Some(policies) = policies.map(|policies| &**policies).filter(counts) else { return };
    let fields = &mut response.head.fields;
    if let Some(cors) = &policies.cors {
        cors.apply(exchange.head.fields.get("origin"), fields);
    }
    if let Some(custom) = policies.custom_headers.as_ref().filter(|_| place == Place::Location) {
        custom.apply(fields);
    }
}

/// Holds the answer to `limit-rate`.
fn pace(exchange: &Exchange, response: &mut Response) {
    let location = exchange.location().and_then(|location| location.policies.response_rate);
    let own = exchange.pace.get();
    let bytes = own.bytes.or_else(|| location.map(|rate| rate.bytes)).filter(|bytes| *bytes > 0);
    let after = own.after.or_else(|| location.map(|rate| rate.after)).unwrap_or(0);
    if let Some(rate) =
        bytes.map(|bytes| ResponseRate { bytes, after }).filter(|_| response.upgrade.is_none())
    {
        let body = std::mem::replace(&mut response.body, ResponseBody::Empty);
        response.body = throttle::throttled(body, rate, exchange.elapsed());
    }
}

/// Routes, forwards, and puts the last hand to the answer; `Err` is an answer that no location shapes.
async fn serve(
    exchange: &Rc<Exchange>,
    body: RequestBody,
    hop: &Hop,
    framed: bool,
) -> Result<Response, LocalReply> {
    let table = &exchange.snapshot.table;
    let globals = &table.globals;
    let intake = Intake::of_judged(&exchange.head)?;
    let came = exchange.connection.forwarded();
    let mut view = intake.view(&came, globals, exchange.worker.roll());
    if exchange.connection.tls.is_some() {
        view.handshake = Some(&**exchange);
    }
    let view = view;
    exchange.identified(&view, intake.is_authority_kept());
    match client_certificate::judge(exchange, &view) {
        Ok(Some(standing)) => exchange.stands(standing),
        Ok(None) => {}
        Err(reply) => {
            exchange.routed(table.server(&view.host.name), None);
            return Ok(local(exchange, &reply, true));
        }
    }
    let mut run = Run::new(&exchange.request_id, exchange.since_epoch());
    run.places = exchange.places();
    run.rest = Some(&**exchange);
    let asked = Asked { view: &view, hop, framed, trusted: came.is_trusted(globals) };
    let mut response = routed(exchange, asked, &mut run, body).await;
    if exchange.has_turned() {
        return Ok(response);
    }
    let place = exchange.place();
    if place != Place::Location {
        run.leave(2);
    }
    finish(exchange, exchange.location(), place, &view, &run, &mut response);
    Ok(response)
}

/// The last hand to an answer: what its location and its snippets want the client to see.
fn finish(
    exchange: &Exchange,
    location: Option<&Arc<Location>>,
    place: Place,
    view: &RequestView<'_>,
    run: &Run<'_>,
    response: &mut Response,
) {
    dress(exchange, location, place, response);
    if let Some(granted) = exchange.granted().filter(|_| place != Place::ErrorPage) {
        granted.send_to_client(response.head.status.as_u16(), &mut response.head.fields);
    }
    let told = relayed(exchange, view, run);
    scripted(exchange, told.as_deref().unwrap_or(view), run, response);
    exchange.remember(run);
}

/// A request as the route is told of it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    view: &'a RequestView<'a>,
    hop: &'a Hop,
    framed: bool,
    trusted: bool,
}

/// What snippets do to an answer, whoever gave it: its fields, then its body.
fn scripted(exchange: &Exchange, view: &RequestView<'_>, run: &Run<'_>, response: &mut Response) {
    if run.is_idle() {
        return;
    }
    let globals = &exchange.snapshot.table.globals;
    let stage = Stage {
        facts: Facts { view, route: exchange.facts(&view.host.name, run.now) },
        maps: &globals.snippets.maps,
        style: RedirectStyle::default(),
    };
    let seen =
        Seen { status: response.head.status.as_u16(), fields: &response.head.fields, by_service: false };
    let (rate, after) = run.rate(&stage, seen);
    let by_backend = exchange.pace.get().bytes;
    exchange.pace.set(Pace { bytes: by_backend.or(rate), after });
    heads::to_client(run, &stage, response.head.status.as_u16(), &mut response.head.fields);
    exchange.compression.set(run.compression(&globals.compression).map(Box::new));
    if let Some(substitutions) = run.substitutions(&stage) {
        substitute::apply(substitutions, response);
    }
}

/// The request with its client as a proxy in front tells it, where snippets say who may.
fn relayed<'r>(exchange: &Exchange, view: &RequestView<'r>, run: &Run<'_>) -> Option<Box<RequestView<'r>>> {
    let told = run.relayed(view, &exchange.snapshot.table.globals, true)?;
    exchange.client_is(told.forwarded.client);
    Some(told)
}

/// Routes and forwards.
async fn routed(exchange: &Rc<Exchange>, asked: Asked<'_>, run: &mut Run<'_>, body: RequestBody) -> Response {
    let table = &exchange.snapshot.table;
    let Asked { view, hop, framed, trusted } = asked;
    let decision = decide(table, &exchange.snapshot.endpoints, view, run, &mut Unrecorded);
    let run = &*run;
    exchange.remember(run);
    let told = relayed(exchange, view, run);
    let view = told.as_deref().unwrap_or(view);
    if let Some(target) = run.target(view) {
        exchange.rewritten(&target);
    }
    let forward = match decision {
        Decision::Forward(forward) => forward,
        Decision::Reply { server, location, reply } => {
            exchange.routed(server, location);
            let Some(location) = location else {
                let asked = Asked { view, hop, framed, trusted };
                return Box::pin(of_server(exchange, asked, run, &reply)).await;
            };
            exchange.traces(view);
            let way = Way { exchange, view, location, hop, framed, trusted, run };
            return Box::pin(unforwarded(&way, reply, body)).await;
        }
    };
    let location = forward.location;
    exchange.routed(forward.server, Some(location));
    exchange.traces(view);
    if let Cow::Owned(target) = &forward.target {
        exchange.rewritten(target);
    }
    if log::tells_rewrites(&location.policies, &table.globals) {
        tell_rewrite(exchange, view, &forward);
    }
    let way = Way { exchange, view, location, hop, framed, trusted, run };
    if is_too_long(&way, &body) {
        drop(body);
        return Box::pin(ours(&way, LocalReply::BodyTooLarge, RequestBody::Empty)).await;
    }
    // First of all: checking passwords and asking others costs, too.
    let limits = &table.globals.limits;
    if let Some(reply) = exchange.worker.overload(limits, !matches!(body, RequestBody::Empty)) {
        return local(exchange, &reply, true);
    }
    if let Some(reply) = exchange.standing().and_then(|standing| standing.refusal.as_ref())
        && !location.is_acme()
    {
        return Box::pin(ours(&way, reply.clone(), body)).await;
    }
    inside(&way, &forward, body).await
}

/// An answer that no location gives. Pages of the server's `error_page` stand in for its errors.
async fn of_server(exchange: &Rc<Exchange>, asked: Asked<'_>, run: &Run<'_>, reply: &LocalReply) -> Response {
    let is_error =
        reply.status().as_u16() >= 400 && !matches!(reply, LocalReply::Scripted { body: Some(_), .. });
    if is_error && let Some(page) = turned::turned(exchange, asked, run, None, reply.status()).await {
        return page;
    }
    local(exchange, reply, !before_location(reply))
}

/// The answer of a location that has no backend to ask: a redirect, a preflight, the built-in 404. That one is a backend
/// to nginx, so whoever asks is judged first.
async fn unforwarded(way: &Way<'_>, reply: LocalReply, body: RequestBody) -> Response {
    if is_too_long(way, &body) && !matches!(reply, LocalReply::Denied { .. } | LocalReply::Healthz) {
        drop(body);
        return ours(way, LocalReply::BodyTooLarge, RequestBody::Empty).await;
    }
    if matches!(reply, LocalReply::NoRoute) {
        let judged = match filter::limited(way) {
            Ok(()) => filter::access(way).await,
            refused => refused,
        };
        if let Err(refusal) = judged {
            return ours(way, refusal, body).await;
        }
    }
    ours(way, reply, body).await
}

/// True for a body whose announced length is over the location's limit: nginx looks at that when it has chosen the
/// location, before redirects and checks.
fn is_too_long(way: &Way<'_>, body: &RequestBody) -> bool {
    let most = way.location.policies.body.max;
    most.zip(http_body::Body::size_hint(body).exact()).is_some_and(|(most, length)| length > most)
}

/// `enable-rewrite-log`: what a rewrite did, to the error log.
fn tell_rewrite(exchange: &Exchange, view: &RequestView<'_>, forward: &Forward<'_>) {
    let (Some(_), Cow::Owned(target)) = (&forward.location.rewrite_pattern, &forward.target) else { return };
    let head = &exchange.head;
    let about = format!(
        "client: {}, server: {}, request: \"{} {} {}\", host: \"{}\"",
        view.forwarded.client,
        forward.server.name,
        head.method,
        view.target.escape_ascii(),
        head.version.as_str(),
        view.host.raw.escape_debug(),
    );
    for line in log::rewrite_lines(&forward.location.path, view.path.as_bytes(), target, &about) {
        tracing::info!(target: "rewrite", "{line}");
    }
}

/// A request in its location: may it pass, then body, copy and backend.
async fn inside(way: &Way<'_>, forward: &Forward<'_>, body: RequestBody) -> Response {
    if let Err(reply) = filter::limited(way) {
        return Box::pin(ours(way, reply, body)).await;
    }
    if filter::asks(way)
        && let Err(reply) = filter::access(way).await
    {
        return Box::pin(ours(way, reply, body)).await;
    }
    let body = match body {
        RequestBody::Empty => RequestBody::Empty,
        body => match prepared(way, body).await {
            Ok(body) => body,
            Err(reply) => return Box::pin(ours(way, reply, RequestBody::Empty)).await,
        },
    };
    mirror::send(way, forward, &body);
    let spare = body::replay(&body);
    let errors = &way.location.policies.errors;
    let purpose = if forward.fallback_for.is_some() { Purpose::DefaultBackend } else { Purpose::Forward };
    match forward::to_backend(way, forward, purpose, body).await {
        // nginx catches 401 of a backend too, where it catches statuses of backends at all.
        Ok(response)
            if response.head.status == http::StatusCode::UNAUTHORIZED
                && errors.intercepts()
                && let Some(reply) = filter::sign_in(way) =>
        {
            let challenges = challenges(&response);
            drop_quietly(response);
            challenged(local(way.exchange, &reply, true), challenges.iter().map(|challenge| &**challenge))
        }
        Ok(response) if has_page(way, response.head.status, Made::ByBackend) => {
            let status = response.head.status;
            let challenges = challenges(&response);
            drop_quietly(response);
            let page = Box::pin(error_page(way, status, spare.unwrap_or(RequestBody::Empty))).await;
            challenged(page, challenges.iter().map(|challenge| &**challenge))
        }
        Ok(response) if !way.run.is_idle() && way.run.turns(response.head.status, errors.intercepts()) => {
            Box::pin(turned::instead(way, response)).await
        }
        Ok(response) => response,
        Err(reply) => Box::pin(ours(way, reply, spare.unwrap_or(RequestBody::Empty))).await,
    }
}

/// A body as the route takes it: refused when it turns out too long, read whole before a backend is asked unless it is streamed.
async fn prepared(way: &Way<'_>, body: RequestBody) -> Result<RequestBody, LocalReply> {
    let policies = &way.location.policies;
    let length = http_body::Body::size_hint(&body).exact();
    let body = body::limited(body, policies.body.max);
    // A copy with its body needs the body first, as in nginx.
    let wanted = policies.buffering.request || policies.mirror.as_ref().is_some_and(|mirror| mirror.body);
    // A gRPC call may read and write in turns, and an unbuffered route wants every byte at once.
    if !wanted || policies.protocol.is_grpc() {
        return Ok(body);
    }
    let worker = &way.exchange.worker;
    // A file costs several times what memory does, so while there is room bodies up to the most stay in memory; the
    // other half of the room is for those that are held to their route's size.
    let roomy = worker.memory.held() < worker.memory.budget() / 2;
    let memory = if roomy { MEMORY.1 } else { policies.body.memory.clamp(MEMORY.0, MEMORY.1) };
    // What may come counts before it comes, so that many slow bodies cannot add up unseen.
    let most = length.unwrap_or(memory).min(memory);
    let mut held = worker.memory.hold(if matches!(body, RequestBody::Stream(_)) { most } else { 0 });
    let body = body::buffered(body, memory, &worker.spool).await.map_err(forward::body_reply)?;
    if let RequestBody::Full(bytes) = &body {
        held.set(bytes.len() as u64);
        way.exchange.hold(held);
    }
    Ok(body)
}

/// Least and most bytes of a request body that stay in memory, whatever `client-body-buffer-size` says.
const MEMORY: (u64, u64) = (64 * 1024, 1024 * 1024);

/// An answer of ours inside a location: an error page where the location asks for one. Callers box it: it is rare, and
/// a second way to a backend would double the memory of every request.
async fn ours(way: &Way<'_>, reply: LocalReply, body: RequestBody) -> Response {
    let status = reply.status();
    let signs_in = matches!(reply, LocalReply::Redirect { cause: RedirectCause::SignIn, .. });
    // The built-in 404 comes from a backend as nginx sees it.
    let proxied = matches!((&reply, &way.location.target), (LocalReply::NoRoute, LocationTarget::Default(_)));
    let made = if proxied { Made::ByBackend } else { Made::Here };
    if !signs_in && has_page(way, status, made) {
        let mut response = Box::pin(error_page(way, status, body)).await;
        // CVE-2026-24513: whatever the error backend says, a refusal stays one.
        if reply.refuses() && response.head.status.as_u16() < 400 {
            response.head.status = status;
            response.head.reason = None;
        }
        if let LocalReply::Unauthorized { challenges } = &reply {
            return challenged(response, challenges.iter().map(|challenge| challenge.as_bytes()));
        }
        return response;
    }
    // As in nginx, where `return 403 text` is an answer and `return 403` an error.
    let is_error = !signs_in && !matches!(reply, LocalReply::Scripted { body: Some(_), .. });
    if is_error && let Some(page) = turned::of_location(way, status).await {
        if let LocalReply::Unauthorized { challenges } = &reply {
            return challenged(page, challenges.iter().map(|challenge| challenge.as_bytes()));
        }
        return page;
    }
    local(way.exchange, &reply, true)
}

/// True when an answer with `status` is replaced by a page of the error backend.
fn has_page(way: &Way<'_>, status: http::StatusCode, made: Made) -> bool {
    let errors = &way.location.policies.errors;
    errors.replaces(status.as_u16(), made) && !(errors.inherited && filter::sign_in_page(way).is_some())
}

/// An answer of the error backend instead of one with `status`. Without one the built-in default backend answers, as in
/// ingress-nginx: 404 (vector `custom-http-errors-no-default-backend`).
async fn error_page(way: &Way<'_>, status: http::StatusCode, body: RequestBody) -> Response {
    let backend = forward::error_backend(way);
    way.exchange.turns_to_page(backend);
    let Some(backend) = backend else {
        return local_page(way.exchange, http::StatusCode::NOT_FOUND);
    };
    match forward::error_page(way, backend, status, body).await {
        Some(response) => response,
        None => local_page(way.exchange, status),
    }
}

/// nginx writes no HSTS on answers given before a location was chosen (`routing.md` 5.5).
const fn before_location(reply: &LocalReply) -> bool {
    matches!(reply, LocalReply::Redirect { .. })
}

/// A local reply as the client gets it.
fn local(exchange: &Exchange, reply: &LocalReply, in_location: bool) -> Response {
    exchange.local(reply);
    let mut response = respond(reply, asker(&exchange.head));
    let (fields, globals) = (&mut response.head.fields, &exchange.snapshot.table.globals);
    if in_location {
        response_headers::set_ours(fields, exchange.connection.scheme, globals);
    } else {
        response_headers::set_added(fields, globals);
    }
    if matches!(reply, LocalReply::StubStatus) {
        response.body = exchange.worker.stub_status();
    }
    response
}

/// The stock page of a status that a backend answered and no error backend could replace.
fn local_page(exchange: &Exchange, status: http::StatusCode) -> Response {
    let mut response = super::respond::page(status, asker(&exchange.head));
    response_headers::set_ours(
        &mut response.head.fields,
        exchange.connection.scheme,
        &exchange.snapshot.table.globals,
    );
    response
}

/// What of a head shapes a local reply.
pub(super) fn asker(head: &RequestHead) -> Asker<'_> {
    let grpc = head.fields.get_str("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    Asker { user_agent: head.fields.get_str("user-agent"), grpc: grpc && head.version == Version::Http2 }
}

/// Dropping an answer closes its backend connection; said by name because that is the point.
fn drop_quietly(response: Response) {
    drop(response);
}
