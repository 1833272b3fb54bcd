//! Findings as Events on the Ingress or ConfigMap that they are about, for `kubectl describe`. Written by the leader, each once: the
//! name of an Event is made of what it says, so that neither a restart nor a new leader says it again.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use serde_json::{Value as Json, json};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::api;
use crate::diagnostic::{Diagnostic, Severity};
use crate::manifest::{Decoded, Object};
use crate::model::{Ingress, Kind, ObjectKey, ObjectRef};

/// One Event in so much time.
const PACE: Duration = Duration::from_millis(200);
/// API servers keep Events for an hour; a finding that is still there then is told again.
const LIFE: Duration = Duration::from_secs(3300);
/// Most findings that are remembered.
const MOST: usize = 10_000;
/// Longest message that an API server takes.
const LONGEST_MESSAGE: usize = 1024;
/// `source.component`, as users of ingress-nginx know it.
const COMPONENT: &str = "nginx-ingress-controller";

/// Takes findings and writes Events. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reporter {
    client: Client,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    findings: Mutex<Arc<[Diagnostic]>>,
    changed: Notify,
    /// The uids of what Events may be about: `kubectl describe` shows those of the very object.
    uids: Mutex<BTreeMap<ObjectRef, Arc<str>>>,
    /// `None` when nobody wants to hear of changes.
    synced: Option<Mutex<Synced>>,
}

/// Ingresses as they were seen last, and which of them changed since that was told.
#[derive(Debug, Default)]
struct Synced {
    /// What an Ingress says, as a number.
    seen: BTreeMap<ObjectKey, u64>,
    /// Those to tell of, with their uid.
    news: BTreeMap<ObjectKey, (u64, Arc<str>)>,
    served: Arc<BTreeSet<ObjectKey>>,
}

/// Findings that were told, and when.
#[derive(Debug, Default)]
struct Told(BTreeMap<u64, Instant>);

// === impl Reporter ===

impl Reporter {
    /// `sync`: whether each change of an Ingress is told, as ingress-nginx does.
    pub(super) fn new(client: Client, sync: bool) -> Self {
        let shared = Shared { synced: sync.then(Mutex::default), ..Shared::default() };
        Self { client, shared: Arc::new(shared) }
    }

    /// These are the findings, and the Ingresses that are ours, now.
    pub(super) fn tell(&self, findings: &Arc<[Diagnostic]>, served: &Arc<BTreeSet<ObjectKey>>) {
        self.with_synced(|synced| synced.served = Arc::clone(served));
        *self.shared.findings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(findings);
        self.shared.changed.notify_one();
    }

    /// An object that was there when we came: no news.
    pub(super) fn listed(&self, decoded: &Decoded) {
        self.note(decoded);
        let Some(Object::Ingress(ingress)) = &decoded.object else { return };
        self.with_synced(|synced| synced.seen.insert(ingress.meta.key.clone(), words(ingress)));
    }

    /// An object that is new or another.
    pub(super) fn changed(&self, decoded: &Decoded) {
        self.note(decoded);
        let Some(Object::Ingress(ingress)) = &decoded.object else { return };
        self.with_synced(|synced| synced.change(ingress));
    }

    /// An object is gone.
    pub(super) fn forget(&self, reference: &ObjectRef) {
        self.uids().remove(reference);
        if reference.kind == Kind::Ingress {
            self.with_synced(|synced| {
                synced.seen.remove(&reference.key);
                synced.news.remove(&reference.key);
            });
        }
    }

    fn note(&self, decoded: &Decoded) {
        let Some(object) = decoded.object.as_ref().filter(|object| has_events(object.kind())) else { return };
        let reference = ObjectRef { kind: object.kind(), key: object.meta().key.clone() };
        self.uids().insert(reference, Arc::clone(&object.meta().uid));
    }

    fn uids(&self) -> MutexGuard<'_, BTreeMap<ObjectRef, Arc<str>>> {
        self.shared.uids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_synced<T>(&self, work: impl FnOnce(&mut Synced) -> T) -> Option<T> {
        let synced = self.shared.synced.as_ref()?;
        Some(work(&mut synced.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Tells of changes of Ingresses that are ours.
    async fn write_synced(&self, pace: &mut tokio::time::Interval, leads: &watch::Receiver<bool>) {
        let news = self.with_synced(Synced::take).unwrap_or_default();
        for (key, (id, uid)) in news {
            pace.tick().await;
            if !*leads.borrow() {
                return;
            }
            let object = ObjectRef { kind: Kind::Ingress, key };
            let body = event(&object, id, &json!(&*uid), &time(), &SYNC);
            let events = format!("/api/v1/namespaces/{}/events", object.key.namespace);
            if let Err(error) = api::post(&self.client, &events, &body).await
                && !matches!(error.code(), Some(409 | 404))
            {
                tracing::warn!(%object, %error, "an Event cannot be written");
            }
        }
    }

    /// Writes while `leads` says so, until told to `leave`.
    pub(super) async fn run(self, mut leads: watch::Receiver<bool>, mut leave: watch::Receiver<bool>) {
        let mut told = Told::default();
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*leave.borrow() {
            if *leads.borrow_and_update() {
                self.write(&mut told, &mut pace, &leads).await;
                self.write_synced(&mut pace, &leads).await;
            } else {
                // Somebody else tells these.
                self.with_synced(|synced| synced.news.clear());
            }
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = tokio::time::sleep(LIFE / 10) => {}
                _ = leads.changed() => {}
                _ = leave.changed() => {}
            }
        }
    }

    async fn write(&self, told: &mut Told, pace: &mut tokio::time::Interval, leads: &watch::Receiver<bool>) {
        let findings = Arc::clone(&self.shared.findings.lock().unwrap_or_else(PoisonError::into_inner));
        for finding in findings.iter().filter(|finding| is_event(finding)) {
            let uid = self.uids().get(&finding.object).cloned().unwrap_or_default();
            let id = identify(finding, &uid);
            if !told.is_new(id, Instant::now()) {
                continue;
            }
            pace.tick().await;
            if !*leads.borrow() {
                return;
            }
            if let Err(error) = self.post(finding, &uid, id).await
                // 409: told before, by an earlier leader. 404: its namespace is gone.
                && !matches!(error.code(), Some(409 | 404))
            {
                tracing::warn!(object = %finding.object, error = %error, "an Event cannot be written");
            }
        }
    }

    async fn post(&self, finding: &Diagnostic, uid: &str, id: u64) -> Result<(), api::ApiError> {
        let (namespace, name) = (&*finding.object.key.namespace, &*finding.object.key.name);
        let uid = if finding.object.kind == Kind::Ingress {
            let ingress = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{name}");
            api::get(&self.client, &ingress).await?.pointer("/metadata/uid").cloned().unwrap_or_default()
        } else {
            json!(uid)
        };
        let what = What { kind: "Warning", reason: finding.code, message: &message(finding) };
        let body = event(&finding.object, id, &uid, &time(), &what);
        api::post(&self.client, &format!("/api/v1/namespaces/{namespace}/events"), &body).await.map(drop)
    }
}

impl Told {
    /// Notes a finding; false when it was told lately.
    fn is_new(&mut self, id: u64, now: Instant) -> bool {
        if self.0.get(&id).is_some_and(|at| now.saturating_duration_since(*at) < LIFE) {
            return false;
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(id, now);
        true
    }
}

/// What owners can act upon, and look at.
fn is_event(finding: &Diagnostic) -> bool {
    has_events(finding.object.kind) && finding.severity != Severity::Info
}

/// Objects that name what is wrong with others are Ingresses; what the administrator sets is a ConfigMap.
fn has_events(kind: Kind) -> bool {
    matches!(kind, Kind::Ingress | Kind::ConfigMap)
}

/// A number that is the same for the same finding about the same object, in every process of this version. An object that
/// was made anew is another.
fn identify(finding: &Diagnostic, uid: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    uid.hash(&mut hash);
    (finding.code, &finding.field, &finding.value, &finding.reason).hash(&mut hash);
    (&finding.object.key.namespace, &finding.object.key.name).hash(&mut hash);
    hash.finish()
}

/// What an Event says.
struct What<'w> {
    kind: &'static str,
    reason: &'static str,
    message: &'w str,
}

/// As ingress-nginx says it.
const SYNC: What<'static> = What { kind: "Normal", reason: "Sync", message: "Scheduled for sync" };

// === impl Synced ===

impl Synced {
    fn change(&mut self, ingress: &Ingress) {
        let words = words(ingress);
        if self.seen.insert(ingress.meta.key.clone(), words) != Some(words) && self.news.len() < MOST {
            self.news.insert(ingress.meta.key.clone(), (words, Arc::clone(&ingress.meta.uid)));
        }
    }

    /// News of Ingresses that are served; the rest waits until they are, or go.
    fn take(&mut self) -> BTreeMap<ObjectKey, (u64, Arc<str>)> {
        let served = Arc::clone(&self.served);
        let (ours, rest) =
            std::mem::take(&mut self.news).into_iter().partition(|(key, _)| served.contains(key));
        self.news = rest;
        ours
    }
}

/// What an Ingress says, as a number: its status is no part of that.
fn words(ingress: &Ingress) -> u64 {
    let mut hash = DefaultHasher::new();
    let meta = &ingress.meta;
    (&meta.uid, meta.generation, &meta.annotations).hash(&mut hash);
    hash.finish()
}

/// Now, as Events have it.
fn time() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn event(object: &ObjectRef, id: u64, uid: &Json, time: &str, what: &What<'_>) -> Json {
    let (namespace, name) = (&*object.key.namespace, &*object.key.name);
    let version = if object.kind == Kind::Ingress { "networking.k8s.io/v1" } else { "v1" };
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{}.{id:016x}", shortened(name, 230)), "namespace": namespace},
        "involvedObject": {
            "apiVersion": version, "kind": object.kind.as_str(), "namespace": namespace, "name": name, "uid": uid,
        },
        "reason": what.reason, "message": what.message, "type": what.kind,
        "source": {"component": COMPONENT},
        "firstTimestamp": time, "lastTimestamp": time, "count": 1,
    })
}

fn message(finding: &Diagnostic) -> String {
    let mut text = String::new();
    if !finding.field.is_empty() {
        text.push_str(&finding.field);
        if !finding.value.is_empty() {
            text.push_str(&format!("={:?}", finding.value));
        }
        text.push_str(": ");
    }
    text.push_str(&finding.reason);
    if !finding.hint.is_empty() {
        text.push_str(&format!(" ({})", finding.hint));
    }
    shortened(&text, LONGEST_MESSAGE).to_owned()
}

/// At most so many bytes.
fn shortened(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Meta, Origin};

    fn finding(reason: &str) -> Diagnostic {
        Diagnostic {
            object: ObjectRef { kind: Kind::Ingress, key: ObjectKey::new("team", "web") },
            code: "PathConflict",
            severity: Severity::Warning,
            field: "spec.rules[0]".into(),
            value: "/a".into(),
            reason: reason.into(),
            hint: "remove one".into(),
            origin: Arc::new(Origin::default()),
        }
    }

    #[test]
    fn a_finding_is_told_once_in_the_life_of_an_event() {
        let (start, mut told) = (Instant::now(), Told::default());
        assert!(told.is_new(7, start));
        assert!(!told.is_new(7, start + LIFE - Duration::from_secs(1)));
        assert!(told.is_new(8, start));
        assert!(told.is_new(7, start + LIFE));
        for id in 0..2 * MOST as u64 {
            told.is_new(id, start);
        }
        assert!(told.0.len() <= MOST);
    }

    #[test]
    fn the_same_finding_has_the_same_name_and_another_one_another() {
        let of = |finding: &Diagnostic, uid: &str| {
            let what = What { kind: "Warning", reason: finding.code, message: &message(finding) };
            event(&finding.object, identify(finding, uid), &json!(uid), "t", &what)["metadata"]["name"]
                .clone()
        };
        let name = |finding: &Diagnostic| of(finding, "u");
        assert_eq!(name(&finding("a")), name(&finding("a")));
        assert_ne!(name(&finding("a")), name(&finding("b")));
        assert_ne!(name(&finding("a")), of(&finding("a"), "v"), "the object was made anew");
    }

    #[test]
    fn an_event_says_field_value_reason_and_hint_of_what_it_is_about() {
        let finding = finding("taken by team/old");
        let what = What { kind: "Warning", reason: finding.code, message: &message(&finding) };
        let body = event(&finding.object, 1, &json!("u-1"), "t", &what);
        assert_eq!(body["message"], r#"spec.rules[0]="/a": taken by team/old (remove one)"#);
        assert_eq!(
            (&body["reason"], &body["involvedObject"]["uid"]),
            (&json!("PathConflict"), &json!("u-1"))
        );
        assert_eq!(message(&self::finding(&"ä".repeat(2000))).len(), LONGEST_MESSAGE);
    }

    #[test]
    fn a_change_of_what_an_ingress_says_is_news_once_it_is_served() {
        let ingress = |generation: i64, annotation: &str| {
            let mut meta = Meta::named(ObjectKey::new("team", "web"));
            meta.generation = generation;
            meta.annotations.insert("a".into(), annotation.into());
            Ingress { meta, class_name: None, default_backend: None, rules: Vec::new(), tls: Vec::new() }
        };
        let key = ObjectKey::new("team", "web");
        let mut synced = Synced::default();
        synced.seen.insert(key.clone(), words(&ingress(1, "x")));
        synced.change(&ingress(1, "x"));
        assert!(synced.news.is_empty(), "it was there when we came");
        synced.change(&ingress(1, "y"));
        assert!(synced.take().is_empty(), "it is not ours, or not yet");
        synced.served = Arc::new([key.clone()].into());
        assert_eq!(synced.take().into_keys().collect::<Vec<_>>(), vec![key]);
        synced.change(&ingress(1, "y"));
        assert!(synced.take().is_empty(), "told already");
        synced.change(&ingress(2, "y"));
        assert_eq!(synced.take().len(), 1);
    }

    #[test]
    fn only_what_owners_can_act_upon_is_an_event() {
        assert!(is_event(&finding("a")));
        assert!(!is_event(&Diagnostic { severity: Severity::Info, ..finding("a") }));
        let object = ObjectRef { kind: Kind::ConfigMap, key: ObjectKey::new("edge", "settings") };
        assert!(is_event(&Diagnostic { object: object.clone(), ..finding("a") }));
        let what = What { kind: "Warning", reason: "R", message: "m" };
        let about = event(&object, 1, &json!("u-1"), "t", &what)["involvedObject"].clone();
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "edge", "name": "settings", "uid": "u-1"});
        assert_eq!(about, expected);
        let object = ObjectRef { kind: Kind::Secret, key: ObjectKey::new("team", "s") };
        assert!(!is_event(&Diagnostic { object, ..finding("a") }));
    }
}
