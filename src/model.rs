//! What users declared, parsed once into plain types: no Kubernetes JSON, no policy, no decision.
//!
//! `manifest` (later also the watch loop) makes these; `compile` reads them. Everything is ordered
//! (`BTreeMap`), so nothing downstream can depend on chance.

pub mod certificate;
pub mod config_map;
pub mod field_lines;
pub mod ingress;
pub mod key;
pub mod secret;
pub mod service;
pub mod shared_map;
pub mod world;

pub use certificate::{CertCatalog, CertInfo};
pub use config_map::{ConfigMap, IngressClass, Namespace};
pub use field_lines::FieldLines;
pub use ingress::{Backend, Ingress, PathRule, PathType, PortRef, Rule, ServiceRef, TlsBlock};
pub use key::{Kind, Meta, ObjectKey, ObjectRef, Origin, Timestamp};
pub use secret::{Secret, SecretBytes};
pub use service::{
    Endpoint, EndpointSlice, Protocol, Service, ServicePort, ServiceType, SlicePort, TargetPort,
};
pub use shared_map::SharedMap;
pub use world::World;
