//! Pods of this controller and the nodes they run on, followed where somebody asks for them: addresses of nodes for the
//! status, and the zone of the own node for `--enable-topology-aware-routing`. Nothing is followed else. Not part of the
//! world; the first table does not wait for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::api;
use super::backoff::{Backoff, chance};
use super::feed::{Feed, Reach};
use super::link::Link;
use super::status::{self, Address, Board};
use super::watcher::{Reports, Sink, Watcher};
use crate::control::Change;
use crate::model::{Kind, ObjectKey};

/// Label of a node with its zone.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Labels that differ between the Pods of one controller.
const OWN_LABELS: [&str; 3] = ["pod-template-hash", "controller-revision-hash", "pod-template-generation"];

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Addresses of the nodes that Pods of this controller run on.
    pub(super) addresses: bool,
    /// The zone of the own node.
    pub(super) zone: bool,
}

/// Pods and nodes. Cheap to clone; the default follows nothing.
#[derive(Clone, Default)]
pub(super) struct Nodes(Option<Arc<Shared>>);

struct Shared {
    wanted: Wanted,
    board: Board,
    /// Takes the zone.
    sink: Sink,
    state: Mutex<State>,
}

type Known = BTreeMap<ObjectKey, Json>;

#[derive(Default)]
struct State {
    own: String,
    /// `None` until they were listed.
    pods: Option<Known>,
    nodes: Option<Known>,
}

impl State {
    fn of(&mut self, kind: Kind) -> Option<&mut Option<Known>> {
        match kind {
            Kind::Node => Some(&mut self.nodes),
            Kind::Pod => Some(&mut self.pods),
            _ => None,
        }
    }
}

// === impl Nodes ===

impl Nodes {
    /// Tells `board` of other addresses, and `sink` of the zone.
    pub(super) fn new(wanted: Wanted, board: Board, sink: Sink) -> Self {
        let state = Mutex::default();
        Self((wanted != Wanted::default()).then(|| Arc::new(Shared { wanted, board, sink, state })))
    }

    /// These are all objects of the kind.
    pub(super) fn list<'o>(&self, kind: Kind, objects: impl Iterator<Item = (&'o ObjectKey, &'o Json)>) {
        let Some(shared) = &self.0 else { return };
        let objects: Known = objects.map(|(key, json)| (key.clone(), json.clone())).collect();
        shared.change(kind, |known| {
            let same = known.as_ref() == Some(&objects);
            *known = Some(objects);
            !same
        });
    }

    /// An object is this now.
    pub(super) fn note(&self, kind: Kind, key: &ObjectKey, json: &Json) {
        let Some(shared) = &self.0 else { return };
        shared.change(kind, |known| {
            let before = known.get_or_insert_default().insert(key.clone(), json.clone());
            before.as_ref() != Some(json)
        });
    }

    /// An object is gone.
    pub(super) fn forget(&self, kind: Kind, key: &ObjectKey) {
        let Some(shared) = &self.0 else { return };
        shared.change(kind, |known| known.as_mut().is_some_and(|known| known.remove(key).is_some()));
    }

    /// Addresses of the nodes that ready Pods run on; none before all of them are known.
    pub(super) fn addresses(&self, internal: bool) -> Vec<Address> {
        let Some(shared) = &self.0 else { return Vec::new() };
        let state = shared.state();
        let (Some(pods), Some(nodes)) = (&state.pods, &state.nodes) else { return Vec::new() };
        let names = status::nodes_of(pods.values());
        let nodes = names.into_iter().filter_map(|name| nodes.get(&ObjectKey::new("", name)));
        status::sorted(nodes.flat_map(|node| status::of_node(node, internal)).collect())
    }

    /// Follows what is wanted until dropped, as the Pod of this name.
    pub(super) async fn run(
        self,
        client: Client,
        link: Link,
        mut reports: Reports,
        namespace: String,
        pod: String,
    ) {
        let Some(shared) = &self.0 else { return };
        if pod.is_empty() {
            tracing::warn!("nodes are not followed: POD_NAME does not say which Pod this is");
            return;
        }
        let own = own_pod(&client, &namespace, &pod).await;
        let node = own.pointer("/spec/nodeName").and_then(Json::as_str).unwrap_or_default().to_owned();
        tracing::info!(node, "following nodes");
        shared.state().own.clone_from(&node);
        reports.nodes = self.clone();
        let nothing: Sink = Arc::new(|_| {});
        let mut tasks = JoinSet::new();
        for feed in feeds(shared.wanted, &namespace, &pod, &own, &node) {
            // Nobody asks for a second list.
            let (_, again) = watch::channel(0);
            let (client, sink, link) = (client.clone(), Arc::clone(&nothing), link.aside());
            tasks.spawn(Watcher::new(client, feed, 0, sink, link, reports.clone(), again).run());
        }
        while tasks.join_next().await.is_some() {}
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a kind; `change` says whether anything is another.
    fn change(&self, kind: Kind, change: impl FnOnce(&mut Option<Known>) -> bool) {
        let mut state = self.state();
        if !state.of(kind).is_some_and(change) {
            return;
        }
        let node = state.nodes.as_ref().and_then(|nodes| nodes.get(&ObjectKey::new("", state.own.as_str())));
        let zone = node.and_then(|node| node.get("metadata")?.get("labels")?.get(ZONE)?.as_str());
        let zone: Arc<str> = zone.unwrap_or_default().into();
        drop(state);
        if self.wanted.zone && kind == Kind::Node {
            (self.sink)(Change::Zone(zone));
        }
        if self.wanted.addresses {
            self.board.look_again();
        }
    }
}

/// What is followed. All nodes for their addresses: one connection, however many Pods there are.
fn feeds(wanted: Wanted, namespace: &str, pod: &str, own: &Json, node: &str) -> Vec<Feed> {
    if !wanted.addresses {
        return vec![Feed::single(Kind::Node, &ObjectKey::new("", node))];
    }
    let selector = siblings(own);
    let fields = if selector.is_empty() { format!("metadata.name={pod}") } else { String::new() };
    let namespace = Some(namespace.to_owned());
    let pods = Feed { kind: Kind::Pod, namespace, fields, labels: selector, reach: Reach::Selected };
    let nodes = Feed { kind: Kind::Node, namespace: None, labels: String::new(), ..pods.clone() };
    vec![pods, Feed { fields: String::new(), ..nodes }]
}

/// Selects the Pods of the controller that this Pod is of; empty when its labels tell nothing.
pub(super) fn siblings(own: &Json) -> String {
    let labels = own.pointer("/metadata/labels").and_then(Json::as_object);
    let same = labels.into_iter().flatten().filter(|(name, _)| !OWN_LABELS.contains(&name.as_str()));
    let pairs: Vec<String> =
        same.filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?))).collect();
    pairs.join(",")
}

/// Asks until it is there.
async fn own_pod(client: &Client, namespace: &str, pod: &str) -> Json {
    let mut backoff = Backoff::default();
    loop {
        match api::get(client, &format!("/api/v1/namespaces/{namespace}/pods/{pod}")).await {
            Ok(own) => return own,
            Err(error) => {
                let error = api::causes(&error);
                tracing::warn!(
                    namespace,
                    pod,
                    error,
                    "the own Pod cannot be read, so nodes are not followed"
                );
            }
        }
        sleep(backoff.fail(chance())).await;
    }
}

/// What is kept of a Pod or a node, of which most is of no use here and changes all the time.
pub(super) fn essence(kind: Kind, json: &Json) -> Json {
    let part = |pointer: &str| json.pointer(pointer).cloned().unwrap_or_default();
    if kind == Kind::Node {
        let labels = json!({ZONE: json.pointer("/metadata/labels").and_then(|labels| labels.get(ZONE))});
        return json!({"metadata": {"labels": labels}, "status": {"addresses": part("/status/addresses")}});
    }
    let conditions = json.pointer("/status/conditions").and_then(Json::as_array).into_iter().flatten();
    let ready = conditions.filter(|one| one.get("type").and_then(Json::as_str) == Some("Ready"));
    let ready: Vec<Json> = ready.map(|one| json!({"type": "Ready", "status": one.get("status")})).collect();
    let mut meta = json!({});
    if let Some(ending) = json.pointer("/metadata/deletionTimestamp") {
        meta["deletionTimestamp"] = ending.clone();
    }
    json!({"metadata": meta, "spec": {"nodeName": part("/spec/nodeName")}, "status": {"conditions": ready}})
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::controller::archive::Archive;
    use crate::controller::events::Reporter;
    use crate::controller::fake::{FakeApi, PATIENCE};

    fn pod(name: &str, node: &str, ready: &str) -> Json {
        json!({"metadata": {"name": name, "namespace": "edge", "resourceVersion": "5", "labels": {"app": "edge", "pod-template-hash": "x"}},
            "spec": {"nodeName": node}, "status": {"conditions": [{"type": "Ready", "status": ready, "lastProbeTime": name}]}})
    }

    fn node(name: &str, address: &str, zone: &str) -> Json {
        json!({"metadata": {"name": name, "resourceVersion": "6", "labels": {ZONE: zone}},
            "status": {"addresses": [{"type": "InternalIP", "address": address}], "images": [{"names": ["x"]}]}})
    }

    /// Follows what is wanted; the own Pod was asked for and answered.
    async fn scene(wanted: Wanted) -> (FakeApi, Nodes, Board, mpsc::Receiver<Change>) {
        let mut api = FakeApi::start().await;
        let (sender, changes) = mpsc::channel();
        let board = Board::default();
        let sink: Sink = Arc::new(move |change| drop(sender.send(change)));
        let nodes = Nodes::new(wanted, board.clone(), sink);
        let reporter = Reporter::new(api.client.clone(), false);
        let reports =
            Reports { board: board.clone(), reporter, archive: Archive::default(), nodes: Nodes::default() };
        let following =
            nodes.clone().run(api.client.clone(), Link::new(0), reports, "edge".into(), "a".into());
        tokio::spawn(following);
        api.expect("GET", &["/namespaces/edge/pods/a"]).await.reply(200, &pod("a", "n1", "True")).await;
        (api, nodes, board, changes)
    }

    #[tokio::test]
    async fn pods_and_nodes_are_watched_and_their_addresses_follow_at_once() {
        let (mut api, nodes, board, _changes) = scene(Wanted { addresses: true, zone: false }).await;
        let mut streams = BTreeMap::new();
        for _ in 0..2 {
            let call = api.call().await;
            assert!(call.target.contains("watch=true") && call.target.contains("sendInitialEvents=true"));
            let pods = call.target.contains("/pods");
            assert_eq!(pods, call.target.contains("labelSelector=app%3Dedge&"), "{}", call.target);
            streams.insert(pods, call.stream().await);
        }
        let mut of_nodes = streams.remove(&false).unwrap();
        let mut of_pods = streams.remove(&true).unwrap();
        let end = json!({"metadata": {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}});
        of_nodes.event("ADDED", node("n1", "10.0.0.1", "a")).await;
        of_nodes.event("ADDED", node("n2", "10.0.0.2", "b")).await;
        of_nodes.event("BOOKMARK", end.clone()).await;
        of_pods.event("ADDED", pod("a", "n1", "True")).await;
        of_pods.event("ADDED", pod("b", "n2", "False")).await;
        of_pods.event("BOOKMARK", end).await;
        until(&board, || nodes.addresses(true) == [Address::ip("10.0.0.1")]).await;
        of_pods.event("MODIFIED", pod("b", "n2", "True")).await;
        until(&board, || nodes.addresses(true) == [Address::ip("10.0.0.1"), Address::ip("10.0.0.2")]).await;
        of_nodes.event("MODIFIED", node("n2", "10.0.0.3", "b")).await;
        until(&board, || nodes.addresses(true) == [Address::ip("10.0.0.1"), Address::ip("10.0.0.3")]).await;
        of_nodes.event("DELETED", node("n1", "10.0.0.1", "a")).await;
        until(&board, || nodes.addresses(true) == [Address::ip("10.0.0.3")]).await;
    }

    /// Waits for the board to be told until the condition holds.
    async fn until(board: &Board, condition: impl Fn() -> bool) {
        let waited = async {
            while !condition() {
                board.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.expect("the condition comes true");
    }

    #[tokio::test]
    async fn for_the_zone_alone_the_own_node_is_followed_by_its_name() {
        let (mut api, nodes, _board, changes) = scene(Wanted { addresses: false, zone: true }).await;
        let parts = ["/api/v1/nodes?", "metadata.name%3Dn1", "sendInitialEvents=true"];
        let mut stream = api.expect("GET", &parts).await.stream().await;
        stream.event("ADDED", node("n1", "10.0.0.1", "west")).await;
        let end = json!({"metadata": {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}});
        stream.event("BOOKMARK", end).await;
        zone(&changes, "west").await;
        stream.event("MODIFIED", node("n1", "10.0.0.1", "east")).await;
        zone(&changes, "east").await;
        assert_eq!(nodes.addresses(true), []);
    }

    /// Waits for the zone to be told.
    async fn zone(changes: &mpsc::Receiver<Change>, expect: &str) {
        let told = async {
            loop {
                if let Ok(Change::Zone(zone)) = changes.try_recv()
                    && &*zone == expect
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("the zone is told");
    }

    #[test]
    fn nothing_is_kept_of_a_node_that_changes_all_the_time() {
        let mut beating = node("n1", "10.0.0.1", "a");
        let before = essence(Kind::Node, &beating);
        beating["status"]["conditions"] = json!([{"type": "Ready", "lastHeartbeatTime": "later"}]);
        beating["metadata"]["resourceVersion"] = json!("9");
        assert_eq!(essence(Kind::Node, &beating), before);
        let (before, after) = (pod("a", "n1", "True"), pod("a", "n1", "False"));
        assert_ne!(essence(Kind::Pod, &before), essence(Kind::Pod, &after));
    }
}
