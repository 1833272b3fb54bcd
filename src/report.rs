//! JSON forms of what people and tools ask for: findings and explanations. One shape for `check`, `explain` and the
//! admin API.

use serde_json::{Value, json};

use crate::diagnostic::Diagnostic;
use crate::route::explain::{Candidate, Explanation, Outcome};

/// One finding. `file` and `line` are null where they are not known.
pub fn diagnostic(found: &Diagnostic) -> Value {
    json!({
        "file": found.origin.file.as_deref(),
        "line": found.line(),
        "severity": found.severity.as_str(),
        "code": found.code,
        "object": {
            "kind": found.object.kind.as_str(),
            "namespace": &*found.object.key.namespace,
            "name": &*found.object.key.name,
        },
        "field": found.field,
        "value": found.value,
        "reason": found.reason,
        "hint": found.hint,
    })
}

/// Why a request goes where it goes. `text` is the form for people.
pub fn explanation(explained: &Explanation) -> Value {
    let outcome = match &explained.outcome {
        Outcome::Reply { status, location } => {
            json!({ "kind": "reply", "status": status, "location": location })
        }
        Outcome::Forward { backend, canary, target, endpoints, split } => json!({
            "kind": "forward", "backend": backend, "canary": canary, "target": target, "endpoints": endpoints,
            "split": split.as_ref().map(|split| json!({
                "backend": split.backend, "weight": split.weight, "total": split.total,
                "endpoints": split.endpoints,
            })),
        }),
    };
    let steps: Vec<Value> =
        explained.steps.iter().map(|step| json!({ "what": step.what, "outcome": step.outcome })).collect();
    json!({
        "outcome": outcome,
        "server": explained.server,
        "regexMode": explained.regex_mode,
        "path": explained.path,
        "servers": explained.servers.iter().map(candidate).collect::<Vec<_>>(),
        "locations": explained.locations.iter().map(candidate).collect::<Vec<_>>(),
        "steps": steps,
        "text": explained.to_text(),
    })
}

fn candidate(candidate: &Candidate) -> Value {
    json!({
        "name": candidate.name,
        "owner": candidate.owner,
        "won": candidate.won,
        "because": candidate.because,
    })
}
