//! An object as an API server gives it, read by the same readers as one from a file. The server has judged it already:
//! fields that nobody here knows are those of a newer server and no finding.

use std::sync::Arc;

use serde_json::Value as Json;

use super::cursor::{At, Findings};
use super::kind::Known;
use super::node::{Entry, Node, Scalar, ScalarKind, Value};
use super::{MAX_DEPTH, Object};
use crate::diagnostic::Diagnostic;
use crate::model::{Kind, ObjectRef, Origin};

/// What became of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object; `None` when it cannot be used.
    pub object: Option<Object>,
    /// Findings about it.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads an object of a kind, whose name is known. `json` needs neither `apiVersion` nor `kind`: items of lists have
/// none.
pub fn decode(reference: &ObjectRef, json: &Json) -> Decoded {
    let nothing = Decoded { object: None, diagnostics: Vec::new() };
    let Some(known) = known(reference.kind) else { return nothing };
    let node = node(json, 0);
    let findings = Findings::default();
    let read = known.read(At::root(&node, &findings));
    let refuse = findings.refuse();
    let origin = Arc::new(Origin::default());
    let diagnostics = findings
        .into_items()
        .into_iter()
        .filter(|finding| finding.code != "UnknownField")
        .map(|finding| Diagnostic {
            object: reference.clone(),
            code: finding.code,
            severity: finding.severity,
            field: finding.field,
            value: finding.value,
            reason: finding.reason,
            hint: finding.hint,
            origin: Arc::clone(&origin),
        })
        .collect();
    let object = read.filter(|_| !refuse).and_then(|(_, objects)| objects.into_iter().next());
    Decoded { object, diagnostics }
}

const fn known(kind: Kind) -> Option<Known> {
    match kind {
        Kind::ConfigMap => Some(Known::ConfigMap),
        Kind::EndpointSlice => Some(Known::EndpointSlice),
        Kind::Ingress => Some(Known::Ingress),
        Kind::IngressClass => Some(Known::IngressClass),
        Kind::Namespace => Some(Known::Namespace),
        Kind::Secret => Some(Known::Secret),
        Kind::Service => Some(Known::Service),
        Kind::Manifest | Kind::Node | Kind::Pod => None,
    }
}

/// A JSON value as the readers take it. An API server gives nothing as deep as [`MAX_DEPTH`]; what lies deeper is null.
fn node(json: &Json, depth: usize) -> Node {
    let value = match json {
        Json::Array(items) if depth < MAX_DEPTH => {
            Value::List(items.iter().map(|item| node(item, depth + 1)).collect())
        }
        Json::Object(entries) if depth < MAX_DEPTH => Value::Map(
            entries
                .iter()
                .map(|(key, value)| Entry {
                    key: key.as_str().into(),
                    line: 0,
                    value: node(value, depth + 1),
                })
                .collect(),
        ),
        Json::Null | Json::Array(_) | Json::Object(_) => scalar("null", ScalarKind::Null),
        Json::Bool(yes) => scalar(if *yes { "true" } else { "false" }, ScalarKind::Boolean(*yes)),
        Json::Number(number) => {
            scalar(&number.to_string(), number.as_i64().map_or(ScalarKind::Float, ScalarKind::Integer))
        }
        Json::String(text) => scalar(text, ScalarKind::Text),
    };
    Node { line: 0, value }
}

fn scalar(text: &str, kind: ScalarKind) -> Value {
    Value::Scalar(Scalar { text: text.into(), kind })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::ObjectKey;

    fn reference(kind: Kind, name: &str) -> ObjectRef {
        let namespace = if matches!(kind, Kind::IngressClass | Kind::Namespace) { "" } else { "team" };
        ObjectRef { kind, key: ObjectKey::new(namespace, name) }
    }

    #[track_caller]
    fn check(kind: Kind, body: &Json) -> Object {
        let mut json = json!({"metadata": {
            "name": "a", "namespace": "team", "uid": "u-1", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2024-01-31T12:00:00Z",
        }});
        if matches!(kind, Kind::IngressClass | Kind::Namespace) {
            json["metadata"].as_object_mut().unwrap().remove("namespace");
        }
        json.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let decoded = decode(&reference(kind, "a"), &json);
        assert_eq!(decoded.diagnostics, [], "{json}");
        let object = decoded.object.expect("readable");
        assert_eq!(object.reference(), reference(kind, "a"));
        assert_eq!((&*object.meta().uid, object.meta().generation), ("u-1", 3));
        assert_eq!(object.meta().created.map(|at| at.0), Some(1_706_702_400));
        object
    }

    #[test]
    fn every_kind_is_read_without_its_type() {
        let rules = json!([{"host": "a.test", "http": {"paths": [{"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]);
        let Object::Ingress(ingress) =
            check(Kind::Ingress, &json!({"spec": {"ingressClassName": "nginx", "rules": rules}}))
        else {
            panic!("an Ingress")
        };
        assert_eq!((ingress.class_name.as_deref(), ingress.rules.len()), (Some("nginx"), 1));
        check(Kind::IngressClass, &json!({"spec": {"controller": "k8s.io/ingress-nginx"}}));
        check(Kind::ConfigMap, &json!({"data": {"k": "v"}}));
        check(Kind::Namespace, &json!({"spec": {"finalizers": ["kubernetes"]}}));
        check(Kind::Secret, &json!({"type": "Opaque", "data": {"k": "dg=="}}));
        check(Kind::Service, &json!({"spec": {"ports": [{"port": 80}], "clusterIP": "10.96.0.1"}}));
        check(
            Kind::EndpointSlice,
            &json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.244.0.9"]}],
                "ports": [{"port": 8080}]}),
        );
    }

    #[test]
    fn fields_of_a_newer_server_are_no_finding() {
        check(Kind::ConfigMap, &json!({"data": {"k": "v"}, "invented": {"deep": [1, true, null]}}));
    }

    #[test]
    fn an_object_that_cannot_be_read_is_refused_with_its_name() {
        let json = json!({"metadata": {"name": "a", "namespace": "team"}, "data": {"k": 7}});
        let decoded = decode(&reference(Kind::ConfigMap, "a"), &json);
        assert_eq!(decoded.object, None);
        assert_eq!(decoded.diagnostics.len(), 1);
        assert_eq!(decoded.diagnostics[0].object, reference(Kind::ConfigMap, "a"));
        assert_eq!(decoded.diagnostics[0].field, "data[k]");
    }
}
