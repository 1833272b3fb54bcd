//! v1 Service, discovery.k8s.io/v1 EndpointSlice, and v1 Endpoints read into EndpointSlices.

use std::net::IpAddr;

use super::cursor::{At, Mapping};
use crate::diagnostic::Severity;
use crate::model::{
    Endpoint, EndpointSlice, Meta, ObjectKey, Protocol, Service, ServicePort, ServiceType, SlicePort,
    TargetPort,
};

/// Label that ties a slice to its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

const SERVICE_FIELDS: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "topologyKeys",
    "trafficDistribution",
    "type",
];

/// Reads the rest of a Service.
pub(super) fn read(root: &Mapping<'_>, meta: Meta) -> Service {
    let mut service = Service {
        meta,
        service_type: ServiceType::ClusterIp,
        cluster_ip: None,
        headless: false,
        external_name: String::new(),
        ports: Vec::new(),
        traffic_distribution: String::new(),
    };
    let Some(at) = root.required("spec") else { return service };
    let Some(spec) = at.mapping(SERVICE_FIELDS) else { return service };
    if let Some(at) = spec.field("type") {
        service.service_type = service_type(&at).unwrap_or(ServiceType::ClusterIp);
    }
    if let Some(at) = spec.field("clusterIP") {
        match at.text() {
            Some("None") => service.headless = true,
            Some("") | None => {}
            Some(_) => service.cluster_ip = address(&at),
        }
    }
    service.external_name = spec.text("externalName");
    if service.service_type == ServiceType::ExternalName && service.external_name.is_empty() {
        spec.required("externalName");
    }
    service.ports =
        spec.field("ports").map(|at| at.items().filter_map(|at| port(&at)).collect()).unwrap_or_default();
    service.traffic_distribution = spec.text("trafficDistribution");
    service
}

fn service_type(at: &At<'_>) -> Option<ServiceType> {
    match at.text()? {
        "ClusterIP" => Some(ServiceType::ClusterIp),
        "ExternalName" => Some(ServiceType::ExternalName),
        "LoadBalancer" => Some(ServiceType::LoadBalancer),
        "NodePort" => Some(ServiceType::NodePort),
        _ => {
            at.error("is no type of Service", "use ClusterIP, NodePort, LoadBalancer or ExternalName");
            None
        }
    }
}

fn port(at: &At<'_>) -> Option<ServicePort> {
    let fields = at.mapping(&["appProtocol", "name", "nodePort", "port", "protocol", "targetPort"])?;
    let port = fields.required("port").and_then(|at| at.port());
    let target = fields.field("targetPort").map_or(TargetPort::Same, |at| target_port(&at));
    Some(ServicePort {
        name: fields.text("name"),
        port: port?,
        target,
        protocol: protocol(&fields),
        app_protocol: fields.text("appProtocol"),
    })
}

fn target_port(at: &At<'_>) -> TargetPort {
    match at.number_or_text() {
        // The API server's default.
        None | Some(Ok(0) | Err("")) => TargetPort::Same,
        Some(Ok(_)) => at.port().map_or(TargetPort::Same, TargetPort::Number),
        Some(Err(name)) => {
            if name.bytes().all(|byte| byte.is_ascii_digit()) {
                at.error("a port name must contain a letter", "write a number without quotes");
            }
            TargetPort::Name(name.to_owned())
        }
    }
}

fn protocol(fields: &Mapping<'_>) -> Protocol {
    let Some(at) = fields.field("protocol") else { return Protocol::Tcp };
    match at.text() {
        Some("TCP" | "") | None => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => {
            at.error("is no protocol", "use TCP, UDP or SCTP");
            Protocol::Tcp
        }
    }
}

fn address(at: &At<'_>) -> Option<IpAddr> {
    let parsed = at.text()?.parse().ok();
    if parsed.is_none() {
        at.error("is no IP address", "");
    }
    parsed
}

/// Reads the rest of an EndpointSlice; its fields stand at the root.
pub(super) fn read_slice(root: &Mapping<'_>, meta: Meta) -> EndpointSlice {
    let service = meta.labels.get(SERVICE_LABEL).cloned().unwrap_or_default();
    let mut slice = EndpointSlice { meta, service, ports: Vec::new(), endpoints: Vec::new() };
    let names = match root.required("addressType").map(|at| (at, at.text())) {
        Some((_, Some("IPv4" | "IPv6"))) | None => false,
        Some((at, Some("FQDN"))) => {
            at.note(
                Severity::Warning,
                "UnsupportedAddressType",
                "endpoints that are names take no traffic",
                "use a Service of type ExternalName",
            );
            true
        }
        Some((at, Some(_))) => {
            at.error("is no address type", "use IPv4 or IPv6");
            false
        }
        Some((_, None)) => false,
    };
    if let Some(at) = root.field("ports") {
        slice.ports = at.items().filter_map(|at| slice_port(&at)).collect();
    }
    if let Some(at) = root.field("endpoints") {
        slice.endpoints = at.items().filter_map(|at| endpoint(&at, names)).collect();
    }
    slice
}

fn slice_port(at: &At<'_>) -> Option<SlicePort> {
    let fields = at.mapping(&["appProtocol", "name", "port", "protocol"])?;
    let port = fields.field("port").and_then(|at| at.port());
    Some(SlicePort { name: fields.text("name"), port, protocol: protocol(&fields) })
}

fn endpoint(at: &At<'_>, names: bool) -> Option<Endpoint> {
    let fields = at.mapping(&[
        "addresses",
        "conditions",
        "deprecatedTopology",
        "hints",
        "hostname",
        "nodeName",
        "targetRef",
        "zone",
    ])?;
    let addresses = match fields.required("addresses") {
        Some(at) if !names => at.items().filter_map(|at| address(&at)).collect(),
        _ => Vec::new(),
    };
    let mut endpoint = Endpoint {
        addresses,
        ready: None,
        serving: None,
        terminating: None,
        zone: fields.text("zone"),
        hinted_zones: Vec::new(),
        target: fields.field("targetRef").and_then(|at| target(&at)),
    };
    if let Some(at) = fields.field("conditions")
        && let Some(conditions) = at.mapping(&["ready", "serving", "terminating"])
    {
        endpoint.ready = conditions.boolean("ready");
        endpoint.serving = conditions.boolean("serving");
        endpoint.terminating = conditions.boolean("terminating");
    }
    if let Some(at) = fields.field("hints")
        && let Some(hints) = at.mapping(&["forNodes", "forZones"])
        && let Some(at) = hints.field("forZones")
    {
        endpoint.hinted_zones =
            at.items().filter_map(|at| at.mapping(&["name"]).map(|zone| zone.text("name"))).collect();
    }
    Some(endpoint)
}

fn target(at: &At<'_>) -> Option<(String, String, String)> {
    let fields =
        at.mapping(&["apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"])?;
    Some((fields.text("kind"), fields.text("namespace"), fields.text("name")))
}

/// Reads v1 Endpoints: one slice per subset. Their names hold a colon, so that no real slice can have them.
pub(super) fn read_endpoints(root: &Mapping<'_>, meta: &Meta) -> Vec<EndpointSlice> {
    let Some(at) = root.field("subsets") else { return Vec::new() };
    at.items().enumerate().filter_map(|(index, at)| subset(&at, meta, index)).collect()
}

fn subset(at: &At<'_>, meta: &Meta, index: usize) -> Option<EndpointSlice> {
    let fields = at.mapping(&["addresses", "notReadyAddresses", "ports"])?;
    let mut endpoints = Vec::new();
    for (name, ready) in [("addresses", true), ("notReadyAddresses", false)] {
        if let Some(at) = fields.field(name) {
            endpoints.extend(at.items().filter_map(|at| subset_address(&at, ready)));
        }
    }
    let ports = fields.field("ports").map(|at| at.items().filter_map(|at| slice_port(&at)).collect());
    let key = ObjectKey::new(meta.key.namespace.clone(), format!("{}:{index}", meta.key.name));
    let service = meta.key.name.to_string();
    Some(EndpointSlice {
        meta: Meta { key, ..meta.clone() },
        service,
        ports: ports.unwrap_or_default(),
        endpoints,
    })
}

fn subset_address(at: &At<'_>, ready: bool) -> Option<Endpoint> {
    let fields = at.mapping(&["hostname", "ip", "nodeName", "targetRef"])?;
    Some(Endpoint {
        addresses: vec![fields.required("ip").and_then(|at| address(&at))?],
        ready: Some(ready),
        serving: None,
        terminating: None,
        zone: String::new(),
        hinted_zones: Vec::new(),
        target: fields.field("targetRef").and_then(|at| target(&at)),
    })
}
