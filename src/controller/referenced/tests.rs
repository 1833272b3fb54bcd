//! Objects followed by name, against a server that behaves as each test says.

use serde_json::{Value as Json, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::nodes::Nodes;
use super::*;
use crate::config::{Config, Source};
use crate::controller::archive::Archive;
use crate::controller::events::Reporter;
use crate::controller::fake::{Call, FakeApi, PATIENCE};
use crate::controller::status::Board;
use crate::manifest;
use crate::model::ObjectKey;

/// Feeds: Ingresses, Secrets by reference.
struct Scene {
    api: FakeApi,
    changes: UnboundedReceiver<Change>,
    referenced: Referenced,
    task: JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn feed(kind: Kind, reach: Reach) -> Feed {
    Feed { kind, namespace: None, fields: String::new(), labels: String::new(), reach }
}

async fn scene() -> Scene {
    let api = FakeApi::start().await;
    let (sender, changes) = unbounded_channel();
    let sink: Sink = Arc::new(move |change| drop(sender.send(change)));
    let feeds = [feed(Kind::Ingress, Reach::Selected), feed(Kind::Secret, Reach::Referenced)];
    let config = Config::without_flags(Source::Directory("m".into())).unwrap();
    let settings = Settings { mass_removal_guard: true, ..Settings::of(&config) };
    let referenced = Referenced::new(&feeds, settings);
    let reporter = Reporter::new(api.client.clone(), false);
    let reports =
        Reports { board: Board::default(), reporter, archive: Archive::default(), nodes: Nodes::default() };
    let run = referenced.clone().run(api.client.clone(), Link::new(2), reports, sink);
    Scene { api, changes, referenced, task: tokio::spawn(run) }
}

/// An Ingress that names a Secret.
fn ingress(name: &str, secret: &str) -> (ObjectRef, Decoded) {
    let reference = ObjectRef { kind: Kind::Ingress, key: ObjectKey::new("team", name) };
    let json = json!({
        "metadata": {"name": name, "namespace": "team", "annotations": {"kubernetes.io/ingress.class": "nginx"}},
        "spec": {"tls": [{"secretName": secret}], "rules": [{"host": format!("{name}.test")}]},
    });
    let decoded = manifest::decode(&reference, &json);
    (reference, decoded)
}

fn secret(name: &str, version: u32) -> Json {
    json!({"metadata": {"name": name, "namespace": "team", "resourceVersion": version.to_string()}, "data": {}})
}

fn short(change: &Change) -> String {
    let names = |objects: &[(ObjectRef, Decoded)]| {
        objects.iter().map(|(reference, _)| reference.key.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    match change {
        Change::Listed { feed, objects } => format!("{feed} listed {}", names(objects)),
        Change::Applied { feed, reference, .. } => format!("{feed} applied {}", reference.key.name),
        Change::Deleted { feed, reference } => format!("{feed} deleted {}", reference.key.name),
        Change::Zone(zone) => format!("zone {zone}"),
        Change::ClassesHidden(hidden) => format!("classes hidden {hidden}"),
    }
}

impl Scene {
    fn listed(&self, ingresses: &[(&str, &str)]) {
        let objects = ingresses.iter().map(|(name, secret)| ingress(name, secret)).collect();
        self.referenced.see(&Change::Listed { feed: 0, objects });
    }

    async fn says(&mut self, expect: &str) {
        let change = timeout(PATIENCE, self.changes.recv()).await.expect("a change").expect("it runs");
        assert_eq!(short(&change), expect);
    }

    async fn asks_for(&mut self, name: &str) -> Call {
        let field = format!("fieldSelector=metadata.name%3D{name}");
        self.api.expect("GET", &["/api/v1/namespaces/team/secrets?", "watch=true", &field]).await
    }
}

fn list_end(version: u32) -> Json {
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    json!({"metadata": {"resourceVersion": version.to_string(), "annotations": annotations}})
}

#[tokio::test]
async fn nothing_is_handed_over_before_all_that_is_named_is_known() {
    let mut scene = scene().await;
    scene.listed(&[("a", "one"), ("b", "two")]);
    let mut one = scene.asks_for("one").await.stream().await;
    let mut two = scene.asks_for("two").await.stream().await;
    one.event("ADDED", secret("one", 3)).await;
    one.event("BOOKMARK", list_end(5)).await;
    assert!(timeout(GATHER * 3, scene.changes.recv()).await.is_err(), "one is still missing");
    // It does not exist.
    two.event("BOOKMARK", list_end(5)).await;
    scene.says("1 listed one").await;
    two.event("ADDED", secret("two", 6)).await;
    scene.says("1 applied two").await;
    one.event("DELETED", secret("one", 7)).await;
    scene.says("1 deleted one").await;
}

#[tokio::test]
async fn what_is_named_no_more_is_gone_and_what_is_named_later_comes() {
    let mut scene = scene().await;
    scene.listed(&[("a", "one")]);
    let mut one = scene.asks_for("one").await.stream().await;
    one.event("ADDED", secret("one", 3)).await;
    one.event("BOOKMARK", list_end(5)).await;
    scene.says("1 listed one").await;
    let (reference, decoded) = ingress("a", "two");
    scene.referenced.see(&Change::Applied { feed: 0, reference, decoded });
    scene.says("1 deleted one").await;
    let mut two = scene.asks_for("two").await.stream().await;
    two.event("ADDED", secret("two", 6)).await;
    two.event("BOOKMARK", list_end(6)).await;
    scene.says("1 applied two").await;
}

#[tokio::test]
async fn what_is_held_in_doubt_keeps_the_secrets_that_it_names() {
    let mut scene = scene().await;
    let names: Vec<String> = (0..40).map(|number| format!("i{number}")).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "one")).collect();
    scene.listed(&all);
    let mut one = scene.asks_for("one").await.stream().await;
    one.event("ADDED", secret("one", 3)).await;
    one.event("BOOKMARK", list_end(5)).await;
    scene.says("1 listed one").await;
    scene.listed(&[]);
    assert!(timeout(GATHER * 3, scene.changes.recv()).await.is_err(), "a second list is waited for");
    one.event("MODIFIED", secret("one", 6)).await;
    scene.says("1 applied one").await;
    scene.referenced.ask(0);
    scene.listed(&[]);
    scene.says("1 deleted one").await;
}

#[tokio::test]
async fn an_older_server_is_asked_by_name_and_never_for_a_list() {
    let mut scene = scene().await;
    scene.listed(&[("a", "one")]);
    scene.asks_for("one").await.refuse(422, "Invalid").await;
    let call = scene.asks_for("one").await;
    assert!(!call.target.contains("sendInitialEvents") && !call.target.contains("resourceVersion"));
    let mut watch = call.stream().await;
    scene.api.expect("GET", &["/api/v1/namespaces/team/secrets/one"]).await.refuse(404, "NotFound").await;
    scene.says("1 listed ").await;
    watch.event("ADDED", secret("one", 6)).await;
    scene.says("1 applied one").await;
}

#[tokio::test]
async fn one_that_may_not_be_read_holds_nothing_up() {
    let mut scene = scene().await;
    scene.listed(&[("a", "one")]);
    scene.asks_for("one").await.refuse(403, "Forbidden").await;
    scene.says("1 listed ").await;
}
