//! Every annotation there is, and how the annotations of one Ingress become policies.
//!
//! Adding a family is one file, one line in [`FAMILIES`], one field and one line in [`read`]; documentation and the
//! tests over all specs follow by themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::annotation::{Fidelity, Objects, OnInvalid, Reader, Risk, Scope, Spec};
use super::global::{GlobalAuth, Globals};
use super::{
    BackendPolicies, IngressPolicies, RoutePolicies, ServerPolicies, affinity, app_root, backend_protocol,
    backend_tls, basic_auth, body, buffering, canary, client_certificate, connection_header, cors,
    custom_errors, custom_headers, default_backend, external_auth, fastcgi, forwarded_prefix, from_to_www,
    global_rate_limit, ip_access, load_balance, log, mirror, pending, redirect, request_limit, response_rate,
    response_rewrite, retry, rewrite, satisfy, server_alias, server_tls, service_upstream, session_cookie,
    snippet, ssl_passthrough, ssl_redirect, timeout, tracing, upstream_vhost,
};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{Ingress, ObjectKey};

mod gate;
pub mod gone;

/// The families.
pub const FAMILIES: &[&[Spec]] = &[
    affinity::SPECS,
    app_root::SPECS,
    backend_protocol::SPECS,
    backend_tls::SPECS,
    basic_auth::SPECS,
    body::SPECS,
    buffering::SPECS,
    canary::SPECS,
    client_certificate::SPECS,
    connection_header::SPECS,
    cors::SPECS,
    custom_errors::SPECS,
    custom_headers::SPECS,
    default_backend::SPECS,
    external_auth::SPECS,
    fastcgi::SPECS,
    forwarded_prefix::SPECS,
    from_to_www::SPECS,
    global_rate_limit::SPECS,
    ip_access::SPECS,
    load_balance::SPECS,
    log::SPECS,
    mirror::SPECS,
    pending::REFUSED,
    pending::WITHOUT_EFFECT,
    redirect::SPECS,
    request_limit::SPECS,
    response_rate::SPECS,
    response_rewrite::SPECS,
    retry::SPECS,
    rewrite::SPECS,
    satisfy::SPECS,
    server_alias::SPECS,
    server_tls::SPECS,
    service_upstream::SPECS,
    session_cookie::SPECS,
    snippet::SPECS,
    ssl_passthrough::SPECS,
    ssl_redirect::SPECS,
    timeout::SPECS,
    tracing::SPECS,
    upstream_vhost::SPECS,
];

/// All annotations.
pub fn specs() -> impl Iterator<Item = &'static Spec> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// Secrets that the annotations of an Ingress name and that it may use, whether or not they exist. Nothing is judged here:
/// who follows Secrets one by one has to know which before an Ingress can be read.
pub fn named_secrets(ingress: &Ingress, prefix: &str, cross_namespace: bool) -> BTreeSet<ObjectKey> {
    let mut reader = Reader::new(ingress, prefix, false).with_cross_namespace(cross_namespace);
    let specs = [&basic_auth::SECRET, &client_certificate::SECRET, &backend_tls::SECRET];
    specs.into_iter().filter_map(|spec| reader.reference(spec).ok()).collect()
}

/// Reads the annotations of an Ingress. `prefix` is `--annotations-prefix`, `validate`
/// `--enable-annotation-validation`.
///
/// Never fails: what cannot be read is a diagnostic, and shuts the routes ([`RoutePolicies::denied`]) where it
/// protects something. A canary has no routes: one that is refused whole takes no traffic, and location annotations of
/// the others mean nothing.
pub fn read(
    ingress: &Ingress,
    prefix: &str,
    validate: bool,
    globals: &Globals,
    objects: Objects<'_>,
) -> (IngressPolicies, Vec<Diagnostic>) {
    let mut reader = Reader::new(ingress, prefix, validate)
        .with_cross_namespace(globals.allow_cross_namespace_resources)
        .with_objects(objects);
    let r = &mut reader;
    gate::check(r, globals);
    pending::read(r);
    let snippets = snippet::read(r, globals);
    let server = ServerPolicies {
        aliases: server_alias::read(r),
        app_root: app_root::read(r),
        from_to_www: from_to_www::read(r),
        client_certificates: client_certificate::ClientCertificates::read(r),
        snippet: snippets.server,
        streams: snippets.streams,
        names: snippets.names,
        tls: server_tls::ServerTls::read(r),
        snippet_guards: snippets.server_guards,
        shut: snippets.server_refused,
        ssl_passthrough: ssl_passthrough::read(r),
    };
    let backend = BackendPolicies {
        load_balance: load_balance::LoadBalance::read(r),
        hash_by: load_balance::HashBy::read(r),
        affinity: affinity::Affinity::read(r),
        cookie: session_cookie::SessionCookie::read(r),
        service_upstream: service_upstream::read(r),
    };
    let canary = canary::Canary::read(r);
    let protocol = backend_protocol::BackendProtocol::read(r);
    let fastcgi = fastcgi::Fastcgi::read(r);
    let mut route = RoutePolicies {
        redirect: redirect::Redirect::read(r),
        redirect_style: redirect::RedirectStyle::read(r, globals),
        rewrite: rewrite::read(r),
        use_regex: rewrite::read_use_regex(r),
        ssl_redirect: ssl_redirect::SslRedirect::read(r, globals),
        ip_access: ip_access::IpAccess::read(r, globals),
        satisfy: satisfy::read(r),
        password_auth: basic_auth::PasswordAuth::read(r),
        external_auth: external_auth::ExternalAuth::read(r, globals),
        limits: request_limit::RequestLimits::read(r),
        global_rate_limit: global_rate_limit::GlobalRateLimit::read(r),
        response_rate: response_rate::ResponseRate::read(r, globals),
        cors: cors::Cors::read(r),
        custom_headers: custom_headers::CustomHeaders::read(r, globals),
        response_rewrite: response_rewrite::ResponseRewrite::read(r, globals),
        mirror: mirror::Mirror::read(r),
        upstream_vhost: upstream_vhost::read(r),
        forwarded_prefix: forwarded_prefix::ForwardedPrefix::read(r),
        connection_header: connection_header::ConnectionHeader::read(r),
        timeout: timeout::Timeouts::read(r, globals),
        retry: retry::Retry::read(r, globals),
        body: body::BodyLimits::read(r, globals),
        buffering: buffering::Buffering::read(r, globals),
        errors: custom_errors::CustomErrors::read(r, globals),
        default_backend: default_backend::read(r),
        protocol,
        fastcgi: (protocol == backend_protocol::BackendProtocol::Fcgi).then(|| Arc::new(fastcgi)),
        backend_tls: backend_tls::BackendTls::read(r),
        http_version: backend_protocol::HttpVersion::read(r, globals.proxy_http_version),
        ignored: snippet::settings::Ignored::default(),
        access_log: log::read(r),
        rewrite_log: log::read_rewrites(r),
        tracing: tracing::Tracing::read(r, globals),
        snippet: snippets.location,
        auth_snippet: snippets.auth,
        denied: None,
    };
    if let (GlobalAuth::On(global), Some(own)) = (&globals.global_auth, &route.external_auth)
        && Arc::ptr_eq(global, own)
    {
        route.auth_snippet.clone_from(&globals.snippets.auth);
    }
    if backend.affinity.is_some() && route.use_regex {
        backend.cookie.warn_without_path(r);
    }
    let references = reader.take_references();
    for snippet in [&globals.snippets.location, &route.snippet.clone()].into_iter().flatten() {
        snippet.settings.replace(&mut route);
    }
    let opts_out = pending::opts_out_of_firewall(&reader);
    let (mut diagnostics, denied) = reader.finish();
    let firewall = globals.firewall.filter(|_| !opts_out);
    route.denied = denied.or(globals.snippets.refused).or(firewall);
    let mut policies = IngressPolicies {
        route: Arc::new(route),
        server: Arc::new(server),
        backend: Arc::new(backend),
        canary: canary.map(Box::new),
        references,
    };
    if denied.is_some_and(gate::refuses_whole) {
        // Nothing of a refused object may reach beyond its own routes.
        policies.server = Arc::default();
        policies.canary = policies.canary.map(|_| Box::new(canary::Canary::never()));
    } else if policies.canary.is_some() {
        diagnostics.iter_mut().for_each(soften);
    }
    (policies, diagnostics)
}

/// On a canary the main Ingress' location annotations count, so a fault in the canary's own shuts nothing.
fn soften(diagnostic: &mut Diagnostic) {
    if diagnostic.severity == Severity::Error {
        diagnostic.severity = Severity::Info;
        diagnostic.reason = "is ignored on a canary: what the main Ingress says counts".into();
        diagnostic.hint.clear();
    }
}

/// The known name that is nearest to `name`, if one is near enough to be meant.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let limit = (name.len() / 4).clamp(1, 4);
    known
        .map(|candidate| (distance(name.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len() > 128 || b.len() > 128 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let cost = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = cost;
            left = cost;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

/// `docs/annotations.md`.
pub fn markdown() -> String {
    let mut all: Vec<&Spec> = specs().collect();
    all.sort_by_key(|spec| spec.name);
    let mut out = String::from(
        "# Annotations\n\nMade from the specs in `src/policy`; do not edit.\n\
         Names stand without the prefix `nginx.ingress.kubernetes.io/` (`--annotations-prefix`).\n\
         An invalid value gives a diagnostic; *shuts* means that the routes of the Ingress answer 503 until it is \
         mended, *default* that it counts as absent.\n\n\
         | annotation | scope | risk | invalid value | default | example | compared with ingress-nginx | meaning |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for spec in all {
        out.push_str(&row(spec));
    }
    out.push_str(&gone::markdown());
    out
}

fn row(spec: &Spec) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut name = format!("`{}`", spec.name);
    for alias in spec.aliases {
        name.push_str(&format!(", `{alias}`"));
    }
    let scope = match spec.scope {
        Scope::Ingress => "Ingress",
        Scope::Location => "path",
        Scope::Server => "host",
        Scope::Upstream => "backend",
    };
    let risk = match spec.risk {
        Risk::Low => "Low",
        Risk::Medium => "Medium",
        Risk::High => "High",
        Risk::Critical => "Critical",
    };
    let invalid = match spec.on_invalid {
        OnInvalid::FailClosed => "shuts",
        OnInvalid::UseDefault => "default",
    };
    let fidelity = match spec.fidelity {
        Fidelity::Exact => "the same".to_owned(),
        Fidelity::Equivalent(text) => cell(text),
        Fidelity::AcceptedNoEffect(text) => format!("no effect: {}", cell(text)),
        Fidelity::Refused(text) => format!("answers 503: {}", cell(text)),
    };
    let (default, example, doc) = (cell(spec.default), cell(spec.example), cell(spec.doc));
    format!("| {name} | {scope} | {risk} | {invalid} | {default} | `{example}` | {fidelity} | {doc} |\n")
}

#[cfg(test)]
mod cross_talk;
#[cfg(test)]
mod tests;
