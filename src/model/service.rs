//! v1 Service and discovery.k8s.io/v1 EndpointSlice as declared.

use super::key::Meta;
use std::net::IpAddr;

/// One Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Name and annotations.
    pub meta: Meta,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// `spec.clusterIP` where it is an address; `None` for headless (`None`) and unset.
    pub cluster_ip: Option<IpAddr>,
    /// True for `clusterIP: None`.
    pub headless: bool,
    /// `spec.externalName`; empty when absent.
    pub external_name: String,
    /// `spec.ports` in order.
    pub ports: Vec<ServicePort>,
    /// `spec.trafficDistribution`; empty when absent.
    pub traffic_distribution: String,
}

/// `spec.type` of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    /// The default.
    ClusterIp,
    /// A DNS name instead of endpoints.
    ExternalName,
    /// Also reachable from outside by an address of its own.
    LoadBalancer,
    /// Also reachable on every node.
    NodePort,
}

/// One entry of `spec.ports` of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`; empty when the single port has none.
    pub name: String,
    /// `port`.
    pub port: u16,
    /// `targetPort`.
    pub target: TargetPort,
    /// `protocol`.
    pub protocol: Protocol,
    /// `appProtocol`; empty when absent.
    pub app_protocol: String,
}

/// `targetPort`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// A named container port.
    Name(String),
    /// A number.
    Number(u16),
    /// Absent: the same as `port`.
    Same,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// SCTP, which this product does not carry.
    Sctp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Name and labels.
    pub meta: Meta,
    /// Label `kubernetes.io/service-name`; empty when absent (such a slice serves nobody).
    pub service: String,
    /// `ports`.
    pub ports: Vec<SlicePort>,
    /// `endpoints`.
    pub endpoints: Vec<Endpoint>,
}

/// One entry of `ports` of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// `name`; empty when absent.
    pub name: String,
    /// `port`; `None` means "any port" in the API and serves nobody here.
    pub port: Option<u16>,
    /// `protocol`.
    pub protocol: Protocol,
}

/// One entry of `endpoints` of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses` that are IP addresses. FQDN slices have none here.
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`; nil counts as true.
    pub ready: Option<bool>,
    /// `conditions.serving`.
    pub serving: Option<bool>,
    /// `conditions.terminating`.
    pub terminating: Option<bool>,
    /// `zone`; empty when absent.
    pub zone: String,
    /// `hints.forZones[].name`.
    pub hinted_zones: Vec<String>,
    /// `targetRef` as `(kind, namespace, name)`.
    pub target: Option<(String, String, String)>,
}
