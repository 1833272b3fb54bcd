//! Large worlds for benches: one Ingress, one Service and one EndpointSlice a host.

#![allow(dead_code, reason = "every bench takes what it needs")]

use std::sync::Arc;

use narthex::compile::{Inputs, Options};
use narthex::model::{
    Backend, CertCatalog, Endpoint, EndpointSlice, Ingress, Meta, ObjectKey, PathRule, PathType, PortRef,
    Protocol, Rule, Service, ServicePort, ServiceRef, ServiceType, SlicePort, TargetPort, Timestamp, World,
};

#[derive(Default)]
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) certificates: CertCatalog,
    pub(crate) options: Options,
}

impl Scene {
    pub(crate) fn inputs(&self) -> Inputs<'_> {
        Inputs { world: &self.world, certificates: &self.certificates, options: &self.options }
    }

    pub(crate) fn put(&mut self, ingress: Ingress) {
        self.world.ingresses.insert(ingress.meta.key.clone(), Arc::new(ingress));
    }
}

pub(crate) fn host(number: usize) -> String {
    format!("host-{number}.example.com")
}

/// `hosts` hosts with 5 paths each.
pub(crate) fn scene(hosts: usize) -> Scene {
    let mut scene =
        Scene { options: Options { without_class: true, ..Options::default() }, ..Scene::default() };
    for number in 0..hosts {
        scene.put(ingress(number, "api"));
        add_service(&mut scene, number, 1);
    }
    scene
}

pub(crate) fn ingress(number: usize, segment: &str) -> Ingress {
    let paths = (0..5).map(|version| (format!("/{segment}/v{version}"), PathType::Prefix));
    with_paths(&format!("app-{number}"), &host(number), paths)
}

/// One host in regex mode.
pub(crate) fn expressions(paths: usize) -> Scene {
    let mut scene = scene(1);
    let texts =
        (0..paths).map(|number| (format!("/api{number}/items/[0-9]+$"), PathType::ImplementationSpecific));
    let mut ingress = with_paths("app-0", "regex.test", texts);
    ingress.meta.annotations.insert("nginx.ingress.kubernetes.io/use-regex".into(), "true".into());
    scene.put(ingress);
    scene
}

fn with_paths(name: &str, host: &str, paths: impl Iterator<Item = (String, PathType)>) -> Ingress {
    let mut meta = Meta::named(ObjectKey::new("apps", name));
    meta.created = Some(Timestamp(1_700_000_000));
    let paths = paths.map(|(path, kind)| PathRule {
        path,
        path_type: Some(kind),
        backend: Backend::Service(ServiceRef { name: name.to_owned(), port: PortRef::Number(80) }),
    });
    let rules = vec![Rule { host: host.to_owned(), paths: Some(paths.collect()) }];
    Ingress { meta, class_name: None, default_backend: None, rules, tls: Vec::new() }
}

/// A Service with one endpoint; `tail` tells versions of it apart.
pub(crate) fn add_service(scene: &mut Scene, number: usize, tail: u8) {
    let key = ObjectKey::new("apps", format!("app-{number}"));
    let service = Service {
        meta: Meta::named(key.clone()),
        service_type: ServiceType::ClusterIp,
        cluster_ip: None,
        headless: true,
        external_name: String::new(),
        ports: vec![ServicePort {
            name: String::new(),
            port: 80,
            target: TargetPort::Number(8080),
            protocol: Protocol::Tcp,
            app_protocol: String::new(),
        }],
        traffic_distribution: String::new(),
    };
    let [.., high, low] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let endpoint = Endpoint {
        addresses: vec![[10, high, low, tail].into()],
        ready: Some(true),
        serving: None,
        terminating: None,
        zone: String::new(),
        hinted_zones: Vec::new(),
        target: None,
    };
    let slice = EndpointSlice {
        meta: Meta::named(key.clone()),
        service: key.name.to_string(),
        ports: vec![SlicePort { name: String::new(), port: Some(8080), protocol: Protocol::Tcp }],
        endpoints: vec![endpoint],
    };
    scene.world.services.insert(key.clone(), Arc::new(service));
    scene.world.slices.insert(key, Arc::new(slice));
}
