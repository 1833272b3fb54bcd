//! `metadata` of every kind.

use std::sync::Arc;

use super::cursor::{At, Mapping};
use crate::model::{Meta, ObjectKey, Origin, Timestamp};

/// Namespace of an object that names none, as for every client of an API server.
const DEFAULT_NAMESPACE: &str = "default";
/// Longest name that Kubernetes takes.
const MAX_NAME: usize = 253;

const FIELDS: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "clusterName",
];

/// Whether objects of a kind lie in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Key with an empty namespace.
    Cluster,
    /// Key with a namespace, `default` when none is written.
    Namespaced,
}

/// Reads `metadata` of an object's root mapping. `None` when there is no usable name, which is reported.
pub(super) fn read(root: &Mapping<'_>, scope: Scope) -> Option<Meta> {
    let at = root.required("metadata")?;
    let fields = at.mapping(FIELDS)?;
    let name = fields.required("name").and_then(|at| name(&at));
    let namespace = match scope {
        Scope::Cluster => Some(""),
        Scope::Namespaced => match fields.field("namespace") {
            Some(at) => name_or_empty(&at),
            None => Some(DEFAULT_NAMESPACE),
        },
    };
    let generation = fields.field("generation").and_then(|at| at.integer()).unwrap_or_default();
    let created = fields.field("creationTimestamp").and_then(|at| timestamp(&at));
    let labels = fields.field("labels").map(|at| at.strings()).unwrap_or_default();
    let annotations = fields.field("annotations").map(|at| at.strings()).unwrap_or_default();
    let uid = fields.text("uid");
    Some(Meta {
        key: ObjectKey::new(namespace?, name?),
        uid: uid.into(),
        generation,
        created,
        labels,
        annotations,
        origin: Arc::new(Origin::default()),
    })
}

fn name_or_empty<'p>(at: &At<'p>) -> Option<&'p str> {
    if at.text()?.is_empty() { Some(DEFAULT_NAMESPACE) } else { name(at) }
}

/// A DNS-1123 subdomain: what an API server takes for the kinds read here.
fn name<'p>(at: &At<'p>) -> Option<&'p str> {
    let text = at.text()?;
    let sound = !text.is_empty()
        && text.len() <= MAX_NAME
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
        && text.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    if !sound {
        at.error("is no object name", "use lower case letters, digits, `-` and `.`");
    }
    sound.then_some(text)
}

fn timestamp(at: &At<'_>) -> Option<Timestamp> {
    let text = at.text()?;
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) => Some(Timestamp(moment.as_second())),
        Err(_) => {
            at.error("is no RFC 3339 time", "write it as 2024-01-31T12:00:00Z");
            None
        }
    }
}
