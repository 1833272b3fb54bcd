//! Findings as Events on the Ingress that they are about, for `kubectl describe`. Written by the leader, each once: the
//! name of an Event is made of what it says, so that neither a restart nor a new leader says it again.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use serde_json::{Value as Json, json};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::api;
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::Kind;

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
}

/// Findings that were told, and when.
#[derive(Debug, Default)]
struct Told(BTreeMap<u64, Instant>);

// === impl Reporter ===

impl Reporter {
    pub(super) fn new(client: Client) -> Self {
        Self { client, shared: Arc::default() }
    }

    /// These are the findings now.
    pub(super) fn tell(&self, findings: &Arc<[Diagnostic]>) {
        *self.shared.findings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(findings);
        self.shared.changed.notify_one();
    }

    /// Writes while `leads` says so, until told to `leave`.
    pub(super) async fn run(self, mut leads: watch::Receiver<bool>, mut leave: watch::Receiver<bool>) {
        let mut told = Told::default();
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*leave.borrow() {
            if *leads.borrow_and_update() {
                self.write(&mut told, &mut pace, &leads).await;
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
            let id = identify(finding);
            if !told.is_new(id, Instant::now()) {
                continue;
            }
            pace.tick().await;
            if !*leads.borrow() {
                return;
            }
            if let Err(error) = self.post(finding, id).await
                // 409: told before, by an earlier leader. 404: its namespace is gone.
                && !matches!(error.code(), Some(409 | 404))
            {
                tracing::warn!(object = %finding.object, error = %error, "an Event cannot be written");
            }
        }
    }

    async fn post(&self, finding: &Diagnostic, id: u64) -> Result<(), api::ApiError> {
        let (namespace, name) = (&*finding.object.key.namespace, &*finding.object.key.name);
        let ingress = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{name}");
        let uid =
            api::get(&self.client, &ingress).await?.pointer("/metadata/uid").cloned().unwrap_or_default();
        let body = event(finding, id, &uid, &Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
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

/// Ingresses only: findings about them are what their owners can act upon.
fn is_event(finding: &Diagnostic) -> bool {
    finding.object.kind == Kind::Ingress && finding.severity != Severity::Info
}

/// A number that is the same for the same finding, in every process of this version.
fn identify(finding: &Diagnostic) -> u64 {
    let mut hash = DefaultHasher::new();
    (finding.code, &finding.field, &finding.value, &finding.reason).hash(&mut hash);
    (&finding.object.key.namespace, &finding.object.key.name).hash(&mut hash);
    hash.finish()
}

fn event(finding: &Diagnostic, id: u64, uid: &Json, time: &str) -> Json {
    let (namespace, name) = (&*finding.object.key.namespace, &*finding.object.key.name);
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{}.{id:016x}", shortened(name, 230)), "namespace": namespace},
        "involvedObject": {
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "namespace": namespace, "name": name, "uid": uid,
        },
        "reason": finding.code, "message": message(finding), "type": "Warning",
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
    use crate::model::{ObjectKey, ObjectRef, Origin};

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
        let name = |finding: &Diagnostic| {
            event(finding, identify(finding), &json!("u"), "t")["metadata"]["name"].clone()
        };
        assert_eq!(name(&finding("a")), name(&finding("a")));
        assert_ne!(name(&finding("a")), name(&finding("b")));
    }

    #[test]
    fn an_event_says_field_value_reason_and_hint_of_what_it_is_about() {
        let body = event(&finding("taken by team/old"), 1, &json!("u-1"), "t");
        assert_eq!(body["message"], r#"spec.rules[0]="/a": taken by team/old (remove one)"#);
        assert_eq!(
            (&body["reason"], &body["involvedObject"]["uid"]),
            (&json!("PathConflict"), &json!("u-1"))
        );
        assert_eq!(message(&finding(&"ä".repeat(2000))).len(), LONGEST_MESSAGE);
    }

    #[test]
    fn only_what_owners_can_act_upon_is_an_event() {
        assert!(is_event(&finding("a")));
        assert!(!is_event(&Diagnostic { severity: Severity::Info, ..finding("a") }));
        let object = ObjectRef { kind: Kind::Secret, key: ObjectKey::new("team", "s") };
        assert!(!is_event(&Diagnostic { object, ..finding("a") }));
    }
}
