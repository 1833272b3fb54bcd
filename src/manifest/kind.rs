//! What a document is: a kind that is read, a list, a version that is gone, or somebody else's object.

use std::sync::Arc;

use super::cursor::At;
use super::meta::{self, Scope};
use super::node::Node;
use super::{Object, config_map, ingress, secret, service};
use crate::model::{Kind, Meta, Namespace, ObjectKey};

/// Answer of [`recognize`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Recognized {
    /// An object that is read.
    Known(Known),
    /// `List`, or a list of one kind whose items need no kind of their own.
    List(Option<Known>),
    /// A kind that is read, in a version that Kubernetes removed.
    Removed {
        /// The kind.
        kind: Kind,
        /// What to write instead.
        replacement: &'static str,
    },
    /// A kind that nobody here reads: its name with its group.
    Foreign(String),
    /// Neither apiVersion nor kind.
    NoObject,
    /// One of apiVersion and kind is missing: this one.
    Incomplete(&'static str),
}

/// A kind that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// v1 ConfigMap.
    ConfigMap,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// v1 Endpoints.
    Endpoints,
    /// networking.k8s.io/v1 Ingress.
    Ingress,
    /// networking.k8s.io/v1 IngressClass.
    IngressClass,
    /// v1 Namespace.
    Namespace,
    /// v1 Secret.
    Secret,
    /// v1 Service.
    Service,
}

const INGRESS_NOW: &str =
    "write networking.k8s.io/v1: `pathType` on each path, `backend: {service: {name: …, port: {number: …}}}`";

/// What a document is.
pub(super) fn recognize(node: &Node) -> Recognized {
    let (version, kind) = (node.field("apiVersion"), node.field("kind"));
    if version.is_none() && kind.is_none() {
        return Recognized::NoObject;
    }
    let Some(kind) = kind.and_then(Node::text) else { return Recognized::Incomplete("kind") };
    let Some(version) = version.and_then(Node::text) else { return Recognized::Incomplete("apiVersion") };
    match (version, kind) {
        ("v1", "List") => Recognized::List(None),
        ("extensions/v1beta1" | "networking.k8s.io/v1beta1" | "extensions/v1", "Ingress" | "IngressList") => {
            Recognized::Removed { kind: Kind::Ingress, replacement: INGRESS_NOW }
        }
        ("networking.k8s.io/v1beta1", "IngressClass") => {
            Recognized::Removed { kind: Kind::IngressClass, replacement: "write networking.k8s.io/v1" }
        }
        ("discovery.k8s.io/v1beta1" | "discovery.k8s.io/v1alpha1", "EndpointSlice") => {
            Recognized::Removed { kind: Kind::EndpointSlice, replacement: "write discovery.k8s.io/v1" }
        }
        _ => match Known::named(version, kind) {
            Some(known) => Recognized::Known(known),
            None => match kind.strip_suffix("List").and_then(|item| Known::named(version, item)) {
                Some(known) => Recognized::List(Some(known)),
                None => Recognized::Foreign(foreign(version, kind)),
            },
        },
    }
}

fn foreign(version: &str, kind: &str) -> String {
    match version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}"),
        None => kind.to_owned(),
    }
}

/// Metadata of an object whose other fields are not read.
pub(super) fn meta_of(at: &At<'_>, kind: Kind) -> Option<Meta> {
    let scope = if kind == Kind::IngressClass { Scope::Cluster } else { Scope::Namespaced };
    meta::read(&at.mapping(&[])?, scope)
}

impl Known {
    fn named(version: &str, kind: &str) -> Option<Self> {
        match (version, kind) {
            ("v1", "ConfigMap") => Some(Self::ConfigMap),
            ("v1", "Endpoints") => Some(Self::Endpoints),
            ("v1", "Namespace") => Some(Self::Namespace),
            ("v1", "Secret") => Some(Self::Secret),
            ("v1", "Service") => Some(Self::Service),
            ("discovery.k8s.io/v1", "EndpointSlice") => Some(Self::EndpointSlice),
            ("networking.k8s.io/v1", "Ingress") => Some(Self::Ingress),
            ("networking.k8s.io/v1", "IngressClass") => Some(Self::IngressClass),
            _ => None,
        }
    }

    /// The kind of the objects that come of it.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::ConfigMap => Kind::ConfigMap,
            Self::EndpointSlice | Self::Endpoints => Kind::EndpointSlice,
            Self::Ingress => Kind::Ingress,
            Self::IngressClass => Kind::IngressClass,
            Self::Namespace => Kind::Namespace,
            Self::Secret => Kind::Secret,
            Self::Service => Kind::Service,
        }
    }

    /// Whether later stages speak of single fields. Slices are many, large, and never spoken of by field.
    pub(super) const fn keeps_field_lines(self) -> bool {
        !matches!(self, Self::EndpointSlice | Self::Endpoints | Self::Namespace)
    }

    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::ConfigMap => &["apiVersion", "kind", "metadata", "data", "binaryData", "immutable"],
            Self::EndpointSlice => &["apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"],
            Self::Endpoints => &["apiVersion", "kind", "metadata", "subsets"],
            Self::Ingress | Self::Namespace | Self::Service => {
                &["apiVersion", "kind", "metadata", "spec", "status"]
            }
            Self::IngressClass => &["apiVersion", "kind", "metadata", "spec"],
            Self::Secret => &["apiVersion", "kind", "metadata", "data", "stringData", "type", "immutable"],
        }
    }

    /// Reads an object; `None` when it has no usable name. Findings go where `at` says.
    pub(super) fn read(self, at: At<'_>) -> Option<(ObjectKey, Vec<Object>)> {
        let root = at.mapping(self.fields())?;
        let scope = match self {
            Self::IngressClass | Self::Namespace => Scope::Cluster,
            _ => Scope::Namespaced,
        };
        let meta = meta::read(&root, scope)?;
        let key = meta.key.clone();
        let objects = match self {
            Self::ConfigMap => vec![Object::ConfigMap(Arc::new(config_map::read(&root, meta)))],
            Self::EndpointSlice => vec![Object::EndpointSlice(Arc::new(service::read_slice(&root, meta)))],
            Self::Endpoints => {
                let slices = service::read_endpoints(&root, &meta);
                slices.into_iter().map(|slice| Object::EndpointSlice(Arc::new(slice))).collect()
            }
            Self::Ingress => vec![Object::Ingress(Arc::new(ingress::read(&root, meta)))],
            Self::IngressClass => vec![Object::IngressClass(Arc::new(ingress::read_class(&root, meta)))],
            Self::Namespace => vec![Object::Namespace(Arc::new(Namespace { meta }))],
            Self::Secret => vec![Object::Secret(Arc::new(secret::read(&root, meta)))],
            Self::Service => vec![Object::Service(Arc::new(service::read(&root, meta)))],
        };
        Some((key, objects))
    }
}
