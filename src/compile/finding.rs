//! How this module writes diagnostics about Ingresses.

use std::sync::Arc;

use super::object::Contribution;
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{Kind, Meta, ObjectKey, ObjectRef, Origin};

/// A finding before it is tied to an object.
#[derive(Debug, Clone)]
pub(super) struct Finding<'f> {
    pub(super) severity: Severity,
    pub(super) code: &'static str,
    pub(super) field: &'f str,
    pub(super) value: &'f str,
    pub(super) reason: String,
    pub(super) hint: &'f str,
}

impl Finding<'_> {
    pub(super) fn about(self, contribution: &Contribution) -> Diagnostic {
        self.about_object(&contribution.key, &contribution.origin)
    }

    pub(super) fn about_ingress(self, meta: &Meta) -> Diagnostic {
        self.about_object(&meta.key, &meta.origin)
    }

    fn about_object(self, key: &ObjectKey, origin: &Arc<Origin>) -> Diagnostic {
        Diagnostic {
            object: ObjectRef { kind: Kind::Ingress, key: key.clone() },
            code: self.code,
            severity: self.severity,
            field: self.field.to_owned(),
            value: self.value.chars().take(200).collect(),
            reason: self.reason,
            hint: self.hint.to_owned(),
            origin: Arc::clone(origin),
        }
    }
}

/// How a finding for `reader` may name the Ingress `other`: by name within a namespace, else not at all (`B-13`).
pub(super) fn name_for(reader: &ObjectKey, other: &ObjectKey) -> String {
    if reader.namespace == other.namespace {
        format!("Ingress {other}")
    } else {
        "an Ingress of another namespace".to_owned()
    }
}
