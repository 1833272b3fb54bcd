use std::net::SocketAddr;

use super::*;
use crate::model::{Endpoint, Meta, SlicePort};
use crate::route::BackendKey;

fn service(ports: &[(&str, u16, TargetPort)]) -> Service {
    let ports = ports.iter().map(|(name, port, target)| ServicePort {
        name: (*name).to_owned(),
        port: *port,
        target: target.clone(),
        protocol: Protocol::Tcp,
        app_protocol: String::new(),
    });
    Service {
        meta: Meta::named(ObjectKey::new("ns", "s")),
        service_type: ServiceType::ClusterIp,
        cluster_ip: "10.96.0.9".parse().ok(),
        headless: false,
        external_name: String::new(),
        ports: ports.collect(),
        traffic_distribution: String::new(),
    }
}

fn endpoint(
    address: &str,
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
) -> Endpoint {
    Endpoint {
        addresses: vec![address.parse().unwrap()],
        ready,
        serving,
        terminating,
        zone: String::new(),
        hinted_zones: Vec::new(),
        target: None,
    }
}

fn slice(ports: &[(&str, u16)], endpoints: Vec<Endpoint>) -> Arc<EndpointSlice> {
    let ports = ports.iter().map(|(name, port)| SlicePort {
        name: (*name).to_owned(),
        port: Some(*port),
        protocol: Protocol::Tcp,
    });
    let meta = Meta::named(ObjectKey::new("ns", "s-1"));
    Arc::new(EndpointSlice { meta, service: "s".into(), ports: ports.collect(), endpoints })
}

fn found(
    port: &str,
    upstream: bool,
    service: Option<&Service>,
    slices: &[Arc<EndpointSlice>],
) -> (String, &'static str) {
    let key = BackendKey { namespace: "ns".into(), service: "s".into(), port: port.into() };
    let id = BackendId { key, role: BackendRole::Route };
    let own: SocketAddr = "10.0.0.99:80".parse().unwrap();
    let reach = Reach { own: vec![own], ..Reach::default() };
    let wish =
        Wish { id: &id, service_upstream: upstream, external_names: true, reach: &reach, zone: "here" };
    let (set, problem) = resolve(wish, service, &slices.iter().collect::<Vec<_>>());
    assert_eq!(set.ready.is_empty(), !set.empty_because.is_empty(), "an empty set says why");
    let text: Vec<String> = set.ready.iter().map(ToString::to_string).collect();
    (text.join(" "), problem.map_or("", |problem| problem.code))
}

fn check(port: &str, service: &Service, slices: &[Arc<EndpointSlice>], expected: &str, code: &str) {
    assert_eq!(found(port, false, Some(service), slices), (expected.to_owned(), code), "port {port:?}");
}

fn ready(address: &str) -> Vec<Endpoint> {
    vec![endpoint(address, Some(true), None, None)]
}

#[test]
fn a_port_is_found_by_number_target_port_or_name() {
    let service =
        service(&[("http", 80, TargetPort::Number(8080)), ("admin", 81, TargetPort::Name("adm".into()))]);
    let slices = [slice(&[("http", 8080), ("admin", 9090)], ready("10.0.0.1"))];
    check("80", &service, &slices, "10.0.0.1:8080", "");
    check("8080", &service, &slices, "10.0.0.1:8080", "");
    check("http", &service, &slices, "10.0.0.1:8080", "");
    check("adm", &service, &slices, "10.0.0.1:9090", "");
    check("admin", &service, &slices, "10.0.0.1:9090", "");
    check("", &service, &slices, "10.0.0.1:8080", "");
    check("82", &service, &slices, "", "PortNotFound");
}

#[test]
fn a_port_without_name_takes_every_port_of_the_slice() {
    let service = service(&[("", 80, TargetPort::Number(8080))]);
    let slices = [slice(&[("", 8080), ("other", 8081)], ready("10.0.0.1"))];
    check("80", &service, &slices, "10.0.0.1:8080 10.0.0.1:8081", "");
}

#[test]
fn a_numeric_target_port_serves_where_the_slice_does_not_name_the_port() {
    let service = service(&[("http", 80, TargetPort::Number(8080))]);
    check("80", &service, &[slice(&[("web", 1)], ready("10.0.0.1"))], "10.0.0.1:8080", "");
    check("80", &service, &[slice(&[], ready("10.0.0.1"))], "10.0.0.1:8080", "");
    let mut other = slice(&[("http", 8080)], ready("10.0.0.1"));
    Arc::make_mut(&mut other).ports[0].protocol = Protocol::Udp;
    check("80", &service, &[other], "", "NoEndpoints");
}

#[test]
fn endpoints_are_sorted_and_unique_over_slices() {
    let service = service(&[("", 80, TargetPort::Same)]);
    let one = slice(&[("", 80)], [ready("10.0.0.2"), ready("10.0.0.1")].concat());
    check("80", &service, &[Arc::clone(&one), one], "10.0.0.1:80 10.0.0.2:80", "");
}

#[test]
fn absent_readiness_counts_as_ready_and_ending_endpoints_serve_only_alone() {
    let service = service(&[("", 80, TargetPort::Same)]);
    let ending = endpoint("10.0.0.2", Some(false), Some(true), Some(true));
    let gone = endpoint("10.0.0.3", Some(false), Some(false), Some(true));
    let starting = endpoint("10.0.0.4", Some(false), Some(true), None);
    let all = vec![endpoint("10.0.0.1", None, None, None), ending.clone(), gone.clone(), starting.clone()];
    check("80", &service, &[slice(&[("", 80)], all)], "10.0.0.1:80", "");
    check("80", &service, &[slice(&[("", 80)], vec![ending, gone, starting])], "10.0.0.2:80", "");
    check("80", &service, &[], "", "NoEndpoints");
}

#[test]
fn refused_addresses_are_left_out_and_told() {
    let service = service(&[("", 80, TargetPort::Same)]);
    let mixed = [ready("169.254.169.254"), ready("10.0.0.1")].concat();
    check("80", &service, &[slice(&[("", 80)], mixed)], "10.0.0.1:80", "EndpointRefused");
    check("80", &service, &[slice(&[("", 80)], ready("127.0.0.1"))], "", "EndpointRefused");
    check("80", &service, &[slice(&[("", 80)], ready("10.0.0.99"))], "", "EndpointRefused");
}

#[test]
fn service_upstream_takes_the_cluster_address_and_headless_services_have_none() {
    let mut service = service(&[("", 80, TargetPort::Number(8080))]);
    let slices = [slice(&[("", 8080)], ready("10.0.0.1"))];
    assert_eq!(found("80", true, Some(&service), &slices), ("10.96.0.9:80".into(), ""));
    service.cluster_ip = None;
    service.headless = true;
    assert_eq!(
        found("80", true, Some(&service), &slices),
        ("10.0.0.1:8080".into(), "ServiceUpstreamIgnored")
    );
}

#[test]
fn a_missing_service_has_no_endpoints() {
    assert_eq!(found("80", false, None, &[]), (String::new(), "ServiceNotFound"));
}

#[test]
fn an_external_name_is_a_name_with_a_port_and_never_this_machine() {
    let external = |name: &str, ports: &[(&str, u16, TargetPort)]| Service {
        service_type: ServiceType::ExternalName,
        external_name: name.to_owned(),
        ..service(ports)
    };
    check("80", &external("Ext.Example.", &[]), &[], "ext.example:80", "");
    check("80", &external("ext.example", &[("", 80, TargetPort::Number(8443))]), &[], "ext.example:8443", "");
    check("http", &external("ext.example", &[]), &[], "", "ExternalNameRefused");
    for name in [
        "localhost",
        "a.localhost",
        "127.0.0.1",
        "10.0.0.1",
        "::1",
        "metadata.google.internal",
        "a b",
        "",
        "-a.b",
    ] {
        check("80", &external(name, &[]), &[], "", "ExternalNameRefused");
    }
}

#[test]
fn endpoints_of_the_own_zone_are_preferred_where_the_service_asks_and_all_have_hints() {
    let hinted = |address: &str, zones: &[&str]| Endpoint {
        hinted_zones: zones.iter().map(|zone| (*zone).to_owned()).collect(),
        ..endpoint(address, Some(true), None, None)
    };
    let plain = service(&[("", 80, TargetPort::Same)]);
    let mut auto = plain.clone();
    auto.meta.annotations.insert("service.kubernetes.io/topology-mode".into(), "Auto".into());
    let close = |distribution: &str| Service { traffic_distribution: distribution.into(), ..plain.clone() };
    let near = hinted("10.0.0.1", &["there", "here"]);
    let far = hinted("10.0.0.2", &["there"]);
    let both = [slice(&[("", 80)], vec![near.clone(), far.clone()])];
    for service in [auto.clone(), close("PreferClose"), close("PreferSameZone")] {
        check("80", &service, &both, "10.0.0.1:80", "");
    }
    for service in [plain.clone(), close("PreferSameNode"), close("Other")] {
        check("80", &service, &both, "10.0.0.1:80 10.0.0.2:80", "");
    }
    // One without a hint, and hints mean nothing.
    let some = [slice(&[("", 80)], vec![near.clone(), far.clone(), hinted("10.0.0.3", &[])])];
    check("80", &auto, &some, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80", "");
    // Never none: neither when all hints are for others, nor when the near one is not ready.
    check("80", &auto, &[slice(&[("", 80)], vec![far.clone()])], "10.0.0.2:80", "");
    let sick = Endpoint { ready: Some(false), ..near };
    check("80", &auto, &[slice(&[("", 80)], vec![sick, far])], "10.0.0.2:80", "");
    // Each slice by itself, as ingress-nginx reads them.
    let second = slice(&[("", 80)], vec![hinted("10.0.0.3", &[])]);
    check("80", &auto, &[Arc::clone(&both[0]), second], "10.0.0.1:80 10.0.0.3:80", "");
}
