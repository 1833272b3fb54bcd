//! Worlds for tests of the pure core: Kubernetes YAML or JSON to model objects, without the `manifest` module, so
//! that these tests need no feature. Only what the tests write is read.

#![allow(dead_code, reason = "every test takes what it needs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use narthex::compile::{Inputs, Options};
use narthex::model::{
    Backend, CertCatalog, CertInfo, ConfigMap, Endpoint, EndpointSlice, Ingress, IngressClass, Meta,
    ObjectKey, PathRule, PathType, PortRef, Protocol, Rule, Service, ServicePort, ServiceRef, ServiceType,
    SlicePort, TargetPort, Timestamp, TlsBlock, World,
};
use serde_json::Value;

/// A world with its certificates and flags.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) certificates: CertCatalog,
    pub(crate) options: Options,
}

impl Scene {
    pub(crate) fn inputs(&self) -> Inputs<'_> {
        Inputs { world: &self.world, certificates: &self.certificates, options: &self.options }
    }

    /// Adds every object of a YAML stream.
    pub(crate) fn add_yaml(&mut self, yaml: &str) {
        for document in yaml.split("\n---\n").filter(|text| !text.trim().is_empty()) {
            let value: Value = serde_saphyr::from_str(document).expect("test manifests are YAML");
            self.add(&value);
        }
    }

    pub(crate) fn add(&mut self, object: &Value) {
        let meta = meta(&object["metadata"]);
        let key = meta.key.clone();
        match text(&object["kind"]).as_str() {
            "Ingress" => {
                self.world.ingresses.insert(key, Arc::new(ingress(meta, &object["spec"])));
            }
            "IngressClass" => {
                let key = ObjectKey::new("", &*key.name);
                let class = class(Meta { key: key.clone(), ..meta }, &object["spec"]);
                self.world.classes.insert(key, Arc::new(class));
            }
            "Service" => {
                self.world.services.insert(key, Arc::new(service(meta, &object["spec"])));
            }
            "EndpointSlice" => {
                self.world.slices.insert(key, Arc::new(slice(meta, object)));
            }
            "ConfigMap" => {
                let data = strings(&object["data"]);
                self.world.config_maps.insert(key, Arc::new(ConfigMap { meta, data }));
            }
            // Not a Kubernetes Secret: what is known of its certificate.
            "Certificate" => {
                let info = certificate(&text(&object["commonName"]), &list(&object["dnsNames"]));
                self.certificates.insert(key, Ok(Arc::new(info)));
            }
            other => panic!("unknown kind {other:?}"),
        }
    }

    /// A Service with ready endpoints on port 8080, one Service port for each of `ports`.
    pub(crate) fn add_service(&mut self, key: &ObjectKey, ports: &[PortRef], endpoints: usize) {
        let number = |index: usize| u16::try_from(index).unwrap();
        let single = ports.len() == 1;
        let mut service_ports = Vec::new();
        let mut slice_ports = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            let (name, port) = match port {
                PortRef::Number(port) if single => (String::new(), *port),
                PortRef::Number(port) => (format!("p{port}"), *port),
                PortRef::Name(name) => (name.clone(), 9000 + number(index)),
                PortRef::Unset => (String::new(), 80),
            };
            let target = TargetPort::Number(8080 + number(index));
            service_ports.push(ServicePort {
                name: name.clone(),
                port,
                target,
                protocol: Protocol::Tcp,
                app_protocol: String::new(),
            });
            slice_ports.push(SlicePort { name, port: Some(8080 + number(index)), protocol: Protocol::Tcp });
        }
        let service = Service {
            meta: Meta::named(key.clone()),
            service_type: ServiceType::ClusterIp,
            cluster_ip: Some([10, 96, 0, 1].into()),
            headless: false,
            external_name: String::new(),
            ports: service_ports,
            traffic_distribution: String::new(),
        };
        // A stable address per Service, so that dumps can be compared.
        let tail = key
            .to_string()
            .bytes()
            .fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let [_, _, high, low] = tail.to_be_bytes();
        let endpoints = (0..endpoints).map(|index| Endpoint {
            addresses: vec![[10, high, low, u8::try_from(index + 1).unwrap()].into()],
            ready: Some(true),
            serving: None,
            terminating: None,
            zone: String::new(),
            hinted_zones: Vec::new(),
            target: None,
        });
        let slice = EndpointSlice {
            meta: Meta::named(key.clone()),
            service: key.name.to_string(),
            ports: slice_ports,
            endpoints: endpoints.collect(),
        };
        self.world.services.insert(key.clone(), Arc::new(service));
        self.world.slices.insert(key.clone(), Arc::new(slice));
    }

    /// A Service with one endpoint for every backend that an Ingress names and that is not there yet.
    pub(crate) fn add_missing_services(&mut self) {
        let mut wanted: BTreeMap<ObjectKey, Vec<PortRef>> = BTreeMap::new();
        for ingress in self.world.ingresses.values() {
            let namespace = &ingress.meta.key.namespace;
            let paths =
                ingress.rules.iter().flat_map(|rule| rule.paths.iter().flatten()).map(|path| &path.backend);
            for backend in paths.chain(&ingress.default_backend) {
                let Backend::Service(service) = backend else { continue };
                let ports =
                    wanted.entry(ObjectKey::new(namespace.clone(), service.name.as_str())).or_default();
                if !ports.contains(&service.port) {
                    ports.push(service.port.clone());
                }
            }
            let fallback =
                ingress.meta.annotations.iter().find(|(name, _)| name.ends_with("/default-backend"));
            if let Some((_, service)) = fallback {
                wanted.entry(ObjectKey::new(namespace.clone(), service.as_str())).or_default();
            }
        }
        for (key, mut ports) in wanted {
            if ports.is_empty() {
                ports.push(PortRef::Number(80));
            }
            if !self.world.services.contains_key(&key) {
                self.add_service(&key, &ports, 1);
            }
        }
    }
}

pub(crate) fn certificate(common_name: &str, names: &[String]) -> CertInfo {
    CertInfo {
        id: [0; 32],
        names: if names.is_empty() { vec![common_name.to_owned()] } else { names.to_vec() },
        not_after: i64::MAX,
        not_before: 0,
        subject_common_name: common_name.to_owned(),
        issuer_common_name: String::new(),
        issuer_organization: String::new(),
        serial_number: String::new(),
        public_key_algorithm: "ECDSA",
    }
}

pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

pub(crate) fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

pub(crate) fn strings(value: &Value) -> BTreeMap<String, String> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}

fn meta(value: &Value) -> Meta {
    let namespace = match text(&value["namespace"]) {
        namespace if namespace.is_empty() => "default".to_owned(),
        namespace => namespace,
    };
    let mut meta = Meta::named(ObjectKey::new(namespace, text(&value["name"])));
    meta.annotations = strings(&value["annotations"]);
    meta.labels = strings(&value["labels"]);
    meta.created = value["creationTimestamp"].as_str().map(timestamp);
    meta
}

/// Orders timestamps of one form (`2024-01-01T00:00:05Z`); not seconds since 1970, which no test needs.
fn timestamp(text: &str) -> Timestamp {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    Timestamp(digits.parse().expect("a timestamp"))
}

fn ingress(meta: Meta, spec: &Value) -> Ingress {
    let rules = spec["rules"].as_array().into_iter().flatten();
    let tls = spec["tls"].as_array().into_iter().flatten();
    Ingress {
        meta,
        class_name: spec["ingressClassName"].as_str().map(str::to_owned),
        default_backend: spec.get("defaultBackend").filter(|value| !value.is_null()).map(backend),
        rules: rules.map(rule).collect(),
        tls: tls
            .map(|block| TlsBlock { hosts: list(&block["hosts"]), secret_name: text(&block["secretName"]) })
            .collect(),
    }
}

fn rule(value: &Value) -> Rule {
    let paths = value["http"]["paths"].as_array();
    Rule { host: text(&value["host"]), paths: paths.map(|paths| paths.iter().map(path).collect()) }
}

fn path(value: &Value) -> PathRule {
    let path_type = match value["pathType"].as_str() {
        Some("Exact") => Some(PathType::Exact),
        Some("Prefix") => Some(PathType::Prefix),
        Some("ImplementationSpecific") => Some(PathType::ImplementationSpecific),
        _ => None,
    };
    PathRule { path: text(&value["path"]), path_type, backend: backend(&value["backend"]) }
}

fn backend(value: &Value) -> Backend {
    if let Some(resource) = value.get("resource") {
        return Backend::Resource { kind: text(&resource["kind"]), name: text(&resource["name"]) };
    }
    let port = &value["service"]["port"];
    let number = port["number"].as_u64().and_then(|number| u16::try_from(number).ok());
    let port = match (number, port["name"].as_str()) {
        (Some(number), _) => PortRef::Number(number),
        (None, Some(name)) => PortRef::Name(name.to_owned()),
        (None, None) => PortRef::Unset,
    };
    Backend::Service(ServiceRef { name: text(&value["service"]["name"]), port })
}

fn class(meta: Meta, spec: &Value) -> IngressClass {
    let parameters = spec.get("parameters").map(|value| (text(&value["kind"]), text(&value["name"])));
    IngressClass { meta, controller: text(&spec["controller"]), parameters }
}

fn service(meta: Meta, spec: &Value) -> Service {
    let ports = spec["ports"].as_array().into_iter().flatten().map(|port| ServicePort {
        name: text(&port["name"]),
        port: u16::try_from(port["port"].as_u64().unwrap()).unwrap(),
        target: match &port["targetPort"] {
            Value::Number(number) => TargetPort::Number(u16::try_from(number.as_u64().unwrap()).unwrap()),
            Value::String(name) => TargetPort::Name(name.clone()),
            _ => TargetPort::Same,
        },
        protocol: Protocol::Tcp,
        app_protocol: String::new(),
    });
    let external_name = text(&spec["externalName"]);
    Service {
        meta,
        service_type: if external_name.is_empty() {
            ServiceType::ClusterIp
        } else {
            ServiceType::ExternalName
        },
        cluster_ip: text(&spec["clusterIP"]).parse().ok(),
        headless: text(&spec["clusterIP"]) == "None",
        external_name,
        ports: ports.collect(),
        traffic_distribution: String::new(),
    }
}

fn slice(meta: Meta, object: &Value) -> EndpointSlice {
    let ports = object["ports"].as_array().into_iter().flatten().map(|port| SlicePort {
        name: text(&port["name"]),
        port: port["port"].as_u64().map(|port| u16::try_from(port).unwrap()),
        protocol: Protocol::Tcp,
    });
    let endpoints = object["endpoints"].as_array().into_iter().flatten().map(|endpoint| Endpoint {
        addresses: list(&endpoint["addresses"]).iter().map(|address| address.parse().unwrap()).collect(),
        ready: endpoint["conditions"]["ready"].as_bool(),
        serving: endpoint["conditions"]["serving"].as_bool(),
        terminating: endpoint["conditions"]["terminating"].as_bool(),
        zone: String::new(),
        hinted_zones: Vec::new(),
        target: None,
    });
    let service = meta.labels.get("kubernetes.io/service-name").cloned().unwrap_or_default();
    EndpointSlice { service, ports: ports.collect(), endpoints: endpoints.collect(), meta }
}
