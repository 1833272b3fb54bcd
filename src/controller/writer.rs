//! Writes `status.loadBalancer` of the Ingresses that are served, while this process leads: only where it is another, and
//! never nothing over something, but at the very end.
//!
//! By server-side apply, as the owner of that field; where RBAC rules made for ingress-nginx grant `update` and not
//! `patch`, by replacing the status that was read.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use kube::Client;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::api::{self, ApiError, FIELD_MANAGER};
use super::nodes::{self, Nodes};
use super::query::Query;
use super::status::{self, Address, Board};
use crate::config::{AddressSource, Status};
use crate::model::ObjectKey;

/// After a change, so that a burst of new Ingresses asks for the addresses once.
const GATHER: Duration = Duration::from_secs(1);
/// So many are written at a time.
const CROWD: usize = 8;
/// After so long it is looked again what is to be written.
const ROUND: Duration = Duration::from_secs(2);

/// Writes status.
pub(super) struct Writer {
    client: Client,
    settings: Status,
    namespace: String,
    /// Name of the own Pod; empty when there is none.
    pod: String,
    board: Board,
    nodes: Nodes,
    /// Whether server-side apply is allowed, as far as is known.
    patching: AtomicBool,
    /// What was found last.
    addresses: Vec<Address>,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        client: Client,
        settings: Status,
        namespace: String,
        pod: String,
        board: Board,
        nodes: Nodes,
    ) -> Self {
        Self {
            client,
            settings,
            namespace,
            pod,
            board,
            nodes,
            patching: AtomicBool::new(true),
            addresses: Vec::new(),
        }
    }

    /// Writes while `leads` says so, until told to `leave`.
    pub(super) async fn run(mut self, mut leads: watch::Receiver<bool>, mut leave: watch::Receiver<bool>) {
        while !*leave.borrow() {
            if *leads.borrow_and_update() {
                self.update(&leads).await;
            }
            let next = Instant::now() + self.settings.interval;
            let board = self.board.clone();
            tokio::select! {
                _ = leads.changed() => {}
                _ = leave.changed() => {}
                // Whatever is noted now is looked at once, a little later.
                _ = timeout_at(next, board.changed()) => sleep(GATHER).await,
            }
        }
        if self.settings.clear_on_shutdown {
            self.clear().await;
        }
    }

    async fn update(&mut self, leads: &watch::Receiver<bool>) {
        match self.find_addresses().await {
            Ok(addresses) if addresses.is_empty() => {
                tracing::debug!("no address is known, the status of Ingresses stays");
                return;
            }
            Ok(addresses) => self.addresses = addresses,
            Err(error) => {
                tracing::warn!(error = %error, "the addresses for the status of Ingresses cannot be found");
                return;
            }
        }
        let began = Instant::now();
        for some in self.board.behind(&self.addresses).chunks(CROWD) {
            if !*leads.borrow() {
                return;
            }
            // Thousands take a while, in which the addresses may become others.
            if began.elapsed() >= ROUND {
                return self.board.look_again();
            }
            let writes = some.iter().map(|key| self.write(key, &self.addresses));
            for (key, outcome) in some.iter().zip(join_all(writes).await) {
                match outcome {
                    Ok(()) => tracing::debug!(ingress = %key, "wrote the status"),
                    // Deleted meanwhile, or changed by somebody: the next round sees it.
                    Err(error) if matches!(error.code(), Some(404 | 409)) => {}
                    Err(error) => {
                        tracing::warn!(ingress = %key, error = %error, "the status cannot be written");
                        // Whatever it is, the next one will hardly fare better.
                        return;
                    }
                }
            }
        }
    }

    async fn write(&self, key: &ObjectKey, addresses: &[Address]) -> Result<(), ApiError> {
        let ObjectKey { namespace, name } = key;
        let object = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{name}");
        let target = format!("{object}/status");
        let status = json!({"loadBalancer": status::load_balancer(addresses)});
        if self.patching.load(Relaxed) {
            let body = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"name": &**name, "namespace": &**namespace}, "status": status,
            });
            match api::apply(&self.client, &target, &body).await {
                Err(error) if error.code() == Some(403) => {
                    tracing::info!("not allowed to patch ingresses/status, replacing it instead");
                    self.patching.store(false, Relaxed);
                }
                answer => return answer.map(drop),
            }
        }
        let mut body = api::get(&self.client, &object).await?;
        body["status"] = status;
        api::put(&self.client, &format!("{target}?fieldManager={FIELD_MANAGER}"), &body).await.map(drop)
    }

    async fn find_addresses(&self) -> Result<Vec<Address>, ApiError> {
        Ok(match &self.settings.source {
            AddressSource::Given(given) => {
                status::sorted(given.iter().map(|text| Address::given(text)).collect())
            }
            AddressSource::Service(ObjectKey { namespace, name }) => {
                let target = format!("/api/v1/namespaces/{namespace}/services/{name}");
                status::of_service(&api::get(&self.client, &target).await?)
            }
            AddressSource::Nodes { internal } => self.nodes.addresses(*internal),
        })
    }

    /// Pods of this controller, itself included; none when this process is in no Pod.
    async fn own_pods(&self) -> Result<Json, ApiError> {
        if self.pod.is_empty() {
            return Ok(json!({}));
        }
        let pods = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let own = api::get(&self.client, &format!("{pods}/{}", self.pod)).await?;
        let selector = nodes::siblings(&own);
        if selector.is_empty() {
            // Any Pod of the namespace would match.
            return Ok(json!({"items": [own]}));
        }
        let query = Query::new(&pods).pair("labelSelector", selector);
        api::get(&self.client, query.target()).await
    }

    /// Clears what was written when nobody is left to serve: one address only, and surely no other Pod.
    async fn clear(&mut self) {
        if self.addresses.len() != 1 || self.pod.is_empty() {
            return;
        }
        match self.own_pods().await {
            Ok(pods) if pods.get("items").is_some() && status::others(&pods, &self.pod) == 0 => {}
            Ok(_) => return,
            Err(error) => {
                return tracing::warn!(%error, "it is not known whether other replicas live, the status stays");
            }
        }
        tracing::info!("the last controller ends: clearing the status of Ingresses");
        for key in self.board.holding(&self.addresses) {
            if self.write(&key, &[]).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::controller::fake::{FakeApi, PATIENCE};
    use crate::model::{Kind, ObjectRef};

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("team", name)
    }

    fn note(board: &Board, name: &str, addresses: &[Address]) {
        board.note(&ObjectRef { kind: Kind::Ingress, key: key(name) }, addresses.to_vec());
    }

    /// A writer that leads, and Ingresses `new` without and `done` with the address.
    struct Scene {
        api: FakeApi,
        board: Board,
        leads: watch::Sender<bool>,
        leave: watch::Sender<bool>,
        task: JoinHandle<()>,
    }

    async fn scene(source: AddressSource) -> Scene {
        let api = FakeApi::start().await;
        let board = Board::default();
        note(&board, "new", &[]);
        note(&board, "done", &[Address::ip("192.0.2.1")]);
        board.serve(&Arc::new(BTreeSet::from([key("new"), key("done")])));
        let settings = Status { source, interval: Duration::from_secs(3600), clear_on_shutdown: true };
        let client = api.client.clone();
        let writer =
            Writer::new(client, settings, "edge".into(), "pod-1".into(), board.clone(), Nodes::default());
        let (leads, led) = watch::channel(true);
        let (leave, leaving) = watch::channel(false);
        let task = tokio::spawn(writer.run(led, leaving));
        Scene { api, board, leads, leave, task }
    }

    fn given() -> AddressSource {
        AddressSource::Given(vec!["192.0.2.1".into()])
    }

    #[tokio::test]
    async fn only_what_differs_is_applied_under_our_own_name() {
        let mut scene = scene(given()).await;
        let call = scene.api.expect("PATCH", &["/team/ingresses/new/status?", "fieldManager=narthex"]).await;
        assert_eq!(call.body["status"], json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}));
        call.reply(200, &json!({})).await;
        note(&scene.board, "new", &[Address::ip("192.0.2.1")]);
        // Somebody else's hand is corrected, and `done` was never asked about.
        note(&scene.board, "new", &[Address::ip("192.0.2.7")]);
        scene.api.expect("PATCH", &["/team/ingresses/new/status?"]).await.reply(200, &json!({})).await;
    }

    #[tokio::test]
    async fn where_patching_is_forbidden_the_status_is_replaced() {
        let mut scene = scene(given()).await;
        scene.api.expect("PATCH", &["/new/status"]).await.refuse(403, "Forbidden").await;
        let read = json!({"metadata": {"name": "new", "resourceVersion": "7"}, "spec": {"rules": []}});
        scene.api.expect("GET", &["/team/ingresses/new"]).await.reply(200, &read).await;
        let call = scene.api.expect("PUT", &["/new/status?fieldManager=narthex"]).await;
        assert_eq!(call.body["metadata"]["resourceVersion"], json!("7"));
        assert_eq!(call.body["status"]["loadBalancer"]["ingress"][0]["ip"], json!("192.0.2.1"));
    }

    #[tokio::test]
    async fn a_service_without_an_address_yet_blanks_nothing() {
        let mut scene = scene(AddressSource::Service(ObjectKey::new("edge", "lb"))).await;
        let target = "/api/v1/namespaces/edge/services/lb";
        let pending = json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.9"}, "status": {}});
        scene.api.expect("GET", &[target]).await.reply(200, &pending).await;
        scene.leads.send_replace(false);
        scene.leads.send_replace(true);
        let ready = json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
        // The very next request is for the Service again: no status was written in between.
        scene.api.expect("GET", &[target]).await.reply(200, &ready).await;
        scene.api.expect("PATCH", &["/new/status"]).await.reply(200, &json!({})).await;
    }

    async fn ends(items: Json) -> Scene {
        let mut scene = scene(given()).await;
        scene.api.expect("PATCH", &["/new/status"]).await.reply(200, &json!({})).await;
        scene.leave.send_replace(true);
        let own = json!({"metadata": {"name": "pod-1", "labels": {"app": "x", "pod-template-hash": "1"}}});
        scene.api.expect("GET", &["/namespaces/edge/pods/pod-1"]).await.reply(200, &own).await;
        let call = scene.api.expect("GET", &["/namespaces/edge/pods?labelSelector=app%3Dx"]).await;
        assert!(!call.target.contains("pod-template-hash"));
        call.reply(200, &json!({"items": items})).await;
        scene
    }

    #[tokio::test]
    async fn at_the_end_nothing_is_cleared_while_another_replica_lives() {
        let items = json!([{"metadata": {"name": "pod-1"}}, {"metadata": {"name": "pod-2"}}]);
        let scene = ends(items).await;
        timeout(PATIENCE, scene.task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_last_replica_clears_what_is_its_own() {
        let mut scene = ends(json!([{"metadata": {"name": "pod-1"}}])).await;
        let call = scene.api.expect("PATCH", &["/done/status"]).await;
        assert_eq!(call.body["status"], json!({"loadBalancer": {"ingress": []}}));
        call.reply(200, &json!({})).await;
        timeout(PATIENCE, scene.task).await.unwrap().unwrap();
    }
}
