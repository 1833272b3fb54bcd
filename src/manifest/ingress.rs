//! networking.k8s.io/v1 Ingress and IngressClass. Types only: what hosts and paths may be is `compile`'s to judge.

use super::cursor::{At, Mapping};
use crate::model::{
    Backend, Ingress, IngressClass, Meta, PathRule, PathType, PortRef, Rule, ServiceRef, TlsBlock,
};

/// Reads the rest of an Ingress.
pub(super) fn read(root: &Mapping<'_>, meta: Meta) -> Ingress {
    let mut ingress =
        Ingress { meta, class_name: None, default_backend: None, rules: Vec::new(), tls: Vec::new() };
    let Some(at) = root.required("spec") else { return ingress };
    let Some(spec) = at.mapping(&["ingressClassName", "defaultBackend", "rules", "tls"]) else {
        return ingress;
    };
    ingress.class_name = spec.field("ingressClassName").and_then(|at| at.text()).map(str::to_owned);
    ingress.default_backend = spec.field("defaultBackend").and_then(|at| backend(&at));
    ingress.rules =
        spec.field("rules").map(|at| exactly(at.items().filter_map(|at| rule(&at)))).unwrap_or_default();
    ingress.tls =
        spec.field("tls").map(|at| at.items().filter_map(|at| tls(&at)).collect()).unwrap_or_default();
    ingress
}

/// Reads the rest of an IngressClass.
pub(super) fn read_class(root: &Mapping<'_>, meta: Meta) -> IngressClass {
    let mut class = IngressClass { meta, controller: String::new(), parameters: None };
    let Some(at) = root.required("spec") else { return class };
    let Some(spec) = at.mapping(&["controller", "parameters"]) else { return class };
    class.controller = spec.text("controller");
    class.parameters = spec.field("parameters").and_then(|at| {
        let fields = at.mapping(&["apiGroup", "kind", "name", "namespace", "scope"])?;
        let kind = fields.required("kind")?.text()?.to_owned();
        let name = fields.required("name")?.text()?.to_owned();
        Some((kind, name))
    });
    class
}

/// What is kept for as long as the object lives takes no more room than it needs.
fn exactly<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = items.collect();
    all.shrink_to_fit();
    all
}

fn rule(at: &At<'_>) -> Option<Rule> {
    let fields = at.mapping(&["host", "http"])?;
    let paths = fields.field("http").map(|at| {
        let Some(http) = at.mapping(&["paths"]) else { return Vec::new() };
        let Some(at) = http.required("paths") else { return Vec::new() };
        exactly(at.items().filter_map(|at| path(&at)))
    });
    Some(Rule { host: fields.text("host"), paths })
}

fn path(at: &At<'_>) -> Option<PathRule> {
    let fields = at.mapping(&["path", "pathType", "backend"])?;
    let path_type = fields.field("pathType").and_then(|at| match at.text()? {
        "Exact" => Some(PathType::Exact),
        "Prefix" => Some(PathType::Prefix),
        "ImplementationSpecific" => Some(PathType::ImplementationSpecific),
        _ => {
            at.error("is no path type", "use Exact, Prefix or ImplementationSpecific");
            None
        }
    });
    let backend = fields.required("backend").and_then(|at| backend(&at));
    Some(PathRule { path: fields.text("path"), path_type, backend: backend? })
}

fn backend(at: &At<'_>) -> Option<Backend> {
    let fields = at.mapping(&["service", "resource"])?;
    match (fields.field("service"), fields.field("resource")) {
        (Some(at), None) => {
            let service = at.mapping(&["name", "port"])?;
            let name = service.required("name").and_then(|at| at.text());
            let port = service.required("port").and_then(|at| port(&at));
            Some(Backend::Service(ServiceRef { name: name?.to_owned(), port: port? }))
        }
        (None, Some(at)) => {
            let resource = at.mapping(&["apiGroup", "kind", "name"])?;
            Some(Backend::Resource { kind: resource.text("kind"), name: resource.text("name") })
        }
        (Some(_), Some(_)) => {
            at.error("names both a service and a resource", "keep one of them");
            None
        }
        (None, None) => {
            at.error(
                "names neither a service nor a resource",
                "write `service: {name: …, port: {number: …}}`",
            );
            None
        }
    }
}

fn port(at: &At<'_>) -> Option<PortRef> {
    let fields = at.mapping(&["name", "number"])?;
    match (fields.field("name"), fields.field("number")) {
        (Some(at), None) => Some(PortRef::Name(at.text()?.to_owned())),
        (None, Some(at)) => at.port().map(PortRef::Number),
        (Some(_), Some(_)) => {
            at.error("gives both a name and a number", "keep one of them");
            None
        }
        (None, None) => {
            at.error("gives neither a name nor a number", "write `port: {number: 80}`");
            None
        }
    }
}

fn tls(at: &At<'_>) -> Option<TlsBlock> {
    let fields = at.mapping(&["hosts", "secretName"])?;
    let hosts = fields
        .field("hosts")
        .map(|at| at.items().filter_map(|at| at.text().map(str::to_owned)).collect())
        .unwrap_or_default();
    Some(TlsBlock { hosts, secret_name: fields.text("secretName") })
}
