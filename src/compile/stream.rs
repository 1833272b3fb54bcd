//! `--tcp-services-configmap` and `--udp-services-configmap`: `port: namespace/service:port[:PROXY[:PROXY]]`. Each
//! entry is judged alone; a bad one is left out with a finding (`security.md` G-1). And the ports of `stream-snippet`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::object::{BackendId, BackendRole};
use super::options::Options;
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{ConfigMap, Kind, ObjectKey, ObjectRef, Origin, World};
use crate::policy::BackendPolicies;
use crate::policy::snippet::StreamRule;
use crate::policy::snippet::stream::Target;
use crate::route::reach::{self, Reach};
use crate::route::stream::{ProxyHeaders, Snippet, StreamService, Transport};
use crate::route::{Backend, BackendKey, BackendSlot, EndpointAddress, EndpointSet};

/// Ports that a controller of ingress-nginx keeps for itself beside those of its flags.
const KEPT_UPSTREAM: [u16; 5] = [8181, 10245, 10246, 10247, 10254];

/// One entry that reads well. Whether its Service exists is known later.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) transport: Transport,
    pub(super) port: u16,
    pub(super) id: BackendId,
    pub(super) accept: ProxyHeaders,
    pub(super) send: ProxyHeaders,
    /// The ConfigMap, for findings.
    pub(super) object: ObjectKey,
    pub(super) origin: Arc<Origin>,
    /// The entry as written.
    pub(super) value: String,
}

/// Reads both ConfigMaps.
pub(super) fn read(world: &World, options: &Options) -> (Vec<Entry>, Vec<Diagnostic>) {
    let (mut entries, mut found) = (Vec::new(), Vec::new());
    let named = [(Transport::Tcp, &options.tcp_services), (Transport::Udp, &options.udp_services)];
    for (transport, key) in named {
        // A flag that names nothing that exists (yet) is no mistake: charts set it always.
        let Some(map) = key.as_ref().and_then(|key| world.config_maps.get(key)) else { continue };
        let mut taken = BTreeSet::new();
        for (port, value) in &map.data {
            match entry(transport, port, value, options, map) {
                Ok(entry) if !taken.insert(entry.port) => {
                    let reason = format!("port {} is there twice; the first entry counts", entry.port);
                    found.push(refused(map, port, value, reason));
                }
                Ok(entry) => entries.push(entry),
                Err(reason) => found.push(refused(map, port, value, reason)),
            }
        }
    }
    (entries, found)
}

/// Services by port.
pub(super) type Ports = Vec<((Transport, u16), Arc<StreamService>)>;

/// Whose `stream-snippet` it is.
pub(super) struct Owner<'o> {
    pub(super) object: ObjectRef,
    pub(super) field: String,
    pub(super) origin: &'o Arc<Origin>,
    pub(super) rules: &'o [StreamRule],
}

/// The ports that snippets open beside those of the services, owners in order: the first one has a port.
pub(super) fn snippets<'o>(
    owners: impl Iterator<Item = Owner<'o>>,
    taken: impl Iterator<Item = (Transport, u16)>,
    options: &Options,
) -> (Ports, Vec<Diagnostic>) {
    let mut taken: BTreeSet<_> = taken.collect();
    // Unlike a backend, a port of the operator's own text may lead to the ports of requests (never to the admin port).
    let requests = |own: &&SocketAddr| ![options.http_port, options.https_port].contains(&own.port());
    let own = options.own_addresses.iter().filter(requests).copied().collect();
    let reach = Reach { own, ..options.reach() };
    let (mut services, mut found) = (Vec::new(), Vec::new());
    for owner in owners {
        for rule in owner.rules {
            let (endpoints, refusal) = targets(rule, &reach);
            found.extend(refusal.map(|reason| owner.tell("EndpointRefused", reason)));
            for ((udp, port), address) in &rule.listens {
                let transport = if *udp { Transport::Udp } else { Transport::Tcp };
                if is_reserved(*port, options) {
                    let reason = format!("port {port} is one of the controller's own, so it is not opened");
                    found.push(owner.tell("PortTaken", reason));
                } else if !taken.insert((transport, *port)) {
                    let reason = format!("{transport} port {port} belongs to somebody else already");
                    found.push(owner.tell("PortTaken", reason));
                } else {
                    let service = owner.service(*port, *address, rule, Arc::clone(&endpoints));
                    services.push(((transport, *port), Arc::new(service)));
                }
            }
        }
    }
    (services, found)
}

impl Owner<'_> {
    fn service(
        &self,
        port: u16,
        address: Option<IpAddr>,
        rule: &StreamRule,
        endpoints: Arc<EndpointSet>,
    ) -> StreamService {
        let headers = |on| if on { ProxyHeaders::Required } else { ProxyHeaders::None };
        let ObjectKey { namespace, name } = &self.object.key;
        let key = BackendKey {
            namespace: Arc::clone(namespace),
            service: Arc::clone(name),
            port: port.to_string().into(),
        };
        // No slot of the table: the endpoints stand here.
        let slot = BackendSlot(u32::MAX);
        let text: Arc<str> = format!("stream-{namespace}-{name}-{port}").into();
        let backend = Backend { key, name: text, slot, policies: BackendPolicies::default(), canary: None };
        let snippet = Snippet {
            address,
            endpoints,
            timeout: rule.timeout,
            connect_timeout: rule.connect_timeout,
            responses: rule.responses,
            access: rule.access.clone(),
        };
        StreamService {
            backend: Arc::new(backend),
            snippet: Some(Arc::new(snippet)),
            accept: headers(rule.accept_proxy),
            send: headers(rule.send_proxy),
        }
    }

    fn tell(&self, code: &'static str, reason: String) -> Diagnostic {
        Diagnostic {
            object: self.object.clone(),
            code,
            severity: Severity::Error,
            field: self.field.clone(),
            value: String::new(),
            reason,
            hint: "correct the snippet".into(),
            origin: Arc::clone(self.origin),
        }
    }
}

/// The targets of a rule that may be reached (`B-18`); names are judged when they are resolved.
fn targets(rule: &StreamRule, within: &Reach) -> (Arc<EndpointSet>, Option<String>) {
    let mut refusal = None;
    let ready = rule.targets.iter().filter_map(|target| match target {
        Target::Name(name, port) => Some(EndpointAddress::Name(Arc::from(&**name), *port)),
        Target::Address(address)
            if address.ip().is_loopback() && rule.listens.keys().any(|(_, port)| *port == address.port()) =>
        {
            refusal = Some(format!("{address} is not used: the port would lead to itself"));
            None
        }
        Target::Address(address) => match within.check(*address) {
            Ok(()) => Some(EndpointAddress::Socket(*address)),
            Err(reason) => {
                refusal = Some(format!("{address} is not used: {reason}; {}", reach::hint(reason)));
                None
            }
        },
    });
    let ready = ready.collect();
    (Arc::new(EndpointSet { ready, empty_because: "its addresses may not be reached" }), refusal)
}

fn refused(map: &ConfigMap, port: &str, value: &str, reason: String) -> Diagnostic {
    Diagnostic {
        object: ObjectRef { kind: Kind::ConfigMap, key: map.meta.key.clone() },
        code: "InvalidStreamService",
        severity: Severity::Error,
        field: format!("data[{port}]"),
        value: Diagnostic::shorten(value),
        reason,
        hint: "write port: namespace/service:port, for TCP with :PROXY to read and once more :PROXY to send PROXY headers"
            .into(),
        origin: Arc::clone(&map.meta.origin),
    }
}

fn entry(
    transport: Transport,
    port: &str,
    value: &str,
    options: &Options,
    map: &ConfigMap,
) -> Result<Entry, String> {
    let number = port_number(port).ok_or("the key is no port number from 1 to 65535")?;
    if is_reserved(number, options) {
        return Err(format!("port {number} is one of the controller's own"));
    }
    let mut parts = value.trim().split(':');
    let service = parts.next().unwrap_or_default();
    let (namespace, name) =
        service.split_once('/').ok_or("the Service is not named as namespace/service:port")?;
    if !is_name(namespace) || !is_name(name) {
        return Err("the Service is not named as namespace/service:port".into());
    }
    let target = parts.next().unwrap_or_default();
    let sound =
        port_number(target).is_some() || (is_name(target) && !target.bytes().all(|b| b.is_ascii_digit()));
    if !sound {
        return Err("the port of the Service is neither a number from 1 to 65535 nor a name".into());
    }
    let accept = proxy_headers(parts.next())?;
    let send = proxy_headers(parts.next())?;
    if parts.next().is_some() {
        return Err("there are more than four parts".into());
    }
    if transport == Transport::Udp && (accept, send) != (ProxyHeaders::None, ProxyHeaders::None) {
        return Err("PROXY headers exist for TCP only".into());
    }
    let key = BackendKey { namespace: namespace.into(), service: name.into(), port: target.into() };
    Ok(Entry {
        transport,
        port: number,
        id: BackendId { key, role: BackendRole::Stream(transport) },
        accept,
        send,
        object: map.meta.key.clone(),
        origin: Arc::clone(&map.meta.origin),
        value: value.to_owned(),
    })
}

fn proxy_headers(part: Option<&str>) -> Result<ProxyHeaders, String> {
    match part {
        None | Some("") => Ok(ProxyHeaders::None),
        Some(word) if word.eq_ignore_ascii_case("proxy") => Ok(ProxyHeaders::Required),
        Some(word) => Err(format!("{word:?} is not PROXY")),
    }
}

fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if digits { text.parse().ok() } else { None }
}

/// The characters of names of Kubernetes; which of them stand where is the API server's to judge.
fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(good)
}

fn is_reserved(port: u16, options: &Options) -> bool {
    port == options.http_port
        || port == options.https_port
        || KEPT_UPSTREAM.contains(&port)
        || options.own_addresses.iter().any(|address| address.port() == port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Meta;

    fn read_one(transport: Transport, port: &str, value: &str) -> Result<Entry, String> {
        let key = ObjectKey::new("sys", "services");
        let data = [(port.to_owned(), value.to_owned())].into();
        let map = ConfigMap { meta: Meta::named(key.clone()), data };
        let mut world = World::default();
        world.config_maps.insert(key.clone(), Arc::new(map));
        let mut options =
            Options { own_addresses: vec!["127.0.0.1:9443".parse().unwrap()], ..Options::default() };
        match transport {
            Transport::Tcp => options.tcp_services = Some(key),
            Transport::Udp => options.udp_services = Some(key),
        }
        let (mut entries, found) = read(&world, &options);
        match (entries.pop(), found.first()) {
            (Some(entry), None) => Ok(entry),
            (None, Some(found)) => {
                assert_eq!(
                    (found.code, found.field.as_str()),
                    ("InvalidStreamService", format!("data[{port}]").as_str())
                );
                Err(found.reason.clone())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn entries_are_read_with_their_proxy_words_in_any_case() {
        use ProxyHeaders::{None, Required};
        for (value, port, accept, send) in [
            ("default/echo:80", "80", None, None),
            ("default/echo:http", "http", None, None),
            ("default/echo:80:PROXY", "80", Required, None),
            ("default/echo:80::PROXY", "80", None, Required),
            ("default/echo:80:proxy:Proxy", "80", Required, Required),
            ("default/echo:80:", "80", None, None),
        ] {
            let entry = read_one(Transport::Tcp, "5432", value).unwrap();
            assert_eq!(
                (entry.port, &*entry.id.key.port, entry.accept, entry.send),
                (5432, port, accept, send),
                "{value}"
            );
        }
        assert!(read_one(Transport::Udp, "53", "kube-system/kube-dns:53").is_ok());
    }

    #[test]
    fn bad_entries_are_refused_with_a_reason() {
        for (transport, port, value, reason) in [
            (Transport::Tcp, "0", "a/b:1", "no port number"),
            (Transport::Tcp, "70000", "a/b:1", "no port number"),
            (Transport::Tcp, "08", "a/b:1", "no port number"),
            (Transport::Tcp, "http", "a/b:1", "no port number"),
            (Transport::Tcp, "80", "a/b:1", "the controller's own"),
            (Transport::Tcp, "443", "a/b:1", "the controller's own"),
            (Transport::Tcp, "9443", "a/b:1", "the controller's own"),
            (Transport::Udp, "10254", "a/b:1", "the controller's own"),
            (Transport::Tcp, "5000", "", "namespace/service:port"),
            (Transport::Tcp, "5000", "b:1", "namespace/service:port"),
            (Transport::Tcp, "5000", "a/b", "port of the Service"),
            (Transport::Tcp, "5000", "a/b:0", "port of the Service"),
            (Transport::Tcp, "5000", "a/b:99999", "port of the Service"),
            (Transport::Tcp, "5000", "a/../b:1", "namespace/service:port"),
            (Transport::Tcp, "5000", "a/b:1:TLS", "is not PROXY"),
            (Transport::Tcp, "5000", "a/b:1:PROXY:PROXY:PROXY", "more than four"),
            (Transport::Udp, "5000", "a/b:1:PROXY", "for TCP only"),
        ] {
            let said = read_one(transport, port, value).unwrap_err();
            assert!(said.contains(reason), "{port}: {value}: {said}");
        }
    }

    #[test]
    fn a_bad_entry_hurts_only_itself_and_a_flag_without_its_object_says_nothing() {
        let key = ObjectKey::new("sys", "tcp");
        let data = [("5000", "a/b:1"), ("5001", "nonsense"), ("5002", "a/c:1")];
        let data = data.map(|(port, value)| (port.to_owned(), value.to_owned())).into();
        let mut world = World::default();
        let options = Options { tcp_services: Some(key.clone()), ..Options::default() };
        assert_eq!(read(&world, &options), (vec![], vec![]));
        world.config_maps.insert(key.clone(), Arc::new(ConfigMap { meta: Meta::named(key), data }));
        let (entries, found) = read(&world, &options);
        assert_eq!(entries.iter().map(|entry| entry.port).collect::<Vec<_>>(), [5000, 5002]);
        assert_eq!(found.len(), 1);
    }
}
