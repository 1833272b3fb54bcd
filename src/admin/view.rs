//! The API's answers, read from the published snapshot. Shapes: `docs/admin-api.md`.
//!
//! Nothing here reads keys, and nothing shows values of annotations that may hold credentials.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::inspect::{ExplainQuery, Inspect, Refused};
use crate::inquiry::Inquiry;
use crate::model::CertInfo;
use crate::policy::affinity::{Affinity, CanaryBehavior, Mode};
use crate::policy::canary::{Canary, HeaderTest};
use crate::policy::load_balance::LoadBalance;
use crate::policy::session_cookie::SessionCookie;
use crate::report;
use crate::route::stream::{ProxyHeaders, StreamService, Transport};
use crate::route::{
    Backend, CertificateChoice, EndpointMap, Location, LocationKind, LocationTarget, Server, Table, dump,
};
use crate::snapshot::{Reader, Snapshot};

/// The published snapshot, once there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SnapshotView(Arc<OnceLock<Reader>>);

impl SnapshotView {
    /// From now on answers come from what `reader` sees. Only the first call counts.
    pub fn attach(&self, reader: Reader) {
        // A second reader would see the same publications.
        let _ = self.0.set(reader);
    }

    fn snapshot(&self) -> Result<Arc<Snapshot>, Refused> {
        self.0.get().map(Reader::load).ok_or(Refused::NoTable)
    }
}

impl Inspect for SnapshotView {
    fn generation(&self) -> Result<Value, Refused> {
        let snapshot = self.snapshot()?;
        Ok(json!({ "generation": snapshot.generation }))
    }

    fn routes(&self) -> Result<Value, Refused> {
        let snapshot = self.snapshot()?;
        let (table, endpoints) = (&*snapshot.table, &*snapshot.endpoints);
        let servers: Vec<Value> =
            servers(table).into_iter().map(|(names, one)| server(table, endpoints, &names, one)).collect();
        Ok(json!({
            "generation": snapshot.generation,
            "servers": servers,
            "text": dump::table(table, endpoints),
        }))
    }

    fn diagnostics(&self) -> Result<Value, Refused> {
        let snapshot = self.snapshot()?;
        let found: Vec<Value> = snapshot.diagnostics.iter().map(report::diagnostic).collect();
        Ok(json!({ "generation": snapshot.generation, "diagnostics": found }))
    }

    fn backends(&self) -> Result<Value, Refused> {
        let snapshot = self.snapshot()?;
        let backends: Vec<Value> =
            snapshot.table.backends.iter().map(|one| backend(&snapshot.endpoints, one)).collect();
        let streams: Vec<Value> = snapshot
            .table
            .streams
            .iter()
            .map(|((transport, port), service)| stream(&snapshot.endpoints, *transport, *port, service))
            .collect();
        Ok(json!({ "generation": snapshot.generation, "backends": backends, "streams": streams }))
    }

    fn certs(&self) -> Result<Value, Refused> {
        let snapshot = self.snapshot()?;
        let pairs: Vec<Value> = snapshot
            .certs
            .pairs
            .iter()
            .map(|(key, pair)| {
                let chosen = CertificateChoice::Secret(key.clone());
                let hosts: Vec<&str> = snapshot
                    .table
                    .tls
                    .iter()
                    .filter(|(_, choice)| **choice == chosen)
                    .map(|(host, _)| &**host)
                    .collect();
                json!({
                    "namespace": &*key.namespace,
                    "secret": &*key.name,
                    "hosts": hosts,
                    "certificate": certificate(&pair.info),
                })
            })
            .collect();
        Ok(json!({
            "generation": snapshot.generation,
            "default": certificate(&snapshot.certs.default.info),
            "certificates": pairs,
        }))
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Value, Refused> {
        let snapshot = self.snapshot()?;
        let inquiry = Inquiry {
            method: query.method.clone(),
            url: query.url.clone(),
            fields: query.headers.clone(),
            client: query.client,
        };
        let explained = inquiry.explain(&snapshot.table, &snapshot.endpoints).map_err(Refused::BadQuery)?;
        let mut value = report::explanation(&explained);
        if let Some(object) = value.as_object_mut() {
            object.insert("generation".to_owned(), snapshot.generation.into());
        }
        Ok(value)
    }
}

/// Every server once, in the order of the index, with the names that lead to it; the catch-all last.
fn servers(table: &Table) -> Vec<(Vec<String>, &Arc<Server>)> {
    let mut all: Vec<(Vec<String>, &Arc<Server>)> = Vec::new();
    let mut seen = BTreeSet::from([Arc::as_ptr(&table.catch_all)]);
    for (_, _, one) in table.hosts.names() {
        if seen.insert(Arc::as_ptr(one)) {
            all.push((Vec::new(), one));
        }
    }
    all.push((Vec::new(), &table.catch_all));
    for (_, name, one) in table.hosts.names() {
        if let Some((names, _)) = all.iter_mut().find(|(_, other)| Arc::ptr_eq(one, other)) {
            names.push(name);
        }
    }
    all
}

fn server(table: &Table, endpoints: &EndpointMap, names: &[String], one: &Server) -> Value {
    let certificate = table.tls.get(&one.name).map(|choice| match choice {
        CertificateChoice::Default => "default".to_owned(),
        CertificateChoice::Secret(key) => format!("{}/{}", key.namespace, key.name),
    });
    let locations: Vec<Value> = one.locations.iter().map(|one| location(endpoints, one)).collect();
    json!({
        "name": &*one.name,
        "names": names,
        "regexMode": one.regex_mode,
        "redirectTo": one.redirect_to.as_deref(),
        "appRoot": one.app_root.as_deref(),
        "certificate": certificate,
        "locations": locations,
    })
}

fn location(endpoints: &EndpointMap, one: &Location) -> Value {
    let kind = match one.kind {
        LocationKind::Exact => "exact",
        LocationKind::Prefix => "prefix",
        LocationKind::Regex => "regex",
    };
    let (target, backend) = match &one.target {
        LocationTarget::Backend(backend) => ("backend", Some(backend)),
        LocationTarget::Default(backend) => ("default", backend.as_ref()),
        LocationTarget::Healthz => ("healthz", None),
        LocationTarget::StubStatus => ("stub_status", None),
    };
    json!({
        "kind": kind,
        "path": &*one.path,
        "rulePath": &*one.rule_path,
        "ingress": one.owner.as_ref().map(|owner| format!("{}/{}", owner.namespace, owner.name)),
        "field": &*one.field,
        "implicit": one.implicit,
        "target": target,
        "backend": backend.map(|backend| &*backend.name),
        "ready": backend.map(|backend| endpoints.of(backend.slot).ready.len()),
        "denied": one.policies.denied,
    })
}

fn backend(endpoints: &EndpointMap, one: &Backend) -> Value {
    let set = endpoints.of(one.slot);
    let ready: Vec<String> = set.ready.iter().map(ToString::to_string).collect();
    json!({
        "name": &*one.name,
        "namespace": &*one.key.namespace,
        "service": &*one.key.service,
        "port": &*one.key.port,
        "endpoints": ready,
        "emptyBecause": (!set.empty_because.is_empty()).then_some(set.empty_because),
        "loadBalance": one.policies.load_balance.map(|algorithm| match algorithm {
            LoadBalance::RoundRobin => "round_robin",
            LoadBalance::Ewma => "ewma",
        }),
        "hashBy": one.policies.hash_by.as_ref().map(|hash| json!({
            "text": hash.template.as_str(), "subset": hash.subset,
        })),
        "affinity": one.policies.affinity.map(|affinity| self::affinity(affinity, &one.policies.cookie)),
        "canary": one.canary.as_ref().map(|canary| json!({
            "ingress": format!("{}/{}", canary.owner.namespace, canary.owner.name),
            "rule": rule(&canary.policy),
            "backend": backend(endpoints, &canary.backend),
        })),
    })
}

/// Sessions of a backend, and their cookie.
fn affinity(affinity: Affinity, cookie: &SessionCookie) -> Value {
    json!({
        "mode": match affinity.mode { Mode::Balanced => "balanced", Mode::Persistent => "persistent" },
        "canary": match affinity.canary { CanaryBehavior::Sticky => "sticky", CanaryBehavior::Legacy => "legacy" },
        "cookie": {
            "name": &*cookie.name,
            "path": cookie.path.as_deref(),
            "domain": cookie.domain.as_deref(),
            "sameSite": cookie.same_site.as_deref(),
            "conditionalSameSiteNone": cookie.conditional_none,
            "secure": cookie.secure,
            "expires": cookie.expires,
            "maxAge": cookie.max_age,
            "changeOnFailure": cookie.change_on_failure,
        },
    })
}

/// Which requests a canary takes.
fn rule(canary: &Canary) -> Value {
    let (value, pattern) = match canary.header.as_ref().map(|header| &header.test) {
        Some(HeaderTest::Value(value)) => (Some(&**value), None),
        Some(HeaderTest::Pattern(pattern)) => (None, Some(pattern.as_str())),
        Some(HeaderTest::Switch | HeaderTest::Broken) | None => (None, None),
    };
    json!({
        "weight": canary.weight,
        "total": canary.total,
        "header": canary.header.as_ref().map(|header| &*header.name),
        "headerValue": value,
        "headerPattern": pattern,
        "cookie": canary.cookie.as_deref(),
    })
}

/// A port of TCP or UDP: its backend, and how it is reached.
fn stream(endpoints: &EndpointMap, transport: Transport, port: u16, service: &StreamService) -> Value {
    let mut shown = backend(endpoints, &service.backend);
    let set = service.snippet.as_ref().map(|snippet| &snippet.endpoints);
    if let Some(shown) = shown.as_object_mut() {
        if let Some(set) = set {
            let ready: Vec<String> = set.ready.iter().map(ToString::to_string).collect();
            let reason = (!set.empty_because.is_empty() && ready.is_empty()).then_some(set.empty_because);
            shown.insert("endpoints".into(), json!(ready));
            shown.insert("emptyBecause".into(), json!(reason));
        }
        shown.insert("transport".into(), json!(transport.lower()));
        shown.insert("listen".into(), json!(port));
        shown.insert("acceptsProxyHeader".into(), json!(service.accept == ProxyHeaders::Required));
        shown.insert("sendsProxyHeader".into(), json!(service.send == ProxyHeaders::Required));
        shown.insert("snippet".into(), json!(service.snippet.is_some()));
    }
    shown
}

fn certificate(info: &CertInfo) -> Value {
    let hex: String = info.id.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "id": hex,
        "names": info.names,
        "notBefore": info.not_before,
        "notAfter": info.not_after,
        "subjectCommonName": info.subject_common_name,
        "issuerCommonName": info.issuer_common_name,
        "issuerOrganization": info.issuer_organization,
        "serialNumber": info.serial_number,
        "publicKeyAlgorithm": info.public_key_algorithm,
    })
}
