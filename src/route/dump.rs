//! Stable text of a table: what golden tests compare and `check --print` shows. Equal tables give equal text,
//! whatever the order in which their objects came and whatever slots their backends have.

use std::fmt::Write;
use std::sync::Arc;

use super::host::NameKind;
use super::{Backend, CertificateChoice, EndpointMap, Location, LocationTarget, Server, Table};
use crate::policy::client_certificate::ClientCertificates;

/// The whole table with its endpoints.
pub fn table(table: &Table, endpoints: &EndpointMap) -> String {
    let mut text = String::new();
    let names = table.hosts.names();
    let mut names = names.iter().peekable();
    while let Some((kind, name, server)) = names.next() {
        let mut further: Vec<String> = Vec::new();
        note(server, kind, name, &mut further);
        while let Some((kind, name, _)) = names.next_if(|(_, _, next)| Arc::ptr_eq(next, server)) {
            note(server, kind, name, &mut further);
        }
        if !Arc::ptr_eq(server, &table.catch_all) {
            text.push_str(&self::server(server, &further, table, endpoints));
            text.push('\n');
        }
    }
    let further: Vec<String> = table
        .hosts
        .names()
        .into_iter()
        .filter(|(_, _, server)| Arc::ptr_eq(server, &table.catch_all))
        .map(|(_, name, _)| name)
        .collect();
    text.push_str(&server(&table.catch_all, &further, table, endpoints));
    text
}

/// One server with the names that lead to it beside its own.
pub fn server(server: &Server, further: &[String], table: &Table, endpoints: &EndpointMap) -> String {
    let mut text = format!("server {}", server.name);
    if server.regex_mode {
        text.push_str(" (regex mode)");
    }
    text.push('\n');
    let mut line = |key: &str, value: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  {key} {value}");
    };
    for name in further {
        line("also", name);
    }
    if let Some(host) = &server.redirect_to {
        line("redirects to", host);
    }
    if let Some(root) = &server.app_root {
        line("app-root", root);
    }
    match &server.client_certificates {
        Some(ClientCertificates::Ask(auth)) => line("client certificates", &auth.group.secret.to_string()),
        Some(ClientCertificates::Broken) => line("client certificates", "cannot be asked for, so it is shut"),
        None => {}
    }
    if let Some(choice) = table.tls.get(&server.name) {
        line("certificate", &certificate(choice));
    }
    for name in further {
        if let Some(choice) = table.tls.get(&**name) {
            line("certificate", &format!("{} for {name}", certificate(choice)));
        }
    }
    for location in &server.locations {
        text.push_str(&self::location(location, endpoints));
    }
    text
}

fn note(server: &Server, kind: &NameKind, name: &str, further: &mut Vec<String>) {
    let own = *server.name == *name && matches!(kind, NameKind::Exact | NameKind::Expression);
    if !own {
        further.push(name.to_owned());
    }
}

fn certificate(choice: &CertificateChoice) -> String {
    match choice {
        CertificateChoice::Default => "default".to_owned(),
        CertificateChoice::Secret(key) => format!("Secret {key}"),
    }
}

fn location(location: &Location, endpoints: &EndpointMap) -> String {
    let mut text = format!("  {} -> {}", location.text(), target(&location.target, endpoints));
    if let Some(owner) = &location.owner {
        let field = if location.implicit { "no rule" } else { &*location.field };
        let _ = write!(text, "\n    of Ingress {owner}, {field}");
    }
    let policies = &location.policies;
    let mut notes: Vec<String> = Vec::new();
    if let Some(code) = policies.denied {
        notes.push(format!("answers 503: {code}"));
    }
    if location.pattern.is_none() && location.kind == super::LocationKind::Regex {
        notes.push("takes nothing".to_owned());
    }
    if let Some(redirect) = &policies.redirect {
        notes.push(format!("redirects {} to {}", redirect.status.as_u16(), redirect.url));
    }
    if let (Some(rewrite), Some(_)) = (&policies.rewrite, &location.rewrite_pattern) {
        notes.push(format!("rewrites to {}", rewrite.target.text));
    }
    match (policies.ssl_redirect.force, policies.ssl_redirect.on) {
        (true, _) => notes.push("always redirects to https".to_owned()),
        (false, false) => notes.push("never redirects to https".to_owned()),
        (false, true) => {}
    }
    if let Some(access) = &policies.ip_access {
        notes.push(format!("allows {:?}, denies {:?}", access.allow, access.deny));
    }
    if let Some(fallback) = &location.default_backend {
        notes.push(format!("falls back to {}", backend(fallback, endpoints)));
    }
    if location.sets_cookie {
        notes.push("sets the sticky cookie".to_owned());
    }
    if let Some(snippet) = &policies.snippet {
        notes.push(format!("runs {} steps of a snippet", snippet.steps.len()));
    }
    for note in notes {
        let _ = write!(text, "\n    {note}");
    }
    text.push('\n');
    text
}

fn target(target: &LocationTarget, endpoints: &EndpointMap) -> String {
    match target {
        LocationTarget::Backend(primary) => match &primary.canary {
            Some(canary) => format!(
                "{}, canary of Ingress {}: {}",
                backend(primary, endpoints),
                canary.owner,
                backend(&canary.backend, endpoints)
            ),
            None => backend(primary, endpoints),
        },
        LocationTarget::Default(Some(default)) => format!("default backend {}", backend(default, endpoints)),
        LocationTarget::Default(None) => "404".to_owned(),
        LocationTarget::Healthz => "healthz".to_owned(),
        LocationTarget::StubStatus => "stub status".to_owned(),
    }
}

fn backend(backend: &Backend, endpoints: &EndpointMap) -> String {
    let set = endpoints.of(backend.slot);
    let affinity = if backend.policies.affinity.is_some() { " sticky" } else { "" };
    if set.ready.is_empty() {
        return format!("{}{affinity} [none: {}]", backend.name, set.empty_because);
    }
    let addresses: Vec<String> = set.ready.iter().map(ToString::to_string).collect();
    format!("{}{affinity} [{}]", backend.name, addresses.join(" "))
}
