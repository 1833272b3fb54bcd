//! What happens to a request, up to the choice of a backend: nginx's phases in nginx's order (`routing.md` 0.8).
//!
//! Everything is pure. The data plane calls [`decide`], then [`access`], then [`choose`]; `explain` calls the same
//! functions with a [`Recorder`] that writes down each step.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::path::Found;
use super::{Backend, EndpointMap, Location, LocationTarget, Server, Table};
use crate::policy::canary::{self, Canary, Ground};
use crate::policy::cors::Cors;
use crate::policy::satisfy::{Satisfy, Verdict};
use crate::policy::snippet::Run;
use crate::policy::snippet::script::Rival;
use crate::policy::template::Facts;
use crate::policy::{from_to_www, ip_access, rewrite, ssl_redirect};
use crate::reply::{LocalReply, RedirectCause};
use crate::request::RequestView;

mod script;

use script::{Own, Rewrites};

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Decision<'t> {
    /// Answer it ourselves.
    Reply {
        /// The virtual host.
        server: &'t Arc<Server>,
        /// The location that answers; `None` when the answer came before a location was chosen.
        location: Option<&'t Arc<Location>>,
        /// The answer.
        reply: LocalReply,
    },
    /// Send it to a backend.
    Forward(Forward<'t>),
}

/// Where a request goes, and as what.
#[derive(Debug, Clone)]
pub struct Forward<'t> {
    /// The virtual host.
    pub server: &'t Arc<Server>,
    /// The location.
    pub location: &'t Arc<Location>,
    /// The primary backend; [`choose`] may answer with its canary.
    pub backend: &'t Arc<Backend>,
    /// Set when `backend` is that of the `default-backend` annotation, because this one has no endpoints.
    pub fallback_for: Option<&'t Arc<Backend>>,
    /// Path and query for the backend.
    pub target: Cow<'t, [u8]>,
    /// Value for `X-Forwarded-Prefix`, where the location sets one.
    pub forwarded_prefix: Option<String>,
}

/// Which of two backends the sticky cookie of a request is bound to. Reading the cookie is the balancer's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sticky {
    /// No cookie, or one that is bound to neither.
    #[default]
    Unbound,
    /// The primary.
    Primary,
    /// Its canary.
    Canary,
}

/// The backend that a request is sent to.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'t> {
    /// The backend.
    pub backend: &'t Arc<Backend>,
    /// True when it is the canary.
    pub canary: bool,
}

/// Takes note of the steps of a decision.
pub trait Recorder {
    /// One step: what was looked at, and what came of it.
    fn step(&mut self, what: &'static str, outcome: impl FnOnce() -> String);
}

/// Takes no note.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unrecorded;

impl Recorder for Unrecorded {
    fn step(&mut self, _: &'static str, _: impl FnOnce() -> String) {}
}

/// Decides about a request. Which client asks is judged by [`access`], afterwards, as nginx does. `run` takes the
/// request through the snippets on its way.
pub fn decide<'t>(
    table: &'t Table,
    endpoints: &EndpointMap,
    view: &'t RequestView<'_>,
    run: &mut Run<'_>,
    recorder: &mut impl Recorder,
) -> Decision<'t> {
    let server = table.server(&view.host.name);
    recorder.step("host", || format!("{:?} is served by {}", view.host.name, server.name));
    let early = |reply| Decision::Reply { server, location: None, reply };

    if table.globals.blocks(view) {
        let reply = LocalReply::Forbidden { client: view.forwarded.client };
        recorder.step("blocked", || said(&reply));
        return early(reply);
    }
    if let Some(reply) = script::server(table, server, view, run, recorder) {
        return early(reply);
    }
    if let Some(host) = &server.redirect_to {
        let reply = from_to_www::decide(view, host, &table.globals);
        recorder.step("from-to-www-redirect", || said(&reply));
        return early(reply);
    }
    // The first choice, and ten rewrites (nginx's bound too).
    for _ in 0..=10 {
        match choice(table, endpoints, server, view, run, recorder) {
            Choice::Made(decision) => return decision,
            Choice::Again => recorder.step("rewrite", || script::path(run, view)),
        }
    }
    early(LocalReply::RewriteFailed { reason: "the path was rewritten more than ten times" })
}

/// The answer of the location `@name` of a snippet of the host.
pub fn named(table: &Table, view: &RequestView<'_>, run: &mut Run<'_>, name: &str) -> Option<LocalReply> {
    script::named(table, table.server(&view.host.name), view, run, name)
}

/// What came of the choice of a location.
enum Choice<'t> {
    Made(Decision<'t>),
    /// A snippet rewrote the path.
    Again,
}

fn choice<'t>(
    table: &'t Table,
    endpoints: &EndpointMap,
    server: &'t Arc<Server>,
    view: &'t RequestView<'_>,
    run: &mut Run<'_>,
    recorder: &mut impl Recorder,
) -> Choice<'t> {
    let early = |reply| Choice::Made(Decision::Reply { server, location: None, reply });
    let found = server.index.find(&server.locations, run.path(view).as_bytes());
    let position = match found {
        Some(Found::Location(at) | Found::LacksSlash(at) | Found::OverLimit(at)) => Some(at),
        None => None,
    };
    let location = position.and_then(|at| server.locations.get(at));
    let rival = match (&found, location) {
        (Some(Found::Location(_)), Some(location)) => script::rival(location),
        (Some(Found::OverLimit(_)), _) => Rival::Expression,
        _ => Rival::Nothing,
    };
    match script::own_location(table, server, view, rival, run, recorder) {
        Some(Own::Reply(reply)) => return early(reply),
        Some(Own::Again) => return Choice::Again,
        None => {}
    }
    let Some(location) = location else {
        recorder.step("location", || "none takes the path".to_owned());
        return early(LocalReply::NoRoute);
    };
    recorder.step("location", || format!("{} {}", location.text(), Owner(location)));
    let reply = |reply| Choice::Made(Decision::Reply { server, location: Some(location), reply });
    let mut walk = Walk { table, endpoints, view, server, location, run };
    match found {
        Some(Found::LacksSlash(_)) => reply(walk.lacks_slash(recorder)),
        Some(Found::OverLimit(_)) => {
            reply(LocalReply::RewriteFailed { reason: "the path expression took too many steps" })
        }
        _ => match walk.inside(recorder) {
            Ok(Some(decision)) => Choice::Made(decision),
            Ok(None) => Choice::Again,
            Err(answer) => reply(answer),
        },
    }
}

/// Refuses clients by the address lists of the location and its snippets (`routing.md` 0.8).
pub fn access(location: &Location, view: &RequestView<'_>, run: &Run<'_>) -> Option<LocalReply> {
    if location.is_acme() {
        return None;
    }
    match run.access(location.policies.ip_access.as_ref(), view.forwarded.client, view.method) {
        Verdict::Refuse(reply) => Some(reply),
        Verdict::Admit | Verdict::Abstain => None,
    }
}

/// Primary or canary (`routing.md` 7): a bound cookie, then the canary's rules; a canary without endpoints is never
/// chosen.
pub fn choose<'t>(
    backend: &'t Arc<Backend>,
    endpoints: &EndpointMap,
    view: &RequestView<'_>,
    sticky: Sticky,
    recorder: &mut impl Recorder,
) -> Chosen<'t> {
    let primary = Chosen { backend, canary: false };
    let Some(canary) = &backend.canary else { return primary };
    let sticks = backend.policies.affinity.is_some();
    let (wanted, ground) = match sticky {
        Sticky::Primary if sticks => (canary::Choice::Primary, None),
        Sticky::Canary if sticks && canary.backend.policies.affinity.is_some() => {
            (canary::Choice::Canary, None)
        }
        _ => {
            let (wanted, ground) = canary.policy.decide(view);
            (wanted, Some(ground))
        }
    };
    let alive = !endpoints.of(canary.backend.slot).ready.is_empty();
    recorder.step("canary", || {
        let owner = &canary.owner;
        let because = because(&canary.policy, ground);
        match (wanted, alive) {
            (_, true) if ground == Some(Ground::Weight) => format!("Ingress {owner}: {because}"),
            (canary::Choice::Primary, _) => format!("Ingress {owner} does not take the request: {because}"),
            (canary::Choice::Canary, true) => format!("Ingress {owner} takes the request: {because}"),
            (canary::Choice::Canary, false) => {
                format!("Ingress {owner} would take the request but has no endpoints: {because}")
            }
        }
    });
    match wanted {
        canary::Choice::Canary if alive => Chosen { backend: &canary.backend, canary: true },
        _ => primary,
    }
}

/// Words for what decided about a canary.
fn because(policy: &Canary, ground: Option<Ground>) -> String {
    match ground {
        None => "the session cookie binds it".to_owned(),
        Some(Ground::Header) => {
            let name = policy.header.as_ref().map_or("", |rule| &rule.name);
            format!("the field {name} decides")
        }
        Some(Ground::Cookie) => {
            format!("the cookie {} decides", policy.cookie.as_deref().unwrap_or_default())
        }
        Some(Ground::Weight) => format!("by weight it takes {} of {} requests", policy.weight, policy.total),
    }
}

/// A request inside its location.
struct Walk<'t, 'e, 'v, 'n, 'r> {
    table: &'t Table,
    endpoints: &'e EndpointMap,
    view: &'t RequestView<'v>,
    server: &'t Arc<Server>,
    location: &'t Arc<Location>,
    run: &'n mut Run<'r>,
}

// === impl Walk ===

impl<'t> Walk<'t, '_, '_, '_, '_> {
    fn lacks_slash(&mut self, recorder: &mut impl Recorder) -> LocalReply {
        script::settings(self.table, self.location, self.run);
        let style = self.location.policies.redirect_style;
        let reply = style.trailing_slash(self.view, &self.location.path);
        recorder.step("trailing slash", || said(&reply));
        reply
    }

    /// `Err` is an answer of ours, `None` another choice of location. The order is nginx's: each line precedes the next
    /// in `routing.md` 0.8.
    fn inside(&mut self, recorder: &mut impl Recorder) -> Result<Option<Decision<'t>>, LocalReply> {
        // What shuts an Ingress is a guard that cannot be read; a challenge is guarded by nothing anyway. Without this a
        // faulty guard would keep the certificate of its host from being renewed (cert-manager's edit-in-place).
        if let Some(code) = self.location.policies.denied.filter(|_| !self.location.is_acme()) {
            recorder.step("denied", || format!("the location is shut: {code}"));
            return Err(LocalReply::Denied { code });
        }
        match self.location.target {
            LocationTarget::Healthz => return Err(LocalReply::Healthz),
            LocationTarget::StubStatus => return Err(self.stub_status()),
            LocationTarget::Backend(_) | LocationTarget::Default(_) => {}
        }
        self.preflight(recorder)?;
        let rewrites = match script::location(self.table, self.location, self.view, self.run, recorder)? {
            Rewrites::Go => true,
            Rewrites::Over => false,
            Rewrites::Again => return Ok(None),
        };
        if rewrites {
            self.fixed_redirect(recorder)?;
        }
        let (target, forwarded_prefix) = self.rewrite(rewrites, recorder)?;
        self.ssl_redirect(recorder)?;
        let (backend, fallback_for) = self.backend(recorder)?;
        let (server, location) = (self.server, self.location);
        let forward = Forward { server, location, backend, fallback_for, target, forwarded_prefix };
        Ok(Some(Decision::Forward(forward)))
    }

    /// nginx answers preflights in its rewrite phase: before redirects, limits and access checks.
    fn preflight(&mut self, recorder: &mut impl Recorder) -> Result<(), LocalReply> {
        let answered = |cors: &Cors| cors.is_preflight(self.view.method, self.view.fields.get("origin"));
        if !self.location.policies.cors.as_ref().is_some_and(answered) {
            return Ok(());
        }
        recorder.step("cors preflight", || said(&LocalReply::Preflight));
        // Fields of snippets count on it, though what they do in order comes later.
        script::settings(self.table, self.location, self.run);
        Err(LocalReply::Preflight)
    }

    fn fixed_redirect(&self, recorder: &mut impl Recorder) -> Result<(), LocalReply> {
        let policies = &self.location.policies;
        let Some(redirect) = policies.redirect.as_ref().filter(|_| !self.location.is_acme()) else {
            return Ok(());
        };
        let reply = redirect.reply(policies.redirect_style, self.view);
        recorder.step("redirect", || said(&reply));
        Err(reply)
    }

    /// Path and query for the backend: as sent, or as snippets left them, then as `rewrite-target` says where it still
    /// counts.
    fn rewrite(
        &self,
        counts: bool,
        recorder: &mut impl Recorder,
    ) -> Result<(Cow<'t, [u8]>, Option<String>), LocalReply> {
        let policies = &self.location.policies;
        let target = self.run.target(self.view);
        let unchanged = (target.map_or(Cow::Borrowed(self.view.target), Cow::Owned), None);
        // The solver of a challenge looks for the token where the challenge says it is.
        let wanted = policies.rewrite.as_ref().filter(|_| counts && !self.location.is_acme());
        let (Some(wanted), Some(pattern)) = (wanted, &self.location.rewrite_pattern) else {
            return Ok(unchanged);
        };
        let (path, query) = (self.run.path(self.view), self.run.query(self.view));
        let prefix = policies.forwarded_prefix.as_ref();
        let route = script::facts_of(self.location, self.view, self.run);
        let facts = Facts { view: self.view, route };
        match rewrite::apply(wanted, pattern, path, query, prefix, &facts) {
            Ok(Some(rewrite::Outcome::Redirect(location))) => {
                let cause = RedirectCause::Rewrite;
                let reply = LocalReply::Redirect { status: http::StatusCode::FOUND, location, cause };
                recorder.step("rewrite", || said(&reply));
                Err(reply)
            }
            Ok(Some(rewrite::Outcome::Forward(rewritten))) => {
                recorder.step("rewrite", || String::from_utf8_lossy(&rewritten.target).into_owned());
                Ok((Cow::Owned(rewritten.target), rewritten.forwarded_prefix))
            }
            Ok(None) => {
                recorder.step("rewrite", || "the expression does not match, so the target stays".to_owned());
                Ok(unchanged)
            }
            Err(error) => {
                recorder.step("rewrite", || error.to_string());
                Err(LocalReply::RewriteFailed { reason: error.reason() })
            }
        }
    }

    fn ssl_redirect(&self, recorder: &mut impl Recorder) -> Result<(), LocalReply> {
        let policies = &self.location.policies;
        // Looking for the certificate costs more than asking whether that can matter.
        if self.location.is_acme() || !policies.ssl_redirect.may_redirect(self.view) {
            return Ok(());
        }
        // A request without host (HTTP/1.0) is for the server `_`, which has an entry always.
        let host = if self.view.host.name.is_empty() { "_" } else { &*self.view.host.name };
        let place = ssl_redirect::Place {
            location_path: &self.location.path,
            has_certificate: self.table.certificate(host).is_some(),
            https_port: self.table.https_port,
        };
        let reply =
            policies.ssl_redirect.decide(self.view, place, policies.redirect_style, &self.table.globals);
        if let Some(reply) = reply {
            recorder.step("ssl redirect", || said(&reply));
            return Err(reply);
        }
        Ok(())
    }

    /// The primary backend, or the one of the `default-backend` annotation where the primary has no endpoints.
    fn backend(
        &self,
        recorder: &mut impl Recorder,
    ) -> Result<(&'t Arc<Backend>, Option<&'t Arc<Backend>>), LocalReply> {
        let location = self.location;
        let ready = |backend: &Backend| !self.endpoints.of(backend.slot).ready.is_empty();
        let Some(backend) = location.backend() else { return Err(self.no_route(recorder)) };
        if ready(backend) {
            recorder.step("backend", || backend.name.to_string());
            return Ok((backend, None));
        }
        let why = self.endpoints.of(backend.slot).empty_because;
        if matches!(location.target, LocationTarget::Default(_)) {
            recorder.step("backend", || format!("the default backend has no endpoints ({why})"));
            return Err(self.no_route(recorder));
        }
        if let Some(fallback) = location.default_backend.as_ref().filter(|fallback| ready(fallback)) {
            recorder.step("backend", || {
                format!("{} has no endpoints ({why}); {} serves", backend.name, fallback.name)
            });
            return Ok((fallback, Some(backend)));
        }
        recorder.step("backend", || format!("{} has no endpoints ({why})", backend.name));
        Err(LocalReply::NoEndpoints)
    }

    /// The built-in 404 is a backend to nginx, so the client is judged first (vector `implicit-root-ip-allowlist`); with
    /// `satisfy: any` its address alone refuses nobody, and the data plane judges all checks together.
    fn no_route(&self, recorder: &mut impl Recorder) -> LocalReply {
        let alone = self.location.policies.satisfy == Satisfy::All;
        let refused = alone.then(|| access(self.location, self.view, self.run)).flatten();
        recorder.step("no route", || {
            if refused.is_some() {
                "the client is refused".to_owned()
            } else {
                "no rule takes the path".to_owned()
            }
        });
        refused.unwrap_or(LocalReply::NoRoute)
    }

    fn stub_status(&self) -> LocalReply {
        let client = self.view.forwarded.client;
        if ip_access::contains(&self.table.globals.status_allow, client) {
            LocalReply::StubStatus
        } else {
            LocalReply::Forbidden { client }
        }
    }
}

fn said(reply: &LocalReply) -> String {
    match reply {
        LocalReply::Redirect { status, location, .. }
        | LocalReply::Scripted { status, location: Some(location), .. } => {
            format!("{} to {location}", status.as_u16())
        }
        other => format!("{}", other.status().as_u16()),
    }
}

struct Owner<'l>(&'l Location);

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.owner {
            Some(owner) if self.0.implicit => write!(f, "of Ingress {owner}, without rule"),
            Some(owner) => write!(f, "of Ingress {owner}, {}", self.0.field),
            None => f.write_str("of no Ingress"),
        }
    }
}
