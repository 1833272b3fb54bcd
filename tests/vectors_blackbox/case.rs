//! A case as Kubernetes objects: its Ingresses, and the Services, EndpointSlices, Secrets and ConfigMap that they
//! need.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Map, Value, json};

use crate::echo;

/// A port as an Ingress names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Port {
    Number(u64),
    Name(String),
}

/// The objects, and the flags to start with.
pub(crate) struct Objects {
    pub(crate) documents: Vec<Value>,
    pub(crate) flags: Vec<String>,
}

/// Makes the objects and starts the backends that they point to.
pub(crate) async fn objects(case: &Value) -> Objects {
    let mut documents = classes(case);
    let mut services: BTreeMap<String, BTreeSet<Port>> = BTreeMap::new();
    for ingress in case["ingresses"].as_array().into_iter().flatten() {
        for (service, port) in references(ingress) {
            services.entry(service).or_default().insert(port);
        }
        documents.push(ingress.clone());
    }
    let mut flags = Vec::new();
    for (name, value) in case["flags"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if name == "default-backend-service" {
            services.entry(value.clone()).or_default().insert(Port::Number(80));
        }
        flags.push(format!("--{name}={value}"));
    }
    if !flags.iter().any(|flag| flag.starts_with("--watch-ingress-without-class")) {
        flags.push("--watch-ingress-without-class=false".into());
    }
    for name in case["services"].as_object().into_iter().flatten().map(|(name, _)| name) {
        services.entry(name.clone()).or_insert_with(|| BTreeSet::from([Port::Number(80)]));
    }
    for (key, ports) in &services {
        documents.extend(service(key, ports, &case["services"][key]).await);
    }
    for (key, certificate) in case["secrets"].as_object().into_iter().flatten() {
        documents.push(secret(key, certificate));
    }
    if let Some(data) = case["configmap"].as_object().filter(|data| !data.is_empty()) {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let data: Map<String, Value> =
            data.iter().map(|(key, value)| (key.clone(), text(value).into())).collect();
        let metadata = json!({"name": "cfg", "namespace": "sys"});
        documents.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}));
        flags.push("--configmap=sys/cfg".into());
    }
    Objects { documents, flags }
}

fn classes(case: &Value) -> Vec<Value> {
    let usual = json!({"nginx": "k8s.io/ingress-nginx"});
    let declared = case["ingressClasses"].as_object().or(usual.as_object()).expect("a map of classes");
    let class = |(name, controller): (&String, &Value)| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
               "metadata": {"name": name}, "spec": {"controller": controller}})
    };
    declared.iter().map(class).collect()
}

/// `namespace/name` and port of each Service that an Ingress names.
fn references(ingress: &Value) -> Vec<(String, Port)> {
    let namespace = ingress["metadata"]["namespace"].as_str().unwrap_or("default");
    let spec = &ingress["spec"];
    let paths = spec["rules"].as_array().into_iter().flatten();
    let paths = paths.flat_map(|rule| rule["http"]["paths"].as_array().into_iter().flatten());
    let backends = paths.map(|path| &path["backend"]).chain([&spec["defaultBackend"]]);
    let mut found: Vec<(String, Port)> = backends
        .filter_map(|backend| {
            let service = backend.get("service")?;
            let number = service["port"]["number"].as_u64().map(Port::Number);
            let port =
                number.or_else(|| service["port"]["name"].as_str().map(|name| Port::Name(name.into())))?;
            Some((format!("{namespace}/{}", service["name"].as_str()?), port))
        })
        .collect();
    for (name, value) in ingress["metadata"]["annotations"].as_object().into_iter().flatten() {
        if name.ends_with("/default-backend") {
            found.push((format!("{namespace}/{}", value.as_str().unwrap_or_default()), Port::Number(80)));
        }
    }
    found
}

/// A Service with one slice for each port and endpoint; none at all where the case says that it does not exist.
async fn service(key: &str, ports: &BTreeSet<Port>, declared: &Value) -> Vec<Value> {
    if declared["exists"] == false {
        return Vec::new();
    }
    let (namespace, name) = key.split_once('/').expect("namespace/name");
    let usual = json!(["ready:127.0.0.1"]);
    let endpoints = declared["endpoints"].as_array().or(usual.as_array()).expect("a list of endpoints");
    let mut service_ports = Vec::new();
    let mut documents = Vec::new();
    let mut free = (80..).filter(|number| !ports.contains(&Port::Number(*number)));
    for port in ports {
        let (port_name, number, reference) = match port {
            Port::Number(number) if ports.len() == 1 => (None, *number, number.to_string()),
            Port::Number(number) => (Some(format!("p{number}")), *number, number.to_string()),
            Port::Name(name) => (Some(name.clone()), free.next().expect("a free number"), name.clone()),
        };
        let mut service_port = json!({"port": number, "protocol": "TCP", "targetPort": 8080});
        if let Some(name) = &port_name {
            service_port["name"] = name.as_str().into();
        }
        service_ports.push(service_port);
        for (index, endpoint) in endpoints.iter().enumerate() {
            let address =
                backend(endpoint.as_str().expect("text"), &format!("{namespace}-{name}-{reference}")).await;
            let mut slice_port = json!({"port": address.port(), "protocol": "TCP"});
            if let Some(name) = &port_name {
                slice_port["name"] = name.as_str().into();
            }
            documents.push(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": format!("{name}-{number}-{index}"), "namespace": namespace,
                             "labels": {"kubernetes.io/service-name": name}},
                "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
                "ports": [slice_port],
            }));
        }
    }
    documents.push(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": service_ports},
    }));
    documents
}

/// `refusing`, or `ready:` with the label that the echo answers to, which may be a loopback address to listen on.
async fn backend(endpoint: &str, identity: &str) -> SocketAddr {
    let Some(label) = endpoint.strip_prefix("ready:") else {
        return echo::refusing().await;
    };
    echo::start(label.parse().unwrap_or(Ipv4Addr::LOCALHOST), identity.to_owned(), label.to_owned()).await
}

fn secret(key: &str, declared: &Value) -> Value {
    let (namespace, name) = key.split_once('/').expect("namespace/name");
    let names = declared["dnsNames"].as_array().into_iter().flatten();
    let names: Vec<String> = names.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    let mut params = CertificateParams::new(names).expect("DNS names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, declared["commonName"].as_str().unwrap_or("none"));
    let pair = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&pair).expect("a certificate");
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"tls.crt": certificate.pem(), "tls.key": pair.serialize_pem()},
    })
}
