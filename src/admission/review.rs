//! AdmissionReview (admission.k8s.io/v1) as JSON, in and out. Pure.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::verdict::Verdict;
use crate::diagnostic::{Diagnostic, Severity};
use crate::manifest::{self, Object};
use crate::model::{Ingress, Kind, ObjectKey, ObjectRef};

/// Where reviews are sent.
pub const PATH: &str = "/networking/v1/ingresses";

/// A question.
#[derive(Debug)]
pub struct Review {
    /// To be repeated in the answer.
    pub uid: String,
    /// What it is about.
    pub subject: Subject,
}

/// What a review is about.
#[derive(Debug)]
pub enum Subject {
    /// An Ingress that is to be stored, and findings of reading it.
    Ingress(Arc<Ingress>, Vec<Diagnostic>),
    /// An Ingress that cannot be read.
    Unreadable(String),
    /// Nothing of ours to judge: an object about to go, or of another kind.
    Nothing,
}

#[derive(Deserialize)]
struct Envelope {
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    kind: Json,
    #[serde(default)]
    object: Json,
}

/// Reads a review.
///
/// # Errors
/// A sentence when it is none.
pub fn read(body: &[u8]) -> Result<Review, String> {
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|error| format!("not an AdmissionReview: {error}"))?;
    let request = envelope.request.ok_or("not an AdmissionReview: it has no request")?;
    let kind = request.kind.get("kind").and_then(Json::as_str).unwrap_or("Ingress");
    let meta = request.object.get("metadata");
    let ending = meta.is_some_and(|meta| meta.get("deletionTimestamp").is_some_and(|at| !at.is_null()));
    let stores = matches!(request.operation.as_str(), "CREATE" | "UPDATE" | "");
    let subject = if kind == "Ingress" && stores && !ending && request.object.is_object() {
        subject(&request)
    } else {
        Subject::Nothing
    };
    Ok(Review { uid: request.uid, subject })
}

fn subject(request: &Request) -> Subject {
    let text = |name: &str| {
        request.object.pointer(&format!("/metadata/{name}")).and_then(Json::as_str).unwrap_or_default()
    };
    let namespace = if text("namespace").is_empty() { request.namespace.as_str() } else { text("namespace") };
    let name = match text("name") {
        "" => yet_to_be_made(text("generateName")),
        name => name.to_owned(),
    };
    let reference = ObjectRef { kind: Kind::Ingress, key: ObjectKey::new(namespace, name.as_str()) };
    let mut object = request.object.clone();
    if let Some(meta) = object.get_mut("metadata").and_then(Json::as_object_mut) {
        meta.remove("managedFields");
        meta.insert("namespace".into(), namespace.into());
        if !name.is_empty() {
            meta.insert("name".into(), name.into());
        }
    }
    let decoded = manifest::decode(&reference, &object);
    match decoded.object {
        Some(Object::Ingress(ingress)) => Subject::Ingress(ingress, decoded.diagnostics),
        _ => {
            let worst = decoded.diagnostics.iter().find(|found| found.severity == Severity::Error);
            Subject::Unreadable(worst.map_or_else(
                || "the Ingress cannot be read".to_owned(),
                |found| format!("{}: {}", found.field, found.reason),
            ))
        }
    }
}

/// A name in place of the one that the API server is yet to make, and none that it could make: it uses no zeros.
fn yet_to_be_made(prefix: &str) -> String {
    const MOST: usize = 58;
    match prefix {
        "" => String::new(),
        prefix => format!("{}00000", prefix.get(..prefix.floor_char_boundary(MOST)).unwrap_or(prefix)),
    }
}

/// The answer to a review.
pub fn answer(uid: &str, verdict: &Verdict) -> Vec<u8> {
    let (Verdict::Allow { warnings } | Verdict::Refuse { warnings, .. }) = verdict;
    let mut response = json!({"uid": uid, "allowed": matches!(verdict, Verdict::Allow { .. })});
    if let Verdict::Refuse { message, .. } = verdict {
        response["status"] =
            json!({"status": "Failure", "code": 400, "reason": "BadRequest", "message": message});
    }
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(object: &Json, operation: &str) -> Review {
        let request = json!({"uid": "u-1", "operation": operation, "namespace": "team", "kind": {"kind": "Ingress"},
            "object": object});
        read(json!({"request": request}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_is_about_to_go_or_is_no_ingress_is_not_looked_at() {
        let meta = json!({"name": "a", "namespace": "team"});
        assert!(matches!(
            review(&json!({"metadata": meta, "spec": {}}), "CREATE").subject,
            Subject::Ingress(..)
        ));
        assert!(matches!(review(&json!({"metadata": meta}), "DELETE").subject, Subject::Nothing));
        let going = json!({"metadata": {"name": "a", "deletionTimestamp": "2024-01-01T00:00:00Z"}});
        assert!(matches!(review(&going, "UPDATE").subject, Subject::Nothing));
        assert!(matches!(review(&Json::Null, "CREATE").subject, Subject::Nothing));
    }

    #[test]
    fn an_ingress_whose_name_is_yet_to_be_made_is_read_like_any_other() {
        let Subject::Ingress(ingress, _) =
            review(&json!({"metadata": {"generateName": "a-"}, "spec": {}}), "CREATE").subject
        else {
            panic!("it is not read");
        };
        assert_eq!(ingress.meta.key, ObjectKey::new("team", "a-00000"));
        assert!(matches!(review(&json!({"metadata": {}}), "CREATE").subject, Subject::Unreadable(_)));
    }

    #[test]
    fn what_is_no_review_is_said_to_be_none() {
        for body in ["", "{", "7", "{}", r#"{"request": 7}"#, r#"{"request": null}"#] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.starts_with("not an AdmissionReview"), "{body}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(deep.as_bytes()).is_err(), "depth is bounded");
    }

    #[test]
    fn an_answer_repeats_the_uid_and_has_the_form_of_a_bad_request() {
        let text = |verdict: Verdict| -> Json { serde_json::from_slice(&answer("u-1", &verdict)).unwrap() };
        let refused = text(Verdict::Refuse { message: "no".into(), warnings: vec!["w".into()] });
        assert_eq!(refused["response"]["uid"], "u-1");
        assert_eq!(refused["response"]["status"]["code"], 400);
        assert_eq!(refused["response"]["status"]["reason"], "BadRequest");
        assert_eq!(refused["response"]["status"]["message"], "no");
        assert_eq!(refused["response"]["warnings"], json!(["w"]));
        let allowed = text(Verdict::Allow { warnings: Vec::new() });
        assert_eq!(allowed["response"], json!({"uid": "u-1", "allowed": true}));
    }
}
