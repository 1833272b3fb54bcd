//! v1 ConfigMap, v1 Namespace, networking.k8s.io/v1 IngressClass.

use std::collections::BTreeMap;

use super::key::Meta;

/// One ConfigMap (`binaryData` is not read).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMap {
    /// Name.
    pub meta: Meta,
    /// `data`.
    pub data: BTreeMap<String, String>,
}

/// One Namespace; its labels are what `--watch-namespace-selector` selects by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Name and labels.
    pub meta: Meta,
}

/// One IngressClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressClass {
    /// Name and annotations.
    pub meta: Meta,
    /// `spec.controller`.
    pub controller: String,
    /// `spec.parameters` as `(kind, name)`. ingress-nginx reads nothing from it; kind `PathSemantics`, name
    /// `kubernetes` or `nginx`, chooses the meaning of paths for the class here.
    pub parameters: Option<(String, String)>,
}
