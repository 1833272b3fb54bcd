//! Addresses of an Ingress's status: where they come from, what is there now, and what must be written. Whether this
//! process may write is `election`'s; how it is written is `writer`'s.
//!
//! An empty list of addresses is never written over one that is not empty: external-dns deletes the records of a host
//! whose Ingress has no address (external-dns #2677).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};
use tokio::sync::Notify;

use crate::model::{Kind, ObjectKey, ObjectRef};

/// One entry of `status.loadBalancer.ingress`. Ordered as they are compared: by host name, then address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    hostname: String,
    ip: String,
}

impl Address {
    /// An IP address.
    pub(super) fn ip(ip: &str) -> Self {
        Self { hostname: String::new(), ip: ip.to_owned() }
    }

    /// A name.
    pub(super) fn hostname(hostname: &str) -> Self {
        Self { hostname: hostname.to_owned(), ip: String::new() }
    }

    /// What the text is.
    pub(super) fn given(text: &str) -> Self {
        if text.parse::<IpAddr>().is_ok() { Self::ip(text) } else { Self::hostname(text) }
    }

    /// `loadBalancer.ingress` of a status, in order.
    pub(super) fn of_status(status: Option<&Json>) -> Vec<Self> {
        let entries =
            status.and_then(|status| status.pointer("/loadBalancer/ingress")).and_then(Json::as_array);
        let text =
            |entry: &Json, name: &str| entry.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        let entries = entries.into_iter().flatten();
        sorted(
            entries.map(|entry| Self { hostname: text(entry, "hostname"), ip: text(entry, "ip") }).collect(),
        )
    }

    fn to_json(&self) -> Json {
        let fields = [("hostname", &self.hostname), ("ip", &self.ip)];
        fields
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, json!(value)))
            .collect()
    }
}

/// Sorted, each once.
pub(super) fn sorted(mut addresses: Vec<Address>) -> Vec<Address> {
    addresses.sort();
    addresses.dedup();
    addresses
}

/// `status.loadBalancer` for these addresses.
pub(super) fn load_balancer(addresses: &[Address]) -> Json {
    json!({"ingress": addresses.iter().map(Address::to_json).collect::<Vec<_>>()})
}

/// Addresses that a Service stands for (`routing.md` 9.1).
pub(super) fn of_service(service: &Json) -> Vec<Address> {
    let spec = |name: &str| service.pointer(&format!("/spec/{name}"));
    let text = |name: &str| spec(name).and_then(Json::as_str).unwrap_or_default();
    let external: Vec<Address> = spec("externalIPs")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .map(Address::given)
        .collect();
    let cluster: Vec<Address> = Some(text("clusterIP"))
        .filter(|ip| !matches!(*ip, "" | "None"))
        .map(Address::ip)
        .into_iter()
        .collect();
    sorted(match text("type") {
        "LoadBalancer" => {
            let mut addresses = Address::of_status(service.get("status"));
            addresses.extend(external);
            addresses
        }
        "NodePort" if external.is_empty() => cluster,
        "NodePort" => external,
        "ExternalName" => Some(text("externalName"))
            .filter(|name| !name.is_empty())
            .map(Address::hostname)
            .into_iter()
            .collect(),
        _ => cluster,
    })
}

/// Nodes of Pods that run and are ready.
pub(super) fn nodes_of<'p>(pods: impl Iterator<Item = &'p Json>) -> BTreeSet<String> {
    pods.filter(|pod| is_ready(pod))
        .filter_map(|pod| pod.pointer("/spec/nodeName").and_then(Json::as_str))
        .map(str::to_owned)
        .collect()
}

fn is_ready(pod: &Json) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Json::as_array).into_iter().flatten();
    let is =
        |condition: &Json, name: &str, value: &str| condition.get(name).and_then(Json::as_str) == Some(value);
    pod.pointer("/metadata/deletionTimestamp").is_none()
        && conditions.into_iter().any(|one| is(one, "type", "Ready") && is(one, "status", "True"))
}

/// Pods other than this one that are not about to end.
pub(super) fn others(pods: &Json, own: &str) -> usize {
    let pods = pods.get("items").and_then(Json::as_array).into_iter().flatten();
    pods.filter(|pod| pod.pointer("/metadata/name").and_then(Json::as_str) != Some(own))
        .filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
        .count()
}

/// The addresses of a node, of both families where it has both: of the wanted type, else of the other, else none.
pub(super) fn of_node(node: &Json, internal: bool) -> Vec<Address> {
    let addresses = node.pointer("/status/addresses").and_then(Json::as_array);
    let find = |wanted: &str| -> Vec<Address> {
        let all = addresses.into_iter().flatten();
        let found = all.filter(|one| one.get("type").and_then(Json::as_str) == Some(wanted));
        let texts = found.filter_map(|one| one.get("address").and_then(Json::as_str));
        texts.filter(|text| !text.is_empty()).map(Address::given).collect()
    };
    let order = if internal { ["InternalIP", "ExternalIP"] } else { ["ExternalIP", "InternalIP"] };
    order.into_iter().map(find).find(|found| !found.is_empty()).unwrap_or_default()
}

/// Ingresses as the API server has them, and which of them are served. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<BoardState>);

#[derive(Debug, Default)]
struct BoardState {
    state: Mutex<State>,
    changed: Notify,
    /// The Service whose addresses are written: a change of it is a reason to look.
    published: Option<ObjectKey>,
}

#[derive(Debug, Default)]
struct State {
    current: BTreeMap<ObjectKey, Vec<Address>>,
    served: Arc<BTreeSet<ObjectKey>>,
}

impl Board {
    /// Beside a Service whose addresses are written, if that is where they come from.
    pub(super) fn beside(published: Option<ObjectKey>) -> Self {
        Self(Arc::new(BoardState { published, ..BoardState::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An Ingress has these addresses now. Other kinds have none.
    pub(super) fn note(&self, reference: &ObjectRef, addresses: Vec<Address>) {
        if reference.kind == Kind::Service && self.0.published.as_ref() == Some(&reference.key) {
            self.0.changed.notify_one();
        }
        if reference.kind == Kind::Ingress {
            let before = self.lock().current.insert(reference.key.clone(), addresses.clone());
            if before.is_some_and(|before| before != addresses) {
                self.0.changed.notify_one();
            }
        }
    }

    /// An object is gone.
    pub(super) fn forget(&self, reference: &ObjectRef) {
        if reference.kind == Kind::Ingress {
            self.lock().current.remove(&reference.key);
        }
    }

    /// Only these Ingresses are there.
    pub(super) fn keep<'k>(&self, keys: impl Iterator<Item = &'k ObjectKey>) {
        let keys: BTreeSet<&ObjectKey> = keys.collect();
        self.lock().current.retain(|key, _| keys.contains(key));
    }

    /// These are served.
    pub(super) fn serve(&self, served: &Arc<BTreeSet<ObjectKey>>) {
        let mut state = self.lock();
        if state.served != *served {
            state.served = Arc::clone(served);
            drop(state);
            self.0.changed.notify_one();
        }
    }

    /// As if something had changed.
    pub(super) fn look_again(&self) {
        self.0.changed.notify_one();
    }

    /// Waits until something changed since it was waited for last.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Served Ingresses whose status is another.
    pub(super) fn behind(&self, wanted: &[Address]) -> Vec<ObjectKey> {
        let state = self.lock();
        let there = state.served.iter().filter_map(|key| state.current.get_key_value(key));
        there.filter(|(_, current)| *current != wanted).map(|(key, _)| key.clone()).collect()
    }

    /// Served Ingresses whose status is this.
    pub(super) fn holding(&self, addresses: &[Address]) -> Vec<ObjectKey> {
        let state = self.lock();
        let there = state.served.iter().filter_map(|key| state.current.get_key_value(key));
        there.filter(|(_, current)| *current == addresses).map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(service: Json, expect: &[Address]) {
        assert_eq!(of_service(&service), expect, "{service}");
    }

    #[test]
    fn each_type_of_service_has_its_addresses() {
        let status = json!({"loadBalancer": {"ingress": [
            {"ip": "192.0.2.2", "ipMode": "VIP"}, {"hostname": "lb.example"}, {"ip": "192.0.2.1"}]}});
        let spec = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.9", "externalIPs": ["192.0.2.3"]});
        let (one, two, three) =
            (Address::ip("192.0.2.1"), Address::ip("192.0.2.2"), Address::ip("192.0.2.3"));
        let all = [one, two, three.clone(), Address::hostname("lb.example")];
        check(json!({"spec": spec, "status": status}), &all);
        check(json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.9"}, "status": {}}), &[]);
        let cluster = Address::ip("10.96.0.9");
        check(
            json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9"}}),
            std::slice::from_ref(&cluster),
        );
        check(json!({"spec": {"type": "ClusterIP", "clusterIP": "None"}}), &[]);
        check(json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9"}}), &[cluster]);
        let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.9", "externalIPs": ["192.0.2.3"]});
        check(json!({"spec": spec}), &[three]);
        let spec = json!({"type": "ExternalName", "externalName": "lb.example"});
        check(json!({"spec": spec}), &[Address::hostname("lb.example")]);
        check(json!({}), &[]);
    }

    #[test]
    fn nodes_of_ready_pods_count_and_one_address_each() {
        let pod = |name: &str, node: &str, ready: &str, ending: bool| {
            let meta =
                if ending { json!({"name": name, "deletionTimestamp": "x"}) } else { json!({"name": name}) };
            let conditions = json!([{"type": "Ready", "status": ready}]);
            json!({"metadata": meta, "spec": {"nodeName": node}, "status": {"conditions": conditions}})
        };
        let pods = json!({"items": [
            pod("a", "n1", "True", false), pod("b", "n1", "True", false), pod("c", "n2", "False", false),
            pod("d", "n3", "True", true)]});
        let all = pods["items"].as_array().unwrap();
        assert_eq!(nodes_of(all.iter()), BTreeSet::from(["n1".to_owned()]));
        assert_eq!(others(&pods, "a"), 2);
        assert_eq!(others(&json!({}), "a"), 0);
        let node = json!({"status": {"addresses": [
            {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n1"},
            {"type": "InternalIP", "address": "fd00::1"}, {"type": "ExternalIP", "address": "192.0.2.1"}]}});
        assert_eq!(of_node(&node, false), [Address::ip("192.0.2.1")]);
        assert_eq!(of_node(&node, true), [Address::ip("10.0.0.1"), Address::ip("fd00::1")]);
        let bare = json!({"status": {"addresses": [{"type": "Hostname", "address": "n1"}]}});
        assert_eq!(of_node(&bare, false), []);
    }

    #[test]
    fn only_served_ingresses_with_another_status_are_behind() {
        let board = Board::default();
        let key = |name: &str| ObjectKey::new("team", name);
        let reference = |name: &str| ObjectRef { kind: Kind::Ingress, key: key(name) };
        let wanted = [Address::ip("192.0.2.1")];
        board.note(&reference("done"), wanted.to_vec());
        board.note(&reference("old"), vec![Address::ip("192.0.2.9")]);
        board.note(&reference("new"), Vec::new());
        board.note(&reference("foreign"), Vec::new());
        let served = ["done", "old", "new", "not-here-yet"].map(key);
        board.serve(&Arc::new(served.into_iter().collect()));
        assert_eq!(board.behind(&wanted), [key("new"), key("old")]);
        assert_eq!(board.holding(&wanted), [key("done")]);
        board.forget(&reference("old"));
        assert_eq!(board.behind(&wanted), [key("new")]);
        board.keep(std::iter::empty());
        assert_eq!(board.behind(&wanted), []);
    }

    #[tokio::test]
    async fn a_change_of_the_service_whose_addresses_are_written_is_a_reason_to_look() {
        let board = Board::beside(Some(ObjectKey::new("edge", "lb")));
        let service = |name: &str| ObjectRef { kind: Kind::Service, key: ObjectKey::new("edge", name) };
        board.note(&service("other"), Vec::new());
        let waits = tokio::time::timeout(std::time::Duration::from_millis(1), board.changed()).await;
        assert!(waits.is_err(), "another Service is none");
        board.note(&service("lb"), Vec::new());
        board.changed().await;
    }

    #[test]
    fn a_status_is_written_as_it_is_read() {
        let addresses = [Address::ip("192.0.2.1"), Address::hostname("lb.example")];
        let status = json!({"loadBalancer": load_balancer(&addresses)});
        assert_eq!(Address::of_status(Some(&status)), addresses);
        assert_eq!(
            status.to_string(),
            r#"{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"},{"hostname":"lb.example"}]}}"#
        );
        assert_eq!(Address::given("2001:db8::1"), Address::ip("2001:db8::1"));
    }
}
