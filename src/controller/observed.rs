//! One object as it comes over the wire: pruned of what nobody reads, decoded, and, of an Ingress, its status.

use serde_json::Value as Json;

use super::nodes::essence;
use super::status::Address;
use crate::manifest::{self, Decoded};
use crate::model::{Kind, ObjectKey, ObjectRef};

/// What `kubectl apply` leaves on objects: the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object and what is needed to follow it.
#[derive(Debug)]
pub(super) struct Observed {
    /// Its name.
    pub(super) reference: ObjectRef,
    /// Its `resourceVersion`.
    pub(super) version: String,
    /// The object.
    pub(super) decoded: Decoded,
    /// `status.loadBalancer.ingress` of an Ingress.
    pub(super) addresses: Vec<Address>,
    /// As it came, pruned.
    pub(super) json: Json,
}

/// Takes an object of a kind in. `None` when it has no name, which no API server gives.
pub(super) fn observe(kind: Kind, mut json: Json) -> Option<Observed> {
    let meta = json.get("metadata")?;
    let text = |name: &str| meta.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
    let (namespace, name, version) = (text("namespace"), text("name"), text("resourceVersion"));
    if name.is_empty() {
        return None;
    }
    let addresses = if kind == Kind::Ingress { Address::of_status(json.get("status")) } else { Vec::new() };
    if matches!(kind, Kind::Node | Kind::Pod) {
        json = essence(kind, &json);
    } else {
        prune(&mut json);
    }
    let reference = ObjectRef { kind, key: ObjectKey::new(namespace, name) };
    let decoded = manifest::decode(&reference, &json);
    Some(Observed { reference, version, decoded, addresses, json })
}

fn prune(json: &mut Json) {
    let Some(object) = json.as_object_mut() else { return };
    object.remove("status");
    let Some(meta) = object.get_mut("metadata").and_then(Json::as_object_mut) else { return };
    meta.remove("managedFields");
    meta.remove("ownerReferences");
    if let Some(annotations) = meta.get_mut("annotations").and_then(Json::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_reads_is_gone_before_an_object_is_kept() {
        let json = json!({
            "metadata": {
                "name": "a", "namespace": "team", "resourceVersion": "7",
                "managedFields": [{"manager": "kubectl"}],
                "annotations": {"keep": "1", LAST_APPLIED: "{}"},
            },
            "data": {"k": "v"},
        });
        let observed = observe(Kind::ConfigMap, json).unwrap();
        assert_eq!((observed.reference.to_string(), &*observed.version), ("ConfigMap team/a".into(), "7"));
        let object = observed.decoded.object.unwrap();
        assert_eq!(object.meta().annotations.keys().collect::<Vec<_>>(), ["keep"]);
    }

    #[test]
    fn the_status_of_an_ingress_is_taken_aside() {
        let json = json!({
            "metadata": {"name": "a", "namespace": "team"},
            "spec": {},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example"}]}},
        });
        let observed = observe(Kind::Ingress, json).unwrap();
        assert_eq!(observed.addresses, [Address::ip("192.0.2.1"), Address::hostname("lb.example")]);
        assert!(observe(Kind::Ingress, json!({"metadata": {}})).is_none());
        assert!(observe(Kind::Ingress, json!(7)).is_none());
    }
}
