//! Every object that is known, by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ConfigMap, EndpointSlice, Ingress, IngressClass, Namespace, ObjectKey, Secret, Service};

/// All objects by key. Values are shared: taking a copy of the world is cheap, and an unchanged object keeps its
/// address, which is what incremental compilation looks at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    /// Ingress objects of every class.
    pub ingresses: BTreeMap<ObjectKey, Arc<Ingress>>,
    /// IngressClass objects (key namespace empty).
    pub classes: BTreeMap<ObjectKey, Arc<IngressClass>>,
    /// This process may not read IngressClasses: what `spec.ingressClassName` means is not known, and it says nothing.
    pub classes_hidden: bool,
    /// Services.
    pub services: BTreeMap<ObjectKey, Arc<Service>>,
    /// EndpointSlices.
    pub slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    /// Secrets.
    pub secrets: BTreeMap<ObjectKey, Arc<Secret>>,
    /// ConfigMaps.
    pub config_maps: BTreeMap<ObjectKey, Arc<ConfigMap>>,
    /// Namespaces (key namespace empty).
    pub namespaces: BTreeMap<ObjectKey, Arc<Namespace>>,
    /// Zone of the node that this process runs on, where endpoints are chosen by it; empty else.
    pub zone: Arc<str>,
}
