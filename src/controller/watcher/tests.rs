//! One feed against a server that behaves as each test says: lists, breaks, refusals, forgotten places.

use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::*;
use crate::controller::fake::{FakeApi, PATIENCE, Stream};

mod chaos;

/// A watcher of ConfigMaps and what it says.
struct Scene {
    api: FakeApi,
    changes: UnboundedReceiver<Change>,
    link: Link,
    again: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn scene(kind: Kind) -> Scene {
    scene_after(kind, 0).await
}

/// A watcher that failed so many times before.
async fn scene_after(kind: Kind, failures: u32) -> Scene {
    let api = FakeApi::start().await;
    let (sender, changes) = unbounded_channel();
    let sink: Sink = Arc::new(move |change| drop(sender.send(change)));
    let link = Link::new(1);
    let feed =
        Feed { kind, namespace: None, fields: "a=b".into(), labels: String::new(), reach: Reach::Selected };
    let reporter = Reporter::new(api.client.clone(), false);
    let reports =
        Reports { board: Board::default(), reporter, archive: Archive::default(), nodes: Nodes::default() };
    let (again, asked) = watch::channel(0);
    let watcher = Watcher::new(api.client.clone(), feed, 0, sink, link.clone(), reports, asked);
    Scene { api, changes, link, again, task: tokio::spawn(watcher.run_from(Backoff::after(failures))) }
}

fn map(name: &str, version: u32) -> Json {
    json!({"metadata": {"name": name, "namespace": "team", "resourceVersion": version.to_string()}, "data": {}})
}

fn mark(version: u32, list_end: bool) -> Json {
    let annotations = if list_end { json!({LIST_END: "true"}) } else { json!({}) };
    json!({"metadata": {"resourceVersion": version.to_string(), "annotations": annotations}})
}

/// What a change says, in short.
fn short(change: &Change) -> String {
    match change {
        Change::Listed { objects, .. } => {
            let names: Vec<_> = objects.iter().map(|(reference, _)| reference.key.name.to_string()).collect();
            format!("listed {}", names.join(" "))
        }
        Change::Applied { reference, decoded, .. } => {
            assert!(decoded.object.is_some(), "{decoded:?}");
            format!("applied {}", reference.key.name)
        }
        Change::Deleted { reference, .. } => format!("deleted {}", reference.key.name),
        Change::Zone(zone) => format!("zone {zone}"),
        Change::ClassesHidden(hidden) => format!("classes hidden {hidden}"),
    }
}

impl Scene {
    async fn says(&mut self, expect: &str) {
        let change = timeout(PATIENCE, self.changes.recv()).await.expect("a change").expect("it runs");
        assert_eq!(short(&change), expect);
    }

    /// A streamed list of one object at version 5, and the watch that goes on from there.
    async fn begin(&mut self) -> Stream {
        let call =
            self.api.expect("GET", &["/api/v1/configmaps?", "sendInitialEvents=true", "fieldSelector=a%3Db"]);
        let mut stream = call.await.stream().await;
        stream.event("ADDED", map("one", 3)).await;
        stream.event("BOOKMARK", mark(5, true)).await;
        self.says("listed one").await;
        stream
    }
}

#[tokio::test]
async fn nothing_is_said_before_the_list_is_whole_and_changes_follow_one_by_one() {
    let mut scene = scene(Kind::ConfigMap).await;
    let mut stream = scene.api.expect("GET", &["sendInitialEvents=true"]).await.stream().await;
    stream.event("ADDED", map("one", 3)).await;
    stream.event("ADDED", map("two", 4)).await;
    stream.event("BOOKMARK", mark(4, false)).await;
    assert!(scene.changes.try_recv().is_err() && !scene.link.is_whole());
    stream.event("BOOKMARK", mark(5, true)).await;
    scene.says("listed one two").await;
    stream.event("MODIFIED", map("one", 6)).await;
    scene.says("applied one").await;
    stream.event("INVENTED", map("one", 7)).await;
    stream.event("DELETED", map("two", 8)).await;
    scene.says("deleted two").await;
    assert!(scene.link.is_whole());
}

#[tokio::test]
async fn a_watch_that_ends_is_resumed_from_the_last_place_without_a_list() {
    let mut scene = scene(Kind::ConfigMap).await;
    let mut stream = scene.begin().await;
    stream.event("BOOKMARK", mark(9, false)).await;
    stream.end().await;
    let call = scene.api.expect("GET", &["resourceVersion=9", "allowWatchBookmarks=true"]).await;
    assert!(!call.target.contains("sendInitialEvents"));
    let mut stream = call.stream().await;
    stream.event("ADDED", map("two", 11)).await;
    scene.says("applied two").await;
    // Cut within nothing and without an end.
    drop(stream);
    let mut stream = scene.api.expect("GET", &["resourceVersion=11"]).await.stream().await;
    stream.event("ADDED", map("three", 12)).await;
    scene.says("applied three").await;
}

#[tokio::test]
async fn a_forgotten_place_told_in_the_stream_leads_to_a_list_that_replaces_all() {
    let mut scene = scene(Kind::ConfigMap).await;
    let mut stream = scene.begin().await;
    stream
        .event("ERROR", json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}))
        .await;
    let mut stream = scene.api.expect("GET", &["sendInitialEvents=true"]).await.stream().await;
    // `one` was deleted while nobody looked.
    stream.event("ADDED", map("two", 20)).await;
    stream.event("BOOKMARK", mark(21, true)).await;
    scene.says("listed two").await;
}

#[tokio::test]
async fn a_forgotten_place_told_by_status_leads_to_a_list_too() {
    let mut scene = scene(Kind::ConfigMap).await;
    scene.begin().await.end().await;
    scene.api.expect("GET", &["resourceVersion=5"]).await.refuse(410, "Expired").await;
    scene.begin().await;
}

#[tokio::test]
async fn objects_deleted_during_an_outage_are_gone_after_it() {
    let mut scene = scene(Kind::ConfigMap).await;
    scene.begin().await.end().await;
    // The server restarts: refused connections, a broken list, then one that says `one` is gone.
    drop(scene.api.expect("GET", &["resourceVersion=5"]).await);
    scene.api.expect("GET", &["resourceVersion=5"]).await.refuse(500, "InternalError").await;
    scene.api.expect("GET", &["resourceVersion=5"]).await.refuse(410, "Gone").await;
    let mut stream = scene.api.expect("GET", &["sendInitialEvents=true"]).await.stream().await;
    stream.event("ADDED", map("ghost", 30)).await;
    drop(stream);
    let mut stream = scene.api.expect("GET", &["sendInitialEvents=true"]).await.stream().await;
    stream.event("BOOKMARK", mark(40, true)).await;
    scene.says("listed ").await;
}

#[tokio::test]
async fn a_server_without_streamed_lists_is_asked_for_pages() {
    let mut scene = scene(Kind::ConfigMap).await;
    scene.api.expect("GET", &["sendInitialEvents=true"]).await.refuse(422, "Invalid").await;
    let page = |items: Json, next: &str| json!({"metadata": {"resourceVersion": "7", "continue": next}, "items": items});
    let call = scene.api.expect("GET", &["/api/v1/configmaps?", "limit=500"]).await;
    assert!(!call.target.contains("watch=true"));
    call.reply(200, &page(json!([map("one", 3)]), "more")).await;
    assert!(scene.changes.try_recv().is_err(), "half a list is no list");
    scene
        .api
        .expect("GET", &["limit=500", "continue=more"])
        .await
        .reply(200, &page(json!([map("two", 4)]), ""))
        .await;
    scene.says("listed one two").await;
    scene.api.expect("GET", &["watch=true", "resourceVersion=7"]).await.stream().await.end().await;
}

#[tokio::test]
async fn a_page_that_expired_begins_the_list_anew() {
    let mut scene = scene(Kind::ConfigMap).await;
    scene.api.expect("GET", &["sendInitialEvents=true"]).await.refuse(400, "BadRequest").await;
    let first = json!({"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [map("one", 3)]});
    scene.api.expect("GET", &["limit=500"]).await.reply(200, &first).await;
    scene.api.expect("GET", &["continue=more"]).await.refuse(410, "Expired").await;
    let call = scene.api.expect("GET", &["limit=500"]).await;
    assert!(!call.target.contains("continue"));
    call.reply(200, &json!({"metadata": {"resourceVersion": "8"}, "items": null})).await;
    scene.says("listed ").await;
}

#[tokio::test]
async fn classes_that_may_not_be_read_are_done_without_and_other_kinds_are_waited_for() {
    let mut scene = scene(Kind::IngressClass).await;
    scene.api.expect("GET", &["ingressclasses"]).await.refuse(403, "Forbidden").await;
    scene.says("classes hidden true").await;
    scene.says("listed ").await;
    scene.api.expect("GET", &["ingressclasses"]).await.refuse(403, "Forbidden").await;
    scene.api.expect("GET", &["ingressclasses"]).await;
    assert!(scene.changes.try_recv().is_err(), "said once");
    let mut scene = self::scene(Kind::Secret).await;
    scene.api.expect("GET", &["secrets"]).await.refuse(403, "Forbidden").await;
    scene.api.expect("GET", &["secrets"]).await;
    assert!(scene.changes.try_recv().is_err() && !scene.link.is_whole());
}

#[tokio::test]
async fn a_server_that_comes_back_has_its_watches_opened_anew() {
    let mut scene = scene(Kind::ConfigMap).await;
    let _dead = scene.begin().await;
    // The first event after the list shows that the watcher waits in its loop.
    scene.link.announce_return();
    scene.api.expect("GET", &["resourceVersion=5"]).await;
}

/// Less than the wait after many failures, which is 15 seconds at least, and far more than the first one.
const SOON_ENOUGH: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_server_that_comes_back_and_refuses_at_first_is_asked_again_soon() {
    let mut scene = scene_after(Kind::ConfigMap, 12).await;
    drop(scene.api.call().await);
    scene.link.announce_return();
    // As an API server does until its caches are filled.
    scene.api.expect("GET", &["sendInitialEvents"]).await.refuse(429, "TooManyRequests").await;
    let again = timeout(SOON_ENOUGH, scene.api.call()).await;
    assert!(again.is_ok(), "the waits of the outage go on");
}

#[tokio::test]
async fn the_first_answer_after_an_outage_ends_its_waits_though_nobody_announced_a_return() {
    let mut scene = scene_after(Kind::ConfigMap, 0).await;
    drop(scene.begin().await);
    drop(scene.api.expect("GET", &["resourceVersion=5"]).await);
    for _ in 0..4 {
        drop(scene.api.call().await);
    }
    scene.api.call().await.refuse(410, "Expired").await;
    let again = timeout(Duration::from_secs(3), scene.api.call()).await;
    assert!(again.is_ok(), "the waits of the outage go on");
}

#[tokio::test]
async fn a_feed_that_is_asked_again_is_listed_though_its_watch_goes_on() {
    let mut scene = scene(Kind::ConfigMap).await;
    let _open = scene.begin().await;
    scene.again.send_modify(|count| *count += 1);
    let mut stream = scene.api.expect("GET", &["sendInitialEvents=true"]).await.stream().await;
    stream.event("BOOKMARK", mark(6, true)).await;
    scene.says("listed ").await;
    // Once: the next break resumes.
    stream.end().await;
    scene.api.expect("GET", &["resourceVersion=6"]).await;
}

#[tokio::test]
async fn a_feed_that_is_asked_again_while_nobody_answers_is_listed_when_somebody_does() {
    let mut scene = scene_after(Kind::ConfigMap, 12).await;
    drop(scene.api.call().await);
    scene.again.send_modify(|count| *count += 1);
    let again = timeout(SOON_ENOUGH, scene.begin()).await;
    assert!(again.is_ok(), "it waits as if nobody had asked");
}
