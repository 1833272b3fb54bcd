//! Services and EndpointSlices to endpoint sets: port resolution, readiness, address policy (`routing.md` 6.1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::object::{BackendId, BackendRole};
use crate::diagnostic::Severity;
use crate::model::{
    EndpointSlice, ObjectKey, Protocol, Service, ServicePort, ServiceType, SharedMap, TargetPort,
};
use crate::route::reach::Reach;
use crate::route::stream::Transport;
use crate::route::{EndpointAddress, EndpointSet};

mod zone;

/// What is wrong with a backend, said to everyone who names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) severity: Severity,
    pub(super) code: &'static str,
    pub(super) reason: String,
    pub(super) hint: &'static str,
}

/// How one backend's endpoints are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'w> {
    pub(super) id: &'w BackendId,
    /// `service-upstream`: the Service's own address instead of its endpoints.
    pub(super) service_upstream: bool,
    /// `--disable-svc-external-name`.
    pub(super) external_names: bool,
    pub(super) reach: &'w Reach,
    /// Zone of this process where endpoints are chosen by it; empty else.
    pub(super) zone: &'w str,
}

impl Wish<'_> {
    fn protocol(&self) -> Protocol {
        match self.id.role {
            BackendRole::Stream(Transport::Udp) => Protocol::Udp,
            _ => Protocol::Tcp,
        }
    }

    /// What a fault of the Service comes to.
    fn meaning(&self) -> &'static str {
        match self.id.role {
            BackendRole::Stream(_) => "the port is not opened",
            _ => "requests answer 503",
        }
    }
}

type Found = Result<(EndpointSet, Option<Problem>), (&'static str, Problem)>;

/// The endpoints of a backend, and what its users should know.
pub(super) fn resolve(
    wish: Wish<'_>,
    service: Option<&Service>,
    slices: &[&Arc<EndpointSlice>],
) -> (EndpointSet, Option<Problem>) {
    match look(wish, service, slices) {
        Ok(found) => found,
        Err((empty_because, problem)) => (EndpointSet { ready: Vec::new(), empty_because }, Some(problem)),
    }
}

fn look(wish: Wish<'_>, service: Option<&Service>, slices: &[&Arc<EndpointSlice>]) -> Found {
    let key = &wish.id.key;
    let (protocol, meaning) = (wish.protocol(), wish.meaning());
    let Some(service) = service else {
        let reason = format!("Service {}/{} does not exist; {meaning}", key.namespace, key.service);
        return Err((
            EndpointSet::NO_SERVICE,
            error("ServiceNotFound", reason, "create the Service or correct its name"),
        ));
    };
    let port = port_of(service, &key.port, protocol);
    if service.service_type == ServiceType::ExternalName {
        return external_name(wish, service, port);
    }
    let Some(port) = port else {
        let known: Vec<String> = service.ports.iter().map(port_text).collect();
        let reason = format!(
            "Service {} has no {} port {:?} (it has {}); {meaning}",
            service.meta.key,
            if protocol == Protocol::Udp { "UDP" } else { "TCP" },
            key.port,
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
        return Err((
            "the Service has no such port",
            error("PortNotFound", reason, "use a port number or name of the Service"),
        ));
    };
    let mut told = None;
    if wish.service_upstream {
        match service.cluster_ip {
            Some(ip) => return checked(wish, BTreeSet::from([SocketAddr::new(ip, port.port)]), None),
            None => {
                let reason =
                    format!("Service {} has no cluster address; its endpoints are used", service.meta.key);
                told = Some(Problem {
                    severity: Severity::Warning,
                    code: "ServiceUpstreamIgnored",
                    reason,
                    hint: "remove service-upstream",
                });
            }
        }
    }
    let zone = if zone::counts(service) { wish.zone } else { "" };
    checked(wish, addresses(port, slices, protocol, zone), told)
}

/// First port whose number, target port or name is the text (`routing.md` 6.1); the first one for no text.
fn port_of<'s>(service: &'s Service, wanted: &str, protocol: Protocol) -> Option<&'s ServicePort> {
    let mut ports = service.ports.iter().filter(|port| port.protocol == protocol);
    ports.find(|port| {
        let target = match &port.target {
            TargetPort::Name(name) => wanted == name,
            TargetPort::Number(number) => wanted == number.to_string(),
            TargetPort::Same => false,
        };
        wanted.is_empty() || target || wanted == port.port.to_string() || wanted == port.name
    })
}

fn port_text(port: &ServicePort) -> String {
    if port.name.is_empty() { port.port.to_string() } else { format!("{} {}", port.name, port.port) }
}

/// Addresses of the ready endpoints; where there is none, those that end but still serve (`F-15`).
fn addresses(
    port: &ServicePort,
    slices: &[&Arc<EndpointSlice>],
    protocol: Protocol,
    zone: &str,
) -> BTreeSet<SocketAddr> {
    // Of those that are ready, what is meant for the zone.
    let mut near = BTreeSet::new();
    let mut ready = BTreeSet::new();
    let mut ending = BTreeSet::new();
    for slice in slices {
        let ports = slice_ports(port, slice, protocol);
        let by_zone = zone::is_hinted(slice, zone);
        for endpoint in &slice.endpoints {
            let set = if endpoint.ready.unwrap_or(true) {
                if !by_zone || zone::is_near(endpoint, zone) { &mut near } else { &mut ready }
            } else if endpoint.terminating == Some(true) && endpoint.serving == Some(true) {
                &mut ending
            } else {
                continue;
            };
            for number in &ports {
                set.extend(endpoint.addresses.iter().map(|ip| SocketAddr::new(*ip, *number)));
            }
        }
    }
    // Never none for the sake of a zone.
    [near, ready, ending].into_iter().find(|set| !set.is_empty()).unwrap_or_default()
}

/// Ports of a slice: by name, every port of the protocol for a Service port without name, else a numeric target port;
/// none where the slice has ports of other protocols alone.
fn slice_ports(port: &ServicePort, slice: &EndpointSlice, protocol: Protocol) -> Vec<u16> {
    let same = slice.ports.iter().filter(|slice_port| slice_port.protocol == protocol);
    let named = same.filter(|slice_port| port.name.is_empty() || slice_port.name == port.name);
    let found: Vec<u16> = named.filter_map(|slice_port| slice_port.port).collect();
    let speaks =
        slice.ports.is_empty() || slice.ports.iter().any(|slice_port| slice_port.protocol == protocol);
    match port.target {
        TargetPort::Number(number) if found.is_empty() && speaks => vec![number],
        TargetPort::Same if found.is_empty() && speaks => vec![port.port],
        _ => found,
    }
}

/// Leaves out what may not be reached (`B-18`).
fn checked(wish: Wish<'_>, found: BTreeSet<SocketAddr>, told: Option<Problem>) -> Found {
    let none_found = found.is_empty();
    let mut refused = None;
    let mut ready = Vec::with_capacity(found.len());
    for address in found {
        match wish.reach.check(address) {
            Ok(()) => ready.push(EndpointAddress::Socket(address)),
            Err(reason) => refused = refused.or(Some((address, reason))),
        }
    }
    let key = &wish.id.key;
    if let Some((address, reason)) = refused {
        let text =
            format!("endpoint {address} of Service {}/{} is not used: {reason}", key.namespace, key.service);
        let problem = error("EndpointRefused", text, crate::route::reach::hint(reason));
        return if ready.is_empty() {
            Err(("its endpoints have addresses that may not be reached", problem))
        } else {
            Ok((EndpointSet { ready, empty_because: "" }, Some(problem)))
        };
    }
    if none_found {
        let meaning = match wish.id.role {
            BackendRole::Global => "requests answer 404",
            BackendRole::Stream(_) => "connections are closed at once",
            BackendRole::Route | BackendRole::Fallback => "requests answer 503",
        };
        let problem = Problem {
            severity: Severity::Info,
            code: "NoEndpoints",
            reason: format!("Service {}/{} has no ready endpoint; {meaning}", key.namespace, key.service),
            hint: "",
        };
        return Err(("the Service has no ready endpoint", told.unwrap_or(problem)));
    }
    Ok((EndpointSet { ready, empty_because: "" }, told))
}

/// `spec.externalName` (`B-19`): a name to resolve, never an address and never this machine.
fn external_name(wish: Wish<'_>, service: &Service, port: Option<&ServicePort>) -> Found {
    let refuse = |reason: &str| {
        let text = format!(
            "externalName {:?} of Service {} is not used: {reason}",
            service.external_name, service.meta.key
        );
        Err((
            "its external name is not used",
            error("ExternalNameRefused", text, "use a Service with endpoints"),
        ))
    };
    let name = service.external_name.trim_end_matches('.').to_ascii_lowercase();
    if !wish.external_names {
        return refuse("--disable-svc-external-name is set");
    }
    if name.parse::<IpAddr>().is_ok() {
        return refuse("it is an address and no name");
    }
    let is_local = name == "localhost" || name.ends_with(".localhost");
    if is_local
        || name == "metadata"
        || name.ends_with(".metadata.google.internal")
        || name == "metadata.google.internal"
    {
        return refuse("the name means this machine or a metadata service");
    }
    let labels_sound = name.split('.').all(|label| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    });
    if !labels_sound || name.len() > 253 {
        return refuse("it is no DNS name");
    }
    let number = match (port.map(|port| (&port.target, port.port)), wish.id.key.port.parse::<u16>()) {
        (Some((TargetPort::Number(number), _)), _) => *number,
        (Some((TargetPort::Same | TargetPort::Name(_), number)), _) => number,
        (None, Ok(number)) if number > 0 => number,
        (None, _) => return refuse("neither the Service nor the Ingress gives a port number"),
    };
    let ready = vec![EndpointAddress::Name(Arc::from(name), number)];
    Ok((EndpointSet { ready, empty_because: "" }, None))
}

fn error(code: &'static str, reason: String, hint: &'static str) -> Problem {
    Problem { severity: Severity::Error, code, reason, hint }
}

/// Services with their slices, followed from world to world.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) services: SharedMap<ObjectKey, Arc<Service>>,
    pub(super) slices: SharedMap<ObjectKey, Arc<EndpointSlice>>,
    by_service: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// As of the world.
    pub(super) zone: Arc<str>,
}

impl Services {
    /// The slices of a Service.
    pub(super) fn slices_of(&self, service: &ObjectKey) -> Vec<&Arc<EndpointSlice>> {
        let keys = self.by_service.get(service).into_iter().flatten();
        keys.filter_map(|key| self.slices.get(key)).collect()
    }

    /// Takes in a slice as it is now (`None` when it is gone) after `before`; adds the Services it touches.
    pub(super) fn follow_slice(
        &mut self,
        key: &ObjectKey,
        before: Option<&EndpointSlice>,
        touched: &mut BTreeSet<ObjectKey>,
    ) {
        let now = self.slices.get(key).map(|slice| service_of(slice));
        if let Some(old) = before.map(service_of) {
            if now.as_ref() != Some(&old)
                && let Some(slices) = self.by_service.get_mut(&old)
            {
                slices.remove(key);
            }
            touched.insert(old);
        }
        if let Some(new) = now {
            self.by_service.entry(new.clone()).or_default().insert(key.clone());
            touched.insert(new);
        }
    }
}

fn service_of(slice: &EndpointSlice) -> ObjectKey {
    ObjectKey::new(Arc::clone(&slice.meta.key.namespace), slice.service.as_str())
}

#[cfg(test)]
mod tests;
